"""The torch search gives the numbers of the plain one."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import InputError
from estimators.kl import kl_entropy
from estimators.ksg import ksg_cmi, ksg_mi

torch = pytest.importorskip("torch")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("d", [1, 12, 70])
@pytest.mark.parametrize("kind", ["plain", "mean 1000", "near-copies", "float32"])
def test_same_numbers(device, d, kind):
    rng = np.random.default_rng(d)
    x, y = rng.normal(size=(2, 400, d))
    y += x
    z = x + y
    if kind == "mean 1000":
        x, y = x + 1000, y + 1000
    elif kind == "near-copies":
        x[200:] = x[:200] + 1e-5 * rng.normal(size=(200, d))
        y[200:] = y[:200] + 1e-5 * rng.normal(size=(200, d))
    elif kind == "float32":
        x, y, z = (v.astype(np.float32) for v in (x, y, z))
    options = {"metric": "euclidean", "ci": None}
    for estimator, arrays in ((kl_entropy, (x,)), (ksg_mi, (x, y)), (ksg_cmi, (x, y, z))):
        plain = estimator(*arrays, **options).value
        assert estimator(*arrays, device=device, **options).value == pytest.approx(plain, abs=1e-9)


def test_tensors_come_in_as_they_are():
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    y = x + torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
    plain = ksg_mi(x.numpy(), y.numpy(), ci=None).value
    assert ksg_mi(x, y, ci=None).value == plain
    half = ksg_mi(x.bfloat16().requires_grad_(), y.bfloat16(), ci=None)
    assert half.value == pytest.approx(plain, abs=0.3)


def test_refusals():
    x = np.random.default_rng(0).normal(size=(50, 12))
    with pytest.raises(InputError, match="metric='euclidean'"):
        ksg_mi(x, x**2, metric="chebyshev", device="cpu")
    with pytest.raises(InputError, match="cannot be used"):
        ksg_mi(x, x**2, device="abacus")
