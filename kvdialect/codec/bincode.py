"""bincode with fixed-width, big-endian integers: the layout of values that a Rust program wrote, or will read.

================================  ====================================================================================
bool                              one byte, 0 or 1
int                               its bits, big-endian; two's complement
float                             8 bytes, big-endian
datetime, date, time              an int of 64 bits: microseconds since 1970, days since 1970, microseconds of the day
timedelta                         an int of 128 bits: microseconds
Decimal                           an int of its last decimal place: of 64 bits up to 18 digits, else of 128
fixed bytes, UUID                 the bytes
text, bytes, enum (by its name)   a u64, the number of bytes, and these
list, ``tuple[T, ...]``           a u64, the number of items, and these
dict                              a u64, the number of items, and key and value of each in order of insertion
tuple, attrs class                the elements or fields, in order
what may be None                  one tag byte: 0 for None, or 1 and the value
================================  ====================================================================================

Nothing stands between fields, before or after. JSON has no layout here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import attrs

from kvdialect import exc
from kvdialect.codec.composite import ConvertedKind, DictKind, ListKind, Part, TupleKind
from kvdialect.codec.kinds import Kind, Namespace, compiled, put
from kvdialect.codec.numeric import BoolKind, DecimalKind, FloatKind, IntKind
from kvdialect.codec.records import RecordKind
from kvdialect.codec.strings import BytesKind, EnumKind, FixedBytesKind, TextKind, UuidKind
from kvdialect.codec.temporal import DateKind, DatetimeKind, TimedeltaKind, TimeKind, microseconds

Write = Callable[[Any], bytes]
Read = Callable[[bytes, int], tuple[Any, int]]


class BincodeCodec:
    """Encodes and decodes the fields of a record, one after another."""

    def __init__(self, fields: Sequence[tuple[str, Kind, bool]]) -> None:
        """A codec of fields given by name, kind and whether they may be None.

        Raises:
            ArgumentError: if a kind has no layout.
        """
        layouts = []
        for name, kind, nullable in fields:
            try:
                layouts.append(_layout(Part(kind, nullable)))
            except ValueError as error:
                raise exc.ArgumentError(f"field {name} has no bincode layout: {error}", field=name) from error
        row = _Row(layouts)
        self.encode: Callable[[tuple[Any, ...]], bytes] = row.write
        """``encode(values)``: the bytes of checked values, as many as there are fields."""
        self._read = row.read

    def decode(self, raw: bytes) -> tuple[Any, ...]:
        """The values of all fields.

        Raises:
            ValueError: if ``raw`` is not exactly one record; the message says at which byte.
        """
        values, end = self._read(raw, 0)
        if end != len(raw):
            raise ValueError(f"{len(raw)} bytes where the fields take {end}")
        return values  # type: ignore[no-any-return]


@attrs.frozen
class _Layout:
    """How one part is written and read.

    Attributes:
        least: the fewest bytes that a value takes.
        write: value to bytes.
        read: bytes and an offset to the value there and the offset behind it; ValueError if there is none.
        format: for :mod:`struct`, of what has a fixed width and is never None; then ``to`` and ``back`` make a value
            into what struct packs and back (None: they are the same).
    """

    least: int
    write: Write
    read: Read
    format: str | None = None
    to: Callable[[Any], Any] | None = None
    back: Callable[[Any], Any] | None = None


def _layout(part: Part) -> _Layout:
    layout = _layout_of(part.kind)
    return _optional(layout) if part.nullable else layout


def _layout_of(kind: Kind) -> _Layout:
    """The layout of a kind.

    Raises:
        ValueError: if it has none.
    """
    if isinstance(kind, ConvertedKind):
        return _converted(kind)
    fixed = _fixed_format(kind)
    if fixed is not None:
        return _fixed(*fixed)
    if isinstance(kind, TextKind | BytesKind | EnumKind):
        return _text(kind)
    if isinstance(kind, ListKind):
        return _list(_layout(kind.part), kind.python)
    if isinstance(kind, DictKind):
        return _dict(_layout(kind.part))
    if isinstance(kind, TupleKind):
        row = _Row([_layout(part) for part in kind.parts])
        return _Layout(row.least, row.write, row.read)
    if isinstance(kind, RecordKind):
        return _record(kind)
    raise ValueError(f"{kind.allowed} is no type of bincode's; use the format msgpack")


# ------------------------------------------------------------------------------------------ one part


_INTEGERS: Final = {(8, True): "b", (16, True): "h", (32, True): "i", (64, True): "q"}


def _fixed_format(kind: Kind) -> tuple[str, Callable[[Any], Any] | None, Callable[[Any], Any] | None] | None:
    """The format for struct of a kind of fixed width, with the conversions around it; None for other kinds."""
    match kind:
        case BoolKind():
            return "B", None, _bool
        case IntKind():
            letter = _INTEGERS[kind.bits, True]
            return letter if kind.signed else letter.upper(), None, None
        case FloatKind():
            return "d", None, None
        case FixedBytesKind():
            return f"{kind.length}s", None, None
        case UuidKind():
            return "16s", kind.store, kind.load
        case DatetimeKind() | DateKind() | TimeKind():
            return "q", kind.store, kind.load
        case TimedeltaKind():
            return "16s", lambda value: _wide(microseconds(value)), _timedelta
        case DecimalKind() if kind.width == 8:
            return "q", kind.unscaled, kind.scaled
        case DecimalKind():
            return "16s", lambda value: _wide(kind.unscaled(value)), lambda raw: kind.scaled(_from_wide(raw))
    return None


def _bool(byte: int) -> bool:
    if byte > 1:
        raise ValueError(f"a bool is one byte, 0 or 1, not {byte}")
    return byte == 1


def _wide(number: int) -> bytes:
    return number.to_bytes(16, signed=True)


def _from_wide(raw: bytes) -> int:
    return int.from_bytes(raw, signed=True)


def _timedelta(raw: bytes) -> timedelta:
    number = _from_wide(raw)
    days, rest = divmod(number, 86_400_000_000)
    if not timedelta.min.days <= days <= timedelta.max.days:
        raise ValueError(f"{number} microseconds are no timedelta")
    return timedelta(days, 0, rest)


def _fixed(letters: str, to: Callable[[Any], Any] | None, back: Callable[[Any], Any] | None) -> _Layout:
    packing = struct.Struct(f">{letters}")
    pack, unpack, size = packing.pack, packing.unpack_from, packing.size

    def write(value: Any) -> bytes:
        return pack(value if to is None else to(value))

    def read(raw: bytes, at: int) -> tuple[Any, int]:
        if at + size > len(raw):
            raise _short(raw, at, size)
        (value,) = unpack(raw, at)
        return value if back is None else back(value), at + size

    return _Layout(size, write, read, letters, to, back)


def _short(raw: bytes, at: int, size: int) -> ValueError:
    return ValueError(f"{len(raw)} bytes end within a value that begins at byte {at} and takes {size}")


def _optional(layout: _Layout) -> _Layout:
    inner_write, inner_read = layout.write, layout.read

    def write(value: Any) -> bytes:
        return b"\x00" if value is None else b"\x01" + inner_write(value)

    def read(raw: bytes, at: int) -> tuple[Any, int]:
        tag = raw[at : at + 1]
        if tag == b"\x01":
            return inner_read(raw, at + 1)
        if tag == b"\x00":
            return None, at + 1
        seen = f"byte {tag[0]}" if tag else "the end"
        raise ValueError(f"{seen} at byte {at}, where an optional value begins with 0 or 1")

    return _Layout(1, write, read)


def _converted(kind: ConvertedKind) -> _Layout:
    inner = _layout_of(kind.inner)

    def write(value: Any) -> bytes:
        return inner.write(kind.bound_value(value))

    def read(raw: bytes, at: int) -> tuple[Any, int]:
        value, at = inner.read(raw, at)
        return kind.result_value(value), at

    return _Layout(inner.least, write, read)


# ------------------------------------------------------------------------------------------ several parts


def _count(raw: bytes, at: int, least: int) -> int:
    """The count at ``at``, if as many items of ``least`` bytes can follow: else nothing is allocated for them."""
    if at + 8 > len(raw):
        raise _short(raw, at, 8)
    count = int.from_bytes(raw[at : at + 8])
    if count * least > len(raw) - at - 8:
        raise ValueError(f"a count of {count} at byte {at}; {len(raw) - at - 8} bytes follow")
    return count


def _counted(content: bytes) -> bytes:
    return len(content).to_bytes(8) + content


def _read_counted(raw: bytes, at: int, decode: Callable[[bytes], Any]) -> tuple[Any, int]:
    end = at + 8 + _count(raw, at, 1)
    return decode(raw[at + 8 : end]), end


def _text(kind: Kind) -> _Layout:
    encode, decode = kind.encode, kind.decode
    return _Layout(8, lambda value: _counted(encode(value)), lambda raw, at: _read_counted(raw, at, decode))


def _list(item: _Layout, python: type) -> _Layout:
    if not item.least:
        raise ValueError("a list of items without bytes: its count has no bound")
    item_write, item_read, least = item.write, item.read, item.least

    def write(value: Any) -> bytes:
        return len(value).to_bytes(8) + b"".join(map(item_write, value))

    def read(raw: bytes, at: int) -> tuple[Any, int]:
        count = _count(raw, at, least)
        at += 8
        items = []
        for _ in range(count):
            value, at = item_read(raw, at)
            items.append(value)
        return items if python is list else python(items), at

    return _Layout(8, write, read)


def _dict(item: _Layout) -> _Layout:
    item_write, item_read, least = item.write, item.read, 8 + item.least
    decode_key = TextKind().decode

    def write(value: dict[str, Any]) -> bytes:
        pairs = [_counted(key.encode()) + item_write(item) for key, item in value.items()]
        return len(value).to_bytes(8) + b"".join(pairs)

    def read(raw: bytes, at: int) -> tuple[Any, int]:
        count = _count(raw, at, least)
        at += 8
        items: dict[str, Any] = {}
        for _ in range(count):
            begin = at
            key, at = _read_counted(raw, at, decode_key)
            if key in items:
                raise ValueError(f"the key {key!r:.80} comes twice, again at byte {begin}")
            items[key], at = item_read(raw, at)
        return items, at

    return _Layout(8, write, read)


def _record(kind: RecordKind) -> _Layout:
    row = _Row([_layout(field.part) for field in kind.fields])
    row_write, row_read, taken, made = row.write, row.read, kind.taken, kind.made

    def read(raw: bytes, at: int) -> tuple[Any, int]:
        values, at = row_read(raw, at)
        return made(values), at

    return _Layout(row.least, lambda value: row_write(taken(value)), read)


class _Row:
    """Several parts, one after another: generated code, in which neighbours of fixed width are one struct.

    Attributes:
        least: the fewest bytes that a row takes.
        write: a sequence of values to bytes.
        read: bytes and an offset to a tuple of values and the offset behind them.
    """

    def __init__(self, layouts: Sequence[_Layout]) -> None:
        self.least = sum(layout.least for layout in layouts)
        names: Namespace = {}
        variables = "".join(f"v{number}, " for number in range(len(layouts)))
        written: list[str] = []
        lines = ["def read(raw, at):"]
        run: list[int] = []
        for number, layout in enumerate(layouts):
            if layout.format is not None:
                run.append(number)
                if number + 1 < len(layouts) and layouts[number + 1].format is not None:
                    continue
                self._fixed_run(run, layouts, written, lines, names)
                run = []
            else:
                written.append(f"{put(names, layout.write)}(v{number})")
                lines.append(f"    v{number}, at = {put(names, layout.read)}(raw, at)")
        lines.append(f"    return ({variables}), at")
        head = [f"    {variables}= values"] if layouts else []
        encode = ["def write(values):", *head, f"    return {' + '.join(written) if written else repr(b'')}"]
        self.write: Write = compiled("write", encode, names)
        self.read: Read = compiled("read", lines, names)

    @staticmethod
    def _fixed_run(
        run: list[int], layouts: Sequence[_Layout], written: list[str], lines: list[str], names: Namespace
    ) -> None:
        packing = struct.Struct(">" + "".join(layouts[number].format or "" for number in run))
        packed = []
        back = []
        for number in run:
            layout = layouts[number]
            packed.append(f"v{number}" if layout.to is None else f"{put(names, layout.to)}(v{number})")
            if layout.back is not None:
                back.append(f"    v{number} = {put(names, layout.back)}(v{number})")
        written.append(f"{put(names, packing.pack)}({', '.join(packed)})")
        size = packing.size
        lines += [
            f"    if at + {size} > len(raw): raise {put(names, _short)}(raw, at, {size})",
            f"    {''.join(f'v{number}, ' for number in run)}= {put(names, packing.unpack_from)}(raw, at)",
            *back,
            f"    at += {size}",
        ]
