"""The lmms-eval plug-in: answers under a plan, registration, and a task of its own kind."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch

from estimators import InputError
from redundancy.lmms_eval import PlannedAnswers
from tests.vlm.capturing import N_LAYERS, picture, save_tiny_llava, tiny_processor
from vlm._errors import VLMError
from vlm.data import prepare
from vlm.model import decoder_layers
from vlm.plan import SkipPlan
from vlm.skip import skipping

PLAN = SkipPlan(N_LAYERS, vision_entry=1, vision_exit=3)
QUESTIONS = ["is it red ?", "how many are there and what ?", "is it green or blue ?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = save_tiny_llava(tmp_path_factory.mktemp("llava"))
    PLAN.save(home / "plan.json")
    return home


def turns(question: str, *pictures: Any) -> list[dict[str, Any]]:
    images = [{"type": "image", "image": one} for one in pictures]
    return [{"role": "user", "content": [*images, {"type": "text", "text": question}]}]


def by_hand(model: PlannedAnswers, question: str, *pictures: Any) -> str:
    row = {"question": question, "images": list(pictures)}
    inputs, _ = prepare(model.processor, [row])
    with skipping(model.model, PLAN), torch.inference_mode():
        out = model.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    new = out[0, inputs["input_ids"].shape[1] :]
    return str(model.processor.tokenizer.decode(new, skip_special_tokens=True)).strip()


def test_answers_are_those_of_generate_under_the_plan(folder: Path) -> None:
    model = PlannedAnswers(str(folder), str(folder / "plan.json"))
    rows: list[int] = []
    handle = decoder_layers(model.model)[0].mlp.register_forward_hook(
        lambda _, args, out: rows.append(out.shape[1])
    )
    asked = [
        turns(QUESTIONS[0], picture(1)),
        turns(QUESTIONS[1], picture(2), picture(3)),
        turns(QUESTIONS[2]),
    ]
    said = model.answer(asked, {"max_new_tokens": 6, "temperature": 0})
    handle.remove()
    assert rows[0] < 20  # the longest prompt has 18 vision tokens more
    assert said == [
        by_hand(model, QUESTIONS[0], picture(1)),
        by_hand(model, QUESTIONS[1], picture(2), picture(3)),
        by_hand(model, QUESTIONS[2]),
    ]
    whole = PlannedAnswers(str(folder)).answer(asked, {"max_new_tokens": 6})
    assert whole != said


def test_an_answer_ends_where_the_task_says(folder: Path) -> None:
    model = PlannedAnswers(str(folder), PLAN)
    asked = [turns(QUESTIONS[0], picture(1))]
    [said] = model.answer(asked, {"max_new_tokens": 6})
    last = said.split()[-1]
    [cut] = model.answer(asked, {"max_new_tokens": 6, "until": [last]})
    assert cut == said.split(last)[0].strip()
    assert model.answer(asked, {"max_new_tokens": 6, "until": last}) == [cut]
    torch.manual_seed(0)
    hot = {"max_new_tokens": 6, "temperature": 50.0, "top_p": 1.0}
    assert len({model.answer(asked, hot)[0] for _ in range(4)}) > 1


def test_what_cannot_be_answered_is_said(folder: Path, tmp_path: Path) -> None:
    model = PlannedAnswers(str(folder), PLAN)
    with pytest.raises(InputError, match="a task brings video"):
        model.answer([[{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}]], {})
    with pytest.raises(VLMError, match="the plan is for a model of 9 decoder layers"):
        PlannedAnswers(str(folder), SkipPlan(9))
    with pytest.raises(VLMError, match="cannot read the plan"):
        PlannedAnswers(str(folder), str(tmp_path / "none.json"))
    save_tiny_llava(tmp_path / "bare")
    for file in (tmp_path / "bare").glob("chat_template*"):
        file.unlink()
    tiny_processor(chat_template=None).save_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match="has no chat template"):
        PlannedAnswers(str(tmp_path / "bare"))


def test_the_entry_point_names_a_function_of_this_package() -> None:
    [found] = [one for one in entry_points(group="lmms_eval.models") if one.name == "redundancy"]
    from redundancy import lmms_eval

    assert found.load() is lmms_eval.manifest


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Three questions about pictures, as a task of lmms-eval."""
    rows = []
    for number, question in enumerate(QUESTIONS):
        picture(number).save(tmp_path / f"{number}.png")
        rows.append(
            {"question": question, "answer": "yes", "file": str(tmp_path / f"{number}.png")}
        )
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "tiny_questions.yaml").write_text(
        f"""task: tiny_questions
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path}/rows.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
process_results: !function utils.judge
generation_kwargs: {{max_new_tokens: 6, temperature: 0}}
metric_list: [{{metric: said, aggregation: !function utils.collect, higher_is_better: true}}]
"""
    )
    (tmp_path / "tasks" / "utils.py").write_text(
        "from PIL import Image\n"
        "visual = lambda doc: [Image.open(doc['file'])]\n"
        "text = lambda doc, **_: doc['question']\n"
        "judge = lambda doc, results: {'said': results[0]}\n"
        "collect = lambda said, *_: '|'.join(said)\n"
    )
    return tmp_path / "tasks"


def test_lmms_eval_runs_a_task_through_the_registered_model(folder: Path, task: Path) -> None:
    """Needs lmms-eval, which brings a GPU's worth of packages; see docs/skipping.md."""
    pytest.importorskip("lmms_eval.evaluator")
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.models import get_model, list_available_models
    from lmms_eval.tasks import TaskManager

    from redundancy.lmms_eval import Redundancy

    assert "redundancy" in list_available_models()
    assert get_model("redundancy") is Redundancy
    done = simple_evaluate(
        model="redundancy",
        model_args=f"pretrained={folder},plan={folder}/plan.json",
        tasks=["tiny_questions"],
        task_manager=TaskManager(include_path=str(task), include_defaults=False),
        batch_size=2,
        device="cpu",
    )
    model = PlannedAnswers(str(folder), PLAN)
    expected = [by_hand(model, one, picture(i)) for i, one in enumerate(QUESTIONS)]
    assert done["results"]["tiny_questions"]["said,none"] == "|".join(expected)
