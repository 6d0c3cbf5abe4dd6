"""SQLAlchemy's view of kvdialect: the dialect class, which says what Table and Index take.

It imports without any extra, so that ``Index(..., kvdialect_where=...)`` works wherever SQLAlchemy does. SQLAlchemy
finds it by its entry point.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

from kvdialect import exc


class KvDialect(DefaultDialect):
    """The dialect named ``kvdialect``. It carries the options of tables and indexes; it does not yet connect."""

    name = "kvdialect"
    supports_statement_cache = True
    construct_arguments = [  # noqa: RUF012 - SQLAlchemy declares it for instances
        (sa.Table, {"options": None, "format": None}),
        (sa.Index, {"options": None, "where": None, "include": None, "kind": None}),
    ]

    @classmethod
    def import_dbapi(cls) -> Any:
        """Refuse: there is no DBAPI."""
        raise exc.NotSupportedError(
            "the SQL door is not part of this release; open the store with kvdialect.create_engine and work in a"
            " Session"
        )
