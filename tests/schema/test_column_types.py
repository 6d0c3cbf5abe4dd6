"""Types and annotations: what each stands for in a SQLAlchemy table and in bytes."""

from __future__ import annotations

import copy
import enum
import pickle
import sys
import typing
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional, Union
from uuid import UUID

import attrs
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import BinaryExpression

from kvdialect import exc
from kvdialect.codec.composite import ConvertedKind, DictKind, JsonKind, ListKind, Part, TupleKind
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.records import RecordKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind
from kvdialect.schema import types
from kvdialect.schema.types import (
    Bytes32,
    FixedBinary,
    Int8,
    SignedInteger,
    Structured,
    UInt8,
    UInt64,
    UnsignedInteger,
    contains_element,
    kind_of,
    resolve_annotation,
)


class Color(enum.Enum):
    """Its names, its values and its order of definition all differ."""

    red = "r"
    green = "g"
    alias = "r"  # noqa: PIE796


class Level(enum.IntEnum):
    """An int that is an enum."""

    low = 1


@attrs.frozen
class Coin:
    """A nested class with annotated fields."""

    parent: Bytes32
    amount: UInt64
    spent: UInt64 | None = None


@attrs.define
class Snapshot:
    """A nested class with all sorts of fields."""

    coins: list[Coin]
    colors: dict[str, Color] = attrs.field(factory=dict)
    total: Annotated[Decimal, sa.Numeric(20, 2)] = Decimal(0)
    twice: int = attrs.Factory(lambda self: len(self.coins) * 2, takes_self=True)
    notes: dict[str, Any] = attrs.field(factory=dict)


@attrs.define
class Tree:
    """A class that contains itself."""

    children: list[Tree]


@attrs.define
class Bare:
    """A field without annotation."""

    x = attrs.field()
    y: int = 0


@attrs.define
class Broken:
    """An annotation that names nothing."""

    x: Nowhere  # noqa: F821


@attrs.define
class Holder:
    """A field that cannot be stored, deep inside."""

    items: list[set[int]]


T = typing.TypeVar("T")


@attrs.define
class Box(typing.Generic[T]):
    """A generic class."""

    item: T


@dataclass
class Plain:
    """A dataclass."""

    x: int


class Lower(sa.TypeDecorator):
    """Text that is stored in lower case."""

    impl = sa.String(8)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        assert dialect.name == "kvdialect"
        return value.lower()

    def process_result_value(self, value, dialect):
        assert dialect.name == "kvdialect"
        return value.upper()


class Renamed(sa.TypeDecorator):
    """A decorator that converts nothing."""

    impl = sa.Integer
    cache_ok = True


class PerDialect(sa.TypeDecorator):
    """A decorator that chooses its impl by the dialect, as GUID recipes do."""

    impl = sa.LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect):
        return dialect.type_descriptor(FixedBinary(16) if dialect.name == "kvdialect" else sa.String(32))


class Pickled(sa.TypeDecorator):
    """A decorator around a pickle."""

    impl = sa.PickleType
    cache_ok = True


class Foreign(sa.types.UserDefinedType):
    """A type that only a database knows."""

    cache_ok = True

    def get_col_spec(self):
        return "FOREIGN"


# ------------------------------------------------------------------------------------------ types in SQLAlchemy

OWN_TYPES = [SignedInteger(8), UnsignedInteger(64), FixedBinary(32), Structured(list[int]), Structured(Coin)]


@pytest.mark.parametrize("type_", OWN_TYPES, ids=repr)
def test_own_types_are_proper_types(type_):
    """They are copied, pickled, printed and cached as SQLAlchemy's own."""
    for other in (copy.copy(type_), type_.copy(), pickle.loads(pickle.dumps(type_)), type_.adapt(type(type_))):
        assert repr(other) == repr(type_)
        assert kind_of(other) == kind_of(type_)
        assert other._static_cache_key == type_._static_cache_key
    assert type_.python_type is kind_of(type_).python
    assert type(type_).__name__ in repr(type_)


