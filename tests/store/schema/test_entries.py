"""Catalog entries and stored predicates: exact bytes, round trips, and what is done about damage."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import math
import uuid
from decimal import Decimal

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvdialect import ColumnFamilyOptions, exc
from kvdialect.codec.numeric import IntKind
from kvdialect.codec.strings import EnumKind, FixedBytesKind, TextKind
from kvdialect.schema import expressions as ex
from kvdialect.schema.definition import CheckDefinition, ForeignKeyDefinition
from kvdialect.schema.evolution import created
from kvdialect.schema.expressions import Column, Compare, Constant
from kvdialect.schema.trees import decode_tree, encode_tree, renamed, shown_tree
from kvdialect.store.entries import TableEntry, decode_entry, encode_entry

KEY = b"catalog/table/coins"


@pytest.fixture
def entry(model) -> TableEntry:
    """A table of every sort of thing, at its second version."""
    definition = model.people(
        name="coins",
        indexes=False,
        fields=(
            model.field("coin_id", FixedBytesKind(32)),
            model.field("amount", IntKind(64, signed=False)),
            model.field("spent", IntKind(32), nullable=True),
            model.field("state", EnumKind(["spent", "unspent"])),
        ),
        primary_key=("coin_id",),
    )
    where = ex.And((ex.Compare("is not", ex.Column("spent"), ex.Constant(None)), ex.Not(ex.Column("spent"))))
    definition = attrs.evolve(
        definition,
        indexes=(
            model.index("by_spent", "spent", "-amount", where=where, include=("state",)),
            model.index(
                "one_amount", "amount", unique=True, options=ColumnFamilyOptions(bloom="prefix", prefix_length=8)
            ),
        ),
        foreign_keys=(ForeignKeyDefinition(columns=("amount",), table="amounts", targets=("id",), ondelete="CASCADE"),),
        options=ColumnFamilyOptions(write_buffer_size="8MiB"),
    )
    first = TableEntry.new(created(definition, 300))
    added = attrs.evolve(model.field("note", TextKind(20), default="né\0"), id=first.next_field_id)
    second = attrs.evolve(first.definition, version=2, fields=(*first.definition.fields, added))
    second = attrs.evolve(second, indexes=(attrs.evolve(second.indexes[0], state="building"), second.indexes[1]))
    return first.becoming(second, frozenset({"by_spent"}))


OPTIONS = (
    '{"bloom":"none","bloom_bits":10,"compaction":"level","compression":"lz4","fifo_max_size":1073741824,'
    '"level0_file_num_compaction_trigger":4,"level0_slowdown_writes_trigger":20,"level0_stop_writes_trigger":36,'
    '"lmdb_database":null,"lmdb_tag":null,"max_bytes_for_level_base":268435456,"max_bytes_for_level_multiplier":10,'
    '"max_write_buffer_number":2,"num_levels":7,"prefix_length":32,"target_file_size_base":67108864,'
    '"write_buffer_size":67108864}'
)
FIELDS = (
    '{"id":1,"name":"coin_id","kind":{"kind":"fixed_bytes","length":32}},'
    '{"id":2,"name":"amount","kind":{"bits":64,"kind":"int","signed":false}},'
    '{"id":3,"name":"spent","kind":{"bits":32,"kind":"int","signed":true},"nullable":true},'
    '{"id":4,"name":"state","kind":{"kind":"enum","names":["spent","unspent"]}}'
)
GOLDEN = (
    '{"entry":1,"id":300,"name":"coins","version":2,"next_field_id":6,"format":"msgpack","primary_key":["coin_id"],'
    f'"options":{OPTIONS.replace("67108864}", "8388608}")},'
    f'"fields":[{FIELDS},{{"id":5,"name":"note","kind":{{"kind":"text","length":20}},"default":"pG7DqQA="}}],'
    '"indexes":[{"name":"by_spent","parts":[{"name":"spent"},{"name":"amount","descending":true}],"state":"building",'
    f'"options":{OPTIONS},"where":["and",[["compare","is not",["column","spent"],["constant","null",null]],'
    '["not",["column","spent"]]]],"include":["state"],"extra":true},'
    '{"name":"one_amount","parts":[{"name":"amount"}],"state":"readable","options":'
    f'{OPTIONS.replace("none", "prefix", 1).replace(":32,", ":8,")},"unique":true}}],'
    '"foreign_keys":[{"columns":["amount"],"table":"amounts","targets":["id"],"ondelete":"CASCADE"}],'
    f'"history":{{"1":[{FIELDS}]}}}}'
)


def test_an_entry_to_the_byte(entry):
    """Entries of 0.1 as they stand in stores; no refactoring may change this text."""
    assert encode_entry(entry).decode() == GOLDEN


def test_an_entry_comes_back(entry):
    """Everything that an entry says is there again; encoding it once more gives the same bytes."""
    back = decode_entry(KEY, encode_entry(entry))

    assert back.definition == entry.definition
    assert [index.state for index in back.definition.indexes] == ["building", "readable"]
    assert [index.options for index in back.definition.indexes] == [index.options for index in entry.definition.indexes]
    assert back.definition.options == entry.definition.options
    assert back.history == entry.history
    assert (back.next_field_id, back.extra) == (6, {"by_spent"})
    assert encode_entry(back) == encode_entry(entry) == back.raw


def test_checks_have_a_layout_of_their_own(entry):
    """A release that knows no CHECK refuses the table, and does not write what the CHECK forbids."""
    condition = Compare(">", Column("amount"), Constant(0))
    checks = (CheckDefinition(condition=condition, name="some"), CheckDefinition(condition=condition, validated=False))
    entry = entry.becoming(attrs.evolve(entry.definition, checks=checks))

    raw = encode_entry(entry)
    back = decode_entry(KEY, raw)

    stored = GOLDEN.replace('"entry":1', '"entry":3').replace(
        '"history"',
        '"checks":[{"condition":["compare",">",["column","amount"],["constant","int","0"]],"name":"some"},'
        '{"condition":["compare",">",["column","amount"],["constant","int","0"]],"validated":false}],"history"',
    )
    assert raw.decode() == stored
    assert back.definition == entry.definition
    assert [check.validated for check in back.definition.checks] == [True, False]
    for entry_number, text in ((1, stored), (3, GOLDEN)):
        data = {**msgspec.json.decode(text), "entry": entry_number}
        with pytest.raises(exc.Corruption, match="CHECKs"):
            decode_entry(KEY, msgspec.json.encode(data))


class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


def test_a_default_of_a_programs_class_is_stored_by_name(model):
    """A default is stored in the form that values have in records; without the program it is a plain one."""
    kind = EnumKind({member.name: member for member in Size}, Size)
    entry = TableEntry.new(created(model.people(indexes=False), 1))
    size = model.field("size", kind, id=4, default=Size.LARGE)
    entry = entry.becoming(attrs.evolve(entry.definition, version=2, fields=(*entry.definition.fields, size)))

    back = decode_entry(KEY, encode_entry(entry))

    assert back.definition.field("size").default == "LARGE"


# ------------------------------------------------------------------------------------------------ damage


def _nested(inner, wrap, depth):
    for _ in range(depth):
        inner = wrap(inner)
    return inner


def _changed(change):
    data = msgspec.json.decode(GOLDEN)
    change(data)
    return msgspec.json.encode(data)


DAMAGE = {
    "a CHECK of a column that is not there": _changed(
        lambda d: d.update(entry=3, checks=[{"condition": ["column", "colour"]}])
    ),
    "no JSON": b"\xff" * 40,
    "empty": b"",
    "no object": b"[1]",
    "cut": GOLDEN.encode()[:-30],
    "an older layout than any": _changed(lambda d: d.update(entry=0)),
    "an unknown fact": _changed(lambda d: d.update(colour="red")),
    "a missing fact": _changed(lambda d: d.pop("fields")),
    "no fields": _changed(lambda d: d.update(fields=[])),
    "table id 0": _changed(lambda d: d.update(id=0)),
    "a table id that is too large": _changed(lambda d: d.update(id=1 << 32)),
    "a version that is too large": _changed(lambda d: d.update(version=1 << 16)),
    "a version from the future": _changed(lambda d: d["history"].update({"3": d["fields"]})),
    "a version that is no number": _changed(lambda d: d["history"].update({"x": d["fields"]})),
    "two fields of one id": _changed(lambda d: d["fields"][1].update(id=1)),
    "two fields of one name": _changed(lambda d: d["fields"][1].update(name="coin_id")),
    "a field id that was not given": _changed(lambda d: d["fields"][1].update(id=6)),
    "a kind that is none": _changed(lambda d: d["fields"][1]["kind"].update(kind="colour")),
    "a kind of wrong facts": _changed(lambda d: d["fields"][1]["kind"].update(bits=7)),
    "a kind in kinds in kinds": _changed(
        lambda d: d["fields"][1].update(kind=_nested({"kind": "bool"}, lambda k: {"kind": "list", "element": k}, 40))
    ),
    "a default that is no base64": _changed(lambda d: d["fields"][4].update(default="*")),
    "a default of another type": _changed(lambda d: d["fields"][4].update(default="AQ==")),
    "a default that is too long": _changed(lambda d: d["fields"][4].update(default="2SF4eHh4eHh4eHh4eHh4eHh4eHh4eHg=")),
    "a key without columns": _changed(lambda d: d.update(primary_key=[])),
    "a key of an unknown column": _changed(lambda d: d.update(primary_key=["colour"])),
    "an index of an unknown column": _changed(lambda d: d["indexes"][0].update(include=["colour"])),
    "an index without columns": _changed(lambda d: d["indexes"][0].update(parts=[])),
    "an index called like another": _changed(lambda d: d["indexes"][0].update(name="one_amount")),
    "an index called like its table": _changed(lambda d: d["indexes"][0].update(name="coins")),
    "an index in no known state": _changed(lambda d: d["indexes"][0].update(state="broken")),
    "options that are unknown": _changed(lambda d: d["options"].update(colour=1)),
    "options that are wrong": _changed(lambda d: d["options"].update(compaction="none")),
    "a predicate of an unknown column": _changed(lambda d: d["indexes"][0].update(where=["column", "colour"])),
    "a predicate of no known kind": _changed(lambda d: d["indexes"][0].update(where=["eval", "1"])),
    "an operator that is none": _changed(lambda d: d["indexes"][0]["where"][1][0].__setitem__(1, "; drop")),
    "a function that is none": _changed(lambda d: d["indexes"][0].update(where=["call", "eval", []])),
    "a function without arguments": _changed(lambda d: d["indexes"][0].update(where=["call", "lower", []])),
    "a constant of another type": _changed(lambda d: d["indexes"][0].update(where=["constant", "int", 5])),
    "a constant of no known type": _changed(lambda d: d["indexes"][0].update(where=["constant", "pickle", "gA=="])),
    "a predicate nested deep": _changed(
        lambda d: d["indexes"][0].update(where=_nested(["column", "spent"], lambda t: ["not", t], 60))
    ),
    "a predicate nested beyond measure": GOLDEN.replace(
        '["not",["column","spent"]]', '["not",' * 100_000 + '["column","spent"]' + "]" * 100_000
    ).encode(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_corruption(damage):
    """Whatever is wrong with an entry, the error names its key, and nothing else is raised."""
    with pytest.raises(exc.Corruption, match=r"kvdialect.*catalog/table/coins") as caught:
        decode_entry(KEY, DAMAGE[damage])

    assert caught.value.key == KEY


def test_an_entry_of_a_newer_release_is_refused():
    """A later layout may say things that this release would get wrong; it is told from damage."""
    raw = msgspec.json.encode({"entry": 4, "tables": [], "anything": {"else": 1}})

    with pytest.raises(exc.StoreFormatError, match="has layout 4; this release reads up to 3"):
        decode_entry(KEY, raw)


@settings(max_examples=300)
@given(st.data())
def test_flipped_bytes_never_do_harm(data):
    """Any change of any bytes gives an entry or one of the two errors, and never anything else."""
    raw = bytearray(GOLDEN.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))

    with contextlib.suppress(exc.Corruption, exc.StoreFormatError):
        decode_entry(KEY, bytes(raw))


# ------------------------------------------------------------------------------------------------ predicates

_columns = st.sampled_from(["a", "b", "c"]).map(ex.Column)
_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.binary(),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.decimals(), st.dates(), st.times(), st.timedeltas(), st.uuids(),
    st.datetimes(timezones=st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=-3))])),
)  # fmt: skip
_comparisons = st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "is", "is not"])


def _deeper(trees):
    several = st.lists(trees, max_size=3).map(tuple)
    return st.one_of(
        st.builds(ex.Compare, _comparisons, trees, trees),
        st.builds(ex.And, several),
        st.builds(ex.Or, several),
        st.builds(ex.Not, trees),
        st.builds(ex.In, trees, several),
        st.builds(ex.Like, trees, trees, st.none() | st.sampled_from("\\!"), st.booleans()),
        st.builds(ex.StartsWith, trees, trees),
        st.builds(ex.Contains, trees, trees),
        st.builds(ex.Arithmetic, st.sampled_from(["+", "-", "*", "/", "//", "%", "||"]), trees, trees),
        st.builds(ex.Negative, trees),
        st.builds(ex.Call, st.just("lower"), trees.map(lambda tree: (tree,))),
        st.builds(ex.Case, st.lists(st.tuples(trees, trees), max_size=2).map(tuple), trees),
    )


trees = st.recursive(_columns | st.builds(ex.Constant, _values), _deeper, max_leaves=12)


@given(trees)
def test_predicates_come_back(tree):
    """A tree is the same after JSON, constants of every type included, and so are its bytes."""
    stored = msgspec.json.encode(encode_tree(tree))

    back = decode_tree(msgspec.json.decode(stored), {"a", "b", "c"})

    assert msgspec.json.encode(encode_tree(back)) == stored
    if "nan" not in str(tree).lower():
        assert back == tree


@given(trees)
def test_predicates_can_be_shown_and_renamed(tree):
    """Every tree has a text, and renaming back gives the tree."""
    assert shown_tree(tree)
    there = renamed(tree, {"a": "x", "b": "y", "c": "z"})
    back = renamed(there, {"x": "a", "y": "b", "z": "c"})
    assert encode_tree(back) == encode_tree(tree)
    assert not {"a", "b", "c"} & set(ex.columns_of(there))


@pytest.mark.parametrize(
    "value",
    [0, -0.0, math.inf, 2**70, "é\0", b"\0\xff", Decimal("1E+400"), uuid.UUID(int=7), dt.timedelta.max, True, None],
)
def test_constants_come_back_with_their_type(value):
    """Values and types are exact, where JSON itself would round or mix them up."""
    back = decode_tree(msgspec.json.decode(msgspec.json.encode(encode_tree(ex.Constant(value)))), ())

    assert type(back.value) is type(value)
    assert repr(back.value) == repr(value)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (ex.Compare("=", ex.Column("a"), ex.Parameter(1)), r"cannot hold Parameter\(number=1\)"),
        (ex.In(ex.Column("a"), ex.Parameter(1)), "cannot hold Parameter"),
        (ex.Constant(Size.LARGE), "cannot hold the constant <Size.LARGE: 2>"),
        (ex.Constant([1]), r"cannot hold the constant \[1\] \(list\)"),
        (_nested(ex.Column("a"), ex.Not, 60), "nested more than"),
    ],
)
def test_what_cannot_be_stored_is_refused(tree, message):
    """Parameters, objects of a program and trees beyond the limit do not get into the catalog."""
    with pytest.raises(exc.NotSupportedError, match=message):
        encode_tree(tree)


def test_predicates_as_text():
    """Messages show predicates much as SQL writes them."""
    tree = ex.And(
        (
            ex.Compare("is", ex.Column("spent"), ex.Constant(None)),
            ex.Or((ex.Compare(">", ex.Column("amount"), ex.Constant(5)), ex.In(ex.Column("a"), (ex.Constant("x"),)))),
        )
    )

    assert shown_tree(tree) == "spent IS NULL AND (amount > 5 OR a IN ('x'))"
