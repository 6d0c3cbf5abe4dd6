"""A damaged key hides its record: LMDB says that what was asked for is not there."""

from __future__ import annotations

import os
import random
import struct
import sys
from pathlib import Path

import pytest

from kvdialect import Session, UInt64, create_engine, exc, field, open_backend, registry
from kvdialect._compiled import loaded
from kvdialect.storage import StorageBackend, WriteBatch
from kvdialect.storage.lmdb import structure
from kvdialect.storage.lmdb.layout import read_metas

pytestmark = pytest.mark.engine("lmdb")

models = registry()


@models.mapped
class Owned:
    __tablename__ = "owned"
    id: UInt64 = field(primary_key=True)
    owner: str = field(index=True)


def name(cf: str, number: int) -> bytes:
    """The key of a record."""
    return b"%s-%03d0" % (cf.encode(), number)


def stored(path: Path, families: list[str]) -> dict[tuple[str, bytes], bytes]:
    """A closed store with two hundred records in each family, and what it holds."""
    rng = random.Random(5)
    pairs = {(cf, name(cf, n)): rng.randbytes(rng.randrange(1, 60)) for cf in families for n in range(200)}
    batch = WriteBatch()
    for (cf, key), value in pairs.items():
        batch.put(cf, key, value)
    with open_backend(f"lmdb:///{path}", families) as backend:
        backend.batch_write(batch)
    return pairs


