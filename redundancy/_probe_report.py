"""What probing a store finds, as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from estimators import Diagnostic, Estimate, InputError
from estimators._arrays import FloatArray, IntArray
from redundancy.measures._spec import Reading
from redundancy.record import EstimateRecord, estimate_from_record, estimate_to_record

__all__ = ["Calibration", "LayerScore", "PairScore", "PlantedScore", "ProbeReport", "calibration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How often a probe is right where it says so: equal bins of confidence.

    Parameters
    ----------
    edges : tuple of float
        Ends of the bins.
    n : tuple of int
        Samples per bin.
    confidence, accuracy : tuple of float or None
        Means per bin; None where it is empty.
    error : float
        Expected calibration error: mean absolute difference of the two, weighted by n.
    """

    edges: tuple[float, ...]
    n: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerScore:
    """How well one kind of probe reads the target from one layer, on samples not fitted on.

    Parameters
    ----------
    layer : int
    kind : str
        As asked for.
    probe : str
        What that was: ``"ridge"``, ``"logistic"`` or ``"mlp"``.
    score : Estimate
        Accuracy for classes, share of variance explained for values.
    control : Estimate or None
        The same with targets shuffled over groups: what the probe gets from nothing.
    information : Estimate or None
        Usable information in nats, where the probe gives probabilities.
    penalties : tuple of float
        Chosen inside the training folds, one per fold (epochs of an MLP).
    confusion : tuple of tuple of int, or None
        Rows are true classes, columns predicted ones.
    calibration : Calibration or None
    """

    layer: int
    kind: str
    probe: str
    score: Estimate
    control: Estimate | None = None
    information: Estimate | None = None
    penalties: tuple[float, ...] = ()
    confusion: tuple[tuple[int, ...], ...] | None = None
    calibration: Calibration | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; `from_dict` reads it back."""
        out: dict[str, Any] = {
            name: getattr(self, name) for name in ("layer", "kind", "probe", "penalties")
        }
        for name in ("score", "control", "information"):
            value = getattr(self, name)
            out[name] = None if value is None else _record(value)
        out["confusion"] = self.confusion
        out["calibration"] = (
            None if self.calibration is None else msgspec.to_builtins(self.calibration)
        )
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LayerScore:
        """Read what `to_dict` wrote.

        Raises
        ------
        InputError
            If it is something else.
        """
        with _reading("layer"):
            confusion, reliability = data["confusion"], data["calibration"]
            rest = {
                name: None if data[name] is None else _estimate(data[name])
                for name in ("control", "information")
            }
            return cls(
                layer=int(data["layer"]),
                kind=str(data["kind"]),
                probe=str(data["probe"]),
                score=_estimate(data["score"]),
                penalties=tuple(float(p) for p in data["penalties"]),
                confusion=None
                if confusion is None
                else tuple(tuple(int(v) for v in row) for row in confusion),
                calibration=None
                if reliability is None
                else msgspec.convert(reliability, Calibration),
                **rest,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairScore:
    """What changes from one layer to the next.

    Parameters
    ----------
    lower, upper : int
    reading : Reading
        Functional redundancy.
    gain : Estimate or None
        Conditional usable information, in nats, of classes and distributions.
    """

    lower: int
    upper: int
    reading: Reading
    gain: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; `from_dict` reads it back."""
        return {
            "pair": [self.lower, self.upper],
            "estimate": _record(self.reading.estimate),
            "extras": {name: _record(e) for name, e in self.reading.extras.items()},
            "p_redundant": self.reading.p_redundant,
            "p_needed": self.reading.p_needed,
            "gain": None if self.gain is None else _record(self.gain),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PairScore:
        """Read what `to_dict` wrote.

        Raises
        ------
        InputError
            If it is something else.
        """
        with _reading("pair"):
            lower, upper = (int(layer) for layer in data["pair"])
            reading = Reading(
                estimate=_estimate(data["estimate"]),
                extras={str(name): _estimate(e) for name, e in data["extras"].items()},
                p_redundant=data["p_redundant"],
                p_needed=data["p_needed"],
            )
            gain = None if data["gain"] is None else _estimate(data["gain"])
            return cls(lower=lower, upper=upper, reading=reading, gain=gain)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedScore:
    """The positive control: scores of a layer into which the target was written, by kind."""

    layer: int
    scores: Mapping[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; `from_dict` reads it back."""
        return {
            "planted_in": self.layer,
            "scores": {kind: _record(e) for kind, e in self.scores.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PlantedScore:
        """Read what `to_dict` wrote.

        Raises
        ------
        InputError
            If it is something else.
        """
        with _reading("control"):
            scores = {str(kind): _estimate(e) for kind, e in data["scores"].items()}
            return cls(layer=int(data["planted_in"]), scores=scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """Everything `redundancy.probing.probe_store` found.

    Parameters
    ----------
    target : str
        What was predicted.
    target_kind : {"classes", "values"}
    classes : tuple of str
        In the order of the confusion's rows; empty for values.
    baseline : float
        What is scored without any state: share of the most frequent class, or 0.
    modality, state : str
        Whose states, and whether they were pooled.
    layers : tuple of int
    kinds : tuple of str
    scores : tuple of LayerScore
        By layer, then kind.
    pairs : tuple of PairScore
    planted : mapping of str to Estimate
        Positive control by kind: the score where the target was written into the states.
    n, n_groups : int
    settings : mapping
        Folds, seed, level and the like: what is needed to repeat it.
    diagnostics : tuple of Diagnostic
    """

    target: str
    target_kind: str
    classes: tuple[str, ...]
    baseline: float
    modality: str
    state: str
    layers: tuple[int, ...]
    kinds: tuple[str, ...]
    scores: tuple[LayerScore, ...]
    pairs: tuple[PairScore, ...]
    planted: Mapping[str, Estimate]
    n: int
    n_groups: int | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()

    def of(self, layer: int, kind: str) -> LayerScore:
        """The score of one layer.

        Raises
        ------
        InputError
            If it was not probed.
        """
        for score in self.scores:
            if (score.layer, score.kind) == (layer, kind):
                return score
        raise InputError(f"layer {layer} was not probed by {kind!r} probes")

    def best(self, kind: str | None = None) -> LayerScore | None:
        """The layer with the highest score, of one kind or of all; None if none has a score.

        Chosen on the data it is scored on, so its score is a little too high.
        """
        known = [s for s in self.scores if s.score.value is not None and kind in (None, s.kind)]
        return max(known, key=lambda s: float(s.score), default=None)

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        best = self.best()
        return {
            **{
                name: getattr(self, name)
                for name in (
                    "target",
                    "target_kind",
                    "classes",
                    "baseline",
                    "modality",
                    "state",
                    "layers",
                    "kinds",
                    "n",
                    "n_groups",
                )
            },
            "settings": dict(self.settings),
            "scores": [s.to_dict() for s in self.scores],
            "pairs": [p.to_dict() for p in self.pairs],
            "planted": {kind: _record(e) for kind, e in self.planted.items()},
            "best": None if best is None else {"layer": best.layer, "kind": best.kind},
            "diagnostics": [
                {"code": d.code, "severity": d.severity, "message": d.message}
                for d in self.diagnostics
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProbeReport:
        """Read what `to_dict` wrote; further keys are passed over.

        Raises
        ------
        InputError
            If it is something else.
        """
        with _reading("probe report or"):
            plain = {
                name: data[name]
                for name in ("target", "target_kind", "baseline", "modality", "state", "n")
            }
            return cls(
                **plain,
                classes=tuple(data["classes"]),
                layers=tuple(data["layers"]),
                kinds=tuple(data["kinds"]),
                n_groups=data["n_groups"],
                settings=dict(data["settings"]),
                scores=tuple(LayerScore.from_dict(s) for s in data["scores"]),
                pairs=tuple(PairScore.from_dict(p) for p in data["pairs"]),
                planted={kind: _estimate(e) for kind, e in data["planted"].items()},
                diagnostics=tuple(Diagnostic(**d) for d in data["diagnostics"]),
            )


def _record(estimate: Estimate) -> dict[str, Any]:
    out: dict[str, Any] = msgspec.to_builtins(estimate_to_record(estimate))
    return out


def _estimate(data: Any) -> Estimate:
    return estimate_from_record(msgspec.convert(data, EstimateRecord))


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, msgspec.ValidationError) as error:
        raise InputError(
            f"this is no {what} score as written before ({error}); probe again"
        ) from error


def calibration(log_proba: FloatArray, codes: IntArray, *, bins: int = 10) -> Calibration:
    """Calibration of the most probable class.

    Parameters
    ----------
    log_proba : ndarray, shape (n, k)
    codes : ndarray of int, shape (n,)
        True classes.
    bins : int

    Examples
    --------
    >>> p = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]]))
    >>> round(calibration(p, np.array([0, 0, 1, 0]), bins=2).error, 3)
    0.05
    """
    sure = np.exp(log_proba.max(1))
    right = log_proba.argmax(1) == codes
    edges = np.linspace(0.0, 1.0, bins + 1)
    where = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    n = np.bincount(where, minlength=bins)
    said = np.bincount(where, weights=sure, minlength=bins)
    hit = np.bincount(where, weights=right.astype(float), minlength=bins)
    return Calibration(
        edges=tuple(float(e) for e in edges),
        n=tuple(int(v) for v in n),
        confidence=tuple(float(s / c) if c else None for s, c in zip(said, n, strict=True)),
        accuracy=tuple(float(h / c) if c else None for h, c in zip(hit, n, strict=True)),
        error=float(np.abs(said - hit).sum() / len(codes)),
    )
