"""CHECK constraints of records: enforced on every way that a row is written, and kept with the table."""

from __future__ import annotations

import enum

import pytest
import sqlalchemy as sa
from sqlalchemy import CheckConstraint, column

from kvdialect import Mapped, Session, create_engine, exc, field, mapped, registry


class State(enum.Enum):
    OPEN = "o"
    CLOSED = "c"


def _accounts(*checks):
    """A class on the table ``accounts`` with these CHECKs, its registry in ``models``."""
    models = registry()

    @mapped(models)
    class Account:
        __tablename__ = "accounts"
        __table_args__ = checks
        id: Mapped[int] = field(primary_key=True)
        owner: Mapped[str]
        balance: Mapped[int] = 0
        limit: Mapped[int | None] = None
        state: Mapped[State] = State.OPEN

    Account.models = models
    return Account


def _positive():
    return CheckConstraint("balance >= 0 OR balance >= -limit", name="covered")


def _refused(engine, words, write):
    """The error of a transaction that writes what a constraint does not allow."""

    def commit(session):
        write(session)
        session.commit()

    with Session(engine) as session, pytest.raises(exc.IntegrityError, match=words) as caught:
        commit(session)
    return caught.value


@pytest.fixture
def cls():
    return _accounts(
        _positive(), CheckConstraint(column("owner") != ""), CheckConstraint("state = 'OPEN' OR balance = 0", "settled")
    )


@pytest.fixture
def engine(url, cls):
    with create_engine(url) as opened:
        cls.models.create_all(opened)
        with Session(opened) as session, session.begin():
            session.add_all([cls(1, "ann", 5), cls(2, "bob", -5, 10), cls(3, "cy", -5)])
        yield opened


def _add(session, cls):
    session.add(cls(9, "dee", -11, 10))


def _change(session, cls):
    session.get_one(cls, 2).balance = -11


def _key(session, cls):
    """Another primary key: the row goes, and another comes."""
    account = session.get_one(cls, 2)
    account.id, account.balance = 9, -11


def _update(session, cls):
    session.execute(sa.update(cls).where(cls.id == 2).values(balance=cls.balance * 3))


def _insert(session, cls):
    session.execute(sa.insert(cls), [{"id": 8, "owner": "x"}, {"id": 9, "owner": "x", "balance": -11, "limit": 10}])


def _merge(session, cls):
    session.merge(cls(2, "bob", -11, 10))


def _load(session, cls):
    session.engine.bulk_load(cls, [cls(9, "dee", -11, 10)])


@pytest.mark.parametrize("write", [_add, _change, _key, _update, _insert, _merge, _load])
def test_a_row_of_which_it_is_false_is_refused(engine, cls, write):
    """Whatever writes it; the error names the constraint, the record, and the values seen."""
    words = r"CHECK constraint failed: covered: accounts\(id=[29]\) is to have balance >= 0 OR balance >= -limit, and"
    words += r" balance is -1[15], limit is 10"
    error = _refused(engine, words, lambda session: write(session, cls))

    assert error.facts["constraint"] == "covered"
    with Session(engine) as session:
        found = [(each.id, each.balance) for each in session.scalars(sa.select(cls).order_by(cls.id))]
    assert found == [(1, 5), (2, -5), (3, -5)]
    assert engine.verify(apart=False).ok


def test_null_holds(engine, cls):
    """As in SQL: what is not false is accepted, such as a comparison with NULL."""
    with Session(engine) as session, session.begin():
        session.get_one(cls, 3).balance = -1_000


def test_an_enum_and_an_expression_of_sqlalchemys(engine, cls):
    """State is compared as SQL shows it, by name; a column that is not yet one of a table is the table's."""
    with Session(engine) as session:
        session.get_one(cls, 1).state = State.CLOSED
        with pytest.raises(exc.IntegrityError, match="failed: settled"):
            session.flush()
        session.rollback()
        session.get_one(cls, 1).owner = ""
        with pytest.raises(exc.IntegrityError, match="owner != ''"):
            session.flush()
        session.rollback()
        account = session.get_one(cls, 1)
        account.state, account.balance = State.CLOSED, 0
        session.commit()


