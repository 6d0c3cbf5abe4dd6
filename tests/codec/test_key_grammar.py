"""Keys of several parts: order, prefixes, strictness, and the source that is generated for them."""

from __future__ import annotations

import math
from functools import cmp_to_key
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kind_cases import KEYED

from kvdialect.codec.composite import JsonKind
from kvdialect.codec.keys import INVERSION, KeyGrammar, KeyPart
from kvdialect.codec.numeric import BoolKind, FloatKind, IntKind
from kvdialect.codec.strings import BytesKind, FixedBytesKind, TextKind

UNSIGNED = IntKind(64, signed=False)
CONVERTED = [case for case in KEYED if case.kind.tag is None]


@attrs.frozen
class Parts:
    """A random grammar with what its values are drawn from."""

    cases: tuple
    grammar: KeyGrammar

    def rows(self):
        """Values of all parts, checked."""
        columns = []
        for case, part in zip(self.cases, self.grammar.parts, strict=True):
            values = case.values.map(case.kind.check)
            columns.append(st.none() | values if part.nullable else values)
        return st.tuples(*columns)

    def compare(self, one, other):
        """Which of two rows comes first: NULLs do, unless the part descends."""
        for case, part, a, b in zip(self.cases, self.grammar.parts, one, other, strict=True):
            left, right = ((value is not None, value is not None and case.order(value)) for value in (a, b))
            if left != right:
                return (-1 if left < right else 1) * (-1 if part.descending else 1)
        return 0


@st.composite
def grammars(draw, raw=True):
    """One to four parts of any kinds."""
    cases = draw(st.lists(st.sampled_from(KEYED), min_size=1, max_size=4))
    parts = [KeyPart(case.kind, draw(st.booleans()), draw(st.booleans())) for case in cases]
    if raw and draw(st.booleans()):
        parts[-1] = attrs.evolve(parts[-1], raw=True, descending=False)
    return Parts(tuple(cases), KeyGrammar(parts))


@given(grammars(), st.data())
def test_rows_come_back(parts, data):
    """A key decodes to its values, and to nothing else."""
    row = data.draw(parts.rows())

    raw = parts.grammar.encode(row)

    assert parts.grammar.decode(raw) == row
    assert parts.grammar.width in (None, len(raw))
    assert raw == b"".join(part.encode(value) for part, value in zip(parts.grammar.parts, row, strict=True))


@given(grammars(), st.data())
def test_order_of_keys_is_order_of_rows(parts, data):
    """Sorting keys sorts rows: NULLs first, descending parts the other way round."""
    rows = data.draw(st.lists(parts.rows(), max_size=8))

    by_key = sorted(rows, key=parts.grammar.encode)

    ordered = sorted(rows, key=cmp_to_key(parts.compare))
    assert [parts.grammar.encode(row) for row in by_key] == [parts.grammar.encode(row) for row in ordered]
    for one, other in pairwise(ordered):
        assert (parts.grammar.encode(one) == parts.grammar.encode(other)) is (parts.compare(one, other) == 0)


@given(grammars(raw=False), st.data())
def test_no_key_is_the_beginning_of_another(parts, data):
    """Without a raw part, what stands behind a key never changes where it sorts."""
    one, other = data.draw(parts.rows()), data.draw(parts.rows())

    raw_one, raw_other = parts.grammar.encode(one), parts.grammar.encode(other)

    assert raw_one == raw_other or not raw_other.startswith(raw_one)


@given(grammars(), st.data())
def test_first_values_give_the_prefix_of_their_keys(parts, data):
    """All keys that begin with these values, and no others, begin with these bytes."""
    row, other = data.draw(parts.rows()), data.draw(parts.rows())
    count = data.draw(st.integers(0, len(row) - 1))

    prefix = parts.grammar.encode(row[:count])

    assert parts.grammar.encode(row).startswith(prefix)
    compared = Parts(parts.cases[:count], KeyGrammar(parts.grammar.parts[:count])).compare(row[:count], other[:count])
    assert parts.grammar.encode(other).startswith(prefix) is (compared == 0)


