"""CoinStore: blocks in, one atomic batch each; rollbacks; and every question that a node or a wallet asks."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, TypeVar

import attrs
from sqlalchemy import func, select

from coinstore.blocks import Block
from coinstore.models import (
    ArchivedCoinRecord,
    CoinRecord,
    Hint,
    MerkleNode,
    Metadata,
    SavedCoin,
    SavedHint,
    StateSnapshot,
    models,
)
from kvdialect import Engine, Session

T = TypeVar("T")

HEIGHT_LIMIT: Final = 2**64
"""Heights are below this."""


# ------------------------------------------------------------------------------------------------ what is refused


class CoinStoreError(Exception):
    """Base of what a coin store refuses. Nothing was written."""


class HeightRefused(CoinStoreError):
    """A height that does not fit the chain as it is.

    Attributes:
        height: the height given.
        peak_height: that of the last block, or None if there is none.
    """

    def __init__(self, message: str, height: int | None, peak_height: int | None) -> None:
        super().__init__(message)
        self.height = height
        self.peak_height = peak_height


class CoinRefused(CoinStoreError):
    """A coin that a block cannot add or spend.

    Attributes:
        coin_id: its id.
        height: that of the block.
    """

    def __init__(self, message: str, coin_id: bytes, height: int) -> None:
        super().__init__(f"block {height} is refused: coin {coin_id.hex()} {message}")
        self.coin_id = coin_id
        self.height = height


class CoinExists(CoinRefused):
    """A block adds a coin that is there already, or adds it twice."""


class CoinUnknown(CoinRefused):
    """A block spends a coin that is not there."""


class CoinSpent(CoinRefused):
    """A block spends a coin that is spent already, or spends it twice."""


# ------------------------------------------------------------------------------------------------ counters


@attrs.define
class Counters:
    """What the store knows of itself without counting: the records of the family ``metadata``, by these names.

    Each is stored as an unsigned big-endian integer of 8 bytes, or 16 for the amount: the first two coins of the real
    chain are more than 64 bits hold. What is None is not there; an empty store has none of them.

    Attributes:
        first_height: of the block that the store began with.
        peak_height: of the last block.
        coins: how many there are, without the archive.
        unspent: how many of these are not spent.
        unspent_amount: the sum of what these hold.
        hints: how many there are.
        archived: how many coins have gone to the archive.
        archived_height: spends up to this height are in the archive, and cannot be rolled back.
    """

    first_height: int | None = None
    peak_height: int | None = None
    coins: int = 0
    unspent: int = 0
    unspent_amount: int = 0
    hints: int = 0
    archived: int = 0
    archived_height: int | None = None


_NAMES: Final = tuple(attribute.name for attribute in attrs.fields(Counters))


def _load_counters(session: Session) -> Counters:
    found = session.get_many(Metadata, _NAMES)
    return Counters(**{record.name: int.from_bytes(record.value) for record in found if record is not None})


def _save_counters(session: Session, counters: Counters) -> None:
    empty = counters.peak_height is None
    for name, record in zip(_NAMES, session.get_many(Metadata, _NAMES), strict=True):
        number = None if empty else getattr(counters, name)
        if number is None:
            if record is not None:
                session.delete(record)
            continue
        value = number.to_bytes(16 if name == "unspent_amount" else 8)
        if record is None:
            session.add(Metadata(name, value))
        else:
            record.value = value


# ------------------------------------------------------------------------------------------------ questions


class _Questions(abc.ABC):
    """The questions; each is answered from one moment of the store."""

    @abc.abstractmethod
    def _reading(self) -> AbstractContextManager[Session]:
        """A session to answer a question from."""

    # ---- the state as a whole

    def counters(self) -> Counters:
        """The counters."""
        with self._reading() as session:
            return _load_counters(session)

    @property
    def peak_height(self) -> int | None:
        """Height of the last block; None if there is none."""
        return self.counters().peak_height

    # ---- coins

    def coin(self, coin_id: bytes) -> CoinRecord | None:
        """The coin of this id, None if there is none."""
        with self._reading() as session:
            return session.get(CoinRecord, coin_id)

    def coins(self, coin_ids: Iterable[bytes]) -> list[CoinRecord | None]:
        """The coins of these ids, in their order, None for each that is not there."""
        with self._reading() as session:
            return session.get_many(CoinRecord, coin_ids)

    def coins_by_puzzle_hash(self, puzzle_hash: bytes, *, include_spent: bool = True) -> list[CoinRecord]:
        """The coins of a puzzle hash, by id; without ``include_spent`` those that can be spent."""
        found = select(CoinRecord).where(CoinRecord.puzzle_hash == puzzle_hash).order_by(CoinRecord.coin_id)
        if not include_spent:
            found = found.where(CoinRecord.spent_height.is_(None))
        with self._reading() as session:
            return list(session.scalars(found))

    def unspent_amount(self, puzzle_hash: bytes) -> int:
        """The sum of what the coins of a puzzle hash hold that are not spent."""
        unspent = (CoinRecord.puzzle_hash == puzzle_hash) & CoinRecord.spent_height.is_(None)
        with self._reading() as session:
            return session.scalar(select(func.sum(CoinRecord.amount)).where(unspent)) or 0

    def coins_by_parent(self, parent_coin_info: bytes) -> list[CoinRecord]:
        """The coins that the spend of a coin has made, by id."""
        found = select(CoinRecord).where(CoinRecord.parent_coin_info == parent_coin_info)
        with self._reading() as session:
            return list(session.scalars(found.order_by(CoinRecord.coin_id)))

    def coins_confirmed(self, first: int, last: int) -> list[CoinRecord]:
        """The coins that the blocks from height ``first`` to ``last`` have added, by height and id."""
        found = select(CoinRecord).where(CoinRecord.confirmed_height.between(first, last))
        with self._reading() as session:
            return list(session.scalars(found.order_by(CoinRecord.confirmed_height, CoinRecord.coin_id)))

    def coins_spent(self, first: int, last: int) -> list[CoinRecord]:
        """The coins that the blocks from height ``first`` to ``last`` have spent, by height and id."""
        found = select(CoinRecord).where(CoinRecord.spent_height.between(first, last))
        with self._reading() as session:
            return list(session.scalars(found.order_by(CoinRecord.spent_height, CoinRecord.coin_id)))

    def archived_coin(self, coin_id: bytes) -> ArchivedCoinRecord | None:
        """The coin of this id in the archive; None if it never went there, or has been dropped from it since."""
        with self._reading() as session:
            return session.get(ArchivedCoinRecord, coin_id)

    # ---- hints

    def coins_by_hint(self, hint: bytes) -> list[CoinRecord]:
        """The coins that have a hint, by id."""
        with self._reading() as session:
            ids = session.scalars(select(Hint.coin_id).where(Hint.hint == hint).order_by(Hint.coin_id))
            return [coin for coin in session.get_many(CoinRecord, ids) if coin is not None]

    def hints_of(self, coin_id: bytes) -> list[bytes]:
        """The hints of a coin, in the order of bytes."""
        with self._reading() as session:
            return [found.hint for found in session.scan(Hint, coin_id)]

    # ---- nodes and saved states

    def node(self, level: int, path: bytes) -> bytes | None:
        """The hash of a node of the Merkle tree, None if it is not there."""
        with self._reading() as session:
            found = session.get(MerkleNode, (level, path))
            return None if found is None else found.hash

    def nodes(self, level: int) -> dict[bytes, bytes]:
        """The hashes of all nodes of a level, by path."""
        with self._reading() as session:
            return {found.path: found.hash for found in session.scan(MerkleNode, level)}

    def state(self, height: int) -> StateSnapshot | None:
        """The state saved at a height, None if there is none, or no more."""
        with self._reading() as session:
            return session.get(StateSnapshot, height)

    def latest_state(self) -> StateSnapshot | None:
        """The state saved last, None if there is none."""
        with self._reading() as session:
            return next(session.scan(StateSnapshot, reverse=True, limit=1), None)


class CoinView(_Questions):
    """A coin store as of one moment, whatever is written meanwhile; :meth:`CoinStore.snapshot` gives it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _reading(self) -> AbstractContextManager[Session]:
        return nullcontext(self._session)


