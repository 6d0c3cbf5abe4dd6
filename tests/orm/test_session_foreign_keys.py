"""Foreign keys of records, where a session enforces them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import ForeignKey, ForeignKeyConstraint, delete, event, insert, select, text, update
from sqlalchemy import create_engine as create_sqlalchemy_engine
from sqlalchemy import exc as sa_exc

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry, relationship, sessionmaker
from kvdialect.store.transaction import Transaction

models = registry()


@mapped(models)
class Parent:
    __tablename__ = "parents"
    id: Mapped[int] = field(primary_key=True)
    code: Mapped[str | None] = field(default=None, unique=True)


@mapped(models)
class Strict:
    """Refers with an index, by a named constraint without action."""

    __tablename__ = "strict"
    __table_args__ = (ForeignKeyConstraint(["parent_id"], ["parents.id"], name="strict_parent"),)
    id: Mapped[int] = field(primary_key=True)
    parent_id: Mapped[int | None] = field(default=None, index=True)


@mapped(models)
class Scanned:
    """Refers without an index, RESTRICT."""

    __tablename__ = "scanned"
    id: Mapped[int] = field(primary_key=True)
    parent_id: Mapped[int | None] = field(ForeignKey("parents.id", ondelete="RESTRICT"), default=None)


@mapped(models)
class Cascaded:
    __tablename__ = "cascaded"
    id: Mapped[int] = field(primary_key=True)
    parent_id: Mapped[int | None] = field(
        ForeignKey("parents.id", ondelete="CASCADE", onupdate="CASCADE"), default=None, index=True
    )


@mapped(models)
class Below:
    """Refers to what is deleted by a cascade."""

    __tablename__ = "below"
    id: Mapped[int] = field(primary_key=True)
    cascaded_id: Mapped[int | None] = field(ForeignKey("cascaded.id", ondelete="cascade"), default=None, index=True)


@mapped(models)
class Nulled:
    __tablename__ = "nulled"
    id: Mapped[int] = field(primary_key=True)
    parent_id: Mapped[int | None] = field(
        ForeignKey("parents.id", ondelete="SET NULL", onupdate="SET NULL"), default=None, index=True
    )


@mapped(models)
class Defaulted:
    __tablename__ = "defaulted"
    id: Mapped[int] = field(primary_key=True)
    parent_id: Mapped[int] = field(ForeignKey("parents.id", ondelete="SET DEFAULT"), default=0)


@mapped(models)
class Coded:
    """Refers to unique columns."""

    __tablename__ = "coded"
    id: Mapped[int] = field(primary_key=True)
    code: Mapped[str | None] = field(ForeignKey("parents.code", ondelete="CASCADE"), default=None, index=True)


@mapped(models)
class Late:
    """Refers to a parent that may come until the commit."""

    __tablename__ = "late"
    id: Mapped[int] = field(primary_key=True)
    parent_id: Mapped[int | None] = field(
        ForeignKey("parents.id", deferrable=True, initially="DEFERRED"), default=None, index=True
    )


@mapped(models)
class Tree:
    __tablename__ = "trees"
    id: Mapped[int] = field(primary_key=True)
    up_id: Mapped[int | None] = field(ForeignKey("trees.id", ondelete="CASCADE"), default=None, index=True)


def filled(url):
    opened = create_engine(url, foreign_keys=True)
    models.create_all(opened)
    with Session(opened) as session, session.begin():
        session.add_all([Parent(0), Parent(1, "one"), Parent(2, "two")])
    return opened


@pytest.fixture
def engine():
    with filled("memory://") as opened:
        yield opened


def put(engine, *objects):
    with Session(engine) as session, session.begin():
        session.add_all(objects)


def drop(engine, cls, key):
    with Session(engine) as session, session.begin():
        session.delete(session.get_one(cls, key))


def stored(engine, cls, name="id"):
    with Session(engine) as session:
        return [getattr(each, name) for each in session.scan(cls)]


# ------------------------------------------------------------------------------------------------ asked for


def test_a_session_enforces_what_it_is_asked_to():
    """A session's own word counts before the engine's, which the URL may say; without any nothing is enforced."""
    with create_engine("memory://") as engine:
        models.create_all(engine)
        put(engine, Strict(1, 9))
        with pytest.raises(exc.IntegrityError):
            sessionmaker(engine, foreign_keys=True)().execute(insert(Strict), {"id": 2, "parent_id": 9})
    with create_engine("memory://?foreign_keys=on") as engine:
        models.create_all(engine)
        with pytest.raises(exc.IntegrityError):
            put(engine, Strict(1, 9))
        with Session(engine, foreign_keys=False) as session, session.begin():
            session.add(Strict(1, 9))
        with pytest.raises(exc.IntegrityError):
            engine.transaction(lambda session: session.add(Strict(2, 9)))
    with pytest.raises(exc.ArgumentError, match="foreign_keys"):
        create_engine("memory://", foreign_keys="some")


# ------------------------------------------------------------------------------------------------ children


def test_a_missing_parent_is_an_integrity_error(engine):
    """The message and the error's attributes name the constraint, the table, its columns and the value."""
    with Session(engine) as session:
        session.add(Strict(1, 9))
        with pytest.raises(exc.IntegrityError) as caught:
            session.flush()
    error: Any = caught.value
    assert error.message == (
        "FOREIGN KEY constraint failed (strict has (parent_id=9), which parents has not; constraint strict_parent)"
    )
    assert (error.table, error.columns, error.values, error.parent) == ("strict", ("parent_id",), (9,), "parents")
    assert stored(engine, Strict) == []


