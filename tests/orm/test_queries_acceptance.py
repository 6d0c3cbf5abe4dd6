"""Queries over one table that gave other rows than Python over all of them, found by those who tried."""

from __future__ import annotations

import importlib.util
from decimal import Decimal
from typing import Annotated

import pytest
from sqlalchemy import Index, Numeric, bindparam, case, delete, func, or_, select, text, update

from kvdialect import Bytes4, Mapped, Session, create_engine, exc, field, mapped, registry

models = registry()


@mapped(models)
class Pair:
    __tablename__ = "pairs"
    key: Mapped[str] = field(primary_key=True)
    number: Mapped[int] = field(primary_key=True)


@mapped(models)
class Partly:
    """Two partial indexes: of which one branch is enough, and one of what is not NULL."""

    __tablename__ = "partly"
    __table_args__ = (
        Index("large", "a", kvdialect_where=lambda each: or_(each.a > 10, each.b == 1)),
        Index("present", "c", kvdialect_where=lambda each: each.c.is_not(None)),
    )
    id: Mapped[int] = field(primary_key=True)
    a: Mapped[int]
    b: Mapped[int] = 0
    c: Mapped[int | None] = None


@mapped(models)
class Word:
    __tablename__ = "words"
    __table_args__ = (
        Index("any_text", "id", kvdialect_where=lambda each: each.other.contains("")),
        Index("numbered", "number", "second", unique=True),
    )
    id: Mapped[str] = field(primary_key=True)
    second: Mapped[str] = field(unique=True)
    maybe: Mapped[str | None] = field(unique=True, default=None)
    other: Mapped[str] = ""
    number: Mapped[int | None] = None


@mapped(models)
class Thing:
    __tablename__ = "things"
    id: Mapped[int] = field(primary_key=True)
    x: Mapped[int] = field(index=True)
    y: Mapped[int] = field(index=True)


@mapped(models)
class Value:
    __tablename__ = "decimals"
    id: Mapped[int] = field(primary_key=True)
    exact: Mapped[Annotated[Decimal, Numeric(10, 2)] | None] = field(default=None, index=True)
    near: Mapped[float | None] = None
    whole: Mapped[int | None] = None
    raw: Mapped[bytes] = b""
    four: Mapped[Bytes4 | None] = None
    tags: Mapped[list[str] | None] = None


@pytest.fixture
def session(url):
    with create_engine(url) as engine:
        models.create_all(engine)
        with Session(engine) as opened:
            yield opened


def test_several_first_parts_of_a_primary_key_in_the_order_of_the_next(session):
    """Only indexes were merged: the rows came key by key."""
    numbers = [("a", -5), ("b", -9), *((key, number) for key in "abc" for number in range(4))]
    session.add_all([Pair(*each) for each in numbers])
    wanted = sorted(((key, number) for key, number in numbers), key=lambda each: (each[1], each[0]))
    statement = select(Pair.key, Pair.number).where(Pair.key.in_(["a", "b", "c"])).order_by(Pair.number)
    assert session.execute(statement).all() == wanted
    assert session.execute(statement.limit(3)).all() == wanted[:3]
    assert "merged" in str(session.explain(statement))
    backwards = statement.order_by(None).order_by(Pair.number.desc())
    assert [number for _, number in session.execute(backwards)] == sorted((n for _, n in numbers), reverse=True)
    assert session.scalar(select(func.min(Pair.number)).where(Pair.key.in_(["a", "b"]))) == -9
    assert session.scalar(select(func.max(Pair.number)).where(Pair.key.in_(["a", "b"]))) == 3
    found, token = [], None
    while True:
        page = session.page(statement, 5, after=token)
        found += page.items
        token = page.next
        if token is None:
            break
    assert [tuple(each) for each in found] == wanted


@pytest.mark.parametrize("values", [(15, 5), (5, 15)])
def test_a_partial_index_of_which_one_branch_is_enough(session, values):
    """The plan that one value had allowed was taken for another one."""
    session.add_all([Partly(n, n % 20) for n in range(100)])
    for value in values:
        assert session.scalar(select(func.count()).select_from(Partly).where(Partly.a == value)) == 5


def test_a_partial_index_of_what_is_not_null_and_an_empty_list(session):
    """NULL NOT IN () is true."""
    session.add_all([Partly(n, 0, c=None if n % 20 == 0 else n) for n in range(100)])
    for values, count in (([1], 94), ([], 100), ([1], 94)):
        statement = select(Partly.id).where(Partly.c.not_in(values)).order_by(Partly.c)
        assert len(session.scalars(statement).all()) == count


def test_is_not_distinct_from_text_is_no_prefix(session):
    session.add_all([Word("a", "a", "a"), Word("ab", "ab", "ab"), Word("b", "b"), Word("c", "c")])
    for column in (Word.id, Word.second, Word.maybe):
        for value, found in (("a", ["a"]), ("", []), ("ab", ["ab"])):
            assert session.scalars(select(Word.id).where(column.is_not_distinct_from(value))).all() == found
    assert session.scalars(select(Word.id).where(Word.maybe.is_not_distinct_from(None))).all() == ["b", "c"]
    named = select(Word.id).where(Word.maybe.is_not_distinct_from(bindparam("value")))
    for value, found in (("a", ["a"]), (None, ["b", "c"]), ("ab", ["ab"])):
        assert session.scalars(named, {"value": value}).all() == found
    assert session.execute(delete(Word).where(Word.id.is_not_distinct_from("a"))).rowcount == 1
    assert session.scalars(select(Word.id).order_by(Word.id)).all() == ["ab", "b", "c"]


