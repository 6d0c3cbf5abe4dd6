"""Making the history that leads to a difference short."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from kvdialect.testing.comparison import FAMILIES, Comparison, Difference, Step, StoreOpener, new_name
from kvdialect.testing.model import StoreModel

Item = TypeVar("Item")


def report(open_store: StoreOpener, difference: Difference, seconds: float) -> Difference:
    """The same difference, with the shortest history that is found in the time, as code to paste."""
    taken = difference.history
    history = shrink(open_store, taken, seconds) if seconds else taken
    where = "" if difference.seed is None else f"seed {difference.seed}, "
    listed = "\n".join(f"    {step!r}," for step in history)
    shorter = Difference(
        f"{where}step {len(taken)}: {difference}\nfailing step: {taken[-1]!r}\n"
        f"replay(open_store, [  # {len(history)} steps\n{listed}\n])"
    )
    shorter.seed, shorter.history = difference.seed, history
    return shorter


def shrink(open_store: StoreOpener, history: Sequence[Step], seconds: float) -> list[Step]:
    """A history as short as can be found in the time that still ends in a difference.

    Mostly the state matters and not the way to it: so first the last few steps are tried, after puts of what the model
    held before them. Then steps are left out, and operations of batches.
    """
    deadline = time.monotonic() + seconds
    shortest = list(history)
    for size in (1, 3, 10, 30, 100):
        if size < len(history):
            failing = _failing_part(open_store, [*_way_to(history[:-size]), *history[-size:]])
            if failing is not None:
                shortest = failing
                break
    shortest = _without_parts(shortest, lambda steps: _failing_part(open_store, steps), deadline)
    for position in range(len(shortest)):
        if position < len(shortest) and shortest[position].action == "batch":
            before, after = shortest[:position], shortest[position + 1 :]

            def failing_operations(
                operations: list[Any], before: list[Step] = before, after: list[Step] = after
            ) -> list[Any] | None:
                steps = [*before, Step("batch", tuple(operations)), *after]
                return operations if _failing_part(open_store, steps) == steps else None

            operations = _without_parts(list(shortest[position].arguments), failing_operations, deadline)
            shortest = [*before, Step("batch", tuple(operations)), *after]
    return shortest


def _without_parts(
    whole: list[Item], failing_part: Callable[[list[Item]], list[Item] | None], deadline: float
) -> list[Item]:
    """Leave out parts, large ones first, as long as ``failing_part`` still gives what fails of the rest."""
    size = max(1, len(whole) // 2)
    while True:
        position, removed = 0, False
        while position < len(whole):
            if time.monotonic() > deadline:
                return whole
            failing = failing_part(whole[:position] + whole[position + size :])
            if failing is None:
                position += size
            else:
                whole, removed = failing, True
        if size == 1 and not removed:
            return whole
        if not removed:
            size = max(1, size // 2)


def _way_to(history: Sequence[Step]) -> Iterator[Step]:
    """Steps that lead to the contents after ``history``, each key put once."""
    model = StoreModel(FAMILIES)
    for step in history:
        if step.action == "batch":
            model.apply(step.arguments)
        elif step.action in ("put", "delete"):
            model.apply([(step.action, *step.arguments)])
        elif step.action == "create":
            model.families.setdefault(step.arguments[0], {})
        elif step.action == "drop":
            model.families.pop(step.arguments[0], None)
    for cf in FAMILIES:
        if cf not in model.families:
            yield Step("drop", (cf,))
    for cf, pairs in model.contents().items():
        for key, value in pairs:
            yield Step("put", (cf, key, value))


def _failing_part(open_store: StoreOpener, history: Sequence[Step]) -> list[Step] | None:
    comparison = Comparison(open_store, name=new_name())
    try:
        for position, step in enumerate(history):
            try:
                comparison.take(step)
            except Difference:
                return list(history[: position + 1])
        try:
            comparison.take(Step("compare_all"))
        except Difference:
            return list(history)
        return None
    finally:
        comparison.close()
