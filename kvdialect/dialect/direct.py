"""Simple statements on one table, run straight on the store.

Virtual tables cost a call of Python for each column of each row. So a statement whose rows are just those of a range of
keys, in their order, is not given to SQLite: columns of one table, compared with parameters or constants so that the
key or one index has exactly those rows; the number of all rows; an UPDATE or DELETE of the row with a key. What it
gives is what SQLite would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, starmap
from operator import itemgetter
from sys import maxsize
from typing import TYPE_CHECKING, Any, Final

import attrs

from kvdialect import exc
from kvdialect.codec.dynamic import apply_affinity
from kvdialect.dialect.parts import UNBOUNDED
from kvdialect.dialect.relations import Path, Relation
from kvdialect.dialect.statements import Statement
from kvdialect.schema.names import folded
from kvdialect.schema.tokens import Token, split, tokenize
from kvdialect.store.transaction import Transaction

if TYPE_CHECKING:
    from kvdialect.dialect.connection import Connection

Value = Callable[[Sequence[Any]], Any]
"""Gives a value of the parameters."""

_COMPARISONS: Final = {"=": "=", "==": "=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_MIRRORED: Final = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_HIGHEST: Final = (1 << 63) - 1
_FIRST: Final = 64
"""Rows of an index that are read together at first, where all are asked for."""


class _TooHard(Exception):
    """The statement is one for SQLite."""


@attrs.frozen
class Condition:
    """A column compared with a value, or with several: ``=``, ``<``, ``<=``, ``>``, ``>=`` or ``in``."""

    position: int
    operator: str
    values: tuple[Value, ...]


class Reading:
    """A SELECT.

    Attributes:
        description: of its columns.
        writes: False.
    """

    writes = False

    def __init__(self, names: Sequence[str], count: int, run: Callable[[Transaction, Any], Iterator[Any]]) -> None:
        self.description = tuple((name, None, None, None, None, None, None) for name in names)
        self._count = count
        self._run = run

    def rows(self, txn: Transaction, params: Any) -> Iterator[Any]:
        """The rows, as they are asked for."""
        _check_count(self._count, params)
        return self._run(txn, params)


class Writing:
    """An UPDATE or DELETE of one row."""

    writes = True
    description = None

    def __init__(self, count: int, run: Callable[[Transaction, Any], None]) -> None:
        self._count = count
        self._run = run

    def run(self, txn: Transaction, params: Any) -> None:
        _check_count(self._count, params)
        self._run(txn, params)


def _check_count(count: int, params: Any) -> None:
    if len(params) != count or not hasattr(params, "__getitem__") or isinstance(params, dict):
        raise exc.ProgrammingError(f"the statement has {count} parameters; {len(params)} were given")


def plan(statement: Statement, connection: Connection) -> Reading | Writing | None:
    """The direct way of a statement, or None if it is one for SQLite."""
    if statement.reads_schema or any(statement.parameters):
        return None
    try:
        reader = _Reader(statement, connection)
        if statement.kind == "select":
            return reader.select()
        if statement.kind in ("update", "delete") and statement.conflict is None:
            return reader.write()
    except (_TooHard, IndexError):
        return None
    return None


class _Reader:
    """Reads the tokens of one statement."""

    def __init__(self, statement: Statement, connection: Connection) -> None:
        self.statement = statement
        self.connection = connection
        self.tokens = [token for token in tokenize(statement.sql) if token.word != ";"]
        self.at = 0
        self.marks = 0
        self.relation: Any = None
        self.qualifiers: frozenset[str] = frozenset()

    # ------------------------------------------------------------------------------------------ tokens

    def peek(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def word(self, *words: str) -> bool:
        """Take these keywords if they are next."""
        for offset, word in enumerate(words):
            at = self.at + offset
            if at >= len(self.tokens) or self.tokens[at].word != word:
                return False
        self.at += len(words)
        return True

    def expect(self, *words: str) -> None:
        if not self.word(*words):
            raise _TooHard

    def end(self) -> None:
        if self.at != len(self.tokens):
            raise _TooHard

    def value(self) -> Value:
        """A parameter or a constant."""
        token = self.tokens[self.at]
        self.at += 1
        if token.text == "?":
            number = self.marks
            self.marks += 1
            return itemgetter(number)
        constant: Any
        if token.word == "-" and self.tokens[self.at].kind == "number":
            constant = _number(self.tokens[self.at].text, negative=True)
            self.at += 1
        elif token.kind == "number":
            constant = _number(token.text)
        elif token.kind == "string":
            constant = token.name
        else:
            raise _TooHard
        return lambda _params: constant

    def column(self) -> int:
        """A column of the table, by its name, qualified or not."""
        token = self.tokens[self.at]
        if token.kind not in ("name", "quoted"):
            raise _TooHard
        name = token.name
        self.at += 1
        following = self.peek()
        if following is not None and following.word == ".":
            if folded(name) not in self.qualifiers:
                raise _TooHard
            token = self.tokens[self.at + 1]
            if token.kind not in ("name", "quoted"):
                raise _TooHard
            name = token.name
            self.at += 2
        found = self.relation.positions.get(folded(name))
        if found is None:
            raise _TooHard
        return int(found)

    # ------------------------------------------------------------------------------------------ statements

    def table(self, *, alias: bool = True) -> None:
        """The table, and what it may be called."""
        token = self.tokens[self.at]
        if token.kind not in ("name", "quoted"):
            raise _TooHard
        schema, name = None, token.name
        self.at += 1
        following = self.peek()
        if following is not None and following.word == ".":
            schema, name = name, self.tokens[self.at + 1].name
            self.at += 2
        relation = self.connection.relation(schema, name)
        if relation is None:
            raise _TooHard
        self.relation = relation
        called = name
        following = self.peek()
        if alias and following is not None:
            if following.word == "AS":
                called = self.tokens[self.at + 1].name
                self.at += 2
            elif following.kind == "quoted" or (following.kind == "name" and following.word not in _FOLLOWS):
                called = following.name
                self.at += 1
        self.qualifiers = frozenset({folded(called)})

    def select(self) -> Reading:
        self.expect("SELECT")
        depth = next((at for at, t in enumerate(self.tokens) if t.word == "FROM"), None)
        if depth is None or self.tokens[depth].depth:
            raise _TooHard
        first, self.at = self.at, depth + 1
        self.table()
        after = self.at
        items = self.tokens[first:depth]
        if _is_count(items):
            self.end()
            return self._count(items)
        if items[0].word in ("MIN", "MAX") and len(items) > 1 and items[1].word == "(":
            return self._extreme(first, depth, after)
        outputs = self._outputs(first, depth)
        self.at = after
        conditions = self._where()
        order = self._order(outputs)
        limit, offset = self._limit()
        self.end()
        return self._reading(outputs, conditions, order, limit, offset)

    def _count(self, items: Sequence[Token]) -> Reading:
        label = items[-1].name if len(items) > 4 else "count(*)"
        stored = self.relation.stored

        def run(txn: Transaction, _params: Any) -> Iterator[Any]:
            return iter(((txn.count(stored),),))

        return Reading([label], 0, run)

    def _extreme(self, first: int, last: int, after: int) -> Reading:
        """The least or the greatest value of a column: the first one of a path that has it in order."""
        tokens = self.tokens
        largest = tokens[first].word == "MAX"
        self.at = first + 2
        position = self.column()
        self.expect(")")
        label = self.statement.sql[tokens[first].start : tokens[self.at - 1].end]
        if self.at < last:
            if last - self.at != 2 or tokens[self.at].word != "AS" or not tokens[last - 1].is_name:
                raise _TooHard
            label = tokens[last - 1].name
        self.at = after
        conditions = self._where()
        self.end()
        pairs = self._pairs(conditions, [(position, largest)], limited=True)
        shown = _shown(self.relation, [position])

        def run(txn: Transaction, params: Any) -> Iterator[Any]:
            # NULL stands before all values, and is none of them.
            found = next((value for (value,) in shown(pairs(txn, params)) if value is not None), None)
            return iter(((found,),))

        return Reading([label], self.marks, run)

    def _outputs(self, first: int, last: int) -> list[tuple[int, str]]:
        outputs: list[tuple[int, str]] = []
        tokens, columns = self.tokens, self.relation.columns
        for start, stop in split(tokens, first, last):
            if start == stop:
                raise _TooHard
            if tokens[stop - 1].word == "*" and (
                stop - start == 1 or (stop - start == 3 and folded(tokens[start].name) in self.qualifiers)
            ):
                outputs += [(at, column.name) for at, column in enumerate(columns)]
                continue
            self.at = start
            position = self.column()
            label = columns[position].name
            if self.at < stop:
                if stop - self.at != 2 or tokens[self.at].word != "AS" or not tokens[stop - 1].is_name:
                    raise _TooHard
                label = tokens[stop - 1].name
            outputs.append((position, label))
        return outputs

    def _where(self) -> list[Condition]:
        conditions: list[Condition] = []
        if not self.word("WHERE"):
            return conditions
        while True:
            conditions += self._condition()
            if not self.word("AND"):
                return conditions

    def _condition(self) -> list[Condition]:
        position = self.column()
        if self.word("BETWEEN"):
            low = self.value()
            self.expect("AND")
            return [Condition(position, ">=", (low,)), Condition(position, "<=", (self.value(),))]
        if self.word("IN"):
            self.expect("(")
            values = [self.value()]
            while self.word(","):
                values.append(self.value())
            self.expect(")")
            return [Condition(position, "in", tuple(values))]
        token = self.tokens[self.at]
        operator = _COMPARISONS.get(token.word)
        if operator is None:
            raise _TooHard
        self.at += 1
        return [Condition(position, operator, (self.value(),))]

    def _order(self, outputs: Sequence[tuple[int, str]]) -> list[tuple[int, bool]]:
        order: list[tuple[int, bool]] = []
        if not self.word("ORDER", "BY"):
            return order
        while True:
            first = self.at
            position = self.column()
            label = folded(self.tokens[first].name) if self.at == first + 1 else None
            if any(folded(name) == label and at != position for at, name in outputs):
                raise _TooHard  # the name of an output comes before that of a column
            descending = self.word("DESC")
            if not descending:
                self.word("ASC")
            order.append((position, descending))
            if not self.word(","):
                return order

    def _limit(self) -> tuple[Value | None, Value | None]:
        if not self.word("LIMIT"):
            return None, None
        limit = self.value()
        return limit, self.value() if self.word("OFFSET") else None

    def write(self) -> Writing:
        update = self.statement.kind == "update"
        self.expect("UPDATE" if update else "DELETE")
        if not update:
            self.expect("FROM")
        self.table(alias=False)
        assignments: list[tuple[int, Value]] = []
        if update:
            self.expect("SET")
            while True:
                position = self.column()
                if self.relation.columns[position].generated:
                    raise _TooHard
                self.expect("=")
                assignments.append((position, self.value()))
                if not self.word(","):
                    break
        conditions = self._where()
        self.end()
        found = self._point(conditions)
        if found is None:
            raise _TooHard
        relation, writer = self.relation, self.connection.writer
        path, values = found
        if not self.connection.references.sound(relation):
            raise _TooHard

        def run(txn: Transaction, params: Any) -> None:
            point = path.point([value(params) for value in values])
            pair = None if point is None else path.at(txn, point)
            if pair is None:
                return
            if not update:
                writer.delete(relation, pair[0])
                return
            new = list(relation.values(*pair))
            for position, value in assignments:
                new[position] = value(params)
            writer.update(relation, pair[0], new)

        return Writing(self.marks, run)

    # ------------------------------------------------------------------------------------------ plans

    def _point(self, conditions: Sequence[Condition]) -> tuple[Path, list[Value]] | None:
        """The path on which the conditions name at most one row."""
        equal = {each.position: each.values[0] for each in conditions if each.operator == "="}
        if len(equal) != len(conditions):
            return None
        for path in self._paths():
            if path.unique is not None and set(path.positions[: path.unique]) == set(equal):
                return path, [equal[position] for position in path.positions[: path.unique]]
        return None

    def _paths(self) -> Iterable[Path]:
        """The paths that hold exactly what conditions ask for."""
        columns = self.relation.columns
        for path in self.relation.paths:
            if (
                path.where is None
                and path.exact
                and all(
                    position >= 0 and collation == columns[position].collation == "BINARY"
                    for position, collation in zip(path.positions, path.collations, strict=True)
                )
            ):
                yield path

    def _reading(
        self,
        outputs: Sequence[tuple[int, str]],
        conditions: Sequence[Condition],
        order: Sequence[tuple[int, bool]],
        limit: Value | None,
        offset: Value | None,
    ) -> Reading:
        relation: Relation = self.relation
        shown = _shown(relation, [position for position, _ in outputs])
        names = [name for _, name in outputs]
        pairs = self._pairs(conditions, order, limited=limit is not None)

        def run(txn: Transaction, params: Any) -> Iterator[Any]:
            found = pairs(txn, params)
            if limit is not None:
                start = 0 if offset is None else max(_integer(offset(params)), 0)
                count = _integer(limit(params))
                found = islice(found, min(start, maxsize), None if count < 0 else min(start + count, maxsize))
            return shown(found)

        return Reading(names, self.marks, run)

    def _pairs(
        self, conditions: Sequence[Condition], order: Sequence[tuple[int, bool]], *, limited: bool
    ) -> Callable[[Transaction, Any], Iterator[Any]]:
        """What gives the rows that the conditions ask for, in order."""
        point = self._point(conditions) if conditions else None
        if point is not None:
            path, values = point

            def one(txn: Transaction, params: Any) -> Iterator[Any]:
                key = path.point([value(params) for value in values])
                pair = None if key is None else path.at(txn, key)
                return iter(()) if pair is None else iter((pair,))

            return one
        if len(conditions) == 1 and conditions[0].operator == "in" and not order:
            return self._several(conditions[0])
        for path in self._paths():
            bounds = self._bounds(path, conditions)
            if bounds is None:
                continue
            equal = path.positions[: len(bounds[0])]
            reverse = _direction(path, equal, order)
            if reverse is None:
                continue
            if not conditions and order and not path.primary and not limited:
                continue  # SQLite's sorter is faster than to fetch each row of the table by an index
            return _ranged(path, *bounds, reverse, 1 if limited else _FIRST)
        raise _TooHard

    def _several(self, condition: Condition) -> Callable[[Transaction, Any], Iterator[Any]]:
        for path in self._paths():
            if path.unique == 1 and path.positions[0] == condition.position:

                def some(txn: Transaction, params: Any, path: Path = path) -> Iterator[Any]:
                    keys = {path.point([value(params)]) for value in condition.values}
                    for key in sorted(key for key in keys if key is not None):
                        pair = path.at(txn, key)
                        if pair is not None:
                            yield pair

                return some
        raise _TooHard

    def _bounds(
        self, path: Path, conditions: Sequence[Condition]
    ) -> tuple[list[Value], tuple[Value | None, bool], tuple[Value | None, bool]] | None:
        """The equal values of a path's first columns and the bounds of the next; None if others are left over."""
        left = list(conditions)
        equal: list[Value] = []
        for position in path.positions:
            found = [each for each in left if each.position == position and each.operator == "="]
            if len(found) != 1:
                break
            equal.append(found[0].values[0])
            left.remove(found[0])
        low: tuple[Value | None, bool] = (None, True)
        high: tuple[Value | None, bool] = (None, True)
        if left:
            if len(equal) == len(path.positions):
                return None
            for each in left:
                if each.position != path.positions[len(equal)]:
                    return None
                if each.operator in (">", ">=") and low[0] is None:
                    low = each.values[0], each.operator == ">="
                elif each.operator in ("<", "<=") and high[0] is None:
                    high = each.values[0], each.operator == "<="
                else:
                    return None
        elif conditions and not equal:
            return None
        return equal, low, high


