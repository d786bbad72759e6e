"""Pictures of answers beside the truth."""

import colorsys
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from text4seg.masks import Box
from training.datasets.sample import Sample, Task
from training.judging.record import NONE, Record
from training.judging.suites import answered_classes, true_classes
from training.judging.variants import COARSE, DETECT, Judged, true_box, true_mask

Mask = NDArray[np.bool_]
Colour: TypeAlias = tuple[int, int, int]

# Told apart by people who do not see colours as most do, and all of them bright enough on a photograph.
RIGHT: Colour = (30, 144, 255)
TOO_MUCH: Colour = (255, 140, 0)
MISSED: Colour = (214, 39, 190)
BACKGROUND: Colour = (40, 40, 40)

SIDE = 300
"""Longest side of one panel, in pixels."""
TITLE = 22
GAP = 6
FILL = 0.55


def read_picture(sample: Sample) -> NDArray[np.uint8]:
    """Return the pixels as stored, uint8 RGB [height, width, 3].

    Raises:
        OSError: the file is missing or no picture.
    """
    with Image.open(sample.image) as picture:
        return np.asarray(picture.convert("RGB"))


def case_picture(record: Record, others: Sequence[Record] = ()) -> Image.Image:
    """Draw the truth beside what was answered, coarse and refined.

    Args:
        record: What to draw.
        others: Records of the same sample with other refiners, whose masks go beside it.

    Raises:
        OSError: the picture cannot be read.
        ValueError: the record has no answer.
    """
    if record.answer is None:
        raise ValueError("there is no answer to draw")
    pixels = read_picture(record.sample)
    if record.sample.task is Task.DIALOGUE:
        return _panels([("", pixels)])
    if record.call == DETECT:
        return _panels([("truth", _boxes(pixels, record, truth=True)), ("Detect", _boxes(pixels, record))])
    answers = [("as the model wrote it", Judged(record, record.answer, COARSE))]
    for other in (record, *others):
        if other.refiner != NONE and other.answer is not None:
            answers.append((other.refiner, Judged(other, other.answer, other.refiner)))
    if record.sample.task is Task.SEMANTIC:
        classes = record.sample.vocabulary or record.sample.labels
        truth = true_classes(record.sample, classes)
        drawn = [
            ("truth", truth),
            *((title, answered_classes(judged, classes)) for title, judged in answers),
        ]
        return _panels(
            [
                ("picture", pixels),
                *((title, _coloured(pixels, numbers, classes)) for title, numbers in drawn),
            ]
        )
    truth_mask = true_mask(record.sample)
    shown = tinted(pixels, [(truth_mask, RIGHT)])
    return _panels(
        [
            ("truth" if truth_mask.any() else "truth: nothing", shown),
            *((title, compared(pixels, judged.mask(), truth_mask)) for title, judged in answers),
        ]
    )


def compared(pixels: NDArray[np.uint8], mask: Mask, truth: Mask) -> NDArray[np.uint8]:
    """Tint what is right, what is too much, and what was missed.

    Args:
        pixels: uint8 RGB [height, width, 3].
        mask: What was answered, bool [height, width].
        truth: The true mask, of the same shape.
    """
    return tinted(pixels, [(mask & truth, RIGHT), (mask & ~truth, TOO_MUCH), (truth & ~mask, MISSED)])


def tinted(pixels: NDArray[np.uint8], layers: Sequence[tuple[Mask, Colour]]) -> NDArray[np.uint8]:
    """Blend colours into masks; what no mask covers is dimmed, so that colours show on bright skies too."""
    canvas = pixels.astype(np.float32)
    covered = np.zeros(pixels.shape[:2], bool)
    for mask, colour in layers:
        canvas[mask] += FILL * (np.array(colour, np.float32) - canvas[mask])
        covered |= mask
    if covered.any():
        canvas[~covered] *= 0.75
    return canvas.round().astype(np.uint8)


def class_colour(number: int) -> Colour:
    """Return the colour of a class by its place in the vocabulary: neighbours differ in hue."""
    hue = number * 0.618034 % 1  # the golden ratio spreads any number of hues evenly
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.9, 0.6)[number % 2], (1.0, 0.85)[number // 2 % 2])
    return round(red * 255), round(green * 255), round(blue * 255)


def shown_classes(record: Record) -> list[tuple[str, Colour]]:
    """Return the classes in the truth or in the answer of a semantic sample, with their colours."""
    if record.answer is None:
        return []
    classes = record.sample.vocabulary or record.sample.labels
    variant = COARSE if record.refiner == NONE else record.refiner
    answered = answered_classes(Judged(record, record.answer, variant), classes)
    seen = np.union1d(np.unique(answered), np.unique(true_classes(record.sample, classes)))
    return [(classes[number], class_colour(number)) for number in seen.tolist() if 0 <= number < len(classes)]


def _coloured(
    pixels: NDArray[np.uint8], numbers: NDArray[np.int64], classes: Sequence[str]
) -> NDArray[np.uint8]:
    layers = [
        (numbers == number, class_colour(number))
        for number in np.unique(numbers).tolist()
        if 0 <= number < len(classes)
    ]
    wrong = numbers == -1
    return tinted(pixels, [*layers, (wrong, BACKGROUND)] if wrong.any() else layers)


def _boxes(pixels: NDArray[np.uint8], record: Record, *, truth: bool = False) -> NDArray[np.uint8]:
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    line = max(2, round(min(picture.size) / 120))
    right = true_box(record.sample)
    if not truth and record.answer is not None:
        for found in record.answer.found:
            _box(draw, found.box, TOO_MUCH, line)
    if right is not None:
        _box(draw, right, RIGHT, line)
    return np.asarray(picture)


def _box(draw: ImageDraw.ImageDraw, box: Box, colour: Colour, line: int) -> None:
    draw.rectangle(
        (box.x0, box.y0, max(box.x1 - 1, box.x0), max(box.y1 - 1, box.y0)), outline=colour, width=line
    )


def _panels(panels: Sequence[tuple[str, NDArray[np.uint8]]]) -> Image.Image:
    """Lay pictures of one size side by side, each under its title."""
    height, width = panels[0][1].shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    sheet = Image.new("RGB", ((size[0] + GAP) * len(panels) - GAP, size[1] + TITLE), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for place, (title, pixels) in enumerate(panels):
        left = place * (size[0] + GAP)
        draw.text((left + 2, 3), title, fill=(60, 60, 60), font=font)
        sheet.paste(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS), (left, TITLE))
    return sheet
