"""Tiny random models of the real architectures in transformers, saved as their makers save checkpoints.

Each has the family's own processor and special tokens; only numbers of layers and words, and widths, are
small. Their answers mean nothing.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPImageProcessor,
    DeepseekVLConfig,
    DeepseekVLForConditionalGeneration,
    DeepseekVLHybridConfig,
    DeepseekVLHybridForConditionalGeneration,
    DeepseekVLHybridImageProcessor,
    DeepseekVLHybridProcessor,
    DeepseekVLImageProcessor,
    DeepseekVLProcessor,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from tests.tiny_llava import SHAPE
from tests.tiny_tokenizers import LOGITS, byte_tokenizer, ends, ids, llama_tokenizer

TEXT = {
    "vocab_size": LOGITS,
    # 4-bit weights come in blocks of 64.
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
    # Large random weights make the answers of different seeds differ.
    "initializer_range": 0.5,
}
VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass(frozen=True)
class Tiny:
    """One tiny model.

    Attributes:
        backbone: the profile that its checkpoint names.
        side: pixels of the square that it sees.
        visual_tokens: that one image takes.
        pixels: name and shape of the tensors that its image processor makes of one tile.
        build: makes model and processor.
    """

    backbone: str
    side: int
    visual_tokens: int
    pixels: dict[str, tuple[int, ...]]
    build: Callable[[int], tuple[Any, Any]]


def llava(side: int) -> tuple[Any, Any]:
    """LLaVA: CLIP, a projector, Llama."""
    tokens = llama_tokenizer("<image>", "<pad>")
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **VISION, "image_size": side, "patch_size": 14},
        text_config={"model_type": "llama", **TEXT, **ends(tokens)},
        image_token_index=ids(tokens, "<image>")[0],
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        tokenizer=tokens,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return LlavaForConditionalGeneration(config), processor


def _deepseek_tokens() -> PreTrainedTokenizerFast:
    end = "<｜end▁of▁sentence｜>"
    return byte_tokenizer("<｜begin▁of▁sentence｜>", end, end, image_token="<image_placeholder>")


def deepseek(side: int) -> tuple[Any, Any]:
    """DeepSeek-VL 1.3B: SigLIP, an aligner, Llama."""
    tokens = _deepseek_tokens()
    config = DeepseekVLConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            **VISION,
            "image_size": side,
            "patch_size": 16,
            "vision_use_head": False,
        },
        text_config={"model_type": "llama", **TEXT, **ends(tokens)},
        image_token_id=ids(tokens, "<image_placeholder>")[0],
        tie_word_embeddings=False,
    )
    processor = DeepseekVLProcessor(
        image_processor=DeepseekVLImageProcessor(size={"height": side, "width": side}),
        tokenizer=tokens,
        num_image_tokens=(side // 16) ** 2,
    )
    return DeepseekVLForConditionalGeneration(config), processor


def deepseek_hybrid(side: int) -> tuple[Any, Any]:
    """DeepSeek-VL 7B: SAM's encoder on the large image beside SigLIP on a small one."""
    tokens = _deepseek_tokens()
    # SAM's patches of 16 pixels are interpolated to 96x96 and halved twice: 24x24 for SigLIP's 384 pixels.
    small = 384
    config = DeepseekVLHybridConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            **VISION,
            "image_size": small,
            "patch_size": 16,
            "vision_use_head": False,
        },
        high_res_vision_config={
            "model_type": "sam_vision_model",
            "hidden_size": 16,
            "mlp_dim": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "output_channels": 8,
            "image_size": side,
            "patch_size": 16,
            "window_size": 2,
            "global_attn_indexes": [1],
        },
        text_config={"model_type": "llama", **TEXT, **ends(tokens)},
        image_token_id=ids(tokens, "<image_placeholder>")[0],
        tie_word_embeddings=False,
    )
    processor = DeepseekVLHybridProcessor(
        image_processor=DeepseekVLHybridImageProcessor(
            size={"height": small, "width": small}, high_res_size={"height": side, "width": side}
        ),
        tokenizer=tokens,
        num_image_tokens=576,
    )
    return DeepseekVLHybridForConditionalGeneration(config), processor


_QWEN_MARKS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def _qwen_tokens() -> tuple[PreTrainedTokenizerFast, dict[str, int]]:
    tokens = byte_tokenizer(None, "<|im_end|>", "<|endoftext|>", *_QWEN_MARKS)
    names = ("vision_start", "vision_end", "image", "video")
    marks = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    return tokens, {f"{name}_token_id": token for name, token in zip(names, ids(tokens, *marks), strict=True)}


