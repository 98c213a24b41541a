"""Theorems 1, 2 and 5, the error gap and the Markov audit: bounds of functional redundancy."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from estimators import Estimate, InputError
from redundancy import synthetic
from redundancy.theory import (
    lemma4,
    markov_audit,
    markov_audit_from_states,
    mmse_gap,
    probe_error_bound,
    theorem1,
    theorem2,
    theorem2_reverse,
    theorem5,
)

REL = 1e-9


def gaussian_result(case):
    e = case["expected"]
    return theorem1(
        alpha=e["alpha"],
        beta=e["beta"],
        sq_dist=e["sq_dist"],
        w=e["trCov_l_given_lm1"],
        w_prime=e["trCov_lm1_given_l"],
    )


def test_theorem1_gaussian_vectors(cases):
    for case in cases("gaussian_chain"):
        e, result = case["expected"], gaussian_result(case)
        assert result.forms["paper"] == pytest.approx(e["bound_paper_2a2b2"], rel=REL)
        assert result.forms["corrected"] == pytest.approx(e["bound_sum_sq"], rel=REL)
        assert result.value == pytest.approx(e["bound_condcov"], rel=REL)
        assert e["functional"] <= result.value * (1 + REL)
        gap = mmse_gap(mmse_l=e["mmse_l"], mmse_lm1=e["mmse_lm1"], mmse_joint=e["mmse_joint"])
        assert gap.forms["lower"] <= e["functional"] * (1 + REL) + 1e-12
        assert e["functional"] <= gap.value * (1 + REL) + 1e-12
        if case["markov"]:
            exact = mmse_gap(mmse_l=e["mmse_l"], mmse_lm1=e["mmse_lm1"], markov=True)
            assert exact.value == pytest.approx(e["functional"], rel=1e-9, abs=1e-14)
            assert exact.forms["lower"] == exact.value


def test_theorem1_is_attained_where_the_target_is_not_smooth(cases):
    for case in cases("theorem1_sphere"):
        result = theorem1(
            alpha=case["alpha"], beta=case["beta"], mean_rho=case["geometric"], w=case["trCov"]
        )
        assert result.forms["paper"] == pytest.approx(case["bound_paper"], rel=REL)
        assert result.forms["corrected"] == pytest.approx(case["bound_sum_sq"], rel=REL)
        assert result.value == pytest.approx(case["bound_condcov"], rel=REL)
        assert result.value == pytest.approx(case["functional"], rel=REL)
        # The best multiple of X' already attains it here, without knowing W.
        free = theorem1(alpha=case["alpha"], mean_rho=case["geometric"])
        assert free.value == pytest.approx(case["functional"], rel=REL)
        assert theorem1(alpha=case["alpha"], mean_rho=case["geometric"], tr_cov_z=1.0).vacuous


def test_theorem1_von_mises_fisher(cases):
    for case in cases("vmf_theorem3"):
        # Z = <m, X_l> and X_{l-1} - X_l - Z: alpha = 1, beta = 0
        result = theorem1(alpha=1.0, mean_rho=case["geometric"], tr_cov_z=1.0 / case["d"])
        assert 2 * result.forms["corrected"] == pytest.approx(case["T1_paper"], rel=1e-8)
        assert result.forms["corrected"] == pytest.approx(case["T1_markov"], rel=1e-8)
        assert result.value == pytest.approx(case["trCov_cond"], rel=1e-8)
        assert case["functional_Z_eq_mX"] <= result.value


def discrete_chain(rng, markov):
    """Random joint law p[z, x, y] on unit vectors x, y, and values of Z."""
    m, n, k = rng.integers(2, 5, 3)
    x, y = rng.normal(size=(m, 3)), rng.normal(size=(n, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    p_xy = rng.dirichlet(np.full(m * n, rng.uniform(0.2, 1.5))).reshape(m, n)
    if markov:
        z_given = np.repeat(rng.dirichlet(np.full(k, 0.5), size=m)[:, None, :], n, axis=1)
    else:
        z_given = rng.dirichlet(np.full(k, 0.5), size=(m, n))
    z = rng.normal(size=(k, 2))
    return x, y, np.einsum("xy,xyz->zxy", p_xy, z_given), z


def functional_value(p, z):
    p_xy = p.sum(0)
    mean_x = np.einsum("zxy,zd->xd", p, z) / p_xy.sum(1)[:, None]
    mean_y = np.einsum("zxy,zd->yd", p, z) / p_xy.sum(0)[:, None]
    return float((p_xy * ((mean_x[:, None] - mean_y[None]) ** 2).sum(-1)).sum())


def lipschitz(h, points):
    """Exact Lipschitz constants of a table h[x, y, :] in one argument, the other fixed."""
    best = 0.0
    for i in range(len(points)):
        for j in range(i):
            step = np.linalg.norm(points[i] - points[j])
            best = max(best, float(np.linalg.norm(h[i] - h[j], axis=-1).max() / step))
    return best


@pytest.mark.parametrize("markov", [True, False])
@pytest.mark.parametrize("runs", [400, pytest.param(5000, marks=pytest.mark.slow)])
def test_theorems_1_and_5_hold_on_random_joint_laws(markov, runs):
    rng = np.random.default_rng(10 + markov)
    tightest = 0.0
    for _ in range(runs):
        x, y, p, z = discrete_chain(rng, markov)
        p_xy = p.sum(0)
        h = np.einsum("zxy,zd->xyd", p, z) / p_xy[:, :, None]
        alpha, beta = lipschitz(h, x), lipschitz(h.transpose(1, 0, 2), y)
        f = functional_value(p, z)
        rho = float((p_xy * (1 - x @ y.T)).sum())
        mean_z = np.einsum("zxy,zd->d", p, z)
        tr_cov = float((p.sum((1, 2)) * ((z - mean_z) ** 2).sum(1)).sum())
        assert f <= tr_cov + 1e-12
        one = theorem1(
            alpha=alpha, beta=0.0 if markov else beta, mean_rho=max(rho, 0.0), tr_cov_z=tr_cov
        )
        assert f <= one.value + 1e-10
        assert one.value <= one.forms["corrected"] + 1e-12 <= one.forms["paper"] + 2e-12
        assert one.vacuous == (one.value >= tr_cov)

        cmi, reverse = lemma4(p_zxy=p).value, lemma4(p_zxy=p.transpose(0, 2, 1)).value
        diam = max(float(np.linalg.norm(a - b)) for a in z for b in z)
        b = float(np.linalg.norm(z, axis=1).max())
        if markov:
            five = theorem5(cmi=cmi, b=b, diam=diam, markov=True, tr_cov_z=tr_cov)
            assert reverse < 1e-9
        else:
            five = theorem5(cmi=cmi, cmi_reverse=reverse, b=b, diam=diam, tr_cov_z=tr_cov)
        assert f <= five.value + 1e-10
        assert five.forms["corrected"] <= five.forms["paper"] + 1e-12
        tightest = max(tightest, f / max(five.value, 1e-300))
        h_cond = -float((p_xy * np.log(p_xy / p_xy.sum(0))).sum())
        if markov:
            entropy = theorem5(h_cond=h_cond, b=b, diam=diam, markov=True)
            assert f <= entropy.value + 1e-10
            assert five.value <= entropy.value + 1e-10
    # The test has teeth: the bound is nearly attained by some of these laws.
    assert tightest > 0.4


def test_theorem1_bridge_and_units():
    plain = theorem1(alpha=2.0, sq_dist=1.0)
    bridged = theorem1(alpha=2.0, sq_dist=1.0, bridge_mse=0.01)
    assert plain.value == 4.0
    assert bridged.value == pytest.approx(0.04)
    assert bridged.forms["corrected"] == 4.0
    # A rotation is at the largest distance, and a linear bridge sees through it.
    assert theorem1(alpha=1.0, mean_rho=2.0, bridge_mse=0.0).value == 0.0
    assert theorem1(alpha=0.0, beta=0.0, mean_rho=0.1).value == 0.0
    with pytest.raises(InputError, match="how far the layers are apart"):
        theorem1(alpha=1.0)
    with pytest.raises(InputError, match="not both"):
        theorem1(alpha=1.0, mean_rho=0.1, sq_dist=0.1)
    with pytest.raises(InputError, match="how far the layers are apart"):
        theorem1(alpha=1.0, beta=1.0, w=0.1)


def test_kinds_are_as_weak_as_the_weakest_input():
    probe = Estimate(value=1.5, unit="1", kind="estimate", n=10, method="ridge")
    assert theorem1(alpha=1.5, mean_rho=0.1).kind == "bound_under_assumption"
    assert theorem1(alpha=probe, mean_rho=0.1).kind == "estimate"
    assert theorem1(alpha=1.5, mean_rho=0.1, inputs="estimate").kind == "estimate"
    first = theorem1(alpha=probe, mean_rho=0.1)
    assert theorem2(eta_l=0.1, eta_lm1=0.1, functional_bound=first).kind == "estimate"
    assert theorem5(cmi=0.1, diam=1.0, markov=True, inputs="certified").kind == (
        "bound_under_assumption"
    )
    again = pickle.loads(pickle.dumps(first))
    assert again == first
    assert "estimate" in str(first)


def test_theorem2_vectors(cases):
    chains = cases("gaussian_chain")
    for case in cases("theorem2_gaussian"):
        first = gaussian_result(chains[case["gaussian_case"]])
        result = theorem2(eta_l=case["eta_l"], eta_lm1=case["eta_lm1"], functional_bound=first)
        assert result.forms["paper"] == pytest.approx(case["bound_paper"], rel=REL)
        assert result.forms["bound_minkowski"] == pytest.approx(case["bound_minkowski"], rel=REL)
        assert case["plugin"] <= result.value <= result.forms["corrected"] * (1 + REL)
        reverse = theorem2_reverse(
            plugin=case["plugin"], eta_l=case["eta_l"], eta_lm1=case["eta_lm1"]
        )
        assert reverse.value == pytest.approx(case["F_upper_from_plugin"], rel=REL)
        assert reverse.forms["lower"] == pytest.approx(case["F_lower_from_plugin"], rel=REL)
        assert reverse.forms["lower"] <= case["functional"] <= reverse.value


def test_theorem2_holds_on_random_probes():
    rng = np.random.default_rng(20)
    for _ in range(2000):
        f_l, f_m = rng.normal(size=(2, 50, 2)) * rng.exponential()
        fit_l = f_l + rng.normal(size=f_l.shape) * rng.exponential()
        fit_m = f_m + rng.normal(size=f_m.shape) * rng.exponential()

        def square(a):
            return float((a**2).sum(1).mean())

        f, plugin = square(f_l - f_m), square(fit_l - fit_m)
        eta_l, eta_m = square(fit_l - f_l), square(fit_m - f_m)
        forward = theorem2(eta_l=eta_l, eta_lm1=eta_m, functional_bound=f)
        assert plugin <= forward.value * (1 + 1e-12) <= forward.forms["paper"] * (1 + 1e-11)
        back = theorem2_reverse(plugin=plugin, eta_l=eta_l, eta_lm1=eta_m)
        assert back.forms["lower"] * (1 - 1e-12) <= f <= back.value * (1 + 1e-12)


def test_probe_error_bound():
    assert probe_error_bound(mse=0.5).value == 0.5
    assert probe_error_bound(mse=0.5).kind == "exact"
    assert probe_error_bound(mse=0.5, mmse_lower=0.25).value == 0.25
    with pytest.raises(InputError, match="exceeds mse"):
        probe_error_bound(mse=0.2, mmse_lower=0.3)


def test_mmse_gap_is_exact_under_either_chain():
    law = synthetic.forgotten_target()  # Z - X' - X: MMSE 1 from X, 0 from X'
    loss = mmse_gap(mmse_l=1.0, mmse_lm1=0.0, mmse_joint=0.0)
    assert loss.forms["lower"] == loss.value == law.functional
    gain = mmse_gap(mmse_l=0.19, mmse_lm1=0.222076, markov=True)
    assert gain.value == pytest.approx(synthetic.binary_chain(p=0.01, r=0.05).functional)


def test_mmse_gap_refuses_contradictions():
    with pytest.raises(InputError, match="predict at least as well"):
        mmse_gap(mmse_l=0.1, mmse_lm1=0.2, mmse_joint=0.15)
    with pytest.raises(InputError, match="excludes"):
        mmse_gap(mmse_l=0.3, mmse_lm1=0.2, markov=True)


def test_theorem5_vectors(cases):
    for case in cases("theorem5_discrete"):
        e = case["expected"]
        result = theorem5(cmi=e["cmi"], h_cond=e["H_cond"], b=e["B"], diam=e["diam"], markov=True)
        assert result.forms["paper"] == pytest.approx(e["bound_2B2_cmi"], rel=REL)
        assert result.value == pytest.approx(e["bound_diam"], rel=REL)
        assert result.forms["bound_entropy"] == pytest.approx(e["bound_entropy"], rel=REL)
        assert e["functional"] <= result.value * (1 + REL)
        gap = mmse_gap(mmse_l=e["mmse_l"], mmse_lm1=e["mmse_lm1"], markov=True)
        assert gap.value == pytest.approx(e["functional"], rel=1e-9, abs=1e-12)
        # and the information itself, from the tables
        a, c, y = np.array(case["A"]), np.array(case["C"]), np.array(case["py"])
        four = lemma4(p_zxy=np.einsum("y,yx,xz->zxy", y, a, c))
        assert four.value == pytest.approx(e["cmi"], rel=1e-9)
        assert functional_value(
            np.einsum("y,yx,xz->zxy", y, a, c), np.array(case["z"])
        ) == pytest.approx(e["functional"], rel=1e-9)


def test_theorem5_without_the_chain(cases):
    case = next(c for c in cases("implications") if "w/o Markov" in c["name"])
    cmi, reverse = case["I_Z_l_given_lm1"], case["I_Z_lm1_given_l"]
    paper = theorem5(cmi=cmi, b=1.0)
    assert paper.value < case["functional"]  # the paper's form fails
    assert any("Markov" in a for a in paper.assumptions)
    assert any("not audited" in n for n in paper.notes)
    general = theorem5(cmi=cmi, cmi_reverse=reverse, b=1.0)
    assert case["functional"] <= general.value
    with pytest.raises(InputError, match="contradicts"):
        theorem5(cmi=cmi, cmi_reverse=reverse, b=1.0, markov=True)
    with pytest.raises(InputError, match="needs cmi_reverse"):
        theorem5(cmi=cmi, b=1.0, markov=False)


def test_theorem5_entropy_form_and_vacuity():
    # one-hot Z with k = 4: vacuous from 1 - 1/4 nat on
    below = theorem5(h_cond=0.7, diam=math.sqrt(2), tr_cov_z=0.75, markov=True)
    above = theorem5(h_cond=0.8, diam=math.sqrt(2), tr_cov_z=0.75, markov=True)
    assert not below.vacuous
    assert above.vacuous
    # without tr Cov(Z), diam^2 / 2 bounds it
    assert theorem5(h_cond=1.0, diam=math.sqrt(2), markov=True).vacuous
    # The paper's appendix adds C outside the factor 2 B^2; the main text is right.
    shifted = theorem5(h_cond=0.2, c=0.1, b=2.0, markov=True)
    assert shifted.forms["bound_entropy"] == pytest.approx(8 * 0.3)
    with pytest.raises(InputError, match="cannot be negative"):
        theorem5(h_cond=-2.0, c=1.0, b=1.0, markov=True)
    with pytest.raises(InputError, match="give diam"):
        theorem5(cmi=0.1, markov=True)
    # Information that is 0 up to rounding, or estimated below 0, is 0.
    assert theorem5(cmi=-6e-15, diam=1.0, markov=True).value == 0.0
    below = Estimate(value=-0.02, unit="nats", kind="estimate", n=50, method="KSG")
    assert theorem5(cmi=below, diam=1.0, markov=True).value == 0.0
    with pytest.raises(InputError, match="cannot be negative"):
        theorem5(cmi=-0.02, diam=1.0, markov=True)
    with pytest.raises(InputError, match="exceeds 2 b"):
        theorem5(cmi=0.1, b=1.0, diam=3.0)
    with pytest.raises(InputError, match="give cmi"):
        theorem5(b=1.0)


def binary_losses(rng, n, chain):
    """Held-out log losses of exact posteriors on a binary chain, with and without X'."""
    x_low = rng.integers(0, 2, n)
    if chain:  # X' - X - Z
        x_up = x_low ^ (rng.random(n) < 0.2)
        z = x_up ^ (rng.random(n) < 0.1)
        same = np.where(x_up == z, 0.9, 0.1)
        return -np.log(same), -np.log(same)
    x_up = x_low ^ (rng.random(n) < 0.2)  # Z - X' - X
    z = x_low ^ (rng.random(n) < 0.1)
    agree = 0.9 * 0.8 + 0.1 * 0.2
    return -np.log(np.where(x_up == z, agree, 1 - agree)), -np.log(np.where(x_low == z, 0.9, 0.1))


