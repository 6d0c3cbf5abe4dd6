"""A random walk of a Session beside a model made of dicts: every read must agree, and the bytes at each commit."""

from __future__ import annotations

import copy
import random

import pytest
from consistency import check_consistency
from orm_records import User, models
from sqlalchemy import func, select

from kvdialect import Session, create_engine, exc

NAMES = ("ann", "bob", "cid")
EMAILS = (None, "a@x", "b@x", "c@x")
TAGS = ("red", "green", "blue")


class Walk:
    """One session, its objects, and what the store must look like: a stack of dicts, one for each savepoint."""

    def __init__(self, engine, seed, level):
        self.random = random.Random(seed)
        self.engine = engine
        self.session = Session(engine, isolation_level=level)
        self.committed = {}
        self.stack = [{}]
        self.nested = []
        self.held = []
        self.next_id = 1

    @property
    def now(self):
        return self.stack[-1]

    def values(self):
        choice = self.random.choice
        tags = sorted({choice(TAGS) for _ in range(self.random.randrange(3))})
        return {"name": choice(NAMES), "email": choice(EMAILS), "tags": tags, "team": choice((None, "t", "u"))}

    def _taken(self, email, ident):
        return email is not None and any(v["email"] == email and i != ident for i, v in self.now.items())

    def add(self):
        values = self.values()
        if self._taken(values["email"], None):
            values["email"] = None
        user = User(id=self.next_id, **copy.deepcopy(values))
        self.session.add(user)
        self.now[self.next_id] = values
        self.held.append(user)
        self.next_id += 1

    def add_duplicate(self):
        if not self.now:
            return
        ident = self.random.choice(list(self.now))
        with pytest.raises(exc.IntegrityError), self.session.begin_nested():
            self.session.add(User(id=ident, name="twin"))

    def change(self):
        if not self.now:
            return
        ident = self.random.choice(list(self.now))
        user = self.session.get(User, ident)
        values = self.now[ident]
        field = self.random.choice(("name", "email", "tags", "team"))
        value = self.values()[field]
        if field == "email" and self._taken(value, ident):
            return
        if field == "tags" and self.random.random() < 0.5:
            user.tags[:] = value
        else:
            setattr(user, field, copy.deepcopy(value))
        self.stack[-1] = {**self.now, ident: {**values, field: value}}

    def delete(self):
        if not self.now:
            return
        ident = self.random.choice(list(self.now))
        self.session.delete(self.session.get(User, ident))
        self.stack[-1] = {i: v for i, v in self.now.items() if i != ident}

    def begin_nested(self):
        if len(self.nested) < 3:
            self.nested.append(self.session.begin_nested())
            self.stack.append(copy.deepcopy(self.now))

    def end_nested(self):
        if not self.nested:
            return
        nested = self.nested.pop()
        top = self.stack.pop()
        if self.random.random() < 0.5:
            nested.commit()
            self.stack[-1] = top
        else:
            nested.rollback()

    def commit(self):
        self.session.commit()
        self.nested.clear()
        self.committed = copy.deepcopy(self.now)
        self.stack = [copy.deepcopy(self.committed)]
        check_consistency(self.engine)

    def rollback(self):
        self.session.rollback()
        self.nested.clear()
        self.stack = [copy.deepcopy(self.committed)]

    def flush(self):
        self.session.flush()

    def forget(self):
        self.held.clear()

    def check(self):
        session, now = self.session, self.now
        seen = {user.id: user for user in session.scan(User)}
        assert {i: self.shown(u) for i, u in seen.items()} == now
        assert session.scalar(select(func.count()).select_from(User)) == len(now)
        for tag in TAGS:
            assert {u.id for u in session.lookup("users_by_tag", tag)} == {
                i for i, v in now.items() if tag in v["tags"]
            }
        email = self.random.choice(EMAILS)
        found = session.scalars(select(User).where(User.email == email).order_by(User.id)).all()
        assert [u.id for u in found] == sorted(i for i, v in now.items() if v["email"] == email)
        assert all(seen[u.id] is u for u in found)

    @staticmethod
    def shown(user):
        return {"name": user.name, "email": user.email, "tags": user.tags, "team": user.team}

    def step(self):
        actions = (
            [self.add] * 4 + [self.change] * 5 + [self.delete] * 2 + [self.check] * 3
            + [self.begin_nested, self.end_nested, self.commit, self.rollback, self.flush, self.forget]
            + [self.add_duplicate]
        )  # fmt: skip
        self.random.choice(actions)()


@pytest.mark.parametrize("level", ["SNAPSHOT", "SERIALIZABLE"])
def test_a_session_agrees_with_its_model(engine_name, tmp_path, level):
    """Two thousand steps on the memory engine, fewer where a commit waits for the disk."""
    url = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store?durability=none"
    walks, steps = (10, 200) if engine_name == "memory" else (2, 150)
    for seed in range(walks):
        with create_engine(url) as engine:
            models.drop_all(engine)
            models.create_all(engine)
            walk = Walk(engine, seed, level)
            for _ in range(steps):
                walk.step()
            walk.rollback()
            walk.check()
            walk.session.close()
            check_consistency(engine)
