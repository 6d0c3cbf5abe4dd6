"""Stores for the tests of the Session."""

from __future__ import annotations

import pytest
from orm_records import models

from kvdialect import create_engine
from kvdialect.storage import StorageBackend, WriteBatch


@pytest.fixture
def engine(url):
    """An open store with the tables of this module."""
    with create_engine(url) as opened:
        models.create_all(opened)
        yield opened


class Counting:
    """Counts what reaches an engine's backend, by replacing methods of its handle."""

    def __init__(self, backend: StorageBackend) -> None:
        self.batches: list[WriteBatch] = []
        write = backend.batch_write

        def batch_write(batch: WriteBatch) -> None:
            self.batches.append(batch)
            write(batch)

        backend.batch_write = batch_write  # type: ignore[method-assign]


@pytest.fixture
def counting(engine):
    """The batches written since this fixture was set up."""
    return Counting(engine.backend)