@pytest.mark.parametrize("dialect", [None, postgresql.dialect()], ids=["default", "postgresql"])
def test_tables_of_own_types_compile(dialect):
    """Statements and DDL print; statements have a cache key."""
    columns = [sa.Column(f"c{number}", type_) for number, type_ in enumerate(OWN_TYPES)]
    table = sa.Table("t", sa.MetaData(), *columns).to_metadata(sa.MetaData())
    statement = sa.select(table).where(table.c.c1 == 2**64 - 1, table.c.c2 == b"", table.c.c3.contains(1))

    assert "c3 @> " in str(statement.compile(dialect=dialect))
    assert "BIGINT" in str(sa.schema.CreateTable(table).compile(dialect=dialect))
    assert statement._generate_cache_key() is not None


def test_cache_keys_tell_types_apart():
    """Statements on columns of different types share nothing."""
    keys = {str(type_._static_cache_key) for type_ in (*OWN_TYPES, SignedInteger(16), UnsignedInteger(8))}

    assert len(keys) == len(OWN_TYPES) + 2


def test_contains_is_an_operator_of_its_own():
    """Queries recognise it, with the element typed as the list's elements are."""
    table = sa.Table("t", sa.MetaData(), sa.Column("tags", Structured(list[UInt8 | None])), sa.Column("n", sa.Integer))

    clause = table.c.tags.contains(3)

    assert isinstance(clause, BinaryExpression)
    assert clause.operator is contains_element
    assert isinstance(clause.type, sa.Boolean)
    assert isinstance(clause.right.type, UnsignedInteger)
    assert clause.right.value == 3
    assert table.c.tags.contains(table.c.n).right is table.c.n
    assert "NOT" in str(~clause)


@pytest.mark.parametrize(
    ("annotation", "element"),
    [
        (list[int], sa.BigInteger),
        (tuple[str, ...], sa.String),
        (list, sa.JSON),
        (list[Any], sa.JSON),
        (list[Color], sa.Enum),
    ],
)
def test_contains_types_its_element(annotation, element):
    """For the SQL door, which binds it by that type."""
    column = sa.column("c", Structured(annotation))

    assert isinstance(column.contains("red").right.type, element)


@pytest.mark.parametrize("annotation", [dict[str, int], Coin, tuple[int, str]])
def test_contains_asks_for_a_list(annotation):
    """A dict or a class has no elements in this sense."""
    with pytest.raises(exc.ArgumentError, match="element of a list"):
        sa.column("c", Structured(annotation)).contains(1)


@pytest.mark.parametrize(
    ("make", "argument", "match"),
    [
        (SignedInteger, 24, "allowed: 8, 16, 32, 64"),
        (UnsignedInteger, "64", "allowed: 8, 16, 32, 64"),
        (FixedBinary, 0, "1 byte or more"),
        (FixedBinary, True, "1 byte or more"),
        (Structured, {}, "annotation such as"),
    ],
)
def test_impossible_types(make, argument, match):
    """Refused where they are written."""
    with pytest.raises(exc.ArgumentError, match=match):
        make(argument)


def test_annotated_names():
    """Each name says its width."""
    for bits in (8, 16, 32, 64):
        assert resolve_annotation(getattr(types, f"Int{bits}")).kind == IntKind(bits)
        assert resolve_annotation(getattr(types, f"UInt{bits}")).kind == IntKind(bits, signed=False)
    for length in (4, 8, 16, 20, 32, 48, 64):
        assert resolve_annotation(getattr(types, f"Bytes{length}")).kind == FixedBytesKind(length)


