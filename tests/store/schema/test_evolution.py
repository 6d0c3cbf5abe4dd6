"""What differs between a stored and a declared table, in words; and what becomes of the stored one."""

from __future__ import annotations

import attrs
import pytest

from kvdialect import ColumnFamilyOptions, exc
from kvdialect.codec.numeric import IntKind
from kvdialect.codec.strings import EnumKind, TextKind
from kvdialect.schema.definition import MISSING, ForeignKeyDefinition
from kvdialect.schema.evolution import compare, created, evolve
from kvdialect.schema.expressions import Column, Compare, Constant


@pytest.fixture
def stored(model):
    """The table as the catalog has it."""
    return created(model.people(), 7)


def _with(definition, **fields):
    """The definition with fields replaced, by name; None takes one out."""
    kept = tuple(fields.get(field.name, field) for field in definition.fields)
    return attrs.evolve(definition, fields=tuple(field for field in kept if field is not None))


def _added(definition, *fields):
    return attrs.evolve(definition, fields=(*definition.fields, *fields))


def _told(stored, declared, **more):
    return [str(each) for each in compare(stored, declared, **more)]


def test_the_same_table_has_no_differences(stored, model):
    """What a model declares and the catalog made of it are the same, defaults included."""
    assert compare(stored, model.people()) == []
    assert (
        compare(stored, _with(model.people(), age=model.field("age", IntKind(8, False), nullable=True, default=4)))
        == []
    )


ALLOWED = {
    "a field with a default": (
        lambda d, m: _added(d, m.field("height", default=180)),
        "column height: not in the store (call models.upgrade(engine): rows that are there read as 180)",
    ),
    "a field that may be None": (
        lambda d, m: _added(d, m.field("height", nullable=True)),
        "column height: not in the store (call models.upgrade(engine): rows that are there read as None)",
    ),
    "a field less": (
        lambda d, m: attrs.evolve(_with(d, age=None), indexes=(m.index("people_by_name", "name"),)),
        (
            "column age: not in the model (call models.upgrade(engine): its values are no longer read; if it has"
            " another"
            " name now, declare field(previously='age') there)"
        ),
    ),
    "another name": (
        lambda d, m: attrs.evolve(
            _with(d, name=m.field("called", TextKind(), previously="name")),
            indexes=(d.index("people_by_age"), m.index("people_by_name", "called", include=("age",))),
        ),
        "column called: called name in the store (call models.upgrade(engine): it is renamed)",
    ),
    "a wider int": (
        lambda d, m: attrs.evolve(
            _with(d, age=m.field("age", IntKind(16), nullable=True)), indexes=(d.index("people_by_name"),)
        ),
        (
            "column age: an int from 0 to 255 in the store, an int from -32768 to 32767 in the model (call"
            " models.upgrade(engine): it is widened, and no row is rewritten)"
        ),
    ),
    "NULL where it was refused": (
        lambda d, m: attrs.evolve(
            _with(d, name=m.field("name", TextKind(), nullable=True)), indexes=(d.index("people_by_age"),)
        ),
        "column name: may be None in the model, not in the store (call models.upgrade(engine): no row is rewritten)",
    ),
    "another order": (
        lambda d, _: attrs.evolve(d, fields=(d.fields[0], d.fields[2], d.fields[1])),
        (
            "order of columns: (id, name, age) in the store, (id, age, name) in the model (call"
            " models.upgrade(engine): values"
            " written from then on have the new order, and no row is rewritten)"
        ),
    ),
    "an index more": (
        lambda d, m: attrs.evolve(d, indexes=(*d.indexes, m.index("people_by_both", "age", "name"))),
        "index people_by_both: not in the store (call models.upgrade(engine): it is built online)",
    ),
    "an index less": (
        lambda d, _: attrs.evolve(d, indexes=(d.index("people_by_name"),)),
        "index people_by_age: not in the model (it is kept up; models.upgrade(engine) drops it)",
    ),
    "another index": (
        lambda d, m: attrs.evolve(
            d, indexes=(d.index("people_by_age"), m.index("people_by_name", "-name", unique=True))
        ),
        (
            "index people_by_name: (name) including age in the store, unique (name desc) in the model (call"
            " models.upgrade(engine): it is dropped and built anew)"
        ),
    ),
    "an index for other rows": (
        lambda d, m: attrs.evolve(
            d,
            indexes=(m.index("people_by_age", "age", where=Compare(">", Column("age"), Constant(17))), d.indexes[1]),
        ),
        (
            "index people_by_age: (age) where age IS NOT NULL in the store, (age) where age > 17 in the model (call"
            " models.upgrade(engine): it is dropped and built anew)"
        ),
    ),
    "options": (
        lambda d, _: attrs.evolve(d, options=ColumnFamilyOptions(bloom="full")),
        (
            "options: bloom='none' in the store, 'full' in the model (models.upgrade(engine) notes it, and the next"
            " opening of"
            " the store applies it)"
        ),
    ),
    "foreign keys": (
        lambda d, _: attrs.evolve(
            d, foreign_keys=(ForeignKeyDefinition(columns=("name",), table="names", targets=("name",)),)
        ),
        "foreign keys: 0 in the store, 1 in the model (models.upgrade(engine) notes them)",
    ),
}

