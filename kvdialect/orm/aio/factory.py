"""async_sessionmaker: asyncio sessions with the same settings; and transactions that are run again on a conflict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from kvdialect import exc
from kvdialect.orm.aio.session import AsyncSession
from kvdialect.orm.factory import sessionmaker
from kvdialect.orm.session import Session
from kvdialect.orm.transactions import attempts_at
from kvdialect.store.retrying import awaited
from kvdialect.store.transaction import IsolationLevel

if TYPE_CHECKING:
    from kvdialect.orm.engine import Engine

T = TypeVar("T")


class async_sessionmaker:  # noqa: N801 - SQLAlchemy's name
    """Makes asyncio sessions: ``Local = async_sessionmaker(engine)``, then ``async with Local() as session``.

    ``async with Local.begin() as session`` gives one with its transaction begun.

    Args:
        engine: what its sessions work on; may be given later, by ``configure`` or per session.
        class_: class of its sessions.
        sync_session_class: base class of the :class:`~kvdialect.Session` in each of them, or a ``sessionmaker``, whose
            settings and listeners hold for these sessions too.
        options: of :class:`~kvdialect.Session`.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        bind: Engine | None = None,
        class_: type[AsyncSession] = AsyncSession,
        sync_session_class: type[Session] | sessionmaker = Session,
        **options: Any,
    ) -> None:
        target = engine if engine is not None else bind
        self.kw: dict[str, Any] = {"sync_session_class": sync_session_class, **options}
        if target is not None:
            self.kw["engine"] = target
        self.class_ = class_

    def __call__(self, **local: Any) -> AsyncSession:
        """Make a session; ``local`` overrides settings."""
        if "bind" in local:
            local["engine"] = local.pop("bind")
        return self.class_(**{**self.kw, **local})

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """A session with a transaction begun, which is committed at the end of the block."""
        async with self() as session, session.begin():
            yield session

    def configure(self, **options: Any) -> None:
        """Change settings for the sessions to come."""
        if "bind" in options:
            options["engine"] = options.pop("bind")
        self.kw.update(options)

    def __repr__(self) -> str:
        return f"async_sessionmaker({', '.join(f'{name}={value!r}' for name, value in self.kw.items())})"


async def run_transaction(
    engine: Engine,
    fn: Callable[[AsyncSession], Awaitable[T]],
    *,
    retries: int,
    isolation_level: IsolationLevel | None,
    deadline: float | None,
) -> T:
    """See :meth:`kvdialect.Engine.async_transaction`."""
    attempts = attempts_at(fn, retries, deadline)
    while True:
        session = AsyncSession(engine, isolation_level=isolation_level)
        try:
            async with session, session.begin():
                return await awaited(fn, fn(session))
        except exc.Error as error:
            if session.sync_session.commits or not attempts.again(error):
                raise
        engine.count_retry()
        await asyncio.sleep(attempts.pause())
