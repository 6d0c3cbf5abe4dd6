"""Alembic's view of the dialect: SQLite's, with DDL that is part of the transaction.

Alembic looks for no dialects by itself: :mod:`kvdialect.dialect.base` imports this where a program has Alembic.
"""

from __future__ import annotations

from typing import Any

from alembic.autogenerate import comparators
from alembic.autogenerate.api import AutogenContext
from alembic.ddl import base, sqlite
from alembic.operations.batch import ApplyBatchImpl
from alembic.operations.ops import DropTableOp, ModifyTableOps, UpgradeOps
from sqlalchemy import Table
from sqlalchemy.ext.compiler import compiles

_last: dict[str, Any] = {}
try:
    from alembic.util import DispatchPriority
except ImportError:
    pass  # before 1.18 comparators ran in the order in which they were registered
else:
    _last["priority"] = DispatchPriority.LAST


class KvImpl(sqlite.SQLiteImpl):
    """Migrations of SQL tables. A migration that fails leaves no part of itself behind."""

    __dialect__ = "kvdialect"
    transactional_ddl = True
    _made_anew: Table | None = None

    def prep_table_for_batch(self, batch_impl: ApplyBatchImpl, table: Table) -> None:
        super().prep_table_for_batch(batch_impl, table)
        self._made_anew = table

    def drop_table(self, table: Table, **options: Any) -> None:
        """Drop a table; one that batch mode makes anew without what happens to the rows that refer to its rows."""
        anew, self._made_anew = table is self._made_anew, None
        if not anew or not self._enforced():
            super().drop_table(table, **options)
            return
        self.execute("PRAGMA foreign_keys = OFF")
        try:
            super().drop_table(table, **options)
        finally:
            self.execute("PRAGMA foreign_keys = ON")

    def _enforced(self) -> bool:
        if self.as_sql or self.connection is None:
            return True
        return bool(self.connection.exec_driver_sql("PRAGMA foreign_keys").scalar())


# SQLAlchemy's registry of these goes by the dialect's name alone.
compiles(base.RenameTable, KvImpl.__dialect__)(sqlite.visit_rename_table)
compiles(base.ColumnName, KvImpl.__dialect__)(sqlite.visit_column_name)


@comparators.dispatch_for("schema", **_last)
def leave_records(context: AutogenContext, upgrade: UpgradeOps, _schemas: set[str | None]) -> None:
    """Propose nothing for the tables of records: ``models.upgrade`` changes them, and dropping one is for ever."""
    if context.dialect.name != KvImpl.__dialect__ or context.connection is None:
        return
    entries = context.connection.connection.driver_connection.catalog.entries  # type: ignore[union-attr]
    records = {name for name, entry in entries.items() if entry.definition.layout == "record"}
    upgrade.ops = [
        operation
        for operation in upgrade.ops
        if not isinstance(operation, DropTableOp | ModifyTableOps)
        or operation.schema is not None
        or operation.table_name not in records
    ]
