"""SQL functions of our own, most of them for integers beyond SQLite's: UInt64 from ``2**63`` on.

SQLite sees such an integer as a blob of 8 bytes, big-endian, which compares and orders right. Its arithmetic and
aggregates would take it for 0, without a word. So there are functions that calculate with it (``kv_add`` and its like,
``kv_sum``, ``kv_avg``, ``kv_total``); for all other values they give what SQLite's own operators and functions give.

Statements written as text get there too: :func:`prepared` puts the functions in the place of ``sum``, ``avg``,
``total`` and ``abs``, and finds out from SQLite's byte code whether anything else would calculate with a value of an
UInt64 column. If so, the statement reads strictly: a value that SQLite would take for 0 is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from kvdialect import exc
from kvdialect.codec.dynamic import apply_affinity
from kvdialect.dialect.bytecode import Uses, uses_of
from kvdialect.dialect.sqlvalues import (
    SIGNED_LIMIT,
    UNSIGNED_LIMIT,
    WIDE_TYPE,
    wide,
    wide_bound,
    wide_from_sql,
    wide_to_sql,
)
from kvdialect.schema.functions import like_pattern
from kvdialect.schema.names import folded
from kvdialect.schema.tokens import quoted, tokenize

if TYPE_CHECKING:
    from kvdialect.dialect.connection import Connection
    from kvdialect.dialect.relations import Relation
    from kvdialect.dialect.statements import Statement
    from kvdialect.schema.definition import TableDefinition
    from kvdialect.store.catalog import Catalog

Number = int | float


# ------------------------------------------------------------------------------------------ numbers

_PREFIX: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)")
_DIGITS: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?\d+)")
_INTEGER: Final = re.compile(rb"[+-]?\d+")


def leading(raw: bytes) -> tuple[Number, bool]:
    """The number that text begins with, 0 if with none, and whether there is nothing else."""
    match = _PREFIX.match(raw)
    if match is None:
        return 0, False
    whole = not raw[match.end() :].strip(b" \t\n\v\f\r")
    if _INTEGER.fullmatch(match[1]) and -SIGNED_LIMIT <= (number := int(match[1])) < SIGNED_LIMIT:
        return number, whole
    return float(match[1]), whole


def operand(value: Any) -> Number:
    """A value, not NULL, as the operand of arithmetic: as SQLite reads it, but for wide integers."""
    value = wide_from_sql(value)
    if isinstance(value, int | float):
        return value
    return leading(value if isinstance(value, bytes) else value.encode())[0]


def summand(value: Any) -> Number:
    """A value, not NULL, as an aggregate adds it: text that is a number counts as this, and all else as a float."""
    value = wide_from_sql(value)
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        number, whole = leading(value.encode())
        return number if whole else float(number)
    return float(leading(value)[0])


def _shown(number: Number) -> Any:
    """A result as SQL sees it.

    Raises:
        DataError: for an integer beyond 64 bits.
    """
    if isinstance(number, float):
        return number if number == number else None
    if not -SIGNED_LIMIT <= number < UNSIGNED_LIMIT:
        raise exc.DataError(
            f"integer overflow: {number} is not between {-SIGNED_LIMIT} and {UNSIGNED_LIMIT - 1}", value=number
        )
    return wide_to_sql(number)


# ------------------------------------------------------------------------------------------ arithmetic


def _binary(calculate: Callable[[Number, Number], Number | None]) -> Callable[[Any, Any], Any]:
    def function(left: Any, right: Any) -> Any:
        if left is None or right is None:
            return None
        found = calculate(operand(left), operand(right))
        return None if found is None else _shown(found)

    return function


def _multiplied(left: Number, right: Number) -> Number:
    return left * right


def _divided(left: Number, right: Number) -> Number | None:
    if not right:
        return None
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) is (right < 0) else -quotient
    return left / right


def _truly_divided(left: Number, right: Number) -> Number | None:
    return left / right if right else None


def _remainder(left: Any, right: Any) -> Any:
    if left is None or right is None:
        return None
    by = _cut(right)
    if not by:
        return None
    whole = _cut(left)
    rest = abs(whole) % abs(by)
    rest = -rest if whole < 0 else rest
    return _shown(rest if isinstance(operand(left), int) and isinstance(operand(right), int) else float(rest))


def _cut(value: Any) -> int:
    """A value, not NULL, cast to an integer; of text the digits that it begins with, though it be ``1e3``."""
    value = wide_from_sql(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if abs(value) < 2.0**63 else SIGNED_LIMIT - 1 if value > 0 else -SIGNED_LIMIT
    match = _DIGITS.match(value if isinstance(value, bytes) else value.encode())
    return max(-SIGNED_LIMIT, min(int(match[1]), SIGNED_LIMIT - 1)) if match else 0


def _negated(value: Any) -> Any:
    return None if value is None else _shown(0 - operand(value))


def _absolute(value: Any) -> Any:
    if value is None:
        return None
    number = wide_from_sql(value)
    if not isinstance(number, int | float):
        number = float(operand(value))
    return _shown(-number if number < 0 else number)  # as SQLite, which leaves -0.0 alone


def _regexp(pattern: str, text: Any) -> bool | None:
    return None if text is None or pattern is None else re.search(pattern, str(text)) is not None


def _regexp_replace(text: Any, pattern: str | None, replacement: str | None) -> str | None:
    if text is None or pattern is None or replacement is None:
        return None
    return re.sub(pattern, replacement, str(text))


# ------------------------------------------------------------------------------------------ aggregates


def _parted(number: int) -> tuple[int, int]:
    """An integer as the sum of two that floats hold, the second one below 2**14."""
    if -(1 << 52) < number < 1 << 52:
        return number, 0
    small = abs(number) % 16384
    small = -small if number < 0 else small
    return number - small, small


class _Sum:
    """The state of sum(), in the order of SQLite's own steps, so that floats add up to the same bits.

    Integers are added exactly. With the first float the sum becomes one, kept with its rounding error (Kahan, Babushka,
    Neumaier).
    """

    __slots__ = ("approximate", "count", "error", "exact", "near", "overflow")

    def __init__(self) -> None:
        self.count = 0
        self.exact = 0
        self.near = self.error = 0.0
        self.approximate = self.overflow = False

    def step(self, value: Any) -> None:
        if value is not None:
            self.count += 1
            self._add(summand(value))

    def inverse(self, value: Any) -> None:
        if value is not None:
            self.count -= 1
            self._add(-summand(value))

    def _add(self, number: Number) -> None:
        if isinstance(number, int):
            if not self.approximate:
                self.exact += number
            else:
                self._near_whole(number)
            return
        if not self.approximate:
            self.approximate = True
            self.near, self.error = map(float, _parted(self.exact))
        self._near(number)

    def _near_whole(self, number: int) -> None:
        large, small = _parted(number)
        self._near(float(large))
        if small:
            self._near(float(small))

    def _near(self, number: float) -> None:
        before = self.near
        after = before + number
        self.error += (before - after) + number if abs(before) > abs(number) else (number - after) + before
        self.near = after

    def number(self) -> Number:
        if not self.approximate:
            return self.exact
        return self.near + self.error if math.isfinite(self.error) else self.near

    def value(self) -> Any:
        return _shown(self.number()) if self.count > 0 else None

    def final(self) -> Any:
        return self.value()


class _Total(_Sum):
    __slots__ = ()

    def value(self) -> Any:
        return float(self.number())


class _Average(_Sum):
    __slots__ = ()

    def value(self) -> Any:
        return float(self.number()) / self.count if self.count > 0 else None


# ------------------------------------------------------------------------------------------ registration

_SCALARS: Final[dict[str, tuple[Callable[..., Any], int]]] = {
    "kv_add": (_binary(lambda left, right: left + right), 2),
    "kv_sub": (_binary(lambda left, right: left - right), 2),
    "kv_mul": (_binary(_multiplied), 2),
    "kv_div": (_binary(_divided), 2),
    "kv_truediv": (_binary(_truly_divided), 2),
    "kv_mod": (_remainder, 2),
    "kv_neg": (_negated, 1),
    "kv_abs": (_absolute, 1),
}
"""``kv_div`` is SQLite's ``/``, which drops the fraction of integers; ``kv_truediv`` keeps it."""

