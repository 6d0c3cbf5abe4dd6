"""From the structure of a clause to an expression, with its types checked on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import sqlalchemy as sa

from kvdialect import exc
from kvdialect.codec.composite import JsonKind
from kvdialect.codec.kinds import Kind
from kvdialect.schema import domains
from kvdialect.schema.clauses import ClauseReader, Structure, bound_values, unsupported
from kvdialect.schema.domains import Converter, Domain, domain_of
from kvdialect.schema.expressions import (
    SCALAR_FUNCTIONS,
    And,
    Arithmetic,
    Call,
    Case,
    Column,
    Compare,
    Constant,
    Contains,
    Expression,
    In,
    Like,
    Negative,
    Not,
    Or,
    Parameter,
    StartsWith,
)
from kvdialect.schema.types import kind_of

Typed = tuple[Expression, Domain | None]
"""An expression and its domain; None where that is not known, as of NULL and of a parameter by itself."""

_SYNONYMS: Final[Mapping[str, str]] = {"char_length": "length", "substring": "substr", "ifnull": "coalesce"}
_FOLDED_FUNCTIONS: Final = frozenset({"lower", "upper"})


class Translator:
    """Translates structures over the columns of one table.

    Args:
        table: the table's name, for messages.
        kinds: its columns.
        values: of the parameters, to be written into the expressions as constants; None: they stay Parameters.

    Attributes:
        converters: how the value of each parameter is converted, as far as translated.
    """

    def __init__(self, table: str, kinds: Mapping[str, Kind], values: Sequence[Any] | None = None) -> None:
        self.table = table
        self.kinds = kinds
        self.values = values
        self.converters: dict[int, Converter] = {}

    def expression(self, structure: Structure) -> Expression:
        """Translate a value.

        Raises:
            NotSupportedError: for what only the SQL door does, by name.
            DataError: if things are compared or computed with that do not go together.
        """
        translated, _ = self.typed(structure)
        return self._free(translated)

    def condition(self, structure: Structure) -> Expression:
        """Translate a condition, which is a comparison, or a number or bool that is not 0. Errors as for a value."""
        translated, domain = self.typed(structure)
        if domain is not None and domain.name != "number":
            raise exc.DataError(f"{domain.owner} stands where a condition is expected; compare it with something")
        if isinstance(translated, Column) and self.kinds[translated.name].python is not bool:
            return Compare("!=", translated, Constant(0))
        return self._bind(translated, domains.NUMBER.convert)

    def typed(self, structure: Structure) -> Typed:
        """Translate a value and say of which domain it is."""
        form = structure[0]
        try:
            translate = self._FORMS[form]
        except KeyError:
            raise unsupported(_FORM_NAMES.get(form, form)) from None
        return translate(self, structure)

    # ------------------------------------------------------------------------------------------ parameters

    def _bind(self, expression: Expression, convert: Converter) -> Expression:
        """Settle how a parameter is converted, if ``expression`` is one."""
        if isinstance(expression, Parameter):
            if self.values is not None:
                return Constant(convert(self.values[expression.number]))
            self.converters[expression.number] = convert
        elif isinstance(expression, Constant):
            return Constant(convert(expression.value))
        return expression

    def _free(self, expression: Expression) -> Expression:
        return self._bind(expression, domains.plain) if isinstance(expression, Parameter) else expression

    # ------------------------------------------------------------------------------------------ leaves

    def _column(self, structure: Structure) -> Typed:
        name = structure[1]
        kind = self.kinds.get(name)
        if kind is None:
            raise exc.ArgumentError(
                f"the stored table {self.table} has no column {name}; it has {', '.join(self.kinds)}", column=name
            )
        # SQLAlchemy's quoted names are a subclass of str; a stored expression holds plain ones.
        return Column("".join(name)), domain_of(kind, f"{self.table}.{name}")

    def _parameter(self, structure: Structure) -> Typed:
        return Parameter(structure[1]), None

    def _constant(self, structure: Structure) -> Typed:
        value = structure[1]
        return Constant(value), None if value is None else domains.NUMBER

    # ------------------------------------------------------------------------------------------ conditions

    def _and(self, structure: Structure) -> Typed:
        return And(tuple(self.condition(part) for part in structure[1])), domains.NUMBER

    def _or(self, structure: Structure) -> Typed:
        return Or(tuple(self.condition(part) for part in structure[1])), domains.NUMBER

    def _not(self, structure: Structure) -> Typed:
        return Not(self.condition(structure[1])), domains.NUMBER

    def _compare(self, structure: Structure) -> Typed:
        _, operator, left_structure, right_structure = structure
        left, right = self._comparable(self.typed(left_structure), self.typed(right_structure), operator)
        return Compare(operator, left, right), domains.NUMBER

    def _comparable(self, left: Typed, right: Typed, operator: str) -> tuple[Expression, Expression]:
        """Both sides of a comparison, parameters converted to the domain of the other side."""
        (one, one_domain), (other, other_domain) = left, right
        if one_domain is not None and isinstance(one_domain.kind, JsonKind) and _is_truth(other):
            other_domain = None  # SQLAlchemy makes constants of SQL of True and False, of which JSON has its own
        if one_domain is None and other_domain is None:
            if isinstance(one, Parameter) and isinstance(other, Parameter) and self.values is None:
                raise unsupported("a comparison of two parameters")
            return self._free(one), self._free(other)
        if one_domain is None or other_domain is None:
            domain = one_domain or other_domain
            assert domain is not None
        elif not one_domain.compares_with(other_domain):
            raise exc.DataError(
                f"{one_domain.owner} is compared with {other_domain.owner}: one compares with {one_domain.allowed}, the"
                f" other with {other_domain.allowed}",
            )
        else:
            domain = one_domain
        if operator not in ("=", "!=", "is", "is not") and domain.kind is not None and not domain.kind.keyable:
            raise exc.DataError(
                f"{domain.owner} is compared by {operator}; {domain.kind.allowed} has no order (= and != compare it)"
            )
        if {"decimal", "float"} == {each.number for each in (one_domain, other_domain) if each is not None}:
            return _as_float(one, one_domain), _as_float(other, other_domain)
        if isinstance(domain.kind, JsonKind):
            return _json(self._bind(one, domain.convert)), _json(self._bind(other, domain.convert))
        if _is_truth(other) and domain.name != "number":
            raise domain.refusal(other.value)  # type: ignore[attr-defined]
        return self._bind(one, domain.convert), self._bind(other, domain.convert)

    def _between(self, structure: Structure) -> Typed:
        _, negated, value, low, high = structure
        both = And(
            tuple(
                Compare(operator, *self._comparable(self.typed(value), self.typed(bound), operator))  # type: ignore[arg-type]
                for operator, bound in ((">=", low), ("<=", high))
            )
        )
        return Not(both) if negated else both, domains.NUMBER

    def _in(self, structure: Structure) -> Typed:
        _, negated, left_structure, right_structure = structure
        left, domain = self.typed(left_structure)
        options: Parameter | tuple[Expression, ...]
        if right_structure[0] == "list":
            options = tuple(self._comparable((left, domain), self.typed(part), "=")[1] for part in right_structure[1])
        elif right_structure[0] == "parameter":
            if domain is None:
                raise unsupported("IN with a parameter on its left")
            if domain.kind is not None and not domain.kind.keyable:
                raise exc.DataError(f"{domain.owner} is compared by IN; {domain.kind.allowed} cannot be looked up")
            number = right_structure[1]
            if self.values is not None:
                values = self.values[number]
                options = tuple(Constant(domain.convert(value)) for value in values)
            else:
                self.converters[number] = domain.choices
                options = Parameter(number)
        else:
            raise unsupported("IN with what is no list")
        if domain is not None and isinstance(domain.kind, JsonKind):
            left = _json(left)
        membership = In(self._free(left), options)
        return Not(membership) if negated else membership, domains.NUMBER

    def _like(self, structure: Structure) -> Typed:
        _, left_structure, right_structure, escape, negated, folded, before, after = structure
        left, domain = self.typed(left_structure)
        if domain is not None and domain.name == "bytes" and not folded and (before, after) == ("", "%"):
            return self._starts_with(left, right_structure, domain, negated)
        if domain is None or domain.name != "text":
            owner = "a parameter" if domain is None else domain.owner
            raise exc.DataError(f"{owner} is compared by LIKE, which matches text")
        right, right_domain = self.typed(right_structure)
        if right_domain is not None and right_domain.name != "text":
            raise exc.DataError(f"{domain.owner} is compared by LIKE with {right_domain.owner}, which is no text")
        if isinstance(right, Parameter):
            if self.values is not None:
                text = domain.convert(self.values[right.number])
                right = Constant(None if text is None else f"{before}{text}{after}")
            else:
                self.converters[right.number] = domains.like_converter(domain.owner, escape, folded, before, after)
        else:
            if before:
                right = Arithmetic("||", Constant(before), right)
            if after:
                right = Arithmetic("||", right, Constant(after))
        match = Like(left, right, escape, folded)
        return Not(match) if negated else match, domains.NUMBER

    def _starts_with(self, left: Expression, prefix: Structure, domain: Domain, negated: bool) -> Typed:
        right, right_domain = self.typed(prefix)
        if right_domain is not None and right_domain.name != "bytes":
            raise exc.DataError(
                f"{domain.owner} is compared by startswith with {right_domain.owner}, which is no bytes"
            )
        match = StartsWith(left, self._bind(right, domain.convert))
        return Not(match) if negated else match, domains.NUMBER

    def _contains(self, structure: Structure) -> Typed:
        _, left_structure, right_structure = structure
        left, domain = self.typed(left_structure)
        element = getattr(domain.kind, "element", None) if domain is not None else None
        if not isinstance(left, Column) or not isinstance(element, Kind) or domain is None:
            raise unsupported("contains() of what is no list column")
        right, right_domain = self.typed(right_structure)
        if right_domain is not None and not right_domain.compares_with(domain_of(element, domain.owner)):
            raise exc.DataError(f"{domain.owner}.contains() is given {right_domain.owner}; give {element.allowed}")
        return Contains(left, self._bind(right, _element_converter(element, domain.owner))), domains.NUMBER

    # ------------------------------------------------------------------------------------------ computed values

    def _arithmetic(self, structure: Structure) -> Typed:
        _, operator, left_structure, right_structure = structure
        left, left_domain = self.typed(left_structure)
        right, right_domain = self.typed(right_structure)
        if operator == "||":
            for domain in (left_domain, right_domain):
                if domain is not None and domain.name != "text":
                    raise exc.DataError(f"{domain.owner} is joined to text; only text can be")
            text = left_domain or right_domain or domains.TEXT
            return Arithmetic("||", self._bind(left, text.convert), self._bind(right, text.convert)), text
        for domain in (left_domain, right_domain):
            if domain is not None and domain.name != "number":
                if domain.kind is not None and domain.kind.keyable:
                    raise unsupported(f"arithmetic on {domain.owner}, which is no number,")
                raise exc.DataError(f"{domain.owner} is computed with; only numbers can be")
        known = left_domain or right_domain or domains.NUMBER
        left, right = self._bind(left, known.operand), self._bind(right, known.operand)
        numbers = {domain.number for domain in (left_domain, right_domain) if domain is not None}
        if {"decimal", "float"} <= numbers:
            # Python adds no decimal to a float; SQLite, which keeps both as floats, does.
            left, right = _as_float(left, left_domain), _as_float(right, right_domain)
            return Arithmetic(operator, left, right), domains.FLOAT
        if "decimal" in numbers:
            return Arithmetic(operator, left, right), domains.DECIMAL
        floating = "float" in numbers or operator == "/"
        return Arithmetic(operator, left, right), domains.FLOAT if floating else domains.NUMBER

    def _negative(self, structure: Structure) -> Typed:
        part, domain = self.typed(structure[1])
        if domain is not None and domain.name != "number":
            raise exc.DataError(f"{domain.owner} is negated; only numbers can be")
        return Negative(self._bind(part, domains.NUMBER.convert)), domain or domains.NUMBER

    def _function(self, structure: Structure) -> Typed:
        _, name, arguments = structure
        function = _SYNONYMS.get(name, name)
        bounds = SCALAR_FUNCTIONS.get(function)
        if bounds is None or function in ("float", "json"):
            raise unsupported(f"the function {name}")
        if not bounds[0] <= len(arguments) <= bounds[1]:
            raise exc.ArgumentError(
                f"the function {name} takes {bounds[0]} to {bounds[1]} arguments, not {len(arguments)}"
            )
        typed = [self.typed(argument) for argument in arguments]
        if function in ("coalesce", "nullif"):
            branches, domain = self._alike(typed, f"the arguments of {name}")
            return Call(function, tuple(branches)), domain
        (first, domain), *rest = typed
        if function == "abs":
            self._require(domain, ("number",), name)
            return Call("abs", (self._bind(first, domains.NUMBER.convert),)), domain or domains.NUMBER
        self._require(domain, ("text",) if function in _FOLDED_FUNCTIONS else ("text", "bytes"), name)
        converted = [self._bind(first, (domain or domains.TEXT).convert)]
        for argument, argument_domain in rest:
            self._require(argument_domain, ("number",), name)
            converted.append(self._bind(argument, _whole_number(name)))
        return Call(function, tuple(converted)), domains.NUMBER if function == "length" else domain or domains.TEXT

    def _require(self, domain: Domain | None, names: tuple[str, ...], function: str) -> None:
        if domain is not None and domain.name not in names:
            raise exc.DataError(f"the function {function} is given {domain.owner}; it takes {' or '.join(names)}")

    def _alike(self, typed: Sequence[Typed], what: str) -> tuple[list[Expression], Domain | None]:
        """Expressions of which one gives the value, so that all must be of one domain."""
        known = [domain for _, domain in typed if domain is not None]
        for domain in known[1:]:
            if not domain.compares_with(known[0]):
                raise exc.DataError(f"{what} are of different types: {known[0].owner} and {domain.owner}")
        common = known[0] if known else None
        convert = domains.plain if common is None else common.convert
        if common is not None and common.name == "number":
            numbers = {domain.number for domain in known}
            common = domains.FLOAT if "float" in numbers else domains.DECIMAL if "decimal" in numbers else common
            convert = common.operand
            if common is domains.FLOAT:
                return [_as_float(self._bind(expression, convert), domain) for expression, domain in typed], common
        return [self._bind(expression, convert) for expression, _ in typed], common

    def _case(self, structure: Structure) -> Typed:
        _, value, whens, otherwise = structure
        conditions = []
        for when, _ in whens:
            if value is None:
                conditions.append(self.condition(when))
            else:
                conditions.append(Compare("=", *self._comparable(self.typed(value), self.typed(when), "=")))
        last: Typed = (Constant(None), None) if otherwise is None else self.typed(otherwise)
        results, domain = self._alike([*(self.typed(then) for _, then in whens), last], "the results of CASE")
        return Case(tuple(zip(conditions, results[:-1], strict=True)), results[-1]), domain

    _FORMS: ClassVar[dict[str, Callable[[Any, Structure], Typed]]] = {
        "column": _column,
        "parameter": _parameter,
        "constant": _constant,
        "and": _and,
        "or": _or,
        "not": _not,
        "compare": _compare,
        "between": _between,
        "in": _in,
        "like": _like,
        "contains": _contains,
        "arithmetic": _arithmetic,
        "negative": _negative,
        "function": _function,
        "case": _case,
    }


_FORM_NAMES: Final[Mapping[str, str]] = {
    "star": "* as a value",
    "named": "a name given as text",
    "list": "a list as a value",
    "filter": "filter() of what is no aggregate",
    "distinct": "distinct() within an expression",
}


def _element_converter(element: Kind, owner: str) -> Converter:
    def convert(value: Any) -> Any:
        if value is None:
            return None
        try:
            return element.check(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise exc.DataError(
                f"{owner}.contains() is given {value!r:.80} ({type(value).__name__}); elements: {element.allowed}",
                value=value, allowed=element.allowed,
            ) from error  # fmt: skip

    return convert


def _as_float(expression: Expression, domain: Domain | None) -> Expression:
    """A number beside floats: Python's decimals do not go together with these."""
    return Call("float", (expression,)) if domain is not None and domain.number == "decimal" else expression


