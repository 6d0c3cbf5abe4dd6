"""Creating a store: whole or not at all, wherever the path lies (hazard 20)."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import URL

from kvdialect import exc, open_backend
from kvdialect.storage.closing import NOTE
from kvdialect.storage.storedir import MARKER

pytestmark = pytest.mark.engine("lmdb")

# Points at which creation is cut off: each is a function that runs during it.
POINTS = {
    "before the engine's files": ("kvdialect.storage.lmdb.engine.lmdb.open", 1),
    "after the engine's files": ("kvdialect.storage.storedir._write_marker", 1),
    "half-written marker": ("os.replace", 1),
    "after the marker": ("kvdialect.storage.storedir._sync_tree", 1),
    "before the rename": ("os.rename", 1),
    "after the rename": ("kvdialect.storage.storedir.sync", -1),
}

KILLED = """
import os, sys
sys.path[:0] = []
from kvdialect import open_backend
import kvdialect.storage.lmdb.engine, kvdialect.storage.storedir, importlib
where, nth = sys.argv[2], int(sys.argv[3])
parts = where.split(".")
for cut in range(len(parts) - 1, 0, -1):
    try:
        owner = importlib.import_module(".".join(parts[:cut]))
        break
    except ModuleNotFoundError:
        pass
for part in parts[cut:-1]:
    owner = getattr(owner, part)
original, calls = getattr(owner, parts[-1]), []
def cut_off(*args, **kwargs):
    calls.append(1)
    if nth > 0 and len(calls) == nth or nth < 0 and os.path.exists(os.path.join(PATH, "KVDIALECT")):
        os.kill(os.getpid(), 9)
    return original(*args, **kwargs)
PATH = sys.argv[1].removeprefix("lmdb:///")
setattr(owner, parts[-1], cut_off)
if len(sys.argv) > 4:  # as where no directory can be made beside the path
    mkdir = os.mkdir
    def refuse(path, *args, **kwargs):
        if ".store.kvdialect-creating" in str(path): raise PermissionError(13, "not here", path)
        return mkdir(path, *args, **kwargs)
    os.mkdir = refuse
