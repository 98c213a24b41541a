"""Generators of layers whose redundancy is known, for tests, documentation and users' own checks.

Each has `truth` (or named properties) and `sample`; a sample's `to_store()` goes straight into
`redundancy.estimate`.

Examples
--------
>>> from redundancy import synthetic
>>> chain = synthetic.GaussianChain.random(d=4, seed=0)
>>> draws = chain.sample(200, seed=1)
>>> draws.x_lower.shape, sorted(chain.truth)[:3]
((200, 4), ['alpha', 'beta', 'cka'])
"""

from __future__ import annotations

from redundancy.synthetic._samples import Samples
from redundancy.synthetic.attention import AttentionRows
from redundancy.synthetic.counterexamples import (
    circle_code,
    constant_target,
    forgotten_target,
    rotation,
    sign_flip,
    sphere_tip,
)
from redundancy.synthetic.finite import FiniteLaw, binary_chain, random_chain
from redundancy.synthetic.gaussian import GaussianChain
from redundancy.synthetic.gaussian_cosine import GaussianCosine
from redundancy.synthetic.network import EarlyExit, LateEntry, LinearNetwork
from redundancy.synthetic.sphere import VonMisesFisher

__all__ = [
    "AttentionRows",
    "EarlyExit",
    "FiniteLaw",
    "GaussianChain",
    "GaussianCosine",
    "LateEntry",
    "LinearNetwork",
    "Samples",
    "VonMisesFisher",
    "binary_chain",
    "circle_code",
    "constant_target",
    "forgotten_target",
    "random_chain",
    "rotation",
    "sign_flip",
    "sphere_tip",
]
