"""Relations: tables as SQL reads them, and the paths on which their rows are found.

A relation joins a stored table, whose codec turns rows into bytes, with the columns that SQL shows. A path is the
table's own key or one of its indexes: it says which ranges of keys can hold the rows that a comparison asks for, and
reads them. The comparisons are SQLite's: NULL equals nothing, numbers come before text and text before blobs, and a
column's affinity is applied to what it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Final

import attrs

from kvdialect import exc
from kvdialect.codec.dynamic import apply_affinity
from kvdialect.dialect import sqlvalues
from kvdialect.dialect.parts import UNBOUNDED, DynamicPart, Part, RecordPart, RowidPart, Span
from kvdialect.schema.definition import ROWID, IndexDefinition
from kvdialect.schema.expressions import And, Column, Compare, Constant, Expression, Not
from kvdialect.schema.names import folded
from kvdialect.schema.rows import Pair, Row, leads_nowhere
from kvdialect.storage.batch import KEY_LIMIT
from kvdialect.storage.ranges import successor
from kvdialect.store.entries import TableEntry
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Transaction

IS_NULL: Final = object()
"""Stands among the values that a path's leading columns equal for ``IS NULL``; a None there equals nothing."""

SIGN: Final = 1 << 63
"""Added to a rowid in a key, so that negative ones come first."""

ROWID_NAMES: Final = frozenset(("rowid", "oid", "_rowid_"))
"""What SQL calls a rowid where no column has the name."""

_LARGEST_CHUNK: Final = 512


@attrs.frozen(eq=False)
class SqlColumn:
    """A column as SQL shows it.

    Attributes:
        name: as declared.
        declared: text of the declared type, "" if there is none.
        affinity: INTEGER, REAL, NUMERIC, TEXT or BLOB.
        collation: BINARY, NOCASE or RTRIM.
        nullable: False if NOT NULL is enforced; the alias of the rowid counts as nullable.
        default: its SQL text.
        generated: it is computed from others.
    """

    name: str
    declared: str
    affinity: str
    collation: str = "BINARY"
    nullable: bool = True
    default: str | None = None
    generated: bool = False


@attrs.frozen
class Test:
    """A condition that every row of a partial index meets.

    Attributes:
        position: of the column.
        operator: ``"is null"``, ``"not null"`` or ``"="``.
        value: what the column equals, as SQL value.
    """

    __test__ = False  # no test of pytest's

    position: int
    operator: str
    value: Any = None


