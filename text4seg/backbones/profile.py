"""What must be known of a language model family to serve it, and how its conversations are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from text4seg.segmentation import Turn

_TEXT = "{text}"
CONTEXT_TOKENS = 4096
"""Tokens of conversation, image and answer that :meth:`Backbone.memory` makes room for."""
ALLOWANCE = 2 << 30
"""Bytes that :meth:`Backbone.memory` adds for activations, buffers of the image encoder and the runtime."""


class Engine(StrEnum):
    """What runs a model."""

    HF = "hf"
    """transformers, in the generator's own process."""
    VLLM = "vllm"
    """vLLM, behind Triton."""


class Precision(StrEnum):
    """How weights are held in memory."""

    FLOAT32 = "float32"
    HALF = "16bit"
    EIGHT_BIT = "8bit"
    FOUR_BIT = "4bit"


_BITS = {Precision.FLOAT32: 32.0, Precision.HALF: 16.0, Precision.EIGHT_BIT: 8.0, Precision.FOUR_BIT: 4.5}


@dataclass(frozen=True, slots=True)
class PromptForm:
    """How a conversation about one image becomes the text that a model was trained on.

    ``{text}`` stands for the words of a turn, once in each of the last four.

    Attributes:
        opening: what comes first, with the system message where there is one.
        image_question: the turn that shows the image, with the image's placeholder.
        question: any other question.
        reply: what invites an answer.
        answer: an earlier answer, after ``reply``.
    """

    opening: str
    image_question: str
    question: str
    reply: str
    answer: str

    @property
    def lead(self) -> str:
        """What stands between ``reply`` and the words of an answer: a space, or nothing."""
        return self.answer.partition(_TEXT)[0]

    def render(self, turns: Sequence[Turn]) -> str:
        """Write a conversation, up to where the model goes on; the first question shows the image."""
        parts = [self.opening]
        shown = False
        for turn in turns:
            if turn.role == "assistant":
                parts += [self.reply, self.answer.replace(_TEXT, turn.text)]
                continue
            form = self.question if shown else self.image_question
            parts.append(form.replace(_TEXT, turn.text))
            shown = True
        return "".join([*parts, self.reply])


@dataclass(frozen=True, slots=True)
class Backbone:
    """One size of a family: a profile that a checkpoint can name.

    Attributes:
        name: how a checkpoint's entry ``text4seg`` names it.
        base: name of the published checkpoint that is fine-tuned.
        parameters: all weights.
        unquantized: weights among them that stay at 16 bits when the others are quantized: all but the linear
            layers of the language model.
        layers: of the language model.
        kv_heads: heads of keys and values in each layer.
        head_dim: numbers in one key or value.
        image_side: pixels of the square that images are squashed to.
        visual_tokens: tokens that one squashed image takes in the prompt.
    """

    name: str
    base: str
    parameters: int
    unquantized: int
    layers: int
    kv_heads: int
    head_dim: int
    image_side: int
    visual_tokens: int

    def weight_bytes(self, precision: Precision) -> int:
        """Bytes of the weights: 4 a parameter, 2, 1, or 9/16 (4 bits, and 32 more for each block of 64)."""
        kept = self.unquantized if precision in (Precision.EIGHT_BIT, Precision.FOUR_BIT) else 0
        return int((self.parameters - kept) * _BITS[precision] / 8) + kept * 2

    def memory(self, precision: Precision) -> int:
        """Bytes to plan for, not measured: weights, key-value cache, and an allowance.

        The cache holds ``CONTEXT_TOKENS`` tokens, a key and a value per layer and head, with 2 bytes a number
        (4 in float32); the allowance is ``ALLOWANCE``. One answer at a time.
        """
        number = 4 if precision is Precision.FLOAT32 else 2
        cache = 2 * self.layers * self.kv_heads * self.head_dim * CONTEXT_TOKENS * number
        return self.weight_bytes(precision) + cache + ALLOWANCE


@dataclass(frozen=True, slots=True)
class Family:
    """Models that differ in size only.

    Attributes:
        name: for people.
        engines: what serves it.
        model_types: what ``config.json`` calls it where transformers knows it; empty where it does not.
        foreign_types: what ``config.json`` of checkpoints in another format calls it, which transformers does
            not read.
        prompt: how its conversations are written.
        lora_targets: regular expression for the whole name of each layer that gets an adapter, as
            transformers names layers, or else the published checkpoint (PEFT's ``target_modules``).
        dtype: of the published checkpoint, or of its training by Text4Seg's authors.
        shape: (rows, columns) of the descriptor grid that its Text4Seg was trained for, or may be.
        in_paper: whether it is one of the paper's.
        note: why it is served the way it is; empty where there is nothing to say.
        backbones: its sizes.
    """

    name: str
    engines: tuple[Engine, ...]
    model_types: tuple[str, ...]
    foreign_types: tuple[str, ...]
    prompt: PromptForm
    lora_targets: str
    dtype: str
    shape: tuple[int, int]
    in_paper: bool
    note: str
    backbones: tuple[Backbone, ...]
