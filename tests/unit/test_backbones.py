"""The profiles of language models: prompts to the letter, and what they say about memory."""

import re
from pathlib import Path

import pytest

from text4seg.backbones import ALLOWANCE, FAMILIES, Engine, Precision, find_backbone, foreign_family
from text4seg.segmentation import Turn

CONVERSATION = (Turn("user", "Where is {text}?"), Turn("assistant", "Here."), Turn("user", "And now?"))

DEEPSEEK_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language."
)
INTERNVL_SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，"
    "英文名叫InternVL, 是一个有用无害的人工智能助手。"
)

PROMPTS = {
    "llava-1.5-7b": "<s>USER: <image>\nWhere is {text}?\nASSISTANT: Here.</s>USER: And now?\nASSISTANT:",
    "deepseek-vl-7b": (
        f"<｜begin▁of▁sentence｜>{DEEPSEEK_SYSTEM}\n\nUser: <image_placeholder>Where is {{text}}?\n\n"
        "Assistant:Here.<｜end▁of▁sentence｜>User: And now?\n\nAssistant:"
    ),
    "qwen-vl-7b": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nPicture 1:<img></img>\nWhere is {text}?<|im_end|>\n"
        "<|im_start|>assistant\nHere.<|im_end|>\n"
        "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "internvl2-8b": (
        f"<s><|im_start|>system\n{INTERNVL_SYSTEM}<|im_end|>"
        "<|im_start|>user\n<image>\nWhere is {text}?<|im_end|><|im_start|>assistant\nHere.<|im_end|>"
        "<|im_start|>user\nAnd now?<|im_end|><|im_start|>assistant\n"
    ),
    "qwen2.5-vl-7b": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Where is {text}?<|im_end|>\n"
        "<|im_start|>assistant\nHere.<|im_end|>\n"
        "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "qwen3-vl-8b": (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Where is {text}?<|im_end|>\n"
        "<|im_start|>assistant\nHere.<|im_end|>\n"
        "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "internvl3-8b": (
        "<|im_start|>user\n<IMG_CONTEXT>\nWhere is {text}?<|im_end|>\n"
        "<|im_start|>assistant\nHere.<|im_end|>\n"
        "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "smolvlm2-2.2b": (
        "<|im_start|>User:<image>Where is {text}?<end_of_utterance>\nAssistant: Here.<end_of_utterance>\n"
        "User: And now?<end_of_utterance>\nAssistant:"
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompt_is_written_to_the_letter(name):
    family, _ = find_backbone(name)
    assert family.prompt.render(CONVERSATION) == PROMPTS[name]


def test_every_family_has_its_prompt_written_out_here():
    assert {find_backbone(name)[0] for name in PROMPTS} == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_prompt_form_has_one_place_for_the_words(family):
    form = family.prompt
    for part in (form.image_question, form.question, form.answer):
        assert part.count("{text}") == 1
    assert form.lead.strip() == ""
    re.compile(family.lora_targets)


def test_names_and_model_types_are_told_apart():
    names = [backbone.name for family in FAMILIES for backbone in family.backbones]
    types = [name for family in FAMILIES for name in (*family.model_types, *family.foreign_types)]
    assert len(set(names)) == len(names)
    assert len(set(types)) == len(types)
    assert find_backbone("llava") is None
    assert foreign_family("llava") is None
    assert foreign_family("internvl_chat").name == "InternVL2"


def test_families_that_transformers_serves_have_its_model_type():
    for family in FAMILIES:
        assert (Engine.HF in family.engines) == bool(family.model_types)
        assert family.engines


def test_memory_is_weights_and_cache_and_allowance():
    _, backbone = find_backbone("llava-1.5-7b")
    assert backbone.weight_bytes(Precision.FLOAT32) == 4 * 7_063_427_072
    assert backbone.weight_bytes(Precision.HALF) == 2 * 7_063_427_072
    kept = 587_421_696
    quantized = 7_063_427_072 - kept
    assert backbone.weight_bytes(Precision.EIGHT_BIT) == quantized + 2 * kept
    assert backbone.weight_bytes(Precision.FOUR_BIT) == quantized * 9 // 16 + 2 * kept
    # A key and a value of 32 heads of 128 numbers in 32 layers, 2 bytes each, is half a MiB a token.
    assert backbone.memory(Precision.HALF) == 2 * 7_063_427_072 + 4096 * (512 << 10) + ALLOWANCE


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_fewer_bits_take_less_memory(family):
    for backbone in family.backbones:
        needs = [backbone.memory(precision) for precision in Precision]
        assert needs == sorted(needs, reverse=True)


def test_documented_table_is_that_of_the_profiles():
    text = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    rows = {row[0].strip("`"): row for row in rows if len(row) == 7}
    engines = {"hf": "transformers", "vllm": "vLLM"}
    for family in FAMILIES:
        for backbone in family.backbones:
            needs = [backbone.memory(bits) / (1 << 30) for bits in list(Precision)[1:]]
            _, base, image, tokens, memory, served, _ = rows[backbone.name]
            assert (base, image, tokens) == (
                backbone.base,
                f"{backbone.image_side} px",
                str(backbone.visual_tokens),
            )
            assert memory == " / ".join(f"{need:.1f}" for need in needs)
            assert served.split(", 0")[0] == ", ".join(engines[engine] for engine in family.engines)
