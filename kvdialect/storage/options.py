"""Options: typed, checked, with sizes as ints or ``"64MiB"``; an unknown name is refused with its near match."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

import attrs

from kvdialect import exc

Size = int | str
"""A number of bytes: an int, or a string such as ``"64MiB"``, ``"1GiB"``, ``"512KB"`` or ``"4096"``."""

_UNITS: Final = {
    "": 1, "b": 1,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
    "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
}  # fmt: skip
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_size(value: Size, option: str = "size") -> int:
    """Return a size in bytes.

    Raises:
        ArgumentError: if ``value`` is no size; ``option`` names it in the message.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < 1 << 62:
            return value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        number, unit = match[1], match[2].lower()
        if unit in _UNITS:
            size = float(number) * _UNITS[unit]
            if size.is_integer() and size < 1 << 62:
                return int(size)
    raise exc.ArgumentError(f'{option}={value!r} is no size; give bytes as an int, or a string such as "64MiB"')


_TRUE: Final = frozenset({"on", "true", "yes", "1"})
_FALSE: Final = frozenset({"off", "false", "no", "0"})


def parse_switch(value: object, option: str) -> bool:
    """Return a switch: a bool, or one of on, off, true, false, yes, no, 1, 0."""
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise exc.ArgumentError(f"{option}={value!r} is no switch; give on or off")


def parse_int(value: object, option: str) -> int:
    """Return an int from an int or its decimal text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value):
        return int(value)
    raise exc.ArgumentError(f"{option}={value!r} is no whole number")


def parse_seconds(value: object, option: str) -> float:
    """Return seconds, 0 or more, from a number or its text."""
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < 1e9 or isinstance(value, bool):
        raise exc.ArgumentError(f"{option}={value!r} is no number of seconds; give 0 or more, such as 2.5")
    return seconds


def parse_choice(value: object, option: str, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``choices``, else refuse it, naming them and the near match."""
    if value in choices:
        return str(value)
    raise exc.ArgumentError(
        f"{option}={value!r} is not known{near(str(value), choices)}; allowed: {', '.join(choices)}"
    )


def near(name: str, known: typing.Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the known name closest to ``name``, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {match[0]!r}?)" if match else ""


# ------------------------------------------------------------------------------------------------ attrs fields


def size_field(default: Size, doc: str = "") -> Any:
    """An attrs field holding a size in bytes."""
    return attrs.field(
        default=default,
        converter=attrs.Converter(lambda v, f: parse_size(v, f.name), takes_field=True),
        metadata={"doc": doc},
        kw_only=True,
    )


def _converted(parse: typing.Callable[[Any, str], Any], default: Any, optional: bool) -> Any:
    def convert(value: Any, field: attrs.Attribute[Any]) -> Any:
        return None if optional and value is None else parse(value, field.name)

    return attrs.field(
        default=default,
        converter=attrs.Converter(convert, takes_field=True),
        kw_only=True,
    )


def optional_size_field(default: Size | None = None) -> Any:
    """An attrs field holding a size in bytes, or None."""
    return _converted(parse_size, default, True)


def switch_field(default: bool) -> Any:
    """An attrs field holding a switch."""
    return _converted(parse_switch, default, False)


def int_field(default: int, *, at_least: int | None = None, at_most: int = (1 << 31) - 1) -> Any:
    """An attrs field holding an int."""

    def parse(value: Any, option: str) -> int:
        number = parse_int(value, option)
        if at_least is not None and number < at_least:
            raise exc.ArgumentError(f"{option}={value!r} is too small; it must be {at_least} or more")
        if number > at_most:
            raise exc.ArgumentError(f"{option}={value!r} is too large; it must be {at_most} or less")
        return number

    return _converted(parse, default, False)


def seconds_field(default: float | None) -> Any:
    """An attrs field holding seconds, or None where that is its default."""
    return _converted(parse_seconds, default, default is None)


def choice_field(default: str, choices: tuple[str, ...]) -> Any:
    """An attrs field holding one of ``choices``."""
    return _converted(lambda value, option: parse_choice(value, option, choices), default, False)


# ------------------------------------------------------------------------------------------------ column families

Bloom = Literal["full", "prefix", "none"]
Compaction = Literal["level", "fifo"]
Compression = Literal["none", "snappy", "zlib", "bz2", "lz4", "lz4hc", "zstd"]
COMPRESSIONS: Final = typing.get_args(Compression)


def _bloom(value: object, option: str) -> str:
    return "none" if value is None else parse_choice(value, option, ("full", "prefix", "none"))


