"""Upgrading a store with rows in it: old rows read under the new fields, none is rewritten, refusals change nothing."""

from __future__ import annotations

import threading

import attrs
import pytest

from kvdialect import exc
from kvdialect.codec.composite import ListKind
from kvdialect.codec.numeric import IntKind
from kvdialect.codec.strings import BytesKind, EnumKind, TextKind
from kvdialect.schema.expressions import Column, Compare, Constant


@pytest.fixture
def filled(engine, model):
    """A store with two people of version 1, indexed by name."""
    definition = attrs.evolve(model.people(), indexes=(model.people().index("people_by_name"),))
    engine.create_all([definition])
    model.insert(engine, engine.bind(definition), (1, "ada", 36), (2, "bob", None))
    return engine


def _people(model, *fields, index=True):
    """The table with other fields behind the id."""
    indexes = (model.index("people_by_name", "name", include=("age",)),) if index else ()
    return attrs.evolve(model.people(), fields=(model.people().fields[0], *fields), indexes=indexes)


def _upgraded(engine, model, definition):
    """Upgrade, which leaves every value in the store as it is, and return the rows as they read now."""
    before = dict(engine.backend.scan("people"))
    engine.upgrade([definition])
    after = dict(engine.backend.scan("people"))
    assert after == before, "no row is rewritten"
    assert engine.differences([definition]) == []
    return model.rows(engine, engine.bind(definition))


def test_a_field_more(filled, model):
    """Old rows have the default, each a copy of its own; new rows have what they are given."""
    _, name, age = model.people().fields
    definition = _people(
        model, name, age, model.field("height", IntKind(16), default=180), model.field("pet", TextKind(), nullable=True)
    )

    assert _upgraded(filled, model, definition) == [(1, "ada", 36, 180, None), (2, "bob", None, 180, None)]

    table = filled.bind(definition)
    model.insert(filled, table, (3, "cy", 4, 120, "cat"))
    model.change(filled, table, (1, "ada", 36, 170, None))
    assert model.rows(filled, table) == [
        (1, "ada", 36, 170, None),
        (2, "bob", None, 180, None),
        (3, "cy", 4, 120, "cat"),
    ]
    model.verify(filled)


def test_a_field_less_and_a_field_of_its_name(filled, model):
    """A dropped field's values are no longer read, not even by a later field of its name: ids are not used again."""
    _, name, _ = model.people().fields
    less = _people(model, name, index=False)
    assert _upgraded(filled, model, less) == [(1, "ada"), (2, "bob")]
    model.insert(filled, filled.bind(less), (3, "cy"))

    again = _people(model, name, model.field("age", IntKind(8, signed=False), default=99), index=False)

    assert _upgraded(filled, model, again) == [(1, "ada", 99), (2, "bob", 99), (3, "cy", 99)]
    assert [field.id for field in filled.table("people").definition.fields] == [1, 2, 4]
    model.verify(filled)


def test_another_name(filled, model):
    """A renamed field keeps its values; an index over it stays, under the new name, without being built again."""
    _, _, age = model.people().fields
    definition = _people(model, model.field("called", TextKind(), previously="name"), age)
    definition = attrs.evolve(definition, indexes=(model.index("people_by_name", "called", include=("age",)),))
    entries = list(filled.backend.scan("people_by_name"))

    assert _upgraded(filled, model, definition) == [(1, "ada", 36), (2, "bob", None)]

    assert list(filled.backend.scan("people_by_name")) == entries
    model.insert(filled, filled.bind(definition), (3, "cy", 4))
    model.verify(filled)
    filled.create_all([definition])  # previously= may stay in the model


def test_a_key_column_may_be_renamed(filled, model):
    """The name of a key column is not in the key."""
    key = attrs.evolve(model.people().fields[0], name="number", previously="id")
    definition = attrs.evolve(
        _people(model, *model.people().fields[1:]), fields=(key, *model.people().fields[1:]), primary_key=("number",)
    )

    assert _upgraded(filled, model, definition) == [(1, "ada", 36), (2, "bob", None)]
    model.verify(filled)


def test_a_wider_int(filled, model):
    """Old values read as they were, and values that did not fit before can be written; a covering index follows."""
    _, name, _ = model.people().fields
    definition = _people(model, name, model.field("age", IntKind(32), nullable=True))

    assert _upgraded(filled, model, definition) == [(1, "ada", 36), (2, "bob", None)]

    table = filled.bind(definition)
    model.change(filled, table, (1, "ada", -70_000))
    model.verify(filled)
    index = table.indexes["people_by_name"]
    assert [index.decode(*pair) for pair in filled.backend.scan("people_by_name")] == [
        ("ada", 1, -70_000),
        ("bob", 2, None),
    ]