# ------------------------------------------------------------------------------------------ kinds of types


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        (sa.Boolean(), BoolKind()),
        (sa.SmallInteger(), IntKind(16)),
        (sa.Integer(), IntKind(64)),
        (sa.BigInteger(), IntKind(64)),
        (sa.Float(), FloatKind()),
        (sa.Float(24), FloatKind()),
        (sa.Double(), FloatKind()),
        (sa.REAL(), FloatKind()),
        (sa.Numeric(10, 2), DecimalKind(10, 2)),
        (sa.DECIMAL(38, 0), DecimalKind(38, 0)),
        (sa.String(), TextKind()),
        (sa.String(20), TextKind(20)),
        (sa.Unicode(20), TextKind(20)),
        (sa.Text(), TextKind()),
        (sa.UnicodeText(), TextKind()),
        (sa.CHAR(3), TextKind(3)),
        (sa.LargeBinary(), BytesKind()),
        (sa.LargeBinary(5), BytesKind(5)),
        (sa.BLOB(), BytesKind()),
        (sa.VARBINARY(5), BytesKind(5)),
        (sa.DateTime(), DatetimeKind()),
        (sa.DateTime(timezone=True), DatetimeKind(aware=True)),
        (sa.TIMESTAMP(timezone=True), DatetimeKind(aware=True)),
        (sa.Date(), DateKind()),
        (sa.Time(), TimeKind()),
        (sa.Interval(), TimedeltaKind()),
        (sa.Uuid(), UuidKind()),
        (sa.Enum(Color), EnumKind(["red", "green"])),
        (sa.Enum(Color, omit_aliases=False), EnumKind(["red", "green", "alias"])),
        (sa.Enum(Color, values_callable=lambda cls: [member.value for member in cls]), EnumKind(["r", "g"])),
        (sa.Enum("x", "y"), EnumKind(["x", "y"])),
        (sa.JSON(), JsonKind()),
        (sa.ARRAY(sa.Integer), ListKind(IntKind(), nullable=True)),
        (sa.Integer().with_variant(sa.SmallInteger(), "kvdialect"), IntKind(16)),
        (sa.Integer().with_variant(sa.SmallInteger(), "sqlite"), IntKind(64)),
        (SignedInteger(8), IntKind(8)),
        (UnsignedInteger(64), IntKind(64, signed=False)),
        (FixedBinary(32), FixedBytesKind(32)),
        (Structured(dict[str, int]), DictKind(IntKind())),
        (Renamed(), IntKind()),
        (PerDialect(), FixedBytesKind(16)),
        (Lower(), TextKind(8)),
    ],
    ids=repr,
)
def test_kind_of_type(type_, kind):
    """Each SQLAlchemy type has its bytes."""
    assert kind_of(type_) == kind


def test_enum_kinds_give_members_back():
    """By name, or by what values_callable says."""
    by_value = kind_of(sa.Enum(Color, values_callable=lambda cls: [member.value for member in cls]))

    assert kind_of(sa.Enum(Color)).load("green") is Color.green
    assert by_value.store(Color.green) == "g"
    assert by_value.load("r") is Color.red


def test_uuid_as_text():
    """Values as the type gives them, bytes as ever."""
    kind = kind_of(sa.Uuid(as_uuid=False))

    assert kind.python is str
    assert kind.encode(kind.check(str(UUID(int=1)))) == UUID(int=1).bytes


@pytest.mark.parametrize(
    ("type_", "match"),
    [
        (sa.PickleType(), "runs when it is read; write an attrs class"),
        (Pickled(), "runs when it is read"),
        (sa.Numeric(), r"write Numeric\(10, 2\)"),
        (sa.Numeric(10), r"write Numeric\(10, 2\)"),
        (sa.Numeric(60, 2), "1 to 38 digits"),
        (sa.Numeric(5, 6), "scale"),
        (sa.Numeric(5, 2, asdecimal=False), "write Float"),
        (sa.Float(asdecimal=True), r"write Numeric\(10, 2\)"),
        (sa.Time(timezone=True), "write Time"),
        (sa.ARRAY(sa.Integer, dimensions=2), "dimension"),
        (sa.String(0), "length"),
        (sa.types.NullType(), "no type; give it one"),
        (Foreign(), "a TypeDecorator makes others"),
        (postgresql.INET(), "a TypeDecorator makes others"),
        (sa.Enum(), "at least one name"),
    ],
    ids=repr,
)
def test_types_that_cannot_be_stored_say_what_to_write(type_, match):
    """ArgumentError names the type and the way out."""
    with pytest.raises(exc.ArgumentError, match=match):
        kind_of(type_)


def test_decorators_convert_around_their_impl():
    """Stored and ordered is the bound value."""
    kind = kind_of(Lower())

    assert isinstance(kind, ConvertedKind)
    assert kind.encode("AB") == b"ab"
    assert kind.decode(b"ab") == "AB"
    assert kind.mutable
    assert "Lower" in kind.allowed
    for value in ("123456789", 5):
        with pytest.raises(ValueError):  # noqa: PT011
            kind.check(value)


def test_decorator_without_conversions_is_not_mutable():
    """It is proven by its impl."""
    assert not kind_of(Renamed()).mutable
    assert kind_of(Renamed()).check(5) == 5


