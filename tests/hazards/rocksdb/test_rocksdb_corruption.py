"""Hazards 9 and 12: damaged files are an error, never a short scan, a wrong value or a silent loss."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvdialect import ColumnFamilyOptions, exc, open_backend
from kvdialect.storage import StorageBackend, WriteBatch
from kvdialect.storage.rocksdb import log as layout

pytestmark = pytest.mark.engine("rocksdb")

Start = Callable[[str], Any]
ROWS = 3000


def value(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest() * 4


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 3,000 rows in one uncompressed file of many blocks, closed."""
    path = tmp_path_factory.mktemp("sound") / "store"
    families = {"a": ColumnFamilyOptions(compression="none"), "b": ColumnFamilyOptions()}
    with open_backend(f"rocksdb:///{path}", families) as backend:
        batch = WriteBatch()
        for number in range(ROWS):
            batch.put("a", b"%05d" % number, value(number))
        backend.batch_write(batch)
        backend.flush()
        backend.compact("a")
    return path


@pytest.fixture
def damaged(sound: Path, path: Path) -> Path:
    """A copy of it, for damage."""
    shutil.copytree(sound, path)
    return path


def table(path: Path) -> Path:
    return max(path.glob("*.sst"), key=lambda file: file.stat().st_size)


def overwrite(file: Path, offset: int, data: bytes) -> None:
    with file.open("r+b") as handle:
        handle.seek(offset)
        handle.write(data)


