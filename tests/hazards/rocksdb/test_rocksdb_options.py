"""What the options become, proven by the OPTIONS file that RocksDB writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import pytest

from kvdialect import ColumnFamilyOptions, exc, open_backend
from kvdialect.storage import WriteBatch
from kvdialect.testing.coinstore import COIN_FAMILIES

pytestmark = pytest.mark.engine("rocksdb")

Style = Literal["level", "fifo"]
Sections = dict[str, dict[str, str]]
MIB = 1 << 20


def sections(path: Path) -> Sections:
    """The sections of the newest OPTIONS file: by family's name, ``table:name`` and ``db``."""
    newest = max(path.glob("OPTIONS-*"), key=lambda file: int(file.name.removeprefix("OPTIONS-")))
    found: Sections = {}
    section: dict[str, str] = {}
    for line in newest.read_text().splitlines():
        text = line.strip()
        if match := re.fullmatch(r'\[CFOptions "(.*)"\]', text):
            section = found.setdefault(match[1], {})
        elif match := re.fullmatch(r'\[TableOptions/BlockBasedTable "(.*)"\]', text):
            section = found.setdefault(f"table:{match[1]}", {})
        elif text == "[DBOptions]":
            section = found.setdefault("db", {})
        elif text.startswith("["):
            section = {}
        elif "=" in text and not text.startswith("#"):
            name, _, value = text.partition("=")
            section[name] = value
    return found


@pytest.fixture(scope="module")
def coins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sections]:
    """The options of a fresh coin store."""
    path = tmp_path_factory.mktemp("coins") / "store"
    with open_backend(f"rocksdb:///{path}", COIN_FAMILIES):
        yield sections(path)


@pytest.fixture(scope="module")
def coins_without_blooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sections]:
    """The same with ``bloom=off``."""
    path = tmp_path_factory.mktemp("coins") / "store"
    with open_backend(f"rocksdb:///{path}?bloom=off", COIN_FAMILIES):
        yield sections(path)


def has_no_bloom(found: Sections, family: str) -> bool:
    return (
        found[f"table:{family}"]["filter_policy"] == "nullptr"
        and found[family]["prefix_extractor"] == "nullptr"
        and float(found[family]["memtable_prefix_bloom_size_ratio"]) == 0.0
    )


def test_a_fresh_coin_store_holds_exactly_its_families(coins: Sections) -> None:
    """A fresh store has the declared families, the library's own and RocksDB's default, no others."""
    families = {name for name in coins if name != "db" and not name.startswith("table:")}

    assert families == {*COIN_FAMILIES, "default", "kvdialect"}


@pytest.mark.parametrize("family", [name for name, options in COIN_FAMILIES.items() if options.bloom == "full"])
def test_full_bloom_is_a_pinned_filter(coins: Sections, family: str) -> None:
    """``bloom="full"`` did not reach RocksDB as a bloom filter with pinned filter blocks."""
    table = coins[f"table:{family}"]

    assert table["filter_policy"].startswith("bloomfilter")
    assert table["pin_l0_filter_and_index_blocks_in_cache"] == "true"
    assert table["cache_index_and_filter_blocks"] == "true"
    assert coins[family]["prefix_extractor"] == "nullptr"


@pytest.mark.parametrize("bits", [10, 20])
def test_a_bloom_filter_has_its_bits_a_key(tmp_path: Path, bits: int) -> None:
    """The filter in a file is not of as many bits a key as were asked for (the OPTIONS file does not say)."""
    families = {"a": ColumnFamilyOptions(bloom="full", bloom_bits=bits)}
    with open_backend(f"rocksdb:///{tmp_path / 'store'}", families) as backend:
        batch = WriteBatch()
        for number in range(8000):
            batch.put("a", b"%06d" % number, b"")
        backend.batch_write(batch)
        backend.flush()
        properties = backend.engine.known["a"].rdict.property_value("rocksdb.aggregated-table-properties")  # type: ignore[attr-defined]

    size = re.search(r"filter block size=(\d+)", properties)
    assert size is not None
    assert int(size[1]) * 8 / 8000 == pytest.approx(bits, rel=0.1)


