"""Bytes from values and values from bytes; pure."""

# Every module of kinds is imported here, as kind_from_spec finds the kinds by their tags.
from kvdialect.codec import composite, numeric, records, strings, temporal

__all__ = ["composite", "numeric", "records", "strings", "temporal"]
