"""Pages: a part of a result, and a token that says where the next one begins.

A token names the statement and the schema by their digest, the way that the rows are read, and the last row's place on
it: the key of its index entry, or, where rows are sorted, what they are sorted by and a key. So the page after it is
found by one seek where there is an index, nothing is repeated and nothing left out whatever is written in between, and
a token holds as long as the store and the statement are what they were.

Tokens come back from outside. They are plain data, and all of it is checked.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import decimal
import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from kvdialect import exc
from kvdialect.query.access import IndexScan, RangeAccess
from kvdialect.query.bounds import Ranges
from kvdialect.query.nodes import AccessNode, Rows, Run, Sort, in_order
from kvdialect.query.planner import Way
from kvdialect.query.prepared import Load, Prepared
from kvdialect.query.stages import SortKeys
from kvdialect.schema.clauses import unsupported
from kvdialect.schema.functions import Choices
from kvdialect.store.view import ReadView

_FORMAT: Final = 1
"""First element of a token, since 0.1."""

_LONGEST: Final = 1 << 20
"""The longest token that is given, or looked at, in characters."""

_DEEPEST: Final = 4
_SLACK: Final = 1024


@attrs.frozen(eq=False)
class Page:
    """One page of a result: iterable, with a length.

    Attributes:
        items: records where the statement selects whole records and nothing else, otherwise a tuple per row.
        next: the token of the page after it; None if this is the last.
        columns: keys of the elements of a row.
    """

    items: list[Any]
    next: str | None
    columns: tuple[str, ...]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: int) -> Any:
        return self.items[at]


@attrs.frozen
class _Token:
    """What a token says.

    Attributes:
        digest: of statement, parameters, schema and way.
        way: how the rows are read.
        sorted_by: the last row's keys of the sort; None if the way gives the order.
        key: the last row's key on this way.
    """

    digest: bytes
    way: Way
    sorted_by: tuple[Any, ...] | None
    key: bytes


def page(prepared: Prepared, view: ReadView, load: Load, limit: int, after: str | None = None) -> Page:
    """Give up to ``limit`` rows of a select, those behind the page that ``after`` came with.

    Rows equal in ORDER BY come in the order of a key, so each row has one place.

    Raises:
        ArgumentError: if the token is none, or of another statement or schema; or if the statement has a LIMIT.
        NotSupportedError: for aggregates, DISTINCT and EXISTS.
    """
    if type(limit) is not int or limit < 1:
        raise exc.ArgumentError(f"a page has 1 or more rows, not {limit!r:.80}")
    query = prepared.query
    if query.limit is not None or query.offset is not None:
        raise exc.ArgumentError("a statement that is read in pages has no LIMIT or OFFSET of its own; leave them out")
    if query.aggregated or query.distinct or query.form != "rows":
        raise unsupported("a page of aggregates, DISTINCT or EXISTS")
    token = None if after is None else _decoded(after)
    if token is None:
        planned = prepared.planner.replan(prepared, view, wanted=limit + 1)
    else:
        planned = _resumed(prepared, view, token)
    reader = _PageReader(planned, view)
    items, last = reader.read(limit, token)
    result = _results(planned, items, load)
    return Page(result, None if last is None else _encoded(last), planned.columns)


def _resumed(prepared: Prepared, view: ReadView, token: _Token) -> Prepared:
    """The statement with the token's plan, if it is the token's statement."""
    try:
        planned = prepared.planner.replan(prepared, view, way=token.way)
    except exc.ArgumentError as error:
        raise exc.ArgumentError(
            f"the page token was made by reading {token.way.family}, which cannot answer this statement on"
            f" {prepared.table.name}: it is of another statement, or that index is gone (begin with the first page)"
        ) from error
    if _digest(planned, token.way.family) != token.digest:
        raise exc.ArgumentError(
            f"the page token belongs to another statement, other parameters, or another schema of {prepared.table.name}"
            " (begin with the first page)"
        )
    return planned


class _PageReader:
    """Reads one page.

    Items are ``(key, value)``, or ``(key, value, outputs)``; behind the keys to sort by where the way does not give the
    order.
    """

    def __init__(self, planned: Prepared, view: ReadView) -> None:
        self.planned = planned
        self.run = Run(view, planned.params)
        root = planned.plan.root
        rows = root.children[0] if isinstance(root, Sort) else root
        assert isinstance(rows, Rows)
        choice = planned.plan.choice
        assert choice is not None
        self.access: AccessNode = rows.access
        self.family = choice.family
        self.sort = rows.sort
        if rows.sort is None and not isinstance(self.access, RangeAccess):
            # A union is in no order of its own: by key.
            self.sort = SortKeys(())
            rows = Rows(rows.access, rows.conditions, rows.outputs, self.sort, 0.0)
        self.rows = rows

    def read(self, limit: int, token: _Token | None) -> tuple[list[Any], _Token | None]:
        """The page's items, and the token of the next one."""
        wanted = limit + 1
        items = self._in_order(wanted, token) if self.sort is None else self._sorted(wanted, token, self.sort)
        more = len(items) > limit
        del items[limit:]
        last = self._token(items[-1]) if more else None
        return [item[-1] for item in items] if self.sort is not None else items, last

    def _in_order(self, wanted: int, token: _Token | None) -> list[Any]:
        access = self.access
        assert isinstance(access, RangeAccess)
        if token is not None:
            ranges = access.ranges(self.run)
            self.run.ranges[id(access)] = _behind(ranges, token.key, access)
        self.run.hint = wanted
        items: list[Any] = []
        for chunk in self.run.pull(self.rows, self._payload):
            items += chunk
            if len(items) >= wanted:
                break
        return items[:wanted]

    @property
    def _payload(self) -> Any:
        return "pair" if self.planned.entity else "mixed"

    def _sorted(self, wanted: int, token: _Token | None, sort: SortKeys) -> list[Any]:
        follows = None if token is None else _follows(sort, token)
        items: list[Any] = []
        for chunk in self.run.pull(self.rows, self._payload):
            items += chunk if follows is None else filter(follows, chunk)
            if len(items) > 2 * wanted + _SLACK:
                _in_total_order(items, sort)
                del items[wanted:]
        _in_total_order(items, sort)
        return items[:wanted]

    def _token(self, item: Any) -> _Token:
        """The place of an item."""
        access = self.access
        if self.sort is not None:
            way = Way(self.family, ordered=None if not self.sort.runs else False)
            return _Token(_digest(self.planned, self.family), way, tuple(item[:-1]), item[-1][0])
        assert isinstance(access, RangeAccess)
        way = Way(self.family, access.reverse, access.merged, True)
        key, value = item[:2]
        if isinstance(access, IndexScan) and not access.covering:
            key = self._entry(access, key, value)
        return _Token(_digest(self.planned, self.family), way, None, key)

    def _entry(self, access: IndexScan, key: bytes, value: bytes) -> bytes:
        """The key of the entry that led to a record."""
        codec = access.table.codec
        number = codec.indexes.index(access.index)
        entries = [entry for entry, _ in codec.entries(codec.decode(key, value), key)[number]]
        for start, stop in access.ranges(self.run).ranges:
            for entry in entries:
                if entry >= start and (stop is None or entry < stop):
                    return entry
        raise exc.Corruption(
            f"a record of {access.table.name} has no entry of index {access.family} where one led to it",
            cf=access.family, key=key,
        )  # fmt: skip


