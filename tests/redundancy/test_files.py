"""Files appear whole or not at all, and a sealed file tells when a byte has changed."""

import os
import threading

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import InputError
from redundancy import _files
from redundancy._files import (
    atomic_file,
    read_bytes,
    read_json,
    read_sealed,
    write_atomic,
    write_sealed,
)


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "plan.json"
    write_atomic(path, b"old")

    def stopped():
        with atomic_file(path) as handle:
            handle.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stopped()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_failing_disk_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "plan.json"
    write_atomic(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files.os, call, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_of_many_that_make_one_file_one_succeeds(tmp_path, monkeypatch, links):
    if not links:

        def no_links(*_):
            raise PermissionError

        monkeypatch.setattr(_files.os, "link", no_links)
        write_atomic(tmp_path / "store.json", b"0", replace=False)
    won = []

    def make(number):
        try:
            write_atomic(tmp_path / "store.json", str(number).encode(), replace=False)
            won.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=make, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [int((tmp_path / "store.json").read_bytes())] if links else won == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["store.json"]


def test_data_is_on_disk_before_its_name_is(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def spy(*arguments, _name=name, _real=real):
            order.append(_name)
            return _real(*arguments)

        monkeypatch.setattr(_files.os, name, spy)
    write_atomic(tmp_path / "a", b"x")
    assert order == ["fsync", "replace", "fsync"]


@given(st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.text()), st.data())
def test_any_changed_byte_breaks_the_seal(tmp_path_factory, value, data):
    path = tmp_path_factory.mktemp("sealed") / "x.json"
    value = {"a": 1, **value}
    write_sealed(path, value)
    read = read_sealed(path)
    assert len(read.pop("seal")) == 64
    assert read == {key: item for key, item in value.items() if key != "seal"}
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    with pytest.raises(InputError, match="does not match its seal"):
        read_sealed(path)


class Point(msgspec.Struct):
    x: int


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b'{"x": "one"}', r"not what was expected: Expected `int`, got `str` - at `\$.x`"),
        (b'{"x": 1', "is damaged or not JSON"),
        (b"\xff\xfe", "is damaged or not JSON"),
        (b"[" * 10**5, "is nested too deeply|not what was expected"),
        (b'{"x": 1}' + b" " * 100, "has 108 bytes, more than the 64"),
    ],
)
def test_unreadable_json_is_one_sentence(tmp_path, data, sentence):
    (tmp_path / "x.json").write_bytes(data)
    limit = 64 if len(data) == 108 else 10**6
    with pytest.raises(InputError, match=sentence) as caught:
        read_json(tmp_path / "x.json", Point, max_bytes=limit)
    assert "x.json" in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_bytes(tmp_path / "x")
    with pytest.raises(InputError, match="can't be read: Is a directory"):
        read_bytes(tmp_path)


def test_what_could_not_be_read_back_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "MAX_JSON_BYTES", 1000)
    with pytest.raises(InputError, match="bytes of JSON, more than 1,000"):
        write_sealed(tmp_path / "x.json", {"a": "b" * 2000})
    assert not list(tmp_path.iterdir())


def test_numbers_survive_sealing(tmp_path):
    values = np.random.default_rng(0).normal(size=50).tolist()
    write_sealed(tmp_path / "x.json", {"values": values})
    assert read_sealed(tmp_path / "x.json")["values"] == values


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_are_neither_waited_for_nor_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="a pipe or a device"):
        _files.read_json(tmp_path / "pipe")
    with pytest.raises(InputError, match="a pipe or a device"):
        _files.write_atomic(tmp_path / "pipe", b"{}")
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 1
