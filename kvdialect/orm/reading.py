"""Records of keys that an index has given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvdialect import exc
from kvdialect.schema.rows import leads_nowhere

if TYPE_CHECKING:
    from kvdialect.orm.session import Session
    from kvdialect.orm.unitofwork import Mapper


def records(session: Session, mapper: Mapper, family: str, keys: list[bytes]) -> list[Any]:
    """The records of keys that the family of an index, or of records, has given, as objects."""
    txn = session._autobegin()
    try:
        raws: list[Any] = txn.multi_get(mapper.table.name, keys)
    except exc.KeyTooLong as error:
        raise leads_nowhere(family, mapper.table.name, error) from error
    pairs = list(zip(keys, raws, strict=True))
    if None in raws:
        gone = txn.changes.get(mapper.table.name, {})
        for key, raw in pairs:
            if raw is None and key not in gone:
                raise exc.Corruption(
                    f"an entry of {family} leads to the record {mapper.table.name}[{exc.shown(key)}], which is not"
                    " there (drop the index and build it again with models.upgrade)",
                    cf=family, key=key,
                )  # fmt: skip
        pairs = [pair for pair in pairs if pair[1] is not None]
    return session.loader(mapper)(pairs)  # type: ignore[no-any-return]
