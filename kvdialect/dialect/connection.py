"""Connections: one transaction at a time, and the two databases of SQLite that see its tables."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import apsw

from kvdialect import exc
from kvdialect.dialect import direct, floattext, functions, virtual
from kvdialect.dialect.cursor import Cursor
from kvdialect.dialect.ddl import SchemaStatements
from kvdialect.dialect.foreignkeys import ForeignKeys
from kvdialect.dialect.matching import Matches
from kvdialect.dialect.relations import Relation
from kvdialect.dialect.shadow import Names, Shadow
from kvdialect.dialect.statements import SCHEMA_SOURCES, Statement
from kvdialect.dialect.writing import Writer
from kvdialect.exc import IntegrityError, NotSupportedError, OperationalError, ProgrammingError
from kvdialect.schema.names import folded
from kvdialect.schema.sqlrows import HIGHEST
from kvdialect.schema.tokens import quoted
from kvdialect.storage.batch import decode_counter
from kvdialect.storage.engine import Children
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store import sqlschema
from kvdialect.store.catalog import INTENT, Catalog
from kvdialect.store.engine import Engine
from kvdialect.store.entries import TableEntry
from kvdialect.store.transaction import Transaction
from kvdialect.store.writer import commit as commit_transaction

_VALUE_WORDS: Final = frozenset(("NULL", "TRUE", "FALSE", "CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP"))
"""Words that are no text where they are a DEFAULT."""

_LAST_OBSERVED: Final = HIGHEST - (1 << 40)

ISOLATION_LEVELS: Final = ("SNAPSHOT", "SERIALIZABLE", "AUTOCOMMIT")

floattext.install()


class Warning(Exception):  # noqa: A001 - PEP 249's name
    """PEP 249's Warning, which is no error; never raised."""


class _Savepoint:
    __slots__ = ("catalog", "loaded", "mark", "name", "references", "temporary")

    def __init__(self, name: str, mark: int, references: Any) -> None:
        self.name, self.mark, self.references = name, mark, references
        self.catalog: Catalog | None = None
        self.loaded: dict[str, Any] = {}
        self.temporary = False


