"""The client against the real services; only the generator's model is the scripted fake."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from text4seg.errors import (
    ImageInvalidError,
    ImageNotFoundError,
    LabelInvalidError,
    OptionInvalidError,
    QueryInvalidError,
    Text4SegError,
)
from text4seg.masks import box_of
from text4seg.segmentation import (
    CacheOutcome,
    ChatFinish,
    ChatRegions,
    ChatText,
    CoarseRegions,
    GridRow,
    ImageUri,
    SegmentAnswer,
)
from text4seg_client import (
    AsyncClient,
    CacheMode,
    Client,
    ImageId,
    LabelQuery,
    MaskFormat,
    RefineMode,
    SegmentOptions,
    Turn,
)

COARSE = SegmentOptions(refine=RefineMode.NONE)
PIXELS = np.random.default_rng(1).integers(0, 256, (120, 200, 3), np.uint8)


@pytest.fixture
def client(services_address: str) -> Iterator[Client]:
    with Client(services_address) as client:
        yield client


def test_masks_boxes_and_areas_belong_together(client: Client) -> None:
    answer = client.segment(PIXELS, ["cat", "dog"])
    assert [region.label for region in answer.regions] == ["cat", "dog"]
    assert answer.image_size == (120, 200)
    assert len(answer.descriptors) == 2
    for region in answer.regions:
        assert region.mask is not None
        assert region.mask.shape == (120, 200)
        assert box_of(region.mask) == region.box
        assert region.area == int(region.mask.sum())
        assert 0 < region.score <= 1


def test_every_full_size_format_is_the_same_mask(client: Client) -> None:
    masks = []
    for form in (MaskFormat.COCO_RLE, MaskFormat.PNG, MaskFormat.POLYGON):
        options = SegmentOptions(refine=RefineMode.NONE, mask_format=form)
        (region,) = client.segment(PIXELS, "cat", options).regions
        assert region.mask is not None
        masks.append(region.mask)
    assert np.array_equal(masks[0], masks[1])
    assert np.array_equal(masks[0], masks[2])
    (region,) = client.segment(PIXELS, "cat", SegmentOptions(mask_format=MaskFormat.GRID)).regions
    assert region.mask is None
    assert region.grid_mask is not None
    assert region.grid_mask.shape == answer_shape(client)


def answer_shape(client: Client) -> tuple[int, int]:
    return client.model_info().generator.shape


def test_a_stream_ends_with_the_answer_of_segment(client: Client) -> None:
    options = SegmentOptions(refine=RefineMode.NONE, cache=CacheMode.BYPASS)
    events = list(client.stream_segment(PIXELS, "bird", options))
    rows = [event for event in events if isinstance(event, GridRow)]
    assert [row.row for row in rows] == list(range(answer_shape(client)[0]))
    (coarse,) = [event for event in events if isinstance(event, CoarseRegions)]
    answer = events[-1]
    assert isinstance(answer, SegmentAnswer)
    assert coarse.regions == answer.regions
    grid = answer.descriptors[0].grid
    assert [row.labels for row in rows] == [
        tuple(grid.labels[cell] for cell in cells) for cells in grid.cells
    ]
    assert client.segment(PIXELS, "bird", options).regions == answer.regions


def test_an_uploaded_image_answers_like_the_image(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    stored = client.put_image(path)
    assert stored.size == (120, 200)
    assert client.put_image(path.read_bytes()).id == stored.id
    one = client.segment(ImageId(stored.id), "horse", COARSE)
    other = client.segment(path, "horse", COARSE)
    assert one.regions == other.regions
    assert other.cache is CacheOutcome.HIT


def test_a_large_image_needs_no_care(client: Client) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), np.uint8)
    answer = client.segment(noise, "cat", COARSE)
    assert answer.image_size == (1400, 1400)


def test_detect_finds_the_boxes_of_segment(client: Client) -> None:
    boxes = [found.box for found in client.detect(PIXELS, ["cat", "dog"]).detections]
    assert boxes == [region.box for region in client.segment(PIXELS, ["cat", "dog"], COARSE).regions]


def test_label_lists(client: Client) -> None:
    answer = client.segment(PIXELS, LabelQuery(("sky", "road")), COARSE)
    assert {region.label for region in answer.regions} <= {"sky", "road"}
    assert len(answer.descriptors) == 1


def test_a_conversation_goes_on(client: Client) -> None:
    question = Turn("user", "Please segment the dog.")
    first = list(client.chat(PIXELS, [question]))
    finish = first[-1]
    assert isinstance(finish, ChatFinish)
    assert finish.turn.text == "".join(event.text for event in first if isinstance(event, ChatText))
    for event in first:
        if isinstance(event, ChatRegions):
            assert finish.turn.text[event.begin : event.end].startswith("<seg>")
    second = list(client.chat(PIXELS, [question, finish.turn, Turn("user", "And what else?")]))
    assert isinstance(second[-1], ChatFinish)


@pytest.mark.parametrize(
    ("image", "query", "options", "error", "field"),
    [
        (b"", "cat", COARSE, ImageInvalidError, "image.content"),
        (b"no image", "cat", COARSE, ImageInvalidError, "image.content"),
        (PIXELS, "", COARSE, QueryInvalidError, "query.phrases.phrases[0]"),
        (PIXELS, [], COARSE, QueryInvalidError, "query.phrases.phrases"),
        (PIXELS, ["cat"] * 100, COARSE, QueryInvalidError, "query.phrases.phrases"),
        (PIXELS, ["cat", "a|b"], COARSE, LabelInvalidError, "query.phrases.phrases[1]"),
        (PIXELS, "cat\x00", COARSE, LabelInvalidError, "query.phrases.phrases[0]"),
        (PIXELS, "x" * 5000, COARSE, Text4SegError, "query.phrases.phrases[0]"),
        (PIXELS, "cat", SegmentOptions(min_score=2.0), OptionInvalidError, "options.min_score"),
    ],
)
def test_bad_input_is_refused_by_field(
    client: Client, image: bytes, query: str, options: SegmentOptions, error: type[Text4SegError], field: str
) -> None:
    with pytest.raises(error) as raised:
        client.segment(image, query, options)
    assert getattr(raised.value, "field", None) == field
    assert raised.value.request_id


def test_an_address_is_not_fetched(client: Client) -> None:
    with pytest.raises(Text4SegError, match=r"image\.uri"):
        client.segment(ImageUri("http://127.0.0.1/a.png"), "cat")


def test_an_unknown_id_is_not_found(client: Client) -> None:
    with pytest.raises(ImageNotFoundError):
        client.segment(ImageId("sha256-" + "0" * 64), "cat")


async def test_the_async_client_gets_the_same_answers(services_address: str, client: Client) -> None:
    async with AsyncClient(services_address) as concurrent:
        answer = await concurrent.segment(PIXELS, "cat", COARSE)
        events = [event async for event in concurrent.stream_segment(PIXELS, "cat", COARSE)]
        found = await concurrent.detect(PIXELS, "cat")
    assert answer.regions == client.segment(PIXELS, "cat", COARSE).regions
    assert isinstance(events[-1], SegmentAnswer)
    assert events[-1].regions == answer.regions
    assert found.detections[0].box == answer.regions[0].box
