"""Query results as Arrow tables, and records loaded from them."""

from __future__ import annotations

import datetime as dt
import sys
import uuid
from decimal import Decimal
from typing import Annotated

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from orm_records import Coin, User, coin, coin_id
from orm_records import models as coin_models
from sqlalchemy import BigInteger, String, TypeDecorator, case, cast, delete, func, insert, select, text
from test_every_type import INDEXED, OTHERS, Color, Everything
from test_every_type import models as every_model

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry

pa = pytest.importorskip("pyarrow", reason='needs pip install "kvdialect[arrow]"; the group programs brings it')


@pytest.fixture
def coins():
    """A store with a thousand coins."""
    with create_engine("memory://") as engine:
        coin_models.create_all(engine)
        engine.bulk_load(Coin, map(coin, range(1000)))
        yield engine


@pytest.fixture
def session(coins):
    """A session on them."""
    with Session(coins) as session:
        yield session


@pytest.fixture
def empty():
    """A store with the same tables and no rows."""
    with create_engine("memory://") as engine:
        coin_models.create_all(engine)
        yield engine


# ------------------------------------------------------------------------------------------------ out


def test_a_record_is_the_columns_it_has(session):
    """Each column has the Arrow type of its own type, and says whether it can be NULL."""
    table = session.to_arrow(select(Coin))

    ids = pa.binary(32)
    assert table.schema == pa.schema(
        [
            pa.field("coin_id", ids, nullable=False),
            pa.field("parent_coin_info", ids, nullable=False),
            pa.field("puzzle_hash", ids, nullable=False),
            pa.field("amount", pa.uint64(), nullable=False),
            pa.field("confirmed_height", pa.uint64(), nullable=False),
            pa.field("spent_height", pa.uint64()),
            pa.field("coinbase", pa.bool_(), nullable=False),
            pa.field("timestamp", pa.uint64(), nullable=False),
        ]
    )
    assert table.num_rows == 1000
    table.validate(full=True)


def test_rows_are_those_of_execute(session):
    """Conditions, order and limit hold as in any query."""
    query = select(Coin.coin_id, Coin.amount).where(Coin.confirmed_height > 90).order_by(Coin.amount.desc()).limit(20)

    rows = [tuple(row.values()) for row in session.to_arrow(query).to_pylist()]

    assert rows == [tuple(row) for row in session.execute(query)]
    assert rows[0] == (coin_id(999), 9990)


def test_every_type_goes_out_and_comes_back():
    """A table of a store, loaded into another, gives equal records, whatever their types."""
    spans = st.timedeltas(dt.timedelta(days=-100_000_000), dt.timedelta(days=100_000_000))
    values = {**INDEXED, **OTHERS, "span": spans}
    lists = st.lists(st.fixed_dictionaries({}, optional={n: st.none() | v for n, v in values.items()}), max_size=6)

    with create_engine("memory://") as one, create_engine("memory://") as other:
        every_model.create_all(one)
        every_model.create_all(other)

        @given(rows=lists)
        @settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])  # 28 columns take a while to make up
        def check(rows):
            for engine in (one, other):
                with Session(engine) as session, session.begin():
                    session.execute(delete(Everything))
            one.bulk_load(Everything, [{"id": n, **row} for n, row in enumerate(rows)])
            with Session(one) as session:
                table = session.to_arrow(select(Everything))
            table.validate(full=True)

            assert other.bulk_load(Everything, table) == len(rows)

            assert shown(other) == shown(one)

        check()


def shown(engine):
    """All records of a store as text, which tells -0.0 from 0.0 and 1 from True."""
    with Session(engine) as session:
        return [repr(row) for row in session.scalars(select(Everything).order_by(Everything.id))]


