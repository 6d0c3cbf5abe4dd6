"""What the SQL door does not offer is refused with NotSupportedError that names it, and leaves no trace."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa
from sqlalchemy import func

import kvdialect
from kvdialect import exc

TRIGGER = "AFTER INSERT ON t BEGIN DELETE FROM t; END"


@pytest.fixture
def connection():
    engine = sa.create_engine("kvdialect+memory://")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)")
        connection.exec_driver_sql("INSERT INTO t (a) VALUES ('x')")
        connection.commit()
        yield connection
    engine.dispose()


def seen(connection: sa.Connection) -> list[tuple]:
    return [
        *connection.exec_driver_sql("SELECT type, name FROM sqlite_master"),
        *connection.exec_driver_sql("SELECT 'row', a FROM t"),
        *connection.exec_driver_sql("SELECT 'database', name FROM pragma_database_list"),
    ]


@pytest.mark.parametrize(
    ("feature", "statement"),
    [
        ("CREATE TRIGGER", f"CREATE TRIGGER tr {TRIGGER}"),
        ("CREATE TRIGGER", f"create temp trigger if not exists tr {TRIGGER}"),
        ("CREATE TRIGGER", f"CREATE /* a */ TEMPORARY -- b\n TRIGGER tr {TRIGGER}"),
        ("CREATE TRIGGER", "CREATE TRIGGER main.tr INSTEAD OF DELETE ON v BEGIN SELECT 1; END"),
        ("DROP TRIGGER", "DROP TRIGGER IF EXISTS tr"),
        ("USING fts5", "CREATE VIRTUAL TABLE f USING fts5(a)"),
        ("USING fts4", "CREATE VIRTUAL TABLE f USING fts4"),
        ("USING rtree", "create virtual table if not exists main.f using rtree(id, low, high)"),
        ("USING kvdialect", "CREATE VIRTUAL TABLE f USING kvdialect(1)"),
        ("ATTACH", "ATTACH 'other.db' AS other"),
        ("ATTACH", "attach database ':memory:' as other"),
        ("DETACH", "DETACH main"),
        ("load_extension", "SELECT load_extension('x')"),
        ("load_extension", "SELECT a FROM t WHERE LOAD_EXTENSION ('x', 'y')"),
        ("load_extension", "EXPLAIN SELECT \"load_extension\"('x')"),
        ("load_extension", "CREATE VIEW v AS SELECT load_extension('x')"),
        ("load_extension", "CREATE TABLE u (a CHECK (load_extension('x') IS NULL))"),
        ("INDEXED BY", "SELECT a FROM t INDEXED BY ix WHERE a = 'x'"),
        ("INDEXED BY", "SELECT x.a FROM t AS x indexed by ix, t"),
        ("INDEXED BY", 'UPDATE t INDEXED BY "ix" SET a = 1'),
        ("INDEXED BY", "DELETE FROM main.t INDEXED BY ix"),
        ("INDEXED BY", "CREATE VIEW w AS SELECT a FROM t INDEXED BY ix"),
        ("pragma_foreign_key_check", "SELECT * FROM pragma_foreign_key_check"),
        ("pragma_foreign_key_check", "SELECT * FROM t, pragma_foreign_key_check('t')"),
        ("VACUUM INTO", "VACUUM INTO 'copy.db'"),
        ("VACUUM INTO", "vacuum main into 'copy.db'"),
        ("ON CONFLICT REPLACE", "CREATE TABLE u (a UNIQUE ON CONFLICT REPLACE)"),
        ("ON CONFLICT IGNORE", "CREATE TABLE u (a NOT NULL ON CONFLICT IGNORE)"),
        ("ON CONFLICT ROLLBACK", "CREATE TABLE u (a, b, PRIMARY KEY (a, b) ON CONFLICT ROLLBACK)"),
        ("PRAGMA journal_mode", "PRAGMA journal_mode = WAL"),
        ("PRAGMA writable_schema", "PRAGMA main.writable_schema(1)"),
        ("PRAGMA synchronous", "PRAGMA synchronous"),
        ("PRAGMA user_version", "PRAGMA user_version = 5"),
        ("PRAGMA trusted_schema", "PRAGMA trusted_schema = ON"),
    ],
)
def test_a_refusal_names_the_feature(connection, tmp_path, monkeypatch, feature, statement):
    """The error says what is not offered; nothing of the statement happened, and the transaction goes on."""
    monkeypatch.chdir(tmp_path)
    connection.exec_driver_sql("INSERT INTO t (a) VALUES ('y')")
    before = seen(connection)
    with pytest.raises(sa.exc.NotSupportedError) as caught:
        connection.exec_driver_sql(statement)

    assert isinstance(caught.value.orig, exc.NotSupportedError)
    assert feature in str(caught.value.orig)
    assert seen(connection) == before
    connection.commit()
    assert seen(connection) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sqlite_master SET sql = ''",
        "DELETE FROM sqlite_schema",
        "DROP TABLE sqlite_master",
        "ALTER TABLE sqlite_master ADD COLUMN a",
        "CREATE INDEX ix ON sqlite_master (name)",
        "CREATE TABLE sqlite_x (a)",
        "SELECT readfile('/etc/passwd')",
        "SELECT writefile('copy.db', a) FROM t",
    ],
)
def test_what_sqlite_refuses_itself_stays_refused(connection, tmp_path, monkeypatch, statement):
    """The schema is written by DDL alone, and no function reaches files."""
    monkeypatch.chdir(tmp_path)
    before = seen(connection)
    with pytest.raises(sa.exc.OperationalError):
        connection.exec_driver_sql(statement)

    assert seen(connection) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("statement", ["VACUUM", "ANALYZE", "ANALYZE t", "REINDEX", "REINDEX t", "VACUUM main"])
def test_what_the_engines_do_themselves_is_taken(connection, statement):
    """A program may ask for upkeep of SQLite's files; there is nothing to do, and it is no error."""
    before = seen(connection)
    connection.exec_driver_sql(statement)
    assert seen(connection) == before


