"""Catalog entries as bytes: one table with its history and its indexes, as JSON that any tool can read.

Names of columns stand in keys, indexes and predicates; ids tell fields of different versions apart. Python classes are
not stored: an Enum comes back as a kind over its stored values.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from typing import Any, Final, Literal

import attrs
import msgspec

from kvdialect import exc
from kvdialect.codec.dynamic import COLLATIONS
from kvdialect.codec.kinds import Kind, kind_from_spec
from kvdialect.schema.definition import (
    ACTIONS,
    MISSING,
    CheckDefinition,
    FieldDefinition,
    ForeignKeyDefinition,
    IndexDefinition,
    IndexPart,
    TableDefinition,
)
from kvdialect.schema.evolution import dump_default, load_default
from kvdialect.schema.trees import decode_tree, encode_tree
from kvdialect.storage.options import RESERVED_FAMILY, ColumnFamilyOptions, check_family_name
from kvdialect.store.table import StoredTable

ENTRY: Final = 1
"""Version of the layout of an entry of records, since 0.1."""

SQL_ENTRY: Final = 2
"""Version of the layout of an entry of a table made by SQL, since 0.1: releases that know no such tables refuse it."""

CHECKED_ENTRY: Final = 3
"""Version of the layout of an entry of records with a CHECK, since 0.1: releases that do not enforce one refuse it."""

SIZE_LIMIT: Final = 16 << 20
"""Bytes of the longest entry that is read."""

_COUNT_LIMIT: Final = 1 << 32
_VERSION_LIMIT: Final = 1 << 16


class _Field(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    id: int
    name: str
    kind: dict[str, Any]
    nullable: bool = False
    default: str | msgspec.UnsetType = msgspec.UNSET  # msgpack of the wire form, in base64
    autoincrement: bool = False
    hidden: bool = False


class _Part(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    descending: bool = False
    collation: str = "BINARY"


class _Index(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    parts: list[_Part]
    state: Literal["building", "readable"]
    options: dict[str, int | str | None]
    unique: bool = False
    where: list[Any] | None = None
    include: list[str] = []
    kind: Literal["ordered", "multi"] = "ordered"
    extra: bool = False
    id: int = 0
    statement: str | None = None


class _ForeignKey(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    columns: list[str]
    table: str
    targets: list[str]
    ondelete: str | None = None
    onupdate: str | None = None
    name: str | None = None
    deferred: bool = False


class _Check(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    condition: list[Any]
    name: str | None = None
    validated: bool = True


class _Entry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    entry: int
    id: int
    name: str
    version: int
    next_field_id: int
    format: Literal["msgpack", "bincode"]
    primary_key: list[str]
    options: dict[str, int | str | None]
    fields: list[_Field]
    indexes: list[_Index] = []
    foreign_keys: list[_ForeignKey] = []
    checks: list[_Check] = []
    history: dict[str, list[_Field]] = {}
    layout: Literal["record", "rowid", "key"] = "record"
    statement: str | None = None


class _Head(msgspec.Struct):
    """What an entry of any layout begins with."""

    entry: int


_encoder: Final = msgspec.json.Encoder(order="deterministic")
_decoder: Final = msgspec.json.Decoder(_Entry)
_head_decoder: Final = msgspec.json.Decoder(_Head)


_DAMAGE: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What is raised by code that is given what it does not expect."""


@attrs.frozen(eq=False)
class TableEntry:
    """A table in the catalog.

    Attributes:
        definition: the table as it is now.
        history: the fields at each version, the present one included.
        next_field_id: the id that the next new field gets.
        extra: names of the indexes that belong to no model (made by ``create_index``); an upgrade leaves them alone.
        raw: the entry as it is stored; empty before it is.
    """

    definition: TableDefinition
    history: Mapping[int, tuple[FieldDefinition, ...]]
    next_field_id: int
    extra: frozenset[str] = frozenset()
    raw: bytes = attrs.field(default=b"", repr=False)
    _lock: Any = attrs.field(factory=threading.Lock, init=False, repr=False)
    _made: list[StoredTable] = attrs.field(factory=list, init=False, repr=False)

    @property
    def families(self) -> Mapping[str, ColumnFamilyOptions]:
        """The column families of the table and its indexes, with their options; an SQL table has none of its own."""
        definition = self.definition
        if definition.shared:
            return {}
        return {definition.name: definition.options, **{index.name: index.options for index in definition.indexes}}

    @property
    def table(self) -> StoredTable:
        """The table with its generated code, which is made when it is first asked for.

        Raises:
            Corruption: if the catalog's entry is damaged so that there can be none.
        """
        with self._lock:
            if not self._made:
                try:
                    self._made.append(StoredTable(self.definition, self.history))
                except (exc.ArgumentError, exc.NotSupportedError, *_DAMAGE) as error:
                    if not self.raw:
                        raise  # it is no stored one
                    raise exc.Corruption(
                        f"the catalog entry of table {self.definition.name} is damaged: {exc.message_of(error)}"
                        " (restore a backup)",
                        cf=RESERVED_FAMILY,
                        table=self.definition.name,
                    ) from error
            return self._made[0]

    @classmethod
    def new(cls, definition: TableDefinition) -> TableEntry:
        """The entry of a new table, whose fields have their ids."""
        return cls(definition, {definition.version: definition.fields}, max(f.id for f in definition.fields) + 1)

    def becoming(self, definition: TableDefinition, extra: frozenset[str] | None = None) -> TableEntry:
        """The entry after a change: the present fields go into the history, and no id is given out twice."""
        return TableEntry(
            definition,
            {**self.history, definition.version: definition.fields},
            max(self.next_field_id, *(field.id + 1 for field in definition.fields)),
            (self.extra if extra is None else extra) & {index.name for index in definition.indexes},
        )