@given(grammars(), st.data())
def test_skip_finds_each_part(parts, data):
    """Offsets are where the parts begin, also when more bytes stand behind the key."""
    row = data.draw(parts.rows())
    key = parts.grammar.encode(row)
    behind = b"" if parts.grammar.parts[-1].raw else data.draw(st.binary(max_size=3))

    for count in range(len(row) + 1):
        assert parts.grammar.skip(key + behind, count) == len(parts.grammar.encode(row[:count]))


@given(grammars(), st.binary(max_size=40))
def test_garbage_raises_value_error_or_is_a_key(parts, raw):
    """Decoding is strict: what decodes encodes to the same bytes."""
    check_strict(parts, raw)


@given(grammars(), st.data())
def test_mutated_keys_raise_value_error_or_are_keys(parts, data):
    """One byte changed, added or taken away."""
    raw = parts.grammar.encode(data.draw(parts.rows()))
    at = data.draw(st.integers(0, len(raw)))
    change = data.draw(st.binary(max_size=2))
    check_strict(parts, raw[:at] + change + raw[at + data.draw(st.integers(0, 2)) :])


def check_strict(parts, raw):
    """Decode and encode again; ValueError is the only error."""
    try:
        row = parts.grammar.decode(raw)
    except ValueError:
        return
    if not any(case in CONVERTED for case in parts.cases):  # a conversion may lose what the inner kind has
        assert parts.grammar.encode(row) == raw


@given(grammars(), st.data())
def test_generated_source_works_inside_other_code(parts, data):
    """Statements and expressions over a variable of any name, twice in one function."""
    row = data.draw(parts.rows())
    key = parts.grammar.encode(row)
    names = {}
    lines = ["def both(one, other):"]
    made = []
    for variable in ("one", "other"):
        statements, values = parts.grammar.decode_source(variable, names)
        lines += [f"    {statement}" for statement in statements]
        made.append(f"({''.join(f'{value}, ' for value in values)})")
    lines.append(f"    return {', '.join(made)}")
    variables = [f"x{number}" for number in range(len(row))]
    lines += [f"def encode({', '.join(variables)}):", f"    return {parts.grammar.encode_source(variables, names)}"]

    exec("\n".join(lines), names)  # noqa: S102

    assert names["both"](key, key) == (row, row)
    assert names["encode"](*row) == key


def test_fixed_parts_are_one_concatenation():
    """The coin store's keys cost no more than writing them by hand."""
    grammar = KeyGrammar([KeyPart(FixedBytesKind(32)), KeyPart(UNSIGNED)])
    names = {}

    assert grammar.encode_source(["a", "b"], names) == "(a + b.to_bytes(8))"
    statements, values = grammar.decode_source("key", names)
    assert len(statements) == 1
    assert values[0] == "key[0:32]"
    assert grammar.width == 40


def test_single_fixed_part_is_the_key_itself():
    """Not even a slice."""
    assert KeyGrammar([KeyPart(FixedBytesKind(32))]).decode_source("key", {})[1] == ["key"]


@pytest.mark.parametrize("height", [0, 1, 255, 256, 65535, 2**32 - 1, 2**64 - 1])
def test_heights_stand_big_endian(height):
    """As the contract writes them."""
    grammar = KeyGrammar([KeyPart(UNSIGNED), KeyPart(FixedBytesKind(2))])

    assert grammar.encode((height, b"ab")) == height.to_bytes(8, "big") + b"ab"


@given(st.text(max_size=4), st.text(max_size=4), st.booleans(), st.booleans(), st.booleans())
def test_prefix_of_text_is_a_prefix_of_its_parts(prefix, value, nullable, descending, raw):
    """Encodings begin with the encoded prefix exactly if the text begins with the prefix."""
    part = KeyPart(TextKind(), nullable, descending, raw and not descending)

    assert part.encode(value).startswith(part.encode_prefix(prefix)) is value.startswith(prefix)
    assert part.encode(prefix + value).startswith(part.encode_prefix(prefix))


@given(
    st.lists(st.sampled_from(b"\x00\x01\xff"), max_size=4).map(bytes),
    st.lists(st.sampled_from(b"\x00\x01\xff"), max_size=6).map(bytes),
)
def test_prefix_of_bytes_with_zeros(prefix, value):
    """A zero byte at the end of a prefix is a zero byte, not the beginning of a terminator."""
    part = KeyPart(BytesKind())

    assert part.encode(value).startswith(part.encode_prefix(prefix)) is value.startswith(prefix)


