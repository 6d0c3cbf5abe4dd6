"""Opening an environment in a child that was forked while it was open.

py-lmdb refuses to open the files of an environment twice in a process, and keeps the identities of the open ones. A
forked child inherits them, and the parent's environments must not be closed there: that would free the parent's reader
slots. To LMDB itself the child is a process of its own that may open the files. So in a child the identities get the
process id added: those of the parent no longer match, and the driver's guard goes on working among the child's own.

The function that gives them is ``lmdb._envid.env_keys`` (py-lmdb 3.0); the driver looks it up at each open.
"""

from __future__ import annotations

import importlib
import os
from typing import Any


def separate_identities() -> None:
    """In a forked child: tell the driver's environments apart from those that the parent had open."""
    try:
        module: Any = importlib.import_module("lmdb._envid")
        inherited = module.env_keys
    except (ImportError, AttributeError):
        return  # another version of the driver: it will refuse, which is reported as ForkedProcess
    child = os.getpid()

    def env_keys(*arguments: Any, **keywords: Any) -> tuple[Any, ...]:
        return tuple((child, key) for key in inherited(*arguments, **keywords))

    module.env_keys = env_keys
