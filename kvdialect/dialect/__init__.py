"""The SQL door: SQLAlchemy's dialect over a store, and the DBAPI under it.

It imports without any extra, so that ``Index(..., kvdialect_where=...)`` works wherever SQLAlchemy does. SQLAlchemy
finds it by its entry points. What runs statements needs the extra ``sql`` and is imported when a connection is made.
"""

from __future__ import annotations

from kvdialect.dialect.base import KvDialect, LmdbDialect, MemoryDialect, RocksDBDialect

__all__ = ["KvDialect", "LmdbDialect", "MemoryDialect", "RocksDBDialect"]
