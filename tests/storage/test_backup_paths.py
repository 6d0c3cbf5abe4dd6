"""Where a backup may be made, and what may be restored to where."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvdialect import exc, open_backend, restore

ENGINES = [
    pytest.param("lmdb", marks=pytest.mark.engine("lmdb")),
    pytest.param("rocksdb", marks=pytest.mark.engine("rocksdb")),
]


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store with one row."""
    url = f"{request.param}:///{tmp_path / 's'}"
    with open_backend(url, ["a"]) as backend:
        backend.put("a", b"k", b"v")
    return url


@pytest.mark.parametrize("where", ["s/b", "s/sub/b", "link/b", "s/../s/b"])
def test_a_backup_within_the_store_is_refused(url: str, tmp_path: Path, where: str) -> None:
    """It was made, and the store with it could not be restored from."""
    (tmp_path / "link").symlink_to(tmp_path / "s", target_is_directory=True)

    with open_backend(url) as backend:
        with pytest.raises(exc.ArgumentError, match="is in the store at"):
            backend.backup(tmp_path / where)

        backend.backup(tmp_path / "s2")

    assert not [entry for entry in (tmp_path / "s").iterdir() if entry.is_dir()]
    restore(tmp_path / "s", tmp_path / "r")


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("where", ["s/r", "s/sub/r", "link/r"])
def test_a_restore_into_its_source_is_refused(tmp_path: Path, where: str) -> None:
    """It was made of a directory that grew as it was copied."""
    (tmp_path / "link").symlink_to(tmp_path / "s", target_is_directory=True)

    with pytest.raises(exc.ArgumentError, match="is in the store at"):
        restore(tmp_path / "s", tmp_path / where)

    assert not [entry for entry in (tmp_path / "s").iterdir() if entry.is_dir()]


@pytest.mark.usefixtures("url")
def test_a_directory_in_the_source_is_named(tmp_path: Path) -> None:
    """The message was that a store could not be created at the target, which is a directory."""
    (tmp_path / "s" / "mine").mkdir()

    with pytest.raises(exc.ArgumentError, match="which is no part of a store") as caught:
        restore(tmp_path / "s", tmp_path / "r")

    assert str(tmp_path / "s" / "mine") in caught.value.message
    assert caught.value.path == str(tmp_path / "s")
    assert not (tmp_path / "r").exists()
