"""The neighbour search of `estimators._brute` on a torch device: the same proposals, the same care.

Float32 matrix products propose candidates and settle every count that is not close; candidates
and close calls are decided in float64 on the device. Imported only when a device is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from estimators._arrays import FloatArray
from estimators._errors import InputError
from estimators._jobs import EXTRA, Job

__all__ = ["search"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
_BLOCK_ELEMENTS = 2**27


class _Space:
    """One side on the device: float64 rows, and float32 factors of its squared distances."""

    def __init__(self, x: FloatArray, device: Any) -> None:
        import torch

        self.x = torch.from_numpy(np.ascontiguousarray(x)).to(device)
        exact = self.x.double()
        moved = (exact - exact.mean(0)).float()
        self.moved = moved
        self.norms = moved.double().square().sum(1)
        unit = 2.0**-24
        self.error = unit * (8.0 + 4.0 * moved.shape[1] ** 0.5) * (self.norms + self.norms.max())

    def block(self, start: int, stop: int) -> Any:
        """Squared distances of some rows to all, float32; to themselves, infinity."""
        import torch

        out = torch.addmm(
            self.norms.float()[None, :], self.moved[start:stop], self.moved.T, alpha=-2.0
        )
        out += self.norms[start:stop, None].float()
        own = torch.arange(start, stop, device=out.device)
        out[own - start, own] = float("inf")
        return out

    def exact(self, i: Any, j: Any) -> Any:
        """Float64 squared distances of row pairs, some at a time to bound memory."""
        import torch

        width = max(1, _BLOCK_ELEMENTS // (4 * self.x.shape[1]))
        parts = [
            (self.x[a].double() - self.x[b].double()).square().sum(1)
            for a, b in zip(i.split(width), j.split(width), strict=True)
        ]
        return torch.cat(parts) if parts else torch.empty(0, device=self.x.device)


def _joined(blocks: dict[int, Any], members: Sequence[int]) -> Any:
    import torch

    out = blocks[members[0]]
    for s in members[1:]:
        out = torch.maximum(out, blocks[s])
    return out


def search(
    spaces: Sequence[FloatArray],
    jobs: Sequence[Job],
    k: int,
    *,
    squared: bool,
    closed: bool,
    device: str,
) -> list[tuple[Float, Int, list[Int]]]:
    """Return what `estimators._brute.search` returns; Euclidean norms only."""
    import torch

    if not squared:
        raise InputError(
            f"device={device!r} works with metric='euclidean', whose distances are matrix "
            "products; use that metric, or leave device out"
        )
    try:
        where = torch.device(device)
        sides = [_Space(x, where) for x in spaces]
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]}); use 'cuda' where "
            "torch finds a GPU, 'cpu', or leave it out"
        ) from error
    n = len(spaces[0])
    rows = int(np.clip(_BLOCK_ELEMENTS // (n * (len(sides) + 1)), 16, 8192))
    gathered: list[list[tuple[Any, Any, list[Any]]]] = [[] for _ in jobs]
    needed = sorted({s for job in jobs for s in (*job.joint, *(c for g in job.counts for c in g))})
    # TF32 would leave 10 bits of each product; the error bound assumes 24.
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        for start in range(0, n, rows):
            stop = min(start + rows, n)
            blocks = {s: sides[s].block(start, stop) for s in needed}
            for job, into in zip(jobs, gathered, strict=True):
                d, i = _nearest(sides, job.joint, _joined(blocks, job.joint), start, stop, k)
                counts = [
                    _counts(sides, g, _joined(blocks, g), d[:, -1], start, stop, closed)
                    for g in job.counts
                ]
                into.append((d, i, counts))
    finally:
        torch.set_float32_matmul_precision(precision)
    out = []
    for job, parts in zip(jobs, gathered, strict=True):
        d = torch.cat([p[0] for p in parts]).cpu().numpy()
        i = torch.cat([p[1] for p in parts]).cpu().numpy()
        counts = [torch.cat([p[2][c] for p in parts]).cpu().numpy() for c in range(len(job.counts))]
        out.append((d, i, counts))
    return out


def _exact(sides: Sequence[_Space], members: Sequence[int], i: Any, j: Any) -> Any:
    import torch

    out = sides[members[0]].exact(i, j)
    for s in members[1:]:
        out = torch.maximum(out, sides[s].exact(i, j))
    return out


def _error(sides: Sequence[_Space], members: Sequence[int], start: int, stop: int) -> Any:
    import torch

    return torch.stack([sides[s].error[start:stop] for s in members]).amax(0)


def _nearest(
    sides: Sequence[_Space], members: Sequence[int], joint: Any, start: int, stop: int, k: int
) -> tuple[Any, Any]:
    import torch

    n = joint.shape[1]
    c = min(k + EXTRA, n - 1)
    values, who = torch.topk(joint, c, dim=1, largest=False, sorted=True)
    own = torch.arange(start, stop, device=joint.device)
    exact = _exact(sides, members, own.repeat_interleave(c), who.reshape(-1)).reshape(-1, c)
    d, order = torch.sort(exact, dim=1, stable=True)
    d, i = d[:, :k].contiguous(), who.gather(1, order[:, :k])
    if c < n - 1:
        beyond = values[:, -1].double() - _error(sides, members, start, stop)
        for b in torch.nonzero(d[:, -1] > beyond).flatten().tolist():
            others = torch.arange(n, device=joint.device)
            others = others[others != start + b]
            full = _exact(sides, members, torch.full_like(others, start + b), others)
            found, place = torch.topk(full, k, largest=False, sorted=True)
            d[b], i[b] = found, others[place]
    return d, i


def _counts(
    sides: Sequence[_Space],
    members: Sequence[int],
    block: Any,
    radius: Any,
    start: int,
    stop: int,
    closed: bool,
) -> Any:
    import torch

    slack = _error(sides, members, start, stop)
    low, high = (radius - slack)[:, None], (radius + slack)[:, None]
    # Compared in float32 with room for the rounding of the limits themselves.
    low32, high32 = (low * (1 - 1e-6)).float(), (high * (1 + 1e-6)).float()
    low32 = torch.where(low > 0, low32, torch.full_like(low32, -float("inf")))
    inside = block < low32
    counts = inside.sum(1)
    rows, columns = torch.nonzero((block <= high32) & ~inside, as_tuple=True)
    if len(rows):
        exact = _exact(sides, members, rows + start, columns)
        r = radius[rows]
        hit = exact <= r if closed else exact < r
        counts += torch.bincount(rows[hit], minlength=stop - start)
    return counts
