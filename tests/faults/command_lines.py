"""Command lines from bytes: every command and option there is, with values sound and hostile.

The commands run in this process, in a folder that holds a store, runs, a plan, a model and damaged
copies of some. What stood there must stand there afterwards, unless ``--fresh`` or ``--resume``
was given; nothing may appear elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["LENGTH", "command_line", "run_line", "sound_lines"]

LENGTH = 48  # bytes of a case

# Commands that run a model take longer, so fewer cases are theirs.
_WEIGHTS = {
    "estimate": 5, "plan": 4, "probe": 4, "report": 4, "crosscheck": 3, "extract": 3, "skip": 2,
    "validate": 2, "doctor": 3, "ls": 1, "demo": 1,
}  # fmt: skip
_STORES = ["acts", "captured", "captured", "x.npz", "x.npy"]
_RUNS = ["run", "run/record.json", "probed"]
_ROWS = ["rows.jsonl", "rows.jsonl", "few.jsonl", "text.txt"]
_WHERE = ["new", "new/deeper", "new.json", "new.html"]
# By the name of the parameter; what is not named here draws from the hostile pool alone.
_SOUND: dict[str, list[str]] = {
    "acts": _STORES, "runs": _RUNS, "run": _RUNS, "models": ["model", "model", "text"],
    "model": ["model", "text"], "data": _ROWS, "out": _WHERE, "plan": ["plan.json"],
    "what": ["measures", "estimators", "probes", "families"], "seed": ["0", "7"], "jobs": ["1"],
    "measure": ["geometric", "cka", "proximal", "informational"],
    "layers": ["0-1", "0,1", "1", "0-4"], "pairs": ["adjacent", "first", "all"],
    "modality": ["vision", "text"], "target": ["answer", "label"],
    "epsilon": ["0.1", "0"], "ci": ["0.9", "0.95"], "unit": ["nats", "bits"],
    "option": ["weighting=token", "k=3", "mi=none"], "states": ["2", "4"], "engine": ["local"],
    "memory": ["4GB", "500MB"], "kind": ["linear", "ridge", "window", "exit", "all", "drop"],
    "pool": ["mean", "token"], "folds": ["5"], "alpha": ["0.05", "0.5"], "delta": ["0.1", "0.5"],
    "max_effect": ["0.1", "1"], "max_distance": ["0.1", "1"], "max_plans": ["2"],
    "batch_size": ["4"], "tokens": ["0", "2", "all"], "dtype": ["auto", "float32"],
    "device": ["cpu"], "sweep": ["late", "single"], "max_new_tokens": ["1", "2"],
    "repeats": ["1"], "images": ["2", "4"], "draws": ["100"], "resplits": ["2"],
    "samples": ["1", "2"], "peer": ["scikit-learn", "npeet_plus", "dit"],
}  # fmt: skip
# Defaults that would only make the machine warm.
_CHEAP = {
    "validate": ["--data", "rows.jsonl", "--draws", "100", "--resplits", "2"],
    "skip": ["--plan", "plan.json", "--repeats", "1", "--max-new-tokens", "2"],
    "plan": ["--out", "new.json"],
    "estimate": ["--jobs", "1", "--measure", "geometric"],
    "probe": ["--jobs", "1", "--target", "label"],
}  # fmt: skip
_HOSTILE = [
    "", " ", "-1", "0", "1e999", "nan", "-inf", "1.5", "2", "99999999999999999999", "١٢", "0x10",
    "1_0", "true", "null", "0-9999999999", "3-1", "0,0", ",", "-", "--", "=", "a=b", "mi=", "k=-1",
    "k=1e9", "furlongs", "informtional", "dusk", "dask:", "ray:x:y", "1KB", "-4GB", "x" * 300,
    "acts/" * 900, "\udcff", "torn", "locked",
    "\x00", "a\nb", "<script>alert(1)</script>", "%s%n{0}", "$(touch p)",
    "nowhere", ".", "..", "acts",
    "acts/store.json", "run", "plan.json", "x.npz", "rows.jsonl", "broken.json", "broken.npz",
    "pipe", "zero", "loop", "model", "http://127.0.0.1:1/acts", "file:///nowhere", "s3://",
    "memory://nothing", "zip://a::b", "scheme+odd://x",
]  # fmt: skip


class _Dice:
    """Choices made by bytes; the same bytes, the same choices."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        # Of three lines one means no harm, one has a bad word or two, one is full of them.
        self._harm = (0, 2, 6)[self.below(3)]

    def harms(self) -> bool:
        return self.below(16) < self._harm

    def below(self, count: int) -> int:
        one = self._data[self._at : self._at + 1] or b"\0"
        self._at += 1
        return one[0] % count

    def of(self, values: list[Any]) -> Any:
        return values[self.below(len(values))]


