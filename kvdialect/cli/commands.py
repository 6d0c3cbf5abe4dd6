"""The commands."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any

import click
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

import kvdialect
from kvdialect import exc
from kvdialect.cli import output
from kvdialect.cli.stores import reading, url_of, writing
from kvdialect.cli.values import parsed
from kvdialect.storage.batch import decode_counter
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.storage.storedir import restore as restore_store
from kvdialect.store.engine import Engine
from kvdialect.store.table import StoredTable
from kvdialect.store.verification import Verification

store_argument = click.argument("store")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
format_option = click.option(
    "--format", "form", type=click.Choice(output.FORMATS), default="table", help="How to print rows."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kvdialect.__version__)
def group() -> None:
    """Look into stores of kvdialect, verify them, back them up.

    STORE is a URL, such as rocksdb:///coins, or the path of a store. What only reads works beside a program that has
    the store open.
    """


# ------------------------------------------------------------------------------------------------ looking


@group.command()
@store_argument
@json_option
def info(store: str, as_json: bool) -> None:
    """Say what a store is: engine, size, tables, column families."""
    with reading(store) as engine:
        path = engine.backend.path or ""
        catalog = engine.catalog
        found: dict[str, Any] = {
            "engine": engine.name,
            "path": path,
            "bytes on disk": _disk(path),
            "checksums": engine.backend.capabilities.checksums,
            "schema version": catalog.version,
            "tables": len(catalog.entries),
            "column families": len(engine.backend.column_families()),
        }
        output.facts(found, as_json=as_json)


@group.command()
@store_argument
@format_option
def tables(store: str, form: str) -> None:
    """List the tables: rows, primary key, columns, indexes with their states."""
    with reading(store) as engine, engine.backend.snapshot() as snapshot:
        found = []
        for name, table in sorted(engine.catalog.tables.items()):
            key = table.count_key
            count = None if key is None else decode_counter(snapshot.get(RESERVED_FAMILY, key))
            indexes = [f"{i.name} ({', '.join(i.columns)}){_state(i.state)}" for i in table.definition.indexes]
            found.append(
                (name, count, ", ".join(table.definition.primary_key), len(table.codec.names), "; ".join(indexes))
            )
        output.rows(("table", "rows", "primary key", "columns", "indexes"), found, form)


def _state(state: str) -> str:
    return "" if state == "readable" else f" {state}"


@group.command()
@store_argument
@click.argument("table")
@click.argument("key", nargs=-1, required=True)
@json_option
def get(store: str, table: str, key: tuple[str, ...], as_json: bool) -> None:
    """Print the record of TABLE with this primary KEY, a value for each of its columns; bytes in hexadecimal."""
    with reading(store) as engine:
        stored = engine.table(table)
        fields = stored.codec.key_fields
        if len(key) != len(fields):
            raise click.UsageError(f"the primary key of {table} is ({', '.join(f.name for f in fields)})")
        if stored.definition.shared:
            raise exc.NotSupportedError(f"{table} was made by SQL; select from it with: kvdialect sql")
        raw_key = stored.codec.key([parsed(field, text) for field, text in zip(fields, key, strict=True)])
        raw = engine.backend.get(stored.family, raw_key)
        if raw is None:
            raise exc.ProgrammingError(f"{table} has no record with this key", table=table)
        row = stored.codec.decode(raw_key, raw)
        output.facts(dict(zip(stored.codec.names, row, strict=True)), as_json=as_json)


@group.command()
@store_argument
@click.argument("table")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="The most records; 0: all.")
@click.option("--reverse", is_flag=True, help="From the last key to the first.")
@click.option("--raw", is_flag=True, help="Keys and values as they are stored, in hexadecimal.")
@format_option
def scan(store: str, table: str, limit: int, reverse: bool, raw: bool, form: str) -> None:
    """Print records of TABLE in the order of their keys."""
    with reading(store) as engine, engine.backend.snapshot() as snapshot:
        stored = engine.table(table)
        pairs = snapshot.scan(stored.family, stored.prefix, stored.stop, reverse=reverse)
        taken = itertools.islice(pairs, limit or None)
        names: Sequence[str] = ("key", "value") if raw else stored.codec.names
        found: Iterable[Sequence[Any]] = taken if raw else itertools.starmap(stored.codec.decode, taken)
        output.rows(names, found, form)


@group.command()
@store_argument
@click.argument("statement")
@click.option("--write", is_flag=True, help="Open the store for writing, and commit.")
@format_option
def sql(store: str, statement: str, write: bool, form: str) -> None:
    """Execute a STATEMENT of SQL."""
    with (writing if write else reading)(store) as engine:
        door = engine.sqlalchemy()
        try:
            with door.begin() as connection:
                result = connection.execute(sa.text(statement))
                if result.returns_rows:
                    output.rows(list(result.keys()), result, form)
                else:
                    click.echo(f"{result.rowcount} rows", err=True)
        except sa_exc.DBAPIError as error:
            raise (error.orig if isinstance(error.orig, exc.Error) else error) from error
        finally:
            door.dispose()


@group.command()
@store_argument
@json_option
def stats(store: str, as_json: bool) -> None:
    """Print the figures of a store: those of its engine, and rows by table."""
    with reading(store) as engine:
        found = engine.stats()
        if not as_json:
            found["tables"] = {name: each["rows"] for name, each in found["tables"].items()}
        output.facts(found, as_json=as_json)


# ------------------------------------------------------------------------------------------------ keeping


@group.command()
@store_argument
@click.argument("table", nargs=-1)
@click.option("--most", type=click.IntRange(1), default=1000, show_default=True, help="Findings after which it ends.")
@json_option
@click.pass_context
def verify(context: click.Context, store: str, table: tuple[str, ...], most: int, as_json: bool) -> None:
    """Read a store, or some of its tables, and say what is wrong. The exit code is 1 if anything is."""
    with reading(store) as engine, output.progress() as told:
        found = engine.verify(table or None, most=most, progress=told)
    _told(context, found, as_json=as_json)


@group.command("repair-indexes")
@store_argument
@click.argument("table", nargs=-1)
@json_option
@click.pass_context
def repair_indexes(context: click.Context, store: str, table: tuple[str, ...], as_json: bool) -> None:
    """Make indexes and row counts what the records say. The exit code is 1 if something else is wrong."""
    with writing(store) as engine, output.progress() as told:
        found = engine.repair_indexes(table or None, progress=told)
    _told(context, found, as_json=as_json)


def _told(context: click.Context, found: Verification, *, as_json: bool) -> None:
    if as_json:
        listed = [
            {"kind": f.kind, "message": f.message, "cf": f.cf, "key": f.key, "table": f.table, "index": f.index,
             "repaired": f.repaired}
            for f in found.findings
        ]  # fmt: skip
        whole = {"ok": found.ok, "rows": found.rows, "entries": found.entries, "more": found.more, "findings": listed}
        output.facts(whole, as_json=True)
    else:
        click.echo(str(found))
    if not found.ok:
        context.exit(1)


@group.command()
@store_argument
@click.argument("path")
@click.option("--no-verify", is_flag=True, help="Do not read the copy.")
def backup(store: str, path: str, no_verify: bool) -> None:
    """Copy a store, all of one moment, to PATH, where nothing is."""
    # LMDB is copied beside its writers; RocksDB makes checkpoints only where it is open for writing.
    with (reading if url_of(store).get_backend_name() == "lmdb" else writing)(store) as engine:
        found = engine.backup(path, verified=not no_verify)
    click.echo(f"{path}: {'not read again' if found is None else found}")


@group.command()
@click.argument("source")
@click.argument("path")
def restore(source: str, path: str) -> None:
    """Copy the backup at SOURCE to PATH, where nothing is."""
    restore_store(url_of(source).database or source, path)
    click.echo(f"{path}: {_disk(path):,} bytes")


@group.command()
@store_argument
@click.argument("table", nargs=-1)
def compact(store: str, table: tuple[str, ...]) -> None:
    """Rewrite tables and their indexes compactly, where the engine does such a thing."""
    with writing(store) as engine:
        chosen = [engine.table(name) for name in table] if table else list(engine.catalog.tables.values())
        before = _disk(engine.backend.path or "")
        for family in dict.fromkeys(family for each in chosen for family in _families(engine, each)):
            engine.backend.compact(family)
        click.echo(f"{before:,} bytes before, {_disk(engine.backend.path or ''):,} now")


def _families(engine: Engine, table: StoredTable) -> list[str]:
    known = set(engine.backend.column_families())
    return [name for name in (table.family, *(index.family for index in table.codec.indexes)) if name in known]


def _disk(path: str) -> int:
    """Bytes that a store takes on the disk."""
    total = 0
    for folder, _, files in os.walk(path):
        for file in files:
            total += os.stat(os.path.join(folder, file)).st_blocks * 512
    return total
