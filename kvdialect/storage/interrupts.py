"""Holding Ctrl-C back where an exception out of nowhere would leave a lock held or a transaction open.

Python raises KeyboardInterrupt between any two steps of the main thread: between taking a lock and the ``try`` that
gives it back, or between a commit and the line that notes it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

# Below the module signal, which turns numbers into enums: that took a tenth of a small commit's time.
_signal: Final[Any] = sys.modules.get("_signal", signal)
_SIGINT: Final = int(signal.SIGINT)

POLL: Final = 0.05
"""Seconds after which a wait looks whether Ctrl-C was held back."""


class HeldInterrupts:
    """A ``with`` block in which SIGINT is noted instead of handled; on other threads than the main one, nothing.

    The signal's own handler is called by :meth:`deliver`, which whoever opens the block calls after it, and in waits
    within it.

    Attributes:
        active: True if signals are held back here.
        pending: True if one has come.
    """

    __slots__ = ("_frame", "_handler", "active", "pending")

    def __init__(self) -> None:
        self.active = False
        self.pending = False
        self._frame: FrameType | None = None
        self._handler: Callable[[int, FrameType | None], Any] | None = None

    def __enter__(self) -> Self:
        if threading.get_ident() == threading.main_thread().ident:
            handler = _signal.getsignal(_SIGINT)
            if callable(handler):
                self._handler = handler
                self.active = True
                _signal.signal(_SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.active:
            _signal.signal(_SIGINT, self._handler)
        if error is not None:
            self.deliver()  # or the error would swallow it

    def _note(self, _number: int, frame: FrameType | None) -> None:
        self.pending, self._frame = True, frame

    def deliver(self) -> None:
        """Call the handler for a signal that came, if one did. It raises KeyboardInterrupt unless it is another's."""
        if self.pending:
            self.pending = False
            frame, self._frame = self._frame, None
            assert self._handler is not None, "only an active block notes signals"
            self._handler(signal.SIGINT, frame)
