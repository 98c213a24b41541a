"""From saved activations to a report, with any network's states.

python examples/saved_activations.py                      makes a file of states first
python examples/saved_activations.py states.npz           your own: one array per layer
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import redundancy as rd
from redundancy.report.html import write_report


def make_states(path: Path, images: int = 120, tokens: int = 10, width: int = 12) -> None:
    """Write the states of a small residual network whose third step alone does much."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(images), tokens)
    x = rng.normal(size=(images, width))[image] + rng.normal(size=(len(image), width))
    states = {"layer_0": x}
    for layer, step in enumerate([0.05, 0.05, 1.0, 0.02], start=1):
        x = x + step * np.tanh(x @ rng.normal(size=(width, width)) / 3)
        states[f"layer_{layer}"] = x
    np.savez(path, groups=image, **states)


def main(arguments: list[str] | None = None) -> rd.Results:
    """Estimate, print, save, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("states", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/saved_activations"))
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.states
    if path is None:
        path = given.out / "states.npz"
        make_states(path)
    results = rd.estimate(path, ["geometric", "informational"])
    print(results)
    far = rd.estimate(path, "geometric", pairs="first")
    print("\nwhat a late entry would have to bridge")
    print(far)
    results.save(given.out / "record.json")
    write_report(rd.Results.load(given.out).record, given.out / "report.html")
    print(f"\nreport: {given.out / 'report.html'}")
    return results


if __name__ == "__main__":
    main()
