"""What the orchestrator and the two model services tell each other."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from text4seg.descriptors import Codec
from text4seg.scores import Calibrations, TokenLogprob
from text4seg.segmentation.answers import FinishReason
from text4seg.segmentation.equality import equal_fields, repr_fields
from text4seg.segmentation.requests import Turn


@dataclass(frozen=True, slots=True)
class DescriptorConstraint:
    """Forces an answer to be one sentence and one well-formed block; no labels: open vocabulary."""

    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One conversation about one image, for the generator.

    Attributes:
        image: the encoded file.
        turns: user and assistant in turn, the user first and last. The image belongs to the first.
        constraint: None for free text.
        max_tokens: None: the model's own limit.
        logprobs: whether to return the log-probabilities of the tokens.
        expires_at: moment on this process's monotonic clock, in seconds, after which nobody waits any more.
            It does not travel: calls carry deadlines of their own.
    """

    image: bytes
    turns: tuple[Turn, ...]
    constraint: DescriptorConstraint | None = None
    max_tokens: int | None = None
    logprobs: bool = False
    expires_at: float = math.inf


@dataclass(frozen=True, slots=True)
class GenerateFinish:
    """How an answer of the generator ended."""

    reason: FinishReason
    prompt_tokens: int = 0
    """Tokens read: image, conversation and template."""
    completion_tokens: int = 0
    forced_tokens: int = 0
    """Tokens of the answer that the constraint left no choice about."""
    queue_s: float = 0.0
    prefill_s: float = 0.0
    """Time until the first token."""
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TextChunk:
    """The next characters of an answer, with their tokens; finish is set in the last chunk only."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: GenerateFinish | None = None


@dataclass(frozen=True, slots=True)
class GeneratorInfo:
    """The loaded language model.

    Attributes:
        model: its name.
        version: identifies weights and preprocessing: answers of one version can be compared and cached.
        engine: "hf", "triton" or "scripted".
        shape: (rows, columns) of the descriptor grid that the model was trained for.
        codec: how it writes descriptors.
        template_version: version of the templates that it was trained with.
        max_tokens: most tokens of one answer.
        calibration: of the probabilities that come with its answers.
    """

    model: str
    version: str
    engine: str
    shape: tuple[int, int]
    codec: Codec
    template_version: str
    max_tokens: int
    calibration: Calibrations


@dataclass(frozen=True, slots=True, eq=False)
class RefineRequest:
    """One image and the regions to sharpen.

    Attributes:
        image: the encoded file.
        coarse: float32 arrays [rows, columns] over the squashed image, 0 to 1: coarse masks or probabilities.
        seed: of the point prompts, not negative.
        model: which of the loaded models to use; empty: the default.
    """

    image: bytes
    coarse: tuple[NDArray[np.float32], ...]
    seed: int = 0
    model: str = ""

    def __eq__(self, other: object) -> bool:
        return equal_fields(self, other)

    def __repr__(self) -> str:
        return repr_fields(self)

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash


@dataclass(frozen=True, slots=True, eq=False)
class RefinedMask:
    """The answer for one coarse mask.

    Attributes:
        mask: bool [height, width] of the upright original image.
        score: the refiner's own estimate of the mask's quality.
        agreement: intersection over union of refined and upsampled coarse mask; 1 when both are empty.
    """

    mask: NDArray[np.bool_]
    score: float
    agreement: float

    def __eq__(self, other: object) -> bool:
        return equal_fields(self, other)

    def __repr__(self) -> str:
        return repr_fields(self)

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash


@dataclass(frozen=True, slots=True)
class RefineAnswer:
    """One refined mask per coarse mask, in order, by the named model."""

    masks: tuple[RefinedMask, ...]
    model: str
    queue_s: float = 0.0
    embed_s: float = 0.0
    """Near zero when the image's encoding was still at hand."""
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RefinerInfo:
    """The loaded refiner models.

    Attributes:
        model: the default's name.
        version: the default's: identifies weights and steps.
        models: all names, the default first.
        versions: of all models, in the same order; empty where the refiner does not tell them.
    """

    model: str
    version: str
    models: tuple[str, ...]
    versions: tuple[str, ...] = ()

    def version_of(self, model: str) -> str:
        """Return the version of a loaded model, by name; empty where it is not known."""
        if model == self.model:
            return self.version
        return dict(zip(self.models, self.versions, strict=False)).get(model, "")
