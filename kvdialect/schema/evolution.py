"""Evolution: what a declared table has other than the stored one, and what becomes of the stored one.

Rows are never rewritten. Each set of fields that a table had is a version; a value says which it was written under, and
its fields are told apart by ids that stay with them whatever they are called. So what is allowed is what old values can
be read under: a field more (which has a default), one less, another name, a wider kind, NULL where it was refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import attrs
import msgspec

from kvdialect import exc
from kvdialect.codec.kinds import Kind
from kvdialect.schema.definition import (
    MISSING,
    CheckDefinition,
    FieldDefinition,
    IndexDefinition,
    IndexPart,
    TableDefinition,
)
from kvdialect.schema.expressions import columns_of
from kvdialect.schema.trees import encode_tree, renamed, shown_tree
from kvdialect.storage.options import ColumnFamilyOptions

UPGRADE: Final = "models.upgrade(engine)"
CREATE: Final = "models.create_all(engine)"

_KEY: Final = "the primary key"

_FIXED_OPTIONS: Final = ("compaction", "lmdb_database", "lmdb_tag")
"""Options that say where data lie or what becomes of them; fixed when a family is created."""


@attrs.frozen(kw_only=True)
class Difference:
    """One thing in which a model and the store differ.

    Attributes:
        table: name of the table.
        subject: what differs: ``"column amount"``, ``"index coin_by_height"``, ``"primary key"``, ...
        what: how it is in the store, and how in the model.
        allowed: True if ``upgrade`` does it, without rewriting rows; False if it is refused.
        advice: what to call, or why it is refused and what to do instead.
        blocking: False if the model can be used as it is nevertheless.
    """

    table: str
    subject: str
    what: str
    allowed: bool
    advice: str
    blocking: bool = True

    def __str__(self) -> str:
        return f"{self.subject}: {self.what} ({self.advice})"


def mismatch(differences: Iterable[Difference], intent: str) -> exc.SchemaMismatch:
    """The error that lists differences, by table; ``intent`` says what they stand in the way of."""
    found = list(differences)
    tables: dict[str, list[Difference]] = {}
    for difference in found:
        tables.setdefault(difference.table, []).append(difference)
    lines = [
        line
        for table, own in tables.items()
        for line in (f"table {table} differs between store and model:", *(f"  {each}" for each in own))
    ]
    return exc.SchemaMismatch(f"{intent}\n" + "\n".join(lines), table=found[0].table, differences=tuple(found))


def missing_table(declared: TableDefinition) -> Difference:
    """The difference of a table that the store does not have."""
    return Difference(
        table=declared.name, subject="table", what="not in the store", allowed=True, advice=f"call {CREATE}"
    )


# ------------------------------------------------------------------------------------------------ comparing


def compare(stored: TableDefinition, declared: TableDefinition, *, extra: Collection[str] = ()) -> list[Difference]:
    """What differs between a stored table and a declared one: key, columns, indexes, options, in this order.

    Args:
        stored: the table in the store.
        declared: the table in the model.
        extra: indexes that the store has beyond its models; one that the model lacks is no difference.
    """
    if stored.shared:
        return [
            Difference(
                table=stored.name,
                subject="table",
                what="it was made by SQL in the store, and is a table of records in the model",
                allowed=False,
                advice="reach it through engine.sqlalchemy(), or give the model another __tablename__",
            )
        ]
    return _Comparison(stored, declared, extra).differences()


def matched(stored: TableDefinition, declared: TableDefinition) -> dict[str, FieldDefinition]:
    """The stored field of each declared one that the store has, by the declared name: that of its name or old name.

    One that is to be renamed is so also where another field, a new one, gets the name that it had.
    """
    names = set(stored.names)
    renamed: dict[str, str] = {}  # by the old name
    for field in declared.fields:
        if field.name not in names and field.previously in names:
            renamed.setdefault(field.previously, field.name)
    old = {name: name for name in declared.names if name in names and name not in renamed}
    old |= {new: name for name, new in renamed.items()}
    return {name: stored.field(old[name]) for name in declared.names if name in old}


class _Comparison:
    """One comparison, and what both its halves need: which stored field is which declared one."""

    def __init__(self, stored: TableDefinition, declared: TableDefinition, extra: Collection[str]) -> None:
        self.stored, self.declared, self.extra = stored, declared, extra
        self.matched = matched(stored, declared)
        self.names = {field.name: name for name, field in self.matched.items()}
        self.staying = {index.name: index for index in stored.indexes if self.stays(index)}

    def stays(self, index: IndexDefinition) -> bool:
        """True if an upgrade leaves a stored index as it is."""
        own = {each.name: each for each in self.declared.indexes}.get(index.name)
        if own is None:
            return index.name in self.extra
        return self.same_index(index, own) and not _fixed_changes(index.options, own.options)

    def same_index(self, stored: IndexDefinition, declared: IndexDefinition) -> bool:
        return same_index(renamed_index(stored, self.names), declared)

    def difference(self, subject: str, what: str, advice: str, *, allowed: bool, blocking: bool = True) -> Difference:
        return Difference(
            table=self.declared.name, subject=subject, what=what, allowed=allowed, advice=advice, blocking=blocking
        )

    def refused(self, subject: str, what: str, reason: str) -> Difference:
        return self.difference(subject, what, f"refused: {reason}", allowed=False)

    def differences(self) -> list[Difference]:
        found = [*self.layout(), *self.columns()]
        if self.stored.format == "bincode":
            found = [
                each if not each.allowed or each.what.startswith("called ") else self.refused(
                    each.subject, each.what,
                    "values in the bincode layout carry no version, so old ones would be misread; copy the rows into a"
                    " new table",
                )
                for each in found
            ]  # fmt: skip
        return [*found, *self.indexes(), *self.options(), *self.foreign_keys(), *self.checks()]

    # ---- the key and the layout

    def layout(self) -> list[Difference]:
        found = []
        stored, declared = self.stored, self.declared
        if stored.format != declared.format:
            found.append(
                self.refused(
                    "format",
                    f"{stored.format} in the store, {declared.format} in the model",
                    "values written in one would be misread in the other; copy the rows into a new table",
                )
            )
        key = tuple(self.names.get(name, name) for name in stored.primary_key)
        if key != declared.primary_key:
            found.append(
                self.refused(
                    "primary key",
                    f"({', '.join(stored.primary_key)}) in the store, ({', '.join(declared.primary_key)}) in the model",
                    "every record and index entry holds the key; copy the rows into a new table",
                )
            )
        return found

    # ---- columns

    def columns(self) -> list[Difference]:
        found: list[Difference] = []
        for field in self.declared.fields:
            stored = self.matched.get(field.name)
            found += self.new_column(field) if stored is None else self.changed_column(stored, field)
        found += [self.dropped_column(field) for field in self.stored.fields if field.name not in self.names]
        common = [self.names[field.name] for field in self.stored.fields if field.name in self.names]
        if common != [name for name in self.declared.names if name in self.matched]:
            found.append(
                self.difference(
                    "order of columns",
                    f"({', '.join(self.stored.names)}) in the store, ({', '.join(self.declared.names)}) in the model",
                    f"call {UPGRADE}: values written from then on have the new order, and no row is rewritten",
                    allowed=True,
                )
            )
        return found

    def new_column(self, field: FieldDefinition) -> list[Difference]:
        subject, what = f"column {field.name}", "not in the store"
        if field.name in self.declared.primary_key:
            return []  # said of the primary key
        if not field.nullable and _default_of(field) in (MISSING, None):
            return [
                self.refused(
                    subject, what, "rows that are there have no value for it; give it a default or allow None"
                    + _near_rename(self, field),
                )
            ]  # fmt: skip
        advice = f"call {UPGRADE}: rows that are there read as {_shown(_default_of(field))}"
        return [self.difference(subject, what, advice + _near_rename(self, field), allowed=True)]

    def dropped_column(self, field: FieldDefinition) -> Difference:
        subject, what = f"column {field.name}", "not in the model"
        if field.name in self.stored.primary_key:
            return self.refused(subject, what, "it is part of the primary key")
        for index in self.staying.values():
            if field.name in _read_by(index):
                return self.refused(subject, what, f"index {index.name} reads it; drop that first")
        return self.difference(
            subject, what,
            f"call {UPGRADE}: its values are no longer read; if it has another name now, declare"
            f" field(previously={field.name!r}) there",
            allowed=True,
        )  # fmt: skip

    def changed_column(self, stored: FieldDefinition, declared: FieldDefinition) -> list[Difference]:
        found: list[Difference] = []
        subject = f"column {declared.name}"
        if stored.name != declared.name:
            found.append(
                self.difference(
                    subject, f"called {stored.name} in the store", f"call {UPGRADE}: it is renamed", allowed=True
                )
            )
        if stored.kind != declared.kind:
            found.append(self.changed_kind(stored, declared))
        if stored.nullable != declared.nullable:
            found.append(self.changed_nullability(stored, declared))
        if stored.autoincrement != declared.autoincrement:
            found.append(
                self.difference(
                    subject,
                    "ids come from an allocator in the model only" if declared.autoincrement
                    else "ids come from an allocator in the store only",
                    f"call {UPGRADE}", allowed=True,
                )
            )  # fmt: skip
        return found

    def changed_kind(self, stored: FieldDefinition, declared: FieldDefinition) -> Difference:
        subject = f"column {declared.name}"
        old, new = described(stored.kind), described(declared.kind)
        if old == new:
            old, new = f"{old} {stored.kind.spec()}", f"{new} {declared.kind.spec()}"
        what = f"{old} in the store, {new} in the model"
        if not declared.kind.widens(stored.kind):
            reason = (
                "stored values may not fit"
                if stored.kind.widens(declared.kind)
                else "stored values are of another type"
            )
            return self.refused(subject, what, f"{reason}; add a new column, fill it, and drop this one")
        place = self.key_place(stored.name)
        if place is not None and not _same_keys(stored.kind, declared.kind):
            return self.refused(subject, what, f"it is part of {place}, whose bytes would change; {_remedy(place)}")
        return self.difference(subject, what, f"call {UPGRADE}: it is widened, and no row is rewritten", allowed=True)

    def changed_nullability(self, stored: FieldDefinition, declared: FieldDefinition) -> Difference:
        subject = f"column {declared.name}"
        if stored.nullable:
            return self.refused(
                subject, "may be None in the store, not in the model",
                "rows that are there may have None; keep it nullable, or add a new column",
            )  # fmt: skip
        what = "may be None in the model, not in the store"
        place = self.key_place(stored.name)
        if place is not None:
            return self.refused(
                subject, what, f"it is part of {place}, where a value that may be None has a tag; {_remedy(place)}"
            )
        return self.difference(subject, what, f"call {UPGRADE}: no row is rewritten", allowed=True)

    def key_place(self, name: str) -> str | None:
        """Where a stored column's values stand in keys that stay: the primary key or an index."""
        if name in self.stored.primary_key:
            return _KEY
        for index in self.staying.values():
            if name in index.columns:
                return f"index {index.name}"
        return None

    # ---- indexes

    def indexes(self) -> list[Difference]:
        found: list[Difference] = []
        known = {index.name: index for index in self.stored.indexes}
        for index in self.declared.indexes:
            stored = known.get(index.name)
            subject = f"index {index.name}"
            if stored is None:
                found.append(
                    self.difference(subject, "not in the store", f"call {UPGRADE}: it is built online", allowed=True)
                )
            elif not self.same_index(stored, index):
                found.append(
                    self.difference(
                        subject,
                        f"{described_index(stored)} in the store, {described_index(index)} in the model",
                        f"call {UPGRADE}: it is dropped and built anew", allowed=True,
                    )
                )  # fmt: skip
            else:
                if stored.state == "building":
                    found.append(
                        self.difference(
                            subject, "not built to its end", f"call {UPGRADE}: it goes on where it ended",
                            allowed=True, blocking=False,
                        )
                    )  # fmt: skip
                found += self.option_differences(subject, stored.options, index.options, rebuilt=True)
        for index in self.stored.indexes:
            if index.name not in {each.name for each in self.declared.indexes} and index.name not in self.extra:
                found.append(
                    self.difference(
                        f"index {index.name}", "not in the model", f"it is kept up; {UPGRADE} drops it",
                        allowed=True, blocking=False,
                    )
                )  # fmt: skip
        return found

    # ---- the rest

    def options(self) -> list[Difference]:
        return self.option_differences("options", self.stored.options, self.declared.options, rebuilt=False)

    def option_differences(
        self, subject: str, stored: ColumnFamilyOptions, declared: ColumnFamilyOptions, *, rebuilt: bool
    ) -> list[Difference]:
        changes = _changed_options(stored, declared)
        if not changes:
            return []
        what = ", ".join(f"{name}={old!r} in the store, {new!r} in the model" for name, old, new in changes)
        fixed = [name for name, _, _ in changes if name in _FIXED_OPTIONS]
        if not fixed:
            return [
                self.difference(
                    subject, what, f"{UPGRADE} notes it, and the next opening of the store applies it",
                    allowed=True, blocking=False,
                )
            ]  # fmt: skip
        if rebuilt:
            return [self.difference(subject, what, f"call {UPGRADE}: it is dropped and built anew", allowed=True)]
        return [
            self.refused(
                subject, what, f"{' and '.join(fixed)} cannot change once the table has a family; copy the rows into a"
                " new table",
            )
        ]  # fmt: skip

    def foreign_keys(self) -> list[Difference]:
        stored = [
            attrs.evolve(key, columns=tuple(self.names.get(name, name) for name in key.columns))
            for key in self.stored.foreign_keys
        ]
        if stored == list(self.declared.foreign_keys):
            return []
        return [
            self.difference(
                "foreign keys",
                f"{len(stored)} in the store, {len(self.declared.foreign_keys)} in the model"
                if len(stored) != len(self.declared.foreign_keys) else "other columns or targets in the model",
                f"{UPGRADE} notes them", allowed=True, blocking=False,
            )
        ]  # fmt: skip

    def kept_checks(self) -> list[CheckDefinition]:
        """The stored CHECKs as they are with the model's names."""
        return [attrs.evolve(check, condition=renamed(check.condition, self.names)) for check in self.stored.checks]

    def checks(self) -> list[Difference]:
        stored, declared = self.kept_checks(), self.declared.checks
        found = []
        for check in declared:
            known = next((each for each in stored if each == check), None)
            subject = f"CHECK {check.name or shown_tree(check.condition)}"
            if known is None:
                advice = f"call {UPGRADE}: it is enforced from then on, and rows that are there are looked at"
                found.append(self.difference(subject, "not in the store", advice, allowed=True))
            elif not known.validated:
                found.append(
                    self.difference(
                        subject, "rows that were there before it were not all looked at",
                        f"call {UPGRADE}: it looks at them", allowed=True, blocking=False,
                    )
                )  # fmt: skip
        found += [
            self.difference(
                f"CHECK {check.name or shown_tree(check.condition)}", "not in the model",
                f"it is enforced; {UPGRADE} drops it", allowed=True, blocking=False,
            )
            for check in stored
            if check not in declared
        ]  # fmt: skip
        return found


