"""BROJA: closed forms first, then what must hold of every answer, then bad input."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import xlogy

from estimators import InputError
from estimators.broja import PID, broja_pid, broja_pid_many, verify_certificate
from tests.estimators.pid_problems import gate, near_copy, random_pmf

VECTORS = Path(__file__).parent.parent / "vectors" / "pid.json"
DOCS = Path(__file__).parents[2] / "docs" / "pid.md"
LN2 = np.log(2.0)
UNIFORM = np.full((2, 2), 0.25)
FOUR = np.full((4, 4), 1 / 16)
DIAGONAL = np.eye(2) / 2
# RDNXOR and RDNUNQXOR: a shared bit r, and bits of their own.
SHARED_BIT = np.kron(np.eye(2), np.ones((2, 2))) / 8
SHARED_AND_OWN = np.kron(np.eye(2), np.ones((4, 4))) / 32


def atoms(pid: PID) -> np.ndarray:
    return np.array([pid.redundant, pid.unique_x, pid.unique_y, pid.synergistic])


def information(p: np.ndarray) -> float:
    """I(first axis; the other axes) in nats, written another way than the package's."""
    p = p.reshape(len(p), -1)
    return float(
        xlogy(p, p).sum() - xlogy(p.sum(0), p.sum(0)).sum() - xlogy(p.sum(1), p.sum(1)).sum()
    )


def assert_sound(pid: PID, p: np.ndarray) -> None:
    """Certified, and the certificate, the sum rules and the elementary bounds hold."""
    a, b = p.sum(axis=2), p.sum(axis=1)
    assert pid.certified
    low, high = verify_certificate(pid, a, b)
    assert -1e-12 < high - low < 1e-6 * LN2
    assert abs(pid.redundant + pid.unique_x - information(a)) < 1e-12
    assert abs(pid.redundant + pid.unique_y - information(b)) < 1e-12
    assert abs(atoms(pid).sum() - information(p)) < 1e-12
    assert atoms(pid).min() > -pid.gap - 1e-12
    slack = pid.gap + 1e-12
    assert pid.unique_x > information(a) - information(b) - slack
    assert pid.unique_x < min(information(a), information(p) - information(b)) + slack
    for atom in ("redundant", "unique_x", "unique_y", "synergistic"):
        inner, outer = pid.interval(atom)
        assert inner - 1e-15 <= getattr(pid, atom) <= outer + 1e-15
        assert outer - inner <= pid.gap + 1e-15


