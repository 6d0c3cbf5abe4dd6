"""Bugs of sessions that a review found, each with what went wrong."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import Index, delete, event, func, insert, select, update
from sqlalchemy import exc as sa_exc

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry
from kvdialect.schema.definition import IndexDefinition, IndexPart

models = registry()


@models.mapped
class Item:
    __tablename__ = "items"
    __table_args__ = (Index("item_x", "x"),)
    id: int = field(primary_key=True)
    x: int = 0
    y: int = 0


@mapped(models)
class Word:
    __tablename__ = "words"
    text: Mapped[str] = field(primary_key=True)


@models.mapped
class Note:
    __tablename__ = "notes"
    id: int | None = field(primary_key=True, autoincrement=True)
    tags: list[str] = field(factory=list)


@pytest.fixture
def store():
    engine = create_engine("memory://")
    models.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Item(n, x=n) for n in range(1, 6)])
    yield engine
    engine.close()


def rows(engine):
    """All items; the row count and the index must agree with them."""
    with Session(engine) as session:
        found = list(session.scan(Item))
        assert session.scalar(select(func.count()).select_from(Item)) == len(found)
        codec = engine.binding().resolve(Item.__table__).codec
        wanted = sorted(
            entry for item in found for entry, _ in codec.indexes[0].entries((item.id, item.x, item.y), item._key)
        )
        assert [entry for entry, _ in engine.backend.scan("item_x")] == wanted
        return {item.id: (item.x, item.y) for item in found}


def change_elsewhere(engine):
    with Session(engine) as session, session.begin():
        session.get(Item, 1).x = 42


@pytest.mark.parametrize("how", ["delete", "statement", "statement, stale"])
def test_a_change_after_the_deletion_does_not_bring_a_record_back(store, how):
    """It was put back without its unchanged index entries, and the row count stayed one lower."""
    session = Session(store)
    item = session.get(Item, 1)
    if how == "delete":
        session.delete(item)
        session.flush()
    else:
        if how.endswith("stale"):
            session.commit()
        session.execute(delete(Item).where(Item.id == 1))
    item.y = 5
    session.commit()

    assert 1 not in rows(store)


def test_deleting_twice_counts_once(store):
    """The second flush lowered the row count again; add() of the deleted object was passed over in silence."""
    session = Session(store)
    item = session.get(Item, 1)
    session.delete(item)
    session.flush()
    session.delete(item)
    with pytest.raises(sa_exc.InvalidRequestError, match="deleted"):
        session.add(item)
    session.commit()

    assert len(rows(store)) == 4


def test_a_statement_refreshes_objects_of_earlier_transactions(store):
    """A change of such an object overwrote what the statement had set, and left its index entry behind."""
    session = Session(store)
    item = session.get(Item, 1)
    session.commit()
    session.execute(update(Item).where(Item.id == 1).values(x=99))
    item.y = 5
    session.commit()

    assert rows(store)[1] == (99, 5)


@pytest.mark.parametrize("write", ["change", "delete"])
def test_a_streamed_object_that_the_transaction_has_overtaken_is_refused(store, write):
    """A scan that began before any write gives old values; writing them back left stale index entries."""
    session = Session(store)
    stream = iter(session.scalars(select(Item).execution_options(yield_per=1)))
    next(stream)
    session.execute(update(Item).where(Item.id == 5).values(x=99))
    last = list(stream)[-1]
    if write == "change":
        last.y = 1
    else:
        session.delete(last)
    if last.x == 5:  # else the scan has seen the update, which is as good
        with pytest.raises(exc.ProgrammingError, match="after the object was read"):
            session.commit()
    session.rollback()

    assert rows(store)[5] == (5, 0)


def test_keys_may_move_along_in_one_flush(store):
    """The second object's old key took the first object out of the identity map: its changes were lost."""
    session = Session(store)
    one, other = session.get(Item, 4), session.get(Item, 5)
    one.id, other.id = 5, 6
    session.flush()

    assert session.get(Item, 5) is one
    assert session.get(Item, 6) is other


def test_an_object_expired_after_its_flush_stays_in_the_session(store):
    """The commit took it for deleted, and later changes of it were lost."""
    session = Session(store)
    item = session.get(Item, 1)
    item.y = 5
    session.flush()
    session.expire_all()
    session.commit()
    item.y = 6
    session.commit()

    assert item in session
    assert rows(store)[1] == (1, 6)


