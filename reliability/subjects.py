"""What a program holds of an open store, for row 8: how it comes into being, how it is used, what it must say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import select, text

from kvdialect import Engine, Session
from reliability.model import Account, opened, values

ROWS = 60
NEW = 10_000


@dataclass
class Held:
    """What a case works on.

    Attributes:
        engine: the open store.
        thing: the subject itself.
        besides: what belongs to it and lives for as long.
        adds: the account that a successful use leaves behind, if it writes.
    """

    engine: Engine
    thing: Any
    besides: list[Any] = field(default_factory=list)
    adds: int | None = None


@dataclass(frozen=True)
class Subject:
    """Something of a store that a program holds.

    Attributes:
        make: brings it into being, half used where that is possible.
        use: uses it to the end; what it returns must be ``right``, or it must raise.
        right: the right result of ``use``, given the number of rows.
        close: ends it as the program would.
        loaded: what is left of it is in memory already, so that a forked child may have it.
    """

    make: Callable[[Engine], Held]
    use: Callable[[Held], Any]
    right: Callable[[int], Any]
    close: Callable[[Held], object]
    loaded: bool = False


def filled(url: str) -> None:
    """Make the store that every case opens."""
    with opened(url) as engine:
        fill(engine)


def fill(engine: Engine) -> None:
    """Put its accounts into an open store."""
    with Session(engine) as session, session.begin():
        session.add_all([_account(ident) for ident in range(ROWS)])


def _account(ident: int) -> Account:
    return Account(ident, f"owner {ident % 7}", ident - 30, ident, "x" * 20, f"name {ident}")


def idents(engine: Engine) -> list[int]:
    """The accounts that the store holds."""
    with Session(engine) as session:
        return [account.id for account in session.scan(Account)]


# ------------------------------------------------------------------------------------------------ the subjects


def _snapshot_use(held: Held) -> Any:
    pairs = list(held.thing.scan("accounts"))
    keys = [key for key, _ in pairs]
    assert held.thing.multi_get("accounts", keys) == [value for _, value in pairs]
    assert held.thing.get("accounts", keys[0]) == pairs[0][1]
    return len(pairs)


def _taken(source: Iterator[Any], count: int = 3) -> Iterator[Any]:
    for _ in range(count):
        next(source)
    return source


def _scan(engine: Engine) -> Held:
    return Held(engine, _taken(engine.backend.scan("accounts")))


def _snapshot_scan(engine: Engine) -> Held:
    snapshot = engine.backend.snapshot()
    return Held(engine, _taken(snapshot.scan("accounts", reverse=True)), [snapshot])


def _session(engine: Engine) -> Held:
    session = Session(engine)
    session.get(Account, 1)
    return Held(engine, session)


def _session_use(held: Held) -> Any:
    session = held.thing
    owners = [account.owner for account in session.lookup("account_by_owner", "owner 3")]
    assert set(owners) == {"owner 3"}
    return len(session.scalars(select(Account)).all())


def _query(engine: Engine) -> Held:
    session = Session(engine)
    return Held(engine, _taken(iter(session.scalars(select(Account).order_by(Account.id)))), [session])


def _transaction(engine: Engine) -> Held:
    session = Session(engine)
    session.begin()
    session.add(_account(NEW))
    session.get_one(Account, 5).balance = 5
    session.flush()
    return Held(engine, session, adds=NEW)


def _transaction_use(held: Held) -> Any:
    held.thing.commit()
    return "committed"


def _connection(engine: Engine) -> Held:
    door = engine.sqlalchemy()
    connection = door.connect()
    assert connection.execute(text("SELECT count(*) FROM accounts")).scalar() == ROWS
    return Held(engine, connection, [door])


def _connection_use(held: Held) -> Any:
    return held.thing.execute(text("SELECT count(*) FROM accounts WHERE balance > -1000")).scalar()


def _cursor(engine: Engine) -> Held:
    door = engine.sqlalchemy()
    connection = door.connect()
    result = connection.execution_options(stream_results=True, yield_per=2).execute(
        text("SELECT id, note || 'x' FROM accounts ORDER BY id")
    )
    assert len(result.fetchmany(3)) == 3
    return Held(engine, result, [connection, door])


def _raw_cursor(engine: Engine) -> Held:
    door = engine.sqlalchemy()
    connection = door.raw_connection()
    cursor = connection.cursor()
    cursor.execute("SELECT a.id FROM accounts a JOIN accounts b ON b.owner = a.owner AND b.id = a.id ORDER BY 1")
    assert len(cursor.fetchmany(3)) == 3
    return Held(engine, cursor, [connection, door])


def _sql_transaction(engine: Engine) -> Held:
    door = engine.sqlalchemy()
    connection = door.connect()
    connection.execute(
        sa.insert(sa.table("accounts", *map(sa.column, ("id", "owner", "balance", "version", "note")))),
        {"id": NEW, "owner": "sql", "balance": 1, "version": 1, "note": ""},
    )
    return Held(engine, connection, [door], adds=NEW)


def _engine_use(held: Held) -> Any:
    found = idents(held.thing)
    with Session(held.thing) as session:
        first = session.get(Account, 0)
    assert first is not None
    assert values(first)[0] == "owner 0"
    return len(found)


SUBJECTS: dict[str, Subject] = {
    "engine": Subject(lambda engine: Held(engine, engine), _engine_use, lambda n: n, lambda h: h.thing.close()),
    "snapshot": Subject(
        lambda engine: Held(engine, engine.backend.snapshot()), _snapshot_use, lambda n: n, lambda h: h.thing.close()
    ),
    "scan": Subject(_scan, lambda h: len(list(h.thing)), lambda n: n - 3, lambda h: h.engine.backend.close()),
    "scan of a snapshot": Subject(
        _snapshot_scan, lambda h: len(list(h.thing)), lambda n: n - 3, lambda h: h.besides[0].close()
    ),
    "session": Subject(_session, _session_use, lambda n: n, lambda h: h.thing.close()),
    "query": Subject(
        _query, lambda h: len(list(h.thing)), lambda n: n - 3, lambda h: h.besides[0].close(), loaded=True
    ),
    "transaction": Subject(_transaction, _transaction_use, lambda _: "committed", lambda h: h.thing.close()),
    "SQL connection": Subject(_connection, _connection_use, lambda n: n, lambda h: h.thing.close()),
    "SQL result": Subject(_cursor, lambda h: len(h.thing.fetchall()), lambda n: n - 3, lambda h: h.thing.close()),
    "SQL cursor": Subject(_raw_cursor, lambda h: len(h.thing.fetchall()), lambda n: n - 3, lambda h: h.thing.close()),
    "SQL transaction": Subject(_sql_transaction, _transaction_use, lambda _: "committed", lambda h: h.thing.close()),
}
