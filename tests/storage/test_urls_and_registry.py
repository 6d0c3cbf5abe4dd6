"""Opening by URL: what is understood, which class serves it, what is said when a driver is missing."""

import subprocess
import sys

import pytest
from sqlalchemy import make_url

from kvdialect import backends, exc, open_backend
from kvdialect.storage import known_engines, load_backend
from kvdialect.storage.memory import MemoryBackend


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is no URL of a store; it looks like rocksdb:///relative/path"),
        ("/var/lib/coins", "is no URL of a store"),
        ("lmdb:/var", "is no URL of a store"),
        ("lmdb//var", "is no URL of a store"),
        ("lmdb://var/lib/coins", "names a host; a path follows three slashes: lmdb:///var/lib/coins"),
        ("lmdb://localhost:5432/coins", "names a host"),
        ("lmdb://user:secret@/coins", "names a host"),
        ("lmbd:///x", r"unknown engine: 'lmbd' \(did you mean 'lmdb'\?\); known: .*lmdb, memory, .*rocksdb"),
        ("rocks:///x", "did you mean 'rocksdb'"),
        ("postgresql:///x", "unknown engine: 'postgresql'; known: "),
        ("memory:///a%00b", "NUL"),
    ],
)
def test_url_that_is_not_understood_is_refused(url, message):
    """The message shows what a URL looks like, or the nearest engine."""
    with pytest.raises(exc.ArgumentError, match=message):
        open_backend(url)


@pytest.mark.parametrize("url", [None, 5, b"memory://", ["memory://"]], ids=repr)
def test_url_of_a_wrong_type_is_refused(url):
    """Nothing but a str or a URL of SQLAlchemy's."""
    with pytest.raises(exc.ArgumentError, match="is no URL of a store"):
        open_backend(url)


def test_password_in_a_refused_url_is_not_shown():
    """A URL pasted from another database does not put its password into a log."""
    with pytest.raises(exc.ArgumentError) as caught:
        open_backend(make_url("lmdb://user:secret@host/coins"))

    assert "secret" not in str(caught.value)


@pytest.mark.engine("lmdb")
@pytest.mark.parametrize("url", ["lmdb://", "lmdb:///"])
def test_engine_on_disk_needs_a_path(url):
    """Without a path there is nothing to open."""
    with pytest.raises(exc.ArgumentError, match="needs a path, such as lmdb:///data/kv"):
        open_backend(url)


def test_url_object_of_sqlalchemy_is_taken():
    """So is what make_url gives."""
    with open_backend(make_url("memory://"), ["a"]) as backend:
        assert backend.column_families() == ["a"]


def test_option_given_twice_in_a_url_is_refused():
    """Which of the two was meant is not guessed."""
    with pytest.raises(exc.ArgumentError, match="given 2 times"):
        open_backend("memory://?durability=none&durability=sync")


def test_named_memory_stores_are_shared_and_anonymous_ones_are_not():
    """memory:///name is one store in the process while it is open; memory:// is a new one each time."""
    with open_backend("memory:///shared", ["a"]) as one, open_backend("memory:///shared") as two:
        one.put("a", b"k", b"v")
        assert two.get("a", b"k") == b"v"
    with open_backend("memory:///shared") as again:
        assert again.column_families() == []
    with open_backend("memory://", ["a"]) as one, open_backend("memory://") as two:
        assert two.column_families() == []
        assert one.column_families() == ["a"]


def test_built_in_engines_are_known():
    """They are listed whether or not their drivers are installed."""
    assert {"lmdb", "memory", "rocksdb"} <= set(known_engines())


def test_registered_backend_serves_its_name():
    """backends.register() makes a class of any module an engine."""
    backends.register("mine", "kvdialect.storage.memory", "MemoryBackend")

    assert "mine" in known_engines()
    assert load_backend("mine") is MemoryBackend
    with open_backend("mine://", ["a"]) as backend:
        assert backend.column_families() == ["a"]


def test_registered_class_that_is_no_backend_is_refused():
    """Something else under a registered name is named in the error."""
    backends.register("wrong", "collections", "OrderedDict")

    with pytest.raises(exc.ArgumentError, match="no subclass of StorageBackend"):
        open_backend("wrong:///x")


def test_registered_module_that_fails_to_import_shows_its_own_error():
    """A third party's broken import is not said to be a missing driver of ours."""
    backends.register("broken", "no_such_module_anywhere", "Backend")

    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        open_backend("broken:///x")


MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[2].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from kvdialect import exc, open_backend
try:
    open_backend(sys.argv[1], ["a"])
except exc.BackendNotInstalled as error:
    print(error.message)
    print(error.engine, error.path, error.extras, error.retryable)
else:
    print("opened")
"""


def open_without(url, *drivers):
    """Open a store in a process in which some drivers are not installed."""
    command = [sys.executable, "-c", MISSING, url, ",".join(drivers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


DRIVERS = {"lmdb": "lmdb", "rocksdb": "rocksdict"}


@pytest.mark.parametrize("engine", DRIVERS)
def test_missing_driver_is_named_with_its_extra(engine, tmp_path):
    """The error names the engine, the path and the extra, and creates nothing."""
    driver = DRIVERS[engine]
    path = f"{tmp_path}/store"

    message, facts = open_without(f"{engine}:///{path}", driver)

    assert message.startswith(
        f"the driver of engine '{engine}', {driver}, is not installed (wanted for {path});"
        f' run: pip install "kvdialect[{engine}]"'
    )
    assert facts.startswith(f"{engine} {path} ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", DRIVERS)
def test_without_any_driver_both_extras_are_named(engine, tmp_path):
    """Whoever has neither learns of both."""
    message, facts = open_without(f"{engine}:///{tmp_path}/store", *DRIVERS.values())

    assert 'pip install "kvdialect[lmdb]"' in message
    assert 'pip install "kvdialect[rocksdb]"' in message
    assert "['lmdb', 'rocksdb']" in facts


def test_memory_needs_no_driver():
    """Nor does importing the package."""
    assert open_without("memory://", *DRIVERS.values()) == ["opened"]


@pytest.mark.engine("lmdb")
def test_lmdb_needs_no_other_driver(tmp_path):
    """A program on one engine does not import the other."""
    assert open_without(f"lmdb:///{tmp_path}/store", "rocksdict") == ["opened"]
