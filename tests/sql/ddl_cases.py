"""All that the DDL compiler can emit, each with what it must refuse once it is accepted."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy import Column, Integer, MetaData, String, Table, schema
from sqlalchemy import exc as sa_exc

from kvdialect import FixedBinary, SignedInteger, Structured, UnsignedInteger

INTEGRITY = sa_exc.IntegrityError
REFUSALS = (sa_exc.NotSupportedError, sa_exc.CompileError)
NOT_SQLITE = (*REFUSALS, sa_exc.OperationalError, sa_exc.ProgrammingError)
"""How syntax that SQLite does not have is refused too."""

Build = Callable[[MetaData], "Iterable[Any] | None"]


@attrs.frozen
class Case:
    """DDL, and statements that show what holds after it."""

    name: str
    build: Build
    """Adds to the metadata; may return DDL elements to execute after ``create_all``."""
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    error: type[Exception] = INTEGRITY
    shows: tuple[tuple[str, list[tuple[Any, ...]]], ...] = ()
    refused: tuple[type[Exception], ...] = ()
    before: tuple[str, ...] = ()
    """Executed between ``create_all`` and the DDL elements."""
    in_catalog: bool = True


def table(*parts: Any, **options: Any) -> Build:
    """A case of one table."""
    return lambda metadata: _nothing(Table("t", metadata, *_fresh(parts), **options))


def _nothing(*_: Table) -> None:
    """A table is made by being declared."""


def _fresh(parts: Iterable[Any]) -> list[Any]:
    # A Column belongs to one Table, a case is built several times.
    return [part() if callable(part) and not isinstance(part, type) else part for part in parts]


def column(*arguments: Any, **options: Any) -> Callable[[], Column[Any]]:
    """A Column, made anew for each table."""
    return lambda: Column(*(_fresh(arguments)), **options)


def made(cls: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[], Any]:
    """A schema item, made anew for each table."""
    return lambda: cls(*arguments, **options)


ID = column("id", Integer, primary_key=True)
A = column("a", Integer)
B = column("b", String)


def parent_and_child(**options: Any) -> Build:
    """Two tables and a foreign key."""

    def build(metadata: MetaData) -> None:
        Table("p", metadata, ID(), Column("u", Integer, unique=True))
        Table("c", metadata, ID(), Column("p_id", sa.ForeignKey("p.id", **options), server_default="1"))

    return build


TWO_PARENTS = ("INSERT INTO p VALUES (1, 10), (2, 20)", "INSERT INTO c VALUES (1, 2)")


def _action(name: str, left: list[tuple[Any, ...]], **options: Any) -> Case:
    return Case(
        f"foreign key {name}",
        parent_and_child(**options),
        good=(*TWO_PARENTS, "DELETE FROM p WHERE id = 2"),
        bad=("INSERT INTO c VALUES (9, 99)",),
        shows=(("SELECT id, p_id FROM c", left),),
    )


def _update_action(name: str, left: list[tuple[Any, ...]], **options: Any) -> Case:
    return Case(
        f"foreign key {name}",
        parent_and_child(**options),
        good=(*TWO_PARENTS, "UPDATE p SET id = 3 WHERE id = 2"),
        bad=("INSERT INTO c VALUES (9, 99)",),
        shows=(("SELECT id, p_id FROM c", left),),
    )


def _with_view(metadata: MetaData) -> Iterable[Any]:
    t = Table("t", metadata, ID(), A())
    view = sa.CreateView(sa.select(t.c.a).where(t.c.a > 1), "v", metadata=MetaData())
    return (view,)


def _dropped_view(metadata: MetaData) -> Iterable[Any]:
    (view,) = _with_view(metadata)
    return (view, schema.DropView(view.table))


def _table_as(metadata: MetaData) -> Iterable[Any]:
    t = Table("t", metadata, ID(), A())
    return (sa.CreateTableAs(sa.select(t.c.a).where(t.c.a > 1), "copied", metadata=MetaData()),)


def _constraint(make: Callable[[Table], Any], element: Callable[[Any], Any]) -> Build:
    def build(metadata: MetaData) -> Iterable[Any]:
        t = Table("t", metadata, ID(), A())
        constraint = make(t)
        return (element(constraint),)

    return build


def _check_of(_: Table) -> sa.CheckConstraint:
    constraint = sa.CheckConstraint("a > 0", name="positive")
    other = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("a", Integer))
    other.append_constraint(constraint)
    return constraint


def _unique_of(_: Table) -> sa.UniqueConstraint:
    other = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("a", Integer))
    return sa.UniqueConstraint(other.c.a, name="uq")


def _index(*columns: str, **options: Any) -> Build:
    def build(metadata: MetaData) -> None:
        t = Table("t", metadata, ID(), A(), B())
        sa.Index("ix", *(sa.text(c) if not c.isidentifier() else t.c[c] for c in columns), **options)

    return build


def _index_of(make: Callable[[Table], sa.Index]) -> Build:
    def build(metadata: MetaData) -> None:
        make(Table("t", metadata, ID(), A(), B()))

    return build


def _element(make: Callable[[Table], Any]) -> Build:
    def build(metadata: MetaData) -> Iterable[Any]:
        return (make(Table("t", metadata, ID(), A(), B(), comment="of a table")),)

    return build


class Colour(enum.Enum):
    """For Enum columns."""

    RED = 1
    BLUE = 2


PK_CLASH = ("INSERT INTO t (id) VALUES (1)",)

CASES = [
    Case(
        "not null",
        table(ID, column("a", Integer, nullable=False)),
        good=("INSERT INTO t (a) VALUES (1)",),
        bad=("INSERT INTO t (a) VALUES (NULL)", "UPDATE t SET a = NULL", "INSERT INTO t (id) VALUES (5)"),
    ),
    Case(
        "server default",
        table(
            ID,
            column("a", Integer, server_default="7"),
            column("b", String, server_default="it's"),
            column("c", Integer, server_default=sa.text("(1 + 2)")),
        ),
        good=("INSERT INTO t (id) VALUES (1)",),
        shows=(("SELECT a, b, c FROM t", [(7, "it's", 3)]),),
    ),
    Case(
        "server default with not null",
        table(ID, column("a", Integer, nullable=False, server_default="7")),
        good=("INSERT INTO t (id) VALUES (1)", "INSERT OR REPLACE INTO t (id, a) VALUES (2, NULL)"),
        bad=("INSERT INTO t (a) VALUES (NULL)",),
        shows=(("SELECT a FROM t", [(7,), (7,)]),),
    ),
    Case(
        "current timestamp",
        table(ID, column("at", sa.DateTime, server_default=sa.func.now(), nullable=False)),
        good=("INSERT INTO t (id) VALUES (1)",),
        bad=("UPDATE t SET at = NULL",),
        shows=(("SELECT length(at) FROM t", [(19,)]),),
    ),
    Case(
        "check, unnamed",
        table(ID, A, made(sa.CheckConstraint, "a > 0")),
        good=("INSERT INTO t (a) VALUES (1), (NULL)",),
        bad=("INSERT INTO t (a) VALUES (0)", "UPDATE t SET a = -1"),
    ),
    Case(
        "check, named",
        table(ID, A, B, made(sa.CheckConstraint, "a > length(b)", name="longer")),
        good=("INSERT INTO t (a, b) VALUES (3, 'xx')",),
        bad=("INSERT INTO t (a, b) VALUES (1, 'xx')", "UPDATE t SET b = 'xxxx'", "UPDATE t SET a = 1"),
    ),
    Case(
        "check, of a column",
        table(ID, column("a", Integer, made(sa.CheckConstraint, "a < 10"))),
        good=("INSERT INTO t (a) VALUES (9)",),
        bad=("INSERT INTO t (a) VALUES (10)", "INSERT INTO t (a) VALUES (1), (11)"),
    ),
    Case(
        "check of Boolean and Enum",
        table(
            ID,
            column("f", sa.Boolean(create_constraint=True, name="f_bool")),
            column("e", sa.Enum(Colour, create_constraint=True, name="e_enum")),
        ),
        good=("INSERT INTO t (f, e) VALUES (1, 'RED'), (NULL, NULL)",),
        bad=("INSERT INTO t (f) VALUES (2)", "INSERT INTO t (e) VALUES ('GREEN')"),
    ),
    Case(
        "unique, of a column",
        table(ID, column("a", Integer, unique=True)),
        good=("INSERT INTO t (a) VALUES (1), (2), (NULL), (NULL)",),
        bad=("INSERT INTO t (a) VALUES (1)", "UPDATE t SET a = 1 WHERE a = 2", "INSERT INTO t (a) VALUES (5), (5)"),
    ),
    Case(
        "unique, named, of two",
        table(ID, A, B, made(sa.UniqueConstraint, "a", "b", name="uq_ab")),
        good=("INSERT INTO t (a, b) VALUES (1, 'x'), (1, 'y'), (1, NULL), (1, NULL)",),
        bad=("INSERT INTO t (a, b) VALUES (1, 'x')", "UPDATE t SET b = 'x' WHERE b = 'y'"),
    ),
    Case(
        "primary key, integer",
        table(ID, A),
        good=("INSERT INTO t (id) VALUES (1)", "INSERT INTO t (a) VALUES (1)"),
        bad=(*PK_CLASH, "INSERT INTO t (id) VALUES ('text')", "UPDATE t SET id = 1"),
        shows=(("SELECT count(DISTINCT id) FROM t", [(2,)]),),
    ),
    Case(
        "primary key, text",
        table(column("id", String(20), primary_key=True), A),
        good=("INSERT INTO t (id) VALUES ('x')", "INSERT INTO t (id) VALUES ('X')"),
        bad=("INSERT INTO t (id) VALUES ('x')", "INSERT INTO t (id) VALUES (NULL)", "UPDATE t SET id = 'y'"),
    ),
    Case(
        "primary key, of two, named",
        table(column("a", Integer), column("b", String), made(sa.PrimaryKeyConstraint, "a", "b", name="pk")),
        good=("INSERT INTO t VALUES (1, 'x'), (1, 'y')",),
        bad=("INSERT INTO t VALUES (1, 'x')", "INSERT INTO t VALUES (NULL, 'x')", "UPDATE t SET b = 'x'"),
    ),
    Case(
        "autoincrement",
        table(ID, A, sqlite_autoincrement=True),
        good=("INSERT INTO t (id, a) VALUES (100, 1)", "DELETE FROM t", "INSERT INTO t (a) VALUES (2)"),
        bad=("INSERT INTO t (id) SELECT id FROM t",),
        shows=(("SELECT id > 100, a FROM t", [(1, 2)]),),
    ),
    Case(
        "without rowid",
        table(column("k", String, primary_key=True), A, sqlite_with_rowid=False),
        good=("INSERT INTO t VALUES ('x', 1)",),
        bad=("INSERT INTO t VALUES ('x', 2)", "INSERT INTO t VALUES (NULL, 2)"),
        shows=(("SELECT k, a FROM t", [("x", 1)]),),
    ),
    Case(
        "strict",
        table(ID, column("a", Integer), column("b", sa.TEXT), sqlite_strict=True),
        good=("INSERT INTO t (a, b) VALUES ('5', 6)",),
        bad=("INSERT INTO t (a) VALUES ('x')", "UPDATE t SET a = 1.5", "INSERT INTO t (b) VALUES (x'00')"),
        shows=(("SELECT a, b FROM t", [(5, "6")]),),
    ),
    Case(
        "foreign key, no action",
        parent_and_child(),
        good=TWO_PARENTS,
        bad=(
            "INSERT INTO c VALUES (2, 3)",
            "DELETE FROM p WHERE id = 2",
            "UPDATE p SET id = 5 WHERE id = 2",
            "UPDATE c SET p_id = 7",
            "DROP TABLE p",
        ),
    ),
    _action("on delete cascade", [], ondelete="CASCADE"),
    _action("on delete set null", [(1, None)], ondelete="SET NULL"),
    _action("on delete set default", [(1, 1)], ondelete="SET DEFAULT"),
    _update_action("on update cascade", [(1, 3)], onupdate="CASCADE"),
    _update_action("on update set null", [(1, None)], onupdate="SET NULL"),
    _update_action("on update set default", [(1, 1)], onupdate="SET DEFAULT"),
    *(
        Case(
            f"foreign key {verb} {action}",
            parent_and_child(**{verb: action}),
            good=TWO_PARENTS,
            bad=("DELETE FROM p WHERE id = 2", "UPDATE p SET id = 5 WHERE id = 2", "INSERT INTO c VALUES (2, 3)"),
        )
        for verb in ("ondelete", "onupdate")
        for action in ("RESTRICT", "NO ACTION")
    ),
    *(
        Case(
            f"foreign key deferrable={deferrable} initially={initially}",
            parent_and_child(deferrable=deferrable, initially=initially),
            good=TWO_PARENTS,
            bad=("INSERT INTO c VALUES (2, 3)", "DELETE FROM p WHERE id = 2"),
            # SQLite's grammar has no INITIALLY without DEFERRABLE.
            refused=() if deferrable is not None else NOT_SQLITE,
        )
        for deferrable in (True, False, None)
        for initially in ("DEFERRED", "IMMEDIATE", None)
        if not (deferrable is None and initially is None)
    ),
    *(
        Case(
            f"foreign key match {match}",
            parent_and_child(match=match),
            good=TWO_PARENTS,
            bad=("INSERT INTO c VALUES (2, 3)", "DELETE FROM p WHERE id = 2"),
        )
        for match in ("SIMPLE", "FULL", "PARTIAL")
    ),
    Case(
        "foreign key of two, to a unique constraint, named",
        lambda metadata: _nothing(
            Table("p", metadata, ID(), A(), B(), sa.UniqueConstraint("a", "b")),
            Table(
                "c",
                metadata,
                ID(),
                Column("x", Integer),
                Column("y", String),
                sa.ForeignKeyConstraint(["x", "y"], ["p.a", "p.b"], name="fk_p", ondelete="CASCADE"),
            ),
        ),
        good=(
            "INSERT INTO p (a, b) VALUES (1, 'x'), (2, 'y')",
            "INSERT INTO c (x, y) VALUES (1, 'x'), (2, 'y'), (9, NULL)",
            "DELETE FROM p WHERE a = 1",
        ),
        bad=("INSERT INTO c (x, y) VALUES (1, 'y')", "UPDATE p SET b = 'z' WHERE a = 2"),
        shows=(("SELECT x, y FROM c ORDER BY x", [(2, "y"), (9, None)]),),
    ),
    Case(
        "foreign keys of two tables to each other",
        lambda metadata: _nothing(
            Table("p", metadata, ID(), Column("c_id", sa.ForeignKey("c.id", name="to_c"))),
            Table("c", metadata, ID(), Column("p_id", sa.ForeignKey("p.id", name="to_p"))),
        ),
        good=("INSERT INTO p VALUES (1, NULL)", "INSERT INTO c VALUES (1, 1)", "UPDATE p SET c_id = 1"),
        bad=("INSERT INTO p VALUES (2, 5)", "DELETE FROM c"),
    ),
    Case(
        "computed, stored",
        table(
            ID,
            A,
            column("d", Integer, made(sa.Computed, "a * 2", persisted=True)),
            made(sa.CheckConstraint, "d < 9"),
        ),
        good=("INSERT INTO t (a) VALUES (3)", "UPDATE t SET a = 4"),
        bad=("INSERT INTO t (a) VALUES (5)", "UPDATE t SET a = 5"),
        shows=(("SELECT d FROM t WHERE d = 8", [(8,)]),),
    ),
    Case(
        "computed, virtual, unique",
        table(ID, A, column("d", Integer, made(sa.Computed, "a / 2", persisted=False), unique=True)),
        good=("INSERT INTO t (a) VALUES (2), (4)",),
        bad=("INSERT INTO t (a) VALUES (3)", "UPDATE t SET a = 5 WHERE a = 2"),
        shows=(("SELECT d FROM t ORDER BY d", [(1,), (2,)]),),
    ),
    Case(
        "computed, not written",
        table(ID, A, column("d", Integer, made(sa.Computed, "a + 1"))),
        good=("INSERT INTO t (a) VALUES (1)",),
        bad=("INSERT INTO t (d) VALUES (1)", "UPDATE t SET d = 5"),
        error=sa_exc.OperationalError,
        shows=(("SELECT d FROM t", [(2,)]),),
    ),
    Case(
        "identity",
        table(column("id", Integer, made(sa.Identity), primary_key=True), A),
        good=("INSERT INTO t (a) VALUES (1), (2)",),
        bad=("INSERT INTO t (id) SELECT id FROM t",),
        shows=(("SELECT count(DISTINCT id) FROM t", [(2,)]),),
    ),
    Case(
        "collation of a column",
        table(ID, column("b", String(collation="NOCASE"), unique=True)),
        good=("INSERT INTO t (b) VALUES ('Abc')",),
        bad=("INSERT INTO t (b) VALUES ('aBC')",),
        shows=(("SELECT b FROM t WHERE b = 'ABC'", [("Abc",)]),),
    ),
    Case(
        "index",
        _index("a", "b"),
        good=("INSERT INTO t (a, b) VALUES (1, 'x'), (1, 'x')", "DELETE FROM t WHERE id = 1"),
        shows=(("SELECT count(*) FROM t WHERE a = 1 AND b = 'x'", [(1,)]),),
    ),
    Case(
        "unique index",
        _index("a", unique=True),
        good=("INSERT INTO t (a) VALUES (1), (NULL), (NULL)",),
        bad=("INSERT INTO t (a) VALUES (1)",),
    ),
    Case(
        "unique partial index",
        _index_of(lambda t: sa.Index("ix", t.c.a, unique=True, sqlite_where=t.c.b == "on")),
        good=("INSERT INTO t (a, b) VALUES (1, 'off'), (1, 'off'), (1, 'on')",),
        bad=("INSERT INTO t (a, b) VALUES (1, 'on')", "UPDATE t SET b = 'on' WHERE b = 'off'"),
        shows=(("SELECT a FROM t WHERE b = 'on'", [(1,)]),),
    ),
    Case(
        "unique expression index",
        _index_of(lambda t: sa.Index("ix", sa.func.lower(t.c.b), unique=True)),
        good=("INSERT INTO t (b) VALUES ('Abc')",),
        bad=("INSERT INTO t (b) VALUES ('aBC')", "INSERT INTO t (b) VALUES ('q'), ('Q')"),
        shows=(("SELECT b FROM t WHERE lower(b) = 'abc'", [("Abc",)]),),
    ),
    Case(
        "unique index, collated",
        _index_of(lambda t: sa.Index("ix", sa.collate(t.c.b, "NOCASE"), unique=True)),
        good=("INSERT INTO t (b) VALUES ('Abc')",),
        bad=("INSERT INTO t (b) VALUES ('aBC')",),
    ),
    Case(
        "unique index, descending",
        _index_of(lambda t: sa.Index("ix", t.c.a.desc(), t.c.b, unique=True)),
        good=("INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'x')",),
        bad=("INSERT INTO t (a, b) VALUES (1, 'x')",),
        shows=(("SELECT a FROM t ORDER BY a DESC, b", [(2,), (1,)]),),
    ),
    Case(
        "unique index on rows that are there",
        _element(lambda t: schema.CreateIndex(_late(t))),
        before=("INSERT INTO t (a) VALUES (1), (2)",),
        bad=("INSERT INTO t (a) VALUES (1)",),
    ),
    Case(
        "index if not exists, drop index",
        _element(lambda t: schema.DropIndex(_late(t), if_exists=True)),
        good=("INSERT INTO t (a) VALUES (1), (1)",),
    ),
    Case(
        "drop table",
        _element(schema.DropTable),
        bad=("INSERT INTO t (a) VALUES (1)",),
        error=sa_exc.OperationalError,
    ),
    Case(
        "create table if not exists",
        _element(lambda t: schema.CreateTable(t, if_not_exists=True)),
        good=("INSERT INTO t (a) VALUES (1)",),
        shows=(("SELECT a FROM t", [(1,)]),),
    ),
    Case(
        "temporary table",
        table(ID, A, made(sa.CheckConstraint, "a > 0"), prefixes=["TEMPORARY"]),
        good=("INSERT INTO t (id, a) VALUES (1, 5)",),
        bad=(*PK_CLASH, "INSERT INTO t (a) VALUES (0)"),
        shows=(("SELECT a FROM t", [(5,)]),),
        in_catalog=False,
    ),
    Case(
        "view",
        _with_view,
        good=("INSERT INTO t (a) VALUES (1), (2), (3)",),
        bad=("INSERT INTO v VALUES (1)", "DELETE FROM v"),
        error=sa_exc.OperationalError,
        shows=(("SELECT a FROM v ORDER BY a", [(2,), (3,)]),),
    ),
    Case("drop view", _dropped_view, bad=("SELECT a FROM v",), error=sa_exc.OperationalError),
    Case(
        "create table as",
        _table_as,
        before=("INSERT INTO t (a) VALUES (1), (2), (3)",),
        good=("INSERT INTO copied VALUES (9)",),
        shows=(("SELECT a FROM copied ORDER BY a", [(2,), (3,), (9,)]),),
    ),
    Case(
        "DDL as text",
        lambda _: (sa.DDL("CREATE TABLE t (a INTEGER CHECK (a > 0))"),),
        good=("INSERT INTO t VALUES (1)",),
        bad=("INSERT INTO t VALUES (0)",),
    ),
    Case(
        "add a check to a table",
        _constraint(_check_of, schema.AddConstraint),
        good=("INSERT INTO t (a) VALUES (5)",),
        bad=("INSERT INTO t (a) VALUES (-5)",),
        refused=NOT_SQLITE,
    ),
    Case(
        "add a check that a row breaks",
        _constraint(_check_of, schema.AddConstraint),
        before=("INSERT INTO t (a) VALUES (-5)",),
        refused=(*NOT_SQLITE, INTEGRITY),
    ),
    Case(
        "add a unique constraint to a table",
        _constraint(_unique_of, schema.AddConstraint),
        refused=NOT_SQLITE,
    ),
    Case(
        "drop a constraint that is not there",
        _constraint(_check_of, schema.DropConstraint),
        refused=NOT_SQLITE,
    ),
    *(
        Case(f"on conflict, {what}", table(*parts), refused=REFUSALS)
        for what, parts in {
            "primary key": (column("k", String, primary_key=True, sqlite_on_conflict_primary_key="REPLACE"),),
            "not null": (ID, column("a", Integer, nullable=False, sqlite_on_conflict_not_null="IGNORE")),
            "unique": (ID, column("a", Integer, unique=True, sqlite_on_conflict_unique="IGNORE")),
            "unique constraint": (ID, A, made(sa.UniqueConstraint, "a", sqlite_on_conflict="REPLACE")),
            "check": (ID, A, made(sa.CheckConstraint, "a > 0", sqlite_on_conflict="ROLLBACK")),
        }.items()
    ),
    Case("table comment", _element(schema.SetTableComment), refused=NOT_SQLITE),
    Case("drop table comment", _element(schema.DropTableComment), refused=NOT_SQLITE),
    Case("column comment", _element(lambda t: schema.SetColumnComment(t.c.a)), refused=NOT_SQLITE),
    Case("drop column comment", _element(lambda t: schema.DropColumnComment(t.c.a)), refused=NOT_SQLITE),
    Case(
        "constraint comment",
        _element(lambda _: schema.SetConstraintComment(_check_of(_))),
        refused=NOT_SQLITE,
    ),
    Case(
        "drop constraint comment",
        _element(lambda _: schema.DropConstraintComment(_check_of(_))),
        refused=NOT_SQLITE,
    ),
    Case("sequence", lambda _: (schema.CreateSequence(sa.Sequence("s")),), refused=NOT_SQLITE),
    Case("drop sequence", lambda _: (schema.DropSequence(sa.Sequence("s")),), refused=NOT_SQLITE),
    Case("schema", lambda _: (schema.CreateSchema("s"),), refused=NOT_SQLITE),
    Case("drop schema", lambda _: (schema.DropSchema("s"),), refused=NOT_SQLITE),
    Case("schema that the URL does not name", table(ID, schema="elsewhere"), refused=NOT_SQLITE),
    *(
        Case(f"{option} on a table of SQL's own", table(ID, A, **{option: value}), refused=REFUSALS)
        for option, value in {"kvdialect_options": {"bloom": "full"}, "kvdialect_format": "bincode"}.items()
    ),
    *(
        Case(f"index with {option} on a table of SQL's own", _index("a", **{option: value}), refused=REFUSALS)
        for option, value in {
            "kvdialect_options": {"bloom": "full"},
            "kvdialect_include": ["b"],
            "kvdialect_kind": "multi",
        }.items()
    ),
    Case(
        "index with kvdialect_where on a table of SQL's own",
        _index_of(lambda t: sa.Index("ix", t.c.a, unique=True, kvdialect_where=t.c.b == "on")),
        good=("INSERT INTO t (a, b) VALUES (1, 'off'), (1, 'off'), (1, 'on')",),
        bad=("INSERT INTO t (a, b) VALUES (1, 'on')",),
        refused=REFUSALS,
    ),
    Case(
        "trigger",
        lambda _: (
            sa.DDL("CREATE TABLE t (a)"),
            sa.DDL("CREATE TRIGGER tr AFTER INSERT ON t BEGIN DELETE FROM t; END"),
        ),
        refused=REFUSALS,
    ),
    Case("full text table", lambda _: (sa.DDL("CREATE VIRTUAL TABLE f USING fts5(a)"),), refused=REFUSALS),
    Case("attach", lambda _: (sa.DDL("ATTACH 'other.db' AS other"),), refused=REFUSALS),
]


def _late(t: Table) -> sa.Index:
    """An index that create_all does not see."""
    other = Table(t.name, MetaData(), Column("id", Integer, primary_key=True), Column("a", Integer))
    return sa.Index("late", other.c.a, unique=True)


UTC = dt.timezone.utc  # noqa: UP017

TYPES: list[tuple[Any, Any]] = [
    (sa.ARRAY(sa.Integer), [1, -2, None]),
    (UnsignedInteger(64), 2**64 - 1),
    (UnsignedInteger(16), 65535),
    (SignedInteger(8), -128),
    (FixedBinary(4), b"\0\xff\0\1"),
    (Structured(list[str]), ["a", "é"]),
    (sa.BIGINT(), 2**63 - 1),
    (sa.BINARY(3), b"\x00\xff\x01"),
    (sa.BLOB(), b"\xff"),
    (sa.BOOLEAN(), True),
    (sa.CHAR(3), "abc"),
    (sa.CLOB(), "text"),
    (sa.DATE(), dt.date(2020, 2, 29)),
    (sa.DATETIME(), dt.datetime(2020, 2, 29, 1, 2, 3, 4)),  # noqa: DTZ001
    (sa.DECIMAL(10, 2), decimal.Decimal("12.25")),
    (sa.DOUBLE(), 1.5),
    (sa.DOUBLE_PRECISION(), 1.5),
    (sa.FLOAT(), 0.1),
    (sa.INTEGER(), -5),
    (sa.JSON(), {"a": [1, None, "é"]}),
    (sa.NCHAR(3), "äöü"),
    (sa.NUMERIC(10, 3), decimal.Decimal("0.125")),
    (sa.NVARCHAR(9), "日本"),
    (sa.REAL(), -0.25),
    (sa.SMALLINT(), 7),
    (sa.TEXT(), "n\0m"),
    (sa.TIME(), dt.time(1, 2, 3)),
    (sa.TIMESTAMP(), dt.datetime(2020, 2, 29, 1, 2, 3)),  # noqa: DTZ001
    (sa.UUID(), uuid.UUID(int=5)),
    (sa.VARBINARY(4), b"\x00"),
    (sa.VARCHAR(4), ""),
    (sa.BigInteger(), -(2**63)),
    (sa.Boolean(), False),
    (sa.Date(), dt.date(1, 1, 1)),
    (sa.DateTime(), dt.datetime(9999, 12, 31, 23, 59, 59, 999999)),  # noqa: DTZ001
    (sa.DateTime(timezone=True), dt.datetime(2020, 1, 1, 12, tzinfo=UTC)),
    (sa.Double(), 1e300),
    (sa.Enum(Colour), Colour.BLUE),
    (sa.Float(), float("inf")),
    (sa.Integer(), 2**40),
    (sa.Interval(), dt.timedelta(days=-1, microseconds=1)),
    (sa.LargeBinary(), b""),
    (sa.Numeric(12, 4), decimal.Decimal("-1.0625")),
    (sa.PickleType(), {"a": 1}),
    (sa.SmallInteger(), 0),
    (sa.String(), "é"),
    (sa.Text(), "x" * 400),
    (sa.Time(), dt.time(23, 59, 59, 999999)),
    (sa.Unicode(), "é"),
    (sa.UnicodeText(), "日"),
    (sa.Uuid(), uuid.UUID(int=2**127)),
    (sa.Uuid(as_uuid=False), "00000000-0000-0000-0000-000000000005"),
]
