"""Values and expressions for the differential fuzz: small domains, so that values meet.

The two sides are two releases of SQLite's engine, which print floats of more than 15 digits differently. So floats are
short binary fractions, large ints keep to columns of their own (``big...``) that no arithmetic uses, and what is
assigned is reduced by ``%``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import attrs

INTS = (-3, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 100)
BIG = (2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**62, 2**53)
FLOATS = (0.0, 0.5, -1.5, 1.0, 2.0, 2.25, 3.75, 10.0, 1e10, -0.25)
TEXTS = (
    "",
    "a",
    "A",
    "b",
    "B",
    "ab",
    "aB",
    "Ab",
    "abc",
    "b ",
    "x%",
    "x_",
    "10",
    "1.5",
    " 7",
    "1e2",
    "é",
    "É",
    "n\0m",
    "7",
)
BLOBS = (b"", b"a", b"A", b"10", b"abc", b"\x00")
# No text functions over these: what they give is no text, and Python cannot show it.
NO_TEXTS = (b"\x00\xff", b"\xff", b"\xff\xff\x00", b"\x00\x01", *BLOBS)


@attrs.frozen
class Column:
    """A column as expressions see it."""

    name: str
    declared: str
    collation: str = "BINARY"
    nullable: bool = True
    default: str | None = None
    generated: bool = False

    @property
    def affinity(self) -> str:
        """By SQLite's rules on the declared type."""
        declared = self.declared.upper()
        for words, affinity in (
            (("INT",), "INTEGER"),
            (("CHAR", "CLOB", "TEXT"), "TEXT"),
            (("BLOB",), "BLOB"),
            (("REAL", "FLOA", "DOUB"), "REAL"),
        ):
            if any(word in declared for word in words):
                return affinity
        return "NUMERIC" if declared else "BLOB"

    @property
    def big(self) -> bool:
        """Whether it may hold ints that overflow in arithmetic."""
        return self.name.startswith("big")


def quoted(name: str) -> str:
    """A name, quoted only where it must be, as people write it."""
    return name if name.isascii() and name.isidentifier() and name.lower() != "order" else f'"{name}"'


def literal(value: Any) -> str:
    """A value as SQL text."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, str):
        return "'" + value.replace("\0", "").replace("'", "''") + "'"
    return repr(value)


@attrs.frozen
class Source:
    """Columns that an expression may use, by the name they are reached with."""

    columns: tuple[tuple[str, Column], ...]

    @classmethod
    def of(cls, columns: Sequence[Column], alias: str | None = None) -> Source:
        """The columns of one table, under its alias if it has one."""
        prefix = f"{alias}." if alias else ""
        return cls(tuple((prefix + quoted(column.name), column) for column in columns))

    def __add__(self, other: Source) -> Source:
        return Source(self.columns + other.columns)

    def names(self) -> list[str]:
        """All names."""
        return [name for name, _ in self.columns]


class Values:
    """A source of values for columns."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def any(self) -> Any:
        """A value of any sort."""
        return self.rng.choice(self.rng.choice(((None,), INTS, INTS, FLOATS, TEXTS, TEXTS, BLOBS)))

    def of(self, column: Column, nulls: float = 0.12, strays: float = 0.08) -> Any:
        """Mostly a value of the column's own sort, sometimes any other."""
        rng = self.rng
        if rng.random() < (nulls if column.nullable else nulls / 4):
            return None
        if column.big and rng.random() < 0.6:
            return rng.choice(BIG)
        if rng.random() < strays:
            return self.any()
        if column.affinity == "TEXT":
            return rng.choice(TEXTS)
        if column.affinity == "REAL":
            return rng.choice(FLOATS)
        if column.affinity == "BLOB" and column.declared:
            return rng.choice(NO_TEXTS)
        if column.affinity == "NUMERIC":
            return rng.choice(rng.choice((INTS, FLOATS, ("10", "1.5", "1e2", " 7"))))
        if column.affinity == "INTEGER":
            return rng.choice(INTS)
        return self.any()


