"""Generators with known truth: against reference values, closed forms and their own samples."""

from __future__ import annotations

import json
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest

from estimators import InputError
from redundancy import synthetic

VECTORS = Path(__file__).parents[1] / "vectors"


def cases(name):
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["cases"]


def within(values, truth, errors=5.0):
    """The mean of values is within so many standard errors of the truth."""
    values = np.asarray(values, dtype=float)
    se = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - truth) <= errors * se + 1e-12, (values.mean(), truth, se)


def cosine_distance(draws):
    dot = (draws.x_lower * draws.x_upper).sum(1)
    norms = np.linalg.norm(draws.x_lower, axis=1) * np.linalg.norm(draws.x_upper, axis=1)
    return 1 - dot / norms


def test_gaussian_chain_vectors():
    names = {
        "functional": "functional",
        "sq_dist": "sq_dist",
        "trCov_l_given_lm1": "w",
        "trCov_lm1_given_l": "w_prime",
        "alpha": "alpha",
        "beta": "beta",
        "mmse_l": "mmse_l",
        "mmse_lm1": "mmse_lm1",
        "mmse_joint": "mmse_joint",
        "I_l_lm1": "mutual_information",
        "h_l_given_lm1": "conditional_entropy",
        "I_Z_l": "i_z_l",
        "I_Z_lm1": "i_z_lm1",
        "cmi_Z_l_given_lm1": "cmi",
        "cmi_Z_lm1_given_l": "cmi_reverse",
    }
    for case in cases("gaussian_chain"):
        chain = synthetic.GaussianChain(
            case["Sigma_lm1"], case["A"], case["N"], case["C"], case["R"], case["G"]
        )
        assert chain.markov == case["markov"]
        for theirs, ours in names.items():
            expected = case["expected"][theirs]
            assert getattr(chain, ours) == pytest.approx(expected, rel=1e-9, abs=1e-12), theirs
        np.testing.assert_allclose(chain.coef_l, case["expected"]["coef_l"], rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(chain.sigma_l, case["expected"]["Sigma_l"], rtol=1e-9)


@pytest.mark.parametrize("markov", [True, False])
def test_gaussian_chain_samples_have_its_moments(markov):
    chain = synthetic.GaussianChain.random(d=3, k=2, markov=markov, seed=3)
    draws = chain.sample(40_000, seed=4)
    assert len(draws) == 40_000
    within(((draws.x_upper - draws.x_lower) ** 2).sum(1), chain.sq_dist)
    f_l = draws.x_upper @ chain.coef_l.T
    f_m = draws.x_lower @ chain.coef_lm1.T
    within(((f_l - f_m) ** 2).sum(1), chain.functional)
    within(((draws.target - f_l) ** 2).sum(1), chain.mmse_l)
    within(((draws.target - f_m) ** 2).sum(1), chain.mmse_lm1)
    within((draws.target**2).sum(1), chain.tr_cov_z)
    if markov:
        assert chain.functional == pytest.approx(chain.mmse_lm1 - chain.mmse_l)
        assert chain.cmi_reverse == pytest.approx(0, abs=1e-12)
    # chain rule
    assert chain.i_z_l + chain.cmi_reverse == pytest.approx(chain.i_z_lm1 + chain.cmi)
    x, y = draws.x_upper - draws.x_upper.mean(0), draws.x_lower - draws.x_lower.mean(0)
    cka = np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert cka == pytest.approx(chain.cka, abs=0.01)
    assert chain.truth["cka"] == chain.cka


def test_gaussian_cosine_vectors():
    for case in cases("gaussian_cosine"):
        pair = synthetic.GaussianCosine(case["d"], case["a"])
        assert pair.mean_cos == pytest.approx(case["mean_cos"], rel=1e-8)
        assert pair.geometric == pytest.approx(case["geometric"], rel=1e-8)
        assert pair.mutual_information == pytest.approx(case["I"], rel=1e-9)
        assert pair.sq_dist == pytest.approx(case["E_sq_dist_unnormalised"], rel=1e-9)
        assert pair.p_close(case["t"]) == pytest.approx(case["P_close"], rel=1e-8)


@pytest.mark.parametrize(("d", "a"), [(2, 0.7), (5, -0.5), (40, 0.99), (768, 0.97)])
def test_gaussian_cosine_samples(d, a):
    pair = synthetic.GaussianCosine(d, a)
    rho = cosine_distance(pair.sample(20_000, seed=1))
    within(rho, pair.geometric)
    t = float(np.quantile(rho, 0.4))
    within(rho <= t, pair.p_close(t))
    assert pair.p_close(2.0) == pytest.approx(1.0, abs=1e-9)
    assert pair.p_close(1.999999) == pytest.approx(1.0, abs=1e-3)
    assert pair.p_close(0.0) == 0.0


@pytest.mark.parametrize(("d", "a"), [(768, 0.97), (4096, 0.95), (4096, 0.9999), (21, 0.9)])
def test_gaussian_cosine_at_the_width_of_a_model(d, a):
    pair = synthetic.GaussianCosine(d, a)
    with mpmath.workdps(40):
        half = mpmath.mpf(1) / 2
        ratio = mpmath.gamma(mpmath.mpf(d + 1) / 2) / mpmath.gamma(mpmath.mpf(d) / 2)
        series = mpmath.hyp2f1(half, half, mpmath.mpf(d) / 2 + 1, mpmath.mpf(a) ** 2)
        mean_cos = float(2 * mpmath.mpf(a) / d * ratio**2 * series)
    assert pair.mean_cos == pytest.approx(mean_cos, rel=1e-13)
    # The quadrature's mean of rho is the closed form's.
    t = np.linspace(0, 8 * pair.geometric, 161)
    far = 1 - np.array([pair.p_close(x) for x in t])
    assert np.trapezoid(far, t) == pytest.approx(pair.geometric, rel=1e-4)


def test_von_mises_fisher_vectors():
    for case in cases("vmf_theorem3"):
        pair = synthetic.VonMisesFisher(case["d"], case["kappa"])
        assert pair.mean_cos == pytest.approx(case["mean_cos"], rel=1e-8)
        assert pair.geometric == pytest.approx(case["geometric"], rel=1e-8)
        assert pair.mutual_information == pytest.approx(case["mutual_information"], rel=1e-8)
        assert 1 - pair.p_close(case["t"]) == pytest.approx(case["P_t"], rel=1e-8)
        assert pair.functional == pytest.approx(case["functional_Z_eq_mX"], rel=1e-8)
        assert pair.w == pytest.approx(case["trCov_cond"], rel=1e-8)


@pytest.mark.parametrize("kappa", [1e-3, 0.5, 5.0, 300.0, 1e6])
def test_von_mises_fisher_in_three_dimensions_has_closed_forms(kappa):
    pair = synthetic.VonMisesFisher(3, kappa)
    coth = 1 / math.tanh(kappa)
    if kappa > 1e-2:  # below, the textbook form cancels
        assert pair.mean_cos == pytest.approx(coth - 1 / kappa, rel=1e-9)
        log_sinh = kappa + math.log(-math.expm1(-2 * kappa)) - math.log(2)
        exact = math.log(kappa) - log_sinh + kappa * coth - 1
        assert pair.mutual_information == pytest.approx(exact, rel=1e-8)
    else:
        assert pair.mean_cos == pytest.approx(kappa / 3, rel=1e-6)
        series = kappa**2 / 6 - kappa**4 / 60
        assert pair.mutual_information == pytest.approx(series, rel=1e-9)
    for t in (1e-7, 1e-3, 0.5, 1.9):
        exact = math.expm1(-kappa * t) / math.expm1(-2 * kappa)
        assert pair.p_close(t) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("d", [2, 8, 768, 8192])
@pytest.mark.parametrize("ratio", [1e-5, 0.01, 1.0])
def test_von_mises_fisher_against_fifty_digits(d, ratio):
    kappa = ratio * d
    pair = synthetic.VonMisesFisher(d, kappa)
    with mpmath.workdps(50):
        nu, k = mpmath.mpf(d) / 2, mpmath.mpf(kappa)
        bessel = mpmath.besseli(nu - 1, k)
        mean_cos = mpmath.besseli(nu, k) / bessel
        log_c = (nu - 1) * mpmath.log(k) - nu * mpmath.log(2 * mpmath.pi) - mpmath.log(bessel)
        log_area = mpmath.log(2) + nu * mpmath.log(mpmath.pi) - mpmath.loggamma(nu)
        information = float(k * mean_cos + log_c + log_area)
        geometric = float(1 - mean_cos)
    assert pair.geometric == pytest.approx(geometric, rel=1e-12)
    assert pair.mutual_information == pytest.approx(information, rel=2e-12)


@pytest.mark.parametrize(
    ("d", "kappa"), [(2, 0.5), (2, 30.0), (8, 10.0), (200, 50.0), (64, 5000.0)]
)
def test_von_mises_fisher_samples(d, kappa):
    pair = synthetic.VonMisesFisher(d, kappa)
    draws = pair.sample(8000, seed=2)
    np.testing.assert_allclose(np.linalg.norm(draws.x_upper, axis=1), 1.0, rtol=1e-10)
    rho = cosine_distance(draws)
    within(rho, pair.geometric)
    t = float(np.quantile(rho, 0.3))
    within(rho <= t, pair.p_close(t))
    a = pair.mean_cos
    within((draws.x_upper[:, 0] - a * draws.x_lower[:, 0]) ** 2, pair.functional)
    within(draws.target[:, 0] ** 2, pair.tr_cov_z)


def test_binary_chain_closed_forms():
    def h2(p):
        return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)

    for p in (0.0, 0.01, 0.2, 0.5, 1.0):
        for r in (0.0, 0.05, 0.5):
            law = synthetic.binary_chain(p=p, r=r)
            both = p * (1 - r) + r * (1 - p)
            assert law.functional == pytest.approx((1 - 2 * r) ** 2 * 4 * p * (1 - p), abs=1e-14)
            assert law.cmi == pytest.approx(h2(both) - h2(r), abs=1e-12)
            assert law.h_cond == pytest.approx(h2(p), abs=1e-12)
            assert law.geometric == pytest.approx(2 * p, abs=1e-14)
            assert law.markov
            assert law.truth["synergistic"] == 0.0


