"""Commands that look into a store."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import attrs
import click

from kvdialect import exc
from kvdialect.cli import output
from kvdialect.cli.forms import Form, form_of, parsed
from kvdialect.cli.group import ANY, format_option, group, json_option, store_argument
from kvdialect.cli.selecting import WRITTEN, Selection, columns_of, conditions, plan, selected
from kvdialect.cli.stores import disk, reading
from kvdialect.schema.definition import FieldDefinition, IndexDefinition
from kvdialect.schema.evolution import described_index
from kvdialect.schema.rows import Row
from kvdialect.storage.batch import decode_counter
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.storage.storedir import FORMAT as STORAGE_FORMAT
from kvdialect.storage.storedir import read_marker
from kvdialect.store.catalog import FORMAT as CATALOG_FORMAT
from kvdialect.store.copying import unfinished
from kvdialect.store.engine import Engine

columns_option = click.option("--columns", help="Names of the columns to show, with commas between; all by default.")
where_option = click.option(
    "--where", multiple=True, metavar="CONDITION", help=f"Only rows for which this holds: {WRITTEN}. All, if several."
)


@group.command()
@store_argument
@json_option
def info(store: str, as_json: bool) -> None:
    """Say what a store is: engine, size, formats, tables, indexes and their states, column families, readers."""
    with reading(store) as engine:
        found = _facts(engine)
        if as_json:
            output.facts(found, as_json=True)
            return
        families, readers, indexes = found.pop("families"), found.pop("readers"), found.pop("indexes")
        output.facts(found, as_json=False)
        for title, listed in (("column family", families), ("index", indexes), ("reader", readers)):
            if listed:
                click.echo()
                names = [title, *list(listed[0])[1:]]
                output.rows(names, [tuple(each.values()) for each in listed], "table")


def _facts(engine: Engine) -> dict[str, Any]:
    backend, catalog = engine.backend, engine.catalog
    path = backend.path or ""
    marker = read_marker(path)
    owners = {family: entry.definition.name for family, entry in catalog.families()}
    found: dict[str, Any] = {
        "engine": engine.name,
        "path": path,
        "bytes on disk": disk(path),
        "storage format": STORAGE_FORMAT if marker is None else marker.format,
        "catalog format": CATALOG_FORMAT,
        "checksums": backend.capabilities.checksums,
        "schema version": catalog.version,
        "tables": len(catalog.entries),
        "views": len(catalog.views),
        "column families": len(backend.column_families()),
    }
    if (copied := unfinished(backend)) is not None:
        found["unfinished"] = f"a copy of {copied}; go on with: kvdialect copy"
    found["families"] = [
        {"name": name, "table": owners.get(name, ""), **attrs.asdict(figures)}
        for name, figures in backend.family_stats().items()
    ]
    found["indexes"] = [
        {"name": index.name, "table": name, "columns": _columns(index), "state": index.state}
        for name, entry in sorted(catalog.entries.items())
        for index in entry.definition.indexes
    ]
    found["readers"] = [attrs.asdict(reader) for reader in backend.readers()]
    return found


def _columns(index: IndexDefinition) -> str:
    """What an index is over; that of a table made by SQL as SQL says it, whose columns may be expressions."""
    if index.statement is None:
        return described_index(index)
    unique = "unique " if index.unique else ""
    return f"{unique}({index.statement.partition('(')[2]}"


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
            definition = table.definition
            indexes = [f"{i.name} {_short(i)}{_state(i.state)}" for i in definition.indexes]
            visible = [field.name for field in definition.visible]
            primary = ", ".join(name if name in visible else "rowid" for name in definition.primary_key)
            found.append((".".join(_named(name)), count, primary, len(visible), "; ".join(indexes)))
        output.rows(("table", "rows", "primary key", "columns", "indexes"), found, form)


def _named(name: str) -> Sequence[str]:
    return name.split("\0")


def _short(index: IndexDefinition) -> str:
    return f"({', '.join(index.columns)})" if index.statement is None else _columns(index)


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
        hidden = [field for field in fields if field.hidden]
        if len(key) != len(fields):
            names = ", ".join("rowid" if field.hidden else field.name for field in fields)
            raise click.UsageError(f"the primary key of {table} is ({names})")
        values = [
            _rowid(text) if field in hidden else parsed(field, text) for field, text in zip(fields, key, strict=True)
        ]
        raw_key = stored.codec.key(values)
        raw = engine.backend.get(stored.family, raw_key)
        if raw is None:
            raise exc.ProgrammingError(f"{table} has no record with this key", table=table)
        row = dict(zip(stored.codec.names, stored.codec.decode(raw_key, raw), strict=True))
        visible = stored.definition.visible
        shown = written([form_of(field) for field in visible], tuple(row[field.name] for field in visible))
        output.facts({field.name: value for field, value in zip(visible, shown, strict=True)}, as_json=as_json)


def _rowid(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise exc.DataError(f"the rowid is {text!r}; write it as an integer", value=text) from error


def written(forms: Sequence[Form], row: Row) -> list[Any]:
    """The values of a row as JSON has them."""
    return [None if value is None else form.to_json(value) for form, value in zip(forms, row, strict=True)]


@group.command()
@store_argument
@click.argument("table")
@where_option
@columns_option
@click.option("--limit", type=ANY, default=20, show_default=True, help="The most records; 0: all.")
@click.option("--reverse", is_flag=True, help="From the last key to the first.")
@click.option("--raw", is_flag=True, help="Keys and values as they are stored, in hexadecimal.")
@click.option("--explain", is_flag=True, help="Print how the rows are found instead.")
@format_option
def scan(
    store: str, table: str, where: tuple[str, ...], columns: str | None, limit: int, reverse: bool, raw: bool,
    explain: bool, form: str,
) -> None:  # fmt: skip
    """Print records of TABLE, in the order of their keys or, with --where, of the index that finds them."""
    if raw and (where or columns or explain):
        raise click.UsageError(
            "--raw shows keys and values as they are stored; leave out --where, --columns and --explain"
        )
    with reading(store) as engine:
        stored = engine.table(table)
        if raw:
            with engine.backend.snapshot() as snapshot:
                pairs = snapshot.scan(stored.family, stored.prefix, stored.stop, reverse=reverse)
                output.rows(("key", "value"), itertools.islice(pairs, limit or None), form)
            return
        selection = Selection(
            table=stored, columns=columns_of(columns), where=conditions(where), limit=limit, reverse=reverse
        )
        if explain:
            click.echo(plan(engine, selection))
            return
        _print(engine, selection, selection.fields, form)


def _print(engine: Engine, selection: Selection, fields: Sequence[FieldDefinition], form: str) -> None:
    forms = [form_of(field) for field in fields]
    with selected(engine, selection) as found:
        output.rows([field.name for field in fields], (written(forms, row) for row in found), form)


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
