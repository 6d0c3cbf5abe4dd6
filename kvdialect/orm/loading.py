"""Loading: stored pairs to objects, by code generated for each record class and stored table."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any
from weakref import ref

from kvdialect import exc
from kvdialect.codec.kinds import Namespace, put
from kvdialect.orm.identity import IdentityMap, Tracker
from kvdialect.schema.compiled import rows
from kvdialect.schema.records import Record
from kvdialect.schema.rows import DECODE_ERRORS
from kvdialect.storage.batch import KEY_LIMIT
from kvdialect.store.table import StoredTable

Pairs = Iterable[tuple[bytes, bytes]]


class Loading:
    """The generated code that makes objects of a record class from the pairs of a stored table.

    Attributes:
        table: the stored table.
        record: what the class maps to.
        load: ``load(pairs, identity, tracker) -> objects``: for each pair the object of its key, which is the one that
            the identity map has, or a new one.
        load_one: ``load_one(key, value, identity, tracker) -> object``: the same of one pair, whose key is not live.
        enter: ``enter(objects, pairs, identity)``: new objects are those of these records from now on.
        fill: ``fill(obj, key, value)``: sets all attributes from stored bytes, without hook.
        set_kv, set_key, set_raw: set the slots of tracker, key and value: ``set_key(obj, key)``.
        key_of: ``key_of(identity) -> key`` of a primary key value, or a tuple of them.
        quick_key: the same, or None for a value that needs a closer look.
        key_of_object: ``key_of_object(obj) -> key`` from its attributes.
    """

    def __init__(self, table: StoredTable, record: Record) -> None:
        self.table = table
        self.record = record
        names: Namespace = {}
        self.source = "\n".join([*self._load_lines(names), *self._fill_lines(names), *self._key_lines(names)])
        exec(compile(self.source, f"<kvdialect {record.cls.__name__}>", "exec"), names)  # noqa: S102 - generated here
        compiled = self._compiled(names["load_one"])
        self.load_one: Callable[[bytes, bytes, IdentityMap, Tracker], Any] = (compiled or names)["load_one"]
        self.load: Callable[[Pairs, IdentityMap, Tracker], list[Any]] = (compiled or names)["load"]
        self.enter: Callable[[list[Any], list[tuple[bytes, bytes]], IdentityMap], None] = compiled.get(
            "enter", self._enter
        )
        self.fill: Callable[[Any, bytes, bytes], None] = names["fill"]
        self.key_of: Callable[[Any], bytes] = names["key_of"]
        self.quick_key: Callable[[Any], bytes | None] = (
            self.key_of if table.codec.encoder is None else table.codec.encoder.key
        )

    def key_of_object(self, instance: Any) -> bytes:
        """The key that the object's attributes give.

        Raises:
            DataError: if a key attribute is no value of its column.
        """
        values = self.record.identity(instance)
        return self.key_of(values if len(values) > 1 else values[0])

    def modified(self, instance: Any) -> bool:
        """True if the object's values are other than those it was loaded or flushed with.

        Raises:
            DataError: for a value that its column does not take.
        """
        codec = self.table.codec
        _, value, _ = codec.encode(self.record.values(instance))
        raw = instance._raw
        # A row of an older version of the fields has other bytes, whether it was changed or not.
        return bool(
            value != raw and (value[:3] == raw[:3] or value != codec.encode(codec.decode(instance._key, raw))[1])
        )

    def attach(self, instance: Any, key: bytes, value: bytes, tracker: Tracker) -> None:
        """Make an object the one of a stored record, without touching its fields."""
        self.set_kv(instance, tracker)
        self.set_key(instance, key)
        self.set_raw(instance, value)

    def _enter(self, instances: list[Any], pairs: list[tuple[bytes, bytes]], identity: IdentityMap) -> None:
        set_key, set_raw, live, stale = self.set_key, self.set_raw, identity.live, identity.stale
        for instance, (key, value) in zip(instances, pairs, strict=True):
            set_key(instance, key)
            set_raw(instance, value)
            live[key] = ref(instance)
        if stale:
            for key, _ in pairs:
                stale.pop(key, None)
        if self.record.mutable:
            identity.kept.update(zip([key for key, _ in pairs], instances, strict=True))

    def _compiled(self, otherwise: Any) -> dict[str, Any]:
        """The compiled loaders, where there are some for the table and the layout of the class."""
        cls, names = self.record.cls, [*self.table.codec.names, "_kv", "_key", "_raw"]
        slots = [inspect.getattr_static(self.record.loader, name, None) for name in names]
        if rows is None or self.table.codec.decoder is None or not all(map(inspect.ismemberdescriptor, slots)):
            return {}
        loader = rows.Loader(self.table.codec.decoder, cls, tuple(slots), self.record.mutable, otherwise, self._revive)
        return {"load": loader.load, "load_one": loader.load_one, "enter": loader.enter}

    def _load_lines(self, names: Namespace) -> list[str]:
        loader, cls = put(names, self.record.loader), put(names, self.record.cls)
        codec = self.table.codec
        decode = codec.decode_lines(lambda at: f"o.{codec.names[at]}", names)
        keep = ["        identity.kept[key] = o"] if self.record.mutable else []
        return [
            f"def load(pairs, identity, tracker, new={put(names, object.__new__)}, ref={put(names, ref)}):",
            "    live, stale = identity.live, identity.stale",
            "    known = live.get",
            "    objects = []",
            "    add = objects.append",
            "    for key, value in pairs:",
            "        found = known(key)",
            "        if found is not None:",
            "            o = found()",
            "            if o is not None:",
            "                add(o)",
            "                continue",
            "        if stale:",
            f"            o = {put(names, self._revive)}(identity, key, value, tracker)",
            "            if o is not None:",
            "                add(o)",
            "                continue",
            f"        o = new({loader})",
            "        try:",
            *(f"            {line}" for line in decode),
            f"        except {put(names, DECODE_ERRORS)} as error:",
            f"            raise {put(names, codec.undecodable)}(key, error) from error",
            "        o._kv = tracker",
            "        o._key = key",
            "        o._raw = value",
            f"        o.__class__ = {cls}",
            "        live[key] = ref(o)",
            *keep,
            "        add(o)",
            "    if len(live) > identity.limit:",
            "        identity.purge()",
            "    return objects",
            "",
            f"def load_one(key, value, identity, tracker, new={put(names, object.__new__)}, ref={put(names, ref)}):",
            "    if identity.stale:",
            f"        o = {put(names, self._revive)}(identity, key, value, tracker)",
            "        if o is not None:",
            "            return o",
            f"    o = new({loader})",
            "    try:",
            *(f"        {line}" for line in decode),
            f"    except {put(names, DECODE_ERRORS)} as error:",
            f"        raise {put(names, codec.undecodable)}(key, error) from error",
            "    o._kv = tracker",
            "    o._key = key",
            "    o._raw = value",
            f"    o.__class__ = {cls}",
            "    identity.live[key] = ref(o)",
            *(line[4:] for line in keep),
            "    if len(identity.live) > identity.limit:",
            "        identity.purge()",
            "    return o",
        ]

    def _fill_lines(self, names: Namespace) -> list[str]:
        codec, loader = self.table.codec, self.record.loader
        decode = codec.decode_lines(lambda at: f"v{at}", names)
        self.set_kv = loader._kv.__set__
        self.set_key = loader._key.__set__
        self.set_raw = loader._raw.__set__
        lines = ["def fill(o, key, value):", "    try:", *(f"        {line}" for line in decode)]
        lines += [
            f"    except {put(names, DECODE_ERRORS)} as error:",
            f"        raise {put(names, codec.undecodable)}(key, error) from error",
        ]
        for at, name in enumerate(codec.names):
            # The slot's own setter works on subclasses of any layout; a class with a __dict__ has none.
            slot = getattr(loader, name, None)
            if hasattr(slot, "__set__"):
                lines.append(f"    {put(names, slot.__set__)}(o, v{at})")  # type: ignore[union-attr]
            else:
                lines.append(f"    {put(names, object.__setattr__)}(o, {name!r}, v{at})")
        lines += [f"    {put(names, self.set_key)}(o, key)", f"    {put(names, self.set_raw)}(o, value)"]
        if self.record.relationships:  # they are of the state before
            lines.append(f"    {put(names, loader._related.__set__)}(o, None)")
        return lines

    def _key_lines(self, names: Namespace) -> list[str]:
        fields = self.table.codec.key_fields
        general = put(names, self._key_of)
        variables = [f"v{at}" for at in range(len(fields))]
        tests = [field.kind.test_source(v, names) for field, v in zip(fields, variables, strict=True)]
        encoded = self.table.codec.grammar.encode_source(variables, names)
        width = self.table.codec.grammar.width
        if None in tests or width is None or width > KEY_LIMIT:
            return [f"key_of = {general}"]
        test = " and ".join(tests)  # type: ignore[arg-type]
        if len(fields) == 1:
            return ["def key_of(v0):", f"    return {encoded} if {test} else {general}(v0)"]
        return [
            "def key_of(identity):",
            f"    if identity.__class__ is tuple and len(identity) == {len(fields)}:",
            f"        {', '.join(variables)} = identity",
            f"        if {test}: return {encoded}",
            f"    return {general}(identity)",
        ]

    def _key_of(self, identity: Any) -> bytes:
        names = self.table.definition.primary_key
        if isinstance(identity, dict):
            if set(identity) != set(names):
                raise exc.ArgumentError(
                    f"the primary key of {self.table.name} is ({', '.join(names)}); got"
                    f" ({', '.join(map(str, identity))})"
                )
            identity = tuple(identity[name] for name in names)
        elif not isinstance(identity, tuple | list) or (len(names) == 1 and not isinstance(identity, tuple)):
            identity = (identity,)
        return self.table.codec.key(tuple(identity))

    def _revive(self, identity: IdentityMap, key: bytes, value: bytes, tracker: Tracker) -> Any:
        """An object of an earlier transaction, refreshed in place; changes that it has pending stay."""
        found = identity.stale.pop(key, None)
        instance = None if found is None else found()
        if instance is None:
            return None
        if instance._raw != value and id(instance) not in tracker and not self._changed_in_place(instance):
            self.fill(instance, key, value)
        elif self.record.relationships and id(instance) not in tracker:
            object.__setattr__(instance, "_related", None)  # the others may have changed
        identity.live[key] = found  # type: ignore[assignment]
        if self.record.mutable:
            identity.kept[key] = instance
        return instance

    def _changed_in_place(self, instance: Any) -> bool:
        """True for a change that no tracker saw: it stays, and conflicts when it is flushed."""
        return self.record.mutable and self.modified(instance)
