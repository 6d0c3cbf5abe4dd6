"""A process that changes the schema is killed at random moments; the next one finds a sound store."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time

import pytest

from kvdialect.store.engine import open_engine

# Makes and drops tables and indexes, and writes rows, for ever; each round ends with a line.
SCRIPT = textwrap.dedent(
    """
    import sys
    import attrs
    from kvdialect.codec.numeric import IntKind
    from kvdialect.codec.strings import TextKind
    from kvdialect.schema.definition import MISSING, FieldDefinition, IndexDefinition, IndexPart, TableDefinition
    from kvdialect.store.engine import open_engine
    from kvdialect.store.transaction import Transaction
    from kvdialect.store.writer import RowChanges, commit, write_rows

    def field(name, kind, **facts):
        return FieldDefinition(name=name, kind=kind, **{"default": MISSING, **facts})

    def index(name, *columns, **facts):
        return IndexDefinition(name=name, parts=tuple(IndexPart(name=column) for column in columns), **facts)

    def table(name):
        fields = (field("id", IntKind(), autoincrement=True), field("name", TextKind()))
        indexes = (index(f"{name}_by_name", "name"),)
        return TableDefinition(name=name, fields=fields, primary_key=("id",), indexes=indexes)

    engine = open_engine(sys.argv[1])
    more = table("people")
    more = attrs.evolve(
        more,
        fields=(*more.fields, field("age", IntKind(), default=3)),
        indexes=(*more.indexes, index("by_age", "age", "name", unique=False)),
    )
    print("open", flush=True)
    while True:
        engine.create_all([table("pets")])
        if "people" not in engine.catalog.entries:
            engine.create_all([table("people")])
        stored = engine.table("people")
        ids = engine.allocator(stored).take(20)
        txn = Transaction(engine)
        width = len(stored.definition.fields)
        write_rows(txn, stored, RowChanges(new=[(i, f"n{i % 7}", i)[:width] for i in ids]))
        commit(txn)
        engine.upgrade([more], batch_size=5)
        engine.create_index("people", index("built", "name", "id", unique=True), batch_size=5)
        engine.drop_index("built")
        engine.drop_table("pets")
        if len(list(engine.backend.scan("people"))) > 100:
            engine.drop_table("people")
        print("round", flush=True)
    """
)


@pytest.mark.parametrize(
    "persistent", [pytest.param(name, marks=pytest.mark.engine(name)) for name in ("lmdb", "rocksdb")]
)
def test_a_killed_process_leaves_a_sound_store(persistent, tmp_path, model):
    """After kill -9 at any moment no family is without a table, no entry without its record, and work goes on."""
    url = f"{persistent}:///{tmp_path}/store"
    rng = random.Random(5)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout.readline() == "open\n", process.stderr.read()
            time.sleep(rng.uniform(0.0, 0.4))
            assert process.poll() is None, process.stderr.read()
            process.kill()

        with open_engine(url) as engine:
            model.verify(engine)
