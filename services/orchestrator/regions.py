"""From the text that the model wrote to regions of the image: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from text4seg.descriptors import decode_answer
from text4seg.errors import DescriptorMalformedError, ImageInvalidError, InternalError
from text4seg.masks import Box, box_of, mask_area, split_instances, upsample
from text4seg.scores import (
    Calibration,
    TokenLogprob,
    label_probabilities,
    no_target_score,
    patch_probabilities,
    region_score,
)
from text4seg.segmentation import (
    DescriptorResult,
    FinishReason,
    GeneratorInfo,
    Region,
    SegmentOptions,
    TextChunk,
    Warning_,
    WarningKind,
)

MAX_REGION_PIXELS = 1 << 29
"""Pixels of all full-size masks of one answer together, at most: half a gigabyte while it is made."""


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote, or one block of it.

    Attributes:
        text: the characters.
        tokens: their log-probabilities; offsets count characters of the text.
        finish_reason: why the model stopped.
    """

    text: str
    tokens: tuple[TokenLogprob, ...]
    finish_reason: FinishReason

    @classmethod
    def of(cls, chunks: Sequence[TextChunk]) -> Written:
        """Join the chunks of an answer.

        Raises:
            InternalError: the last chunk has no finish: the stream broke off.
        """
        if not chunks or (finish := chunks[-1].finish) is None:
            raise InternalError("the generator's answer ended without its finish")
        return cls(
            text="".join(chunk.text for chunk in chunks),
            tokens=tuple(token for chunk in chunks for token in chunk.logprobs),
            finish_reason=finish.reason,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """A decoded answer.

    Attributes:
        result: the descriptor.
        probabilities: float64 [rows, cols], that each cell carries the label it was given.
        calibrated: the same, as far as they can be believed.
        calibration: of region scores.
    """

    result: DescriptorResult
    probabilities: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    calibration: Calibration


def read_answer(
    written: Written,
    phrase: str,
    labels: Sequence[str] | None,
    generator: GeneratorInfo,
    *,
    strict: bool = False,
) -> Reading:
    """Decode what the model wrote.

    Args:
        written: the whole answer, or one of its blocks with its tags.
        phrase: the phrase that was asked for, if any.
        labels: the labels that were allowed besides "others"; None: any.
        generator: the model, for its grid, codec and calibration.
        strict: refuse text that can only be read with repairs that may change the grid.

    Raises:
        DescriptorMalformedError: in strict mode, with the place of the first such repair.
    """
    decoding = decode_answer(written.text, generator.shape, labels, generator.codec)
    if strict and decoding.report.lossy:
        first = decoding.report.lossy[0]
        raise DescriptorMalformedError(first.detail, first.row, first.column)
    probabilities = patch_probabilities(decoding, written.tokens)
    result = DescriptorResult(
        phrase=phrase,
        text=written.text,
        grid=decoding.grid,
        report=decoding.report,
        finish_reason=written.finish_reason,
        no_target_score=no_target_score(decoding.grid, probabilities, generator.calibration.nothing),
    )
    calibrated = patch_probabilities(decoding, written.tokens, generator.calibration.cells)
    return Reading(result, probabilities, calibrated, generator.calibration.regions)


def coarse_regions(
    reading: Reading,
    labels: Sequence[str] | None,
    size: tuple[int, int],
    options: SegmentOptions,
    *,
    held: int = 0,
) -> tuple[Region, ...]:
    """Return the regions of a decoded answer, their masks upsampled to the image by nearest cells.

    Args:
        reading: the answer.
        labels: the order of the labels; None: by falling score.
        size: (height, width) of the image in pixels.
        options: min_score and split_instances apply.
        held: regions that the answer has already.

    Returns:
        In the order of the labels, regions of one label by falling score; all with confidence maps.

    Raises:
        ImageInvalidError: image and number of regions are too large together.
    """
    grid = reading.result.grid
    pieces: list[tuple[str, NDArray[np.bool_], float]] = []
    for label in grid.present if labels is None else [one for one in labels if one in grid.present]:
        cells = grid.mask(label)
        parts = split_instances(cells) if options.split_instances else (cells,)
        foreground = label_probabilities(grid, reading.probabilities, label)
        scored = [(label, part, region_score(foreground, part, cells, reading.calibration)) for part in parts]
        pieces += sorted(scored, key=_falling)
    if labels is None:
        pieces.sort(key=_falling)
    pieces = [piece for piece in pieces if piece[2] >= options.min_score]
    if (held + len(pieces)) * size[0] * size[1] > MAX_REGION_PIXELS:
        why = f"{held + len(pieces)} masks of {size[0]}x{size[1]} pixels are too much for one answer"
        raise ImageInvalidError("image", f"{why}: send a smaller image, or ask for less at a time")
    confidence = {
        label: label_probabilities(grid, reading.calibrated, label).astype(np.float32)
        for label in {label for label, _, _ in pieces}
    }
    return tuple(
        _coarse_region(label, cells, size, score, options.split_instances, confidence[label])
        for label, cells, score in pieces
    )


def coarse_again(region: Region, size: tuple[int, int]) -> Region:
    """Return a region as it was before refinement, its mask upsampled from the grid to (height, width)."""
    if region.grid_mask is None:
        raise InternalError("a region has lost its coarse mask")
    return _coarse_region(region.label, region.grid_mask, size, region.score, region.split, region.confidence)


def shown(region: Region, options: SegmentOptions) -> Region:
    """Return a region without what the caller did not ask for."""
    return region if options.confidence_map else replace(region, confidence=None)


def repair_warnings(results: Iterable[DescriptorResult]) -> tuple[Warning_, ...]:
    """Return a warning for every descriptor that was cut off, or whose repairs may have changed its grid."""
    warnings: list[Warning_] = []
    for result in results:
        subject = f"the description of {result.phrase!r}" if result.phrase else "the description"
        repairs = result.report.lossy
        if result.finish_reason is FinishReason.LENGTH:
            message = f"{subject} was cut off at the limit of tokens"
        elif repairs:
            more = f" and {len(repairs) - 1} more" if len(repairs) > 1 else ""
            message = f"{subject} had to be repaired: {repairs[0].detail}{more}"
        else:
            continue
        warnings.append(Warning_(WarningKind.DESCRIPTOR_REPAIRED, message))
    return tuple(warnings)


def _coarse_region(
    label: str,
    cells: NDArray[np.bool_],
    size: tuple[int, int],
    score: float,
    split: bool,
    confidence: NDArray[np.float32] | None,
) -> Region:
    mask = upsample(cells, size)
    box = box_of(mask)
    if box is None:
        # An image with fewer pixels than the grid has cells: no pixel's centre lies in these. One stands in.
        row, column = (int(axis.mean()) for axis in np.nonzero(cells))
        y, x = row * size[0] // cells.shape[0], column * size[1] // cells.shape[1]
        mask[y, x] = True
        box = Box(x, y, x + 1, y + 1)
    return Region(
        label=label,
        mask=mask,
        grid_mask=cells,
        box=box,
        score=score,
        area=mask_area(mask),
        split=split,
        confidence=confidence,
    )


def _falling(piece: tuple[str, NDArray[np.bool_], float]) -> float:
    return -piece[2]