class Path:
    """A way to find rows: by the table's key, or by an index.

    Attributes:
        name: of the index; "" for the key.
        parts: what its keys consist of, in order, as far as ranges can be bound to them.
        positions: of the columns of ``parts``; -1 is a rowid without a column.
        unique: how many leading columns are the whole of a unique key if none is NULL; None if it is not unique.
        order: the order of a forward scan, as ``(position, collation, descending)``, as far as SQL has the same.
        where: what all rows of a partial index meet; None if all rows are on the path.
        exact: its ranges hold exactly the rows that are asked for; if False they may hold others too.
        primary: it is the table's key.
    """

    def __init__(
        self,
        relation: Relation,
        name: str,
        family: str,
        prefix: bytes,
        parts: Sequence[Part],
        *,
        unique: int | None,
        tail: Sequence[Part] = (),
        where: tuple[Test, ...] | None = None,
        index: Any = None,
    ) -> None:
        """A path of ``parts``; behind them, or where a unique one has NULL, follows ``tail``, the table's key."""
        self.name = name
        self.family = family
        self.prefix = prefix
        self.parts = tuple(parts)
        self.positions = tuple(part.position for part in parts)
        self.unique = unique
        self.where = where
        self.exact = all(part.exact for part in parts)
        self.collations = tuple(part.collation for part in parts)
        self.primary = index is None
        self.index = index
        self._table = relation.stored.name
        self._home = relation.stored.family
        self._lossy = relation.stored.definition.options.compaction == "fifo"
        self._located = None if index is None else _locator(relation, index)
        self.order: tuple[tuple[int, str, bool], ...] = _order([*parts, *tail])
        self._whole = (prefix, successor(prefix) if prefix else None)

    def __repr__(self) -> str:
        return f"<Path {self._table}.{self.name or 'key'} {self.positions}>"

    # ------------------------------------------------------------------------------------------ ranges

    def range(
        self,
        equals: Sequence[Any] = (),
        low: Any = UNBOUNDED,
        high: Any = UNBOUNDED,
        low_inclusive: bool = True,
        high_inclusive: bool = True,
        *,
        not_null: bool = False,
    ) -> Span | None:
        """The keys of the rows whose leading columns equal ``equals``, the next one between ``low`` and ``high``.

        The values are as parameters are: without an affinity of their own. ``IS_NULL`` among ``equals`` asks for NULL.
        The range holds exactly those rows if ``exact``.

        Args:
            equals: values of the first columns.
            low: the least value of the next column; UNBOUNDED: none.
            high: the greatest.
            low_inclusive: ``low`` itself is asked for too.
            high_inclusive: ``high`` is.
            not_null: the next column is not NULL, which bounds imply.

        Returns:
            ``(start, stop)``; a stop of None is the end of the family. None if no row can be meant.
        """
        prefix = self.prefix
        raw = False
        for part, value in zip(self.parts, equals, strict=False):
            if value is None:
                return None
            encoded = part.null if value is IS_NULL else part.point(part.converted(value))
            if encoded is None:
                return None
            prefix += encoded
            raw = part.raw
        if low is UNBOUNDED and high is UNBOUNDED and not not_null:
            if not equals:
                return self._whole
            if len(prefix) > KEY_LIMIT:
                return None  # longer than any key
            # A raw part has no end mark, so longer values begin with the same bytes.
            return prefix, prefix + b"\0" if raw else successor(prefix)
        if low is None or high is None:
            return None
        part = self.parts[len(equals)]
        span = part.span(
            low if low is UNBOUNDED else part.converted(low),
            high if high is UNBOUNDED else part.converted(high),
            low_inclusive,
            high_inclusive,
        )
        return None if span is None else within(prefix, span)

    def ranges(
        self,
        equals: Sequence[Any],
        low: Any = UNBOUNDED,
        high: Any = UNBOUNDED,
        low_inclusive: bool = True,
        high_inclusive: bool = True,
        *,
        not_null: bool = False,
        stated: bool = False,
    ) -> tuple[list[Span], bool]:
        """As :meth:`range`, where the values may have come from columns of other tables.

        A number that a column of text is compared with makes SQLite read the text as a number, if the number came from
        a column of numbers, and the number as text if not; nothing says which. Then the ranges hold the rows of both.
        So they do below text, which a column of numbers may have too, if the bound is not ``stated``: no column's.

        Returns:
            The ranges in the order of their keys, and whether they were widened so.
        """
        for number, (part, value) in enumerate(zip(self.parts, equals, strict=False)):
            if value is not None and value is not IS_NULL and part.ambiguous(value):
                prefix = self.range(equals[:number]) if number else self._whole
                spans = part.loose(value, value, True, True)
                return _all_within(prefix, spans), True
        if len(equals) < len(self.parts):
            part = self.parts[len(equals)]
            if not stated:
                high, high_inclusive = part.reached(high, high_inclusive)
            if any(v is not UNBOUNDED and v is not None and part.ambiguous(v) for v in (low, high)):
                if low is None or high is None:
                    return [], True
                prefix = self.range(equals) if equals else self._whole
                return _all_within(prefix, part.loose(low, high, low_inclusive, high_inclusive)), True
        found = self.range(equals, low, high, low_inclusive, high_inclusive, not_null=not_null)
        return ([] if found is None else [found]), False

    def point(self, values: Sequence[Any]) -> bytes | None:
        """The one key at which a row with these values of all columns of a unique path stands.

        None if there can be no such row. The values are as in :meth:`range`, and none is ``IS_NULL``.
        """
        key = self.prefix
        for part, value in zip(self.parts, values, strict=False):
            if value is None:
                return None
            encoded = part.point(part.converted(value))
            if encoded is None:
                return None
            key += encoded
        return key if 0 < len(key) <= KEY_LIMIT else None

    # ------------------------------------------------------------------------------------------ reading

    def at(self, txn: Transaction, point: bytes) -> Pair | None:
        """The row at a key that :meth:`point` gave, as ``(key, value)``."""
        value = txn.get(self.family, point)
        if value is None or self._located is None:
            return None if value is None else (point, value)
        [key] = self._located([(point, value)])
        raw = txn.get(self._home, key)
        if raw is None:
            self._missing(txn, key)
            return None
        return key, raw

    def rows(
        self, txn: Transaction, start: bytes, stop: bytes | None, reverse: bool = False, *, first: int = 1
    ) -> Iterator[Pair]:
        """The rows on the path from ``start`` up to ``stop``, as ``(key, value)`` of their records.

        On an index the first so many are read together, and then more and more.
        """
        if self._located is None:
            return txn.scan(self.family, start, stop, reverse=reverse)
        if first == 1:
            pairs = txn.scan(self.family, start, stop, reverse=reverse)
        else:
            pairs = txn.short_scan(self.family, start, stop, first, reverse=reverse)
        return chain.from_iterable(self._fetched(txn, pairs, first))

    def keys(self, txn: Transaction, start: bytes, stop: bytes | None, reverse: bool = False) -> Iterator[bytes]:
        """The keys of the records on the path from ``start`` up to ``stop``."""
        pairs = txn.scan(self.family, start, stop, reverse=reverse)
        located = self._located
        if located is None:
            return (key for key, _ in pairs)
        return chain.from_iterable(located((pair,)) for pair in pairs)

    def _fetched(self, txn: Transaction, entries: Iterator[Pair], size: int) -> Iterator[Iterable[Pair]]:
        located, home = self._located, self._home
        assert located is not None
        while chunk := list(islice(entries, size)):
            keys = located(chunk)
            try:
                raws = [txn.get(home, keys[0])] if size == 1 else txn.multi_get(home, keys)
            except exc.KeyTooLong as error:
                raise leads_nowhere(self.family, self._table, error) from error
            if None in raws:
                for key, raw in zip(keys, raws, strict=True):
                    if raw is None:
                        self._missing(txn, key)
                    else:
                        yield ((key, raw),)
            else:
                yield zip(keys, raws, strict=True)  # type: ignore[arg-type]
            size = min(size * 4, _LARGEST_CHUNK)

    def _missing(self, txn: Transaction, key: bytes) -> None:
        """An entry leads to no record: harmless if this transaction deleted it meanwhile, or the table forgets."""
        if self._lossy or key in txn.changes.get(self._home, ()):
            return
        raise exc.Corruption(
            f"an entry of index {self.name} leads to the record {self._table}[{exc.shown(key)}], which is not there",
            cf=self.family, key=key,
        )  # fmt: skip