def test_parents_may_come_with_their_children(engine):
    """What a flush looks at is all that it writes: order is no matter, nor is None, nor a row that refers to itself."""
    put(engine, Strict(1, 7), Strict(2), Parent(7), Tree(2, up_id=3), Tree(3, up_id=3), Coded(1, "one"))

    assert stored(engine, Strict, "parent_id") == [7, None]
    assert stored(engine, Tree, "up_id") == [3, 3]


def test_a_change_is_looked_at(engine):
    """Setting a foreign key to what is not there fails; a change of other fields looks at nothing."""
    put(engine, Strict(1, 1), Coded(1, "one"))
    with Session(engine) as session:
        session.get_one(Strict, 1).parent_id = 9
        with pytest.raises(exc.IntegrityError, match=r"strict has \(parent_id=9\)"):
            session.commit()
        session.get_one(Coded, 1).code = "nine"
        with pytest.raises(exc.IntegrityError, match=r"coded has \(code='nine'\)"):
            session.commit()
        session.get_one(Strict, 1).parent_id = 2
        session.commit()


@pytest.mark.parametrize(
    "statement",
    [
        insert(Strict).values(id=5, parent_id=9),
        update(Strict).values(parent_id=9),
        delete(Parent).where(Parent.id == 1),
        update(Parent).where(Parent.id == 1).values(id=11),
    ],
    ids=lambda statement: str(statement).split()[0],
)
def test_statements_are_looked_at(engine, statement):
    """insert, update and delete fail as a flush does, and nothing of the statement is left in the transaction."""
    put(engine, Strict(1, 1), Cascaded(1, 1))
    with Session(engine) as session:
        with pytest.raises(exc.IntegrityError, match="FOREIGN KEY constraint failed"):
            session.execute(statement)
        assert session.scalars(select(Strict.parent_id)).all() == [1]
        assert session.scalars(select(Cascaded.parent_id)).all() == [1]
        session.commit()
    assert stored(engine, Parent) == [0, 1, 2]


def test_a_first_import_is_looked_at(engine):
    """bulk_load goes by the engine's setting."""
    with pytest.raises(exc.IntegrityError, match="which parents has not"):
        engine.bulk_load(Strict, [{"id": 1, "parent_id": 1}, {"id": 2, "parent_id": 9}])
    assert engine.bulk_load(Strict, [{"id": 1, "parent_id": 1}]) == 1


# ------------------------------------------------------------------------------------------------ parents


