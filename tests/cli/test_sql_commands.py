"""kvdialect sql, its shell, and explain; scan with conditions."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest
from cli_records import json_of, make, run

from kvdialect import exc
from kvdialect.cli.shell import complete

pytest.importorskip("apsw", reason="SQL needs the extra sql; runs where full is installed")

pytestmark = pytest.mark.engine("lmdb")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A closed store, which the tests only read."""
    path = tmp_path_factory.mktemp("shared") / "store"
    make(f"lmdb:///{path}")
    return path


@pytest.fixture
def path(tmp_path):
    """A closed store."""
    make(f"lmdb:///{tmp_path}/store", rows=3)
    return tmp_path / "store"


def names(*arguments):
    return [json.loads(line)["name"] for line in run("scan", *arguments, "--format", "json").stdout.splitlines()]


# ------------------------------------------------------------------------------------------ scan


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (["name = part 7"], ["part 7"]),
        (["price > 6.5", "price <= 7"], ["part 27", "part 28"]),
        (["code = 0x00000005"], ["part 5"]),
        (["price IS NULL"], ["part 0"]),
        (["price is not null", "name != part 1", "number >= -2"], ["part 2"]),
        (["name like %t 1_", "number < -17"], ["part 18", "part 19"]),
        (["name=nobody"], []),
    ],
)
def test_scan_finds_what_conditions_hold_for(shared, conditions, found):
    """Values are written as they are printed; all conditions hold."""
    assert names(shared, "parts", *[part for each in conditions for part in ("--where", each)]) == found


def test_scan_with_conditions_on_a_table_of_sql(shared):
    assert names(shared, "towns", "--where", "pop > 12") == ["j", "k"]
    assert names(shared, "towns", "--where", "pop > 11", "--reverse", "--limit", "2") == ["k", "j"]
    assert names(shared, "towns", "--where", "x is null") == ["a"]
    assert names(shared, "parts", "--where", "price > 6", "--reverse", "--limit", "2") == ["part 29", "part 28"]


def test_scan_shows_its_plan(shared):
    """With conditions an index is read where one leads to the rows."""
    assert "IndexScan by_name" in run("scan", shared, "parts", "--where", "name = part 7", "--explain").stdout
    with pytest.raises(exc.DataError, match="number is 'x'; write it as an integer"):
        run("scan", shared, "parts", "--where", "number = x")


# ------------------------------------------------------------------------------------------ explain


@pytest.mark.parametrize(
    ("statement", "plan"),
    [
        ("select * from parts where name = 'x'", ["READ parts: rows by index by_name (name = ?)"]),
        ("select * from parts where code = x'01' and number > 3 order by number desc",
         ["READ parts: rows by the primary key (code = ? AND number > ?), backwards"]),
        ("select * from towns t where t.name = 'a'", ["READ t: one row by index sqlite_autoindex_towns_1 (name = ?)"]),
        ("select sum(u64) from everything where u64 = 18446744073709551615",
         ["READ everything: all rows by the primary key"]),
        ("delete from towns where pop = 3;", ["READ towns: all rows by the primary key"]),
    ],
)  # fmt: skip
def test_explain_names_keys_and_indexes(shared, statement, plan):
    assert json_of("explain", shared, statement) == {"plan": plan}


def test_explain_runs_nothing(path):
    run("explain", path, "delete from parts")
    assert run("explain", path, "select 1").stdout == "SCAN CONSTANT ROW\n"
    assert len(names(path, "parts")) == 3
    with pytest.raises(exc.OperationalError, match="no such table"):
        run("explain", path, "select * from nowhere")


# ------------------------------------------------------------------------------------------ a pipe

SCRIPT = """\
-- a script
create table t (a, b); insert into t values (1, 'semi;colon'), (2, 'two
lines');

begin;
update t set b = 'gone' where a = 1;
rollback;
select a, b from t;
.format json
select count(*) n from t
"""


def test_statements_from_a_pipe(path):
    """Several in a line or over lines, semicolons in quotes, transactions, commands; the last needs no semicolon."""
    result = run("sql", path, "--write", "--format", "csv", input=SCRIPT)
    assert result.stdout == 'a,b\n1,semi;colon\n2,"two\nlines"\n{"n": 2}\n'


def test_a_script_ends_at_its_first_error(path):
    """Its line is named; what was committed before stays, and an open transaction is lost."""
    script = "create table t (a);\nbegin;\ninsert into t values (1);\ninsert into nowhere values (1);\nselect 1;\n"
    with pytest.raises(exc.OperationalError, match="no such table: nowhere"):
        run("sql", path, "--write", input=script)
    assert run("sql", path, "select count(*) from t", "--format", "csv").stdout == "count(*)\n0\n"
    with pytest.raises(exc.ProgrammingError, match="ended within a transaction"):
        run("sql", path, "--write", input="begin; insert into t values (1);")
    assert run("sql", path, "select count(*) from t", "--format", "csv").stdout == "count(*)\n0\n"


def test_the_shells_own_commands(shared):
    script = ".tables\n.schema towns\n.explain select * from parts where name = 'x'\n.help\n"
    found = run("sql", shared, input=script).stdout
    assert found.startswith("aged\nbig\neverything\n")
    assert "CREATE TABLE towns (id INTEGER PRIMARY KEY" in found
    assert "READ parts: rows by index by_name" in found
    assert ".quit" in found
    with pytest.raises(exc.ProgrammingError, match=r"\.nothing is no command"):
        run("sql", shared, input=".nothing")
    assert run("sql", shared, input=".quit\nselect nothing;").stdout == ""