def damage(path: Path, kind: str) -> None:
    file = table(path)
    middle = file.read_bytes().index(value(ROWS // 2))
    if kind == "flipped bit":
        overwrite(file, middle, bytes([value(ROWS // 2)[0] ^ 1]))
    else:
        overwrite(file, middle - middle % 4096, bytes(8192))


def read_all(pairs: Any) -> tuple[list[tuple[bytes, bytes]], BaseException | None]:
    """What a scan gave, and what ended it."""
    found = []
    try:
        for pair in pairs:
            found.append(pair)  # noqa: PERF402 - what came before the error counts
    except exc.Error as error:
        return found, error
    return found, None


@pytest.mark.parametrize("kind", ["flipped bit", "zeroed blocks"])
def test_a_value_in_a_damaged_block_is_corruption(damaged: Path, url: str, kind: str) -> None:
    """A read of a damaged block gave None or a wrong value instead of Corruption."""
    damage(damaged, kind)
    lost: list[bytes] = []
    named: list[tuple[object, object]] = []
    with open_backend(url) as backend:
        for number in range(ROWS):
            key = b"%05d" % number
            try:
                assert backend.get("a", key) == value(number)
            except exc.Corruption as error:
                lost.append(key)
                named.append((error.facts["cf"], error.facts["key"]))
        assert 0 < len(lost) < 200
        assert named == [("a", key) for key in lost]
        with pytest.raises(exc.Corruption):
            backend.multi_get("a", [b"00000", lost[0]])
        with backend.snapshot() as snapshot:
            backend.put("b", b"k", b"v")
            with pytest.raises(exc.Corruption):
                snapshot.get("a", lost[0])
            with pytest.raises(exc.Corruption):
                snapshot.multi_get("a", [lost[0]])


@pytest.mark.parametrize("kind", ["flipped bit", "zeroed blocks"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("pinned", [False, True], ids=["live", "pinned"])
def test_a_scan_over_a_damaged_block_ends_in_corruption(
    damaged: Path, url: str, kind: str, reverse: bool, pinned: bool
) -> None:
    """A scan ended early without an error (the driver's iterator hides it), or gave a wrong row."""
    damage(damaged, kind)
    wanted = [(b"%05d" % number, value(number)) for number in range(ROWS)][:: -1 if reverse else 1]
    with open_backend(url) as backend, backend.snapshot() as snapshot:
        if pinned:
            backend.put("a", b"99999", b"later")
        found, error = read_all(snapshot.scan("a", reverse=reverse))

        assert isinstance(error, exc.Corruption)
        assert "scan incomplete" in str(error)
        assert found == wanted[: len(found)]
        assert len(found) < ROWS


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_scan_of_a_range_that_begins_in_damage_is_corruption(damaged: Path, url: str, reverse: bool) -> None:
    """A range of which not one row could be read came out empty."""
    damage(damaged, "zeroed blocks")
    with open_backend(url) as backend:
        start, stop = b"%05d" % (ROWS // 2), b"%05d" % (ROWS // 2 + 2)
        found, error = read_all(backend.scan("a", start, stop, reverse=reverse))

    assert (found, type(error)) == ([], exc.Corruption)


def test_sound_ranges_of_a_damaged_store_still_read(damaged: Path, url: str) -> None:
    """Damage in one block made ranges elsewhere unreadable."""
    damage(damaged, "zeroed blocks")
    with open_backend(url) as backend:
        assert [n for n in range(1000) if backend.get("a", b"%05d" % n) != value(n)] == []
        assert sum(1 for _ in backend.scan("a", b"00100", b"01000")) == 900
        assert sum(1 for _ in backend.scan("a", b"02000", b"02900", reverse=True)) == 900


def test_an_error_of_a_scan_does_not_keep_the_store_open(damaged: Path, url: str) -> None:
    """A Corruption that the program keeps (with the iterator in its traceback) left the closed store locked."""
    damage(damaged, "zeroed blocks")
    kept = []
    for _ in range(2):
        with open_backend(url) as backend, backend.snapshot() as snapshot:
            kept += [read_all(backend.scan("a"))[1], read_all(snapshot.scan("a", reverse=True))[1]]
            backend.put("b", b"k", b"v")
            kept += [read_all(snapshot.scan("a"))[1]]
        with open_backend(url) as backend, backend.snapshot() as snapshot, pytest.raises(exc.Corruption) as caught:
            snapshot.first_pairs("a", b"%05d" % (ROWS // 2), None, 5)
        kept.append(caught.value)

    assert [type(error) for error in kept] == [exc.Corruption] * 8


@pytest.mark.parametrize("kind", ["flipped bit", "zeroed blocks"])
def test_short_ranges_of_a_damaged_store_are_whole_or_corruption(damaged: Path, url: str, kind: str) -> None:
    """A range that is read at once may end in a damaged block, or begin in one."""
    damage(damaged, kind)
    refused = 0
    with open_backend(url) as backend, backend.snapshot() as snapshot:
        for number in range(ROWS // 2 - 60, ROWS // 2 + 60, 5):
            for count in (1, 20, 30):
                try:
                    pairs = snapshot.first_pairs("a", b"%05d" % number, b"%05d" % (number + count), 64)
                except exc.Corruption:
                    refused += 1
                else:
                    assert pairs == [(b"%05d" % at, value(at)) for at in range(number, number + count)]

    assert 0 < refused < 72


@pytest.mark.parametrize("seed", range(6))
def test_random_damage_never_gives_a_wrong_row(damaged: Path, process: Start, seed: int) -> None:
    """Random flips in a table file gave a row that was never written, or a scan shorter than its silence."""
    rng = random.Random(seed)
    file = table(damaged)
    size = file.stat().st_size
    for _ in range(3):
        overwrite(file, rng.randrange(size), rng.randbytes(rng.choice([1, 16, 300])))
    other = process(
        f"""
        import hashlib
        def value(n):
            return hashlib.sha256(b"%d" % n).digest() * 4
        verdict = "fine"
        try:
            with open_backend(URL) as backend:
                for reverse in (False, True):
                    found = []
                    try:
                        for key, got in backend.scan("a", reverse=reverse):
                            if got != value(int(key)):
                                verdict = "wrong value"
                            found.append(key)
                        if len(found) != {ROWS}:
                            verdict = "short scan"
                    except exc.Corruption:
                        pass
                for n in range(0, {ROWS}, 7):
                    try:
                        if backend.get("a", b"%05d" % n) != value(n):
                            verdict = "wrong get"
                    except exc.Corruption:
                        pass
        except exc.Corruption:
            pass
        say(verdict)
        """
    )

    assert other.finish() == ["fine"]


@pytest.mark.parametrize("left", [0, 1000, 100_000])
def test_a_truncated_table_file_is_corruption(damaged: Path, url: str, left: int) -> None:
    """A truncated table file was opened as if nothing were missing, or gave an untyped error."""
    file = table(damaged)
    with file.open("r+b") as handle:
        handle.truncate(left)

    with pytest.raises(exc.Corruption), open_backend(url) as backend:
        list(backend.scan("a"))


def test_a_missing_table_file_is_corruption(damaged: Path, url: str) -> None:
    """A store whose table file is gone was opened as if nothing were missing, or gave another error."""
    table(damaged).unlink()

    with pytest.raises(exc.Corruption), open_backend(url) as backend:
        list(backend.scan("a"))


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-*"])
@pytest.mark.parametrize("how", ["missing", "empty", "garbage"])
def test_a_store_without_its_manifest_is_a_typed_error(damaged: Path, url: str, name: str, how: str) -> None:
    """A missing or damaged CURRENT or MANIFEST made a new, empty store, or an error of no class of ours."""
    (file,) = damaged.glob(name)
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(b"" if how == "empty" else b"\x07garbage" * 50)

    with pytest.raises(exc.Corruption) as caught:
        open_backend(url)

    assert caught.value.engine == "rocksdb"
    assert caught.value.path == str(damaged)


# ------------------------------------------------------------------------------------ hazard 12: the write-ahead log


@pytest.fixture
def logged(process: Start, path: Path) -> Path:
    """A store of 500 commits, all of them in its log only, left by a killed process."""
    other = process(
        """
        backend = open_backend(URL, ["a", "b"])
        for number in range(500):
            backend.batch_write(WriteBatch().put("a", b"%04d" % number, b"v" * 100).put("b", b"%04d" % number, b""))
        say("done")
        input()
        """
    )
    assert other.line() == "done"
    other.kill()
    return path


def log(path: Path) -> Path:
    return max(path.glob("*.log"), key=lambda file: file.stat().st_size)


def contents(path: Path) -> dict[str, bytes]:
    # LOG is RocksDB's diary, the lock file names its last holder.
    diaries = ("LOG", "LOCK", "kvdialect.lock")
    return {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith(diaries)}


def rows(backend: StorageBackend) -> tuple[list[bytes], list[bytes]]:
    return [key for key, _ in backend.scan("a")], [key for key, _ in backend.scan("b")]


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_log_damaged_in_the_middle_is_refused_and_left_alone(logged: Path, url: str, where: float) -> None:
    """A damaged log was opened with acknowledged commits missing, or refusing it changed the store on disk."""
    file = log(logged)
    overwrite(file, int(file.stat().st_size * where), b"\xff" * 20)
    before = contents(logged)

    for _ in range(2):
        with pytest.raises(exc.Corruption):
            open_backend(url)
    assert contents(logged) == before


def test_a_torn_log_loses_only_the_unfinished_commit(logged: Path, url: str) -> None:
    """A log torn in its last record was refused, or lost more than that record, or tore the commit over families."""
    file = log(logged)
    with file.open("r+b") as handle:
        handle.truncate(file.stat().st_size - 10)

    with open_backend(url) as backend:
        in_a, in_b = rows(backend)

    assert in_a == in_b == [b"%04d" % number for number in range(499)]


@pytest.mark.parametrize("mode", ["point_in_time", "skip_any"])
def test_a_damaged_log_opens_where_asked_for_by_name(logged: Path, url: str, mode: str) -> None:
    """``wal_recovery=`` by name did not open a damaged log, or left commits torn over families."""
    file = log(logged)
    overwrite(file, file.stat().st_size // 2, b"\xff" * 20)

    with open_backend(f"{url}?wal_recovery={mode}") as backend:
        in_a, in_b = rows(backend)
    assert in_a == in_b
    assert 100 < len(in_a) < 500


def test_a_torn_log_is_refused_where_asked_for_by_name(logged: Path, url: str) -> None:
    """``wal_recovery=absolute`` opened a torn log."""
    file = log(logged)
    with file.open("r+b") as handle:
        handle.truncate(file.stat().st_size - 10)

    with pytest.raises(exc.Corruption):
        open_backend(f"{url}?wal_recovery=absolute")


# ------------------------------------------------------------------------------------ a log whose end was never synced


@pytest.fixture
def torn(process: Start, path: Path) -> Path:
    """A store of 20 commits of 3 KB each, all of them in its log only, left by a killed process."""
    other = process(
        """
        backend = open_backend(URL, ["a", "b"])
        for number in range(20):
            backend.batch_write(WriteBatch().put("a", b"%04d" % number, b"v" * 3000).put("b", b"%04d" % number, b""))
        say("done")
        input()
        """
    )
    assert other.line() == "done"
    other.kill()
    return path


def unwritten(file: Path, behind: int) -> None:
    """Make a sector read as zeros, as one that never reached the disk: the last one that begins ``behind`` the end."""
    sector = (file.stat().st_size - behind) // 512 * 512
    overwrite(file, sector, bytes(512))


@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_a_last_commit_written_out_of_order_is_dropped(torn: Path, url: str, mode: str) -> None:
    """A power loss left a later sector of an unsynced commit without an earlier one, and the store did not open."""
    unwritten(log(torn), 1600)

    with open_backend(f"{url}?mode={mode}") as backend:
        in_a, in_b = rows(backend)

    assert in_a == in_b == [b"%04d" % number for number in range(19)]


def test_zeros_before_a_whole_commit_are_damage(torn: Path, url: str) -> None:
    """What was acknowledged before the last commit was synced: where it is gone the disk has lost it."""
    unwritten(log(torn), 3100 + 1600)
    before = contents(torn)

    with pytest.raises(exc.Corruption):
        open_backend(url)
    assert contents(torn) == before


def test_a_flipped_bit_in_the_last_commit_is_damage(torn: Path, url: str) -> None:
    """A commit that was acknowledged would be dropped without a word."""
    file = log(torn)
    overwrite(file, file.stat().st_size - 1600, b"V")

    with pytest.raises(exc.Corruption):
        open_backend(url)


def test_a_torn_end_behind_an_older_damage_opens_nothing(torn: Path, url: str) -> None:
    """The torn end is no excuse for what is missing before it."""
    unwritten(log(torn), 1600)
    overwrite(log(torn), 20_000, b"V")

    with pytest.raises(exc.Corruption):
        open_backend(url)


def last_commit(file: Path) -> int:
    """Where the last commit of a log begins."""
    _, last, _ = layout._walk(file.read_bytes())
    assert last is not None
    return last.offset


@pytest.mark.parametrize("part", ["first", "last"])
def test_a_last_commit_without_its_edge_is_dropped(torn: Path, url: str, part: str) -> None:
    """Zeros in the part of a sector that is a commit.s, and in no whole one, were taken for damage."""
    file = log(torn)
    begin, end = last_commit(file), file.stat().st_size
    if part == "first":
        overwrite(file, begin, bytes((begin // 512 + 1) * 512 - begin))
    else:
        overwrite(file, end // 512 * 512, bytes(end % 512))

    with open_backend(url) as backend:
        in_a, in_b = rows(backend)

    assert in_a == in_b == [b"%04d" % number for number in range(19)]


# ------------------------------------------------------------------------------------ a manifest likewise

FAMILIES = [f"f{number}" for number in range(9)]


@pytest.fixture
def unsynced(process: Start, path: Path) -> tuple[Path, int]:
    """A store in the middle of a flush: its log is there, and the end of its manifest was not synced.

    Returns:
        Its path, and how long the manifest was before the flush.
    """
    other = process(
        f"""
        backend = open_backend(URL, {FAMILIES})
        for number in range(50):
            batch = WriteBatch()
            for cf in {FAMILIES}:
                batch.put(cf, b"%04d" % number, b"v" * 100)
            backend.batch_write(batch)
        say("written")
        input()
        backend.flush()
        say("flushed")
        input()
        """
    )
    assert other.line() == "written"
    logs = {file: file.read_bytes() for file in path.glob("*.log")}
    size = manifest(path).stat().st_size
    other.go_on()
    assert other.line() == "flushed"
    other.kill()
    # RocksDB removes a log when the manifest that makes it superfluous was synced.
    assert not all(file.exists() for file in logs)
    for file, content in logs.items():
        file.write_bytes(content)
    assert manifest(path).stat().st_size > size + 1024
    return path, size


def manifest(path: Path) -> Path:
    return path / (path / "CURRENT").read_text().strip()


def tear(path: Path, size: int, zeros: int = 512) -> None:
    """End the manifest in a sector that was not written, which cuts an edit behind ``size`` in two."""
    file = manifest(path)
    border = (size // 512 + 1) * 512
    file.write_bytes(file.read_bytes()[:border] + bytes(zeros))


def whole(backend: StorageBackend) -> bool:
    expected = [(b"%04d" % number, b"v" * 100) for number in range(50)]
    return all(list(backend.scan(cf)) == expected for cf in FAMILIES)


@pytest.mark.parametrize("zeros", [200, 512, 700])
def test_a_manifest_that_a_power_loss_has_torn_is_cut(
    unsynced: tuple[Path, int], url: str, zeros: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A sector of a manifest had not reached the disk, and the store did not open any more."""
    tear(*unsynced, zeros)
    torn = manifest(unsynced[0]).name

    with open_backend(url) as backend:
        assert whole(backend)
    assert f"a power loss had torn the end of {torn}" in caplog.text
    with open_backend(url) as backend:
        assert whole(backend)


@pytest.mark.parametrize("options", ["?mode=ro", "?wal_recovery=absolute"])
def test_a_torn_manifest_is_left_alone_where_it_may_not_be_cut(
    unsynced: tuple[Path, int], url: str, options: str
) -> None:
    """A store that was opened for reading was changed, or one that was to be as it was left was not."""
    tear(*unsynced)
    before = contents(unsynced[0])

    with pytest.raises(exc.Corruption):
        open_backend(url + options)
    assert contents(unsynced[0]) == before


def test_zeros_in_a_manifest_that_was_synced_are_damage(unsynced: tuple[Path, int], url: str) -> None:
    """The log is gone, so the edit that made it superfluous was synced: without it the flushed rows would be lost."""
    path, size = unsynced
    oldest = min(path.glob("*.log"), key=lambda file: int(file.stem))
    oldest.unlink()
    tear(path, size)
    before = contents(path)

    with pytest.raises(exc.Corruption):
        open_backend(url)
    assert contents(path) == before


def test_a_flipped_bit_in_a_manifest_is_damage(unsynced: tuple[Path, int], url: str) -> None:
    """An edit that rotted was taken for one that was never written."""
    path, size = unsynced
    file = manifest(path)
    overwrite(file, size + 30, bytes([file.read_bytes()[size + 30] ^ 1]))
    before = contents(path)

    with pytest.raises(exc.Corruption):
        open_backend(url)
    assert contents(path) == before


def test_a_torn_manifest_is_put_back_where_the_store_does_not_open_without(
    unsynced: tuple[Path, int], url: str
) -> None:
    """A store with other damage too lost the end of its manifest at each try to open it."""
    path, size = unsynced
    tear(path, size)
    oldest = min(path.glob("*.log"), key=lambda file: int(file.stem))
    overwrite(oldest, oldest.stat().st_size // 2, b"\xff" * 20)
    before = contents(path)

    with pytest.raises(exc.Corruption):
        open_backend(url)
    assert contents(path) == before
