"""The compiled encoder beside the generated code: the same bytes, the same errors, nothing left behind."""

from __future__ import annotations

import gc
import sys
from unittest import mock

import pytest
from codec_cases import table, typed
from hypothesis import given, settings
from hypothesis import strategies as st
from kind_cases import ALL, KEYED

from kvdialect import exc
from kvdialect.codec.composite import ListKind
from kvdialect.codec.numeric import FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, FixedBytesKind, TextKind
from kvdialect.schema import compiled, rows
from kvdialect.schema.definition import IndexDefinition, IndexPart
from kvdialect.schema.expressions import Arithmetic, Column, Compare, Constant

needs_compiled = pytest.mark.skipif(
    compiled.encoding is None, reason="the package was built without its compiled encoder"
)

U8 = IntKind(8, signed=False)
I16 = IntKind(16, signed=True)
NOT_NULL = Compare("is not", Column("n"), Constant(None))
NULL = Compare("is", Column("n"), Constant(None))
ODD = Compare("==", Arithmetic("%", Column("a"), Constant(2)), Constant(1))


def both(definition):
    """The codec of a table, and one that has generated code alone."""
    with mock.patch.object(rows, "encoder", return_value=None), mock.patch.object(rows, "decoder", return_value=None):
        generated = rows.TableCodec(definition)
    codec = rows.TableCodec(definition)
    assert generated.encoder is None
    return codec, generated


def outcome(function, *args):
    """What a function returns, with all types, or the error."""
    try:
        return typed(function(*args))
    except exc.Error as error:
        return type(error), str(error)


def index(name, *columns, descending=False, **options):
    return IndexDefinition(name=name, parts=tuple(IndexPart(name=c, descending=descending) for c in columns), **options)


def same(codec, generated, row, *others):
    """Everything that both make of rows."""
    assert outcome(codec.encode, row) == outcome(generated.encode, row)
    assert outcome(codec.insert, [row, *others]) == outcome(generated.insert, [row, *others])
    try:
        key, _, row = generated.encode(row)
        changed = [generated.encode(other)[2] for other in others]
    except exc.Error:
        return
    assert outcome(codec.entries, row, key) == outcome(generated.entries, row, key)
    for other in changed:
        assert outcome(codec.moves, row, other, key) == outcome(generated.moves, row, other, key)


STRANGE = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3), st.binary(max_size=5),
    st.just("\ud800"), st.builds(bytearray, st.binary(max_size=5)), st.lists(st.integers(), max_size=2),
)  # fmt: skip