def test_finite_laws_match_the_theorem5_vectors():
    for case in cases("theorem5_discrete"):
        a, c, y = (np.array(case[key]) for key in ("A", "C", "py"))
        p = np.einsum("y,yx,xz->zxy", y, a, c)
        law = synthetic.FiniteLaw(p, np.eye(a.shape[1]), np.eye(len(y)), case["z"])
        e = case["expected"]
        for ours, theirs in (
            ("functional", "functional"),
            ("cmi", "cmi"),
            ("h_cond", "H_cond"),
            ("radius", "B"),
            ("diam", "diam"),
            ("i_z_l", "I_Z_l"),
            ("i_z_lm1", "I_Z_lm1"),
        ):
            assert getattr(law, ours) == pytest.approx(e[theirs], rel=1e-9, abs=1e-12), ours


def test_finite_law_samples_follow_it():
    law = synthetic.random_chain(states=(2, 3, 4), markov=False, seed=5)
    draws = law.sample(30_000, seed=6)
    y, x, z = draws.symbols
    counts = np.zeros(law.p.shape)
    np.add.at(counts, (z, x, y), 1)
    expected = law.p * len(draws)
    big = expected > 5
    chi2 = ((counts - expected)[big] ** 2 / expected[big]).sum()
    assert chi2 < big.sum() + 5 * math.sqrt(2 * big.sum())
    np.testing.assert_array_equal(draws.x_upper, law.x_upper[x])
    assert law.cmi_reverse > 1e-3
    assert "unique_x" not in law.truth
    within(cosine_distance(draws), law.geometric)


