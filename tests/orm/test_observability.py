"""What an engine tells of itself: its log, and the figures of ``engine.stats()``."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from pathlib import Path

import pytest
from orm_records import Coin, User, coin, coin_id, models
from sqlalchemy import delete, insert, select, update

from kvdialect import Session, create_engine, exc
from kvdialect.orm.aio import AsyncSession
from kvdialect.storage.figures import BUCKETS, CommitFigures
from kvdialect.store.echo import LoggedTransaction
from kvdialect.store.transaction import Transaction

# ------------------------------------------------------------------------------------------ the log


@pytest.fixture
def said(caplog):
    """The lines that the engine has logged so far, and forgets."""
    caplog.set_level(logging.INFO, "kvdialect.engine")

    def said():
        lines = [record.getMessage() for record in caplog.records if record.name == "kvdialect.engine"]
        caplog.clear()
        return lines

    return said


def test_a_transaction_is_logged(engine, said):
    """Its begin, and its commit with tables, counts, bytes and time, or how it failed; or its rollback."""
    with Session(engine) as session, session.begin():
        session.add_all([coin(1), coin(2)])
    begun, committed = said()
    assert begun == "BEGIN (SNAPSHOT)"
    assert re.fullmatch(r"COMMIT \(coin_records: 10 puts, 0 deletions, \d+ bytes, [\d.]+ ms\)", committed)

    with Session(engine, isolation_level="SERIALIZABLE") as session, session.begin():
        session.delete(session.get(Coin, coin_id(1)))
    begun, committed = said()
    assert begun == "BEGIN (SERIALIZABLE)"
    assert "0 puts, 5 deletions" in committed

    with Session(engine) as session:
        session.add(coin(3))
        session.flush()
        session.rollback()
        session.get(Coin, coin_id(2))
        session.commit()
    assert said() == ["BEGIN (SNAPSHOT)", "ROLLBACK (5 changes)", "BEGIN (SNAPSHOT)", "COMMIT (nothing was written)"]

    with Session(engine) as session:
        session.add(coin(2))
        with pytest.raises(exc.IntegrityError):
            session.commit()
    assert said()[1].startswith("COMMIT failed, not_applied: ")


def test_a_statement_is_logged_with_its_plan(engine, said):
    """Select, insert, update and delete with their parameters; a lookup and a scan."""
    with Session(engine) as session:
        session.add(coin(1))
        session.scalars(select(Coin).where(Coin.puzzle_hash == coin_id(1))).all()
        session.lookup("coin_by_confirmed_height", 0)
        list(session.scan(Coin, reverse=True))
        session.execute(insert(User), [{"name": "a"}, {"name": "b"}])
        session.execute(update(User).where(User.name == "a").values(name="c"))
        session.execute(delete(User).where(User.name == "b"))
    lines = said()
    assert lines[1].startswith("SELECT coin_records.coin_id")
    assert lines[2].startswith("[plan: IndexScan coin_by_puzzle_hash")
    assert repr(coin_id(1)) in lines[2]
    assert lines[3] == "LOOKUP coin_by_confirmed_height (0,)"
    assert lines[4] == "SCAN coin_records (), from None to None, descending"
    assert lines[5].startswith("INSERT INTO users")
    assert lines[6] == "[no plan] '2 rows'"
    assert lines[7].startswith("UPDATE users SET name")
    assert "[plan: " in lines[8]
    assert lines[9].startswith("DELETE FROM users")


def test_debug_logs_reads_and_rows(engine, said, caplog):
    """What is read of which family, and every row of a result."""
    with Session(engine) as session, session.begin():
        session.add_all([coin(1), coin(2)])
    caplog.set_level(logging.DEBUG, "kvdialect.engine")
    said()
    with Session(engine) as session:
        session.get(Coin, coin_id(1))
        session.get_many(Coin, [coin_id(2), coin_id(9)])
        assert session.scalars(select(Coin.amount).order_by(Coin.amount)).all() == [10, 20]
        assert session.execute(select(Coin.amount).where(Coin.coin_id == coin_id(2))).all() == [(20,)]
    lines = said()
    assert re.fullmatch(rf"GET coin_records\[0x{coin_id(1).hex()}\]: \d+ bytes", lines[1])
    assert lines[2] == "GET coin_records: 2 keys, 1 found"
    assert [line for line in lines if line.startswith("Row ")] == ["Row 10", "Row 20", "Row (20,)"]
    assert any(line.startswith("SCAN coin_by_confirmed_height, b'' to the end") for line in lines)


def test_echo_is_the_engines_own(url, capsys, engine_name):
    """``echo=True`` prints, to the standard output, what this engine does and no other."""
    with create_engine(url, echo=True, logging_name=f"mine_{engine_name}") as engine:
        models.create_all(engine)
        with create_engine("memory://") as other:
            models.create_all(other)
            with Session(other) as session, session.begin():
                session.add(coin(1))
            assert "COMMIT" not in capsys.readouterr().out
        with Session(engine) as session, session.begin():
            session.add(coin(1))
        printed = capsys.readouterr().out
        assert f"INFO kvdialect.engine.mine_{engine_name} COMMIT (coin_records: 5 puts" in printed
        assert engine.echo is True
        engine.echo = False
        with Session(engine) as session, session.begin():
            session.add(coin(2))
        assert capsys.readouterr().out == ""
        with pytest.raises(exc.ArgumentError, match="give True, False or 'debug'"):
            create_engine("memory://", echo="loud")
    logging.getLogger(f"kvdialect.engine.mine_{engine_name}").handlers.clear()


def test_the_sql_door_echoes_too():
    """SQLAlchemy's engine on an engine that echoes has its ``echo``."""
    pytest.importorskip("apsw", reason='needs pip install "kvdialect[sql]"')
    with create_engine("memory://", echo="debug") as engine:
        assert engine.sqlalchemy().echo == "debug"
        assert engine.sqlalchemy(echo=False).echo is False
    for name in ("kvdialect.engine", "sqlalchemy.engine.Engine"):
        logging.getLogger(name).handlers.clear()


