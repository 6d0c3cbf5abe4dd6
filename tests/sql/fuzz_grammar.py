"""The grammar of the differential fuzz: a seeded source of steps that knows the schema that they lead to."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from typing import Any

import attrs
from fuzz_expressions import Column, Expressions, Source, Values, literal, quoted
from fuzz_play import OLD, Outcome, Step
from fuzz_records import COLUMNS, KEYS

NAMES = ("t", "u", "Items", "odd name", "v_1", "order")
DECLARED = (
    "INTEGER",
    "INTEGER",
    "INT",
    "BIGINT",
    "REAL",
    "DOUBLE PRECISION",
    "TEXT",
    "TEXT",
    "VARCHAR(20)",
    "BLOB",
    "NUMERIC",
    "DECIMAL(10, 2)",
    "BOOLEAN",
    "DATE",
    "",
)
ACTIONS = ("CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION")
RESOLUTIONS = ("IGNORE", "REPLACE", "ABORT", "FAIL", "ROLLBACK")


@attrs.define
class Table:
    """A table as the grammar remembers it."""

    name: str
    columns: list[Column]
    key: tuple[str, ...] = ()
    alias: str | None = None
    unique: list[tuple[str, ...]] = attrs.field(factory=list)
    """What an upsert, or a foreign key, may name."""
    targets: dict[str, str] = attrs.field(factory=dict)
    """What else an upsert may name: expressions, and partial indexes, by the names of the indexes."""
    watched: set[str] = attrs.field(factory=set)
    """Columns of unique indexes, keys and references of the table to itself: the order of an update may show."""
    indexes: dict[str, str] = attrs.field(factory=dict)
    record: bool = False
    keyed: bool = False
    """WITHOUT ROWID."""
    to_itself: bool = False
    strict: bool = False

    @property
    def sql(self) -> str:
        """The name as statements write it."""
        return quoted(self.name)

    @property
    def writable(self) -> list[Column]:
        """All columns but the generated ones."""
        return [column for column in self.columns if not column.generated]

    def column(self, name: str) -> Column:
        """A column by name."""
        return next(column for column in self.columns if column.name == name)


def record_tables() -> dict[str, Table]:
    """The mapped records."""
    return {
        name: Table(
            name,
            list(columns),
            key=KEYS[name],
            unique=[KEYS[name], *([("email",)] if name == "authors" else [])],
            watched={*KEYS[name], "email"},
            record=True,
        )
        for name, columns in COLUMNS.items()
    }


@attrs.define
class Schema:
    """Tables and views, as they stand in a transaction."""

    tables: dict[str, Table] = attrs.field(factory=record_tables)
    views: dict[str, list[Column]] = attrs.field(factory=dict)


Effect = Callable[[Schema], None]


class Grammar:
    """Gives one step after the other; is told of each whether it was done."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.values = Values(self.rng)
        self.committed = Schema()
        self.schema = copy.deepcopy(self.committed)
        self.savepoints: list[tuple[str, Schema]] = []
        self.writer = 0
        self.dirty = False
        self.open = False
        """The writer is in a transaction, if only to read."""
        self.reader: Schema | None = None
        """What the other connection sees, if it is in a transaction."""
        self.serial = 0
        self.referred: set[str] = set()
        """Names of tables that a foreign key may refer to."""
        self._effect: Effect | None = None

    # ----------------------------------------------------------------- the walk

    def next(self) -> Step:
        """The next step."""
        step = self._next()
        plain = not (step.fresh or step.many or step.native)
        return self._numbered(step) if plain and step.parameters and self.rng.random() < 0.1 else step

    def _numbered(self, step: Step) -> Step:
        """The same with ``?NNN`` for its parameters, in another order; no text of a statement has a question mark."""
        order = list(range(len(step.parameters)))
        self.rng.shuffle(order)
        numbers = iter(order)
        values = dict(zip(order, step.parameters, strict=True))
        sql = re.sub(r"\?", lambda _: f"?{next(numbers) + 1}", step.sql)
        return attrs.evolve(step, sql=sql, parameters=tuple(values[number] for number in range(len(order))))

    def _next(self) -> Step:
        rng = self.rng
        self._effect = None
        if len(self.schema.tables) < 5 and rng.random() < 0.5:
            return self._written(self.create_table())
        roll = rng.random()
        if not self.dirty and roll < 0.06:
            # A transaction that read before cannot write on sqlite any more.
            return Step("COMMIT", connection=self.writer) if self.open else self.native()
        if roll < 0.12:
            return self._read_elsewhere()
        if roll < 0.20:
            return self._transaction()
        if roll < 0.28:
            return self._written(self.ddl())
        if roll < 0.30:
            return self._schema_check()
        if roll < 0.55:
            return self._written(self.insert())
        if roll < 0.70:
            return self._written(self.update())
        if roll < 0.76:
            return self._written(self.delete())
        return self._at(self.select(self.schema), self.writer)

    def told(self, step: Step, outcome: Outcome) -> None:
        """Follow what the step did."""
        if step.sql == "REOPEN":
            self._ended(None)
            self.reader = None
            return
        if step.native is not None:
            return
        if step.connection != self.writer:
            if step.sql == "COMMIT":
                self.reader = None
            return
        self.open = True
        if step.sql == "COMMIT":
            self._ended(None if outcome.error else copy.deepcopy(self.schema))
        elif step.sql == "ROLLBACK":
            self._ended(None)
        elif outcome.error is None:
            if self._effect is not None:
                self._effect(self.schema)
        elif not outcome.open:
            self._ended(None)

    def _ended(self, committed: Schema | None) -> None:
        if committed is not None:
            self.committed = committed
        self.schema = copy.deepcopy(self.committed)
        self.savepoints.clear()
        self.dirty = self.open = False

    def _at(self, step: Step, connection: int) -> Step:
        return attrs.evolve(step, connection=connection)

    def _written(self, step: Step) -> Step:
        self.dirty = True
        return self._at(step, self.writer)

    def _read_elsewhere(self) -> Step:
        """The other connection reads in a snapshot, which stays as it is whatever the writer commits."""
        other = 1 - self.writer
        if self.reader is not None and self.rng.random() < 0.3:
            return Step("COMMIT", connection=other)
        if self.reader is None:
            self.reader = copy.deepcopy(self.committed)
        return self._at(self.select(self.reader), other)

    def _transaction(self) -> Step:
        rng = self.rng
        roll = rng.random()
        if roll < 0.35:
            return Step("COMMIT", connection=self.writer)
        if roll < 0.45:
            return Step("ROLLBACK", connection=self.writer)
        if roll < 0.50 and not self.open:
            if self.reader is not None:
                return Step("COMMIT", connection=1 - self.writer)
            # Only one transaction writes at a time: hand over when the old one is over.
            self.writer = 1 - self.writer
            return Step("COMMIT", connection=self.writer)
        if roll < 0.53:
            return Step("REOPEN")
        if roll < 0.56:
            self.dirty = True
            # (OFF makes SQLite forget what it has deferred.)
            return Step("PRAGMA defer_foreign_keys = ON", connection=self.writer)
        if self.savepoints and roll < 0.80:
            position = rng.randrange(len(self.savepoints))
            name, schema = self.savepoints[position]
            if rng.random() < 0.6:

                def back(_: Schema) -> None:
                    self.schema = copy.deepcopy(schema)
                    del self.savepoints[position + 1 :]

                self._effect = back
                return Step(f"ROLLBACK TO {name}", connection=self.writer)

            def released(_: Schema) -> None:
                del self.savepoints[position:]

            self._effect = released
            return Step(f"RELEASE SAVEPOINT {name}", connection=self.writer)
        self.serial += 1
        name = f"sp{self.serial}"

        def opened(schema: Schema) -> None:
            self.savepoints.append((name, copy.deepcopy(schema)))

        self._effect = opened
        self.dirty = True
        return Step(f"SAVEPOINT {name}", connection=self.writer)

    def _schema_check(self) -> Step:
        table = self.table()
        rng = self.rng
        form = rng.randrange(5)
        if form == 0 or table.record:
            tables = "SELECT type, name, tbl_name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
            records = "', '".join(COLUMNS)
            return self._at(Step(f"{tables} AND tbl_name NOT IN ('{records}')"), self.writer)
        if form == 4:  # in what order, SQLite does not say
            listed = f"SELECT name, \"unique\", origin, partial FROM pragma_index_list('{table.name}')"
            return self._at(Step(listed), self.writer)
        pragma = ("table_xinfo", "table_info", "foreign_key_list")[form - 1]
        return self._at(Step(f"PRAGMA {pragma}({table.sql})"), self.writer)

    # ----------------------------------------------------------------- tables

    def table(self, schema: Schema | None = None, sql_only: bool = False) -> Table:
        """Some table."""
        tables = [table for table in (schema or self.schema).tables.values() if not (sql_only and table.record)]
        own = [table for table in tables if not table.record]
        return self.rng.choice(own if own and self.rng.random() < 0.85 else tables)

    def create_table(self) -> Step:
        """CREATE TABLE, with all that the grammar knows."""
        rng = self.rng
        free = [name for name in NAMES if name not in self.schema.tables] or ["again"]
        name = rng.choice(free)
        strict = rng.random() < 0.08
        columns: list[Column] = []
        parts: list[str] = []
        table = Table(name, columns, strict=strict)
        key_form = rng.choice(("alias", "alias", "auto", "single", "composite", "none", "keyed", "keyed pair"))
        if key_form in ("alias", "auto"):
            columns.append(Column("id", "INTEGER"))
            parts.append("id INTEGER PRIMARY KEY" + (" AUTOINCREMENT" if key_form == "auto" else ""))
            table.alias, table.key = "id", ("id",)
        elif key_form in ("single", "keyed"):
            declared = rng.choice(
                ("TEXT", "INT", "BLOB") if strict else ("TEXT", "INT", "NUMERIC", "BLOB", "VARCHAR(8)")
            )
            collation = " COLLATE NOCASE" if declared == "TEXT" and rng.random() < 0.3 else ""
            not_null = " NOT NULL" if rng.random() < 0.5 else ""
            columns.append(Column("k", declared, "NOCASE" if collation else "BINARY"))
            parts.append(f"k {declared}{collation}{not_null} PRIMARY KEY")
            table.key = ("k",)
        parts += [self._column(table, number) for number in range(rng.randrange(2, 6))]
        if key_form in ("composite", "keyed pair"):
            pair = tuple(column.name for column in columns if not column.generated)[:2]
            if len(pair) == 2:
                table.key = pair
                parts.append(f"PRIMARY KEY ({', '.join(map(quoted, pair))})")
        table.watched.update(table.key)
        if table.key:
            table.unique.append(table.key)
        writable = [column.name for column in table.writable]
        if len(writable) > 2 and rng.random() < 0.3:
            chosen = tuple(rng.sample(writable, 2))
            named = "CONSTRAINT uq " if rng.random() < 0.5 else ""
            parts.append(f"{named}UNIQUE ({', '.join(map(quoted, chosen))})")
            table.unique.append(chosen)
            table.watched.update(chosen)
        checkable = [c for c in table.writable if c.name != table.alias]
        if checkable and rng.random() < 0.3:
            checked = Expressions(rng, Source.of(checkable), None)
            named = "CONSTRAINT positive " if rng.random() < 0.6 else ""
            parts.append(f"{named}CHECK (coalesce({checked.number(1)}, 1) <> 7)")
        if rng.random() < 0.5:
            parts += self._reference(table)
        options = [
            word
            for word, given in (("WITHOUT ROWID", key_form.startswith("keyed") and table.key), ("STRICT", strict))
            if given
        ]

        table.keyed = "WITHOUT ROWID" in options

        def created(schema: Schema) -> None:
            schema.tables[name] = table

        self._effect = created
        return Step(f"CREATE TABLE {table.sql} ({', '.join(parts)}) {', '.join(options)}".rstrip())

    def _column(self, table: Table, number: int) -> str:
        rng = self.rng
        name = rng.choice(("a", "b", "c", "d")) + str(number)
        if rng.random() < 0.08:
            name = "big" + str(number)
        declared = rng.choice(DECLARED)
        if table.strict:
            declared = rng.choice(("INTEGER", "INT", "REAL", "TEXT", "BLOB", "ANY"))
        if name.startswith("big"):
            declared = "INTEGER"
        earlier = [column for column in table.columns if not column.generated and not column.big]
        if earlier and not table.strict and rng.random() < 0.12:
            expressions = Expressions(rng, Source.of(earlier), None, like=False)
            declared = rng.choice(("INTEGER", "TEXT"))
            text = expressions.number(1) if declared == "INTEGER" else expressions.text(1)
            table.columns.append(Column("g" + str(number), declared, generated=True))
            return f"g{number} {declared} GENERATED ALWAYS AS ({text}) {rng.choice(('STORED', 'VIRTUAL'))}"
        collation = (
            rng.choice(("NOCASE", "NOCASE", "RTRIM")) if "TEXT" in declared and rng.random() < 0.25 else "BINARY"
        )
        text = f"{name} {declared}".rstrip()
        column = Column(name, declared, collation)
        if collation != "BINARY":
            text += f" COLLATE {collation}"
        default = None
        if rng.random() < 0.2:
            value = self.values.of(column)
            if not table.strict or isinstance(value, {"TEXT": str, "BLOB": bytes, "REAL": float}.get(declared, int)):
                default = literal(value)
            if rng.random() < 0.3 and not table.strict:
                default = "(1 + 1)"
        nullable = rng.random() > 0.2
        if not nullable:
            text += " NOT NULL"
        if default is not None:
            text += f" DEFAULT {default}"
        if rng.random() < 0.12:
            text += " UNIQUE"
            table.unique.append((name,))
            table.watched.add(name)
        if rng.random() < 0.1:
            text += f" CHECK ({name} <> {literal(self.values.of(column, nulls=0))})"
        table.columns.append(Column(name, declared, collation, nullable, default))
        return text

    def _reference(self, table: Table) -> list[str]:
        rng = self.rng
        parents = [found for found in self.schema.tables.values() if found.unique and not found.record]
        if rng.random() < 0.2 and table.unique:
            parents = [table]
        if not parents:
            return []
        parent = rng.choice(parents)
        target = rng.choice(parent.unique)
        own = [column.name for column in table.writable if column.name != table.alias]
        if len(own) < len(target):
            return []
        chosen = rng.sample(own, len(target))
        for one, other in zip(chosen, target, strict=True):
            ours = table.column(one).affinity
            theirs = next((column.affinity for column in parent.columns if column.name == other), "")
            if parent is table and table.column(one).collation != table.column(other).collation:
                return []  # SQLite does not see that a row refers to itself if the collation says so
            # Releases of SQLite differ: in a float that refers to an INTEGER PRIMARY KEY, and in a row that refers to
            # itself, through columns of two affinities.
            if ours != theirs and (parent is table or "REAL" in (ours, theirs)):
                return []
        self.referred.add(parent.name)
        if parent is table:
            table.to_itself = True
        table.watched.update(chosen if parent is table else ())
        text = f"FOREIGN KEY ({', '.join(map(quoted, chosen))}) REFERENCES {parent.sql}"
        if target != parent.key or rng.random() < 0.6:
            text += f" ({', '.join(map(quoted, target))})"
        for verb in ("DELETE", "UPDATE"):
            if rng.random() < 0.6:
                text += f" ON {verb} {rng.choice(ACTIONS)}"
        if rng.random() < 0.6:
            deferred = " DEFERRABLE INITIALLY DEFERRED"
            text += rng.choice((deferred, deferred, deferred, " DEFERRABLE", " NOT DEFERRABLE INITIALLY DEFERRED"))
        return [text]

    # ----------------------------------------------------------------- other DDL

    def ddl(self) -> Step:
        """Any DDL."""
        rng = self.rng
        own = [table for table in self.schema.tables.values() if not table.record]
        if not own:
            return self.create_table()
        table = rng.choice(own)
        form = rng.randrange(13)
        if form <= 4:
            return self._create_index(table)
        if form == 5 and table.indexes:
            index = rng.choice(list(table.indexes))

            def dropped(schema: Schema) -> None:
                schema.tables[table.name].indexes.pop(index)
                schema.tables[table.name].targets.pop(index, None)

            self._effect = dropped
            return Step(f"DROP INDEX {quoted(index)}")
        if form == 6:

            def gone(schema: Schema) -> None:
                del schema.tables[table.name]

            self._effect = gone
            return Step(f"DROP TABLE {table.sql}")
        if form == 7 and len(self.schema.views) < 3:
            name = f"view{len(self.schema.views)}"
            step = self.select(self.schema, literals=True, plain=True)
            if name in self.schema.views:
                return self.create_table()
            columns = [Column(f"o{number}", "") for number in range(self._width)]

            def viewed(schema: Schema) -> None:
                schema.views[name] = columns

            self._effect = viewed
            return Step(f"CREATE VIEW {name} ({', '.join(c.name for c in columns)}) AS {step.sql}")
        if form == 8 and self.schema.views:
            name = rng.choice(list(self.schema.views))

            def unviewed(schema: Schema) -> None:
                del schema.views[name]

            self._effect = unviewed
            return Step(f"DROP VIEW {name}")
        if form == 9:
            free = [name for name in NAMES if name not in self.schema.tables]
            if free:
                name = rng.choice(free)
                sources = list(table.columns)
                select = ", ".join(quoted(column.name) for column in sources)
                columns = [Column(column.name, column.declared) for column in sources]
                if all(column.affinity == "BLOB" or not column.generated for column in sources):

                    def copied(schema: Schema) -> None:
                        schema.tables[name] = Table(
                            name,
                            [
                                Column(
                                    c.name,
                                    ""
                                    if c.affinity == "BLOB"
                                    else c.affinity.replace("INTEGER", "INT").replace("NUMERIC", "NUM"),
                                )
                                for c in columns
                            ],
                        )

                    self._effect = copied
                    return Step(f"CREATE TABLE {quoted(name)} AS SELECT {select} FROM {table.sql}")
        return self._alter(table)

    def _create_index(self, table: Table) -> Step:
        rng = self.rng
        self.serial += 1
        name = rng.choice((f"ix{self.serial}", f"odd ix {self.serial}"))
        unique = rng.random() < 0.3
        count = rng.choice((1, 1, 2)) if unique else rng.randrange(1, 4)
        plain = rng.sample(table.columns, min(len(table.columns), count))
        parts = []
        for column in plain:
            text = quoted(column.name)
            if rng.random() < 0.15:
                text = Expressions(rng, Source.of([column]), None, like=False).number(1) if not column.big else text
                if text == quoted(column.name) or not any(c.isalpha() for c in text):
                    text = f"lower({quoted(column.name)})" if column.affinity == "TEXT" else quoted(column.name)
            elif rng.random() < 0.15:
                text += f" COLLATE {rng.choice(('NOCASE', 'RTRIM', 'BINARY'))}"
            if rng.random() < 0.2:
                text += " DESC"
            parts.append(text)
        where = ""
        if rng.random() < 0.25:
            where = " WHERE " + Expressions(rng, Source.of(table.columns), None, like=False).condition(0)
        watched = {column.name for column in table.columns} if unique else set()
        upsertable = tuple(column.name for column in plain)
        is_plain = unique and not where and parts == [quoted(n) for n in upsertable]
        target = f" ({', '.join(parts)}){where}"
        if unique and not where and rng.random() < 0.3:
            target = f" ({', '.join(reversed(parts))}) WHERE 1 = 1"  # more than SQLite asks for

        def created(schema: Schema) -> None:
            found = schema.tables[table.name]
            found.indexes[name] = ", ".join(parts)
            found.watched |= watched
            if is_plain:
                found.unique.append(upsertable)
            elif unique:
                found.targets[name] = target

        self._effect = created
        return Step(
            f"CREATE {'UNIQUE ' if unique else ''}INDEX {quoted(name)} ON {table.sql} ({', '.join(parts)}){where}",
            message=False,
        )

    def _alter(self, table: Table) -> Step:
        rng = self.rng
        self.serial += 1
        form = rng.randrange(4)
        if form == 0:
            free = [name for name in NAMES if name not in self.schema.tables]
            if free:
                name = rng.choice(free)

                def renamed(schema: Schema) -> None:
                    found = schema.tables.pop(table.name)
                    found.name = name
                    schema.tables[name] = found

                if table.name in self.referred:
                    self.referred.add(name)
                self._effect = renamed
                return Step(f"ALTER TABLE {table.sql} RENAME TO {quoted(name)}")
        if form == 1 and table.columns:
            column = rng.choice(table.columns)
            name = ("big" if column.big else "r") + str(self.serial)

            def column_renamed(schema: Schema) -> None:
                found = schema.tables[table.name]

                def swap(old: Any) -> Any:
                    return name if old == column.name else old

                found.columns = [attrs.evolve(c, name=swap(c.name)) for c in found.columns]
                found.key = tuple(map(swap, found.key))
                found.unique = [tuple(map(swap, target)) for target in found.unique]
                found.watched = set(map(swap, found.watched))
                found.alias = swap(found.alias)
                found.targets.clear()

            self._effect = column_renamed
            return Step(f"ALTER TABLE {table.sql} RENAME COLUMN {quoted(column.name)} TO {name}")
        if form == 2 and len(table.columns) > 2:
            column = rng.choice(table.columns)

            def column_dropped(schema: Schema) -> None:
                found = schema.tables[table.name]
                found.columns = [c for c in found.columns if c.name != column.name]

            self._effect = column_dropped
            return Step(f"ALTER TABLE {table.sql} DROP COLUMN {quoted(column.name)}")
        declared = rng.choice(("INTEGER", "TEXT", "REAL", "BLOB"))
        column = Column(f"n{self.serial}", declared)
        text = f"n{self.serial} {declared}"
        earlier = [c for c in table.columns if not c.generated and not c.big]
        strays = 0 if table.strict else 0.08  # releases of SQLite differ in when they look at the type of a default
        roll = rng.random()
        if roll < 0.25:
            value = self.values.of(column, nulls=0, strays=strays)
            text += f" NOT NULL DEFAULT {literal(value)}"
            column = attrs.evolve(column, nullable=False, default=literal(value))
        elif roll < 0.5:
            value = self.values.of(column, strays=strays)
            text += f" DEFAULT {literal(value)}"
            column = attrs.evolve(column, default=literal(value))
        elif roll < 0.6 and earlier and declared in ("INTEGER", "TEXT"):
            expressions = Expressions(rng, Source.of(earlier), None, like=False)
            text += f" AS ({expressions.number(1) if declared == 'INTEGER' else expressions.text(1)}) VIRTUAL"
            column = attrs.evolve(column, generated=True)
        elif roll < 0.7:
            text += f" CHECK (n{self.serial} IS NOT 5)"

        def added(schema: Schema) -> None:
            schema.tables[table.name].columns.append(column)

        if table.strict and column.generated:  # releases of SQLite differ in whether they look at the rows
            text = f"n{self.serial} {declared}"
            column = Column(f"n{self.serial}", declared)
        self._effect = added
        return Step(f"ALTER TABLE {table.sql} ADD COLUMN {text}")

    # ----------------------------------------------------------------- writes

    def native(self) -> Step:
        """An operation of a Session."""
        rng = self.rng
        name = rng.choice(tuple(COLUMNS))
        columns = {column.name: column for column in COLUMNS[name]}
        key = tuple(self._typed(columns[part]) for part in KEYS[name])
        key_where = " AND ".join(f"{part} = ?" for part in KEYS[name])
        action = rng.choice(("add", "add", "update", "delete"))
        if action == "delete":
            return Step(f"DELETE FROM {name} WHERE {key_where}", key, native=(action, name, key, {}))
        others = [column for column in columns if column not in KEYS[name]]
        if action == "add":
            values = {column: self._typed(columns[column]) for column in others}
            marks = ", ".join("?" for _ in columns)
            return Step(
                f"INSERT INTO {name} ({', '.join([*KEYS[name], *others])}) VALUES ({marks})",
                (*key, *values.values()),
                native=(action, name, key, values),
            )
        chosen = rng.sample(others, rng.randrange(1, len(others) + 1))
        values = {column: self._typed(columns[column]) for column in chosen}
        sets = ", ".join(f"{column} = ?" for column in chosen)
        return Step(
            f"UPDATE {name} SET {sets} WHERE {key_where}",
            (*values.values(), *key),
            native=(action, name, key, values),
        )

    def _typed(self, column: Column) -> Any:
        """A value that a record's column takes."""
        rng = self.rng
        if column.nullable and rng.random() < 0.2:
            return None
        sorts: dict[str, tuple[Any, ...]] = {
            "BIGINT": (-5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2**62, -(2**63)),
            "TEXT": ("", "a", "A", "ab", "b", "x%", "é", "n\0m", "10", "a\0"),
            "REAL": (0.0, 0.5, -1.5, 1e10, 3.0),
            "BLOB": (b"", b"\x00", b"\xff\xff", b"ab"),
        }
        return rng.choice(sorts[column.declared])

    @staticmethod
    def _assigned(table: Table, column: Column, expressions: Expressions) -> str:
        """What one of several rows gets: of the column's type if the table is STRICT."""
        text = expressions.assigned(column)
        declared = {"INT": "INTEGER", "ANY": None}.get(column.declared, column.declared)
        return f"CAST({text} AS {declared})" if table.strict and declared else text

    def _value(self, table: Table, column: Column, *, fitting: bool = False) -> Any:
        if table.record:
            return self._typed(column) if self.rng.random() > 0.03 or not column.nullable else None
        return self.values.of(column, strays=0 if fitting else 0.08)

    def insert(self) -> Step:
        """INSERT in all its forms."""
        rng = self.rng
        table = self.table()
        columns = table.writable
        if rng.random() < 0.25:
            columns = [c for c in columns if rng.random() < 0.75] or columns
        resolution = f" OR {rng.choice(RESOLUTIONS)}" if rng.random() < 0.25 else ""
        if table.to_itself and "REPLACE" in resolution:
            resolution = ""
        fresh = None
        # Of a row that refers to itself the id would have to be known.
        if table.alias and not table.to_itself and rng.random() < 0.45:
            columns = [table.column(table.alias), *[c for c in columns if c.name != table.alias]]
            fresh = (table.sql, table.alias)
        elif table.alias:
            columns = [table.column(table.alias), *[c for c in columns if c.name != table.alias]]
        alias = rng.choice(("", "", "", "target"))
        target = f"{table.sql}{' AS ' if alias else ''}{alias} ({', '.join(quoted(c.name) for c in columns)})"
        parameters: list[Any] = []
        roll = rng.random()
        if roll < 0.02 and not table.alias:
            return Step(f"INSERT INTO {table.sql} DEFAULT VALUES")
        if roll < 0.15 and not fresh and not table.record:
            source = self.table()
            expressions = Expressions(rng, Source.of(source.columns), parameters)
            over, read = "", source.sql
            if rng.random() < 0.25:
                over, read = f"WITH c AS (SELECT * FROM {source.sql} WHERE {expressions.condition(0)}) ", "c"
            # Where kvdialect gives an id, SQLite would give another.
            items = [
                f"coalesce({expressions.number(2)} % 41, {rng.randrange(30)})"
                if c.name == table.alias
                else self._assigned(table, c, expressions)
                for c in columns
            ]
            total = self._total_order(source)
            where = expressions.condition(1)
            body = f"SELECT {', '.join(items)} FROM {read} WHERE {where} ORDER BY {total} LIMIT 6"
            text = f"{over}INSERT{resolution} INTO {target} {body}"
            if not resolution and rng.random() < 0.5:
                text += self._upsert(table, parameters, alias or table.sql)
            text += self._returning(table, parameters)
            return Step(text, tuple(parameters), message=False, whole=" RETURNING " in text)
        if roll < 0.25 and not fresh:
            return self._insert_many(table, columns, resolution, target, alias)
        rows = 1 if fresh else rng.choice((1, 1, 2, 3, 5, 8))
        # A wrong type undoes the statement, which SQLite only does if it keeps a journal of it.
        upserted = not resolution and rng.random() < 0.4
        unjournaled = resolution not in ("", " OR ABORT") or upserted
        texts = []
        for row in range(rows):
            marks = []
            for position, column in enumerate(columns):
                if fresh and position == 0:
                    parameters.append(None)
                    marks.append("?")
                    continue
                # Of a wrong type and a duplicate, SQLite finds the one first or the other.
                value = self._value(table, column, fitting=table.strict and (unjournaled or rows > 1))
                if column.name == table.alias and (value is None or (unjournaled and rows > 1)):
                    value = rng.randrange(30)
                if rng.random() < 0.85 or row == 0:
                    parameters.append(value)
                    marks.append("?")
                else:
                    marks.append(literal(value))
            texts.append(f"({', '.join(marks)})")
        text = f"INSERT{resolution} INTO {target} VALUES {', '.join(texts)}"
        if resolution == " OR REPLACE" and rng.random() < 0.3:
            text = text.replace("INSERT OR REPLACE", "REPLACE", 1)
        if upserted:
            text += self._upsert(table, parameters, alias or table.sql, fresh=bool(fresh))
        text += self._returning(table, parameters)
        return Step(
            text, tuple(parameters), fresh=fresh, message=rows == 1 and not table.strict, whole=" RETURNING " in text
        )

    def _insert_many(self, table: Table, columns: list[Column], resolution: str, target: str, alias: str) -> Step:
        """An executemany of one row each."""
        rng = self.rng
        fitting = table.strict or resolution not in ("", " OR ABORT")
        rows = []
        for _ in range(rng.randrange(2, 7)):
            values = [self._value(table, column, fitting=fitting) for column in columns]
            if table.alias:
                values[0] = rng.randrange(40)
            rows.append(tuple(values))
        text = f"INSERT{resolution} INTO {target} VALUES ({', '.join('?' for _ in columns)})"
        if not resolution and rng.random() < 0.3:
            literals: list[Any] = []
            upsert = self._upsert(table, literals, alias or table.sql)
            if not literals:
                text += upsert
        return Step(text, tuple(rows), many=True, message=False)

    def _upsert(self, table: Table, parameters: list[Any], name: str, *, fresh: bool = False) -> str:
        """ON CONFLICT clauses; ``name`` is what the table is called in the statement, ``fresh`` that it gives an id."""
        rng = self.rng
        text = ""
        targets = [f" ({', '.join(map(quoted, target))})" for target in table.unique] + list(table.targets.values())
        rng.shuffle(targets)
        for target in targets[: rng.choice((0, 1, 1, 2, 2, 3))]:
            text += f" ON CONFLICT{target}"
            if rng.random() < 0.04:
                text += " AND ?" if " WHERE " in target else f" WHERE {quoted(table.columns[0].name)} > ?"
                parameters.append(1)
            text += self._conflict_action(table, parameters, name, fresh)
        if not text or rng.random() < 0.2:
            # Which row is updated, where several are in the way, is open.
            open_ = table.record or table.keyed
            action = (
                " DO NOTHING" if open_ or rng.random() < 0.6 else self._conflict_action(table, parameters, name, fresh)
            )
            text += " ON CONFLICT" + action
        return text

    def _conflict_action(self, table: Table, parameters: list[Any], name: str, fresh: bool) -> str:
        rng = self.rng
        candidates = [c for c in table.writable if c.name != table.alias]
        if table.to_itself:
            # Where DO UPDATE sets what the table's own rows refer to, SQLite takes rows that refer to nothing.
            candidates = [c for c in candidates if c.name not in table.watched]
        chosen = rng.sample(candidates, min(len(candidates), rng.randrange(1, 3)))
        if not chosen or rng.random() < 0.35:
            return " DO NOTHING"
        # What id a row was to get, SQLite is told only if it got it.
        excluded = [c for c in table.columns if not (fresh and (c.name == table.alias or c.generated))]
        both = Source.of(excluded, "excluded") + Source.of(table.columns, name)
        expressions = Expressions(rng, both, parameters)
        form = rng.random()
        other = self.table()
        if len(chosen) == 2 and form < 0.25 and not table.record:
            values = [expressions.assigned(column) for column in chosen]
            sets = f"({', '.join(quoted(c.name) for c in chosen)}) = ({', '.join(values)})"
        elif len(chosen) == 2 and form < 0.45 and not table.record:
            inner = Expressions(rng, Source.of(other.columns, "o") + both, parameters)
            values = [inner.assigned(column) for column in chosen]
            sets = (
                f"({', '.join(quoted(c.name) for c in chosen)}) = (SELECT {', '.join(values)}"
                f" FROM {other.sql} AS o WHERE {inner.condition(1)} ORDER BY {self._total_order(other, 'o')} LIMIT 1)"
            )
        else:
            parts = []
            for column in chosen:
                value = f"excluded.{quoted(column.name)}"
                if not table.record and rng.random() < 0.4:
                    value = expressions.assigned(column)
                parts.append(f"{quoted(column.name)} = {value}")
            sets = ", ".join(parts)
        text = f" DO UPDATE SET {sets}"
        if rng.random() < 0.3:
            text += f" WHERE {expressions.condition(1)}"
        return text

    def _returning(self, table: Table, parameters: list[Any]) -> str:
        rng = self.rng
        if rng.random() > 0.25 or (OLD and table.name in self.referred):
            return ""
        exact = [column for column in table.columns if column.affinity != "REAL" and not column.generated]
        if rng.random() < 0.5 or not exact:
            return " RETURNING *"
        expressions = Expressions(rng, Source.of(exact), parameters)
        items = [expressions.plain() if OLD else expressions.any(1) for _ in range(rng.randrange(1, 4))]
        return " RETURNING " + ", ".join(f"{item} AS o{number}" for number, item in enumerate(items))

    def _one_row(self, table: Table, parameters: list[Any]) -> str | None:
        """A condition on a whole key: at most one row."""
        target = table.key or (table.unique[0] if table.unique else ())
        if not target or not all(any(c.name == name for c in table.columns) for name in target):
            return None
        parts = []
        for name in target:
            value = self._value(table, table.column(name))
            parts.append(f"{quoted(name)} = {literal(value)}" if self.rng.random() < 0.3 else f"{quoted(name)} = ?")
            if parts[-1].endswith("= ?"):
                parameters.append(value)
        return " AND ".join(parts)

    def update(self) -> Step:
        """UPDATE: of many rows only where their order cannot show."""
        rng = self.rng
        table = self.table()
        alone = [names[0] for names in table.unique if len(names) == 1 and not table.record]
        if alone and rng.random() < 0.1:
            return self._to_one_value(table, rng.choice(alone))
        parameters: list[Any] = []
        resolution = f" OR {rng.choice(RESOLUTIONS)}" if rng.random() < 0.2 else ""
        if table.to_itself and "REPLACE" in resolution:
            resolution = ""
        many = rng.random() < 0.5 and not table.to_itself and "FAIL" not in resolution
        candidates = [c for c in table.writable if not many or c.name not in table.watched]
        if not candidates:
            many, candidates = False, table.writable
        if not many and not (table.key or table.unique):
            return self.delete()
        chosen = rng.sample(candidates, min(len(candidates), rng.randrange(1, 4)))
        sources = Source.of(table.columns, table.sql)
        joined = ""
        link = ""
        if many and rng.random() < 0.2:
            other = self.table()
            if other is not table and other.unique and (keyed := self._link(table, other)):
                joined, link = f" FROM {other.sql} AS x", keyed
                sources = Source.of(table.columns, table.sql) + Source.of(other.columns, "x")
        expressions = Expressions(rng, sources, parameters)
        sets = []
        for column in chosen:
            if table.record:
                parameters.append(self._value(table, column))
                sets.append(f"{quoted(column.name)} = ?")
            else:
                value = self._assigned(table, column, expressions) if many else expressions.assigned(column)
                sets.append(f"{quoted(column.name)} = {value}")
        text = f"UPDATE{resolution} {table.sql} SET {', '.join(sets)}{joined}"
        if many:
            conditions = [link] if link else []
            if rng.random() < 0.9 or link:
                conditions.append(expressions.condition(1))
            if not joined and rng.random() < 0.2:
                conditions.append(self._membership(table, parameters))
            if conditions:
                text += " WHERE " + " AND ".join(conditions)
        else:
            where = self._one_row(table, parameters)
            if where is None:
                return self.delete()
            text += f" WHERE {where}"
        text += self._returning(table, parameters)
        return Step(text, tuple(parameters), message=not many, whole=" RETURNING " in text)

    def _to_one_value(self, table: Table, name: str) -> Step:
        """Give all rows one value of a unique column, which two of them cannot have."""
        value = self.values.of(table.column(name), nulls=0)
        return Step(f"UPDATE {table.sql} SET {quoted(name)} = ?", (value,), message=False)

    def _link(self, table: Table, other: Table) -> str | None:
        """A join on a key of the other table, so that each row meets at most one."""
        target = other.key
        if not target or any(not any(c.name == name for c in other.columns) for name in target):
            return None
        return " AND ".join(
            f"x.{quoted(name)} = {table.sql}.{quoted(self.rng.choice(table.columns).name)}" for name in target
        )

    def _membership(self, table: Table, parameters: list[Any]) -> str:
        """A condition that reads another table, or the same."""
        other = self.table()
        found = self._members(table, other)
        inner = Expressions(self.rng, Source.of(other.columns, "m"), parameters)
        rows = f"FROM {other.sql} AS m WHERE {inner.condition(1)}"
        if found is None:
            return f"EXISTS (SELECT 1 {rows})"
        word = self.rng.choice(("IN", "IN", "NOT IN"))
        return f"{table.sql}.{found[0]} {word} (SELECT m.{found[1]} {rows})"

    def _members(self, table: Table, other: Table) -> tuple[str, str] | None:
        """A column of each table, for IN: no texts among numbers, which virtual tables compare as texts."""
        texts = ("TEXT", "BLOB")
        pairs = [
            (quoted(one.name), quoted(among.name))
            for one in table.columns
            for among in other.columns
            if among.affinity in texts or one.affinity not in texts
        ]
        return self.rng.choice(pairs) if pairs else None

    def delete(self) -> Step:
        """DELETE of one row or of many."""
        rng = self.rng
        table = self.table()
        parameters: list[Any] = []
        expressions = Expressions(rng, Source.of(table.columns), parameters)
        where = self._one_row(table, parameters) if table.to_itself or rng.random() < 0.4 else None
        if where is None:
            where = " AND ".join(expressions.condition(1) for _ in range(rng.choice((1, 2, 2, 3))))
            if rng.random() < 0.2:
                where += f" AND {self._membership(table, parameters)}"
        text = f"DELETE FROM {table.sql} WHERE {where}{self._returning(table, parameters)}"
        return Step(text, tuple(parameters), message=False, whole=" RETURNING " in text)

    # ----------------------------------------------------------------- reads

    _width = 0

    def _total_order(self, table: Table, alias: str = "") -> str:
        prefix = f"{alias}." if alias else ""
        return ", ".join(
            f"{prefix}{quoted(c.name)} COLLATE BINARY, typeof({prefix}{quoted(c.name)})" for c in table.columns
        )

    def select(self, schema: Schema, *, literals: bool = False, plain: bool = False) -> Step:
        """A SELECT of any form."""
        rng = self.rng
        parameters: list[Any] | None = None if literals else []
        form = rng.randrange(18 if not plain else 6)
        table = self.table(schema)
        source = Source.of(table.columns)
        name = table.sql
        if schema.views and rng.random() < 0.1 and not plain:
            view = rng.choice(list(schema.views))
            self._width = len(schema.views[view])
            return Step(f"SELECT * FROM {view}", loose=True)
        expressions = Expressions(rng, source, parameters)
        if form <= 2:
            self._width = len(table.columns)
            items = ", ".join(quoted(c.name) for c in table.columns)
            where = f" WHERE {expressions.condition(rng.choice((0, 1, 2)))}" if rng.random() < 0.8 else ""
            return self._step(f"SELECT {items} FROM {name}{where}", parameters)
        if form <= 4:
            chosen = [expressions.any(2) for _ in range(rng.randrange(1, 4))]
            items = ", ".join(f"{text} AS o{number}" for number, text in enumerate(chosen))
            where = f" WHERE {expressions.condition(2)}" if rng.random() < 0.8 else ""
            self._width = len(chosen)
            if rng.random() < 0.3 and not plain:
                return self._step(f"SELECT DISTINCT {items} FROM {name}{where}", parameters, loose=True)
            return self._step(f"SELECT {items} FROM {name}{where}", parameters)
        if form == 5:
            return self._join(schema, parameters)
        if form <= 7:
            return self._join(schema, parameters)
        if form <= 9:
            order = self._total_order(table)
            direction = rng.choice(("", " DESC"))
            where = f" WHERE {expressions.condition(1)}" if rng.random() < 0.6 else ""
            first = f"{quoted(rng.choice(table.columns).name)}{direction}"
            if rng.random() < 0.3:
                first += " NULLS LAST" if not direction else " NULLS FIRST"
            limit = f" LIMIT {rng.randrange(6)}" if rng.random() < 0.6 else ""
            limit += f" OFFSET {rng.randrange(4)}" if limit and rng.random() < 0.5 else ""
            return self._step(
                f"SELECT * FROM {name}{where} ORDER BY {first}, {order}{limit}",
                parameters,
                ordered=True,
            )
        if form <= 12:
            return self._aggregate(table, parameters)
        if form == 13:
            return self._window(table, parameters)
        if form == 14:
            return self._with(schema, table, parameters)
        if form == 15:
            return self._compound(schema, parameters)
        return self._subquery(schema, table, parameters)

    @staticmethod
    def _step(sql: str, parameters: list[Any] | None, *, ordered: bool = False, loose: bool = False) -> Step:
        return Step(sql, tuple(parameters or ()), ordered=ordered, loose=loose)

    def _aggregate(self, table: Table, parameters: list[Any] | None) -> Step:
        rng = self.rng
        expressions = Expressions(rng, Source.of(table.columns), parameters)
        column = rng.choice(table.columns)
        shown = quoted(column.name)
        functions = [
            "count(*)",
            f"count({shown})",
            f"count(DISTINCT {shown})",
            f"min({shown} COLLATE BINARY)",
            f"max({shown} COLLATE BINARY)",
            f"sum({expressions.number(1)} % 40)",
            f"avg({expressions.number(0)} % 40)",
            f"total({shown} % 7)",
            f"count(*) FILTER (WHERE {expressions.condition(1)})",
        ]
        # Text order of parameters must be that of the statement: so only one of those with parameters.
        with_parameters = [functions[5], functions[6], functions[8]]
        if parameters is not None:
            parameters.clear()
        expressions = Expressions(rng, Source.of(table.columns), parameters)
        chosen = rng.sample([f for f in functions if f not in with_parameters], 2)
        chosen.append(f"sum({expressions.number(1)} % 40)")
        if rng.random() < 0.4:
            chosen.append(f"count(*) FILTER (WHERE {expressions.condition(1)})")
        text = f"SELECT {{group}}{', '.join(chosen)} FROM {table.sql}"
        if rng.random() < 0.5:
            text += f" WHERE {expressions.condition(1)}"
        if rng.random() < 0.25:
            return self._step(text.replace("{group}", ""), parameters)
        group = rng.choice(table.columns)
        text += f" GROUP BY {quoted(group.name)}"
        if rng.random() < 0.4:
            text += f" HAVING count(*) > {rng.randrange(3)}"
        return self._step(text.replace("{group}", f"{quoted(group.name)}, "), parameters, loose=True)

    def _window(self, table: Table, parameters: list[Any] | None) -> Step:
        rng = self.rng
        part, by, of = (quoted(rng.choice(table.columns).name) for _ in range(3))
        total = self._total_order(table)
        function = rng.choice(
            (
                f"row_number() OVER (PARTITION BY {part} ORDER BY {total})",
                f"rank() OVER (PARTITION BY {part} ORDER BY {by})",
                f"dense_rank() OVER (ORDER BY {by} DESC)",
                f"count({of}) OVER (PARTITION BY {part} ORDER BY {by})",
                f"sum({of} % 9) OVER (ORDER BY {by})",
                f"lag({of}, 1) OVER (ORDER BY {total})",
                f"first_value({of}) OVER (PARTITION BY {part} ORDER BY {total})",
                f"count(*) OVER (ORDER BY {total} ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
                f"ntile(3) OVER (ORDER BY {total})",
            )
        )
        condition = Expressions(rng, Source.of(table.columns), parameters).condition(1)
        names = ", ".join(quoted(c.name) for c in table.columns)
        return self._step(f"SELECT {names}, {function} AS w FROM {table.sql} WHERE {condition}", parameters)

    def _join(self, schema: Schema, parameters: list[Any] | None) -> Step:
        rng = self.rng
        tables = [self.table(schema) for _ in range(rng.choice((2, 2, 2, 3)))]
        aliases = [f"j{number}" for number in range(len(tables))]
        text = f"{tables[0].sql} AS j0"
        seen = Source.of(tables[0].columns, "j0")
        for alias, table in zip(aliases[1:], tables[1:], strict=True):
            kind = rng.choice(("JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"))
            # SQLite 3.40 loses generated columns that it reads from an index there.
            stored = [c for c in table.columns if not (c.generated and kind in ("RIGHT JOIN", "FULL JOIN"))]
            own = Source.of(stored, alias)
            left, right = rng.choice(seen.names()), rng.choice(own.names())
            condition = f"{left} = {right}"
            if rng.random() < 0.3:
                # A constant there makes SQLite 3.40 forget the rows of a RIGHT JOIN that follows.
                name, column = Expressions(rng, own, None).column()
                condition += f" AND {name} {rng.choice(('<>', '>=', 'IS NOT'))} {literal(self.values.of(column))}"
            text += f" {kind} {table.sql} AS {alias} ON {condition}"
            seen = seen + own
        items = rng.sample(seen.names(), min(len(seen.names()), rng.randrange(2, 6)))
        self._width = len(items)
        listed = ", ".join(f"{item} AS o{number}" for number, item in enumerate(items))
        where = f" WHERE {Expressions(rng, seen, parameters).condition(1)}" if rng.random() < 0.5 else ""
        return self._step(f"SELECT {listed} FROM {text}{where}", parameters)

    def _with(self, schema: Schema, table: Table, parameters: list[Any] | None) -> Step:
        rng = self.rng
        column = quoted(rng.choice(table.columns).name)
        if rng.random() < 0.5:
            return self._step(
                "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 8)"
                f" SELECT i, (SELECT count(*) FROM {table.sql} WHERE {column} = i) AS c FROM n",
                parameters,
            )
        condition = Expressions(rng, Source.of(table.columns), parameters).condition(1)
        other = self.table(schema)
        shown = quoted(rng.choice(other.columns).name)
        return self._step(
            f"WITH c AS (SELECT {column} AS x FROM {table.sql} WHERE {condition})"
            f" SELECT c.x, o.{shown} FROM c JOIN {other.sql} AS o ON o.{shown} = c.x",
            parameters,
        )

    def _compound(self, schema: Schema, parameters: list[Any] | None) -> Step:
        rng = self.rng
        parts = []
        for _ in range(rng.choice((2, 2, 3))):
            table = self.table(schema)
            expressions = Expressions(rng, Source.of(table.columns), parameters)
            parts.append(f"SELECT {expressions.any(1)} AS o0, {expressions.any(1)} AS o1 FROM {table.sql}")
        operator = rng.choice((" UNION ", " UNION ALL ", " INTERSECT ", " EXCEPT "))
        return self._step(operator.join(parts), parameters, loose=True)

    def _subquery(self, schema: Schema, table: Table, parameters: list[Any] | None) -> Step:
        rng = self.rng
        other = self.table(schema)
        inner = Expressions(rng, Source.of(other.columns, "i"), parameters)
        outer = quoted(rng.choice(table.columns).name)
        shown = quoted(rng.choice(other.columns).name)
        names = ", ".join(f"o.{quoted(c.name)}" for c in table.columns)
        form = rng.randrange(4)
        head = f"SELECT {names} FROM {table.sql} AS o WHERE"
        if form == 0:
            text = (
                f"{head} EXISTS (SELECT 1 FROM {other.sql} AS i WHERE i.{shown} = o.{outer} AND {inner.condition(1)})"
            )
        elif form == 1 and (found := self._members(table, other)):
            word = rng.choice(("IN", "NOT IN"))
            outer, shown = found
            text = f"{head} o.{outer} {word} (SELECT i.{shown} FROM {other.sql} AS i WHERE {inner.condition(1)})"
        elif form == 2:
            text = f"{head} o.{outer} >= (SELECT min(i.{shown}) FROM {other.sql} AS i WHERE {inner.condition(1)})"
        else:
            text = (
                f"SELECT o.{outer} AS k, (SELECT count(*) FROM {other.sql} AS i WHERE i.{shown} = o.{outer}) AS n"
                f" FROM {table.sql} AS o"
            )
        return self._step(text, parameters)
