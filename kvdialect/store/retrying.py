"""Running a transaction again after a conflict: how often, and after what pause."""

from __future__ import annotations

import random
import time
from typing import Final

from kvdialect import exc

RETRIES: Final = 10
"""How often a transaction is run again, unless told otherwise."""

_BACKOFF: Final = 0.001
_LONGEST_PAUSE: Final = 0.25


class Attempts:
    """The attempts at one transaction.

    Args:
        retries: how often it may be run again; None: no limit.
        deadline: seconds after which no further run is begun; None: no limit.

    Raises:
        ArgumentError: for a number that is no count.
    """

    def __init__(self, retries: int | None = RETRIES, deadline: float | None = None) -> None:
        if retries is not None and (type(retries) is not int or retries < 0):
            raise exc.ArgumentError(f"retries={retries!r}; give an int of 0 or more")
        self._retries = retries
        self._done = 0
        self._ends = None if deadline is None else time.monotonic() + deadline

    def again(self, error: BaseException) -> bool:
        """True if it is to be run again after ``error``, and counted as such: only what was not applied is."""
        if not isinstance(error, exc.Error) or not error.retryable or error.outcome != "not_applied":
            return False
        if self._done == self._retries or (self._ends is not None and time.monotonic() >= self._ends):
            return False
        self._done += 1
        return True

    def pause(self) -> float:
        """Seconds to wait first: random, to spread the contenders, and longer each time."""
        return random.uniform(0, min(_LONGEST_PAUSE, _BACKOFF * 2.0 ** min(self._done, 16)))  # noqa: S311 - no secret
