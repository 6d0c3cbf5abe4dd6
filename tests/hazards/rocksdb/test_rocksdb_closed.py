"""A store that was closed and is damaged is told from one that was left by a crash."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvdialect import exc, open_backend
from kvdialect.storage import WriteBatch
from kvdialect.storage.closing import NOTE
from kvdialect.storage.rocksdb.closed import note_closed

pytestmark = pytest.mark.engine("rocksdb")

Start = Callable[[str], Any]


@pytest.fixture
def closed(url: str, path: Path) -> Path:
    """A store with table files, closed, which leaves its log empty."""
    with open_backend(url, ["a"]) as backend:
        backend.batch_write(WriteBatch().put("a", b"old", b"v"))
        backend.flush()
        for number in range(200):
            backend.put("a", b"%d" % number, b"new")
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith(("LOG", "LOCK", "kv"))}


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


@pytest.mark.parametrize("mode", ["rw", "ro", "secondary"])
@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("MANIFEST-*", cut),
        ("MANIFEST-*", flip),
        ("MANIFEST-*", Path.unlink),
        ("CURRENT", flip),
        ("*.log", Path.unlink),
        ("*.sst", cut),
        ("*.sst", Path.unlink),
    ],
)
def test_a_closed_store_that_is_damaged_is_refused_and_left_alone(
    closed: Path, url: str, name: str, harm: Callable[[Path], None], mode: str
) -> None:
    """RocksDB takes a manifest or a log that was cut for what a crash has left, and removes what belongs to nothing."""
    harm(max(closed.glob(name), key=lambda file: file.stat().st_size))
    before = contents(closed)

    with pytest.raises(exc.Corruption, match=r"when it was last closed: .+ \(restore a backup"):
        open_backend(f"{url}?mode={mode}")

    assert contents(closed) == before


def test_a_damaged_store_can_be_opened_to_save_what_is_left(closed: Path, url: str) -> None:
    """Refusing a damaged store for good would keep what is whole of it from its owner."""
    next(closed.glob("*.log")).unlink()

    with open_backend(f"{url}?check_files=off") as backend:
        assert backend.get("a", b"old") == b"v"


def test_an_open_store_has_no_note(closed: Path, url: str) -> None:
    """A note that is there while files change would refuse what a crash leaves."""
    assert (closed / NOTE).exists()

    with open_backend(url):
        assert not (closed / NOTE).exists()
    assert (closed / NOTE).exists()


def test_after_a_crash_nothing_is_compared(process: Start, url: str, path: Path) -> None:
    """A log torn by a crash is cut to what was acknowledged, as ever."""
    other = process('backend = open_backend(URL, ["a"])\nbackend.put("a", b"k", b"v")\nsay("done")\ninput()')
    assert other.line() == "done"
    other.kill()

    assert not (path / NOTE).exists()
    with open_backend(url) as backend:
        assert backend.get("a", b"k") == b"v"


def test_a_damaged_note_refuses_nothing(closed: Path, url: str) -> None:
    """The note itself holds no data: where it is damaged the store is whole."""
    flip(closed / NOTE)

    with open_backend(url) as backend:
        assert backend.get("a", b"199") == b"new"


def test_a_copy_of_a_closed_store_opens(closed: Path, tmp_path: Path) -> None:
    """The note goes by names and bytes, not by where or when."""
    shutil.copytree(closed, tmp_path / "copy")

    with open_backend(f"rocksdb:///{tmp_path / 'copy'}") as backend:
        assert backend.get("a", b"199") == b"new"


def test_a_database_that_the_driver_has_not_closed_is_not_noted(url: str, path: Path) -> None:
    """While a traceback keeps an object of the driver, RocksDB stays open, and goes on writing."""
    with open_backend(url, ["a"]):
        note_closed(str(path), synced=True)

        assert not (path / NOTE).exists()


def test_a_store_whose_own_family_is_gone_is_corruption(process: Start, url: str, path: Path) -> None:
    """A manifest cut short after a crash made an empty store, which programs then filled anew."""
    other = process('backend = open_backend(URL, ["a"])\nbackend.put("a", b"k", b"v")\nsay("done")\ninput()')
    assert other.line() == "done"
    other.kill()
    (manifest,) = path.glob("MANIFEST-*")
    os.truncate(manifest, 100)

    with pytest.raises(exc.Corruption):
        open_backend(url)
