"""Holding signals back where an exception out of nowhere would leave a lock held or a transaction open.

Python calls the handlers of signals between any two steps of the main thread: between taking a lock and the ``try``
that gives it back, or between a commit and the line that notes it. That of Ctrl-C raises KeyboardInterrupt, and a
program's own may raise anything, as ``sys.exit()`` on SIGTERM does.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self, TypeVar

E = TypeVar("E")

# Below the module signal, which turns numbers into enums: that took a tenth of a small commit's time.
_signal: Final[Any] = sys.modules.get("_signal", signal)
_HELD: Final = tuple(
    int(getattr(signal, name))
    for name in (
        "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGUSR1", "SIGUSR2", "SIGBREAK"
    )
    if hasattr(signal, name)
)  # fmt: skip
"""Those for which programs have handlers that raise."""

POLL: Final = 0.05
"""Seconds after which a wait looks whether a signal was held back."""


class HeldInterrupts:
    """A ``with`` block in which signals are noted instead of handled; on other threads than the main one, nothing.

    Their own handlers are called by :meth:`deliver`, which whoever opens the block calls after it, and in waits within
    it.

    Attributes:
        active: True if signals are held back here.
        pending: True if one has come.
    """

    __slots__ = ("_handlers", "_noted", "active")

    def __init__(self) -> None:
        self.active = False
        self._noted: list[tuple[int, FrameType | None]] = []
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    @property
    def pending(self) -> bool:
        return bool(self._noted)

    def __enter__(self) -> Self:
        if threading.get_ident() == threading.main_thread().ident:
            handler_of, handlers = _signal.getsignal, self._handlers
            for number in _HELD:
                handler = handler_of(number)
                if handler.__class__ is not int and callable(handler):
                    handlers[number] = handler
            self.active = bool(handlers)
            try:
                for number in handlers:
                    _signal.signal(number, self._note)
            except BaseException:
                self._restore()  # one that is not held back yet has come
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._restore()
        finally:
            if error is not None:
                self.deliver()  # or the error would swallow it

    def _restore(self) -> None:
        """Put all handlers back, though one that is back raises meanwhile."""
        raised: BaseException | None = None
        while True:
            try:
                for number, handler in self._handlers.items():
                    _signal.signal(number, handler)
                break
            except BaseException as error:  # noqa: BLE001 - it is raised again
                raised = error
        if raised is not None:
            try:
                raise raised
            finally:
                del raised

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted.append((number, frame))

    def deliver(self) -> None:
        """Call the handlers of the signals that came; Python's own of SIGINT raises KeyboardInterrupt."""
        while self._noted:
            number, frame = self._noted.pop(0)
            try:
                self._handlers[number](number, frame)
            except BaseException:
                later, self._noted = self._noted, []
                for other, _ in later:
                    _signal.raise_signal(other)  # noted again within the block, and handled behind it
                raise


def undisturbed(make: Callable[[], E]) -> E:
    """What ``make()`` returns; signals that come meanwhile are let go, as one of them is being told of."""
    with HeldInterrupts():
        return make()
