"""kill -9 in the middle of commits at the SQL door: what was acknowledged is there, whole, with its index entries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa
from sql_consistency import check_sql_consistency

from kvdialect import create_engine

CYCLES = int(os.environ.get("KVDIALECT_CRASH_CYCLES", "5"))
PER_COMMIT = 4

WRITER = """
import sqlalchemy as sa
engine = sa.create_engine({url!r})
with engine.begin() as connection:
    for statement in (
        "create table if not exists parents (id integer primary key, name text unique, children int default 0)",
        "create table if not exists children (id integer primary key, parent int not null references parents"
        " on delete cascade, n int)",
        "create index if not exists children_parent on children (parent)",
    ):
        connection.execute(sa.text(statement))
number = {first}
while True:
    with engine.begin() as connection:
        connection.execute(
            sa.text("insert into parents values (:id, :name, :c)"), dict(id=number, name=f"p{{number}}", c={per_commit})
        )
        connection.execute(
            sa.text("insert into children (parent, n) values (:p, :n)"),
            [dict(p=number, n=number * {per_commit} + n) for n in range({per_commit})],
        )
        if number % 5 == 4:
            connection.execute(sa.text("delete from parents where id = :id"), dict(id=number - 2))
        if number % 7 == 0:
            connection.execute(sa.text(f"create table extra_{{number}} (id integer primary key, x text unique)"))
            connection.execute(sa.text(f"insert into extra_{{number}} values (1, 'x'), (2, 'y')"))
            connection.execute(sa.text(f'drop table if exists "extra_{{number - 7}}"'))
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.engine(n)) for n in ("lmdb", "rocksdb")])
def test_kill_9_tears_nothing_at_the_sql_door(name, tmp_path):
    """After each kill: acknowledged commits are there; what is there is whole; indexes, counts and references agree."""
    path = f"{tmp_path}/store"
    acknowledged = -1
    for cycle in range(CYCLES):
        url = f"kvdialect+{name}:///{path}"
        program = WRITER.format(url=url, first=acknowledged + 1, per_commit=PER_COMMIT)
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
            for _ in range(4 + cycle):
                acknowledged = int(process.stdout.readline())
            time.sleep(0.002 * cycle)
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
        acknowledged = max([acknowledged, *map(int, rest)])
        with create_engine(f"{name}:///{path}") as store:
            check_sql_consistency(store)
            engine = store.sqlalchemy()
            with engine.connect() as connection:
                last = _check_rows(connection)
                assert last in (acknowledged, acknowledged + 1)
                extra = [table for table in sa.inspect(connection).get_table_names() if table.startswith("extra_")]
                assert extra == [f"extra_{last // 7 * 7}"]
                assert connection.execute(sa.text(f"select * from {extra[0]}")).all() == [(1, "x"), (2, "y")]
            engine.dispose()
            acknowledged = last


def _check_rows(connection):
    """Whole commits only: the number of the last one."""
    parents = connection.execute(sa.text("select id, name, children from parents order by id")).all()
    last = parents[-1].id
    gone = {number - 2 for number in range(last + 1) if number % 5 == 4}
    assert parents == [(n, f"p{n}", PER_COMMIT) for n in range(last + 1) if n not in gone]
    children = connection.execute(
        sa.text("select parent, count(*), min(n) from children group by parent order by 1")
    ).all()
    assert children == [(n, PER_COMMIT, n * PER_COMMIT) for n in range(last + 1) if n not in gone]
    assert connection.scalar(sa.text("select count(*) from children")) == PER_COMMIT * len(parents)
    return last
