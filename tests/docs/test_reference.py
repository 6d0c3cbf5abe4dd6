"""The reference has every public name: what a program may import from the package's public modules."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"

PUBLIC = [
    "kvdialect",
    "kvdialect.backends",
    "kvdialect.dialect",
    "kvdialect.exc",
    "kvdialect.orm",
    "kvdialect.storage",
    "kvdialect.testing",
]

# Up to the next directive, or the end of the page.
DIRECTIVE = re.compile(r"^\.\. (auto\w+|py:data):: *([\w.]+)((?:(?!^\.\. ).)*)", re.MULTILINE | re.DOTALL)


def described() -> set[str]:
    """The last parts of all names that the reference documents, and those of types that it lists in a sentence."""
    found = set(re.findall(r"`(\w+)`", (REFERENCE / "types.md").read_text("utf-8")))
    for page in REFERENCE.glob("*.md"):
        for kind, name, options in DIRECTIVE.findall(page.read_text("utf-8")):
            if kind == "automodule" and ":members:" in options:
                left_out = re.search(r":exclude-members: *(.*)", options)
                module = importlib.import_module(name)
                found |= set(getattr(module, "__all__", ())) - set(left_out[1].split(", ") if left_out else ())
            elif kind != "automodule":
                found.add(name.rpartition(".")[2])
    return found


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_in_the_reference(module):
    """A name that can be imported and is described nowhere: add it to docs/reference."""
    names = set(importlib.import_module(module).__all__)
    names -= {"backends", "exc"}  # modules, with pages of their own

    assert names - described() == set()