@pytest.mark.parametrize("family", [name for name, options in COIN_FAMILIES.items() if options.bloom == "prefix"])
def test_prefix_bloom_adds_a_32_byte_extractor(coins: Sections, family: str) -> None:
    """``bloom="prefix"`` did not reach RocksDB as a fixed 32-byte prefix with a memtable bloom of 0.1."""
    table = coins[f"table:{family}"]

    assert table["filter_policy"].startswith("bloomfilter")
    assert table["pin_l0_filter_and_index_blocks_in_cache"] == "true"
    assert coins[family]["prefix_extractor"].endswith("FixedPrefix.32")
    assert float(coins[family]["memtable_prefix_bloom_size_ratio"]) == 0.1


@pytest.mark.parametrize("family", [name for name, options in COIN_FAMILIES.items() if options.bloom == "none"])
def test_no_bloom_leaves_everything_off(coins: Sections, family: str) -> None:
    """``bloom="none"`` left a filter, a prefix extractor or a memtable bloom."""
    assert has_no_bloom(coins, family)


def test_the_bloom_switch_turns_blooms_off_everywhere(coins_without_blooms: Sections) -> None:
    """With ``bloom=off`` a family still has a bloom."""
    with_bloom = [name for name in COIN_FAMILIES if not has_no_bloom(coins_without_blooms, name)]

    assert with_bloom == []


@pytest.mark.parametrize(("family", "options"), COIN_FAMILIES.items())
def test_compaction_buffers_and_compression_are_as_declared(
    coins: Sections, family: str, options: ColumnFamilyOptions
) -> None:
    """A family's compaction numbers, write buffers or compression differ from its declaration."""
    found = coins[family]

    assert int(found["write_buffer_size"]) == options.write_buffer_size
    assert int(found["max_write_buffer_number"]) == options.max_write_buffer_number
    assert found["compression"] == "kLZ4Compression"
    if options.compaction == "fifo":
        assert found["compaction_style"] == "kCompactionStyleFIFO"
        assert f"max_table_files_size={1 << 30}" in found["compaction_options_fifo"]
    else:
        numbers = {
            "max_bytes_for_level_base": 256 * MIB,
            "level0_file_num_compaction_trigger": 4,
            "level0_slowdown_writes_trigger": 20,
            "level0_stop_writes_trigger": 36,
            "target_file_size_base": 64 * MIB,
            "num_levels": 7,
        }
        assert found["compaction_style"] == "kCompactionStyleLevel"
        assert {name: int(found[name]) for name in numbers} == numbers
        assert float(found["max_bytes_for_level_multiplier"]) == 10


def test_whole_store_options_are_the_contracts(coins: Sections) -> None:
    """An option of the whole store is not what contract/storage.md says."""
    wanted = {
        "max_background_jobs": 4,
        "bytes_per_sync": MIB,
        "wal_bytes_per_sync": MIB,
        "max_total_wal_size": 256 * MIB,
        "keep_log_file_num": 10,
        "max_open_files": -1,
    }

    assert {name: int(coins["db"][name]) for name in wanted} == wanted
    assert coins["db"]["create_missing_column_families"] == "true"
    assert coins["db"]["wal_recovery_mode"] == "kTolerateCorruptedTailRecords"


def test_whole_store_options_can_be_given_in_the_url(tmp_path: Path) -> None:
    """An option of the whole store in the URL's query did not reach RocksDB."""
    path = tmp_path / "store"
    query = "max_background_jobs=2&bytes_per_sync=2MiB&max_total_wal_size=64MiB&keep_log_file_num=3&max_open_files=100"
    with open_backend(f"rocksdb:///{path}?{query}"):
        found = sections(path)["db"]

    assert [found[name] for name in ("max_background_jobs", "keep_log_file_num", "max_open_files")] == ["2", "3", "100"]
    assert [int(found[name]) for name in ("bytes_per_sync", "max_total_wal_size")] == [2 * MIB, 64 * MIB]


