"""Expressions: a closed tree over the columns of one table, with SQL's three-valued logic.

Index predicates are stored as such trees, and the filters of queries are such trees. Nodes are plain frozen data;
:class:`ExpressionWriter` turns them into Python source, and :func:`predicate_source` and :func:`value_source` are short
for it.

Values are those that a row has, but for columns whose Python values have no order of their own (Enum, types that a
decorator converts): these stand in expressions in their stored form, see :func:`has_own_order`.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import attrs

from kvdialect import exc
from kvdialect.codec.composite import ConvertedKind
from kvdialect.codec.kinds import Kind, Namespace, put
from kvdialect.schema import functions


class Expression:
    """Base of all nodes."""

    __slots__ = ()


@attrs.frozen
class Column(Expression):
    """The value of a column."""

    name: str


@attrs.frozen
class Constant(Expression):
    """A value that is part of the expression: None, bool, int, float, str, bytes and what else a kind checks."""

    value: Any = attrs.field(eq=lambda value: (type(value), value))


@attrs.frozen
class Parameter(Expression):
    """The value of a statement's parameter; never in a stored predicate."""

    number: int


@attrs.frozen
class Compare(Expression):
    """A comparison: NULL on either side gives NULL, but for ``is`` and ``is not``, in which NULL equals NULL."""

    operator: Literal["=", "!=", "<", "<=", ">", ">=", "is", "is not"]
    left: Expression
    right: Expression


@attrs.frozen
class And(Expression):
    parts: tuple[Expression, ...]


@attrs.frozen
class Or(Expression):
    parts: tuple[Expression, ...]


@attrs.frozen
class Not(Expression):
    part: Expression


@attrs.frozen
class In(Expression):
    """``left`` is one of ``options``: a Parameter that holds Choices (:mod:`.functions`), or a tuple of expressions."""

    left: Expression
    options: Parameter | tuple[Expression, ...]


@attrs.frozen
class Like(Expression):
    """SQL's LIKE, case-sensitive, or ilike if ``folded``; ``escape`` is one character or None.

    A Parameter as pattern holds a :class:`~.functions.LikePattern`.
    """

    left: Expression
    pattern: Expression
    escape: str | None = None
    folded: bool = False


@attrs.frozen
class StartsWith(Expression):
    """``left`` begins with ``prefix``, of which no character is a wildcard."""

    left: Expression
    prefix: Expression


@attrs.frozen
class Contains(Expression):
    """The list in ``left`` has ``element`` among its elements."""

    left: Expression
    element: Expression


@attrs.frozen
class Arithmetic(Expression):
    """``/`` is true division; ``//`` of ints drops the fraction (SQLite's ``/``), else floors; by zero gives NULL."""

    operator: Literal["+", "-", "*", "/", "//", "%", "||"]
    left: Expression
    right: Expression


@attrs.frozen
class Negative(Expression):
    part: Expression


@attrs.frozen
class Call(Expression):
    """A scalar function, one of :data:`SCALAR_FUNCTIONS`."""

    function: str
    arguments: tuple[Expression, ...]


@attrs.frozen
class Case(Expression):
    """``CASE WHEN ... THEN ... ELSE ... END``."""

    branches: tuple[tuple[Expression, Expression], ...]
    otherwise: Expression


SCALAR_FUNCTIONS: Final[Mapping[str, tuple[int, int]]] = {
    "lower": (1, 1),
    "upper": (1, 1),
    "length": (1, 1),
    "abs": (1, 1),
    "coalesce": (1, 64),
    "nullif": (2, 2),
    "substr": (2, 3),
    "float": (1, 1),
    "json": (1, 1),
}
"""The scalar functions, with the fewest and the most arguments.

``float`` makes a float of a decimal; ``json`` lets JSON's true and false be equal to no number, as they are in Python.
"""

DEEPEST: Final = 48
"""How deep a tree may be: Python's parser ends at 200 parentheses, and a level takes up to four."""


# --------------------------------------------------------------------------- structure


