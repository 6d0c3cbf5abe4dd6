"""Strings of characters and of bytes, and what is stored as such: UUIDs, enums."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from msgspec import Meta

from kvdialect.codec.kinds import Kind, Namespace, OutOfRange, Refused, facts, put


def _length(length: int | None, what: str) -> int | None:
    if length is not None and (type(length) is not int or not 1 <= length < 2**31):
        raise ValueError(f"the length of {what} is an int from 1 to {2**31 - 1}, not {length!r:.80}")
    return length


class TextKind(Kind):
    """str as UTF-8, whose order of bytes is that of code points.

    Attributes:
        length: the most characters, or None.
    """

    tag = "text"
    python = str

    def __init__(self, length: int | None = None) -> None:
        self.length = _length(length, "text")
        self.allowed = "a str" if length is None else f"a str of at most {length} characters"
        self.allowed += " without lone surrogates"
        self.wire = str if length is None else Annotated[str, Meta(max_length=length)]

    def spec(self) -> dict[str, Any]:
        return {"kind": "text", "length": self.length}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> Self:  # noqa: ARG003
        return cls(_optional_length(spec))

    def check(self, value: Any) -> str:
        text = exact_text(value)
        if self.length is not None and len(text) > self.length:
            raise ValueError("too long")
        return text

    def encode(self, value: str) -> bytes:
        return value.encode()

    def decode(self, raw: bytes) -> str:
        text = str(raw, "utf-8")
        if self.length is not None and len(text) > self.length:
            raise ValueError(f"{self.allowed} is expected; this one has {len(text)}")
        return text

    def bound(self, value: Any) -> bytes:
        # Longer text than any value, and lone surrogates, have a place in the order of bytes all the same.
        return self.prefix(value)

    def prefix(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise Refused("no str")
        return value.encode("utf-8", "surrogatepass")

    def _widens(self, older: Kind) -> bool:
        if isinstance(older, EnumKind):
            return self.length is None or all(len(name) <= self.length for name in older.names)
        return isinstance(older, TextKind) and _as_long(self.length, older.length)

    def test_source(self, v: str, names: Namespace) -> str:
        limit = "" if self.length is None else f" and len({v}) <= {self.length}"
        return f"{v}.__class__ is str and ({v}.isascii() or {put(names, encodable)}({v})){limit}"

    def encode_source(self, v: str, names: Namespace) -> str:  # noqa: ARG002
        return f"{v}.encode()"

    def decode_source(self, raw: str, names: Namespace) -> str:
        return f"{raw}.decode()" if self.length is None else super().decode_source(raw, names)


def encodable(text: str) -> bool:
    """Whether UTF-8 can encode a text, which it cannot if there are lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def exact_text(value: Any) -> str:
    """A str as plain str.

    Raises:
        ValueError: if it is none, or holds a lone surrogate, which UTF-8 cannot encode.
    """
    if not isinstance(value, str):
        raise Refused("no str")
    text = value if value.__class__ is str else str.__str__(value)
    if not text.isascii():
        text.encode()
    return text


def _optional_length(spec: Mapping[str, Any]) -> int | None:
    return None if "length" in spec and spec["length"] is None and len(spec) == 2 else facts(spec, length=int)["length"]


def _as_long(length: int | None, older: int | None) -> bool:
    return length is None or (older is not None and older <= length)


class BytesKind(Kind):
    """bytes of any length.

    Attributes:
        length: the most bytes, or None.
    """

    tag = "bytes"
    python = bytes

    def __init__(self, length: int | None = None) -> None:
        self.length = _length(length, "bytes")
        self.allowed = "bytes" if length is None else f"at most {length} bytes"
        self.wire = bytes if length is None else Annotated[bytes, Meta(max_length=length)]

    def spec(self) -> dict[str, Any]:
        return {"kind": "bytes", "length": self.length}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> Self:  # noqa: ARG003
        return cls(_optional_length(spec))

    def check(self, value: Any) -> bytes:
        raw = exact_bytes(value)
        if self.length is not None and len(raw) > self.length:
            raise ValueError("too long")
        return raw

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, raw: bytes) -> bytes:
        if self.length is not None and len(raw) > self.length:
            raise ValueError(f"{self.allowed} are expected, not {len(raw)}")
        return raw

    def bound(self, value: Any) -> bytes:
        return exact_bytes(value)

    def prefix(self, value: Any) -> bytes:
        return exact_bytes(value)

    def _widens(self, older: Kind) -> bool:
        if isinstance(older, FixedBytesKind | BytesKind):
            return _as_long(self.length, older.length)
        return False

    def test_source(self, v: str, names: Namespace) -> str:  # noqa: ARG002
        limit = "" if self.length is None else f" and len({v}) <= {self.length}"
        return f"{v}.__class__ is bytes{limit}"

    def encode_source(self, v: str, names: Namespace) -> str:  # noqa: ARG002
        return v

    def decode_source(self, raw: str, names: Namespace) -> str:
        return raw if self.length is None else super().decode_source(raw, names)


