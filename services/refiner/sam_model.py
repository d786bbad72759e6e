"""Sharpening with SAM (Kirillov et al. 2023) by the steps of the Text4Seg paper, appendix A.1."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from services.refiner.checkpoint_file import check_start, digest_of
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
        batch: most masks that go through the mask decoder at once.

    Raises:
        ValueError: the model takes images of another size.
    """

    def __init__(
        self, sam: Sam, kind: str, weights: str, prompt: MaskPrompt = MaskPrompt.ALIGNED, batch: int = 8
    ) -> None:
        if sam.image_encoder.img_size != SAM_IMAGE_SIDE:
            raise ValueError(
                f"the model takes images of {sam.image_encoder.img_size}, not {SAM_IMAGE_SIDE} pixels"
            )
        self._sam = sam
        self._prompt = prompt
        self.name = f"sam-{kind.replace('_', '-')}"
        self.version = f"{self.name}-{weights}+{prompt}+{_STEPS}"
        self.batch = batch

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode the image; the content is float [1, channels, 64, 64] on the model's device."""
        height, width, _ = image.shape
        rows, columns = _input_size((height, width))
        resized = np.array(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))
        pixels = torch.as_tensor(resized, device=self._sam.device).permute(2, 0, 1)[None]
        with torch.inference_mode():
            features = self._sam.image_encoder(self._sam.preprocess(pixels))
        return Embedding((height, width), features, features.element_size() * features.nelement())

    def decode(
        self, embedding: Embedding, coarse: Sequence[NDArray[np.float32]], seed: int
    ) -> tuple[SharpMask, ...]:
        """Prompt with points and the mask, then twice more with the mask that came back.

        Points are the same in all calls; there is no box, and one mask is asked for. The score is SAM's
        estimate of its mask's intersection over union. Where SAM returns nothing, the answer is the
        interpolated coarse mask with score 0. Masks share the passes of the mask decoder; one that has fewer
        points, being nearly empty or nearly full, goes with those that have as many, since a point made up to
        fill the row would change its answer.
        """
        drawn = [self._points(cells, embedding.image_size, seed) for cells in coarse]
        alike: dict[int, list[int]] = defaultdict(list)
        for index, (found, _) in enumerate(drawn):
            alike[len(found)].append(index)
        sharp: dict[int, SharpMask] = {}
        for rows in alike.values():
            points = np.stack([drawn[row][0] for row in rows])
            labels = np.stack([drawn[row][1] for row in rows])
            prompts = np.stack([self._mask_prompt(coarse[row], embedding.image_size) for row in rows])
            with torch.inference_mode():
                logits, quality = self._passes(embedding.content, points, labels, prompts)
                for place, row in enumerate(rows):
                    sharp[row] = self._sharp(
                        logits[place : place + 1], float(quality[place]), embedding.image_size, coarse[row]
                    )
        return tuple(sharp[index] for index in range(len(coarse)))

    def _points(
        self, coarse: NDArray[np.float32], size: tuple[int, int], seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Draw points in the frame of SAM's input, from the grid's cells as they lie over the image."""
        frame = _input_size(size)
        mask = upsample(coarse >= 0.5, frame)
        if not mask.any():  # a cell narrower than a pixel of the input
            mask = upsample_coarse(coarse, frame)
        return sample_points(mask, _POINTS, _POINTS, np.random.default_rng(seed))

    def _passes(
        self,
        features: torch.Tensor,
        points: NDArray[np.float32],
        labels: NDArray[np.int32],
        prompts: NDArray[np.float32],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All calls for some masks: low-resolution logits [masks, 1, 256, 256] and the quality [masks]."""
        drawn = tuple(torch.as_tensor(part, device=self._sam.device) for part in (points, labels))
        logits = torch.as_tensor(prompts, device=self._sam.device)
        for _ in range(1 + _MORE_CALLS):
            logits, quality = self._predict(features, drawn, logits)
        return logits, quality[:, 0]

    def _sharp(
        self, logits: torch.Tensor, quality: float, size: tuple[int, int], coarse: NDArray[np.float32]
    ) -> SharpMask:
        # One by one: logits in the size of a large image take hundreds of megabytes.
        full = self._sam.postprocess_masks(logits, _input_size(size), size)[0, 0]
        mask: NDArray[np.bool_] = (full > self._sam.mask_threshold).cpu().numpy()
        if not mask.any():
            return SharpMask(upsample_coarse(coarse, size), 0.0)
        return SharpMask(mask, min(max(quality, 0.0), 1.0))

    def _mask_prompt(self, coarse: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        certain = bool(((coarse == 0) | (coarse == 1)).all())
        foreground = coarse >= 0.5 if certain else coarse
        if self._prompt is MaskPrompt.STRETCHED:
            return mask_prompt_stretched(foreground)
        return mask_prompt_aligned(foreground, size)

    def _predict(
        self, features: torch.Tensor, points: tuple[torch.Tensor, ...], mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One call: low-resolution logits [masks, 1, 256, 256] and the quality [masks, 1]."""
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


def _input_size(size: tuple[int, int]) -> tuple[int, int]:
    """Size of the image in SAM's input before padding; a very narrow one keeps a pixel."""
    height, width = ResizeLongestSide.get_preprocess_shape(*size, SAM_IMAGE_SIDE)
    return max(1, height), max(1, width)


def load_sam(
    checkpoint: Path, device: str = "cpu", prompt: MaskPrompt = MaskPrompt.ALIGNED, batch: int = 8
) -> SamModel:
    """Load a published checkpoint file of segment-anything; its weights tell which kind it is.

    Args:
        checkpoint: file with the weights of vit_b, vit_l or vit_h.
        device: of torch, for example ``cpu`` or ``cuda:0``.
        prompt: variant of the mask prompt.
        batch: most masks that go through the mask decoder at once.

    Raises:
        CheckpointError: the file is missing, damaged or something else, or the device cannot be used.
    """
    check_start(checkpoint, device)
    weights = _read_weights(checkpoint)
    kind = kind_of(weights)
    if kind is None:
        raise CheckpointError(str(checkpoint), "these are not the weights of vit_b, vit_l or vit_h")
    sam = sam_model_registry[kind]()
    try:
        sam.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(str(checkpoint), f"these are not the weights of {kind}") from error
    return SamModel(sam.to(device).eval(), kind, digest_of(checkpoint), prompt, batch)


def _read_weights(checkpoint: Path) -> dict[str, Any]:
    try:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types at damaged files
        raise CheckpointError(str(checkpoint), "this is not a torch file, or it is damaged") from error
    if not isinstance(weights, dict):
        raise CheckpointError(str(checkpoint), "the file does not hold a model's weights")
    return weights


def kind_of(weights: dict[str, Any]) -> str | None:
    """Tell ``vit_b``, ``vit_l`` and ``vit_h`` apart by the width of the image encoder; None: none of them."""
    positions = weights.get("image_encoder.pos_embed")
    return _WIDTHS.get(positions.shape[-1]) if isinstance(positions, torch.Tensor) else None