GATES = {
    "AND": (gate(lambda x, y: x & y, UNIFORM), [0.311278124459133, 0, 0, 0.5]),
    "XOR": (gate(lambda x, y: x ^ y, UNIFORM), [0, 0, 0, 1]),
    "SUM": (gate(lambda x, y: x + y, UNIFORM), [0.5, 0, 0, 1]),
    "XORAND": (gate(lambda x, y: (x ^ y, x & y), UNIFORM), [0.5, 0, 0, 1]),
    "RDN": (gate(lambda x, y: x, DIAGONAL), [1, 0, 0, 0]),
    "COPY": (gate(lambda x, y: (x, y), UNIFORM), [0, 1, 1, 0]),
    "RDNXOR": (gate(lambda x, y: (x // 2, x % 2 ^ y % 2), SHARED_BIT), [1, 0, 0, 1]),
    "RDNUNQXOR": (
        gate(lambda x, y: (x // 4, x // 2 % 2, y // 2 % 2, x % 2 ^ y % 2), SHARED_AND_OWN),
        [1, 1, 1, 1],
    ),
    "modulo sum of 16": (
        gate(lambda x, y: (x + y) % 16, np.full((16, 16), 1 / 256)),
        [0, 0, 0, 4],
    ),
    "target is both sources": (
        gate(lambda x, y: (x, y), np.full((16, 16), 1 / 256)),
        [0, 4, 4, 0],
    ),
}


@pytest.mark.parametrize("name", GATES)
def test_gates_have_their_known_atoms(name):
    p, expected = GATES[name]
    pid = broja_pid(p).to("bits")
    assert np.abs(atoms(pid) - expected).max() < 1e-7
    assert pid.certified


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["cases"], ids=lambda c: c["name"])
def test_published_vectors(case):
    expected = [case["expected"][k] for k in ("red", "unq_x", "unq_y", "syn")]
    pid = broja_pid(np.array(case["P_zxy"]))
    assert np.abs(atoms(pid) - expected).max() < 1e-7 * LN2


@pytest.mark.parametrize("seed", range(5))
def test_a_garbled_source_has_nothing_of_its_own(seed):
    """Y a degraded copy of X: unique_y = 0, redundant = I(Z;Y), synergy by subtraction."""
    rng = np.random.default_rng(seed)
    p_zx = rng.dirichlet(np.ones(30)).reshape(5, 6)
    p = p_zx[:, :, None] * rng.dirichlet(np.full(4, 0.3), 6)
    pid = broja_pid(p)
    i_x, i_y = information(p.sum(axis=2)), information(p.sum(axis=1))
    assert np.abs(atoms(pid) - [i_y, i_x - i_y, 0, information(p) - i_x]).max() < 1e-7 * LN2


def test_garbling_fixes_the_atoms_whatever_the_coupling():
    rng = np.random.default_rng(3)
    p_zx = rng.dirichlet(np.ones(20)).reshape(4, 5)
    p_zy = p_zx @ rng.dirichlet(np.ones(3), 5)
    p = p_zx[:, :, None] * p_zy[:, None, :] / p_zx.sum(axis=1)[:, None, None]
    i_x, i_y = information(p_zx), information(p_zy)
    expected = [i_y, i_x - i_y, 0, information(p) - i_x]
    assert np.abs(atoms(broja_pid(p)) - expected).max() < 1e-7 * LN2


def test_equal_tables_leave_nothing_unique():
    table = np.random.default_rng(1).dirichlet(np.ones(24)).reshape(4, 6)
    pid = broja_pid(p_zx=table, p_zy=table[:, ::-1])
    assert max(abs(pid.unique_x), abs(pid.unique_y)) < 1e-7 * LN2


def test_a_source_computed_from_the_target_leaves_no_synergy():
    rng = np.random.default_rng(2)
    p = np.zeros((6, 3, 5))
    p[np.arange(6), np.arange(6) % 3] = rng.dirichlet(np.ones(30)).reshape(6, 5)
    assert abs(broja_pid(p).synergistic) < 1e-7 * LN2


def test_target_equal_to_a_source():
    """Lemma 5: unique_x = H(X|Y), no synergy."""
    p_xy = np.random.default_rng(4).dirichlet(np.ones(42)).reshape(6, 7)
    p = np.zeros((6, 6, 7))
    p[np.arange(6), np.arange(6)] = p_xy
    pid = broja_pid(p)
    h_x_given_y = -float((xlogy(p_xy, p_xy / p_xy.sum(axis=0))).sum())
    assert abs(pid.unique_x - h_x_given_y) < 1e-10
    assert abs(pid.synergistic) < 1e-10
    assert pid.params["pairs"] == 0


def test_erasure_against_symmetric_channel():
    """BEC(e) against BSC(p): the symmetric channel has a unique part only if e > 2p."""
    for e, flip, none in ((0.2, 0.1, True), (0.15, 0.1, True), (0.35, 0.1, False)):
        bsc = 0.5 * np.array([[1 - flip, flip], [flip, 1 - flip]])
        bec = 0.5 * np.array([[1 - e, 0, e], [0, 1 - e, e]])
        unique = broja_pid(p_zx=bsc, p_zy=bec).to("bits").unique_x
        assert (abs(unique) < 1e-7) if none else (unique > 1e-3)


@pytest.mark.parametrize("flip", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_near_copies(flip):
    """Adjacent layers: Y a slightly noisy X, so redundant = I(Z;Y) and unique_y = 0."""
    p = near_copy(flip)
    pid = broja_pid(p)
    assert_sound(pid, p)
    i_x, i_y = information(p.sum(axis=2)), information(p.sum(axis=1))
    assert np.abs(atoms(pid)[:3] - [i_y, i_x - i_y, 0]).max() < 1e-7 * LN2


def test_near_copies_of_a_wide_target_do_not_creep():
    """The first attempt loses its way here; the second, patient one needs few iterations."""
    p = near_copy(1e-6, 64, 24)
    pid = broja_pid(p)
    assert pid.certified
    assert pid.params["iterations"] <= 90
    assert abs(pid.unique_y) < 1e-7 * LN2


@pytest.mark.parametrize("seed", range(64))
def test_random_distributions_are_certified(seed):
    _, p = random_pmf(seed)
    assert_sound(broja_pid(p), p)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_a_thousand_random_distributions_are_certified(block):
    for seed in range(100 + 50 * block, 150 + 50 * block):
        _, p = random_pmf(seed, largest=64 if seed % 10 == 0 else 20)
        pid = broja_pid(p)
        assert_sound(pid, p)


@pytest.mark.slow
def test_large_sparse_empirical_table():
    rng = np.random.default_rng(0)
    z, x = rng.integers(10, size=5000), rng.integers(256, size=5000)
    y = np.where(rng.random(5000) < 0.9, x, rng.integers(256, size=5000))
    p = np.zeros((10, 256, 256))
    np.add.at(p, ((z + x) % 10, x, y), 1 / 5000)
    assert_sound(broja_pid(p), p)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_invariance(seed):
    """Relabelling changes nothing; exchanging the sources exchanges their unique parts."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 6, size=3))
    p = rng.dirichlet(np.full(int(np.prod(shape)), 0.5)).reshape(shape)
    pid = broja_pid(p)
    order = [rng.permutation(n) for n in shape]
    relabelled = broja_pid(p[np.ix_(*order)])
    assert np.abs(atoms(relabelled) - atoms(pid)).max() < 1e-8
    exchanged = broja_pid(np.swapaxes(p, 1, 2))
    assert np.abs(atoms(exchanged)[[0, 2, 1, 3]] - atoms(pid)).max() < 1e-8
    split = np.concatenate([0.3 * p, 0.7 * p], axis=1)
    assert np.abs(atoms(broja_pid(split)) - atoms(pid)).max() < 1e-8


def test_the_certificate_by_hand():
    """The documentation's ten lines, which share no code with the package."""
    p = np.random.default_rng(0).dirichlet(np.ones(60)).reshape(3, 4, 5)
    p_zx, p_zy = p.sum(axis=2), p.sum(axis=1)
    pid = broja_pid(p)
    block = next(b for b in DOCS.read_text().split("```") if "logsumexp" in b)
    names = {"np": np, "pid": pid, "p_zx": p_zx, "p_zy": p_zy}
    exec(block.removeprefix("python"), names)
    q, lower, upper = (names[name] for name in ("q", "lower", "upper"))
    assert np.abs(q.sum(axis=2) - p_zx).max() < 1e-15
    assert 0 <= upper - lower < 1e-9
    assert np.allclose(verify_certificate(pid, p_zx, p_zy), (lower, upper), atol=1e-12)
    assert lower - 1e-12 <= pid.bounds[0] <= pid.bounds[1] <= upper + 1e-12


def test_a_wrong_answer_is_not_certified():
    """Negative control: spoil the dual or the coupling and the certificate opens."""
    _, p = random_pmf(0)
    a, b = p.sum(axis=2), p.sum(axis=1)
    pid = broja_pid(p)
    low, high = verify_certificate(pid, a, b)
    rng = np.random.default_rng(0)
    lam, mu = pid.dual
    noisy_dual = PID(**{**_fields(pid), "dual": (lam + 0.1 * rng.normal(size=lam.shape), mu)})
    assert verify_certificate(noisy_dual, a, b)[0] < low - 1e-4
    independent = a[:, :, None] * b[:, None, :] / a.sum(axis=1)[:, None, None]
    assert verify_certificate(PID(**{**_fields(pid), "coupling": independent}), a, b)[1] > high
    assert verify_certificate(pid, a[:, ::-1], b)[1] > high + 1e-6


def _fields(pid: PID) -> dict:
    return {name: getattr(pid, name) for name in pid.__dataclass_fields__}


def test_an_impossible_tolerance_is_reported_not_hidden():
    _, p = random_pmf(0)
    pid = broja_pid(p, tol=1e-18)
    assert pid.status == "uncertified"
    assert not pid.trustworthy
    assert [d.code for d in pid.diagnostics] == ["uncertified"]
    low, high = pid.interval("redundant")
    exact = broja_pid(p).redundant
    assert low - 1e-9 <= exact <= high + 1e-9


def test_marginals_determine_all_but_the_synergy():
    p = random_pmf(0)[1]
    whole, part = broja_pid(p), broja_pid(p_zx=p.sum(axis=2), p_zy=p.sum(axis=1))
    assert part.synergistic is None
    assert part.information_xy is None
    assert np.abs(atoms(whole)[:3] - [part.redundant, part.unique_x, part.unique_y]).max() < 1e-9
    with pytest.raises(InputError, match="joint"):
        part.interval("synergistic")
    assert "synergistic unknown" in str(part.to("bits"))


def test_units_and_representation():
    p = GATES["AND"][0]
    pid = broja_pid(p)
    bits = pid.to("bits")
    assert bits.unit == "bits"
    assert bits.redundant == pytest.approx(pid.redundant / LN2, rel=1e-15)
    assert bits.to("nats").gap == pytest.approx(pid.gap)
    assert "target Z (axis 0)" in repr(pid)
    assert "in nats" in repr(pid)
    assert "-0.000000" not in repr(pid)
    with pytest.raises(InputError, match="bans"):
        pid.to("bans")
    with pytest.raises(InputError, match="redundancy"):
        pid.interval("redundancy")
    again = pickle.loads(pickle.dumps(bits))
    assert repr(again) == repr(bits)


def test_many_at_once_equal_one_by_one(monkeypatch):
    problems = [random_pmf(seed)[1] for seed in range(4)]
    one_by_one = [atoms(broja_pid(p)) for p in problems]
    for threads_up_to in (4, 1):
        # Above the limit they are processes.
        monkeypatch.setattr("estimators.broja._THREADS_UP_TO", threads_up_to)
        together = [atoms(pid) for pid in broja_pid_many(problems, n_jobs=2)]
        assert np.abs(np.array(together) - one_by_one).max() < 1e-9
    p = problems[0]
    (pair,) = broja_pid_many([(p.sum(axis=2), p.sum(axis=1))])
    assert pair.redundant == pytest.approx(one_by_one[0][0], abs=1e-9)


def test_many_at_once_name_the_bad_one():
    good = random_pmf(0)[1]
    with pytest.raises(InputError, match="problem 1: p sums to 2"):
        broja_pid_many([good, 2 * good, good])
    with pytest.raises(InputError, match=r"problem 0: a tuple of 3"):
        broja_pid_many([tuple(good)[:1] * 3])
    with pytest.raises(InputError, match="tol is -1"):
        broja_pid_many([good], tol=-1)
    assert broja_pid_many([]) == []


GOOD = np.full((2, 2, 2), 1 / 8)


def _with(value: float) -> np.ndarray:
    p = GOOD.copy()
    p[1, 0, 1] = value
    return p


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: broja_pid(_with(-0.1)), r"negative entries, the first p\[1, 0, 1\] = -0.1"),
        (lambda: broja_pid(_with(np.nan)), r"1 NaN or infinite entries, the first at p\[1, 0, 1\]"),
        (lambda: broja_pid(GOOD * 8), r"sums to 8, \+7 off 1"),
        (lambda: broja_pid(GOOD * (1 + 1e-8)), r"1e-08 off 1"),
        (lambda: broja_pid(GOOD[0] * 2), r"2 axes of shape \(2, 2\)"),
        (lambda: broja_pid(np.zeros((0, 2, 2))), "at least one symbol"),
        (lambda: broja_pid([["a"]]), "dtype <U1"),
        (lambda: broja_pid(GOOD * 1j), "dtype complex128"),
        (lambda: broja_pid(), "exactly one of"),
        (lambda: broja_pid(GOOD, p_zx=GOOD[0]), "exactly one of"),
        (lambda: broja_pid(p_zx=GOOD.sum(axis=2)), "p_zy is missing"),
        (lambda: broja_pid(GOOD, tol=0.0), "tol is 0.0"),
        (lambda: broja_pid(GOOD, n_states=3), "n_states"),
        (
            lambda: broja_pid(p_zx=[[0.5, 0.1], [0.2, 0.2]], p_zy=[[0.5], [0.5]]),
            r"disagree on P\(z\): 0.6 against 0.5 at z = 0",
        ),
        (lambda: broja_pid(p_zx=np.full((2, 2), 0.25), p_zy=np.ones((1, 1))), "target symbols"),
        (
            lambda: broja_pid(
                p_zx=np.full((20, 4000), 1 / 80000), p_zy=np.full((20, 4000), 1 / 80000)
            ),
            "GiB",
        ),
    ],
)
def test_bad_input_is_one_clear_sentence(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 5), (3, 1, 4), (3, 4, 1), (5, 1, 1)])
def test_single_symbols(shape):
    p = np.random.default_rng(0).dirichlet(np.ones(int(np.prod(shape)))).reshape(shape)
    pid = broja_pid(p)
    assert_sound(pid, p)
    assert pid.unique_x == pytest.approx(information(p.sum(axis=2)), abs=1e-12)
    assert pid.unique_y == pytest.approx(information(p.sum(axis=1)), abs=1e-12)