_VALUES: Final = (int, float, str, bytes, bytearray, memoryview, NoneType)
"""What SQLite takes from a function."""

_AGGREGATES: Final = {"kv_sum": _Sum, "kv_total": _Total, "kv_avg": _Average}


def register(db: Any) -> None:
    """Give a database of SQLite's the functions."""
    for name, (function, arguments) in _SCALARS.items():
        db.create_scalar_function(name, function, arguments, deterministic=True)
    for name, factory in _AGGREGATES.items():
        db.create_window_function(name, factory, 1)
    db.create_scalar_function("regexp", guarded("regexp", _regexp), 2, deterministic=True)
    db.create_scalar_function("regexp_replace", guarded("regexp_replace", _regexp_replace), 3, deterministic=True)


def register_like(db: Any) -> None:
    """Give a database a LIKE that tells upper from lower case, and that partial indexes take.

    After ``PRAGMA case_sensitive_like`` SQLite's own is not deterministic to it
    (https://www.sqlite.org/deterministic.html), though it gives the same for the same.
    """
    for arguments in (2, 3):
        db.create_scalar_function("like", _like, arguments, deterministic=True)


_NO_ESCAPE: Final = object()


def _like(pattern: Any, text: Any, escape: Any = _NO_ESCAPE) -> bool | None:
    if pattern is None or text is None or escape is None:
        return None
    if isinstance(pattern, bytes) or isinstance(text, bytes):
        return False
    told = None if escape is _NO_ESCAPE else _like_text(escape)
    if told is not None and len(told) != 1:
        raise exc.OperationalError("ESCAPE expression must be a single character")
    return bool(like_pattern(_like_text(pattern), told, False).matches(_like_text(text)))