def test_the_types_of_every_column():
    """What the page of the documentation lists."""
    with create_engine("memory://") as engine:
        every_model.create_all(engine)
        with Session(engine) as session:
            schema = session.to_arrow(select(Everything)).schema

    expected = {
        "i8": pa.int8(), "u16": pa.uint16(), "i64": pa.int64(), "u64": pa.uint64(), "flag": pa.bool_(),
        "real": pa.float64(), "text": pa.string(), "raw": pa.binary(), "fixed": pa.binary(4),
        "naive": pa.timestamp("us"), "aware": pa.timestamp("us", tz="UTC"), "day": pa.date32(),
        "clock": pa.time64("us"), "span": pa.duration("us"), "unique_id": pa.binary(16),
        "money": pa.decimal128(12, 2), "big_money": pa.decimal128(30, 6),
        "color": pa.dictionary(pa.int32(), pa.string()), "data": pa.string(),
        "words": pa.list_(pa.field("item", pa.string(), nullable=False)),
        "sizes": pa.string(), "pair": pa.string(), "point": pa.string(),
    }  # fmt: skip
    assert {name: schema.field(name).type for name in expected} == expected


def test_no_objects_are_made(session):
    """A result of millions of rows leaves the identity map as it was."""
    session.to_arrow(select(Coin))

    assert list(session) == []


def test_pending_changes_are_in_the_table(session):
    """As in any query of the session."""
    session.add(coin(5000))
    session.get_one(Coin, coin_id(1)).amount = 77
    session.delete(session.get_one(Coin, coin_id(2)))

    table = session.to_arrow(select(Coin.coin_id, Coin.amount).where(Coin.amount.in_([77, 20, 50_000])))

    assert sorted(table["amount"].to_pylist()) == [77, 50_000]


def test_a_covering_index_is_all_that_is_read(session):
    """The plan is that of the columns: the index has them all, and no record is fetched."""
    query = select(Coin.confirmed_height, Coin.amount).where(Coin.confirmed_height >= 300)
    reads = []
    txn = session._autobegin()
    multi_get, scan = txn.multi_get, txn.scan
    txn.multi_get = lambda family, keys: reads.append(family) or multi_get(family, keys)
    txn.scan = lambda family, *args, **options: reads.append(family) or scan(family, *args, **options)

    session.to_arrow(query)  # plans
    reads.clear()
    table = session.to_arrow(query)

    assert table.num_rows == 100
    assert set(reads) == {"coin_by_confirmed_height"}


def test_computed_columns_have_types(session):
    """Aggregates and arithmetic: unsigned as long as nothing can be negative, decimals of averages as floats."""
    query = select(
        Coin.coinbase,
        func.count(),
        func.sum(Coin.amount).label("total"),
        func.avg(Coin.amount).label("mean"),
        func.min(Coin.puzzle_hash).label("least"),
        (func.sum(Coin.amount) - 1).label("less"),
    ).group_by(Coin.coinbase)

    table = session.to_arrow(query)

    types = [pa.bool_(), pa.int64(), pa.uint64(), pa.float64(), pa.binary(32), pa.int64()]
    assert table.schema.types == types
    assert table.to_pylist() == [
        {"coinbase": False, "count_1": 1000, "total": 4_995_000, "mean": 4995.0, "least": bytes(32), "less": 4_994_999}
    ]


def test_a_condition_is_a_bool_and_a_factor_makes_floats(session):
    """The type of arithmetic follows from its parameters too: nothing is cut off in silence."""
    query = select((Coin.amount > 15).label("big"), (Coin.amount * 0.25).label("quarter")).order_by(Coin.amount)

    rows = session.to_arrow(query.limit(3)).to_pylist()

    assert rows == [{"big": False, "quarter": 0.0}, {"big": False, "quarter": 2.5}, {"big": True, "quarter": 5.0}]


def test_a_sum_beyond_64_bits_is_refused(session):
    """A wrong number would be worse than none."""
    with pytest.raises(exc.DataError, match="huge has a value that is no uint64 of Arrow"):
        session.to_arrow(select(func.sum(Coin.amount * 10**17).label("huge")))


@pytest.mark.parametrize(
    ("otherwise", "kind", "values"),
    [(0, pa.int64(), [0, 1]), (1.5, pa.float64(), [1.5, 1.0]), (None, pa.int64(), [None, 1])],
)
def test_literals_alone_have_a_type(session, otherwise, kind, values):
    query = select(case((Coin.amount > 15, 1), else_=otherwise).label("x")).order_by(Coin.amount).limit(3)
    column = session.to_arrow(query).column("x")
    assert column.type == kind
    assert column.to_pylist() == [values[0], values[0], values[1]]