def within(prefix: bytes, span: tuple[bytes, bytes | None]) -> Span | None:
    """A span of the part behind ``prefix``, as a range of keys; None if it is empty."""
    low, high = span
    start = prefix + low
    stop = prefix + high if high is not None else successor(prefix) if prefix else None
    return None if stop is not None and start >= stop else (start, stop)


def _all_within(prefix: Span | None, spans: Sequence[tuple[bytes, bytes | None]]) -> list[Span]:
    if prefix is None:
        return []
    found = [within(prefix[0], span) for span in spans]
    return [span for span in found if span is not None]


def _order(parts: Sequence[Part]) -> tuple[tuple[int, str, bool], ...]:
    order: list[tuple[int, str, bool]] = []
    seen = set()
    for part in parts:
        if not part.ordered:
            break
        if part.position not in seen:
            seen.add(part.position)
            order.append((part.position, part.collation, part.descending))
    return tuple(order)


def _locator(relation: Relation, index: Any) -> Callable[[Iterable[Pair]], list[bytes]]:
    """What finds the records' keys in index entries ``(key, value)``."""
    locate: Callable[[bytes, bytes], bytes] = index.primary_key
    if not relation.is_record:
        prefix = relation.prefix
        return lambda entries: [prefix + rest for _, rest in entries]
    width = index.prefix_width
    if width is not None:
        return lambda entries: [key[width:] for key, _ in entries]
    if index.definition.unique and not index.included:
        return lambda entries: [value for _, value in entries]
    return lambda entries: [locate(key, value) for key, value in entries]


