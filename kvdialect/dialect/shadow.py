"""The schema as SQLite sees it: virtual tables in ``main``, and the same tables, real and empty, in ``shadow``.

SQLite reads rows through virtual tables, which can have no CHECK, generated column or default and which it cannot
alter. So a second database in memory has the tables as they were declared, without rows: it parses DDL, answers
reflection, and works out what a row derives from its values (:meth:`Shadow.derive`).

Both are filled as statements name tables and views, so that connecting to a store costs nothing per table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import apsw
import attrs

from kvdialect import exc
from kvdialect.dialect import ddltext, recordtables, virtual
from kvdialect.dialect.relations import ROWID_NAMES, Relation, SqlColumn, relation_of
from kvdialect.schema.definition import ROWID, TableDefinition
from kvdialect.schema.names import folded
from kvdialect.schema.tokens import quoted
from kvdialect.store.catalog import Catalog, View
from kvdialect.store.entries import TableEntry
from kvdialect.store.links import MAIN, sql_name

if TYPE_CHECKING:
    from kvdialect.dialect.connection import Connection

_AUTOINDEX: Final = "sqlite_autoindex_"


def catalog_name(schema: str, name: str) -> str:
    """The name that a table or view has in the catalog."""
    return name if folded(schema) == MAIN else f"{folded(schema)}\0{name}"


@attrs.frozen(eq=False)
class Names:
    """The tables and views of one catalog by the names that SQL knows them by, in lower case; and tables by id."""

    tables: Mapping[tuple[str, str], TableEntry]
    numbered: Mapping[int, TableEntry]
    views: Mapping[tuple[str, str], View]
    words: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, catalog: Catalog) -> Names:
        found = _names.get(catalog)
        if found is None:
            tables = {_lower(key): entry for key, entry in catalog.entries.items()}
            numbered = {entry.definition.id: entry for entry in catalog.entries.values()}
            views = {_lower(key): view for key, view in catalog.views.items()}
            words: dict[str, tuple[str, ...]] = {}
            for key in (*catalog.entries, *catalog.views):
                for word in _words(catalog, key):
                    words[word] = (*words.get(word, ()), key)
            found = _names[catalog] = cls(tables, numbered, views, words)
        return found

    @classmethod
    def follow(cls, before: Catalog, after: Catalog, changed: Iterable[str]) -> None:
        """Make the names of a catalog of those of an earlier one, which has nothing else otherwise than ``changed``."""
        known = cls.of(before)
        tables, numbered = dict(known.tables), dict(known.numbered)
        views, words = dict(known.views), dict(known.words)
        for key in dict.fromkeys(changed):
            for word in _words(before, key):
                words[word] = tuple(each for each in words[word] if each != key)
                if not words[word]:
                    del words[word]
            if key in before.entries:
                del numbered[before.entries[key].definition.id]
            tables.pop(_lower(key), None)
            views.pop(_lower(key), None)
        for key in dict.fromkeys(changed):
            for word in _words(after, key):
                words[word] = (*words.get(word, ()), key)
            if key in after.entries:
                tables[_lower(key)] = numbered[after.entries[key].definition.id] = after.entries[key]
            if key in after.views:
                views[_lower(key)] = after.views[key]
        _names[after] = cls(tables, numbered, views, words)


def _words(catalog: Catalog, key: str) -> set[str]:
    """The names that stand for a table or a view: its own and those of its indexes."""
    entry = catalog.entries.get(key)
    if entry is None:
        return {folded(sql_name(key)[1])} if key in catalog.views else set()
    return {folded(sql_name(key)[1]), *(folded(index.name) for index in entry.definition.indexes)}


_names: WeakKeyDictionary[Catalog, Names] = WeakKeyDictionary()
_relations: WeakKeyDictionary[TableEntry, Relation] = WeakKeyDictionary()


def _lower(key: str) -> tuple[str, str]:
    schema, name = sql_name(key)
    return folded(schema), folded(name)


def _kind(entry: TableEntry | View) -> str:
    return "view" if isinstance(entry, View) else "table"


class Shadow:
    """The two databases of one connection, as far as they are filled.

    Attributes:
        db: the tables as declared, without rows.
        main: the virtual tables, on which statements run.
        loaded: what both have, by its name in the catalog: an entry of a table, or a view.
        schemas: names of the schemas beside main.
    """

    def __init__(self, connection: Connection, main: Any, schemas: Sequence[str]) -> None:
        self._connection = connection
        self.main = main
        self.db: Any = apsw.Connection(":memory:", statementcachesize=200)
        self.schemas = tuple(schemas)
        for schema in schemas:
            for db in (self.main, self.db):
                db.execute(f"attach ':memory:' as {quoted(schema)}")
        self.loaded: dict[str, TableEntry | View] = {}
        self._torn: dict[str, str] = {}  # what loading or unloading was broken off of, as by an interrupt: its kind
        self._complete: Catalog | None = None
        self._derivations: WeakKeyDictionary[TableEntry, _Derivation] = WeakKeyDictionary()

    def close(self) -> None:
        self.db.close()

    # ------------------------------------------------------------------------------------------ filling

    def ensure(self, identifiers: Iterable[str]) -> None:
        """Load the tables and views that these names, in lower case, may stand for."""
        words = Names.of(self._connection.catalog).words
        for word in identifiers:
            for key in words.get(word, ()):
                self.load(key)

    def ensure_all(self) -> None:
        """Load everything."""
        catalog = self._connection.catalog
        if self._complete is not catalog:
            for key in (*catalog.entries, *catalog.views):
                self.load(key)
            self._complete = catalog

    def load(self, key: str) -> None:
        """Load a table or a view, with what it is made of."""
        catalog = self._connection.catalog
        wanted: TableEntry | View | None = catalog.entries.get(key) or catalog.views.get(key)
        has = self.loaded.get(key)
        if has is wanted:
            return
        if has is not None:
            self.unload(key)
        if key in self._torn:
            self._drop(key, self._torn[key])
        if wanted is None:
            return
        schema, name = sql_name(key)
        if schema != MAIN and schema not in self.schemas:
            raise exc.ProgrammingError(
                f"the store's schema {schema!r} is not open on this connection; open it with schemas={schema!r} in the"
                " URL",
                schema=schema,
            )
        self._torn[key] = _kind(wanted)
        self.loaded[key] = wanted  # a view may name itself
        try:
            self._create(schema, name, wanted)
        except BaseException:
            self.loaded.pop(key, None)
            raise
        self._torn.pop(key, None)

    def _create(self, schema: str, name: str, wanted: TableEntry | View) -> None:
        if isinstance(wanted, View):
            statement = ddltext.stored(wanted.statement, "VIEW", schema)
            self.ensure(ddltext.identifiers(wanted.statement) - {folded(name)})
            self.db.execute(statement)
            self.main.execute(self.shown_view(statement, schema, name))
            return
        self._create_shadow(wanted.definition, schema)
        relation = self._relation(wanted)
        self.main.execute(virtual.create_statement(relation))

    def shown_view(self, statement: str, schema: str, name: str) -> str:
        """The statement that gives ``main`` a view which the other database has.

        A rowid in it is called as its INTEGER PRIMARY KEY is, which no virtual table has.
        """
        if ROWID_NAMES.isdisjoint(ddltext.identifiers(statement)):
            return statement
        try:
            rows = self.db.execute(f"pragma {quoted(schema)}.table_info({quoted(name)})").fetchall()
        except apsw.Error:
            return statement  # it names what is not there
        return ddltext.with_columns(statement, [row[1] for row in rows])

    def _create_shadow(self, definition: TableDefinition, schema: str) -> None:
        if definition.statement is None:
            self.db.execute(ddltext.stored(recordtables.create_statement(definition), "TABLE", schema))
            for statement in recordtables.index_statements(definition):
                self.db.execute(ddltext.stored(statement, "INDEX", schema))
            return
        self.db.execute(ddltext.stored(definition.statement, "TABLE", schema))
        for index in definition.indexes:
            if index.statement is not None:
                self.db.execute(ddltext.stored(index.statement, "INDEX", schema))

    def unload(self, key: str) -> None:
        """Forget a table or a view."""
        has = self.loaded.pop(key, None)
        if has is not None:
            self._drop(key, _kind(has))

    def _drop(self, key: str, kind: str) -> None:
        self._torn[key] = kind
        schema, name = sql_name(key)
        for db in (self.main, self.db):
            db.execute(f"drop {kind} if exists {quoted(schema)}.{quoted(name)}")
        del self._torn[key]

    def unloaded(self, loaded: Mapping[str, TableEntry | View]) -> None:
        """Both databases were rolled back to where they had these tables and views."""
        self.loaded = dict(loaded)
        self._torn.clear()
        self._complete = None

    def adopt(self, catalog: Catalog) -> None:
        """Forget what a catalog that takes the place of the present one has not, or has otherwise."""
        gone = [
            key for key, has in self.loaded.items() if (catalog.entries.get(key) or catalog.views.get(key)) is not has
        ]
        if gone:
            # Loading a view loads what it is made of, so views go with their tables.
            gone += [key for key, has in self.loaded.items() if isinstance(has, View)]
        for key in gone:
            self.unload(key)

    @contextmanager
    def foreign_keys(self, *, deferred: bool) -> Iterator[None]:
        """Within, SQLite minds foreign keys as it prepares statements; a PRAGMA would do nothing in a transaction."""
        self.db.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1)
        self.db.execute(f"pragma defer_foreign_keys = {int(deferred)}")
        try:
            yield
        finally:
            self.db.execute("pragma defer_foreign_keys = 0")
            self.db.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 0)

    # ------------------------------------------------------------------------------------------ relations

    def relation(self, schema: str | None, name: str) -> Relation | None:
        """The table of this name, or None; without a schema it is looked for in main first."""
        tables = Names.of(self._connection.catalog).tables
        wanted = folded(name)
        for each in (MAIN, *self.schemas) if schema is None else (folded(schema),):
            entry = tables.get((folded(each), wanted))
            if entry is not None:
                return self.relation_of(entry)
        return None

    def relation_of(self, entry: TableEntry) -> Relation:
        """An entry of the catalog as SQL sees it."""
        relation = _relations.get(entry)
        if relation is None:
            self.load(entry.definition.name)
            relation = self._relation(entry)
        return relation

    def _relation(self, entry: TableEntry) -> Relation:
        relation = _relations.get(entry)
        if relation is None:
            relation = _relations[entry] = relation_of(entry, self.columns(entry.definition))
        return relation

    def columns(self, definition: TableDefinition) -> tuple[SqlColumn, ...]:
        """The columns of a table that is loaded, as SQL sees them."""
        if definition.statement is None:
            return recordtables.columns(definition)
        schema, name = sql_name(definition.name)
        return read_columns(self.db, schema, name)

    # ------------------------------------------------------------------------------------------ derived values

    def derivation(self, entry: TableEntry) -> _Derivation | None:
        """What works out the rows of a table; None where rows are what they are given as."""
        definition = entry.definition
        if definition.statement is None:
            return None
        found = self._derivations.get(entry)
        if found is None:
            self.load(definition.name)
            found = self._derivations[entry] = _Derivation(self.db, definition, self.columns(definition))
        return found if found.needed else None


class _Derivation:
    """Makes a row of an SQL table whole: CHECKs tested, generated columns and the values of its indexes worked out.

    The row is inserted into the empty table of the shadow, which returns it, and is deleted again.
    """

    def __init__(self, db: Any, definition: TableDefinition, columns: Sequence[SqlColumn]) -> None:
        assert definition.statement is not None
        text = ddltext.table_facts(definition.statement)
        hidden = [field for field in definition.fields if field.hidden and field.name != ROWID]
        self.needed = bool(hidden) or text.has_check or text.has_generated or text.strict
        self._db = db
        schema, name = sql_name(definition.name)
        table = f"{quoted(schema)}.{quoted(name)}"
        self.given = tuple(at for at, column in enumerate(columns) if not column.generated)
        expressions = [quoted(column.name) for column in columns]
        sources = _hidden_sources(definition)
        expressions += [sources[field.name] for field in hidden]
        names = ", ".join(quoted(columns[at].name) for at in self.given)
        marks = ", ".join("?" for _ in self.given)
        self._insert = f"insert into {table} ({names}) values ({marks}) returning {', '.join(expressions)}"
        self._delete = f"delete from {table}"

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        """The visible values of a row, after it was checked, and those of the hidden fields behind them.

        Raises:
            apsw.ConstraintError: for a CHECK, or a type of a STRICT table.
        """
        db = self._db
        row = db.execute(self._insert, tuple([values[at] for at in self.given])).fetchall()
        db.execute(self._delete)
        return list(row[0])


def _hidden_sources(definition: TableDefinition) -> dict[str, str]:
    """The SQL of each hidden field."""
    sources: dict[str, str] = {}
    for index in definition.indexes:
        if index.statement is None:
            continue
        text = ddltext.index_facts(index.statement)
        for number, expression in enumerate(text.expressions):
            sources[hidden_name(index.name, number)] = f"({expression})"
        if text.where is not None:
            sources[hidden_name(index.name, "where")] = f"(({text.where}) is true)"
    return sources


def hidden_name(index: str, part: int | str) -> str:
    """Name of the hidden field of an index's part, or of its WHERE."""
    return f"\0{index}\0{part}"


