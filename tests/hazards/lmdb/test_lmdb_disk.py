"""A disk that is full or fails, and an engine that gives up (hazards 6, 8)."""

import os
import shutil
import subprocess

import lmdb
import pytest

from kvdialect import exc, open_backend

pytestmark = pytest.mark.engine("lmdb")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting a small file system needs root; .ci/run runs as root in a container")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "none", place], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}; .ci/run as root runs it")
    yield place
    subprocess.run([shutil.which("umount"), "-l", place], check=True)


FILL = """
backend = open_backend(URL + "?map_size=64MiB", ["a"])
backend.put("a", b"before", b"v")
written = 0
try:
    for number in range(1000):
        backend.put("a", b"%04d" % number, bytes(50_000))
        written += 1
except exc.DiskFull as error:
    print("DiskFull", error.retryable, error.outcome in ("unknown", "not_applied"), written > 3)
rows = dict(backend.scan("a"))
print(all(b"%04d" % number in rows for number in range(written)), rows[b"before"], len(rows) - written - 1)
"""


def test_full_disk_is_disk_full_and_loses_nothing(run, small_disk):
    """What was acknowledged is there, reads go on, and once there is room writes do too, reopened or not."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1 << 20))
    out = run(
        FILL
        + """
os.remove(sys.argv[2])
try:
    backend.put("a", b"after", b"v")
except exc.ReopenRequired:
    backend.close()
    backend = open_backend(URL + "?map_size=64MiB")
    backend.put("a", b"after", b"v")
