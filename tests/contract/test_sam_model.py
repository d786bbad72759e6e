"""The SAM adapter against segment-anything's own predictor, and on files that are no checkpoints."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("segment_anything")

from segment_anything import SamPredictor, sam_model_registry  # noqa: E402

from services.refiner.sam_model import MaskPrompt, SamModel, load_sam  # noqa: E402
from tests.tiny_sam import tiny_sam  # noqa: E402
from text4seg.errors import CheckpointError  # noqa: E402
from text4seg.masks import upsample  # noqa: E402
from text4seg.prompts import mask_prompt_aligned, mask_prompt_stretched, sample_points  # noqa: E402

SIZE = (150, 260)


def picture():
    return np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def coarse_mask():
    coarse = np.zeros((16, 16), dtype=np.float32)
    coarse[4:9, 2:13] = 1
    return coarse


def predict(sam, coarse, seed, prompt, calls=3):
    """The paper's steps, written with segment-anything's predictor."""
    predictor = SamPredictor(sam)
    predictor.set_image(picture())
    frame = upsample(coarse >= 0.5, predictor.input_size)
    points, labels = sample_points(frame, 10, 10, np.random.default_rng(seed))
    points, labels = torch.as_tensor(points)[None], torch.as_tensor(labels)[None]
    low = torch.as_tensor(prompt)[None]
    for _ in range(calls):
        masks, quality, low = predictor.predict_torch(points, labels, None, low, multimask_output=False)
    return masks[0, 0].numpy(), float(quality[0, 0])


@pytest.fixture(scope="module")
def sam():
    return tiny_sam(seed=0)


@pytest.mark.parametrize("seed", [0, 11])
@pytest.mark.parametrize("variant", list(MaskPrompt))
def test_it_takes_the_papers_steps(sam, variant, seed):
    model = SamModel(sam, "tiny", "random", variant)
    sharp = model.decode(model.embed(picture()), coarse_mask(), seed)
    aligned = mask_prompt_aligned(coarse_mask() == 1, SIZE)
    stretched = mask_prompt_stretched(coarse_mask() == 1)
    prompt = aligned if variant is MaskPrompt.ALIGNED else stretched
    expected, quality = predict(sam, coarse_mask(), seed, prompt)
    assert 0 < expected.mean() < 1  # otherwise the comparison says little
    np.testing.assert_array_equal(sharp.mask, expected)
    assert sharp.score == pytest.approx(min(max(quality, 0), 1))
    for calls in (1, 2, 4):
        assert (expected != predict(sam, coarse_mask(), seed, prompt, calls)[0]).any()


def test_points_masks_and_variants_make_a_difference(sam):
    model, other = SamModel(sam, "tiny", "random"), SamModel(sam, "tiny", "random", MaskPrompt.STRETCHED)
    embedding = model.embed(picture())
    first = model.decode(embedding, coarse_mask(), 0).mask
    assert (first != model.decode(embedding, coarse_mask(), 1).mask).any()
    assert (first != model.decode(embedding, coarse_mask()[::-1], 0).mask).any()
    assert (first != other.decode(embedding, coarse_mask(), 0).mask).any()
    assert model.version != other.version


def test_probabilities_reach_the_prompt_as_they_are(sam):
    probabilities = np.clip(coarse_mask() * 0.8 + 0.1, 0, 1)
    model = SamModel(sam, "tiny", "random")
    sharp = model.decode(model.embed(picture()), probabilities, 0)
    expected, _ = predict(sam, probabilities, 0, mask_prompt_aligned(probabilities, SIZE))
    np.testing.assert_array_equal(sharp.mask, expected)


def test_where_sam_returns_nothing_the_coarse_mask_stays():
    sam = tiny_sam(seed=0)
    sam.mask_threshold = float("inf")
    sharp = SamModel(sam, "tiny", "random").decode(
        SamModel(sam, "tiny", "r").embed(picture()), coarse_mask(), 0
    )
    assert sharp.score == 0
    assert sharp.mask.mean() == pytest.approx(coarse_mask().mean(), rel=0.1)


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
