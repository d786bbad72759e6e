"""``make demo``: start all services, segment photographs that the model has not seen, and show what came out.

Nothing is downloaded: the photographs come with scikit-image, the model with this repository. The exit code
is 1 when the cat is not found.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from text4seg.errors import Text4SegError
from text4seg.masks import Box
from text4seg.metrics import box_iou, iou
from text4seg.segmentation import CacheOutcome, PhraseQuery, RefineMode, Region, SegmentAnswer, SegmentOptions
from text4seg_client.client import Client
from text4seg_client.files import write_picture
from text4seg_client.images import read_pixels
from text4seg_client.local_server import ServerStartError, free_address, local_server
from text4seg_client.overlay import draw_overlay
from text4seg_client.report import box_text, table

ABSENT = "giraffe"
"""Asked of every picture; none of them shows one."""

CAT_PICTURE = "chelsea"
CAT_BOX = Box(0, 0, 398, 300)
"""Measured by hand."""

# Corners of the cat's outline in XY pixels, drawn by hand; whiskers left out.
_CAT_OUTLINE = (
    (40, 0), (398, 0), (385, 22), (376, 38), (366, 62), (356, 74), (358, 95), (362, 118), (361, 140),
    (355, 165), (345, 185), (330, 203), (318, 218), (316, 240), (312, 262), (300, 275), (275, 282),
    (270, 300), (0, 300), (0, 122), (28, 108), (30, 75), (34, 40),
)  # fmt: skip

_LEAST_IOU = 0.5
_MOST_SPILL = 0.75
_QUIET = "--log-level=WARNING"
_WIDTH = 900


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the demo and what to look for in it."""

    name: str
    path: Path
    phrases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """The answers for one picture: first call, the same without refinement, and the first call once more."""

    picture: Picture
    refined: SegmentAnswer
    coarse: SegmentAnswer
    again: SegmentAnswer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Args:
        arguments: what follows the program's name; None: of this process.

    Returns:
        The exit code: 0 if the cat was found, 1 otherwise.
    """
    parser = argparse.ArgumentParser("text4seg demo", description="Segment photographs by text, end to end.")
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, default=Path("build/demo"), help="for overlays"
    )
    parser.add_argument(
        "--scene",
        metavar="FILE",
        type=Path,
        default=Path("models/nano/scene.png"),
        help="one more picture; its phrases are in a .json file of the same name",
    )
    parser.add_argument(
        "--wait", metavar="S", type=float, default=180.0, help="longest start of the services"
    )
    options = parser.parse_args(arguments)
    try:
        found = pictures(options.scene)
        address = free_address()
        print("starting the services ...", flush=True)
        with local_server(address, options.wait, _QUIET) as info, Client(address) as client:
            rows, columns = info.generator.shape
            refiners = ", ".join(info.refiner_models) or "none"
            print(f"model {info.versions.model}, {rows}x{columns} grid; refiners: {refiners}\n")
            results = [ask(client, picture) for picture in found]
    except (ServerStartError, Text4SegError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(phrase_table(results), end="\n\n")
    print(time_table(results), end="\n\n")
    for result in results:
        for warning in result.refined.warnings:
            print(f"{result.picture.name}: {warning.message}")
        path = options.output / f"{result.picture.name}.png"
        write_picture(path, draw_pair(result))
        print(f"wrote {path}")
    complaint = check_cat(results)
    print(f"\n{complaint or 'the cat was found'}")
    return 1 if complaint else 0


def pictures(scene: Path) -> tuple[Picture, ...]:
    """The pictures of the demo: photographs that scikit-image ships, and the composed scene if it is there.

    Raises:
        FileNotFoundError: scikit-image is not installed, or without its photographs.
    """
    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("the demo's photographs come with scikit-image: pip install scikit-image")
    folder = Path(package.submodule_search_locations[0]) / "data"
    found = [
        Picture(CAT_PICTURE, folder / "chelsea.png", ("cat", ABSENT)),
        Picture("coffee", folder / "coffee.png", ("cup", "spoon", ABSENT)),
        Picture("astronaut", folder / "astronaut.png", ("person", "the astronaut", ABSENT)),
    ]
    if scene.is_file():
        targets = json.loads(scene.with_suffix(".json").read_text(encoding="utf-8"))
        found.append(Picture("scene", scene, (*(target["phrase"] for target in targets), ABSENT)))
    for picture in found:
        if not picture.path.is_file():
            raise FileNotFoundError(f"{picture.path} is missing")
    return tuple(found)


def ask(client: Client, picture: Picture) -> Result:
    """Ask for all phrases of a picture: refined, coarse, and refined once more for the cache."""
    query = PhraseQuery(picture.phrases)
    refined = client.segment(picture.path, query)
    coarse = client.segment(picture.path, query, SegmentOptions(refine=RefineMode.NONE))
    return Result(picture, refined, coarse, client.segment(picture.path, query))


def phrase_table(results: Sequence[Result]) -> str:
    """One line per phrase: what was found, and what refinement changed."""
    rows = []
    for result in results:
        for index, phrase in enumerate(result.picture.phrases):
            refined, coarse = _region(result.refined, phrase), _region(result.coarse, phrase)
            if refined is None or coarse is None:
                nothing = result.refined.descriptors[index].no_target_score
                rows.append((result.picture.name, phrase, "", f"nothing there ({nothing:.2f})", "", ""))
                continue
            area = f"{coarse.area} -> {refined.area}" + ("" if refined.refined else " (coarse)")
            quality = ""
            if result.picture.name == CAT_PICTURE and phrase == "cat":
                quality = f"{_cat_iou(coarse):.2f} -> {_cat_iou(refined):.2f}"
            name = result.picture.name
            rows.append((name, phrase, f"{refined.score:.2f}", box_text(refined.box), area, quality))
    header = ("picture", "phrase", "score", "box", "pixels coarse -> refined", "IoU with outline")
    return table(header, rows, right=(2,))


def time_table(results: Sequence[Result]) -> str:
    """One line per picture: milliseconds per stage, all phrases together, and of the cached second call."""
    rows = []
    for result in results:
        timing = result.refined.timing
        stages = (timing.image_s, timing.generate_s, timing.decode_s, timing.refine_s, timing.total_s)
        cached = f"{result.again.timing.total_s * 1000:.1f}"
        if result.again.cache is not CacheOutcome.HIT:
            cached = f"{cached} ({result.again.cache})"
        cells = ("-" if stage is None else f"{stage * 1000:.0f}" for stage in stages)
        rows.append((result.picture.name, str(len(result.picture.phrases)), *cells, cached))
    header = ("picture", "phrases", "image ms", "generate", "decode", "refine", "total", "cached second call")
    return table(header, rows, right=range(1, 8))


def draw_pair(result: Result) -> NDArray[np.uint8]:
    """Coarse and refined overlay side by side, each under its title."""
    pixels = read_pixels(result.picture.path)
    scale = max(1, round(_WIDTH / pixels.shape[1]))
    panels = [
        _titled(draw_overlay(pixels, answer.regions, result.picture.phrases, scale), title)
        for answer, title in ((result.coarse, "coarse, as the model wrote it"), (result.refined, "refined"))
    ]
    gap = np.full((panels[0].shape[0], 12, 3), 255, np.uint8)
    return np.concatenate([panels[0], gap, panels[1]], axis=1)


def check_cat(results: Sequence[Result]) -> str | None:
    """What is wrong with the cat; None when it was found."""
    for result in results:
        if result.picture.name == CAT_PICTURE:
            region = _region(result.refined, "cat")
            if region is None:
                return "the cat was not found"
            return _wrong_with(region)
    return "no picture of the cat"


def _wrong_with(cat: Region) -> str | None:
    overlap = box_iou(cat.box, CAT_BOX)
    if overlap < _LEAST_IOU:
        return f"the box {box_text(cat.box)} misses the cat (IoU {overlap:.2f})"
    # The cat fills most of the picture, so a box says little: the mask must be the cat, and not everything.
    if cat.mask is None or _cat_iou(cat) < _LEAST_IOU:
        return f"the mask misses the cat (IoU {_cat_iou(cat):.2f})"
    spill = float(cat.mask[~_cat_outline(cat.mask.shape)].mean())
    if spill > _MOST_SPILL:
        return f"the mask covers {spill:.0%} of what is not the cat"
    return None


def _region(answer: SegmentAnswer, phrase: str) -> Region | None:
    return next((region for region in answer.regions if region.label == phrase), None)


def _cat_iou(region: Region) -> float:
    return 0.0 if region.mask is None else iou(region.mask, _cat_outline(region.mask.shape))


def _cat_outline(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    outline = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(outline).polygon(_CAT_OUTLINE, fill=1)
    return np.asarray(outline)


def _titled(panel: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    strip = Image.new("RGB", (panel.shape[1], 44), "white")
    ImageDraw.Draw(strip).text((8, 8), title, fill=(40, 40, 40), font=ImageFont.load_default(size=24))
    return np.concatenate([np.asarray(strip), panel])


if __name__ == "__main__":
    sys.exit(main())