# ------------------------------------------------------------------------------------------ annotations

CoinId = NewType("CoinId", bytes)


@pytest.mark.parametrize(
    ("annotation", "type_", "kind", "python"),
    [
        (bool, sa.Boolean, BoolKind(), bool),
        (int, sa.BigInteger, IntKind(), int),
        (float, sa.Float, FloatKind(), float),
        (str, sa.String, TextKind(), str),
        (bytes, sa.LargeBinary, BytesKind(), bytes),
        (datetime, sa.DateTime, DatetimeKind(), datetime),
        (date, sa.Date, DateKind(), date),
        (time, sa.Time, TimeKind(), time),
        (timedelta, sa.Interval, TimedeltaKind(), timedelta),
        (UUID, sa.Uuid, UuidKind(), UUID),
        (Color, sa.Enum, EnumKind(["green", "red"]), Color),
        (Level, sa.Enum, EnumKind(["low"]), Level),
        (Literal["b", "a"], sa.Enum, EnumKind(["a", "b"]), Literal["b", "a"]),
        (Int8, SignedInteger, IntKind(8), int),
        (Bytes32, FixedBinary, FixedBytesKind(32), bytes),
        (Annotated[int, sa.SmallInteger], sa.SmallInteger, IntKind(16), int),
        (Annotated[int, "a note", sa.SmallInteger(), "another"], sa.SmallInteger, IntKind(16), int),
        (Annotated[Int8, sa.SmallInteger], sa.SmallInteger, IntKind(16), int),
        (Annotated[str, "a note"], sa.String, TextKind(), str),
        (Annotated[Decimal, sa.Numeric(10, 2)], sa.Numeric, DecimalKind(10, 2), Decimal),
        (Annotated[datetime, sa.DateTime(timezone=True)], sa.DateTime, DatetimeKind(aware=True), datetime),
        (Annotated[str, Lower], Lower, TextKind(8), str),
        (Annotated[Any, sa.JSON], sa.JSON, JsonKind(), Any),
        (Annotated[dict[str, Any], sa.JSON], sa.JSON, JsonKind(), dict[str, Any]),
        (CoinId, sa.LargeBinary, BytesKind(), bytes),
        (list[UInt8], Structured, ListKind(IntKind(8, signed=False)), list[UInt8]),
        (list[str | None], Structured, ListKind(TextKind(), nullable=True), list[str | None]),
        (list, Structured, ListKind(JsonKind()), list),
        (dict, Structured, DictKind(JsonKind()), dict),
        (dict[str, list[date]], Structured, DictKind(ListKind(DateKind())), dict[str, list[date]]),
        (tuple, Structured, ListKind(JsonKind(), python=tuple), tuple),
        (tuple[UUID, ...], Structured, ListKind(UuidKind(), python=tuple), tuple[UUID, ...]),
        (tuple[int, str], Structured, TupleKind([Part(IntKind()), Part(TextKind())]), tuple[int, str]),
        (tuple[()], Structured, TupleKind([]), tuple[()]),
        (typing.List[int], Structured, ListKind(IntKind()), typing.List[int]),  # noqa: UP006
    ],
    ids=str,
)  # fmt: skip
def test_annotations(annotation, type_, kind, python):
    """Each gives its SQLAlchemy type and kind; with None allowed, and without."""
    resolved = resolve_annotation(annotation)

    assert isinstance(resolved.type, type_)
    assert (resolved.kind, resolved.nullable) == (kind, False)
    assert resolved.python == python
    assert kind_of(resolved.type) == kind
    for optional in (
        annotation | None,
        Optional[annotation],  # noqa: UP045
        Union[None, annotation],  # noqa: UP007
        Annotated[annotation | None, "note"],
    ):
        again = resolve_annotation(optional)
        assert (again.kind, again.nullable, again.python) == (kind, True, python)
        assert isinstance(again.type, type_)


def test_python_classes_are_kept_in_the_kind():
    """What is loaded is what the annotation says."""
    assert resolve_annotation(Color).kind.load("red") is Color.red
    assert resolve_annotation(tuple[int, ...]).kind.load((1,)) == (1,)
    assert isinstance(resolve_annotation(Coin).kind, RecordKind)
    assert resolve_annotation(Coin).kind.python is Coin


