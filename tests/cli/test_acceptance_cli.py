"""What a new user of the command line tried, and found to lose data, to end in a traceback, or to mislead."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from cli_records import run

from kvdialect import create_engine, exc

pytest.importorskip("apsw", reason="the stores have tables made by SQL; runs where full is installed")

pytestmark = pytest.mark.engine("lmdb")


@pytest.fixture
def store(tmp_path):
    return f"lmdb:///{tmp_path}/store"


def _file(tmp_path, text, name="in.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def _rows(store, table, *options):
    lines = run("scan", store, table, "--format", "json", *options).stdout.splitlines()
    return [json.loads(line) for line in lines]


def _refused(words, *arguments):
    with pytest.raises(exc.Error, match=words):
        run(*arguments)


def _made(store, *statements):
    """A store with what SQL makes."""
    with create_engine(store) as engine, engine.sqlalchemy().begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_two_columns_of_one_name_are_refused(store, tmp_path):
    """The catalog entry could not be read again, and with it nothing in the store."""
    file = _file(tmp_path, "id,v\n1,2\n")
    run("import", store, "good", file, "--create", "--primary-key", "id")
    columns = ["--column", "id BIGINT", "--column", "v BIGINT", "--column"]
    for last in ("v BIGINT", "V TEXT"):
        _refused("two columns are called", "import", store, "bad", file, *columns, last, "--primary-key", "id")
    _refused("names 'id' twice", "import", store, "bad", file, "--create", "--primary-key", "id,id")
    assert _rows(store, "good") == [{"id": 1, "v": 2}]


def test_numbers_that_no_type_holds_stay_text(store, tmp_path):
    """As floats two of them were one, and a row was lost."""
    lines = "code,n,f\n12345678901234567890123,0.5,1.5\n12345678901234567890124,9007199254740993,2\n"
    run("import", store, "t", _file(tmp_path, lines), "--create", "--primary-key", "code")
    assert _rows(store, "t") == [
        {"code": "12345678901234567890123", "n": "0.5", "f": 1.5},
        {"code": "12345678901234567890124", "n": "9007199254740993", "f": 2.0},
    ]


def test_a_value_that_stands_for_null_is_refused(store, tmp_path):
    """Of any type: it came back as NULL."""
    lines = "id,f,i\n1,NaN,0\n2,1.5,7\n3,,\n"
    columns = ["--column", "id BIGINT", "--column", "f DOUBLE NULL", "--column", "i BIGINT NULL", "--primary-key", "id"]
    run("import", store, "t", _file(tmp_path, lines), *columns)
    for null in ("NaN", "0"):
        _refused(f"is {null!r}, which stands", "export", store, "t", tmp_path / "out.csv", "--null", null)
    assert not (tmp_path / "out.csv").exists()


def test_the_text_for_null_says_nothing_of_a_columns_type(store, tmp_path):
    """A column of numbers became one of text for it."""
    file = _file(tmp_path, "id,n\n1,NA\n2,5\n")
    run("import", store, "t", file, "--create", "--primary-key", "id", "--null", "NA")
    assert _rows(store, "t") == [{"id": 1, "n": None}, {"id": 2, "n": 5}]


def test_columns_of_any_name_are_printed_as_options_that_say_the_same(store, tmp_path):
    """Spaces and quotes in a head are usual."""
    file = _file(tmp_path, 'id,a b,"say ""x"""\n1,2,3\n')
    told = run("import", store, "t", file, "--create", "--primary-key", "id").stderr
    options = shlex.split(next(line for line in told.splitlines() if line.startswith("made table t: "))[14:])
    run("import", f"{store}2", "t", file, *options)
    assert _rows(f"{store}2", "t") == _rows(store, "t") == [{"id": 1, "a b": 2, 'say "x"': 3}]


def test_conditions_as_values_are_printed(store):
    """Blobs and infinities of a table made by SQL; and a quote that is not closed is no name."""
    _made(
        store,
        "create table t (id integer primary key, x)",
        "insert into t values (1, x'05'), (2, 9e999), (3, 'a')",
    )
    assert _rows(store, "t", "--where", 'x = {"blob": "0x05"}') == [{"id": 1, "x": {"blob": "0x05"}}]
    assert [row["id"] for row in _rows(store, "t", "--where", 'x = {"float": "Infinity"}')] == [2]
    _refused("no column", "scan", store, "t", "--where", '"idx = 1')


@pytest.mark.parametrize("key", ["1.5", "99999999999999999999", "1e30", "one"])
def test_what_is_no_rowid_is_refused(store, key):
    """By a message, and no traceback."""
    _made(store, "create table t (a)")
    _refused("is no primary key|write it as an integer", "get", store, "t", key)
    _made(store, "create table u (id integer primary key)")
    _refused("is no primary key|write it as an integer", "get", store, "u", key)


def test_a_pipe_that_nobody_reads_is_no_error(store, tmp_path):
    """Exit code 1 says that something is wrong in the store."""
    run("import", store, "t", _file(tmp_path, "id,v\n1,2\n"), "--create", "--primary-key", "id")
    program = [sys.executable, "-m", "kvdialect.cli", "tables", store]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), errors) == (0, b"")


def test_closed_and_full_outputs_give_no_traceback(store, tmp_path):
    """As shells and services leave them."""
    run("import", store, "t", _file(tmp_path, "id,v\n1,2\n"), "--create", "--primary-key", "id")
    command = f"{sys.executable} -m kvdialect.cli"
    for line, code in (
        (f"{command} scan {store} t >&-", 0),
        (f"{command} scan {store} t --format csv >&-", 0),
        (f"{command} import {store} t --format csv <&-", None),
        (f"{command} --help >/dev/full", 3),
    ):
        found = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False)
        assert "Traceback" not in found.stderr, line
        assert code is None or found.returncode == code, line


def test_what_is_stored_does_not_steer_the_terminal(store):
    """Escape sequences of a value are shown, and not obeyed."""
    _made(store, "create table t (a text)", "insert into t values (char(27) || '[31mred' || char(0))")
    printed = run("scan", store, "t").stdout
    assert "\x1b" not in printed
    assert r"\x1b[31mred\x00" in printed


def test_a_backup_is_made_at_a_path(store, tmp_path):
    """A URL as the path made a directory called ``lmdb:``."""
    run("import", store, "t", _file(tmp_path, "id,v\n1,2\n"), "--create", "--primary-key", "id")
    _refused("is a URL", "backup", store, f"lmdb:///{tmp_path}/copy")
    run("backup", store, tmp_path / "copy")
    _refused("is a URL", "restore", tmp_path / "copy", "lmdb:///x")


@pytest.mark.parametrize("bad", [2, 700, 5501])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_bytes_that_are_no_text_are_named_by_their_line(store, tmp_path, bad, form):
    """The decoder reads ahead, and the line named was that of the record before."""
    lines = [b'{"id": %d, "v": "x"}' % n if form == "jsonl" else b"%d,x" % n for n in range(6000)]
    if form == "csv":
        lines.insert(0, b"id,v")
    lines[bad - 1] = lines[bad - 1].replace(b"x", b"\xe9x")
    (tmp_path / f"in.{form}").write_bytes(b"\n".join(lines))
    words = rf"in\.{form}, line {bad}: the byte 0xe9 is not UTF-8"
    columns = ["--column", "id BIGINT", "--column", "v TEXT", "--primary-key", "id"]
    _refused(words, "import", store, "t", tmp_path / f"in.{form}", *columns)