REFUSED = {
    "a field without a value": (
        lambda d, m: _added(d, m.field("height")),
        (
            "column height: not in the store (refused: rows that are there have no value for it; give it a default"
            " or allow"
            " None)"
        ),
    ),
    "a field that could be a renamed one": (
        lambda d, m: attrs.evolve(_with(d, name=m.field("called", TextKind())), indexes=(d.index("people_by_age"),)),
        (
            "column called: not in the store (refused: rows that are there have no value for it; give it a default"
            " or allow"
            " None; if it is the stored column name, declare field(previously='name'))"
        ),
    ),
    "a narrower int": (
        lambda d, m: _with(d, age=m.field("age", IntKind(8), nullable=True)),
        (
            "column age: an int from 0 to 255 in the store, an int from -128 to 127 in the model (refused: stored"
            " values are of"
            " another type; add a new column, fill it, and drop this one)"
        ),
    ),
    "shorter text": (
        lambda d, m: _with(d, name=m.field("name", TextKind(3))),
        (
            "column name: a str without lone surrogates in the store, a str of at most 3 characters without lone"
            " surrogates in"
            " the model (refused: stored values may not fit; add a new column, fill it, and drop this one)"
        ),
    ),
    "another type": (
        lambda d, m: _with(d, name=m.field("name", IntKind())),
        "refused: stored values are of another type",
    ),
    "a wider int in an index": (
        lambda d, m: _with(d, age=m.field("age", IntKind(16), nullable=True)),
        (
            "(refused: it is part of index people_by_age, whose bytes would change; declare the index under a new"
            " name, so that"
            " it is built anew)"
        ),
    ),
    "no NULL any more": (
        lambda d, m: _with(d, age=m.field("age", IntKind(8, signed=False))),
        (
            "column age: may be None in the store, not in the model (refused: rows that are there may have None;"
            " keep it"
            " nullable, or add a new column)"
        ),
    ),
    "NULL in an index": (
        lambda d, m: _with(d, name=m.field("name", TextKind(), nullable=True)),
        (
            "column name: may be None in the model, not in the store (refused: it is part of index people_by_name,"
            " where a"
            " value that may be None has a tag; declare the index under a new name, so that it is built anew)"
        ),
    ),
    "a field less that an index reads": (
        lambda d, _: attrs.evolve(_with(d, age=None)),
        "column age: not in the model (refused: index people_by_age reads it; drop that first)",
    ),
    "another key": (
        lambda d, _: attrs.evolve(d, primary_key=("id", "name")),
        (
            "primary key: (id) in the store, (id, name) in the model (refused: every record and index entry holds"
            " the key;"
            " copy the rows into a new table)"
        ),
    ),
    "another format": (
        lambda d, _: attrs.evolve(d, format="bincode"),
        (
            "format: msgpack in the store, bincode in the model (refused: values written in one would be misread in"
            " the other;"
            " copy the rows into a new table)"
        ),
    ),
    "another place": (
        lambda d, _: attrs.evolve(d, options=ColumnFamilyOptions(compaction="fifo")),
        (
            "options: compaction='level' in the store, 'fifo' in the model (refused: compaction cannot change once"
            " the table has"
            " a family; copy the rows into a new table)"
        ),
    ),
}