def read_columns(db: Any, schema: str, name: str) -> tuple[SqlColumn, ...]:
    """The columns of a real table, as SQLite tells them."""
    columns = []
    rows = db.execute(f"pragma {quoted(schema)}.table_xinfo({quoted(name)})").fetchall()
    strict = db.execute("select strict from pragma_table_list(?) where schema = ?", (name, schema)).fetchall()
    without_alias = _keyed_by_index(db, schema, name)
    for _, column, declared, not_null, default, key, hidden in rows:
        collation = db.column_metadata(schema, name, column)[1]
        alias = bool(key) and not without_alias
        shown = declared
        generated = hidden in (2, 3)
        if generated and shown.upper().endswith("GENERATED ALWAYS"):
            shown = shown[: -len("GENERATED ALWAYS")].rstrip()
        columns.append(
            SqlColumn(
                name=column,
                declared=shown,
                affinity="BLOB" if strict == [(1,)] and shown.upper() == "ANY" else affinity_of(shown),
                collation=collation.upper(),
                nullable=alias or not not_null,
                default=default,
                generated=generated,
            )
        )
    return tuple(columns)


def _keyed_by_index(db: Any, schema: str, name: str) -> bool:
    """True unless the table's primary key is an alias of its rowid."""
    return any(row[3] == "pk" for row in db.execute(f"pragma {quoted(schema)}.index_list({quoted(name)})").fetchall())


def affinity_of(declared: str) -> str:
    """The affinity of a declared type, by SQLite's rules (https://www.sqlite.org/datatype3.html#determination)."""
    text = folded(declared)
    if "int" in text:
        return "INTEGER"
    if "char" in text or "clob" in text or "text" in text:
        return "TEXT"
    if "blob" in text or not text:
        return "BLOB"
    if "real" in text or "floa" in text or "doub" in text:
        return "REAL"
    return "NUMERIC"
