"""Stores opened twice, with other settings, for reading, or with unsafe options (hazards 18, 19, 25)."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from kvdialect import ColumnFamilyOptions, exc, open_backend
from kvdialect.storage.storedir import MARKER
from kvdialect.testing.coinstore import COIN_FAMILIES

pytestmark = pytest.mark.engine("lmdb")


def rewrite_marker(path, **changes):
    file = Path(path, MARKER)
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


# ---- opened with other settings


def test_store_of_another_engine_is_refused(url, path):
    """The marker says which engine a directory belongs to."""
    open_backend(url).close()
    rewrite_marker(path, engine="rocksdb")

    with pytest.raises(exc.StoreFormatError, match="belongs to rocksdb, not lmdb"):
        open_backend(url)


def test_store_of_a_newer_format_is_refused(url, path):
    """A release that does not know a format does not touch it."""
    open_backend(url).close()
    rewrite_marker(path, format=99)
    before = Path(path, "data.mdb").read_bytes()

    with pytest.raises(exc.StoreFormatError, match="storage format 99; this release reads up to 1"):
        open_backend(url)

    assert Path(path, "data.mdb").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "x"}', '{"format": 1}', "\xff"])
def test_unreadable_marker_is_named(url, path, text):
    """A damaged marker is not taken for an empty directory."""
    open_backend(url).close()
    Path(path, MARKER).write_text(text)

    with pytest.raises(exc.StoreFormatError, match=MARKER):
        open_backend(url)


@pytest.mark.parametrize(("created", "opened"), [("on", "off"), ("off", "on")])
def test_checksum_setting_is_fixed(url, created, opened):
    """Opening with the other setting would cut bytes off values, or not find its checksums."""
    with open_backend(f"{url}?checksum={created}", ["a"]) as backend:
        backend.put("a", b"k", b"value")

    with pytest.raises(exc.StoreFormatError, match=f"created with checksum={created}"):
        open_backend(f"{url}?checksum={opened}")

    with open_backend(url) as backend:
        assert backend.get("a", b"k") == b"value"


@pytest.mark.parametrize(
    "changed",
    [
        ColumnFamilyOptions(lmdb_database="other", lmdb_tag=1),
        ColumnFamilyOptions(lmdb_database="shared", lmdb_tag=2),
        ColumnFamilyOptions(lmdb_database="shared"),
        ColumnFamilyOptions(),
    ],
    ids=["database", "tag", "no tag", "neither"],
)
def test_place_of_a_family_is_fixed(url, changed):
    """A family declared at another place would look empty."""
    with open_backend(url, {"a": ColumnFamilyOptions(lmdb_database="shared", lmdb_tag=1)}) as backend:
        backend.put("a", b"k", b"v")

    with pytest.raises(exc.StoreFormatError, match="may not change"):
        open_backend(url, {"a": changed})

    with open_backend(url) as backend:
        assert backend.get("a", b"k") == b"v"


def test_other_options_of_a_family_may_change(url):
    """What LMDB has no use for does not keep a store from opening."""
    with open_backend(url, {"a": ColumnFamilyOptions(bloom="full")}) as backend:
        backend.put("a", b"k", b"v")

    with open_backend(url, {"a": ColumnFamilyOptions(bloom="prefix", compaction="fifo")}) as backend:
        assert backend.get("a", b"k") == b"v"


COLLISIONS = {
    "same tag": [("shared", 1), ("shared", 1)],
    "tagged, then not": [("shared", 1), ("shared", None)],
    "not, then tagged": [("shared", None), ("shared", 1)],
    "another's own name": [(None, None), ("a", None)],
    "the library's": [("kvdialect", None)],
}


@pytest.mark.parametrize("places", COLLISIONS.values(), ids=COLLISIONS)
def test_families_that_would_mix_are_refused(url, places):
    """Two families never share keys."""
    options = [ColumnFamilyOptions(lmdb_database=database, lmdb_tag=tag) for database, tag in places]

    with pytest.raises(exc.ArgumentError, match=r"collides|library's own"):
        open_backend(url, dict(zip("ab", options, strict=False)))


def test_lmdb_environment_of_another_program_is_no_store(path):
    """A directory with LMDB's files but no marker is left alone."""
    with lmdb.open(path) as env, env.begin(write=True) as txn:
        txn.put(b"k", b"v")

    with pytest.raises(exc.NotAStore, match="no KVDIALECT file"):
        open_backend(f"lmdb:///{path}")

    assert sorted(os.listdir(path)) == ["data.mdb", "lock.mdb"]


