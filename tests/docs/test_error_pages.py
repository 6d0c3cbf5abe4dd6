"""The page of errors, which the last line of every message leads to: a section for each code, and no other."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from kvdialect import exc

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^\((kv-[a-z-]+)\)=\n### (\w+)$", PAGE, re.MULTILINE))
ERRORS = [thing for thing in vars(exc).values() if inspect.isclass(thing) and issubclass(thing, exc.Error)]


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_each_class_has_a_section_under_its_own_code(cls):
    """A class without a code of its own would lead to its base's section, one without a section nowhere."""
    code = vars(cls)["code"]

    assert re.fullmatch("kv-[a-z]+(-[a-z]+)*", code)
    assert SECTIONS.get(code) == cls.__name__
    assert f"\n`{code}`. " in PAGE


def test_no_section_is_an_orphan():
    """A section that is left when its class goes, or whose code is misspelt, explains nothing that can be seen."""
    anchors = re.findall(r"^\((kv-[^)]*)\)=$", PAGE, re.MULTILINE)

    assert sorted(anchors) == sorted(cls.code for cls in ERRORS)


@pytest.mark.parametrize("cls", [cls for cls in ERRORS if cls is not exc.UnknownColumnFamily], ids=lambda c: c.__name__)
def test_the_text_ends_with_the_way_to_the_section(cls):
    """Whoever prints an error, or logs it, sees where to read on; the message alone is there as well."""
    error = cls("something (do this)")

    assert error.message == "something (do this)"
    assert str(error) == f"something (do this)\n{error.background}"
    assert f"errors.html#{cls.code} " in error.background


def test_a_text_that_is_fixed_has_the_way_beside_it():
    """The contract fixes the text of UnknownColumnFamily, so its reference is an attribute alone."""
    error = exc.UnknownColumnFamily("a")

    assert str(error) == "unknown column family: a"
    assert not hasattr(error, "__notes__")
    assert "#kv-unknown-family " in error.background


def test_an_error_within_another_does_not_bring_its_reference_along():
    """Messages that quote another error have one reference, at their end."""
    assert exc.message_of(exc.DataError("x is 1")) == "x is 1"
    assert exc.message_of(ValueError("y")) == "y"
