"""Python's values of what Arrow arrays hold, exactly: what Python has no value for is named, not cut or wrapped."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import attrs

from kvdialect.codec.temporal import DAY, microseconds

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - what Arrow's numbers count from, in UTC or without a zone

_NANOSECONDS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1, "day": DAY * 1000}
"""Of each unit of Arrow."""


def _range(lowest: int, highest: int) -> tuple[int, int]:
    """From and to so many microseconds, in nanoseconds."""
    return lowest * 1000, highest * 1000 + 999


_MOMENTS: Final = _range(microseconds(datetime.min - _EPOCH), microseconds(datetime.max - _EPOCH))  # noqa: DTZ901
_TIMES: Final = _range(0, DAY - 1)
_SPANS: Final = _range(microseconds(timedelta.min), microseconds(timedelta.max))


@attrs.frozen(repr=False)
class Unfit:
    """A value of Arrow that Python has none for; no kind takes it.

    Attributes:
        shown: what it is, and of which type.
        why: what Python lacks.
    """

    shown: str
    why: str

    def __repr__(self) -> str:
        return f"{self.shown}, {self.why}"


def python_values(array: Any) -> tuple[list[Any], dict[int, Unfit]]:
    """The values of an Arrow array, and by their places those that Python has none for, in whose place None stands."""
    if _unfit(array) is None:
        try:
            return _read(array), {}
        except (ValueError, ArithmeticError):
            pass  # looked for below
    values: list[Any] = []
    unfit: dict[int, Unfit] = {}
    for at in range(len(array)):
        one = array.slice(at, 1)
        why = _unfit(one)
        try:
            values += [None] if why else _read(one)
        except (ValueError, ArithmeticError) as error:
            values.append(None)
            why = str(error)
        if why:
            unfit[at] = Unfit(_shown(one), why)
    return values, unfit


def _read(array: Any) -> list[Any]:
    """The values of an array that has nothing finer than microseconds at its top."""
    import pyarrow as pa

    of = array.type
    if pa.types.is_timestamp(of):
        # Near the ends of Python's years a moment may lie in UTC alone; and not every zone's name is known here.
        array = array.cast(pa.timestamp("us" if of.unit == "ns" else of.unit, "UTC" if of.tz else None))
    elif pa.types.is_duration(of) and of.unit == "ns":
        array = array.cast(pa.duration("us"))
    values: list[Any] = array.to_pylist()
    return values


def _shown(array: Any) -> str:
    import pyarrow as pa

    of = array.type
    if _ends(of) is None:
        return f"a value of {of}"
    return f"{array.cast(pa.int32() if of.bit_width == 32 else pa.int64())[0]} ({of})"


def _ends(of: Any) -> tuple[int, int] | None:
    """Python's range for a type of times or spans, in nanoseconds; None for other types."""
    import pyarrow as pa

    if pa.types.is_timestamp(of) or pa.types.is_date(of):
        return _MOMENTS
    if pa.types.is_time(of):
        return _TIMES
    return _SPANS if pa.types.is_duration(of) else None


def _unfit(array: Any) -> str | None:
    """Why Python has no values for some of an array's times and spans, also within lists and structs."""
    import pyarrow as pa
    import pyarrow.compute as pc  # type: ignore[import-not-found, import-untyped, unused-ignore]

    of, types = array.type, pa.types
    ends = _ends(of)
    if ends is None:
        parts = _parts(array)
        return next(filter(None, map(_unfit, parts)), None)
    unit, step = getattr(of, "unit", "day"), 1
    if types.is_date64(of):
        unit, step = "ms", 86_400_000
    elif unit == "ns":
        step = 1000
    numbers = array.cast(pa.int32() if of.bit_width == 32 else pa.int64())
    found = pc.min_max(numbers).as_py()
    if found["min"] is None:
        return None
    lowest, highest = (found[end] * _NANOSECONDS[unit] for end in ("min", "max"))
    if lowest < ends[0] or highest > ends[1]:
        return "beyond what Python has"
    if step > 1 and not pc.all(pc.equal(pc.multiply(pc.divide(numbers, step), step), numbers)).as_py():
        return "no whole days" if types.is_date64(of) else "finer than microseconds"
    return None


def _parts(array: Any) -> list[Any]:
    """The arrays within an array that may have times and spans."""
    import pyarrow as pa
    import pyarrow.compute as pc

    of, types = array.type, pa.types
    if isinstance(of, pa.BaseExtensionType):
        return [array.storage]
    if types.is_struct(of):
        return list(array.flatten())
    if types.is_dictionary(of):
        return [array.dictionary_decode()] if _ends(of.value_type) else []
    if types.is_run_end_encoded(of):
        return [pc.run_end_decode(array)] if _ends(of.value_type) else []
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return [array.flatten()] if any(is_one(of) for is_one in lists) else []