def exact_bytes(value: Any) -> bytes:
    """bytes, a bytearray or a memoryview as plain bytes.

    Raises:
        ValueError: if it is none of these.
    """
    if value.__class__ is bytes:
        return value
    if not isinstance(value, bytes | bytearray | memoryview):
        raise Refused("no bytes")
    return bytes(value)


class FixedBytesKind(Kind):
    """bytes of one length, raw in keys.

    Attributes:
        length: in bytes.
    """

    tag = "fixed_bytes"
    python = bytes

    def __init__(self, length: int) -> None:
        if _length(length, "fixed bytes") is None:
            raise ValueError("fixed bytes have a length")
        self.length = self.width = length
        self.allowed = f"exactly {length} byte{'s' if length > 1 else ''}"
        self.wire = Annotated[bytes, Meta(min_length=length, max_length=length)]

    def spec(self) -> dict[str, Any]:
        return {"kind": "fixed_bytes", "length": self.length}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> Self:  # noqa: ARG003
        return cls(**facts(spec, length=int))

    def check(self, value: Any) -> bytes:
        raw = exact_bytes(value)
        if len(raw) != self.length:
            raise ValueError("another length")
        return raw

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, raw: bytes) -> bytes:
        if len(raw) != self.length:
            raise ValueError(f"{self.allowed} are expected, not {len(raw)}")
        return raw

    def bound(self, value: Any) -> bytes:
        raw = exact_bytes(value)
        if len(raw) == self.length:
            return raw
        if not raw:
            raise OutOfRange(-1)
        if raw[: self.length] == b"\xff" * self.length:
            raise OutOfRange(1)  # longer, and begins with the greatest value
        raise OutOfRange(0)

    def prefix(self, value: Any) -> bytes:
        raw = exact_bytes(value)
        if len(raw) > self.length:
            raise ValueError(f"{self.allowed} cannot begin with {len(raw)} bytes")
        return raw

    def test_source(self, v: str, names: Namespace) -> str:  # noqa: ARG002
        return f"{v}.__class__ is bytes and len({v}) == {self.length}"

    def encode_source(self, v: str, names: Namespace) -> str:  # noqa: ARG002
        return v

    def decode_source(self, raw: str, names: Namespace) -> str:  # noqa: ARG002
        return raw


class UuidKind(Kind):
    """UUIDs: 16 raw bytes in keys and values.

    Attributes:
        as_text: values are str in the canonical form, as with SQLAlchemy's ``Uuid(as_uuid=False)``.
    """

    tag = "uuid"
    width = 16
    wire = Annotated[bytes, Meta(min_length=16, max_length=16)]

    def __init__(self, as_text: bool = False) -> None:
        self.as_text = as_text
        self.python = str if as_text else UUID
        self.allowed = "a UUID as str" if as_text else "a UUID"

    def spec(self) -> dict[str, Any]:
        return {"kind": "uuid"}

    def check(self, value: Any) -> UUID | str:
        if self.as_text:
            if not isinstance(value, str):
                raise Refused("no str")
            return str(UUID(value))
        if not isinstance(value, UUID):
            raise Refused("no UUID")
        return value if value.__class__ is UUID else UUID(int=value.int)

    def encode(self, value: UUID | str) -> bytes:
        return value.bytes if isinstance(value, UUID) else UUID(value).bytes

    def decode(self, raw: bytes) -> UUID | str:
        value = UUID(bytes=bytes(raw))  # ValueError for another length than 16
        return str(value) if self.as_text else value

    def bound(self, value: Any) -> bytes:
        if not isinstance(value, UUID | str):
            raise Refused("no UUID")
        return self.encode(value)

    def store(self, value: UUID | str) -> bytes:
        return self.encode(value)

    def load(self, wire: bytes) -> UUID | str:
        return self.decode(wire)

    def test_source(self, v: str, names: Namespace) -> str | None:
        return super().test_source(v, names) if self.as_text else f"{v}.__class__ is {put(names, UUID)}"

    def encode_source(self, v: str, names: Namespace) -> str:
        return super().encode_source(v, names) if self.as_text else f"{v}.bytes"

    def store_source(self, v: str, names: Namespace) -> str:
        return self.encode_source(v, names)


