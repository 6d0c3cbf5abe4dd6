"""The transaction's view: a snapshot with pending writes over it, savepoints, and what its commit expects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdialect import exc, open_backend
from kvdialect.storage.batch import DELETE, WriteBatch
from kvdialect.store.engine import open_engine
from kvdialect.store.transaction import Transaction

keys = st.binary(min_size=1, max_size=2).map(lambda raw: bytes(b % 4 for b in raw))
changes = st.dictionaries(keys, st.none() | st.binary(max_size=2), max_size=12)
bounds = st.tuples(st.just(b"") | keys, st.none() | keys)


def write(txn, given_changes):
    pending = txn.pending("f")
    for key, value in given_changes.items():
        if txn.undo is not None:
            txn.remember(pending, key)
        pending[key] = DELETE if value is None else value


def apply(state, given_changes):
    merged = {**state, **given_changes}
    return {key: value for key, value in merged.items() if value is not None}


def expected(state, start, stop, reverse):
    inside = [(k, v) for k, v in state.items() if k >= start and (stop is None or k < stop)]
    return sorted(inside, reverse=reverse)


@pytest.fixture(scope="module")
def engine():
    with open_engine("memory://") as opened:
        opened.backend.create_column_family("f")
        yield opened


def fill(engine, stored):
    batch = WriteBatch()
    for key, _ in list(engine.backend.scan("f")):
        batch.delete("f", key)
    for key, value in stored.items():
        if value is not None:
            batch.put("f", key, value)
    engine.backend.batch_write(batch)
    return {key: value for key, value in stored.items() if value is not None}


@given(stored=changes, first=changes, second=changes, third=changes, bound=bounds, reverse=st.booleans())
def test_reads_see_pending_writes_over_the_snapshot(engine, stored, first, second, third, bound, reverse):
    """Get, multi_get and scan of any range agree with a dict, after several writes and a rollback between."""
    state = fill(engine, stored)
    txn = Transaction(engine)
    try:
        write(txn, first)
        one = apply(state, first)
        assert list(txn.scan("f", *bound, reverse=reverse)) == expected(one, *bound, reverse)
        savepoint = txn.savepoint()
        write(txn, second)
        two = apply(one, second)
        assert list(txn.scan("f", *bound, reverse=reverse)) == expected(two, *bound, reverse)
        asked = sorted({*stored, *first, *second})
        assert txn.multi_get("f", asked) == [two.get(key) for key in asked]
        assert [txn.get("f", key) for key in asked] == [two.get(key) for key in asked]
        txn.rollback_to(savepoint)
        assert list(txn.scan("f", reverse=reverse)) == expected(one, b"", None, reverse)
        write(txn, third)
        assert list(txn.scan("f", reverse=reverse)) == expected(apply(one, third), b"", None, reverse)
    finally:
        txn.close()


@given(stored=changes, pending=changes, during=changes, reverse=st.booleans())
def test_writes_during_a_scan_do_no_harm(engine, stored, pending, during, reverse):
    """What the scan gives stays ordered and free of repetition, and keys that nobody touched are all there."""
    state = fill(engine, stored)
    txn = Transaction(engine)
    try:
        write(txn, {b"\x09": b"", **pending})
        before = apply(state, {b"\x09": b"", **pending})
        seen = []
        for at, (key, _) in enumerate(txn.scan("f", reverse=reverse)):
            seen.append(key)
            if at == 1:
                write(txn, during)
    finally:
        txn.close()

    assert seen == sorted(set(seen), reverse=reverse)
    assert set(before) - set(during) <= set(seen)


def test_a_transaction_that_is_over_refuses(engine):
    """Reading after close is an error and not an empty store."""
    txn = Transaction(engine)
    txn.close()

    with pytest.raises(exc.StoreClosed):
        txn.get("f", b"k")


def test_an_unknown_isolation_level_is_refused(engine):
    """The message names those that there are."""
    with pytest.raises(exc.ArgumentError, match="SNAPSHOT, SERIALIZABLE"):
        Transaction(engine, "READ COMMITTED")


def test_update_of_a_batch_takes_many_changes():
    """WriteBatch.update is put and delete of many keys, with the same checks."""
    with open_backend("memory://", column_families=["a"]) as backend:
        backend.put("a", b"k", b"1")
        backend.batch_write(WriteBatch().update("a", {b"k": DELETE, b"l": b"2"}))
        assert list(backend.scan("a")) == [(b"l", b"2")]
        with pytest.raises(TypeError, match="bytes"):
            backend.batch_write(WriteBatch().update("a", {b"k": 3}))
        with pytest.raises(exc.BatchTooLarge):
            WriteBatch(max_bytes=3).update("a", {b"k": b"123"})
