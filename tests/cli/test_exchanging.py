"""kvdialect export and import: what goes out comes back, and what is no row is named."""

from __future__ import annotations

import json
import os
import re
import threading

import pytest
from cli_records import contents, json_of, make, run

from kvdialect import create_engine, exc
from kvdialect.cli import importing

pytest.importorskip("apsw", reason="the stores have tables made by SQL; runs where full is installed")

pytestmark = pytest.mark.engine("lmdb")

TABLES = ("aged", "everything", "parts", "towns", "plain", "keyed")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A closed store, which the tests only read."""
    path = tmp_path_factory.mktemp("source") / "store"
    make(f"lmdb:///{path}")
    return path


def rows_of(path, table):
    return [json.loads(line) for line in run("scan", path, table, "--limit", 0, "--format", "json").stdout.splitlines()]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_every_value_comes_back_from_text(source, tmp_path, form):
    """Tables of records of every type, and tables made by SQL: the rows, indexes and columns are the same."""
    target = f"lmdb:///{tmp_path}/target"
    for table in TABLES:
        run("export", source, table, tmp_path / f"{table}.{form}", "--schema", tmp_path / f"{table}.json")
        run("import", target, table, tmp_path / f"{table}.{form}", "--schema", tmp_path / f"{table}.json")

    found, wanted = contents(target), contents(f"lmdb:///{source}")
    del wanted["views"], found["views"]
    assert [row.rpartition(",")[0] for row in found.pop("plain")] == [
        row.rpartition(",")[0] for row in wanted.pop("plain")
    ], "a rowid that is no column is another one"
    assert found == wanted


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_every_value_comes_back_from_arrow(source, tmp_path, form):
    pytest.importorskip("pyarrow", reason="Parquet and Arrow need the extra arrow")
    target = f"lmdb:///{tmp_path}/target"
    for table in ("everything", "parts", "keyed"):
        run("export", source, table, tmp_path / f"{table}.{form}", "--schema", tmp_path / f"{table}.json")
        run("import", target, table, tmp_path / f"{table}.{form}", "--schema", tmp_path / f"{table}.json")

    found, wanted = contents(target), contents(f"lmdb:///{source}")
    for table in ("everything", "parts", "keyed"):
        assert found[table] == wanted[table]
    with pytest.raises(exc.DataError, match="x has values that are no binary of Arrow"):
        run("export", source, "towns", tmp_path / f"towns.{form}")
    assert not [name for name in os.listdir(tmp_path) if name.startswith("towns")], "nothing half done is left"


def test_an_export_says_which_rows_and_columns(source):
    text = run("export", source, "parts", "--where", "price > 6.9", "--columns", "number,name").stdout
    assert text == "number,name\n-28,part 28\n-29,part 29\n"
    text = run("export", source, "towns", "--where", "pop >= 13", "--columns", "name", "--format", "jsonl").stdout
    assert text == '{"name":"j"}\n{"name":"k"}\n'
    assert run("export", source, "parts", "--limit", 1, "--null", "none").stdout.endswith("0,part 0,none\n")
    with pytest.raises(exc.ProgrammingError, match=r"no column 'nam'.*did you mean 'name'"):
        run("export", source, "parts", "--columns", "nam")
    with pytest.raises(exc.ArgumentError, match="condition 'price' is not understood"):
        run("export", source, "parts", "--where", "price")


def test_a_file_that_is_there_stays(source, tmp_path):
    (tmp_path / "parts.csv").write_text("mine")
    with pytest.raises(exc.ArgumentError, match="--overwrite"):
        run("export", source, "parts", tmp_path / "parts.csv")
    assert (tmp_path / "parts.csv").read_text() == "mine"
    run("export", source, "parts", tmp_path / "parts.csv", "--overwrite")
    assert len((tmp_path / "parts.csv").read_text().splitlines()) == 31
    with pytest.raises(exc.ArgumentError, match="says no format"):
        run("export", source, "parts", tmp_path / "parts")


# ------------------------------------------------------------------------------------------ what is made

CSV = """\
id,born,size,exact,moment,there,mark,big
1,2024-02-29,1,1.5,2024-01-01T00:00:00+00:00,true,00123,18446744073709551615
2,,2,,2024-01-01T00:00:00+01:00,false,x,1
"""


def test_columns_are_what_the_values_of_a_file_suggest(tmp_path):
    """Each has the narrowest type that takes all values; what was made can be given the same way."""
    target = f"lmdb:///{tmp_path}/target"
    result = run("import", target, "things", "--format", "csv", "--create", "--primary-key", "id", input=CSV)
    columns = [
        "id BIGINT", "born DATE NULL", "size BIGINT NULL", "exact DOUBLE NULL", "moment TIMESTAMP WITH TIME ZONE NULL",
        "there BOOLEAN NULL", "mark TEXT NULL", "big UINT64 NULL",
    ]  # fmt: skip
    assert " ".join(f"--column {column!r}" for column in columns) in result.stderr
    assert "2 rows imported into things" in result.stderr
    first, second = rows_of(tmp_path / "target", "things")
    assert first == {
        "id": 1, "born": "2024-02-29", "size": 1, "exact": 1.5, "moment": "2024-01-01T00:00:00+00:00", "there": True,
        "mark": "00123", "big": 2**64 - 1,
    }  # fmt: skip
    assert (second["born"], second["moment"], second["mark"]) == (None, "2023-12-31T23:00:00+00:00", "x")

    given = [option for column in columns for option in ("--column", column)]
    run("import", target, "again", "--format", "csv", *given, "--primary-key", "id", input=CSV)
    assert rows_of(tmp_path / "target", "again") == [first, second]


def test_a_table_that_was_made_for_refused_rows_is_not_left_behind(tmp_path):
    """It stayed, empty, and the next try with other columns found it there."""
    target = f"lmdb:///{tmp_path}/target"
    column = ["--column", "id BIGINT", "--primary-key", "id"]
    with pytest.raises(exc.DataError):
        run("import", target, "things", "--format", "csv", *column, input="id\nx\n")
    with create_engine(target) as engine:
        assert "things" not in engine.catalog.entries

    run("import", target, "things", "--format", "csv", *column, input="id\n")
    with create_engine(target) as engine:
        assert "things" in engine.catalog.entries


@pytest.mark.parametrize("made", ["by us", "by SQL"])
def test_rows_that_are_skipped_do_not_count_as_imported(tmp_path, made):
    """All rows of the file were said to be imported."""
    target = f"lmdb:///{tmp_path}/target"
    if made == "by SQL":
        run("import", target, "other", "--format", "csv", "--column", "id BIGINT", "--primary-key", "id", input="id\n")
        run("sql", target, "CREATE TABLE things (id INTEGER PRIMARY KEY)", "--write")
        run("import", target, "things", "--format", "csv", input="id\n1\n2\n")
    else:
        column = ["--column", "id BIGINT", "--primary-key", "id"]
        run("import", target, "things", "--format", "csv", *column, input="id\n1\n2\n")
    result = run("import", target, "things", "--format", "csv", "--existing", "skip", input="id\n2\n3\n1\n")
    assert "1 rows imported into things; 2 were there already, and left as they are" in result.stderr


def test_line_ends_within_values_stay(tmp_path):
    """Standard input is read as it is."""
    text = 'k,v\r\n1,"a\r\nb"\r\n2,"a\rb"\r\n'
    run(
        "import", f"lmdb:///{tmp_path}/t", "t", "--format", "csv", "--create", "--primary-key", "k", input=text.encode()
    )
    assert [row["v"] for row in rows_of(tmp_path / "t", "t")] == ["a\r\nb", "a\rb"]


def test_columns_of_json_are_suggested_too(tmp_path):
    target = f"lmdb:///{tmp_path}/target"
    lines = '{"k": "a", "n": 1, "d": {"x": 1}}\n\n{"k": "b", "n": 2.5, "more": "12"}\n'
    result = run("import", target, "t", "--format", "jsonl", "--create", "--primary-key", "k", input=lines)
    assert "--column 'n DOUBLE NULL' --column 'd JSON NULL' --column 'more TEXT NULL'" in result.stderr
    assert rows_of(tmp_path / "target", "t")[1] == {"k": "b", "n": 2.5, "d": None, "more": "12"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--create"], "give --primary-key, of id, born"),
        (["--create", "--primary-key", "ident"], "the primary key names 'ident'"),
        (["--column", "id NUMBER", "--primary-key", "id"], "'id NUMBER' is not understood.*UINT64"),
        (["--column", "id JSON", "--primary-key", "id"], "id cannot be in the primary key"),
    ],
)
def test_what_makes_no_table(tmp_path, options, words):
    with pytest.raises(exc.ArgumentError, match=words):
        run("import", f"lmdb:///{tmp_path}/target", "things", "--format", "csv", *options, input=CSV)


def test_without_being_told_nothing_is_made(tmp_path, source):
    with pytest.raises(exc.ProgrammingError, match=r"no table 'things'; it has aged, .*--create"):
        run("import", source, "things", "--format", "csv", input=CSV)
    with pytest.raises(exc.NotAStore):
        run("import", f"lmdb:///{tmp_path}/target", "things", "--format", "csv", input=CSV)
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------------------------ what is refused


@pytest.fixture
def target(tmp_path):
    """A store with a table of parts."""
    make(f"lmdb:///{tmp_path}/target", rows=2)
    return tmp_path / "target"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "0x00000007,x,seven,1",
            "standard input, line 3: number is 'x'; write it as an integer; allowed: an int from -922",
        ),
        ("0x0007,1,seven,1", "line 3: code is '0x0007'; write it as hexadecimal digits; allowed: exactly 4 bytes"),
        ("0x00000007,1,\\N,1", "line 3: name is NULL; write it as text; allowed: a str"),
        ("0x00000007,1,seven", "line 3: 3 fields; the head has 4"),
        ('0x00000007,1,"seven,1', "line 3: unexpected end of data"),
    ],
)
def test_a_bad_line_is_named(target, line, words):
    """File, line, column, and what is allowed; nothing of its batch is there, and what was committed before stays."""
    text = f"code,number,name,price\n0x00000005,5,five,\\N\n{line}\n"
    with pytest.raises(exc.DataError, match=re.escape(words)):
        run("import", target, "parts", "--format", "csv", "--batch", "1", input=text)
    assert [row["name"] for row in rows_of(target, "parts")] == ["part 0", "part 1", "five"]

    with pytest.raises(exc.DataError):
        run("import", target, "parts", "--format", "csv", input=text.replace("00000005", "00000006"))
    assert len(rows_of(target, "parts")) == 3, "a batch is whole or not at all"


def test_what_json_refuses(target):
    for line, words in {
        '{"code": "0x00000007", "number": 1}': "line 1: there is no name; allowed: a str",
        '{"code": "0x00000007", "number": 1, "nam": "x"}': "line 1: parts has no column 'nam' .did you mean 'name'",
        '{"code": "0x00000007", "number": true, "name": "x"}': "line 1: number is True; write it as an integer",
        "[1]": "line 1: Expected `object`",
    }.items():
        with pytest.raises(exc.DataError, match=words):
            run("import", target, "parts", "--format", "jsonl", input=line)


def test_what_becomes_of_rows_that_are_there(target):
    """fail, the default: nothing; skip: they stay; replace: they are changed, indexes too."""
    text = "code,number,name\n0x00000001,-1,other\n0x00000009,9,nine\n"
    with pytest.raises(exc.IntegrityError, match="exists already"):
        run("import", target, "parts", "--format", "csv", input=text)
    run("import", target, "parts", "--format", "csv", "--existing", "skip", input=text)
    assert [row["name"] for row in rows_of(target, "parts")] == ["part 0", "part 1", "nine"]
    run("import", target, "parts", "--format", "csv", "--existing", "replace", input=text)
    assert [row["name"] for row in rows_of(target, "parts")] == ["part 0", "other", "nine"]
    assert run("verify", target).stdout.endswith("nothing is wrong\n")


def test_tables_of_sql_keep_their_constraints(target):
    """Rows go the way of INSERT: defaults, CHECK, generated columns, and what SQL says of duplicates."""
    run("import", target, "towns", "--format", "csv", input="name,up\nnew,passed over\n")
    last = rows_of(target, "towns")[-1]
    assert last == {"id": 12, "name": "new", "pop": 3, "x": None, "up": "NEW"}
    with pytest.raises(exc.IntegrityError, match="CHECK constraint failed: pop > 0"):
        run("import", target, "towns", "--format", "csv", input="name,pop\nless,0\n")
    with pytest.raises(exc.IntegrityError, match=r"UNIQUE constraint failed: towns.name"):
        run("import", target, "towns", "--format", "jsonl", input='{"name": "new"}\n')
    run("import", target, "towns", "--format", "jsonl", "--existing", "skip", input='{"name": "new"}\n{"name": "z"}\n')
    assert [row["name"] for row in rows_of(target, "towns")][-2:] == ["new", "z"]


def test_ids_are_given_where_a_file_has_none(target):
    run("import", target, "aged", "--format", "csv", input="word\nx\ny\n")
    ids = [row["id"] for row in rows_of(target, "aged")]
    assert len(set(ids)) == 6
    run("import", target, "aged", "--format", "csv", input="id,word,size\n5000,x,1\n")
    run("import", target, "aged", "--format", "csv", input="word,size\nlast,1\n")
    assert rows_of(target, "aged")[-1]["id"] > 5000


def test_ctrl_c_is_between_two_transactions(target, monkeypatch):
    """What was committed is counted exactly, and the option that goes on behind it is named."""
    original = importing.RecordTarget.write
    written = []

    def write(self, rows):
        count = original(self, rows)
        written.append(rows)
        if len(written) == 2:
            import signal

            signal.raise_signal(signal.SIGINT)  # within the commit, as it were
        return count

    monkeypatch.setattr(importing.RecordTarget, "write", write)
    text = "code,number,name\n" + "".join(f"0x000000{n},{n},n{n}\n" for n in range(10, 20))
    result = run("import", target, "parts", "--format", "csv", "--batch", 3, input=text, code=130)
    assert "6 rows were committed, up to line 7; --skip 6 goes on behind them" in result.stderr
    monkeypatch.undo()
    run("import", target, "parts", "--format", "csv", "--skip", 6, input=text)
    assert [row["name"] for row in rows_of(target, "parts")][2:] == [f"n{n}" for n in range(10, 20)]


def test_without_pyarrow_its_formats_say_what_to_install(source, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "kvdialect.cli.arrow", raising=False)
    with pytest.raises(exc.NotSupportedError, match=r'pip install "kvdialect\[arrow\]"'):
        run("export", source, "parts", tmp_path / "parts.parquet")
    monkeypatch.delitem(sys.modules, "kvdialect.cli.arrow", raising=False)


def test_a_table_is_made_of_a_parquet_file(source, tmp_path):
    """Its columns are those that Arrow's types stand for."""
    pytest.importorskip("pyarrow", reason="Parquet and Arrow need the extra arrow")
    run("export", source, "parts", tmp_path / "parts.parquet")
    target = f"lmdb:///{tmp_path}/target"
    run("import", target, "parts", tmp_path / "parts.parquet", "--create", "--primary-key", "code,number")
    assert rows_of(tmp_path / "target", "parts") == rows_of(source, "parts")
    assert json_of("info", tmp_path / "target")["tables"] == 1
    assert contents(target)["parts fields"] == contents(f"lmdb:///{source}")["parts fields"]
    with create_engine(target) as engine:
        assert engine.table("parts").definition.primary_key == ("code", "number")


