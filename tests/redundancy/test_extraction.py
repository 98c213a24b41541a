"""From a live model to a store: the same whatever is killed, interrupted or shared out."""

import copy
import multiprocessing
import time

import ml_dtypes
import numpy as np
import pytest

from estimators import InputError
from redundancy.extraction import extract, share
from redundancy.store import ActivationStore
from redundancy.summary import summarise

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tiny():
    """The architecture of the bundled model, untrained, with a few of its questions."""
    from redundancy.demo.model import build_model, build_processor
    from redundancy.demo.scenes import rows

    processor = build_processor()
    model = build_model(processor.tokenizer, seed=0).eval()
    return model, processor, list(rows("held_out", 2))[:7]


def run(tiny, out, **options):
    model, processor, data = tiny
    given = {"data": data, "tokens": 4, "batch_size": 2, "model_id": "tiny"} | options
    return extract(model, processor, out=out, **given)


def same(one, other):
    assert one.samples == other.samples
    for word in one.modalities:
        for layer in one.layers:
            np.testing.assert_array_equal(one.states(layer, word), other.states(layer, word))
        np.testing.assert_array_equal(one.distances(word).rho_sum, other.distances(word).rho_sum)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    # One sample a batch: its neighbours change roundings, and this is compared bit by bit.
    return run(tiny, tmp_path_factory.mktemp("whole") / "acts", batch_size=1)


def test_what_is_in_the_store(whole, tiny):
    model, _, data = tiny
    assert whole.n_samples == len(data)
    assert whole.modalities == ("vision", "text")
    assert whole.n_layers == model.config.text_config.num_hidden_layers
    assert whole.layers == tuple(range(whole.n_layers + 1))
    assert whole.n_tokens("vision") == 4 * len(data)
    assert {"question", "answer", "prediction"} <= set(whole.samples[0])
    assert whole.info["model"] == "tiny"
    assert whole.info["dataset"]["n"] == len(data)
    assert "torch" in whole.info["packages"]
    summary = whole.pair(0, 1, "vision").summary
    assert summary.n_tokens.tolist() == [36] * len(data)
    assert summary.var_per_head.shape == (len(data), 4)
    assert whole.verify() == []


def test_stored_sums_are_sums_of_all_states(tiny, tmp_path):
    store = run(tiny, tmp_path / "acts", tokens="all")
    for pair in store.pairs():
        made = summarise(
            pair.x_lower, pair.x_upper, store.token_samples(pair.modality), pair.summary.thresholds
        )
        np.testing.assert_array_equal(made.n_defined, pair.summary.n_defined)
        np.testing.assert_allclose(made.rho_sum, pair.summary.rho_sum, rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(made.sq_dist_sum, pair.summary.sq_dist_sum, rtol=1e-4)
        assert np.abs(made.below - pair.summary.below).max() <= 1


def test_bfloat16_states_stay_bfloat16(tiny, tmp_path):
    model, processor, data = tiny
    half = copy.deepcopy(model).to(torch.bfloat16)
    store = run((half, processor, data[:2]), tmp_path / "acts", tokens=2)
    assert store.states(3, "text").dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("after", [0, 3, 6])
def test_interrupted_and_resumed(tiny, tmp_path, whole, after):
    def interrupt(done, total):
        assert total == 7
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "acts", batch_size=1, progress=interrupt)
    left = ActivationStore.open(tmp_path / "acts")
    assert left.n_samples >= max(1, after)
    seen = []
    resumed = run(
        tiny, tmp_path / "acts", batch_size=1, resume=True, progress=lambda *p: seen.append(p)
    )
    same(resumed, whole)
    assert len(seen) <= 7 - left.n_samples


def test_two_processes_share_one_store(tiny, tmp_path, whole):
    for rank in (0, 1):
        run(tiny, tmp_path / "acts", batch_size=1, rank=rank, world_size=2)
    shards = sorted(path.name for path in (tmp_path / "acts").glob("*.safetensors"))
    assert [name[:3] for name in shards] == ["r0-", "r1-"]
    same(ActivationStore.open(tmp_path / "acts"), whole)


