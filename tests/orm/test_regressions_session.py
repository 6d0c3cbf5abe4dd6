"""Bugs of sessions that a review found, each with what went wrong."""

from __future__ import annotations

import gc
import weakref

import pytest
import sqlalchemy as sa
from sqlalchemy import ForeignKey, Index, delete, event, func, insert, select, update
from sqlalchemy import exc as sa_exc

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry, relationship
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


@mapped(models)
class Owner:
    __tablename__ = "owners"
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int] = 0
    pets: Mapped[list[Pet]] = relationship(back_populates="owner", cascade="all, delete-orphan")
    friends: Mapped[list[Friend]] = relationship(back_populates="owner")
    badge: Mapped[Badge | None] = relationship(back_populates="owner", cascade="all, delete-orphan", uselist=False)


@mapped(models)
class Pet:
    __tablename__ = "pets"
    id: Mapped[int] = field(primary_key=True)
    owner_id: Mapped[int | None] = field(ForeignKey("owners.id", onupdate="CASCADE"), index=True, default=None)
    owner: Mapped[Owner | None] = relationship(back_populates="pets")


@mapped(models)
class Friend:
    __tablename__ = "friends"
    id: Mapped[int] = field(primary_key=True)
    owner_id: Mapped[int | None] = field(ForeignKey("owners.id"), index=True, default=None)
    owner: Mapped[Owner | None] = relationship(back_populates="friends")


@mapped(models)
class Badge:
    __tablename__ = "badges"
    id: Mapped[int] = field(primary_key=True)
    owner_id: Mapped[int | None] = field(ForeignKey("owners.id"), index=True, default=None)
    owner: Mapped[Owner | None] = relationship(back_populates="badge")


@mapped(models)
class Tag:
    """Its key moves with what it refers to."""

    __tablename__ = "owner_tags"
    owner_id: Mapped[int] = field(ForeignKey("owners.id", onupdate="CASCADE"), primary_key=True)
    word: Mapped[str] = ""


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


# ------------------------------------------------------------------------------------------ objects that were lost


def test_a_duplicate_does_not_take_the_place_of_an_object(store):
    """Nothing was read in the transaction, so that the commit would have found it; changes were lost from then on."""
    with Session(store) as session:
        item = session.get_one(Item, 1)
        session.commit()
        session.add(Item(1))
        with pytest.raises(exc.IntegrityError):
            session.commit()
        assert item in session
        item.y = 99
        session.commit()
        assert rows(store)[1] == (1, 99)


def test_an_object_that_moves_onto_another_does_not_take_its_place(store):
    with Session(store) as session:
        first, second = session.get_one(Item, 1), session.get_one(Item, 2)
        session.commit()
        first.id = 2
        with pytest.raises(exc.IntegrityError):
            session.commit()
        assert first in session
        assert second in session
        second.y = 7
        session.commit()
        first.id, second.id = 2, 1
        session.commit()
    assert {ident: values for ident, values in rows(store).items() if ident < 3} == {1: (2, 7), 2: (1, 0)}


def test_an_object_follows_a_statement_that_moves_its_record(store):
    with Session(store) as session:
        item = session.get_one(Item, 5)
        session.execute(update(Item).where(Item.id == 5).values(id=50))
        assert session.get(Item, 50) is item
        session.rollback()
        assert (item.id, item in session) == (5, True)
        session.execute(update(Item).where(Item.id > 3).values(id=Item.id + 1))
        item.y = 3
        session.commit()
    assert {ident: values for ident, values in rows(store).items() if ident > 3} == {5: (4, 0), 6: (5, 3)}


def test_an_object_follows_a_cascade_that_moves_its_record(store):
    with Session(store, foreign_keys=True) as session:
        session.add_all([Owner(1), Tag(1, "a")])
        session.commit()
        tag = session.get_one(Tag, 1)
        session.execute(update(Owner).values(id=8))
        assert (tag.owner_id, session.get(Tag, 8) is tag) == (8, True)
        tag.word = "b"
        session.commit()
        assert [(each.owner_id, each.word) for each in session.scan(Tag)] == [(8, "b")]


def test_refresh_refuses_what_was_deleted(store):
    """It took the place of the new object of its key, whose changes were lost."""
    with Session(store) as session:
        old = session.get_one(Item, 1)
        session.delete(old)
        session.flush()
        new = Item(1, y=7)
        session.add(new)
        session.flush()
        for call in (session.refresh, session.expire):
            with pytest.raises(sa_exc.InvalidRequestError, match="not persistent"):
                call(old)
        new.y = 55
        session.commit()
    assert rows(store)[1] == (0, 55)