def test_the_atoms_of_a_chain_add_up():
    for seed in range(20):
        law = synthetic.random_chain(seed=seed)
        known = law.truth
        atoms = sum(known[k] for k in ("redundant", "unique_x", "unique_y", "synergistic"))
        assert atoms == pytest.approx(known["i_z_l"], abs=1e-12)


def test_every_counterexample_of_figure_1():
    """Each refutation in the table of implications, from its own numbers."""
    reference = {c["name"].split(":")[0].split(" (")[0]: c for c in cases("implications")}
    rotation = synthetic.rotation()
    expected = reference["rotation"]
    assert rotation.functional == expected["functional"]
    assert rotation.h_cond == expected["H_cond"]
    assert rotation.geometric == expected["geometric"]
    assert rotation.p_close(0.5) == expected["P_close"]
    assert rotation.mutual_information == pytest.approx(expected["I"], rel=1e-12)
    assert rotation.sq_dist == expected["skip_sq_error"]

    tip = synthetic.sphere_tip(0.01)
    assert tip.functional == pytest.approx(1.0)
    assert tip.geometric == pytest.approx(
        reference["geometric not functional"]["geometric"], rel=1e-9
    )

    constant = synthetic.constant_target(4)
    assert constant.functional == 0.0
    assert constant.h_cond == pytest.approx(math.log(4))

    forgotten = synthetic.forgotten_target()
    assert forgotten.h_cond == 0.0
    assert forgotten.cmi == 0.0
    assert forgotten.functional == 1.0
    assert forgotten.cmi_reverse == pytest.approx(math.log(2))

    flip = synthetic.sign_flip(0.3)
    assert flip.geometric == pytest.approx(0.6)
    assert 1 - flip.p_close(0.0) == pytest.approx(0.3)

    circle = synthetic.circle_code(points=360, neighbours=5)
    assert circle.h_cond == pytest.approx(math.log(5))
    assert circle.mutual_information == pytest.approx(reference["proximal not informational"]["I"])


