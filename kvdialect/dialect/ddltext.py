"""What CREATE statements say that SQLite does not tell otherwise, read from their text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import attrs

from kvdialect import exc
from kvdialect.schema.names import folded
from kvdialect.schema.tokens import Token, quoted, split, tokenize

_CONSTRAINTS: Final = frozenset({"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"})
_ACTIONS: Final = {"SET": 2, "NO": 2, "CASCADE": 1, "RESTRICT": 1}


@attrs.frozen
class ForeignKeyText:
    """A foreign key as it is written.

    Attributes:
        columns: of the table.
        parent: the table referred to.
        parent_columns: its columns; () for its primary key.
        on_delete, on_update: the action in upper case, or None.
        deferred: DEFERRABLE INITIALLY DEFERRED.
        name: of the constraint, or None.
    """

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    on_delete: str | None = None
    on_update: str | None = None
    deferred: bool = False
    name: str | None = None


@attrs.define
class TableFacts:
    """What the text of a CREATE TABLE says.

    Attributes:
        foreign_keys: in the order of the text.
        autoincrement, without_rowid, strict: it says so.
        checks: the texts of its CHECKs.
        has_generated: it has generated columns.
        conflict_clauses: each constraint with an ON CONFLICT of its own, and the resolution.
    """

    foreign_keys: list[ForeignKeyText] = attrs.field(factory=list)
    autoincrement: bool = False
    without_rowid: bool = False
    strict: bool = False
    checks: set[str] = attrs.field(factory=set)
    has_generated: bool = False
    conflict_clauses: list[tuple[str, str]] = attrs.field(factory=list)

    @property
    def has_check(self) -> bool:
        return bool(self.checks)


@attrs.frozen
class IndexColumn:
    """A plain column of an index."""

    name: str
    collation: str | None
    descending: bool


@attrs.frozen
class IndexFacts:
    """What the text of a CREATE INDEX says.

    Attributes:
        unique: UNIQUE.
        columns: its plain columns, in order.
        expressions: the texts of its expressions, in order.
        where: text of its WHERE, or None.
    """

    unique: bool
    columns: tuple[IndexColumn, ...]
    expressions: tuple[str, ...]
    where: str | None


def identifiers(sql: str) -> frozenset[str]:
    """Everything in a statement that may be a name, in lower case."""
    return frozenset(folded(token.name) for token in tokenize(sql) if token.is_name)


def qualified(sql: str, schema: str) -> str:
    """A CREATE statement with its object in a schema."""
    if folded(schema) == "main":
        return sql
    found = tokenize(sql)
    at = 1
    while found[at].word in ("UNIQUE", "TABLE", "INDEX", "VIEW", "IF", "NOT", "EXISTS", "TEMP", "TEMPORARY"):
        at += 1
    return f"{sql[: found[at].start]}{quoted(schema)}.{sql[found[at].start :]}"


def with_columns(sql: str, names: Sequence[str]) -> str:
    """A CREATE VIEW with names for its columns, unless it has them."""
    found = tokenize(sql)
    at = next(at for at, token in enumerate(found) if token.word == "AS" and not token.depth)
    if found[at - 1].word == ")":
        return sql
    return f"{sql[: found[at].start]}({', '.join(map(quoted, names))}) {sql[found[at].start :]}"


_CREATES: Final = {"TABLE": ("TABLE",), "INDEX": ("INDEX", "UNIQUE"), "VIEW": ("VIEW",)}


def stored(sql: str, kind: Literal["TABLE", "INDEX", "VIEW"], schema: str) -> str:
    """A CREATE statement out of the catalog, with its object in a schema: the one statement that it may be.

    What stands in a store is data from outside: a text with another statement behind it would be run as well, and
    ATTACH or VACUUM INTO write files.

    Raises:
        Corruption: if it is anything else.
    """
    try:
        words = [token.word for token in tokenize(sql)]
    except exc.Error:
        words = []
    if len(words) < 3 or words[0] != "CREATE" or words[1] not in _CREATES[kind] or ";" in words or "\0" in sql:
        raise exc.Corruption(
            f"the catalog has {sql!r:.80} where one CREATE {kind} is expected (restore a backup)", statement=sql
        )
    return qualified(sql, schema)


def is_constant(default: str) -> bool:
    """Whether the text of a default is a constant, as ALTER TABLE ADD COLUMN asks for."""
    found = tokenize(default)
    words = {token.word for token in found}
    return words.isdisjoint(("CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP", "("))


def _close(found: Sequence[Token], at: int) -> int:
    depth = found[at].depth
    return next(
        other for other in range(at + 1, len(found)) if found[other].word == ")" and found[other].depth == depth
    )


@lru_cache(1000)
def table_facts(sql: str) -> TableFacts:
    """Read a CREATE TABLE statement, as SQLite keeps it."""
    found = tokenize(sql)
    facts = TableFacts()
    start = next((at for at, token in enumerate(found) if token.word == "(" and token.depth == 0), None)
    if start is None:
        return facts
    close = _close(found, start)
    options = [token.word for token in found[close + 1 :]]
    facts.strict = "STRICT" in options
    facts.without_rowid = "WITHOUT" in options
    for first, stop in split(found, start + 1, close):
        if first < stop:
            _read_definition(sql, found[first:stop], facts)
    return facts


def _read_definition(sql: str, piece: Sequence[Token], facts: TableFacts) -> None:
    """Read a column, or a constraint of the table."""
    of_table = piece[0].word in _CONSTRAINTS
    column = None if of_table else piece[0].name
    depth = piece[0].depth
    at = 0 if of_table else 1
    name: str | None = None
    referring: tuple[str, ...] = () if column is None else (column,)
    constraint = ""
    while at < len(piece):
        token = piece[at]
        if token.depth != depth or token.kind != "name":
            at += 1
            continue
        word = token.word
        if word == "CONSTRAINT" and at + 1 < len(piece):
            name = piece[at + 1].name
            at += 2
            continue
        if word in ("PRIMARY", "UNIQUE", "NOT", "CHECK"):
            constraint = {"PRIMARY": "PRIMARY KEY", "NOT": "NOT NULL"}.get(word, word)
        if word == "CHECK" and at + 1 < len(piece) and piece[at + 1].word == "(":
            end = _close(piece, at + 1)
            facts.checks.add(sql[piece[at + 1].start : piece[end].end])
            at = end + 1
            continue
        if word == "AUTOINCREMENT":
            facts.autoincrement = True
        elif word == "AS" and at + 1 < len(piece) and piece[at + 1].word == "(":
            facts.has_generated = True
        elif word == "FOREIGN":
            opening = next(other for other in range(at, len(piece)) if piece[other].word == "(")
            end = _close(piece, opening)
            referring = tuple(piece[first].name for first, _ in split(piece, opening + 1, end))
            at = end + 1
            continue
        elif word == "REFERENCES":
            key, at = _read_reference(piece, at, referring, name)
            facts.foreign_keys.append(key)
            name = None
            continue
        elif word == "ON" and at + 2 < len(piece) and piece[at + 1].word == "CONFLICT":
            resolution = piece[at + 2].word
            if resolution != "ABORT":
                where = f" of column {column}" if column is not None else ""
                facts.conflict_clauses.append((f"{constraint}{where}", resolution))
            at += 3
            continue
        at += 1


def _read_reference(
    piece: Sequence[Token], at: int, referring: tuple[str, ...], name: str | None
) -> tuple[ForeignKeyText, int]:
    if at + 1 >= len(piece):
        raise exc.OperationalError("incomplete input: REFERENCES without a table")
    parent = piece[at + 1].name
    at += 2
    targets: tuple[str, ...] = ()
    if at < len(piece) and piece[at].word == "(":
        end = _close(piece, at)
        targets = tuple(piece[first].name for first, _ in split(piece, at + 1, end))
        at = end + 1
    actions: dict[str, Any] = {"on_delete": None, "on_update": None}
    deferred = False
    while at < len(piece):
        word = piece[at].word
        if word == "ON" and at + 2 < len(piece) and piece[at + 1].word in ("DELETE", "UPDATE"):
            which = f"on_{piece[at + 1].word.lower()}"
            length = _ACTIONS.get(piece[at + 2].word, 1)
            actions[which] = " ".join(token.word for token in piece[at + 2 : at + 2 + length])
            at += 2 + length
        elif word == "MATCH":
            at += 2
        elif word == "NOT" and at + 1 < len(piece) and piece[at + 1].word == "DEFERRABLE":
            at += 2
            if at + 1 < len(piece) and piece[at].word == "INITIALLY":
                at += 2
        elif word == "DEFERRABLE":
            at += 1
            if at + 1 < len(piece) and piece[at].word == "INITIALLY":
                deferred = piece[at + 1].word == "DEFERRED"
                at += 2
        else:
            break
    return ForeignKeyText(referring, parent, targets, **actions, deferred=deferred, name=name), at


@lru_cache(1000)
def index_facts(sql: str) -> IndexFacts:
    """Read a CREATE INDEX statement."""
    found = tokenize(sql)
    unique = len(found) > 1 and found[1].word == "UNIQUE"
    opening = next(at for at, token in enumerate(found) if token.word == "(" and token.depth == 0)
    close = _close(found, opening)
    columns: list[IndexColumn] = []
    expressions: list[str] = []
    for first, stop in split(found, opening + 1, close):
        part = found[first:stop]
        descending = False
        collation = None
        if part[-1].word in ("ASC", "DESC"):
            descending = part.pop().word == "DESC"
        if len(part) > 2 and part[-2].word == "COLLATE" and part[-2].depth == part[0].depth:
            collation = part[-1].name.upper()
            del part[-2:]
        if len(part) == 1 and part[0].is_name:
            columns.append(IndexColumn(part[0].name, collation, descending))
        else:
            expressions.append(sql[part[0].start : part[-1].end])
    where = None
    if close + 1 < len(found) and found[close + 1].word == "WHERE":
        where = sql[found[close + 2].start : found[-1].end]
    return IndexFacts(unique, tuple(columns), tuple(expressions), where)
