"""The shell of SQL: statements one after another, from a terminal with completion and history, or from a pipe."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Final, TypeAlias

import click

from kvdialect import exc
from kvdialect.cli import output
from kvdialect.schema.names import folded

Connection: TypeAlias = Any
"""A connection of the SQL door (:mod:`kvdialect.dialect.connection`), which is imported where there is one."""

HISTORY: Final = "~/.local/state/kvdialect/history"
"""What was typed, unless ``KVDIALECT_HISTORY`` names another file; empty: it is not kept."""

_KEYWORDS: Final = tuple(
    """
    SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT OFFSET JOIN LEFT INNER ON USING AS DISTINCT UNION ALL INSERT INTO
    VALUES UPDATE SET DELETE CREATE TABLE INDEX VIEW DROP ALTER BEGIN COMMIT ROLLBACK AND OR NOT NULL IS IN LIKE BETWEEN
    EXISTS CASE WHEN THEN ELSE END COUNT SUM AVG MIN MAX WITH EXPLAIN RETURNING PRIMARY KEY UNIQUE DEFAULT CHECK
    """.split()  # noqa: SIM905 - read as it is typed
)

_STEPS: Final = 100_000
"""Steps of SQLite's machine, some milliseconds, after which Python gets its turn."""

_HELP: Final = """\
A statement ends with a semicolon. Each is a transaction of its own, unless BEGIN was said.
.tables            the tables and views
.schema [TABLE]    how they were made
.explain STATEMENT the plan of a statement, which is not run
.format FORM       how rows are printed: table, json, csv
.timer on|off      how long statements take
.help              this
.quit              the end; so does the end of the input"""


def told(connection: Connection, statement: str) -> list[str]:
    """The plan of a statement, line by line.

    Raises:
        Error: if it has none.
    """
    from kvdialect.dialect.explaining import explained

    return explained(connection, statement.rstrip().rstrip(";"))


