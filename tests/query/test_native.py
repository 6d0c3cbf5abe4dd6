"""The same queries on every engine: its scans, its ends of ranges, its reads of many keys."""

from __future__ import annotations

import random

import pytest
import sqlalchemy as sa

from kvdialect.query.paging import page

TABLE = sa.Table(
    "n",
    sa.MetaData(),
    sa.Column("s", sa.String(), primary_key=True),
    sa.Column("k", sa.Integer(), primary_key=True),
    sa.Column("a", sa.Integer()),
    sa.Column("b", sa.LargeBinary(), nullable=False),
    sa.Index("n_a", sa.desc("a"), "b"),
    sa.Index("n_b", "b", unique=True),
    sa.Index("n_open", "k", kvdialect_where=lambda c: c.a.is_(None), kvdialect_include=["b"]),
)
c = TABLE.columns


@pytest.fixture
def filled(native_store):
    chance = random.Random(11)
    texts, numbers = ["", "a", "a\0", "b", "ÿ"], [None, *range(-3, 4)]
    rows = [
        (chance.choice(texts), number, chance.choice(numbers), chance.randbytes(2) + bytes([number % 256, 255]))
        for number in range(700)
    ]
    native_store.create(TABLE, rows)
    native_store.expected = rows
    return native_store


STATEMENTS = [
    (sa.select(TABLE), bool),
    (sa.select(TABLE).where(c.s == "a"), lambda row: row[0] == "a"),
    (sa.select(TABLE).where(c.s == "a", c.k.between(100, 300)), lambda row: row[0] == "a" and 100 <= row[1] <= 300),
    (sa.select(TABLE).where(c.s > "a"), lambda row: row[0] > "a"),
    (sa.select(TABLE).where(c.s.startswith("a")), lambda row: row[0].startswith("a")),
    (sa.select(TABLE).where(c.a == 2), lambda row: row[2] == 2),
    (sa.select(TABLE).where(c.a > 1), lambda row: row[2] is not None and row[2] > 1),
    (sa.select(TABLE).where(c.a.in_([-3, 3])), lambda row: row[2] in (-3, 3)),
    (sa.select(TABLE).where(c.a.is_(None)), lambda row: row[2] is None),
    (sa.select(TABLE).where(c.a.is_(None), c.k < 50), lambda row: row[2] is None and row[1] < 50),
    (sa.select(TABLE).where(c.b >= b"\xff"), lambda row: row[3] >= b"\xff"),
    (sa.select(TABLE).where(sa.or_(c.a == 3, c.b < b"\x10")), lambda row: row[2] == 3 or row[3] < b"\x10"),
]


def test_queries_on_every_engine(filled):
    """Ranges, backwards and forwards, merged and joined, give the rows that Python finds."""
    for statement, holds in STATEMENTS:
        expected = sorted((row for row in filled.expected if holds(row)), key=repr)
        for order in ((), (c.k,), (c.k.desc(),), (c.a, c.b), (c.a.desc(), c.b.desc()), (c.s.desc(), c.k.desc())):
            found = filled.run(statement.order_by(*order))
            assert sorted(found, key=repr) == expected
        by_number = filled.run(statement.order_by(c.k.desc()).limit(7).offset(3))
        assert [row[1] for row in by_number] == sorted((row[1] for row in expected), reverse=True)[3:10]
        count = filled.run(sa.select(sa.func.count()).select_from(TABLE).where(*statement._where_criteria))
        assert count == [(len(expected),)]


def test_pages_on_every_engine(filled):
    """Pages follow one another on every engine, in either direction."""
    for order in (c.a.desc(), c.a, c.k.desc(), c.s):
        token, found = None, []
        while True:
            view = filled.view()
            prepared = filled.planner.prepare(sa.select(c.k).order_by(order), view)
            one = page(prepared, view, list, 60, token)
            found += [row[0] for row in one]
            token = one.next
            if token is None:
                break
        assert len(found) == len(set(found)) == 700
