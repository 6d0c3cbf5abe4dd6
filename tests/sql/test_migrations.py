"""Alembic's operations, autogeneration and commands within a program, on each engine.

What people type, with the files that ``alembic init`` makes, is in test_programs_alembic.py.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import alembic.command
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, produce_migrations
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.operations.ops import ModifyTableOps
from sqlalchemy import Column, ForeignKey, Integer, String, Table

import kvdialect

OPTIONS = {"compare_type": True, "compare_server_default": True}


@pytest.fixture
def url(engine_name, tmp_path):
    query = "?durability=none"
    return "kvdialect+memory://" if engine_name == "memory" else f"kvdialect+{engine_name}:////{tmp_path}/store{query}"


@pytest.fixture
def engine(url):
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


# ------------------------------------------------------------------------------------------ autogeneration


def before() -> sa.MetaData:
    """A schema."""
    metadata = sa.MetaData()
    Table(
        "authors",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(40), nullable=False),
        Column("born", Integer, index=True),
        Column("web", String(80)),
        sa.UniqueConstraint("name", name="uq_name"),
    )
    Table(
        "books",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("title", String(40)),
        Column("year", Integer, server_default="1900"),
        Column("author_id", Integer),
        Column("series_id", Integer, ForeignKey("series.id", name="fk_series")),
        sa.CheckConstraint("year > 1400", name="printed"),
        sa.Index("ix_title", "title"),
    )
    Table("series", metadata, Column("id", Integer, primary_key=True), Column("word", String(10)))
    Table("gone", metadata, Column("id", Integer, primary_key=True), Column("n", Integer, index=True))
    return metadata


def after() -> sa.MetaData:
    """The same, with a change of each kind."""
    metadata = sa.MetaData()
    Table(
        "authors",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", sa.Text, nullable=False),  # another type
        Column("born", Integer),  # without its index
        Column("email", String(80), nullable=False, server_default="?"),  # new; web is gone
        sa.UniqueConstraint("name", "born", name="uq_name_born"),  # another
        sa.Index("ix_email", "email", unique=True, sqlite_where=sa.text("email <> '?'")),  # new
    )
    Table(
        "books",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("title", String(40), nullable=False),  # NOT NULL
        Column("year", Integer, server_default="1901"),  # another default
        Column("author_id", Integer, ForeignKey("authors.id", name="fk_author", ondelete="CASCADE")),  # new
        Column("series_id", Integer),  # without its foreign key
        sa.CheckConstraint("year > 1400", name="printed"),
        sa.Index("ix_title", "title", "year"),  # another
    )
    Table("series", metadata, Column("id", Integer, primary_key=True), Column("word", String(10)))
    Table("new", metadata, Column("id", Integer, primary_key=True), Column("a", sa.Uuid, index=True))
    return metadata


CHANGES = {
    "add_table": 1,
    "remove_table": 1,
    "add_column": 1,
    "remove_column": 1,
    "add_index": 3,
    "remove_index": 3,
    "add_constraint": 1,
    "remove_constraint": 1,
    "add_fk": 1,
    "remove_fk": 1,
    "modify_type": 1,
    "modify_nullable": 1,
    "modify_default": 1,
}
"""Kinds of differences between the two schemas, as Alembic names them, and their numbers."""


def found(connection: sa.Connection, metadata: sa.MetaData) -> dict[str, int]:
    """The differences between the store and a schema, by their kinds."""
    counts: dict[str, int] = {}
    for difference in compare_metadata(MigrationContext.configure(connection, opts=OPTIONS), metadata):
        for each in difference if isinstance(difference, list) else [difference]:
            counts[each[0]] = counts.get(each[0], 0) + 1
    return counts


def carry_out(connection: sa.Connection, operations: Any) -> None:
    """Run operations as a migration with ``render_as_batch`` does."""
    migrate = Operations(MigrationContext.configure(connection))
    for operation in operations.ops:
        if isinstance(operation, ModifyTableOps):
            with migrate.batch_alter_table(operation.table_name, schema=operation.schema) as batch:
                for change in operation.ops:
                    default = getattr(change, "modify_server_default", None)
                    if isinstance(default, sa.DefaultClause):  # batch mode takes the text, which a revision would have
                        change.modify_server_default = default.arg
                    batch.invoke(change)
        else:
            migrate.invoke(operation)


def test_changes_are_found_carried_out_and_taken_back(engine):
    """Each kind of change is found; after it nothing is, rows are there, constraints hold; and so is the way back."""
    with engine.begin() as connection:
        before().create_all(connection)
        connection.exec_driver_sql("INSERT INTO authors VALUES (1, 'Austen', 1775, 'w'), (2, 'Darwin', 1809, NULL)")
        connection.exec_driver_sql("INSERT INTO series VALUES (7, 'novels')")
        connection.exec_driver_sql("INSERT INTO books VALUES (1, 'Emma', 1815, 1, 7), (2, 'Beagle', 1839, 2, NULL)")
    with engine.connect() as connection:
        assert found(connection, before()) == {}
        assert found(connection, after()) == CHANGES
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts=OPTIONS)
        migrations = produce_migrations(context, after())
        carry_out(connection, migrations.upgrade_ops)
        assert found(connection, after()) == {}

    with engine.connect() as connection:
        assert found(connection, after()) == {}
        assert connection.exec_driver_sql("SELECT id, name, born, email FROM authors ORDER BY id").all() == [
            (1, "Austen", 1775, "?"),
            (2, "Darwin", 1809, "?"),
        ]
        assert connection.exec_driver_sql("SELECT id, title, year, author_id, series_id FROM books").all() == [
            (1, "Emma", 1815, 1, 7),
            (2, "Beagle", 1839, 2, None),
        ]
        for statement in (
            "INSERT INTO authors (name, born) VALUES ('Austen', 1775)",
            "INSERT INTO books (title) VALUES (NULL)",
            "INSERT INTO books (title, author_id) VALUES ('x', 9)",
            "UPDATE books SET year = 1000",
            "UPDATE authors SET email = 'same'",
        ):
            with pytest.raises(sa.exc.IntegrityError):
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql("INSERT INTO books (id, title, series_id) VALUES (3, 'x', 99)")
        connection.exec_driver_sql("DELETE FROM authors WHERE id = 1")
        assert connection.exec_driver_sql("SELECT id, year FROM books ORDER BY id").all() == [(2, 1839), (3, 1901)]
    with engine.begin() as connection:
        carry_out(connection, migrations.downgrade_ops)

    with engine.connect() as connection:
        assert found(connection, before()) == {}
        assert connection.exec_driver_sql("SELECT name, born FROM authors").all() == [
            ("Austen", 1775),
            ("Darwin", 1809),
        ]
        with pytest.raises(sa.exc.IntegrityError, match="FOREIGN KEY constraint failed"):
            connection.exec_driver_sql("INSERT INTO books (series_id) VALUES (99)")


def test_autogeneration_leaves_records_alone(engine_name, tmp_path):
    """Their tables are no migration's: neither dropped if the program's metadata has none, nor altered if it has."""
    models = kvdialect.registry()

    @kvdialect.mapped(models)
    class Coin:
        __tablename__ = "coins"
        id: kvdialect.Mapped[kvdialect.Bytes32] = kvdialect.field(primary_key=True)
        amount: kvdialect.Mapped[kvdialect.UInt64] = kvdialect.field(index=True)

    changed = kvdialect.registry()

    @kvdialect.mapped(changed)
    class Other:
        __tablename__ = "coins"
        id: kvdialect.Mapped[kvdialect.Bytes32] = kvdialect.field(primary_key=True)
        amount: kvdialect.Mapped[str]
        more: kvdialect.Mapped[int]

    url = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store"
    with kvdialect.create_engine(url) as store:
        models.create_all(store)
        engine = store.sqlalchemy()
        with engine.begin() as connection:
            before().create_all(connection)
            assert found(connection, before()) == {}
            assert found(connection, sa.MetaData()) == {"remove_table": 4, "remove_index": 3}
            assert found(connection, changed.metadata) == {"remove_table": 4, "remove_index": 3}
        engine.dispose()


# ------------------------------------------------------------------------------------------ operations


@pytest.fixture
def library(engine):
    """A store with two tables and rows, and what runs a migration on it."""
    with engine.begin() as connection:
        before().create_all(connection)
        connection.exec_driver_sql("INSERT INTO authors VALUES (1, 'Austen', 1775, 'w'), (2, 'Darwin', 1809, NULL)")
        connection.exec_driver_sql("INSERT INTO books VALUES (1, 'Emma', 1815, 1, NULL), (2, NULL, 1839, 2, NULL)")

    def migrate(function: Callable[[Operations], None]) -> sa.Engine:
        with engine.begin() as connection:
            function(Operations(MigrationContext.configure(connection)))
        return engine

    return migrate


def _indexes(engine: sa.Engine, table: str) -> dict[str, list[str | None]]:
    return {index["name"]: index["column_names"] for index in sa.inspect(engine).get_indexes(table)}


def test_operations_without_batch_mode(library):
    """Columns are added, renamed and dropped in place, tables renamed, indexes made; foreign keys follow."""

    def migrate(op: Operations) -> None:
        op.add_column("authors", Column("dead", Integer))
        op.alter_column("authors", "name", new_column_name="full_name")
        op.drop_column("authors", "web")
        op.rename_table("authors", "writers")
        op.create_index("ix_dead", "writers", ["dead", "born"])
        op.drop_index("ix_title", "books")
        op.execute(sa.text("UPDATE writers SET dead = born + 41 WHERE id = 1"))
        op.bulk_insert(sa.table("writers", sa.column("full_name")), [{"full_name": "Woolf"}])

    engine = library(migrate)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT full_name, born, dead FROM writers ORDER BY id").all() == [
            ("Austen", 1775, 1816),
            ("Darwin", 1809, None),
            ("Woolf", None, None),
        ]
        with pytest.raises(sa.exc.IntegrityError, match=r"UNIQUE constraint failed: writers\.full_name"):
            connection.exec_driver_sql("INSERT INTO writers (full_name) VALUES ('Austen')")
    assert _indexes(engine, "writers") == {"ix_authors_born": ["born"], "ix_dead": ["dead", "born"]}
    assert _indexes(engine, "books") == {}


@pytest.mark.engine("lmdb")
def test_operations_in_another_schema(tmp_path):
    """Renaming says the schema once, as SQLite wants it."""
    engine = sa.create_engine(f"kvdialect+lmdb:////{tmp_path}/store?schemas=archive")
    with engine.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        op.create_table("old", Column("id", Integer, primary_key=True), Column("n", Integer), schema="archive")
        op.rename_table("old", "older", schema="archive")
        op.alter_column("older", "n", new_column_name="m", schema="archive")
        op.create_index("ix_m", "older", ["m"], schema="archive")
        with op.batch_alter_table("older", schema="archive") as batch:
            batch.alter_column("m", type_=sa.Text(), nullable=False)
    engine.dispose()

    engine = sa.create_engine(f"kvdialect+lmdb:////{tmp_path}/store?schemas=archive")
    inspector = sa.inspect(engine)
    assert inspector.get_table_names(schema="archive") == ["older"]
    assert [(column["name"], column["nullable"]) for column in inspector.get_columns("older", schema="archive")] == [
        ("id", False),
        ("m", False),
    ]
    assert [index["name"] for index in inspector.get_indexes("older", schema="archive")] == ["ix_m"]
    engine.dispose()


def _changed(batch: Any) -> None:
    batch.alter_column("born", type_=sa.String(9))
    batch.alter_column("web", nullable=True, server_default="none")
    batch.add_column(Column("n", Integer, nullable=False, server_default="5"))
    batch.create_check_constraint("old", "id <> 1000")


def test_batch_mode_makes_a_table_anew(library):
    """All rows are copied and converted, old constraints and indexes stay, new ones hold; what refers to it does so."""

    def migrate(op: Operations) -> None:
        with op.batch_alter_table("books") as batch:
            batch.create_foreign_key("fk_author", "authors", ["author_id"], ["id"], ondelete="CASCADE")
        with op.batch_alter_table("authors", recreate="always") as batch:
            _changed(batch)
        with op.batch_alter_table("books") as batch:
            batch.drop_constraint("printed", type_="check")
            batch.drop_column("series_id")
            batch.alter_column("title", new_column_name="name")

    engine = library(migrate)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT * FROM authors ORDER BY id").all() == [
            (1, "Austen", "1775", "w", 5),
            (2, "Darwin", "1809", None, 5),
        ]
        assert connection.exec_driver_sql("SELECT * FROM books ORDER BY id").all() == [
            (1, "Emma", 1815, 1),
            (2, None, 1839, 2),
        ]
        for statement in (
            "INSERT INTO authors (name) VALUES ('Austen')",
            "INSERT INTO authors (id, name) VALUES (1000, 'x')",
            "INSERT INTO authors (name, n) VALUES ('x', NULL)",
            "INSERT INTO books (author_id) VALUES (3)",
        ):
            with pytest.raises(sa.exc.IntegrityError):
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql("UPDATE books SET year = 1")
        connection.exec_driver_sql("INSERT INTO authors (name) VALUES ('Woolf')")
        assert connection.exec_driver_sql("SELECT web, n FROM authors WHERE name = 'Woolf'").one() == ("none", 5)
        connection.exec_driver_sql("DELETE FROM authors WHERE id = 1")
        assert connection.exec_driver_sql("SELECT id FROM books").scalars().all() == [2]
    assert _indexes(engine, "authors") == {"ix_authors_born": ["born"]}
    assert _indexes(engine, "books") == {"ix_title": ["name"]}
    assert not any(name.startswith("_alembic") for name in sa.inspect(engine).get_table_names())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: batch.alter_column("title", nullable=False), "NOT NULL constraint failed"),
        (lambda batch: batch.create_check_constraint("late", "year > 1830"), "CHECK constraint failed: late"),
        (lambda batch: batch.create_unique_constraint("uq", ["series_id", "kind"]), "UNIQUE constraint failed"),
        (
            lambda batch: batch.create_foreign_key("fk", "authors", ["year"], ["id"]),
            "FOREIGN KEY constraint failed",
        ),
    ],
    ids=["not null", "check", "unique", "foreign key"],
)
def test_rows_that_break_a_new_constraint(engine, library, change, message):
    """The migration fails, and the table is as it was, rows and all."""
    library(lambda op: op.add_column("books", Column("kind", String(9), server_default="novel")))
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO series VALUES (7, 'novels')")
        connection.exec_driver_sql("UPDATE books SET series_id = 7")

    def migrate(op: Operations) -> None:
        op.create_table("another", Column("id", Integer))
        with op.batch_alter_table("books") as batch:
            change(batch)

    with pytest.raises(sa.exc.IntegrityError, match=message):
        library(migrate)

    inspector = sa.inspect(engine)
    assert inspector.get_table_names() == ["authors", "books", "gone", "series"]
    assert _indexes(engine, "books") == {"ix_title": ["title"]}
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT id, title, year FROM books ORDER BY id").all() == [
            (1, "Emma", 1815),
            (2, None, 1839),
        ]


# ------------------------------------------------------------------------------------------ commands

ENV = """
from alembic import context