def test_a_program_that_logs_everything_is_not_flooded():
    """The root logger's level is not the library's: it takes the word of ``kvdialect`` to hear of transactions."""
    assert logging.getLogger("kvdialect").level == logging.WARNING
    assert not logging.getLogger("kvdialect.engine").isEnabledFor(logging.INFO)


def test_the_log_costs_nothing_where_it_is_off(engine):
    """Transactions that do not log are of the plain class, and have no code for it."""
    with Session(engine) as session:
        session.get(Coin, coin_id(1))
        assert type(session.transaction) is Transaction
    engine.echo = True
    try:
        with Session(engine) as session:
            session.get(Coin, coin_id(1))
            assert type(session.transaction) is LoggedTransaction
    finally:
        engine.echo = None
        logging.getLogger("kvdialect.engine").handlers.clear()


# ------------------------------------------------------------------------------------------ the figures


def test_the_figures_of_commits(engine):
    """Batches, their bytes and their times follow what was committed; a refused one is a conflict and no more."""
    before = engine.stats()
    with Session(engine) as session, session.begin():
        session.add(coin(1))
    written = engine.stats()["bytes_written"] - before["bytes_written"]
    for number in range(2, 5):
        with Session(engine) as session, session.begin():
            session.add(coin(number))
    with Session(engine) as session:
        session.add(coin(1))
        with pytest.raises(exc.IntegrityError):
            session.commit()
    after = engine.stats()

    seconds = after["commit_seconds"]
    assert after["batches"] - before["batches"] == 4
    assert seconds["count"] - before["commit_seconds"]["count"] == 4
    assert after["bytes_written"] - before["bytes_written"] == pytest.approx(4 * written, abs=10)
    assert 0 < seconds["max"] <= seconds["sum"]
    assert after["conflicts"] - before["conflicts"] == 1


