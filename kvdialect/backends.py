"""Backends by name: ``kvdialect.backends.register("name", "package.module", "Class")``, as SQLAlchemy does dialects."""

from kvdialect.storage.registry import known_engines, load_backend, register

__all__ = ["known_engines", "load_backend", "register"]