def same_index(stored: IndexDefinition, declared: IndexDefinition) -> bool:
    """True if two indexes hold the same entries."""
    if attrs.evolve(stored, where=None) != attrs.evolve(declared, where=None):
        return False
    if stored.where is None or declared.where is None:
        return stored.where is declared.where
    # As data, where a float that is no number equals itself.
    return encode_tree(stored.where) == encode_tree(declared.where)


def _remedy(place: str) -> str:
    if place == _KEY:
        return "copy the rows into a new table"
    return "declare the index under a new name, so that it is built anew"


def _near_rename(comparison: _Comparison, field: FieldDefinition) -> str:
    gone = [each.name for each in comparison.stored.fields if each.name not in comparison.names]
    same = [name for name in gone if comparison.stored.field(name).kind == field.kind]
    return f"; if it is the stored column {same[0]}, declare field(previously={same[0]!r})" if same else ""


def _same_keys(older: Kind, wider: Kind) -> bool:
    """True if values of ``older`` have the same bytes in keys under a kind that is wider: text, bytes and names do."""
    tags = {older.spec().get("kind"), wider.spec().get("kind")}
    return tags <= {"text", "enum"} or tags == {"bytes"}


def _read_by(index: IndexDefinition) -> frozenset[str]:
    where = columns_of(index.where) if index.where is not None else ()
    return frozenset({*index.columns, *index.include, *where})