class Expressions:
    """Expressions over a source; values go in as parameters, or as literals where ``parameters`` is None.

    ``like=False`` is for indexes and generated columns: told to be case-sensitive, SQLite takes no LIKE there.
    """

    def __init__(self, rng: random.Random, source: Source, parameters: list[Any] | None, *, like: bool = True) -> None:
        self.rng, self.source, self.parameters, self.like = rng, source, parameters, like
        self.values = Values(rng)

    def value(self, value: Any) -> str:
        """A value in the text: a parameter, or the literal."""
        if self.parameters is None or self.rng.random() < 0.4:
            return literal(value)
        self.parameters.append(value)
        return "?"

    def column(self, *affinities: str) -> tuple[str, Column]:
        """A column, of one of these affinities where there is one."""
        found = [pair for pair in self.source.columns if pair[1].affinity in affinities]
        return self.rng.choice(found or self.source.columns)

    def text_column(self) -> str | None:
        """A column of text, if there is one."""
        found = [name for name, column in self.source.columns if column.affinity == "TEXT"]
        return self.rng.choice(found) if found else None

    def assigned(self, target: Column) -> str:
        """An expression to store in a column: bounded numbers, and texts that stay texts."""
        rng = self.rng
        if rng.random() < 0.4:
            return self.value(self.values.of(target))
        same = [
            name
            for name, column in self.source.columns
            if column.declared == target.declared and (target.big or not column.big)
        ]
        if same and rng.random() < 0.4:
            return rng.choice(same)
        if target.affinity in ("INTEGER", "REAL", "NUMERIC"):
            return f"{self.number(2)} % 41"
        return self.text(2) if target.affinity == "TEXT" else self.value(self.values.of(target))

    def any(self, depth: int = 2) -> str:
        """An expression of any sort."""
        choice = self.rng.random()
        if choice < 0.5:
            return self.column()[0]
        if choice < 0.7:
            return self.number(depth)
        if choice < 0.85:
            return self.text(depth)
        if choice < 0.92:
            return f"({self.condition(depth - 1)})"
        return self.value(self.values.any())

    def plain(self) -> str:
        """An expression of any sort without comparisons."""
        rng = self.rng
        name, column = self.column()
        form = rng.randrange(8)
        if form == 0 and column.affinity in ("INTEGER", "NUMERIC") and not column.big:
            return f"({name} + {self.value(rng.choice(INTS))})"
        if form == 1:
            return f"coalesce({name}, {self.value(self.values.of(column))})"
        if form == 2:
            return f"typeof({name})"
        if form == 3 and (text := self.text_column()):
            return f"{rng.choice(('upper', 'lower', 'length', 'hex'))}({text})"
        if form == 4:
            return self.value(self.values.any())
        return name

    def number(self, depth: int = 2) -> str:
        """A number, mostly."""
        rng = self.rng
        if depth <= 0 or rng.random() < 0.35:
            name, column = self.column("INTEGER", "REAL", "NUMERIC")
            if rng.random() < 0.75:
                return f"({name} % 89)" if column.big else name
            return self.value(rng.choice(INTS))
        form = rng.randrange(9)
        if form <= 3:
            return f"({self.number(depth - 1)} {rng.choice('+-*')} {self.number(depth - 1)})"
        if form == 4:
            return f"({self.number(depth - 1)} / {rng.choice((1, 2, 4))})"
        if form == 5:
            return f"length({self.text(depth - 1)})"
        if form == 6:
            return f"coalesce({self.number(depth - 1)}, {rng.choice(INTS)})"
        if form == 7:
            return f"abs({self.number(depth - 1)} % 50)"
        return f"CASE WHEN {self.condition(depth - 1)} THEN {self.number(depth - 1)} ELSE {self.number(depth - 1)} END"

    def text(self, depth: int = 2) -> str:
        """A text, mostly; never one of an arithmetic result."""
        rng = self.rng
        if depth <= 0 or rng.random() < 0.4:
            if rng.random() < 0.75 and (name := self.text_column()):
                return name
            return self.value(rng.choice(TEXTS))
        form = rng.randrange(8)
        if form == 0:
            # A blob that is no UTF-8 cannot be text: hex it.
            return f"(hex({self.text(depth - 1)}) || {self.value(rng.choice(('-', 'a')))})"
        if form == 1:
            return f"{rng.choice(('lower', 'upper', 'trim', 'typeof', 'hex'))}({self.text(depth - 1)})"
        if form == 2:
            return f"substr({self.text(depth - 1)}, {rng.choice((1, 2, -1))}, {rng.choice((1, 2))})"
        if form == 3:
            return f"coalesce({self.text(depth - 1)}, {literal(rng.choice(TEXTS))})"
        if form == 4:
            return f"nullif({self.text(depth - 1)}, {self.value(rng.choice(TEXTS))})"
        if form == 5:
            return f"typeof({self.column()[0]})"
        if form == 6:
            return f"iif({self.condition(depth - 1)}, {self.text(depth - 1)}, {self.text(depth - 1)})"
        return f"replace({self.text(depth - 1)}, 'a', 'z')"

    def condition(self, depth: int = 2) -> str:
        """A condition: NULL logic, all comparisons, and the shapes that use indexes."""
        rng = self.rng
        if depth > 0 and rng.random() < 0.35:
            form = rng.randrange(5)
            if form < 2:
                return f"({self.condition(depth - 1)} AND {self.condition(depth - 1)})"
            if form < 4:
                return f"({self.condition(depth - 1)} OR {self.condition(depth - 1)})"
            return f"(NOT {self.condition(depth - 1)})"
        name, column = self.column()

        def value() -> str:
            return self.value(self.values.of(column))

        form = rng.randrange(15)
        if form <= 3:
            return f"{name} {rng.choice(('=', '=', '=', '==', '<>', '!='))} {value()}"
        if form <= 5:
            return f"{name} {rng.choice(('<', '<=', '>', '>='))} {value()}"
        if form == 6:
            return f"{name} {rng.choice(('', 'NOT '))}BETWEEN {value()} AND {value()}"
        if form == 7:
            members = ", ".join(value() for _ in range(rng.randrange(1, 5)))
            return f"{name} {rng.choice(('', '', 'NOT '))}IN ({members})"
        if form == 8:
            return f"{name} IS {rng.choice(('', 'NOT '))}NULL"
        if form == 9:
            return f"{name} IS {rng.choice(('', 'NOT '))}{value()}"
        if form == 10 and not self.like:
            return f"{name} IS NOT NULL"
        if form == 10:
            pattern = rng.choice(("a%", "A%", "%b", "_b%", "ab", "%", "x/%", "b_", "n%"))
            escape = " ESCAPE '/'" if rng.random() < 0.3 else ""
            return f"{self.text(0)} {rng.choice(('', '', 'NOT '))}LIKE {self.value(pattern)}{escape}"
        if form == 11:
            return f"{name} {rng.choice(('=', '<', '>='))} {self.column(column.affinity)[0]}"
        if form == 12:
            return f"{self.number(depth - 1)} {rng.choice(('=', '<', '>'))} {self.number(depth - 1)}"
        if form == 13:
            return f"{self.text(depth - 1)} = {self.text(depth - 1)}"
        collation = rng.choice(("NOCASE", "BINARY", "RTRIM"))
        # (On the right, SQLite 3.40 forgets it where OR makes an IN of several.)
        return f"{self.text(0)} COLLATE {collation} = {self.value(rng.choice(TEXTS))}"