def test_a_list_that_is_changed_after_a_commit_is_stored_though_its_object_is_let_go(store):
    with Session(store) as session:
        session.add(Note(id=1))
        session.commit()
        note = session.get_one(Note, 1)
        session.commit()
        note.tags.append("x")
        del note
        session.commit()
        assert session.get_one(Note, 1).tags == ["x"]


def test_refresh_of_one_attribute_refreshes_an_object_of_an_earlier_transaction(store):
    """The rest stayed as it was, and was taken for read: a commit conflicted with nobody."""
    with Session(store) as session:
        item = session.get_one(Item, 1)
        session.commit()
        with Session(store) as other, other.begin():
            theirs = other.get_one(Item, 1)
            theirs.x, theirs.y = 99, 98
        session.refresh(item, ["x"])
        assert (item.x, session.get_one(Item, 1).y) == (99, 98)
        item.y = 7
        session.commit()
    assert rows(store)[1] == (99, 7)


def test_refresh_discards_what_is_pending(store):
    """It was flushed first: a change in place, and one of the attributes that were named."""
    with Session(store) as session:
        session.add(Note(id=1, tags=["kept"]))
        session.commit()
        note, item = session.get_one(Note, 1), session.get_one(Item, 1)
        note.tags.append(5)
        session.refresh(note)
        item.x, item.y = 50, 60
        session.refresh(item, ["x"])
        assert (note.tags, item.x, item.y) == (["kept"], 1, 60)
        session.commit()
    assert rows(store)[1] == (1, 60)


def test_get_many_lets_go_of_what_is_gone(store):
    with Session(store) as session:
        item = session.get_one(Item, 1)
        session.commit()
        with Session(store) as other, other.begin():
            other.execute(delete(Item).where(Item.id == 1))
        assert session.get_many(Item, [1]) == [None]
        assert item not in session


def test_an_offset_beyond_all_numbers(store):
    with Session(store) as session:
        assert session.scalars(select(Item).offset(2**70)).all() == []


def test_an_empty_text_is_no_key(store):
    with Session(store) as session:
        session.add(Word(""))
        with pytest.raises(exc.KeyTooLong, match=r"is empty; .* let the key have a second column"):
            session.flush()


# ------------------------------------------------------------------------------------------ relationships


@pytest.fixture
def session(store):
    with Session(store) as session:
        session.add(Owner(1, pets=[Pet(1), Pet(2)]))
        session.commit()
        yield session


def pets(session):
    return [(each.id, each.owner_id) for each in session.scan(Pet)]


@pytest.mark.parametrize("end", ["nothing", "flush", "commit"])
@pytest.mark.parametrize("then", ["add", "append", "refer"])
def test_a_deletion_is_not_taken_back_by_a_cascade(session, end, then):
    """The parent still has the child in its list; what is added goes no way through what the session has already."""
    owner = session.get_one(Owner, 1)
    session.load(owner, "pets")
    session.delete(owner.pets[0])
    if end != "nothing":
        getattr(session, end)()
    if then == "add" and end == "flush":
        return  # it is an error of the program, as in SQLAlchemy
    if then == "add":
        session.add(owner)
    elif then == "append":
        owner.pets.append(Pet(3))
    else:
        session.add(Pet(3, owner=owner))
    session.commit()
    assert pets(session) == ([(2, 1)] if then == "add" else [(2, 1), (3, 1)])


def test_what_is_kept_of_a_deleted_parent_does_not_bring_it_back(session):
    owner = session.get_one(Owner, 1)
    session.load(owner, "pets")
    first = owner.pets[0]
    session.delete(owner)
    session.add(first)
    session.commit()
    assert pets(session) == [(1, None)]
    assert session.get(Owner, 1) is None


@pytest.mark.parametrize("nested", [False, True])
def test_what_was_loaded_of_what_is_undone_is_to_be_loaded_again(session, nested):
    """It stayed, and what had been rolled back was stored with the next change."""
    owner = session.get_one(Owner, 1)
    level = session.begin_nested() if nested else session
    session.add(Pet(9, owner_id=1))
    session.delete(session.get_one(Pet, 1))
    session.flush()
    session.load(owner, "pets")
    assert [each.id for each in owner.pets] == [2, 9]
    level.rollback()
    with pytest.raises(sa_exc.InvalidRequestError, match="is not loaded"):
        _ = owner.pets
    session.load(owner, "pets")
    owner.pets.append(Pet(10))
    session.commit()
    assert pets(session) == [(1, 1), (2, 1), (10, 1)]