# ------------------------------------------------------------------------------------------------ to bytes


def encode_entry(entry: TableEntry) -> bytes:
    """An entry as the catalog stores it."""
    definition = entry.definition
    raw = _encoder.encode(
        _Entry(
            entry=SQL_ENTRY if definition.shared else CHECKED_ENTRY if definition.checks else ENTRY,
            id=definition.id,
            name=definition.name,
            version=definition.version,
            next_field_id=entry.next_field_id,
            format=definition.format,
            primary_key=list(definition.primary_key),
            options=_options_out(definition.options),
            fields=[_field_out(field) for field in definition.fields],
            indexes=[_index_out(index, entry.extra) for index in definition.indexes],
            foreign_keys=[_ForeignKey(**_listed(attrs.asdict(key, recurse=False))) for key in definition.foreign_keys],
            checks=[_Check(encode_tree(each.condition), each.name, each.validated) for each in definition.checks],
            history={
                str(version): [_field_out(field) for field in fields]
                for version, fields in sorted(entry.history.items())
                if version != definition.version
            },
            layout=definition.layout,
            statement=definition.statement,
        )
    )
    if len(raw) > SIZE_LIMIT:
        raise exc.NotSupportedError(
            f"the catalog entry of table {definition.name} would be {len(raw)} bytes; the limit is {SIZE_LIMIT}"
            " (shorten the defaults of its fields)",
            table=definition.name,
        )
    return raw


