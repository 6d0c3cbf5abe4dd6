"""Loading relationships: for many objects at once, with a few reads of the transaction's own view.

Nothing is loaded unless it is asked for, by ``Session.load`` or by :func:`selectinload` in a statement's options. What
a transaction reads here counts as read, as in any query.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakKeyDictionary

import attrs
from sqlalchemy import exc as sa_exc
from sqlalchemy.sql.base import ExecutableOption

from kvdialect import exc
from kvdialect.codec.kinds import Kind
from kvdialect.orm.identity import named
from kvdialect.orm.reading import records
from kvdialect.schema.expressions import has_own_order
from kvdialect.schema.records import Record, required_object
from kvdialect.schema.related import made_related, members, put_loaded, related_of
from kvdialect.schema.relationships import Relationship, RelationshipAttribute
from kvdialect.store.paths import Key, path_to

if TYPE_CHECKING:
    from kvdialect.orm.session import Session
    from kvdialect.orm.unitofwork import Mapper

T = TypeVar("T")

Tree = dict[Relationship, "Tree"]
"""What to load, and of what is loaded then what."""


# ------------------------------------------------------------------------------------------------ what is asked for


class Load(ExecutableOption):
    """An option of a select: load relationships of the objects that it gives. Made by :func:`selectinload`.

    Attributes:
        path: relationships, each of what the one before leads to.
        further: paths besides.
    """

    def __init__(self, path: tuple[Any, ...], further: tuple[Any, ...] = ()) -> None:
        self.path: tuple[Relationship, ...] = path
        self.further: tuple[tuple[Relationship, ...], ...] = further

    def selectinload(self, *attributes: Any) -> Load:
        """Load, of the objects that this leads to, a relationship of theirs."""
        path = self.path
        for attribute in attributes:
            path = (*path, _step(path[-1].target, attribute))
        return Load(path, self.further)

    def options(self, *loads: Any) -> Load:
        """Load, of the objects that this leads to, several relationships of theirs."""
        further = self.further
        for load in map(required_load, loads):
            _step(self.path[-1].target, load.path[0].attribute)
            further = (*further, *[(*self.path, *path) for path in (load.path, *load.further)])
        return Load(self.path, further)

    def _clone(self, **_: Any) -> Self:
        return self

    def __repr__(self) -> str:
        return f"selectinload({', '.join(map(str, self.path))})"


def selectinload(*attributes: Any) -> Load:
    """An option of a select: load a relationship of the objects that it gives, all of them at once.

    ``select(Parent).options(selectinload(Parent.children))``. With ``.selectinload(Child.toys)`` behind it, a
    relationship of what is loaded is loaded too, and with ``.options(...)`` several of them.

    Args:
        attributes: a relationship of a record class, or several, each of what the one before leads to.

    Raises:
        ArgumentError: for what is no relationship.
    """
    if not attributes or not isinstance(attributes[0], RelationshipAttribute):
        shown = repr(attributes[0]) if attributes else ""
        raise exc.ArgumentError(f"selectinload({shown}): give a relationship of a record class, as Parent.children")
    first = Load((attributes[0].relationship,))
    return first.selectinload(*attributes[1:]) if attributes[1:] else first


def required_load(option: Any) -> Load:
    """An option of ours.

    Raises:
        NotSupportedError: if it is another.
    """
    if not isinstance(option, Load):
        raise exc.NotSupportedError(
            f"the option {type(option).__name__} is not offered; relationships are loaded by"
            " options(kvdialect.selectinload(Parent.children))"
        )
    return option


def _step(record: Record, attribute: Any) -> Relationship:
    """A relationship of a record, by its attribute or its name.

    Raises:
        ArgumentError: if it has no such one.
    """
    found = attribute.relationship if isinstance(attribute, RelationshipAttribute) else None
    if isinstance(attribute, str):
        found = record.relationships.get(attribute)
    if found is None or record.relationships.get(found.name) is not found:
        known = ", ".join(record.relationships) or "none"
        shown = found if found is not None else repr(attribute)
        raise exc.ArgumentError(f"{shown} is no relationship of {record.cls.__name__}; it has {known}")
    return found


def tree_of(loads: Iterable[Load]) -> Tree:
    """What options ask for, each relationship once."""
    tree: Tree = {}
    for load in loads:
        for path in (load.path, *load.further):
            node = tree
            for step in path:
                node = node.setdefault(step, {})
    return tree


_split: WeakKeyDictionary[Any, tuple[Any, Tree]] = WeakKeyDictionary()


def without_loads(statement: Any) -> tuple[Any, Tree]:
    """A select without its options, which its plan does not know, and what these ask for.

    Raises:
        NotSupportedError: for an option that is none of ours.
    """
    found = _split.get(statement)
    if found is None:
        tree = tree_of(map(required_load, statement._with_options))
        plain = statement._generate()
        plain._with_options = ()
        found = _split[statement] = plain, tree
    return found


def with_loaded(session: Session, entity: type[T], instance: T | None, options: Iterable[Any]) -> T | None:
    """An object with what options ask for loaded; None stays None.

    Raises:
        NotSupportedError: for an option that is none of ours.
        ArgumentError: for one that does not start at ``entity``.
    """
    then = Then(session, tree_of(map(required_load, options)), again=False)
    then.require([entity])
    if instance is not None:
        then.load([instance])
    return instance


@attrs.frozen(eq=False)
class Then:
    """What a statement's options ask to be loaded of its objects.

    Attributes:
        session: whose objects they are.
        tree: what to load.
        again: load what is loaded already once more (``populate_existing``).
    """

    session: Session
    tree: Tree
    again: bool

    def require(self, classes: Iterable[type | None]) -> None:
        """Refuse what does not start at a class that the statement gives.

        Raises:
            ArgumentError: if it does not.
        """
        given = [cls for cls in classes if cls is not None]
        for relationship in self.tree:
            if relationship.owner.cls not in given:
                raise exc.ArgumentError(
                    f"selectinload({relationship}): the statement gives no {relationship.owner.cls.__name__}, but"
                    f" {', '.join(cls.__name__ for cls in given) or 'no records'}"
                )

    def load(self, instances: Iterable[Any]) -> None:
        """Load it, of those among ``instances`` that have it."""
        load_tree(self.session, instances, self.tree, again=self.again)

    def after(self, load: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
        """A loader that does so with each chunk of what it loads."""

        def loaded(pairs: Any) -> list[Any]:
            instances = load(pairs)
            self.load(instances)
            return instances

        return loaded

    def explained(self) -> Iterator[str]:
        """How it would be loaded, a line each."""
        return explained(self.session, self.tree)


# ------------------------------------------------------------------------------------------------ loading


def load(session: Session, instances: Any, attributes: Sequence[Any]) -> None:
    """See :meth:`Session.load`."""
    session._check_usable()
    listed = list(instances) if isinstance(instances, list | tuple | set | frozenset | Iterator) else [instances]
    session._autoflush()
    groups: dict[Record, list[Any]] = {}
    for instance in listed:
        groups.setdefault(required_object(instance), []).append(instance)
        if instance._kv is not session.tracker or instance._key is None:
            raise sa_exc.InvalidRequestError(f"Instance {named(instance)} is not persistent within this Session")
    for record, members_ in groups.items():
        asked: list[Load] = []
        for attribute in attributes or list(record.relationships):
            asked.append(attribute if isinstance(attribute, Load) else Load((_step(record, attribute),)))
            _step(record, asked[-1].path[0].attribute)
        _see(session, record, members_)
        load_tree(session, members_, tree_of(asked), again=True)


def _see(session: Session, record: Record, instances: list[Any]) -> None:
    """Refresh objects that this transaction has not yet read."""
    mapper = session._mapper(record.cls)
    stale = [each for each in instances if mapper.identity.get(each._key) is not each]
    if not stale:
        return
    raws = session._autobegin().multi_get(mapper.table.name, [each._key for each in stale])
    for instance, raw in zip(stale, raws, strict=True):
        if raw is None:
            raise sa_exc.InvalidRequestError(f"Could not refresh instance {named(instance)}")
    session.loader(mapper)([(each._key, raw) for each, raw in zip(stale, raws, strict=True)])


def load_tree(session: Session, instances: Iterable[Any], tree: Tree, *, again: bool = False) -> None:
    """Load relationships of objects, and of what is loaded.

    Args:
        session: whose objects they are.
        instances: objects; of other classes than the relationships' they are passed over.
        tree: what to load.
        again: load what is loaded already once more.
    """
    instances = list(instances)
    for relationship, deeper in tree.items():
        cls = relationship.owner.cls
        found = list({id(each): each for each in instances if isinstance(each, cls)}.values())
        if not found:
            continue
        name = relationship.name
        load_one(session, found if again else [each for each in found if not _has(each, name)], relationship)
        if deeper:
            reached = [other for each in found for other in members(made_related(each).values.get(name))]
            load_tree(session, reached, deeper, again=again)


def _has(instance: Any, name: str) -> bool:
    related = related_of(instance)
    return related is not None and name in related.values


def load_one(session: Session, instances: Sequence[Any], relationship: Relationship) -> None:
    """Load one relationship of objects of its class."""
    if not instances:
        return
    way = relationship.way
    local = _getter(way.local)
    keys = [local(each) for each in instances]
    wanted = list(dict.fromkeys(key for key in keys if None not in key))
    found = find(session, session._mapper(way.target.cls), way.remote, wanted) if wanted else {}
    inverse = relationship.inverse
    # What the transaction has written may be undone, and then what was loaded of it is wrong.
    pending = session._autobegin().changes
    level = session.work.levels[-1]
    for instance, key in zip(instances, keys, strict=True):
        others = found.get(key, [])
        if pending:
            level.note_loaded(instance, relationship.name)
        if relationship.many:
            put_loaded(instance, relationship, _in_order(relationship, others))
        else:
            if len(others) > 1:
                warnings.warn(
                    f"{relationship} of {named(instance)}: {len(others)} records refer to it, and one is expected",
                    sa_exc.SAWarning,
                    stacklevel=2,
                )
            put_loaded(instance, relationship, others[0] if others else None)
        if inverse is not None and inverse.to_parent:
            for other in others:
                put_loaded(other, inverse, instance)
                if pending:
                    level.note_loaded(other, inverse.name)


@functools.cache
def _getter(names: tuple[str, ...]) -> Callable[[Any], Key]:
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda instance: (get(instance),)


def _in_order(relationship: Relationship, others: list[Any]) -> list[Any]:
    """Objects in the order that a relationship asks for, those alike by primary key."""
    others = sorted(others, key=lambda each: each._key)
    for name, descending in reversed(relationship.order) if others else ():
        kind = required_object(others[0]).definition.field(name).kind
        others.sort(key=functools.partial(_place, attrgetter(name), kind), reverse=descending)
    return others


def _place(get: Callable[[Any], Any], kind: Kind, instance: Any) -> tuple[Any, ...]:
    """What compares as an object's attribute does in a query's ORDER BY; NULL is below all."""
    value = get(instance)
    if value is None:
        return ()
    return (value if has_own_order(kind) else kind.store(value),)


# ------------------------------------------------------------------------------------------------ where they are found


def find(session: Session, mapper: Mapper, columns: tuple[str, ...], wanted: list[Key]) -> dict[Key, list[Any]]:
    """The records with these values of columns, as objects, by the values.

    One multi-get for a primary key; a range for each of the values, and one multi-get, where the primary key or an
    index begins with the columns; else a scan of the table.
    """
    path = path_to(mapper.table, columns)
    txn = session._autobegin()
    if path.form == "scan":
        rows = list(path.scanned(txn, wanted))
        owners = {key: value for value, (key, _) in rows}
        found = session.loader(mapper)([pair for _, pair in rows])
    elif path.form == "key":
        points = {value: path.point(value) for value in wanted}
        owners = {key: value for value, key in points.items() if key is not None}
        found = _by_key(session, mapper, list(owners))
    else:
        owners = {key: value for value in wanted for key in path.record_keys(txn, value)}
        found = records(session, mapper, path.family, list(owners)) if owners else []
    by_value: dict[Key, list[Any]] = {}
    for instance in found:
        by_value.setdefault(owners[instance._key], []).append(instance)
    return by_value


def _by_key(session: Session, mapper: Mapper, keys: list[bytes]) -> list[Any]:
    held = [mapper.identity.get(key) for key in keys]
    missing = [key for key, instance in zip(keys, held, strict=True) if instance is None]
    found = [instance for instance in held if instance is not None]
    if missing:
        raws = session._autobegin().multi_get(mapper.table.name, missing)
        pairs = [(key, raw) for key, raw in zip(missing, raws, strict=True) if raw is not None]
        found += session.loader(mapper)(pairs)
    return found


# ------------------------------------------------------------------------------------------------ explained


def explained(session: Session, tree: Tree, indent: str = "") -> Iterator[str]:
    """How relationships would be loaded, a line each."""
    for relationship, deeper in tree.items():
        way = relationship.way
        table = session._mapper(way.target.cls).table
        found = path_to(table, way.remote)
        columns = ", ".join(way.remote)
        if found.form == "key":
            how = "by primary key, one multi-get"
        elif found.form == "range":
            over = "the primary key" if found.index is None else f"index {found.index.definition.name}"
            how = f"by {columns} on {over}, a range for each"
        else:
            how = f"by a scan of all its records (an index that begins with {columns} would spare it)"
        yield f"{indent}then {relationship}: {table.name} {how}"
        yield from explained(session, deeper, indent + "   ")
