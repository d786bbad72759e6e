"""Engine ``hf``: a transformers checkpoint in this process."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import torch
from PIL.Image import Image

from services.chassis.worker import ModelThread
from services.generator.answer_grammar import answer_language
from services.generator.checkpoint import fingerprint
from services.generator.decoding.loop import decode
from services.generator.decoding.text import TextAssembler
from services.generator.hf_checkpoint import HfCheckpoint, load_checkpoint
from services.generator.hf_context import IMAGE_FEATURES, HfContext
from services.generator.images import ImageMemory, ImageReader, PreparedImage, squash
from services.generator.quantization import Quantization
from text4seg.errors import QueryInvalidError
from text4seg.segmentation import GenerateFinish, GenerateRequest, GeneratorInfo, TextChunk, Turn

_PROBE = "answer"


class HfModel:
    """Writes answers with a loaded checkpoint. For use by one thread.

    Args:
        checkpoint: from :func:`~services.generator.hf_checkpoint.load_checkpoint`.
        version: identifies weights and preprocessing.
        read_image: decodes image files.
        max_tokens: most tokens of one answer.
        image_cache: how many prepared images are kept.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        checkpoint: HfCheckpoint,
        version: str,
        read_image: ImageReader,
        max_tokens: int,
        image_cache: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        facts = checkpoint.facts
        self.info = GeneratorInfo(
            model=facts.model,
            version=version,
            engine="hf",
            shape=facts.shape,
            codec=facts.codec,
            template_version=facts.template_version,
            max_tokens=min(max_tokens, checkpoint.context_tokens or max_tokens),
            calibration=facts.calibration,
        )
        self._checkpoint = checkpoint
        self._read_image = read_image
        self._clock = clock
        self._images = ImageMemory(self._prepare_image, image_cache)
        self._lead = _answer_lead(checkpoint.processor) if facts.prompt is None else facts.prompt.lead

    def write(self, request: GenerateRequest, cancelled: Callable[[], bool]) -> Iterator[TextChunk]:
        """Write one answer, blocking; see :class:`~services.generator.generate.TextModel`."""
        started = self._clock()
        self._check_texts(request)
        inputs = self._inputs(request, self._images.get(request.image))
        prompt_tokens = int(inputs["input_ids"].shape[1])
        max_tokens = self._room(prompt_tokens, request.max_tokens)
        vocabulary = self._checkpoint.vocabulary
        constraint = vocabulary.constraint(
            answer_language(request, self.info.shape, self.info.codec, self._lead)
        )
        context = HfContext(self._checkpoint.model, inputs)
        text = TextAssembler(vocabulary.token_bytes, self._lead)
        written = forced = 0
        first_choice: float | None = None
        steps = decode(context, constraint, vocabulary.end_tokens, max_tokens, cancelled)
        for index, step in enumerate(steps):
            now = self._clock()
            if index == 1:
                first_choice = now
            written += len(step.tokens)
            forced += step.forced
            pieces = [text.add(token, logprob) for token, logprob in step.tokens]
            finish = None
            if step.finish is not None:
                prefilled = now if first_choice is None else first_choice
                finish = GenerateFinish(
                    reason=step.finish,
                    prompt_tokens=prompt_tokens,
                    completion_tokens=written,
                    forced_tokens=forced,
                    prefill_s=prefilled - started,
                    decode_s=now - prefilled,
                )
            if pieces or finish is not None:
                yield TextChunk(
                    text="".join(piece for piece, _ in pieces),
                    logprobs=tuple(token for _, token in pieces),
                    finish=finish,
                )

    def _room(self, prompt_tokens: int, wanted: int | None) -> int:
        limit = min(wanted or self.info.max_tokens, self.info.max_tokens)
        context_tokens = self._checkpoint.context_tokens
        if context_tokens is None:
            return limit
        if prompt_tokens >= context_tokens:
            raise QueryInvalidError(
                "turns",
                f"take {prompt_tokens} tokens with the image; the model reads at most {context_tokens}",
            )
        return min(limit, context_tokens - prompt_tokens)

    def _prepare_image(self, data: bytes) -> PreparedImage:
        picture = squash(self._read_image(data), self._checkpoint.image_size, self._checkpoint.resample)
        encode = getattr(self._checkpoint.model, "encode_image", None)
        if encode is None:
            return PreparedImage(picture, None)
        inputs = self._processed([Turn("user", "")], picture)
        with torch.inference_mode():
            return PreparedImage(picture, encode(inputs["pixel_values"]))

    def _inputs(self, request: GenerateRequest, image: PreparedImage) -> dict[str, Any]:
        inputs = self._processed(request.turns, image.picture)
        if image.features is not None:
            inputs.pop("pixel_values", None)
            inputs[IMAGE_FEATURES] = image.features
        return inputs

    def _processed(self, turns: Sequence[Turn], picture: Image) -> dict[str, Any]:
        processor = self._checkpoint.processor
        prompt = self._prompt(turns)
        start = processor.tokenizer.bos_token
        whole = self._checkpoint.facts.prompt is not None or (start and prompt.startswith(start))
        options = {"add_special_tokens": False} if whole else {}
        encoded = processor(text=[prompt], images=[picture], return_tensors="pt", **options)
        return {name: self._on_device(value) for name, value in encoded.items()}

    def _prompt(self, turns: Sequence[Turn]) -> str:
        form = self._checkpoint.facts.prompt
        if form is not None:
            return form.render(turns)
        template = self._checkpoint.processor.apply_chat_template
        return str(template(_conversation(turns), tokenize=False, add_generation_prompt=True))

    def _check_texts(self, request: GenerateRequest) -> None:
        labels = () if request.constraint is None else request.constraint.labels
        fields = {f"turns[{index}].text": turn.text for index, turn in enumerate(request.turns)}
        fields |= {f"constraint.labels[{index}]": label for index, label in enumerate(labels)}
        for field, text in fields.items():
            for token in self._checkpoint.control_tokens:
                if token in text:
                    raise QueryInvalidError(field, f"holds the model's control text {token!r}")

    def _on_device(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        model = self._checkpoint.model
        return value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)


