"""Comparisons of columns of two tables, of every affinity: with an index or without, they are SQLite's."""

from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa

import kvdialect
from kvdialect.dialect import dbapi

OPERATORS = ["<", "<=", ">", ">=", "=", "IS"]

COMPARED = [
    "TEXT",
    "TEXT COLLATE NOCASE",
    "TEXT COLLATE RTRIM",
    "TEXT PRIMARY KEY",
    "BLOB",
    "",
    "NUMERIC",
    "INTEGER",
    "REAL",
]
OTHERS = ["NUMERIC", "INTEGER", "REAL", "TEXT", "BLOB", "", "TEXT COLLATE NOCASE"]

STORED = [
    "", " ", " 7", "+3", "-1", ".5", "/", "10", "1e2", "2024-01-01", "5", "5 ", "7 ", "9z", ":", "A", "ABC", "abc", "x",
    "z", "é", 5, 10.5, -3, b"", b"5", b"x", None,
]  # fmt: skip
"""Texts on either side of what can be read as numbers, numbers, blobs and NULL."""

BOUNDS = [
    "", "  ", "-", "-1", "/", "1e2", "2024-01-01", "5", "9z", ":", "A", "ABC", "abc", "x", "é", 7, 5.5, -1, b"", b"5",
    None,
]  # fmt: skip


@pytest.fixture
def store(engine_name, tmp_path):
    url = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store?durability=none"
    with kvdialect.create_engine(url) as store:
        yield store


def queries(index: int) -> list[str]:
    """Comparisons with the column of one of the other tables: joined, in a subquery, bare, cast, and between two."""
    b = f"b{index}"
    found = []
    for operator in OPERATORS:
        found += [
            f"SELECT a.id, b.id FROM {b} b CROSS JOIN a WHERE a.t {operator} b.n",
            f"SELECT a.id, b.id FROM {b} b CROSS JOIN a WHERE b.n {operator} a.t",
            f"SELECT a.id, b.id FROM {b} b CROSS JOIN a WHERE a.t {operator} +b.n",
            f"SELECT a.id, b.id FROM {b} b CROSS JOIN a WHERE a.t {operator} CAST(b.n AS NUMERIC)",
            f"SELECT a.id, b.id FROM {b} b CROSS JOIN a WHERE a.t {operator} CAST(b.n AS TEXT)",
            f"SELECT b.id, (SELECT count(*) FROM a WHERE t {operator} n) FROM {b} b",
        ]
    for low, high in ((b, b), (b, "b3"), ("b3", b)):
        found.append(f"SELECT a.id, x.id, y.id FROM {low} x, {high} y CROSS JOIN a WHERE a.t >= x.n AND a.t < y.n")
    return found


def filled(connection, compared: str) -> None:
    """The table that is compared, and one for each of the others."""
    connection.execute(f"CREATE TABLE a (id INTEGER, t {compared})")
    connection.executemany("INSERT OR IGNORE INTO a VALUES (?, ?)", list(enumerate(STORED)))
    for index, other in enumerate(OTHERS):
        connection.execute(f"CREATE TABLE b{index} (id INTEGER, n {other})")
        connection.executemany(f"INSERT INTO b{index} VALUES (?, ?)", list(enumerate(BOUNDS)))
    connection.commit()


@pytest.fixture
def ours(store):
    connection = dbapi.connect(store=store)
    yield connection
    connection.close()


@pytest.fixture
def theirs():
    connection = sqlite3.connect(":memory:")
    yield connection
    connection.close()


@pytest.mark.parametrize("compared", COMPARED)
def test_an_index_changes_no_comparison(ours, theirs, compared):
    """Rows of every operator are the same on SQLite, on the bare table, and with an index in either direction."""
    for connection in (ours, theirs):
        filled(connection, compared)
    expected = {
        query: sorted(theirs.execute(query).fetchall()) for index in range(len(OTHERS)) for query in queries(index)
    }

    for index in (None, "(t)", "(t DESC)", "(t, id)"):
        if index is not None:
            ours.execute("DROP INDEX IF EXISTS by_t")
            ours.execute(f"CREATE INDEX by_t ON a {index}")
        for query, rows in expected.items():
            assert sorted(ours.execute(query).fetchall()) == rows, f"{query}, indexed: {index}"


