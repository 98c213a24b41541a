"""Making and taking up stores: same settings or a sentence, and no file of others is touched."""

import json
import pickle

import numpy as np
import pytest

from estimators import InputError
from redundancy.store import ActivationStore


def test_a_second_store_in_the_same_folder_needs_a_word(filled, create):
    with pytest.raises(InputError, match=r"--resume to continue it, --fresh to delete"):
        create(filled.path)
    assert create(filled.path, resume=True).n_samples == 12
    assert create(filled.path, fresh=True).n_samples == 0
    assert [path.name for path in filled.path.iterdir()] == ["store.json"]
    with pytest.raises(InputError, match="choose one of the two"):
        create(filled.path, fresh=True, resume=True)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "tiny/qwen"}, 'model = "tiny/llava", this run has model = "tiny/qwen"'),
        ({"revision": None}, 'revision = "abc", this run has revision = null'),
        ({"tokens": 16}, 'tokens = "all", this run has tokens = 16'),
        ({"seed": 1}, "seed = 0, this run has seed = 1"),
        ({"layers": [0, 1]}, r"layers = \[0,1,2,3\], this run has layers = \[0,1\]"),
        ({"thresholds": [0.1]}, "thresholds ="),
        ({"modalities": ["text"]}, "modalities ="),
        ({"dims": 8}, "dims = 6, this run has dims = 8"),
        ({"dataset": {"name": "toy", "digest": "d2"}}, 'dataset digest = "d1", .* = "d2"'),
        ({"settings": {"var": True}}, "var = null, this run has var = true"),
    ],
)
def test_other_settings_are_refused_and_named(tmp_path, create, change, sentence):
    create(tmp_path / "acts")
    with pytest.raises(InputError, match=sentence):
        create(tmp_path / "acts", resume=True, **change)


def test_the_same_data_may_lie_elsewhere(tmp_path, create):
    create(tmp_path / "acts")
    create(tmp_path / "acts", resume=True, dataset={"name": "moved.jsonl", "digest": "d1"})


@pytest.mark.parametrize("option", [{}, {"fresh": True}, {"resume": True}])
def test_files_of_others_are_never_deleted(tmp_path, create, option):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"'thesis\.tex'"):
        create(tmp_path, **option)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_fresh_keeps_a_store_with_strange_files(filled, create):
    (filled.path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="nothing was deleted"):
        create(filled.path, fresh=True)
    assert ActivationStore.open(filled.path).n_samples == 12


def test_a_crash_before_store_json_leaves_a_folder_that_can_be_used(tmp_path, create):
    (tmp_path / "acts").mkdir()
    (tmp_path / "acts" / ".tmp-0123456789ab-store.json").write_text("{")
    assert create(tmp_path / "acts").n_samples == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"n_layers": 0}, "at least one block"),
        ({"layers": [0, 4]}, r"layers \[0, 4\] are out of range.* 0 to 3"),
        ({"layers": []}, "out of range"),
        ({"tokens": -1}, "tokens is -1"),
        ({"tokens": "some"}, "tokens is 'some'"),
        ({"thresholds": [0.1, 3.0]}, "above 0 and at most 2"),
        ({"thresholds": [float("nan")]}, "above 0 and at most 2"),
        ({"modalities": ["../up"]}, "settings of the store are not valid"),
        ({"modalities": []}, "settings of the store are not valid"),
        ({"seed": -1}, "settings of the store are not valid"),
        ({"settings": {"f": print}}, "settings can't be kept as JSON"),
    ],
)
def test_unusable_settings(tmp_path, create, change, sentence):
    with pytest.raises(InputError, match=sentence):
        create(tmp_path / "acts", **change)
    assert not list(tmp_path.glob("acts/*"))


def test_a_file_is_no_folder(tmp_path, create):
    (tmp_path / "acts").write_text("x")
    with pytest.raises(InputError, match=r"acts is a file"):
        create(tmp_path / "acts")
    with pytest.raises(InputError, match="is not a store folder"):
        ActivationStore.open(tmp_path / "acts")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"id": ""}, "ids have 1 to 4,096"),
        ({"states": {"audio": np.zeros((4, 1, 6))}}, "has modality 'audio'"),
        ({"states": {"text": np.zeros((3, 1, 6))}}, "the store keeps .4 layers"),
        ({"states": {"text": np.zeros((4, 1, 7))}}, "have 7 features; the store keeps 6"),
        ({"states": {"text": np.zeros((4, 1))}}, "text states have shape"),
        ({"layers": (0, 1)}, r"keeps the layers \[0, 1\]"),
        ({"positions": {"vision": np.arange(9)}}, "positions of shape"),
        ({"row": {"text": "x" * 2**25}}, "leave out the largest field"),
        ({"id": "\ud800"}, "not valid text"),
    ],
)
def test_samples_that_do_not_fit(tmp_path, create, sample, change, sentence):
    store = create(tmp_path / "acts")
    with store.writer() as writer:
        with pytest.raises(InputError, match=sentence):
            writer.add(sample(0, **change))
        writer.add(sample(2))
    assert store.done_ids() == {"q2"}


def test_other_thresholds_or_layers_of_sums(tmp_path, create, sample):
    statistics = sample(0).statistics
    writer = create(tmp_path / "a", thresholds=[0.3]).writer()
    with pytest.raises(InputError, match=r"counted at the thresholds .* keeps \[0\.3\]"):
        writer.add(sample(0))
    writer = create(tmp_path / "b", n_layers=7, layers=[0, 1]).writer()
    with pytest.raises(InputError, match="about 4 layers; the store is about 8, and keeps 2"):
        writer.add(sample(0, states={}, positions={}, statistics=statistics))


def test_ranks_are_numbers(filled):
    with pytest.raises(InputError, match="rank is -1"):
        filled.writer(rank=-1)


def test_newer_schema_is_named_before_anything_else(filled):
    path = filled.path / "store.json"
    value = json.loads(path.read_text()) | {"schema_version": 2}
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match="schema version 2, .* reads up to 1; update redundancy"):
        ActivationStore.open(filled.path)


def test_a_store_travels_as_its_path(filled):
    data = pickle.dumps(filled)
    assert len(data) < 1000
    assert pickle.loads(data).n_samples == 12
    assert ActivationStore.open(filled.handle).n_samples == 12


def test_a_modality_named_twice_is_refused_before_anything_is_written(tmp_path, create):
    with pytest.raises(InputError, match="modalities names one twice"):
        create(tmp_path / "acts", modalities=("vision", "text", "vision"))
    assert list(tmp_path.iterdir()) == []
