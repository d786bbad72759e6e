"""Eyes of the nano model: an ImageNet vision tower and the connector into word-embedding space."""

from typing import Any

import timm
import torch
import torch.nn.functional as functional
from torch import nn

from text4seg_nano.configuration import Text4SegNanoConfig

_STRIDE_16_STAGES = 5
"""The first stages of an EfficientNet: the last of them has stride 16."""


class VisionTower(nn.Module):
    """EfficientNet-Lite (Tan and Le, 2019) up to its 1x1 head, with two outputs.

    Attributes:
        network: The network of timm, with its classifier.
    """

    network: Any

    def __init__(self, config: Text4SegNanoConfig) -> None:
        super().__init__()
        self.network = timm.create_model(config.tower, pretrained=False, num_classes=config.tower_classes)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features of stride 16 and of stride 32.

        Args:
            pixel_values: float [batch, 3, height, width], RGB scaled to -1..1.

        Returns:
            float [batch, channels, height / 16, width / 16] and
            float [batch, channels, height / 32, width / 32].
        """
        middle = self.lower(pixel_values)
        return middle, self.upper(middle)

    def lower(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return features of stride 16, float [batch, channels, height / 16, width / 16]."""
        hidden: torch.Tensor = self.network.bn1(self.network.conv_stem(pixel_values))
        for stage in self.network.blocks[:_STRIDE_16_STAGES]:
            hidden = stage(hidden)
        return hidden

    def upper(self, middle: torch.Tensor) -> torch.Tensor:
        """Return features of stride 32 from those of stride 16."""
        hidden = middle
        for stage in self.network.blocks[_STRIDE_16_STAGES:]:
            hidden = stage(hidden)
        head: torch.Tensor = self.network.bn2(self.network.conv_head(hidden))
        return head

    def upper_parameters(self) -> list[nn.Parameter]:
        """Return what `upper` depends on: the part that learns the names of things."""
        parts = [*self.network.blocks[_STRIDE_16_STAGES:], self.network.conv_head, self.network.bn2]
        return [parameter for part in parts for parameter in part.parameters()]


class Connector(nn.Module):
    """Maps tower features to one visual token per cell, in the space of the word embeddings.

    Besides a projection of the features it adds the expected word embedding of the tower's own class names,
    which carries what ImageNet already knows about the names of things.

    Attributes:
        mean: Mean of every tower channel over training images, float [channels]; saved with the weights.
        deviation: Standard deviation of every tower channel, float [channels]; saved with the weights.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, config: Text4SegNanoConfig) -> None:
        super().__init__()
        channels, hidden = sum(config.tower_channels), config.hidden_size
        self.grid = config.grid
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.dropout = nn.Dropout(0.3)
        self.up = nn.Linear(channels, 2 * hidden)
        self.down = nn.Linear(2 * hidden, hidden)
        self.class_words = nn.Linear(config.tower_classes, hidden, bias=False)

    def forward(self, middle: torch.Tensor, head: torch.Tensor, class_logits: torch.Tensor) -> torch.Tensor:
        """Return visual tokens, float [batch, grid * grid, hidden], row-major.

        Args:
            middle: Features of stride 16, float [batch, channels, image size / 16, image size / 16].
            head: Features of stride 32, float [batch, channels, image size / 32, image size / 32].
            class_logits: The tower's class logits at each place of the head,
                float [batch, image size / 32, image size / 32, classes].
        """
        return self.project(self.features(middle, head)) + self.expected_words(class_logits)

    def features(self, middle: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        """Return both tower features of each cell, float [batch, grid * grid, channels]."""
        size = (self.grid, self.grid)
        middle = functional.interpolate(middle, size=size, mode="area")
        head = functional.interpolate(head, size=size, mode="bilinear", align_corners=False)
        return torch.cat([middle, head], dim=1).flatten(2).transpose(1, 2)

    def projection_parameters(self) -> list[nn.Parameter]:
        """Return what `project` depends on: the part that learns the names of things."""
        return [*self.up.parameters(), *self.down.parameters()]

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """Map features of cells into word-embedding space, float [..., channels] to [..., hidden]."""
        features = self.dropout((features - self.mean) / self.deviation)
        projected: torch.Tensor = self.down(functional.gelu(self.up(features)))
        return projected

    def expected_words(self, class_logits: torch.Tensor) -> torch.Tensor:
        """Return the expected embedding of the tower's class names, float [batch, grid * grid, hidden]."""
        # In single precision: half precision is too coarse for a softmax over a thousand classes.
        shares = class_logits.float().softmax(dim=-1).to(self.class_words.weight.dtype)
        words = self.class_words(shares).permute(0, 3, 1, 2)
        size = (self.grid, self.grid)
        return (
            functional.interpolate(words, size=size, mode="bilinear", align_corners=False)
            .flatten(2)
            .transpose(1, 2)
        )
