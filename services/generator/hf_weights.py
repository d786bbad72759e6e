"""The weights of a transformers model: plain or quantized, with or without a LoRA adapter."""

from __future__ import annotations

import logging
import re
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig
from transformers.utils.import_utils import is_bitsandbytes_available, is_peft_available

from services.generator.adapter import CheckpointParts, adapter_base_name
from services.generator.quantization import Quantization
from text4seg.errors import CheckpointError

_LONGEST_REASON = 240
_COMPUTE = torch.bfloat16
"""Type that 4-bit weights are multiplied in, when no type is asked for."""


def load_weights(
    parts: CheckpointParts,
    device: str = "cpu",
    dtype: str = "auto",
    quantization: Quantization = Quantization.NONE,
) -> Any:
    """Load an image-text-to-text model from local files only.

    An adapter is merged into the weights. Where they are quantized it stays beside them: the sum would have
    to be rounded to their few levels.

    Args:
        parts: where model and adapter are.
        device: a torch device.
        dtype: ``"auto"`` (as stored) or the name of a torch floating-point type.
        quantization: of the linear layers, done while loading.

    Returns:
        The model, on its device and in evaluation mode.

    Raises:
        CheckpointError: when weights are missing or damaged, the adapter is for another model, a package for
            adapters or quantization is not installed, or the device cannot take the model.
    """
    path = str(parts.base)
    if quantization is not Quantization.NONE and not is_bitsandbytes_available():
        raise CheckpointError(
            path, "quantization needs the package bitsandbytes (extra `quantization` of text4seg-serving)"
        )
    options: dict[str, Any] = {}
    try:
        if quantization is not Quantization.NONE:
            # Quantized weights are made where they will be: they cannot be moved in every version.
            config = _quantization_config(parts, quantization, dtype)
            options = {"quantization_config": config, "device_map": {"": device}}
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            parts.base,
            local_files_only=True,
            trust_remote_code=False,
            dtype=dtype,
            output_loading_info=True,
            **options,
        )
        model, report = loaded
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(path, f"cannot load the model: {one_line(error)}") from error
    missing = [str(name) for name in (*report["missing_keys"], *report["mismatched_keys"])]
    if missing:
        raise CheckpointError(path, f"lacks {len(missing)} weights, for example {min(missing)}")
    if model.config.is_encoder_decoder:
        raise CheckpointError(path, "is an encoder-decoder model; only decoder-only models are supported")
    if not options:
        try:
            model = model.to(torch.device(device))
        except (RuntimeError, AssertionError) as error:
            raise CheckpointError(path, f"cannot be put on device {device!r}: {one_line(error)}") from error
    if parts.adapter is not None:
        _adapt(model, parts, merge=quantization is Quantization.NONE)
    return model.eval()


def one_line(error: Exception) -> str:
    """Return what an exception says, shortened to one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


def _quantization_config(parts: CheckpointParts, quantization: Quantization, dtype: str) -> Any:
    create: Any = BitsAndBytesConfig
    kept = {"llm_int8_skip_modules": [_outside_decoder(parts)]}
    if quantization is Quantization.EIGHT_BIT:
        # It would say in every forward pass that it computes in float16.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        return create(load_in_8bit=True, **kept)
    compute = _COMPUTE if dtype == "auto" else getattr(torch, dtype)
    return create(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute, **kept)


def _outside_decoder(parts: CheckpointParts) -> str:
    """Return a regular expression for the names of all layers but the language model's."""
    configure: Any = AutoConfig.from_pretrained
    build: Any = AutoModelForImageTextToText.from_config
    with torch.device("meta"):
        model = build(configure(parts.base, local_files_only=True, trust_remote_code=False))
    decoder = model.get_decoder()
    name = next((name for name, module in model.named_modules() if module is decoder), "")
    if not name:
        raise CheckpointError(
            str(parts.base), "cannot be quantized: its language model is not a part of its own"
        )
    return rf"(?!{re.escape(name)}\.).*"


def _adapt(model: Any, parts: CheckpointParts, merge: bool) -> None:
    assert parts.adapter is not None
    path = str(parts.adapter)
    if not is_peft_available():
        raise CheckpointError(path, "is an adapter, which needs the package peft")
    from peft.tuners.tuners_utils import BaseTunerLayer

    try:
        report = model.load_adapter(path, adapter_kwargs={"local_files_only": True})
    except Exception as error:
        raise CheckpointError(path, f"does not fit {_told(parts)}: {one_line(error)}") from error
    unfit = [str(name) for name in (*report.missing_keys, *report.unexpected_keys)]
    unfit += [str(name[0]) for name in report.mismatched_keys]
    if unfit:
        raise CheckpointError(
            path, f"does not fit {_told(parts)}: {len(unfit)} of its weights, for example {min(unfit)}"
        )
    if merge:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.merge(safe_merge=True)


def _told(parts: CheckpointParts) -> str:
    assert parts.adapter is not None
    named = adapter_base_name(parts.adapter)
    return f"the model {parts.base}" + (f" (it was made for {named!r})" if named else "")
