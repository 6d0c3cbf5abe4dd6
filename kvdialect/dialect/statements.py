"""What a statement is: its kind, its target, and the parts that the DBAPI runs itself.

SQLite, as the query engine of the SQL door, refuses ON CONFLICT and RETURNING on virtual tables; these clauses are cut
off here and given as parts of their own. A :class:`Part` knows which of the statement's parameters stand in it, so that
each part can be run by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import attrs

from kvdialect import exc
from kvdialect.schema.names import folded
from kvdialect.schema.tokens import Reader, split, syntax_error, table_names, tokenize

Kind = Literal[
    "select", "insert", "update", "delete", "ddl", "pragma", "transaction", "explain", "maintenance", "empty"
]
Resolution = Literal["ROLLBACK", "ABORT", "FAIL", "IGNORE", "REPLACE"]

RESOLUTIONS: Final = ("ROLLBACK", "ABORT", "FAIL", "IGNORE", "REPLACE")

_SCHEMA_TABLES: Final = frozenset(("sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema"))
SCHEMA_PRAGMAS: Final = frozenset({"table_list", "database_list", "index_info", "index_xinfo"})
PRAGMAS: Final = SCHEMA_PRAGMAS | {
    "table_info",
    "table_xinfo",
    "index_list",
    "foreign_key_list",
    "collation_list",
    "compile_options",
    "function_list",
    "module_list",
    "pragma_list",
    "encoding",
}
SCHEMA_SOURCES: Final = _SCHEMA_TABLES | {f"pragma_{name}" for name in PRAGMAS}
"""What tells of the schema where a table is named."""
_QUERIES: Final = ("SELECT", "VALUES")
_TEMPORARY: Final = ("TEMP", "TEMPORARY")
_CACHED: Final = 2000
_LONGEST_CACHED: Final = 50_000
"""In characters: longer texts have their values in them and seldom come again."""


@attrs.frozen
class Part:
    """A piece of a statement.

    Attributes:
        text: with each parameter written as ``?``.
        parameters: for each ``?`` of the text the number, from 0, of the statement's parameter that it stands for.
    """

    text: str
    parameters: tuple[int, ...] = ()

    def pick(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """The values that belong to this part, of those that :meth:`Statement.bind` returned."""
        return tuple([values[number] for number in self.parameters])


@attrs.frozen(kw_only=True)
class UpsertClause:
    """One ON CONFLICT clause of an INSERT.

    Attributes:
        target: the columns or expressions in its parentheses; None: any conflict.
        columns: as ``target``, where the item is a column, its name, else None.
        target_where: the condition of the partial index that is meant.
        sets: what DO UPDATE assigns: the columns and the expression, which is a row value where there are several.
        where: only rows for which it holds are updated.
        nothing: DO NOTHING.
    """

    target: tuple[Part, ...] | None = None
    columns: tuple[str | None, ...] | None = None
    target_where: Part | None = None
    sets: tuple[tuple[tuple[str, ...], Part], ...] = ()
    where: Part | None = None
    nothing: bool = False


@attrs.frozen(kw_only=True)
class ReturningItem:
    """One item of RETURNING.

    Attributes:
        expression: without the alias.
        alias: the name given with AS.
        column: the name of the column, if the item is nothing else.
        star: it is ``*``.
    """

    expression: Part
    alias: str | None = None
    column: str | None = None
    star: bool = False


@attrs.frozen(kw_only=True)
class TransactionText:
    """BEGIN and the like; the verbs are in lower case, ``mode`` is DEFERRED, IMMEDIATE, EXCLUSIVE or None."""

    verb: Literal["begin", "commit", "rollback", "savepoint", "release", "rollback to"]
    savepoint: str | None = None
    mode: str | None = None


@attrs.frozen(kw_only=True)
class PragmaText:
    """A PRAGMA; ``value`` is what stands after = or in the parentheses, without quotes."""

    schema: str | None
    name: str
    value: str | None = None


@attrs.frozen(kw_only=True)
class Definition:
    """What a statement of DDL does.

    Attributes:
        verb: in lower case.
        object: what kind of thing it does it to.
        schema: as written; None if not. A TEMP object has ``"temp"`` here.
        name: of the table, view or index.
        temporary: TEMP was written, or the schema is temp.
        guarded: IF EXISTS or IF NOT EXISTS was written.
        unique: of CREATE INDEX.
        table: of CREATE INDEX: the indexed table, which is in the schema of the index.
        prefix: of CREATE TABLE AS and CREATE VIEW: the text in front of AS.
        body: of CREATE TABLE AS and CREATE VIEW: the query behind AS.
        action: of ALTER: ``"rename table"``, ``"rename column"``, ``"add column"``, ``"drop column"``,
            ``"add constraint"``, ``"drop constraint"`` or ``"alter column"``.
        column: of ALTER: the column (or constraint) that is changed, added or dropped.
        new_name: of ALTER ... RENAME.
    """

    verb: Literal["create", "drop", "alter"]
    object: Literal["table", "view", "index"]
    schema: str | None = None
    name: str
    temporary: bool = False
    guarded: bool = False
    unique: bool = False
    table: str | None = None
    prefix: str | None = None
    body: Part | None = None
    action: str | None = None
    column: str | None = None
    new_name: str | None = None


@attrs.frozen(kw_only=True)
class Statement:
    """One statement, as far as the SQL door needs to know it.

    Attributes:
        sql: as it was given.
        kind: what it is.
        identifiers: all names in it, in lower case: whatever tables it uses are among them.
        tables: those that stand where tables are named.
        reads_schema: it reads ``sqlite_master`` or a function of a pragma.
        joined: of UPDATE: it has a FROM.
        first_rows: it, or a query in it, has ORDER BY and LIMIT.
        alone: it reads one table.
        parameters: for each parameter, in the order of SQLite's numbers, its name, or None where it has none.
        text: the statement without ON CONFLICT and RETURNING, and an UPDATE without OR: SQLite itself would end its
            transaction at an UPDATE OR ROLLBACK that fails.
        schema: of the table that INSERT, UPDATE or DELETE change, if written.
        table: that table.
        alias: another name that the statement uses for it.
        conflict: of INSERT OR and UPDATE OR: the resolution, in upper case.
        columns: the column list of INSERT.
        head: of UPDATE: its WITH.
        sets: what UPDATE assigns: the columns and the expression, which is a row value where there are several.
        source: of INSERT: a query or VALUES that gives the rows, with the statement's WITH in front; None for DEFAULT
            VALUES.
        simple_values: of INSERT, if the source is ``VALUES (?, ...), ...`` and nothing else: rows and columns; the
            parameters from 0 on are the values, row by row.
        upsert: the ON CONFLICT clauses, in order.
        returning: its items.
        returning_text: all of its items as one text.
        transaction: for the kind ``"transaction"``.
        pragma: for the kind ``"pragma"``.
        definition: for the kind ``"ddl"``.
    """

    sql: str
    kind: Kind
    identifiers: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()
    reads_schema: bool = False
    joined: bool = False
    first_rows: bool = False
    alone: bool = False
    parameters: tuple[str | None, ...] = ()
    text: Part
    schema: str | None = None
    table: str | None = None
    alias: str | None = None
    conflict: Resolution | None = None
    columns: tuple[str, ...] | None = None
    head: Part = Part("")
    sets: tuple[tuple[tuple[str, ...], Part], ...] = ()
    source: Part | None = None
    simple_values: tuple[int, int] | None = None
    upsert: tuple[UpsertClause, ...] = ()
    returning: tuple[ReturningItem, ...] = ()
    returning_text: Part | None = None
    transaction: TransactionText | None = None
    pragma: PragmaText | None = None
    definition: Definition | None = None

    @property
    def assigned(self) -> tuple[str, ...]:
        """The columns that UPDATE sets."""
        return tuple([name for names, _ in self.sets for name in names])

    def bind(self, values: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any]:
        """The values in the order of the parameters.

        Raises:
            ProgrammingError: there are too many or too few of them, or one of the names is missing.
        """
        names = self.parameters
        if isinstance(values, Mapping):
            return [self._named(number, values) for number in range(len(names))]
        if len(values) != len(names):
            raise exc.ProgrammingError(
                f"the statement has {len(names)} parameters, {len(values)} values were given",
                expected=len(names),
                given=len(values),
            )
        return values

    def _named(self, number: int, values: Mapping[str, Any]) -> Any:
        name = self.parameters[number]
        if name is None:
            raise exc.ProgrammingError(
                f"parameter {number + 1} has no name, but the values were given by name (give a sequence)"
            )
        try:
            return values[name]
        except KeyError as error:
            raise exc.ProgrammingError(f"no value was given for the parameter :{name}", name=name) from error


def parse(sql: str) -> Statement:
    """What ``sql`` is.

    Raises:
        NotSupportedError: a kind of statement, or a function, that the SQL door does not offer.
        ProgrammingError: it is not SQL, or more than one statement.
    """
    return _cached(sql) if len(sql) <= _LONGEST_CACHED else _Parser(sql).parse()


@lru_cache(_CACHED)
def _cached(sql: str) -> Statement:
    if "\0" in sql:
        raise exc.ProgrammingError("a statement has a NUL character in it, which SQL does not allow (bind the value)")
    return _Parser(sql).parse()


def _refused(what: str, instead: str) -> exc.NotSupportedError:
    return exc.NotSupportedError(f"{what} is not supported by kvdialect ({instead})", feature=what)


class _Parser:
    """Finds what a :class:`Statement` tells; used once."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.tokens = tokenize(sql)
        while self.tokens and self.tokens[-1].word == ";":
            self.tokens.pop()
        while self.tokens and self.tokens[0].word == ";":
            del self.tokens[0]
        self.numbers: dict[int, int] = {}
        """The number of the parameter at each token that is one."""
        self.names: list[str | None] = []
        self.reader = Reader(self.tokens)

    # ------------------------------------------------------------------------------------------ the whole

    def parse(self) -> Statement:
        if not self.tokens:
            return Statement(sql=self.sql, kind="empty", text=Part(""))
        self._refuse()
        self._number_parameters()
        identifiers = frozenset([folded(token.name) for token in self.tokens if token.is_name])
        tables = table_names(self.tokens)
        if "pragma_foreign_key_check" in tables:
            raise _refused("pragma_foreign_key_check in a query", "run PRAGMA foreign_key_check, which is the same")
        found: dict[str, Any] = {
            "sql": self.sql,
            "identifiers": identifiers,
            "tables": tables,
            "reads_schema": not SCHEMA_SOURCES.isdisjoint(tables),
            "parameters": tuple(self.names),
            "text": Part(self.sql, tuple(range(len(self.names)))),
        }
        found.update(self._statement())
        found["joined"] = found["kind"] == "update" and any(
            token.word == "FROM" and not token.depth and self.tokens[at - 1].word != "DISTINCT"
            for at, token in enumerate(self.tokens)
        )
        found["first_rows"] = self._orders_and_limits()
        found["alone"] = self._reads_one_table()
        return Statement(**found)

    def _orders_and_limits(self) -> bool:
        ordered = set()
        for token in self.tokens:
            if token.word == "ORDER":
                ordered.add(token.depth)
            elif token.word == "LIMIT" and token.depth in ordered:
                return True
        return False

    def _reads_one_table(self) -> bool:
        words = [token.word for token in self.tokens]
        if words.count("FROM") != 1 or "JOIN" in words:
            return False
        behind = words[words.index("FROM") + 1 :]
        end = next((at for at, word in enumerate(behind) if word in ("WHERE", "GROUP", "ORDER", "LIMIT")), len(behind))
        return "," not in behind[:end]

    def _refuse(self) -> None:
        tokens = self.tokens
        words = [token.word for token in tokens[:4]]
        if words[0] in ("CREATE", "DROP") and "TRIGGER" in words[1:3]:
            raise _refused(f"{words[0]} TRIGGER", "do in the program what the trigger should do")
        if words[:3] == ["CREATE", "VIRTUAL", "TABLE"]:
            module = next((b.name for a, b in itertools.pairwise(tokens) if a.word == "USING"), "")
            raise _refused(f"CREATE VIRTUAL TABLE ... USING {module}", "tables are rows of the store")
        if words[0] in ("ATTACH", "DETACH"):
            raise _refused(f"{words[0]} DATABASE", "a connection works on one store")
        if words[0] == "VACUUM" and any(token.word == "INTO" for token in tokens[1:3]):
            raise _refused("VACUUM INTO", "copy the directory of a store that nobody has open")
        for at, token in enumerate(tokens):
            if token.word == ";":
                raise exc.ProgrammingError("one statement at a time: there is more text behind the semicolon")
            if token.word == "INDEXED" and self._word(at + 1) == "BY" and self._names_index(at):
                raise _refused(
                    "INDEXED BY", "the index that costs least is taken; +column in the place of column keeps one out"
                )
            if token.is_name and folded(token.name) == "load_extension" and self._word(at + 1) == "(":
                raise _refused("load_extension()", "the SQL door has functions of its own")

    def _names_index(self, at: int) -> bool:
        """Whether INDEXED BY stands behind a table and before an index; both words may be names."""
        behind = self.tokens[at + 2 : at + 3]
        return at > 0 and self.tokens[at - 1].is_name and any(each.is_name and each.word != "FROM" for each in behind)

    def _number_parameters(self) -> None:
        """Give each parameter the number that SQLite gives it, from 0 on."""
        known: dict[str, int] = {}
        names = self.names
        for at, token in enumerate(self.tokens):
            if token.kind != "parameter":
                continue
            text = token.text
            if text == "?":
                number = len(names)
                names.append(None)
            elif text[0] == "?":
                number = int(text[1:]) - 1
                if not 0 <= number < 32766:
                    raise exc.ProgrammingError(f"variable number must be between ?1 and ?32766: {text}")
                names.extend([None] * (number + 1 - len(names)))
            elif text in known:
                number = known[text]
            else:
                number = known[text] = len(names)
                names.append(text[1:])
            self.numbers[at] = number

    def _word(self, at: int) -> str:
        return self.tokens[at].word if at < len(self.tokens) else ""

    def _part(self, start: int, stop: int) -> Part:
        """The text of a range of tokens."""
        return self._joined([(start, stop)])

    def _joined(self, ranges: Sequence[tuple[int, int]]) -> Part:
        """The texts of several ranges of tokens, one after the other."""
        texts: list[str] = []
        parameters: list[int] = []
        for start, stop in ranges:
            if start >= stop:
                continue
            if texts:
                texts.append(" ")
            at = self.tokens[start].start
            for index in range(start, stop):
                if index in self.numbers:
                    token = self.tokens[index]
                    texts.append(self.sql[at : token.start])
                    texts.append("?")
                    parameters.append(self.numbers[index])
                    at = token.end
            texts.append(self.sql[at : self.tokens[stop - 1].end])
        return Part("".join(texts), tuple(parameters))

    def _expression(self, start: int, stop: int) -> Part:
        if start >= stop:
            raise syntax_error(self.tokens[stop] if stop < len(self.tokens) else None)
        return self._part(start, stop)

    def _statement(self) -> dict[str, Any]:
        reader = self.reader
        with_end = self._skip_with()
        word = reader.word
        if word in _QUERIES:
            return {"kind": "select"}
        if word in ("INSERT", "REPLACE"):
            return self._insert(with_end)
        if word in ("UPDATE", "DELETE"):
            return self._change(with_end)
        if with_end == 0:
            match word:
                case "EXPLAIN":
                    return {"kind": "explain"}
                case "PRAGMA":
                    return {"kind": "pragma", "pragma": self._pragma()}
                case "CREATE" | "DROP" | "ALTER":
                    return {"kind": "ddl", "definition": getattr(self, "_" + word.lower())()}
                case "BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "SAVEPOINT" | "RELEASE":
                    return {"kind": "transaction", "transaction": self._transaction()}
                case "VACUUM" | "ANALYZE" | "REINDEX":
                    return {"kind": "maintenance"}
        raise syntax_error(reader.next)

    def _skip_with(self) -> int:
        """Pass over ``WITH name AS (...), ...``; return the index of the token behind it."""
        reader = self.reader
        if not reader.accept("WITH"):
            return 0
        if reader.word == "RECURSIVE" and reader.word_after() not in ("AS", "("):
            reader.accept("RECURSIVE")
        while True:
            reader.expect_name()
            if reader.word == "(":
                reader.group()
            reader.expect("AS")
            reader.accept("NOT")
            reader.accept("MATERIALIZED")
            reader.group()
            if not reader.accept(","):
                return reader.at

    # ------------------------------------------------------------------------------------------ rows

    def _insert(self, with_end: int) -> dict[str, Any]:
        reader = self.reader
        conflict: str | None = None
        conflict = "REPLACE" if reader.take().word == "REPLACE" else self._resolution()
        reader.expect("INTO")
        schema, table = reader.qualified()
        alias = reader.expect_name() if reader.accept("AS") else None
        columns = reader.names() if reader.word == "(" else None
        body = reader.at
        cut, returning = self._ends(upsert=True)
        found = {
            "kind": "insert",
            "schema": schema,
            "table": table,
            "alias": alias,
            "conflict": conflict,
            "columns": columns,
            "source": self._source(with_end, body, cut),
            "simple_values": self._simple_values(body, cut, columns),
            "upsert": self._upsert(cut, returning),
        }
        found.update(self._parts(cut, returning))
        return found

    def _change(self, with_end: int) -> dict[str, Any]:
        reader = self.reader
        kind = reader.take().word
        verb = reader.at
        conflict = None
        if kind == "UPDATE":
            conflict = self._resolution()
        else:
            reader.expect("FROM")
        resolved = reader.at
        schema, table = reader.qualified()
        alias = reader.expect_name() if reader.accept("AS") else None
        cut, returning = self._ends(upsert=False)
        found: dict[str, Any] = {
            "kind": kind.lower(),
            "schema": schema,
            "table": table,
            "alias": alias,
            "conflict": conflict,
            "head": self._part(0, with_end),
            "sets": self._sets(cut) if kind == "UPDATE" else (),
        }
        found.update(self._parts(cut, returning))
        if conflict is not None:
            found["text"] = self._joined([(0, verb), (resolved, cut)])
        return found

    def _sets(self, stop: int) -> tuple[tuple[tuple[str, ...], Part], ...]:
        """What a SET clause assigns."""
        reader = self.reader
        reader.accept("NOT", "INDEXED")
        reader.expect("SET")
        sets = []
        while True:
            names = reader.names() if reader.word == "(" else (reader.expect_name(),)
            reader.expect("=")
            start = reader.at
            while reader.at < stop and not self._ends_assignment(reader.at):
                reader.at += 1
            sets.append((names, self._expression(start, reader.at)))
            if not reader.accept(","):
                return tuple(sets)

    def _ends_assignment(self, at: int) -> bool:
        token = self.tokens[at]
        if token.depth:
            return False
        if token.word == "FROM":
            return self._word(at - 1) != "DISTINCT"  # IS DISTINCT FROM
        return token.word in (",", "WHERE", "ORDER", "LIMIT")

    def _resolution(self) -> str | None:
        if not self.reader.accept("OR"):
            return None
        resolution = self.reader.accept_any(RESOLUTIONS)
        if resolution is None:
            raise syntax_error(self.reader.next)
        return resolution

    def _ends(self, *, upsert: bool) -> tuple[int, int]:
        """Where the clauses begin that are cut off: the first ON CONFLICT (or RETURNING), and RETURNING."""
        tokens = self.tokens
        cut = end = len(tokens)
        for at in range(self.reader.at, end):
            token = tokens[at]
            if token.depth:
                continue
            if token.word == "RETURNING":
                return min(cut, at), at
            if upsert and cut == end and self._is_upsert(at):
                cut = at
        return cut, end

    def _is_upsert(self, at: int) -> bool:
        tokens = self.tokens
        return (
            tokens[at].word == "ON"
            and tokens[at].depth == 0
            and self._word(at + 1) == "CONFLICT"
            and self._word(at + 2) in ("(", "DO")
        )

    def _parts(self, cut: int, returning: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        end = len(self.tokens)
        if cut < end:
            found["text"] = self._part(0, cut)
        if returning < end:
            found["returning_text"] = self._expression(returning + 1, end)
            found["returning"] = tuple([self._item(*item) for item in split(self.tokens, returning + 1, end)])
        return found

    def _item(self, start: int, stop: int) -> ReturningItem:
        tokens = self.tokens
        if stop - start == 1 and tokens[start].word == "*":
            return ReturningItem(expression=Part("*"), star=True)
        alias = None
        if stop - start > 2 and tokens[stop - 2].word == "AS" and tokens[stop - 1].is_name:
            alias = tokens[stop - 1].name
            stop -= 2
        elif stop - start > 1 and self._is_alias(stop - 1):
            alias = tokens[stop - 1].name
            stop -= 1
        column = None
        if (stop - start) in (1, 3, 5) and all(
            tokens[at].kind in ("name", "quoted") if (at - start) % 2 == 0 else tokens[at].word == "."
            for at in range(start, stop)
        ):
            column = tokens[stop - 1].name
        return ReturningItem(expression=self._expression(start, stop), alias=alias, column=column)

    def _is_alias(self, at: int) -> bool:
        """The token at the end of an item is a name that cannot belong to the expression in front of it."""
        token, before = self.tokens[at], self.tokens[at - 1]
        if not token.is_name or token.word in ("END", "NULL", "ISNULL", "NOTNULL"):
            return False
        if before.word in {")", "END"} or before.kind in ("quoted", "string", "blob", "number"):
            return True
        return before.kind == "parameter" or (before.kind == "name" and before.word not in _OPERATOR_WORDS)

    def _source(self, with_end: int, body: int, cut: int) -> Part | None:
        word = self._word(body)
        if word == "DEFAULT" and self._word(body + 1) == "VALUES" and cut == body + 2:
            return None
        if word not in (*_QUERIES, "WITH"):
            raise syntax_error(self.tokens[body] if body < len(self.tokens) else None)
        if with_end and word == "WITH":
            inner = self._part(body, cut)
            outer = self._part(0, with_end)
            return Part(f"{outer.text} SELECT * FROM ({inner.text})", outer.parameters + inner.parameters)
        return self._joined([(0, with_end), (body, cut)])

    def _simple_values(self, body: int, cut: int, columns: tuple[str, ...] | None) -> tuple[int, int] | None:
        if self._word(body) != "VALUES":
            return None
        tokens, numbers = self.tokens, self.numbers
        at = body + 1
        rows = width = count = 0
        while True:
            if self._word(at) != "(":
                return None
            start = count
            while True:
                if numbers.get(at + 1) != count:
                    return None
                count += 1
                at += 2
                if at >= cut or tokens[at].word != ",":
                    break
            if self._word(at) != ")" or (rows and count - start != width):
                return None
            width = count - start
            rows += 1
            at += 1
            if at == cut:
                break
            if tokens[at].word != ",":
                return None
            at += 1
        return (rows, width) if columns is None or len(columns) == width else None

    def _upsert(self, start: int, stop: int) -> tuple[UpsertClause, ...]:
        reader = Reader(self.tokens[:stop], start)
        clauses = []
        while not reader.done:
            if not self._is_upsert(reader.at):
                raise syntax_error(reader.next)
            clauses.append(self._upsert_clause(reader))
        return tuple(clauses)

    def _upsert_clause(self, reader: Reader) -> UpsertClause:
        reader.expect("ON", "CONFLICT")
        target: tuple[Part, ...] | None = None
        columns: tuple[str | None, ...] | None = None
        target_where = None
        if reader.word == "(":
            items = split(self.tokens, *reader.group())
            target = tuple([self._expression(*item) for item in items])
            columns = tuple([self._column(*item) for item in items])
            if reader.accept("WHERE"):
                target_where = self._until(reader, lambda at: self._word(at) == "DO")
        reader.expect("DO")
        if reader.accept("NOTHING"):
            return UpsertClause(target=target, columns=columns, target_where=target_where, nothing=True)
        reader.expect("UPDATE", "SET")
        sets = []
        while True:
            names = reader.names() if reader.word == "(" else (reader.expect_name(),)
            reader.expect("=")
            sets.append(
                (names, self._until(reader, lambda at: self._word(at) in (",", "WHERE") or self._is_upsert(at)))
            )
            if not reader.accept(","):
                break
        where = self._until(reader, self._is_upsert) if reader.accept("WHERE") else None
        return UpsertClause(target=target, columns=columns, target_where=target_where, sets=tuple(sets), where=where)

    def _column(self, start: int, stop: int) -> str | None:
        """The column that an item of an index is; COLLATE and the direction may follow it."""
        token = self.tokens[start]
        rest = [token.word for token in self.tokens[start + 1 : stop]]
        if rest and rest[-1] in ("ASC", "DESC"):
            rest.pop()
        return token.name if token.is_name and (not rest or (rest[0] == "COLLATE" and len(rest) == 2)) else None

    def _until(self, reader: Reader, is_end: Any) -> Part:
        """The tokens up to one outside parentheses that ends the expression."""
        start = reader.at
        while not reader.done and not (self.tokens[reader.at].depth == 0 and is_end(reader.at)):
            reader.at += 1
        return self._expression(start, reader.at)

    # ------------------------------------------------------------------------------------------ definitions

    def _create(self) -> Definition:
        reader = self.reader
        reader.expect("CREATE")
        temporary = reader.accept_any(_TEMPORARY) is not None
        unique = reader.accept("UNIQUE")
        kind = self._object(("INDEX",) if unique else ("TABLE", "VIEW") if temporary else ("TABLE", "VIEW", "INDEX"))
        guarded = reader.accept("IF", "NOT", "EXISTS")
        schema, name = reader.qualified()
        found: dict[str, Any] = {}
        if kind == "index":
            reader.expect("ON")
            found["table"] = reader.expect_name()
        else:
            if kind == "view" and reader.word == "(":
                reader.group()
            if kind == "view" or reader.word == "AS":
                found["prefix"] = self.sql[: self.tokens[reader.at - 1].end]
                reader.expect("AS")
                found["body"] = self._expression(reader.at, len(self.tokens))
        if temporary and schema is None:
            schema = "temp"
        temporary = schema is not None and folded(schema) == "temp"
        return Definition(
            verb="create",
            object=kind,
            schema=schema,
            name=name,
            temporary=temporary,
            guarded=guarded,
            unique=unique,
            **found,
        )

    def _object(self, allowed: tuple[str, ...]) -> Any:
        word = self.reader.accept_any(allowed)
        if word is None:
            raise syntax_error(self.reader.next)
        return word.lower()

    def _drop(self) -> Definition:
        reader = self.reader
        reader.expect("DROP")
        kind = self._object(("TABLE", "VIEW", "INDEX"))
        guarded = reader.accept("IF", "EXISTS")
        schema, name = reader.qualified()
        if not reader.done:
            raise syntax_error(reader.next)
        temporary = schema is not None and folded(schema) == "temp"
        return Definition(verb="drop", object=kind, schema=schema, name=name, guarded=guarded, temporary=temporary)

    def _alter(self) -> Definition:
        reader = self.reader
        reader.expect("ALTER", "TABLE")
        schema, name = reader.qualified()
        action, column, new_name = self._alteration()
        temporary = schema is not None and folded(schema) == "temp"
        return Definition(
            verb="alter",
            object="table",
            schema=schema,
            name=name,
            temporary=temporary,
            action=action,
            column=column,
            new_name=new_name,
        )

    def _alteration(self) -> tuple[str, str | None, str | None]:
        reader = self.reader
        if reader.accept("RENAME"):
            if reader.accept("TO"):
                return "rename table", None, reader.expect_name()
            reader.accept("COLUMN")
            column = reader.expect_name()
            reader.expect("TO")
            return "rename column", column, reader.expect_name()
        if reader.accept("ADD"):
            if reader.accept("CONSTRAINT"):
                return "add constraint", reader.expect_name(), None
            if reader.word == "CHECK" and reader.word_after() == "(":
                return "add constraint", None, None
            reader.accept("COLUMN")
            return "add column", reader.expect_name(), None
        if reader.accept("DROP"):
            if reader.accept("CONSTRAINT"):
                return "drop constraint", reader.expect_name(), None
            reader.accept("COLUMN")
            return "drop column", reader.expect_name(), None
        if reader.accept("ALTER"):
            reader.accept("COLUMN")
            return "alter column", reader.expect_name(), None
        raise syntax_error(reader.next)

    # ------------------------------------------------------------------------------------------ the rest

    def _pragma(self) -> PragmaText:
        reader = self.reader
        reader.expect("PRAGMA")
        schema, name = reader.qualified()
        value = None
        if reader.accept("="):
            value = self._pragma_value(reader.at, len(self.tokens))
        elif reader.word == "(":
            value = self._pragma_value(*reader.group())
        elif not reader.done:
            raise syntax_error(reader.next)
        return PragmaText(schema=schema, name=folded(name), value=value)

    def _pragma_value(self, start: int, stop: int) -> str:
        if stop - start == 1 and self.tokens[start].is_name:
            return self.tokens[start].name
        return self._expression(start, stop).text

    def _transaction(self) -> TransactionText:
        reader = self.reader
        verb = reader.take().word.lower()
        mode = savepoint = None
        if verb == "begin":
            mode = reader.accept_any(("DEFERRED", "IMMEDIATE", "EXCLUSIVE"))
        if verb in ("begin", "commit", "end", "rollback"):
            reader.accept("TRANSACTION")
        if verb == "rollback" and reader.accept("TO"):
            verb = "rollback to"
        if verb in ("release", "rollback to") and reader.at + 1 < len(self.tokens):
            reader.accept("SAVEPOINT")
        if verb in ("savepoint", "release", "rollback to"):
            savepoint = reader.expect_name()
        if not reader.done:
            raise syntax_error(reader.next)
        return TransactionText(
            verb="commit" if verb == "end" else verb,  # type: ignore[arg-type]
            savepoint=savepoint,
            mode=mode,
        )


_OPERATOR_WORDS: Final = frozenset(
    (
        "AND", "OR", "NOT", "IS", "IN", "LIKE", "GLOB", "MATCH", "REGEXP", "BETWEEN", "ESCAPE", "COLLATE", "FROM",
        "DISTINCT", "CASE", "WHEN", "THEN", "ELSE", "AS",
    )
)  # fmt: skip
"""Words behind which a name is an operand, not an alias."""
