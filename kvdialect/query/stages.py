"""Stages: functions generated for a plan, which take a list of pairs and give a list of what the query makes of them.

A stage decodes no more than the columns that it needs, tests the conditions and computes the result in one loop, so
that a row costs no call of ours. Constants and parameters are never part of its text.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol

import attrs

from kvdialect import exc
from kvdialect.codec.kinds import Kind, Namespace, compiled, put
from kvdialect.query.analysis import Aggregate, Order, Output
from kvdialect.schema import functions
from kvdialect.schema.expressions import Column, Expression, ExpressionWriter, columns_of
from kvdialect.schema.rows import DECODE_ERRORS, IndexCodec, TableCodec

Params = Sequence[Any]
Stage = Callable[[Any, Params], list[Any]]
"""Makes items of a list of pairs (or of groups) under given parameters."""

Payload = Literal["pair", "row", "first", "mixed"]
"""What an item holds: a record's ``(key, value)``; the outputs; the first output alone; ``(key, value, outputs)``."""


class Source(Protocol):
    """What a stage's loop runs over."""

    loop: str
    """The head of the loop, which sets its variables."""
    decoder: Any
    """The compiled decoder, or None."""
    names: tuple[str, ...]
    """The columns that it gives."""
    kinds: dict[str, Kind]
    nullable: frozenset[str]

    def columns(self, needed: Sequence[str], names: Namespace) -> tuple[list[str], dict[str, str]]:
        """Statements that decode the columns ``needed``, and the source of each."""


class RecordPairs:
    """Keys and values of records."""

    loop = "for key, value in items:"

    def __init__(self, table: TableCodec) -> None:
        self.table = table
        self.decoder, self.names = table.decoder, table.names
        self.kinds = {field.name: field.kind for field in table.definition.fields}
        self.nullable = frozenset(field.name for field in table.definition.fields if field.nullable)

    def columns(self, needed: Sequence[str], names: Namespace) -> tuple[list[str], dict[str, str]]:
        if not needed:
            return [], {}
        keys = self.table.definition.primary_key
        if set(needed) <= set(keys):
            statements, values = self.table.grammar.decode_source("key", names)
            return _assigned(statements, dict(zip(keys, values, strict=True)), needed, names, self.table.undecodable)
        lines = [f"row = {put(names, self.table.decode)}(key, value)"]
        return lines, {name: f"row[{self.table.positions[name]}]" for name in needed}


class IndexPairs:
    """Keys and values of index entries, which hold some of the columns."""

    loop = "for key, value in items:"

    def __init__(self, index: IndexCodec) -> None:
        self.index = index
        self.decoder, self.names = index.decoder, index.covered
        table = index.table
        self.kinds = {field.name: field.kind for field in table.definition.fields}
        proven = {
            name
            for name, part in zip(index.definition.columns, index.columns.parts, strict=True)
            if index.definition.kind == "ordered" and not part.nullable
        }
        self.nullable = frozenset(f.name for f in table.definition.fields if f.nullable and f.name not in proven)

    def columns(self, needed: Sequence[str], names: Namespace) -> tuple[list[str], dict[str, str]]:
        if not needed:
            return [], {}
        index = self.index
        own = index.definition.columns
        keys = index.tail
        if index.keyed and set(needed) <= {*own, *keys}:
            statements, values = index.grammar.decode_source("key", names)
            # A key column that is indexed too is there twice; the first one is taken.
            sources = dict(zip((*own, *keys)[::-1], values[::-1], strict=True))
            return _assigned(statements, sources, needed, names, self._undecodable)
        plain = not index.keyed and not index.included and not any(part.nullable for part in index.columns.parts)
        if plain and set(needed) <= set(own):
            statements, values = index.columns.decode_source("key", names)
            return _assigned(statements, dict(zip(own, values, strict=True)), needed, names, self._undecodable)
        at = {name: place for place, name in enumerate(index.covered)}
        return [f"row = {put(names, index.decode)}(key, value)"], {name: f"row[{at[name]}]" for name in needed}

    def record_key(self, names: Namespace) -> str:
        """Source of the key of the record that an entry leads to."""
        if self.index.prefix_width is not None:
            return f"key[{self.index.prefix_width}:]"
        if not self.index.keyed and not self.index.included:
            return "value"
        return f"{put(names, self.index.primary_key)}(key, value)"

    def _undecodable(self, key: bytes, error: Exception) -> exc.SerializationError:
        return exc.SerializationError(
            f"index entry {self.index.family}[{exc.shown(key)}] does not decode: {error}",
            table=self.index.table.definition.name, cf=self.index.family, key=key,
        )  # fmt: skip


