"""What programs do with related objects, found to be otherwise than in SQLAlchemy by those who tried."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as so
from sqlalchemy import JSON, ForeignKey, delete, func, insert, literal, select, update

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry, relationship, sessionmaker

models = registry()
Key = Annotated[int, field(primary_key=True)]


@mapped(models)
class Parent:
    __tablename__ = "parents"
    id: Mapped[int] = field(primary_key=True)
    children: Mapped[list[Child]] = relationship(back_populates="parent", cascade="all, delete-orphan")


@mapped(models)
class Child:
    __tablename__ = "children"
    id: Mapped[int] = field(primary_key=True)
    parent_id: Mapped[int | None] = field(ForeignKey("parents.id"), default=None, index=True)
    parent: Mapped[Parent | None] = relationship(back_populates="children")


@mapped(models)
class Course:
    __tablename__ = "courses"
    id: Mapped[int | None] = field(primary_key=True, autoincrement=True)
    name: Mapped[str] = ""
    places: Mapped[list[Place]] = relationship(back_populates="course", cascade="all, delete-orphan")


@mapped(models)
class Student:
    __tablename__ = "students"
    id: Mapped[Key]
    mail: Mapped[Annotated[str | None, field(unique=True)]] = None
    tutor_id: Mapped[Annotated[int | None, ForeignKey("students.id")]] = field(default=None, index=True)
    places: Mapped[list[Place]] = relationship(back_populates="student", cascade="all, delete-orphan")


@mapped(models)
class Place:
    """A course's place that a student has."""

    __tablename__ = "places"
    student_id: Mapped[int | None] = field(ForeignKey("students.id"), primary_key=True, default=None)
    course_id: Mapped[int | None] = field(ForeignKey("courses.id"), primary_key=True, default=None)
    student: Mapped[Student | None] = relationship(back_populates="places")
    course: Mapped[Course | None] = relationship(back_populates="places")


@mapped(models)
class Room:
    """Its foreign key is set by its relationship alone."""

    __tablename__ = "rooms"
    id: Mapped[int] = field(primary_key=True)
    parent_id: Mapped[int] = field(ForeignKey("parents.id"), init=False)
    parent: Mapped[Parent] = relationship()


@mapped(models)
class Document:
    __tablename__ = "documents"
    id: Mapped[Key]
    content: Mapped[Annotated[Any, JSON] | None] = None


@pytest.fixture
def engine(url):
    with create_engine(url) as opened:
        models.create_all(opened)
        yield opened


@pytest.fixture
def session(engine):
    with Session(engine) as opened:
        yield opened


def family(session, *ids: int) -> None:
    session.add(Parent(1, children=[Child(each) for each in ids]))
    session.commit()


def children(session) -> list[tuple[int, int | None]]:
    return [(each.id, each.parent_id) for each in session.scalars(select(Child).order_by(Child.id))]


# ------------------------------------------------------------------------------------------------ merge


@pytest.mark.parametrize("given", [3, 1])
def test_a_child_merged_with_its_parent_leaves_the_other_children(session, given):
    """The program has set ``Child.parent``; that the transient parent has this one child was never said."""
    family(session, 1, 2)
    session.merge(Child(given, parent=Parent(1)))
    session.commit()
    assert children(session) == [(each, 1) for each in sorted({1, 2, given})]


def test_a_parent_merged_with_its_children_says_all_of_them(session):
    family(session, 1, 2)
    session.merge(Parent(1, children=[Child(1), Child(5)]))
    session.commit()
    assert children(session) == [(1, 1), (5, 1)]


def test_a_merge_across_an_association_leaves_the_others(session):
    session.add_all([Course(id=1), Student(1), Student(2)])
    session.add_all([Place(1, 1), Place(2, 1)])
    session.commit()
    session.merge(Student(3, places=[Place(3, 1, course=Course(id=1))]))
    session.commit()
    assert [each.student_id for each in session.scalars(select(Place))] == [1, 2, 3]


