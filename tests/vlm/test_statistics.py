"""Running sums against a slow reference in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlm._errors import VLMError
from vlm.sample import DEFAULT_THRESHOLDS, TokenStatistics, merged
from vlm.statistics import check_thresholds, token_statistics


def reference(states, mask, thresholds=DEFAULT_THRESHOLDS):
    """The definition, token by token and pair by pair, in extended precision where it has it."""
    x = np.stack([s[mask].double().numpy() for s in states]).astype(np.longdouble)
    n_states, n = x.shape[:2]
    norm = np.sqrt((x**2).sum(-1))
    rho = np.full((n_states, n_states, n), np.nan)
    for i in range(n_states):
        for j in range(n_states):
            for k in range(n):
                if norm[i, k] > 0 and norm[j, k] > 0:
                    gap = x[i, k] / norm[i, k] - x[j, k] / norm[j, k]
                    rho[i, j, k] = (gap**2).sum() / 2
    adjacent = np.stack([rho[i, i + 1] for i in range(n_states - 1)])
    first = rho[0, 1:]
    levels = np.asarray(thresholds)[:, None, None]
    return {
        "n_tokens": n,
        "n_defined": np.isfinite(rho).sum(-1),
        "rho_sum": np.nansum(rho, axis=-1),
        "below_adjacent": (adjacent < levels).sum(-1),
        "below_first": (first < levels).sum(-1),
        "sq_dist_adjacent": ((x[1:] - x[:-1]) ** 2).sum((-1, -2)).astype(float),
        "sq_dist_first": ((x[1:] - x[:1]) ** 2).sum((-1, -2)).astype(float),
        "sq_norm": (norm**2).sum(-1).astype(float),
    }


def assert_matches(found: TokenStatistics, expected, rtol=2e-5, atol=0.0):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=rtol, atol=atol, err_msg=name)


def walk(n_states, batch, tokens, width, step=0.5, seed=0):
    """Residual streams: each layer adds something to what there was, and lengths vary widely."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, tokens, width, generator=generator)
    out = [x * 10 ** torch.linspace(-2, 2, tokens)[None, :, None]]
    for _ in range(n_states - 1):
        size = out[-1].norm(dim=-1, keepdim=True) / width**0.5
        out.append(out[-1] + step * size * torch.randn(batch, tokens, width, generator=generator))
    return out