@functools.cache
def _commands() -> dict[str, list[Any]]:
    """The parameters of every command, as the parser knows them."""
    from typer.main import get_command

    from redundancy.cli._app import app

    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    return {name: list(command.params) for name, command in commands.items()}


def command_line(data: bytes) -> list[str]:
    """A command and what follows it; options are those of the command, now and then another's."""
    dice = _Dice(data)
    commands = _commands()
    names = [name for name in commands for _ in range(_WEIGHTS.get(name, 2))]
    name = dice.of(names)
    words = [name, *_CHEAP.get(name, [])]
    for param in commands[name]:
        needed = param.required or param.param_type_name == "argument"
        if (dice.harms() and dice.below(2)) if needed else dice.below(16) >= 3:
            continue
        words += _given(param, dice)
        if getattr(param, "multiple", False) or param.nargs == -1:
            for _ in range(dice.below(3)):
                words += _given(param, dice)
    if dice.harms():
        other = dice.of(commands[dice.of(sorted(commands))])
        words += _given(other, dice)
    if dice.harms():
        words.insert(dice.below(len(words) + 1), dice.of(_HOSTILE))
    if name == "validate" and not {"--paper", "model", "text"} & set(words):
        words += ["model"]  # the bundled one takes minutes
    if name == "demo":
        words += ["--out", "acts"]  # where it may not write: what it does takes minutes
    return words


def _given(param: Any, dice: _Dice) -> list[str]:
    value = dice.of(_HOSTILE) if dice.harms() else None
    if param.param_type_name == "argument":
        return [value if value is not None else _sound(param, dice)]
    option = dice.of(param.opts)
    if getattr(param, "is_flag", False) or option in ("--help", "--install-completion"):
        return [option]
    return [option, value if value is not None else _sound(param, dice)]


def _sound(param: Any, dice: _Dice) -> str:
    return str(dice.of(_SOUND.get(str(param.name), _HOSTILE)))


def sound_lines() -> list[bytes]:
    """Some cases, to begin with."""
    rng = np.random.default_rng(0)
    return [rng.bytes(LENGTH) for _ in range(6)]


