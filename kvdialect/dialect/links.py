"""Foreign keys between tables as SQL sees them: which columns refer to which, and where rows of both sides stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from kvdialect.codec.dynamic import apply_affinity, encode_value
from kvdialect.dialect.relations import Path, Relation, find
from kvdialect.schema.names import folded
from kvdialect.schema.rows import Pair
from kvdialect.schema.tokens import quoted
from kvdialect.store.links import Link, sql_name
from kvdialect.store.transaction import Transaction

if TYPE_CHECKING:
    from kvdialect.dialect.connection import Connection

Values = Sequence[Any]
Key = tuple[Any, ...]

_NUMERIC: Final = frozenset({"INTEGER", "REAL", "NUMERIC"})


class Bond:
    """A foreign key between two tables as they are.

    Attributes:
        link: the foreign key.
        child: the referring table.
        columns: positions of its columns.
        parent: the table referred to; None if there is none.
        targets: positions of the columns referred to, in the order of ``columns``; as far as they are known.
        path: the parent's key or unique index over these columns; None if there is none, and then the foreign key
            cannot be used.
        direct: :func:`find` finds the rows that refer to a parent; else they are looked for row by row.
    """

    def __init__(self, connection: Connection, link: Link, child: Relation) -> None:
        self.link = link
        self.child = child
        self.columns = tuple(child.positions[folded(name)] for name in link.key.columns)
        self.parent = connection.relation(*sql_name(link.key.table))
        self.targets: tuple[int, ...] = ()
        self.path: Path | None = None
        self.direct = False
        self._same = False
        self._order: tuple[int, ...] = ()
        self._affinities: tuple[str | None, ...] = ()
        self._collations: tuple[str, ...] = ()
        if self.parent is not None:
            self._match(connection, self.parent)

    def _match(self, connection: Connection, parent: Relation) -> None:
        names = [folded(name) for name in self.link.key.targets]
        if names:
            known = [parent.positions[name] for name in names if name in parent.positions]
            self.targets = tuple(known)
            if len(known) != len(names):
                return
        else:
            self.targets = _declared_key(connection, parent)
        if len(self.targets) != len(self.columns):
            return
        self.path = _unique_path(parent, self.targets)
        if self.path is None:
            return
        self._order = tuple(self.targets.index(position) for position in self.path.positions[: len(self.targets)])
        ours = [self.child.columns[at] for at in self.columns]
        theirs = [parent.columns[at] for at in self.targets]
        pairs = list(zip(theirs, ours, strict=True))
        self._affinities = tuple(
            "NUMERIC" if a.affinity in _NUMERIC or b.affinity in _NUMERIC else None for a, b in pairs
        )
        self._collations = tuple(column.collation for column in theirs)
        self.direct = all(
            (b.affinity in _NUMERIC or a.affinity not in _NUMERIC) and a.collation in ("BINARY", b.collation)
            for a, b in pairs
        )
        self._same = all(
            (a.affinity in _NUMERIC) == (b.affinity in _NUMERIC)
            and (a.affinity in _NUMERIC or a.affinity == b.affinity)
            and a.collation == b.collation
            for a, b in pairs
        )

    def reference(self, values: Values) -> Key | None:
        """What a row of the child refers to; None if it refers to nothing."""
        key = tuple([values[at] for at in self.columns])
        return None if None in key else key

    def identity(self, values: Values) -> Key | None:
        """What rows refer to a row of the parent by; None if none can."""
        key = tuple([values[at] for at in self.targets])
        return None if None in key else key

    def point(self, key: Key) -> bytes | None:
        """Where the parent with this key stands on :attr:`path`; None if there can be none."""
        assert self.path is not None
        return self.path.point([key[at] for at in self._order])

    def folded(self, key: Values) -> bytes:
        """A key of either side as bytes, which are the same where SQLite takes the keys for equal."""
        parts = []
        for value, affinity, collation in zip(key, self._affinities, self._collations, strict=True):
            compared = value if affinity is None else apply_affinity(value, affinity)
            parts.append(encode_value(compared, collation))
        return b"".join(parts)

    def children(self, connection: Connection, keys: Sequence[Key]) -> Iterator[Pair]:
        """The rows that refer to parents with these keys, as ``(key, value)`` of their records."""
        txn, child = connection.txn, self.child
        if txn.count(child.stored) == 0:
            return
        wanted = {self.folded(key) for key in keys}
        found: Iterable[Pair]
        if not self.direct or (len(keys) > 1 and self.path_of_children() is None):
            found = find(txn, child, (), ())
        else:
            found = (pair for key in keys for pair in find(txn, child, self.columns, key))
            if self._same:
                yield from found
                return
        for key, raw in found:
            reference = self.reference(child.decode(key, raw))
            if reference is not None and self.folded(reference) in wanted:
                yield key, raw

    def all_children(self, txn: Transaction) -> Iterator[tuple[bytes | None, bytes]]:
        """For each row of the child what it refers to, as :meth:`folded`, and its key."""
        for key, raw in find(txn, self.child, (), ()):
            reference = self.reference(self.child.decode(key, raw))
            yield None if reference is None else self.folded(reference), key

    def still_children(self, txn: Transaction, key: Key, keys: Sequence[bytes]) -> Iterator[Pair]:
        """Those of the rows with these keys that are there and refer to a parent with this key."""
        wanted, child = self.folded(key), self.child
        for found, raw in zip(keys, txn.multi_get(child.stored.family, keys), strict=True):
            reference = None if raw is None else self.reference(child.decode(found, raw))
            if raw is not None and reference is not None and self.folded(reference) == wanted:
                yield found, raw

    def path_of_children(self) -> Path | None:
        """The path of the child that begins with most of the referring columns; None if it has none."""
        best, most = None, 0
        for path in self.child.paths:
            if path.where is not None:
                continue
            count = 0
            for position, collation in zip(path.positions, path.collations, strict=True):
                if position not in self.columns or collation != self.child.columns[position].collation:
                    break
                count += 1
            if count > most:
                best, most = path, count
        return best

    def span_of_children(self, key: Key) -> tuple[str, bytes, bytes | None] | None:
        """The family and the range in which every row that refers to a parent with this key stands."""
        path = self.path_of_children() if self.direct else None
        equals: list[Any] = []
        if path is None:
            path = self.child.paths[0]
        else:
            by_column = dict(zip(self.columns, key, strict=True))
            for position in path.positions:
                if position not in by_column:
                    break
                equals.append(by_column[position])
        span = path.range(equals)
        return None if span is None else (path.family, *span)


def _declared_key(connection: Connection, relation: Relation) -> tuple[int, ...]:
    """Positions of the columns of a table's PRIMARY KEY, also where that is an index beside a rowid."""
    if relation.primary_key or relation.is_record:
        return relation.primary_key
    connection.shadow.load(relation.stored.name)
    table = f"{quoted(relation.schema)}.table_xinfo({quoted(relation.name)})"
    rows = connection.shadow.db.execute(f"pragma {table}").fetchall()
    return tuple(at for _, at in sorted((row[5], row[0]) for row in rows if row[5]))


def _unique_path(relation: Relation, positions: Sequence[int]) -> Path | None:
    """The path on which these columns are the whole of a unique key, by the columns' own collations."""
    for path in relation.paths:
        if path.where is None and path.unique == len(positions):
            leading = path.positions[: path.unique]
            collations = path.collations[: path.unique]
            if sorted(leading) == sorted(positions) and all(
                relation.columns[at].collation == collation for at, collation in zip(leading, collations, strict=True)
            ):
                return path
    return None
