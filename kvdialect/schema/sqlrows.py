"""Rows of the tables that SQL makes, to bytes and back.

Their values are SQL's dynamic ones (:mod:`kvdialect.codec.dynamic`). All of these tables share one column family: every
key there begins with four bytes, big-endian, the number of a table or of an index, which is never used again. Behind
them:

- a row of a table with a rowid: the rowid as 8 bytes, big-endian, sign bit flipped;
- a row of a table WITHOUT ROWID: the columns of its primary key, one after another;
- an entry of an index: its columns; and behind them the rest of the row's key (without the table's number), unless the
  index is unique and none of its columns is NULL. The entry's value is the rest of the row's key.

A row's value is ``01``, the version of the table's fields in two bytes, big-endian, and a msgpack array of all fields,
but for a rowid that is no column, in the order of the definition. Since 0.1.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec

from kvdialect import exc
from kvdialect.codec.dynamic import COLLATIONS, DynamicKind, encode_value, folded
from kvdialect.codec.kinds import Namespace, put, unpacker
from kvdialect.schema.compiled import dynamic_decoder
from kvdialect.schema.definition import MISSING, ROWID, FieldDefinition, IndexDefinition, TableDefinition
from kvdialect.schema.expressions import columns_of
from kvdialect.schema.rows import FORMAT, Inserts, Move, Pair, Row, insert_rows, moved_entries
from kvdialect.storage.batch import KEY_LIMIT

SHARED_FAMILY: Final = "kvdialect.sql"
"""The column family of all tables that SQL makes."""

SIGN: Final = 1 << 63
_pack: Final[Callable[[int], bytes]] = struct.Struct(">Q").pack
LOWEST: Final = -SIGN
HIGHEST: Final = SIGN - 1

_TYPES: Final[Mapping[str, str]] = {
    "INTEGER": "int",
    "NUMERIC": "int",
    "REAL": "float",
    "TEXT": "str",
    "BLOB": "bytes",
}
_unpack: Final = unpacker(list)
_ERRORS: Final = (msgspec.DecodeError, ValueError, TypeError, IndexError, KeyError)


def prefix_of(number: int) -> bytes:
    """What the keys of a table or an index begin with."""
    return number.to_bytes(4, "big")


class SqlTableCodec:
    """The generated code of one SQL table: the counterpart of :class:`~kvdialect.schema.rows.TableCodec`.

    A row is a tuple of the values of all fields, hidden ones included, in the order of the definition.

    Attributes:
        definition: the table.
        names: its fields, in order.
        positions: of the fields by name.
        family: the column family.
        prefix: what its keys begin with.
        rowid: its rows are keyed by a rowid.
        indexes: a codec per index.
        encode: ``encode(row) -> (key, value, row)``: applies affinities, and encodes.
        decode: ``decode(key, value) -> row``. SerializationError if the bytes are no row of this table.
        entries: ``entries(row, key) -> (pairs, ...)``: for each index a tuple of its entries for the row.
    """

    check: None = None
    """CHECKs of an SQL table stand in its statement; see :mod:`kvdialect.dialect.shadow`."""

    def __init__(
        self, definition: TableDefinition, history: Mapping[int, tuple[FieldDefinition, ...]] | None = None
    ) -> None:
        self.definition = definition
        self.family = SHARED_FAMILY
        self.prefix = prefix_of(definition.id)
        self.names = definition.names
        self.history = dict(history or {})
        self.positions = {name: at for at, name in enumerate(self.names)}
        self.key_positions = tuple(self.positions[name] for name in definition.primary_key)
        self.key_fields = tuple(definition.field(name) for name in definition.primary_key)
        self.rowid = definition.layout == "rowid"
        self._hidden_rowid = self.names[-1] == ROWID
        self.header = FORMAT + definition.version.to_bytes(2, "big")
        self._older: dict[bytes, Callable[[bytes, bytes], Row]] = {}
        self.indexes = tuple(SqlIndexCodec(self, index) for index in definition.indexes)

    # The code is made when it is first asked for: a schema may have many tables, of which a program reads few.

    @cached_property
    def _made(self) -> Namespace:
        names: Namespace = {}
        source = "\n".join([*self._encode_lines(names), *self._decode_lines(names), *self._entries_lines(names)])
        exec(compile(source, f"<kvdialect {self.definition.id}>", "exec"), names)  # noqa: S102 - generated here
        return names

    @cached_property
    def encode(self) -> Callable[[Row], tuple[bytes, bytes, Row]]:
        return self._made["encode"]  # type: ignore[no-any-return]

    @cached_property
    def decode(self) -> Callable[[bytes, bytes], Row]:
        decode: Callable[[bytes, bytes], Row] = self._made["decode"]
        decoder = dynamic_decoder(len(self.names), self.header, self.rowid, self._hidden_rowid, decode)
        return decode if decoder is None else decoder.decode

    @cached_property
    def entries(self) -> Callable[[Row, bytes], tuple[tuple[Pair, ...], ...]]:
        return self._made["entries"]  # type: ignore[no-any-return]

    def insert(self, rows: list[Row]) -> Inserts:
        """As :class:`~kvdialect.schema.rows.TableCodec` has it."""
        return insert_rows(self, rows)

    def moves(self, before: Row, after: Row, key: bytes) -> list[Move]:
        """As :class:`~kvdialect.schema.rows.TableCodec` has it."""
        return moved_entries(self, before, after, key)

    # ------------------------------------------------------------------------------------------ keys

    def rowid_key(self, rowid: int) -> bytes:
        """The key of the row with this rowid."""
        return self.prefix + (rowid + SIGN).to_bytes(8, "big")

    def key_of(self, values: Sequence[Any]) -> bytes:
        """The key of the row with these primary key values, of a table without a rowid."""
        parts = [field.kind.encode(value) for field, value in zip(self.key_fields, values, strict=True)]
        return self.prefix + b"".join(parts)

    def key(self, values: Sequence[Any]) -> bytes:
        """The key of the row with these primary key values.

        Raises:
            DataError: if one can be no value of its column.
        """
        if len(values) != len(self.key_fields):
            raise exc.DataError(
                f"the primary key of {self._named} has {len(self.key_fields)} columns; got {len(values)} values",
                table=self.definition.name,
            )
        try:
            checked = [field.kind.check(value) for field, value in zip(self.key_fields, values, strict=True)]
            if not self.rowid:
                return self.key_of(checked)
            if type(checked[0]) is not int or not -SIGN <= checked[0] < SIGN:
                raise ValueError("it is an int of 64 bits")
            return self.rowid_key(checked[0])
        except (ValueError, TypeError, OverflowError) as error:
            raise exc.DataError(
                f"{values!r:.80} is no primary key of {self._named}: {error}", table=self.definition.name
            ) from error

    def decode_key(self, key: bytes) -> Row:
        """The rowid of a key, as a tuple; for a table without rowids the key itself: values are not to be had of it."""
        if not self.rowid:
            return (key[4:],)
        if len(key) != 12:
            raise self.undecodable(key, "a key of a table with rowids has 12 bytes")
        return (int.from_bytes(key[4:], "big") - SIGN,)

    def identity(self, row: Row) -> tuple[Any, ...]:
        """The primary key values of a row."""
        return tuple(row[at] for at in self.key_positions)

    def named(self, identity: Sequence[Any]) -> str:
        """A row as messages name it."""
        if self.rowid:
            return f"{self._named}(rowid={identity[0]})"
        return f"{self._named}({', '.join(exc.shown(v) if isinstance(v, bytes) else repr(v) for v in identity)})"

    @property
    def _named(self) -> str:
        schema, name = self.definition.sql_name
        return name if schema == "main" else f"{schema}.{name}"

    def refusal(self, field: FieldDefinition, value: Any, row: Row | None) -> exc.Error:  # noqa: ARG002 - as records'
        """The error for a value that its column does not take."""
        if value is None:
            return exc.IntegrityError(
                f"NOT NULL constraint failed: {self._named}.{field.name}", table=self._named, field=field.name
            )
        return exc.DataError(
            f"{self._named}.{field.name} is {value!r:.80} ({type(value).__name__}); allowed: {field.kind.allowed}",
            table=self._named, field=field.name, value=value, allowed=field.kind.allowed,
        )  # fmt: skip

    def undecodable(self, key: bytes, error: Exception | str) -> exc.SerializationError:
        """The error for bytes that are no row of this table."""
        return exc.SerializationError(
            f"{self._named}[{exc.shown(key)}] does not decode: {error}",
            table=self._named, cf=self.family, key=key,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------ generated code

    def _encode_lines(self, names: Namespace) -> list[str]:
        fields = self.definition.fields
        variables = "".join(f"v{at}, " for at in range(len(fields)))
        tests: list[str] = []
        for at, field in enumerate(fields):
            v = f"v{at}"
            if field.name == ROWID or (at in self.key_positions and self.rowid):
                tests.append(f"(type({v}) is int and {LOWEST} <= {v} <= {HIGHEST})")
                continue
            assert isinstance(field.kind, DynamicKind)
            expected = _TYPES[field.kind.affinity]
            test = f"type({v}) is {expected}"
            if expected == "int":
                test += f" and {LOWEST} <= {v} <= {HIGHEST}"
            elif expected == "float":
                test += f" and {v} == {v}"
            tests.append(f"({v} is None or {test})" if field.nullable else f"({test})")
        check = f"{variables}= row = {put(names, self._check_row)}(row)"
        lines = [
            "def encode(row):",
            f"    {variables}= row",
            f"    if not ({' and '.join(tests)}):",
            f"        {check}",
        ]
        stored = variables[: variables.rindex(f"v{len(fields) - 1}, ")] if self._hidden_rowid else variables
        pack = put(names, msgspec.msgpack.Encoder().encode)
        if self.rowid:
            [at] = self.key_positions
            lines.append(f"    key = {self.prefix!r} + (v{at} + {SIGN}).to_bytes(8, 'big')")
        else:
            encoded = " + ".join(self._part(at, self.definition.fields[at], names) for at in self.key_positions)
            lines.append(f"    key = {self.prefix!r} + {encoded}")
            lines.append(f"    if len(key) > {KEY_LIMIT}: {put(names, self._too_long)}(key)")
        lines.append(f"    try: value = {self.header!r} + {pack}(({stored}))")
        lines.append(f"    except UnicodeEncodeError as error: {put(names, self._unpackable)}(row, error)")
        lines.append("    return key, value, row")
        return lines

    def _part(self, at: int, field: FieldDefinition, names: Namespace, collation: str | None = None) -> str:
        """Source of a value in a key."""
        kind = field.kind
        own = kind.collation if isinstance(kind, DynamicKind) else "BINARY"
        return f"{put(names, _encoder(collation or own))}(v{at})"

    def _check_row(self, row: Row) -> Row:
        checked: list[Any] = []
        for field, value in zip(self.definition.fields, row, strict=True):
            if value is None or value != value:  # NaN is NULL to SQLite
                if not field.nullable:
                    raise self.refusal(field, None, row)
                checked.append(None)
                continue
            try:
                checked.append(field.kind.check(value))
            except (ValueError, TypeError, OverflowError) as error:
                raise self.refusal(field, value, row) from error
        for at in self.key_positions if self.rowid else ():
            if type(checked[at]) is not int:
                raise exc.IntegrityError("datatype mismatch", table=self._named, value=checked[at])
        return tuple(checked)

    def _unpackable(self, _row: Row, error: Exception) -> None:
        raise exc.DataError(
            f"a row of {self._named} has text that is no Unicode: {error}", table=self._named
        ) from error

    def _too_long(self, key: bytes) -> None:
        raise exc.KeyTooLong(
            f"the primary key of a row of {self._named} takes {len(key)} bytes; keys are 1 to {KEY_LIMIT} bytes"
            " (shorten the column or store a digest of it)",
            table=self._named, key=key, limit=KEY_LIMIT,
        )  # fmt: skip

    def _decode_lines(self, names: Namespace) -> list[str]:
        fields = self.definition.fields
        count = len(fields) - self._hidden_rowid
        variables = "".join(f"v{at}, " for at in range(count))
        unpack = put(names, _unpack)
        last = f"int.from_bytes(key[4:], 'big') - {SIGN}, " if self._hidden_rowid else ""
        return [
            "def decode(key, value):",
            "    try:",
            f"        if value[:3] == {self.header!r}:",
            f"            {variables}= {unpack}(value[3:])" if count else f"            {unpack}(value[3:])",
            f"            return ({variables}{last})",
            f"        return {put(names, self._decode_older)}(key, value)",
            f"    except {put(names, _ERRORS)} as error:",
            f"        raise {put(names, self.undecodable)}(key, error) from error",
        ]

    def _decode_older(self, key: bytes, value: bytes) -> Row:
        """Decode a row written under another version of the table's fields."""
        head = value[:3]
        decoder = self._older.get(head)
        if decoder is None:
            decoder = self._older[head] = self._older_decoder(head)
        return decoder(key, value)

    def _older_decoder(self, head: bytes) -> Callable[[bytes, bytes], Row]:
        if len(head) < 3 or head[:1] != FORMAT:
            raise ValueError(
                f"it begins with {exc.shown(head)}; a value of this release begins with 0x01 and a version"
            )
        version = int.from_bytes(head[1:], "big")
        fields = self.history.get(version)
        if fields is None:
            raise ValueError(f"version {version} of the table's fields is not in the catalog")
        written = [field for field in fields if field.name != ROWID]
        place = {field.id: at for at, field in enumerate(written)}
        now = [field for field in self.definition.fields if field.name != ROWID]

        def decode(key: bytes, value: bytes) -> Row:
            stored = _unpack(value[3:])
            if len(stored) != len(written):
                raise ValueError(f"it has {len(stored)} values; version {version} has {len(written)}")
            row = []
            for field in now:
                at = place.get(field.id)
                if at is None:
                    row.append(None if field.default is MISSING else copy.copy(field.default))
                else:
                    row.append(stored[at])
            if self._hidden_rowid:
                row.append(int.from_bytes(key[4:], "big") - SIGN)
            return tuple(row)

        return decode

    def _entries_lines(self, names: Namespace) -> list[str]:
        variables = "".join(f"v{at}, " for at in range(len(self.names)))
        lines = ["def entries(row, key):"]
        if self.indexes:
            lines += [f"    {variables}= row", "    rest = key[4:]"]
        for number, index in enumerate(self.indexes):
            lines += [f"    {line}" for line in index.entry_lines(f"e{number}", names)]
        lines.append(f"    return ({''.join(f'e{number}, ' for number in range(len(self.indexes)))})")
        return lines


