"""Linear probes against closed forms, against scikit-learn, and in its company."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from estimators import InputError
from probes._folded import RidgeSolver
from probes._principal import principal
from probes._ridge import FoldedRidge
from probes._split import grouped_folds
from probes.linear import LogisticProbe, RidgeProbe


def values(n=200, d=8, k=2, seed=0, noise=0.5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 3.0
    return x, x @ rng.normal(size=(d, k)) + noise * rng.normal(size=(n, k))


def classes(n=400, d=10, k=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.linspace(0.05, 20, d)
    scores = (x / x.std(0)) @ rng.normal(size=(d, k)) + 1.5 * rng.gumbel(size=(n, k))
    return x, scores.argmax(1)


@pytest.mark.parametrize("penalty", [0.0, 0.01, 1.0])
def test_ridge_is_scikit_learns_on_standardised_states(penalty):
    x, z = values()
    ours = RidgeProbe(penalty=penalty).fit(x, z)
    peer = make_pipeline(StandardScaler(), Ridge(alpha=penalty * len(x))).fit(x, z)
    np.testing.assert_allclose(ours.predict(x), peer.predict(x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_more_coordinates_than_samples_give_the_same_ridge(penalty):
    x, z = values(n=60, d=150)
    ours = RidgeProbe(penalty=penalty).fit(x, z)
    peer = make_pipeline(StandardScaler(), Ridge(alpha=penalty * len(x))).fit(x, z)
    np.testing.assert_allclose(ours.predict(x + 0.1), peer.predict(x + 0.1), rtol=1e-5, atol=1e-5)


def folded(x, z, folds, seed=0):
    """Fits on unions of folds, with rows in the order of the layer."""
    layer = principal(x, grouped_folds(len(x), folds, seed=seed), folds)
    return FoldedRidge(layer, z[layer.order])


@pytest.mark.parametrize("d", [30, 900])
def test_both_solvers_give_scikit_learns_ridge_on_a_union_of_folds(d):
    x, z = values(n=d + 100, d=d)
    fold_of = grouped_folds(len(x), 3, seed=0)
    layer = principal(x, fold_of, 3)
    coef, intercept = RidgeSolver(layer, z[layer.order][:, None]).fit((0, 2), [0.1, 1.0])
    ready = StandardScaler().fit_transform(x)
    inside = fold_of != 1
    for i, penalty in enumerate((0.1, 1.0)):
        peer = Ridge(alpha=penalty * inside.sum()).fit(ready[inside], z[inside])
        ours = layer.x @ coef[i][:, 0] + intercept[i, 0]
        np.testing.assert_allclose(
            ours, peer.predict(ready)[layer.order], rtol=1e-6, atol=1e-8 * np.abs(z).max()
        )
        one = folded(x, z, 3).fit((0, 2), penalty).predict()
        np.testing.assert_allclose(one, ours, rtol=1e-6, atol=1e-8 * np.abs(z).max())


def test_the_adjoint_is_the_derivative_of_the_predictions():
    x, z = values(n=60, d=5)
    ridge = folded(x, z, 3)
    outside = ridge.members[1]
    weights = np.random.default_rng(1).normal(size=(len(outside), 2))
    base = ridge.fit((0, 2), 0.3)
    ridge_moved = folded(x, z, 3)
    ridge_moved.z[base.rows[4], 1] += 1.0
    moved = FoldedRidge(ridge_moved.layer, ridge_moved.z).fit((0, 2), 0.3)
    change = float(np.sum(weights * (moved.predict() - base.predict())[outside]))
    assert base.adjoint(outside, weights)[4, 1] == pytest.approx(change, rel=1e-8)


def test_effective_parameters_of_least_squares_are_counted():
    x, z = values(n=100, d=7)
    ridge = folded(x, z, 4)
    assert ridge.fit((0, 1, 2)).df == 8.0
    assert 1.0 < ridge.fit((0, 1, 2), 10.0).df < 4.0


def test_cross_validation_prefers_a_penalty_where_samples_are_few():
    x, z = values(n=60, d=40, noise=30.0)
    few = RidgeProbe().fit(x, z)
    x, z = values(n=2000, d=40, noise=0.1)
    assert few.penalty_ > RidgeProbe().fit(x, z).penalty_


def test_constant_and_copied_coordinates_do_no_harm():
    x, z = values()
    x = np.concatenate([x, np.full((200, 1), 5.0), x[:, :1]], axis=1)
    assert RidgeProbe(penalty=0.0).fit(x, z).score(x, z) > 0.95


@pytest.mark.parametrize("penalty", [0.01, 0.3])
def test_logistic_is_scikit_learns_up_to_one_sample(penalty):
    x, y = classes()
    ours = LogisticProbe(penalty=penalty).fit(x, y)
    scaled = StandardScaler().fit_transform(x)
    peer = LogisticRegression(C=2 / (penalty * len(x)), tol=1e-8, max_iter=5000).fit(scaled, y)
    assert np.abs(ours.predict_proba(x) - peer.predict_proba(scaled)).max() < 2e-3
    assert ours.converged_


def test_logistic_with_more_coordinates_than_samples():
    x, y = classes(n=80, d=200, k=3)
    ours = LogisticProbe(penalty=0.1).fit(x, y)
    scaled = StandardScaler().fit_transform(x)
    peer = LogisticRegression(C=2 / (0.1 * len(x)), tol=1e-8, max_iter=5000).fit(scaled, y)
    assert np.abs(ours.predict_proba(x) - peer.predict_proba(scaled)).max() < 5e-3


def test_logistic_learns_distributions():
    x, y = classes()
    hard = np.eye(4)[y]
    soft = LogisticProbe(penalty=0.1).fit(x, hard).predict_proba(x)
    np.testing.assert_allclose(soft, LogisticProbe(penalty=0.1).fit(x, y).predict_proba(x))


def test_words_come_back_as_words():
    x, y = classes()
    words = np.array(["cat", "dog", "owl", "yak"])[y]
    probe = LogisticProbe(penalty=0.1).fit(x, words)
    assert set(probe.predict(x)) <= set(words)
    assert probe.score(x, words) > 0.5


def test_they_are_clones_in_pipelines_and_under_cross_validation():
    x, y = classes()
    _, z = values(n=400)
    groups = np.arange(400) // 4
    probe = LogisticProbe(penalty=0.1, seed=3)
    assert clone(probe).get_params() == probe.get_params()
    assert is_classifier(probe)
    assert is_regressor(RidgeProbe())
    line = make_pipeline(StandardScaler(), probe)
    scores = cross_val_score(line, x, y, groups=groups, cv=GroupKFold(4))
    assert scores.mean() > 0.4
    assert cross_val_score(RidgeProbe(penalty=1.0), z[:, :1], z[:, 1]).shape == (5,)


@pytest.mark.parametrize(
    ("probe", "x", "y", "sentence"),
    [
        (LogisticProbe(), np.ones((9, 2)), np.zeros(9, dtype=int), "one class"),
        (LogisticProbe(), np.ones((9, 2)), np.arange(8), "8 rows for 9 samples"),
        (LogisticProbe(), np.ones((9, 2)), np.linspace(0, 1, 9), "RidgeProbe"),
        (LogisticProbe(penalty=0), np.ones((9, 2)), np.arange(9) % 2, "no fit"),
        (RidgeProbe(), np.ones((9, 2)), np.array(list("aabbccdde")), "LogisticProbe"),
        (RidgeProbe(), np.ones((9, 2)), None, "y is None"),
        (RidgeProbe(), np.ones(9), np.arange(9.0), "Reshape your data"),
        (RidgeProbe(), np.ones((9, 2)), np.r_[np.nan, np.arange(8.0)], "1 NaN"),
        (RidgeProbe(), np.ones((9, 2)), np.ones(9), "same value"),
        (RidgeProbe(penalty=-1), np.ones((9, 2)), np.arange(9.0), "penalty"),
        (RidgeProbe(), np.ones((3, 2)), np.arange(3.0), "3 samples for 5 folds"),
    ],
)
def test_bad_input_gets_one_sentence(probe, x, y, sentence):
    with pytest.raises(InputError, match=sentence):
        probe.fit(x, y)


def test_using_a_probe_before_or_beside_its_states_is_said():
    with pytest.raises(InputError, match="not fitted"):
        RidgeProbe().predict(np.ones((3, 2)))
    x, z = values()
    with pytest.raises(InputError, match="8"):
        RidgeProbe(penalty=1.0).fit(x, z).predict(x[:, :3])
    with pytest.raises(InputError, match="no option 'alpha'"):
        RidgeProbe().set_params(alpha=1)


def test_wide_states_are_fitted_in_single_precision_and_agree():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1300, 1100)) + 50.0
    z = x[:, :2] + rng.normal(size=(1300, 2))
    y = (z[:, 0] > 50).astype(int)
    scaled = StandardScaler().fit_transform(x)
    ridge = Ridge(alpha=0.1 * len(x)).fit(scaled, z)
    ours = RidgeProbe(penalty=0.1).fit(x.astype(np.float32), z)
    np.testing.assert_allclose(ours.predict(x), ridge.predict(scaled), atol=2e-3)
    logistic = LogisticRegression(C=4 / len(x), tol=1e-8, max_iter=5000).fit(scaled, y)
    proba = LogisticProbe(penalty=1.0).fit(x.astype(np.float32), y).predict_proba(x)
    assert np.abs(proba - logistic.predict_proba(scaled)).max() < 5e-3


# What scikit-learn's own checks ask that probes do not do; docs/probes.md has the reasons.
OWN_WORDS = {
    "check_n_features_in_after_fitting",
    "check_complex_data",
    "check_dtype_object",
    "check_estimators_empty_data_messages",
    "check_estimators_nan_inf",
    "check_classifiers_regression_target",
    "check_regressor_data_not_an_array",
    "check_classifier_data_not_an_array",
    "check_classifiers_one_label",
    "check_supervised_y_2d",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("probe", [RidgeProbe(), LogisticProbe()])
def test_scikit_learns_own_checks_pass_but_for_the_words_of_errors(probe):
    found = check_estimator(probe, on_fail=None, on_skip=None)
    failed = {check["check_name"] for check in found if check["status"] == "failed"}
    assert failed <= OWN_WORDS
    assert sum(check["status"] == "passed" for check in found) >= 44


def test_one_sample_can_be_predicted():
    x, y = classes()
    probe = LogisticProbe(penalty=0.1).fit(x, y)
    np.testing.assert_allclose(probe.predict_proba(x[:1]), probe.predict_proba(x)[:1], atol=1e-12)
    assert probe.predict([list(x[0])]).shape == (1,)
