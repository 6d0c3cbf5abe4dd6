"""CREATE, ALTER and DROP: run on the shadow, and what changed there is written into the catalog.

The changes are part of the transaction, as in SQLite: they are seen by nobody else before the commit, and a rollback
undoes them. Record tables are another matter: their column families are made and dropped at once (see
:mod:`kvdialect.store.ddl`), so DDL on them is refused while the transaction has pending writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from kvdialect import exc
from kvdialect.codec.dynamic import DynamicKind, apply_affinity
from kvdialect.codec.numeric import IntKind
from kvdialect.dialect import ddltext, functions, virtual
from kvdialect.dialect.relations import COLLATIONS, Relation, SqlColumn, real
from kvdialect.dialect.shadow import (
    Names,
    _Derivation,
    catalog_name,
    hidden_name,
    read_columns,
)
from kvdialect.schema.definition import (
    MISSING,
    ROWID,
    FieldDefinition,
    ForeignKeyDefinition,
    IndexDefinition,
    IndexPart,
    TableDefinition,
)
from kvdialect.schema.expressions import Column, Compare, Constant
from kvdialect.schema.names import folded
from kvdialect.schema.tokens import quoted
from kvdialect.store import sqlschema
from kvdialect.store.catalog import Catalog, View
from kvdialect.store.links import MAIN, sql_name

if TYPE_CHECKING:
    from kvdialect.dialect.connection import Connection
    from kvdialect.dialect.statements import Definition, Part, Statement

Key = tuple[str, str]
"""Schema and name."""

Text = tuple[str, tuple[tuple[str, str | None], ...]]
"""CREATE TABLE as SQLite has it, and each index's name and CREATE INDEX; None: a constraint's."""

_CTAS: Final = "_kvdialect_ctas"

_STRICT_TYPES: Final = {"INT": int, "INTEGER": int, "REAL": float, "TEXT": str, "BLOB": bytes, "ANY": object}
"""What the columns of a STRICT table take beside NULL, by their declared type."""


@attrs.define
class _Objects:
    """What the shadow has."""

    tables: dict[Key, Text] = attrs.field(factory=dict)
    views: dict[Key, str] = attrs.field(factory=dict)


_TRANSACTIONAL: Final = frozenset({("create", "table"), ("create", "index"), ("create", "view"), ("drop", "table")})
"""What is done to a table of records within the transaction, or has a way of its own."""


class SchemaStatements:
    """Runs the DDL of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._shadow = connection.shadow
        self._db = connection.shadow.db

    def execute(self, sql: str, statement: Statement, does: Definition, params: Sequence[Any]) -> None:
        """Run a statement of DDL, which does what its definition says."""
        connection = self._connection
        self._shadow.ensure(statement.identifiers)
        if does.temporary or self._of_temporary(does):
            self._temporary(sql, statement, does, params)
            return
        relation = self._target(does)
        if relation is not None and relation.is_record and (does.verb, does.object) not in _TRANSACTIONAL:
            self._change_record(relation, does)
            return
        if relation is not None and relation.is_record and does.object == "index":
            self._index_record(relation, sql, does)
            return
        if connection.borrowed:
            raise exc.NotSupportedError(
                f"{does.verb.upper()} {does.object.upper()} inside a Session's transaction (run it on a connection of"
                " engine.sqlalchemy())"
            )
        connection.begin_sqlite()
        with connection.atomic():
            if does.object == "table" and does.body is not None:
                self._create_as(statement, does, does.body, params)
            else:
                self._change(sql, does)

    def _target(self, does: Definition) -> Relation | None:
        """The table that the statement is about, where it is there."""
        connection = self._connection
        if does.object == "table":
            return connection.relation(does.schema, does.name)
        if does.object == "index":
            if does.verb == "create":
                return connection.relation(does.schema, does.table or "")
            return self._indexed(does.schema, folded(does.name))
        return None

    def _indexed(self, schema: str | None, index: str) -> Relation | None:
        """The table that has an index of this name; without a schema it is looked for in main first."""
        catalog = self._connection.catalog
        entries = [catalog.entries.get(key) for key in Names.of(catalog).words.get(index, ())]
        for each in (MAIN, *self._shadow.schemas) if schema is None else (folded(schema),):
            for entry in entries:
                if (
                    entry is not None
                    and entry.definition.sql_name[0] == each
                    and any(folded(known.name) == index for known in entry.definition.indexes)
                ):
                    return self._shadow.relation_of(entry)
        return None

    # ------------------------------------------------------------------------------------------ temporary tables

    def _of_temporary(self, does: Definition) -> bool:
        """True if the statement names a temporary table, or an index or view of one."""
        connection = self._connection
        if not connection.has_temporary or does.schema is not None:
            return False
        name = does.table if does.object == "index" and does.verb == "create" else does.name
        return name is not None and connection.is_temporary(name)

    def _temporary(self, sql: str, statement: Statement, does: Definition, params: Sequence[Any]) -> None:
        connection = self._connection
        connection.begin_sqlite()
        connection.has_temporary = True
        if does.object != "table" or does.body is None:
            self._db.execute(sql)
            created = does.verb == "create" and does.object == "view"
            connection.main.execute(self._shadow.shown_view(sql, "temp", does.name) if created else sql)
            return
        text, bound, strict = functions.prepared(sql, statement, connection, params)
        with connection.strictly(strict):
            connection.main.execute(text, bound or None)
        columns = connection.main.execute(f"pragma temp.table_info({quoted(does.name)})").fetchall()
        listed = ", ".join(f"{quoted(row[1])} {row[2]}" for row in columns)
        self._db.execute(f"create temp table if not exists {quoted(does.name)} ({listed})")

    # ------------------------------------------------------------------------------------------ tables of SQL

    def _create_as(self, statement: Statement, does: Definition, body: Part, params: Sequence[Any]) -> None:
        """CREATE TABLE AS: the columns that the SELECT gives, then its rows."""
        connection = self._connection
        schema = does.schema or MAIN
        if connection.relation(schema, does.name) is not None:
            if does.guarded:
                return
            raise exc.OperationalError(f"table {does.name} already exists")
        main = connection.main
        text, bound, strict = functions.prepared(body.text, statement, connection, body.pick(params))
        with connection.strictly(strict):
            main.execute(f"create temp table {_CTAS} as {text}", bound or None)
        try:
            columns = main.execute(f"pragma temp.table_info({_CTAS})").fetchall()
            if any(row[1] == "rowid" for row in columns):  # it is called as the tables are declared
                self._db.execute(f"create temp table {_CTAS} as {body.text}", bound or None)
                columns = self._db.execute(f"pragma temp.table_info({_CTAS})").fetchall()
                self._db.execute(f"drop table temp.{_CTAS}")
            listed = ", ".join(f"{quoted(row[1])} {row[2]}" for row in columns)
            created = f"create table {quoted(schema)}.{quoted(does.name)} ({listed})"
            self._change(created, attrs.evolve(does, body=None))
            relation = connection.relation(schema, does.name)
            assert relation is not None
            rows = main.execute(f"select * from temp.{_CTAS}").fetchall()
            connection.writer.load(relation, rows)
        finally:
            main.execute(f"drop table temp.{_CTAS}")

    def _change(self, sql: str, does: Definition) -> None:
        connection = self._connection
        if does.verb == "alter":
            self._shadow.ensure_all()  # other tables and views may name what is altered
        dropped = self._target(does) if does.verb == "drop" and does.object == "table" else None
        if dropped is not None and connection.foreign_keys:
            connection._mind_keys(sql, dropped)
            connection.references.dropping(dropped)
        about = self._about(does)
        before = self._objects(about)
        self._db.execute(sql)
        after = self._objects(about)
        gone = [key for key in before.tables if key not in after.tables]
        new = [key for key in after.tables if key not in before.tables]
        renamed = does.verb == "alter" and len(gone) == len(new) == 1
        if renamed:
            self._alter(gone[0], new[0], after.tables[new[0]], does)
            gone, new = [], []
        for key in gone:
            self._forget_table(key)
        for key in new:
            self._create(key, after.tables[key])
        for key, text in after.tables.items():
            if key in before.tables and before.tables[key] != text:
                self._alter(key, key, text, does)
        self._change_views(before, after)

    def _about(self, does: Definition) -> str | None:
        """The name of the only table or view that a statement can change; None if it may change any."""
        if does.verb == "alter":
            return None
        if does.object != "index":
            return does.name
        if does.verb == "create":
            return does.table
        relation = self._target(does)
        return does.name if relation is None else relation.name

    def _objects(self, about: str | None) -> _Objects:
        """What the shadow has: all of it, or the tables and views of one name."""
        found = _Objects()
        for schema in (MAIN, *self._shadow.schemas):
            rows = self._db.execute(
                f"select type, name, tbl_name, sql from {quoted(schema)}.sqlite_master"
                " where (?1 is null or tbl_name = ?1 collate nocase)"
                " and (name not like 'sqlite~_%' escape '~' or name like 'sqlite~_autoindex~_%' escape '~')",
                (about,),
            ).fetchall()
            indexes: dict[str, list[tuple[str, str | None]]] = {}
            for kind, name, table, sql in rows:
                if kind == "index":
                    indexes.setdefault(table, []).append((name, sql))
            for kind, name, _, sql in rows:
                if kind == "table":
                    found.tables[schema, name] = (sql, tuple(indexes.get(name, ())))
                elif kind == "view":
                    found.views[schema, name] = sql
        return found

    def _create(self, key: Key, text: Text) -> None:
        connection = self._connection
        definition = self._read(key, text, None, None)
        self._becomes(sqlschema.create_table(connection.txn, connection.catalog, definition), definition.name)
        self._show(definition.name)

    def _alter(self, old_key: Key, key: Key, text: Text, does: Definition) -> None:
        connection = self._connection
        name = catalog_name(*old_key)
        before = connection.catalog.entries[name]
        if before.definition.statement is None:
            # A record that refers to what was renamed: its own text in the shadow follows, the catalog's does not.
            raise exc.NotSupportedError(
                f"{does.verb.upper()} changes record table {name}, which refers to it; change the model and call"
                " models.upgrade(engine)",
                table=name,
            )
        definition = self._read(key, text, before.definition, does)
        convert = self._conversion(before.definition, definition)
        self._shadow.loaded.pop(name, None)
        connection.main.execute(f"drop table if exists {quoted(old_key[0])}.{quoted(old_key[1])}")
        catalog = sqlschema.alter_table(connection.txn, connection.catalog, name, definition, convert)
        self._becomes(catalog, name, definition.name)
        self._show(definition.name)

    def _forget_table(self, key: Key) -> None:
        connection = self._connection
        name = catalog_name(*key)
        self._shadow.loaded.pop(name, None)
        connection.main.execute(f"drop table if exists {quoted(key[0])}.{quoted(key[1])}")
        self._becomes(sqlschema.drop_table(connection.txn, connection.catalog, name), name)

    def _becomes(self, catalog: Catalog, *names: str) -> None:
        """Take a catalog, which differs from the present one in the tables and views of these names."""
        Names.follow(self._connection.catalog, catalog, names)
        self._connection.catalog = catalog

    def _show(self, name: str) -> None:
        """Give ``main`` the virtual table of one that the shadow has already."""
        entry = self._connection.catalog.entries[name]
        self._shadow.loaded[name] = entry
        relation = self._shadow.relation_of(entry)
        self._connection.main.execute(virtual.create_statement(relation))

    def _change_views(self, before: _Objects, after: _Objects) -> None:
        connection = self._connection
        for key, text in before.views.items():
            if after.views.get(key) != text:
                name = catalog_name(*key)
                connection.main.execute(f"drop view if exists {quoted(key[0])}.{quoted(key[1])}")
                self._shadow.loaded.pop(name, None)
                self._becomes(sqlschema.drop_view(connection.txn, connection.catalog, name), name)
        for key, text in after.views.items():
            statement = ddltext.qualified(text, key[0])
            shown = self._shadow.shown_view(statement, *key)
            if before.views.get(key) != text:
                view = View(catalog_name(*key), text)
                connection.main.execute(shown)
                self._becomes(sqlschema.put_view(connection.txn, connection.catalog, view), view.name)
                self._shadow.loaded[view.name] = connection.catalog.views[view.name]
            elif shown != statement:
                # What a rowid in it is called may have been renamed.
                connection.main.execute(f"drop view if exists {quoted(key[0])}.{quoted(key[1])}")
                connection.main.execute(shown)

    # ------------------------------------------------------------------------------------------ definitions

    def _read(self, key: Key, text: Text, before: TableDefinition | None, does: Definition | None) -> TableDefinition:
        """The definition of a table as the shadow has it."""
        schema, name = key
        sql, index_texts = text
        db = self._db
        facts = ddltext.table_facts(sql)
        if facts.conflict_clauses:
            what, resolution = facts.conflict_clauses[0]
            raise exc.NotSupportedError(
                f"{what} ON CONFLICT {resolution} of table {name}: constraints with a resolution of their own are not"
                " supported (say INSERT OR ... or ON CONFLICT DO ... in the statement)",
                table=name,
            )
        columns = read_columns(db, schema, name)
        for column in columns:
            if column.collation not in COLLATIONS:
                raise exc.NotSupportedError(
                    f"the collation {column.collation} of {name}.{column.name}: columns take {', '.join(COLLATIONS)}"
                    " (name another one in a query, by COLLATE)"
                )
        keys = _key_columns(db, schema, name)
        indexes, hidden = self._read_indexes(schema, name, dict(index_texts), facts.without_rowid, before)
        alias = not facts.without_rowid and len(keys) == 1 and columns[keys[0]].nullable and _is_alias(db, schema, name)
        ids = _field_ids(before, columns)
        fields = [
            FieldDefinition(
                id=ids[at],
                name=column.name,
                kind=DynamicKind(column.affinity, column.collation),  # type: ignore[arg-type]
                nullable=column.nullable and not (alias and at == keys[0]),
                default=self._default(column) if before is not None and not ids[at] else MISSING,
                autoincrement=alias and at == keys[0],
            )
            for at, column in enumerate(columns)
        ]
        known = {} if before is None else {field.name: field.id for field in before.fields if field.hidden}
        fields += [
            FieldDefinition(
                id=known.get(each, 0), name=each, kind=DynamicKind("BLOB"), nullable=True, default=None, hidden=True
            )
            for each in hidden
        ]
        layout: Any = "key" if facts.without_rowid else "rowid"
        if layout == "rowid" and not alias:
            fields.append(
                FieldDefinition(id=known.get(ROWID, 0), name=ROWID, kind=IntKind(64), autoincrement=True, hidden=True)
            )
            primary_key: tuple[str, ...] = (ROWID,)
        else:
            primary_key = tuple(columns[at].name for at in keys)
        definition = TableDefinition(
            name=catalog_name(schema, name),
            fields=tuple(fields),
            primary_key=primary_key,
            indexes=indexes,
            foreign_keys=tuple(_foreign_key(schema, each) for each in facts.foreign_keys),
            layout=layout,
            statement=sql,
        )
        if before is not None:
            definition = attrs.evolve(definition, id=before.id, version=before.version)
            self._check_added(before, definition, columns, does)
        return definition

    def _read_indexes(
        self,
        schema: str,
        table: str,
        texts: Mapping[str, str | None],
        without_rowid: bool,
        before: TableDefinition | None,
    ) -> tuple[tuple[IndexDefinition, ...], list[str]]:
        db = self._db
        names = [row[1] for row in db.execute(f"pragma {quoted(schema)}.table_xinfo({quoted(table)})").fetchall()]
        known = {} if before is None else {index.name: index.id for index in before.indexes}
        if before is not None:  # the indexes of constraints are named for their table
            old = sql_name(before.name)[1]
            prefix = f"sqlite_autoindex_{old}_"
            for name, number in list(known.items()):
                if name.startswith(prefix):
                    known[f"sqlite_autoindex_{table}_{name[len(prefix) :]}"] = number
        indexes: list[IndexDefinition] = []
        hidden: list[str] = []
        for _, name, unique, origin, partial in db.execute(
            f"pragma {quoted(schema)}.index_list({quoted(table)})"
        ).fetchall():
            if origin == "pk" and without_rowid:
                _check_key_collations(db, schema, table, name)
                continue
            parts: list[IndexPart] = []
            expressions = 0
            for _, column, _, descending, collation, key in db.execute(
                f"pragma {quoted(schema)}.index_xinfo({quoted(name)})"
            ).fetchall():
                if not key:
                    continue
                if column == -2:
                    part = hidden_name(name, expressions)
                    expressions += 1
                    hidden.append(part)
                else:
                    part = ROWID if column < 0 else names[column]
                parts.append(
                    IndexPart(name=part, descending=bool(descending), collation=(collation or "BINARY").upper())
                )
            text = texts.get(name)
            facts = None if text is None else ddltext.index_facts(text)
            if facts is not None and len(facts.expressions) != expressions:
                # SQLite takes "name" for a string where there is no such column; an index over one value helps nobody.
                unknown = [each.name for each in facts.columns if folded(each.name) not in map(folded, names)]
                raise exc.OperationalError(f"no such column: {', '.join(unknown)} (index {name})")
            where = None
            if partial:
                hidden.append(hidden_name(name, "where"))
                where = Compare("=", Column(hidden_name(name, "where")), Constant(1))
            indexes.append(
                IndexDefinition(
                    id=known.get(name, 0),
                    name=name,
                    parts=tuple(parts),
                    unique=bool(unique),
                    where=where,
                    statement=text,
                )
            )
        return tuple(sorted(indexes, key=lambda index: index.name)), hidden

    def _default(self, column: SqlColumn) -> Any:
        """What the rows that are there have in a column that is added."""
        if column.default is None:
            return None
        value = apply_affinity(self._connection.evaluate(column.default), column.affinity)
        return real(value) if column.affinity == "REAL" else value

    def _check_added(
        self,
        before: TableDefinition,
        definition: TableDefinition,
        columns: Sequence[SqlColumn],
        does: Definition | None,
    ) -> None:
        """Refuse a new column that the rows which are there cannot have, as SQLite does; its own test sees no rows."""
        if does is None or does.verb != "alter":
            return
        relation = self._connection.relation_named(before.name)
        assert relation is not None
        if self._connection.txn.count(relation.stored) == 0:
            return
        assert definition.statement is not None
        strict = ddltext.table_facts(definition.statement).strict
        for field, column in zip(definition.fields, columns, strict=False):
            if field.id or column.generated:
                continue
            if not column.nullable and field.default is None:
                raise exc.OperationalError("Cannot add a NOT NULL column with default value NULL")
            if column.default is not None and not ddltext.is_constant(column.default):
                raise exc.OperationalError("Cannot add a column with non-constant default")
            if field.default is not None and any(column.name in key.columns for key in definition.foreign_keys):
                raise exc.OperationalError("Cannot add a REFERENCES column with non-NULL default value")
            if strict and field.default is not None:
                allowed = _STRICT_TYPES[column.declared.upper()]
                if type(field.default) is not allowed and allowed is not object:
                    raise exc.OperationalError("type mismatch on DEFAULT")

    def _conversion(
        self, before: TableDefinition, after: TableDefinition
    ) -> Callable[[Sequence[Any]], tuple[Any, ...]] | None:
        """What makes rows anew where the change asks for more than another reading of them; None where it does not.

        The conversion takes rows as the new fields read the stored ones.
        """
        assert before.statement is not None
        assert after.statement is not None
        old_facts, facts = ddltext.table_facts(before.statement), ddltext.table_facts(after.statement)
        was_hidden = {field.name for field in before.fields if field.hidden}
        derived = any(field.hidden and field.name not in was_hidden for field in after.fields)
        added = len(after.visible) > len(before.visible)
        tightened = (
            {field.id for field in after.fields if not field.nullable}
            - {field.id for field in before.fields if not field.nullable}
        ) != set()
        checked = facts.checks > old_facts.checks or (added and facts.has_generated)
        if not (derived or tightened or checked):
            return None
        schema, name = sql_name(after.name)
        derivation = _Derivation(self._db, after, read_columns(self._db, schema, name))
        visible = len(after.visible)
        tail = after.fields[-1].name == ROWID

        def convert(row: Sequence[Any]) -> tuple[Any, ...]:
            return (*derivation(row[:visible]), *row[-1:]) if tail else tuple(derivation(row[:visible]))

        return convert

    # ------------------------------------------------------------------------------------------ record tables

    def _change_record(self, relation: Relation, does: Definition) -> None:
        connection = self._connection
        name = relation.name
        if does.verb == "drop" and does.object == "index":
            with connection.outside(f"DROP INDEX on record table {name}"):
                connection.store.drop_index(does.name)
        else:
            raise exc.NotSupportedError(
                f"ALTER TABLE on record table {name}: change the model and call models.upgrade(engine)", table=name
            )

    def _index_record(self, relation: Relation, sql: str, does: Definition) -> None:
        facts = ddltext.index_facts(sql)
        name = does.name
        if facts.expressions or facts.where is not None or any(part.collation for part in facts.columns):
            raise exc.NotSupportedError(
                f"index {name} on record table {relation.name} has an expression, a COLLATE or a WHERE in SQL; declare"
                " it in the model, or call engine.create_index",
                table=relation.name, index=name,
            )  # fmt: skip
        if does.guarded and any(each.name == name for each in relation.stored.definition.indexes):
            return
        parts = []
        for part in facts.columns:
            if folded(part.name) not in relation.positions:
                raise exc.OperationalError(f"no such column: {part.name}")
            column = relation.columns[relation.positions[folded(part.name)]]
            parts.append(IndexPart(name=column.name, descending=part.descending))
        index = IndexDefinition(name=name, parts=tuple(parts), unique=facts.unique)
        with self._connection.outside(f"CREATE INDEX on record table {relation.name}"):
            self._connection.store.create_index(relation.stored.name, index)