_FOLLOWS: Final = frozenset(
    {"WHERE", "ORDER", "LIMIT", "GROUP", "HAVING", "JOIN", "LEFT", "RIGHT", "FULL", "INNER", "CROSS", "NATURAL", "ON",
     "USING", "UNION", "INTERSECT", "EXCEPT", "WINDOW", "INDEXED", "NOT", "SET"}
)  # fmt: skip


def _is_count(items: Sequence[Token]) -> bool:
    words = [token.word for token in items]
    if words[:4] != ["COUNT", "(", "*", ")"]:
        return False
    return len(items) == 4 or (len(items) == 6 and words[4] == "AS" and items[5].is_name)


def _number(text: str, *, negative: bool = False) -> int | float:
    if "_" in text or len(text) > 300:  # Python makes no int of thousands of digits
        raise _TooHard
    sign = -1 if negative else 1
    if text.isdigit():
        number = sign * int(text)
        return number if -_HIGHEST - 1 <= number <= _HIGHEST else float(number)
    try:
        return sign * float(text)
    except ValueError:
        raise _TooHard from None


def _integer(value: Any) -> int:
    number = apply_affinity(value, "INTEGER") if value is not None else None
    if type(number) is not int:
        raise exc.IntegrityError("datatype mismatch", value=value)
    return number


