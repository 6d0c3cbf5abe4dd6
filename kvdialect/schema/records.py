"""Records: typed Python classes that are both attrs classes and SQLAlchemy tables.

Four classes stand behind one record, each with the layout of the one before:

- the attrs class, as attrs makes it of the annotations, with a slot per field;
- the *storage* class, which adds the slots ``_kv``, ``_key`` and ``_raw``: the tracker of the session that the object
  belongs to, its key, and its value as stored; and ``_related``, if it has relationships;
- the *loader*, in which attributes are set without a hook: objects are filled in it;
- the record class itself, whose ``__setattr__`` notes a change in the tracker.

An object is filled as a loader and then becomes a record by assigning its ``__class__``. Reading an attribute is a
plain slot read, as the columns are descriptors of the *metaclass*: ``Coin.amount`` finds the column, ``coin.amount``
the slot.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
import unicodedata
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol, TypeVar, dataclass_transform, overload

import attrs
import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from kvdialect import exc
from kvdialect.schema.compiled import rows
from kvdialect.schema.declared import INFO, FieldInfo, definition_of, sorted_tables
from kvdialect.schema.definition import MISSING, TableDefinition
from kvdialect.schema.related import RelatedAttribute
from kvdialect.schema.relationships import Declared, Relationship, relationship, taken_from
from kvdialect.schema.types import fields_within, resolve_annotation

T = TypeVar("T")
Class = TypeVar("Class", bound=type[Any])

if TYPE_CHECKING:

    class _Attribute(Generic[T]):
        @overload
        def __get__(self, instance: None, owner: Any) -> sa.Column[T]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> T: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: Any, value: T) -> None: ...

    # A protocol without members of its own takes every default on the right-hand side (``Mapped[bool] = False``), and
    # type checkers find the descriptor in its base: so defaults, constructor, attribute and column all get their types.
    class Mapped(_Attribute[T], Protocol[T]):  # type: ignore[misc]
        """The annotation of a field: on the class a column, on an object a value."""

else:

    class Mapped(Generic[T]):
        """The annotation of a field: on the class a column, on an object a value."""


# ------------------------------------------------------------------------------------------------ fields

_OPTIONS: Final = "kvdialect"
_CONTAINERS: Final = (list, dict, set, frozenset, tuple)
_FACTORY: Final[Any] = attrs.Factory  # attrs types it as a function


@attrs.frozen
class FieldOptions:
    """What ``field()`` says of the column, beside what it says to attrs."""

    primary_key: bool = False
    index: bool = False
    unique: bool = False
    autoincrement: bool = False
    foreign_key: sa.ForeignKey | None = None
    type: Any = None
    name: str | None = None
    previously: str | None = None
    nullable: bool | None = None


@overload
def field(
    *args: Any,
    primary_key: bool = ...,
    autoincrement: Literal[True],
    init: Literal[False] = False,
    previously: str | None = ...,
    type: Any = ...,
    repr: bool = ...,
    metadata: Mapping[Any, Any] | None = ...,
) -> Any: ...
@overload
def field(
    *args: Any,
    primary_key: bool = ...,
    index: bool = ...,
    unique: bool = ...,
    nullable: bool | None = ...,
    previously: str | None = ...,
    type: Any = ...,
    default: Any = ...,
    factory: Callable[[], Any] = ...,
    validator: Any = ...,
    converter: Any = ...,
    on_setattr: Any = ...,
    repr: bool | Callable[[Any], str] = ...,
    eq: bool = ...,
    init: bool = ...,
    kw_only: bool = ...,
    alias: str | None = ...,
    metadata: Mapping[Any, Any] | None = ...,
) -> Any: ...
def field(*args: Any, **options: Any) -> Any:
    """A field of a record: what ``attrs.field`` takes, and what the column needs.

    Args:
        args: a SQLAlchemy type, a ``ForeignKey``, or both, as for ``Column``.
        options: of the column: ``primary_key``; ``index=True`` and ``unique=True`` for an index over this field alone;
            ``autoincrement=True``: ids from the store's allocator, assigned when the record is flushed; ``type``: a
            SQLAlchemy type in place of the annotation's; ``previously="old"``: the name that the field had before;
            ``nullable``. And those of ``attrs.field``: ``default``, ``factory``, ``validator``, ``converter``,
            ``init``, ``kw_only``, ``repr``, ``eq``, ``alias``, ``on_setattr``, ``metadata``.

    Raises:
        ArgumentError: for an option that neither knows.
    """
    known = {attribute.name for attribute in attrs.fields(FieldOptions)}
    own = {name: options.pop(name) for name in list(options) if name in known}
    for arg in args:
        if isinstance(arg, sa.ForeignKey):
            own["foreign_key"] = arg
        elif isinstance(arg, TypeEngine) or (isinstance(arg, type) and issubclass(arg, TypeEngine)):
            own["type"] = arg
        else:
            raise exc.ArgumentError(f"field({arg!r}): give a SQLAlchemy type or a ForeignKey, options by name")
    if not isinstance(own.get("foreign_key"), sa.ForeignKey | None):
        raise exc.ArgumentError(f'field(foreign_key={own["foreign_key"]!r}): write field(ForeignKey("table.column"))')
    if own.get("autoincrement") is True and "default" not in options and "factory" not in options:
        # The id is known when the record is flushed; until then it is None.
        options = {"default": None, "kw_only": True, **options, "init": True}
    metadata = {**(options.pop("metadata", None) or {}), _OPTIONS: FieldOptions(**own)}
    try:
        return attrs.field(metadata=metadata, **options)
    except TypeError as error:
        raise exc.ArgumentError(
            f"field(): {error}; options are those of the column ({', '.join(sorted(known))}) and of attrs.field"
        ) from error


# ------------------------------------------------------------------------------------------------ what a class maps to


class Record:
    """What a record class maps to; ``record_of(cls)`` gives it.

    Attributes:
        cls: the record class.
        loader: the class in which its objects are filled.
        table: SQLAlchemy's Table.
        definition: the definition that the table declares.
        names: field names, in the order of the columns (which are the same).
        mutable: some field's values can change in place, so that changes show only in the bytes.
        values: ``values(obj) -> row``.
        auto: name of the field whose values come from the allocator, or None.
        relationships: by name.
    """

    def __init__(
        self, cls: type[Any], loader: type[Any], table: sa.Table, relationships: Mapping[str, Relationship]
    ) -> None:
        self.cls = cls
        self.loader = loader
        self.table = table
        self.relationships = relationships
        self.definition: TableDefinition = definition_of(table)
        self.names = self.definition.names
        self.mutable = any(field.kind.mutable for field in self.definition.fields)
        self.auto = next((f.name for f in self.definition.fields if f.autoincrement), None)
        self.values: Callable[[Any], tuple[Any, ...]] = _row_getter(self.names)
        self.identity: Callable[[Any], tuple[Any, ...]] = _row_getter(self.definition.primary_key)
        self.entity = table._annotate({"kvdialect_record": cls})

    def __repr__(self) -> str:
        return f"<Record {self.cls.__name__}: {self.table.name}>"


def _row_getter(names: Iterable[str]) -> Callable[[Any], tuple[Any, ...]]:
    source = f"lambda o: ({''.join(f'o.{name}, ' for name in names)})"
    return eval(source)  # type: ignore[no-any-return]  # noqa: S307 - field names are identifiers


class RecordMeta(type):
    """Base of the metaclasses of records: each record class has one of its own, which holds its columns."""

    __kvdialect__: Record

    def __clause_element__(cls) -> Any:
        """The table, annotated with the class: by it SQLAlchemy's select, insert, update and delete take a record."""
        return cls.__kvdialect__.entity

    @property
    def __table__(cls) -> sa.Table:
        return cls.__kvdialect__.table