def test_export_writes_what_is_no_file_as_it_is(source, tmp_path):
    """``--overwrite`` put a file in the place of a pipe, or of a link, and what the link led to stayed as it was."""
    pipe, link, behind = tmp_path / "pipe", tmp_path / "link.csv", tmp_path / "behind.csv"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    run("export", source, "parts", pipe, "--format", "csv", "--overwrite")
    reader.join(30)
    assert pipe.is_fifo()
    behind.write_text("old")
    link.symlink_to(behind)
    run("export", source, "parts", link, "--overwrite")

    assert link.is_symlink()
    assert behind.read_text() == found[0]
    with pytest.raises(exc.ArgumentError, match="is a directory"):
        run("export", source, "parts", tmp_path, "--format", "csv", "--overwrite")
    assert "the same file" in run("export", source, "parts", link, "--schema", behind, "--overwrite", code=2).stderr
    other = tmp_path / "definition.json"
    with pytest.raises(exc.ArgumentError, match="there is a file"):
        run("export", source, "parts", behind, "--schema", other)
    assert not other.exists()


def test_a_file_that_is_not_there_makes_no_store(tmp_path):
    with pytest.raises(exc.ArgumentError, match="cannot read"):
        run("import", f"lmdb:///{tmp_path}/new", "t", tmp_path / "missing.csv", "--create")
    assert not (tmp_path / "new").exists()


