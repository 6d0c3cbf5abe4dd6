"""The commands that run SQL: one statement, many from standard input, or a shell; and that explain one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from kvdialect import exc
from kvdialect.cli import output
from kvdialect.cli.group import format_option, group, json_option, store_argument
from kvdialect.cli.shell import Connection, Console, told
from kvdialect.cli.stores import reading, writing


@group.command()
@store_argument
@click.argument("statement", required=False)
@click.option("--write", is_flag=True, help="Open the store for writing.")
@format_option
def sql(store: str, statement: str | None, write: bool, form: str) -> None:
    """Execute a STATEMENT of SQL; without one a shell, or what stands on standard input.

    Each statement is a transaction of its own, unless BEGIN was said.
    """
    with _connected(store, write) as connection:
        console = Console(connection, store, form)
        if statement is not None:
            console.execute(statement)
        elif sys.stdin is None:
            raise click.UsageError("there is no standard input; give a STATEMENT")
        elif sys.stdin.isatty():
            console.interact()
        else:
            console.read(sys.stdin)


@group.command()
@store_argument
@click.argument("statement")
@json_option
def explain(store: str, statement: str, as_json: bool) -> None:
    """Print the plan of a STATEMENT of SQL, which is not run: the keys and indexes that it reads."""
    with _connected(store, write=False) as connection:
        lines = told(connection, statement)
    if as_json:
        output.facts({"plan": lines}, as_json=True)
    else:
        click.echo("\n".join(lines) or "no table is read")


@contextmanager
def _connected(store: str, write: bool) -> Iterator[Connection]:
    with (writing if write else reading)(store) as engine:
        try:
            from kvdialect.dialect.connection import Connection as SqlConnection
        except ImportError as error:
            if error.name != "apsw":
                raise
            raise exc.NotSupportedError(
                'SQL needs the extra sql: pip install "kvdialect[sql]" (scan --where needs nothing)'
            ) from error
        connection = SqlConnection(engine, isolation_level="AUTOCOMMIT")
        try:
            yield connection
        finally:
            connection.close()
