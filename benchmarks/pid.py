"""BROJA solvers side by side: seconds, error of the atoms, failures.

    python benchmarks/pid.py                     the cases of the documentation
    python benchmarks/pid.py --cases gates       a few seconds
    python benchmarks/pid.py --json pid.json     and write the figures

Solvers that are not installed are said to be so: `clarabel` (an exponential cone program on a
general solver), `dit` with each of its methods, `BROJA_2PID`. Each solver lives in a process of its
own with one BLAS thread, warmed up on a small problem; the solvers take turns within each round;
seconds are processor seconds of the solving process alone, the best of the rounds. What runs
longer than `--limit` (on the wall clock) is stopped, and not tried on the larger cases of its kind.

What a solver says of its own accuracy (its gap, BROJA_2PID's "numerical error") is kept too. The
error of an answer is its distance from the certified interval of the atom, in bits: an answer
may be wrong by this much at least.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# The folder of this script holds an estimators.py, which is not the package.
sys.path[:] = [p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402

Atoms = dict[str, float]
ATOMS = ("redundant", "unique_x", "unique_y", "synergistic")
LN2 = float(np.log(2.0))


def ours(p: np.ndarray) -> Atoms:
    """The package's solver."""
    from estimators.broja import broja_pid

    pid = broja_pid(p).to("bits")
    if not pid.certified:
        raise RuntimeError(f"uncertified, gap {pid.gap:.1e}")
    return {atom: getattr(pid, atom) for atom in ATOMS} | {"gap": pid.gap}


def information(p: np.ndarray) -> float:
    """I(axis 0; the rest) in bits."""
    p = p.reshape(len(p), -1)
    product = p.sum(axis=1, keepdims=True) * p.sum(axis=0)
    return float((p[p > 0] * np.log2(p[p > 0] / product[p > 0])).sum())


def from_uniques(p: np.ndarray, unique_x: float, unique_y: float) -> Atoms:
    """The four atoms from two, by the sum rules."""
    redundant = information(p.sum(axis=2)) - unique_x
    rest = redundant + unique_x + unique_y
    return dict(zip(ATOMS, (redundant, unique_x, unique_y, information(p) - rest), strict=True))


def dit_method(method: str) -> Callable[[np.ndarray], Atoms]:
    """Dit with one of its methods; where it falls back on another one, that counts as a failure."""

    def solve(p: np.ndarray) -> Atoms:
        import dit
        from dit.algorithms.broja_method import broja_solve_bivariate

        cells = [cell for cell in np.ndindex(*p.shape) if p[cell] > 0]
        outcomes = [(str(x), str(y), str(z)) for z, x, y in cells]
        d = dit.Distribution(outcomes, [float(p[cell]) for cell in cells])
        found, about = broja_solve_bivariate(d, ((0,), (1,)), (2,), method=method)
        if method not in ("auto", about["method"]):
            raise RuntimeError(f"fell back on its method {about['method']}")
        return from_uniques(p, float(found[(0,)]), float(found[(1,)]))

    return solve


def clarabel_cone(p: np.ndarray) -> Atoms:
    """Minimise sum t with (-t, q, q_xy) in the exponential cone and q's marginals fixed."""
    import clarabel
    from scipy import sparse

    a, b = p.sum(axis=2), p.sum(axis=1)
    z, x, y = np.nonzero((a > 0)[:, :, None] & (b > 0)[:, None, :])
    n, (n_x, n_y) = len(z), p.shape[1:]
    every = np.arange(n)
    pair = x * n_y + y
    same_pair = sparse.csr_matrix((np.ones(n), (pair, every)), shape=(n_x * n_y, n))
    of_pair = same_pair[pair]
    zero = sparse.csr_matrix((n, n))
    unit = sparse.identity(n, format="csr")
    # Variables (t, q); rows of a cone interleaved: (-t, q, q_xy).
    blocks = sparse.vstack(
        [sparse.hstack([unit, zero]), sparse.hstack([zero, -unit]), sparse.hstack([zero, -of_pair])]
    ).tocsr()
    cones_rows = blocks[np.arange(3 * n).reshape(3, n).T.ravel()]
    of_a = sparse.csr_matrix((np.ones(n), (z * n_x + x, every)))
    of_b = sparse.csr_matrix((np.ones(n), (z * n_y + y, every)))
    marginals = sparse.vstack([of_a, of_b]).tocsr()
    rhs = np.concatenate([a.ravel()[: of_a.shape[0]], b.ravel()[: of_b.shape[0]]])
    keep = np.diff(marginals.indptr) > 0
    marginals, rhs = marginals[keep], rhs[keep]
    equalities = sparse.hstack([sparse.csr_matrix((len(rhs), n)), marginals])
    matrix = sparse.vstack([equalities, cones_rows]).tocsc()
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    cones = [clarabel.ZeroConeT(len(rhs)), *[clarabel.ExponentialConeT()] * n]
    solver = clarabel.DefaultSolver(
        sparse.csc_matrix((2 * n, 2 * n)),
        np.concatenate([np.ones(n), np.zeros(n)]),
        matrix,
        np.concatenate([rhs, np.zeros(3 * n)]),
        cones,
        settings,
    )
    solution = solver.solve()
    if "Solved" not in str(solution.status):
        raise RuntimeError(str(solution.status))
    value = float(solution.obj_val) / LN2

    def given(m: np.ndarray) -> float:
        m, total = m[m > 0], np.broadcast_to(m.sum(axis=0), m.shape)[m > 0]
        return float(-(m * np.log2(m / total)).sum())

    gap = abs(float(solution.obj_val) - float(solution.obj_val_dual)) / LN2
    return from_uniques(p, given(b) + value, given(a) + value) | {"gap": gap}


