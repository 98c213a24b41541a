"""Hostile bytes for every parser: ``python -m tests.faults.fuzz --runs 10000`` is the nightly run.

Each target writes one case to a file, hands it to a parser and uses what comes back. Only the
package's own errors may come of it. Cases are seeded changes of valid files (or, with
``--engine atheris``, what its coverage-guided search thinks of). Whole targets run in processes of
their own under a limit on memory, and each case under a limit on time, so that bombs and hangs are
findings, not the end of the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from estimators import InputError
from tests.faults.command_lines import LENGTH
from vlm._errors import VLMError
from vlm._seal import seal

ALLOWED = (InputError, VLMError)
SECONDS = 20
MEMORY = 3 * 2**30  # beyond what the process has when it starts
NUMBERS = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]
WORDS = [
    b"null", b"true", b"-1", b"1e999", b"NaN", b"1" * 400, b'""', b"[]", b"{}", b'"../../x"',
    b'"<script>"', b"\\u0000", b"\\ud800", b"[" * 400, b'{"a":' * 200, b"9223372036854775808",
    b"1000000000000", b"0.5", b'"vision"', b"-9", b"/", b"../", b"\x00", b"\xff\xfe", b"\n",
]  # fmt: skip


# What is parsed ---------------------------------------------------------------------------------


class Target:
    """A parser, valid input for it, and how its input is to be prepared.

    Cases are changes of valid input, or so many random bytes where a length is given.
    """

    def __init__(
        self,
        name: str,
        seeds: Callable[[Path], list[bytes]],
        use: Callable[[bytes, Path], object],
        *,
        sealed: bool = False,
        length: int = 0,
    ) -> None:
        self.name, self.seeds, self.use = name, seeds, use
        self.sealed, self.length = sealed, length


def _store(folder: Path) -> Path:
    from tests.redundancy.store.conftest import create_store, sample_of

    path = folder / "seed-store"
    if not path.exists():
        with create_store(path).writer() as writer:
            for number in range(3):
                writer.add(sample_of(number))
    return path


def _in_store(name: str) -> Callable[[bytes, Path], object]:
    def use(data: bytes, folder: Path) -> None:
        from redundancy.store import ActivationStore, verify_store

        path = folder / "store"
        if not path.exists():
            shutil.copytree(_store(folder), path)
        target = next(path.glob(name))
        sound = target.read_bytes()
        target.write_bytes(data)
        try:
            verify_store(path)
            store = ActivationStore.open(path)
            repr(store), store.info, store.samples
            for word in store.modalities:
                store.distances(word), store.groups(word), store.positions(word)
                for layer in store.layers:
                    store.states(layer, word)
        finally:
            target.write_bytes(sound)

    return use


def _arrays(suffix: str) -> Callable[[bytes, Path], object]:
    def use(data: bytes, folder: Path) -> None:
        from redundancy.store import open_source

        path = folder / f"arrays{suffix}"
        path.write_bytes(data)
        store = open_source(path)
        repr(store)
        store.check_finite()
        for word in store.modalities:
            store.groups(word), store.target_of(word)

    return use


def _seed_arrays(suffix: str) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        from safetensors.numpy import save

        x = np.arange(24, dtype=np.float32).reshape(6, 4)
        named = {"layer_0": x, "layer_1": 2 * x, "groups": np.arange(6) // 2}
        if suffix == ".safetensors":
            return [save(named), save({"vision/0": x.astype(np.float16), "vision/1": x})]
        out = [io.BytesIO() for _ in range(3)]
        if suffix == ".npy":
            np.save(out[0], np.stack([x, x]))
            np.save(out[1], np.asfortranarray(np.zeros((2, 3, 2, 4))))
            return [one.getvalue() for one in out[:2]]
        np.savez(out[0], **named)
        np.savez_compressed(out[1], **named)
        with zipfile.ZipFile(out[2], "w") as archive:
            archive.writestr("0.npy", _npy(x))
            archive.writestr("../1.npy", _npy(x))
        return [one.getvalue() for one in out]

    return seeds


def _npy(x: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, x)
    return out.getvalue()


def _run(folder: Path) -> Path:
    from redundancy.provenance import new_record
    from redundancy.run import estimate
    from redundancy.run_folder import RunFolder

    path = folder / "seed-run"
    if path.exists():
        return path
    x = np.random.default_rng(0).normal(size=(40, 3))
    results = estimate({0: x, 1: x + 1, 2: 2 * x}, ["geometric", "informational"], mi="none")
    run = RunFolder.prepare(path)
    record = new_record(command="estimate", run_id="seed")
    run.write(msgspec.structs.replace(record, results=[r.to_record() for r in results]))
    with run.journal() as journal:
        for result in results:
            journal.add(result)
    return path


def _record(data: bytes, folder: Path) -> None:
    from redundancy.report.html import write_report
    from redundancy.results import Results

    path = folder / "record.json"
    path.write_bytes(data)
    results = Results.load(path)
    repr(results), results.warnings, results.to("bits")
    if results.record is not None and len(data) % 7 == 0:  # pages are slow to make
        write_report(results.record, folder / "report.html")
        page = (folder / "report.html").read_text()
        assert "<script>alert" not in page, "a script of the record's reached the page"


def _journal(data: bytes, folder: Path) -> None:
    from redundancy.run_folder import RunFolder

    run = RunFolder(folder, resumed=True)
    (folder / "pairs.jsonl").write_bytes(data)
    run.done(), run.broken_lines()


def _plan(data: bytes, folder: Path) -> None:
    from vlm.plan import SkipPlan

    path = folder / "plan.json"
    path.write_bytes(data)
    plan = SkipPlan.load(path)
    plan.describe(), plan.to_json()


def _plans(folder: Path) -> list[bytes]:
    from vlm.plan import SkipPlan

    path = folder / "seed-plan.json"
    evidence = {"why": ["<script>alert(1)</script>", {"value": 0.5}]}
    SkipPlan(8, vision_entry=1, vision_exit=5, drop_layers=(6,), evidence=evidence).save(path)
    return [path.read_bytes()]


def _questions(suffix: str) -> Callable[[bytes, Path], object]:
    def use(data: bytes, folder: Path) -> None:
        from vlm.data import count_rows, digest, read_rows

        (folder / "one.png").write_bytes(_pictures(folder)[0])
        path = folder / f"rows{suffix}"
        path.write_bytes(data)
        for row in read_rows(path):
            for image in row["images"]:
                image.load()
        count_rows(path), digest(path)

    return use


ROWS: list[dict[str, Any]] = [
    {"id": "1", "question": "is it red?", "image": "one.png", "answer": "no", "choices": ["a"]},
    {"question": "<image> or <image>?", "images": ["one.png", "one.png"], "group": "g"},
    {"question": "and this?", "answer": ["yes", "yeah"], "other": {"deep": [1, 2.5, None]}},
]


def _jsonl(folder: Path) -> list[bytes]:
    return [b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)]


def _parquet(folder: Path) -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"question": row["question"], "image": _pictures(folder)[0]} for row in ROWS]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return [out.getvalue()]


def _pictures(folder: Path) -> list[bytes]:
    from PIL import Image

    picture = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    found = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"):
        out = io.BytesIO()
        picture.save(out, kind)
        found.append(out.getvalue())
    return found


def _image(data: bytes, folder: Path) -> None:
    from vlm.data import LazyImages

    for picture in LazyImages([data], "the case"):
        assert picture.width * picture.height <= 64_000_000
        assert picture.mode == "RGB"


def _command_line(data: bytes, folder: Path) -> None:
    from tests.faults.command_lines import run_line

    run_line(data, folder)


def _command_lines(folder: Path) -> list[bytes]:
    from tests.faults.command_lines import sound_lines

    return sound_lines()


def _of(name: str, maker: Callable[[Path], Path] = _store) -> Callable[[Path], list[bytes]]:
    return lambda folder: [next(maker(folder).glob(name)).read_bytes()]


TARGETS = [
    Target("store.json", _of("store.json"), _in_store("store.json"), sealed=True),
    Target("sidecar", _of("r*.json"), _in_store("r*.json"), sealed=True),
    Target("shard", _of("r*.safetensors"), _in_store("r*.safetensors")),
    Target("safetensors", _seed_arrays(".safetensors"), _arrays(".safetensors")),
    Target("npz", _seed_arrays(".npz"), _arrays(".npz")),
    Target("npy", _seed_arrays(".npy"), _arrays(".npy")),
    Target("record", _of("record.json", _run), _record, sealed=True),
    Target("journal", _of("pairs.jsonl", _run), _journal),
    Target("plan", _plans, _plan, sealed=True),
    Target("jsonl", _jsonl, _questions(".jsonl")),
    Target("parquet", _parquet, _questions(".parquet")),
    Target("image", _pictures, _image),
    Target("cli", _command_lines, _command_line, length=LENGTH),
]


# How cases are made and run ---------------------------------------------------------------------


def changed(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four seeded changes: bits, bytes, numbers, words, pieces cut out or put twice."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(out) + 1))
        end = min(len(out), at + int(rng.integers(1, 40)))
        kind = int(rng.integers(0, 8))
        if kind == 0 and at < len(out):
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            out[at:end] = bytes(rng.integers(0, 256, end - at, dtype=np.uint8))
        elif kind == 2:
            del out[at:end]
        elif kind == 3:
            out[at:at] = out[at:end] * int(rng.integers(1, 4))
        elif kind == 4:
            number = NUMBERS[int(rng.integers(0, len(NUMBERS)))]
            packed = struct.pack("<Q" if rng.integers(2) else ">Q", number)
            size = int(rng.choice([1, 2, 4, 8]))
            out[at : at + size] = packed[:size]
        elif kind == 5:
            word = WORDS[int(rng.integers(0, len(WORDS)))]
            stop = at
            while stop < len(out) and chr(out[stop]) in "0123456789.-eE":
                stop += 1  # put it in the place of a number, if there is one
            out[at:stop] = word
        elif kind == 6:
            del out[at:]
        else:
            digits = [i for i, byte in enumerate(out[:4096]) if 48 <= byte <= 57]
            if digits:
                where = int(rng.choice(digits))
                out[where : where + 1] = str(rng.choice([0, 7, 10**9, 10**12, 2**64])).encode()
    return bytes(out)


def case(target: Target, seeds: Sequence[bytes], number: int) -> bytes:
    """Case `number` of a target: the same whenever it is asked for."""
    rng = np.random.default_rng([number, *target.name.encode()])
    data = seeds[number % len(seeds)]
    if target.length:
        return rng.bytes(target.length)
    if target.sealed and number % 2:
        # The author of the file means harm and seals it.
        body = json.loads(data)
        body.pop("seal", None)
        return seal(changed(json.dumps(body).encode(), rng))
    return changed(data, rng)


class Slow(Exception):
    """A case took too long."""


def check(target: Target, data: bytes, folder: Path, seconds: int = SECONDS) -> str | None:
    """Run one case; None, or what went wrong. The limit is on processor time, ten times on time."""

    def too_long(*_: object) -> None:
        raise Slow(f"no end after {seconds} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGPROF, too_long)
    signal.alarm(10 * seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        target.use(data, folder)
    except ALLOWED as error:
        text = str(error)
        if not text.strip() or len(text) > 5000:
            return f"a sentence of {len(text)} characters"
    except BaseException as error:
        return "".join(traceback.format_exception(error)[-6:])
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def run(target: Target, numbers: Sequence[int], keep: Path | None = None) -> list[str]:
    """Run cases of one target in a process of its own; what went wrong, case by case."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        report = folder / "report.txt"
        report.touch()
        pid = os.fork()
        if pid == 0:
            try:
                _child(target, numbers, folder, report)
            except BaseException:
                report.write_text("the run itself: " + traceback.format_exc())
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        found = [one for one in report.read_text().split("\f") if one.strip()]
        if os.WIFSIGNALED(status):
            last = (folder / "last").read_text() if (folder / "last").exists() else "?"
            found.append(f"case {last}: the process died of signal {os.WTERMSIG(status)}")
        if keep is not None and found:
            keep.write_text("\n\n".join(found))
        return found


