"""pandas over the SQL door: frames out and in, on each engine."""

from __future__ import annotations

import importlib.util

import pytest
import sqlalchemy as sa

if importlib.util.find_spec("pandas") is None:
    pytest.skip("needs pandas: the group programs of pyproject.toml", allow_module_level=True)

import pandas as pd
from pandas.testing import assert_frame_equal


@pytest.fixture
def engine(engine_name, tmp_path):
    url = "kvdialect+memory://" if engine_name == "memory" else f"kvdialect+{engine_name}:////{tmp_path}/store"
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "n": range(250),
            "half": [n / 2 for n in range(250)],
            "word": [None if n % 7 == 0 else f"w{n % 10}" for n in range(250)],
            "even": [n % 2 == 0 for n in range(250)],
            "at": pd.date_range("2024-01-01", periods=250, freq="h"),
        }
    )


@pytest.mark.parametrize("method", [None, "multi"], ids=["one by one", "multi"])
def test_a_frame_comes_back(engine, frame, method):
    """What to_sql writes, read_sql reads, values and types."""
    frame.to_sql("frames", engine, index=False, method=method, chunksize=40)

    back = pd.read_sql("SELECT * FROM frames ORDER BY n", engine, parse_dates=["at"]).astype({"even": bool})
    assert_frame_equal(back.astype({"at": frame["at"].dtype}), frame.astype({"word": back["word"].dtype}))
    table = pd.read_sql_table("frames", engine)
    assert list(table.columns) == list(frame.columns)
    assert table["n"].sum() == frame["n"].sum()
    assert table["even"].dtype == bool


def test_append_replace_fail(engine, frame):
    """A table that is there is added to, made anew, or an error."""
    assert frame.to_sql("frames", engine) is not None
    frame.to_sql("frames", engine, if_exists="append")
    assert pd.read_sql("SELECT count(*) AS n FROM frames", engine)["n"][0] == 500

    frame.head(3).to_sql("frames", engine, if_exists="replace")
    assert pd.read_sql("SELECT count(*) AS n FROM frames", engine)["n"][0] == 3
    with pytest.raises(ValueError, match="already exists"):
        frame.to_sql("frames", engine, if_exists="fail")


def test_index_and_types(engine, frame):
    """The frame's index becomes columns with an index; types are those asked for."""
    indexed = frame.set_index(["word", "n"])
    indexed.to_sql("frames", engine, dtype={"half": sa.Numeric(10, 2, asdecimal=False)})

    columns = {column["name"]: column["type"] for column in sa.inspect(engine).get_columns("frames")}
    assert isinstance(columns["half"], sa.Numeric)
    assert isinstance(columns["at"], sa.DateTime)
    assert [index["column_names"] for index in sa.inspect(engine).get_indexes("frames")] == [["n"], ["word"]]
    back = pd.read_sql_table("frames", engine, index_col=["word", "n"], columns=["even"])
    assert back.index.names == ["word", "n"]
    assert back["even"].sum() == frame["even"].sum()


def test_chunks_and_queries(engine, frame):
    """A long result comes in parts; a query is any SQL, with parameters."""
    frame.to_sql("frames", engine, index=False)

    with engine.connect().execution_options(stream_results=True) as connection:
        chunks = list(pd.read_sql("SELECT * FROM frames ORDER BY n", connection, chunksize=100))
    assert [len(chunk) for chunk in chunks] == [100, 100, 50]
    query = sa.text(
        "SELECT word, count(*) AS c, avg(half) AS mean, sum(n) OVER (ORDER BY word) AS running"
        " FROM frames WHERE n > :low GROUP BY word ORDER BY word"
    )
    summary = pd.read_sql(query, engine, params={"low": 100}, index_col="word")
    expected = frame[frame["n"] > 100].groupby("word")["half"].mean()
    assert summary["mean"].dropna().loc["w1"] == expected.loc["w1"]
    assert summary["c"].sum() == 149


def test_a_transaction_of_ones_own(engine, frame):
    """A frame written in a transaction that is rolled back is not there, its table neither."""
    with engine.connect() as connection, connection.begin() as transaction:
        frame.to_sql("frames", connection)
        assert pd.read_sql("SELECT count(*) AS n FROM frames", connection)["n"][0] == 250
        transaction.rollback()

    assert not sa.inspect(engine).has_table("frames")