@pytest.mark.parametrize(
    ("compression", "native"),
    [
        ("none", "kNoCompression"),
        ("snappy", "kSnappyCompression"),
        ("zlib", "kZlibCompression"),
        ("lz4hc", "kLZ4HCCompression"),
        ("zstd", "kZSTD"),
    ],
)
def test_compression_is_per_family(
    tmp_path: Path, compression: Literal["none", "snappy", "zlib", "lz4hc", "zstd"], native: str
) -> None:
    """A family's own compression did not reach RocksDB, or its data do not come back."""
    path = tmp_path / "store"
    families = {"a": ColumnFamilyOptions(compression=compression), "b": ColumnFamilyOptions()}
    with open_backend(f"rocksdb:///{path}", families) as backend:
        backend.put("a", b"k", b"v" * 1000)
        backend.flush()
        found = sections(path)

        assert backend.get("a", b"k") == b"v" * 1000
    assert (found["a"]["compression"], found["b"]["compression"]) == (native, "kLZ4Compression")


def test_a_family_created_while_open_gets_its_options(tmp_path: Path) -> None:
    """``create_column_family`` on an open store ignored the options."""
    path = tmp_path / "store"
    with open_backend(f"rocksdb:///{path}") as backend:
        options = ColumnFamilyOptions(bloom="prefix", prefix_length=5, write_buffer_size="2MiB")
        backend.create_column_family("c", options)
        found = sections(path)

    assert found["c"]["prefix_extractor"].endswith("FixedPrefix.5")
    assert int(found["c"]["write_buffer_size"]) == 2 * MIB
    assert found["table:c"]["filter_policy"].startswith("bloomfilter")


def test_undeclared_families_keep_their_options_on_reopening(tmp_path: Path) -> None:
    """Reopening without declaring a family changed its options."""
    path = tmp_path / "store"
    families: Mapping[str, ColumnFamilyOptions] = {
        "p": ColumnFamilyOptions(bloom="prefix", prefix_length=7, write_buffer_size="3MiB", compression="zstd"),
        "f": ColumnFamilyOptions(compaction="fifo", fifo_max_size="5MiB"),
    }
    with open_backend(f"rocksdb:///{path}", families):
        before = sections(path)
    with open_backend(f"rocksdb:///{path}", ["other"]):
        after = sections(path)

    for family in ("p", "table:p", "f", "table:f"):
        assert after[family] == before[family]


def test_the_bloom_switch_reaches_undeclared_families(tmp_path: Path) -> None:
    """``bloom=off`` left the blooms of a family that was not declared on reopening."""
    path = tmp_path / "store"
    families = {"p": ColumnFamilyOptions(bloom="prefix", prefix_length=2), "f": ColumnFamilyOptions(bloom="full")}
    with open_backend(f"rocksdb:///{path}", families) as backend:
        backend.put("p", b"aa1", b"v")
    with open_backend(f"rocksdb:///{path}?bloom=off") as backend:
        backend.put("p", b"ac1", b"v")
        found = sections(path)

        assert [key for key, _ in backend.scan("p", b"ab")] == [b"ac1"]
    for name in families:
        assert found[f"table:{name}"]["filter_policy"] == "nullptr"
    assert not found["p"]["prefix_extractor"].endswith("FixedPrefix.2")


def test_fifo_with_a_bound_on_open_files_is_refused(tmp_path: Path) -> None:
    """``compaction="fifo"`` with ``max_open_files`` other than -1 was not refused."""
    families = {"f": ColumnFamilyOptions(compaction="fifo")}

    with pytest.raises(exc.ArgumentError, match="max_open_files=-1"):
        open_backend(f"rocksdb:///{tmp_path / 'store'}?max_open_files=100", families)


