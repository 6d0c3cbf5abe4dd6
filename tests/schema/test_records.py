"""Records: attrs classes and SQLAlchemy tables at once."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Annotated

import attrs
import pytest
import sqlalchemy as sa
from sqlalchemy import Index, UniqueConstraint, select

from kvdialect import (
    Bytes32,
    ColumnFamilyOptions,
    Mapped,
    Session,
    UInt8,
    UInt64,
    create_engine,
    exc,
    field,
    mapped,
    registry,
)
from kvdialect.schema.records import record_of

models = registry()


def lowered(text):
    return text.lower()


@mapped(models)
class Person:
    """A record with a validator, a converter and a method."""

    __tablename__ = "people"
    name: Mapped[str] = field(primary_key=True, converter=lowered)
    age: Mapped[UInt8] = field(default=0, validator=attrs.validators.le(150))
    tags: Mapped[list[str]] = field(factory=list)

    def older(self) -> Person:
        self.age += 1
        return self

    def described(self) -> str:
        return super().__class__.__name__ and f"{self.name} ({self.age})"


@models.mapped
class Plain:
    """Plain annotations, and the registry's own decorator."""

    __tablename__ = "plain"
    number: int = field(primary_key=True)
    amount: Annotated[int, sa.SmallInteger()] = 0
    ratio: float | None = None


@attrs.define
class Existing:
    """An attrs class that was there before."""

    __tablename__ = "existing"
    key: Bytes32 = field(primary_key=True)  # noqa: RUF009 - attrs' field
    count: UInt64 = 0


AsItWas = Existing
Existing = models.mapped(Existing)


def test_a_record_is_an_attrs_class_with_slots():
    """Attrs' own functions work on it, and an unknown attribute is refused."""
    person = Person("Ann", age=3)

    assert [a.name for a in attrs.fields(Person)] == ["name", "age", "tags"]
    assert attrs.asdict(person) == {"name": "ann", "age": 3, "tags": []}
    assert attrs.evolve(person, age=4) == Person("ann", 4)
    assert repr(person) == "Person(name='ann', age=3, tags=[])"
    with pytest.raises(AttributeError):
        person.agee = 4
    assert not hasattr(person, "__dict__")


def test_the_class_has_columns_and_the_object_values():
    """One name: a SQLAlchemy column on the class, a slot read on the object."""
    assert isinstance(Person.age, sa.Column)
    assert str(Person.age == 3) == "people.age = :age_1"
    assert Person("a", 7).age == 7
    assert Person.age is Person.__table__.c.age
    with pytest.raises(AttributeError):
        Person.age = 3


def test_sqlalchemy_takes_the_class():
    """select, insert, update and delete of SQLAlchemy compile with it."""
    assert str(select(Person)) == "SELECT people.name, people.age, people.tags \nFROM people"
    assert "FROM people" in str(select(sa.func.count()).select_from(Person))
    assert str(sa.delete(Person).where(Person.age > 3)) == "DELETE FROM people WHERE people.age > :age_1"
    assert str(sa.update(Person).values(age=3)).startswith("UPDATE people SET age=")
    assert str(sa.insert(Person)).startswith("INSERT INTO people")


def test_validators_and_converters_run_in_constructor_and_assignment():
    """As attrs does it by default."""
    person = Person("ANN")
    assert person.name == "ann"
    person.name = "BEA"
    assert person.name == "bea"
    with pytest.raises(ValueError, match="150"):
        person.age = 151
    with pytest.raises(ValueError, match="150"):
        Person("x", age=200)
    assert person.age == 0


def test_methods_and_super_work():
    """A method is the user's own, with ``self`` the record and ``super()`` intact."""
    person = Person("a").older()

    assert type(person) is Person
    assert person.described() == "a (1)"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_and_copy_give_free_objects(protocol):
    """A copy has the values and belongs to no session."""
    with create_engine("memory://") as engine:
        models.create_all(engine)
        with Session(engine) as session:
            person = Person("a", 3, ["t"])
            session.add(person)
            session.commit()
            for twin in (copy.copy(person), copy.deepcopy(person), pickle.loads(pickle.dumps(person, protocol))):
                assert twin == person
                assert type(twin) is Person
                assert twin not in session
                twin.age = 9
            assert person.age == 3
            assert not session.dirty


def test_objects_compare_by_value_and_hash_by_identity():
    """Attrs' equality; sets hold objects, not values."""
    one, two = Person("a"), Person("a")

    assert one == two
    assert len({one, two}) == 2
    assert one != Person("b")


def test_objects_can_be_referred_to_weakly():
    """The identity map needs it."""
    person = Person("a")
    watch = weakref.ref(person)
    del person
    gc.collect()

    assert watch() is None


