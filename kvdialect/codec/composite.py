"""Composite kinds, for values only: lists, dicts, tuples and JSON; and kinds with a conversion around them.

Nested classes are :mod:`kvdialect.codec.records`.

A composite kind holds the kinds of its parts, and checks, packs and unpacks each by these, to any depth: what is stored
is what will load. A list, tuple or dict whose parts are stored as they are is its own wire form.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Self

import attrs
from sqlalchemy.util import symbol

from kvdialect.codec.kinds import Kind, Namespace, Refused, compiled, fact, facts, kind_from_spec, put
from kvdialect.codec.strings import encodable, exact_text

DEEPEST_JSON: Final = 100
"""Levels that a JSON value may have: bounded, as packing and unpacking recurse."""


# ------------------------------------------------------------------------------------------ parts


@attrs.frozen
class Part:
    """One part of a composite: its kind, and whether it may be None."""

    kind: Kind
    nullable: bool = False

    @property
    def wire(self) -> Any:
        return self.kind.wire | None if self.nullable else self.kind.wire

    @property
    def allowed(self) -> str:
        return f"{self.kind.allowed} or None" if self.nullable else self.kind.allowed

    def check(self, value: Any) -> Any:
        if value is None and self.nullable:
            return None
        return self.kind.check(value)

    def test_source(self, v: str, names: Namespace) -> str:
        test = self.kind.test_source(v, names) or f"{put(names, self.kind.unchanged)}({v})"
        return f"({v} is None or {test})" if self.nullable else test

    def store_source(self, v: str, names: Namespace) -> str:
        return self._optional(v, self.kind.store_source(v, names))

    def load_source(self, v: str, names: Namespace) -> str:
        return self._optional(v, self.kind.load_source(v, names))

    def _optional(self, v: str, source: str) -> str:
        return f"(None if {v} is None else {source})" if self.nullable and source != v else source

    def widens(self, older: Part) -> bool:
        return self.kind.widens(older.kind) and (self.nullable or not older.nullable)

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind.spec(), "nullable": self.nullable}

    @classmethod
    def from_spec(cls, spec: Any, depth: int) -> Self:
        if not isinstance(spec, Mapping):
            raise Refused(f"{spec!r:.80} is no spec of a part")
        return cls(kind_from_spec(spec.get("kind", {}), depth), fact(spec, "nullable", bool))


class Composite(Kind):
    """Base of the kinds that hold others. Their functions are generated when first used."""

    keyable = False

    @property
    def plain(self) -> bool:
        return self._plain

    _plain: bool

    def test_source(self, v: str, names: Namespace) -> str:
        return f"{v}.__class__ is {put(names, self.python)} and {put(names, self._intact)}({v})"

    @cached_property
    def _intact(self) -> Callable[[Any], bool]:
        """Whether all parts of a value of exactly the kind's class pass the tests of their kinds."""
        names: Namespace = {}
        lines = ["def intact(value):", *(f"    {line}" for line in self._test_lines(names)), "    return True"]
        return compiled("intact", lines, names)

    @abc.abstractmethod
    def _test_lines(self, names: Namespace) -> list[str]:
        """Statements that return False if a part of the variable ``value`` does not pass its test."""


