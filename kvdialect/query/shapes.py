"""Shapes: what the planner knows of a table's own keys and of each index. It reads nothing else of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from kvdialect.codec.keys import KeyGrammar, KeyPart
from kvdialect.query.analysis import Order
from kvdialect.query.bounds import KeyBounds, Term, bounds_of
from kvdialect.schema.expressions import Column, Expression
from kvdialect.schema.rows import IndexCodec
from kvdialect.store.table import StoredTable


@attrs.frozen(eq=False)
class Shape:
    """A family of keys that lead to records.

    Attributes:
        family: the column family.
        index: its codec; None for the table's own keys.
        columns: the column of each part of a key; None for the elements of a list.
        parts: the parts.
        whole_key: of how many parts a key has, if what stands in it are all.
        where: the index has entries only of rows for which this holds.
        covered: columns that can be had without the record.
        unique: sets of columns of which no two records have the same values.
        grammar: of the keys.
    """

    family: str
    index: IndexCodec | None
    columns: tuple[str | None, ...]
    parts: tuple[KeyPart, ...]
    whole_key: int
    where: Expression | None
    covered: frozenset[str]
    unique: tuple[frozenset[str], ...]
    grammar: KeyGrammar

    @property
    def multi(self) -> bool:
        return self.index is not None and self.index.definition.kind == "multi"

    @property
    def partial(self) -> bool:
        return self.where is not None

    def bounds(self, terms: Mapping[str, Sequence[Term]]) -> KeyBounds:
        """The bounds that terms set on the keys."""
        columns = self.columns
        if self.multi and self.index is not None:
            columns = (self.index.definition.columns[0], *columns[1:])
        parts = self.parts[: self.whole_key]
        return bounds_of(columns[: len(parts)], parts, terms, whole_key=self.whole_key, multi=self.multi)

    def ordered(
        self, order: Sequence[Order], fixed: Collection[str], present: Collection[str], begin: int = 0
    ) -> bool | None:
        """Whether the keys, from part ``begin`` on, are in the order asked for.

        Args:
            order: the order asked for.
            fixed: columns that have one value in all rows asked for.
            present: columns that are not NULL in any.
            begin: the parts before are the same in all keys read together.

        Returns:
            False if they are, True if they are when read backwards, None if neither.
        """
        reverse: bool | None = None
        known = set(fixed)
        at = begin
        for element in order:
            if not isinstance(element.expression, Column):
                return None
            name = element.expression.name
            if name in known:
                continue
            if any(columns <= known for columns in self.unique):
                break  # no two rows are alike in these, so nothing is left to order
            while at < len(self.columns) and self.columns[at] in known:
                at += 1
            if at == len(self.columns) or self.columns[at] != name:
                return None
            if begin and at >= self.whole_key and self.index is not None and not self.index.keyed:
                return None  # most entries end before: those of several ranges that are alike come in the ranges' order
            part = self.parts[at]
            backwards = element.descending != part.descending
            if reverse is not None and reverse != backwards:
                return None
            if part.nullable and name not in present and not element.default_nulls:
                return None
            reverse = backwards
            known.add(name)
            at += 1
        return reverse or False


def shapes_of(table: StoredTable) -> tuple[Shape, ...]:
    """The shapes of a table: its own keys first, then those of its readable indexes."""
    codec = table.codec
    keys = codec.definition.primary_key
    own = Shape(
        family=table.name,
        index=None,
        columns=keys,
        parts=codec.grammar.parts,
        whole_key=len(keys),
        where=None,
        covered=frozenset(codec.names),
        unique=(frozenset(keys),),
        grammar=codec.grammar,
    )
    return (own, *(_index_shape(table, index) for index in table.readable.values()))


def _index_shape(table: StoredTable, index: IndexCodec) -> Shape:
    keys = table.codec.definition.primary_key
    multi = index.definition.kind == "multi"
    own: tuple[str | None, ...] = (None,) if multi else index.definition.columns
    # Behind the columns of a unique index the record's key stands only where one of them is NULL. The order of entries
    # is as if it always did, but it can be no bound.
    parts = index.grammar.parts if index.keyed else (*index.grammar.parts, *table.codec.grammar.parts)
    unique = [frozenset(keys)]
    if not index.keyed and not any(part.nullable for part in index.columns.parts):
        unique.append(frozenset(index.definition.columns))
    return Shape(
        family=index.family,
        index=index,
        columns=(*own, *index.tail),
        parts=parts,
        whole_key=len(parts) if index.keyed else len(own),
        where=index.definition.where,
        covered=frozenset(index.covered),
        unique=tuple(unique),
        grammar=index.grammar,
    )