config = context.config
options = {"target_metadata": config.attributes.get("metadata"), **config.attributes.get("options", {})}
if context.is_offline_mode():
    context.configure(url=config.attributes["url"], literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    with config.attributes["engine"].connect() as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
"""
REVISION = """
from alembic import op
import sqlalchemy as sa

revision, down_revision = "{revision}", {parent!r}


def upgrade():
    {upgrade}


def downgrade():
    {downgrade}
"""


class Program:
    """A program with revisions of its own, on an engine that it has open."""

    def __init__(self, folder: Path, engine: sa.Engine, url: str) -> None:
        self.folder = folder
        (folder / "versions").mkdir(parents=True)
        (folder / "env.py").write_text(ENV)
        self.output = io.StringIO()
        self.config = Config(stdout=self.output, output_buffer=self.output)
        self.config.set_main_option("script_location", str(folder))
        self.config.attributes.update(engine=engine, url=url)
        self.last: str | None = None

    def revision(self, revision: str, upgrade: str, downgrade: str = "pass") -> None:
        text = REVISION.format(revision=revision, parent=self.last, upgrade=upgrade, downgrade=downgrade)
        (self.folder / "versions" / f"{revision}.py").write_text(text)
        self.last = revision

    def run(self, command: str, *arguments: Any, **options: Any) -> str:
        """One of Alembic's commands; what it printed."""
        self.output.seek(0)
        self.output.truncate()
        getattr(alembic.command, command)(self.config, *arguments, **options)
        return self.output.getvalue()


@pytest.fixture
def program(engine, url, tmp_path) -> Iterator[Program]:
    program = Program(tmp_path / "migrations", engine, url)
    program.revision(
        "r1",
        'op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))',
        'op.drop_table("t")',
    )
    program.revision("r2", 'op.create_index("ix_n", "t", ["n"], unique=True)', 'op.drop_index("ix_n", "t")')
    program.revision("r3", 'op.add_column("t", sa.Column("word", sa.Text))', 'op.drop_column("t", "word")')
    return program


def test_upgrade_downgrade_stamp(program, engine):
    """One after the other, by steps, and to the beginning; the version is that of the schema, or what it is stamped."""
    assert program.run("current") == ""
    program.run("upgrade", "r1")
    assert program.run("current") == "r1\n"
    program.run("upgrade", "+1")
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO t (n) VALUES (1), (2)")
    program.run("upgrade", "head")
    assert program.run("current") == "r3 (head)\n"
    assert re.findall(r"-> (\w+)", program.run("history")) == ["r3", "r2", "r1"]
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT n, word FROM t ORDER BY n").all() == [(1, None), (2, None)]
        with pytest.raises(sa.exc.IntegrityError):
            connection.exec_driver_sql("INSERT INTO t (n) VALUES (2)")
    program.run("downgrade", "-2")
    assert _indexes(engine, "t") == {}
    assert [column["name"] for column in sa.inspect(engine).get_columns("t")] == ["id", "n"]
    program.run("downgrade", "base")
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]

    program.run("stamp", "r2")
    assert program.run("current") == "r2\n"
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]


