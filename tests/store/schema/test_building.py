"""Building an index online: while others read and write, after a crash, with records that it cannot take."""

from __future__ import annotations

import itertools
import random
import threading

import attrs
import pytest

from kvdialect import exc
from kvdialect.codec.numeric import FloatKind
from kvdialect.codec.strings import TextKind
from kvdialect.schema.expressions import Column, Compare, Constant
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.building import new_cursor
from kvdialect.store.transaction import Transaction
from kvdialect.store.writer import RowChanges, commit, write_rows


@pytest.fixture
def filled(engine, model):
    """A store with 100 people, without indexes."""
    engine.create_all([model.people(indexes=False)])
    table = engine.bind(model.people(indexes=False))
    rows = [(number, f"n{number % 7}", number % 50 or None) for number in range(1, 101)]
    model.insert(engine, table, *rows)
    return engine


def test_an_index_is_built_over_what_is_there(filled, model):
    """Every record has its entry, and the progress that is told ends with all."""
    told = []

    filled.create_index("people", model.index("by_name", "name"), progress=lambda *p: told.append(p), batch_size=30)

    assert told == [(30, 100), (60, 100), (90, 100), (100, 100), (100, 100)]
    assert set(filled.table("people").readable) == {"by_name"}
    model.verify(filled)


@pytest.mark.parametrize("kind", ["partial", "covering", "descending", "unique"])
def test_every_sort_of_index_is_built(filled, model, kind):
    """Partial, covering, descending and unique indexes come out as writers would have made them."""
    index = {
        "partial": model.index("built", "name", where=Compare(">", Column("age"), Constant(10))),
        "covering": model.index("built", "name", include=("age",)),
        "descending": model.index("built", "-age", "name"),
        "unique": model.index("built", "name", "id", unique=True, include=("age",)),
    }[kind]

    filled.create_index("people", index, batch_size=13)

    model.verify(filled)


def test_creating_an_index_again_does_nothing(filled, model):
    """An index that is there and complete is left; another of its name is refused."""
    filled.create_index("people", model.index("by_name", "name"))
    version = filled.version_raw

    filled.create_index("people", model.index("by_name", "name"))

    assert filled.version_raw == version
    with pytest.raises(
        exc.ProgrammingError, match=r"has an index by_name already, and it is \(name\), not \(name desc\)"
    ):
        filled.create_index("people", model.index("by_name", "-name"))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"table": "pets"}, "no table 'pets'"),
        ({"columns": ("height",)}, "names 'height', which is no column of people"),
        ({"include": ("height",)}, "names 'height', which is no column of people"),
        ({"kind": "multi"}, "people.name cannot be in index by_name"),
    ],
)
def test_an_index_that_the_table_cannot_have_is_refused(filled, model, facts, message):
    """What is asked for is checked before anything is made."""
    facts = dict(facts)
    table, columns = facts.pop("table", "people"), facts.pop("columns", ("name",))

    with pytest.raises(exc.ProgrammingError, match=message):
        filled.create_index(table, model.index("by_name", *columns, **facts))
    with pytest.raises(exc.ArgumentError, match="batch_size=0"):
        filled.create_index("people", model.index("by_name", "name"), batch_size=0)

    model.verify(filled)


def test_an_index_that_is_being_built_is_written_and_not_read(filled, model):
    """From its first moment on writers keep it up; it is readable only when it is complete."""
    seen = []

    def look(done, total):
        del total
        table = filled.bind(model.people(indexes=False))
        seen.append((done, set(table.indexes), set(table.readable)))
        if done == 40:
            model.insert(filled, table, (1000, "late", 1), (0, "early", 2))

    filled.create_index("people", model.index("by_name", "name"), progress=look, batch_size=40)

    assert seen[0] == (40, {"by_name"}, set())
    assert set(filled.bind(model.people(indexes=False)).readable) == {"by_name"}
    model.verify(filled)


class _Interrupted(Exception):
    pass


def _interrupt(at: int):
    def progress(done: int, total: int) -> None:
        del total
        if done >= at:
            raise _Interrupted

    return progress


