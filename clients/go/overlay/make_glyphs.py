"""Writes ``glyphs.gz``: the tags' letters as Pillow draws them, so that overlays of both clients are equal.

Go has no FreeType, and another rasterizer would draw other pixels. The font is the one that Pillow carries,
Aileron Regular (CC0), which has 114 characters besides the sign for all others, at the sizes that tags can
have.

Run it in an environment with the pinned Pillow: ``python clients/go/overlay/make_glyphs.py``.
"""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FIRST_SIZE, LAST_SIZE = 11, 48
# What the font has; the last stands for every character that it lacks.
CHARACTERS = [*map(chr, range(0x20, 0x7F)), *"\xa0©«°±´·»‘’“”…‹›⁄™ﬁﬂ", "\U0010ffff"]
FILE = Path(__file__).with_name("glyphs.gz")
ORIGIN = 64


def atlas() -> bytes:
    """The file's content: for each size the tag's measures, its corner and all glyphs; see glyphs.go."""
    return b"".join(_sheet(size) for size in range(FIRST_SIZE, LAST_SIZE + 1))


def _sheet(size: int) -> bytes:
    font = ImageFont.load_default(size=size)
    _, line_top, _, line_bottom = font.getbbox("Ag|")
    margin = max(2, round(size / 3.5))
    head = struct.pack(">BBbbH", size, margin, int(line_top), int(line_bottom), len(CHARACTERS))
    return head + _corner(margin) + b"".join(_glyph(font, character) for character in CHARACTERS)


def _corner(margin: int) -> bytes:
    """Upper left corner of a rounded rectangle: 0 outside, 1 outline, 2 inside, one byte per pixel."""
    side = 6 * margin
    image = Image.new("L", (side, side), 0)
    ImageDraw.Draw(image).rounded_rectangle((0, 0, side - 1, side - 1), radius=margin, fill=2, outline=1)
    return image.crop((0, 0, margin + 1, margin + 1)).tobytes()


def _glyph(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, character: str) -> bytes:
    left, top, right, bottom = font.getbbox(character)
    image = Image.new("L", (3 * ORIGIN, 3 * ORIGIN), 0)
    ImageDraw.Draw(image).text((ORIGIN, ORIGIN), character, font=font, fill=255)
    ink = image.getbbox() or (ORIGIN, ORIGIN, ORIGIN, ORIGIN)
    measures = (font.getlength(character), left, top, right, bottom, ink[0] - ORIGIN, ink[1] - ORIGIN)
    extent = (ink[2] - ink[0], ink[3] - ink[1])
    return struct.pack(">I7bBB", ord(character), *map(int, measures), *extent) + image.crop(ink).tobytes()


if __name__ == "__main__":
    FILE.write_bytes(gzip.compress(atlas(), 9, mtime=0))
    sys.stdout.write(f"{FILE}: {FILE.stat().st_size} bytes\n")