@pytest.mark.parametrize("each", [False, True], ids=["one transaction", "transaction_per_migration"])
def test_a_failing_revision(program, engine, each):
    """What was done before it in its transaction is undone; with a transaction for each revision, earlier ones stay."""
    program.revision(
        "r4",
        """op.create_table("half", sa.Column("id", sa.Integer))
    op.execute("INSERT INTO t (n) VALUES (9)")
    op.drop_column("t", "word")
    op.execute("INSERT INTO nowhere VALUES (1)")""",
    )
    program.config.attributes["options"] = {"transaction_per_migration": each}
    with pytest.raises(sa.exc.OperationalError, match="no such table: nowhere"):
        program.run("upgrade", "head")

    assert program.run("current") == ("r3\n" if each else "")
    inspector = sa.inspect(engine)
    assert inspector.get_table_names() == (["alembic_version", "t"] if each else [])
    if each:
        assert [column["name"] for column in inspector.get_columns("t")] == ["id", "n", "word"]
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == 0


def test_an_autocommit_block(program, engine):
    """What a revision does outside of its transaction stays, and so does what went before."""
    program.revision(
        "r4",
        """with op.get_context().autocommit_block():
        op.execute("INSERT INTO t (n) VALUES (9)")
    op.execute("INSERT INTO nowhere VALUES (1)")""",
    )
    with pytest.raises(sa.exc.OperationalError):
        program.run("upgrade", "head")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT n FROM t").scalars().all() == [9]


