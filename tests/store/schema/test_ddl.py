"""Creating and dropping tables: idempotent, crash-safe, at once from everywhere."""

from __future__ import annotations

import logging
import threading

import attrs
import pytest
from sqlalchemy import make_url

from kvdialect import ColumnFamilyOptions, exc, open_backend
from kvdialect.codec.numeric import IntKind
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.engine import Engine, open_engine
from kvdialect.store.locks import schema_lock
from kvdialect.testing.faults import Fault, FaultPlan, FaultyBackend

PERSISTENT = pytest.mark.parametrize(
    "persistent", [pytest.param(name, marks=pytest.mark.engine(name)) for name in ("lmdb", "rocksdb")]
)
"""For what a memory store, which ends with its last handle, cannot show."""


class Crash(BaseException):
    """What the process dies of: nothing that it does afterwards has any effect."""


def test_a_created_table_has_families_and_an_entry(engine, model):
    """A table and each of its indexes has a family of its own; the catalog gives ids from 1."""
    engine.create_all([model.people()])

    table = engine.table("people")
    assert engine.backend.column_families() == ["people", "people_by_age", "people_by_name"]
    assert table.definition.id == 1
    assert [field.id for field in table.definition.fields] == [1, 2, 3]
    assert set(table.readable) == {"people_by_age", "people_by_name"}
    model.verify(engine)


def test_creating_again_changes_nothing(engine, model):
    """create_all leaves tables that are as declared, and the schema version with them."""
    engine.create_all([model.people()])
    version = engine.version_raw

    engine.create_all([model.people()])

    assert engine.version_raw == version


def test_creating_adds_what_is_missing(engine, model):
    """Tables are created beside others, each with an id of its own."""
    engine.create_all([model.people()])

    engine.create_all([model.people(), model.people(name="pets")])

    assert {name: entry.definition.id for name, entry in engine.catalog.entries.items()} == {"people": 1, "pets": 2}
    model.verify(engine)


@PERSISTENT
def test_a_store_is_found_as_it_was_left(persistent, tmp_path, model):
    """Tables, ids and rows are there when the store is opened again."""
    url = f"{persistent}:///{tmp_path}/store"
    with open_engine(url) as first:
        first.create_all([model.people()])
        model.insert(first, first.bind(model.people()), (1, "ada", 36))
        entry = first.catalog.entries["people"].raw

    with open_engine(url) as engine:
        assert engine.catalog.entries["people"].raw == entry
        assert model.rows(engine, engine.bind(model.people())) == [(1, "ada", 36)]
        model.verify(engine)


def test_without_checkfirst_a_table_that_is_there_is_refused(engine, model):
    """checkfirst=False is for programs that know the table to be new."""
    engine.create_all([model.people()])

    with pytest.raises(exc.ProgrammingError, match="has a table people already"):
        engine.create_all([model.people()], checkfirst=False)


def test_a_differing_table_is_refused_before_any_is_created(engine, model):
    """create_all lists all that differs, in all tables, and creates none of the missing ones."""
    engine.create_all([model.people(), model.people(name="pets")])
    changed = [
        attrs.evolve(each, fields=(*each.fields, model.field("height", default=0)))
        for each in (model.people(), model.people(name="pets"))
    ]

    with pytest.raises(exc.SchemaMismatch) as caught:
        engine.create_all([*changed, model.people(name="plants")])

    assert [(each.table, each.subject) for each in caught.value.differences] == [
        ("people", "column height"),
        ("pets", "column height"),
    ]
    assert "models.upgrade(engine)" in str(caught.value)
    assert "plants" not in engine.catalog.entries
    model.verify(engine)


def test_dropping_frees_families_counts_and_ids(engine, model):
    """A dropped table leaves no family, count or mark of ids behind; its id is not used again."""
    engine.create_all([model.people()])
    table = engine.bind(model.people())
    model.insert(engine, table, (engine.allocator(table).next(), "ada", 36))

    engine.drop_all([model.people()])

    assert engine.backend.column_families() == []
    own = [key for key, _ in engine.backend.scan(RESERVED_FAMILY, b"", b"\xff")]
    assert own == [b"catalog/format", b"catalog/next-id", b"catalog/version"]
    engine.create_all([model.people()])
    assert engine.table("people").definition.id == 2
    assert model.rows(engine, engine.table("people")) == []
    model.verify(engine)


def test_a_table_whose_families_cannot_be_removed_yet_is_dropped(engine, model, monkeypatch, caplog):
    """Dropping raised LockTimeout, "nothing was applied, try again", though the table was gone."""
    engine.create_all([model.people()])

    def held(_family):
        raise exc.LockTimeout("another writer held the store")

    monkeypatch.setattr(engine.backend, "drop_column_family", held)
    with caplog.at_level(logging.WARNING):
        engine.drop_table("people")
    monkeypatch.undo()
    assert list(engine.catalog.entries) == []
    assert "stay for now" in caplog.text

    engine.create_all([model.people()])
    model.verify(engine)
    assert engine.backend.column_families() == ["people", "people_by_age", "people_by_name"]


