"""The prompt of the shell: completion, history, several lines, colours. Needs prompt_toolkit and Pygments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer  # type: ignore[import-untyped, unused-ignore]

from kvdialect.cli.shell import history_file


class _Words(Completer):
    """Completes names of tables and columns, and words of SQL."""

    def __init__(self, words: Callable[[], Iterable[str]]) -> None:
        self._words = words

    def get_completions(self, document: Document, complete_event: Any) -> Iterator[Completion]:  # noqa: ARG002
        begun = document.get_word_before_cursor(WORD=False)
        if document.text_before_cursor.strip() == document.text_before_cursor.strip().lstrip(" ") and not begun:
            return
        dotted = document.text.lstrip().startswith(".") and " " not in document.text.strip()
        typed = document.text.strip() if dotted else begun
        for word in dict.fromkeys(self._words()):
            if word.lower().startswith(typed.lower()) and word.startswith(".") == dotted:
                yield Completion(word, start_position=-len(typed))


def prompt(
    label: Callable[[], str], whole: Callable[[str], bool], words: Callable[[], Iterable[str]]
) -> Callable[[], str]:
    """What asks for a statement and returns it.

    Args:
        label: what stands in front of it.
        whole: whether what was typed is all of it; if not, the enter key begins another line.
        words: what words may be completed to.
    """
    path = history_file()
    session: PromptSession[str] = PromptSession(
        history=InMemoryHistory() if path is None else FileHistory(path),
        completer=_Words(words),
        lexer=PygmentsLexer(SqlLexer),
        multiline=Condition(lambda: not whole(get_app().current_buffer.text)),
        prompt_continuation=lambda width, _number, _soft: "   > ".rjust(width),
        complete_while_typing=False,
    )
    return lambda: session.prompt(label())
