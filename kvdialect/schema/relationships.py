"""Relationships: what ``relationship()`` declares between record classes, over their foreign keys.

A class is known by its name until it is first needed, as classes refer to each other. Which foreign key a relationship
goes by, and from which side, is worked out then.
"""

from __future__ import annotations

import ast
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, overload

import attrs
import sqlalchemy as sa
from sqlalchemy.sql import operators

from kvdialect import exc

if TYPE_CHECKING:
    from kvdialect.schema.definition import ForeignKeyDefinition, TableDefinition
    from kvdialect.schema.records import Record

_CASCADES: Final = ("save-update", "merge", "delete", "delete-orphan", "expunge", "refresh-expire")
_ALL: Final = frozenset(_CASCADES) - {"delete-orphan"}
_COLLECTIONS: Final = ("list", "List", "Sequence", "MutableSequence", "Collection", "Iterable")


# ------------------------------------------------------------------------------------------------ as declared


@attrs.define(eq=False)
class Declared:
    """What ``relationship(...)`` says in the body of a class.

    Attributes: those of :func:`relationship`.
    """

    argument: Any = None
    back_populates: str | None = None
    foreign_keys: Any = None
    remote_side: Any = None
    order_by: Any = None
    uselist: bool | None = None
    cascade: frozenset[str] = frozenset()
    passive_deletes: bool | Literal["all"] = False


@overload
def relationship(
    argument: Any = None,
    secondary: None = None,
    *,
    back_populates: str | None = ...,
    foreign_keys: Any = ...,
    remote_side: Any = ...,
    order_by: Any = ...,
    uselist: bool | None = ...,
    cascade: str = ...,
    passive_deletes: bool | Literal["all"] = ...,
    init: Literal[False] = False,
) -> Any: ...
@overload
def relationship(
    argument: Any = None,
    secondary: None = None,
    *,
    back_populates: str | None = ...,
    foreign_keys: Any = ...,
    remote_side: Any = ...,
    order_by: Any = ...,
    uselist: bool | None = ...,
    cascade: str = ...,
    passive_deletes: bool | Literal["all"] = ...,
    default: None = None,
    default_factory: Callable[[], Any] = ...,
    init: bool = True,
    kw_only: bool = True,
) -> Any: ...
def relationship(argument: Any = None, secondary: Any = None, **options: Any) -> Any:
    """A relationship to another record class, or to the same one, over a foreign key.

    The annotation says which class, and how many: ``Mapped[list["Child"]]`` are the children that refer to this
    record, ``Mapped["Parent | None"]`` is the parent that it refers to, or, seen from there, its one child. Without one
    the foreign key says it: ``relationship("Child")`` is a list if the children have it.

    A record takes its relationships by name: ``Child("ann", parent=parent)``. To let type checkers know, give
    ``default=None`` or ``default_factory=list``, with ``kw_only=True``.

    Args:
        argument: the class, its name, or a function that gives it, where the annotation is not to say it.
        secondary: the table of a many-to-many relationship; not offered, map it as a record.
        options: ``back_populates``: the relationship on the other class that is the same seen from there;
            ``foreign_keys``: of several foreign keys, the columns of the one meant; ``remote_side``: of a table that
            refers to itself, the columns on the other side, where the annotation does not say it; ``uselist``: False
            for the one child of a parent; ``order_by``: columns of the other class; ``cascade``: of "save-update",
            "merge", "delete", "delete-orphan", or "all"; ``passive_deletes``: True leaves children that are not
            loaded to the foreign key when a parent is deleted, "all" those that are loaded too.

    Raises:
        ArgumentError: for an option that is not among these.
        NotSupportedError: for ``secondary``.
    """
    if secondary is not None:
        raise exc.NotSupportedError(
            "relationship(secondary=...) is not offered: map the table between as a record of its own, with a"
            " relationship to each side"
        )
    for name in ("default", "default_factory", "init", "kw_only"):
        options.pop(name, None)  # for type checkers
    known = [attribute.name for attribute in attrs.fields(Declared)]
    for name in options:
        if name not in known:
            raise exc.ArgumentError(f"relationship({name}=...) is unknown; options are {', '.join(known[1:])}")
    given = Declared(argument, **{**options, "cascade": _cascade(options.get("cascade", "save-update, merge"))})
    if given.passive_deletes not in (True, False, "all"):
        raise exc.ArgumentError(f'passive_deletes={given.passive_deletes!r}; allowed: True, False, "all"')
    return given