def _direction(path: Path, equal: Sequence[int], order: Sequence[tuple[int, bool]]) -> bool | None:
    """Whether the path has to be read backwards for an order; None if it does not have the order."""
    wanted = [each for each in order if each[0] not in equal]
    if not wanted:
        return False
    given = [(position, descending) for position, collation, descending in path.order if position not in equal]
    if len(wanted) > len(given):
        return None
    turns = set()
    for (position, descending), (place, stands_descending) in zip(wanted, given, strict=False):
        if position != place:
            return None
        turns.add(descending != stands_descending)
    return turns.pop() if len(turns) == 1 else None


def _ranged(
    path: Path,
    equal: Sequence[Value],
    low: tuple[Value | None, bool],
    high: tuple[Value | None, bool],
    reverse: bool,
    first: int,
) -> Callable[[Transaction, Any], Iterator[Any]]:
    (lowest, low_inclusive), (highest, high_inclusive) = low, high

    def ranged(txn: Transaction, params: Any) -> Iterator[Any]:
        span = path.range(
            [value(params) for value in equal],
            UNBOUNDED if lowest is None else lowest(params),
            UNBOUNDED if highest is None else highest(params),
            low_inclusive,
            high_inclusive,
        )
        return iter(()) if span is None else path.rows(txn, *span, reverse, first=first)

    return ranged


def _shown(relation: Relation, positions: Sequence[int]) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """What makes the tuples that a statement gives of records, without code of Python's for each where that can be."""
    width = len(relation.columns)
    decode = relation.decode
    if tuple(positions) != tuple(range(width)):
        pick = itemgetter(*positions)
        if len(positions) == 1:
            return lambda pairs: zip(map(pick, starmap(decode, pairs)))
        return lambda pairs: map(pick, starmap(decode, pairs))
    if len(relation.stored.definition.fields) == width:
        return lambda pairs: starmap(decode, pairs)
    whole = itemgetter(slice(width))
    return lambda pairs: map(whole, starmap(decode, pairs))