def _like_text(value: Any) -> str:
    text: str = apply_affinity(value, "TEXT")
    return text.split("\0", 1)[0]


def guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that SQL calls, whose errors come out of the statement as one of PEP 249's."""

    def call(*args: Any) -> Any:
        try:
            value = function(*args)
        except (exc.Error, MemoryError):
            raise
        except Exception as error:
            raise exc.OperationalError(
                f"the function {name} raised {type(error).__name__}: {exc.message_of(error)}", function=name
            ) from error
        if not isinstance(value, _VALUES):
            raise exc.OperationalError(
                f"the function {name} gave {value!r:.80} ({type(value).__name__}), which SQL has no type for; give"
                " None, int, float, str or bytes",
                function=name,
            )
        return value

    return call


# ------------------------------------------------------------------------------------------ statements

_REPLACED: Final = {"sum": "kv_sum", "avg": "kv_avg", "total": "kv_total", "abs": "kv_abs"}

_OURS: Final = re.compile(r"\bkv_(sum|avg|total|abs)(?=\s*\()")


def prepared(sql: str, statement: Statement, connection: Connection, params: Any) -> tuple[str, Any, bool]:
    """A statement as SQLite is to run it, its parameters, and whether it must read strictly (see above).

    Args:
        sql: text of the statement, or of a part of it.
        statement: whose identifiers say which tables it names.
        connection: with these tables loaded.
        params: of the text; integers beyond SQL's become the blobs that stand for them.
    """
    catalog = connection.catalog
    names = _wide_names(catalog)
    if not names or names.isdisjoint(statement.identifiers):
        return sql, params, False
    if statement.kind == "explain":  # it calculates nothing, and there is no explanation of one
        return rewritten(sql), params, False
    text, uses = _analysed(sql, connection, {})
    return text, _bound(params, uses.compared), uses.calculates


def prepared_over_rows(
    sql: str, connection: Connection, params: Any, relation: Relation, sources: Mapping[str, str]
) -> tuple[str, Any]:
    """As :func:`prepared`, for a query over the rows that a statement writes: that of RETURNING, or of an upsert.

    Args:
        sql: the query.
        connection: with these rows in its ``rowsets``; it reads strictly from now on if the query calculates.
        params: of the query.
        relation: whose rows they are.
        sources: names of the tables that show the rows, by their slot in ``rowsets``.

    Raises:
        DataError: if SQLite would calculate with a value of a row, and take it for another.
    """
    if not _wide_names(connection.catalog):
        return sql, params
    positions = wide_positions(relation)
    text, uses = _analysed(sql, connection, dict.fromkeys(sources.values(), positions) if positions else {})
    connection.strict_uint64 = uses.calculates
    if uses.calculates:
        for slot in sources:
            for row in connection.rowsets[slot]:
                for at in positions:
                    if isinstance(row[at], bytes):
                        raise incalculable(relation, at, row[at])
    return text, _bound(params, uses.compared)


def incalculable(relation: Relation, position: int, value: bytes) -> exc.DataError:
    """The error for a value of a column that a statement would calculate with by SQLite's own arithmetic."""
    number = wide_from_sql(value)
    column = relation.columns[position].name
    return exc.DataError(
        f"{relation.name}.{column} is {number}, and SQLite cannot calculate with it (its integers end at"
        f" {SIGNED_LIMIT - 1}); write a SQLAlchemy expression on the mapped table, or kv_add, kv_sub, kv_mul, kv_div,"
        " kv_mod, kv_sum and the like",
        table=relation.name, field=column, value=number,
    )  # fmt: skip


def _bound(params: Any, compared: frozenset[int]) -> Any:
    """Parameters with blobs for the integers that SQL has not, and for floats as large that wide integers meet."""
    return [_blob_for(value, at + 1 in compared) for at, value in enumerate(params)] if params else params


def _blob_for(value: Any, compared: bool) -> Any:
    # A float may stand in a column of floats: it is a blob only where it is sure to meet a wide integer.
    return wide_bound(value) if compared or value.__class__ is int else value


