"""Tables and comparisons for the tests that hold compiled codecs beside generated ones."""

from __future__ import annotations

from kvdialect.schema.definition import FieldDefinition, TableDefinition


def table(fields, key, indexes=()):
    """A table of ``(name, kind, nullable)``."""
    numbered = tuple(
        FieldDefinition(id=at, name=name, kind=kind, nullable=nullable)
        for at, (name, kind, nullable) in enumerate(fields, 1)
    )
    return TableDefinition(name="t", fields=numbered, primary_key=key, indexes=tuple(indexes), version=2)


def typed(value):
    """A value with the types of all that is in it: 1 is not True, and NaN is itself."""
    if isinstance(value, tuple | list):
        return type(value), [typed(each) for each in value]
    if isinstance(value, dict):
        return dict, [typed(each) for each in value.items()]
    return type(value), repr(value)