class Connection:
    """A connection to a store. Not for several threads at once.

    Attributes:
        store: the engine.
        txn: the transaction, once one has begun.
        catalog: the tables and views as the transaction sees them.
        main: SQLite with the virtual tables.
        shadow: the schema, see ``kvdialect.dialect.shadow``.
        writer: writes rows.
        references: watches over foreign keys.
        foreign_keys: foreign keys are enforced (``PRAGMA foreign_keys``).
        borrowed: the transaction belongs to someone else.
        owner: who lent the transaction, see :meth:`borrow`; None: nobody that has to be told.
        rowsets: rows that a statement reads as a table, for RETURNING and upserts.
        reading: a query runs, which writes nothing.
        statement: what runs; None: nothing has yet.
        matches: rows by columns without an index, for the statement that runs.
        explained: the plans of the statement that is being explained; None where none is.
        strict_uint64: reading an integer that SQLite cannot calculate with is an error.
    """

    Warning = Warning
    Error = exc.Error
    InterfaceError = exc.InterfaceError
    DatabaseError = exc.DatabaseError
    InternalError = exc.InternalError
    OperationalError = exc.OperationalError
    ProgrammingError = exc.ProgrammingError
    IntegrityError = exc.IntegrityError
    DataError = exc.DataError
    NotSupportedError = exc.NotSupportedError

    def __init__(
        self,
        store: Engine,
        *,
        owned: bool = False,
        borrowed: Transaction | None = None,
        schemas: Sequence[str] = (),
        isolation_level: str | None = None,
    ) -> None:
        self.store = store
        self._owned = owned
        self.borrowed = False
        self._isolation_level = _checked_level(isolation_level or store.isolation_level)
        self._explicit = False  # BEGIN was said in AUTOCOMMIT mode
        self._by_savepoint = False  # or SAVEPOINT was
        self.closed = False
        self._txn: Transaction | None = None
        self.catalog: Catalog = store.catalog
        self._committed: Catalog = store.catalog
        names = [folded(schema) for schema in schemas]
        if len(set(names)) < len(names) or not {"main", "temp"}.isdisjoint(names):
            raise ProgrammingError(
                f"schemas={list(schemas)!r}: give each name once, and not main or temp, which are there anyway"
            )
        self.main: Any = apsw.Connection(":memory:", statementcachesize=500)
        self.shadow = Shadow(self, self.main, names)
        self._changed: int = 0
        self._changed_in_all: int = 0
        for db in (self.main, self.shadow.db):
            functions.register(db)
            db.create_scalar_function("last_insert_rowid", lambda *_: self._last_rowid(), 0)
            db.create_scalar_function("changes", lambda *_: self._changed, 0)
            db.create_scalar_function("total_changes", lambda *_: self._changed_in_all, 0)
        self.main.execute("pragma case_sensitive_like = on")
        functions.register_like(self.shadow.db)
        self.main.execute("pragma foreign_keys = on")  # of temporary tables
        virtual.register(self)
        self.foreign_keys = True
        self.references = ForeignKeys(self)
        self.writer = Writer(self)
        self._ddl = SchemaStatements(self)
        self.rowsets: dict[str, list[Any]] = {}
        self.strict_uint64 = False
        self.changes: dict[tuple[int, Any], Callable[[], None]] | None = None
        self.reading = False
        self.statement: Statement | None = None
        self.matches = Matches(self)
        self.has_temporary = False
        self.explained: list[Any] | None = None
        self._sqlite_begun = False
        self._before: _Savepoint | None = None
        self._savepoints: list[_Savepoint] = []
        self._cursors = Children()
        self._plans: dict[str, tuple[Catalog, Any]] = {}
        self._seen: dict[str, Catalog] = {}
        self._validated: dict[str, Catalog] = {}
        self._descriptions: dict[str, tuple[Catalog, Any]] = {}
        self._local_ids: dict[int, Any] = {}
        self.owner: Any = None
        self._defaults: weakref.WeakKeyDictionary[Relation, dict[int, tuple[bool, Any]]] = weakref.WeakKeyDictionary()
        if borrowed is not None:
            self.borrow(borrowed)

    # ------------------------------------------------------------------------------------------ what others ask

    @property
    def txn(self) -> Transaction:
        """The transaction; it begins when it is first asked for."""
        txn = self._txn
        return txn if txn is not None else self._begin()

    @property
    def in_transaction(self) -> bool:
        """True once a statement was run, until commit or rollback."""
        return self._txn is not None

    def relation(self, schema: str | None, name: str) -> Relation | None:
        return self.shadow.relation(schema, name)

    def relation_named(self, name: str) -> Relation | None:
        """The table of a name in the catalog."""
        entry = self.catalog.entries.get(name)
        return None if entry is None else self.shadow.relation_of(entry)

    def relation_by_id(self, number: int) -> Relation:
        """The table of an id in the catalog.

        Raises:
            OperationalError: if there is none.
        """
        entry = Names.of(self.catalog).numbered.get(number)
        if entry is None:
            raise OperationalError(f"no table has the id {number}: it was dropped")
        return self.shadow.relation_of(entry)

    def entry_of(self, relation: Relation) -> TableEntry:
        return self.catalog.entries[relation.stored.name]

    def row_count(self, relation: Relation) -> int:
        """About how many rows a table has; nothing that the commit expects to stay so."""
        key = relation.stored.count_key
        if key is None:
            return 1000
        txn = self.txn
        return decode_counter(txn.snapshot.get(RESERVED_FAMILY, key)) + txn.deltas.get(key, 0)

    def default(self, relation: Relation, at: int) -> tuple[bool, Any]:
        """Whether a column's default is a constant, and its value."""
        known = self._defaults.get(relation)
        if known is None:
            known = self._defaults[relation] = {}
        found = known.get(at)
        if found is None:
            text = relation.columns[at].default
            assert text is not None
            constant = "(" not in text and "current_" not in text.lower()
            found = (constant, self.evaluate(text))
            if constant:
                known[at] = found
        return found

    def evaluate(self, expression: str) -> Any:
        """The value of a DEFAULT; a word alone is text, as SQLite has it."""
        if re.fullmatch(r"[A-Za-z_]\w*", expression) and expression.upper() not in _VALUE_WORDS:
            return expression
        [(value,)] = self.main.execute(f"select {expression}").fetchall()
        return value

    def take_ids(self, relation: Relation, count: int) -> Iterable[int]:
        """Ids that no row has."""
        return self._ids(relation).take(count)  # type: ignore[no-any-return]

    def observe_id(self, relation: Relation, given: int) -> None:
        """Note an id that was given explicitly, so that it is not given again.

        One near the end is passed over: ids up to it are never reached, but behind it there would be none left.
        """
        if given <= _LAST_OBSERVED:
            self._ids(relation).observe(given)

    def _ids(self, relation: Relation) -> Any:
        number = relation.stored.definition.id
        local = self._local_ids.get(number)
        if local is not None:
            return local
        entry = Names.of(self._committed).numbered.get(number)
        if entry is not None:
            return self.store.allocator(entry.table)
        local = self._local_ids[number] = sqlschema.LocalIds(self.txn, relation.stored)
        return local

    def counted(self, count: int, *, last: int | None = None) -> None:
        """Note how many rows were changed, for ``total_changes()``, and by the last statement, for ``changes()``."""
        self._changed = count if last is None else last
        self._changed_in_all += count

    def _last_rowid(self) -> int:
        return self.writer.lastrowid or 0

    # ------------------------------------------------------------------------------------------ transactions

    @property
    def isolation_level(self) -> str:
        """``"SNAPSHOT"``, ``"SERIALIZABLE"`` or ``"AUTOCOMMIT"``; to be set between transactions."""
        return self._isolation_level

    @isolation_level.setter
    def isolation_level(self, level: str) -> None:
        self._check_open()
        checked = _checked_level(level)
        if checked != self._isolation_level and self._txn is not None and not self.borrowed:
            if checked == "AUTOCOMMIT":
                self.commit()
            else:
                self.drain()
                self.rollback()
        self._isolation_level = checked

    @property
    def autocommit(self) -> bool:
        """Each statement is a transaction of its own."""
        return self._isolation_level == "AUTOCOMMIT" and not self._explicit

    def _begin(self) -> Transaction:
        self._check_open()
        level: Any = "SNAPSHOT" if self._isolation_level == "AUTOCOMMIT" else self._isolation_level
        txn = self.store.new_transaction(level)
        catalog = self.store.catalog_at(txn.snapshot)
        if catalog is not self._committed:
            self.shadow.adopt(catalog)
            self.catalog = self._committed = catalog
        self._txn = txn
        return txn

    def begin_sqlite(self) -> None:
        """Begin a transaction of SQLite's own, for what is written into it: schemas and temporary tables."""
        if self._sqlite_begun:
            return
        self.drain()
        for db in (self.main, self.shadow.db):
            db.execute("begin")
        self._sqlite_begun = True
        self._before = self._state(_Savepoint("", 0, None))
        for savepoint in self._savepoints:
            self._sqlite(f"savepoint {quoted(savepoint.name)}")
            self._state(savepoint)

    def _state(self, savepoint: _Savepoint) -> _Savepoint:
        savepoint.catalog = self.catalog
        savepoint.loaded = dict(self.shadow.loaded)
        savepoint.temporary = self.has_temporary
        return savepoint

    def _restore(self, savepoint: _Savepoint) -> None:
        assert savepoint.catalog is not None
        self.catalog = savepoint.catalog
        self._unloaded(savepoint.loaded)
        self.has_temporary = savepoint.temporary

    def _unloaded(self, loaded: dict[str, Any]) -> None:
        """SQLite has undone the loading of all but these tables and views."""
        self.shadow.unloaded(loaded)
        self._seen.clear()

    def _sqlite(self, sql: str) -> None:
        for db in (self.main, self.shadow.db):
            db.execute(sql)

    def borrow(self, txn: Transaction, owner: Any = None) -> None:
        """Work in a transaction of someone else, who alone commits it and rolls it back, until :meth:`give_back`.

        Args:
            txn: the transaction.
            owner: is told of all that happens in it, if given: ``before_statement()``, ``written(journal)`` and
                ``undone(journal)`` with what :meth:`Transaction.written_since` gives.
        """
        self._check_open()
        if self._txn is not None:
            raise ProgrammingError("the connection is in a transaction of its own: commit it or roll it back first")
        self.borrowed, self.owner, self._txn = True, owner, txn
        catalog = self.store.catalog_at(txn.snapshot)
        if catalog is not self._committed:
            self.shadow.adopt(catalog)
            self.catalog = self._committed = catalog

    def give_back(self, *, committed: bool) -> None:
        """The borrowed transaction is over, committed or not."""
        if self.borrowed:
            self.borrowed, self.owner = False, None
            for cursor in self._cursors:
                cursor.close()
            self._end("commit" if committed else "rollback")

    def commit(self) -> None:
        """Write what is pending, durably, as one batch.

        Raises:
            ConflictError: another transaction came first; this one is over, run it again.
            IntegrityError: a deferred foreign key does not hold; the transaction stays open.
            Error: what the store raises.
        """
        self._check_open()
        txn = self._txn
        if self.borrowed:
            raise ProgrammingError("the transaction belongs to a Session: call session.commit()")
        if txn is None:
            return
        self.drain()
        self.references.check_commit()
        if self._sqlite_begun and self.main.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]:
            raise IntegrityError("FOREIGN KEY constraint failed (in a temporary table)")
        drops = any(key.startswith(INTENT) for key in txn.changes.get(RESERVED_FAMILY, ()))
        try:
            commit_transaction(txn)
        except BaseException:
            self._end("rollback")
            raise
        changed = self.catalog is not self._committed
        self._end("commit")
        if changed:
            self.store.refresh()
            sqlschema.collect(self.store.backend)
        if drops:
            self.store.finish_drops()

    def rollback(self) -> None:
        """Forget what is pending."""
        self._check_open()
        txn = self._txn
        if self.borrowed:
            raise ProgrammingError("the transaction belongs to a Session: call session.rollback()")
        if txn is None:
            return
        try:
            for cursor in self._cursors:
                cursor._rolled_back()
        finally:
            txn.close()
            self._end("rollback")

    def _end(self, how: str) -> None:
        self._txn = None
        self.matches.clear()
        self._explicit = self._by_savepoint = False
        self._savepoints.clear()
        self._local_ids.clear()
        self.references.reset()
        if self._sqlite_begun:
            self._sqlite_begun = False
            self._sqlite(how)
            assert self._before is not None
            if how == "rollback":
                self._restore(self._before)
            elif self.catalog is not self._committed:
                # The next transaction sees the catalog as the store has it: entries of the same bytes stay.
                self.store.refresh()
                self._adopt_committed()
            self._before = None
        self.catalog = self._committed

    def _adopt_committed(self) -> None:
        """Take what was loaded while it was pending for what the store has now."""
        catalog = self.store.catalog
        self._committed = catalog
        for key, has in list(self.shadow.loaded.items()):
            now = catalog.entries.get(key) or catalog.views.get(key)
            if now is not None and now is not has and _same(now, has):
                self.shadow.loaded[key] = now
        self.shadow.adopt(catalog)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """What is written within is undone if it fails."""
        txn = self.txn
        mark = txn.savepoint()
        catalog, loaded = self.catalog, dict(self.shadow.loaded)
        sqlite = self._sqlite_begun
        if sqlite:
            self._sqlite("savepoint _kvdialect_statement")
        try:
            yield
        except BaseException:
            txn.rollback_to(mark)
            if sqlite:
                self._sqlite("rollback to _kvdialect_statement")
                self._sqlite("release _kvdialect_statement")
                self.catalog = catalog
                self._unloaded(loaded)
            raise
        txn.release(mark)
        if sqlite:
            self._sqlite("release _kvdialect_statement")

    @contextmanager
    def outside(self, what: str) -> Iterator[None]:
        """What is done within is done in the store at once; the transaction must have written nothing, and is over."""
        txn = self._txn
        if self.borrowed or (txn is not None and (any(txn.changes.values()) or self.catalog is not self._committed)):
            raise OperationalError(
                f"{what}: the column families of records are made and dropped at once, and this transaction has written"
                " already (commit it first)"
            )
        if self._savepoints:
            raise OperationalError(
                f"{what}: it is done at once and ends the transaction, which has a savepoint (do it outside of that)"
            )
        self.drain()
        yield
        if self._txn is not None:
            self._txn.close()
            self._end("commit")

    def savepoint(self, name: str) -> None:
        if self.autocommit:
            self._explicit = self._by_savepoint = True
        savepoint = _Savepoint(name, self.txn.savepoint(), self.references.savepoint())
        if self._sqlite_begun:
            self._sqlite(f"savepoint {quoted(name)}")
            self._state(savepoint)
        self._savepoints.append(savepoint)

    def _find(self, name: str) -> int:
        savepoints = self._savepoints
        while savepoints and savepoints[-1].mark > self.txn.depth:
            savepoints.pop()  # the owner of the transaction has ended one around it
        for at in range(len(savepoints) - 1, -1, -1):
            if folded(savepoints[at].name) == folded(name):
                return at
        raise OperationalError(f"no such savepoint: {name}")

    def release(self, name: str) -> None:
        at = self._find(name)
        self.txn.release(self._savepoints[at].mark)
        if self._sqlite_begun:
            self._sqlite(f"release {quoted(name)}")
        del self._savepoints[at:]
        if not self._savepoints and self._by_savepoint:
            self.commit()  # as SQLite does with a transaction that its outermost savepoint has begun

    def rollback_to(self, name: str) -> None:
        at = self._find(name)
        savepoint = self._savepoints[at]
        self.drain()
        undone = self.txn.rollback_to(savepoint.mark)
        self.references.rollback_to(savepoint.references)
        savepoint.mark = self.txn.savepoint()
        self._local_ids.clear()
        if self._sqlite_begun:
            self._sqlite(f"rollback to {quoted(name)}")
            self._restore(savepoint)
        del self._savepoints[at + 1 :]
        if self.owner is not None:
            self.owner.undone(undone)

    # ------------------------------------------------------------------------------------------ statements

    def cursor(self, *, streaming: bool = False) -> Cursor:
        """A cursor in this connection's transaction.

        Args:
            streaming: it may have more rows than memory holds: a rollback ends it, where others are read to their end.
        """
        self._check_open()
        return Cursor(self, streaming=streaming)

    def execute(self, sql: str, params: Any = ()) -> Cursor:
        """As ``cursor().execute``."""
        return self.cursor().execute(sql, params)

    def executemany(self, sql: str, params: Iterable[Any]) -> Cursor:
        """As ``cursor().executemany``."""
        return self.cursor().executemany(sql, params)

    def create_function(
        self, name: str, narg: int, func: Callable[..., Any] | None, *, deterministic: bool = False
    ) -> None:
        """Give SQL a function, as :meth:`sqlite3.Connection.create_function` does.

        An error that it raises comes out of the statement as an OperationalError, with it as ``__cause__``.
        """
        guarded = None if func is None else functions.guarded(name, func)
        for db in (self.main, self.shadow.db):
            db.create_scalar_function(name, guarded, narg, deterministic=deterministic)

    def create_collation(self, name: str, func: Callable[[str, str], int] | None) -> None:
        """Give SQL a collation for ORDER BY and comparisons; columns of tables take SQLite's own."""
        guarded = None if func is None else functions.guarded(name, func)
        for db in (self.main, self.shadow.db):
            db.create_collation(name, guarded)

    def is_temporary(self, name: str) -> bool:
        """True if there is a temporary table or view of this name."""
        if not self.has_temporary:
            return False
        found = self.main.execute(
            "select 1 from sqlite_temp_master where lower(name) = ? and type in ('table', 'view')", (folded(name),)
        ).fetchall()
        return bool(found)

    def drain(self) -> None:
        """Read the rest of what open cursors read, which ends with the transaction."""
        for cursor in self._cursors:
            cursor._drain()

    def _ensure(self, sql: str, statement: Statement) -> None:
        """Load what a statement names."""
        if self._seen.get(sql) is self.catalog:
            return
        if statement.reads_schema:
            self.shadow.ensure_all()
        else:
            self.shadow.ensure(statement.identifiers)
        if len(self._seen) > 2000:
            self._seen.clear()
        self._seen[sql] = self.catalog

    def _validate(self, sql: str, statement: Statement, relation: Relation) -> None:
        """Let SQLite check a statement that writes against the tables as declared; the virtual ones know less."""
        count = len(statement.parameters)
        if self._mind_keys(sql, relation, count) or self._validated.get(sql) is self.catalog:
            return
        self._explain(sql, count)
        if len(self._validated) > 2000:
            self._validated.clear()
        self._validated[sql] = self.catalog

    def _mind_keys(self, sql: str, relation: Relation, count: int = 0) -> bool:
        """Let SQLite check a statement that may come upon foreign keys which cannot be used; whether it is one."""
        if not self.foreign_keys or self.references.sound(relation):
            return False
        with self.shadow.foreign_keys(deferred=self.references.deferred):
            self._explain(sql, count)
        return True

    def _explain(self, sql: str, count: int) -> None:
        cursor = self.shadow.db.cursor()
        cursor.execute(f"explain {sql}", (None,) * count or None)
        cursor.close(True)  # what it explains is not read: it shows blobs as text

    def check_sqlite(self) -> None:
        """Roll back if SQLite has ended its own transaction: a conflict in a temporary table, resolved by ROLLBACK."""
        if self._sqlite_begun and not self.main.in_transaction:
            self.main.execute("begin")  # for the end of it
            self.rollback()

    def check_schema_alone(self, statement: Statement) -> None:
        """Raise if a statement reads the schema beside tables, of which there are no rows where it runs.

        Raises:
            NotSupportedError: if it does.
        """
        beside = sorted(
            name
            for name in statement.tables - SCHEMA_SOURCES
            if self.relation(None, name) is not None or name in map(folded, self.catalog.views)
        )
        if beside:
            raise NotSupportedError(
                f"a query of sqlite_master, or of the functions of pragmas, that reads {beside[0]} too (read one after"
                " the other)"
            )

    @contextmanager
    def strictly(self, strict: bool) -> Iterator[None]:
        """Let what SQLite opens within refuse integers that it cannot calculate with, or not."""
        before, self.strict_uint64 = self.strict_uint64, strict
        try:
            yield
        finally:
            self.strict_uint64 = before

    def strict_rows(self, rows: Any) -> Iterator[Any]:
        """Rows of a query that calculates: SQLite opens tables also while it is read."""
        try:
            while True:
                with self.strictly(True):
                    row = next(rows, None)
                if row is None:
                    return
                yield row
        finally:
            rows.close(True)

    @contextmanager
    def once_each(self, joined: bool) -> Iterator[None]:
        """Let an UPDATE with a FROM change each row once, by the last that it matches, after all was read."""
        if not joined:
            yield
            return
        self.changes = {}
        try:
            yield
            changes = self.changes.values()
        finally:
            self.changes = None
        for change in changes:
            change()

    def _plan(self, sql: str, statement: Statement) -> Any:
        """The direct way of a statement, or None."""
        if self.has_temporary:
            return None  # it may be one of these that is meant
        found = self._plans.get(sql)
        if found is not None and found[0] is self.catalog:
            return found[1]
        plan = direct.plan(statement, self)
        if len(self._plans) > 2000:
            self._plans.clear()
        self._plans[sql] = (self.catalog, plan)
        return plan

    def interrupt(self) -> None:
        """End what SQLite runs for this connection, from any thread: the statement is an OperationalError."""
        if not self.closed:
            self.main.interrupt()

    def close(self) -> None:
        """Close the connection; what is pending is lost. Closing twice is harmless."""
        if self.closed:
            return
        try:
            for cursor in self._cursors:
                cursor.close()
            if self._txn is not None and not self.borrowed:
                self._txn.close()
                self._txn = None
        finally:
            self.closed = True
            self.main.close(True)
            self.shadow.close()
            if self._owned:
                self.store.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ProgrammingError("the connection is closed; open another one")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or roll back on an error, as sqlite3's connections do; the connection stays open."""
        if kind is None:
            self.commit()
        else:
            self.rollback()


def _checked_level(level: str) -> str:
    checked = level.upper().replace("_", " ") if isinstance(level, str) else level
    if checked not in ISOLATION_LEVELS:
        raise exc.ArgumentError(f"isolation_level={level!r} is unknown; allowed: {', '.join(ISOLATION_LEVELS)}")
    return checked


def _same(now: Any, has: Any) -> bool:
    if isinstance(now, TableEntry) and isinstance(has, TableEntry):
        return now.raw == has.raw or now.definition == has.definition
    return bool(now == has)
