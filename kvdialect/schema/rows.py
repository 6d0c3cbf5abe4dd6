"""Rows to bytes and back: the code that is generated for each table and each of its indexes.

A row is a tuple of the values of all columns, in order of declaration. Its key is what :mod:`kvdialect.codec.keys`
makes of the primary key. Its value is a header (:data:`FORMAT`, then the version of the table's fields in two bytes,
big-endian) and a msgpack array of the other columns; or, for ``kvdialect_format="bincode"``, the layout of
:mod:`kvdialect.codec.bincode` without a header.

An index entry is its columns' key parts with those of the record's key behind them that are not among them, and an
empty value: together they say the whole key. A unique entry has the
columns alone, and the record's key as its value; where one of them is NULL the record's key stands behind them all the
same, as NULLs are distinct. Included columns follow in the value, as ``01`` and a msgpack array (a unique entry's array
begins with the record's key).
"""

from __future__ import annotations

import copy
import datetime as dt
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from kvdialect import exc
from kvdialect.codec.bincode import BincodeCodec
from kvdialect.codec.keys import KeyGrammar, KeyPart
from kvdialect.codec.kinds import Namespace, compiled, put, unpacker
from kvdialect.schema.compiled import decoder, encoder, index_spec, key_spec
from kvdialect.schema.definition import MISSING, CheckDefinition, FieldDefinition, IndexDefinition, TableDefinition
from kvdialect.schema.expressions import columns_of, excludes_null, predicate_source
from kvdialect.schema.trees import shown_tree
from kvdialect.storage.batch import KEY_LIMIT

FORMAT: Final = b"\x01"
"""First byte of a msgpack value, since 0.1."""

ENTRY_FORMAT: Final = b"\x01"
"""First byte of the value of an index entry with included columns, since 0.1."""

Row = tuple[Any, ...]
Pair = tuple[bytes, bytes]
Inserts = tuple[list[Pair], list[tuple[dict[bytes, bytes], int]]]
"""Keys and values of rows, and for each index the entries of them all, and how many these were."""
Move = tuple[int, tuple[Pair, ...], tuple[Pair, ...]]
"""The number of an index, its entries for a row before a change, and after."""

_NOT_EMPTY: Final = "the engines have no empty key: give it a value, or let the key have a second column"
"""What to do about a column of text or bytes that is empty, and a key or a unique index of its own."""


