"""Names of tables, columns and whatever else SQL names, as it tells them apart."""

from __future__ import annotations

from typing import Final

_FOLDED: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def folded(name: str) -> str:
    """A name by which SQL finds it: A to Z in lower case, and no other letter, as SQLite has it."""
    # Python's lower() makes one name of É and é, k of the Kelvin sign, and two letters of İ.
    return name.lower() if name.isascii() else name.translate(_FOLDED)
