"""The tables: shelves, and the books on them, as SQLAlchemy's ORM declares them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Numeric, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The registry of these tables."""


class Shelf(Base):
    """A shelf with a name of its own."""

    __tablename__ = "shelves"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)
    books: Mapped[list[Book]] = relationship(back_populates="shelf")

    def __str__(self) -> str:
        return self.name


class Book(Base):
    """A book, on a shelf or on none."""

    __tablename__ = "books"
    __table_args__ = (CheckConstraint("pages > 0", name="pages_positive"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200), index=True)
    pages: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    published: Mapped[date | None]
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelves.id"), index=True)
    shelf: Mapped[Shelf | None] = relationship(back_populates="books")

    def __str__(self) -> str:
        return self.title
