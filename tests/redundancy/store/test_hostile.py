"""Files written by somebody who means harm, seals and checksums intact: InputError or data."""

import contextlib
import json
import shutil

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import InputError
from redundancy._files import seal
from redundancy.store import ActivationStore
from redundancy.store._schema import read_manifest, read_sidecar
from redundancy.store._tensors import TensorFile
from redundancy.store._writer import write_shard

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 2**31, 2**53 + 1, 2**64, 10**400, "", "..", "../x", "a" * 200, "\0"])
    | st.floats()
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=6,
)
SMALL = st.integers(0, 9)
LAYERS = st.lists(SMALL, max_size=5) | st.sampled_from([[0, 1], [0, 1, 2, 3]])
# Values of the right type, which the schema lets through, and any JSON whatever.
MANIFEST = {
    "kind": JSON,
    "schema_version": JSON,
    "model": st.text() | JSON,
    "revision": JSON,
    "n_layers": SMALL | JSON,
    "layers": LAYERS | JSON,
    "dims": SMALL | JSON,
    "modalities": st.lists(st.sampled_from(["vision", "text", "x"]), max_size=3) | JSON,
    "tokens": SMALL | JSON,
    "seed": SMALL | JSON,
    "thresholds": st.lists(st.floats(), max_size=4) | JSON,
    "dataset": JSON,
    "settings": JSON,
    "packages": JSON,
    "order": st.sampled_from(["rows", "samples"]) | JSON,
    "independent": st.booleans() | JSON,
    "target_labels": st.lists(st.text(max_size=3), max_size=3) | JSON,
    "created": JSON,
}
ROW = st.fixed_dictionaries(
    {
        "id": st.text(max_size=4),
        "group": st.text(max_size=4),
        "row": st.dictionaries(st.sampled_from(["id", "answer", "x"]), JSON, max_size=2),
    }
)
SIDECAR = {
    "schema_version": JSON,
    "shard": JSON,
    "bytes": JSON,
    "sha256": JSON,
    "crc32": JSON,
    "layers": LAYERS | JSON,
    "statistics_layers": LAYERS | JSON,
    "dtype": JSON,
    "tokens": st.dictionaries(st.sampled_from(["vision", "text", "x"]), st.integers(0, 13)) | JSON,
    "samples": st.lists(ROW, max_size=4) | JSON,
}


def changed(fields):
    return st.lists(st.sampled_from(sorted(fields)), max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: fields[name] for name in names})
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory, sample, create):
    path = tmp_path_factory.mktemp("template") / "acts"
    store = create(path)
    with store.writer() as writer:
        for number in range(3):
            writer.add(sample(number))
    return path


@pytest.fixture(scope="module")
def copy_of(template, tmp_path_factory):
    target = tmp_path_factory.mktemp("hostile") / "acts"

    def fresh():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(template, target)
        return target

    return fresh


def use_everything(path):
    """Read all there is; only InputError may come of it."""
    with contextlib.suppress(InputError):
        store = ActivationStore.open(path)
        assert store.n_samples < 10**6
        repr(store), store.info
        for call in [
            lambda: store.samples,
            store.check_finite,
            lambda: [store.distances(word).token_weighted for word in store.modalities],
            lambda: [store.groups(word) for word in store.modalities],
            lambda: [store.positions(word) for word in store.modalities],
            lambda: [store.target_of(word) for word in store.modalities],
            lambda: list(store.pairs()),
            lambda: list(store.pairs(states=False)),
            lambda: store.with_target("answer"),
            lambda: store.per_sample("vision_effect"),
        ]:
            with contextlib.suppress(InputError):
                call()
    with contextlib.suppress(InputError):
        ActivationStore.open(path, skip_damaged=True).verify()


def rewrite(path, changes, removed):
    value = json.loads(path.read_text())
    del value["seal"]
    value = {key: item for key, item in (value | changes).items() if key not in removed}
    path.write_bytes(seal(json.dumps(value).encode()))


@given(changed(MANIFEST), st.sets(st.sampled_from(sorted(MANIFEST)), max_size=1))
def test_store_json_with_a_valid_seal(copy_of, changes, removed):
    path = copy_of()
    rewrite(path / "store.json", changes, removed)
    use_everything(path)


@given(changed(SIDECAR), st.sets(st.sampled_from(sorted(SIDECAR)), max_size=1))
def test_sidecar_with_a_valid_seal(copy_of, changes, removed):
    path = copy_of()
    rewrite(next(path.glob("r*.json")), changes, removed)
    use_everything(path)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_json_that_is_not_ours(copy_of, data):
    for name, sealed in (("store.json", False), ("store.json", True), ("r0", True)):
        path = copy_of()
        file = path / name if name == "store.json" else next(path.glob("r*.json"))
        file.write_bytes(seal(data) if sealed else data)
        use_everything(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema_version":' * 50_000, "1" * 10_000])
def test_deep_and_long_json(copy_of, text):
    path = copy_of()
    (path / "store.json").write_text(text)
    with pytest.raises(InputError, match=r"store\.json"):
        ActivationStore.open(path)


def test_huge_json_is_refused_unread(copy_of):
    path = copy_of()
    with (path / "store.json").open("wb") as handle:
        handle.truncate(2**40)
    with pytest.raises(InputError, match="1,099,511,627,776 bytes, more than"):
        ActivationStore.open(path)


TENSOR = st.tuples(
    st.sampled_from(["<i8", "<i4", "<f4", "<f8", "u1", "?"]),
    st.lists(st.integers(0, 13), max_size=4),
    st.integers(-3, 300),
)


@given(st.data())
def test_shards_whose_arrays_do_not_fit(copy_of, data):
    path = copy_of()
    old = next(path.glob("*.safetensors"))
    sidecar = read_sidecar(old.with_suffix(".json"))
    file = TensorFile(old)
    arrays = {name: np.array(file.read(name)) for name in file.tensors}
    for name in data.draw(st.lists(st.sampled_from(sorted(arrays)), max_size=3)):
        if data.draw(st.booleans()):
            arrays.pop(name, None)
        else:
            dtype, shape, value = data.draw(TENSOR)
            arrays[name] = np.full(shape, value).astype(dtype)
    old.unlink()
    old.with_suffix(".json").unlink()
    rows = list(sidecar.samples)[: data.draw(st.integers(1, 3))]
    layers = data.draw(st.sampled_from([[], [0, 1, 2, 3], [0, 1]]))
    write_shard(path, old.stem, read_manifest(path), arrays, rows, layers)
    use_everything(path)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=3) | JSON, st.integers(0, 40))
def test_safetensors_headers(tmp_path_factory, header, size):
    head = json.dumps(header).encode()
    path = tmp_path_factory.mktemp("header") / "x.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(size))
    with contextlib.suppress(InputError):
        file = TensorFile(path)
        for name in file.tensors:
            file.read(name)


@given(st.lists(st.integers(-3, 2**62), max_size=20), st.integers(-9, 99), st.integers(-9, 99))
def test_safetensors_shapes_and_offsets(tmp_path_factory, shape, begin, end):
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    head = msgspec.json.encode({"layer_0": entry})
    path = tmp_path_factory.mktemp("header") / "x.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(96))
    with contextlib.suppress(InputError):
        assert TensorFile(path).read("layer_0").nbytes == end - begin
