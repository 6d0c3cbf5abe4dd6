"""Expressions mean what SQLite means by them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdialect import exc
from kvdialect.schema.expressions import (
    DEEPEST,
    And,
    Arithmetic,
    Call,
    Case,
    Column,
    Compare,
    Constant,
    Expression,
    In,
    Like,
    Negative,
    Not,
    Or,
    Parameter,
    StartsWith,
    columns_of,
    compile_predicate,
    compile_value,
    excludes_null,
)
from kvdialect.schema.functions import Choices, LikePattern

NAMES = ("a", "b", "f", "s", "t", "g")
NULLABLE = {"b", "f", "s"}

ints = st.integers(-6, 6)
floats = st.sampled_from([-2.5, -1.0, -0.5, 0.0, 0.5, 1.5, 2.0, 7.25])
texts = st.text(alphabet="abAB%_é", max_size=4)
rows = st.tuples(ints, ints | st.none(), floats | st.none(), texts | st.none(), texts, st.booleans())


def sql(expression: Expression, values: list[Any]) -> str:
    """An expression as SQL text, its constants appended to ``values``."""

    def one(part: Expression) -> str:
        return sql(part, values)

    match expression:
        case Column(name):
            return name
        case Constant(value):
            values.append(value)
            return "?"
        case Compare(operator, left, right):
            return f"({one(left)} {operator} {one(right)})"
        case And(parts):
            return f"({' AND '.join(map(one, parts))})"
        case Or(parts):
            return f"({' OR '.join(map(one, parts))})"
        case Not(part):
            return f"(NOT {one(part)})"
        case In(left, options):
            assert isinstance(options, tuple)
            return f"({one(left)} IN ({', '.join(map(one, options))}))"
        case Like(left, pattern, escape, folded):
            left_sql, pattern_sql = one(left), one(pattern)
            if folded:
                left_sql, pattern_sql = f"lower({left_sql})", f"lower({pattern_sql})"
            ending = f" ESCAPE '{escape}'" if escape else ""
            return f"({left_sql} LIKE {pattern_sql}{ending})"
        case StartsWith(left, prefix):
            left_sql, prefix_sql, again = one(left), one(prefix), one(prefix)
            return f"(substr({left_sql}, 1, length({prefix_sql})) = {again})"
        case Arithmetic("/", left, right):
            return f"({one(left)} / ({one(right)} + 0.0))"
        case Arithmetic("//", left, right):
            return f"({one(left)} / {one(right)})"
        case Arithmetic(operator, left, right):
            return f"({one(left)} {operator} {one(right)})"
        case Negative(part):
            return f"(- {one(part)})"
        case Call("coalesce", (only,)):
            return one(only)
        case Call(function, arguments):
            return f"{function}({', '.join(map(one, arguments))})"
        case Case(branches, otherwise):
            whens = " ".join(f"WHEN {one(when)} THEN {one(then)}" for when, then in branches)
            return f"CASE {whens} ELSE {one(otherwise)} END"
    raise AssertionError(expression)


def branching(children: st.SearchStrategy[Expression], conditions: st.SearchStrategy[Expression]) -> Any:
    return st.builds(
        Case, st.lists(st.tuples(conditions, children), min_size=1, max_size=2).map(tuple), children
    ) | st.builds(Call, st.just("coalesce"), st.lists(children, min_size=1, max_size=3).map(tuple))


int_leaves = st.sampled_from([Column("a"), Column("b")]) | st.builds(Constant, ints | st.none())
text_leaves = st.sampled_from([Column("s"), Column("t")]) | st.builds(Constant, texts | st.none())


def int_values(conditions: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.recursive(
        int_leaves,
        lambda children: (
            st.builds(Arithmetic, st.sampled_from(["+", "-", "*", "//", "%"]), children, children)
            | st.builds(Negative, children)
            | st.builds(lambda part: Call("abs", (part,)), children)
            | st.builds(lambda one, other: Call("nullif", (one, other)), children, children)
            | branching(children, conditions)
        ),
        max_leaves=4,
    )


def text_values(conditions: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.recursive(
        text_leaves,
        lambda children: (
            st.builds(Arithmetic, st.just("||"), children, children)
            | st.builds(lambda name, part: Call(name, (part,)), st.sampled_from(["lower", "upper"]), children)
            | st.builds(lambda *parts: Call("substr", parts), children, st.builds(Constant, ints))
            | st.builds(lambda *p: Call("substr", p), children, st.builds(Constant, ints), st.builds(Constant, ints))
            | branching(children, conditions)
        ),
        max_leaves=4,
    )


numbers = (
    int_leaves
    | st.builds(Constant, floats)
    | st.just(Column("f"))
    | st.builds(Arithmetic, st.sampled_from(["+", "-", "*", "/"]), int_leaves, int_leaves | st.just(Column("f")))
)
comparison = st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "is", "is not"])


def extend(conditions: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    integers, strings = int_values(conditions), text_values(conditions)
    return (
        st.builds(And, st.lists(conditions, min_size=1, max_size=3).map(tuple))
        | st.builds(Or, st.lists(conditions, min_size=1, max_size=3).map(tuple))
        | st.builds(Not, conditions)
        | st.builds(Compare, comparison, integers, integers)
        | st.builds(Compare, comparison, strings, strings)
        | st.builds(Compare, comparison, conditions, conditions)
        | st.builds(In, integers, st.lists(integers | int_leaves, max_size=3).map(tuple))
        | st.builds(Like, strings, strings, st.sampled_from([None, "%", "a"]))
    )


base = (
    st.builds(Compare, comparison, numbers, numbers)
    | st.builds(Compare, comparison, text_leaves, text_leaves)
    | st.builds(In, numbers, st.lists(st.builds(Constant, ints | st.none()), max_size=3).map(tuple))
    | st.builds(In, text_leaves, st.lists(st.builds(Constant, texts | st.none()), max_size=3).map(tuple))
    | st.builds(Like, text_leaves, text_leaves, st.sampled_from([None, "/", "b"]))
    | st.builds(Like, text_leaves, text_leaves, st.none(), st.just(True))
    | st.builds(StartsWith, text_leaves, text_leaves)
    | st.sampled_from([Column("g"), Column("b"), Constant(True), Constant(False), Constant(None)])
)
conditions = st.recursive(base, extend, max_leaves=6)


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA case_sensitive_like=ON")
        connection.execute("CREATE TABLE r (a INTEGER, b INTEGER, f REAL, s TEXT, t TEXT, g INTEGER)")
        yield connection


def ask(database: sqlite3.Connection, row: tuple[Any, ...], expression: Expression) -> Any:
    database.execute("DELETE FROM r")
    database.execute("INSERT INTO r VALUES (?, ?, ?, ?, ?, ?)", row)
    values: list[Any] = []
    text = sql(expression, values)
    return database.execute(f"SELECT {text} FROM r", values).fetchone()[0]  # noqa: S608 - of our own making


@given(condition=conditions, row=rows)
def test_conditions_have_the_truth_values_of_sqlite(database, condition, row):
    """TRUE, FALSE and NULL, as a condition, as a negated one and as a value, are those that SQLite gives."""
    truth = ask(database, row, condition)

    assert compile_predicate(condition, NAMES, NULLABLE)(row, ()) is (truth is not None and truth != 0)
    assert compile_predicate(Not(condition), NAMES, NULLABLE)(row, ()) is (truth is not None and truth == 0)
    assert compile_value(condition, NAMES, NULLABLE)(row, ()) == truth


@given(value=int_values(base) | text_values(base) | numbers, row=rows)
def test_values_are_those_of_sqlite(database, value, row):
    """Arithmetic, text functions, CASE and coalesce give the values that SQLite gives."""
    expected = ask(database, row, value)

    assert compile_value(value, NAMES, NULLABLE)(row, ()) == (
        pytest.approx(expected) if expected is float else expected
    )


@given(condition=conditions, row=rows, column=st.sampled_from(sorted(NULLABLE)))
def test_what_excludes_null_is_never_true_of_a_null(condition, row, column):
    """A predicate that is said to exclude NULL in a column is not true of a row with NULL there."""
    without = tuple(None if name == column else value for name, value in zip(NAMES, row, strict=True))

    if excludes_null(condition, column):
        assert not compile_predicate(condition, NAMES, NULLABLE)(without, ())


@pytest.mark.parametrize(
    ("predicate", "excludes"),
    [
        (Compare("is not", Column("b"), Constant(None)), True),
        (Compare("is", Column("b"), Constant(None)), False),
        (Not(Compare("is", Column("b"), Constant(None))), True),
        (Compare("=", Column("b"), Constant(3)), True),
        (Compare("is", Column("b"), Constant(3)), True),
        (Compare("is not", Column("b"), Constant(3)), False),
        (And((Column("g"), Compare(">", Column("b"), Constant(3)))), True),
        (Or((Column("g"), Compare(">", Column("b"), Constant(3)))), False),
        (Not(Or((Column("g"), Compare(">", Column("b"), Constant(3))))), True),
        (In(Column("b"), (Constant(1),)), True),
        (Not(In(Column("b"), ())), False),
        (Compare("<", Call("coalesce", (Column("b"), Constant(0))), Constant(3)), False),
        (Compare("<", Arithmetic("+", Column("b"), Column("a")), Constant(3)), True),
    ],
)
def test_excludes_null(predicate, excludes):
    """The common predicates of partial indexes are seen through."""
    assert excludes_null(predicate, "b") is excludes


def test_parameters_stand_for_values_lists_and_patterns():
    """A parameter of IN holds Choices, one of LIKE a pattern, any other a value, and None is NULL in each."""
    member = compile_predicate(In(Column("a"), Parameter(0)), ["a"])
    like = compile_predicate(Like(Column("a"), Parameter(0)), ["a"])
    equal = compile_predicate(Compare("=", Column("a"), Parameter(0)), ["a"])

    assert member((3,), [Choices([1, 3])])
    assert not member((None,), [Choices([None])])
    assert like(("abc",), [LikePattern("a%")])
    assert not like(("abc",), [None])
    assert equal((3,), [3])
    assert not equal((None,), [None])


def test_constants_are_never_text_of_the_code():
    """A constant reaches the generated function as an object, whatever its repr is."""

    class Odd(str):
        __slots__ = ()

        def __repr__(self) -> str:
            return "1/0"

    assert compile_predicate(Compare("=", Column("a"), Constant(Odd("x"))), ["a"])(("x",), ())


@pytest.mark.parametrize(
    "wrap",
    [
        Not,
        Negative,
        lambda part: Compare("=", part, Column("b")),
        lambda part: Compare("<", part, Column("b")),
        lambda part: And((part, Column("b"))),
        lambda part: Arithmetic("+", Column("b"), part),
        lambda part: Arithmetic("/", part, Column("b")),
        lambda part: Call("coalesce", (part, Column("b"))),
        lambda part: Call("nullif", (part, Column("b"))),
        lambda part: Call("abs", (part,)),
        lambda part: Case(((part, Column("b")),), Column("b")),
        lambda part: Case(((Column("b"), part),), Column("b")),
        lambda part: Case(((Column("b"), Column("b")),), part),
        lambda part: In(part, (Constant(1),)),
        lambda part: In(Column("a"), (part, Column("a"))),
    ],
)
def test_deep_nesting_compiles_or_is_refused(wrap):
    """However deep an expression is, it is compiled or refused by an error of ours, not by Python's parser."""
    expression: Expression = Column("b")
    compiles = []
    for _ in range(DEEPEST + 10):
        expression = wrap(expression)
        try:
            compile_predicate(expression, ["a", "b"])
            compile_value(expression, ["a", "b"])
        except exc.NotSupportedError:
            compiles.append(False)
        else:
            compiles.append(True)

    assert all(compiles[:15])
    assert not compiles[-1]


def test_columns_of_names_each_column_once():
    """The columns of an expression are given once each, as they appear."""
    expression = And((Compare("=", Column("s"), Column("a")), In(Column("s"), (Column("b"),))))

    assert columns_of(expression) == ("s", "a", "b")
