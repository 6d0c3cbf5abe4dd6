"""A table of an open store: its definition with the code generated from it."""

from __future__ import annotations

from collections.abc import Mapping

from kvdialect.schema.definition import FieldDefinition, TableDefinition
from kvdialect.schema.rows import IndexCodec, TableCodec


class StoredTable:
    """A table as the catalog of one store has it.

    Attributes:
        definition: what the catalog says, with ids, version and the states of indexes.
        name: the table's name, which is the family of its records.
        codec: rows to bytes and back.
        indexes: codecs of all its indexes by name, those that are being built included.
        count_key: where the family ``kvdialect`` keeps the number of its rows; None if it is not kept (fifo).
    """

    def __init__(self, definition: TableDefinition, history: Mapping[int, tuple[FieldDefinition, ...]]) -> None:
        self.definition = definition
        self.name = definition.name
        self.codec = TableCodec(definition, history)
        self.indexes: dict[str, IndexCodec] = {index.definition.name: index for index in self.codec.indexes}
        self.readable: dict[str, IndexCodec] = {
            name: index for name, index in self.indexes.items() if index.definition.state == "readable"
        }
        counted = definition.options.compaction != "fifo"
        self.count_key = b"count/" + definition.id.to_bytes(4, "big") if counted else None
