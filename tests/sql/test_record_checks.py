"""CHECK constraints of records at the SQL door: reflected, enforced, and resolved as SQLite does."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import CheckConstraint

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry

models = registry()


@mapped(models)
class Account:
    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("balance >= 0", name="positive"),
        CheckConstraint("owner LIKE 'a%' OR length(owner) > 3"),
    )
    id: Mapped[int] = field(primary_key=True)
    owner: Mapped[str]
    balance: Mapped[int] = 0


@pytest.fixture
def engine(url):
    with create_engine(url) as opened:
        models.create_all(opened)
        with Session(opened) as session, session.begin():
            session.add_all([Account(1, "ann", 5), Account(2, "amy", 7)])
        yield opened


@pytest.fixture
def connection(engine):
    with engine.sqlalchemy().connect() as connected:
        yield connected


def _rows(connection):
    return connection.execute(sa.text("SELECT id, owner, balance FROM accounts ORDER BY id")).all()


def test_it_is_reflected(engine):
    """What Alembic and the inspector see."""
    found = sa.inspect(engine.sqlalchemy()).get_check_constraints("accounts")

    assert found == [
        {"name": "positive", "sqltext": '"balance" >= 0'},
        {"name": None, "sqltext": '("owner" LIKE \'a%\') OR (length("owner") > 3)'},
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO accounts VALUES (3, 'abe', -1)",
        "INSERT INTO accounts VALUES (3, 'abe', 1), (4, 'al', -1)",
        "INSERT OR REPLACE INTO accounts VALUES (1, 'ann', -1)",
        "INSERT INTO accounts SELECT id + 10, owner, -balance FROM accounts",
        "INSERT INTO accounts VALUES (1, 'ann', 1) ON CONFLICT DO UPDATE SET balance = -1",
        "UPDATE accounts SET balance = balance - 6",
        "UPDATE OR REPLACE accounts SET balance = -1, id = 2 WHERE id = 1",
        "UPDATE accounts SET owner = 'bob'",
    ],
)
def test_a_statement_that_breaks_it_does_nothing(connection, statement):
    """Not even to rows of which it is true, nor to those that it would have replaced."""
    with pytest.raises(sa.exc.IntegrityError, match=r"CHECK constraint failed: (positive|owner LIKE)"):
        connection.execute(sa.text(statement))
    assert _rows(connection) == [(1, "ann", 5), (2, "amy", 7)]


def test_or_ignore_leaves_the_row_out(connection):
    """As SQLite: that row, and no other."""
    text = "INSERT OR IGNORE INTO accounts VALUES (3, 'abe', -1), (4, 'al', 1), (5, 'bob', 1), (6, 'robert', 1)"
    assert connection.execute(sa.text(text)).rowcount == 2
    assert connection.execute(sa.text("UPDATE OR IGNORE accounts SET balance = balance - 6")).rowcount == 1
    assert _rows(connection) == [(1, "ann", 5), (2, "amy", 1), (4, "al", 1), (6, "robert", 1)]


def test_within_a_session(engine):
    """A statement of the SQL door in the Session's transaction, and an object of the Session's."""
    with Session(engine) as session:
        with pytest.raises(sa.exc.IntegrityError, match="positive"):
            session.connection().execute(sa.text("UPDATE accounts SET balance = -balance"))
        session.get_one(Account, 1).balance = -1
        with pytest.raises(exc.IntegrityError, match="positive"):
            session.commit()
        assert session.get_one(Account, 1).balance == 5
