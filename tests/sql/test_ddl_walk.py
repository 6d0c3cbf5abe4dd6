"""All DDL that the compiler can emit: each constraint is enforced, or its DDL is refused.

The methods of the compiler are found by looking at it, so that one that SQLAlchemy adds fails here until there is a
case for it.
"""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from ddl_cases import CASES, TYPES, Case
from sqlalchemy import Column, Integer, MetaData, Table
from sqlalchemy import exc as sa_exc

# Called by no DDL of ours, with the reason.
NEVER_CALLED = {
    "visit_unsupported_compilation": "raises, for what has no method",
    "visit_identity_column": "for databases with identity columns; Identity() is SQLite's own choice of ids",
    "visit_JSONB": "a type of SQLite's own that no generic type becomes",
    "visit_user_defined": "writes what the user's class says",
    "visit_real": "no generic type of SQLAlchemy's has this name",
    "visit_null": "refused: a column needs a type",
    "visit_NCLOB": "no type of SQLAlchemy's has this name",
}


@pytest.fixture
def sa_engine(engine_name, tmp_path):
    url = "kvdialect+memory://" if engine_name == "memory" else f"kvdialect+{engine_name}:////{tmp_path}/store"
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


def define(connection: sa.Connection, case: Case) -> None:
    """Carry out a case's DDL."""
    metadata = MetaData()
    elements = case.build(metadata) or ()
    metadata.create_all(connection)
    for statement in case.before:
        connection.exec_driver_sql(statement)
    for element in elements:
        connection.execute(element)


def refused(connection: sa.Connection, case: Case) -> bool:
    """Carry out and commit a case's DDL, unless it is refused as it may be."""
    try:
        define(connection, case)
    except case.refused:
        connection.rollback()
        return True
    connection.commit()
    return False


def carry_out(connection: sa.Connection, statement: str) -> None:
    """Execute and commit: a deferred foreign key speaks at the commit."""
    connection.exec_driver_sql(statement)
    connection.commit()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_accepted_is_enforced(sa_engine, case):
    """A constraint that is accepted and not enforced is worse than none; what is refused must say so."""
    with sa_engine.connect() as connection:
        if refused(connection, case):
            return
        assert not case.refused or case.bad, f"{case.name} was accepted, and nothing shows that it is enforced"

        for statement in case.good:
            connection.exec_driver_sql(statement)
            connection.commit()
        before = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
        for statement in case.bad:
            with pytest.raises(case.error):
                carry_out(connection, statement)
            connection.rollback()
        assert connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == before
        for query, rows in case.shows:
            assert [tuple(row) for row in connection.exec_driver_sql(query)] == rows, query


@pytest.mark.parametrize("case", [case for case in CASES if not case.refused], ids=lambda case: case.name)
@pytest.mark.engine("lmdb")
def test_a_store_opened_again_still_enforces(tmp_path, case):
    """Constraints must come back from the catalog as they were made."""
    url = f"kvdialect+lmdb:////{tmp_path}/store"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        define(connection, case)
        if not case.in_catalog:
            engine.dispose()
            return
        for statement in case.good:
            connection.exec_driver_sql(statement)
    engine.dispose()

    engine = sa.create_engine(url)
    with engine.connect() as connection:
        for query, rows in case.shows:
            assert [tuple(row) for row in connection.exec_driver_sql(query)] == rows, query
        for statement in case.bad:
            with pytest.raises(case.error):
                carry_out(connection, statement)
            connection.rollback()
    engine.dispose()


@pytest.mark.parametrize(("type_", "value"), TYPES, ids=lambda value: repr(value)[:40])
@pytest.mark.engine("memory")
def test_a_type_gives_back_its_values(type_, value):
    """A value must come back as it went in, through a table that was made by DDL, and be found by it."""
    engine = sa.create_engine("kvdialect+memory://")
    t = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("v", type_, index=True))
    with engine.begin() as connection:
        t.metadata.create_all(connection)
        connection.execute(t.insert(), [{"v": value}, {"v": None}])
        stored = connection.scalars(sa.select(t.c.v).order_by(t.c.id)).all()
        found = None if isinstance(type_, sa.PickleType | sa.JSON) else t.c.v == value
        matches = 1 if found is None else connection.scalar(sa.select(sa.func.count()).where(found))
    engine.dispose()

    assert stored == [value, None]
    assert type(stored[0]) is type(value)
    assert matches == 1


@pytest.mark.engine("memory")
def test_every_method_of_the_compiler_has_a_case(monkeypatch):
    """What the compiler can emit and no case emits is unproven."""
    engine = sa.create_engine("kvdialect+memory://")
    called = set()

    def watched(cls: type) -> set[str]:
        names = {name for name in dir(cls) if name.startswith("visit_")}
        for name in names:
            original = getattr(cls, name)

            def visit(self, *arguments, _name=name, _original=original, **options):
                called.add(_name)
                return _original(self, *arguments, **options)

            monkeypatch.setattr(cls, name, visit)
        return names

    names = watched(engine.dialect.ddl_compiler) | watched(engine.dialect.type_compiler_cls)
    # The instance resolved its class before.
    for case in CASES:
        metadata = MetaData()
        elements = list(case.build(metadata) or ())
        for table in metadata.tables.values():
            elements.append(sa.schema.CreateTable(table))
            elements += [sa.schema.CreateIndex(index) for index in table.indexes]
        for element in elements:
            try:
                element.compile(dialect=engine.dialect)
            except (sa_exc.CompileError, sa_exc.NotSupportedError):
                assert case.refused, case.name
    for type_, _ in TYPES:
        type_.compile(dialect=engine.dialect)
    engine.dispose()

    assert names - called == names & NEVER_CALLED.keys() - called
    assert called & NEVER_CALLED.keys() == set()
