"""Types at the SQL door: what of SQLAlchemy's values SQLite cannot take as they are.

Texts of dates and times are those of SQLAlchemy's own dialect of SQLite, so that programs written for it find them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.base import DATETIME
from sqlalchemy.engine.interfaces import Dialect

from kvdialect import exc
from kvdialect.dialect.sqlvalues import exact_decimal, exact_number, span_from_sql, span_to_sql
from kvdialect.schema.types import UnsignedInteger, json_binder, json_literal, json_reader, kind_of

_WIDE: Final = 1 << 63
_EXACT_DIGITS: Final = 15
"""Digits that a float holds."""


class KvUnsignedInteger(UnsignedInteger):
    """Integers from 2**63 on cross as blobs of 8 bytes, big-endian, which sort after all others."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:  # noqa: ARG002 - SQLAlchemy's signature
        def process(value: Any) -> Any:
            if type(value) is int and value >= _WIDE:
                if value >= 1 << 64:
                    raise exc.DataError(f"a value is {value}; allowed: an int from 0 to {(1 << 64) - 1}", value=value)
                return value.to_bytes(8, "big")
            return value

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
        def process(value: Any) -> Any:
            return int.from_bytes(value, "big") if type(value) is bytes else value

        return process

    def literal_processor(self, dialect: Dialect) -> Callable[[Any], str]:  # noqa: ARG002
        def process(value: Any) -> str:
            return f"x'{value.to_bytes(8, 'big').hex()}'" if value >= _WIDE else str(value)

        return process


class KvDateTime(DATETIME):
    """Aware datetimes are kept in UTC, and come back so; naive ones are as SQLAlchemy's SQLite dialect has them."""

    cache_ok = True

    def __init__(self, timezone: bool = False, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.timezone = timezone

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        plain: Any = super().bind_processor(dialect)
        if not self.timezone:
            return plain  # type: ignore[no-any-return]

        def process(value: Any) -> Any:
            if isinstance(value, dt.datetime) and value.tzinfo is not None:
                value = value.astimezone(dt.UTC).replace(tzinfo=None)
            return plain(value)

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        plain: Any = super().result_processor(dialect, coltype)
        if not self.timezone:
            return plain  # type: ignore[no-any-return]

        def process(value: Any) -> Any:
            naive = plain(value)
            return None if naive is None else naive.replace(tzinfo=dt.UTC)

        return process


class KvNumeric(sa.Numeric[Any]):
    """Decimals are floats to SQL, or integers, as far as these hold all digits; else they are text."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:  # noqa: ARG002
        exact = self.precision is None or self.precision <= _EXACT_DIGITS

        def process(value: Any) -> Any:
            if value is None or type(value) is float:
                return value
            return float(value) if exact or not isinstance(value, Decimal) else exact_number(value)

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:  # noqa: ARG002
        if not self.asdecimal:
            return lambda value: None if value is None else float(value)
        scale = self.scale if self.scale is not None else self._default_decimal_return_scale
        zeros = "0" * scale
        long = self.precision is None or self.precision > _EXACT_DIGITS

        def process(value: Any) -> Any:
            if value is None:
                return None
            if isinstance(value, str):
                return Decimal(value)
            if type(value) is int:
                return Decimal(f"{value}.{zeros}")  # Python formats it as the float that is near to it
            return Decimal(f"{exact_decimal(value, scale) if long else value:.{scale}f}")

        return process


class KvInterval(sa.Interval):
    """Spans of time: texts of datetimes that far from 1970, as SQLAlchemy has them, and a form of their own beyond."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:  # noqa: ARG002
        return lambda value: None if value is None else span_to_sql(value)

    def literal_processor(self, dialect: Dialect) -> Callable[[Any], str]:  # noqa: ARG002
        return lambda value: f"'{span_to_sql(value)}'"

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
        return lambda value: None if value is None else span_from_sql(value)


class KvArray(sa.ARRAY[Any]):
    """Lists are JSON text."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:  # noqa: ARG002
        return json_binder(kind_of(self))

    def literal_processor(self, dialect: Dialect) -> Callable[[Any], str]:  # noqa: ARG002
        return json_literal(kind_of(self))

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
        return json_reader(kind_of(self))