def some_masks(batch, tokens):
    place = torch.arange(tokens).expand(batch, -1)
    start = torch.arange(batch)[:, None]
    vision = (place >= start + 1) & (place < tokens // 2)
    return {"vision": vision, "text": (place >= start) & ~vision}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_equals_the_definition(dtype):
    states = [s.to(dtype) for s in walk(6, 3, 14, 24)]
    masks = some_masks(3, 14)
    found = token_statistics(states, masks)
    for row in range(3):
        for name, mask in masks.items():
            expected = reference([s[row] for s in states], mask[row])
            assert_matches(found[row][name], expected)


@pytest.mark.parametrize("step", [1e-1, 1e-2, 1e-3, 4e-5])
def test_near_copies_keep_their_digits(step):
    states = walk(5, 1, 40, 64, step=step)
    [found] = token_statistics(states, {"all": torch.ones(1, 40, dtype=torch.bool)})
    expected = reference([s[0] for s in states], torch.ones(40, dtype=torch.bool))
    # rho is of the order of step^2 / 2: 1e-9 for the last.
    assert expected["rho_sum"][0, 1] / 40 == pytest.approx(step**2 / 2, rel=0.3)
    # Half an ulp of float32 in the states' own unit vectors is 6e-8 / step of the increment.
    np.testing.assert_allclose(found["all"].rho_sum, expected["rho_sum"], rtol=1e-5 + 5e-8 / step)


def test_plain_cosine_would_fail_where_this_does_not():
    states = walk(2, 1, 40, 64, step=4e-5)
    expected = reference([s[0] for s in states], torch.ones(40, dtype=torch.bool))["rho_sum"][0, 1]
    naive = float((1 - torch.cosine_similarity(states[0], states[1], dim=-1)).sum())
    assert abs(naive / expected - 1) > 0.1


def test_identical_states_have_distance_zero():
    x = walk(1, 2, 9, 16)[0]
    found = token_statistics([x, x.clone(), x], {"all": torch.ones(2, 9, dtype=torch.bool)})
    for row in found:
        assert (row["all"].rho_sum == 0).all()
        assert (row["all"].below_adjacent == 9).all()
        assert (row["all"].sq_dist_first == 0).all()


def test_a_path_that_returns_keeps_its_digits():
    there = torch.zeros(1, 3, 4)
    there[..., 0] = 1.0
    away = torch.zeros(1, 3, 4)
    away[..., 1] = 2.0
    back = there.clone()
    back[..., 2] = torch.tensor([1e-4, 1e-3, 0.0])
    states = [there, away, back, -there]
    [found] = token_statistics(states, {"all": torch.ones(1, 3, dtype=torch.bool)})
    expected = reference([s[0] for s in states], torch.ones(3, dtype=torch.bool))
    assert_matches(found["all"], expected, rtol=1e-5)
    assert found["all"].rho_sum[0, 3] == pytest.approx(6.0)


def test_thresholds_are_strict():
    a = torch.tensor([[[1.0, 0.0]]])
    b = torch.tensor([[[0.0, 1.0]]])
    mask = {"all": torch.ones(1, 1, dtype=torch.bool)}
    [found] = token_statistics([a, b, -b], mask, thresholds=(1.0, 1.0001, 2.0))
    assert found["all"].below_adjacent.tolist() == [[0, 0], [1, 0], [1, 0]]
    assert found["all"].below_first.tolist() == [[0, 0], [1, 1], [1, 1]]


def test_zero_vectors_are_counted_not_averaged_in():
    states = walk(4, 2, 7, 8)
    states[2][0, 3] = 0.0
    states[0][1, :] = 0.0
    mask = torch.ones(2, 7, dtype=torch.bool)
    found = token_statistics(states, {"all": mask})
    for row in range(2):
        assert_matches(found[row]["all"], reference([s[row] for s in states], mask[row]))
    assert np.diag(found[0]["all"].n_defined).tolist() == [7, 7, 6, 7]
    assert np.diag(found[1]["all"].n_defined).tolist() == [0, 7, 7, 7]
    assert found[1]["all"].below_first.sum() == 0


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18, 1e30])
def test_scale_leaves_the_range_of_float32_squares(scale):
    states = [s[:, :, :] / s.norm(dim=-1, keepdim=True) * scale for s in walk(4, 1, 6, 8)]
    [found] = token_statistics(states, {"all": torch.ones(1, 6, dtype=torch.bool)})
    expected = reference([s[0] for s in states], torch.ones(6, dtype=torch.bool))
    np.testing.assert_allclose(found["all"].rho_sum, expected["rho_sum"], rtol=1e-5)
    for name in ("sq_norm", "sq_dist_adjacent", "sq_dist_first"):
        np.testing.assert_allclose(getattr(found["all"], name), expected[name], rtol=1e-5)


@pytest.mark.parametrize(("value", "count"), [(float("nan"), 2), (float("inf"), 1)])
def test_not_finite_says_where_and_how_many(value, count):
    states = walk(4, 2, 7, 8)
    states[2][1, 5, :count] = value
    states[2][1, 0, :] = value  # a token of no modality does not count
    masks = {"vision": torch.zeros(2, 7, dtype=torch.bool), "text": torch.zeros(2, 7).bool()}
    masks["text"][:, 3:] = True
    with pytest.raises(VLMError, match=f"^{count} NaN or infinite .* first in layer 2.*'q2'"):
        token_statistics(states, masks, names=["q1", "q2"])


