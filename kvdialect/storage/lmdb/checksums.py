"""Values with checksums: XXH32 of key and value, with the family's seed, in four bytes, big-endian, behind the value.

Compiled code does it where the package was built with it, see ``kvdialect._compiled``; the functions here do the same.
"""

from __future__ import annotations

from collections.abc import Callable

from xxhash import xxh32_digest

from kvdialect._compiled import loaded
from kvdialect.storage.contract import Pair


def _value(key: bytes, raw: bytes, seed: int) -> bytes:
    found = raw[:-4]
    if not raw.endswith(xxh32_digest(key + found, seed)):
        raise ValueError(0)
    return found


def _values(keys: list[bytes], raws: list[bytes | None], seed: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    for key, raw in zip(keys, raws, strict=True):
        if raw is None:
            found.append(None)
            continue
        value = raw[:-4]
        if not raw.endswith(xxh32_digest(key + value, seed)):
            raise ValueError(len(found))
        found.append(value)
    return found


def _pairs(stored: list[Pair], tagged: int, seed: int) -> list[Pair]:
    if tagged:
        stored = [(key[tagged:], raw) for key, raw in stored]
    pairs = [(key, value) for key, raw in stored if raw.endswith(xxh32_digest(key + (value := raw[:-4]), seed))]
    if len(pairs) != len(stored):
        for at, (key, raw) in enumerate(stored):
            if not raw.endswith(xxh32_digest(key + raw[:-4], seed)):
                raise ValueError(at)
    return pairs


def _nodes(_page: bytes) -> list[Pair] | None:
    return None


def _sealed(pairs: list[Pair], tag: bytes, seed: int) -> list[Pair]:
    return [(tag + key, value + xxh32_digest(key + value, seed)) for key, value in pairs]


_compiled = loaded("kvdialect.storage.lmdb._checksums")

value: Callable[[bytes, bytes, int], bytes] = _value if _compiled is None else _compiled.value
"""``value(key, raw, seed)``: the value in ``raw``. ValueError if its checksum does not hold."""

values: Callable[[list[bytes], list[bytes | None], int], list[bytes | None]] = (
    _values if _compiled is None else _compiled.values
)
"""``values(keys, raws, seed)``: the values in ``raws``, where a None stays one. ValueError with the place of the first
whose checksum does not hold."""

nodes: Callable[[bytes], list[Pair] | None] = _nodes if _compiled is None else _compiled.nodes
"""``nodes(page)``: what a leaf page of LMDB's holds. None if that is not all within it: see :mod:`.structure`."""

pairs: Callable[[list[Pair], int, int], list[Pair]] = _pairs if _compiled is None else _compiled.pairs
"""``pairs(stored, tagged, seed)``: keys, without ``tagged`` bytes in front, and values. ValueError as above."""

sealed: Callable[[list[Pair], bytes, int], list[Pair]] = _sealed if _compiled is None else _compiled.sealed
"""``sealed(pairs, tag, seed)``: pairs as they are stored."""
