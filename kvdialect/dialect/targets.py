"""What ON CONFLICT clauses are about: the one unique index, or the key, that a clause names by its columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from kvdialect.dialect.ddltext import index_facts
from kvdialect.dialect.relations import ROWID_NAMES, Relation
from kvdialect.schema.definition import ROWID
from kvdialect.schema.names import folded
from kvdialect.schema.tokens import canonical, quoted, tokenize

if TYPE_CHECKING:
    from kvdialect.dialect.statements import UpsertClause

ANY: Final = object()
"""What a clause without columns is about."""

Term = tuple[str, str | None]
"""A column or expression, in canonical form, and its collation, if that is said."""


def target_of(relation: Relation, clause: UpsertClause, alias: str | None = None) -> Any:
    """The unique index that a clause is about; None: the key; :data:`ANY`: whatever is taken.

    That there is one, SQLite has seen before. If there are several, it is the key or the newest, as there.
    """
    if clause.target is None:
        return ANY
    wanted = [_term(part.text, relation.name, alias) for part in clause.target]
    if _matches(wanted, _key_terms(relation, wanted)):
        return None
    unique = [index for index in relation.stored.codec.indexes if index.definition.unique]
    fitting = []
    for index in sorted(unique, key=lambda index: index.definition.id, reverse=True):
        where = index.definition.where
        if where is not None and clause.target_where is None:
            continue
        terms = list(_index_terms(relation, index))
        if len(terms) != len(wanted):
            continue
        fitting.append(index)
        if _matches(wanted, terms) and (
            where is None or relation.is_record or _same_condition(relation, index, clause, alias)
        ):
            return index
    # Written otherwise than in the index, in parentheses for example: SQLite compares the trees.
    return next((index for index in fitting if index.definition.statement is not None), fitting[0] if fitting else ANY)


def _term(text: str, table: str, alias: str | None) -> Term:
    tokens = tokenize(text)
    if tokens[-1].word in ("ASC", "DESC"):
        tokens.pop()
    collation = None
    if len(tokens) > 2 and tokens[-2].word == "COLLATE" and tokens[-2].depth == 0:
        collation = tokens[-1].name.upper()
        del tokens[-2:]
    return canonical(text[: tokens[-1].end], table, alias), collation


def _key_terms(relation: Relation, wanted: list[Term]) -> list[tuple[str, str]]:
    if relation.rowid and relation.alias is None:
        names = [name for name in ROWID_NAMES if name not in relation.positions]
        return [(quoted(name), "BINARY") for name in names if [term for term, _ in wanted] == [quoted(name)]]
    if relation.rowid and len(wanted) == 1 and wanted[0][0].strip('"') in ROWID_NAMES - relation.positions.keys():
        return [(wanted[0][0], "BINARY")]
    path = relation.paths[0]
    columns = [relation.columns[at].name for at in relation.primary_key]
    collations = path.collations if len(path.collations) == len(columns) else ("BINARY",) * len(columns)
    return [(quoted(folded(name)), collation) for name, collation in zip(columns, collations, strict=True)]


def _index_terms(relation: Relation, index: Any) -> Iterator[tuple[str, str]]:
    definition = index.definition
    facts = None if definition.statement is None or relation.is_record else index_facts(definition.statement)
    expressions = iter(() if facts is None else facts.expressions)
    for part in definition.parts:
        hidden = part.name.startswith("\0") and part.name != ROWID
        text = canonical(next(expressions), relation.name) if hidden else quoted(folded(part.name))
        yield text, part.collation


def _matches(wanted: list[Term], terms: list[tuple[str, str]]) -> bool:
    """Whether each term of an index is among those of a clause; a collation counts only where the clause says one."""
    return len(wanted) == len(terms) and all(
        any(text == term and said in (None, collation) for text, said in wanted) for term, collation in terms
    )


def _same_condition(relation: Relation, index: Any, clause: UpsertClause, alias: str | None) -> bool:
    facts = index_facts(index.definition.statement)
    assert facts.where is not None
    assert clause.target_where is not None
    return canonical(facts.where, relation.name) == canonical(clause.target_where.text, relation.name, alias)
