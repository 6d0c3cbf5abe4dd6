"""Values as they are printed where no column says what they are: results of SQL, facts."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from kvdialect.codec.jsontext import duration

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal would take for a command; a line end and a tab are harmless."""


def plain(value: Any) -> Any:
    """A value as JSON has it: bytes in hexadecimal, times in ISO 8601, what JSON has no name for as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return duration(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return str(value)


def text_of(value: Any, null: str = "") -> str:
    """A value as text: what is no text itself as JSON has it."""
    value = plain(value)
    if value is None:
        return null
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | dict) else str(value)


def shown(value: Any, width: int = 44) -> str:
    """A value in a table."""
    text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text_of(value))
    return text if len(text) <= width else f"{text[: width - 1]}…"
