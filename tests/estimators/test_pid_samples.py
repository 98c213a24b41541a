"""PID from samples: coverage of the errors, the synergy bracket, quantisers, controls, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import InputError
from estimators._resample import group_permutations
from estimators.broja import broja_pid
from estimators.pid_samples import pid_from_samples

LN2 = np.log(2.0)


def draw(p: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    cells = rng.choice(p.size, size=n, p=p.ravel())
    return np.unravel_index(cells, p.shape)


def truth(seed: int = 0, shape=(3, 4, 4)) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(int(np.prod(shape)), 0.3)).reshape(shape)


def layers(n: int, seed: int = 0, dimension: int = 6):
    """An invertible layer: y holds exactly what x holds, in other coordinates."""
    rng = np.random.default_rng(seed)
    z = rng.integers(4, size=n)
    x = 1.2 * rng.normal(size=(4, dimension))[z] + rng.normal(size=(n, dimension))
    rotation, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
    return z, x, x @ rotation


def test_many_samples_find_the_truth():
    p = truth()
    exact = broja_pid(p)
    pid = broja_pid(samples=draw(p, 200_000, np.random.default_rng(1)))
    for atom in ("redundant", "unique_x", "unique_y", "synergistic"):
        assert abs(getattr(pid, atom) - getattr(exact, atom)) < 5 * pid.se[atom] + 1e-3
    assert pid.n == 200_000
    assert pid.params["alphabets"] == p.shape


THREE = ("redundant", "unique_x", "unique_y")


def coverage(p: np.ndarray, runs: int, n: int, **options) -> dict[str, float]:
    """How often intervals hold the truth; "bracket": widened by two standard errors."""
    exact = broja_pid(p)
    hits = dict.fromkeys((*THREE, "synergistic", "bracket"), 0)
    for run in range(runs):
        sample = draw(p, n, np.random.default_rng(100 + run))
        pid = pid_from_samples(*sample, control=False, **options)
        for atom in (*THREE, "synergistic"):
            interval = pid.confidence(atom)
            hits[atom] += interval.low <= getattr(exact, atom) <= interval.high
        low, high = pid.synergy_bracket
        wide = 2 * pid.se["synergistic"]
        hits["bracket"] += low - wide <= exact.synergistic <= high + wide
    return {atom: hit / runs for atom, hit in hits.items()}


def test_errors_from_the_dual_cover():
    found = coverage(truth(), 40, 5000, bias="none")
    assert min(found[atom] for atom in THREE) >= 0.85


@pytest.mark.slow
def test_errors_from_the_dual_cover_at_their_level():
    found = coverage(truth(), 300, 10_000, bias="none")
    assert min(found[atom] for atom in THREE) >= 0.90
    assert max(found[atom] for atom in THREE) <= 0.995


def similar_layers() -> np.ndarray:
    """Y is X four times in five, and a noisy symbol otherwise: nothing unique to Y, no synergy."""
    rng = np.random.default_rng(0)
    p_zx = rng.dirichlet(np.full(96, 0.5)).reshape(6, 16)
    return p_zx[:, :, None] * (0.8 * np.eye(16) + 0.2 * rng.dirichlet(np.full(16, 0.5), 16))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["sparse", "dense", "similar layers"])
def test_intervals_cover_at_their_level(case):
    """6 x 16 x 16 symbols, 20,000 samples: what plug-in intervals miss by is bias, not error."""
    p = {
        "sparse": truth(0, (6, 16, 16)),
        "dense": np.random.default_rng(0).dirichlet(np.ones(6 * 16 * 16)).reshape(6, 16, 16),
        "similar layers": similar_layers(),
    }[case]
    plain = coverage(p, 200, 20_000, bias="none")
    found = coverage(p, 200, 20_000)
    assert min(found[atom] for atom in THREE) >= 0.90
    assert min(plain[atom] for atom in THREE) >= 0.75
    assert plain["synergistic"] <= 0.05 < 0.90 <= found["bracket"]


@pytest.mark.slow
def test_standard_errors_match_repeated_samples():
    p = truth(0, (6, 16, 16))
    runs = [
        pid_from_samples(*draw(p, 20_000, np.random.default_rng(s)), control=False, bias="none")
        for s in range(150)
    ]
    for atom in (*THREE, "synergistic"):
        spread = np.std([getattr(pid, atom) for pid in runs], ddof=1)
        assert np.mean([pid.se[atom] for pid in runs]) == pytest.approx(spread, rel=0.15)


def test_intervals_reach_from_plug_in_to_extrapolated():
    sample = draw(truth(3, (4, 8, 8)), 5000, np.random.default_rng(0))
    pid = pid_from_samples(*sample, control=False)
    linear = pid_from_samples(*sample, control=False, bias="linear")
    assert pid.params["bias"] == "none"
    for atom in THREE:
        interval = pid.confidence(atom)
        assert pid.alternative[atom] == pytest.approx(getattr(linear, atom), abs=1e-12)
        for value in (getattr(pid, atom), getattr(linear, atom)):
            assert interval.low + 1.9 * pid.se[atom] < value < interval.high - 1.9 * pid.se[atom]
    bits = pid.to("bits").confidence("redundant")
    assert bits.low == pytest.approx(pid.confidence("redundant").low / LN2)
    assert linear.alternative is None
    with pytest.raises(InputError, match="level is 95"):
        pid.confidence("redundant", 95)


def test_groups_widen_the_errors():
    """Samples repeated within groups carry no news: the error follows the groups."""
    z, x, y = draw(truth(), 1000, np.random.default_rng(0))
    alone = pid_from_samples(z, x, y, bias="none")
    four = [np.repeat(v, 4) for v in (z, x, y)]
    naive = pid_from_samples(*four, bias="none")
    grouped = pid_from_samples(*four, groups=np.repeat(np.arange(1000), 4), bias="none")
    assert naive.se["redundant"] == pytest.approx(alone.se["redundant"] / 2, rel=0.01)
    assert grouped.se["redundant"] == pytest.approx(alone.se["redundant"], rel=0.01)
    assert grouped.params["n_groups"] == 1000


@pytest.mark.parametrize("n", [1000, 10_000])
def test_the_bracket_holds_the_synergy(n):
    p = truth(3, (6, 10, 10))
    exact = broja_pid(p).synergistic
    low, high = pid_from_samples(*draw(p, n, np.random.default_rng(2)), bias="none").synergy_bracket
    assert low < exact < high


def test_extrapolation_removes_bias():
    p = truth(3, (4, 8, 8))
    exact = broja_pid(p).redundant
    errors = {"none": 0.0, "linear": 0.0, "quadratic": 0.0}
    for seed in range(8):
        sample = draw(p, 800, np.random.default_rng(seed))
        for bias in errors:
            errors[bias] += pid_from_samples(*sample, bias=bias, control=False).redundant - exact
    assert abs(errors["linear"]) < 0.5 * abs(errors["none"])
    assert abs(errors["quadratic"]) < abs(errors["none"])


def test_sum_rules_hold_after_extrapolation():
    pid = pid_from_samples(*draw(truth(), 900, np.random.default_rng(0)))
    assert pid.params["bias"] == "linear"
    assert abs(pid.redundant + pid.unique_x - pid.information_x) < 1e-12
    assert abs(pid.redundant + pid.unique_y - pid.information_y) < 1e-12
    total = pid.redundant + pid.unique_x + pid.unique_y + pid.synergistic
    assert abs(total - pid.information_xy) < 1e-12


def test_too_few_samples_withhold_the_synergy():
    rng = np.random.default_rng(0)
    pid = pid_from_samples(*rng.integers(8, size=(3, 300)))
    assert pid.synergistic is None
    assert pid.synergy_bracket is not None
    assert "synergy-withheld" in {d.code for d in pid.diagnostics}
    with pytest.raises(InputError, match="synergy_bracket"):
        pid.interval("synergistic")
    some = pid_from_samples(*rng.integers(4, size=(3, 100)))
    assert "few-samples-per-cell" in {d.code for d in some.diagnostics}


def test_independent_samples_fail_the_control():
    rng = np.random.default_rng(0)
    pid = pid_from_samples(rng.integers(3, size=400), *rng.integers(9, size=(2, 400)), bias="none")
    assert "control" in {d.code for d in pid.diagnostics}
    z = rng.integers(3, size=4000)
    assert "control" not in {d.code for d in pid_from_samples(z, z, z).diagnostics}


@pytest.mark.parametrize("target", ["of the position", "of the image"])
def test_the_control_finds_nothing_whatever_the_target_hangs_on(target):
    """Exchanging whole images leaves a target of the position as it is: that control was void."""
    rng = np.random.default_rng(0)
    image, position = np.divmod(np.arange(12_000), 12)
    if target == "of the position":
        z = position // 6
        scheme = "labels turned within groups"
    else:
        z = rng.integers(2, size=1000)[image]
        scheme = "groups exchanged"
    x, y = (np.where(rng.random(12_000) < 0.1, 1 - z, z) for _ in range(2))
    pid = pid_from_samples(z, x, y, groups=image)
    assert pid.redundant > 0.3
    assert pid.params["control_scheme"] == scheme
    assert max(pid.params["control"].values()) < 0.01
    assert "control" not in {d.code for d in pid.diagnostics}
    void = z[next(group_permutations(len(z), image, 1, seed=1))]
    assert np.array_equal(void, z) == (target == "of the position")


def test_prediction_sees_through_a_rotation_and_k_means_does_not():
    z, x, y = layers(6000)
    seen = pid_from_samples(z, x, y, n_states=16)
    blind = pid_from_samples(z, x, y, n_states=16, quantiser="kmeans")
    assert seen.redundant > 1.2 * blind.redundant
    assert seen.unique_x + seen.unique_y < 0.15 * seen.redundant
    assert seen.params["retained_x"] > 0.9
    assert seen.n == 3000


def test_a_coarse_quantiser_is_reported():
    z, x, y = layers(3000)
    pid = pid_from_samples(z, x, y, n_states=2)
    assert {d.code for d in pid.diagnostics} >= {"lossy-quantiser"}


def test_a_source_that_knows_nothing_has_no_unique_part():
    z, x, _ = layers(4000)
    noise = np.random.default_rng(5).normal(size=(4000, 3))
    pid = pid_from_samples(z, x, noise).to("bits")
    assert pid.unique_x > 10 * abs(pid.redundant)
    assert abs(pid.unique_y) < 0.02


@pytest.mark.parametrize("quantiser", ["prediction", "kmeans", "pq"])
def test_the_same_seed_gives_the_same_numbers(quantiser):
    z, x, y = layers(1200)
    first = pid_from_samples(z, x, y, quantiser=quantiser, groups=np.arange(1200) // 3, seed=4)
    again = pid_from_samples(z, x, y, quantiser=quantiser, groups=np.arange(1200) // 3, seed=4)
    assert repr(first) == repr(again)
    assert first.se == again.se
    assert first.certified


def test_a_continuous_target_is_put_into_states():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2))
    pid = pid_from_samples(x[:, 0], x, x[:, :1])
    assert pid.params["alphabets"][0] == 8
    assert pid.redundant > 0.5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pid_from_samples([0, 1], [0, 1, 1], [0, 1, 1]), "2"),
        (lambda: pid_from_samples([], [], []), "shape|empty|0 samples"),
        (lambda: pid_from_samples([0, 1], [0.5, 1.5], [0, 1]), "floating point states"),
        (lambda: pid_from_samples([0, 1], [0, 1], [0, 1], bias="cubic"), "bias is 'cubic'"),
        (
            lambda: pid_from_samples(np.arange(4) % 2, np.eye(4), np.eye(4)),
            "cannot be split",
        ),
        (
            lambda: pid_from_samples(*layers(100)[:2], np.full((100, 2), np.nan)),
            "NaN|nan",
        ),
        (lambda: pid_from_samples(*layers(100), quantiser="magic"), "quantiser is 'magic'"),
        (lambda: pid_from_samples(*layers(100), n_states=1), "n_states is 1"),
        (lambda: broja_pid(samples=(np.arange(3),) * 2), r"tuple of three, \(z, x, y\)"),
        (lambda: broja_pid(samples=np.arange(3)), r"tuple of three"),
        (
            lambda: pid_from_samples(*(np.arange(5000),) * 3),
            "5000 x 5000 x 5000 cells .* need .* GiB",
        ),
        (
            lambda: pid_from_samples([0.5, np.nan, 1.0], [0, 1, 1], [0, 1, 1]),
            "^z .*1 NaN and 0 infinite",
        ),
        (lambda: broja_pid(samples=(np.zeros(3, int),) * 3, p=np.ones((1, 1, 1))), "exactly one"),
    ],
)
def test_bad_samples_are_one_clear_sentence(call, words):
    with pytest.raises(InputError, match=words):
        call()
