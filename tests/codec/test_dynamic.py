"""SQL's dynamic values: their order, their affinities and what is refused, against SQLite itself."""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvdialect.codec.dynamic import AFFINITIES, COLLATIONS, DynamicKind, apply_affinity, encode_value
from kvdialect.codec.kinds import Kind, Refused, kind_from_spec

LOWEST, HIGHEST = -(2**63), 2**63 - 1

integers = st.integers(LOWEST, HIGHEST) | st.integers(-3, 3)
floats = st.floats(allow_nan=False) | st.floats(-3, 3) | st.sampled_from([2.0**53, 2.0**63, -(2.0**63), 2.0**64])
# NOCASE of SQLite takes texts for equal that differ behind a NUL: no promise of ours.
plain = st.text(st.sampled_from("aAbZz[`{ é") | st.characters(exclude_characters="\0", codec="utf-8"), max_size=4)
texts = st.text(st.sampled_from("aAb \0\x01é"), max_size=4) | plain
blobs = st.binary(max_size=4) | st.lists(st.sampled_from([0, 1, 0xFF]), max_size=4).map(bytes)


@st.composite
def neighbours(draw):
    """Numbers that are hard to tell apart."""
    number = draw(floats | integers.map(float))
    found = [number, math.nextafter(number, math.inf), math.nextafter(number, -math.inf)]
    if math.isfinite(number) and LOWEST <= number < HIGHEST:
        found += [whole for whole in (int(number) - 1, int(number), int(number) + 1) if LOWEST <= whole <= HIGHEST]
    return found


def rows(text):
    """Values of all types, many of them close to one another."""
    each = st.none() | integers | floats | text | blobs
    close = st.lists(neighbours(), max_size=3).map(lambda found: list(itertools.chain(*found)))
    return st.tuples(st.lists(each, min_size=2, max_size=24), close).map(lambda both: [*both[0], *both[1]])


def ranks(values, collation):
    """The place of each value in SQLite's order; equal ones have the same."""
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.execute("create table t(id integer primary key, v)")
        db.executemany("insert into t values (?, ?)", list(enumerate(values)))
        ordered = db.execute(f"select dense_rank() over (order by v collate {collation}) from t order by id")  # noqa: S608
        return [rank for (rank,) in ordered]


@pytest.mark.parametrize("collation", COLLATIONS)
@given(data=st.data())
def test_order_and_equality_are_those_of_sqlite(collation, data):
    """The bytes of two values are less, equal or greater where SQLite has the values so."""
    values = data.draw(rows(plain if collation == "NOCASE" else texts))
    encoded = [encode_value(value, collation) for value in values]
    places = {raw: place for place, raw in enumerate(sorted(set(encoded)), 1)}

    assert [places[raw] for raw in encoded] == ranks(values, collation)


@pytest.mark.parametrize(
    "values",
    [
        [-0.3, -0.30000000000000004, -5e-324, -1e-300, 0.0, -0.0, 5e-324],
        [2**53, 2.0**53, 2**53 + 1, 2.0**53 + 2, HIGHEST, 2.0**63, LOWEST, -(2.0**63), -math.inf, math.inf],
        ["", "\0", "\0\0", "a", "a\0", "a\x01", "ab", b"", b"\0", b"\0\0", b"\0\xff", b"\xff", None],
    ],
    ids=["below zero", "wide", "terminators"],
)
def test_order_of_values_that_are_close(values):
    """Floats between -1 and 0 once had the same bytes where their distance from -1 is rounded."""
    encoded = sorted(set(map(encode_value, values)))

    assert [encoded.index(encode_value(value)) + 1 for value in values] == ranks(values, "BINARY")


@pytest.mark.parametrize("collation", COLLATIONS)
@given(data=st.data())
def test_no_encoding_begins_with_another(collation, data):
    """Values follow one another in a key, and what stands behind one does not change its order."""
    encoded = sorted({encode_value(value, collation) for value in data.draw(rows(texts))})

    # In order, what one begins with stands right before it, or before others that begin with it too.
    assert not any(later.startswith(earlier) for earlier, later in itertools.pairwise(encoded))


@given(rows(texts), rows(texts))
def test_order_of_two_columns_is_that_of_their_values(first, second):
    """A key of two values has the order of pairs."""
    pairs = list(zip(first, second, strict=False))
    encoded = [encode_value(one) + encode_value(other) for one, other in pairs]
    by_parts = [(encode_value(one), encode_value(other)) for one, other in pairs]

    assert sorted(range(len(pairs)), key=encoded.__getitem__) == sorted(range(len(pairs)), key=by_parts.__getitem__)


# ------------------------------------------------------------------------------------------ affinity

