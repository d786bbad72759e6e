"""The refine use case, over the fake model."""

import asyncio
import threading
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.admission import Gate
from services.chassis.worker import ModelThread
from services.refiner.identity_model import IdentityModel
from services.refiner.refine import Embedding, EmbeddingMemory, Refine, SharpMask, upsample_coarse
from text4seg.errors import ImageInvalidError, OptionInvalidError, OverloadedError
from text4seg.masks import upsample
from text4seg.segmentation import RefineRequest

HEIGHT, WIDTH = 24, 40


class RecordingModel(IdentityModel):
    """Counts what is asked of it, keeps 100 bytes per image, and returns the upper half of each mask."""

    def __init__(self, name="recording", batch=1):
        self.name = name
        self.version = f"{name}-5"
        self.batch = batch
        self.embedded = []
        self.seeds = []
        self.batches = []

    def embed(self, image):
        self.embedded.append(image)
        return Embedding(image.shape[:2], image, 100)

    def decode(self, embedding, coarse, seed):
        self.seeds.append(seed)
        self.batches.append(len(coarse))
        return tuple(SharpMask(upper_half(cells, embedding.image_size), 0.25) for cells in coarse)


def upper_half(coarse, size):
    mask = upsample_coarse(coarse, size)
    rows = np.flatnonzero(mask.any(axis=1))
    mask[rows[rows.size // 2] :] = False
    return mask


def read(data):
    if data == b"broken":
        raise ImageInvalidError("image", "the file is damaged")
    return np.full((HEIGHT, WIDTH, 3), data[0], dtype=np.uint8)


@asynccontextmanager
async def use_case(*models, memory=1000, queue=4):
    async with ModelThread() as thread:
        by_name = {model.name: model for model in models or [IdentityModel()]}
        yield Refine(by_name, read, thread, Gate(1, queue), EmbeddingMemory(memory))


def box(row=2, col=3, side=4):
    coarse = np.zeros((8, 10), dtype=np.float32)
    coarse[row : row + side, col : col + side] = 1
    return coarse


async def test_the_fake_upsamples_and_agrees_with_itself():
    async with use_case() as refine:
        answer = await refine(RefineRequest(b"a", (box(),)))
    (refined,) = answer.masks
    np.testing.assert_array_equal(refined.mask, upsample(box(), (HEIGHT, WIDTH), "bilinear") > 0.5)
    assert (refined.score, refined.agreement) == (1, 1)
    assert answer.model == "identity"


async def test_masks_come_back_in_order_with_their_agreement():
    async with use_case(RecordingModel()) as refine:
        answer = await refine(RefineRequest(b"a", (box(0, 0), box(4, 6))))
    first, second = answer.masks
    assert first.mask[0, 0]
    assert not first.mask[HEIGHT // 2 :].any()
    assert second.mask.any()
    assert not second.mask[: HEIGHT // 2 - 1].any()
    assert first.score == 0.25
    assert first.agreement == pytest.approx(0.5, abs=0.1)


async def test_a_model_gets_as_many_masks_at_once_as_it_takes_and_no_empty_one():
    empty = np.zeros((8, 10), dtype=np.float32)
    coarse = (box(0), empty, box(1), box(2), empty, box(3), box(4))
    one_by_one, batched = RecordingModel(), RecordingModel("batched", batch=3)
    async with use_case(one_by_one, batched) as refine:
        expected = await refine(RefineRequest(b"a", coarse))
        answer = await refine(RefineRequest(b"a", coarse, model="batched"))
    assert one_by_one.batches == [1] * 5
    assert batched.batches == [3, 2]
    assert answer.masks == expected.masks


async def test_an_image_is_encoded_once_however_many_masks_and_calls_there_are():
    model, other = RecordingModel(), RecordingModel("other")
    async with use_case(model, other) as refine:
        await refine(RefineRequest(b"a", (box(), box(1), box(2))))
        await refine(RefineRequest(b"a", (box(3),)))
        assert len(model.embedded) == 1
        await refine(RefineRequest(b"b", (box(),)))
        assert len(model.embedded) == 2
        await refine(RefineRequest(b"a", (box(),), model="other"))
    assert len(other.embedded) == 1


async def test_an_empty_coarse_mask_is_not_shown_to_the_model():
    model = RecordingModel()
    faint = np.full((8, 10), 0.49, dtype=np.float32)
    async with use_case(model) as refine:
        answer = await refine(RefineRequest(b"a", (np.zeros((8, 10), dtype=np.float32), faint)))
    assert model.seeds == []
    for refined in answer.masks:
        assert refined.mask.shape == (HEIGHT, WIDTH)
        assert not refined.mask.any()
        assert refined.agreement == 1


async def test_every_mask_gets_the_seed_of_the_request():
    model = RecordingModel()
    async with use_case(model) as refine:
        await refine(RefineRequest(b"a", (box(), box()), seed=7))
    assert model.seeds == [7, 7]


async def test_a_model_that_is_not_loaded_is_refused_by_name():
    async with use_case() as refine:
        with pytest.raises(OptionInvalidError, match=r"'sam-vit-h' is not one of: identity") as caught:
            await refine(RefineRequest(b"a", (box(),), model="sam-vit-h"))
    assert caught.value.field == "model"


async def test_a_broken_image_is_refused_and_the_next_call_is_served():
    async with use_case(queue=0) as refine:
        with pytest.raises(ImageInvalidError):
            await refine(RefineRequest(b"broken", (box(),)))
        assert len((await refine(RefineRequest(b"a", (box(),)))).masks) == 1


async def test_info_names_the_default_first():
    async with use_case(RecordingModel(), IdentityModel()) as refine:
        assert refine.info.model == "recording"
        assert refine.info.models == ("recording", "identity")
        assert refine.info.versions == ("recording-5", "identity-1")
        assert refine.info.version == refine.info.version_of("recording") == "recording-5"
        assert refine.info.version_of("identity") == "identity-1"


async def test_the_stages_are_timed_by_the_clock():
    ticks = iter(range(100))
    async with ModelThread() as thread:
        models = {"identity": IdentityModel()}
        refine = Refine(models, read, thread, Gate(1, 0), EmbeddingMemory(0), lambda: float(next(ticks)))
        answer = await refine(RefineRequest(b"a", (box(), box())))
    assert (answer.embed_s, answer.decode_s) == (1, 2)


async def test_a_cancelled_caller_stops_the_model_at_the_next_mask_and_frees_its_place():
    begun, may_end = threading.Event(), threading.Event()

    class SlowModel(RecordingModel):
        def decode(self, embedding, coarse, seed):
            begun.set()
            assert may_end.wait(10)
            return super().decode(embedding, coarse, seed)

    model = SlowModel()
    async with use_case(model, queue=0) as refine:
        call = asyncio.create_task(refine(RefineRequest(b"a", (box(),) * 20)))
        await asyncio.to_thread(begun.wait, 10)
        with pytest.raises(OverloadedError):
            await refine(RefineRequest(b"a", (box(),)))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        may_end.set()
        await refine(RefineRequest(b"a", (box(),)))
    assert len(model.seeds) == 2


def embedding(nbytes):
    return Embedding((1, 1), None, nbytes)


def test_the_memory_drops_what_was_used_least_recently():
    memory, made = EmbeddingMemory(250), []

    def get(file):
        def make():
            made.append(file)
            return embedding(100)

        memory.get("model", file, make)

    for file in (b"a", b"b", b"a", b"c", b"a", b"b"):
        get(file)
    assert made == [b"a", b"b", b"c", b"b"]


def test_the_memory_does_not_keep_what_is_larger_than_itself():
    memory, made = EmbeddingMemory(250), []

    def make():
        made.append(1)
        return embedding(251)

    assert memory.get("model", b"a", make).nbytes == 251
    memory.get("model", b"a", make)
    assert len(made) == 2


def test_the_memory_does_not_remember_failures():
    memory = EmbeddingMemory(250)

    def fail():
        raise ImageInvalidError("image", "the file is damaged")

    with pytest.raises(ImageInvalidError):
        memory.get("model", b"a", fail)
    assert memory.get("model", b"a", lambda: embedding(5)).nbytes == 5


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_nothing_found_is_lost_by_upsampling(rows, cols, height, width, seed):
    cells = np.random.default_rng(seed).random((rows, cols)) < 0.2
    mask = upsample_coarse(cells.astype(np.float32), (height, width))
    assert mask.shape == (height, width)
    assert mask.any() == cells.any()


def test_probabilities_put_the_outline_between_cells():
    mask = upsample_coarse(np.array([[1.0, 0.2]], dtype=np.float32), (1, 80))
    assert mask.sum() == 45  # 1 - 0.8 t = 0.5 at t = 0.625, counted from the first cell's centre at 20
