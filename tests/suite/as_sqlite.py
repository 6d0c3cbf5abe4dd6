"""kvdialect under the name of SQLite's dialect, for what SQLAlchemy's tests ask of SQLite by name."""

from sqlalchemy.dialects import registry

from kvdialect.dialect import LmdbDialect, RocksDBDialect


class _AsSQLite:
    name = "sqlite"
    driver = "pysqlite"  # some of SQLAlchemy's requirements name it too
    supports_server_side_cursors = False  # as SQLite's

    @classmethod
    def load_provisioning(cls):
        """Ours stands in provision.py, which is loaded by then."""

    @classmethod
    def _is_url_file_db(cls, url):  # noqa: ARG003
        # SQLAlchemy tests temporary tables and views where SQLite's database is in memory.
        return False

    def create_connect_args(self, url):
        return super().create_connect_args(url.set(drivername=f"kvdialect+{self.engine_name}"))

    def on_connect(self):
        # SQLite enforces foreign keys if asked to. The suite has one for SQLite alone, to columns that are not unique,
        # which cannot be enforced.
        return lambda connection: connection.cursor().execute("PRAGMA foreign_keys = OFF")


class LmdbAsSQLite(_AsSQLite, LmdbDialect):
    """``sqlite+kvlmdb``."""

    engine_name = "lmdb"
    supports_statement_cache = True


class RocksDBAsSQLite(_AsSQLite, RocksDBDialect):
    """``sqlite+kvrocksdb``."""

    engine_name = "rocksdb"
    supports_statement_cache = True


registry.register("sqlite.kvlmdb", __name__, "LmdbAsSQLite")
registry.register("sqlite.kvrocksdb", __name__, "RocksDBAsSQLite")