def _cascade(text: Any) -> frozenset[str]:
    words = [word.strip() for word in text.split(",")] if isinstance(text, str) else list(text or ())
    words = [word for word in words if word not in ("", "none")]
    unknown = [word for word in words if word != "all" and word not in _CASCADES]
    if unknown:
        raise exc.ArgumentError(f"cascade={text!r}: {unknown[0]!r} is unknown; allowed: all, {', '.join(_CASCADES)}")
    found = frozenset(words) - {"all"} | (_ALL if "all" in words else frozenset())
    if "delete-orphan" in found and "delete" not in found:
        raise exc.ArgumentError(f'cascade={text!r}: "delete-orphan" goes with "delete"; write "all, delete-orphan"')
    return found


def taken_from(cls: type[Any]) -> dict[str, tuple[Declared, Any]]:
    """Take the relationships out of the body of a class: what attrs then makes of it has the columns alone.

    Returns:
        What is declared and the annotation, by name; columns of the class's own are named in it.
    """
    found: dict[str, tuple[Declared, Any]] = {}
    fields: dict[int, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        if base is not cls and attrs.has(base):
            continue
        annotations = inspect.get_annotations(base)
        for name, value in vars(base).items():
            fields[id(value)] = name
            if isinstance(value, Declared):
                found[name] = value, annotations.get(name)
    for name, (declared, annotation) in found.items():
        if declared.argument is None and annotation is None:
            raise exc.ArgumentError(
                f'{cls.__name__}.{name} needs an annotation: Mapped["Child"] or Mapped[list["Child"]]'
            )
        declared.foreign_keys = _named(declared.foreign_keys, fields)
        declared.remote_side = _named(declared.remote_side, fields)
        if name in vars(cls):
            delattr(cls, name)
    return found


def _named(columns: Any, fields: Mapping[int, str]) -> Any:
    """Columns that the class body has as fields, by their names."""
    if columns is None or isinstance(columns, str) or callable(columns):
        return columns
    listed = columns if isinstance(columns, list | tuple | set) else [columns]
    return [fields.get(id(each), each) for each in listed]


# ------------------------------------------------------------------------------------------------ annotations


class _Target(NamedTuple):
    """What an annotation says: the class or its name, and whether there are many."""

    target: Any
    many: bool | None


def _read(annotation: Any) -> _Target:
    """What an annotation says, evaluated or as text: the class need not exist yet."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        try:
            return _read_tree(ast.parse(annotation.strip(), mode="eval").body)
        except SyntaxError:
            return _Target(None, None)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Union or origin is types.UnionType:
        (annotation,) = [each for each in args if each is not type(None)] or [None]
        return _read(annotation)._replace(many=False)
    if origin is not None and args:
        inner = _read(args[0])
        many = getattr(origin, "__name__", "") in _COLLECTIONS
        return _Target(inner.target, True) if many else inner
    return _Target(annotation, False)


def _read_tree(tree: ast.expr) -> _Target:
    match tree:
        case ast.Constant(value=str() as text):
            return _read(text)
        case ast.Subscript(value=outer, slice=inner):
            found = _read_tree(inner)
            return _Target(found.target, True) if _name(outer) in _COLLECTIONS else found
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            none = isinstance(left, ast.Constant) and left.value is None
            return _read_tree(right if none else left)
        case _:
            return _Target(_name(tree), False)


def _name(tree: ast.expr) -> str | None:
    return tree.id if isinstance(tree, ast.Name) else tree.attr if isinstance(tree, ast.Attribute) else None


# ------------------------------------------------------------------------------------------------ as used


@attrs.frozen(eq=False)
class Way:
    """How the two sides of a relationship find each other.

    Attributes:
        target: the record on the other side.
        to_parent: this side has the foreign key; else the other one has.
        local: columns of this side.
        remote: the columns of the other side that they equal, in the same order.
    """

    target: Record
    to_parent: bool
    local: tuple[str, ...]
    remote: tuple[str, ...]


class Relationship:
    """A relationship of a record class.

    Attributes:
        name: of the attribute.
        owner: what the class maps to.
        declared: what ``relationship()`` says.
        cascade: what is done to the other side with this one.
        attribute: what the record class has under the name.
    """

    def __init__(self, name: str, declared: Declared, annotation: Any) -> None:
        self.name = name
        self.declared = declared
        said = _read(annotation) if annotation is not None else _Target(None, None)
        self._target = said.target if declared.argument is None else declared.argument
        if isinstance(self._target, str):
            self._target = self._target.rpartition(".")[2]
        self._many = said.many if declared.uselist is None else declared.uselist
        self.cascade = declared.cascade
        self.owner: Record
        self._classes: Mapping[str, type[Any]] = {}
        self.attribute = RelationshipAttribute(self)

    def belong(self, owner: Record, classes: Mapping[str, type[Any]]) -> None:
        """The class is made; ``classes`` of its registry are looked through for the other one."""
        self.owner = owner
        self._classes = classes

    def __str__(self) -> str:
        return f"{self.owner.cls.__name__}.{self.name}"

    @functools.cached_property
    def way(self) -> Way:
        """How the two sides find each other.

        Raises:
            ArgumentError: if there is no foreign key between them, or more than one that could be meant.
        """
        target = self._resolved()
        ours, theirs = self.owner.definition, target.definition
        found = [Way(target, True, key.columns, key.targets or theirs.primary_key) for key in _keys(ours, theirs)]
        found += [Way(target, False, key.targets or ours.primary_key, key.columns) for key in _keys(theirs, ours)]
        if self.declared.foreign_keys is not None:
            meant = set(self._columns(self.declared.foreign_keys))
            found = [way for way in found if set(way.local if way.to_parent else way.remote) == meant]
        if self.declared.remote_side is not None:
            meant = set(self._columns(self.declared.remote_side))
            found = [way for way in found if set(way.remote) == meant]
        if self._many or self.declared.uselist is False:
            found = [way for way in found if not way.to_parent] or ([] if self._many else found)
        elif any(way.to_parent for way in found):
            itself = target is self.owner and self._many is None and self.declared.remote_side is None
            found = [way for way in found if not way.to_parent] if itself else [way for way in found if way.to_parent]
        if len(found) == 1:
            self._check(found[0])
            return found[0]
        if not found:
            where, to = (theirs.name, ours.name) if self._many else (ours.name, theirs.name)
            raise exc.ArgumentError(
                f"{self}: no foreign key of {where} refers to {to}; declare one, as in"
                f' field(ForeignKey("{to}.{(ours if self._many else theirs).primary_key[0]}"))'
            )
        keys = "; ".join(", ".join(way.local if way.to_parent else way.remote) for way in found)
        raise exc.ArgumentError(
            f"{self}: several foreign keys lie between {ours.name} and {theirs.name} ({keys}); name the columns of the"
            " one meant: relationship(foreign_keys=...)"
        )

    def _check(self, way: Way) -> None:
        if way.to_parent and "delete-orphan" in self.cascade:
            raise exc.ArgumentError(
                f'{self}: "delete-orphan" belongs to the side of the parent, {way.target.cls.__name__}'
            )

    def _resolved(self) -> Record:
        target = self._target
        if isinstance(target, types.FunctionType):
            target = target()
        if isinstance(target, str):
            named = [cls for cls in self._classes.values() if cls.__name__ == target]
            if len(named) != 1:
                known = ", ".join(sorted(cls.__name__ for cls in self._classes.values()))
                what = "several records of the registry have" if named else "no record of the registry has"
                raise exc.ArgumentError(f"{self}: {what} the name {target}; there are {known}")
            target = named[0]
        record: Record | None = getattr(target, "__kvdialect__", None)
        if record is None:
            raise exc.ArgumentError(
                f"{self} leads to {target!r}, which is no record; write the class of one in the annotation, as in"
                ' Mapped[list["Child"]]'
            )
        return record

    def _columns(self, given: Any) -> list[str]:
        """Names of columns given as names, columns, or a function of them."""
        if isinstance(given, types.FunctionType):
            given = given()
        listed = given if isinstance(given, list | tuple | set) else [given]
        text = [part for each in listed if isinstance(each, str) for part in each.strip("[]() ").split(",")]
        return [part.strip().rpartition(".")[2] for part in text] + [
            each.name for each in listed if isinstance(each, sa.Column)
        ]

    @functools.cached_property
    def many(self) -> bool:
        """Its value is a list; of one without annotation and ``uselist``, if the other side has the foreign key."""
        return not self.way.to_parent if self._many is None else self._many

    @property
    def target(self) -> Record:
        """The record on the other side."""
        return self.way.target

    @property
    def to_parent(self) -> bool:
        """This side has the foreign key."""
        return self.way.to_parent

    @functools.cached_property
    def inverse(self) -> Relationship | None:
        """The same relationship, seen from the other side.

        Raises:
            ArgumentError: if ``back_populates`` names none, or one that is no counterpart.
        """
        name = self.declared.back_populates
        if name is None:
            return None
        other = self.target.relationships.get(name)
        if other is None:
            raise exc.ArgumentError(f"{self}: {self.target.cls.__name__} has no relationship {name!r} (back_populates)")
        if other.target is not self.owner or other.to_parent == self.to_parent or other.way.local != self.way.remote:
            raise exc.ArgumentError(
                f"{self} and {other} are no two sides of one relationship: one of them has to go from the foreign key"
                " to the key, and the other one back"
            )
        return other

    @property
    def other_side(self) -> str:
        """What to set on the other side, for messages."""
        inverse = self.inverse
        name = self.target.cls.__name__
        return f"{name}.{inverse.name}" if inverse is not None else f"{name}.{', '.join(self.way.remote)}"

    @functools.cached_property
    def order(self) -> tuple[tuple[str, bool], ...]:
        """Columns that its objects are ordered by, and whether descending."""
        given = self.declared.order_by
        if given is None:
            return ()
        if isinstance(given, types.FunctionType):
            given = given()
        listed: Iterable[Any] = given if isinstance(given, list | tuple) else [given]
        return tuple([self._ordered(each) for each in listed])

    def _ordered(self, given: Any) -> tuple[str, bool]:
        descending = False
        if isinstance(given, str):
            name = given.strip()
            for suffix in (".desc()", " desc", ".asc()", " asc"):
                if name.endswith(suffix):
                    name, descending = name.removesuffix(suffix), "desc" in suffix
            name = name.rpartition(".")[2]
        else:
            modifier = getattr(given, "modifier", None)
            descending = modifier is operators.desc_op
            name = getattr(given.element if modifier is not None else given, "name", "")
        if name not in self.target.names:
            raise exc.ArgumentError(f"{self}: order_by={given!r} is no column of {self.target.cls.__name__}")
        return name, descending

    def check(self, value: Any) -> None:
        """Refuse what is no object of the other class.

        Raises:
            ArgumentError: if it is not.
        """
        cls = self.target.cls
        _ = self.inverse  # what is wrong with the declaration is said first
        if not isinstance(value, cls):
            raise exc.ArgumentError(
                f"{self} takes objects of {cls.__name__}, not {type(value).__name__}: {value!r:.80}"
            )


def _keys(child: TableDefinition, parent: TableDefinition) -> list[ForeignKeyDefinition]:
    return [key for key in child.foreign_keys if key.table == parent.name]


def _key_of(parent: Any, name: str, column: sa.Column[Any], relationship: Relationship) -> Any:
    """A value of a parent's key, or of one that a flush is still to give, what stands there when the statement runs."""
    value = getattr(parent, name, None)
    if value is not None:
        return value

    def later() -> Any:
        found = getattr(parent, name, None)
        if found is None:
            raise exc.ArgumentError(
                f"{relationship} is compared with an object of {type(parent).__name__} that has no {name} yet: add it"
                " to the session first, which gives it one with the next flush"
            )
        return found

    return sa.bindparam(None, callable_=later, type_=column.type)


_EXPRESSIONS: Final = frozenset({"any", "has", "contains", "of_type", "and_", "in_"})
"""What relationships have in SQLAlchemy and not here."""


class RelationshipAttribute:
    """What a record class has of a relationship: ``Parent.children``, for options and :meth:`Session.load`.

    One to a parent can be compared: ``Child.parent == parent`` is a condition on the foreign key's columns.
    """

    def __init__(self, relationship: Relationship) -> None:
        self.relationship = relationship

    @property
    def key(self) -> str:
        """The name of the attribute."""
        return self.relationship.name

    def _equal(self, other: Any) -> sa.ColumnElement[bool]:
        relationship = self.relationship
        if not relationship.to_parent:
            raise exc.NotSupportedError(
                f"{relationship} cannot be compared: compare {relationship.other_side}, which has the foreign key"
            )
        columns = [relationship.owner.table.columns[name] for name in relationship.way.local]
        if other is None:
            return sa.and_(*[column.is_(None) for column in columns])
        relationship.check(other)
        return sa.and_(
            *[
                column == _key_of(other, name, column, relationship)
                for column, name in zip(columns, relationship.way.remote, strict=True)
            ]
        )

    def _differs(self, other: Any) -> sa.ColumnElement[bool]:
        """What has no parent has another one too, as in SQLAlchemy."""
        equal = self._equal(other)
        if other is None:
            return sa.not_(equal)
        columns = [self.relationship.owner.table.columns[name] for name in self.relationship.way.local]
        return sa.or_(sa.not_(equal), *[column.is_(None) for column in columns if column.nullable])

    def __getattr__(self, name: str) -> Any:
        if name in _EXPRESSIONS:
            raise exc.NotSupportedError(
                f"{self.relationship}.{name}() is no condition here; join the other table, as in"
                f" select({self.relationship.owner.cls.__name__}).join({self.relationship.target.cls.__name__}), or use"
                " a subquery of its foreign key"
            )
        raise AttributeError(f"{self!r} has no attribute {name!r}", name=name, obj=self)

    def is_(self, other: Any) -> sa.ColumnElement[bool]:
        """A condition: the parent is None."""
        return self._equal(other)

    def is_not(self, other: Any) -> sa.ColumnElement[bool]:
        """A condition: the parent is not None."""
        return self._differs(other)

    def __eq__(self, other: object) -> Any:
        return self._equal(other)

    def __ne__(self, other: object) -> Any:
        return self._differs(other)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<relationship {self.relationship}>"