def test_nested_classes():
    """Fields by their annotations, to any depth, with their defaults."""
    kind = resolve_annotation(Snapshot).kind
    coin = Coin(b"p" * 32, 2**64 - 1)
    fields = {field.name: field for field in kind.fields}

    assert fields["coins"].part.kind == ListKind(resolve_annotation(Coin).kind)
    assert fields["coins"].default is None
    assert fields["colors"].default(None) == {}
    assert fields["colors"].default(None) is not fields["colors"].default(None)
    assert fields["total"].default(None) == 0
    assert fields["twice"].default(Snapshot([coin])) == 2
    assert kind.mutable
    assert not resolve_annotation(Coin).kind.mutable
    assert kind.check(Snapshot([coin], {"a": Color.red}, Decimal(1)))
    for wrong in (
        Snapshot([coin], {"a": "red"}),
        Snapshot([attrs.evolve(coin, amount=2**64)]),
        Snapshot([], notes={"a": {1}}),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            kind.check(wrong)


def test_annotated_wins_from_outside():
    """The outermost type counts, as with SQLAlchemy."""
    assert resolve_annotation(Annotated[UInt8 | None, sa.SmallInteger]).kind == IntKind(16)
    assert resolve_annotation(Annotated[UInt8, "note"] | None).kind == IntKind(8, signed=False)


def test_explicit_type_wins():
    """Also where the annotation alone says too little, or nothing that can be stored."""
    assert resolve_annotation(int | None, sa.SmallInteger()).kind == IntKind(16)
    assert resolve_annotation(int | None, sa.SmallInteger()).nullable
    assert resolve_annotation(UInt8, sa.SmallInteger()).kind == IntKind(16)
    assert resolve_annotation(Decimal, sa.Numeric(10, 2)).kind == DecimalKind(10, 2)
    assert resolve_annotation(Any, sa.JSON()).kind == JsonKind()
    assert resolve_annotation(set[int], Lower()).python == set[int]
    with pytest.raises(exc.ArgumentError, match="Numeric"):
        resolve_annotation(Decimal, sa.Numeric())


@pytest.mark.parametrize(
    ("annotation", "match"),
    [
        (Decimal, r"write Annotated\[Decimal, Numeric\(10, 2\)\]"),
        (Decimal | None, r"write Annotated\[Decimal, Numeric\(10, 2\)\]"),
        (list[Decimal], r"write Annotated\[Decimal, Numeric\(10, 2\)\]"),
        (Any, r"write a type, or Annotated\[Any, JSON\]"),
        (object, "does not say what is stored"),
        (None, "can only be None"),
        (type(None), "can only be None"),
        (int | str, "one type, not int | str"),
        (int | str | None, "one type"),
        (list[int | str], "one type"),
        (set[int], r"write list\[...\]"),
        (frozenset, r"write list\[...\]"),
        (dict[int, str], "keys that are no str"),
        (complex, "values of complex cannot be stored; allowed: bool, int"),
        (Plain, "dataclass: make it an attrs class"),
        ("Coin", "not resolved"),
        (Literal[1, 2], "write an Enum class"),
        (Tree, "Tree contains itself"),
        (list[Tree], "Tree contains itself"),
        (Box[int], "generic class"),
        (Bare, "Bare.x has no annotation"),
        (Broken, "names what is not defined"),
        (Holder, r"Holder.items: set\[int\] has no order"),
        (T, "values of ~T cannot be stored"),
    ],
    ids=str,
)
def test_annotations_that_cannot_be_stored_say_what_to_write(annotation, match):
    """ArgumentError with the annotation and the way out."""
    with pytest.raises(exc.ArgumentError, match=match):
        resolve_annotation(annotation)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is new in Python 3.12")
def test_type_statements():
    """They stand for what they name."""
    names: dict[str, Any] = {"UInt64": UInt64}
    exec("type Amount = UInt64 | None\ntype Many[T] = list[T]", names)  # noqa: S102

    assert resolve_annotation(names["Amount"]).kind == IntKind(64, signed=False)
    assert resolve_annotation(names["Amount"]).nullable
    assert resolve_annotation(names["Many"][int]).kind == ListKind(IntKind())