def _listed(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _options_out(options: ColumnFamilyOptions) -> dict[str, int | str | None]:
    # All of them, as the defaults of a later release may be others.
    return attrs.asdict(options)


def _field_out(field: FieldDefinition) -> _Field:
    default: Any = msgspec.UNSET
    if field.default is not MISSING:
        default = base64.b64encode(dump_default(field.default, field.kind)).decode()
    return _Field(
        id=field.id,
        name=field.name,
        kind=field.kind.spec(),
        nullable=field.nullable,
        default=default,
        autoincrement=field.autoincrement,
        hidden=field.hidden,
    )


def _part_out(part: IndexPart) -> _Part:
    if part.collation == "BINARY":  # a default is left out if it is the very object
        return _Part(part.name, part.descending)
    return _Part(part.name, part.descending, part.collation)


def _index_out(index: IndexDefinition, extra: frozenset[str]) -> _Index:
    return _Index(
        name=index.name,
        parts=[_part_out(part) for part in index.parts],
        state=index.state,
        options=_options_out(index.options),
        unique=index.unique,
        where=None if index.where is None else encode_tree(index.where),
        include=list(index.include),
        kind=index.kind,
        extra=index.name in extra,
        id=index.id,
        statement=index.statement,
    )


# ------------------------------------------------------------------------------------------------ from bytes


def decode_entry(key: bytes, raw: bytes) -> TableEntry:
    """The entry of what :func:`encode_entry` gave.

    Raises:
        StoreFormatError: if a newer release wrote it.
        Corruption: if it is none; the message says what is wrong, ``key`` where.
    """
    try:
        if len(raw) > SIZE_LIMIT:
            raise ValueError(f"it is {len(raw)} bytes; the limit is {SIZE_LIMIT}")
        layout = _head_decoder.decode(raw).entry
        if layout > CHECKED_ENTRY:
            raise exc.StoreFormatError(
                f"{RESERVED_FAMILY}[{exc.shown(key)}] has layout {layout}; this release reads up to {CHECKED_ENTRY}"
                " (use a newer release of kvdialect)",
                cf=RESERVED_FAMILY, key=key,
            )  # fmt: skip
        if layout not in (ENTRY, SQL_ENTRY, CHECKED_ENTRY):
            raise ValueError(f"its layout is {layout}")
        stored = _decoder.decode(raw)
        if {stored.layout != "record", stored.statement is not None} != {layout == SQL_ENTRY}:
            raise ValueError(f"its layout is {layout}, and it is of a table of layout {stored.layout}")
        if bool(stored.checks) != (layout == CHECKED_ENTRY):
            raise ValueError(f"its layout is {layout}, and it has {len(stored.checks)} CHECKs")
        return _entry_in(stored, raw)
    except (msgspec.MsgspecError, exc.ArgumentError, *_DAMAGE) as error:
        raise exc.Corruption(
            f"the catalog entry {RESERVED_FAMILY}[{exc.shown(key)}] is damaged: {exc.message_of(error)}"
            " (restore a backup)",
            cf=RESERVED_FAMILY, key=key,
        ) from error  # fmt: skip


def _entry_in(stored: _Entry, raw: bytes) -> TableEntry:
    _within(stored.id, 1, _COUNT_LIMIT, "table id")
    _within(stored.version, 1, _VERSION_LIMIT, "version")
    fields = _fields_in(stored.fields, stored.next_field_id)
    kinds = {field.name: field.kind for field in fields}
    _known(stored.primary_key, kinds, "the primary key")
    if not stored.primary_key or not all(kinds[name].keyable for name in stored.primary_key):
        raise ValueError(f"({', '.join(stored.primary_key)}) is no primary key")
    indexes = tuple(_index_in(index, kinds) for index in stored.indexes)
    names = {index.name for index in indexes}
    if stored.layout == "record":
        names.add(stored.name)
        for name in names:
            check_family_name(name)
    for key in stored.foreign_keys:
        for action in (key.ondelete, key.onupdate):
            if action is not None and action.upper() not in ACTIONS:
                raise ValueError(f"a foreign key says ON DELETE or ON UPDATE {action!r:.40}")
    if len(names) != len(indexes) + (stored.layout == "record"):
        raise ValueError("two indexes, or an index and the table, have one name")
    definition = TableDefinition(
        id=stored.id,
        name=stored.name,
        fields=fields,
        primary_key=tuple(stored.primary_key),
        indexes=indexes,
        foreign_keys=tuple(
            ForeignKeyDefinition(
                columns=tuple(key.columns), table=key.table, targets=tuple(key.targets),
                ondelete=key.ondelete, onupdate=key.onupdate, name=key.name, deferred=key.deferred,
            )
            for key in stored.foreign_keys
        ),
        checks=tuple(
            CheckDefinition(condition=decode_tree(each.condition, kinds), name=each.name, validated=each.validated)
            for each in stored.checks
        ),
        format=stored.format,
        version=stored.version,
        options=_options_in(stored.options),
        layout=stored.layout,
        statement=stored.statement,
    )  # fmt: skip
    history = {stored.version: fields}
    for text, older in stored.history.items():
        version = int(text)
        _within(version, 1, stored.version, "version in the history")
        history[version] = _fields_in(older, stored.next_field_id)
    extra = frozenset(index.name for index in stored.indexes if index.extra)
    return TableEntry(definition, history, stored.next_field_id, extra, raw)


def _fields_in(stored: list[_Field], next_field_id: int) -> tuple[FieldDefinition, ...]:
    fields = tuple(_field_in(field) for field in stored)
    for what in ([field.id for field in fields], [field.name for field in fields]):
        if len(set(what)) != len(what):
            raise ValueError("two fields have one id or one name")
    for field in fields:
        _within(field.id, 1, next_field_id, f"id of field {field.name}")
    if not fields:
        raise ValueError("it has no fields")
    return fields


def _field_in(stored: _Field) -> FieldDefinition:
    kind: Kind = kind_from_spec(stored.kind)
    default: Any = MISSING
    if stored.default is not msgspec.UNSET:
        default = load_default(base64.b64decode(stored.default, validate=True), kind)
    return FieldDefinition(
        id=stored.id,
        name=stored.name,
        kind=kind,
        nullable=stored.nullable,
        default=default,
        autoincrement=stored.autoincrement,
        hidden=stored.hidden,
    )


def _index_in(stored: _Index, kinds: Mapping[str, Kind]) -> IndexDefinition:
    what = f"index {stored.name}"
    names = [part.name for part in stored.parts]
    if not names:
        raise ValueError(f"{what} has no columns")
    _known([*names, *stored.include], kinds, what)
    for part in stored.parts:
        if part.collation not in COLLATIONS:
            raise ValueError(f"{what} has the collation {part.collation!r:.40}")
    where = None if stored.where is None else decode_tree(stored.where, kinds)
    return IndexDefinition(
        name=stored.name,
        parts=tuple(
            IndexPart(name=part.name, descending=part.descending, collation=part.collation) for part in stored.parts
        ),
        unique=stored.unique,
        where=where,
        include=tuple(stored.include),
        kind=stored.kind,
        state=stored.state,
        options=_options_in(stored.options),
        id=stored.id,
        statement=stored.statement,
    )


def _options_in(stored: dict[str, Any]) -> ColumnFamilyOptions:
    return ColumnFamilyOptions(**stored)


def _known(names: list[str], kinds: Mapping[str, Kind], where: str) -> None:
    for name in names:
        if name not in kinds:
            raise ValueError(f"{where} names the column {name!r:.60}, which the table does not have")


def _within(number: int, low: int, high: int, what: str) -> None:
    if not low <= number < high:
        raise ValueError(f"the {what} is {number}")
