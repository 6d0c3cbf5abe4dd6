"""Stores as a command line names them, opened for what a command does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy import URL

from kvdialect import exc
from kvdialect.storage.filelock import FileLock
from kvdialect.storage.registry import parse_url
from kvdialect.storage.storedir import LOCK_FILE, read_marker
from kvdialect.store.engine import Engine, open_engine


def url_of(store: str) -> URL:
    """The URL of a store: given as one, or as the path of a store that is there, whose marker says its engine.

    Raises:
        NotAStore: if there is no store at the path.
    """
    if "://" in store:
        return parse_url(store)
    path = os.path.abspath(store)
    marker = read_marker(path)
    if marker is None:
        raise exc.NotAStore(f"there is no store at {path}; give its URL or its path", path=path)
    return URL.create(marker.engine, database=path)


@contextmanager
def reading(store: str) -> Iterator[Engine]:
    """A store open for reading; that another process has it open for writing is said on standard error."""
    url = url_of(store)
    if url.get_backend_name() == "memory":
        raise exc.ArgumentError("a memory store ends with its process; name one on disk")
    holder = _holder(url) if url.get_backend_name() == "rocksdb" else None
    if holder is not None:
        click.echo(
            f"{url.database} is open in pid {holder}: read as it is on disk now, without later commits", err=True
        )
    engine: Engine = open_engine(url.update_query_dict({"mode": "ro"}))
    with engine:
        yield engine


@contextmanager
def writing(store: str) -> Iterator[Engine]:
    """A store that is there, open for writing.

    Raises:
        NotAStore: if it is not: a command does not make one by mistake.
    """
    url = url_of(store)
    if not url.database or read_marker(os.path.abspath(url.database)) is None:
        raise exc.NotAStore(f"there is no store at {url.database}", path=url.database)
    engine: Engine = open_engine(url)
    with engine:
        yield engine


@contextmanager
def making(store: str) -> Iterator[Engine]:
    """A store open for writing, made if a URL names none that is there."""
    if "://" not in store:
        with writing(store) as there:
            yield there
        return
    url = url_of(store)
    if url.get_backend_name() == "memory":
        raise exc.ArgumentError("a memory store ends with its process; name one on disk")
    engine: Engine = open_engine(url)
    with engine:
        yield engine


def _holder(url: URL) -> int | None:
    """The process that has a RocksDB store open for writing, or None."""
    path = os.path.join(os.path.abspath(url.database or ""), LOCK_FILE)
    if not os.path.exists(path):
        return None
    try:
        lock = FileLock(path)
    except OSError:
        return None  # no right to write there: nobody can say
    try:
        if lock.acquire(0.0):
            lock.release()
            return None
        return lock.holder()
    finally:
        lock.close()


def disk(path: str) -> int:
    """Bytes that a store takes on the disk."""
    total = 0
    for folder, _, files in os.walk(path):
        for file in files:
            total += os.stat(os.path.join(folder, file)).st_blocks * 512
    return total
