"""What the profiles say about sizes, against the architectures in transformers at the published dimensions.

The models are built without memory (on torch's meta device); nothing is downloaded. InternVL2, whose own code
transformers does not have, is counted as the architecture that its weights would be converted to.
"""

import pytest
import torch
from transformers import (
    DeepseekVLConfig,
    DeepseekVLForConditionalGeneration,
    DeepseekVLHybridConfig,
    DeepseekVLHybridForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from text4seg.backbones import FAMILIES, find_backbone


def decoder(kind, hidden, inner, layers, heads, kv_heads, vocabulary, tied=False, **more):
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        **more,
    }


def encoder(kind, hidden, inner, layers, heads, patch, side, **more):
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "patch_size": patch,
        "image_size": side,
        **more,
    }


CLIP = encoder("clip_vision_model", 1024, 4096, 24, 16, 14, 336, projection_dim=768)
SIGLIP_L = encoder("siglip_vision_model", 1024, 4096, 24, 16, 16, 384, vision_use_head=False)
SIGLIP_B = encoder("smolvlm_vision", 768, 3072, 12, 12, 16, 512)
SIGLIP_SO = encoder("smolvlm_vision", 1152, 4304, 27, 16, 14, 384)
INTERN = encoder("internvl_vision", 1024, 4096, 24, 16, [14, 14], [448, 448], attention_bias=True)
QWEN3_SMALL = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16}
QWEN3_LARGE = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16}


def llava(text):
    config = LlavaConfig(vision_config=CLIP, text_config=text, tie_word_embeddings=False)
    return LlavaForConditionalGeneration(config)


def deepseek_small():
    text = decoder("llama", 2048, 5504, 24, 16, 16, 102400)
    config = DeepseekVLConfig(vision_config=SIGLIP_L, text_config=text, tie_word_embeddings=False)
    return DeepseekVLForConditionalGeneration(config)


def deepseek_large():
    config = DeepseekVLHybridConfig(
        vision_config=SIGLIP_L,
        high_res_vision_config={"model_type": "sam_vision_model"},
        text_config=decoder("llama", 4096, 11008, 30, 32, 32, 102400),
        tie_word_embeddings=False,
    )
    return DeepseekVLHybridForConditionalGeneration(config)


def qwen2_5(text):
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
    config = Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": rope},
        vision_config={**vision, "out_hidden_size": text["hidden_size"]},
        tie_word_embeddings=text["tie_word_embeddings"],
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def qwen3(text, vision, deepstack):
    config = Qwen3VLConfig(
        text_config={**text, "head_dim": 128},
        vision_config={
            **vision,
            "patch_size": 16,
            "out_hidden_size": text["hidden_size"],
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": deepstack,
        },
        tie_word_embeddings=text["tie_word_embeddings"],
    )
    return Qwen3VLForConditionalGeneration(config)


def intern(text):
    config = InternVLConfig(vision_config=INTERN, text_config=text, tie_word_embeddings=False)
    return InternVLForConditionalGeneration(config)


def smol(text, vision, scale):
    config = SmolVLMConfig(
        vision_config=vision, text_config=text, scale_factor=scale, tie_word_embeddings=False
    )
    return SmolVLMForConditionalGeneration(config)


def qwen3_text(*sizes, tied):
    return decoder("qwen3_vl_text", *sizes, 151936, tied)


MODELS = {
    "llava-1.5-7b": lambda: llava(decoder("llama", 4096, 11008, 32, 32, 32, 32064)),
    "llava-1.5-13b": lambda: llava(decoder("llama", 5120, 13824, 40, 40, 40, 32064)),
    "deepseek-vl-1.3b": deepseek_small,
    "deepseek-vl-7b": deepseek_large,
    "internvl2-8b": lambda: intern(decoder("llama", 4096, 14336, 32, 32, 8, 92553)),
    "qwen2.5-vl-3b": lambda: qwen2_5(decoder("qwen2_5_vl_text", 2048, 11008, 36, 16, 2, 151936, True)),
    "qwen2.5-vl-7b": lambda: qwen2_5(decoder("qwen2_5_vl_text", 3584, 18944, 28, 28, 4, 152064)),
    "qwen3-vl-2b": lambda: qwen3(qwen3_text(2048, 6144, 28, 16, 8, tied=True), QWEN3_SMALL, [5, 11, 17]),
    "qwen3-vl-4b": lambda: qwen3(qwen3_text(2560, 9728, 36, 32, 8, tied=True), QWEN3_SMALL, [5, 11, 17]),
    "qwen3-vl-8b": lambda: qwen3(qwen3_text(4096, 12288, 36, 32, 8, tied=False), QWEN3_LARGE, [8, 16, 24]),
    "internvl3-2b": lambda: intern(decoder("qwen2", 1536, 8960, 28, 12, 2, 151674)),
    "internvl3-8b": lambda: intern(decoder("qwen2", 3584, 18944, 28, 28, 4, 151674)),
    "smolvlm2-500m": lambda: smol(decoder("llama", 960, 2560, 32, 15, 5, 49280), SIGLIP_B, 4),
    "smolvlm2-2.2b": lambda: smol(decoder("llama", 2048, 8192, 24, 32, 32, 49280), SIGLIP_SO, 3),
}


def test_every_profile_is_counted_but_qwen_vl():
    names = {backbone.name for family in FAMILIES for backbone in family.backbones}
    assert names - set(MODELS) == {"qwen-vl-7b"}


@pytest.mark.parametrize("name", MODELS)
def test_profile_has_the_architecture_s_sizes(name):
    family, backbone = find_backbone(name)
    with torch.device("meta"):
        model = MODELS[name]()
    assert sum(weight.numel() for weight in model.parameters()) == backbone.parameters
    linear = [layer for layer in model.get_decoder().modules() if isinstance(layer, torch.nn.Linear)]
    assert backbone.parameters - sum(layer.weight.numel() for layer in linear) == backbone.unquantized
    text = model.config.get_text_config(decoder=True)
    heads = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    assert (text.num_hidden_layers, text.num_key_value_heads, heads) == (
        backbone.layers,
        backbone.kv_heads,
        backbone.head_dim,
    )
    if family.model_types:
        assert model.config.model_type in family.model_types