class ListKind(Composite):
    """Lists, or tuples of any length, of one kind of elements.

    Attributes:
        element: kind of the elements.
        nullable: elements may be None.
        python: list or tuple.
    """

    tag = "list"

    def __init__(self, element: Kind, nullable: bool = False, python: type = list) -> None:
        self.element = element
        self.nullable = nullable
        self.python = python
        self.part = part = Part(element, nullable)
        self.wire = list[part.wire] if python is list else tuple[part.wire, ...]  # type: ignore[name-defined]
        self.mutable = python is list or element.mutable
        self.allowed = f"a {python.__name__} with, for each element, {part.allowed}"
        self._plain = element.plain

    def spec(self) -> dict[str, Any]:
        return {"kind": "list", "element": self.part.spec()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> Self:
        part = Part.from_spec(facts(spec, element=dict)["element"], depth)
        return cls(part.kind, part.nullable)

    def _test_lines(self, names: Namespace) -> list[str]:
        return ["for v in value:", f"    if not ({self.part.test_source('v', names)}): return False"]

    def check(self, value: Any) -> Any:
        if not isinstance(value, self.python):
            raise Refused(f"no {self.python.__name__}")
        plain = value if value.__class__ is self.python else self.python(value)
        if self._intact(plain):
            return plain
        checked = list(map(self.part.check, plain))
        return plain if same_objects(checked, plain) else self.python(checked)

    def store(self, value: Any) -> Any:
        return value if self._plain else self._store(value)

    def load(self, wire: Any) -> Any:
        return wire if self._plain else self._load(wire)

    @cached_property
    def _store(self) -> Callable[[Any], Any]:
        names: Namespace = {}
        source = self.part.store_source("v", names)
        return compiled("store", ["def store(value):", f"    return [{source} for v in value]"], names)

    @cached_property
    def _load(self) -> Callable[[Any], Any]:
        names: Namespace = {}
        source = self.part.load_source("v", names)
        made = f"[{source} for v in wire]"
        return compiled(
            "load", ["def load(wire):", f"    return {made if self.python is list else f'tuple({made})'}"], names
        )

    def _widens(self, older: Kind) -> bool:
        return isinstance(older, ListKind) and self.part.widens(older.part)


def same_objects(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Whether two sequences of one length hold the very same objects."""
    return all(one is other for one, other in zip(left, right, strict=True))


class DictKind(Composite):
    """Dicts with str keys and one kind of values; they keep the order of insertion.

    Attributes:
        item: kind of the values.
        nullable: values may be None.
    """

    tag = "dict"
    python = dict
    mutable = True

    def __init__(self, item: Kind, nullable: bool = False) -> None:
        self.item = item
        self.nullable = nullable
        self.part = Part(item, nullable)
        self.wire = dict[str, self.part.wire]  # type: ignore[name-defined]
        self.allowed = f"a dict with str keys and, for each value, {self.part.allowed}"
        self._plain = item.plain

    def spec(self) -> dict[str, Any]:
        return {"kind": "dict", "item": self.part.spec()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> Self:
        part = Part.from_spec(facts(spec, item=dict)["item"], depth)
        return cls(part.kind, part.nullable)

    def _test_lines(self, names: Namespace) -> list[str]:
        key = f"k.__class__ is str and (k.isascii() or {put(names, encodable)}(k))"
        test = self.part.test_source("v", names)
        return ["for k, v in value.items():", f"    if not ({key} and ({test})): return False"]

    def check(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Refused("no dict")
        plain = value if value.__class__ is dict else dict(value)
        if self._intact(plain):
            return plain
        checked = {exact_text(key): self.part.check(item) for key, item in plain.items()}
        return plain if same_objects([*checked, *checked.values()], [*plain, *plain.values()]) else checked

    def store(self, value: dict[str, Any]) -> dict[str, Any]:
        return value if self._plain else self._store(value)

    def load(self, wire: dict[str, Any]) -> dict[str, Any]:
        return wire if self._plain else self._load(wire)

    @cached_property
    def _store(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        names: Namespace = {}
        source = self.part.store_source("v", names)
        return compiled("store", ["def store(value):", f"    return {{k: {source} for k, v in value.items()}}"], names)

    @cached_property
    def _load(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        names: Namespace = {}
        source = self.part.load_source("v", names)
        return compiled("load", ["def load(wire):", f"    return {{k: {source} for k, v in wire.items()}}"], names)

    def _widens(self, older: Kind) -> bool:
        return isinstance(older, DictKind) and self.part.widens(older.part)


class TupleKind(Composite):
    """Tuples of a fixed number of elements, each of a kind of its own.

    Attributes:
        parts: the elements' kinds.
    """

    tag = "tuple"
    python = tuple

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts = tuple(parts)
        self.wire = tuple[tuple(part.wire for part in self.parts)]  # type: ignore[misc]
        self.mutable = any(part.kind.mutable for part in self.parts)
        self.allowed = f"a tuple of {len(self.parts)}: ({', '.join(part.allowed for part in self.parts)})"
        self._plain = all(part.kind.plain for part in self.parts)

    def spec(self) -> dict[str, Any]:
        return {"kind": "tuple", "parts": [part.spec() for part in self.parts]}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> Self:
        return cls(Part.from_spec(part, depth) for part in facts(spec, parts=list)["parts"])

    def _test_lines(self, names: Namespace) -> list[str]:
        lines = [f"if len(value) != {len(self.parts)}: return False"]
        for number, part in enumerate(self.parts):
            lines += [f"v = value[{number}]", f"if not ({part.test_source('v', names)}): return False"]
        return lines

    def check(self, value: Any) -> tuple[Any, ...]:
        if value.__class__ is tuple and self._intact(value):
            return value
        if not isinstance(value, tuple) or len(value) != len(self.parts):
            raise ValueError("no tuple, or of another length")
        checked = tuple(part.check(item) for part, item in zip(self.parts, value, strict=True))
        return value if value.__class__ is tuple and same_objects(checked, value) else checked

    def store(self, value: tuple[Any, ...]) -> Any:
        return value if self._plain else self._store(value)

    def load(self, wire: Any) -> tuple[Any, ...]:
        return wire if self._plain else self._load(wire)

    @cached_property
    def _store(self) -> Callable[[Any], tuple[Any, ...]]:
        return self._each("store", [part.store_source for part in self.parts])

    @cached_property
    def _load(self) -> Callable[[Any], tuple[Any, ...]]:
        return self._each("load", [part.load_source for part in self.parts])

    def _each(self, name: str, sources: Sequence[Callable[[str, Namespace], str]]) -> Callable[[Any], tuple[Any, ...]]:
        names: Namespace = {}
        variables = "".join(f"v{number}, " for number in range(len(sources)))
        made = "".join(f"{source(f'v{number}', names)}, " for number, source in enumerate(sources))
        return compiled(name, [f"def {name}(value):", f"    {variables}= value", f"    return ({made})"], names)

    def _widens(self, older: Kind) -> bool:
        return (
            isinstance(older, TupleKind)
            and len(self.parts) == len(older.parts)
            and all(new.widens(old) for new, old in zip(self.parts, older.parts, strict=True))
        )


# ------------------------------------------------------------------------------------------ JSON and conversions


class JsonKind(Kind):
    """What JSON can say: None, bool, int of 64 bits, finite float, str, and lists and dicts of these with str keys.

    Tuples are taken and come back as lists, as with any JSON column.
    """

    tag = "json"
    python = object
    keyable = False
    mutable = True
    wire = Any
    allowed = (
        "JSON: None, bool, int from -2**63 to 2**64-1, finite float, str, and lists and dicts of these with str keys,"
        f" at most {DEEPEST_JSON} levels deep"
    )

    def spec(self) -> dict[str, Any]:
        return {"kind": "json"}

    def check(self, value: Any) -> Any:
        return _json(value, DEEPEST_JSON)


def _json(value: Any, depth: int) -> Any:
    """``value`` as JSON: itself if nothing needs to be normalised."""
    if isinstance(value, str):
        return exact_text(value)
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise ValueError("beyond 64 bits")
        if value.__class__ is not int and isinstance(value, symbol):
            raise Refused("of another type")  # SQLAlchemy's JSON.NULL, whose number is another in each process
        return value if value.__class__ is int else int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("JSON has no NaN and no infinity")
        return value if value.__class__ is float else float(value)
    if not isinstance(value, list | tuple | dict):
        raise Refused("of another type")
    if not depth:
        raise ValueError("too deep, or it contains itself")
    if isinstance(value, dict):
        checked = {exact_text(key): _json(item, depth - 1) for key, item in value.items()}
        same = value.__class__ is dict and same_objects([*checked, *checked.values()], [*value, *value.values()])
        return value if same else checked
    items = [_json(item, depth - 1) for item in value]
    return value if value.__class__ is list and same_objects(items, value) else items


class ConvertedKind(Kind):
    """A kind with a conversion around it, such as a TypeDecorator's: what is stored, and ordered, is the bound value.

    The catalog knows the inner kind alone.

    Attributes:
        inner: the kind of the bound values.
    """

    def __init__(
        self,
        inner: Kind,
        bind: Callable[[Any], Any] | None,
        result: Callable[[Any], Any] | None,
        *,
        python: Any = object,
        name: str = "a conversion",
    ) -> None:
        """A kind of the values that ``bind`` makes into values of ``inner`` and ``result`` makes of them.

        Args:
            inner: the kind of the bound values.
            bind: value to bound value; None: they are the same.
            result: bound value to value; None: they are the same.
            python: type of the values, where known.
            name: of the conversion, for messages.
        """
        self.inner = inner
        self._bind = bind
        self._result = result
        self.python = python
        self.width = inner.width
        self.keyable = inner.keyable
        # Nothing is known of what the conversion makes of a value.
        self.mutable = inner.mutable if result is None else True
        self.wire = inner.wire
        self.allowed = f"what {name} makes into {inner.allowed}"

    @property
    def plain(self) -> bool:
        return False

    def spec(self) -> dict[str, Any]:
        return self.inner.spec()

    @property
    def stored(self) -> Kind:
        return self.inner.stored

    def bound_value(self, value: Any) -> Any:
        """The value of the inner kind that is stored for ``value``.

        Raises:
            ValueError: if the conversion fails, or gives what the inner kind does not take.
        """
        if self._bind is not None:
            try:
                value = self._bind(value)
            except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
                raise ValueError(f"the conversion failed: {error!r:.200}") from error
        return self.inner.check(value)

    def result_value(self, value: Any) -> Any:
        """The value that a value of the inner kind stands for."""
        return value if self._result is None else self._result(value)

    def check(self, value: Any) -> Any:
        bound = self.bound_value(value)
        return bound if self._bind is None else value

    def encode(self, value: Any) -> bytes:
        return self.inner.encode(self.bound_value(value))

    def decode(self, raw: bytes) -> Any:
        return self.result_value(self.inner.decode(raw))

    def bound(self, value: Any) -> bytes:
        if self._bind is None:
            return self.inner.bound(value)
        return self.inner.encode(self.bound_value(value))

    def prefix(self, value: Any) -> bytes:
        # The beginning of a value need not be that of its bound value.
        return self.inner.prefix(value) if self._bind is None else super().prefix(value)

    def store(self, value: Any) -> Any:
        return self.inner.store(self.bound_value(value))

    def load(self, wire: Any) -> Any:
        return self.result_value(self.inner.load(wire))

    def _widens(self, older: Kind) -> bool:
        return self.inner.widens(older)
