"""kvdialect copy: from one engine to another, of one moment, verified, and gone on with after it was cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from cli_records import Newer, Part, contents, index_of_price, json_of, make, parts, run

from kvdialect import ColumnFamilyOptions, Session, create_engine, exc
from kvdialect.storage import WriteBatch, open_backend
from kvdialect.store import copying
from kvdialect.store.copying import StoreCopy, unfinished

pytest.importorskip("apsw", reason="the stores have tables made by SQL; runs where full is installed")

pytestmark = [pytest.mark.engine("lmdb"), pytest.mark.engine("rocksdb")]


@pytest.fixture
def source(tmp_path):
    """The path of a closed LMDB store."""
    make(f"lmdb:///{tmp_path}/source")
    return tmp_path / "source"


def test_a_copy_on_another_engine_has_all_of_the_store(source, tmp_path):
    """Rows of every type and version, tables of SQL, views, indexes, counts, ids, other families; and back."""
    found = json_of("copy", source, f"rocksdb:///{tmp_path}/copy")
    assert found["tables"] == {"aged": 4, "everything": 6, "keyed": 3, "parts": 30, "plain": 3, "towns": 11}
    assert found["other families"] == {"own": 1}
    run("copy", tmp_path / "copy", f"lmdb:///{tmp_path}/back")

    wanted = contents(f"lmdb:///{source}")
    assert contents(f"rocksdb:///{tmp_path}/copy") == wanted
    assert contents(f"lmdb:///{tmp_path}/back") == wanted
    assert not [name for name in os.listdir(tmp_path) if "copying" in name]
    with create_engine(f"lmdb:///{tmp_path}/back") as engine:
        assert engine.backend.get("own", b"key") == b"value"
        assert unfinished(engine.backend) is None
        with Session(engine) as session, session.begin():
            session.add(late := Newer(word="late"))
            session.flush()
            assert late.id > 4, "no id is given out twice"
        assert {index.name for index in engine.table("parts").definition.indexes} == {"by_name", "dear", "extra"}
        assert engine.catalog.entries["parts"].extra == {"extra"}


def test_families_of_no_table_keep_their_options(tmp_path):
    """Those that the source keeps and the target's engine takes: RocksDB's files and buffers, LMDB's places."""
    tuned = ColumnFamilyOptions(
        bloom="prefix", prefix_length=5, compression="zstd", write_buffer_size="3MiB", num_levels=4
    )
    cache = ColumnFamilyOptions(compaction="fifo", fifo_max_size="77MiB", bloom="full")
    with open_backend(f"rocksdb:///{tmp_path}/rocks", column_families={"tuned": tuned, "cache": cache}) as backend:
        backend.batch_write(WriteBatch().put("cache", b"k", b"v").put("tuned", b"k", b"v"))
    places = {name: ColumnFamilyOptions(lmdb_database="shared", lmdb_tag=at) for at, name in enumerate(("one", "two"))}
    with open_backend(f"lmdb:///{tmp_path}/lmdb", column_families=places) as backend:
        backend.batch_write(WriteBatch().put("one", b"k", b"v").put("two", b"k", b"v"))

    for source, engine, wanted in (
        ("rocks", "rocksdb", {"cache": cache, "tuned": tuned}),
        ("lmdb", "lmdb", places),
        ("rocks", "lmdb", {"cache": ColumnFamilyOptions(), "tuned": ColumnFamilyOptions()}),
        ("lmdb", "rocksdb", {"one": ColumnFamilyOptions(), "two": ColumnFamilyOptions()}),
    ):
        url = f"{engine}:///{tmp_path}/{source}-{engine}"
        run("copy", tmp_path / source, url)
        with open_backend(url) as backend:
            assert {name: backend.column_family_options(name) for name in backend.column_families()} == wanted
            assert [list(backend.scan(name)) for name in wanted] == [[(b"k", b"v")]] * 2


