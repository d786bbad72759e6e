"""Language models that came after the paper's, and that transformers has.

The paper has no Text4Seg of these. Prompts are those of the chat templates that come with their checkpoints;
the squash size gives as many visual tokens as the grid has cells where the model allows it. Adapters go to
the language model only, so that vLLM can serve them unmerged. Numbers of parameters were counted on the
architectures in transformers at the published sizes (``tests/integration/test_backbone_sizes.py``).
"""

from __future__ import annotations

from text4seg.backbones.profile import Backbone, Engine, Family, PromptForm

_BOTH = (Engine.HF, Engine.VLLM)
_CHATML_QUESTION = "<|im_start|>user\n{text}<|im_end|>\n"
_CHATML_REPLY = "<|im_start|>assistant\n"
_CHATML_ANSWER = "{text}<|im_end|>\n"
_LINEAR = r"(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"

SUCCESSORS: tuple[Family, ...] = (
    Family(
        name="Qwen2.5-VL",
        engines=_BOTH,
        model_types=("qwen2_5_vl",),
        foreign_types=(),
        prompt=PromptForm(
            opening="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
            image_question=(
                "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{text}<|im_end|>\n"
            ),
            question=_CHATML_QUESTION,
            reply=_CHATML_REPLY,
            answer=_CHATML_ANSWER,
        ),
        lora_targets=r"model\.language_model\..*" + _LINEAR,
        dtype="bfloat16",
        shape=(16, 16),
        in_paper=False,
        note="",
        backbones=(
            Backbone(
                name="qwen2.5-vl-3b",
                base="Qwen/Qwen2.5-VL-3B-Instruct",
                parameters=3_754_622_976,
                unquantized=980_090_880,
                layers=36,
                kv_heads=2,
                head_dim=128,
                image_side=448,
                visual_tokens=256,
            ),
            Backbone(
                name="qwen2.5-vl-7b",
                base="Qwen/Qwen2.5-VL-7B-Instruct",
                parameters=8_292_166_656,
                unquantized=1_766_878_208,
                layers=28,
                kv_heads=4,
                head_dim=128,
                image_side=448,
                visual_tokens=256,
            ),
        ),
    ),
    Family(
        name="Qwen3-VL",
        engines=_BOTH,
        model_types=("qwen3_vl",),
        foreign_types=(),
        prompt=PromptForm(
            opening="",
            image_question=(
                "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{text}<|im_end|>\n"
            ),
            question=_CHATML_QUESTION,
            reply=_CHATML_REPLY,
            answer=_CHATML_ANSWER,
        ),
        lora_targets=r"model\.language_model\..*" + _LINEAR,
        dtype="bfloat16",
        shape=(16, 16),
        in_paper=False,
        note="",
        backbones=(
            Backbone(
                name="qwen3-vl-2b",
                base="Qwen/Qwen3-VL-2B-Instruct",
                parameters=2_127_532_032,
                unquantized=718_245_888,
                layers=28,
                kv_heads=8,
                head_dim=128,
                image_side=512,
                visual_tokens=256,
            ),
            Backbone(
                name="qwen3-vl-4b",
                base="Qwen/Qwen3-VL-4B-Instruct",
                parameters=4_437_815_808,
                unquantized=804_499_968,
                layers=36,
                kv_heads=8,
                head_dim=128,
                image_side=512,
                visual_tokens=256,
            ),
            Backbone(
                name="qwen3-vl-8b",
                base="Qwen/Qwen3-VL-8B-Instruct",
                parameters=8_767_123_696,
                unquantized=1_821_356_272,
                layers=36,
                kv_heads=8,
                head_dim=128,
                image_side=512,
                visual_tokens=256,
            ),
        ),
    ),
    Family(
        name="InternVL3",
        engines=_BOTH,
        model_types=("internvl",),
        foreign_types=(),
        prompt=PromptForm(
            opening="",
            image_question="<|im_start|>user\n<IMG_CONTEXT>\n{text}<|im_end|>\n",
            question=_CHATML_QUESTION,
            reply=_CHATML_REPLY,
            answer=_CHATML_ANSWER,
        ),
        lora_targets=r"model\.language_model\..*" + _LINEAR,
        dtype="bfloat16",
        shape=(16, 16),
        in_paper=False,
        note="the checkpoints whose names end in -hf",
        backbones=(
            Backbone(
                name="internvl3-2b",
                base="OpenGVLab/InternVL3-2B-hf",
                parameters=2_088_957_440,
                unquantized=778_761_728,
                layers=28,
                kv_heads=2,
                head_dim=128,
                image_side=448,
                visual_tokens=256,
            ),
            Backbone(
                name="internvl3-8b",
                base="OpenGVLab/InternVL3-8B-hf",
                parameters=7_944_373_760,
                unquantized=1_419_085_312,
                layers=28,
                kv_heads=4,
                head_dim=128,
                image_side=448,
                visual_tokens=256,
            ),
        ),
    ),
    Family(
        name="SmolVLM2",
        engines=_BOTH,
        model_types=("smolvlm",),
        foreign_types=(),
        prompt=PromptForm(
            opening="<|im_start|>",
            image_question="User:<image>{text}<end_of_utterance>\n",
            question="User: {text}<end_of_utterance>\n",
            reply="Assistant:",
            answer=" {text}<end_of_utterance>\n",
        ),
        lora_targets=r"model\.text_model\..*" + _LINEAR,
        dtype="bfloat16",
        shape=(16, 16),
        in_paper=False,
        note="its visual tokens are fewer than the grid's cells",
        backbones=(
            Backbone(
                name="smolvlm2-500m",
                base="HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
                parameters=507_482_304,
                unquantized=192_909_504,
                layers=32,
                kv_heads=5,
                head_dim=64,
                image_side=512,
                visual_tokens=64,
            ),
            Backbone(
                name="smolvlm2-2.2b",
                base="HuggingFaceTB/SmolVLM2-2.2B-Instruct",
                parameters=2_246_784_880,
                unquantized=636_172_144,
                layers=24,
                kv_heads=32,
                head_dim=64,
                image_side=384,
                visual_tokens=81,
            ),
        ),
    ),
)