def test_attention_rows():
    rows = synthetic.AttentionRows(heads=6, n_vision=10, n_text=5, mass=0.25)
    drawn = rows.sample(4000, seed=0)
    np.testing.assert_allclose(drawn.sum(-1), 1.0)
    within(drawn[:, :, rows.vision_index].sum((1, 2)), rows.var_sum)


def test_samples_go_into_a_store():
    draws = synthetic.binary_chain(p=0.1, r=0.05).sample(50, seed=0)
    store = draws.to_store()
    pair = next(iter(store.pairs()))
    np.testing.assert_array_equal(pair.x_lower, draws.x_lower)
    np.testing.assert_array_equal(pair.target, draws.target)


def test_samples_are_seeded():
    for maker in (
        synthetic.GaussianChain.random(d=3, seed=0),
        synthetic.GaussianCosine(4, 0.5),
        synthetic.VonMisesFisher(4, 3.0),
        synthetic.binary_chain(p=0.2, r=0.1),
    ):
        one, two, other = (
            maker.sample(20, seed=1),
            maker.sample(20, seed=1),
            maker.sample(20, seed=2),
        )
        np.testing.assert_array_equal(one.x_upper, two.x_upper)
        assert (one.x_upper != other.x_upper).any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: synthetic.VonMisesFisher(1, 1.0), "d >= 2"),
        (lambda: synthetic.GaussianCosine(3, 1.0), "-1 < a < 1"),
        (lambda: synthetic.binary_chain(p=1.2, r=0.0), "flip probabilities"),
        (lambda: synthetic.circle_code(neighbours=4), "odd number"),
        (lambda: synthetic.sphere_tip(0.0), "eta"),
        (lambda: synthetic.sign_flip(2.0), "probability"),
        (lambda: synthetic.constant_target(1), "two points"),
        (lambda: synthetic.FiniteLaw([[[0.5, 0.6]]], [[1.0]], [[1.0], [2.0]]), "sums to"),
        (lambda: synthetic.FiniteLaw([[[0.5, 0.5]]], [[1.0]], [[1.0]]), "x_lower has shape"),
        (lambda: synthetic.LinearNetwork([]), "at least one layer"),
        (lambda: synthetic.LinearNetwork([[[[1.0]]] * 3]), "3 matrices"),
        (
            lambda: synthetic.GaussianChain([[1.0]], [[1.0]], [[0.0]], [[1.0]], [[1.0]]),
            "not positive definite",
        ),
        (
            lambda: synthetic.GaussianChain([[1.0]], [[1.0, 2.0]], [[1.0]], [[1.0]], [[1.0]]),
            "a has shape",
        ),
    ],
)
def test_errors_name_what_was_wrong(call, words):
    with pytest.raises(InputError, match=words):
        call()
