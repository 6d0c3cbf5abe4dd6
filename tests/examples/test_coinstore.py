"""The coin store of the examples: its twelve families byte for byte, on every engine, whatever the chain does."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from coin_model import FAMILIES, CoinModel, Pairs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvdialect import Session, create_engine, exc
from kvdialect.storage import WriteBatch

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from coinstore.blocks import Addition, Block, Coin
from coinstore.chain import Chain, merkle_tree, read_chain
from coinstore.models import CoinRecord, StateSnapshot, models
from coinstore.store import (
    CoinExists,
    CoinRefused,
    CoinSpent,
    CoinStore,
    CoinUnknown,
    Counters,
    HeightRefused,
)

EXAMPLES = Path(__file__).parents[2] / "examples"

HEIGHTS = (0, 1, 255, 256, 65535, 2**32 - 1, 2**64 - 1)

# contract: family, bytes of a key, bloom, compaction, MiB of a write buffer, how many, LMDB's database, tag
LAYOUT = """
coin_records             32 full   level 64 3 coins          1
coin_by_puzzle_hash      64 prefix level 32 2 coins_by_ph    1
unspent_by_puzzle_hash   64 prefix level 32 2 coins_by_ph    2
coin_by_parent           64 full   level 16 2 coins          2
coin_by_confirmed_height 40 none   level 16 2 coins          3
coin_by_spent_height     40 none   level 16 2 coins          4
hints                    64 full   level 16 2 hints          -
hints_by_value           64 prefix level 16 2 hints_by_value -
merkle_nodes             33 full   level 64 3 coins          6
archive_coin_records     32 full   fifo  16 2 coins          5
state_snapshots           8 none   fifo   8 2 snapshots      -
metadata                  - full   level  4 2 metadata       -
"""
ROWS = {line.split()[0]: line.split()[1:] for line in LAYOUT.strip().splitlines()}


@pytest.fixture
def engine(url):
    """An open engine."""
    with create_engine(url) as opened:
        yield opened


@pytest.fixture
def store(engine):
    """An empty coin store."""
    return CoinStore(engine)


@pytest.fixture
def batches(store, monkeypatch):
    """The batches that reach the store's backend from now on."""
    written: list[WriteBatch] = []
    backend = store.engine.backend
    write = backend.batch_write

    def batch_write(batch: WriteBatch) -> None:
        written.append(batch)
        write(batch)

    monkeypatch.setattr(backend, "batch_write", batch_write)
    return written


def families(store: CoinStore) -> dict[str, Pairs]:
    """What the twelve families hold."""
    with store.engine.backend.snapshot() as snapshot:
        return {name: dict(snapshot.scan(name)) for name in FAMILIES}


def digest(number: int) -> bytes:
    """32 bytes that look like an id."""
    return number.to_bytes(2, "big") * 16


def coin(number: int, *, parent: int = 0, owner: int = 0, amount: int = 100) -> Coin:
    """A coin; its number makes it another one than the others."""
    return Coin(digest(0x1000 + parent) if parent else digest(number), digest(0x2000 + owner), amount)


def block(height: int, *coins: Coin, spends: tuple[Coin, ...] = ()) -> Block:
    """A block of plain coins."""
    return Block(height, 1000 + height % 1000, tuple(map(Addition, coins)), tuple(each.coin_id for each in spends))


# ------------------------------------------------------------------------------------------------ bytes


# The first coin of the real chain, and others after it.
PARENT = "ccd5bb71183532bff220ba46c268991a00000000000000000000000000000000"
PUZZLE = "d23da14695a188ae5708dd152263c4db883eb27edeb936178d4d988b8f3ce5fc"
FIRST_ID = "1fd60c070e821d785b65e10e5135e52d12c8f4d902a506f48bc1c5268b7bb45b"
CHILD_ID = "4bb9e307e7cdb03b0ed422ca813a5adb6213f260a6752a4d7043ab2076b022fc"
OTHER_PUZZLE = "5a" * 32
HINT = "c3" * 32
NODE = "e7" * 32


@pytest.fixture
def golden(store):
    """A store with something in each of the twelve families."""
    first = Coin(bytes.fromhex(PARENT), bytes.fromhex(PUZZLE), 18375000000000000000)
    assert first.coin_id.hex() == FIRST_ID
    child = Coin(first.coin_id, bytes.fromhex(OTHER_PUZZLE), 255)
    assert child.coin_id.hex() == CHILD_ID
    store.apply_block(Block(1, 1616162525, (Addition(first, coinbase=True),)))
    store.apply_block(Block(2, 1616162544, (Addition(child, hints=(bytes.fromhex(HINT),)),), (first.coin_id,)))
    store.put_nodes({(0, bytes(32)): bytes.fromhex(NODE), (255, digest(0xFFFE)): bytes(32)})
    store.save_state()
    return store


