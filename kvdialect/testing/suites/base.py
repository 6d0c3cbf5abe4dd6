"""What all suites share: where stores are opened, and what is skipped why."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings

from kvdialect.storage import ColumnFamilyOptions, StorageBackend, WriteBatch, open_backend

FAMILIES = ("a", "b", "c")
"""The families of a store whose test does not name its own."""

Families = Mapping[str, ColumnFamilyOptions] | Iterable[str]
Contents = dict[str, list[tuple[bytes, bytes]]]


class OpenStore:
    """Opens the stores of one test, and reopens them: the same ``name`` is the same store.

    What the test leaves open is closed after it.
    """

    def __init__(self, opener: Callable[..., StorageBackend], directory: Path) -> None:
        self._opener = opener
        self._directory = directory
        self._opened: list[StorageBackend] = []

    def __call__(self, column_families: Families = FAMILIES, *, name: str = "store", **options: Any) -> StorageBackend:
        families = (
            column_families
            if isinstance(column_families, Mapping)
            else {family: ColumnFamilyOptions() for family in column_families}
        )
        backend = self._opener(self._directory / name, families, **options)
        self._opened.append(backend)
        return backend

    def close(self) -> None:
        """Close every store that was opened."""
        while self._opened:
            self._opened.pop().close()


class Suite:
    """Base of the suites: an author defines :meth:`url` or overrides :meth:`open_backend`."""

    options: ClassVar[Mapping[str, Any]] = {}
    """Options that every store is opened with."""

    def url(self, path: Path) -> str:
        """The URL of the store at ``path``, which does not exist before the store is first opened."""
        raise NotImplementedError(f"{type(self).__name__} must define url(path) or override open_backend")

    def open_backend(
        self, path: Path, column_families: Mapping[str, ColumnFamilyOptions], **options: Any
    ) -> StorageBackend:
        """Open the store at ``path``, creating it if need be."""
        return open_backend(self.url(path), column_families=column_families, **options)

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Generator[OpenStore]:
        """Opens and reopens stores below the test's own directory."""

        def opener(path: Path, families: Mapping[str, ColumnFamilyOptions], **options: Any) -> StorageBackend:
            return self.open_backend(path, families, **{**self.options, **options})

        store = OpenStore(opener, tmp_path)
        yield store
        store.close()
        # What an engine left in reference cycles goes now, and not in the middle of another test.
        gc.collect()

    @pytest.fixture
    def backend(self, open_store: OpenStore) -> StorageBackend:
        """An empty store with families a, b and c."""
        return open_store()


def needs(backend: StorageBackend, capability: str) -> None:
    """Skip the test unless the backend has the capability."""
    value = getattr(backend.capabilities, capability)
    if not value:
        pytest.skip(f"{backend.name}: capabilities.{capability} is {value!r}")


def contents(backend: StorageBackend) -> Contents:
    """All pairs of all families."""
    return {cf: list(backend.scan(cf)) for cf in backend.column_families()}


def fill(backend: StorageBackend, cf: str, pairs: Mapping[bytes, bytes] | Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """Put pairs (or keys, each with itself reversed as value) in one batch and return them sorted."""
    items = pairs if isinstance(pairs, Mapping) else {key: key[::-1] for key in pairs}
    batch = WriteBatch()
    for key, value in items.items():
        batch.put(cf, key, value)
    backend.batch_write(batch)
    return sorted(items.items())


def examples(count: int) -> settings:
    """Hypothesis's settings for a property that all examples check on one store."""
    return settings(
        max_examples=count,
        deadline=None,
        # The store is one for all examples on purpose, and the suite runs from several classes.
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
            HealthCheck.too_slow,
        ],
    )