@pytest.mark.parametrize(
    ("part", "raw", "match"),
    [
        (KeyPart(UNSIGNED), b"1234567", "7 bytes.*8"),
        (KeyPart(UNSIGNED), b"123456789", "9 bytes.*8"),
        (KeyPart(UNSIGNED, nullable=True), b"", "nothing where part 1 begins"),
        (KeyPart(UNSIGNED, nullable=True), b"\x02", "tag byte 02 where part 1 begins"),
        (KeyPart(UNSIGNED, nullable=True), b"\x01123", "ends within part 1"),
        (KeyPart(UNSIGNED, nullable=True), b"\x00x", "2 bytes.*1"),
        (KeyPart(TextKind()), b"a", "before its terminator"),
        (KeyPart(TextKind()), b"a\x00", "before its terminator"),
        (KeyPart(TextKind()), b"a\x00\x02", "escape that is none at byte 1"),
        (KeyPart(TextKind()), b"a\x00\x01b", "4 bytes.*3"),
        (KeyPart(TextKind()), b"\xff\x00\x01", "utf-8"),
        (KeyPart(TextKind(), raw=True), b"\xff", "utf-8"),
        (KeyPart(BoolKind()), b"\x02", "0 or 1"),
    ],
)
def test_what_is_no_key_is_named(part, raw, match):
    """Lengths and the part stand in the message."""
    with pytest.raises(ValueError, match=match):
        KeyGrammar([part]).decode(raw)


def test_key_that_ends_before_its_raw_part_is_refused():
    """The raw part takes what is left: it was once taken for empty where less than the parts before it was there."""
    with pytest.raises(ValueError, match="ends before part 2, which begins at 1"):
        KeyGrammar([KeyPart(IntKind(8)), KeyPart(TextKind(), raw=True)]).decode(b"")


def test_skip_refuses_what_is_no_key():
    """It reads as strictly as it must to find the parts."""
    grammar = KeyGrammar([KeyPart(UNSIGNED), KeyPart(TextKind())])

    with pytest.raises(ValueError, match="ends within part 1"):
        grammar.skip(b"123", 1)
    with pytest.raises(ValueError, match="terminator"):
        grammar.skip(b"12345678a", 2)


def test_values_without_a_place_are_refused():
    """NULL where there is none, NaN, and more values than parts."""
    grammar = KeyGrammar([KeyPart(BoolKind()), KeyPart(FloatKind())])

    for values in [(None, 1.0), (None,), (True, None), (True, math.nan), (True, 1.0, 2)]:
        with pytest.raises(ValueError):  # noqa: PT011
            grammar.encode(values)


def test_impossible_grammars_are_refused():
    """Raw and descending, raw before the end, kinds without an order."""
    with pytest.raises(ValueError, match="terminated"):
        KeyPart(TextKind(), descending=True, raw=True)
    with pytest.raises(ValueError, match="last"):
        KeyGrammar([KeyPart(TextKind(), raw=True), KeyPart(UNSIGNED)])
    with pytest.raises(ValueError, match="no place in a key"):
        KeyPart(JsonKind())


def test_raw_says_nothing_of_fixed_parts():
    """They are raw anyway, and may descend."""
    part = KeyPart(UNSIGNED, raw=True, descending=True)

    assert KeyGrammar([part, KeyPart(BoolKind())]).encode((1, True)) == (1).to_bytes(8).translate(INVERSION) + b"\x01"


def test_empty_grammar():
    """It has one key."""
    assert KeyGrammar([]).encode(()) == b""
    assert KeyGrammar([]).decode(b"") == ()
    with pytest.raises(ValueError, match="1 bytes"):
        KeyGrammar([]).decode(b"a")


def test_grammars_are_equal_by_their_parts():
    """For caches of plans."""
    one, other = (KeyGrammar([KeyPart(IntKind(8))]) for _ in range(2))

    assert one == other
    assert hash(one) == hash(other)
    assert one != KeyGrammar([KeyPart(IntKind(16))])
    assert "int" in repr(one)
