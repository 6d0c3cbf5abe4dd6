"""Families that other processes make while a store is opened: a transaction knows no database opened after it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.engine("lmdb")

PROGRAM = """
import sys, threading
from kvdialect import Mapped, Session, create_engine, field, mapped, registry
models = registry()

@mapped(models)
class Log:
    __tablename__ = "logs"
    id: Mapped[int] = field(primary_key=True)

sys.stdin.readline()
with create_engine(sys.argv[1]) as engine:
    models.create_all(engine)
    errors = []

    def read():
        try:
            for number in range(20):
                with Session(engine) as session:
                    session.get(Log, number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    if errors:
        raise errors[0]
"""


def test_processes_that_make_the_same_tables_at_once_read_them_at_once(tmp_path):
    """Of processes that began together on a new store, one in four saw its table as dropped."""
    for attempt in range(3):
        url = f"lmdb:///{tmp_path}/store{attempt}"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        errors = [process.communicate()[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(errors)