# ------------------------------------------------------------------------------------------ values stay what they are


NO_VALUES = [
    ("DATETIME", "2024-01-01T00:00:00.123456789"),
    ("DATETIME", "20240101T000000,1234567"),
    ("TIMESTAMP WITH TIME ZONE", "2024-01-01T00:00:00.0000001Z"),
    ("TIMESTAMP WITH TIME ZONE", "2024-01-01T00:00:00+01:00:00.1234567"),
    ("TIME", "12:00:00.9999999"),
    ("DOUBLE", "1e400"),
    ("DOUBLE", "-1e400"),
    ("DOUBLE", "1e-400"),
    ("DOUBLE", "9007199254740993"),
    ("DOUBLE", "123456789012345678.9"),
]
"""Types of columns, and texts that were read as other values."""


@pytest.mark.parametrize(("column", "text"), NO_VALUES)
def test_no_digits_of_a_value_are_cut_off(tmp_path, column, text):
    """Times lost what is finer than microseconds, and numbers became infinities or others."""
    made = ["--column", "id BIGINT", "--column", f"x {column}", "--primary-key", "id"]
    forms = {"csv": f'id,x\n1,"{text}"\n'}
    if column != "DOUBLE":
        forms["jsonl"] = f'{{"id": 1, "x": "{text}"}}\n'
    for form, content in forms.items():
        with pytest.raises(exc.DataError, match=r"line \d: x is '.*; write it as a .*; allowed: a"):
            run("import", f"lmdb:///{tmp_path}/target", "t", "--format", form, *made, input=content)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("text", [text for _, text in NO_VALUES])