def test_dropping_what_is_not_there(engine, model):
    """drop_all passes over tables that the store does not have; drop_table and drop_index name the one asked for."""
    engine.drop_all([model.people()])

    with pytest.raises(exc.ProgrammingError, match="no table 'people'"):
        engine.drop_table("people")
    with pytest.raises(exc.ProgrammingError, match="no index 'people_by_age'"):
        engine.drop_index("people_by_age")


def test_a_dropped_index_is_gone_and_the_rest_stays(engine, model):
    """Dropping an index frees its family; the table goes on without it."""
    engine.create_all([model.people()])
    model.insert(engine, engine.bind(model.people()), (1, "ada", 36))

    engine.drop_index("people_by_age")

    assert engine.backend.column_families() == ["people", "people_by_name"]
    assert set(engine.table("people").indexes) == {"people_by_name"}
    model.verify(engine)


# ------------------------------------------------------------------------------------------------ names


def test_two_tables_or_indexes_of_one_name_are_refused(engine, model):
    """Tables and indexes share the names of column families."""
    twins = [model.people(), model.people(indexes=False, name="pets", primary_key=("id",))]
    twins[1] = attrs.evolve(twins[1], indexes=(model.index("people_by_age", "age"),))

    with pytest.raises(
        exc.ArgumentError, match=r"'people_by_age' is declared twice: by an index of table people and by"
    ):
        engine.create_all(twins)
    with pytest.raises(exc.ArgumentError, match="'people' is declared twice"):
        engine.create_all([attrs.evolve(model.people(), indexes=(model.index("people", "name"),))])
    assert engine.backend.column_families() == []


def test_a_name_that_another_table_of_the_store_has_is_refused(engine, model):
    """An index cannot take the name of a table that is there, nor a table that of an index."""
    engine.create_all([model.people()])

    with pytest.raises(exc.ProgrammingError, match="'people' is taken by table people"):
        engine.create_all([model.people(name="pets", indexes=False, primary_key=("id",)).__class__(
            name="pets", fields=model.people().fields, primary_key=("id",), indexes=(model.index("people", "name"),),
        )])  # fmt: skip
    with pytest.raises(exc.ProgrammingError, match="'people_by_age' is taken by an index of table people"):
        engine.create_all([model.people(name="people_by_age", indexes=False)])
    model.verify(engine)


@pytest.mark.parametrize("name", ["", "kvdialect", "kvdialect.sql", "default", "a\nb", "ä" * 65])
def test_a_name_that_no_family_may_have_is_refused(engine, model, name):
    """Names are checked before anything is made."""
    with pytest.raises(exc.ArgumentError, match="column family name"):
        engine.create_all([model.people(name=name, indexes=False)])


# ------------------------------------------------------------------------------------------------ adopted families


def test_an_empty_family_is_adopted(url, opened, model):
    """A family that a program declared beforehand becomes the table's."""
    engine = opened(url, column_families=["people"])

    engine.create_all([model.people()])

    model.insert(engine, engine.bind(model.people()), (1, "ada", 36))
    model.verify(engine)


def test_a_family_with_data_is_refused_and_left(url, opened, model):
    """Data that are not the catalog's are never taken over or deleted; other families of the attempt are gone again."""
    engine = opened(url, column_families=["people_by_name"])
    engine.backend.put("people_by_name", b"k", b"v")

    with pytest.raises(exc.ColumnFamilyExists, match="people_by_name holds data that are not the catalog's"):
        engine.create_all([model.people()])

    assert engine.backend.column_families() == ["people_by_name"]
    assert engine.backend.get("people_by_name", b"k") == b"v"


@PERSISTENT
def test_opening_removes_empty_strays_and_leaves_full_ones(persistent, tmp_path, caplog):
    """A family that nobody knows goes if it is empty and no other process can use it; one with data is named."""
    url = f"{persistent}:///{tmp_path}/store"
    with open_backend(url, column_families=["empty", "full"]) as backend:
        backend.put("full", b"k", b"v")

    with caplog.at_level(logging.WARNING), open_engine(url) as engine:
        families = engine.backend.column_families()

    assert families == (["empty", "full"] if persistent == "lmdb" else ["full"])
    assert "'full' holds data and belongs to no table or index" in caplog.text


def test_opening_leaves_families_that_are_in_use(url, opened):
    """What this engine declares, or another handle of the process has open, is no stray."""
    with open_backend(url, column_families=["mine"]):
        engine = opened(url, column_families=["yours"])

        assert engine.backend.column_families() == ["mine", "yours"]


