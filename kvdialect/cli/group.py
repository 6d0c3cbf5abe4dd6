"""The group of all commands, and what they have in common."""

from __future__ import annotations

from typing import IO, Any, Final

import click

import kvdialect
from kvdialect.cli import output

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C: that of a process which SIGINT has ended."""

store_argument = click.argument("store")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
format_option = click.option(
    "--format", "form", type=click.Choice(output.FORMATS), default="table", help="How to print rows."
)


class Interrupted(click.ClickException):
    """Ctrl-C, with what became of the work."""

    exit_code = INTERRUPTED

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"interrupted: {self.message}", file=file, err=file is None)


class Commands(click.Group):
    """The commands; after Ctrl-C they end with :data:`INTERRUPTED`, whatever they were doing."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt as error:
            raise Interrupted(str(error) or "nothing is half done") from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kvdialect.__version__)
def group() -> None:
    """Look into stores of kvdialect, verify them, copy them, move data in and out.

    STORE is a URL, such as rocksdb:///coins, or the path of a store. What only reads works beside a program that has
    the store open.
    """
