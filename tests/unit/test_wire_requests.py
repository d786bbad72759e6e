"""Requests survive the way through protobuf."""

from hypothesis import given
from hypothesis import strategies as st

from tests.wire_strategies import (
    LIMITS,
    confidences,
    conversations,
    images,
    labels,
    max_tokens,
    names,
    options,
    queries,
    seeds,
    shares,
    sizes,
    through,
)
from text4seg import wire
from text4seg.segmentation import (
    CacheMode,
    ChatRequest,
    DescriptorConstraint,
    DetectRequest,
    Frame,
    FramesSettings,
    GenerateRequest,
    MaskFormat,
    RefineMode,
    RefineRequest,
    SegmentOptions,
    SegmentRequest,
)


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
