"""The threads of asyncio sessions: a bounded number, each of them for one transaction at a time.

A session takes a thread with the first read or write of a transaction and gives it back when the transaction is over,
as SQLAlchemy's takes a connection from its pool; when all are taken, it waits in the event loop. So a transaction, and
whatever of the engine's belongs to it, stays on one thread, and open snapshots are bounded too: LMDB has slots for
some 120 of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, Final

from sqlalchemy import exc as sa_exc

from kvdialect import exc

POOL_SIZE: Final = 32
"""Transactions of asyncio sessions that are open at once, unless told otherwise."""

POOL_TIMEOUT: Final = 30.0
"""Seconds to wait for one of them to end, unless told otherwise."""

_INTERRUPT_AGAIN: Final = 0.05
"""Seconds after which a cancelled call that still runs is interrupted once more: it may have begun another scan."""


_log = logging.getLogger(__name__)


class Call:
    """One call on a worker's thread, and the task that awaits it.

    It takes half the time of the standard library's executors, which need two futures for a call.
    """

    __slots__ = ("_context", "_done", "_error", "_function", "_loop", "_result", "_skipped", "_waiter")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function: Callable[[], Any] | None = function
        self._context = copy_context()
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] = self._loop.create_future()
        self._done = False
        self._skipped = False
        self._result: Any = None
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """True once the event loop knows the result."""
        return self._done

    def run(self) -> None:
        """Call the function; on the worker's thread."""
        function, self._function = self._function, None
        assert function is not None, "a call runs once"
        if not self._skipped:
            try:
                self._result = self._context.run(function)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the task that awaits gets it
                self._error = error
        del function
        # A loop that is closed has no task that could await the result.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._done = True
        if not self._waiter.done():
            self._waiter.set_result(None)

    async def result(self, interrupt: Callable[[], None] | None = None) -> Any:
        """The function's result, or its error, once it has ended.

        Args:
            interrupt: for a function that may be cut short: called when the task is cancelled, and again until the
                function has ended. A function without one runs to its end.

        Raises:
            asyncio.CancelledError: if the task was cancelled meanwhile, from the function's own error if it had one:
                when it is raised nothing runs any more.
        """
        cancelled: asyncio.CancelledError | None = None
        again: asyncio.TimerHandle | None = None
        while not self._done:
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                if interrupt is not None and again is None and not self._done:
                    self._skipped = True  # if it has not begun
                    interrupt()
                    again = self._loop.call_later(_INTERRUPT_AGAIN, self._interrupt, interrupt)
                if not self._done:
                    self._waiter = self._loop.create_future()
        failure, self._error = self._error, None
        try:
            if cancelled is not None:
                raise cancelled from failure
            if failure is not None:
                raise failure
            return self._result
        finally:
            del failure, cancelled  # or they, their tracebacks and this frame would keep each other

    def _interrupt(self, interrupt: Callable[[], None]) -> None:
        if not self._done:
            interrupt()
            self._loop.call_later(_INTERRUPT_AGAIN, self._interrupt, interrupt)


