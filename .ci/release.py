"""What a release is made of, built and tried: ``tox -e release`` (RELEASING.md says when).

Builds the sdist and of it the wheel, looks at what is in them, installs the wheel alone into an empty environment for
each interpreter given, and runs the README there, away from the tree. If HEAD has a tag, it must be
that of the version.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).parents[1]
LARGEST = 200_000
"""Bytes of a file in the sdist: figures and a chart are the largest; data sets and builds do not belong there."""

TRIED = """
import importlib.metadata, kvdialect, pathlib, re, sys
from kvdialect._compiled import loaded
here = pathlib.Path(kvdialect.__file__)
assert here.is_relative_to(sys.prefix), f"{here} is not that of the wheel"
assert kvdialect.__version__ == importlib.metadata.version("kvdialect")
blocks = re.findall(r"```python\\n(.*?)```", pathlib.Path(sys.argv[1]).read_text("utf-8"), re.DOTALL)
assert blocks
exec(compile("\\n".join(blocks), "README.md", "exec"), {"__name__": "readme"})
print(sys.version.split()[0], "compiled" if loaded("kvdialect.schema._rows") else "pure Python")
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command, show what it says, and return it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, check=False, text=True, stdout=subprocess.PIPE
    )
    print(done.stdout, end="")
    if done.returncode:
        sys.exit(f"failed with {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout


def demand(holds: bool, message: str) -> None:
    """End with a message unless something holds."""
    if not holds:
        sys.exit(f"not to be released: {message}")


def version() -> str:
    """The version in the source; the tag of HEAD, where there is one, must say the same."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "kvdialect/__init__.py").read_text("utf-8"), re.MULTILINE)
    demand(found is not None, "kvdialect/__init__.py has no __version__")
    assert found is not None
    if shutil.which("git") and (ROOT / ".git").exists():
        tags = run("git", "tag", "--points-at", "HEAD", cwd=ROOT).split()
        demand(not tags or f"v{found[1]}" in tags, f"HEAD is tagged {', '.join(tags)}, the version is {found[1]}")
    return found[1]


def look_at_sdist(path: Path) -> None:
    """Everything that it takes to build and test, and nothing large."""
    with tarfile.open(path) as archive:
        sizes = {"/".join(each.name.split("/")[1:]): each.size for each in archive if each.isfile()}
    sources = {
        each.relative_to(ROOT).as_posix() for each in ROOT.glob("kvdialect/**/*") if each.suffix in (".py", ".c", ".h")
    }
    needed = sources | {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml", "hatch_build.py"}
    needed |= {"tox.ini", "tests/conftest.py", "docs/index.md", "kvdialect/py.typed"}
    demand(needed <= sizes.keys(), f"the sdist lacks {', '.join(sorted(needed - sizes.keys()))}")
    large = {name: size for name, size in sizes.items() if size > LARGEST}
    demand(not large, f"the sdist has large files: {large}")
    built = [name for name in sizes if name.endswith((".so", ".pyd", ".pyc", ".whl"))]
    demand(not built, f"the sdist has what was built: {built}")


def look_at_wheel(path: Path, expected: str) -> None:
    """The package alone, with its licence, its types and its metadata."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        facts = message_from_bytes(archive.read(metadata))
    others = [name for name in names if not name.startswith(("kvdialect/", "kvdialect-"))]
    demand(not others, f"the wheel has more than the package: {others}")
    demand("kvdialect/py.typed" in names, "the wheel has no py.typed")
    demand(any("licenses/LICENSE" in name for name in names), "the wheel has no licence")
    demand(not any(name.endswith((".c", ".h")) for name in names), "the wheel has C sources")
    demand(facts["Version"] == expected, f"the wheel is of version {facts['Version']}, not {expected}")
    for name in ("Summary", "License-Expression", "Requires-Python", "Classifier", "Description-Content-Type"):
        demand(bool(facts[name]), f"the metadata has no {name}")
    if "dev" not in expected:
        demand(bool(facts["Project-URL"]), "the metadata has no Project-URL: [project.urls] in pyproject.toml")


def try_wheel(path: Path, interpreter: str, work: Path) -> None:
    """Install it alone, and run the README with it."""
    environment = work / f"venv-{Path(interpreter).name}"
    run(interpreter, "-m", "venv", environment, cwd=work)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{path}[rocksdb,sql]", cwd=work)
    place = work / f"readme-{Path(interpreter).name}"
    place.mkdir()
    run(python, "-c", TRIED, ROOT / "README.md", cwd=place)


def main(interpreters: list[str]) -> None:
    """Do all of it."""
    expected = version()
    with tempfile.TemporaryDirectory(prefix="kvdialect-release-") as folder:
        work = Path(folder)
        run(sys.executable, "-m", "build", "--outdir", work / "dist", ROOT, cwd=work)
        run(sys.executable, "-m", "twine", "check", "--strict", *sorted((work / "dist").iterdir()), cwd=work)
        [sdist], [wheel] = (sorted((work / "dist").glob(pattern)) for pattern in ("*.tar.gz", "*.whl"))
        look_at_sdist(sdist)
        look_at_wheel(wheel, expected)
        for interpreter in interpreters or [sys.executable]:
            try_wheel(wheel, interpreter, work)
        target = ROOT / "dist"
        target.mkdir(exist_ok=True)
        for built in (sdist, wheel):
            shutil.copy(built, target)
            print(f"dist/{built.name}: {built.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
