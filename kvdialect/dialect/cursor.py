"""Cursors: statements run, and their rows read as they are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import apsw

from kvdialect.dialect import functions, virtual
from kvdialect.dialect.parameters import FAILURES, Unreadable, adapted, plain_rows, translated
from kvdialect.dialect.relations import ROWID_NAMES, Relation
from kvdialect.dialect.statements import PRAGMAS, SCHEMA_PRAGMAS, SCHEMA_SOURCES, PragmaText, Statement, parse
from kvdialect.dialect.writing import Insertion, resolvable
from kvdialect.exc import IntegrityError, NotSupportedError, OperationalError, ProgrammingError
from kvdialect.schema.names import folded
from kvdialect.schema.tokens import quoted
from kvdialect.store.links import MAIN
from kvdialect.store.retrying import Attempts
from kvdialect.store.transaction import Transaction

if TYPE_CHECKING:
    from kvdialect.dialect.connection import Connection

_PATIENCE: Final = 10.0
"""Seconds for which a statement in AUTOCOMMIT mode is run again after conflicts, as SQLite waits for its lock."""

_IN_MEMORY: Final[tuple[type, ...]] = (type(iter([])), type(iter(())), Unreadable)
"""What iterates over rows that need no transaction any more."""


class Cursor:
    """A cursor: it runs statements, and reads their rows as they are asked for.

    Attributes:
        description: name and six times None for each column; None where there are no rows.
        rowcount: rows that the statement has changed; -1 for others.
        lastrowid: id of the row inserted last.
        arraysize: rows that ``fetchmany`` gives.
        streaming: its rows may be more than memory holds: a rollback ends them, as it would not read them to their end.
    """

    def __init__(self, connection: Connection, *, streaming: bool = False) -> None:
        self.connection = connection
        self.streaming = streaming
        self.description: tuple[tuple[Any, ...], ...] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1
        self.closed = False
        self._rows: Iterator[Any] | None = None
        connection._cursors.add(self)

    # ------------------------------------------------------------------------------------------ running

    def execute(self, sql: str, params: Any = ()) -> Self:
        """Run a statement.

        Args:
            sql: one statement, with ``?`` or ``:name`` for its parameters.
            params: a sequence, or a mapping for named ones.

        Raises:
            Error: one of PEP 249's.
        """
        connection = self._check()
        self._rows = None
        self.description, self.rowcount = None, -1
        try:
            _check_text(sql)
            if connection.owner is not None:
                connection.owner.before_statement()
            found = connection._plans.get(sql)
            if (
                found is not None
                and found[1] is not None
                and found[0] is connection.catalog
                and not connection.autocommit
                and not connection.has_temporary
                and not isinstance(params, Mapping)
            ):
                txn = connection._txn
                if txn is None:
                    txn = connection._begin()
                if found[0] is connection.catalog:
                    self._direct(found[1], txn, adapted(params))
                    return self
            statement = parse(sql)
            self._run(sql, statement, statement.bind(adapted(params)))
        except FAILURES as error:
            self._failed(error)
        return self

    def _run(self, sql: str, statement: Statement, params: Sequence[Any]) -> None:
        connection = self.connection
        if connection.autocommit and statement.kind != "transaction":
            self._autocommitted(sql, statement, params)
        else:
            self._statement(sql, statement, params)

    def _autocommitted(self, sql: str, statement: Statement, params: Any) -> None:
        """Run a statement as a transaction of its own; what a conflict undoes is done again."""
        connection = self.connection
        if connection._txn is not None:
            connection.drain()
            connection.rollback()  # the reading of an earlier cursor
        attempts = Attempts(None, _PATIENCE)
        while True:
            try:
                self._statement(sql, statement, params)
                if statement.kind in ("select", "explain"):
                    return  # it ends when its rows are read
                if self._rows is not None:
                    self._rows = iter(list(self._rows))
                connection.commit()
                return
            except BaseException as error:
                if not connection.closed and connection._txn is not None:
                    self._rows = None
                    connection.rollback()
                if not attempts.again(error):
                    raise
            time.sleep(attempts.pause())

    def _statement(self, sql: str, statement: Statement, params: Any) -> None:
        connection = self.connection
        kind = statement.kind
        connection.reading = kind == "select"
        connection.statement = statement
        connection.matches.clear()
        if kind == "transaction":
            self._transaction(statement)
            return
        if kind == "empty":
            return
        if statement.pragma is not None and statement.pragma.name == "foreign_keys":
            self._pragma(sql, statement)  # it is the connection's: begun by it, a transaction would be as old as that
            return
        into_schema = statement.table is not None and folded(statement.table) in SCHEMA_SOURCES  # SQLite refuses that
        if statement.reads_schema and kind in ("insert", "update", "delete", "ddl") and not into_schema:
            raise NotSupportedError(
                "a statement that writes, or a view, that reads sqlite_master or the functions of pragmas (read the"
                " schema by a SELECT of its own, and bind what is needed of it)"
            )
        txn = connection.txn
        if kind in ("select", "explain"):
            plan = connection._plan(sql, statement) if kind == "select" else None
            if plan is not None:
                self._direct(plan, txn, params)
                return
            connection._ensure(sql, statement)
            self._select(sql, statement, params)
        elif kind in ("insert", "update", "delete"):
            self._write(sql, statement, params)
        elif kind == "ddl":
            assert statement.definition is not None
            connection._ddl.execute(sql, statement, statement.definition, params)
        elif kind == "pragma":
            self._pragma(sql, statement)
        elif kind == "maintenance":
            pass  # VACUUM, ANALYZE, REINDEX: nothing to do; the engines keep their files themselves
        else:
            raise NotSupportedError(f"statements of kind {kind} are not supported: {sql[:80]!r}")

    def _direct(self, plan: Any, txn: Transaction, params: Any) -> None:
        if plan.writes:
            connection = self.connection
            connection.writer.begin()
            with self._atomic(None):
                plan.run(txn, params)
            self.rowcount = connection.writer.count
            connection.counted(self.rowcount)
            return
        self.description = plan.description
        self._rows = plan.rows(txn, params)

    def _select(self, sql: str, statement: Statement, params: Any, *, db: Any = None) -> None:
        connection = self.connection
        if db is None:
            db = connection.shadow.db if statement.reads_schema else connection.main
            if db is connection.main:
                text, params, strict = functions.prepared(sql, statement, connection, params)
                with connection.strictly(strict):
                    rows = self._read(db, text, params, sql, declared=sql)
                self._rows = connection.strict_rows(rows) if strict else rows
                return
            connection.check_schema_alone(statement)
        self._rows = self._read(db, sql, params)

    def _read(
        self, db: Any, sql: str, params: Any, written: str | None = None, *, declared: str | None = None
    ) -> Iterator[Any]:
        """Run a query that was ``written`` otherwise, and on tables as they are ``declared`` is another."""
        connection = self.connection
        cursor = db.cursor()
        written = written or sql
        known = connection._descriptions.get(written)
        if known is not None and known[0] is connection.catalog and not connection.has_temporary:
            self.description = known[1]
            return cursor.execute(sql, params or None)  # type: ignore[no-any-return]
        seen: list[Any] = []

        def trace(running: Any, _sql: str, _bindings: Any) -> bool:
            seen.append(running.get_description())
            return True

        cursor.exec_trace = trace
        # A statement from apsw's cache would tell what its columns were before the schema changed.
        rows = cursor.execute(sql, params or None, can_cache=False)
        cursor.exec_trace = None
        columns = [column[0] for column in seen[-1]] if seen and seen[-1] else []
        if written != sql:
            columns = [functions.column_name(column, written) for column in columns]
        if declared is not None and "rowid" in columns:
            columns = self._declared(declared, params)
        self.description = tuple((column, *[None] * 6) for column in columns) or None
        if not connection.has_temporary:  # else it may be of a temporary table, which hides another
            if len(connection._descriptions) > 2000:
                connection._descriptions.clear()
            connection._descriptions[written] = (connection.catalog, self.description)
        return rows  # type: ignore[no-any-return]

    def _declared(self, sql: str, params: Any) -> list[str]:
        """The names that the columns of a query have on the tables as declared.

        A rowid is called as its INTEGER PRIMARY KEY is, which no virtual table has.
        """
        names: list[str] = []

        def trace(running: Any, _sql: str, _bindings: Any) -> bool:
            names.extend([column[0] for column in running.get_description()])
            return False

        cursor = self.connection.shadow.db.cursor()
        cursor.exec_trace = trace
        with suppress(apsw.ExecTraceAbort):
            cursor.execute(sql, params or None, can_cache=False)
        return names

    @contextmanager
    def _atomic(self, resolution: str | None) -> Iterator[None]:
        """A statement that writes: what it has written is undone if it fails."""
        connection = self.connection
        txn = connection.txn
        mark = txn.savepoint()
        try:
            yield
            connection.references.end_statement()
        except BaseException as error:  # noqa: BLE001 - it is raised again
            failure = error
            if resolution == "FAIL" and resolvable(error):
                try:
                    connection.references.end_statement()
                except IntegrityError as another:
                    failure = another  # of the rows that would be kept
                else:
                    self._keep(txn, mark)
                    raise
            connection.references.abort_statement()
            txn.rollback_to(mark)
            if resolution == "ROLLBACK" and resolvable(error) and not connection.borrowed:
                connection.rollback()
            raise failure  # noqa: B904 - it is the error itself, or has come of it
        self._keep(txn, mark)

    def _keep(self, txn: Transaction, mark: int) -> None:
        """What a statement has written stays; who lent the transaction is told."""
        owner = self.connection.owner
        if owner is None:
            txn.release(mark)
            return
        journal = txn.written_since(mark)
        txn.release(mark)
        owner.written(journal)

    def _write(self, sql: str, statement: Statement, params: Any) -> None:
        connection = self.connection
        connection._ensure(sql, statement)
        assert statement.table is not None
        temporary = connection.has_temporary and (
            statement.schema is None or folded(statement.schema) == "temp"
        ) and connection.is_temporary(statement.table)  # fmt: skip
        relation = None if temporary else connection.relation(statement.schema, statement.table)
        if relation is None:
            self._write_temporary(sql, statement, params)
            return
        connection._validate(sql, statement, relation)
        if statement.kind != "insert" and not statement.returning:
            plan = connection._plan(sql, statement)
            if plan is not None:
                self._direct(plan, connection.txn, params)
                return
        writer = connection.writer
        resolution = statement.conflict
        updates = statement.kind == "update" and not statement.joined
        writer.begin(resolution, returning=bool(statement.returning), update=(statement, params) if updates else None)
        with self._atomic(resolution):
            if statement.kind == "insert":
                writer.insert_rows(*self._insertion(relation, statement, params))
            else:
                part = statement.text
                text, body, strict = functions.prepared(part.text, statement, connection, part.pick(params))
                with connection.strictly(strict), connection.once_each(statement.joined):
                    connection.main.execute(text, body or None).fetchall()
            if statement.returning:
                self._return(relation, statement, params)
        self.rowcount = writer.count
        connection.counted(self.rowcount)
        if statement.kind == "insert":
            self.lastrowid = writer.lastrowid

    def _write_temporary(self, sql: str, statement: Statement, params: Any) -> None:
        """Write into a temporary table, which is SQLite's own; or let SQLite say what is wrong with the name."""
        connection = self.connection
        if connection.has_temporary:
            connection.begin_sqlite()
        before = connection.main.total_changes()
        try:
            text, params, strict = functions.prepared(sql, statement, connection, params)
            with connection.strictly(strict):
                rows = self._read(connection.main, text, params, sql)
        except apsw.Error:
            connection.check_sqlite()
            raise
        if self.description is not None:
            self._rows = _all(rows)
        self.rowcount = connection.main.total_changes() - before
        connection.counted(self.rowcount)
        self.lastrowid = connection.main.last_insert_rowid()
        if statement.kind == "insert" and self.rowcount:
            connection.writer.lastrowid = self.lastrowid

    def _insertion(
        self, relation: Relation, statement: Statement, params: Any
    ) -> tuple[Insertion, Sequence[Sequence[Any]]]:
        """An INSERT as the writer takes it, and its rows."""
        connection = self.connection
        if statement.columns is not None:
            positions = [_position(relation, name) for name in statement.columns]
        elif statement.source is None:
            positions = []
        else:
            positions = [at for at, column in enumerate(relation.columns) if not column.generated]
        rows: Sequence[Sequence[Any]]
        if statement.source is None:
            rows = [()]
        elif statement.simple_values is not None:
            count, width = statement.simple_values
            rows = [params[at : at + width] for at in range(0, width * count, width)]
        else:
            part = statement.source
            text, body, connection.strict_uint64 = functions.prepared(
                part.text, statement, connection, part.pick(params)
            )
            rows = connection.main.execute(text, body or None).fetchall()
        if -1 in positions:  # INSERT INTO t (rowid, ...)
            relation_rows = rows
            at = positions.index(-1)
            raise NotSupportedError(
                f"INSERT with an explicit rowid into {relation.name} (declare an INTEGER PRIMARY KEY)",
                rows=len(relation_rows), column=at,
            )  # fmt: skip
        return Insertion(relation, positions, statement.conflict, statement.upsert, params, statement.alias), rows

    def _return(self, relation: Relation, statement: Statement, params: Any) -> None:
        """The rows of RETURNING."""
        connection = self.connection
        part, rows = statement.returning_text, connection.writer.returned
        assert part is not None
        assert rows is not None
        plain = _plain_columns(relation, statement)
        if plain is not None:
            self.description = tuple((name, *[None] * 6) for name, _ in plain)
            picked = [at for _, at in plain]
            self._rows = iter([tuple([row[at] for at in picked]) for row in rows])
            return
        connection.rowsets["returning"] = rows
        source = virtual.rows_table(connection, relation, "returning")
        name = quoted(statement.alias or relation.name)
        sql = f"select {part.text} from {source} as {name}"
        text, params = functions.prepared_over_rows(sql, connection, part.pick(params), relation, {"returning": source})
        table = f"{quoted(relation.schema)}.{quoted(relation.name)}"
        declared = f"select {part.text} from {table} as {name}"
        self._rows = _all(self._read(connection.main, text, params, sql, declared=declared))

    # ------------------------------------------------------------------------------------------ other statements

    def _transaction(self, statement: Statement) -> None:
        connection = self.connection
        assert statement.transaction is not None
        savepoint = statement.transaction.savepoint or ""
        match statement.transaction.verb:
            case "begin":
                if connection.in_transaction and connection._explicit:
                    raise OperationalError("cannot start a transaction within a transaction")
                connection._explicit = True
                _ = connection.txn
            case "commit":
                connection.commit()
            case "rollback":
                connection.rollback()
            case "savepoint":
                connection.savepoint(savepoint)
            case "release":
                connection.release(savepoint)
            case "rollback to":
                connection.rollback_to(savepoint)

    def _pragma(self, sql: str, statement: Statement) -> None:
        connection = self.connection
        assert statement.pragma is not None
        name, argument = statement.pragma.name, statement.pragma.value
        if name in ("foreign_keys", "defer_foreign_keys"):
            if argument is None:
                value = connection.foreign_keys if name == "foreign_keys" else connection.references.deferred
                self.description = ((name, *[None] * 6),)
                self._rows = iter([(int(value),)])
                return
            on = argument.lower() in ("on", "1", "true", "yes")
            if name == "foreign_keys":
                connection.foreign_keys = on
                connection.main.execute(f"pragma foreign_keys = {int(on)}")  # of temporary tables
            else:
                connection.references.deferred = on
            return
        if name == "foreign_key_check":
            self.description = tuple((column, *[None] * 6) for column in ("table", "rowid", "parent", "fkid"))
            self._rows = iter(self._checked(sql, statement.pragma))
            return
        if name not in PRAGMAS:
            raise NotSupportedError(
                f"PRAGMA {name} is not supported: it is about SQLite's files, and the rows are in"
                f" {connection.store.name} (durability, sizes and caches are options of the store's URL)",
                pragma=name,
            )
        if name in SCHEMA_PRAGMAS:
            connection.shadow.ensure_all()
        else:
            connection._ensure(sql, statement)
        self._rows = _all(self._read(connection.shadow.db, sql, None))

    def _checked(self, sql: str, pragma: PragmaText) -> list[Any]:
        """The rows of ``PRAGMA foreign_key_check``, of one table or of all in a schema."""
        connection = self.connection
        connection.shadow.ensure_all()
        connection.shadow.db.execute(sql).fetchall()  # without rows, but it knows names and keys that are wrong
        if pragma.value is not None:
            named = connection.relation(pragma.schema, pragma.value)
            relations = [] if named is None else [named]  # a temporary table or a view has none to tell of
        else:
            schema = folded(pragma.schema or MAIN)
            entries = [each for each in connection.catalog.entries.values() if each.definition.sql_name[0] == schema]
            relations = [connection.shadow.relation_of(entry) for entry in entries]
        return [row for relation in relations for row in connection.references.violations(relation)]

    # ------------------------------------------------------------------------------------------ many

    def executemany(self, sql: str, params: Iterable[Any]) -> Self:
        """Run a statement for each set of parameters; an INSERT of plain values takes them all at once."""
        connection = self._check()
        self._rows = None
        self.description, self.rowcount = None, -1
        try:
            _check_text(sql)
            if not isinstance(params, Iterable):
                raise ProgrammingError(f"executemany() takes sets of parameters, not {type(params).__name__}")
            if connection.owner is not None:
                connection.owner.before_statement()
            statement = parse(sql)
            if statement.kind in ("select", "explain"):
                raise ProgrammingError("executemany() runs statements that write; this one reads")
            if self._is_bulk(statement):
                self._bulk(sql, statement, params)
                return self
            changed = 0
            for each in params:
                self._run(sql, statement, statement.bind(adapted(each)))
                changed += max(self.rowcount, 0)
            self._rows, self.description = None, None
            self.rowcount = changed
        except FAILURES as error:
            self._failed(error)
        del connection
        return self

    def _is_bulk(self, statement: Statement) -> bool:
        return (
            statement.kind == "insert"
            and statement.simple_values is not None
            and statement.simple_values[0] == 1
            and not statement.upsert
            and not statement.returning
            and statement.conflict in (None, "ABORT")
        )

    def _bulk(self, sql: str, statement: Statement, params: Iterable[Any]) -> None:
        connection = self.connection
        rows = list(params)
        if not plain_rows(rows, len(statement.parameters)):
            rows = [statement.bind(adapted(each)) for each in rows]
        if connection.autocommit and connection._txn is not None:
            connection.drain()
            connection.rollback()
        attempts = Attempts(None, _PATIENCE)
        while True:
            try:
                self._bulk_once(sql, statement, rows)
                if connection.autocommit:
                    connection.commit()
                return
            except BaseException as error:
                if not connection.autocommit:
                    raise
                if connection._txn is not None:
                    connection.rollback()
                if not attempts.again(error):
                    raise
            time.sleep(attempts.pause())

    def _bulk_once(self, sql: str, statement: Statement, rows: list[Any]) -> None:
        connection = self.connection
        _ = connection.txn
        connection._ensure(sql, statement)
        assert statement.table is not None
        relation = None
        if not (connection.has_temporary and connection.is_temporary(statement.table)):
            relation = connection.relation(statement.schema, statement.table)
        if relation is None:
            changed = 0
            for row in rows:
                self._write_temporary(sql, statement, row)
                changed += self.rowcount
            self.rowcount = changed
            return
        connection._validate(sql, statement, relation)
        if not rows:
            self.rowcount = 0
            return
        insertion, _first = self._insertion(relation, statement, rows[0])
        writer = connection.writer
        writer.begin()
        with self._atomic(None):
            writer.insert_rows(insertion, rows)
        self.rowcount, self.lastrowid = writer.count, writer.lastrowid
        connection.counted(writer.count, last=min(writer.count, 1))  # as if they had come one by one

    # ------------------------------------------------------------------------------------------ reading

    def fetchone(self) -> Any:
        """The next row, or None."""
        rows = self._readable()
        try:
            row = next(rows, None)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            self._failed_reading(error)
        if row is None:
            self._read_all()
        return row

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next rows, at most ``size``."""
        readable = self._readable()
        wanted = self.arraysize if size is None else size
        if wanted < 0:
            raise ProgrammingError(f"fetchmany() takes a number of rows from 0, not {wanted}")
        try:
            rows = list(islice(readable, wanted))
        except BaseException as error:  # noqa: BLE001 - it is raised again
            self._failed_reading(error)
        if len(rows) < wanted:
            self._read_all()
        return rows

    def fetchall(self) -> list[Any]:
        """The rest of the rows."""
        readable = self._readable()
        try:
            rows = list(readable)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            self._failed_reading(error)
        self._read_all()
        return rows

    def _readable(self) -> Iterator[Any]:
        self._check()
        if self._rows is None:
            if self.streaming:
                return iter(())  # SQLAlchemy fetches from a stream before it looks whether there are rows
            raise ProgrammingError("there are no rows to fetch: no statement was run, or one that gives none")
        return self._rows

    def _read_all(self) -> None:
        """Nothing is left to read: in AUTOCOMMIT the statement's transaction ends."""
        self._rows = iter(())
        connection = self.connection
        if connection.autocommit and connection._txn is not None and not connection.borrowed:
            connection.rollback()

    def _drain(self) -> None:
        """Read the rest of the rows into memory: the transaction ends, or the schema changes."""
        rows = self._rows
        if rows is None or isinstance(rows, _IN_MEMORY):
            return
        read: list[Any] = []
        try:
            read.extend(rows)
        except Exception as error:  # noqa: BLE001 - it is raised where the rows are asked for
            self._let_go()
            known = translated(error)
            if known is not error:
                known.__cause__ = error
            self._rows = Unreadable(known, read)
        except BaseException:
            self._let_go()
            self._rows = Unreadable(OperationalError("the rows were not read to their end: that was broken off"))
            raise
        else:
            self._rows = iter(read)

    def _rolled_back(self) -> None:
        """The transaction is rolled back."""
        if not self.streaming:
            self._drain()
        elif self._rows is not None and not isinstance(self._rows, _IN_MEMORY):
            self._let_go()
            self._rows = Unreadable(
                ProgrammingError(
                    "the transaction was rolled back before all rows of this stream were read (read them first, or"
                    " commit)"
                )
            )

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    def close(self) -> None:
        """Close the cursor; the rows not yet read are gone, and in AUTOCOMMIT the transaction that read them."""
        unread = self._rows is not None and not isinstance(self._rows, _IN_MEMORY)
        self.closed = True
        self._let_go()
        connection = self.connection
        if unread and connection.autocommit and connection._txn is not None and not connection.borrowed:
            connection.rollback()

    def _let_go(self) -> None:
        rows, self._rows = self._rows, None
        if isinstance(rows, apsw.Cursor):
            rows.close(True)  # also after an error, whose traceback would keep SQLite's lock
        elif (close := getattr(rows, "close", None)) is not None:
            close()

    def setinputsizes(self, sizes: Any) -> None:
        """PEP 249's; nothing to do."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """PEP 249's; nothing to do."""

    def _check(self) -> Connection:
        if self.closed:
            raise ProgrammingError("the cursor is closed; make another one")
        self.connection._check_open()
        return self.connection

    def _failed_reading(self, error: BaseException) -> NoReturn:
        """As :meth:`_failed`; there are no more rows, and nothing of SQLite's is open on them."""
        if not isinstance(self._rows, Unreadable):
            self._let_go()
            self._rows = iter(())
        self._failed(error)

    def _failed(self, error: BaseException) -> NoReturn:
        """Raise an error as one of PEP 249's."""
        self.connection.strict_uint64 = False
        known = translated(error)
        if known is error:
            raise error
        raise known from error


def _all(rows: Any) -> Iterator[Any]:
    """The rows of a cursor of SQLite's, read to their end."""
    try:
        return iter(list(rows))
    finally:
        rows.close(True)


def _check_text(sql: Any) -> None:
    if not isinstance(sql, str):
        raise ProgrammingError(f"a statement is a str, not {type(sql).__name__}")


def _position(relation: Relation, name: str) -> int:
    found = relation.positions.get(folded(name))
    if found is None:
        if folded(name) in ROWID_NAMES and relation.rowid:
            return -1 if relation.alias is None else relation.alias
        raise OperationalError(f"table {relation.name} has no column named {name}")
    return found


def _plain_columns(relation: Relation, statement: Statement) -> list[tuple[str, int]] | None:
    """Names and positions of what RETURNING asks for, where these are plain columns."""
    found = []
    for item in statement.returning:
        if item.star:
            found += [(column.name, at) for at, column in enumerate(relation.columns)]
            continue
        at = None if item.column is None else relation.positions.get(folded(item.column))
        if at is None and item.column is not None and folded(item.column) in ROWID_NAMES:
            at = relation.alias
        if at is None:
            return None
        found.append((item.alias or relation.columns[at].name, at))
    return found
