"""Verification says what is wrong and where; repair makes indexes and counts of the records, and touches no record."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Index

import kvdialect.store.engine
from kvdialect import Bytes4, Mapped, Session, create_engine, exc, field, mapped, registry, restore
from kvdialect.storage import WriteBatch, open_backend
from kvdialect.storage.options import RESERVED_FAMILY
from kvdialect.store import verifier
from kvdialect.store.verification import Finding, Verification, Verifier

models = registry()


@mapped(models)
class City:
    """A record with indexes of all sorts."""

    __tablename__ = "cities"
    __table_args__ = (
        Index("by_country", "country", "size", kvdialect_include=["name"]),
        Index("large", "size", kvdialect_where=lambda c: c.size > 50),
        Index("by_tag", "tags", kvdialect_kind="multi"),
        Index("by_code", "code", unique=True),
    )
    id: Mapped[Bytes4] = field(primary_key=True)
    name: Mapped[str]
    country: Mapped[str | None] = None
    size: Mapped[int] = 0
    code: Mapped[str | None] = None
    tags: Mapped[list[str]] = field(factory=list)


def city(number: int) -> City:
    country = None if number % 5 == 0 else f"country {number % 7}"
    return City(
        number.to_bytes(4), f"city {number}", country, number, f"c{number}", [f"t{number % 3}", f"t{number % 4}"]
    )


COUNT = 100


@pytest.fixture
def engine(engine_name, tmp_path):
    with create_engine("memory://" if engine_name == "memory" else f"{engine_name}:///{tmp_path}/store") as opened:
        models.create_all(opened)
        with Session(opened) as session, session.begin():
            session.add_all(map(city, range(COUNT)))
        yield opened


def kinds(found: Verification) -> list[tuple[str, str | None, bool]]:
    return [(finding.kind, finding.index or finding.table, finding.repaired) for finding in found.findings]


def verified(engine, **options) -> Verification:
    """In this process, which takes a moment where another one takes a second."""
    return engine.verify(apart=False, **options)


def entries_of(engine, index):
    return list(engine.backend.scan(index))


def test_a_store_that_is_whole(engine):
    """Every row and every entry is read, and nothing is found."""
    seen = []
    found = engine.verify(progress=lambda what, count: seen.append((what, count)))

    assert found.ok
    assert found.findings == ()
    assert found.rows == {"cities": COUNT}
    assert found.entries == {
        name: len(entries_of(engine, name)) for name in ("by_country", "large", "by_tag", "by_code")
    }
    assert "nothing is wrong" in str(found)
    assert ("cities", COUNT) in seen
    assert engine.repair_indexes() == found


def test_tables_of_sql_are_verified_too(engine):
    pytest.importorskip("apsw")
    door = engine.sqlalchemy()
    with door.begin() as connection:
        connection.execute(sa.text("create table t (id integer primary key, x text unique, y)"))
        connection.execute(sa.text("create index t_y on t (y)"))
        connection.execute(sa.text("insert into t (x, y) values ('a', 1), ('b', 2), (null, 3), (null, 3)"))
    found = verified(engine)
    assert found.ok, str(found)
    assert found.rows["t"] == 4
    [entry, *_] = [key for key, _ in engine.backend.scan("kvdialect.sql") if not key.startswith(b"\0\0\0\x06")][-1:]
    engine.backend.delete("kvdialect.sql", entry)
    engine.backend.put("kvdialect.sql", b"\0\0\x99\x99stray", b"x")

    found = verified(engine)
    assert sorted(kind for kind, _, _ in kinds(found)) == ["missing entry", "stray data"]
    repaired = engine.repair_indexes()
    assert sorted((kind, mended) for kind, _, mended in kinds(repaired)) == [
        ("missing entry", True),
        ("stray data", False),
    ]
    door.dispose()


@pytest.mark.parametrize("index", ["by_country", "large", "by_tag", "by_code"])
def test_what_is_wrong_in_an_index_is_found_and_repaired(engine, index):
    """Lost, invented and changed entries, each by its own name, and all of it is as before in the end."""
    before = entries_of(engine, index)
    key, _ = before[3]
    engine.backend.delete(index, key)
    engine.backend.put(index, before[5][0], before[6][1] + b"x")
    engine.backend.put(index, b"\x01zz" + before[4][0][3:], before[4][1])

    found = verified(engine)
    assert not found.ok
    assert {kind for kind, _, _ in kinds(found)} <= {"missing entry", "wrong entry", "stray entry", "undecodable entry"}
    assert ("missing entry", index, False) in kinds(found)
    assert any(kind in ("wrong entry", "undecodable entry") for kind, _, _ in kinds(found))
    assert any(kind in ("stray entry", "undecodable entry") for kind, _, _ in kinds(found))
    assert all(finding.index == finding.cf == index and finding.table == "cities" for finding in found.findings)
    assert all(index in finding.message for finding in found.findings)

    repaired = engine.repair_indexes()
    assert repaired.ok, str(repaired)
    assert entries_of(engine, index) == before
    assert verified(engine).findings == ()


def test_a_whole_index_is_made_anew_of_its_records(engine):
    before = entries_of(engine, "by_country")
    batch = WriteBatch()
    for key, _ in before:
        batch.delete("by_country", key)
    engine.backend.batch_write(batch)

    assert len(engine.repair_indexes(["cities"]).findings) == COUNT
    assert entries_of(engine, "by_country") == before


def test_a_wrong_count_is_found_and_repaired(engine):
    table = engine.table("cities")
    engine.backend.batch_write(WriteBatch().add(RESERVED_FAMILY, table.count_key, 7))

    [finding] = verified(engine).findings
    assert (finding.kind, finding.table) == ("wrong count", "cities")
    assert "100 rows, and the store counts 107" in finding.message
    assert engine.repair_indexes().ok
    assert engine.stats()["tables"]["cities"]["rows"] == COUNT


def test_records_are_told_and_left_alone(engine):
    """What is no record, what is another's, and two with one unique value: nothing is guessed."""
    raws = dict(engine.backend.scan("cities"))
    keys = list(raws)
    batch = WriteBatch().put("cities", keys[1], b"\x01\xff").put("cities", keys[2], raws[keys[2]][:-1])
    twin = engine.table("cities").codec
    row = list(twin.decode(keys[3], raws[keys[3]]))
    row[twin.positions["code"]] = "c4"
    batch.put("cities", keys[3], twin.encode(tuple(row))[1])
    engine.backend.batch_write(batch)

    found = engine.repair_indexes()
    assert not found.ok
    left = [finding for finding in found.findings if not finding.repaired]
    assert sorted(finding.kind for finding in left) == ["duplicate", "undecodable record", "undecodable record"]
    assert {finding.key for finding in left if finding.kind == "undecodable record"} == {keys[1], keys[2]}
    after = dict(engine.backend.scan("cities"))
    assert after == {**raws, **batch.changes["cities"]}
    assert kinds(verified(engine)) == [(kind, name, False) for kind, name, mended in kinds(found) if not mended]


