"""What a program's signal handlers raise in the middle of a read is the program's, not RocksDB's."""

import contextlib
import signal
import sys

import pytest

from kvdialect import exc, open_backend
from kvdialect.storage import WriteBatch

pytestmark = pytest.mark.engine("rocksdb")


class Late(TimeoutError):
    """What the handler raises."""


@pytest.fixture
def backend(url):
    with open_backend(f"{url}?durability=none", ["a"]) as backend:
        batch = WriteBatch()
        for number in range(5000):
            batch.put("a", b"%04d" % number, b"v" * 100)
        backend.batch_write(batch)
        yield backend


def raising(error):
    """A function of the driver during which a handler raises."""

    def call(*_args, **_options):
        raise error

    return call


@pytest.fixture
def late():
    """A handler of SIGALRM that raises."""
    before = signal.signal(signal.SIGALRM, raising(Late("the program's own time limit")))
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no timers; Linux and macOS run this")
@pytest.mark.usefixtures("late")
def test_a_time_limit_during_a_scan_comes_out_as_it_is(backend, monkeypatch):
    """It was a BackendError in two of three cases, which a program does not take for its own."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # the timer may end within a finaliser
    seen = set()
    for _ in range(60):
        with contextlib.suppress(Late):  # behind the scan
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0007)
                for _ in backend.scan("a"):
                    pass
            except Exception as error:  # noqa: BLE001 - the class is what is looked at
                seen.add(type(error))
            signal.setitimer(signal.ITIMER_REAL, 0)

    assert seen <= {Late}


READS = {
    "get": lambda reader: reader.get("a", b"0001"),
    "multi_get": lambda reader: reader.multi_get("a", [b"0001"]),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_of_a_read_only_what_the_driver_raises_is_translated(backend, monkeypatch, read):
    """The driver raises Exception itself, and no subclass of it."""
    monkeypatch.setitem(backend.engine.gets, "a", raising(Late("late")))
    with pytest.raises(Late, match=r"^late$"):
        read(backend)

    monkeypatch.setitem(backend.engine.gets, "a", raising(Exception("IO error: no such device")))
    with pytest.raises(exc.DeviceError):
        read(backend)


class Iterator:
    """The driver's, of nothing; its status raises."""

    def __init__(self, error):
        self.status = raising(error)

    def valid(self):
        return False

    def __getattr__(self, name):
        return lambda *_args: None


@pytest.mark.parametrize("pinned", [False, True], ids=["live", "pinned"])
def test_a_handler_that_raises_as_a_scan_ends_is_no_damage(backend, pinned):
    """The status of an iterator tells of damage; an exception beside it does not."""
    snapshot = backend.snapshot()
    if pinned:
        backend.put("a", b"0000", b"w")
        snapshot._pin("a")._iterator = Iterator(Late("late"))
        read = lambda: list(snapshot.scan("a"))  # noqa: E731
    else:
        family = backend.engine.known["a"]
        real = family.rdict

        class Rdict:
            def iter(self, _options):
                return Iterator(Late("late"))

        family.rdict = Rdict()
        read = lambda: snapshot.first_pairs("a", b"", None, 5)  # noqa: E731

    try:
        with pytest.raises(Late, match=r"^late$"):
            read()
    finally:
        if not pinned:
            family.rdict = real
        snapshot.close()


def test_an_error_of_the_drivers_own_file_is_told_as_the_stores(url, tmp_path):
    """The driver keeps a file beside RocksDB's, and raises the system's error for it, without its number."""
    open_backend(url, ["a"]).close()
    config = tmp_path / "store" / "rocksdict-config.json"
    config.unlink(missing_ok=True)
    config.mkdir()

    with pytest.raises(exc.BackendError, match="os error"):
        open_backend(f"{url}?check_files=off")