class Worker:
    """A thread, and the calls that wait for it."""

    __slots__ = ("_calls", "_lock", "_pid", "_stopped")

    def __init__(self, number: int) -> None:
        self._calls: SimpleQueue[Call | Callable[[], None] | None] = SimpleQueue()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stopped = False
        # A daemon: a program may end without closing its engine. What was awaited has ended by then.
        threading.Thread(target=_serve, args=(self._calls,), name=f"kvdialect-worker-{number}", daemon=True).start()

    def call(self, function: Callable[[], Any]) -> Call:
        """Begin a call, whose ``result()`` is to be awaited.

        Raises:
            StoreClosed: if the engine was closed.
            ForkedProcess: in a child of the process that has the thread.
        """
        if os.getpid() != self._pid:
            raise exc.ForkedProcess(f"the engine was opened in pid {self._pid}; reopen in pid {os.getpid()}")
        call = Call(function)
        with self._lock:  # behind the end of the thread nothing would ever answer
            if self._stopped:
                raise exc.StoreClosed("the engine was closed, and its threads with it; open it again")
            self._calls.put(call)
        return call

    def later(self, function: Callable[[], None]) -> None:
        """Run a function after all that was called before, for no one; not at all if the engine was closed."""
        if os.getpid() != self._pid:
            return  # a thread of the parent may have held the lock at the fork
        with self._lock:
            if not self._stopped:
                self._calls.put(function)

    def stop(self) -> None:
        """End the thread, after all that was called before."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._stopped = True
            self._calls.put(None)


def _serve(calls: SimpleQueue[Call | Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        if isinstance(call, Call):
            call.run()
        else:
            try:
                call()
            except Exception:  # noqa: BLE001 - whatever it is, the thread is needed for others
                _log.warning("closing a session that was dropped failed", exc_info=True)
        del call  # or it would be kept until the next one


class WorkerPool:
    """The workers of one engine. For use by several event loops, in several threads.

    Args:
        name: what the engine is called in messages.
        size: the most workers, and so the most transactions at once.
        timeout: seconds to wait for one.
    """

    def __init__(self, name: str, size: int = POOL_SIZE, timeout: float = POOL_TIMEOUT) -> None:
        if type(size) is not int or size < 1:
            raise exc.ArgumentError(f"pool_size={size!r}; give an int of 1 or more")
        if not isinstance(timeout, int | float) or timeout < 0:
            raise exc.ArgumentError(f"pool_timeout={timeout!r}; give a number of seconds, 0 or more")
        self.name = name
        self.size = size
        self.timeout = timeout
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._idle: list[Worker] = []
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[Worker]]] = deque()
        self._closed = False
        # The threads know their queues and not the pool: it, and its engine, can go without being closed.
        weakref.finalize(self, _stop, self._workers).atexit = False

    @property
    def taken(self) -> int:
        """How many workers have a transaction."""
        with self._lock:
            return len(self._workers) - len(self._idle)

    def stats(self) -> dict[str, int]:
        """Figures for ``engine.stats()``."""
        with self._lock:
            threads = len(self._workers)
            return {
                "size": self.size,
                "threads": threads,
                "taken": threads - len(self._idle),
                "waiting": len(self._waiting),
            }

    async def take(self) -> Worker:
        """A worker that nobody else has; give it back with :meth:`give_back`.

        Raises:
            sqlalchemy.exc.TimeoutError: if all were taken for ``timeout`` seconds.
            StoreClosed: if the engine was closed.
            ForkedProcess: in a child of the process that opened the store.
        """
        if os.getpid() != self._pid:
            raise exc.ForkedProcess(f"{self.name} was opened in pid {self._pid}; reopen in pid {os.getpid()}")
        with self._lock:
            if self._closed:
                raise exc.StoreClosed(f"{self.name} is closed; open it again")
            if self._idle:
                return self._idle.pop()  # the one used last, whose thread is warm
            if len(self._workers) < self.size:
                worker = Worker(len(self._workers))
                self._workers.append(worker)
                return worker
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[Worker] = loop.create_future()
            self._waiting.append((loop, waiter))
        try:
            async with asyncio.timeout(self.timeout):
                return await waiter
        except BaseException as error:
            with self._lock, contextlib.suppress(ValueError):
                self._waiting.remove((loop, waiter))
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give_back(waiter.result())  # it came together with the cancellation
            if isinstance(error, TimeoutError):
                raise sa_exc.TimeoutError(
                    f"{self.size} asyncio transactions are open on {self.name}, and none ended in {self.timeout:g} s;"
                    " end them sooner, do not wait for one within another, or give create_engine a larger pool_size"
                ) from None
            raise

    def give_back(self, worker: Worker) -> None:
        """Let the next one have a worker, who may be waiting for it; from any thread."""
        if os.getpid() != self._pid:
            return
        while True:
            with self._lock:
                if self._closed:
                    return
                if not self._waiting:
                    self._idle.append(worker)
                    return
                loop, waiter = self._waiting.popleft()
            # One whose loop was closed waits no more. One whose loop has stopped may never run again: what it is
            # handed would be lost to the others, so it asks for itself if it does.
            with contextlib.suppress(RuntimeError):
                if loop.is_running():
                    loop.call_soon_threadsafe(self._hand_over, waiter, worker)
                    return
                loop.call_soon_threadsafe(self._ask_again, loop, waiter)

    def _ask_again(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[Worker]) -> None:
        if waiter.done():
            return
        with self._lock:
            if not self._closed:
                if self._idle:
                    waiter.set_result(self._idle.pop())
                else:
                    self._waiting.appendleft((loop, waiter))
                return
        self._refuse(waiter)

    def _hand_over(self, waiter: asyncio.Future[Worker], worker: Worker) -> None:
        if not waiter.done():
            waiter.set_result(worker)
        else:
            self.give_back(worker)

    def close(self) -> None:
        """End the threads, each after what it is doing; who waits gets StoreClosed. Closing twice is harmless."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._idle.clear()
            _stop(self._workers)
        for loop, waiter in waiting:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._refuse, waiter)

    def _refuse(self, waiter: asyncio.Future[Worker]) -> None:
        if not waiter.done():
            waiter.set_exception(exc.StoreClosed(f"{self.name} was closed meanwhile; open it again"))


def _stop(workers: list[Worker]) -> None:
    while workers:
        workers.pop().stop()