# ---- opened twice


def test_one_engine_per_path_in_a_process(url, path, tmp_path, monkeypatch):
    """LMDB must not open a path twice in a process: every spelling of it shares one engine, until the last close."""
    (tmp_path / "link").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    spellings = [url, f"lmdb:///{tmp_path}/./store", f"lmdb:///{tmp_path}/link", "lmdb:///store"]
    handles = [open_backend(spelling, ["a"]) for spelling in spellings]

    assert len({handle.engine for handle in handles}) == 1
    handles[0].put("a", b"k", b"v")
    for handle in handles[:-1]:
        handle.close()
        with pytest.raises(exc.StoreClosed):
            handle.get("a", b"k")
    assert handles[-1].get("a", b"k") == b"v"
    handles[-1].close()
    with lmdb.open(path, max_dbs=4):
        pass


def test_path_opened_by_the_driver_itself_is_a_typed_error(url, path):
    """Where other code of the process has the same environment open, this library says so."""
    open_backend(url).close()

    with lmdb.open(path, max_dbs=4), pytest.raises(exc.BackendError) as caught:
        open_backend(url)

    assert caught.value.path == path


def test_second_open_with_other_options_is_refused(url):
    """Options of an open store cannot be changed by opening it again."""
    with open_backend(f"{url}?durability=none"):
        with pytest.raises(exc.ArgumentError, match="durability='none', not 'sync'"):
            open_backend(url)
        with open_backend(f"{url}?durability=none"):
            pass


def test_two_stores_are_independent(tmp_path):
    """Two paths are two stores."""
    with open_backend(f"lmdb:///{tmp_path}/x", ["a"]) as one, open_backend(f"lmdb:///{tmp_path}/y", ["a"]) as two:
        one.put("a", b"k", b"1")
        two.put("a", b"k", b"2")

        assert (one.get("a", b"k"), two.get("a", b"k")) == (b"1", b"2")


def test_failed_open_leaves_nothing_open(url, path):
    """After an open that failed late, the path can be opened and no file descriptor was left behind."""
    open_backend(url, {"a": ColumnFamilyOptions(lmdb_database="x", lmdb_tag=1)}).close()
    if os.path.isdir("/proc/self/fd"):
        before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(exc.StoreFormatError):
            open_backend(url, ["a"])

    if os.path.isdir("/proc/self/fd"):
        assert len(os.listdir("/proc/self/fd")) == before
    with lmdb.open(path, max_dbs=4):
        pass


# ---- opened for reading