def test_when_a_statement_is_whole():
    assert complete("select 1;")
    assert complete(".tables")
    assert complete("  ")
    assert not complete("select ';")
    assert not complete("select 1")


# ------------------------------------------------------------------------------------------ a terminal


def terminal(path, keys, expected, environment):
    """What a shell on a terminal of its own has printed, after each key sequence what is expected of it."""
    main, child = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "kvdialect.cli", "sql", str(path)],
        stdin=child, stdout=child, stderr=child, close_fds=True, env={**os.environ, "TERM": "dumb", **environment},
    )  # fmt: skip
    os.close(child)
    seen = b""  # and not yet waited for

    def until(text):
        nonlocal seen
        ends = time.monotonic() + 60
        while text not in seen and time.monotonic() < ends:
            if select.select([main], [], [], 0.2)[0]:
                try:
                    seen += os.read(main, 4096)
                except OSError:
                    break
        assert text in seen, seen

    try:
        for each, wanted in zip(keys, expected, strict=True):
            until(b"sql> ")
            seen = b""
            os.write(main, each)
            until(wanted)
            seen = seen[seen.index(wanted) + len(wanted) :]
        assert program.wait(60) == 0
    finally:
        program.kill()
        program.wait()
        os.close(main)


@pytest.mark.parametrize("toolkit", [True, False], ids=["prompt_toolkit", "plain"])
def test_the_shell_on_a_terminal(shared, tmp_path, toolkit):
    """Errors do not end it; with prompt_toolkit what was typed is kept as history."""
    environment = {"KVDIALECT_HISTORY": str(tmp_path / "history")}
    if toolkit:
        pytest.importorskip(
            "prompt_toolkit", reason="the shell is plainer without; both are tested where it is installed"
        )
    else:
        (tmp_path / "prompt_toolkit.py").write_text("raise ImportError('not here', name='prompt_toolkit')\n")
        environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    keys = [b"select 40 + 2 as sum;\r", b"select nocolumn;\r", b".quit\r"]
    terminal(shared, keys, [b"42", b"no such column: nocolumn", b".quit"], environment)
    assert (tmp_path / "history").exists() == toolkit


# ------------------------------------------------------------------------------------------ what a user has found


@pytest.mark.parametrize(
    ("condition", "wanted"), [("name <> part 7", 30 - 1), ("name == part 7", 1), ('"name" = part 7', 1)]
)
def test_conditions_in_sqls_other_spellings(shared, condition, wanted):
    """``<>`` was read as ``<``, and ``==`` as ``=`` with more behind: no rows, or others, without a word."""
    rows = run("scan", shared, "parts", "--limit", 0, "--where", condition, "--format", "json").stdout.splitlines()
    assert len(rows) == wanted


def test_conditions_on_columns_of_any_type(path):
    """In a table made by SQL a number and bytes were looked for as text."""
    run("sql", path, "--write", "create table loose (id integer primary key, v, t text)")
    run(
        "sql",
        path,
        "--write",
        "insert into loose values (1, 5, '5'), (2, x'00ff', 'x'), (3, 9e999, null), (4, 'a', '07')",
    )

    def found(condition):
        rows = run("scan", path, "loose", "--where", condition, "--format", "json").stdout.splitlines()
        return [json.loads(row)["id"] for row in rows]

    assert found("v = 5") == found("t = 5") == [1]
    assert found("v = 0x00ff") == [2]
    assert found("v = Infinity") == [3]
    assert found("v > 4") == [1, 2, 3, 4]
    assert found("v != 5") == [2, 3, 4]
    assert found("t = 07") == [4]


def test_an_unknown_column_is_named(shared):
    with pytest.raises(exc.ProgrammingError, match="no column 'zz'"):
        run("scan", shared, "parts", "--where", "zz = 1")


def test_json_is_json(shared):
    """Infinity is no number of JSON's, and of two columns of one name the first was lost."""
    [line] = run("sql", shared, "select 9e999 as i, 1 as a, 2 as a, null as n", "--format", "json").stdout.splitlines()
    found = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found == {"i": "Infinity", "a": 1, "a:1": 2, "n": None}


def test_a_comment_before_a_command_of_the_shell(shared):
    """It counted as the beginning of a statement, and the command as its end."""
    text = "select 1; -- one\n.tables\n/* two\n*/\nselect 2;\n-- three\n"
    assert run("sql", shared, "--format", "csv", input=text).stdout.split()[-2:] == ["2", "2"]
    assert "parts" in run("sql", shared, input=text).stdout


def test_output_that_nobody_reads(shared):
    """It is no error, and no finding of verify's either; a full disk is an error."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from kvdialect.cli import main; main()", "sql", str(shared), "--format", "json",
         "with recursive c (x) as (select 1 union all select x + 1 from c where x < 100000) select * from c"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == '{"x": 1}\n'
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            process = subprocess.run(
                [sys.executable, "-c", "from kvdialect.cli import main; main()", "scan", str(shared), "parts"],
                stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
        assert process.returncode == 3
        assert "No space left" in process.stderr
        assert "Traceback" not in process.stderr


def test_ctrl_c_ends_a_query_that_gives_no_rows(shared):
    """SQLite counted on, as no step of Python's came in which the signal could be heard."""
    endless = "with recursive c (x) as (select 1 union all select x + 1 from c) select count(*) from c"
    process = subprocess.Popen(
        [sys.executable, "-c", "from kvdialect.cli import main; print(1, flush=True); main()", "sql", shared, endless],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
