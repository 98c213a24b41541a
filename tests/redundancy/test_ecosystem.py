"""Frames out, data sets and foreign arrays in, and the schemas of what is written."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import jsonschema
import numpy as np
import pytest

import redundancy as rd
from redundancy import schemas
from redundancy._frames import make_frame
from tests.redundancy.store.conftest import create_store, sample_of

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def states():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    return {0: x, 1: x + 0.1 * rng.normal(size=x.shape)}


# Frames.


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_every_library_shows_the_same_rows(states, library):
    results = rd.estimate(states, ["geometric", "cka"])
    frame = results.to_frame(library)
    columns = frame.column_names if library == "pyarrow" else list(frame.columns)
    assert columns[:6] == ["measure", "modality", "lower", "upper", "value", "ci_low"]
    values = frame["value"].to_pylist() if library == "pyarrow" else list(frame["value"])
    assert values == [r.estimate.value for r in results]
    # A by-product of one measure is null in the rows of another.
    assert "biased" in columns


def test_a_column_that_is_null_at_first_keeps_its_later_values():
    # polars looks at 100 rows unless told otherwise.
    rows = [{"a": None}] * 200 + [{"a": 0.5}]
    assert make_frame(rows, "polars")["a"].to_list()[-1] == 0.5


def test_an_empty_frame():
    assert len(make_frame([])) == 0
    assert make_frame([], "polars").height == 0


def test_libraries_that_are_unknown_or_missing_are_said(monkeypatch):
    with pytest.raises(rd.InputError, match="library is 'excel'; use one of pandas, polars"):
        make_frame([], "excel")  # type: ignore[arg-type]
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(rd.InputError, match="to_frame needs polars.* pip install polars"):
        make_frame([], "polars")


# Arrays of other libraries.


class Elsewhere:
    """An array on an accelerator: NumPy's protocol refuses, DLPack copies to the host."""

    def __init__(self, array, copies=True):
        self.array, self.copies = np.ascontiguousarray(array), copies

    def __array__(self, *arguments, **options):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __dlpack_device__(self):
        return (2, 0)  # kDLCUDA

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if not self.copies or dl_device != (1, 0):
            raise BufferError("the array is on a GPU")
        return self.array.__dlpack__()


class Bare:
    """Speaks DLPack and nothing else."""

    def __init__(self, array):
        self.array = np.ascontiguousarray(array)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)


@pytest.mark.parametrize("wrap", [Elsewhere, Bare])
def test_dlpack_comes_in(states, wrap):
    x, y = states[0], states[1]
    plain = rd.ksg_mi(x, y, ci=None).value
    assert rd.ksg_mi(wrap(x), wrap(y), ci=None).value == plain
    store = rd.ActivationStore.from_arrays({0: wrap(x), 1: wrap(y)})
    assert np.array_equal(store.states(1, "text"), y)


def test_torch_tensors_come_in_by_dlpack_and_by_name(states):
    torch = pytest.importorskip("torch")
    tensors = {k: torch.from_numpy(v) for k, v in states.items()}
    ours = rd.estimate(tensors, "geometric")[0].estimate.value
    assert ours == rd.estimate(states, "geometric")[0].estimate.value


def test_an_array_that_cannot_leave_its_device_is_said(states):
    with pytest.raises(rd.InputError, match="x cannot be read as an array .implicit conversion"):
        rd.ksg_mi(Elsewhere(states[0], copies=False), states[1])
    with pytest.raises(rd.InputError, match="layer 0 .text. is not an array"):
        rd.ActivationStore.from_arrays({0: Elsewhere(states[0], copies=False), 1: states[1]})


# Data sets.


def as_dataset(states, **more):
    columns = {f"layer_{k}": v.tolist() for k, v in states.items()}
    return datasets.Dataset.from_dict(columns | more)


def test_a_data_set_of_states_is_a_source(states):
    groups = [f"image {i // 6}" for i in range(60)]
    data = as_dataset(states, groups=groups, target=[i % 3 for i in range(60)], note=["x"] * 60)
    ours = rd.estimate(data, "geometric")[0].estimate
    store = rd.ActivationStore.from_arrays(states, groups=groups)
    assert ours == rd.estimate(store, "geometric")[0].estimate
    assert ours.n_groups == 10
    assert rd.open_source(data).target_of("text").tolist() == [i % 3 for i in range(60)]


def test_a_selected_and_shuffled_data_set_keeps_its_order(states):
    data = as_dataset(states).shuffle(seed=1).select(range(20))
    store = rd.open_source(data)
    assert np.array_equal(store.states(0, "text"), np.array(data["layer_0"]))


def test_matrices_make_groups_of_samples():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 5, 4)).astype(np.float32)
    features = datasets.Features({"layer_0": datasets.Array2D((5, 4), "float32")})
    data = datasets.Dataset.from_dict({"layer_0": x}, features=features)
    data = data.add_column("layer_1", (x + 1).tolist())
    store = rd.open_source(data)
    assert store.n_samples == 6
    assert np.array_equal(store.states(0, "text"), x.reshape(30, 4))
    assert store.states(0, "text").dtype == np.float32