def children(expression: Expression) -> tuple[Expression, ...]:
    """The expressions directly below one."""
    match expression:
        case Compare(_, left, right) | Arithmetic(_, left, right) | StartsWith(left, right) | Contains(left, right):
            return left, right
        case And(parts) | Or(parts):
            return parts
        case Not(part) | Negative(part):
            return (part,)
        case In(left, options):
            return (left, *options) if isinstance(options, tuple) else (left, options)
        case Like(left, pattern):
            return left, pattern
        case Call(_, arguments):
            return arguments
        case Case(branches, otherwise):
            return *(part for branch in branches for part in branch), otherwise
        case _:
            return ()


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and all below it."""
    yield expression
    for child in children(expression):
        yield from walk(child)


def rebuild(expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The expression with ``change`` applied to each direct child."""
    match expression:
        case Compare(operator, left, right):
            return Compare(operator, change(left), change(right))
        case Arithmetic(operator, left, right):
            return Arithmetic(operator, change(left), change(right))
        case StartsWith(left, right):
            return StartsWith(change(left), change(right))
        case Contains(left, right):
            return Contains(change(left), change(right))
        case And(parts):
            return And(tuple(map(change, parts)))
        case Or(parts):
            return Or(tuple(map(change, parts)))
        case Not(part):
            return Not(change(part))
        case Negative(part):
            return Negative(change(part))
        case In(left, options) if isinstance(options, tuple):
            return In(change(left), tuple(map(change, options)))
        case In(left, options):
            return In(change(left), options)
        case Like(left, pattern, escape, folded):
            return Like(change(left), change(pattern), escape, folded)
        case Call(function, arguments):
            return Call(function, tuple(map(change, arguments)))
        case Case(branches, otherwise):
            return Case(tuple((change(when), change(then)) for when, then in branches), change(otherwise))
        case _:
            return expression


def columns_of(expression: Expression) -> tuple[str, ...]:
    """The names of the columns in an expression, each once, in order of appearance."""
    return tuple(dict.fromkeys(node.name for node in walk(expression) if isinstance(node, Column)))


def conjuncts(expression: Expression | None) -> tuple[Expression, ...]:
    """The parts that an expression joins by AND, all of which must hold."""
    if expression is None:
        return ()
    if isinstance(expression, And):
        return tuple(part for child in expression.parts for part in conjuncts(child))
    return (expression,)


def excludes_null(expression: Expression, column: str) -> bool:
    """Whether an expression can be true only where ``column`` is not NULL."""
    return _excludes(expression, column, True)


def _excludes(expression: Expression, column: str, truth: bool) -> bool:
    """Whether an expression that is TRUE (or, if not ``truth``, FALSE) proves that ``column`` is not NULL."""
    match expression:
        case And(parts):
            return (any if truth else all)(_excludes(part, column, truth) for part in parts)
        case Or(parts):
            return (all if truth else any)(_excludes(part, column, truth) for part in parts)
        case Not(part):
            return _excludes(part, column, not truth)
        case Compare("is" | "is not" as operator, left, right):
            unequal = (operator == "is not") == truth
            for one, other in ((left, right), (right, left)):
                if isinstance(other, Constant) and (other.value is None) == unequal and _strict(one, column):
                    return True
            return False
        case In(left, options):
            # NULL NOT IN () is true, so an empty list proves nothing when negated.
            return _strict(left, column) and (truth or (isinstance(options, tuple) and bool(options)))
        case _:
            return _strict(expression, column)


def _strict(expression: Expression, column: str) -> bool:
    """Whether an expression is NULL wherever ``column`` is."""
    match expression:
        case Column(name):
            return name == column
        case Compare("is" | "is not"):
            return False
        case Compare() | Arithmetic() | Negative() | Like() | StartsWith() | Contains():
            return any(_strict(child, column) for child in children(expression))
        case Call("coalesce", arguments):
            return all(_strict(argument, column) for argument in arguments)
        case Call("nullif", arguments):
            return _strict(arguments[0], column)
        case Call(_, arguments):
            return any(_strict(argument, column) for argument in arguments)
        case Not(part):
            return _strict(part, column)
        case _:
            return False


# --------------------------------------------------------------------------- source

_ORDERED: Final = frozenset(
    {
        bool,
        int,
        float,
        str,
        bytes,
        decimal.Decimal,
        dt.datetime,
        dt.date,
        dt.time,
        dt.timedelta,
        uuid.UUID,
    }
)


