"""Bad input gets a precise error or the right answer: never a crash, never another caller's result."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from tests.serving import NOWHERE, Suite, picture, request, serving
from text4seg import wire
from text4seg.errors import (
    FeatureUnimplementedError,
    ImageInvalidError,
    ImageNotFoundError,
    InvalidInputError,
    LabelInvalidError,
    OptionInvalidError,
    OverloadedError,
    QueryInvalidError,
    Text4SegError,
)
from text4seg.segmentation import ImageId, ImageUri
from text4seg.v1 import generator_service_pb2, image_pb2
from text4seg.v1 import segmentation_service_pb2 as pb


@pytest.fixture
async def suite() -> AsyncIterator[Suite]:
    limits = {"max_image_bytes": 200_000, "max_image_pixels": 1_000_000, "max_phrases": 4}
    async with serving(orchestrator=limits) as suite:
        yield suite


def proto(image: bytes | None = None, *phrases: str, **options: Any) -> pb.SegmentRequest:
    return pb.SegmentRequest(
        image=image_pb2.Image(content=picture() if image is None else image),
        query=pb.Query(phrases=pb.PhraseQuery(phrases=phrases or ("cat",))),
        options=pb.SegmentOptions(**options),
    )


async def failure_of(call: Any) -> Text4SegError:
    with pytest.raises(grpc.RpcError) as failure:
        await call
    return wire.error_from_rpc(failure.value)


async def refused(suite: Suite, message: pb.SegmentRequest) -> InvalidInputError:
    """The error, which must be the same for Segment and StreamSegment."""
    error = await failure_of(suite.stub.Segment(message))
    streaming = pb.StreamSegmentRequest(image=message.image, query=message.query, options=message.options)
    streamed = await failure_of(suite.stub.StreamSegment(streaming).read())
    assert (type(streamed), streamed.message) == (type(error), error.message)
    assert isinstance(error, InvalidInputError)
    return error


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG file of a few bytes that claims to be 60,000 pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


BAD_FILES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no image": lambda: b"GET / HTTP/1.1\r\n\r\n",
    "truncated PNG": lambda: picture()[:-500],
    "truncated JPEG": lambda: picture(file_format="JPEG", quality=90)[:900],
    "bomb": bomb,
    "too many pixels": lambda: saved(Image.new("L", (1100, 1000)), "PNG"),
    "too many bytes": lambda: picture(300, 300, file_format="BMP"),
    "GIF": lambda: saved(Image.new("L", (20, 20)), "GIF"),
}


@pytest.mark.parametrize("name", BAD_FILES)
async def test_a_bad_image_is_refused(suite: Suite, name: str) -> None:
    error = await refused(suite, proto(BAD_FILES[name]()))
    assert isinstance(error, ImageInvalidError)
    assert error.field == "image.content"
    assert error.description


@pytest.mark.parametrize("name", BAD_FILES)
async def test_a_bad_image_is_not_stored(suite: Suite, name: str) -> None:
    error = await failure_of(suite.stub.PutImage(iter([pb.PutImageRequest(chunk=BAD_FILES[name]())])))
    assert isinstance(error, ImageInvalidError)
    assert error.field == "chunk"


def odd_files() -> Iterator[tuple[str, bytes]]:
    ramp = np.arange(48 * 64).reshape(48, 64)
    rgb = Image.open(io.BytesIO(picture()))
    exif = Image.Exif()
    exif[0x0112] = 3
    yield "16-bit", saved(Image.fromarray((ramp * 20).astype(np.uint16)), "PNG")
    yield "CMYK", saved(rgb.convert("CMYK"), "JPEG")
    yield "palette", saved(rgb.convert("P"), "PNG")
    yield "1-bit", saved(rgb.convert("1"), "PNG")
    yield "transparent", saved(rgb.convert("RGBA"), "PNG")
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "green", "blue")]
    yield "animated", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    yield "rotated by EXIF", saved(rgb, "JPEG", exif=exif)
    yield "TIFF", saved(rgb, "TIFF")
    yield "BMP", saved(rgb, "BMP")


@pytest.mark.parametrize("file", [pytest.param(file, id=name) for name, file in odd_files()])
async def test_an_odd_but_good_image_is_answered(suite: Suite, file: bytes) -> None:
    response = await suite.stub.Segment(proto(file, refine=pb.REFINE_MODE_REQUIRED))
    answer = wire.segment_answer_from_proto(response)
    assert answer.image_size == (48, 64)
    assert answer.regions[0].refined


BAD_PHRASES = {
    "": QueryInvalidError,
    "   ": QueryInvalidError,
    "x" * 257: QueryInvalidError,
    "cat\x00": LabelInvalidError,
    "cat\x1b[31m": LabelInvalidError,
    "black\ncat": LabelInvalidError,
    "cat | dog": LabelInvalidError,
    "cat *3": LabelInvalidError,
    "</seg>": LabelInvalidError,
    "<seg>cat": LabelInvalidError,
    "others": LabelInvalidError,
}


@pytest.mark.parametrize("phrase", BAD_PHRASES)
async def test_a_bad_phrase_is_refused_by_its_place(suite: Suite, phrase: str) -> None:
    error = await refused(suite, proto(None, "cat", phrase))
    assert type(error) is BAD_PHRASES[phrase]
    assert error.field == "query.phrases.phrases[1]"


async def test_a_bad_label_is_refused_by_its_place(suite: Suite) -> None:
    message = pb.SegmentRequest(
        image=image_pb2.Image(content=picture()), query=pb.Query(labels=pb.LabelQuery(labels=["sky", "a|b"]))
    )
    error = await refused(suite, message)
    assert isinstance(error, LabelInvalidError)
    assert error.field == "query.labels.labels[1]"


async def test_missing_and_excessive_parts_are_refused(suite: Suite) -> None:
    no_image = pb.SegmentRequest(query=pb.Query(phrases=pb.PhraseQuery(phrases=["cat"])))
    assert (await refused(suite, no_image)).field == "image"
    no_query = pb.SegmentRequest(image=image_pb2.Image(content=picture()))
    assert (await refused(suite, no_query)).field == "query"
    no_phrases = pb.SegmentRequest(image=no_query.image, query=pb.Query(phrases=pb.PhraseQuery()))
    assert isinstance(await refused(suite, no_phrases), QueryInvalidError)
    error = await refused(suite, proto(None, *"abcde"))
    assert isinstance(error, QueryInvalidError)
    assert "at most 4" in error.description


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("refine", 99),
        ("mask_format", 99),
        ("cache", 99),
        ("min_score", 1.5),
        ("min_score", -0.1),
        ("min_score", float("nan")),
        ("seed", -1),
        ("refiner_model", "no such model"),
        ("refiner_model", "x" * 1000),
    ],
)
async def test_a_bad_option_is_refused_by_name(suite: Suite, field: str, value: object) -> None:
    error = await refused(suite, proto(None, **{field: value}))
    assert isinstance(error, OptionInvalidError)
    assert error.field == f"options.{field}"


async def test_an_unknown_image_id_is_not_found(suite: Suite) -> None:
    asked = request("cat", ImageId("sha256-" + 64 * "0"))
    error = await failure_of(suite.stub.Segment(wire.segment_request_to_proto(asked)))
    assert isinstance(error, ImageNotFoundError)


async def test_an_address_is_refused_by_name(suite: Suite) -> None:
    asked = request("cat", ImageUri(f"http://{NOWHERE}/cat.png"))
    error = await failure_of(suite.stub.Segment(wire.segment_request_to_proto(asked)))
    assert isinstance(error, FeatureUnimplementedError)
    assert error.feature == "image.uri"


async def test_an_upload_without_bytes_is_refused(suite: Suite) -> None:
    error = await failure_of(suite.stub.PutImage(iter(())))
    assert isinstance(error, ImageInvalidError)


async def test_an_endless_upload_is_cut_off(suite: Suite) -> None:
    async def endless() -> AsyncIterator[pb.PutImageRequest]:
        while True:
            yield pb.PutImageRequest(chunk=bytes(50_000))

    error = await failure_of(suite.stub.PutImage(endless()))
    assert isinstance(error, ImageInvalidError)
    assert "200000 bytes" in error.description


async def test_uploads_that_are_too_much_together_are_refused_with_a_hint() -> None:
    limits = {"max_image_bytes": 50_000, "upload_bytes": 50_000}
    async with serving(orchestrator=limits) as suite:
        stalled = suite.stub.PutImage()
        await stalled.write(pb.PutImageRequest(chunk=bytes(45_000)))
        error = None
        async with asyncio.timeout(20):
            while error is None:  # the stalled one may still be on its way
                error = await upload_error(suite)
        assert isinstance(error, OverloadedError)
        assert error.retry_after_s > 0
        stalled.cancel()
        async with asyncio.timeout(20):
            while error is not None:
                error = await upload_error(suite)


async def upload_error(suite: Suite) -> Text4SegError | None:
    try:
        await suite.stub.PutImage(iter([pb.PutImageRequest(chunk=picture())]))
    except grpc.RpcError as failure:
        return wire.error_from_rpc(failure)
    return None


async def test_a_full_store_refuses_uploads_and_keeps_what_it_has() -> None:
    async with serving(orchestrator={"image_store_bytes": 20_000}) as suite:
        first = await suite.stub.PutImage(iter([pb.PutImageRequest(chunk=picture(48, 64, seed=1))]))
        error = await failure_of(
            suite.stub.PutImage(iter([pb.PutImageRequest(chunk=picture(60, 64, seed=2))]))
        )
        assert error.reason == "OVERLOADED"
        asked = request("cat", ImageId(first.id))
        assert (await suite.stub.Segment(wire.segment_request_to_proto(asked))).image_size.height == 48


async def test_a_message_over_the_limit_is_refused() -> None:
    limits = {"max_message_bytes": 300_000, "max_image_bytes": 200_000}
    async with serving(orchestrator=limits) as suite:
        error = await failure_of(suite.stub.Segment(proto(bytes(400_000))))
        assert isinstance(error, OptionInvalidError)
        assert (await suite.stub.Segment(proto())).regions


@pytest.mark.parametrize(
    ("turns", "field"),
    [
        ([], "turns"),
        ([("ROLE_ASSISTANT", "Hello")], "turns[0].role"),
        ([("ROLE_USER", "Hello"), ("ROLE_USER", "Hello?")], "turns[1].role"),
        ([("ROLE_USER", "Hello"), ("ROLE_ASSISTANT", "Yes")], "turns[1].role"),
        ([("ROLE_UNSPECIFIED", "Hello")], "turns[0].role"),
        ([("ROLE_USER", " ")], "turns[0].text"),
        ([("ROLE_USER", "bell \x07")], "turns[0].text"),
        ([("ROLE_USER", "x" * 20_000)], "turns"),
    ],
)
async def test_a_bad_conversation_is_refused(suite: Suite, turns: list[tuple[str, str]], field: str) -> None:
    message = pb.ChatRequest(
        image=image_pb2.Image(content=picture()),
        turns=[generator_service_pb2.Turn(role=role, text=text) for role, text in turns],
    )
    error = await failure_of(suite.stub.Chat(message).read())
    assert isinstance(error, InvalidInputError)
    assert error.field == field


async def test_a_bad_image_fails_detect_and_chat_alike(suite: Suite) -> None:
    image = image_pb2.Image(content=BAD_FILES["truncated PNG"]())
    query = pb.Query(phrases=pb.PhraseQuery(phrases=["cat"]))
    turn = generator_service_pb2.Turn(role="ROLE_USER", text="What is this?")
    calls: list[Any] = [
        suite.stub.Detect(pb.DetectRequest(image=image, query=query)),
        suite.stub.Chat(pb.ChatRequest(image=image, turns=[turn])).read(),
    ]
    for call in calls:
        error = await failure_of(call)
        assert isinstance(error, ImageInvalidError)
        assert error.field == "image.content"


async def test_an_image_that_only_the_generator_refuses_is_named_as_the_caller_does() -> None:
    async with serving(generator={"max_image_pixels": 1000}) as suite:
        error = await failure_of(suite.stub.Segment(proto()))
        assert isinstance(error, ImageInvalidError)
        assert error.field == "image.content"
        stored = await suite.stub.PutImage(iter([pb.PutImageRequest(chunk=picture())]))
        by_id = image_pb2.Image(id=stored.id)
        query = pb.Query(phrases=pb.PhraseQuery(phrases=["cat"]))
        turn = generator_service_pb2.Turn(role="ROLE_USER", text="What is this?")
        calls: list[Any] = [
            suite.stub.Segment(pb.SegmentRequest(image=by_id, query=query)),
            suite.stub.Detect(pb.DetectRequest(image=by_id, query=query)),
            suite.stub.Chat(pb.ChatRequest(image=by_id, turns=[turn])).read(),
        ]
        for call in calls:
            error = await failure_of(call)
            assert isinstance(error, ImageInvalidError)
            assert error.field == "image.id"


async def test_bytes_that_are_no_message_are_refused(suite: Suite) -> None:
    async with grpc.aio.insecure_channel(suite.orchestrator.address) as channel:
        call: Any = channel.unary_unary("/text4seg.v1.SegmentationService/Segment", None, None)
        with pytest.raises(grpc.RpcError) as failure:
            await call(b"\xff\xff\xff")
        assert failure.value.code() is not grpc.StatusCode.OK


async def test_bad_calls_among_good_ones_leave_them_alone(suite: Suite) -> None:
    good = [wire.segment_request_to_proto(request(f"thing {number}")) for number in range(8)]
    bad = [proto(make()) for make in BAD_FILES.values()]
    calls = [suite.stub.Segment(message) for pair in zip(good, bad, strict=True) for message in pair]
    results = await asyncio.gather(*calls, return_exceptions=True)
    for number, answer in enumerate(results[::2]):
        assert isinstance(answer, pb.SegmentResponse)
        assert [region.label for region in answer.regions] == [f"thing {number}"]
    assert all(isinstance(failure, grpc.RpcError) for failure in results[1::2])
