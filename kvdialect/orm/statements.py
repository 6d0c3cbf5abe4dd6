"""Statements in a session: select, lookups and scans of indexes, pages and plans, with the identity map's objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import ref

import attrs
import sqlalchemy as sa
from sqlalchemy.engine import IteratorResult, Result, ScalarResult
from sqlalchemy.engine.result import ChunkedIteratorResult, SimpleResultMetaData

from kvdialect import exc
from kvdialect.orm import door, refreshing, relationships
from kvdialect.orm.reading import records
from kvdialect.query import paging
from kvdialect.schema.records import RecordMeta, records_for, required_record
from kvdialect.schema.rows import IndexCodec
from kvdialect.store.echo import LoggedTransaction
from kvdialect.store.keyranges import key_range

if TYPE_CHECKING:
    from kvdialect.orm.session import Session
    from kvdialect.orm.unitofwork import Mapper

_CHUNK = 64
_LARGEST_CHUNK = 1024

weak = ref


def prepare(session: Session, statement: Any, params: Any) -> Any:
    """The statement's plan, for the tables as this transaction sees them."""
    session._autoflush()
    binding = session.binding
    txn = session._autobegin()
    prepared = binding.planner.prepare(statement, txn, params or {})
    if isinstance(txn, LoggedTransaction):
        txn.note_statement(statement, prepared.params, prepared.explain(txn))
    return prepared


def loader_for(session: Session, prepared: Any, *, populate_existing: bool = False) -> Callable[[Any], list[Any]]:
    """What turns the pairs of the prepared statement's table into objects."""
    cls = prepared.record
    if cls is None:
        return _no_objects
    # A row of several elements needs an object for each pair.
    return session.loader(session._mapper(cls), populate_existing=populate_existing, all_pairs=not prepared.entity)  # type: ignore[no-any-return]


def _no_objects(_pairs: Any) -> list[Any]:
    raise exc.InternalError("the statement selects no records")


def _options(statement: Any, given: Mapping[str, Any]) -> tuple[int | None, bool]:
    options = {**statement.get_execution_options(), **given}
    size = options.get("yield_per")
    if size is not None and (type(size) is not int or size < 1):
        raise exc.ArgumentError(f"yield_per={size!r}; give an int of 1 or more")
    return size, bool(options.get("populate_existing"))


def select_rows(session: Session, statement: Any, params: Any, given: Mapping[str, Any]) -> Result[Any]:
    """Execute a select; rows are tuples."""
    if statement._for_update_arg is not None:
        return _for_update(session, statement, params, given)
    if session.autoflush and _unflushed(statement, given):
        with session.no_autoflush:
            return select_rows(session, statement, params, given)
    size, populate = _options(statement, given)
    statement, then = _and_then(session, statement, again=populate)
    try:
        prepared = prepare(session, statement, params)
    except exc.NotSupportedError as refusal:
        return door.execute(session, statement, params, given, refusal, then)
    load = loader_for(session, prepared, populate_existing=populate)
    if then is not None:
        then.require([prepared.record])
        load = load if size is None else then.after(load)
    txn = session._autobegin()
    keys = SimpleResultMetaData(prepared.columns)
    rows = prepared.rows(txn, load)
    if isinstance(txn, LoggedTransaction):
        rows = txn.note_rows(rows)
    if size is not None:
        return _chunked(keys, rows, size)
    rows = list(rows)
    if then is not None:
        then.load([element for row in rows for element in row])
    return IteratorResult(keys, iter(rows))


def select_scalars(session: Session, statement: Any, params: Any, given: Mapping[str, Any]) -> ScalarResult[Any]:
    """Execute a select; the first element of each row."""
    if statement._for_update_arg is not None:
        return _for_update(session, statement, params, given).scalars()
    if session.autoflush and _unflushed(statement, given):
        with session.no_autoflush:
            return select_scalars(session, statement, params, given)
    size, populate = _options(statement, given)
    statement, then = _and_then(session, statement, again=populate)
    try:
        prepared = prepare(session, statement, params)
    except exc.NotSupportedError as refusal:
        return door.execute(session, statement, params, given, refusal, then).scalars()
    load = loader_for(session, prepared, populate_existing=populate)
    if then is not None:
        then.require([prepared.record])
        load = load if size is None else then.after(load)
    txn = session._autobegin()
    keys = SimpleResultMetaData(prepared.columns[:1])
    noted = txn.note_rows if isinstance(txn, LoggedTransaction) else iter
    if size is not None:
        return _chunked(keys, noted(prepared.scalars(txn, load)), size, scalars=True).scalars()
    values = list(noted(prepared.all_scalars(txn, load)))
    if then is not None:
        then.load(values)
    return IteratorResult(keys, iter(values), _source_supports_scalars=True).scalars()