@pytest.mark.parametrize("change", ALLOWED)
def test_what_is_allowed_is_told(stored, model, change):
    """Each change that upgrade makes is told as one difference, with what to call."""
    make, text = ALLOWED[change]

    told = compare(stored, make(model.people(), model))

    assert text in [str(each) for each in told]
    assert all(each.allowed for each in told)


@pytest.mark.parametrize("change", REFUSED)
def test_what_is_refused_is_told(stored, model, change):
    """Each change that would lose or misread data is told with the reason and a way round, and evolve refuses it."""
    make, text = REFUSED[change]
    declared = make(model.people(), model)

    told = [str(each) for each in compare(stored, declared) if not each.allowed]

    assert any(text in each for each in told), told
    with pytest.raises(exc.SchemaMismatch) as caught:
        evolve(stored, declared, next_field_id=4)
    assert text in str(caught.value)
    assert caught.value.table == "people"


def test_a_key_is_not_widened(model):
    """The bytes of a key do not widen with its kind."""
    narrow = created(_with(model.people(), id=model.field("id", IntKind(32), autoincrement=True)), 1)

    [refused] = compare(narrow, model.people())

    assert not refused.allowed
    assert "it is part of the primary key, whose bytes would change; copy the rows into a new table" in str(refused)


def test_text_in_an_index_may_become_longer(model):
    """The bytes of text in keys are those of the text, however long it may be."""
    short = created(_with(model.people(), name=model.field("name", TextKind(10))), 1)

    assert [each.allowed for each in compare(short, model.people())] == [True]


def test_what_a_bincode_table_allows(model):
    """A value in the bincode layout carries no version, so nothing about it may change but names."""
    definition = attrs.evolve(model.people(indexes=False), format="bincode")
    stored = created(definition, 1)

    [added] = compare(stored, _added(definition, model.field("height", default=0)))
    [named] = compare(stored, _with(definition, name=model.field("called", TextKind(), previously="name")))

    assert not added.allowed
    assert "carry no version" in str(added)
    assert named.allowed


def test_an_index_of_no_model_is_no_difference(stored, model):
    """What create_index made stays whatever models say."""
    declared = attrs.evolve(model.people(), indexes=model.people().indexes[1:])

    assert compare(stored, declared, extra={"people_by_age"}) == []
    assert [each.blocking for each in compare(stored, declared)] == [False]


def test_an_unfinished_index_does_not_block(stored, model):
    """A session works while an index of its model is being built."""
    building = tuple(attrs.evolve(index, state="building") for index in stored.indexes)

    told = compare(attrs.evolve(stored, indexes=building), model.people())

    assert [str(each) for each in told] == [
        f"index {name}: not built to its end (call models.upgrade(engine): it goes on where it ended)"
        for name in ("people_by_age", "people_by_name")
    ]
    assert not any(each.blocking for each in told)


def test_predicates_are_compared_by_type(model):
    """1, 1.0 and True are three predicates, though Python's values are equal."""

    def where(value):
        return attrs.evolve(
            model.people(),
            indexes=(model.index("people_by_age", "age", where=Compare("=", Column("age"), Constant(value))),),
        )

    one = created(where(1), 1)

    assert compare(one, where(1)) == []
    assert len(compare(one, where(True))) == 1
    assert len(compare(one, where(1.0))) == 1


