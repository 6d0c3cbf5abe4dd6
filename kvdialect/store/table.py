"""A table of an open store: its definition with the code generated from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvdialect.schema.definition import FieldDefinition, TableDefinition
from kvdialect.schema.rows import IndexCodec, TableCodec
from kvdialect.schema.sqlrows import SqlTableCodec
from kvdialect.storage.ranges import successor


class StoredTable:
    """A table as the catalog of one store has it.

    Attributes:
        definition: what the catalog says, with ids, version and the states of indexes.
        name: the table's name.
        family: the column family of its records: its own, or that of all SQL tables.
        prefix: what its keys there begin with; empty for a family of its own.
        codec: rows to bytes and back.
        indexes: codecs of all its indexes by name, those that are being built included.
        count_key: where the family ``kvdialect`` keeps the number of its rows; None if it is not kept (fifo).
    """

    def __init__(self, definition: TableDefinition, history: Mapping[int, tuple[FieldDefinition, ...]]) -> None:
        self.definition = definition
        self.name = definition.name
        # The two codecs are alike in what the store calls.
        made: Any = SqlTableCodec(definition, history) if definition.shared else TableCodec(definition, history)
        self.codec: TableCodec = made
        self.family = made.family if definition.shared else definition.name
        self.prefix: bytes = made.prefix if definition.shared else b""
        self.stop: bytes | None = successor(self.prefix) if self.prefix else None
        self.indexes: dict[str, IndexCodec] = {index.definition.name: index for index in self.codec.indexes}
        self.readable: dict[str, IndexCodec] = {
            name: index for name, index in self.indexes.items() if index.definition.state == "readable"
        }
        counted = definition.options.compaction != "fifo"
        self.count_key = b"count/" + definition.id.to_bytes(4, "big") if counted else None