def _unflushed(statement: Any, given: Mapping[str, Any]) -> bool:
    """Whether ``autoflush=False`` is among the execution options."""
    return given.get("autoflush", statement.get_execution_options().get("autoflush")) is False


def _for_update(session: Session, statement: Any, params: Any, given: Mapping[str, Any]) -> Result[Any]:
    """Execute a select whose records count as written: the commit fails if one is changed meanwhile.

    Nobody waits for anybody here, so there is nothing that NOWAIT would change, or that could be skipped.

    Raises:
        NotSupportedError: if it selects no records, or asks to skip what is locked.
    """
    asked = statement._for_update_arg
    if asked.skip_locked:
        raise exc.NotSupportedError("with_for_update(skip_locked=True): there are no locks, the first to commit wins")
    meant = {table.name for table in map(_table_of, asked.of or ())}
    classes = {cls for cls in map(door.record_class, statement._raw_columns) if cls is not None}
    classes = {cls for cls in classes if not meant or required_record(cls).table.name in meant}
    if not classes:
        raise exc.NotSupportedError(
            "with_for_update() of a select() that gives no records: select the records, as in select(Record), not their"
            " columns"
        )
    plain = statement._generate()
    plain._for_update_arg = None
    found = select_rows(session, plain.execution_options(yield_per=None), params, {**given, "yield_per": None})
    rows = found.all()
    for instance in {id(each): each for row in rows for each in row if type(each) in classes}.values():
        refreshing.expect(session, instance)
    return IteratorResult(SimpleResultMetaData(list(found.keys())), iter([tuple(row) for row in rows]))


def _table_of(clause: Any) -> Any:
    return getattr(clause, "table", clause)


def _and_then(session: Session, statement: Any, *, again: bool = False) -> tuple[Any, relationships.Then | None]:
    """A select without the options that ask for relationships, and the loading of these."""
    if not statement._with_options:
        return statement, None
    plain, tree = relationships.without_loads(statement)
    return plain, relationships.Then(session, tree, again)


def _chunked(keys: SimpleResultMetaData, rows: Iterator[Any], size: int, *, scalars: bool = False) -> Result[Any]:
    def chunks(asked: int | None) -> Iterator[list[Any]]:
        while chunk := _taken(rows, asked or size):
            yield chunk

    result: Result[Any] = ChunkedIteratorResult(keys, chunks, source_supports_scalars=scalars)
    return result.yield_per(size)


def _taken(rows: Iterator[Any], count: int) -> list[Any]:
    """The next rows of a result that is read as it is asked for."""
    try:
        return list(islice(rows, count))
    except exc.StoreClosed as error:
        raise exc.StoreClosed(door.OVER) from error


def explain(session: Session, statement: Any, params: Any, *, analyze: bool) -> Any:
    """The plan of a statement."""
    then = None
    if isinstance(statement, sa.Select):
        statement, then = _and_then(session, statement)
    prepared = prepare(session, statement, params)
    found = prepared.explain(session._autobegin(), analyze=analyze)
    if then is None:
        return found
    then.require([prepared.record])
    return attrs.evolve(found, lines=(*found.lines, *then.explained()))


def page(session: Session, statement: Any, limit: int, after: str | None, params: Any) -> Any:
    """A page of a select."""
    if type(limit) is not int or limit < 1:
        raise exc.ArgumentError(f"limit={limit!r}; a page has an int of 1 or more rows")
    then = None
    if isinstance(statement, sa.Select):
        statement, then = _and_then(session, statement)
    prepared = prepare(session, statement, params)
    load = loader_for(session, prepared)
    if then is not None:
        then.require([prepared.record])
        load = then.after(load)
    return paging.page(prepared, session._autobegin(), load, limit, after)


