"""Reading photographs in the COCO layout."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.nano_data import HEIGHT, RECTANGLES, WIDTH, run_lengths, write_photos
from training.nano.photos import held_out, instance_mask, load_captions, load_categories, load_photos
from training.nano.pool import split_photos

HELD_OUT = [2, 7, 11, 28, 33, 36]
"""Of the ids below 40: what the bundled model was not trained on, so it must stay so."""


def rectangle(name):
    x0, y0, x1, y1 = RECTANGLES[name]
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), 3)


def change(folder, edit):
    file = folder / "instances.json"
    data = json.loads(file.read_text())
    edit(data)
    file.write_text(json.dumps(data))


def test_photos_have_images_names_and_masks(folder):
    photos = load_photos(folder)
    assert [photo.image_id for photo in photos] == [1, 2, 3]
    for photo in photos:
        assert photo.image.shape == (HEIGHT, WIDTH, 3)
        assert photo.image.dtype == np.uint8
        assert photo.names == ("tabby", "doormat")
        assert photo.complete
        assert np.array_equal(photo.masks[0], rectangle("tabby"))
        assert np.array_equal(photo.masks[1], rectangle("doormat"))
        assert (photo.image[photo.masks[0]] == (250, 0, 0)).all()


def test_all_forms_of_a_segmentation_agree():
    mask = rectangle("doormat")
    compressed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = {"size": compressed["size"], "counts": compressed["counts"].decode()}
    for segmentation in (compressed, text, run_lengths("doormat")):
        assert np.array_equal(instance_mask(segmentation, HEIGHT, WIDTH), mask)


def test_several_polygons_are_one_mask():
    both = instance_mask([[0, 0, 10, 0, 10, 10, 0, 10], [20, 20, 30, 20, 30, 30, 20, 30]], HEIGHT, WIDTH)
    assert both[5, 5]
    assert both[25, 25]
    assert not both[15, 15]
    assert both.sum() == 200


def test_grey_photographs_become_rgb(tmp_path):
    folder = write_photos(tmp_path, 1)
    Image.new("L", (WIDTH, HEIGHT), 77).save(folder / "images" / "001.png")
    assert (load_photos(folder)[0].image == 77).all()


def test_one_category_alone_says_nothing_about_others(tmp_path):
    folder = write_photos(tmp_path, 1)

    def only_cats(data):
        data["categories"] = data["categories"][:1]
        data["annotations"] = data["annotations"][:1]

    change(folder, only_cats)
    (photo,) = load_photos(folder)
    assert photo.names == ("tabby",)
    assert not photo.complete


def test_categories_and_captions(folder, tmp_path):
    assert load_categories(folder) == ["tabby", "traffic light", "doormat"]
    assert load_captions(folder)[2] == ["a tabby on a doormat"]
    assert load_captions(write_photos(tmp_path, 1, captions=False)) == {}


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/instances\.json is missing"):
        load_photos(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere/instances\.json is missing"):
        load_categories(tmp_path / "nowhere")
    folder = write_photos(tmp_path / "some", 2)
    (folder / "images" / "002.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"images/002\.png is missing, which instances\.json names"):
        load_photos(folder)


def test_masks_of_another_size_are_refused(tmp_path):
    folder = write_photos(tmp_path, 1)
    change(folder, lambda data: data["images"][0].update(width=180, height=120))
    with pytest.raises(ValueError, match=r"001\.png is 90x60, but instances\.json says 180x120"):
        load_photos(folder)


def test_held_out_photographs_are_always_the_same(folder):
    held = [number for number in range(40) if held_out(f"photo {number}", 5)]
    assert held == HELD_OUT
    photos = load_photos(folder)
    one, other = split_photos(photos, held=True), split_photos(photos, held=False)
    assert sorted(photo.image_id for photo in (*one, *other)) == [1, 2, 3]
    assert [photo.image_id for photo in one] == [2]
    shares = [held_out(f"photo {number}", 5) for number in range(3000)]
    assert 0.18 < sum(shares) / len(shares) < 0.22
