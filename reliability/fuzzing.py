"""Row 9: decoders fed with anything.

Each target of ``decoders.py`` runs in a process of its own under atheris (libFuzzer), which follows the coverage of the
package's Python code; its compiled modules are run but not followed. An input that ends in another error than the
documented ones, that takes longer than some seconds or more than a gigabyte of memory is a violation. Where atheris is
not installed (it has wheels for few versions of Python) inputs are mutations of the corpus, without regard to coverage.
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from reliability.scoreboard import Row

ROOT = Path(__file__).parents[1]
SECONDS_EACH = 10  # that one input may take
MEGABYTES = 1024
_LONGEST = 1 << 16
_PATIENCE = 6 * 3600


def run(engine: str, folder: Path, tries: int, seed: int = 1) -> Row:
    """Feed all targets, each with its share of the executions."""
    from reliability.decoders import TARGETS

    began = time.monotonic()
    guided = importlib.util.find_spec("atheris") is not None
    row = Row(9, f"decoders fuzzed ({'atheris' if guided else 'mutations, atheris is not installed'})", engine, 0)
    shares = sum(target.share for target in TARGETS.values())
    for name, target in TARGETS.items():
        done, wrong = _fed(name, folder, -(-tries * target.share // shares), seed, "")
        row.tried += done
        row.counts[name] = done
        if wrong:
            row.violations.append(f"{name}: {wrong}")
    for fault, name in FAULTS.items():
        _, wrong = _fed(name, folder, 20_000, seed, fault)
        row.control[fault] = bool(wrong)
    row.seconds = time.monotonic() - began
    return row


def _fed(name: str, folder: Path, runs: int, seed: int, fault: str) -> tuple[int, str]:
    """Feed a target in a process; how often, and what went wrong."""
    program = "import sys; from reliability.fuzzing import feed; feed(*sys.argv[1:])"
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        command = [sys.executable, "-c", program, name, str(runs), str(seed), fault]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(
            command, cwd=inside, env=environment, capture_output=True, text=True, errors="replace", check=False,
            timeout=_PATIENCE,
        )  # fmt: skip
    said = done.stdout + done.stderr
    counts = [int(found) for found in re.findall(r"^(?:Done |#)(\d+)", said, re.MULTILINE)]
    executed = max(counts, default=0)
    if done.returncode == 0 and executed >= runs:
        return executed, ""
    at = said.rfind("Traceback (most recent call last)")  # what is behind it may be libFuzzer's counting alone
    told = said[-3000:] if at < 0 else said[at : at + 3000]
    return executed, f"status {done.returncode} after {executed} executions: {told}"


def feed(name: str, runs: str, seed: str, fault: str) -> None:
    """The program that feeds one target."""
    seconds = 2 if fault else SECONDS_EACH
    try:
        import atheris
    except ImportError:
        decode, corpus = _prepared(name, fault)
        _mutate(decode, corpus, int(runs), int(seed), seconds)
        return
    with atheris.instrument_imports(include=["kvdialect"], enable_loader_override=False):
        import kvdialect.dialect.connection  # noqa: F401 - what is imported later is instrumented late, or not at all
    decode, corpus = _prepared(name, fault)
    os.mkdir("corpus")
    for number, data in enumerate(corpus):
        Path("corpus", str(number)).write_bytes(data)
    limits = [f"-timeout={seconds}", f"-rss_limit_mb={MEGABYTES}", f"-max_len={_LONGEST}"]
    atheris.Setup([sys.argv[0], f"-runs={runs}", f"-seed={seed}", *limits, "corpus"], decode)
    atheris.Fuzz()


def _prepared(name: str, fault: str) -> tuple[Callable[[bytes], object], list[bytes]]:
    from reliability.decoders import TARGETS

    target = TARGETS[name]
    corpus = target.corpus()
    if fault:
        FAULT_MAKERS[fault]()
    return target.decode, corpus


def _mutate(decode: Callable[[bytes], object], corpus: list[bytes], runs: int, seed: int, seconds: int) -> None:
    """Feed mutations of the corpus, within limits of time and memory."""
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_DATA, (MEGABYTES << 20, MEGABYTES << 20))
    rng = random.Random(seed)  # noqa: S311 - so that a run can be done again
    for number in range(runs):
        data = mutated(rng, corpus) if number >= len(corpus) else corpus[number]
        if number % 64 == 0:
            signal.alarm(seconds)
        try:
            decode(data)
        except BaseException:
            traceback.print_exc()
            sys.stderr.write(f"\n#{number + 1} the input: {data!r}\n")
            sys.exit(1)
    print(f"Done {runs}")


_ODD = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xc0", b"\xdd\xff\xff\xff\xff", b"\x90" * 40, b"[" * 40, b'"', b"1e999")


def mutated(rng: random.Random, corpus: list[bytes]) -> bytes:
    """One of the corpus with some bytes changed, taken out, put in, or taken from another."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + rng.choice((1, 1, 2, 4, 16, 1 << 16))]
        elif kind == 3:
            data[at:at] = rng.choice(_ODD)
        elif kind == 4:
            other = rng.choice(corpus)
            start = rng.randrange(len(other) + 1)
            data[at:at] = other[start : start + rng.choice((1, 4, 16, 64))]
        else:
            data[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
    return bytes(data[:_LONGEST])


# ------------------------------------------------------------------------------------------------ planted faults


def _unguarded_rows() -> None:
    """Errors of msgpack come out of a row's decoder as they are."""
    from reliability import decoders

    def bare(_key: bytes, error: Exception) -> Exception:
        return error

    for codec, generated in decoders._codecs():
        for each in {id(codec): codec, id(generated): generated}.values():
            for name, made in list(each.decode.__globals__.items() if hasattr(each.decode, "__globals__") else ()):
                if getattr(made, "__name__", "") == "undecodable":
                    each.decode.__globals__[name] = bare


def _endless_marker() -> None:
    """A decoder that takes its time where a byte is another."""
    from reliability import decoders

    read = decoders.read_marker

    def slow(path: str) -> object:
        if b"engine" not in (Path(path) / decoders.MARKER).read_bytes():
            time.sleep(3600)
        return read(path)

    decoders.read_marker = slow  # type: ignore[assignment]


FAULT_MAKERS: dict[str, Callable[[], None]] = {
    "an error that is none of ours": _unguarded_rows,
    "a decoder that does not end": _endless_marker,
}
FAULTS = {"an error that is none of ours": "rows", "a decoder that does not end": "markers"}
"""By planted fault the target that must notice it."""
