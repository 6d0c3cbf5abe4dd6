"""Group commit: threads that wait for the same slow step, one of which takes it for all.

Whoever comes while nobody leads becomes the leader and takes the step for all that wait by then; the others sleep, each
on a lock of its own, so that those that are done go on at once instead of queueing for a common lock. A leader that
finishes while others wait hands over to the first of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from kvdialect.storage.interrupts import POLL, HeldInterrupts


class Request:
    """One thread's wait. ``done`` and ``error`` say how it ended."""

    __slots__ = ("done", "error", "gate", "promoted")

    def __init__(self) -> None:
        self.done = False
        self.error: BaseException | None = None
        self.gate: threading.Lock | None = None
        self.promoted = False


AnyRequest = TypeVar("AnyRequest", bound=Request)


class Withdrawn(Exception):
    """The wait was too long, or Ctrl-C came; the request was taken back and nothing was done about it."""


class Group(Generic[AnyRequest]):
    """The threads that wait for one step."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: list[AnyRequest] = []
        self._busy = False

    def join(self, request: AnyRequest, timeout: float | None, interrupts: HeldInterrupts | None = None) -> bool:
        """Wait for one's turn: True if the caller leads now, False if its request was done by another.

        A leader must call :meth:`finish`, whatever happens. A request that a leader has in hand is waited for, however
        long: that ends soon.

        Args:
            request: this thread's.
            timeout: seconds, or None for no limit.
            interrupts: where Ctrl-C is being held back, if it is.

        Raises:
            Withdrawn: after ``timeout`` seconds, or when ``interrupts`` are pending; the request is taken back.
            KeyboardInterrupt: where it is not held back; the request is taken back unless a leader has it in hand.
        """
        with self._mutex:
            self._waiting.append(request)
            if not self._busy:
                self._busy = True
                return True
            gate = request.gate = threading.Lock()
            gate.acquire()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not gate.acquire(timeout=_slice(deadline, interrupts)):
                late = deadline is not None and time.monotonic() >= deadline
                if (late or (interrupts is not None and interrupts.pending)) and self._withdraw(request):
                    raise Withdrawn
        except KeyboardInterrupt:
            self._withdraw(request)
            raise
        return not request.done

    def _withdraw(self, request: AnyRequest) -> bool:
        """Take a request back; False if a leader has it in hand."""
        with self._mutex:
            if request not in self._waiting:
                return False
            self._waiting.remove(request)
            request.gate = None
            if request.promoted:
                request.promoted = False
                self._hand_over()
            return True

    def take(self, ready: Callable[[AnyRequest], bool] | None = None) -> list[AnyRequest]:
        """The leader takes the requests that wait, or those of them that are ``ready``."""
        with self._mutex:
            if ready is None:
                taken, self._waiting = self._waiting, []
            else:
                taken = [request for request in self._waiting if ready(request)]
                self._waiting = [request for request in self._waiting if not ready(request)]
            return taken

    def finish(self, requests: list[AnyRequest], own: AnyRequest) -> None:
        """The leader is through with ``requests``: they are done, and the next one leads."""
        with self._mutex:
            if own in self._waiting:
                self._waiting.remove(own)
            for request in requests:
                request.done = True
                if request is not own and request.gate is not None:
                    request.gate.release()
            self._hand_over()

    def _hand_over(self) -> None:
        if self._waiting:
            follower = self._waiting[0]
            follower.promoted = True
            assert follower.gate is not None, "only a leader waits without a gate"
            follower.gate.release()
        else:
            self._busy = False


def _slice(deadline: float | None, interrupts: HeldInterrupts | None) -> float:
    """Seconds to sleep before looking again; -1 for no limit."""
    left = -1.0 if deadline is None else max(deadline - time.monotonic(), 0.0) or POLL
    if interrupts is None or not interrupts.active:
        return left
    return POLL if left < 0 else min(left, POLL)