def test_what_was_taken_out_of_a_detached_parent_is_deleted(engine):
    with Session(engine) as session:
        family(session, 1, 2)
        parent = session.get(Parent, 1)
        session.load(parent)
    del parent.children[0]
    with Session(engine) as session, session.begin():
        session.add(parent)
    with Session(engine) as session:
        assert children(session) == [(2, 1)]


# ------------------------------------------------------------------------------------------------ conditions


def test_a_comparison_with_a_parent_that_has_no_key_is_refused(session):
    """It would be IS NULL, and meet the children without a parent."""
    session.add_all([Child(1), Child(2)])
    session.commit()
    stranger = Parent(None)
    for statement in (select(Child).where(Child.parent == stranger), delete(Child).where(Child.parent == stranger)):
        with pytest.raises(exc.ArgumentError, match="has no id yet: add it to the session first"):
            session.execute(statement)
    assert len(children(session)) == 2


def test_a_comparison_with_a_new_parent_takes_the_key_that_the_flush_gives(session):
    course, student = Course(name="new"), Student(1)
    session.add_all([student, course, Place(student=student, course=course)])
    found = session.scalars(select(Place).where(Place.course == course)).one()
    assert found.course_id == course.id is not None


def test_other_parents_and_none(session):
    family(session, 1)
    session.add(Child(2))
    session.commit()
    parent = session.get(Parent, 1)

    def found(condition):
        return session.scalars(select(Child.id).where(condition).order_by(Child.id)).all()

    assert found(Child.parent != parent) == [2]
    assert found(Child.parent.is_not(parent)) == [2]
    assert found(Child.parent == parent) == [1]
    assert found(Child.parent != None) == [1]  # noqa: E711
    assert found(Child.parent.is_not(None)) == [1]


# ------------------------------------------------------------------------------------------------ declarations


def test_fields_in_annotations():
    """As SQLAlchemy has ``Annotated[int, mapped_column(primary_key=True)]``."""
    assert {(index.name, index.unique) for index in Student.__table__.indexes} == {
        ("ix_students_mail", True),
        ("ix_students_tutor_id", False),
    }
    assert {str(key.target_fullname) for key in Student.__table__.foreign_keys} == {"students.id"}
    assert Student.__table__.primary_key.columns.keys() == ["id"]


def test_what_an_annotation_declares_unique_is(session):
    session.add_all([Student(1, "a"), Student(2, "a")])
    with pytest.raises(exc.IntegrityError):
        session.flush()


def test_a_default_and_options_of_the_body_go_before_those_of_the_annotation():
    others = registry()
    shared = Annotated[str, field(sa.String(10), default="x", index=True)]

    @mapped(others)
    class Named:
        __tablename__ = "named"
        id: Mapped[Key]
        one: Mapped[shared]
        two: Mapped[shared] = "y"
        three: Mapped[shared] = field(sa.String(20), unique=True)

    assert Named(1) == Named(1, "x", "y", "x")
    assert [Named.__table__.c[name].type.length for name in ("one", "two", "three")] == [10, 10, 20]
    assert {tuple(index.columns.keys()): index.unique for index in Named.__table__.indexes} == {
        ("one",): False,
        ("two",): False,
        ("three",): True,
    }


def test_a_key_that_refers_to_another_table_gets_no_id(session):
    """It would be some other record's parent."""
    session.add_all([Course(id=1), Student(1), Place(student=Student(2))])
    with pytest.raises(exc.DataError, match=r"places\.course_id .* is None"):
        session.flush()


def test_a_foreign_key_that_the_constructor_does_not_take(session):
    session.add(Room(1, parent=Parent(7)))
    session.commit()
    assert session.get(Room, 1).parent_id == 7
    session.add(Room(2))
    with pytest.raises(exc.DataError, match=r"parent_id of Room was never set"):
        session.flush()


