"""sessionmaker: sessions with the same settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kvdialect.orm.session import Session

if TYPE_CHECKING:
    from kvdialect.orm.engine import Engine


class sessionmaker:  # noqa: N801 - SQLAlchemy's name
    """Makes sessions: ``Local = sessionmaker(engine)``, then ``with Local() as session``, or ``with Local.begin()``.

    Its sessions are of a class of their own, so that events can be listened to on the sessionmaker alone.

    Args:
        engine: what its sessions work on; may be given later, by ``configure`` or per session.
        class_: base class of its sessions.
        options: of :class:`Session`.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        bind: Engine | None = None,
        class_: type[Session] = Session,
        **options: Any,
    ) -> None:
        self.kw: dict[str, Any] = {"engine": engine if engine is not None else bind, **options}
        self.class_: type[Session] = type(class_.__name__, (class_,), {})

    def __call__(self, **local: Any) -> Session:
        """Make a session; ``local`` overrides settings."""
        if "bind" in local:
            local["engine"] = local.pop("bind")
        return self.class_(**{**self.kw, **local})

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A session with a transaction begun, which is committed at the end of the block."""
        with self() as session, session.begin():
            yield session

    def configure(self, **options: Any) -> None:
        """Change settings for the sessions to come."""
        if "bind" in options:
            options["engine"] = options.pop("bind")
        self.kw.update(options)

    def __repr__(self) -> str:
        return f"sessionmaker({', '.join(f'{name}={value!r}' for name, value in self.kw.items())})"
