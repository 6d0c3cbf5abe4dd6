"""Faults on purpose: a wrapper around any backend that fails, delays or corrupts where a plan says so.

For tests of programs: does the retry loop retry what may be retried, and look up a commit whose outcome is unknown?

    plan = FaultPlan(Fault("write", at=3, outcome="unknown", applied=True))
    backend = FaultyBackend(open_backend("memory://", column_families=["a"]), plan)

Here the third write is applied, and raises :class:`~kvdialect.exc.CommitOutcomeUnknown` all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Final, Literal, TypeVar

import attrs

from kvdialect import exc
from kvdialect.storage import ColumnFamilyOptions, Pair, Snapshot, StorageBackend, WriteBatch

OPERATIONS: Final[Mapping[str, str]] = {
    "get": "read",
    "multi_get": "read",
    "scan": "read",
    "prefix_scan": "read",
    "next": "read",
    "put": "write",
    "delete": "write",
    "batch_write": "write",
    "create_column_family": "write",
    "drop_column_family": "write",
    "snapshot": "other",
    "column_families": "other",
    "flush": "other",
    "compact": "other",
    "catch_up": "other",
    "close": "other",
}
"""The operations that a plan can name, each with its kind; ``next`` is one pair of a scan."""

_KINDS: Final = ("any", "read", "write")
_tokens = count(1)
Result = TypeVar("Result")
ErrorSource = BaseException | type[BaseException] | Callable[[], BaseException]


def flip_bit(value: bytes) -> bytes:
    """The value with the lowest bit of its first byte flipped; an empty value becomes one byte."""
    return bytes((value[0] ^ 1,)) + value[1:] if value else b"\x01"


def _operation(_instance: object, _attribute: attrs.Attribute[str], value: str) -> None:
    if value not in OPERATIONS and value not in _KINDS:
        allowed = ", ".join((*OPERATIONS, *_KINDS))
        raise exc.ArgumentError(f"no operation is called {value!r}; allowed: {allowed}")


def _positive(_instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise exc.ArgumentError(f"{attribute.name}={value!r}; calls are counted from 1")


@attrs.frozen
class Fault:
    """One thing that goes wrong.

    Attributes:
        operation: name of a method (see :data:`OPERATIONS`), ``"next"`` for each pair that a scan yields, or a kind:
            ``"read"``, ``"write"`` or ``"any"``. Reads of snapshots count with those of the backend.
        at: at which call of this operation it happens, counted from 1 since the plan was made.
        times: at how many calls in a row.
        error: what is raised: an exception, its class, or a function that makes one. By default a retryable
            BackendError, or CommitOutcomeUnknown if ``outcome`` is ``"unknown"``. None with a delay or corruption.
        outcome: what the error says of a write, in its attribute of this name.
        applied: whether the call is really carried out before the error is raised; by default as ``outcome`` says,
            and not if that is ``"unknown"``.
        delay: seconds to wait before the call.
        corrupt: changes each value read, such as :func:`flip_bit`; absence stays absence.
    """

    operation: str = attrs.field(validator=_operation)
    at: int = attrs.field(default=1, validator=_positive)
    times: int = attrs.field(default=1, validator=_positive, kw_only=True)
    error: ErrorSource | None = attrs.field(default=None, kw_only=True)
    outcome: Literal["not_applied", "applied", "unknown"] = attrs.field(default="not_applied", kw_only=True)
    applied: bool | None = attrs.field(default=None, kw_only=True)
    delay: float = attrs.field(default=0.0, kw_only=True)
    corrupt: Callable[[bytes], bytes] | None = attrs.field(default=None, kw_only=True)

    @property
    def raises(self) -> bool:
        """False if it only delays or corrupts."""
        return self.error is not None or (not self.delay and self.corrupt is None)

    @property
    def applies(self) -> bool:
        """True if the call is carried out although an error is raised."""
        return self.outcome == "applied" if self.applied is None else self.applied

    def matches(self, operation: str) -> bool:
        """True if calls of ``operation`` count for this fault."""
        return self.operation in (operation, OPERATIONS[operation], "any")


class FaultPlan:
    """Which faults happen when: deterministic, counted per fault, usable from several threads.

    Args:
        faults: the faults; where several meet at one call, their delays add up and the first error is raised.
        sleep: waits for a delay, so that a test can count instead of waiting.

    Attributes:
        calls: number of calls of each operation so far.
        happened: what went wrong so far: ``(operation, fault)``, in order.
    """

    def __init__(self, *faults: Fault, sleep: Callable[[float], object] = time.sleep) -> None:
        self.faults = faults
        self.calls: dict[str, int] = {}
        self.happened: list[tuple[str, Fault]] = []
        self._sleep = sleep
        self._seen = [0] * len(faults)
        self._lock = threading.Lock()

    def begin(self, operation: str) -> list[Fault]:
        """Count a call and return the faults that it meets, after their delays."""
        with self._lock:
            self.calls[operation] = self.calls.get(operation, 0) + 1
            met = []
            for number, fault in enumerate(self.faults):
                if fault.matches(operation):
                    self._seen[number] += 1
                    if fault.at <= self._seen[number] < fault.at + fault.times:
                        met.append(fault)
            self.happened.extend((operation, fault) for fault in met)
        for fault in met:
            if fault.delay:
                self._sleep(fault.delay)
        return met


class _Injector:
    """Carries out calls under a plan; what backend and snapshots share."""

    def __init__(self, plan: FaultPlan, name: str, path: str | None) -> None:
        self.plan = plan
        self.outcomes: dict[bytes, exc.Outcome] = {}
        self._facts = {"engine": name, "path": path}

    def call(self, operation: str, carry_out: Callable[[], Result]) -> tuple[Result, list[Fault]]:
        faults = self.plan.begin(operation)
        failing = next((fault for fault in faults if fault.raises), None)
        if failing is not None:
            if failing.applies:
                carry_out()
            raise self._error(failing, operation)
        return carry_out(), faults

    def read(self, operation: str, carry_out: Callable[[], bytes | None]) -> bytes | None:
        value, faults = self.call(operation, carry_out)
        return None if value is None else _corrupted(value, faults)

    def read_all(self, operation: str, carry_out: Callable[[], list[bytes | None]]) -> list[bytes | None]:
        values, faults = self.call(operation, carry_out)
        return [None if value is None else _corrupted(value, faults) for value in values]

    def iterate(self, operation: str, carry_out: Callable[[], Iterator[Pair]]) -> Iterator[Pair]:
        pairs, faults = self.call(operation, carry_out)
        return self._pairs(pairs, faults)

    def _pairs(self, pairs: Iterator[Pair], of_scan: list[Fault]) -> Iterator[Pair]:
        for key, value in pairs:
            (_, faults) = self.call("next", lambda: None)
            yield key, _corrupted(value, [*of_scan, *faults])

    def _error(self, fault: Fault, operation: str) -> BaseException:
        source = fault.error
        if isinstance(source, BaseException):
            return source
        if source is not None:
            return source()
        facts = {**self._facts, "operation": operation, "outcome": fault.outcome}
        message = f"injected fault: {operation} failed, outcome {fault.outcome}"
        if fault.outcome == "unknown":
            token = b"injected-%d" % next(_tokens)
            self.outcomes[token] = "applied" if fault.applies else "not_applied"
            return exc.CommitOutcomeUnknown(message, **facts, token=token)
        return exc.BackendError(message, **facts, retryable=fault.outcome == "not_applied")


def _corrupted(value: bytes, faults: Iterable[Fault]) -> bytes:
    for fault in faults:
        if fault.corrupt is not None:
            value = fault.corrupt(value)
    return value


class FaultyBackend(StorageBackend):
    """A backend that does what the one inside does, except where the plan has a fault.

    Args:
        inner: an open backend; closing the wrapper closes it.
        plan: what goes wrong when.
    """

    def __init__(self, inner: StorageBackend, plan: FaultPlan) -> None:
        self.inner = inner
        self.plan = plan
        self.name = inner.name
        self.path = inner.path
        self.capabilities = inner.capabilities
        self._injector = _Injector(plan, inner.name, inner.path)

    @classmethod
    def open(
        cls,
        path: str | None,  # noqa: ARG003
        options: Mapping[str, Any],  # noqa: ARG003
        column_families: Mapping[str, ColumnFamilyOptions],  # noqa: ARG003
    ) -> StorageBackend:
        """Refuse: there is no URL for it."""
        raise exc.NotSupportedError(f"{cls.__name__} wraps an open backend: {cls.__name__}(open_backend(url), plan)")

    def get(self, cf: str, key: bytes) -> bytes | None:
        return self._injector.read("get", lambda: self.inner.get(cf, key))

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        return self._injector.read_all("multi_get", lambda: self.inner.multi_get(cf, keys))

    def scan(self, cf: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]:
        return self._injector.iterate("scan", lambda: self.inner.scan(cf, start, stop, reverse=reverse))

    def prefix_scan(self, cf: str, prefix: bytes) -> Iterator[Pair]:
        return self._injector.iterate("prefix_scan", lambda: self.inner.prefix_scan(cf, prefix))

    def put(self, cf: str, key: bytes, value: bytes) -> None:
        self._injector.call("put", lambda: self.inner.put(cf, key, value))

    def delete(self, cf: str, key: bytes) -> None:
        self._injector.call("delete", lambda: self.inner.delete(cf, key))

    def batch_write(self, batch: WriteBatch) -> None:
        self._injector.call("batch_write", lambda: self.inner.batch_write(batch))

    def snapshot(self) -> Snapshot:
        inner, _ = self._injector.call("snapshot", self.inner.snapshot)
        return _FaultySnapshot(inner, self._injector)

    def column_families(self) -> list[str]:
        return self._injector.call("column_families", self.inner.column_families)[0]

    def column_family_options(self, name: str) -> ColumnFamilyOptions:
        return self.inner.column_family_options(name)

    def create_column_family(self, name: str, options: ColumnFamilyOptions | None = None) -> None:
        self._injector.call("create_column_family", lambda: self.inner.create_column_family(name, options))

    def drop_column_family(self, name: str) -> None:
        self._injector.call("drop_column_family", lambda: self.inner.drop_column_family(name))

    def flush(self) -> None:
        self._injector.call("flush", self.inner.flush)

    def compact(self, cf: str) -> None:
        self._injector.call("compact", lambda: self.inner.compact(cf))

    def catch_up(self) -> None:
        self._injector.call("catch_up", self.inner.catch_up)

    def close(self) -> None:
        self._injector.call("close", self.inner.close)

    def commit_outcome(self, token: bytes) -> exc.Outcome:
        """What became of the commit: known for injected faults, else asked of the backend inside."""
        outcome = self._injector.outcomes.get(token)
        return self.inner.commit_outcome(token) if outcome is None else outcome

    def stats(self) -> dict[str, Any]:
        return self.inner.stats()


class _FaultySnapshot(Snapshot):
    def __init__(self, inner: Snapshot, injector: _Injector) -> None:
        self._inner = inner
        self._injector = injector

    def get(self, cf: str, key: bytes) -> bytes | None:
        return self._injector.read("get", lambda: self._inner.get(cf, key))

    def multi_get(self, cf: str, keys: Iterable[bytes]) -> list[bytes | None]:
        return self._injector.read_all("multi_get", lambda: self._inner.multi_get(cf, keys))

    def scan(self, cf: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]:
        return self._injector.iterate("scan", lambda: self._inner.scan(cf, start, stop, reverse=reverse))

    def prefix_scan(self, cf: str, prefix: bytes) -> Iterator[Pair]:
        return self._injector.iterate("prefix_scan", lambda: self._inner.prefix_scan(cf, prefix))

    def close(self) -> None:
        self._inner.close()
