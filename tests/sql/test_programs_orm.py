"""A program on SQLAlchemy's ORM: relationships, loading, cascades, inheritance, versions; on each engine."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy import ForeignKey, func, select
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    column_property,
    contains_eager,
    joinedload,
    mapped_column,
    raiseload,
    relationship,
    selectinload,
    subqueryload,
    with_loader_criteria,
)
from sqlalchemy.orm.exc import StaleDataError


class Base(DeclarativeBase):
    pass


class Status(enum.Enum):
    OPEN = "open"
    PAID = "paid"


basket_tags = sa.Table(
    "basket_tags",
    Base.metadata,
    sa.Column("basket_id", ForeignKey("baskets.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag_id", ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
)


class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str] = mapped_column(sa.String(40))
    email: Mapped[str | None] = mapped_column(unique=True)
    baskets: Mapped[list[Basket]] = relationship(back_populates="owner", cascade="all, delete-orphan")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012


class Employee(Person):
    """Joined-table inheritance."""

    __tablename__ = "employees"
    id: Mapped[int] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), primary_key=True)
    salary: Mapped[decimal.Decimal] = mapped_column(sa.Numeric(10, 2))
    manager_id: Mapped[int | None] = mapped_column(ForeignKey("employees.id"))
    manager: Mapped[Employee | None] = relationship(
        remote_side="Employee.id", foreign_keys=manager_id, back_populates="reports"
    )
    reports: Mapped[list[Employee]] = relationship(foreign_keys=manager_id, back_populates="manager")
    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_identity": "employee",
        "inherit_condition": id == Person.id,  # noqa: A003 - the column
    }


class Customer(Person):
    """Single-table inheritance."""

    discount: Mapped[float | None]
    __mapper_args__ = {"polymorphic_identity": "customer"}  # noqa: RUF012


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(unique=True)


class Basket(Base):
    __tablename__ = "baskets"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    owner_id: Mapped[int] = mapped_column(ForeignKey("people.id"), index=True)
    status: Mapped[Status] = mapped_column(default=Status.OPEN)
    opened: Mapped[dt.datetime] = mapped_column(server_default=func.current_timestamp())
    options: Mapped[dict | None] = mapped_column(sa.JSON)
    version: Mapped[int] = mapped_column(nullable=False)
    owner: Mapped[Person] = relationship(back_populates="baskets")
    lines: Mapped[list[Line]] = relationship(
        back_populates="basket", cascade="all, delete-orphan", order_by="Line.position", passive_deletes=True
    )
    tags: Mapped[list[Tag]] = relationship(secondary=basket_tags)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Line(Base):
    __tablename__ = "lines"
    basket_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("baskets.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    article: Mapped[str]
    pieces: Mapped[int] = mapped_column(sa.CheckConstraint("pieces > 0", name="some_pieces"))
    price: Mapped[decimal.Decimal] = mapped_column(sa.Numeric(10, 2))
    basket: Mapped[Basket] = relationship(back_populates="lines")

    @hybrid_property
    def total(self):
        return self.pieces * self.price


Basket.pieces = column_property(
    select(func.coalesce(func.sum(Line.pieces), 0))
    .where(Line.basket_id == Basket.id)
    .correlate_except(Line)
    .scalar_subquery()
)


@pytest.fixture
def engine(engine_name, tmp_path):
    url = "kvdialect+memory://" if engine_name == "memory" else f"kvdialect+{engine_name}:////{tmp_path}/store"
    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def line(position: int, article: str, pieces: int = 1, price: str = "1.50") -> Line:
    return Line(position=position, article=article, pieces=pieces, price=decimal.Decimal(price))


@pytest.fixture
def shop(engine):
    """Some people, with what they want to buy."""
    with Session(engine) as session, session.begin():
        red, blue = Tag(word="red"), Tag(word="blue")
        ann = Customer(name="Ann", email="ann@example.org", discount=0.5)
        ann.baskets = [
            Basket(lines=[line(1, "pen", 3), line(2, "ink", 1, "9.99")], tags=[red], options={"gift": True}),
            Basket(lines=[line(1, "paper", 500, "0.01")], status=Status.PAID, tags=[red, blue]),
        ]
        boss = Employee(name="Bea", salary=decimal.Decimal("5000.00"))
        clerk = Employee(name="Cy", salary=decimal.Decimal("2000.50"), manager=boss)
        clerk.baskets = [Basket()]
        session.add_all([ann, boss, clerk, Person(name="Dan")])
    return engine


@pytest.mark.parametrize("load", [joinedload, selectinload, subqueryload], ids=lambda load: load.__name__)
def test_eager_loading(shop, load):
    """Collections must be loaded up front, by each strategy, and no more queries follow."""
    with Session(shop) as session:
        statement = (
            select(Customer)
            .where(Customer.name == "Ann")
            .options(load(Person.baskets).options(load(Basket.lines), load(Basket.tags)), raiseload("*"))
        )
        ann = session.scalars(statement).unique().one()

        baskets = sorted(ann.baskets, key=lambda basket: len(basket.lines))
        assert [[entry.article for entry in basket.lines] for basket in baskets] == [["paper"], ["pen", "ink"]]
        assert [sorted(tag.word for tag in basket.tags) for basket in baskets] == [["blue", "red"], ["red"]]
        assert [basket.pieces for basket in baskets] == [500, 4]
        assert baskets[1].options == {"gift": True}


def test_lazy_loading_and_contains_eager(shop):
    """Attributes that are not loaded are loaded on access; a join of one's own can fill them too."""
    with Session(shop) as session:
        cy = session.scalars(select(Employee).where(Employee.name == "Cy")).one()
        assert cy.manager.name == "Bea"
        assert cy.manager.reports == [cy]

        paid = session.scalars(
            select(Basket)
            .join(Basket.owner)
            .join(Basket.lines)
            .where(Line.pieces > 100)
            .options(contains_eager(Basket.owner), contains_eager(Basket.lines))
        ).unique()
        assert [(basket.owner.name, basket.status) for basket in paid] == [("Ann", Status.PAID)]