@pytest.mark.parametrize("child", [Strict, Scanned])
def test_a_parent_with_children_stays(engine, child):
    """Without an action, and with RESTRICT, a parent that is referred to cannot be deleted; its children first."""
    put(engine, child(1, 1))
    with pytest.raises(exc.IntegrityError, match=rf"{child.__tablename__} has \(parent_id=1\)"):
        drop(engine, Parent, 1)
    assert stored(engine, Parent) == [0, 1, 2]

    with Session(engine) as session, session.begin():
        session.delete_all([session.get_one(Parent, 1), session.get_one(child, 1)])
    assert stored(engine, Parent) == [0, 2]


def test_actions_on_delete(engine):
    """CASCADE deletes, as deep as it goes; SET NULL and SET DEFAULT let children refer to something else."""
    put(
        engine, Cascaded(1, 1), Cascaded(2, 2), Below(1, 1), Below(2, 2), Nulled(1, 1), Defaulted(1, 1), Coded(1, "one")
    )
    drop(engine, Parent, 1)

    assert stored(engine, Cascaded) == stored(engine, Below) == [2]
    assert stored(engine, Nulled, "parent_id") == [None]
    assert stored(engine, Defaulted, "parent_id") == [0]
    assert stored(engine, Coded) == []


def test_set_default_needs_its_parent(engine):
    """What the default refers to has to be there."""
    put(engine, Defaulted(1, 1))
    drop(engine, Parent, 0)
    with pytest.raises(exc.IntegrityError, match=r"defaulted has \(parent_id=0\)"):
        drop(engine, Parent, 1)


def test_actions_on_update(engine):
    """A parent with another key takes its children along, or leaves them with NULL."""
    put(engine, Cascaded(1, 1), Nulled(1, 1))
    with Session(engine) as session, session.begin():
        cascaded = session.get_one(Cascaded, 1)
        session.get_one(Parent, 1).id = 11
        session.flush()
        assert cascaded.parent_id == 11
    assert stored(engine, Cascaded, "parent_id") == [11]
    assert stored(engine, Nulled, "parent_id") == [None]

    put(engine, Strict(1, 2))
    with Session(engine) as session:
        session.get_one(Parent, 2).id = 12
        with pytest.raises(exc.IntegrityError, match=r"strict has \(parent_id=2\)"):
            session.flush()


def test_a_tree_goes_as_a_whole(engine):
    """A cascade within one table, deeper than Python's stack."""
    put(engine, *[Tree(number, number - 1 if number else None) for number in range(1050)])
    drop(engine, Tree, 0)
    assert stored(engine, Tree) == []


def test_a_parent_that_is_replaced_keeps_its_children(engine):
    """What is deleted and added again in one flush is there."""
    put(engine, Strict(1, 1), Cascaded(1, 1))
    with Session(engine) as session, session.begin():
        session.delete(session.get_one(Parent, 1))
        session.add(Parent(1, "again"))
    assert stored(engine, Cascaded) == [1]


def test_objects_follow_actions(engine):
    """Objects of the session are as the store is: gone, or with another foreign key; a rollback brings them back."""
    put(engine, Cascaded(1, 1), Nulled(1, 1))
    with Session(engine) as session:
        cascaded, nulled = session.get_one(Cascaded, 1), session.get_one(Nulled, 1)
        session.delete(session.get_one(Parent, 1))
        session.flush()
        assert cascaded not in session
        assert nulled.parent_id is None
        session.rollback()
        assert cascaded in session
        assert nulled.parent_id == 1
        session.execute(delete(Parent).where(Parent.id == 1))
        assert session.get(Cascaded, 1) is None
        assert nulled.parent_id is None


def test_a_failed_savepoint_leaves_the_transaction(engine):
    """What a flush that failed was told of does not trouble the next one."""
    with Session(engine) as session, session.begin():
        with pytest.raises(exc.IntegrityError), session.begin_nested():
            session.add(Strict(1, 9))
        session.add(Strict(2, 1))
    assert stored(engine, Strict) == [2]


# ------------------------------------------------------------------------------------------------ others


