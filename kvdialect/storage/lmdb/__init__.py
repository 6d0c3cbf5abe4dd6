"""The LMDB engine. Start reading at :mod:`kvdialect.storage.lmdb.engine`."""

from kvdialect.storage.lmdb.engine import LmdbBackend, LmdbEngine
from kvdialect.storage.lmdb.options import LmdbOptions

__all__ = ["LmdbBackend", "LmdbEngine", "LmdbOptions"]
