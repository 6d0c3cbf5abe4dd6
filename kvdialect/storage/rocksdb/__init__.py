"""The RocksDB engine. Start reading at :mod:`kvdialect.storage.rocksdb.engine`."""

from kvdialect.storage.rocksdb.engine import RocksDBBackend, RocksDBEngine
from kvdialect.storage.rocksdb.options import RocksDBOptions

__all__ = ["RocksDBBackend", "RocksDBEngine", "RocksDBOptions"]
