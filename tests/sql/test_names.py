"""Names at the SQL door: told apart as SQLite does, which knows upper and lower case of A to Z alone."""

from __future__ import annotations

import string

import pytest
import sqlalchemy as sa
from twins import Twins

import kvdialect
from kvdialect.dialect import dbapi
from kvdialect.schema.names import folded

KELVIN, DOTLESS, LONG = "\N{KELVIN SIGN}", "\N{LATIN SMALL LETTER DOTLESS I}", "\N{LATIN SMALL LETTER LONG S}"

LOOKALIKES = ["É", "é", KELVIN, "k", "İ", "i", DOTLESS, "ẞ", "ß", "Ǆ", "ǅ", "ǆ", LONG, "s"]
"""Names that are one, or become longer, by Python's rules for letters."""


@pytest.fixture
def url(engine_name, tmp_path):
    return "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store?durability=none"


@pytest.fixture
def store(url):
    with kvdialect.create_engine(url) as store:
        yield store


@pytest.fixture
def twins(store):
    both = Twins(store)
    yield both
    both.close()


@pytest.mark.parametrize("name", LOOKALIKES)
def test_only_ascii_letters_are_folded(name):
    """Whatever else a name has stays as it is."""
    assert folded(name) == name
    assert folded(f"{string.ascii_letters}{name}") == f"{string.ascii_lowercase * 2}{name}"
    assert folded(string.ascii_letters) == string.ascii_lowercase * 2


