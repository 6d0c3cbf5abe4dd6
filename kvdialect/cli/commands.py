"""All commands, as the modules beside this one define them."""

from __future__ import annotations

from kvdialect.cli import benching, copying, exchanging, keeping, looking, statements, upgrading
from kvdialect.cli.group import group

__all__ = ["benching", "copying", "exchanging", "group", "keeping", "looking", "statements", "upgrading"]