open_backend(sys.argv[1], ["a"])
print("not cut off")
"""


def create_and_kill(url, where, nth, *more):
    command = [sys.executable, "-c", KILLED, url, where, str(nth), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9, f"it was not cut off: {done.stdout}{done.stderr}"


def assert_usable(url, path):
    """The store can be created or opened, works, and nothing unfinished is left."""
    with open_backend(url, ["a"]) as backend:
        backend.put("a", b"k", b"v")
    with open_backend(url) as backend:
        assert backend.get("a", b"k") == b"v"
    assert set(os.listdir(path)) - {NOTE} == {"KVDIALECT", "data.mdb", "kvdialect.lock", "lock.mdb"}
    assert [entry for entry in os.listdir(os.path.dirname(path)) if "creating" in entry] == []


@pytest.mark.parametrize(("where", "nth"), POINTS.values(), ids=POINTS)
def test_kill_during_creation_leaves_nothing_or_a_store(url, path, where, nth):
    """At its path there is nothing or a whole store, and the next opening clears what lay beside it."""
    create_and_kill(url, where, nth)

    assert not os.path.exists(path) or os.path.exists(os.path.join(path, MARKER))
    assert_usable(url, path)


IN_PLACE = {name: point for name, point in POINTS.items() if "rename" not in name} | {
    "before the first note": ("os.replace", 1),
    "before the note of its files": ("os.replace", 2),
    "before its files move": ("os.rename", 1),
    "after they moved": ("os.rmdir", 1),
    "half-written marker": ("os.replace", 3),
    "before the note goes": ("os.remove", 1),
}


@pytest.mark.parametrize("existing", [True, False], ids=["into an empty directory", "into none"])
@pytest.mark.parametrize(("where", "nth"), IN_PLACE.values(), ids=IN_PLACE)
def test_kill_during_creation_in_place_is_taken_up_again(url, path, where, nth, existing):
    """Where the store is made in place the marker comes last: without it, the next opening starts afresh."""
    if existing:
        os.mkdir(path)
    create_and_kill(url, where, nth, "in place")

    with pytest.raises(exc.NotAStore) if not os.path.exists(os.path.join(path, MARKER)) else open_backend(url):
        open_backend(f"{url}?mode=ro")
    assert_usable(url, path)


def test_rubble_of_an_unfinished_creation_is_cleared(url, path):
    """What the note of an unfinished creation names was moved there by it, and what it was made in is its own."""
    os.makedirs(os.path.join(path, ".kvdialect-creating-00", "below"))
    for name in ("KVDIALECT.creating.new", "KVDIALECT.new", "lock.mdb", "data.mdb"):
        Path(path, name).write_bytes(b"half" * 999)
    Path(path, "KVDIALECT.creating").write_text('["data.mdb", "lock.mdb", "KVDIALECT.new"]')

    assert_usable(url, path)


def test_what_somebody_put_beside_it_is_left_alone(url, path):
    """A note of an unfinished creation is no leave to remove what it does not name."""
    os.mkdir(path)
    Path(path, "KVDIALECT.creating").write_text('["data.mdb", "../letter.txt"]')
    for name in ("letter.txt", "../letter.txt"):
        Path(path, name).write_text("mine")
    with pytest.raises(exc.NotAStore, match=r"letter\.txt beside what the interrupted creation"):
        open_backend(url)

    assert Path(path, "letter.txt").read_text() == Path(path, "../letter.txt").read_text() == "mine"


def test_failed_creation_leaves_nothing(url, path, monkeypatch):
    """An error on the way removes what was made so far."""

    def fail(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kvdialect.storage.storedir._write_marker", fail)
    with pytest.raises((exc.BackendError, OSError)) as caught:
        open_backend(url)
    monkeypatch.undo()

    assert isinstance(caught.value, exc.BackendError)
    assert os.listdir(os.path.dirname(path)) == []
    open_backend(url).close()


def test_processes_that_create_at_once_share_one_store(start, url, path):
    """Whoever comes second uses the store of the first."""
    scripts = [
        start('b = open_backend(URL, ["a", sys.argv[2]]); b.put("a", sys.argv[2].encode(), b"v"); b.close()', url, name)
        for name in ("p", "q", "r", "s")
    ]
    for script in scripts:
        script.finish()

    with open_backend(url) as backend:
        assert backend.column_families() == ["a", "p", "q", "r", "s"]
        assert [key for key, _ in backend.scan("a")] == [b"p", b"q", b"r", b"s"]
    assert os.listdir(os.path.dirname(path)) == ["store"]


def test_threads_that_open_at_once_share_one_engine(url):
    """Two threads that open a new store at the same time get the same one."""
    handles = []
    threads = [threading.Thread(target=lambda: handles.append(open_backend(url, ["a"]))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(handles) == 6
    assert len({handle.engine for handle in handles}) == 1
    for handle in handles:
        handle.close()


def test_leftovers_of_living_processes_are_left_alone(url, path):
    """Only what dead processes left beside the path is removed."""
    parent = os.path.dirname(path)
    alive = os.path.join(parent, f".store.kvdialect-creating-{os.getppid()}-00")
    other = os.path.join(parent, ".other.kvdialect-creating-999999999-00")
    dead = os.path.join(parent, ".store.kvdialect-creating-999999999-00")
    for directory in (alive, other, dead):
        os.mkdir(directory)

    open_backend(url).close()

    assert sorted(os.listdir(parent)) == sorted(["store", os.path.basename(alive), os.path.basename(other)])


ODD = {
    "spaces": "with some spaces",
    "unicode": "späti-ключ-鍵",
    "percent": "100%25 %2F %",
    "question mark": "a?mode=ro",
    "hash": "a#b",
    "quotes": 'it\'s "quoted"',
    "dots": "...",
    "colon and at": "user:word@host:1",
    "ampersand and equals": "a&b=c",
    "plus": "a+b",
    "newline": "a\nb",
    "backslash": "a\\b",
    "leading dash": "-rf",
    "hidden": ".store",
    "long": "x" * 250,
    "longest": "y" * 255,
}


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
@pytest.mark.parametrize("written", [True, False], ids=["text", "URL object"])
def test_odd_paths_are_taken_as_they_are(tmp_path, name, written):
    """The store lies exactly where the URL says, as text (where % and ? are written %25 and %3F) and as an object."""
    path = tmp_path / name
    url = (
        f"lmdb:///{path}".replace("%", "%25").replace("?", "%3F") if written else URL.create("lmdb", database=f"{path}")
    )
    with open_backend(url, ["a"]) as backend:
        backend.put("a", b"k", b"v")

        assert backend.path == os.path.realpath(path)
    assert os.listdir(tmp_path) == [name]
    with open_backend(url) as backend:
        assert backend.get("a", b"k") == b"v"


def test_path_longer_than_the_system_allows_is_a_typed_error(tmp_path):
    """The system's refusal comes out as this library's error, naming the path."""
    for path in (tmp_path / ("z" * 300), Path(tmp_path, *["d" * 200] * 30)):
        with pytest.raises(exc.BackendError, match="too long"):
            open_backend(f"lmdb:///{path}")

    assert os.listdir(tmp_path) == []


def test_parents_are_created(tmp_path):
    """A path several directories deep is made."""
    with open_backend(f"lmdb:///{tmp_path}/a/b/c/store", ["a"]) as backend:
        backend.put("a", b"k", b"v")

    assert os.listdir(tmp_path / "a" / "b" / "c") == ["store"]


def test_relative_path_is_relative_to_the_working_directory(tmp_path, monkeypatch):
    """Three slashes: relative; the open store does not follow a later chdir."""
    monkeypatch.chdir(tmp_path)
    with open_backend("lmdb:///data/kv", ["a"]) as backend:
        monkeypatch.chdir("/")
        backend.put("a", b"k", b"v")
        with backend.snapshot() as snapshot:
            assert snapshot.get("a", b"k") == b"v"

    assert (tmp_path / "data" / "kv" / MARKER).exists()


def test_file_at_the_path_is_no_store(tmp_path):
    """A file is named as such and left alone."""
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "below"):
        with pytest.raises((exc.NotAStore, exc.BackendError), match=r"file|[Nn]ot a directory"):
            open_backend(f"lmdb:///{path}")

    assert file.read_text() == "mine"


def test_directory_of_other_things_is_no_store(path):
    """A directory with anything in it is not filled up."""
    os.mkdir(path)
    Path(path, "letter.txt").write_text("mine")
    for mode in ("rw", "ro"):
        with pytest.raises(exc.NotAStore, match=r"letter\.txt"):
            open_backend(f"lmdb:///{path}?mode={mode}")

    assert os.listdir(path) == ["letter.txt"]


def test_empty_directory_becomes_a_store(url, path):
    """Whoever made the directory beforehand gets the store in it."""
    os.mkdir(path)

    assert_usable(url, path)


def test_dangling_link_is_filled_at_its_target(tmp_path):
    """The store is made where the link leads, and the link stays one."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with open_backend(f"lmdb:///{tmp_path}/link", ["a"]) as backend:
        backend.put("a", b"k", b"v")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target" / MARKER).exists()