SCRIPTS = {
    "columns": (
        "create table t ({})".format(", ".join(f'"{name}" int' for name in LOOKALIKES)),
        "insert into t values ({})".format(", ".join(map(str, range(len(LOOKALIKES))))),
        f'insert into T ("é", "É", "k", "{KELVIN}", "I", "İ") values (10, 20, 30, 40, 50, 60)',
        'update t set "é" = 11 where "É" = 20',
        'update t set ("ß", "ẞ") = (7, "İ") where "é" > 10 and "É" > 10',
        f'select "{KELVIN}", "K", x."É" from t x order by x."é"',
        'select "é" as "É" from t order by "É"',
        f'delete from t where "{KELVIN}" = 2 returning "k", "{KELVIN}", "S", "{LONG}"',
        "select * from t",
    ),
    "tables": (
        'create table "Ä" (a int)',
        'create table "ä" (b int, c int)',
        'insert into "Ä" values (1)',
        'insert into "ä" values (2, 3)',
        'create index "Ö" on "Ä" (a)',
        'create index "ö" on "ä" (b)',
        'select "Ä".a, "ä".b from "Ä" join "ä" on "Ä".a < "ä".b',
        'drop index "Ö"',
        "select type, name, tbl_name from sqlite_master order by name",
        'drop table "Ä"',
        'create view "Ä" as select b + 1 from "ä"',
        'select * from "Ä", "ä"',
        'alter table "ä" rename to "ÄÖ"',
        'create table "äö" (z)',
        'select * from "ÄÖ"',
        'drop view "Ä"',
        'select * from "äö"',
    ),
    "temporary": (
        'create temp table "Ñ" (a)',
        'create table "ñ" (b int, c int)',
        'insert into "ñ" values (1, 2)',
        'insert into "Ñ" values (5)',
        'select * from "ñ", "Ñ"',
    ),
    "aliases": (
        "create table e (a int)",
        "insert into e values (1)",
        'with "E" as (select 5) select * from e',
        'with "É" as (select 5), "é" as (select 6) select * from "É", "é"',
        'select "é".a from e "É" join e "é"',
        'select "É".* from e "É", (select 9 as x) "é"',
        'delete from e as "É" where "É".a = 2',
    ),
    "savepoints": (
        "create table s (a)",
        'savepoint "É"',
        "insert into s values (1)",
        'savepoint "é"',
        "insert into s values (2)",
        'rollback to "É"',
        "select * from s",
        'release "É"',
    ),
    "foreign keys": (
        'create table "P" ("É" int primary key, "é" int unique)',
        'create table c (a int references "P" ("é"))',
        'insert into "P" values (1, 2)',
        "insert into c values (2)",
        'create table "Ü" (i int primary key)',
        'create table "ü" (i int primary key)',
        'create table d (a int references "ü" on delete cascade)',
        'insert into "Ü" values (1)',
        'insert into "ü" values (1)',
        "insert into d values (1)",
        'delete from "Ü"',
        "select * from d",
        'delete from "ü"',
        "select * from d",
    ),
    "upserts": (
        'create table u ("É" int unique, "é" int unique)',
        "insert into u values (1, 2)",
        'insert into u values (1, 5) on conflict ("É") do update set "é" = excluded."é" + "u"."é"',
        'insert into u values (9, 7) on conflict ("é") do update set "É" = excluded."É"',
        "select * from u",
    ),
    "derived": (
        'create table g ("É" int, "é" int as ("É" * 2) stored, e int check ("É" > e))',
        'insert into g ("É", e) values (5, 1)',
        'create index by_both on g ("é" + "É")',
        'create unique index by_one on g ("É") where "é" > 2',
        'insert into g ("É", e) values (5, 3) on conflict ("É") where "é" > 2 do update set e = 2',
        'select * from g where "é" + "É" = 15',
        'alter table g rename column "É" to "Ê"',
        'alter table g add column "Ë" int',
        'alter table g add column "ë" int',
        'update g set "ë" = 5, "Ë" = 6',
        'alter table g drop column "ë"',
        "select * from g",
    ),
    "like keywords": (
        f"create table w ({LONG}et int, {DOTLESS}n int)",
        f"insert into w ({LONG}et, {DOTLESS}n) values (1, 2)",
        f"update w set {LONG}et = 4 where {DOTLESS}n = 2",
        f"select {LONG}et, w.{DOTLESS}n from w",
        f"create table types (a {DOTLESS}nt, b int, c text, d {LONG}tring)",
        "insert into types values ('5', '5', 5, 'x')",
        "select typeof(a), typeof(b), typeof(c) from types",
    ),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_letters_beyond_ascii_are_told_apart(twins, script):
    """Rows and names are those of SQLite in every statement, also once they are committed."""
    twins.script(*SCRIPTS[script])
    twins.commit()
    for name, kind in twins.ours.execute("select name, type from sqlite_master").fetchall():
        if kind != "index":
            twins.run(f'select * from "{name}"')


@pytest.mark.parametrize(
    ("given", "statement"),
    [
        ('create table t ("É" int)', 'select * from "T" where t."é" = 1'),
        ('create table t ("É" int)', 'insert into t ("é") values (1)'),
        ('create table t ("É" int)', 'update t set "é" = 1'),
        ('create table "Ä" (a)', 'select * from "ä"'),
        ('create table "Ä" (a)', 'insert into "ä" values (1)'),
        ('create table "Ä" (a)', 'drop table "ä"'),
        ("create table t (k)", f'insert into t ("{KELVIN}") values (1)'),
        ('savepoint "É"', 'rollback to "é"'),
        ('savepoint "É"', 'release "é"'),
    ],
)
def test_another_case_is_another_name(twins, given, statement):
    """What is not there by this name is refused, as SQLite refuses it."""
    twins.script(given)
    twins.refused(statement)


def test_names_are_found_again_when_the_store_is_opened(store, url):
    """They stand in the catalog as they were given, those of schemas too."""
    for opened in range(2):
        if opened and url != "memory://":
            store.close()
            store = kvdialect.create_engine(url)
        connection = dbapi.connect(store=store, schemas=["Ä", "ä"])
        if not opened:
            for number, schema in enumerate(("main", "Ä", "ä")):
                connection.execute(f'create table "{schema}"."É" ("Ö" int, "ö" int)')
                connection.execute(f'create table "{schema}"."é" ("Ü" int)')
                connection.execute(f'insert into "{schema}"."É" ("ö") values (?)', (number,))
                connection.execute(f'insert into "{schema}"."é" values (?)', (number + 10,))
            connection.commit()
        for number, schema in enumerate(("main", "Ä", "ä")):
            assert connection.execute(f'select "ö", "Ö" from "{schema}"."É"').fetchall() == [(number, None)]
            assert connection.execute(f'select * from "{schema}"."é"').fetchall() == [(number + 10,)]
        connection.close()
    store.close()


def test_fields_of_records_that_differ_in_their_case(store):
    """Both doors read and write them, by Core too, and foreign keys find the one they name."""
    models = kvdialect.registry()

    @kvdialect.mapped(models)
    class Place:
        __tablename__ = "Orte"
        id: kvdialect.Mapped[int] = kvdialect.field(primary_key=True)
        É: kvdialect.Mapped[int] = kvdialect.field(unique=True)
        é: kvdialect.Mapped[int] = kvdialect.field(index=True)

    models.create_all(store)
    with kvdialect.Session(store) as session, session.begin():
        session.add(Place(id=1, É=10, é=11))
    engine = store.sqlalchemy()
    table = sa.Table("Orte", sa.MetaData(), autoload_with=engine)
    with engine.begin() as connection:
        connection.exec_driver_sql('insert into orte (id, "é", "É") values (2, 21, 20)')
        connection.execute(table.insert().values(id=3, É=30, é=31))
        connection.execute(table.update().where(table.c.é == 11).values(É=12))
        connection.exec_driver_sql('create table "orté" (to_ int references "Orte" ("É"))')
        connection.exec_driver_sql('insert into "orté" values (20)')
        assert connection.execute(sa.select(table.c.É, table.c.é).order_by(table.c.id)).all() == [
            (12, 11), (20, 21), (30, 31),
        ]  # fmt: skip
    engine.dispose()
    with kvdialect.Session(store) as session:
        assert [(place.É, place.é) for place in session.scalars(sa.select(Place).order_by(Place.é))] == [
            (12, 11), (20, 21), (30, 31),
        ]  # fmt: skip
