"""Orderings side by side: what each lets a certificate save, and whether certificates hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy.risk import certify_sequences, least_groups
from redundancy.validation.analysis import cluster_interval, cluster_of
from redundancy.validation.records import OrderingOutcome, StudyRecord

__all__ = ["Split", "compare_orderings", "resplit"]

Floats = NDArray[np.float64]
OURS = "readings"


class Split:
    """What one ordering gave on every division of one model's images.

    Parameters
    ----------
    saved : ndarray of float64, shape (resplits,)
        Share of the prompt's arithmetic that the chosen plan saves; 0 where none was certified.
    certified : ndarray of int64, shape (resplits,)
        Plans certified.
    risk : ndarray of float64, shape (resplits,)
        The chosen plan's loss on the images that took no part; 0 where none was certified.
    broken : ndarray of bool, shape (resplits,)
        Whether any certified plan loses more than alpha there.
    """

    def __init__(self, resplits: int) -> None:
        self.saved, self.risk = np.zeros(resplits), np.zeros(resplits)
        self.certified = np.zeros(resplits, dtype=np.int64)
        self.broken = np.zeros(resplits, dtype=bool)


def resplit(
    changed: Floats,
    saved: Sequence[float],
    sequences: Sequence[Sequence[int]],
    *,
    alpha: float,
    delta: float,
    calibration: int,
    resplits: int = 200,
    seed: int = 0,
) -> Split:
    """Certify on random images, and look at the others, again and again.

    Parameters
    ----------
    changed : ndarray of float64, shape (plans, images)
        Share of each image's answers that each plan changes.
    saved : sequence of float
        By plan.
    sequences : sequence of sequence of int
        Plans safest first, tested together as `redundancy.choosing.certify` does.
    alpha, delta : float
        As for `redundancy.risk.certify_sequences`.
    calibration : int
        Images to certify on; the rest, at least as many as certificates can be judged by, tests.
    resplits : int
    seed : int
        The same seed divides the same number of images alike, whatever the ordering.

    Raises
    ------
    InputError
        If there are no images left to test on, or too few to certify anything.
    """
    n = changed.shape[1]
    if not 0 < calibration < n:
        raise InputError(
            f"{calibration} of {n} images to certify on leave none to test on; give fewer"
        )
    rng = np.random.default_rng([seed, n])
    out = Split(resplits)
    for r in range(resplits):
        order = rng.permutation(n)
        ours, rest = order[:calibration], order[calibration:]
        certificate = certify_sequences(
            lambda plan, rows=ours: changed[plan, rows],  # type: ignore[misc]
            sequences,
            alpha=alpha,
            delta=delta,
        )
        passed = [int(str(plan)) for plan in certificate.certified]
        if passed:
            chosen = max(passed, key=lambda plan: saved[plan])
            out.saved[r] = saved[chosen]
            out.certified[r] = len(set(passed))
            out.risk[r] = float(changed[chosen, rest].mean())
            out.broken[r] = bool((changed[passed][:, rest].mean(axis=1) > alpha).any())
    return out


def compare_orderings(
    studies: Sequence[StudyRecord],
    *,
    alpha: float = 0.05,
    delta: float = 0.1,
    level: float = 0.95,
    resplits: int = 200,
    seed: int = 0,
) -> list[OrderingOutcome]:
    """Hold the orderings of all studies against each other at the same alpha and delta.

    Half of each model's tested images certify, the other half test.

    Parameters
    ----------
    studies : sequence of StudyRecord
    alpha, delta : float
        Share of answers that may change, and probability of a wrong certificate.
    level : float
        Of the intervals over models (t over clusters).
    resplits : int
        Divisions of each model's images.
    seed : int

    Returns
    -------
    list of OrderingOutcome
        This package's ordering first. Studies with too few images for any certificate are left
        out; empty if none is left.
    """
    # Sequences that agree could certify with fewer; those that do not must be able to as well.
    studies = [
        study
        for study in studies
        if study.orderings
        and len(study.images) // 2
        >= max(least_groups(alpha, delta / len(o.sequences)) for o in study.orderings.values())
    ]
    names = list(dict.fromkeys(key for study in studies for key in study.orderings))
    names.sort(key=lambda name: name != OURS)
    outcomes: dict[str, dict[str, Split]] = {name: {} for name in names}
    for study in studies:
        changed = np.array(study.changed, dtype=float)
        for name, ordering in study.orderings.items():
            outcomes[name][study.name] = resplit(
                changed,
                study.saved,
                ordering.sequences,
                alpha=alpha,
                delta=delta,
                calibration=changed.shape[1] // 2,
                resplits=resplits,
                seed=seed,
            )
    clusters = {study.name: cluster_of(study) for study in studies}
    titles = {key: o.title for study in studies for key, o in study.orderings.items()}
    out = []
    for name in names:
        splits = outcomes[name]
        mine = np.array([split.saved.mean() for split in splits.values()])
        labels = [clusters[model] for model in splits]
        ahead = np.array(
            [outcomes[OURS][model].saved.mean() - s.saved.mean() for model, s in splits.items()]
        )
        out.append(
            OrderingOutcome(
                ordering=name,
                title=titles[name],
                alpha=alpha,
                delta=delta,
                resplits=resplits,
                by_model={model: float(split.saved.mean()) for model, split in splits.items()},
                saved=float(mine.mean()),
                saved_ci=cluster_interval(mine, labels, level, (0.0, 1.0)),
                ahead=float(ahead.mean()),
                ahead_ci=cluster_interval(ahead, labels, level),
                models_behind=int((ahead < -1e-9).sum()),
                none_certified=float(np.mean([np.mean(s.certified == 0) for s in splits.values()])),
                broken=float(np.mean([s.broken.mean() for s in splits.values()])),
                broken_worst=float(max(s.broken.mean() for s in splits.values())),
            )
        )
    return out
