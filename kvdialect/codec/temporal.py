"""Points in time and spans of it, to the microsecond."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final, Self

from msgspec import Meta

from kvdialect.codec.kinds import Kind, Namespace, OutOfRange, Refused, facts, put

SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
_SIGN: Final = 1 << 63

_NAIVE: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the epoch of naive datetimes
_AWARE: Final = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(span: timedelta) -> int:
    """A span as an exact number of microseconds."""
    return (span.days * 86_400 + span.seconds) * SECOND + span.microseconds


_LOWEST: Final = microseconds(datetime.min - _NAIVE)  # noqa: DTZ901
_HIGHEST: Final = microseconds(datetime.max - _NAIVE)  # noqa: DTZ901
_EPOCH_DAY: Final = _NAIVE.toordinal()
_LOWEST_DAY: Final = date.min.toordinal() - _EPOCH_DAY
_HIGHEST_DAY: Final = date.max.toordinal() - _EPOCH_DAY


class DatetimeKind(Kind):
    """datetimes as microseconds since 1970 in a signed 64-bit integer, sign bit flipped in keys.

    Attributes:
        aware: values have a time zone, are ordered by the moment they mean and come back in UTC; else they have none.
    """

    tag = "datetime"
    python = datetime
    width = 8
    wire = Annotated[int, Meta(ge=_LOWEST, le=_HIGHEST)]

    def __init__(self, aware: bool = False) -> None:
        self.aware = bool(aware)
        self.allowed = (
            "a datetime with a time zone, from year 1 to 9999 in UTC" if aware else "a datetime without a time zone"
        )
        self._epoch = _AWARE if aware else _NAIVE

    def spec(self) -> dict[str, Any]:
        return {"kind": "datetime", "aware": self.aware}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> Self:  # noqa: ARG003
        return cls(**facts(spec, aware=bool))

    def check(self, value: Any) -> datetime:
        if not isinstance(value, datetime):
            raise Refused("no datetime")
        if value.__class__ is not datetime:
            value = _plain(value)
        if (value.utcoffset() is not None) is not self.aware:
            raise ValueError("with a time zone" if value.tzinfo is not None else "without a time zone")
        moment: datetime = value
        if not self.aware:
            return moment if moment.tzinfo is None else moment.replace(tzinfo=None)
        try:
            return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
        except OverflowError as error:
            raise ValueError("out of range in UTC") from error

    def encode(self, value: datetime) -> bytes:
        return (self.store(value) + _SIGN).to_bytes(8)

    def decode(self, raw: bytes) -> datetime:
        if len(raw) != 8:
            raise ValueError(f"a datetime takes 8 bytes in a key, not {len(raw)}")
        return self.load(int.from_bytes(raw) - _SIGN)

    def bound(self, value: Any) -> bytes:
        if isinstance(value, date) and not isinstance(value, datetime) and not self.aware:
            value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - midnight, as SQL compares the two
        if self.aware and isinstance(value, datetime) and value.utcoffset() is not None:
            # In UTC it may lie in year 0 or 10000, where Python has no datetimes.
            exact = microseconds(value.replace(tzinfo=None) - _NAIVE) - microseconds(value.utcoffset() or timedelta())
            if not _LOWEST <= exact <= _HIGHEST:
                raise OutOfRange(-1 if exact < 0 else 1)
        return self.encode(self.check(value))

    def store(self, value: datetime) -> int:
        return microseconds(value - self._epoch)

    def load(self, wire: int) -> datetime:
        try:
            return self._epoch + timedelta(microseconds=wire)
        except OverflowError as error:
            raise ValueError(f"{wire} microseconds since 1970 are not between the years 1 and 9999") from error

    def test_source(self, v: str, names: Namespace) -> str:
        zone = put(names, UTC) if self.aware else "None"
        return f"{v}.__class__ is {put(names, datetime)} and {v}.tzinfo is {zone}"


def _plain(value: datetime) -> datetime:
    """A datetime of a subclass as a plain one.

    Raises:
        ValueError: if that is not the same moment (pandas has nanoseconds, and a NaT).
    """
    try:
        plain = datetime(
            value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond,
            tzinfo=value.tzinfo, fold=value.fold,
        )  # fmt: skip
    except (TypeError, OverflowError) as error:
        raise ValueError("no moment") from error
    if plain != value:
        raise ValueError("finer than microseconds")
    return plain


class DateKind(Kind):
    """Dates as days since 1970 in a signed 32-bit integer, sign bit flipped in keys."""

    tag = "date"
    python = date
    width = 4
    wire = Annotated[int, Meta(ge=_LOWEST_DAY, le=_HIGHEST_DAY)]
    allowed = "a date (no datetime)"

    def spec(self) -> dict[str, Any]:
        return {"kind": "date"}

    def check(self, value: Any) -> date:
        if value.__class__ is date:
            return value
        if not isinstance(value, date) or isinstance(value, datetime):
            raise Refused("no date")
        return date(value.year, value.month, value.day)

    def encode(self, value: date) -> bytes:
        return (value.toordinal() - _EPOCH_DAY + (1 << 31)).to_bytes(4)

    def decode(self, raw: bytes) -> date:
        if len(raw) != 4:
            raise ValueError(f"a date takes 4 bytes in a key, not {len(raw)}")
        return self.load(int.from_bytes(raw) - (1 << 31))

    def store(self, value: date) -> int:
        return value.toordinal() - _EPOCH_DAY

    def load(self, wire: int) -> date:
        if not _LOWEST_DAY <= wire <= _HIGHEST_DAY:
            raise ValueError(f"{wire} days since 1970 are not between the years 1 and 9999")
        return date.fromordinal(wire + _EPOCH_DAY)

    def test_source(self, v: str, names: Namespace) -> str:
        return f"{v}.__class__ is {put(names, date)}"


class TimeKind(Kind):
    """Times of day without a time zone, as microseconds since midnight in 8 bytes, big-endian."""

    tag = "time"
    python = time
    width = 8
    wire = Annotated[int, Meta(ge=0, lt=DAY)]
    allowed = "a time without a time zone"

    def spec(self) -> dict[str, Any]:
        return {"kind": "time"}

    def check(self, value: Any) -> time:
        if not isinstance(value, time) or value.tzinfo is not None:
            raise ValueError("no time, or with a time zone")
        if value.__class__ is time:
            return value
        return time(value.hour, value.minute, value.second, value.microsecond, fold=value.fold)

    def encode(self, value: time) -> bytes:
        return self.store(value).to_bytes(8)

    def decode(self, raw: bytes) -> time:
        if len(raw) != 8:
            raise ValueError(f"a time takes 8 bytes in a key, not {len(raw)}")
        return self.load(int.from_bytes(raw))

    def store(self, value: time) -> int:
        return ((value.hour * 60 + value.minute) * 60 + value.second) * SECOND + value.microsecond

    def load(self, wire: int) -> time:
        if not 0 <= wire < DAY:
            raise ValueError(f"{wire} microseconds since midnight are more than a day")
        seconds, microsecond = divmod(wire, SECOND)
        minutes, second = divmod(seconds, 60)
        hour, minute = divmod(minutes, 60)
        return time(hour, minute, second, microsecond)

    def test_source(self, v: str, names: Namespace) -> str:
        return f"{v}.__class__ is {put(names, time)} and {v}.tzinfo is None"


class TimedeltaKind(Kind):
    """Spans of time over the whole range of Python's timedelta.

    That range does not fit 64 bits of microseconds, so a span stands as days (may be negative) and microseconds of a
    day: in keys 4 bytes, sign bit flipped, and 5 bytes; on the wire an array of the two.
    """

    tag = "timedelta"
    python = timedelta
    width = 9
    wire = tuple[Annotated[int, Meta(ge=timedelta.min.days, le=timedelta.max.days)], Annotated[int, Meta(ge=0, lt=DAY)]]
    allowed = "a timedelta"

    def spec(self) -> dict[str, Any]:
        return {"kind": "timedelta"}

    def check(self, value: Any) -> timedelta:
        if value.__class__ is timedelta:
            return value
        if not isinstance(value, timedelta):
            raise Refused("no timedelta")
        try:
            plain = timedelta(value.days, value.seconds, value.microseconds)
        except (TypeError, OverflowError) as error:
            raise ValueError("no span") from error
        if plain != value:
            raise ValueError("finer than microseconds")
        return plain

    def encode(self, value: timedelta) -> bytes:
        return (value.days + (1 << 31)).to_bytes(4) + (value.seconds * SECOND + value.microseconds).to_bytes(5)

    def decode(self, raw: bytes) -> timedelta:
        if len(raw) != 9:
            raise ValueError(f"a timedelta takes 9 bytes in a key, not {len(raw)}")
        return self.load((int.from_bytes(raw[:4]) - (1 << 31), int.from_bytes(raw[4:])))

    def store(self, value: timedelta) -> tuple[int, int]:
        return value.days, value.seconds * SECOND + value.microseconds

    def load(self, wire: tuple[int, int]) -> timedelta:
        days, rest = wire
        if not timedelta.min.days <= days <= timedelta.max.days or not 0 <= rest < DAY:
            raise ValueError(f"{days} days and {rest} microseconds are no timedelta")
        return timedelta(days, 0, rest)

    def test_source(self, v: str, names: Namespace) -> str:
        return f"{v}.__class__ is {put(names, timedelta)}"