# Numbers of at most 15 digits: how SQLite rounds longer ones depends on its release.
decimals = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "+", "-", " ", "\t-", "--"]),
    st.integers(0, 10**8).map(str),
    st.sampled_from(["", ".", ".0", ".5", ".125", ".0000001"]),
    st.sampled_from(["", "e0", "E3", "e+5", "e-2", "e", "e+", " ", " x", "\n"]),
)
scraps = st.text(st.sampled_from("0123456789.eE+-_ xéinfa\u0661"), max_size=6)
longs = st.integers(-(10**20), 10**20).map(str)
written = decimals | scraps | longs


def stored(value, affinity):
    """What a column of SQLite holds of a value."""
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.execute(f"create table t(v {affinity})")
        db.execute("insert into t values (?)", (value,))
        return db.execute("select v, typeof(v) from t").fetchone()


def with_type(value):
    names = {type(None): "null", int: "integer", float: "real", str: "text", bytes: "blob"}
    return value, names[type(value)]


@pytest.mark.parametrize("affinity", AFFINITIES)
@given(value=integers | floats | texts.filter(lambda text: "\0" not in text) | blobs | written)
@example(value="1" * 5000)
@example(value="0" * 5000 + "1")
@example(value="-9223372036854775809")
@example(value="1e400")
@example(value="nan")
@example(value="0x10")
def test_affinity_stores_what_sqlite_stores(affinity, value):
    """Type and value are those that a column of SQLite has."""
    if affinity == "TEXT" and isinstance(value, float):
        return  # below: it depends on SQLite's release

    assert with_type(apply_affinity(value, affinity)) == stored(value, affinity)


@given(value=floats | st.integers(-(10**6), 10**6).map(lambda number: number / 3))
@example(value=1 / 3)
@example(value=-0.0)
@example(value=1e15)
@example(value=-8.0993579643460351e245)
def test_float_in_a_column_of_text_is_what_the_engine_of_the_door_makes_it(value):
    """SQLite makes text of a float to compare it with such a column, so what is stored must be the same."""
    apsw = pytest.importorskip("apsw", reason="the extra sql is not installed; the environment full of tox has it")
    from kvdialect.dialect import dbapi

    assert dbapi.connect  # importing it is what counts
    db = apsw.Connection(":memory:")
    db.execute("create table t(v text)")
    db.execute("insert into t values (?)", (value,))

    assert apply_affinity(value, "TEXT") == db.execute("select v from t").get


@pytest.mark.parametrize(
    ("value", "text"), [(1.5, "1.5"), (100.0, "100.0"), (-1e100, "-1.0e+100"), (0.1, "0.1"), (math.inf, "Inf")]
)
def test_short_floats_are_the_same_text_in_every_release(value, text):
    """With or without SQLite at hand."""
    assert apply_affinity(value, "TEXT") == text


@given(value=integers | floats | texts | blobs | written, affinity=st.sampled_from(AFFINITIES))
def test_affinity_changes_nothing_more_the_second_time(value, affinity):
    """A row that was read and is written again stays as it is."""
    once = apply_affinity(value, affinity)
    again = apply_affinity(once, affinity)

    assert (again, type(again)) == (once, type(once))


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("value", [math.nan, True, 2**63, -(2**63) - 1, 2**200, "\ud800", [], object(), 1j])
def test_what_is_no_value_of_sql_has_no_place_in_a_key(value):
    """An error, and never bytes."""
    with pytest.raises(ValueError):  # noqa: PT011 - of several messages
        encode_value(value)


@pytest.mark.parametrize("affinity", AFFINITIES)
@pytest.mark.parametrize("value", [None, True, 2**63, -(2**63) - 1, math.nan, "\ud800", bytearray(b"a"), [1], object()])
def test_kind_refuses_what_is_no_value(affinity, value):
    """NULL is the field's to allow; the rest no column takes."""
    with pytest.raises(Refused):
        DynamicKind(affinity).check(value)


@pytest.mark.parametrize("arguments", [("STRING",), ("",), ("TEXT", "UNICODE"), ("TEXT", "nocase")])
def test_unknown_affinity_or_collation_is_refused(arguments):
    """They stand in catalogs: what this release does not know it must not guess at."""
    with pytest.raises(ValueError, match="is unknown"):
        DynamicKind(*arguments)


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "sql"},
        {"kind": "sql", "affinity": "ANY"},
        {"kind": "sql", "affinity": "TEXT", "collation": "UNICODE"},
        {"kind": "sql", "affinity": "TEXT", "length": 5},
    ],
)
def test_damaged_spec_is_refused(spec):
    """A spec of a newer release, or a damaged one."""
    with pytest.raises((ValueError, KeyError)):
        kind_from_spec(spec)


@pytest.mark.parametrize("affinity", AFFINITIES)
@pytest.mark.parametrize("collation", COLLATIONS)
def test_spec_gives_the_kind_back(affinity, collation):
    """What the catalog keeps of a column is all of its kind."""
    found = kind_from_spec(DynamicKind(affinity, collation).spec())

    assert isinstance(found, DynamicKind)
    assert (found.affinity, found.collation) == (affinity, collation)
    assert Kind._by_tag["sql"] is DynamicKind
