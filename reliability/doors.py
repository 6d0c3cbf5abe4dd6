"""Row 6: a Hypothesis state machine over the Session and the SQL door, against a model made of dicts.

One session adds, changes, deletes, merges and queries records, with savepoints within its transaction; SQL statements
do the same in the same transaction; and a connection of the SQL door's own, or another session, commits beside it. Each
read must give what the model has, each refusal must be the one that the model expects, and what it refuses changes
nothing. After a commit both doors, and ``verify``, must find what the model has. Where both have written the same
record, or one unique value, the commit must fail with ConflictError, and nothing of it is there.
"""

from __future__ import annotations

import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy.exc
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy import Index, delete, func, select, text, update

from kvdialect import Engine, Mapped, Session, create_engine, exc, field, mapped, registry
from kvdialect.storage import WriteBatch
from kvdialect.store.transaction import Transaction
from reliability.scoreboard import Row

models = registry()


@mapped(models)
class Member:
    """A record with an ordered, a partial, a covering, a unique and a multi-valued index."""

    __tablename__ = "members"
    __table_args__ = (
        Index("member_by_team", "team", "score"),
        Index("member_in_debt", "score", kvdialect_where=lambda c: c.score < 0),
        Index("member_by_name", "name", kvdialect_include=["score"]),
        Index("member_by_tag", "tags", kvdialect_kind="multi"),
    )
    id: Mapped[int] = field(primary_key=True)
    team: Mapped[str | None]
    score: Mapped[int]
    name: Mapped[str]
    email: Mapped[str | None] = field(default=None, unique=True)
    tags: Mapped[list[str]] = field(factory=list)


Values = tuple[str | None, int, str, str | None, tuple[str, ...]]
State = dict[int, Values]
"""Team, score, name, email and tags of each member by its id."""

TEAMS, NAMES, TAGS = (None, "", "red", "blue"), ("ann", "bob", "Ann\0"), ("new", "old", "")
EMAILS = (None, None, "a@x", "b@x", "c@x", "d@x")
EMAIL = 3
FIELDS = ("team", "score", "name", "email", "tags")
STEPS = 60

_REFUSED = (exc.IntegrityError, sqlalchemy.exc.IntegrityError)
_CONFLICTS = (exc.ConflictError, sqlalchemy.exc.OperationalError)

idents = st.integers(1, 9)
scores = st.integers(-2, 3)
emails = st.sampled_from(EMAILS)
tags = st.lists(st.sampled_from(TAGS), unique=True, max_size=2).map(lambda found: tuple(sorted(found)))
rows = st.tuples(st.sampled_from(TEAMS), scores, st.sampled_from(NAMES), emails, tags)
by_sql = st.booleans()

INSERT = text(
    "INSERT INTO members (id, team, score, name, email, tags) VALUES (:id, :team, :score, :name, :email, :tags)"
)
UPSERT = text(
    f"{INSERT.text} ON CONFLICT (id) DO UPDATE SET team = excluded.team, score = excluded.score, name = excluded.name,"
    " email = excluded.email, tags = excluded.tags"
)


def run(engine: str, folder: Path, tries: int, first: int = 1) -> Row:
    """Take so many steps on one store."""
    began = time.monotonic()
    row = Row(6, "state machine over the Session and the SQL door, in steps", engine, 0)
    with _opened(engine, folder / "store") as store:
        seen = _walked(store, tries, first, row.violations)
    row.tried = seen.pop("steps")
    row.counts = dict(seen)
    for name, plant in FAULTS.items():
        found: list[str] = []
        with _opened(engine, folder / name.replace(" ", "-")) as store:
            undo = plant(store)
            try:
                _walked(store, 3000, first, found, shrink=False)
            finally:
                undo()
        row.control[name] = bool(found)
    row.seconds = time.monotonic() - began
    return row


def _opened(engine: str, path: Path) -> Engine:
    store = create_engine("memory://" if engine == "memory" else f"{engine}:///{path}")
    models.create_all(store)
    return store


