"""The door for arrays: what comes in, and the sentences for what does not."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import InputError
from estimators._arrays import check_lengths, group_codes, joint_codes, many, matrix, symbols


def test_float32_stays_and_everything_else_widens():
    assert matrix(np.zeros((3, 2), dtype=np.float32), "x").dtype == np.float32
    assert matrix(np.zeros((3, 2), dtype=np.float16), "x").dtype == np.float32
    assert matrix([[0.0], [1.0]], "x").dtype == np.float64
    assert matrix(np.arange(3.0), "x").shape == (3, 1)


def test_tensors_and_dlpack():
    torch = pytest.importorskip("torch")
    t = torch.arange(6.0).reshape(3, 2).requires_grad_()
    assert np.array_equal(matrix(t, "x"), [[0, 1], [2, 3], [4, 5]])
    assert matrix(t.bfloat16(), "x").dtype == np.float32
    codes, count = symbols(torch.tensor([5, 5, 9]), "labels")
    assert codes.tolist() == [0, 0, 1]
    assert count == 2

    class Foreign:
        """Speaks DLPack and nothing else."""

        def __init__(self, a):
            self._a = a

        def __dlpack__(self, **options):
            return self._a.__dlpack__(**options)

        def __dlpack_device__(self):
            return self._a.__dlpack_device__()

    assert np.array_equal(matrix(Foreign(np.eye(2)), "x"), np.eye(2))


def test_large_finite_values_are_no_infinities():
    assert np.isfinite(matrix(np.full((4, 2), 1e308), "x")).all()


def test_codes_are_dense_whatever_the_labels():
    for labels in ([7, -3, 7, 10**12], ["a", "b", "a", "c"], [True, False, True, True]):
        codes, count = symbols(labels, "s")
        assert codes.max() == count - 1
        assert [codes[0] == c for c in codes] == [labels[0] == v for v in labels]
    joint, count = joint_codes((np.array([0, 0, 1]), 2), (np.array([0, 1, 0]), 2))
    assert count == 3
    assert len(set(joint.tolist())) == 3


def test_lists_of_arrays_and_lists_of_numbers():
    assert len(many([np.zeros((3, 1)), np.ones((2, 1))], "x")) == 2
    assert len(many([[0.0, 1.0], [1.0, 2.0]], "x")) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: matrix([[1.0], [1.0, 2.0]], "x"), "x cannot be read as an array"),
        (lambda: matrix(np.array([object()] * 3), "x"), "Python objects"),
        (lambda: matrix(np.zeros((2, 2, 2)), "x"), r"x has shape \(2, 2, 2\)"),
        (lambda: matrix(np.zeros((2, 0)), "x"), "no coordinates"),
        (lambda: matrix(np.zeros((1, 2)), "x"), "at least 2"),
        (lambda: matrix(np.array(["a", "b"]), "x"), "not real numbers"),
        (lambda: matrix(np.array([1j, 2j]), "x"), "not real numbers"),
        (lambda: matrix(np.array([0.0, np.nan, np.inf]), "x"), "1 NaN and 1 infinite .* row 1"),
        (lambda: symbols(np.zeros((2, 2, 2), dtype=int), "s"), r"s has shape \(2, 2, 2\)"),
        (lambda: check_lengths(x=np.zeros(2), y=np.zeros(3)), "x has 2, y has 3"),
        (lambda: group_codes([0.5, 1.0], 2), "fractions or NaN"),
        (lambda: group_codes(["a", "a"], 2), "one group"),
        (lambda: group_codes([0, 1, 2], 2), "for 2 samples"),
    ],
)
def test_complaints(call, words):
    with pytest.raises(InputError, match=words):
        call()