def test_a_script_does_what_the_commands_do(program, engine):
    """Offline mode writes statements in a transaction that the driver runs as they are."""
    script = program.run("upgrade", "head", sql=True)
    assert script.startswith("BEGIN;")
    connection = engine.raw_connection()
    for statement in script.split(";\n"):
        connection.cursor().execute(statement)
    connection.close()

    assert program.run("current") == "r3 (head)\n"
    assert _indexes(engine, "t") == {"ix_n": ["n"]}
    assert "DROP TABLE t" in program.run("downgrade", "head:base", sql=True)


def test_revisions_are_generated(program, engine):
    """The text that autogenerate writes for each kind of change runs, upwards and downwards."""
    program.run("upgrade", "head")
    with engine.begin() as connection:
        before().create_all(connection)
        connection.exec_driver_sql("INSERT INTO authors (name) VALUES ('Austen')")
        connection.exec_driver_sql("INSERT INTO books (title) VALUES ('Emma')")
    metadata = after()
    Table(
        "t", metadata, Column("id", Integer, primary_key=True), Column("n", Integer), Column("word", sa.Text)
    ).append_constraint(sa.Index("ix_n", "n", unique=True))
    program.config.attributes.update(metadata=metadata, options={**OPTIONS, "render_as_batch": True})
    (program.folder / "script.py.mako").write_text(
        "from alembic import op\nimport sqlalchemy as sa\n"
        'revision, down_revision = "${up_revision}", "${down_revision}"\n'
        "\n\ndef upgrade():\n    ${upgrades}\n\n\ndef downgrade():\n    ${downgrades}\n"
    )
    program.run("revision", autogenerate=True, message="all")
    program.run("upgrade", "head")
    program.run("check")
    program.config.attributes["metadata"] = before()
    with pytest.raises(alembic.util.exc.AutogenerateDiffsDetected):
        program.run("check")
    program.run("downgrade", "-1")

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT name FROM authors").scalars().all() == ["Austen"]
        assert connection.exec_driver_sql("SELECT title, year FROM books").all() == [("Emma", 1900)]


