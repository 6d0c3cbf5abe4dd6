"""The storage layer: ordered bytes in column families, one contract over every engine.

See :mod:`kvdialect.storage.contract` for what holds, :mod:`kvdialect.storage.registry` for how a URL finds its engine,
and :mod:`kvdialect.storage.shared` for what the built-in engines have in common.
"""

from kvdialect.storage.batch import (
    DELETE,
    KEY_LIMIT,
    Addition,
    Deletion,
    WriteBatch,
    check_key,
    decode_counter,
    encode_counter,
    range_digest,
)
from kvdialect.storage.contract import (
    Capabilities,
    FamilyStats,
    Pair,
    Reader,
    ReaderStats,
    Snapshot,
    StorageBackend,
    check_bounds,
)
from kvdialect.storage.options import (
    ColumnFamilyOptions,
    Size,
    StoreOptions,
    check_family_name,
    parse_size,
    parse_store_options,
)
from kvdialect.storage.ranges import KeyRange, successor
from kvdialect.storage.registry import known_engines, load_backend, open_backend, register
from kvdialect.storage.storedir import restore

__all__ = [
    "DELETE",
    "KEY_LIMIT",
    "Addition",
    "Capabilities",
    "ColumnFamilyOptions",
    "Deletion",
    "FamilyStats",
    "KeyRange",
    "Pair",
    "Reader",
    "ReaderStats",
    "Size",
    "Snapshot",
    "StorageBackend",
    "StoreOptions",
    "WriteBatch",
    "check_bounds",
    "check_family_name",
    "check_key",
    "decode_counter",
    "encode_counter",
    "known_engines",
    "load_backend",
    "open_backend",
    "parse_size",
    "parse_store_options",
    "range_digest",
    "register",
    "restore",
    "successor",
]
