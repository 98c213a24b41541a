"""What is written block by block is what the library writes in one piece, with its checksums."""

from __future__ import annotations

import hashlib
import os
import zlib

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from redundancy._files import atomic_file
from redundancy.store import ActivationStore, _tensors
from redundancy.store._tensors import Joined, LazyArray, TensorFile, crc32, write_tensors

DTYPES = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, np.int64, np.uint8, np.bool_]


def parts_of(rows, width, dtype, seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 2, (count, width)).astype(dtype) for count in rows]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 9), min_size=1, max_size=12),
            st.integers(1, 300),
            st.sampled_from(DTYPES),
        ),
        max_size=3,
    ),
    st.sampled_from([1, 64, 1000, 2**18]),
)
def test_pieces_are_written_as_one_array(tmp_path_factory, specs, block):
    joined = {
        f"a{number}": Joined(parts_of(*spec, seed=number)) for number, spec in enumerate(specs)
    }
    whole = {name: np.concatenate(one.parts) for name, one in joined.items()}
    folder = tmp_path_factory.mktemp("tensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tensors, "_BLOCK", block)
        patch.setattr(_tensors, "_EARLY", 2 * block)
        for name, tensors in {
            "joined": joined,
            "whole": whole,
            "lazy": {key: LazyArray.of(value) for key, value in whole.items()},
        }.items():
            with (folder / name).open("wb") as handle:
                digests = write_tensors(handle, tensors)
            data = (folder / name).read_bytes()
            assert digests.size == len(data)
            assert digests.sha256 == hashlib.sha256(data).hexdigest()
            assert digests.crc32 == {key: zlib.crc32(x.tobytes()) for key, x in whole.items()}
            read = TensorFile(folder / name, digests.crc32)
            for key, value in whole.items():
                assert read.read(key).dtype == value.dtype
                np.testing.assert_array_equal(read.read(key), value)
            if all(value.dtype != ml_dtypes.bfloat16 for value in whole.values()):
                theirs = safetensors.numpy.load(data)
                assert {key: x.tobytes() for key, x in theirs.items()} == {
                    key: x.tobytes() for key, x in whole.items()
                }


def test_slices_that_do_not_lie_together_are_written_in_order(tmp_path):
    x = np.arange(600, dtype=np.float32).reshape(20, 30)
    with (tmp_path / "x").open("wb") as handle:
        write_tensors(handle, {"x": Joined([x[::2, ::3], x[1::2, ::3].astype(">f4")])})
    np.testing.assert_array_equal(
        TensorFile(tmp_path / "x").read("x"), np.concatenate([x[::2, ::3], x[1::2, ::3]])
    )


@settings(deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 2**32 - 1))
def test_the_fast_checksum_is_that_of_zlib(data, start):
    assert crc32(data, start) == zlib.crc32(data, start)


@pytest.mark.skipif(not hasattr(os, "fdatasync"), reason="no early writing here")
def test_a_disk_that_fails_while_it_writes_ahead_is_heard(tmp_path, monkeypatch):
    calls = []

    def fails_once(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(_tensors, "_BLOCK", 1000)
    monkeypatch.setattr(_tensors, "_EARLY", 1000)
    monkeypatch.setattr(os, "fdatasync", fails_once)
    with (
        pytest.raises(OSError, match="Input/output error"),
        atomic_file(tmp_path / "x.safetensors") as handle,
    ):
        write_tensors(handle, {"x": np.zeros(5000)})
    assert list(tmp_path.iterdir()) == []


def test_a_sample_given_in_slices_reads_back(tmp_path, sample, create):
    store = create(tmp_path / "acts")
    whole = [sample(number) for number in range(4)]
    with store.writer() as writer:
        for one in whole:
            states = {name: np.asfortranarray(x) for name, x in one.states.items()}
            assert writer.add(sample(int(one.id[1:]), states=states))
    found = ActivationStore.open(tmp_path / "acts")
    for layer in found.layers:
        for word in found.modalities:
            np.testing.assert_array_equal(
                found.states(layer, word),
                np.concatenate([one.states[word][layer] for one in whole]),
            )