def test_markov_audit_switches_theorem5():
    rng = np.random.default_rng(30)
    upper, both = binary_losses(rng, 4000, chain=False)
    audit = markov_audit(loss_upper=upper, loss_both=both)
    assert audit.rejected
    truth = 0.57310 - 0.32508  # h2(0.26) - h2(0.1)
    assert audit.reverse == pytest.approx(truth, abs=0.03)
    switched = theorem5(cmi=0.0, b=1.0, markov=audit)
    assert switched.kind == "estimate"
    assert switched.value == pytest.approx(2 * audit.reverse)
    assert "general" in switched.forms
    assert "rejected" in " ".join(switched.notes)

    upper, both = binary_losses(rng, 4000, chain=True)
    kept = markov_audit(loss_upper=upper, loss_both=both)
    assert not kept.rejected
    assert theorem5(cmi=0.1, b=1.0, markov=kept).value == pytest.approx(0.2)


def test_markov_audit_level_under_the_chain():
    # Probes on 3 fitted parameters each; the chain holds, so at most 5% may be rejected.
    rng = np.random.default_rng(31)
    rejected = 0
    for _ in range(300):
        noise = rng.normal(size=200)
        rejected += markov_audit(
            loss_upper=noise * 0.3, loss_both=rng.normal(size=200) * 0.3
        ).rejected
    assert rejected <= 300 * 0.05 + 4 * math.sqrt(300 * 0.05 * 0.95)


