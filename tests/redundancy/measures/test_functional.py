"""Functional redundancy against Gaussian chains, where F has a closed form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from estimators import InputError
from probes._split import grouped_folds
from probes._target import read_target
from redundancy.measures import functional
from redundancy.measures._functional_probes import probe_layer
from redundancy.pairs import LayerPair
from redundancy.synthetic import GaussianChain
from redundancy.theory import theorem2_reverse

VECTORS = Path(__file__).parents[2] / "vectors"


def cases(name):
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["cases"]


def chain_of(case) -> GaussianChain:
    return GaussianChain(case["Sigma_lm1"], case["A"], case["N"], case["C"], case["R"], g=case["G"])


def of_chain(chain, n, seed, **options):
    draw = chain.sample(n, seed=seed)
    pair = LayerPair(0, 1, draw.x_lower, draw.x_upper, target=np.asarray(draw.target))
    return functional.measure(pair, seed=seed, **options)


def codes(reading):
    return {d.code for d in reading.estimate.diagnostics}


def agreeing_pair(n_groups, per_group, seed, f=0.0, d=20):
    """Both layers know two coordinates of the target; only the upper knows f more of it."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), per_group)

    def draw(m):
        shared = rng.normal(size=(n_groups, m))[groups]
        own = rng.normal(size=(len(groups), m))
        return np.sqrt(0.5) * (shared + own) if per_group > 1 else own

    signal, extra = draw(2), draw(2)
    target = signal + np.sqrt(f / 2) * extra + draw(2)
    lower = np.concatenate([signal, draw(d - 2)], axis=1)
    upper = np.concatenate([signal, extra, draw(d - 4)], axis=1)
    return LayerPair(0, 1, lower, upper, groups=groups if per_group > 1 else None, target=target)


@pytest.mark.parametrize("case", range(6))
def test_the_interval_holds_the_truth_of_the_vectors(case):
    given = cases("gaussian_chain")[case]
    chain = chain_of(given)
    truth = given["expected"]["functional"]
    assert chain.functional == pytest.approx(truth, rel=1e-9)
    reading = of_chain(chain, 4000, 11, ci=0.999)
    assert truth in reading.estimate.ci
    assert reading.extras["trivial_cap"].value == pytest.approx(chain.tr_cov_z, rel=0.2)


def bias_of(d, n, seeds):
    chain = GaussianChain.random(d=d, k=2, seed=0)
    readings = [of_chain(chain, n, 100 + s) for s in range(seeds)]
    split = np.array([float(r.estimate) for r in readings]) - chain.functional
    naive = np.array([float(r.extras["plug_in"]) for r in readings]) - chain.functional
    covered = np.mean([chain.functional in r.estimate.ci for r in readings])
    se = split.std(ddof=1) / np.sqrt(seeds)
    return split.mean(), se, naive.mean(), covered


def test_split_probes_are_unbiased_where_the_plug_in_is_not():
    bias, se, naive, covered = bias_of(20, 200, 40)
    assert abs(bias) < 3 * se
    assert naive > 20 * se
    assert covered >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize(("d", "n", "seeds"), [(20, 200, 200), (512, 2000, 200)])
def test_split_probes_are_unbiased_within_two_standard_errors(d, n, seeds):
    bias, se, naive, covered = bias_of(d, n, seeds)
    assert abs(bias) < 2 * se
    assert naive > 10 * se
    assert 0.90 <= covered <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_groups", "per_group", "f"), [(200, 1, 0.0), (60, 10, 0.0), (60, 10, 0.1), (60, 10, 0.5)]
)
def test_intervals_cover_with_groups_and_at_zero(n_groups, per_group, f):
    readings = [functional.measure(agreeing_pair(n_groups, per_group, s, f)) for s in range(200)]
    assert 0.90 <= np.mean([f in r.estimate.ci for r in readings]) <= 1.0
    values = np.array([float(r.estimate) for r in readings])
    assert abs(values.mean() - f) < 3 * values.std() / np.sqrt(200)


