"""Records written at one door and read at the other: the same values, the same order, whole indexes."""

from __future__ import annotations

import operator
import random
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from door_records import ORDERED, Color, Everything, models, plain, rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sql_consistency import check_sql_consistency

from kvdialect import Session, create_engine, exc
from kvdialect.dialect import recordtables
from kvdialect.dialect.dbapi import connect

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from coinstore.chain import read_chain
from coinstore.models import CoinRecord, Hint
from coinstore.models import models as coin_models
from coinstore.store import CoinStore

TABLE = Everything.__table__
NAMES = TABLE.columns.keys()
NOTHING = dict.fromkeys(NAMES)


COMPARISONS = {each: each for each in (operator.eq, operator.ne, operator.lt, operator.ge)}
COMPARISONS[lambda column, value: column.in_([value, value])] = operator.eq


@pytest.fixture
def store(engine_name, tmp_path):
    """An open store with the table of every type."""
    url = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store?durability=none"
    with create_engine(url) as opened:
        models.create_all(opened)
        yield opened


@pytest.fixture
def engine(store):
    """SQLAlchemy's engine on the same store."""
    opened = store.sqlalchemy()
    yield opened
    opened.dispose()


@pytest.fixture
def reflected(engine):
    """The table as SQLAlchemy finds it in the store, without the class."""
    return sa.Table("everything", sa.MetaData(), autoload_with=engine)


