"""Entries of an index over columns of the primary key: these columns stand in them once."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import Index, desc, select

from kvdialect import Bytes4, Mapped, Session, UInt16, create_engine, field, mapped, registry

models = registry()
NAMES = ("by_b", "by_ba", "by_c", "by_xc", "by_b_desc", "by_x", "by_xb", "by_cx")


@mapped(models)
class Part:
    __tablename__ = "parts"
    __table_args__ = (
        Index("by_b", "b"),
        Index("by_ba", "b", "a"),
        Index("by_c", "c"),
        Index("by_xc", "x", "c"),
        Index("by_b_desc", desc("b")),
        Index("by_x", "x"),
        Index("by_xb", "x", "b", kvdialect_include=["y"]),
        Index("by_cx", desc("c"), "x"),
        Index("unique_bac", "b", "a", "c", unique=True),
    )
    a: Mapped[Bytes4] = field(primary_key=True)
    b: Mapped[UInt16] = field(primary_key=True)
    c: Mapped[str] = field(primary_key=True)
    x: Mapped[int | None]
    y: Mapped[str]


@pytest.fixture
def engine():
    with create_engine("memory://") as opened:
        models.create_all(opened)
        yield opened


def rows() -> list[tuple[bytes, int, str, int | None, str]]:
    rng = random.Random(3)
    keys = {(rng.randbytes(4), rng.randrange(5), "".join(rng.choices("a\0b", k=rng.randrange(4)))) for _ in range(200)}
    return [(*key, rng.choice([None, 1, 2]), "y") for key in sorted(keys)]


def test_a_column_of_the_key_stands_once_in_an_entry(engine):
    """Behind the index's columns stand those of the key that are not among them, in their order."""
    with Session(engine) as session, session.begin():
        session.add(Part(b"aaaa", 258, "c", 1, "y"))

    entries = {
        name: [key.hex() for key, _ in engine.backend.scan(name)] for name in ("by_b", "by_ba", "by_c", "by_b_desc")
    }
    assert entries == {
        "by_b": ["01026161616163"],
        "by_ba": ["01026161616163"],
        "by_c": ["630001616161610102"],
        "by_b_desc": ["fefd6161616163"],
    }


def test_each_entry_leads_to_its_record(engine):
    """By scans, by queries that read entries alone, and when records go."""
    data = rows()
    with Session(engine) as session, session.begin():
        session.add_all(Part(*row) for row in data)
    with Session(engine) as session:
        stored = session.binding.resolve(Part.__table__)
        for name in NAMES:
            assert sorted((p.a, p.b, p.c) for p in session.scan(name)) == [row[:3] for row in data]
            codec = stored.readable[name]
            for key, value in engine.backend.scan(name):
                held = dict(zip(codec.covered, codec.decode(key, value), strict=True))
                found = session.get(Part, (held["a"], held["b"], held["c"]))
                assert all(getattr(found, column) == value for column, value in held.items())
        for b in range(5):
            for where, wanted in (
                (Part.b == b, lambda row, b=b: row[1] == b),
                (Part.b >= b, lambda row, b=b: row[1] >= b),
                ((Part.x == 1) & (Part.b == b), lambda row, b=b: row[3] == 1 and row[1] == b),
            ):
                found = session.execute(select(Part.a, Part.b, Part.c).where(where).order_by(Part.b, Part.a, Part.c))
                expected = sorted((row[:3] for row in data if wanted(row)), key=lambda row: (row[1], row[0], row[2]))
                assert [tuple(row) for row in found] == expected
        plan = str(session.explain(select(Part.b, Part.a, Part.c).order_by(Part.b, Part.a, Part.c)))
        assert "covering: yes" in plan
        assert "Sort" not in plan
    with Session(engine) as session, session.begin():
        session.delete_all(list(session.scan(Part))[::2])
    with Session(engine) as session:
        left = len(list(session.scan(Part)))
        assert [len(list(session.scan(name))) for name in NAMES] == [left] * len(NAMES)