def test_an_object_expunged_after_its_flush_is_detached(store):
    """The commit made it transient, so that adding it again was an insert of a duplicate."""
    session = Session(store)
    item = Item(9)
    session.add(item)
    session.flush()
    session.expunge(item)
    session.commit()
    item.y = 3
    session.add(item)
    session.commit()

    assert rows(store)[9] == (0, 3)


def test_a_savepoint_undoes_what_objects_were_loaded_from(store):
    """What a statement had written within the savepoint stayed in the identity map after its rollback."""
    session = Session(store)
    session.execute(update(Item).where(Item.id == 1).values(x=50))
    nested = session.begin_nested()
    session.execute(update(Item).where(Item.id == 1).values(x=99))
    session.execute(insert(Item), [{"id": 9}])
    item, inserted = session.get(Item, 1), session.get(Item, 9)
    nested.rollback()

    assert item.x == 50
    assert session.get(Item, 1) is item
    assert inserted not in session
    assert session.get(Item, 9) is None
    item.y = 1
    session.commit()
    assert rows(store)[1] == (50, 1)


def test_setting_the_same_value_is_no_read(store):
    """The object went for read, so that get() gave values of before the snapshot, unseen by SERIALIZABLE."""
    session = Session(store, isolation_level="SERIALIZABLE")
    item = session.get(Item, 1)
    session.commit()
    change_elsewhere(store)
    item.x = 1

    assert session.get(Item, 1).x == 42


def test_adding_a_detached_object_is_no_read(store):
    """As above; and a second object of a record that the session has was let in."""
    with Session(store) as session:
        item = session.get(Item, 1)
    with Session(store) as session:
        second = session.get(Item, 1)
    change_elsewhere(store)
    session = Session(store, isolation_level="SERIALIZABLE")
    session.add(item)

    assert session.get(Item, 1) is item
    assert item.x == 42
    session.commit()
    with pytest.raises(sa_exc.InvalidRequestError, match="already present"):
        session.add(second)


def test_a_commit_stores_what_listeners_of_its_flush_add(store):
    """SQLAlchemy flushes until nothing is left; they were left in session.new and lost."""
    session = Session(store)

    @event.listens_for(session, "after_flush")
    def _note(session: Session, _context: object) -> None:
        if any(isinstance(each, Item) for each in session.new):
            session.add(Note())

    session.add(Item(9))
    session.commit()

    assert not session.new
    assert session.scalar(select(func.count()).select_from(Note)) == 1


def test_an_id_that_is_moved_to_is_not_given_out(store):
    """The allocator did not hear of it, and the next insert was an IntegrityError."""
    with Session(store) as session, session.begin():
        note = Note()
        session.add(note)
        session.flush()
        note.id += 1
    with Session(store) as session, session.begin():
        session.add(Note())
    with Session(store) as session, session.begin():
        session.execute(update(Note).where(Note.id == 3).values(id=sa.literal(4)))
    with Session(store) as session, session.begin():
        session.add(Note())

    with Session(store) as session:
        assert sorted(note.id for note in session.scan(Note)) == [2, 4, 5]


def test_reading_a_row_of_an_older_version_is_no_change(store):
    """A record with a list was compared by its bytes: after an upgrade each read became a write."""
    with Session(store) as session, session.begin():
        session.add(Note(tags=["a"]))
    later = registry()

    @later.mapped
    class LaterNote:
        __tablename__ = "notes"
        id: int | None = field(primary_key=True, autoincrement=True)
        tags: list[str] = field(factory=list)
        more: int = 3

    later.upgrade(store)
    [before] = store.backend.scan("notes")
    session = Session(store)
    note = session.get(LaterNote, 1)
    session.commit()

    assert list(store.backend.scan("notes")) == [before]
    note.tags.append("b")
    session.commit()
    with Session(store) as session:
        assert session.get(LaterNote, 1).tags == ["a", "b"]


def test_nothing_goes_on_in_a_block_whose_transaction_is_over(store):
    """As in SQLAlchemy; what was added behind a commit inside the block was lost without a word."""
    with Session(store) as session:
        with session.begin():
            session.add(Item(11))
            session.commit()
            with pytest.raises(sa.exc.InvalidRequestError, match="inside context manager"):
                session.add(Item(12))
        session.add(Item(12))
        session.commit()
        assert session.get(Item, 11) is not None


