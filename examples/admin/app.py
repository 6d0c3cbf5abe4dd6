"""The application: Starlette with SQLAdmin's pages on an SQLAlchemy engine over a store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from typing import ClassVar

import sqlalchemy as sa
from sqladmin import Admin, ModelView
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route

from admin.models import Base, Book, Shelf


class ShelfAdmin(ModelView, model=Shelf):
    """The pages of the shelves."""

    name_plural = "Shelves"
    icon = "fa-solid fa-layer-group"
    column_list: ClassVar = [Shelf.id, Shelf.name, Shelf.books]


class BookAdmin(ModelView, model=Book):
    """The pages of the books: a search through titles, columns to sort by, a file to take away."""

    icon = "fa-solid fa-book"
    column_list: ClassVar = [Book.id, Book.title, Book.pages, Book.price, Book.published, Book.shelf]
    column_searchable_list: ClassVar = [Book.title]
    column_sortable_list: ClassVar = [Book.title, Book.pages, Book.price]
    column_default_sort = "title"
    page_size = 10


def fill(engine: sa.Engine) -> None:
    """Put some books into a store that has none."""
    with Session(engine) as session, session.begin():
        if session.scalar(sa.select(sa.func.count()).select_from(Book)):
            return
        novels, science = Shelf(name="Novels"), Shelf(name="Science")
        session.add_all(
            Book(title=title, pages=pages, price=Decimal(price), published=date.fromisoformat(day), shelf=shelf)
            for title, pages, price, day, shelf in (
                ("Emma", 474, "9.50", "1815-12-23", novels),
                ("Middlemarch", 880, "14.00", "1872-12-01", novels),
                ("Orlando", 336, "11.20", "1928-10-11", novels),
                ("Micrographia", 246, "30.00", "1665-09-01", science),
                ("Silent Spring", 368, "12.99", "1962-09-27", science),
            )
        )


async def _to_admin(_request: Request) -> RedirectResponse:
    return RedirectResponse("/admin")


def create_app(url: str) -> Starlette:
    """The pages for the store at ``url``, a URL of the SQL door such as ``kvdialect+rocksdb:////data/books``."""
    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)
    fill(engine)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        engine.dispose()

    app = Starlette(routes=[Route("/", _to_admin)], lifespan=lifespan)
    admin = Admin(app, engine, title="Library")
    admin.add_view(BookAdmin)
    admin.add_view(ShelfAdmin)
    return app
