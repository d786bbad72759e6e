"""Small data sets for the nano recipe: sprites and photographs with things of one colour."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from training.nano import sprites as sprites_module

HEIGHT, WIDTH = 60, 90
CATEGORIES = ("tabby", "traffic light", "doormat")
RECTANGLES = {"tabby": (5, 10, 35, 40), "doormat": (50, 20, 85, 55)}
"""x0, y0, x1, y1 of what every photograph shows."""


def sprite_names() -> list[tuple[str, str]]:
    """File stems and nouns of all sprites."""
    table = Path(sprites_module.__file__).with_name("sprites.tsv")
    return [(line.split("\t")[0], line.split("\t")[1]) for line in table.read_text().splitlines()]


def write_sprites(folder: Path) -> Path:
    """Write every sprite as a small square of its own colour with a transparent margin."""
    folder.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(0).integers(0, 256, (len(sprite_names()), 3))
    for (stem, _), colour in zip(sprite_names(), colours, strict=True):
        pixels = np.zeros((24, 24, 4), np.uint8)
        pixels[4:20, 6:18] = (*colour, 255)
        Image.fromarray(pixels).save(folder / f"{stem}.webp", lossless=True)
    return folder


def write_photos(folder: Path, count: int = 4, *, captions: bool = True) -> Path:
    """Write photographs in the COCO layout: a tabby as a polygon, a doormat as run lengths."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, count + 1):
        pixels = rng.integers(100, 130, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        for name, colour in (("tabby", (250, 0, 0)), ("doormat", (0, 0, 250))):
            x0, y0, x1, y1 = RECTANGLES[name]
            pixels[y0:y1, x0:x1] = colour
        Image.fromarray(pixels).save(folder / "images" / f"{number:03d}.png")
        images.append({"id": number, "file_name": f"{number:03d}.png", "width": WIDTH, "height": HEIGHT})
        x0, y0, x1, y1 = RECTANGLES["tabby"]
        annotations.append(
            {"image_id": number, "category_id": 1, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
        )
        annotations.append({"image_id": number, "category_id": 3, "segmentation": run_lengths("doormat")})
    categories = [{"id": index, "name": name} for index, name in enumerate(CATEGORIES, 1)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(data))
    if captions:
        said = [{"image_id": number, "caption": " A Tabby on a doormat. "} for number in range(1, count + 1)]
        (folder / "captions.json").write_text(json.dumps({"annotations": said}))
    return folder


def run_lengths(name: str) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths of a rectangle: column by column, background first."""
    x0, y0, x1, y1 = RECTANGLES[name]
    inside = y1 - y0
    counts = [x0 * HEIGHT + y0]
    for column in range(x0, x1):
        counts += [inside, HEIGHT - inside] if column < x1 - 1 else [inside]
    counts.append(HEIGHT * WIDTH - sum(counts))
    return {"size": [HEIGHT, WIDTH], "counts": counts}
