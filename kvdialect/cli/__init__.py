"""The command ``kvdialect``: looks into stores, keeps them, copies them, moves rows. Needs the extra ``cli``.

Exit codes: 0; 1 where ``verify`` or ``repair-indexes`` has found something that is still wrong, or ``upgrade`` has left
something that differs; 2 for a wrong command line; 3 for an error of the store or of a file, whose message goes to
standard error; 130 after Ctrl-C.
"""

from __future__ import annotations

import os
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
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it was closed: as Python's own print(), nothing is printed
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for as long as the program
    try:
        group(prog_name="kvdialect")
    except OSError as error:  # of what is printed beside a command, as --help
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(3)  # the output would fail once more
    except exc.Error as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(3)


__all__ = ["main"]
