"""The compiled modules: C code that does what a module of Python does too, only faster.

The package runs without them, where it was built without a compiler (``hatch_build.py``), and with
``KVDIALECT_PURE_PYTHON=1`` in the environment.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Final

forbidden: Final = os.environ.get("KVDIALECT_PURE_PYTHON", "0") not in ("", "0")
"""Whether the environment says that Python is to do all."""


def loaded(name: str) -> Any:
    """A compiled module, or None if it is not there, or forbidden."""
    if forbidden:
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
