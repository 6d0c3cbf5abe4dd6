"""Harnesses that try to break a store, and count what they find: ``python -m reliability``."""
