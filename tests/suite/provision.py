"""What SQLAlchemy's suite asks of a database beside tests: temporary tables, upserts, schemas, stores for workers.

Plain SQLite, with which the figures are compared, has SQLAlchemy's own answers but one: these attach the second schema
to the main engine alone, as SQLAlchemy lets no test on SQLite make engines of its own, and our requirements do.
"""

# ruff: noqa: ARG001 - the arguments are SQLAlchemy's

from pathlib import Path

from sqlalchemy import event, make_url
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.dialects.sqlite import provision as sqlite  # noqa: F401 - registers SQLAlchemy's answers, before ours
from sqlalchemy.testing.provision import (
    create_db,
    drop_db,
    follower_url_from_main,
    post_configure_engine,
    post_configure_testing_engine,
    temp_table_keyword_args,
    upsert,
)

NAME = "kvdialect"


@temp_table_keyword_args.for_db(NAME)
def _temporary_table(cfg, engine):
    return {"prefixes": ["TEMPORARY"]}


@upsert.for_db(NAME)
def _upsert(cfg, table, returning, *, set_lambda=None, sort_by_parameter_order=False, index_elements=None):
    statement = insert(table)
    if set_lambda:
        statement = statement.on_conflict_do_update(index_elements=index_elements, set_=set_lambda(statement.excluded))
    else:
        statement = statement.on_conflict_do_nothing()
    return statement.returning(*returning, sort_by_parameter_order=sort_by_parameter_order)


@follower_url_from_main.for_db(NAME)
def _url_of_worker(url, ident):
    url = make_url(url)
    return url.set(database=url.database and f"{url.database}-{ident}")


@create_db.for_db(NAME)
def _create_database(cfg, engine, ident):
    """Opening a store makes it."""


@drop_db.for_db(NAME)
def _drop_database(cfg, engine, ident):
    """The next run removes it, with the directory."""


@post_configure_engine.for_db("sqlite")
def _configure_main_engine(url, engine, ident):
    """It is a testing engine too."""


@post_configure_testing_engine.for_db("sqlite")
def _configure_testing_engine(url, engine, options, scope):
    if url.get_driver_name() != "pysqlite":
        return  # kvdialect under SQLite's name has its schemas from the URL
    path = Path("build", Path(url.database).name.strip(":")).with_suffix(".test_schema.db")

    @event.listens_for(engine, "connect")
    def _attach(connection, record):
        connection.execute("ATTACH DATABASE ? AS test_schema", [str(path)])