WRITES = {
    "put": lambda backend: backend.put("a", b"k", b"w"),
    "delete": lambda backend: backend.delete("a", b"k"),
    "create_column_family": lambda backend: backend.create_column_family("b"),
    "drop_column_family": lambda backend: backend.drop_column_family("a"),
    "flush": lambda backend: backend.flush(),
    "compact": lambda backend: backend.compact("a"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("beside_writer", [True, False])
def test_reader_does_not_write(url, write, beside_writer):
    """mode=ro refuses every write, also where another handle of the process may write."""
    writer = open_backend(url, ["a"])
    writer.put("a", b"k", b"v")
    if not beside_writer:
        writer.close()

    with open_backend(f"{url}?mode=ro") as reader:
        assert not reader.capabilities.writable
        with pytest.raises(exc.ReadOnlyStore, match="needs mode=rw"):
            write(reader)

        assert reader.get("a", b"k") == b"v"
        assert list(reader.scan("a")) == [(b"k", b"v")]
        assert reader.column_families() == ["a"]
    writer.close()


def test_reader_of_a_missing_store_says_so(url, path):
    """mode=ro creates nothing."""
    with pytest.raises(exc.NotAStore, match="mode=rw creates one"):
        open_backend(f"{url}?mode=ro")

    assert not os.path.exists(path)


def test_reader_first_keeps_a_writer_of_the_process_out(url):
    """A store open with mode=ro in this process says why it cannot be opened for writing, and stays open."""
    with open_backend(url, ["a"]) as backend:
        backend.put("a", b"k", b"v")
    with open_backend(f"{url}?mode=ro") as reader:
        with pytest.raises(exc.ArgumentError, match="close it"):
            open_backend(url)

        assert reader.get("a", b"k") == b"v"
    open_backend(url).close()


def test_reader_sees_what_another_process_commits(start, url):
    """A reader follows the writer, new families included."""
    with open_backend(url, ["a"]) as backend:
        reader = start(
            """
            backend = open_backend(URL + "?mode=ro")
            for line in sys.stdin:
                print(backend.get("a", b"k"), backend.column_families(), flush=True)
            """,
            url,
        )
        for number in range(3):
            backend.put("a", b"k", b"%d" % number)
            backend.create_column_family(f"f{number}")
            reader.tell()

            families = ["a"] + [f"f{n}" for n in range(number + 1)]
            assert reader.line() == f"{b'%d' % number} {families}"


def test_declared_families_of_a_reader_are_not_created(url):
    """A reader that declares a family which is not there reads the others, and UnknownColumnFamily for that one."""
    open_backend(url, ["a"]).close()

    with open_backend(f"{url}?mode=ro", ["a", "b"]) as reader:
        assert reader.column_families() == ["a"]
        with pytest.raises(exc.UnknownColumnFamily):
            reader.get("b", b"k")


# ---- unsafe options

UNSAFE = ["sync", "metasync", "map_async", "lock", "writemap", "buffers", "integerkey", "dupsort", "subdir", "ttl"]


@pytest.mark.parametrize("option", UNSAFE)
def test_driver_option_that_can_lose_data_is_refused(url, path, option):
    """The message says why, or what to say instead; nothing is created."""
    with pytest.raises(exc.ArgumentError, match=f"option '{option}' of lmdb is refused: .{{10}}"):
        open_backend(f"{url}?{option}=true")

    assert not os.path.exists(path)


def test_unsafe_options_work_where_they_are_named(url):
    """Whoever says unsafe_ gets it."""
    with open_backend(f"{url}?unsafe_writemap=on&unsafe_no_lock=on&map_size=1MiB", ["a"]) as backend:
        backend.put("a", b"k", b"v")

        flags = backend.engine.env.flags()
        assert flags["writemap"]
        assert not flags["lock"]
        assert backend.get("a", b"k") == b"v"


def test_safe_is_the_default(url):
    """Nothing unsafe is on unless it was asked for, and read-ahead and thread-bound readers are off."""
    with open_backend(url) as backend:
        flags = backend.engine.env.flags()
        info = backend.stats()

        assert all(flags[name] for name in ("sync", "metasync", "lock"))
        assert not any(flags[name] for name in ("writemap", "map_async", "readahead"))
        assert info["max_readers"] == 126
        assert info["map_size"] == 64 << 30


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("map_size=1KiB", "too small"),
        ("map_size=2MiB&max_map_size=1MiB", "below map_size"),
        ("map_size=lots", "is no size"),
        ("max_dbs=0", "too small"),
        ("max_readers=none", "no whole number"),
        ("mode=secondary", "mode='secondary' is not known"),
        ("map_sise=1MiB", "did you mean 'map_size'"),
    ],
)
def test_option_that_makes_no_sense_is_refused(url, path, query, message):
    """Each with its reason, before anything is created."""
    with pytest.raises(exc.ArgumentError, match=message):
        open_backend(f"{url}?{query}")

    assert not os.path.exists(path)


# ---- layout