def test_only_so_many_findings(engine):
    batch = WriteBatch()
    for key, _ in entries_of(engine, "by_tag"):
        batch.delete("by_tag", key)
    engine.backend.batch_write(batch)
    found = verified(engine, most=10)
    assert (len(found.findings), found.more, found.ok) == (10, True, False)
    assert "10 and more findings" in str(found)


def test_a_table_that_is_not_there(engine):
    for call in (engine.verify, engine.repair_indexes):
        with pytest.raises(exc.ProgrammingError, match="no table 'towns'"):
            call(["towns"])


def test_others_write_meanwhile(engine):
    """One moment is verified, whoever writes."""

    def write(_what: str, _count: int) -> None:
        with Session(engine) as session, session.begin():
            number = COUNT + len(list(session.scan(City)))
            session.add(city(number))

    assert verified(engine, progress=write).ok
    assert engine.repair_indexes(progress=write).findings == ()
    assert verified(engine).ok


@pytest.mark.engine("lmdb")
def test_values_that_cannot_be_read_are_findings(tmp_path):
    """A checksum that does not hold is told with its place; a damaged entry is made again, a damaged record is not."""
    path = tmp_path / "damaged"
    with create_engine(f"lmdb:///{path}") as engine:
        models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all(map(city, range(COUNT)))
    file = path / "data.mdb"
    raw = file.read_bytes()
    # A record holds its name behind the header of its value; an entry has it included.
    assert raw.count(b"city 77") >= 2
    file.write_bytes(raw.replace(b"city 77", b"city 7x"))

    with create_engine(f"lmdb:///{path}") as engine:
        found = engine.verify()
        assert {(f.kind, f.cf) for f in found.findings} >= {("unreadable", "cities"), ("unreadable", "by_country")}
        assert found.rows["cities"] == COUNT - 1
        repaired = engine.repair_indexes()
        assert {(f.kind, f.cf, f.repaired) for f in repaired.findings} >= {("unreadable", "by_country", True)}
        left = {(f.kind, f.cf) for f in engine.verify().findings}
        assert ("unreadable", "cities") in left
        assert ("unreadable", "by_country") not in left


