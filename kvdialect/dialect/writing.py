"""Rows written by SQL: defaults, derived values, constraints and what to do where one does not hold.

All rows go through :func:`kvdialect.store.writer.write_rows`, as the Session's do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import apsw
import attrs

from kvdialect import exc
from kvdialect.codec.dynamic import apply_affinity
from kvdialect.dialect import functions
from kvdialect.dialect.ddltext import table_facts
from kvdialect.dialect.relations import Relation, real
from kvdialect.dialect.targets import ANY, target_of
from kvdialect.dialect.virtual import rows_table
from kvdialect.schema.definition import ROWID
from kvdialect.schema.names import folded
from kvdialect.schema.tokens import quoted, tokenize
from kvdialect.store.writer import RowChanges, conflicts, write_rows

if TYPE_CHECKING:
    from kvdialect.dialect.connection import Connection
    from kvdialect.dialect.statements import Statement, UpsertClause

Values = list[Any]

_BATCH: Final = 5000
"""Rows that are written at once."""


@attrs.define(slots=True)
class Insertion:
    """An INSERT as the writer takes it.

    Attributes:
        relation: the table.
        positions: of the columns that each row gives.
        resolution: of the statement (``OR IGNORE``), in upper case, or None.
        upserts: its ON CONFLICT clauses.
        params: of the statement, for these.
        alias: by which expressions of the clauses name the table.
    """

    relation: Relation
    positions: Sequence[int]
    resolution: str | None = None
    upserts: Sequence[UpsertClause] = ()
    params: Sequence[Any] = ()
    alias: str | None = None
    _targets: list[tuple[UpsertClause, Any]] | None = None

    @property
    def targets(self) -> list[tuple[UpsertClause, Any]]:
        """The ON CONFLICT clauses, each with what it is about, see :func:`target_of`."""
        if self._targets is None:
            self._targets = [(each, target_of(self.relation, each, self.alias)) for each in self.upserts]
        return self._targets


class Writer:
    """Writes rows of SQL tables and of record tables into the connection's transaction.

    Attributes:
        count: rows that the statement has changed; what foreign keys changed in turn does not count.
        lastrowid: rowid of the row inserted last, or None.
        returned: the rows changed, for RETURNING: values with the handle behind them; None where nobody asks.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.count = 0
        self.lastrowid: int | None = None
        self.returned: list[Values] | None = None
        self._resolution: str | None = None
        self._quiet = False
        self._update: tuple[Statement, Sequence[Any]] | None = None
        self._overtaken: set[tuple[int, bytes]] = set()

    def begin(
        self,
        resolution: str | None = None,
        *,
        returning: bool = False,
        update: tuple[Statement, Sequence[Any]] | None = None,
    ) -> None:
        """Begin a statement.

        Args:
            resolution: OR IGNORE and the like, in upper case.
            returning: it has RETURNING.
            update: an UPDATE without FROM, and its parameters.
        """
        self.count = 0
        self.returned = [] if returning else None
        self._resolution = None if resolution == "ABORT" else resolution
        self._update = update
        self._overtaken.clear()

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """What is written within is neither counted nor returned, and a constraint that does not hold aborts."""
        saved = self._quiet, self._resolution
        self._quiet, self._resolution = True, None
        try:
            yield
        finally:
            self._quiet, self._resolution = saved

    # ------------------------------------------------------------------------------------------ inserting

    def insert_rows(self, insertion: Insertion, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows; each gives the values of ``insertion.positions``."""
        complete = self._completion(insertion)
        if insertion.resolution in (None, "ABORT") and not insertion.upserts:
            at = insertion.relation.alias
            # Rows that are whole already, their ids too, are only looked at.
            whole = complete is list and at is not None and set(map(type, map(itemgetter(at), rows))) == {int}
            for start in range(0, len(rows), _BATCH):
                batch = rows[start : start + _BATCH]
                self._insert_batch(insertion.relation, batch if whole else list(map(complete, batch)))
            return
        for row in rows:
            self._insert_one(insertion, complete(row))

    def load(self, relation: Relation, rows: Sequence[Sequence[Any]]) -> None:
        """Insert whole rows."""
        self.begin()
        self.insert_rows(Insertion(relation, range(len(relation.columns))), rows)

    def _completion(self, insertion: Insertion) -> Callable[[Sequence[Any]], Values]:
        """What makes the values of all columns of those that a statement gives."""
        relation, positions = insertion.relation, insertion.positions
        width = len(relation.columns)
        if tuple(positions) == tuple(range(width)):
            return list
        given = set(positions)
        template: Values = [None] * width
        moving: list[tuple[int, str]] = []
        for at, column in enumerate(relation.columns):
            if at in given or column.default is None or column.generated:
                continue
            constant, value = self._connection.default(relation, at)
            if constant:
                template[at] = value
            else:
                moving.append((at, column.default))

        def complete(row: Sequence[Any]) -> Values:
            values = template[:]
            for at, value in zip(positions, row, strict=True):
                values[at] = value
            for at, default in moving:
                values[at] = self._connection.evaluate(default)
            return values

        return complete

    def _insert_batch(self, relation: Relation, rows: Sequence[Any]) -> None:
        if not rows:
            return
        connection = self._connection
        if any(None in values for values in rows):
            self._check_not_null(relation, rows)
        new, last = self._stored_rows(relation, rows)
        connection.matches.written(relation)
        with _worded(relation):
            inserted, _ = write_rows(connection.txn, relation.stored, RowChanges(new=new))
        self.lastrowid = last
        self._note(relation, inserted)

    def _note(self, relation: Relation, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Count rows that were inserted, return them, and look at their foreign keys."""
        connection = self._connection
        if not self._quiet:
            self.count += len(pairs)
        returned = None if self._quiet else self.returned
        watched = connection.foreign_keys and connection.references.watches(relation)
        if returned is None and not watched:
            return
        for key, raw in pairs:
            values = relation.values(key, raw)
            if returned is not None:
                returned.append([*values, relation.handle(key)])
            if watched:
                connection.references.inserted(relation, values, key)

    def _insert_one(self, insertion: Insertion, values: Values) -> None:
        """Insert a row, or do what the statement says where a constraint does not hold."""
        relation, connection = insertion.relation, self._connection
        resolution = insertion.resolution
        try:
            if relation.alias is not None and values[relation.alias] is not None:
                values[relation.alias] = _rowid(values[relation.alias])  # before other constraints, as SQLite
            self._check_not_null(relation, [values], replace=resolution == "REPLACE")
            [row], last = self._stored_rows(relation, [values])
            _check_record(relation, row)
        except (exc.IntegrityError, apsw.ConstraintError) as error:
            if resolution == "IGNORE" and resolvable(error):
                return
            raise
        found = list(conflicts(connection.txn, relation.stored, row))
        for clause, target in insertion.targets if found else ():
            for index, key in found:
                if target is ANY or target is index:
                    if not clause.nothing:
                        early = index is None and clause is insertion.upserts[0] and _looks_early(relation)
                        excluded = _given(relation, values) if early else _stored(relation, row)
                        self._upsert(insertion, clause, key, excluded)
                    return
        if found:
            if resolution == "IGNORE":
                return
            if resolution != "REPLACE":
                raise _duplicate(relation, found[0][0])
            for _, key in found:
                with self.quietly():
                    self.delete(relation, key)
        connection.matches.written(relation)
        with _worded(relation):
            inserted, _ = write_rows(connection.txn, relation.stored, RowChanges(new=[row]))
        self.lastrowid = last
        self._note(relation, inserted)

    def _upsert(self, insertion: Insertion, clause: UpsertClause, key: bytes, excluded: Sequence[Any]) -> None:
        """DO UPDATE: work out the new values of the row that is there, with ``excluded`` as the row that is not."""
        relation, connection = insertion.relation, self._connection
        current = relation.get(connection.txn, key)
        assert current is not None
        handle = relation.handle(key)
        connection.rowsets["target"] = [[*current, handle]]
        connection.rowsets["excluded"] = [[*excluded, handle]]
        sources = {
            "target": rows_table(connection, relation, "target"),
            "excluded": rows_table(connection, relation, "excluded", plain=True),
        }
        target = f"{sources['target']} as {quoted(insertion.alias or relation.name)}"
        texts: list[str] = []
        params: list[Any] = []
        for names, expression in clause.sets:
            for text in _column_expressions(expression.text, len(names)):
                texts.append(f"(select {text} from {target})")
                params += expression.pick(insertion.params)
        if clause.where is not None:
            texts.append(f"(select {clause.where.text} from {target})")
            params += clause.where.pick(insertion.params)
        sql = f"select {', '.join(texts)} from {sources['excluded']} as excluded"
        text, bound = functions.prepared_over_rows(sql, connection, params, relation, sources)
        [results] = connection.main.execute(text, bound or None).fetchall()
        if clause.where is not None and not results[-1]:
            return
        new = list(current)
        assigned = [name for names, _ in clause.sets for name in names]
        for name, value in zip(assigned, results, strict=False):
            new[relation.positions[folded(name)]] = value
        saved, self._resolution = self._resolution, None
        try:
            self.update(relation, key, new)
        finally:
            self._resolution = saved

    # ------------------------------------------------------------------------------------------ updating, deleting

    def insert(self, relation: Relation, values: Sequence[Any], rowid: int | None = None) -> int | None:
        """Insert one row of all columns; its rowid."""
        given = list(values)
        if rowid is not None and relation.alias is not None and given[relation.alias] is None:
            given[relation.alias] = rowid
        self._insert_one(Insertion(relation, range(len(given)), self._resolution), given)
        return self.lastrowid

    def is_overtaken(self, relation: Relation, key: bytes) -> bool:
        """Whether the UPDATE that runs has changed the row at ``key`` since its new values were worked out.

        Another row has been moved to this key, or a foreign key's action has changed the row.
        """
        return (relation.id, key) in self._overtaken

    def assign_again(self, relation: Relation, key: bytes) -> None:
        """Work out the SET of the UPDATE that runs once more, for the row that is at ``key`` now, and change it.

        SQLite finds all rows first and then works out each one's values, but hands over those of a virtual table
        with its rows.
        """
        connection = self._connection
        current = relation.get(connection.txn, key)
        if current is None or self._update is None:
            return
        statement, values = self._update
        handle = relation.handle(key)
        connection.rowsets["target"] = [[*current, handle]]
        target = rows_table(connection, relation, "target")
        texts: list[str] = []
        params = [*statement.head.pick(values)]
        for names, expression in statement.sets:
            for text in _column_expressions(expression.text, len(names)):
                texts.append(text)
                params += expression.pick(values)
        name = quoted(statement.alias or relation.name)
        sql = f"{statement.head.text} select {', '.join(texts)} from {target} as {name}"
        with connection.strictly(strict=False):
            text, bound = functions.prepared_over_rows(sql, connection, params, relation, {"target": target})
            [results] = connection.main.execute(text, bound or None).fetchall()
        new = list(current)
        rowid = None
        for assigned, value in zip(statement.assigned, results, strict=True):
            at = relation.positions.get(folded(assigned), relation.alias)
            if at is None:
                rowid = _rowid(value)
            else:
                new[at] = value
        self.update(relation, key, new, rowid)

    def update(
        self,
        relation: Relation,
        key: bytes,
        values: Sequence[Any],
        rowid: int | None = None,
    ) -> None:
        """Give the row at ``key`` new values; a row that is gone is left so."""
        connection = self._connection
        txn = connection.txn
        raw = txn.get(relation.stored.family, key)
        if raw is None:
            return
        new = list(values)
        resolution = self._resolution
        try:
            if relation.alias is not None:
                new[relation.alias] = _rowid(new[relation.alias])
            self._check_not_null(relation, [new], replace=resolution == "REPLACE")
            row = self._changed_row(relation, key, new, rowid)
            _check_record(relation, row)
        except (exc.IntegrityError, apsw.ConstraintError) as error:
            if resolution == "IGNORE" and resolvable(error):
                return
            raise
        codec = relation.stored.codec
        new_key = codec.encode(row)[0]
        if resolution in ("IGNORE", "REPLACE", "FAIL"):
            found = [(index, other) for index, other in conflicts(txn, relation.stored, row) if other != key]
            if found:
                if resolution == "IGNORE":
                    return
                if resolution == "FAIL":
                    raise _duplicate(relation, found[0][0])
                for _, other in found:
                    with self.quietly():
                        self.delete(relation, other)
        watched = connection.foreign_keys and connection.references.watches(relation)
        old = relation.values(key, raw) if watched else None
        stays = new_key == key
        changes = RowChanges(changed=[(key, raw, row)]) if stays else RowChanges(gone=[(key, raw)], new=[row])
        connection.matches.written(relation)
        with _worded(relation):
            inserted, changed = write_rows(txn, relation.stored, changes)
        if not stays:
            numbered = self._autoincrement(relation) if relation.is_record else relation.alias
            if numbered is not None and isinstance(new[numbered], int) and new[numbered] > 0:
                connection.observe_id(relation, new[numbered])
        if self._update is not None and (self._quiet or not stays):
            self._overtaken.add((relation.id, new_key))
        returned = None if self._quiet else self.returned
        if not self._quiet:
            self.count += 1
        if returned is not None or watched:
            [(at, now)] = inserted or [(key, changed[0])]
            final = relation.values(at, now)
            if returned is not None:
                returned.append([*final, relation.handle(at)])
            if old is not None:
                connection.references.updated(relation, old, final, at)

    def delete(self, relation: Relation, key: bytes) -> None:
        """Delete the row at ``key``; one that is gone is left so."""
        connection = self._connection
        raw = connection.txn.get(relation.stored.family, key)
        if raw is None:
            return
        watched = connection.foreign_keys and connection.references.watches(relation)
        returned = None if self._quiet else self.returned
        values = relation.values(key, raw) if watched or returned is not None else []
        connection.matches.written(relation)
        write_rows(connection.txn, relation.stored, RowChanges(gone=[(key, raw)]))
        if not self._quiet:
            self.count += 1
        if returned is not None:
            returned.append([*values, relation.handle(key)])
        if watched:
            connection.references.deleted(relation, values)

    # ------------------------------------------------------------------------------------------ rows

    def _check_not_null(self, relation: Relation, rows: Sequence[Values], *, replace: bool = False) -> None:
        for at, column in enumerate(relation.columns):
            if column.nullable or column.generated or at == relation.alias:
                continue
            for values in rows:
                if values[at] is None:
                    if relation.is_record and at == self._autoincrement(relation):
                        continue
                    if replace and column.default is not None:
                        values[at] = self._connection.default(relation, at)[1]
                        if values[at] is not None:
                            continue
                    raise exc.IntegrityError(
                        f"NOT NULL constraint failed: {relation.name}.{column.name}",
                        table=relation.name, field=column.name,
                    )  # fmt: skip

    def _stored_rows(self, relation: Relation, rows: Sequence[Values]) -> tuple[list[tuple[Any, ...]], int | None]:
        """The rows as the store has them, with ids given where there are none; and the last rowid."""
        at = self._autoincrement(relation)
        if relation.is_record:
            last = self._number(relation, rows, at) if at is not None else None
            return [relation.row_of(values) for values in rows], last
        derivation = self._connection.shadow.derivation(self._connection.entry_of(relation))
        if relation.alias is not None:
            last = self._number(relation, rows, relation.alias)
            made = [tuple(derivation(values)) for values in rows] if derivation else list(map(tuple, rows))
            return _with_reals(relation, made), last
        if not relation.rowid:
            made = [tuple(derivation(values) if derivation else values) for values in rows]
            return _with_reals(relation, made), self.lastrowid
        ids = self._connection.take_ids(relation, len(rows))
        made = [
            (*(derivation(values) if derivation else values), rowid) for values, rowid in zip(rows, ids, strict=True)
        ]
        return _with_reals(relation, made), made[-1][-1] if made else None

    def _number(self, relation: Relation, rows: Sequence[Values], at: int) -> int | None:
        """Give an id to each row that has none."""
        connection = self._connection
        ids = [values[at] for values in rows]
        if set(map(type, ids)) == {int}:
            highest = max(ids)
            if highest > 0:
                connection.observe_id(relation, highest)
            final: int = ids[-1]
            return final
        missing = [values for values in rows if values[at] is None]
        highest = 0
        if len(missing) != len(rows):
            for values in rows:
                given = values[at]
                if given is None:
                    continue
                if type(given) is not int:
                    given = values[at] = _rowid(given)
                highest = max(highest, given)
        if highest:
            connection.observe_id(relation, highest)
        if missing:
            for values, given in zip(missing, connection.take_ids(relation, len(missing)), strict=True):
                values[at] = given
        last: int | None = rows[-1][at] if rows else None
        return last

    def _autoincrement(self, relation: Relation) -> int | None:
        """Position of a record table's column whose ids are given by the store."""
        for at, field in enumerate(relation.stored.definition.visible):
            if field.autoincrement:
                return at
        return None

    def _changed_row(self, relation: Relation, key: bytes, values: Values, rowid: int | None) -> tuple[Any, ...]:
        if relation.is_record:
            return relation.row_of(values)
        derivation = self._connection.shadow.derivation(self._connection.entry_of(relation))
        whole = derivation(values) if derivation else values
        if relation.rowid and relation.alias is None:
            whole = [*whole, relation.handle(key) if rowid is None else rowid]
        return _with_reals(relation, [tuple(whole)])[0]


def resolvable(error: BaseException) -> bool:
    """Whether ``OR IGNORE`` and the like apply to an error.

    They do not to foreign keys, nor to what is no rowid or not of the type of a column of a STRICT table.
    """
    return isinstance(error, exc.IntegrityError | apsw.ConstraintError) and not str(error).startswith(_UNRESOLVED)


_UNRESOLVED: Final = ("FOREIGN KEY", "datatype mismatch", "cannot store")


def _rowid(given: Any) -> int:
    """A rowid of what was given for one."""
    value = given if type(given) is int else apply_affinity(given, "INTEGER")
    if type(value) is not int:
        raise exc.IntegrityError("datatype mismatch", value=given)
    return value


def _with_reals(relation: Relation, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows of an SQL table with no zero below zero in a column of REAL affinity, see :func:`.real`."""
    for at in relation.reals:
        pick = itemgetter(at)
        # Looked for without code of Python's for each row; text may be such a zero, too.
        if 0.0 in map(pick, rows) or str in set(map(type, map(pick, rows))):
            rows = [(*row[:at], real(row[at]), *row[at + 1 :]) for row in rows]
    return rows


def _stored(relation: Relation, row: Sequence[Any]) -> list[Any]:
    """The SQL values that a row has once it is stored."""
    return relation.values(*relation.stored.codec.encode(tuple(row))[:2])


def _given(relation: Relation, values: Values) -> Values:
    """The values of a row to which no affinity was applied; SQLite reads an integer in a REAL column as a float."""
    return [float(value) if at in relation.reals and type(value) is int else value for at, value in enumerate(values)]


def _looks_early(relation: Relation) -> bool:
    """Whether SQLite looks at a rowid before it applies affinities, so that ``excluded`` has the values as given."""
    statement = relation.stored.definition.statement
    if relation.alias is None or statement is None:
        return False
    facts = table_facts(statement)
    return not (facts.has_check or facts.has_generated)


def _column_expressions(expression: str, count: int) -> list[str]:
    """What each of the columns gets that one expression is assigned to; it is a row value if there are several."""
    if count == 1:
        return [expression]
    names = [f"c{number}" for number in range(count)]
    body = expression.strip()[1:-1]
    if tokenize(body)[0].word not in ("SELECT", "VALUES", "WITH"):
        body = f"values ({body})"
    row = f"with _kvdialect_row({', '.join(names)}) as ({body})"
    return [f"({row} select {name} from _kvdialect_row)" for name in names]


def _check_record(relation: Relation, row: Sequence[Any]) -> None:
    """Refuse a row of which a CHECK of a table of records is false, before anything is done about other rows."""
    codec = relation.stored.codec
    if codec.check is not None:
        codec.check(codec.encode(tuple(row))[2])


def _duplicate(relation: Relation, index: Any) -> exc.IntegrityError:
    """The error for a key or a unique value that is taken, in SQLite's words."""
    if index is None:
        names = [relation.columns[at].name for at in relation.primary_key] or ["rowid"]
    else:
        parts = [part.name for part in index.definition.parts]
        if any(part.startswith("\0") and part != ROWID for part in parts):
            return exc.IntegrityError(
                f"UNIQUE constraint failed: index '{index.definition.name}'",
                table=relation.name, index=index.definition.name,
            )  # fmt: skip
        names = ["rowid" if part == ROWID else part for part in parts]
    listed = ", ".join(f"{relation.name}.{name}" for name in names)
    return exc.IntegrityError(
        f"UNIQUE constraint failed: {listed}",
        table=relation.name, index=None if index is None else index.definition.name,
    )  # fmt: skip


@contextmanager
def _worded(relation: Relation) -> Iterator[None]:
    """Say in SQLite's words what constraint did not hold."""
    try:
        yield
    except exc.IntegrityError as error:
        name = error.facts.get("index")
        if name is None and "key" not in error.facts:
            raise  # a CHECK of a record
        index = None if name is None else relation.stored.indexes.get(name)
        worded = _duplicate(relation, index)
        raise exc.IntegrityError(
            f"{worded.message} ({error.message})", **{**error.facts, "table": relation.name}
        ) from error
