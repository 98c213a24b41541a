"""The whole path on the bundled model: capture, estimate, plan, certify, skip, report.

Three sets of scenes, drawn from digits the model never saw in training, take turns: one is measured
and orders the plans, one certifies them, and the figures that are shown come from the last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from redundancy import choosing
from redundancy.demo import model as bundled
from redundancy.demo import scenes
from redundancy.evaluation import interleaved_prefill, sweep_record, to_record
from redundancy.extraction import extract
from redundancy.layer_matrices import layer_matrices
from redundancy.record import RunRecord, plain
from redundancy.results import Results
from redundancy.run import estimate

if TYPE_CHECKING:
    from redundancy.run_folder import RunFolder
    from vlm.evaluate import Evaluation
    from vlm.plan import SkipPlan

__all__ = ["ALPHA", "DELTA", "MEASURES", "Sizes", "run"]

ALPHA, DELTA = 0.05, 0.1
MEASURES = ("geometric", "proximal", "informational", "cka", "var", "vision_effect")
_BATCH = 50

Progress = Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Scenes per purpose: five questions each to measure and to test, one each to certify.

    One question an image gives the exact binomial test, which with 400 images passes a plan that
    changes 2.5% of the answers at alpha 0.05 and a quarter of delta 0.1.
    """

    measure: int = 160
    certify: int = 400
    test: int = 160


def run(
    folder: RunFolder,
    record: RunRecord,
    *,
    progress: Progress,
    sizes: Sizes | None = None,
    seed: int = 0,
    resume: bool = False,
) -> tuple[RunRecord, Results]:
    """Run the demo into a folder and return its record and results.

    Parameters
    ----------
    folder : RunFolder
    record : RunRecord
        As begun; it is returned filled.
    progress : callable
        ``progress(title)`` is a context manager that yields ``update(done, total)``.
    sizes : Sizes, optional
    seed : int
        Of the scenes and of everything random.
    resume : bool
        Take up the extraction that stands in the folder.
    """
    sizes = sizes or Sizes()
    started = time.perf_counter()
    model, processor = bundled.load()
    measured, asked, tested = (
        list(scenes.rows("held_out", n, seed=3 * seed + i))
        for i, n in enumerate((sizes.measure, sizes.certify, sizes.test))
    )
    # One question about each image, of every task in turn.
    certifying = [row for i, row in enumerate(asked) if i % 5 == i // 5 % 5]
    with progress("capturing") as update:
        store = extract(
            model,
            processor,
            measured,
            out=folder.path / "acts",
            tokens=8,
            batch_size=_BATCH,
            seed=seed,
            vision_effect=True,
            resume=resume,
            progress=update,
            model_id="redundancy/demo (bundled)",
            dataset={"name": "coloured digits, held out", "seed": seed, "scenes": sizes.measure},
        )
    with progress("estimating") as update:
        results = estimate(
            store,
            MEASURES,
            seed=seed,
            on_result=lambda _, done, total: update(done, total),
        )
    plans = choosing.candidates(
        choosing.readings(store, seed=seed), store.n_layers, model_type="llava"
    )
    with progress("certifying") as update:
        choice = choosing.certify(
            model,
            processor,
            certifying,
            plans,
            alpha=ALPHA,
            delta=DELTA,
            used_groups={str(row["group"]) for row in measured},
            batch_size=_BATCH,
            progress=update,
        )
    choice.plan.save(folder.path / "plan.json")
    chance = scenes.chance_levels([q for s in _scenes(tested) for q in s])["all"]
    with progress("sweeping") as update:
        evaluations, sweeps = _try(model, processor, tested, choice.plan, chance, update)
    record = msgspec.structs.replace(
        record,
        status="complete",
        run=msgspec.structs.replace(record.run, duration_s=round(time.perf_counter() - started, 3)),
        provenance={**record.provenance, "store": plain(store.info)},
        results=[r.to_record() for r in results],
        warnings=results.warnings,
        evaluations=evaluations,
        sweeps=sweeps,
        **layer_matrices(store, MEASURES, seed=seed),
        plan={
            **plain(choice.plan.to_json()),
            "description": choice.sentence,
        },
    )
    return record, results


def _scenes(rows: list[dict[str, Any]]) -> Iterator[list[scenes.Question]]:
    for row in rows:
        yield [
            scenes.Question(
                row["group"], row["task"], row["question"], row["answer"], tuple(row["choices"])
            )
        ]


def _try(
    model: Any,
    processor: Any,
    rows: list[dict[str, Any]],
    plan: SkipPlan,
    chance: float,
    update: Callable[[int, int | None], None],
) -> tuple[list[Any], list[Any]]:
    """Evaluate the plan and the two sweeps of the paper's case study on the same rows."""
    from vlm.evaluate import evaluate, sweep

    tasks = [row["task"] for row in rows]
    ask: Callable[..., Evaluation] = partial(
        evaluate, model, processor, rows, batch_size=_BATCH, nll=False
    )
    full = ask()
    changed = ask(plan, baseline=full)
    few: Callable[[Any], Evaluation] = partial(
        evaluate, model, processor, rows[: 4 * _BATCH], batch_size=_BATCH, nll=False
    )
    seconds = interleaved_prefill(lambda p: few(p), {"full": None, "plan": plan})
    evaluations = [
        to_record(full, "full model", tasks=tasks, prefill_s=seconds["full"]),
        to_record(changed, "with the plan", tasks=tasks, prefill_s=seconds["plan"]),
    ]
    sweeps = []
    n_layers = plan.n_layers
    chosen = {"late": plan.vision_entry or None, "exit": plan.vision_exit}
    for number, kind in enumerate(("late", "exit")):
        curve = sweep(
            model,
            processor,
            rows,
            kind,  # type: ignore[arg-type]  # both are kinds
            baseline=full,
            batch_size=_BATCH,
            nll=False,
            progress=lambda done, total, n=number: update(  # type: ignore[misc]
                done + n * (total or 0), None if total is None else 2 * total
            ),
        )
        sweeps.append(
            sweep_record(
                kind,  # type: ignore[arg-type]
                range(n_layers + 1),
                curve,
                chosen=chosen[kind],
                chance=chance,
            )
        )
    return evaluations, sweeps