@pytest.mark.parametrize("kind", ["cells", "pairs"])
def test_both_factorisations_solve_the_same_system(kind):
    from estimators import _broja_linear as linear
    from estimators._broja_presolve import presolve

    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(180)).reshape(5, 6, 6)
    program, _ = presolve(p.sum(axis=2), p.sum(axis=1))
    weights = rng.random(len(program.ia))
    weights /= program.to_pairs(weights)[program.pair]
    nu = rng.random(program.n_pairs)
    c = nu * (1 / rng.uniform(0.01, 2.0, size=len(nu)) - 1)
    assert (c < 0).any()
    matrix = (linear.CellMatrix if kind == "cells" else linear.PairMatrix)(program)
    assert matrix.factor(weights, nu, c)
    wanted = rng.normal(size=len(program.a)), rng.normal(size=len(program.b))

    def times(da, db):
        u = da[program.ia] + db[program.ib]
        along = program.to_pairs(weights * u)
        return program.to_cells(weights * ((nu[program.pair]) * u + (c * along)[program.pair]))

    right = times(*wanted)
    left = times(*matrix.solve(*right))
    assert max(np.abs(a - b).max() for a, b in zip(left, right, strict=True)) < 1e-9


def newton_system(shape, seed, absent=0.0):
    """A program with weights as the iteration would have them, and a right-hand side."""
    from estimators._broja_presolve import presolve

    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(int(np.prod(shape)))).reshape(shape)
    p_zx, p_zy = p.sum(axis=2), p.sum(axis=1)
    holes = rng.random(p_zx.shape) < absent
    # A hole closed in one row opens room in another: sums over z must stay equal.
    p_zx = np.where(holes, 0.0, p_zx)
    p_zy *= (p_zx.sum(axis=1) / p_zy.sum(axis=1))[:, None]
    program, _ = presolve(p_zx, p_zy)
    weights = rng.random(len(program.ia))
    weights /= program.to_pairs(weights)[program.pair]
    right = program.to_cells(rng.normal(size=len(program.ia)))
    return program, weights, rng, right


