"""Time and error of our k-NN estimators beside every installed peer, on the same data, in one run.

    python benchmarks/estimators.py [--quick] [--only 10000x64 ...] [--json FILE [--merge]]

Calls are interleaved, so that a busy machine slows all alike, and the fastest of the repeats
counts; what takes longer than 5 s is timed once. CPU seconds, all threads together, stand beside
wall seconds, for a machine that is shared. Truth is the closed form for Gaussian pairs with
correlation 0.6 in each coordinate. A peer whose norm differs from ours is a different estimator in
more than one dimension: the table names norms.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from estimators.kl import kl_entropy
from estimators.ksg import ksg_mi

CORRELATION = 0.6
# (samples, dimensions a side); quick runs stop at the first three
CASES = [
    (1_000, 1),
    (10_000, 1),
    (10_000, 3),
    (100_000, 1),
    (10_000, 10),
    (10_000, 64),
    (5_000, 256),
]
LARGEST = (1_000_000, 1)  # ours alone
ENTROPY = (10_000, 64)
# A peer is called on a case only if n * n * d stays below its limit: above, it takes minutes.
LIMITS = {"npeet_plus": 2e10, "scikit-learn": 1e20, "ennemi": 1e20, "infomeasure": 2e9}


def pair(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([n, d])
    x = rng.normal(size=(n, d))
    return x, CORRELATION * x + math.sqrt(1 - CORRELATION**2) * rng.normal(size=(n, d))


def peers(d: int) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """What is installed and can take d dimensions a side."""
    found: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {}
    if importlib.util.find_spec("npeet_plus"):
        import npeet_plus

        found["npeet_plus"] = lambda x, y: float(npeet_plus.mi(x, y, k=3, base=math.e))
    if d == 1:
        from sklearn.feature_selection import mutual_info_regression

        found["scikit-learn"] = lambda x, y: float(
            mutual_info_regression(x, y[:, 0], n_neighbors=3, random_state=0)[0]
        )
        if importlib.util.find_spec("ennemi"):
            import ennemi

            found["ennemi"] = lambda x, y: float(
                ennemi.estimate_mi(y[:, 0], x[:, 0], k=3, preprocess=False)[0, 0]
            )
    if importlib.util.find_spec("infomeasure"):
        import infomeasure

        found["infomeasure"] = lambda x, y: float(
            infomeasure.mutual_information(x, y, approach="ksg", k=3)
        )
    return found


def gram_floor(x: np.ndarray, y: np.ndarray) -> None:
    """The least any exact brute force does: both full float32 Gram matrices."""
    for a in (x.astype(np.float32), y.astype(np.float32)):
        for start in range(0, len(a), 1000):
            a[start : start + 1000] @ a.T


def faiss_search(x: np.ndarray) -> None:
    import faiss

    index = faiss.IndexFlatL2(x.shape[1])
    data = x.astype(np.float32)
    index.add(data)
    index.search(data, 4)


def timed(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float, Any]]:
    """Interleave the calls; keep the least time of each, and its answer."""
    best: dict[str, tuple[float, float, Any]] = {}
    for _ in range(repeats):
        for name, call in calls.items():
            if name in best and best[name][0] > 5.0:
                continue
            start, busy = time.perf_counter(), time.process_time()
            answer = call()
            spent, worked = time.perf_counter() - start, time.process_time() - busy
            before = best.get(name, (math.inf, math.inf, None))
            best[name] = (min(spent, before[0]), min(worked, before[1]), answer)
    return best


def measure(n: int, d: int, repeats: int) -> list[dict[str, Any]]:
    x, y = pair(n, d)
    truth = -d / 2 * math.log(1 - CORRELATION**2)
    calls: dict[str, Callable[[], Any]] = {}
    norms = {}
    for metric in ("auto", "chebyshev") if d > 3 else ("auto",):
        probe = ksg_mi(x[:50], y[:50], metric=metric, ci=None)
        name = f"ours ({probe.params['metric']})"
        norms[name] = probe.params["metric"]
        calls[name] = lambda metric=metric: ksg_mi(x, y, metric=metric, ci=None).value
    for name, peer in peers(d).items() if (n, d) != LARGEST else ():
        if n * n * d <= LIMITS.get(name, 1e20):
            norms[name] = "chebyshev"
            calls[name] = lambda peer=peer: peer(x, y)
    if d > 3:
        calls["(floor: both Gram matrices)"] = lambda: gram_floor(x, y)
    rows = []
    for name, (seconds, cpu, answer) in timed(calls, repeats).items():
        rows.append(
            {
                "quantity": "mutual information",
                "n": n,
                "d": d,
                "method": name,
                "norm": norms.get(name),
                "seconds": seconds,
                "cpu_seconds": cpu,
                "value": answer,
                "error": None if answer is None else answer - truth,
            }
        )
    return rows


def measure_entropy(n: int, d: int, repeats: int) -> list[dict[str, Any]]:
    x, _ = pair(n, d)
    truth = d / 2 * math.log(2 * math.pi * math.e)
    calls: dict[str, Callable[[], Any]] = {
        "ours (euclidean)": lambda: kl_entropy(x, ci=None).value,
        "(faiss search alone)": lambda: faiss_search(x),
    }
    rows = []
    for name, (seconds, cpu, answer) in timed(calls, repeats).items():
        rows.append(
            {
                "quantity": "entropy",
                "n": n,
                "d": d,
                "method": name,
                "norm": "euclidean",
                "seconds": seconds,
                "cpu_seconds": cpu,
                "value": answer,
                "error": None if answer is None else answer - truth,
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, with each time over that of our default on the same case."""
    lines = [
        "| quantity | n | d a side | method | seconds | times ours | CPU seconds | times ours | "
        "error, nats |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ours: dict[tuple[str, int, int], dict[str, Any]] = {}
    for r in rows:
        key = (r["quantity"], r["n"], r["d"])
        ours.setdefault(key, r)  # the default comes first in each case
        error = "" if r["error"] is None else f"{r['error']:+.3f}"
        lines.append(
            f"| {r['quantity']} | {r['n']:,} | {r['d']} | {r['method']} | {r['seconds']:.4f} | "
            f"{r['seconds'] / ours[key]['seconds']:.1f} | {r['cpu_seconds']:.4f} | "
            f"{r['cpu_seconds'] / ours[key]['cpu_seconds']:.1f} | {error} |"
        )
    return "\n".join(lines)


def ratios(rows: list[dict[str, Any]]) -> str:
    """Our default beside npeet_plus, the best other peer and the floor, as ratios: Markdown."""
    lines = [
        "| n | d a side | npeet_plus / ours, wall | CPU | best other peer | / ours, wall | CPU | "
        "ours / floor, wall | CPU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for n, d in dict.fromkeys((r["n"], r["d"]) for r in rows if r["quantity"] != "entropy"):
        here = {
            r["method"]: r
            for r in rows
            if (r["n"], r["d"]) == (n, d) and r["quantity"] != "entropy"
        }
        ours = next(r for name, r in here.items() if name.startswith("ours"))
        others = {
            name: r
            for name, r in here.items()
            if not name.startswith(("ours", "(")) and name != "npeet_plus"
        }
        cells = over(here.get("npeet_plus"), ours)
        best = min(others, key=lambda name: others[name]["seconds"], default=None)
        cells += [best or "", *over(others.get(best), ours)]
        cells += over(ours, next((r for name, r in here.items() if name.startswith("(")), None))
        lines.append(f"| {n:,} | {d} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def over(a: dict[str, Any] | None, b: dict[str, Any] | None) -> list[str]:
    if a is None or b is None:
        return ["", ""]
    return [f"{a[key] / b[key]:.1f}" for key in ("seconds", "cpu_seconds")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small cases only")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="cases, e.g. 10000x64 1000000x1")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    parser.add_argument("--merge", action="store_true", help="keep other cases of the JSON file")
    options = parser.parse_args()
    x, y = pair(200, 1)
    start = time.perf_counter()
    ksg_mi(x, y, ci=None)
    first = time.perf_counter() - start
    for d in (2, 12):  # compile, or load from the cache, before timing
        ksg_mi(*pair(200, d), ci=None)
        kl_entropy(pair(200, d)[0], ci=None)
    ksg_mi(*pair(200, 12), metric="chebyshev", ci=None)
    rows: list[dict[str, Any]] = []
    wanted = CASES[:3] if options.quick else [*CASES, LARGEST]
    if options.only:
        wanted = [c for c in wanted if f"{c[0]}x{c[1]}" in options.only]
    for n, d in wanted:
        # Calls of a millisecond need more repeats before the least of them means anything.
        repeats = 2 if (n, d) == LARGEST else options.repeats * (20 if n <= 1000 else 1)
        rows += measure(n, d, repeats)
        if (n, d) == ENTROPY:
            rows += measure_entropy(n, d, options.repeats)
        print(".", end="", file=sys.stderr, flush=True)
    if options.merge and options.json and options.json.exists():
        done = {(r["n"], r["d"]) for r in rows}
        old = json.loads(options.json.read_text())["rows"]
        rows = [r for r in old if (r["n"], r["d"]) not in done] + rows
        order = [*CASES, LARGEST]
        rows.sort(key=lambda r: order.index((r["n"], r["d"])))
    print(file=sys.stderr)
    print(table(rows))
    print()
    print(ratios(rows))
    print(f"\nfirst call, compilation or cache included: {first:.2f} s")
    if options.json:
        document = {
            "date": date.today().isoformat(),
            "machine": platform.processor() or platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
            "numpy": np.__version__,
            "first_call_s": first,
            "rows": rows,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