def _encoder(collation: str) -> Callable[[Any], bytes]:
    if collation == "BINARY":
        return encode_value
    if collation not in COLLATIONS:
        raise exc.NotSupportedError(
            f"collation {collation} is not known to the store; allowed: {', '.join(COLLATIONS)}", collation=collation
        )
    return lambda value: encode_value(folded(value, collation) if type(value) is str else value)


class SqlIndexCodec:
    """The generated code of one index of an SQL table.

    Attributes:
        definition: the index.
        family: the column family of its entries, which is the tables'.
        prefix: what its entries begin with.
        table: the codec of its table.
    """

    def __init__(self, table: SqlTableCodec, definition: IndexDefinition) -> None:
        self.table = table
        self.definition = definition
        self.family = SHARED_FAMILY
        self.prefix = prefix_of(definition.id)
        self._encoders = tuple(_encoder(part.collation) for part in definition.parts)

    def leading(self, values: Sequence[Any]) -> bytes:
        """What the entries begin with whose first columns have these values."""
        parts = [encode(value) for encode, value in zip(self._encoders, values, strict=False)]
        return self.prefix + b"".join(parts)

    def entries(self, row: Row, key: bytes) -> list[Pair]:
        """The entries of a row; none if the predicate excludes it."""
        return list(self.table.entries(row, key)[self.table.indexes.index(self)])

    def primary_key(self, entry_key: bytes, entry_value: bytes) -> bytes:  # noqa: ARG002 - as records' have it
        """The key of the row that an entry leads to."""
        return self.table.prefix + entry_value

    def values(self, row: Row) -> tuple[Any, ...]:
        """The values that the index has of a row."""
        return tuple(row[self.table.positions[part.name]] for part in self.definition.parts)

    def entry_lines(self, target: str, names: Namespace) -> list[str]:
        """Statements that assign the entries of the row in ``v0``, ``v1``... with ``rest`` of its key to ``target``."""
        table, definition = self.table, self.definition
        at = [table.positions[part.name] for part in definition.parts]
        encoded = [
            self._part_source(position, encode, names) for position, encode in zip(at, self._encoders, strict=True)
        ]
        made = [f"k = {self.prefix!r} + {' + '.join(encoded)}"]
        if definition.unique:
            nullable = [position for position in at if table.definition.fields[position].nullable]
            if nullable:
                made.append(f"if {' or '.join(f'v{position} is None' for position in nullable)}: k += rest")
        else:
            made.append("k += rest")
        made.append(f"if len(k) > {KEY_LIMIT}: {put(names, self._too_long)}(row, k)")
        made.append(f"{target} = ((k, rest),)")
        if definition.where is None:
            return made
        [hidden] = columns_of(definition.where)
        return [
            f"if v{table.positions[hidden]} == 1:",
            *(f"    {line}" for line in made),
            f"else: {target} = ()",
        ]

    def _part_source(self, position: int, encode: Callable[[Any], bytes], names: Namespace) -> str:
        """Source of a value in an entry; integers, which are most, without a call of Python's."""
        source = f"{put(names, encode)}(v{position})"
        kind = self.table.definition.fields[position].kind
        if not isinstance(kind, DynamicKind) or kind.affinity not in ("INTEGER", "NUMERIC"):
            return source
        return (
            f"(b'\\x15' + {put(names, _pack)}(v{position} + {SIGN}) + b'\\0' if type(v{position}) is int else {source})"
        )

    def _too_long(self, row: Row, key: bytes) -> None:
        raise exc.KeyTooLong(
            f"the entry of {self.table.named(self.table.identity(row))} in index {self.definition.name} takes"
            f" {len(key)} bytes; keys are 1 to {KEY_LIMIT} bytes (shorten the column, or index a digest of it)",
            table=self.table.definition.name, index=self.definition.name, key=key, limit=KEY_LIMIT,
        )  # fmt: skip