def _analysed(sql: str, connection: Connection, sources: Mapping[str, frozenset[int]]) -> tuple[str, Uses]:
    """The text that SQLite is to run, and what it does with wide columns of tables or of ``sources``."""
    catalog = connection.catalog
    known = _prepared.setdefault(connection, {})
    found = known.get(sql)
    if found is None or found[0] is not catalog:
        if len(known) > 2000:
            known.clear()
        text = rewritten(sql)
        columns = {**_wide_columns(text, connection), **sources}
        uses = uses_of(connection.main, _without_blobs(text), columns, _any_parameters(text))
        found = known[sql] = (catalog, text, uses)
    return found[1], found[2]


_prepared: WeakKeyDictionary[Connection, dict[str, tuple[Catalog, str, Uses]]] = WeakKeyDictionary()
_names: WeakKeyDictionary[Catalog, frozenset[str]] = WeakKeyDictionary()


def _wide_names(catalog: Catalog) -> frozenset[str]:
    """The names, in lower case, by which a statement may read a wide column: of tables, and of views as these may."""
    found = _names.get(catalog)
    if found is None:
        tables = {
            folded(entry.definition.sql_name[1]) for entry in catalog.entries.values() if _may_be_wide(entry.definition)
        }
        views = {folded(view.rpartition("\0")[2]) for view in catalog.views} if tables else set()
        found = _names[catalog] = frozenset(tables | views)
    return found


def _wide_columns(sql: str, connection: Connection) -> dict[str, frozenset[int]]:
    """Positions of the wide columns of the tables that a statement reads, itself or by views; by their quoted names."""
    identifiers = {folded(token.name) for token in tokenize(sql) if token.is_name}
    through_views = bool(connection.catalog.views)
    columns = {}
    for entry in connection.catalog.entries.values():
        definition = entry.definition
        schema, name = definition.sql_name
        if definition.name not in connection.shadow.loaded or not _may_be_wide(definition):
            continue
        if through_views or folded(name) in identifiers:
            columns[f"{quoted(schema)}.{quoted(name)}"] = wide_positions(connection.shadow.relation_of(entry))
    return columns


def _may_be_wide(definition: TableDefinition) -> bool:
    """Whether a table may have a wide column: one of records by its kinds, one of SQL by what was declared."""
    if definition.statement is not None:
        return WIDE_TYPE in definition.statement.upper()
    return any(wide(field.kind) for field in definition.fields)


def wide_positions(relation: Relation) -> frozenset[int]:
    """The columns of a table that SQL sees as blobs from ``2**63`` on."""
    return frozenset(at for at, column in enumerate(relation.columns) if column.declared.upper() == WIDE_TYPE)


def _without_blobs(sql: str) -> str:
    """A statement with another blob in the place of each that is written in it: EXPLAIN would show them as text."""
    parts = []
    done = 0
    for token in tokenize(sql):
        if token.kind == "blob":
            parts += [sql[done : token.start], "zeroblob(8)"]
            done = token.end
    return "".join([*parts, sql[done:]])


def _any_parameters(sql: str) -> Any:
    """NULL for each parameter of a statement."""
    marks = [token.text for token in tokenize(sql) if token.kind == "parameter"]
    if any(mark[0] != "?" for mark in marks):
        return {mark[1:]: None for mark in marks}
    numbers = [int(mark[1:]) for mark in marks if len(mark) > 1]
    return [None] * max([len(marks), *numbers]) or None


def column_name(name: str, sql: str) -> str:
    """The name of a result's column as ``sql`` was written: what was ``sum(x)`` there, SQLite names ``kv_sum(x)``."""
    return name if "kv_" in sql.lower() else _OURS.sub(r"\1", name)


def rewritten(sql: str) -> str:
    """A statement with our functions in the place of SQLite's, and wide integers as the blobs that they stand for.

    Written as a number, 18000000000000000000 would be a float.
    """
    found = tokenize(sql)
    parts = []
    done = 0
    for at, token in enumerate(found):
        text = None
        before = found[at - 1].text if at else ""
        if token.kind == "name" and folded(token.text) in _REPLACED and before != ".":
            if at + 1 < len(found) and found[at + 1].text == "(":
                text = _REPLACED[folded(token.text)]
        elif token.kind == "number" and before != "-" and token.text.isdigit():
            value = int(token.text)
            if SIGNED_LIMIT <= value < UNSIGNED_LIMIT:
                text = f"X'{value.to_bytes(8).hex()}'"
        if text is not None:
            parts += [sql[done : token.start], text]
            done = token.end
    return "".join([*parts, sql[done:]])