def test_coin_store_has_exactly_its_six_databases(url, path):
    """The twelve families of the coin store lie in six named databases, beside the library's own."""
    with open_backend(url, COIN_FAMILIES) as backend:
        assert backend.column_families() == sorted(COIN_FAMILIES)
        for number, name in enumerate(COIN_FAMILIES):
            backend.put(name, b"key", b"%d" % number)

    with lmdb.open(path, max_dbs=20, readonly=True) as env:
        with env.begin() as txn:
            names = {name.decode() for name, _ in txn.cursor()}
        assert names - {"kvdialect"} == {"coins", "coins_by_ph", "hints", "hints_by_value", "snapshots", "metadata"}
        with env.begin(db=env.open_db(b"coins", create=False)) as txn:
            assert [key for key, _ in txn.cursor()] == [b"%ckey" % tag for tag in (1, 2, 3, 4, 5, 6)]
        with env.begin(db=env.open_db(b"hints", create=False)) as txn:
            assert [key for key, _ in txn.cursor()] == [b"key"]


def test_dropped_family_leaves_nothing_but_an_empty_database(url, path):
    """Also one that was dropped while a snapshot was open. The database stays, as others may have a handle of it."""
    with open_backend(url, ["a", "b", "c"]) as backend:
        backend.drop_column_family("b")
        snapshot = backend.snapshot()
        backend.drop_column_family("c")
        snapshot.close()
    with open_backend(url) as backend:
        assert backend.column_families() == ["a"]

    with lmdb.open(path, max_dbs=20, readonly=True) as env, env.begin() as txn:
        assert {name for name, _ in txn.cursor()} == {b"a", b"b", b"c", b"kvdialect"}
        assert [txn.stat(env.open_db(name, txn=txn))["entries"] for name in (b"b", b"c")] == [0, 0]


def test_family_that_another_process_dropped_is_made_again(url):
    """LMDB gave the handle of the old database, and what was written went nowhere."""
    with open_backend(url, ["a", "b"]) as backend:
        backend.put("a", b"old", b"v")
        program = "import sys; from kvdialect import open_backend\nopen_backend(sys.argv[1]).drop_column_family('a')"
        subprocess.run([sys.executable, "-c", program, url], check=True)
        backend.create_column_family("a")
        backend.put("a", b"new", b"1")
        assert list(backend.scan("a")) == [(b"new", b"1")]
    with open_backend(url) as backend:
        assert backend.column_families() == ["a", "b"]
        assert list(backend.scan("a")) == [(b"new", b"1")]
        assert list(backend.faults()) == []


def test_more_families_than_max_dbs(url):
    """A family that another process had made was a driver's error from every call."""
    with open_backend(f"{url}?max_dbs=3", ["a"]) as backend:
        backend.put("a", b"k", b"v")
        program = "import sys; from kvdialect import open_backend\nopen_backend(sys.argv[1], list('abcdefg')).close()"
        subprocess.run([sys.executable, "-c", program, url], check=True)
        with backend.snapshot() as snapshot:
            assert snapshot.get("a", b"k") == b"v"
        backend.put("a", b"l", b"w")
        assert [key for key, _ in backend.scan("a")] == [b"k", b"l"]
        left = sorted(set("abcdefg") - set(backend.column_families()))
        assert left
        with pytest.raises(exc.BackendError, match="max_dbs"):
            backend.get(left[0], b"k")
        with pytest.raises(exc.BackendError, match="max_dbs"):
            backend.create_column_family("z")


def test_files_of_a_store_lie_in_its_path(url, path):
    """The directory holds LMDB's own files, the marker and the lock, and nothing else; nothing lies beside it."""
    with open_backend(url, ["a"]) as backend:
        backend.put("a", b"k", b"v")

        assert sorted(os.listdir(path)) == ["KVDIALECT", "data.mdb", "kvdialect.lock", "lock.mdb"]
        assert os.listdir(os.path.dirname(path)) == ["store"]
        assert stat.S_ISDIR(os.stat(path).st_mode)
