"""The model that backends are compared with: dictionaries, and nothing clever."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kvdialect import exc
from kvdialect.storage import range_digest
from kvdialect.testing.strategies import KEY_LIMIT, Operation

Pairs = list[tuple[bytes, bytes]]
_Relative = tuple[str, int]
_COUNTERS = range(-(2**63), 2**63)


class StoreModel:
    """What a store holds, as a dictionary of dictionaries.

    It knows nothing of WriteBatch: a batch is a list of operations, applied one after the other.
    """

    def __init__(self, families: Iterable[str] = ()) -> None:
        self.families: dict[str, dict[bytes, bytes]] = {name: {} for name in families}

    def copy(self) -> StoreModel:
        """The same state, unmoved by later writes."""
        copy = StoreModel()
        copy.families = {name: dict(pairs) for name, pairs in self.families.items()}
        return copy

    def scan(self, cf: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Pairs:
        """The pairs of a range, sorted."""
        pairs = self.families[cf].items()
        return sorted(
            (pair for pair in pairs if pair[0] >= start and (stop is None or pair[0] < stop)), reverse=reverse
        )

    def contents(self) -> dict[str, Pairs]:
        """All pairs of all families."""
        return {cf: self.scan(cf) for cf in sorted(self.families)}

    def apply(self, operations: Iterable[Operation]) -> frozenset[type[Exception]]:
        """Apply a batch, or return the errors of which a backend must raise one, and change nothing."""
        operations = list(operations)
        errors = {error for operation in operations for error in self._unconditional_errors(operation)}
        if not errors:
            errors |= self._expectation_errors(operations)
        outcome = self._resolve(operations, errors)
        if not errors:
            for (cf, key), value in outcome.items():
                if value is None:
                    self.families[cf].pop(key, None)
                else:
                    self.families[cf][key] = value
        return frozenset(errors)

    def _unconditional_errors(self, operation: Operation) -> Iterable[type[Exception]]:
        name, cf, key, *_ = operation
        if cf not in self.families:
            yield exc.UnknownColumnFamily
        if name != "expect_range" and not 1 <= len(key) <= KEY_LIMIT:
            yield exc.KeyTooLong

    def _expectation_errors(self, operations: Iterable[Operation]) -> set[type[Exception]]:
        for name, cf, *arguments in operations:
            if name == "expect":
                key, value = arguments
                if self.families[cf].get(key) != value:
                    return {exc.ConflictError}
            elif name == "expect_range":
                start, stop, digest = arguments
                if range_digest(self.scan(cf, start, stop)) != digest:
                    return {exc.ConflictError}
        return set()

    def _resolve(
        self, operations: Iterable[Operation], errors: set[type[Exception]]
    ) -> Mapping[tuple[str, bytes], bytes | None]:
        """The value that each key has in the end; additions that cannot be are added to ``errors``."""
        results: dict[tuple[str, bytes], bytes | _Relative | None] = {}
        expected: dict[tuple[str, bytes], bytes | None] = {}
        for name, cf, key, *arguments in operations:
            if name == "put":
                results[cf, key] = arguments[0]
            elif name == "delete":
                results[cf, key] = None
            elif name == "add":
                before = results.get((cf, key), ("add", 0))
                if isinstance(before, tuple):
                    results[cf, key] = ("add", before[1] + arguments[0])
                    if before[1] + arguments[0] not in _COUNTERS:
                        errors.add(exc.CounterError)
                else:
                    results[cf, key] = _sum(before, arguments[0], errors)
            elif name == "expect" and expected.setdefault((cf, key), arguments[0]) != arguments[0]:
                errors.add(exc.ConflictError)
        return {
            (cf, key): _sum(self.families.get(cf, {}).get(key), result[1], errors)
            if isinstance(result, tuple)
            else result
            for (cf, key), result in results.items()
        }


def _sum(value: bytes | None, delta: int, errors: set[type[Exception]]) -> bytes:
    if value is not None and len(value) != 8:
        errors.add(exc.CounterError)
        return value
    total = int.from_bytes(value or b"", "big", signed=True) + delta
    if total not in _COUNTERS:
        errors.add(exc.CounterError)
        return b""
    return total.to_bytes(8, "big", signed=True)
