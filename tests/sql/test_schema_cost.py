"""What counting and DDL cost: no scan for the one, nothing that grows with the schema for the other.

Work is counted, not timed: keys written, statements of SQLite's, entries of the catalog decoded, lines of Python run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import apsw
import pytest
import sqlalchemy as sa
from sqlalchemy import func, select

import kvdialect
from kvdialect.dialect import dbapi
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store import catalog as catalogs

MANY = 200

metadata = sa.MetaData()
items = sa.Table(
    "items",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(40), unique=True),
    sa.Column("n", sa.Integer, index=True),
)
pairs = sa.Table(
    "pairs", metadata, sa.Column("a", sa.Integer, primary_key=True), sa.Column("b", sa.Integer, primary_key=True)
)
models = kvdialect.registry()


@kvdialect.mapped(models)
class Coin:
    """A record, as the native door has it."""

    __tablename__ = "coins"
    id: kvdialect.Mapped[int] = kvdialect.field(primary_key=True)
    amount: kvdialect.Mapped[int] = kvdialect.field(index=True)


coins = models.metadata.tables["coins"]


def insert(connection: sa.Connection, table: sa.Table, numbers: range) -> None:
    """Rows with these numbers in all columns that take one."""
    rows = [{c.name: str(n) if c.name == "name" else n for c in table.columns} for n in numbers]
    connection.execute(table.insert(), rows)


@pytest.fixture
def store(engine_name, tmp_path):
    url = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store?durability=none"
    with kvdialect.create_engine(url) as store:
        yield store


@pytest.fixture
def scanned(store, monkeypatch):
    """The families that are scanned, in snapshots and on the store itself."""
    seen: list[str] = []
    with store.backend.snapshot() as snapshot:
        readers = [type(snapshot), type(store.backend)]
    for reader in readers:
        for name in ("scan", "prefix_scan"):
            monkeypatch.setattr(reader, name, _watched(getattr(reader, name), seen))
    return seen


def _watched(scan: Callable[..., Any], seen: list[str]) -> Callable[..., Any]:
    def watched(self, cf, *arguments, **options):
        seen.append(cf)
        return scan(self, cf, *arguments, **options)

    return watched


# ------------------------------------------------------------------------------------------ count(*)


@pytest.fixture(params=[items, pairs, coins], ids=lambda table: table.name)
def counted(request, store, scanned) -> Iterator[tuple[sa.Engine, sa.Table, Callable[[sa.Connection], int]]]:
    """A table with 100 rows, and what counts them and sees to it that nothing is scanned."""
    models.create_all(store)
    engine = store.sqlalchemy()
    metadata.create_all(engine)
    table = request.param
    with engine.begin() as connection:
        insert(connection, table, range(100))

    def count(connection: sa.Connection) -> int:
        scanned.clear()
        found = connection.scalar(select(func.count()).select_from(table))
        assert scanned == []
        return found

    yield engine, table, count
    engine.dispose()


def test_a_count_is_exact_and_scans_nothing(counted, scanned):
    """After commits, within a transaction with its own changes, and in the snapshot of an older one."""
    engine, table, count = counted
    first = table.columns[0]
    with engine.connect() as connection, engine.connect() as other:
        assert count(connection) == 100
        insert(connection, table, range(100, 130))
        connection.execute(table.delete().where(first < 10))
        assert count(connection) == 120
        assert count(other) == 100
        connection.commit()

        assert count(connection) == 120
        assert count(other) == 100
        other.rollback()
        assert count(other) == 120
        connection.execute(table.delete())
        assert count(connection) == 0
        connection.rollback()
        assert count(connection) == 120
        scanned.clear()
        assert len(connection.execute(select(table)).all()) == 120
        assert scanned


def test_a_count_follows_savepoints(counted):
    """What a savepoint undoes is not counted, what it keeps is."""
    engine, table, count = counted
    first = table.columns[0]
    with engine.begin() as connection:
        with connection.begin_nested():
            insert(connection, table, range(100, 105))
            with connection.begin_nested() as inner:
                connection.execute(table.delete().where(first < 50))
                assert count(connection) == 55
                inner.rollback()
            assert count(connection) == 105
        with connection.begin_nested() as nested:
            insert(connection, table, range(200, 207))
            assert count(connection) == 112
            nested.rollback()
        assert count(connection) == 105
    with engine.connect() as connection:
        assert count(connection) == 105


def test_a_statement_that_fails_is_not_counted(counted):
    """The rows before the one that failed are undone in the count, too."""
    engine, table, count = counted
    with engine.begin() as connection:
        with pytest.raises(sa.exc.IntegrityError):
            insert(connection, table, range(110, 89, -1))
        assert count(connection) == 100
        insert(connection, table, range(100, 103))
    with engine.connect() as connection:
        assert count(connection) == 103


def test_other_ways_to_say_it_scan_nothing(store, scanned):
    """A count under a label, by exec_driver_sql, of the ORM's and in a schema's name: the same number, no scan."""
    engine = store.sqlalchemy()
    metadata.create_all(engine)
    with engine.begin() as connection:
        insert(connection, items, range(70))
    with engine.connect() as connection:
        scanned.clear()
        for statement in (
            select(func.count().label("rows")).select_from(items),
            sa.text("SELECT count(*) FROM items"),
            sa.text("SELECT COUNT(*) AS n FROM main.items"),
        ):
            assert connection.scalar(statement) == 70
        assert scanned == []
        assert connection.scalar(select(func.count()).select_from(items).where(items.c.id < 7)) == 7
        assert connection.scalar(select(func.count(items.c.n))) == 70
        assert scanned
    engine.dispose()


# ------------------------------------------------------------------------------------------ DDL


def create(number: int) -> str:
    """DDL of one of many tables; all are alike."""
    return (
        f"CREATE TABLE t{number:03} (id INTEGER PRIMARY KEY, name VARCHAR(40) NOT NULL UNIQUE CHECK (name <> ''),"
        f" parent INTEGER REFERENCES t{max(number - 1, 0):03} (id))"
    )


def create_many(connection: dbapi.Connection, numbers: range) -> None:
    for number in numbers:
        connection.execute(create(number))
        connection.execute(f"CREATE INDEX ix{number:03} ON t{number:03} (parent)")


@contextmanager
def sqlite_statements(connection: dbapi.Connection) -> Iterator[list[str]]:
    """The statements that run meanwhile in the two databases of SQLite's."""
    seen: list[str] = []
    databases = connection.main, connection.shadow.db
    for database in databases:
        database.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: seen.append(event["sql"]))
    try:
        yield seen
    finally:
        for database in databases:
            database.trace_v2(0, None)


