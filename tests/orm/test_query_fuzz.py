"""Random queries over one table beside the same in Python over all rows, by SQL's logic of three values.

Each statement is made several times with other values: a plan is kept for its structure, and holds for all of them.
``KVDIALECT_QUERY_FUZZ_TABLES`` says over how many tables; a failure names its seed.
"""

from __future__ import annotations

import operator
import os
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import pytest
from sqlalchemy import Index, Numeric, and_, delete, func, not_, or_, select, update

from kvdialect import Session, create_engine, field, registry

TABLES = int(os.environ.get("KVDIALECT_QUERY_FUZZ_TABLES", "40"))
STATEMENTS = 25
SAME = 3
"""Executions of a statement, with other values."""

VALUES: dict[str, list[Any]] = {
    "k": ["a", "ab", "b", "", "ba", "a\0", "\x7f", "é"],
    "n": [-5, -1, 0, 1, 2, 7],
    "i": [-3, 0, 1, 2, 5, 9, 11, 12],
    "j": [0, 1, 2],
    "s": ["a", "ab", "abc", "b", "", "c%", "d_"],
    "t": ["x", "xy", "y", ""],
    "d": [Decimal("-1.50"), Decimal("0.00"), Decimal("1.10"), Decimal("2.25")],
    "f": [-1.5, 0.0, 1.1, 2.25, 1e9],
    "r": [b"", b"\0", b"a", b"ab", b"\xff"],
}
NULLABLE = frozenset("isdf")
KEYS = (("k",), ("n",), ("k", "n"), ("n", "k"), ("k", "n", "t"))
ANNOTATIONS: dict[str, Any] = {
    "k": str, "n": int, "i": int | None, "j": int, "s": str | None, "t": str,
    "d": Annotated[Decimal, Numeric(10, 2)] | None, "f": float | None, "r": bytes,
}  # fmt: skip

Row = dict[str, Any]
Truth = bool | None


class Condition(NamedTuple):
    """A condition as a function of what has the columns, and as one of a row."""

    clause: Callable[[Any], Any]
    holds: Callable[[Row], Truth]


def _not(value: Truth) -> Truth:
    return None if value is None else not value


def _all(values: list[Truth]) -> Truth:
    return False if False in values else None if None in values else True


def _any(values: list[Truth]) -> Truth:
    return True if True in values else None if None in values else False


class Drawn:
    """Draws structures by one source of chance, and the values in them by another."""

    def __init__(self, structure: random.Random, values: random.Random) -> None:
        self.structure, self.values = structure, values

    def value(self, name: str) -> Any:
        return self.values.choice(VALUES[name])

    def condition(self, depth: int = 2) -> Condition:
        form = self.structure.random()
        if depth and form < 0.4:
            parts = [self.condition(depth - 1) for _ in range(self.structure.choice((2, 2, 3)))]
            if form < 0.2:
                return Condition(
                    lambda c: and_(*(part.clause(c) for part in parts)), lambda r: _all([p.holds(r) for p in parts])
                )
            return Condition(
                lambda c: or_(*(part.clause(c) for part in parts)), lambda r: _any([p.holds(r) for p in parts])
            )
        if depth and form < 0.48:
            part = self.condition(depth - 1)
            return Condition(lambda c: not_(part.clause(c)), lambda r: _not(part.holds(r)))
        return self.simple(self.structure.choice(list(VALUES)))

    def simple(self, name: str) -> Condition:
        def column(c: Any) -> Any:
            return getattr(c, name)

        form = self.structure.choice(("compare",) * 4 + ("in", "in", "between", "null", "distinct", "text"))
        if form == "compare":
            compare = getattr(operator, self.structure.choice(("eq", "eq", "ne", "lt", "le", "gt", "ge")))
            value = self.value(name)
            return Condition(
                lambda c: compare(column(c), value), lambda r: None if r[name] is None else compare(r[name], value)
            )
        if form == "in":
            values = [self.value(name) for _ in range(self.values.choice((0, 1, 2, 3)))]
            if self.structure.random() < 0.3:
                return Condition(
                    lambda c: column(c).not_in(values),
                    lambda r: True if not values else None if r[name] is None else r[name] not in values,
                )
            return Condition(
                lambda c: column(c).in_(values),
                lambda r: False if not values else None if r[name] is None else r[name] in values,
            )
        if form == "between":
            low, high = self.value(name), self.value(name)
            return Condition(
                lambda c: column(c).between(low, high), lambda r: None if r[name] is None else low <= r[name] <= high
            )
        if form == "null":
            return Condition(lambda c: column(c).is_(None), lambda r: r[name] is None)
        if form == "distinct":
            other = None if name in NULLABLE and self.values.random() < 0.3 else self.value(name)
            return Condition(lambda c: column(c).is_not_distinct_from(other), lambda r: r[name] == other)
        if name not in "kst":
            return self.simple(self.structure.choice("kst"))
        method = self.structure.choice(("startswith", "contains", "endswith"))
        piece = self.values.choice(["", "a", "b", "x", "%"])
        test: Callable[[str], bool] = {
            "startswith": lambda text: text.startswith(piece),
            "contains": lambda text: piece in text,
            "endswith": lambda text: text.endswith(piece),
        }[method]
        return Condition(
            lambda c: getattr(column(c), method)(piece, autoescape=True),
            lambda r: None if r[name] is None else test(r[name]),
        )