@pytest.mark.engine("rocksdb")
def test_a_scan_that_breaks_off_is_a_finding(tmp_path):
    path = tmp_path / "damaged"
    with create_engine(f"rocksdb:///{path}") as engine:
        models.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add_all(map(city, range(5000)))
        engine.backend.flush()
        engine.backend.compact("cities")
    [largest] = sorted(path.glob("*.sst"), key=lambda file: file.stat().st_size)[-1:]
    raw = bytearray(largest.read_bytes())
    raw[len(raw) // 3] ^= 0xFF
    largest.write_bytes(bytes(raw))

    with create_engine(f"rocksdb:///{path}") as engine:
        found = engine.verify()
    assert not found.ok
    assert "broken off" in {finding.kind for finding in found.findings}
    assert not [entry for entry in os.listdir(tmp_path) if entry != "damaged"], "what was made beside it is gone"


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
def test_a_crash_of_the_engine_is_a_finding(engine, monkeypatch, engine_name):
    """The verifying process dies, this one does not, and the tables behind are verified all the same."""
    if engine_name == "memory":
        with pytest.raises(exc.NotSupportedError, match="memory has no files"):
            engine.verify(apart=True)
        return
    more = registry()

    @mapped(more)
    class Town:
        __tablename__ = "towns"
        id: Mapped[int] = field(primary_key=True)

    more.create_all(engine)
    crash = f"""
import os
from kvdialect.store import verification
read = verification.Verifier._records
def records(self, table, numbers):
    if table.name == "cities":
        os.kill(os.getpid(), {int(signal.SIGSEGV)})
    read(self, table, numbers)
verification.Verifier._records = records
"""
    monkeypatch.setattr(verifier, "_PROGRAM", crash + verifier._PROGRAM)

    found = engine.verify()
    [finding] = found.findings
    assert (finding.kind, finding.table) == ("crash", "cities")
    assert "SIGSEGV" in finding.message
    assert "towns" in found.rows
    assert not found.ok


def test_a_verifying_process_that_fails(engine, monkeypatch, engine_name):
    if engine_name == "memory":
        pytest.skip("a memory store is verified in its own process")
    monkeypatch.setattr(verifier, "_PROGRAM", "raise SystemExit(3)")
    with pytest.raises(exc.BackendError, match="ended with code 3"):
        engine.verify()


# ------------------------------------------------------------------------------------------------ backup and restore


def test_a_backup_is_the_store_of_one_moment(engine, engine_name, tmp_path):
    if engine_name == "memory":
        with pytest.raises(exc.NotSupportedError, match="memory has no files"):
            engine.backup(tmp_path / "copy")
        return
    with Session(engine) as session:
        held = session.get_one(City, (5).to_bytes(4))
        found = engine.backup(tmp_path / "copy")
        assert held.name == "city 5"
    assert found is not None
    assert found.ok
    assert found.rows == {"cities": COUNT}
    with Session(engine) as session, session.begin():
        session.add(city(COUNT))

    restore(tmp_path / "copy", tmp_path / "restored")
    for name in ("copy", "restored"):
        with create_engine(f"{engine_name}:///{tmp_path}/{name}") as copied:
            models.create_all(copied)
            with Session(copied) as session, session.begin():
                assert len(session.lookup("large")) == COUNT - 51
                session.add(city(COUNT + 1))
            assert verified(copied).ok
    assert engine.stats()["tables"]["cities"]["rows"] == COUNT + 1


def test_a_backup_while_others_commit(engine, engine_name, tmp_path):
    """Commits of several families are in it wholly or not at all."""
    if engine_name == "memory":
        pytest.skip("a memory store has no files")
    stop = threading.Event()

    def write() -> None:
        number = 1000
        while not stop.is_set():
            with Session(engine) as session, session.begin():
                session.add_all(map(city, range(number, number + 20)))
            number += 20
            time.sleep(0.01)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for at in range(2):
            found = engine.backup(tmp_path / f"copy {at}")
            assert found is not None
            assert found.ok
            assert found.rows["cities"] % 20 == 0
    finally:
        stop.set()
        thread.join()


def test_nothing_is_overwritten_by_a_backup(engine, engine_name, tmp_path):
    if engine_name == "memory":
        pytest.skip("a memory store has no files")
    engine.backup(tmp_path / "copy", verified=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("of somebody")
    for write in (engine.backup, lambda path: restore(tmp_path / "copy", path)):
        with pytest.raises(exc.ArgumentError, match="there is a store at"):
            write(tmp_path / "copy")
        with pytest.raises(exc.NotAStore):
            write(tmp_path / "other")
    assert (tmp_path / "other" / "file").read_text() == "of somebody"
    with pytest.raises(exc.NotAStore):
        restore(tmp_path / "nowhere", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_count_that_is_no_number_is_a_finding(engine):
    engine.backend.put(RESERVED_FAMILY, engine.table("cities").count_key, b"many")
    [finding] = verified(engine).findings
    assert (finding.kind, finding.table) == ("wrong count", "cities")
    assert not engine.repair_indexes().ok


def test_a_table_dropped_since_its_name_was_read(engine):
    """All tables means those that there are at the moment that is read; one that is asked for must be there."""
    names = ["cities", "towns"]
    assert Verifier(engine.backend, names, 10, None, rest=True).run().ok
    with pytest.raises(exc.ProgrammingError, match="no table 'towns'"):
        Verifier(engine.backend, names, 10, None).run()


@pytest.mark.engine("rocksdb")
def test_a_store_in_use_is_not_restored_from(tmp_path):
    with create_engine(f"rocksdb:///{tmp_path}/store") as engine:
        models.create_all(engine)
        with pytest.raises(exc.StoreLocked, match="make a backup there"):
            restore(tmp_path / "store", tmp_path / "new")
    restore(tmp_path / "store", tmp_path / "new")
    assert Path(tmp_path, "new", "KVDIALECT").exists()


def test_what_findings_say():
    finding = Finding("missing entry", "x(id=1) has no entry in index i", "i", b"k", "x", "i")
    assert str(finding) == "missing entry: x(id=1) has no entry in index i"
    assert kvdialect.store.engine.Verification is Verification


def test_families_of_no_table_are_read_too(engine_name, tmp_path):
    """Damage in them was passed over, and a backup with it called verified."""
    if engine_name == "memory":
        pytest.skip("a memory store has no files")
    url = f"{engine_name}:///{tmp_path}/store"
    with open_backend(url, ["raw"]) as backend:
        for _ in range(2):
            backend.batch_write(WriteBatch().update("raw", {b"%06d" % n: os.urandom(200) for n in range(5000)}))
            backend.flush()
        directory = Path(str(backend.path))
    file = max(directory.iterdir(), key=lambda path: path.stat().st_size)
    damaged = bytearray(file.read_bytes())
    for at in range(len(damaged) // 3, len(damaged) // 3 * 2, len(damaged) // 50):
        damaged[at] ^= 1
    file.write_bytes(damaged)

    with create_engine(f"{url}?check_files=off") as engine:
        found = engine.verify(apart=False).findings
    assert found
    assert {finding.cf for finding in found} <= {"raw", ""}
    assert "raw" in {finding.cf for finding in found}


@pytest.mark.skipif(os.name == "nt", reason="rights are otherwise there")
def test_a_store_of_a_write_protected_backup_can_be_written(engine_name, tmp_path):
    if engine_name == "memory":
        pytest.skip("a memory store has no files")
    with open_backend(f"{engine_name}:///{tmp_path}/store", ["a"]) as backend:
        backend.put("a", b"k", b"v")
        backend.backup(tmp_path / "backup")
    for file in (tmp_path / "backup").iterdir():
        file.chmod(0o444)
    restore(tmp_path / "backup", tmp_path / "new")
    assert all(file.stat().st_mode & 0o200 for file in (tmp_path / "new").iterdir())