class _ClassAttribute:
    """A column or relationship as an attribute of the record class, found before the slot of the same name."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value

    def __get__(self, cls: type[Any] | None, meta: type[Any]) -> Any:
        return self if cls is None else self.value

    def __set__(self, cls: type[Any], value: Any) -> None:
        what = "column" if isinstance(self.value, sa.Column) else "relationship"
        raise AttributeError(f"{cls.__name__}.{self.name} is a {what} and cannot be replaced")


def record_of(thing: Any) -> Record | None:
    """What a record class, or the class of an object, maps to; None if it is no record."""
    cls = thing if isinstance(thing, type) else type(thing)
    return cls.__kvdialect__ if isinstance(cls, RecordMeta) else None


_by_table: dict[str, list[weakref.ref[Record]]] = {}


def records_for(table: str) -> list[Record]:
    """What is mapped to tables of this name, in all registries, the latest first."""
    found = _by_table.get(table, [])
    records = [record for each in reversed(found) if (record := each()) is not None]
    if len(records) < len(found):
        _by_table[table] = [each for each in found if each() is not None]
    return records


def required_record(thing: Any) -> Record:
    """What a record class, or the class of an object, maps to.

    Raises:
        ArgumentError: if it is no record.
    """
    record = record_of(thing)
    if record is None:
        name = thing.__name__ if isinstance(thing, type) else f"an object of {type(thing).__name__}"
        raise exc.ArgumentError(f"{name} is no record; decorate its class with @mapped(models)")
    return record


def required_object(thing: Any) -> Record:
    """What the class of an object maps to.

    Raises:
        ArgumentError: if it is no object of a record class.
    """
    if isinstance(thing, RecordMeta):
        raise exc.ArgumentError(f"{thing.__name__} is a record class; give an object of it")
    return required_record(thing)


# ------------------------------------------------------------------------------------------------ mapping


def _engine(engine: Any) -> Any:
    if not callable(getattr(engine, "create_all", None)):
        raise exc.ArgumentError(f"{engine!r:.80} is no engine; give what kvdialect.create_engine(url) returns")
    return engine


class registry:  # noqa: N801 - SQLAlchemy's name
    """The records of a program: a MetaData and the classes mapped to its tables.

    Attributes:
        metadata: SQLAlchemy's MetaData with their tables.
        records: the record classes by table name.
    """

    def __init__(self, *, metadata: sa.MetaData | None = None) -> None:
        self.metadata = metadata if metadata is not None else sa.MetaData()
        self.records: dict[str, type[Any]] = {}

    def mapped(self, cls: Any = None, /, **options: Any) -> Any:
        """As :func:`mapped`, with this registry: ``@models.mapped`` or ``@models.mapped(eq=False)``."""
        if cls is None:
            return lambda cls: map_class(self, cls, options, sys._getframe(1))
        return map_class(self, cls, options, sys._getframe(1))

    @property
    def definitions(self) -> list[TableDefinition]:
        """The definitions of all tables, those added to ``metadata`` by hand included."""
        records = {name: required_record(cls).definition for name, cls in self.records.items()}
        return [records.get(table.name) or definition_of(table) for table in sorted_tables(self.metadata)]

    def create_all(self, engine: Any) -> None:
        """Create the tables and indexes that the store lacks; idempotent.

        Raises:
            SchemaMismatch: if the store has one of them with other fields or indexes; it says which, and what to call.
        """
        _engine(engine).create_all(self.definitions)

    def drop_all(self, engine: Any) -> None:
        """Drop the tables with their indexes and all their data; those that are not there are passed over."""
        _engine(engine).drop_all(self.definitions)

    def differences(self, engine: Any) -> list[Any]:
        """What the store has otherwise than these records declare it, column by column."""
        return _engine(engine).differences(self.definitions)  # type: ignore[no-any-return]

    def upgrade(self, engine: Any, *, progress: Callable[[int, int], None] | None = None) -> None:
        """Change the store to what these records declare, where nothing is lost or misread by it.

        Fields are added, dropped, renamed (``field(previously=...)``) and widened without rewriting rows; indexes are
        built while other sessions read and write. Stopped at any point, it goes on from there when called again.

        Args:
            engine: the open store.
            progress: called with the rows done and the rows in all, while an index is built.

        Raises:
            SchemaMismatch: for what would lose or misread data, with the reason; nothing is changed then.
        """
        _engine(engine).upgrade(self.definitions, progress=progress)


@dataclass_transform(field_specifiers=(field, attrs.field, relationship))
def mapped(models: registry, **options: Any) -> Callable[[type[T]], type[T]]:
    """Map a class to a table: an annotated class becomes an attrs class with slots, an attrs class stays what it is.

    The class names its table in ``__tablename__`` and may have ``__table_args__`` with SQLAlchemy's Index, constraints
    and a dict of the table's options. Objects compare by their values, as attrs objects do, and hash by identity, as
    the identity map needs it.

    Args:
        models: the registry that the table belongs to.
        options: of ``attrs.define``, such as ``eq=False`` or ``kw_only=True``.

    Raises:
        ArgumentError: if the class has no table name, no primary key, or an annotation that no type stands for.
    """
    frame = sys._getframe(1)
    return lambda cls: map_class(models, cls, options, frame)


def map_class(models: registry, cls: type[Any], options: dict[str, Any], frame: types.FrameType | None) -> Any:
    """Make a record of a class; see :func:`mapped`."""
    name = cls.__dict__.get("__tablename__")
    if not isinstance(name, str):
        raise exc.ArgumentError(f"{cls.__name__} has no __tablename__; give it the name of its table, a str")
    derived = next((base for base in cls.__mro__[1:] if isinstance(base, RecordMeta)), None)
    if derived is not None:
        raise exc.ArgumentError(
            f"{cls.__name__} is derived from the record {derived.__name__}; put common fields into an attrs class that"
            " is no record, and derive both from it"
        )
    if name in models.metadata.tables:
        raise exc.ArgumentError(
            f"table {name} of {cls.__name__} is mapped already in this registry; choose another name"
        )
    declared = taken_from(cls)
    if attrs.has(cls) and "__attrs_attrs__" in cls.__dict__:
        if options:
            raise exc.ArgumentError(
                f"{cls.__name__} is an attrs class already; options of mapped() have no effect on it"
            )
        base = cls
    else:
        base = _attrs_class(cls, options, frame, declared)
    columns = {attribute.name: _column(cls, attribute, frame) for attribute in attrs.fields(base)}
    args, kwargs = _table_args(cls)
    table = sa.Table(name, models.metadata, *columns.values(), *args, **kwargs)
    try:
        relationships = {name: Relationship(name, *said) for name, said in declared.items()}
        record_class = _record_class(cls, base, table, relationships)
    except BaseException:
        models.metadata.remove(table)
        raise
    models.records[name] = record_class
    for each in relationships.values():
        each.belong(record_of(record_class), models.records)  # type: ignore[arg-type]
    return record_class


def _attrs_class(
    cls: type[Any], options: dict[str, Any], frame: types.FrameType | None, without: Iterable[str]
) -> type[Any]:
    """An annotated class as an attrs class; ``Mapped[X]`` is X to attrs."""
    own = {**_mixed_in(cls, without), **inspect.get_annotations(cls)}
    for name in without:
        own.pop(name, None)
    if not own:
        raise exc.ArgumentError(f"{cls.__name__} has no annotated fields")
    for name, annotation in own.items():
        value = _evaluated(cls, name, annotation, frame)
        if typing.get_origin(value) is Mapped:
            (value,) = typing.get_args(value)
        own[name] = value
        for said in fields_within(value, _Field):
            setattr(cls, name, _with(said, cls.__dict__.get(name, attrs.NOTHING)))
    cls.__annotations__ = own
    if options.setdefault("slots", True) is not True:
        raise exc.ArgumentError("a record has slots; mapped(slots=False) is not possible")
    if options.get("frozen"):
        raise exc.ArgumentError("a record cannot be frozen: a Session tracks its changes")
    return attrs.define(**options)(cls)  # type: ignore[no-any-return]


_Field: Final[Any] = type(attrs.field())


def _with(said: Any, given: Any) -> Any:
    """A field of an annotation, as ``Annotated[str, field(unique=True)]``, with what the class body says of it."""
    shared = _said(said)
    if isinstance(said, sa.ForeignKey):
        said = field(said)
    if not isinstance(given, _Field):
        return attrs.field(
            default=said._default if given is attrs.NOTHING else given,
            validator=said._validator, converter=said.converter, repr=said.repr, eq=said.eq, order=said.order,
            hash=said.hash, init=said.init, kw_only=said.kw_only, alias=said.alias, on_setattr=said.on_setattr,
            metadata={**said.metadata, _OPTIONS: shared},
        )  # fmt: skip
    given.metadata = {**said.metadata, **given.metadata, _OPTIONS: _both(given.metadata.get(_OPTIONS), shared)}
    if given._default is attrs.NOTHING:
        given._default = said._default
    given._validator = given._validator or said._validator
    given.converter = given.converter or said.converter
    return given


def _said(said: Any) -> FieldOptions:
    """What a field, or a foreign key, in an annotation says of the column."""
    if isinstance(said, sa.ForeignKey):
        return FieldOptions(foreign_key=said)
    return said.metadata.get(_OPTIONS) or FieldOptions()


def _both(own: FieldOptions | None, shared: FieldOptions) -> FieldOptions:
    """The options of the class body, and those of the annotation that it does not say."""
    if own is None:
        return shared
    unsaid = FieldOptions()
    names = [attribute.name for attribute in attrs.fields(FieldOptions)]
    return attrs.evolve(shared, **{n: getattr(own, n) for n in names if getattr(own, n) != getattr(unsaid, n)})


def _mixed_in(cls: type[Any], without: Iterable[str]) -> dict[str, Any]:
    """Annotated fields of bases that are no attrs classes: attrs would not look there. They become the class's own."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[1:-1]):
        if attrs.has(base):
            continue
        for name, annotation in inspect.get_annotations(base).items():
            found[name] = annotation
            if name not in cls.__dict__ and name in base.__dict__ and name not in without:
                setattr(cls, name, base.__dict__[name])
    return {name: annotation for name, annotation in found.items() if name not in inspect.get_annotations(cls)}


