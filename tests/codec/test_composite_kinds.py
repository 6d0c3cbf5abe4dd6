"""Lists, dicts, tuples, JSON, nested classes and conversions."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import attrs
import msgspec
import pytest
from kind_cases import POINT, SHAPE, Color, Point, Shape

from kvdialect.codec.composite import DEEPEST_JSON, ConvertedKind, DictKind, JsonKind, ListKind, Part, TupleKind
from kvdialect.codec.kinds import kind_from_spec
from kvdialect.codec.numeric import DecimalKind, FloatKind, IntKind
from kvdialect.codec.records import RecordField, RecordKind
from kvdialect.codec.strings import BytesKind, TextKind


def through_wire(kind, value):
    """Store a value, pack and unpack its wire form, and load it."""
    packed = msgspec.msgpack.encode(kind.store(value))
    return kind.load(msgspec.msgpack.decode(packed, type=kind.wire))


class Fruit(StrEnum):
    """A str that is an enum."""

    apple = "apple"


class Words(list):
    """A list of another class, as SQLAlchemy's MutableList is."""

    __slots__ = ()


def test_valid_values_are_not_copied():
    """What needs no normalising is returned as it is, so that checking a long list costs no second one."""
    for kind, value in [
        (ListKind(IntKind()), [1, 2]),
        (ListKind(DecimalKind(5, 2)), [Decimal("1.00")]),
        (DictKind(TextKind()), {"é": "é"}),
        (JsonKind(), {"a": [1, {"b": None}]}),
        (SHAPE, Shape("é", [Point(1, None)])),
    ]:
        assert kind.check(value) is value


def test_elements_are_normalised_in_a_copy():
    """The value of the program stays as it was."""
    value = ["a", Fruit.apple]

    checked = ListKind(TextKind()).check(value)

    assert [type(element) for element in checked] == [str, str]
    assert value[1] is Fruit.apple
    assert type(ListKind(TextKind()).check(Words(["a"]))) is list
    assert DictKind(DecimalKind(5, 2)).check({Fruit.apple: 1}) == {"apple": Decimal("1.00")}


def test_fields_of_records_are_normalised_in_a_copy():
    """Frozen or not, the instance of the program stays as it was."""
    value = Point(1, 2)

    checked = POINT.check(value)

    assert type(checked.y) is float
    assert type(value.y) is int


def test_mutability_is_known():
    """Frozen classes and tuples of what cannot change cannot change."""
    assert not POINT.mutable
    assert SHAPE.mutable
    assert ListKind(IntKind()).mutable
    assert not ListKind(POINT, python=tuple).mutable
    assert ListKind(SHAPE, python=tuple).mutable
    assert not TupleKind([Part(IntKind()), Part(POINT)]).mutable
    assert TupleKind([Part(ListKind(IntKind()))]).mutable
    assert DictKind(IntKind()).mutable
    assert JsonKind().mutable


def test_json_normalises_as_json_columns_do():
    """Tuples come back as lists; text of subclasses as text."""
    checked = JsonKind().check({"a": (1, (Fruit.apple,)), "b": Fruit.apple})

    assert checked == {"a": [1, ["apple"]], "b": "apple"}
    assert type(checked["b"]) is str


def test_json_is_bounded_in_depth():
    """Deep enough for any document, and never deeper than packing can recurse."""
    value = None
    for _ in range(DEEPEST_JSON):
        value = [value]

    assert through_wire(JsonKind(), JsonKind().check(value)) == value
    with pytest.raises(ValueError, match="deep"):
        JsonKind().check([value])


def test_dicts_keep_their_order():
    """The order of insertion is part of what is stored."""
    assert list(through_wire(DictKind(IntKind()), {"b": 1, "a": 2})) == ["b", "a"]


def test_record_of_an_older_class_gets_the_defaults():
    """A field with a default can be added to a nested class: data without it load."""
    spec = SHAPE.spec()
    older = kind_from_spec({"kind": "record", "fields": spec["fields"][:2]})
    packed = msgspec.msgpack.encode(older.store({"name": "a", "corners": [{"x": 1, "y": None}]}))

    loaded = SHAPE.load(msgspec.msgpack.decode(packed, type=SHAPE.wire))

    assert loaded == Shape("a", [Point(1, None)])
    assert SHAPE.widens(older)
    assert not older.widens(SHAPE)


def test_default_may_look_at_the_record():
    """Attrs' Factory(takes_self=True) sees the fields that were stored."""

    @attrs.define
    class Doubled:
        x: int
        y: int = 0

    now = RecordKind([RecordField("x", Part(IntKind())), RecordField("y", Part(IntKind()), lambda r: r.x * 2)], Doubled)

    assert now.load(msgspec.msgpack.decode(b"\x81\xa1x\x03", type=now.wire)) == Doubled(3, 6)


def test_record_without_a_required_field_is_refused():
    """There is nothing to put in its place."""
    with pytest.raises(msgspec.ValidationError, match="missing required field"):
        msgspec.msgpack.decode(b"\x81\xa1x\x03", type=POINT.wire)


def test_record_with_a_further_field_does_not_widen_without_default():
    """Old data would not load."""
    newer = RecordKind([*POINT.fields, RecordField("z", Part(IntKind()))], Point)

    assert not newer.widens(POINT)


def test_record_kind_of_the_catalog_leaves_absent_fields_absent():
    """Without the class, its defaults are not known: what is not stored is not made up."""
    plain = kind_from_spec(POINT.spec())

    value = plain.load(msgspec.msgpack.decode(b"\x81\xa1x\x03", type=plain.wire))

    assert value == {"x": 3}
    assert msgspec.msgpack.encode(plain.store(plain.check(value))) == b"\x81\xa1x\x03"
    with pytest.raises(ValueError, match="fields"):
        plain.check({"z": 1})


