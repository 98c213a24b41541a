"""Sweeps on record: nats of right answers, and differences from the full model paired by sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from estimators import InputError
from estimators.intervals import cluster_mean
from redundancy.evaluation import paired_change, sweep_record, to_record
from vlm.evaluate import Evaluation
from vlm.plan import SkipPlan

N = 60


@pytest.fixture
def full():
    rng = np.random.default_rng(0)
    return Evaluation(
        plan=SkipPlan(4),
        ids=tuple(map(str, range(N))),
        groups=tuple(f"image {i // 2}" for i in range(N)),
        predictions=("a",) * N,
        correct=(rng.random(N) < 0.8).astype(float),
        agrees=None,
        nll=rng.exponential(size=N),
        n_text=np.full(N, 10),
        n_vision=np.full(N, 36),
        prefill_seconds=np.full(N, 0.1),
        decode_seconds=np.zeros(N),
        decode_steps=np.zeros(N, dtype=np.int64),
        prefill_flops=np.full(N, 1e6),
        kv_bytes=np.full(N, 100),
    )


@pytest.fixture
def skipped(full):
    rng = np.random.default_rng(1)
    lost = rng.random(N) < 0.1
    return replace(
        full,
        plan=SkipPlan(4, vision_exit=2),
        correct=np.where(lost, 0.0, full.correct),
        nll=full.nll + 0.1 + 0.01 * rng.normal(size=N),
        agrees=1.0 - lost,
    )


def test_a_paired_difference_is_the_cluster_mean_of_differences(full, skipped):
    found = paired_change(skipped.nll, full.nll, full.groups, unit="nats")
    expected = cluster_mean(skipped.nll - full.nll, groups=np.asarray(full.groups), level=0.95)
    assert found.value == pytest.approx(expected.value)
    assert (found.ci.low, found.ci.high) == pytest.approx(
        (expected.interval.low, expected.interval.high)
    )
    assert found.n_groups == N // 2


def test_pairing_takes_out_what_samples_have_in_common(full, skipped):
    (point,) = sweep_record("exit", [2], [skipped], baseline=full).points
    record = point.evaluation
    width = record.nll_change.ci.high - record.nll_change.ci.low
    alone = record.nll.ci.high - record.nll.ci.low
    assert width < alone / 10
    assert record.nll_change.ci.low > 0  # seen only by pairing
    assert record.nll_change.value == pytest.approx(0.1, abs=0.01)
    change = float((skipped.correct - full.correct).mean())
    assert record.accuracy_change.value == pytest.approx(change)
    assert -1.0 <= record.accuracy_change.ci.low <= change <= record.accuracy_change.ci.high


def test_without_a_baseline_or_answers_nothing_is_made_up(full):
    record = to_record(full, "full model")
    assert record.accuracy_change is None
    assert record.nll_change is None
    assert record.nll.unit == "nats"
    silent = replace(full, correct=np.full(N, np.nan), nll=np.full(N, np.nan))
    empty = to_record(silent, "x", baseline=silent)
    assert empty.nll is None
    assert empty.accuracy_change is None


def test_a_baseline_of_other_samples_is_refused(full, skipped):
    other = replace(full, ids=tuple(f"other {i}" for i in range(N)))
    with pytest.raises(InputError, match="compare runs on the same data"):
        to_record(skipped, "x", baseline=other)
