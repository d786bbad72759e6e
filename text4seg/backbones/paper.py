"""The systems of the paper (Lan et al., ICLR 2025, arXiv 2410.09855).

Prompts, squash sizes, adapter targets and precision are those of the training set-up that its authors
published (https://github.com/mc-lan/Text4Seg, folder ``ms-swift``). Numbers of parameters were counted on the
architectures in transformers at the published sizes (``tests/integration/test_backbone_sizes.py``), but for
Qwen-VL, which is as its own paper says (arXiv 2308.12966, table 1).
"""

from __future__ import annotations

from text4seg.backbones.profile import Backbone, Engine, Family, PromptForm

_CHATML_REPLY = "<|im_start|>assistant\n"

PAPER: tuple[Family, ...] = (
    Family(
        name="LLaVA-1.5",
        engines=(Engine.HF, Engine.VLLM),
        model_types=("llava",),
        foreign_types=("llava_llama",),
        prompt=PromptForm(
            opening="<s>",
            image_question="USER: <image>\n{text}\n",
            question="USER: {text}\n",
            reply="ASSISTANT:",
            answer=" {text}</s>",
        ),
        lora_targets=(
            r"model\.(language_model|vision_tower|multi_modal_projector)\..*(_proj|fc1|fc2|linear_1|linear_2)"
        ),
        dtype="float16",
        shape=(16, 16),
        in_paper=True,
        note="adapters of the published recipe cover the projector and the vision tower: merge them for vLLM",
        backbones=(
            Backbone(
                name="llava-1.5-7b",
                base="llava-hf/llava-1.5-7b-hf",
                parameters=7_063_427_072,
                unquantized=587_421_696,
                layers=32,
                kv_heads=32,
                head_dim=128,
                image_side=336,
                visual_tokens=576,
            ),
            Backbone(
                name="llava-1.5-13b",
                base="llava-hf/llava-1.5-13b-hf",
                parameters=13_351_494_656,
                unquantized=663_725_056,
                layers=40,
                kv_heads=40,
                head_dim=128,
                image_side=336,
                visual_tokens=576,
            ),
        ),
    ),
    Family(
        name="DeepSeek-VL",
        engines=(Engine.HF,),
        model_types=("deepseek_vl", "deepseek_vl_hybrid"),
        foreign_types=("multi_modality",),
        prompt=PromptForm(
            opening=(
                "<｜begin▁of▁sentence｜>You are a helpful language and vision assistant. You are able to "
                "understand the visual content that the user provides, and assist the user with a variety of "
                "tasks using natural language.\n\n"
            ),
            image_question="User: <image_placeholder>{text}\n\n",
            question="User: {text}\n\n",
            reply="Assistant:",
            answer="{text}<｜end▁of▁sentence｜>",
        ),
        lora_targets=r"model\.(language_model\..*_proj|aligner\..*(proj|linear1|linear2))",
        dtype="float16",
        shape=(16, 16),
        in_paper=True,
        note=(
            "transformers reads the converted checkpoints, not deepseek-ai's; vLLM has no DeepSeek-VL, only "
            "DeepSeek-VL2"
        ),
        backbones=(
            Backbone(
                name="deepseek-vl-1.3b",
                base="deepseek-community/deepseek-vl-1.3b-chat",
                parameters=1_943_766_016,
                unquantized=729_515_008,
                layers=24,
                kv_heads=16,
                head_dim=128,
                image_side=384,
                visual_tokens=576,
            ),
            Backbone(
                name="deepseek-vl-7b",
                base="deepseek-community/deepseek-vl-7b-chat",
                parameters=7_331_390_721,
                unquantized=1_260_135_681,
                layers=30,
                kv_heads=32,
                head_dim=128,
                image_side=1024,
                visual_tokens=576,
            ),
        ),
    ),
    Family(
        name="Qwen-VL",
        engines=(Engine.VLLM,),
        model_types=(),
        foreign_types=("qwen",),
        prompt=PromptForm(
            opening="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
            image_question="<|im_start|>user\nPicture 1:<img></img>\n{text}<|im_end|>\n",
            question="<|im_start|>user\n{text}<|im_end|>\n",
            reply=_CHATML_REPLY,
            answer="{text}<|im_end|>\n",
        ),
        lora_targets=r"transformer\.h\..*(c_attn|c_proj|w1|w2)",
        dtype="float16",
        shape=(16, 16),
        in_paper=True,
        note="not in transformers; vLLM dropped it after 0.23.0: it needs that release or an older one",
        backbones=(
            Backbone(
                name="qwen-vl-7b",
                base="Qwen/Qwen-VL-Chat",
                parameters=9_600_000_000,
                unquantized=3_123_994_624,
                layers=32,
                kv_heads=32,
                head_dim=128,
                image_side=448,
                visual_tokens=256,
            ),
        ),
    ),
    Family(
        name="InternVL2",
        engines=(Engine.VLLM,),
        model_types=(),
        foreign_types=("internvl_chat",),
        prompt=PromptForm(
            opening=(
                "<s><|im_start|>system\n你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，"
                "英文名叫InternVL, 是一个有用无害的人工智能助手。<|im_end|>"
            ),
            image_question="<|im_start|>user\n<image>\n{text}<|im_end|>",
            question="<|im_start|>user\n{text}<|im_end|>",
            reply=_CHATML_REPLY,
            answer="{text}<|im_end|>",
        ),
        lora_targets=r"language_model\..*(wqkv|wo|w1|w2|w3)|mlp1\.[13]",
        dtype="float16",
        shape=(16, 16),
        in_paper=True,
        note=(
            "its checkpoints need code of their own (internvl_chat), and transformers' script converts "
            "InternVL2.5 and 3 only; adapters of the published recipe cover the projector: merge them"
        ),
        backbones=(
            Backbone(
                name="internvl2-8b",
                base="OpenGVLab/InternVL2-8B",
                parameters=8_075_365_376,
                unquantized=1_096_043_520,
                layers=32,
                kv_heads=8,
                head_dim=128,
                image_side=448,
                visual_tokens=256,
            ),
        ),
    ),
)
