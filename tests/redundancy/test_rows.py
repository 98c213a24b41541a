"""Rows read when they are asked for are the rows of the array, whatever the shards look like."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import redundancy as rd
from estimators import InputError
from redundancy import _rows
from redundancy._memory import parse_bytes, workers_within, working_set
from redundancy._progress import TimeLeft
from redundancy._rows import LazyRows, blocks, take
from redundancy._tasks import Task, in_line
from redundancy.engine._chains import Chains


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store of several shards written in no order, and one of a single shard."""
    from tests.redundancy.store.conftest import create_store, sample_of

    path = tmp_path_factory.mktemp("rows") / "acts"
    store = create_store(path)
    with store.writer(max_samples=3) as writer:
        for number in (7, 2, 9, 0, 11, 4, 1, 10, 3, 8, 5, 6):
            writer.add(sample_of(number))
    return rd.ActivationStore.open(path)


INDEX = st.one_of(
    st.slices(48),
    st.integers(-48, 47),
    st.lists(st.integers(-48, 47), max_size=9).map(lambda rows: np.array(rows, dtype=np.int64)),
    st.lists(st.booleans(), min_size=48, max_size=48).map(np.array),
)


@given(INDEX)
def test_indexing_equals_the_array(stored, index):
    whole = stored.states(2, "vision")
    assert whole.shape == (48, 6)
    np.testing.assert_array_equal(stored.rows(2, "vision")[index], whole[index])


def test_shape_dtype_and_conversion(stored):
    lazy, whole = stored.rows(1, "text"), stored.states(1, "text")
    assert isinstance(lazy, LazyRows)
    assert (lazy.shape, lazy.dtype, lazy.size, lazy.nbytes, len(lazy), lazy.ndim) == (
        whole.shape,
        whole.dtype,
        whole.size,
        whole.nbytes,
        len(whole),
        2,
    )
    np.testing.assert_array_equal(np.asarray(lazy), whole)
    assert np.asarray(lazy, dtype=np.float64).dtype == np.float64
    with pytest.raises(IndexError, match="row 99"):
        lazy[99]
    with pytest.raises(InputError, match="no layer 9"):
        stored.rows(9, "text")


def test_blocks_and_windows(stored, monkeypatch):
    whole = stored.states(0, "vision")
    monkeypatch.setattr(_rows, "_ELEMENTS", 30)
    lazy = stored.rows(0, "vision")
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks(lazy)]), whole)
    for start in range(47):
        np.testing.assert_array_equal(lazy[start : start + 2], whole[start : start + 2])
    lazy.forget()
    assert take(lazy, np.array([3, 1])).dtype == np.float32


def _read_everything(store):
    for word in store.modalities:
        for layer in store.layers:
            np.asarray(store.rows(layer, word))
        store.per_sample("var_per_head")
        store.distances(word)
        store.positions(word)


def test_reading_by_rows_finds_damage_and_nan(tmp_path, stored):
    import shutil

    path = tmp_path / "acts"
    shutil.copytree(stored.path, path)
    shard = sorted(path.glob("*.safetensors"))[1]
    data = bytearray(shard.read_bytes())
    data[-300] ^= 4  # somewhere among the arrays of the last dtype
    shard.write_bytes(data)
    store = rd.ActivationStore.open(path)
    with pytest.raises(InputError, match=r"does not match its checksum.*--resume"):
        _read_everything(store)


@pytest.mark.parametrize("measure", ["geometric", "proximal", "cka", "informational"])
def test_streamed_equals_held(tmp_path, measure):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 8, 16)).cumsum(axis=2).astype(np.float32)
    arrays = {
        layer: x + 0.2 * layer * rng.normal(size=x.shape).astype(np.float32) for layer in range(4)
    }
    arrays[2][5, 3] = 0
    held = rd.ActivationStore.from_arrays(arrays)
    saved = held.save(tmp_path / "acts")
    wanted = list(rd.estimate(held, measure))
    assert list(rd.estimate(saved, measure)) == wanted
    if measure == "cka":  # one is enough: starting processes is what takes time here
        assert list(rd.estimate(saved, measure, jobs=2, memory="3GB")) == wanted


def test_memory_that_is_not_enough_is_said_before_anything_runs(stored):
    with pytest.raises(
        InputError, match=r"cka takes about 0\.\d GB for a pair of 48 vision tokens"
    ):
        rd.estimate(stored, "cka", memory="100MB", modality="vision")
    with pytest.raises(InputError, match="write a size such as 4GB"):
        rd.estimate(stored, "cka", memory="much", modality="vision")


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "1e9", "4XB", "4i", "9" * 40, "1.5.2GB"])
def test_sizes_that_cannot_be_read(text):
    with pytest.raises(InputError, match="write a size"):
        parse_bytes(text)