@pytest.mark.parametrize("absent", [0.0, 0.3])
def test_pairs_that_hardly_count_are_left_to_the_refinement(absent):
    """Near the solution most constraints are not active; the answer is that of all of them."""
    from estimators import _broja_linear as linear

    program, weights, rng, right = newton_system((7, 9, 8), 1, absent)
    slack = 10.0 ** rng.uniform(-6, 0, size=program.n_pairs)
    nu = 1e-6 / slack
    c = nu * (1 / slack - 1)
    matrix = linear.PairMatrix(program)
    assert matrix.factor(weights, nu, c)
    assert 0 < len(matrix.active) < 0.8 * program.n_pairs
    assert len(matrix.gram) == len(matrix.active)
    left = matrix._times(*matrix.solve(*right))
    scale = max(np.abs(r).max() for r in right)
    assert max(np.abs(a - b).max() for a, b in zip(left, right, strict=True)) < 1e-9 * scale


@pytest.mark.parametrize("absent", [0.0, 0.4])
def test_the_pair_matrix_is_what_it_says(absent):
    """I + U^T L^+ U, L the slices, entry by entry, by dense algebra."""
    from estimators import _broja_linear as linear

    program, weights, rng, _ = newton_system((4, 6, 5), 2, absent)
    nu = rng.random(program.n_pairs) + 0.1
    c = nu * 10.0 ** rng.uniform(0, 2, size=len(nu))
    matrix = linear.PairMatrix(program)
    assert matrix.factor(weights, nu, c)
    n_a, n = len(program.a), len(program.a) + len(program.b)
    cells = np.stack([program.ia, n_a + program.ib])
    slices, u = np.zeros((n, n)), np.zeros((n, program.n_pairs))
    for t, (i, j) in enumerate(cells.T):
        mass = nu[program.pair[t]] * weights[t]
        slices[np.ix_([i, j], [i, j])] += mass
        u[[i, j], program.pair[t]] += np.sqrt(c[program.pair[t]]) * weights[t]
    dense = np.eye(program.n_pairs) + u.T @ np.linalg.pinv(slices, hermitian=True) @ u
    active = matrix.active
    np.testing.assert_allclose(matrix.diagonal, np.diag(dense) - 1, rtol=1e-8)
    # `factor` left the Cholesky factor in the lower triangle.
    lower = np.tril(matrix.gram)
    np.testing.assert_allclose(lower @ lower.T, dense[np.ix_(active, active)], rtol=1e-8)


