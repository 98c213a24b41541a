"""Settings that hold for every test."""

from __future__ import annotations

import os

# Before any BLAS or tokenizer is imported: spinning threads make small models ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")

from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    deadline=None,  # shared, noisy cores: a slow example says nothing
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("default")