def _results(planned: Prepared, items: Sequence[Any], load: Load) -> list[Any]:
    if planned.entity:
        return list(load(list(items))) if items else []
    if planned.query.records:
        return list(planned.mixed(items, load)) if items else []
    return [outputs for _, _, outputs in items]


def _behind(ranges: Ranges, key: bytes, access: RangeAccess) -> Ranges:
    """The part of ranges that comes behind ``key`` in the order in which they are read."""
    suffix: bytes | None = None
    if access.merged and len(ranges.ranges) > 1:
        for (start, _), length in zip(ranges.ranges, ranges.prefix, strict=True):
            if key.startswith(start[:length]):
                suffix = key[length:]
                break
        else:
            raise exc.ArgumentError(
                "the page token's place is none of this statement's rows (begin with the first page)"
            )
    kept: list[tuple[bytes, bytes | None]] = []
    prefixes = []
    for (start, stop), length in zip(ranges.ranges, ranges.prefix, strict=True):
        place = key if suffix is None else start[:length] + suffix
        low, high = start, stop
        if access.reverse:
            # Of equal suffixes the greater key comes first.
            limit = place + b"\0" if place < key else place
            high = limit if high is None else min(high, limit)
        else:
            low = max(low, place if place > key else place + b"\0")
        if ranges.points and (low != start or (high is not None and high <= start)):
            continue
        if high is None or low < high:
            kept.append((low, high))
            prefixes.append(length)
    return attrs.evolve(ranges, ranges=tuple(kept), prefix=tuple(prefixes))


def _in_total_order(items: list[Any], sort: SortKeys) -> None:
    items.sort(key=lambda item: item[-1][0])
    in_order(items, sort)


def _follows(sort: SortKeys, token: _Token) -> Callable[[Any], bool]:
    """A test of whether an item comes behind the token's place."""
    directions = sort.directions
    before = token.sorted_by or ()
    if len(before) != len(directions):
        raise _garbled()
    place = token.key

    def follows(item: Any) -> bool:
        try:
            for number, descending in enumerate(directions):
                here, there = item[number], before[number]
                if here != there:
                    return bool(here < there if descending else here > there)
        except (TypeError, ArithmeticError) as error:  # another type, or a signalling NaN
            raise _garbled() from error
        return bool(item[-1][0] > place)

    return follows


