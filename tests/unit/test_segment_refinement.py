"""Putting refined masks in the place of coarse ones: properties of the pure function."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from services.orchestrator.refinement import merge_refined
from tests.orchestrator_fakes import assert_same
from text4seg.masks import box_of, mask_area
from text4seg.segmentation import RefinedMask, Region

SIZE = (6, 7)


def region(mask: NDArray[np.bool_], score: float, label: str) -> Region:
    box = box_of(mask)
    assert box is not None
    return Region(label, mask, mask, box, score, mask_area(mask))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Region], list[RefinedMask]]:
    masks = arrays(np.bool_, SIZE).filter(lambda mask: bool(mask.any()))
    count = draw(st.integers(1, 5))
    scores = st.floats(0, 1, width=32)
    regions = [region(draw(masks), draw(scores), str(number)) for number in range(count)]
    refined = [RefinedMask(draw(arrays(np.bool_, SIZE)), draw(scores), draw(scores)) for _ in range(count)]
    return regions, refined


@given(cases())
def test_exclusive_regions_share_no_pixel_and_lose_none(case: tuple[list[Region], list[RefinedMask]]) -> None:
    regions, refined = case
    overlapping, _ = merge_refined(regions, refined, 0.3, exclusive=False)
    parted, warnings = merge_refined(regions, refined, 0.3, exclusive=True)
    claims = np.zeros(SIZE, int)
    for one in parted:
        assert one.mask is not None
        assert one.box == box_of(one.mask)
        assert one.area == mask_area(one.mask) > 0
        claims += one.mask
    assert claims.max() <= 1
    wanted = np.zeros(SIZE, bool)
    for one in overlapping:
        assert one.mask is not None
        wanted |= one.mask
    assert_same(claims > 0, wanted)
    labels = [one.label for one in parted]
    assert labels == sorted(labels)
    assert len(warnings) >= len(regions) - len(parted)
    best = max(overlapping, key=lambda one: (one.score, one.refine_score or 0.0))
    kept = next(one for one in parted if one.label == best.label)
    assert_same(kept.mask, best.mask)


@given(cases())
def test_every_region_is_refined_or_warned_of(case: tuple[list[Region], list[RefinedMask]]) -> None:
    regions, refined = case
    merged, warnings = merge_refined(regions, refined, 0.3, exclusive=False)
    assert len(merged) == len(regions)
    assert sum(not one.refined for one in merged) == len(warnings)
    for before, after, sharp in zip(regions, merged, refined, strict=True):
        if after.refined:
            assert_same(after.mask, sharp.mask)
            assert sharp.agreement >= 0.3
        else:
            assert after == before