def test_it_is_enforced_for_a_program_that_does_not_know_it(engine):
    """The store keeps the constraint, whatever another program's class says."""
    other = _accounts()
    assert [each.blocking for each in other.models.differences(engine)] == [False] * 3
    _refused(engine, "covered", lambda session: session.add(other(9, "dee", -11, 10)))


def test_create_all_again_finds_no_difference(engine, cls):
    """Constraints have no order, nor does SQLAlchemy keep one; the stored ones are found by name and condition."""
    cls.models.create_all(engine)
    again = _accounts(
        CheckConstraint("state='OPEN' or (balance=0)", name="settled"), _positive(), CheckConstraint("owner <> ''")
    )
    assert again.models.differences(engine) == []


def test_an_upgrade_adds_and_drops_them(url):
    """A new one is not accepted silently: until an upgrade the model does not fit the store."""
    without, with_one = _accounts(), _accounts(_positive())
    with create_engine(url) as engine:
        without.models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(without(1, "ann", -5))
        with pytest.raises(exc.SchemaMismatch, match=r"CHECK covered: not in the store \(call models\.upgrade"):
            with_one.models.create_all(engine)
        with pytest.raises(exc.SchemaMismatch), Session(engine) as session:
            session.get(with_one, 1)

        told = []
        with_one.models.upgrade(engine, progress=lambda done, total: told.append((done, total)))
        assert told == [(1, 1)]
        assert with_one.models.differences(engine) == []
        _refused(engine, "covered", lambda session: session.add(with_one(2, "bob", -5, 1)))

        without.models.upgrade(engine)
        assert with_one.models.differences(engine) != []
        with Session(engine) as session, session.begin():
            session.add(without(2, "bob", -5, 1))


def test_an_upgrade_that_a_row_forbids_adds_nothing(url):
    """The row is named, and the store is as before; once it is changed, the upgrade succeeds."""
    without, with_one = _accounts(), _accounts(_positive())
    with create_engine(url) as engine:
        without.models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all([without(1, "ann", 5), without(2, "bob", -5, 1)])

        words = r"covered: accounts\(id=2\) .*\(the constraint was not added: change the record, and upgrade again\)"
        with pytest.raises(exc.IntegrityError, match=words):
            with_one.models.upgrade(engine)
        assert without.models.differences(engine) == []
        with Session(engine) as session, session.begin():
            session.get_one(without, 2).balance = -1

        with_one.models.upgrade(engine)
        assert with_one.models.differences(engine) == []


def test_an_upgrade_that_fails_leaves_what_it_was_to_replace(url):
    """Neither of two constraints was left, and the program of before no longer fitted."""
    loose, strict = (
        _accounts(CheckConstraint("balance < 10", "small")),
        _accounts(CheckConstraint("balance < 5", "small")),
    )
    with create_engine(url) as engine:
        loose.models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(loose(1, "ann", 7))
        with pytest.raises(exc.IntegrityError, match="not added"):
            strict.models.upgrade(engine)
        assert loose.models.differences(engine) == []
        _refused(engine, "small", lambda session: session.add(loose(2, "bob", 1000)))
        with Session(engine) as session, session.begin():
            session.get_one(loose, 1).balance = 4
        strict.models.upgrade(engine)
        assert strict.models.differences(engine) == []
        _refused(engine, "balance < 5", lambda session: session.add(strict(2, "bob", 7)))


