"""From a live model to a store: capture, write, resume; one process or many."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import importlib.metadata
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from estimators import InputError
from redundancy.store import ActivationStore
from redundancy.store._create import remove_empty
from vlm.sample import DEFAULT_THRESHOLDS

__all__ = ["extract", "process_group", "share"]

_PACKAGES = ("redundancy", "torch", "transformers", "numpy", "safetensors")
_WAIT_S = 120.0


def extract(
    model: Any,
    processor: Any,
    data: str | Path | Iterable[Mapping[str, Any]],
    *,
    out: str | Path,
    tokens: int | Literal["all"] = 0,
    batch_size: int = 8,
    seed: int = 0,
    modalities: Sequence[str] = ("vision", "text"),
    layers: Sequence[int] | None = None,
    thresholds: Sequence[float] = DEFAULT_THRESHOLDS,
    var: bool | Literal["text"] = True,
    vision_effect: bool = False,
    resume: bool = False,
    fresh: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    model_id: str | None = None,
    revision: str | None = None,
    dataset: Mapping[str, Any] | None = None,
    flush_seconds: float = 60.0,
    **options: Any,
) -> ActivationStore:
    """Run a model over data and keep its layers' states and sums in a store.

    What is finished is on disk after at most `flush_seconds`, and on Ctrl-C or an error at once;
    `resume` then does what is left. Where nothing was finished, no store is left behind. A sample
    is written once, whoever writes it.

    Parameters
    ----------
    model : PreTrainedModel
        In evaluation mode; vision-language, or text-only (whose tokens are all text).
    processor : transformers processor, or tokenizer
        The model's own.
    data : path or iterable of mapping
        Rows with question, image, answer, ...: see `vlm.data.read_rows`.
    out : str or Path
        Folder of the store.
    tokens : int or "all"
        Token states kept per sample and modality; 0 keeps sums over all tokens only.
    batch_size : int
        Samples per forward pass; may differ when resuming.
    seed : int
        Of the choice of tokens.
    modalities : sequence of {"vision", "text"}
    layers : sequence of int, optional
        Layers 0..L whose states are kept; all by default. Sums always cover all layers.
    thresholds : sequence of float
        Cosine distances at which tokens are counted.
    var : bool or "text"
        Measure the attention on vision tokens of the query that predicts the answer; with
        ``"text"`` also its mean over all text tokens after vision (``var_text_per_head``).
    vision_effect : bool
        Also run every block without vision tokens and keep delta_l.
    resume, fresh : bool
        Continue the store that is there, or delete it and start over. With neither, a store that
        is there is refused.
    progress : callable, optional
        Called with (samples done, samples in all or None) of this process.
    rank, world_size : int, optional
        This process takes every `world_size`-th row from row `rank` on; all write into `out`. By
        default they are those of torch.distributed, or those that torchrun or ``accelerate launch``
        have put into the environment; else this process does everything.
    model_id, revision : str, optional
        What to record; read from the model by default.
    dataset : mapping, optional
        What to record of the data; by default its name and a digest of its rows and images. A
        resumed extraction must have the same.
    flush_seconds : float
        Longest time that a finished sample waits for being written.
    **options
        Further options of `vlm.capture.capture`, e.g. ``max_new_tokens``.

    Returns
    -------
    ActivationStore
        With what all processes have written so far.

    Raises
    ------
    InputError
        For unusable data or settings, or a store that was made with other settings.

    Notes
    -----
    With several processes and `fresh`, or a folder that holds a store already, rank 0 prepares the
    folder first; the others wait for it through torch.distributed, which must then be initialised.
    """
    from vlm._errors import VLMError
    from vlm.capture import capture
    from vlm.data import count_rows, digest, rows_of
    from vlm.model import decoder_layers, is_text_only, model_type, text_config

    rank, world_size = share(rank, world_size)
    chosen: dict[str, Any] = {
        "tokens": tokens,
        "thresholds": thresholds,
        "batch_size": batch_size,
        "seed": seed,
        "layers": layers,
        "vision_effect": vision_effect,
        **options,
    }
    try:
        kind, config, n_layers = model_type(model), text_config(model), len(decoder_layers(model))
        if is_text_only(model) and "text" in modalities:
            modalities, var = ("text",), False
        chosen |= {"modalities": modalities, "var": var}
        # What cannot be captured is refused before a store stands there for it.
        capture(model, processor, [], **chosen)
        total = count_rows(data)
        if dataset is None and (isinstance(data, str | Path) or total is not None):
            name = str(data) if isinstance(data, str | Path) else None
            dataset = {"name": name, "digest": digest(data), "n": total}
    except VLMError as error:
        raise InputError(str(error)) from error
    settings: dict[str, Any] = {
        "model": model_id or getattr(model, "name_or_path", None) or None,
        "revision": revision or getattr(model.config, "_commit_hash", None),
        "n_layers": n_layers,
        "dims": config.hidden_size,
        "layers": layers,
        "modalities": modalities,
        "tokens": tokens,
        "seed": seed,
        "thresholds": thresholds,
        "dataset": dataset,
        "settings": {
            "model_type": kind,
            "dtype": str(model.dtype).removeprefix("torch."),
            "var": var,
            "vision_effect": vision_effect,
            **options,
        },
        "packages": _versions(),
    }
    folder = Path(out)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    ours = world_size == 1 and (fresh or not (folder / "store.json").exists())
    store = _prepare(folder, settings, resume, fresh, rank, world_size)
    try:
        # Every world_size-th row, whatever is done already: processes need not agree on that. Rows
        # get their ids and groups before they are dealt out.
        mine = itertools.islice(rows_of(data), rank, None, world_size)
        share_of = None if total is None else len(range(rank, total, world_size))
        with store.writer(rank, flush_seconds=flush_seconds) as writer:
            samples = capture(
                model,
                processor,
                mine,
                skip_ids=store.done_ids(),
                progress=progress and (lambda done, _: progress(done, share_of)),
                **chosen,
            )
            for sample in samples:
                writer.add(sample)
    except BaseException as error:
        if ours:  # in a group, others may be about to write
            remove_empty(folder, missing)
        if isinstance(error, VLMError):
            raise InputError(str(error)) from error
        raise
    return store.refresh()


def share(rank: int | None = None, world_size: int | None = None) -> tuple[int, int]:
    """Return which of how many processes this one is.

    Parameters
    ----------
    rank, world_size : int, optional
        What the caller says; otherwise torch.distributed, if it is initialised, otherwise the
        environment variables RANK and WORLD_SIZE, otherwise one process.

    Raises
    ------
    InputError
        For a rank without a number of processes (or the reverse), or out of range.

    Examples
    --------
    >>> share(1, 4)
    (1, 4)
    """
    if (rank is None) != (world_size is None):
        raise InputError("give rank and world_size together, or neither")
    if rank is None or world_size is None:
        distributed = _process_group()
        if distributed is not None:
            return distributed.get_rank(), distributed.get_world_size()
        try:
            rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        except KeyError:
            return 0, 1
        except ValueError:
            raise InputError(
                f"the environment says RANK={os.environ['RANK']!r} and "
                f"WORLD_SIZE={os.environ['WORLD_SIZE']!r}, which are no whole numbers; unset them, "
                "or launch the processes with torchrun"
            ) from None
    if not 0 <= rank < world_size:
        raise InputError(f"rank is {rank} of {world_size} processes; it counts from 0")
    return rank, world_size


def _prepare(
    out: Path, settings: Mapping[str, Any], resume: bool, fresh: bool, rank: int, world_size: int
) -> ActivationStore:
    """Make or take up the store; rank 0 first, if there are several processes."""
    if world_size == 1:
        return ActivationStore.create(out, fresh=fresh, resume=resume, **settings)
    distributed = _process_group()
    if distributed is None and fresh and rank > 0:
        raise InputError(
            "fresh with several processes needs torch.distributed to be initialised, so that rank "
            "0 deletes the old store before the others write; or delete the folder first"
        )
    if rank == 0:
        store = ActivationStore.create(out, fresh=fresh, resume=resume, **settings)
    if distributed is not None:
        distributed.barrier()
    elif rank > 0:
        _wait_for(out / "store.json")
    return store if rank == 0 else ActivationStore.create(out, resume=True, **settings)


@contextlib.contextmanager
def process_group(world_size: int) -> Iterator[None]:
    """Join the processes that torchrun has started, so that rank 0 can prepare the store first.

    Nothing but barriers is exchanged, so the CPU's own back end will do. At the last one the first
    to finish waits for the slowest, which may be hours behind.
    """
    if world_size == 1 or "MASTER_ADDR" not in os.environ:
        yield
        return
    distributed: Any = importlib.import_module("torch.distributed")

    given: dict[str, Any] = {"timeout": datetime.timedelta(days=30)}
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # After a restart the launcher's table still holds the addresses of the dead; each attempt
        # looks into a part of its own.
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        table = distributed.TCPStore(address, port, world_size, is_master=False)
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        given |= {
            "store": distributed.PrefixStore(f"attempt-{attempt}", table),
            "rank": int(os.environ["RANK"]),
            "world_size": world_size,
        }
    distributed.init_process_group("gloo", **given)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _process_group() -> Any:
    import torch.distributed

    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed if ready else None


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise InputError(
                f"{path} did not appear within {_WAIT_S:.0f} s; rank 0 makes it: see what it says"
            )
        time.sleep(0.05)


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
