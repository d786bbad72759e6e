"""The SAM adapter against segment-anything's own predictor, and on files that are no checkpoints."""

from contextlib import contextmanager

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("segment_anything")

from segment_anything import SamPredictor, sam_model_registry  # noqa: E402
from segment_anything.utils.transforms import ResizeLongestSide  # noqa: E402

from services.refiner.sam_model import MaskPrompt, SamModel, kind_of, load_sam  # noqa: E402
from tests.tiny_sam import tiny_sam  # noqa: E402
from text4seg.errors import CheckpointError  # noqa: E402
from text4seg.masks import upsample  # noqa: E402
from text4seg.prompts import mask_prompt_aligned, mask_prompt_stretched, sample_points  # noqa: E402

SIZE = (150, 260)
SIZES = [SIZE, (260, 150), (200, 200), (37, 301)]


def picture(size=SIZE):
    return np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)


def box(top=4, bottom=9, left=2, right=13):
    coarse = np.zeros((16, 16), dtype=np.float32)
    coarse[top:bottom, left:right] = 1
    return coarse


FULL = np.ones((16, 16), dtype=np.float32)


def draw(predictor, coarse, seed):
    frame = upsample(coarse >= 0.5, predictor.input_size)
    return sample_points(frame, 10, 10, np.random.default_rng(seed))


def predict(sam, coarse, seed, prompt, size=SIZE, calls=3):
    """The paper's steps for one mask, written with segment-anything's predictor."""
    predictor = SamPredictor(sam)
    predictor.set_image(picture(size))
    points, labels = (torch.as_tensor(array)[None] for array in draw(predictor, coarse, seed))
    low = torch.as_tensor(prompt)[None]
    for _ in range(calls):
        masks, quality, low = predictor.predict_torch(points, labels, None, low, multimask_output=False)
    return masks[0, 0].numpy(), float(quality[0, 0])


def sharpen(model, coarse, seed=0, size=SIZE):
    (sharp,) = model.decode(model.embed(picture(size)), [coarse], seed)
    return sharp


@contextmanager
def prompts_to(sam):
    """Collects what SAM's prompt encoder is given, and the mask decoder's low-resolution answers."""
    prompts, answers = [], []
    hooks = [
        sam.prompt_encoder.register_forward_pre_hook(
            lambda module, args, kwargs: prompts.append(kwargs), with_kwargs=True
        ),
        sam.mask_decoder.register_forward_hook(lambda module, args, answer: answers.append(answer[0])),
    ]
    try:
        yield prompts, answers
    finally:
        for hook in hooks:
            hook.remove()


@pytest.fixture(scope="module")
def sam():
    return tiny_sam(seed=0)


@pytest.mark.parametrize("size", SIZES)
def test_it_encodes_the_image_as_segment_anything_does(sam, size):
    predictor = SamPredictor(sam)
    predictor.set_image(picture(size))
    embedding = SamModel(sam, "tiny", "random").embed(picture(size))
    assert embedding.image_size == size
    assert torch.equal(embedding.content, predictor.get_image_embedding())
    assert embedding.nbytes == embedding.content.numel() * 4


@pytest.mark.parametrize("seed", [0, 11])
@pytest.mark.parametrize("variant", list(MaskPrompt))
def test_it_takes_the_papers_steps(sam, variant, seed):
    sharp = sharpen(SamModel(sam, "tiny", "random", variant), box(), seed)
    aligned = mask_prompt_aligned(box() == 1, SIZE)
    stretched = mask_prompt_stretched(box() == 1)
    prompt = aligned if variant is MaskPrompt.ALIGNED else stretched
    expected, quality = predict(sam, box(), seed, prompt)
    assert 0 < expected.mean() < 1  # otherwise the comparison says little
    np.testing.assert_array_equal(sharp.mask, expected)
    assert sharp.score == pytest.approx(min(max(quality, 0), 1))
    for calls in (1, 2, 4):
        assert (expected != predict(sam, box(), seed, prompt, calls=calls)[0]).any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("variant", list(MaskPrompt))
def test_sam_is_given_exactly_these_prompts(sam, variant, size):
    coarse = [box(), box(0, 3, 0, 16)]
    with prompts_to(sam) as (prompts, answers):
        embedding = SamModel(sam, "tiny", "random", variant).embed(picture(size))
        SamModel(sam, "tiny", "random", variant).decode(embedding, coarse, 5)
    predictor = SamPredictor(sam)
    predictor.set_image(picture(size))
    expected = [draw(predictor, cells, 5) for cells in coarse]
    assert len(prompts) == 3
    for prompt in prompts:
        points, labels = prompt["points"]
        np.testing.assert_array_equal(points.numpy(), np.stack([drawn for drawn, _ in expected]))
        np.testing.assert_array_equal(labels.numpy(), [[1] * 10 + [0] * 10] * 2)
        assert prompt["boxes"] is None
    first, *later = (prompt["masks"] for prompt in prompts)
    for cells, logits in zip(coarse, first, strict=False):
        stretched = mask_prompt_stretched(cells == 1)
        aligned = mask_prompt_aligned(cells == 1, size)
        np.testing.assert_array_equal(logits, aligned if variant is MaskPrompt.ALIGNED else stretched)
        assert set(np.abs(logits.numpy()).round(1).ravel()) == {np.float32(6.9)}
    for returned, given in zip(answers, later, strict=False):
        assert torch.equal(returned, given)


