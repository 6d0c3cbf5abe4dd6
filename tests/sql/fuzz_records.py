"""Mapped records of the fuzz, which both doors write, and their counterparts on sqlite3."""

from __future__ import annotations

from typing import Any

from fuzz_expressions import Column
from sqlalchemy import Index, select

from kvdialect import Engine, Mapped, Session, field, mapped, registry

MODELS = registry()


@mapped(MODELS)
class Author:
    __tablename__ = "authors"
    __table_args__ = (
        Index("authors_by_born", "born", "name"),
        Index("authors_living", "name", kvdialect_where=lambda author: author.died.is_(None)),
    )
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str]
    email: Mapped[str | None] = field(default=None, unique=True)
    born: Mapped[int | None] = None
    died: Mapped[int | None] = None
    score: Mapped[float | None] = None
    seal: Mapped[bytes | None] = None


@mapped(MODELS)
class Chapter:
    __tablename__ = "chapters"
    book: Mapped[str] = field(primary_key=True)
    number: Mapped[int] = field(primary_key=True)
    author_id: Mapped[int | None] = field(default=None, index=True)
    title: Mapped[str] = ""


NATIVE_TABLES = (
    """CREATE TABLE authors (id BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, email TEXT UNIQUE, born BIGINT,
    died BIGINT, score REAL, seal BLOB)""",
    """CREATE TABLE chapters (book TEXT NOT NULL, number BIGINT NOT NULL, author_id BIGINT, title TEXT NOT NULL,
    PRIMARY KEY (book, number)) WITHOUT ROWID""",
)
CLASSES: dict[str, type[Any]] = {"authors": Author, "chapters": Chapter}
COLUMNS = {
    "authors": (
        Column("id", "BIGINT", nullable=False),
        Column("name", "TEXT", nullable=False),
        Column("email", "TEXT"),
        Column("born", "BIGINT"),
        Column("died", "BIGINT"),
        Column("score", "REAL"),
        Column("seal", "BLOB"),
    ),
    "chapters": (
        Column("book", "TEXT", nullable=False),
        Column("number", "BIGINT", nullable=False),
        Column("author_id", "BIGINT"),
        Column("title", "TEXT", nullable=False),
    ),
}
KEYS = {"authors": ("id",), "chapters": ("book", "number")}


def native_operation(engine: Engine, operation: tuple[Any, ...]) -> None:
    """Do ``("add" | "update" | "delete", table, key, values)`` in a Session's transaction."""
    action, table, key, values = operation
    cls = CLASSES[table]
    with Session(engine) as session, session.begin():
        if action == "add":
            session.add(cls(**dict(zip(KEYS[table], key, strict=True)), **values))
            return
        found = session.get(cls, key if len(key) > 1 else key[0])
        if found is None:
            return
        if action == "delete":
            session.delete(found)
        for name, value in values.items():
            setattr(found, name, value)


def native_rows(engine: Engine) -> dict[str, tuple[tuple[str, ...], list[tuple[Any, ...]]]]:
    """All records as a Session reads them."""
    with Session(engine) as session:
        return {
            table: (
                (names := tuple(column.name for column in COLUMNS[table])),
                [tuple(getattr(found, name) for name in names) for found in session.scalars(select(cls))],
            )
            for table, cls in CLASSES.items()
        }
