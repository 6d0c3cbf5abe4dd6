"""The compiled virtual tables, where the package was built with them; else those of :mod:`.virtual` by way of apsw."""

from __future__ import annotations

from typing import Any, Final

import apsw

from kvdialect._compiled import loaded

_tables: Final = loaded("kvdialect.dialect._tables")

available: Final = _tables is not None
"""Whether the package has the compiled tables, and they are not forbidden."""


def create_module(database: apsw.Connection, name: str, module: Any) -> bool:
    """Give a database the compiled module for virtual tables.

    Args:
        database: the database.
        name: of the module.
        module: makes the tables, see ``virtual._Module.table``.

    Returns:
        Whether there is one: not without the compiled code, nor where apsw loads no extensions.
    """
    if _tables is None or not hasattr(database, "load_extension"):
        return False
    database.enable_load_extension(True)
    try:
        database.load_extension(_tables.__file__, "kvdialect_tables_init")
    finally:
        database.enable_load_extension(False)
    _tables.create_module(database.sqlite3_pointer(), name, module, apsw.no_change)
    return True
