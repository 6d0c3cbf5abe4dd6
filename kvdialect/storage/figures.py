"""How long commits take and how much they write: counted for ``stats()``, at a fraction of a microsecond each."""

from __future__ import annotations

import threading
from bisect import bisect_left
from itertools import accumulate
from typing import Any, Final

BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram's buckets, in seconds."""

_NAMES: Final = (*(f"{bound:g}" for bound in BUCKETS), "+Inf")


class CommitFigures:
    """The batches applied to a store by this process. For use by several threads."""

    __slots__ = ("_bytes", "_counts", "_lock", "_longest", "_seconds")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._longest = 0.0
        self._bytes = 0

    def add(self, seconds: float, nbytes: int) -> None:
        """Count a batch.

        Args:
            seconds: from the call until it was durable.
            nbytes: of its keys and values.
        """
        at = bisect_left(BUCKETS, seconds)
        with self._lock:
            self._counts[at] += 1
            self._seconds += seconds
            self._bytes += nbytes
            if seconds > self._longest:  # noqa: PLR1730 - max() takes longer, and this is in every commit
                self._longest = seconds

    def stats(self) -> dict[str, Any]:
        """The figures, as ``stats()`` has them; a bucket counts the batches that took no longer than its name says."""
        with self._lock:
            counts, seconds, longest, nbytes = list(self._counts), self._seconds, self._longest, self._bytes
        return {
            "bytes_written": nbytes,
            "commit_seconds": {
                "count": sum(counts),
                "sum": seconds,
                "max": longest,
                "buckets": dict(zip(_NAMES, accumulate(counts), strict=True)),
            },
        }
