"""Row 9 of the scoreboard in short: decoders fed with mutations of real bytes, within this process."""

from __future__ import annotations

import random

import pytest

for name in ("lmdb", "apsw"):
    pytest.importorskip(name, reason=f"the decoders of all parts need {name}; tox -e full has it")

from reliability import decoders, fuzzing  # noqa: E402

MUTATIONS = 150


@pytest.mark.engine("lmdb")
@pytest.mark.parametrize("name", decoders.TARGETS)
def test_a_decoder_raises_what_it_says(name):
    """Bytes that are damaged ended in another error than the documented ones, or two decoders disagree on them."""
    target = decoders.TARGETS[name]
    corpus = target.corpus()
    rng = random.Random(name)
    count = 20 if name == "objects" else MUTATIONS

    for data in [*corpus, *(fuzzing.mutated(rng, corpus) for _ in range(count))]:
        try:
            target.decode(data)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is none of those
            pytest.fail(f"{data!r} ends in {error!r}")


def test_an_error_that_is_none_of_ours_is_noticed(monkeypatch):
    """The test above would find nothing if decoders let every error through."""
    target = decoders.TARGETS["counters"]
    monkeypatch.setattr(decoders, "decode_counter", int)

    with pytest.raises(ValueError, match="invalid literal"):
        target.decode(b"short")