class GroupRows:
    """Rows that an aggregation made: tuples of values in the form that expressions compare."""

    loop = "for row in items:"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.decoder = None
        self.kinds: dict[str, Kind] = {}
        self.nullable = frozenset(names)

    def columns(self, needed: Sequence[str], names: Namespace) -> tuple[list[str], dict[str, str]]:  # noqa: ARG002
        return [], {name: f"row[{self.names.index(name)}]" for name in needed}


def _assigned(
    statements: Sequence[str],
    values: dict[str, str],
    needed: Sequence[str],
    names: Namespace,
    undecodable: Callable[[bytes, Exception], exc.Error],
) -> tuple[list[str], dict[str, str]]:
    lines = ["try:", *(f"    {statement}" for statement in statements)]
    sources = {}
    for number, name in enumerate(needed):
        lines.append(f"    c{number} = {values[name]}")
        sources[name] = f"c{number}"
    lines.append(f"except {put(names, DECODE_ERRORS)} as error: raise {put(names, undecodable)}(key, error) from error")
    return lines, sources


# --------------------------------------------------------------------------- writing a stage


class _Loop:
    """A function with a loop over items, as it is being written."""

    def __init__(self, source: Source, expressions: Sequence[Expression]) -> None:
        self.names: Namespace = {}
        needed = tuple(dict.fromkeys(name for expression in expressions for name in columns_of(expression)))
        self.source = source
        self.decoding, columns = source.columns(needed, self.names)
        self.parameters: set[int] = set()
        self.writer = ExpressionWriter(
            columns, self.names, nullable=source.nullable, kinds=source.kinds, parameter=self._parameter
        )
        self.raw = columns

    def _parameter(self, number: int) -> str:
        self.parameters.add(number)
        return f"p{number}"

    def test(self, conditions: Sequence[Expression]) -> str | None:
        return " and ".join(map(self.writer.condition, conditions)) if conditions else None

    def output(self, output: Output) -> str:
        """Source of an output, as the type of its column has it."""
        expression = output.expression
        assert expression is not None
        bare = self.raw.get(getattr(expression, "name", "")) if output.load is None else None
        if bare is not None:
            return bare
        value = self.writer.value(expression)
        return value if output.load is None else f"{put(self.names, output.load)}({value})"

    def function(self, before: Sequence[str], test: str | None, body: Sequence[str], after: Sequence[str]) -> Any:
        inner = [f"        {line}" for line in self.decoding]
        if test is not None:
            inner.append(f"        if {test}:")
        indent = " " * (12 if test is not None else 8)
        lines = [
            "def stage(items, params, state=None):",
            *(f"    p{number} = params[{number}]" for number in sorted(self.parameters)),
            *(f"    {line}" for line in before),
            f"    {self.source.loop}",
            *inner,
            *(f"{indent}{line}" for line in body),
            *(f"    {line}" for line in after),
        ]
        return compiled("stage", lines, self.names)


@attrs.frozen
class SortKeys:
    """The keys that items are sorted by: each a run of ORDER BY's elements of one direction.

    Attributes:
        runs: the elements of each run.
    """

    runs: tuple[tuple[Order, ...], ...]

    @classmethod
    def of(cls, order: Sequence[Order]) -> SortKeys:
        runs: list[list[Order]] = []
        for element in order:
            if runs and runs[-1][-1].descending == element.descending:
                runs[-1].append(element)
            else:
                runs.append([element])
        return cls(tuple(map(tuple, runs)))

    @property
    def directions(self) -> tuple[bool, ...]:
        """Of each run whether it descends."""
        return tuple(run[0].descending for run in self.runs)