class HfTextModel:
    """The engine as a :class:`~services.generator.generate.TextModel`: one model in one thread."""

    def __init__(self, model: HfModel, thread: ModelThread) -> None:
        self._model = model
        self._thread = thread

    @property
    def info(self) -> GeneratorInfo:
        """The loaded model."""
        return self._model.info

    async def write(self, request: GenerateRequest) -> AsyncIterator[TextChunk]:
        """Write one answer in the model's thread; leaving the iteration stops the model."""
        chunks = self._thread.stream(lambda cancelled: self._model.write(request, cancelled))
        async with aclosing(cast("AsyncGenerator[TextChunk, None]", chunks)) as closing:
            async for chunk in closing:
                yield chunk


def load_hf_model(
    path: Path,
    read_image: ImageReader,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    adapter: Path | None = None,
    quantization: Quantization = Quantization.NONE,
    threads: int = 1,
    max_tokens: int = 2048,
    image_cache: int = 16,
) -> HfModel:
    """Load a checkpoint directory; blocking, to be called in the model's thread.

    Args:
        path: the directory; see :func:`~services.generator.adapter.find_parts`.
        read_image: decodes image files.
        device: a torch device.
        dtype: ``"auto"`` or the name of a torch floating-point type.
        adapter: directory of a LoRA adapter.
        quantization: of the weights.
        threads: threads of torch in this process; 0 leaves torch's own choice, which can slow a small model
            down many times on a busy machine.
        max_tokens: most tokens of one answer.
        image_cache: how many prepared images are kept.

    Raises:
        CheckpointError: when the checkpoint is missing, damaged or unknown.
    """
    if threads:
        torch.set_num_threads(threads)
    checkpoint = load_checkpoint(path, device, dtype, adapter=adapter, quantization=quantization)
    parts = checkpoint.facts.parts
    adapted = "" if parts.adapter is None else fingerprint(parts.adapter)
    version = fingerprint(parts.base, dtype, checkpoint.image_size, str(quantization), adapted)
    return HfModel(checkpoint, version, read_image, max_tokens, image_cache)


def _conversation(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [
        {"role": turn.role, "content": [{"type": "text", "text": turn.text}]} for turn in turns
    ]
    messages[0]["content"].insert(0, {"type": "image"})
    return messages


def _answer_lead(processor: Any) -> str:
    """Return what the chat template puts before an answer: a space, or nothing.

    ``ASSISTANT:`` is followed by `` Sure``: the space belongs to the first token of the answer that the model
    was trained on, and must be written before the answer, though it is no part of it.
    """
    question = [Turn("user", "question")]
    opened = processor.apply_chat_template(
        _conversation(question), tokenize=False, add_generation_prompt=True
    )
    closed = processor.apply_chat_template(
        _conversation([*question, Turn("assistant", _PROBE)]), tokenize=False, add_generation_prompt=False
    )
    lead, probe, _ = closed.removeprefix(opened).partition(_PROBE)
    return lead if probe and closed.startswith(opened) and not lead.strip() else ""
