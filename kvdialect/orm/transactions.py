"""What begin and begin_nested give: a transaction, or a savepoint in it, as a context manager."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import exc as sa_exc

from kvdialect import exc
from kvdialect.store.retrying import Attempts

if TYPE_CHECKING:
    from kvdialect.orm.session import Session


class NestedTransaction:
    """What ``begin_nested`` gives: a savepoint. As a context manager it ends with the block."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._level = session.work.levels[-1]

    @property
    def is_active(self) -> bool:
        """True until it is committed or rolled back, or the transaction around it is over."""
        return self._session.work.within(self._level)

    def commit(self) -> None:
        """Flush, and keep what was done since; it becomes part of the transaction around."""
        self._check()
        self._session.flush()
        self._session._release(self._level)

    def rollback(self) -> None:
        """Undo what was done since, in the store's view and in the objects; harmless when it is over."""
        if self.is_active:
            self._session._rollback_to(self._level)
        else:
            self._session._recover(self._level)

    def _check(self) -> None:
        if not self.is_active:
            raise sa_exc.ResourceClosedError("this savepoint is over")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.rollback()
        elif self.is_active:
            try:
                self.commit()
            except BaseException:
                self.rollback()
                raise


class SessionTransaction:
    """What ``begin`` gives: as a context manager it commits at the end of the block, or rolls back on an error."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._transaction = session.transaction
        self._level = session.work.levels[0]

    @property
    def is_active(self) -> bool:
        """True until it is committed or rolled back."""
        return self._session.transaction is self._transaction is not None

    def commit(self) -> None:
        """Commit; see :meth:`Session.commit`."""
        if not self.is_active:
            raise sa_exc.ResourceClosedError("this transaction is over")
        self._session.commit()

    def rollback(self) -> None:
        """Roll back; harmless when it is over."""
        if self.is_active:
            self._session.rollback()
        else:
            self._session._recover(self._level)

    def __enter__(self) -> Self:
        self._session.block = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.block = None
        if kind is not None:
            self.rollback()
        elif self.is_active:
            self._session.commit()


def attempts_at(function: Callable[..., Any], retries: int, deadline: float | None) -> Attempts:
    """The attempts at a transaction that is a function of a session.

    Raises:
        ArgumentError: for a function that is none, or a number that is no count.
    """
    if not callable(function):
        raise exc.ArgumentError(f"transaction({function!r:.80}): give it a function of a session")
    return Attempts(retries, deadline)
