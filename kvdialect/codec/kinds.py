"""Kinds: how the values of one type stand in keys and in stored values.

A kind is one adapter. It checks a value, encodes it for keys so that the order of bytes is the order of values, and
turns it into what is packed into a record's value (its *wire* form: what msgspec packs and unpacks). A new type is one
more subclass with a ``tag`` of its own, by which :func:`kind_from_spec` finds it.

Code is generated per table (:mod:`kvdialect.schema.rows`), so a kind also gives its conversions as Python source. The
default source calls the kind's method; a kind on the hot path overrides it with something that costs less.

The data that ``spec`` gives, the wire forms and the bytes in keys stand in stores: they are for ever.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from types import BuiltinMethodType, MethodType, MethodWrapperType
from typing import Any, ClassVar, Final, NoReturn, Self

import msgspec

Namespace = dict[str, Any]
"""What generated code can name; a kind puts there what its source needs."""

DEEPEST_SPEC: Final = 32
"""How deep the specs of composite kinds may nest: a bound on what a damaged catalog can ask for."""


class OutOfRange(ValueError):
    """A bound that no value of a kind equals: ``side`` is -1 if it lies below all of them, +1 if above, 0 if between.

    What has no place in the order at all (NaN) has side 0 too: nothing equals it.
    """

    def __init__(self, side: int) -> None:
        super().__init__(side)
        self.side = side


class Refused(ValueError):
    """A value that a kind does not take. Why is for those who debug; what users read is the kind's ``allowed``."""


class Kind(abc.ABC):
    """How one type stands in keys and values.

    Attributes:
        tag: name of the kind in specs; None for kinds that take the spec of another.
        python: type of the values.
        width: bytes in a key, or None if they vary; variable kinds are escaped and terminated by the key's grammar
            (:mod:`kvdialect.codec.keys`) unless they end the key.
        keyable: False for kinds that stand in values only.
        mutable: True if values can change in place (lists, dicts), so that only their bytes tell.
        wire: annotation that msgspec unpacks a stored value by; the packed form is of the same type.
        allowed: what a value may be, for messages: ``"an int from 0 to 255"``.
    """

    tag: ClassVar[str | None] = None
    python: Any
    width: int | None = None
    keyable: bool = True
    mutable: bool = False
    wire: Any
    allowed: str

    _by_tag: ClassVar[dict[str, type[Kind]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        tag = cls.__dict__.get("tag")
        if tag is not None:
            if tag in Kind._by_tag:
                raise TypeError(f"two kinds have the tag {tag!r}: {Kind._by_tag[tag].__name__} and {cls.__name__}")
            Kind._by_tag[tag] = cls

    @abc.abstractmethod
    def spec(self) -> dict[str, Any]:
        """The kind as JSON-able data, for the catalog: equal for equal kinds, whatever Python classes they serve."""

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> Self:  # noqa: ARG003 - for composite kinds
        """The kind that ``spec``, whose tag is this class's, describes; ``depth`` levels of nesting are left.

        Raises:
            ValueError: if it is no spec of this kind.
        """
        _only(spec)
        return cls()

    @abc.abstractmethod
    def check(self, value: Any) -> Any:
        """Return ``value``, normalised to the kind's own type, if it may be stored.

        Raises:
            ValueError: if it may not; the message is not shown, ``allowed`` is.
        """

    def encode(self, value: Any) -> bytes:  # noqa: ARG002 - as the next, for those that override it
        """The bytes of a checked value in a key: ``a < b`` exactly if those of ``a`` are less than those of ``b``.

        Raises:
            ValueError: if it has no place in an order (NaN).
        """
        raise ValueError(f"{self.allowed} has no place in a key")

    def decode(self, raw: bytes) -> Any:  # noqa: ARG002
        """Decode what ``encode`` gave.

        Raises:
            ValueError: if no value encodes to ``raw``.
        """
        raise ValueError(f"{self.allowed} has no place in a key")

    def bound(self, value: Any) -> bytes:
        """Encode a value that a query compares with: like ``encode`` after ``check``, and more forgiving.

        An int compared with a float column, say, or a date with a datetime column, is converted where that is exact.

        Raises:
            OutOfRange: if no value of the kind equals it, with the side on which it lies.
            ValueError: if the two do not compare at all.
        """
        return self.encode(self.check(value))

    def prefix(self, value: Any) -> bytes:
        """Of text and bytes: what the encodings of all values that begin with ``value`` begin with.

        Raises:
            ValueError: if values of this kind have no beginnings, or none can begin with ``value``.
        """
        raise ValueError(f"{self.allowed} does not begin with {value!r:.80}: only text and bytes have prefixes")

    def store(self, value: Any) -> Any:
        """The wire form of a checked value."""
        return value

    def load(self, wire: Any) -> Any:
        """The value of a wire form, which msgspec has checked against ``wire``.

        Raises:
            ValueError: if it is none.
        """
        return wire

    @property
    def plain(self) -> bool:
        """True if the wire form of every value is the value itself."""
        return type(self).store is Kind.store and type(self).load is Kind.load

    def widens(self, older: Kind) -> bool:
        """True if every wire value of ``older`` loads, unchanged, under this kind.

        This speaks of stored values only. Keys do not widen: an int of 64 bits has other bytes in a key
        than one of 32.
        """
        return self == older or self._widens(older.stored)

    def _widens(self, older: Kind) -> bool:  # noqa: ARG002 - for those that override it
        """As :meth:`widens`, of a kind that is not this one and has no conversion around it."""
        return False

    @property
    def stored(self) -> Kind:
        """The kind of what is stored: this one, or the one inside of a conversion."""
        return self

    # ---------------------------------------------------------------------------------------- as source

    def test_source(self, v: str, names: Namespace) -> str | None:
        """An expression over the variable ``v`` that is true for values that ``check`` would return as they are.

        None if there is no test; then ``check`` is called always. False does not mean that ``check`` refuses.
        """
        return f"{put(names, self.unchanged)}({v})"

    def unchanged(self, value: Any) -> bool:
        """Whether ``check`` returns this very value."""
        try:
            return self.check(value) is value
        except ValueError:
            return False

    def encode_source(self, v: str, names: Namespace) -> str:
        """An expression that encodes the variable ``v`` for a key."""
        return f"{put(names, self.encode)}({v})"

    def decode_source(self, raw: str, names: Namespace) -> str:
        """An expression that decodes the expression ``raw``, which gives bytes of the kind's width where it has one."""
        return f"{put(names, self.decode)}({raw})"

    def store_source(self, v: str, names: Namespace) -> str:
        """An expression for the wire form of the variable ``v``; the variable itself where that is the same."""
        return v if self.plain else f"{put(names, self.store)}({v})"

    def load_source(self, v: str, names: Namespace) -> str:
        """An expression for the value of the wire form in the variable ``v``."""
        return v if self.plain else f"{put(names, self.load)}({v})"

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Kind) and self.spec() == other.spec())

    def __hash__(self) -> int:
        return hash(repr(sorted(self.spec().items())))

    def __repr__(self) -> str:
        return f"<Kind {self.spec()}>"