def test_a_fraction_that_a_column_of_integers_has_is_refused(session):
    """The cast says that it is one; pyarrow made 1 of 1.5."""
    query = select(func.coalesce(cast(Coin.spent_height, BigInteger), 1.5).label("x")).limit(3)
    assert session.scalars(query).all() == [1.5] * 3
    with pytest.raises(exc.DataError, match="x has a value that is no int64 of Arrow"):
        session.to_arrow(query)


def test_two_columns_of_one_name_are_refused(session):
    """Data frames cannot tell them apart."""
    with pytest.raises(exc.ArgumentError, match=r"several columns named 'amount'.*label"):
        session.to_arrow(select(Coin, Coin.amount))


def test_batches_are_read_as_they_are_asked_for(session):
    """Each has the size that was asked for, the last what is left; those not asked for are not read."""
    reader = session.arrow_batches(select(Coin), batch_size=300)

    assert [batch.num_rows for batch in reader] == [300, 300, 300, 100]


def test_batches_end_with_the_transaction(session):
    """What a reader gives is of one moment: without its snapshot it gives nothing more."""
    reader = session.arrow_batches(select(Coin), batch_size=10)
    reader.read_next_batch()

    session.rollback()

    with pytest.raises(exc.StoreClosed, match="transaction that this result is read in is over"):
        reader.read_all()


def test_dictionaries_of_batches_are_the_same():
    """An enum's codes mean the same in every batch of a stream."""
    with create_engine("memory://") as engine:
        every_model.create_all(engine)
        colors = [Color.red, Color.green, None, Color.blue]
        engine.bulk_load(Everything, [{"id": n, "color": color} for n, color in enumerate(colors)])
        with Session(engine) as session:
            query = select(Everything.color).order_by(Everything.id)
            batches = list(session.arrow_batches(query, batch_size=1))

    assert [batch.column(0).to_pylist() for batch in batches] == [["red"], ["green"], [None], ["blue"]]
    assert {tuple(batch.column(0).dictionary.to_pylist()) for batch in batches} == {("blue", "green", "red")}


@pytest.mark.parametrize("size", [0, -1, "10", 1.5])
def test_a_batch_has_at_least_a_row(session, size):
    """What is no number of rows is refused, not taken for another."""
    with pytest.raises(exc.ArgumentError, match="batch_size"):
        session.arrow_batches(select(Coin), batch_size=size)


@pytest.mark.parametrize("statement", [text("select 1"), insert(Coin), Coin.__table__.delete(), "select 1"])
def test_what_gives_no_typed_columns_is_refused(session, statement):
    """The message says to give a select()."""
    with pytest.raises(exc.ArgumentError, match=r"select\(|select\(\.\.\.\)"):
        session.to_arrow(statement)


def test_a_join_comes_through_the_sql_door(session):
    """With the types that SQLAlchemy gives the columns."""
    pytest.importorskip("apsw", reason='needs pip install "kvdialect[sql]"')
    parent = Coin.__table__.alias()
    query = (
        select(Coin.coin_id, parent.c.amount.label("of_parent"), cast(Coin.amount, String).label("shown"))
        .join(parent, parent.c.coin_id == Coin.parent_coin_info)
        .where(Coin.amount == 9990)
    )

    table = session.to_arrow(query)

    assert table.schema.types == [pa.binary(32), pa.uint64(), pa.string()]
    assert table.to_pylist() == [{"coin_id": coin_id(999), "of_parent": 4990, "shown": "9990"}]


def test_data_frames_of_pandas_and_polars(session):
    """Both take the table as it is."""
    pytest.importorskip("pandas", reason="the group programs brings pandas")
    polars = pytest.importorskip("polars", reason="the group programs brings polars")
    table = session.to_arrow(select(Coin))

    assert table.to_pandas()["amount"].sum() == 4_995_000
    assert polars.from_arrow(table)["amount"].sum() == 4_995_000


