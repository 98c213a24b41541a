"""Fast paths beside their slow references, and the hazards every one of them must survive."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import InputError, _neighbours
from estimators.kl import kl_entropy, log_cap, log_sphere_surface
from estimators.ksg import ksg_chain, ksg_cmi, ksg_mi
from estimators.mixed import mixed_cmi, mixed_mi, ross_cmi, ross_mi
from tests.estimators import reference

NORMS = ["chebyshev", "euclidean"]


def pair(n, d, r=0.6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, r * x + math.sqrt(1 - r * r) * rng.normal(size=(n, d))


def codes(estimate):
    return {d.code for d in estimate.diagnostics}


def severities(estimate):
    return {d.code: d.severity for d in estimate.diagnostics}


@pytest.fixture(params=["tree", "brute"])
def path(request, monkeypatch):
    """Force one way of searching, whatever the measured rule says."""
    limit = 10**6 if request.param == "tree" else -1
    monkeypatch.setattr(_neighbours, "TREE_DIMENSIONS", dict.fromkeys(NORMS, limit))
    return request.param


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 4), (5, 3), (16, 3)])
@pytest.mark.parametrize("kind", ["plain", "mean 1000", "near-copies", "float32", "tiny scale"])
def test_every_path_equals_its_reference(path, norm, d, k, kind):
    x, y = pair(150, d)
    z = x + y + np.random.default_rng(9).normal(size=x.shape)
    if kind == "mean 1000":
        x, y = x + 1000, y - 1000
    elif kind == "near-copies":
        x[75:] = x[:75] + 1e-5 * np.random.default_rng(1).normal(size=(75, d))
        y[75:] = y[:75] + 1e-5 * np.random.default_rng(2).normal(size=(75, d))
    elif kind == "float32":
        x, y, z = (v.astype(np.float32) for v in (x, y, z))
    elif kind == "tiny scale":
        x, y, z = x * 1e-170, y * 1e-170, z * 1e-170
    slow = [v.astype(np.float64) * (1e170 if kind == "tiny scale" else 1) for v in (x, y, z)]
    for variant in (1, 2):
        fast = ksg_mi(x, y, k=k, variant=variant, metric=norm, ci=None).value
        assert fast == pytest.approx(
            reference.ksg(*slow[:2], k, variant, norm), rel=1e-10, abs=1e-12
        )
    fast = ksg_cmi(x, y, z, k=k, metric=norm, ci=None).value
    assert fast == pytest.approx(reference.cmi(*slow, k, norm), rel=1e-10, abs=1e-12)
    if kind != "tiny scale":
        h = kl_entropy(x, k=k, metric=norm, ci=None).value
        assert h == pytest.approx(reference.entropy(slow[0], k, norm), rel=1e-10)
    labels = (slow[2][:, 0] > 0).astype(int)
    fast = ross_mi(x, labels, k=k, metric=norm, ci=None).value
    assert fast == pytest.approx(reference.ross(slow[0], labels, k, norm), rel=1e-10, abs=1e-12)
    fast = mixed_mi(x, y, k=k, metric=norm, ci=None).value
    assert fast == pytest.approx(reference.gao(*slow[:2], k, norm), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_atoms_follow_the_papers(path, norm):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, size=(200, 1)).astype(float)
    x[:80] += rng.normal(size=(80, 1))
    y = np.where(rng.uniform(size=(200, 1)) < 0.7, x, rng.normal(size=(200, 1)))
    z = rng.integers(0, 2, size=(200, 1)).astype(float)
    assert mixed_mi(x, y, metric=norm, ci=None).value == pytest.approx(
        reference.gao(x, y, 3, norm), rel=1e-10
    )
    assert mixed_cmi(x, y, z, metric=norm, ci=None).value == pytest.approx(
        reference.mesner_shalizi(x, y, z, 3, norm), rel=1e-10
    )


def test_threads_change_nothing(monkeypatch):
    for d in (2, 20):
        x, y = pair(2500, d)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        one = ksg_mi(x, y, ci=None).value
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert ksg_mi(x, y, ci=None).value == one


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(-60, 60), st.sampled_from([1, 3, 12]))
def test_invariant_to_order_sides_and_powers_of_two(seed, power, d):
    x, y = pair(120, d, seed=seed)
    base = ksg_mi(x, y, ci=None).value
    order = np.random.default_rng(seed).permutation(120)
    scaled = ksg_mi(2.0**power * x[order], 2.0**power * y[order], ci=None).value
    assert scaled == pytest.approx(base, abs=1e-12)
    assert ksg_mi(y, x, ci=None).value == pytest.approx(base, abs=1e-12)
    shifted = kl_entropy(4.0 * x, ci=None).value - kl_entropy(x, ci=None).value
    assert shifted == pytest.approx(d * math.log(4.0), abs=1e-9)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_gaussian_information(d):
    values = [ksg_mi(*pair(1500, d, seed=s), ci=None).value for s in range(6)]
    truth = -d / 2 * math.log(1 - 0.36)
    assert np.mean(values) == pytest.approx(truth, abs=0.03 if d < 3 else 0.08)


def test_conditional_information_of_a_chain_vanishes():
    rng = np.random.default_rng(0)
    z = rng.normal(size=1500)
    x, y = z + rng.normal(size=1500), z + rng.normal(size=1500)
    assert abs(ksg_cmi(x, y, z, ci=None).value) < 0.05
    # I(X; Y | X + Y) of independent normals is infinite in the limit: all that is left is noise.
    noisy = x - z + (y - z) + rng.normal(size=1500)
    truth = -0.5 * math.log(1 - 0.25)
    assert ksg_cmi(x - z, y - z, noisy, ci=None).value == pytest.approx(truth, abs=0.06)


LAWS = {
    "uniform": (lambda r, n: r.uniform(0, 3, size=(n, 1)), math.log(3)),
    "exponential": (lambda r, n: r.exponential(2.0, size=(n, 1)), 1 + math.log(2)),
    "normal": (lambda r, n: r.normal(size=(n, 1)), 0.5 * math.log(2 * math.pi * math.e)),
    "square": (lambda r, n: r.uniform(size=(n, 2)), 0.0),
    "normal in 3": (lambda r, n: r.normal(size=(n, 3)), 1.5 * math.log(2 * math.pi * math.e)),
    "far mixture": (
        lambda r, n: r.normal(size=(n, 1)) + 50.0 * r.integers(0, 2, size=(n, 1)),
        0.5 * math.log(2 * math.pi * math.e) + math.log(2),
    ),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("law", LAWS)
def test_entropies_with_closed_forms(law, norm):
    draw, truth = LAWS[law]
    values = [
        kl_entropy(draw(np.random.default_rng(s), 1500), metric=norm, ci=None).value
        for s in range(5)
    ]
    assert np.mean(values) == pytest.approx(truth, abs=0.07)


@pytest.mark.parametrize("d", [2, 3, 8, 32, 128])
def test_uniform_law_on_a_sphere(d):
    s = np.random.default_rng(d).normal(size=(1500, d))
    s /= np.linalg.norm(s, axis=1, keepdims=True)
    e = kl_entropy(s, metric="sphere", ci=None)
    assert e.value == pytest.approx(log_sphere_surface(d), abs=0.06)


def test_caps_add_up_and_do_not_underflow():
    angle = np.array([0.3, 1.2])
    whole = np.exp(log_cap(5, angle)) + np.exp(log_cap(5, np.pi - angle))
    assert whole == pytest.approx([1.0, 1.0])
    tiny = float(log_cap(4096, np.array([math.acos(1 - 0.01)]))[0])
    assert tiny == pytest.approx(-8025.198, abs=1e-3)


def test_labels_and_conditional_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, size=1200)
    x = rng.normal(size=(1200, 2)) + 8 * np.eye(4)[labels][:, :2] + 20 * np.eye(4)[labels][:, 2:]
    assert ross_mi(x, labels, ci=None).value == pytest.approx(math.log(4), abs=0.03)
    y = x + rng.normal(size=x.shape)
    assert abs(ross_cmi(y, labels, x, ci=None).value) < 0.05
    assert abs(ross_mi(rng.normal(size=(1200, 2)), labels, ci=None).value) < 0.04


def test_lonely_classes_are_left_out_and_said():
    x, _ = pair(200, 2)
    labels = np.zeros(200, dtype=int)
    labels[:30] = np.arange(1, 31)
    labels[30:60] = 31
    e = ross_mi(x, labels, ci=None)
    assert e.params["left_out"] == 30
    assert severities(e)["small-classes"] == "error"
    with pytest.raises(InputError, match="label of its own"):
        ross_mi(x, np.arange(200))


def test_copies_are_reported_never_jittered():
    x, y = pair(400, 2)
    x[:80], y[:80] = x[:1], y[:1]
    e = ksg_mi(x, y, ci=None)
    assert severities(e)["duplicates"] == "error"
    assert not e.trustworthy
    assert "mixed_mi" in e.diagnostics[0].message
    h = kl_entropy(x, ci=None)
    assert h.value is None
    assert severities(h)["duplicates"] == "error"
    jittered = kl_entropy(x, ci=None, jitter=1e-8, seed=4)
    assert jittered.value is not None
    assert jittered.seed == 4
    assert jittered.value == kl_entropy(x, ci=None, jitter=1e-8, seed=4).value
    x, y = pair(400, 2)
    x[1], y[1] = x[0], y[0]
    assert severities(ksg_mi(x, y, ci=None))["duplicates"] == "warning"


def test_rank_deficiency_has_no_entropy():
    x, _ = pair(400, 3)
    e = kl_entropy(np.column_stack([x, x[:, 0] + x[:, 1]]), ci=None)
    assert e.value is None
    assert "subspace of 3" in e.diagnostics[0].message


def test_high_dimension_and_saturation_are_said():
    e = ksg_mi(*pair(400, 40), ci=None)
    assert severities(e) == {"high-dimension": "error"}
    x, _ = pair(400, 1)
    near = ksg_mi(x, x + 1e-6 * pair(400, 1, seed=3)[0], ci=None)
    assert severities(near)["saturated"] == "error"


def test_a_chain_shares_distances_and_changes_nothing():
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(300, 16))]
    for _ in range(3):
        layers.append(layers[-1] + 0.5 * rng.normal(size=(300, 16)))
    chain = ksg_chain(layers)
    alone = [ksg_mi(a, b, ci=None) for a, b in pairwise(layers)]
    assert [e.value for e in chain] == [e.value for e in alone]
    assert [e.method for e in chain] == [e.method for e in alone]


def test_agrees_with_npeet_plus():
    peer = pytest.importorskip("npeet_plus")
    x, y = pair(500, 2)
    z = x + y + np.random.default_rng(5).normal(size=x.shape)
    ours = ksg_mi(x, y, metric="chebyshev", ci=None).value
    assert ours == pytest.approx(peer.mi(x, y, k=3, base=math.e), abs=1e-9)
    ours = ksg_cmi(x, y, z, metric="chebyshev", ci=None).value
    assert ours == pytest.approx(peer.cmi(x, y, z, k=3, base=math.e), abs=1e-9)
    ours = kl_entropy(x, metric="chebyshev", ci=None).value
    assert ours == pytest.approx(peer.entropy(x, k=3, base=math.e), abs=1e-7)


def test_agrees_with_scikit_learn():
    selection = pytest.importorskip("sklearn.feature_selection")
    x, y = pair(500, 1)
    # The peer divides by the standard deviation and adds noise of 1e-10: not to the last digit.
    peer = selection.mutual_info_regression(x / x.std(), y[:, 0] / y.std(), random_state=0)[0]
    ours = ksg_mi(x / x.std(), y / y.std(), ci=None).value
    assert ours == pytest.approx(peer, abs=2e-3)
    labels = (y[:, 0] > 0).astype(int)
    peer = selection.mutual_info_classif(x, labels, random_state=0)[0]
    assert ross_mi(x / x.std(), labels, ci=None).value == pytest.approx(peer, abs=2e-3)


def test_intervals_name_their_method_and_respect_groups():
    x, y = pair(400, 1)
    e = ksg_mi(x, y, seed=1)
    assert e.value in e.ci
    assert e.seed == 1
    assert e.ci == ksg_mi(x, y, seed=1).ci
    high = ksg_mi(*pair(400, 4))
    assert "expectation" in high.ci.method
    rng = np.random.default_rng(0)
    centre = np.repeat(rng.normal(size=(40, 2)) @ [[1.0, 0.8], [0.0, 0.6]], 10, axis=0)
    cloud = centre + 0.1 * rng.normal(size=(400, 2))
    groups = np.repeat(np.arange(40), 10)
    naive, honest = (
        ksg_mi(cloud[:, 0], cloud[:, 1]),
        ksg_mi(cloud[:, 0], cloud[:, 1], groups=groups),
    )
    assert honest.ci.width > 1.5 * naive.ci.width
    assert honest.n_groups == 40


X, Y = pair(30, 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ksg_mi(X, Y[:29]), "x has 30, y has 29"),
        (lambda: ksg_mi(X[:3], Y[:3]), "fewer than k . 1 = 4"),
        (lambda: ksg_mi(X, Y, k=0), "at least 1"),
        (lambda: ksg_mi(X, Y, k=2.5), "k is 2.5"),
        (lambda: ksg_mi(X, Y, variant=3), "use 1 or 2"),
        (lambda: ksg_mi(X, Y, metric="cosine"), "'chebyshev' or 'euclidean'"),
        (lambda: ksg_mi(X.astype(int), Y), "x holds integers"),
        (lambda: ksg_mi(np.ones((30, 2)), Y), "x .* is constant"),
        (lambda: ksg_mi(X, Y, groups=np.zeros(29)), r"groups has shape \(29,\) for 30"),
        (lambda: ksg_mi(X, Y, groups=np.zeros(30)), "one group"),
        (lambda: ksg_mi(X, Y, jitter=-1.0), "jitter is -1.0"),
        (lambda: kl_entropy(X, metric="sphere"), "not unit vectors"),
        (lambda: ross_mi(X, Y[:, 0]), "labels has dtype float64"),
        (lambda: ksg_chain([X]), "at least 2 layers"),
        (lambda: ksg_mi(np.where(X[4, 1] == X, np.inf, X), Y), "1 infinite .* row 4, column 1"),
    ],
)
def test_refusals_name_argument_and_remedy(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "truth"),
    [
        (lambda s: ksg_mi(*pair(500, 1, seed=s), seed=s), -0.5 * math.log(0.64)),
        (lambda s: ksg_mi(*pair(500, 1, 0.0, seed=s), seed=s), 0.0),
        (lambda s: ksg_mi(*pair(1500, 2, 0.4, seed=s), seed=s), -math.log(1 - 0.16)),
        (
            lambda s: kl_entropy(np.random.default_rng(s).uniform(size=(500, 1)), seed=s),
            0.0,
        ),
        (
            lambda s: kl_entropy(np.random.default_rng(s).normal(size=(500, 2)), seed=s),
            math.log(2 * math.pi * math.e),
        ),
    ],
    ids=["KSG 1", "KSG independent", "KSG 2", "KL uniform", "KL normal 2"],
)
def test_coverage_of_the_truth(family, truth):
    hits = sum(truth in family(s).ci for s in range(200))
    assert 0.90 <= hits / 200 <= 0.995


@pytest.mark.slow
def test_coverage_of_the_expectation_in_five_dimensions():
    made = [ksg_mi(*pair(400, 5, seed=s), seed=s) for s in range(200)]
    centre = np.mean([e.value for e in made])
    assert 0.90 <= np.mean([centre in e.ci for e in made]) <= 1.0


def test_ties_in_one_side_are_reported_and_jitter_mends_them():
    x, y = (v[:, 0] for v in pair(4000, 1))
    truth = -0.5 * math.log(1 - 0.36)
    rounded = ksg_mi(x.round(1), y, ci=None)
    assert rounded.value > truth + 0.04  # strict counts lose what lies exactly at the distance
    assert severities(rounded) == {"ties": "error"}
    assert "jitter" in rounded.diagnostics[0].message
    mended = ksg_mi(x.round(1), y, jitter=1e-8, ci=None)
    assert mended.value == pytest.approx(truth, abs=0.02)
    assert not codes(mended)
    assert severities(ksg_mi(x.round(3), y, ci=None)) == {"ties": "warning"}
    assert codes(ksg_cmi(x.round(1), y, y + x, ci=None)) == {"ties"}
    assert "ties" in codes(ksg_chain([x.round(1), y])[0])
    assert not codes(ksg_chain([x, y])[0])
