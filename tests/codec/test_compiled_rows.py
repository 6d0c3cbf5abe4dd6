"""The compiled decoder and loader beside the generated code: the same rows, the same errors, nothing left behind."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import sys
import weakref
from unittest import mock

import pytest
from codec_cases import table, typed
from hypothesis import given
from hypothesis import strategies as st
from kind_cases import ALL, KEYED
from sqlalchemy import Index, select

from kvdialect import Bytes32, Mapped, Session, UInt64, create_engine, exc, field, mapped, registry
from kvdialect.codec.numeric import IntKind
from kvdialect.codec.strings import BytesKind
from kvdialect.schema import compiled, rows
from kvdialect.schema.definition import FieldDefinition, IndexDefinition, IndexPart, TableDefinition

PURE = os.environ.get("KVDIALECT_PURE_PYTHON", "0") not in ("", "0")
needs_compiled = pytest.mark.skipif(compiled.rows is None, reason="the package was built without its compiled rows")


def both(definition, history=None):
    """The codec of a table, and one that has generated code alone."""
    with mock.patch.object(rows, "decoder", return_value=None):
        generated = rows.TableCodec(definition, history)
    codec = rows.TableCodec(definition, history)
    assert generated.decoder is None
    assert codec.decoder is not None
    return codec, generated


def outcome(function, *args):
    """What a function returns, with all types, or the error."""
    try:
        return typed(function(*args))
    except exc.SerializationError as error:
        return type(error), str(error)


def damaged(data, raw):
    """Bytes that are something else: bits flipped, cut off, longer."""
    at = data.draw(st.integers(0, max(0, len(raw) - 1)))
    flipped = bytearray(raw)
    if flipped:
        flipped[at] ^= data.draw(st.integers(1, 255))
    return data.draw(st.sampled_from([bytes(flipped), raw[:at], raw + b"\0", raw[at:], b""]))


@needs_compiled
@pytest.mark.parametrize("case", ALL, ids=str)
@given(data=st.data())
def test_values_of_every_kind_decode_the_same(case, data):
    codec, generated = both(table([("k", BytesKind(), False), ("v", case.kind, False), ("n", case.kind, True)], ("k",)))
    row = (b"k", data.draw(case.values), data.draw(st.none() | case.values))
    key, value, _ = codec.encode(row)

    assert outcome(codec.decode, key, value) == outcome(generated.decode, key, value)
    assert typed(codec.decode(key, value)) == typed(generated.decode(key, value))
    bad = damaged(data, value)
    assert outcome(codec.decode, key, bad) == outcome(generated.decode, key, bad)


@needs_compiled
@pytest.mark.parametrize("case", KEYED, ids=str)
@given(data=st.data())
def test_keys_and_index_entries_of_every_kind_decode_the_same(case, data):
    index = IndexDefinition(name="i", parts=(IndexPart(name="n"), IndexPart(name="a")), include=("v",))
    fields = [("a", IntKind(16, signed=True), False), ("k", case.kind, False), ("n", IntKind(8, signed=False), True)]
    definition = table([*fields, ("v", case.kind, True)], ("a", "k"), (index,))
    codec, generated = both(definition)
    row = (
        data.draw(st.integers(-(2**15), 2**15 - 1)),
        data.draw(case.values),
        data.draw(st.none() | st.integers(0, 255)),
        data.draw(st.none() | case.values),
    )
    key, value, row = codec.encode(row)
    [entry, included] = codec.entries(row, key)[0][0]

    for pair in [(key, value), (damaged(data, key), value), (key, damaged(data, value))]:
        assert outcome(codec.decode, *pair) == outcome(generated.decode, *pair)
    for pair in [(entry, included), (damaged(data, entry), included), (entry, damaged(data, included))]:
        assert outcome(codec.indexes[0].decode, *pair) == outcome(generated.indexes[0].decode, *pair)


@needs_compiled
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes_decode_the_same(key, value):
    fields = [("k", BytesKind(), False), *((f"v{at}", case.kind, True) for at, case in enumerate(ALL[:12]))]
    codec, generated = both(table(fields, ("k",)))

    for raw in (value, b"\x01\x00\x02" + value, b"\x01\x00\x02\x9c" + value, b"\x01\x00\x02\xdc\x00\x0c" + value):
        assert outcome(codec.decode, key, raw) == outcome(generated.decode, key, raw)


@needs_compiled
def test_rows_of_an_older_version_are_left_to_the_generated_code():
    old = table([("k", IntKind(8, signed=False), False), ("v", IntKind(8, signed=True), False)], ("k",))
    fields = [*old.fields, FieldDefinition(id=3, name="w", kind=IntKind(8, signed=True), default=5)]
    new = TableDefinition(name="t", fields=tuple(fields), primary_key=("k",), version=3)
    key, value, _ = rows.TableCodec(old).encode((1, -2))
    codec, generated = both(new, {2: old.fields, 3: new.fields})

    assert codec.decode(key, value) == generated.decode(key, value) == (1, -2, 5)
    assert codec.decoder.columns([(key, value)], (2, 0), False) == [(5, 1)]


@needs_compiled
def test_some_columns_of_many_pairs():
    codec, _ = both(table([(f"c{at}", IntKind(64, signed=True), at > 1) for at in range(20)], ("c1", "c0")))
    made = [tuple(n * at if at < 2 or n % 3 else None for at in range(20)) for n in range(100)]
    pairs = [codec.encode(row)[:2] for row in made]

    assert codec.decoder.columns(iter(pairs), (19, 0, 3), False) == [(row[19], row[0], row[3]) for row in made]
    assert codec.decoder.columns(pairs, (7,), True) == [row[7] for row in made]
    assert codec.decoder.columns(pairs, (), False) == [()] * 100
    with pytest.raises(IndexError):
        codec.decoder.columns(pairs, (20,), True)
    with pytest.raises(TypeError):
        codec.decoder.columns([b"ab"], (0,), True)
    with pytest.raises(exc.SerializationError):
        codec.decoder.columns([(b"a", b"b")], (0,), True)


# ------------------------------------------------------------------------------------------ objects

models = registry()


@mapped(models)
class Thing:
    """A record with a list, whose objects are held until the transaction ends."""

    __tablename__ = "things"
    __table_args__ = (Index("by_height", "height", kvdialect_include=["amount"]),)
    id: Mapped[Bytes32] = field(primary_key=True)
    height: Mapped[UInt64]
    amount: Mapped[int | None] = None
    name: Mapped[str] = "a name"
    tags: Mapped[list[str]] = field(factory=list)


def thing(number):
    return Thing(number.to_bytes(32), number, -number, f"näme {number}", [str(number)])


@pytest.fixture
def engine():
    engine = create_engine("memory://")
    models.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([thing(number) for number in range(300)])
    yield engine
    engine.close()


def test_an_object_is_the_same_every_time_and_is_refreshed_in_place(engine):
    with Session(engine) as session:
        first = session.get(Thing, (5).to_bytes(32))
        every = list(session.scan(Thing))
        assert first == thing(5)
        assert every[5] is first
        assert list(session.scan(Thing))[5] is first
        session.commit()

        with Session(engine) as other, other.begin():
            other.get_one(Thing, (5).to_bytes(32)).name = "renamed"
        assert first.name == "näme 5"
        assert session.scalars(select(Thing)).all()[5] is first
        assert first.name == "renamed"


def test_a_change_in_place_is_not_lost_with_its_object(engine):
    """Objects with lists live as long as the transaction, though nobody holds them."""
    with Session(engine) as session, session.begin():
        for each in session.scan(Thing):
            each.tags.append("more")
    with Session(engine) as session:
        assert session.get_one(Thing, (7).to_bytes(32)).tags == ["7", "more"]


def test_objects_die_with_their_last_holder_and_their_references_are_purged(engine):
    with Session(engine) as session:
        held = weakref.ref(session.get_one(Thing, bytes(32)))
        session.rollback()
        gc.collect()
        assert held() is not None, "its list may have been changed since, which the next transaction stores"
        session.get_one(Thing, (1).to_bytes(32))
        session.rollback()
        gc.collect()
        assert held() is None


@needs_compiled
def test_nothing_is_left_of_what_was_read(engine):
    """Reference counts are right: reading the same again takes no more memory."""
    codec = rows.TableCodec(table([("k", BytesKind(), False), ("v", ALL[0].kind, True)], ("k",)))
    index = engine.binding().loading(Thing.__kvdialect__).table.codec.indexes[0]
    assert index.decoder is not None

    def read():
        with Session(engine) as session:
            list(session.scan(Thing))
            list(session.scan("by_height", start=10))
            session.get(Thing, bytes(32))
            session.execute(select(Thing.height, Thing.amount).where(Thing.height > 5)).all()
            list(session.scan(Thing))
        for raw in (b"", b"\x01\x00\x02\x91\xc0", b"\x01\x00\x02\x91\xc1"):
            outcome(codec.decode, b"k", raw)
            outcome(codec.decoder.columns, [(b"k", raw)], (0, 1), False)
        for wrong in ((), (1,), (b"k", 1, 2)):
            with pytest.raises(TypeError):
                codec.decoder.decode(*wrong)

    def blocks():
        for _ in range(30):
            read()
        gc.collect()
        return sys.getallocatedblocks()

    blocks()
    before = blocks()
    assert blocks() - before < 100


@needs_compiled
def test_codecs_can_be_collected():
    codec, _ = both(table([("k", BytesKind(), False), ("v", ALL[0].kind, True)], ("k",)))
    gone = weakref.ref(codec)
    del codec, _
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(PURE, reason="KVDIALECT_PURE_PYTHON forbids it")
@pytest.mark.skipif(shutil.which("cc") is None, reason="without a compiler the package is built without it")
def test_the_package_was_built_with_it():
    assert importlib.util.find_spec("kvdialect.schema._rows") is not None, "why did hatch_build.py not build it?"
    assert compiled.rows is not None
