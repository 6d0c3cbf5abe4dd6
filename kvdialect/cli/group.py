"""The group of all commands, and what they have in common."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO, Any, Final

import click

import kvdialect
from kvdialect.cli import output

FAILED: Final = 3
"""The exit code after an error of the store or of a file."""
INTERRUPTED: Final = 130
"""The exit code after Ctrl-C: that of a process which SIGINT has ended."""

ANY: Final = click.IntRange(0, sys.maxsize)
"""A number of rows, none among them."""
SOME: Final = click.IntRange(1, sys.maxsize)
"""A number of rows."""

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


class Failed(click.ClickException):
    """An error of a file, or of what a command reads or prints."""

    exit_code = FAILED

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file, err=file is None)


class Commands(click.Group):
    """The commands; after Ctrl-C they end with :data:`INTERRUPTED`, whatever they were doing."""

    def invoke(self, context: click.Context) -> Any:
        try:
            result = super().invoke(context)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, as at the end of the program it could only be told, and not be an exit code
        except KeyboardInterrupt as error:
            raise Interrupted(str(error) or "nothing is half done") from error
        except BrokenPipeError:
            _drop_output()
            context.exit(0)  # what is printed is no longer wanted
        except (OSError, UnicodeError) as error:
            _drop_output()
            raise Failed(f"{type(error).__name__}: {error}") from error
        return result


def _drop_output() -> None:
    """Let what is not printed yet go nowhere: at the program's end it would fail once more, and be told there."""
    with contextlib.suppress(OSError, AttributeError):  # it has no file, or there is none
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, sys.stdout.fileno())
        finally:
            os.close(nowhere)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kvdialect.__version__)
def group() -> None:
    """Look into stores of kvdialect, verify them, copy them, move data in and out.

    STORE is a URL, such as rocksdb:///coins, or the path of a store. What only reads works beside a program that has
    the store open.
    """
