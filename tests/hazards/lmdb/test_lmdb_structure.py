"""Pages that lead to the wrong place: LMDB says of what is there that it is not."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import lmdb
import pytest

from kvdialect import Session, UInt64, create_engine, exc, field, open_backend, registry
from kvdialect.storage import WriteBatch
from kvdialect.storage.closing import NOTE
from kvdialect.storage.lmdb import structure
from kvdialect.storage.lmdb.layout import META, read_metas
from kvdialect.storage.lmdb.structure import faults

pytestmark = pytest.mark.engine("lmdb")

models = registry()


@models.mapped
class Leaf:
    __tablename__ = "leaves"
    id: UInt64 = field(primary_key=True)
    text: str = field(index=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of some pages, large values and deleted ones too, closed."""
    path = tmp_path / "store"
    with open_backend(f"lmdb:///{path}", ["a", "b"]) as backend:
        for turn in range(3):
            batch = WriteBatch().put("b", b"large", bytes(20_000 + turn))
            for number in range(0, 900, turn + 1):
                batch.put("a", b"%05d" % number, b"%d" % turn * 40)
            backend.batch_write(batch)
    return path


def found(path: Path, *, quick: bool = False) -> list[str]:
    with lmdb.open(os.fspath(path), readonly=True, lock=False) as env, env.begin() as txn:
        told = faults(os.fspath(path), txn.id(), quick=quick)
        assert told is not None
        return [fault.message for fault in told]


def used_pages(path: Path) -> Iterator[int]:
    """The pages that hold keys of today."""
    meta = read_metas(os.fspath(path / "data.mdb"))[0]
    raw = (path / "data.mdb").read_bytes()
    for number in range(2, len(raw) // meta.page_size):
        if structure.PAGE.unpack_from(raw, number * meta.page_size)[0] == number:
            yield number


def exchange(path: Path, one: int, other: int) -> None:
    file = path / "data.mdb"
    size = read_metas(os.fspath(file))[0].page_size
    raw = bytearray(file.read_bytes())
    first, second = (slice(number * size, (number + 1) * size) for number in (one, other))
    raw[first], raw[second] = raw[second], raw[first]
    file.write_bytes(raw)


@pytest.mark.parametrize("quick", [True, False])
def test_a_sound_store_has_no_faults(store: Path, quick: bool) -> None:
    """A check that refuses sound stores is worse than none."""
    assert found(store, quick=quick) == []


def test_pages_that_changed_places_are_noticed(store: Path, tmp_path: Path) -> None:
    """Wherever what was read differs, the walk says so, so that nothing is hidden without a word."""
    with open_backend(f"lmdb:///{store}?mode=ro") as backend:
        whole = [list(backend.scan(cf)) for cf in ("a", "b")]
    pages = list(used_pages(store))
    noticed = 0

    for number in pages[1:]:
        copy = tmp_path / "copy"
        shutil.copytree(store, copy)
        exchange(copy, pages[0], number)
        if found(copy, quick=True):
            noticed += 1
        else:
            # Both were free pages, or of a large value, which has a checksum.
            with open_backend(f"lmdb:///{copy}?mode=ro") as backend, contextlib.suppress(exc.Corruption):
                assert [list(backend.scan(cf)) for cf in ("a", "b")] == whole
        shutil.rmtree(copy)

    assert noticed > 5


def test_a_flipped_bit_in_a_key_is_noticed(store: Path) -> None:
    """A get looks for the key where it was, and finds nothing."""
    file = store / "data.mdb"
    raw = bytearray(file.read_bytes())
    meta = read_metas(os.fspath(file))[0]
    places = [at for number in used_pages(store) if (at := raw.find(b"00450", number * meta.page_size)) >= 0]
    for at in set(places):
        raw[at] ^= 0x80
    file.write_bytes(raw)

    assert any("keys" in message for message in found(store))


def harmed(path: Path, database: str) -> None:
    """Exchange two pages that are in use in a database."""
    sound = (path / "data.mdb").read_bytes()
    for one, other in combinations(used_pages(path), 2):
        exchange(path, one, other)
        told = found(path)
        if told and all(f"database {database} " in message for message in told):
            return
        (path / "data.mdb").write_bytes(sound)
    raise AssertionError("no page is in use")


@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_a_store_whose_pages_changed_places_is_refused(store: Path, mode: str) -> None:
    """It would open, and say of records that they are not there."""
    harmed(store, "a")

    with pytest.raises(exc.Corruption, match=r"is damaged: page \d+ of .* \(restore a backup"):
        open_backend(f"lmdb:///{store}?mode={mode}")


def test_a_damaged_store_can_be_opened_to_save_what_is_left(store: Path) -> None:
    """Refusing it for good would keep what is whole of it from its owner."""
    harmed(store, "a")

    with open_backend(f"lmdb:///{store}?check_files=off") as backend:
        assert list(backend.faults())


def test_verify_tells_what_a_large_store_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large store is not walked whole as it is opened; what is then missing from scans and lookups verify finds."""
    url = f"lmdb:///{tmp_path / 'store'}"
    with create_engine(url) as engine:
        models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all(Leaf(id=number, text=f"{number:050}") for number in range(500))
    harmed(tmp_path / "store", "leaves")
    monkeypatch.setattr(structure, "SMALL", 0)
    monkeypatch.setattr(structure, "UPPER", 3)

    with create_engine(url) as engine:
        verification = engine.verify()

    assert not verification.ok
    assert "damaged structure" in {finding.kind for finding in verification.findings}


def test_a_store_that_went_back_behind_its_close_is_refused(store: Path) -> None:
    """LMDB goes by the older meta page where the newer one makes no sense, and loses what was acknowledged last."""
    file = store / "data.mdb"
    metas = read_metas(os.fspath(file))
    raw = bytearray(file.read_bytes())
    newest = metas[0].transaction % 2 * metas[0].page_size
    at = newest + 16 + META.size - 8
    raw[at : at + 8] = bytes(8)  # the number of its transaction
    file.write_bytes(raw)

    with pytest.raises(exc.Corruption, match=f"ends with transaction {metas[1].transaction}, and had"):
        open_backend(f"lmdb:///{store}")

    (store / NOTE).unlink()
    with open_backend(f"lmdb:///{store}") as backend:
        assert backend.get("a", b"00000") is not None


def test_a_writer_that_is_killed_leaves_an_older_note_that_refuses_nothing(
    store: Path, start: Callable[..., object]
) -> None:
    """The note bounds the last transaction from below: later ones are right too."""
    script = start(
        'backend = open_backend(URL)\nbackend.put("a", b"k", b"v")\nprint("done", flush=True)\ninput()',
        f"lmdb:///{store}",
    )
    assert script.line() == "done"  # type: ignore[attr-defined]
    script.kill()  # type: ignore[attr-defined]

    with open_backend(f"lmdb:///{store}") as backend:
        assert backend.get("a", b"k") == b"v"
