"""Running a transaction again after a conflict: how often, and after what pause."""

from __future__ import annotations

import inspect
import math
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from kvdialect import exc

RETRIES: Final = 10
"""How often a transaction is run again, unless told otherwise."""

T = TypeVar("T")

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
        if deadline is not None and not _is_number(deadline):
            raise exc.ArgumentError(f"deadline={deadline!r}; give a number of seconds, or None for no limit")
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


def _is_number(value: Any) -> bool:
    return type(value) is not bool and isinstance(value, int | float) and not math.isnan(value)


# ------------------------------------------------------------------------------------------ the function


def plain(function: Callable[..., T]) -> Callable[..., T]:
    """The function, with its result checked: a coroutine has done nothing yet, so there is nothing to commit.

    Raises:
        ArgumentError: for an asynchronous function; from the call, for one that turns out to be one by its result.
    """
    if _is_async(function):
        raise _asynchronous(function)

    def call(*args: Any) -> T:
        result = function(*args)
        if inspect.isawaitable(result) or inspect.isasyncgen(result):
            if inspect.iscoroutine(result):
                result.close()  # or Python warns that it was never awaited
            raise _asynchronous(function)
        return result

    return call


def awaited(function: Callable[..., Any], result: Awaitable[T]) -> Awaitable[T]:
    """The result of a function, which has to be awaitable.

    Raises:
        ArgumentError: if it is not.
    """
    if not inspect.isawaitable(result):
        raise exc.ArgumentError(
            f"async_transaction({function!r:.80}): it returned {result!r:.80}, which cannot be awaited; give it an"
            " async def function of a session, or use transaction()"
        )
    return result


def _is_async(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, getattr(type(function), "__call__", None))  # noqa: B004 - what it is, not whether
    )


def _asynchronous(function: Any) -> exc.ArgumentError:
    return exc.ArgumentError(
        f"transaction({function!r:.80}): it is asynchronous, and nothing would await it; use await"
        " async_transaction(), or give a plain function"
    )
