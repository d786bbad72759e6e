"""The network: image and coarse mask -> sharp mask.

Prompt encoder, two-way transformer and mask decoder are those of SAM (Kirillov et al. 2023) from
segment-anything, made small. Instead of a vision transformer, an EfficientNet-Lite (Tan and Le, 2019) with
ImageNet weights sees the image; its finer maps are added while the mask is upscaled, as in SAM 2 (Ravi et
al. 2024), because they know where edges are. The coarse mask is the only prompt, and the decoder's answer is
added to it: the network learns what to change. Where the coarse mask is the same all round, much has to speak
for a change: it is seldom wrong by more than a cell or two.

The frame is the image squashed to a square, as the language model sees it: grids lie on it without padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from PIL import Image
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from torch import nn

_STAGES = (1, 2, 3, 4)
"""The encoder's maps of stride 4, 8, 16 and 32, as timm counts them."""
_STRIDE = 16
"""Pixels of the frame per place of the transformer."""
_MASK_CHANNELS = 16
"""Channels inside the prompt encoder."""
_QUALITY_LAYERS = 2
_AROUND = 17
"""Side of the square, in pixels of stride 4, that tells whether the coarse mask is the same all round."""


@dataclass(frozen=True, slots=True)
class LightConfig:
    """Sizes of the network.

    Attributes:
        encoder: name of the timm architecture, an EfficientNet.
        side: of the square frame, in pixels; a multiple of 32.
        width: channels of the transformer; a multiple of 8.
        depth: layers of the transformer.
        heads: of its attention.
        hidden: channels inside its layers.
    """

    encoder: str = "tf_efficientnet_lite2"
    side: int = 512
    width: int = 128
    depth: int = 2
    heads: int = 4
    hidden: int = 256


class Features(NamedTuple):
    """The encoder's maps, float [images, channels, side / stride, side / stride]."""

    quarter: torch.Tensor
    eighth: torch.Tensor
    sixteenth: torch.Tensor
    thirtysecond: torch.Tensor


class ProjectedImage(NamedTuple):
    """What the mask decoder takes of images; one image serves any number of masks.

    Attributes:
        fine: float [images, width / 8, side / 4, side / 4].
        middle: float [images, width / 4, side / 8, side / 8].
        coarse: float [images, width, side / 16, side / 16].
    """

    fine: torch.Tensor
    middle: torch.Tensor
    coarse: torch.Tensor