def lines_run(function: Callable[[], Any]) -> int:
    """How many lines of Python a call runs, those of what it calls included."""
    count = 0

    def trace(_frame: Any, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@pytest.fixture
def decoded(monkeypatch):
    """The keys of the catalog's entries that are decoded."""
    seen: list[bytes] = []

    def watched(key, raw, _original=catalogs.decode_entry):
        seen.append(key)
        return _original(key, raw)

    monkeypatch.setattr(catalogs, "decode_entry", watched)
    return seen


@pytest.fixture
def connection(store):
    with store.sqlalchemy().connect() as connection:
        yield connection.connection.driver_connection
    connection.engine.dispose()


def _work(connection: dbapi.Connection, statement: str) -> tuple[int, int, int]:
    """What a statement of DDL takes: keys it writes into the catalog, statements of SQLite's, lines of Python."""
    keys = len(connection.txn.changes.get(RESERVED_FAMILY, ()))
    with sqlite_statements(connection) as seen:
        lines = lines_run(lambda: connection.execute(statement))
    return len(connection.txn.changes[RESERVED_FAMILY]) - keys, len(seen), lines


STATEMENTS = [
    "CREATE TABLE later (id INTEGER PRIMARY KEY, name TEXT UNIQUE, parent INTEGER REFERENCES t005 (id))",
    "CREATE INDEX later ON t005 (name, id)",
    "CREATE VIEW later AS SELECT id FROM t005",
    "DROP INDEX ix005",
    "DROP TABLE t009",
]


def test_ddl_costs_what_it_changes(connection):
    """The same statement takes the same work in a schema of 10 tables and in one of 200."""

    def work() -> dict[str, tuple[int, int, int]]:
        found = {}
        for statement in STATEMENTS:
            connection.execute("SAVEPOINT one")
            found[statement] = _work(connection, statement)
            connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
        return found

    connection.execute("PRAGMA foreign_keys = OFF")
    create_many(connection, range(10))
    few = work()
    create_many(connection, range(10, MANY))
    many = work()
    connection.rollback()

    assert {statement: works[:2] for statement, works in many.items()} == {
        statement: works[:2] for statement, works in few.items()
    }
    assert [statement for statement in STATEMENTS if many[statement][2] > few[statement][2] * 1.1] == []


def test_all_tables_are_one_batch(store, monkeypatch, decoded):
    """create_all is one transaction: one batch, however many tables, with as many entries of the catalog."""
    written = []
    backend = type(store.backend)

    def watched(self, batch, *arguments, _original=backend.batch_write, **options):
        changed = batch.changes.get(RESERVED_FAMILY, ())
        written.append(sum(1 for key in changed if key.startswith(catalogs.TABLE)))
        return _original(self, batch, *arguments, **options)

    monkeypatch.setattr(backend, "batch_write", watched)
    engine = store.sqlalchemy()
    schema = sa.MetaData()
    for number in range(MANY):
        sa.Table(f"t{number}", schema, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))
    schema.create_all(engine)
    engine.dispose()

    assert [entries for entries in written if entries] == [MANY]
    assert len(decoded) == MANY


def test_a_commit_reads_the_entries_that_have_changed(connection, decoded):
    """One more table in a schema of 200 is one entry to decode, for all connections."""
    create_many(connection, range(MANY))
    connection.commit()
    other = dbapi.connect(store=connection.store)
    other.execute("SELECT id FROM t007").fetchall()
    other.rollback()
    decoded.clear()
    connection.execute(create(MANY))
    connection.commit()
    other.execute("SELECT id FROM t200").fetchall()
    other.close()

    assert decoded == [catalogs.table_key(f"t{MANY}")]


def test_connecting_costs_nothing_per_table(connection, decoded):
    """A new connection to a store of 200 tables loads the one that it reads, and decodes nothing."""

    def work() -> tuple[int, int, set[str]]:
        made = []

        def connect() -> None:
            made.append(dbapi.connect(store=connection.store))
            with sqlite_statements(made[0]) as seen:
                made[0].execute("SELECT count(*), a.id FROM t007 a JOIN t007 b ON b.parent = a.id").fetchall()
            made.append(len(seen))

        lines = lines_run(connect)
        loaded = set(made[0].shadow.loaded)
        made[0].close()
        return made[1], lines, loaded

    create_many(connection, range(10))
    connection.commit()
    work()  # what is made once for a catalog, whoever connects
    few = work()
    create_many(connection, range(10, MANY))
    connection.commit()
    work()
    decoded.clear()
    many = work()

    assert few[2] == many[2] == {"t007"}
    assert many[0] == few[0]
    assert many[1] <= few[1] * 1.1
    assert decoded == []