class Table:
    """A record class with random indexes, and the rows that it has."""

    def __init__(self, chance: random.Random) -> None:
        self.models = registry()
        self.key = chance.choice(KEYS)
        rest = [name for name in VALUES if name not in self.key]
        indexes = []
        for number in range(chance.choice((0, 2, 4, 6))):
            columns = chance.sample(rest, chance.choice((1, 1, 2, 3)))
            options: dict[str, Any] = {}
            if chance.random() < 0.4:
                # Of the columns that conditions are often of, so that some imply it.
                options["kvdialect_where"] = Drawn(chance, chance).condition(1).clause
            if chance.random() < 0.3:
                options["kvdialect_include"] = [name for name in chance.sample(rest, 2) if name not in columns]
            if chance.random() < 0.2:
                columns, options["unique"] = [*columns, *self.key], True
            indexes.append(Index(f"index_{number}", *columns, **options))
        body: dict[str, Any] = {"__tablename__": "random", "__table_args__": tuple(indexes), "__annotations__": {}}
        for name in (*self.key, *rest):
            body["__annotations__"][name] = ANNOTATIONS[name]
            if name in self.key:
                body[name] = field(primary_key=True)
        self.record = self.models.mapped(type("Random", (), body))
        self.rows: dict[tuple[Any, ...], Row] = {}
        for _ in range(chance.choice((5, 40, 150))):
            self.add({name: chance.choice(VALUES[name]) for name in VALUES}, chance)

    def add(self, row: Row, chance: random.Random) -> None:
        row = {name: None if name in NULLABLE and chance.random() < 0.25 else value for name, value in row.items()}
        if len(self.key) == 1 and row[self.key[0]] == "":
            row[self.key[0]] = "e"  # an empty key is none
        if self.key == ("k",):
            row["k"] += str(len(self.rows))  # more than a few rows
        elif self.key == ("n",):
            row["n"] += 10 * len(self.rows)
        self.rows[tuple(row[name] for name in self.key)] = row


def _place(value: Any, *, descending: bool, first: bool) -> tuple[Any, ...]:
    if value is None:
        return (0 if first else 2,)
    return 1, _Reversed(value) if descending else value


class _Reversed:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: Any) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


def _play(table: Table, session: Session, seed: int) -> None:
    """One structure, several times."""
    record, key = table.record, table.key
    for again in range(SAME):
        structure, values = random.Random(seed), random.Random(seed * SAME + again)
        drawn = Drawn(structure, values)
        condition = drawn.condition()
        clause = condition.clause(record)
        kept = [row for row in table.rows.values() if condition.holds(row) is True]
        order = structure.sample(list(VALUES), structure.choice((0, 1, 1, 2)))
        directions = [(structure.random() < 0.4, structure.random() < 0.8) for _ in order]
        elements = []
        for name, (descending, first) in zip(order, directions, strict=True):
            element = getattr(record, name).desc() if descending else getattr(record, name).asc()
            elements.append(element.nulls_first() if first else element.nulls_last())
        elements += [getattr(record, name) for name in key if name not in order]

        def place(row: Row) -> list[tuple[Any, ...]]:
            places = [
                _place(row[name], descending=descending, first=first)
                for name, (descending, first) in zip(order, directions, strict=True)  # noqa: B023 - called at once
            ]
            return [*places, *((1, row[name]) for name in key if name not in order)]  # noqa: B023

        wanted = [tuple(row[name] for name in key) for row in sorted(kept, key=place)]
        columns = [getattr(record, name) for name in key]
        statement = select(*columns).where(clause).order_by(*elements)
        said = f"seed {seed}, time {again}: {statement.compile(compile_kwargs={'literal_binds': False})}"
        assert [tuple(row) for row in session.execute(statement)] == wanted, said
        limit, offset = values.choice((0, 1, 3, 10)), values.choice((0, 0, 1, 4))
        some = statement.limit(limit).offset(offset)
        assert [tuple(row) for row in session.execute(some)] == wanted[offset : offset + limit], said
        assert session.scalar(select(func.count()).select_from(record).where(clause)) == len(wanted), said
        found = session.scalars(select(record).where(clause)).all()
        assert sorted(tuple(getattr(each, name) for name in key) for each in found) == sorted(wanted), said
        name = structure.choice("nijdst")
        present = [row[name] for row in kept if row[name] is not None]
        for function, of in ((func.min, min), (func.max, max)):
            extreme = session.scalar(select(function(getattr(record, name))).where(clause))
            assert extreme == (of(present) if present else None), said
        if again == 0:
            pages, token = [], None
            while True:
                page = session.page(select(record).where(clause).order_by(*elements), 7, after=token)
                pages += [tuple(getattr(each, name) for name in key) for each in page.items]
                token = page.next
                if token is None:
                    break
            assert pages == wanted, said
        if structure.random() < 0.2:
            with session.begin_nested() as nested:
                change = update(record).values(j=record.j + 1) if structure.random() < 0.5 else delete(record)
                assert session.execute(change.where(clause)).rowcount == len(wanted), said
                nested.rollback()


@pytest.mark.timeout(3600)
def test_queries_give_what_python_gives(engine_name, tmp_path):
    for number in range(0, TABLES, 1 if engine_name == "memory" else 8):  # what plans is the same on all engines
        table = Table(random.Random(number))
        with create_engine(
            f"{engine_name}://" + ("" if engine_name == "memory" else f"/{tmp_path}/{number}")
        ) as engine:
            table.models.create_all(engine)
            with Session(engine) as session:
                session.add_all([table.record(**row) for row in table.rows.values()])
                session.commit()
                for statement in range(STATEMENTS):
                    _play(table, session, number * STATEMENTS + statement)
                session.rollback()
                assert engine.verify().ok
