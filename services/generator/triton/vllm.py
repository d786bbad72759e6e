"""What a model behind Triton's vLLM backend wants to be asked.

The backend takes a prompt and applies no chat template, and image files without options of the processor: the
prompt is written here, and the image squashed. What must be known of the model stands in the parameter
``text4seg`` of its ``config.pbtxt`` (``deploy/triton/vllm_repository.py`` writes it), as JSON: the entry
``text4seg`` of the checkpoint, with ``backbone`` (a profile of :mod:`text4seg.backbones`), ``version``,
``max_tokens``, and ``lora`` where an adapter is to be used.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from PIL.Image import Resampling

from services.generator.answer_grammar import answer_sentence_of
from services.generator.images import ImageReader, squash
from services.generator.triton import tensors
from text4seg.backbones import PromptForm, find_backbone
from text4seg.descriptors import Codec
from text4seg.ebnf import answer_ebnf
from text4seg.errors import CheckpointError, QueryInvalidError
from text4seg.grammar import DescriptorGrammar
from text4seg.scores import Calibrations
from text4seg.segmentation import GenerateRequest, GeneratorInfo

PARAMETER = "text4seg"
"""The key in ``config.pbtxt`` that tells a model of vLLM's backend from our own."""

_BEGIN = "<s>"
"""Left out of prompts: the tokenizers of the families that begin so add it to every prompt by themselves."""

_CONTROL = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True, slots=True)
class VllmModel:
    """A model of the vLLM backend.

    Attributes:
        name: in Triton's repository.
        image_size: (height, width) that images are squashed to.
        prompt: how its conversations are written.
        info: what the generator says about it.
        lora: name of the adapter to use; empty: none.
    """

    name: str
    image_size: tuple[int, int]
    prompt: PromptForm
    info: GeneratorInfo
    lora: str


def read_model(name: str, parameter: str) -> VllmModel:
    """Read the parameter ``text4seg`` of a model.

    Raises:
        CheckpointError: it is incomplete, or names a backbone that has no profile.
    """
    try:
        entry = json.loads(parameter)
        found = find_backbone(str(entry["backbone"]))
        if found is None:
            raise ValueError(f"there is no profile of a backbone {entry['backbone']!r}")
        family, backbone = found
        rows, columns = (int(side) for side in entry["grid"])
        height, width = (int(side) for side in entry.get("image_size") or [backbone.image_side] * 2)
        return VllmModel(
            name=name,
            image_size=(height, width),
            prompt=family.prompt,
            info=GeneratorInfo(
                model=str(entry.get("model") or name),
                version=str(entry["version"]),
                engine="triton",
                shape=DescriptorGrammar((rows, columns), None).shape,
                codec=Codec(entry["codec"]),
                template_version=str(entry["template_version"]),
                max_tokens=int(entry["max_tokens"]),
                calibration=Calibrations.read(entry.get("calibration") or {}),
            ),
            lora=str(entry.get("lora") or ""),
        )
    except KeyError as error:
        raise CheckpointError(name, f"parameter {PARAMETER} lacks {error.args[0]!r}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(name, f"parameter {PARAMETER}: {error}") from error


class VllmDialect:
    """Asks a model of vLLM's backend.

    Args:
        model: what is known of it.
        read_image: decodes image files.
    """

    def __init__(self, model: VllmModel, read_image: ImageReader) -> None:
        self._model = model
        self._read_image = read_image
        self.lead = model.prompt.lead

    async def question(self, request: GenerateRequest, request_id: str) -> Any:
        """Return the ``ModelInferRequest`` for a request; the image is squashed in a thread.

        Raises:
            ImageInvalidError: the image cannot be read.
            QueryInvalidError: a turn or label holds the model's control tokens.
        """
        model = self._model
        _check_texts(request, model.prompt)
        image = await asyncio.to_thread(self._squashed, request.image)
        prompt = model.prompt.render(request.turns).removeprefix(_BEGIN)
        return tensors.question(model.name, prompt, image, sampling_parameters(model, request), request_id)

    async def info(self, ask: Callable[[Any], AsyncGenerator[Any, None]]) -> GeneratorInfo:
        """Return what the model's configuration says; that Triton has it ready was asked before."""
        return self._model.info

    def _squashed(self, data: bytes) -> bytes:
        picture = squash(self._read_image(data), self._model.image_size, Resampling.BICUBIC)
        file = io.BytesIO()
        picture.save(file, "PNG", compress_level=1)
        return file.getvalue()


def sampling_parameters(model: VllmModel, request: GenerateRequest) -> str:
    """Return ``sampling_parameters``: greedy, the probability of every token, and the grammar of the answer.

    Free text is not constrained: a block in it may be malformed, which decoding reports.
    """
    info = model.info
    values: dict[str, Any] = {
        "temperature": 0.0,
        "max_tokens": min(request.max_tokens or info.max_tokens, info.max_tokens),
        "logprobs": 0,  # of the chosen token alone
        "skip_special_tokens": False,  # <seg> may be one
        "spaces_between_special_tokens": False,
    }
    if request.constraint is not None:
        sentence = model.prompt.lead + answer_sentence_of(request.turns, request.constraint)
        grammar = DescriptorGrammar(info.shape, request.constraint.labels or None, info.codec)
        # The backend wants this one value as JSON in the JSON.
        values["structured_outputs"] = json.dumps({"grammar": answer_ebnf((sentence,), grammar)})
    if model.lora:
        values["lora_name"] = model.lora
    return json.dumps(values, ensure_ascii=False)


def _check_texts(request: GenerateRequest, prompt: PromptForm) -> None:
    """Refuse what a prompt would take for a part of itself; there is no tokenizer here to ask."""
    forms = (prompt.opening, prompt.image_question, prompt.question, prompt.reply, prompt.answer)
    control = {token for form in forms for token in _CONTROL.findall(form)}
    fields = {f"turns[{index}].text": turn.text for index, turn in enumerate(request.turns)}
    labels = () if request.constraint is None else request.constraint.labels
    fields |= {f"constraint.labels[{index}]": label for index, label in enumerate(labels)}
    for field, text in fields.items():
        for token in sorted(control):
            if token in text:
                raise QueryInvalidError(field, f"holds the model's control text {token!r}")
