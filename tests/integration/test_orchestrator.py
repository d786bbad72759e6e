"""SegmentationService over real gRPC, in front of the fakes and of grabcut."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
from PIL import Image

from tests.orchestrator_fakes import assert_same
from tests.serving import Suite, picture, request, serving
from text4seg import wire
from text4seg.dialogue import find_blocks
from text4seg.errors import FeatureUnimplementedError
from text4seg.masks import box_of, upsample
from text4seg.segmentation import (
    CacheMode,
    CacheOutcome,
    ChatFinish,
    ChatRegions,
    ChatRequest,
    ChatText,
    CoarseRegions,
    DetectRequest,
    GridRow,
    ImageContent,
    ImageId,
    MaskFormat,
    PhraseQuery,
    RefineMode,
    SegmentAnswer,
    SegmentRequest,
    StoredImage,
    Turn,
)
from text4seg.v1 import segmentation_service_pb2 as pb


@pytest.fixture
async def suite() -> AsyncIterator[Suite]:
    async with serving() as suite:
        yield suite


async def segment(suite: Suite, asked: SegmentRequest) -> SegmentAnswer:
    response = await suite.stub.Segment(wire.segment_request_to_proto(asked))
    return wire.segment_answer_from_proto(response, decode_png)


def decode_png(file: bytes) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    return np.asarray(Image.open(io.BytesIO(file)))


async def put(suite: Suite, file: bytes, piece: int = 1000) -> StoredImage:
    pieces = (pb.PutImageRequest(chunk=file[begin : begin + piece]) for begin in range(0, len(file), piece))
    return wire.stored_image_from_proto(await suite.stub.PutImage(pieces))


async def test_the_mask_is_the_written_grid_on_the_upright_image(suite: Suite) -> None:
    answer = await segment(suite, request("cat", picture(48, 64), refine=RefineMode.NONE))
    (region,) = answer.regions
    expected = upsample(answer.descriptors[0].grid.mask("cat"), (48, 64))
    assert_same(region.mask, expected)
    assert region.box == box_of(expected)
    assert region.area == np.count_nonzero(expected)
    assert answer.image_size == (48, 64)
    assert not region.refined
    assert 0 < region.score <= 1


async def test_exif_rotation_turns_the_image(suite: Suite) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = picture(48, 64, file_format="JPEG", exif=exif)
    answer = await segment(suite, request("cat", rotated))
    assert answer.image_size == (64, 48)
    mask = answer.regions[0].mask
    assert mask is not None
    assert mask.shape == (64, 48)


async def test_the_refiner_takes_part_by_default(suite: Suite) -> None:
    answer = await segment(suite, request("cat"))
    (region,) = answer.regions
    assert region.refined
    assert region.refine_score is not None
    assert answer.warnings == ()
    assert answer.versions.refiner.startswith("identity")
    assert answer.timing.refine_s is not None


async def test_every_mask_format_holds_the_same_mask(suite: Suite) -> None:
    plain = await segment(suite, request("cat"))
    for mask_format in (MaskFormat.PNG, MaskFormat.POLYGON, MaskFormat.COCO_RLE):
        answer = await segment(suite, request("cat", mask_format=mask_format))
        assert_same(answer.regions[0].mask, plain.regions[0].mask)
        assert answer.cache is CacheOutcome.HIT
    grid = (await segment(suite, request("cat", mask_format=MaskFormat.GRID))).regions[0]
    assert_same(grid.grid_mask, plain.descriptors[0].grid.mask("cat"))
    none = (await segment(suite, request("cat", mask_format=MaskFormat.NONE))).regions[0]
    assert none.mask is None
    assert none.grid_mask is None
    assert none.box == plain.regions[0].box


async def test_phrases_labels_and_open_vocabulary(suite: Suite) -> None:
    phrases = await segment(suite, request(PhraseQuery(("a Dog", "cat", "a  dog"))))
    assert [region.label for region in phrases.regions] == ["a dog", "cat", "a dog"]
    labels = await segment(suite, request(("sky", "road", "Sky ")))
    assert {region.label for region in labels.regions} <= {"sky", "road"}
    assert len(labels.descriptors) == 1
    opened = await segment(suite, request(None))
    assert [region.label for region in opened.regions] == ["object"]


async def test_a_long_list_of_labels() -> None:
    labels = tuple(f"kind {number}" for number in range(150))
    async with serving(orchestrator={"max_phrases": 150}) as suite:
        answer = await segment(suite, request(labels))
    assert answer.regions
    assert {region.label for region in answer.regions} <= set(labels)


async def test_nothing_there() -> None:
    async with serving(generator={"script": "others"}) as suite:
        answer = await segment(suite, request("unicorn", refine=RefineMode.REQUIRED))
        assert answer.regions == ()
        assert answer.no_target_score > 0.5


async def test_cache_modes_and_outcomes(suite: Suite) -> None:
    async def outcome(mode: CacheMode) -> CacheOutcome:
        return (await segment(suite, request("cat", cache=mode))).cache

    assert await outcome(CacheMode.DEFAULT) is CacheOutcome.MISS
    assert await outcome(CacheMode.DEFAULT) is CacheOutcome.HIT
    assert await outcome(CacheMode.BYPASS) is CacheOutcome.BYPASS
    assert await outcome(CacheMode.REFRESH) is CacheOutcome.MISS
    assert await outcome(CacheMode.DEFAULT) is CacheOutcome.HIT


async def test_the_cache_can_be_switched_off() -> None:
    async with serving(orchestrator={"cache_ttl_s": 0}) as suite:
        for _ in range(2):
            assert (await segment(suite, request("cat"))).cache is CacheOutcome.BYPASS


async def test_a_hit_is_the_same_answer(suite: Suite) -> None:
    asked = wire.segment_request_to_proto(request(("sky", "road"), confidence_map=True))
    first = await suite.stub.Segment(asked)
    second = await suite.stub.Segment(asked)
    assert second.cache == pb.CACHE_OUTCOME_HIT
    for response in (first, second):
        response.ClearField("timing")
        response.ClearField("cache")
    assert first == second


async def test_a_stream_and_a_call_give_the_same_answer(suite: Suite) -> None:
    asked = request(PhraseQuery(("cat", "dog")), cache=CacheMode.BYPASS)
    call = suite.stub.StreamSegment(wire.stream_segment_request_to_proto(asked))
    events = [wire.segment_event_from_proto(response) async for response in call]
    rows = [event for event in events if isinstance(event, GridRow)]
    *_, coarse, answer = events
    assert isinstance(coarse, CoarseRegions)
    assert isinstance(answer, SegmentAnswer)
    assert len(rows) == len(events) - 2 == 32
    whole = await segment(suite, asked)
    assert answer.regions == whole.regions
    for place, descriptor in enumerate(whole.descriptors):
        written = [row.labels for row in sorted(rows, key=lambda row: row.row) if row.descriptor == place]
        assert written == [
            tuple(descriptor.grid.labels[cell] for cell in line) for line in descriptor.grid.cells.tolist()
        ]


async def test_detect_finds_the_boxes_of_segment(suite: Suite) -> None:
    asked = DetectRequest(ImageContent(picture()), PhraseQuery(("cat", "dog")))
    answer = wire.detect_answer_from_proto(await suite.stub.Detect(wire.detect_request_to_proto(asked)))
    regions = (await segment(suite, request(PhraseQuery(("cat", "dog")), refine=RefineMode.NONE))).regions
    assert [(found.label, found.box) for found in answer.detections] == [
        (region.label, region.box) for region in regions
    ]
    assert answer.versions.refiner == ""


async def test_chat_speaks_marks_and_remembers(suite: Suite) -> None:
    image = ImageContent(picture())
    asked = ChatRequest(image, (Turn("user", "Please segment the object."),))
    call = suite.stub.Chat(wire.chat_request_to_proto(asked))
    events = [wire.chat_event_from_proto(response) async for response in call]
    text = "".join(event.text for event in events if isinstance(event, ChatText))
    (found,) = (event for event in events if isinstance(event, ChatRegions))
    (block,) = find_blocks(text)
    assert (found.begin, found.end) == (block.begin, block.end)
    assert [region.label for region in found.regions] == ["object"]
    finish = events[-1]
    assert isinstance(finish, ChatFinish)
    assert finish.turn == Turn("assistant", text)

    following = ChatRequest(image, (*asked.turns, finish.turn, Turn("user", "What do you see?")))
    call = suite.stub.Chat(wire.chat_request_to_proto(following))
    events = [wire.chat_event_from_proto(response) async for response in call]
    assert isinstance(events[-1], ChatFinish)
    assert "see nothing" in events[-1].turn.text


async def test_an_uploaded_image_is_used_by_its_id(suite: Suite) -> None:
    file = picture(50, 70, seed=4)
    stored = await put(suite, file)
    assert stored.size == (50, 70)
    assert stored.time_to_live_s > 0
    assert (await put(suite, file, piece=777)).id == stored.id
    assert (await put(suite, picture(50, 70, seed=5))).id != stored.id
    by_content = await segment(suite, request("cat", file))
    by_id = await segment(suite, request("cat", ImageId(stored.id)))
    assert by_id.regions == by_content.regions
    assert by_id.cache is CacheOutcome.HIT  # the same file, however it came


async def test_model_info(suite: Suite) -> None:
    info = wire.model_info_from_proto(await suite.stub.GetModelInfo(pb.GetModelInfoRequest()))
    assert info.generator.engine == "scripted"
    assert info.generator.shape == (16, 16)
    assert info.refiner_models[0] == "identity"
    assert info.versions.model.startswith("scripted-fake")
    assert info.limits.phrases == 32
    assert info.limits.image_bytes > 0


async def test_grabcut_refines() -> None:
    image = np.full((96, 96, 3), 40, np.uint8)
    async with serving(refiner={"model": "grabcut"}) as suite:
        coarse = (await segment(suite, request("cat", picture(96, 96), refine=RefineMode.NONE))).regions[0]
        # A bright disc where the fake says that the cat is.
        box = coarse.box
        rows, columns = np.mgrid[:96, :96]
        centre = ((box.y0 + box.y1) / 2, (box.x0 + box.x1) / 2)
        radii = ((box.y1 - box.y0) / 2, (box.x1 - box.x0) / 2)
        disc = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1
        image[disc] = (250, 200, 30)
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        answer = await segment(suite, request("cat", file.getvalue()))
    (region,) = answer.regions
    assert region.refined
    assert answer.warnings == ()
    assert answer.versions.refiner.startswith("grabcut")
    assert region.mask is not None
    assert coarse.mask is not None

    def overlap(mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> float:
        return float((mask & disc).sum() / (mask | disc).sum())

    assert overlap(region.mask) > overlap(coarse.mask)


async def test_what_is_not_there_yet_says_so_by_name(suite: Suite) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        await suite.stub.SegmentFrames(iter([pb.SegmentFramesRequest()])).read()
    error = wire.error_from_rpc(failure.value)
    assert isinstance(error, FeatureUnimplementedError)
    assert error.feature == "SegmentFrames"
