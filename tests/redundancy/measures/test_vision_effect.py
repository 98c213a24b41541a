"""The effect of hiding vision from a block, relative to what the block says."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import InputError
from redundancy.measures.vision_effect import measure


def test_relative_to_the_output_and_by_tokens(summed):
    rng = np.random.default_rng(0)
    effect, norm = rng.uniform(1, 2, (40, 2)), rng.uniform(10, 20, (40, 2))
    reading = measure(summed(vision_effect=effect, text_norm=norm), threshold=0.5)
    ratio = effect / norm
    assert reading.estimate.value == pytest.approx(ratio[:, 1].mean())
    assert reading.extras["text"].value == pytest.approx(ratio[:, 0].mean())
    assert reading.extras["absolute"].value == pytest.approx(effect[:, 1].mean())
    assert reading.p_redundant < 1e-6
    by_text = measure(summed(vision_effect=effect, text_norm=norm), tokens="text")
    assert by_text.estimate.value == pytest.approx(ratio[:, 0].mean())
    assert by_text.extras["answer"].value == pytest.approx(ratio[:, 1].mean())


def test_samples_without_an_image_do_not_dilute(summed):
    effect = np.full((40, 2), 0.2)
    effect[:10] = 0.0
    share = np.full(40, 0.3)
    share[:10] = 0.0
    pair = summed(vision_effect=effect, text_norm=np.ones((40, 2)), vision_share=share)
    reading = measure(pair)
    assert reading.estimate.value == pytest.approx(0.2)
    assert reading.estimate.n == 30


def test_equal_values_give_no_verdict_because_nothing_bounds_them(summed):
    pair = summed(vision_effect=np.full((40, 2), 0.1), text_norm=np.ones((40, 2)))
    reading = measure(pair, threshold=0.5)
    assert reading.p_redundant == reading.p_needed == 1.0


def test_nothing_captured(summed):
    with pytest.raises(InputError, match="vision_effect=True"):
        measure(summed())
    nothing = measure(summed(vision_effect=np.full((40, 2), np.nan), text_norm=np.ones((40, 2))))
    assert nothing.estimate.value is None
    with pytest.raises(InputError, match="above 0"):
        measure(summed(vision_effect=np.ones((40, 2)), text_norm=np.ones((40, 2))), threshold=0.0)
    with pytest.raises(InputError, match="'answer' or 'text'"):
        measure(summed(vision_effect=np.ones((40, 2)), text_norm=np.ones((40, 2))), tokens="image")


def test_it_comes_back_from_a_store(tmp_path):
    from redundancy.store import ActivationStore
    from vlm.sample import CapturedSample, TokenStatistics

    blocks, rng = 3, np.random.default_rng(0)
    effect = rng.uniform(0.1, 1.0, size=(6, blocks, 2)).astype(np.float32)
    size = (blocks + 1, blocks + 1)
    sums = TokenStatistics(
        n_tokens=2,
        n_defined=np.full(size, 2, dtype=np.int32),
        rho_sum=np.zeros(size),
        thresholds=np.array([0.05]),
        below_adjacent=np.zeros((1, blocks), dtype=np.int32),
        below_first=np.zeros((1, blocks), dtype=np.int32),
        sq_dist_adjacent=np.zeros(blocks),
        sq_dist_first=np.zeros(blocks),
        sq_norm=np.ones(blocks + 1),
    )
    store = ActivationStore.create(tmp_path / "acts", n_layers=blocks, thresholds=(0.05,))
    with store.writer() as writer:
        for number, one in enumerate(effect):
            # The last sample was captured without the effect.
            kept = {} if number == 5 else {"vision_effect": one, "text_norm": 2 * np.ones_like(one)}
            writer.add(
                CapturedSample(
                    id=f"q{number}",
                    group=f"i{number}",
                    statistics={"vision": sums, "text": sums},
                    n_vision=2,
                    n_keys=4,
                    **kept,
                )
            )
    pair = ActivationStore.open(tmp_path / "acts").pair(1, 2, "vision", states=False)
    reading = measure(pair)
    assert reading.estimate.value == pytest.approx(effect[:5, 1, 1].mean() / 2, rel=1e-6)
    assert reading.estimate.n == 5
    assert {d.code for d in reading.estimate.diagnostics} == {"few-groups", "not-captured"}