def test_a_factorisation_tried_again_begins_with_the_same_matrix(monkeypatch):
    from estimators import _broja_linear as linear

    program, weights, rng, right = newton_system((4, 6, 5), 3)
    nu = rng.random(program.n_pairs) + 0.1
    fails = [True]
    real = linear.cholesky

    def cholesky(a, **how):
        done = real(a, **how)
        return done and not (fails and fails.pop())

    monkeypatch.setattr(linear, "cholesky", cholesky)
    matrix = linear.CellMatrix(program)
    answers = []
    for again in (True, True):  # assembled again, then copied
        fails[:] = [again]
        assert matrix.factor(weights, nu, nu)
        assert not fails
        answers.append(np.concatenate(matrix.solve(*right)))
    assert matrix.kept is not None
    assert np.array_equal(*answers)


@pytest.mark.slow
def test_a_wide_near_copy_stops_where_rounding_has_the_last_word():
    kind, p = random_pmf(170, largest=64)
    assert (kind, p.shape) == ("near copy", (31, 55, 55))
    pid = broja_pid(p)
    assert_sound(pid, p)
    assert pid.params["iterations"] <= 70  # 92 when it waited for the stall


def test_a_sum_within_rounding_is_renormalised():
    pid = broja_pid(GOOD * (1 + 5e-10))
    assert pid.certified
    assert abs(pid.redundant) < 1e-9