def broja_2pid(p: np.ndarray) -> Atoms:
    """The solver of Makkeh, Theis and Vicente; its gap is what it reports as numerical error."""
    try:
        from broja2pid import BROJA_2PID
    except ImportError:  # a single file in older copies
        import BROJA_2PID

    given = {cell: float(p[cell]) for cell in np.ndindex(*p.shape) if p[cell] > 0}
    found = BROJA_2PID.pid(given)
    names = dict(zip(ATOMS, ("SI", "UIY", "UIZ", "CI"), strict=True))
    gap = max(abs(float(part)) for part in found["Num_err"])
    return {atom: float(found[name]) for atom, name in names.items()} | {"gap": gap}


SOLVERS: dict[str, tuple[str, Callable[[np.ndarray], Atoms]]] = {
    "redundancy": ("estimators", ours),
    "clarabel cone": ("clarabel", clarabel_cone),
    "dit auto": ("dit", dit_method("auto")),
    "dit scipy": ("dit", dit_method("scipy")),
    "dit admui": ("dit", dit_method("admui")),
    "dit cone": ("dit ecos", dit_method("cone")),
    "BROJA_2PID": ("broja2pid|BROJA_2PID ecos", broja_2pid),
}


def installed(needs: str) -> bool:
    """Whether all the packages are there, one of each set of alternatives."""
    return all(any(map(importlib.util.find_spec, name.split("|"))) for name in needs.split())


def dense(n_z: int, n_x: int, n_y: int) -> np.ndarray:
    """Uniform on the simplex."""
    return np.random.default_rng(0).dirichlet(np.ones(n_z * n_x * n_y)).reshape(n_z, n_x, n_y)


def layers(n_z: int, k: int, n: int = 5000, noise: float = 0.1) -> np.ndarray:
    """Adjacent layers: n states of a mixture of n_z classes and near-copies, k-means symbols."""
    from scipy.cluster.vq import kmeans2

    rng = np.random.default_rng(0)
    z = rng.integers(n_z, size=n)
    x = 1.5 * rng.normal(size=(n_z, 8))[z] + rng.normal(size=(n, 8))
    y = x + noise * rng.normal(size=x.shape)
    centres = x[rng.choice(n, k, replace=False)]
    codes = [kmeans2(v, centres.copy(), 5)[1] for v in (x, y)]
    p = np.zeros((n_z, k, k))
    np.add.at(p, (z, *codes), 1.0 / n)
    return p


def near_copy(flip: float) -> np.ndarray:
    """Y is X but for a share `flip`."""
    p_zx = np.random.default_rng(0).dirichlet(np.ones(32)).reshape(4, 8)
    return p_zx[:, :, None] * ((1 - flip) * np.eye(8) + flip / 8)


def gate(function: Callable[[int, int], Any], n: int) -> np.ndarray:
    """Target function(x, y) of independent uniform sources."""
    values: dict[Any, int] = {}
    cells = [(values.setdefault(function(x, y), len(values)), x, y) for x, y in np.ndindex(n, n)]
    p = np.zeros((len(values), n, n))
    for cell in cells:
        p[cell] = 1.0 / n**2
    return p