def has_own_order(kind: Kind) -> bool:
    """Whether Python compares the values of a kind as their keys compare. If not, their stored form is compared."""
    return kind.python in _ORDERED and not isinstance(kind, ConvertedKind)


_NEGATED: Final = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<", "is": "is not", "is not": "is"}
_PYTHON: Final = {"=": "==", "is": "==", "is not": "!="}


class ExpressionWriter:
    """Writes expressions as Python source.

    Args:
        columns: source of each column's value.
        names: what the generated code can name; functions and constants are put there, never into the text.
        nullable: the columns that may be None; None: all.
        kinds: kinds of the columns; needed for those without an order of their own, and for decimals.
        parameter: source of a parameter by its number.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        names: Namespace,
        *,
        nullable: Collection[str] | None = None,
        kinds: Mapping[str, Kind] | None = None,
        parameter: Callable[[int], str] = "params[{}]".format,
    ) -> None:
        self.columns = columns
        self.names = names
        self.nullable = nullable
        self.kinds = kinds or {}
        self.parameter = parameter
        self._temporaries = 0
        self._depth = 0

    # Each node gives source in one of two ways: as a condition, true or false, which is cheap, or as a value.

    def condition(self, expression: Expression, negate: bool = False) -> str:
        """Source that is true exactly where SQL's value is TRUE, or FALSE if ``negate``."""
        self._enter()
        try:
            return self._condition(expression, negate)
        finally:
            self._depth -= 1

    def value(self, expression: Expression) -> str:
        """Source of the value, None for NULL."""
        self._enter()
        try:
            return self._value(expression)
        finally:
            self._depth -= 1

    def may_be_null(self, expression: Expression) -> bool:
        """False if the value is certainly not NULL."""
        match expression:
            case Column(name):
                return self._is_nullable(name) or self._is_float(name)
            case Constant(value):
                return value is None
            case Parameter() | Arithmetic("/" | "//" | "%") | Call("nullif"):
                return True
            case Compare("is" | "is not"):
                return False
            case Call("coalesce", arguments):
                return all(map(self.may_be_null, arguments))
            case Case(branches, otherwise):
                return self.may_be_null(otherwise) or any(self.may_be_null(then) for _, then in branches)
            case In(_, options) if isinstance(options, Parameter):
                return True
            case _:
                return any(map(self.may_be_null, children(expression)))

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise exc.NotSupportedError(
                f"an expression is nested more than {DEEPEST} deep; write it flatter (and_ and or_ take many parts),"
                " or compute the value when the record is stored"
            )

    def _put(self, thing: Any) -> str:
        return put(self.names, thing)

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"sql{self._temporaries}"

    def _operand(self, expression: Expression) -> tuple[str, str | None, str | None]:
        """Source to use, and tests for ``is not None`` and ``is None`` that must run before it (None: not needed)."""
        source = self.value(expression)
        if not self.may_be_null(expression):
            return source, None, None
        plain = isinstance(expression, Parameter) or (isinstance(expression, Column) and self._is_plain(expression))
        if plain or source == "None":
            return source, f"{source} is not None", f"{source} is None"
        name = self._temporary()
        return name, f"({name} := {source}) is not None", f"({name} := {source}) is None"

    def _is_plain(self, column: Column) -> bool:
        kind = self.kinds.get(column.name)
        return kind is None or (has_own_order(kind) and kind.python is not float)

    def _is_nullable(self, name: str) -> bool:
        return self.nullable is None or name in self.nullable

    def _is_float(self, name: str) -> bool:
        """Whether a column may hold NaN, which SQL takes for NULL."""
        kind = self.kinds.get(name)
        return kind is not None and kind.python is float and has_own_order(kind)

    def _compared(self, expression: Expression, operator: str) -> tuple[str, str | None]:
        """Source of an operand of a comparison, and the test for ``is not None`` that must run before it."""
        if operator != "!=" and isinstance(expression, Column) and self._is_float(expression.name):
            # No comparison with NaN holds, nor does one with NULL.
            source = self.columns[expression.name]
            return source, f"{source} is not None" if self._is_nullable(expression.name) else None
        use, present, _ = self._operand(expression)
        return use, present

    # ------------------------------------------------------------------------------------------ conditions

    def _condition(self, expression: Expression, negate: bool) -> str:
        match expression:
            case And(parts) | Or(parts):
                conjunction = isinstance(expression, And) != negate
                if not parts:
                    return str(conjunction)
                return "(" + (" and " if conjunction else " or ").join(self.condition(p, negate) for p in parts) + ")"
            case Not(part):
                return self.condition(part, not negate)
            case Compare(operator, left, right):
                return self._comparison(_NEGATED[operator] if negate else operator, left, right)
            case In(left, options):
                return self._membership(left, options, negate)
            case Like(left, pattern, escape, folded):
                if isinstance(pattern, Constant) and isinstance(pattern.value, str):
                    compiled = self._put(functions.like_pattern(pattern.value, escape, folded))
                    return self._test(left, lambda text: f"{compiled}.matches({text})", negate)
                if isinstance(pattern, Parameter):
                    return self._test2(left, pattern, lambda text, like: f"{like}.matches({text})", negate)
                make = self._put(functions.like_pattern)
                way = f"{self._constant(escape)}, {folded}"
                return self._test2(left, pattern, lambda text, like: f"{make}({like}, {way}).matches({text})", negate)
            case StartsWith(left, prefix):
                return self._test2(left, prefix, lambda text, start: f"{text}.startswith({start})", negate)
            case Contains(Column(name), element):
                return self._contains(self.columns[name], element, negate)
            case Constant(value):
                return str(value is not None and bool(value) != negate)
            case _:
                self._depth -= 1  # the same node once more
                use, present, _ = self._operand(expression)
                self._depth += 1
                test = f"{use} {'==' if negate else '!='} 0"
                return f"({test})" if present is None else f"({present} and {test})"

    def _comparison(self, operator: str, left: Expression, right: Expression) -> str:
        if operator in ("is", "is not"):
            for one, other in ((left, right), (right, left)):
                if isinstance(other, Constant) and other.value is None:
                    return f"({self.value(one)} {operator} None)"
            return f"({self.value(left)} {_PYTHON[operator]} {self.value(right)})"
        if any(isinstance(side, Constant) and side.value is None for side in (left, right)):
            return "False"
        if operator == "=":
            # None equals no value, so of two operands one is tested for None, and of one none.
            for one, other in ((left, right), (right, left)):
                if not self.may_be_null(other):
                    return f"({self.value(one)} == {self.value(other)})"
            use, present = self._compared(right, "=")
            is_float = isinstance(left, Column) and self._is_float(left.name)
            source = self.columns[left.name] if is_float else self.value(left)  # type: ignore[attr-defined]
            return f"({source} == {use})" if present is None else f"({present} and {source} == {use})"
        left_use, left_present = self._compared(left, operator)
        right_use, right_present = self._compared(right, operator)
        tests = [test for test in (left_present, right_present) if test is not None]
        return "(" + " and ".join([*tests, f"{left_use} {_PYTHON.get(operator, operator)} {right_use}"]) + ")"

    def _membership(self, left: Expression, options: Parameter | tuple[Expression, ...], negate: bool) -> str:
        if isinstance(options, tuple) and not all(isinstance(option, Constant) for option in options):
            return self.condition(Or(tuple(Compare("=", left, option) for option in options)), negate)
        choices = self._choices(options)
        if not negate:
            # Members are never None.
            return f"({self.value(left)} in {choices}.members)"
        use, present, _ = self._operand(left)
        within = f"not {choices}.null and {use} not in {choices}.members"
        return f"({choices}.empty or {within if present is None else f'{present} and {within}'})"

    def _choices(self, options: Parameter | tuple[Expression, ...]) -> str:
        if isinstance(options, Parameter):
            return self.parameter(options.number)
        return self._put(functions.Choices(option.value for option in options if isinstance(option, Constant)))

    def _test(self, left: Expression, test: Callable[[str], str], negate: bool) -> str:
        use, present, _ = self._operand(left)
        source = f"{'not ' if negate else ''}{test(use)}"
        return f"({source})" if present is None else f"({present} and {source})"

    def _test2(self, left: Expression, right: Expression, test: Callable[[str, str], str], negate: bool) -> str:
        use, present, _ = self._operand(right)
        source = self._test(left, lambda text: test(text, use), negate)
        return source if present is None else f"({present} and {source})"

    def _contains(self, elements: str, element: Expression, negate: bool) -> str:
        use, present, _ = self._operand(element)
        tests = [f"{elements} is not None", *([] if present is None else [present])]
        return "(" + " and ".join([*tests, f"{use} {'not in' if negate else 'in'} {elements}"]) + ")"

    # ------------------------------------------------------------------------------------------ values

    def _value(self, expression: Expression) -> str:
        match expression:
            case Column(name):
                return self._column(name)
            case Constant(value):
                return self._constant(value)
            case Parameter(number):
                return self.parameter(number)
            case Compare("is" | "is not" as operator, left, right):
                return self._comparison(operator, left, right)
            case Compare(operator, left, right):
                python = _PYTHON.get(operator, operator)
                return self._null_or(left, right, lambda one, other: f"{one} {python} {other}")
            case And(parts) | Or(parts):
                join = functions.and_3 if isinstance(expression, And) else functions.or_3
                return f"{self._put(join)}({', '.join(map(self.value, parts))})"
            case Not(part):
                use, _, missing = self._operand(part)
                return f"(not {use})" if missing is None else f"(None if {missing} else not {use})"
            case In(left, options) if isinstance(options, tuple) and not all(isinstance(o, Constant) for o in options):
                return self.value(Or(tuple(Compare("=", left, option) for option in options)))
            case In(left, options):
                return f"{self._put(functions.in_3)}({self.value(left)}, {self._choices(options)})"
            case Like(left, pattern, escape, folded):
                way = f"{self._constant(escape)}, {folded}"
                return f"{self._put(functions.like_3)}({self.value(left)}, {self.value(pattern)}, {way})"
            case StartsWith(left, prefix):
                return f"{self._put(functions.starts_with_3)}({self.value(left)}, {self.value(prefix)})"
            case Contains(Column(name), element):
                return f"{self._put(functions.contains_3)}({self.columns[name]}, {self.value(element)})"
            case Arithmetic(operator, left, right):
                return self._arithmetic(operator, left, right)
            case Negative(part):
                use, _, missing = self._operand(part)
                return f"(-{use})" if missing is None else f"(None if {missing} else -{use})"
            case Call(function, arguments):
                return self._call(function, arguments)
            case Case(branches, otherwise):
                pieces = [f"{self.value(then)} if {self.condition(when)} else" for when, then in branches]
                return f"({' '.join(pieces)} {self.value(otherwise)})"
            case _:
                raise TypeError(f"{expression!r} cannot be evaluated")

    def _column(self, name: str) -> str:
        source = self.columns[name]
        kind = self.kinds.get(name)
        if self._is_float(name):
            return f"({source} if {source} == {source} else None)"
        if kind is None or has_own_order(kind):
            return source
        stored = kind.store_source(source, self.names)
        if stored == source:
            return source
        return f"(None if {source} is None else {stored})" if self.may_be_null(Column(name)) else stored

    def _constant(self, value: Any) -> str:
        return repr(value) if value is None or isinstance(value, bool) else self._put(value)

    def _null_or(self, left: Expression, right: Expression, result: Callable[[str, str], str]) -> str:
        left_use, _, left_missing = self._operand(left)
        right_use, _, right_missing = self._operand(right)
        tests = [test for test in (left_missing, right_missing) if test is not None]
        source = result(left_use, right_use)
        # Both operands are evaluated before either is tested: a name may be assigned in the second test alone.
        return f"(None if {' or '.join(tests)} else {source})" if tests else f"({source})"

    def _arithmetic(self, operator: str, left: Expression, right: Expression) -> str:
        function = {"/": functions.divide, "//": functions.floor_divide, "%": functions.remainder}.get(operator)
        if function is not None:
            return f"{self._put(function)}({self.value(left)}, {self.value(right)})"
        if operator != "||" and (self._is_decimal(left) or self._is_decimal(right)):
            exact = {"+": functions.EXACT.add, "-": functions.EXACT.subtract, "*": functions.EXACT.multiply}[operator]
            return self._null_or(left, right, lambda one, other: f"{self._put(exact)}({one}, {other})")
        return self._null_or(left, right, lambda one, other: f"{one} {'+' if operator == '||' else operator} {other}")

    def _is_decimal(self, expression: Expression) -> bool:
        match expression:
            case Column(name):
                kind = self.kinds.get(name)
                return kind is not None and kind.python is decimal.Decimal
            case Constant(value):
                return isinstance(value, decimal.Decimal)
            case Case(branches, otherwise):
                return any(map(self._is_decimal, (*(value for _, value in branches), otherwise)))
            case Negative(part) | Call("abs", (part,)) | Call("nullif", (part, _)):
                return self._is_decimal(part)
            case Arithmetic() | Call("coalesce", _):
                return any(map(self._is_decimal, children(expression)))
            case _:
                return False

    def _call(self, function: str, arguments: Sequence[Expression]) -> str:
        if function == "coalesce":
            pieces: list[str] = []
            for argument in arguments:
                use, present, _ = self._operand(argument)
                if present is None:
                    return f"({' '.join([*pieces, use])})"
                pieces.append(f"{use} if {present} else")
            return f"({' '.join(pieces)} None)"
        if function == "nullif":
            use, _, missing = self._operand(arguments[0])
            unequal = f"None if {use} == {self.value(arguments[1])} else {use}"
            return f"({unequal})" if missing is None else f"(None if {missing} else {unequal})"
        if function == "substr":
            parts = ", ".join(map(self.value, arguments))
            return f"{self._put(functions.substring)}({parts}{'' if len(arguments) == 3 else ', bounded=False'})"
        use, _, missing = self._operand(arguments[0])
        called = _CALLED[function]
        source = f"{self._put(called)}({use})"
        return source if missing is None else f"(None if {missing} else {source})"