def test_points_lie_on_the_object_where_sam_sees_it(sam):
    """A point's place in SAM's input, taken back to the image by segment-anything's scale, is in its cell."""
    for size in SIZES:
        model = SamModel(sam, "tiny", "random")
        with prompts_to(sam) as (prompts, _):
            sharpen(model, box(), size=size)
        points, labels = (part[0].numpy() for part in prompts[0]["points"])
        scale = np.array(ResizeLongestSide.get_preprocess_shape(*size, 1024)[::-1])
        columns, rows = ((points + 0.5) * 16 / scale).astype(int).T
        np.testing.assert_array_equal(box()[rows, columns], labels)


@pytest.mark.parametrize("size", SIZES)
def test_masks_in_one_pass_are_those_of_the_predictor_one_by_one(sam, size):
    model = SamModel(sam, "tiny", "random")
    sparse = np.zeros((16, 16), dtype=np.float32)
    sparse[7, 3] = 1
    coarse = [box(), FULL, box(9, 16, 5, 8), sparse, box(0, 16, 0, 5), np.eye(16, dtype=np.float32)]
    with prompts_to(sam) as (prompts, _):
        together = model.decode(model.embed(picture(size)), coarse, 7)
    # A full mask has nothing outside to draw points from: it goes by itself, without made-up points.
    assert sorted(prompt["points"][0].shape[:2] for prompt in prompts) == [(1, 10)] * 3 + [(5, 20)] * 3
    for cells, sharp in zip(coarse, together, strict=True):
        expected, quality = predict(sam, cells, 7, mask_prompt_aligned(cells == 1, size), size)
        # Sums of floats come out a little differently for several masks at once.
        assert (sharp.mask != expected).mean() < 1e-3
        assert sharp.score == pytest.approx(min(max(quality, 0), 1), abs=1e-4)


def test_one_encoding_serves_any_number_of_masks(sam):
    model = SamModel(sam, "tiny", "random")
    encoded = []
    hook = sam.image_encoder.register_forward_hook(lambda *_: encoded.append(1))
    embedding = model.embed(picture())
    for number in range(5):
        model.decode(embedding, [box(right=3 + number), FULL], number)
    hook.remove()
    assert len(encoded) == 1


def test_points_masks_and_variants_make_a_difference(sam):
    model, other = SamModel(sam, "tiny", "random"), SamModel(sam, "tiny", "random", MaskPrompt.STRETCHED)
    first = sharpen(model, box()).mask
    assert (first != sharpen(model, box(), 1).mask).any()
    assert (first != sharpen(model, box()[::-1]).mask).any()
    assert (first != sharpen(other, box()).mask).any()
    assert model.version != other.version


def test_probabilities_reach_the_prompt_as_they_are(sam):
    probabilities = np.clip(box() * 0.8 + 0.1, 0, 1)
    sharp = sharpen(SamModel(sam, "tiny", "random"), probabilities)
    expected, _ = predict(sam, probabilities, 0, mask_prompt_aligned(probabilities, SIZE))
    np.testing.assert_array_equal(sharp.mask, expected)


def test_a_cell_too_narrow_for_sams_input_still_gets_a_point(sam):
    coarse = np.zeros((16, 16), dtype=np.float32)
    coarse[15, 4] = 1
    with prompts_to(sam) as (prompts, _):
        sharp = sharpen(SamModel(sam, "tiny", "random"), coarse, size=(3, 900))
    assert 1 in prompts[0]["points"][1]
    assert sharp.mask.any()


def test_where_sam_returns_nothing_the_coarse_mask_stays():
    sam = tiny_sam(seed=0)
    sam.mask_threshold = float("inf")
    sharp = sharpen(SamModel(sam, "tiny", "random"), box())
    assert sharp.score == 0
    assert sharp.mask.mean() == pytest.approx(box().mean(), rel=0.1)


def test_a_model_of_another_input_size_is_refused():
    with pytest.raises(ValueError, match="1024"):
        SamModel(tiny_sam(side=512), "tiny", "random")


def test_a_published_checkpoint_loads_by_what_it_holds(tmp_path):
    path = tmp_path / "weights.pth"
    weights = sam_model_registry["vit_b"]().state_dict()
    torch.save(weights, path)
    model = load_sam(path)
    assert model.name == "sam-vit-b"
    assert model.version.startswith("sam-vit-b-")
    weights.pop("mask_decoder.iou_token.weight")
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match="not the weights of vit_b"):
        load_sam(path)


@pytest.mark.parametrize("kind", ["vit_b", "vit_l", "vit_h"])
def test_a_checkpoint_tells_which_published_model_it_is(kind):
    with torch.device("meta"):  # shapes only: vit_h would take 2.5 GB
        weights = sam_model_registry[kind]().state_dict()
    assert kind_of(weights) == kind


def damage(path, kind):
    if kind == "directory":
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("<!doctype html><title>404</title>")
    elif kind == "truncated":
        torch.save(tiny_sam().state_dict(), path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "other model":
        torch.save({"weight": torch.zeros(3)}, path)
    elif kind == "other width":
        torch.save(tiny_sam().state_dict(), path)


@pytest.mark.parametrize(
    "kind", ["missing", "directory", "empty", "text", "truncated", "list", "other model", "other width"]
)
def test_a_file_that_is_no_checkpoint_is_one_clear_line(tmp_path, kind):
    path = tmp_path / "sam_vit_b.pth"
    damage(path, kind)
    with pytest.raises(CheckpointError) as caught:
        load_sam(path)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "weights.pth"
    path.touch()
    with pytest.raises(CheckpointError, match="'cuda:99' cannot be used"):
        load_sam(path, device="cuda:99")
