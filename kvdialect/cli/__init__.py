"""The command ``kvdialect``: looks into stores, keeps them, copies them, moves rows. Needs the extra ``cli``.

Exit codes: 0; 1 where ``verify`` or ``repair-indexes`` has found something that is still wrong, or ``upgrade`` has left
something that differs; 2 for a wrong command line; 3 for an error of the store or of a file, whose message goes to
standard error; 130 after Ctrl-C.
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
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        group(prog_name="kvdialect")
    except exc.Error as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(3)


__all__ = ["main"]
