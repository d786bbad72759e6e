"""Sharpening with SAM (Kirillov et al. 2023) by the steps of the Text4Seg paper, appendix A.1."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from services.refiner.refine import Embedding, SharpMask, upsample_coarse
from text4seg.errors import CheckpointError
from text4seg.masks import upsample
from text4seg.prompts import SAM_IMAGE_SIDE, mask_prompt_aligned, mask_prompt_stretched, sample_points

_POINTS: Final = 10
"""Points drawn from the coarse mask, and as many from outside it."""
_MORE_CALLS: Final = 2
"""Calls of the mask decoder after the first, each with the mask that the one before returned."""
_STEPS: Final = "steps-1"
"""Changes with anything here that changes an answer; part of the version."""
_WIDTHS: Final = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
"""Width of the image encoder -> kind of model."""


class MaskPrompt(StrEnum):
    """How the coarse mask is laid into SAM's square mask prompt."""

    ALIGNED = "aligned"
    """Over the object: padded as the image is."""
    STRETCHED = "stretched"
    """The other published variant: stretched to the square, beside the object unless the image is square."""


class SamModel:
    """SAM as a mask model.

    Args:
        sam: in evaluation mode, on its device; its input is 1024 pixels wide, as published.
        kind: ``vit_b``, ``vit_l``, ``vit_h`` or whatever tells it from others.
        weights: identifies the weights.
        prompt: variant of the mask prompt.

    Raises:
        ValueError: the model takes images of another size.
    """

    def __init__(self, sam: Sam, kind: str, weights: str, prompt: MaskPrompt = MaskPrompt.ALIGNED) -> None:
        if sam.image_encoder.img_size != SAM_IMAGE_SIDE:
            raise ValueError(
                f"the model takes images of {sam.image_encoder.img_size}, not {SAM_IMAGE_SIDE} pixels"
            )
        self._sam = sam
        self._prompt = prompt
        self._resize = ResizeLongestSide(SAM_IMAGE_SIDE)
        self.name = f"sam-{kind.replace('_', '-')}"
        self.version = f"{self.name}-{weights}+{prompt}+{_STEPS}"

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode the image; the content is float [1, channels, 64, 64] on the model's device."""
        height, width, _ = image.shape
        resized = torch.as_tensor(self._resize.apply_image(image), device=self._sam.device)
        with torch.inference_mode():
            features = self._sam.image_encoder(self._sam.preprocess(resized.permute(2, 0, 1)[None]))
        return Embedding((height, width), features, features.element_size() * features.nelement())

    def decode(self, embedding: Embedding, coarse: NDArray[np.float32], seed: int) -> SharpMask:
        """Prompt with points and the mask, then twice more with the mask that came back.

        Points are the same in all calls; there is no box, and one mask is asked for. The score is SAM's
        estimate of its mask's intersection over union. Where SAM returns nothing, the answer is the
        interpolated coarse mask with score 0.
        """
        size = embedding.image_size
        input_size = self._resize.get_preprocess_shape(*size, SAM_IMAGE_SIDE)
        drawn = sample_points(
            upsample(coarse >= 0.5, input_size), _POINTS, _POINTS, np.random.default_rng(seed)
        )
        points = tuple(torch.as_tensor(array, device=self._sam.device)[None] for array in drawn)
        prompt = self._mask_prompt(coarse, size)
        with torch.inference_mode():
            logits = torch.as_tensor(prompt, device=self._sam.device)[None]
            for _ in range(1 + _MORE_CALLS):
                logits, quality = self._predict(embedding.content, points, logits)
            full = self._sam.postprocess_masks(logits, input_size, size)[0, 0]
            mask: NDArray[np.bool_] = (full > self._sam.mask_threshold).cpu().numpy()
        if not mask.any():
            return SharpMask(upsample_coarse(coarse, size), 0.0)
        return SharpMask(mask, min(max(float(quality[0, 0]), 0.0), 1.0))

    def _mask_prompt(self, coarse: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        certain = bool(((coarse == 0) | (coarse == 1)).all())
        foreground = coarse >= 0.5 if certain else coarse
        if self._prompt is MaskPrompt.STRETCHED:
            return mask_prompt_stretched(foreground)
        return mask_prompt_aligned(foreground, size)

    def _predict(
        self, features: torch.Tensor, points: tuple[torch.Tensor, ...], mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One call: low-resolution logits [1, 1, 256, 256] and the quality [1, 1]."""
        encoder = self._sam.prompt_encoder
        sparse, dense = encoder(points=points, boxes=None, masks=mask)
        answer: tuple[torch.Tensor, torch.Tensor] = self._sam.mask_decoder(
            image_embeddings=features,
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return answer


def load_sam(
    checkpoint: Path, device: str = "cpu", prompt: MaskPrompt = MaskPrompt.ALIGNED, threads: int = 0
) -> SamModel:
    """Load a published checkpoint file of segment-anything; its weights tell which kind it is.

    Args:
        checkpoint: file with the weights of vit_b, vit_l or vit_h.
        device: of torch, for example ``cpu`` or ``cuda:0``.
        prompt: variant of the mask prompt.
        threads: of torch, for the whole process; 0 leaves them as they are.

    Raises:
        CheckpointError: the file is missing, damaged or something else, or the device cannot be used.
    """
    if not checkpoint.is_file():
        raise CheckpointError(str(checkpoint), "there is no such file")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a build of torch without CUDA
        raise CheckpointError(str(checkpoint), f"torch device {device!r} cannot be used") from error
    if threads:
        torch.set_num_threads(threads)
    weights = _read_weights(checkpoint)
    kind = _kind(checkpoint, weights)
    sam = sam_model_registry[kind]()
    try:
        sam.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(str(checkpoint), f"these are not the weights of {kind}") from error
    return SamModel(sam.to(device).eval(), kind, _digest(checkpoint), prompt)


def _read_weights(checkpoint: Path) -> dict[str, Any]:
    try:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types at damaged files
        raise CheckpointError(str(checkpoint), "this is not a torch file, or it is damaged") from error
    if not isinstance(weights, dict):
        raise CheckpointError(str(checkpoint), "the file does not hold a model's weights")
    return weights


def _kind(checkpoint: Path, weights: dict[str, Any]) -> str:
    positions = weights.get("image_encoder.pos_embed")
    kind = _WIDTHS.get(positions.shape[-1]) if isinstance(positions, torch.Tensor) else None
    if kind is None:
        raise CheckpointError(str(checkpoint), "these are not the weights of vit_b, vit_l or vit_h")
    return kind


def _digest(checkpoint: Path) -> str:
    with checkpoint.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
