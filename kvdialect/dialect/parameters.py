"""Parameters of statements as SQLite takes them, and its errors as :pep:`249` names them."""

from __future__ import annotations

import datetime as dt
import decimal
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Self

import apsw

from kvdialect.exc import (
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)

_PLAIN: Final = frozenset({int, str, float, bytes, type(None)})


_ROWS: Final = frozenset({tuple, list})


def plain_rows(rows: Sequence[Any], count: int) -> bool:
    """Whether all sets of parameters are sequences of ``count`` values as SQLite takes them."""
    return (
        _ROWS.issuperset(map(type, rows))
        and set(map(len, rows)) <= {count}
        and _PLAIN.issuperset(map(type, chain.from_iterable(rows)))
    )


def adapted(params: Any) -> Any:
    """Parameters as SQLite takes them."""
    if type(params) is tuple or type(params) is list:
        for value in params:
            if type(value) not in _PLAIN or value != value:
                return [adapted_value(value) for value in params]
        return params
    if params is None:
        return ()
    if isinstance(params, Mapping):
        return {name: adapted_value(value) for name, value in params.items()}
    if isinstance(params, str | bytes | set | frozenset) or not isinstance(params, Iterable):
        raise ProgrammingError(f"parameters are a sequence or a mapping, not {type(params).__name__}")
    return adapted(list(params))


def adapted_value(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value if value == value else None  # NaN is NULL to SQLite
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, dt.datetime):
        return value.isoformat(" ")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, uuid.UUID):
        return value.hex
    for plain in (int, float, str, bytes):
        if isinstance(value, plain):
            return plain(value)  # type: ignore[arg-type]
    raise InterfaceError(
        f"a parameter is {value!r:.80} ({type(value).__name__}), which SQL has no type for; give None, int, float, str,"
        " bytes, Decimal, UUID, date, time or datetime",
        value=value,
    )


FAILURES: Final = (Error, apsw.Error, OverflowError, UnicodeError)
"""What running a statement and reading its rows raise, as far as the statement is to blame; see :func:`translated`."""

_PREFIX: Final = re.compile(r"^\w+Error: ")


def translated(error: BaseException) -> BaseException:
    """An error of SQLite's as one of PEP 249's; others as they are."""
    if isinstance(error, Error):
        return error
    if isinstance(error, OverflowError):
        return DataError(
            f"an integer is too large for SQL: {error}; allowed: -2**63 to 2**63-1 (an UInt64 column takes more, bound"
            " by its type)"
        )
    if isinstance(error, UnicodeDecodeError):
        return OperationalError(f"text that is not UTF-8: {error} (cast it to BLOB to see its bytes)")
    if isinstance(error, UnicodeError):
        return DataError(f"text that is not Unicode: {error}")
    message = _PREFIX.sub("", str(error))
    if isinstance(error, apsw.ConstraintError | apsw.MismatchError):
        return IntegrityError(message)
    if isinstance(error, apsw.BindingsError | apsw.MisuseError | apsw.RangeError):
        return ProgrammingError(message)
    if isinstance(error, apsw.TooBigError):
        return DataError(message)
    if isinstance(error, apsw.CorruptError | apsw.InternalError):
        return InternalError(message)
    if isinstance(error, apsw.Error):
        return OperationalError(message)
    return error


class Unreadable:
    """Rows behind which there is an error, as often as another one is asked for."""

    def __init__(self, error: BaseException, rows: Iterable[Any] = ()) -> None:
        self._rows = iter(rows)
        self._error = error

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        for row in self._rows:
            return row
        raise self._error
