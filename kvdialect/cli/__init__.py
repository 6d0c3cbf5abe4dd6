"""The command ``kvdialect``: looks into a store, verifies it, backs it up. Needs the extra ``cli``.

Exit codes: 0; 1 where ``verify`` or ``repair-indexes`` has found something that is still wrong; 2 for a wrong command
line; 3 for an error of the store, whose message goes to standard error.
"""

from __future__ import annotations

import sys

from kvdialect import exc


def main() -> None:
    """Run the command; the entry point of the package."""
    try:
        from kvdialect.cli.commands import group
    except ImportError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit('the command needs click and rich: pip install "kvdialect[cli]"')
    try:
        group(prog_name="kvdialect")
    except exc.Error as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(3)
    except BrokenPipeError:
        sys.exit(0)  # what was printed is no longer wanted


__all__ = ["main"]
