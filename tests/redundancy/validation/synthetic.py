"""Studies with known answers: losses by design, readings that follow them or do not."""

from __future__ import annotations

import numpy as np

from redundancy.validation.records import (
    KINDS,
    SCHEMA_VERSION,
    TARGETS,
    OrderingRecord,
    ReadingCurve,
    StudyRecord,
)


def curve(values, *, harm_when="high", se=0.0, verdicts=()):
    return ReadingCurve(
        title="a reading",
        unit="u",
        harm_when=harm_when,
        values=[None if v is None else float(v) for v in values],
        se=[se] * len(values),
        verdicts=list(verdicts),
    )


def make_study(seed, *, n_layers=8, n_images=200, name=None, readings=None):
    """A model whose layer l changes an answer with a probability of its own."""
    rng = np.random.default_rng(seed)
    risk = rng.permutation(np.linspace(0.0, 0.4, n_layers))
    table = (rng.random((n_images, n_layers)) < risk).astype(float)
    good = curve(risk, verdicts=["needed" if r > 0.05 else "redundant" for r in risk])
    own = {
        "good": good,
        "inverse": curve(1 - risk, harm_when="low"),
        "wrong": curve(1 - risk),
        "noise": curve(rng.permutation(n_layers)),
        "silent": curve([None] * n_layers),
        "flat": curve([1.0] * n_layers),
        "depth": curve(range(n_layers), harm_when="low"),
    }
    plans = [f"plan {k}" for k in range(n_layers - 1)]
    worst = np.maximum.accumulate(table[:, np.argsort(risk)], axis=1)[:, :-1]
    return StudyRecord(
        schema_version=SCHEMA_VERSION,
        name=name or f"model {seed}",
        created="2026-11-21T00:00:00+00:00",
        seed=0,
        n_layers=n_layers,
        model={"cluster": f"seed {seed}"},
        settings={},
        measured={"n": 10, "images": 10},
        tested={"n": n_images, "images": n_images},
        accuracy=None,
        readings=own if readings is None else readings,
        images=[f"image {i}" for i in range(n_images)],
        losses={target: {kind: table.tolist() for kind in KINDS} for target in TARGETS},
        plans=plans,
        saved=[(k + 1) / n_layers for k in range(n_layers - 1)],
        changed=worst.T.tolist(),
        orderings={
            "readings": OrderingRecord(title="safest first", sequences=[list(range(len(plans)))]),
            "depth_exit": OrderingRecord(
                title="worst first", sequences=[list(range(len(plans)))[::-1]]
            ),
        },
    )