# Kind, then cases from small to large.
CASES: dict[str, dict[str, Callable[[], np.ndarray]]] = {
    "gates": {
        "AND": lambda: gate(lambda x, y: x & y, 2),
        "modulo sum of 16": lambda: gate(lambda x, y: (x + y) % 16, 16),
        "target (X, Y), 256 values": lambda: gate(lambda x, y: (x, y), 16),
    },
    "near copies": {
        "flip 1e-2": lambda: near_copy(1e-2),
        "flip 1e-4": lambda: near_copy(1e-4),
        "flip 1e-6": lambda: near_copy(1e-6),
    },
    "dense": {
        "dense 2x8x8": lambda: dense(2, 8, 8),
        "dense 4x16x16": lambda: dense(4, 16, 16),
        "dense 8x32x32": lambda: dense(8, 32, 32),
        "dense 10x64x64": lambda: dense(10, 64, 64),
        "dense 10x128x128": lambda: dense(10, 128, 128),
    },
    "layers": {
        "layers 10x32x32": lambda: layers(10, 32),
        "layers 10x64x64": lambda: layers(10, 64),
        "layers 10x128x128": lambda: layers(10, 128),
        "layers 10x256x256": lambda: layers(10, 256),
    },
    "wide targets": {
        "dense 64x16x16": lambda: dense(64, 16, 16),
        "dense 256x16x16": lambda: dense(256, 16, 16),
        "dense 64x32x32": lambda: dense(64, 32, 32),
    },
}


def _serve(name: str, pipe: Connection) -> None:
    """Child process: solve what comes through the pipe."""
    solve = SOLVERS[name][1]
    solve(dense(2, 3, 3))
    pipe.send("ready")
    while True:
        p = pipe.recv()
        start = time.process_time()
        try:
            answer: Any = solve(p)
        except Exception as error:  # A solver's failure is a finding, not the benchmark's.
            answer = f"{type(error).__name__}: {error}"
        pipe.send((time.process_time() - start, answer))


class Solver:
    """A solver in a process of its own, restarted after it was stopped."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(self.name, theirs), daemon=True)
        self.process.start()
        if not self.pipe.poll(300) or self.pipe.recv() != "ready":
            raise RuntimeError(f"{self.name} does not start")

    def solve(self, p: np.ndarray, limit: float) -> tuple[float, Atoms | str]:
        self.pipe.send(p)
        if self.pipe.poll(limit):
            return self.pipe.recv()
        self.process.kill()
        self.process.join()
        self.start()
        return limit, f"over {limit:g} s"


def measure(
    case: Callable[[], np.ndarray], solvers: list[Solver], rounds: int, limit: float
) -> dict[str, dict[str, Any]]:
    """Let the solvers take turns at one case."""
    from estimators.broja import broja_pid

    p = case()
    certified = broja_pid(p).to("bits")
    inside = {atom: certified.interval(atom) for atom in ATOMS}
    row: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for solver in solvers:
            before = row.setdefault(solver.name, {"seconds": None})
            if "failure" in before:
                continue
            seconds, answer = solver.solve(p, limit)
            if isinstance(answer, str):
                before |= {"failure": answer, "seconds": seconds}
                continue
            error = max(
                max(inside[atom][0] - answer[atom], answer[atom] - inside[atom][1], 0.0)
                for atom in ATOMS
            )
            best = seconds if before["seconds"] is None else min(seconds, before["seconds"])
            worst = max(error, before.get("error_bits", 0.0))
            before |= {"seconds": best, "error_bits": worst}
            if "gap" in answer:
                before["gap_bits"] = answer["gap"]
    return row


def shown(cell: dict[str, Any] | None) -> str:
    """One cell of the table."""
    if cell is None:
        return "-"
    if "failure" in cell:
        return cell["failure"] if cell["failure"].startswith("over") else "fails"
    error = cell["error_bits"]
    wrong = f" (off {error:.0e})" if error > 1e-6 else ""
    if wrong and cell.get("gap_bits", 1.0) <= 1e-6:
        wrong = f" (off {error:.0e}, claims {cell['gap_bits']:.0e})"
    return f"{cell['seconds']:.3g}{wrong}"


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--solvers", nargs="*", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds per problem")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    present = [n for n in options.solvers if installed(SOLVERS[n][0])]
    absent = [n for n in options.solvers if n not in present]
    solvers = [Solver(name) for name in present]
    print(f"processor seconds, {platform.processor() or platform.machine()}, one thread each")
    print("not installed:", ", ".join(absent) or "none")
    print("| case | " + " | ".join(present) + " | gap |")
    print("|---" * (len(present) + 2) + "|")
    results: dict[str, Any] = {}
    for kind in options.cases:
        still = list(solvers)
        for name, case in CASES[kind].items():
            row = measure(case, still, options.rounds, options.limit)
            results[name] = row
            gap = row.get("redundancy", {}).get("gap_bits")
            cells = " | ".join(shown(row.get(solver)) for solver in present)
            print(f"| {name} | {cells} | {'-' if gap is None else f'{gap:.0e}'} |", flush=True)
            still = [s for s in still if "over" not in row[s.name].get("failure", "")]
    if options.json:
        record = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": sys.version.split()[0],
            "platform": platform.platform(),
            "not_installed": absent,
            "rounds": options.rounds,
            "limit_s": options.limit,
            "results": results,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
