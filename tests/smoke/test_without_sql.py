"""Without the extra ``sql``: all but the SQL door works, and asking for that says what to install."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

WITHOUT_APSW = (
    "import sys\nsys.modules['apsw'] = None  # importing it raises ImportError, as if it were not installed\n"
)


def run(code):
    """Run a program in a process of its own, where there is no apsw; what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_APSW + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_package_and_dialect_import():
    """SQLAlchemy loads the dialect for an Index with arguments of ours: it must not need what runs SQL."""
    found = run("""
        import kvdialect
        import kvdialect.dialect
        import sqlalchemy as sa

        index = sa.Index("unspent", "owner", kvdialect_where=lambda coin: coin.spent.is_(None), kvdialect_include=["n"])
        table = sa.Table("coins", sa.MetaData(), kvdialect_format="bincode")
        print(sorted(index.dialect_kwargs), table.dialect_kwargs["kvdialect_format"])
    """)

    assert found == "['kvdialect_include', 'kvdialect_where'] bincode"


def test_unknown_arguments_are_still_refused():
    """The dialect that is loaded is the whole one: it knows which arguments there are."""
    found = run("""
        import sqlalchemy as sa

        try:
            sa.Index("i", "a", kvdialect_bloom="full")
        except sa.exc.ArgumentError as error:
            print(error)
    """)

    assert "kvdialect_bloom" in found


def test_session_works():
    """Records, partial indexes and queries need no SQLite."""
    found = run("""
        from sqlalchemy import Index, select
        from kvdialect import Mapped, Session, UInt64, create_engine, field, mapped, registry

        models = registry()

        @mapped(models)
        class Coin:
            __tablename__ = "coins"
            __table_args__ = (Index("unspent", "owner", kvdialect_where=lambda coin: coin.spent.is_(None)),)
            id: Mapped[UInt64] = field(primary_key=True)
            owner: Mapped[str]
            spent: Mapped[UInt64 | None] = None

        engine = create_engine("memory://")
        models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all([Coin(1, "ann"), Coin(2, "ann", 5)])
            print([coin.id for coin in session.scalars(select(Coin).where(Coin.owner == "ann", Coin.spent.is_(None)))])
        engine.close()
    """)

    assert found == "[1]"


OPENINGS = {
    "engine": 'create_engine("memory://").sqlalchemy().connect()',
    "url": 'sa.create_engine("kvdialect+memory://").connect()',
    "default url": 'sa.create_engine("kvdialect:///nowhere").connect()',
    "session": 'Session(create_engine("memory://")).connection()',
}


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
def test_asking_for_the_door_says_what_to_install(opening):
    """The error is kvdialect's, and names the extra."""
    found = run(f"""
        import sqlalchemy as sa
        from kvdialect import Session, create_engine, exc

        try:
            {opening}
        except exc.NotSupportedError as error:
            print(error)
    """)

    assert 'pip install "kvdialect[sql]"' in found


def test_asking_for_it_in_asyncio_says_what_to_install():
    """The asynchronous dialects are the same ones."""
    pytest.importorskip("greenlet", reason="SQLAlchemy's asyncio needs it; the environment full of tox has it")

    found = run("""
        from sqlalchemy.ext.asyncio import create_async_engine
        from kvdialect import exc

        try:
            create_async_engine("kvdialect+aiomemory://")
        except exc.NotSupportedError as error:
            print(error)
    """)

    assert 'pip install "kvdialect[sql]"' in found


def test_join_says_why_and_what_to_install():
    """What a session hands over to the door is refused with both: why it does not do it itself, and what would."""
    found = run("""
        from sqlalchemy import select
        from kvdialect import Mapped, Session, UInt64, create_engine, exc, field, mapped, registry

        models = registry()

        @mapped(models)
        class Coin:
            __tablename__ = "coins"
            id: Mapped[UInt64] = field(primary_key=True)

        engine = create_engine("memory://")
        models.create_all(engine)
        coins = Coin.__table__
        other = coins.alias()
        with Session(engine) as session:
            try:
                session.execute(select(coins.c.id).join(other, coins.c.id == other.c.id))
            except exc.NotSupportedError as error:
                print(error)
        engine.close()
    """)

    assert "here it is not installed" in found
    assert 'pip install "kvdialect[sql]"' in found