class Relation:
    """A table as SQL reads it.

    Attributes:
        schema: of its SQL name.
        name: of its SQL name.
        stored: the table in the store.
        columns: those that SQL shows, in order.
        positions: of the columns, by lower-case name.
        is_record: a table of mapped records.
        rowid: its rows are told apart by a rowid; else by the bytes of their key.
        alias: position of the column that is the rowid, if there is one.
        reals: positions of the columns of REAL affinity, of a table that SQL made.
        primary_key: positions of the key's columns; () if that is a rowid without a column.
        paths: the key first, then the indexes that can be read.
        decode: ``decode(key, value) -> row`` whose first items are the SQL values of the columns; more may follow.
        id: of the table in the catalog.
    """

    def __init__(self, stored: StoredTable, columns: Sequence[SqlColumn]) -> None:
        definition = stored.definition
        self.schema, self.name = definition.sql_name
        self.id = definition.id
        self.stored = stored
        self.columns = tuple(columns)
        self.width = len(self.columns)
        self.positions = {folded(column.name): at for at, column in enumerate(self.columns)}
        self.is_record = definition.layout == "record"
        self.rowid = definition.layout == "rowid"
        self._fields = {field.name: at for at, field in enumerate(definition.visible)}
        keys = tuple(self._fields[name] for name in definition.primary_key if name != ROWID)
        self.alias = keys[0] if self.rowid and keys else None
        self.reals = tuple(at for at, column in enumerate(columns) if column.affinity == "REAL" and not self.is_record)
        self.primary_key = keys
        self.prefix = stored.prefix
        self._to_row = sqlvalues.row_writer(definition) if self.is_record else None
        self.paths = tuple(self._paths())

    def __repr__(self) -> str:
        return f"<Relation {self.schema}.{self.name}>"

    # ------------------------------------------------------------------------------------------ rows

    def values(self, key: bytes, raw: bytes) -> list[Any]:
        """The SQL values of a row's columns."""
        return list(self.decode(key, raw)[: self.width])

    def get(self, txn: Transaction, key: bytes) -> list[Any] | None:
        """The SQL values of the row at a record's key, or None."""
        raw = txn.get(self.stored.family, key)
        return None if raw is None else list(self.decode(key, raw)[: self.width])

    def handle(self, key: bytes) -> int | bytes:
        """What tells the row at ``key`` apart at SQLite: its rowid, or the key itself."""
        return int.from_bytes(key[4:]) - SIGN if self.rowid else key

    def key_of_handle(self, handle: int | bytes) -> bytes:
        """The key of the row that ``handle`` tells apart."""
        if self.rowid:
            assert isinstance(handle, int)
            return self.prefix + (handle + SIGN).to_bytes(8)
        assert isinstance(handle, bytes)
        return handle

    def row_of(self, values: Sequence[Any]) -> Row:
        """The row of these SQL values, for the table's codec; of an SQL table without its hidden fields.

        Raises:
            DataError: if a record's column does not take its value.
        """
        return tuple(values) if self._to_row is None else self._to_row(values)

    @cached_property
    def decode(self) -> Callable[[bytes, bytes], Row]:
        codec = self.stored.codec
        fields = self.stored.definition.fields
        decode: Callable[[bytes, bytes], Row] = codec.decode
        if not self.is_record:
            hidden = [at for at, field in enumerate(fields) if field.hidden]
            shown = [at for at, field in enumerate(fields) if not field.hidden and field.name != ROWID]
            if shown == list(range(len(shown))):
                return decode
            # A column was added behind hidden fields; the rowid stays last.
            hidden += [at for at, field in enumerate(fields) if field.name == ROWID]
            pick = itemgetter(*shown, *hidden)
            return lambda key, raw: pick(decode(key, raw))
        return sqlvalues.row_decoder(self.stored.definition, decode)

    # ------------------------------------------------------------------------------------------ paths

    def _paths(self) -> Iterator[Path]:
        stored = self.stored
        key_parts = self._key_parts()
        yield Path(self, "", stored.family, self.prefix, key_parts, unique=len(key_parts))
        for name in sorted(stored.readable):
            index = stored.readable[name]
            path = self._record_path(index, key_parts) if self.is_record else self._sql_path(index, key_parts)
            if path is not None:
                yield path

    def _key_parts(self) -> list[Part]:
        definition = self.stored.definition
        if self.is_record:
            grammar = self.stored.codec.grammar
            pairs = zip(definition.primary_key, grammar.parts, strict=True)
            return [RecordPart(self._fields[name], part, self._column(name)) for name, part in pairs]
        if self.rowid:
            return [RowidPart(-1 if self.alias is None else self.alias)]
        return [
            self._dynamic(self._fields[name], getattr(definition.field(name).kind, "collation", "BINARY"))
            for name in definition.primary_key
        ]

    def _column(self, name: str) -> SqlColumn:
        return self.columns[self._fields[name]]

    def _dynamic(self, position: int, collation: str) -> Part:
        return DynamicPart(position, self.columns[position].affinity, collation)

    def _record_path(self, index: Any, key_parts: Sequence[Part]) -> Path | None:
        definition: IndexDefinition = index.definition
        if definition.kind == "multi":
            return None
        where = None
        if definition.where is not None:
            where = self._tests(definition.where)
            if where is None:
                return None
        names = [*definition.columns, *(index.tail if index.keyed else ())]
        parts: list[Part] = []
        for name, part in zip(names, index.grammar.parts, strict=True):
            parts.append(RecordPart(self._fields[name], part, self._column(name)))
        unique = len(definition.parts) if definition.unique else None
        return Path(
            self, definition.name, index.family, b"", parts, unique=unique, tail=key_parts, where=where, index=index
        )

    def _sql_path(self, index: Any, key_parts: Sequence[Part]) -> Path | None:
        definition: IndexDefinition = index.definition
        where = None
        if definition.where is not None:
            where = self._partial(definition)
            if where is None:
                return None
        parts: list[Part] = []
        for part in definition.parts:
            position = self._fields.get(part.name)
            if position is None:
                return None  # the value of an expression: SQLite never asks for it by column
            parts.append(self._dynamic(position, part.collation))
        if not definition.unique:
            taken = {part.position for part in parts}
            for part_of_key in key_parts:
                if part_of_key.position in taken:
                    break
                parts.append(part_of_key)
        unique = len(definition.parts) if definition.unique else None
        return Path(
            self, definition.name, index.family, index.prefix, parts,
            unique=unique, tail=key_parts, where=where, index=index,
        )  # fmt: skip

    def _partial(self, definition: IndexDefinition) -> tuple[Test, ...] | None:  # noqa: ARG002
        return None

    def _tests(self, where: Expression) -> tuple[Test, ...] | None:
        """What a predicate says, if it is a conjunction of simple conditions."""
        conditions = where.parts if isinstance(where, And) else (where,)
        tests = []
        for condition in conditions:
            match condition:
                case Compare("is", Column(name), Constant(None)):
                    tests.append(Test(self._fields[name], "is null"))
                case Not(Compare("is", Column(name), Constant(None))) | Compare("is not", Column(name), Constant(None)):
                    tests.append(Test(self._fields[name], "not null"))
                case Column(name):
                    tests.append(Test(self._fields[name], "=", 1))
                case Not(Column(name)):
                    tests.append(Test(self._fields[name], "=", 0))
                case Compare("=", Column(name), Constant(value)) if isinstance(value, bool | int | str | bytes):
                    convert = sqlvalues.to_sql(self.stored.definition.field(name).kind)
                    tests.append(Test(self._fields[name], "=", value if convert is None else convert(value)))
                case _:
                    return None
        return tuple(tests)


