"""Ids from the allocator: never twice, never in conflict, within the range of their column."""

from __future__ import annotations

import threading

import attrs
import pytest

from kvdialect import exc
from kvdialect.codec.numeric import IntKind
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.allocator import Allocator


@pytest.fixture
def table(engine, model):
    engine.create_all([model.people()])
    return engine.bind(model.people())


def _narrow(model, bits: int, *, signed: bool = True):
    definition = model.people(indexes=False)
    first = attrs.evolve(definition.fields[0], kind=IntKind(bits, signed))
    return attrs.evolve(definition, fields=(first, *definition.fields[1:]))


def test_ids_count_from_one(engine, table):
    """Ids are handed out in order, alone or several at once."""
    allocator = engine.allocator(table)

    assert allocator.next() == 1
    assert list(allocator.take(3)) == [2, 3, 4]
    assert list(allocator.take(1000)) == list(range(5, 1005))
    assert allocator.next() == 1005


def test_a_block_costs_one_commit(engine, table):
    """The store is written once for many ids, and blocks grow with use."""
    allocator = engine.allocator(table)
    before = engine.backend.stats()["commits"]

    for _ in range(10_000):
        allocator.next()

    assert engine.backend.stats()["commits"] - before <= 8


def test_an_engine_has_one_allocator_for_each_table(engine, table, model):
    """Sessions of one engine draw from one block."""
    assert engine.allocator(table) is engine.allocator(engine.table("people"))
    fields = (model.field("id"), *model.people().fields[1:])
    engine.create_all([model.people(name="pets", indexes=False, fields=fields)])
    pets = engine.table("pets")
    with pytest.raises(exc.ProgrammingError, match="pets has no autoincrement column"):
        engine.allocator(pets)


def test_another_engine_gets_other_ids(engine, url, opened, table):
    """What one engine has reserved, no other hands out; nor does the next one that opens the store."""
    other = opened(url)

    first = set(engine.allocator(table).take(150))
    second = set(other.allocator(other.table("people")).take(150))
    third = set(opened(url).allocator(table).take(150))

    assert len(first | second | third) == 450


def test_threads_get_different_ids(engine, url, opened, table):
    """Threads on two engines get ids of their own, without an error."""
    allocators = [engine.allocator(table), opened(url).allocator(table)]
    given: list[list[int]] = [[] for _ in range(6)]

    def draw(number: int) -> None:
        for _ in range(300):
            given[number].append(allocators[number % 2].next())
            given[number].extend(allocators[number % 2].take(3))

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    ids = [each for part in given for each in part]
    assert len(ids) == 7200
    assert len(set(ids)) == 7200


def test_an_explicit_id_is_not_handed_out(engine, table):
    """After an explicit id the next ones are larger, within the block at hand and beyond it."""
    allocator = engine.allocator(table)
    allocator.next()

    allocator.observe(50)
    assert allocator.next() == 51
    allocator.observe(1_000_000)
    assert allocator.next() == 1_000_001
    allocator.observe(10)
    allocator.observe(-5)
    assert allocator.next() == 1_000_002


def test_explicit_ids_in_order_cost_few_commits(engine, table):
    """A first import with ids of its own does not pay a commit for each."""
    allocator = engine.allocator(table)
    before = engine.backend.stats()["commits"]

    for number in range(1, 10_001):
        allocator.observe(number)

    assert engine.backend.stats()["commits"] - before <= 8


def test_an_explicit_id_is_known_to_other_engines(engine, url, opened, table):
    """The mark is in the store: another engine, or a later one, goes on behind it."""
    engine.allocator(table).observe(5000)

    assert opened(url).allocator(table).next() > 5000


@pytest.mark.parametrize(("bits", "signed", "highest"), [(8, True, 127), (8, False, 255), (16, True, 32767)])
def test_a_range_that_is_used_up(engine, model, bits, signed, highest):
    """All ids of a small range are handed out, then DataError; explicit ids go to the end of the range."""
    engine.create_all([_narrow(model, bits, signed=signed)])
    allocator = engine.allocator(engine.table("people"))

    assert list(allocator.take(highest - 1)) == list(range(1, highest))
    assert allocator.next() == highest
    with pytest.raises(exc.DataError, match=f"the ids of people.id are used up: {highest} of {highest} are reserved"):
        allocator.next()


def test_an_explicit_id_may_be_the_last(engine, model):
    """The highest id of a column leaves none to hand out."""
    engine.create_all([_narrow(model, 64, signed=False)])
    allocator = engine.allocator(engine.table("people"))

    allocator.observe(2**64 - 1)

    with pytest.raises(exc.DataError, match="used up"):
        allocator.next()


def test_restarts_do_not_use_up_a_small_range(engine, model):
    """A block is small where the range is."""
    engine.create_all([_narrow(model, 16)])
    table = engine.table("people")

    for _ in range(100):
        Allocator(engine._live, table).next()

    assert engine.allocator(table).next() < 32767 // 4


def test_ids_begin_behind_those_of_the_records(engine, model):
    """A table that has rows and no mark, as when its column was made autoincrement later, begins behind them."""
    plain = model.people(indexes=False)
    plain = attrs.evolve(plain, fields=(attrs.evolve(plain.fields[0], autoincrement=False), *plain.fields[1:]))
    engine.create_all([plain])
    model.insert(engine, engine.bind(plain), (-7, "ada", 1), (40, "bob", 2))

    engine.upgrade([model.people(indexes=False)])

    assert engine.allocator(engine.table("people")).next() == 41


def test_a_dropped_table_leaves_no_mark(engine, table, model):
    """An allocator of a table that is gone says so, and brings nothing of it back."""
    allocator = engine.allocator(table)
    allocator.next()
    engine.drop_table("people")

    with pytest.raises(exc.SchemaChanged, match="people was dropped"):
        allocator.take(10_000)

    assert list(engine.backend.prefix_scan(RESERVED_FAMILY, b"ids/")) == []
    engine.create_all([model.people()])
    assert engine.allocator(engine.table("people")).next() == 1


def test_other_changes_of_the_schema_do_not_disturb(engine, url, opened, table, model):
    """An allocator goes on when another engine has changed the schema."""
    allocator = engine.allocator(table)
    opened(url).create_all([model.people(name="pets")])

    assert allocator.next() == 1


def test_a_damaged_mark_is_told(engine, table):
    """A mark of another length is no mark."""
    engine.backend.put(RESERVED_FAMILY, b"ids/\0\0\0\x01", b"abc")

    with pytest.raises(exc.Corruption, match="holds 3 bytes and is no mark of ids"):
        engine.allocator(table).next()
