"""The commands that move rows between tables and files."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import click

from kvdialect import exc
from kvdialect.cli import output
from kvdialect.cli.columns import column, described, suggested, table_of
from kvdialect.cli.files import (
    FORMATS,
    PIPE,
    Record,
    check_free,
    format_of,
    read_csv,
    read_json,
    text_input,
    text_output,
    write_csv,
    write_json,
)
from kvdialect.cli.forms import NULL
from kvdialect.cli.group import ANY, SOME, Interrupted, group, store_argument
from kvdialect.cli.importing import EXISTING, Existing, Loading, Reading, SqlTarget, made_by_sql, target_of
from kvdialect.cli.looking import columns_option, where_option
from kvdialect.cli.selecting import Selection, columns_of, conditions, selected
from kvdialect.cli.stores import making, reading, writing
from kvdialect.schema.definition import FieldDefinition, TableDefinition
from kvdialect.schema.rows import Row
from kvdialect.storage.batch import decode_counter
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.catalog import table_key
from kvdialect.store.engine import Engine
from kvdialect.store.entries import TableEntry, decode_entry, encode_entry
from kvdialect.store.table import StoredTable

_SAMPLE: Final = 1000
"""Records that say what the columns of a new table are."""

form_option = click.option("--format", "form", type=click.Choice(FORMATS), help="By default, what FILE's name ends in.")
null_option = click.option("--null", default=NULL, show_default=True, help="What stands for NULL in CSV.")


# ------------------------------------------------------------------------------------------ export


@group.command("export")
@store_argument
@click.argument("table")
@click.argument("file", default=PIPE)
@form_option
@where_option
@columns_option
@click.option("--limit", type=ANY, default=0, help="The most rows.")
@click.option("--schema", type=click.Path(), help="Write the table's definition to this file too, for import.")
@click.option("--overwrite", is_flag=True, help="Take the place of a file that is there.")
@null_option
def export_rows(
    store: str, table: str, file: str, form: str | None, where: tuple[str, ...], columns: str | None, limit: int,
    schema: str | None, overwrite: bool, null: str,
) -> None:  # fmt: skip
    """Write the rows of TABLE to FILE, or standard output: CSV, JSON lines, Parquet, Arrow.

    All of them are of one moment. FILE is there when it is whole.
    """
    chosen = form or ("csv" if file == PIPE else format_of(file, None))
    if file == PIPE and chosen in ("parquet", "arrow"):
        raise click.UsageError(f"{chosen} is no text; name a FILE")
    with reading(store) as engine:
        stored = engine.table(table)
        selection = Selection(table=stored, columns=columns_of(columns), where=conditions(where), limit=limit)
        total = None
        if stored.count_key is not None and not where:
            total = decode_counter(engine.backend.get(RESERVED_FAMILY, stored.count_key))
            total = min(total, limit) if limit else total
        if file != PIPE:
            check_free(file, overwrite=overwrite)
        if schema is not None:
            if os.path.realpath(schema) == os.path.realpath(file):
                raise click.UsageError("--schema and FILE are the same file; give each a name of its own")
            with text_output(schema, overwrite=overwrite) as out:
                out.write(f"{encode_entry(TableEntry.new(_fresh(stored.definition))).decode()}\n")
        with selected(engine, selection) as rows, output.progress(f"export {table}", beside=file == PIPE) as told:
            progress = None if told is None else functools.partial(told, f"export {table}", total=total)
            counted = _Counted(rows, progress)
            _write(file, chosen, selection.fields, counted, null, overwrite)
    if file != PIPE:
        click.echo(f"{file}: {counted.done:,} rows, {os.path.getsize(file):,} bytes", err=True)


def _fresh(definition: TableDefinition) -> TableDefinition:
    """A definition as another store could make it: the first version, with a number that stands for none."""
    return attrs.evolve(definition, id=1, version=1)


class _Counted:
    """Rows, and how many were taken."""

    def __init__(self, rows: Iterator[Row], told: Callable[[int], object] | None) -> None:
        self._rows, self._told = rows, told
        self.done = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            yield row
            self.done += 1
            if self._told is not None and not self.done & 1023:
                self._told(self.done)


def _write(file: str, form: str, fields: list[FieldDefinition], rows: _Counted, null: str, overwrite: bool) -> None:
    if form in ("parquet", "arrow"):
        from kvdialect.cli.arrow import write_arrow

        write_arrow(file, form, fields, rows, overwrite=overwrite)
        return
    with text_output(file, overwrite=overwrite) as out:
        if form == "csv":
            write_csv(out, fields, rows, null)
        else:
            write_json(out, fields, rows)


# ------------------------------------------------------------------------------------------ import


@group.command("import")
@store_argument
@click.argument("table")
@click.argument("file", default=PIPE)
@form_option
@click.option("--create", is_flag=True, help="Make the table, and the store; columns are what FILE's values suggest.")
@click.option("--column", "columns", multiple=True, metavar="'NAME TYPE [NULL]'", help="A column of the new table.")
@click.option("--primary-key", help="Names of the key columns of the new table, with commas between.")
@click.option("--schema", type=click.Path(), help="Make the table that export --schema has written.")
@click.option("--batch", type=SOME, default=10_000, show_default=True, help="Rows of one transaction.")
@click.option("--existing", type=click.Choice(EXISTING), default="fail", show_default=True, help="What becomes of rows"
              " whose key is there.")  # fmt: skip
@click.option("--skip", type=ANY, default=0, help="Records at the beginning of FILE to pass over.")
@null_option
def import_rows(
    store: str, table: str, file: str, form: str | None, create: bool, columns: tuple[str, ...],
    primary_key: str | None, schema: str | None, batch: int, existing: Existing, skip: int, null: str,
) -> None:  # fmt: skip
    """Write the records of FILE, or standard input, into TABLE, so many in a transaction.

    A record that is no row ends it; what was committed stays, and the message says how many rows that are.
    """
    chosen = format_of(file, form)
    makes = create or bool(columns) or schema is not None
    # The file first: where there is none, no store is made for it.
    with _records(file, chosen) as found, (making if makes else writing)(store) as engine:
        records = found
        new = makes and table not in engine.catalog.entries
        if new:
            records = _made(engine, table, found, chosen, columns, columns_of(primary_key), schema, file, null)
        if table not in engine.catalog.entries:
            raise exc.ProgrammingError(
                f"the store has no table {table!r}; it has {', '.join(sorted(engine.catalog.entries)) or 'none'}"
                " (--create, --column or --schema makes one)",
                table=table,
            )
        stored = engine.table(table)
        target = target_of(engine, stored, existing)
        generated = target.generated() if isinstance(target, SqlTarget) else frozenset()
        loading = Loading(target, Reading(stored, file, chosen, null, generated), batch)
        try:
            with output.progress(f"import {table}") as told:
                progress = None if told is None else functools.partial(told, f"import {table}")
                loading.run(itertools.islice(records, skip, None), progress)
            new = False  # it stays, were the file empty
        except KeyboardInterrupt as error:
            raise Interrupted(_committed(loading, skip)) from error
        except exc.Error as error:
            for note in getattr(error, "__notes__", ()):
                click.echo(note, err=True)
            click.echo(_committed(loading, skip), err=True)
            raise
        finally:
            target.close()
            if new and not loading.done:
                _unmade(engine, stored)
    there = loading.done - loading.written
    skipped = f"; {there:,} were there already, and left as they are" if there else ""
    click.echo(f"{loading.written:,} rows imported into {table}{skipped}", err=True)


def _unmade(engine: Engine, table: StoredTable) -> None:
    """Drop a table that was made for rows of which none came, unless others have written to it."""
    with engine.backend.snapshot() as snapshot:
        if next(iter(snapshot.scan(table.family, table.prefix, table.stop)), None) is not None:
            return
    engine.drop_table(table.name)
    click.echo(f"table {table.name}, made for this, is dropped again", err=True)


def _committed(loading: Loading, skip: int) -> str:
    if not loading.done:
        return "no row was committed"
    return (
        f"{loading.done:,} rows were committed, up to {loading.where}; --skip {skip + loading.done} goes on behind them"
    )


@contextmanager
def _records(file: str, form: str) -> Iterator[Iterator[Record]]:
    if form in ("parquet", "arrow"):
        from kvdialect.cli.arrow import arrow_input, read_arrow

        if file == PIPE:
            raise click.UsageError(f"{form} cannot be read from standard input; name a FILE")
        with arrow_input(file, form) as (schema, batches):
            yield read_arrow(file, schema, batches)
        return
    with text_input(file) as text:
        yield read_csv(file, text) if form == "csv" else read_json(file, text)


def _made(
    engine: Engine, table: str, records: Iterator[Record], form: str, columns: tuple[str, ...], key: tuple[str, ...],
    schema: str | None, file: str, null: str,
) -> Iterator[Record]:  # fmt: skip
    """Make a table, and give the records with those that were looked at for that."""
    if schema is not None:
        _make_as_given(engine, table, schema)
        return records
    if columns:
        engine.create_all([table_of(table, [column(text) for text in columns], key)])
        return records
    sample: list[Record] = []
    if form in ("parquet", "arrow"):
        from kvdialect.cli.arrow import arrow_columns

        fields = [
            attrs.evolve(field, nullable=field.nullable and field.name not in key)
            for field in arrow_columns(file, form)
        ]
    else:
        sample = list(itertools.islice(records, _SAMPLE))
        fields = suggested(sample, form, key, null)
    definition = table_of(table, fields, key)
    engine.create_all([definition])
    listed = " ".join(f"--column {described(field)!r}" for field in fields)
    click.echo(f"made table {table}: {listed} --primary-key {','.join(key)}", err=True)
    return itertools.chain(sample, records)


def _make_as_given(engine: Engine, table: str, schema: str) -> None:
    try:
        with open(schema, "rb") as file:
            entry = decode_entry(table_key(table), file.read())
    except OSError as error:
        raise exc.ArgumentError(f"cannot read {schema}: {error.strerror}") from error
    except exc.Corruption as error:
        raise exc.ArgumentError(
            f"{schema} is no definition that export --schema has written: {error.message}"
        ) from error
    definition = entry.definition
    if definition.shared:
        if definition.name != table:
            raise exc.ArgumentError(f"{schema} is of table {definition.name}, which SQL has made by that name")
        statements = [definition.statement, *(index.statement for index in definition.indexes)]
        made_by_sql(engine, [statement for statement in statements if statement])
    else:
        engine.create_all([attrs.evolve(definition, name=table)])