def test_workers_that_fit():
    need = working_set(lambda n, d: 600 * 10**6, 10, 10)
    assert need == 10**9
    assert [workers_within(gb * 10**9, need, 4) for gb in (1, 2, 3, 4, 9)] == [1, 1, 2, 3, 4]
    assert workers_within(10**8, need, 4) == 0
    assert working_set(None, 1000, 1000) > 90 * 10**6


def task(measure, lower):
    return Task(measure, "text", lower, lower + 1, None, None, 0, {}, "acts")


def begun_in_turn(line, jobs):
    """Tasks in the order in which workers that are equally fast begin them."""
    chains, order = Chains(range(len(line)), jobs), []
    for worker in itertools.cycle(range(jobs)):
        index = chains.next(worker)
        if index is None:
            return order
        order.append(line[index])


@given(st.integers(0, 20), st.integers(1, 5))
def test_chains_hold_every_task_once_and_keep_neighbours_together(count, jobs):
    tasks = [task("cka", lower) for lower in range(count)]
    order = [one.lower for one in begun_in_turn(in_line(tasks), jobs)]
    assert sorted(order) == list(range(count))
    if count >= 2 * jobs:
        follows = sum(lower + 1 in order[i + 1 : i + 2 * jobs] for i, lower in enumerate(order))
        assert follows >= count - jobs - 1


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("resumed", [0, 12])
def test_the_time_left_is_right_within_a_quarter(jobs, resumed):
    """Three measures of very different cost, a slow start, and noise; until the last few pairs."""
    rng = np.random.default_rng(0)
    cost = {"geometric": 0.2, "cka": 2.0, "informational": 9.0}
    line = in_line([task(name, lower) for name in cost for lower in range(32)])
    order = begun_in_turn(line, jobs)[resumed:]
    free, ends = [3.0] * jobs, []
    for one in order:
        worker = int(np.argmin(free))
        free[worker] += cost[one.measure] * rng.uniform(0.8, 1.2)
        ends.append(free[worker])
    now = [0.0]
    left, end, errors = TimeLeft(lambda: now[0]), max(ends), []
    for done, at in enumerate(sorted(ends), start=resumed + 1):
        now[0] = at
        left.update(done, 96)
        if end / 4 < at < 0.85 * end:
            errors.append(abs(left.seconds() - (end - at)) / (end - at))
    assert max(errors) < 0.25


@pytest.mark.parametrize("jobs", [1, 2, 4])
@pytest.mark.parametrize("resumed", [0, 12])
@pytest.mark.parametrize("measures", [("geometric", "cka", "informational"), ("cka",)])
def test_with_the_plan_the_time_left_is_right_within_a_quarter(jobs, resumed, measures):
    """The same, with the plan that the engine follows, to the last tasks but one."""
    rng = np.random.default_rng(0)
    cost = {"geometric": 0.2, "cka": 2.0, "informational": 9.0}
    line = in_line([task(name, lower) for name in measures for lower in range(32)])[resumed:]
    chains, free, done = Chains(range(len(line)), jobs), [3.0] * jobs, []
    while True:
        worker = int(np.argmin(free))
        index = chains.next(worker)
        if index is None:
            break
        free[worker] += cost[line[index].measure] * rng.uniform(0.8, 1.2)
        done.append((free[worker], line[index].key))
    now = [0.0]
    left, end, errors = TimeLeft(lambda: now[0]), max(free), []
    left.plan([one.key for one in line], jobs, kind=lambda step: step[:2])
    for number, (at, key) in enumerate(sorted(done)):
        now[0] = at
        left.finished(key)
        # Once each worker has done one of each kind after the first, which pays for the start.
        if end / 4 < at < 0.85 * end and number >= 2 * jobs * len(measures):
            errors.append(abs(left.seconds() - (end - at)) / (end - at))
    assert max(errors) < 0.25
    assert left.seconds() == 0


@pytest.mark.parametrize("workers", [2, 5])
def test_a_plan_tells_the_end_from_the_first_round(workers):
    """Steps that end all at once, where the rate of steps jumps."""
    now = [0.0]
    left = TimeLeft(lambda: now[0])
    # Each worker has four in line.
    left.plan(range(4 * workers), workers)
    line = [4 * worker + turn for turn in range(4) for worker in range(workers)]
    assert left.seconds() is None
    for number, step in enumerate(line):
        now[0] = 10.0 * (1 + number // workers)
        left.finished(step)
        if number >= workers:
            assert left.seconds() == pytest.approx(40.0 - now[0], abs=1.1)
    left.finished("not of this plan")
    assert left.seconds() == 0


def test_estimate_says_what_it_will_do(stored):
    plans, found = [], []
    rd.estimate(
        stored,
        ("geometric", "cka"),
        modality="vision",
        jobs=1,
        on_plan=lambda steps, workers: plans.append((list(steps), workers)),
        on_result=lambda result, done, total: found.append(
            (result.measure, result.modality, *result.pair)
        ),
    )
    assert plans == [(found, 1)]


def test_no_time_left_is_told_before_anything_is_done():
    assert TimeLeft().seconds() is None
