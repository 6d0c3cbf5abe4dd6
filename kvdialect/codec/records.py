"""Nested attrs classes, for values only: stored as maps of names."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Self

import attrs
import msgspec
from msgspec import UNSET, UnsetType

from kvdialect.codec.composite import Composite, Part, same_objects
from kvdialect.codec.kinds import Kind, Namespace, Refused, compiled, fact, facts, put


@attrs.frozen
class RecordField:
    """A field of a record inside a value: its name and part, and what makes its value where stored data lack it.

    Attributes:
        name: of the attribute, and of the entry in the stored map.
        part: kind, and whether it may be None.
        default: a function of the record as made so far; None if data without the field are refused.
    """

    name: str
    part: Part
    default: Callable[[Any], Any] | None = attrs.field(default=None, eq=False)


@attrs.frozen
class _Frozen:
    """Any frozen attrs class, to know the method by which attrs refuses changes."""

    field: int


_FROZEN: Final = getattr(_Frozen, "__setattr__", None)


class RecordKind(Composite):
    """Nested attrs classes: stored as a map of names, so that a field with a default can be added to the class.

    Loading gives an object with the stored attributes as they were; ``__init__``, converters and validators do not run.

    Attributes:
        fields: the fields, in order.
        python: the class; dict for a kind made from the catalog, whose values are dicts of the stored fields.
    """

    tag = "record"

    def __init__(self, fields: Iterable[RecordField], python: type = dict) -> None:
        self.fields = tuple(fields)
        self.python = python
        for field in self.fields:
            if not field.name.isidentifier() or keyword.iskeyword(field.name):
                raise ValueError(f"field {field.name!r:.80} of a record is no identifier")
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"fields of a record have the same name: {', '.join(names)}")
        self.mutable = getattr(python, "__setattr__", None) is not _FROZEN or any(
            field.part.kind.mutable for field in self.fields
        )
        shown = ", ".join(f"{field.name}: {field.part.allowed}" for field in self.fields)
        self.allowed = f"a {python.__name__} with {shown}"
        self._plain = False

    @cached_property
    def wire(self) -> Any:
        definitions: list[Any] = []
        # A Struct has its required fields first; the names it is packed by are given apart, as they may begin with
        # an underscore.
        for required in (True, False):
            for number, field in enumerate(self.fields):
                if required is not self._optional(field):
                    wire = field.part.wire
                    definitions.append((f"f{number}", wire) if required else (f"f{number}", wire | UnsetType, UNSET))
        return msgspec.defstruct(
            self.python.__name__,
            definitions,
            rename={f"f{number}": field.name for number, field in enumerate(self.fields)},
            kw_only=True,
        )

    def _optional(self, field: RecordField) -> bool:
        return self.python is dict or field.default is not None

    def spec(self) -> dict[str, Any]:
        return {"kind": "record", "fields": [{"name": field.name, **field.part.spec()} for field in self.fields]}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], depth: int) -> Self:
        fields = []
        for field in facts(spec, fields=list)["fields"]:
            part = Part.from_spec(field, depth)
            fields.append(RecordField(fact(field, "name", str), part))
        return cls(fields)

    def check(self, value: Any) -> Any:
        if value.__class__ is not self.python:
            raise Refused(f"no {self.python.__name__}")
        if self.python is dict:
            return self._check_dict(value)
        if self._intact(value):
            return value
        found = self.taken(value)
        checked = [field.part.check(item) for field, item in zip(self.fields, found, strict=True)]
        return value if same_objects(checked, found) else self.made(checked)

    def _check_dict(self, value: dict[str, Any]) -> dict[str, Any]:
        fields = {field.name: field for field in self.fields}
        if not fields.keys() >= value.keys():
            raise ValueError("fields that the record has not")
        checked = {name: fields[name].part.check(item) for name, item in value.items()}
        return value if same_objects([*checked.values()], [*value.values()]) else checked

    def _test_lines(self, names: Namespace) -> list[str]:
        if self.python is dict:
            return [f"if not {put(names, self.unchanged)}(value): return False"]
        lines = ["try:", "    pass"]
        for field in self.fields:
            lines += [f"    v = value.{field.name}", f"    if not ({field.part.test_source('v', names)}): return False"]
        return [*lines, "except AttributeError: return False"]

    def taken(self, value: Any) -> list[Any]:
        """The values of all fields of a record.

        Raises:
            ValueError: if one is not set.
        """
        if self.python is dict:
            return [value.get(field.name) for field in self.fields]
        try:
            return [getattr(value, field.name) for field in self.fields]
        except AttributeError as error:
            raise ValueError("a field is not set") from error

    @cached_property
    def made(self) -> Callable[[Sequence[Any]], Any]:
        """A function that makes a record of the values of all its fields."""
        names: Namespace = {}
        if self.python is dict:
            pairs = ", ".join(f"{field.name!r}: v{number}" for number, field in enumerate(self.fields))
            lines = [f"    return {{{pairs}}}"]
        else:
            lines = [f"    made = {put(names, object.__new__)}({put(names, self.python)})"]
            setting = put(names, object.__setattr__)
            lines += [f"    {setting}(made, {field.name!r}, v{number})" for number, field in enumerate(self.fields)]
            lines += self._hash_lines(setting)
            lines.append("    return made")
        variables = "".join(f"v{number}, " for number in range(len(self.fields)))
        unpack = [f"    {variables}= values"] if self.fields else []
        return compiled("made", ["def made(values):", *unpack, *lines], names)

    def _hash_lines(self, setting: str) -> list[str]:
        # With cache_hash=True, attrs keeps the hash in an attribute that its __init__ sets to None.
        code = getattr(self.python.__hash__, "__code__", None)
        cache = "_attrs_cached_hash"
        return [f"    {setting}(made, {cache!r}, None)"] if code is not None and cache in code.co_names else []

    def store(self, value: Any) -> Any:
        return self._store(value)

    def load(self, wire: Any) -> Any:
        return self._load(wire)

    @cached_property
    def _store(self) -> Callable[[Any], Any]:
        names: Namespace = {}
        given = []
        lines = ["def store(value):"]
        for number, field in enumerate(self.fields):
            if self.python is dict:
                lines.append(f"    v{number} = value.get({field.name!r}, {put(names, UNSET)})")
                stored = f"{put(names, UNSET)} if v{number} is {put(names, UNSET)} else "
            else:
                lines.append(f"    v{number} = value.{field.name}")
                stored = ""
            given.append(f"f{number}={stored}{field.part.store_source(f'v{number}', names)}")
        lines.append(f"    return {put(names, self.wire)}({', '.join(given)})")
        return compiled("store", lines, names)

    @cached_property
    def _load(self) -> Callable[[Any], Any]:
        names: Namespace = {}
        lines = ["def load(wire):"]
        optional = [number for number, field in enumerate(self.fields) if self._optional(field)]
        lines += [f"    v{number} = wire.f{number}" for number in range(len(self.fields))]
        if optional:
            unset = put(names, UNSET)
            missing = " or ".join(f"v{number} is {unset}" for number in optional)
            lines.append(f"    if {missing}: return {put(names, self._load_older)}(wire)")
        made = ", ".join(field.part.load_source(f"v{number}", names) for number, field in enumerate(self.fields))
        lines.append(f"    return {put(names, self.made)}([{made}])")
        return compiled("load", lines, names)

    def _load_older(self, wire: Any) -> Any:
        """Load what was stored before the class had all its fields."""
        found: dict[str, Any] = {}
        for number, field in enumerate(self.fields):
            item = getattr(wire, f"f{number}")
            if item is not UNSET:
                found[field.name] = None if item is None and field.part.nullable else field.part.kind.load(item)
        return self.completed(found)

    def completed(self, found: Mapping[str, Any]) -> Any:
        """A record of the fields in ``found``, the others having their defaults.

        Raises:
            ValueError: if one has none.
        """
        if self.python is dict:
            return dict(found)
        made = object.__new__(self.python)
        for field in self.fields:
            if field.name in found:
                object.__setattr__(made, field.name, found[field.name])
        for field in self.fields:
            if field.name not in found:
                if field.default is None:
                    raise Refused(f"without {field.name}, which has no default")
                object.__setattr__(made, field.name, field.part.check(field.default(made)))
        return self.made(self.taken(made))

    def _widens(self, older: Kind) -> bool:
        if not isinstance(older, RecordKind):
            return False
        now = {field.name: field for field in self.fields}
        then = {field.name: field for field in older.fields}
        return all(name in now and now[name].part.widens(field.part) for name, field in then.items()) and all(
            field.default is not None for name, field in now.items() if name not in then
        )
