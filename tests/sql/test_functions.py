"""SQL functions of our own, against SQLite's for what SQLite calculates with."""

from __future__ import annotations

import math

import apsw
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvdialect import exc
from kvdialect.dialect import functions

WIDE = 2**63
numbers = st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9) | st.floats(allow_nan=False)
texts = st.sampled_from(["", "1", " -2 ", "2.50", "1e3", "12abc", "abc", "0x10", "9223372036854775808", ".5", "1.e2"])
values = st.none() | numbers | texts | texts.map(str.encode) | st.binary(max_size=9).filter(lambda raw: len(raw) != 8)
pairs = st.tuples(values, values)


def blob(number):
    """An integer as SQL sees it."""
    return number if number < WIDE else number.to_bytes(8)


def number(seen):
    return int.from_bytes(seen) if isinstance(seen, bytes) else seen


@pytest.fixture(scope="module")
def db():
    """A database with the functions."""
    opened = apsw.Connection(":memory:")
    functions.register(opened)
    yield opened
    opened.close()


def result(db, sql, parameters=()):
    """The value of an expression, or the words of its error."""
    try:
        [(value,)] = db.execute(f"select {sql}", parameters).fetchall()
    except (apsw.SQLError, exc.DataError) as error:
        if "integer overflow" not in str(error):
            raise
        return "integer overflow"
    return value


def listed(column):
    """A subquery whose column ``a`` has as many rows as there are parameters for."""
    return "(select null as a where 0" + "".join(" union all select ?" for _ in column) + ")"


def same(ours, theirs):
    """Whether two results are the same, -0.0 and 0.0 and the type of numbers told apart."""
    return type(ours) is type(theirs) and (ours == theirs and str(ours) == str(theirs))


# ------------------------------------------------------------------------------------------ as SQLite's own


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("kv_add(?1, ?2)", "?1 + ?2"),
        ("kv_sub(?1, ?2)", "?1 - ?2"),
        ("kv_mul(?1, ?2)", "?1 * ?2"),
        ("kv_div(?1, ?2)", "?1 / ?2"),
        ("kv_truediv(?1, ?2)", "?1 / (?2 + 0.0)"),
    ],
)
@given(pair=pairs)
def test_arithmetic_on_other_values_is_sqlites(db, ours, theirs, pair):
    """All but integers beyond 63 bits: where SQLite's result of integers is a float, ours is the exact integer."""
    expected = result(db, theirs, pair)
    found = result(db, ours, pair)

    if isinstance(expected, float) and not isinstance(found, float):
        # SQLite's own integers have overflowed into a float.
        assert found == "integer overflow" or float(number(found)) == expected
    else:
        assert same(found, expected)


@given(pair=pairs)
@example(pair=(-7, 2))
@example(pair=(-(2**63), -1))
@example(pair=(7.9, -2.9))
def test_remainders_of_other_values_are_sqlites(db, pair):
    """The sign is the dividend's, and fractions are dropped before."""
    assert same(result(db, "kv_mod(?1, ?2)", pair), result(db, "?1 % ?2", pair))


@given(value=values.filter(lambda value: value != -(2**63)))
def test_signs_of_other_values_are_sqlites(db, value):
    """abs() and the minus in front of a value."""
    assert same(result(db, "kv_abs(?)", (value,)), result(db, "abs(?)", (value,)))
    assert same(result(db, "kv_neg(?)", (value,)), result(db, "-?", (value,)))


@pytest.mark.parametrize("name", ["sum", "avg", "total"])
@given(column=st.lists(values, max_size=8))
@example(column=[1e100, 1.0, -1e100])
@example(column=[0.1] * 10)
@example(column=[2**62, 0.5, 2**62, 2**62])
@example(column=[math.inf, 1, -math.inf])
@example(column=[9_223_372_036_854_771_714, 0.01, -9_223_372_036_854_773_659])
def test_aggregates_of_other_values_are_sqlites(db, name, column):
    """To the last bit of a float: the errors of rounding are kept as SQLite keeps them."""
    rows = listed(column)

    expected = result(db, f"{name}(a) from {rows}", column)
    found = result(db, f"kv_{name}(a) from {rows}", column)

    if expected == "integer overflow" or (name != "sum" and sum_overflows(column)):
        # Ours adds exactly, and so can come back into the range, or go beyond it by one bit.
        assert found == "integer overflow" or number(found) == pytest.approx(exact(column, name), rel=1e-12)
    else:
        assert same(found, expected)


