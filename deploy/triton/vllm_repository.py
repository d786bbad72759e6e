"""Writes model repositories for Triton's vLLM backend: ``python -m deploy.triton.vllm_repository``.

One model per backbone that vLLM runs; ``deploy/triton/vllm`` holds what it writes without options. The
backend has an image of its own (NVIDIA's ``tritonserver`` with vLLM): nothing of it is imported here, and no
test runs it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from text4seg.backbones import CONTEXT_TOKENS, FAMILIES, Backbone, Engine, Family
from text4seg.descriptors import Codec
from text4seg.dialogue import TEMPLATE_VERSION

FOLDER = Path(__file__).resolve().parent / "vllm"

MODELS = "/models"
"""Where the backend finds checkpoints, unless told otherwise."""

ADAPTER = "text4seg"
"""Name of the adapter, where one is used."""

MAX_TOKENS = 2048

# Layers between image encoder and language model. vLLM puts adapters on the language model alone: one that
# trained these must be merged into the checkpoint.
_PROJECTOR_LAYERS = (
    "model.multi_modal_projector.linear_1",
    "mlp1.1",
    "model.connector.modality_projection.proj",
)

_ENGINE: Mapping[str, Any] = {
    "max_model_len": CONTEXT_TOKENS,
    "gpu_memory_utilization": 0.9,
    "limit_mm_per_prompt": {"image": 1},
    # Several phrases about one image share the image's part of the prompt.
    "enable_prefix_caching": True,
    # Rows of a descriptor repeat the rows above.
    "speculative_config": {
        "method": "ngram",
        "num_speculative_tokens": 8,
        "prompt_lookup_min": 2,
        "prompt_lookup_max": 6,
    },
    "seed": 0,
    "disable_log_stats": False,
}
_FAMILY_ENGINE: Mapping[str, Mapping[str, Any]] = {
    "Qwen-VL": {"trust_remote_code": True, "max_model_len": 2048},
    "InternVL2": {"trust_remote_code": True, "mm_processor_kwargs": {"max_dynamic_patch": 1}},
    "InternVL3": {"mm_processor_kwargs": {"max_patches": 1, "crop_to_patches": False}},
    "SmolVLM2": {"mm_processor_kwargs": {"do_image_splitting": False}},
}


def served() -> tuple[tuple[Family, Backbone], ...]:
    """Return the backbones that vLLM runs."""
    return tuple(
        (family, backbone)
        for family in FAMILIES
        if Engine.VLLM in family.engines
        for backbone in family.backbones
    )


def adapts(family: Family) -> bool:
    """Say whether vLLM can use the family's adapters as they are."""
    return not any(re.fullmatch(family.lora_targets, layer) for layer in _PROJECTOR_LAYERS)


def model_files(
    family: Family,
    backbone: Backbone,
    entry: Mapping[str, Any] | None = None,
    checkpoint: str = "",
    adapter: str = "",
) -> dict[str, str]:
    """Return the files of one model by their path inside its folder.

    Args:
        family: of the backbone.
        backbone: what the checkpoint is.
        entry: the checkpoint's own entry ``text4seg``; what it lacks is taken from the profile.
        checkpoint: directory that vLLM loads; empty: one below ``/models``, with the published base where
            vLLM can use an adapter, else with a merged checkpoint.
        adapter: directory of the adapter; empty: below ``/models``, and none where ``checkpoint`` is set.
    """
    lora = bool(adapter) or (not checkpoint and adapts(family))
    facts = {
        "backbone": backbone.name,
        "model": f"text4seg-{backbone.name}",
        "version": "1",
        "grid": list(family.shape),
        "codec": Codec.RRLE.value,
        "template_version": TEMPLATE_VERSION,
        "max_tokens": MAX_TOKENS,
        "lora": ADAPTER if lora else "",
        **(entry or {}),
    }
    engine = {
        "model": checkpoint or f"{MODELS}/{backbone.base.rpartition('/')[2] if lora else facts['model']}",
        "dtype": family.dtype,
        **_ENGINE,
        **_FAMILY_ENGINE.get(family.name, {}),
        "enable_lora": lora,
        **({"max_lora_rank": 64} if lora else {}),
    }
    if family.name in ("Qwen2.5-VL", "Qwen3-VL"):
        pixels = backbone.image_side**2
        engine["mm_processor_kwargs"] = {"min_pixels": pixels, "max_pixels": pixels}
    loras = {ADAPTER: adapter or f"{MODELS}/text4seg-{backbone.name}-adapter"} if lora else {}
    return {
        "config.pbtxt": _config(backbone.name, json.dumps(facts)),
        "1/model.json": json.dumps(engine, indent=2) + "\n",
        "1/multi_lora.json": json.dumps(loras, indent=2) + "\n",
    }


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files of one model."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write models.

    Returns:
        The exit code: 0, or 2 for wrong usage.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.triton.vllm_repository", description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER, help="the repository (default: %(default)s)")
    parser.add_argument("--backbone", help="only this one; required for the options below")
    parser.add_argument(
        "--checkpoint", default="", help="what vLLM loads: a name or a directory in its image"
    )
    parser.add_argument("--adapter", default="", help="directory of a LoRA adapter in its image")
    parser.add_argument("--entry", type=Path, help="JSON file with the checkpoint's entry text4seg")
    options = parser.parse_args(arguments)
    chosen = [pair for pair in served() if options.backbone in (None, pair[1].name)]
    if not chosen:
        names = ", ".join(backbone.name for _, backbone in served())
        parser.error(f"vLLM runs no backbone {options.backbone!r}; known: {names}")
    if not options.backbone and (options.checkpoint or options.adapter or options.entry):
        parser.error("--checkpoint, --adapter and --entry need --backbone")
    entry = None
    if options.entry:
        content = json.loads(options.entry.read_text(encoding="utf-8"))
        entry = content.get("text4seg", content)
    for family, backbone in chosen:
        files = model_files(family, backbone, entry, options.checkpoint, options.adapter)
        write(options.output / backbone.name, files)
    return 0


def _config(name: str, facts: str) -> str:
    return f"""\
# Written by `python -m deploy.triton.vllm_repository`; tensors are added by the backend.
name: "{name}"
backend: "vllm"
instance_group [ {{ count: 1 kind: KIND_MODEL }} ]
parameters {{ key: "REPORT_CUSTOM_METRICS" value {{ string_value: "true" }} }}
# What the generator must know. Change the version whenever the weights change: cached answers depend on it.
parameters {{ key: "text4seg" value {{ string_value: {json.dumps(facts)} }} }}
"""


if __name__ == "__main__":
    sys.exit(main())
