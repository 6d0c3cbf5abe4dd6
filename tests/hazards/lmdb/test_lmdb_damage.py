"""Damaged files: bit rot, swapped pages, files that were cut (hazards 10, 11)."""

import os
import random
import struct
from pathlib import Path

import lmdb
import pytest

from kvdialect import exc, open_backend
from kvdialect.storage import WriteBatch
from kvdialect.storage.lmdb.file import check_file
from kvdialect.storage.lmdb.layout import read_metas

pytestmark = pytest.mark.engine("lmdb")


def noise(seed):
    """A source of the same numbers in every run."""
    return random.Random(seed)


ROWS = {b"key %05d" % n: noise(n).randbytes(40 + n % 3000) for n in range(400)}


def fill(url):
    with open_backend(url, ["a", "b"]) as backend:
        batch = WriteBatch()
        for key, value in ROWS.items():
            batch.put("a", key, value)
        backend.batch_write(batch.put("b", b"key 00000", b"of b"))


READ_ALL = """
# Prints whatever is wrong and unnoticed; "Corruption" is right.
sys.path.insert(0, sys.argv[2])
from test_lmdb_damage import ROWS
found = noticed = wrong = 0
backend = open_backend(URL)
for key, value in ROWS.items():
    try:
        got = backend.get("a", key)
        wrong += got is not None and got != value
        found += got == value
    except exc.Corruption as error:
        assert error.cf in ("a", None)
        noticed += 1
try:
    for key, value in backend.scan("a"):
        wrong += ROWS.get(key) != value
except exc.Corruption:
    noticed += 1
try:
    wrong += any(got not in (None, value) for got, value in zip(backend.multi_get("a", list(ROWS)), ROWS.values()))
except exc.Corruption:
    noticed += 1
with backend.snapshot() as snapshot:
    try:
        wrong += any(ROWS.get(key) != value for key, value in snapshot.scan("a", reverse=True))
    except exc.Corruption:
        noticed += 1
print(wrong, noticed > 0, found > 100)
"""


def read_all(run, url):
    return run(READ_ALL, url, os.fspath(Path(__file__).parent))


def places_of_rows(data):
    """Offsets of keys and values in the file, as LMDB stores a key and its value side by side, or the value apart."""
    for key, value in ROWS.items():
        at = data.find(value)
        assert at >= 0
        yield from (at + noise(at).randrange(len(value)), data.rfind(key, 0, len(data)) + len(key) - 1)


@pytest.mark.parametrize("seed", range(4))
def test_bit_flips_in_rows_never_give_a_wrong_value(run, url, path, seed):
    """With checksums a damaged value is Corruption, in get, multi_get and scans; the others can still be read."""
    fill(url)
    file = Path(path, "data.mdb")
    data = bytearray(file.read_bytes())
    rng = noise(seed)
    for place in rng.sample(list(places_of_rows(bytes(data))), 40):
        data[place] ^= 1 << rng.randrange(8)
    file.write_bytes(data)

    assert read_all(run, url) == "0 True True"


def test_flipped_checksum_is_noticed(url, path):
    """The four bytes behind the value are covered too."""
    fill(url)
    file = Path(path, "data.mdb")
    data = bytearray(file.read_bytes())
    data[data.find(ROWS[b"key 00007"]) + len(ROWS[b"key 00007"]) + 1] ^= 1
    file.write_bytes(data)

    with open_backend(url) as backend, pytest.raises(exc.Corruption) as caught:
        backend.get("a", b"key 00007")

    assert (caught.value.cf, caught.value.key, caught.value.path) == ("a", b"key 00007", path)


READS = {
    "get": lambda reader: reader.get("a", b"key 00007"),
    "multi_get": lambda reader: reader.multi_get("a", [b"key 00006", b"key 00007"]),
    "scan": lambda reader: list(reader.scan("a", b"key 00005", b"key 00009")),
    "scan backwards": lambda reader: list(reader.scan("a", b"key 00005", b"key 00009", reverse=True)),
    "prefix_scan": lambda reader: list(reader.prefix_scan("a", b"key 0000")),
}


@pytest.mark.parametrize("of", ["backend", "snapshot"])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_every_read_notices_a_flipped_checksum(url, path, read, of):
    """One way of reading gave a value whose checksum does not hold."""
    fill(url)
    file = Path(path, "data.mdb")
    data = bytearray(file.read_bytes())
    data[data.find(ROWS[b"key 00007"]) + len(ROWS[b"key 00007"]) + 1] ^= 1
    file.write_bytes(data)

    with open_backend(url) as backend:
        reader = backend if of == "backend" else backend.snapshot()
        with pytest.raises(exc.Corruption):
            read(reader)


