"""Bugs of queries that a review found, each with what went wrong; answers are those of Python over all rows."""

from __future__ import annotations

import enum
import itertools
import math
import random
from typing import Annotated

import pytest
from sqlalchemy import ForeignKey, Index, String, case, delete, func, or_, select, text, update
from sqlalchemy.types import TypeDecorator

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry, relationship

models = registry()


class Grade(enum.Enum):
    """Its members are not in the order of their names, by which they are stored."""

    zed = 1
    alpha = 2
    mid = 3


class Backwards(TypeDecorator):
    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):  # noqa: ARG002 - SQLAlchemy's
        return None if value is None else value[::-1]

    def process_result_value(self, value, dialect):  # noqa: ARG002 - SQLAlchemy's
        return None if value is None else value[::-1]


@mapped(models)
class Spot:
    __tablename__ = "spots"
    __table_args__ = (
        Index("by_place", "a", "b", "c"),
        Index("by_corner", "x", "y", unique=True),
        Index("by_grades", "grades", kvdialect_kind="multi"),
        Index("by_words", "words", kvdialect_kind="multi"),
    )
    id: Mapped[int] = field(primary_key=True)
    a: Mapped[int]
    b: Mapped[int]
    c: Mapped[int]
    x: Mapped[int]
    y: Mapped[int]
    grades: Mapped[list[Grade]] = field(factory=list)
    words: Mapped[list[Annotated[str, Backwards()]]] = field(factory=list)
    note: Mapped[str] = ""
    grade: Mapped[Grade] = Grade.mid
    size: Mapped[float | None] = None


@mapped(models)
class Album:
    __tablename__ = "albums"
    id: Mapped[int] = field(primary_key=True)
    songs: Mapped[list[Song]] = relationship(order_by="Song.grade")


@mapped(models)
class Song:
    __tablename__ = "songs"
    id: Mapped[int] = field(primary_key=True)
    grade: Mapped[Grade] = Grade.mid
    album_id: Mapped[int | None] = field(ForeignKey("albums.id"), default=None, index=True)


@pytest.fixture(scope="module")
def store():
    rng = random.Random(7)
    corners = [(x, y) for x in range(800) for y in range(2)]
    rng.shuffle(corners)
    places = itertools.product(range(40), range(35))
    with create_engine("memory://") as engine:
        models.create_all(engine)
        with Session(engine) as session, session.begin():
            for number, (a, b) in enumerate(places):
                x, y = corners[number]
                grades, words = [list(Grade)[number % 3]], [f"ab{number % 5}"]
                session.add(Spot(number, a, b, rng.randrange(10**6), x, y, grades, words, size=float(number)))
        yield engine


@pytest.fixture
def session(store):
    with Session(store) as opened:
        yield opened


@pytest.mark.parametrize("covered", [False, True])
@pytest.mark.parametrize("width", [5, 35])
def test_lists_on_two_columns_before_one_to_order_by(session, covered, width):
    """Where they multiplied to more than a thousand ranges rows came in the order of the second list, and LIMIT cut."""
    wanted = sorted(s.c for s in session.scalars(select(Spot)) if s.a < width and s.b < width)[:20]
    query = select(Spot.c if covered else Spot).where(Spot.a.in_(range(width)), Spot.b.in_(range(width)))
    found = session.scalars(query.order_by(Spot.c).limit(20)).all()

    assert (found if covered else [spot.c for spot in found]) == wanted


def test_a_list_on_the_first_column_of_a_unique_index(session):
    """Rows alike in what follows came in the order of the list in place of that of the key."""
    alike = [s for s in session.scalars(select(Spot)) if s.x < 30]
    wanted = [s.id for s in sorted(alike, key=lambda s: (s.y, s.id))]
    query = select(Spot).where(Spot.x.in_(range(30))).order_by(Spot.y, Spot.id)

    assert [s.id for s in session.scalars(query.limit(10))] == wanted[:10]
    pages, token = [], None
    while pages == [] or token:
        page = session.page(query, 7, after=token)
        pages += [s.id for s in page]
        token = page.next
    assert pages == wanted


@pytest.mark.parametrize(
    ("column", "element"), [(Spot.grades, Grade.zed), (Spot.grades, Grade.mid), (Spot.words, "ab2")]
)
def test_elements_of_an_index_that_are_stored_otherwise(session, column, element):
    """Where an index was there ``contains()`` found no rows, and a delete deleted none."""
    wanted = [s.id for s in session.scalars(select(Spot)) if element in getattr(s, column.key)]
    holds = column.contains(element)

    assert session.scalars(select(Spot.id).where(holds).order_by(Spot.id)).all() == wanted
    assert session.scalar(select(func.count()).select_from(Spot).where(holds)) == len(wanted)
    assert set(session.scalars(select(Spot.id).where(or_(holds, Spot.id == 1)))) == {1, *wanted}
    assert session.execute(delete(Spot).where(holds)).rowcount == len(wanted)


