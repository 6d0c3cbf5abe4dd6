"""What AsyncSession's begin and begin_nested give: a transaction, or a savepoint in it, as an async context manager."""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import exc as sa_exc

from kvdialect.orm.transactions import NestedTransaction, SessionTransaction

if TYPE_CHECKING:
    from kvdialect.orm.aio.session import AsyncSession


class AsyncSessionTransaction:
    """A transaction or a savepoint that begins with ``async with``, or when it is awaited.

    Attributes:
        session: whose it is.
        nested: it is a savepoint.
        sync_transaction: what the session's :class:`~kvdialect.Session` has for it; None until it begins.
    """

    def __init__(self, session: AsyncSession, *, nested: bool = False) -> None:
        self.session = session
        self.nested = nested
        self.sync_transaction: SessionTransaction | NestedTransaction | None = None

    @property
    def is_active(self) -> bool:
        """True from its begin until it is committed or rolled back."""
        return self.sync_transaction is not None and self.sync_transaction.is_active

    async def start(self) -> Self:
        """Begin.

        Raises:
            sqlalchemy.exc.InvalidRequestError: if it has begun already, or another transaction of the session has.
        """
        if self.sync_transaction is not None:
            raise sa_exc.InvalidRequestError("this transaction has begun already; call begin() for another one")
        self.sync_transaction = await self.session._begin(self.nested)
        return self

    async def commit(self) -> None:
        """Commit; of a savepoint: flush, and keep what was done since."""
        transaction = self._started
        if self.nested:
            await self.session._call("commit", transaction.commit)
        else:
            await self.session._commit("commit", transaction.commit)

    async def rollback(self) -> None:
        """Undo what was done since the begin; harmless when it is over."""
        await self.session._roll_back(self._started.rollback)

    @property
    def _started(self) -> SessionTransaction | NestedTransaction:
        if self.sync_transaction is None:
            raise sa_exc.ResourceClosedError("this transaction has not begun; await it, or use it in an async with")
        return self.sync_transaction

    def __await__(self) -> Generator[Any, None, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        await self.start()
        self._started.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transaction = self._started

        def leave() -> None:
            transaction.__exit__(kind, error, None)

        try:
            if kind is not None:
                await self.session._roll_back(leave)
            elif self.nested or not transaction.is_active:  # what is over is not committed
                await self.session._call("commit", leave)
            else:
                await self.session._commit("commit", leave)
        except BaseException as failure:
            # Cancelled before it began, or on a closed engine: then nothing was done, and it must not stay open.
            if transaction.is_active and not self.session._in_use:
                transaction.__exit__(type(failure), failure, None)
            raise