def _key_columns(db: Any, schema: str, table: str) -> tuple[int, ...]:
    """The positions of the primary key's columns, in the order of the key."""
    rows = db.execute(f"pragma {quoted(schema)}.table_xinfo({quoted(table)})").fetchall()
    keyed = sorted((row[5], row[0]) for row in rows if row[5])
    return tuple(position for _, position in keyed)


def _check_key_collations(db: Any, schema: str, table: str, index: str) -> None:
    """Refuse a primary key WITHOUT ROWID with a collation that is not its column's: rows are keyed by the column's."""
    rows = db.execute(f"pragma {quoted(schema)}.index_xinfo({quoted(index)})").fetchall()
    for _, _, column, _, collation, key in rows:
        if key and collation.upper() != db.column_metadata(schema, table, column)[1].upper():
            raise exc.NotSupportedError(
                f"the primary key of table {table}, which is WITHOUT ROWID, gives column {column} the collation"
                f" {collation}; say it at the column",
                table=table,
            )


def _is_alias(db: Any, schema: str, table: str) -> bool:
    rows = db.execute(f"pragma {quoted(schema)}.index_list({quoted(table)})").fetchall()
    return all(row[3] != "pk" for row in rows)


def _field_ids(before: TableDefinition | None, columns: Sequence[SqlColumn]) -> list[int]:
    """The ids of the columns as they were before; 0 for a new one. One that is renamed keeps its place."""
    if before is None:
        return [0] * len(columns)
    old = before.visible
    if len(old) == len(columns):
        return [field.id for field in old]
    known = {field.name: field.id for field in old}
    return [known.get(column.name, 0) for column in columns]


def _foreign_key(schema: str, key: Any) -> ForeignKeyDefinition:
    return ForeignKeyDefinition(
        columns=tuple(key.columns),
        table=catalog_name(schema, key.parent),
        targets=tuple(key.parent_columns),
        ondelete=key.on_delete,
        onupdate=key.on_update,
        name=key.name,
        deferred=key.deferred,
    )
