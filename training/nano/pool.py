"""A pool of scenes. What the fixed part of the tower sees in them is computed once.

A training step then costs a fraction."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from text4seg_nano.processing import pixel_values
from text4seg_nano.vision import VisionTower
from training.nano.colours import colour_of
from training.nano.photos import Photo, held_out
from training.nano.questions import GRID
from training.nano.scenes import SIDE, Scene, composed_scene, mixed_photo_scene, resized
from training.nano.sprites import Sprite

BATCH = 16
"""Scenes that go through the tower at once."""
CLEAR, MIXED = 110, 25
"""A cell (0..255) shows a thing above the first share, and "others" when all things together stay below the
second."""
UNKNOWN = -100
"""The label of cells that teach nothing."""
SOFTENED = 0.5
"""Share of larger scenes that lose their detail, as pictures from elsewhere have little."""
GREY = 0.08
"""Share of scenes in shades of grey, as old photographs and some cameras have them."""
STATISTICS_FROM = 400
"""Scenes whose features are counted for their mean and deviation."""


def split_photos(photos: Sequence[Photo], *, held: bool) -> list[Photo]:
    """Return the photographs for evaluation (one fifth, by hash of the id) or those for training."""
    return [photo for photo in photos if held_out(f"photo {photo.image_id}", 5) == held]


def split_sprites(sprites: Sequence[Sprite], *, held: bool) -> list[Sprite]:
    """Return the sprites whose name is kept for evaluation (one tenth, by hash of the name) or the others."""
    return [sprite for sprite in sprites if held_out(f"sprite {sprite.noun}", 10) == held]


def cells(scene: Scene, grid: int = GRID) -> NDArray[np.uint8]:
    """Return the share of each cell that each instance covers, uint8 [instances, grid, grid], 255 is all."""
    if not scene.masks:
        return np.zeros((0, grid, grid), np.uint8)
    masks = [mask.astype(np.float32) for mask in scene.masks]
    shares = np.stack([cv2.resize(mask, (grid, grid), interpolation=cv2.INTER_AREA) for mask in masks])
    rounded: NDArray[np.uint8] = np.round(shares * 255.0).astype(np.uint8)
    return rounded


def colours(scene: Scene) -> list[str]:
    """Return the colour of each instance, "" where no word says it, or nobody would: of persons."""
    return [
        "" if name == "person" else colour_of(scene.image, mask)
        for name, mask in zip(scene.names, scene.masks, strict=True)
    ]


def softened(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return some of the images that are larger than `SIDE` made smaller."""
    if len(image) <= SIDE or rng.random() >= SOFTENED:
        return image
    return resized(image, (SIDE, SIDE), cv2.INTER_AREA)


def greyed(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return some of the images without their colours."""
    if rng.random() >= GREY:
        return image
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


@torch.inference_mode()
def features(tower: VisionTower, images: Sequence[NDArray[np.uint8]], side: int) -> torch.Tensor:
    """Return the tower's features of stride 16 of images squashed to a square of `side` pixels.

    Half precision, [images, channels, side / 16, side / 16].
    """
    pixels = torch.stack([pixel_values(image, side) for image in images])
    pixels = pixels.to(memory_format=torch.channels_last)
    device = next(tower.parameters()).device
    with torch.autocast(device.type, dtype=torch.bfloat16):
        return tower.lower(pixels.to(device)).half().cpu()


def make_pool(
    tower: VisionTower,
    photos: Sequence[Photo],
    sprites: Sequence[Sprite],
    count: int,
    *,
    composed: float,
    seed: int,
    grid: int = GRID,
    side: int = SIDE,
    drawn: int = SIDE,
) -> dict[str, Any]:
    """Draw scenes and compute their features.

    Args:
        tower: The vision tower in evaluation mode.
        photos: Backgrounds, and photographs to ask about; may be empty.
        sprites: What is laid on backgrounds.
        count: Number of scenes, rounded up to whole batches.
        composed: Share of composed scenes; the others are photographs.
        seed: Draws everything.
        grid: Rows and columns of cells. The scenes do not depend on it.
        side: Side in pixels of the images that the tower sees.
        drawn: Side in pixels of the scenes as they are drawn.

    Returns:
        ``middle`` float16 [count, channels, side / 16, side / 16], and ``meta``: for each scene the names,
        the covered shares of `cells`, whether all names are annotated, the photograph's id or -1, and the
        `colours`.
    """
    rng = np.random.default_rng(seed)
    middle: list[torch.Tensor] = []
    meta: list[Any] = []
    for _ in tqdm(range(-(-count // BATCH)), desc="scenes", unit="batch"):
        scenes = [
            composed_scene(photos, sprites, rng, varied=True, side=drawn)
            if not photos or rng.random() < composed
            else mixed_photo_scene(photos, rng, side=drawn)
            for _ in range(BATCH)
        ]
        for scene in scenes:
            scene.image = greyed(scene.image, rng)
        middle.append(features(tower, [softened(scene.image, rng) for scene in scenes], side))
        meta += [
            (scene.names, cells(scene, grid), scene.complete, scene.source, colours(scene))
            for scene in scenes
        ]
    return {"middle": torch.cat(middle), "meta": meta}


class Pool:
    """Scenes with tower features, from what `make_pool` returned.

    The parts stay where they are, so that files mapped into memory are read piece by piece.

    Attributes:
        meta: Names, covered shares, whether all names are annotated, photograph's id, and colours, of each
            scene.
        place: Index of each noun.
    """

    def __init__(self, parts: Sequence[dict[str, Any]], nouns: Sequence[str]) -> None:
        self.parts = parts
        self.at = [(part, row) for part in parts for row in range(len(part["meta"]))]
        self.meta = [item for part in parts for item in part["meta"]]
        self.place = {noun: number for number, noun in enumerate(nouns)}

    def __len__(self) -> int:
        return len(self.meta)

    def features(self, picks: Sequence[int]) -> torch.Tensor:
        """Return the tower's features of scenes, float16 [picks, channels, side / 16, side / 16]."""
        return torch.stack([part["middle"][row] for part, row in map(self.at.__getitem__, picks)])

    def labels(self, index: int) -> torch.Tensor:
        """Return what each cell shows, int64 [grid * grid]; -100 where it is mixed or unknown."""
        names, shares, complete, *_ = self.meta[index]
        label = np.full(shares.shape[1:], 0 if complete else UNKNOWN, np.int64)
        if len(names):
            label[shares.astype(np.int64).sum(0) > MIXED] = UNKNOWN
            best = shares.argmax(0)
            known = np.array([self.place[name] for name in names])
            label = np.where(shares.max(0) > CLEAR, known[best], label)
        return torch.from_numpy(label.reshape(-1))

    @torch.no_grad()
    def statistics(self, tower: VisionTower) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of every tower channel, of stride 16 and then of stride 32."""
        middle = self.features(range(min(STATISTICS_FROM, len(self)))).float()
        head = tower.upper(middle.to(next(tower.parameters()).device)).cpu()
        mean = torch.cat([middle.mean((0, 2, 3)), head.mean((0, 2, 3))])
        deviation = torch.cat([middle.std((0, 2, 3)), head.std((0, 2, 3))])
        return mean, deviation.clamp(min=0.05)
