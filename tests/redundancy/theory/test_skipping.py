"""Theorem 6 in its tiers, Lipschitz constants, logit certificates and the attention link."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import InputError
from redundancy import synthetic
from redundancy.theory import (
    argmax_certificate,
    jacobian_norm,
    power_iteration,
    secant_constant,
    segment_norm,
    softmax_kl_bound,
    spectral_norm,
    text_drift,
    theorem6,
    theorem6_direct,
    theorem6_early_exit,
    theorem6_measured,
    theorem6_skip_blocks,
    var_to_delta,
)

REL = 1e-9


def test_theorem6_vectors(cases):
    seen = set()
    for case in cases("theorem6"):
        seen.add(case["kind"])
        if case["kind"] == "uniform":
            result = theorem6(
                eps=case["eps"],
                delta=case["delta"],
                lam=case["lam"],
                mu=case["mu"],
                n_layers=case["L"],
            )
            for form in ("E_L", "paper_sum", "paper_sqrt", "corrected_sum", "corrected_sqrt"):
                assert result.forms[form] == pytest.approx(case[form], rel=REL), form
            assert result.value == pytest.approx(case["corrected_sqrt"], rel=REL)
        elif case["kind"] == "per_layer":
            result = theorem6(
                eps=case["eps"],
                delta=case["delta"],
                lam=case["lam"],
                mu=case["mu"],
                mu_v=case["mu_V"],
                mu_t=case["mu_T"],
            )
            assert result.forms["E_L"] == pytest.approx(case["E_L"], rel=REL)
            assert result.forms["corrected"] == pytest.approx(case["bound"], rel=REL)
            assert result.forms["bound_split"] == pytest.approx(case["bound_split"], rel=REL)
            assert result.value == min(result.forms["corrected"], result.forms["bound_split"])
        else:
            check_linear_toy(case)
    assert seen == {"uniform", "per_layer", "linear_toy"}


def check_linear_toy(case):
    network = synthetic.LinearNetwork(case["layers"])
    skip = network.late_entry(case["V0"], case["T0"], case["L"])
    for ours, theirs in (
        (skip.eps, case["eps"]),
        (skip.delta, case["delta"]),
        (skip.lam, case["lam"]),
        (skip.mu, case["mu"]),
        (skip.d_v, case["D_V"]),
        (skip.e_l, case["E_L_measured"]),
        (skip.error, case["late_entry_error"]),
    ):
        assert ours == pytest.approx(theirs, rel=REL)
    second = theorem6(eps=skip.eps, delta=skip.delta, lam=skip.lam, mu=skip.mu)
    assert second.forms["E_L"] == pytest.approx(case["E_L_bound"], rel=REL)
    assert second.value == pytest.approx(case["bound_per_layer"], rel=REL)
    third = theorem6_measured(d_v=skip.d_v, e_l=skip.e_l, mu=skip.mu)
    assert third.value == pytest.approx(case["bound_measured_state"], rel=REL)
    assert skip.error <= third.value <= second.value
    exit_ = network.early_exit(case["V0"], case["T0"], case["L"])
    assert exit_.error == pytest.approx(case["early_exit_error"], rel=REL)
    assert exit_.delta == pytest.approx(case["early_exit_delta"], rel=REL)
    assert exit_.lam == pytest.approx(case["early_exit_lam"], rel=REL)
    bound = theorem6_early_exit(delta=exit_.delta, lam=exit_.lam)
    assert bound.value == pytest.approx(case["early_exit_bound"], rel=REL)


@pytest.mark.parametrize("runs", [200, pytest.param(4000, marks=pytest.mark.slow)])
def test_theorem6_holds_on_random_networks(runs):
    tightest = 0.0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        network = synthetic.LinearNetwork.random(
            n_layers=int(rng.integers(2, 9)),
            change=float(rng.choice([0.01, 0.1, 0.5])),
            vision_to_text=float(rng.choice([0.0, 0.05, 0.5])),
            seed=seed,
        )
        v, t = network.random_input(seed=seed + 1)
        count = int(rng.integers(1, len(network.layers) + 1))
        skip = network.late_entry(v, t, count)
        norm = network.output_norm(v, t)
        second = theorem6(
            eps=skip.eps,
            delta=skip.delta,
            lam=skip.lam,
            mu=skip.mu,
            mu_v=skip.mu_v,
            mu_t=skip.mu_t,
            output_norm=norm,
        )
        uniform = theorem6(
            eps=max(skip.eps), delta=max(skip.delta), lam=max(skip.lam), mu=skip.mu, n_layers=count
        )
        third = theorem6_measured(
            d_v=skip.d_v, e_l=skip.e_l, mu=skip.mu, mu_v=skip.mu_v, mu_t=skip.mu_t
        )
        assert skip.error <= third.value * (1 + 1e-10) + 1e-12
        assert third.value <= second.value * (1 + 1e-10) + 1e-12
        assert second.forms["corrected"] <= uniform.forms["corrected"] * (1 + 1e-10) + 1e-12
        assert second.forms["corrected_sqrt"] <= second.forms["corrected_sum"] * (1 + 1e-12)
        assert second.vacuous == (second.value >= 2 * norm)
        tightest = max(tightest, skip.error / third.value)
        kept = int(rng.integers(0, len(network.layers)))
        exit_ = network.early_exit(v, t, kept)
        bound = theorem6_early_exit(delta=exit_.delta, lam=exit_.lam)
        assert exit_.error <= bound.value * (1 + 1e-10) + 1e-12
        dropped = rng.choice(len(network.layers), size=int(rng.integers(1, 3)), replace=False)
        error, change, after = network.drop(v, t, dropped.tolist())
        assert error <= theorem6_skip_blocks(change=change, mu_after=after).value * (1 + 1e-10)
    assert tightest > 0.8


def test_the_papers_form_is_no_bound_of_late_entry(cases):
    case = next(c for c in cases("implications") if "V0 insertion" in c["name"])
    # One layer, f_vis(V, T) = V + 10, f_text(V, T) = T, phi(V, T) = V.
    result = theorem6(eps=10.0, delta=0.0, lam=1.0, mu=1.0, n_layers=1)
    assert result.forms["paper"] == case["paper_bound"] < case["true_error"]
    assert result.value == case["corrected_bound"] == case["true_error"]
    assert any("V_1" in n for n in result.notes)


@given(
    lam=st.floats(0.0, 3.0),
    delta=st.floats(0.0, 10.0),
    n=st.integers(1, 60),
)
def test_uniform_drift_is_the_sum(lam, delta, n):
    direct = delta * math.fsum(lam**i for i in range(n))
    assert text_drift(delta=delta, lam=lam, n_layers=n) == pytest.approx(
        direct, rel=1e-9, abs=1e-12
    )
    assert text_drift(delta=[delta] * n, lam=[lam] * n) == pytest.approx(
        direct, rel=1e-9, abs=1e-12
    )


def test_drift_near_one_and_overflow():
    for lam in (1.0, 1.0 + 1e-12, 1.0 - 1e-12):
        assert text_drift(delta=0.5, lam=lam, n_layers=32) == pytest.approx(16.0, rel=1e-9)
    assert text_drift(delta=0.5, lam=0.0, n_layers=32) == 0.5
    assert text_drift(delta=1.0, lam=1e30, n_layers=64) == math.inf
    assert text_drift(delta=0.0, lam=1e30, n_layers=64) == 0.0
    assert theorem6(eps=0.1, delta=1.0, lam=1e30, mu=1.0, n_layers=64).vacuous
    # the last layer's drift is not multiplied any more
    assert text_drift(delta=[1.0, 1.0], lam=[5.0, 2.0]) == 3.0


def test_theorem6_kinds_and_errors():
    lam = power_iteration(lambda v: 2 * v, lambda u: 2 * u, 3)
    result = theorem6(eps=[0.1], delta=[0.1], lam=[lam], mu=1.0)
    assert result.kind == "estimate"
    assert any("estimate" in n for n in result.notes)
    assert theorem6(eps=[0.1], delta=[0.1], lam=[1.0], mu=1.0).kind == "bound_under_assumption"
    assert theorem6_direct(y=[1.0, 2.0], y_skip=[1.0, 2.5]).kind == "exact"
    assert theorem6_direct(y=[3.0, 4.0], y_skip=[3.0, 3.0]).forms["relative"] == 0.2
    for call, words in (
        (lambda: theorem6(eps=0.1, delta=0.1, lam=1.0, mu=1.0), "n_layers"),
        (lambda: theorem6(eps=[0.1, 0.2], delta=[0.1] * 3, lam=1.0, mu=1.0), "numbers of layers"),
        (lambda: theorem6(eps=[-0.1, 0.1], delta=0.1, lam=1.0, mu=1.0), r"eps\[0\] is -0.1"),
        (lambda: theorem6(eps=[], delta=[], lam=[], mu=1.0), "numbers of layers"),
        (lambda: theorem6_measured(d_v=0.1, e_l=0.1, mu=1.0, mu_v=1.0), "both mu_v and mu_t"),
        (lambda: theorem6_direct(y=[1.0], y_skip=[1.0, 2.0]), "outputs of one input"),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_lipschitz_estimates_come_from_below():
    rng = np.random.default_rng(0)
    for _ in range(20):
        w = rng.normal(size=(7, 5))
        exact = spectral_norm(w)
        few = power_iteration(lambda v, w=w: w @ v, lambda u, w=w: w.T @ u, 5, iterations=2)
        many = power_iteration(lambda v, w=w: w @ v, lambda u, w=w: w.T @ u, 5, iterations=2000)
        assert exact.kind == "exact"
        assert few.kind == many.kind == "estimate"
        assert few.value <= many.value * (1 + 1e-12) <= exact.value * (1 + 1e-9)
        assert many.value == pytest.approx(exact.value, rel=1e-4)
    assert any("still growing" in n for n in few.notes)
    zero = power_iteration(lambda v: 0 * v, lambda u: 0 * u, 4)
    assert zero.value == 0.0
    with pytest.raises(InputError, match="not finite"):
        power_iteration(lambda v: v * np.nan, lambda u: u, 3)


def test_jacobian_norm_of_a_torch_function():
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    x = torch.randn(4, generator=generator, dtype=torch.float64)

    def function(v):
        return torch.tanh(w @ v)

    slope = 1 - torch.tanh(w @ x) ** 2
    exact = float(torch.linalg.matrix_norm(slope[:, None] * w, 2))
    assert jacobian_norm(function, x, iterations=300).value == pytest.approx(exact, rel=1e-4)
    # A normalisation layer is steep near zero input.
    near = jacobian_norm(lambda v: v / (v.square().mean() + 1e-8).sqrt(), x * 1e-2)
    far = jacobian_norm(lambda v: v / (v.square().mean() + 1e-8).sqrt(), x)
    assert near.value > 50 * far.value


def test_segment_and_secant():
    # f(x) = x^2 between 0 and 1: the secant is 1, the steepest point 2
    steepest = segment_norm(lambda s: spectral_norm([[2 * s]]))
    secant = secant_constant(fx=[1.0], fy=[0.0], x=[1.0], y=[0.0])
    assert secant.value == 1.0 <= steepest.value == 2.0
    assert secant.kind == steepest.kind == "estimate"
    assert secant_constant(fx=[1.0], fy=[1.0], x=[0.0], y=[0.0]).value == 0.0
    with pytest.raises(InputError, match="another input"):
        secant_constant(fx=[1.0], fy=[0.0], x=[0.0], y=[0.0])


def log_softmax(y):
    y = y - y.max()
    return y - math.log(np.exp(y).sum())


@pytest.mark.parametrize("runs", [2000, pytest.param(30000, marks=pytest.mark.slow)])
def test_logit_certificates_hold_on_random_logits(runs):
    rng = np.random.default_rng(1)
    kept = 0
    worst = 0.0
    for _ in range(runs):
        size = int(rng.integers(2, 8))
        y = rng.normal(size=size) * rng.exponential()
        step = rng.normal(size=size) * rng.exponential() * rng.choice([0.01, 0.3, 2.0])
        if rng.random() < 0.3:  # the worst direction: towards exchanging the two largest
            top = np.argsort(y)
            step = np.zeros(size)
            step[top[-1]], step[top[-2]] = -1.0, 1.0
            step *= 0.5 * (y[top[-1]] - y[top[-2]]) * rng.choice([0.999, 1.001])
        top = np.sort(y)
        margin = float(top[-1] - top[-2])
        l2, inf = float(np.linalg.norm(step)), float(np.abs(step).max())
        by_l2 = argmax_certificate(change=l2, margin=margin)
        by_inf = argmax_certificate(change=inf, margin=margin, norm="inf")
        if not by_l2.vacuous or not by_inf.vacuous:
            kept += 1
            assert np.argmax(y + step) == np.argmax(y)
        one, two = log_softmax(y), log_softmax(y + step)
        kl = float((np.exp(one) * (one - two)).sum())
        spread = float(step.max() - step.min())
        bounds = [
            softmax_kl_bound(change=l2).value,
            softmax_kl_bound(change=inf, norm="inf").value,
            softmax_kl_bound(change=spread, norm="range").value,
        ]
        assert kl <= min(bounds) + 1e-12
        assert bounds[2] <= min(bounds[:2]) + 1e-12
        worst = max(worst, kl / bounds[0] if bounds[0] > 1e-9 else 0.0)
    assert kept > runs / 10
    assert worst > 0.8
    # Beyond the margin the answer can change: the constant is the best possible.
    y = np.array([1.0, 0.0])
    step = np.array([-0.5005, 0.5005])
    assert argmax_certificate(change=float(np.linalg.norm(step)), margin=1.0).vacuous
    assert np.argmax(y + step) == 1
    with pytest.raises(InputError, match="norm is 'l1'"):
        softmax_kl_bound(change=1.0, norm="l1")


def test_var_to_delta_vector(cases):
    for case in cases("var"):
        result = var_to_delta(
            attention=case["attention"][0],
            values=case["values_layer0"],
            w_o=case["W_O"],
            vision_index=case["vision_index"],
        )
        assert result.forms["var_sum"] == pytest.approx(case["var_sum"][0], rel=REL)
        assert result.forms["exact"] == pytest.approx(case["delta_attn_layer0"], rel=REL)
        assert result.forms["bound_per_head"] == pytest.approx(case["bound_per_head"], rel=REL)
        assert result.forms["C"] == pytest.approx(case["C"], rel=REL)
        assert result.forms["bound_var_sum"] == pytest.approx(case["bound_var_sum"], rel=REL)
        assert result.forms["exact"] <= result.value <= result.forms["bound_per_head"]


@pytest.mark.parametrize("runs", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_var_to_delta_is_what_masking_does(runs):
    rng = np.random.default_rng(2)
    for _ in range(runs):
        heads, keys, width, d = 3, 7, 2, 5
        scores = rng.normal(size=(heads, keys)) * 2
        values = rng.normal(size=(heads, keys, width))
        w_o = rng.normal(size=(d, heads * width))
        vision = rng.choice(keys, size=int(rng.integers(1, keys)), replace=False)

        def output(mask, scores=scores, values=values, w_o=w_o):
            weights = np.exp(scores - scores.max()) * mask
            weights /= weights.sum(1, keepdims=True)
            return weights, w_o @ np.einsum("hk,hkv->hv", weights, values).reshape(-1)

        mask = np.ones(keys)
        attention, full = output(mask)
        mask[vision] = 0.0
        change = np.linalg.norm(full - output(mask)[1])
        result = var_to_delta(attention=attention, values=values, w_o=w_o, vision_index=vision)
        assert result.forms["exact"] == pytest.approx(change, rel=1e-9)
        assert change <= result.value * (1 + 1e-10)
        assert result.value <= result.forms["bound_per_head"] * (1 + 1e-12)
        assert result.forms["bound_per_head"] <= result.forms["bound_var_sum"] * (1 + 1e-12)
    block = var_to_delta(
        attention=attention, values=values, w_o=w_o, vision_index=vision, block_lipschitz=2.0
    )
    assert block.value == pytest.approx(2 * result.value)


def test_var_to_delta_errors():
    good = {"attention": [[0.5, 0.5]], "values": [[[1.0], [0.0]]], "w_o": [[1.0]]}
    for change, words in (
        ({"vision_index": [0, 1]}, "leave at least one"),
        ({"vision_index": [2]}, "count from 0"),
        ({"vision_index": [0], "attention": [[0.5, 0.2]]}, "sums to 0.7"),
        ({"vision_index": [0], "w_o": [[1.0, 2.0]]}, "heads times width"),
        ({"vision_index": [0], "attention": [[1.0, 0.0]]}, "all its attention"),
    ):
        with pytest.raises(InputError, match=words):
            var_to_delta(**{**good, **change})
