"""The parser of the SQL door, case by case: what it finds in a statement, and what it refuses."""

from __future__ import annotations

import pytest

from kvdialect import exc
from kvdialect.dialect.statements import Definition, Part, PragmaText, TransactionText, parse
from kvdialect.schema.tokens import canonical, quoted, tokenize


def shown(part: Part | None) -> str | None:
    """A part as text, with the numbers of its parameters behind it."""
    if part is None:
        return None
    return f"{part.text} {list(part.parameters)}" if part.parameters else part.text


# ------------------------------------------------------------------------------------------ kinds


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("", "empty"),
        (" ; ;; -- nothing", "empty"),
        ("select 1", "select"),
        ("VALUES (1), (2);", "select"),
        ("with a as (select 1) select * from a", "select"),
        ("with recursive a (n) as not materialized (select 1), b as materialized (select 2) select * from a", "select"),
        ("with recursive as (select 1) select * from recursive", "select"),
        ("with a as (select 1) insert into t select * from a", "insert"),
        ("with a as (select 1) update t set x = 1", "update"),
        ("with a as (select 1) delete from t", "delete"),
        ("insert into t values (1)", "insert"),
        ("replace into t values (1)", "insert"),
        ("update t set a = 1", "update"),
        ("delete from t", "delete"),
        ("explain query plan select 1", "explain"),
        ("pragma table_info(t)", "pragma"),
        ("create table t (a)", "ddl"),
        ("drop view v", "ddl"),
        ("alter table t add a", "ddl"),
        ("begin", "transaction"),
        ("vacuum", "maintenance"),
        ("analyze t", "maintenance"),
        ("reindex", "maintenance"),
    ],
)
def test_kind(sql, kind):
    """The kind of a statement decides who runs it."""
    assert parse(sql).kind == kind


# ------------------------------------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("sql", "names", "numbers"),
    [
        ("select ?, ?", [None, None], [0, 1]),
        ("select ?2, ?1, ?", [None, None, None], [1, 0, 2]),
        ("select ?3", [None, None, None], [2]),
        ("select :a, @a, $a, :a, ?", ["a", "a", "a", None], [0, 1, 2, 0, 3]),
        ("select ?, ?1, :b, ?2", [None, "b"], [0, 0, 1, 1]),
        ("select '?', \"?\", [?], `?`, x'3f' -- ?\n /* ? */, ?", [None], [0]),
        ("select $a1é, a$b", ["a1é"], [0]),
    ],
)
def test_parameters_have_the_numbers_of_sqlite(sql, names, numbers):
    """A parameter without a number follows the highest one; the same name is the same parameter."""
    statement = parse(f"insert into t {sql} returning 1")

    assert statement.parameters == tuple(names)
    assert statement.source is not None
    assert statement.source.parameters == tuple(numbers)


def test_binding():
    """Values are put in the order of the parameters, by place or by name."""
    assert parse("select :b, :a, :b").bind({"a": 1, "b": 2, "c": 3}) == [2, 1]
    assert parse("select ?2, ?1").bind((1, 2)) == (1, 2)
    for sql, values, message in (
        ("select ?", (), "the statement has 1 parameters, 0 values were given"),
        ("select ?", {"a": 1}, "parameter 1 has no name"),
        ("select :a", {"b": 1}, "no value was given for the parameter :a"),
    ):
        with pytest.raises(exc.ProgrammingError, match=message):
            parse(sql).bind(values)


# ------------------------------------------------------------------------------------------ rows


