"""CHECKs that a table gets when rows are there: writers keep them at once, and the rows are looked at afterwards.

The constraint is in the catalog first. Commits expect the catalog's version, so from then on no row of which it is
false is written, and a snapshot taken later shows every row that came before. These are looked at, one by one; if it is
false of one, the constraint goes again. Cut off, it stays as not validated, and the next upgrade looks again.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from kvdialect import exc
from kvdialect.schema.definition import CheckDefinition, TableDefinition
from kvdialect.storage.batch import decode_counter
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.building import Progress
from kvdialect.store.ddl import SchemaEditor

_TOLD: Final = 1000
"""Rows after which progress is told."""


def validate_checks(
    editor: SchemaEditor, definitions: Iterable[TableDefinition], *, progress: Progress | None = None
) -> None:
    """Look at the rows of the tables that have a CHECK of these definitions which is not validated.

    Raises:
        IntegrityError: naming a row of which one is false; those that were not validated are gone.
        SchemaChanged: another upgrade has dropped one meanwhile.
    """
    for definition in definitions:
        name, declared = definition.name, definition.checks
        while True:
            entry = editor.live.reload().entries.get(name)
            checks = () if entry is None else entry.definition.checks
            if entry is not None and not all(check in checks for check in declared):
                raise exc.SchemaChanged(
                    f"a CHECK of table {name} was dropped while the rows were looked at (upgrade again)", table=name
                )
            if all(check.validated and check in declared for check in checks):
                break
            wanted = [check for check in checks if check in declared and not check.validated]
            if not wanted and not any(check.validated and check not in declared for check in checks):
                break  # another upgrade's, which it looks at itself
            try:
                looked = _look(editor, name, progress) if wanted else []
            except exc.IntegrityError as error:
                editor.settle_checks(name, wanted, valid=False, declared=declared)
                raise exc.IntegrityError(
                    f"{error.message} (the constraint was not added: change the record, and upgrade again)",
                    **error.facts,
                ) from error
            editor.settle_checks(name, looked, valid=True, declared=declared)


def _look(editor: SchemaEditor, name: str, progress: Progress | None) -> list[CheckDefinition]:
    """Look at all rows; the CHECKs that are true of them."""
    with editor.backend.snapshot() as snapshot:
        entry = editor.live.at(snapshot).entry(name)
        table = entry.table
        check, decode = table.codec.check, table.codec.decode
        if check is None:
            return []  # another upgrade was first
        rows = 0 if table.count_key is None else decode_counter(snapshot.get(RESERVED_FAMILY, table.count_key))
        done = 0
        found = snapshot.scan(table.family, table.prefix, table.stop)
        while pairs := list(islice(found, _TOLD)):
            for key, raw in pairs:
                check(decode(key, raw))
            done += len(pairs)
            if progress is not None:
                progress(done, max(rows, done))
        return list(entry.definition.checks)
