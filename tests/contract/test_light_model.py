"""The light refiner: its frame, its checkpoint file, and files that are none."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("segment_anything")

from safetensors.torch import load_file, save_file  # noqa: E402

from services.refiner.light_model import LightModel, load_light  # noqa: E402
from services.refiner.refine import upsample_coarse  # noqa: E402
from tests.tiny_light import TINY, tiny_light  # noqa: E402
from text4seg.errors import CheckpointError  # noqa: E402
from text4seg.metrics import iou  # noqa: E402
from text4seg_light import LightConfig, LightRefiner, image_pixels, load, save  # noqa: E402

SIZES = [(90, 160), (160, 90), (64, 64), (31, 200)]


def picture(size):
    return np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)


def box(top=3, bottom=9, left=2, right=13):
    coarse = np.zeros((16, 16), dtype=np.float32)
    coarse[top:bottom, left:right] = 1
    return coarse


def silent(model):
    """The network changes nothing, so that only the frame is left to see."""
    for layer in model.decoder.output_hypernetworks_mlps[0].layers:
        layer.weight.zero_()
        layer.bias.zero_()
    model.firmness.fill_(0)
    return model


@pytest.mark.parametrize("size", SIZES)
def test_a_network_that_changes_nothing_returns_the_interpolated_coarse_mask(size):
    model = LightModel(silent(tiny_light(config=replace(TINY, side=256))), "random")
    embedding = model.embed(picture(size))
    for coarse in (box(), box(0, 16, 0, 4), box()[::-1], np.eye(8, dtype=np.float32)):
        (sharp,) = model.decode(embedding, [coarse], 0)
        assert iou(sharp.mask, upsample_coarse(coarse, size)) > 0.93


def test_firmness_counts_where_the_mask_is_the_same_all_round():
    refiner = silent(tiny_light(config=replace(TINY, side=256)))
    image = refiner.project(refiner.encode(image_pixels(picture((90, 160)), 256)))
    coarse = refiner.place(box())[None]
    soft, _ = refiner.decode(image, coarse)
    refiner.firmness.fill_(3)
    firm, _ = refiner.decode(image, coarse)
    added = (firm - soft)[0, 0]
    inside, outside, outline = added[22, 30], added[60, 60], added[12, 30]  # 4 pixels per cell
    assert inside > 0.5
    assert outside == pytest.approx(-3, abs=1e-4)
    assert abs(outline) < 0.1 * inside
    full, _ = refiner.decode(image, torch.ones_like(coarse))
    assert torch.allclose(full, refiner.trust + refiner.firmness)


def test_the_image_and_the_mask_make_a_difference_and_the_seed_none():
    model = LightModel(tiny_light(), "random")
    embedding = model.embed(picture((90, 160)))
    (first,) = model.decode(embedding, [box()], 0)
    (reseeded,) = model.decode(embedding, [box()], 9)
    (moved,) = model.decode(embedding, [box(5, 11)], 0)
    (elsewhere,) = model.decode(model.embed(picture((90, 160))[::-1]), [box()], 0)
    np.testing.assert_array_equal(first.mask, reseeded.mask)
    assert first.score == reseeded.score
    assert (first.mask != moved.mask).any()
    assert (first.mask != elsewhere.mask).any()


def test_the_image_is_encoded_once_for_any_number_of_masks():
    refiner = tiny_light()
    encoded = []
    refiner.encoder.register_forward_hook(lambda *_: encoded.append(1))
    model = LightModel(refiner, "random")
    embedding = model.embed(picture((90, 160)))
    for number in range(4):
        model.decode(embedding, [box(right=4 + number), box()], number)
    assert len(encoded) == 1


def test_an_image_for_each_mask_or_one_for_all_is_the_same():
    refiner = tiny_light()
    image = refiner.project(refiner.encode(image_pixels(picture((90, 160)), TINY.side)))
    coarse = torch.stack([refiner.place(box()), refiner.place(box(0, 4))])
    one, quality = refiner.decode(image, coarse)
    each, qualities = refiner.decode(type(image)(*(part.expand(2, -1, -1, -1) for part in image)), coarse)
    torch.testing.assert_close(one, each)
    torch.testing.assert_close(quality, qualities)
    assert one.shape == (2, 1, 16, 16)
    assert quality.shape == (2,)


def test_an_empty_answer_gives_way_to_the_coarse_mask():
    refiner = silent(tiny_light())
    refiner.trust.fill_(-4)
    (sharp,) = LightModel(refiner, "random").decode(
        LightModel(refiner, "random").embed(picture((90, 160))), [np.ones((16, 16), dtype=np.float32)], 0
    )
    assert sharp.mask.all()
    assert sharp.score == 0


def test_a_checkpoint_holds_everything(tmp_path):
    refiner = tiny_light(seed=3)
    refiner.trust.fill_(3.5)
    save(refiner, tmp_path / "light.safetensors")
    loaded = load(tmp_path / "light.safetensors")
    assert loaded.config == TINY
    assert not loaded.training
    for name, value in refiner.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    (one,), (other,) = (
        LightModel(model, "w").decode(LightModel(model, "w").embed(picture((90, 160))), [box()], 0)
        for model in (refiner, loaded)
    )
    assert iou(one.mask, other.mask) > 0.98
    assert [file.name for file in tmp_path.iterdir()] == ["light.safetensors"]


def test_the_version_follows_the_weights(tmp_path):
    versions = set()
    for seed in (0, 1, 0):
        save(tiny_light(seed), tmp_path / "light.safetensors")
        model = load_light(tmp_path / "light.safetensors")
        assert model.name == "light"
        versions.add(model.version)
    assert len(versions) == 2


def test_the_checkpoint_of_the_real_size_is_small(tmp_path):
    save(LightRefiner(LightConfig()), tmp_path / "light.safetensors")
    assert (tmp_path / "light.safetensors").stat().st_size < 12e6


@pytest.mark.parametrize("change", [{"side": 100}, {"width": 12}])
def test_sizes_that_do_not_fit_together_are_refused(change):
    with pytest.raises(ValueError, match="multiple"):
        LightRefiner(replace(TINY, **change))


def damage(path, kind):
    save(tiny_light(), path)
    content = load_file(path)
    if kind == "missing":
        path.unlink()
    elif kind == "directory":
        path.unlink()
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "a weight is missing":
        content.pop("trust")
        save_file(content, path, entry(asdict(TINY)))
    elif kind == "no entry":
        save_file(content, path, {"format": "pt"})
    elif kind == "no metadata":
        save_file(content, path)
    elif kind == "no json":
        save_file(content, path, {"text4seg": "{"})
    elif kind == "other format":
        save_file(content, path, entry(asdict(TINY), "light-9"))
    elif kind == "other sizes":
        save_file(content, path, entry(asdict(TINY) | {"width": 64}))
    elif kind == "unknown size":
        save_file(content, path, entry(asdict(TINY) | {"colour": 3}))
    elif kind == "unknown encoder":
        save_file(content, path, entry(asdict(TINY) | {"encoder": "no_such_network"}))


def entry(config, form="light-1"):
    return {"text4seg": json.dumps({"format": form, "config": config})}


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "directory",
        "empty",
        "text",
        "truncated",
        "a weight is missing",
        "no entry",
        "no metadata",
        "no json",
        "other format",
        "other sizes",
        "unknown size",
        "unknown encoder",
    ],
)
def test_a_file_that_is_no_checkpoint_is_one_clear_line(tmp_path, kind):
    path = tmp_path / "light.safetensors"
    damage(path, kind)
    with pytest.raises(CheckpointError) as caught:
        load_light(path)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "light.safetensors"
    save(tiny_light(), path)
    with pytest.raises(CheckpointError, match="'cuda:99' cannot be used"):
        load_light(path, device="cuda:99")
