"""Opening by URL: which class serves an engine's name, and what to say when its driver is missing.

URLs are SQLAlchemy's (:func:`sqlalchemy.make_url`): ``engine:///relative/path?option=value``, four slashes for an
absolute path. Engines are found among the built-in ones, by :func:`register`, and by entry points of the group
``kvdialect.backends``, through SQLAlchemy's own PluginLoader.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final
from urllib.parse import parse_qsl

import attrs
from sqlalchemy import URL, make_url
from sqlalchemy import exc as sa_exc
from sqlalchemy.util import PluginLoader

from kvdialect import exc
from kvdialect.storage.contract import StorageBackend
from kvdialect.storage.options import ColumnFamilyOptions, check_family_name, near

GROUP: Final = "kvdialect.backends"


@attrs.frozen
class _BuiltIn:
    """A built-in engine: where its class is, and the module and extra of its driver."""

    module: str
    attribute: str
    driver: str | None = None
    extra: str | None = None


_BUILT_IN: Final = {
    "memory": _BuiltIn("kvdialect.storage.memory", "MemoryBackend"),
    "lmdb": _BuiltIn("kvdialect.storage.lmdb", "LmdbBackend", "lmdb", "lmdb"),
    "rocksdb": _BuiltIn("kvdialect.storage.rocksdb", "RocksDBBackend", "rocksdict", "rocksdb"),
}


def _built_in(name: str) -> Callable[[], Any] | None:
    found = _BUILT_IN.get(name)
    if found is None:
        return None
    return lambda: getattr(importlib.import_module(found.module), found.attribute)


_loader = PluginLoader(GROUP, auto_fn=_built_in)


def register(name: str, module: str, attribute: str) -> None:
    """Make the class ``attribute`` of ``module`` serve URLs that begin with ``name:``; it is imported on first use."""
    _loader.register(name, module, attribute)


def known_engines() -> list[str]:
    """Names of the engines that can be asked for: built in, registered, or from entry points; sorted."""
    return sorted({*_BUILT_IN, *_loader.impls, *(point.name for point in entry_points(group=GROUP))})


def load_backend(name: str, path: str | None = None) -> type[StorageBackend]:
    """Return the class that serves the engine ``name``.

    Raises:
        BackendNotInstalled: if its driver is not installed.
        ArgumentError: if no engine has this name.
    """
    try:
        cls = _loader.load(name)
    except sa_exc.NoSuchModuleError:
        engines = known_engines()
        raise exc.ArgumentError(
            f"unknown engine: {name!r}{near(name, engines)}; known: {', '.join(engines)}", engine=name
        ) from None
    except ModuleNotFoundError as error:
        built_in = _BUILT_IN.get(name)
        if built_in is None or error.name != built_in.driver:
            raise
        raise _not_installed(name, path) from error
    if not (isinstance(cls, type) and issubclass(cls, StorageBackend)):
        raise exc.ArgumentError(f"the backend registered as {name!r} is {cls!r}, no subclass of StorageBackend")
    return cls


def _not_installed(name: str, path: str | None) -> exc.BackendNotInstalled:
    missing = []
    for engine, built_in in _BUILT_IN.items():
        if built_in.driver is not None:
            try:
                importlib.import_module(built_in.driver)
            except ModuleNotFoundError:
                missing.append((engine, built_in))
    asked = _BUILT_IN[name]
    where = f" (wanted for {path})" if path else ""
    message = (
        f"the driver of engine {name!r}, {asked.driver}, is not installed{where};"
        f' run: pip install "kvdialect[{asked.extra}]"'
    )
    others = [b for engine, b in missing if engine != name]
    if len(missing) == len([b for b in _BUILT_IN.values() if b.driver]) and others:
        message += "; no native engine is installed, another choice is " + " or ".join(
            f'pip install "kvdialect[{b.extra}]"' for b in others
        )
    return exc.BackendNotInstalled(
        message, engine=name, path=path, operation="open", extras=[b.extra for _, b in missing]
    )


def open_backend(
    url: str | URL,
    column_families: Mapping[str, ColumnFamilyOptions] | Iterable[str] | None = None,
    **options: Any,
) -> StorageBackend:
    """Open the store that a URL names, creating it if need be, and return a handle on it.

    A process opens each real path once; further calls give further handles on it.

    Args:
        url: such as ``"rocksdb:///data/kv?durability=sync"``, ``"lmdb:////absolute/path"`` or ``"memory://"``.
        column_families: options by name of the families that must exist; names alone take default options.
            Families that the store has besides are open too.
        options: further options, as in the URL's query, which they override.

    Raises:
        ArgumentError: if the URL or an option is not understood.
        BackendNotInstalled: if the engine's driver is missing.
        NotAStore, StoreFormatError, StoreLocked, Corruption: if what the URL names cannot be opened.
    """
    parsed = parse_url(url)
    given: dict[str, Any] = {**parsed.query, **options}
    if column_families is None:
        families: dict[str, ColumnFamilyOptions] = {}
    elif isinstance(column_families, Mapping):
        families = {name: value or ColumnFamilyOptions() for name, value in column_families.items()}
    elif isinstance(column_families, str):
        raise exc.ArgumentError(f"column_families={column_families!r} is a str; give a mapping or a list of names")
    else:
        families = {name: ColumnFamilyOptions() for name in column_families}
    for name, value in families.items():
        check_family_name(name)
        if not isinstance(value, ColumnFamilyOptions):
            raise exc.ArgumentError(
                f"options of column family {name!r} are {value!r}; give ColumnFamilyOptions(...)", name=name
            )
    return load_backend(parsed.drivername, parsed.database).open(parsed.database or None, given, families)


def _masked(url: Any) -> Any:
    """What was given for a URL, without the password that it may have."""
    return _PASSWORD.sub(r"\1***@", url) if isinstance(url, str) else url


_PASSWORD: Final = re.compile(r"(://[^:/@]*:)[^@]*@")


def parse_url(url: str | URL) -> URL:
    """Parse the URL of a store.

    Raises:
        ArgumentError: if it is none, or names a host, port or user, which no embedded engine has.
    """
    try:
        parsed = make_url(url)
    except (sa_exc.ArgumentError, ValueError) as error:
        raise exc.ArgumentError(
            f"{_masked(url)!r} is no URL of a store; it looks like rocksdb:///relative/path, lmdb:////absolute/path or memory://"
        ) from error
    known = parsed.drivername in _BUILT_IN or parsed.drivername in _loader.impls
    if not known and parsed.drivername not in known_engines():  # which reads the metadata of all that is installed
        load_backend(parsed.drivername)  # says which there are
    if parsed.host or parsed.port or parsed.username or parsed.password:
        hint = f"{parsed.drivername}:///{parsed.host or ''}{'/' + parsed.database if parsed.database else ''}"
        raise exc.ArgumentError(f"{str(parsed)!r} names a host; a path follows three slashes: {hint}")
    path = parsed.database or ""
    if "\0" in path:
        raise exc.ArgumentError(f"{str(parsed)!r}: the path holds a NUL character")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise exc.ArgumentError(f"the path {path!r} is not UTF-8, which the drivers take (rename it)") from error
    if isinstance(url, str):
        if "\ufffd" in path and "\ufffd" not in url:
            raise exc.ArgumentError(f"{url!r}: what stands behind a % in the path is not UTF-8")
        for name, value in parse_qsl(url.partition("?")[2], keep_blank_values=True):
            if not value:
                raise exc.ArgumentError(
                    f"{name} has no value in {url!r}; give it one, as in ?{name}=..., or leave it out"
                )
    return parsed