@attrs.frozen(slots=True, kw_only=True, init=False)
class ColumnFamilyOptions:
    """What one column family asks of the engine below it.

    One class serves all engines, so that a schema names none: RocksDB takes what concerns files and buffers, LMDB what
    concerns databases and tags, and each ignores the rest. Names, meanings and units are RocksDB's
    (https://github.com/facebook/rocksdb/wiki/Basic-Operations), sizes are ints in bytes or ``"64MiB"``.

    Attributes:
        bloom: ``"full"``: a filter of ``bloom_bits`` bits a key over whole keys, with the filter and index blocks of
            level 0 pinned in the cache, and a filter over each memtable; ``"prefix"``: the same, plus an extractor of
            ``prefix_length`` bytes, so that ``prefix_scan`` of exactly that length skips files; ``"none"`` (or None):
            no filter.
        compaction: ``"level"``, or ``"fifo"``, which **drops the oldest data** beyond ``fifo_max_size``.
        write_buffer_size: bytes of one memtable; ``max_write_buffer_number`` of them may exist.
        compression: of the data blocks, one of none, snappy, zlib, bz2, lz4, lz4hc, zstd.
        num_levels: levels of files, 1 to 100.
        lmdb_database: LMDB's named database; by default the family's own name.
        lmdb_tag: byte that tells the family apart where several share a named database, 0 to 255, or None.
    """

    bloom: Bloom = _converted(_bloom, "none", False)
    bloom_bits: int = int_field(10, at_least=1)
    prefix_length: int = int_field(32, at_least=1)
    compaction: Compaction = choice_field("level", ("level", "fifo"))
    fifo_max_size: int = size_field("1GiB")
    write_buffer_size: int = size_field("64MiB")
    max_write_buffer_number: int = int_field(2, at_least=1)
    compression: str = choice_field("lz4", COMPRESSIONS)
    max_bytes_for_level_base: int = size_field("256MiB")
    max_bytes_for_level_multiplier: int = int_field(10, at_least=2)
    level0_file_num_compaction_trigger: int = int_field(4, at_least=1)
    level0_slowdown_writes_trigger: int = int_field(20, at_least=1)
    level0_stop_writes_trigger: int = int_field(36, at_least=1)
    target_file_size_base: int = size_field("64MiB")
    num_levels: int = int_field(7, at_least=1, at_most=100)  # with a million RocksDB does not come to an end
    lmdb_database: str | None = attrs.field(default=None)
    lmdb_tag: int | None = attrs.field(default=None)

    @lmdb_database.validator
    def _check_database(self, _attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not _plain_text(value, 500):
            raise exc.ArgumentError(
                f"lmdb_database={value!r} is no name of a database; give a str of 1 to 500 bytes in UTF-8 without"
                " control characters, or None"
            )

    @lmdb_tag.validator
    def _check_tag(self, _attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and (type(value) is not int or not 0 <= value <= 255):
            raise exc.ArgumentError(f"lmdb_tag={value!r} is no tag; give an int from 0 to 255, or None")

    if typing.TYPE_CHECKING:

        def __init__(
            self,
            *,
            bloom: Bloom | None = "none",
            bloom_bits: int = 10,
            prefix_length: int = 32,
            compaction: Compaction = "level",
            fifo_max_size: Size = "1GiB",
            write_buffer_size: Size = "64MiB",
            max_write_buffer_number: int = 2,
            compression: Compression = "lz4",
            max_bytes_for_level_base: Size = "256MiB",
            max_bytes_for_level_multiplier: int = 10,
            level0_file_num_compaction_trigger: int = 4,
            level0_slowdown_writes_trigger: int = 20,
            level0_stop_writes_trigger: int = 36,
            target_file_size_base: Size = "64MiB",
            num_levels: int = 7,
            lmdb_database: str | None = None,
            lmdb_tag: int | None = None,
        ) -> None: ...

    else:

        def __init__(self, **options: Any) -> None:
            # Python's own message for an unknown name would be a TypeError without the list of the known ones.
            refuse_unknown(options, [field.name for field in attrs.fields(type(self))], "column family option")
            self.__attrs_init__(**options)


RESERVED_FAMILY: Final = "kvdialect"
"""The library's own family, for tokens, settings and the catalog; hidden from ``column_families()``."""


def _plain_text(value: object, limit: int) -> bool:
    """True for a str of 1 to ``limit`` bytes in UTF-8 that holds no control character and no lone surrogate."""
    if not isinstance(value, str) or not 0 < len(value.encode("utf-8", "replace")) <= limit:
        return False
    return not any(ord(c) < 32 or 0x7F <= ord(c) <= 0x9F or 0xD800 <= ord(c) <= 0xDFFF for c in value)


def check_family_name(name: object) -> str:
    """Return ``name`` if a column family may have it on every engine.

    Raises:
        ArgumentError: if it is reserved, empty, longer than 128 bytes in UTF-8, or holds a control character.
    """
    if not isinstance(name, str) or not _plain_text(name, 128):
        raise exc.ArgumentError(
            f"column family name {name!r} is not allowed; give a str of 1 to 128 bytes in UTF-8 without control"
            " characters"
        )
    if name in (RESERVED_FAMILY, "default"):
        raise exc.ArgumentError(
            f"column family name {name!r} is reserved ('default' is RocksDB's own, {RESERVED_FAMILY!r} this library's);"
            " choose another"
        )
    return name


# ------------------------------------------------------------------------------------------------ whole stores

Durability = Literal["sync", "wal", "none"]


@attrs.frozen(slots=True, kw_only=True)
class StoreOptions:
    """Options that every engine takes, from the URL's query or as keyword arguments of ``open_backend``.

    Attributes:
        durability: what has happened when a commit returns: ``"sync"``: it is on disk; ``"wal"``: it survives the
            process but not a power cut; ``"none"``: nothing is promised, except that the end of the process tears no
            commit. What a power cut can do then depends on the engine: **LMDB's file may be damaged by it.**
        mode: ``"rw"``, ``"ro"`` (writes raise ReadOnlyStore), or on RocksDB ``"secondary"``.
        lock_timeout: seconds that a writer waits for another one before LockTimeout; given explicitly, opening a
            store that another process holds waits as long before StoreLocked, which else is raised at once.
        max_batch_bytes: bound on the keys and values of one batch.
        max_snapshot_age: seconds after which a snapshot is ended (SnapshotTooOld), or None.
        bloom: off turns the bloom filters of all families off.
        checksum: a checksum per value on engines that have none of their own; fixed when the store is created.
            None stands for what the store was created with, on for a new one.
        check_files: compare the files with what they were when the store was last closed, and look through the
            structure of LMDB's. Off opens a store that was refused for it, to save what is left: **much of it may
            seem not to be there.**
    """

    durability: Durability = choice_field("sync", ("sync", "wal", "none"))
    mode: str = choice_field("rw", ("rw", "ro"))
    lock_timeout: float | None = seconds_field(None)
    max_batch_bytes: int = size_field("1GiB")
    max_snapshot_age: float | None = seconds_field(None)
    bloom: bool = switch_field(True)
    checksum: bool | None = _converted(parse_switch, None, True)
    check_files: bool = switch_field(True)

    @property
    def write_timeout(self) -> float:
        """Seconds that a writer waits for another one."""
        return 10.0 if self.lock_timeout is None else self.lock_timeout


_UNSAFE: Final = {
    "sync": "say what a commit promises with durability=sync, wal or none",
    "metasync": "say what a commit promises with durability=sync, wal or none",
    "map_async": "say what a commit promises with durability=sync, wal or none",
    "disable_wal": "say what a commit promises with durability=sync, wal or none",
    "lock": "without LMDB's lock file, readers and writers corrupt each other; it is unsafe_no_lock",
    "writemap": "a stray write of the process would land in the file; it is unsafe_writemap",
    "buffers": "views of LMDB's map crash the process when used after their transaction",
    "integerkey": "it changes the order of keys",
    "dupsort": "it changes what a key is",
    "ttl": "a store opened once with a time to live loses four bytes of every value when opened without",
    "raw_mode": "it is always on",
    "comparator": "the order of keys is that of their bytes",
    "compaction": "it is an option of a column family: ColumnFamilyOptions(compaction=...)",
    "subdir": "a store is always a directory",
}

Options = TypeVar("Options", bound=StoreOptions)


def parse_store_options(cls: type[Options], engine: str, given: Mapping[str, Any]) -> Options:
    """Build the options of an engine from the query of its URL and keyword arguments.

    Raises:
        ArgumentError: for an unknown name (with the near match), a value that does not parse, or a driver option
            that can lose data.
    """
    known = [field.name for field in attrs.fields(cls)]
    for name, value in given.items():
        if name not in known and name in _UNSAFE:
            raise exc.ArgumentError(f"option {name!r} of {engine} is refused: {_UNSAFE[name]}", option=name)
        if isinstance(value, tuple):
            raise exc.ArgumentError(f"option {name!r} is given {len(value)} times; give it once", option=name)
    refuse_unknown(given, known, f"option of {engine}")
    return cls(**given)


def refuse_unknown(given: Mapping[str, Any], known: list[str], what: str) -> None:
    """Raise ArgumentError for the first name in ``given`` that is not in ``known``."""
    for name in given:
        if name not in known:
            raise exc.ArgumentError(
                f"unknown {what}: {name!r}{near(name, known)}; allowed: {', '.join(sorted(known))}", option=name
            )
