"""All layers of a store probed in one run, beside one scikit-learn cross-validation per layer.

    python benchmarks/probes.py                          33 layers of 4,096 coordinates, 10,000 rows
    python benchmarks/probes.py --layers 3 --dim 512 --rows 2000        a minute
    python benchmarks/probes.py --pairs                  with functional redundancy and gains too
    python benchmarks/probes.py --json probes.json       and write the figures

The states are synthetic and in half precision: a residual stream of some hundred directions with a
falling spectrum, into which ten classes are written more strongly layer by layer, noise on every
coordinate, scales that differ, four outlying coordinates. Accuracies run from about 0.6 to 0.95.
Each program runs in a process of its own: its processor seconds and its peak memory are that one's.
Ours is ridge and logistic probes with shuffled and positive controls, penalties chosen inside the
training folds. scikit-learn is fitted to some layers only, and scaled to all:
`LogisticRegression` as it comes (C = 1, 5 folds), and `LogisticRegressionCV` (10 values of C, the
same 5 folds, the accuracy of the best C on the folds it was chosen on: a little too high).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

# Files of this folder have the names of packages.
sys.path[:] = [p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent]

CLASSES = 10


def target(rows: int) -> np.ndarray:
    """Class of each row."""
    return np.random.default_rng(0).integers(0, CLASSES, size=rows)


def states(rows: int, dim: int, layers: int) -> Iterator[np.ndarray]:
    """States of one layer after the other, float16, shape (rows, dim)."""
    z = target(rows)
    rng = np.random.default_rng(1)
    rank = min(400, dim // 2)
    spectrum = (np.arange(1, rank + 1) ** -0.5).astype(np.float32)
    latent = rng.standard_normal((rows, rank), dtype=np.float32) * spectrum
    basis = rng.standard_normal((rank, dim), dtype=np.float32)
    scale = np.exp(0.5 * rng.standard_normal(dim)).astype(np.float32)
    scale[:4] *= 20.0
    classes = rng.standard_normal((CLASSES, rank), dtype=np.float32) * spectrum
    for layer in range(layers):
        strength = 0.09 + 0.1 * layer / max(1, layers - 1)
        x = (latent + strength * classes[z]) @ basis
        x += 0.7 * rng.standard_normal((rows, dim), dtype=np.float32)
        yield (x * scale).astype(np.float16)
        noise = rng.standard_normal((rows, rank), dtype=np.float32)
        latent = 0.97 * latent + 0.25 * spectrum * noise


def write(folder: Path, rows: int, dim: int, layers: int) -> Path:
    """Write the states as a store's file, a layer at a time."""
    from safetensors.numpy import save_file

    path = folder / "states.safetensors"
    arrays = {f"layer_{i}": x for i, x in enumerate(states(rows, dim, layers))}
    save_file({**arrays, "target": target(rows)}, path)
    return path


def ours(
    path: Path, layers: list[int], pairs: bool, jobs: int | None, log: Path | None
) -> dict[str, Any]:
    """Probe layers of the store."""
    from redundancy.probing import LayerScore, probe_store
    from redundancy.store import open_source

    started = time.perf_counter()

    def tell(done: int, total: int, item: Any) -> None:
        if log is not None and not (isinstance(item, LayerScore) and item.kind == "ridge"):
            used = resource.getrusage(resource.RUSAGE_SELF)
            with log.open("a") as lines:
                lines.write(
                    f"{done} of {total}: {time.perf_counter() - started:.0f} s, "
                    f"{used.ru_utime + used.ru_stime:.0f} s of processor, "
                    f"{used.ru_maxrss / 2**20:.2f} GiB\n"
                )

    report = probe_store(
        open_source(path),
        kinds=("ridge", "logistic"),
        layers=layers,
        pairs=pairs,
        jobs=jobs,
        progress=tell,
    )
    return {
        "layers": layers,
        "scores": {
            kind: [s.score.value for s in report.scores if s.kind == kind] for kind in report.kinds
        },
        "shuffled": {
            kind: [float(s.control) for s in report.scores if s.kind == kind]
            for kind in report.kinds
        },
    }