def _changed_options(stored: ColumnFamilyOptions, declared: ColumnFamilyOptions) -> list[tuple[str, Any, Any]]:
    return [
        (field.name, old, new)
        for field in attrs.fields(ColumnFamilyOptions)
        if (old := getattr(stored, field.name)) != (new := getattr(declared, field.name))
    ]


def _fixed_changes(stored: ColumnFamilyOptions, declared: ColumnFamilyOptions) -> bool:
    return any(name in _FIXED_OPTIONS for name, _, _ in _changed_options(stored, declared))


def described(kind: Kind) -> str:
    """A kind as messages name it."""
    return kind.allowed


def described_index(index: IndexDefinition) -> str:
    """An index as messages name it: ``"unique (a, b desc) where ... including c"``."""
    parts = ", ".join(f"{part.name} desc" if part.descending else part.name for part in index.parts)
    text = f"{'unique ' if index.unique else ''}{'multi-valued ' if index.kind == 'multi' else ''}({parts})"
    if index.where is not None:
        text += f" where {shown_tree(index.where)}"
    if index.include:
        text += f" including {', '.join(index.include)}"
    return text


def _shown(value: Any) -> str:
    return exc.shown(value) if isinstance(value, bytes) else f"{value!r:.60}"


# ------------------------------------------------------------------------------------------------ evolving


