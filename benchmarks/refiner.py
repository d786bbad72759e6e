"""How much does the refiner sharpen? True masks, shrunk to a grid and sharpened again, against themselves.

Every category of a COCO-layout data set gives one mask per image: the union of its instances. It is shrunk
to a descriptor grid by area, a share of the cells along its border is turned over at random (a model's grids
have errors), and each method makes a full-size mask of what is left. The last input is not a mask but the
share of each cell that is covered. Constants of the refiner were chosen on images of even id
(``--half tune``); the figures to quote are those of odd ids (``--half report``, the default).

    python -m benchmarks.refiner --data DIR     # DIR holds instances.json and images/
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from services.refiner.grabcut_model import GrabCutModel
from services.refiner.refine import Embedding, upsample_coarse
from text4seg.masks import coverage, to_grid, upsample
from text4seg.metrics import CumulativeIoU, GeneralizedIoU, boundary_f_score, iou

Mask = NDArray[np.bool_]
Method = Callable[[Embedding, NDArray[np.float32]], Mask]

CLEARLY_WORSE = 0.05
"""Loss of IoU, against the interpolated coarse mask, that is counted."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One image, uint8 RGB [height, width, 3], and one mask [height, width] per category."""

    image: NDArray[np.uint8]
    masks: tuple[Mask, ...]


class Tally:
    """Everything measured of one method."""

    def __init__(self) -> None:
        self.cumulative = CumulativeIoU()
        self.general = GeneralizedIoU()
        self.boundary: list[float] = []
        self.worse = 0
        self.seconds = 0.0

    def add(self, mask: Mask, truth: Mask, coarse: Mask, seconds: float) -> None:
        """Count one mask."""
        self.cumulative.add(mask, truth)
        self.general.add(mask, truth)
        self.boundary.append(boundary_f_score(mask, truth))
        self.worse += iou(mask, truth) < iou(coarse, truth) - CLEARLY_WORSE
        self.seconds += seconds

    def row(self) -> dict[str, float]:
        """Return the figures."""
        masks = len(self.boundary)
        return {
            "cIoU": self.cumulative.result(),
            "gIoU": self.general.result(),
            "boundary F": float(np.mean(self.boundary)),
            "worse": self.worse / masks,
            "ms/mask": 1000 * self.seconds / masks,
        }


def scenes(data: Path, half: str, min_share: float, limit: int | None) -> Iterator[Scene]:
    """Read a COCO-layout directory.

    Args:
        data: holds instances.json and images/.
        half: ``tune`` (even image ids), ``report`` (odd) or ``all``.
        min_share: masks that cover less of the image are left out.
        limit: most images.
    """
    content = json.loads((data / "instances.json").read_text())
    annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        if not annotation.get("iscrowd"):
            annotations[annotation["image_id"]].append(annotation)
    chosen = [
        image
        for image in sorted(content["images"], key=lambda image: int(image["id"]))
        if half == "all" or image["id"] % 2 == (half == "report")
    ]
    for image in tqdm(chosen[:limit], disable=not sys.stderr.isatty()):
        unions: dict[int, Mask] = {}
        for annotation in annotations[image["id"]]:
            runs = coco_mask.frPyObjects(annotation["segmentation"], image["height"], image["width"])
            mask = coco_mask.decode(coco_mask.merge(runs) if isinstance(runs, list) else runs).astype(
                np.bool_
            )
            category = annotation["category_id"]
            unions[category] = unions[category] | mask if category in unions else mask
        masks = tuple(mask for _, mask in sorted(unions.items()) if mask.mean() >= min_share)
        if masks:
            pixels = np.array(Image.open(data / "images" / image["file_name"]).convert("RGB"))
            yield Scene(pixels, masks)


def turn_over(grid: Mask, share: float, rng: np.random.Generator) -> Mask:
    """Flip each cell that has a different cell among its eight neighbours, with probability ``share``."""
    padded = np.pad(grid, 1, mode="edge")
    rows, cols = grid.shape
    around = [padded[row : row + rows, col : col + cols] for row in range(3) for col in range(3)]
    border = np.any(around, axis=0) & ~np.all(around, axis=0)
    flipped: Mask = grid ^ (border & (rng.random(grid.shape) < share))
    return flipped


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Return the figures by input and method."""
    grabcut = GrabCutModel()
    methods: dict[str, Method] = {
        "coarse, nearest": lambda embedding, coarse: upsample(coarse >= 0.5, embedding.image_size),
        "coarse, bilinear": lambda embedding, coarse: upsample_coarse(coarse, embedding.image_size),
        "grabcut": lambda embedding, coarse: grabcut.decode(embedding, [coarse], 0)[0].mask,
    }
    shape = (arguments.grid, arguments.grid)
    flips = {f"{share:.0%} of border cells wrong": share for share in arguments.flip}
    tallies: dict[str, dict[str, Tally]] = {
        name: {method: Tally() for method in methods} for name in (*flips, "shares of cells")
    }
    rng = np.random.default_rng(arguments.seed)
    for scene in scenes(arguments.data, arguments.half, arguments.min_share, arguments.limit):
        embedding = grabcut.embed(scene.image)
        for truth in scene.masks:
            grid = to_grid(truth, shape)
            inputs = {name: turn_over(grid, share, rng).astype(np.float32) for name, share in flips.items()}
            inputs["shares of cells"] = coverage(truth, shape).astype(np.float32)
            for name, coarse in inputs.items():
                if not grid.any() or not (coarse >= 0.5).any():
                    continue
                guess = upsample_coarse(coarse, embedding.image_size)
                for method, sharpen in methods.items():
                    begin = time.perf_counter()
                    mask = sharpen(embedding, coarse)
                    tallies[name][method].add(mask, truth, guess, time.perf_counter() - begin)
    return {
        name: {method: tally.row() | {"masks": len(tally.boundary)} for method, tally in rows.items()}
        for name, rows in tallies.items()
    }


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| input | method | masks | cIoU | gIoU | boundary F | clearly worse |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in figures.items():
        for method, row in rows.items():
            measures = " | ".join(f"{row[key]:.3f}" for key in ("cIoU", "gIoU", "boundary F"))
            lines.append(f"| {name} | {method} | {row['masks']} | {measures} | {row['worse']:.1%} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="directory with instances.json and images/")
    parser.add_argument("--half", choices=("tune", "report", "all"), default="report", help="which images")
    parser.add_argument("--grid", type=int, default=16, help="cells along each side")
    parser.add_argument("--flip", type=float, nargs="*", default=[0.0, 0.1, 0.2], help="shares turned over")
    parser.add_argument("--min-share", type=float, default=0.02, help="smallest target, share of the image")
    parser.add_argument("--limit", type=int, help="most images")
    parser.add_argument("--seed", type=int, default=0, help="of the cells turned over")
    parser.add_argument(
        "--output", type=Path, default=Path("build/benchmarks/refiner.json"), help="figures as JSON"
    )
    arguments = parser.parse_args()
    figures = measure(arguments)
    print(table(figures))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(
        json.dumps({"grabcut": GrabCutModel.version, "half": arguments.half, "figures": figures}, indent=1)
    )


if __name__ == "__main__":
    main()
