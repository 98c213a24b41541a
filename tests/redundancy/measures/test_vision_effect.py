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