print(backend.get("a", b"after"))
""",
        f"lmdb:///{small_disk}/store",
        os.fspath(filler),
    )

    assert out.splitlines() == ["DiskFull True True True", "True b'v' 0", "b'v'"]


def test_store_on_a_full_disk_is_not_created(small_disk):
    """Creation fails with a typed error and leaves nothing behind."""
    (small_disk / "filler").write_bytes(bytes((2 << 20) - 8192))

    with pytest.raises(exc.BackendError):
        open_backend(f"lmdb:///{small_disk}/store")

    assert os.listdir(small_disk) == ["filler"]


def test_file_size_limit_is_an_error_of_this_library(run, url):
    """RLIMIT_FSIZE makes writes fail with EFBIG; the store is whole afterwards and without the limit."""
    out = run(
        """
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        backend = open_backend(URL + "?map_size=64MiB", ["a"])
        backend.put("a", b"before", b"v")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        written = 0
        try:
            for number in range(1000):
                backend.put("a", b"%04d" % number, bytes(50_000))
                written += 1
        except exc.BackendError as error:
            print(type(error).__name__, error.engine, error.operation, bool(error.engine_message), written > 3)
        rows = dict(backend.scan("a"))
        print(all(b"%04d" % number in rows for number in range(written)), rows[b"before"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        try:
            backend.put("a", b"after", b"v")
        except exc.ReopenRequired:
            backend.close()
            backend = open_backend(URL + "?map_size=64MiB")
            backend.put("a", b"after", b"v")
        print(backend.get("a", b"after"), len(rows) - written - 1)
        """,
        url,
    )

    error, whole, after = out.splitlines()
    assert error in ("DiskFull lmdb batch_write True True", "CommitOutcomeUnknown lmdb batch_write True True")
    assert whole == "True b'v'"
    assert after == "b'v' 0"


class Failing:
    """The driver's environment, whose commits end in an error."""

    def __init__(self, env, error, applied, panicked):
        self._env, self._error, self._applied, self._panicked = env, error, applied, panicked
        self._begun = 0

    def __getattr__(self, name):
        return getattr(self._env, name)

    def begin(self, *args, **kwargs):
        if kwargs.get("write"):
            self._begun += 1
            if self._begun > 1 and self._panicked:
                raise lmdb.PanicError(
                    "mdb_txn_begin: MDB_PANIC: Update of meta page failed or environment had fatal error"
                )
            return FailingTransaction(self._env.begin(*args, **kwargs), self)
        return self._env.begin(*args, **kwargs)


class FailingTransaction:
    """A transaction whose first commit ends in an error."""

    def __init__(self, txn, env):
        self._txn, self._failing = txn, env

    def __getattr__(self, name):
        return getattr(self._txn, name)

    def commit(self):
        error, self._failing._error = self._failing._error, None
        if error is None or self._failing._applied:
            self._txn.commit()
        if error is not None:
            if not self._failing._applied:
                self._txn.abort()
            raise error


EIO = "mdb_txn_commit: Input/output error"


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not applied"])
def test_commit_that_fails_is_resolvable(url, applied, monkeypatch):
    """After an I/O error of a commit, commit_outcome(token) says what became of it, here and after reopening."""
    with open_backend(url, ["a"]) as backend:
        backend.put("a", b"k", b"old")
        with monkeypatch.context() as patch:
            patch.setattr(backend.engine, "env", Failing(backend.engine.env, lmdb.Error(EIO), applied, False))
            with pytest.raises(exc.CommitOutcomeUnknown) as caught:
                backend.put("a", b"k", b"new")
        outcome = "applied" if applied else "not_applied"

        assert caught.value.engine_message == EIO
        assert caught.value.outcome in ("unknown", outcome)
        assert backend.commit_outcome(caught.value.token) == outcome
        assert backend.get("a", b"k") == (b"new" if applied else b"old")
        backend.put("a", b"k", b"newer")
        assert backend.commit_outcome(caught.value.token) == outcome

    with open_backend(url) as backend:
        assert backend.commit_outcome(caught.value.token) == outcome


def test_engine_that_gave_up_asks_for_reopening(url, monkeypatch):
    """After LMDB's panic every write says ReopenRequired at once, and reopening helps."""
    with open_backend(url, ["a"]) as backend:
        backend.put("a", b"k", b"old")
        with monkeypatch.context() as patch:
            patch.setattr(backend.engine, "env", Failing(backend.engine.env, lmdb.Error(EIO), False, True))
            with pytest.raises(exc.CommitOutcomeUnknown) as caught:
                backend.put("a", b"k", b"new")

        assert caught.value.outcome == "unknown"
        with pytest.raises(exc.ReopenRequired, match="close the store and open it again"):
            backend.put("a", b"k", b"newer")
        assert backend.commit_outcome(caught.value.token) == "unknown"

    with open_backend(url) as backend:
        backend.put("a", b"l", b"v")
        assert backend.commit_outcome(caught.value.token) == "not_applied"


DRIVER_ERRORS = {
    lmdb.MapFullError: exc.MapFull,
    lmdb.ReadersFullError: exc.ReadersFull,
    lmdb.CorruptedError: exc.Corruption,
    lmdb.PageNotFoundError: exc.Corruption,
    lmdb.InvalidError: exc.Corruption,
    lmdb.VersionMismatchError: exc.Corruption,
    lmdb.PanicError: exc.ReopenRequired,
    lmdb.DiskError: exc.DiskFull,
    lmdb.DbsFullError: exc.BackendError,
    lmdb.BadTxnError: exc.BackendError,
    lmdb.Error: exc.BackendError,
}


@pytest.mark.parametrize("driver", DRIVER_ERRORS, ids=lambda cls: cls.__name__)
def test_no_driver_error_reaches_the_caller(url, monkeypatch, driver):
    """Whatever LMDB raises comes out as this library's error, with the driver's words and the rest as attributes."""
    with open_backend(url, ["a"]) as backend:

        def fail(*_args, **_kwargs):
            raise driver("mdb_something: words of the driver")

        monkeypatch.setattr(backend.engine, "_begin", fail)

        for call in (
            lambda: backend.get("a", b"k"),
            lambda: backend.multi_get("a", [b"k"]),
            lambda: list(backend.scan("a")),
            backend.snapshot,
        ):
            with pytest.raises(DRIVER_ERRORS[driver]) as caught:
                call()
            assert caught.value.engine_message == "mdb_something: words of the driver"
            assert caught.value.engine == "lmdb"
            assert caught.value.path == backend.path
            assert isinstance(caught.value.__cause__, lmdb.Error)
