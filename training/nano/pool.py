"""A pool of scenes whose tower features are computed once: a training step then costs a fraction.

Run: ``python -m training.nano.pool --photos DIR --persons DIR --sprites DIR --out FILE --scenes N --seed S``.
"""

import argparse
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from training.nano.photos import Photo, held_out, load_photos
from training.nano.scenes import SIDE, Scene, composed_scene, mixed_photo_scene
from training.nano.sprites import Sprite, load_sprites
from text4seg_nano.modeling import VisionTower
from text4seg_nano.configuration import Text4SegNanoConfig
from training.nano.weights import load_tower

BATCH = 16


def split_photos(photos: Sequence[Photo], *, held: bool) -> list[Photo]:
    """Return the photographs for evaluation (one fifth, by hash of the id) or those for training."""
    return [photo for photo in photos if held_out(f"photo {photo.image_id}", 5) == held]


def split_sprites(sprites: Sequence[Sprite], *, held: bool) -> list[Sprite]:
    """Return the sprites whose name is kept for evaluation (one tenth, by hash of the name) or the others."""
    return [sprite for sprite in sprites if held_out(f"sprite {sprite.noun}", 10) == held]


def cells(scene: Scene) -> np.ndarray[Any, Any]:
    """Return the share of each cell that each instance covers, uint8 [instances, 16, 16], 255 is all."""
    if not scene.masks:
        return np.zeros((0, 16, 16), np.uint8)
    shares = np.stack(scene.masks).reshape(len(scene.masks), 16, SIDE // 16, 16, SIDE // 16).mean((2, 4))
    return np.round(shares * 255).astype(np.uint8)


@torch.inference_mode()
def features(tower: VisionTower, scenes: Sequence[Scene]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return tower features of each scene in half precision: [channels, 16, 16] and [channels, 8, 8]."""
    pixels = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2)
    pixels = (pixels.float() / 127.5 - 1.0).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        middle, head = tower(pixels)
    return [(one.half().clone(), other.half().clone()) for one, other in zip(middle, head, strict=True)]


def main() -> None:
    """Make a pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--persons", type=Path)
    parser.add_argument("--sprites", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--composed", type=float, default=0.5)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    photos = split_photos(load_photos(options.photos), held=False)
    if options.persons:
        photos += split_photos(load_photos(options.persons), held=False)
    sprites = split_sprites(load_sprites(options.sprites), held=False)
    cache = {sprite: sprite.load() for sprite in sprites}
    Sprite.load = lambda self: cache[self]  # type: ignore
    tower = VisionTower(Text4SegNanoConfig())
    load_tower(tower)
    tower.eval().to(memory_format=torch.channels_last)
    items: list[Any] = []
    for _ in tqdm(range(options.scenes // BATCH)):
        scenes = [
            composed_scene(photos, sprites, rng) if rng.random() < options.composed else mixed_photo_scene(photos, rng)
            for _ in range(BATCH)
        ]
        for scene, (middle, head) in zip(scenes, features(tower, scenes), strict=True):
            items.append((middle, head, scene.names, cells(scene), scene.complete, scene.source))
    middle = torch.stack([item[0] for item in items])
    head = torch.stack([item[1] for item in items])
    torch.save({"middle": middle, "head": head, "meta": [item[2:] for item in items]}, options.out)


if __name__ == "__main__":
    main()