def test_near_zero_only_the_upper_end_speaks():
    reading = functional.measure(agreeing_pair(60, 10, 0), threshold=0.5)
    e = reading.estimate
    assert "one-sided" in e.ci.method
    assert e.ci.low == min(e.value, 0.0)
    assert e.ci.high > 0
    assert reading.extras["clipped"].value == max(e.value, 0.0)
    assert reading.p_redundant < 0.01


def test_far_from_zero_both_ends_do():
    reading = functional.measure(agreeing_pair(60, 10, 0, f=1.0), threshold=0.1)
    assert reading.estimate.ci.low > 0.1
    assert "one-sided" not in reading.estimate.ci.method
    assert reading.p_needed < 0.01


def test_groups_widen_the_interval():
    pair = agreeing_pair(60, 10, 1, f=0.5)
    alone = LayerPair(0, 1, pair.x_lower, pair.x_upper, target=pair.target)
    assert functional.measure(pair).estimate.ci.width > 1.3 * (
        functional.measure(alone).estimate.ci.width
    )


def test_theorem_2_brackets_f_and_agrees_with_its_vectors():
    chain = GaussianChain.random(d=6, k=2, seed=3)
    extras = of_chain(chain, 3000, 0).extras
    assert extras["theorem2_lower"].value <= chain.functional <= extras["theorem2_upper"].value
    assert extras["theorem2_upper"].kind == "estimate"
    for case in cases("theorem2_gaussian"):
        found = theorem2_reverse(
            plugin=case["plugin"], eta_l=case["eta_l"], eta_lm1=case["eta_lm1"]
        )
        assert found.value == pytest.approx(case["F_upper_from_plugin"], rel=1e-9)


def test_gain_equals_f_in_a_markov_chain_and_errors_approach_the_minimum():
    chain = GaussianChain.random(d=4, k=2, seed=0)
    assert chain.markov
    extras = of_chain(chain, 20000, 0).extras
    assert chain.functional in extras["gain"].ci
    r2 = 1 - chain.mmse_l / chain.tr_cov_z
    assert extras["r2_upper"].value == pytest.approx(r2, abs=0.02)


def test_a_rotation_keeps_f_at_zero_while_the_transfer_sees_it():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 4))
    target = x[:, :1] + 0.1 * rng.normal(size=(1000, 1))
    reading = functional.measure(LayerPair(0, 1, x, -x, target=target))
    assert abs(reading.estimate.value) < 1e-9
    transfer, bound = reading.extras["transfer"].value, reading.extras["transfer_bound"].value
    assert transfer == pytest.approx(4.0, rel=0.2)
    assert transfer <= bound


def test_classes_are_one_hot_and_capped():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 5))
    z = rng.integers(0, 4, size=1200)
    x[:, 0] += 6.0 * (z == 0)
    other = rng.normal(size=x.shape)
    reading = functional.measure(LayerPair(0, 1, other, x, target=z))
    assert reading.extras["trivial_cap"].value == pytest.approx(0.75, abs=0.01)
    assert 0.1 < reading.estimate.value < reading.extras["trivial_cap"].value
    words = np.array(["a", "b", "c", "d"])[z]
    same = functional.measure(LayerPair(0, 1, other, x, target=words))
    assert same.estimate.value == reading.estimate.value


def test_few_samples_per_coordinate_are_confessed():
    chain = GaussianChain.random(d=60, k=1, seed=0)
    few = of_chain(chain, 100, 0)
    assert "projected" in codes(few)
    assert few.estimate.params["components"] == 40 // 3
    assert "projected" not in codes(of_chain(chain, 600, 0))


def test_shrunk_probes_are_confessed_and_prove_no_redundancy():
    chain = GaussianChain.random(d=20, k=2, seed=0)
    free = of_chain(chain, 400, 0, threshold=100.0)
    shrunk = of_chain(chain, 400, 0, threshold=100.0, regularisation=10.0)
    assert shrunk.estimate.value < free.estimate.value
    assert "regularised" in codes(shrunk)
    assert "regularised" not in codes(free)
    assert free.p_redundant < 0.01
    assert shrunk.p_redundant == 1.0