def test_a_building_goes_on_where_it_ended(filled, model):
    """What was done before an interruption is not done again."""
    index = model.index("by_name", "name")
    with pytest.raises(_Interrupted):
        filled.create_index("people", index, progress=_interrupt(60), batch_size=20)
    assert filled.table("people").readable == {}
    model.verify(filled)
    told = []

    filled.create_index("people", index, progress=lambda done, _: told.append(done), batch_size=20)

    assert told == [80, 100, 100]
    model.verify(filled)


def test_upgrade_goes_on_with_an_index_of_its_model(filled, model):
    """An upgrade that was cut off is finished by the next one; its session works in between."""
    wanted = model.people()
    with pytest.raises(_Interrupted):
        filled.upgrade([wanted], progress=_interrupt(20), batch_size=20)
    table = filled.bind(wanted)
    assert len(table.readable) < 2
    model.insert(filled, table, (200, "between", 3))

    filled.upgrade([wanted], batch_size=20)

    assert set(filled.bind(wanted).readable) == {"people_by_age", "people_by_name"}
    assert filled.differences([wanted]) == []
    model.verify(filled)


def test_an_index_dropped_while_it_is_built(filled, model):
    """The builder says that the index is gone, and leaves nothing of it; an index of the same name is another one."""
    index = model.index("by_name", "name")

    def drop(done, total):
        del total
        if done == 20:
            filled.drop_index("by_name")
            with pytest.raises(_Interrupted):
                filled.create_index("people", index, progress=_interrupt(20), batch_size=20)

    with pytest.raises(exc.SchemaChanged, match="by_name was dropped while it was being built"):
        filled.create_index("people", index, progress=drop, batch_size=20)

    model.verify(filled)
    filled.create_index("people", index)
    model.verify(filled)


def test_a_commit_that_meets_one_index_after_another(filled, model, monkeypatch):
    """A second try of a commit read by the snapshot of the first, which had no family of the newer index."""
    table = filled.bind(model.people(indexes=False))
    one, two = (model.index(name, "name", "id", unique=True) for name in ("one", "two"))
    with pytest.raises(_Interrupted):
        filled.create_index("people", one, progress=_interrupt(20), batch_size=20)
    write, met = filled.backend.batch_write, []

    def write_behind(batch):
        if not met:
            met.append(batch)
            with pytest.raises(_Interrupted):
                filled.create_index("people", two, progress=_interrupt(20), batch_size=20)
        write(batch)

    monkeypatch.setattr(filled.backend, "batch_write", write_behind)
    model.change(filled, table, (1, "changed", 5))
    monkeypatch.undo()

    filled.create_index("people", one)
    filled.create_index("people", two)
    model.verify(filled)


def test_a_table_dropped_while_an_index_is_built(filled, model):
    """Dropping a table ends the building of its indexes."""

    def drop(done, total):
        del done, total
        filled.drop_table("people")

    with pytest.raises(exc.SchemaChanged):
        filled.create_index("people", model.index("by_name", "name"), progress=drop, batch_size=20)

    model.verify(filled)
    assert filled.backend.column_families() == []


# ------------------------------------------------------------------------------------------------ refused records


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_duplicates_end_the_building_of_a_unique_index(filled, model, batch_size):
    """The error names the index, the values and two records; the store is as it was."""
    before = filled.version_raw

    with pytest.raises(exc.IntegrityError) as caught:
        filled.create_index("people", model.index("by_name", "name", unique=True), batch_size=batch_size)

    assert str(caught.value).startswith(
        "unique index by_name of people cannot be built: people(id=1) and people(id=8) both have (name='n1')"
    )
    assert (caught.value.index, caught.value.values) == ("by_name", ("n1",))
    assert filled.backend.column_families() == ["people"]
    assert filled.version_raw > before
    assert filled.differences([model.people(indexes=False)]) == []
    model.verify(filled)