FIRST_SPENT = (
    PARENT + PUZZLE + "ff011d2523cd8000"  # amount
    "0000000000000001"  # confirmed
    "010000000000000002"  # spent: a tag and the height
    "01"  # coinbase
    "000000006054aedd"  # time
)
CHILD = FIRST_ID + OTHER_PUZZLE + "00000000000000ff00000000000000020000000000006054aef0"


def test_golden_bytes_of_every_family(golden):
    """Keys and values are those of the contract, to the byte; stores that exist depend on it."""
    assert {name: {k.hex(): v.hex() for k, v in pairs.items()} for name, pairs in families(golden).items()} == {
        "coin_records": {FIRST_ID: FIRST_SPENT, CHILD_ID: CHILD},
        "coin_by_puzzle_hash": {PUZZLE + FIRST_ID: "", OTHER_PUZZLE + CHILD_ID: ""},
        "unspent_by_puzzle_hash": {OTHER_PUZZLE + CHILD_ID: ""},
        "coin_by_parent": {PARENT + FIRST_ID: "", FIRST_ID + CHILD_ID: ""},
        "coin_by_confirmed_height": {"0000000000000001" + FIRST_ID: "", "0000000000000002" + CHILD_ID: ""},
        "coin_by_spent_height": {"0000000000000002" + FIRST_ID: ""},
        "hints": {CHILD_ID + HINT: ""},
        "hints_by_value": {HINT + CHILD_ID: ""},
        "merkle_nodes": {"00" + "00" * 32: NODE, "ff" + "fffe" * 16: "00" * 32},
        "archive_coin_records": {},
        "state_snapshots": {
            "0000000000000002": "0000000000000002"  # coins
            + (FIRST_ID + FIRST_SPENT + CHILD_ID + CHILD)
            + "0000000000000001"  # hints
            + (CHILD_ID + HINT)
            + "0000000000000002"  # coins in all
            + "000000000000000000000000000000ff"  # what those hold that are not spent
        },
        "metadata": {
            b"first_height".hex(): "00000000000000080000000000000001",
            b"peak_height".hex(): "00000000000000080000000000000002",
            b"coins".hex(): "00000000000000080000000000000002",
            b"unspent".hex(): "00000000000000080000000000000001",
            b"unspent_amount".hex(): "0000000000000010000000000000000000000000000000ff",
            b"hints".hex(): "00000000000000080000000000000001",
            b"archived".hex(): "00000000000000080000000000000000",
        },
    }


def test_golden_bytes_of_the_archive(golden):
    """An archived coin has the bytes that its record had, and nothing of it is left elsewhere."""
    assert golden.archive_spent(2) == 1

    found = families(golden)
    assert {k.hex(): v.hex() for k, v in found["archive_coin_records"].items()} == {FIRST_ID: FIRST_SPENT}
    assert found["metadata"][b"archived_height"].hex() == "00000000000000080000000000000002"
    elsewhere = {
        name: pairs for name, pairs in found.items() if name not in ("archive_coin_records", "state_snapshots")
    }
    assert not [key for pairs in elsewhere.values() for key in pairs if key.endswith(bytes.fromhex(FIRST_ID))]


def test_the_golden_store_reads_as_what_was_written(golden):
    """The same bytes, read back as objects."""
    first, child = golden.coins([bytes.fromhex(FIRST_ID), bytes.fromhex(CHILD_ID)])

    assert (first.coin, first.spent_height, first.coinbase) == (
        Coin(bytes.fromhex(PARENT), bytes.fromhex(PUZZLE), 18375000000000000000), 2, True,
    )  # fmt: skip
    assert (child.coin, child.confirmed_height, child.spent_height) == (
        Coin(first.coin_id, bytes.fromhex(OTHER_PUZZLE), 255), 2, None,
    )  # fmt: skip
    state = golden.latest_state()
    assert [(saved.coin_id, saved.coin, saved.spent_height) for saved in state.coins] == [
        (each.coin_id, each.coin, each.spent_height) for each in (first, child)
    ]
    assert [(saved.coin_id, saved.hint) for saved in state.hints] == [(child.coin_id, bytes.fromhex(HINT))]
    assert (state.height, state.total_coins, state.total_amount) == (2, 2, 255)
    assert (golden.node(0, bytes(32)), golden.nodes(255)) == (bytes.fromhex(NODE), {digest(0xFFFE): bytes(32)})