def places(path: Path, key: bytes) -> list[int]:
    """Where a key stands in the pages that are in use, leaves or branches."""
    file = path / "data.mdb"
    size = read_metas(os.fspath(file))[0].page_size
    raw = file.read_bytes()
    pages = [n for n in range(2, len(raw) // size) if structure.PAGE.unpack_from(raw, n * size)[0] == n]
    return [at for n in pages if (at := raw.find(key, n * size, (n + 1) * size)) >= 0]


def flip(path: Path, at: int, bits: int) -> None:
    with open(path / "data.mdb", "r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ bits]))


def answers(backend: StorageBackend, cf: str) -> tuple[dict[bytes, bytes | None], set[bytes]]:
    """What gets of a family's records give, and which they refuse."""
    given: dict[bytes, bytes | None] = {}
    refused = set()
    for number in range(200):
        key = name(cf, number)
        try:
            given[key] = backend.get(cf, key)
        except exc.Corruption:
            refused.add(key)
    return given, refused


@pytest.mark.parametrize("mode", ["rw", "ro"])
@pytest.mark.parametrize("families", [["a"], ["a", "b", "c"]], ids=["alone", "shared"])
def test_a_record_with_a_damaged_key_is_not_said_to_be_absent(tmp_path: Path, families: list[str], mode: str) -> None:
    """A get gave None, and a scan of just that record nothing."""
    path = tmp_path / "store"
    pairs = stored(path, families)
    cf = families[-1]
    key = name(cf, 100)
    [at, *_] = places(path, key)
    flip(path, at + len(key) - 1, 1)  # 0 is 1 now, and the order as it was

    with open_backend(f"lmdb:///{path}?mode={mode}") as backend, backend.snapshot() as snapshot:
        for reader in (backend, snapshot):
            for read in (
                lambda reader=reader: reader.get(cf, key),
                lambda reader=reader: reader.multi_get(cf, [name(cf, 0), key]),
                lambda reader=reader: next(reader.prefix_scan(cf, key), None),
                lambda reader=reader: list(reader.scan(cf)),
                lambda reader=reader: list(reader.scan(cf, reverse=True)),
            ):
                with pytest.raises(exc.Corruption, match="restore a backup"):
                    read()
            assert reader.get(cf, name(cf, 5) + b"?") is None  # elsewhere it is an answer
            assert len(list(reader.scan(cf, b"", name(cf, 99)))) == 99

        given, refused = answers(backend, cf)
        assert refused == {key}
        assert given == {k: v for (family, k), v in pairs.items() if family == cf and k != key}
        for other in families[:-1]:
            assert len(list(backend.scan(other))) == 200
        if mode == "rw":
            with pytest.raises(exc.Corruption):
                backend.batch_write(WriteBatch().expect(cf, key, None).put(cf, key, b"again"))


@pytest.mark.parametrize("families", [["a"], ["a", "b", "c"]], ids=["alone", "shared"])
def test_a_key_out_of_order_leads_no_search_astray(tmp_path: Path, families: list[str]) -> None:
    """LMDB's search goes by all keys of a page: one out of order hid its neighbours too."""
    path = tmp_path / "store"
    pairs = stored(path, families)
    cf = families[0]
    [at, *_] = places(path, name(cf, 100))
    flip(path, at + 1, 0x80)

    with open_backend(f"lmdb:///{path}") as backend:
        given, refused = answers(backend, cf)
        assert name(cf, 100) in refused
        assert len(refused) < 150
        assert given == {k: v for (family, k), v in pairs.items() if family == cf and k not in refused}
        with pytest.raises(exc.Corruption, match="may lack a record"):
            list(backend.scan(cf, name(cf, 98), name(cf, 102)))


def test_any_flipped_bit_gives_what_was_stored_or_an_error(tmp_path: Path) -> None:
    """Whatever bit of a leaf it is: keys, values, sizes, where they stand."""
    path = tmp_path / "store"
    pairs = stored(path, ["a", "b"])
    raw = (path / "data.mdb").read_bytes()
    used = sorted({at // 4096 for cf in "ab" for number in range(0, 200, 10) for at in places(path, name(cf, number))})
    rng = random.Random(11)
    noticed = 0
    for _ in range(120):
        at = rng.choice(used) * 4096 + rng.randrange(4096)
        flip(path, at, 1 << rng.randrange(8))
        try:
            with open_backend(f"lmdb:///{path}") as backend:
                for cf in "ab":
                    given, refused = answers(backend, cf)
                    noticed += bool(refused)
                    assert given == {k: v for (f, k), v in pairs.items() if f == cf and k not in refused}, at
        except exc.Corruption:
            noticed += 1
        (path / "data.mdb").write_bytes(raw)
    assert noticed > 30


def test_a_doubt_ends_when_the_damaged_pair_is_gone(tmp_path: Path) -> None:
    """A read went on to refuse what had been mended, until the store was opened again."""
    path = tmp_path / "store"
    stored(path, ["a"])
    key = name("a", 100)
    [at, *_] = places(path, key)
    flip(path, at + len(key) - 1, 1)

    with open_backend(f"lmdb:///{path}") as backend:
        backend.delete("a", key[:-1] + b"1")

        assert backend.get("a", key) is None
        assert len(list(backend.scan("a"))) == 199
        backend.batch_write(WriteBatch().expect("a", key, None).put("a", key, b"again"))


def test_a_damaged_pair_that_cannot_be_read_leaves_its_doubt(tmp_path: Path) -> None:
    """The error of the driver, about another page, came out of a read as it was."""
    path = tmp_path / "store"
    large = random.Random(3).randbytes(9000)
    with open_backend(f"lmdb:///{path}", ["a"]) as backend:
        for key in (b"k1", b"k2", b"k3"):
            backend.put("a", key, large if key == b"k2" else key)
    for at in places(path, b"k2"):
        flip(path, at + 1, 0x04)  # it is k6 now, out of order
    at = (path / "data.mdb").read_bytes().index(large[:64])
    flip(path, at // 4096 * 4096 + 10, 0xFF)  # the flags of the large value's page

    with open_backend(f"lmdb:///{path}") as backend:
        for key in (b"k2", b"k25"):
            with pytest.raises(exc.Corruption):
                backend.get("a", key)


def test_an_index_with_a_damaged_key_is_found_and_mended(tmp_path: Path) -> None:
    """A lookup gave nothing; verification tells what is damaged, and the repair makes the entry again."""
    url = f"lmdb:///{tmp_path / 'store'}"
    with create_engine(url) as engine:
        models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all(Owned(id=number, owner=f"owner{number:03}0") for number in range(300))
    for at in places(tmp_path / "store", b"owner1000"):  # records hold their owners too
        flip(tmp_path / "store", at + 8, 1)
        with open_backend(url) as backend:
            if backend.engine.known["ix_owned_owner"].place.database in backend.engine.doubts:
                break
        flip(tmp_path / "store", at + 8, 1)

    with create_engine(url) as engine:
        with Session(engine) as session, pytest.raises(exc.Corruption):
            session.lookup("ix_owned_owner", "owner1000").all()
        found = engine.verify().findings
        assert {"unreadable", "missing entry"} == {finding.kind for finding in found}, found
        engine.repair_indexes()
        assert engine.verify().ok
        with Session(engine) as session:
            assert [each.id for each in session.lookup("ix_owned_owner", "owner1000")] == [100]


@pytest.mark.parametrize("size", [0, 15, 16, 300, 4096])
def test_both_readers_of_a_leaf_agree(size: int) -> None:
    """The compiled one and that of the walk; nothing else may come of a page that makes no sense."""
    compiled = loaded("kvdialect.storage.lmdb._checksums")
    if compiled is None:
        pytest.skip("the package was built without its compiled modules")
    rng = random.Random(size)
    page = bytearray(rng.randbytes(size))
    assert compiled.nodes(bytes(page)) is None or size >= 16
    if size < 300:
        return
    page[12:14] = (16 + 2 * 2).to_bytes(2, sys.byteorder)
    for offset, key, value in ((size - 40, b"one", b"first"), (size - 80, b"two", b"")):
        node = struct.pack("=IHH" if sys.byteorder == "little" else ">IHH", len(value), 0, len(key)) + key + value
        page[offset : offset + len(node)] = node
    page[16:20] = struct.pack("=2H", size - 40, size - 80)
    assert compiled.nodes(bytes(page)) == [(b"one", b"first"), (b"two", b"")]
    page[size - 40 : size - 36] = b"\xff" * 4
    assert compiled.nodes(bytes(page)) is None
