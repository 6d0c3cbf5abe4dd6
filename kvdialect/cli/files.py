"""Files of rows: CSV, JSON lines, and with pyarrow Parquet and Arrow.

They are written whole or not at all, and read record by record.

A record that is read is a dict by column name, with where it stands in the file.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, Final

import attrs
import msgspec

from kvdialect import exc
from kvdialect.cli.forms import Form, form_of, text_of, value_of
from kvdialect.schema.definition import FieldDefinition
from kvdialect.schema.rows import Row

FORMATS: Final = ("csv", "jsonl", "parquet", "arrow")
_SUFFIXES: Final = {
    ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet",
    ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
PIPE: Final = "-"
"""Stands for standard input or output."""


def format_of(path: str, given: str | None) -> str:
    """The format of a file: the one given, or that of its name.

    Raises:
        ArgumentError: if neither says it.
    """
    if given is not None:
        return given
    found = _SUFFIXES.get(os.path.splitext(path)[1].lower())
    if found is None:
        raise exc.ArgumentError(f"the name {path!r} says no format; give --format: {', '.join(FORMATS)}")
    return found


def named(path: str) -> str:
    """A file as messages name it."""
    return "standard input" if path == PIPE else path


@attrs.frozen
class Record:
    """A record of a file.

    Attributes:
        where: the line, or the number of the row, for messages: ``"line 3"``.
        values: by column name, as the format has them.
    """

    where: str
    values: dict[str, Any]


# ------------------------------------------------------------------------------------------ writing


@contextlib.contextmanager
def whole(path: str, *, overwrite: bool = False) -> Iterator[str]:
    """A path beside ``path`` to write to, which becomes ``path`` when the block ends well, and is removed otherwise.

    What is no regular file, such as a pipe or a device, is written as it is.

    Raises:
        ArgumentError: if there is a file already.
    """
    check_free(path, overwrite=overwrite)
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        yield path
        return
    beside = f"{path}.{os.getpid()}.part"
    try:
        yield beside
        os.replace(beside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(beside)


def check_free(path: str, *, overwrite: bool) -> None:
    """Raise unless a file may be written at ``path``.

    Raises:
        ArgumentError: if there is one already, or a directory.
    """
    if os.path.isdir(path):
        raise exc.ArgumentError(f"{path} is a directory; give the name of a file")
    if os.path.isfile(path) and not overwrite:
        raise exc.ArgumentError(f"there is a file at {path}; choose another name, or give --overwrite")


@contextlib.contextmanager
def text_output(path: str, *, overwrite: bool) -> Iterator[IO[str]]:
    """A file of text to write, or standard output."""
    if path == PIPE:
        yield sys.stdout
        sys.stdout.flush()
        return
    with whole(path, overwrite=overwrite) as beside, open(beside, "w", encoding="utf-8", newline="") as file:
        yield file


class _Lines:
    """A file for csv, whose lines end alike: it quotes a carriage return only where that may end a line."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> None:
        self._file.write(f"{text[:-2]}\n")


def write_csv(file: IO[str], fields: Sequence[FieldDefinition], rows: Iterable[Row], null: str) -> None:
    """Write rows as CSV with a head."""
    writer = csv.writer(_Lines(file), lineterminator="\r\n")
    writer.writerow([field.name for field in fields])
    texts = [text_of(form_of(field), null) for field in fields]
    writer.writerows([text(value) for text, value in zip(texts, row, strict=True)] for row in rows)


def write_json(file: IO[str], fields: Sequence[FieldDefinition], rows: Iterable[Row]) -> None:
    """Write rows as lines of JSON."""
    forms = [(field.name, form_of(field).to_json) for field in fields]
    encode = msgspec.json.Encoder().encode
    for row in rows:
        values = {
            name: None if value is None else convert(value) for (name, convert), value in zip(forms, row, strict=True)
        }
        file.write(f"{encode(values).decode()}\n")


# ------------------------------------------------------------------------------------------ reading


@contextlib.contextmanager
def text_input(path: str) -> Iterator[IO[str]]:
    """A file of text to read, or standard input."""
    if path == PIPE:
        # Without the translation of line ends, which may stand in values.
        file = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", errors="surrogateescape", newline="")
        try:
            yield file
        finally:
            file.detach()  # or it would close standard input
        return
    try:
        file = open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")  # noqa: SIM115 - closed below, opened with an error of its own
    except OSError as error:
        raise exc.ArgumentError(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield file


def read_csv(path: str, file: IO[str]) -> Iterator[Record]:
    """Read CSV with a head: fields as text.

    Raises:
        DataError: for a line with more or fewer fields than the head, or that is no text in UTF-8.
    """
    path = named(path)
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(_utf8(file), strict=True)
    line = 1
    try:
        head = next(reader, None)
        if not head:
            raise exc.DataError(f"{path} is empty; the first line of a CSV file names its columns")
        if len(set(head)) != len(head):
            raise exc.DataError(f"{path}, line 1: two columns have one name: {', '.join(head)}")
        line = reader.line_num + 1
        for fields in reader:
            if len(fields) != len(head) and fields:
                raise exc.DataError(
                    f"{path}, line {line}: {len(fields)} fields; the head has {len(head)}", path=path, line=line
                )
            if fields or len(head) == 1:
                yield Record(f"line {line}", dict(zip(head, fields or [""], strict=True)))
            line = reader.line_num + 1
    except (csv.Error, UnicodeError) as error:
        raise exc.DataError(f"{path}, line {line}: {error}", path=path, line=line) from error


def _utf8(file: IO[str]) -> Iterator[str]:
    """The lines of a file, each looked at: the decoder itself, which reads ahead, does not know the line."""
    for line in file:
        _check_utf8(line)
        yield line


def _check_utf8(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UnicodeError(f"the byte 0x{ord(text[error.start]) - 0xDC00:02x} is not UTF-8") from None


def read_json(path: str, file: IO[str]) -> Iterator[Record]:
    """Read lines of JSON, an object each.

    Raises:
        DataError: for a line that is none.
    """
    path = named(path)
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    line = 0
    try:
        for line, text in enumerate(file, 1):
            _check_utf8(text)
            if not text.isspace():
                yield Record(f"line {line}", decode(text))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise exc.DataError(f"{path}, line {line or 1}: {error}", path=path, line=line or 1) from error


Convert = Callable[[Any], Any]


def reader_of(form: Form, file_format: str, null: str) -> Convert:
    """What makes a column's value of what a file of a format has. It raises ValueError for what is none."""
    if file_format == "csv":
        return value_of(form, null)
    if file_format == "jsonl":
        convert = form.from_json
        return lambda value: None if value is None else convert(value)
    from kvdialect.cli.arrow import from_arrow

    return from_arrow(form.field)
