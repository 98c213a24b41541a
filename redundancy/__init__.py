"""Redundancy between the layers of a network: estimate it, and skip the layers it makes idle.

``import redundancy as rd`` is the one import users need. It is light: a name's module is imported
when the name is first used.

Examples
--------
>>> import numpy as np, redundancy as rd
>>> rng = np.random.default_rng(0)
>>> x = rng.normal(size=(200, 8))
>>> store = rd.ActivationStore.from_arrays({0: x, 1: x + 0.01 * rng.normal(size=x.shape)})
>>> results = rd.estimate(store, "geometric", epsilon=0.05)
>>> results[0].verdict
'redundant'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from redundancy import _guard
from redundancy._version import __version__

_guard.check_siblings()

# Public name -> the module that defines it. The order is that of the documentation.
_HOME: dict[str, str] = {
    "ActivationStore": "redundancy.store",
    "LayerPair": "redundancy.pairs",
    "open_source": "redundancy.store",
    "extract": "redundancy.extraction",
    "estimate": "redundancy.run",
    "Results": "redundancy.results",
    "PairResult": "redundancy.results",
    "names": "redundancy.registry",
    "Estimate": "estimators",
    "Interval": "estimators",
    "Diagnostic": "estimators",
    "InputError": "estimators",
    "mutual_information": "estimators.mutual_information",
    "mutual_information_scores": "estimators.scores",
    "kl_entropy": "estimators.kl",
    "ksg_mi": "estimators.ksg",
    "ksg_cmi": "estimators.ksg",
    "ksg_chain": "estimators.ksg",
    "ross_mi": "estimators.mixed",
    "mixed_mi": "estimators.mixed",
    "ross_cmi": "estimators.mixed",
    "mixed_cmi": "estimators.mixed",
    "gaussian_mi": "estimators.gaussian",
    "copula_mi": "estimators.gaussian",
    "discrete_entropy": "estimators.discrete",
    "discrete_mi": "estimators.discrete",
    "conditional_entropy": "estimators.discrete",
    "intrinsic_dimension": "estimators.intrinsic",
    "cka": "estimators.cka",
    "quantise": "estimators.quantise",
    "Quantiser": "estimators.quantise",
    "broja_pid": "estimators.broja",
    "broja_pid_many": "estimators.broja",
    "PID": "estimators.broja",
    "verify_certificate": "estimators.broja",
    "permutation_test": "estimators.independence",
    "RidgeProbe": "probes.linear",
    "LogisticProbe": "probes.linear",
    "MLPProbe": "probes.mlp",
    "v_information": "probes.v_information",
    "conditional_v_information": "probes.v_information",
    "probe_store": "redundancy.probing",
    "crosscheck": "redundancy.crosschecking",
    "SkipPlan": "vlm.plan",
    "skipping": "vlm.skip",
    "capture": "vlm.capture",
    "evaluate": "vlm.evaluate",
    "sweep": "vlm.evaluate",
    "certify_plans": "redundancy.risk",
    "propose": "redundancy.planning",
}
_MODULES = ("theory", "risk", "synthetic", "measures", "planning", "demo")

__all__ = ["__version__", *_HOME, *_MODULES]

if TYPE_CHECKING:
    from estimators import Diagnostic, Estimate, InputError, Interval
    from estimators.broja import PID, broja_pid, broja_pid_many, verify_certificate
    from estimators.cka import cka
    from estimators.discrete import conditional_entropy, discrete_entropy, discrete_mi
    from estimators.gaussian import copula_mi, gaussian_mi
    from estimators.independence import permutation_test
    from estimators.intrinsic import intrinsic_dimension
    from estimators.kl import kl_entropy
    from estimators.ksg import ksg_chain, ksg_cmi, ksg_mi
    from estimators.mixed import mixed_cmi, mixed_mi, ross_cmi, ross_mi
    from estimators.mutual_information import mutual_information
    from estimators.quantise import Quantiser, quantise
    from estimators.scores import mutual_information_scores
    from probes.linear import LogisticProbe, RidgeProbe
    from probes.mlp import MLPProbe
    from probes.v_information import conditional_v_information, v_information
    from redundancy import demo, measures, planning, risk, synthetic, theory
    from redundancy.crosschecking import crosscheck
    from redundancy.extraction import extract
    from redundancy.pairs import LayerPair
    from redundancy.planning import propose
    from redundancy.probing import probe_store
    from redundancy.registry import names
    from redundancy.results import PairResult, Results
    from redundancy.risk import certify_plans
    from redundancy.run import estimate
    from redundancy.store import ActivationStore, open_source
    from vlm.capture import capture
    from vlm.evaluate import evaluate, sweep
    from vlm.plan import SkipPlan
    from vlm.skip import skipping


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"redundancy.{name}")
    else:
        raise AttributeError(f"module 'redundancy' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
