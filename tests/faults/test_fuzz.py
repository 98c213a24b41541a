"""Every parser under seeded hostile bytes; ``-m slow`` runs the 10,000 cases of a night."""

from __future__ import annotations

import pytest

from tests.faults.fuzz import TARGETS, run

NEEDS = {"image": "PIL", "jsonl": "PIL", "parquet": "pyarrow"}


def _check(target, numbers):
    if target.name in NEEDS:
        pytest.importorskip(NEEDS[target.name])
    found = run(target, numbers)
    assert not found, found[0]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_some(target):
    _check(target, range(8 if target.name in ("cli", "record") else 60))


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_ten_thousand(target):
    _check(target, range(10_000))
