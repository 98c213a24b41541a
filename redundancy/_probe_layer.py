"""Probing one layer: what all layers share, and what one layer makes once for all its uses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimators import Diagnostic, Estimate, InputError
from estimators._arrays import FloatArray, IntArray
from estimators.intervals import cluster_mean
from probes._crossfit import CrossFit, cross_fit_all, prior_log_proba, resolve
from probes._principal import Principal, principal
from probes._target import Target
from probes.v_information import joint_losses, narrowed
from redundancy._probe_report import LayerScore, calibration
from redundancy.measures._functional_probes import LayerProbes, probe_layer

__all__ = ["FAILURES", "Job", "Layer", "rearranged"]

FAILURES = (InputError, np.linalg.LinAlgError, MemoryError)
"""What ends one probe and not the run."""

_MOST_CLASSES = 200  # a larger confusion table is no longer read by anyone


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all layers share: target, folds, kinds, level, seed."""

    target: Target
    codes: IntArray | None
    n_groups: int | None
    fold_of: IntArray
    folds: int
    kinds: tuple[str, ...]
    ci: float | None
    seed: int
    options: dict[str, Any]
    shuffled: Target | None

    @property
    def soft(self) -> bool:
        """Whether the target is classes, or distributions over them."""
        return self.target.kind == "classes" or (self.target.k > 1 and self.target.distribution)

    def linear(self, kinds: Sequence[str]) -> bool:
        """Whether any of these kinds is linear."""
        return any(resolve(kind, self.target) != "mlp" for kind in kinds)

    def score(
        self, layer: int, x: FloatArray, rotated: Principal | None, kinds: Sequence[str]
    ) -> dict[str, LayerScore]:
        """Score some kinds of probe, each beside its shuffled control."""
        targets = [self.target] if self.shuffled is None else [self.target, self.shuffled]
        fits = self._fit(x, targets, kinds, rotated)
        null = fits[1] if len(fits) > 1 else {}
        return {
            kind: self._layer_score(layer, kind, fit, null.get(kind))
            for kind, fit in fits[0].items()
        }

    def failed(self, layer: int, kind: str, error: BaseException) -> LayerScore:
        """Score nothing, and say why."""
        reason = Diagnostic(code="failed", severity="error", message=one_line(error))
        nothing = Estimate(
            value=None,
            unit="accuracy" if self.target.kind == "classes" else "R²",
            kind="estimate",
            n=len(self.target.z),
            n_groups=self.n_groups,
            method=f"held-out {kind} probe",
            seed=self.seed,
            diagnostics=(reason,),
        )
        probe = resolve(kind, self.target)
        return LayerScore(layer=layer, kind=kind, probe=probe, score=nothing)

    def plant(self, x: FloatArray) -> dict[str, Estimate]:
        """Scores on states into which the target was written, at the size of the states."""
        rng = np.random.default_rng(self.seed + 2)
        z = (self.target.z - self.target.z.mean(0)) / np.sqrt(self.target.tr_cov)
        size = float(np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean()))
        directions = rng.normal(size=(self.target.k, x.shape[1])) / np.sqrt(x.shape[1])
        written = np.asarray(x + 3.0 * size * (z @ directions), dtype=x.dtype)
        fits = self._fit(written, [self.target], self.kinds, None)[0]
        return {kind: self._scored(self.target, fit, ()) for kind, fit in fits.items()}

    def mean(
        self,
        values: FloatArray,
        unit: str,
        method: str,
        support: tuple[float, float] = (-np.inf, np.inf),
        notes: tuple[Diagnostic, ...] = (),
    ) -> Estimate:
        """Mean over rows with an interval over groups."""
        mean = cluster_mean(
            values, groups=self.codes, weighting="token", level=self.ci, support=support
        )
        return Estimate(
            value=mean.value,
            unit=unit,
            kind="estimate",
            n=len(values),
            n_groups=self.n_groups,
            method=f"{method}, {self.folds} folds; interval over groups, probes held fixed",
            ci=mean.interval,
            seed=self.seed,
            diagnostics=notes,
        )

    def _fit(
        self,
        x: FloatArray,
        targets: Sequence[Target],
        kinds: Sequence[str],
        rotated: Principal | None,
    ) -> list[dict[str, CrossFit]]:
        return cross_fit_all(
            x,
            targets,
            self.fold_of,
            self.folds,
            kinds,
            groups=self.codes,
            seed=self.seed,
            options=self.options,
            layer=rotated,
        )

    def _layer_score(
        self, layer: int, kind: str, fit: CrossFit, null: CrossFit | None
    ) -> LayerScore:
        z = self.target
        information = table = reliability = None
        if fit.log_proba is not None:
            prior = prior_log_proba(z, self.fold_of, self.folds)
            gained = np.einsum("ij,ij->i", z.z, fit.log_proba - prior)
            information = self.mean(gained, "nats", f"entropy minus held-out log loss, {fit.kind}")
        if z.codes is not None:
            guess = fit.scores.argmax(1)
            if z.k <= _MOST_CLASSES:
                counts = np.bincount(z.codes * z.k + guess, minlength=z.k**2).reshape(z.k, z.k)
                table = tuple(tuple(int(v) for v in row) for row in counts)
            if fit.log_proba is not None:
                reliability = calibration(fit.log_proba, z.codes)
        notes: tuple[Diagnostic, ...] = ()
        if not fit.converged:
            notes = (
                Diagnostic(
                    code="not-converged",
                    severity="warning",
                    message="a logistic fit used up its iterations, so the score is that of an "
                    "unfinished probe, as a rule a little low",
                ),
            )
        return LayerScore(
            layer=layer,
            kind=kind,
            probe=fit.kind,
            score=self._scored(z, fit, notes),
            control=None
            if null is None or self.shuffled is None
            else self._scored(self.shuffled, null, ()),
            information=information,
            penalties=fit.penalties,
            confusion=table,
            calibration=reliability,
        )

    def _scored(self, z: Target, fit: CrossFit, notes: tuple[Diagnostic, ...]) -> Estimate:
        if z.codes is not None:
            right = (fit.scores.argmax(1) == z.codes).astype(np.float64)
            return self.mean(right, "accuracy", f"held-out {fit.kind} probe", (0.0, 1.0), notes)
        predicted = fit.scores if fit.log_proba is None else np.exp(fit.log_proba)
        error = ((z.z - predicted) ** 2).sum(1) / z.tr_cov
        return self.mean(1.0 - error, "R²", f"held-out {fit.kind} probe", (-np.inf, 1.0), notes)


