"""Samples with sums computed the plain way, in float64, one token at a time."""

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redundancy.store import ActivationStore
from vlm.sample import CapturedSample, TokenStatistics

BLOCKS, WIDTH, THRESHOLDS = 3, 6, (0.05, 0.5, 1.0)


def plain_statistics(states: np.ndarray) -> TokenStatistics:
    x = states.astype(np.float64)
    layers, tokens, _ = x.shape
    rho = np.full((layers, layers, tokens), np.nan)
    for i in range(layers):
        for j in range(layers):
            for k in range(tokens):
                norms = np.linalg.norm(x[i, k]) * np.linalg.norm(x[j, k])
                if norms > 0:
                    rho[i, j, k] = 1 - x[i, k] @ x[j, k] / norms
    defined = ~np.isnan(rho)
    adjacent = [(layer - 1, layer) for layer in range(1, layers)]
    first = [(0, layer) for layer in range(1, layers)]

    def below(pairs: list[tuple[int, int]]) -> np.ndarray:
        counts = [[np.sum(rho[pair] < cut) for pair in pairs] for cut in THRESHOLDS]
        return np.array(counts, dtype=np.int32)

    def square(pairs: list[tuple[int, int]]) -> np.ndarray:
        return np.array([np.sum((x[i] - x[j]) ** 2) for i, j in pairs])

    return TokenStatistics(
        n_tokens=tokens,
        n_defined=defined.sum(axis=2).astype(np.int32),
        rho_sum=np.where(defined, rho, 0).sum(axis=2),
        thresholds=np.array(THRESHOLDS),
        below_adjacent=below(adjacent),
        below_first=below(first),
        sq_dist_adjacent=square(adjacent),
        sq_dist_first=square(first),
        sq_norm=np.sum(x**2, axis=(1, 2)),
    )


@functools.cache
def _base(number: int, dtype: Any) -> tuple[dict, dict, dict]:
    rng = np.random.default_rng(number)
    states, statistics, positions = {}, {}, {}
    for modality, tokens in (("vision", 4), ("text", 1 + number % 3)):
        walk = np.cumsum(rng.normal(size=(BLOCKS + 1, tokens, WIDTH)), axis=0).astype(dtype)
        if number == 1:
            walk[1, 0] = 0
        states[modality], statistics[modality] = walk, plain_statistics(walk)
        positions[modality] = np.sort(rng.permutation(20)[:tokens])
    return states, statistics, positions


def sample_of(number: int, dtype: Any = np.float32, **changes: Any) -> CapturedSample:
    """Sample `number`: the same in every call."""
    states, statistics, positions = copy.deepcopy(_base(number, dtype))
    rng = np.random.default_rng(1000 + number)
    given = {
        "id": f"q{number}",
        "group": f"image-{number // 2}",
        "statistics": statistics,
        "states": states,
        "positions": positions,
        "var_per_head": rng.random((BLOCKS, 2)).astype(np.float32),
        "n_vision": 4,
        "n_keys": 4 + 1 + number % 3,
        "row": {"question": f"is it {number}?", "answer": "yes" if number % 2 else "no"},
    }
    return CapturedSample(**(given | changes))


def create_store(path: Path, **changes: Any) -> ActivationStore:
    given = {
        "model": "tiny/llava",
        "revision": "abc",
        "n_layers": BLOCKS,
        "dims": WIDTH,
        "tokens": "all",
        "thresholds": THRESHOLDS,
        "dataset": {"name": "toy", "digest": "d1"},
    }
    return ActivationStore.create(path, **(given | changes))


@pytest.fixture(scope="session")
def sample() -> Callable[..., CapturedSample]:
    return sample_of


@pytest.fixture(scope="session")
def create() -> Callable[..., ActivationStore]:
    return create_store


@pytest.fixture
def filled(tmp_path: Path) -> ActivationStore:
    """Twelve samples in four shards."""
    store = create_store(tmp_path / "acts")
    with store.writer(max_samples=3) as writer:
        for number in range(12):
            writer.add(sample_of(number))
    return ActivationStore.open(tmp_path / "acts")