def test_pages_in_the_order_of_long_texts(session):
    """The token of a page was taken for a damaged one."""
    for number in range(4):
        session.get(Spot, number).note = f"{number}" * 30_000
    query = select(Spot.id).where(Spot.id < 4).order_by(Spot.note.desc())
    first = session.page(query, 2)
    second = session.page(query, 2, after=first.next)
    assert [first.items, second.items] == [[(3,), (2,)], [(1,), (0,)]]

    session.get(Spot, 3).note = "3" * (1 << 20)
    with pytest.raises(exc.NotSupportedError, match="order by something shorter"):
        session.page(query, 1)


def test_nan_counts_as_null(session):
    """As documented, and as at the SQL door: it was a group of its own each time, and unequal to 5."""
    for number in range(4):
        session.get(Spot, number).size = [None, math.nan, math.nan, 5.0][number]
    some = Spot.id < 4

    def ids(*conditions):
        return session.scalars(select(Spot.id).where(some, *conditions).order_by(Spot.id)).all()

    assert ids(Spot.size.is_(None)) == [0, 1, 2]
    assert ids(Spot.size.is_not(None)) == [3]
    assert ids(Spot.size != 4) == ids(Spot.size > 4) == ids(~(Spot.size <= 4)) == [3]
    assert ids(~(Spot.size == 5)) == ids(Spot.size.not_in([4.0, 5.0])) == []
    assert ids(Spot.size == Spot.size) == [3]
    assert ids(func.coalesce(Spot.size, -1) == -1) == [0, 1, 2]
    grouped = select(Spot.size, func.count()).where(some).group_by(Spot.size)
    assert dict(session.execute(grouped).all()) == {None: 3, 5.0: 1}
    distinct = session.scalars(select(Spot.size).where(some).distinct().order_by(Spot.size)).all()
    assert len(distinct) == 2
    counts = select(func.count(Spot.size), func.count(Spot.size.distinct())).where(some)
    assert session.execute(counts).one() == (1, 1)
    at_sql = "SELECT count(size), count(DISTINCT size), sum(size IS NULL), sum(size != 4) FROM spots WHERE id < 4"
    assert session.execute(text(at_sql)).one() == (1, 1, 3, 1)
    assert math.isnan(session.get(Spot, 1).size)
    assert math.isnan(session.scalar(select(Spot.size).where(Spot.id == 1)))


def test_nan_in_a_partial_index():
    """A row is in it as the condition says, by compiled code and by Python's."""
    other = registry()

    @mapped(other)
    class Reading:
        __tablename__ = "readings"
        __table_args__ = (Index("known", "id", kvdialect_where=lambda c: c.value.is_not(None)),)
        id: Mapped[int] = field(primary_key=True)
        value: Mapped[float | None] = None

    with create_engine("memory://") as engine:
        other.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all([Reading(number, [None, math.nan, 1.0][number % 3]) for number in range(9)])
        with Session(engine) as session, session.begin():
            session.get(Reading, 2).value = math.nan
            session.get(Reading, 1).value = 2.0
        with Session(engine) as session:
            assert session.scalars(select(Reading.id).where(Reading.value.is_not(None))).all() == [1, 5, 8]
        assert len(list(engine.backend.scan("known"))) == 3
        assert engine.verify().ok


def test_a_case_of_values_that_are_stored_otherwise(session):
    """An update by a CASE of enum members failed with a bare ValueError."""
    session.execute(update(Spot).where(Spot.id < 3).values(grade=case((Spot.id > 1, Grade.zed), else_=Grade.alpha)))
    assert session.scalars(select(Spot.grade).where(Spot.id < 3).order_by(Spot.id)).all() == [
        Grade.alpha,
        Grade.alpha,
        Grade.zed,
    ]


def test_a_case_of_a_value_that_the_column_does_not_take(session):
    """It was a bare ValueError."""
    with pytest.raises(exc.DataError, match="allowed"):
        session.execute(update(Spot).where(Spot.id < 3).values(grade=case((Spot.id > 1, "violet"), else_="zed")))


def test_a_relationship_in_the_order_of_enums(session):
    """Loading it compared the members themselves: a bare TypeError."""
    session.add(Album(1))
    session.add_all([Song(number, list(Grade)[number % 3], 1) for number in range(6)])
    session.flush()
    album = session.get(Album, 1)
    session.load(album, "songs")

    in_sql = session.scalars(select(Song.id).order_by(Song.grade, Song.id)).all()
    assert [song.id for song in album.songs] == in_sql


def test_a_new_column_takes_the_name_of_one_that_is_renamed():
    """The rename was passed over, and the new column had the values of the old."""
    old, new = registry(), registry()

    @mapped(old)
    class Before:
        __tablename__ = "books"
        id: Mapped[int] = field(primary_key=True)
        name: Mapped[str] = "x"

    @mapped(new)
    class After:
        __tablename__ = "books"
        id: Mapped[int] = field(primary_key=True)
        title: Mapped[str] = field(default="t", previously="name")
        name: Mapped[str] = "new"

    with create_engine("memory://") as engine:
        old.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(Before(1, "one"))
        new.upgrade(engine)
        with Session(engine) as session, session.begin():
            session.add(After(2, "two", "second"))
        new.upgrade(engine)
        with Session(engine) as session:
            found = [(book.title, book.name) for book in session.scan(After)]
        assert found == [("one", "new"), ("two", "second")]
        assert engine.verify().ok
