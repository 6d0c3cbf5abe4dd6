"""Definitions: what a table is, as data that the catalog stores and everything else is generated from."""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from kvdialect.codec.kinds import Kind
from kvdialect.schema.expressions import Expression
from kvdialect.storage.options import ColumnFamilyOptions

MISSING: Final = attrs.NOTHING
"""Stands for the default of a field that has none."""

ROWID: Final = "\0rowid"
"""Name of the hidden field, always the last one, that is the key of an SQL table without an INTEGER PRIMARY KEY."""

IndexState = Literal["building", "readable"]

_NO_OPTIONS: Final = ColumnFamilyOptions()


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
        hidden: of an SQL table: SQL does not show it. It keeps a value that only an index needs (that of an expression,
            or of a partial index's WHERE as 1, 0 or None), or it is :data:`ROWID`.
    """

    id: int = 0
    name: str
    kind: Kind
    nullable: bool = False
    default: Any = attrs.field(factory=lambda: MISSING)  # as a plain default, NOTHING would mean that there is none
    previously: str | None = attrs.field(default=None, eq=False)
    autoincrement: bool = False
    hidden: bool = False


@attrs.frozen(kw_only=True)
class IndexPart:
    """One column of an index, ascending or descending; an SQL table's stands in the order of its collation."""

    name: str
    descending: bool = False
    collation: str = "BINARY"


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
        id: of an SQL table's index: its number, which its entries begin with (0 before the catalog gave it).
        statement: of an SQL table's index: CREATE INDEX as SQLite has it; None for that of a constraint.
    """

    name: str
    parts: tuple[IndexPart, ...]
    unique: bool = False
    where: Expression | None = None
    include: tuple[str, ...] = ()
    kind: Literal["ordered", "multi"] = "ordered"
    state: IndexState = attrs.field(default="readable", eq=False)
    options: ColumnFamilyOptions = attrs.field(default=_NO_OPTIONS, eq=False)
    id: int = attrs.field(default=0, eq=False)
    statement: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts)


@attrs.frozen(kw_only=True)
class CheckDefinition:
    """A CHECK of a table of records: a condition that is false of no row; one that is NULL holds, as in SQL.

    Attributes:
        condition: over the columns.
        name: of the constraint, or None.
        validated: rows that were there before it were looked at; until then it holds for what is written.
    """

    condition: Expression
    name: str | None = None
    validated: bool = attrs.field(default=True, eq=False)


ACTIONS: Final = frozenset({"CASCADE", "RESTRICT", "NO ACTION", "SET NULL", "SET DEFAULT"})
"""What SQL knows to do with rows that refer to one that goes, in upper case."""


@attrs.frozen(kw_only=True)
class ForeignKeyDefinition:
    """A foreign key as declared; kept for the SQL door and for relationships.

    Attributes:
        columns: of the referring table.
        table: the table referred to, by its name in the catalog.
        targets: its columns; () for its primary key.
        ondelete, onupdate: the action, as SQL has it, or None.
        name: of the constraint, or None.
        deferred: INITIALLY DEFERRED: it is checked when the transaction commits.
    """

    columns: tuple[str, ...]
    table: str
    targets: tuple[str, ...]
    ondelete: str | None = None
    onupdate: str | None = None
    name: str | None = None
    deferred: bool = False


@attrs.frozen(kw_only=True)
class TableDefinition:
    """A table of records.

    Attributes:
        id: number of the table within its store, given by the catalog (0 before) and never used again.
        name: table name, and that of the column family of its records.
        fields: the columns, in order of declaration.
        primary_key: names of the key columns, in key order.
        indexes: sorted by name.
        checks: of a table of records; those of an SQL table stand in its statement.
        format: layout of the values: ``"msgpack"`` or ``"bincode"``.
        version: of the set of fields; counts up with every change to it. Stands in front of each msgpack value.
        options: of the family of the records.
        layout: ``"record"``: a table of records, in a family of its own; of SQL tables, which share one family,
            ``"rowid"``: keyed by a rowid; ``"key"``: by the primary key (WITHOUT ROWID).
        statement: of an SQL table: CREATE TABLE as SQLite has it.
    """

    id: int = 0
    name: str
    fields: tuple[FieldDefinition, ...]
    primary_key: tuple[str, ...]
    indexes: tuple[IndexDefinition, ...] = ()
    foreign_keys: tuple[ForeignKeyDefinition, ...] = ()
    checks: tuple[CheckDefinition, ...] = ()
    format: Literal["msgpack", "bincode"] = "msgpack"
    version: int = 1
    options: ColumnFamilyOptions = attrs.field(default=_NO_OPTIONS, eq=False)
    layout: Literal["record", "rowid", "key"] = "record"
    statement: str | None = None

    def field(self, name: str) -> FieldDefinition:
        return next(field for field in self.fields if field.name == name)

    def index(self, name: str) -> IndexDefinition:
        return next(index for index in self.indexes if index.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def shared(self) -> bool:
        """True for SQL tables, which share one column family."""
        return self.layout != "record"

    @property
    def visible(self) -> tuple[FieldDefinition, ...]:
        """The fields that SQL shows."""
        return tuple(field for field in self.fields if not field.hidden)

    @property
    def sql_name(self) -> tuple[str, str]:
        r"""Schema and name as SQL has them; the name here is ``schema\0name`` outside the schema main."""
        schema, found, name = self.name.partition("\0")
        return (schema, name) if found else ("main", self.name)

    @property
    def value_fields(self) -> tuple[FieldDefinition, ...]:
        """The fields outside the key, which stand in the value."""
        return tuple(field for field in self.fields if field.name not in self.primary_key)
