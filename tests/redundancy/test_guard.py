"""A stranger's `vlm.py` must not pass for ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from redundancy import _guard

ROOT = Path(_guard.__file__).resolve().parent.parent


def run(code: str, **kwargs) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        **kwargs,
    )


def test_a_shadowing_module_is_named(tmp_path):
    (tmp_path / "vlm.py").write_text("# the user's own script\n")
    done = run("import redundancy", cwd=tmp_path)
    assert done.returncode != 0
    assert str(tmp_path / "vlm.py") in done.stderr
    assert "hides the package 'vlm'" in done.stderr


def test_our_own_packages_pass():
    _guard.check_siblings()


def test_a_sibling_elsewhere_is_refused(tmp_path):
    with pytest.raises(ImportError, match="hides the package 'estimators'"):
        _guard.check_siblings(tmp_path)


@pytest.mark.parametrize(
    "code",
    [
        "import redundancy",
        "from redundancy.cli import main; main(['--help'])",
        "import redundancy; redundancy.SkipPlan; redundancy.Results; redundancy.names('measures')",
    ],
)
def test_imports_stay_light(code):
    heavy = ("torch", "transformers", "dit", "sklearn", "faiss", "numba", "matplotlib", "datasets")
    wrapped = (
        "import sys\ntry:\n    "
        + code
        + "\nexcept SystemExit: pass\n"
        + f"print('HEAVY', [m for m in {heavy!r} if m in sys.modules])"
    )
    done = run(wrapped)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout


def test_every_public_name_resolves_and_is_where_the_table_says():
    code = (
        "import redundancy as rd, importlib\n"
        "for name, home in rd._HOME.items():\n"
        "    assert getattr(rd, name) is getattr(importlib.import_module(home), name), name\n"
        "assert set(rd.__all__) <= set(dir(rd))\n"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_an_unknown_attribute_is_an_attribute_error():
    import redundancy

    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = redundancy.nonsense
