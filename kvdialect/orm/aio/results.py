"""Results that are read while they are iterated, a portion at a time, each awaited on the session's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from sqlalchemy import exc as sa_exc

from kvdialect import exc

if TYPE_CHECKING:
    from kvdialect.orm.aio.session import AsyncSession

T = TypeVar("T")

STREAMED: Final = 256
"""Rows that a stream brings over at once, unless ``yield_per`` says otherwise."""

_FIRST: Final = 64
_LARGEST: Final = 1024

_NOTHING_LOST: Final = (sa_exc.NoResultFound, sa_exc.MultipleResultsFound, sa_exc.ResourceClosedError)
"""Errors of a result that say how many rows there are, or that it is closed."""


class Portions:
    """The reads of one query, until one of them loses rows.

    A query that was cut short or has failed is over, and asked for more it would be at its end, as if there were no
    more rows. Rows that were read for a task that is cancelled before it gets them are lost too.

    Args:
        session: whose thread reads.
        name: of the session's method, for messages.
    """

    __slots__ = ("_lost", "_name", "_session")

    def __init__(self, session: AsyncSession, name: str) -> None:
        self._session = session
        self._name = name
        self._lost: str | None = None
        """How: while a read is under way, and from then on unless its rows arrive."""

    def check(self) -> None:
        """Refuse to read on.

        Raises:
            OperationalError: if an earlier read has lost rows.
            sqlalchemy.exc.IllegalStateChangeError: if a call of the session runs.
        """
        self._session._check_free(self._name)
        if self._lost is not None:
            raise exc.OperationalError(
                f"an earlier read of this {self._name} {self._lost}, and its rows are lost; call {self._name}() and"
                " read again"
            )

    async def read(self, method: Callable[..., Any], *args: Any) -> Any:
        """Await what ``method`` reads on the session's thread; it may be cut short.

        Raises:
            OperationalError: as :meth:`check` does.
        """
        self.check()
        try:
            rows = await self._session._call(self._name, self._begin, method, args, interrupted=True)
        except _NOTHING_LOST:
            self._lost = None
            raise
        except Exception as error:
            if self._lost is not None:
                self._lost = f"failed with {type(error).__name__}"
            raise
        self._lost = None
        return rows

    def _begin(self, method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        self._lost = "was cancelled"
        return method(*args)


class AsyncResult(Generic[T]):
    """The rows of a statement, read as they are asked for; SQLAlchemy's methods, those that read awaited.

    ``async for row in result``, or ``async for rows in result.partitions(100)``. Between two portions the session is
    free for other calls. It has to be read before the transaction ends. When a read is cancelled or fails, each later
    one that needs more rows raises OperationalError.
    """

    def __init__(self, session: AsyncSession, result: Any, size: int, portions: Portions | None = None) -> None:
        self._session = session
        self._result = result
        self._size = size
        self._portions = portions or Portions(session, "stream")
        self._read = self._portions.read
        self._rows: deque[T] = deque()

    def keys(self) -> Any:
        """The names of a row's elements."""
        return self._result.keys()

    def scalars(self, index: int | str = 0) -> AsyncResult[Any]:
        """The same rows, of each the element ``index`` alone."""
        return AsyncResult(self._session, self._result.scalars(index), self._size, self._portions)

    def mappings(self) -> AsyncResult[Any]:
        """The same rows, each as a mapping by name."""
        return AsyncResult(self._session, self._result.mappings(), self._size, self._portions)

    def unique(self, strategy: Callable[[Any], Any] | None = None) -> Self:
        """Each row once."""
        self._result = self._result.unique(strategy)
        return self

    async def fetchone(self) -> T | None:
        """The next row, or None at the end."""
        async for row in self:
            return row
        return None

    async def fetchmany(self, size: int | None = None) -> Sequence[T]:
        """The next rows, ``size`` or those of a portion; fewer only at the end."""
        wanted = self._size if size is None else size
        missing = wanted - len(self._rows)
        if missing > 0:
            self._rows.extend(await self._read(self._result.fetchmany, missing))
        rows = list(islice(self._rows, wanted))
        for _ in rows:
            self._rows.popleft()
        return rows

    async def partitions(self, size: int | None = None) -> AsyncIterator[Sequence[T]]:
        """Yield lists of ``size`` rows, or of a portion; the last may be shorter."""
        while rows := await self.fetchmany(size):
            yield rows

    async def all(self) -> Sequence[T]:
        """All rows that are left."""
        self._rows.extend(await self._read(self._result.all))
        rows = list(self._rows)
        self._rows.clear()
        return rows

    async def fetchall(self) -> Sequence[T]:
        """As :meth:`all`."""
        return await self.all()

    async def first(self) -> T | None:
        """The first row, or None; the rest is not read.

        This, ``one`` and ``one_or_none`` are for results of which nothing was read.
        """
        row: T | None = await self._read(self._result.first)
        return row

    async def one(self) -> T:
        """The only row.

        Raises:
            sqlalchemy.exc.NoResultFound, MultipleResultsFound: if there is none, or another.
        """
        row: T = await self._read(self._result.one)
        return row

    async def one_or_none(self) -> T | None:
        """The only row, or None.

        Raises:
            sqlalchemy.exc.MultipleResultsFound: if there is another.
        """
        row: T | None = await self._read(self._result.one_or_none)
        return row

    async def close(self) -> None:
        """Read no further."""
        self._rows.clear()
        await self._session._call("stream", self._result.close)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not self._rows:
            self._rows.extend(await self._read(self._result.fetchmany, self._size))
            if not self._rows:
                raise StopAsyncIteration
        return self._rows.popleft()


class AsyncScan(Generic[T]):
    """The records of a scan: ``async for`` reads them in portions that grow, ``await`` gives the list of them all.

    When a read is cancelled or fails, each later one raises OperationalError.
    """

    def __init__(self, session: AsyncSession, scan: Callable[[], Iterator[T]]) -> None:
        self._portions = Portions(session, "scan")
        self._scan = scan
        self._source: Iterator[T] | None = None
        self._records: Iterator[T] = iter(())
        self._size = _FIRST

    def _portion(self, size: int | None) -> list[T]:
        """Begin, or go on; on the session's thread."""
        if self._source is None:
            self._source = self._scan()
        return list(islice(self._source, size))

    async def _read(self, size: int | None) -> list[T]:
        portion: list[T] = await self._portions.read(self._portion, size)
        return portion

    def __await__(self) -> Generator[Any, None, list[T]]:
        self._portions.check()
        if self._source is not None:
            raise exc.ProgrammingError("this scan is being iterated over; call scan() again for a list")
        return self._read(None).__await__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        for record in self._records:
            return record
        self._records = iter(await self._read(self._size))
        self._size = min(2 * self._size, _LARGEST)
        for record in self._records:
            return record
        raise StopAsyncIteration