def test_null_where_it_was_refused(filled, model):
    """Old values are there, and NULL can be written."""
    _, _, age = model.people().fields
    definition = _people(model, model.field("name", TextKind(), nullable=True), age, index=False)

    assert _upgraded(filled, model, definition) == [(1, "ada", 36), (2, "bob", None)]

    model.insert(filled, filled.bind(definition), (3, None, 4))
    assert model.rows(filled, filled.bind(definition))[2] == (3, None, 4)


def test_another_order(filled, model):
    """Rows come in the order of the model, old ones too."""
    _, name, age = model.people().fields
    definition = _people(model, age, name)
    with pytest.raises(exc.SchemaMismatch, match="order of columns"):
        filled.bind(definition)

    assert _upgraded(filled, model, definition) == [(1, 36, "ada"), (2, None, "bob")]

    model.insert(filled, filled.bind(definition), (3, 4, "cy"))
    model.verify(filled)


def test_an_enum_with_more_names(engine, model):
    """A name more is a wider kind, in an index too; one less is refused."""

    def moody(*names):
        definition = model.people(indexes=False)
        fields = (*definition.fields, model.field("mood", EnumKind(names)))
        return attrs.evolve(definition, fields=fields, indexes=(model.index("by_mood", "mood"),))

    engine.create_all([moody("glad", "sad")])
    model.insert(engine, engine.bind(moody("glad", "sad")), (1, "ada", 36, "sad"))

    assert _upgraded(engine, model, moody("glad", "sad", "angry")) == [(1, "ada", 36, "sad")]

    model.insert(engine, engine.bind(moody("glad", "sad", "angry")), (2, "bob", 37, "angry"))
    model.verify(engine)
    with pytest.raises(exc.SchemaMismatch, match="stored values may not fit"):
        engine.upgrade([moody("glad", "sad")])


def test_many_versions_side_by_side(filled, model):
    """Rows of every version that there was are read by the newest."""
    fields = [*model.people().fields[1:]]
    for number in range(10):
        fields.append(model.field(f"f{number}", IntKind(), default=number))
        if number % 3 == 2:
            fields.pop(-2)
        definition = _people(model, *fields)
        filled.upgrade([definition])
        table = filled.bind(definition)
        given = {"id": 100 + number, "name": "x", "age": None, f"f{number}": -number}
        model.insert(filled, table, tuple(given.get(f.name, 7) for f in definition.fields))

    rows = [dict(zip(definition.names, row, strict=True)) for row in model.rows(filled, filled.bind(definition))]

    assert rows[0] == {"id": 1, "name": "ada", "age": 36, **{f"f{n}": n for n in (0, 2, 3, 5, 6, 8, 9)}}
    assert {row["id"]: row["f9"] for row in rows} == {1: 9, 2: 9, **{100 + n: 9 for n in range(9)}, 109: -9}
    assert rows[5]["f2"] == 7
    assert filled.table("people").definition.version == 11
    model.verify(filled)


def test_mutable_defaults_are_not_shared(filled, model):
    """Rows that lack a field of lists get a list each."""
    _, name, age = model.people().fields
    definition = _people(model, name, age, model.field("tags", ListKind(TextKind()), default=attrs.Factory(list)))

    first, second = _upgraded(filled, model, definition)

    assert first[3] == second[3] == []
    assert first[3] is not second[3]


# ------------------------------------------------------------------------------------------------ indexes


def test_new_dropped_and_changed_indexes(filled, model):
    """An upgrade builds what is missing, drops what the model had and has no more, and rebuilds what is another."""
    first = attrs.evolve(model.people(), indexes=(model.index("gone", "name"), model.index("other", "name")))
    filled.upgrade([first])
    filled.create_index("people", model.index("extra", "age", "name"))
    where = Compare(">", Column("age"), Constant(10))
    second = attrs.evolve(
        model.people(), indexes=(model.index("new", "name"), model.index("other", "-name", where=where))
    )

    filled.upgrade([second])

    assert set(filled.table("people").readable) == {"extra", "new", "other"}
    assert filled.backend.column_families() == ["extra", "new", "other", "people"]
    assert filled.differences([second]) == []
    model.verify(filled)


