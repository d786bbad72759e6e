"""Answers survive the way through protobuf."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.wire_strategies import (
    answers_by_format,
    boxes,
    counts,
    decode_png,
    descriptors,
    encode_png,
    formats,
    names,
    regions,
    seconds,
    shares,
    sizes,
    texts,
    through,
    timings,
    versions,
    warning_lists,
)
from text4seg import wire
from text4seg.descriptors import Codec
from text4seg.scores import Calibration, Calibrations, TokenLogprob
from text4seg.segmentation import (
    CacheOutcome,
    ChatFinish,
    ChatRegions,
    ChatText,
    CoarseRegions,
    DetectAnswer,
    Detection,
    FinishReason,
    FrameAnswer,
    GenerateFinish,
    GeneratorInfo,
    GeneratorSummary,
    GridRow,
    Limits,
    MaskFormat,
    ModelInfo,
    RefineAnswer,
    RefinedMask,
    RefinerInfo,
    Region,
    SegmentAnswer,
    StoredImage,
    TextChunk,
    Turn,
    Versions,
)


@given(answers_by_format)
def test_segment_answers_survive_in_every_format(case: tuple[MaskFormat, SegmentAnswer]) -> None:
    mask_format, answer = case
    message = through(wire.segment_answer_to_proto(answer, mask_format, encode_png))
    assert wire.segment_answer_from_proto(message, decode_png) == answer
    framed = FrameAnswer(7, answer, 3)
    frame_message = through(wire.frame_answer_to_proto(framed, mask_format, encode_png))
    assert wire.frame_answer_from_proto(frame_message, decode_png) == framed
    event = through(wire.segment_event_to_proto(answer, mask_format, encode_png))
    assert wire.segment_event_from_proto(event, decode_png) == answer


@given(formats.flatmap(lambda form: st.tuples(st.just(form), regions((4, 5), form))))
def test_coarse_regions_survive(case: tuple[MaskFormat, Region]) -> None:
    mask_format, region = case
    event = CoarseRegions((region,))
    message = through(wire.segment_event_to_proto(event, mask_format, encode_png))
    assert wire.segment_event_from_proto(message, decode_png) == event


@given(st.builds(GridRow, counts, counts, st.lists(texts, max_size=5).map(tuple)))
def test_grid_rows_survive(row: GridRow) -> None:
    assert wire.segment_event_from_proto(through(wire.segment_event_to_proto(row, MaskFormat.NONE))) == row


@given(
    st.builds(
        DetectAnswer,
        detections=st.lists(st.builds(Detection, texts, boxes, shares), max_size=3).map(tuple),
        image_size=sizes,
        no_target_score=shares,
        timing=timings,
        cache=st.sampled_from(CacheOutcome),
        versions=versions,
        warnings=warning_lists,
    )
)
def test_detect_answers_survive(answer: DetectAnswer) -> None:
    assert wire.detect_answer_from_proto(through(wire.detect_answer_to_proto(answer))) == answer


@given(
    st.one_of(
        st.builds(ChatText, texts),
        st.builds(
            ChatRegions,
            begin=counts,
            end=counts,
            regions=st.lists(regions((3, 5), MaskFormat.COCO_RLE), max_size=2).map(tuple),
            descriptor=descriptors,
        ),
        st.builds(
            ChatFinish,
            reason=st.sampled_from(FinishReason),
            turn=st.builds(Turn, st.just("assistant"), texts),
            timing=timings,
            versions=versions,
            image_size=sizes,
            warnings=warning_lists,
        ),
    )
)
def test_chat_events_survive(event: ChatText | ChatRegions | ChatFinish) -> None:
    message = through(wire.chat_event_to_proto(event, MaskFormat.COCO_RLE))
    assert wire.chat_event_from_proto(message) == event


@given(
    st.builds(
        TextChunk,
        text=texts,
        logprobs=st.lists(
            st.builds(TokenLogprob, counts, counts, st.floats(-100, 0, width=32)), max_size=4
        ).map(tuple),
        finish=st.none()
        | st.builds(
            GenerateFinish, st.sampled_from(FinishReason), counts, counts, counts, seconds, seconds, seconds
        ),
    )
)
def test_text_chunks_survive(chunk: TextChunk) -> None:
    assert wire.text_chunk_from_proto(through(wire.text_chunk_to_proto(chunk))) == chunk


@given(
    st.builds(
        RefineAnswer,
        masks=st.lists(
            st.builds(RefinedMask, sizes.flatmap(lambda size: hnp.arrays(np.bool_, size)), shares, shares),
            max_size=3,
        ).map(tuple),
        model=names,
        queue_s=seconds,
        embed_s=seconds,
        decode_s=seconds,
    )
)
def test_refine_answers_survive(answer: RefineAnswer) -> None:
    assert wire.refine_answer_from_proto(through(wire.refine_answer_to_proto(answer))) == answer


def test_infos_survive() -> None:
    calibration = Calibrations(Calibration(1.5, -0.25), Calibration(2.0), Calibration(bias=0.5))
    generator = GeneratorInfo("nano", "abc", "hf", (16, 24), Codec.IRLE, "1", 900, calibration)
    written = through(wire.generator_info_to_proto(generator))
    assert wire.generator_info_from_proto(written) == generator
    written.ClearField("region_calibration")
    written.ClearField("no_target_calibration")
    assert wire.generator_info_from_proto(written).calibration == Calibrations(calibration.cells)
    refiner = RefinerInfo("grabcut", "1", ("grabcut", "identity"), ("1", "2"))
    assert wire.refiner_info_from_proto(through(wire.refiner_info_to_proto(refiner))) == refiner
    model = ModelInfo(
        generator=GeneratorSummary("nano", "hf", (16, 24), Codec.RRLE),
        refiner_models=("grabcut",),
        versions=Versions("nano abc", "r-rle 1", "1", "grabcut 1", "0.1"),
        limits=Limits(1, 2, 3, 4, 5, 6),
    )
    assert wire.model_info_from_proto(through(wire.model_info_to_proto(model))) == model
    stored = StoredImage("abc", (480, 640), 3600.5)
    assert wire.stored_image_from_proto(through(wire.stored_image_to_proto(stored))) == stored