def created(declared: TableDefinition, table_id: int) -> TableDefinition:
    """A new table as the catalog has it: ids given, no defaults (its fields were always there), indexes readable."""
    fields = tuple(
        attrs.evolve(field, id=number, default=MISSING, previously=None)
        for number, field in enumerate(declared.fields, start=1)
    )
    indexes = tuple(attrs.evolve(index, state="readable") for index in declared.indexes)
    return attrs.evolve(
        declared, id=table_id, version=1, fields=fields, indexes=tuple(sorted(indexes, key=lambda i: i.name))
    )


def evolve(
    stored: TableDefinition, declared: TableDefinition, *, next_field_id: int, extra: Collection[str] = ()
) -> TableDefinition:
    """What becomes of a stored table so that it is the declared one, but for indexes that have to be built.

    Fields keep their ids by name, or by ``previously``; new ones get ids from ``next_field_id`` on. If the set of
    fields changes, it is a new version. Indexes that the model lacks or has otherwise are left out.

    Raises:
        SchemaMismatch: if a difference is refused.
    """
    comparison = _Comparison(stored, declared, extra)
    refused = [each for each in comparison.differences() if not each.allowed]
    if refused:
        raise mismatch(refused, f"table {declared.name} cannot become what the model declares:")
    fields = []
    for field in declared.fields:
        before = comparison.matched.get(field.name)
        if before is None:
            fields.append(attrs.evolve(field, id=next_field_id, default=_checked_default(declared, field)))
            next_field_id += 1
        else:
            default = _converted_default(before.default, before.kind, field.kind)
            fields.append(attrs.evolve(field, id=before.id, default=default, previously=None))
    own = {index.name: index for index in declared.indexes}
    indexes = []
    for index in comparison.staying.values():
        now = own.get(index.name)
        kept = renamed_index(index, comparison.names)
        indexes.append(kept if now is None else attrs.evolve(now, state=index.state))
    known = comparison.kept_checks()
    checks = tuple(
        next((each for each in known if each == check), attrs.evolve(check, validated=False))
        for check in declared.checks
    )
    if not all(check.validated for check in checks):
        # What goes holds until what comes is known to.
        names = {field.name for field in fields}
        checks += tuple(
            check for check in known if check not in checks and names.issuperset(columns_of(check.condition))
        )
    same = [_layout(field) for field in fields] == [_layout(field) for field in stored.fields]
    return attrs.evolve(
        declared,
        id=stored.id,
        version=stored.version if same else stored.version + 1,
        fields=tuple(fields),
        indexes=tuple(sorted(indexes, key=lambda index: index.name)),
        checks=checks,
    )


