"""The native door for asyncio: sessions whose reads and writes are awaited, and run on threads of the engine's."""

from kvdialect.orm.aio.factory import async_sessionmaker
from kvdialect.orm.aio.results import AsyncResult, AsyncScan
from kvdialect.orm.aio.session import AsyncSession
from kvdialect.orm.aio.transactions import AsyncSessionTransaction

__all__ = ["AsyncResult", "AsyncScan", "AsyncSession", "AsyncSessionTransaction", "async_sessionmaker"]
