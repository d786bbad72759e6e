"""One tile of one size: how an image processor of transformers is kept to that, in training and serving.

Nothing is imported: a processor is looked at and set by its attributes.
"""

from __future__ import annotations

from typing import Any

_TILING_SWITCHES = ("do_image_splitting", "crop_to_patches", "do_pan_and_scan")
_PADDING_SWITCH = "do_pad"
_BICUBIC = 3
"""PIL's and transformers' number of the filter."""


def processor_size(image_processor: Any) -> tuple[int, int] | None:
    """Return the (height, width) in pixels that an image processor makes of an image; None: any size."""
    for name in ("crop_size", "size"):
        size = getattr(image_processor, name, None)
        sides = {} if size is None else dict(size)
        if sides.get("height") and sides.get("width"):
            return int(sides["height"]), int(sides["width"])
        if sides.get("shortest_edge") and not sides.get("longest_edge"):
            return int(sides["shortest_edge"]), int(sides["shortest_edge"])
    return None


def keep_one_tile(image_processor: Any, image_size: tuple[int, int] | None) -> None:
    """Stop an image processor from cutting images into tiles, and from padding them.

    Args:
        image_processor: it is changed.
        image_size: (height, width) in pixels that images are squashed to before.
    """
    # A square stays as it is when padded; DeepSeek-VL's processor for 7B (5.23) fails without the step.
    square = image_size is not None and image_size[0] == image_size[1]
    for switch in (*_TILING_SWITCHES, *([] if square else [_PADDING_SWITCH])):
        if getattr(image_processor, switch, None):
            setattr(image_processor, switch, False)


def resampling(image_processor: Any) -> int:
    """Return the number of the filter that an image processor resizes with; bicubic when it names none."""
    resample = getattr(image_processor, "resample", None)
    return _BICUBIC if resample is None else int(resample)
