"""BROJA PID from samples: symbols as they are, states quantised; errors, bias, controls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import check_lengths, group_codes, matrix, symbols, to_numpy
from estimators._broja_decompose import DEFAULT_TOLERANCE, conditional_entropy, decompose
from estimators._broja_solve import refuse_coupling
from estimators._errors import InputError
from estimators._pid_inference import extrapolated, influence, shuffle_bias, standard_errors
from estimators._pid_quantise import Rule, code_states, is_states
from estimators._pid_result import ATOMS, PID
from estimators._resample import few_groups, shuffle_labels
from estimators._types import Diagnostic
from estimators.quantise import quantise

__all__ = ["pid_from_samples"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Bias = Literal["auto", "none", "linear", "quadratic"]

# Up to here linear extrapolation beats the plug-in for redundant and unique information.
_EXTRAPOLATE_UP_TO = 3000
_TARGET_STATES = 8
# Floating point targets with at most so many distinct values (one-hot rows, say) are labels.
_MOST_LABELS = 64
_RETAINED = 0.8


def pid_from_samples(
    z: Any,
    x: Any,
    y: Any,
    *,
    quantiser: Rule = "prediction",
    n_states: int | None = None,
    groups: Any = None,
    bias: Bias = "auto",
    control: bool = True,
    tol: float = DEFAULT_TOLERANCE,
    seed: int = 0,
) -> PID:
    r"""Estimate the BROJA PID of target z by sources x and y from n samples.

    The atoms are those of the empirical distribution of symbols, with standard errors from the
    dual: ``df*/dP(z,x) = lam``, ``df*/dP(z,y) = mu``.

    When it lies: states are seen through the quantiser, and what it loses appears as missing
    redundancy and as spurious unique and synergistic parts (of an invertible layer, where all is
    redundant, k-means on the states shows 0.5 bits of synergy). Plug-in synergy is biased upwards
    by the sparseness of P(z,x,y), so it comes as a bracket and is withheld where there are fewer
    samples than cells. For states of the whole sequence and a target computed upstream of both
    layers, the later layer's unique part is 0 and anything else is an artefact of quantising.

    Parameters
    ----------
    z : array, shape (n,) or (n, k)
        Target. Integers and strings are symbols, and so are floats with at most 64 distinct
        values (one-hot rows, say); other floats are put into 8 k-means states.
    x, y : array, shape (n,) or (n, d)
        Sources. Integers or strings are symbols (rows of a matrix are joint symbols); floating
        point states are quantised. Both must be of one sort.
    quantiser : {"prediction", "kmeans", "pq"}
        ``"prediction"``: k-means on the posterior P(z|state) of a multinomial logistic probe, one
        codebook for both sources. ``"kmeans"``, ``"pq"``: one codebook on the states themselves
        (one each, if their widths differ). Always fitted on half of the groups and evaluated on
        the other.
    n_states : int, optional
        Symbols per source; by default about two samples per cell, from 2 to 64.
    groups : array, shape (n,), optional
        Cluster of each sample (image, prompt): splits and standard errors keep groups together.
    bias : {"auto", "none", "linear", "quadratic"}
        Extrapolation of the atoms in 1/n from halves (and quarters) of the groups; ``"auto"`` is
        linear up to 3,000 samples and none above, and the confidence intervals reach to the other
        of the two. Extrapolated atoms may be negative.
    control : bool
        Decompose once more with z shuffled: what that finds is bias. Groups exchange their labels
        and each turns its sequence (`params["control_scheme"]` says which of the two had an
        effect), so that neither a target shared by an image nor one that depends on the position
        in it survives.
    tol : float
        Certified gap, in nats, as in `broja_pid`.
    seed : int
        Of splits, quantiser and shuffles.

    Returns
    -------
    PID
        With `n`, `se`, `synergy_bracket`; `params` has the alphabet sizes, samples per cell, what
        the quantiser retained of the probe's information, the plug-in atoms and the control.

    Raises
    ------
    InputError
        On empty or unequal samples, mixed sorts, NaN, too few groups to split.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.integers(2, size=(2, 5000))
    >>> pid = pid_from_samples(x ^ y, x, y).to("bits")
    >>> pid.synergistic > 0.99, pid.confidence("redundant").high < 0.01
    (True, True)

    References
    ----------
    Liang et al. 2023 (PID of high-dimensional samples); Panzeri et al. 2007 (shuffling,
    extrapolation); Bertschinger et al. 2014.
    """
    if bias not in get_args(Bias):
        raise InputError(f"bias is {bias!r}; use one of {', '.join(get_args(Bias))}")
    z_codes = _target(z, seed)
    n = check_lengths(z=z_codes, x=to_numpy(x, "x"), y=to_numpy(y, "y"))
    codes, _ = group_codes(groups, n)
    params: dict[str, Any] = {"seed": seed}
    notes: list[Diagnostic] = []
    if is_states(x, "x") != is_states(y, "y"):
        raise InputError(
            "one of x and y holds floating point states and the other symbols; pass both as "
            "states (n, d) or both as integer symbols"
        )
    retained: tuple[float | None, float | None] = (None, None)
    if is_states(x, "x"):
        coded = code_states(
            z_codes, x, y, rule=quantiser, n_states=n_states, groups=codes, seed=seed
        )
        z_codes = symbols(z_codes[coded.rows], "z")[0]
        a, b = symbols(coded.x, "x")[0], symbols(coded.y, "y")[0]
        codes = None if codes is None else np.unique(codes[coded.rows], return_inverse=True)[1]
        retained = coded.probe_information
        params["quantiser"] = coded.rule
    else:
        a, b = symbols(x, "x")[0], symbols(y, "y")[0]
    pid = _estimate(z_codes, a, b, codes, bias, tol, seed, params, notes)
    for name, known, probe in (
        ("x", params["plug_in"]["information_x"], retained[0]),
        ("y", params["plug_in"]["information_y"], retained[1]),
    ):
        if probe is not None:
            params[f"probe_information_{name}"] = probe
            params[f"retained_{name}"] = known / probe if probe > 0 else None
            if probe > 0.05 and known < _RETAINED * probe:
                notes.append(_lossy(name, known / probe))
    if control:
        notes.extend(_control(z_codes, a, b, codes, tol, seed, params))
    units = None if codes is None else int(codes.max()) + 1
    notes.extend(few_groups(units))
    params["n_groups"] = units
    return replace(pid, params=params, diagnostics=(*pid.diagnostics, *notes))


def _target(z: Any, seed: int) -> IntArray:
    array = to_numpy(z, "z")
    if array.dtype.kind != "f":
        return symbols(array, "z")[0]
    if array.size == 0:
        raise InputError(f"z is empty (shape {array.shape}); pass at least one sample")
    rows = array.reshape(len(array), -1)
    rows = matrix(rows, "z")
    distinct, codes = np.unique(rows, axis=0, return_inverse=True)
    if len(distinct) <= _MOST_LABELS:
        return symbols(codes.reshape(-1), "z")[0]
    rule = quantise(rows, n_states=_TARGET_STATES, seed=seed)
    return symbols(rule.encode(rows), "z")[0]


def _joint(z: IntArray, x: IntArray, y: IntArray, shape: tuple[int, int, int]) -> FloatArray:
    joint = np.zeros(shape)
    np.add.at(joint, (z, x, y), 1.0)
    return joint / len(z)


def _decompose(joint: FloatArray, tol: float) -> PID:
    return decompose(joint.sum(axis=2), joint.sum(axis=1), joint, tol=tol)


def _vector(pid: PID) -> FloatArray:
    return np.array([getattr(pid, name) for name in (*ATOMS, *_INFORMATION)], dtype=np.float64)


_INFORMATION = ("information_x", "information_y", "information_xy")


def _estimate(
    z: IntArray,
    x: IntArray,
    y: IntArray,
    groups: IntArray | None,
    bias: Bias,
    tol: float,
    seed: int,
    params: dict[str, Any],
    notes: list[Diagnostic],
) -> PID:
    n = len(z)
    shape = (int(z.max()) + 1, int(x.max()) + 1, int(y.max()) + 1)
    cells = shape[0] * shape[1] * shape[2]
    refuse_coupling(*shape)
    joint = _joint(z, x, y, shape)
    pid = _decompose(joint, tol)
    plug_in = _vector(pid)
    params |= {
        **pid.params,
        "alphabets": shape,
        "samples_per_cell": n / cells,
        "plug_in": dict(zip((*ATOMS, *_INFORMATION), plug_in.tolist(), strict=True)),
    }
    p_xy = joint.sum(axis=0)
    params |= {
        "entropy_given_x": conditional_entropy(joint.sum(axis=2)),
        "entropy_given_y": conditional_entropy(joint.sum(axis=1)),
        "entropy_x_given_y": conditional_entropy(p_xy),
    }
    se = standard_errors(influence(joint, *pid.dual, z, x, y), groups)
    low = pid.synergistic - shuffle_bias(z, x, y, joint, seed) if pid.synergistic is not None else 0
    order = {"none": 0, "linear": 1, "quadratic": 2, "auto": int(n <= _EXTRAPOLATE_UP_TO)}[bias]
    units = n if groups is None else int(groups.max()) + 1

    def part(rows: IntArray) -> FloatArray:
        return _vector(_decompose(_joint(z[rows], x[rows], y[rows], shape), tol))

    if units < 8 * max(order, 1):
        order = 0
    values, alternative = plug_in, None
    if order or (bias == "auto" and units >= 8):
        values = extrapolated(part, plug_in, n, groups, order=max(order, 1), seed=seed)
    if bias == "auto" and units >= 8:
        values, other = (values, plug_in) if order else (plug_in, values)
        alternative = dict(zip(ATOMS, other[: len(ATOMS)].tolist(), strict=True))
    params["bias"] = ("none", "linear", "quadratic")[order]
    estimate = dict(zip((*ATOMS, *_INFORMATION), values.tolist(), strict=True))
    bracket = sorted((float(low), float(plug_in[ATOMS.index("synergistic")])))
    notes.extend(_sparseness(n, shape))
    return replace(
        pid,
        redundant=estimate["redundant"],
        unique_x=estimate["unique_x"],
        unique_y=estimate["unique_y"],
        synergistic=None if n < cells else estimate["synergistic"],
        information_x=estimate["information_x"],
        information_y=estimate["information_y"],
        information_xy=estimate["information_xy"],
        n=n,
        se=se,
        synergy_bracket=(bracket[0], bracket[1]),
        alternative=alternative,
    )


def _sparseness(n: int, shape: tuple[int, int, int]) -> list[Diagnostic]:
    cells = shape[0] * shape[1] * shape[2]
    if n >= 3 * cells:
        return []
    sizes = " x ".join(map(str, shape))
    if n >= cells:
        return [
            Diagnostic(
                code="few-samples-per-cell",
                severity="warning",
                message=f"{n} samples for {sizes} = {cells} cells: plug-in synergy is biased "
                "upwards; read synergy_bracket, or use fewer states",
            )
        ]
    return [
        Diagnostic(
            code="synergy-withheld",
            severity="warning",
            message=f"{n} samples for {sizes} = {cells} cells are too few for a value of the "
            "synergy: it is withheld, synergy_bracket holds it between two biased estimates; use "
            "fewer states or more samples",
        )
    ]


def _lossy(name: str, share: float) -> Diagnostic:
    return Diagnostic(
        code="lossy-quantiser",
        severity="warning",
        message=f"the quantiser kept {share:.0%} of what the probe reads about z from {name}: the "
        "rest is missing from the atoms; use more states (n_states=) if the samples allow it",
    )


def _control(
    z: IntArray,
    x: IntArray,
    y: IntArray,
    groups: IntArray | None,
    tol: float,
    seed: int,
    params: dict[str, Any],
) -> list[Diagnostic]:
    """Decompose with z shuffled: the truth is 0, the result is bias."""
    rows, scheme = shuffle_labels(z, groups, seed=seed + 1)
    shuffled = _decompose(_joint(z[rows], x, y, params["alphabets"]), tol)
    found = {atom: float(getattr(shuffled, atom)) for atom in ATOMS}
    params["control"] = found
    params["control_scheme"] = scheme
    plain = params["plug_in"]
    largest = max(plain["redundant"], plain["unique_x"], plain["unique_y"])
    bias = max(found["redundant"], found["unique_x"], found["unique_y"])
    if largest > 0 and bias > 0.5 * largest:
        return [
            Diagnostic(
                code="control",
                severity="warning",
                message=f"with the target shuffled ({scheme}), where all atoms are 0, the same "
                f"procedure finds up to {bias:.3g} nats, against {largest:.3g} with the true "
                "target: these atoms are mostly bias; use fewer states or more samples",
            )
        ]
    return []