def test_no_index_may_be_asked_for(connection):
    """NOT INDEXED is taken: whether an index is read changes no row."""
    rows = connection.exec_driver_sql("SELECT a FROM t NOT INDEXED WHERE a = 'x'").all()
    assert rows == connection.exec_driver_sql("SELECT a FROM t WHERE a = 'x'").all()
    connection.exec_driver_sql("UPDATE t NOT INDEXED SET a = 'z'")
    connection.exec_driver_sql("DELETE FROM t NOT INDEXED")


def test_words_of_refused_statements_are_names_too(connection):
    """A table or column may be called as a refused feature is."""
    connection.exec_driver_sql('CREATE TABLE attach (trigger TEXT, load_extension INTEGER, "virtual" TEXT)')
    connection.exec_driver_sql("INSERT INTO attach VALUES ('CREATE TRIGGER', 1, 'load_extension(1)')")
    query = "SELECT trigger, load_extension FROM attach WHERE load_extension IN (1)"
    assert connection.exec_driver_sql(query).all() == [("CREATE TRIGGER", 1)]


def test_a_statement_with_a_nul_character(connection):
    with pytest.raises(sa.exc.ProgrammingError, match="NUL character"):
        connection.exec_driver_sql("SELECT '\0'")


def test_an_index_over_a_name_that_sqlite_takes_for_a_string(connection):
    """In double quotes it is one to SQLite where there is no such column; here it ended in a KeyError."""
    before = seen(connection)
    with pytest.raises(sa.exc.OperationalError, match=r"no such column: zzz \(index i\)"):
        connection.exec_driver_sql('CREATE INDEX i ON t (a, "zzz")')
    assert seen(connection) == before


class Moment(sa.TypeDecorator):
    """A datetime by another name."""

    impl = sa.DateTime
    cache_ok = True


