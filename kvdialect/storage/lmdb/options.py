"""Options of ``lmdb:///path``."""

from __future__ import annotations

from typing import Final

import attrs

from kvdialect.storage.options import StoreOptions, int_field, optional_size_field, switch_field

DEFAULT_MAP_SIZE: Final = 64 << 30
"""Bytes of address space reserved by default. The file is sparse and only as long as what was written."""


@attrs.frozen(slots=True, kw_only=True)
class LmdbOptions(StoreOptions):
    """Options of ``lmdb:///path``, beside those of every engine.

    Attributes:
        map_size: bytes of the map, which bounds the file; 64 GiB of address space by default.
        max_map_size: bytes up to which the map grows by itself; without it an explicit map_size never grows.
        max_dbs: how many named databases may be open.
        max_readers: how many read transactions may be open at once, over all processes.
        unsafe_writemap: write through the map (MDB_WRITEMAP): a stray write of the process corrupts the file.
        unsafe_no_lock: open without LMDB's lock file (MDB_NOLOCK): only where no other process ever has it open.
    """

    map_size: int | None = optional_size_field()
    max_map_size: int | None = optional_size_field()
    # Each transaction has a place for each database: beyond some millions LMDB crashes.
    max_dbs: int = int_field(512, at_least=1, at_most=1 << 20)
    max_readers: int = int_field(126, at_least=2, at_most=1 << 20)  # opening takes two
    unsafe_writemap: bool = switch_field(False)
    unsafe_no_lock: bool = switch_field(False)
