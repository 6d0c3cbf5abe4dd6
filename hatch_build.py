"""Compiles the package's C files into wheels, where there is a compiler; without one the wheel is pure Python.

The package runs either way and does the same, see kvdialect/_compiled.py. ``KVDIALECT_BUILD=pure`` leaves the C code
out, ``KVDIALECT_BUILD=compiled`` fails where it cannot be built.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CompileError, LinkError

SOURCES = (
    "kvdialect/dialect/_tables.c",
    "kvdialect/schema/_encoding.c",
    "kvdialect/schema/_rows.c",
    "kvdialect/storage/lmdb/_checksums.c",
)
STABLE_ABI = "0x030B0000"  # of Python 3.11: one wheel is for all from there on
WAYS = ("auto", "compiled", "pure")


class Compiled(BuildHookInterface[Any]):
    """The build hook, see [tool.hatch.build.targets.wheel.hooks.custom]."""

    _folder: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the compiled modules to a wheel, or to the tree of an editable install."""
        way = os.environ.get("KVDIALECT_BUILD", "auto")
        if way not in WAYS:
            raise SystemExit(f"KVDIALECT_BUILD={way!r} is unknown; allowed: {', '.join(WAYS)}")
        if way == "pure":
            return
        stable = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
        folder = self._folder = Path(tempfile.mkdtemp(prefix="kvdialect-build-"))
        if not stable or not self._compile(folder):
            if way == "compiled":
                raise SystemExit("the C files could not be compiled (see above)")
            self.app.display_warning("the C files are left out, as they could not be compiled: Python does their work")
            return
        for source in SOURCES:
            place = Path(source).parent
            [built] = [path for path in folder.glob(f"{place}/{Path(source).stem}.*") if path.suffix in (".so", ".pyd")]
            if version == "editable":
                shutil.copyfile(built, Path(self.root, place, built.name))
            else:
                build_data["force_include"][str(built)] = f"{place}/{built.name}"
        if version != "editable":
            build_data["pure_python"] = False
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"cp311-abi3-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatch's
        """Remove what was compiled, which is in the wheel by now."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _compile(self, folder: Path) -> bool:
        """Compile all of them, below ``folder``; whether that could be done."""
        extensions = [
            Extension(
                str(Path(source).with_suffix("")).replace(os.sep, "."),
                [str(Path(self.root, source))],
                define_macros=[("Py_LIMITED_API", STABLE_ABI)],
                py_limited_api=True,
            )
            for source in SOURCES
        ]
        command = build_ext(Distribution({"name": "kvdialect", "ext_modules": extensions}))
        command.build_lib, command.build_temp = str(folder), str(folder / "objects")
        command.ensure_finalized()
        try:
            command.run()
        except (BaseError, CompileError, LinkError, OSError) as error:
            self.app.display_warning(str(error))
            return False
        return True
