"""Both clients against a server on the loopback interface: tests run once blocking and once on asyncio."""

import asyncio
import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from tests.hand_server import HandServicer, picture, png, serving
from text4seg.errors import (
    DeadlineExceededError,
    ImageInvalidError,
    ImageNotFoundError,
    LabelInvalidError,
    ModelLoadingError,
    OverloadedError,
    PeerUnavailableError,
    ServiceUnavailableError,
    Text4SegError,
    UnauthenticatedError,
)
from text4seg.segmentation import (
    ChatFinish,
    ChatRegions,
    ChatText,
    CoarseRegions,
    GridRow,
    SegmentAnswer,
)
from text4seg_client import (
    AsyncClient,
    Client,
    ImageId,
    LabelQuery,
    MaskFormat,
    OpenQuery,
    RefineMode,
    RetryPolicy,
    SegmentOptions,
    Turn,
)
from text4seg_client.retry import is_unreachable


@dataclass
class Caller:
    """Uses either client in the same words, and keeps a clock that only sleeping moves."""

    kind: type[Client] | type[AsyncClient]
    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    async def call(
        self, address: str, method: str, *arguments: Any, settings: Any = None, **options: Any
    ) -> Any:
        """Call a method; streams are collected in a list."""
        settings = settings or {}
        if self.kind is Client:
            return await asyncio.to_thread(self._block, address, method, arguments, settings, options)
        async with AsyncClient(
            address, clock=self._clock, sleep=self._async_sleep, random=_half, **settings
        ) as client:
            result = getattr(client, method)(*arguments, **options)
            return [event async for event in result] if inspect.isasyncgen(result) else await result

    def _block(self, address: str, method: str, arguments: Any, settings: Any, options: Any) -> Any:
        with Client(address, clock=self._clock, sleep=self._sleep, random=_half, **settings) as client:
            result = getattr(client, method)(*arguments, **options)
            return list(result) if inspect.isgenerator(result) else result

    def _clock(self) -> float:
        return self.now

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def _async_sleep(self, seconds: float) -> None:
        self._sleep(seconds)


def _half() -> float:
    return 0.5


