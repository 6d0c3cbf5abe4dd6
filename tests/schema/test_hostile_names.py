"""Names that would be code, another statement or another path, if they were put into a text as they are."""

from __future__ import annotations

import os

import attrs
import pytest
import sqlalchemy as sa
from sqlalchemy import text

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, open_backend, registry, restore
from kvdialect.codec.numeric import IntKind
from kvdialect.schema.definition import FieldDefinition, IndexDefinition, IndexPart, TableDefinition
from kvdialect.schema.rows import TableCodec

NAMES = {
    "quotes": "a\"b'c`d]e",
    "statement": 'x"; DROP TABLE safe; --',
    "python": "__import__('os').system('x')",
    "newlines": "a\nimport os\r\n\tb",
    "keyword": "class",
    "SQL keyword": "SELECT",
    "dunder": "__del__",
    "path": "../../etc/passwd",
    "format": "%s{0}{x!r}:a?",
    "unicode": "\u00e9\U0001f40d\u202e\ufb01",
    "comment": "/* -- */",
    "long": "n" * 300,
    "backslash": "a\\x00\\",
    "spaces": "  ",
}


@pytest.fixture
def door():
    pytest.importorskip("apsw", reason="the SQL door needs kvdialect[sql]; tox -e full has it")
    engine = create_engine("memory://")
    yield engine.sqlalchemy()
    engine.close()


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_tables_columns_and_indexes_of_sql_have_any_name(door, name):
    """A name of a table, a column, an index or a constraint ended up in SQL, or in generated code, as it is."""
    metadata = sa.MetaData()
    safe = sa.Table("safe", metadata, sa.Column("id", sa.Integer, primary_key=True))
    table = sa.Table(
        name,
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(name, sa.String(20), server_default=name),
        sa.Column("n", sa.Integer, sa.ForeignKey("safe.id", name=f"fk {name}")),
        sa.UniqueConstraint(name, "n", name=f"uq {name}"),
    )
    sa.Index(f"ix {name}", table.c[name].desc())
    metadata.create_all(door)
    with door.begin() as connection:
        connection.execute(safe.insert(), {"id": 1})
        connection.execute(table.insert(), {"id": 1, name: "one", "n": 1})
        connection.execute(table.insert(), {"id": 2, "n": 1})
        connection.execute(sa.update(table).where(table.c[name] == "one").values({name: name + "!"}))
        assert sorted(connection.execute(sa.select(table)).all()) == [(1, name + "!", 1), (2, name, 1)]
        with pytest.raises(sa.exc.IntegrityError):
            connection.execute(table.insert(), {"id": 3, name: name, "n": 1})

    seen = sa.inspect(door)
    assert name in seen.get_table_names()
    assert [column["name"] for column in seen.get_columns(name)] == ["id", name, "n"]
    assert {index["name"] for index in seen.get_indexes(name)} >= {f"ix {name}"}
    again = sa.Table(name, sa.MetaData(), autoload_with=door)
    with door.begin() as connection:
        assert len(connection.execute(sa.select(again).where(again.c[name] == name)).all()) == 1
        again.drop(connection)
        assert connection.execute(sa.select(safe)).all() == [(1,)]


@pytest.mark.parametrize("value", [*NAMES.values(), "a\0b"], ids=[*NAMES, "NUL"])
def test_a_value_is_a_value(door, value):
    """A parameter became part of the statement."""
    with door.begin() as connection:
        connection.execute(text("CREATE TABLE t (v TEXT, w TEXT)"))
        connection.execute(text("INSERT INTO t VALUES (:v, :v)"), {"v": value})
        connection.execute(text("INSERT INTO t VALUES ('other', 'other')"))
        for clause in ("v = :v", "v IN (:v)", "w LIKE :v ESCAPE '!'", "v >= :v AND v <= :v", "instr(v, :v) > 0"):
            given = value.replace("!", "!!").replace("%", "!%").replace("_", "!_") if "LIKE" in clause else value
            found = connection.execute(text(f"SELECT v FROM t WHERE {clause}"), {"v": given}).all()
            assert found == [(value,)], clause


