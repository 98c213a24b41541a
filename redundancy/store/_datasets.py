"""A Hugging Face data set whose columns are layers, as the source of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy.store._arrays import layer_number, source_from_arrays

if TYPE_CHECKING:
    from redundancy.store._arrays import ArraySource

__all__ = ["is_dataset", "saved_dataset", "source_from_dataset"]


def is_dataset(value: Any) -> bool:
    """Whether `value` is a ``datasets.Dataset``, without importing the library for the answer."""
    kinds = {f"{t.__module__.partition('.')[0]}.{t.__qualname__}" for t in type(value).__mro__}
    return bool({"datasets.Dataset", "datasets.DatasetDict"} & kinds)


def saved_dataset(folder: Path) -> Any | None:
    """Open a folder that ``Dataset.save_to_disk`` wrote; None if it is none."""
    if not (folder / "dataset_info.json").exists() and not (folder / "dataset_dict.json").exists():
        return None
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise InputError(
            f"{folder} is a saved data set, and the library datasets is not installed; type: "
            "pip install datasets"
        ) from error
    try:
        return datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is not a readable data set: {error}") from error


def source_from_dataset(data: Any, path: str | None = None) -> ArraySource:
    """Read the columns that name layers, and ``groups`` and ``target`` where they are there.

    Parameters
    ----------
    data : datasets.Dataset
        One row per token or sample; columns ``layer_0``, ``layer_1``, ... hold a vector each, or a
        matrix (tokens, features) of the same shape in every row. Other columns are left alone.
    path : str, optional
        Where it was read from.

    Raises
    ------
    InputError
        If no column names a layer, or rows differ in shape or are null.
    """
    name = path or "the data set"
    if hasattr(data, "keys"):
        first = next(iter(data.keys()), "train")
        raise InputError(f"{name} holds several splits; give one of them, e.g. data[{first!r}]")
    layers = [column for column in data.column_names if layer_number(column) is not None]
    if not layers:
        have = ", ".join(data.column_names) or "no columns"
        raise InputError(
            f"{name} has {have}; name the columns that hold states layer_0, layer_1, ... "
            "(data.rename_column)"
        )
    extras = [column for column in ("groups", "target") if column in data.column_names]
    table = data.select_columns([*layers, *extras]).with_format("arrow")[:]
    found = {column: _column(table.column(column), f"{name}, column {column}") for column in layers}
    labels = {
        column: _column(table.column(column), f"{name}, column {column}") for column in extras
    }
    return source_from_arrays(found, groups=labels.get("groups"), target=labels.get("target"))


def _column(column: Any, name: str) -> NDArray[Any]:
    """Return an Arrow column of numbers, lists or nested lists as one array."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = pa.concat_arrays(
        [c.storage if isinstance(c, pa.ExtensionArray) else c for c in column.chunks]
    )
    shape = [len(array)]
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        lengths = pc.unique(pc.list_value_length(array)).to_pylist()
        if len(lengths) != 1 or lengths[0] is None:
            found = ", ".join(map(str, lengths[:4]))
            raise InputError(
                f"{name}: rows have {found} entries; give vectors of one length (tokens of "
                "different samples in rows of their own, with a column groups)"
            )
        shape.append(int(lengths[0]))
        array = array.flatten()
    if pa.types.is_fixed_size_list(array.type):
        shape.append(array.type.list_size)
        array = array.flatten()
    if array.null_count:
        raise InputError(
            f"{name} has {array.null_count} empty entries; fill them or leave them out"
        )
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return np.asarray(array.to_pylist(), dtype=str)
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)
