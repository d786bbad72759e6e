"""The command ``models``: language models with a profile, what serves them, and the memory they need."""

import json
from dataclasses import asdict

from text4seg.backbones import ALLOWANCE, CONTEXT_TOKENS, FAMILIES, Backbone, Engine, Family, Precision
from text4seg_client.report import Json, table

_ENGINES = {Engine.HF: "transformers", Engine.VLLM: "vLLM"}
_HEADER = ("profile", "served by", "image", "tokens", "parameters", "32 bit", "16 bit", "8 bit", "4 bit")
_FOOT = f"""\
Memory in GiB, computed and not measured: parameters times bytes of the type, the key-value
cache of {CONTEXT_TOKENS} tokens, and {ALLOWANCE >> 30} GiB for activations and the runtime.
With 8 and 4 bits, all but the linear layers of the language model stay at 16 bits; 4 bits
come with scales of another half bit. One answer at a time."""


def models_table() -> str:
    """All profiles as a table, what is to be said of some families, and how memory is computed."""
    rows = [_row(family, backbone) for family in FAMILIES for backbone in family.backbones]
    notes = [f"{family.name}: {family.note}." for family in FAMILIES if family.note]
    return "\n\n".join((table(_HEADER, rows, right=range(2, len(_HEADER))), "\n".join(notes), _FOOT))


def models_json() -> str:
    """All profiles as one JSON object: ``{"models": [...], "memory": {...}}``, memory in bytes."""
    models = [_object(family, backbone) for family in FAMILIES for backbone in family.backbones]
    memory = {"context_tokens": CONTEXT_TOKENS, "allowance_bytes": ALLOWANCE, "measured": False}
    return json.dumps({"models": models, "memory": memory}, ensure_ascii=False)


def _row(family: Family, backbone: Backbone) -> tuple[str, ...]:
    return (
        backbone.name,
        ", ".join(_ENGINES[engine] for engine in family.engines),
        f"{backbone.image_side} px",
        str(backbone.visual_tokens),
        f"{backbone.parameters / 1e9:.1f} B",
        *(f"{backbone.memory(precision) / (1 << 30):.1f}" for precision in Precision),
    )


def _object(family: Family, backbone: Backbone) -> Json:
    common = asdict(family)
    del common["name"], common["backbones"], common["engines"]
    return {
        **asdict(backbone),
        "family": family.name,
        "served_by": [_ENGINES[engine] for engine in family.engines],
        **common,
        "memory_bytes": {str(precision): backbone.memory(precision) for precision in Precision},
    }