def _layout(field: FieldDefinition) -> tuple[Any, ...]:
    return field.id, field.name, field.kind, field.nullable


def renamed_index(index: IndexDefinition, names: Mapping[str, str]) -> IndexDefinition:
    """An index with columns renamed from the keys of ``names`` to its values."""
    return attrs.evolve(
        index,
        parts=tuple(IndexPart(name=names.get(p.name, p.name), descending=p.descending) for p in index.parts),
        where=None if index.where is None else renamed(index.where, names),
        include=tuple(names.get(name, name) for name in index.include),
    )


def _default_of(field: FieldDefinition) -> Any:
    """The default of a declared field: a value; MISSING if it has none."""
    default = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, whatever attrs's stubs say
        default = MISSING if default.takes_self else default.factory()
    return None if default is MISSING and field.nullable else default


def _checked_default(table: TableDefinition, field: FieldDefinition) -> Any:
    default = _default_of(field)
    if default is None and field.nullable:
        return None
    try:
        return field.kind.check(default)
    except (ValueError, TypeError, OverflowError) as error:
        raise exc.ArgumentError(
            f"the default of {table.name}.{field.name} is {_shown(default)}; allowed: {field.kind.allowed}",
            table=table.name, field=field.name, value=default,
        ) from error  # fmt: skip


