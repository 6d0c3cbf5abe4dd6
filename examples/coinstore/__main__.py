"""The coin store at work: real blocks and made-up ones, a fork, questions, on any engine.

python examples/coinstore                         # a temporary RocksDB store
python examples/coinstore lmdb:////data/coins     # any engine, by its URL; the store stays
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

if not __package__:  # run by the directory's path, which then is what Python looks for modules in
    sys.path[0] = str(Path(__file__).parents[1])

from sqlalchemy import func, select

from coinstore.blocks import Block
from coinstore.chain import Chain, merkle_tree, read_chain
from coinstore.models import CoinRecord
from coinstore.store import CoinStore, CoinStoreError
from kvdialect import Session, create_engine

MADE_UP = 400
"""Blocks that are made up behind the real ones."""

FORK = 25
"""Blocks that a fork replaces."""


def main(url: str) -> None:
    """Fill a store, unless it is filled; close it, open it again and ask it."""
    with create_engine(url) as engine:
        store = CoinStore(engine)
        if store.peak_height is None:
            fill(store)
        if not engine.backend.capabilities.persistent:
            ask(store)
            return
    with create_engine(url) as engine:
        ask(CoinStore(engine))


def fill(store: CoinStore) -> None:
    """Apply the real blocks and made-up ones, with a fork; archive what is long spent, save the state."""
    chain = Chain(seed=1, blocks=read_chain())
    apply(store, "real blocks", chain.blocks)
    apply(store, "made-up blocks", chain.grow(MADE_UP))

    with store.snapshot() as before:
        fork_height = chain.blocks[-1].height - FORK
        began = time.perf_counter()
        store.rollback_to(fork_height)
        print(f"rolled back to height {fork_height} in {time.perf_counter() - began:.3f} s")
        chain.cut(fork_height)
        apply(store, "blocks of a fork", chain.grow(FORK + 1))
        print(f"a snapshot taken before still ends at height {before.peak_height}, the store at {store.peak_height}")

    for wrong in (chain.blocks[-1], Block(chain.blocks[-1].height + 1, 0, spends=(bytes(32),))):
        try:
            store.apply_block(wrong)
        except CoinStoreError as error:
            print(f"{type(error).__name__}: {error}")

    moved = store.archive_spent(chain.blocks[-1].height // 2)
    nodes = merkle_tree(chain.unspent)
    store.put_nodes(nodes)
    print(f"{moved} spent coins archived, {len(nodes)} Merkle nodes put, state saved at height {store.save_state()}")


def apply(store: CoinStore, what: str, blocks: list[Block]) -> None:
    """Apply blocks, each a durable commit of its own, and say how fast that was."""
    began = time.perf_counter()
    for block in blocks:
        store.apply_block(block)
    seconds = time.perf_counter() - began
    coins = sum(len(block.additions) + len(block.spends) for block in blocks)
    print(
        f"{len(blocks)} {what} in {seconds:.2f} s: {len(blocks) / seconds:,.0f} blocks/s,"
        f" {coins / seconds:,.0f} coins added or spent/s"
    )


def ask(store: CoinStore) -> None:
    """Ask a store as it is, from one moment; and see by which index each answer comes."""
    print(f"\n{store.engine.url.render_as_string()}:")
    with store.snapshot() as view:
        counters = view.counters()
        peak = counters.peak_height or 0
        recent = max(peak - 9, 0)
        print(
            f"blocks {counters.first_height} to {peak}, {counters.coins} coins, {counters.unspent} of them unspent with"
            f" {counters.unspent_amount} mojos; {counters.hints} hints; {counters.archived} coins in the archive"
        )
        added, spent = view.coins_confirmed(recent, peak), view.coins_spent(recent, peak)
        print(f"the last 10 blocks added {len(added)} coins and spent {len(spent)}")
        latest = added[-1]
        owner = latest.puzzle_hash
        print(f"coin {latest.coin_id.hex()[:12]}... holds {latest.amount} mojos")
        print(f"coins of the same parent: {len(view.coins_by_parent(latest.parent_coin_info))}")
        coins, unspent = view.coins_by_puzzle_hash(owner), view.coins_by_puzzle_hash(owner, include_spent=False)
        print(f"its owner has {len(unspent)} of {len(coins)} coins left, with {view.unspent_amount(owner)} mojos")
        print(f"{len(view.coins_by_hint(owner))} coins have the owner for a hint")
        state, root = view.latest_state(), view.node(0, bytes(32))
        if state is not None and root is not None:
            print(
                f"the state saved at height {state.height} has {state.total_coins} coins and {len(state.hints)} hints"
            )
            print(f"the root of the Merkle tree is {root.hex()[:12]}...")

    unspent_of = (CoinRecord.puzzle_hash == owner) & CoinRecord.spent_height.is_(None)
    with Session(store.engine) as session:
        for question in (
            select(CoinRecord).where(unspent_of).order_by(CoinRecord.coin_id),
            select(CoinRecord).where(CoinRecord.spent_height.between(recent, peak)),
            select(CoinRecord.puzzle_hash, func.sum(CoinRecord.amount)).group_by(CoinRecord.puzzle_hash),
        ):
            print(f"\n{session.explain(question)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(f"rocksdb:///{folder}/coins")