# ------------------------------------------------------------------------------------------------ in


@pytest.mark.parametrize("form", ["table", "batch", "reader", "pandas", "polars"])
def test_whatever_is_an_arrow_stream_is_loaded(session, empty, form):
    """By the protocol alone: the library names no data frame."""
    query = select(Coin).where(Coin.amount < 3000)
    table = session.to_arrow(query)
    match form:
        case "table":
            stream = table
        case "batch":
            (stream,) = table.to_batches()
        case "reader":
            stream = session.arrow_batches(query, batch_size=7)
        case "pandas":
            pytest.importorskip("pandas", reason="the group programs brings pandas")
            stream = table.to_pandas()  # spent_height, all NULL, is a column of floats there
        case _:
            stream = pytest.importorskip("polars", reason="the group programs brings polars").from_arrow(table)

    assert empty.bulk_load(Coin, stream, batch_size=64) == 300

    with Session(empty) as other:
        assert other.to_arrow(select(Coin)).equals(table)


def test_integers_with_gaps_come_back_from_floats(empty):
    """What pandas makes floats of: those that are whole are integers again."""
    rows = [coin(1, spent_height=5), coin(2)]
    ids = [row.coin_id for row in rows]
    table = pa.table(
        {
            "coin_id": ids, "parent_coin_info": ids, "puzzle_hash": ids, "amount": [1.0, 2.0],
            "confirmed_height": [1, 1], "spent_height": [5.0, None],
        }
    )  # fmt: skip

    empty.bulk_load(Coin, table)

    with Session(empty) as session:
        assert session.scalars(select(Coin.spent_height).order_by(Coin.coin_id)).all() == [5, None]


def test_absent_columns_have_their_defaults_and_ids_are_given(empty):
    """As with rows that are dicts."""
    empty.bulk_load(User, pa.table({"name": ["a", "b"]}))

    with Session(empty) as session:
        assert session.execute(select(User.id, User.name, User.tags)).all() == [(1, "a", []), (2, "b", [])]


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("amount", [1, -1], "amount.*is -1 .*allowed"),
        ("amount", [1.0, 1.5], r"amount.*is 1.*float"),
        ("amount", ["1", "2"], r"amount.*'1' \(str\)"),
        ("amount", [1, None], "amount.*None"),
        ("puzzle_hash", [b"short", bytes(32)], "puzzle_hash.*short.*exactly 32 bytes"),
        ("coinbase", [1, 0], "coinbase.*a bool"),
    ],
)
def test_what_does_not_fit_its_column_is_refused(session, empty, column, values, words):
    """DataError naming record, field, value and what is allowed; nothing of the batch is stored."""
    table = session.to_arrow(select(Coin).limit(2))
    table = table.set_column(table.schema.get_field_index(column), column, pa.array(values))

    with pytest.raises(exc.DataError, match=words):
        empty.bulk_load(Coin, table)

    with Session(empty) as other:
        assert other.scalar(select(func.count()).select_from(Coin)) == 0


def test_times_finer_than_microseconds_are_refused_and_others_are_not():
    """A nanosecond more would be lost; whole microseconds are what pandas often has in nanoseconds."""
    with create_engine("memory://") as engine:
        every_model.create_all(engine)
        exact = pa.array([1_000], pa.timestamp("ns"))
        engine.bulk_load(Everything, pa.table({"id": [1], "naive": exact}))
        with Session(engine) as session:
            assert session.get_one(Everything, 1).naive == dt.datetime(1970, 1, 1, 0, 0, 0, 1)  # noqa: DTZ001
        with pytest.raises((exc.DataError, exc.ArgumentError), match="naive"):
            engine.bulk_load(Everything, pa.table({"id": [2], "naive": pa.array([1_001], pa.timestamp("ns"))}))


