"""Skip plans: what they say, what they refuse, and that they come back from a file as they were."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm._errors import VLMError
from vlm.plan import SkipPlan


@st.composite
def plans(draw: st.DrawFn) -> SkipPlan:
    n = draw(st.integers(1, 12))
    entry = draw(st.integers(0, n))
    return SkipPlan(
        n,
        vision_entry=entry,
        vision_exit=draw(st.none() | st.integers(entry, n)),
        vision_off=tuple(draw(st.sets(st.integers(0, n - 1)))),
        drop_layers=tuple(draw(st.sets(st.integers(0, n - 1), max_size=n - 1))),
        model_type=draw(st.none() | st.just("llava")),
        evidence=draw(st.none() | st.just({"measure": "delta_l", "values": [0.1, None]})),
    )


@given(plans())
def test_a_plan_comes_back_from_json_as_it_was(plan: SkipPlan) -> None:
    again = SkipPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.evidence == plan.evidence


@given(plans())
def test_a_layer_sees_vision_unless_some_part_of_the_plan_says_otherwise(plan: SkipPlan) -> None:
    for layer in range(plan.n_layers):
        hidden = (
            layer < plan.vision_entry
            or (plan.vision_exit is not None and layer >= plan.vision_exit)
            or layer in plan.vision_off
        )
        assert plan.runs(layer) == (layer not in plan.drop_layers)
        assert plan.active_vision(layer) == (plan.runs(layer) and not hidden)
    assert plan.is_noop == all(plan.active_vision(layer) for layer in range(plan.n_layers))
    assert plan.describe().startswith(f"{plan.n_layers} layers: ")


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (SkipPlan(8), "8 layers: nothing is skipped."),
        (
            SkipPlan(8, vision_entry=2),
            "8 layers: vision tokens enter at layer 2 (6 of 8 layers see them).",
        ),
        (
            SkipPlan(8, vision_exit=5),
            "8 layers: vision tokens leave at layer 5 (5 of 8 layers see them).",
        ),
        (
            SkipPlan(8, vision_off=(1, 2, 3, 6)),
            "8 layers: they are hidden from layers 1 to 3 and 6 (4 of 8 layers see them).",
        ),
        (
            SkipPlan(8, drop_layers=[4]),
            "8 layers: layer 4 does not run (7 of 8 layers run).",
        ),
        (
            SkipPlan(8, vision_exit=0, drop_layers=(0, 7)),
            "8 layers: no layer sees the vision tokens; layers 0 and 7 do not run "
            "(0 of 8 layers see them).",
        ),
    ],
)
def test_plain_words(plan: SkipPlan, words: str) -> None:
    assert plan.describe() == words


def test_equal_plans_are_one() -> None:
    assert SkipPlan(8, vision_exit=8) == SkipPlan(8)
    assert SkipPlan(8, vision_off=[3, 1]) == SkipPlan(8, vision_off=(1, 3))
    assert SkipPlan(np.int64(8), vision_entry=np.int32(2)) == SkipPlan(8, vision_entry=2)
    assert SkipPlan(8, evidence={"why": "a"}) == SkipPlan(8, evidence={"why": "b"})
    assert len({SkipPlan(8, vision_off=range(2)), SkipPlan(8, vision_off=(0, 1))}) == 1
    with pytest.raises(AttributeError):
        SkipPlan(8).n_layers = 9  # type: ignore[misc]


def test_evidence_is_a_copy_of_plain_data() -> None:
    given: dict[str, Any] = {"layers": (1, 2)}
    plan = SkipPlan(8, evidence=given)
    given["layers"] = "changed"
    assert plan.evidence == {"layers": [1, 2]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_layers": 0}, "n_layers is 0; a model has between 1"),
        ({"n_layers": True}, "n_layers is True; give a whole number"),
        ({"n_layers": 8.0}, "n_layers is 8.0; give a whole number"),
        ({"vision_entry": 9}, "vision_entry is 9; with 8 layers it lies between 0 and 8"),
        ({"vision_entry": -1}, "vision_entry is -1"),
        ({"vision_exit": 9}, "vision_exit is 9"),
        ({"vision_entry": 5, "vision_exit": 3}, r"vision_exit \(3\) lies before vision_entry"),
        ({"vision_off": (8,)}, "vision_off names layer 8; with 8 layers they are 0 to 7"),
        ({"vision_off": (2, 1, 2)}, "vision_off names layer 2 twice"),
        ({"vision_off": 3}, "vision_off is 3; give a list of layer indices"),
        ({"vision_off": "12"}, "vision_off is '12'; give a list"),
        ({"drop_layers": (-1,)}, "drop_layers names layer -1"),
        ({"drop_layers": range(8)}, "drop_layers names all 8 layers"),
        ({"model_type": 3}, "model_type is 3; give a text"),
        ({"evidence": [1]}, "evidence is a list; give a mapping"),
        ({"evidence": {"value": float("nan")}}, "evidence must be plain JSON data"),
        ({"evidence": {"value": object()}}, "evidence must be plain JSON data"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(VLMError, match=words):
        SkipPlan(**{"n_layers": 8, **arguments})


def test_a_layer_asked_for_must_exist() -> None:
    with pytest.raises(VLMError, match="layer names layer 8"):
        SkipPlan(8).active_vision(8)


def test_a_file_is_written_whole_and_read_back(tmp_path: Path) -> None:
    plan = SkipPlan(8, vision_entry=1, vision_exit=6, model_type="llava", evidence={"alpha": 0.1})
    path = plan.save(tmp_path / "plan.json")
    assert SkipPlan.load(path) == plan
    assert SkipPlan.load(path).evidence == {"alpha": 0.1}
    assert json.loads(path.read_text())["schema_version"] == 1
    SkipPlan(8).save(path)
    assert SkipPlan.load(path).is_noop
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not readable JSON"),
        ('{"schema_version": 1, "n_layers": 8', "is not readable JSON"),
        ('{"schema_version": 1, "n_layers": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "is not readable JSON"),
        ("[1]", "holds a list, not a plan object"),
        ('{"n_layers": 8}', "schema_version None; this release reads 1"),
        ('{"schema_version": 2, "n_layers": 8}', "schema_version 2; this release reads 1"),
        ('{"schema_version": true, "n_layers": 8}', "schema_version True"),
        ('{"schema_version": 1}', "lacks n_layers"),
        ('{"schema_version": 1, "n_layers": 8, "skip": []}', "unknown fields: skip"),
        ('{"schema_version": 1, "n_layers": 8, "vision_off": [9]}', "names layer 9"),
        ('{"schema_version": 1, "n_layers": 8, "drop_layers": [1, 1]}', "names layer 1 twice"),
        ('{"schema_version": 1, "n_layers": "8"}', "n_layers is '8'"),
        ('{"schema_version": 1, "n_layers": 8, "vision_off": null}', "give a list of layer"),
    ],
)
def test_a_broken_file_says_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(VLMError, match=words) as error:
        SkipPlan.load(path)
    assert str(path) in str(error.value)


def test_what_is_no_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(VLMError, match="cannot read the plan"):
        SkipPlan.load(tmp_path / "missing.json")
    with pytest.raises(VLMError, match="cannot write the plan"):
        SkipPlan(8).save(tmp_path / "missing" / "plan.json")
    huge = tmp_path / "huge.json"
    with huge.open("wb") as stream:
        stream.truncate(17 * 2**20)
    with pytest.raises(VLMError, match="larger than 16 MiB"):
        SkipPlan.load(huge)
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(VLMError, match="not readable JSON"):
        SkipPlan.load(binary)


def test_a_plan_is_for_one_kind_of_model() -> None:
    plan = SkipPlan(8, model_type="llava")
    plan.check(8)
    plan.check(np.int64(8), "llava")
    with pytest.raises(VLMError, match="8 decoder layers, this one has 9"):
        plan.check(9)
    with pytest.raises(VLMError, match="for a 'llava' model, this one is 'qwen2_5_vl'"):
        plan.check(8, "qwen2_5_vl")


def test_plans_need_no_torch() -> None:
    code = "import sys, vlm.plan; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
