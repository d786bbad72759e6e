"""How much does the refiner sharpen? True masks, shrunk to a grid and sharpened again, against themselves.

Every category of a COCO-layout data set gives one mask per image: the union of its instances. It is shrunk
to a descriptor grid by area, a share of the cells along its border is turned over at random (a model's grids
have errors), and each method makes a full-size mask of what is left. The last input is not a mask but the
share of each cell that is covered.

GrabCut's constants were chosen on images of even id (``--half tune``); the figures to quote for it are those
of odd ids (``--half report``, the default). The light refiner is trained on four photographs in five:
``--half held-out`` are the others, and the ones on which to compare the two.

    python -m benchmarks.refiner --data DIR     # DIR holds instances.json and images/
    python -m benchmarks.refiner --data DIR --half held-out --light build/light/model.safetensors
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from services.refiner.grabcut_model import GrabCutModel
from services.refiner.refine import Embedding, MaskModel, upsample_coarse
from text4seg.masks import coverage, to_grid, upsample
from text4seg.metrics import CumulativeIoU, GeneralizedIoU, boundary_f_score, iou
from training.nano.photos import instance_mask
from training.refiner.coarse import turn_over
from training.refiner.views import is_held_out

Mask = NDArray[np.bool_]

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
            "masks": masks,
            "cIoU": self.cumulative.result(),
            "gIoU": self.general.result(),
            "boundary F": float(np.mean(self.boundary)) if masks else float("nan"),
            "worse": self.worse / max(masks, 1),
            "ms/mask": 1000 * self.seconds / max(masks, 1),
        }


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured.

    Attributes:
        rows: by input and method.
        embed_ms: milliseconds per image, by method.
    """

    rows: dict[str, dict[str, dict[str, float]]]
    embed_ms: dict[str, float]


def scenes(data: Path, half: str, min_share: float, limit: int | None) -> Iterator[Scene]:
    """Read a COCO-layout directory.

    Args:
        data: holds instances.json and images/.
        half: ``tune`` (even image ids), ``report`` (odd), ``held-out`` (not trained on) or ``all``.
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
        if _belongs(int(image["id"]), half)
    ]
    for image in tqdm(chosen[:limit], disable=not sys.stderr.isatty()):
        unions: dict[int, Mask] = {}
        for annotation in annotations[image["id"]]:
            mask = instance_mask(annotation["segmentation"], image["height"], image["width"])
            category = annotation["category_id"]
            unions[category] = unions[category] | mask if category in unions else mask
        masks = tuple(mask for _, mask in sorted(unions.items()) if mask.mean() >= min_share)
        if masks:
            pixels = np.array(Image.open(data / "images" / image["file_name"]).convert("RGB"))
            yield Scene(pixels, masks)


def _belongs(image_id: int, half: str) -> bool:
    if half == "held-out":
        return is_held_out(image_id)
    return half == "all" or image_id % 2 == (half == "report")


def load_models(arguments: argparse.Namespace) -> dict[str, MaskModel]:
    """Return the models to compare, by the name of their rows."""
    models: dict[str, MaskModel] = {"grabcut": GrabCutModel()}
    if arguments.light:
        from services.refiner.light_model import load_light

        models["light"] = load_light(arguments.light, arguments.device)
    if arguments.sam:
        from services.refiner.sam_model import MaskPrompt, load_sam

        for prompt in MaskPrompt:
            model = load_sam(arguments.sam, arguments.device, prompt)
            models[f"{model.name}, {prompt}"] = model
    return models


def measure(models: dict[str, MaskModel], arguments: argparse.Namespace) -> Figures:
    """Sharpen every mask with every model."""
    shape = (arguments.grid, arguments.grid)
    flips = {f"{share:.0%} of border cells wrong": share for share in arguments.flip}
    methods = ("coarse, nearest", "coarse, bilinear", *models)
    tallies = {name: {method: Tally() for method in methods} for name in (*flips, "shares of cells")}
    rng = np.random.default_rng(arguments.seed)
    images, embed_s = 0, dict.fromkeys(models, 0.0)
    for scene in scenes(arguments.data, arguments.half, arguments.min_share, arguments.limit):
        images += 1
        embeddings: dict[str, Embedding] = {}
        for name, model in models.items():
            begin = time.perf_counter()
            embeddings[name] = model.embed(scene.image)
            embed_s[name] += time.perf_counter() - begin
        height, width, _ = scene.image.shape
        for truth in scene.masks:
            grid = to_grid(truth, shape)
            inputs = {name: turn_over(grid, share, rng).astype(np.float32) for name, share in flips.items()}
            inputs["shares of cells"] = coverage(truth, shape).astype(np.float32)
            for name, coarse in inputs.items():
                if not grid.any() or not (coarse >= 0.5).any():
                    continue
                guess = upsample_coarse(coarse, (height, width))
                tally = tallies[name]
                cells = upsample(coarse >= 0.5, (height, width))
                tally["coarse, nearest"].add(cells, truth, guess, 0.0)
                tally["coarse, bilinear"].add(guess, truth, guess, 0.0)
                for method, model in models.items():
                    begin = time.perf_counter()
                    (sharp,) = model.decode(embeddings[method], [coarse], arguments.seed)
                    tally[method].add(sharp.mask, truth, guess, time.perf_counter() - begin)
    return Figures(
        {name: {method: tally.row() for method, tally in rows.items()} for name, rows in tallies.items()},
        {name: 1000 * seconds / max(images, 1) for name, seconds in embed_s.items()},
    )


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| input | method | masks | cIoU | gIoU | boundary F | clearly worse | ms/mask |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in figures.items():
        for method, row in rows.items():
            measures = " | ".join(f"{row[key]:.3f}" for key in ("cIoU", "gIoU", "boundary F"))
            rest = f"{row['worse']:.1%} | {row['ms/mask']:.0f}"
            lines.append(f"| {name} | {method} | {row['masks']} | {measures} | {rest} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="directory with instances.json and images/")
    halves = ("tune", "report", "held-out", "all")
    parser.add_argument("--half", choices=halves, default="report", help="which images")
    parser.add_argument("--light", type=Path, help="checkpoint of the light refiner, to compare")
    parser.add_argument("--sam", type=Path, help="checkpoint of SAM, to compare with both mask prompts")
    parser.add_argument("--device", default="cpu", help="of torch")
    parser.add_argument("--grid", type=int, default=16, help="cells along each side")
    parser.add_argument("--flip", type=float, nargs="*", default=[0.0, 0.1, 0.2], help="shares turned over")
    parser.add_argument("--min-share", type=float, default=0.02, help="smallest target, share of the image")
    parser.add_argument("--limit", type=int, help="most images")
    parser.add_argument("--seed", type=int, default=0, help="of the cells turned over, and of SAM's points")
    parser.add_argument(
        "--output", type=Path, default=Path("build/benchmarks/refiner.json"), help="figures as JSON"
    )
    arguments = parser.parse_args()
    models = load_models(arguments)
    figures = measure(models, arguments)
    print(table(figures.rows))
    print("\n" + ", ".join(f"{name} {ms:.0f} ms per image" for name, ms in figures.embed_ms.items()))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "versions": {name: model.version for name, model in models.items()},
        "half": arguments.half,
        "embed_ms": figures.embed_ms,
        "figures": figures.rows,
    }
    arguments.output.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
