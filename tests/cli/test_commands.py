"""The command ``kvdialect`` as a user types it, on stores whose classes are not at hand."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import pytest
from sqlalchemy import Index

pytest.importorskip("click")
pytest.importorskip("rich")

from click.testing import CliRunner

from kvdialect import Bytes4, Mapped, Session, create_engine, exc, field, mapped, registry
from kvdialect.cli.commands import group

models = registry()


@mapped(models)
class Part:
    """A record with a key of two columns."""

    __tablename__ = "parts"
    __table_args__ = (Index("by_name", "name"),)
    code: Mapped[Bytes4] = field(primary_key=True)
    number: Mapped[int] = field(primary_key=True)
    name: Mapped[str]
    price: Mapped[float | None] = None


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.engine(name)) for name in ("lmdb", "rocksdb")])
def name(request):
    """An engine whose stores outlive their process."""
    return request.param


@pytest.fixture
def path(name, tmp_path):
    """The path of a closed store."""
    with create_engine(f"{name}:///{tmp_path}/store") as engine:
        models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all([Part(n.to_bytes(4), -n, f"[bold]part {n}", n / 4 or None) for n in range(30)])
    return tmp_path / "store"


def run(*arguments, code=0, input=None):  # noqa: A002 - click's name
    result = CliRunner().invoke(group, [str(each) for each in arguments], input=input)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def lines(*arguments):
    return [json.loads(line) for line in run(*arguments).splitlines()]


def test_what_a_store_is(path, name):
    [found] = lines("info", path, "--json")
    assert (found["engine"], found["tables"], found["column families"]) == (name, 1, 2)
    assert found["bytes on disk"] > 4096
    assert "schema version" in run("info", f"{name}:///{path}")


def test_the_tables(path):
    [found] = lines("tables", path, "--format", "json")
    assert found == {
        "table": "parts",
        "rows": 30,
        "primary key": "code, number",
        "columns": 4,
        "indexes": "by_name (name)",
    }
    assert "by_name (name)" in run("tables", path)


def test_a_record_by_its_key(path):
    [found] = lines("get", path, "parts", "--json", "--", "0x00000003", "-3")
    assert found == {"code": "0x00000003", "number": -3, "name": "[bold]part 3", "price": 0.75}
    assert "[bold]part 3" in run("get", path, "parts", "--", "00000003", "-3")
    with pytest.raises(exc.ProgrammingError, match="no record with this key"):
        run("get", path, "parts", "--", "00000003", "3")
    with pytest.raises(exc.DataError, match="write it as hexadecimal digits"):
        run("get", path, "parts", "xyz", "1")
    assert (
        "the primary key of parts is (code, number)"
        in CliRunner().invoke(group, ["get", str(path), "parts", "1"]).output
    )


def test_records_in_order(path):
    found = lines("scan", path, "parts", "--limit", "3", "--reverse", "--format", "json")
    assert [row["number"] for row in found] == [-29, -28, -27]
    assert len(lines("scan", path, "parts", "--limit", "0", "--format", "json")) == 30
    rows = list(csv.DictReader(run("scan", path, "parts", "--format", "csv", "--limit", "2").splitlines()))
    assert rows[0] == {"code": "0x00000000", "number": "0", "name": "[bold]part 0", "price": ""}
    assert "[bold]part 5" in run("scan", path, "parts"), "no markup in what is stored"
    [raw] = lines("scan", path, "parts", "--raw", "--limit", "1", "--format", "json")
    assert raw["key"].startswith("0x00000000")


def test_statements(path):
    pytest.importorskip("apsw")
    [found] = lines("sql", path, "select count(*) n, max(number) m from parts where price > 1", "--format", "json")
    assert found == {"n": 25, "m": -5}
    with pytest.raises(exc.ReadOnlyStore):
        run("sql", path, "delete from parts")
    with pytest.raises(exc.OperationalError, match="no such table: towns"):
        run("sql", path, "select * from towns")
    run("sql", path, "--write", "delete from parts where number < -9")
    assert lines("tables", path, "--format", "json")[0]["rows"] == 10


def test_figures(path):
    [found] = lines("stats", path, "--json")
    assert found["tables"]["parts"]["rows"] == 30
    assert "tables" in run("stats", path)


def test_verify_and_repair(path, name):
    """The exit code says whether anything is wrong."""
    assert "nothing is wrong" in run("verify", path)
    with create_engine(f"{name}:///{path}") as engine:
        entry = next(key for key, _ in engine.backend.scan("by_name"))
        engine.backend.delete("by_name", entry)

    assert "missing entry" in run("verify", path, "parts", code=1)
    [finding] = json.loads(run("verify", path, "--json", code=1))["findings"]
    assert (finding["kind"], finding["index"], finding["key"]) == ("missing entry", "by_name", f"0x{entry.hex()}")
    assert "(repaired)" in run("repair-indexes", path)
    assert json.loads(run("verify", path, "--json"))["ok"]


def test_backup_restore_and_compact(path, tmp_path):
    assert "nothing is wrong" in run("backup", path, tmp_path / "copy")
    assert "not read again" in run("backup", path, tmp_path / "other", "--no-verify")
    run("restore", tmp_path / "copy", tmp_path / "restored")
    assert lines("tables", tmp_path / "restored", "--format", "json") == lines("tables", path, "--format", "json")
    assert "bytes before" in run("compact", tmp_path / "restored")
    with pytest.raises(exc.ArgumentError, match="there is a store at"):
        run("backup", path, tmp_path / "copy")


def test_backup_restore_and_compact_for_machines(path, tmp_path):
    copied = json.loads(run("backup", path, tmp_path / "copy", "--json"))
    assert copied["path"] == str(tmp_path / "copy")
    assert copied["bytes on disk"] > 0
    verified = copied["verified"]
    assert (verified["ok"], verified["rows"], verified["findings"]) == (True, {"parts": 30}, [])
    unread = json.loads(run("backup", path, tmp_path / "other", "--no-verify", "--json"))
    assert unread["verified"] is None
    restored = json.loads(run("restore", tmp_path / "copy", tmp_path / "restored", "--json"))
    assert restored == {"path": str(tmp_path / "restored"), "bytes on disk": restored["bytes on disk"]}
    smaller = json.loads(run("compact", tmp_path / "restored", "--json"))
    assert {"parts", "by_name"} <= set(smaller["families"])
    assert smaller["bytes before"] > 0
    assert smaller["bytes on disk"] > 0


def test_beside_a_program_that_has_it_open(path, name):
    """LMDB is read as it is; of RocksDB what is on the disk, and the output says so."""
    program = (
        "import sys; from kvdialect import create_engine\n"
        f"engine = create_engine({f'{name}:///{path}'!r}); print('open', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "open\n"
        result = CliRunner().invoke(group, ["tables", str(path), "--format", "json"])
        assert json.loads(result.stdout)["rows"] == 30
        assert (f"is open in pid {other.pid}" in result.stderr) == (name == "rocksdb")
        assert json.loads(run("verify", path, "--json"))["ok"]
        if name == "rocksdb":
            with pytest.raises(exc.StoreLocked):
                run("repair-indexes", path)
    finally:
        other.communicate("")


@pytest.mark.engine("lmdb")
def test_what_is_no_store(tmp_path):
    for command in (["info"], ["repair-indexes"], ["sql", "--write"]):
        arguments = [
            command[0],
            f"lmdb:///{tmp_path}/none",
            *command[1:],
            *(["select 1"] if command[0] == "sql" else []),
        ]
        with pytest.raises(exc.NotAStore):
            run(*arguments)
    with pytest.raises(exc.NotAStore, match="give its URL or its path"):
        run("info", tmp_path / "none")
    with pytest.raises(exc.ArgumentError, match="memory store"):
        run("info", "memory:///x")
    assert os.listdir(tmp_path) == []


def test_without_its_extra_the_command_says_what_to_install():
    program = "import sys; sys.modules['click'] = None; from kvdialect.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == 'the command needs click and rich: pip install "kvdialect[cli]"\n'


def test_the_command_as_it_is_installed(path):
    """Errors go to standard error with exit code 3, without a traceback."""
    command = [sys.executable, "-m", "kvdialect.cli"]
    done = subprocess.run([*command, "get", str(path), "towns", "1"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("ProgrammingError: the store has no table 'towns'")
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert "0.1" in done.stdout
    assert subprocess.run([*command, "nonsense"], capture_output=True, check=False).returncode == 2
