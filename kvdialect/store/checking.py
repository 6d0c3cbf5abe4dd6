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
from kvdialect.storage.batch import decode_counter
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.building import Progress
from kvdialect.store.ddl import SchemaEditor

_TOLD: Final = 1000
"""Rows after which progress is told."""


def validate_checks(editor: SchemaEditor, tables: Iterable[str], *, progress: Progress | None = None) -> None:
    """Look at the rows of the tables that have a CHECK which is not validated.

    Raises:
        IntegrityError: naming a row of which one is false; the CHECKs of that table that were not validated are gone.
    """
    for name in tables:
        entry = editor.live.current.entries.get(name)
        if entry is not None and not all(check.validated for check in entry.definition.checks):
            try:
                _look(editor, name, progress)
            except exc.IntegrityError as error:
                editor.settle_checks(name, valid=False)
                raise exc.IntegrityError(
                    f"{error.message} (the constraint was not added: change the record, and upgrade again)",
                    **error.facts,
                ) from error
            editor.settle_checks(name, valid=True)


def _look(editor: SchemaEditor, name: str, progress: Progress | None) -> None:
    with editor.backend.snapshot() as snapshot:
        table = editor.live.at(snapshot).entry(name).table
        check, decode = table.codec.check, table.codec.decode
        if check is None:
            return  # another upgrade was first
        rows = 0 if table.count_key is None else decode_counter(snapshot.get(RESERVED_FAMILY, table.count_key))
        done = 0
        found = snapshot.scan(table.family, table.prefix, table.stop)
        while pairs := list(islice(found, _TOLD)):
            for key, raw in pairs:
                check(decode(key, raw))
            done += len(pairs)
            if progress is not None:
                progress(done, max(rows, done))