def test_expectation_on_a_damaged_value_is_corruption(url, path):
    """A conflict would send the program into retrying for ever, and nothing of the batch is applied."""
    fill(url)
    file = Path(path, "data.mdb")
    data = bytearray(file.read_bytes())
    data[data.find(ROWS[b"key 00007"])] ^= 1
    file.write_bytes(data)

    with open_backend(url) as backend:
        with pytest.raises(exc.Corruption):
            backend.batch_write(WriteBatch().expect("a", b"key 00007", ROWS[b"key 00007"]).put("a", b"new", b"v"))

        assert backend.get("a", b"new") is None


def test_value_of_another_key_is_noticed(url):
    """The checksum covers the key, so rows whose values were swapped, as by a lost write of a page, do not pass."""
    with open_backend(url, ["a"]) as backend:
        backend.batch_write(WriteBatch().put("a", b"x", b"one").put("a", b"y", b"two"))
        family = backend.engine.known["a"]
        with backend.engine.env.begin(write=True) as txn:
            one, two = (txn.get(key, db=family.db) for key in (b"x", b"y"))
            txn.put(b"x", two, db=family.db)
            txn.put(b"y", one, db=family.db)

        for key in (b"x", b"y"):
            with pytest.raises(exc.Corruption):
                backend.get("a", key)


def test_row_of_another_family_is_noticed(url):
    """The checksum covers the family too."""
    with open_backend(url, ["a", "b"]) as backend:
        backend.put("a", b"x", b"one")
        families = backend.engine.known
        with backend.engine.env.begin(write=True) as txn:
            txn.put(b"x", txn.get(b"x", db=families["a"].db), db=families["b"].db)

        assert backend.get("a", b"x") == b"one"
        with pytest.raises(exc.Corruption):
            backend.get("b", b"x")
        with pytest.raises(exc.Corruption):
            list(backend.scan("b"))


def test_value_shorter_than_a_checksum_is_noticed(url):
    """A value that lost its tail is no value."""
    with open_backend(url, ["a"]) as backend:
        with backend.engine.env.begin(write=True) as txn:
            txn.put(b"x", b"ab", db=backend.engine.known["a"].db)

        with pytest.raises(exc.Corruption):
            backend.get("a", b"x")


@pytest.mark.parametrize("seed", range(3))
def test_swapped_pages_never_give_a_wrong_value(run, url, path, seed):
    """Two pages that changed places are noticed by LMDB, by a checksum, or leave rows missing, which a walk tells."""
    fill(url)
    file = Path(path, "data.mdb")
    data = bytearray(file.read_bytes())
    size = read_metas(file)[0].page_size
    # Pages with values only, so that LMDB's own structure stays whole and the process alive.
    values = [
        number
        for number in range(2, len(data) // size)
        if struct.unpack_from("=H", data, number * size + 10)[0] & 0x02 and b"key 0" in data[number * size :][:size]
    ]
    one, two = noise(seed).sample(values, 2)
    header = slice(0, 10)
    pages = {number: bytes(data[number * size : (number + 1) * size]) for number in (one, two)}
    for number, other in ((one, two), (two, one)):
        data[number * size : (number + 1) * size] = pages[number][header] + pages[other][10:]
    file.write_bytes(data)

    with open_backend(f"{url}?check_files=off&mode=ro") as backend:
        assert list(backend.faults())
    assert read_all(run, f"{url}?check_files=off").startswith("0 ")


def test_checksums_can_be_left_out(url):
    """With checksum=off the value in the file is the value; the capability says that nobody checks."""
    with open_backend(f"{url}?checksum=off", ["a"]) as backend:
        backend.put("a", b"k", b"value")

        assert backend.capabilities.checksums == "none"
        with backend.engine.env.begin() as txn:
            assert txn.get(b"k", db=backend.engine.known["a"].db) == b"value"


@pytest.mark.parametrize("kept", [0.95, 0.5, 0.1])
def test_cut_file_is_refused(run, url, path, kept):
    """LMDB would map the file and die of SIGBUS when it reads what is gone."""
    fill(url)
    file = Path(path, "data.mdb")
    os.truncate(file, int(file.stat().st_size * kept))

    out = run(
        """
        try:
            open_backend(URL).get("a", b"key 00001")
        except exc.Corruption as error:
            print(error)
        """,
        url,
    )

    assert "it was cut short" in out
    assert path in out


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 8191])
def test_file_without_its_meta_pages_is_refused(run, url, path, size):
    """What is left is no LMDB file, or one whose root is gone."""
    fill(url)
    os.truncate(Path(path, "data.mdb"), size)

    out = run(
        """
        try:
            open_backend(URL)
        except exc.Corruption as error:
            print("Corruption")
        """,
        url,
    )

    assert out == "Corruption"