def _walked(store: Engine, tries: int, first: int, violations: list[str], *, shrink: bool = True) -> Counter[str]:
    """Take steps until there are enough, or there is a difference, which is told."""
    seen = Counter(dict.fromkeys(("steps", "commits", "conflicts", "refused", "commits beside it"), 0))
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    door = store.sqlalchemy()

    class Walk(Doors):
        def __init__(self) -> None:
            super().__init__(store, door, seen)

    number = first
    while seen["steps"] < tries and not violations:
        profile = settings(
            max_examples=max(1, min(500, (tries - seen["steps"]) // STEPS)),
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        try:
            run_state_machine_as_test(seed(number)(Walk), settings=profile)
        except Exception as error:
            told = "".join(traceback.format_exception(error, limit=-3))
            violations.append(f"with seed {number}: {told}")
        number += 1
    door.dispose()
    return seen


class Doors(RuleBasedStateMachine):
    """A session and its model: a stack of states, one for each savepoint that is open."""

    def __init__(self, store: Engine, door: sqlalchemy.Engine, seen: Counter[str]) -> None:
        super().__init__()
        self.store, self.door, self.seen = store, door, seen
        self.session = Session(store)
        self.nested: list[Any] = []
        self.committed: State = {}

    @initialize()
    def begin_empty(self) -> None:
        with Session(self.store) as session, session.begin():
            session.execute(delete(Member))
        self.fresh()

    def teardown(self) -> None:
        self.session.close()

    # ------------------------------------------------------------------------------------------ what the model knows

    @property
    def now(self) -> State:
        """What the session has to see."""
        return self.stack[-1]

    def fresh(self) -> None:
        """A transaction begins, and its snapshot is taken."""
        self.nested.clear()
        self.before = dict(self.committed)
        self.stack: list[State] = [dict(self.committed)]
        self.mine: set[Any] = set()
        self.theirs: set[Any] = set()
        """Ids and emails of the records that the session, and those beside it, have written since."""
        assert self.session.scalar(select(func.count()).select_from(Member)) == len(self.now)

    def wrote(self, side: set[Any], ident: int, *values: Values | None) -> None:
        side.add(ident)
        side.update(each[EMAIL] for each in values if each is not None and each[EMAIL] is not None)

    def put(self, ident: int, values: Values) -> None:
        self.wrote(self.mine, ident, self.now.get(ident), values)
        self.stack[-1] = {**self.now, ident: values}

    def drop(self, ident: int) -> None:
        self.wrote(self.mine, ident, self.now[ident])
        self.stack[-1] = {other: values for other, values in self.now.items() if other != ident}

    @staticmethod
    def taken(state: Mapping[int, Values], ident: int, email: str | None) -> bool:
        """Whether another record of the state has the email."""
        return email is not None and any(values[EMAIL] == email and other != ident for other, values in state.items())

    def attempt(self, act: Callable[[], object], ident: int, values: Values, *, refused: bool = False) -> None:
        """Write a record; what breaks a constraint is refused, and leaves everything as it was."""
        if not refused and not self.taken(self.now, ident, values[EMAIL]):
            act()
            self.put(ident, values)
            return
        self.seen["refused"] += 1
        self.wrote(self.mine, ident, values)
        try:
            with self.session.begin_nested():
                act()
                self.session.flush()
        except _REFUSED:
            return
        raise AssertionError("what breaks a constraint was accepted")

    def got(self, ident: int) -> Member | None:
        """What ``get`` gives; until a flush the identity map has also what is to be deleted, as SQLAlchemy's."""
        member = self.session.get(Member, ident)
        return None if member is None or member in self.session.deleted else member

    def sql(self, statement: Any, values: Mapping[str, Any]) -> int:
        """Run a statement of SQL in the session's transaction; how many rows it has changed."""
        return self.session.connection().execute(statement, values).rowcount

    # ------------------------------------------------------------------------------------------ writes

    @rule(ident=idents, values=rows, sql=by_sql)
    def add(self, ident: int, values: Values, sql: bool) -> None:
        self.seen["steps"] += 1

        def act() -> None:
            if sql:
                self.sql(INSERT, _named(ident, values))
            else:
                self.session.add(_member(ident, values))

        self.attempt(act, ident, values, refused=ident in self.now)

    @rule(ident=idents, values=rows, at=st.integers(0, len(FIELDS) - 1), sql=by_sql)
    def change(self, ident: int, values: Values, at: int, sql: bool) -> None:
        self.seen["steps"] += 1
        if ident not in self.now:
            assert self.got(ident) is None
            return
        changed: Values = (*self.now[ident][:at], values[at], *self.now[ident][at + 1 :])  # type: ignore[assignment]
        name = FIELDS[at]

        def act() -> None:
            if sql:
                assert self.sql(
                    text(f"UPDATE members SET {name} = :value WHERE id = :id"),  # noqa: S608 - a name of ours
                    {"value": _named(ident, changed)[name], "id": ident},
                )
            else:
                member = self.session.get_one(Member, ident)
                setattr(member, name, list(changed[at]) if name == "tags" else changed[at])  # type: ignore[arg-type]

        self.attempt(act, ident, changed)

    @rule(team=st.sampled_from(TEAMS), by=scores, way=st.integers(0, 2))
    def change_many(self, team: str | None, by: int, way: int) -> None:
        self.seen["steps"] += 1
        found = [ident for ident, values in self.now.items() if values[0] == team]
        if way == 0:
            for member in self.session.scalars(select(Member).where(Member.team == team)):
                member.score += by
        elif way == 1:
            self.session.execute(update(Member).where(Member.team == team).values(score=Member.score + by))
        else:
            statement = text("UPDATE members SET score = score + :by WHERE team IS :team")
            assert self.sql(statement, {"by": by, "team": team}) == len(found)
        for ident in found:
            old = self.now[ident]
            self.put(ident, (old[0], old[1] + by, *old[2:]))

    @rule(ident=idents, values=rows, sql=by_sql)
    def upsert(self, ident: int, values: Values, sql: bool) -> None:
        self.seen["steps"] += 1

        def act() -> None:
            if sql:
                self.sql(UPSERT, _named(ident, values))
            else:
                self.session.merge(_member(ident, values))

        self.attempt(act, ident, values)

    @rule(ident=idents, sql=by_sql)
    def delete(self, ident: int, sql: bool) -> None:
        self.seen["steps"] += 1
        if sql:
            assert self.sql(text("DELETE FROM members WHERE id = :id"), {"id": ident}) == (ident in self.now)
        elif ident in self.now:
            self.session.delete(self.session.get_one(Member, ident))
        if ident in self.now:
            self.drop(ident)

    @rule(below=scores, sql=by_sql)
    def delete_many(self, below: int, sql: bool) -> None:
        self.seen["steps"] += 1
        below -= 2
        found = [ident for ident, values in self.now.items() if values[1] < below]
        if sql:
            assert self.sql(text("DELETE FROM members WHERE score < :below"), {"below": below}) == len(found)
        else:
            self.session.execute(delete(Member).where(Member.score < below))
        for ident in found:
            self.drop(ident)

    # ------------------------------------------------------------------------------------------ transactions

    @rule()
    def begin_nested(self) -> None:
        self.seen["steps"] += 1
        if len(self.nested) < 3:
            self.nested.append(self.session.begin_nested())
            self.stack.append(dict(self.now))

    @rule(keep=st.booleans())
    def end_nested(self, keep: bool) -> None:
        self.seen["steps"] += 1
        if self.nested:
            nested, top = self.nested.pop(), self.stack.pop()
            if keep:
                nested.commit()
                self.stack[-1] = top
            else:
                nested.rollback()

    @rule()
    def flush(self) -> None:
        self.seen["steps"] += 1
        self.session.flush()

    @rule(expunge=st.booleans())
    def forget(self, expunge: bool) -> None:
        """The session lets go of its objects' values, or of all objects that have nothing pending."""
        self.seen["steps"] += 1
        self.session.flush()
        if expunge:
            self.session.expunge_all()
        else:
            self.session.expire_all()

    @rule()
    def rollback(self) -> None:
        self.seen["steps"] += 1
        self.session.rollback()
        self.fresh()

    @rule()
    def commit(self) -> None:
        self.seen["steps"] += 1
        self.committing()
        self.fresh()

    @rule(ident=idents, values=rows, sql=by_sql)
    def commit_one(self, ident: int, values: Values, sql: bool) -> None:
        """A commit of something, which is also so that there are more: of many rules each is taken rarely."""
        self.upsert(ident, values, sql)
        self.commit()

    @rule(ident=idents, values=rows, other=st.none() | rows, same=st.booleans(), sql=by_sql)
    def contend(self, ident: int, values: Values, other: Values | None, same: bool, sql: bool) -> None:
        """A commit after another transaction has written the same record, or the next one."""
        self.upsert(ident, values, sql)
        self.beside(ident if same else ident % 9 + 1, other, not sql)
        self.commit()

    @rule()
    def commit_and_close(self) -> None:
        """Go on with another session."""
        self.seen["steps"] += 1
        self.committing()
        self.session.close()
        self.session = Session(self.store)
        self.fresh()

    def committing(self) -> None:
        changed = _changed(self.before, self.now)
        merged = {ident: values for ident, values in self.committed.items() if ident not in changed}
        merged |= {ident: values for ident, values in self.now.items() if ident in changed}
        given = [values[EMAIL] for values in merged.values() if values[EMAIL] is not None]
        must_fail = bool(changed & _changed(self.before, self.committed)) or len(set(given)) < len(given)
        try:
            self.session.commit()
        except exc.ConflictError:
            assert self.mine & self.theirs, "a conflict of records that nobody else has written"
            self.seen["conflicts"] += 1
        else:
            assert not must_fail, f"a conflict was not noticed: {changed} and {self.theirs}"
            self.committed = merged
            self.seen["commits"] += 1
        self.check_committed()

    @rule(ident=idents, values=st.none() | rows, sql=by_sql)
    def beside(self, ident: int, values: Values | None, sql: bool) -> None:
        """Another transaction reads what is committed, writes a record, and commits."""
        self.seen["steps"] += 1
        state = dict(self.committed)
        self.wrote(self.theirs, ident, state.pop(ident, None), values)
        fails = values is not None and self.taken(state, ident, values[EMAIL])
        try:
            if sql:
                with self.door.begin() as connection:
                    if values is None:
                        connection.execute(text("DELETE FROM members WHERE id = :id"), {"id": ident})
                    else:
                        connection.execute(UPSERT, _named(ident, values))
            else:
                with Session(self.store) as session, session.begin():
                    if values is not None:
                        session.merge(_member(ident, values))
                    elif (member := session.get(Member, ident)) is not None:
                        session.delete(member)
        except _REFUSED:
            assert fails
            return
        assert not fails
        self.committed = state if values is None else {**state, ident: values}
        self.seen["commits beside it"] += 1

    # ------------------------------------------------------------------------------------------ reads

    @rule(ident=idents, sql=by_sql)
    def get(self, ident: int, sql: bool) -> None:
        self.seen["steps"] += 1
        if sql:
            found = self.session.connection().execute(text("SELECT * FROM members WHERE id = :id"), {"id": ident})
            assert [_stored(each) for each in found] == [pair for pair in self.now.items() if pair[0] == ident]
        else:
            member = self.got(ident)
            assert (None if member is None else _values(member)) == self.now.get(ident)

    @rule(team=st.sampled_from(TEAMS), email=emails, tag=st.sampled_from(TAGS), name=st.sampled_from(NAMES))
    def look_up(self, team: str | None, email: str | None, tag: str, name: str) -> None:
        self.seen["steps"] += 1
        session, now = self.session, self.now
        found = session.lookup("member_by_team", team)
        assert [(each.score, each.id) for each in found] == sorted((v[1], i) for i, v in now.items() if v[0] == team)
        assert {each.id for each in session.lookup("member_by_tag", tag)} == {i for i, v in now.items() if tag in v[4]}
        statement = select(Member).where(Member.email == email)
        assert sorted(each.id for each in session.scalars(statement)) == sorted(
            i for i, v in now.items() if v[EMAIL] == email
        )
        covered = session.execute(select(Member.id, Member.score).where(Member.name == name).order_by(Member.id))
        assert [tuple(each) for each in covered] == sorted((i, v[1]) for i, v in now.items() if v[2] == name)

    @rule(limit=st.integers(0, 4), offset=st.integers(0, 3), descending=st.booleans())
    def in_order(self, limit: int, offset: int, descending: bool) -> None:
        self.seen["steps"] += 1
        order = (Member.score.desc(), Member.id.desc()) if descending else (Member.score, Member.id)
        wanted = sorted(((v[1], i) for i, v in self.now.items()), reverse=descending)
        page = select(Member).order_by(*order).limit(limit).offset(offset)
        assert [each.id for each in self.session.scalars(page)] == [i for _, i in wanted[offset : offset + limit]]
        debts = select(Member).where(Member.score < 0).order_by(*order)
        assert [each.id for each in self.session.scalars(debts)] == [i for score, i in wanted if score < 0]

    @rule()
    def summed(self) -> None:
        """What only the SQL door answers: groups, and a table joined with itself."""
        self.seen["steps"] += 1
        run, now = self.session.connection().execute, self.now
        found = run(text("SELECT team, count(*), sum(score), count(email) FROM members GROUP BY team"))
        groups = {team: [v for v in now.values() if v[0] == team] for team in {v[0] for v in now.values()}}
        assert {tuple(each) for each in found} == {
            (team, len(vs), sum(v[1] for v in vs), sum(v[EMAIL] is not None for v in vs)) for team, vs in groups.items()
        }
        pairs = run(text("SELECT count(*) FROM members a JOIN members b ON a.name = b.name AND a.id < b.id"))
        assert pairs.scalar() == sum(v[2] == w[2] for i, v in now.items() for j, w in now.items() if i < j)

    @rule()
    def read_all(self) -> None:
        self.seen["steps"] += 1
        assert {each.id: _values(each) for each in self.session.scan(Member)} == self.now
        assert self.session.scalar(select(func.count()).select_from(Member)) == len(self.now)

    def check_committed(self) -> None:
        """What both doors, and verify, find in the store."""
        with Session(self.store) as session:
            assert {each.id: _values(each) for each in session.scan(Member)} == self.committed
        with self.door.connect() as connection:
            found = connection.execute(text("SELECT * FROM members"))
            assert dict(map(_stored, found)) == self.committed
            assert connection.scalar(text("SELECT count(*) FROM members")) == len(self.committed)
        verified = self.store.verify(apart=False)
        assert verified.ok, verified


def _member(ident: int, values: Values) -> Member:
    return Member(ident, *values[:-1], list(values[-1]))


def _values(member: Member) -> Values:
    return member.team, member.score, member.name, member.email, tuple(member.tags)


def _named(ident: int, values: Values) -> dict[str, Any]:
    """Values as a statement's parameters."""
    return {"id": ident, **dict(zip(FIELDS, values, strict=True)), "tags": json.dumps(values[-1])}


def _stored(row: Any) -> tuple[int, Values]:
    return row.id, (row.team, row.score, row.name, row.email, tuple(json.loads(row.tags)))


def _changed(before: Mapping[int, Values], after: Mapping[int, Values]) -> set[int]:
    return {ident for ident in {*before, *after} if before.get(ident) != after.get(ident)}


# ------------------------------------------------------------------------------------------ planted faults


def _on_write(engine: Engine, spoil: Callable[[WriteBatch], object]) -> Callable[[], None]:
    write = engine.backend.batch_write

    def spoiled(batch: WriteBatch) -> None:
        spoil(batch)
        write(batch)

    engine.backend.batch_write = spoiled  # type: ignore[method-assign]
    return lambda: setattr(engine.backend, "batch_write", write)


def _keep_savepoints(_engine: Engine) -> Callable[[], None]:
    undo = Transaction.rollback_to
    Transaction.rollback_to = lambda _self, _mark: None  # type: ignore[method-assign,assignment]
    return lambda: setattr(Transaction, "rollback_to", undo)


def _drop_tags(batch: WriteBatch) -> None:
    batch.changes.pop("member_by_tag", None)


def _drop_expectations(batch: WriteBatch) -> None:
    batch.expectations.clear()


FAULTS: dict[str, Callable[[Engine], Callable[[], None]]] = {
    "an index that is not kept": lambda engine: _on_write(engine, _drop_tags),
    "conflicts that nobody notices": lambda engine: _on_write(engine, _drop_expectations),
    "a savepoint that undoes nothing": _keep_savepoints,
}
