"""Applying a batch: expectations tested and additions summed against what a writer sees under its lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from kvdialect import exc
from kvdialect.storage.batch import Addition, Deletion, WriteBatch, decode_counter, encode_counter, range_digest
from kvdialect.storage.contract import Pair


class State(Protocol):
    """The latest state, as a writer sees it under its lock."""

    def multi_get(self, cf: str, keys: list[bytes]) -> list[bytes | None]: ...

    def scan(self, cf: str, start: bytes, stop: bytes | None) -> Iterable[Pair]: ...


def check_expectations(batch: WriteBatch, state: State, facts: Mapping[str, Any]) -> None:
    """Test a batch's expectations against ``state``.

    Raises:
        ConflictError: for the first that does not hold.
    """
    for cf, expected in batch.expectations.items():
        keys = list(expected)
        for key, found in zip(keys, state.multi_get(cf, keys), strict=True):
            if found != expected[key]:
                raise exc.ConflictError(
                    f"{cf}[{exc.shown(key)}] was expected to be {exc.shown(expected[key])} and is {exc.shown(found)};"
                    " another commit came first (run the transaction again)",
                    **{**facts, "cf": cf, "key": key, "expected": expected[key], "found": found},
                )
    for cf, start, stop, digest in batch.ranges:
        found_digest = range_digest(state.scan(cf, start, stop))
        if found_digest != digest:
            end = "the end" if stop is None else exc.shown(stop)
            raise exc.ConflictError(
                f"the pairs of {cf} from {exc.shown(start)} to {end} changed since they were read"
                " (run the transaction again)",
                **{**facts, "cf": cf, "key": start, "expected": digest, "found": found_digest},
            )


def resolve(batch: WriteBatch, state: State) -> dict[str, dict[bytes, bytes | Deletion]]:
    """The batch's changes with every addition turned into the value that it gives.

    Raises:
        CounterError: if a stored value is no counter, or a sum overflows.
    """
    resolved: dict[str, dict[bytes, bytes | Deletion]] = {}
    for cf, changes in batch.changes.items():
        if Addition not in set(map(type, changes.values())):
            resolved[cf] = changes  # type: ignore[assignment]
            continue
        counters = [key for key, change in changes.items() if type(change) is Addition]
        out = dict(changes)
        for key, raw in zip(counters, state.multi_get(cf, counters), strict=True):
            delta = changes[key].delta  # type: ignore[union-attr]
            out[key] = encode_counter(decode_counter(raw, cf, key) + delta, cf, key)
        resolved[cf] = out  # type: ignore[assignment]
    return resolved