def test_a_type_that_would_cut_digits_off_is_not_suggested(tmp_path, form, text):
    """The narrowest type that takes all values takes them whole."""
    content = f'id,x\n1,"{text}"\n2,0.5\n' if form == "csv" else f'{{"id": 1, "x": "{text}"}}\n'
    target = f"lmdb:///{tmp_path}/target"
    result = run("import", target, "t", "--format", form, "--create", "--primary-key", "id", input=content)
    assert "--column 'x TEXT NULL'" in result.stderr
    assert rows_of(tmp_path / "target", "t")[0] == {"id": 1, "x": text}


def test_digits_that_say_nothing_more_are_taken(tmp_path):
    """Zeros behind the microseconds, and what other programs write of a float."""
    text = (
        "id,at,clock,x\n"
        "1,2024-01-01T00:00:00.123456000,12:00:00.1000000000,0.1000000000000000055511151231257827\n"
        "2,2024-01-01T00:00:00.5,12:00,123456789012345680000\n"
        "3,2024-01-01,00:00,1.00000000000000005000e-01\n"
        "4,2024-01-01,00:00,-Infinity\n"
        "5,2024-01-01,00:00,inf\n"
        "6,2024-01-01,00:00,0e-400\n"
        "7,2024-01-01,00:00,9007199254740992\n"
    )
    columns = ["--column", "id BIGINT", "--column", "at DATETIME", "--column", "clock TIME", "--column", "x DOUBLE"]
    run("import", f"lmdb:///{tmp_path}/t", "t", "--format", "csv", *columns, "--primary-key", "id", input=text)
    rows = rows_of(tmp_path / "t", "t")
    assert (rows[0]["at"], rows[0]["clock"]) == ("2024-01-01T00:00:00.123456", "12:00:00.100000")
    assert [row["x"] for row in rows] == [
        0.1, 123456789012345683968, 0.1, "-Infinity", "Infinity", 0, 9007199254740992,
    ]  # fmt: skip