def test_components_that_hold_the_target_give_the_whole_f():
    """Two strong directions carry everything; the others are weak noise, more than samples."""
    values = []
    for seed in range(20):
        pair = agreeing_pair(150, 1, seed, f=0.5, d=4)
        rng = np.random.default_rng(1000 + seed)
        # Each coordinate is copied, so that standardised states have four strong directions.
        x = [
            np.repeat(s, 50, axis=1) + 0.5 * rng.normal(size=(150, 50 * s.shape[1]))
            for s in (pair.x_lower, pair.x_upper)
        ]
        reading = functional.measure(LayerPair(0, 1, x[0], x[1], target=pair.target))
        assert "projected" in codes(reading)
        values.append(reading.estimate.value)
    assert np.mean(values) == pytest.approx(0.5, abs=3 * np.std(values) / np.sqrt(20))


@pytest.mark.parametrize("regularisation", ["auto", "cv", 1.0])
def test_more_coordinates_than_samples_have_an_answer(regularisation):
    chain = GaussianChain.random(d=150, k=1, seed=0)
    reading = of_chain(chain, 100, 0, regularisation=regularisation)
    assert np.isfinite(reading.estimate.value)
    assert reading.estimate.ci.width > 0
    assert reading.extras["transfer"].value <= reading.extras["transfer_bound"].value


def test_half_precision_states_are_read():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    pair = agreeing_pair(60, 10, 0, f=0.5)
    fine = functional.measure(pair).estimate.value
    for dtype in (np.float16, np.float32, ml_dtypes.bfloat16):
        coarse = LayerPair(
            0,
            1,
            pair.x_lower.astype(dtype),
            pair.x_upper.astype(dtype),
            groups=pair.groups,
            target=pair.target,
        )
        assert functional.measure(coarse).estimate.value == pytest.approx(fine, abs=0.02)


def test_nothing_learnt_is_not_agreement():
    rng = np.random.default_rng(0)
    x, y, z = (rng.normal(size=(300, 10)) for _ in range(3))
    assert "no-signal" in codes(functional.measure(LayerPair(0, 1, x, y, target=z[:, 0])))


def test_scale_and_shift_of_the_states_do_not_matter():
    pair = agreeing_pair(60, 10, 0, f=0.5)
    moved = LayerPair(
        0,
        1,
        1e3 * pair.x_lower + 7,
        1e-4 * pair.x_upper - 3,
        groups=pair.groups,
        target=pair.target,
    )
    a, b = functional.measure(pair).estimate, functional.measure(moved).estimate
    assert a.value == pytest.approx(b.value, rel=1e-5)
    assert a.ci.high == pytest.approx(b.ci.high, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target": np.r_[np.nan, np.zeros(99)]}, r"0→1.*1 NaN"),
        ({"target": None}, "carry no target"),
        ({"x_upper": np.r_[np.full((1, 3), np.inf), np.zeros((99, 3))]}, "layer 1.*infinite"),
    ],
)
def test_unusable_input_gets_one_sentence(change, sentence):
    rng = np.random.default_rng(0)
    given = {
        "x_lower": rng.normal(size=(100, 3)),
        "x_upper": rng.normal(size=(100, 3)),
        "target": rng.normal(size=100),
    } | change
    with pytest.raises(InputError, match=sentence):
        functional.measure(LayerPair(0, 1, **given))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"target": np.zeros(100, dtype=int)}, "constant-target"),
        ({"groups": np.arange(100) // 25}, "few-groups"),
        ({"x_upper": np.ones((100, 3)), "x_lower": np.ones((100, 3))}, "constant"),
    ],
)
def test_what_cannot_be_estimated_is_no_estimate_with_a_reason(change, code):
    rng = np.random.default_rng(0)
    given = {
        "x_lower": rng.normal(size=(100, 3)),
        "x_upper": rng.normal(size=(100, 3)),
        "target": rng.integers(0, 2, size=100),
    } | change
    reading = functional.measure(LayerPair(0, 1, **given))
    assert reading.estimate.value is None
    assert code in codes(reading)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"folds": 4}, "odd"),
        ({"regularisation": "lasso"}, "'auto', 'none', 'cv'"),
        ({"regularisation": -1.0}, "at least 0"),
        ({"threshold": 0.0}, "above 0"),
    ],
)
def test_options_are_checked(option, sentence):
    with pytest.raises(InputError, match=sentence):
        functional.measure(agreeing_pair(40, 5, 0), **option)


