"""Where families live in an LMDB environment, and the library's own database that says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Annotated, Any, Final

import attrs
import lmdb
import msgspec

from kvdialect import exc
from kvdialect.storage.contract import Pair
from kvdialect.storage.engine import Engine
from kvdialect.storage.options import RESERVED_FAMILY

# Keys of the library's own database, beside the reserved family's own, which begin with its tag, b"\0".
EPOCH: Final = b"e"
PLACE: Final = b"f"
TOKEN: Final = b"t"


class Place(msgspec.Struct, frozen=True):
    """Where a family lives; kept in the store's own database."""

    database: Annotated[str, msgspec.Meta(min_length=1)]
    tag: Annotated[int, msgspec.Meta(ge=0, le=255)] | None
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


@attrs.frozen(slots=True)
class Family:
    """An open family: its database handle, its tag as bytes, the seed of its checksums."""

    name: str
    db: Any
    tag: bytes
    seed: int
    place: Place


class Families(dict[str, Family]):
    """Families by name. One that is missing is looked up in the store once more: another process may have made it."""

    def __init__(self, engine: Engine, refresh: Callable[[], None]) -> None:
        super().__init__()
        self._engine, self._refresh = engine, refresh

    def __missing__(self, name: str) -> Family:
        if isinstance(name, str):
            self._refresh()
            if name in self:
                return self[name]
        raise self._engine.unknown(name, "use")


def opened(name: str, db: Any, place: Place) -> Family:
    """A family whose database is open as ``db``."""
    return Family(name, db, b"" if place.tag is None else bytes((place.tag,)), place.seed, place)


# What other layers keep in the reserved family stands below the tag 0 of the library's own database.
OWN_PLACE: Final = Place(RESERVED_FAMILY, 0, 0)


def prefixed(txn: lmdb.Transaction, db: Any, prefix: bytes) -> Iterator[Pair]:
    """The pairs of a database whose keys start with ``prefix``."""
    cursor = txn.cursor(db)
    pairs: Iterator[Any] = cursor.iternext() if cursor.set_range(prefix) else iter(())
    return takewhile(lambda pair: pair[0].startswith(prefix), pairs)


def places(txn: lmdb.Transaction, own: Any) -> dict[str, Place]:
    """Where each family lives, by name, read from the library's own database.

    Raises:
        Corruption: if what stands there is damaged.
    """
    return dict(place_of(key, raw) for key, raw in prefixed(txn, own, PLACE))


def place_of(key: bytes, raw: bytes) -> tuple[str, Place]:
    """A family's name, and where it lives, as the library's own database has it. Errors are those of :func:`places`."""
    try:
        return key[1:].decode(), _decode_place(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise exc.Corruption(
            f"where the column family {exc.shown(key[1:])} lives is damaged: {error} (restore a backup)",
            engine="lmdb", operation="open", cf=RESERVED_FAMILY, key=key,
        ) from error  # fmt: skip


_decode_place: Final = msgspec.msgpack.Decoder(Place).decode