def test_a_condition_is_of_the_value_that_is_written(tmp_path):
    """It found the row whose time begins with the same six digits."""
    text = "id,at,x\n1,2024-01-01T00:00:00.123456,9007199254740992.0\n"
    run("import", f"lmdb:///{tmp_path}/t", "t", "--format", "csv", "--create", "--primary-key", "id", input=text)

    for condition in ("at = 2024-01-01T00:00:00.123456999", "x = 9007199254740993", "x < 1e400"):
        with pytest.raises(exc.DataError, match=r"write it as a .*; allowed: a"):
            run("scan", tmp_path / "t", "t", "--where", condition)
    assert "9007199254740992" in run("scan", tmp_path / "t", "t", "--where", "at = 2024-01-01 00:00:00.1234560").stdout


@pytest.mark.parametrize(
    ("numbers", "column", "stored"),
    [
        (["9007199254740993", "0.5"], "JSON", [9007199254740993, 0.5]),
        (["-1", "9223372036854775808"], "NUMERIC(38, 0)", ["-1", "9223372036854775808"]),
        (["9007199254740992", "0.5"], "DOUBLE", [9007199254740992, 0.5]),
    ],
)
def test_the_type_of_numbers_in_json_takes_all_of_them(tmp_path, numbers, column, stored):
    """What --create chose refused some of the numbers that it had looked at."""
    lines = "".join(f'{{"id": {at}, "x": {number}}}\n' for at, number in enumerate(numbers))
    result = run(
        "import", f"lmdb:///{tmp_path}/t", "t", "--format", "jsonl", "--create", "--primary-key", "id", input=lines
    )
    assert f"--column 'x {column} NULL'" in result.stderr
    assert [row["x"] for row in rows_of(tmp_path / "t", "t")] == stored