def test_polymorphic_loading(shop):
    """Rows come back as the classes that they were stored as."""
    with Session(shop) as session:
        people = session.scalars(select(Person).order_by(Person.name)).all()
        assert [type(person) for person in people] == [Customer, Employee, Employee, Person]
        assert people[0].discount == 0.5
        assert people[1].salary == decimal.Decimal("5000.00")

        both = sa.orm.with_polymorphic(Person, [Employee, Customer])
        rich = session.scalars(select(both).where(sa.or_(both.Employee.salary > 3000, both.Customer.discount > 0)))
        assert {person.name for person in rich} == {"Ann", "Bea"}


def test_cascades(shop):
    """Deleting an object deletes what belongs to it, through the unit of work and through the foreign keys."""
    with Session(shop) as session, session.begin():
        ann = session.scalars(select(Customer)).one()
        del ann.baskets[0].lines[0]
        session.flush()
        assert session.scalar(select(func.count()).select_from(Line)) == 2
        session.delete(ann)
    with Session(shop) as session:
        assert session.scalar(select(func.count()).select_from(Line)) == 0
        assert session.scalar(select(func.count()).select_from(basket_tags)) == 0
        assert session.scalars(select(Person.name).order_by(Person.name)).all() == ["Bea", "Cy", "Dan"]
        assert session.scalar(select(func.count()).select_from(Basket)) == 1

    with shop.begin() as connection, pytest.raises(sa.exc.IntegrityError, match="FOREIGN KEY constraint failed"):
        connection.execute(sa.delete(Person.__table__).where(Person.__table__.c.name == "Cy"))


