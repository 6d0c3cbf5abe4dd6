"""Commands that keep a store in order, and copies of it."""

from __future__ import annotations

import os
from typing import Any

import click

from kvdialect import exc
from kvdialect.cli import output
from kvdialect.cli.group import Interrupted, group, json_option, store_argument
from kvdialect.cli.stores import disk, reading, url_of, writing
from kvdialect.storage.storedir import restore as restore_store
from kvdialect.store.engine import Engine
from kvdialect.store.table import StoredTable
from kvdialect.store.verification import Verification


@group.command()
@store_argument
@click.argument("table", nargs=-1)
@click.option("--most", type=click.IntRange(1), default=1000, show_default=True, help="Findings after which it ends.")
@json_option
@click.pass_context
def verify(context: click.Context, store: str, table: tuple[str, ...], most: int, as_json: bool) -> None:
    """Read a store, or some of its tables, and say what is wrong. The exit code is 1 if anything is."""
    with reading(store) as engine, output.progress("verify") as told:
        found = engine.verify(table or None, most=most, progress=told)
    _told(context, found, as_json=as_json)


@group.command("repair-indexes")
@store_argument
@click.argument("table", nargs=-1)
@json_option
@click.pass_context
def repair_indexes(context: click.Context, store: str, table: tuple[str, ...], as_json: bool) -> None:
    """Make indexes and row counts what the records say. The exit code is 1 if something else is wrong."""
    with writing(store) as engine, output.progress("repair-indexes") as told:
        found = engine.repair_indexes(table or None, progress=told)
    _told(context, found, as_json=as_json)


def _told(context: click.Context, found: Verification, *, as_json: bool) -> None:
    if as_json:
        output.facts(_facts(found), as_json=True)
    else:
        click.echo(str(found))
    if not found.ok:
        context.exit(1)


def _facts(found: Verification) -> dict[str, Any]:
    listed = [
        {"kind": f.kind, "message": f.message, "cf": f.cf, "key": f.key, "table": f.table, "index": f.index,
         "repaired": f.repaired}
        for f in found.findings
    ]  # fmt: skip
    return {"ok": found.ok, "rows": found.rows, "entries": found.entries, "more": found.more, "findings": listed}


@group.command()
@store_argument
@click.argument("path")
@click.option("--no-verify", is_flag=True, help="Do not read the copy.")
@json_option
def backup(store: str, path: str, no_verify: bool, as_json: bool) -> None:
    """Copy a store, all of one moment, to PATH, where nothing is."""
    # LMDB is copied beside its writers; RocksDB makes checkpoints only where it is open for writing.
    _check_path(path)
    opened = reading if url_of(store).get_backend_name() == "lmdb" else writing
    with opened(store) as engine, output.progress("copy and verify"):
        try:
            found = engine.backup(path, verified=not no_verify)
        except KeyboardInterrupt:
            if os.path.isdir(path):  # where it comes whole, or not at all
                raise Interrupted(f"the backup at {path} is made, and was not read again") from None
            raise
    if as_json:
        verified = None if found is None else _facts(found)
        output.facts({"path": os.path.abspath(path), "bytes on disk": disk(path), "verified": verified}, as_json=True)
    else:
        click.echo(f"{path}: {'not read again' if found is None else found}")


def _check_path(path: str) -> None:
    if ":///" in path:
        raise exc.ArgumentError(f"{path!r} is a URL; give the path of a directory that is not there yet")


@group.command()
@click.argument("source")
@click.argument("path")
@json_option
def restore(source: str, path: str, as_json: bool) -> None:
    """Copy the backup at SOURCE to PATH, where nothing is."""
    _check_path(path)
    with output.progress("copy"):
        restore_store(url_of(source).database or source, path)
    if as_json:
        output.facts({"path": os.path.abspath(path), "bytes on disk": disk(path)}, as_json=True)
    else:
        click.echo(f"{path}: {disk(path):,} bytes")


@group.command()
@store_argument
@click.argument("table", nargs=-1)
@json_option
def compact(store: str, table: tuple[str, ...], as_json: bool) -> None:
    """Rewrite tables and their indexes compactly, where the engine does such a thing."""
    with writing(store) as engine:
        chosen = [engine.table(name) for name in table] if table else list(engine.catalog.tables.values())
        before = disk(engine.backend.path or "")
        families = list(dict.fromkeys(family for each in chosen for family in _families(engine, each)))
        with output.progress("compact") as told:
            for number, family in enumerate(families):
                if told is not None:
                    told(f"compact {family}", number, len(families))
                engine.backend.compact(family)
        now = disk(engine.backend.path or "")
    if as_json:
        output.facts({"families": families, "bytes before": before, "bytes on disk": now}, as_json=True)
    else:
        click.echo(f"{before:,} bytes before, {now:,} now")


def _families(engine: Engine, table: StoredTable) -> list[str]:
    known = set(engine.backend.column_families())
    return [name for name in (table.family, *(index.family for index in table.codec.indexes)) if name in known]
