"""Scenes: what is in the picture is what the masks say."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nano_data import sprite_names, write_photos, write_sprites
from text4seg.labels import label_problem
from training.nano.photos import load_photos
from training.nano.pool import cells, split_sprites
from training.nano.scenes import (
    SIDE,
    Scene,
    composed_scene,
    cut_out,
    merged,
    mixed_photo_scene,
    photo_scene,
    transformed,
)
from training.nano.sprites import load_sprites


@pytest.fixture(scope="module")
def sprites(tmp_path_factory):
    return load_sprites(write_sprites(tmp_path_factory.mktemp("sprites")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return load_photos(write_photos(tmp_path_factory.mktemp("photos"), 3))


def blank():
    return Scene(np.zeros((SIDE, SIDE, 3), np.uint8))


def square(side, colour=(200, 100, 50), alpha=255):
    return np.full((side, side, 4), (*colour, alpha), np.uint8)


def check(scene):
    assert scene.image.shape == (SIDE, SIDE, 3)
    assert scene.image.dtype == np.uint8
    assert len(scene.names) == len(scene.masks)
    for mask in scene.masks:
        assert mask.shape == (SIDE, SIDE)
        assert mask.dtype == bool


def test_paste_covers_what_is_below():
    scene = blank()
    scene.paste("below", square(40), 10, 10)
    scene.paste("above", square(20, (1, 2, 3)), 20, 20)
    below, above = scene.masks
    assert not (below & above).any()
    assert below.sum() == 40 * 40 - 20 * 20
    assert above.sum() == 400
    assert (scene.image[above] == (1, 2, 3)).all()
    assert (scene.image[below] == (200, 100, 50)).all()


@pytest.mark.parametrize(("left", "top"), [(-15, 0), (0, -15), (SIDE - 5, SIDE - 5), (-15, SIDE - 5)])
def test_paste_at_the_border(left, top):
    scene = blank()
    scene.paste("thing", square(20), left, top)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + 20, SIDE), min(top + 20, SIDE)
    expected = np.zeros((SIDE, SIDE), bool)
    expected[y0:y1, x0:x1] = True
    assert np.array_equal(scene.masks[0], expected)
    assert np.array_equal(scene.image.any(-1), expected)


def test_paste_outside_is_nothing():
    scene = blank()
    scene.paste("thing", square(20), SIDE, 0)
    scene.paste("thing", square(20), 0, -20)
    assert scene.names == []
    assert not scene.image.any()


def test_transparent_parts_are_not_masked():
    scene = blank()
    scene.paste("thing", square(20, alpha=100), 0, 0)
    assert not scene.masks[0].any()
    assert scene.image.any()


@given(seed=st.integers(0, 10_000), with_photos=st.booleans(), varied=st.booleans())
def test_composed_scenes(seed, with_photos, varied, sprites, photos):
    rng = np.random.default_rng(seed)
    scene = composed_scene(photos if with_photos else (), sprites, rng, varied=varied)
    check(scene)
    assert scene.source == -1
    nouns = {sprite.noun for sprite in sprites}
    pasted = [mask for name, mask in zip(scene.names, scene.masks, strict=True) if name in nouns]
    assert 1 <= len(pasted) <= (9 if varied else 5)
    assert np.sum(pasted, axis=0).max() <= 1


def test_nothing_is_known_of_two_backgrounds_in_one(sprites, photos):
    nouns = {sprite.noun for sprite in sprites}
    scenes = [composed_scene(photos, sprites, np.random.default_rng(seed), varied=True) for seed in range(40)]
    mixed = [scene for scene in scenes if not scene.complete]
    assert 5 < len(mixed) < 25
    assert all(set(scene.names) <= nouns for scene in mixed)


@given(seed=st.integers(0, 10_000))
def test_photo_scenes_keep_things_where_they_are(seed, photos):
    scene = photo_scene(photos[0], np.random.default_rng(seed))
    check(scene)
    for name, mask in merged(scene).items():
        strongest = 0 if name == "tabby" else 2
        assert (scene.image[mask].argmax(-1) == strongest).mean() > 0.95


def test_whole_photographs_keep_their_captions(photos):
    scene = photo_scene(photos[1], np.random.default_rng(0), augment=False)
    assert scene.source == photos[1].image_id
    assert set(merged(scene)) == {"tabby", "doormat"}
    share = merged(scene)["tabby"].mean()
    assert share == pytest.approx(photos[1].masks[0].mean(), abs=0.01)


@given(seed=st.integers(0, 10_000))
def test_mixed_photo_scenes(seed, photos):
    scene = mixed_photo_scene(photos, np.random.default_rng(seed))
    check(scene)
    assert np.sum(scene.masks, axis=0).max() <= 1
    if len(scene.names) > 2:
        assert scene.source == -1


def test_incomplete_photographs_make_incomplete_scenes(sprites, tmp_path):
    folder = write_photos(tmp_path, 1)
    data = json.loads((folder / "instances.json").read_text())
    data["categories"], data["annotations"] = data["categories"][:1], data["annotations"][:1]
    (folder / "instances.json").write_text(json.dumps(data))
    photos = load_photos(folder)
    assert not photo_scene(photos[0], np.random.default_rng(0)).complete
    scenes = [composed_scene(photos, sprites, np.random.default_rng(seed)) for seed in range(20)]
    assert {scene.complete for scene in scenes} == {True, False}


def test_same_seed_same_scenes(sprites, photos):
    def draw(seed):
        rng = np.random.default_rng(seed)
        return [composed_scene(photos, sprites, rng), mixed_photo_scene(photos, rng)]

    first, second = draw(5), draw(5)
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.image, other.image)
        assert one.names == other.names
        assert all(np.array_equal(a, b) for a, b in zip(one.masks, other.masks, strict=True))
    assert not np.array_equal(first[0].image, draw(6)[0].image)


def test_drawing_leaves_photographs_as_they_are(sprites, photos):
    before = photos[0].image.copy()
    for seed in range(5):
        composed_scene(photos, sprites, np.random.default_rng(seed))
        mixed_photo_scene(photos, np.random.default_rng(seed))
    assert np.array_equal(photos[0].image, before)


def test_cut_out_is_the_box_of_the_instance(photos):
    picture = cut_out(photos[0], 0)
    assert picture.shape == (30, 30, 4)
    assert (picture[5:-5, 5:-5] == (250, 0, 0, 255)).all()


@given(seed=st.integers(0, 1000), side=st.integers(10, 200))
def test_transformed_pictures_have_about_the_size(seed, side):
    picture = transformed(square(50), side, np.random.default_rng(seed))
    assert picture.shape[2] == 4
    assert side * 0.8 <= max(picture.shape[:2]) <= side * 1.7


def test_cells_are_covered_shares():
    scene = blank()
    assert cells(scene, 16).shape == (0, 16, 16)
    scene.paste("thing", square(24), 16, 0)
    (share,) = cells(scene, 16)
    assert share[0, 1] == 255
    assert share[0, 2] == share[1, 1] == 128
    assert share[1, 2] == 64
    assert share.astype(int).sum() == 255 + 2 * 128 + 64


def test_sprites_are_cropped_to_what_is_visible(sprites):
    assert len(sprites) == len(sprite_names())
    picture = sprites[0].load()
    assert picture.shape == (16, 12, 4)
    assert (picture[..., 3] == 255).all()


def test_sprites_have_labels_that_can_be_written(sprites):
    assert [sprite.noun for sprite in sprites if label_problem(sprite.noun)] == []
    assert all(sprite.noun == sprite.noun.lower() for sprite in sprites)


def test_a_missing_sprite_is_named(tmp_path):
    folder = write_sprites(tmp_path)
    (folder / "1f332.webp").unlink()
    with pytest.raises(FileNotFoundError, match=r"1f332\.webp is missing, which sprites\.tsv names"):
        load_sprites(folder)


def test_held_out_sprites_share_no_name_with_the_others(sprites):
    known, unknown = split_sprites(sprites, held=False), split_sprites(sprites, held=True)
    assert len(known) + len(unknown) == len(sprites)
    assert not {sprite.noun for sprite in known} & {sprite.noun for sprite in unknown}
    assert 0.06 < len(unknown) / len(sprites) < 0.14
