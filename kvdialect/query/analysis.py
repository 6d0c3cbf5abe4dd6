"""From the structure of a statement to a Query: what is asked, over the stored table, with all types checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import attrs

from kvdialect import exc
from kvdialect.codec.kinds import Kind
from kvdialect.schema import domains
from kvdialect.schema.clauses import Structure, unsupported
from kvdialect.schema.definition import TableDefinition
from kvdialect.schema.domains import Converter, Domain
from kvdialect.schema.expressions import (
    And,
    Case,
    Column,
    Compare,
    Constant,
    Expression,
    In,
    Not,
    Or,
    Parameter,
    conjuncts,
    has_own_order,
    rebuild,
    walk,
)
from kvdialect.schema.translate import Translator, Typed

AGGREGATES: Final = ("count", "sum", "avg", "min", "max")


@attrs.frozen
class Aggregate(Expression):
    """An aggregate function; it stands in the outputs, the HAVING and the ORDER BY of a query, never in a filter.

    Attributes:
        function: one of :data:`AGGREGATES`.
        argument: None for ``count(*)``.
        distinct: of equal values one counts.
        number: for sum and avg, of what the argument is.
    """

    function: str
    argument: Expression | None
    distinct: bool = False
    number: Literal["int", "float", "decimal"] | None = None


@attrs.frozen
class Output:
    """An element of what a query selects.

    Attributes:
        name: its key in the result.
        expression: its value; None for the whole record.
        load: makes the value of the expression's stored form, where these differ.
        kind: of its values, where they are those of one column (or the least or greatest of them).
        domain: of its values; None where that is not known, as of NULL and of a parameter by itself.
        computed: the expression over the table's columns, which ``expression`` is not beside groups.
    """

    name: str
    expression: Expression | None
    load: Callable[[Any], Any] | None = attrs.field(default=None, eq=False)
    kind: Kind | None = attrs.field(default=None, eq=False)
    domain: Domain | None = attrs.field(default=None, eq=False)
    computed: Expression | None = attrs.field(default=None, eq=False)


@attrs.frozen
class Order:
    """An element of ORDER BY. ``nulls_first`` is settled; SQLite's default is that NULL is the smallest value."""

    expression: Expression
    descending: bool
    nulls_first: bool
    floating: bool = False

    @property
    def default_nulls(self) -> bool:
        return self.nulls_first != self.descending


