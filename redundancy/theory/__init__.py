"""The paper's statements as functions: what each needs, what it gives, and when it says nothing.

One file per statement. Every function returns a `TheoryResult` (or a small result of its own) with
`value`, `kind`, `assumptions` and `vacuous`, and in `forms` the paper's form beside the corrected
and the sharpest one. The package is imported when `redundancy.theory` is first used, and itself
imports scipy and torch only where a statement needs them.

Examples
--------
>>> from redundancy import theory
>>> theory.check_pair(0.506, 0.6515, 0.05, 1.0).consistent
False
>>> round(theory.log_spherical_cap(4096, 0.05), 3)
-4771.408
"""

from __future__ import annotations

# Not lazily name by name: the functions bear the names of their modules, and a module that is
# imported later would replace the function of its name.
from redundancy.theory._result import TheoryResult
from redundancy.theory.consequences import Consequence, consequences
from redundancy.theory.consistency import PairCheck, check_pair
from redundancy.theory.corollary4 import corollary4
from redundancy.theory.distance_law import distance_law_from_samples, distance_law_kl
from redundancy.theory.early_exit import theorem6_early_exit, theorem6_skip_blocks
from redundancy.theory.implications import Arrow, implications
from redundancy.theory.lemma1 import lemma1
from redundancy.theory.lemma2 import lemma2
from redundancy.theory.lemma3 import lemma3
from redundancy.theory.lemma4 import lemma4
from redundancy.theory.lemma5 import lemma5, pid_under_markov, unique_information_bound
from redundancy.theory.lipschitz import (
    jacobian_norm,
    power_iteration,
    secant_constant,
    segment_norm,
    spectral_norm,
)
from redundancy.theory.logit_certificate import argmax_certificate, softmax_kl_bound
from redundancy.theory.markov import MarkovAudit, markov_audit
from redundancy.theory.markov_states import markov_audit_from_states
from redundancy.theory.mi_certificate import certified_mi_lower_bound, mi_certificate
from redundancy.theory.mmse_gap import mmse_gap
from redundancy.theory.proposition1 import (
    proposition1,
    proposition1_converse,
    proposition1_threshold,
    proposition1_unbounded,
)
from redundancy.theory.sphere_check import SphereCheck, check_uniform_sphere
from redundancy.theory.spherical_cap import log_spherical_cap
from redundancy.theory.theorem1 import theorem1
from redundancy.theory.theorem2 import probe_error_bound, theorem2, theorem2_reverse
from redundancy.theory.theorem3 import theorem3
from redundancy.theory.theorem4 import theorem4
from redundancy.theory.theorem5 import theorem5
from redundancy.theory.theorem6 import (
    text_drift,
    theorem6,
    theorem6_direct,
    theorem6_measured,
)
from redundancy.theory.var_link import var_to_delta

__all__ = [
    "Arrow",
    "Consequence",
    "MarkovAudit",
    "PairCheck",
    "SphereCheck",
    "TheoryResult",
    "argmax_certificate",
    "certified_mi_lower_bound",
    "check_pair",
    "check_uniform_sphere",
    "consequences",
    "corollary4",
    "distance_law_from_samples",
    "distance_law_kl",
    "implications",
    "jacobian_norm",
    "lemma1",
    "lemma2",
    "lemma3",
    "lemma4",
    "lemma5",
    "log_spherical_cap",
    "markov_audit",
    "markov_audit_from_states",
    "mi_certificate",
    "mmse_gap",
    "pid_under_markov",
    "power_iteration",
    "probe_error_bound",
    "proposition1",
    "proposition1_converse",
    "proposition1_threshold",
    "proposition1_unbounded",
    "secant_constant",
    "segment_norm",
    "softmax_kl_bound",
    "spectral_norm",
    "text_drift",
    "theorem1",
    "theorem2",
    "theorem2_reverse",
    "theorem3",
    "theorem4",
    "theorem5",
    "theorem6",
    "theorem6_direct",
    "theorem6_early_exit",
    "theorem6_measured",
    "theorem6_skip_blocks",
    "unique_information_bound",
    "var_to_delta",
]
