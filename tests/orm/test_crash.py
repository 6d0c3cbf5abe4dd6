"""kill -9 in the middle of Session commits: what was acknowledged is there, whole, with its index entries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from consistency import check_consistency
from orm_records import Coin, coin_id, models
from sqlalchemy import func, select

from kvdialect import Session, create_engine

CYCLES = int(os.environ.get("KVDIALECT_CRASH_CYCLES", "6"))
PER_COMMIT = 5

WRITER = """
import sys
sys.path.insert(0, {folder!r})
from orm_records import Coin, coin, coin_id, models
from kvdialect import Session, create_engine
engine = create_engine({url!r})
models.create_all(engine)
number = {first}
while True:
    with Session(engine) as session, session.begin():
        session.add_all([coin(number * {per_commit} + n) for n in range({per_commit})])
        if number:
            session.get_one(Coin, coin_id((number - 1) * {per_commit})).spent_height = number
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.engine(n)) for n in ("lmdb", "rocksdb")])
def test_kill_9_loses_and_tears_nothing(name, tmp_path):
    """After each kill: every acknowledged commit is there; what is there is whole commits; indexes and counts agree."""
    url = f"{name}:///{tmp_path}/store"
    folder = str(Path(__file__).parent)
    acknowledged = -1
    for cycle in range(CYCLES):
        program = WRITER.format(folder=folder, url=url, first=acknowledged + 1, per_commit=PER_COMMIT)
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
            for _ in range(3 + cycle):
                acknowledged = int(process.stdout.readline())
            time.sleep(0.002 * cycle)
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
        acknowledged = max([acknowledged, *map(int, rest)])
        with create_engine(url) as engine:
            models.create_all(engine)
            check_consistency(engine)
            with Session(engine) as session:
                count = session.scalar(select(func.count()).select_from(Coin))
                assert count % PER_COMMIT == 0
                assert count // PER_COMMIT in (acknowledged + 1, acknowledged + 2)
                acknowledged = count // PER_COMMIT - 1
                for number in range(acknowledged):
                    assert session.get_one(Coin, coin_id(number * PER_COMMIT)).spent_height == number + 1