def test_a_message_about_a_row_refers_to_the_documentation_once(target):
    """The line was in the middle of the message too."""
    for line in ("code,number,name\n0x00000007,x,seven\n", "code,number,nam\n0x00000007,1,seven\n"):
        with pytest.raises(exc.DataError) as caught:
            run("import", target, "parts", "--format", "csv", input=line)
        assert str(caught.value).count("background on this error") == 1
        assert "\n" not in caught.value.message


# ------------------------------------------------------------------------------------------ Parquet and Arrow


def written(path, columns):
    """A Parquet or Arrow file of arrays by column name, or of a table."""
    pa = pytest.importorskip("pyarrow", reason="Parquet and Arrow need the extra arrow")
    import pyarrow.parquet as pq

    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize(
    ("type_", "number", "words"),
    [
        ("time64[ns]", 1999, r"1999 \(time64\[ns\]\), finer than microseconds"),
        ("timestamp[ns]", 1999, r"1999 \(timestamp\[ns\]\), finer than microseconds"),
        ("duration[ns]", -1, r"-1 \(duration\[ns\]\), finer than microseconds"),
        ("time64[us]", 86_400_000_000, r"86400000000 \(time64\[us\]\), beyond what Python has"),
        ("date32[day]", 2**30, r"1073741824 \(date32\[day\]\), beyond what Python has"),
        ("timestamp[s]", 2**50, r"beyond what Python has"),
        ("timestamp[us]", -(2**62), r"beyond what Python has"),
        ("timestamp[us, tz=Europe/Berlin]", 2**62, r"beyond what Python has"),
        ("duration[s]", 2**62, r"beyond what Python has"),
    ],
)
def test_what_python_has_no_value_for_is_a_bad_row(tmp_path, type_, number, words):
    """It was cut or wrapped without a word, or an OverflowError; --skip gets past it, as past any bad row."""
    pa = pytest.importorskip("pyarrow", reason="Parquet and Arrow need the extra arrow")
    unit = type_.partition("[")[2].partition(",")[0].rstrip("]")
    made = {
        "time64": lambda: pa.time64(unit),
        "date32": pa.date32,
        "duration": lambda: pa.duration(unit),
        "timestamp": lambda: pa.timestamp(unit, "Europe/Berlin" if "tz" in type_ else None),
    }[type_.partition("[")[0]]()
    path = written(tmp_path / "f.arrow", {"id": [1, 2, 3], "x": pa.array([0, number, 1000], made)})
    options = ["import", f"lmdb:///{tmp_path}/target", "t", path, "--create", "--primary-key", "id", "--batch", 1]

    with pytest.raises(exc.DataError, match=f"row 2: x is .*{words}.*allowed: a"):
        run(*options)
    run(*options, "--skip", 2)

    assert [row["id"] for row in rows_of(tmp_path / "target", "t")] == [1, 3]