@attrs.frozen
class Query:
    """What a statement asks of one table.

    If ``aggregated``, outputs, having and order are over the columns that :func:`group_name` and
    :func:`aggregate_name` name; else over the table's.

    Attributes:
        form: ``"rows"`` for the rows, ``"exists"`` for whether there are any.
        outputs: what each result row holds.
        where: the conditions, all of which must hold.
        group: the expressions of GROUP BY.
        aggregates: the aggregates in outputs, having and order.
        having: the conditions on groups.
        order: the order of the result.
        limit, offset: numbers of parameters, or None.
        distinct: of equal result rows one is given.
        converters: per parameter, how its value is converted.
    """

    form: Literal["rows", "exists"]
    outputs: tuple[Output, ...]
    where: tuple[Expression, ...]
    group: tuple[Expression, ...] = ()
    aggregates: tuple[Aggregate, ...] = ()
    having: tuple[Expression, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int | None = None
    distinct: bool = False
    aggregated: bool = False
    converters: tuple[Converter, ...] = ()

    @property
    def whole(self) -> bool:
        """The result is whole records and nothing else."""
        return len(self.outputs) == 1 and self.outputs[0].expression is None

    @property
    def records(self) -> bool:
        """The result has whole records in it."""
        return any(output.expression is None for output in self.outputs)

    def convert(self, values: Sequence[Any]) -> list[Any]:
        """The parameters' values as expressions work with them.

        Raises:
            DataError: if one compares with nothing that it is compared with, naming the column.
        """
        return [convert(value) for convert, value in zip(self.converters, values, strict=True)]


def group_name(number: int) -> str:
    """The column that holds the value of an expression of GROUP BY."""
    return f"group {number}"


def aggregate_name(number: int) -> str:
    """The column that holds the value of an aggregate."""
    return f"aggregate {number}"


def analyse(structure: Structure, definition: TableDefinition, parameters: int) -> Query:
    """Analyse a structure that :mod:`kvdialect.query.statement` read.

    Args:
        structure: the statement.
        definition: of its table.
        parameters: how many it has.

    Raises:
        NotSupportedError: for what only the SQL door does, by name.
        DataError: if things are compared or computed with that do not go together.
        ArgumentError: if a column is not there.
    """
    return _Analysis(definition, parameters).query(structure)


class _Analysis:
    def __init__(self, definition: TableDefinition, parameters: int) -> None:
        self.definition = definition
        self.kinds = {field.name: field.kind for field in definition.fields}
        self.translator = QueryTranslator(definition.name, self.kinds)
        self.parameters = parameters
        self.group: tuple[Expression, ...] = ()
        self.canonical_group: list[Expression] = []
        self.aggregates: list[Aggregate] = []
        self.alike: tuple[int, ...] | None = None
        self.names: dict[str, int] = {}

    def query(self, structure: Structure) -> Query:
        if structure[0] == "exists":
            _, label, where, limit, offset = structure
            query = Query(
                form="exists",
                outputs=(Output(label or "anon_1", Constant(True)),),
                where=self._conditions(where),
                limit=self._row_number(limit, "LIMIT"),
                offset=self._row_number(offset, "OFFSET"),
            )
        else:
            query = self._select(structure)
        converters = self.translator.converters
        return attrs.evolve(
            query, converters=tuple(converters.get(number, domains.plain) for number in range(self.parameters))
        )

    def _select(self, structure: Structure) -> Query:
        _, columns, where_structure, group, having_structure, order_structure, limit, offset, distinct, alike = (
            structure
        )
        where = self._conditions(where_structure)
        self.alike = alike
        typed = self._outputs(columns)
        labels = {name: (expression, domain) for name, expression, domain in typed if expression is not None}
        self.group = tuple(self._grouped(part, labels) for part in group)
        self.canonical_group = [self._canonical(part) for part in self.group]
        having = tuple(
            part
            for structure in having_structure
            for part in conjuncts(self.translator.aggregating(structure, True)[0])
        )
        order_typed = [self._order(part, labels) for part in order_structure]
        aggregated = bool(self.group) or bool(having) or self._has_aggregates(typed, order_typed)
        if having and not self.group and not self._has_aggregates(typed, order_typed):
            raise exc.ArgumentError("HAVING without GROUP BY and without aggregates; use where()")
        if aggregated and any(expression is None for _, expression, _ in typed):
            raise unsupported("a whole record beside aggregates")
        lift = self._lift if aggregated else _same
        return Query(
            form="rows",
            outputs=tuple(
                Output(
                    name,
                    None if expression is None else lift(expression),
                    _loader(domain, bare=isinstance(expression, Column) and not aggregated),
                    self._kind(expression),
                    domain,
                    expression,
                )
                for name, expression, domain in typed
            ),
            where=where,
            group=self.group,
            having=tuple(map(lift, having)),
            order=tuple(
                Order(lift(expression), descending, nulls_first, domain is not None and domain.number == "float")
                for expression, domain, descending, nulls_first in order_typed
            ),
            aggregates=tuple(self.aggregates),
            limit=self._row_number(limit, "LIMIT"),
            offset=self._row_number(offset, "OFFSET"),
            distinct=self._needs_distinct(distinct, typed),
            aggregated=aggregated,
        )

    # ------------------------------------------------------------------------------------------ clauses

    def _conditions(self, structures: Structure) -> tuple[Expression, ...]:
        return tuple(
            part for structure in structures for part in conjuncts(simplified(self.translator.condition(structure)))
        )

    def _outputs(self, columns: Structure) -> list[tuple[str, Expression | None, Domain | None]]:
        outputs: list[tuple[str, Expression | None, Domain | None]] = []
        for column in columns:
            if column[0] == "record":
                outputs.append((column[1].__name__ if column[1] is not None else self.definition.name, None, None))
            elif column[0] == "columns":
                outputs += [(name, *self.translator.typed(("column", name))) for name in self.definition.names]
            else:
                _, label, structure = column
                expression, domain = self.translator.aggregating(structure)
                outputs.append((label or self._name(structure), expression, domain))
        return outputs

    def _kind(self, expression: Expression | None) -> Kind | None:
        """The kind of an output's values, where they are values of a column."""
        if isinstance(expression, Aggregate) and expression.function in ("min", "max"):
            expression = expression.argument
        return self.kinds[expression.name] if isinstance(expression, Column) else None

    def _name(self, structure: Structure) -> str:
        """The name of an output without a label, as SQLAlchemy gives it."""
        if structure[0] == "column":
            return str(structure[1])
        if structure[0] == "filter":
            structure = structure[1]
        stem = structure[1] if structure[0] == "function" else "anon"
        self.names[stem] = self.names.get(stem, 0) + 1
        return f"{stem}_{self.names[stem]}"

    def _named(self, structure: Structure, labels: Mapping[str, Typed]) -> Typed:
        """A value in GROUP BY or ORDER BY, which may be the name of an output."""
        if structure[0] != "named":
            return self.translator.aggregating(structure)
        name = structure[1]
        if name in labels:
            return labels[name]
        if name in self.kinds:
            return self.translator.typed(("column", name))
        raise exc.ArgumentError(
            f"ORDER BY or GROUP BY names {name!r}, which is neither selected nor a column of {self.definition.name}"
        )

    def _grouped(self, structure: Structure, labels: Mapping[str, Typed]) -> Expression:
        expression, domain = self._named(structure, labels)
        if any(isinstance(node, Aggregate) for node in walk(expression)):
            raise exc.ArgumentError("GROUP BY has an aggregate; group by what the rows have")
        if domain is not None and domain.kind is not None and not domain.kind.keyable:
            raise unsupported(f"GROUP BY {domain.owner}")
        return expression

    def _order(self, structure: Structure, labels: Mapping[str, Typed]) -> tuple[Expression, Domain | None, bool, bool]:
        descending = False
        nulls_first: bool | None = None
        while structure[0] in ("desc", "asc", "nulls_first", "nulls_last"):
            form, structure = structure
            if form in ("desc", "asc"):
                descending = form == "desc"
            elif nulls_first is None:
                nulls_first = form == "nulls_first"
        expression, domain = self._named(structure, labels)
        if domain is not None and domain.kind is not None and not domain.kind.keyable:
            raise exc.DataError(f"ORDER BY has {domain.owner}; {domain.kind.allowed} has no order")
        return expression, domain, descending, (not descending) if nulls_first is None else nulls_first

    def _row_number(self, structure: Structure | None, what: str) -> int | None:
        if structure is None:
            return None
        number: int = structure[1]
        self.translator.converters[number] = domains.row_number(what)
        return number

    def _needs_distinct(self, distinct: bool, typed: Sequence[tuple[str, Expression | None, Domain | None]]) -> bool:
        if not distinct:
            return False
        selected = [expression for _, expression, _ in typed]
        if None in selected:
            return False  # no record is there twice
        for _, _, domain in typed:
            if domain is not None and domain.kind is not None and not domain.kind.keyable:
                raise unsupported(f"DISTINCT over {domain.owner}")
        keys = {Column(name) for name in self.definition.primary_key}
        return not keys <= set(selected)

    # ------------------------------------------------------------------------------------------ aggregates

    def _has_aggregates(self, outputs: Sequence[tuple[Any, ...]], order: Sequence[tuple[Any, ...]]) -> bool:
        expressions = [expression for _, expression, _ in outputs] + [part[0] for part in order]
        return any(isinstance(node, Aggregate) for part in expressions if part is not None for node in walk(part))

    def _lift(self, expression: Expression) -> Expression:
        """An expression over the columns of the groups: group values and aggregates."""
        canonical = self._canonical(expression)
        if canonical in self.canonical_group:
            return Column(group_name(self.canonical_group.index(canonical)))
        if isinstance(expression, Aggregate):
            if expression not in self.aggregates:
                self.aggregates.append(expression)
            return Column(aggregate_name(self.aggregates.index(expression)))
        if isinstance(expression, Column):
            raise unsupported(
                f"{self.definition.name}.{expression.name} beside aggregates and not in GROUP BY, whose value could be"
                " that of any row,"
            )
        return rebuild(expression, self._lift)

    def _canonical(self, expression: Expression) -> Expression:
        """The expression with parameters of equal values made the same."""
        if self.alike is None:
            return expression
        if isinstance(expression, Parameter):
            return Parameter(self.alike[expression.number])
        if isinstance(expression, Aggregate):
            argument = None if expression.argument is None else self._canonical(expression.argument)
            return attrs.evolve(expression, argument=argument)
        if isinstance(expression, In) and isinstance(expression.options, Parameter):
            return In(self._canonical(expression.left), Parameter(self.alike[expression.options.number]))
        return rebuild(expression, self._canonical)


class QueryTranslator(Translator):
    """A translator that knows aggregates, where they are allowed."""

    _allowed = False

    def aggregating(self, structure: Structure, condition: bool = False) -> Typed:
        """Translate a value, or a condition, that may have aggregates in it."""
        self._allowed = True
        try:
            if condition:
                return self.condition(structure), domains.NUMBER
            expression, domain = self.typed(structure)
            return self._free(expression), domain
        finally:
            self._allowed = False

    def typed(self, structure: Structure) -> Typed:
        if structure[0] == "function" and structure[1] in AGGREGATES:
            return self._aggregate(structure, None)
        if structure[0] == "filter" and structure[1][0] == "function" and structure[1][1] in AGGREGATES:
            return self._aggregate(structure[1], structure[2])
        return super().typed(structure)

    def _aggregate(self, structure: Structure, only: Structure | None) -> Typed:
        _, function, arguments = structure
        if not self._allowed:
            raise unsupported(f"the aggregate {function} in this place")
        if function == "count" and arguments in ((), (("star",),)):
            argument, domain = None, None
        elif len(arguments) == 1:
            self._allowed = False
            try:
                return self._aggregate_of(function, arguments[0], only)
            finally:
                self._allowed = True
        else:
            raise unsupported(f"the function {function} of {len(arguments)} arguments")
        if only is None:
            return Aggregate("count", argument), domains.NUMBER
        return Aggregate("count", self._where(only, Constant(1))), domain or domains.NUMBER

    def _aggregate_of(self, function: str, structure: Structure, only: Structure | None) -> Typed:
        distinct = structure[0] == "distinct"
        if distinct:
            structure = structure[1]
        argument, domain = self.typed(structure)
        argument = self._free(argument)
        if function in ("sum", "avg") and domain is not None and domain.name != "number":
            raise exc.DataError(f"{function}() is given {domain.owner}; it takes numbers")
        if function != "count" and domain is not None and domain.kind is not None and not domain.kind.keyable:
            raise exc.DataError(f"{function}() is given {domain.owner}; {domain.kind.allowed} has no order")
        if distinct and domain is not None and domain.kind is not None and not domain.kind.keyable:
            raise unsupported(f"{function}(distinct) of {domain.owner}")
        number = None if domain is None else domain.number
        if only is not None:
            argument = self._where(only, argument)
        aggregate = Aggregate(function, argument, distinct and function not in ("min", "max"), number)
        if function == "count":
            return aggregate, domains.NUMBER
        if function == "avg":
            return aggregate, domains.DECIMAL if number == "decimal" else domains.FLOAT
        return aggregate, domain

    def _where(self, only: Structure, argument: Expression) -> Expression:
        """``aggregate(argument) FILTER (WHERE only)`` is the aggregate of ``argument`` or else NULL."""
        self._allowed = False
        try:
            return Case(((self.condition(only), argument),), Constant(None))
        finally:
            self._allowed = True


_NEGATED: Final = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<", "is": "is not", "is not": "is"}


def simplified(expression: Expression) -> Expression:
    """The expression in a form that shows what can bind an index: negations inside, an OR of equalities as IN."""
    match expression:
        case And(parts):
            return And(tuple(map(simplified, parts)))
        case Not(Not(part)):
            return simplified(part)
        case Not(Compare(operator, left, right)):
            return Compare(_NEGATED[operator], left, right)  # type: ignore[arg-type]
        case Not(And(parts)):
            return simplified(Or(tuple(Not(part) for part in parts)))
        case Not(Or(parts)):
            return simplified(And(tuple(Not(part) for part in parts)))
        case Or(parts):
            return _membership(tuple(map(simplified, parts)))
        case _:
            return expression


def _membership(parts: tuple[Expression, ...]) -> Expression:
    """An OR, as an IN if it is one of equalities on one column."""
    column: Expression | None = None
    options: list[Expression] = []
    for part in parts:
        match part:
            case Compare("=", Column() as left, (Constant() | Parameter()) as right):
                pass
            case Compare("=", (Constant() | Parameter()) as right, Column() as left):
                pass
            case _:
                return Or(parts)
        if column is not None and column != left:
            return Or(parts)
        column = left
        options.append(right)
    return Or(parts) if column is None else In(column, tuple(options))


def _same(expression: Expression) -> Expression:
    return expression


def _loader(domain: Domain | None, *, bare: bool) -> Callable[[Any], Any] | None:
    """How the value of an expression becomes one of its type; a bare column's is one already."""
    kind: Kind | None = None if domain is None or bare else domain.kind
    if kind is None or has_own_order(kind):
        return None
    load = kind.load
    return lambda stored: None if stored is None else load(stored)
