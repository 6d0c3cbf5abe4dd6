"""A flush of a session: listeners, the unit of work, and what becomes of the session when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import exc as sa_exc

from kvdialect.orm import cascades, refreshing
from kvdialect.store.transaction import Transaction

if TYPE_CHECKING:
    from kvdialect.orm.session import Session

View = tuple[dict[int, Any], dict[int, Any], dict[int, Any]]
"""The new, changed and deleted objects of a moment."""


def flush(session: Session, *, check: bool) -> None:
    """Write what is pending into the session's transaction; see :meth:`Session.flush`.

    Args:
        session: whose objects they are.
        check: look for duplicates in the snapshot now, as :func:`~kvdialect.store.writer.write_rows` says.
    """
    if session._flushing:
        raise sa_exc.InvalidRequestError("Session is already flushing")
    if not session.work.pending:
        return
    txn = session._autobegin()
    session._flushing = True
    try:
        if session.listened:
            _flush_heard(session, txn, check=check)
        else:
            _prepare(session)
            _write(session, txn, check=check)
    finally:
        session._flushing = False


def _prepare(session: Session) -> None:
    """Have foreign keys, orphans and ids follow from the relationships that were changed."""
    if not session.relational:
        return
    try:
        cascades.prepare(session)
    except BaseException as error:
        _abandon(session, error)
        raise


def _write(session: Session, txn: Transaction, *, check: bool) -> None:
    try:
        session.work.flush(txn, check=check)
    except BaseException as error:
        _abandon(session, error)
        raise


def _flush_heard(session: Session, txn: Transaction, *, check: bool) -> None:
    """Flush, and tell the listeners."""
    work, dispatch = session.work, session.dispatch
    if dispatch.before_flush:
        dispatch.before_flush(session, work, None)
    _prepare(session)
    new = list(work.new.values()) if dispatch.pending_to_persistent else ()
    deleted = list(work.deleted.values()) if dispatch.persistent_to_deleted else ()
    listened = bool(dispatch.after_flush)
    view = (dict(work.new), dict(session.tracker), dict(work.deleted)) if listened else None
    _write(session, txn, check=check)
    if view is not None:
        _with_view(session, view)
    for instance in new:
        dispatch.pending_to_persistent(session, instance)
    for instance in deleted:
        dispatch.persistent_to_deleted(session, instance)
    if dispatch.after_flush_postexec:
        dispatch.after_flush_postexec(session, work)


def _with_view(session: Session, view: View) -> None:
    """Call ``after_flush`` with what was pending still to be seen."""
    work = session.work
    pending = (work.new, session.tracker, work.deleted)
    for mine, seen in zip(pending, view, strict=True):
        mine.update(seen)
    try:
        session.dispatch.after_flush(session, work)
    finally:
        for mine, seen in zip(pending, view, strict=True):
            for ident in seen:
                mine.pop(ident, None)


def _abandon(session: Session, error: BaseException) -> None:
    """A flush has failed: undo the innermost level, or the transaction, as SQLAlchemy does."""
    session._failed_level = session.work.levels[-1]
    if session.references is not None:
        session.references.forget()
    if len(session.work.levels) > 1:
        savepoint = session.work.levels[-1].savepoint
        assert savepoint is not None
        session.work.undo_level()
        refreshing.rewind(session, savepoint)
    else:
        session._rollback()
    session._failed = error
