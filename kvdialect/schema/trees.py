"""Expression trees as plain data, for the catalog.

A node becomes a list that begins with its tag; a constant carries the tag of its type, so that what is read is of the
type that was written: ``["compare", "is", ["column", "spent_height"], ["constant", "null", null]]``. Nothing that is
read is ever executed as it stands.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import attrs

from kvdialect import exc
from kvdialect.schema import expressions as ex
from kvdialect.schema.expressions import Expression

_NODES: Final[Mapping[str, type[Expression]]] = {
    "column": ex.Column,
    "compare": ex.Compare,
    "and": ex.And,
    "or": ex.Or,
    "not": ex.Not,
    "in": ex.In,
    "like": ex.Like,
    "startswith": ex.StartsWith,
    "contains": ex.Contains,
    "arithmetic": ex.Arithmetic,
    "negative": ex.Negative,
    "call": ex.Call,
    "case": ex.Case,
}
_TAGS: Final = {cls: tag for tag, cls in _NODES.items()}

_OPERATORS: Final = {
    ex.Compare: frozenset({"=", "!=", "<", "<=", ">", ">=", "is", "is not"}),
    ex.Arithmetic: frozenset({"+", "-", "*", "/", "//", "%", "||"}),
}


def renamed(tree: Expression, names: Mapping[str, str]) -> Expression:
    """The expression with columns renamed from the keys of ``names`` to its values."""
    if isinstance(tree, ex.Column):
        return ex.Column(names.get(tree.name, tree.name))
    return ex.rebuild(tree, lambda child: renamed(child, names))


def shown_tree(tree: Expression) -> str:
    """An expression as messages show it, much as SQL writes it: ``"spent_height IS NULL AND amount > 5"``."""
    match tree:
        case ex.Column(name):
            return name
        case ex.Constant(value):
            return "NULL" if value is None else exc.shown(value) if isinstance(value, bytes) else repr(value)
        case ex.Compare(operator, left, right) | ex.Arithmetic(operator, left, right):
            return f"{_operand(left)} {operator.upper()} {_operand(right)}"
        case ex.And(parts):
            return " AND ".join(map(_operand, parts)) or "TRUE"
        case ex.Or(parts):
            return " OR ".join(map(_operand, parts)) or "FALSE"
        case ex.Not(part):
            return f"NOT {_operand(part)}"
        case ex.Negative(part):
            return f"-{_operand(part)}"
        case ex.Case(branches, otherwise):
            whens = " ".join(f"WHEN {shown_tree(when)} THEN {shown_tree(then)}" for when, then in branches)
            return f"CASE {whens} ELSE {shown_tree(otherwise)} END"
        case ex.In(left, tuple(options)):
            return f"{_operand(left)} IN ({', '.join(map(shown_tree, options))})"
        case ex.Like(left, pattern, _, folded):
            return f"{_operand(left)} {'ILIKE' if folded else 'LIKE'} {_operand(pattern)}"
        case ex.Call(function, arguments):
            return f"{function}({', '.join(map(shown_tree, arguments))})"
        case ex.StartsWith(left, other) | ex.Contains(left, other):
            return f"{_operand(left)} {'STARTS WITH' if isinstance(tree, ex.StartsWith) else 'HAS'} {_operand(other)}"
        case _:
            return str(tree)


def _operand(tree: Expression) -> str:
    text = shown_tree(tree)
    return f"({text})" if isinstance(tree, ex.And | ex.Or | ex.Not | ex.Arithmetic) else text


# ------------------------------------------------------------------------------------------------ to plain data


def encode_tree(tree: Expression) -> list[Any]:
    """An expression as data that JSON can hold; equal exactly for equal expressions.

    Raises:
        NotSupportedError: if it has a parameter, or a constant that cannot be stored, or is nested too deep.
    """
    return _encoded(tree, 0)  # type: ignore[no-any-return]


def _encoded(tree: Any, depth: int) -> Any:
    if depth > ex.DEEPEST:
        raise exc.NotSupportedError(
            f"a stored expression is nested more than {ex.DEEPEST} deep (write it as a flat list of conditions)"
        )
    if isinstance(tree, tuple):
        return [_encoded(part, depth) for part in tree]
    if isinstance(tree, ex.Constant):
        return ["constant", *_encode_constant(tree.value)]
    if not isinstance(tree, Expression):
        return tree  # an operator, a name, a switch
    tag = _TAGS.get(type(tree))
    if tag is None:
        raise exc.NotSupportedError(
            f"a stored expression cannot hold {tree!r}; it is over columns and constants (write the value itself)"
        )
    return [tag, *(_encoded(getattr(tree, field.name), depth + 1) for field in attrs.fields(type(tree)))]  # type: ignore[arg-type]  # as below


# By tag: the type of the value, its form in JSON, the type of that, and the way back. Ints are text, as readers of
# JSON differ on large ones; floats are hexadecimal, which is exact and has infinities.
_CONSTANTS: Final[Mapping[str, tuple[type, Callable[[Any], Any], type, Callable[[Any], Any]]]] = {
    "null": (type(None), lambda _: None, type(None), lambda _: None),
    "bool": (bool, bool, bool, bool),
    "int": (int, str, str, int),
    "float": (float, float.hex, str, float.fromhex),
    "str": (str, str, str, str),
    "bytes": (bytes, lambda v: base64.b64encode(v).decode(), str, lambda raw: base64.b64decode(raw, validate=True)),
    "decimal": (decimal.Decimal, str, str, decimal.Decimal),
    "datetime": (dt.datetime, dt.datetime.isoformat, str, dt.datetime.fromisoformat),
    "date": (dt.date, dt.date.isoformat, str, dt.date.fromisoformat),
    "time": (dt.time, dt.time.isoformat, str, dt.time.fromisoformat),
    "timedelta": (
        dt.timedelta,
        lambda v: str(v // dt.timedelta(microseconds=1)),
        str,
        lambda raw: dt.timedelta(microseconds=int(raw)),
    ),
    "uuid": (uuid.UUID, str, str, uuid.UUID),
}
_TAG_OF: Final = {python: tag for tag, (python, _, _, _) in _CONSTANTS.items()}


def _encode_constant(value: Any) -> list[Any]:
    tag = _TAG_OF.get(type(value))
    if tag is None:
        raise exc.NotSupportedError(
            f"a stored expression cannot hold the constant {value!r:.80} ({type(value).__name__}); it can hold"
            f" {', '.join(_CONSTANTS)}",
            value=value,
        )
    return [tag, _CONSTANTS[tag][1](value)]


# ------------------------------------------------------------------------------------------------ from plain data


def decode_tree(data: Any, columns: Collection[str]) -> Expression:
    """The expression of what :func:`encode_tree` gave.

    Raises:
        ValueError: if it is none, or names a column that is not in ``columns``.
    """
    return _decoded(data, columns, 0)


def _decoded(data: Any, columns: Collection[str], depth: int) -> Expression:
    if depth > ex.DEEPEST:
        raise ValueError(f"an expression is nested more than {ex.DEEPEST} deep")
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise ValueError(f"{data!r:.60} is no expression")
    tag, *parts = data
    if tag == "constant":
        return _decode_constant(parts)
    cls = _NODES.get(tag)
    if cls is None:
        raise ValueError(f"{tag!r:.60} is no kind of expression")
    fields = attrs.fields(cls)  # type: ignore[arg-type]  # every node is an attrs class
    if len(parts) != len(fields):
        raise ValueError(f"the expression {tag!r} has {len(parts)} parts; it takes {len(fields)}")
    node = cls(*(_decode_part(cls, f.name, part, columns, depth + 1) for f, part in zip(fields, parts, strict=True)))
    if isinstance(node, ex.Call):
        fewest, most = ex.SCALAR_FUNCTIONS[node.function]
        if not fewest <= len(node.arguments) <= most:
            raise ValueError(f"{node.function} has {len(node.arguments)} arguments")
    return node


def _decode_part(cls: type[Expression], name: str, part: Any, columns: Collection[str], depth: int) -> Any:
    """One attribute of a node, by its name: the nodes use few names, each for one sort of thing."""
    if name == "operator":
        return _one_of(part, _OPERATORS[cls], "operator")
    if name == "name":
        return _one_of(part, columns, "column of the table")
    if name == "function":
        return _one_of(part, ex.SCALAR_FUNCTIONS, "function")
    if name == "folded":
        return _of_type(part, bool)
    if name == "escape":
        return None if part is None else _of_type(part, str)
    if name in ("parts", "arguments", "options"):
        return tuple(_decoded(each, columns, depth) for each in _of_type(part, list))
    if name == "branches":
        pairs = [_of_type(pair, list) for pair in _of_type(part, list)]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError("a branch of a case expression is a condition and a value")
        return tuple(tuple(_decoded(each, columns, depth) for each in pair) for pair in pairs)
    return _decoded(part, columns, depth)


def _decode_constant(parts: list[Any]) -> ex.Constant:
    try:
        tag, raw = parts
        _, _, expected, value = _CONSTANTS[tag]
        return ex.Constant(value(_of_type(raw, expected)))
    except (KeyError, ValueError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{parts!r:.80} is no constant") from error


def _of_type(value: Any, expected: type) -> Any:
    if type(value) is not expected:
        raise ValueError(f"{value!r:.60} is no {expected.__name__}")
    return value


def _one_of(value: Any, allowed: Collection[str], what: str) -> Any:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{value!r:.60} is no {what}")
    return value
