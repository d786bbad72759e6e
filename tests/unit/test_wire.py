"""Wire: whatever the domain can say survives the way through protobuf, and what callers send is checked."""

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from text4seg import wire
from text4seg.descriptors import Codec, DecodeReport, LabelGrid, Repair, RepairKind
from text4seg.errors import (
    ImageInvalidError,
    InternalError,
    InvalidInputError,
    LabelInvalidError,
    OptionInvalidError,
    QueryInvalidError,
)
from text4seg.masks import Box
from text4seg.scores import Calibration, TokenLogprob
from text4seg.segmentation import (
    CacheMode,
    CacheOutcome,
    ChatFinish,
    ChatRegions,
    ChatRequest,
    ChatText,
    CoarseRegions,
    DescriptorConstraint,
    DescriptorResult,
    DetectAnswer,
    Detection,
    DetectRequest,
    FinishReason,
    Frame,
    FrameAnswer,
    FramesSettings,
    GenerateFinish,
    GenerateRequest,
    GeneratorInfo,
    GeneratorSummary,
    GridRow,
    ImageContent,
    ImageId,
    ImageUri,
    LabelQuery,
    Limits,
    MaskFormat,
    ModelInfo,
    OpenQuery,
    PhraseQuery,
    RefineAnswer,
    RefinedMask,
    RefineMode,
    RefineRequest,
    RefinerInfo,
    Region,
    SegmentAnswer,
    SegmentOptions,
    SegmentRequest,
    StoredImage,
    TextChunk,
    Timing,
    Turn,
    Versions,
    Warning_,
    WarningKind,
)
from text4seg.v1 import generator_service_pb2, image_pb2, mask_pb2, refiner_service_pb2
from text4seg.v1 import segmentation_service_pb2 as pb

LIMITS = Limits()


def encode_png(mask: NDArray[np.bool_]) -> bytes:
    """Stand in for a PNG encoder: the core has none."""
    return bytes(f"{mask.shape[0]} {mask.shape[1]} ", "ascii") + zlib.compress(mask.tobytes())


def decode_png(data: bytes) -> NDArray[np.bool_]:
    height, width, packed = data.split(b" ", 2)
    return np.frombuffer(zlib.decompress(packed), dtype=np.bool_).reshape(int(height), int(width))


def through(message: Any) -> Any:
    """Send a message over a wire."""
    return type(message).FromString(message.SerializeToString())


# What the domain can say. Floats are those that float32 can hold, durations whole nanoseconds.

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text("abcdefghij-0123456789", max_size=12)
shares = st.floats(0, 1, width=32)
seconds = st.integers(0, 10**13).map(lambda nanoseconds: nanoseconds / 10**9)
counts = st.integers(0, 2**31 - 1)
seeds = st.integers(0, 2**63 - 1)
sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
labels = (
    st.text("abcdefghij ", min_size=1, max_size=8)
    .map(lambda text: f"l {text}".strip())
    .map(lambda text: " ".join(text.split()))
)
boxes = st.builds(Box, counts, counts, counts, counts)

images = st.one_of(
    st.builds(ImageContent, st.binary(min_size=1, max_size=30)),
    st.builds(ImageId, st.text("0123456789abcdef:-", min_size=1, max_size=80)),
    st.builds(ImageUri, st.text("htps:/.abc%?&=#~ü", min_size=1, max_size=80)),
)
queries = st.one_of(
    st.builds(PhraseQuery, st.lists(labels, min_size=1, max_size=32).map(tuple)),
    st.builds(LabelQuery, st.lists(labels, min_size=1, max_size=32, unique=True).map(tuple)),
    st.just(OpenQuery()),
)
options = st.builds(
    SegmentOptions,
    refine=st.sampled_from(RefineMode),
    mask_format=st.sampled_from(MaskFormat),
    confidence_map=st.booleans(),
    min_score=shares,
    split_instances=st.booleans(),
    cache=st.sampled_from(CacheMode),
    seed=seeds,
    strict=st.booleans(),
    refiner_model=names,
)
user_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).map(
    lambda text: f"{text}?\n\t"
)
conversations = st.lists(user_texts, min_size=1, max_size=9).map(
    lambda spoken: tuple(
        Turn("assistant" if index % 2 else "user", text)
        for index, text in enumerate(spoken if len(spoken) % 2 else spoken[:-1])
    )
)
max_tokens = st.none() | st.integers(1, 2**31 - 1)