def test_mount_point_becomes_a_store(tmp_path):
    """Nothing can be renamed over a mount point, so the store is made in place, whatever mkfs left there."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting needs root; .ci/run as root in a container runs this")
    path = tmp_path / "mounted"
    path.mkdir()
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=8m", "none", path], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {done.stderr.decode().strip()}; .ci/run as root runs it")
    try:
        (path / "lost+found").mkdir()
        url = f"lmdb:///{path}"
        with open_backend(url, ["a"]) as backend:
            backend.put("a", b"k", b"v")
        with open_backend(url) as backend:
            assert backend.get("a", b"k") == b"v"

        assert os.path.ismount(path)
        assert sorted(os.listdir(path)) == [
            "KVDIALECT",
            "KVDIALECT.closed",
            "data.mdb",
            "kvdialect.lock",
            "lock.mdb",
            "lost+found",
        ]
        assert os.listdir(tmp_path) == ["mounted"]
    finally:
        subprocess.run([shutil.which("umount"), "-l", path], check=True)


UNPRIVILEGED = """
import os, sys
from kvdialect import exc, open_backend
import kvdialect.storage.lmdb, lmdb._envid  # which the driver imports when first used
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for line in sys.argv[2:]:
    try:
        with open_backend(sys.argv[1] + line, ["a"]) as backend:
            if backend.capabilities.writable: backend.put("a", b"k", b"v")
            print("well", backend.get("a", b"k"))
    except exc.Error as error:
        print(type(error).__name__, error.message)
"""


def unprivileged(url, *queries):
    """Open a store as a user without rights; root is asked for nothing otherwise."""
    command = [sys.executable, "-c", UNPRIVILEGED, url, *queries]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def open_path(tmp_path):
    """A directory that every user may reach."""
    for directory in (tmp_path, *tmp_path.parents):
        if os.stat(directory).st_uid == os.geteuid() and directory != Path(directory.anchor):
            directory.chmod(0o755)
    return tmp_path


def test_parent_that_is_not_writable_still_allows_a_store_in_an_own_directory(open_path):
    """As with a mount: nothing can be made beside the path, so the store is made in place."""
    parent = open_path / "parent"
    path = parent / "own"
    path.mkdir(parents=True)
    path.chmod(0o777)
    parent.chmod(0o555)
    try:
        said = unprivileged(f"lmdb:///{path}", "", "")
    finally:
        parent.chmod(0o755)

    assert said == ["well b'v'"] * 2
    assert set(os.listdir(path)) - {NOTE} == {"KVDIALECT", "data.mdb", "kvdialect.lock", "lock.mdb"}


def test_path_without_rights_is_a_typed_error(open_path):
    """No right to create the path: this library's error names it."""
    parent = open_path / "parent"
    parent.mkdir()
    parent.chmod(0o555)
    try:
        (said,) = unprivileged(f"lmdb:///{parent}/store", "")
    finally:
        parent.chmod(0o755)

    assert said.startswith("BackendError cannot create")
    assert str(parent) in said


def test_store_without_the_right_to_write_is_a_typed_error(open_path):
    """A store of another user's, readable only: opening it for writing fails in this library's words."""
    path = open_path / "store"
    with open_backend(f"lmdb:///{path}", ["a"]) as backend:
        backend.put("a", b"k", b"v")
    for entry in (path, *path.iterdir()):
        entry.chmod(0o755 if entry.is_dir() else 0o444)
    if os.geteuid() != 0:
        path.chmod(0o555)

    (said,) = unprivileged(f"lmdb:///{path}", "")

    path.chmod(0o755)
    assert said.split()[0] in ("BackendError", "ReadOnlyStore")
    assert "ermission denied" in said