def run_line(data: bytes, folder: Path) -> None:
    """Run one case in `folder` and hold what is there against what was."""
    from redundancy.cli import main

    here, kept = folder / "here", folder / "kept"
    if not kept.exists():
        _furnish(kept)
        _restore(kept, here)
    words = command_line(data)
    outside, before = _names(folder), _stand(here)
    back = Path.cwd()
    os.chdir(here)
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(words)
    except SystemExit as end:
        code = end.code or 0
    finally:
        os.chdir(back)
        after = _stand(here)
        if after != before:
            _restore(kept, here)
    said = err.getvalue()
    assert code in (0, 2, 3), f"{words}: exit code {code}: {said[-900:]}"
    assert "Traceback" not in said, f"{words}: {said[-900:]}"
    assert code == 0 or said.strip() or out.getvalue().strip(), f"{words}: {code} without a word"
    assert _names(folder) == outside, f"{words} wrote outside its folder"
    if code == 2 and "can be trusted" not in said:  # an estimate of which nothing came is kept
        left = sorted(name for name in after if name not in before)
        finished = any("/studies/" in name for name in left)  # of one of several models
        assert not left or finished, f"{words} left {left}: {said[-300:]}"
    if not {"--fresh", "--resume"} & set(words):
        lost = [name for name, was in before.items() if after.get(name) != was]
        lost = [name for name in lost if not name.endswith("report.html")]
        assert not lost, f"{words} changed {lost}"
    if code == 0 and "--json" in words and not {"--help", "-h", "--version"} & set(words):
        json.loads(out.getvalue())


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _stand(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    found = {}
    for top, _, names in os.walk(folder):
        for name in names:
            state = os.lstat(f"{top}/{name}")
            found[os.path.relpath(f"{top}/{name}", folder)] = (state.st_size, state.st_mtime_ns)
    return found


def _restore(kept: Path, here: Path) -> None:
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(kept, here, symlinks=True)
    (here / "locked").mkdir(mode=0)
    os.mkfifo(here / "pipe")
    (here / "zero").symlink_to("/dev/zero")  # by its own name it could be replaced


def _furnish(folder: Path) -> None:
    """One of everything that commands take."""
    import redundancy as rd
    from redundancy.cli import main
    from tests.vlm.capturing import save_tiny_llava
    from vlm.plan import SkipPlan

    folder.mkdir()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = (x[:, 0] > 0).astype(np.int64)
    arrays = {0: x, 1: x + 0.5 * rng.normal(size=x.shape), 2: 2 * x}
    np.savez(folder / "x.npz", **{f"layer_{key}": value for key, value in arrays.items()}, target=y)
    np.save(folder / "x.npy", np.stack(list(arrays.values())))
    rd.ActivationStore.from_arrays(arrays, target=y).save(folder / "acts")
    (folder / "few.jsonl").write_text(_rows(folder, 12))
    (folder / "rows.jsonl").write_text(_rows(folder, 44))
    (folder / "text.txt").write_text("is it red\nhow many are there\none and two\nyes or no\n" * 3)
    save_tiny_llava(folder / "model")
    _text_model(folder / "text")
    SkipPlan(4, vision_entry=1, vision_exit=3).save(folder / "plan.json")
    back = Path.cwd()
    os.chdir(folder)
    try:
        for words in (
            ["extract", "model", "--data", "few.jsonl", "-o", "captured", "--tokens", "2",
             "--vision-effect", "-q"],
            ["estimate", "acts", "-m", "geometric", "-m", "informational", "--option", "mi=none",
             "-o", "run", "--jobs", "1", "-q"],
            ["probe", "acts", "-o", "probed", "--jobs", "1", "-q"],
        ):  # fmt: skip
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()) as err,
                contextlib.suppress(SystemExit),
            ):
                main(words)
            assert (folder / words[words.index("-o") + 1]).exists(), err.getvalue()
    finally:
        os.chdir(back)
    shutil.copytree(folder / "acts", folder / "torn")
    shard = next((folder / "torn").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-40])
    (folder / "broken.json").write_text('{"kind": [[[[')
    (folder / "broken.npz").write_bytes((folder / "x.npz").read_bytes()[:300])
    (folder / "loop").symlink_to("loop")


def _rows(folder: Path, count: int) -> str:
    from tests.vlm.capturing import picture

    lines = []
    for number in range(count):
        picture(number).save(folder / f"{number}.png")
        lines.append(
            json.dumps(
                {
                    "id": f"q{number}", "image": f"{number}.png", "question": "is it red ?",
                    "answer": "yes" if number % 2 else "no", "choices": ["yes", "no"],
                    "label": f"<b>{number % 2}</b>",
                }
            )
            + "\n"
        )  # fmt: skip
    return "".join(lines)


def _text_model(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.vlm.capturing import tiny_processor

    tokenizer = tiny_processor().tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