def test_heights_sort_as_numbers(store):
    """In the three families whose keys begin with a height, in both directions, and in questions about ranges."""
    with Session(store.engine) as session, session.begin():
        for number, height in enumerate(reversed(HEIGHTS)):
            session.add(CoinRecord(digest(number), digest(8), digest(9), 1, height, height, False, 0))
            session.add(StateSnapshot(height, (), (), 0, 0))

    expected = [struct.pack(">Q", height) for height in HEIGHTS]
    for name in ("coin_by_confirmed_height", "coin_by_spent_height", "state_snapshots"):
        assert [key[:8] for key, _ in store.engine.backend.scan(name)] == expected
        assert [key[:8] for key, _ in store.engine.backend.scan(name, reverse=True)] == expected[::-1]
    for ask, attribute in ((store.coins_confirmed, "confirmed_height"), (store.coins_spent, "spent_height")):
        for first in HEIGHTS:
            for last in HEIGHTS:
                found = [getattr(each, attribute) for each in ask(first, last)]
                assert found == [height for height in HEIGHTS if first <= height <= last]
    assert store.latest_state().height == 2**64 - 1


def test_the_chain_may_have_any_height(engine):
    """A store may begin at any height; the last one is 2**64-1, which no block follows."""
    for height in HEIGHTS:
        store = CoinStore(engine)
        store.apply_block(block(height, coin(1)))
        assert [each.confirmed_height for each in store.coins_confirmed(height, height)] == [height]
        if height == HEIGHTS[-1]:
            with pytest.raises(HeightRefused):
                store.apply_block(block(height + 1))
        else:
            store.apply_block(block(height + 1, spends=(coin(1),)))
            assert store.rollback_to(height).unspent == 1
        store.rollback_to(None)

        assert all(not pairs for pairs in families(store).values())


# ------------------------------------------------------------------------------------------------ families on disk


def test_a_fresh_store_has_the_twelve_families(store):
    """No more and no fewer, and each of the options of the contract."""
    assert store.engine.backend.column_families() == sorted(ROWS)
    declared = {}
    for table in models.definitions:
        declared[table.name] = table.options
        declared.update((index.name, index.options) for index in table.indexes)
    assert {
        name: [o.bloom, o.compaction, str(o.write_buffer_size >> 20), str(o.max_write_buffer_number), o.lmdb_database,
               "-" if o.lmdb_tag is None else str(o.lmdb_tag)]
        for name, o in declared.items()
    } == {name: row[1:] for name, row in ROWS.items()}  # fmt: skip


def test_keys_have_the_lengths_of_the_contract(store):
    """In each family, whatever is stored."""
    chain = Chain(3)
    for each in chain.grow(30):
        store.apply_block(each)
    store.put_nodes(merkle_tree(chain.unspent, 4))
    store.save_state()
    store.archive_spent(10)

    for name, pairs in families(store).items():
        assert pairs
        if ROWS[name][0] != "-":
            assert {len(key) for key in pairs} == {int(ROWS[name][0])}


@pytest.mark.engine("rocksdb")
def test_rocksdb_has_these_families_alone_with_their_options(tmp_path):
    """RocksDB's own file says so: each family of the store, ``default``, and the library's."""
    path = tmp_path / "store"
    with create_engine(f"rocksdb:///{path}") as engine:
        CoinStore(engine)
        newest = max(path.glob("OPTIONS-*"), key=lambda file: int(file.name.removeprefix("OPTIONS-"))).read_text()

    sections = dict(re.findall(r'\[CFOptions "(.*?)"\](.*?)\n\[', newest + "\n[", re.DOTALL))
    assert set(sections) == {*ROWS, "default", "kvdialect"}
    for name, (_, bloom, compaction, size, count, _, _) in ROWS.items():
        found = dict(line.strip().split("=", 1) for line in sections[name].splitlines() if "=" in line)
        assert int(found["write_buffer_size"]) == int(size) << 20
        assert found["max_write_buffer_number"] == count
        assert found["compaction_style"] == f"kCompactionStyle{compaction.upper() if compaction == 'fifo' else 'Level'}"
        assert ("32" in found["prefix_extractor"]) == (bloom == "prefix")


@pytest.mark.engine("lmdb")
def test_lmdb_has_these_databases_alone_with_their_tags(tmp_path):
    """Six databases and the library's; families that share one are told apart by a byte before their keys."""
    lmdb = pytest.importorskip("lmdb", reason='needs pip install "kvdialect[lmdb]"')
    path = tmp_path / "store"
    with create_engine(f"lmdb:///{path}") as engine:
        store = CoinStore(engine)
        chain = Chain(3)
        for each in chain.grow(30):
            store.apply_block(each)
        store.put_nodes({(0, bytes(32)): bytes(32)})
        store.save_state()
        store.archive_spent(10)
        found = families(store)

    expected: dict[str, list[bytes]] = {}
    for name, (*_, database, tag) in ROWS.items():
        before = b"" if tag == "-" else bytes((int(tag),))
        expected.setdefault(database, []).extend(before + key for key in found[name])
    with lmdb.open(str(path), max_dbs=20, readonly=True) as env:
        with env.begin() as txn:
            assert {name.decode() for name, _ in txn.cursor()} == {*expected, "kvdialect"}
        for database, keys in expected.items():
            with env.begin(db=env.open_db(database.encode(), create=False)) as txn:
                assert [key for key, _ in txn.cursor()] == sorted(keys)


