"""SQLAlchemy for ordered key-value engines."""

from kvdialect import backends, exc
from kvdialect.storage import ColumnFamilyOptions, open_backend

__version__ = "0.1.0.dev0"

__all__ = ["ColumnFamilyOptions", "backends", "exc", "open_backend"]
