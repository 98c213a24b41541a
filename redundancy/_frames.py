"""Rows as a data frame of whichever library the reader works with."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from estimators import InputError

__all__ = ["Library", "make_frame"]

Library = Literal["pandas", "polars", "pyarrow"]


def make_frame(rows: Sequence[Mapping[str, Any]], library: Library = "pandas") -> Any:
    """Return `rows` as a frame of `library`; a key that a row lacks is null there.

    Raises
    ------
    InputError
        If the library is not one of the three, or not installed.

    Examples
    --------
    >>> make_frame([{"a": 1}, {"a": 2, "b": 0.5}], "pyarrow").column_names
    ['a', 'b']
    """
    if library not in get_args(Library):
        raise InputError(f"library is {library!r}; use one of {', '.join(get_args(Library))}")
    try:
        module = importlib.import_module(library)
    except ModuleNotFoundError as error:
        raise InputError(
            f"to_frame needs {library}, which is not installed; type: pip install {library}"
        ) from error
    # Every key in every row: the libraries differ in what they make of a row that lacks one.
    names = dict.fromkeys(name for row in rows for name in row)
    full = [{name: row.get(name) for name in names} for row in rows]
    if library == "polars":
        return module.DataFrame(full, infer_schema_length=None)
    if library == "pyarrow":
        return module.Table.from_pylist(full)
    return module.DataFrame(full, columns=list(names) or None)