def test_missing_data_file_is_named(url, path):
    """A directory that has the marker but lost its data is not filled with an empty store."""
    fill(url)
    os.remove(Path(path, "data.mdb"))

    with pytest.raises(exc.NotAStore, match=r"data\.mdb; restore"):
        open_backend(url)

    assert not Path(path, "data.mdb").exists()


def test_overwritten_file_is_refused(url, path):
    """Something else under LMDB's name is damage, said in this library's words."""
    fill(url)
    Path(path, "data.mdb").write_bytes(b"something else" * 10_000)

    with pytest.raises(exc.Corruption, match="no LMDB file"):
        open_backend(url)


def shorter_than_its_pages(directory):
    """A sound LMDB file that ends before its last page: those behind were taken and given back in one transaction."""
    directory.mkdir()
    with lmdb.open(os.fspath(directory), map_size=64 << 20) as env:

        def commit(*changes):
            with env.begin(write=True) as txn:
                for key, value in changes:
                    if value is None:
                        txn.delete(key)
                    else:
                        txn.put(key, value)

        # Free pages first, far apart: with these at hand LMDB takes freed pages back at once.
        commit((b"kept", bytes(20_000)), *[(b"%02d" % number, bytes(2500)) for number in range(40)])
        commit(*[(b"%02d" % number, None) for number in range(0, 40, 2)])
        commit((b"x", b"1"))
        commit((b"x", b"2"))
        commit((b"large", bytes(100_000)), (b"large", None), (b"x", b"3"))
    meta = read_metas(directory / "data.mdb")[0]
    assert (directory / "data.mdb").stat().st_size < (meta.last_page + 1) * meta.page_size
    return meta


def test_sound_file_shorter_than_its_last_page_is_accepted(tmp_path):
    """LMDB leaves out free pages at the end of its file; refusing that would refuse a sound store."""
    shorter_than_its_pages(tmp_path / "env")

    check_file(os.fspath(tmp_path / "env"))

    with lmdb.open(os.fspath(tmp_path / "env")) as env, env.begin() as txn:
        assert len(list(txn.cursor())) == 22


def test_short_file_that_also_lost_a_page_in_use_is_refused(tmp_path):
    """That free pages are missing excuses no other page."""
    meta = shorter_than_its_pages(tmp_path / "env")
    file = tmp_path / "env" / "data.mdb"
    data = file.read_bytes()
    used = {
        number
        for number in range(2, len(data) // meta.page_size)
        if number == meta.free.page or b"kept" in data[number * meta.page_size :][: meta.page_size]
    }
    os.truncate(file, min(used) * meta.page_size)

    with pytest.raises(exc.Corruption, match="cut short"):
        check_file(os.fspath(tmp_path / "env"))


@pytest.mark.parametrize("seed", range(3))
def test_file_check_agrees_with_a_busy_store(tmp_path, seed):
    """No state of a store that takes, grows, shrinks and drops is refused."""
    rng = noise(seed)
    with lmdb.open(os.fspath(tmp_path), map_size=256 << 20, max_dbs=4, sync=False) as env:
        names = [b"x", b"y", b"z"]
        for _ in range(80):
            with env.begin(write=True) as txn:
                databases = [env.open_db(name, txn=txn) for name in names]
                for _ in range(rng.choice((1, 10, 100))):
                    key, db = b"%d" % rng.randrange(300), rng.choice(databases)
                    if rng.random() < 0.45:
                        txn.delete(key, db=db)
                    else:
                        txn.put(key, rng.randbytes(rng.choice((20, 1000, 5000, 30_000))), db=db)
                if rng.random() < 0.1:
                    txn.drop(databases[0], delete=False)

            check_file(os.fspath(tmp_path))
