"""Conditions on JSON columns, where true and false are no numbers."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from sqlalchemy import JSON, Index, select

from kvdialect import Mapped, Session, create_engine, field, mapped, registry

models = registry()
VALUES = [True, 1, False, 0, 1.0, None, [1, True], {"a": True}, [1, 1]]


@mapped(models)
class Document:
    __tablename__ = "documents"
    __table_args__ = (Index("ones", "id", kvdialect_where=lambda each: each.content == 1),)
    id: Mapped[int] = field(primary_key=True)
    content: Mapped[Annotated[Any, JSON] | None] = None


@pytest.fixture
def engine(url):
    engine = create_engine(url)
    models.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Document(at, value) for at, value in enumerate(VALUES)])
    if not url.startswith("memory"):  # the condition of the index comes from the catalog
        engine.close()
        engine = create_engine(url)
    yield engine
    engine.close()


CONDITIONS = [
    (lambda content: content == True, [0]),  # noqa: E712
    (lambda content: content == 1, [1, 4]),
    (lambda content: content == False, [2]),  # noqa: E712
    (lambda content: content == 0, [3]),
    (lambda content: content.is_(True), [0]),
    (lambda content: content != True, [1, 2, 3, 4, 6, 7, 8]),  # noqa: E712
    (lambda content: content.is_(None), [5]),
    (lambda content: content == [1, True], [6]),
    (lambda content: content == {"a": 1}, []),
]


@pytest.mark.parametrize("number", range(len(CONDITIONS)))
def test_true_is_not_one(engine, number):
    condition, expected = CONDITIONS[number]
    with Session(engine) as session:
        assert session.scalars(select(Document.id).where(condition(Document.content))).all() == expected


def test_a_partial_index_goes_by_it(engine):
    with Session(engine) as session:
        assert [each.id for each in session.scan("ones")] == [1, 4]
        assert engine.verify().ok
        statement = select(Document.id).where(Document.content == 1).order_by(Document.id)
        assert "ones" in str(session.explain(statement))


def test_the_sql_door_says_the_same(engine):
    """But that it compares texts, of which 1 and 1.0 are two."""
    pytest.importorskip("apsw", reason="the SQL door needs it")
    columns = Document.__table__.c
    with engine.sqlalchemy().connect() as connection:

        def found(condition):
            return connection.scalars(select(columns.id).where(condition).order_by(columns.id)).all()

        assert found(columns.content == True) == [0]  # noqa: E712
        assert found(columns.content.is_(False)) == [2]
        assert found(columns.content == 1) == [1]
        assert found(columns.content != False) == [0, 1, 3, 4, 6, 7, 8]  # noqa: E712
