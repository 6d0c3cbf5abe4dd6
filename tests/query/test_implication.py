"""What is said to follow from conditions does: partial indexes lose no row."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kvdialect.query.implication import implies
from kvdialect.schema.expressions import (
    And,
    Column,
    Compare,
    Constant,
    Expression,
    In,
    Like,
    Not,
    Or,
    compile_predicate,
)

NAMES = ("a", "b", "g")
values = st.integers(-1, 2)
operators = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
simple = (
    st.builds(Compare, operators, st.sampled_from([Column("a"), Column("b")]), st.builds(Constant, values | st.none()))
    | st.builds(Compare, operators, st.builds(Constant, values), st.sampled_from([Column("a"), Column("b")]))
    | st.builds(Compare, st.sampled_from(["is", "is not"]), st.sampled_from([Column("a"), Column("b")]),
                st.builds(Constant, values | st.none()))
    | st.builds(In, st.just(Column("a")), st.lists(st.builds(Constant, values | st.none()), max_size=3).map(tuple))
    | st.sampled_from([Column("g"), Not(Column("g")), Compare("=", Column("g"), Constant(True)),
                       Compare("=", Column("g"), Constant(False)), Compare("is", Column("g"), Constant(True))])
)  # fmt: skip
conditions = st.recursive(
    simple,
    lambda parts: (
        st.builds(And, st.lists(parts, min_size=1, max_size=3).map(tuple))
        | st.builds(Or, st.lists(parts, min_size=1, max_size=3).map(tuple))
        | st.builds(Not, parts)
    ),
    max_leaves=5,
)
rows = [(a, b, g) for a in (-1, 0, 1, 2, None) for b in (-1, 0, 1, 2, None) for g in (True, False, None)]


@given(known=st.lists(conditions, max_size=3), wanted=conditions)
@settings(max_examples=600)
def test_what_is_implied_holds(known, wanted):
    """Of every row for which all conditions are true, what they imply is true."""
    if implies(known, wanted):
        tests = [compile_predicate(condition, NAMES) for condition in known]
        holds = compile_predicate(wanted, NAMES)
        for row in rows:
            assert holds(row, ()) or not all(test(row, ()) for test in tests)


def eq(name: str, value: object) -> Expression:
    return Compare("=", Column(name), Constant(value))


def test_what_should_be_seen_is_seen():
    """The common cases are found: the same condition, not null, ranges, lists, booleans either way."""
    is_null = Compare("is", Column("a"), Constant(None))
    not_null = Compare("is not", Column("a"), Constant(None))
    assert implies([is_null, eq("b", 1)], is_null)
    assert implies([eq("a", 1)], not_null)
    assert implies([Compare(">", Column("a"), Constant(1))], not_null)
    assert implies([Like(Column("a"), Constant("x%"))], not_null)
    assert implies([Not(is_null)], not_null)
    assert implies([Compare(">", Column("a"), Constant(5))], Compare(">", Column("a"), Constant(3)))
    assert implies([Compare(">=", Column("a"), Constant(5))], Compare(">", Column("a"), Constant(3)))
    assert implies([eq("a", 5)], Compare(">=", Column("a"), Constant(5)))
    assert implies([eq("a", 5)], In(Column("a"), (Constant(5), Constant(6))))
    assert implies([In(Column("a"), (Constant(5), Constant(6)))], Compare("<", Column("a"), Constant(7)))
    assert implies([Column("g")], Compare("=", Column("g"), Constant(True)))
    assert implies([Compare("is", Column("g"), Constant(True))], Column("g"))
    assert implies([eq("a", 1), eq("b", 2)], And((eq("b", 2), eq("a", 1))))
    assert implies([eq("a", 1)], Or((eq("a", 1), eq("b", 2))))
    assert implies([Or((eq("a", 1), eq("a", 2)))], Compare("<", Column("a"), Constant(3)))
    assert implies([], None)
    assert not implies([Compare(">", Column("a"), Constant(3))], Compare(">", Column("a"), Constant(5)))
    assert not implies([eq("b", 1)], is_null)
