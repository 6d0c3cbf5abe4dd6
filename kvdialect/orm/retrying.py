"""Running a transaction again after a conflict: how often, and after what pause."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final

from kvdialect import exc

RETRIES: Final = 10
"""How often a transaction's function is run again, unless told otherwise."""

_BACKOFF: Final = 0.001
_LONGEST_PAUSE: Final = 0.25


class Attempts:
    """The attempts at one transaction.

    Args:
        function: what is run; only looked at here.
        retries: how often it may be run again.
        deadline: seconds after which no further run is begun; None: no limit.

    Raises:
        ArgumentError: for a function that is none, or a number that is no count.
    """

    def __init__(self, function: Callable[..., Any], retries: int, deadline: float | None) -> None:
        if not callable(function):
            raise exc.ArgumentError(f"transaction({function!r:.80}): give it a function of a session")
        if type(retries) is not int or retries < 0:
            raise exc.ArgumentError(f"retries={retries!r}; give an int of 0 or more")
        self._left = retries
        self._done = 0
        self._ends = None if deadline is None else time.monotonic() + deadline

    def again(self, error: exc.Error) -> bool:
        """True if it is to be run again after ``error``, and counted as such."""
        if not (error.retryable and error.outcome == "not_applied") or not self._left:
            return False
        if self._ends is not None and time.monotonic() >= self._ends:
            return False
        self._left -= 1
        self._done += 1
        return True

    def pause(self) -> float:
        """Seconds to wait first: random, to spread the contenders, and longer each time."""
        return random.uniform(0, min(_LONGEST_PAUSE, _BACKOFF * 2.0**self._done))  # noqa: S311 - no secret