# ------------------------------------------------------------------------------------------------ crashes


def _other(url: str):
    """A second handle on a store, so that a memory store outlives a crash of the first."""
    return open_backend(url)


def _crashing(url: str, at: int, *, applied: bool) -> tuple[Engine, FaultPlan]:
    """An engine of which write number ``at`` and all that follow fail; the first is carried out if ``applied``."""
    first = Fault("write", at, error=Crash, applied=applied)
    plan = FaultPlan(first, Fault("write", at + 1, times=1 << 30, error=Crash))
    return Engine(FaultyBackend(open_backend(url), plan), make_url(url)), plan


def _create(engine, model):
    engine.create_all([model.people(), model.people(name="pets", indexes=False)])


def _drop(engine, model):
    engine.drop_all([model.people()])


def _upgrade(engine, model):
    now = model.people()
    fields = (now.fields[0], attrs.evolve(now.fields[1], name="called", previously="name"), now.fields[2])
    engine.upgrade(
        [
            attrs.evolve(
                now,
                fields=(*fields, model.field("height", default=3)),
                indexes=(now.index("people_by_age"), model.index("people_by_called", "called", unique=True)),
            ),
            model.people(name="pets", indexes=False),
        ],
        batch_size=2,
    )


def _create_index(engine, model):
    engine.create_index("people", model.index("people_by_both", "age", "-name"), batch_size=2)


OPERATIONS = {"create": _create, "drop": _drop, "upgrade": _upgrade, "create_index": _create_index}


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_crash_at_any_write_leaves_a_sound_store(engine_name, tmp_path, model, operation, applied):
    """Whichever write a process dies at, the next opening has all of a change or none, and the change can be done."""
    carry_out = OPERATIONS[operation]
    for at in range(1, 100):
        path = f"/crash-{tmp_path.name}-{at}" if engine_name == "memory" else f"{tmp_path}/{at}"
        url = f"{engine_name}:///{path}"
        with _other(url):
            with open_engine(url) as engine:
                if operation != "create":
                    engine.create_all([model.people()])
                    rows = [(number, f"n{number}", number % 3 or None) for number in range(1, 6)]
                    model.insert(engine, engine.bind(model.people()), *rows)
            crashing, plan = _crashing(url, at, applied=applied)
            crashed = False
            try:
                carry_out(crashing, model)
            except Crash:
                crashed = True
            assert crashed == bool(plan.happened)
            crashing.backend.inner.close()
            with open_engine(url) as engine:
                model.verify(engine)
                carry_out(engine, model)
                model.verify(engine)
                states = [
                    index.state for entry in engine.catalog.entries.values() for index in entry.definition.indexes
                ]
                assert set(states) <= {"readable"}
        if not crashed:
            return
    pytest.fail("the operation never came to its end")


def test_a_failed_change_is_undone_at_once(url, model):
    """An error that is no crash leaves no family and no intent behind, and the change can be tried again."""
    plan = FaultPlan(Fault("create_column_family", at=2))
    engine = Engine(FaultyBackend(open_backend(url), plan), make_url(url))

    with pytest.raises(exc.BackendError):
        engine.create_all([model.people()])

    assert engine.backend.column_families() == []
    model.verify(engine)
    engine.create_all([model.people()])
    model.verify(engine)
    engine.close()


def test_a_change_of_unknown_outcome_is_not_undone(url, model):
    """Where the catalog's batch may have been written, its families stay until that is known."""
    plan = FaultPlan(
        Fault("batch_write", at=3, outcome="unknown", applied=True)
    )  # the catalog itself, intents, entries
    engine = Engine(FaultyBackend(open_backend(url), plan), make_url(url))

    with pytest.raises(exc.CommitOutcomeUnknown):
        engine.create_all([model.people()])

    engine.reload()
    assert set(engine.catalog.entries) == {"people"}
    model.verify(engine)
    engine.close()


# ------------------------------------------------------------------------------------------------ at once


def test_threads_and_engines_create_at_once(url, opened, model):
    """Concurrent callers of create_all all succeed, on one engine and on several, and each table is made once."""
    engines = [opened(url), opened(url)]
    errors: list[BaseException] = []
    barrier = threading.Barrier(6)

    def create(number: int) -> None:
        barrier.wait()
        try:
            engines[number % 2].create_all([model.people(), model.people(name="pets"), model.people(name="plants")])
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    for engine in engines:
        model.verify(engine)
        assert {entry.definition.id for entry in engine.catalog.entries.values()} == {1, 2, 3}


def test_opening_does_not_disturb_a_change_in_progress(url, opened):
    """A store opened while another is changing its schema leaves the new families alone."""
    engine = opened(url)
    with schema_lock(engine.backend, 0.0):
        engine.backend.create_column_family("people")
        engine.backend.put(RESERVED_FAMILY, b"catalog/intent/people", b"create")

        second = opened(url)

        assert second.backend.column_families() == ["people"]