@pytest.mark.parametrize("isolation_level", ["SNAPSHOT", "SERIALIZABLE"])
@pytest.mark.parametrize("child", [Strict, Scanned, Cascaded])
@pytest.mark.parametrize("first", ["child", "parent"])
def test_two_transactions_leave_no_orphan(engine, isolation_level, child, first):
    """One adds a child, the other deletes its parent: whoever commits second has a conflict."""
    with (
        Session(engine, isolation_level=isolation_level) as one,
        Session(engine, isolation_level=isolation_level) as two,
    ):
        one.add(child(1, 1))
        one.flush()
        two.delete(two.get_one(Parent, 1))
        two.flush()
        winner, loser = (one, two) if first == "child" else (two, one)
        winner.commit()
        with pytest.raises(exc.ConflictError):
            loser.commit()
    assert (stored(engine, child), 1 in stored(engine, Parent)) == (([1], True) if first == "child" else ([], False))


def test_other_children_are_no_conflict(engine):
    """A parent goes while children of another parent come, and a parent is changed while children come."""
    put(engine, Strict(1, 2))
    with Session(engine) as one, Session(engine) as two, Session(engine) as three:
        one.delete(one.get_one(Parent, 1))
        one.flush()
        two.add(Strict(2, 2))
        two.flush()
        three.get_one(Parent, 2).code = "changed"
        three.commit()
        two.commit()
        one.commit()
    assert stored(engine, Strict) == [1, 2]


def test_without_an_index_the_whole_table_is_watched(engine):
    """A parent that goes conflicts with any change of a table that refers to it without an index."""
    with Session(engine) as one, Session(engine) as two:
        one.delete(one.get_one(Parent, 1))
        one.flush()
        two.add(Scanned(1, 2))
        two.commit()
        with pytest.raises(exc.ConflictError):
            one.commit()


def test_foreign_keys_work_on_every_engine(url):
    """What is refused, done and kept apart is the same on each engine."""
    with filled(url) as engine:
        put(engine, Cascaded(1, 1), Nulled(1, 1), Strict(1, 2))
        with pytest.raises(exc.IntegrityError):
            put(engine, Strict(2, 9))
        with pytest.raises(exc.IntegrityError):
            drop(engine, Parent, 2)
        drop(engine, Parent, 1)
        assert (stored(engine, Cascaded), stored(engine, Nulled, "parent_id")) == ([], [None])
        with Session(engine) as one, Session(engine) as two:
            one.add(Nulled(2, 0))
            one.flush()
            two.delete(two.get_one(Parent, 0))
            two.commit()
            with pytest.raises(exc.ConflictError):
                one.commit()


# ------------------------------------------------------------------------------------------------ beside SQL


@pytest.fixture
def sql(engine):
    pytest.importorskip("apsw", reason="the SQL door needs the extra sql; runs in the environment full")
    opened = engine.sqlalchemy()
    yield opened
    opened.dispose()


def test_tables_of_sql_are_not_passed_over(engine, sql):
    """A table that SQL made and that has rows is left to the SQL door, with a refusal; an empty one is watched."""
    with sql.begin() as connection:
        connection.execute(text("create table notes (id integer primary key, parent integer references parents (id))"))
    drop(engine, Parent, 2)
    with Session(engine) as session:
        session.delete(session.get_one(Parent, 1))
        session.flush()
        with sql.begin() as connection:
            connection.execute(text("insert into notes values (1, 1)"))
        with pytest.raises(exc.ConflictError):
            session.commit()
    with pytest.raises(exc.NotSupportedError, match="notes, a table that SQL has made, refers to parents and has rows"):
        drop(engine, Parent, 1)


