"""RocksDB's options: ours turned into the driver's, and those of an existing store read from its OPTIONS file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs
import rocksdict

from kvdialect.storage.options import (
    ColumnFamilyOptions,
    StoreOptions,
    choice_field,
    int_field,
    size_field,
)

RECOVERY_MODES: Final = {
    "tolerate_corrupted_tail": rocksdict.DBRecoveryMode.tolerate_corrupted_tail_records,
    "absolute": rocksdict.DBRecoveryMode.absolute_consistency,
    "point_in_time": rocksdict.DBRecoveryMode.point_in_time,
    "skip_any": rocksdict.DBRecoveryMode.skip_any_corrupted_record,
}

_COMPRESSION: Final = {
    "none": rocksdict.DBCompressionType.none,
    "snappy": rocksdict.DBCompressionType.snappy,
    "zlib": rocksdict.DBCompressionType.zlib,
    "bz2": rocksdict.DBCompressionType.bz2,
    "lz4": rocksdict.DBCompressionType.lz4,
    "lz4hc": rocksdict.DBCompressionType.lz4hc,
    "zstd": rocksdict.DBCompressionType.zstd,
}


_COMPRESSION_WRITTEN: Final = {
    "kNoCompression": "none",
    "kSnappyCompression": "snappy",
    "kZlibCompression": "zlib",
    "kBZip2Compression": "bz2",
    "kLZ4Compression": "lz4",
    "kLZ4HCCompression": "lz4hc",
    "kZSTD": "zstd",
}
"""The names of the OPTIONS file."""


@attrs.frozen(slots=True, kw_only=True)
class RocksDBOptions(StoreOptions):
    """Options of ``rocksdb:///path``, beside those of every engine; names and meanings are RocksDB's.

    Attributes:
        mode: ``"secondary"`` follows a primary in another process; ``catch_up()`` takes over what it has committed.
        block_cache_size: bytes of the cache of data blocks, which all families share.
        max_background_jobs: threads that flush and compact, 1 to 1,024.
        max_open_files: -1 keeps all files open; FIFO families and a secondary need it.
        wal_recovery: what opening does with a damaged write-ahead log: ``"tolerate_corrupted_tail"`` drops an
            unfinished last record and refuses any other damage; ``"point_in_time"`` and ``"skip_any"`` **lose
            acknowledged commits** behind or at the damage; ``"absolute"`` refuses all.
        secondary_path: directory for a secondary's own log; a temporary one by default.
    """

    mode: str = choice_field("rw", ("rw", "ro", "secondary"))
    block_cache_size: int = size_field("256MiB")
    max_background_jobs: int = int_field(4, at_least=1, at_most=1024)  # its threads start at once
    bytes_per_sync: int = size_field("1MiB")
    wal_bytes_per_sync: int = size_field("1MiB")
    max_total_wal_size: int = size_field("256MiB")
    keep_log_file_num: int = int_field(10, at_least=1)
    max_open_files: int = int_field(-1, at_least=-1)
    wal_recovery: str = choice_field("tolerate_corrupted_tail", tuple(RECOVERY_MODES))
    secondary_path: str | None = None


def database_options(options: RocksDBOptions) -> rocksdict.Options:
    """The driver's options for the whole store."""
    native = rocksdict.Options(raw_mode=True)
    native.create_if_missing(False)
    native.create_missing_column_families(True)
    native.set_max_background_jobs(options.max_background_jobs)
    native.set_bytes_per_sync(options.bytes_per_sync)
    native.set_wal_bytes_per_sync(options.wal_bytes_per_sync)
    native.set_max_total_wal_size(options.max_total_wal_size)
    native.set_keep_log_file_num(options.keep_log_file_num)
    native.set_max_open_files(options.max_open_files)
    native.set_wal_recovery_mode(RECOVERY_MODES[options.wal_recovery]())
    # Without a write-ahead log a commit is torn unless the memtables of all families reach the disk together.
    native.set_atomic_flush(options.durability == "none")
    # As RocksDB writes statistics into its LOG it takes no care of families that are dropped but still read, and ends
    # the process (https://github.com/facebook/rocksdb/pull/13900).
    native.set_stats_dump_period_sec(0)
    return native


