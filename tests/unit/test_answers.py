"""Answers as values: masks that wait as run lengths, comparison, and what is printed of them."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from text4seg.descriptors import Codec, DecodeReport, LabelGrid, encode
from text4seg.errors import InvalidInputError
from text4seg.masks import Box, Rle, box_of, check_rle, encode_rle
from text4seg.segmentation import (
    CacheOutcome,
    DescriptorResult,
    DetectAnswer,
    Detection,
    FinishReason,
    ImageContent,
    Region,
    SegmentAnswer,
    Timing,
    Versions,
    Warning_,
    WarningKind,
)

MASK = np.zeros((30, 45), np.bool_)
MASK[5:9, 10:40] = True
BARE = Region("the cat", None, None, Box(10, 5, 40, 9), 0.93123, 120)
WAITING = BARE.with_rle(encode_rle(MASK))


def test_run_lengths_are_decoded_once_and_only_when_the_mask_is_read() -> None:
    broken = BARE.with_rle(Rle((30, 45), "no run lengths"))
    assert broken.rle == Rle((30, 45), "no run lengths")
    assert "mask=bool[30, 45]" in repr(broken)
    with pytest.raises(InvalidInputError):
        _ = broken.mask
    region = BARE.with_rle(encode_rle(MASK))
    first = region.mask
    assert first is not None
    assert np.array_equal(first, MASK)
    assert region.mask is first


def test_a_mask_is_the_same_however_it_came() -> None:
    made = replace(BARE, mask=MASK)
    assert made == WAITING
    assert made.rle == WAITING.rle == encode_rle(MASK)
    assert WAITING != BARE
    assert BARE.with_rle(encode_rle(~MASK)) != WAITING
    assert BARE.rle is None


def test_a_replaced_mask_takes_its_run_lengths_along() -> None:
    other = np.roll(MASK, 3, axis=0)
    moved = replace(WAITING, mask=other, box=box_of(other))
    assert moved.rle == encode_rle(other)
    assert np.array_equal(replace(WAITING, score=0.1).mask, MASK)
    assert replace(WAITING, mask=None).rle is None


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda region: pickle.loads(pickle.dumps(region))]
)
@pytest.mark.parametrize("region", [BARE, WAITING, replace(BARE, mask=MASK)])
def test_regions_can_be_copied_and_sent_to_other_processes(region: Region, copied: object) -> None:
    assert copied(region) == region  # type: ignore[operator]


def test_run_lengths_are_checked_without_decoding_them() -> None:
    check_rle(encode_rle(MASK))
    for rle in (Rle((30, 45), "1"), Rle((0, 45), "0"), Rle((1 << 20, 1 << 20), "0")):
        with pytest.raises(InvalidInputError):
            check_rle(rle)


def test_a_region_is_printed_in_short() -> None:
    assert repr(BARE) == "Region(label='the cat', score=0.931, box=(10, 5, 40, 9), area=120)"
    assert repr(WAITING) == (
        "Region(label='the cat', score=0.931, box=(10, 5, 40, 9), area=120, mask=bool[30, 45])"
    )
    full = replace(
        BARE,
        mask=MASK,
        grid_mask=np.ones((4, 4), np.bool_),
        confidence=np.zeros((4, 4), np.float32),
        refined=True,
        refine_score=0.5,
    )
    assert repr(full) == (
        "Region(label='the cat', score=0.931, box=(10, 5, 40, 9), area=120, mask=bool[30, 45], "
        "grid_mask=bool[4, 4], confidence=float32[4, 4], refined=True, refine_score=0.5)"
    )


def test_answers_are_printed_in_short() -> None:
    grid = LabelGrid.from_mask(np.ones((4, 4), np.bool_), "the cat")
    descriptor = DescriptorResult(
        "the cat", encode(grid, Codec.RRLE), grid, DecodeReport((), (), False), FinishReason.STOP, 0.02
    )
    assert repr(descriptor) == (
        "DescriptorResult(phrase='the cat', grid=4x4, labels=('the cat',), repairs=0, finish_reason=stop, "
        "no_target_score=0.02)"
    )
    answer = SegmentAnswer(
        (WAITING,) * 7,
        (descriptor,),
        (30, 45),
        0.02,
        Timing(0.4123),
        CacheOutcome.MISS,
        Versions(),
        (Warning_(WarningKind.REFINER_FAILED, "why"),),
    )
    assert repr(answer) == (
        "SegmentAnswer(regions=['the cat' 0.931, 'the cat' 0.931, 'the cat' 0.931, 'the cat' 0.931, "
        "'the cat' 0.931, ... 2 more], image_size=(30, 45), no_target_score=0.02, total_s=0.412, cache=miss, "
        "warnings=['refiner_failed'])"
    )
    found = DetectAnswer(
        (Detection("dog", Box(0, 0, 1, 1), 0.5),), (30, 45), 0.5, Timing(1.0), CacheOutcome.HIT, Versions()
    )
    assert repr(found) == (
        "DetectAnswer(detections=['dog' 0.5], image_size=(30, 45), no_target_score=0.5, total_s=1, cache=hit)"
    )
    assert repr(ImageContent(b"x" * 1000)) == "ImageContent(1000 bytes)"