def test_a_rollback_restores_objects_loaded_from_what_a_statement_wrote(store):
    """They kept the values that were rolled back until the next read."""
    with Session(store) as session:
        session.add(Item(11, x=5))
        session.commit()
        session.execute(update(Item).values(x=99))
        found = session.get(Item, 11)
        assert found.x == 99
        session.rollback()

        assert found.x == 5


def test_a_scan_gives_what_was_written_since_it_began(store):
    """It began before the first write, and gave the snapshot's rows: one that was deleted came back to life."""
    with Session(store) as session, session.begin():
        session.add_all([Item(n, x=n) for n in range(10, 310)])
    with Session(store) as session, session.begin():
        scan = session.scan(Item)
        assert next(scan).x == 1
        session.execute(update(Item).where(Item.id == 299).values(x=1000))
        session.execute(sa.delete(Item).where(Item.id == 298))
        rest = list(scan)

        assert next(each for each in rest if each.id == 299).x == 1000
        assert 298 not in {each.id for each in rest}


def test_for_update_counts_even_where_nothing_is_written(store):
    """Its docstring said so; a commit without writes checked nothing."""
    with Session(store) as session, session.begin():
        session.add(Item(11, x=5))
    with Session(store) as one, Session(store) as two:
        one.get(Item, 11, with_for_update=True)
        one.get(Item, 17, with_for_update=True)
        with two.begin():
            two.add(Item(17))
        with pytest.raises(exc.ConflictError):
            one.commit()


def test_a_key_that_no_record_can_have_finds_none(store):
    """A get raised KeyTooLong where select found no rows."""
    with Session(store) as session:
        session.add(Word("a"))
        session.flush()
        assert session.get(Word, "q" * 600) is None
        assert [each is not None for each in session.get_many(Word, ["a", "q" * 600])] == [True, False]


def test_lookup_and_scan_report_an_entry_without_its_record(store):
    """They passed over it, where select says that the store is damaged."""
    key = next(store.backend.scan("items"))[0]
    store.backend.delete("items", key)
    with Session(store) as session:
        with pytest.raises(exc.Corruption, match="item_x"):
            session.lookup("item_x", 1)
        with pytest.raises(exc.Corruption, match="item_x"):
            list(session.scan("item_x"))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda s, o: s.expire(o, ["nope"]), sa_exc.InvalidRequestError, "nope"),
        (lambda s, _: s.add(Item), exc.ArgumentError, "class"),
        (lambda s, _: s.delete(Item), exc.ArgumentError, "class"),
        (lambda s, _: s.merge(Item), exc.ArgumentError, "class"),
        (lambda _s, _o: models.create_all("memory://"), exc.ArgumentError, "create_engine"),
        (lambda s, _: s.engine.transaction(5), exc.ArgumentError, "function"),
        (lambda _, o: delattr(o, "x"), AttributeError, "set it to None"),
    ],
)
def test_a_wrong_argument_is_named(store, call, error, words):
    """They were bare errors from the inside."""
    with Session(store) as session, pytest.raises(error, match=words):
        call(session, session.get(Item, 1))


def test_a_result_that_outlives_its_transaction_says_so(store):
    """The message spoke of snapshots, which a session's user has not."""
    with Session(store) as session, session.begin():
        session.add_all([Item(n) for n in range(10, 5000)])
    with Session(store) as session:
        result = session.scalars(select(Item).execution_options(yield_per=1))
        assert result.fetchmany(1)
        session.commit()
        with pytest.raises(exc.StoreClosed, match="transaction"):
            result.all()


def test_expire_on_commit_is_understood(store):
    """False is what a Session does; True would need I/O on attribute access."""
    with Session(store, expire_on_commit=False) as session:
        assert session.get(Item, 1) is not None
    with pytest.raises(exc.ArgumentError, match="refreshed"):
        Session(store, expire_on_commit=True)


def test_fields_of_a_plain_mixin_are_fields():
    """They were left out without a word."""
    local = registry()

    class Stamped:
        created: Mapped[int] = field(default=4)
        note: Mapped[str] = "?"

    @local.mapped
    class Stamp(Stamped):
        __tablename__ = "stamps"
        id: int = field(primary_key=True, default=0)

    assert (Stamp().created, Stamp(created=7).created, Stamp().note) == (4, 7, "?")
    assert set(Stamp.__table__.c.keys()) == {"id", "created", "note"}