def test_constraints_at_flush(shop):
    """A broken constraint is an IntegrityError, and a savepoint saves what was before it."""
    with Session(shop) as session, session.begin():
        session.add(Person(name="Eve"))
        for wrong in (
            Person(name="Fay", email="ann@example.org"),
            Basket(owner_id=999),
            Person(name=None),
        ):
            with pytest.raises(sa.exc.IntegrityError), session.begin_nested():
                session.add(wrong)
        dan = session.scalars(select(Person).where(Person.name == "Dan")).one()
        with pytest.raises(sa.exc.IntegrityError, match="CHECK constraint failed: some_pieces"), session.begin_nested():
            dan.baskets = [Basket(lines=[line(1, "air", 0)])]
        dan.name = "Daniel"
    with Session(shop) as session:
        names = session.scalars(select(Person.name).order_by(Person.name)).all()
        assert names == ["Ann", "Bea", "Cy", "Daniel", "Eve"]


def test_version_counter(shop):
    """A row that somebody changed in between must not be overwritten."""
    with Session(shop) as first:
        mine = first.scalars(select(Basket).where(Basket.status == Status.PAID)).one()
        assert mine.version == 1
        first.commit()
        first.refresh(mine)
        first.rollback()
        with Session(shop) as second, second.begin():
            second.get(Basket, mine.id).options = {"by": "second"}
        first.rollback()
        sa.orm.attributes.set_committed_value(mine, "version", 1)
        mine.options = {"by": "first"}
        with pytest.raises(StaleDataError):
            first.flush()
        first.rollback()

        assert mine.version == 2
        assert mine.options == {"by": "second"}


def test_concurrent_change_is_a_conflict(shop):
    """Of two transactions that change one row, the later commit fails, and can be run again."""
    with Session(shop) as first, Session(shop) as second:
        one = first.scalars(select(Person).where(Person.name == "Dan")).one()
        other = second.scalars(select(Person).where(Person.name == "Dan")).one()
        one.email, other.email = "one@example.org", "other@example.org"
        first.commit()
        with pytest.raises(sa.exc.OperationalError) as caught:
            second.commit()
        assert caught.value.orig.retryable
        second.rollback()

        other.email = "other@example.org"
        second.commit()
        assert first.scalar(select(Person.email).where(Person.name == "Dan")) == "other@example.org"


def test_merge_and_hybrids(shop):
    """merge() brings a detached object in; a hybrid works on objects and in queries."""
    with Session(shop) as session:
        detached = session.scalars(select(Line).where(Line.article == "pen")).one()
    detached.pieces = 7
    with Session(shop) as session, session.begin():
        merged = session.merge(detached)
        assert merged is not detached
        assert merged.total == decimal.Decimal("10.50")
        session.merge(Tag(id=77, word="green"))
    with Session(shop) as session:
        totals = select(Line.article).where(Line.total > 9).order_by(Line.article)
        assert session.scalars(totals).all() == ["ink", "pen"]
        assert session.get(Tag, 77).word == "green"


def test_bulk_statements(shop):
    """INSERT, UPDATE and DELETE of many rows through the ORM, with RETURNING."""
    with Session(shop) as session, session.begin():
        tags = session.scalars(
            sa.insert(Tag).returning(Tag, sort_by_parameter_order=True), [{"word": f"w{n}"} for n in range(2500)]
        ).all()
        assert [tag.word for tag in tags] == [f"w{n}" for n in range(2500)]
        assert len({tag.id for tag in tags}) == 2500

        session.execute(sa.update(Tag), [{"id": tag.id, "word": f"{tag.word}!"} for tag in tags[:100]])
        changed = session.execute(sa.update(Tag).where(Tag.word.like("%!")).values(word=Tag.word + "?"))
        assert changed.rowcount == 100
        gone = session.scalars(sa.delete(Tag).where(Tag.word.startswith("w1")).returning(Tag.word)).all()
        assert len(gone) == 1111
    with Session(shop) as session:
        assert session.scalar(select(func.count()).select_from(Tag)) == 2 + 2500 - 1111


