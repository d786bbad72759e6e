"""What callers may leave out, write differently or get wrong in a request."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from tests.wire_strategies import LIMITS, UNKNOWN, through
from text4seg import wire
from text4seg.errors import (
    ImageInvalidError,
    InvalidInputError,
    LabelInvalidError,
    OptionInvalidError,
    QueryInvalidError,
)
from text4seg.segmentation import (
    ChatRequest,
    DetectRequest,
    ImageContent,
    LabelQuery,
    Limits,
    MaskFormat,
    PhraseQuery,
    RefineMode,
    SegmentRequest,
    Turn,
)
from text4seg.v1 import generator_service_pb2, image_pb2, mask_pb2, refiner_service_pb2
from text4seg.v1 import segmentation_service_pb2 as pb

PIXELS = image_pb2.Image(content=b"file")
PHRASE = pb.Query(phrases=pb.PhraseQuery(phrases=["dog"]))
USER = generator_service_pb2.Turn(role="ROLE_USER", text="What is this?")
ASSISTANT = generator_service_pb2.Turn(role="ROLE_ASSISTANT", text="A dog.")
UNKNOWN_ROLE = generator_service_pb2.Turn(text="hello")


def test_unset_options_take_each_calls_defaults() -> None:
    segment = wire.segment_request_from_proto(pb.SegmentRequest(image=PIXELS, query=PHRASE), LIMITS)
    assert segment == SegmentRequest(ImageContent(b"file"), PhraseQuery(("dog",)))
    assert segment.options.refine is RefineMode.AUTO
    assert segment.options.mask_format is MaskFormat.COCO_RLE
    detect = wire.detect_request_from_proto(pb.DetectRequest(image=PIXELS, query=PHRASE), LIMITS)
    assert detect == DetectRequest(ImageContent(b"file"), PhraseQuery(("dog",)))
    assert detect.options.refine is RefineMode.NONE
    chat = wire.chat_request_from_proto(pb.ChatRequest(image=PIXELS, turns=[USER]), LIMITS)
    assert chat == ChatRequest(ImageContent(b"file"), (Turn("user", "What is this?"),))
    assert chat.options.refine is RefineMode.NONE


def segment(**fields: Any) -> pb.SegmentRequest:
    return pb.SegmentRequest(**({"image": PIXELS, "query": PHRASE} | fields))


def phrases(*given: str) -> pb.SegmentRequest:
    return segment(query=pb.Query(phrases=pb.PhraseQuery(phrases=given)))


def label_list(*given: str) -> pb.SegmentRequest:
    return segment(query=pb.Query(labels=pb.LabelQuery(labels=given)))


def chat(*turns: generator_service_pb2.Turn, **fields: Any) -> pb.ChatRequest:
    return pb.ChatRequest(image=PIXELS, turns=turns, **fields)


def said(text: str) -> generator_service_pb2.Turn:
    return generator_service_pb2.Turn(role="ROLE_USER", text=text)


SMALL = Limits(image_bytes=8, phrases=2, phrase_characters=5, turns=3, conversation_characters=30)

BAD_REQUESTS: list[tuple[Any, type[InvalidInputError], str]] = [
    (pb.SegmentRequest(query=PHRASE), ImageInvalidError, "image"),
    (segment(image=image_pb2.Image(content=b"")), ImageInvalidError, "image.content"),
    (segment(image=image_pb2.Image(content=b"123456789")), ImageInvalidError, "image.content"),
    (segment(image=image_pb2.Image(id="")), ImageInvalidError, "image.id"),
    (segment(image=image_pb2.Image(id="a" * 257)), ImageInvalidError, "image.id"),
    (segment(image=image_pb2.Image(id="a\nb")), ImageInvalidError, "image.id"),
    (segment(image=image_pb2.Image(uri="")), ImageInvalidError, "image.uri"),
    (segment(image=image_pb2.Image(uri="http://a b")), ImageInvalidError, "image.uri"),
    (segment(image=image_pb2.Image(uri="h" * 2049)), ImageInvalidError, "image.uri"),
    (pb.SegmentRequest(image=PIXELS), QueryInvalidError, "query"),
    (segment(query=pb.Query()), QueryInvalidError, "query"),
    (phrases(), QueryInvalidError, "query.phrases.phrases"),
    (phrases("a", "b", "c"), QueryInvalidError, "query.phrases.phrases"),
    (phrases("a", " \t "), QueryInvalidError, "query.phrases.phrases[1]"),
    (phrases("sixsix"), QueryInvalidError, "query.phrases.phrases[0]"),
    (phrases("x" * 5_000_000), QueryInvalidError, "query.phrases.phrases[0]"),
    (phrases("a", "a|b"), LabelInvalidError, "query.phrases.phrases[1]"),
    (phrases("a *3"), LabelInvalidError, "query.phrases.phrases[0]"),
    (phrases("a\nb"), LabelInvalidError, "query.phrases.phrases[0]"),
    (phrases("a\x00b"), LabelInvalidError, "query.phrases.phrases[0]"),
    (phrases("<seg>"), LabelInvalidError, "query.phrases.phrases[0]"),
    (label_list(), QueryInvalidError, "query.labels.labels"),
    (label_list("a", "b", "a"), QueryInvalidError, "query.labels.labels"),
    (label_list("a", ""), QueryInvalidError, "query.labels.labels[1]"),
    (label_list("a", "b|"), LabelInvalidError, "query.labels.labels[1]"),
    (segment(options=pb.SegmentOptions(refine=UNKNOWN)), OptionInvalidError, "options.refine"),
    (segment(options=pb.SegmentOptions(mask_format=UNKNOWN)), OptionInvalidError, "options.mask_format"),
    (segment(options=pb.SegmentOptions(cache=UNKNOWN)), OptionInvalidError, "options.cache"),
    (segment(options=pb.SegmentOptions(min_score=1.5)), OptionInvalidError, "options.min_score"),
    (segment(options=pb.SegmentOptions(min_score=-0.1)), OptionInvalidError, "options.min_score"),
    (segment(options=pb.SegmentOptions(min_score=math.nan)), OptionInvalidError, "options.min_score"),
    (segment(options=pb.SegmentOptions(seed=-1)), OptionInvalidError, "options.seed"),
    (segment(options=pb.SegmentOptions(refiner_model="\x07")), OptionInvalidError, "options.refiner_model"),
    (
        segment(options=pb.SegmentOptions(refiner_model=999 * "m")),
        OptionInvalidError,
        "options.refiner_model",
    ),
    (pb.StreamSegmentRequest(image=PIXELS), QueryInvalidError, "query"),
    (pb.DetectRequest(image=PIXELS), QueryInvalidError, "query"),
    (pb.DetectRequest(image=PIXELS, query=PHRASE, refine=UNKNOWN), OptionInvalidError, "refine"),
    (pb.DetectRequest(image=PIXELS, query=PHRASE, cache=UNKNOWN), OptionInvalidError, "cache"),
    (pb.DetectRequest(image=PIXELS, query=PHRASE, min_score=math.inf), OptionInvalidError, "min_score"),
    (pb.DetectRequest(image=PIXELS, query=PHRASE, seed=-1), OptionInvalidError, "seed"),
    (chat(), QueryInvalidError, "turns"),
    (chat(USER, ASSISTANT, USER, ASSISTANT, USER), QueryInvalidError, "turns"),
    (chat(said("x" * 31)), QueryInvalidError, "turns"),
    (chat(said(" \n")), QueryInvalidError, "turns[0].text"),
    (chat(said("bell\x07")), QueryInvalidError, "turns[0].text"),
    (chat(ASSISTANT), QueryInvalidError, "turns[0].role"),
    (chat(said("a"), said("b")), QueryInvalidError, "turns[1].role"),
    (chat(said("a"), ASSISTANT), QueryInvalidError, "turns[1].role"),
    (chat(UNKNOWN_ROLE), OptionInvalidError, "turns[0].role"),
    (chat(USER, max_tokens=-1), OptionInvalidError, "max_tokens"),
    (chat(USER, options=pb.SegmentOptions(refine=UNKNOWN)), OptionInvalidError, "options.refine"),
    (pb.SegmentFramesRequest(), QueryInvalidError, "message"),
    (pb.SegmentFramesRequest(settings=pb.FramesSettings()), QueryInvalidError, "settings.query"),
    (
        pb.SegmentFramesRequest(
            settings=pb.FramesSettings(query=PHRASE, options=pb.SegmentOptions(cache=UNKNOWN))
        ),
        OptionInvalidError,
        "settings.options.cache",
    ),
    (pb.SegmentFramesRequest(frame=pb.Frame(sequence=1)), ImageInvalidError, "frame.image"),
    (generator_service_pb2.GenerateRequest(turns=[USER]), ImageInvalidError, "image"),
    (generator_service_pb2.GenerateRequest(image=b"123456789", turns=[USER]), ImageInvalidError, "image"),
    (generator_service_pb2.GenerateRequest(image=b"file"), QueryInvalidError, "turns"),
    (
        generator_service_pb2.GenerateRequest(image=b"file", turns=[USER], max_tokens=-1),
        OptionInvalidError,
        "max_tokens",
    ),
    (
        generator_service_pb2.GenerateRequest(
            image=b"file",
            turns=[USER],
            constraint=generator_service_pb2.DescriptorConstraint(labels=["a", "a|b"]),
        ),
        LabelInvalidError,
        "constraint.labels[1]",
    ),
    (refiner_service_pb2.RefineRequest(image=b"file"), OptionInvalidError, "coarse"),
    (
        refiner_service_pb2.RefineRequest(coarse=[mask_pb2.GridMask(rows=1, columns=1, cells=b"\xff")]),
        ImageInvalidError,
        "image",
    ),
    (
        refiner_service_pb2.RefineRequest(
            image=b"file", coarse=[mask_pb2.GridMask(rows=2, columns=2, cells=b"\xff")]
        ),
        OptionInvalidError,
        "coarse[0]",
    ),
    (
        refiner_service_pb2.RefineRequest(
            image=b"file", coarse=[mask_pb2.GridMask(rows=2**31 - 1, columns=2**31 - 1)]
        ),
        OptionInvalidError,
        "coarse[0]",
    ),
    (
        refiner_service_pb2.RefineRequest(
            image=b"file", seed=-1, coarse=[mask_pb2.GridMask(rows=1, columns=1, cells=b"\xff")]
        ),
        OptionInvalidError,
        "seed",
    ),
]
PARSERS: dict[Any, Callable[[Any, Limits], object]] = {
    pb.SegmentRequest: wire.segment_request_from_proto,
    pb.StreamSegmentRequest: wire.segment_request_from_proto,
    pb.DetectRequest: wire.detect_request_from_proto,
    pb.ChatRequest: wire.chat_request_from_proto,
    pb.SegmentFramesRequest: wire.frames_request_from_proto,
    generator_service_pb2.GenerateRequest: wire.generate_request_from_proto,
    refiner_service_pb2.RefineRequest: wire.refine_request_from_proto,
}


@pytest.mark.parametrize(("message", "kind", "field"), BAD_REQUESTS, ids=lambda value: None)
def test_bad_requests_are_refused_by_field(message: Any, kind: type[InvalidInputError], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        PARSERS[type(message)](through(message), SMALL)
    assert (type(caught.value), caught.value.field) == (kind, field)
    assert caught.value.description


def test_phrases_are_canonical_and_keep_order_and_repetitions() -> None:
    request = wire.segment_request_from_proto(phrases("  The  DOG ", "cat", "the dog"), LIMITS)
    assert request.query == PhraseQuery(("the dog", "cat", "the dog"))


def test_labels_are_canonical_and_lose_repetitions() -> None:
    request = wire.segment_request_from_proto(label_list("Sky", "road", " sky"), LIMITS)
    assert request.query == LabelQuery(("sky", "road"))


def test_requests_at_the_limits_are_taken() -> None:
    image = image_pb2.Image(content=b"12345678")
    query = pb.Query(phrases=pb.PhraseQuery(phrases=["fives", "  fives  "]))
    request = wire.segment_request_from_proto(segment(image=image, query=query), SMALL)
    assert request.query == PhraseQuery(("fives", "fives"))
    turns = chat(said("x" * 10), ASSISTANT, said("x" * 14))
    assert len(wire.chat_request_from_proto(turns, SMALL).turns) == 3


@given(st.binary(max_size=200))
def test_arbitrary_requests_never_surprise(data: bytes) -> None:
    for kind, parse in PARSERS.items():
        try:
            message = kind.FromString(data)
        except DecodeError:
            continue
        try:
            parse(message, LIMITS)
        except InvalidInputError as error:
            wire.error_to_status(error)