def kind_from_spec(spec: Mapping[str, Any], depth: int = DEEPEST_SPEC) -> Kind:
    """The kind that a spec from the catalog describes.

    The Python classes of a program are not at hand there: an enum's values are its names, a record's are dicts.

    Args:
        spec: what :meth:`Kind.spec` gave.
        depth: how many levels of composite kinds it may still have.

    Raises:
        ValueError: if it describes no kind of this release, or more levels than that.
    """
    if not isinstance(spec, Mapping):
        raise Refused(f"the spec of a kind is a mapping, not {spec!r:.80}")
    tag = spec.get("kind")
    found = Kind._by_tag.get(tag) if isinstance(tag, str) else None
    if found is None:
        raise ValueError(f"unknown kind {tag!r:.80}; this release knows {', '.join(sorted(Kind._by_tag))}")
    if depth <= 0:
        raise ValueError(f"the spec of a kind nests more than {DEEPEST_SPEC} levels")
    return found.from_spec(spec, depth - 1)


def _only(spec: Mapping[str, Any], **allowed: type) -> None:
    """Refuse a spec with other facts than those in ``allowed``, or of other types."""
    names = {"kind", *allowed}
    if set(spec) - names:
        raise ValueError(f"spec {dict(spec)!r:.200} has more than {', '.join(sorted(names))}")
    for name, python in allowed.items():
        if name in spec and type(spec[name]) is not python:
            raise ValueError(f"{name} of spec {dict(spec)!r:.200} is no {python.__name__}")


def fact(spec: Mapping[str, Any], name: str, python: type) -> Any:
    """The fact ``name`` of a spec, which must be there and of the type ``python``.

    Raises:
        ValueError: if it is missing or of another type.
    """
    value = spec.get(name)
    if type(value) is not python:
        raise ValueError(f"{name} of spec {dict(spec)!r:.200} is {value!r:.80}; a {python.__name__} is expected")
    return value


def facts(spec: Mapping[str, Any], **wanted: type) -> dict[str, Any]:
    """All facts of a spec besides its tag: exactly those in ``wanted``, of these types.

    Raises:
        ValueError: if one is missing, of another type, or not wanted.
    """
    _only(spec, **wanted)
    return {name: fact(spec, name, python) for name, python in wanted.items()}


_BOUND: Final = (MethodType, BuiltinMethodType, MethodWrapperType)


def put(names: Namespace, thing: Any) -> str:
    """Give ``thing`` a name in ``names``, one for each thing, and return it."""
    for name, known in names.items():
        # A bound method is another object each time it is fetched; two are equal if their objects are identical.
        if known is thing or (type(known) is type(thing) and isinstance(thing, _BOUND) and known == thing):
            return name
    number = len(names)
    while (name := f"_{number}") in names:
        number += 1
    names[name] = thing
    return name


def compiled(name: str, lines: Sequence[str], names: Namespace) -> Callable[..., Any]:
    """The function ``name`` that the source ``lines`` define, over what ``names`` holds."""
    exec(compile("\n".join(lines), f"<kvdialect {name}>", "exec"), names)  # noqa: S102 - generated, no outside text in it
    function: Callable[..., Any] = names[name]
    return function


def unpacker(wire: Any) -> Callable[[bytes], Any]:
    """What unpacks msgpack of a type, each part checked; extension types, which no value holds, are errors."""
    return msgspec.msgpack.Decoder(wire, ext_hook=_no_extension).decode


def _no_extension(code: int, _data: memoryview) -> NoReturn:
    raise ValueError(f"it holds an extension type of msgpack, {code}")