def test_upsert(shop):
    """ON CONFLICT through SQLAlchemy's insert of SQLite."""
    from sqlalchemy.dialects.sqlite import insert

    with Session(shop) as session, session.begin():
        statement = insert(Tag).values([{"word": "red"}, {"word": "new"}])
        statement = statement.on_conflict_do_update(
            index_elements=["word"], set_={"word": statement.excluded.word + "+"}, where=Tag.word != "blue"
        )
        words = session.scalars(statement.returning(Tag.word)).all()
        assert sorted(words) == ["new", "red+"]
        session.execute(insert(Tag).values(word="blue").on_conflict_do_nothing())
        assert session.scalar(select(func.count()).select_from(Tag)) == 3


def test_reports(shop):
    """Grouping, windows, common table expressions and set operations over joins."""
    with Session(shop) as session:
        totals = (
            select(
                Person.name, func.sum(Line.pieces).label("pieces"), func.count(Basket.id.distinct()).label("baskets")
            )
            .join(Person.baskets)
            .outerjoin(Basket.lines)
            .group_by(Person.id)
            .having(func.count(Basket.id) > 0)
            .order_by(Person.name)
        )
        assert session.execute(totals).all() == [("Ann", 504, 2), ("Cy", None, 1)]

        ranked = select(
            Line.article, func.row_number().over(partition_by=Line.basket_id, order_by=Line.position.desc())
        )
        assert sorted(session.execute(ranked).all()) == [("ink", 1), ("paper", 1), ("pen", 2)]

        manager = aliased(Employee)
        chain = select(Employee.id, Employee.manager_id).where(Employee.name == "Cy").cte("chain", recursive=True)
        chain = chain.union_all(select(manager.id, manager.manager_id).join(chain, manager.id == chain.c.manager_id))
        names = session.scalars(select(Person.name).where(Person.id.in_(select(chain.c.id))).order_by(Person.name))
        assert names.all() == ["Bea", "Cy"]

        either = sa.union(select(Person.name), select(Tag.word)).order_by(sa.text("1"))
        assert session.scalars(either).all() == ["Ann", "Bea", "Cy", "Dan", "blue", "red"]

        without = select(Person.name).where(~Person.baskets.any()).order_by(Person.name)
        assert session.scalars(without).all() == ["Bea", "Dan"]
        only_paid = with_loader_criteria(Basket, Basket.status == Status.PAID)
        ann = session.scalars(select(Customer).options(selectinload(Person.baskets), only_paid)).one()
        assert [basket.status for basket in ann.baskets] == [Status.PAID]


def test_streaming(shop):
    """yield_per must give all rows, in parts, while nothing else is disturbed."""
    with Session(shop) as session, session.begin():
        session.execute(sa.insert(Tag), [{"word": f"s{n:05}"} for n in range(5000)])
    with Session(shop) as session:
        parts = session.scalars(
            select(Tag.word).where(Tag.word.like("s%")).order_by(Tag.word).execution_options(yield_per=512)
        )
        seen = []
        for part in parts.partitions():
            assert len(part) <= 512
            seen += part
        assert seen == [f"s{n:05}" for n in range(5000)]


def test_reflection(shop):
    """A program without the classes finds them: automap and inspection."""
    from sqlalchemy.ext.automap import automap_base

    automapped = automap_base()
    automapped.prepare(autoload_with=shop)
    with Session(shop) as session:
        people = session.scalars(select(automapped.classes.people).order_by(automapped.classes.people.name)).all()
        assert [person.name for person in people] == ["Ann", "Bea", "Cy", "Dan"]
        assert len(people[0].baskets_collection) == 2
    inspector = sa.inspect(shop)
    assert set(inspector.get_table_names()) == {"people", "employees", "baskets", "lines", "tags", "basket_tags"}
    assert inspector.get_pk_constraint("lines")["constrained_columns"] == ["basket_id", "position"]
    assert [check["name"] for check in inspector.get_check_constraints("lines")] == ["some_pieces"]
    assert inspector.get_foreign_keys("lines")[0]["options"] == {"ondelete": "CASCADE"}