# ------------------------------------------------------------------------------------------------ the store


class CoinStore(_Questions):
    """A coin store in an open engine, for use by several threads.

    Questions asked of the store itself are each answered from the latest state; :meth:`snapshot` answers several from
    one. Each change is one transaction, and its commit one batch: all of it, durably, or nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        models.create_all(engine)

    def _reading(self) -> AbstractContextManager[Session]:
        return Session(self.engine)

    @contextmanager
    def snapshot(self) -> Iterator[CoinView]:
        """The store as of now, in a ``with`` block."""
        with Session(self.engine) as session:
            session.get(Metadata, "peak_height")  # a session's moment is that of its first read
            yield CoinView(session)

    def _change(self, change: Callable[[Session], T]) -> T:
        """Run a change in a transaction, and anew if another one came first.

        Serializable, as most of what a change rests on is read and not written: that a coin is unknown, where the
        archive begins.
        """
        return self.engine.transaction(change, isolation_level="SERIALIZABLE")

    # ---- the chain

    def apply_block(self, block: Block) -> Counters:
        """Add a block to the chain: its coins and hints, its spends, the counters. An empty store takes any height.

        Raises:
            HeightRefused: if it does not follow the last block.
            CoinExists: if it adds a coin that is there, or in the archive.
            CoinUnknown, CoinSpent: if it spends a coin that is not there, or is spent.
            kvdialect.exc.DataError: if a value has no place in its column, such as an amount beyond 64 bits.
        """

        def change(session: Session) -> Counters:
            counters = _load_counters(session)
            _follow(counters, block.height)
            added = _add(session, block, counters)
            _spend(session, block, counters, added)
            _save_counters(session, counters)
            return counters

        return self._change(change)

    def rollback_to(self, height: int | None) -> Counters:
        """Undo all blocks above a height: their coins go, with their hints, and what they spent is unspent again.

        States saved above it go too. Merkle nodes are the caller's: put those of the chain that follows.

        Args:
            height: of the block that is to be the last; None undoes all of them.

        Raises:
            HeightRefused: if the chain does not have this height, or blocks above it have spends in the archive.
        """

        def change(session: Session) -> Counters:
            counters = _load_counters(session)
            _check_rollback(counters, height)
            if height == counters.peak_height:
                return counters
            lowest = 0 if height is None else height + 1
            gone = list(session.scan("coin_by_confirmed_height", start=lowest))
            undone = list(session.scan("coin_by_spent_height", start=lowest))
            for coin in gone:
                _take_out(session, coin, counters)
            for coin in undone:
                if coin.confirmed_height < lowest:
                    coin.spent_height = None
                    counters.unspent += 1
                    counters.unspent_amount += coin.amount
            session.delete_all(list(session.scan(StateSnapshot, start=lowest)))
            counters.peak_height = height
            if height is None:
                counters = Counters()
            _save_counters(session, counters)
            return counters

        return self._change(change)

    def archive_spent(self, through: int) -> int:
        """Move the coins that were spent up to a height to the archive, out of all other families; how many it were.

        Blocks up to that height cannot be rolled back then.

        Raises:
            HeightRefused: if the chain does not have this height.
        """

        def change(session: Session) -> int:
            counters = _load_counters(session)
            if counters.peak_height is None or not 0 <= through <= counters.peak_height:
                raise HeightRefused(
                    f"cannot archive through height {through}; the chain ends at {counters.peak_height}",
                    through, counters.peak_height,
                )  # fmt: skip
            spent = select(CoinRecord).where(CoinRecord.spent_height <= through)
            moved = list(session.scalars(spent))
            for coin in moved:
                session.add(
                    ArchivedCoinRecord(
                        coin_id=coin.coin_id,
                        parent_coin_info=coin.parent_coin_info,
                        puzzle_hash=coin.puzzle_hash,
                        amount=coin.amount,
                        confirmed_height=coin.confirmed_height,
                        spent_height=coin.spent_height,
                        coinbase=coin.coinbase,
                        timestamp=coin.timestamp,
                    )
                )
                _take_out(session, coin, counters)
            counters.archived += len(moved)
            counters.archived_height = max(through, counters.archived_height or 0)
            _save_counters(session, counters)
            return len(moved)

        return self._change(change)

    # ---- nodes and saved states

    def put_nodes(self, nodes: Mapping[tuple[int, bytes], bytes]) -> None:
        """Put nodes of the Merkle tree: hashes by level and path. What was there is replaced."""

        def change(session: Session) -> None:
            for (level, path), found in zip(nodes, session.get_many(MerkleNode, nodes), strict=True):
                if found is None:
                    session.add(MerkleNode(level, path, nodes[level, path]))
                else:
                    found.hash = nodes[level, path]

        self.engine.transaction(change)

    def save_state(self) -> int:
        """Save all coins and hints as they are now; return the height.

        Raises:
            HeightRefused: if the store is empty.
        """

        def change(session: Session) -> int:
            # A snapshot will do, as long as this block is still the last one when the state is written.
            peak = session.get(Metadata, "peak_height", with_for_update=True)
            if peak is None:
                raise HeightRefused("an empty store has no state to save; apply a block", None, None)
            counters = _load_counters(session)
            height = int.from_bytes(peak.value)
            saved = StateSnapshot(
                height=height,
                coins=tuple(
                    SavedCoin(
                        coin.coin_id, coin.coin, coin.confirmed_height, coin.spent_height, coin.coinbase, coin.timestamp
                    )
                    for coin in session.scan(CoinRecord)
                ),
                hints=tuple(SavedHint(found.coin_id, found.hint) for found in session.scan(Hint)),
                total_coins=counters.coins,
                total_amount=counters.unspent_amount,
            )
            session.merge(saved)
            return height

        return self.engine.transaction(change)


# ------------------------------------------------------------------------------------------------ parts of a change


def _follow(counters: Counters, height: int) -> None:
    """Take a block's height as the chain's new peak."""
    peak = counters.peak_height
    if peak is None:
        if not 0 <= height < HEIGHT_LIMIT:
            raise HeightRefused(f"height {height} is refused; heights are 0 to 2**64-1", height, None)
        counters.first_height = height
    elif height != peak + 1 or height >= HEIGHT_LIMIT:
        raise HeightRefused(f"block {height} does not follow block {peak}, the last one", height, peak)
    counters.peak_height = height


def _check_rollback(counters: Counters, height: int | None) -> None:
    """Refuse a rollback to a height that the chain does not have, or has no spends of any more."""
    first, peak, archived = counters.first_height, counters.peak_height, counters.archived_height
    if height is not None and (first is None or peak is None or not first <= height <= peak):
        chain = "is empty" if first is None else f"has blocks {first} to {peak}; None undoes all of them"
        raise HeightRefused(f"cannot roll back to height {height}; the chain {chain}", height, peak)
    if archived is not None and (height is None or height < archived):
        where = "before the first block" if height is None else f"to height {height}"
        raise HeightRefused(
            f"cannot roll back {where}; spends up to height {archived} are in the archive", height, peak
        )


def _add(session: Session, block: Block, counters: Counters) -> dict[bytes, CoinRecord]:
    """Add a block's coins and hints; return the coins by id."""
    added: dict[bytes, CoinRecord] = {}
    ids = [addition.coin.coin_id for addition in block.additions]
    known = session.get_many(CoinRecord, ids)
    archived = session.get_many(ArchivedCoinRecord, ids)
    for coin_id, addition, held, old in zip(ids, block.additions, known, archived, strict=True):
        if coin_id in added:
            raise CoinExists("is added twice by it", coin_id, block.height)
        if held is not None or old is not None:
            since = held or old
            assert since is not None
            raise CoinExists(f"was added by block {since.confirmed_height}", coin_id, block.height)
        coin = addition.coin
        added[coin_id] = CoinRecord(
            coin_id=coin_id,
            parent_coin_info=coin.parent_coin_info,
            puzzle_hash=coin.puzzle_hash,
            amount=coin.amount,
            confirmed_height=block.height,
            spent_height=None,
            coinbase=addition.coinbase,
            timestamp=block.timestamp,
        )
        for hint in dict.fromkeys(addition.hints):
            session.add(Hint(coin_id, hint))
            counters.hints += 1
        counters.coins += 1
        counters.unspent += 1
        counters.unspent_amount += coin.amount
    session.add_all(added.values())
    return added