@pytest.mark.parametrize("name", [*NAMES.values(), "a\0b"], ids=[*NAMES, "NUL"])
def test_generated_code_knows_places_and_no_names(name):
    """The name of a column or an index became part of the code that is generated for its table."""
    kind = IntKind(64, signed=True)
    fields = (
        FieldDefinition(id=1, name=name, kind=kind, nullable=False),
        FieldDefinition(id=2, name="other", kind=kind, nullable=True),
    )
    index = IndexDefinition(name="by other", parts=(IndexPart(name="other"), IndexPart(name=name)))
    codec = TableCodec(TableDefinition(name="t", fields=fields, primary_key=(name,), indexes=(index,)))
    key, value, row = codec.encode((7, None))
    [[(entry, _)]] = codec.entries(row, key)

    assert codec.decode(key, value) == (7, None)
    assert codec.indexes[0].primary_key(entry, b"") == key
    if len(name) > 5:
        assert name not in codec.source
        assert name not in codec.indexes[0].source


@pytest.mark.parametrize("name", ["\ufb01", "_x", "\u2126"])
def test_a_field_has_a_name_that_code_can_write(name):
    """Loading reads ``o.name``: a field that is no identifier as code has it was another one."""
    cls = attrs.make_class("Odd", {"id": attrs.field(type=int, metadata={}), name: attrs.field(type=int)})
    cls.__tablename__ = "odd"
    with pytest.raises(exc.ArgumentError, match="name"):
        mapped(registry())(cls)


@pytest.mark.parametrize("action", ["CASCADE; DROP TABLE x", "bogus", ""])
def test_an_action_of_a_foreign_key_is_one_of_sqls(action):
    """What a model says after ON DELETE stood in SQL as it is."""
    models = registry()
    sa.Table("parents", models.metadata, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table(
        "children",
        models.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("parent", sa.Integer, sa.ForeignKey("parents.id", ondelete=action)),
    )
    with create_engine("memory://") as engine, pytest.raises(exc.ArgumentError, match="ondelete of a foreign key"):
        models.create_all(engine)


PATHS = ["per%20cent ?mode=ro#&+=;", "qu'ote\" new\nline back\\slash", "-caf\u00e9 \U0001f40d ~", "a" * 200]


@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_taken_as_it_is(engine_name, tmp_path, name):
    """A path with signs that mean something in URLs, shells or statements was another one, at one of its uses."""
    if engine_name == "memory":
        pytest.skip("a memory store has no path; it is tested on lmdb and rocksdb")
    models = registry()

    @mapped(models)
    class Thing:
        __tablename__ = "things"
        id: Mapped[int] = field(primary_key=True)

    url = sa.URL.create(engine_name, database=os.fspath(tmp_path / name))
    with create_engine(url) as engine:
        models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(Thing(1))
        assert engine.verify(apart=name in PATHS[:2]).ok  # another process opens it by its URL
        engine.backup(tmp_path / f"copy of {name}", verified=False)
        restore(tmp_path / f"copy of {name}", tmp_path / f"restored {name}")

    assert sorted(os.listdir(tmp_path)) == sorted([name, f"copy of {name}", f"restored {name}"])
    rendered = sa.URL.create(engine_name, database=os.fspath(tmp_path / f"restored {name}"))
    with create_engine(rendered.render_as_string(hide_password=False)) as engine:
        models.create_all(engine)
        with Session(engine) as session:
            assert [thing.id for thing in session.scan(Thing)] == [1]


def test_a_path_with_nul_is_an_error_of_this_library(engine_name, tmp_path):
    """The system takes no NUL in a path; Python's ValueError came out."""
    if engine_name == "memory":
        pytest.skip("a memory store has no path; it is tested on lmdb and rocksdb")
    with pytest.raises(exc.ArgumentError, match="NUL"):
        open_backend(sa.URL.create(engine_name, database=f"{tmp_path}/a\0b"))
    assert os.listdir(tmp_path) == []
