"""The error tree: PEP 249's shape, SQLAlchemy's counterparts, facts as attributes."""

import copy
import inspect
import pickle

import pytest
import sqlalchemy.exc

from kvdialect import exc

ERRORS = [getattr(exc, name) for name in exc.__all__ if inspect.isclass(getattr(exc, name))]
PEP_249 = {
    "InterfaceError": "Error",
    "DatabaseError": "Error",
    "DataError": "DatabaseError",
    "OperationalError": "DatabaseError",
    "IntegrityError": "DatabaseError",
    "InternalError": "DatabaseError",
    "ProgrammingError": "DatabaseError",
    "NotSupportedError": "DatabaseError",
}


def pickled(error):
    """The error as another process gets it."""
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize(("name", "base"), PEP_249.items())
def test_tree_has_the_shape_of_pep_249(name, base):
    """Each class of PEP 249 stands below the one that it demands, and below SQLAlchemy's of the same name."""
    cls = getattr(exc, name)

    assert issubclass(cls, getattr(exc, base))
    assert issubclass(cls, getattr(sqlalchemy.exc, name))


def test_every_error_is_exported():
    """What the module defines is in its __all__."""
    defined = {name for name, thing in vars(exc).items() if inspect.isclass(thing) and issubclass(thing, exc.Error)}

    assert defined <= set(exc.__all__)


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_every_error_has_the_common_facts(cls):
    """engine, path, operation, engine_message, retryable and outcome are there even where nothing was said."""
    error = cls("text")

    assert (error.engine, error.path, error.operation, error.engine_message) == (None, None, None, None)
    assert error.retryable in (True, False)
    assert error.outcome in ("not_applied", "applied", "unknown")
    assert "text" in str(error)


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("duplicate", [copy.copy, pickled], ids=["copy", "pickle"])
def test_errors_travel_between_processes(cls, duplicate):
    """A copy has the class, the text and all facts."""
    error = cls("text", engine="lmdb", path="/x", operation="put", retryable=True, key=b"k", outcome="applied")

    again = duplicate(error)

    assert type(again) is cls
    assert str(again) == str(error)
    assert again.facts == error.facts
    assert (again.engine, again.key, again.outcome, again.retryable) == ("lmdb", b"k", "applied", True)


RETRYABLE = {"ConflictError", "LockTimeout", "StoreLocked", "MapFull", "ReadersFull", "DiskFull"}


def test_retryable_is_said_of_what_may_pass():
    """Trying again makes sense for these, and for no other."""
    assert {cls.__name__ for cls in ERRORS if cls.retryable} >= RETRYABLE
    for name in ("KeyTooLong", "Corruption", "StoreClosed", "UnknownColumnFamily", "ReadOnlyStore", "StoreFormatError"):
        assert not getattr(exc, name).retryable


def test_unknown_column_family_says_its_name():
    """The text is the contract's."""
    error = exc.UnknownColumnFamily("coins")

    assert str(error) == "unknown column family: coins"
    assert error.name == "coins"


def test_commit_interrupted_is_both():
    """A handler of KeyboardInterrupt sees it, and so does one of this library's errors."""
    assert issubclass(exc.CommitInterrupted, KeyboardInterrupt)
    assert issubclass(exc.CommitInterrupted, exc.CommitOutcomeUnknown)
