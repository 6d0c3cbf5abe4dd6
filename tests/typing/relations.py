"""What type checkers say to a program with relationships. Not run: mypy and pyright check it, ``tox -e types``."""

from __future__ import annotations

from typing import assert_type

from sqlalchemy import ForeignKey, select

from kvdialect import Mapped, Session, create_engine, field, mapped, registry, relationship, selectinload

models = registry()


@mapped(models)
class Author:
    __tablename__ = "authors"
    id: Mapped[int] = field(primary_key=True, autoincrement=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(
        back_populates="author", cascade="all, delete-orphan", default_factory=list, kw_only=True
    )


@mapped(models)
class Book:
    __tablename__ = "books"
    id: Mapped[int] = field(primary_key=True, autoincrement=True)
    title: Mapped[str]
    author_id: Mapped[int | None] = field(ForeignKey("authors.id"), index=True, default=None)
    author: Mapped[Author | None] = relationship(back_populates="books")


engine = create_engine("rocksdb:////var/lib/books", foreign_keys=True)


def use(session: Session) -> list[str]:
    author = Author("Ursula", books=[Book("Lavinia")])
    author.books.append(Book("Orlando"))
    session.add(author)
    statement = select(Author).options(selectinload(Author.books).selectinload(Book.author))
    for found in session.scalars(statement):
        assert_type(found, Author)
        assert_type(found.books, list[Book])
    book = session.get_one(Book, 1)
    session.load(book, "author")
    session.load([book], Book.author)
    assert_type(book.author, Author | None)
    book.author = author
    return [each.title for each in session.scalars(select(Book).where(Book.author == author))]


def mistakes(book: Book, author: Author) -> None:
    """Each is an error; were it none, the unused ignore would be one."""
    book.author = "Ursula"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    author.books.append(author)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Author("Ursula", books=author)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Book("Lavinia", author=author)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    relationship(casade="all")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


print(engine.transaction(use))
