"""Where a small store may hide records: pairs whose checksum does not hold, looked for as it is opened.

A bit that was flipped in a key leaves the pair where it is, under a key that nobody asks for, and LMDB says that what
was asked for is not there. The checksum of such a pair does not hold, but no read gets as far as that. What its key was
lies between the keys of its sound neighbours; of what is looked for there, "it is not there" is no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, groupby, islice
from operator import ge
from typing import Any, Final

import attrs
import lmdb

from kvdialect.storage.contract import Pair
from kvdialect.storage.lmdb import checksums
from kvdialect.storage.lmdb.families import OWN_PLACE, PLACE, place_of
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.storage.ranges import successor


@attrs.frozen(slots=True)
class Doubt:
    """A range of a database in which a record may be hidden. Its keys have their families' tags in front.

    Attributes:
        low, high: the record has a key from ``low`` on and below ``high``; None is no bound.
        damaged: the keys of the pairs to blame, each with its checksum's seed, if it has one; none where LMDB would not
            find them by these.
        tagged: how long the tags are.
    """

    low: bytes
    high: bytes | None
    damaged: tuple[tuple[bytes, int | None], ...]
    tagged: int

    def covers(self, low: bytes, high: bytes | None) -> bool:
        """Whether a read from ``low`` on and below ``high`` may miss the record, and not meet a damaged pair itself."""
        if (high is not None and high <= self.low) or (self.high is not None and self.high <= low):
            return False
        return not any(low <= key and (high is None or key < high) for key, _ in self.damaged)

    def holds(self, txn: lmdb.Transaction, db: Any) -> bool:
        """Whether a pair to blame is still there: it may have been deleted, or written anew."""
        if not self.damaged:
            return True
        try:
            pairs: Any = [(key, txn.get(key, None, db), seed) for key, seed in self.damaged]
        except lmdb.Error:
            return True  # the way to it is damaged too
        return any(raw is not None and not _sound((key, raw), self.tagged, seed) for key, raw, seed in pairs)


def find(leaves: Mapping[str, list[list[Pair]]]) -> dict[str, list[Doubt]]:
    """The doubts about the databases of a store, by name; those without any are left out.

    Args:
        leaves: what each leaf of each database holds.

    Raises:
        Corruption: if where a family lives is damaged.
    """
    seeds: dict[str, dict[bytes, int]] = {}
    own = chain.from_iterable(leaves.get(RESERVED_FAMILY, ()))
    for place in (OWN_PLACE, *(place_of(key, raw)[1] for key, raw in own if key.startswith(PLACE))):
        tag = b"" if place.tag is None else bytes((place.tag,))
        seeds.setdefault(place.database, {})[tag] = place.seed
    found = {name: _Search(held, seeds.get(name, {}), name == RESERVED_FAMILY) for name, held in leaves.items()}
    return {name: doubts for name, search in found.items() if (doubts := search.doubts())}


def _sound(pair: Pair, tagged: int, seed: int | None) -> bool:
    if seed is None:
        return False
    try:
        checksums.pairs([pair], tagged, seed)
    except ValueError:
        return False
    return True


_AT_ONCE: Final = 256
_LONGEST: Final = 511  # LMDB refuses to look for a longer key


class _Search:
    """A search through one database.

    Args:
        leaves: what each of its leaves holds.
        seeds: of its families, by tag.
        own: it is the library's own, in which what stands above the reserved family's pairs has no checksum.
    """

    def __init__(self, leaves: list[list[Pair]], seeds: Mapping[bytes, int], own: bool) -> None:
        self._leaves, self._seeds, self._own = leaves, seeds, own
        self._pairs = list(chain.from_iterable(leaves))
        self._keys = [key for key, _ in self._pairs]
        self._tagged = 0 if b"" in seeds else 1
        self._bad = self._unsound()

    def doubts(self) -> list[Doubt]:
        found = [self._hiding(run) for run in _runs(self._bad)] if self._bad else []
        if any(map(ge, self._keys, self._keys[1:])):
            found += self._misleading()
        return found

    def _unsound(self) -> list[int]:
        """The places of the pairs whose checksums do not hold."""
        bad: list[int] = []
        begin = 0
        for tag, group in groupby(self._pairs, lambda pair: pair[0][: self._tagged]):
            seed = self._seeds.get(tag)
            while pairs := list(islice(group, _AT_ONCE)):
                if seed is not None:
                    bad += [begin + number for number in _unsound(pairs, self._tagged, seed)]
                elif not self._own:
                    bad += range(begin, begin + len(pairs))
                begin += len(pairs)
        return bad

    def _hiding(self, run: range) -> Doubt:
        """What a run of damaged pairs may hide: something between its neighbours, in the same family."""
        low, high = self._bounds(run)
        keys = self._keys[run.start : run.stop]
        findable = all(0 < len(key) <= _LONGEST for key in keys)
        damaged = tuple((key, self._seeds.get(key[: self._tagged])) for key in keys if findable)
        tags = {key[: self._tagged] for key in keys}
        if len(tags) == 1 and tags <= self._seeds.keys() and not any(map(self._of_another, run)):
            [tag] = tags
            end = successor(tag)
            low = max(low, tag)
            high = end if high is None else high if end is None else min(high, end)
        return Doubt(low, high, damaged, self._tagged)

    def _of_another(self, number: int) -> bool:
        """Whether it is the tag that is damaged: the pair's checksum holds in another family of the database."""
        key, raw = self._pairs[number]
        tag, rest = key[: self._tagged], key[self._tagged :]
        return any(
            tag != other and _sound((other + rest, raw), self._tagged, seed) for other, seed in self._seeds.items()
        )

    def _misleading(self) -> list[Doubt]:
        """Leaves with keys out of order, among which LMDB's search may go past any other."""
        found = []
        begin = 0
        for leaf in self._leaves:
            keys = self._keys[max(begin - 1, 0) : begin + len(leaf) + 1]
            if any(map(ge, keys, keys[1:])):
                found.append(Doubt(*self._bounds(range(begin, begin + len(leaf))), (), self._tagged))
            begin += len(leaf)
        return found

    def _bounds(self, run: range) -> tuple[bytes, bytes | None]:
        """The keys of the sound pairs on both sides, the first excluded."""
        bad = set(self._bad)
        before = next((self._keys[n] for n in range(run.start - 1, -1, -1) if n not in bad), None)
        behind = next((self._keys[n] for n in range(run.stop, len(self._keys)) if n not in bad), None)
        return b"" if before is None else before + b"\0", behind


def _unsound(pairs: list[Pair], tagged: int, seed: int) -> list[int]:
    bad: list[int] = []
    begin = 0
    while begin < len(pairs):
        try:
            checksums.pairs(pairs[begin:] if begin else pairs, tagged, seed)
        except ValueError as error:
            begin += error.args[0] + 1
            bad.append(begin - 1)
        else:
            break
    return bad


def _runs(numbers: list[int]) -> list[range]:
    """Numbers, in order, as ranges of those that follow each other."""
    runs: list[range] = []
    for number in numbers:
        if runs and runs[-1].stop == number:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs
