"""Options: sizes, switches, near matches, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdialect import ColumnFamilyOptions, exc, open_backend
from kvdialect.storage import StoreOptions, parse_size, parse_store_options

SIZES = {
    0: 0,
    4096: 4096,
    "4096": 4096,
    "4096B": 4096,
    "1KiB": 1024,
    "1kb": 1000,
    "64MiB": 64 << 20,
    "64 MiB": 64 << 20,
    "64m": 64 << 20,
    "1GiB": 1 << 30,
    "1gb": 10**9,
    "2TiB": 2 << 40,
    "0.5GiB": 1 << 29,
    " 10 kib ": 10240,
}


@pytest.mark.parametrize(("text", "size"), SIZES.items(), ids=map(repr, SIZES))
def test_sizes_are_understood(text, size):
    """A size is an int or a number with a unit."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", [-1, "", "MiB", "64XiB", "-5", "1.0001KiB", "1e3", "0x10", "1,000", None, 1.5, True, b"64MiB"], ids=repr
)
def test_what_is_no_size_is_refused(text):
    """The message shows what was given and how a size looks."""
    with pytest.raises(exc.ArgumentError, match='no size; give bytes as an int, or a string such as "64MiB"') as caught:
        parse_size(text, "write_buffer_size")

    assert "write_buffer_size=" in str(caught.value)


@given(st.integers(0, 2**31), st.sampled_from([("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)]))
def test_size_with_a_unit_is_the_number_times_the_unit(number, unit):
    """Sizes are exact, up to the largest allowed, below 4 EiB."""
    name, shift = unit

    assert parse_size(f"{number}{name}") == number << shift


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"durabilty": "sync"}, r"unknown option of test: 'durabilty' \(did you mean 'durability'\?\); allowed: "),
        ({"Durability": "sync"}, "did you mean 'durability'"),
        ({"zzz": "1"}, "unknown option of test: 'zzz'; allowed: bloom, check_files, checksum, durability"),
        ({"durability": "synk"}, r"durability='synk' is not known \(did you mean 'sync'\?\); allowed: sync, wal, none"),
        ({"durability": ("sync", "wal")}, "'durability' is given 2 times; give it once"),
        ({"mode": "w"}, "allowed: rw, ro"),
        ({"lock_timeout": "-1"}, "no number of seconds"),
        ({"lock_timeout": "soon"}, "no number of seconds"),
        ({"lock_timeout": "nan"}, "no number of seconds"),
        ({"lock_timeout": "inf"}, "no number of seconds"),
        ({"checksum": "maybe"}, "no switch; give on or off"),
        ({"max_batch_bytes": "much"}, "max_batch_bytes='much' is no size"),
        ({"sync": "off"}, "option 'sync' of test is refused: say what a commit promises with durability="),
        ({"ttl": "5"}, "option 'ttl' of test is refused"),
        ({"compaction": "fifo"}, "an option of a column family"),
    ],
)
def test_store_option_that_is_not_understood_is_refused(given_options, message):
    """With the near match, or with what is allowed, or with the reason."""
    with pytest.raises(exc.ArgumentError, match=message):
        parse_store_options(StoreOptions, "test", given_options)


def test_store_options_take_text_and_values_alike():
    """A URL's query gives text, keyword arguments give values."""
    text = {"lock_timeout": "2.5", "checksum": "off", "max_batch_bytes": "1MiB", "max_snapshot_age": "60", "bloom": "0"}
    values = {
        "lock_timeout": 2.5,
        "checksum": False,
        "max_batch_bytes": 1 << 20,
        "max_snapshot_age": 60,
        "bloom": False,
    }

    assert parse_store_options(StoreOptions, "test", text) == parse_store_options(StoreOptions, "test", values)


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"blom": "full"}, "unknown column family option: 'blom' .did you mean 'bloom'"),
        ({"bloom": "ful"}, "did you mean 'full'"),
        ({"compaction": "universal"}, "allowed: level, fifo"),
        ({"compression": "gzip"}, "allowed: none, snappy, zlib"),
        ({"write_buffer_size": "64 Mebibytes"}, "no size"),
        ({"max_write_buffer_number": 0}, "too small; it must be 1 or more"),
        ({"max_write_buffer_number": "two"}, "no whole number"),
        ({"num_levels": 101}, "num_levels=101 is too large; it must be 100 or less"),
        ({"lmdb_tag": 256}, "an int from 0 to 255"),
        ({"lmdb_tag": -1}, "an int from 0 to 255"),
        ({"lmdb_tag": True}, "an int from 0 to 255"),
        ({"lmdb_tag": "1"}, "an int from 0 to 255"),
    ],
)
def test_family_option_that_is_not_understood_is_refused(given_options, message):
    """The same for the options of a column family."""
    with pytest.raises(exc.ArgumentError, match=message):
        ColumnFamilyOptions(**given_options)


def test_family_options_are_values():
    """Equal options are equal, sizes in either spelling, and cannot be changed."""
    options = ColumnFamilyOptions(bloom=None, write_buffer_size="1MiB")

    assert options == ColumnFamilyOptions(bloom="none", write_buffer_size=1 << 20)
    with pytest.raises(AttributeError):
        options.bloom = "full"


BAD_NAMES = ["", "default", "kvdialect", "a\0b", "tab\t", "x" * 129, "ü" * 65, "\ud800", 5, None, b"a"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_family_name_that_no_engine_takes_is_refused(name):
    """At opening and at creation alike, before anything is made."""
    with pytest.raises(exc.ArgumentError, match="column family name"):
        open_backend("memory://", {name: ColumnFamilyOptions()})
    with open_backend("memory://") as backend:
        with pytest.raises(exc.ArgumentError, match="column family name"):
            backend.create_column_family(name)
        assert backend.column_families() == []


@pytest.mark.parametrize("name", ["a", "x" * 128, "späti", "with space", "a/b", "..", "f", "e", "t", "鍵"])
def test_family_name_that_every_engine_takes_works(engine_name, tmp_path, name):
    """Names of up to 128 bytes without control characters are stored and listed as they are."""
    url = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store"
    with open_backend(url, [name]) as backend:
        backend.put(name, b"k", b"v")

        assert backend.column_families() == [name]
        assert backend.get(name, b"k") == b"v"


@pytest.mark.parametrize(
    ("families", "message"),
    [
        ("coins", "is a str; give a mapping or a list of names"),
        ({"a": "full"}, "give ColumnFamilyOptions"),
        ({"a": {"bloom": "full"}}, "give ColumnFamilyOptions"),
    ],
)
def test_families_given_in_a_wrong_form_are_refused(families, message):
    """A str is not taken for a list of one-letter names."""
    with pytest.raises(exc.ArgumentError, match=message):
        open_backend("memory://", families)


def test_options_of_the_call_override_those_of_the_url():
    """Keyword arguments win over the query."""
    with open_backend("memory://?max_batch_bytes=1", ["a"], max_batch_bytes="1MiB") as backend:
        backend.put("a", b"key", b"value")

        assert backend.get("a", b"key") == b"value"
