"""Conditions as text: read by SQLite's grammar, and true, false or NULL where SQLite says so."""

from __future__ import annotations

import datetime as dt
import enum
import sqlite3
import uuid
from contextlib import closing
from decimal import Decimal
from itertools import product

import pytest

from kvdialect import exc
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, EnumKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimeKind
from kvdialect.schema.conditions import condition
from kvdialect.schema.expressions import compile_predicate


class State(enum.Enum):
    OPEN = 1
    CLOSED = 2


PRICED = {"p": DecimalKind(10, 2)}
KINDS = {"a": IntKind(), "b": IntKind(), "s": TextKind(), "f": FloatKind(), "x": BytesKind(), "on": BoolKind()}
ROWS = list(
    product((None, -3, 0, 5), (None, 0, 2), (None, "", "ab", "a_c"), (None, 0.5), (None, b"\0\xff"), (None, True))
)
TEXTS = [
    "a > 0",
    "a >= 0 AND b < 2 OR NOT (a = b)",
    "NOT a = 5 AND b IS NOT NULL",
    "a = b = 0",
    "a < b < 2",
    "a > b = 1",
    "a + b * 2 - -1 > 3",
    "(a + b) * 2 <> 4",
    "a / 2 = -1 OR a / 2 = 2",
    "a % 2 = 1",
    "f / 2 < 0.3",
    "a / 2.0 > 2.4",
    "a BETWEEN 0 AND 4 + 1",
    "a NOT BETWEEN -3 AND b AND b = 0",
    "a IN (5, b, -3)",
    "a NOT IN (0, 5)",
    "a IN (0, NULL)",
    "a IN ()",
    "a IS NULL OR b ISNULL",
    "a IS b",
    "a IS NOT b",
    "a IS DISTINCT FROM b",
    "a IS NOT DISTINCT FROM b",
    "a NOTNULL AND b NOT NULL",
    "a == 5 OR a != 0",
    "s = '' OR s > 'a'",
    "s LIKE 'a%' AND s NOT LIKE '%b'",
    r"s LIKE 'a\_%' ESCAPE '\'",
    "length(s) = 2 OR s || 'x' = 'x'",
    "upper(s) = 'AB' OR lower(s) = s",
    "coalesce(s, 'z') = 'z'",
    "ifnull(a, 0) = 0 AND nullif(a, 0) IS NULL",
    "substr(s, 1, 1) = 'a'",
    "abs(a) = 3",
    "CASE WHEN a > 0 THEN b = 2 WHEN a IS NULL THEN 1 ELSE 0 END",
    "CASE a WHEN 5 THEN 'five' WHEN 0 THEN 'none' END = 'five'",
    "x = x'00FF'",
    '"on" AND a',
    '"on" IN (0, 1)',
    "t.a > `b` OR [a] = 0x05",
    "TRUE AND a > 10 - 8 -- a comment",
    "/* both */ (a) > (b)",
    "+a = 5",
    "not not a",
    "a IS TRUE",
    "a IS NOT TRUE OR f IS FALSE",
    "a IS NOT FALSE AND a < 1",
    "length(s) / 2 = 1",
    "(f > 1) / 2 + a = 5",
    "CASE WHEN f > 0 THEN a ELSE b END / 2 = 2",
    "abs(a) / 2 = 1",
    "a > 1e0 AND a < 5.5",
]


@pytest.mark.parametrize("text", TEXTS)
def test_it_is_what_sqlite_makes_of_it(text):
    """A CHECK that accepts what SQLite would refuse, or the reverse: precedence, NULL, division, escapes."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA case_sensitive_like = ON")
        database.execute('CREATE TABLE t (a INT, b INT, s TEXT, f REAL, x BLOB, "on" BOOLEAN)')
        database.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", ROWS)
        results = database.execute(f"SELECT ({text}\n) IS TRUE FROM t ORDER BY rowid")  # noqa: S608 - a test's own
        wanted = [bool(result) for (result,) in results]
    found = compile_predicate(condition(text, "t", KINDS), list(KINDS), kinds=KINDS)

    assert [found(row, ()) for row in ROWS] == wanted
    assert len(set(wanted)) > 1 or text == "a IN ()", "it tells rows apart"


KIND_LITERALS = {
    "at >= '2024-02-29 12:00'": (
        {"at": DatetimeKind()},
        dt.datetime.fromisoformat("2024-03-01"),
        dt.datetime.fromisoformat("2024-02-01"),
    ),
    "day < '2024-03-01'": ({"day": DateKind()}, dt.date(2024, 2, 29), dt.date(2024, 3, 1)),
    "hour BETWEEN '08:00' AND '17:30'": ({"hour": TimeKind()}, dt.time(9), dt.time(18)),
    "id <> '00000000-0000-0000-0000-000000000000'": ({"id": UuidKind()}, uuid.uuid4(), uuid.UUID(int=0)),
    "state IN ('OPEN')": ({"state": EnumKind({m.name: m for m in State}, State)}, State.OPEN, State.CLOSED),
    "price >= 0.10": ({"price": DecimalKind(10, 2)}, Decimal("0.10"), Decimal("0.09")),
    "price * 2 < .3": ({"price": DecimalKind(10, 2)}, Decimal("0.14"), Decimal("0.15")),
    "weight <= 0.1": ({"weight": FloatKind()}, 0.1, 0.2),
}


@pytest.mark.parametrize("text", KIND_LITERALS)
def test_literals_are_of_the_type_of_their_column(text):
    """Text beside a date, a UUID or an Enum is a value of it; a number with a point is exact beside decimals."""
    kinds, holds, fails = KIND_LITERALS[text]
    found = compile_predicate(condition(text, "t", kinds), list(kinds), kinds=kinds)

    assert found((holds,), ())
    assert not found((fails,), ())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", exc.ProgrammingError),
        ("a >", exc.ProgrammingError),
        ("a > 0)", exc.ProgrammingError),
        ("(a > 0", exc.ProgrammingError),
        ("a, b", exc.ProgrammingError),
        ("a LIKE", exc.ProgrammingError),
        ("s LIKE 'a' ESCAPE 'xx'", exc.ProgrammingError),
        ("CASE ELSE 1 END", exc.ProgrammingError),
        ("a > ?", exc.ProgrammingError),
        ("x = x'0'", exc.ProgrammingError),
        ("'open", exc.ProgrammingError),
        ("c > 0", exc.ArgumentError),
        ("other.a > 0", exc.ArgumentError),
        ("length(s, s) > 0", exc.ArgumentError),
        ("s > 0", exc.DataError),
        ("a LIKE 'x'", exc.DataError),
        ("s GLOB 'a*'", exc.NotSupportedError),
        ("s COLLATE NOCASE = 'a'", exc.NotSupportedError),
        ("CAST(a AS TEXT) = '1'", exc.NotSupportedError),
        ("EXISTS (SELECT 1)", exc.NotSupportedError),
        ("a & 1", exc.NotSupportedError),
        ("random() > 0", exc.NotSupportedError),
        ("p % 2 = 0", exc.NotSupportedError),
        ("(" * 5000 + "a" + ")" * 5000, exc.NotSupportedError),
        ("NOT " * 5000 + "a", exc.NotSupportedError),
        ("- " * 5000 + "a > 0", exc.NotSupportedError),
    ],
)
def test_what_is_no_condition_is_refused(text, error):
    """By a typed error, however deep or odd the text is."""
    with pytest.raises(error):
        condition(text, "t", KINDS | PRICED)
