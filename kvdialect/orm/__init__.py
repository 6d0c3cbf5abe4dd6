"""The native door: Session, identity map and unit of work over the store's transactions."""

from kvdialect.orm.aio import AsyncResult, AsyncScan, AsyncSession, AsyncSessionTransaction, async_sessionmaker
from kvdialect.orm.engine import Engine, create_engine
from kvdialect.orm.events import SessionEvents
from kvdialect.orm.factory import sessionmaker
from kvdialect.orm.relationships import selectinload
from kvdialect.orm.session import Session, object_session
from kvdialect.orm.transactions import NestedTransaction, SessionTransaction

__all__ = [
    "AsyncResult",
    "AsyncScan",
    "AsyncSession",
    "AsyncSessionTransaction",
    "Engine",
    "NestedTransaction",
    "Session",
    "SessionEvents",
    "SessionTransaction",
    "async_sessionmaker",
    "create_engine",
    "object_session",
    "selectinload",
    "sessionmaker",
]
