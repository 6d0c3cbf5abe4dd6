"""The README's example, as printed, on every engine."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_example_runs(engine_name, tmp_path, monkeypatch):
    """What a stranger pastes works, whichever engine's URL they write."""
    code = re.search(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)[1]
    url = "memory://" if engine_name == "memory" else f"{engine_name}:///coins"
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "example"}

    exec(code.replace("rocksdb:///coins", url), namespace)  # noqa: S102 - our own documentation

    with namespace["Session"](namespace["engine"]) as session:
        assert session.get_one(namespace["CoinRecord"], b"\x01" * 32).spent_height == 17
        assert len(session.lookup("coin_by_puzzle_hash", b"\x03" * 32)) == 18 + 1
        assert len(session.lookup("unspent_by_puzzle_hash", b"\x03" * 32)) == 18
    namespace["engine"].close()