@pytest.mark.parametrize(
    ("sql", "target", "text"),
    [
        ("update t set a = ?", (None, "t", None, None), "update t set a = ? [0]"),
        ("update main . [a b] as `c` set a = 1", ("main", "a b", "c", None), "update main . [a b] as `c` set a = 1"),
        (
            "UPDATE OR Rollback t SET a = ? WHERE b = ?",
            (None, "t", None, "ROLLBACK"),
            "UPDATE t SET a = ? WHERE b = ? [0, 1]",
        ),
        (
            "with c as (select ?) update or ignore t set a = ?2 returning ?1",
            (None, "t", None, "IGNORE"),
            "with c as (select ?) update t set a = ? [0, 1]",
        ),
        ("delete from 't' where a = ? returning *", (None, "t", None, None), "delete from 't' where a = ? [0]"),
        ('delete from "t""x"', (None, 't"x', None, None), 'delete from "t""x"'),
        ("replace into t values (1)", (None, "t", None, "REPLACE"), "replace into t values (1)"),
        (
            "insert or abort into s.t as x default values",
            ("s", "t", "x", "ABORT"),
            "insert or abort into s.t as x default values",
        ),
        (
            "insert into t values (?) on conflict do nothing returning a",
            (None, "t", None, None),
            "insert into t values (?) [0]",
        ),
    ],
)
def test_target(sql, target, text):
    """Schema, table, alias and resolution; and the text that is left of the statement."""
    statement = parse(sql)

    assert (statement.schema, statement.table, statement.alias, statement.conflict) == target
    assert shown(statement.text) == text


@pytest.mark.parametrize(
    ("sql", "columns", "source", "simple"),
    [
        ("insert into t default values", None, None, None),
        ("insert into t values (?, ?), (?, ?)", None, "values (?, ?), (?, ?) [0, 1, 2, 3]", (2, 2)),
        ("insert into t (a, [b c]) values (:x, :y)", ("a", "b c"), "values (?, ?) [0, 1]", (1, 2)),
        ("insert into t (a) values (?, ?)", ("a",), "values (?, ?) [0, 1]", None),
        ("insert into t values (?2, ?1)", None, "values (?, ?) [1, 0]", None),
        ("insert into t values (?, ?1)", None, "values (?, ?) [0, 0]", None),
        ("insert into t values (?, 1)", None, "values (?, 1) [0]", None),
        ("insert into t values (?), (?, ?)", None, "values (?), (?, ?) [0, 1, 2]", None),
        (
            "insert into t select a, ? from u where true on conflict do nothing",
            None,
            "select a, ? from u where true [0]",
            None,
        ),
        (
            "insert into t select * from u join v on conflict.a = v.a",
            None,
            "select * from u join v on conflict.a = v.a",
            None,
        ),
        ("with c as (select ?) insert into t select * from c", None, "with c as (select ?) select * from c [0]", None),
        ("insert into t with c as (select 1) select * from c", None, "with c as (select 1) select * from c", None),
        (
            "with a as (select ?) insert into t with c as (select ?) select * from c",
            None,
            "with a as (select ?) SELECT * FROM (with c as (select ?) select * from c) [0, 1]",
            None,
        ),
    ],
)
def test_source(sql, columns, source, simple):
    """What gives the rows of an INSERT, and whether that is nothing but parameters in order."""
    statement = parse(sql)

    assert (statement.columns, shown(statement.source), statement.simple_values) == (columns, source, simple)


@pytest.mark.parametrize(
    ("sets", "assigned"),
    [
        ("a = 1", ("a",)),
        ("a = (select b from u where c = 1), [d e] = max(1, 2)", ("a", "d e")),
        ("(a, b) = (1, 2), c = 3", ("a", "b", "c")),
        ("(a, b) = (select x, y from u) from v where c = d", ("a", "b")),
        ("a = b is distinct from c, d = 1 from u", ("a", "d")),
        ("a = case when b then c else d end where e = 1", ("a",)),
    ],
)
def test_assigned(sets, assigned):
    """The columns that an UPDATE sets."""
    assert parse(f"update t set {sets}").assigned == assigned
    assert parse(f"update t not indexed set {sets}").assigned == assigned
    assert parse(f"update or fail t as x not indexed set {sets} returning *").assigned == assigned


# ------------------------------------------------------------------------------------------ upserts and RETURNING


