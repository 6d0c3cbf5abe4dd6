"""What programs written for SQLAlchemy do, found to be otherwise here by those who tried."""

from __future__ import annotations

import gc
import pickle
import warnings

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as so
from sqlalchemy import ForeignKey, Index, bindparam, delete, func, insert, select, text, update

from kvdialect import (
    Bytes32,
    Mapped,
    Session,
    create_engine,
    exc,
    field,
    mapped,
    registry,
    relationship,
    selectinload,
    sessionmaker,
)

models = registry()


@mapped(models)
class Note:
    __tablename__ = "notes"
    __table_args__ = (Index("notes_a", "text", kvdialect_where=lambda c: c.text.like("a%")),)
    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = ""
    digest: Mapped[Bytes32 | None] = None
    raw: Mapped[bytes | None] = None


@mapped(models)
class Author:
    __tablename__ = "authors"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = ""
    books: Mapped[list[Book]] = relationship(back_populates="author", cascade="all, delete-orphan")


@mapped(models)
class Book:
    __tablename__ = "books"
    id: Mapped[int] = field(primary_key=True)
    author_id: Mapped[int | None] = field(ForeignKey("authors.id"), index=True, default=None)
    author: Mapped[Author | None] = relationship(back_populates="books")


@mapped(models)
class Listed:
    __tablename__ = "listed"
    id: Mapped[int] = field(primary_key=True)
    items: Mapped[list[int]] = field(factory=list)


@mapped(models)
class Late:
    __tablename__ = "late"
    id: Mapped[int] = field(primary_key=True)
    value: Mapped[int] = field(init=False)


@pytest.fixture
def engine(url):
    with create_engine(url) as opened:
        models.create_all(opened)
        with Session(opened) as session, session.begin():
            session.add_all([Note(1, "one"), Note(2, "two"), Author(1, books=[Book(1), Book(2)])])
        yield opened


@pytest.fixture
def session(engine):
    with Session(engine) as opened:
        yield opened


# ------------------------------------------------------------------------------------------ update by primary key


def _texts(session):
    return session.scalars(select(Note.text).order_by(Note.id)).all()


def test_a_list_of_rows_updates_by_primary_key(session):
    """Each names its record; without that, the last row of the list would be the value of every record."""
    first = session.get(Note, 1)
    rows = [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}, {"id": 1, "digest": bytes(32)}]

    assert session.execute(update(Note), rows).rowcount == 3

    assert _texts(session) == ["a", "b"]
    assert (first.text, first.digest) == ("a", bytes(32))
    session.rollback()
    assert first.text == "one"


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([{"text": "z"}], sa.exc.InvalidRequestError, r"No primary key value supplied for column\(s\) notes\.id"),
        ([{"id": 1, "text": "z"}, {"text": "y"}], sa.exc.InvalidRequestError, "No primary key value"),
        ([{"id": 3, "text": "z"}], so.exc.StaleDataError, r"expected to update 1 row\(s\); 0 were matched"),
        ([{"id": 1, "words": "z"}], exc.ArgumentError, "no column 'words'"),
        ([{"id": 1, "text": Note.text + "z"}], exc.ArgumentError, "give its value"),
        (["z"], exc.ArgumentError, "give a dict of values"),
        ([{"id": 1, "text": 5}], exc.DataError, "notes.text"),
    ],
)
def test_rows_that_name_no_record_change_none(session, rows, error, words):
    """Not even those before them in the list."""
    with pytest.raises(error, match=words):
        session.execute(update(Note), rows)
    assert _texts(session) == ["one", "two"]


def test_one_dict_is_for_all_records(session):
    """As values() is."""
    assert session.execute(update(Note), {"text": "z"}).rowcount == 2
    assert _texts(session) == ["z", "z"]


# ------------------------------------------------------------------------------------------ statements


def test_params_of_a_statement(session):
    """Its own are taken, and those that it is executed with first."""
    default = select(Note.id).where(Note.text == bindparam("t", "two"))
    required = select(Note.id).where(Note.text == bindparam("t"))
    for statement in (default, required):
        stated = statement.params(t="one")
        assert session.scalars(stated).all() == [1]
        assert session.scalars(stated, {"t": "two"}).all() == [2]
        assert session.scalars(stated.where(Note.id.in_(select(Note.id)))).all() == [1]
        assert list(session.page(stated, 5)) == [(1,)]
        assert session.scalars(stated.params(t="two")).all() == [2]
    assert session.scalars(default).all() == [2]