BEYOND = [
    ("clock", pa.time64("ns"), 1999, "finer than microseconds"),
    ("clock", pa.time64("us"), 86_400_000_000, "beyond what Python has"),
    ("clock", pa.time32("s"), -1, "beyond what Python has"),
    ("naive", pa.timestamp("ns"), 1999, "finer than microseconds"),
    ("span", pa.duration("ns"), -1, "finer than microseconds"),
    ("day", pa.date32(), 2**30, "beyond what Python has"),
    ("day", pa.date64(), 1, "no whole days"),
    ("naive", pa.timestamp("s"), 2**50, "beyond what Python has"),
    ("naive", pa.timestamp("us"), -(2**62), "beyond what Python has"),
    ("aware", pa.timestamp("us", "UTC"), 2**62, "beyond what Python has"),
    ("aware", pa.timestamp("s", "America/New_York"), 2**50, "beyond what Python has"),
    ("span", pa.duration("s"), 2**62, "beyond what Python has"),
]


@pytest.mark.parametrize(("column", "type_", "number", "words"), BEYOND)
def test_what_python_has_no_value_for_is_refused(column, type_, number, words):
    """It was cut or wrapped without a word, or an OverflowError; the message names row and column."""
    numbers = pa.array([0, None, number, number, 0], pa.int32() if type_.bit_width == 32 else pa.int64())
    table = pa.table({"id": range(5), column: numbers.cast(type_)})
    with create_engine("memory://") as engine:
        every_model.create_all(engine)

        with pytest.raises(
            exc.DataError, match=f"everything.{column} in row 3 is {number} .*{words}; allowed"
        ) as error:
            engine.bulk_load(Everything, table, batch_size=2)

        assert (error.value.field, error.value.row) == (column, 3)
        with Session(engine) as session:
            assert session.scalars(select(Everything.id).order_by(Everything.id)).all() == [0, 1], "a batch is whole"


def test_times_within_lists_and_dictionaries_are_exact_too():
    """A dictionary's value that no row has is no obstacle."""
    models = registry()

    @mapped(models)
    class Clock:
        """A record with times in a list."""

        __tablename__ = "clocks"
        id: Mapped[int] = field(primary_key=True)
        clock: Mapped[dt.time | None] = None
        clocks: Mapped[list[dt.time] | None] = None
        named: Mapped[dict[str, dt.time] | None] = None

    ns = pa.time64("ns")
    with create_engine("memory://") as engine:
        models.create_all(engine)
        for name, array in {
            "clocks": pa.array([[1000], [1000, 1001]], pa.list_(ns)),
            "clock": pa.array([1000, 1001], ns).dictionary_encode(),
            "named": pa.array([{"a": 1000}, {"a": 1001}], pa.struct([("a", ns)])),
        }.items():
            with pytest.raises(exc.DataError, match=f"clocks.{name} in row 2 is a value of .*finer than microseconds"):
                engine.bulk_load(Clock, pa.table({"id": [1, 2], name: array}))
            engine.bulk_load(Clock, pa.table({"id": [1], name: array.slice(0, 1)}))
            with Session(engine) as session, session.begin():
                found = session.scalars(select(getattr(Clock, name))).one()
                session.execute(delete(Clock))
            assert found in (dt.time(microsecond=1), [dt.time(microsecond=1)], {"a": dt.time(microsecond=1)})


def test_the_ends_of_pythons_years_are_taken_in_any_zone():
    """The moment in UTC counts: that in the zone of the column may lie in year 0, or the zone be unknown here."""
    first = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
    last = dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)
    utc = pa.array([first, last], pa.timestamp("us", "UTC"))
    for zone in ("America/New_York", "Asia/Tokyo", "No/Where"):
        with create_engine("memory://") as engine:
            every_model.create_all(engine)
            engine.bulk_load(Everything, pa.table({"id": [1, 2], "aware": utc.cast(pa.timestamp("us", zone))}))
            with Session(engine) as session:
                assert session.scalars(select(Everything.aware).order_by(Everything.id)).all() == [first, last]


def test_text_that_is_no_utf8_is_named(empty):
    """Arrow takes any bytes for text until they are read."""
    names = pa.array([b"a", b"\xff"], pa.binary()).view(pa.string())
    with pytest.raises(exc.DataError, match=r"users.name in row 2 is a value of string, 'utf-8' codec"):
        empty.bulk_load(User, pa.table({"name": names}))