def test_an_upgrade_beside_another_looks_at_what_is_its_own(url):
    """A constraint of the other was taken for one that all rows had been looked at for."""
    none = _accounts()
    first = _accounts(CheckConstraint("balance >= 0", "c1"))
    both = _accounts(CheckConstraint("balance >= 0", "c1"), CheckConstraint("balance < 5", "c2"))
    with create_engine(url) as engine:
        none.models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all([none(n, "ann", n) for n in range(10)])

        def other(*_):
            if not begun:
                begun.append(1)
                engine._editor.evolve(both.models.definitions)  # the first step of another process's upgrade

        begun = []
        first.models.upgrade(engine, progress=other)
        with pytest.raises(exc.IntegrityError, match="c2"):
            both.models.upgrade(engine)
        assert engine.verify(apart=False).ok
        assert first.models.differences(engine) == []


def test_an_escaped_colon_is_one():
    """SQLAlchemy's way to write one that begins no parameter."""
    account = _accounts(CheckConstraint(r"owner <> 'a \:b'", "colon"))
    with create_engine("memory://") as engine:
        account.models.create_all(engine)
        _refused(engine, "colon", lambda session: session.add(account(1, "a :b")))


def test_an_upgrade_that_is_cut_off_is_taken_up(url):
    """Enforced, but not looked at: that is said, and the next upgrade looks."""
    without, with_one = _accounts(), _accounts(_positive())
    with create_engine(url) as engine:
        without.models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(without(1, "ann", -5, 1))

        def cut(*_):
            raise KeyboardInterrupt

        with Session(engine) as session, session.begin():
            session.get_one(without, 1).balance = -1
        with pytest.raises(KeyboardInterrupt):
            with_one.models.upgrade(engine, progress=cut)
        [difference] = with_one.models.differences(engine)
        assert (difference.blocking, difference.what) == (
            False,
            "rows that were there before it were not all looked at",
        )
        _refused(engine, "covered", lambda session: session.add(with_one(2, "bob", -5, 1)))

        with_one.models.upgrade(engine)
        assert with_one.models.differences(engine) == []


@pytest.mark.parametrize("reads", [False, True])
def test_a_transaction_under_way_does_not_write_past_it(url, reads):
    """Its rows were flushed before there was the constraint: the commit looks at them again."""
    without, with_one = _accounts(), _accounts(_positive())
    with create_engine(url) as engine:
        without.models.create_all(engine)
        with Session(engine) as session:
            if reads:
                session.get(without, 1)
            session.add_all([without(1, "ann", 5), without(2, "bob", -5, 1)])
            session.flush()
            with_one.models.upgrade(engine)
            with pytest.raises((exc.IntegrityError, exc.ConflictError)):
                session.commit()
        with Session(engine) as session:
            assert session.scalars(sa.select(with_one)).all() == []


def test_a_renamed_column_takes_it_along(engine):
    """The condition is over fields, whatever they are called."""
    models = registry()

    @mapped(models)
    class Account:
        __tablename__ = "accounts"
        __table_args__ = (
            CheckConstraint("money >= 0 OR money >= -limit", name="covered"),
            CheckConstraint("owner <> ''"),
            CheckConstraint("state = 'OPEN' OR money = 0", name="settled"),
        )
        id: Mapped[int] = field(primary_key=True)
        owner: Mapped[str]
        money: Mapped[int] = field(default=0, previously="balance")
        limit: Mapped[int | None] = None
        state: Mapped[State] = State.OPEN

    assert {each.subject for each in models.differences(engine)} == {"column money"}
    models.upgrade(engine)
    _refused(engine, "money is -11", lambda session: session.add(Account(9, "dee", -11, 10)))


def test_verify_finds_a_row_of_which_it_is_false(engine, cls):
    """Written past the library, which the bytes themselves do not show."""
    table = engine.bind(cls.models.definitions[0])
    key, raw, _ = table.codec.encode((9, "dee", -11, 10, State.OPEN))
    engine.backend.put("accounts", key, raw)

    found = engine.verify(apart=False)

    assert [each.kind for each in found.findings if each.kind != "wrong count"] == ["failed check"]
    assert "covered" in str(found)