# ------------------------------------------------------------------------------------------------ straight to an index


def find_index(session: Session, index: str | sa.Index) -> tuple[Mapper, IndexCodec]:
    """The index of a name, and the mapper of its table.

    Raises:
        ArgumentError: if there is none, or it is being built.
    """
    name = index.name if isinstance(index, sa.Index) else index
    if not isinstance(name, str):
        raise exc.ArgumentError(f"{index!r} is no index; give its name or SQLAlchemy's Index")
    binding = session.binding
    known = session._indexes.get(index)
    if known is not None:
        return known
    owner = binding.catalog.owner(name)
    if owner is None:
        names = sorted(name for table in binding.catalog.tables.values() for name in table.indexes)
        raise exc.ArgumentError(f"the store has no index {name!r}; its indexes are: {', '.join(names) or 'none'}")
    mapper = session._mapper(_class_of(session, owner.definition.name, index))
    codec = mapper.table.readable.get(name)
    if codec is None:
        raise exc.ArgumentError(f"index {name} is being built and cannot be read yet", index=name)
    session._indexes[index] = mapper, codec
    return mapper, codec


def _class_of(session: Session, table: str, index: str | sa.Index) -> type[Any]:
    """The record class of a table: one that this session uses, or else the latest that the store has so."""
    for mapper in session._mappers.values():
        if mapper.table.name == table:
            return mapper.record.cls
    for record in records_for(table):
        if isinstance(index, sa.Index) and record.table is not index.table:
            continue
        try:
            session.binding.loading(record)
        except exc.SchemaMismatch:
            continue
        return record.cls
    raise exc.ArgumentError(
        f"no record class is mapped to table {table} of index {index}; declare one with @mapped(models)"
    )


def lookup(session: Session, index: str | sa.Index, values: Sequence[Any]) -> list[Any]:
    """The records whose index columns equal ``values``."""
    mapper, codec = find_index(session, index)
    found = key_range(codec.definition.name, codec.columns, values)
    session._autoflush()
    if found.empty:
        return []
    txn = session._autobegin()
    if isinstance(txn, LoggedTransaction):
        txn.note("LOOKUP %s %r", codec.definition.name, values)
    keys = codec.primary_keys(txn.short_scan(codec.family, found.start, found.stop, _CHUNK))
    return records(session, mapper, codec.family, keys) if keys else []


def scan(
    session: Session, target: Any, values: Sequence[Any], start: Any, stop: Any, reverse: bool, limit: int | None
) -> Iterator[Any]:
    """Records in the order of a key or an index, in chunks that grow."""
    if limit is not None and (type(limit) is not int or limit < 0):
        raise exc.ArgumentError(f"limit={limit!r}; give an int of 0 or more, or None")
    if isinstance(target, RecordMeta):
        mapper, codec = session._mapper(required_record(target).cls), None
        grammar, family = mapper.table.codec.grammar, mapper.table.name
    else:
        mapper, codec = find_index(session, target)
        grammar, family = codec.columns, codec.family
    found = key_range(family, grammar, values, start, stop)
    session._autoflush()
    if found.empty:
        return iter(())
    txn = session._autobegin()
    if isinstance(txn, LoggedTransaction):
        txn.note("SCAN %s %r, from %r to %r%s", family, values, start, stop, ", descending" if reverse else "")
    pairs = txn.scan(family, found.start, found.stop, reverse=reverse)
    if limit is not None:
        pairs = islice(pairs, limit)
    return _chunks(session, mapper, codec, pairs)


def _chunks(
    session: Session, mapper: Mapper, codec: IndexCodec | None, pairs: Iterable[tuple[bytes, bytes]]
) -> Iterator[Any]:
    size = _CHUNK
    pairs = iter(pairs)
    while chunk := _taken(pairs, size):
        if codec is None:
            yield from session.loader(mapper)(chunk)
        else:
            yield from records(session, mapper, codec.family, codec.primary_keys(chunk))
        size = min(size * 2, _LARGEST_CHUNK)
