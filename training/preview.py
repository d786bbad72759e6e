"""A contact sheet: samples drawn as they are, beside what their written answers say."""

from __future__ import annotations

import colorsys
import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from text4seg.descriptors import LabelGrid, decode_answer
from text4seg.masks import upsample
from training.datasets.layout import DatasetError
from training.datasets.sample import Sample
from training.instructions import Conversation, Style

SIDE = 340
"""Width and greatest height of one panel, in pixels."""
COLUMNS = 2
GAP = 8
FONT = 12
LINE = 15
FILL = 0.5
WIDE = 104
"""Characters in a line of text below two panels."""
LINES = 7
"""Lines of text below two panels, at most."""

Colour = tuple[int, int, int]


def contact_sheet(pairs: Sequence[tuple[Sample, Conversation]], style: Style) -> Image.Image:
    """Draw samples, two in a row: the marked pixels on the left, the answer's cells on the right.

    The right panel is decoded from the text that would be trained on, so that it shows what a model learns.

    Raises:
        DatasetError: an image cannot be read.
    """
    tiles = [_tile(sample, conversation, style) for sample, conversation in pairs]
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    heights = [max(tile.height for tile in row) for row in rows]
    width = COLUMNS * (2 * SIDE + GAP) + (COLUMNS + 1) * GAP
    sheet = Image.new("RGB", (width, sum(heights) + GAP * (len(rows) + 1)), "white")
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (GAP + column * (2 * SIDE + 2 * GAP), top))
        top += height + GAP
    return sheet


def _tile(sample: Sample, conversation: Conversation, style: Style) -> Image.Image:
    pixels = _pixels(sample, conversation)
    names = sample.labels
    colours = {name: _colour(index) for index, name in enumerate(names)}
    left = _fit(_drawn(pixels, sample, conversation, colours))
    right = _fit(_written(pixels, conversation, style, names))
    lines = _lines(conversation)
    tile = Image.new("RGB", (2 * SIDE + GAP, left.height + GAP + LINE * (len(lines) + 1)), "white")
    tile.paste(left, (0, 0))
    tile.paste(right, (SIDE + GAP, 0))
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(FONT)
    column, top = 0, left.height + 4
    for index, (name, colour) in enumerate(colours.items()):
        shown = textwrap.shorten(name, 40, placeholder="...")
        if not sample.mask(index).any():
            shown += " (nothing)"
        length = int(draw.textlength(shown, font=font)) + 22
        if column + length > tile.width:
            break
        draw.rectangle((column, top + 2, column + 10, top + 12), fill=colour)
        draw.text((column + 14, top), shown, fill="black", font=font)
        column += length
    for number, line in enumerate(lines, start=1):
        draw.text((0, top + number * LINE), line, fill="black", font=font)
    return tile


def _pixels(sample: Sample, conversation: Conversation) -> NDArray[np.uint8]:
    try:
        with Image.open(sample.image) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise DatasetError(f"{sample.image} cannot be read as an image: {error}") from error
    crop = conversation.crop
    return pixels if crop is None else pixels[crop.y0 : crop.y1, crop.x0 : crop.x1]


def _drawn(
    pixels: NDArray[np.uint8], sample: Sample, conversation: Conversation, colours: dict[str, Colour]
) -> NDArray[np.uint8]:
    painted = pixels.copy()
    crop = conversation.crop
    for index, name in enumerate(sample.labels):
        mask = sample.mask(index)
        shown = mask if crop is None else mask[crop.y0 : crop.y1, crop.x0 : crop.x1]
        _paint(painted, shown, colours[name])
    return painted


def _written(
    pixels: NDArray[np.uint8], conversation: Conversation, style: Style, names: Sequence[str]
) -> NDArray[np.uint8]:
    painted = pixels.copy()
    if conversation.grid is None:
        return painted
    grid = decode_answer(conversation.messages[-1].text, style.grid, codec=style.codec).grid
    order = {" ".join(name.lower().split()): index for index, name in enumerate(names)}
    for label in grid.present:
        colour = _colour(order.get(label, len(names)))
        _paint(painted, upsample(grid.mask(label), (pixels.shape[0], pixels.shape[1])), colour)
    _rule(painted, grid)
    return painted


def _paint(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], colour: Colour) -> None:
    blended = (1 - FILL) * pixels[mask] + FILL * np.array(colour)
    pixels[mask] = blended.astype(np.uint8)


def _rule(pixels: NDArray[np.uint8], grid: LabelGrid) -> None:
    """Draw the borders of the grid's cells."""
    height, width = pixels.shape[:2]
    rows, cols = grid.shape
    at_row = [row * height // rows for row in range(1, rows)]
    at_column = [column * width // cols for column in range(1, cols)]
    pixels[at_row] = (0.65 * pixels[at_row] + 0.35 * 255).astype(np.uint8)
    pixels[:, at_column] = (0.65 * pixels[:, at_column] + 0.35 * 255).astype(np.uint8)


def _fit(pixels: NDArray[np.uint8]) -> Image.Image:
    """Scale to the panel's width, or its height if the image is tall."""
    picture = Image.fromarray(pixels)
    scale = SIDE / max(picture.size)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def _colour(index: int) -> Colour:
    """Return bright colours far from each other: steps of the golden angle round the colour circle."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + index * 0.381966) % 1, 0.9, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _lines(conversation: Conversation) -> list[str]:
    lines = [f"{conversation.id}  [{conversation.kind}{', cropped' if conversation.crop else ''}]"]
    for message in conversation.messages:
        text = message.text.split("\n<seg>")[0]
        mark = "Q" if message.role == "user" else "A"
        lines += textwrap.wrap(f"{mark}: {text}", WIDE)
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], "..."]
    return lines
