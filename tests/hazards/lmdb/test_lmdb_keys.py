"""Keys, values and batches that LMDB takes wrongly or half (hazards 1, 2, 3, 14)."""

import pytest

from kvdialect import ColumnFamilyOptions, exc, open_backend
from kvdialect.storage import KEY_LIMIT, WriteBatch

pytestmark = pytest.mark.engine("lmdb")


@pytest.fixture(params=["on", "off"])
def backend(request, url):
    tagged = ColumnFamilyOptions(lmdb_database="shared", lmdb_tag=7)
    families = {"a": ColumnFamilyOptions(), "b": ColumnFamilyOptions(), "tagged": tagged}
    with open_backend(f"{url}?durability=none&checksum={request.param}", families) as backend:
        yield backend


def kind(thing):
    """The name of its type, as an id of a test."""
    return type(thing).__name__


READS = {
    "get": lambda reader, cf, key: reader.get(cf, key),
    "multi_get": lambda reader, cf, key: reader.multi_get(cf, [b"k", key]),
}
WRITES = {
    "put": lambda backend, cf, key: backend.put(cf, key, b"v"),
    "delete": lambda backend, cf, key: backend.delete(cf, key),
    "add": lambda backend, cf, key: backend.batch_write(WriteBatch().add(cf, key, 1)),
    "expect": lambda backend, cf, key: backend.batch_write(WriteBatch().expect(cf, key, None).put(cf, b"k", b"v")),
}
BAD_LENGTHS = {"empty": b"", "over the limit": b"x" * (KEY_LIMIT + 1), "far over": b"x" * 5000}


@pytest.mark.parametrize("cf", ["a", "tagged"])
@pytest.mark.parametrize("key", BAD_LENGTHS.values(), ids=BAD_LENGTHS)
@pytest.mark.parametrize("call", [*READS.values(), *WRITES.values()], ids=[*READS, *WRITES])
def test_key_of_a_bad_length_is_refused_by_every_call(backend, call, key, cf):
    """LMDB itself answers None to such a read, as if the key could be there."""
    with pytest.raises(exc.KeyTooLong) as caught:
        call(backend, cf, key)

    assert caught.value.key == key
    assert caught.value.limit == KEY_LIMIT


@pytest.mark.parametrize("key", BAD_LENGTHS.values(), ids=BAD_LENGTHS)
@pytest.mark.parametrize("call", READS.values(), ids=READS)
def test_key_of_a_bad_length_is_refused_by_snapshots(backend, call, key):
    """A snapshot answers as its backend does."""
    with backend.snapshot() as snapshot, pytest.raises(exc.KeyTooLong):
        call(snapshot, "a", key)


@pytest.mark.parametrize("cf", ["a", "tagged"])
def test_longest_key_round_trips(backend, cf):
    """The portable limit fits LMDB's own, a tag included."""
    key = b"\xff" * KEY_LIMIT
    backend.put(cf, key, b"v")

    assert backend.get(cf, key) == b"v"
    assert list(backend.scan(cf)) == [(key, b"v")]
    assert list(backend.scan(cf, key + b"\xff" * 9)) == []


@pytest.mark.parametrize("key", ["text", 5, None, bytearray(b"k"), memoryview(b"k")], ids=kind)
@pytest.mark.parametrize("call", [*READS.values(), *WRITES.values()], ids=[*READS, *WRITES])
def test_key_that_is_not_bytes_is_a_type_error(backend, call, key):
    """A wrong type is never taken for an absent key."""
    with pytest.raises(TypeError, match="must be bytes"):
        call(backend, "a", key)


@pytest.mark.parametrize("value", ["text", 5, None, bytearray(b"v"), memoryview(b"v")], ids=kind)
def test_value_that_is_not_bytes_is_a_type_error(backend, value):
    """Nothing but bytes is stored."""
    with pytest.raises(TypeError, match="must be bytes"):
        backend.put("a", b"k", value)

    assert backend.get("a", b"k") is None


BAD_ITEMS = {
    "empty key": lambda batch: batch.put("b", b"", b"v"),
    "long key": lambda batch: batch.put("b", b"x" * 511, b"v"),
    "unknown family": lambda batch: batch.put("nowhere", b"k", b"v"),
    "no counter": lambda batch: batch.add("b", b"text", 1),
    "expectation on an unknown family": lambda batch: batch.expect("nowhere", b"k", None),
    "expectation that fails": lambda batch: batch.expect("b", b"text", None),
}


@pytest.mark.parametrize("spoil", BAD_ITEMS.values(), ids=BAD_ITEMS)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_one_bad_item_leaves_nothing_of_its_batch(backend, spoil, first):
    """LMDB's putmulti keeps the items before the one that it refuses."""
    backend.put("b", b"text", b"no number")
    batch = WriteBatch()
    if first:
        spoil(batch)
    for number in range(100):
        batch.put("a", b"%03d" % number, b"v").put("b", b"%03d" % number, b"v")
    if not first:
        spoil(batch)

    with pytest.raises((exc.Error, TypeError)):
        backend.batch_write(batch)

    assert list(backend.scan("a")) == []
    assert list(backend.scan("b")) == [(b"text", b"no number")]


@pytest.mark.parametrize("cf", ["a", "tagged"])
def test_scan_that_starts_past_the_last_key_is_empty(backend, cf):
    """LMDB's cursor, where it found nothing, yields the whole database from its first row."""
    backend.batch_write(WriteBatch().put(cf, b"a", b"1").put(cf, b"b", b"2"))

    assert list(backend.scan(cf, b"c")) == []
    assert list(backend.scan(cf, b"c", b"d")) == []
    assert list(backend.prefix_scan(cf, b"c")) == []
    assert list(backend.scan(cf, b"", b"a", reverse=True)) == []
    with backend.snapshot() as snapshot:
        assert list(snapshot.scan(cf, b"c")) == []


def test_scan_of_a_family_stays_within_its_tag(backend):
    """Families that share a database do not see each other's rows, at either end."""
    for tag in (6, 8):
        options = ColumnFamilyOptions(lmdb_database="shared", lmdb_tag=tag)
        backend.create_column_family(f"beside {tag}", options)
        backend.put(f"beside {tag}", b"k", b"other")
    backend.put("tagged", b"k", b"own")

    assert list(backend.scan("tagged")) == [(b"k", b"own")]
    assert list(backend.scan("tagged", reverse=True)) == [(b"k", b"own")]
    assert list(backend.scan("tagged", b"l")) == []
    assert list(backend.scan("tagged", b"", b"a", reverse=True)) == []