def test_markov_audit_counts_groups_not_tokens():
    rng = np.random.default_rng(32)
    groups = np.repeat(np.arange(12), 100)
    shared = np.repeat(rng.normal(0.05, 0.3, 12), 100)
    pooled = markov_audit(loss_upper=1.0 + shared, loss_both=np.ones(1200))
    grouped = markov_audit(loss_upper=1.0 + shared, loss_both=np.ones(1200), groups=groups)
    assert grouped.n_groups == 12
    assert grouped.reverse - grouped.low > 5 * (pooled.reverse - pooled.low)
    with pytest.raises(InputError, match="not finite"):
        markov_audit(loss_upper=[1.0, math.inf], loss_both=[1.0, 1.0])
    with pytest.raises(InputError, match="same samples"):
        markov_audit(loss_upper=[1.0, 2.0, 3.0], loss_both=[1.0, 1.0])


def test_markov_audit_from_states_tells_the_chains_apart():
    rng = np.random.default_rng(33)
    n = 1500
    first = rng.normal(size=(n, 4))
    second = first + 0.8 * rng.normal(size=first.shape)
    groups = np.repeat(np.arange(n // 3), 3)

    def label(x):
        return (x[:, 0] - x[:, 1] + 0.7 * rng.normal(size=n) > 0).astype(int)

    # Z - X' - X: the lower layer knows more
    rejected = markov_audit_from_states(first, second, label(first), groups=groups)
    assert rejected.rejected
    assert rejected.n_groups == n // 3
    # X' - X - Z: it adds nothing
    kept = markov_audit_from_states(first, second, label(second), groups=groups)
    assert not kept.rejected
    assert abs(kept.reverse) < 0.02
    assert kept.forward > 0.03
    five = theorem5(diam=math.sqrt(2), markov=kept)
    assert five.kind == "estimate"
    assert five.value == pytest.approx(kept.forward)
    general = theorem5(diam=math.sqrt(2), markov=rejected)
    expected = (math.sqrt(max(rejected.forward, 0)) + math.sqrt(rejected.reverse)) ** 2
    assert general.value == pytest.approx(expected)
    again = markov_audit_from_states(first, second, np.where(label(second) > 0, "a", "b"), seed=1)
    assert again.n_groups == n


def test_an_unreadable_layer_is_rejected_although_the_chain_holds():
    """Rejection is about the probes: a linear one cannot undo a nonlinear, invertible layer."""
    rng = np.random.default_rng(34)
    lower = rng.normal(size=(1200, 2))
    radius = np.linalg.norm(lower, axis=1)
    turn = 3 * radius  # X is X' turned by an angle that depends on its length: invertible
    upper = np.stack(
        [
            np.cos(turn) * lower[:, 0] - np.sin(turn) * lower[:, 1],
            np.sin(turn) * lower[:, 0] + np.cos(turn) * lower[:, 1],
        ],
        axis=1,
    )
    z = (lower[:, 0] > 0).astype(int)
    assert markov_audit_from_states(lower, upper, z).rejected


def test_markov_audit_from_states_errors():
    rng = np.random.default_rng(35)
    x = rng.normal(size=(30, 2))
    with pytest.raises(InputError, match="one class"):
        markov_audit_from_states(x, x, np.zeros(30, int))
    with pytest.raises(InputError, match="absent outside fold"):
        markov_audit_from_states(x, x, np.eye(30, dtype=int)[0])
    with pytest.raises(InputError, match="groups for 5 folds"):
        markov_audit_from_states(x, x, np.arange(30) % 2, groups=np.arange(30) % 3)
    with pytest.raises(InputError, match="for symbols"):
        markov_audit_from_states(x, x, x[:, 0])