@pytest.mark.parametrize("how", ["remove", "set to None"])
def test_an_orphan_that_is_not_stored_yet_is_not_stored(session, how):
    owner = session.get_one(Owner, 1)
    session.load(owner, "pets")
    pet = Pet(5, owner=owner)
    session.add(pet)
    if how == "remove":
        owner.pets.remove(pet)
    else:
        pet.owner = None
    assert pet not in session
    session.commit()
    assert pets(session) == [(1, 1), (2, 1)]


def test_parents_and_their_children_are_deleted_in_any_order(session):
    session.add(Owner(2, pets=[Pet(7)]))
    session.commit()
    for each in [*session.scan(Owner), *session.scan(Pet)]:
        session.delete(each)
    session.commit()
    assert (pets(session), list(session.scan(Owner))) == ([], [])


def test_a_child_is_deleted_twice(session):
    pet = session.get_one(Pet, 1)
    session.delete(pet)
    session.delete(pet)
    session.commit()
    assert pets(session) == [(2, 1)]


@pytest.mark.parametrize("how", ["next transaction", "refreshed"])
def test_a_child_that_was_moved_is_not_deleted_with_its_old_parent(session, how):
    """The old parent's list had it still, as the child did not know of its parent when it was given another."""
    session.add(Owner(2))
    session.commit()
    old, new = session.get_one(Owner, 1), session.get_one(Owner, 2)
    session.load(old, "pets")
    pet = old.pets[0]
    if how == "refreshed":
        session.refresh(pet)
    else:
        session.commit()
        pet = session.get_one(Pet, 1)
    pet.owner = new
    session.flush() if how == "refreshed" else session.commit()
    session.delete(old)
    session.commit()
    assert pets(session) == [(1, 2)]


def test_children_of_others_are_deleted_too(session, store):
    """A list that was loaded in an earlier transaction was believed, and what came since was left without a parent."""
    owner = session.get_one(Owner, 1)
    session.load(owner, "pets", "friends")
    session.commit()
    with Session(store) as other, other.begin():
        other.add_all([Pet(3, owner_id=1), Friend(1, owner_id=1)])
    session.delete(owner)
    session.commit()
    assert pets(session) == []
    assert [(each.id, each.owner_id) for each in session.scan(Friend)] == [(1, None)]


def test_a_child_that_was_expunged_is_deleted_too(session):
    owner = session.get_one(Owner, 1)
    session.load(owner, "pets")
    session.expunge(owner.pets[0])
    session.delete(owner)
    session.commit()
    assert pets(session) == []


def test_nothing_refers_to_a_parent_whose_deletion_was_flushed(session):
    session.add(Friend(9))
    owner = session.get_one(Owner, 1)
    session.delete(owner)
    session.flush()
    session.get_one(Friend, 9).owner = owner
    with pytest.warns(sa_exc.SAWarning, match="is not in the session"):
        session.commit()
    assert [(each.id, each.owner_id) for each in session.scan(Friend)] == [(9, None)]


def test_what_was_loaded_is_not_held(session):
    """Of relationships loaded from what is not committed a note was kept, and the objects with it."""
    session.add(Owner(2))
    session.flush()
    for _ in range(3):
        session.load(session.get_one(Owner, 1), "pets")
    found = weakref.ref(session.get_one(Owner, 1))
    gc.collect()
    assert found() is None


def test_one_that_replaces_a_pending_one_makes_it_an_orphan(session):
    owner = session.get_one(Owner, 1)
    session.load(owner)
    session.add(Badge(1, owner=owner))
    session.add(Badge(2, owner=owner))
    session.commit()
    assert [(each.id, each.owner_id) for each in session.scan(Badge)] == [(2, 1)]


def test_a_list_that_is_set_adds_what_it_has(session):
    """Also what had come to it by the other side, which adds nothing."""
    owner = session.get_one(Owner, 1)
    session.load(owner)
    friend = Friend(5, owner=owner)
    owner.friends = [friend]
    session.commit()
    assert [(each.id, each.owner_id) for each in session.scan(Friend)] == [(5, 1)]


def test_an_insert_of_no_rows_inserts_none(store):
    with Session(store) as session:
        assert session.execute(insert(Item), []).rowcount == 0
        with pytest.raises(exc.ArgumentError, match=r"a row of an insert\(\) into items is \(7, 2\)"):
            session.execute(insert(Item), [(7, 2)])


@pytest.mark.parametrize("nested", [False, True])
def test_a_rollback_tells_of_what_was_pending(store, nested):
    with Session(store) as session:
        told = []
        event.listen(session, "pending_to_transient", lambda _, instance: told.append(instance.id))
        level = session.begin_nested() if nested else session
        session.add(Item(77))
        level.rollback()
        assert told == [77]