def test_null_is_no_duplicate(filled, model):
    """NULLs are distinct in a unique index, those that are there already as well."""
    table = filled.bind(model.people(indexes=False))
    model.remove(filled, table, *[(number,) for number in range(50, 100)])

    filled.create_index("people", model.index("by_age", "age", unique=True), batch_size=9)

    assert [row[2] for row in model.rows(filled, table)].count(None) == 1
    model.insert(filled, filled.bind(model.people(indexes=False)), (500, "more", None))
    model.verify(filled)


def test_a_key_that_is_too_long_ends_the_building(filled, model):
    """The error names the record; the index is gone again."""
    model.insert(filled, filled.bind(model.people(indexes=False)), (77777, "x" * 600, None))

    with pytest.raises(exc.KeyTooLong, match=r"people\(id=77777\) in index by_name takes \d+ bytes"):
        filled.create_index("people", model.index("by_name", "name"), batch_size=30)

    assert filled.backend.column_families() == ["people"]
    model.verify(filled)


def test_what_has_no_order_ends_the_building(engine, model):
    """NaN has no place in an index; the error names the record and the field."""
    definition = model.people(indexes=False)
    definition = attrs.evolve(definition, fields=(*definition.fields, model.field("weight", FloatKind())))
    engine.create_all([definition])
    model.insert(engine, engine.bind(definition), (1, "ada", 36, 60.5), (2, "bob", 37, float("nan")))

    with pytest.raises(exc.DataError, match=r"people.weight of people\(id=2\) is nan"):
        engine.create_index("people", model.index("by_weight", "weight"))

    model.verify(engine)


def test_a_batch_too_large_for_the_store_is_halved(url, opened, model):
    """Batches fit max_batch_bytes, whatever batch_size says."""
    engine = opened(url, max_batch_bytes="20KiB")
    engine.create_all([model.people(indexes=False)])
    table = engine.bind(model.people(indexes=False))
    for number in range(1, 41):
        model.insert(engine, table, (number, "x" * 200 + str(number), None))

    engine.create_index("people", model.index("by_name", "name"), batch_size=1000)

    model.verify(engine)


def test_a_damaged_note_of_the_progress_is_told(filled, model):
    """The note is decoded with bounds; an index whose note is damaged can be dropped."""
    with pytest.raises(_Interrupted):
        filled.create_index("people", model.index("by_name", "name"), progress=_interrupt(20), batch_size=20)
    filled.backend.put(RESERVED_FAMILY, b"catalog/building/by_name", b"\x93\x01")

    with pytest.raises(exc.Corruption, match="catalog/building/by_name"):
        filled.create_index("people", model.index("by_name", "name"))

    filled.drop_index("by_name")
    model.verify(filled)


# ------------------------------------------------------------------------------------------------ while others write


def _write_until(engine, model, stop: threading.Event, seed: int, errors: list[BaseException]) -> None:
    """Insert, change and delete records at random until told to stop, each in a transaction that is tried again."""
    rng = random.Random(seed)
    fresh = itertools.count(1000 * (seed + 1))
    definition = model.people(indexes=False)
    try:
        while not stop.is_set():
            try:
                engine.refresh()
                table = engine.bind(definition)
                known = [row[0] for row in model.rows(engine, table)]
                action = rng.randrange(3)
                if action == 0 or len(known) < 20:
                    model.insert(engine, table, (next(fresh), f"n{rng.randrange(9)}", rng.choice([None, 1, 2, 3])))
                elif action == 1:
                    model.change(engine, table, (rng.choice(known), f"n{rng.randrange(9)}", rng.choice([None, 4, 5])))
                else:
                    model.remove(engine, table, (rng.choice(known),))
            except (exc.ConflictError, LookupError):
                pass  # another thread has changed the record, or deleted it
    except BaseException as error:  # noqa: BLE001 - reported by the test
        errors.append(error)


