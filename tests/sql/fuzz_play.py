"""Playing the same steps on kvdialect's SQL door and on the standard library's sqlite3, and comparing what shows."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import attrs
from fuzz_records import MODELS, NATIVE_TABLES, native_operation, native_rows
from sql_consistency import check_sql_consistency

from kvdialect import create_engine
from kvdialect.dialect import dbapi

ERRORS = ("IntegrityError", "NotSupportedError", "DataError", "ProgrammingError", "OperationalError", "DatabaseError")
DEFINITIONS = ("CREATE", "DROP", "ALTER")
CHANGES = ("INSERT", "REPLACE", "UPDATE", "DELETE")


@attrs.frozen
class Step:
    """One step: a statement on one of the connections, COMMIT or ROLLBACK, REOPEN, or an operation of a Session."""

    sql: str
    parameters: tuple[Any, ...] = ()
    connection: int = 0
    ordered: bool = False
    """The order of the rows is total."""
    loose: bool = False
    """Which of several values that compare as equal represents a group is open."""
    whole: bool = False
    """Ints may come as floats, and whole floats as ints: so does RETURNING of tables with REAL columns, before 3.41."""
    message: bool = True
    """Which of several violations is found first does not depend on the order of rows."""
    fresh: tuple[str, str] | None = None
    """The table and column whose NULL, the first parameter, is given a fresh integer: kvdialect chooses it for both."""
    many: bool = False
    """An ``executemany``: the parameters are tuples of them. A failed one is followed by a rollback."""
    native: tuple[Any, ...] | None = None
    """An operation through kvdialect.Session, for which ``sql`` is the counterpart."""

    def __str__(self) -> str:
        shown = f"Step({self.sql!r}"
        for attribute in attrs.fields(Step)[1:]:
            value = getattr(self, attribute.name)
            if value != attribute.default:
                shown += f", {attribute.name}={value!r}"
        return shown + ")"


@attrs.frozen
class Known:
    """A difference that is documented in docs/sql.md, by the first cell of its row there."""

    documented: str
    reason: str
    held_by: str


_UNUSED = -(10**9)
OLD = sqlite3.sqlite_version_info < (3, 41)
"""Its RETURNING gives ints and floats for each other, compares without affinities, and takes NULL for NOT NULL."""

KNOWN = (
    Known(
        "`LIKE` is case-sensitive", "both doors agree, and prefixes use indexes", "PRAGMA case_sensitive_like on sqlite"
    ),
    Known("foreign keys are enforced", "no constraint is accepted and not enforced", "PRAGMA foreign_keys on sqlite"),
    Known(
        "a row that refers to nothing is refused",
        "SQLite counts wrongly where a table refers to itself",
        "no such tables in OR REPLACE, in DO UPDATE of what is referred to, and with columns of other collations",
    ),
    Known(
        "ids have gaps",
        "they come from an allocator, so that writers do not conflict",
        "Step.fresh: kvdialect's id is given to sqlite; it must be larger than all that are there",
    ),
    Known(
        "rows without `ORDER BY`", "SQLite promises none either", "rows are compared as multisets unless Step.ordered"
    ),
    Known(
        "a member of a group",
        "which of 'a' and 'A', or 1 and 1.0, stands for a group depends on the plan, in SQLite too",
        "Step.loose",
    ),
    Known(
        "the first of several violations",
        "a statement over many rows finds violations in the order of its plan, in SQLite too",
        "Step.message",
    ),
    Known(
        "floats as text",
        "SQLite since 3.53 prints 17 digits; the two sides are two releases of SQLite",
        "the grammar keeps to short floats",
    ),
    Known(
        "writers do not wait",
        "a conflict is found at the commit; SQLite has one writer",
        "the grammar has one writing transaction at a time",
    ),
    Known(
        "a wrong type undoes",
        "SQLite keeps no journal of a statement in which it expects no error that undoes it",
        "no wrong types in several rows of INSERT OR ... into an INTEGER PRIMARY KEY or a STRICT table",
    ),
    Known(
        "`executemany` is undone as a whole",
        "all rows of it are one statement",
        "Step.many: a rollback follows one that fails",
    ),
    Known(
        "text `IN (SELECT` numbers",
        "for IN, SQLite asks a virtual table for one number after the other, and says of none that it was a column's",
        "no such pairs of columns",
    ),
    Known("text is UTF-8", "a blob that is no text is not made one", "no text functions over such blobs"),
)


class Difference(AssertionError):
    """The two sides do not agree."""

    def __init__(self, said: str, steps: Sequence[Step] = ()) -> None:
        super().__init__(said)
        self.said, self.steps = said, list(steps)


@attrs.frozen
class Outcome:
    """What a statement showed."""

    error: str | None = None
    message: str = ""
    rows: list[tuple[Any, ...]] | None = None
    rowcount: int = -1
    columns: tuple[str, ...] = ()
    lastrowid: int | None = None
    open: bool = False
    """Whether a transaction is open after it (sqlite3's answer)."""


def error_name(error: BaseException) -> str:
    """The PEP 249 class of an error, of either side."""
    for cls in type(error).__mro__:
        if cls.__name__ in ERRORS:
            return cls.__name__
    return type(error).__name__


class Side:
    """Two connections to one database, with transactions begun by the first statement."""

    Error: type[Exception] | tuple[type[Exception], ...]

    def connection(self, number: int) -> Any:
        """The open connection."""
        raise NotImplementedError

    def before(self, connection: Any) -> None:
        """Begin a transaction if the DBAPI does not."""

    def execute(self, step: Step, parameters: Sequence[Any]) -> Outcome:
        """Do one step and say what was seen."""
        try:
            connection = self.connection(step.connection)
            if step.sql == "COMMIT":
                connection.commit()
                return Outcome()
            if step.sql == "ROLLBACK":
                connection.rollback()
                return Outcome()
            self.before(connection)
            cursor = connection.cursor()
            try:
                if step.many:
                    cursor.executemany(step.sql, parameters)
                else:
                    cursor.execute(step.sql, tuple(parameters))
                rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else None
                columns = tuple(entry[0] for entry in cursor.description or ())
                return Outcome(None, "", rows, cursor.rowcount, columns, cursor.lastrowid)
            finally:
                cursor.close()
        except self.Error as error:
            return Outcome(error_name(error), str(error).splitlines()[0] if str(error) else "")


class Kvdialect(Side):
    """The SQL door."""

    def __init__(self, engine_name: str, folder: Path) -> None:
        self.url = "memory://" if engine_name == "memory" else f"{engine_name}:////{folder}/store"
        self.Error = dbapi.Error
        self.connections: list[Any] = []
        self.engine: Any = None
        self.open()
        MODELS.create_all(self.engine)

    def open(self) -> None:
        """Open the store and both connections."""
        self.engine = create_engine(self.url)
        self.connections = [dbapi.connect(store=self.engine) for _ in range(2)]

    def reopen(self) -> None:
        """Close and open again: what is not committed is gone. A memory store stays."""
        for connection in self.connections:
            connection.rollback()
            connection.close()
        if self.url != "memory://":
            self.engine.close()
            self.open()
        else:
            self.connections = [dbapi.connect(store=self.engine) for _ in range(2)]

    def connection(self, number: int) -> Any:
        return self.connections[number]

    def native(self, step: Step) -> Outcome:
        """An operation of a Session, in a transaction of its own."""
        assert step.native is not None
        try:
            native_operation(self.engine, step.native)
        except self.Error as error:
            return Outcome(error_name(error))
        return Outcome()

    def close(self) -> None:
        """Close all."""
        for connection in self.connections:
            connection.close()
        self.engine.close()


class Sqlite(Side):
    """The standard library's."""

    def __init__(self, folder: Path, name: str = "right") -> None:
        self.Error = (sqlite3.Error, OverflowError)
        self.path = folder / f"{name}.db"
        self.connections: list[sqlite3.Connection] = []
        self.open()
        for sql in NATIVE_TABLES:
            self.connections[2].execute(sql)

    def open(self) -> None:
        """Two connections for the steps, and one for what a Session does."""
        # A statement that was prepared while defer_foreign_keys was on would still have no journal when it is off.
        self.connections = [sqlite3.connect(self.path, isolation_level=None, cached_statements=0) for _ in range(3)]
        for connection in self.connections:
            for pragma in (
                "journal_mode=WAL",
                "synchronous=OFF",
                "foreign_keys=ON",
                "case_sensitive_like=ON",
                "busy_timeout=0",
            ):
                connection.execute(f"PRAGMA {pragma}").close()

    def reopen(self) -> None:
        """Close and open again."""
        self.close()
        self.open()

    def connection(self, number: int) -> Any:
        return self.connections[number]

    def before(self, connection: Any) -> None:
        if not connection.in_transaction:
            connection.execute("BEGIN")

    def native(self, step: Step) -> Outcome:
        """The counterpart of what a Session does."""
        try:
            self.connections[2].execute(step.sql, step.parameters)
        except self.Error as error:
            return Outcome(error_name(error))
        return Outcome()

    def close(self) -> None:
        """Close all."""
        for connection in self.connections:
            connection.close()


def exact(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row such that 1 and 1.0 differ, and can be counted."""
    return tuple((type(value).__name__, value) for value in row)


def as_number(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row such that 1 and 1.0 are equal, and ints that are one float."""
    return tuple(float(value) if isinstance(value, int) else value for value in row)


def as_equal(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row such that what compares as equal somewhere in SQL is equal."""
    return tuple(value.lower().rstrip(" ") if isinstance(value, str) else value for value in row)


class Play:
    """Both sides, step by step."""

    def __init__(self, engine_name: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        # sqlite3 against itself proves the grammar and the comparison.
        self.left = Sqlite(folder, "left") if engine_name == "sqlite3" else Kvdialect(engine_name, folder)
        self.right = Sqlite(folder)
        self.done: list[Step] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._folder.cleanup)
            stack.callback(self.right.close)
            stack.callback(self.left.close)

    def step(self, step: Step) -> Outcome:
        """Do a step on both sides; the outcome of sqlite3, if they agree.

        Raises:
            Difference: if they do not.
        """
        self.done.append(step)
        try:
            return self._step(step)
        except Difference as difference:
            difference.steps = list(self.done)
            raise
        except Exception as error:
            raise Difference(f"kvdialect raised {type(error).__name__}: {error}", self.done) from error

    def check(self) -> None:
        """Look at what the store has committed: each row must have its index entries, and there must be no others.

        Raises:
            Difference: if it is not so.
        """
        if isinstance(self.left, Kvdialect):
            try:
                check_sql_consistency(self.left.engine)
            except AssertionError as error:
                raise Difference(f"the store is inconsistent: {error}", self.done) from error

    def _step(self, step: Step) -> Outcome:
        if step.sql == "REOPEN":
            self.left.reopen()
            self.right.reopen()
            self.check()
            return Outcome()
        if step.native is not None:
            left, right = self.left.native(step), self.right.native(step)
            if left.error != right.error:
                raise Difference(f"the Session: {left.error or 'done'}, sqlite3: {right.error or 'done'}")
            if not isinstance(self.left, Kvdialect):
                return right
            for table, ours in native_rows(self.left.engine).items():
                names = ", ".join(f'"{name}"' for name in ours[0])
                theirs = self.right.connections[2].execute(f"SELECT {names} FROM {table}").fetchall()
                self._rows(Step(table), ours[1], theirs)
            return right
        left = self.left.execute(step, step.parameters)
        parameters: Sequence[Any] = step.parameters
        if step.fresh and left.error is None and parameters[0] is None:
            given = self._fresh(step, left.lastrowid) if left.rowcount == 1 else None
            # Where no row is inserted, SQLite with AUTOINCREMENT would count the id that it did not use.
            parameters = [_UNUSED if given is None else given, *parameters[1:]]
        right = self.right.execute(step, parameters)
        if right.error and step.sql.startswith("ALTER"):
            # An ALTER right behind one that has failed would meet the schema as that had left it in memory.
            self.right.connection(step.connection).execute("SELECT sql FROM sqlite_master").fetchall()
        self._compare(step, left, right)
        if (step.sql == "COMMIT" or step.many) and right.error:
            self.left.connection(step.connection).rollback()
            self.right.connection(step.connection).rollback()
        return attrs.evolve(right, open=self.right.connection(step.connection).in_transaction)

    def _fresh(self, step: Step, given: Any) -> Any:
        assert step.fresh
        table, column = step.fresh
        connection = self.right.connection(step.connection)
        self.right.before(connection)
        found = Step(f'SELECT 1 FROM {table} WHERE "{column}" = ?', connection=step.connection)
        ours = self.left.execute(found, (given,))
        if not ours.rows or connection.execute(found.sql, (given,)).fetchone():
            return None  # an upsert that updated: then the id is that of an earlier row, maybe of another table
        [(highest,)] = connection.execute(f'SELECT max("{column}") FROM {table}')
        if highest is not None and 0 < highest < 2**62 and given <= highest:
            raise Difference(f"{given} was given after {highest}")
        return given

    def _compare(self, step: Step, left: Outcome, right: Outcome) -> None:
        if left.error != right.error:
            raise Difference(
                f"kvdialect: {left.error or 'done'} {left.message} {left.rows or ''}\n"
                f"sqlite3: {right.error or 'done'} {right.message} {right.rows or ''}"
            )
        if right.error:
            if (
                step.message
                and "constraint failed" in right.message
                and not left.message.startswith(right.message)
                and not _both_taken(left.message, right.message)
            ):
                raise Difference(f"kvdialect: {left.message}\nsqlite3: {right.message}")
            return
        if step.sql.startswith(DEFINITIONS):
            return
        if (left.rows is None) != (right.rows is None):
            raise Difference(f"kvdialect: {left.rows}\nsqlite3: {right.rows}")
        if left.columns != right.columns:
            raise Difference(f"columns of kvdialect: {left.columns}\nsqlite3: {right.columns}")
        if right.rows is not None and left.rows is not None:
            self._rows(step, left.rows, right.rows)
        if step.sql.startswith(CHANGES) and left.rowcount != right.rowcount:
            raise Difference(f"rowcount of kvdialect: {left.rowcount}\nsqlite3: {right.rowcount}")

    def _rows(self, step: Step, left: list[tuple[Any, ...]], right: list[tuple[Any, ...]]) -> None:
        form = as_equal if step.loose else as_number if step.whole and OLD else exact
        ours, theirs = [form(row) for row in left], [form(row) for row in right]
        if (ours == theirs) if step.ordered else (Counter(ours) == Counter(theirs)):
            return
        only_left, only_right = Counter(ours) - Counter(theirs), Counter(theirs) - Counter(ours)
        raise Difference(
            f"of {len(ours)} and {len(theirs)} rows\nonly kvdialect has {list(only_left)[:8]}\n"
            f"only sqlite3 has {list(only_right)[:8]}" + ("\nor the order differs" if step.ordered else "")
        )


def _both_taken(one: str, other: str) -> bool:
    """Whether two messages are about unique values of one table: a row may break several of its constraints."""
    start = "UNIQUE constraint failed: "
    if not (one.startswith(start) and other.startswith(start)):
        return False
    tables = {message.removeprefix(start).partition(".")[0] for message in (one, other)}
    return len({table for table in tables if not table.startswith("index '")}) <= 1


def replay(engine_name: str, steps: Sequence[Step]) -> Difference | None:
    """Play steps on new databases; the first difference, if there is one."""
    with Play(engine_name) as play:
        try:
            for step in steps:
                play.step(step)
            play.check()
        except Difference as difference:
            return difference
    return None


def shrunk(engine_name: str, difference: Difference, seconds: float = 60) -> Difference:
    """The same sort of difference with as few steps as are found in the time."""
    deadline = time.monotonic() + seconds
    sort = _sort(difference)
    best = difference

    def fails(steps: list[Step]) -> Difference | None:
        found = replay(engine_name, steps)
        return found if found is not None and _sort(found) == sort else None

    size = max(1, len(best.steps) // 2)
    while time.monotonic() < deadline:
        removed = False
        for start in _downwards(len(best.steps) - 1, size):
            if time.monotonic() > deadline:
                break
            found = fails(best.steps[:start] + best.steps[start + size :])
            if found is not None:
                best, removed = found, True
        if size == 1 and not removed:
            break
        size = max(1, size // 2) if not removed or size > 1 else 1
    return best


def _downwards(last: int, size: int) -> Iterator[int]:
    # From the end: what comes late depends on what comes early.
    start = last - size
    while start > -size:
        yield max(0, start)
        start -= size


def _sort(difference: Difference) -> str:
    """What must stay the same: the first words of each line, without the values."""
    return "\n".join(re.sub(r"\d+|'[^']*'", "", line)[:40] for line in difference.said.splitlines())


def script(difference: Difference) -> str:
    """The steps as text to paste into a test."""
    steps = "".join(f"    {step},\n" for step in difference.steps)
    return f"{difference.said}\n\nreplay(engine_name, [\n{steps}])"
