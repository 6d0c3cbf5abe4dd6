"""DROP TABLE of a table of records: part of its transaction, as that of a table that SQL has made."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from sqlalchemy import ForeignKey, Index

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry

models = registry()


@mapped(models)
class Town:
    __tablename__ = "towns"
    __table_args__ = (Index("towns_by_name", "name"),)
    id: Mapped[int | None] = field(primary_key=True, autoincrement=True, default=None)
    name: Mapped[str] = ""


@mapped(models)
class Road:
    __tablename__ = "roads"
    id: Mapped[int] = field(primary_key=True)
    town: Mapped[int | None] = field(ForeignKey("towns.id", ondelete="CASCADE"), default=None)


@pytest.fixture
def engine(url):
    with create_engine(url) as opened:
        models.create_all(opened)
        with Session(opened) as session, session.begin():
            session.add_all([Town(name="ulm"), Town(name="bonn")])
            session.flush()
            session.add(Road(1, 1))
        yield opened


def _names(engine):
    return sorted(sa.inspect(engine.sqlalchemy()).get_table_names())


def _run(connection, *statements):
    for statement in statements:
        connection.execute(sa.text(statement))


def test_a_rollback_brings_it_back(engine):
    """The records were gone at once, whatever became of the transaction."""
    with engine.sqlalchemy().connect() as connection:
        _run(connection, "INSERT INTO towns (name) VALUES ('köln')", "DROP TABLE roads", "DROP TABLE towns")
        with pytest.raises(sa.exc.OperationalError, match="no such table"):
            _run(connection, "SELECT * FROM towns")
        connection.rollback()
        assert connection.execute(sa.text("SELECT count(*) FROM towns")).scalar() == 2
    assert _names(engine) == ["roads", "towns"]
    with Session(engine) as session, session.begin():
        assert [town.name for town in session.scan("towns_by_name")] == ["bonn", "ulm"]
        session.add(Town(name="kiel"))
    assert engine.verify(apart=False).ok


def test_a_savepoint_brings_it_back(engine):
    """It ended the transaction, and the savepoint with it, without a word."""
    with engine.sqlalchemy().begin() as connection:
        _run(connection, "INSERT INTO towns (name) VALUES ('köln')")
        savepoint = connection.begin_nested()
        _run(
            connection, "DROP TABLE roads", "DROP TABLE towns", "CREATE TABLE towns (a)", "INSERT INTO towns VALUES (1)"
        )
        savepoint.rollback()
        _run(connection, "INSERT INTO towns (name) VALUES ('kiel')")
    with Session(engine) as session:
        assert [town.name for town in session.scan("towns_by_name")] == ["bonn", "kiel", "köln", "ulm"]
        assert session.get(Road, 1) is not None
    assert engine.verify(apart=False).ok


def test_a_commit_frees_its_families(engine):
    """With what was written to it before, and its ids; the name may be had anew by both doors."""
    with engine.sqlalchemy().begin() as connection:
        _run(connection, "INSERT INTO towns (name) VALUES ('köln')", "DROP TABLE towns")
        assert connection.execute(sa.text("SELECT count(*) FROM roads")).scalar() == 0  # as its foreign key says
    assert {"towns", "towns_by_name"}.isdisjoint(engine.backend.column_families())
    assert _names(engine) == ["roads"]
    assert engine.verify(apart=False).ok
    with Session(engine) as session, pytest.raises(exc.SchemaMismatch):
        session.get(Town, 1)
    models.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(town := Town(name="kiel"))
        session.flush()
        assert town.id == 1


def test_a_table_of_its_name_by_sql_in_the_same_transaction(engine):
    """The catalog has the new one, and the families of the old one go."""
    with engine.sqlalchemy().begin() as connection:
        _run(
            connection, "DROP TABLE roads", "DROP TABLE towns", "CREATE TABLE towns (a)", "INSERT INTO towns VALUES (7)"
        )
    with engine.sqlalchemy().connect() as connection:
        assert connection.execute(sa.text("SELECT * FROM towns")).all() == [(7,)]
    assert {"towns", "towns_by_name", "roads"}.isdisjoint(engine.backend.column_families())
    assert engine.verify(apart=False).ok


def test_beside_other_changes_of_the_schema(engine):
    """A change that clears up what others have left took a table that was just dropped for one that stays."""
    other = registry()

    @mapped(other)
    class Other:
        __tablename__ = "others"
        id: Mapped[int] = field(primary_key=True)

    stop = threading.Event()
    failed = []

    def change():
        try:
            while not stop.is_set():
                other.create_all(engine)
                other.drop_all(engine)
        except exc.Error as error:
            failed.append(error)

    thread = threading.Thread(target=change)
    thread.start()
    door = engine.sqlalchemy()
    try:
        for _ in range(12):
            while True:
                try:
                    with door.begin() as connection:
                        _run(connection, "DROP TABLE roads", "DROP TABLE towns")
                except sa.exc.OperationalError as error:
                    if not isinstance(error.orig, exc.ConflictError):
                        raise
                else:
                    break
            models.create_all(engine)
            engine.transaction(lambda session: session.add(Town(name="ulm")), retries=100)
    finally:
        stop.set()
        thread.join()
    assert not failed
    assert engine.verify(apart=False).ok


def test_drop_all_of_what_was_reflected(engine):
    """Tables of records and of SQL, in one transaction and in any order."""
    door = engine.sqlalchemy()
    with door.begin() as connection:
        _run(connection, "CREATE TABLE a (x)", "CREATE TABLE z (x)", "INSERT INTO a VALUES (1)")
    metadata = sa.MetaData()
    metadata.reflect(door)
    metadata.drop_all(door)
    assert _names(engine) == []
    assert {"towns", "roads"}.isdisjoint(engine.backend.column_families())


def test_a_session_that_writes_to_it_meanwhile(engine):
    """It is told that the table is gone, and writes nothing."""
    session = Session(engine)
    session.add(Town(name="trier"))
    session.flush()
    with engine.sqlalchemy().begin() as connection:
        _run(connection, "DROP TABLE roads", "DROP TABLE towns")
    with pytest.raises((exc.SchemaChanged, exc.SchemaMismatch, exc.ConflictError)):
        session.commit()
    session.close()
    assert engine.verify(apart=False).ok


def test_indexes_of_records_are_not_changed_within_a_savepoint(engine):
    """They are made and dropped at once, which would end it."""
    with engine.sqlalchemy().connect() as connection:
        with connection.begin_nested(), pytest.raises(sa.exc.OperationalError, match="has a savepoint"):
            _run(connection, "CREATE INDEX more ON towns (name, id)")
        with pytest.raises(sa.exc.OperationalError, match=r"savepoint|already"), connection.begin_nested():
            _run(connection, "DROP INDEX towns_by_name")


def test_a_store_that_was_left_before_the_families_went(url, engine_name, monkeypatch):
    """The next opening drops them."""
    if engine_name == "memory":
        pytest.skip("a memory store ends with its engine")
    from kvdialect.store.ddl import SchemaEditor

    with create_engine(url) as engine:
        models.create_all(engine)
        monkeypatch.setattr(SchemaEditor, "finish_drops", lambda _: None)
        with engine.sqlalchemy().begin() as connection:
            _run(connection, "DROP TABLE roads", "DROP TABLE towns")
        assert "towns" in engine.backend.column_families()
        monkeypatch.undo()
    with create_engine(url) as engine:
        assert {"towns", "towns_by_name", "roads"}.isdisjoint(engine.backend.column_families())
        models.create_all(engine)
        assert engine.verify(apart=False).ok