def examples(engine_name):
    return settings(
        max_examples=25 if engine_name == "memory" else 6,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def write(store, given_rows):
    """Write rows in a Session, in the place of all that were there; as they are read back."""
    with Session(store) as session, session.begin():
        session.execute(sa.delete(Everything))
    with Session(store) as session, session.begin():
        session.add_all([Everything(id=number, **values) for number, values in enumerate(given_rows)])
    return read(store)


def read(store):
    """All rows as the Session reads them."""
    with Session(store) as session:
        found = session.scalars(sa.select(Everything).order_by(Everything.id))
        return [{name: getattr(record, name) for name in NAMES} for record in found]


# ------------------------------------------------------------------------------------------ from the Session to SQL


def test_what_the_session_writes_is_read_as_text(store, engine_name):
    """Each value in the form that SQL has for it."""
    connection = connect(store=store)
    shown = [recordtables.to_sql(field.kind) for field in store.catalog.tables["everything"].definition.fields]

    @given(given_rows=rows)
    @examples(engine_name)
    def check(given_rows):
        written = write(store, given_rows)

        found = connection.execute("select * from everything order by id").fetchall()
        connection.rollback()

        for values, row in zip(written, found, strict=True):
            for (name, value), convert, seen in zip(values.items(), shown, row, strict=True):
                stored = value if name not in ("color", "counted", "point", "points") else plain(name, value)
                assert seen == (stored if stored is None or convert is None else convert(stored)), name

    check()
    connection.close()


def test_what_the_session_writes_core_reads(store, engine, reflected, engine_name):
    """On the mapped class's Table exactly as the Session; on a reflected one without the program's classes."""

    @given(given_rows=rows)
    @examples(engine_name)
    def check(given_rows):
        written = write(store, given_rows)

        with engine.connect() as connection:
            mapped_rows = connection.execute(sa.select(TABLE).order_by(TABLE.c.id)).mappings().all()
            plain_rows = connection.execute(sa.select(reflected).order_by(reflected.c.id)).mappings().all()

        assert [dict(row) for row in mapped_rows] == written
        assert [dict(row) for row in plain_rows] == [
            {name: plain(name, value) for name, value in values.items()} for values in written
        ]

    check()


@pytest.mark.parametrize("name", ORDERED)
def test_conditions_and_order_are_those_of_the_session(store, engine, name, engine_name):
    """Comparisons and ORDER BY find at both doors what Python's own comparison finds."""
    column = TABLE.c[name]

    def key(value):
        return value.name if isinstance(value, Color) else value

    @given(given_values=st.lists(st.none() | ORDERED[name], min_size=1, max_size=6))
    @examples(engine_name)
    def check(given_values):
        written = {row["id"]: row[name] for row in write(store, [{name: value} for value in given_values])}
        known = {number: value for number, value in written.items() if value is not None}
        with engine.connect() as connection:
            for pivot in known.values():
                for compare, holds in COMPARISONS.items():
                    if name == "flag" and compare in (operator.lt, operator.ge):
                        continue  # SQLAlchemy has no order of booleans
                    found = connection.execute(sa.select(TABLE.c.id).where(compare(column, pivot))).scalars().all()
                    wanted = [number for number, value in known.items() if holds(key(value), key(pivot))]
                    assert sorted(found) == wanted, compare
            ordered = connection.execute(sa.select(column).where(column.is_not(None)).order_by(column)).scalars().all()
            assert list(map(key, ordered)) == sorted(map(key, known.values()))
            assert connection.execute(sa.select(TABLE.c.id).where(column.is_(None))).scalars().all() == sorted(
                set(written) - set(known)
            )

    check()


# ------------------------------------------------------------------------------------------ from SQL to the Session


def test_what_core_writes_the_session_reads(store, engine, reflected, engine_name):
    """Inserted through the mapped Table, and through a reflected one; the indexes have their entries."""

    @given(given_rows=rows)
    @examples(engine_name)
    def check(given_rows):
        wanted = write(store, given_rows)
        with engine.begin() as connection:
            connection.execute(TABLE.delete())
            connection.execute(TABLE.insert(), [{**NOTHING, **row} for row in wanted])
        assert read(store) == wanted

        with engine.begin() as connection:
            connection.execute(reflected.delete())
            for row in wanted:
                connection.execute(reflected.insert().values({name: plain(name, row[name]) for name in NAMES}))
        assert read(store) == wanted
        check_sql_consistency(store)

    check()


def test_what_text_writes_the_session_reads(store, engine_name):
    """Values in the form that SQL has for them, inserted row by row and all at once."""
    connection = connect(store=store)
    marks = ", ".join("?" for _ in NAMES)

    @given(given_rows=rows)
    @examples(engine_name)
    def check(given_rows):
        wanted = write(store, given_rows)
        shown = connection.execute("select * from everything order by id").fetchall()
        connection.rollback()
        for insert in (connection.executemany, lambda sql, many: [connection.execute(sql, row) for row in many]):
            connection.execute("delete from everything")
            insert(f"insert into everything values ({marks})", shown)
            connection.commit()
            assert read(store) == wanted
        check_sql_consistency(store)

    check()
    connection.close()


def test_updates_and_deletes_at_the_sql_door_keep_the_indexes(store, engine, engine_name):
    """Each column of some rows takes the value of another row."""

    @given(given_rows=rows, data=st.data())
    @examples(engine_name)
    def check(given_rows, data):
        wanted = {row["id"]: row for row in write(store, given_rows)}
        with engine.begin() as connection:
            for number in list(wanted):
                source = wanted[data.draw(st.sampled_from(sorted(wanted)))]
                names = data.draw(st.lists(st.sampled_from(NAMES[1:]), min_size=1, unique=True))
                change = {name: source[name] for name in names}
                done = connection.execute(TABLE.update().where(TABLE.c.id == number).values(change))
                assert done.rowcount == 1
                wanted[number] = {**wanted[number], **change}
            gone = data.draw(st.sets(st.sampled_from(sorted(wanted))))
            connection.execute(TABLE.delete().where(TABLE.c.id.in_(gone)))

        assert read(store) == [row for number, row in sorted(wanted.items()) if number not in gone]
        check_sql_consistency(store)

    check()


def test_doors_in_turns(store, engine):
    """A hundred transactions at either door, committed or not: both see the same rows after each."""
    rng = random.Random(7)
    table: dict[int, tuple[int, str]] = {}
    statement = sa.select(TABLE.c.id, TABLE.c.u64, TABLE.c.text)
    for _ in range(100):
        changed = dict(table)
        keep = rng.random() < 0.8
        number, amount, text = rng.randrange(12), rng.choice([5, 2**63, 2**64 - 1]), rng.choice("abc")
        if rng.random() < 0.5:
            with Session(store) as session:
                record = session.get(Everything, number)
                if record is None:
                    session.add(Everything(id=number, u64=amount, text=text))
                elif rng.random() < 0.3:
                    session.delete(record)
                else:
                    record.u64, record.text = amount, text
                changed = {**changed, number: (amount, text)}
                if record is not None and record in session.deleted:
                    del changed[number]
                session.commit() if keep else session.rollback()
        else:
            with engine.connect() as connection:
                row = {"id": number, "u64": amount, "text": text}
                if number not in table:
                    connection.execute(TABLE.insert().values(row))
                    changed[number] = (amount, text)
                elif rng.random() < 0.3:
                    connection.execute(TABLE.delete().where(TABLE.c.id == number))
                    del changed[number]
                else:
                    connection.execute(TABLE.update().where(TABLE.c.id == number).values(row))
                    changed[number] = (amount, text)
                connection.commit() if keep else connection.rollback()
        table = changed if keep else table
        with engine.connect() as connection:
            assert {row.id: (row.u64, row.text) for row in connection.execute(statement)} == table
        assert {row["id"]: (row["u64"], row["text"]) for row in read(store)} == table
    check_sql_consistency(store)


def test_a_write_at_the_other_door_is_a_conflict(store, engine):
    """The first to commit wins, whichever its door; the other's error can be retried."""
    write(store, [{"text": "a"}])
    with engine.connect() as connection, Session(store) as session:
        assert connection.execute(sa.select(TABLE.c.text)).scalar_one() == "a"
        session.get_one(Everything, 0).text = "session"
        session.commit()
        connection.execute(TABLE.update().values(text="sql"))

        with pytest.raises(sa.exc.OperationalError) as caught:
            connection.commit()

        assert isinstance(caught.value if isinstance(caught.value, exc.Error) else caught.value.orig, exc.ConflictError)
    assert [row["text"] for row in read(store)] == ["session"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"i8": 128}, r"everything\.i8.* -128 to 127"),
        ({"u64": -1}, r"everything\.u64.*18446744073709551615"),
        ({"fixed": b"abc"}, r"exactly 4 bytes|FixedBinary"),
        ({"text": b"x"}, r"everything\.text"),
        ({"money": "1.234"}, r"everything\.money.*2 behind"),
        ({"day": "tomorrow"}, r"everything\.day.*2024-12-31"),
        ({"color": "mauve"}, r"everything\.color.*blue.*green.*red"),
        ({"words": "[1]"}, r"everything\.words"),
        ({"point": '{"y": 1}'}, r"everything\.point"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_text_that_a_record_does_not_take_is_refused(store, values, told):
    """DataError with the column, the value and what is allowed; the statement leaves nothing behind."""
    connection = connect(store=store)
    [(name, value)] = values.items()

    with pytest.raises(exc.DataError, match=rf"(?s){told}"):
        connection.execute(f"insert into everything (id, {name}) values (1, ?)", (value,))
    connection.commit()
    connection.close()

    assert read(store) == []


# ------------------------------------------------------------------------------------------ the coin store


@pytest.fixture(scope="module")
def blocks():
    """The real coin records, as the blocks that made them."""
    return list(read_chain())


@pytest.fixture
def coins(engine_name, tmp_path):
    """A coin store."""
    url = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/coins?durability=none"
    with create_engine(url) as opened:
        coin_models.create_all(opened)
        yield opened


@pytest.fixture
def filled(coins, blocks):
    """The coin store with the real chain in it."""
    node = CoinStore(coins)
    for block in blocks:
        node.apply_block(block)
    return node


def real_coins(blocks):
    return [(block, addition.coin) for block in blocks for addition in block.additions]


@pytest.mark.usefixtures("filled")
def test_the_real_coins_are_counted_by_sql(coins, blocks):
    """Amounts of 1.8e19 add up exactly, per height and per owner; too large a sum is an error."""
    by_height: dict[int, int] = {}
    by_owner: dict[bytes, int] = {}
    for block, coin in real_coins(blocks):
        by_height[block.height] = by_height.get(block.height, 0) + coin.amount
        by_owner[coin.puzzle_hash] = by_owner.get(coin.puzzle_hash, 0) + coin.amount
    assert max(coin.amount for _, coin in real_coins(blocks)) >= 2**63
    table = CoinRecord.__table__
    total = sa.func.sum(table.c.amount)
    engine = coins.sqlalchemy()
    with engine.connect() as connection:
        fitting = {height: amount for height, amount in by_height.items() if amount < 2**64}
        per_height = sa.select(table.c.confirmed_height, total).group_by(table.c.confirmed_height)
        found = connection.execute(per_height.where(table.c.confirmed_height.in_(fitting)))
        assert dict(list(found)) == fitting
        per_owner = sa.select(table.c.puzzle_hash, total).group_by(table.c.puzzle_hash)
        assert dict(list(connection.execute(per_owner))) == by_owner
        largest = sa.select(table.c.amount).order_by(table.c.amount.desc()).limit(5)
        amounts = sorted((coin.amount for _, coin in real_coins(blocks)), reverse=True)
        assert connection.execute(largest).scalars().all() == amounts[:5]
        half = sa.select(sa.func.count()).where(table.c.amount > 2**63)
        assert connection.execute(half).scalar_one() == sum(amount > 2**63 for amount in amounts)
        more = connection.execute(sa.select(table.c.amount + 1).where(table.c.amount == amounts[0])).scalars().all()
        assert set(more) == {amounts[0] + 1}
        if sum(amounts) >= 2**64:
            with pytest.raises(sa.exc.DataError, match="integer overflow"):
                connection.execute(sa.select(total)).all()
    engine.dispose()


def test_the_coin_store_joins(coins, filled, blocks):
    """Coins with their parents, which no query of the Session says."""
    known = {coin.coin_id: coin for _, coin in real_coins(blocks)}
    wanted = {(coin.coin_id, coin.parent_coin_info) for coin in known.values() if coin.parent_coin_info in known}
    engine = coins.sqlalchemy()
    child, parent = CoinRecord.__table__.alias(), CoinRecord.__table__.alias()
    with engine.connect() as connection:
        found = connection.execute(
            sa.select(child.c.coin_id, parent.c.coin_id).join(parent, child.c.parent_coin_info == parent.c.coin_id)
        )
        assert {tuple(row) for row in found} == wanted
        hints = connection.execute(sa.select(sa.func.count()).select_from(Hint.__table__)).scalar_one()
        assert hints == filled.counters().hints
    engine.dispose()


def test_what_sql_spends_is_spent_in_the_coin_store(coins, filled, blocks):
    """An UPDATE moves the coins between the partial indexes that the store's own questions read."""
    table = CoinRecord.__table__
    first = min(block.height for block, _ in real_coins(blocks))
    height = 10_000
    engine = coins.sqlalchemy()
    with engine.begin() as connection:
        spent = table.c.spent_height.is_(None) & (table.c.confirmed_height <= first + 3)
        done = connection.execute(table.update().where(spent).values(spent_height=height))
    engine.dispose()

    wanted = {coin.coin_id for block, coin in real_coins(blocks) if block.height <= first + 3}
    assert done.rowcount == len(wanted) > 0
    assert {record.coin_id for record in filled.coins_spent(height, height)} == wanted
    for _, coin in real_coins(blocks):
        unspent = filled.coins_by_puzzle_hash(coin.puzzle_hash, include_spent=False)
        assert (coin.coin_id in {record.coin_id for record in unspent}) is (coin.coin_id not in wanted)
    check_sql_consistency(coins)
