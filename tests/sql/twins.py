"""Statements run on a store and on SQLite side by side, which must do the same."""

from __future__ import annotations

import sqlite3
from typing import Any

import sqlalchemy.exc

from kvdialect.dialect import dbapi
from kvdialect.exc import message_of

Outcome = tuple[str, Any]

_NAMES = frozenset(
    {
        "IntegrityError",
        "OperationalError",
        "ProgrammingError",
        "NotSupportedError",
        "DataError",
        "Error",
        "SQLAlchemyError",
    }
)


class Twins:
    """A connection to a store and one to SQLite's own engine, foreign keys on, in explicit transactions."""

    def __init__(self, store: Any) -> None:
        self.ours = dbapi.connect(store=store)
        self.theirs = sqlite3.connect(":memory:", isolation_level=None)
        self.theirs.execute("pragma foreign_keys = on")
        self.theirs.execute("pragma case_sensitive_like = on")
        self.theirs.execute("begin")
        self.log: list[str] = []
        self.message = ""

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Outcome:
        """Run a statement on both; its rows or its error, which are the same."""
        self.log.append(f"{sql}  -- {params!r}")
        theirs = self._outcome(self.theirs, sql, params)
        ours = self._outcome(self.ours, sql, params)
        assert ours == theirs, "\n".join([*self.log, f"ours: {ours}", f"SQLite: {theirs}"])
        return ours

    def attempt(self, sql: str) -> None:
        """Run a statement on both; where they differ it is undone on both."""
        self.log.append(f"attempt {sql}")
        for connection in (self.theirs, self.ours):
            connection.execute("savepoint attempt")
        theirs = self._outcome(self.theirs, sql, ())
        ours = self._outcome(self.ours, sql, ())
        for connection in (self.theirs, self.ours):
            if ours != theirs:
                connection.execute("rollback to attempt")
            connection.execute("release attempt")

    def script(self, *statements: str) -> None:
        """Run statements, all of which succeed."""
        for sql in statements:
            kind, detail = self.run(sql)
            assert kind == "rows", f"{sql}: {detail}"

    def refused(self, sql: str, *params: Any) -> str:
        """Run a statement that both refuse; our message, without what stands in brackets."""
        kind, _ = self.run(sql, params)
        assert kind != "rows", f"{sql} was accepted"
        return self.message.split(" (")[0]

    def commit(self) -> Outcome:
        """Commit both; their outcome, which is the same."""
        self.log.append("commit")
        theirs = self._ended(lambda: self.theirs.execute("commit"))
        ours = self._ended(self.ours.commit)
        assert ours == theirs, "\n".join([*self.log, f"ours: {ours}", f"SQLite: {theirs}"])
        if ours[0] == "rows":
            self.theirs.execute("begin")
        return ours

    def commit_judged(self) -> None:
        """Commit both, or roll both back; ours is judged by ``PRAGMA foreign_key_check``.

        (SQLite counts deferred violations, and where a statement of one row fails its count may go wrong.)
        """
        self.log.append("commit")
        if self.theirs.execute("pragma foreign_key_check").fetchall():
            kind, _ = self._ended(self.ours.commit)
            assert kind == "IntegrityError", "\n".join([*self.log, "committed with rows that refer to nothing"])
            self.rollback()
        elif self._ended(lambda: self.theirs.execute("commit"))[0] != "rows":
            self.rollback()
        else:
            ours = self._ended(self.ours.commit)
            assert ours[0] == "rows", "\n".join([*self.log, f"ours: {ours}"])
            self.theirs.execute("begin")

    def rollback(self) -> None:
        self.log.append("rollback")
        self.ours.rollback()
        if self.theirs.in_transaction:
            self.theirs.execute("rollback")
        self.theirs.execute("begin")

    def same(self, *tables: str) -> None:
        """Compare all rows of tables."""
        for table in tables:
            ours = sorted(map(repr, self.ours.execute(f"select * from {table}").fetchall()))
            theirs = sorted(map(repr, self.theirs.execute(f"select * from {table}").fetchall()))
            assert ours == theirs, "\n".join([*self.log, f"{table}: ours {ours}", f"SQLite: {theirs}"])

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()

    def _outcome(self, connection: Any, sql: str, params: tuple[Any, ...]) -> Outcome:
        try:
            cursor = connection.execute(sql, params)
            rows = cursor.fetchall() if cursor.description else []
            return "rows", (sorted(map(repr, map(tuple, rows))), cursor.rowcount)
        except (sqlite3.Error, sqlalchemy.exc.SQLAlchemyError) as error:
            self.message = message_of(error)
            return _error(error)

    def _ended(self, end: Any) -> Outcome:
        try:
            end()
        except (sqlite3.Error, sqlalchemy.exc.SQLAlchemyError) as error:
            return _error(error)
        return "rows", None


def _error(error: Exception) -> Outcome:
    """The class of an error by PEP 249's name, and its first words; what stands in brackets is ours."""
    name = next(cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _NAMES)
    message = message_of(error).split(" (")[0]
    # Of several constraints that do not hold, SQLite may name another one.
    return name, "constraint" if message.startswith(("UNIQUE", "NOT NULL")) else message