def test_both_doors_say_the_same(sql):
    """An error of the SQL door reads as the session's does."""
    with (
        pytest.raises(sa_exc.IntegrityError, match=r"which parents has not; constraint strict_parent\)"),
        sql.begin() as c,
    ):
        c.execute(text("insert into strict values (1, 9)"))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere.id", "refers to nowhere, a table that the store does not have"),
        ("parents.code2", r"refers to parents\(code2\), which are neither its primary key nor those of a unique index"),
    ],
)
def test_a_foreign_key_that_leads_nowhere_is_refused(engine, target, message):
    """It cannot be checked, so a row that has it is not taken."""
    others = registry()

    @mapped(others)
    class Lost:
        __tablename__ = "lost"
        id: Mapped[int] = field(primary_key=True)
        to: Mapped[int | None] = field(ForeignKey(target), default=None)

    engine.create_all([Lost.__kvdialect__.definition])
    put(engine, Lost(1))
    with pytest.raises(exc.ProgrammingError, match=message):
        put(engine, Lost(2, 1))


def test_relationships_and_foreign_keys_go_together(engine):
    """passive_deletes leaves children to ON DELETE CASCADE; those that are in the session follow."""
    others = registry()

    @mapped(others)
    class House:
        __tablename__ = "houses"
        id: Mapped[int] = field(primary_key=True, autoincrement=True)
        rooms: Mapped[list[Room]] = relationship(cascade="all, delete-orphan", passive_deletes=True)

    @mapped(others)
    class Room:
        __tablename__ = "rooms"
        id: Mapped[int] = field(primary_key=True, autoincrement=True)
        house_id: Mapped[int | None] = field(ForeignKey("houses.id", ondelete="CASCADE"), default=None, index=True)

    others.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(House(rooms=[Room(), Room()]))
    with Session(engine) as session, session.begin():
        room = session.get_one(Room, 1)
        session.delete(session.get_one(House, 1))
        session.flush()
        assert room not in session
    assert stored(engine, Room) == []


# ------------------------------------------------------------------------------------------------ as SQLite does it

TABLES = [Parent, Strict, Cascaded, Nulled, Coded, Below, Tree]
KEYS = st.integers(0, 3)
REFERENCES = st.none() | KEYS


def _statements():
    """Statements as a record class, what is done, and values."""
    rows = [st.tuples(st.just(Parent), st.just("insert"), st.fixed_dictionaries({"id": KEYS, "code": st.none()}))]
    rows.append(st.tuples(st.just(Coded), st.just("insert"), st.fixed_dictionaries({"id": KEYS, "code": st.none()})))
    for cls, column in [*[(each, "parent_id") for each in TABLES[1:4]], (Below, "cascaded_id"), (Tree, "up_id")]:
        values = {"id": KEYS, column: REFERENCES}
        rows.append(st.tuples(st.just(cls), st.just("insert"), st.fixed_dictionaries(values)))
        rows.append(st.tuples(st.just(cls), st.just("update"), st.fixed_dictionaries(values)))
    rows += [st.tuples(st.just(cls), st.just("delete"), st.fixed_dictionaries({"id": KEYS})) for cls in TABLES]
    rows.append(st.tuples(st.just(Parent), st.just("move"), st.fixed_dictionaries({"id": KEYS, "to": KEYS})))
    return st.lists(st.one_of(rows), max_size=25)


def _on_sqlite(db, cls, what, values):
    if what == "insert":
        db.execute(insert(cls), values)
    elif what == "delete":
        db.execute(delete(cls).where(cls.id == values["id"]))
    elif what == "move":
        db.execute(update(cls).where(cls.id == values["id"]).values(id=values["to"]))
    else:
        db.execute(update(cls).where(cls.id == values["id"]).values(_others(values)))


def _others(values):
    return {name: value for name, value in values.items() if name != "id"}


def _by_objects(session, cls, what, values):
    found = session.get(cls, values["id"])
    if what == "insert":
        session.add(cls(**values))
    elif found is not None and what == "delete":
        session.delete(found)
    elif found is not None:
        for name, value in ({"id": values["to"]} if what == "move" else _others(values)).items():
            setattr(found, name, value)
    session.flush()


