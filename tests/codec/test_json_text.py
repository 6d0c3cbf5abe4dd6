"""Structured values as JSON text."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kind_cases import AWARE, MOMENTS, Color, Point, Shape

from kvdialect.codec.composite import DictKind, JsonKind, ListKind, Part, TupleKind
from kvdialect.codec.jsontext import duration, span, text_reader, text_writer
from kvdialect.codec.kinds import kind_from_spec
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.records import RecordField, RecordKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind

PARTS = {
    "bool": (BoolKind(), st.booleans()),
    "uint64": (IntKind(64, False), st.integers(0, 2**64 - 1)),
    "float": (FloatKind(), st.floats(allow_nan=False)),
    "decimal": (DecimalKind(30, 5), st.integers(-(10**30) + 1, 10**30 - 1).map(lambda n: Decimal(f"{n}e-5"))),
    "text": (TextKind(), st.text()),
    "bytes": (BytesKind(), st.binary()),
    "fixed": (FixedBytesKind(4), st.binary(min_size=4, max_size=4)),
    "naive": (DatetimeKind(), MOMENTS),
    "aware": (DatetimeKind(aware=True), AWARE),
    "date": (DateKind(), st.dates()),
    "time": (TimeKind(), st.times()),
    "timedelta": (TimedeltaKind(), st.timedeltas()),
    "uuid": (UuidKind(), st.uuids()),
    "uuid text": (UuidKind(as_text=True), st.uuids().map(str)),
    "enum": (EnumKind(Color.__members__, Color), st.sampled_from(Color)),
    "json": (JsonKind(), st.none() | st.booleans() | st.lists(st.integers(-(2**63), 2**64 - 1) | st.text())),
}


@pytest.mark.parametrize("name", PARTS)
@given(data=st.data())
def test_each_kind_comes_back_from_the_text_of_what_holds_it(name, data):
    """Lists, dicts, tuples and records of any kind are read from their text as they were."""
    kind, values = PARTS[name]
    part = Part(kind, nullable=True)
    some = st.none() | values
    cases = [
        (ListKind(kind, True), st.lists(some)),
        (ListKind(kind, True, tuple), st.lists(some).map(tuple)),
        (DictKind(kind, True), st.dictionaries(st.text(), some)),
        (TupleKind((part, Part(IntKind()))), st.tuples(some, st.integers(-3, 3))),
        (RecordKind([RecordField("a", part), RecordField("b", part)]), st.fixed_dictionaries({"a": some, "b": some})),
    ]
    composite, value = data.draw(st.sampled_from(cases).flatmap(lambda case: st.tuples(st.just(case[0]), case[1])))

    text = text_writer(composite)(value)

    assert text_reader(composite)(text) == value
    json.loads(text, parse_constant=pytest.fail)  # JSON that other programs read too


def _shape() -> RecordKind:
    point = RecordKind([RecordField("x", Part(IntKind())), RecordField("y", Part(FloatKind(), True))], Point)
    fields = [
        RecordField("name", Part(TextKind())),
        RecordField("corners", Part(ListKind(point))),
        RecordField("color", Part(EnumKind(Color.__members__, Color)), lambda _: Color.red),
        RecordField("_tag", Part(BytesKind()), lambda _: b""),
    ]
    return RecordKind(fields, Shape)


def test_attrs_classes_are_objects_of_their_fields():
    """A record's text has an entry for each field, and gives the record back."""
    kind = _shape()
    shape = Shape("corner", [Point(1, None), Point(-2, 0.5)], Color.blue, b"\xff\x00")

    text = text_writer(kind)(shape)

    assert json.loads(text) == {
        "name": "corner", "corners": [{"x": 1, "y": None}, {"x": -2, "y": 0.5}], "color": "blue", "_tag": "/wA=",
    }  # fmt: skip
    assert text_reader(kind)(text) == shape


