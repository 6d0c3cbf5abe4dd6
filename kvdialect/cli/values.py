"""Values between a command line and a store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

from kvdialect import exc
from kvdialect.schema.definition import FieldDefinition


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _bool(text: str) -> bool:
    return {"true": True, "false": False, "1": True, "0": False}[text.lower()]


_PARSERS: Final[Mapping[type, tuple[Callable[[str], Any], str]]] = {
    bool: (_bool, "true or false"),
    bytes: (_bytes, "hexadecimal digits"),
    Decimal: (Decimal, "a decimal number"),
    dt.datetime: (dt.datetime.fromisoformat, "a date and time of ISO 8601"),
    dt.date: (dt.date.fromisoformat, "a date of ISO 8601"),
    dt.time: (dt.time.fromisoformat, "a time of ISO 8601"),
    float: (float, "a number"),
    int: (int, "an integer"),
    str: (str, "text"),
    UUID: (UUID, "a UUID"),
}


def parsed(field: FieldDefinition, text: str) -> Any:
    """The value of a field as a command line gives it.

    Raises:
        DataError: if it is none; the message says how values of this type are written.
    """
    parse, written = _PARSERS.get(field.kind.python, (str, "text"))
    try:
        return parse(text)
    except (ValueError, KeyError, InvalidOperation) as error:
        raise exc.DataError(f"{field.name} is {text!r}; write it as {written}", field=field.name, value=text) from error


def plain(value: Any) -> Any:
    """A value as JSON has it: bytes in hexadecimal, times in ISO 8601, what JSON has no name for as text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return str(value)


def shown(value: Any, width: int = 44) -> str:
    """A value in a table."""
    text = "" if value is None else str(plain(value))
    return text if len(text) <= width else f"{text[: width - 1]}…"