def test_whole_microseconds_are_taken_in_nanoseconds(tmp_path):
    """As polars has all times of day."""
    pa = pytest.importorskip("pyarrow", reason="Parquet and Arrow need the extra arrow")
    path = written(tmp_path / "f.parquet", {"id": [1, 2], "t": pa.array([1000, None], pa.time64("ns"))})
    run("import", f"lmdb:///{tmp_path}/t", "t", path, "--create", "--primary-key", "id")
    assert [row["t"] for row in rows_of(tmp_path / "t", "t")] == ["00:00:00.000001", None]


@pytest.mark.parametrize("by", ["polars", "pyarrow"])
def test_views_of_strings_and_bytes_are_text_and_blobs(tmp_path, by):
    """As polars writes them: they were taken for JSON, and no text is that."""
    pa = pytest.importorskip("pyarrow", reason="Parquet and Arrow need the extra arrow")
    path = tmp_path / "f.arrow"
    values = {"id": ["a", "b"], "raw": [b"\xff", None], "words": [["x"], None]}
    if by == "polars":
        pytest.importorskip("polars", reason="the group programs brings polars").DataFrame(values).write_ipc(path)
    else:
        types = {"id": pa.string_view(), "raw": pa.binary_view(), "words": pa.list_(pa.string_view())}
        written(path, {name: pa.array(values[name], types[name]) for name in values})
    with pa.ipc.open_file(path) as file:
        assert [str(type_) for type_ in file.schema.types[:2]] == ["string_view", "binary_view"]

    result = run("import", f"lmdb:///{tmp_path}/t", "t", path, "--create", "--primary-key", "id")

    assert "--column 'id TEXT' --column 'raw BLOB NULL' --column 'words " in result.stderr
    assert rows_of(tmp_path / "t", "t") == [
        {"id": "a", "raw": "0xff", "words": ["x"]}, {"id": "b", "raw": None, "words": None},
    ]  # fmt: skip


def test_an_arrow_file_that_cannot_be_read_makes_no_store(tmp_path):
    """A new empty store was left behind."""
    pa = pytest.importorskip("pyarrow", reason="Parquet and Arrow need the extra arrow")
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"])
    written(tmp_path / "twice.arrow", twice)
    (tmp_path / "text.parquet").write_text("id\n1\n")
    (tmp_path / "text.arrow").write_text("id\n1\n")
    for name, error, words in (
        ("missing.parquet", exc.ArgumentError, "cannot read"),
        ("missing.arrow", exc.ArgumentError, "cannot read"),
        ("text.parquet", exc.DataError, "text.parquet"),
        ("text.arrow", exc.DataError, "text.arrow"),
        ("twice.arrow", exc.DataError, "two columns have one name"),
    ):
        with pytest.raises(error, match=words):
            run("import", f"lmdb:///{tmp_path}/new", "t", tmp_path / name, "--create", "--primary-key", "id")
        assert not (tmp_path / "new").exists()