@pytest.mark.parametrize(
    ("clauses", "found"),
    [
        ("on conflict do nothing", [(None, None, None, [], None, True)]),
        ('on conflict (a, "b" desc) do nothing', [(["a", '"b" desc'], ["a", "b"], None, [], None, True)]),
        (
            "on conflict (a collate nocase, lower(b)) do nothing",
            [(["a collate nocase", "lower(b)"], ["a", None], None, [], None, True)],
        ),
        (
            "on conflict (a) where b > ? do update set c = ? where d = ?",
            [(["a"], ["a"], "b > ? [0]", [(("c",), "? [1]")], "d = ? [2]", False)],
        ),
        (
            "on conflict (a) do update set (b, c) = (?2, ?1), d = excluded.d || ','",
            [(["a"], ["a"], None, [(("b", "c"), "(?, ?) [1, 0]"), (("d",), "excluded.d || ','")], None, False)],
        ),
        (
            "on conflict (a) do update set (b, c) = (select x, y from u where z = ? on conflict) where e",
            [(["a"], ["a"], None, [(("b", "c"), "(select x, y from u where z = ? on conflict) [0]")], "e", False)],
        ),
        (
            "on conflict (a) do nothing on conflict (b) do update set c = :x where d in (1, 2) on conflict do nothing",
            [
                (["a"], ["a"], None, [], None, True),
                (["b"], ["b"], None, [(("c",), "? [0]")], "d in (1, 2)", False),
                (None, None, None, [], None, True),
            ],
        ),
        ("on conflict do update set a = b", [(None, None, None, [(("a",), "b")], None, False)]),
    ],
)
def test_upsert(clauses, found):
    """Each ON CONFLICT clause: target, its columns, its condition, what is set, on which rows, or nothing."""
    for returning in ("", " returning *"):
        statement = parse(f"insert into t values (1) {clauses}{returning}")

        assert [
            (
                None if clause.target is None else [shown(part) for part in clause.target],
                None if clause.columns is None else list(clause.columns),
                shown(clause.target_where),
                [(names, shown(part)) for names, part in clause.sets],
                shown(clause.where),
                clause.nothing,
            )
            for clause in statement.upsert
        ] == found
        assert shown(statement.text) == "insert into t values (1)"


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ("*", [("*", None, None, True)]),
        (
            "a, t.b, main.t.[c d]",
            [("a", None, "a", False), ("t.b", None, "b", False), ("main.t.[c d]", None, "c d", False)],
        ),
        ("a as x, b 'y', c \"z\"", [("a", "x", "a", False), ("b", "y", "b", False), ("c", "z", "c", False)]),
        (
            "a + 1, a + 1 as n, max(a, 1) m",
            [("a + 1", None, None, False), ("a + 1", "n", None, False), ("max(a, 1)", "m", None, False)],
        ),
        (
            "a is null, a isnull, not b",
            [("a is null", None, None, False), ("a isnull", None, None, False), ("not b", None, None, False)],
        ),
        ("a collate nocase, a like b", [("a collate nocase", None, None, False), ("a like b", None, None, False)]),
        (
            "case when a then b else c end, case a when 1 then 2 end x",
            [("case when a then b else c end", None, None, False), ("case a when 1 then 2 end", "x", None, False)],
        ),
        ("?, :a as b, ? c", [("? [0]", None, None, False), ("? [1]", "b", None, False), ("? [2]", "c", None, False)]),
        (
            "(select x from u returning), 'text', 1.5 n",
            [
                ("(select x from u returning)", None, None, False),
                ("'text'", None, None, False),
                ("1.5", "n", None, False),
            ],
        ),
    ],
)
def test_returning(items, found):
    """Each item: its expression, alias, the column that it is, and whether it is the star."""
    statement = parse(f"delete from t returning {items}")

    assert [(shown(i.expression), i.alias, i.column, i.star) for i in statement.returning] == found
    assert statement.returning_text is not None
    assert parse("delete from t").returning == ()


