"""What careful users of the storage layer tried, and found to be otherwise than they expected."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys

import pytest
from sqlalchemy import URL, Index, select

from kvdialect import Bytes32, Mapped, Session, create_engine, exc, field, mapped, open_backend, registry, restore
from kvdialect.storage.figures import CommitFigures

models = registry()


@mapped(models)
class Rec:
    __tablename__ = "recs"
    __table_args__ = (Index("by_val", "val", kvdialect_include=["text"]),)
    id: Mapped[int] = field(primary_key=True)
    code: Mapped[Bytes32] = field(unique=True)
    val: Mapped[int] = 0
    text: Mapped[str] = ""


# ------------------------------------------------------------------------------------------ interrupts


def test_an_interrupt_while_a_commit_is_counted_says_that_it_is_applied(url, monkeypatch):
    """A plain KeyboardInterrupt means that nothing was: who tries again would add a second time."""
    add = CommitFigures.add

    def interrupted(self, *args):
        signal.raise_signal(signal.SIGINT)
        add(self, *args)

    with open_backend(url, ["a"]) as backend:
        monkeypatch.setattr(CommitFigures, "add", interrupted)
        with pytest.raises(exc.CommitInterrupted) as caught:
            backend.put("a", b"k", b"v")
        monkeypatch.undo()

        assert caught.value.outcome == "applied"
        assert backend.get("a", b"k") == b"v"


@pytest.mark.engine("rocksdb")
def test_a_second_interrupt_while_the_first_is_told_of(tmp_path, monkeypatch):
    """It is the same one to the user, and hides nothing."""
    from kvdialect.storage.rocksdb.commit import Committer

    retire, write = Committer._retire, Committer._write

    def interrupted(self, *args):
        write(self, *args)
        signal.raise_signal(signal.SIGINT)

    def again(self, token):
        signal.raise_signal(signal.SIGINT)
        retire(self, token)

    with open_backend(f"rocksdb:///{tmp_path}/store", ["a"]) as backend:
        monkeypatch.setattr(Committer, "_write", interrupted)
        monkeypatch.setattr(Committer, "_retire", again)
        with pytest.raises(exc.CommitInterrupted):
            backend.put("a", b"k", b"v")
        monkeypatch.undo()
        assert backend.get("a", b"k") == b"v"


# ------------------------------------------------------------------------------------------ entries that lead nowhere


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("ix_recs_code", b"b" * 32, b""),
        ("ix_recs_code", b"b" * 32, b"x" * 600),
        ("by_val", (2**63 + 7).to_bytes(8, "big"), b"\x01\x00\x00\x90"),
    ],
)
def test_an_entry_that_leads_to_no_key_is_a_finding(url, family, key, value):
    """It ended the verification, and all that followed was not looked at; reading it was an error of the caller's."""
    with create_engine(url) as engine:
        models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(Rec(1, b"a" * 32))
        engine.backend.put(family, key, value)

        found = engine.verify(apart=False)
        assert {each.cf for each in found.findings} == {family}
        index, value = ("by_val", 7) if family == "by_val" else ("ix_recs_code", b"b" * 32)
        with Session(engine) as session, pytest.raises((exc.Corruption, exc.SerializationError)):
            session.lookup(index, value)
        with Session(engine) as session, pytest.raises((exc.Corruption, exc.SerializationError)):
            session.scalars(select(Rec).where(Rec.code == b"b" * 32 if index != "by_val" else Rec.val > 5)).all()

        engine.repair_indexes()
        assert engine.verify(apart=False).ok
        with Session(engine) as session:
            assert [rec.id for rec in session.scan("by_val")] == [1]


# ------------------------------------------------------------------------------------------ options and URLs


@pytest.mark.engine("lmdb")
@pytest.mark.parametrize("option", ["max_dbs=99999999", "max_dbs=2147483647", "max_readers=99999999", "max_readers=1"])
def test_options_that_lmdb_does_not_survive_are_refused(tmp_path, option):
    """It crashed, or the store could never be opened."""
    with pytest.raises(exc.ArgumentError, match=r"is too (large|small); it must be"):
        open_backend(f"lmdb:///{tmp_path}/store?{option}")


@pytest.mark.parametrize("given", ["unknown_thing", "mode", "mode=", "durability=&lock_timeout=1"])
def test_an_option_without_a_value_is_refused(url, given):
    """It was dropped without a word, and with it what it was to do."""
    with pytest.raises(exc.ArgumentError, match=r"(unknown_thing|mode|durability) has no value in "):
        open_backend(f"{url}?{given}")


@pytest.mark.parametrize("url", ["lmdb://ann:hunter2@db.example/x", "lmdb://ann:hunter2@db.example:port/x"])
def test_a_password_is_in_no_message(url):
    """Messages go to logs."""
    with pytest.raises(exc.ArgumentError) as caught:
        open_backend(url)
    assert "hunter2" not in str(caught.value)
    assert "ann:***@db.example" in str(caught.value)


