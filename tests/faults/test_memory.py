"""What `--memory` promises, measured: peaks of a store that would need four times as much."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import redundancy as rd
from redundancy.store import ActivationStore
from redundancy.store._schema import SampleRow
from redundancy.store._writer import write_shard

LIMIT = 10**9
SCRIPT = """
import resource, sys
import redundancy as rd
found = rd.estimate(sys.argv[1], sys.argv[2], memory="1GB", jobs=1)
assert len(found) == 2 and all(one.estimate.value is not None for one in found), found
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Three layers of 40,000 tokens of width 1,024: 4 GB as double precision copies of a pair."""
    layers, width, per_shard, shards = 3, 1024, 5000, 8
    path = tmp_path_factory.mktemp("large") / "acts"
    store = ActivationStore.create(
        path, n_layers=layers - 1, dims=width, modalities=("text",), tokens=50
    )
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(16, width)).astype(np.float32)
    for number in range(shards):
        x = rng.standard_normal((per_shard, 16), dtype=np.float32) @ basis
        tensors = {}
        for layer in range(layers):
            x += 0.5 * rng.standard_normal(x.shape, dtype=np.float32)
            tensors[f"states/text/{layer}"] = x.astype(np.float16)
        tensors["tokens/text/sample"] = np.repeat(np.arange(100, dtype=np.int32), 50)
        tensors["tokens/text/position"] = np.tile(np.arange(50, dtype=np.int64), 100)
        rows = [
            SampleRow(id=f"s{number * 100 + i}", group=f"g{number * 100 + i}", row={})
            for i in range(100)
        ]
        write_shard(path, f"r0-00000000-{number:06d}", store._source.manifest, tensors, rows, [])
    return path


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["geometric", "proximal", "cka", "informational"])
def test_peaks_stay_below_the_limit(large, measure):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(large), measure], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < LIMIT


@pytest.mark.slow
def test_a_measure_that_holds_whole_layers_is_refused_before_it_fills_the_memory(large):
    with pytest.raises(rd.InputError, match=r"takes about [2-9]\.\d GB .* memory is 1\.0 GB"):
        rd.estimate(rd.open_source(large).with_target("id"), "v_information", memory="1GB")