@pytest.mark.parametrize("compared", ["TEXT", "BLOB", "TEXT COLLATE NOCASE"])
def test_rows_below_text_come_in_order(ours, theirs, compared):
    """An index over a range that was widened gives them sorted, and the first few are the first."""
    for connection in (ours, theirs):
        filled(connection, compared)
        connection.execute("CREATE INDEX by_t ON a (t, id)")
    for order in ("t, id", "t DESC, id DESC"):
        for limit in (-1, 3):
            first = f"SELECT id FROM a WHERE t < n ORDER BY {order} LIMIT {limit}"
            query = f"SELECT b.id, (SELECT group_concat(id) FROM ({first})) FROM b0 b ORDER BY b.id"
            assert ours.execute(query).fetchall() == theirs.execute(query).fetchall()


LITERALS = [
    "'5'", "'abc'", "''", "'2024-01-01'", "5", "-5", "1.5", "x'35'", "NULL", "CAST('abc' AS NUMERIC)",
    "CAST('5' AS TEXT)", "CAST(5 AS BLOB)", "CAST('' AS INTEGER)", "(SELECT n FROM b0 WHERE n = 'abc')",
]  # fmt: skip


@pytest.mark.parametrize("compared", ["TEXT", "BLOB", "NUMERIC", "TEXT PRIMARY KEY"])
def test_constants_and_parameters(ours, theirs, compared):
    """What stands in the statement, or is bound to it, has no affinity; what is cast has one."""
    for connection in (ours, theirs):
        filled(connection, compared)
        connection.execute("CREATE INDEX by_t ON a (t)")
    for operator in OPERATORS:
        for text in ("SELECT id FROM a WHERE t {} {}", "SELECT a.id FROM a LEFT JOIN b0 ON 0 WHERE t {} {}"):
            for literal in LITERALS:
                query = text.format(operator, literal)
                assert sorted(ours.execute(query).fetchall()) == sorted(theirs.execute(query).fetchall()), query
            query = text.format(operator, "?")
            for value in BOUNDS:
                expected = sorted(theirs.execute(query, (value,)).fetchall())
                assert sorted(ours.execute(query, (value,)).fetchall()) == expected, f"{query}, {value!r}"


def test_text_of_records_beside_numbers(store, ours, theirs):
    """The same for an index of a mapped record, in either direction."""
    models = kvdialect.registry()
    texts = [value for value in STORED if isinstance(value, str)]

    @kvdialect.mapped(models)
    class Note:
        __tablename__ = "a"
        id: kvdialect.Mapped[int] = kvdialect.field(primary_key=True)
        t: kvdialect.Mapped[str] = kvdialect.field(index=True)
        u: kvdialect.Mapped[str] = kvdialect.field()
        __table_args__ = (sa.Index("by_u", sa.desc("u")),)

    models.create_all(store)
    theirs.execute("CREATE TABLE a (id INTEGER, t TEXT, u TEXT)")
    for connection in (ours, theirs):
        connection.execute("CREATE TABLE b (id INTEGER, n NUMERIC)")
        connection.executemany("INSERT INTO a VALUES (?, ?, ?)", [(at, text, text) for at, text in enumerate(texts)])
        connection.executemany("INSERT INTO b VALUES (?, ?)", list(enumerate(BOUNDS)))
    for operator in OPERATORS:
        for column in ("t", "u"):
            query = f"SELECT a.id, b.id FROM b CROSS JOIN a WHERE a.{column} {operator} b.n"
            assert sorted(ours.execute(query).fetchall()) == sorted(theirs.execute(query).fetchall()), query