# ------------------------------------------------------------------------------------------ definitions


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("create table t (a)", {"verb": "create", "object": "table", "name": "t"}),
        (
            "CREATE TABLE IF NOT EXISTS s.[t u] (a)",
            {"verb": "create", "object": "table", "schema": "s", "name": "t u", "guarded": True},
        ),
        (
            "create temp table t (a)",
            {"verb": "create", "object": "table", "schema": "temp", "name": "t", "temporary": True},
        ),
        (
            "create table temp.t (a)",
            {"verb": "create", "object": "table", "schema": "temp", "name": "t", "temporary": True},
        ),
        (
            "create table t as select ?, 1",
            {
                "verb": "create",
                "object": "table",
                "name": "t",
                "prefix": "create table t",
                "body": Part("select ?, 1", (0,)),
            },
        ),
        (
            "create view if not exists v (a, b) as values (1, 2);",
            {
                "verb": "create",
                "object": "view",
                "name": "v",
                "guarded": True,
                "prefix": "create view if not exists v (a, b)",
                "body": Part("values (1, 2)"),
            },
        ),
        (
            "create unique index s.i on t (a, lower(b)) where c",
            {"verb": "create", "object": "index", "schema": "s", "name": "i", "table": "t", "unique": True},
        ),
        (
            "drop table if exists main.t",
            {"verb": "drop", "object": "table", "schema": "main", "name": "t", "guarded": True},
        ),
        ("drop index 'i'", {"verb": "drop", "object": "index", "name": "i"}),
        (
            "alter table t rename to u",
            {"verb": "alter", "object": "table", "name": "t", "action": "rename table", "new_name": "u"},
        ),
        (
            "alter table t rename column a to b",
            {
                "verb": "alter",
                "object": "table",
                "name": "t",
                "action": "rename column",
                "column": "a",
                "new_name": "b",
            },
        ),
        (
            "alter table t rename a to [to]",
            {
                "verb": "alter",
                "object": "table",
                "name": "t",
                "action": "rename column",
                "column": "a",
                "new_name": "to",
            },
        ),
        (
            "alter table s.t add column a int default 1",
            {"verb": "alter", "object": "table", "schema": "s", "name": "t", "action": "add column", "column": "a"},
        ),
        (
            "alter table t add a",
            {"verb": "alter", "object": "table", "name": "t", "action": "add column", "column": "a"},
        ),
        (
            "alter table t drop column a",
            {"verb": "alter", "object": "table", "name": "t", "action": "drop column", "column": "a"},
        ),
        (
            "alter table t drop constraint c",
            {"verb": "alter", "object": "table", "name": "t", "action": "drop constraint", "column": "c"},
        ),
        (
            "alter table t add constraint c check (a)",
            {"verb": "alter", "object": "table", "name": "t", "action": "add constraint", "column": "c"},
        ),
        ("alter table t add check (a)", {"verb": "alter", "object": "table", "name": "t", "action": "add constraint"}),
        (
            "alter table t alter column a set not null",
            {"verb": "alter", "object": "table", "name": "t", "action": "alter column", "column": "a"},
        ),
    ],
)
def test_definition(sql, found):
    """What a statement of DDL does, and to what."""
    assert parse(sql).definition == Definition(**found)


# ------------------------------------------------------------------------------------------ pragmas and transactions


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("pragma foreign_keys", (None, "foreign_keys", None)),
        ("PRAGMA main.Table_Info('a b')", ("main", "table_info", "a b")),
        ("pragma foreign_keys = ON", (None, "foreign_keys", "ON")),
        ("pragma cache_size(-2000)", (None, "cache_size", "-2000")),
        ('pragma index_list("t""u")', (None, "index_list", 't"u')),
    ],
)
def test_pragma(sql, found):
    """Schema, name and value, without quotes."""
    assert parse(sql).pragma == PragmaText(schema=found[0], name=found[1], value=found[2])


@pytest.mark.parametrize(
    ("sql", "verb", "savepoint", "mode"),
    [
        ("begin", "begin", None, None),
        ("BEGIN IMMEDIATE TRANSACTION", "begin", None, "IMMEDIATE"),
        ("commit", "commit", None, None),
        ("end transaction", "commit", None, None),
        ("rollback transaction;", "rollback", None, None),
        ("rollback to s", "rollback to", "s", None),
        ("rollback transaction to savepoint [a b]", "rollback to", "a b", None),
        ("rollback to savepoint", "rollback to", "savepoint", None),
        ("savepoint 's'", "savepoint", "s", None),
        ("release s", "release", "s", None),
        ('release savepoint "s"', "release", "s", None),
    ],
)
def test_transaction(sql, verb, savepoint, mode):
    """The words of transactions, with what may be left out."""
    assert parse(sql).transaction == TransactionText(verb=verb, savepoint=savepoint, mode=mode)


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("sql", "feature"),
    [
        ("create trigger r after insert on t begin select 1; end", "CREATE TRIGGER"),
        ("create temp trigger r after insert on t begin select 1; end", "CREATE TRIGGER"),
        ("drop trigger r", "DROP TRIGGER"),
        ("create virtual table f using fts5(a)", "CREATE VIRTUAL TABLE ... USING fts5"),
        ("attach 'x.db' as x", "ATTACH DATABASE"),
        ("detach x", "DETACH DATABASE"),
        ("select load_extension('x')", "load_extension()"),
        ('select "LOAD_EXTENSION" (1)', "load_extension()"),
    ],
)
def test_what_is_refused(sql, feature):
    """What the SQL door does not offer is refused by name."""
    with pytest.raises(exc.NotSupportedError) as caught:
        parse(sql)

    assert caught.value.facts["feature"] == feature