_CALLED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "lower": functions.lower,
    "upper": functions.upper,
    "length": len,
    "abs": abs,
    "float": float,
    "json": functions.json_form,
}


def predicate_source(
    expression: Expression,
    columns: Mapping[str, str],
    names: Namespace,
    negate: bool = False,
    *,
    nullable: Collection[str] | None = None,
    kinds: Mapping[str, Kind] | None = None,
) -> str:
    """Source that is true exactly where SQL's value of ``expression`` is TRUE, or FALSE if ``negate``."""
    return ExpressionWriter(columns, names, nullable=nullable, kinds=kinds).condition(expression, negate)


def value_source(
    expression: Expression,
    columns: Mapping[str, str],
    names: Namespace,
    *,
    nullable: Collection[str] | None = None,
    kinds: Mapping[str, Kind] | None = None,
) -> str:
    """Source of the value of ``expression``, None for NULL."""
    return ExpressionWriter(columns, names, nullable=nullable, kinds=kinds).value(expression)


def compile_predicate(
    expression: Expression,
    columns: Sequence[str],
    nullable: Collection[str] | None = None,
    *,
    kinds: Mapping[str, Kind] | None = None,
) -> Callable[[tuple[Any, ...], Sequence[Any]], bool]:
    """A function of a row, whose values are those of ``columns``, and parameters: is the expression TRUE of it?"""
    names: Namespace = {}
    places = {name: f"row[{at}]" for at, name in enumerate(columns)}
    source = predicate_source(expression, places, names, nullable=nullable, kinds=kinds)
    compiled: Callable[[tuple[Any, ...], Sequence[Any]], bool]
    compiled = eval(compile(f"lambda row, params: bool({source})", "<kvdialect predicate>", "eval"), names)  # noqa: S307
    return compiled


def compile_value(
    expression: Expression,
    columns: Sequence[str],
    nullable: Collection[str] | None = None,
    *,
    kinds: Mapping[str, Kind] | None = None,
) -> Callable[[tuple[Any, ...], Sequence[Any]], Any]:
    """A function of a row, whose values are those of ``columns``, and parameters, that gives the expression's value."""
    names: Namespace = {}
    places = {name: f"row[{at}]" for at, name in enumerate(columns)}
    source = value_source(expression, places, names, nullable=nullable, kinds=kinds)
    compiled: Callable[[tuple[Any, ...], Sequence[Any]], Any]
    compiled = eval(compile(f"lambda row, params: {source}", "<kvdialect expression>", "eval"), names)  # noqa: S307
    return compiled
