"""Records against indexes both ways, and counts, by reading the bytes of a store."""

from __future__ import annotations

from kvdialect.storage import decode_counter
from kvdialect.storage.options import RESERVED_FAMILY


def check_consistency(engine):
    """Assert that each record has exactly its index entries, and that the row counts are exact."""
    engine.reload()
    with engine.backend.snapshot() as snapshot:
        for table in engine.catalog.tables.values():
            wanted = {name: {} for name in table.indexes}
            rows = 0
            for key, value in snapshot.scan(table.name):
                rows += 1
                row = table.codec.decode(key, value)
                again_key, again_value, _ = table.codec.encode(row)
                assert again_key == key
                assert table.codec.decode(again_key, again_value) == row
                for index, pairs in zip(table.codec.indexes, table.codec.entries(row, key), strict=True):
                    for entry, entry_value in pairs:
                        assert entry not in wanted[index.family], "two records share an entry"
                        wanted[index.family][entry] = entry_value
                        assert index.primary_key(entry, entry_value) == key
            for name, entries in wanted.items():
                assert dict(snapshot.scan(name)) == entries, name
            if table.count_key is not None:
                assert decode_counter(snapshot.get(RESERVED_FAMILY, table.count_key)) == rows
