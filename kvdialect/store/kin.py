"""The rows that refer to a parent where no index leads to them: each search of them reads the whole table.

The first few are made so. Then, as a statement or a flush that takes many parents away would go on and on, one reads
the whole table for all that come after it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Final

_FEW: Final = 3
"""Searches that read the table by themselves."""

_MOST: Final = 2_000_000
"""Rows of a table up to which their keys are kept."""


class Kin:
    """Keys of rows by what they refer to, of each foreign key that was asked for often.

    A row that has gone since, or refers to another parent, is still there: look whether it is what was looked for. Of
    one that came since, or refers to another parent now, :meth:`add` tells.
    """

    def __init__(self) -> None:
        self._asked: dict[Hashable, int] = {}
        self._keys: dict[Hashable, dict[Hashable, dict[bytes, None]]] = {}

    def find(
        self, reference: Hashable, wanted: Hashable, rows: int, read: Callable[[], Iterable[tuple[Hashable, bytes]]]
    ) -> list[bytes] | None:
        """The keys of the rows that refer to ``wanted``; None: search for them.

        Args:
            reference: the foreign key.
            wanted: what identifies the parent.
            rows: of the table.
            read: gives for each row what identifies its parent, None for none, and its key.
        """
        known = self._keys.get(reference)
        if known is None:
            asked = self._asked[reference] = self._asked.get(reference, 0) + 1
            if asked <= _FEW or rows > _MOST:
                return None
            known = self._keys[reference] = {}
            for parent, key in read():
                if parent is not None:
                    known.setdefault(parent, {})[key] = None
        return list(known.get(wanted, ()))

    def knows(self, reference: Hashable) -> bool:
        """Whether the rows of this foreign key were read, so that it has to be told of others."""
        return reference in self._keys

    def add(self, reference: Hashable, parent: Hashable, key: bytes) -> None:
        """A row refers to a parent from now on; None: to nothing."""
        if parent is not None and reference in self._keys:
            self._keys[reference].setdefault(parent, {})[key] = None

    def end(self) -> None:
        """The statement is over."""
        self._asked.clear()
        self._keys.clear()
