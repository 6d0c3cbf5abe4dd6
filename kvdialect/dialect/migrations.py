"""Alembic's view of the dialect: SQLite's, with DDL that is part of the transaction.

Alembic looks for no dialects by itself: :mod:`kvdialect.dialect.base` imports this where a program has Alembic.
"""

from __future__ import annotations

from alembic.ddl import base, sqlite
from sqlalchemy.ext.compiler import compiles


class KvImpl(sqlite.SQLiteImpl):
    """Migrations of SQL tables. A migration that fails leaves no part of itself behind."""

    __dialect__ = "kvdialect"
    transactional_ddl = True


# SQLAlchemy's registry of these goes by the dialect's name alone.
compiles(base.RenameTable, KvImpl.__dialect__)(sqlite.visit_rename_table)
compiles(base.ColumnName, KvImpl.__dialect__)(sqlite.visit_column_name)