def test_an_expunged_object_is_not_brought_back_by_a_rollback(store):
    """It was flushed, taken out, and then in the session again."""
    with Session(store) as session:
        found = session.get(Item, 1)
        found.x = 50
        session.flush()
        session.expunge(found)
        session.rollback()

        assert found not in session
        assert session.get(Item, 1).x == 1


def test_a_table_dropped_elsewhere_is_no_matter_to_the_others(store):
    """A session that had used it could not read any other table in its next transaction."""
    with Session(store) as session:
        assert session.get(Word, "a") is None
        assert session.get(Item, 1) is not None
        session.commit()
        store.drop_table("words")

        assert session.get(Item, 2).x == 2
        session.rollback()
        with pytest.raises(exc.SchemaMismatch, match="words"):
            session.get(Word, "a")


def test_what_is_no_index_is_refused_by_type(store):
    """What cannot be hashed was looked up first, and gave a TypeError of Python's."""
    with Session(store) as session:
        for wrong in (["item_x"], {}, 3, None):
            with pytest.raises(exc.ArgumentError, match="is no index"):
                session.lookup(wrong, 1)


def test_an_index_that_is_known_is_forgotten_when_it_is_dropped(store):
    """A session remembers the indexes it was asked for, as long as the catalog is the same."""
    store.create_index("items", IndexDefinition(name="item_y", parts=(IndexPart(name="y"),)))
    with Session(store) as session:
        assert len(session.lookup("item_y", 0)) == 5
        session.commit()
        store.drop_index("item_y")
        with pytest.raises(exc.ArgumentError, match="no index 'item_y'"):
            session.lookup("item_y", 0)
        assert len(session.lookup("item_x", 1)) == 1


@pytest.mark.parametrize("let_go", ["expire", "expire_all", "expunge and add"])
def test_a_new_object_that_was_let_go_of_is_gone_after_a_rollback(store, let_go):
    """It stayed in the identity map, so that a later read gave it, and changes to it were lost."""
    session = Session(store)
    item = Item(9, x=1)
    session.add(item)
    session.flush()
    if let_go == "expire":
        session.expire(item)
    elif let_go == "expire_all":
        session.expire_all()
    else:
        session.expunge(item)
        session.add(item)
    session.rollback()
    with Session(store) as other, other.begin():
        other.add(Item(9, x=100))

    found = session.get(Item, 9)
    assert found is not item
    assert found in session
    found.x = 555
    session.commit()
    assert rows(store)[9] == (555, 0)


def test_the_handle_of_a_savepoint_that_is_over_undoes_no_other(store):
    """It went by the depth alone, at which a later savepoint was."""
    with Session(store) as session, session.begin():
        first = session.begin_nested()
        first.commit()
        second = session.begin_nested()
        session.get(Item, 1).x = 7
        session.flush()
        assert not first.is_active
        first.rollback()
        with pytest.raises(sa_exc.ResourceClosedError):
            first.commit()
        assert second.is_active
        second.commit()
    assert rows(store)[1] == (7, 0)


def test_a_failure_in_a_savepoint_is_no_matter_to_one_before_it(store):
    """Rolling back a handle that was over made the session usable again, as if it were the failed one."""
    with Session(store) as session:
        first = session.begin_nested()
        first.commit()
        second = session.begin_nested()
        session.add(Item(1))
        with pytest.raises(exc.IntegrityError):
            session.flush()
        first.rollback()
        assert not session.is_active
        with pytest.raises(sa_exc.PendingRollbackError):
            session.add(Item(30))
        second.rollback()
        assert session.get(Item, 2).x == 2


def test_a_rollback_leaves_what_was_expunged_with_all_others(store):
    """Objects came back into the session, in place of those read since, or were taken from another session."""
    session, other = Session(store), Session(store)
    old, new = session.get(Item, 1), Item(20)
    old.x = 9
    session.add(new)
    session.flush()
    session.expunge_all()
    other.add(new)
    again = session.get(Item, 1)
    session.rollback()

    assert old not in session
    assert new in other
    assert session.get(Item, 1) is again
    again.x = 5
    session.commit()
    assert rows(store)[1] == (5, 0)