def test_is_not_distinct_from_in_a_part_before_the_last(session):
    session.add_all([Word("1", "x"), Word("2", "xy"), Word("3", "z", number=5), Word("4", "zz", number=5)])
    for number, second, found in ((None, "x", ["1"]), (5, "z", ["3"]), (None, "z", [])):
        statement = select(Word.id).where(Word.number.is_not_distinct_from(number), Word.second == second)
        assert session.scalars(statement).all() == found


def test_text_that_contains_nothing_in_stored_conditions_and_values(session):
    session.add_all([Word("1", "1", other="abc"), Word("2", "2", other="")])
    session.flush()
    assert [each.id for each in session.scan("any_text")] == ["1", "2"]
    matched = case((Word.other.startswith(bindparam("start")), 1), else_=2)
    session.execute(update(Word).values(number=matched), {"start": ""})
    assert session.scalars(select(Word.number)).all() == [1, 1]


def test_pages_of_a_union_without_an_order(session):
    session.add_all([Thing(n, n % 1000, n % 1000 // 2) for n in range(3000)])
    statement = select(Thing).where(or_(Thing.x == 3, Thing.y == 9))
    wanted = [n for n in range(3000) if n % 1000 == 3 or n % 1000 // 2 == 9]
    for shape, ident in ((statement, lambda each: each.id), (select(Thing.id).where(statement.whereclause), None)):
        found, token = [], None
        while True:
            page = session.page(shape, 2, after=token)
            found += page.items
            token = page.next
            if token is None:
                break
        assert sorted(each[0] if ident is None else ident(each) for each in found) == wanted


# ------------------------------------------------------------------------------------------------ numbers


@pytest.fixture
def decimals(session):
    session.add_all([Value(1, Decimal("1.10"), 0.5, 7), Value(2, None, 2.5), Value(3, Decimal("2.25"), 2.25)])
    session.flush()
    return session


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (Value.exact == 1.1, [1]),
        (Value.exact < 1.1, []),
        (Value.exact.in_([1.1, 5.0]), [1]),
        (Value.exact.between(1.1, 2.0), [1]),
        (Value.exact + 0 == 1.1, [1]),
        (Value.exact == Value.near, [3]),
        (Value.near == Decimal("2.5"), [2]),
        (func.coalesce(Value.exact, 0.5) - Decimal("1.00") > 0, [1, 3]),
    ],
)
def test_decimals_beside_floats(decimals, condition, found):
    """A float is what it is written as; both doors say the same."""
    statement = select(Value.id).where(condition).order_by(Value.id)
    assert decimals.scalars(statement).all() == found
    if importlib.util.find_spec("apsw") is not None:
        assert decimals.scalars(statement.where(text("1 = 1"))).all() == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (func.sum(func.coalesce(Value.exact, 0.0)), 3.35),
        (func.avg(func.coalesce(Value.exact, 0.5)), 3.85 / 3),
        (func.max(func.coalesce(Value.exact, 0.5) + 1), 3.25),
        (func.max(func.coalesce(Value.exact, Value.near) * 2.5), 6.25),
        (func.max(func.coalesce(Value.whole, Decimal("1.5")) * 1.5), 10.5),
        (func.sum(case((Value.exact > 1, Value.exact), else_=Value.near)), 5.85),
        (func.sum(case((Value.exact > 1, Value.near), else_=Value.near) + 1), 8.25),
    ],
)
def test_decimals_and_floats_in_one_value(decimals, value, found):
    assert float(decimals.scalar(select(value))) == pytest.approx(found)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda session: session.execute(select(Value.near + 10**400)),
        lambda session: (session.add(Value(9, whole=10**5000)), session.flush()),
    ],
)
def test_numbers_beyond_all_are_data_errors(decimals, attempt):
    with pytest.raises(exc.DataError):
        attempt(decimals)


def test_a_signaling_nan_is_no_number(decimals):
    assert decimals.scalars(select(Value.id).where(Value.id < Decimal("sNaN"))).all() == []


def test_a_named_parameter_in_group_by_is_its_own(decimals):
    """Its default is equal to that of another one, and its value need not be."""
    one, other = bindparam("one", 5), bindparam("other", 5)
    statement = select(Value.id % one, func.count()).group_by(Value.id % other)
    try:
        found = decimals.execute(statement, {"one": 2}).all()
    except exc.NotSupportedError:
        return
    assert found == [(1, 1), (0, 1), (1, 1)]


# ------------------------------------------------------------------------------------------------ both doors


def test_the_beginning_of_bytes_and_elements_of_no_list_at_both_doors(session):
    pytest.importorskip("apsw", reason="the SQL door needs it")
    session.add_all(
        [
            Value(1, raw=b"abc", four=b"abcd", tags=["x"]),
            Value(2, raw=b"xyz"),
            Value(3, raw=b"", four=b"ab\0\0", tags=[]),
            Value(4, raw=b"\0\0"),
        ]
    )
    for condition, found, others in (
        (Value.raw.startswith(b"ab"), [1], [2, 3, 4]),
        (Value.raw.startswith(b""), [1, 2, 3, 4], []),
        (Value.four.startswith(b"ab"), [1, 3], []),
        (Value.raw.startswith(bindparam("prefix", b"\0")), [4], [1, 2, 3]),
        (Value.tags.contains("x"), [1], [3]),
    ):
        for each, wanted in ((condition, found), (~condition, others)):
            statement = select(Value.id).where(each).order_by(Value.id)
            assert session.scalars(statement).all() == wanted
            assert session.scalars(statement.where(text("1 = 1"))).all() == wanted
