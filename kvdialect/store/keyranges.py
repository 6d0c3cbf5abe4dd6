"""From the values of a lookup or a scan to a range of keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvdialect import exc
from kvdialect.codec.keys import KeyGrammar, KeyPart
from kvdialect.codec.kinds import OutOfRange
from kvdialect.storage.batch import KEY_LIMIT
from kvdialect.storage.ranges import KeyRange, successor

_NOTHING = KeyRange(b"\x01", b"\x01")


def key_range(owner: str, grammar: KeyGrammar, equal: Sequence[Any], start: Any = None, stop: Any = None) -> KeyRange:
    """The keys whose first parts equal ``equal`` and whose next part lies in ``[start, stop)``.

    Args:
        owner: the table or index, for messages.
        grammar: of its keys.
        equal: a value for each of the first parts; None stands for NULL.
        start: the least value of the next part, or None.
        stop: the value that the next part stays below, or None. With either bound NULLs are left out.

    Raises:
        ArgumentError: for more values than there are parts.
        DataError: for a value that cannot be compared with its part.
    """
    bounded = start is not None or stop is not None
    if len(equal) + bounded > len(grammar.parts):
        raise exc.ArgumentError(
            f"{owner} has {len(grammar.parts)} column{'s' * (len(grammar.parts) != 1)}; values for"
            f" {len(equal) + bounded} were given"
        )
    prefix = b""
    for part, value in zip(grammar.parts, equal, strict=False):
        if value is None and not part.nullable:
            return _NOTHING
        try:
            prefix += part.encode(None) if value is None else _placed(owner, part, value)
        except OutOfRange:
            return _NOTHING
    if len(prefix) > KEY_LIMIT:
        return _NOTHING  # no key is as long
    if not bounded:
        if len(equal) == len(grammar.parts) and grammar.parts[-1].raw:
            return KeyRange(prefix, prefix + b"\0")
        return KeyRange.prefix(prefix)
    return _bounded(owner, grammar.parts[len(equal)], prefix, start, stop)


def _bounded(owner: str, part: KeyPart, prefix: bytes, start: Any, stop: Any) -> KeyRange:
    first = prefix + b"\x01" if part.nullable else prefix
    last = successor(prefix) if prefix else None
    if part.descending and part.nullable:
        first, last = prefix, prefix + b"\xff"  # an inverted tag: NULLs are at the end
    try:
        low = None if start is None else prefix + _placed(owner, part, start)
    except OutOfRange as error:
        if error.side >= 0:
            return _NOTHING
        low = None
    try:
        high = None if stop is None else prefix + _placed(owner, part, stop)
    except OutOfRange as error:
        if error.side < 0:
            return _NOTHING
        high = None
    if part.descending:
        # What is least stands last.
        above = first if high is None else successor(high)
        return _NOTHING if above is None else KeyRange(above, last if low is None else successor(low))
    return KeyRange(first if low is None else low, last if high is None else high)


def _placed(owner: str, part: KeyPart, value: Any) -> bytes:
    """A value as it stands in a key.

    Raises:
        OutOfRange: if it lies below or above all values of the part.
        DataError: if it cannot be compared with them.
    """
    try:
        return part.place(part.kind.bound(value))
    except OutOfRange as error:
        if error.side:
            raise
        refusal: Exception = error
    except (ValueError, TypeError) as error:
        refusal = error
    raise exc.DataError(
        f"{owner} cannot be searched for {value!r:.80} ({type(value).__name__}); allowed: {part.kind.allowed}",
        value=value, allowed=part.kind.allowed,
    ) from refusal  # fmt: skip