@needs_compiled
@pytest.mark.parametrize("case", ALL, ids=str)
@settings(max_examples=settings().max_examples // 2)  # several rows in each
@given(data=st.data())
def test_values_of_every_kind_encode_the_same(case, data):
    fields = [("k", BytesKind(), False), ("v", case.kind, False), ("n", case.kind, True)]
    codec, generated = both(table(fields, ("k",)))
    values = [(b"k", data.draw(case.values), data.draw(st.none() | case.values)) for _ in range(2)]
    same(codec, generated, *values)
    same(codec, generated, (data.draw(STRANGE), data.draw(STRANGE), data.draw(STRANGE)))


@needs_compiled
@pytest.mark.parametrize("case", KEYED, ids=str)
@settings(max_examples=settings().max_examples // 2)  # several rows in each
@given(data=st.data())
def test_keys_and_index_entries_of_every_kind_encode_the_same(case, data):
    indexes = [
        index("plain", "n", "a", include=("v",)),
        index("down", "v", "a", descending=True),
        index("some", "n", where=NOT_NULL),
        index("others", "v", where=NULL, include=("n",)),
        index("odd", "v", "k", where=ODD),
        index("alone", "v", unique=True),
        index("alone_with_more", "n", "v", unique=True, include=("a", "n")),
    ]
    fields = [("a", I16, False), ("k", case.kind, False), ("n", case.kind, True), ("v", case.kind, True)]
    codec, generated = both(table(fields, ("a", "k"), indexes))
    known = st.tuples(st.integers(-(2**15), 2**15 - 1), case.values, st.none() | case.values, st.none() | case.values)
    row = data.draw(known)
    others = [(*row[:2], *data.draw(known)[2:]) for _ in range(2)]

    same(codec, generated, row, *others)
    at = data.draw(st.integers(0, 3))
    same(codec, generated, (*row[:at], data.draw(STRANGE), *row[at + 1 :]))
    if codec.encoder is not None:
        assert codec.encoder.key(row[:2]) in (None, generated.encode(row)[0])


@needs_compiled
def test_what_c_declines_is_left_to_the_generated_code():
    """Keys too long or empty, NaN in keys, rows of another form, entries of lists."""
    fields = [("k", TextKind(), False), ("f", FloatKind(), True), ("l", ListKind(U8), True), ("t", TextKind(3), True)]
    indexes = [index("by_f", "f"), index("by_l", "l", kind="multi"), index("by_t", "t", "f", unique=True)]
    codec, generated = both(table(fields, ("k",), indexes))
    good = ("k", 0.5, [3, 1, 3], "abc")

    for row in [
        good, ("", 0.5, [], None), ("x" * 510, -0.0, None, "\0\0"), ("x" * 511, 0.5, None, None),
        ("k", float("nan"), [1], "a"), ("é\0", float("-inf"), [None, 7], "é"), ("k", 0.5, [1], "abcd"),
        ("k", True, [256], "a"), ("k", 1, (1, 2), "a"), ("\udc80", 0.5, None, None),
        ("k", 0.5, None, "x\udc80"), ("k", 0.0, [], "a"), ("k", -0.0, [], "a"),
    ]:  # fmt: skip
        same(codec, generated, row, good)
        same(codec, generated, good, row)
    assert codec.encode(["k", 0.5, None, None]) == generated.encode(["k", 0.5, None, None])
    assert codec.encoder.key("k") == b"k"
    assert codec.encoder.key("") is None
    assert codec.encoder.key(5) is None
    assert codec.encoder.key("x" * 511) is None


@needs_compiled
def test_long_values_and_wide_rows_have_the_forms_of_msgpack():
    """Heads of 1, 2 and 4 bytes of strings, and of 2 of the array."""
    fields = [("k", U8, False), *((f"c{at}", kind, False) for at, kind in enumerate([BytesKind(), TextKind()] * 10))]
    codec, generated = both(table(fields, ("k",)))

    for size in (0, 1, 31, 32, 255, 256, 65535, 65536):
        row = (7, *([b"b" * size, "t" * size] * 10))
        assert codec.encode(row) == generated.encode(row)
    numbers = [("k", U8, False), ("n", IntKind(64, signed=True), False), ("u", IntKind(64, signed=False), False)]
    codec, generated = both(table(numbers, ("k",)))
    for bits in range(64):
        for number in (2**bits - 1, -(2**bits), -(2**bits) + 1, -(2**bits) - 1):
            same(codec, generated, (7, number, max(number, 0)))


@needs_compiled
def test_equal_entries_are_counted():
    fields = [("k", U8, False), ("v", FixedBytesKind(2), False)]
    codec, generated = both(table(fields, ("k",), [index("alone", "v", unique=True)]))
    pairs, [(entries, count)] = codec.insert([(1, b"ab"), (2, b"cd"), (3, b"ab")])

    assert (pairs, [(entries, count)]) == generated.insert([(1, b"ab"), (2, b"cd"), (3, b"ab")])
    assert len(entries) == 2
    assert count == 3


@needs_compiled
def test_misuse_is_refused():
    codec, _ = both(table([("k", U8, False), ("v", U8, True)], ("k",), [index("i", "v")]))
    encoder = codec.encoder
    calls = [
        (encoder.encode, ()), (encoder.entries, ((1, 2),)), (encoder.entries, ((1, 2), "k")),
        (encoder.insert, (((1, 2),),)), (encoder.moves, ((1, 2), (1,), b"k")), (encoder.moves, ((1, 2), (1, 2), 3)),
    ]  # fmt: skip
    for call, arguments in calls:
        with pytest.raises(TypeError):
            call(*arguments)
    column = ("i", False, 0, 255, None)
    part = (0, "i", False, False, False, False, 1, None)
    good = [(column,), (part,), b"", (), (), 510, None, None]
    compiled.encoding.Encoder(*good)
    for at, bad in [
        (0, ()), (0, (column,) * 65), (0, (("xy", False, 0, 0, None),)), (1, [part]), (1, ((1, *part[1:]),)),
        (1, ((0, "ii", *part[2:]),)), (2, b"123456789"), (3, (1,)), (3, [0]), (4, ((1, 2),)),
    ]:  # fmt: skip
        with pytest.raises((TypeError, ValueError)):
            compiled.encoding.Encoder(*good[:at], bad, *good[at + 1 :])


@needs_compiled
def test_nothing_is_left_behind():
    """References are given back, whatever becomes of a row."""
    fields = [("k", TextKind(), False), ("f", FloatKind(), True), ("l", ListKind(U8), True)]
    codec, _ = both(table(fields, ("k",), [index("by_f", "f"), index("by_l", "l", kind="multi"), index("n", "k")]))
    given_rows = [("key", 0.5, [1, 2]), ("nan", float("nan"), [3]), ("", 1.5, None), ("x" * 600, 0.5, None)]

    def work():
        for row in given_rows:
            outcome(codec.encode, row)
            outcome(codec.insert, [row] * 2)
            outcome(codec.entries, row, b"k")
            outcome(codec.moves, row, given_rows[0], b"k")
            codec.encoder.key(row[0])

    held = [value for row in given_rows for value in row] + given_rows
    work()
    gc.collect()
    before = [sys.getrefcount(value) for value in held], len(gc.get_objects())
    for _ in range(50):
        work()
    gc.collect()
    after = [sys.getrefcount(value) for value in held], len(gc.get_objects())
    assert before[0] == after[0]
    assert after[1] - before[1] < 20
