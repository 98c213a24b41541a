"""Sets of models: named, shared out, taken up where they stopped, and recognised afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from estimators import InputError
from redundancy.demo.model import build_model, build_processor, load
from redundancy.demo.packing import Encoder, vision_window
from redundancy.demo.several import describe, main, members, train_several
from redundancy.demo.stages import _windows, train_answers
from redundancy.demo.train import QUICK, train


def test_a_set_is_trained_taken_up_and_recognised(tmp_path: Path) -> None:
    lines: list[str] = []
    (member,) = members([3], [4], ["scratch"])
    recipe = replace(QUICK, refine=0)
    # What a killed run leaves must not stop the next one.
    (tmp_path / f".{member.name}.partial").mkdir()
    (tmp_path / f".{member.name}.partial" / "half").write_text("x")
    (folder,) = train_several(tmp_path, [member], recipe=recipe, n_scenes=4, log=lines.append)
    assert folder.name == "scratch-4-layers-seed-3"
    assert (tmp_path / "tower-seed-3.safetensors").is_file()
    model, _ = load(folder)
    assert model.config.text_config.num_hidden_layers == 4
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["recipe"]["pretrained"] is False
    assert metrics["recipe"]["tower"] == 0
    assert len(metrics["held_out"]["late_entry"]) == 5
    card = (folder / "README.md").read_text()
    assert "4\nlayers" in card
    assert "had learned no language before" in card
    assert "control for the bundled" not in card

    before = (folder / "model.safetensors").stat().st_mtime_ns
    train_several(tmp_path, [member], recipe=recipe, n_scenes=4, log=lines.append)
    assert lines[-1] == f"{member.name} is there"
    assert (folder / "model.safetensors").stat().st_mtime_ns == before

    known = describe(folder)
    assert known["cluster"] == "seed 3"
    assert known["recipe"]["n_layers"] == 4


def test_models_of_one_seed_have_the_same_tower(tmp_path: Path) -> None:
    recipe = replace(QUICK, language=1, projector=1, answers=1, refine=0)
    pair = members([0], [2, 3], ["pretrained"])
    folders = train_several(tmp_path, pair, recipe=recipe, n_scenes=2)
    first, second = (load(f)[0].model.vision_tower.state_dict() for f in folders)
    assert all(torch.equal(first[key], second[key]) for key in first)
    (tmp_path / "tower-seed-0.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="holds no weights of this vision tower"):
        train(tmp_path / "x", recipe=recipe, tower=tmp_path / "tower-seed-0.safetensors")


def test_windows_of_skipping_fit_every_depth_and_eight_layers_as_before() -> None:
    for n_layers in range(1, 10):
        windows = _windows(0, 2, 1.0, n_layers)
        for _ in range(50):
            assert any(next(windows)), n_layers
    import numpy as np

    rng, windows = np.random.default_rng([5, 3]), _windows(5, 3, 1.0, 8)
    for _ in range(20):
        rng.random()
        entry, leave = int(rng.integers(3)), int(rng.integers(5, 9))
        assert next(windows) == vision_window(8, entry, leave)


def test_from_nothing_shows_few_cells_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from redundancy.demo.augment import TrainingScenes

    processor = build_processor()
    encoder = Encoder(processor)
    shown: list[int] = []
    pack = encoder.pack

    def spy(groups, n_vision):  # type: ignore[no-untyped-def]
        shown.append(n_vision)
        return pack(groups, n_vision)

    monkeypatch.setattr(encoder, "pack", spy)
    train_answers(
        build_model(processor.tokenizer, n_layers=2),
        encoder,
        TrainingScenes(0, variants=1),
        10,
        2,
        0.0,
        lambda done, steps, loss: None,
        from_nothing=True,
    )
    assert shown[0] == 4
    assert shown[-1] == 36


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipes", "none"], "no recipe 'none'"),
        (["--skipping", "2"], "--skipping is 2.0"),
    ],
)
def test_bad_input_is_said(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "set"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_a_path_that_is_no_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no model folder"):
        describe(tmp_path / "none")
    file = tmp_path / "data.jsonl"
    file.write_text("{}")
    with pytest.raises(InputError, match="is a file"):
        describe(file)
