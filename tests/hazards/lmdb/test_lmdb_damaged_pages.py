"""Pages that LMDB refuses: what is not damaged is read on, in the same snapshot."""

import pytest

from kvdialect import Mapped, create_engine, exc, field, mapped, open_backend, registry

pytestmark = pytest.mark.engine("lmdb")

models = registry()


@mapped(models)
class Rec:
    __tablename__ = "recs"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(index=True)
    filling: Mapped[bytes] = b""


@pytest.fixture
def damaged(tmp_path):
    """The URL of a store of which the page with record 1,000 has no head."""
    path = tmp_path / "store"
    with create_engine(f"lmdb:///{path}") as engine:
        models.create_all(engine)
        engine.bulk_load(Rec, [Rec(n, f"n{n % 100}", b"REC%06d" % n * 20) for n in range(3000)])
    raw = bytearray((path / "data.mdb").read_bytes())
    at = 0
    while (at := raw.find(b"REC001000", at + 1)) > 0:  # wherever it was once written
        start = at // 4096 * 4096
        raw[start : start + 16] = b"\xff" * 16
    (path / "data.mdb").write_bytes(raw)
    return f"lmdb:///{path}?check_files=off"


def test_a_snapshot_reads_on_after_damage(damaged):
    """LMDB gives a transaction up that has come upon a bad page: all that follows was refused."""
    with create_engine(damaged) as engine, engine.backend.snapshot() as snapshot:
        key = (2**63).to_bytes(8, "big")
        keys = [(2**63 + n).to_bytes(8, "big") for n in range(3000)]
        scan = snapshot.scan("recs")
        assert next(scan)[0] == key
        lost = 0
        for each in keys:
            try:
                assert snapshot.get("recs", each) is not None
            except exc.Corruption:
                lost += 1
        assert 1 <= lost < 100
        seen = 1
        with pytest.raises(exc.Corruption):  # noqa: PT012 - it counts how far it comes
            for _ in scan:
                seen += 1
        assert 500 < seen < 1000
        backwards = snapshot.scan("recs", reverse=True)
        with pytest.raises(exc.Corruption):
            list(backwards)
        assert len(snapshot.multi_get("recs", keys[:200])) == 200
        assert snapshot.first_pairs("recs", b"", None, 3)[0][0] == key
        assert snapshot.get("recs", keys[-1]) is not None


def test_a_snapshot_does_not_become_another_moment(damaged):
    """Where others have written meanwhile it stays given up."""
    with open_backend(damaged) as backend, backend.snapshot() as snapshot:
        key = (2**63 + 1000).to_bytes(8, "big")
        backend.put("ix_recs_name", b"more", b"")
        with pytest.raises(exc.Error):
            snapshot.get("recs", key)
        with pytest.raises(exc.Error):
            snapshot.get("ix_recs_name", b"more")


def test_verify_tells_what_is_damaged_and_goes_on(damaged):
    """It ended with an error of LMDB's, and no finding."""
    with create_engine(damaged) as engine:
        found = engine.verify()
        assert not found.ok
        assert {each.kind for each in found.findings} <= {
            "broken off",
            "damaged structure",
            "unreadable",
            "wrong count",
        }
        assert any(each.cf == "recs" for each in found.findings)
        assert found.entries["ix_recs_name"] == 3000