def compile_stage(
    source: Source,
    conditions: Sequence[Expression],
    outputs: Sequence[Output],
    payload: Payload,
    sort: SortKeys | None = None,
) -> Stage | None:
    """A stage that keeps the items for which ``conditions`` hold and makes of each its payload.

    Args:
        source: what it runs over.
        conditions: what must hold.
        outputs: of the query; of ``"mixed"`` payloads those that are no whole record.
        payload: what an item holds.
        sort: items become tuples of the keys to sort by and the payload.

    Returns:
        The stage; None if items would be what they are already.
    """
    if payload == "pair" and not conditions and sort is None:
        return None
    chosen = () if payload == "pair" else outputs[:1] if payload == "first" else outputs
    if payload in ("row", "first") and not conditions and sort is None:
        columns = _columns_stage(source, chosen, bare=payload == "first")
        if columns is not None:
            return columns
    computed = [output.expression for output in chosen if output.expression is not None]
    orders = [element for run in sort.runs for element in run] if sort is not None else []
    loop = _Loop(source, [*conditions, *computed, *(element.expression for element in orders)])
    test = loop.test(conditions)
    keys = [_sort_key(run, loop) for run in sort.runs] if sort is not None else []
    written = [loop.output(output) for output in chosen if output.expression is not None]
    row = f"({''.join(f'{part}, ' for part in written)})"
    item = {
        "pair": "(key, value)",
        "row": row,
        "first": written[0] if written else "",
        "mixed": f"(key, value, {row})",
    }[payload]
    if sort is not None:
        item = f"({', '.join([*keys, item])},)"
    stage: Stage = loop.function(["out = []", "emit = out.append"], test, [f"emit({item})"], ["return out"])
    return stage


def _columns_stage(source: Source, outputs: Sequence[Output], *, bare: bool) -> Stage | None:
    """A stage of columns as they are stored, where there is a compiled decoder."""
    expressions = [output.expression for output in outputs if output.load is None]
    names = [each.name for each in expressions if isinstance(each, Column)]
    if source.decoder is None or not names or len(names) != len(outputs):
        return None
    decode, places = source.decoder.columns, tuple([source.names.index(name) for name in names])
    return lambda items, _: decode(items, places, bare)


_LOW: Final = (0,)
_HIGH: Final = (2,)


def _sort_key(run: Sequence[Order], loop: _Loop) -> str:
    parts = [_sort_part(element, loop) for element in run]
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


def _sort_part(element: Order, loop: _Loop) -> str:
    """Source of what compares as an element of ORDER BY does, if descending when sorted in reverse."""
    value = loop.writer.value(element.expression)
    if not loop.writer.may_be_null(element.expression) and not element.floating:
        return value
    # NULL is below all values, or above them; so is NaN, which SQL takes for NULL.
    null = _HIGH if element.nulls_first == element.descending else _LOW
    test = f"(x := {value}) is not None" + (" and x == x" if element.floating else "")
    return f"((1, x) if {test} else {put(loop.names, null)})"


def compile_keys(source: IndexPairs, conditions: Sequence[Expression]) -> Stage:
    """A stage that gives the record keys of the index entries for which ``conditions`` hold."""
    loop = _Loop(source, conditions)
    test = loop.test(conditions)
    key = source.record_key(loop.names)
    stage: Stage
    if test is None:
        names = loop.names
        stage = compiled("stage", ["def stage(items, params):", f"    return [{key} for key, value in items]"], names)
        return stage
    stage = loop.function(["out = []", "emit = out.append"], test, [f"emit({key})"], ["return out"])
    return stage


# --------------------------------------------------------------------------- aggregation

Aggregator = Callable[[Any, Params, Any], None]
"""Adds a list of pairs to the groups in its third argument."""


