"""Half-open ranges of keys: the bounds of scans."""

from __future__ import annotations

from typing import Self

import attrs


@attrs.frozen(slots=True)
class KeyRange:
    """The keys from ``start`` up to, not including, ``stop``; a ``stop`` of None has no end."""

    start: bytes = b""
    stop: bytes | None = None

    @classmethod
    def prefix(cls, prefix: bytes) -> Self:
        """The range of exactly the keys that start with ``prefix``; the empty prefix gives all keys."""
        return cls(prefix, successor(prefix))

    def __contains__(self, key: bytes) -> bool:
        return key >= self.start and (self.stop is None or key < self.stop)

    @property
    def empty(self) -> bool:
        """True if no key can be in the range."""
        return self.stop is not None and self.start >= self.stop


def successor(prefix: bytes) -> bytes | None:
    """The least key above every key that starts with ``prefix``; None if there is none, as for runs of byte 255."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return None
    return stem[:-1] + bytes((stem[-1] + 1,))
