"""Reference values computed by independent means, shared by the tests of the theory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).parents[2] / "vectors"


@pytest.fixture
def cases() -> Callable[[str], list[dict[str, Any]]]:
    def load(name: str) -> list[dict[str, Any]]:
        document = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
        found = document["cases"]
        assert found, f"{name}.json holds no cases"
        return list(found)

    return load


@pytest.fixture
def vectors_folder() -> Path:
    return VECTORS
