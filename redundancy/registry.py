"""The file name is the registration: what is in a folder can be asked for by name.

Adding ``redundancy/measures/foo.py`` is all it takes to make ``--measure foo`` work; nothing is
listed by hand. Names that begin with an underscore are the folder's own affair.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from types import ModuleType

from estimators import InputError

__all__ = ["FOLDERS", "load", "names"]

FOLDERS: dict[str, str] = {
    "measures": "redundancy.measures",
    "estimators": "estimators",
    "probes": "probes",
    "families": "vlm.families",
}
"""What can be looked up, and the package it stands in."""


def names(folder: str) -> tuple[str, ...]:
    """List the public modules of one of `FOLDERS`, without importing any of them.

    Raises
    ------
    InputError
        If there is no such folder.

    Examples
    --------
    >>> "geometric" in names("measures")
    True
    """
    package = _package(folder)
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return ()
    found = pkgutil.iter_modules(list(spec.submodule_search_locations))
    return tuple(sorted(m.name for m in found if not m.name.startswith("_")))


def load(folder: str, name: str) -> ModuleType:
    """Import one module of a folder, or say what was probably meant.

    Raises
    ------
    InputError
        If the folder holds no such module.

    Examples
    --------
    >>> load("measures", "informtional")
    Traceback (most recent call last):
    estimators._errors.InputError: no measure named 'informtional'; have ... Did you mean ...?
    """
    have = names(folder)
    if name not in have:
        raise InputError(unknown(_singular(folder), name, have))
    return importlib.import_module(f"{_package(folder)}.{name}")


def unknown(what: str, name: str, have: tuple[str, ...]) -> str:
    """Return the sentence for a name that is not among `have`."""
    close = difflib.get_close_matches(name, have, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"no {what} named {name!r}; have {', '.join(have) or 'none'}.{hint}"


def _package(folder: str) -> str:
    if folder not in FOLDERS:
        raise InputError(unknown("folder", folder, tuple(FOLDERS)))
    return FOLDERS[folder]


def _singular(folder: str) -> str:
    return "family" if folder == "families" else folder.removesuffix("s")
