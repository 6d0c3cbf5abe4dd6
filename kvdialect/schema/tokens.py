"""Tokens of SQL text, by SQLite's rules, and a reader that walks over them.

What has to be known of a statement, or of a condition as text, is found by tokens, never by searching the text: names
may be quoted in four ways and contain any keyword, and so may strings and comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from kvdialect import exc
from kvdialect.schema.names import folded

TokenKind = Literal["name", "quoted", "string", "blob", "number", "parameter", "operator"]

_PATTERN: Final = re.compile(
    r"""
    (?P<space>[ \t\n\f\r\ufeff]+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<blob>[xX]'[^']*')
    |(?P<name>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    |(?P<number>0[xX][0-9a-fA-F]+|(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)?)
    |(?P<parameter>\?[0-9]*|[:@$][A-Za-z0-9_$\x80-\U0010ffff]+)
    |(?P<string>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    |(?P<operator>->>|->|\|\||<<|>>|<=|>=|==|!=|<>|[-+*/%&|~<>=(),.;])
    """,
    re.VERBOSE | re.DOTALL,
)

_NAMES: Final = frozenset(("name", "quoted", "string"))


class Token(NamedTuple):
    """One token.

    Attributes:
        kind: what it is; keywords are of the kind ``"name"``.
        text: as written.
        word: a name in upper case, or an operator: what keywords are compared with. Empty for everything that can be
            no keyword, such as a quoted name.
        start: where it begins in the text.
        end: where it ends.
        depth: in how many parentheses it stands; a parenthesis is as deep as what surrounds it.
    """

    kind: TokenKind
    text: str
    word: str
    start: int
    end: int
    depth: int

    @property
    def is_name(self) -> bool:
        """It can name something: SQLite takes strings too where only a name makes sense."""
        return self.kind in _NAMES

    @property
    def name(self) -> str:
        """The name without its quotes."""
        if self.kind == "name":
            return self.text
        quote = self.text[0]
        if quote == "[":
            return self.text[1:-1]
        return self.text[1:-1].replace(quote * 2, quote)


def tokenize(sql: str) -> list[Token]:
    """The tokens of ``sql``, without spaces and comments.

    Raises:
        ProgrammingError: a character that begins no token, or a string or quoted name without an end.
    """
    tokens = []
    depth = at = 0
    end = len(sql)
    match = _PATTERN.match
    while at < end:
        found = match(sql, at)
        if found is None:
            raise exc.ProgrammingError(f"unrecognized token: {sql[at : at + 40]!r}", position=at)
        kind = found.lastgroup
        start, at = at, found.end()
        if kind == "space":
            continue
        text = sql[start:at]
        word = ""
        if kind == "name":
            word = text.upper() if text.isascii() else ""
        elif kind == "operator":
            word = text
            if text == ")":
                depth -= 1
        tokens.append(Token(kind, text, word, start, at, depth))  # type: ignore[arg-type]
        if word == "(":
            depth += 1
    return tokens


_LISTS: Final = frozenset(("FROM", "JOIN", "INTO", "UPDATE"))
_LIST_ENDS: Final = frozenset(
    ("WHERE", "GROUP", "ORDER", "LIMIT", "HAVING", "WINDOW", "UNION", "EXCEPT", "INTERSECT", "SET", "VALUES", "SELECT")
)


def table_names(tokens: Sequence[Token]) -> frozenset[str]:
    """The names that stand where a statement names tables, in lower case, without those of their schemas."""
    found = set()
    listing: set[int] = set()  # how deep the lists of tables are that have begun
    for at, token in enumerate(tokens):
        before = tokens[at - 1].word if at else ""
        if token.word in _LISTS:
            listing.add(token.depth)
        elif token.word in _LIST_ENDS:
            listing.discard(token.depth)
        elif token.word == "(":
            if before in _LISTS or (before in (",", "(") and token.depth in listing):
                listing.add(token.depth + 1)
        elif token.word == ")":
            listing.discard(token.depth + 1)
        elif token.is_name and (before in _LISTS or (before in (",", "(") and token.depth in listing)):
            last = at + 2 if at + 2 < len(tokens) and tokens[at + 1].word == "." else at
            found.add(folded(tokens[last].name))
    return frozenset(found)


def syntax_error(token: Token | None) -> exc.ProgrammingError:
    """SQLite's words for a token that does not belong there; None stands for the end of the text."""
    if token is None:
        return exc.ProgrammingError("incomplete input: the statement ends too early")
    return exc.ProgrammingError(f'near "{token.text}": syntax error', position=token.start)


class Reader:
    """Walks over tokens.

    Attributes:
        tokens: all of them.
        at: index of the next one.
    """

    __slots__ = ("at", "tokens")

    def __init__(self, tokens: Sequence[Token], at: int = 0) -> None:
        self.tokens = tokens
        self.at = at

    @property
    def next(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    @property
    def word(self) -> str:
        """The next token as a keyword or operator; empty if it is neither, or at the end."""
        return self.tokens[self.at].word if self.at < len(self.tokens) else ""

    def word_after(self, distance: int = 1) -> str:
        at = self.at + distance
        return self.tokens[at].word if at < len(self.tokens) else ""

    @property
    def done(self) -> bool:
        return self.at >= len(self.tokens)

    def take(self) -> Token:
        if self.at >= len(self.tokens):
            raise syntax_error(None)
        token = self.tokens[self.at]
        self.at += 1
        return token

    def accept(self, *words: str) -> bool:
        """Pass over these words if they come next, all of them."""
        for offset, word in enumerate(words):
            if self.word_after(offset) != word:
                return False
        self.at += len(words)
        return True

    def accept_any(self, words: Iterable[str]) -> str | None:
        """Pass over the next word if it is one of these, and return it."""
        word = self.word
        if word and word in words:
            self.at += 1
            return word
        return None

    def expect(self, *words: str) -> None:
        for word in words:
            if self.word != word:
                raise syntax_error(self.next)
            self.at += 1

    def expect_name(self) -> str:
        token = self.take()
        if not token.is_name:
            raise syntax_error(token)
        return token.name

    def qualified(self) -> tuple[str | None, str]:
        """``name`` or ``schema.name``."""
        name = self.expect_name()
        if self.accept("."):
            return name, self.expect_name()
        return None, name

    def group(self) -> tuple[int, int]:
        """Pass over a parenthesis with all that is in it; return the range of the indexes of what is inside."""
        self.expect("(")
        start = self.at
        depth = self.tokens[start - 1].depth
        while not (self.word == ")" and self.tokens[self.at].depth == depth):
            self.take()
        self.at += 1
        return start, self.at - 1

    def names(self) -> tuple[str, ...]:
        """A list of names in parentheses."""
        self.expect("(")
        names = [self.expect_name()]
        while self.accept(","):
            names.append(self.expect_name())
        self.expect(")")
        return tuple(names)


def split(tokens: Sequence[Token], start: int, stop: int) -> list[tuple[int, int]]:
    """The ranges between the commas of ``tokens[start:stop]`` that stand in no further parenthesis."""
    ranges = []
    first = start
    if start < stop:
        depth = tokens[start].depth
        for at in range(start, stop):
            if tokens[at].word == "," and tokens[at].depth == depth:
                ranges.append((first, at))
                first = at + 1
        ranges.append((first, stop))
    return ranges


def canonical(text: str, *tables: str | None) -> str:
    """The same text for expressions that differ only in how they are written.

    That is in spaces, comments, quotes and upper case of names, in parentheses around the whole, in the ways to write
    ``=`` and ``<>``, and in whether ``tables`` stand before the names of columns.
    """
    found = tokenize(text)
    while len(found) > 1 and found[0].word == "(" and _closes(found):
        found = found[1:-1]
    known = {folded(table) for table in tables if table is not None}
    parts = []
    for at, token in enumerate(found):
        qualifies = at + 1 < len(found) and found[at + 1].word == "." and folded(token.name) in known
        if qualifies or (token.word == "." and at and folded(found[at - 1].name) in known):
            continue
        if token.kind in ("name", "quoted"):
            parts.append(quoted(folded(token.name)))
        else:
            parts.append(_SAME.get(token.word, token.text))
    return " ".join(parts)


_SAME: Final = {"==": "=", "!=": "<>"}


def _closes(found: Sequence[Token]) -> bool:
    """Whether the parenthesis at the beginning is closed at the end, and not before."""
    depth = found[0].depth
    return next(at for at in range(1, len(found)) if found[at].word == ")" and found[at].depth == depth) == (
        len(found) - 1
    )


def quoted(name: str) -> str:
    """A name as it may stand in any statement."""
    return '"' + name.replace('"', '""') + '"'
