"""Expressions of SQLAlchemy that this dialect writes otherwise than SQLite's."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from kvdialect import exc
from kvdialect.dialect import MemoryDialect


@pytest.fixture
def connection():
    engine = sa.create_engine("kvdialect+memory://")
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def test_regexp_replace(connection):
    """SQLite has none; it is Python's."""
    replaced = sa.literal("one two").regexp_replace(r"(\w)\w+", r"\1.")

    assert connection.scalar(sa.select(replaced)) == "o. t."


def test_regexp_replace_refuses_flags():
    """Flags that were dropped in silence would give other rows."""
    replaced = sa.literal("one").regexp_replace("O", "0", flags="i")

    with pytest.raises(exc.ArgumentError, match="takes no flags here"):
        replaced.compile(dialect=MemoryDialect())


def test_a_list_as_a_literal(connection):
    """It is the JSON text that it is as a parameter."""
    names = sa.literal(["o'ne", 'tw"o'], sa.ARRAY(sa.String))

    text = str(sa.select(names).compile(connection, compile_kwargs={"literal_binds": True}))

    assert connection.exec_driver_sql(text).scalar() == """["o'ne", "tw\\"o"]"""