@st.composite
def label_grids(draw: st.DrawFn) -> LabelGrid:
    table = ("others", *draw(st.lists(labels, max_size=4, unique=True)))
    cells = draw(hnp.arrays(np.int16, draw(sizes), elements=st.integers(0, len(table) - 1)))
    return LabelGrid(table, cells)


descriptors = st.builds(
    DescriptorResult,
    phrase=texts,
    text=texts,
    grid=label_grids(),
    report=st.builds(
        DecodeReport,
        repairs=st.lists(
            st.builds(Repair, st.sampled_from(RepairKind), counts, counts, texts), max_size=3
        ).map(tuple),
        unknown_labels=st.lists(texts, max_size=3).map(tuple),
        truncated=st.booleans(),
    ),
    finish_reason=st.sampled_from(FinishReason),
    no_target_score=shares,
)
timings = st.builds(
    Timing,
    total_s=seconds,
    image_s=st.none() | seconds,
    cache_s=st.none() | seconds,
    generate_s=st.none() | seconds,
    decode_s=st.none() | seconds,
    refine_s=st.none() | seconds,
)
versions = st.builds(Versions, texts, texts, texts, texts, texts)
warning_lists = st.lists(st.builds(Warning_, st.sampled_from(WarningKind), texts), max_size=3).map(tuple)


def confidences(shape: tuple[int, int]) -> st.SearchStrategy[NDArray[np.float32]]:
    """Probabilities in the steps of 1/255 that the wire has."""
    return hnp.arrays(np.uint8, shape).map(lambda cells: cells.astype(np.float32) / np.float32(255))


@st.composite
def regions(draw: st.DrawFn, size: tuple[int, int], mask_format: MaskFormat) -> Region:
    """A region as the client sees it: with the mask that the format carries."""
    full = mask_format not in (MaskFormat.NONE, MaskFormat.GRID)
    return Region(
        label=draw(texts),
        mask=draw(hnp.arrays(np.bool_, size)) if full else None,
        grid_mask=draw(hnp.arrays(np.bool_, draw(sizes))) if mask_format is MaskFormat.GRID else None,
        box=draw(boxes),
        score=draw(shares),
        area=draw(seeds),
        refined=draw(st.booleans()),
        split=draw(st.booleans()),
        confidence=draw(st.none() | sizes.flatmap(confidences)),
        refine_score=draw(st.none() | shares),
    )


@st.composite
def answers(draw: st.DrawFn, mask_format: MaskFormat) -> SegmentAnswer:
    size = draw(sizes)
    return SegmentAnswer(
        regions=tuple(draw(st.lists(regions(size, mask_format), max_size=3))),
        descriptors=tuple(draw(st.lists(descriptors, max_size=2))),
        image_size=size,
        no_target_score=draw(shares),
        timing=draw(timings),
        cache=draw(st.sampled_from(CacheOutcome)),
        versions=draw(versions),
        warnings=draw(warning_lists),
    )


formats = st.sampled_from(MaskFormat)
answers_by_format = formats.flatmap(lambda form: st.tuples(st.just(form), answers(form)))


# Requests.


@given(st.builds(SegmentRequest, images, queries, options))
def test_segment_requests_survive(request: SegmentRequest) -> None:
    message = through(wire.segment_request_to_proto(request))
    assert wire.segment_request_from_proto(message, LIMITS) == request
    streamed = through(wire.stream_segment_request_to_proto(request))
    assert wire.segment_request_from_proto(streamed, LIMITS) == request


@given(
    st.builds(
        DetectRequest,
        images,
        queries,
        st.builds(
            SegmentOptions,
            refine=st.sampled_from(RefineMode),
            mask_format=st.just(MaskFormat.NONE),
            min_score=shares,
            split_instances=st.booleans(),
            cache=st.sampled_from(CacheMode),
            seed=seeds,
        ),
    )
)
def test_detect_requests_survive(request: DetectRequest) -> None:
    assert wire.detect_request_from_proto(through(wire.detect_request_to_proto(request)), LIMITS) == request


