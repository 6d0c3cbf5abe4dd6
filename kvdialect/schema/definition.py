"""Definitions: what a table is, as data that the catalog stores and everything else is generated from."""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from kvdialect.codec.kinds import Kind
from kvdialect.schema.expressions import Expression
from kvdialect.storage.options import ColumnFamilyOptions

MISSING: Final = attrs.NOTHING
"""Stands for the default of a field that has none."""

IndexState = Literal["building", "readable"]


@attrs.frozen(kw_only=True)
class FieldDefinition:
    """A column: its name may change, its id never does.

    Attributes:
        id: number of the field within its table, given by the catalog (0 before) and never used again.
        name: column name.
        kind: how its values stand in bytes.
        nullable: None is allowed.
        default: what rows written before the field was added have; MISSING for fields that were always there.
        previously: the name that the field had before, for evolution; not stored.
        autoincrement: ids come from the table's allocator.
    """

    id: int = 0
    name: str
    kind: Kind
    nullable: bool = False
    default: Any = attrs.field(factory=lambda: MISSING)  # as a plain default, NOTHING would mean that there is none
    previously: str | None = attrs.field(default=None, eq=False)
    autoincrement: bool = False


@attrs.frozen(kw_only=True)
class IndexPart:
    """One column of an index, ascending or descending."""

    name: str
    descending: bool = False


@attrs.frozen(kw_only=True)
class IndexDefinition:
    """An index.

    Attributes:
        name: its name, unique in the store, which is that of its column family too.
        parts: the columns, in order.
        unique: no two rows have the same values, unless one of these is NULL.
        where: only rows for which this holds are indexed; None: all rows.
        include: further columns, kept in the entries' values, so that queries need not read the records.
        kind: ``"ordered"``: an entry per row; ``"multi"``: an entry per element of its (one) list column.
        state: ``"building"``: kept up by writers, not yet used by queries; ``"readable"``.
        options: of its column family.
    """

    name: str
    parts: tuple[IndexPart, ...]
    unique: bool = False
    where: Expression | None = None
    include: tuple[str, ...] = ()
    kind: Literal["ordered", "multi"] = "ordered"
    state: IndexState = attrs.field(default="readable", eq=False)
    options: ColumnFamilyOptions = attrs.field(factory=ColumnFamilyOptions, eq=False)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts)


@attrs.frozen(kw_only=True)
class ForeignKeyDefinition:
    """A foreign key as declared; kept for the SQL door and for relationships."""

    columns: tuple[str, ...]
    table: str
    targets: tuple[str, ...]
    ondelete: str | None = None
    onupdate: str | None = None
    name: str | None = None


@attrs.frozen(kw_only=True)
class TableDefinition:
    """A table of records.

    Attributes:
        id: number of the table within its store, given by the catalog (0 before) and never used again.
        name: table name, and that of the column family of its records.
        fields: the columns, in order of declaration.
        primary_key: names of the key columns, in key order.
        indexes: sorted by name.
        format: layout of the values: ``"msgpack"`` or ``"bincode"``.
        version: of the set of fields; counts up with every change to it. Stands in front of each msgpack value.
        options: of the family of the records.
    """

    id: int = 0
    name: str
    fields: tuple[FieldDefinition, ...]
    primary_key: tuple[str, ...]
    indexes: tuple[IndexDefinition, ...] = ()
    foreign_keys: tuple[ForeignKeyDefinition, ...] = ()
    format: Literal["msgpack", "bincode"] = "msgpack"
    version: int = 1
    options: ColumnFamilyOptions = attrs.field(factory=ColumnFamilyOptions, eq=False)

    def field(self, name: str) -> FieldDefinition:
        return next(field for field in self.fields if field.name == name)

    def index(self, name: str) -> IndexDefinition:
        return next(index for index in self.indexes if index.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def value_fields(self) -> tuple[FieldDefinition, ...]:
        """The fields outside the key, which stand in the value."""
        return tuple(field for field in self.fields if field.name not in self.primary_key)
