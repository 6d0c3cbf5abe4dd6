"""The store under test: accounts with indexes of several sorts, and what each commit makes of them.

A commit is a function of the state before it and its number alone. So whoever knows the last state that was certain,
and which commits were acknowledged since, knows what the store has to hold.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from sqlalchemy import Index

from kvdialect import Engine, Mapped, Session, create_engine, field, mapped, registry

models = registry()
ACCOUNTS = 120
OWNERS = 9


@mapped(models)
class Account:
    """A record with an ordered, a partial, a covering and a unique index."""

    __tablename__ = "accounts"
    __table_args__ = (
        Index("account_by_owner", "owner"),
        Index("account_in_debt", "balance", kvdialect_where=lambda c: c.balance < 0),
        Index("account_by_version", "version", kvdialect_include=["balance"]),
    )
    id: Mapped[int] = field(primary_key=True)
    owner: Mapped[str]
    balance: Mapped[int]
    version: Mapped[int]
    note: Mapped[str]
    name: Mapped[str | None] = field(default=None, unique=True)


Row = tuple[str, int, int, str, str | None]
State = dict[int, Row]
"""Owner, balance, version, note and name of each account by its id."""


def commit_of(state: Mapping[int, Row], number: int) -> tuple[State, list[int]]:
    """What commit ``number`` sets, and which accounts it deletes."""
    rng = random.Random(number)  # noqa: S311 - a sequence that can be made again
    puts: State = {}
    gone: list[int] = []
    for _ in range(rng.randint(1, 8)):
        ident = rng.randrange(ACCOUNTS)
        if ident in puts or ident in gone:
            continue
        if ident in state and rng.random() < 0.2:
            gone.append(ident)
            continue
        owner = f"owner {rng.randrange(OWNERS)}"
        note = "x" * rng.choice([0, 10, 10, 200, 6000])  # the last takes overflow pages of LMDB
        name = f"{ident}/{number}" if rng.random() < 0.7 else None
        puts[ident] = (owner, rng.randint(-1000, 1000), number, note, name)
    return puts, gone


def after(state: Mapping[int, Row], number: int) -> State:
    """The state after commit ``number``."""
    puts, gone = commit_of(state, number)
    return {ident: row for ident, row in {**state, **puts}.items() if ident not in gone}


def opened(url: str) -> Engine:
    """An engine on the store with its table."""
    engine = create_engine(url)
    models.create_all(engine)
    return engine


def perform(engine: Engine, state: Mapping[int, Row], number: int) -> None:
    """Do commit ``number`` in a session."""
    puts, gone = commit_of(state, number)
    with Session(engine) as session, session.begin():
        for ident in gone:
            session.delete(session.get_one(Account, ident))
        for ident, row in puts.items():
            account = session.get(Account, ident)
            if account is None:
                session.add(Account(ident, *row))
            else:
                account.owner, account.balance, account.version, account.note, account.name = row


def values(account: Account) -> Row:
    """An account as the state has it."""
    return account.owner, account.balance, account.version, account.note, account.name


def stored(engine: Engine) -> State:
    """What the store holds."""
    with Session(engine) as session:
        return {each.id: values(each) for each in session.scan(Account)}