def _evaluated(cls: type[Any], name: str, annotation: Any, frame: types.FrameType | None) -> Any:
    """An annotation as an object, where ``from __future__ import annotations`` left its text."""
    if not isinstance(annotation, str):
        return annotation
    module = sys.modules.get(cls.__module__)
    names = {**vars(typing), **(frame.f_globals if frame is not None else {}), **(vars(module) if module else {})}
    if frame is not None:
        names.update(frame.f_locals)  # classes that a function defines beside the record
    try:
        return eval(annotation, names, dict(vars(cls)))  # noqa: S307 - the program's own annotation
    except NameError as error:
        raise exc.ArgumentError(
            f"annotation {annotation!r} of {cls.__name__}.{name} does not resolve: {error}"
        ) from error


def _column(cls: type[Any], attribute: attrs.Attribute[Any], frame: types.FrameType | None) -> sa.Column[Any]:
    options: FieldOptions = attribute.metadata.get(_OPTIONS) or FieldOptions()
    if isinstance(attribute.default, Declared):
        raise exc.ArgumentError(
            f"{cls.__name__}.{attribute.name} is a relationship of a class that is an attrs class already; let @mapped"
            " make the attrs class"
        )
    if not attribute.name.isidentifier() or attribute.name.startswith("_"):
        raise exc.ArgumentError(
            f"{cls.__name__}.{attribute.name}: a field's name is an identifier and does not begin with an underscore"
        )
    if unicodedata.normalize("NFKC", attribute.name) != attribute.name:
        # Python reads names in code as their normal form: written there it would be another one.
        raise exc.ArgumentError(f"{cls.__name__}.{attribute.name}: a field cannot have this name in Python's code")
    if options.name is not None and options.name != attribute.name:
        raise exc.ArgumentError(f"{cls.__name__}.{attribute.name}: a column has the name of its field")
    annotation = _evaluated(cls, attribute.name, attribute.type, frame)
    if typing.get_origin(annotation) is Mapped:
        (annotation,) = typing.get_args(annotation)
    for said in fields_within(annotation, _Field):  # of an attrs class; else they are in the options already
        options = _both(options, _said(said))
    try:
        resolved = resolve_annotation(annotation, explicit=options.type)
    except exc.ArgumentError as error:
        raise exc.ArgumentError(f"{cls.__name__}.{attribute.name}: {error.message}", **error.facts) from error
    nullable = resolved.nullable if options.nullable is None else options.nullable
    if options.primary_key and nullable and not options.autoincrement and attribute.default is not None:
        raise exc.ArgumentError(f"{cls.__name__}.{attribute.name} is in the primary key and cannot be None")
    default, column_default = _defaults(attribute, nullable=nullable)
    return sa.Column(
        attribute.name,
        resolved.type,
        *([] if options.foreign_key is None else [options.foreign_key._copy()]),  # a mixin's is of several columns
        primary_key=options.primary_key,
        nullable=nullable and not options.primary_key,
        index=True if options.index or options.unique else None,
        unique=True if options.unique else None,
        autoincrement=_autoincrement(attribute, options, nullable=nullable),
        default=column_default,
        info={INFO: FieldInfo(kind=resolved.kind, default=default, previously=options.previously)},
    )


