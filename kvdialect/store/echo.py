"""What an engine logs, as SQLAlchemy's does: to a logger named ``kvdialect.engine``, or by ``echo``.

Whether anything is logged is asked when a transaction begins. One that logs is a :class:`LoggedTransaction`; all
others are plain, so that the log costs nothing where it is off.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal

from sqlalchemy import log

from kvdialect import exc
from kvdialect.storage.batch import DELETE, WriteBatch
from kvdialect.storage.contract import Pair, Snapshot
from kvdialect.store.table import StoredTable
from kvdialect.store.transaction import Reindex, Store, Transaction

NAME: Final = "kvdialect.engine"
"""The logger of engines; one with a ``logging_name`` has a child of it."""

EchoFlag = bool | Literal["debug"] | None
"""What ``echo`` may be."""

_root = logging.getLogger("kvdialect")
if _root.level == logging.NOTSET:
    # As SQLAlchemy: a program that logs its own INFO has not asked for that of its libraries.
    _root.setLevel(logging.WARNING)


class Logged(log.Identified):
    """What has SQLAlchemy's ``echo`` and a logger.

    Attributes:
        echo: True logs transactions, statements and plans, ``"debug"`` rows and reads too, whatever the logger's level
            is; False leaves it to the logger.
    """

    _sqla_logger_namespace = NAME
    echo = log.echo_property()

    def begin_logging(self, echo: EchoFlag, logging_name: str | None) -> None:
        """Make the logger."""
        if echo not in (None, False, True, "debug"):
            raise exc.ArgumentError(f"echo={echo!r}; give True, False or 'debug'")
        if logging_name is not None:
            self.logging_name = logging_name
        log.instance_logger(self, echo)


class LoggedTransaction(Transaction):
    """A transaction that says what it does."""

    def __init__(self, store: Store, isolation_level: Any, on_snapshot: Callable[[Snapshot], None] | None) -> None:
        super().__init__(store, isolation_level, on_snapshot)
        self._logger: Any = store.logger  # type: ignore[attr-defined]
        self._debug = self._logger.isEnabledFor(logging.DEBUG)
        self._written = 0
        self._committing = False
        self._logger.info("BEGIN (%s)", isolation_level)

    # ------------------------------------------------------------------------------------------ reading

    @property
    def direct(self) -> Snapshot | None:
        return None

    def get_base(self, cf: str, key: bytes) -> bytes | None:
        return self._got(cf, key, super().get_base(cf, key))

    def get(self, cf: str, key: bytes) -> bytes | None:
        # The plain one goes past get_base where it can.
        before = self._snapshot
        if before is None or self.serializable or cf in self.later or key in self.changes.get(cf, ()):
            return super().get(cf, key)
        return self._got(cf, key, super().get(cf, key))

    def _got(self, cf: str, key: bytes, value: bytes | None) -> bytes | None:
        if self._debug:
            found = "nothing" if value is None else f"{len(value)} bytes"
            self._logger.debug("GET %s[%s]: %s", cf, exc.shown(key), found)
        return value

    def multi_get_base(self, cf: str, keys: list[bytes]) -> list[bytes | None]:
        values = super().multi_get_base(cf, keys)
        if self._debug:
            self._logger.debug("GET %s: %d keys, %d found", cf, len(keys), len(keys) - values.count(None))
        return values

    def scan(self, cf: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]:
        if self._debug:
            bounds = f"{exc.shown(start)} to {'the end' if stop is None else exc.shown(stop)}"
            self._logger.debug("SCAN %s, %s%s", cf, bounds, ", descending" if reverse else "")
        return super().scan(cf, start, stop, reverse=reverse)

    def short_scan(
        self,
        cf: str,
        start: bytes,
        stop: bytes | None,
        first: int,  # noqa: ARG002
        *,
        reverse: bool = False,
    ) -> Iterator[Pair]:
        return self.scan(cf, start, stop, reverse=reverse)

    # ------------------------------------------------------------------------------------------ what sessions tell

    def note(self, message: str, *values: Any) -> None:
        """Log what a session does."""
        self._logger.info(message, *values)

    def note_statement(self, statement: Any, parameters: Any, plan: Any = None) -> None:
        """Log a statement with its parameters and, where there is one, the plan."""
        self._logger.info("%s", statement)
        self._logger.info("[%s] %r", "no plan" if plan is None else f"plan: {plan}", parameters)

    def note_rows(self, rows: Iterable[Any]) -> Iterator[Any]:
        """The same rows; each is logged as it is read, at DEBUG."""
        if not self._debug:
            return iter(rows)
        return map(self._noted, rows)

    def _noted(self, row: Any) -> Any:
        self._logger.debug("Row %r", row)
        return row

    # ------------------------------------------------------------------------------------------ the end

    def _batch(self, ranges: list[tuple[str, bytes, bytes | None, bytes]], version: bytes | None) -> WriteBatch:
        batch = super()._batch(ranges, version)
        self._written = batch.written_bytes
        return batch

    def commit(self, reindex: Reindex) -> None:
        changes = [change for family in self.changes.values() for change in family.values()]
        tables: list[StoredTable] = list(self.tables.values())
        begun = time.perf_counter()
        self._committing = True
        try:
            super().commit(reindex)
        except BaseException as error:
            self._logger.info("COMMIT failed, %s: %s", getattr(error, "outcome", "not_applied"), error)
            raise
        if not changes:
            self._logger.info("COMMIT (nothing was written)")
            return
        gone = changes.count(DELETE)
        self._logger.info(
            "COMMIT (%s: %d puts, %d deletions, %d bytes, %.3f ms)",
            ", ".join(sorted(table.name for table in tables)) or "no table",
            len(changes) - gone,
            gone,
            self._written,
            (time.perf_counter() - begun) * 1e3,
        )

    def close(self) -> None:
        # A commit closes too, with its own line.
        if not self.closed and not self._committing:
            self._logger.info("ROLLBACK (%d changes)", sum(map(len, self.changes.values())))
        super().close()