# ------------------------------------------------------------------------------------------------ against a model


def check(store: CoinStore, model: CoinModel) -> None:
    """Compare all bytes of the store with the model's, and the answers to all questions."""
    assert families(store) == model.families()
    assert attrs.asdict(store.counters()) == {**attrs.asdict(Counters()), **model.counters()}
    ids = [*model.coins, *model.archive, digest(0xDEAD)]
    with store.snapshot() as view:
        found = view.coins(ids)
        assert [None if each is None else each.coin_id for each in found] == [
            coin_id if coin_id in model.coins else None for coin_id in ids
        ]
        for coin_id in ids[:3] + ids[-3:]:
            held = model.coins.get(coin_id)
            single = view.coin(coin_id)
            assert (None if single is None else (single.spent_height, single.amount)) == (
                None if held is None else (held.spent, held.amount)
            )
            assert view.hints_of(coin_id) == sorted(hint for owner, hint in model.hints if owner == coin_id)
            assert (view.archived_coin(coin_id) is not None) == (coin_id in model.archive)
        owners = {each.puzzle_hash for each in model.coins.values()}
        for owner in [*sorted(owners)[:4], digest(0xDEAD)]:
            unspent = model.ids(puzzle_hash=owner, spent=None)
            assert ids_of(view.coins_by_puzzle_hash(owner)) == model.ids(puzzle_hash=owner)
            assert ids_of(view.coins_by_puzzle_hash(owner, include_spent=False)) == unspent
            assert view.unspent_amount(owner) == sum(model.coins[coin_id].amount for coin_id in unspent)
            assert ids_of(view.coins_by_hint(owner)) == sorted(
                coin_id for coin_id, hint in model.hints if hint == owner
            )
        for parent in sorted({each.parent for each in model.coins.values()})[:4]:
            assert ids_of(view.coins_by_parent(parent)) == model.ids(parent=parent)
        peak = model.peak or 0
        for first, last in ((0, 2**64 - 1), (peak // 2, peak), (peak, peak), (peak + 1, peak + 9), (5, 3)):
            assert ids_of(view.coins_confirmed(first, last)) == model.ids_between("confirmed", first, last)
            assert ids_of(view.coins_spent(first, last)) == model.ids_between("spent", first, last)
        latest = view.latest_state()
        assert (None if latest is None else latest.height) == max(model.states, default=None)


def ids_of(coins: list[CoinRecord]) -> list[bytes]:
    """Their ids."""
    return [each.coin_id for each in coins]


STEPS = st.one_of(
    st.tuples(st.just("grow"), st.integers(1, 4)),
    st.tuples(st.just("grow"), st.integers(1, 4)),
    st.tuples(st.just("cut"), st.integers(0, 6)),
    st.tuples(st.just("refuse"), st.integers(0, 5)),
    st.tuples(st.just("save"), st.just(0)),
    st.tuples(st.just("archive"), st.integers(3, 8)),
    st.tuples(st.just("nodes"), st.integers(0, 3)),
    st.tuples(st.just("empty"), st.just(0)),
)


def walk(store: CoinStore, seed: int, first_height: int, steps: list[tuple[str, int]]) -> None:
    """Take steps on a store and a model of it, and compare them after each."""
    model, chain = CoinModel(), Chain(seed, first_height=first_height, owners=4)
    for step, number in steps:
        match step:
            case "grow":
                for each in chain.grow(number):
                    store.apply_block(each)
                    model.apply(each)
            case "cut" if chain.blocks:
                height = max(chain.blocks[-1].height - number, chain.blocks[0].height, model.archived_height or 0)
                store.rollback_to(height)
                model.rollback(height)
                chain.cut(height)
            case "empty" if model.archived_height is None:
                store.rollback_to(None)
                model.rollback(None)
                chain.cut(-1)
            case "refuse" if chain.blocks:
                bad = wrong_blocks(chain)
                with pytest.raises((CoinRefused, HeightRefused)):
                    store.apply_block(bad[number % len(bad)])
            case "save" if chain.blocks:
                assert store.save_state() == model.peak
                model.save_state()
            case "archive" if chain.blocks and chain.blocks[-1].height >= number:
                through = chain.blocks[-1].height - number
                store.archive_spent(through)
                model.move_spent(through)
            case "nodes":
                nodes = merkle_tree(model.coins, number)
                store.put_nodes(nodes)
                model.nodes.update(nodes)
        check(store, model)


def wrong_blocks(chain: Chain) -> list[Block]:
    """The next block of a chain with something wrong in it, in all the ways there are."""
    last = chain.blocks[-1]
    (good,) = Chain(99, chain.blocks).grow()
    old = chain.blocks[0].additions[0]
    wrong = [
        attrs.evolve(good, height=last.height),
        attrs.evolve(good, height=last.height + 2),
        attrs.evolve(good, additions=(*good.additions, old)),
        attrs.evolve(good, additions=(*good.additions, good.additions[0])),
        attrs.evolve(good, spends=(*good.spends, digest(0xDEAD))),
        attrs.evolve(good, spends=(good.additions[0].coin.coin_id,) * 2),
    ]
    spent = next((coin_id for each in chain.blocks for coin_id in each.spends), None)
    return wrong if spent is None else [*wrong, attrs.evolve(good, spends=(*good.spends, spent))]


MOST_EXAMPLES = {"memory": 40, "lmdb": 6, "rocksdb": 3}


def test_the_store_does_what_a_dict_would(engine_name, tmp_path):
    """After any steps all twelve families, all counters and all answers are those of a plain model."""
    numbers = iter(range(10**6))

    @settings(
        max_examples=MOST_EXAMPLES[engine_name],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.integers(0, 2**16), st.sampled_from([0, 1, 250, 65530]), st.lists(STEPS, min_size=4, max_size=14))
    def run(seed: int, first_height: int, steps: list[tuple[str, int]]) -> None:
        path = f"/{tmp_path}/store{next(numbers)}"
        with create_engine(f"{engine_name}://{'' if engine_name == 'memory' else path}") as engine:
            walk(CoinStore(engine), seed, first_height, steps)

    run()


def test_a_long_chain_with_forks(store):
    """A few hundred blocks, with forks of up to ten of them: bytes, counters and answers stay those of the model."""
    steps: list[tuple[str, int]] = []
    for number in range(8):
        steps += [("grow", 15), ("cut", number % 11), ("grow", 3), ("save", 0), ("refuse", number)]

    walk(store, 7, 0, steps)


# ------------------------------------------------------------------------------------------------ changes


def test_a_block_is_one_batch(store, batches):
    """However many coins, spends and hints it has."""
    for number, each in enumerate(Chain(1).grow(20), 1):
        store.apply_block(each)

        assert len(batches) == number


def test_a_rollback_is_one_batch(store, batches):
    """However many blocks it undoes; one that undoes none is no batch at all."""
    for each in Chain(1).grow(20):
        store.apply_block(each)
    batches.clear()

    store.rollback_to(3)
    assert len(batches) == 1
    store.rollback_to(3)
    assert len(batches) == 1


def test_the_other_changes_are_one_batch_each(store, batches):
    """The archive, the nodes of a tree, a saved state."""
    for each in Chain(1).grow(20):
        store.apply_block(each)
    batches.clear()

    store.archive_spent(10)
    store.put_nodes(merkle_tree([digest(1), digest(2)]))
    store.save_state()

    assert len(batches) == 3


def test_rollback_and_reapply_give_the_same_bytes(store):
    """To every height of a chain, and to the empty store."""
    blocks = Chain(5).grow(12)
    history = [families(store)]
    for each in blocks:
        store.apply_block(each)
        history.append(families(store))

    for height in [*range(11, -1, -1), None]:
        store.rollback_to(height)
        kept = 0 if height is None else height + 1
        assert families(store) == history[kept]
        for each in blocks[kept:]:
            store.apply_block(each)
        assert families(store) == history[-1]


def test_a_fork_replaces_what_it_follows(store):
    """After a rollback another chain may follow; nothing of the first one is left."""
    chain = Chain(5)
    for each in chain.grow(20):
        store.apply_block(each)
    store.save_state()
    store.rollback_to(12)
    chain.cut(12)
    for each in chain.grow(8):
        store.apply_block(each)
    with create_engine("memory://") as engine:
        other = CoinStore(engine)
        for each in chain.blocks:
            other.apply_block(each)

        assert families(store) == families(other)


def test_a_coin_may_be_added_and_spent_by_one_block(store):
    """It is in the store as spent, and a rollback removes it."""
    short_lived = coin(1)
    store.apply_block(block(0, coin(2)))
    before = families(store)
    counters = store.apply_block(block(1, short_lived, spends=(short_lived,)))

    found = store.coin(short_lived.coin_id)
    assert (found.confirmed_height, found.spent_height) == (1, 1)
    assert (counters.coins, counters.unspent) == (2, 1)
    store.rollback_to(0)
    assert families(store) == before


def test_a_hint_given_twice_is_one(store):
    """Hints of a coin are a set."""
    hint = digest(7)
    store.apply_block(Block(0, 0, (Addition(coin(1), hints=(hint, digest(8), hint)),)))

    assert store.hints_of(coin(1).coin_id) == [hint, digest(8)]
    assert store.counters().hints == 2


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.fixture
def filled(store):
    """A store with three blocks: coins 1 to 4, of which 1 is spent and archived, and 2 is spent."""
    store.apply_block(block(10, coin(1), coin(2), coin(3)))
    store.apply_block(block(11, spends=(coin(1),)))
    store.archive_spent(11)
    store.apply_block(block(12, coin(4), spends=(coin(2),)))
    return store


@pytest.mark.parametrize(
    ("refused", "error", "message"),
    [
        (block(12, coin(9)), HeightRefused, "block 12 does not follow block 12, the last one"),
        (block(14, coin(9)), HeightRefused, "block 14 does not follow block 12"),
        (block(0, coin(9)), HeightRefused, "block 0 does not follow block 12"),
        (block(13, coin(9), coin(3)), CoinExists, f"refused: coin {coin(3).coin_id.hex()} was added by block 10"),
        (block(13, coin(9), coin(1)), CoinExists, "was added by block 10"),
        (block(13, coin(9), coin(9)), CoinExists, "is added twice by it"),
        (block(13, coin(9), spends=(coin(8),)), CoinUnknown, "is not there to be spent"),
        (block(13, coin(9), spends=(coin(3), coin(2))), CoinSpent, "was spent by block 12"),
        (block(13, coin(9), spends=(coin(1),)), CoinSpent, "was spent by block 11"),
        (block(13, coin(9), spends=(coin(3), coin(3))), CoinSpent, "is spent twice by it"),
        (block(13, coin(9), spends=(coin(9), coin(9))), CoinSpent, "is spent twice by it"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)  # fmt: skip
def test_a_wrong_block_changes_nothing(filled, batches, refused, error, message):
    """It is refused with what is wrong, and no byte of the store is another."""
    before = families(filled)

    with pytest.raises(error, match=re.escape(message)) as caught:
        filled.apply_block(refused)

    assert caught.value.height == refused.height
    assert families(filled) == before
    assert batches == []


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (Addition(Coin(b"short", digest(1), 1)), "parent_coin_info"),
        (Addition(Coin(digest(1), digest(1), 2**64)), "amount"),
        (Addition(coin(7), hints=(b"short",)), "hint"),
    ],
    ids=["parent", "amount", "hint"],
)
def test_a_value_without_a_place_changes_nothing(filled, wrong, field):
    """What a column does not take refuses the block, naming the field."""
    before = families(filled)

    with pytest.raises(exc.DataError, match=rf"\.{field} ") as caught:
        filled.apply_block(Block(13, 0, (Addition(coin(9)), wrong)))

    assert caught.value.field == field
    assert families(filled) == before


@pytest.mark.parametrize("height", [9, 13, 10, None], ids=str)
def test_a_rollback_that_cannot_be_changes_nothing(filled, height):
    """Neither to a height that the chain does not have, nor to one below the archive."""
    before = families(filled)

    with pytest.raises(HeightRefused):
        filled.rollback_to(height)

    assert families(filled) == before
    assert filled.rollback_to(11).peak_height == 11


def test_a_chain_is_not_rolled_back_to_before_its_first_block_by_height(store):
    """A store that began at height 10 has no block 9; all its blocks are undone by None."""
    store.apply_block(block(10, coin(1)))

    with pytest.raises(HeightRefused, match="the chain has blocks 10 to 10; None undoes all of them"):
        store.rollback_to(9)
    assert store.rollback_to(None) == Counters()


def test_the_end_of_the_archive_never_moves_back(store):
    """Archiving a lower height again moves nothing, and lets nothing be rolled back that is archived."""
    for height in range(6):
        store.apply_block(block(height, coin(height), spends=(coin(height),)))

    assert (store.archive_spent(4), store.archive_spent(2)) == (5, 0)
    assert store.counters().archived_height == 4
    with pytest.raises(HeightRefused, match="spends up to height 4 are in the archive"):
        store.rollback_to(3)


def test_an_empty_store_refuses_what_needs_a_chain(store):
    """Nothing to roll back to, to archive or to save; a rollback of everything is done already."""
    for refused in (lambda: store.rollback_to(0), lambda: store.archive_spent(0), store.save_state):
        with pytest.raises(HeightRefused):
            refused()
    with pytest.raises(HeightRefused, match=r"heights are 0 to 2\*\*64-1"):
        store.apply_block(block(-1))

    assert store.rollback_to(None) == Counters()
    assert store.counters() == Counters()


# ------------------------------------------------------------------------------------------------ several at once


def test_a_snapshot_does_not_see_the_next_block(store):
    """All questions to a snapshot are answered from its moment, across all families."""
    chain = Chain(2)
    for each in chain.grow(10):
        store.apply_block(each)
    model = CoinModel()
    for each in chain.blocks:
        model.apply(each)
    later = Block(10, 0, (Addition(coin(1, owner=1), hints=(digest(5),)),), tuple(chain.unspent)[:3])
    with store.snapshot() as view:
        store.apply_block(later)

        assert view.peak_height == 9
        assert view.coins_confirmed(10, 10) == view.coins_spent(10, 10) == view.coins_by_hint(digest(5)) == []
        assert [each.spent_height for each in view.coins(later.spends)] == [None] * 3
        assert view.counters().coins == len(model.coins)
        for owner in {each.puzzle_hash for each in model.coins.values()}:
            unspent = model.ids(puzzle_hash=owner, spent=None)
            assert ids_of(view.coins_by_puzzle_hash(owner, include_spent=False)) == unspent
    assert store.peak_height == 10
    assert len(store.coins_spent(10, 10)) == 3


def test_readers_see_whole_blocks_only(store):
    """While blocks come and go, counters and coins of a snapshot always agree."""
    chain = Chain(4, owners=3)
    store.apply_block(chain.grow()[0])
    done = threading.Event()
    failures: list[Any] = []
    seen = set()

    def read() -> None:
        try:
            while not done.is_set():
                with store.snapshot() as view:
                    counters = view.counters()
                    coins = view.coins_confirmed(0, 2**64 - 1)
                    unspent = [each for each in coins if each.spent_height is None]
                    counted = (len(coins), len(unspent), sum(each.amount for each in unspent))
                    if counted != (counters.coins, counters.unspent, counters.unspent_amount):
                        failures.append((counters, counted))
                    seen.add(counters.peak_height)
        except BaseException as error:
            failures.append(error)
            raise

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(3):
            for each in chain.grow(15):
                store.apply_block(each)
            store.rollback_to(chain.blocks[-6].height)
            chain.cut(chain.blocks[-6].height)
    finally:
        done.set()
        for reader in readers:
            reader.join()

    assert not failures
    assert seen


def test_of_two_writers_one_adds_the_block(store):
    """Two blocks of one height at once: one of them is applied, whole, and the other one is refused."""
    chain = Chain(4)
    for each in chain.grow(5):
        store.apply_block(each)
    spend = next(iter(chain.unspent))
    for height in range(5, 15):
        spends = () if height > 5 else (spend,)
        rivals = [
            Block(height, 0, (Addition(coin(2 * height + number), hints=(digest(number),)),), spends)
            for number in range(2)
        ]
        outcomes: list[Any] = []
        start = threading.Barrier(2)

        def run(rival: Block, outcomes: list[Any] = outcomes, start: threading.Barrier = start) -> None:
            start.wait()
            try:
                store.apply_block(rival)
                outcomes.append(rival)
            except HeightRefused as error:
                outcomes.append(error)

        writers = [threading.Thread(target=run, args=(rival,)) for rival in rivals]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()

        (applied,) = [each for each in outcomes if isinstance(each, Block)]
        assert [type(each) for each in outcomes if each is not applied] == [HeightRefused]
        assert ids_of(store.coins_confirmed(height, height)) == [applied.additions[0].coin.coin_id]
        chain.append(applied)
    model = CoinModel()
    for each in chain.blocks:
        model.apply(each)
    assert families(store) == model.families()


def before_the_next_batch(store: CoinStore, monkeypatch: pytest.MonkeyPatch, change: Callable[[], Any]) -> None:
    """Let another change come first: after the next one has read, and before it is written."""
    backend = store.engine.backend
    write = backend.batch_write

    def batch_write(batch: WriteBatch) -> None:
        monkeypatch.setattr(backend, "batch_write", write)
        change()
        write(batch)

    monkeypatch.setattr(backend, "batch_write", batch_write)


def test_a_change_is_run_again_when_another_one_came_first(store, monkeypatch):
    """A block that was worked out on a state that is gone is worked out anew, and counters and bytes are right."""
    chain, model = Chain(8), CoinModel()
    for each in chain.grow(20):
        store.apply_block(each)
        model.apply(each)
    before_the_next_batch(store, monkeypatch, lambda: store.archive_spent(15))
    (following,) = chain.grow()

    store.apply_block(following)

    model.move_spent(15)
    model.apply(following)
    assert families(store) == model.families()


def test_what_a_change_has_only_read_must_still_be_so(store, monkeypatch):
    """The archive writes nothing that a rollback writes here; all the same it must not end above the last block."""
    for height in range(6):
        store.apply_block(block(height))
    before_the_next_batch(store, monkeypatch, lambda: store.rollback_to(2))

    with pytest.raises(HeightRefused, match="cannot archive through height 4; the chain ends at 2"):
        store.archive_spent(4)

    assert store.counters() == Counters(first_height=0, peak_height=2)


def test_a_state_is_saved_of_the_last_block_alone(store, monkeypatch):
    """One that a rollback overtakes is taken anew, so that no state of a block that is gone is left."""
    for height in range(6):
        store.apply_block(block(height, coin(height)))
    before_the_next_batch(store, monkeypatch, lambda: store.rollback_to(2))

    assert store.save_state() == 2
    assert store.state(5) is None
    assert len(store.latest_state().coins) == 3


# ------------------------------------------------------------------------------------------------ questions


def test_each_question_reads_its_own_index(store, monkeypatch):
    """No question reads a whole family, and none tests on records what its index says."""
    plans: list[str] = []
    scalars = Session.scalars

    def explained(session: Session, statement: Any, *args: Any, **options: Any) -> Any:
        plans.append(str(session.explain(statement)))
        return scalars(session, statement, *args, **options)

    for each in Chain(1, owners=3).grow(100):
        store.apply_block(each)
    some = store.coins_confirmed(50, 50)[0]
    monkeypatch.setattr(Session, "scalars", explained)
    questions = {
        "coin_by_puzzle_hash": lambda: store.coins_by_puzzle_hash(some.puzzle_hash),
        "unspent_by_puzzle_hash": lambda: store.coins_by_puzzle_hash(some.puzzle_hash, include_spent=False),
        "coin_by_parent": lambda: store.coins_by_parent(some.parent_coin_info),
        "coin_by_confirmed_height": lambda: store.coins_confirmed(40, 50),
        "coin_by_spent_height": lambda: store.coins_spent(40, 50),
    }

    for name, ask in [*questions.items(), ("unspent_by_puzzle_hash", lambda: store.unspent_amount(some.puzzle_hash))]:
        plans.clear()
        assert ask()
        (plan,) = plans
        assert f"IndexScan {name} (" in plan
        assert "filter" not in plan
        assert "Sort" not in plan


def test_the_program_runs_as_its_help_says(engine_name, tmp_path):
    """By the path of its directory and as a module; a second run asks the store that the first one left."""
    url = "memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store"
    outputs = []
    for command, folder in ((["coinstore"], EXAMPLES), (["-m", "coinstore"], EXAMPLES)):
        done = subprocess.run([sys.executable, *command, url], capture_output=True, text=True, cwd=folder, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        outputs.append(done.stdout)

    filled, asked = outputs
    assert "62 real blocks" in filled
    assert "IndexScan unspent_by_puzzle_hash" in filled
    if engine_name != "memory":
        assert asked == filled[filled.index(f"\n{engine_name}:") :]


# ------------------------------------------------------------------------------------------------ real coins


def test_the_real_coins_block_by_block(store):
    """The first 124 coins of a real chain: each is found by its id, by its owner and by its height."""
    blocks = list(read_chain())
    model = CoinModel()
    for each in blocks:
        store.apply_block(each)
        model.apply(each)

    check(store, model)
    counters = store.counters()
    assert (counters.first_height, counters.peak_height, counters.coins, counters.unspent) == (1, 62, 124, 124)
    assert counters.unspent_amount > 2**64
    for each in blocks:
        assert ids_of(store.coins_confirmed(each.height, each.height)) == sorted(
            addition.coin.coin_id for addition in each.additions
        )
        for addition in each.additions:
            found = store.coin(addition.coin.coin_id)
            assert (found.coin, found.coinbase, found.timestamp) == (addition.coin, True, each.timestamp)
            assert found in store.coins_by_puzzle_hash(found.puzzle_hash, include_spent=False)
            assert ids_of(store.coins_by_parent(found.parent_coin_info)) == [found.coin_id]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.engine(name)) for name in ("lmdb", "rocksdb")])
def test_a_store_that_is_opened_again_goes_on(name, tmp_path):
    """Every byte is there, every question is answered, and the next block follows."""
    chain, model = Chain(6, read_chain()), CoinModel()
    chain.grow(28)
    for number in range(0, len(chain.blocks), 30):
        with create_engine(f"{name}:///{tmp_path}/store") as engine:
            store = CoinStore(engine)
            check(store, model)
            for each in chain.blocks[number : number + 30]:
                store.apply_block(each)
                model.apply(each)
            store.save_state()
            model.save_state()
            check(store, model)