def summands(column):
    return [functions.summand(value) for value in column if value is not None]


def sum_overflows(column):
    total = 0
    for value in summands(column):
        if isinstance(value, float):
            return False
        total += value
        if not -WIDE <= total < WIDE:
            return True
    return False


def exact(column, name):
    found = summands(column)
    return sum(found) / (len(found) if name == "avg" else 1)


@given(column=st.lists(st.none() | st.integers(-100, 100) | st.floats(-100, 100), min_size=1, max_size=12))
def test_windows_are_sqlites(db, column):
    """Values leave a window as exactly as they came."""
    rows = "(values " + ", ".join(f"({at}, ?)" for at in range(len(column))) + ")"
    over = "over (order by column1 rows between 2 preceding and current row)"

    ours = db.execute(f"select kv_sum(column2) {over}, kv_avg(column2) {over} from {rows}", column).fetchall()
    theirs = db.execute(f"select sum(column2) {over}, avg(column2) {over} from {rows}", column).fetchall()

    assert ours == theirs


# ------------------------------------------------------------------------------------------ wide integers

wide_numbers = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, WIDE - 1, WIDE, 2**64 - 1])


@given(left=wide_numbers, right=wide_numbers)
def test_arithmetic_on_wide_integers_is_exact(db, left, right):
    """The result of Python's integers, or an error where 64 bits do not hold it."""
    expected = {
        "kv_add(?1, ?2)": left + right,
        "kv_sub(?1, ?2)": left - right,
        "kv_mul(?1, ?2)": left * right,
        "kv_div(?1, ?2)": left // right if right else None,
        "kv_mod(?1, ?2)": left % right if right else None,
        "kv_neg(?1)": -left,
        "kv_abs(?1)": left,
        "max(?1, ?2)": max(left, right),
    }
    for sql, value in expected.items():
        parameters = (blob(left), blob(right)) if "?2" in sql else (blob(left),)
        found = result(db, sql, parameters)
        in_range = value is None or -WIDE <= value < 2 * WIDE
        assert found == (("integer overflow") if not in_range else value if value is None else blob(value)), sql


@given(column=st.lists(st.none() | wide_numbers, min_size=1, max_size=6))
def test_sums_of_wide_integers_are_exact(db, column):
    """An integer, a blob from 2**63 on, and beyond 64 bits an error; averages and totals are floats."""
    rows = "(values " + ", ".join("(?)" for _ in column) + ")"
    seen = [None if value is None else blob(value) for value in column]
    given_ = [value for value in column if value is not None]
    total = sum(given_)

    found = result(db, f"kv_sum(column1) from {rows}", seen)

    assert found == (None if not given_ else "integer overflow" if total >= 2**64 else blob(total))
    assert result(db, f"kv_total(column1) from {rows}", seen) == float(total)
    assert result(db, f"kv_avg(column1) from {rows}", seen) == (float(total) / len(given_) if given_ else None)


def test_an_overflow_says_what_the_sum_is(db):
    """DataError, with the number that does not fit."""
    with pytest.raises(exc.DataError, match="integer overflow: 36893488147419103230 is not between") as caught:
        db.execute("select kv_sum(column1) from (values (?), (?))", (blob(2**64 - 1),) * 2).fetchall()

    assert caught.value.value == 2 * (2**64 - 1)


def test_regexp_is_pythons(db):
    """As the dialect for SQLite gives it: a search, NULL for NULL."""
    rows = db.execute("select 'kvdialect' regexp 'd.a', 'kvdialect' regexp '^d', null regexp 'x'").fetchall()

    assert rows == [(1, 0, None)]


def test_regexp_replace_is_pythons(db):
    """All matches are replaced, NULL for NULL."""
    replaced = "select regexp_replace('kvdialect', '(d|c)', '<\\1>'), regexp_replace(null, 'x', 'y')"

    assert db.execute(replaced).fetchall() == [("kv<d>iale<c>t", None)]
