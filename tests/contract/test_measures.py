"""What every measure must hold to; a new file in `redundancy/measures` is tested by being there."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest

from estimators import Estimate, InputError
from redundancy import estimate, registry
from redundancy.measures._spec import MeasureSpec, Reading
from redundancy.pairs import LayerPair
from redundancy.store import ActivationStore
from redundancy.summary import summarise

NAMES = registry.names("measures")
# What a measure asks for that plain arrays do not have, made up to be valid.
N_GROUPS, PER_GROUP, DIM = 60, 12, 6


def pair(x_lower=None, x_upper=None, *, groups=None, **changes) -> LayerPair:
    rng = np.random.default_rng(0)
    n = N_GROUPS * PER_GROUP
    if x_lower is None:
        x_lower = rng.normal(size=(n, DIM))
    if x_upper is None:
        x_upper = x_lower + 0.3 * rng.normal(size=x_lower.shape)
    n = len(x_lower)
    if groups is None:
        groups = np.arange(n) // PER_GROUP
    made = summarise(x_lower, x_upper, groups, (0.05, 0.1))
    s = len(made.groups)
    names = inspect.signature(type(made)).parameters
    extra = {
        "var_per_head": rng.uniform(0.1, 0.3, size=(s, 4)).astype(np.float32),
        "vision_share": np.full(s, 0.5),
        "vision_effect": rng.uniform(0.1, 0.2, size=(s, 2)).astype(np.float32),
        "text_norm": np.full((s, 2), 1.5, dtype=np.float32),
    }
    made = dataclasses.replace(made, **{k: v for k, v in extra.items() if k in names})
    target = rng.integers(0, 3, size=n)
    target = np.where(rng.random(n) < 0.8, (x_upper[:, 0] > 0).astype(int), target % 2)
    given = {"groups": groups, "summary": made, "target": target, "modality": "vision"} | changes
    return LayerPair(0, 1, x_lower, x_upper, **given)


def module(name: str):
    return registry.load("measures", name)


@pytest.fixture(scope="module", params=NAMES)
def reading(request) -> tuple[str, Reading]:
    return request.param, module(request.param).measure(pair(), threshold=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name):
    spec = module(name).SPEC
    assert isinstance(spec, MeasureSpec)
    assert spec.title
    assert spec.symbol
    assert spec.unit
    assert spec.redundant_when in ("below", "above")
    assert "When it lies" in module(name).measure.__doc__
    signature = inspect.signature(module(name).measure)
    assert {"threshold", "ci", "seed"} <= set(signature.parameters)


def test_its_estimate_is_complete(reading):
    name, r = reading
    e = r.estimate
    assert isinstance(e, Estimate)
    assert e.unit == module(name).SPEC.unit
    assert e.value is not None
    assert np.isfinite(e.value)
    assert e.n > 0
    assert e.n_groups == N_GROUPS
    assert e.method
    assert e.ci is not None
    assert e.ci.level == pytest.approx(0.95)
    assert e.ci.method
    assert e.value in e.ci
    assert {c.key for c in module(name).SPEC.columns} <= set(r.extras)


def test_its_p_values_are_probabilities_and_agree_with_the_side(reading):
    _, r = reading
    if r.p_redundant is None:
        assert r.p_needed is None
        return
    assert 0 <= r.p_redundant <= 1
    assert 0 <= r.p_needed <= 1
    assert max(r.p_redundant, r.p_needed) >= 0.5


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits(name):
    first = module(name).measure(pair(), seed=3)
    again = module(name).measure(pair(), seed=3)
    assert first.estimate == again.estimate


@pytest.mark.parametrize("name", NAMES)
def test_without_a_level_there_is_no_interval(name):
    assert module(name).measure(pair(), ci=None).estimate.ci is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_that_is_no_share_is_refused(name, level):
    with pytest.raises(InputError):
        module(name).measure(pair(), ci=level)


@pytest.mark.parametrize("name", NAMES)
def test_one_group_gives_no_trustworthy_estimate(name):
    alone = pair(groups=np.zeros(N_GROUPS * PER_GROUP, dtype=int))
    r = module(name).measure(alone, threshold=0.1)
    assert not r.estimate.trustworthy
    assert any(d.severity == "error" and len(d.message) > 20 for d in r.estimate.diagnostics)


@pytest.mark.parametrize("name", NAMES)
def test_missing_ingredients_are_named(name):
    bare = LayerPair(3, 4, modality="vision")
    with pytest.raises(InputError, match="3→4"):
        module(name).measure(bare)


@pytest.mark.parametrize("name", [n for n in NAMES if "states" in module(n).SPEC.needs])
def test_constant_activations_are_said_and_not_trusted(name):
    flat = np.ones((N_GROUPS * PER_GROUP, DIM))
    r = module(name).measure(pair(flat, flat.copy()))
    assert any("same" in d.message or "constant" in d.message for d in r.estimate.diagnostics)


# Those that read a live model's attention, or need a target, have nothing to do in plain arrays.
LIVE = ("var", "vision_effect")
ARRAY_MEASURES = [n for n in NAMES if n not in LIVE and "target" not in module(n).SPEC.needs]


@pytest.mark.parametrize("name", ARRAY_MEASURES)
def test_it_works_on_plain_arrays_through_the_face(name):
    p = pair()
    store = ActivationStore.from_arrays({0: p.x_lower, 1: p.x_upper}, groups=p.groups)
    results = estimate(store, name)
    assert results[0].estimate.value is not None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_counted_and_located(bad):
    p = pair()
    broken = p.x_upper.copy()
    broken[5, 2] = broken[9, 0] = bad
    with pytest.raises(InputError, match=r"layer 1.*2") as caught:
        estimate(ActivationStore.from_arrays({0: p.x_lower, 1: broken}), "geometric")
    assert "5" in str(caught.value)