def test_fields_keep_their_ids(stored, model):
    """Ids follow names and old names; new fields get new ids; any change of the fields is a new version."""
    declared = model.people(indexes=False)
    declared = attrs.evolve(
        declared,
        fields=(
            declared.fields[0],
            model.field("height", default=180),
            model.field("called", TextKind(), previously="name"),
        ),
    )

    after = evolve(stored, declared, next_field_id=9)

    assert [(field.id, field.name) for field in after.fields] == [(1, "id"), (9, "height"), (2, "called")]
    assert (after.id, after.version) == (stored.id, stored.version + 1)
    assert after.field("height").default == 180
    assert after.field("called").default is MISSING
    assert compare(after, declared) == []


def test_an_index_less_is_no_new_version(stored, model):
    """The version is of the fields."""
    after = evolve(stored, attrs.evolve(model.people(), indexes=()), next_field_id=4)

    assert (after.version, after.indexes) == (stored.version, ())


def test_indexes_of_no_model_follow_renames(model):
    """An index that create_index made, its predicate included, goes on over a column that has another name now."""
    where = Compare(">", Column("name"), Constant("m"))
    extra = model.index("late", "name", include=("age",), where=where)
    stored = created(attrs.evolve(model.people(), indexes=(extra,)), 1)
    declared = _with(model.people(indexes=False), name=model.field("called", TextKind(), previously="name"))

    after = evolve(stored, declared, next_field_id=4, extra={"late"})

    assert after.indexes == (
        model.index("late", "called", include=("age",), where=Compare(">", Column("called"), Constant("m"))),
    )


def test_names_that_two_fields_claim(stored, model):
    """Of two fields that claim one old name, the first has it; a new field may have the name that another gave up."""
    declared = _with(
        model.people(indexes=False),
        age=model.field("first", IntKind(8, signed=False), nullable=True, previously="age"),
    )
    declared = _added(declared, model.field("second", IntKind(8, signed=False), nullable=True, previously="age"))
    declared = _with(declared, name=model.field("name", TextKind(), default="new"))
    declared = _added(declared, model.field("third", TextKind(), previously="name"))

    after = evolve(stored, declared, next_field_id=4)

    assert [(field.id, field.name) for field in after.fields] == [
        (1, "id"), (4, "name"), (3, "first"), (5, "second"), (2, "third"),
    ]  # fmt: skip
    assert [(field.id, field.name) for field in evolve(after, declared, next_field_id=6).fields] == [
        (field.id, field.name) for field in after.fields
    ]


def test_defaults_are_checked_and_made(stored, model):
    """A default that its column does not take is refused; a factory is called."""
    with pytest.raises(exc.ArgumentError, match=r"the default of people.height is -1; allowed: an int from 0 to 255"):
        evolve(
            stored, _added(model.people(), model.field("height", IntKind(8, signed=False), default=-1)), next_field_id=4
        )

    made = _added(model.people(), model.field("tag", TextKind(), default=attrs.Factory(lambda: "none")))
    assert evolve(stored, made, next_field_id=4).field("tag").default == "none"


def test_defaults_follow_a_wider_kind(stored, model):
    """A default that old rows have is kept, as a value of the wider kind, whatever the model's default is by now."""
    once = evolve(
        stored, _added(model.people(), model.field("shade", EnumKind(["dark"]), default="dark")), next_field_id=4
    )
    wider = _added(model.people(), model.field("shade", EnumKind(["dark", "light"]), default="light"))

    twice = evolve(once, wider, next_field_id=5)

    assert twice.field("shade").default == "dark"
    assert twice.version == once.version + 1


def test_a_mismatch_lists_everything_by_table(stored, model):
    """The error's text has a line per difference, column by column; they are attributes too."""
    declared = _with(
        model.people(), age=model.field("age", TextKind(), nullable=True), name=model.field("name", IntKind())
    )

    with pytest.raises(exc.SchemaMismatch) as caught:
        evolve(stored, declared, next_field_id=4)

    lines = caught.value.message.splitlines()
    assert lines[1] == "table people differs between store and model:"
    assert [line.split(":")[0] for line in lines[2:]] == ["  column name", "  column age"]
    assert [each.subject for each in caught.value.differences] == ["column name", "column age"]
