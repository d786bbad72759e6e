"""What every mask model promises, over the fake and the real ones."""

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2_grpc

from services.chassis.peer_call import channel_options
from services.refiner.grabcut_model import GrabCutModel
from services.refiner.identity_model import IdentityModel
from services.refiner.triton_model import HostedModel, TritonMaskModel
from tests.triton_server import MASKS

SIZES = [(1, 1), (1, 40), (37, 5), (3, 900), (3000, 1), (300, 200), (513, 700)]


def make_sam():
    pytest.importorskip("segment_anything")
    from services.refiner.sam_model import SamModel
    from tests.tiny_sam import tiny_sam

    return SamModel(tiny_sam(), "tiny", "random")


def make_light():
    pytest.importorskip("segment_anything")
    from services.refiner.light_model import LightModel
    from tests.tiny_light import tiny_light

    return LightModel(tiny_light(), "random")


@pytest.fixture(
    params=[IdentityModel, GrabCutModel, make_sam, make_light, "triton"],
    ids=["identity", "grabcut", "sam", "light", "triton"],
    scope="module",
)
def model(request):
    if request.param != "triton":
        yield request.param()
        return
    grabcut = GrabCutModel()
    hosted = HostedModel(grabcut.name, grabcut.version, grabcut.batch)
    with grpc.insecure_channel(request.getfixturevalue("triton").url, channel_options()) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        yield TritonMaskModel(stub, MASKS, lambda: hosted, timeout_s=60)


def picture(size, seed=0):
    """Two colours with noise, the left third of the image in the one."""
    height, width = size
    image = np.random.default_rng(seed).integers(0, 60, (height, width, 3))
    image[:, : width // 3] += 150
    return image.astype(np.uint8)


def left(shape=(16, 16), part=3):
    coarse = np.zeros(shape, dtype=np.float32)
    coarse[:, : max(1, shape[1] // part)] = 1
    return coarse


def single_cell():
    coarse = np.zeros((16, 16), dtype=np.float32)
    coarse[15, 0] = 1
    return coarse


def sharpen(model, embedding, coarse, seed=0):
    (sharp,) = model.decode(embedding, [coarse], seed)
    return sharp


COARSE = {
    "part": left(),
    "full": np.ones((16, 16), dtype=np.float32),
    "cell": single_cell(),
    "one": np.ones((1, 1), dtype=np.float32),
    "oblong": left((24, 7)),
    "probabilities": np.linspace(1, 0, 256, dtype=np.float32).reshape(16, 16).T,
    "unsure": np.full((16, 16), 0.5, dtype=np.float32),
}


def test_it_has_a_name_and_a_version_that_holds_it(model):
    assert model.name
    assert model.version.startswith(model.name)
    assert len(model.version) > len(model.name)


@pytest.mark.parametrize("size", SIZES)
def test_an_embedding_knows_the_images_size_and_its_own(model, size):
    embedding = model.embed(picture(size))
    assert embedding.image_size == size
    assert 0 <= embedding.nbytes < 64 << 20


@pytest.mark.parametrize("coarse", COARSE.values(), ids=COARSE)
@pytest.mark.parametrize("size", SIZES)
def test_a_mask_has_the_images_size_and_is_never_empty(model, size, coarse):
    sharp = sharpen(model, model.embed(picture(size)), coarse)
    assert sharp.mask.shape == size
    assert sharp.mask.dtype == np.bool_
    assert sharp.mask.any()
    assert 0 <= sharp.score <= 1


def test_the_same_question_has_the_same_answer(model):
    image, other = picture((90, 120)), picture((60, 50), seed=3)
    first = sharpen(model, model.embed(image), left(), 5)
    sharpen(model, model.embed(other), single_cell(), 1)
    again = sharpen(model, model.embed(image.copy()), left().copy(), 5)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert first.score == again.score


def test_one_embedding_serves_masks_in_any_order(model):
    embedding = model.embed(picture((90, 120)))
    forward = [sharpen(model, embedding, coarse, 2) for coarse in COARSE.values()]
    backward = [sharpen(model, embedding, coarse, 2) for coarse in reversed(COARSE.values())]
    for one, other in zip(forward, reversed(backward), strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)


@pytest.mark.parametrize("size", [(90, 120), (120, 90)])
def test_masks_sharpened_together_are_as_if_each_were_alone(model, size):
    embedding = model.embed(picture(size))
    coarse = [*COARSE.values(), left(part=2)]
    assert model.batch >= 1
    together = model.decode(embedding, coarse, 3)
    assert len(together) == len(coarse)
    for cells, one in zip(coarse, together, strict=True):
        alone = sharpen(model, embedding, cells, 3)
        # Sums of floats come out a little differently for several masks at once.
        assert (one.mask != alone.mask).mean() < 1e-3
        assert one.score == pytest.approx(alone.score, abs=1e-4)


def test_arguments_are_left_as_they_were(model):
    image, coarse = picture((90, 120)), left()
    image.setflags(write=False)
    coarse.setflags(write=False)
    before = image.copy()
    sharpen(model, model.embed(image), coarse)
    np.testing.assert_array_equal(image, before)


def test_an_image_need_not_be_contiguous(model):
    image = picture((90, 120))
    turned = sharpen(model, model.embed(image[:, ::-1]), left()[:, ::-1])
    copied = sharpen(model, model.embed(image[:, ::-1].copy()), left()[:, ::-1].copy())
    np.testing.assert_array_equal(turned.mask, copied.mask)
