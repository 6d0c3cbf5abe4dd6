"""Foreign keys of a catalog: which tables refer to which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import attrs

from kvdialect import exc
from kvdialect.schema.definition import ForeignKeyDefinition
from kvdialect.schema.names import folded
from kvdialect.store.catalog import Catalog

MAIN: Final = "main"


@attrs.frozen(eq=False)
class Link:
    """A foreign key of a table.

    Attributes:
        number: id of the referring table, and which of its foreign keys this is; the same in every catalog.
        child: name of the referring table in the catalog.
        parent: schema and name of the table referred to, in lower case.
        key: as declared.
    """

    number: tuple[int, int]
    child: str
    parent: tuple[str, str]
    key: ForeignKeyDefinition


@attrs.frozen(eq=False)
class Links:
    """The foreign keys of one catalog.

    Attributes:
        of: by the name of the referring table in the catalog.
        to: by the table referred to; the newest first, which is the order in which SQLite's actions run.
        numbered: by :attr:`Link.number`.
    """

    of: Mapping[str, Sequence[Link]]
    to: Mapping[tuple[str, str], Sequence[Link]]
    numbered: Mapping[tuple[int, int], Link]

    @classmethod
    def within(cls, catalog: Catalog) -> Links:
        """The foreign keys of a catalog."""
        found = _links.get(catalog)
        if found is not None:
            return found
        of: dict[str, list[Link]] = {}
        to: dict[tuple[str, str], list[Link]] = {}
        for name, entry in catalog.entries.items():
            for place, key in enumerate(entry.definition.foreign_keys):
                link = Link((entry.definition.id, place), name, lower_name(key.table), key)
                of.setdefault(name, []).append(link)
                to.setdefault(link.parent, []).append(link)
        for links in to.values():
            links.sort(key=lambda link: link.number, reverse=True)
        numbered = {link.number: link for links in of.values() for link in links}
        found = _links[catalog] = cls(of, to, numbered)
        return found


_links: WeakKeyDictionary[Catalog, Links] = WeakKeyDictionary()


def sql_name(key: str) -> tuple[str, str]:
    """Schema and name of a table or view, of its name in the catalog."""
    schema, found, name = key.partition("\0")
    return (schema, name) if found else (MAIN, key)


def lower_name(name: str) -> tuple[str, str]:
    """The same in lower case, by which SQL finds it."""
    schema, table = sql_name(name)
    return folded(schema), folded(table)


def foreign_key_failed(key: ForeignKeyDefinition, child: str, values: tuple[Any, ...] | None) -> exc.IntegrityError:
    """The error for a row of ``child`` whose columns have values that no parent has."""
    _, parent = sql_name(key.table)
    shown = ", ".join(
        f"{name}={exc.shown(value) if isinstance(value, bytes) else repr(value)}"
        for name, value in zip(key.columns, values or (), strict=False)
    )
    named = f"; constraint {key.name}" if key.name else ""
    return exc.IntegrityError(
        f"FOREIGN KEY constraint failed ({child} has ({shown}), which {parent} has not{named})",
        table=child, columns=key.columns, values=values, parent=parent, constraint=key.name,
    )  # fmt: skip
