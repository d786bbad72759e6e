"""What servers may get wrong in an answer."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.wire_strategies import UNKNOWN, decode_png, through
from text4seg import wire
from text4seg.errors import (
    InternalError,
)
from text4seg.v1 import generator_service_pb2, image_pb2, mask_pb2, refiner_service_pb2
from text4seg.v1 import segmentation_service_pb2 as pb


def answer(**fields: Any) -> pb.SegmentResponse:
    complete: dict[str, Any] = {
        "image_size": image_pb2.Size(height=2, width=3),
        "cache": "CACHE_OUTCOME_MISS",
    }
    return pb.SegmentResponse(**(complete | fields))


def masked(mask: mask_pb2.Mask) -> pb.SegmentResponse:
    return answer(regions=[pb.Region(mask=mask)])


def rle(height: int, width: int, run_lengths: str) -> mask_pb2.Mask:
    return mask_pb2.Mask(
        rle=mask_pb2.Rle(size=image_pb2.Size(height=height, width=width), counts=run_lengths)
    )


def described(grid: mask_pb2.LabelGrid, **fields: Any) -> pb.SegmentResponse:
    complete: dict[str, Any] = {"finish_reason": "FINISH_REASON_STOP"}
    return answer(descriptors=[pb.Descriptor(grid=grid, **(complete | fields))])


GRID = mask_pb2.LabelGrid(rows=1, columns=2, labels=["others", "dog"], cells=[0, 1])

BAD_ANSWERS = {
    "mask of another size": masked(rle(3, 2, "6")),
    "run lengths that do not add up": masked(rle(2, 3, "5")),
    "run lengths in foreign characters": masked(rle(2, 3, "☃")),
    "mask of a billion pixels": masked(rle(2**31 - 1, 2**31 - 1, "0")),
    "grid with too few cells": masked(
        mask_pb2.Mask(grid=mask_pb2.GridMask(rows=2, columns=2, cells=b"\x00"))
    ),
    "grid without rows": masked(mask_pb2.Mask(grid=mask_pb2.GridMask(rows=0, columns=2))),
    "outline of two points": masked(
        mask_pb2.Mask(
            polygon=mask_pb2.Polygon(
                size=image_pb2.Size(height=2, width=3),
                rings=[mask_pb2.Ring(points=[mask_pb2.Point(x=0, y=0), mask_pb2.Point(x=1, y=1)])],
            )
        )
    ),
    "no cache outcome": answer(cache="CACHE_OUTCOME_UNSPECIFIED"),
    "unknown warning": answer(warnings=[pb.Warning(kind=UNKNOWN)]),
    "cell outside of the label table": described(
        mask_pb2.LabelGrid(rows=1, columns=1, labels=["others"], cells=[1])
    ),
    "cell beyond int16": described(
        mask_pb2.LabelGrid(rows=1, columns=1, labels=["others"], cells=[2**31 - 1])
    ),
    "table without others": described(mask_pb2.LabelGrid(rows=1, columns=1, labels=["dog"], cells=[0])),
    "label with a delimiter": described(
        mask_pb2.LabelGrid(rows=1, columns=1, labels=["others", "a|b"], cells=[0])
    ),
    "unknown finish reason": described(GRID, finish_reason=UNKNOWN),
    "unknown repair": described(GRID, repairs=[pb.Repair(kind=UNKNOWN)]),
    "no grid": answer(descriptors=[pb.Descriptor(finish_reason="FINISH_REASON_STOP")]),
}


@pytest.mark.parametrize("message", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_bad_answers_are_internal_errors(message: pb.SegmentResponse) -> None:
    with pytest.raises(InternalError):
        wire.segment_answer_from_proto(through(message), decode_png)


def test_the_good_twins_of_bad_answers_are_read() -> None:
    read = wire.segment_answer_from_proto(described(GRID))
    assert read.descriptors[0].grid.mask("dog").tolist() == [[False, True]]
    masked_answer = wire.segment_answer_from_proto(masked(rle(2, 3, "6")))
    assert masked_answer.regions[0].mask is not None
    assert masked_answer.regions[0].mask.shape == (2, 3)


@pytest.mark.parametrize(
    ("parse", "message"),
    [
        (wire.segment_event_from_proto, pb.StreamSegmentResponse()),
        (wire.chat_event_from_proto, pb.ChatResponse()),
        (wire.chat_event_from_proto, pb.ChatResponse(finish=pb.ChatFinish())),
        (wire.model_info_from_proto, pb.GetModelInfoResponse()),
        (wire.generator_info_from_proto, generator_service_pb2.GetGeneratorInfoResponse()),
        (
            wire.text_chunk_from_proto,
            generator_service_pb2.GenerateResponse(finish=generator_service_pb2.GenerateFinish()),
        ),
        (
            wire.refine_answer_from_proto,
            refiner_service_pb2.RefineResponse(masks=[refiner_service_pb2.RefinedMask()]),
        ),
    ],
)
def test_other_bad_answers_are_internal_errors(parse: Callable[[Any], object], message: Any) -> None:
    with pytest.raises(InternalError):
        parse(message)
