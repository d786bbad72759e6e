"""Draw regions and boxes over a photograph: translucent colour, crisp contour, tags inside the picture."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

# Picked to stay apart from each other and from skin, foliage and sky; drawn in this order.
_PALETTE: tuple[Colour, ...] = (
    (30, 144, 255),
    (255, 72, 96),
    (255, 184, 0),
    (46, 204, 113),
    (168, 98, 245),
    (0, 206, 209),
    (255, 122, 41),
    (255, 120, 200),
    (176, 214, 40),
    (92, 100, 255),
    (205, 140, 90),
    (230, 230, 230),
)
# The palette again, darker and then paler: (grey to move towards, how far).
_SHADES = ((0, 0.0), (0, 0.45), (255, 0.6))
_FILL = 0.38
_MOST_RIM_WORK = 50_000_000


class Mark(Protocol):
    """What can be drawn: a region or a detection of an answer."""

    @property
    def label(self) -> str:
        """Name written on the tag."""

    @property
    def score(self) -> float:
        """Confidence written on the tag, 0 to 1."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """XYXY, half-open, pixels of the image."""


class _Rectangle(NamedTuple):
    x0: int
    y0: int
    x1: int
    y1: int

    def overlap(self, other: "_Rectangle") -> int:
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(width, 0) * max(height, 0)


def colour_of(index: int) -> Colour:
    """Colour of the label with this index: always the same one, and unlike those of the 35 next labels.

    Args:
        index: position of the label in the query, 0-based.

    Returns:
        Red, green and blue, 0 to 255.
    """
    round_, place = divmod(index, len(_PALETTE))
    target, share = _SHADES[round_ % len(_SHADES)]
    red, green, blue = (round(channel + (target - channel) * share) for channel in _PALETTE[place])
    return red, green, blue


def draw_overlay(
    image: NDArray[np.uint8],
    marks: Sequence[Mark],
    labels: Iterable[str] = (),
    scale: int = 1,
) -> NDArray[np.uint8]:
    """Draw what was found over the image it was found in.

    Regions are tinted, larger ones first so that small ones stay visible; marks without a mask get their
    box outlined.

    Args:
        image: uint8 RGB [height, width, 3].
        marks: regions (with a bool mask [height, width] or None) or detections, in pixels of the image.
        labels: labels in the order of the query. Gives each label its colour; labels that are not listed
            follow in the order of the marks.
        scale: whole factor by which the picture is enlarged, so that tags on a small image can be read.

    Returns:
        A new uint8 RGB array [height * scale, width * scale, 3]; `image` stays as it was.

    Raises:
        ValueError: the image is not uint8 [height, width, 3], or a mask has another size than the image.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be uint8 [height, width, 3], not {image.dtype} {list(image.shape)}")
    index_of = {label: i for i, label in enumerate(dict.fromkeys((*labels, *(mark.label for mark in marks))))}
    height, width = image.shape[:2]
    enlarged = Image.fromarray(image).resize((width * scale, height * scale), Image.Resampling.LANCZOS)
    canvas = np.asarray(enlarged).astype(np.float32)
    line = max(1, round(min(canvas.shape[:2]) / 240))
    for mark in sorted(marks, key=_extent, reverse=True):
        mask = _mask_of(mark)
        if mask is None:
            continue
        if mask.shape != (height, width):
            raise ValueError(f"the mask of {mark.label!r} is {list(mask.shape)}, the image {[height, width]}")
        _tint(canvas, _enlarge(mask, scale), colour_of(index_of[mark.label]), line)
    picture = Image.fromarray(canvas.round().astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for mark in marks:
        if _mask_of(mark) is None:
            _outline(draw, _scaled(mark.box, scale), colour_of(index_of[mark.label]), line)
    _draw_tags(draw, picture.size, marks, index_of, scale)
    return np.asarray(picture)


def _mask_of(mark: Mark) -> NDArray[np.bool_] | None:
    mask: NDArray[np.bool_] | None = getattr(mark, "mask", None)
    return mask


def _extent(mark: Mark) -> int:
    mask = _mask_of(mark)
    x0, y0, x1, y1 = mark.box
    return int(mask.sum()) if mask is not None else (x1 - x0) * (y1 - y0)


def _scaled(box: tuple[int, int, int, int], scale: int) -> _Rectangle:
    return _Rectangle(*(side * scale for side in box))


def _enlarge(mask: NDArray[np.bool_], scale: int) -> NDArray[np.bool_]:
    if scale == 1:
        return mask
    size = (mask.shape[1] * scale, mask.shape[0] * scale)
    smooth = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(smooth) > 127


def _tint(canvas: NDArray[np.float32], mask: NDArray[np.bool_], colour: Colour, line: int) -> None:
    """Blend the colour into the mask, with an opaque rim inside it and a dark hairline around it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return
    border = line + 2
    window = (
        slice(max(0, rows[0] - border), rows[-1] + 1 + border),
        slice(max(0, columns[0] - border), columns[-1] + 1 + border),
    )
    view, inside = canvas[window], mask[window]
    edge = inside & ~_eroded(inside)
    hairline = ~inside & _widened(edge, max(1, line // 2))
    _blend(view, np.zeros(3, np.float32), _soften(hairline) * np.float32(0.6))
    rim = _soften(inside & _widened(edge, line - 1))
    _blend(view, np.asarray(colour, np.float32), np.maximum(rim, inside * np.float32(_FILL)))


def _blend(view: NDArray[np.float32], paint: NDArray[np.float32], alpha: NDArray[np.float32]) -> None:
    view += alpha[..., None] * (paint - view)


def _soften(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean over 3x3 pixels, stretched so that a one-pixel line stays opaque: a cheap antialiasing."""
    padded = np.pad(mask.astype(np.float32), 1, mode="edge")
    columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    mean = (columns[:-2] + 2 * columns[1:-1] + columns[2:]) / 16
    soft: NDArray[np.float32] = np.minimum(mean * np.float32(1.6), np.float32(1.0))
    return soft


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Take off the outermost pixels (4-neighbours); the picture's edge is no edge of the mask."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1]
    eroded: NDArray[np.bool_] = inner & padded[1:-1, :-2] & padded[1:-1, 2:]
    return eroded


def _widened(line: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """All pixels within `radius` of the line; just the line where it is most of the picture."""
    rows, columns = np.nonzero(line)
    steps = range(-radius, radius + 1)
    disc = [(down, right) for down in steps for right in steps if down**2 + right**2 <= radius**2]
    if rows.size * len(disc) > _MOST_RIM_WORK:
        return line
    height, width = line.shape
    wide = np.zeros((height + 2 * radius, width + 2 * radius), np.bool_)
    for down, right in disc:
        wide[rows + (radius + down), columns + (radius + right)] = True
    return wide[radius : radius + height, radius : radius + width]


def _outline(draw: ImageDraw.ImageDraw, box: _Rectangle, colour: Colour, line: int) -> None:
    if box.x1 <= box.x0 or box.y1 <= box.y0:
        return
    draw.rectangle((box.x0, box.y0, box.x1 - 1, box.y1 - 1), outline=(20, 20, 20), width=line + 2)
    inner = (box.x0 + 1, box.y0 + 1, box.x1 - 2, box.y1 - 2)
    if inner[2] >= inner[0] and inner[3] >= inner[1]:
        draw.rectangle(inner, outline=colour, width=line + 1)


def _draw_tags(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    marks: Sequence[Mark],
    index_of: dict[str, int],
    scale: int,
) -> None:
    width, height = size
    font = ImageFont.load_default(size=min(max(11, round(min(size) / 30)), 48))
    margin = max(2, round(getattr(font, "size", 11) / 3.5))
    placed: list[_Rectangle] = []
    for mark in marks:
        text = _fit(f"{mark.label} {mark.score:.2f}", font, width - 2 * margin)
        left, top, right, bottom = font.getbbox(text)
        # The height of a tag does not depend on which letters the label happens to have.
        line_top, line_bottom = font.getbbox("Ag|")[1::2]
        tag_width = round(right - left) + 2 * margin
        tag_height = round(max(bottom, line_bottom) - min(top, line_top)) + 2 * margin
        tag = _place(_scaled(mark.box, scale), (tag_width, tag_height), (width, height), placed)
        placed.append(tag)
        colour = colour_of(index_of[mark.label])
        draw.rounded_rectangle(
            (tag.x0, tag.y0, tag.x1 - 1, tag.y1 - 1), radius=margin, fill=colour, outline=(20, 20, 20)
        )
        ink = (15, 15, 15) if _luminance(colour) > 0.22 else (255, 255, 255)
        draw.text((tag.x0 + margin - left, tag.y0 + margin - min(top, line_top)), text, font=font, fill=ink)


def _fit(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: int) -> str:
    """Shorten the label, not the score, until the text fits."""
    if font.getlength(text) <= width:
        return text
    label, _, score = text.rpartition(" ")
    for keep in range(len(label) - 1, 0, -1):
        shorter = f"{label[:keep].rstrip()}… {score}"
        if font.getlength(shorter) <= width:
            return shorter
    return score


def _place(
    box: _Rectangle, tag: tuple[int, int], size: tuple[int, int], placed: Sequence[_Rectangle]
) -> _Rectangle:
    """Put the tag by its box, inside the picture, where it hides the fewest other tags.

    The first of the usual places that is free wins: above the box, inside its top, below it, then rows
    further down.
    """
    tag_width, tag_height = tag
    width, height = size
    tops = [box.y0 - tag_height, box.y0 + 2, box.y1, *range(box.y0 + 2 + tag_height, height, tag_height)]
    candidates = [(left, top) for top in tops for left in (box.x0, box.x1 - tag_width)]
    rectangles = [
        _Rectangle(left, top, left + tag_width, top + tag_height)
        for left, top in (
            (max(0, min(left, width - tag_width)), max(0, min(top, height - tag_height)))
            for left, top in candidates
        )
    ]
    return min(rectangles, key=lambda rectangle: sum(rectangle.overlap(other) for other in placed))


def _luminance(colour: Colour) -> float:
    """Relative luminance after WCAG 2.1, 0 to 1."""
    linear = [
        (channel / 12.92) if channel <= 0.03928 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in (value / 255 for value in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
