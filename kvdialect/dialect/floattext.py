"""Floats as text, as the SQLite that is loaded writes them.

A column of text that is given a float stores its text, and SQLite makes the same float text again to compare it with
the column. The two must agree, and how SQLite does it is a matter of its release.
"""

from __future__ import annotations

import threading

import apsw

from kvdialect.codec import dynamic


class _Local(threading.local):
    """A connection is for one thread at a time."""

    def __init__(self) -> None:
        self.db = apsw.Connection(":memory:")


_local = _Local()


def float_text(value: float) -> str:
    """What ``CAST(value AS TEXT)`` gives."""
    text: str = _local.db.execute("select cast(? as text)", (value,)).get
    return text


def install() -> None:
    """Have all floats that become text written so."""
    dynamic.write_floats_by(float_text)