def test_a_saved_data_set_is_a_source_for_the_command_line(states, tmp_path):
    from typer.testing import CliRunner

    from redundancy.cli._app import app

    as_dataset(states).save_to_disk(tmp_path / "saved")
    out = str(tmp_path / "run")
    arguments = ["estimate", str(tmp_path / "saved"), "-m", "geometric", "--out", out, "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    [result] = json.loads(done.stdout)["results"]
    assert result["estimate"]["value"] == rd.estimate(states, "geometric")[0].estimate.value


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"embedding": [[1.0], [2.0]]}, "has embedding; name the columns"),
        ({"layer_0": [[1.0], [2.0, 3.0]], "layer_1": [[1.0], [2.0]]}, "column layer_0: rows have"),
        ({"layer_0": [[1.0], [None]], "layer_1": [[1.0], [2.0]]}, "1 empty entries"),
        ({"layer_0": [[1.0], None], "layer_1": [[1.0], [2.0]]}, "column layer_0: rows have"),
    ],
)
def test_unusable_data_sets_are_said(columns, words):
    with pytest.raises(rd.InputError, match=words):
        rd.open_source(datasets.Dataset.from_dict(columns))


def test_splits_are_asked_for(states):
    both = datasets.DatasetDict({"train": as_dataset(states)})
    with pytest.raises(rd.InputError, match=r"several splits; give one of them, e.g. data\['train"):
        rd.estimate(both, "geometric")


def test_a_live_data_set_of_questions_is_the_saved_one(tmp_path):
    from PIL import Image

    from vlm.data import digest, read_rows, rows_of

    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(255, size=(8, 8, 3), dtype=np.uint8)) for _ in "abc"]
    data = datasets.Dataset.from_dict(
        {"image": pictures, "question": ["Is it red?"] * 3, "answer": ["no"] * 3}
    ).cast_column("image", datasets.Image())
    data.save_to_disk(tmp_path / "saved")
    # Images travel as their encoded bytes either way: decoded ones would be other data.
    assert digest(data) == digest(tmp_path / "saved")
    groups = [row["group"] for row in rows_of(data)]
    assert groups == [row["group"] for row in read_rows(tmp_path / "saved")]
    assert next(rows_of(data))["images"][0].size == (8, 8)


# Schemas.


@pytest.mark.parametrize("name", schemas.NAMES)
def test_the_published_schemas_are_current(name):
    published = json.loads((DOCS / "schemas" / f"{name}.json").read_text())
    assert published == schemas.json_schema(name), "type: python -m redundancy.schemas"
    jsonschema.Draft202012Validator.check_schema(published)


def holds(name, document):
    published = json.loads((DOCS / "schemas" / f"{name}.json").read_text())
    return jsonschema.Draft202012Validator(published).is_valid(document)


def test_a_store_satisfies_its_schemas(tmp_path):
    store = create_store(tmp_path / "acts")
    with store.writer() as writer:
        writer.add(sample_of(0))
    manifest = json.loads((tmp_path / "acts" / "store.json").read_text())
    [sidecar] = [p for p in (tmp_path / "acts").glob("*.json") if p.name != "store.json"]
    assert holds("store", manifest)
    assert holds("sidecar", json.loads(sidecar.read_text()))
    assert not holds("store", manifest | {"layers": []})
    assert not holds("store", manifest | {"modalities": ["../x"]})
    assert not holds("sidecar", json.loads(sidecar.read_text()) | {"sha256": "1"})


def test_a_record_satisfies_its_schema(states, tmp_path):
    rd.estimate(states, ["geometric", "informational"]).save(tmp_path / "record.json")
    document = json.loads((tmp_path / "record.json").read_text())
    assert holds("record", document)
    assert not holds("record", document | {"status": "done"})


def test_a_plan_satisfies_its_schema(tmp_path):
    path = tmp_path / "plan.json"
    full = rd.SkipPlan(8, vision_entry=1, vision_exit=6, vision_off=(3,), drop_layers=(7,))
    for plan in (full, rd.SkipPlan(8), rd.SkipPlan(8, model_type="llava", evidence={"a": 1})):
        plan.save(path)
        document = json.loads(path.read_text())
        assert holds("plan", document)
        # The schema knows every field that a plan has, and no other.
        assert document.keys() == set(schemas.PlanFile.__struct_fields__)
    assert not holds("plan", document | {"speed": 2})
    assert not holds("plan", document | {"schema_version": 2})
    assert not holds("plan", document | {"n_layers": 0})


def test_an_unknown_schema_is_said():
    with pytest.raises(rd.InputError, match="no schema named 'plans'.*Did you mean 'plan'"):
        schemas.json_schema("plans")


def test_schemas_are_written_where_asked(tmp_path):
    written = schemas.write_schemas(tmp_path / "out")
    assert [p.stem for p in written] == list(schemas.NAMES)
