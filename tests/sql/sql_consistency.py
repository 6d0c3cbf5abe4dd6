"""Rows against index entries both ways, and counts, by reading the bytes of a store with tables of both sorts."""

from __future__ import annotations

from typing import Any

from kvdialect.storage import decode_counter
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.storage.ranges import successor


def check_sql_consistency(engine: Any) -> None:
    """Assert that each row has exactly its index entries, that counts are exact, and that nothing else is there."""
    engine.reload()
    known: dict[str, set[bytes]] = {}
    shared = set()
    with engine.backend.snapshot() as snapshot:
        for table in engine.catalog.tables.values():
            if table.prefix:
                shared.add(table.family)
            wanted: dict[str, dict[bytes, bytes]] = {name: {} for name in table.indexes}
            rows = 0
            for key, value in snapshot.scan(table.family, *_span(table.prefix)):
                rows += 1
                known.setdefault(table.family, set()).add(key)
                row = table.codec.decode(key, value)
                again_key, again_value, _ = table.codec.encode(row)
                assert again_key == key
                assert table.codec.decode(again_key, again_value) == row
                for index, pairs in zip(table.codec.indexes, table.codec.entries(row, key), strict=True):
                    for entry, entry_value in pairs:
                        entries = wanted[index.definition.name]
                        assert entry not in entries, "two rows share an entry"
                        entries[entry] = entry_value
                        assert index.primary_key(entry, entry_value) == key
            for name, entries in wanted.items():
                index = table.indexes[name]
                prefix = getattr(index, "prefix", b"")
                assert dict(snapshot.scan(index.family, *_span(prefix))) == entries, name
                known.setdefault(index.family, set()).update(entries)
            if table.count_key is not None:
                assert decode_counter(snapshot.get(RESERVED_FAMILY, table.count_key)) == rows
        for family in shared:
            assert {key for key, _ in snapshot.scan(family)} == known.get(family, set()), "data that no table has"


def _span(prefix: bytes) -> tuple[bytes, bytes | None]:
    return (prefix, successor(prefix)) if prefix else (b"", None)