def _spend(session: Session, block: Block, counters: Counters, added: Mapping[bytes, CoinRecord]) -> None:
    """Spend coins: of the store, or those that the same block adds."""
    before = [coin_id for coin_id in block.spends if coin_id not in added]
    known = dict(zip(before, session.get_many(CoinRecord, before), strict=True))
    for coin_id in block.spends:
        coin = added.get(coin_id) or known[coin_id]
        if coin is None:
            old = session.get(ArchivedCoinRecord, coin_id)
            if old is None:
                raise CoinUnknown("is not there to be spent", coin_id, block.height)
            raise CoinSpent(f"was spent by block {old.spent_height}", coin_id, block.height)
        if coin.spent_height is not None:
            twice = coin.spent_height == block.height
            spent = "is spent twice by it" if twice else f"was spent by block {coin.spent_height}"
            raise CoinSpent(spent, coin_id, block.height)
        coin.spent_height = block.height
        counters.unspent -= 1
        counters.unspent_amount -= coin.amount


def _take_out(session: Session, coin: CoinRecord, counters: Counters) -> None:
    """Remove a coin and its hints."""
    for found in list(session.scan(Hint, coin.coin_id)):
        session.delete(found)
        counters.hints -= 1
    session.delete(coin)
    counters.coins -= 1
    if coin.spent_height is None:
        counters.unspent -= 1
        counters.unspent_amount -= coin.amount
