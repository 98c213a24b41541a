"""Estimators on a pair's states beside npeet_plus, scikit-learn and dit on the same arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.broja import broja_pid, verify_certificate
from estimators.discrete import conditional_entropy, discrete_mi
from estimators.kl import kl_entropy
from estimators.ksg import ksg_cmi, ksg_mi
from estimators.mixed import ross_mi
from estimators.quantise import quantise
from redundancy.crosschecking._material import ENOUGH, Material
from redundancy.crosschecking._peers import seeded
from redundancy.crosschecking._result import Check, compare, skipped

__all__ = ["dit_checks", "npeet_checks", "sklearn_checks"]

_K = 3
# npeet_plus and scikit-learn add noise of 1e-10 to break ties.
_NOISE = 1e-4
_STATES = 8
# dit's optimiser, not its formulas: it stops where the objective hardly changes.
_OPTIMISER = 5e-3
_COARSE = 3
_NORM = (
    "norm: ours uses Euclidean balls unless told otherwise, theirs cubes; with cubes ours gives "
    "their number"
)
_ABS = (
    "abs and estimator: theirs is the absolute value of a difference of entropies, so it can't be "
    "negative; ours is Ross's estimator, which shares one radius and may be"
)
_CLIP = "abs: theirs is clipped at 0; ours keeps its sign, so that its mean is right near 0"
_STOPPED = (
    "optimiser: theirs stopped above the minimum; ours is certified within the tolerance by a dual "
    "that was checked anew"
)
_BIAS = (
    "bias: theirs is the plug-in, too high on average; ours subtracts Miller and Madow's "
    "first-order bias"
)


def npeet_checks(material: Material, seed: int) -> Iterator[Check]:
    """Nearest neighbours: KSG, conditional KSG, Kozachenko-Leonenko, mixed; plug-in counts."""
    import npeet_plus

    where, x, y = material.where, material.lower, material.upper
    peer = "npeet_plus"
    if few := _too_few(material):
        yield skipped(where, "I(a;b), KSG 1", peer, "mi", few)
    else:
        with seeded(seed):
            theirs = float(npeet_plus.mi(x, y, k=_K, base=math.e))
        yield compare(
            where,
            "I(a;b), KSG 1",
            peer,
            "mi",
            ours=ksg_mi(x, y, k=_K, metric="chebyshev", ci=None).value,
            theirs=theirs,
            tolerance=_NOISE,
        )
        if material.third is not None and np.ptp(material.third) > 0:
            with seeded(seed):
                theirs = float(npeet_plus.mi(x, y, material.third, k=_K, base=math.e))
            yield compare(
                where,
                "I(a;b|c), KSG",
                peer,
                "mi(x, y, z)",
                ours=ksg_cmi(x, y, material.third, k=_K, metric="chebyshev", ci=None).value,
                theirs=theirs,
                tolerance=_NOISE,
            )
        with seeded(seed):
            theirs = float(npeet_plus.entropy(y, k=_K, base=math.e))
        cubes = kl_entropy(y, k=_K, metric="chebyshev", ci=None).value
        balls = kl_entropy(y, k=_K, ci=None).value
        yield compare(
            where, "h(b), cubes", peer, "entropy", ours=cubes, theirs=theirs, tolerance=_NOISE
        )
        if cubes is not None and balls is not None:
            yield compare(
                where,
                "h(b), balls",
                peer,
                "entropy",
                ours=balls,
                theirs=theirs,
                tolerance=_NOISE,
                expected=balls - cubes,
                why=_NORM,
            )
        yield from _npeet_labels(material, seed)
    a, b = _symbols(material, _STATES, seed)
    plug_in = discrete_mi(a, b, correction="plug-in", ci=None).value
    corrected = discrete_mi(a, b, ci=None).value
    theirs = float(npeet_plus.midd(a[:, None], b[:, None], base=math.e))
    yield compare(
        where,
        f"I of {_STATES} states, plug-in",
        peer,
        "midd",
        ours=plug_in,
        theirs=theirs,
        tolerance=1e-9,
    )
    if plug_in is not None:
        yield compare(
            where,
            f"I of {_STATES} states, corrected",
            peer,
            "midd",
            ours=corrected,
            theirs=theirs,
            tolerance=1e-9,
            expected=_miller_madow(a, b),
            why=_BIAS,
        )


def _npeet_labels(material: Material, seed: int) -> Iterator[Check]:
    import npeet_plus

    if material.labels is None:
        return
    y, labels = material.upper, material.labels[material.rows]
    values, sizes = np.unique(labels, return_counts=True)
    if len(values) < 2 or sizes.min() <= _K + 1:
        return
    with seeded(seed):
        theirs = float(npeet_plus.micd(y, labels[:, None], k=_K, base=math.e))
    ours = ross_mi(y, labels, k=_K, metric="chebyshev", ci=None).value

    def entropy(rows: NDArray[Any]) -> float:
        return float(kl_entropy(rows, k=_K, metric="chebyshev", ci=None))

    parts = [entropy(y[labels == value]) * n for value, n in zip(values, sizes, strict=True)]
    same = abs(entropy(y) - sum(parts) / len(y))
    yield compare(
        material.where,
        "I(b;target)",
        "npeet_plus",
        "micd",
        ours=ours,
        theirs=theirs,
        tolerance=_NOISE,
        expected=0.0 if ours is None else ours - same,
        why=_ABS,
    )


def sklearn_checks(material: Material, seed: int) -> Iterator[Check]:
    """One coordinate: KSG and Ross as feature selection uses them; counts of states."""
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
    from sklearn.metrics import mutual_info_score

    where, peer = material.where, "scikit-learn"
    a, b = _symbols(material, _STATES, seed)
    yield compare(
        where,
        f"I of {_STATES} states, plug-in",
        peer,
        "metrics.mutual_info_score",
        ours=discrete_mi(a, b, correction="plug-in", ci=None).value,
        theirs=float(mutual_info_score(a, b)),
        tolerance=1e-9,
    )
    by = "feature_selection.mutual_info_regression"
    if few := _too_few(material):
        yield skipped(where, "I of first directions, KSG 1", peer, by, few)
        return
    # It scales both to unit variance, and the norm of the joint space sees that.
    x, y = (v[:, 0] / v[:, 0].std() for v in (material.lower, material.upper))
    ours = ksg_mi(x, y, k=_K, metric="chebyshev", ci=None).value
    theirs = float(mutual_info_regression(x[:, None], y, n_neighbors=_K, random_state=seed)[0])
    yield _maybe_clipped(where, "I of first directions, KSG 1", by, ours, theirs)
    if material.labels is None:
        return
    labels = material.labels[material.rows]
    if np.unique(labels, return_counts=True)[1].min() <= _K or len(np.unique(labels)) < 2:
        return
    ours = ross_mi(y, labels, k=_K, ci=None).value
    theirs = float(mutual_info_classif(y[:, None], labels, n_neighbors=_K, random_state=seed)[0])
    by = "feature_selection.mutual_info_classif"
    yield _maybe_clipped(where, "I(first direction of b;target)", by, ours, theirs)


def _maybe_clipped(where: Any, quantity: str, by: str, ours: float | None, theirs: float) -> Check:
    cut = ours is not None and ours < 0
    return compare(
        where,
        quantity,
        "scikit-learn",
        by,
        ours=ours,
        theirs=theirs,
        tolerance=_NOISE,
        expected=min(ours or 0.0, 0.0),
        why=_CLIP if cut else "",
    )


def dit_checks(material: Material, seed: int) -> Iterator[Check]:
    """Distributions: conditional entropy and the BROJA decomposition of coarse states."""
    import dit
    from dit.pid import PID_BROJA

    where, peer = material.where, "dit"
    a, b = _symbols(material, _STATES, seed)
    joint = _distribution(dit, _counts(a, b))
    yield compare(
        where,
        f"H(b|a) of {_STATES} states, plug-in",
        peer,
        "shannon.conditional_entropy",
        ours=conditional_entropy(b, a, correction="plug-in", ci=None).value,
        theirs=float(dit.shannon.conditional_entropy(joint, [1], [0])) * math.log(2.0),
        tolerance=1e-9,
    )
    x, y = _symbols(material, _COARSE, seed)
    z, what = _target(material, seed)
    if len(z) < len(x):
        x, y = x[material.rows], y[material.rows]
    p = _counts(z, y, x)
    pid = broja_pid(p)
    marginals = _distribution(dit, np.moveaxis(p, 0, 2))
    with seeded(seed):
        # The measure of single nodes alone; the lattice around it costs ten times as much.
        found = PID_BROJA._measure(marginals, ((0,), (1,)), (2,), rng=np.random.default_rng(seed))
    low, high = verify_certificate(pid, p.sum(axis=2), p.sum(axis=1))
    for atom, key, name in (("unique_x", (0,), "b\\a"), ("unique_y", (1,), "a\\b")):
        ours, theirs = float(getattr(pid, atom)), float(found[key]) * math.log(2.0)
        # Unique information is a minimum. What lies above a proven one was not minimised; nothing
        # proves a smaller one.
        short = theirs > ours + _OPTIMISER and high - low < _OPTIMISER
        yield compare(
            where,
            f"U({what}: {name}), {_COARSE} states",
            peer,
            "pid.PID_BROJA",
            ours=ours,
            theirs=theirs,
            tolerance=_OPTIMISER + pid.gap,
            expected=ours - theirs if short else 0.0,
            why=_STOPPED if short else "",
        )


def _too_few(material: Material) -> str:
    n = len(material.rows)
    if n < ENOUGH:
        return f"{n} tokens without a copy are too few for neighbours; {ENOUGH} are needed"
    if any(np.ptp(v, axis=0).min() == 0 for v in (material.lower, material.upper)):
        return "the states vary in fewer than two directions"
    return ""


def _symbols(
    material: Material, n_states: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    pair = material.pair
    sides = [np.asarray(x, dtype=np.float32) for x in (pair.x_lower, pair.x_upper)]
    if sides[0].shape[1] == sides[1].shape[1]:
        rule = quantise(sides, n_states=n_states, normalise="unit", seed=seed)
        return rule.encode(sides[0]), rule.encode(sides[1])
    rules = [quantise(x, n_states=n_states, normalise="unit", seed=seed) for x in sides]
    return rules[0].encode(sides[0]), rules[1].encode(sides[1])


def _target(material: Material, seed: int) -> tuple[NDArray[np.int64], str]:
    """Return few classes to decompose: the target's, or halves of another layer's tokens."""
    if material.labels is not None and material.labels.max() < _COARSE:
        return material.labels, "target"
    if material.third is not None:
        direction = material.third[:, 0]
        return (direction > np.median(direction)).astype(np.int64), "halves of c"
    upper = np.asarray(material.pair.x_upper, dtype=np.float32)
    rule = quantise(upper, n_states=2, normalise="unit", seed=seed + 1)
    return rule.encode(upper), "halves of b"


def _counts(*symbols: NDArray[np.int64]) -> NDArray[np.float64]:
    joint = np.zeros([int(s.max()) + 1 for s in symbols])
    np.add.at(joint, symbols, 1.0)
    return joint / len(symbols[0])


def _distribution(dit: Any, p: NDArray[np.float64]) -> Any:
    cells = [cell for cell in np.ndindex(*p.shape) if p[cell] > 0]
    outcomes = [tuple(str(i) for i in cell) for cell in cells]
    return dit.Distribution(outcomes, [p[cell] for cell in cells])


def _miller_madow(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """(K_a - 1 + K_b - 1 - (K_ab - 1)) / 2n over occupied states (Miller 1955)."""
    joint = _counts(a, b) > 0
    occupied = int(joint.any(axis=1).sum()) + int(joint.any(axis=0).sum()) - int(joint.sum())
    return (occupied - 1) / (2 * len(a))
