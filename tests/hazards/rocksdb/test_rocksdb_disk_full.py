"""Hazard 6: a full disk is a typed error, loses nothing acknowledged, and passes when there is room again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvdialect import open_backend

pytestmark = pytest.mark.engine("rocksdb")

Start = Callable[[str], Any]

FILL = """
SMALL = ColumnFamilyOptions(write_buffer_size="1MiB", compression="none")
backend = open_backend(URL, {"a": SMALL, "b": SMALL})
value, number, full = os.urandom(20_000), 0, None
while full is None and number < 5000:
    try:
        backend.batch_write(WriteBatch().put("a", b"%05d" % number, value).put("b", b"%05d" % number, value))
        number += 1
    except exc.DiskFull as error:
        full = error
say("full", full.outcome, full.retryable, full.engine, full.token is not None)
say("reads", backend.get("a", b"00000") == value, len(list(backend.scan("a"))) == number,
    backend.snapshot().get("b", b"%05d" % (number - 1)) == value)
say("again", failure(backend.put, "a", b"again", value))
"""
RESUME = """
end = time.monotonic() + 40
while True:
    try:
        backend.put("a", b"resumed", b"v")
        break
    except exc.DiskFull:
        if time.monotonic() > end:
            say("never resumed")
            break
        time.sleep(0.2)
missing = [n for n in range(number) for f in "ab" if backend.get(f, b"%05d" % n) != value]
say("resumed", missing)
backend.close()
with open_backend(URL) as backend:
    missing = [n for n in range(number) for f in "ab" if backend.get(f, b"%05d" % n) != value]
    there = [backend.get(f, b"%05d" % number) is not None for f in "ab"]
    say("reopened", missing, backend.get("a", b"resumed"), there[0] == there[1])
    say("outcome", (backend.commit_outcome(full.token) == "applied") == there[0])
"""
GOOD = ["full unknown True rocksdb True", "reads True True True", "again DiskFull"]
RECOVERED = ["resumed []", "reopened [] b'v' True", "outcome True"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], check=False).returncode:
        pytest.skip("cannot mount a small tmpfs; runs as root on Linux")
    yield disk
    subprocess.run(["umount", disk], check=True)  # noqa: S607 - where mount was


def test_writes_resume_when_there_is_room_again(small_disk: Path, process: Start) -> None:
    """A full disk was no DiskFull, made reads fail, lost acknowledged rows, or needed the store to be reopened."""
    code = FILL.replace("URL", repr(f"rocksdb:///{small_disk / 'store'}"))
    filler = small_disk / "filler"
    filler.write_bytes(bytes(12 << 20))
    other = process(code + "input()\n" + RESUME.replace("URL", repr(f"rocksdb:///{small_disk / 'store'}")))
    lines = [other.line() for _ in GOOD]
    filler.unlink()
    other.go_on()

    assert lines == GOOD
    assert other.finish() == RECOVERED


def test_a_store_closed_on_a_full_disk_reopens_in_the_same_process(small_disk: Path, process: Start) -> None:
    """Closing a store while the disk was full left it locked in the process, or lost acknowledged rows."""
    url = repr(f"rocksdb:///{small_disk / 'store'}")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(12 << 20))
    other = process(
        FILL.replace("URL", url)
        + "backend.close()\ninput()\nbackend = open_backend(URL)\n".replace("URL", url)
        + RESUME.replace("URL", url)
    )
    lines = [other.line() for _ in GOOD]
    filler.unlink()
    other.go_on()

    assert lines == GOOD
    assert other.finish() == RECOVERED


def test_a_file_size_limit_is_disk_full(process: Start, url: str) -> None:
    """A limit on the size of files (RLIMIT_FSIZE) was another error, or lost acknowledged rows."""
    other = process(
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))\n" + FILL
    )
    lines = other.finish()
    with open_backend(url) as backend:
        count = sum(1 for _ in backend.scan("a"))

        assert sum(1 for _ in backend.scan("b")) == count
    assert lines[0] == GOOD[0]
    assert count >= 5
