"""Large results: no more than a part is in memory, and what is read is of one moment."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from kvdialect.schema.sqlrows import SqlTableCodec

ROWS = 3_000
PART = 500
FEW = 20


class Base(DeclarativeBase):
    pass


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    n: Mapped[int] = mapped_column(index=True)


lines = Line.__table__
ALL = [(n, f"line {n}", n % 97) for n in range(1, ROWS + 1)]


def fill(engine: sa.Engine, count: int) -> None:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO lines WITH RECURSIVE k (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < ?)"
            " SELECT n, 'line ' || n, n % 97 FROM k",
            (count,),
        )


@pytest.fixture
def engine(engine_name, tmp_path):
    query = "?durability=none"
    url = "kvdialect+memory://" if engine_name == "memory" else f"kvdialect+{engine_name}:////{tmp_path}/store{query}"
    engine = sa.create_engine(url)
    fill(engine, ROWS)
    yield engine
    engine.dispose()


@pytest.fixture
def decoded(monkeypatch):
    """How many rows were decoded since ``clear()``, one item for each."""
    seen: list[None] = []
    make = SqlTableCodec.__dict__["decode"].func

    def decode(codec):
        original = make(codec)

        def watched(key, value):
            seen.append(None)
            return original(key, value)

        return watched

    monkeypatch.setattr(SqlTableCodec, "decode", property(decode))
    return seen


STATEMENTS = {
    "table": select(lines).order_by(lines.c.id),
    "no order": select(lines),
    "backwards": select(lines).order_by(lines.c.id.desc()),
    "range": select(lines).where(lines.c.id > 100),
    "filter": select(lines).where(lines.c.text != "line 3"),
    "expression": select(lines.c.id, sa.func.upper(lines.c.text)),
    "index": select(lines).where(lines.c.n == 5),
    "order of an index": select(lines).order_by(lines.c.n, lines.c.id).limit(PART),
    "union": sa.union_all(select(lines), select(lines)),
}


# ------------------------------------------------------------------------------------------ a part in memory


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_what_is_not_fetched_is_not_read(engine_name, statement, engine, decoded):  # noqa: ARG001 - in the id
    """The first rows of a result are decoded, and no others."""
    with engine.connect().execution_options(yield_per=FEW) as connection:
        result = connection.execute(statement)
        first = next(result.partitions())
        seen = len(decoded)
        result.close()

    assert len(first) == FEW
    assert seen <= 2 * FEW


@pytest.mark.parametrize(
    "read",
    [
        lambda engine: [row for part in _streamed(engine, "yield_per").partitions() for row in part],
        lambda engine: [row for part in _streamed(engine, "yield_per").partitions(70) for row in part],
        lambda engine: list(_streamed(engine, "yield_per")),
        lambda engine: _streamed(engine, "stream_results").all(),
        lambda engine: list(_streamed(engine, "stream_results").yield_per(13)),
        lambda engine: _streamed(engine, "stream_results").fetchmany(ROWS + 1),
    ],
    ids=["partitions", "other partitions", "iteration", "all", "yield_per of the result", "fetchmany"],
)
@pytest.mark.engine("memory")
def test_a_stream_has_all_rows(read):
    """Whatever way they are fetched, all rows come once, in order."""
    engine = sa.create_engine("kvdialect+memory://")
    fill(engine, ROWS)
    assert [tuple(row) for row in read(engine)] == ALL
    engine.dispose()


def _streamed(engine: sa.Engine, option: str) -> sa.CursorResult:
    options = {option: PART if option == "yield_per" else True}
    connection = engine.connect().execution_options(**options)
    return connection.execute(select(lines).order_by(lines.c.id))


@pytest.mark.engine("rocksdb")
def test_memory_is_bounded(tmp_path):
    """A stream of 200,000 rows takes a small part of the memory that a quarter of them takes at once."""
    engine = sa.create_engine(f"kvdialect+rocksdb:////{tmp_path}/store?durability=none")
    count = 200_000
    fill(engine, count)

    def peak(expected, read):
        gc.collect()
        tracemalloc.start()
        try:
            assert read() == expected
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    with engine.connect() as connection, Session(engine) as session:
        stream = connection.execution_options(yield_per=1000)
        at_once = peak(count // 4, lambda: len(connection.execute(select(lines).limit(count // 4)).all()))
        by_core = peak(count, lambda: sum(len(part) for part in stream.execute(select(lines)).partitions()))
        objects = select(Line).limit(count // 20).execution_options(yield_per=1000)
        by_orm = peak(count // 20, lambda: sum(1 for _ in session.scalars(objects)))
    engine.dispose()

    assert by_core < at_once / 10
    assert by_orm < at_once / 3


# ------------------------------------------------------------------------------------------ the end of a stream


def test_a_result_closed_early_reads_no_more(engine, decoded):
    """Closing a result, or leaving it to the garbage collector, frees its cursor: a commit has nothing to read."""
    with engine.connect().execution_options(yield_per=PART) as connection:
        driver = connection.connection.driver_connection
        result = connection.execute(select(lines))
        next(result.partitions())
        result.close()
        assert [cursor for cursor in driver._cursors if not cursor.closed] == []
        result = connection.execute(select(lines).where(lines.c.id < 2000))
        next(result.partitions())
        del result
        gc.collect()
        assert [cursor for cursor in driver._cursors if not cursor.closed] == []
        seen = len(decoded)
        connection.commit()

        assert len(decoded) == seen


def test_leaving_a_connection_does_not_read_on(engine, decoded):
    """A stream that is half read when its connection goes back to the pool ends there."""
    with engine.connect().execution_options(yield_per=PART) as connection:
        result = connection.execute(select(lines))
        next(result.partitions())
        seen = len(decoded)
    assert len(decoded) == seen

    with pytest.raises(sa.exc.ProgrammingError, match="rolled back before all rows of this stream were read"):
        result.all()
    with engine.connect() as connection:
        assert connection.execute(select(lines).order_by(lines.c.id)).all() == ALL


def test_a_stream_read_to_its_end_stays_at_its_end(engine):
    """A rollback is no error for one that has no more rows."""
    with engine.connect() as connection:
        result = connection.execution_options(yield_per=ROWS + 1).execute(select(lines).order_by(lines.c.id))
        partitions = result.partitions()
        assert next(partitions) == ALL
        connection.rollback()

        assert list(partitions) == []


def test_rows_of_an_ordinary_result_survive_a_rollback(engine):
    """What was not asked for as a stream can be read after the transaction, committed or not."""
    for end in ("commit", "rollback"):
        with engine.connect() as connection:
            result = connection.execute(select(lines).order_by(lines.c.id))
            assert result.fetchmany(3) == ALL[:3]
            getattr(connection, end)()
            assert result.all() == ALL[3:]


# ------------------------------------------------------------------------------------------ one moment


def _others_change(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(lines.update().values(text="changed"))
        connection.execute(lines.delete().where(lines.c.id % 2 == 0))
        connection.execute(lines.insert().values(id=ROWS + 1, text="new", n=0))


@pytest.mark.parametrize("statement", ["table", "filter", "expression"])
def test_a_stream_is_of_one_moment(engine, statement):
    """What others commit while a stream is read is not among its rows, not even after a commit of its own."""
    with engine.connect() as connection:
        expected = connection.execute(STATEMENTS[statement]).all()
    with engine.connect().execution_options(yield_per=PART) as connection:
        partitions = connection.execute(STATEMENTS[statement]).partitions()
        found = list(next(partitions))
        _others_change(engine)
        found += next(partitions)
        connection.commit()
        for part in partitions:
            found += part

        assert found == expected
        assert connection.scalar(select(sa.func.count()).select_from(lines)) == ROWS // 2 + 1


def test_a_stream_goes_on_while_its_rows_are_changed(engine):
    """The usual program: read a part, write what came of it. Each row comes once, as it was when it was reached."""
    with Session(engine) as session:
        read = []
        for line in session.scalars(select(Line).order_by(Line.id).execution_options(yield_per=PART)):
            read.append(line.id)
            line.text = f"{line.text} seen"
            if line.id % 100 == 0:
                session.flush()
                session.execute(sa.insert(Line).values(id=ROWS + line.id, text="behind", n=1))
            if len(read) == ROWS:
                break
        session.commit()

    assert read == list(range(1, ROWS + 1))
    with engine.connect() as connection:
        seen = connection.scalars(select(lines.c.id).where(lines.c.text.endswith(" seen")).order_by(lines.c.id)).all()
    assert seen == read


def test_two_streams_of_one_connection(engine):
    """They do not disturb each other, nor do statements between them; a schema change leaves them whole."""
    with engine.connect().execution_options(yield_per=PART) as connection:
        up = connection.execute(select(lines.c.id).order_by(lines.c.id)).scalars().partitions()
        down = connection.execute(select(lines.c.id).order_by(lines.c.id.desc())).scalars().partitions()
        ups, downs = list(next(up)), list(next(down))
        connection.execute(lines.insert().values(id=10 * ROWS, text="new", n=1))
        connection.execute(lines.delete().where(lines.c.id == 10 * ROWS))
        ups += next(up)
        connection.exec_driver_sql("CREATE TABLE another (id INTEGER PRIMARY KEY)")
        ups += [number for part in up for number in part]
        downs += [number for part in down for number in part]

    assert ups == list(range(1, ROWS + 1))
    assert downs == list(range(ROWS, 0, -1))


def test_a_stream_in_autocommit(engine):
    """The next statement is another transaction; the rest of the stream is of its own."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT", yield_per=PART) as connection:
        partitions = connection.execute(select(lines).order_by(lines.c.id)).partitions()
        found = list(next(partitions))
        connection.execute(lines.update().values(n=-1))
        connection.execute(lines.insert(), [{"id": ROWS + 1, "text": "new", "n": 0}])
        for part in partitions:
            found += part

        assert found == ALL
        assert connection.execute(select(lines.c.n).distinct().order_by(lines.c.n)).scalars().all() == [-1, 0]