def test_blocks_and_batches_do_not_matter():
    states, masks = walk(6, 3, 14, 24), some_masks(3, 14)
    whole = token_statistics(states, masks)
    blocked = token_statistics(states, masks, block_tokens=4)
    for row in range(3):
        alone = token_statistics(
            [s[row : row + 1] for s in states], {k: m[row : row + 1] for k, m in masks.items()}
        )
        for name in masks:
            for other in (blocked[row], alone[0]):
                np.testing.assert_allclose(other[name].rho_sum, whole[row][name].rho_sum, rtol=1e-6)
                np.testing.assert_array_equal(other[name].below_first, whole[row][name].below_first)


def test_masks_may_overlap_and_may_leave_nothing_out():
    states = walk(4, 2, 9, 16)
    every = torch.ones(2, 9, dtype=torch.bool)
    some = some_masks(2, 9)["text"]
    found = token_statistics(states, {"all": every, "some": some})
    for row in range(2):
        for name, mask in (("all", every), ("some", some)):
            expected = reference([s[row] for s in states], mask[row])
            assert_matches(found[row][name], expected)


def test_states_of_a_model_in_training_are_read():
    states = [s.requires_grad_() for s in walk(3, 1, 5, 8)]
    mask = torch.ones(1, 5, dtype=torch.bool)
    [found] = token_statistics(states, {"text": mask})
    assert_matches(found["text"], reference([s[0].detach() for s in states], mask[0]))


def test_a_modality_without_tokens_counts_zero():
    states = walk(3, 1, 5, 8)
    [found] = token_statistics(states, {"vision": torch.zeros(1, 5, dtype=torch.bool)})
    assert found["vision"].n_tokens == 0
    assert found["vision"].rho_sum.sum() == found["vision"].n_defined.sum() == 0


def test_lower_precision_of_the_caller_does_not_reach_the_sums():
    states, masks = walk(6, 3, 14, 24), some_masks(3, 14)
    expected = token_statistics(states, masks)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = token_statistics(states, masks)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one["text"].rho_sum, other["text"].rho_sum)


@given(scale=st.lists(st.floats(0.1, 1e3), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_distances_ignore_length_and_are_symmetric(scale, seed):
    states = walk(3, 1, 4, 6, seed=seed)
    mask = {"all": torch.ones(1, 4, dtype=torch.bool)}
    [one] = token_statistics(states, mask)
    [other] = token_statistics([s * c for s, c in zip(states, scale, strict=True)], mask)
    np.testing.assert_allclose(one["all"].rho_sum, other["all"].rho_sum, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(one["all"].rho_sum, one["all"].rho_sum.T)
    assert (one["all"].rho_sum >= 0).all()
    assert (one["all"].rho_sum <= 2 * 4).all()


def test_merging_samples_is_pooling_their_tokens():
    states = walk(4, 2, 7, 8)
    apart = token_statistics(states, {"all": torch.ones(2, 7, dtype=torch.bool)})
    [pooled] = token_statistics(
        [s.reshape(1, 14, 8) for s in states], {"all": torch.ones(1, 14, dtype=torch.bool)}
    )
    both = merged(row["all"] for row in apart)
    assert both.n_tokens == 14
    np.testing.assert_allclose(both.rho_sum, pooled["all"].rho_sum)
    np.testing.assert_array_equal(both.below_adjacent, pooled["all"].below_adjacent)
    with pytest.raises(VLMError, match="different thresholds"):
        merged(
            [
                both,
                token_statistics(states, {"a": torch.ones(2, 7).bool()}, thresholds=[0.3])[0]["a"],
            ]
        )
    with pytest.raises(VLMError, match="no statistics to merge"):
        merged([])


@pytest.mark.parametrize("bad", [(), (0.0,), (0.1, -1.0), (float("nan"),), (2.5,), ((0.1,),)])
def test_thresholds_out_of_range_are_refused(bad):
    with pytest.raises(VLMError, match="threshold"):
        check_thresholds(bad)
