"""How fast and how large: writing, resuming, streaming within a memory limit, engines side by side.

    python benchmarks/scale.py                  all parts, small: a few minutes
    python benchmarks/scale.py write resume     some of them
    python benchmarks/scale.py estimate --layers 33 --width 4096 --tokens 200000 --distinct 40000 \\
        --memory 4GB --measure informational    the large one: hours

The states are synthetic: random walks over the layers in 32 directions with noise, in half
precision. With ``--distinct`` fewer tokens than ``--tokens`` are made, and the shards are hard
links to these, each with a sidecar and samples of its own: reading, checking and arithmetic are
those of the whole store, but the disk (and its cache) sees only the distinct part.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Beside this file lies an estimators.py, which would hide the package of that name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import msgspec  # noqa: E402
import numpy as np  # noqa: E402

import redundancy as rd  # noqa: E402
from redundancy._files import write_sealed  # noqa: E402
from redundancy._progress import TimeLeft  # noqa: E402
from redundancy.store._schema import SampleRow, Sidecar, read_sidecar  # noqa: E402
from redundancy.store._writer import write_shard  # noqa: E402
from vlm.sample import CapturedSample  # noqa: E402

TOKENS_PER_SAMPLE = 100
# Layers, width and tokens: what the local engine does in seconds, and in a minute and more.
ENGINE_WORK = {"short": (13, 256, 6_000), "long": (33, 1024, 20_000)}


def make_store(folder: Path, layers: int, width: int, tokens: int, distinct: int) -> Path:
    """A store of `tokens` tokens in shards of 1,000, of which `distinct` differ."""
    if (folder / "store.json").exists():
        return folder
    store = rd.ActivationStore.create(
        folder,
        n_layers=layers - 1,
        model="synthetic",
        dims=width,
        modalities=("vision",),
        tokens=TOKENS_PER_SAMPLE,
    )
    manifest = store._source.manifest
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(32, width)).astype(np.float32)
    per_shard = min(1000, tokens)
    samples = per_shard // TOKENS_PER_SAMPLE
    made: list[str] = []
    for number in range(tokens // per_shard):
        name = f"r0-00000000-{number + 1:06d}"
        rows = [
            SampleRow(id=f"s{number * samples + i}", group=f"g{number * samples + i}", row={})
            for i in range(samples)
        ]
        if (number + 1) * per_shard > max(distinct, per_shard):
            original = made[number % len(made)]
            os.link(folder / f"{original}.safetensors", folder / f"{name}.safetensors")
            sidecar: Sidecar = read_sidecar(folder / f"{original}.json")
            sidecar = msgspec.structs.replace(sidecar, shard=name, samples=rows)
            write_sealed(folder / f"{name}.json", sidecar, indent=None)
            continue
        x = rng.standard_normal((per_shard, 32), dtype=np.float32) @ basis
        tensors: dict[str, Any] = {}
        for layer in range(layers):
            x += 0.5 * rng.standard_normal(x.shape, dtype=np.float32)
            tensors[f"states/vision/{layer}"] = x.astype(np.float16)
        tensors["tokens/vision/sample"] = np.repeat(
            np.arange(samples, dtype=np.int32), TOKENS_PER_SAMPLE
        )
        tensors["tokens/vision/position"] = np.tile(
            np.arange(TOKENS_PER_SAMPLE, dtype=np.int64), samples
        )
        write_shard(folder, name, manifest, tensors, rows, [])
        made.append(name)
    return folder


class Watch(threading.Thread):
    """Time of this process and its children, five times a second; and memory, where it matters.

    `cpu` is seconds on a processor since the start, without those of looking; `wanting` adds those
    spent waiting for one that others use, so that a busy machine does not make workers look idle.
    """

    def __init__(self, *, memory: bool = False) -> None:
        super().__init__(daemon=True)
        self._memory = memory
        self.resident = self.proportional = 0
        self._times: dict[tuple[int, str], tuple[float, float]] = {}
        self._before: dict[tuple[int, str], tuple[float, float]] = {}
        self._stop_now = threading.Event()
        self._look()
        self._before = dict(self._times)

    def run(self) -> None:
        while not self._stop_now.wait(0.2):
            self._look()

    def _look(self) -> None:
        resident = proportional = 0
        for pid in [os.getpid(), *children(os.getpid())]:
            try:
                if self._memory:
                    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                        kind, _, value = line.partition(":")
                        if kind == "Rss":
                            resident += int(value.split()[0]) * 1024
                        elif kind == "Pss":
                            proportional += int(value.split()[0]) * 1024
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    if thread.name == str(self.native_id):
                        continue
                    run, wait, _ = (thread / "schedstat").read_text().split()
                    self._times[pid, thread.name] = int(run) / 1e9, (int(run) + int(wait)) / 1e9
            except (OSError, ValueError):
                continue
        self.resident = max(self.resident, resident)
        self.proportional = max(self.proportional, proportional)

    @property
    def cpu(self) -> float:
        return self._sum(0)

    @property
    def wanting(self) -> float:
        return self._sum(1)

    def _sum(self, which: int) -> float:
        nothing = (0.0, 0.0)
        return sum(
            now[which] - self._before.get(key, nothing)[which] for key, now in self._times.items()
        )

    def stop(self) -> None:
        self._look()
        self._stop_now.set()
        self.join()


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *children(int(child))]
    return found


@contextmanager
def scratch(given: str | None) -> Iterator[Path]:
    folder = Path(given or tempfile.mkdtemp(prefix="scale-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        if given is None:
            shutil.rmtree(folder)


def write(folder: Path, options: argparse.Namespace) -> None:
    """Token states to shards, beside the same bytes written plainly: to one file, and to files of
    the size of shards. Once little, once much, as an extraction does; turn and turn about."""
    layers, width, distinct = 33, 4096, 64
    rng = np.random.default_rng(0)
    one = rng.standard_normal((layers, 16, width), dtype=np.float32).astype(np.float16)
    samples = [_sample(number, np.roll(one, number), layers) for number in range(distinct)]
    for count, turns in ((64, 7), (960, 3)):
        total = count * one.nbytes
        blocks = [samples[number % distinct].states["vision"] for number in range(count)]
        rates: dict[str, list[float]] = {"one file": [], "files of 134 MB": [], "store": []}
        for _ in range(turns):
            for name, taken in rates.items():
                place = folder / "written"
                place.mkdir()
                started = time.perf_counter()
                if name == "store":
                    _write_store(place, samples, count)
                else:
                    _write_plainly(place, blocks, total if name == "one file" else 2**27)
                taken.append(total / (time.perf_counter() - started) / 1e6)
                shutil.rmtree(place)
        middle = {name: float(np.median(taken)) for name, taken in rates.items()}
        print(
            f"write: {middle['store']:,.0f} MB/s (of {turns} turns {min(rates['store']):,.0f} to "
            f"{max(rates['store']):,.0f}) for {total / 1e6:,.0f} MB; plainly "
            + "; ".join(
                f"{name} {middle[name]:,.0f} MB/s ({min(rates[name]):,.0f} to "
                f"{max(rates[name]):,.0f}): {middle['store'] / middle[name]:.0%}"
                for name in ("one file", "files of 134 MB")
            ),
            flush=True,
        )


def _write_store(folder: Path, samples: list[CapturedSample], count: int) -> None:
    first = samples[0]
    layers, tokens, width = first.states["vision"].shape
    store = rd.ActivationStore.create(
        folder, n_layers=layers - 1, dims=width, modalities=("vision",), tokens=tokens
    )
    with store.writer() as writer:
        for number in range(count):
            sample = samples[number % len(samples)]
            writer.add(dataclasses.replace(sample, id=f"s{number}", group=f"g{number}"))


def _write_plainly(folder: Path, blocks: list[np.ndarray], size: int) -> None:
    """The blocks in files of about `size` bytes, each with one fsync."""
    per_file = -(-size // blocks[0].nbytes)
    for start in range(0, len(blocks), per_file):
        with (folder / f"plain-{start}").open("wb", buffering=0) as handle:
            for block in blocks[start : start + per_file]:
                handle.write(block.reshape(-1).view(np.uint8).data)
            os.fsync(handle.fileno())


def _sample(number: int, states: np.ndarray, layers: int) -> CapturedSample:
    return CapturedSample(
        id=f"s{number}",
        group=f"g{number}",
        statistics={},
        states={"vision": states},
        positions={"vision": np.arange(states.shape[1])},
        layers=list(range(layers)),
        row={"question": "which?", "answer": "this"},
    )


def resume(folder: Path, options: argparse.Namespace) -> None:
    """What opening and taking up a store of 1,000 shards costs."""
    path = make_store(folder / "thousand", 5, 64, 1_000_000 // 10, 1_000_000 // 10)
    if len(list(path.glob("*.json"))) < 1000:
        for number in range(100, 1000):
            original, name = f"r0-00000000-{number % 100 + 1:06d}", f"r0-00000000-{number + 1:06d}"
            os.link(path / f"{original}.safetensors", path / f"{name}.safetensors")
            sidecar: Sidecar = read_sidecar(path / f"{original}.json")
            rows = [
                SampleRow(id=f"s{number * 10 + i}", group=f"g{number * 10 + i}", row={})
                for i in range(10)
            ]
            sidecar = msgspec.structs.replace(sidecar, shard=name, samples=rows)
            write_sealed(path / f"{name}.json", sidecar, indent=None)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        store = rd.ActivationStore.create(
            path,
            n_layers=4,
            model="synthetic",
            dims=64,
            modalities=("vision",),
            tokens=TOKENS_PER_SAMPLE,
            resume=True,
        )
        writer = store.writer()
        assert not writer.add(_sample(0, np.zeros((5, 1, 64), np.float16), 5))
        times.append(time.perf_counter() - started)
    shards = len(list(path.glob("r*.json")))
    print(f"resume: {np.median(times):.2f} s for {shards:,} shards (median of 5)")


def estimate(folder: Path, options: argparse.Namespace) -> None:
    """One measure over a store, streamed: time, processors, memory, and the time left foretold."""
    path = make_store(
        folder / f"acts-{options.layers}-{options.width}-{options.tokens}",
        options.layers,
        options.width,
        options.tokens,
        options.distinct or options.tokens,
    )
    size = options.layers * options.width * options.tokens * 2
    clock = TimeLeft()  # the one that the command line shows
    foretold: list[tuple[float, float]] = []
    started = time.perf_counter()

    def on_result(result: Any, done: int, total: int) -> None:
        clock.finished((result.measure, result.modality, *result.pair))
        now, left = time.perf_counter() - started, clock.seconds() or 0.0
        foretold.append((now, left))
        if options.verbose:
            print(
                f"  {done} of {total} ({result.measure} {result.pair[0]}-{result.pair[1]}) after "
                f"{now:.0f} s, {left:.0f} s left",
                flush=True,
            )

    watch = Watch(memory=True)
    watch.start()
    results = rd.estimate(
        path,
        options.measure.split(","),
        layers=options.use,
        memory=options.memory,
        jobs=options.jobs,
        on_result=on_result,
        on_plan=lambda steps, workers: clock.plan(steps, workers, kind=lambda step: step[:2]),
    )
    took = time.perf_counter() - started
    watch.stop()
    told = [(now, left) for now, left in foretold if took / 4 < now < 0.85 * took]
    worst = max((abs(left / (took - now) - 1.0) for now, left in told), default=0.0)
    end = max((abs(now + left - took) / took for now, left in told), default=0.0)
    busy, wanting = (one / took / options.jobs for one in (watch.cpu, watch.wanting))
    print(
        f"estimate {options.measure}: {len(results)} results, {size / 1e9:.1f} GB of states "
        f"({options.layers} layers, width {options.width:,}, {options.tokens:,} tokens, "
        f"{options.distinct or options.tokens:,} distinct) in {took:.0f} s; {watch.cpu:.0f} s of "
        f"processor, {options.jobs} processors {busy:.0%} busy ({wanting:.0%} with waiting for one "
        f"that others held); peak {watch.proportional / 1e9:.2f} GB (resident summed "
        f"{watch.resident / 1e9:.2f}), limit {options.memory or 'none'}; from 1/4 to 85% of the "
        f"time, time left right within {worst:.0%}, end foretold within {end:.0%}"
    )
    if options.save:
        results.save(options.save)


def engines(folder: Path, options: argparse.Namespace) -> None:
    """The same work on each engine with two workers: a short piece and a long one.

    Seconds of processor time, of all processes together, say more than the clock where the machine
    is shared.
    """
    for name, (layers, width, tokens) in ENGINE_WORK.items():
        if options.work in (name, None):
            path = make_store(folder / f"engines-{name}", layers, width, tokens, tokens)
            _compare_engines(name, path, options.engine.split(","))


def _compare_engines(name: str, path: Path, chosen: list[str]) -> None:
    answers, times = {}, {}
    for engine in chosen:
        ends: list[float] = []
        started = time.perf_counter()

        def on_result(
            result: Any, done: int, total: int, begun: float = started, seen: Any = ends
        ) -> None:
            seen.append(time.perf_counter() - begun)

        watch = Watch()
        watch.start()
        try:
            found = rd.estimate(path, "informational", jobs=2, engine=engine, on_result=on_result)
        except rd.InputError as error:
            watch.stop()
            print(f"engines, {name}: {engine} left out: {error}")
            continue
        whole = time.perf_counter() - started
        watch.stop()
        answers[engine] = list(found)
        steady = ends[-1] - ends[1]
        times[engine] = (whole, steady, watch.cpu)
        base = times[chosen[0]]
        print(
            f"engines, {name}: {engine} {whole:.1f} s in all ({whole / base[0] - 1:+.0%} over "
            f"{chosen[0]}), first result after {ends[0]:.1f} s, {steady:.1f} s from the second to "
            f"the last ({steady / base[1] - 1:+.0%}); processors {watch.cpu:.1f} s "
            f"({watch.cpu / base[2] - 1:+.0%}), {watch.wanting:.1f} s with waiting for one that "
            f"others held; same results: {answers[engine] == answers[chosen[0]]}",
            flush=True,
        )


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "write": write,
    "resume": resume,
    "estimate": estimate,
    "engines": engines,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    parser.add_argument(
        "--folder", help="where to write and keep stores; a temporary one if absent"
    )
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--distinct", type=int)
    parser.add_argument("--use", help="layers of the store to estimate, e.g. 0-4; all if absent")
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--measure", default="informational", help="one, or several by commas")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--engine", default="local,dask,ray", help="which `engines` compares")
    parser.add_argument("--work", choices=list(ENGINE_WORK), help="`engines` on this piece alone")
    parser.add_argument("--save", help="folder for the record of what `estimate` finds")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    if not options.parts:
        # Each in a process of its own, so that memory is that of one part alone.
        for part in PARTS:
            subprocess.run([sys.executable, __file__, part, *sys.argv[1:]], check=True)
        return
    with scratch(options.folder) as folder:
        for part in options.parts:
            PARTS[part](folder, options)


if __name__ == "__main__":
    main()
