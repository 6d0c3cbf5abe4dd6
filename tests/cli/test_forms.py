"""Values as files have them, and how far a command is."""

from __future__ import annotations

import io
import time

import pytest

pytest.importorskip("click", reason="the command line needs the extra cli; runs where full is installed")
pytest.importorskip("rich", reason="the command line needs the extra cli; runs where full is installed")

from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from kvdialect import exc
from kvdialect.cli import output
from kvdialect.cli.files import read_csv, read_json, write_csv, write_json
from kvdialect.cli.forms import NULL, form_of, value_of
from kvdialect.cli.selecting import Condition, condition
from kvdialect.codec.dynamic import AFFINITIES, DynamicKind
from kvdialect.codec.numeric import FloatKind
from kvdialect.codec.strings import BytesKind, EnumKind, TextKind
from kvdialect.schema.definition import FieldDefinition

TEXTS = st.text() | st.text(st.sampled_from('\\N,"\r\n x05.e\0'), max_size=5)
VALUES = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | TEXTS
    | st.binary(max_size=4)
    | st.sampled_from(["1", "-1.5", "1e5", "9e999", " 1", "+.5", "00", "\\x00", "\\N", "1_0", "inf", "0x10"])
)


def through(fields, rows, form, null=NULL):
    """Rows, written and read."""
    file = io.StringIO(newline="")
    if form == "csv":
        write_csv(file, fields, rows, null)
    else:
        write_json(file, fields, rows)
    file.seek(0)
    records = list(read_csv("file", file) if form == "csv" else read_json("file", file))
    read = {
        field.name: value_of(form_of(field), null) if form == "csv" else form_of(field).from_json for field in fields
    }
    return [
        tuple(None if form == "jsonl" and value is None else read[name](value) for name, value in record.values.items())
        for record in records
    ]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@given(rows=st.lists(st.tuples(st.none() | TEXTS, st.none() | st.binary(max_size=3)), max_size=4))
@example(rows=[("\\N", b""), ("\\\\N", b"\0"), ("", None), (None, None), ("\r", b"")])
def test_text_and_bytes_come_back(form, rows):
    """NULL, empty values, line ends, and texts that look like NULL are told apart."""
    fields = [
        FieldDefinition(name="text", kind=TextKind(), nullable=True),
        FieldDefinition(name="raw", kind=BytesKind(), nullable=True),
    ]
    assert through(fields, rows, form) == rows


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@given(values=st.lists(st.tuples(*[VALUES] * len(AFFINITIES)), max_size=4))
def test_values_of_sql_come_back(form, values):
    """Of whatever type, in a column of whatever affinity, as that stores them."""
    fields = [FieldDefinition(name=name, kind=DynamicKind(name), nullable=True) for name in AFFINITIES]
    rows = [
        tuple(None if value is None else field.kind.check(value) for field, value in zip(fields, row, strict=True))
        for row in values
    ]
    found = through(fields, rows, form)
    assert [[(type(value), value) for value in row] for row in found] == [
        [(type(value), value) for value in row] for row in rows
    ]


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("names", [["a", "\\N", "\\\\N", "\\"], ["a", "", "\\N"]])
def test_every_member_of_an_enum_comes_back(names, nullable):
    """One that looks like NULL was written with a backslash more, which was not taken off where it may be NULL."""
    field = FieldDefinition(name="e", kind=EnumKind(names), nullable=nullable)
    rows = [(name,) for name in names] + ([(None,)] if nullable else [])

    assert through([field], rows, "csv") == rows
    assert through([field], rows, "csv", null="none") == rows


@given(value=st.floats())
@example(value=9007199254740994.0)
@example(value=1e16)
@example(value=1e23)
@example(value=5e-324)
def test_floats_come_back_from_what_programs_write(value):
    """The shortest text, all digits, and 17 of them."""
    read = form_of(FieldDefinition(name="x", kind=FloatKind())).from_text
    for text in (repr(value), f"{value:.17g}", f"{value:.25e}", f"{value:f}"):
        assert repr(read(text)) == repr(float(text))


def test_another_text_for_null_must_be_no_value():
    field = FieldDefinition(name="text", kind=TextKind(), nullable=True)
    assert through([field], [("x",), (None,)], "csv", null="none") == [("x",), (None,)]
    with pytest.raises(exc.DataError, match="text is 'none', which stands for NULL"):
        through([field], [("none",)], "csv", null="none")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a = b = c", Condition("a", "=", "b = c")),
        ("a>=-1", Condition("a", ">=", "-1")),
        ("a !=  x", Condition("a", "!=", " x")),
        ("a LIKE x%", Condition("a", "like", "x%")),
        ("a = ", Condition("a", "=", "")),
        ("a  is  NOT null", Condition("a", "is not null")),
    ],
)
def test_a_condition_is_read(text, wanted):
    assert condition(text) == wanted


def test_how_far_it_is_is_told_after_a_while(monkeypatch):
    """Nothing at first; then what is done, of how much; and at the end nothing of it is left."""
    monkeypatch.setattr(output, "SILENT", 0.05)
    file = io.StringIO()
    told = output.Told(Console(file=file, force_terminal=True, width=100), "read")
    told("read", 1234, 5000)
    assert file.getvalue() == ""
    ends = time.monotonic() + 10
    while "1,234 of 5,000" not in file.getvalue() and time.monotonic() < ends:
        time.sleep(0.02)
    told.say("[a line]")
    told("index x", 1, 2)
    told.end()
    assert "1,234 of 5,000" in file.getvalue()
    assert "[a line]\n" in file.getvalue()
    assert "index x" in file.getvalue()


def test_without_a_terminal_nothing_is_told(capsys):
    with output.progress("read") as told:
        assert told is None
    assert capsys.readouterr() == ("", "")