def test_sqlalchemys_symbol_for_json_null_is_no_number(session):
    session.add(Document(1, JSON.NULL))
    with pytest.raises(exc.DataError, match=r"JSON_NULL.*allowed: JSON: None, bool"):
        session.flush()


# ------------------------------------------------------------------------------------------------ sessions


def test_scoped_sessions_do_what_sessions_do(engine):
    current = so.scoped_session(sessionmaker(engine))
    current.add(Parent(1))
    current.add_all([Child(1, 1)])
    current.flush()
    assert current.get(Parent, 1) is current.get_one(Parent, 1)
    assert current.execute(select(func.count()).select_from(Child)).scalar_one() == 1
    assert current.scalars(select(Child.id)).all() == [1]
    assert current.scalar(select(Child.id)) == 1
    merged = current.merge(Child(1, None))
    assert current.is_modified(merged)
    current.refresh(merged)
    assert merged.parent_id == 1
    current.delete(merged)
    current.commit()
    assert current.get(Child, 1) is None
    with pytest.raises(exc.ArgumentError, match="a session is of one"):
        current.execute(select(Child), bind_arguments={"mapper": Child})
    current.remove()


@pytest.mark.parametrize("read", ["scalars", "execute", "refresh"])
def test_records_read_for_update_count_as_written(engine, read):
    with Session(engine) as session:
        family(session)
        session.add(Child(1))
        session.commit()
        if read == "refresh":
            session.refresh(session.get(Parent, 1), with_for_update=True)
        else:
            getattr(session, read)(select(Parent).where(Parent.id == 1).with_for_update()).one()
        session.get(Child, 1).parent_id = 1
        with Session(engine) as other, other.begin():
            other.delete(other.get(Parent, 1))
        with pytest.raises(exc.ConflictError):
            session.commit()


def test_for_update_of_one_of_two(engine):
    pytest.importorskip("apsw", reason="a join is the SQL door's")
    with Session(engine) as session:
        family(session, 1)
        joined = select(Parent, Child).join(Child, Child.parent_id == Parent.id).with_for_update(of=Child)
        assert len(session.execute(joined).all()) == 1
        with Session(engine) as other, other.begin():
            other.add(Parent(2))
            other.get(Child, 1).parent_id = 2
        session.add(Parent(3))
        with pytest.raises(exc.ConflictError):
            session.commit()


def test_what_of_for_update_and_distinct_cannot_be_done_is_refused(session):
    """The SQL door would leave the clauses out, as SQLite does."""
    with pytest.raises(exc.NotSupportedError, match="select the records"):
        session.execute(select(Parent.id).with_for_update())
    with pytest.raises(exc.NotSupportedError, match="skip_locked"):
        session.scalars(select(Parent).with_for_update(skip_locked=True))
    with pytest.warns(sa.exc.SADeprecationWarning):
        statement = select(Child.id).distinct(Child.parent_id)
    with pytest.raises(exc.NotSupportedError, match="DISTINCT ON"):
        session.execute(statement)


def test_a_select_that_is_not_to_flush(session):
    session.add(Parent(1))
    count = select(func.count()).select_from(Parent)
    assert session.scalar(count.execution_options(autoflush=False)) == 0
    assert session.execute(count, execution_options={"autoflush": False}).scalar_one() == 0
    assert session.scalar(count) == 1


def test_row_counts_of_writes_that_return_rows(session):
    pytest.importorskip("apsw", reason="RETURNING is the SQL door's")
    family(session, 1, 2)
    assert session.execute(insert(Parent).values(id=literal(2) + 3)).rowcount == 1
    updated = session.execute(update(Child).values(parent_id=5).returning(Child))
    assert (updated.rowcount, [each.id for each in updated.scalars()]) == (2, [1, 2])
    deleted = session.execute(delete(Child).returning(Child.id))
    assert (deleted.rowcount, deleted.scalars().all()) == (2, [1, 2])
