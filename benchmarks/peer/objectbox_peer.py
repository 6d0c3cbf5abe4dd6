"""ObjectBox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from objectbox import Bool, Entity, Id, Index, Int64, Store, String
from objectbox.model.properties import Unique

from peer.base import Peer
from peer.workload import Block
from peer.workload import Coin as Values


@Entity()
class Coin:
    """A coin. Bytes have no index in ObjectBox, so what is looked up is text, hexadecimal."""

    id = Id()
    coin_id = String(unique=Unique())
    parent_coin_info = String(index=Index())
    puzzle_hash = String(index=Index())
    amount = Int64()
    confirmed_height = Int64(index=Index())
    spent_height = Int64()
    coinbase = Bool()
    timestamp = Int64()


class Objectbox(Peer):
    """Objects in a Box; queries are built once and given parameters.

    There is no partial index: what is not spent is filtered among the coins of a puzzle hash. There is no covering one.
    """

    title = "ObjectBox"
    durable = "as it is: LMDB's commit underneath, synced"
    relaxed = ""  # no setting for it
    lacks = dict.fromkeys(("lookup_select", "range_select", "scan_select"), "the same as without")
    notes = "ids are hexadecimal text, as bytes have no index; no partial and no covering index; a scan is one list"
    packages = ("objectbox",)

    def open(self, durable: bool) -> None:  # noqa: ARG002 - no choice
        self.folder.mkdir(exist_ok=True)
        self.store = Store(
            directory=str(self.folder),
            model_json_file=str(self.folder / "model.json"),
            max_db_size_in_kb=16 << 20,
        )
        self.box = self.store.box(Coin)
        self.by_id = self.box.query(Coin.coin_id.equals("")).build()
        self.by_ids = self.box.query(Coin.coin_id.one_of([""])).build()
        self.by_puzzle_hash = self.box.query(Coin.puzzle_hash.equals("")).build()
        self.unspent_by_puzzle_hash = self.box.query(Coin.puzzle_hash.equals("") & Coin.spent_height.equals(0)).build()
        self.by_height = self.box.query(Coin.confirmed_height.between(0, 0)).build()

    def ingest(self, block: Block) -> None:
        with self.store.write_tx():
            self.by_ids.set_parameter(Coin.coin_id, [coin_id.hex() for coin_id in block.spends])
            spent = self.by_ids.find()
            for coin in spent:
                coin.spent_height = block.height
            made = [
                Coin(
                    coin_id=coin_id.hex(),
                    parent_coin_info=parent.hex(),
                    puzzle_hash=puzzle_hash.hex(),
                    amount=amount,
                    confirmed_height=confirmed,
                    spent_height=spent_at or 0,
                    coinbase=coinbase,
                    timestamp=timestamp,
                )
                for coin_id, parent, puzzle_hash, amount, confirmed, spent_at, coinbase, timestamp in block.coins
            ]
            self.box.put(spent + made)

    def begin(self) -> None:
        self.transaction = self.store.read_tx()
        self.transaction.__enter__()

    def end(self) -> None:
        self.transaction.__exit__(None, None, None)

    def get(self, coin_id: bytes) -> Any:
        return self.by_id.set_parameter(Coin.coin_id, coin_id.hex()).find_first()

    def new_session_get(self, coin_id: bytes) -> Any:
        with self.store.read_tx():
            return self.get(coin_id)

    def lookup(self, puzzle_hash: bytes) -> Sequence[Any]:
        return self.by_puzzle_hash.set_parameter(Coin.puzzle_hash, puzzle_hash.hex()).find()

    def unspent(self, puzzle_hash: bytes) -> Sequence[Any]:
        return self.unspent_by_puzzle_hash.set_parameter(Coin.puzzle_hash, puzzle_hash.hex()).find()

    def range(self, low: int, high: int) -> Sequence[Any]:
        return self.by_height.set_parameters(Coin.confirmed_height, low, high - 1).find()

    def range_covered(self, low: int, high: int) -> Sequence[tuple[int, int]]:
        return [(coin.confirmed_height, coin.amount) for coin in self.range(low, high)]

    def scan(self) -> Iterable[Any]:
        return self.box.get_all()

    def update_and_commit(self, coin_id: bytes, height: int) -> None:
        with self.store.write_tx():
            coin = self.get(coin_id)
            coin.spent_height = height
            self.box.put(coin)

    def fields(self, found: Any) -> Values:
        return (
            bytes.fromhex(found.coin_id),
            bytes.fromhex(found.parent_coin_info),
            bytes.fromhex(found.puzzle_hash),
            found.amount,
            found.confirmed_height,
            found.spent_height or None,
            found.coinbase,
            found.timestamp,
        )

    def close(self) -> None:
        for query in (self.by_id, self.by_ids, self.by_puzzle_hash, self.unspent_by_puzzle_hash, self.by_height):
            query.close()
        self.store.close()
