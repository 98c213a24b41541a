"""A model for lmms-eval: any vision-language model of a supported family, under a plan.

    lmms-eval --model redundancy --tasks mme --batch_size 4 \\
        --model_args pretrained=llava-hf/llava-1.5-7b-hf,plan=plan.json

lmms-eval finds it through the entry point group ``lmms_eval.models``. Without ``plan`` the same
code runs the whole model, which makes the fair baseline. Nothing here needs lmms-eval but the class
that it makes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from estimators import InputError
from vlm.plan import SkipPlan
from vlm.skip import skipping

try:
    from lmms_eval.api.model import lmms
except ImportError:  # the class is then of no use, but this module can be read
    lmms = object

__all__ = ["PlannedAnswers", "Redundancy", "manifest"]

_LONGEST_ANSWER = 1024


def manifest() -> Any:
    """Tell lmms-eval where the model stands; its entry point.

    Returns
    -------
    lmms_eval.models.registry_v2.ModelManifest
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="redundancy", chat_class_path="redundancy.lmms_eval.Redundancy")


class PlannedAnswers:
    """Conversations in, answers out, under a plan.

    Parameters
    ----------
    pretrained : str
        Model folder or hub id.
    plan : str or SkipPlan, optional
        File of a plan; none: the whole model.
    device : str, optional
        Where the model goes, e.g. ``"cuda:0"``, or ``"auto"`` to spread it; by default the CPU, or
        the GPU of this process where there is one.
    dtype, revision, trust_remote_code, attn_implementation
        As for `vlm.model.load`.

    Raises
    ------
    VLMError
        If the model cannot be loaded, or the plan is for another one.
    """

    def __init__(
        self,
        pretrained: str,
        plan: str | SkipPlan | None = None,
        *,
        device: str | None = None,
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
        attn_implementation: str | None = None,
    ) -> None:
        from vlm.model import decoder_layers, load

        self.model, self.processor = load(
            pretrained,
            dtype=dtype,
            device_map=_own_device() if device is None else device,
            revision=revision,
            trust_remote_code=trust_remote_code,
            attn_implementation=attn_implementation,
        )
        if not getattr(self.processor, "chat_template", None):
            raise InputError(
                f"the processor of {pretrained} has no chat template, and lmms-eval asks in "
                "conversations; save one with the processor"
            )
        if self.processor.tokenizer.pad_token is None:
            raise InputError(f"the tokenizer of {pretrained} has no padding token; give it one")
        given = SkipPlan.load(plan) if isinstance(plan, str) else plan
        self.plan = given or SkipPlan(len(decoder_layers(self.model)))
        with skipping(self.model, self.plan):
            pass  # what cannot be applied is said before hours of questions

    def answer(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], options: Mapping[str, Any]
    ) -> list[str]:
        """Answer one batch.

        Parameters
        ----------
        conversations : sequence of sequences of turns
            Each turn a mapping with ``role`` and ``content``, the latter a list of parts of type
            ``"text"`` (with ``text``) or ``"image"`` (with ``image``, a PIL image).
        options : mapping
            ``max_new_tokens``, ``temperature``, ``top_p``, ``num_beams`` of ``generate``, and
            ``until``: a text, or several, that ends the answer and is no part of it.

        Raises
        ------
        InputError
            For parts of other types.
        """
        import torch

        images = [_images(turns) for turns in conversations]
        prompts = [
            self.processor.apply_chat_template(
                list(turns), add_generation_prompt=True, tokenize=False
            )
            for turns in conversations
        ]
        start = self.processor.tokenizer.bos_token
        inputs = self.processor(
            text=prompts,
            # Lists of lists keep every image with its conversation.
            **({"images": images} if any(images) else {}),
            padding=True,
            padding_side="left",
            # A template that writes the start token itself would otherwise have it twice.
            add_special_tokens=not (start and all(text.startswith(start) for text in prompts)),
            return_tensors="pt",
        ).to(self.model.device, self.model.dtype)
        heat = float(options.get("temperature") or 0.0)
        sampling = {"temperature": heat, "top_p": options.get("top_p") or 1.0}
        with skipping(self.model, self.plan), torch.inference_mode():
            out = self.model.generate(
                **inputs,
                max_new_tokens=int(options.get("max_new_tokens") or _LONGEST_ANSWER),
                num_beams=int(options.get("num_beams") or 1),
                do_sample=heat > 0,
                pad_token_id=self.processor.tokenizer.pad_token_id,
                **(sampling if heat > 0 else {"temperature": None, "top_p": None, "top_k": None}),
            )
        new = out[:, inputs["input_ids"].shape[1] :]
        said = self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [_cut(text, options.get("until")) for text in said]


def _images(turns: Sequence[Mapping[str, Any]]) -> list[Any]:
    found = []
    for turn in turns:
        for part in turn["content"]:
            if part["type"] == "image":
                found.append(part["image"].convert("RGB"))
            elif part["type"] != "text":
                raise InputError(
                    f"a task brings {part['type']}, and plans were tested on images and text; "
                    "take a task of images"
                )
    return found


def _cut(text: str, until: str | Iterable[str] | None) -> str:
    """Cut an answer before the first of the texts that end it."""
    for stop in [until] if isinstance(until, str) else until or ():
        if stop:
            text = text.split(stop)[0]
    return text.strip()


def _own_device() -> str | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


class Redundancy(lmms):  # type: ignore[misc]  # lmms-eval ships no types
    """What lmms-eval makes of ``--model redundancy``.

    Parameters
    ----------
    pretrained, plan, device, dtype, revision, trust_remote_code, attn_implementation
        As for `PlannedAnswers`.
    batch_size : int
        Conversations per call; those with the same options share one.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        plan: str | None = None,
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
        attn_implementation: str | None = None,
    ) -> None:
        super().__init__()
        self._answers = PlannedAnswers(
            pretrained,
            plan,
            device=device,
            dtype=dtype,
            revision=revision,
            trust_remote_code=trust_remote_code,
            attn_implementation=attn_implementation,
        )
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise InputError(f"batch_size is {batch_size!r}; give a whole number from 1")
        self.batch_size_per_gpu = int(batch_size)

    @property
    def device(self) -> Any:
        """Device that inputs go to."""
        return self._answers.model.device

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answer requests, in their order; those with the same options share batches."""
        answers: dict[int, str] = {}
        waiting: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            waiting.setdefault(repr(sorted(request.args[2].items())), []).append(place)
        for places in waiting.values():
            for first in range(0, len(places), self.batch_size_per_gpu):
                batch = places[first : first + self.batch_size_per_gpu]
                asked = [self._conversation(requests[place]) for place in batch]
                options = requests[batch[0]].args[2]
                for place, text in zip(batch, self._answers.answer(asked, options), strict=True):
                    answers[place] = text
                    asked_with = (requests[place].args[0], options)
                    self.cache_hook.add_partial("generate_until", asked_with, text)
        return [answers[place] for place in range(len(requests))]

    def _conversation(self, request: Any) -> list[dict[str, Any]]:
        from lmms_eval.protocol import ChatMessages

        _, messages_of, _, document, task, split = request.args
        messages = messages_of(self.task_dict[task][split][document])
        turns: list[dict[str, Any]] = ChatMessages(messages=messages).to_hf_messages()
        return turns

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not offered: tasks of this kind need another model."""
        raise NotImplementedError("tasks that score given answers are not supported")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered: tasks of this kind need another model."""
        raise NotImplementedError("tasks in several rounds are not supported")
