"""Conditions as SQL text, such as ``CheckConstraint("amount > 0 AND state IN ('open', 'closed')")``, as expressions.

The text is read by SQLite's grammar and precedence. Its forms are those that the Session evaluates by itself; any other
is refused by name.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Final

from kvdialect import exc
from kvdialect.codec.kinds import Kind
from kvdialect.codec.strings import EnumKind
from kvdialect.schema.clauses import Structure, unsupported
from kvdialect.schema.expressions import (
    DEEPEST,
    Arithmetic,
    Column,
    Compare,
    Constant,
    Expression,
    In,
    Parameter,
    rebuild,
    walk,
)
from kvdialect.schema.names import folded
from kvdialect.schema.tokens import Reader, Token, tokenize
from kvdialect.schema.translate import Translator, Typed

_EQUALITY: Final = {"=": "=", "==": "=", "<>": "!=", "!=": "!="}
_ORDER: Final = frozenset({"<", "<=", ">", ">="})
_BEYOND: Final = frozenset(
    {"CAST", "COLLATE", "EXISTS", "GLOB", "MATCH", "REGEXP", "SELECT", "&", "|", "~", "<<", ">>", "->", "->>"}
)
"""What SQL knows and the Session does not evaluate."""

_KEYWORDS: Final = _BEYOND | {
    *("AND", "BETWEEN", "CASE", "DISTINCT", "ELSE", "END", "ESCAPE", "IN", "IS", "ISNULL", "LIKE", "NOT", "NOTNULL"),
    *("NULL", "OR", "THEN", "WHEN"),
}

_ISO: Final[Mapping[type, Callable[[str], Any]]] = {
    dt.datetime: dt.datetime.fromisoformat,
    dt.date: dt.date.fromisoformat,
    dt.time: dt.time.fromisoformat,
    uuid.UUID: uuid.UUID,
}
"""How a string is read that stands beside a column of a type that has no literals of its own."""


def condition(text: str, table: str, kinds: Mapping[str, Kind]) -> Expression:
    """A condition over the columns of a table.

    Args:
        text: the condition.
        table: its name, which may stand before those of columns.
        kinds: its columns.

    Raises:
        ProgrammingError: if the text is none.
        ArgumentError: if it names a column that the table does not have.
        NotSupportedError: for a form that is not evaluated here.
        DataError: for things that are compared and do not compare.
    """
    reader = _Reader(text, table, kinds)
    structure = reader.whole()
    return _exact(_Translator(table, kinds, reader.values).condition(structure), kinds)


class _Translator(Translator):
    """A translator whose parameters are the literals of a text."""

    values: list[Any]

    def _comparable(self, left: Typed, right: Typed, operator: str) -> tuple[Expression, Expression]:
        for (_, domain), (other, _) in ((left, right), (right, left)):
            if isinstance(other, Parameter) and domain is not None and domain.kind is not None:
                self.values[other.number] = _read(domain.kind, self.values[other.number])
        return super()._comparable(left, right, operator)

    def _arithmetic(self, structure: Structure) -> Typed:
        _, operator, *operands = structure
        if operator == "/" and all(self._is_whole(each) for each in operands):
            structure = ("arithmetic", "//", *operands)  # SQL's drops the fraction of integers
        elif operator == "%" and any(self._number(each) == "decimal" for each in operands):
            raise unsupported("the remainder of a decimal")
        return super()._arithmetic(structure)

    _FORMS: ClassVar = {**Translator._FORMS, "arithmetic": _arithmetic}

    def _number(self, structure: Structure) -> str | None:
        """Which numbers a value is of."""
        expression, domain = self.typed(structure)
        if domain is not None:
            return domain.number
        value = self.values[expression.number] if isinstance(expression, Parameter) else None
        return "int" if isinstance(value, int) else "decimal" if isinstance(value, Decimal) else None

    def _is_whole(self, structure: Structure) -> bool:
        return self._number(structure) == "int"


def _read(kind: Kind, value: Any) -> Any:
    """A literal as a value of a kind; as it is where it is none, to be refused by name."""
    read = kind.load if isinstance(kind, EnumKind) else _ISO.get(kind.python)
    if read is None or not isinstance(value, str):
        return value
    try:
        return read(value)
    except (ValueError, KeyError):
        return value


def _exact(tree: Expression, kinds: Mapping[str, Kind], *, decimals: bool = False) -> Expression:
    """Numbers with a point as decimals where they are compared with decimals, else as floats."""
    if isinstance(tree, Compare | In | Arithmetic):
        columns = [kinds[node.name].python for node in walk(tree) if isinstance(node, Column)]
        decimals = decimals or Decimal in columns
    if isinstance(tree, Constant) and isinstance(tree.value, Decimal) and not decimals:
        return Constant(float(tree.value))
    return rebuild(tree, lambda child: _exact(child, kinds, decimals=decimals))


class _Reader:
    """Reads a text into the structure that SQLAlchemy's clauses are read into.

    Attributes:
        values: its literals, which are the parameters of the structure.
    """

    def __init__(self, text: str, table: str, kinds: Mapping[str, Kind]) -> None:
        self.text = text
        self.table = table
        self.columns = {folded(name): name for name in kinds}
        self.values: list[Any] = []
        self._reader = Reader(tokenize(text))
        self._deep = 0

    def whole(self) -> Structure:
        structure = self._or()
        if not self._reader.done:
            raise self._wrong(self._reader.next)
        return structure

    def _wrong(self, token: Token | None) -> exc.Error:
        if token is None:
            return exc.ProgrammingError(f"the condition {self.text!r} ends too early")
        if token.word in _BEYOND:
            return unsupported(f"{token.word} in a condition")
        return exc.ProgrammingError(
            f"the condition {self.text!r} has {token.text!r} where it makes no sense", position=token.start
        )

    def _enter(self) -> None:
        self._deep += 1
        if self._deep > DEEPEST:
            raise exc.NotSupportedError(f"the condition {self.text!r:.80} is nested more than {DEEPEST} deep")

    def _expect(self, *words: str) -> None:
        if not self._reader.accept(*words):
            raise self._wrong(self._reader.next)

    # ------------------------------------------------------------------------------------------ by precedence

    def _or(self) -> Structure:
        self._enter()
        parts = [self._and()]
        while self._reader.accept("OR"):
            parts.append(self._and())
        self._deep -= 1
        return parts[0] if len(parts) == 1 else ("or", tuple(parts))

    def _and(self) -> Structure:
        parts = [self._not()]
        while self._reader.accept("AND"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else ("and", tuple(parts))

    def _not(self) -> Structure:
        if not self._reader.accept("NOT"):
            return self._equality()
        self._enter()
        inner = self._not()
        self._deep -= 1
        return ("not", inner)

    def _equality(self) -> Structure:
        left, reader = self._comparison(), self._reader
        while True:
            if (operator := reader.accept_any(_EQUALITY)) is not None:
                left = ("compare", _EQUALITY[operator], left, self._comparison())
            elif reader.accept("IS"):
                left = self._is(left)
            elif reader.accept("ISNULL"):
                left = ("compare", "is", left, ("constant", None))
            elif reader.accept("NOTNULL") or reader.accept("NOT", "NULL"):
                left = ("compare", "is not", left, ("constant", None))
            else:
                negated = reader.word == "NOT" and reader.word_after() in ("BETWEEN", "IN", "LIKE")
                if negated:
                    reader.accept("NOT")
                if reader.accept("BETWEEN"):
                    low = self._comparison()
                    self._expect("AND")
                    left = ("between", negated, left, low, self._comparison())
                elif reader.accept("IN"):
                    left = ("in", negated, left, ("list", self._list()))
                elif reader.accept("LIKE"):
                    left = self._like(left, negated)
                else:
                    return left

    def _is(self, left: Structure) -> Structure:
        negated = self._reader.accept("NOT")
        word = self._reader.word
        if word in ("TRUE", "FALSE") and folded(word) not in self.columns:
            # Not a comparison with 1 or 0: whether it holds, which NULL does not.
            self._reader.take()
            test = ("compare", "!=" if word == "TRUE" else "=", left, ("constant", 0))
            truth = ("function", "coalesce", (test, ("constant", False)))
            return ("not", truth) if negated else truth
        if self._reader.accept("DISTINCT", "FROM"):
            negated = not negated
        return ("compare", "is not" if negated else "is", left, self._comparison())

    def _like(self, left: Structure, negated: bool) -> Structure:
        pattern, escape = self._comparison(), None
        if self._reader.accept("ESCAPE"):
            token = self._reader.take()
            if token.kind != "string" or len(token.name) != 1:
                raise self._wrong(token)
            escape = token.name
        return ("like", left, pattern, escape, negated, False, "", "")

    def _list(self) -> tuple[Structure, ...]:
        self._expect("(")
        if self._reader.accept(")"):
            return ()
        options = [self._or()]
        while self._reader.accept(","):
            options.append(self._or())
        self._expect(")")
        return tuple(options)

    def _comparison(self) -> Structure:
        left = self._sum()
        while (operator := self._reader.accept_any(_ORDER)) is not None:
            left = ("compare", operator, left, self._sum())
        return left

    def _sum(self) -> Structure:
        left = self._product()
        while (operator := self._reader.accept_any(("+", "-"))) is not None:
            left = ("arithmetic", operator, left, self._product())
        return left

    def _product(self) -> Structure:
        left = self._joined()
        while (operator := self._reader.accept_any(("*", "/", "%"))) is not None:
            left = ("arithmetic", operator, left, self._joined())
        return left

    def _joined(self) -> Structure:
        left = self._signed()
        while self._reader.accept("||"):
            left = ("arithmetic", "||", left, self._signed())
        return left

    def _signed(self) -> Structure:
        sign = self._reader.accept_any(("+", "-"))
        if sign is None:
            return self._primary()
        following = self._reader.next
        if following is not None and following.kind == "number":
            self._reader.take()
            number = self._number(following)
            return self._literal(-number if sign == "-" else number)
        self._enter()
        inner = self._signed()
        self._deep -= 1
        return ("negative", inner) if sign == "-" else inner

    # ------------------------------------------------------------------------------------------ the smallest parts

    def _primary(self) -> Structure:
        if self._reader.done:
            raise self._wrong(None)
        token = self._reader.take()
        if token.word == "(":
            inner = self._or()
            self._expect(")")
            return inner
        match token.kind:
            case "number":
                return self._literal(self._number(token))
            case "string":
                return self._literal(token.name)
            case "blob":
                try:
                    return self._literal(bytes.fromhex(token.text[2:-1]))
                except ValueError:
                    raise self._wrong(token) from None
            case "name" | "quoted":
                return self._named(token)
            case _:
                raise self._wrong(token)

    def _literal(self, value: Any) -> Structure:
        self.values.append(value)
        return ("parameter", len(self.values) - 1)

    def _number(self, token: Token) -> int | Decimal:
        text = token.text.replace("_", "")
        try:
            return int(text, 0 if text[:2] in ("0x", "0X") else 10)
        except ValueError:
            return Decimal(text)

    def _named(self, token: Token) -> Structure:
        reader = self._reader
        if token.word == "NULL":
            return ("constant", None)
        if token.word in ("TRUE", "FALSE") and folded(token.text) not in self.columns:
            return ("constant", token.word == "TRUE")
        if token.word == "CASE":
            return self._case()
        if token.kind == "name" and reader.word == "(" and token.word not in _KEYWORDS:
            return ("function", token.text.lower(), self._list())
        if token.word in _KEYWORDS:
            raise self._wrong(token)
        name = token.name
        if reader.accept("."):
            owner, name = name, reader.expect_name()
            if folded(owner) != folded(self.table):
                raise exc.ArgumentError(
                    f"the condition {self.text!r} names {owner}.{name}; it can only be over the columns of {self.table}"
                )
        column = self.columns.get(folded(name))
        if column is None:
            raise exc.ArgumentError(
                f"the condition {self.text!r} names {name!r}, which is no column of {self.table}; its columns are"
                f" {', '.join(self.columns.values())}",
                column=name,
            )
        return ("column", column)

    def _case(self) -> Structure:
        reader = self._reader
        value = None if reader.word == "WHEN" else self._or()
        whens = []
        while reader.accept("WHEN"):
            when = self._or()
            self._expect("THEN")
            whens.append((when, self._or()))
        otherwise = self._or() if reader.accept("ELSE") else None
        self._expect("END")
        if not whens:
            raise exc.ProgrammingError(f"the condition {self.text!r} has a CASE without a WHEN")
        return ("case", value, tuple(whens), otherwise)