def _is_truth(expression: Expression) -> bool:
    return isinstance(expression, Constant) and isinstance(expression.value, bool)


def _json(expression: Expression) -> Expression:
    """JSON as it is compared."""
    if isinstance(expression, Constant) and expression.value is None:
        return expression
    return Call("json", (expression,))


def _whole_number(function: str) -> Converter:
    def convert(value: Any) -> Any:
        if value is not None and not isinstance(value, int):
            raise exc.DataError(f"the function {function} is given {value!r:.80}; give an int", value=value)
        return value

    return convert


def predicate(clause: Any, table: sa.Table, kinds: Mapping[str, Kind] | None = None) -> Expression:
    """A condition over the columns of ``table`` as an expression that can be stored: its parameters are constants.

    Args:
        clause: the condition.
        table: whose columns it is over.
        kinds: of the columns; None: those of the table's fields, or else of its columns' types.

    Raises:
        NotSupportedError: for what only the SQL door does, by name.
        DataError: for a constant that compares with no value of its column.
    """
    reader = ClauseReader(table)
    structure = reader.read(clause)
    translator = Translator(
        table.name, _kinds(table) if kinds is None else kinds, bound_values(tuple(reader.binds), None)
    )
    return translator.condition(structure)


def _kinds(table: sa.Table) -> dict[str, Kind]:
    kinds = {}
    for column in table.columns:
        info = column.info.get("kvdialect")
        kinds[column.name] = info.kind if info is not None else kind_of(column.type)
    return kinds
