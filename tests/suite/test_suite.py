"""The tests are SQLAlchemy's; of those that know SQLAlchemy's own drivers alone, ours are told here."""

from sqlalchemy.testing import config
from sqlalchemy.testing.suite import *  # noqa: F403
from sqlalchemy.testing.suite import ServerSideCursorsTest as _ServerSideCursorsTest


class ServerSideCursorsTest(_ServerSideCursorsTest):
    def _is_server_side(self, cursor):
        return cursor.server_side if self.engine.dialect.is_async else cursor.streaming

    def stringify(self, str_):
        if "FOR UPDATE" in str_:
            config.skip_test("SQLite has no FOR UPDATE")
        return super().stringify(str_)