def test_a_subclass_has_what_it_adds():
    """A plain subclass, with attributes of its own, is stored as the record that it is."""

    class Pupil(Person):
        school = "none"

        def __init__(self, name, school):
            super().__init__(name)
            self.school = school

    pupil = Pupil("Cid", "elm")
    pupil.age = 8
    assert (pupil.school, pupil.name, pupil.age, type(pupil)) == ("elm", "cid", 8, Pupil)
    with create_engine("memory://") as engine:
        models.create_all(engine)
        with Session(engine) as session:
            session.add(pupil)
            session.commit()
            pupil.age = 9
            session.commit()
            pupil.age = 10
            session.rollback()

            assert pupil.age == 9
            assert session.get(Person, "cid") is pupil
        with Session(engine) as session:
            assert type(session.get(Person, "cid")) is Person


def test_an_attrs_class_is_mapped_as_it_is():
    """models.mapped(ExistingAttrsClass) gives a record with the same fields."""
    item = Existing(b"k" * 32, 5)

    assert isinstance(item, AsItWas)
    assert attrs.fields(Existing) is attrs.fields(AsItWas)
    assert isinstance(Existing.count, sa.Column)
    with create_engine("memory://") as engine:
        models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(item)
        with Session(engine) as session:
            found = session.get(Existing, b"k" * 32)
            assert found == item
            found.count = 6
            session.commit()
            assert pickle.loads(pickle.dumps(found)) == found


def test_an_attrs_class_with_a_dict_is_mapped_too():
    """attrs.define(slots=False): objects have a __dict__ besides, and changes are tracked all the same."""

    @attrs.define(slots=False)
    class Loose:
        __tablename__ = "loose"
        key: int = field(primary_key=True)
        text: str = ""

    local = registry()
    record = local.mapped(Loose)
    with create_engine("memory://") as engine:
        local.create_all(engine)
        with Session(engine) as session:
            session.add(record(1, "a"))
            session.commit()
        with Session(engine) as session:
            found = session.get(record, 1)
            assert found.text == "a"
            found.text = "b"
            session.commit()
        with Session(engine) as session:
            assert session.get(record, 1).text == "b"
            assert copy.copy(session.get(record, 1)).text == "b"


def test_post_init_runs():
    """__attrs_post_init__ sees the values."""
    local = registry()

    @mapped(local)
    class Sum:
        __tablename__ = "sums"
        left: Mapped[int] = field(primary_key=True)
        right: Mapped[int] = 0

        def __attrs_post_init__(self):
            self.right += self.left

    assert Sum(2, 3).right == 5


def test_field_index_and_unique_name_their_index():
    """As SQLAlchemy's naming convention does."""
    local = registry()

    @mapped(local)
    class Item:
        __tablename__ = "items"
        __table_args__ = (Index("by_both", "a", sa.desc("b"), kvdialect_options=ColumnFamilyOptions(bloom="full")),)
        id: Mapped[int] = field(primary_key=True)
        a: Mapped[int] = field(index=True)
        b: Mapped[str] = field(unique=True)

    definition = record_of(Item).definition
    assert [(i.name, i.unique) for i in definition.indexes] == [
        ("by_both", False),
        ("ix_items_a", False),
        ("ix_items_b", True),
    ]
    assert [(p.name, p.descending) for p in definition.index("by_both").parts] == [("a", False), ("b", True)]
    assert definition.index("by_both").options.bloom == "full"


def test_a_foreign_key_is_kept_in_the_schema():
    """SQLAlchemy's ForeignKey, in field() or the table's arguments."""
    local = registry()

    @mapped(local)
    class Parent:
        __tablename__ = "parents"
        id: Mapped[int] = field(primary_key=True)

    @mapped(local)
    class Child:
        __tablename__ = "children"
        id: Mapped[int] = field(primary_key=True)
        parent: Mapped[int] = field(sa.ForeignKey("parents.id", ondelete="CASCADE"))

    (key,) = record_of(Child).definition.foreign_keys
    assert (key.columns, key.table, key.targets, key.ondelete) == (("parent",), "parents", ("id",), "CASCADE")
    assert Child.__table__.c.parent.references(Parent.__table__.c.id)


def _declare(**namespace):
    local = registry()
    return mapped(local)(type("Bad", (), {"__module__": __name__, **namespace}))


