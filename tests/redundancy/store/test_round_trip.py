"""What was captured is what is read, whichever process wrote which part."""

import itertools
import json
import pickle

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from estimators import InputError
from redundancy.store import ActivationStore
from redundancy.summary import summarise


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shard", [1, 5, 100])
def test_states_come_back_bit_for_bit_in_the_order_of_ids(tmp_path, sample, create, dtype, shard):
    store = create(tmp_path / "acts")
    samples = [sample(number, dtype) for number in range(12)]
    with store.writer(max_samples=shard) as writer:
        for number in np.random.default_rng(0).permutation(12):
            assert writer.add(samples[number])
    store = ActivationStore.open(tmp_path / "acts")
    assert store.verify() == []
    assert [row["id"] for row in store.samples] == [f"q{number}" for number in range(12)]
    for modality, layer in itertools.product(("vision", "text"), range(4)):
        expected = np.concatenate([one.states[modality][layer] for one in samples])
        found = store.states(layer, modality)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8))
        positions = np.concatenate([one.positions[modality] for one in samples])
        np.testing.assert_array_equal(store.positions(modality), positions)
    counts = [one.states["text"].shape[1] for one in samples]
    np.testing.assert_array_equal(store.token_samples("text"), np.repeat(np.arange(12), counts))
    np.testing.assert_array_equal(store.groups("text"), np.repeat(np.arange(12) // 2, counts))


def test_one_shard_is_read_without_a_copy(tmp_path, sample, create, monkeypatch):
    monkeypatch.setattr("redundancy.store._tensors._MAPPED", 1)
    store = create(tmp_path / "acts")
    with store.writer() as writer:
        for number in range(4):
            writer.add(sample(number))
    x = ActivationStore.open(tmp_path / "acts").states(1, "vision")
    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert not x.flags.writeable
    assert isinstance(base, np.memmap)


def test_sums_in_the_store_are_sums_of_its_states(filled):
    for pair in filled.pairs():
        made = summarise(
            pair.x_lower, pair.x_upper, filled.token_samples(pair.modality), pair.summary.thresholds
        )
        kept = pair.summary
        np.testing.assert_array_equal(made.n_tokens, kept.n_tokens)
        np.testing.assert_array_equal(made.n_defined, kept.n_defined)
        np.testing.assert_allclose(made.rho_sum, kept.rho_sum, rtol=1e-5)
        np.testing.assert_allclose(made.sq_dist_sum, kept.sq_dist_sum, rtol=1e-5)
        np.testing.assert_array_equal(made.below, kept.below)
    assert filled.pair(0, 1, "vision").summary.n_defined.sum() == 12 * 4 - 1


def test_pairs_share_arrays_and_hold_what_measures_need(filled, sample):
    pairs = list(filled.pairs())
    assert [(pair.label, pair.modality) for pair in pairs] == [
        (label, modality) for modality in ("vision", "text") for label in ("0→1", "1→2", "2→3")
    ]
    assert pairs[0].x_upper is pairs[1].x_lower
    assert pairs[3].x_lower is not pairs[2].x_upper
    assert [pair.label for pair in filled.pairs(modality="text", stride=2)] == ["0→2", "1→3"]
    assert [pair.label for pair in filled.pairs([0, 3], "text")] == ["0→3"]
    summary = pairs[1].summary
    expected = np.stack([sample(number).var_per_head[1] for number in range(12)])
    np.testing.assert_array_equal(summary.var_per_head, expected)
    np.testing.assert_allclose(summary.vision_share, [4 / (5 + number % 3) for number in range(12)])
    assert filled.pair(0, 2, "text").summary.below is not None
    far = filled.pair(1, 3, "text").summary
    assert far.below is None
    assert far.sq_dist_sum is None
    bare = filled.pair(0, 1, "text", states=False)
    assert bare.x_lower is None
    assert bare.summary.rho_sum.shape == (12,)


def test_distances_weight_by_token_and_by_sample(filled, sample):
    matrix = filled.distances("text")
    statistics = [sample(number).statistics["text"] for number in range(12)]
    rho = np.stack([one.rho_sum for one in statistics])
    count = np.stack([one.n_defined for one in statistics])
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(matrix.token_weighted, rho.sum(0) / count.sum(0))
        np.testing.assert_allclose(matrix.sample_weighted, np.nanmean(rho / count, axis=0))
    labels, by_group, counts = matrix.by_group()
    assert labels.tolist() == list(range(6))
    np.testing.assert_allclose(by_group[3], rho[6] + rho[7])
    np.testing.assert_array_equal(counts.sum(0), count.sum(0))


def test_distances_from_states_equal_the_stored_ones(filled):
    states = {layer: filled.states(layer, "vision") for layer in filled.layers}
    plain = ActivationStore.from_arrays(states, groups=filled.token_samples("vision"))
    stored = filled.distances("vision")
    np.testing.assert_allclose(plain.distances().rho_sum, stored.rho_sum, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(plain.distances().n_defined, stored.n_defined)


def test_sums_without_states(tmp_path, sample, create):
    store = create(tmp_path / "acts", tokens=0)
    with store.writer() as writer:
        for number in range(4):
            writer.add(sample(number, states={}, positions={}))
    store = store.refresh()
    assert "sums only" in repr(store)
    pair = next(store.pairs())
    assert pair.x_lower is None
    assert pair.summary.n_tokens.tolist() == [4] * 4
    with pytest.raises(InputError, match=r"only sums over all tokens.*--tokens K"):
        store.states(0, "vision")


def test_a_subset_of_layers(tmp_path, sample, create):
    store = create(tmp_path / "acts", layers=[0, 3])
    kept = {name: x[[0, 3]] for name, x in sample(0).states.items()}
    with store.writer() as writer:
        writer.add(sample(0, states=kept, layers=(0, 3)))
    store = store.refresh()
    assert store.layers == (0, 3)
    pair = store.pair(0, 3, "vision")
    np.testing.assert_array_equal(pair.x_upper, kept["vision"][1])
    assert pair.summary.below is not None
    assert store.pair(1, 2, "vision", states=False).summary.rho_sum.shape == (1,)


def test_samples_may_lack_a_modality_or_attention(tmp_path, sample, create):
    store = create(tmp_path / "acts")
    full = sample(1)
    bare = sample(
        0,
        statistics={"text": full.statistics["text"]},
        states={"text": full.states["text"]},
        positions={},
        var_per_head=None,
        n_vision=0,
        n_keys=0,
    )
    with store.writer() as writer:
        writer.add(bare)
        writer.add(full)
    summary = store.refresh().pair(0, 1, "vision").summary
    assert summary.n_tokens.tolist() == [0, 4]
    assert np.isnan(summary.var_per_head[0]).all()
    assert np.isnan(summary.vision_share[0])
    assert store.refresh().n_tokens("vision") == 4


def test_optional_arrays_of_any_shape(tmp_path, sample, create):
    store = create(tmp_path / "acts")
    effect = np.arange(6, dtype=np.float32).reshape(3, 2)
    with store.writer() as writer:
        writer.add(sample(0, vision_effect=effect))
        writer.add(sample(1))
    found = store.refresh().per_sample("vision_effect")
    np.testing.assert_array_equal(found[0], effect)
    assert found[1] is None
    assert store.per_sample("unheard_of") is None


def test_targets_come_from_the_table(filled):
    store = filled.with_target("answer")
    assert set(store.target_of("text").tolist()) == {"yes", "no"}
    assert store.pair(0, 1, "vision").target.shape == (48,)
    assert filled.target is None
    assert store.handle is None
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.target_of("text"), store.target_of("text"))
    with pytest.raises(InputError, match="12 of 12 samples have no 'colour'; their records hold"):
        filled.with_target("colour")


def test_shards_are_ordinary_safetensors(filled):
    shard = min(filled.path.glob("*.safetensors"))
    loaded = safetensors.numpy.load_file(shard)
    assert loaded["states/vision/0"].shape == (12, 6)
    sidecar = json.loads(shard.with_suffix(".json").read_text())
    assert sidecar["bytes"] == shard.stat().st_size
    assert [row["id"] for row in sidecar["samples"]] == ["q0", "q1", "q2"]


def test_info_names_what_a_record_needs(filled):
    info = filled.info
    assert {
        "path",
        "sha256",
        "model",
        "revision",
        "dataset",
        "tokens",
        "layers",
        "n",
        "dtype",
    } <= set(info)
    assert info["n"] == 12
    assert info["dtype"] == "float32"
    json.dumps(info)
    assert repr(filled).endswith("12 samples, vision 48 + text 24 tokens, layers 0 to 3, float32)")


def test_two_writers_and_a_sample_that_both_wrote(tmp_path, sample, create):
    create(tmp_path / "acts")
    stores = [create(tmp_path / "acts", resume=True) for _ in range(2)]
    with stores[0].writer(rank=0) as first, stores[1].writer(rank=1) as second:
        for number in range(0, 8):
            first.add(sample(number)) if number % 2 else second.add(sample(number))
        first.add(sample(99))
        second.add(sample(99))
    store = ActivationStore.open(tmp_path / "acts")
    assert [row["id"] for row in store.samples] == [f"q{number}" for number in (*range(8), 99)]
    expected = np.concatenate([sample(n).states["text"][2] for n in (*range(8), 99)])
    np.testing.assert_array_equal(store.states(2, "text"), expected)
    assert store.pair(0, 1, "text").summary.rho_sum.shape == (9,)
    findings = store.verify()
    assert [finding.severity for finding in findings] == ["note"]
    assert "'q99'" in findings[0].problem


def test_rows_become_plain_json(tmp_path, sample, create):
    store = create(tmp_path / "acts")
    row = {"score": np.float32(0.5), "choices": np.array(["a", "b"]), "id": "not me", "x": None}
    with store.writer() as writer:
        writer.add(sample(0, row=row))
        with pytest.raises(InputError, match="record of sample 'q1' can't be kept as JSON"):
            writer.add(sample(1, row={"image": object()}))
        with pytest.raises(InputError, match="record of sample 'q2'"):
            writer.add(sample(2, row={"text": "\ud800"}))
    assert store.refresh().samples == [
        {"id": "q0", "group": "image-0", "score": 0.5, "choices": ["a", "b"], "x": None}
    ]