class Layer:
    """One layer's states, and what is made of them: each at most once, when first asked for.

    Scores, functional redundancy with both neighbours and usable information rest on one rotation
    of the states; `ready` drops it once only the leading components are needed.
    """

    def __init__(self, job: Job, number: int, read: Callable[[], FloatArray]) -> None:
        self.job, self.number = job, number
        self._read = read
        self._error: BaseException | None = None
        self._x: FloatArray | None = None
        self._rotated: Principal | None = None
        self._narrow: Principal | None = None
        self._probes: LayerProbes | None = None
        self._losses: FloatArray | None = None

    @property
    def x(self) -> FloatArray:
        """States, one row per sample.

        Raises
        ------
        InputError
            If they cannot be read, or nothing varies.
        """
        if self._error is not None:
            raise self._error
        if self._x is None:
            try:
                x = self._read()
                if bool((x == x[0]).all()):
                    raise InputError(
                        f"layer {self.number} is constant, all {len(x):,} rows are the same; "
                        "check that these are activations of different inputs"
                    )
            except FAILURES as error:
                self._error = error
                raise
            self._x = x
        return self._x

    @property
    def rotated(self) -> Principal:
        """The states in principal coordinates."""
        if self._rotated is None:
            self._rotated = principal(self.x, self.job.fold_of, self.job.folds)
        return self._rotated

    @property
    def narrow(self) -> Principal:
        """The leading components that a probe of two layers sees."""
        if self._narrow is None:
            self._narrow = narrowed(self.rotated)
        return self._narrow

    @property
    def probes(self) -> LayerProbes:
        """Split probes, for functional redundancy."""
        if self._probes is None:
            job = self.job
            self._probes = probe_layer(
                self.x, job.target, job.fold_of, job.folds, rotated=self.rotated
            )
        return self._probes

    @property
    def losses(self) -> FloatArray:
        """Log loss of each row from the leading components."""
        if self._losses is None:
            self._losses = joint_losses([self.narrow], self.job.target)
        return self._losses

    def scores(self, kinds: Sequence[str]) -> dict[str, LayerScore]:
        """Score some kinds of probe; a failure is a score without value."""
        try:
            rotated = self.rotated if self.job.linear(kinds) else None
            return self.job.score(self.number, self.x, rotated, kinds)
        except FAILURES as error:
            return {kind: self.job.failed(self.number, kind, error) for kind in kinds}

    def ready(self) -> None:
        """Make what the pairs with both neighbours need, and drop the rest of the rotation.

        What fails here fails again, with its reason, where a pair asks for it.
        """
        with contextlib.suppress(*FAILURES):
            _ = self.probes
            if self.job.soft:
                _ = self.narrow, self.losses
            self._rotated = None

    def gain(self, upper: Layer) -> Estimate:
        """Usable information that a further layer adds to this one."""
        both = joint_losses([self.narrow, upper.narrow], self.job.target)
        seen = self.narrow.rank, upper.narrow.rank
        return self.job.mean(
            self.losses - both,
            "nats",
            "log loss of linear probes of the lower layer minus that of both, on "
            f"{seen[0]:,} and {seen[1]:,} leading components",
        )


def rearranged(target: Target, rows: IntArray) -> Target:
    """Return the target with its rows in another order."""
    return Target(
        kind=target.kind,
        z=target.z[rows],
        classes=target.classes,
        codes=None if target.codes is None else target.codes[rows],
    )


def one_line(error: BaseException) -> str:
    """Say what went wrong."""
    if isinstance(error, MemoryError):
        return "memory ran out; probe fewer layers or tokens at a time"
    if isinstance(error, np.linalg.LinAlgError):
        return f"a decomposition did not converge ({error}); check the states for huge values"
    return " ".join(str(error).split())
