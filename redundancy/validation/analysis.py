"""From studies of one or several models to how well each measure predicts each loss."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy.certify import adjust
from redundancy.record import plain
from redundancy.validation.association import (
    area_under_curve,
    correlate,
    partial_correlation,
    permutation_p_value,
    resampled_means,
)
from redundancy.validation.records import (
    KINDS,
    SCHEMA_VERSION,
    TARGETS,
    AnalysisRecord,
    AssociationRecord,
    ModelRecord,
    StudyRecord,
)

__all__ = [
    "Cell",
    "analyse",
    "associate",
    "check",
    "check_names",
    "cluster_interval",
    "cluster_of",
    "corrected",
]

Floats = NDArray[np.float64]
SHUFFLED = "shuffled"
_CONTROLS = ("depth", SHUFFLED)


class Cell:
    """One model's reading of one measure and its loss, oriented so that high means harm.

    Parameters
    ----------
    reading, se : ndarray of float64, shape (L,)
        High: expected to harm. Standard errors are 0 where unknown.
    loss : ndarray of float64, shape (L,)
        Mean over images.
    resampled : ndarray of float64, shape (draws, L), or None
        The mean loss over resampled images; None where only means are known.
    cluster : str
        Models that share something (their seed) share a cluster.
    verdicts : sequence of str or None
        By layer, those without a reading included.
    """

    def __init__(
        self,
        reading: Floats,
        loss: Floats,
        *,
        cluster: str,
        se: Floats | None = None,
        resampled: Floats | None = None,
        verdicts: Sequence[str | None] = (),
    ) -> None:
        known = ~(np.isnan(reading) | np.isnan(loss))
        self.cluster, self.every_loss, self.verdicts = cluster, loss, list(verdicts)
        self.reading, self.loss = reading[known], loss[known]
        self.se = np.zeros(int(known.sum())) if se is None else se[known]
        self.resampled = None if resampled is None else resampled[:, known]
        self.depth = np.flatnonzero(known).astype(float)


def check_names(names: Sequence[str]) -> None:
    """Raise InputError if two studies would have one name."""
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"two studies are called {twice[0]!r}; give each model a name of its own")


def analyse(
    studies: Sequence[StudyRecord],
    *,
    alpha: float = 0.05,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    source: str = "models",
) -> AnalysisRecord:
    """Hold every measure against every marginal loss, over all models together.

    Parameters
    ----------
    studies : sequence of StudyRecord
        Of at least one model.
    alpha : float
        A layer is harmful where its loss is above alpha (changed answers only).
    level : float
        Of the intervals.
    draws : int
        Resamples and permutations.
    seed : int
        Of both.
    provenance : mapping, optional
        Kept as it is.
    source : str
        Where the studies come from.

    Raises
    ------
    InputError
        If there is no study, two of one name, or alpha or level is not in (0, 1).
    """
    if not studies:
        raise InputError("there is no study to analyse; name at least one model")
    check_names([study.name for study in studies])
    check(alpha, level, draws)
    readings = _readings(studies, seed)
    associations = []
    for target in TARGETS:
        for kind in KINDS:
            family = []
            # Once for all measures: resampling takes longer than all that uses it.
            lost = [_loss(study, target, kind, draws, seed) for study in studies]
            for measure in readings:
                cells = [
                    cell
                    for study, loss in zip(studies, lost, strict=True)
                    if loss is not None and (cell := _cell(study, measure, *loss, seed)) is not None
                ]
                if cells:
                    family.append(
                        associate(
                            cells,
                            measure=measure,
                            target=target,
                            kind=kind,
                            alpha=alpha if kind == "changed" else None,
                            level=level,
                            draws=draws,
                            seed=seed,
                        )
                    )
            associations += corrected(family)
    return AnalysisRecord(
        schema_version=SCHEMA_VERSION,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        source=source,
        alpha=alpha,
        level=level,
        draws=draws,
        seed=seed,
        models=[
            ModelRecord(
                name=study.name,
                cluster=cluster_of(study),
                n_layers=study.n_layers,
                accuracy=None if study.accuracy is None else study.accuracy.value,
                n_images=len(study.images),
            )
            for study in studies
        ],
        associations=associations,
        readings=readings,
        targets=TARGETS,
        provenance=plain(dict(provenance or {})),
        notes=_notes(studies),
    )


def associate(
    cells: Sequence[Cell],
    *,
    measure: str,
    target: str,
    kind: str,
    alpha: float | None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    least: int = 4,
) -> AssociationRecord:
    """One row of the table: one measure against one loss.

    Parameters
    ----------
    cells : sequence of Cell
        One per model.
    measure, target, kind : str
        What the row is about.
    alpha : float or None
        Layers that lose more are harmful; None leaves the areas under the curve out.
    level, draws, seed
        As for `analyse`.
    least : int
        Layers with a reading that a model must have to count: of two, any correlation is +-1.
    """
    cells = [cell for cell in cells if cell.reading.size >= least]
    clusters = [cell.cluster for cell in cells]
    rho = np.array([float(correlate(c.reading, c.loss)) for c in cells])
    tau = np.array([float(correlate(c.reading, c.loss, "kendall")) for c in cells])
    partial = np.array([float(partial_correlation(c.reading, c.loss, c.depth)) for c in cells])
    area = np.full(len(cells), np.nan)
    counts: dict[str, list[int]] = {}
    scored: list[tuple[float, bool]] = []
    if alpha is not None:
        for i, cell in enumerate(cells):
            area[i] = area_under_curve(cell.reading, cell.loss > alpha)
            for verdict, bad in zip(cell.verdicts, cell.every_loss > alpha, strict=False):
                if verdict is not None:
                    counts.setdefault(verdict, [0, 0])[int(bad)] += 1
                    if verdict in _SCORES:
                        scored.append((_SCORES[verdict], bool(bad)))
    judged = float("nan")
    if scored:
        judged = area_under_curve(
            np.array([score for score, _ in scored]), np.array([bad for _, bad in scored])
        )
    return AssociationRecord(
        measure=measure,
        target=target,
        kind=kind,
        n_models=int((~np.isnan(rho)).sum()),
        by_model=_plain(rho),
        mean=_mean(rho),
        kendall=_mean(tau),
        images_ci=_images_interval(cells, rho, level, draws, seed),
        clusters_ci=cluster_interval(rho, clusters, level),
        clusters_bootstrap=_clusters_bootstrap(rho, clusters, level, draws, seed),
        p=_number(
            permutation_p_value([(c.reading, c.loss) for c in cells], draws=draws, seed=seed)
        ),
        beyond_depth=_mean(partial),
        beyond_depth_ci=cluster_interval(partial, clusters, level),
        auc=_mean(area),
        auc_ci=cluster_interval(area, clusters, level, (0.0, 1.0)),
        n_auc_models=int((~np.isnan(area)).sum()),
        verdicts={verdict: (good, bad) for verdict, (good, bad) in counts.items()},
        auc_verdicts=_number(judged),
        control=measure in _CONTROLS,
    )


_SCORES = {"redundant": 0.0, "undecided": 0.5, "needed": 1.0}


def corrected(family: Sequence[AssociationRecord]) -> list[AssociationRecord]:
    """Correct the p-values of one family of measures (Holm); controls are no hypotheses."""
    from msgspec.structs import replace

    tested = [row for row in family if row.p is not None and not row.control]
    adjusted = adjust([row.p or 0.0 for row in tested])
    values = {id(row): float(p) for row, p in zip(tested, adjusted, strict=True)}
    return [replace(row, p_adjusted=values.get(id(row))) for row in family]


def cluster_interval(
    values: Floats,
    clusters: Sequence[str],
    level: float,
    support: tuple[float, float] = (-1.0, 1.0),
) -> tuple[float, float] | None:
    """Textbook t interval over the means of clusters; None with fewer than two of them.

    No correction for skewness: with a handful of clusters there is none to be estimated.
    """
    from scipy.special import stdtrit

    known = ~np.isnan(values)
    labels, codes = np.unique(np.asarray(clusters)[known], return_inverse=True)
    if labels.size < 2:
        return None
    means = np.bincount(codes, weights=values[known]) / np.bincount(codes)
    reach = float(stdtrit(labels.size - 1, 0.5 + level / 2)) * float(means.std(ddof=1))
    reach /= math.sqrt(labels.size)
    middle = float(means.mean())
    return max(middle - reach, support[0]), min(middle + reach, support[1])


def _images_interval(
    cells: Sequence[Cell], rho: Floats, level: float, draws: int, seed: int
) -> tuple[float, float] | None:
    """Percentiles over resampled images and readings drawn from their intervals, models fixed."""
    known = [c for c, r in zip(cells, rho, strict=True) if not math.isnan(r)]
    if not known or any(c.resampled is None for c in known):
        return None
    rng = np.random.default_rng([seed, 7])
    total = []
    for cell in known:
        noise = rng.standard_normal((draws, cell.reading.size)) * cell.se
        total.append(correlate(cell.reading + noise, np.asarray(cell.resampled)))
    with np.errstate(invalid="ignore"):
        means = np.nanmean(np.array(total), axis=0)
    return _percentiles(means, level)


def _clusters_bootstrap(
    rho: Floats, clusters: Sequence[str], level: float, draws: int, seed: int
) -> tuple[float, float] | None:
    known = ~np.isnan(rho)
    labels, codes = np.unique(np.asarray(clusters)[known], return_inverse=True)
    if labels.size < 2:
        return None
    totals = np.bincount(codes, weights=rho[known])
    sizes = np.bincount(codes)
    rng = np.random.default_rng([seed, 11])
    chosen = rng.integers(labels.size, size=(draws, labels.size))
    return _percentiles(totals[chosen].sum(axis=1) / sizes[chosen].sum(axis=1), level)


def _percentiles(values: Floats, level: float) -> tuple[float, float] | None:
    values = values[~np.isnan(values)]
    if values.size == 0:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _loss(
    study: StudyRecord, target: str, kind: str, draws: int, seed: int
) -> tuple[Floats, Floats] | None:
    """Mean loss by layer, and the same over resampled images; None if no image has all layers."""
    table = np.array(study.losses[target][kind], dtype=float)
    table = table[~np.isnan(table).any(axis=1)]
    if not len(table):
        return None
    return table.mean(axis=0), resampled_means(table, draws, seed)


def _cell(
    study: StudyRecord, measure: str, loss: Floats, resampled: Floats, seed: int
) -> Cell | None:
    cluster = cluster_of(study)
    if measure == SHUFFLED:
        order = np.random.default_rng([seed, study.seed, study.n_layers, *study.name.encode()])
        reading = order.permutation(study.n_layers).astype(float)
        return Cell(reading, loss, resampled=resampled, cluster=cluster)
    curve = study.readings.get(measure)
    if curve is None:
        return None
    sign = 1.0 if curve.harm_when == "high" else -1.0
    return Cell(
        sign * np.array(curve.values, dtype=float),
        loss,
        se=np.nan_to_num(np.array(curve.se, dtype=float)),
        resampled=resampled,
        verdicts=curve.verdicts,
        cluster=cluster,
    )


def cluster_of(study: StudyRecord) -> str:
    """What a model shares with others: its seed where it is known, else nothing."""
    return str(study.model.get("cluster") or study.name)


def _readings(studies: Sequence[StudyRecord], seed: int) -> dict[str, str]:
    titles = {key: c.title for study in studies for key, c in study.readings.items()}
    titles[SHUFFLED] = "negative control: layers in random order"
    # Controls come last, whatever the studies' order.
    return {key: titles[key] for key in sorted(titles, key=lambda k: k in _CONTROLS)}


def _notes(studies: Sequence[StudyRecord]) -> list[str]:
    notes = []
    n_clusters = len({cluster_of(study) for study in studies})
    if n_clusters < 2:
        notes.append(
            "one model (or models of one seed): intervals over images say nothing of other models"
        )
    elif n_clusters < 5:
        notes.append(f"{n_clusters} seeds only: intervals over seeds are wide, and should be")
    shallow = min(study.n_layers for study in studies)
    if shallow < 8:
        notes.append(
            f"models have as few as {shallow} layers: one model's rank correlation takes few values"
        )
    return notes


def check(alpha: float, level: float, draws: int) -> None:
    """Refuse settings with which no analysis makes sense."""
    for name, value in (("alpha", alpha), ("level", level)):
        if not 0.0 < value < 1.0:
            raise InputError(f"{name} is {value!r}; it lies strictly between 0 and 1")
    if draws < 100:
        raise InputError(f"draws is {draws}; intervals need at least 100")


def _plain(values: Floats) -> list[float | None]:
    return [_number(v) for v in values.tolist()]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