def test_returning_records(session):
    """Objects of the session, as of a select; a delete has none left to give."""
    first = session.get(Note, 1)
    changed = session.scalars(update(Note).values(text="z").where(Note.id == 1).returning(Note)).one()
    made = session.scalars(insert(Note).returning(Note), [{"id": 5}, {"id": 6, "text": "six"}]).all()
    [(note, label)] = session.execute(insert(Note).values(id=7).returning(Note, Note.id.label("n"))).all()

    assert changed is first
    assert first.text == "z"
    assert [(each.id, each.text) for each in made] == [(5, ""), (6, "six")]
    assert note is session.get(Note, 7)
    assert label == 7
    with pytest.raises(exc.NotSupportedError, match="gone by then"):
        session.scalars(delete(Note).returning(Note))
    assert session.scalars(delete(Note).where(Note.id == 7).returning(Note.id)).all() == [7]


def test_rows_by_key_with_returning_are_refused(session):
    """At the SQL door it would be an update of all records, their keys included."""
    with pytest.raises(exc.NotSupportedError, match="with RETURNING"):
        session.execute(update(Note).returning(Note.id), [{"id": 1, "text": "x"}])
    assert _texts(session) == ["one", "two"]


def test_a_session_at_the_sql_door_that_nobody_closes(engine):
    """Its connection goes back to the pool, and its snapshot ends; LMDB has no more than 126 readers."""
    pytest.importorskip("apsw", reason="the SQL door: needs kvdialect[sql]; tox -e full has it")
    for _ in range(140):
        opened = Session(engine)
        assert opened.execute(text("SELECT count(*) FROM notes")).scalar() == 2
    del opened
    gc.collect()
    assert engine.backend.stats()["live_snapshots"] == 0