# --------------------------------------------------------------------------- what a token belongs to


def _digest(planned: Prepared, family: str) -> bytes:
    """What stands for a statement with its parameters, on a schema, read through a family."""
    definition = planned.table.definition
    index = planned.table.indexes.get(family)
    fields = [(f.id, f.name, sorted(f.kind.spec().items()), f.nullable) for f in definition.fields]
    facts = [
        _stable(planned.reading.structure),
        [_stable(value) for value in planned.params],
        (definition.id, definition.name, fields, definition.primary_key),
        family,
        None if index is None else _index_facts(index.definition),
    ]
    return hashlib.blake2b(repr(facts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _index_facts(definition: Any) -> tuple[Any, ...]:
    parts = [(part.name, part.descending) for part in definition.parts]
    return definition.name, parts, definition.unique, repr(definition.where), definition.include, definition.kind


def _stable(value: Any) -> Any:
    """A value in a form whose repr is the same in every process."""
    if isinstance(value, tuple):
        return tuple(map(_stable, value))
    if isinstance(value, type):
        return "record"
    if isinstance(value, Choices):
        return sorted(map(repr, value.members)), value.null
    return value


# --------------------------------------------------------------------------- tokens as text


def _garbled() -> exc.ArgumentError:
    return exc.ArgumentError("the page token is damaged; give one that a page's next gave, unchanged, or None")


def _encoded(token: _Token) -> str:
    way = token.way
    data = [
        _FORMAT,
        token.digest,
        [way.family, way.reverse, way.merged, way.ordered],
        None if token.sorted_by is None else [_packed(value) for value in token.sorted_by],
        token.key,
    ]
    text = base64.urlsafe_b64encode(msgspec.msgpack.encode(data)).rstrip(b"=").decode()
    if len(text) > _LONGEST:
        raise exc.NotSupportedError(
            f"the token of the next page would have {len(text)} characters, as it holds what rows are ordered by; at"
            f" most {_LONGEST} (order by something shorter, or ask for a larger page)"
        )
    return text


_Wire = tuple[
    int,
    bytes,
    tuple[str, bool | None, bool | None, bool | None],
    list[Any] | None,
    bytes,
]
_decoder: Final = msgspec.msgpack.Decoder(_Wire)


def _decoded(text: Any) -> _Token:
    """What a token says.

    Raises:
        ArgumentError: if it is none, or of a newer release.
    """
    if not isinstance(text, str):
        raise exc.ArgumentError(f"a page token is a str, not {text!r:.80}; give what a page's next gave, or None")
    if len(text) > _LONGEST or not text.isascii():
        raise _garbled()
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        number, digest, (family, reverse, merged, ordered), sorted_by, key = _decoder.decode(raw)
    except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _garbled() from error
    if number != _FORMAT:
        raise exc.ArgumentError(f"the page token is of format {number}; this release reads format {_FORMAT}")
    keys = None if sorted_by is None else tuple(_unpacked(value, 0) for value in sorted_by)
    return _Token(digest, Way(family, reverse, merged, ordered), keys, key)


_PACKED: Final[Mapping[type, tuple[str, Callable[[Any], Any]]]] = {
    int: ("i", str),
    float: ("f", float.hex),
    decimal.Decimal: ("d", str),
    dt.datetime: ("t", dt.datetime.isoformat),
    dt.date: ("D", dt.date.isoformat),
    dt.time: ("T", dt.time.isoformat),
    dt.timedelta: ("p", lambda value: str(value // dt.timedelta(microseconds=1))),
    uuid.UUID: ("u", str),
}

_UNPACKED: Final[Mapping[str, Callable[[str], Any]]] = {
    "i": int,
    "f": float.fromhex,
    "d": decimal.Decimal,
    "t": dt.datetime.fromisoformat,
    "D": dt.date.fromisoformat,
    "T": dt.time.fromisoformat,
    "p": lambda text: dt.timedelta(microseconds=int(text)),
    "u": uuid.UUID,
}


def _packed(value: Any) -> Any:
    """A key to sort by as plain data: what msgpack has no exact form for as text with its type."""
    if value is None or isinstance(value, bool | str | bytes):
        return value
    if isinstance(value, tuple):
        return [_packed(part) for part in value]
    tag, pack = _PACKED[type(value)]
    return {tag: pack(value)}


def _unpacked(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | str | bytes):
        return value
    if isinstance(value, list) and depth < _DEEPEST and len(value) <= 100:
        return tuple(_unpacked(part, depth + 1) for part in value)
    if isinstance(value, dict) and len(value) == 1:
        ((tag, text),) = value.items()
        if tag in _UNPACKED and isinstance(text, str) and len(text) <= 1000:
            try:
                return _UNPACKED[tag](text)
            except (ValueError, ArithmeticError) as error:
                raise _garbled() from error
    raise _garbled()