def family_options(
    options: ColumnFamilyOptions, cache: rocksdict.Cache, *, blooms: bool, native: rocksdict.Options | None = None
) -> rocksdict.Options:
    """The driver's options for one family."""
    native = native or rocksdict.Options(raw_mode=True)
    bloom = options.bloom if blooms else "none"
    if bloom == "prefix":
        native.set_prefix_extractor(rocksdict.SliceTransform.create_fixed_prefix(options.prefix_length))
        native.set_memtable_prefix_bloom_ratio(0.1)
    elif bloom == "full":
        # In memory too: a new key is looked up before it is written, and is not there. Ten bits a key are about a
        # hundredth of a memtable, whose entries take a hundred bytes and more.
        native.set_memtable_whole_key_filtering(True)
        native.set_memtable_prefix_bloom_ratio(0.02)
    native.set_block_based_table_factory(_table(cache, options.bloom_bits if bloom != "none" else None))
    native.set_write_buffer_size(options.write_buffer_size)
    native.set_max_write_buffer_number(options.max_write_buffer_number)
    native.set_compression_type(_COMPRESSION[options.compression]())
    native.set_max_bytes_for_level_base(options.max_bytes_for_level_base)
    native.set_max_bytes_for_level_multiplier(float(options.max_bytes_for_level_multiplier))
    native.set_level_zero_file_num_compaction_trigger(options.level0_file_num_compaction_trigger)
    native.set_level_zero_slowdown_writes_trigger(options.level0_slowdown_writes_trigger)
    native.set_level_zero_stop_writes_trigger(options.level0_stop_writes_trigger)
    native.set_target_file_size_base(options.target_file_size_base)
    native.set_num_levels(options.num_levels)
    # The level sizes above are what RocksDB is asked for; dynamic ones would override the base.
    native.set_level_compaction_dynamic_level_bytes(False)
    if options.compaction == "fifo":
        fifo = rocksdict.FifoCompactOptions()
        fifo.max_table_files_size = options.fifo_max_size
        native.set_compaction_style(rocksdict.DBCompactionStyle.fifo())
        native.set_fifo_compaction_options(fifo)
    else:
        native.set_compaction_style(rocksdict.DBCompactionStyle.level())
    return native


def _table(cache: rocksdict.Cache, bloom_bits: int | None) -> rocksdict.BlockBasedOptions:
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(cache)
    if bloom_bits is not None:
        table.set_bloom_filter(bloom_bits, False)
        table.set_cache_index_and_filter_blocks(True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    return table


def kept_options(
    loaded: rocksdict.Options, written: dict[str, str], cache: rocksdict.Cache, *, blooms: bool
) -> rocksdict.Options:
    """The driver's options of a family that is not declared: those that RocksDB last wrote.

    It writes of a bloom filter that there is one, but not its bits a key, and loads it as none; it gets the usual bits.
    """
    if written.get("filter_policy", "nullptr") != "nullptr":
        bits = ColumnFamilyOptions().bloom_bits if blooms else None
        loaded.set_block_based_table_factory(_table(cache, bits))
    if not blooms:
        if prefix_length_of(written) is not None:
            loaded.set_prefix_extractor(rocksdict.SliceTransform.create_noop())
        loaded.set_memtable_prefix_bloom_ratio(0.0)
    return loaded


def read_options_file(path: str) -> dict[str, dict[str, str]]:
    """The options of each family as RocksDB last wrote them: ``{family: {option: text}}``; empty if there are none.

    Format: https://github.com/facebook/rocksdb/wiki/RocksDB-Options-File. They are read before RocksDB opens the store,
    as opening a family with FIFO compaction deletes data at once.
    """
    names = [entry for entry in os.listdir(path) if re.fullmatch(r"OPTIONS-\d+", entry)]
    if not names:
        return {}
    newest = max(names, key=lambda name: int(name.split("-")[1]))
    families: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    with open(os.path.join(path, newest), encoding="utf-8", errors="replace") as file:
        for line in file:
            text = line.strip()
            if match := re.fullmatch(r'\[(?:CFOptions|TableOptions/BlockBasedTable) "(.*)"\]', text):
                section = families.setdefault(re.sub(r"\\(.)", r"\1", match[1]), {})  # RocksDB escapes : # and \\
            elif text.startswith("["):
                section = {}
            elif "=" in text and not text.startswith("#"):
                name, _, value = text.partition("=")
                section[name.strip()] = value.strip()
    return families


def options_written(written: Mapping[str, str]) -> ColumnFamilyOptions:
    """The options that a family was made with, from its section; what that does not say is the default: bloom_bits."""
    options: dict[str, Any] = {
        field.name: written[field.name].removesuffix(".000000")
        for field in attrs.fields(ColumnFamilyOptions)
        if field.name in written and field.name != "compression"
    }
    if (compression := _COMPRESSION_WRITTEN.get(written.get("compression", ""))) is not None:
        options["compression"] = compression
    if (style := style_of(written)) is not None:
        options["compaction"] = style
    if style == "fifo":  # for which RocksDB turns these off
        options = {name: value for name, value in options.items() if not name.startswith("level0_")}
    if match := re.search(r"max_table_files_size=(\d+)", written.get("compaction_options_fifo", "")):
        options["fifo_max_size"] = int(match[1])
    if written.get("filter_policy", "nullptr") != "nullptr":
        length = prefix_length_of(written)
        options["bloom"] = "full" if length is None else "prefix"
        if length is not None:
            options["prefix_length"] = length
    return ColumnFamilyOptions(**options)


def style_of(options: Mapping[str, str]) -> str | None:
    """``"level"`` or ``"fifo"`` from a family's section, or None if it is another or not said."""
    return {"kCompactionStyleLevel": "level", "kCompactionStyleFIFO": "fifo"}.get(options.get("compaction_style", ""))


def prefix_length_of(options: Mapping[str, str]) -> int | None:
    """The length of a family's fixed prefix extractor, or None."""
    match = re.search(r"FixedPrefix\.(\d+)", options.get("prefix_extractor", ""))
    return int(match[1]) if match else None