def qwen2_5(side: int) -> tuple[Any, Any]:
    """Qwen2.5-VL: windowed vision transformer, positions of three axes."""
    tokens, marks = _qwen_tokens()
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    config = Qwen2_5_VLConfig(
        text_config={**TEXT, **ends(tokens), "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
        },
        tie_word_embeddings=False,
        **marks,
    )
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokens,
        video_processor=Qwen2VLVideoProcessor(),
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


def qwen3(side: int) -> tuple[Any, Any]:
    """Qwen3-VL: features of several vision layers enter several text layers."""
    tokens, marks = _qwen_tokens()
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    config = Qwen3VLConfig(
        text_config={**TEXT, **ends(tokens), "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "patch_size": 16,
            "out_hidden_size": 64,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
        },
        tie_word_embeddings=False,
        **marks,
    )
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            patch_size=16,
            merge_size=2,
            size={"shortest_edge": 32 * 32, "longest_edge": 4096 * 4096},
        ),
        tokenizer=tokens,
        video_processor=Qwen3VLVideoProcessor(),
    )
    return Qwen3VLForConditionalGeneration(config), processor


def intern(side: int) -> tuple[Any, Any]:
    """InternVL3: InternViT, every four of its tokens joined to one, Qwen2."""
    marks = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
    }
    tokens = byte_tokenizer(
        None, "<|im_end|>", "<|endoftext|>", "<|im_start|>", **marks, video_token="<video>"
    )
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **TEXT, **ends(tokens)},
        vision_config={**VISION, "image_size": [side, side], "patch_size": [14, 14], "attention_bias": True},
        image_token_id=ids(tokens, "<IMG_CONTEXT>")[0],
        downsample_ratio=0.5,
        image_seq_length=(side // 28) ** 2,
        tie_word_embeddings=False,
    )
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size={"height": side, "width": side}, crop_to_patches=True),
        tokenizer=tokens,
        video_processor=InternVLVideoProcessor(),
        image_seq_length=(side // 28) ** 2,
    )
    return InternVLForConditionalGeneration(config), processor


def smol(side: int) -> tuple[Any, Any]:
    """SmolVLM2: an image processor that splits images and pads them."""
    marks = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "end_of_utterance_token": "<end_of_utterance>",
        "global_image_token": "<global-img>",
    }
    tokens = byte_tokenizer("<|im_start|>", "<end_of_utterance>", "<|im_end|>", **marks)
    config = SmolVLMConfig(
        text_config={"model_type": "llama", **TEXT, **ends(tokens)},
        vision_config={**VISION, "image_size": side, "patch_size": 14},
        image_token_id=ids(tokens, "<image>")[0],
        scale_factor=3,
        pad_token_id=tokens.pad_token_id,
        tie_word_embeddings=False,
    )
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(
            size={"longest_edge": 4 * side}, max_image_size={"longest_edge": side}, do_image_splitting=True
        ),
        tokenizer=tokens,
        video_processor=SmolVLMVideoProcessor(),
        image_seq_len=(side // 42) ** 2,
    )
    return SmolVLMForConditionalGeneration(config), processor


TINY = (
    Tiny("llava-1.5-7b", 28, 4, {"pixel_values": (1, 3, 28, 28)}, llava),
    Tiny("deepseek-vl-1.3b", 64, 16, {"pixel_values": (1, 3, 64, 64)}, deepseek),
    Tiny(
        "deepseek-vl-7b",
        64,
        576,
        {"pixel_values": (1, 3, 384, 384), "high_res_pixel_values": (1, 3, 64, 64)},
        deepseek_hybrid,
    ),
    # Rows of patches: 4x4 of 14x14 pixels in two frames; 4x4 of 16x16.
    Tiny("qwen2.5-vl-7b", 56, 4, {"pixel_values": (16, 3 * 2 * 14 * 14)}, qwen2_5),
    Tiny("qwen3-vl-8b", 64, 4, {"pixel_values": (16, 3 * 2 * 16 * 16)}, qwen3),
    Tiny("internvl3-8b", 56, 4, {"pixel_values": (1, 3, 56, 56)}, intern),
    Tiny("smolvlm2-2.2b", 84, 4, {"pixel_values": (1, 1, 3, 84, 84)}, smol),
)


def save_tiny_backbone(path: Path, tiny: Tiny, seed: int = 0) -> Path:
    """Write a checkpoint directory with weights drawn from ``seed``; return it."""
    torch.manual_seed(seed)
    model, processor = tiny.build(tiny.side)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    config["text4seg"] = {
        "backbone": tiny.backbone,
        "grid": list(SHAPE),
        "codec": "r-rle",
        "template_version": "1",
        "image_size": [tiny.side, tiny.side],
    }
    (path / "config.json").write_text(json.dumps(config))
    return path
