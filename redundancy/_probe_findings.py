"""What the controls of a probe run say of its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from estimators import Diagnostic, Estimate
from estimators._arrays import IntArray
from probes._target import Target
from redundancy._probe_report import LayerScore

__all__ = ["findings", "rare_classes"]


def rare_classes(target: Target, fold_of: IntArray, folds: int) -> tuple[Diagnostic, ...]:
    """Say which classes are absent from a fold: some probes have not seen them."""
    if target.codes is None or target.classes is None:
        return ()
    rare = [
        str(name)
        for code, name in enumerate(target.classes)
        if len(np.unique(fold_of[target.codes == code])) < folds
    ]
    if not rare:
        return ()
    shown = ", ".join(rare[:5]) + (f" and {len(rare) - 5} more" if len(rare) > 5 else "")
    return (
        Diagnostic(
            code="rare-class",
            severity="warning",
            message=f"class {shown} does not occur in every fold, so some probes have not seen it "
            "or are not tested on it; merge or leave out rare classes",
        ),
    )


def findings(
    scores: Sequence[LayerScore], planted: Mapping[str, Estimate], target: Target
) -> tuple[Diagnostic, ...]:
    """Return what a reader must know before believing the scores."""
    found = []
    least = 0.8 if target.kind == "classes" else 0.5
    weak = [kind for kind, e in planted.items() if e.value is not None and e.value < least]
    if weak:
        found.append(
            Diagnostic(
                code="weak-probe",
                severity="warning",
                message=f"{' and '.join(weak)} probes do not find a target that was written into "
                "the states, so low scores say little: save more samples",
            )
        )
    share = float(target.z.mean(0).max()) if target.kind == "classes" else 0.0
    leaky = [
        s
        for s in scores
        if s.control is not None and s.control.ci is not None and s.control.ci.low > share + 0.02
    ]
    if leaky:
        found.append(
            Diagnostic(
                code="control",
                severity="error",
                message=f"probes score above chance on shuffled targets (layer {leaky[0].layer}): "
                "either samples of one image are in several groups, and the scores are not about "
                "the target, or every image has the same pattern of targets, which a shuffle of "
                "whole images keeps; read scores against the shuffled ones, not against chance",
            )
        )
    read = [s for s in scores if s.information is not None and s.information.ci is not None]
    for kind in dict.fromkeys(s.kind for s in read):
        of_kind = [s for s in read if s.kind == kind]
        first, last = of_kind[0], max(of_kind, key=lambda s: float(s.information or 0.0))
        if (
            first.information is not None
            and last.information is not None
            and first.information.ci is not None
            and last.information.ci is not None
            and last.information.ci.low > first.information.ci.high
        ):
            found.append(
                Diagnostic(
                    code="information-grows",
                    severity="info",
                    message=f"{kind} probes use more of layer {last.layer} than of layer "
                    f"{first.layer}: usable information may grow, where mutual information of "
                    "whole-sequence states never does",
                )
            )
    return tuple(found)
