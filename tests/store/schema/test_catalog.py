"""The catalog of an open store: found again, refused when it is newer, brought up to date, bound to models."""

from __future__ import annotations

import enum
import subprocess
import sys
import textwrap

import attrs
import pytest
from sqlalchemy import make_url

from kvdialect import exc, open_backend
from kvdialect.codec.strings import EnumKind
from kvdialect.schema.expressions import Column, Compare, Constant
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store.catalog import Catalog
from kvdialect.store.engine import Engine, open_engine
from kvdialect.store.transaction import Transaction
from kvdialect.store.writer import RowChanges, commit, write_rows
from kvdialect.testing.faults import FaultPlan, FaultyBackend


class Mood(enum.Enum):
    GLAD = 1
    SAD = 2


def _moody(model, **changes):
    kind = EnumKind({member.name: member for member in Mood}, Mood)
    definition = model.people(indexes=False)
    return attrs.evolve(definition, fields=(*definition.fields, model.field("mood", kind)), **changes)


def test_a_new_store_gets_an_empty_catalog(engine):
    """Format 1, schema version 1, table ids from 1, as 8 bytes each; these are for ever."""
    own = dict(engine.backend.scan(RESERVED_FAMILY, b"", b"\xff"))

    assert own == {
        b"catalog/format": b"\0\0\0\0\0\0\0\x01",
        b"catalog/version": b"\0\0\0\0\0\0\0\x01",
        b"catalog/next-id": b"\0\0\0\0\0\0\0\x01",
    }
    assert engine.version_raw == b"\0\0\0\0\0\0\0\x01"