def test_bytes_written_are_those_of_the_batch(engine, counting):
    """Keys and values that are put, keys that are deleted; not what is only expected."""
    with Session(engine) as session, session.begin():
        session.add(coin(1))
    before = engine.stats()["bytes_written"]
    with Session(engine) as session, session.begin():
        session.get_one(Coin, coin_id(1)).amount = 2**40
    batch = counting.batches[-1]
    size = sum(
        len(key) + (len(change) if isinstance(change, bytes) else 0)
        for changes in batch.changes.values()
        for key, change in changes.items()
    )
    assert engine.stats()["bytes_written"] - before == size


def test_the_histogram_is_cumulative():
    """Each bucket counts what took no longer than its name says, as Prometheus has it."""
    figures = CommitFigures()
    for seconds in (0.00001, 0.0001, 0.0002, 0.3, 99.0):
        figures.add(seconds, 10)

    found = figures.stats()
    buckets = found["commit_seconds"]["buckets"]
    assert [float(name) for name in buckets] == [*BUCKETS, math.inf]
    assert (buckets["0.0001"], buckets["0.00025"], buckets["0.25"], buckets["0.5"], buckets["10"]) == (2, 3, 3, 4, 4)
    assert buckets["+Inf"] == found["commit_seconds"]["count"] == 5
    assert found["commit_seconds"]["max"] == 99.0
    assert found["bytes_written"] == 50


def test_no_commit_of_several_threads_is_missed(engine):
    """Counting is safe between threads."""

    async def main():
        async def add(number):
            async with AsyncSession(engine) as session, session.begin():
                session.add(coin(number))

        await asyncio.gather(*[add(number) for number in range(40)])

    before = engine.stats()["commit_seconds"]["count"]
    asyncio.run(main())
    stats = engine.stats()
    assert stats["commit_seconds"]["count"] - before == 40
    assert stats["asyncio_pool"]["taken"] == stats["asyncio_pool"]["waiting"] == 0
    assert 1 <= stats["asyncio_pool"]["threads"] <= stats["asyncio_pool"]["size"] == 32


NAMES = {
    "engine", "path", "commits", "batches", "conflicts", "bytes_written", "commit_seconds", "live_snapshots",
    "oldest_snapshot_seconds", "schema_version", "tables", "retries", "asyncio_pool",
}  # fmt: skip
OWN = {
    "memory": set(),
    "lmdb": {"map_size", "used_bytes", "readers", "max_readers", "map_growths"},
    "rocksdb": {
        "block_cache_bytes", "memtable_bytes", "used_bytes", "index_and_filter_bytes", "pending_compaction_bytes",
        "running_compactions", "running_flushes", "writes_stopped", "delayed_write_rate", "background_errors",
    },
}  # fmt: skip


def test_the_names_of_the_figures_stay(engine, engine_name):
    """Dashboards know them by name: one may come, and none may go; all are numbers but those that name something."""
    stats = engine.stats()

    assert set(stats) >= NAMES | OWN[engine_name]
    texts = {name for name, value in stats.items() if isinstance(value, str)}
    assert texts <= {"engine", "path"}
    assert set(stats["tables"]["users"]) == {"rows", "version", "indexes"}
    for name, value in stats.items():
        if name not in ("engine", "path", "tables", "commit_seconds", "asyncio_pool"):
            assert isinstance(value, int | float), name


# ------------------------------------------------------------------------------------------ exporters


def test_prometheus_takes_the_figures(engine, monkeypatch):
    """The collector of docs/howto/observability.md, with the client's own text format."""
    client = pytest.importorskip("prometheus_client", reason="needs pip install prometheus-client")
    monkeypatch.setattr(client, "REGISTRY", client.CollectorRegistry())
    page = (Path(__file__).parents[2] / "docs/howto/observability.md").read_text("utf-8")
    (code,) = [
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class StoreCollector" in block
    ]

    exec(code, {"engine": engine, "__name__": "page"})  # noqa: S102 - our own documentation

    text = client.generate_latest(client.REGISTRY).decode()
    assert f'kvdialect_commit_seconds_bucket{{le="+Inf"}} {float(engine.stats()["batches"])}' in text
    assert 'kvdialect_table_rows{table="coin_records"} 0.0' in text
    assert "kvdialect_bytes_written_total" in text