def test_views_of_strings_and_bytes_are_loaded():
    """What polars has."""
    with create_engine("memory://") as engine:
        every_model.create_all(engine)
        views = {"text": pa.array(["a"], pa.string_view()), "raw": pa.array([b"b"], pa.binary_view())}
        engine.bulk_load(
            Everything, pa.table({"id": [1], **views, "words": pa.array([["c"]], pa.list_(pa.string_view()))})
        )
        with Session(engine) as session:
            row = session.get_one(Everything, 1)
            assert (row.text, row.raw, row.words) == ("a", b"b", ["c"])


def test_two_columns_of_one_name_are_not_loaded(empty):
    """One of them was taken."""
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["name", "name"])
    with pytest.raises(exc.ArgumentError, match="several columns are named 'name'"):
        empty.bulk_load(User, table)


def test_a_naive_time_is_no_aware_one():
    """Which moment is meant would be a guess."""
    with create_engine("memory://") as engine:
        every_model.create_all(engine)
        with pytest.raises(exc.DataError, match="aware"):
            engine.bulk_load(Everything, pa.table({"id": [1], "aware": pa.array([0], pa.timestamp("us"))}))


def test_decimals_fit_by_value_not_by_type():
    """A wider decimal type is no obstacle; more digits than the column has are."""
    with create_engine("memory://") as engine:
        every_model.create_all(engine)
        wide = pa.decimal128(38, 10)
        engine.bulk_load(Everything, pa.table({"id": [1], "money": pa.array([Decimal("1.5")], wide)}))
        with pytest.raises(exc.DataError, match="money"):
            engine.bulk_load(Everything, pa.table({"id": [2], "money": pa.array([Decimal("1.005")], wide)}))


def test_uuids_are_bytes_and_may_be_given_as_text():
    """Arrow has no UUIDs that all programs know; data frames often hold them as text."""
    known = uuid.UUID(int=7)
    with create_engine("memory://") as engine:
        every_model.create_all(engine)
        engine.bulk_load(Everything, pa.table({"id": [1, 2], "unique_id": [str(known), None]}))
        with Session(engine) as session:
            assert session.get_one(Everything, 1).unique_id == known
            assert session.to_arrow(select(Everything.unique_id)).to_pylist()[1] == {"unique_id": known.bytes}


def test_a_type_decorator_goes_by_what_it_binds():
    """What it makes of a value has no type that could be known."""
    models = registry()

    class Cents(TypeDecorator):
        """Decimals as a number of cents."""

        impl = BigInteger
        cache_ok = True

        def process_bind_param(self, value, dialect):  # noqa: ARG002 - SQLAlchemy's signature
            return int(value * 100)

        def process_result_value(self, value, dialect):  # noqa: ARG002
            return Decimal(value) / 100

    @mapped(models)
    class Price:
        """A record with such a column."""

        __tablename__ = "prices"
        id: Mapped[int] = field(primary_key=True)
        price: Mapped[Annotated[Decimal, Cents()]]

    with create_engine("memory://") as engine:
        models.create_all(engine)
        engine.bulk_load(Price, pa.table({"id": [1], "price": [250]}))
        with Session(engine) as session:
            assert session.get_one(Price, 1).price == Decimal("2.5")
            assert session.to_arrow(select(Price)).to_pylist() == [{"id": 1, "price": 250}]


def test_an_unknown_column_is_refused_before_anything_is_read(session, empty):
    """The index of a pandas frame, say; the message names it."""
    table = session.to_arrow(select(Coin)).append_column("__index_level_0__", pa.array(range(1000)))

    with pytest.raises(exc.ArgumentError, match=r"no column '__index_level_0__'.*reset_index"):
        empty.bulk_load(Coin, table)


# ------------------------------------------------------------------------------------------------ not installed


def test_without_pyarrow_the_message_says_what_to_install(session, monkeypatch):
    """Everything else works without it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(exc.NotSupportedError, match=r"kvdialect\[arrow\]"):
        session.to_arrow(select(Coin))