def peer(path: Path, layers: list[int], search: bool) -> dict[str, Any]:
    """scikit-learn on standardised float32 states, 5 stratified folds."""
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from redundancy.store import open_source

    store = open_source(path)
    z = store.target_of()
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores, options = [], []
    for layer in layers:
        x = np.asarray(store.states(layer), dtype=np.float32)
        if search:
            ready = StandardScaler().fit_transform(x)
            fit = LogisticRegressionCV(Cs=10, cv=folds, scoring="accuracy").fit(ready, z)
            by_c = np.mean(next(iter(fit.scores_.values())), axis=0)
            scores.append(float(by_c.max()))
            options.append(float(fit.Cs_[by_c.argmax()]))
        else:
            line = make_pipeline(StandardScaler(), LogisticRegression())
            scores.append(float(cross_val_score(line, x, z, cv=folds).mean()))
            options.append(1.0)
    return {"scores": scores, "C": options, "layers": layers}


def alone(task: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run in a process of its own; adds its seconds, processor seconds and peak memory."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_send, args=(there, task, arguments))
    process.start()
    there.close()  # so that the end of a process that failed is noticed
    found: dict[str, Any] = here.recv()
    process.join()
    return found


def _send(pipe: Any, task: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    found = task(*arguments)
    used = resource.getrusage(resource.RUSAGE_SELF)
    found["seconds"] = time.perf_counter() - started
    found["processor_s"] = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    found["peak_gib"] = used.ru_maxrss / 2**20  # Linux counts in KiB
    pipe.send(found)


def main() -> None:
    """Write the store, run everything, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=33)
    parser.add_argument("--dim", type=int, default=4096)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--pairs", action="store_true", help="functional redundancy and gains too")
    parser.add_argument("--some", type=int, help="this many layers only, and scale to all")
    parser.add_argument("--jobs", type=int, help="layers at a time")
    parser.add_argument(
        "--peer-layers", type=int, default=2, help="layers of scikit-learn; 0: none"
    )
    parser.add_argument("--no-search", action="store_true", help="leave out LogisticRegressionCV")
    parser.add_argument("--only-peers", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the store is kept; else temporary")
    parser.add_argument("--log", type=Path, help="a line per finished step")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "date": datetime.now(UTC).date().isoformat(),
        "layers": asked.layers,
        "dim": asked.dim,
        "rows": asked.rows,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "states.safetensors"
        if not path.exists():
            write(folder, asked.rows, asked.dim, asked.layers)
        if not asked.only_peers:
            mine = np.linspace(0, asked.layers - 1, asked.some or asked.layers).astype(int).tolist()
            found["ours"] = alone(ours, path, mine, asked.pairs, asked.jobs, asked.log)
        some = np.linspace(0, asked.layers - 1, asked.peer_layers + 2)[1:-1].astype(int).tolist()
        if some:
            found["LogisticRegression"] = alone(peer, path, some, False)
            if not asked.no_search:
                found["LogisticRegressionCV"] = alone(peer, path, some, True)
    _show(found)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


def _show(found: dict[str, Any]) -> None:
    print(f"{'':24} {'layers':>6} {'s':>8} {'cpu s':>8} {'cpu s, all':>11} {'GiB':>6}  accuracy")
    for name in ("ours", "LogisticRegression", "LogisticRegressionCV"):
        if name not in found:
            continue
        one = found[name]
        fitted = one["layers"]
        if name == "ours":
            at = sorted({0, len(fitted) // 3, 2 * len(fitted) // 3, len(fitted) - 1})
            text = "; ".join(
                f"{kind} " + ", ".join(f"{fitted[i]}: {v[i]:.3f}" for i in at)
                for kind, v in one["scores"].items()
            )
        else:
            text = ", ".join(
                f"{i}: {v:.3f} (C={c:g})"
                for i, v, c in zip(fitted, one["scores"], one["C"], strict=True)
            )
        whole = one["processor_s"] * found["layers"] / len(fitted)
        print(
            f"{name:24} {len(fitted):6} {one['seconds']:8.0f} {one['processor_s']:8.0f} "
            f"{whole:11.0f} {one['peak_gib']:6.2f}  {text}"
        )


if __name__ == "__main__":
    main()