def test_a_deferred_foreign_key_waits_for_the_commit(engine):
    """At both doors; a savepoint that is rolled back takes parents and children along."""
    with Session(engine) as session:
        session.add(Late(1, 50))
        session.flush()
        session.add(Parent(50))
        session.commit()

        session.add(Late(2, 51))
        session.flush()
        with pytest.raises(exc.IntegrityError, match="parent_id=51"):
            session.commit()
        assert session.get(Late, 2) is None

        session.add(Late(3, 52))
        session.flush()
        with session.begin_nested() as nested:
            session.add(Parent(52))
            session.flush()
            nested.rollback()
        with pytest.raises(exc.IntegrityError, match="parent_id=52"):
            session.commit()

        with session.begin_nested() as nested:
            session.add(Late(4, 53))
            session.flush()
            nested.rollback()
        session.commit()

        session.delete(session.get_one(Parent, 50))
        session.flush()
        session.add(Parent(50))
        session.commit()
        session.delete(session.get_one(Parent, 50))
        session.flush()
        with pytest.raises(exc.IntegrityError, match="parent_id=50"):
            session.commit()

        session.connection().execute(text("INSERT INTO late VALUES (5, 54)"))
        session.add(Parent(54))
        session.commit()
        session.add(Late(6, 55))
        session.flush()
        session.connection().execute(text("INSERT INTO parents VALUES (55, NULL)"))
        session.commit()
        assert {each.id: each.parent_id for each in session.scan(Late)} == {1: 50, 5: 54, 6: 55}
    assert engine.verify(apart=False).ok


@pytest.fixture(scope="module")
def pair():
    """An engine of SQLAlchemy's on SQLite, and a store, with the same tables."""
    db = create_sqlalchemy_engine("sqlite://")

    @event.listens_for(db, "connect")
    def connected(connection, _):
        connection.isolation_level = None  # the driver would begin transactions where it sees fit
        connection.execute("pragma foreign_keys = on")

    event.listen(db, "begin", lambda connection: connection.exec_driver_sql("begin"))
    models.metadata.create_all(db)
    with create_engine("memory://", foreign_keys=True) as engine:
        models.create_all(engine)
        yield db, engine
    db.dispose()


@given(statements=_statements(), by_objects=st.booleans())
def test_sqlite_does_the_same(pair, statements, by_objects):
    """Each change is taken or refused as SQLite does it, and leaves the same rows behind."""
    run = _by_objects if by_objects else _on_sqlite
    with pair[0].connect() as db, Session(pair[1]) as session:
        for cls, what, values in statements:
            try:
                with db.begin_nested():
                    _on_sqlite(db, cls, what, values)
            except sa_exc.IntegrityError:
                with pytest.raises(exc.IntegrityError), session.begin_nested():
                    run(session, cls, what, values)
            else:
                run(session, cls, what, values)
        for cls in TABLES:
            found = [cls.__kvdialect__.values(each) for each in session.scan(cls)]
            assert found == [tuple(row) for row in db.execute(select(cls.__table__).order_by(cls.id))]


def test_few_scans_serve_the_actions_of_many_parents(url, monkeypatch):
    """Without an index on the field each search reads the whole table: a hang, where many parents go."""
    models = registry()

    @mapped(models)
    class Parent:
        __tablename__ = "parents"
        id: Mapped[int] = field(primary_key=True)

    @mapped(models)
    class Child:
        __tablename__ = "children"
        id: Mapped[int] = field(primary_key=True)
        parent: Mapped[int | None] = field(ForeignKey("parents.id", ondelete="CASCADE"), default=None)

    scans = []
    scan = Transaction.scan
    with create_engine(url, foreign_keys=True) as engine:
        models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all([Parent(n) for n in range(200)])
            session.flush()
            session.add_all([Child(n, n % 200 if n % 7 else None) for n in range(700)])
        monkeypatch.setattr(
            Transaction,
            "scan",
            lambda self, cf, *args, **options: (scans.append(cf), scan(self, cf, *args, **options))[1],
        )
        with Session(engine) as session, session.begin():
            session.execute(delete(Parent).where(Parent.id >= 20))
            session.execute(delete(Parent).where(Parent.id == 3))
            assert len(scans) <= 20
            left = session.scalars(select(Child.id).order_by(Child.id)).all()
    assert left == [n for n in range(700) if not n % 7 or (n % 200 < 20 and n % 200 != 3)]
