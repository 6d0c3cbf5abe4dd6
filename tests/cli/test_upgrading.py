"""kvdialect upgrade: what differs is shown, asked for, and done; and bench, info and what Ctrl-C leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from cli_records import json_of, make, run

from kvdialect import create_engine, exc
from kvdialect.cli import looking
from kvdialect.store import building

pytest.importorskip("apsw", reason="the stores have tables made by SQL; runs where full is installed")

pytestmark = pytest.mark.engine("lmdb")

MODELS = '''\
"""The next version of a program."""
import sqlalchemy as sa
from kvdialect import Bytes4, Mapped, UInt16, field, mapped, registry

models = registry()
refused = registry()


@mapped(models)
class Part:
    __tablename__ = "parts"
    __table_args__ = (sa.Index("by_name", "name"), sa.Index("by_number", "number"))
    code: Mapped[Bytes4] = field(primary_key=True)
    number: Mapped[int] = field(primary_key=True)
    name: Mapped[str]
    price: Mapped[float | None] = None
    stock: Mapped[UInt16] = 3


@mapped(refused)
class Wrong:
    __tablename__ = "parts"
    code: Mapped[Bytes4] = field(primary_key=True)
    number: Mapped[int] = field(primary_key=True)
    name: Mapped[int]
    price: Mapped[float | None] = None
'''


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A closed store, with a program's next version in the working directory."""
    make(f"lmdb:///{tmp_path}/store", rows=3)
    (tmp_path / "next_version.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "store"
    sys.modules.pop("next_version", None)


SHOWN = """\
table parts
  column stock: not in the store (rows that are there read as 3)
  index by_number: not in the store (it is built online)
  index dear: not in the model (it is kept up; models.upgrade(engine) drops it)
"""


def test_an_upgrade_is_shown_and_asked_for(path):
    """No: nothing is changed, exit code 1. Yes: it is done, and a second time there is nothing to do."""
    result = run("upgrade", path, "next_version:models", input="n\n", code=1)
    assert result.stdout == SHOWN
    assert "upgrade? [y/N]" in result.stderr
    assert "stock" not in run("scan", path, "parts").stdout

    result = run("upgrade", path, "next_version:models", input="y\n")
    assert result.stdout == f"{SHOWN}upgraded\n"
    lines = run("scan", path, "parts", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["stock"] for line in lines] == [3, 3, 3]
    assert "what the records declare" in run("upgrade", path, "next_version:models").stderr
    assert run("verify", path).stdout.endswith("nothing is wrong\n")


def test_a_dry_run_changes_nothing(path):
    assert run("upgrade", path, "next_version:models", "--dry-run", code=1).stdout == SHOWN
    found = json_of("upgrade", path, "next_version:models", "--dry-run", code=1)
    assert [each["subject"] for each in found["differences"]] == ["column stock", "index by_number", "index dear"]
    assert json_of("upgrade", path, "next_version:models", "--yes")["upgraded"]
    assert json_of("upgrade", path, "next_version:models", "--dry-run") == {"differences": [], "upgraded": False}


def test_what_is_refused_changes_nothing(path):
    result = run("upgrade", path, "next_version:refused", "--yes", code=1)
    assert "! column name: a str" in result.stdout
    assert "refused: 1 of 3; nothing was changed" in result.stderr


@pytest.mark.parametrize("name", ["next_version", "next_version:nothing", "no_such_module:models", "os:path"])
def test_what_names_no_registry(path, name):
    with pytest.raises(exc.ArgumentError, match=r"registry|there is no"):
        run("upgrade", path, name)


def test_an_upgrade_that_was_interrupted_goes_on(path, monkeypatch):
    """Ctrl-C while an index is built: the message says what is done, and the next run builds the rest."""
    step = building._Builder.step

    def interrupted(_self):
        raise KeyboardInterrupt

    monkeypatch.setattr(building._Builder, "step", interrupted)
    result = run("upgrade", path, "next_version:models", "--yes", code=130)
    assert "go on when this is called again" in result.stderr
    assert "by_number (number) building" in run("tables", path).stdout
    monkeypatch.setattr(building._Builder, "step", step)
    assert run("upgrade", path, "next_version:models", "--yes").stdout.endswith("upgraded\n")


# ------------------------------------------------------------------------------------------ the rest


def test_bench_measures_beside_the_store_and_leaves_nothing(tmp_path):
    found = json_of("bench", f"lmdb:///{tmp_path}/none", "--rows", 1000, "--commits", 2)
    assert found["engine"] == "lmdb"
    assert {each["count"] for each in found["measured"]} == {1000, 2}
    assert all(each["per second"] > 0 for each in found["measured"])
    assert os.listdir(tmp_path) == []
    assert "records: gets, decoded" in run("bench", "memory://", "--rows", 1000, "--commits", 2).stdout


def test_info_lists_families_indexes_and_readers(path):
    """A program that reads an LMDB store in another process is named, with the commit that it sees."""
    found = json_of("info", path)
    families = {each["name"]: each for each in found["families"]}
    assert families["parts"]["table"] == "parts"
    assert families["parts"]["keys"] == 3
    assert families["parts"]["bytes"] > 0
    assert families["own"]["table"] == ""
    indexes = {each["name"]: each["columns"] for each in found["indexes"]}
    assert indexes["dear"] == "(price) where price > 5"
    assert indexes["low"] == "(lower(name)) WHERE pop > 3"
    assert (found["storage format"], found["catalog format"], found["readers"]) == (1, 1, [])

    program = (
        "import sys\nfrom kvdialect import create_engine\n"
        f"with create_engine({f'lmdb:///{path}'!r}).backend.snapshot() as snapshot:\n"
        "    print(snapshot.moment, flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        moment = int(other.stdout.readline())
        assert {"pid": other.pid, "transaction": moment} in json_of("info", path)["readers"]
        assert str(other.pid) in run("info", path).stdout
    finally:
        other.communicate("")


def test_ctrl_c_ends_any_command_with_130(path, monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(looking, "selected", interrupted)
    assert "interrupted" in run("scan", path, "parts", code=130).stderr
    with create_engine(f"lmdb:///{path}") as engine:
        assert engine.catalog.entries