@pytest.mark.parametrize("unique", [False, True])
def test_records_change_while_an_index_is_built(filled, url, opened, model, unique):
    """Entries and records agree both ways, although two threads write all the time, one by an engine of its own."""
    stop = threading.Event()
    errors: list[BaseException] = []
    other = opened(url)
    threads = [
        threading.Thread(target=_write_until, args=(engine, model, stop, seed, errors))
        for seed, engine in enumerate((filled, other))
    ]
    for thread in threads:
        thread.start()
    try:
        columns = ("name", "id") if unique else ("name", "age")
        for number in range(3):
            index = model.index(f"built_{number}", *columns, unique=unique)
            filled.create_index("people", index, batch_size=5, progress=lambda *_: None)
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert errors == []
    assert set(filled.table("people").readable) == {"built_0", "built_1", "built_2"}
    model.verify(filled)


@pytest.mark.parametrize("unique", [False, True])
def test_records_change_while_a_building_is_cut_off(filled, model, unique):
    """Records that have no entry yet can be changed and deleted, however long the building rests."""
    index = model.index("built", "name", "id", unique=unique)
    with pytest.raises(_Interrupted):
        filled.create_index("people", index, progress=_interrupt(20), batch_size=20)
    table = filled.bind(model.people(indexes=False))

    model.change(filled, table, (90, "changed", 1), (5, "changed", 1))
    model.remove(filled, table, (91,), (6,))
    model.insert(filled, table, (300, "new", 1))

    filled.create_index("people", index)
    model.verify(filled)


def test_a_value_moves_while_a_unique_index_is_built(filled, model):
    """A record without an entry yet gives up a value that another has taken meanwhile: that one's entry stays."""
    table = filled.bind(model.people(indexes=False))
    model.change(filled, table, *[(number, f"n{number}", None) for number in range(1, 101)])
    index = model.index("built", "name", unique=True)
    with pytest.raises(_Interrupted):
        filled.create_index("people", index, progress=_interrupt(20), batch_size=20)
    table = filled.bind(model.people(indexes=False))
    model.insert(filled, table, (0, "n90", None))  # behind the cursor: nobody looks at it again

    model.change(filled, table, (90, "other", None))

    filled.create_index("people", index)
    model.verify(filled)


def test_two_build_one_index_at_once(filled, url, opened, model):
    """Two that create the same index both succeed, and it is right."""
    engines = [filled, opened(url)]
    errors: list[BaseException] = []

    def create(engine) -> None:
        try:
            engine.create_index("people", model.index("by_name", "name"), batch_size=3)
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=create, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    for engine in engines:
        model.verify(engine)
        assert set(engine.table("people").readable) == {"by_name"}


def test_a_writer_that_does_not_know_the_index_is_stopped(filled, url, opened, model):
    """A transaction begun before the index was made writes the entry all the same: its commit expects the version."""
    other = opened(url)
    table = other.bind(model.people(indexes=False))
    txn = Transaction(other)
    write_rows(txn, table, RowChanges(new=[(5000, "before", 5)]))
    filled.create_index("people", model.index("by_name", "name"))

    commit(txn)

    model.verify(filled)
    assert (5000, "before", 5) in model.rows(filled, filled.table("people"))


def test_an_old_snapshot_has_the_old_catalog(filled, model):
    """A reader whose snapshot is older than the index does not read it, whatever the engine has learnt since."""
    with filled.backend.snapshot() as snapshot:
        filled.create_index("people", model.index("by_name", "name"))

        old = filled.catalog_at(snapshot)

        assert old.table("people").indexes == {}
    assert set(filled.catalog.table("people").readable) == {"by_name"}


def test_cursors_of_two_buildings_differ():
    """A building is told from an earlier one of the same name."""
    assert new_cursor() != new_cursor()


def test_long_text_is_bounded_by_bytes(engine, model):
    """A batch ends early when its records are large, so memory stays bounded."""
    definition = model.people(indexes=False)
    definition = attrs.evolve(definition, fields=(*definition.fields, model.field("story", TextKind())))
    engine.create_all([definition])
    table = engine.bind(definition)
    for number in range(1, 9):
        model.insert(engine, table, (number, "ada", None, "x" * (1 << 20)))
    told = []

    engine.create_index("people", model.index("by_name", "name"), progress=lambda done, _: told.append(done))

    assert len(told) > 2
    assert told[-1] == 8
    model.verify(engine)