def test_an_undeclared_fifo_family_with_a_bound_on_open_files_is_refused(tmp_path: Path) -> None:
    """A FIFO family that was declared when the store was made escaped the check of ``max_open_files``."""
    url = f"rocksdb:///{tmp_path / 'store'}"
    open_backend(url, {"f": ColumnFamilyOptions(compaction="fifo")}).close()

    with pytest.raises(exc.ArgumentError, match="max_open_files=-1"):
        open_backend(f"{url}?max_open_files=100")


@pytest.mark.parametrize(("before", "after"), [("level", "fifo"), ("fifo", "level")])
def test_another_compaction_style_is_refused_before_data_are_lost(tmp_path: Path, before: Style, after: Style) -> None:
    """Reopening a family with another compaction style was not refused, or touched its data."""
    url = f"rocksdb:///{tmp_path / 'store'}"
    value = bytes(range(256)) * 400
    with open_backend(url, {"a": ColumnFamilyOptions(compaction=before, compression="none")}) as backend:
        for number in range(20):
            backend.put("a", b"%d" % number, value)
        backend.flush()

    with pytest.raises(exc.StoreFormatError, match="compaction"):
        open_backend(url, {"a": ColumnFamilyOptions(compaction=after, fifo_max_size="64KiB")})

    with open_backend(url) as backend:
        assert len(list(backend.scan("a"))) == 20


def test_another_bloom_or_prefix_length_is_allowed_on_reopening(tmp_path: Path) -> None:
    """Reopening with another bloom or prefix length lost rows from scans."""
    url = f"rocksdb:///{tmp_path / 'store'}"
    keys = [b"%03d-%03d" % (i // 10, i) for i in range(200)]
    for options in (
        ColumnFamilyOptions(bloom="prefix", prefix_length=3),
        ColumnFamilyOptions(bloom="prefix", prefix_length=5),
        ColumnFamilyOptions(bloom="full"),
        ColumnFamilyOptions(bloom="prefix", prefix_length=3),
    ):
        with open_backend(url, {"a": options}) as backend:
            for key in keys:
                backend.put("a", key, b"v")
            backend.flush()

            assert [key for key, _ in backend.scan("a")] == keys
            for length in (1, 3, 5, 7):
                found = [key for key, _ in backend.prefix_scan("a", keys[55][:length])]
                assert found == [key for key in keys if key.startswith(keys[55][:length])]


def test_the_block_cache_is_shared_by_all_families(tmp_path: Path) -> None:
    """Blocks of two families together outgrew the one cache of the store."""
    families = {name: ColumnFamilyOptions(compression="none") for name in "abcd"}
    with open_backend(f"rocksdb:///{tmp_path / 'store'}?block_cache_size=1MiB", families) as backend:
        value = bytes(1000)
        for name in families:
            batch = WriteBatch()
            for number in range(1000):
                batch.put(name, b"%06d" % number, value)
            backend.batch_write(batch)
        backend.flush()
        for name in families:
            assert sum(1 for _ in backend.scan(name)) == 1000

        assert 0 < backend.stats()["block_cache_bytes"] <= 2 * MIB


def test_more_threads_than_can_be_are_refused() -> None:
    """RocksDB starts its threads at once, and ends the process where one cannot be had."""
    with pytest.raises(exc.ArgumentError, match="max_background_jobs='1025' is too large; it must be 1024 or less"):
        open_backend("rocksdb:///nowhere?max_background_jobs=1025")


def test_as_many_levels_as_are_allowed_work(tmp_path: Path) -> None:
    """The bound is on what RocksDB can do; with a million levels it does not come to an end."""
    options = ColumnFamilyOptions(num_levels=100)
    with open_backend(f"rocksdb:///{tmp_path / 'store'}", {"a": options}) as backend:
        backend.put("a", b"k", b"v")
        backend.flush()
        backend.compact("a")

        assert backend.column_family_options("a").num_levels == 100
