"""Say so when another package stands in for one of ours.

`estimators`, `probes` and `vlm` are generic names: a script called ``vlm.py`` in the working
folder, or another distribution, would silently be imported in their place.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

__all__ = ["SIBLINGS", "check_siblings"]

_HOME = Path(__file__).resolve().parent.parent
SIBLINGS = ("estimators", "probes", "vlm")


def check_siblings(home: Path = _HOME) -> None:
    """Raise ImportError unless every sibling package was found next to this one.

    Raises
    ------
    ImportError
        Naming the file that shadows the sibling and what to do about it.
    """
    for name in SIBLINGS:
        spec = importlib.util.find_spec(name)
        found = None if spec is None else spec.origin
        if found is None:
            raise ImportError(
                f"the package {name!r}, which is installed together with 'redundancy', is missing; "
                "reinstall redundancy in a fresh virtual environment"
            )
        if Path(found).resolve() != home / name / "__init__.py":
            raise ImportError(
                f"{found} hides the package {name!r} that belongs to redundancy; rename that file, "
                "or run from another folder or in a virtual environment of its own"
            )