def test_paths_that_are_no_text_are_refused(engine_name, tmp_path):
    """Two of them were one store, and others an error of Python's."""
    if engine_name == "memory":
        pytest.skip("a memory store has no path")
    with pytest.raises(exc.ArgumentError, match="not UTF-8"):
        open_backend(f"{engine_name}:///{tmp_path}/x%fe")
    with pytest.raises(exc.ArgumentError, match="not UTF-8"):
        open_backend(URL.create(engine_name, database=f"{tmp_path}/x\udcff"))
    with open_backend(f"{engine_name}:///{tmp_path}/%c3%a9", ["a"]):
        assert os.path.isdir(tmp_path / "é")


def test_families_with_control_characters_are_refused(url):
    """All of them: C1 and DEL too."""
    with open_backend(url) as backend:
        for character in "\x01\x7f\x85":
            with pytest.raises(exc.ArgumentError, match="control"):
                backend.create_column_family(f"a{character}")


def test_no_keys_of_an_unknown_family(url):
    """On every engine, of a snapshot too."""
    with open_backend(url) as backend, backend.snapshot() as snapshot:
        for reader in (backend, snapshot):
            with pytest.raises(exc.UnknownColumnFamily):
                reader.multi_get("nope", [])


# ------------------------------------------------------------------------------------------ directories


def test_a_directory_that_is_there_stays_the_same(engine_name, tmp_path, monkeypatch):
    """With its owner, rights and whoever stands in it: the store is made inside."""
    if engine_name == "memory":
        pytest.skip("a memory store has no path")
    place = tmp_path / "place"
    place.mkdir(mode=0o700)
    before = place.stat()
    monkeypatch.chdir(place)
    with open_backend(f"{engine_name}:///.", ["a"]) as backend:
        backend.put("a", b"k", b"v")
        with pytest.raises(exc.ArgumentError, match="path of the backup is empty"):
            backend.backup("")

    after = place.stat()
    assert (after.st_ino, stat.S_IMODE(after.st_mode)) == (before.st_ino, 0o700)
    assert os.path.samefile(os.getcwd(), place)
    with open_backend(f"{engine_name}:///{place}") as backend:
        assert backend.get("a", b"k") == b"v"
    with pytest.raises(exc.ArgumentError, match="path to restore to is empty"):
        restore(place, "")


def test_a_killed_creation_takes_nothing_of_others_with_it(engine_name, tmp_path):
    """Whoever uses the directory for something else meanwhile finds it again; what the creation has left goes."""
    if engine_name == "memory":
        pytest.skip("a memory store has no path")
    place = tmp_path / "place"
    place.mkdir()
    for step in ("_sync_tree", "_note_unfinished", "_write_marker"):
        program = f"""
import os, kvdialect.storage.storedir as dir
step, calls = dir.{step}, []
def killed(*args):
    calls.append(1)
    if len(calls) == 2 or {step!r} != "_note_unfinished":
        os._exit(9)
    step(*args)
dir.{step} = killed
from kvdialect import open_backend
open_backend("{engine_name}:///{place}", ["a"])
"""
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
        assert not (place / "KVDIALECT").exists()
        (place / "thesis").mkdir()
        (place / "thesis" / "chapter").write_text("my work")
        with pytest.raises(exc.NotAStore, match="has thesis beside what the interrupted creation"):
            open_backend(f"{engine_name}:///{place}", ["a"])
        assert (place / "thesis" / "chapter").read_text() == "my work"
        shutil.rmtree(place / "thesis")
    with open_backend(f"{engine_name}:///{place}", ["a"]) as backend:
        backend.put("a", b"k", b"v")
    assert not [name for name in os.listdir(place) if "creating" in name]


def test_a_full_disk_is_said_when_a_store_is_made(engine_name, tmp_path, monkeypatch):
    """By name, with the path that was asked for, and not the one that it was to be made at."""
    if engine_name == "memory":
        pytest.skip("a memory store has no disk")
    if engine_name == "lmdb":
        import lmdb

        def full(path, **_):
            raise lmdb.DiskError(f"{path}: No space left on device")

        monkeypatch.setattr(lmdb, "open", full)
    else:
        import rocksdict

        def full(path, *_, **__):
            raise Exception(f"IO error: No space left on device: {path}/LOG")  # noqa: TRY002 - as the driver does

        monkeypatch.setattr(rocksdict, "Rdict", full)
    with pytest.raises(exc.DiskFull, match="the disk is full") as caught:
        open_backend(f"{engine_name}:///{tmp_path}/store")
    assert "creating" not in caught.value.message
    assert caught.value.path == f"{tmp_path}/store"
    assert os.listdir(tmp_path) == []


@pytest.mark.engine("lmdb")
def test_a_closed_snapshot_gives_its_slot_back_though_somebody_holds_it(tmp_path):
    """A list, a closure or a traceback that keeps it is no reader."""
    with open_backend(f"lmdb:///{tmp_path}/store?max_readers=5", ["a"]) as backend:
        kept = []
        for _ in range(20):
            snapshot = backend.snapshot()
            get, scan = snapshot.get, snapshot.scan("a")
            snapshot.close()
            kept += [snapshot, get, scan]
        assert backend.get("a", b"k") is None
        with pytest.raises(exc.StoreClosed):
            kept[1]("a", b"k")
        with pytest.raises(exc.StoreClosed):
            kept[0].multi_get("a", [b"k"])