def _child(target: Target, numbers: Sequence[int], folder: Path, report: Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"  # names of models that do not exist are not to be asked for
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - libraries' remarks on bad files
    os.dup2(sys.stderr.fileno(), 2)
    work = folder / "work"
    work.mkdir()
    seeds = target.seeds(work)
    for one in seeds:
        problem = check(target, one, work, 30 * SECONDS)  # the first pays for compiling
        if problem:
            raise AssertionError(f"valid input is refused: {problem}")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    with report.open("a") as out, (folder / "last").open("w") as last:
        for number in numbers:
            last.seek(0)
            last.write(f"{number:<20}")
            last.flush()
            problem = check(target, case(target, seeds, number), work)
            if problem:
                out.write(f"case {number}: {problem}\f")
                out.flush()
    outside = {path.name for path in folder.iterdir()} - {"work", "report.txt", "last"}
    assert not outside, f"{outside} were written beside the folder"


_SEARCHED = (
    "redundancy.store", "redundancy.results", "redundancy.record", "redundancy.run_folder",
    "redundancy.report.html", "redundancy.cli._app", "redundancy.run", "redundancy.probing",
    "redundancy.planning", "redundancy.extraction", "vlm.data", "vlm.plan", "vlm._images",
    "vlm._readers", "vlm.model", "PIL.Image", "PIL.PngImagePlugin", "PIL.JpegImagePlugin",
    "PIL.GifImagePlugin", "PIL.BmpImagePlugin", "PIL.WebPImagePlugin", "PIL.TiffImagePlugin",
    "PIL.PpmImagePlugin",
)  # fmt: skip


def _spelled(word: bytes) -> str:
    return "".join(f"\\x{byte:02X}" for byte in word)


def with_atheris(target: Target, runs: int) -> None:
    """Let atheris look for cases, guided by what they reach."""
    import atheris

    os.environ["HF_HUB_OFFLINE"] = "1"
    with atheris.instrument_imports(include=["redundancy", "vlm", "zipfile", "json", "PIL"]):
        for module in _SEARCHED:
            importlib.import_module(module)

    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        work = Path(name) / "work"
        corpus = Path(name) / "corpus"
        for folder in (work, corpus):
            folder.mkdir()
        seeds = target.seeds(work)
        for number, one in enumerate(seeds):
            (corpus / str(number)).write_bytes(one)
        words = {*WORDS, *(word for one in seeds for word in re.findall(rb'"\w{1,40}"', one))}
        known = Path(name) / "words"
        known.write_text("".join(f'"{_spelled(word)}"\n' for word in sorted(words)))

        def one_input(data: bytes) -> None:
            if target.sealed and len(data) % 2:
                data = seal(data or b"{}")
            with contextlib.suppress(*ALLOWED):
                target.use(data, work)

        longest = target.length or max(20_000, *(2 * len(one) for one in seeds))
        options = [f"-runs={runs}", f"-timeout={10 * SECONDS}", "-rss_limit_mb=6000"]
        options += [f"-max_len={longest}", f"-artifact_prefix={target.name}-", f"-dict={known}"]
        atheris.Setup([sys.argv[0], *options, "-seed=1", str(corpus)], one_input)
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--target", action="append", choices=[one.name for one in TARGETS])
    parser.add_argument("--engine", choices=["seeded", "atheris"], default="seeded")
    options = parser.parse_args()
    bad = 0
    for target in TARGETS:
        if options.target and target.name not in options.target:
            continue
        if options.engine == "atheris":
            with_atheris(target, options.runs)  # does not come back
            continue
        began = time.monotonic()
        found = run(target, range(options.first, options.first + options.runs))
        bad += len(found)
        print(
            f"{target.name}: {options.runs:,} cases, {len(found)} findings, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
        for one in found[:5]:
            print("   ", one.replace("\n", "\n    "), flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
