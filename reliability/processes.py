"""Work in forked processes, which answer with bytes or die of a signal.

This process never opens a store: a fork then costs little, and RocksDB's threads, which a fork does not copy, are not
missed.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable


class Child:
    """A forked process that works and answers.

    Args:
        work: what it does; its result is the answer.
        patience: seconds after which the process is ended.
    """

    def __init__(self, work: Callable[[], bytes], patience: int) -> None:
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._reader)

            def answer() -> None:
                with os.fdopen(writer, "wb") as pipe:
                    pipe.write(work())

            leave_after(answer, patience)
        os.close(writer)

    def answer(self) -> bytes | int:
        """The answer, or the number of the signal that the process died of.

        Raises:
            SystemExit: if the work itself has failed, which it has said on standard error.
        """
        with os.fdopen(self._reader, "rb") as pipe:
            found = pipe.read()
        _, status = os.waitpid(self._pid, 0)
        if os.WIFSIGNALED(status):
            return os.WTERMSIG(status)
        if os.WEXITSTATUS(status):
            raise SystemExit("a process of the harness failed; see above")
        return found

    def told(self) -> bytes:
        """The answer of a process that nothing should kill."""
        found = self.answer()
        if isinstance(found, int):
            raise SystemExit(f"a process of the harness died of {signal.Signals(found).name}")
        return found


def leave_after(work: Callable[[], None], patience: int) -> None:
    """In a forked process: work and leave, without running what the parent has at its exit."""
    signal.alarm(patience)
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # whatever it is, the parent learns of it, and nothing of its own is run twice
        traceback.print_exc(file=sys.stderr)
    os._exit(code)