@given(st.builds(ChatRequest, images, conversations, options, max_tokens))
def test_chat_requests_survive(request: ChatRequest) -> None:
    assert wire.chat_request_from_proto(through(wire.chat_request_to_proto(request)), LIMITS) == request


@given(
    st.builds(FramesSettings, queries, options) | st.builds(Frame, st.integers(-(2**63), 2**63 - 1), images)
)
def test_frames_requests_survive(request: FramesSettings | Frame) -> None:
    assert wire.frames_request_from_proto(through(wire.frames_request_to_proto(request)), LIMITS) == request


@given(
    st.builds(
        GenerateRequest,
        image=st.binary(min_size=1, max_size=30),
        turns=conversations,
        constraint=st.none()
        | st.builds(DescriptorConstraint, st.lists(labels, max_size=32, unique=True).map(tuple)),
        max_tokens=max_tokens,
        logprobs=st.booleans(),
    )
)
def test_generate_requests_survive(request: GenerateRequest) -> None:
    message = through(wire.generate_request_to_proto(request))
    assert wire.generate_request_from_proto(message, LIMITS) == request


@given(
    st.builds(
        RefineRequest,
        image=st.binary(min_size=1, max_size=30),
        coarse=st.lists(sizes.flatmap(confidences), min_size=1, max_size=3).map(tuple),
        seed=seeds,
        model=names,
    )
)
def test_refine_requests_survive(request: RefineRequest) -> None:
    assert wire.refine_request_from_proto(through(wire.refine_request_to_proto(request)), LIMITS) == request


# Answers.


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
    generator = GeneratorInfo("nano", "abc", "hf", (16, 24), Codec.IRLE, "1", 900, Calibration(1.5, -0.25))
    assert wire.generator_info_from_proto(through(wire.generator_info_to_proto(generator))) == generator
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


# Defaults.

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


# What callers may get wrong.


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


UNKNOWN: Any = 99
"""A number that no enum has; generated types take names only."""

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


# What servers may get wrong.


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


# Formats.


def test_grids_travel_in_steps_of_one_part_in_255() -> None:
    values = np.array([[0.0, 1.0, 0.5004]], dtype=np.float32)
    back = wire.grid_from_proto(through(wire.grid_to_proto(values)))
    assert back.dtype == np.float32
    assert np.abs(back - values).max() <= 0.5 / 255
    assert wire.grid_to_proto(np.array([[True, False]])).cells == b"\xff\x00"


def test_rle_counts_are_those_of_coco() -> None:
    mask = np.array([[0, 1, 1], [0, 0, 1]], dtype=np.bool_)
    message = wire.rle_to_proto(mask)
    assert (message.size.height, message.size.width, message.counts) == (2, 3, "2111")


@pytest.mark.parametrize(
    "mask_format", [MaskFormat.COCO_RLE, MaskFormat.POLYGON, MaskFormat.PNG, MaskFormat.GRID]
)
def test_a_missing_mask_is_a_mistake_of_the_server(mask_format: MaskFormat) -> None:
    region = Region("dog", None, None, Box(0, 0, 1, 1), 0.5, 1)
    with pytest.raises(TypeError):
        wire.region_to_proto(region, mask_format, encode_png)


def test_png_needs_a_codec() -> None:
    region = Region("dog", np.ones((2, 3), dtype=np.bool_), None, Box(0, 0, 3, 2), 0.5, 6)
    with pytest.raises(TypeError):
        wire.region_to_proto(region, MaskFormat.PNG)
    message = wire.region_to_proto(region, MaskFormat.PNG, encode_png)
    with pytest.raises(TypeError):
        wire.region_from_proto(message)


def test_negative_durations_become_zero() -> None:
    assert wire.timing_from_proto(wire.timing_to_proto(Timing(total_s=-1e-9))).total_s == 0


def test_regions_compare_by_content() -> None:
    mask = np.eye(3, dtype=np.bool_)
    region = Region("dog", mask, None, Box(0, 0, 3, 3), 0.5, 3)
    assert region == Region("dog", mask.copy(), None, Box(0, 0, 3, 3), 0.5, 3)
    assert region != Region("dog", ~mask, None, Box(0, 0, 3, 3), 0.5, 3)
    assert region != Region("dog", None, None, Box(0, 0, 3, 3), 0.5, 3)
    assert region != "dog"