def test_an_index_of_no_model_may_become_a_models(filled, model):
    """An index made by hand that a model declares later is the model's from its next upgrade on."""
    filled.create_index("people", model.index("by_age", "age"))
    version = filled.version_raw
    with_it = attrs.evolve(
        model.people(), indexes=(model.index("by_age", "age"), model.people().index("people_by_name"))
    )

    filled.bind(with_it)
    filled.upgrade([with_it])
    filled.upgrade([attrs.evolve(model.people(), indexes=(model.people().index("people_by_name"),))])

    assert filled.version_raw > version
    assert set(filled.table("people").indexes) == {"people_by_name"}
    model.verify(filled)


def test_a_column_in_an_index_widens_with_a_new_name(filled, model):
    """What is refused for an index that stays is done if the model has it under another name."""
    filled.create_index("people", model.index("stays", "age"))
    _, name, _ = model.people().fields
    wide = _people(model, name, model.field("age", IntKind(32), nullable=True))
    with pytest.raises(exc.SchemaMismatch, match="it is part of index stays"):
        filled.upgrade([wide])
    filled.drop_index("stays")
    indexed = attrs.evolve(wide, indexes=(*wide.indexes, model.index("anew", "age")))

    filled.upgrade([indexed])

    model.insert(filled, filled.bind(indexed), (3, "cy", 70_000))
    model.verify(filled)


def test_duplicates_stop_an_upgrade_and_leave_no_index(filled, model):
    """The fields are upgraded, the unique index is not there, and the upgrade can be run again."""
    model.insert(filled, filled.table("people"), (3, "ada", 4))
    _, name, age = model.people().fields
    wanted = _people(model, name, age, model.field("height", default=1))
    wanted = attrs.evolve(wanted, indexes=(*wanted.indexes, model.index("one_name", "name", unique=True)))

    with pytest.raises(exc.IntegrityError, match=r"both have \(name='ada'\)"):
        filled.upgrade([wanted])

    assert "one_name" not in filled.backend.column_families()
    model.verify(filled)
    model.remove(filled, filled.table("people"), (3,))
    filled.upgrade([wanted])
    assert filled.differences([wanted]) == []
    model.verify(filled)


def test_a_missing_table_is_created(filled, model):
    """An upgrade creates what is not there at all."""
    filled.upgrade([model.people(), model.people(name="pets")])

    assert set(filled.catalog.entries) == {"people", "pets"}
    assert filled.differences([model.people(), model.people(name="pets")]) == []
    model.verify(filled)


# ------------------------------------------------------------------------------------------------ refusals


def test_what_is_refused_changes_nothing(filled, model):
    """One difference that is refused stops the upgrade of all tables before its first step."""
    _, name, age = model.people().fields
    good = _people(model, name, age, model.field("height", default=1))
    bad = attrs.evolve(_people(model, name, age, index=False), name="pets")
    filled.create_all([bad])
    bad = attrs.evolve(bad, fields=(*bad.fields, model.field("height")))
    before = filled.version_raw, filled.backend.column_families()

    with pytest.raises(exc.SchemaMismatch, match="nothing was changed:\ntable pets differs"):
        filled.upgrade([good, bad])

    filled.reload()
    assert (filled.version_raw, filled.backend.column_families()) == before
    model.verify(filled)


def test_bincode_tables_do_not_change(engine, model):
    """A table in the bincode layout has no versions; what would need one is refused."""
    definition = attrs.evolve(model.people(indexes=False), format="bincode")
    definition = attrs.evolve(definition, fields=(model.field("id"), model.field("name", BytesKind())))
    engine.create_all([definition])
    model.insert(engine, engine.bind(definition), (1, b"ada"))

    with pytest.raises(exc.SchemaMismatch, match="carry no version"):
        engine.upgrade([attrs.evolve(definition, fields=(*definition.fields, model.field("age", default=0)))])

    renamed = (definition.fields[0], model.field("called", BytesKind(), previously="name"))
    engine.upgrade([attrs.evolve(definition, fields=renamed)])
    model.insert(engine, engine.table("people"), (2, b"bob"))
    assert model.rows(engine, engine.table("people")) == [(1, b"ada"), (2, b"bob")]


def test_upgrades_at_once(filled, url, opened, model):
    """Several that upgrade to the same model at once all succeed, and it is done once."""
    _, name, age = model.people().fields
    wanted = _people(model, name, age, model.field("height", default=1))
    wanted = attrs.evolve(wanted, indexes=(*wanted.indexes, model.index("by_height", "height", "name")))
    engines = [filled, opened(url), opened(url)]
    errors: list[BaseException] = []

    def upgrade(engine) -> None:
        try:
            engine.upgrade([wanted], batch_size=1)
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=upgrade, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    for engine in engines:
        model.verify(engine)
        assert engine.differences([wanted]) == []
    assert filled.table("people").definition.version == 2