def test_a_copy_that_was_cut_off_goes_on(source, tmp_path, monkeypatch):
    """Ctrl-C between two batches: nothing is at the target, and the second run writes only what is missing."""
    monkeypatch.setattr(copying, "_ROWS", 4)
    told = []

    def interrupt(_self, what, done, _total):
        told.append((what, done))
        if what == "copy parts" and done == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr(StoreCopy, "_tell", interrupt)
    command = ("copy", source, f"rocksdb:///{tmp_path}/copy")
    result = run(*command, code=130)
    assert "the same command goes on from there" in result.stderr
    assert not (tmp_path / "copy").exists()
    assert "a copy of lmdb:" in run("info", tmp_path / "copy.copying").stdout

    monkeypatch.setattr(StoreCopy, "_tell", lambda _self, what, done, _total: told.append((what, done)))
    told.clear()
    found = json_of(*command)
    assert found["rows of an earlier run"] == 4 + 6 + 3 + 12
    assert ("compare parts", 12) in told
    assert [done for what, done in told if what == "copy parts"] == [16, 20, 24, 28, 30]
    assert contents(f"rocksdb:///{tmp_path}/copy") == contents(f"lmdb:///{source}")


@pytest.mark.parametrize("change", ["a row that was copied", "a row to come", "a table"])
def test_a_copy_goes_on_only_if_what_it_has_is_the_sources(source, tmp_path, monkeypatch, change):
    """What was copied and has changed since: it is begun afresh, and says so. What was not copied yet may change."""
    monkeypatch.setattr(copying, "_ROWS", 4)
    original = StoreCopy._tell

    def interrupt(_self, what, done, _total):
        if what == "copy parts" and done == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr(StoreCopy, "_tell", interrupt)
    command = ("copy", source, f"lmdb:///{tmp_path}/copy")
    run(*command, code=130)
    monkeypatch.setattr(StoreCopy, "_tell", original)
    with create_engine(f"lmdb:///{source}") as engine:
        if change == "a table":
            engine.create_index("parts", index_of_price("more"))
        else:
            with Session(engine) as session, session.begin():
                n = 3 if change == "a row that was copied" else 20
                session.get_one(Part, (n.to_bytes(4), -n)).name = "changed"

    result = run(*command)
    assert ("begun afresh" in result.stderr) == (change != "a row to come")
    assert contents(f"lmdb:///{tmp_path}/copy") == contents(f"lmdb:///{source}")


def test_a_copy_that_lost_a_row_is_refused(source, tmp_path, monkeypatch):
    """What was written is read back: a difference is an error, and nothing is at the target."""
    original = StoreCopy._verify

    def damaged(self):
        table = self.target.table("parts")
        key, value = next(self.target.backend.scan("parts"))
        self.target.backend.put(table.family, key, value[:-1] + bytes([value[-1] ^ 1]))
        original(self)

    monkeypatch.setattr(StoreCopy, "_verify", damaged)
    with pytest.raises(exc.Corruption, match="the checksum of its 30 rows is not that of what was copied"):
        run("copy", source, f"rocksdb:///{tmp_path}/copy")
    assert not (tmp_path / "copy").exists()


def test_where_something_is_nothing_is_copied(source, tmp_path):
    with pytest.raises(exc.ArgumentError, match="there is a store at"):
        run("copy", source, f"lmdb:///{source}")
    with pytest.raises(exc.ArgumentError, match="says no engine; give a URL"):
        run("copy", source, tmp_path / "copy")
    with pytest.raises(exc.ArgumentError, match="would end with this process"):
        run("copy", source, "memory://")
    with create_engine(f"lmdb:///{tmp_path}/copy.copying") as engine:
        parts.create_all(engine)
    with pytest.raises(exc.ArgumentError, match="that no copy has put there"):
        run("copy", source, f"lmdb:///{tmp_path}/copy")
    (tmp_path / "file").write_text("text")
    with pytest.raises(exc.NotAStore):
        run("copy", source, f"lmdb:///{tmp_path}/file")


def test_a_copy_beside_a_program_that_writes(source, tmp_path):
    """All of it is of one moment: the two counters that each commit raises together are equal in the copy."""
    program = (
        "from kvdialect import create_engine\nfrom kvdialect.storage import WriteBatch\n"
        f"engine = create_engine({f'lmdb:///{source}'!r})\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    raw = n.to_bytes(8)\n"
        "    engine.backend.batch_write(WriteBatch().put('own', b'a', raw).put('own', b'z', raw))\n"
        "    if n == 1: print('on', flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "on\n"
        run("copy", source, f"rocksdb:///{tmp_path}/copy")
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    with create_engine(f"rocksdb:///{tmp_path}/copy") as engine:
        first = engine.backend.get("own", b"a")
        assert first is not None
        assert first == engine.backend.get("own", b"z")
