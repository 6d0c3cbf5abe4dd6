"""Random histories from a seed: fast, repeatable, and as long as one likes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, Final

from kvdialect.storage import encode_counter, range_digest
from kvdialect.testing import strategies
from kvdialect.testing.comparison import FAMILIES, SLOTS, Comparison, Difference, Step, StoreOpener, new_name
from kvdialect.testing.model import StoreModel
from kvdialect.testing.shrink import report
from kvdialect.testing.strategies import Operation

_WEIGHTS: Final[Mapping[str, int]] = {
    "put": 160,
    "delete": 60,
    "batch": 240,
    "get": 80,
    "multi_get": 60,
    "scan": 120,
    "prefix_scan": 40,
    "snapshot_open": 15,
    "snapshot_close": 5,
    "snapshot_get": 40,
    "snapshot_scan": 40,
    "scan_open": 20,
    "scan_next": 40,
    "create": 5,
    "drop": 3,
    "flush": 4,
    "compact": 4,
    "reopen": 3,
    "compare_all": 3,
}


class Walk:
    """Chooses steps at random, with small alphabets, so that they meet.

    It looks at the model for keys that are there and for expectations that hold.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._actions = list(_WEIGHTS)
        self._weights = list(_WEIGHTS.values())

    def step(self, model: StoreModel) -> Step:
        """The next step."""
        (action,) = self._random.choices(self._actions, self._weights)
        return Step(action, getattr(self, f"_{action}")(model))

    def _put(self, model: StoreModel) -> tuple[Any, ...]:
        cf = self._family()
        return cf, self._key(model, cf), self._value()

    def _delete(self, model: StoreModel) -> tuple[Any, ...]:
        cf = self._family()
        return cf, self._key(model, cf)

    def _batch(self, model: StoreModel) -> tuple[Any, ...]:
        return tuple(self._operation(model) for _ in range(self._random.choice((0, 1, 2, 3, 5, 8, 20))))

    def _operation(self, model: StoreModel) -> Operation:
        # Mostly families that are there: one bad operation rejects the whole batch.
        cf = self._random.choice(sorted(model.families)) if self._random.random() < 0.99 else self._family()
        key = self._key(model, cf)
        present = model.families.get(cf, {})
        chance = self._random.random()
        if chance < 0.45:
            return "put", cf, key, self._value()
        if chance < 0.6:
            return "delete", cf, key
        if chance < 0.8:
            value = present.get(key)
            if value is not None and len(value) != 8 and self._random.random() < 0.9:
                key = b"counter"
            delta = self._random.choice(strategies.COUNTER_LIMITS) if self._random.random() < 0.02 else None
            return "add", cf, key, self._random.randint(-3, 3) if delta is None else delta
        holds = self._random.random() < 0.96
        if chance < 0.95:
            return "expect", cf, key, present.get(key) if holds else self._value()
        start, stop = self._bounds(model, cf)
        pairs = model.scan(cf, start, stop) if cf in model.families else []
        return "expect_range", cf, start, stop, range_digest(pairs if holds else [*pairs, (b"phantom", b"")])

    def _get(self, model: StoreModel) -> tuple[Any, ...]:
        return self._delete(model)

    def _multi_get(self, model: StoreModel) -> tuple[Any, ...]:
        cf = self._family()
        return cf, *(self._key(model, cf) for _ in range(self._random.randint(1, 6)))

    def _scan(self, model: StoreModel) -> tuple[Any, ...]:
        cf = self._family()
        return cf, *self._bounds(model, cf), self._random.random() < 0.5

    def _prefix_scan(self, model: StoreModel) -> tuple[Any, ...]:
        cf = self._family()
        return cf, self._key(model, cf)[: self._random.choice((0, 1, 1, 2, 2, 3, 31, 32, 33, 510))]

    def _snapshot_open(self, _: StoreModel) -> tuple[Any, ...]:
        return (self._random.randrange(SLOTS),)

    _snapshot_close = _snapshot_open

    def _snapshot_get(self, model: StoreModel) -> tuple[Any, ...]:
        return self._random.randrange(SLOTS), *self._multi_get(model)

    def _snapshot_scan(self, model: StoreModel) -> tuple[Any, ...]:
        return self._random.randrange(SLOTS), *self._scan(model)

    _scan_open = _snapshot_scan

    def _scan_next(self, _: StoreModel) -> tuple[Any, ...]:
        return self._random.randrange(SLOTS), self._random.choice((1, 2, 5, 20, 600))

    def _create(self, _: StoreModel) -> tuple[Any, ...]:
        return (self._random.choice(("low", "high")),)

    _drop = _create

    def _compact(self, _: StoreModel) -> tuple[Any, ...]:
        return (self._family(),)

    def _nothing(self, _: StoreModel) -> tuple[Any, ...]:
        return ()

    _flush = _reopen = _compare_all = _nothing

    def _family(self) -> str:
        return self._random.choice(tuple(FAMILIES))

    def _key(self, model: StoreModel, cf: str) -> bytes:
        chance = self._random.random()
        present = model.families.get(cf)
        if present and chance < 0.3:
            return self._random.choice(list(present))
        if chance < 0.45:
            return self._random.choice(strategies.TRICKY_KEYS)
        return bytes(self._random.choices(strategies.ALPHABET, k=self._random.randint(1, 4)))

    def _bounds(self, model: StoreModel, cf: str) -> tuple[bytes, bytes | None]:
        start, stop = (self._bound(model, cf) for _ in range(2))
        if self._random.random() < 0.8:
            start, stop = sorted((start, stop))
        return start, None if self._random.random() < 0.3 else stop

    def _bound(self, model: StoreModel, cf: str) -> bytes:
        key = self._key(model, cf)
        return self._random.choice((key, key, key + b"\x00", key[:-1], key * 9, b""))

    def _value(self) -> bytes:
        chance = self._random.random()
        if chance < 0.1:
            return b""
        if chance < 0.4:
            return encode_counter(self._random.randint(-1000, 1000))
        if chance < 0.45:
            return self._random.randbytes(1) * self._random.choice((2000, 4096, 9000))
        return self._random.randbytes(self._random.randint(1, 20))


def replay(open_store: StoreOpener, history: Iterable[Step]) -> None:
    """Take the steps on a new store.

    Raises:
        Difference: at the first step at which store and model differ.
    """
    comparison = Comparison(open_store, name=new_name())
    try:
        for step in history:
            comparison.take(step)
        comparison.take(Step("compare_all"))
    finally:
        comparison.close()


def run_steps(open_store: StoreOpener, steps: int, seed: int, *, shrink_seconds: float = 30.0) -> None:
    """Take ``steps`` random steps, each one operation, on a new store and a model.

    Args:
        open_store: opens and reopens the store.
        steps: number of steps.
        seed: the same seed takes the same steps.
        shrink_seconds: how long to look for a shorter history after a difference.

    Raises:
        Difference: its text has the seed, the failing step and a short history that leads there.
    """
    walk, history = Walk(seed), list[Step]()
    comparison = Comparison(open_store, name=new_name())
    try:
        for _ in range(steps):
            step = walk.step(comparison.model)
            history.append(step)
            comparison.take(step)
        comparison.take(Step("compare_all"))
    except Difference as difference:
        comparison.close()
        difference.seed, difference.history = seed, history
        raise report(open_store, difference, shrink_seconds) from difference
    finally:
        comparison.close()