@attrs.frozen(cache_hash=True)
class Cached:
    """attrs keeps its hash in an attribute that __init__ sets."""

    x: int


@attrs.frozen(slots=False, cache_hash=True)
class CachedDict:
    """The same without slots."""

    x: int


@pytest.mark.parametrize("cls", [Cached, CachedDict])
def test_loaded_records_hash(cls):
    """Loading does not run __init__, and the object is whole all the same."""
    kind = RecordKind([RecordField("x", Part(IntKind()))], cls)

    loaded = through_wire(kind, cls(3))

    assert hash(loaded) == hash(cls(3))
    assert loaded == cls(3)


def test_loading_runs_no_converters_and_validators():
    """They may be stricter than when the value was stored, or change it twice."""

    @attrs.define
    class Guarded:
        x: int = attrs.field(converter=lambda value: value + 1, validator=attrs.validators.gt(5))
        y: int = attrs.field(init=False, default=7)

    value = Guarded(8)
    value.y = 1
    kind = RecordKind([RecordField("x", Part(IntKind())), RecordField("y", Part(IntKind()))], Guarded)

    assert through_wire(kind, value) == value


def test_subclass_of_a_record_is_refused():
    """What it adds would be lost."""

    @attrs.define
    class Square(Shape):
        size: int = 0

    with pytest.raises(ValueError, match="no Shape"):
        SHAPE.check(Square("a", []))


def test_record_with_an_unset_field_is_refused():
    """ValueError, not AttributeError."""
    with pytest.raises(ValueError, match="not set"):
        POINT.check(object.__new__(Point))


def test_names_of_record_fields_stand_in_the_bytes():
    """A private attribute under its own name."""
    packed = msgspec.msgpack.encode(SHAPE.store(Shape("a", [], tag=b"t")))

    assert msgspec.msgpack.decode(packed) == {"name": "a", "corners": [], "color": "red", "_tag": b"t"}


def test_record_of_a_keyword_is_refused():
    """No attribute can have that name."""
    for name in ("class", "a b", ""):
        with pytest.raises(ValueError, match="identifier"):
            RecordKind([RecordField(name, Part(IntKind()))])


def test_empty_record():
    """A class without fields has one value."""

    @attrs.frozen
    class Empty:
        pass

    kind = RecordKind([], Empty)

    assert through_wire(kind, kind.check(Empty())) == Empty()


def test_messages_name_the_parts():
    """What a value may be, down to the elements."""
    assert (
        ListKind(IntKind(8), nullable=True).allowed == "a list with, for each element, an int from -128 to 127 or None"
    )
    assert "a Color of" in SHAPE.allowed


# ------------------------------------------------------------------------------------------ conversions


def fail(value):
    """What a conversion of someone else may do."""
    raise value


def test_conversion_stores_the_bound_value():
    """Order in keys and bytes are those of what the conversion makes."""
    kind = ConvertedKind(TextKind(), str.lower, str.upper, python=str)

    assert kind.check("Ab") == "Ab"
    assert kind.encode("Ab") == b"ab"
    assert kind.bound("Ab") == b"ab"
    assert kind.decode(b"ab") == "AB"
    assert through_wire(kind, "Ab") == "AB"
    assert kind == TextKind()
    assert kind.width is None


@pytest.mark.parametrize("error", [TypeError(), AttributeError(), KeyError(), ZeroDivisionError(), ValueError()])
def test_conversion_that_fails_refuses_the_value(error):
    """What a program raises for a value of a wrong type is a refusal like any other."""
    with pytest.raises(ValueError):  # noqa: PT011
        ConvertedKind(TextKind(), fail, None).check(error)


def test_conversion_to_what_cannot_be_stored_refuses_the_value():
    """The inner kind has the last word."""
    with pytest.raises(ValueError, match="too long"):
        ConvertedKind(TextKind(3), lambda value: value * 2, None).check("ab")


def test_conversion_of_one_direction():
    """Only reading, or only writing, may be converted."""
    reads = ConvertedKind(IntKind(), None, Decimal)
    writes = ConvertedKind(IntKind(), int, None)

    assert reads.check(3) == 3
    assert reads.load(3) == Decimal(3)
    assert reads.bound(2.0) == IntKind().encode(2)
    assert writes.store("3") == 3
    assert writes.load(3) == 3
    assert reads.mutable
    assert not writes.mutable


def test_conversion_within_a_list():
    """It works at any depth."""
    kind = ListKind(ConvertedKind(BytesKind(), bytes.fromhex, bytes.hex, python=str))

    assert through_wire(kind, kind.check(["00ff"])) == ["00ff"]
    assert kind.widens(ListKind(BytesKind()))
    assert ListKind(BytesKind()).widens(kind)


def test_prefix_through_a_conversion():
    """The beginning of a value need not be that of what is stored."""
    assert ConvertedKind(TextKind(), None, None).prefix("a") == b"a"
    with pytest.raises(ValueError, match="begin"):
        ConvertedKind(TextKind(), str.lower, None).prefix("A")


def test_float_list_takes_ints():
    """Normalised, as in a float column."""
    assert ListKind(FloatKind()).check([1]) == [1.0]
    assert type(ListKind(FloatKind()).check([1])[0]) is float


def test_enum_in_a_dict():
    """Stored by name, loaded as the member."""
    kind = DictKind(SHAPE.fields[2].part.kind)

    assert through_wire(kind, {"a": Color.red})["a"] is Color.red
