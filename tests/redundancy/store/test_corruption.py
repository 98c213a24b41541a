"""Every flipped, missing or surplus byte is found, by `verify` and by reading, and named."""

import numpy as np
import pytest

from estimators import InputError
from redundancy.store import ActivationStore


def read_all(path):
    store = ActivationStore.open(path)
    for word in store.modalities:
        for layer in store.layers:
            store.states(layer, word)
        store.distances(word)
        store.positions(word)
        store.groups(word)
    store.per_sample("var_per_head")
    store.per_sample("n_vision")
    store.per_sample("n_keys")
    return store


def flip(path, index, bit):
    data = bytearray(path.read_bytes())
    data[index] ^= 1 << bit
    path.write_bytes(data)


def files(store, suffix):
    return sorted(path for path in store.path.iterdir() if path.suffix == suffix)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("times", [4, pytest.param(400, marks=pytest.mark.slow)])
def test_every_flipped_bit_is_found(filled, suffix, times):
    rng = np.random.default_rng(3)
    for target in files(filled, suffix):
        original = target.read_bytes()
        for index in rng.choice(len(original), size=times, replace=False):
            flip(target, index, rng.integers(8))
            errors = [one for one in filled.verify() if one.severity == "error"]
            assert target.name in " ".join(one.path for one in errors), (target.name, index)
            with pytest.raises(InputError, match=r"r0-.*-00000|store\.json"):
                read_all(filled.path)
            target.write_bytes(original)
    assert filled.verify() == []


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("change", ["truncated", "longer", "empty", "missing"])
def test_truncated_and_missing_files(filled, suffix, change):
    target = files(filled, suffix)[1]
    data = target.read_bytes()
    if change == "missing":
        target.unlink()
    else:
        target.write_bytes({"truncated": data[:-7], "longer": data + b"\0", "empty": b""}[change])
    findings = filled.verify()
    assert len(findings) == 1
    assert target.stem in findings[0].path
    if (suffix, change) == (".json", "missing"):
        # Without its sidecar a shard does not count: this is what a killed writer leaves.
        assert findings[0].severity == "note"
        assert read_all(filled.path).n_samples == 9
        return
    assert findings[0].severity == "error"
    assert "--resume" in findings[0].remedy
    with pytest.raises(InputError, match=target.stem):
        read_all(filled.path)


def test_the_intact_part_stays_readable_and_the_rest_is_made_anew(filled, sample, create):
    shard = files(filled, ".safetensors")[2]
    flip(shard, 10_000 % shard.stat().st_size, 1)
    shard.write_bytes(shard.read_bytes()[:-1])
    flip(files(filled, ".safetensors")[0], -5, 2)
    rest = ActivationStore.open(filled.path, skip_damaged=True)
    assert rest.n_samples == 6
    assert rest.states(0, "vision").shape == (24, 6)
    assert rest.pair(0, 1, "text").summary.rho_sum.shape == (6,)
    flip(files(filled, ".safetensors")[0], -5, 2)
    for path in (shard, shard.with_suffix(".json")):
        path.unlink()
    store = create(filled.path, resume=True)
    with store.writer() as writer:
        added = [writer.add(sample(number)) for number in range(12)]
    assert sum(added) == 3
    assert read_all(filled.path).n_samples == 12


def test_a_renamed_shard_is_not_taken_for_another(filled):
    sidecar = files(filled, ".json")[0]
    sidecar.rename(sidecar.with_name("r7-0123456789ab-000001.json"))
    with pytest.raises(InputError, match="it was renamed"):
        ActivationStore.open(filled.path)


def test_missing_store_json_says_so(filled, tmp_path):
    (filled.path / "store.json").unlink()
    with pytest.raises(InputError, match=r"not an activation store: it has no store\.json"):
        ActivationStore.open(filled.path)
    with pytest.raises(InputError, match="there is nothing at"):
        ActivationStore.open(tmp_path / "nowhere")


def test_not_a_number_names_layer_count_and_place(tmp_path, sample, create):
    store = create(tmp_path / "acts")
    one = sample(0)
    one.states["vision"][2, 1, 3] = np.nan
    one.states["vision"][2, 3, :2] = np.inf
    one.statistics["vision"].rho_sum[1, 2] = np.nan
    with store.writer() as writer:
        writer.add(one)
    store = store.refresh()
    with pytest.raises(InputError, match=r"layer 2 \(vision\) holds 3 NaN .* of 24, .* row 1"):
        store.states(2, "vision")
    with pytest.raises(InputError, match=r"layers 1→2 \(vision\): .* 1 of 1 samples .*'q0'"):
        store.pair(1, 2, "vision", states=False)
    assert store.pair(0, 1, "vision").n == 4
    assert {one.severity for one in store.verify()} == {"warning"}
