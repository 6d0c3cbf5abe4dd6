"""What an engine keeps of a writer's last commit, so that the outcome of one that failed can be looked up.

Under each writer's name its last commit's number and the time, in seconds since 1970, each as 8 bytes, big-endian.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from typing import Any, Final

from kvdialect import exc
from kvdialect.storage.contract import Pair

_numbers = struct.Struct(">QQ")
_KEPT: Final = 256
_SECONDS: Final = 30 * 86400


def written(sequence: int) -> bytes:
    """What is kept of a commit of this moment."""
    return _numbers.pack(sequence, int(time.time()))


def reached(raw: bytes | None, **facts: Any) -> int:
    """The number of a writer's last commit; 0 where nothing is kept of it.

    Raises:
        Corruption: if what is kept is damaged.
    """
    if raw is None:
        return 0
    try:
        return int(_numbers.unpack(raw)[0])
    except struct.error as error:
        raise exc.Corruption(
            f"the number of a writer's last commit is damaged: it is {exc.shown(raw)}; 16 bytes are expected"
            " (restore a backup)",
            **facts,
        ) from error


def outdated(tokens: Iterable[Pair]) -> list[bytes]:
    """The keys of those that nobody asks for any more: of many the old ones, and what is none."""
    tokens = list(tokens)
    if len(tokens) <= _KEPT:
        return []
    oldest = time.time() - _SECONDS
    return [key for key, raw in tokens if len(raw) != _numbers.size or _numbers.unpack(raw)[1] < oldest]