class EnumKind(Kind):
    """Enums, stored by name as text; their order in keys is that of the names.

    Attributes:
        names: the names, sorted.
    """

    tag = "enum"

    def __init__(self, members: Mapping[str, Any] | Sequence[str], python: type = str) -> None:
        """A kind of the values of ``members`` by name; of the names themselves if they are a sequence.

        Args:
            members: at least one.
            python: the Enum class; str if names stand for themselves.

        Raises:
            ValueError: if there are no names, or some that are no text.
        """
        by_name = dict(members) if isinstance(members, Mapping) else {name: name for name in members}
        if not by_name:
            raise ValueError("an enum has at least one name")
        for name in by_name:
            exact_text(name)
        self.python = python
        self.names = tuple(sorted(by_name))
        self._by_name = by_name
        # Of the names of one member the first counts.
        self._names = {member: name for name, member in reversed(by_name.items())}
        shown = ", ".join(json.dumps(name) for name in self.names[:20])
        more = "" if len(self.names) <= 20 else f", ... ({len(self.names)} in all)"
        self.allowed = f"a {python.__name__} of {shown}{more}"
        self.wire = Literal[tuple(self.names)]
        # Members of a Flag are made by operators too, and these have no name.
        self._all = (
            issubclass(python, enum.Enum)
            and not issubclass(python, enum.Flag)
            and all(member in self._names for member in set[Any](python))
        )

    def spec(self) -> dict[str, Any]:
        return {"kind": "enum", "names": list(self.names)}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> Self:  # noqa: ARG003
        names = facts(spec, names=list)["names"]
        if not all(type(name) is str for name in names) or len(set(names)) != len(names):
            raise ValueError(f"names of spec {dict(spec)!r:.200} are no list of different str")
        return cls(names)

    def check(self, value: Any) -> Any:
        if not isinstance(value, self.python):
            raise Refused("of another type")
        try:
            return self._by_name[self._names[value]]
        except (KeyError, TypeError) as error:
            raise ValueError("no name for it") from error

    def encode(self, value: Any) -> bytes:
        return self._names[value].encode()

    def decode(self, raw: bytes) -> Any:
        return self.load(str(raw, "utf-8"))

    def bound(self, value: Any) -> bytes:
        # A member, or text: that of no name has its place among the names all the same.
        return self.prefix(value)

    def prefix(self, value: Any) -> bytes:
        if self.python is not str and isinstance(value, self.python):
            value = self._names[self.check(value)]
        if not isinstance(value, str):
            raise Refused("neither a member nor a str")
        return value.encode("utf-8", "surrogatepass")

    def store(self, value: Any) -> str:
        return self._names[value]

    def load(self, wire: str) -> Any:
        try:
            return self._by_name[wire]
        except KeyError as error:
            raise ValueError(f"{wire!r:.80} is no name of {self.allowed}") from error

    @property
    def plain(self) -> bool:
        return self.python is str

    def _widens(self, older: Kind) -> bool:
        return isinstance(older, EnumKind) and set(older.names) <= set(self.names)

    def test_source(self, v: str, names: Namespace) -> str:
        if self._all:
            return f"{v}.__class__ is {put(names, self.python)}"
        # Equal is not enough: an IntEnum's member equals its int.
        return f"{v}.__class__ is {put(names, self.python)} and {v} in {put(names, self._names)}"

    def store_source(self, v: str, names: Namespace) -> str:
        return v if self.plain else f"{put(names, self._names)}[{v}]"

    def load_source(self, v: str, names: Namespace) -> str:
        # The wire's Literal admits these names alone.
        return v if self.plain else f"{put(names, self._by_name)}[{v}]"