class TableCodec:
    """The generated code of one table.

    Attributes:
        definition: the table.
        names: its columns, in order: what a row holds.
        grammar: the key's.
        indexes: a codec per index.
        encode: ``encode(row) -> (key, value, row)``: checks, normalises and encodes a row. DataError names the record,
            the field, its value and what is allowed.
        decode: ``decode(key, value) -> row``. SerializationError if the bytes are no row of this table.
        decoder: the compiled decoder, or None.
        check: ``check(row)``: IntegrityError for a normalised row of which a CHECK is false; None without CHECKs.
        entries: ``entries(row, key) -> (pairs, ...)``: for each index a tuple of its entries for the row.
        insert: ``insert(rows) -> (pairs, [(entries, count), ...])``: of a list of rows key and value of each, and for
            each index a dict of all entries, and how many these were: more than it has where some are equal.
        moves: ``moves(before, after, key) -> [(number, entries before, entries after), ...]``: of two rows of the same
            key, for each index whose entries differ.
    """

    def __init__(
        self, definition: TableDefinition, history: Mapping[int, tuple[FieldDefinition, ...]] | None = None
    ) -> None:
        self.definition = definition
        self.names = definition.names
        self.history = dict(history or {})
        self.grammar = key_grammar(definition)
        self.positions = {name: at for at, name in enumerate(self.names)}
        self.key_positions = tuple(self.positions[name] for name in definition.primary_key)
        self.key_fields = tuple(definition.field(name) for name in definition.primary_key)
        self.header = FORMAT + definition.version.to_bytes(2, "big") if definition.format == "msgpack" else b""
        self._older: dict[bytes, Callable[[bytes], Row]] = {}
        self.indexes = tuple(IndexCodec(self, index) for index in definition.indexes)
        names: Namespace = {}
        self.source = "\n".join(
            [*self._encode_lines(names), *self._decode_row_lines(names), *self._entries_lines(names)]
        )
        exec(compile(self.source, f"<kvdialect {definition.name}>", "exec"), names)  # noqa: S102 - generated here
        self.encode: Callable[[Row], tuple[bytes, bytes, Row]] = names["encode"]
        self.decode: Callable[[bytes, bytes], Row] = names["decode"]
        self.decoder = None
        if definition.format == "msgpack":
            self.decoder = decoder(
                self.names, self.grammar, definition.primary_key, self.header, definition.value_fields, self.decode
            )
        if self.decoder is not None:
            self.decode = self.decoder.decode
        self.entries: Callable[[Row, bytes], tuple[tuple[Pair, ...], ...]] = names["entries"]
        self.insert: Callable[[list[Row]], Inserts] = partial(insert_rows, self)
        self.moves: Callable[[Row, Row, bytes], list[Move]] = partial(moved_entries, self)
        self.check = self._check()
        self.encoder = self._encoder() if definition.format == "msgpack" else None
        if self.encoder is not None:
            self.encode, self.entries = self.encoder.encode, self.encoder.entries
            self.insert, self.moves = self.encoder.insert, self.encoder.moves

    def _check(self) -> Callable[[Row], None] | None:
        """A function that refuses a row of which a CHECK is false; None where there is none."""
        definition = self.definition
        if not definition.checks:
            return None
        names: Namespace = {}
        columns = {name: f"v{at}" for at, name in enumerate(self.names)}
        kinds = {field.name: field.kind for field in definition.fields}
        lines = ["def check(row):", f"    {''.join(f'v{at}, ' for at in range(len(self.names)))}= row"]
        for check in definition.checks:
            failed = predicate_source(
                check.condition, columns, names, negate=True, nullable=nullable_names(self), kinds=kinds
            )
            lines.append(f"    if {failed}: raise {put(names, self.check_failed)}({put(names, check)}, row)")
        exec(compile("\n".join(lines), f"<kvdialect CHECK of {definition.name}>", "exec"), names)  # noqa: S102 - as above
        return names["check"]  # type: ignore[no-any-return]

    def _encoder(self) -> Any:
        """The compiled encoder, or None."""
        definition = self.definition
        return encoder(
            definition.fields, self.grammar, definition.primary_key, self.header,
            [field.name for field in definition.value_fields], [index.compiled_spec() for index in self.indexes],
            KEY_LIMIT, self.encode, self.entries,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------ keys

    def key(self, values: Sequence[Any]) -> bytes:
        """The key of the record with these primary key values.

        Raises:
            DataError: if there are too many or too few, or one can be no value of its column.
        """
        if len(values) != len(self.key_fields):
            raise exc.DataError(
                f"the primary key of {self.definition.name} is ({', '.join(self.definition.primary_key)}); got"
                f" {len(values)} value{'' if len(values) == 1 else 's'}: {values!r:.80}",
                table=self.definition.name,
            )
        checked = []
        for field, value in zip(self.key_fields, values, strict=True):
            try:
                checked.append(field.kind.check(value))
            except (ValueError, TypeError) as error:
                raise self.refusal(field, value, None) from error
        return self.checked_key(self.grammar.encode(checked), tuple(values))

    def decode_key(self, key: bytes) -> Row:
        """The primary key values of a key.

        Raises:
            SerializationError: if it is no key of this table.
        """
        try:
            return self.grammar.decode(key)
        except ValueError as error:
            raise self.undecodable(key, error) from error

    def identity(self, row: Row) -> tuple[Any, ...]:
        """The primary key values of a row."""
        return tuple(row[at] for at in self.key_positions)

    def named(self, identity: Sequence[Any]) -> str:
        """A record as messages name it: ``coins(coin_id=0x01..., n=3)``."""
        named = zip(self.definition.primary_key, identity, strict=False)
        return f"{self.definition.name}({', '.join(f'{name}={_shown(value)}' for name, value in named)})"

    def checked_key(self, key: bytes, identity: Sequence[Any]) -> bytes:
        """Return ``key`` if the storage layer takes it."""
        if not key or len(key) > KEY_LIMIT:
            what = "is empty" if not key else f"takes {len(key)} bytes"
            advice = "shorten the column or store a digest of it" if key else _NOT_EMPTY
            raise exc.KeyTooLong(
                f"the key of {self.named(identity)} {what}; keys are 1 to {KEY_LIMIT} bytes ({advice})",
                table=self.definition.name, key=key, limit=KEY_LIMIT,
            )  # fmt: skip
        return key

    # ------------------------------------------------------------------------------------------ messages

    def refusal(self, field: FieldDefinition, value: Any, row: Row | None) -> exc.DataError:
        """The error for a value that its column does not take."""
        where = f"{self.definition.name}.{field.name}"
        identity = "" if row is None else f" of {self.named(self.identity(row))}"
        if value is None:
            seen = "None"
            wanted = f"give {field.kind.allowed}; None is not allowed in this field"
        else:
            seen = f"{_shown(value)} ({type(value).__name__})"
            wanted = f"allowed: {field.kind.allowed}{', or None' if field.nullable else ''}"
        return exc.DataError(
            f"{where}{identity} is {seen}; {wanted}",
            table=self.definition.name, field=field.name, value=value, allowed=field.kind.allowed,
        )  # fmt: skip

    def check_failed(self, check: CheckDefinition, row: Row) -> exc.IntegrityError:
        """The error for a row of which a CHECK is false."""
        shown = shown_tree(check.condition)
        seen = ", ".join(f"{name} is {_shown(row[self.positions[name]])}" for name in columns_of(check.condition))
        return exc.IntegrityError(
            f"CHECK constraint failed: {check.name or shown}: {self.named(self.identity(row))} is to have {shown}, and"
            f" {seen}",
            table=self.definition.name, constraint=check.name,
        )  # fmt: skip

    def undecodable(self, key: bytes, error: Exception | str) -> exc.SerializationError:
        """The error for bytes that are no row of this table."""
        return exc.SerializationError(
            f"{self.definition.name}[{exc.shown(key)}] does not decode: {error}",
            table=self.definition.name, cf=self.definition.name, key=key,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------ generated code

    def _check_row(self, row: Row) -> Row:
        """Check and normalise each value of a row; the slow way round, taken when a cheap test fails."""
        checked: list[Any] = []
        for field, value in zip(self.definition.fields, row, strict=True):
            if value is None and field.nullable:
                checked.append(None)
                continue
            try:
                if value is None:
                    raise ValueError("NULL")
                checked.append(field.kind.check(value))
            except (ValueError, TypeError, OverflowError) as error:
                raise self.refusal(field, value, row) from error
        return tuple(checked)

    def _encode_lines(self, names: Namespace) -> list[str]:
        fields = self.definition.fields
        tests: list[str] = []
        certain = True
        for at, field in enumerate(fields):
            test = field.kind.test_source(f"v{at}", names)
            if test is None:
                certain = False
            elif field.nullable:
                tests.append(f"(v{at} is None or {test})")
            else:
                tests.append(test)
        variables = "".join(f"v{at}, " for at in range(len(fields)))
        check = f"{variables}= row = {put(names, self._check_row)}(row)"
        lines = ["def encode(row):", f"    {variables}= row"]
        if certain:
            lines += [f"    if not ({' and '.join(tests)}):", f"        {check}"]
        else:
            lines.append(f"    {check}")
        key = self.grammar.encode_source([f"v{at}" for at in self.key_positions], names)
        lines.append(f"    try: key = {key}")
        lines.append(f"    except ValueError as error: {put(names, self._unordered)}(row, error)")
        if self.grammar.width is None or self.grammar.width > KEY_LIMIT:
            refuse = f"{put(names, self.checked_key)}(key, {put(names, self.identity)}(row))"
            lines.append(f"    if not key or len(key) > {KEY_LIMIT}: {refuse}")
        if self.definition.format == "bincode":
            pack = put(names, self._bincode().encode)
            stored = [f"v{self.positions[field.name]}" for field in self.definition.value_fields]
            head = ""
        else:
            pack = put(names, msgspec.msgpack.Encoder().encode)
            stored = [self._store_source(f"v{self.positions[f.name]}", f, names) for f in self.definition.value_fields]
            head = f"{put(names, self.header)} + "
        lines.append(f"    try: value = {head}{pack}(({''.join(part + ', ' for part in stored)}))")
        lines.append(
            f"    except (ValueError, TypeError, OverflowError) as error: {put(names, self._unpackable)}(row, error)"
        )
        lines.append("    return key, value, row")
        return lines

    def _store_source(self, v: str, field: FieldDefinition, names: Namespace) -> str:
        source = field.kind.store_source(v, names)
        return source if source == v or not field.nullable else f"(None if {v} is None else {source})"

    def _bincode(self) -> BincodeCodec:
        return BincodeCodec([(field.name, field.kind, field.nullable) for field in self.definition.value_fields])

    def _unordered(self, row: Row, error: Exception) -> None:
        """Find the key column whose value has no place in an order (NaN) and refuse it."""
        for field, at in zip(self.key_fields, self.key_positions, strict=True):
            try:
                field.kind.encode(row[at])
            except ValueError:
                raise exc.DataError(
                    f"{self.definition.name}.{field.name} is {_shown(row[at])}, which has no place in a key; give a"
                    " number",
                    table=self.definition.name, field=field.name, value=row[at],
                ) from error  # fmt: skip
        raise error

    def _unpackable(self, row: Row, error: Exception) -> None:
        raise exc.SerializationError(
            f"{self.named(self.identity(row))} does not encode: {error}", table=self.definition.name
        ) from error

    def decode_lines(self, target: Callable[[int], str], names: Namespace) -> list[str]:
        """Statements that decode the variables ``key`` and ``value`` into ``target(position)`` of each column."""
        lines, parts = self.grammar.decode_source("key", names)
        lines += [f"{target(at)} = {part}" for at, part in zip(self.key_positions, parts, strict=True)]
        values = self.definition.value_fields
        if self.definition.format == "bincode":
            if values:
                targets = "".join(target(self.positions[field.name]) + ", " for field in values)
                lines.append(f"{targets}= {put(names, self._bincode().decode)}(value)")
            return lines
        wires = [field.kind.wire | None if field.nullable else field.kind.wire for field in values]
        unpack = put(names, row_unpacker(wires))
        received, conversions = [], []
        for field in values:
            at = self.positions[field.name]
            load = field.kind.load_source(f"w{at}", names)
            if load == f"w{at}":
                received.append(target(at))
                continue
            received.append(f"w{at}")
            nullable = f"None if w{at} is None else " if field.nullable else ""
            conversions.append(f"{target(at)} = {nullable}{load}")
        older = f"{put(names, self._decode_older)}(value)"
        lines.append(f"if value[:3] == {put(names, self.header)}:")
        if received:
            targets = "".join(target(self.positions[field.name]) + ", " for field in values)
            lines.append(f"    {''.join(name + ', ' for name in received)}= {unpack}(value[3:])")
            lines += [f"    {line}" for line in conversions]
            lines += ["else:", f"    {targets}= {older}"]
        else:
            lines += [f"    {unpack}(value[3:])", "else:", f"    {older}"]
        return lines

    def _decode_row_lines(self, names: Namespace) -> list[str]:
        lines = ["def decode(key, value):", "    try:"]
        lines += [f"        {line}" for line in self.decode_lines(lambda at: f"v{at}", names)]
        lines += [
            f"    except {put(names, DECODE_ERRORS)} as error:",
            f"        raise {put(names, self.undecodable)}(key, error) from error",
            f"    return {''.join(f'v{at}, ' for at in range(len(self.names)))}",
        ]
        return lines

    def _decode_older(self, value: bytes) -> Row:
        """Decode the value columns of a row written under another version of the table's fields."""
        head = value[:3]
        decoder = self._older.get(head)
        if decoder is None:
            decoder = self._older[head] = self._older_decoder(head)
        return decoder(value)

    def _older_decoder(self, head: bytes) -> Callable[[bytes], Row]:
        if len(head) < 3 or head[:1] != FORMAT:
            raise ValueError(
                f"it begins with {exc.shown(head)}; a value of this release begins with 0x01 and a version"
            )
        version = int.from_bytes(head[1:], "big")
        fields = self.history.get(version)
        if fields is None:
            raise ValueError(f"version {version} of the table's fields is not in the catalog")
        written = [field for field in fields if field.name not in _key_names(fields, self)]
        wires = [field.kind.wire | None if field.nullable else field.kind.wire for field in written]
        unpack = row_unpacker(wires)
        place = {field.id: at for at, field in enumerate(written)}
        now = self.definition.value_fields

        def decode(value: bytes) -> Row:
            wire = unpack(value[3:])
            row = []
            for field in now:
                at = place.get(field.id)
                if at is None:
                    if field.default is MISSING:
                        raise ValueError(f"it has no {field.name} and the column has no default")
                    row.append(copy.deepcopy(field.default))
                else:
                    row.append(None if wire[at] is None else field.kind.load(wire[at]))
            return tuple(row)

        return decode

    def _entries_lines(self, names: Namespace) -> list[str]:
        variables = "".join(f"v{at}, " for at in range(len(self.names)))
        lines = ["def entries(row, key):"]
        if self.indexes:
            lines.append(f"    {variables}= row")
        for number, index in enumerate(self.indexes):
            lines += [f"    {line}" for line in index.entry_lines(f"e{number}", names)]
        lines.append(f"    return ({''.join(f'e{number}, ' for number in range(len(self.indexes)))})")
        return lines


def leads_nowhere(family: str, table: str, error: exc.KeyTooLong) -> exc.Corruption:
    """The error for an entry of an index that leads to what can be no key of a record."""
    return exc.Corruption(
        f"an entry of {family} leads to what is no key of {table}: {error.message} (drop the index and build it again)",
        cf=family,
    )


DECODE_ERRORS: Final = (msgspec.DecodeError, ValueError, TypeError, OverflowError, IndexError)
"""What decoding bytes that are no row may raise."""


class IndexCodec:
    """The generated code of one index.

    Attributes:
        definition: the index.
        family: the column family of its entries.
        table: the codec of its table.
        grammar: of the entry's key; of a unique index without the record's key, which may stand behind.
        tail: the columns of the record's key that stand behind the index's own.
        covered: columns that ``decode`` gives.
        decode: ``decode(entry key, entry value) -> values`` of the columns ``covered``, in their order.
            SerializationError for what is no entry of this index.
        decoder: the compiled decoder, or None.
    """

    def __init__(self, table: TableCodec, definition: IndexDefinition) -> None:
        self.table = table
        self.definition = definition
        self.family = definition.name
        fields = [table.definition.field(part.name) for part in definition.parts]
        where = definition.where
        self._nullable = [
            field.nullable and not (where is not None and excludes_null(where, field.name)) for field in fields
        ]
        multi = definition.kind == "multi"
        kinds = [field.kind.element if multi else field.kind for field in fields]  # type: ignore[attr-defined]
        if multi:
            self._nullable = [False for _ in fields]
        own = [
            KeyPart(kind, nullable, part.descending)
            for kind, nullable, part in zip(kinds, self._nullable, definition.parts, strict=True)
        ]
        self.columns = KeyGrammar(own)
        self.keyed = not definition.unique  # whether the record's key is always part of the entry's
        keys = table.definition.primary_key
        key_parts = dict(zip(keys, table.grammar.parts, strict=True))
        # A column of the key that the index has is not stored again.
        self.tail = tuple(name for name in keys if multi or definition.unique or name not in definition.columns)
        if self.keyed:
            self.grammar = KeyGrammar([*own, *(key_parts[name] for name in self.tail)])
        elif any(self._nullable) or own[-1].descending or own[-1].kind.width is not None:
            self.grammar = self.columns
        else:
            last = own[-1]
            self.grammar = self.columns = KeyGrammar([*own[:-1], KeyPart(last.kind, raw=True)])
        included = tuple(name for name in definition.include if name not in definition.columns)
        self.included = tuple(name for name in included if name not in table.definition.primary_key)
        seen = () if multi else (*definition.columns, *table.definition.primary_key, *self.included)
        self.covered = tuple(dict.fromkeys(seen))
        self._included_fields = [table.definition.field(name) for name in self.included]
        wires: list[Any] = [bytes] if definition.unique else []
        wires += [f.kind.wire | None if f.nullable else f.kind.wire for f in self._included_fields]
        self._unpack = row_unpacker(wires)
        self._has_value = bool(self.included)
        self.decode: Callable[[bytes, bytes], Row] = self._uncovered
        if self.covered:
            names: Namespace = {}
            self.source = "\n".join(self._decode_lines(names))
            exec(compile(self.source, f"<kvdialect {definition.name}>", "exec"), names)  # noqa: S102 - generated here
            self.decode = names["decode"]
        self.decoder = self._compiled()
        if self.decoder is not None:
            self.decode = self.decoder.decode

    def _compiled(self) -> Any:
        """The compiled decoder, or None: entries of unique indexes are left to Python."""
        if not self.keyed or not self.covered:
            return None
        columns = [*self.definition.columns, *self.tail]
        header = ENTRY_FORMAT if self._has_value else None
        return decoder(self.covered, self.grammar, columns, header, self._included_fields, self.decode)

    def compiled_spec(self) -> Any:
        """The index as the compiled encoder takes it; a function of row and key where that cannot make its entries."""
        definition, table = self.definition, self.table
        names: Namespace = {}
        variables = "".join(f"v{at}, " for at in range(len(table.names)))
        if definition.kind == "multi":
            lines = ["def entries(row, key):", f"    {variables}= row"]
            lines += [f"    {line}" for line in self.entry_lines("found", names)]
            return compiled("entries", [*lines, "    return found"], names)
        holds = None
        if definition.where is not None:
            lines = ["def holds(row):", f"    {variables}= row", f"    return {self._where_source(names)}"]
            holds = compiled("holds", lines, names)
        behind = self.keyed and self.tail == table.definition.primary_key
        columns = [*definition.columns, *(self.tail if self.keyed and not behind else ())]
        parts = self.columns.parts if behind or not self.keyed else self.grammar.parts
        return index_spec(
            key_spec(parts, [table.positions[name] for name in columns]),
            definition.where, holds, table.positions,
            floats=[field.name for field in table.definition.fields if field.kind.python is float],
            unique=definition.unique, keyed=behind,
            included=[table.positions[name] for name in self.included] if self._has_value else None,
            header=ENTRY_FORMAT,
        )  # fmt: skip

    def _where_source(self, names: Namespace) -> str:
        """Source of the predicate, over the variables ``v0``, ``v1``..."""
        table = self.table
        assert self.definition.where is not None
        columns = {name: f"v{position}" for name, position in table.positions.items()}
        kinds = {field.name: field.kind for field in table.definition.fields}
        return predicate_source(self.definition.where, columns, names, nullable=nullable_names(table), kinds=kinds)

    def _uncovered(self, _key: bytes, _value: bytes) -> Row:
        """An entry of an element does not say what else the list holds."""
        return ()

    def entries(self, row: Row, key: bytes) -> list[Pair]:
        """The entries of a row; none if the predicate excludes it."""
        number = self.table.indexes.index(self)
        return list(self.table.entries(row, key)[number])

    def entry_lines(self, target: str, names: Namespace) -> list[str]:
        """Statements that assign the entries of the row in ``v0``, ``v1``... with key ``key`` to ``target``."""
        table, definition = self.table, self.definition
        at = [table.positions[name] for name in definition.columns]
        variables = [f"v{position}" for position in at]
        refuse = put(names, self._refuse)
        lines = []
        if definition.kind == "multi":
            pairs = f"{put(names, self._multi)}(v{at[0]}, row, key)"
            made = [f"{target} = {pairs}"]
        else:
            encoded = self.columns.encode_source(variables, names)
            made = [f"try: k = {encoded}", f"except ValueError as error: {refuse}(row, error)"]
            if self.keyed and self.tail == table.definition.primary_key:
                made.append("k += key")
            elif self.keyed and self.tail:
                tail = KeyGrammar(self.grammar.parts[len(at) :])
                made.append(f"k += {tail.encode_source([f'v{table.positions[name]}' for name in self.tail], names)}")
            elif not self.keyed:
                nulls = [v for v, nullable in zip(variables, self._nullable, strict=True) if nullable]
                if nulls:
                    made.append(f"if {' or '.join(f'{v} is None' for v in nulls)}: k += key")
            width = self.grammar.width
            if width is None or width > KEY_LIMIT:
                made.append(f"if not k or len(k) > {KEY_LIMIT}: {put(names, self._too_long)}(row, k)")
            made.append(f"{target} = ((k, {self._value_source(names)}),)")
        if definition.where is None:
            return made
        lines.append(f"if {self._where_source(names)}:")
        lines += [f"    {line}" for line in made]
        lines.append(f"else: {target} = ()")
        return lines

    def _value_source(self, names: Namespace) -> str:
        if not self._has_value:
            return "key" if self.definition.unique else "b''"
        stored = ["key"] if self.definition.unique else []
        for field in self._included_fields:
            v = f"v{self.table.positions[field.name]}"
            source = field.kind.store_source(v, names)
            stored.append(source if source == v or not field.nullable else f"(None if {v} is None else {source})")
        pack = put(names, msgspec.msgpack.Encoder().encode)
        return f"{put(names, ENTRY_FORMAT)} + {pack}(({''.join(part + ', ' for part in stored)}))"

    def _multi(self, elements: Any, row: Row, key: bytes) -> tuple[Pair, ...]:
        """An entry per distinct element of a list; none for NULL, none for elements that are NULL."""
        pairs = {}
        encode = self.columns.encode
        value = key if self.definition.unique else b""
        for element in elements or ():
            if element is None:
                continue
            try:
                entry = encode((element,))
            except ValueError as error:
                self._refuse(row, error)
                raise
            if self.keyed:
                entry += key
            if not entry or len(entry) > KEY_LIMIT:
                self._too_long(row, entry)
            pairs[entry] = value
        return tuple(pairs.items())

    def _refuse(self, row: Row, error: Exception) -> None:
        for part in self.definition.parts:
            field = self.table.definition.field(part.name)
            value = row[self.table.positions[part.name]]
            if value is not None and value != value:  # NaN
                raise exc.DataError(
                    f"{self.table.definition.name}.{field.name} of {self.table.named(self.table.identity(row))} is"
                    f" {value!r}, which has no place in index {self.family}; give a number, or drop the index",
                    table=self.table.definition.name, field=field.name, index=self.family, value=value,
                ) from error  # fmt: skip
        raise exc.DataError(
            f"{self.table.named(self.table.identity(row))} has no entry in index {self.family}: {error}",
            table=self.table.definition.name, index=self.family,
        ) from error  # fmt: skip

    def _too_long(self, row: Row, key: bytes) -> None:
        what = "is empty" if not key else f"takes {len(key)} bytes"
        advice = "shorten the column, or index a digest of it" if key else _NOT_EMPTY
        raise exc.KeyTooLong(
            f"the entry of {self.table.named(self.table.identity(row))} in index {self.family} {what}; keys are 1 to"
            f" {KEY_LIMIT} bytes ({advice})",
            table=self.table.definition.name, index=self.family, key=key, limit=KEY_LIMIT,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------ reading

    def primary_key(self, entry_key: bytes, entry_value: bytes) -> bytes:
        """The key of the record that an entry leads to.

        Raises:
            SerializationError: if it is no entry of this index.
        """
        try:
            if not self.keyed:
                return self._values(entry_value)[0] if self._has_value else entry_value
            if self.tail != self.table.definition.primary_key:
                found = self.grammar.decode(entry_key)
                values = dict(zip((*self.definition.columns, *self.tail), found, strict=True))
                return self.table.grammar.encode([values[name] for name in self.table.definition.primary_key])
            width = self.columns.width
            return entry_key[width if width is not None else self.columns.skip(entry_key, len(self.columns.parts)) :]
        except DECODE_ERRORS as error:
            raise self._undecodable(entry_key, error) from error

    def primary_keys(self, entries: Iterable[Pair]) -> list[bytes]:
        """As :meth:`primary_key`, of many entries."""
        width = self.prefix_width
        if width is not None:
            return [key[width:] for key, _ in entries]
        return [self.primary_key(key, value) for key, value in entries]

    @property
    def prefix_width(self) -> int | None:
        """Bytes that stand before the record's key in each entry's key, if that is where it is and they are fixed."""
        return self.columns.width if self.keyed and self.tail == self.table.definition.primary_key else None

    def _decode_lines(self, names: Namespace) -> list[str]:
        """Source of ``decode(key, value)``."""
        definition, table = self.definition, self.table
        values: dict[str, str] = {}
        lines: list[str] = []
        if self._has_value:
            lines.append(f"stored = {put(names, self._values)}(value)")
        if self.keyed:
            record_key = ""
        elif self._has_value:
            record_key, lines = "record", [*lines, "record = stored[0]"]
        else:
            record_key, lines = "record", [*lines, "record = value"]
        if not self.keyed and any(self._nullable):
            # Where a column is NULL the record's key stands behind.
            lines.append(f"key = key[:{put(names, self.columns.skip)}(key, {len(definition.parts)})]")
        before, parts = self.grammar.decode_source("key", names)
        lines += before
        columns = [*definition.columns, *(self.tail if self.keyed else ())]
        for name, part in zip(columns, parts, strict=True):
            values.setdefault(name, part)
        if record_key:
            # The grammar's variables are the same in each source: what was decoded is kept first.
            kept = {name: f"c{at}" for at, name in enumerate(values)}
            lines += [f"{kept[name]} = {part}" for name, part in values.items()]
            values = dict(kept)
            before, parts = table.grammar.decode_source(record_key, names)
            lines += before
            for name, part in zip(table.definition.primary_key, parts, strict=True):
                values.setdefault(name, part)
        for at, field in enumerate(self._included_fields, start=int(definition.unique)):
            lines.append(f"w{at} = stored[{at}]")
            load = field.kind.load_source(f"w{at}", names)
            values[field.name] = f"(None if w{at} is None else {load})" if field.nullable else load
        return [
            "def decode(key, value):",
            "    entry = key",
            "    try:",
            *(f"        {line}" for line in lines),
            f"        return ({''.join(values[name] + ', ' for name in self.covered)})",
            f"    except {put(names, DECODE_ERRORS)} as error:",
            f"        raise {put(names, self._undecodable)}(entry, error) from error",
        ]

    def _values(self, entry_value: bytes) -> Any:
        if entry_value[:1] != ENTRY_FORMAT:
            raise ValueError(f"its value begins with {exc.shown(entry_value[:1])}; 0x01 is expected")
        return self._unpack(entry_value[1:])

    def _undecodable(self, key: bytes, error: Exception) -> exc.SerializationError:
        return exc.SerializationError(
            f"index entry {self.family}[{exc.shown(key)}] does not decode: {error}",
            table=self.table.definition.name, cf=self.family, key=key,
        )  # fmt: skip


def insert_rows(codec: Any, rows: list[Row]) -> Inserts:
    """What ``TableCodec.insert`` gives, by the ``encode`` and ``entries`` of a codec."""
    encoded = list(map(codec.encode, rows))
    entries = codec.entries
    made = [entries(row, key) for key, _, row in encoded] if codec.indexes else []
    counted: list[tuple[dict[bytes, bytes], int]] = []
    for number in range(len(codec.indexes)):
        pairs = [pair for of_row in made for pair in of_row[number]]
        counted.append((dict(pairs), len(pairs)))
    return [(key, value) for key, value, _ in encoded], counted


def moved_entries(codec: Any, before: Row, after: Row, key: bytes) -> list[Move]:
    """What ``TableCodec.moves`` gives, by the ``entries`` of a codec."""
    both = zip(codec.entries(before, key), codec.entries(after, key), strict=True)
    return [(number, old, new) for number, (old, new) in enumerate(both) if old != new]


def row_unpacker(wires: Sequence[Any]) -> Callable[[bytes], tuple[Any, ...]]:
    """What unpacks a msgpack array of these types, each checked."""
    array: Any = types.GenericAlias(tuple, tuple(wires))
    return unpacker(array)


def key_grammar(definition: TableDefinition) -> KeyGrammar:
    """The grammar of a table's keys: raw where the last part is of variable width."""
    fields = [definition.field(name) for name in definition.primary_key]
    parts = [KeyPart(field.kind) for field in fields]
    if fields[-1].kind.width is None:
        parts[-1] = KeyPart(fields[-1].kind, raw=True)
    return KeyGrammar(parts)


def nullable_names(table: TableCodec) -> frozenset[str]:
    """The columns that may be NULL."""
    return frozenset(field.name for field in table.definition.fields if field.nullable)


def _key_names(fields: Sequence[FieldDefinition], table: TableCodec) -> frozenset[str]:
    """The names that the key columns had in an older version."""
    ids = {field.id for field in table.key_fields}
    return frozenset(field.name for field in fields if field.id in ids)


def _shown(value: Any) -> str:
    """A value as messages show it: short, and of characters that can be printed."""
    if isinstance(value, bytes):
        return exc.shown(value)
    try:
        text = str(value) if isinstance(value, dt.date | dt.time) else ascii(value)
    except ValueError:
        return exc.short(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
