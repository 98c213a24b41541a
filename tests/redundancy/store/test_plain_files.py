"""A user's own arrays and files: taken as they are, or refused with one sentence."""

import contextlib
import io
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from estimators import InputError
from redundancy.store import ActivationStore, open_source

X = np.random.default_rng(0).normal(size=(3, 8, 4)).astype(np.float32)


def by_layer(form="layer_{}"):
    return {form.format(index): x for index, x in enumerate(X)}


@pytest.mark.parametrize(
    "form", ["layer_{}", "{}", "layers.{}", "hidden_{}", "hidden_states.{}", "h.{}", "Layer {}"]
)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_names_of_layers(tmp_path, form, suffix):
    path = tmp_path / f"acts{suffix}"
    if suffix == ".npz":
        np.savez(path, **by_layer(form))
    else:
        safetensors.numpy.save_file(by_layer(form), path)
    store = open_source(path)
    assert store.layers == (0, 1, 2)
    assert store.modalities == ("text",)
    for layer in range(3):
        np.testing.assert_array_equal(store.states(layer), X[layer])
    assert store.groups() is None
    assert store.handle == str(path)
    assert store.info["sha256"]
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.states(1), X[1])


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_with_modalities_groups_and_target(tmp_path, compressed):
    arrays = {f"vision/layer_{index}": x for index, x in enumerate(X)}
    arrays |= {f"text/layer_{index}": np.asfortranarray(x[:6]) for index, x in enumerate(X)}
    arrays |= {"vision/groups": np.arange(8) // 2, "text/groups": np.arange(6) // 2}
    arrays |= {"vision/target": np.arange(8.0), "text/target": np.arange(6.0)}
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "acts.npz", **arrays)
    store = open_source(tmp_path / "acts.npz")
    assert store.modalities == ("vision", "text")
    np.testing.assert_array_equal(store.states(2, "text"), X[2, :6])
    np.testing.assert_array_equal(store.groups("text"), np.arange(6) // 2)
    np.testing.assert_array_equal(store.target_of("vision"), np.arange(8.0))
    assert store.n_samples == 4
    pair = store.pair(0, 1, "vision")
    assert pair.summary is None
    np.testing.assert_array_equal(pair.groups, np.arange(8) // 2)
    bare = store.pair(0, 1, "vision", states=False)
    assert bare.summary.rho_sum.shape == (4,)


def test_npy_of_layers_is_mapped(tmp_path):
    np.save(tmp_path / "acts.npy", X)
    store = open_source(tmp_path / "acts.npy")
    np.testing.assert_array_equal(store.states(1), X[1])
    np.save(tmp_path / "four.npy", X.reshape(3, 2, 4, 4))
    four = open_source(tmp_path / "four.npy")
    np.testing.assert_array_equal(four.states(1), X[1])
    np.testing.assert_array_equal(four.groups(), [0, 0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64])
def test_safetensors_dtypes(tmp_path, dtype):
    arrays = {name: x.astype(dtype) for name, x in by_layer().items()}
    safetensors.numpy.save_file(arrays, tmp_path / "acts.safetensors")
    store = open_source(tmp_path / "acts.safetensors")
    assert store.states(0).dtype == dtype
    np.testing.assert_array_equal(store.states(0), arrays["layer_0"])


def test_torch_tensors_bfloat16_too():
    torch = pytest.importorskip("torch")
    tensors = {layer: torch.tensor(X[layer]).to(torch.bfloat16) for layer in range(3)}
    store = ActivationStore.from_arrays(tensors, groups=torch.arange(8))
    assert store.states(0).dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(
        store.states(0).astype(np.float32), tensors[0].to(torch.float32).numpy()
    )
    grad = torch.tensor(X[0], requires_grad=True)
    assert ActivationStore.from_arrays({0: grad, 1: grad}).states(0).dtype == np.float32


def test_samples_by_tokens_become_groups():
    x = X[0].reshape(2, 4, 4)
    store = ActivationStore.from_arrays({0: x, 1: x + 1}, target=["a", "b"])
    np.testing.assert_array_equal(store.groups(), [0] * 4 + [1] * 4)
    assert store.target.tolist() == ["a"] * 4 + ["b"] * 4
    named = ActivationStore.from_arrays({0: x, 1: x}, groups=["cat", "cat"])
    assert named.n_samples == 1
    assert named.samples == [{"id": "cat", "group": "cat"}]


def test_integers_and_foreign_byte_orders_are_converted():
    store = ActivationStore.from_arrays({0: np.eye(3, dtype=np.int8), 1: np.eye(3, dtype=">f4")})
    assert store.states(0).dtype == np.float64
    assert store.states(1).dtype == np.float64


@pytest.mark.parametrize("groups", [None, [5, 3, 5, 3, 3, 5, 9, 9], list("abababcc")])
@pytest.mark.parametrize("target", [None, list("xyxyxyxy"), np.arange(16.0).reshape(8, 2)])
@pytest.mark.parametrize("dtype", [np.float64, ml_dtypes.bfloat16])
def test_arrays_saved_are_arrays_opened(tmp_path, groups, target, dtype):
    arrays = {layer: X[layer].astype(dtype) for layer in range(3)}
    memory = ActivationStore.from_arrays(arrays, "vision", groups, target)
    saved = memory.save(tmp_path / "acts")
    assert saved.verify() == []
    for store in (
        saved,
        ActivationStore.open(tmp_path / "acts"),
        pickle.loads(pickle.dumps(memory)),
    ):
        assert store.n_samples == memory.n_samples
        for layer in range(3):
            assert store.states(layer).dtype == dtype
            np.testing.assert_array_equal(store.states(layer), arrays[layer])
        if target is None:
            assert store.target is None
        else:
            np.testing.assert_array_equal(store.target, np.asarray(target))
        if groups is None:
            assert store.groups() is None
        else:
            same = np.asarray(groups)[:, None] == np.asarray(groups)[None, :]
            found = store.groups()
            np.testing.assert_array_equal(found[:, None] == found[None, :], same)
    with pytest.raises(InputError, match="on disk already"):
        saved.save(tmp_path / "other")
    with pytest.raises(InputError, match="holds an activation store already"):
        memory.save(tmp_path / "acts")


@pytest.mark.parametrize(
    ("arrays", "options", "sentence"),
    [
        ({}, {}, "an empty mapping"),
        ([X[0]], {}, "got list"),
        ({"weights": X[0]}, {}, "'weights' does not name a layer"),
        ({0: X[0], "layer_0": X[0]}, {}, "layer 0 of text is given twice"),
        ({0: X[0], 1: X[1, :5]}, {}, r"layer 1 \(text\) has shape \(5, 4\), layer 0 \(8, 4\)"),
        ({0: X[0, 0]}, {}, r"layer 0 \(text\) has shape \(4,\)"),
        ({0: X[:, :0][0]}, {}, "it holds nothing"),
        ({0: X[0] * 1j}, {}, "dtype complex64"),
        ({0: [["a"]]}, {}, "dtype <U1"),
        ({0: [[1], [1, 2]]}, {}, "is not an array"),
        ({0: np.array([[object()]])}, {}, "dtype object"),
        ({"vision": {0: X[0]}, "text": {1: X[0]}}, {}, "give the same layers for each modality"),
        ({"vision": {0: X[0]}, 1: X[0]}, {}, "use one of the two"),
        ({"a b": {0: X[0]}}, {}, "not a plain word"),
        ({"vision": {}}, {}, "vision has no layers"),
        ({0: X[0]}, {"groups": [1, 2]}, r"groups has shape \(2,\) but text has 8 tokens"),
        ({0: X[0]}, {"groups": X[0]}, "one integer or one word per token"),
        ({0: X[0]}, {"groups": {"vision": [1]}}, "no entry for modality 'text'"),
        ({0: X[0]}, {"target": np.zeros(7)}, r"target has shape \(7,\)"),
        ({0: X[0]}, {"target": [object()] * 8}, "Python objects"),
    ],
)
def test_unusable_arrays(arrays, options, sentence):
    with pytest.raises(InputError, match=sentence):
        ActivationStore.from_arrays(arrays, **options)


def test_not_a_number_in_arrays_names_layer_and_count():
    bad = X[1].copy()
    bad[4, :2] = np.nan
    with pytest.raises(InputError, match=r"layer 1 \(text\) holds 2 NaN .* of 32, .* in row 4"):
        ActivationStore.from_arrays({0: X[0], 1: bad})


def test_queries_that_make_no_sense():
    store = ActivationStore.from_arrays({"vision": {0: X[0], 2: X[1]}, "text": {0: X[0], 2: X[1]}})
    for call, sentence in [
        (lambda: store.states(1, "text"), "the store has no layer 1; it has 0, 2"),
        (lambda: store.pair(0, 7, "text"), "no layer 7"),
        (lambda: store.pair(2, 0, "text"), "from a lower to an upper"),
        (lambda: store.states(0), "has the modalities vision, text; name one"),
        (lambda: store.states(0, "audio"), "no modality 'audio'; it has vision, text"),
        (lambda: list(store.pairs(stride=0)), "stride is 0"),
        (lambda: list(store.pairs([0])), "make no pair"),
        (lambda: list(store.pairs([0, 3])), "no layer 3"),
        (store.writer, "writer needs a store on disk"),
    ]:
        with pytest.raises(InputError, match=sentence):
            call()


def npy_bytes(header: str) -> bytes:
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def test_no_file_runs_code_or_fills_memory(tmp_path, monkeypatch):
    # A bomb of 20 MB is quicker to make than one above the real limit.
    monkeypatch.setattr("redundancy.store._plain._FREE_BYTES", 2**20)

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    np.save(tmp_path / "pickle.npy", np.array([[[Bomb()]]]), allow_pickle=True)
    np.savez(tmp_path / "pickle.npz", layer_0=np.array([[Bomb()]], dtype=object))
    huge = npy_bytes("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 1000000000, 4096), }")
    (tmp_path / "huge.npy").write_bytes(huge + b"\0" * 64)
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("layer_0.npy", huge)
    bomb = npy_bytes("{'descr': '|u1', 'fortran_order': False, 'shape': (20, 1048576)}")
    with zipfile.ZipFile(
        tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as zipped:
        zipped.writestr("layer_0.npy", bomb + bytes(20 * 2**20))
    (tmp_path / "huge.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    lie = b'{"layer_0":{"dtype":"F64","shape":[99999999999,99999],"data_offsets":[0,8]}}'
    (tmp_path / "lie.safetensors").write_bytes(struct.pack("<Q", len(lie)) + lie + b"\0" * 8)
    for name, sentence in [
        ("pickle.npy", "pickled Python objects, which are never loaded"),
        ("pickle.npz", "pickled Python objects, which are never loaded"),
        ("huge.npy", "declares shape"),
        ("huge.npz", "declares shape"),
        ("bomb.npz", "would unpack to"),
        ("huge.safetensors", "a header of 4,611,686,018,427,387,904 bytes"),
        ("lie.safetensors", "is said to lie"),
    ]:
        with pytest.raises(InputError, match=sentence):
            open_source(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("name", "make", "sentence"),
    [
        ("nothing.npz", None, "there is nothing at"),
        ("acts.csv", b"1,2", "is not a store folder, .npz, .npy or .safetensors"),
        ("acts.npz", b"PK\x05\x06 not a zip", "is damaged or not an .npz"),
        ("acts.npy", b"\x93NUMPY\x01", "no readable NumPy header"),
        ("acts.npy", X[0], r"has shape \(8, 4\); expected \(layers, tokens"),
        ("acts.npy", X.astype(ml_dtypes.bfloat16), "bfloat16 does not survive"),
        ("acts.npz", {"weights": X[0]}, "array 'weights' names no layer"),
        ("acts.npz", {"groups": np.arange(8)}, "holds no layers"),
        ("acts.npz", {"layer_0": X[0], "layer_1": X[1, :3]}, "every layer must hold the same"),
        ("acts.safetensors", b"short", "is damaged"),
    ],
)
def test_unusable_files(tmp_path, name, make, sentence):
    path = tmp_path / name
    if isinstance(make, bytes):
        path.write_bytes(make)
    elif isinstance(make, dict):
        np.savez(path, **make)
    elif make is not None:
        np.save(path, make)
    with pytest.raises(InputError, match=sentence):
        open_source(path)


def _mangled(data: bytes, edits: list[tuple[int, int]], cut: int) -> bytes:
    out = bytearray(data)
    for index, value in edits:
        out[index % len(out)] = value
    return bytes(out[: len(out) - cut % len(out)])


def _sources() -> dict[str, bytes]:
    made = {}
    for name, save in (("npz", np.savez), ("deflated.npz", np.savez_compressed)):
        buffer = io.BytesIO()
        save(buffer, layer_0=X[0], layer_1=X[1], groups=np.arange(8))
        made[name] = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, X)
    made["npy"] = buffer.getvalue()
    made["safetensors"] = safetensors.numpy.save(by_layer())
    return made


@given(
    st.sampled_from(sorted(_sources())),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.integers(0, 200),
)
def test_damaged_files_raise_nothing_but_input_errors(tmp_path_factory, kind, edits, cut):
    path = tmp_path_factory.mktemp("damaged") / f"acts.{kind}"
    path.write_bytes(_mangled(_sources()[kind], edits, cut))
    with contextlib.suppress(InputError):  # anything else fails the test
        store = open_source(path)
        for layer in store.layers:
            store.states(layer)


@settings(max_examples=20)
@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=5),
        elements={"min_value": -100, "max_value": 100},
    )
)
def test_any_arrays_survive_saving(tmp_path_factory, x):
    memory = ActivationStore.from_arrays({0: x, 5: -x})
    saved = memory.save(tmp_path_factory.mktemp("saved") / "acts")
    for layer in (0, 5):
        np.testing.assert_array_equal(saved.states(layer), memory.states(layer))
        assert saved.states(layer).dtype == x.dtype


def test_a_header_that_ends_in_the_middle_of_a_statement(tmp_path):
    path = tmp_path / "acts.npy"
    np.save(path, np.zeros((2, 3, 4)))
    path.write_bytes(
        path.read_bytes().replace(b"'fortran_order': False", b"'fortran_order': (((((", 1)
    )
    with pytest.raises(InputError, match="no readable NumPy header"):
        open_source(path)