def test_a_launcher_says_which_process_this_is(tiny, tmp_path, whole, monkeypatch):
    assert share() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        assert share() == (rank, 2)
        assert share(0, 1) == (0, 1)
        run(tiny, tmp_path / "acts", batch_size=1)
    same(ActivationStore.open(tmp_path / "acts"), whole)
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(InputError, match="RANK='first' .* no whole numbers"):
        share()
    with pytest.raises(InputError, match="together, or neither"):
        share(rank=1)


def test_killed_and_resumed(tiny, tmp_path, whole):
    def work():
        torch.set_num_threads(1)
        run(tiny, tmp_path / "acts", batch_size=1, flush_seconds=0.0)

    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("acts/r*.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    worker.kill()
    worker.join()
    left = ActivationStore.open(tmp_path / "acts").n_samples
    assert left >= 1
    same(run(tiny, tmp_path / "acts", batch_size=1, resume=True), whole)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "--resume to continue it"),
        ({"resume": True, "tokens": 5}, "tokens = 4, this run has tokens = 5"),
        ({"resume": True, "seed": 1}, "seed = 0, this run has seed = 1"),
        ({"resume": True, "model_id": "other"}, 'model = "tiny", this run has model = "other"'),
        ({"resume": True, "vision_effect": True}, "vision_effect = false, .* = true"),
        ({"resume": True, "data": [{"question": "is it red?"}]}, "dataset digest"),
        ({"rank": 2, "world_size": 2}, "rank is 2 of 2 processes"),
        ({"fresh": True, "rank": 1, "world_size": 2}, "delete the folder first"),
    ],
)
def test_settings_that_do_not_agree(tiny, whole, change, sentence):
    before = whole.done_ids()
    with pytest.raises(InputError, match=sentence):
        run(tiny, whole.path, **change)
    assert whole.done_ids() == before


def test_unusable_data_and_models_are_input_errors(tiny, tmp_path):
    model, processor, _ = tiny
    with pytest.raises(InputError, match="needs a question"):
        run(tiny, tmp_path / "a", data=[{"image": None}])
    with pytest.raises(InputError, match="there is no data at"):
        run(tiny, tmp_path / "b", data=tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match="expected a Hugging Face model"):
        extract(object(), processor, [], out=tmp_path / "c")
    with pytest.raises(InputError, match="this model has the layers 0 to 8"):
        run(tiny, tmp_path / "d", layers=[99])
    model.train()
    try:
        with pytest.raises(InputError, match="training mode"):
            run(tiny, tmp_path / "e")
    finally:
        model.eval()


def test_what_finished_nothing_leaves_nothing(tiny, tmp_path):
    _, _, data = tiny

    def interrupt(done, total):
        raise KeyboardInterrupt

    out = tmp_path / "new" / "acts"
    rows = [{"question": "what is it?", "image": b"no picture"}, *data]
    with pytest.raises(InputError, match="row 0: .*image"):
        run(tiny, out, data=rows)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="row 0: .*image"):
        run(tiny, out, data=rows, resume=True)
    assert list(tmp_path.iterdir()) == []
    # Where another process is at work, or an earlier one was, the store stays.
    real = ActivationStore.create

    def crowded(path, **settings):
        store = real(path, **settings)
        others.append(store.writer().__enter__())
        return store

    others = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ActivationStore, "create", crowded)
        with pytest.raises(InputError, match="row 0: .*image"):
            run(tiny, out, data=rows, resume=True)
    assert [path.name for path in out.iterdir()] == ["store.json"]
    others[0].__exit__(None, None, None)
    with pytest.raises(InputError, match="row 0: .*image"):
        run(tiny, out, data=rows, resume=True)
    assert [path.name for path in out.iterdir()] == ["store.json"]
    # What was finished is kept, and stands in the way of another run.
    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "acts", batch_size=1, progress=interrupt)
    assert ActivationStore.open(tmp_path / "acts").done_ids()
    with pytest.raises(InputError, match="add --resume"):
        run(tiny, tmp_path / "acts")


def test_fresh_starts_over(tiny, tmp_path, whole):
    run(tiny, tmp_path / "acts", tokens=1)
    same(run(tiny, tmp_path / "acts", fresh=True, batch_size=1), whole)