def _autoincrement(attribute: attrs.Attribute[Any], options: FieldOptions, *, nullable: bool) -> Any:
    """An integer key without a value comes from the allocator if it was asked for, or if None is its default.

    Not one that refers to another table: it has its values from there.
    """
    if options.autoincrement:
        return True
    if options.foreign_key is not None:
        return False  # its values are those of the other table, as SQLAlchemy's "auto" has it
    return bool(options.primary_key and (nullable or attribute.default is None)) or False


def _defaults(attribute: attrs.Attribute[Any], *, nullable: bool) -> tuple[Any, Any]:
    """The default of rows that lack the field, and the default of an ``insert()`` that does not name it."""
    default = attribute.default
    absent = None if nullable else MISSING
    factory: Any = getattr(default, "factory", None) if isinstance(default, _FACTORY) else None
    if factory is not None:
        if getattr(default, "takes_self", False):
            return absent, None
        # A container is the same each time; what else a factory makes (a time, an id) is not.
        return (factory() if factory in _CONTAINERS else absent), factory
    if default is attrs.NOTHING:
        return absent, None
    return default, default


def _table_args(cls: type[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args = cls.__dict__.get("__table_args__", ())
    if isinstance(args, dict):
        return (), dict(args)
    if not isinstance(args, tuple):
        raise exc.ArgumentError(
            f"__table_args__ of {cls.__name__} must be a tuple or a dict, not {type(args).__name__}"
        )
    if args and isinstance(args[-1], dict):
        return args[:-1], dict(args[-1])
    return args, {}


# ------------------------------------------------------------------------------------------------ the classes


def _record_class(
    cls: type[Any], base: type[Any], table: sa.Table, relationships: Mapping[str, Relationship]
) -> type[Any]:
    kind: Any = type(base)
    weak = () if _has_slot(base, "__weakref__") or base.__weakrefoffset__ else ("__weakref__",)
    meta_bases = (RecordMeta,) if kind is type else (RecordMeta, kind)
    attributes = {column.name: _ClassAttribute(column.name, column) for column in table.columns}
    attributes |= {name: _ClassAttribute(name, each.attribute) for name, each in relationships.items()}
    meta: Any = type(f"{cls.__name__}Meta", meta_bases, {"__slots__": (), **attributes})
    made: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    related = {name: RelatedAttribute(each) for name, each in relationships.items()}
    slots = ("_kv", "_key", "_raw", *(("_related",) if related else ()), *weak)
    storage = kind(cls.__name__, (base,), {**made, **related, "__slots__": slots})
    plain = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    loader = kind(cls.__name__, (storage,), {**made, "__slots__": (), **plain})
    target: list[type[Any]] = []
    own = {
        **made,
        "__slots__": (),
        "__init__": _initialiser(base, loader, target, tuple(relationships)),
        "__setattr__": _setter(base),
        "__delattr__": _refuse_deletion,
        "__getstate__": _state_getter(base),
        "__setstate__": _state_setter,
        "__hash__": object.__hash__,
    }
    record_class: type[Any] = meta(cls.__name__, (storage,), own)
    target.append(record_class)
    record = Record(record_class, loader, table, relationships)
    type.__setattr__(meta, "__kvdialect__", record)
    _by_table.setdefault(table.name, []).append(weakref.ref(record))
    return record_class


def _has_slot(cls: type[Any], name: str) -> bool:
    return any(name in getattr(base, "__slots__", ()) for base in cls.__mro__)


def _initialiser(base: type[Any], loader: type[Any], target: list[type[Any]], relationships: tuple[str, ...]) -> Any:
    """The constructor: attrs' own, run on the loader, where setting an attribute costs nothing more."""
    construct: Any = base.__init__
    switch = object.__dict__["__class__"].__set__

    @functools.wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it becomes the class's
        cls = self.__class__
        if cls is not target[0]:
            # A subclass may have another layout: the hook is then called, and finds no tracker.
            construct(self, *args, **kwargs)
            self._kv = self._key = self._raw = None
            return
        switch(self, loader)
        try:
            construct(self, *args, **kwargs)
            self._kv = self._key = self._raw = None
        finally:
            switch(self, cls)

    if not relationships:
        return __init__

    @functools.wraps(construct)
    def with_relationships(self: Any, *args: Any, **kwargs: Any) -> None:
        given = {name: kwargs.pop(name) for name in relationships if name in kwargs}
        __init__(self, *args, **kwargs)
        object.__setattr__(self, "_related", None)
        for name, value in given.items():
            setattr(self, name, value)

    return with_relationships


def _setter(base: type[Any]) -> Any:
    """Setting an attribute: as the attrs class does it (validators, converters), and a note in the tracker."""
    set_attribute: Any = base.__setattr__
    if set_attribute is object.__setattr__ and rows is not None:
        return rows.setter

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: N807 - it becomes the class's
        set_attribute(self, name, value)
        try:
            tracker = self._kv
        except AttributeError:
            return  # not yet initialised
        if tracker is not None:
            tracker[id(self)] = self

    return __setattr__


def _refuse_deletion(self: Any, name: str) -> None:
    raise AttributeError(f"field {name} of a {type(self).__name__} cannot be deleted; set it to None")


_OWN_SLOTS: Final = frozenset({"_kv", "_key", "_raw"})


def _state_getter(base: type[Any]) -> Any:
    """The state for pickle and copy: without the session's part."""
    own_state: Any = object.__getstate__
    inherited: Any = base.__getstate__
    if inherited is not own_state:
        return inherited

    def __getstate__(self: Any) -> Any:  # noqa: N807 - it becomes the class's
        state = own_state(self)
        if isinstance(state, tuple):
            plain, slots = state
            left_out = {*_OWN_SLOTS, "_related"}
            return {**(plain or {}), **{name: value for name, value in slots.items() if name not in left_out}}
        return state

    return __getstate__


def _state_setter(self: Any, state: Any) -> None:
    """The counterpart: an unpickled or copied object belongs to no session."""
    assign = object.__setattr__
    values = state.items() if isinstance(state, dict) else zip(record_of(self).names, state, strict=True)  # type: ignore[union-attr]
    for name, value in values:
        assign(self, name, value)
    for name in _OWN_SLOTS:
        assign(self, name, None)
