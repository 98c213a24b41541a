"""Stores behind URLs: the same arrays, every answer's length checked, nothing ever written."""

from __future__ import annotations

import http.server
import re
import threading
from pathlib import Path

import numpy as np
import pytest

import redundancy as rd
from estimators import InputError
from redundancy._remote import RemotePath, is_url, place
from redundancy.cli.doctor import check_source
from redundancy.store import ActivationStore, verify_store

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def acts(tmp_path_factory, sample, create):
    path = tmp_path_factory.mktemp("remote") / "acts"
    with create(path).writer(max_samples=4) as writer:
        for number in range(12):
            writer.add(sample(number))
    return path


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A folder over HTTP that knows byte ranges, or pretends to."""

    mode = "honest"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        path = Path(self.translate_path(self.path))
        if not asked or not path.is_file() or self.mode == "ignores":
            super().do_GET()
            return
        data = path.read_bytes()
        begin, end = int(asked[1]), min(int(asked[2]), len(data) - 1)
        part = data[begin : end + 1]
        if self.mode == "short":
            part = part[:-1]
        if self.mode == "long":
            part += b"more"
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def end_headers(self):
        if self.mode != "ignores":
            self.send_header("Accept-Ranges", "bytes")
        super().end_headers()


@pytest.fixture
def server(acts):
    pytest.importorskip("aiohttp")
    started = []

    def serve(mode="honest", folder=acts.parent):
        handler = type("Handler", (Ranges,), {"mode": mode})
        one = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *a: handler(*a, directory=str(folder))
        )
        threading.Thread(target=one.serve_forever, daemon=True).start()
        started.append(one)
        return f"http://127.0.0.1:{one.server_port}/acts"

    yield serve
    for one in started:
        one.shutdown()
        one.server_close()


@pytest.fixture
def in_memory(acts):
    system = fsspec.filesystem("memory")
    for path in acts.iterdir():
        system.pipe_file(f"/shared/acts/{path.name}", path.read_bytes())
    yield "memory://shared/acts"
    system.rm("/shared", recursive=True)


def same(url, acts):
    far, near = ActivationStore.open(url), ActivationStore.open(acts)
    assert far.samples == near.samples
    for word in near.modalities:
        for layer in near.layers:
            np.testing.assert_array_equal(far.states(layer, word), near.states(layer, word))
            np.testing.assert_array_equal(far.rows(layer, word)[3:9], near.rows(layer, word)[3:9])
        np.testing.assert_array_equal(far.distances(word).rho_sum, near.distances(word).rho_sum)
    assert far.info["sha256"] == near.info["sha256"]
    assert far.verify() == verify_store(url) == []
    return far


def test_a_store_in_memory(in_memory, acts):
    store = same(in_memory, acts)
    assert store.path is None
    assert store.handle == in_memory
    assert repr(store).startswith("ActivationStore(memory://shared/acts: tiny/llava")


def test_a_store_over_http(server, acts):
    same(server(), acts)


def test_estimates_over_http_equal_those_from_disk(server, acts):
    options = {"modality": "vision", "jobs": 1}
    for measure in ("geometric", "cka"):
        assert rd.estimate(server(), measure, **options) == rd.estimate(acts, measure, **options)


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("short", r"answered with [\d,]+ bytes where [\d,]+ were asked for|can't be read"),
        ("long", r"answered with [\d,]+ bytes where [\d,]+ were asked for"),
        ("ignores", r"can't be read|damaged|answers byte ranges"),
    ],
)
def test_servers_that_answer_something_else(server, mode, sentence):
    url = server(mode)
    with pytest.raises(InputError, match=sentence):
        _read_all(url)


def _read_all(url):
    store = ActivationStore.open(url)
    for word in store.modalities:
        for layer in store.layers:
            store.states(layer, word)


def test_damage_and_absence_are_named_with_their_url(in_memory):
    system = fsspec.filesystem("memory")
    names = sorted(one for one in system.ls("/shared/acts", detail=False) if "safetensors" in one)
    data = bytearray(system.cat_file(names[0]))
    data[-1] ^= 1
    system.pipe_file(names[0], bytes(data))
    system.rm_file(names[1])
    found = [one for one in verify_store(in_memory) if one.severity == "error"]
    assert [one.path.rpartition("/")[2] for one in found] == [
        name.rpartition("/")[2] for name in names[:2]
    ]
    assert {one["status"] for one in check_source(in_memory)} == {"problem"}
    with pytest.raises(InputError, match=r"memory://shared/acts/r0-.* is missing"):
        ActivationStore.open(in_memory)
    assert ActivationStore.open(in_memory, skip_damaged=True).n_samples == 4


def test_remote_stores_are_only_read(in_memory):
    store = ActivationStore.open(in_memory)
    with pytest.raises(InputError, match="remote stores are only read"):
        store.writer()
    with pytest.raises(InputError, match="remote files are only read"):
        (place(in_memory) / "store.json").open("wb")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("memory://nowhere/acts", r"not an activation store: it has no store\.json"),
        ("http://127.0.0.1:1/acts", "not an activation store|can't be read|can't be reached"),
        ("nonsense://x/acts", "a protocol that fsspec knows"),
        ("memory://shared/x.npz", "single file behind a URL"),
    ],
)
def test_urls_with_nothing_there(url, sentence):
    with pytest.raises(InputError, match=sentence):
        rd.open_source(url)


def test_without_fsspec_the_sentence_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(InputError, match=r"pip install 'redundancy\[remote\]'"):
        rd.open_source("s3://bucket/acts")


def test_what_is_a_url():
    assert is_url("s3://b/x")
    assert is_url("simplecache::http://h/x")
    assert not is_url("C:/acts")
    assert not is_url(Path("acts"))
    one = RemotePath.of("memory://a/b.safetensors")
    assert (one.name, one.stem, one.suffix, str(one.parent)) == (
        "b.safetensors",
        "b",
        ".safetensors",
        "memory://a",
    )
    assert str(one.with_suffix(".json")) == "memory://a/b.json"


@pytest.mark.distributed
def test_workers_of_a_cluster_read_over_http(server, acts):
    pytest.importorskip("distributed")
    wanted = rd.estimate(acts, "geometric", jobs=1)
    assert rd.estimate(server(), "geometric", engine="dask", jobs=2) == wanted
