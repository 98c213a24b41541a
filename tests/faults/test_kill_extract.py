"""An extraction killed anywhere and resumed leaves the store of one that nobody disturbed."""

from __future__ import annotations

import copy
import os

import numpy as np
import pytest

import redundancy as rd
from estimators import InputError
from redundancy.store import ActivationStore
from tests.faults.killing import kill_after, seconds_of, start

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

SETTINGS = [
    {"tokens": 2},
    {"seed": 1},
    {"model_id": "other"},
    {"layers": [0, 1]},
    {"vision_effect": True},
    {"modalities": ("text",)},
]


@pytest.fixture(scope="module")
def tiny():
    from redundancy.demo.model import build_model, build_processor
    from redundancy.demo.scenes import rows

    processor = build_processor()
    model = build_model(processor.tokenizer, seed=0).eval()
    return model, processor, list(rows("held_out", 2))[:8]


def extraction(tiny, out, **options):
    model, processor, data = tiny
    # One sample a batch: its neighbours change roundings, and this is compared bit by bit.
    given = {"data": data, "tokens": 3, "batch_size": 1, "model_id": "tiny", "resume": True}
    given |= {"flush_seconds": 0.0} | options

    def work():
        torch.set_num_threads(1)
        rd.extract(model, processor, out=out, **given)

    return work


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    extraction(tiny, folder / "warm")()
    took = seconds_of(extraction(tiny, folder / "acts"))
    return ActivationStore.open(folder / "acts"), took


def contents(store):
    arrays = [store.states(layer, word) for layer in store.layers for word in store.modalities]
    for word in store.modalities:
        matrix = store.distances(word)
        arrays += [matrix.rho_sum, matrix.n_defined, store.positions(word)]
        for low, high, _ in store.pair_keys(modality=word):
            summary = store.summary(low, high, word)
            arrays += [summary.n_tokens, summary.sq_dist_sum, summary.below]
            arrays += [summary.var_per_head]
    return arrays


def same(one, other):
    assert one.samples == other.samples
    for a, b in zip(contents(one), contents(other), strict=True):
        np.testing.assert_array_equal(a, b)


def killed_and_resumed(tiny, folder, undisturbed, seed, ranks=1):
    store, took = undisturbed
    out = folder / f"acts-{seed}-{ranks}"
    rng = np.random.default_rng(seed)
    alive = 0
    if ranks == 1:
        for _ in range(2):
            alive += kill_after(extraction(tiny, out), float(rng.uniform(0, took)))
    else:
        given = [{"rank": rank, "world_size": ranks} for rank in range(ranks)]
        processes = [start(extraction(tiny, out, **one)) for one in given]
        processes[0].join(float(rng.uniform(0, took)))
        for process in processes:
            alive += process.is_alive()
            process.kill()
        for process in processes:
            process.join()
    before = ActivationStore.open(out).done_ids() if (out / "store.json").exists() else set()
    if before:
        assert [one for one in ActivationStore.open(out).verify() if one.severity == "error"] == []
    seconds_of(extraction(tiny, out))
    resumed = ActivationStore.open(out)
    assert before <= resumed.done_ids()
    same(resumed, store)
    rows = [row.id for shard in resumed._source._shards for row in shard.sidecar.samples]
    assert len(rows) == len(set(rows)) == 8  # nothing was written twice
    return alive


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_and_resumed(tiny, tmp_path, undisturbed, ranks):
    seeds = range(2) if ranks == 1 else range(1)
    alive = [killed_and_resumed(tiny, tmp_path, undisturbed, seed, ranks) for seed in seeds]
    assert sum(alive) > 0


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_hundred_kills(tiny, tmp_path, undisturbed, ranks):
    alive = [
        killed_and_resumed(tiny, tmp_path, undisturbed, seed, ranks) for seed in range(100, 200)
    ]
    assert sum(alive) >= 100  # of 200


def test_other_settings_are_refused_after_a_crash_too(tiny, tmp_path, undisturbed):
    out = tmp_path / "acts"
    process = start(extraction(tiny, out))
    while not list(out.glob("r*.json")) and process.is_alive():
        process.join(0.005)
    process.kill()
    process.join()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for change in SETTINGS:
        with pytest.raises(InputError, match="use the same setting to resume, --fresh to delete"):
            extraction(tiny, out, **change)()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    seconds_of(extraction(tiny, out))
    same(ActivationStore.open(out), undisturbed[0])


def test_a_crash_before_store_json_binds_nobody(tiny, tmp_path):
    out = tmp_path / "acts"
    out.mkdir()
    (out / ".tmp-0123456789ab-store.json").write_bytes(b'{"half')
    extraction(tiny, out, tokens=2)()
    assert ActivationStore.open(out).info["tokens"] == 2


def test_a_disk_that_fails_for_a_while(tiny, tmp_path, undisturbed, monkeypatch):
    from redundancy import _files

    out, real, failed = tmp_path / "acts", os.fsync, []

    def failing(descriptor):
        # Two shards are under way at a time: of three sidecars, one stands for good.
        if len(failed) < 3 and len(list(out.glob("r*.json"))) >= 3:
            failed.append(descriptor)
            raise OSError(5, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(_files.os, "fsync", failing)
    with pytest.raises(InputError, match=r"can't be written: Input/output error; .*--resume"):
        extraction(copy.copy(tiny), out)()
    monkeypatch.undo()
    left = ActivationStore.open(out)
    assert [one for one in left.verify() if one.severity != "note"] == []
    assert failed
    assert left.samples
    extraction(tiny, out)()
    same(ActivationStore.open(out), undisturbed[0])