@pytest.mark.parametrize(
    ("namespace", "words"),
    [
        ({"__annotations__": {"a": int}, "a": field(primary_key=True)}, "no __tablename__"),
        ({"__tablename__": "t", "__annotations__": {"a": int}}, "no primary key"),
        ({"__tablename__": "t"}, "no annotated fields"),
        ({"__tablename__": "t", "__annotations__": {"a": complex}, "a": field(primary_key=True)}, r"Bad\.a"),
        ({"__tablename__": "t", "__annotations__": {"a": "Nowhere"}, "a": field(primary_key=True)}, "Nowhere"),
        ({"__tablename__": "t", "__annotations__": {"a": list[int]}, "a": field(primary_key=True)}, "primary key"),
        ({"__tablename__": "t", "__annotations__": {"a": int | None}, "a": field(primary_key=True)}, "cannot be None"),
        (
            {
                "__tablename__": "t",
                "__annotations__": {"a": int},
                "a": field(primary_key=True),
                "__table_args__": (Index("i", "b"),),
            },
            "b",
        ),
        (
            {
                "__tablename__": "t",
                "__annotations__": {"a": int},
                "a": field(primary_key=True),
                "__table_args__": ({"kvdialect_format": "xml"},),
            },
            "msgpack, bincode",
        ),
        (
            {
                "__tablename__": "t",
                "__annotations__": {"a": int, "b": dict},
                "a": field(primary_key=True),
                "__table_args__": ({"kvdialect_format": "bincode"},),
            },
            "field b has no bincode layout",
        ),
    ],
)
def test_a_bad_declaration_says_what_is_wrong(namespace, words):
    """An ArgumentError when the class is mapped, and never later."""
    with pytest.raises((exc.ArgumentError, sa.exc.ConstraintColumnNotFoundError), match=words):
        _declare(**namespace)


@pytest.mark.parametrize(
    ("annotation", "args", "words"),
    [
        (int, (sa.CheckConstraint("random() > b"),), r"CHECK \(random\(\) > b\) of table t: the function random"),
        (int, (sa.CheckConstraint("b IN (SELECT 1)"),), "of table t: SELECT in a condition"),
        (int, (sa.CheckConstraint(sa.cast(sa.column("b"), sa.String) == "1"),), r"of table t: cast\(\)"),
        (
            int,
            (UniqueConstraint("b", deferrable=True, initially="DEFERRED"),),
            "of table t is deferrable",
        ),
        (int, ({"schema": "other"},), "schema 'other'"),
        (Annotated[str, sa.String(collation="NOCASE")], (), r"t\.b has the collation NOCASE"),
    ],
)
def test_what_a_table_of_records_does_not_keep_is_refused(annotation, args, words):
    """A constraint that is accepted is enforced."""
    annotations = {"a": int, "b": annotation}
    with pytest.raises(exc.NotSupportedError, match=words):
        _declare(__tablename__="t", __annotations__=annotations, a=field(primary_key=True), __table_args__=args)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("c > 0", "names 'c', which is no column of t; its columns are a, b"),
        (sa.column("c") > 0, "names 'c', which is no column of the table; its columns are a, b"),
        ("b >", "ends too early"),
        ("b > 0 0", "has '0' where it makes no sense"),
        ("b > 'x'", r"t\.b is compared with 'x' \(str\); it compares with a number"),
        ("other.b > 0", "names other.b; it can only be over the columns of t"),
    ],
)
def test_a_check_that_is_none_is_refused(check, words):
    """When the class is mapped, by table and text."""
    with pytest.raises(exc.ArgumentError, match=rf"^CHECK \(.*\) of table t: .*{words}"):
        _declare(
            __tablename__="t",
            __annotations__={"a": int, "b": int},
            a=field(primary_key=True),
            __table_args__=(sa.CheckConstraint(check),),
        )


def test_what_an_enum_checks_itself_is_no_check_constraint():
    """SQLAlchemy makes one of it on demand; the store takes members only anyway."""
    annotations = {"a": int, "b": Annotated[str, sa.Enum("x", "y", create_constraint=True)]}
    made = _declare(__tablename__="t", __annotations__=annotations, a=field(primary_key=True))
    assert record_of(made).definition.names == ("a", "b")


def test_a_record_is_not_derived_from_a_record():
    """Common fields belong into a class that is no record; said instead of a conflict of metaclasses."""
    with pytest.raises(exc.ArgumentError, match="derived from the record Plain"):

        @mapped(registry())
        class Derived(Plain):
            __tablename__ = "derived"
            more: Mapped[int] = 0


def test_a_table_is_mapped_once():
    """Two classes of one registry cannot have the same table."""
    local = registry()
    namespace = {"__tablename__": "t", "__annotations__": {"a": int}}
    mapped(local)(type("One", (), {**namespace, "a": field(primary_key=True)}))

    with pytest.raises(exc.ArgumentError, match="mapped already"):
        mapped(local)(type("Two", (), {**namespace, "a": field(primary_key=True)}))


def test_field_refuses_what_it_does_not_know():
    """A mistyped option is not swallowed."""
    with pytest.raises(exc.ArgumentError, match="primarykey"):
        field(primarykey=True)
    with pytest.raises(exc.ArgumentError, match="SQLAlchemy type"):
        field(3)
