"""The schema changes while sessions are at work: no writer misses an index, none misreads a record."""

from __future__ import annotations

import pytest
from consistency import check_consistency
from orm_records import Coin, coin, coin_id, models
from sqlalchemy import Index

from kvdialect import Mapped, Session, UInt8, UInt32, create_engine, exc, field, mapped, registry
from kvdialect.schema.definition import IndexDefinition, IndexPart

AMOUNT = IndexDefinition(name="coin_by_amount", parts=(IndexPart(name="amount"),))
UNIQUE_AMOUNT = IndexDefinition(name="coin_by_amount", parts=(IndexPart(name="amount"),), unique=True)


@pytest.fixture(params=["same engine", "another engine"])
def both(request, engine_name, tmp_path):
    """An engine for sessions, and the one that changes the schema: the same, or a second on the same store."""
    url = "memory:///both" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store"
    with create_engine(url) as engine:
        models.create_all(engine)
        if request.param == "same engine":
            yield engine, engine
        else:
            with create_engine(url) as other:
                yield engine, other


def test_a_pending_transaction_writes_the_entries_of_a_new_index(both):
    """Rows flushed before an index was made get their entries in it, in the same commit."""
    engine, editor = both
    with Session(engine) as session:
        session.add_all([coin(n) for n in range(5)])
        session.commit()
        session.add(coin(10))
        session.get_one(Coin, coin_id(1)).amount = 999
        session.delete(session.get_one(Coin, coin_id(2)))
        session.flush()
        editor.create_index("coin_records", AMOUNT)
        session.commit()

    check_consistency(engine)
    with Session(engine) as session:
        assert [c.amount for c in session.scan("coin_by_amount")] == [0, 30, 40, 100, 999]


def test_a_new_unique_index_refuses_the_pending_duplicate(both):
    """The rows fit when they were flushed; by the commit there is a unique index that they break."""
    engine, editor = both
    with Session(engine) as session:
        session.add(coin(1))
        session.commit()
        session.add(coin(2, amount=10))
        session.flush()
        editor.create_index("coin_records", UNIQUE_AMOUNT)
        with pytest.raises((exc.IntegrityError, exc.ConflictError), match="coin_by_amount"):
            session.commit()

    check_consistency(engine)


def test_an_index_dropped_meanwhile_is_no_obstacle(both):
    """The commit leaves out the entries of an index that is gone."""
    engine, editor = both
    editor.create_index("coin_records", AMOUNT)
    with Session(engine) as session:
        session.add(coin(1))
        session.flush()
        editor.drop_index("coin_by_amount")
        session.commit()

    check_consistency(engine)


def test_a_table_dropped_meanwhile_is_said(both):
    """SchemaChanged, and the session goes on."""
    engine, editor = both
    with Session(engine) as session:
        session.add(coin(1))
        session.flush()
        editor.drop_table("coin_records")
        with pytest.raises(exc.SchemaChanged, match="coin_records"):
            session.commit()
        with pytest.raises(exc.SchemaMismatch, match="create_all"):
            session.get(Coin, coin_id(1))


def test_an_index_can_be_made_from_sqlalchemys(engine):
    """create_index takes an Index over the record's columns, with its options."""
    with Session(engine) as session, session.begin():
        session.add_all([coin(n, spent_height=n or None) for n in range(5)])

    engine.create_index(
        "coin_records", Index("by_spent", Coin.spent_height, kvdialect_where=lambda c: c.spent_height.is_not(None))
    )

    check_consistency(engine)
    with Session(engine) as session:
        assert [c.spent_height for c in session.scan("by_spent")] == [1, 2, 3, 4]
    Coin.__table__.indexes.discard(next(i for i in Coin.__table__.indexes if i.name == "by_spent"))


def _first(local):
    @mapped(local)
    class Item:
        __tablename__ = "items"
        id: Mapped[int] = field(primary_key=True)
        old: Mapped[str] = "?"
        size: Mapped[UInt8] = 0
        gone: Mapped[str | None] = None

    return Item


def _second(local):
    @mapped(local)
    class Item:
        __tablename__ = "items"
        __table_args__ = (Index("items_by_size", "size"),)
        id: Mapped[int] = field(primary_key=True)
        name: Mapped[str] = field(default="?", previously="old")
        size: Mapped[UInt32] = 0
        tags: Mapped[list[str]] = field(factory=list)
        rank: Mapped[int] = 7

    return Item


@pytest.fixture
def url(engine_name, tmp_path):
    return "memory:///evolving" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store"


def test_old_rows_read_under_the_new_model(url):
    """Renamed, widened, dropped and added fields, and a new index: nothing is rewritten, all is read."""
    before, after = registry(), registry()
    old, new = _first(before), _second(after)
    with create_engine(url) as engine:
        before.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all([old(n, f"n{n}", n, "x") for n in range(20)])
        with pytest.raises(exc.SchemaMismatch) as caught:
            after.create_all(engine)
        for word in ("old", "name", "size", "gone", "tags", "rank", "items_by_size", "upgrade"):
            assert word in str(caught.value)
        with Session(engine) as session, pytest.raises(exc.SchemaMismatch, match="upgrade"):
            session.get(new, 3)
        seen = []
        after.upgrade(engine, progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (20, 20)
        assert after.differences(engine) == []

        with Session(engine) as session:
            item = session.get_one(new, 3)
            assert (item.name, item.size, item.tags, item.rank) == ("n3", 3, [], 7)
            item.tags.append("changed")
            item.size = 70_000
            session.commit()
            assert session.lookup("items_by_size", 70_000) == [item]
            assert [i.id for i in session.scan(new)] == list(range(20))
        check_consistency(engine)
        with Session(engine) as session, pytest.raises(exc.SchemaMismatch):
            session.get(old, 3)


def test_a_session_that_runs_while_fields_change_is_told(url):
    """Its commit is refused with SchemaChanged, and nothing of it is written."""
    before, after = registry(), registry()
    old, _ = _first(before), _second(after)
    with create_engine(url) as engine, create_engine(url) as other:
        before.create_all(engine)
        with Session(engine) as session:
            session.add(old(1))
            session.flush()
            after.upgrade(other)
            with pytest.raises(exc.SchemaChanged, match="items"):
                session.commit()
        check_consistency(engine)
        assert engine.stats()["tables"]["items"]["rows"] == 0


def _narrow(local):
    @mapped(local)
    class Item:
        __tablename__ = "items"
        id: Mapped[int] = field(primary_key=True)
        size: Mapped[UInt8] = 0

    return Item


def _wide(local):
    @mapped(local)
    class Item:
        __tablename__ = "items"
        id: Mapped[int] = field(primary_key=True)
        size: Mapped[UInt8] = 0
        note: Mapped[str | None] = None

    return Item


def test_the_first_read_of_a_session_goes_by_the_fields_of_its_own_moment(url):
    """Fields that came and went make another version: a get read by the fields last seen, and found damage."""
    narrow, wide = registry(), registry()
    item, _ = _narrow(narrow), _wide(wide)
    with create_engine(url) as engine, create_engine(url) as other:
        narrow.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(item(1, 1))
        session = Session(engine)
        assert session.get_one(item, 1).size == 1
        session.rollback()  # the session knows the class, and has no snapshot
        session.expunge_all()
        session.begin()
        wide.upgrade(other)
        narrow.upgrade(other)
        with Session(other) as writer, writer.begin():
            writer.add(item(2, 2))

        assert session.get_one(item, 2).size == 2
        session.close()