class Aggregation:
    """What is collected for each group, and how it ends up as the values of the aggregates."""

    def __init__(self, group: Sequence[Expression], aggregates: Sequence[Aggregate]) -> None:
        self.group = tuple(group)
        self.aggregates = tuple(aggregates)
        self._initial: list[Callable[[], Any]] = []
        self._slots: list[int] = []
        for aggregate in self.aggregates:
            self._slots.append(len(self._initial))
            if aggregate.distinct:
                self._initial.append(set)
            elif aggregate.function == "count":
                self._initial.append(int)
            else:
                self._initial.append(_none)
                if aggregate.function == "avg":
                    self._initial.append(int)

    def start(self) -> list[Any]:
        """What is collected of a group before its first row."""
        return [make() for make in self._initial]

    def compile(self, source: Source, conditions: Sequence[Expression]) -> Aggregator:
        """The loop that collects: into a dict by group, or, without groups, into one list."""
        arguments = [a.argument for a in self.aggregates if a.argument is not None]
        loop = _Loop(source, [*conditions, *self.group, *arguments])
        test = loop.test(conditions)
        count = len(self._initial)
        if self.group:
            body = self._find_group(loop)
            places = [f"s[{number}]" for number in range(count)]
            before, after = ["find = state.get"], []
        else:
            body = []
            places = [f"s{number}" for number in range(count)]
            packed = "".join(f"{place}, " for place in places)
            before, after = [f"{packed}= state"], [f"state[:] = {packed}"]
        for aggregate, slot in zip(self.aggregates, self._slots, strict=True):
            body += self._collect(aggregate, slot, places, loop)
        function = loop.function(before, test, body or ["pass"], after)

        def aggregator(items: Any, params: Params, state: Any) -> None:
            function(items, params, state)

        return aggregator

    def _find_group(self, loop: _Loop) -> list[str]:
        values = [loop.writer.value(part) for part in self.group]
        key = values[0] if len(values) == 1 else f"({', '.join(values)})"
        return [
            f"group = {key}",
            "s = find(group)",
            f"if s is None: s = state[group] = {put(loop.names, self.start)}()",
        ]

    def _collect(self, aggregate: Aggregate, slot: int, places: Sequence[str], loop: _Loop) -> list[str]:
        place = places[slot]
        if aggregate.argument is None:
            return [f"{place} += 1"]
        value = loop.writer.value(aggregate.argument)
        function = aggregate.function
        lines = [] if value.isidentifier() else [f"x = {value}"]
        x = value if value.isidentifier() else "x"
        if aggregate.distinct:
            update = [f"{place}.add({x})"]
        elif function == "count":
            update = [f"{place} += 1"]
        elif function in ("min", "max"):
            update = [f"if {place} is None or {x} {'<' if function == 'min' else '>'} {place}: {place} = {x}"]
        else:
            added = f"{place} + {x}"
            if aggregate.number == "decimal":
                added = f"{put(loop.names, functions.EXACT.add)}({place}, {x})"
            update = [f"{place} = {x} if {place} is None else {added}"]
            if function == "avg":
                update.append(f"{places[slot + 1]} += 1")
        tests = [f"{x} is not None"] if loop.writer.may_be_null(aggregate.argument) else []
        if aggregate.number == "float" and function != "count":
            tests.append(f"{x} == {x}")  # NaN counts as NULL
        if tests:
            return [*lines, f"if {' and '.join(tests)}:", *(f"    {line}" for line in update)]
        return [*lines, *update]

    def rows(self, state: Any) -> list[tuple[Any, ...]]:
        """The groups' values and those of their aggregates, a tuple each."""
        if not self.group:
            return [self._finished(state)]
        if len(self.group) == 1:
            return [(key, *self._finished(collected)) for key, collected in state.items()]
        return [(*key, *self._finished(collected)) for key, collected in state.items()]

    def counted(self, count: int) -> tuple[Any, ...]:
        """The values of aggregates that are all counts of every row."""
        return tuple(count for _ in self.aggregates)

    def _finished(self, collected: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(
            _result(aggregate, collected, slot) for aggregate, slot in zip(self.aggregates, self._slots, strict=True)
        )


def _none() -> None:
    return None


def _result(aggregate: Aggregate, collected: Sequence[Any], slot: int) -> Any:
    """The value of an aggregate from what was collected for it."""
    value = collected[slot]
    count = 0
    if aggregate.distinct:
        count = len(value)
        value = _total(value, aggregate) if aggregate.function != "count" else count
    elif aggregate.function == "avg":
        count = collected[slot + 1]
    if aggregate.function == "sum" and isinstance(value, bool):
        return int(value)
    return functions.divide(value, count) if aggregate.function == "avg" else value


def _total(members: set[Any], aggregate: Aggregate) -> Any:
    if not members:
        return None
    if aggregate.number == "decimal":
        return functools.reduce(functions.EXACT.add, members)
    return sum(members)