class Seconds(sa.TypeDecorator):
    """A datetime that is kept as an integer."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect):
        return dialect.type_descriptor(sa.Integer())


visits = sa.Table(
    "visits",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("seen", sa.DateTime),
    sa.Column("aware", sa.DateTime(timezone=True)),
    sa.Column("day", sa.Date),
    sa.Column("clock", sa.Time),
    sa.Column("lasts", sa.Interval),
    sa.Column("moment", Moment),
    sa.Column("seconds", Seconds),
    sa.Column("varied", sa.DateTime().with_variant(sa.Integer(), "kvdialect")),
    sa.Column("name", sa.String),
)
NOW, DAY = dt.datetime.fromisoformat("2024-05-01 12:00"), dt.timedelta(days=1)
v = visits.c


@pytest.fixture(scope="module")
def visited():
    engine = sa.create_engine("kvdialect+memory://")
    visits.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.execute(
            visits.insert().values(
                id=1, seen=NOW, aware=NOW, day=NOW.date(), clock=NOW.time(), lasts=DAY, moment=NOW, name="x"
            )
        )
        yield connection
    engine.dispose()


@pytest.mark.parametrize(
    ("expression", "symbol", "type_"),
    [
        (v.seen + DAY, "+", "DateTime"),
        (v.seen - DAY, "-", "DateTime"),
        (v.seen - v.seen, "-", "DateTime"),
        (v.seen + v.seen, "+", "DateTime"),
        (v.seen + DAY + DAY, "+", "DateTime"),
        (v.aware - DAY, "-", "DateTime"),
        (v.day + DAY, "+", "Date"),
        (v.clock - DAY, "-", "Time"),
        (v.lasts + v.lasts, "+", "Interval"),
        (v.lasts + DAY + DAY, "+", "Interval"),
        (v.lasts - DAY, "-", "Interval"),
        (v.moment + DAY, "+", "Moment"),
        (NOW - v.seen, "-", "DateTime"),
        (func.max(v.seen) - func.min(v.seen), "-", "DateTime"),
        (func.now() - v.seen, "-", "DateTime"),
        (sa.cast(v.name, sa.DateTime) - v.seen, "-", "DateTime"),
        (sa.case((v.id == 1, v.seen)) - v.seen, "-", "DateTime"),
        (func.sum(v.lasts), "sum()", "Interval"),
        (func.avg(v.seen), "avg()", "DateTime"),
    ],
)
def test_arithmetic_on_dates_and_times_is_refused(visited, expression, symbol, type_):
    """SQLite would calculate with the years that the texts begin with, and say nothing."""
    for statement in (
        sa.select(expression),
        sa.select(v.id).order_by(expression),
        sa.select(v.id).group_by(v.id).having(expression > NOW),
    ):
        with pytest.raises(exc.NotSupportedError, match=r"julianday") as caught:
            visited.execute(statement)
        assert caught.value.facts == {"operation": symbol, "type": type_}


@pytest.mark.filterwarnings("ignore:Type object:sqlalchemy.exc.SADeprecationWarning")
@pytest.mark.parametrize(
    ("expression", "symbol"),
    [
        (lambda: v.lasts * 2, "*"),
        (lambda: 2 * v.lasts, "*"),
        (lambda: v.lasts / 2, "/"),
        (lambda: v.lasts // 2, "//"),
        (lambda: v.lasts % 2, "%"),
        (lambda: -v.lasts, "-"),
    ],
)
def test_multiples_of_intervals_are_refused(visited, expression, symbol):
    """They are texts as well."""
    with pytest.raises(exc.NotSupportedError, match=r"visits\.lasts, of type Interval") as caught:
        visited.execute(sa.select(expression()))
    assert caught.value.facts == {"operation": symbol, "type": "Interval"}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (v.seen > NOW - DAY, True),
        (v.seen.between(NOW, NOW + DAY), True),
        (v.day == NOW.date(), True),
        (v.lasts == DAY, True),
        (v.lasts.in_([DAY]), True),
        (func.max(v.seen), NOW),
        (func.count(v.seen) + 1, 2),
        (func.coalesce(v.seen, NOW) >= v.seen, True),
        (func.julianday(v.seen) - func.julianday(v.day), 0.5),
        (func.unixepoch(v.seen) - func.unixepoch(v.day), 43200),
        (func.datetime(v.seen, "+30 days"), "2024-05-31 12:00:00"),
        (sa.extract("year", v.seen) + 1, 2025),
        (sa.cast(v.seen, sa.String) + "x", "2024-05-01 12:00:00.000000x"),
        (sa.type_coerce(v.id, Seconds) + sa.type_coerce(5, sa.Integer), 6),
        (func.coalesce(v.varied, 1) + 1, 2),
    ],
)
def test_what_is_no_arithmetic_on_dates_and_times(visited, expression, value):
    """Comparisons, functions, texts, and what a type keeps as a number."""
    assert visited.scalar(sa.select(sa.type_coerce(expression, expression.type))) == value


def test_a_session_refuses_arithmetic_on_dates_and_times():
    """What it hands to the SQL door is refused there: it would have found and deleted nothing, or the wrong rows."""
    models = kvdialect.registry()

    @kvdialect.mapped(models)
    class Visit:
        __tablename__ = "visits"
        id: kvdialect.Mapped[int] = kvdialect.field(primary_key=True)
        seen: kvdialect.Mapped[dt.datetime]

    with kvdialect.create_engine("memory://") as store:
        models.create_all(store)
        with kvdialect.Session(store) as session, session.begin():
            session.add(Visit(1, NOW))
            session.flush()
            for statement in (
                sa.select(Visit.id).where(Visit.seen + 30 * DAY > NOW),
                sa.select(Visit.id).order_by(Visit.seen - DAY),
                sa.select(Visit.seen - Visit.seen),
                sa.delete(Visit).where(Visit.seen + 30 * DAY > NOW),
                sa.update(Visit).values(seen=Visit.seen + DAY),
            ):
                with pytest.raises(exc.NotSupportedError, match=r"visits\.seen, of type DateTime"):
                    session.execute(statement)
            assert session.scalars(sa.select(Visit.id).where(Visit.seen > NOW - 30 * DAY)).all() == [1]
            assert session.execute(sa.delete(Visit).where(Visit.seen > NOW - 30 * DAY)).rowcount == 1