@pytest.mark.parametrize(
    "sql", ["select load_extension from t", "select 'load_extension(1)'", "create table trigger_t (a)"]
)
def test_what_only_looks_refused(sql):
    """Columns, strings and names of tables may have the words of what is refused."""
    parse(sql)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select 1; select 2", "one statement at a time"),
        ("selec 1", 'near "selec": syntax error'),
        ("insert t values (1)", 'near "t": syntax error'),
        ("insert or t into u values (1)", 'near "t": syntax error'),
        ("insert into t", "incomplete input"),
        ("insert into t values (1) on conflict (a) do", "incomplete input"),
        ("insert into t values (1) on conflict (a) do update set b = ", "incomplete input"),
        ("delete from t returning", "incomplete input"),
        ("update t set", "incomplete input"),
        ("drop table t u", 'near "u": syntax error'),
        ("create table", "incomplete input"),
        ("alter table t frobnicate", 'near "frobnicate": syntax error'),
        ("select 'open", "unrecognized token"),
        ("select ?0", "variable number must be between"),
        ("select ?99999", "variable number must be between"),
        ("begin immediately", 'near "immediately": syntax error'),
    ],
)
def test_what_is_no_sql(sql, message):
    """A text that cannot be understood is an error in SQLite's words, and no other exception."""
    with pytest.raises(exc.ProgrammingError, match=message):
        parse(sql)


# ------------------------------------------------------------------------------------------ names and tokens


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("abc", "abc"),
        ('"a ""b"" c"', 'a "b" c'),
        ("`a``b`", "a`b"),
        ("[a]", "a"),
        ("'it''s'", "it's"),
        ("é_1$", "é_1$"),
    ],
)
def test_the_four_quotings(text, name):
    """A name is what stands between its quotes, with doubled ones halved."""
    [token] = tokenize(f" /* x */ {text} -- y")

    assert (token.is_name, token.name) == (True, name)
    assert parse(f"delete from {text}").table == name
    assert parse(f"select 1 from {quoted(name)}").identifiers == {"select", "from", name.lower()}


def test_tokens_know_their_depth():
    """A parenthesis is as deep as what surrounds it, so that a list is split at its own commas."""
    tokens = tokenize("f(a, (b)) /* ( */ || ')'")

    assert [(token.text, token.depth) for token in tokens] == [
        ("f", 0), ("(", 0), ("a", 1), (",", 1), ("(", 1), ("b", 2), (")", 1), (")", 0), ("||", 0), ("')'", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("lower( A )", '"LOWER"([a])', True),
        ("(a + 1)", "a /* plus */ + 1", True),
        ("((a))", "a", True),
        ("(a) + (b)", "a + b", False),
        ("t.a == 1", "a = 1", True),
        ("u.a = 1", "a = 1", False),
        ("a <> 'X'", "a != 'X'", True),
        ("a = 'X'", "a = 'x'", False),
        ("a", "b", False),
    ],
)
def test_canonical(one, other, same):
    """Expressions that differ in their writing alone have the same canonical text."""
    assert (canonical(one, "T", None) == canonical(other, "T", None)) is same


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("select * from sqlite_master", True),
        ('select * from "SQLite_Temp_Schema"', True),
        ("select * from pragma_table_info('t')", True),
        ("select sqlite_masters from t", False),
    ],
)
def test_reading_the_schema(sql, reads):
    """Statements on SQLite's own tables are run where the schema is."""
    assert parse(sql).reads_schema is reads