def real(value: Any) -> Any:
    """A float, or text that is one, as a REAL column has it: a zero has no sign, as SQLite keeps it as an integer."""
    number = apply_affinity(value, "REAL") if type(value) is str else value
    return (number or 0.0) if type(number) is float else number


def relation_of(entry: TableEntry, columns: Sequence[SqlColumn]) -> Relation:
    """The relation of a table in the catalog, with these columns."""
    return Relation(entry.table, columns)


def find(
    txn: Transaction, relation: Relation, positions: Sequence[int], values: Sequence[Any]
) -> Iterator[tuple[bytes, bytes]]:
    """The rows whose columns at ``positions`` equal ``values``, as ``(key, value)`` of their records.

    The comparison is SQL's, after each column's affinity and by its collation; nothing equals NULL. Rows come on the
    path that narrows most, or from a scan of the table.
    """
    if any(value is None for value in values):
        return iter(())
    wanted = dict(zip(positions, values, strict=True))
    best, matched = relation.paths[0], 0
    for path in relation.paths:
        if path.where is not None:
            continue
        count = 0
        for part in path.parts:
            if part.position not in wanted or part.collation != _collation(relation, part.position):
                break
            count += 1
        if path.unique is not None and count >= path.unique:
            point = path.point([wanted[position] for position in path.positions[: path.unique]])
            pair = None if point is None else path.at(txn, point)
            rest = [position for position in positions if position not in path.positions[: path.unique]]
            found = iter(()) if pair is None else iter((pair,))
            return _filtered(relation, found, rest, wanted)
        if count > matched:
            best, matched = path, count
    leading = best.positions[:matched]
    span = best.range([wanted[position] for position in leading])
    if span is None:
        return iter(())
    rest = [position for position in positions if position not in leading]
    return _filtered(relation, best.rows(txn, *span), rest, wanted)


