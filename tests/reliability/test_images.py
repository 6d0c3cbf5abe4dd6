"""What may be on a disk after a power loss, and in a store after errors: what the harnesses compare with."""

from __future__ import annotations

import random

from reliability.attempts import Begun, Ended, fits
from reliability.images import PAGE, SECTOR, Disk, Entry, Kind

TOP = Entry(Kind.MKDIR, 1, 0, 0, "/top", b"")
CREATED = Entry(Kind.CREATE, 2, 0, 0, "/top/file", b"")
NAMES_SYNCED = Entry(Kind.SYNC, 1, 0, 0, "", b"")
SYNCED = Entry(Kind.SYNC, 2, 0, 0, "", b"")
OLD, NEW = b"old " * (PAGE // 2), b"new " * (PAGE // 2)


def written(data, offset=0):
    return Entry(Kind.WRITE, 2, offset, 0, "", data)


def images(entries, folder, count=150):
    """What images of a record hold: the bytes of each file by its name."""
    found = []
    folder.mkdir(exist_ok=True)
    for number in range(count):
        target = folder / str(number)
        Disk(entries, len(entries)).image(target, random.Random(number))
        found.append({path.name: path.read_bytes() for path in target.iterdir()})
    return found


def test_what_was_synced_is_in_every_image(tmp_path):
    """An image lacks what a sync has brought to the disk: the row would report losses that are none."""
    found = images([TOP, CREATED, NAMES_SYNCED, written(OLD), SYNCED], tmp_path, 40)

    assert all(each == {"file": OLD} for each in found)


def test_what_was_not_synced_is_there_or_not_and_torn(tmp_path):
    """Images show only some of what a disk may hold: the row would miss losses."""
    found = images([TOP, CREATED, NAMES_SYNCED, written(OLD), SYNCED, written(NEW)], tmp_path)

    contents = {each["file"] for each in found}
    assert {OLD, NEW} <= contents
    sectors = [{each[at : at + SECTOR] for at in range(0, len(each), SECTOR)} for each in contents]
    assert all(each <= {OLD[:SECTOR], NEW[:SECTOR]} for each in sectors)
    assert any(len(each) == 2 for each in sectors)


def test_an_overwritten_write_never_comes_back(tmp_path):
    """An image has a write over a later one that was synced, which no disk does."""
    found = images([TOP, CREATED, NAMES_SYNCED, written(OLD), written(NEW), SYNCED], tmp_path, 40)

    assert all(each == {"file": NEW} for each in found)


def test_later_writes_reach_the_disk_without_earlier_ones(tmp_path):
    """Images keep unsynced writes in order: reordering is what a disk does, and the row would not try it."""
    found = images([TOP, CREATED, NAMES_SYNCED, written(OLD), written(NEW, len(OLD))], tmp_path)

    hole = bytes(len(OLD)) + NEW
    assert any(each["file"] == hole for each in found)


def test_a_name_counts_when_its_directory_was_synced(tmp_path):
    """A file's own sync is taken for one of its name, or a synced name is missing."""
    renamed = Entry(Kind.RENAME, 0, 0, 0, "/top/file", b"/top/other")
    names = [TOP, CREATED, NAMES_SYNCED, written(OLD), SYNCED, renamed]

    assert {tuple(each) for each in images(names, tmp_path / "open", 40)} == {("file",), ("other",)}
    assert all(each == {"other": OLD} for each in images([*names, NAMES_SYNCED], tmp_path / "synced", 40))


def test_a_synchronous_write_is_certain_by_itself(tmp_path):
    """A write through a descriptor with O_DSYNC makes other writes certain, or is not certain itself."""
    range_synced = Entry(Kind.SYNC_RANGE, 2, PAGE, PAGE, "", b"")
    found = images([TOP, CREATED, NAMES_SYNCED, written(OLD), SYNCED, written(NEW), range_synced], tmp_path, 60)

    assert all(each["file"][PAGE : 2 * PAGE] == NEW[:PAGE] for each in found)
    assert any(each["file"][:PAGE] == OLD[:PAGE] for each in found)


def account(number):
    return ("owner", 1, number, "", None)


def test_a_store_fits_what_was_told_of_its_commits():
    """The comparison after a failure is too strict, or too lax: an acknowledged commit may be lost unnoticed."""
    first, second = Begun(1, {1: account(1)}, []), Begun(2, {2: account(2)}, [1])
    before, after = {1: account(1)}, {2: account(2)}

    for outcome, fitting in (("applied", [after]), ("not_applied", [before]), ("unknown", [before, after])):
        events = [first, Ended("applied"), second, Ended(outcome)]
        states = [{}, before, after, {**before, **after}]
        assert [state for state in states if fits(state, events)] == fitting


def test_the_sync_of_a_new_file_makes_its_name_certain(tmp_path):
    """A new file that was synced has no name: file systems keep it, and RocksDB relies on that."""
    assert all(each == {"file": OLD} for each in images([TOP, CREATED, written(OLD), SYNCED], tmp_path, 40))