class LightRefiner(nn.Module):
    """The light refiner; the encoder stays as it was pretrained, everything else is trained.

    Raises:
        ValueError: sizes that do not fit together.
    """

    def __init__(self, config: LightConfig) -> None:
        super().__init__()
        if config.side % 32 or config.width % 8:
            raise ValueError("side must be a multiple of 32, and width of 8")
        self.config = config
        places = config.side // _STRIDE
        encoder: Any = timm.create_model(
            config.encoder, pretrained=False, features_only=True, out_indices=_STAGES
        )
        self.encoder: Any = encoder.to(memory_format=torch.channels_last)  # nearly twice as fast on a CPU
        channels: list[int] = encoder.feature_info.channels()
        self.neck = _Neck(channels, config.width)
        self.prompt_encoder: Any = PromptEncoder(
            config.width, (places, places), (config.side, config.side), _MASK_CHANNELS
        )
        self.decoder = _Decoder(
            num_multimask_outputs=0,
            transformer=TwoWayTransformer(config.depth, config.width, config.heads, config.hidden),
            transformer_dim=config.width,
            iou_head_depth=_QUALITY_LAYERS,
            iou_head_hidden_dim=config.width,
        )
        self.trust = nn.Parameter(torch.tensor(4.0))
        """Logit of a cell that is surely in the coarse mask, before the network says anything."""
        self.firmness = nn.Parameter(torch.tensor(4.0))
        """What is added to it where all the cells round it are, too."""

    def encode(self, pixels: torch.Tensor) -> Features:
        """Return the encoder's maps of images, float [images, 3, side, side] from :func:`image_pixels`."""
        return Features(*self.encoder(pixels.contiguous(memory_format=torch.channels_last)))

    def project(self, features: Features) -> ProjectedImage:
        """Return what the decoder takes of images."""
        projected: ProjectedImage = self.neck(features)
        return projected

    def place(self, coarse: NDArray[np.float32]) -> torch.Tensor:
        """Interpolate a coarse mask, float32 [rows, cols], to the frame: float [1, side / 4, side / 4]."""
        side = self.config.side // 4
        values = torch.from_numpy(np.array(coarse, dtype=np.float32))[None, None]
        return functional.interpolate(values, (side, side), mode="bilinear", align_corners=False)[0]

    def decode(self, image: ProjectedImage, coarse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sharpen masks.

        Args:
            image: one image for all masks, or one for each.
            coarse: float [masks, 1, side / 4, side / 4] from :meth:`place`.

        Returns:
            Logits over the frame, float [masks, 1, side / 4, side / 4], and the estimated intersection over
            union of each mask with the true one, float [masks].
        """
        prior = 2 * coarse - 1
        sparse, dense = self.prompt_encoder(points=None, boxes=None, masks=prior)
        change, quality = self.decoder(image, self.prompt_encoder.get_dense_pe(), sparse, dense)
        around = functional.avg_pool2d(prior, _AROUND, 1, _AROUND // 2, count_include_pad=False)
        return change + self.trust * prior + self.firmness * around**3, quality


class _Neck(nn.Module):
    """Maps of the encoder -> what the decoder takes; the strides 16 and 32 become one map."""

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        quarter, eighth, sixteenth, thirtysecond = channels
        self.fine = _finer(quarter, width // 8)
        self.middle = _finer(eighth, width // 4)
        self.sixteenth = nn.Sequential(LayerNorm2d(sixteenth), nn.Conv2d(sixteenth, width, 1))
        self.thirtysecond = nn.Sequential(LayerNorm2d(thirtysecond), nn.Conv2d(thirtysecond, width, 1))
        self.blend = nn.Sequential(
            LayerNorm2d(width), nn.Conv2d(width, width, 3, padding=1, bias=False), LayerNorm2d(width)
        )

    def forward(self, features: Features) -> ProjectedImage:
        near, far = self.sixteenth(features.sixteenth), self.thirtysecond(features.thirtysecond)
        far = functional.interpolate(far, near.shape[-2:], mode="bilinear", align_corners=False)
        return ProjectedImage(
            self.fine(features.quarter), self.middle(features.eighth), self.blend(near + far)
        )


def _finer(channels: int, width: int) -> nn.Module:
    return nn.Sequential(
        LayerNorm2d(channels),
        nn.Conv2d(channels, 2 * width, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(2 * width, width, 1),
    )


class _Decoder(MaskDecoder):  # type: ignore[misc]
    """SAM's mask decoder with the finer maps added while it upscales; one image per mask, or one for all."""

    def forward(
        self, image: ProjectedImage, places: torch.Tensor, sparse: torch.Tensor, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        masks = len(dense)
        own = torch.cat((self.iou_token.weight, self.mask_tokens.weight))[None].expand(masks, -1, -1)
        source = image.coarse + dense
        tokens, hidden = self.transformer(source, places.expand_as(source), torch.cat((own, sparse), dim=1))
        first, norm, activation, second, last = self.output_upscaling
        upscaled = activation(norm(first(hidden.transpose(1, 2).reshape(source.shape)) + image.middle))
        upscaled = last(second(upscaled) + image.fine)
        weights = self.output_hypernetworks_mlps[0](tokens[:, 1])
        logits = torch.einsum("mc,mchw->mhw", weights, upscaled)[:, None]
        return logits, self.iou_prediction_head(tokens[:, 0])[:, 0]


def image_pixels(image: NDArray[np.uint8], side: int) -> torch.Tensor:
    """Squash an image, uint8 RGB [height, width, 3], to float [1, 3, side, side], scaled to -1..1."""
    squashed = np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
    return torch.from_numpy(squashed).permute(2, 0, 1)[None].float() / 127.5 - 1.0
