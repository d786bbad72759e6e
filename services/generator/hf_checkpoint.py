"""Loading a transformers checkpoint, and saying in one line what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from PIL.Image import Resampling
from transformers import CONFIG_MAPPING, AutoProcessor
from transformers.utils import logging

from services.generator.checkpoint import CheckpointFacts, read_facts
from services.generator.decoding.constraint import TokenVocabulary
from services.generator.hf_weights import load_weights, one_line
from services.generator.quantization import Quantization
from text4seg.backbones import foreign_family
from text4seg.backbones.tiles import keep_one_tile, processor_size, resampling
from text4seg.dialogue import SEG_CLOSE, SEG_OPEN
from text4seg.errors import CheckpointError

try:
    import text4seg_nano  # noqa: F401 - registers the bundled model's classes with transformers
except ModuleNotFoundError as error:
    if error.name != "text4seg_nano":
        raise


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


def load_checkpoint(
    path: Path,
    device: str = "cpu",
    dtype: str = "auto",
    *,
    adapter: Path | None = None,
    quantization: Quantization = Quantization.NONE,
) -> HfCheckpoint:
    """Load any image-text-to-text checkpoint of transformers, from local files only.

    Args:
        path: its directory; see :func:`~services.generator.adapter.find_parts`.
        device: a torch device, for example ``"cpu"`` or ``"cuda:0"``.
        dtype: ``"auto"`` (as stored) or the name of a torch floating-point type.
        adapter: directory of a LoRA adapter.
        quantization: of the weights.

    Raises:
        CheckpointError: when anything is missing, damaged, unknown or does not fit together.
    """
    facts = read_facts(path, adapter)
    path = facts.parts.base
    _check_known(path, facts.model_type)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        load: Any = AutoProcessor.from_pretrained
        processor = load(path, local_files_only=True, trust_remote_code=False)
        tokenizer = getattr(processor, "tokenizer", None)
        image_processor = getattr(processor, "image_processor", None)
    except Exception as error:
        raise CheckpointError(str(path), f"cannot load the processor: {one_line(error)}") from error
    if tokenizer is None:
        raise CheckpointError(str(path), "its processor has no tokenizer")
    if facts.prompt is None and getattr(processor, "chat_template", None) is None:
        raise CheckpointError(str(path), 'has no chat template, and its entry text4seg names no "backbone"')
    image_size = facts.image_size or processor_size(image_processor)
    keep_one_tile(image_processor, image_size)
    model = load_weights(facts.parts, device, dtype, quantization)
    return HfCheckpoint(
        facts=facts,
        processor=processor,
        model=model,
        vocabulary=_vocabulary(path, tokenizer, model),
        control_tokens=_control_tokens(processor, tokenizer),
        image_size=image_size,
        resample=Resampling(resampling(image_processor)),
        context_tokens=getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None),
    )


def _check_known(path: Path, model_type: str) -> None:
    if model_type in CONFIG_MAPPING:
        return
    why = f"transformers {transformers.__version__} does not know model type {model_type!r}"
    family = foreign_family(model_type)
    if family is None:
        raise CheckpointError(str(path), why)
    known = " or ".join(family.model_types)
    advice = f"convert it to {known}" if known else "only vLLM serves it"
    raise CheckpointError(
        str(path), f"{why}, a format of {family.name} with code of its own; {advice} (see docs/backbones.md)"
    )


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
        raise CheckpointError(str(path), f"its tokenizer cannot be constrained: {one_line(error)}") from error


def _control_tokens(processor: Any, tokenizer: Any) -> tuple[str, ...]:
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    image_token = getattr(processor, "image_token", None)
    tokens = {*tokenizer.all_special_tokens, *added, *([image_token] if isinstance(image_token, str) else [])}
    return tuple(sorted(tokens - {SEG_OPEN, SEG_CLOSE, ""}))