def test_a_rare_class_is_said():
    rng = np.random.default_rng(0)
    z = np.r_[np.zeros(60), np.ones(38), [2, 2]].astype(int)
    x = rng.normal(size=(100, 3))
    pair = LayerPair(0, 1, x, x + rng.normal(size=x.shape), target=z)
    assert "rare-class" in codes(functional.measure(pair))


def test_plug_in_and_one_step_bracket_f_and_meet_where_samples_are_many():
    chain = GaussianChain.random(d=20, k=2, seed=0)
    few = [of_chain(chain, 200, s) for s in range(30)]
    above, below = (np.mean([r.extras[k].value for r in few]) for k in ("plug_in", "one_step"))
    assert below < chain.functional < above
    many = of_chain(chain, 20_000, 0).extras
    assert many["one_step"].value == pytest.approx(chain.functional, rel=0.03)
    assert many["plug_in"].value == pytest.approx(chain.functional, rel=0.03)
    without = of_chain(chain, 200, 0, ci=None).extras["one_step"]
    assert without.value is None


def test_theorem_1_with_the_probes_constant_is_the_transfer_bound():
    extras = of_chain(GaussianChain.random(d=6, k=2, seed=3), 2000, 0).extras
    assert extras["theorem1"].value == extras["transfer_bound"].value
    assert extras["transfer"].value <= extras["transfer_bound"].value
    assert extras["theorem1"].kind == "estimate"


@pytest.mark.slow
def test_mlps_see_what_linear_probes_cannot():
    rng = np.random.default_rng(0)
    lower = rng.normal(size=(600, 2))
    z = (lower[:, 0] * lower[:, 1] > 0).astype(int)
    upper = np.c_[np.abs(lower[:, 0]), lower[:, 1]]  # the sign that decides is gone
    pair = LayerPair(0, 1, lower, upper, target=z)
    linear = functional.measure(pair)
    mlp = functional.measure(pair, kind="mlp", threshold=0.5)
    assert linear.estimate.value < 0.05 < 0.2 < mlp.estimate.value
    assert "mlp" in mlp.estimate.method
    assert mlp.estimate.params["family"] == "mlp"
    assert mlp.p_redundant == 1.0
    assert "held fixed" in mlp.estimate.ci.method
    assert mlp.extras["one_step"].value is None
    assert 0 < mlp.extras["transfer"].value <= mlp.extras["transfer_bound"].value
    assert mlp.extras["plug_in"].value > mlp.estimate.value


def test_split_probes_can_be_mlps():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    z = read_target((x[:, 0] > 0).astype(int), 200)
    fold_of = grouped_folds(200, 5, labels=z.codes)
    quick = {"hidden": 8, "max_epochs": 4}
    upper, lower = (
        probe_layer(states, z, fold_of, 5, kind="mlp", options=quick)
        for states in (x, x + rng.normal(size=x.shape))
    )
    pair = LayerPair(0, 1, x, x, target=z.codes)
    reading = functional.measure_probed(pair, upper, lower, z)
    assert reading.estimate.method == "split-probe product (E2), 5 folds, mlp probes"
    assert reading.estimate.value < reading.extras["plug_in"].value
    assert reading.extras["one_step"].value is None


def test_the_kind_of_probe_is_checked():
    pair = agreeing_pair(60, 10, 0)
    with pytest.raises(InputError, match="'linear' or 'mlp'"):
        functional.measure(pair, kind="forest")


def test_states_too_large_to_be_squared_are_said():
    pair = agreeing_pair(60, 10, 0, f=0.5)
    large = LayerPair(0, 1, pair.x_lower, pair.x_upper * 1e200, target=pair.target)
    with pytest.raises(InputError, match="divide them by a constant"):
        functional.measure(large)
