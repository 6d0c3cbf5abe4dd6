"""Values that SQLite has no type for: decimals of many digits and long spans compare, sort and come back."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated

import pytest
import sqlalchemy as sa

from kvdialect import Mapped, Session, create_engine, field, mapped, registry

D, span = Decimal, dt.timedelta
models = registry()


@mapped(models)
class Thing:
    __tablename__ = "things"
    id: Mapped[int] = field(primary_key=True)
    price: Mapped[Annotated[Decimal, sa.Numeric(18, 2)] | None] = None
    lasts: Mapped[dt.timedelta | None] = field(default=None, index=True)


PRICES = [D("1.50"), D("2"), D("-3"), D("1234567890123.45"), D("0.1"), D("9007199254740993"), None]
SPANS = [
    span(-999999999, 5),
    span(3),
    span(-800000),
    span(4000000),
    span(-1, 3, 7),
    span(999999999, 5),
    span(-800001, 9),
]
T = Thing.__table__


@pytest.fixture(params=["records", "sql"])
def connection(request):
    """A connection to a table with these values, of records or made by SQL."""
    with create_engine("memory://") as engine:
        if request.param == "records":
            models.create_all(engine)
            with Session(engine) as session, session.begin():
                session.add_all([Thing(n, *each) for n, each in enumerate(zip(PRICES, SPANS, strict=True))])
        else:
            columns = [sa.Column(each.name, each.type, primary_key=each.primary_key) for each in T.columns]
            sa.Table(T.name, sa.MetaData(), *columns).create(engine.sqlalchemy())
            with engine.sqlalchemy().begin() as begun:
                rows = [{"id": n, "price": p, "lasts": s} for n, (p, s) in enumerate(zip(PRICES, SPANS, strict=True))]
                begun.execute(T.insert(), rows)
        with engine.sqlalchemy().connect() as connected:
            yield connected


def _ids(holds):
    return [n for n, price in enumerate(PRICES) if price is not None and holds(price)]


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (T.c.price > D("1.5"), lambda p: p > D("1.5")),
        (T.c.price == D("1.5"), lambda p: p == D("1.5")),
        (T.c.price < D(0), lambda p: p < 0),
        (T.c.price.in_([D("0.10"), D("1234567890123.45")]), lambda p: p in (D("0.1"), D("1234567890123.45"))),
        (T.c.price.between(D("0.05"), D("1.99")), lambda p: D("0.05") <= p <= D("1.99")),
        (T.c.price * 2 > D("1"), lambda p: p * 2 > 1),
        (T.c.price + 0 < D("-2"), lambda p: p < -2),
        (sa.func.coalesce(T.c.price, D(0)) == D("2"), lambda p: p == 2),
        (sa.case((T.c.price > D(1), T.c.price), else_=D("0")) < D("1.6"), lambda p: p < D("1.6")),
        (sa.literal(D("2"), sa.Numeric(18, 2)) < sa.literal(D("10"), sa.Numeric(18, 2)), lambda _: True),
        (T.c.price == D("9007199254740993"), lambda p: p == D("9007199254740993")),
    ],
)
def test_decimals_compare_as_numbers(connection, condition, holds):
    """As text, every number is less than every parameter, and equal to none."""
    found = connection.scalars(sa.select(T.c.id).where(condition, T.c.price.is_not(None)).order_by(T.c.id)).all()

    assert found == _ids(holds)


def test_decimals_come_back_and_divide(connection):
    """Exact, and a whole one is no integer that drops its fraction."""
    assert connection.scalars(sa.select(T.c.price).order_by(T.c.id)).all() == PRICES
    assert connection.scalar(sa.select(T.c.price / 2).where(T.c.price == D("-3"))) == D("-1.5")
    summed = sa.select(sa.func.sum(T.c.price)).where(T.c.price < 3).having(sa.func.sum(T.c.price) > D("0.1"))
    assert connection.scalar(summed) == D("0.60")


def test_spans_of_any_length(connection):
    """In order, compared, and read back."""
    ordered = connection.execute(sa.select(T.c.id, T.c.lasts).order_by(T.c.lasts)).all()
    longer = connection.scalars(sa.select(T.c.id).where(T.c.lasts >= span(4000000)).order_by(T.c.id)).all()

    assert [lasts for _, lasts in ordered] == sorted(SPANS)
    assert longer == [3, 5]
    for number, lasts in enumerate(SPANS):
        assert connection.scalars(sa.select(T.c.id).where(T.c.lasts == lasts)).all() == [number]
    assert connection.scalar(sa.select(sa.func.max(T.c.lasts))) == max(SPANS)
    connection.execute(T.insert(), [{"id": 9, "lasts": span(-900000)}])
    assert connection.scalars(sa.select(T.c.id).order_by(T.c.lasts).limit(2)).all() == [0, 9]


def test_an_error_in_the_parameters_is_told(connection):
    """Of a session's first statement too, which SQLAlchemy would roll back for it."""
    engine = create_engine("memory://")
    with engine, Session(engine) as session:
        models.create_all(engine)
        with pytest.raises(sa.exc.StatementError, match="TypeError"):
            session.connection().execute(T.insert().values(id=1, lasts="no span"))
        with pytest.raises(sa.exc.StatementError, match="TypeError"):
            connection.execute(T.insert().values(id=1, lasts="no span"))
