"""Loading a transformers checkpoint, and saying in one line what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL.Image import Resampling
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging

from services.generator.checkpoint import CheckpointFacts, read_facts
from services.generator.decoding.constraint import TokenVocabulary
from text4seg.dialogue import SEG_CLOSE, SEG_OPEN
from text4seg.errors import CheckpointError

try:
    import text4seg_nano  # noqa: F401 - registers the bundled model's classes with transformers
except ModuleNotFoundError as error:
    if error.name != "text4seg_nano":
        raise

_TILING_SWITCHES = ("do_image_splitting", "crop_to_patches", "do_pan_and_scan", "do_pad")
_LONGEST_REASON = 240


@dataclass(frozen=True, slots=True)
class HfCheckpoint:
    """A loaded checkpoint.

    Attributes:
        facts: what ``config.json`` says.
        processor: image processor, tokenizer and chat template in one.
        model: on its device, in evaluation mode.
        vocabulary: the tokenizer, for constraints and text.
        control_tokens: texts that mean something to the model and may not come from a caller.
        image_size: (height, width) that images are squashed to; None: the processor takes any size as it is.
        resample: PIL's filter for that.
        context_tokens: most tokens of prompt and answer together; None: unknown.
    """

    facts: CheckpointFacts
    processor: Any
    model: Any
    vocabulary: TokenVocabulary
    control_tokens: tuple[str, ...]
    image_size: tuple[int, int] | None
    resample: Resampling
    context_tokens: int | None


def load_checkpoint(path: Path, device: str = "cpu", dtype: str = "auto") -> HfCheckpoint:
    """Load any image-text-to-text checkpoint directory of transformers, from local files only.

    Args:
        path: the directory.
        device: a torch device, for example ``"cpu"`` or ``"cuda:0"``.
        dtype: ``"auto"`` (as stored) or the name of a torch floating-point type.

    Raises:
        CheckpointError: when anything is missing, damaged, unknown or does not fit together.
    """
    facts = read_facts(path)
    if facts.model_type not in CONFIG_MAPPING:
        raise CheckpointError(
            str(path),
            f"transformers {transformers.__version__} does not know model type {facts.model_type!r}",
        )
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        load: Any = AutoProcessor.from_pretrained
        processor = load(path, local_files_only=True)
        tokenizer = getattr(processor, "tokenizer", None)
        image_processor = getattr(processor, "image_processor", None)
    except Exception as error:
        raise CheckpointError(str(path), f"cannot load the processor: {_one_line(error)}") from error
    if tokenizer is None:
        raise CheckpointError(str(path), "its processor has no tokenizer")
    if getattr(processor, "chat_template", None) is None:
        raise CheckpointError(str(path), "has no chat template")
    for switch in _TILING_SWITCHES:
        if getattr(image_processor, switch, None):
            setattr(image_processor, switch, False)
    resample = getattr(image_processor, "resample", None)
    model = _load_model(path, device, dtype)
    return HfCheckpoint(
        facts=facts,
        processor=processor,
        model=model,
        vocabulary=_vocabulary(path, tokenizer, model),
        control_tokens=_control_tokens(processor, tokenizer),
        image_size=facts.image_size or _processor_size(image_processor),
        resample=Resampling.BICUBIC if resample is None else Resampling(int(resample)),
        context_tokens=getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None),
    )


def _load_model(path: Path, device: str, dtype: str) -> Any:
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            path, local_files_only=True, dtype=dtype, output_loading_info=True
        )
        model, report = loaded
    except Exception as error:
        raise CheckpointError(str(path), f"cannot load the model: {_one_line(error)}") from error
    missing = [str(name) for name in (*report["missing_keys"], *report["mismatched_keys"])]
    if missing:
        raise CheckpointError(str(path), f"lacks {len(missing)} weights, for example {min(missing)}")
    if model.config.is_encoder_decoder:
        raise CheckpointError(
            str(path), "is an encoder-decoder model; only decoder-only models are supported"
        )
    try:
        return model.to(torch.device(device)).eval()
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(str(path), f"cannot be put on device {device!r}: {_one_line(error)}") from error


def _vocabulary(path: Path, tokenizer: Any, model: Any) -> TokenVocabulary:
    size = int(model.get_output_embeddings().weight.shape[0])
    if len(tokenizer) > size:
        raise CheckpointError(
            str(path), f"its tokenizer has {len(tokenizer)} tokens and its model only {size} logits"
        )
    configured = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])} - {None}
    if not ends:
        raise CheckpointError(str(path), "names no end token")
    try:
        return TokenVocabulary(tokenizer, size, sorted(ends))
    except Exception as error:
        raise CheckpointError(
            str(path), f"its tokenizer cannot be constrained: {_one_line(error)}"
        ) from error


def _control_tokens(processor: Any, tokenizer: Any) -> tuple[str, ...]:
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    image_token = getattr(processor, "image_token", None)
    tokens = {*tokenizer.all_special_tokens, *added, *([image_token] if isinstance(image_token, str) else [])}
    return tuple(sorted(tokens - {SEG_OPEN, SEG_CLOSE, ""}))


def _processor_size(image_processor: Any) -> tuple[int, int] | None:
    for name in ("crop_size", "size"):
        size = getattr(image_processor, name, None)
        sides = {} if size is None else dict(size)
        if sides.get("height") and sides.get("width"):
            return int(sides["height"]), int(sides["width"])
        if sides.get("shortest_edge") and not sides.get("longest_edge"):
            return int(sides["shortest_edge"]), int(sides["shortest_edge"])
    return None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"