def test_bytes_may_be_asked_for_what_they_begin_with(session):
    """Without a warning, which says that it will be an error."""
    session.add(Note(3, digest=b"ab" + bytes(30), raw=b"abc"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        query = select(Note.id).where(Note.digest.startswith(b"a"), Note.raw.startswith(b"ab"))
        assert session.scalars(query).all() == [3]


def test_an_index_with_like_does_no_harm_at_the_sql_door(engine):
    """SQLite takes no LIKE in a partial index that it holds for not deterministic, and then no table at all."""
    pytest.importorskip("apsw", reason="the SQL door: needs kvdialect[sql]; tox -e full has it")
    with engine.sqlalchemy().begin() as connection:
        connection.execute(insert(Note.__table__), [{"id": 3, "text": "ab"}, {"id": 4, "text": "Ab"}])
        found = connection.execute(text("SELECT count(*), sum(text LIKE 'a%') FROM notes")).one()
        assert found == (4, 1)
        connection.execute(text("CREATE TABLE t (a TEXT CHECK (a LIKE 'x%'), b)"))
        connection.execute(text(r"CREATE INDEX t_a ON t (a) WHERE a LIKE 'xy\_%' ESCAPE '\'"))
        connection.execute(text("INSERT INTO t VALUES ('xy_', 1), ('xyz', 2), (NULL, 3)"))
        query = text(r"SELECT b FROM t WHERE a LIKE 'xy\_%' ESCAPE '\'")
        assert connection.execute(query).all() == [(1,)]
        with pytest.raises(sa.exc.IntegrityError, match="CHECK"):
            connection.execute(text("INSERT INTO t VALUES ('Xy', 4)"))
    assert "notes_a" in {index["name"] for index in sa.inspect(engine.sqlalchemy()).get_indexes("notes")}


# ------------------------------------------------------------------------------------------ objects


@pytest.mark.parametrize("how", ["pickled", "new"])
def test_a_list_that_was_only_read_deletes_nothing(session, how):
    """To ask an object that no session knows for its children, and then merge it, is no word about them."""
    if how == "pickled":
        loaded = session.scalars(select(Author).options(selectinload(Author.books))).one()
        author = pickle.loads(pickle.dumps(loaded))
        session.close()
    else:
        author = Author(1)
    assert author.books == []

    session.merge(author)
    session.commit()

    assert session.scalar(select(func.count()).select_from(Book)) == 2


def test_a_list_that_was_set_empty_is_meant(session):
    """The counterpart."""
    author = Author(1)
    author.books = []
    session.merge(author)
    session.commit()
    assert session.scalar(select(func.count()).select_from(Book)) == 0


def test_relationships_are_loaded_by_get(session):
    """``options`` as of a select; one of another class is refused."""
    assert [book.id for book in session.get(Author, 1, options=[selectinload(Author.books)]).books] == [1, 2]
    assert session.get(Author, 9, options=[selectinload(Author.books)]) is None
    with pytest.raises(exc.ArgumentError, match="gives no Author"):
        session.get(Book, 1, options=[selectinload(Author.books)])


def test_what_relationships_do_not_do_is_said(session):
    """By name, and with what to do; other attributes are not there, as usual."""
    with pytest.raises(exc.NotSupportedError, match=r"Author\.books\.any\(\) is no condition here"):
        _ = Author.books.any
    assert not hasattr(Author.books, "colour")
    with pytest.raises(exc.ArgumentError, match="give a list of objects"):
        session.get(Author, 1, options=[selectinload(Author.books)]).books = None


def test_a_rollback_after_a_failed_flush_within_a_block(engine):
    """Objects that may have changed unnoticed are no reason to begin a transaction that the block does not allow."""
    with Session(engine) as session, session.begin():
        session.add(Listed(1))
    with Session(engine) as session, session.begin():
        session.get(Listed, 1)
        session.add(Listed(1))
        with pytest.raises(exc.IntegrityError):
            session.flush()
        session.rollback()
    with Session(engine) as session:
        assert session.get(Listed, 1).items == []


def test_a_field_that_was_never_set_is_named(session):
    """Which attrs allows by ``init=False``."""
    session.add(Late(1))
    with pytest.raises(exc.DataError, match=r"late\.value of Late was never set"):
        session.flush()


def test_sessions_by_thread(engine):
    """SQLAlchemy's scoped_session, which web programs have."""
    current = so.scoped_session(sessionmaker(engine))
    assert current() is current()
    assert current().get(Note, 1).text == "one"
    current.remove()


@pytest.mark.parametrize("end", ["close", "rollback"])
def test_a_finaliser_ends_its_session(engine, end):
    """In a cycle that is collected, where the collector has already cleared what refers to the session weakly."""
    told = []

    class Owner:
        def __init__(self):
            self.itself, self.session = self, Session(engine)

        def __del__(self):
            try:
                self.session.flush()
            except exc.StoreClosed as error:
                told.append(error.message)
            getattr(self.session, end)()
            told.append(self.session.in_transaction())

    owner = Owner()
    owner.session.add(Note(77, "gone"))
    owner.session.flush()
    del owner
    gc.collect()

    assert told == ["the session is collected as garbage just now; keep it for as long as it is used", False]


@pytest.mark.parametrize("method", ["rollback", "close", "commit"])
@pytest.mark.parametrize("name", ["before_commit", "before_flush", "after_flush", "after_flush_postexec"])
def test_a_listener_does_not_end_the_transaction_that_is_committed(engine, name, method):
    """What it had rolled back was committed all the same, and an IndexError followed."""
    with Session(engine) as session:
        sa.event.listen(session, name, lambda session, *_: getattr(session, method)())
        session.add(Note(88, "not to be"))
        with pytest.raises(sa.exc.InvalidRequestError, match=f"Method '{method}\\(\\)' can't be called here"):
            session.commit()
        assert not session.in_transaction()
    with Session(engine) as session:
        assert session.get(Note, 88) is None
        session.add(Note(89, "goes on"))
        session.commit()


def test_what_fails_behind_a_commit_is_not_done_twice(engine):
    """A listener of commits that meets a conflict of its own: the transaction is in."""
    with Session(engine) as session, session.begin():
        session.add_all([Note(90, ""), Note(91, "")])

    def audit(session):
        if session.info.get("audit"):
            return
        with Session(engine, info={"audit": True}) as first, first.begin():
            first.get(Note, 91).text += "late"
            with Session(engine, info={"audit": True}) as second, second.begin():
                second.get(Note, 91).text += "first"

    def work(session):
        sa.event.listen(session, "after_commit", audit)
        session.get(Note, 90).text += "once"

    with pytest.raises(exc.ConflictError):
        engine.transaction(work)
    with Session(engine) as session:
        assert session.get(Note, 90).text == "once"
