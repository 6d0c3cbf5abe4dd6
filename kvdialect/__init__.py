"""SQLAlchemy for ordered key-value engines: typed records, sessions and queries over RocksDB, LMDB and memory."""

from kvdialect import backends, exc
from kvdialect.orm import (
    AsyncSession,
    Engine,
    Session,
    async_sessionmaker,
    create_engine,
    object_session,
    selectinload,
    sessionmaker,
)
from kvdialect.schema.records import Mapped, field, mapped, registry
from kvdialect.schema.relationships import relationship
from kvdialect.schema.types import (
    Bytes4,
    Bytes8,
    Bytes16,
    Bytes20,
    Bytes32,
    Bytes48,
    Bytes64,
    FixedBinary,
    Int8,
    Int16,
    Int32,
    Int64,
    SignedInteger,
    Structured,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    UnsignedInteger,
)
from kvdialect.storage import ColumnFamilyOptions, open_backend, restore

__version__ = "0.1.0.dev0"

__all__ = [
    "AsyncSession",
    "Bytes4",
    "Bytes8",
    "Bytes16",
    "Bytes20",
    "Bytes32",
    "Bytes48",
    "Bytes64",
    "ColumnFamilyOptions",
    "Engine",
    "FixedBinary",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Mapped",
    "Session",
    "SignedInteger",
    "Structured",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "UnsignedInteger",
    "async_sessionmaker",
    "backends",
    "create_engine",
    "exc",
    "field",
    "mapped",
    "object_session",
    "open_backend",
    "registry",
    "relationship",
    "restore",
    "selectinload",
    "sessionmaker",
]
