"""Session events, for SQLAlchemy's ``event.listen``: on a session, a sessionmaker, or the class for all sessions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event

from kvdialect.orm.factory import sessionmaker
from kvdialect.orm.session import Session
from kvdialect.orm.transactions import NestedTransaction


class SessionEvents(event.Events[Session]):
    """The events of a :class:`~kvdialect.Session`, with SQLAlchemy's names and arguments where it has them.

    ``before_flush`` may add, change and delete objects, and those are flushed too. ``before_commit`` comes before the
    last flush; ``after_commit`` when the batch is durable, ``after_rollback`` when nothing is left of it.
    """

    _target_class_doc = "SomeSession"
    _dispatch_target = Session

    @classmethod
    def _accept_with(cls, target: Any, identifier: str) -> Any:
        """What events are listened to on: a sessionmaker stands for the class of its sessions."""
        if isinstance(target, sessionmaker):
            return target.class_
        return super()._accept_with(target, identifier)

    @classmethod
    def _listen(cls, event_key: Any, **options: Any) -> None:
        Session.listened = True
        super()._listen(event_key, **options)

    def before_flush(self, session: Session, flush_context: Any, instances: Any) -> None:
        """Before objects are written into the transaction; ``session.new``, ``dirty`` and ``deleted`` say which."""

    def after_flush(self, session: Session, flush_context: Any) -> None:
        """After they were written, with ``new``, ``dirty`` and ``deleted`` still as before."""

    def after_flush_postexec(self, session: Session, flush_context: Any) -> None:
        """After the flush, with the session in its final state."""

    def after_begin(self, session: Session, transaction: Any, connection: Any) -> None:
        """A transaction began; ``transaction`` is the store's, ``connection`` is None."""

    def before_commit(self, session: Session) -> None:
        """Commit was called."""

    def after_commit(self, session: Session) -> None:
        """The commit is durable."""

    def after_rollback(self, session: Session) -> None:
        """The transaction was rolled back."""

    def after_soft_rollback(self, session: Session, previous_transaction: NestedTransaction | Any) -> None:
        """A transaction or a savepoint was rolled back."""

    def before_attach(self, session: Session, instance: Any) -> None:
        """An object is about to become part of the session."""

    def after_attach(self, session: Session, instance: Any) -> None:
        """An object became part of the session by ``add``, ``merge`` or ``delete``."""

    def transient_to_pending(self, session: Session, instance: Any) -> None:
        """An object was added."""

    def pending_to_persistent(self, session: Session, instance: Any) -> None:
        """An object was flushed for the first time."""

    def pending_to_transient(self, session: Session, instance: Any) -> None:
        """An added object left the session before it was stored."""

    def persistent_to_deleted(self, session: Session, instance: Any) -> None:
        """The deletion of an object was flushed."""

    def persistent_to_detached(self, session: Session, instance: Any) -> None:
        """An object was expunged."""
