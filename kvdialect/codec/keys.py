"""The grammar of keys: typed parts, one after another, so that the order of bytes is the order of the values.

Fixed-width parts stand raw. A part of variable width has each byte 00 written as ``00 ff`` and ends with ``00 01``,
unless it is the last of its key and declared raw. A nullable part begins with a tag byte, ``00`` for NULL (with nothing
behind it) and ``01`` for a value, so NULLs come first. All bytes of a descending part are inverted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final

import attrs

from kvdialect.codec.kinds import Kind, Namespace, compiled, put

NULL: Final = b"\x00"
VALUE: Final = b"\x01"
END: Final = b"\x00\x01"
ESCAPED_ZERO: Final = b"\x00\xff"
INVERSION: Final = bytes(range(255, -1, -1))
"""Table for ``bytes.translate`` that inverts all bits."""


@attrs.frozen
class KeyPart:
    """One part: a kind, whether NULL is possible, which way it is ordered, whether it is raw (variable and last)."""

    kind: Kind
    nullable: bool = False
    descending: bool = False
    raw: bool = False

    def __attrs_post_init__(self) -> None:
        if not self.kind.keyable:
            raise ValueError(f"{self.kind.allowed} has no place in a key")
        if self.raw and self.descending and self.kind.width is None:
            # Inverted, "a" would come before "ab" still: only a terminator puts it behind.
            raise ValueError("a descending part of variable width is terminated, not raw")

    @property
    def width(self) -> int | None:
        """Bytes that the part takes, where all its values take as many."""
        return None if self.nullable else self.kind.width

    @property
    def terminated(self) -> bool:
        """True if the part is escaped and ends with a terminator."""
        return self.kind.width is None and not self.raw

    def encode(self, value: Any) -> bytes:
        """Encode a checked value (None only if nullable) as it stands in a key: tagged, terminated, inverted.

        Raises:
            ValueError: if it has no place in an order, or is None and the part is not nullable.
        """
        if value is None:
            if not self.nullable:
                raise ValueError("NULL has no place in this part")
            return self._turned(NULL)
        return self.place(self.kind.encode(value))

    def place(self, encoded: bytes) -> bytes:
        """What :meth:`Kind.encode` or :meth:`Kind.bound` gave, as it stands in a key: tagged, terminated, inverted."""
        if self.terminated:
            encoded = encoded.replace(b"\x00", ESCAPED_ZERO) + END
        return self._turned(VALUE + encoded if self.nullable else encoded)

    def encode_prefix(self, value: Any) -> bytes:
        """Of text and bytes: what all encodings of values that begin with ``value`` begin with; no terminator.

        Raises:
            ValueError: if values of this kind have no beginnings, or none can begin with ``value``.
        """
        prefix = self.kind.prefix(value)
        if self.terminated:
            prefix = prefix.replace(b"\x00", ESCAPED_ZERO)
        return self._turned(VALUE + prefix if self.nullable else prefix)

    def _turned(self, encoded: bytes) -> bytes:
        return encoded.translate(INVERSION) if self.descending else encoded

    # ---------------------------------------------------------------------------------------- as source

    def encode_source(self, v: str, names: Namespace) -> str:
        """An expression that encodes the value in the variable ``v``."""
        source = self.kind.encode_source(v, names)
        if self.terminated:
            source = f"{put(names, _terminated)}({source})"
        if self.nullable:
            source = rf"(b'\x00' if {v} is None else b'\x01' + {source})"
        return f"({source}).translate({put(names, INVERSION)})" if self.descending else source

    def decode_source(self, raw: str, names: Namespace) -> str:
        """An expression that decodes ``raw``: the bytes of the part, without tag and terminator, upright.

        ``raw`` is a variable where the part is nullable, and None there for NULL.
        """
        source = self.kind.decode_source(raw, names)
        return f"(None if {raw} is None else {source})" if self.nullable else source


class KeyGrammar:
    """Encodes and decodes keys of given parts.

    Attributes:
        parts: the parts.
        width: bytes of a key if all parts are fixed and none is nullable, else None.
    """

    def __init__(self, parts: Sequence[KeyPart]) -> None:
        self.parts = tuple(parts)
        for part in self.parts[:-1]:
            if part.raw and part.kind.width is None:
                raise ValueError("a raw part of variable width is the last of its key")
        widths = [part.width for part in self.parts]
        self.width: int | None = None if None in widths else sum(width for width in widths if width is not None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyGrammar) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)

    def __repr__(self) -> str:
        return f"KeyGrammar({list(self.parts)!r})"

    def encode(self, values: Sequence[Any]) -> bytes:
        """Encode checked values: of all parts, or of the first few, which gives the prefix of all keys that have them.

        Raises:
            ValueError: if there are more values than parts, or one has no place in its part.
        """
        if len(values) == len(self.parts):
            return self._encode(values)
        if len(values) > len(self.parts):
            raise ValueError(f"a key of {len(self.parts)} parts takes no {len(values)} values")
        return b"".join([part.encode(value) for part, value in zip(self.parts, values, strict=False)])

    def decode(self, raw: bytes) -> tuple[Any, ...]:
        """Decode a whole key.

        Raises:
            ValueError: if it is no key of this grammar; the message gives lengths and the part.
        """
        return self._decode(raw)

    def skip(self, raw: bytes, count: int) -> int:
        """The offset in a key at which part ``count`` begins, or the end of the last; more bytes may stand behind.

        Raises:
            ValueError: if the key ends before, or is none of this grammar up to there.
        """
        offset = 0
        for number, part in enumerate(self.parts[:count], 1):
            _, offset = _read(raw, offset, part, number)
        return offset

    @cached_property
    def _encode(self) -> Callable[[Sequence[Any]], bytes]:
        names: Namespace = {}
        variables = [f"v{number}" for number in range(len(self.parts))]
        unpack = [f"    {''.join(f'{v}, ' for v in variables)}= values"] if variables else []
        refused = [v for v, part in zip(variables, self.parts, strict=True) if not part.nullable]
        # Sources take checked values; None is the mistake that would pass unseen, as False in a bool.
        test = [
            f"    if {' or '.join(f'{v} is None' for v in refused)}: raise ValueError('NULL has no place in this key')"
        ]
        lines = ["def encode(values):", *unpack, *(test if refused else [])]
        return compiled("encode", [*lines, f"    return {self.encode_source(variables, names)}"], names)

    @cached_property
    def _decode(self) -> Callable[[bytes], tuple[Any, ...]]:
        names: Namespace = {}
        statements, values = self.decode_source("raw", names)
        lines = ["def decode(raw):", *(f"    {statement}" for statement in statements)]
        return compiled("decode", [*lines, f"    return ({''.join(f'{value}, ' for value in values)})"], names)

    def encode_source(self, variables: Sequence[str], names: Namespace) -> str:
        """An expression that encodes the values in ``variables``, as many as there are parts.

        Like the kinds' own source it takes checked values, and None only for a nullable part. It raises ValueError for
        a value that has no place in an order.
        """
        sources = [part.encode_source(v, names) for part, v in zip(self.parts, variables, strict=True)]
        return f"({' + '.join(sources)})" if sources else "b''"

    def decode_source(self, raw: str, names: Namespace) -> tuple[list[str], list[str]]:
        """Statements to run first, and then an expression per part, that decode the key in the variable ``raw``.

        They raise ValueError if it is no key of this grammar. Variables that they set begin with ``raw``'s name and an
        underscore.
        """
        if self.width is not None:
            return self._decode_fixed_source(raw, names)
        statements: list[str] = []
        values: list[str] = []
        known = 0  # the offset while it is the same for all keys
        offset: str | None = None  # the variable that has it, from then on
        for number, part in enumerate(self.parts, 1):
            if part.width is not None:
                start = str(known) if offset is None else f"{offset} + {known}"
                known += part.width
                end = str(known) if offset is None else f"{offset} + {known}"
                value = f"{raw}[{start}:{end}]"
                turned = f"{value}.translate({put(names, INVERSION)})" if part.descending else value
                values.append(part.decode_source(turned, names))
                continue
            start = str(known) if offset is None else f"{offset} + {known}"
            offset, known = f"{raw}_end{number}", 0
            read = f"{put(names, _read)}({raw}, {start}, {put(names, part)}, {number})"
            statements.append(f"{raw}_{number}, {offset} = {read}")
            values.append(part.decode_source(f"{raw}_{number}", names))
        statements.append(
            f"if len({raw}) != {offset} + {known}: {put(names, _wrong_length)}({raw}, {offset} + {known})"
        )
        return statements, values

    def _decode_fixed_source(self, raw: str, names: Namespace) -> tuple[list[str], list[str]]:
        values = []
        offset = 0
        for part in self.parts:
            width = part.width or 0
            value = raw if len(self.parts) == 1 else f"{raw}[{offset}:{offset + width}]"
            turned = f"{value}.translate({put(names, INVERSION)})" if part.descending else value
            values.append(part.decode_source(turned, names))
            offset += width
        return [f"if len({raw}) != {self.width}: {put(names, _wrong_length)}({raw}, {self.width})"], values


def _terminated(encoded: bytes) -> bytes:
    return encoded.replace(b"\x00", ESCAPED_ZERO) + END


def _wrong_length(raw: bytes, expected: int) -> None:
    raise ValueError(f"a key of {len(raw)} bytes; its parts take {expected}")


def _read(raw: bytes, offset: int, part: KeyPart, number: int) -> tuple[bytes | None, int]:
    """The bytes of a part from ``offset`` on, without tag and terminator and upright (None for NULL), and its end.

    Raises:
        ValueError: if there is no such part.
    """
    if part.nullable:
        tag = raw[offset : offset + 1].translate(INVERSION) if part.descending else raw[offset : offset + 1]
        offset += 1
        if tag == NULL:
            return None, offset
        if tag != VALUE:
            what = f"tag byte {tag.hex()}" if tag else "nothing"
            raise ValueError(f"a key of {len(raw)} bytes has {what} where part {number} begins; 00 or 01 is expected")
    width = part.kind.width
    if width is None:
        if part.raw:
            if offset > len(raw):
                raise ValueError(f"a key of {len(raw)} bytes ends before part {number}, which begins at {offset}")
            return raw[offset:], len(raw)
        return _read_terminated(raw, offset, part.descending, number)
    end = offset + width
    if end > len(raw):
        raise ValueError(f"a key of {len(raw)} bytes ends within part {number}, which ends at {end}")
    value = raw[offset:end]
    return value.translate(INVERSION) if part.descending else value, end


def _read_terminated(raw: bytes, offset: int, descending: bool, number: int) -> tuple[bytes, int]:
    zero, escape, end = (b"\xff", 0x00, 0xFE) if descending else (b"\x00", 0xFF, 0x01)
    at = offset
    while True:
        at = raw.find(zero, at)
        if at < 0 or at + 1 >= len(raw):
            raise ValueError(f"a key of {len(raw)} bytes ends within part {number}, before its terminator")
        if raw[at + 1] == end:
            break
        if raw[at + 1] != escape:
            raise ValueError(f"part {number} of a key of {len(raw)} bytes has an escape that is none at byte {at}")
        at += 2
    content = raw[offset:at]
    if descending:
        content = content.translate(INVERSION)
    return content.replace(ESCAPED_ZERO, b"\x00"), at + 2