class Console:
    """Runs statements and prints what they give.

    Args:
        connection: where they run.
        name: of the store, for the prompt.
        form: how rows are printed.
    """

    def __init__(self, connection: Connection, name: str, form: str) -> None:
        self._connection, self._name, self._form = connection, name, form
        self._timed = False
        # Ctrl-C is heard between two steps of Python's, of which a query of SQLite's alone makes none.
        connection.main.set_progress_handler(lambda: False, _STEPS)
        self._commands: dict[str, Callable[[str], None]] = {
            ".tables": self._tables, ".schema": self._schema, ".explain": self._explain, ".format": self._set_form,
            ".timer": self._set_timer, ".help": lambda _: click.echo(_HELP),
        }  # fmt: skip

    def execute(self, statement: str) -> None:
        """Run a statement and print its rows, or how many it has changed.

        Raises:
            Error: if it fails.
        """
        began = time.perf_counter()
        cursor = self._connection.cursor()
        try:
            cursor.execute(statement)
            if cursor.description is not None:
                output.rows([column[0] for column in cursor.description], _fetched(cursor), self._form)
            elif cursor.rowcount >= 0:
                click.echo(f"{cursor.rowcount} rows", err=True)
        except KeyboardInterrupt:
            cursor.close()  # or the rollback would read the rest of its rows
            if self._connection.in_transaction and self._connection.autocommit:
                self._connection.rollback()
            raise
        finally:
            cursor.close()
        if self._timed:
            click.echo(f"{(time.perf_counter() - began) * 1000:.1f} ms", err=True)

    def read(self, file: IO[str]) -> None:
        """Run all statements of a file; the first that fails is the last.

        Raises:
            Error: if one fails, with the line that it begins in; what an open transaction has written is lost.
        """
        for line, text in _statements(file):
            try:
                self._run(text)
            except exc.Error as error:
                error.add_note(f"line {line}")
                click.echo(f"in the statement of line {line}:", err=True)
                raise
            except EOFError:
                return
        if self._connection.in_transaction and not self._connection.autocommit:
            self._connection.rollback()
            raise exc.ProgrammingError("the input has ended within a transaction, which was rolled back (say COMMIT)")

    def interact(self) -> None:
        """Run what is typed until it ends; a statement that fails is told, and the next one is asked for."""
        ask = self._asking()
        click.echo(f"{self._name}: SQL, or .help", err=True)
        while True:
            try:
                text = ask()
                if text.strip():
                    self._run(text)
            except EOFError:
                break
            except exc.Error as error:
                click.echo(f"{type(error).__name__}: {error}", err=True)
            except KeyboardInterrupt:
                click.echo("interrupted", err=True)
        if self._connection.in_transaction and not self._connection.autocommit:
            self._connection.rollback()
            click.echo("the open transaction was rolled back", err=True)

    def _run(self, text: str) -> None:
        word, _, rest = text.strip().partition(" ")
        if not word.startswith("."):
            self.execute(text)
            return
        if word in (".quit", ".exit"):
            raise EOFError
        command = self._commands.get(word)
        if command is None:
            raise exc.ProgrammingError(f"{word} is no command of the shell; .help lists them")
        command(rest.strip())

    # ------------------------------------------------------------------------------------------ commands

    def _names(self) -> dict[str, Any]:
        self._connection.store.reload()
        catalog = self._connection.store.catalog
        return {**catalog.entries, **catalog.views}

    def _tables(self, _: str) -> None:
        for name in sorted(self._names()):
            click.echo(name.replace("\0", "."))

    def _schema(self, wanted: str) -> None:
        cursor = self._connection.cursor()
        cursor.execute(
            "SELECT name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY tbl_name, type DESC"
        )
        for name, table, text in cursor.fetchall():
            if not wanted or folded(wanted) in (folded(name), folded(table)):
                click.echo(f"{text};")

    def _explain(self, statement: str) -> None:
        click.echo("\n".join(told(self._connection, statement)) or "no table is read")

    def _set_form(self, form: str) -> None:
        if form not in output.FORMATS:
            raise exc.ArgumentError(f"the format {form!r} is unknown; allowed: {', '.join(output.FORMATS)}")
        self._form = form

    def _set_timer(self, text: str) -> None:
        self._timed = text != "off"

    # ------------------------------------------------------------------------------------------ a terminal

    def _prompt(self) -> str:
        return "...> " if self._connection.in_transaction and not self._connection.autocommit else "sql> "

    def _asking(self) -> Callable[[], str]:
        """What asks for a statement: with completion, history and colours where prompt_toolkit is installed."""
        try:
            from kvdialect.cli.prompting import prompt
        except ImportError as error:
            if (error.name or "").partition(".")[0] not in ("prompt_toolkit", "pygments"):
                raise
            return self._ask_plainly
        return prompt(self._prompt, complete, self._words)

    def _ask_plainly(self) -> str:
        text = input(self._prompt())
        while not complete(text):
            text += f"\n{input('   > ')}"
        return text

    def _words(self) -> Iterator[str]:
        """What a word may be completed to: names first."""
        for name, each in sorted(self._names().items()):
            yield name.rpartition("\0")[2]
            if hasattr(each, "definition"):
                yield from (field.name for field in each.definition.visible)
        yield from _KEYWORDS
        yield from self._commands


def complete(text: str) -> bool:
    """Whether what was typed is a whole statement, or a command of the shell."""
    stripped = text.strip()
    return not stripped or stripped.startswith(".") or _ends(stripped)


def _ends(text: str) -> bool:
    """Whether a text ends with the semicolon of a statement, which is in no quotes and no comment."""
    import apsw

    return bool(apsw.complete(text))


_COMMENTS: Final = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def _statements(file: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The statements of a file, each with the line that it begins in."""
    text, begun = "", 0
    for number, line in enumerate(file, 1):
        if not _COMMENTS.sub("", text).strip():
            text, begun = "", number
            if line.strip().startswith("."):
                yield number, line
                continue
        # Several may stand in one line, and a semicolon within quotes.
        *ends, rest = line.split(";")
        for part in ends:
            text += f"{part};"
            if _ends(text):
                if text.strip(" \t\r\n;"):
                    yield begun, text
                text, begun = "", number
        text += rest
    if _COMMENTS.sub("", text).strip():
        yield begun, text


def _fetched(cursor: Any) -> Iterator[Any]:
    while rows := cursor.fetchmany(500):
        yield from rows


def history_file() -> str | None:
    """Where the history is kept; None: nowhere."""
    path = os.environ.get("KVDIALECT_HISTORY", HISTORY)
    if not path:
        return None
    path = os.path.expanduser(path)
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
        with open(path, "a", encoding="utf-8"):
            return path
    except OSError:
        return None
