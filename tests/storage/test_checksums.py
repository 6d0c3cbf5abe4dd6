"""Checksums of LMDB's values: compiled functions and Python's give the same, to the byte, and find the same damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdialect._compiled import loaded

pytestmark = pytest.mark.engine("lmdb")

KEYS = st.binary(min_size=1, max_size=70)
VALUES = st.binary(max_size=200)
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def both():
    """Python's functions and the compiled ones: ``{name: (Python's, compiled)}``."""
    from kvdialect.storage.lmdb import checksums

    compiled = loaded("kvdialect.storage.lmdb._checksums")
    if compiled is None:
        pytest.skip("the package was built without its compiled checksums, or KVDIALECT_PURE_PYTHON forbids them")
    names = ("value", "values", "pairs", "sealed")
    return {name: (getattr(checksums, f"_{name}"), getattr(compiled, name)) for name in names}


def outcome(function, *args):
    try:
        return function(*args)
    except ValueError as error:
        return "damaged", error.args


@given(st.lists(st.tuples(KEYS, VALUES), max_size=20), st.binary(max_size=1), SEEDS)
def test_what_is_sealed_is_read_again(both, pairs, tag, seed):
    python, compiled = both["sealed"]
    stored = compiled(pairs, tag, seed)
    assert stored == python(pairs, tag, seed)
    keys, raws = [key for key, _ in pairs], [raw for _, raw in stored]
    for function in both["pairs"]:
        assert function(stored, len(tag), seed) == pairs
    for function in both["values"]:
        assert function(keys, raws, seed) == [value for _, value in pairs]
        assert function([*keys, b"k"], [*raws, None], seed) == [*(value for _, value in pairs), None]
    for function in both["value"]:
        assert [function(key, raw, seed) for key, raw in zip(keys, raws, strict=True)] == [v for _, v in pairs]


@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=8), SEEDS, st.data())
def test_the_same_damage_is_found(both, pairs, seed, data):
    stored = both["sealed"][0](pairs, b"t", seed)
    at = data.draw(st.integers(0, len(stored) - 1))
    key, raw = stored[at]
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    flipped = bytearray(raw)
    flipped[bit // 8] ^= 1 << bit % 8
    damaged = data.draw(st.sampled_from([bytes(flipped), raw[:-1], raw[:3], b"", raw + b"\0"]))
    stored[at] = key, damaged
    keys, raws = [name for name, _ in pairs], [value for _, value in stored]
    for name, args in [
        ("pairs", (stored, 1, seed)),
        ("values", (keys, raws, seed)),
        ("value", (keys[at], damaged, seed)),
    ]:
        python, compiled = (outcome(function, *args) for function in both[name])
        assert python == compiled == ("damaged", (0 if name == "value" else at,))


def test_every_length_of_key_and_value(both):
    python, compiled = both["sealed"]
    pairs = [(bytes(range(k)), bytes(range(100, 100 + v))) for k in range(1, 50) for v in range(50)]
    assert compiled(pairs, b"", 17) == python(pairs, b"", 17)


def test_what_is_no_bytes_is_refused(both):
    for function in both["sealed"]:
        with pytest.raises(TypeError):
            function([("key", b"value")], b"", 1)
