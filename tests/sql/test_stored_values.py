"""What stands in keys of tables that SQL makes is what SQLite compares."""

from __future__ import annotations

import math
import threading
from contextlib import closing

import pytest

from kvdialect import exc
from kvdialect.dialect import dbapi


@pytest.fixture
def connection():
    """A connection to an empty store."""
    with closing(dbapi.connect("memory://")) as opened:
        yield opened


@pytest.mark.parametrize("number", [1 / 3, 0.1, 1e15, 443080.06468156516, -8.0993579643460351e245, 5e-324, -0.0])
@pytest.mark.parametrize("column", ["plain", "keyed"])
def test_float_in_a_column_of_text_is_found_by_itself(connection, column, number):
    """It is stored as SQLite writes it, so SQLite's text of the same float equals it, with an index and without."""
    connection.execute("CREATE TABLE t (plain TEXT, keyed TEXT UNIQUE, n REAL)")
    connection.execute("INSERT INTO t VALUES (?, ?, ?)", (number, number, number))

    asked = [(f"{column} = ?", (number,)), (f"{column} = n", ()), (f"{column} = cast(n AS TEXT)", ())]
    for where, parameters in asked:
        assert connection.execute(f"SELECT count(*) FROM t WHERE {where}", parameters).fetchone() == (1,)
    joined = connection.execute(f"SELECT count(*) FROM t AS a JOIN t AS b ON a.{column} = b.n")
    assert joined.fetchone() == (1,)


def test_float_becomes_text_in_any_thread():
    """Connections of several threads write floats into columns of text."""
    found = []

    def work():
        with closing(dbapi.connect("memory://")) as connection:
            connection.execute("CREATE TABLE t (a TEXT)")
            connection.executemany("INSERT INTO t VALUES (?)", [(number / 3,) for number in range(50)])
            found.append(connection.execute("SELECT count(*) FROM t WHERE a = cast(a AS REAL)").fetchone()[0])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [50, 50, 50]


def test_floats_just_below_zero_are_told_apart_in_an_index(connection):
    """They once had the same bytes in keys, so a unique index refused the second."""
    numbers = [-0.3, -0.30000000000000004, math.nextafter(0, -1), -1e-300]
    connection.execute("CREATE TABLE t (a REAL UNIQUE)")
    connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in numbers])

    assert connection.execute("SELECT a FROM t ORDER BY a").fetchall() == [(number,) for number in sorted(numbers)]
    for number in numbers:
        assert connection.execute("SELECT a FROM t WHERE a = ?", (number,)).fetchall() == [(number,)]


def test_number_of_thousands_of_digits_is_stored(connection):
    """Python makes no int of such a text, and SQLite a float."""
    connection.execute("CREATE TABLE t (a INTEGER)")
    connection.executemany("INSERT INTO t VALUES (?)", [("1" * 5000,), ("0" * 5000 + "7",)])

    assert connection.execute("SELECT a FROM t").fetchall() == [(math.inf,), (7,)]


def test_collation_of_a_primary_key_without_rowid_is_that_of_its_column(connection):
    """Rows are keyed by the column's; another one would not be enforced, so it is refused."""
    with pytest.raises(exc.NotSupportedError, match="gives column b the collation nocase; say it at the column"):
        connection.execute("CREATE TABLE t (b TEXT, PRIMARY KEY (b COLLATE nocase)) WITHOUT ROWID")
    connection.execute("CREATE TABLE t (b TEXT COLLATE nocase, PRIMARY KEY (b COLLATE NOCASE)) WITHOUT ROWID")
    connection.execute("INSERT INTO t VALUES ('a')")

    with pytest.raises(exc.IntegrityError):
        connection.execute("INSERT INTO t VALUES ('A')")