def test_keys_of_the_reserved_family(engine, model):
    """Where tables, counts and marks of ids are; these are for ever."""
    engine.create_all([model.people()])
    table = engine.bind(model.people())
    model.insert(engine, table, (engine.allocator(table).next(), "ada", 36))

    own = dict(engine.backend.scan(RESERVED_FAMILY, b"", b"\xff"))

    assert own.keys() == {
        b"catalog/format", b"catalog/version", b"catalog/next-id", b"catalog/table/people", b"count/\0\0\0\x01",
        b"ids/\0\0\0\x01",
    }  # fmt: skip
    assert own[b"catalog/version"] == b"\0\0\0\0\0\0\0\x02"
    assert own[b"count/\0\0\0\x01"] == b"\0\0\0\0\0\0\0\x01"
    assert own[b"ids/\0\0\0\x01"] == b"\0\0\0\0\0\0\0\x64"


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        (b"catalog/format", b"\0\0\0\0\0\0\0\x02", exc.StoreFormatError, "has format 2; this release reads up to 1"),
        (b"catalog/format", b"1", exc.Corruption, "catalog/format"),
        (b"catalog/version", b"", exc.Corruption, "catalog/version"),
        (b"catalog/version", None, exc.Corruption, "catalog/version"),
        (b"catalog/next-id", None, exc.Corruption, "catalog/next-id"),
        (b"catalog/table/people", b"{}", exc.Corruption, "catalog/table/people"),
        (b"catalog/table/people", b'{"entry":7}', exc.StoreFormatError, "layout 7"),
        (b"catalog/table/pets", b"copied", exc.Corruption, "catalog/table/pets.* is damaged: it is of table 'people'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_at_open(url, opened, model, key, value, error, message):
    """A newer format says that a newer release is needed, damage says where; nothing is left open or changed."""
    keeper = open_backend(url)
    with open_engine(url) as engine:
        engine.create_all([model.people()])
        if value == b"copied":
            value = engine.catalog.entries["people"].raw
        if value is None:
            engine.backend.delete(RESERVED_FAMILY, key)
        else:
            engine.backend.put(RESERVED_FAMILY, key, value)
    before = list(keeper.scan(RESERVED_FAMILY, b"", b"\xff"))

    with pytest.raises(error, match=message):
        opened(url)

    assert list(keeper.scan(RESERVED_FAMILY, b"", b"\xff")) == before
    assert keeper.engine.references == 1
    keeper.close()


def test_an_unknown_table_is_named(engine, model):
    """The error has the name asked for, and a near one."""
    engine.create_all([model.people()])

    with pytest.raises(exc.ProgrammingError, match=r"no table 'peopel' \(did you mean 'people'\?\)"):
        engine.table("peopel")
    with pytest.raises(exc.ProgrammingError, match=r"no table 'x' \(models.create_all\(engine\) creates"):
        engine.table("x")


# ------------------------------------------------------------------------------------------------ several engines


def test_engines_see_what_the_others_do(url, opened, model):
    """A table made on one engine is found by another; refresh notices every change of the schema."""
    first, second = opened(url), opened(url)

    first.create_all([model.people()])
    assert second.table("people").name == "people"
    first.drop_index("people_by_age")
    assert set(second.table("people").indexes) == {"people_by_age", "people_by_name"}

    second.refresh()

    assert set(second.table("people").indexes) == {"people_by_name"}


def test_refreshing_costs_one_read(url, model):
    """Where nothing has changed, one key is read, and the catalog is the same object."""
    plan = FaultPlan()
    engine = Engine(FaultyBackend(open_backend(url), plan), make_url(url))
    engine.create_all([model.people()])
    before, catalog = dict(plan.calls), engine.catalog

    engine.refresh()

    assert {name: count - before.get(name, 0) for name, count in plan.calls.items() if count != before.get(name)} == {
        "get": 1
    }
    assert engine.catalog is catalog
    engine.close()


def test_unchanged_tables_are_kept(url, opened, model):
    """A reload makes anew what has changed, and keeps the generated code of the rest."""
    engine, other = opened(url), opened(url)
    engine.create_all([model.people(), model.people(name="pets")])
    people, pets = engine.table("people"), engine.table("pets")
    other.drop_index("pets_by_age")

    engine.refresh()

    assert engine.table("people") is people
    assert engine.table("pets") is not pets


def test_a_writer_with_an_outdated_catalog_keeps_new_indexes(url, opened, model):
    """A commit expects the schema version: who does not know it yet reloads, and writes what is needed."""
    first, second = opened(url), opened(url)
    first.create_all([model.people(indexes=False)])
    table = second.table("people")
    first.create_index("people", model.index("by_name", "name"))

    model.insert(second, table, (1, "ada", 36))

    assert len(list(first.backend.scan("by_name"))) == 1
    model.verify(first)


def test_a_writer_whose_fields_are_gone_is_stopped(url, opened, model):
    """Where the fields have changed meanwhile, or the table is gone, the commit is SchemaChanged and writes nothing."""
    first, second = opened(url), opened(url)
    plain = model.people(indexes=False)
    first.create_all([plain])
    txn, other = Transaction(second), Transaction(second)
    for each, number in ((txn, 1), (other, 2)):
        write_rows(each, second.table("people"), RowChanges(new=[(number, "ada", 36)]))
    first.upgrade([attrs.evolve(plain, fields=(*plain.fields, model.field("height", default=0)))])

    with pytest.raises(
        exc.SchemaChanged, match=r"fields of table people were changed .* from version 1 to 2"
    ) as caught:
        commit(txn)
    first.drop_all([plain])
    with pytest.raises((exc.SchemaChanged, exc.UnknownColumnFamily)):
        commit(other)

    assert caught.value.retryable
    assert first.backend.column_families() == []


def test_an_older_catalog_never_replaces_a_newer_one(engine, model):
    """A snapshot taken before a change is read by the catalog of its time; the engine keeps the newest."""
    with engine.backend.snapshot() as before:
        engine.create_all([model.people()])
        newest = engine.catalog

        assert dict(engine.catalog_at(before).entries) == {}
        assert engine.catalog is newest
    with engine.backend.snapshot() as after:
        assert engine.catalog_at(after) is newest


@pytest.mark.engine("lmdb")
def test_processes_see_what_the_others_do(tmp_path, model):
    """On LMDB a second process makes tables and indexes, and this one, which is writing, keeps them."""
    url = f"lmdb:///{tmp_path}/store"
    script = textwrap.dedent(
        """
        import sys
        from kvdialect.store.engine import open_engine
        from kvdialect.schema.definition import IndexDefinition, IndexPart
        engine = open_engine(sys.argv[1])
        engine.create_index("people", IndexDefinition(name="by_name", parts=(IndexPart(name="name"),)))
        print(sorted(engine.catalog.entries), flush=True)
        """
    )
    with open_engine(url) as engine:
        engine.create_all([model.people(indexes=False)])
        table = engine.table("people")
        model.insert(engine, table, (1, "ada", 36))

        done = subprocess.run(
            [sys.executable, "-c", script, url], capture_output=True, text=True, timeout=60, check=False
        )

        assert (done.stdout.strip(), done.stderr) == ("['people']", "")
        model.insert(engine, table, (2, "bob", 37))
        assert set(engine.table("people").readable) == {"by_name"}
        model.verify(engine)


@pytest.mark.engine("lmdb")
def test_processes_change_the_schema_at_once(tmp_path, model):
    """On LMDB several processes make the same tables and indexes at once; all succeed, and each is made once."""
    url = f"lmdb:///{tmp_path}/store"
    script = textwrap.dedent(
        """
        import sys
        from kvdialect.codec.numeric import IntKind
        from kvdialect.codec.strings import TextKind
        from kvdialect.schema.definition import MISSING, FieldDefinition, IndexDefinition, IndexPart, TableDefinition
        from kvdialect.store.engine import open_engine

        def field(name, kind):
            return FieldDefinition(name=name, kind=kind, default=MISSING)

        def index(name, column):
            return IndexDefinition(name=name, parts=(IndexPart(name=column),))

        engine = open_engine(sys.argv[1])
        print("open", flush=True)
        sys.stdin.readline()
        tables = [
            TableDefinition(
                name=f"t{number}",
                fields=(field("id", IntKind()), field("name", TextKind())),
                primary_key=("id",),
                indexes=(index(f"t{number}_by_name", "name"),),
            )
            for number in range(4)
        ]
        engine.create_all(tables)
        engine.create_index("people", index("by_name", "name"), batch_size=3)
        engine.upgrade([*tables])
        engine.close()
        """
    )
    with open_engine(url) as engine:
        engine.create_all([model.people(indexes=False)])
        model.insert(engine, engine.table("people"), *[(number, f"n{number % 7}", None) for number in range(60)])
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, url],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for _ in range(3)
        ]  # fmt: skip
        for process in processes:
            assert process.stdout.readline() == "open\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        results = [process.communicate(timeout=90) for process in processes]

        assert [error for _, error in results] == ["", "", ""]
        engine.refresh()
        assert {entry.definition.id for entry in engine.catalog.entries.values()} == {1, 2, 3, 4, 5}
        assert set(engine.table("people").readable) == {"by_name"}
        model.verify(engine)