def _converted_default(default: Any, before: Kind, after: Kind) -> Any:
    """A default of one kind as a value of another that is the same or wider: by way of its stored form."""
    if default is None or default is MISSING:
        return default
    return load_default(dump_default(default, before), after)


def dump_default(default: Any, kind: Kind) -> bytes:
    """A default as the catalog stores it: the msgpack of its wire form."""
    return msgspec.msgpack.encode(None if default is None else kind.store(default))


def load_default(raw: bytes, kind: Kind) -> Any:
    """The default of its stored form.

    Raises:
        ValueError: if it is none of this kind (``msgspec.MsgspecError`` is no ValueError and is raised as one).
    """
    try:
        wire = msgspec.msgpack.decode(raw, type=kind.wire | None)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    return None if wire is None else kind.load(wire)


# ------------------------------------------------------------------------------------------------ binding


def bound(stored: TableDefinition, declared: TableDefinition) -> TableDefinition:
    """The stored table with the declared one's kinds, which know the program's classes; no difference may be blocking.

    Ids, version, order, defaults, states and indexes are the store's.
    """
    own = {field.name: field for field in declared.fields}
    fields = tuple(
        attrs.evolve(
            field,
            kind=own[field.name].kind,
            default=_converted_default(field.default, field.kind, own[field.name].kind),
        )
        for field in stored.fields
    )
    return attrs.evolve(stored, fields=fields)
