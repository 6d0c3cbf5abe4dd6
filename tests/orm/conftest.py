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


@pytest.fixture
def open_store(url, engine_name):
    """Opens the store with the tables of these tests; without syncs, which are not what is tested here."""
    opened = []

    def open_store(**options):
        if engine_name != "memory":
            options.setdefault("durability", "none")
        engine = create_engine(url, **options)
        models.create_all(engine)
        opened.append(engine)
        return engine

    yield open_store
    for engine in opened:
        engine.close()


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