# ------------------------------------------------------------------------------------------------ binding


def test_a_bound_table_has_the_programs_classes(engine, model):
    """The model's kinds give members of an Enum where the catalog alone gives names."""
    definition = _moody(model)
    engine.create_all([definition])
    model.insert(engine, engine.bind(definition), (1, "ada", 36, Mood.SAD))

    assert model.rows(engine, engine.bind(definition)) == [(1, "ada", 36, Mood.SAD)]
    assert model.rows(engine, engine.table("people")) == [(1, "ada", 36, "SAD")]


def test_binding_is_done_once(engine, url, opened, model):
    """One definition gives one table, until the catalog has another."""
    definition = model.people()
    engine.create_all([definition])
    table = engine.bind(definition)

    assert engine.bind(definition) is table
    assert engine.rebind(table) is table
    opened(url).create_all([model.people(name="pets")])
    engine.refresh()
    assert engine.bind(definition) is table
    opened(url).drop_index("people_by_age")
    engine.refresh()
    assert engine.rebind(engine.table("people")) is engine.table("people")


def test_binding_takes_ids_states_and_indexes_from_the_store(engine, model):
    """The model says what values are; the store says what there is, indexes beyond the model included."""
    definition = _moody(model)
    engine.create_all([model.people(name="first"), definition])
    where = {"where": None}
    engine.create_index("people", model.index("by_mood", "mood", **where))

    bound = engine.bind(definition)

    assert bound.definition.id == 2
    assert [field.id for field in bound.definition.fields] == [1, 2, 3, 4]
    assert set(bound.readable) == {"by_mood"}
    model.insert(engine, bound, (1, "ada", 36, Mood.GLAD))
    model.verify(engine)


def test_a_model_that_differs_is_refused(engine, model):
    """Binding says what differs and what to call; a table that is not there is said to be missing."""
    with pytest.raises(exc.SchemaMismatch, match=r"table: not in the store \(call models.create_all\(engine\)\)"):
        engine.bind(model.people())
    engine.create_all([model.people(indexes=False)])

    with pytest.raises(exc.SchemaMismatch) as caught:
        engine.bind(_moody(model, indexes=(model.index("by_mood", "mood"),)))

    assert [each.subject for each in caught.value.differences] == ["column mood", "index by_mood"]


def test_a_session_whose_index_is_gone_is_stopped(engine, url, opened, model):
    """A model's own index that another process has dropped is a change of the schema, not a mismatch by surprise."""
    definition = model.people()
    engine.create_all([definition])
    table = engine.bind(definition)
    opened(url).drop_index("people_by_age")
    engine.refresh()

    with pytest.raises(exc.SchemaChanged, match="index people_by_age: not in the store"):
        engine.rebind(table)


def test_an_empty_catalog():
    """A catalog that is not there has version 0 and expects no version."""
    assert (Catalog().version, Catalog().raw_version, dict(Catalog().entries)) == (0, None, {})


def test_a_predicate_over_an_enum(engine, model):
    """Stored predicates hold names; they say the same to a model with the class and to the catalog alone."""
    where = Compare("=", Column("mood"), Constant("SAD"))
    definition = _moody(model, indexes=(model.index("sad", "name", where=where),))
    engine.create_all([definition])

    model.insert(engine, engine.bind(definition), (1, "ada", 36, Mood.SAD), (2, "bob", 37, Mood.GLAD))
    model.insert(engine, engine.table("people"), (3, "cy", 4, "SAD"))

    assert len(list(engine.backend.scan("sad"))) == 2
    engine.drop_index("sad")
    engine.upgrade([definition])
    assert len(list(engine.backend.scan("sad"))) == 2
    model.verify(engine)