def test_the_catalogs_kind_writes_the_same_text():
    """A kind without its Python classes, as the catalog has it, shows what the mapped class's kind shows."""
    kind = _shape()
    shape = Shape("corner", [Point(1, None)], Color.green, b"x")
    plain = {"name": "corner", "corners": [{"x": 1, "y": None}], "color": "green", "_tag": b"x"}

    assert text_writer(kind_from_spec(kind.spec()))(plain) == text_writer(kind)(shape)


def test_a_field_that_the_text_lacks_has_its_default():
    """What a class's default gives a record stored before, it gives a record written as text too."""
    assert text_reader(_shape())('{"name": "n", "corners": []}') == Shape("n", [])


@pytest.mark.parametrize(
    "text",
    [
        "[1",
        '"a"',
        '{"corners": []}',
        '{"name": "n", "corners": [], "size": 1}',
        '{"name": 1, "corners": []}',
        '{"name": "n", "corners": [{"x": 1.5, "y": null}]}',
        '{"name": "n", "corners": [], "color": "mauve"}',
        '{"name": "n", "corners": [], "_tag": "no base64"}',
        '{"name": "n", "corners": {}}',
        "[" * 100_000,
        "NaN",
    ],
)
def test_text_that_is_no_value_is_refused(text):
    """A ValueError, whatever is wrong with the text."""
    with pytest.raises(ValueError, match=r"."):
        text_reader(_shape())(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (FloatKind(), "1e400"),
        (FloatKind(), "-1e400"),
        (TimeKind(), '"12:00:00.9999999"'),
        (DatetimeKind(), '"2024-01-01T00:00:00.1234567"'),
    ],
)
def test_no_digits_are_cut_off(kind, text):
    """They were read as infinities, and to the microsecond; zeros behind that are nothing."""
    with pytest.raises(ValueError, match=r"."):
        text_reader(ListKind(kind))(f"[{text}]")


def test_zeros_behind_the_microseconds_are_nothing():
    assert text_reader(ListKind(TimeKind()))('["12:00:00.100000000"]') == [time(12, 0, 0, 100000)]


def test_floats_that_json_has_no_numbers_for_are_text():
    """NaN and the infinities are kept, in text that every JSON parser takes."""
    kind = ListKind(FloatKind())

    text = text_writer(kind)([math.nan, math.inf, -math.inf, -0.0])

    assert text == '["NaN", "Infinity", "-Infinity", -0.0]'
    read = text_reader(kind)(text)
    assert math.isnan(read[0])
    assert read[1:] == [math.inf, -math.inf, 0.0]


@given(st.timedeltas())
def test_durations_come_back(value):
    """Over the whole range of timedelta."""
    assert span(duration(value)) == value


def test_how_parts_are_written():
    """The text of each kind, which other programs may rely on."""
    parts = [
        (DecimalKind(10, 2), Decimal("-0.50")),
        (DatetimeKind(), datetime(2024, 2, 29, 12)),  # noqa: DTZ001 - naive on purpose
        (DatetimeKind(aware=True), datetime(2024, 2, 29, 12, 0, 0, 5, tzinfo=UTC)),
        (DateKind(), date(2024, 2, 29)),
        (TimeKind(), time(23, 59, 59)),
        (TimedeltaKind(), timedelta(days=-1, seconds=1)),
        (UuidKind(), UUID(int=1)),
        (BytesKind(), b"\x00\xff"),
    ]
    kind = TupleKind(Part(kind) for kind, _ in parts)

    assert json.loads(text_writer(kind)(tuple(value for _, value in parts))) == [
        "-0.50", "2024-02-29T12:00:00", "2024-02-29T12:00:00.000005+00:00", "2024-02-29", "23:59:59",
        "-P0DT86399.000000S", "00000000-0000-0000-0000-000000000001", "AP8=",
    ]  # fmt: skip


def test_records_nest():
    """To any depth."""
    inner = _shape()
    kind = ListKind(DictKind(inner))
    value = [{"a": Shape("n", [Point(1, 2.0)])}, {}]

    assert text_reader(kind)(text_writer(kind)(value)) == value
