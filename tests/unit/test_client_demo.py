"""The demo's parts that need no server."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from text4seg.descriptors import DecodeReport, LabelGrid
from text4seg.masks import Box, box_of
from text4seg.segmentation import (
    CacheOutcome,
    DescriptorResult,
    FinishReason,
    Region,
    SegmentAnswer,
    Timing,
    Versions,
)
from text4seg_client.demo import (
    ABSENT,
    CAT_BOX,
    CAT_PICTURE,
    Picture,
    Result,
    check_cat,
    draw_pair,
    phrase_table,
    pictures,
    time_table,
)
from text4seg_client.images import read_pixels

NO_SCENE = Path("no scene")


def _answer(picture: Picture, box: Box | None, *, refined: bool) -> SegmentAnswer:
    height, width = read_pixels(picture.path).shape[:2]
    mask = np.zeros((height, width), np.bool_)
    regions: tuple[Region, ...] = ()
    if box is not None:
        mask[box.y0 : box.y1, box.x0 : box.x1] = True
        regions = (Region(picture.phrases[0], mask, None, box, 0.9, int(mask.sum()), refined=refined),)
    grid = LabelGrid.from_mask(np.zeros((16, 16), np.bool_), "cat")
    descriptors = tuple(
        DescriptorResult(phrase, "", grid, DecodeReport((), (), False), FinishReason.STOP, 0.97)
        for phrase in picture.phrases
    )
    timing = Timing(total_s=0.2, image_s=0.01, generate_s=0.15, refine_s=0.04)
    return SegmentAnswer(
        regions, descriptors, (height, width), 0.97, timing, CacheOutcome.HIT, Versions("nano 1")
    )


def _result(box: Box | None) -> Result:
    picture = pictures(NO_SCENE)[0]
    refined = _answer(picture, box, refined=True)
    return Result(picture, refined, _answer(picture, box, refined=False), refined)


def test_the_photographs_are_on_this_machine() -> None:
    found = pictures(NO_SCENE)
    assert [picture.name for picture in found] == [CAT_PICTURE, "coffee", "astronaut"]
    for picture in found:
        assert read_pixels(picture.path).std() > 30
        assert picture.phrases[-1] == ABSENT


def test_a_scene_is_added_with_its_phrases(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "scene.png")
    (tmp_path / "scene.json").write_text(json.dumps([{"phrase": "the rocket"}, {"phrase": "a banana"}]))
    assert pictures(tmp_path / "scene.png")[-1].phrases == ("the rocket", "a banana", ABSENT)


@pytest.mark.parametrize(
    ("box", "complaint"),
    [
        (CAT_BOX, None),
        (Box(20, 0, 350, 290), None),
        (Box(0, 0, 60, 60), "misses the cat"),
        (Box(300, 200, 451, 300), "misses the cat"),
        (Box(0, 0, 451, 300), "covers 100% of what is not the cat"),
        (Box(0, 0, 398, 150), "mask misses the cat"),
        (None, "not found"),
    ],
)
def test_the_cat_must_be_found_where_it_is(box: Box | None, complaint: str | None) -> None:
    said = check_cat([_result(box)])
    assert said is None if complaint is None else said is not None and complaint in said


def test_without_a_picture_of_the_cat_the_check_fails() -> None:
    assert check_cat([]) is not None


def test_tables_say_what_was_found_and_what_was_not() -> None:
    lines = phrase_table([_result(Box(0, 0, 398, 300))]).splitlines()
    assert "119400 -> 119400" in lines[1]
    # A box holds the cat and some background: the outline's IoU is high but not 1.
    assert "0.8" in lines[1].rsplit("  ", 1)[1]
    assert f"{ABSENT}" in lines[2]
    assert "nothing there (0.97)" in lines[2]
    assert time_table([_result(None)]).splitlines()[1].split() == [
        "chelsea", "2", "10", "150", "-", "40", "200", "200.0",
    ]  # fmt: skip


def test_a_second_call_that_was_not_cached_is_marked() -> None:
    result = _result(CAT_BOX)
    slow = replace(result, again=replace(result.again, cache=CacheOutcome.MISS))
    assert "(miss)" in time_table([slow])


def test_overlays_stand_side_by_side() -> None:
    result = _result(CAT_BOX)
    pair = draw_pair(result)
    assert pair.shape == (2 * 300 + 44, 2 * 2 * 451 + 12, 3)
    assert box_of((pair < 250).any(axis=-1)) is not None