@pytest.fixture(params=[Client, AsyncClient], ids=["blocking", "asyncio"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


async def test_segment_returns_masks_of_the_image(caller: Caller, address: str) -> None:
    answer = await caller.call(address, "segment", picture(), "Red")
    (region,) = answer.regions
    assert region.label == "red"
    assert region.box == (10, 5, 30, 25)
    assert region.mask.dtype == np.bool_
    assert np.array_equal(region.mask, picture()[..., 0] == 220)
    assert answer.image_size == (60, 80)


async def test_every_form_of_image_is_the_same_image(
    caller: Caller, address: str, servicer: HandServicer, tmp_path: Path
) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(png(picture()))
    stored = await caller.call(address, "put_image", path)
    images = [path, str(path), path.read_bytes(), picture(), Image.open(path), ImageId(stored.id)]
    boxes = [(await caller.call(address, "segment", image, "red")).regions[0].box for image in images]
    assert set(boxes) == {(10, 5, 30, 25)}


async def test_a_photograph_on_its_side_is_sent_upright(caller: Caller, address: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(picture())))
    turned.info["exif"] = exif.tobytes()
    turned.getexif()[0x0112] = 6
    answer = await caller.call(address, "segment", turned, "red")
    assert answer.image_size == (60, 80)
    assert answer.regions[0].box == (10, 5, 30, 25)


@pytest.mark.parametrize(
    "query", [("red", "blue"), ["red", "blue"], LabelQuery(("red", "blue")), OpenQuery()]
)
async def test_queries_of_every_kind(caller: Caller, address: str, query: Any) -> None:
    answer = await caller.call(address, "segment", picture(), query)
    assert [region.label for region in answer.regions] == ["red", "blue"]


@pytest.mark.parametrize("mask_format", [MaskFormat.COCO_RLE, MaskFormat.PNG, MaskFormat.POLYGON])
async def test_masks_arrive_in_every_full_size_format(
    caller: Caller, address: str, mask_format: MaskFormat
) -> None:
    options = SegmentOptions(mask_format=mask_format)
    answer = await caller.call(address, "segment", picture(), "blue", options)
    assert np.array_equal(answer.regions[0].mask, picture()[..., 2] == 230)


async def test_options_reach_the_server(caller: Caller, address: str) -> None:
    options = SegmentOptions(split_instances=True, refine=RefineMode.NONE)
    answer = await caller.call(address, "segment", picture(), "blue", options)
    assert [region.box for region in answer.regions] == [(50, 40, 60, 50), (65, 40, 75, 50)]
    assert not any(region.refined for region in answer.regions)
    none_left = await caller.call(address, "segment", picture(), "blue", SegmentOptions(min_score=0.9))
    assert none_left.regions == ()


async def test_nothing_there_is_an_answer(caller: Caller, address: str) -> None:
    answer = await caller.call(address, "segment", picture(), "green")
    assert answer.regions == ()
    assert answer.no_target_score == pytest.approx(0.875)


async def test_stream_segment_gives_rows_then_coarse_then_the_answer(caller: Caller, address: str) -> None:
    row, coarse, answer = await caller.call(address, "stream_segment", picture(), "red")
    assert isinstance(row, GridRow)
    assert isinstance(coarse, CoarseRegions)
    assert isinstance(answer, SegmentAnswer)
    assert coarse.regions[0].mask is not None
    assert np.array_equal(coarse.regions[0].mask, picture()[..., 0] == 220)


async def test_detect_returns_boxes(caller: Caller, address: str) -> None:
    answer = await caller.call(address, "detect", picture(), ["red", "green"])
    assert [(found.label, found.box) for found in answer.detections] == [("red", (10, 5, 30, 25))]


async def test_chat_gives_text_regions_and_the_turn_to_go_on_with(caller: Caller, address: str) -> None:
    first = await caller.call(address, "chat", picture(), "where is red")
    text = "".join(event.text for event in first if isinstance(event, ChatText))
    (found,) = [event for event in first if isinstance(event, ChatRegions)]
    finish = first[-1]
    assert isinstance(finish, ChatFinish)
    assert finish.turn == Turn("assistant", text)
    assert text[found.begin : found.end].startswith("<seg>")
    assert found.regions[0].box == (10, 5, 30, 25)
    turns = (Turn("user", "where is red"), finish.turn, Turn("user", "and blue?"))
    second = await caller.call(address, "chat", picture(), turns)
    assert second[-1].turn.text.startswith("It is turn 3")


async def test_model_info_describes_the_server(caller: Caller, address: str) -> None:
    info = await caller.call(address, "model_info")
    assert info.generator.shape == (16, 16)
    assert info.versions.model == "hand 1"


async def test_an_image_over_the_limit_of_a_message_is_uploaded_in_pieces(
    caller: Caller, address: str, servicer: HandServicer
) -> None:
    noise = np.random.default_rng(0).integers(60, 100, (1500, 1500, 3), np.uint8)
    noise[10:90, 20:60] = (220, 30, 40)
    data = png(noise)
    assert len(data) > 4 << 20  # the limit of the server
    answer = await caller.call(address, "segment", data, "red")
    assert answer.regions[0].box == (20, 10, 60, 90)
    assert [seen.method for seen in servicer.seen] == ["PutImage", "Segment"]
    assert sum(servicer.seen[0].chunks) == len(data)
    assert max(servicer.seen[0].chunks) == 256 << 10


async def test_an_uploaded_image_that_the_server_lost_is_uploaded_again(
    caller: Caller, address: str, servicer: HandServicer
) -> None:
    class Forgetful(HandServicer):
        def Segment(self, message: Any, context: Any) -> Any:  # noqa: N802
            if sum(seen.method == "PutImage" for seen in self.seen) == 1:
                self.images.clear()
            return super().Segment(message, context)

    forgetful = Forgetful()
    with serving(forgetful) as where:
        answer = await caller.call(where, "segment", picture(), "red", settings={"inline_bytes": 10})
    assert answer.regions[0].box == (10, 5, 30, 25)
    assert [seen.method for seen in forgetful.seen] == ["PutImage", "Segment", "PutImage", "Segment"]


async def test_small_pieces_still_make_the_whole_file(
    caller: Caller, address: str, servicer: HandServicer
) -> None:
    data = png(picture())
    stored = await caller.call(address, "put_image", data, settings={"chunk_bytes": 100})
    assert servicer.images[stored.id] == data
    assert stored.size == (60, 80)
    assert len(servicer.seen[0].chunks) == -(-len(data) // 100)


@pytest.mark.parametrize("method", ["segment", "stream_segment", "detect"])
@pytest.mark.parametrize(
    "failure",
    [
        OverloadedError("full", 0.5),
        ModelLoadingError(retry_after_s=0.5),
        PeerUnavailableError("refiner", retry_after_s=0.5),
    ],
)
async def test_a_server_that_says_when_to_come_back_is_asked_again(
    caller: Caller, address: str, servicer: HandServicer, method: str, failure: Text4SegError
) -> None:
    servicer.failures += [failure, failure]
    await caller.call(address, method, picture(), "red")
    assert len(servicer.seen) == 3
    assert len(caller.slept) == 2
    assert all(0.5 <= seconds < 1.5 for seconds in caller.slept)


async def test_retries_end_after_the_last_attempt(
    caller: Caller, address: str, servicer: HandServicer
) -> None:
    servicer.failures += [OverloadedError(f"full {number}", 0.01) for number in range(9)]
    with pytest.raises(OverloadedError, match="full 2"):
        await caller.call(address, "segment", picture(), "red", settings={"retry": RetryPolicy(attempts=3)})
    assert len(servicer.seen) == 3


async def test_retries_end_before_the_deadline(caller: Caller, address: str, servicer: HandServicer) -> None:
    servicer.failures += [OverloadedError("full", 4.0) for _ in range(9)]
    with pytest.raises(OverloadedError):
        await caller.call(address, "segment", picture(), "red", timeout_s=10.0)
    assert sum(caller.slept) < 10
    assert len(servicer.seen) == 3
    # Time spent waiting is taken from the next attempt.
    assert servicer.seen[2].deadline_s < 10.0 - sum(caller.slept) + 0.1


@pytest.mark.parametrize(
    "failure",
    [
        ImageNotFoundError("sha256-0"),
        UnauthenticatedError("no API key"),
        LabelInvalidError("query.phrases[0]", "holds a delimiter"),
        DeadlineExceededError("generate"),
    ],
)
async def test_what_cannot_get_better_is_raised_at_once(
    caller: Caller, address: str, servicer: HandServicer, failure: Text4SegError
) -> None:
    servicer.failures += [failure]
    with pytest.raises(type(failure)) as raised:
        await caller.call(address, "segment", picture(), "red")
    assert str(raised.value) == str(failure)
    assert isinstance(raised.value.__cause__, grpc.RpcError)
    assert len(servicer.seen) == 1
    assert caller.slept == []


async def test_a_bad_image_names_the_field(caller: Caller, address: str) -> None:
    with pytest.raises(ImageInvalidError) as raised:
        await caller.call(address, "segment", b"no image", "red")
    assert raised.value.field == "image.content"


async def test_an_error_ends_a_stream(caller: Caller, address: str) -> None:
    with pytest.raises(ImageInvalidError):
        await caller.call(address, "stream_segment", b"no image", "red")


async def test_an_address_where_nobody_answers_is_not_tried_again(caller: Caller) -> None:
    with pytest.raises(ServiceUnavailableError) as raised:
        await caller.call("127.0.0.1:1", "segment", picture(), "red")
    assert is_unreachable(raised.value)
    assert raised.value.request_id == ""
    assert caller.slept == []


async def test_every_call_has_a_deadline(caller: Caller, address: str, servicer: HandServicer) -> None:
    for method in ("segment", "stream_segment", "detect"):
        await caller.call(address, method, picture(), "red")
    await caller.call(address, "chat", picture(), "red", timeout_s=20.0)
    await caller.call(address, "put_image", picture(), settings={"timeout_s": 30.0})
    await caller.call(address, "model_info")
    allowed = [60, 60, 60, 20, 30, 60]
    for seen, seconds in zip(servicer.seen, allowed, strict=True):
        assert seconds - 10 < seen.deadline_s < seconds + 1  # gRPC rounds


async def test_the_api_key_travels_with_every_call(
    caller: Caller, address: str, servicer: HandServicer
) -> None:
    servicer.api_key = "secret"
    with pytest.raises(UnauthenticatedError):
        await caller.call(address, "segment", picture(), "red")
    answer = await caller.call(address, "segment", picture(), "red", settings={"api_key": "secret"})
    assert answer.regions


def test_leaving_a_stream_early_cancels_the_call(address: str, servicer: HandServicer) -> None:
    servicer.hold = True
    with Client(address) as client:
        events = client.stream_segment(picture(), "red")
        next(events)
        events.close()
        assert servicer.cancelled.wait(20)


async def test_cancelling_the_task_cancels_the_call(address: str, servicer: HandServicer) -> None:
    servicer.hold = True
    async with AsyncClient(address) as client:
        started = asyncio.Event()

        async def read() -> None:
            async for _ in client.chat(picture(), "red"):
                started.set()

        task = asyncio.create_task(read())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(servicer.cancelled.wait, 20)


async def test_many_calls_share_one_async_client(address: str) -> None:
    async with AsyncClient(address) as client:
        answers = await asyncio.gather(
            *(client.segment(picture(), phrase) for phrase in ("red", "green", "blue") * 4)
        )
    assert [len(answer.regions) for answer in answers] == [1, 0, 1] * 4