def test_a_held_lock_is_named(url, opened, model, monkeypatch):
    """A change that waits too long for another says so, is retryable, and changes nothing."""
    monkeypatch.setattr("kvdialect.store.ddl.LOCK_SECONDS", 0.05)
    engine = opened(url)

    with (
        schema_lock(engine.backend, 0.0),
        pytest.raises(exc.LockTimeout, match="has been changing the schema") as caught,
    ):
        engine.create_all([model.people()])

    assert caught.value.retryable
    assert engine.backend.column_families() == []


def test_reads_and_writes_go_on_while_the_schema_lock_is_held(engine, model):
    """The lock is between changes of the schema; records do not know it."""
    engine.create_all([model.people()])
    table = engine.bind(model.people())

    with schema_lock(engine.backend, 0.0):
        model.insert(engine, table, (1, "ada", 36))
        engine.create_all([model.people()])  # nothing to do
        assert model.rows(engine, table) == [(1, "ada", 36)]


# ------------------------------------------------------------------------------------------------ the rest


@pytest.mark.engine("lmdb")
def test_a_store_open_for_reading_is_not_changed(tmp_path, model):
    """Without a catalog it reads as empty; with one, create_all succeeds if there is nothing to create."""
    url = f"lmdb:///{tmp_path}/store"
    open_backend(url).close()
    with open_engine(url, mode="ro") as engine:
        assert dict(engine.catalog.entries) == {}
        assert engine.version_raw is None
        with pytest.raises(exc.ReadOnlyStore):
            engine.create_all([model.people()])
    with open_engine(url) as engine:
        engine.create_all([model.people()])
    with open_engine(url, mode="ro") as engine:
        engine.create_all([model.people()])
        with pytest.raises(exc.ReadOnlyStore):
            engine.drop_all([model.people()])


@pytest.mark.engine("rocksdb")
def test_changed_options_apply_at_the_next_opening(tmp_path, model):
    """Options of families that may change are noted by upgrade, and RocksDB has them once the store is opened again."""
    from kvdialect.storage.rocksdb.options import read_options_file

    url = f"rocksdb:///{tmp_path}/store"
    before = model.people(indexes=False)
    after = attrs.evolve(before, options=ColumnFamilyOptions(write_buffer_size="8MiB"))
    with open_engine(url) as engine:
        engine.create_all([before])
        assert [each.blocking for each in engine.differences([after])] == [False]
        engine.bind(after)
        engine.upgrade([after])
        assert engine.differences([after]) == []

    with open_engine(url):
        pass

    assert read_options_file(f"{tmp_path}/store")["people"]["write_buffer_size"] == str(8 << 20)
    with open_engine(url) as engine:
        assert engine.backend.get(RESERVED_FAMILY, b"catalog/reopen") is None
        model.verify(engine)


def test_an_engine_says_what_it_is(url, opened, model):
    """The repr shows the URL; stats has rows and states; the SQL door is on the same store."""
    engine = opened(url, isolation_level="SERIALIZABLE")
    engine.create_all([model.people()])
    model.insert(engine, engine.bind(model.people()), (1, "ada", None))

    assert repr(engine) == f"Engine({url})"
    assert engine.isolation_level == "SERIALIZABLE"
    assert engine.stats()["tables"]["people"] == {
        "rows": 1,
        "version": 1,
        "indexes": {"people_by_age": "readable", "people_by_name": "readable"},
    }
    door = engine.sqlalchemy(pool_size=1)
    with door.connect() as connection:
        assert connection.exec_driver_sql("select name from people").scalars().all() == ["ada"]
    door.dispose()
    assert engine.stats()["tables"]["people"]["rows"] == 1


def test_isolation_levels_come_from_options_and_urls(engine_name, tmp_path):
    """The level of an engine may stand in the URL; an unknown one is refused, and leaves nothing open."""
    base = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store"

    with open_engine(f"{base}?isolation_level=SERIALIZABLE") as engine:
        assert engine.isolation_level == "SERIALIZABLE"
    with pytest.raises(exc.ArgumentError, match="allowed: SNAPSHOT, SERIALIZABLE"):
        open_engine(base, isolation_level="READ COMMITTED")
    with open_engine(base) as engine:
        assert engine.isolation_level == "SNAPSHOT"


def test_a_narrow_id_column_keeps_its_kind(engine, model):
    """Kinds come back from the catalog as they were declared."""
    definition = model.people(indexes=False)
    fields = (attrs.evolve(definition.fields[0], kind=IntKind(16)), *definition.fields[1:])
    engine.create_all([attrs.evolve(definition, fields=fields)])

    assert engine.table("people").definition.fields[0].kind == IntKind(16)
