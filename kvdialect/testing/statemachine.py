"""A store compared with a model, driven by Hypothesis.

:func:`~kvdialect.testing.walk.run_steps` takes the same steps at random and is faster; this one chooses better.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvdialect.storage import range_digest
from kvdialect.testing import strategies
from kvdialect.testing.comparison import FAMILIES, SLOTS, Comparison, Difference, Step, StoreOpener, new_name
from kvdialect.testing.model import Pairs
from kvdialect.testing.strategies import Operation


def state_machine(open_store: StoreOpener) -> type[RuleBasedStateMachine]:
    """A Hypothesis state machine over the stores that ``open_store`` opens, for ``run_state_machine_as_test``."""
    cf = strategies.families(FAMILIES)
    key, value, bound = strategies.keys(), strategies.values(), strategies.bounds()
    slot, reverse = st.integers(0, SLOTS - 1), st.booleans()
    operations = st.lists(strategies.batch_operations(FAMILIES), max_size=6)

    class BackendMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.comparison = Comparison(open_store, name=new_name())
            self.history: list[Step] = []

        def take(self, action: str, *arguments: Any) -> None:
            self.history.append(Step(action, arguments))
            try:
                self.comparison.take(self.history[-1])
            except Difference as difference:
                difference.history = self.history
                raise

        @rule(cf=cf, key=key, value=value)
        def put(self, cf: str, key: bytes, value: bytes) -> None:
            self.take("put", cf, key, value)

        @rule(cf=cf, key=key)
        def delete(self, cf: str, key: bytes) -> None:
            self.take("delete", cf, key)

        @rule(operations=operations, holding=st.booleans())
        def batch(self, operations: list[Operation], holding: bool) -> None:
            if holding:
                families = self.comparison.model.families
                operations = [
                    (*operation[:3], families.get(operation[1], {}).get(operation[2]))
                    if operation[0] == "expect"
                    else operation
                    for operation in operations
                ]
            self.take("batch", *operations)

        @rule(cf=cf, start=bound, stop=st.none() | bound, changed=st.booleans())
        def expect_range(self, cf: str, start: bytes, stop: bytes | None, changed: bool) -> None:
            model = self.comparison.model
            pairs: Pairs = model.scan(cf, start, stop) if cf in model.families else []
            digest = range_digest([*pairs, (b"phantom", b"")] if changed else pairs)
            self.take("batch", ("expect_range", cf, start, stop, digest), ("put", cf, b"k", b"v"))

        @rule(cf=cf, keys=st.lists(key, min_size=1, max_size=4))
        def multi_get(self, cf: str, keys: list[bytes]) -> None:
            self.take("multi_get", cf, *keys)

        @rule(cf=cf, start=bound, stop=st.none() | bound, reverse=reverse)
        def scan(self, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> None:
            self.take("scan", cf, start, stop, reverse)

        @rule(cf=cf, prefix=strategies.prefixes())
        def prefix_scan(self, cf: str, prefix: bytes) -> None:
            self.take("prefix_scan", cf, prefix)

        @rule(slot=slot)
        def snapshot_open(self, slot: int) -> None:
            self.take("snapshot_open", slot)

        @rule(slot=slot, cf=cf, key=key)
        def snapshot_get(self, slot: int, cf: str, key: bytes) -> None:
            self.take("snapshot_get", slot, cf, key)

        @rule(slot=slot, cf=cf, start=bound, stop=st.none() | bound, reverse=reverse)
        def snapshot_scan(self, slot: int, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> None:
            self.take("snapshot_scan", slot, cf, start, stop, reverse)

        @rule(slot=slot, cf=cf, start=bound, stop=st.none() | bound, reverse=reverse)
        def scan_open(self, slot: int, cf: str, start: bytes, stop: bytes | None, reverse: bool) -> None:
            self.take("scan_open", slot, cf, start, stop, reverse)

        @rule(slot=slot, pairs=st.integers(1, 5))
        def scan_next(self, slot: int, pairs: int) -> None:
            self.take("scan_next", slot, pairs)

        @rule(cf=st.sampled_from(("low", "high")), drop=st.booleans())
        def change_families(self, cf: str, drop: bool) -> None:
            self.take("drop" if drop else "create", cf)

        @rule(cf=cf)
        def settle(self, cf: str) -> None:
            self.take("flush")
            self.take("compact", cf)

        @rule()
        def reopen(self) -> None:
            self.take("reopen")

        @invariant()
        def store_and_model_agree(self) -> None:
            self.take("compare_all")

        def teardown(self) -> None:
            self.comparison.close()

    return BackendMachine