@pytest.mark.engine("memory")
def test_alembic_may_be_imported_last():
    """The dialect is known to Alembic also where a program made its engine first, or has it make one of a name."""
    source = """
        import sqlalchemy as sa
        engine = sa.create_engine("kvdialect+memory://")
        engine.connect().close()
        from alembic.migration import MigrationContext
        with engine.connect() as connection:
            context = MigrationContext.configure(connection)
            assert context.impl.transactional_ddl
        for made in ({"url": "kvdialect+aiolmdb:///nowhere"}, {"dialect_name": "kvdialect"}):
            assert MigrationContext.configure(**made, opts={"as_sql": True}).impl.transactional_ddl
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(source)], check=True)


@pytest.mark.engine("memory")
def test_a_program_without_alembic_does_not_import_it():
    """It is no dependency."""
    source = "import sys, sqlalchemy as sa; sa.create_engine('kvdialect+memory://').connect(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True)
    assert "kvdialect.dialect.dbapi" in done.stdout.split()
    assert "alembic" not in done.stdout.split()


@pytest.mark.parametrize(
    "on_disk", [pytest.param(name, marks=pytest.mark.engine(name)) for name in ("lmdb", "rocksdb")]
)
def test_the_template_for_asyncio(on_disk, tmp_path):
    """The environment that ``alembic init -t async`` makes works with the asyncio dialect as it is."""
    url = f"kvdialect+{on_disk}:////{tmp_path}/store"
    output = io.StringIO()
    config = Config(tmp_path / "alembic.ini", stdout=output)
    alembic.command.init(config, str(tmp_path / "migrations"), template="async")
    env = tmp_path / "migrations" / "env.py"
    env.write_text(env.read_text().replace("= None", '= config.attributes["metadata"]'))
    config = Config(stdout=output)  # without the file, which would set up logging for all tests
    config.set_main_option("script_location", str(tmp_path / "migrations"))
    config.set_main_option("sqlalchemy.url", url.replace("+", "+aio"))
    config.attributes["metadata"] = metadata = sa.MetaData()
    Table("t", metadata, Column("id", Integer, primary_key=True), Column("n", Integer, index=True))
    alembic.command.revision(config, "first", autogenerate=True)
    alembic.command.upgrade(config, "head")
    alembic.command.check(config)
    alembic.command.current(config)

    assert "(head)" in output.getvalue()
    engine = sa.create_engine(url)
    assert _indexes(engine, "t") == {"ix_t_n": ["n"]}
    engine.dispose()
