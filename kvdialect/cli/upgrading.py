"""The command that makes a store what a program's records declare."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from kvdialect import exc
from kvdialect.cli import output
from kvdialect.cli.group import Interrupted, group, json_option, store_argument
from kvdialect.cli.stores import reading, writing
from kvdialect.schema.definition import TableDefinition
from kvdialect.schema.evolution import Difference
from kvdialect.schema.records import registry


@group.command()
@store_argument
@click.argument("models", metavar="MODULE:REGISTRY")
@click.option("--dry-run", is_flag=True, help="Say what differs, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def upgrade(store: str, models: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Make STORE what the records of a program declare, such as myprogram.models:models; no row is rewritten.

    What differs is shown first. The exit code is 1 if something is refused, if the answer is no, and with --dry-run if
    something differs.
    """
    declared = _registry(models)
    with (reading if dry_run else writing)(store) as engine:
        found = engine.differences(declared.definitions)
        refused = [each for each in found if not each.allowed]
        done = False
        if not as_json or not found:
            _show(found)
        if found and not refused and not dry_run and (yes or _confirmed(as_json)):
            _carry_out(engine, declared.definitions)
            done = True
        if as_json:
            listed = [
                {"table": each.table, "subject": each.subject, "what": each.what, "allowed": each.allowed,
                 "advice": each.advice}
                for each in found
            ]  # fmt: skip
            output.facts({"differences": listed, "upgraded": done}, as_json=True)
        elif done:
            left = engine.differences(declared.definitions)
            click.echo("upgraded" if not left else f"upgraded, but for {len(left)} differences that stay")
    if refused and not as_json:
        click.echo(f"refused: {len(refused)} of {len(found)}; nothing was changed", err=True)
    if found and not done:
        raise SystemExit(1)


def _confirmed(as_json: bool) -> bool:
    if as_json:
        raise click.UsageError("--json does not ask; give --yes or --dry-run")
    return click.confirm("upgrade?", err=True)


def _carry_out(engine: Any, definitions: Sequence[TableDefinition]) -> None:
    try:
        with output.progress("upgrade") as told:
            engine.upgrade(
                definitions, progress=None if told is None else lambda done, total: told("index", done, total)
            )
    except KeyboardInterrupt as error:
        raise Interrupted(
            "the columns are changed, and the indexes that are not built to their end go on when this is called again"
        ) from error


def _show(found: Sequence[Difference]) -> None:
    if not found:
        click.echo("the store is what the records declare", err=True)
    table = None
    for each in found:
        if each.table != table:
            table = each.table
            click.echo(f"table {table}")
        click.echo(f"  {'' if each.allowed else '! '}{each.subject}: {each.what} ({_without_call(each.advice)})")


def _without_call(advice: str) -> str:
    """An advice without the call that this command makes."""
    for call in ("call models.upgrade(engine): ", "call models.upgrade(engine)", "call models.create_all(engine)"):
        if advice.startswith(call):
            return advice[len(call) :] or "done by this command"
    return advice


def _registry(text: str) -> registry:
    """The registry that ``module:name`` names; the module is looked for in the present directory too.

    Raises:
        ArgumentError: if there is none.
    """
    module, _, name = text.partition(":")
    if not module or not name:
        raise exc.ArgumentError(f"{text!r} names no registry; write MODULE:NAME, such as myprogram.models:models")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise exc.ArgumentError(f"there is no {text}: {error}") from error
    except Exception as error:
        raise exc.ArgumentError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(found, registry):
        raise exc.ArgumentError(f"{text} is {type(found).__name__}, no registry of kvdialect")
    return found
