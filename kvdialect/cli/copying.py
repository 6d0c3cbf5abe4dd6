"""The command that copies a store to one of another engine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy import URL

from kvdialect import exc
from kvdialect.cli import output
from kvdialect.cli.group import Interrupted, group, json_option
from kvdialect.cli.stores import disk, reading
from kvdialect.storage.contract import Snapshot
from kvdialect.storage.registry import parse_url
from kvdialect.storage.storedir import read_marker, settle
from kvdialect.store.copying import Copied, StoreCopy, forget
from kvdialect.store.engine import Engine, open_engine


@group.command()
@click.argument("source")
@click.argument("target")
@json_option
def copy(source: str, target: str, as_json: bool) -> None:
    """Copy the store SOURCE to TARGET, the URL of a store of any engine that is not there yet, while SOURCE is in use.

    All of it is of one moment. TARGET is there when all rows were compared by number and checksum. Until then the copy
    is beside it, with ".copying" behind its name; a copy that was cut off goes on when the same command is given again.
    """
    url = _new(target)
    path = os.path.abspath(url.database or "")
    aside = f"{path}.copying"
    try:
        with reading(source) as engine, engine.backend.snapshot() as snapshot, output.progress("copy") as told:
            done = _copied(engine, snapshot, url.set(database=aside), told)
    except KeyboardInterrupt as error:
        raise Interrupted(f"what was copied is in {aside}; the same command goes on from there") from error
    settle(aside, path)
    placed: Engine = open_engine(url)
    with placed as made:
        forget(made.backend)
    found = {
        "path": path,
        "bytes on disk": disk(path),
        "tables": done.rows,
        "other families": done.families,
        "indexes": done.indexes,
        "rows": sum(done.rows.values()),
        "rows of an earlier run": done.already,
    }
    if as_json:
        output.facts(found, as_json=True)
        return
    output.rows(("table", "rows"), [*done.rows.items(), *done.families.items()], "table")
    click.echo(
        f"{path}: {output.counted(sum(done.rows.values()), 'row')} of {output.counted(len(done.rows), 'table')},"
        f" {output.counted(done.indexes, 'index')}, {output.counted(disk(path), 'byte')}; the number and checksum of"
        " all rows are the source's"
    )


def _new(target: str) -> URL:
    """The URL of a store that is not there yet.

    Raises:
        ArgumentError, NotAStore: if it is no URL of a store on the disk, or something is there.
    """
    if "://" not in target:
        raise exc.ArgumentError(f"{target!r} says no engine; give a URL, such as lmdb:///{target}")
    url = parse_url(target)
    if url.get_backend_name() == "memory" or not url.database:
        raise exc.ArgumentError("a copy in memory would end with this process; name a store on disk")
    path = os.path.abspath(url.database)
    if read_marker(path) is not None:
        raise exc.ArgumentError(f"there is a store at {path}; give a path where nothing is", path=path)
    return url


def _copied(source: Engine, snapshot: Snapshot, aside: URL, told: output.Told | None) -> Copied:
    """Copy to where an earlier run may have begun."""
    with _unfinished(aside) as target:
        copy = StoreCopy(source, snapshot, target, told)
        if copy.resumes():
            if copy.already:
                rows = output.counted(copy.already, "row")
                output.say(told, f"{rows} of an earlier run are the source's still; it is gone on with")
            return copy.run()
    output.say(told, "the source is not as it was when an earlier copy began: it is begun afresh")
    shutil.rmtree(aside.database or "")
    with _unfinished(aside) as target:
        copy = StoreCopy(source, snapshot, target, told)
        copy.resumes()
        return copy.run()


@contextmanager
def _unfinished(aside: URL) -> Iterator[Engine]:
    path = aside.database or ""
    marker = read_marker(path)
    if marker is not None and marker.engine != aside.get_backend_name():
        raise exc.ArgumentError(
            f"{path} is an unfinished copy on {marker.engine}; remove it, or go on with a URL of {marker.engine}",
            path=path,
        )
    engine: Engine = open_engine(aside)
    with engine:
        yield engine
