"""What the measures said of the layers that a plan skips, beside what skipping them did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redundancy.record import EstimateRecord, SweepRecord
from redundancy.results import Results

__all__ = ["Drop", "drops"]

# A plan is as doubtful as the most doubtful layer it skips.
_WORST_FIRST = ("needed", "no estimate", "undecided", "redundant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """One plan of a sweep, judged and run.

    Parameters
    ----------
    kind : {"late", "exit", "drop", "single"}
    layer : int
    skipped : tuple of int
        Layers that the plan takes the image from, or drops.
    verdicts : mapping of (measure, modality) to verdict
        The worst verdict of each row among the skipped layers.
    accuracy : EstimateRecord or None
    change : EstimateRecord or None
        Accuracy with the plan less that without, paired by sample.
    agreement : EstimateRecord
        Share of the answers that stay as they were.
    """

    kind: str
    layer: int
    skipped: tuple[int, ...]
    verdicts: dict[tuple[str, str], str]
    accuracy: EstimateRecord | None
    change: EstimateRecord | None
    agreement: EstimateRecord

    @property
    def changed(self) -> float:
        """Share of the answers that changed."""
        return 1.0 - float(self.agreement.value or 0.0)

    @property
    def lost(self) -> float | None:
        """Accuracy lost, where right answers are known."""
        return None if self.change is None or self.change.value is None else -self.change.value


def drops(results: Results, sweeps: Sequence[SweepRecord]) -> list[Drop]:
    """Return every plan of the sweeps that skips something and was compared with the full model.

    Layer l lies between states l and l + 1, so the verdict that concerns it is that of this pair.
    Only adjacent pairs are used.
    """
    rows: dict[tuple[str, str], dict[int, str]] = {}
    for r in results:
        if r.verdict and r.pair[1] == r.pair[0] + 1:
            rows.setdefault((r.measure, r.modality), {})[r.pair[0]] = str(r.verdict)
    found = []
    for sweep in sweeps:
        n_layers = max((p.layer for p in sweep.points), default=0)
        for point in sorted(sweep.points, key=lambda p: p.layer):
            skipped = _skipped(sweep.kind, point.layer, n_layers)
            agreement = point.evaluation.agreement
            if not skipped or agreement is None or agreement.value is None:
                continue
            found.append(
                Drop(
                    kind=sweep.kind,
                    layer=point.layer,
                    skipped=skipped,
                    verdicts={
                        key: _worst([by_layer[layer] for layer in skipped])
                        for key, by_layer in rows.items()
                        # A plan for the image is judged by what was said of vision tokens.
                        if (sweep.kind == "drop" or key[1] == "vision")
                        and all(layer in by_layer for layer in skipped)
                    },
                    accuracy=point.evaluation.accuracy,
                    change=point.evaluation.accuracy_change,
                    agreement=agreement,
                )
            )
    return found


def _skipped(kind: str, layer: int, n_layers: int) -> tuple[int, ...]:
    """Return the layers a plan skips; sweeps of late entry and early exit end at n_layers."""
    if kind == "late":
        return tuple(range(layer))
    if kind == "exit":
        return tuple(range(layer, n_layers))
    return (layer,)


def _worst(verdicts: Sequence[str]) -> str:
    return min(verdicts, key=_WORST_FIRST.index)