def _collation(relation: Relation, position: int) -> str:
    return "BINARY" if position < 0 else relation.columns[position].collation


def _filtered(relation: Relation, pairs: Iterator[Pair], rest: Sequence[int], wanted: dict[int, Any]) -> Iterator[Pair]:
    if not rest:
        return pairs
    tests = [(position, *_compared(relation.columns[position], wanted[position])) for position in rest]
    decode = relation.decode

    def filtered() -> Iterator[Pair]:
        for key, raw in pairs:
            row = decode(key, raw)
            for position, value, fold in tests:
                stored = row[position]
                if (stored if fold is None or stored.__class__ is not str else fold(stored)) != value:
                    break
            else:
                yield key, raw

    return filtered()


def _compared(column: SqlColumn, value: Any) -> tuple[Any, Callable[[str], str] | None]:
    """A value after a column's affinity and, with what folds stored text likewise, its collation."""
    value = apply_affinity(value, column.affinity)
    fold = COLLATIONS[column.collation]
    return (fold(value) if fold is not None and isinstance(value, str) else value), fold


_UPPER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _nocase(text: str) -> str:
    return text.translate(_UPPER)


def _rtrim(text: str) -> str:
    return text.rstrip(" ")


COLLATIONS: Final[dict[str, Callable[[str], str] | None]] = {"BINARY": None, "NOCASE": _nocase, "RTRIM": _rtrim}
"""What text is compared as, by collation; None: as it is. NOCASE folds the letters of ASCII alone."""
