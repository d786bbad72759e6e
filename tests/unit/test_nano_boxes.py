"""Masks of things that only have a box."""

import json

import numpy as np
import pytest
from PIL import Image

from text4seg.metrics import iou
from training.nano.boxes import main, mask_in_box
from training.nano.photos import load_photos

HEIGHT, WIDTH = 120, 160
CROSS = np.zeros((HEIGHT, WIDTH), bool)
CROSS[40:100, 70:90] = True
CROSS[60:80, 50:110] = True
BOX = [50, 40, 60, 60]


def picture(*things):
    """Noise of one colour, and each thing (a mask and a colour) on it."""
    pixels = np.random.default_rng(0).normal((60, 120, 60), 8, (HEIGHT, WIDTH, 3))
    for mask, colour in things:
        pixels[mask] = colour
    return np.clip(pixels, 0, 255).astype(np.uint8)


def test_what_stands_out_from_around_the_box_is_the_mask():
    assert iou(mask_in_box(picture((CROSS, (220, 40, 40))), BOX), CROSS) > 0.95


@pytest.mark.parametrize(
    "box", [[0, 0, WIDTH, HEIGHT], [100.4, 20.2, 5, 5], [-3, -2, 40, 30], [150, 110, 40, 40], [80, 60, 0, 0]]
)
def test_every_box_gets_a_mask_within_it(box):
    mask = mask_in_box(picture(), box)
    assert mask.shape == (HEIGHT, WIDTH)
    assert mask.any()
    rows, columns = np.nonzero(mask)
    assert columns.min() >= box[0] - 1
    assert rows.min() >= box[1] - 1
    assert columns.max() <= box[0] + box[2] + 1
    assert rows.max() <= box[1] + box[3] + 1


def test_where_nothing_stands_out_it_is_an_ellipse():
    share = mask_in_box(picture(), [0, 0, WIDTH, HEIGHT]).mean()
    assert share == pytest.approx(np.pi / 4, abs=0.01)


@pytest.fixture
def folder(tmp_path):
    """A photograph of a red cross, annotated with its box, before a larger thing with a box, and a mask."""
    (tmp_path / "images").mkdir()
    behind = np.zeros((HEIGHT, WIDTH), bool)
    behind[20:110, 30:130] = True
    pixels = picture((behind, (30, 30, 200)), (CROSS, (220, 40, 40)))
    Image.fromarray(pixels).save(tmp_path / "images" / "1.png")
    data = {
        "images": [{"id": 1, "file_name": "1.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(("plus", "board", "hat"))],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [30, 20, 100, 90]},
            {"image_id": 1, "category_id": 0, "bbox": BOX},
            {"image_id": 1, "category_id": 2, "segmentation": [[100, 20, 120, 20, 120, 50, 100, 50]]},
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(data))
    return tmp_path


def test_a_data_set_is_completed_in_place(folder):
    before = (folder / "instances.json").read_text()
    main([str(folder)])
    (photo,) = load_photos(folder)
    board, plus, hat = photo.masks
    assert photo.names == ("board", "plus", "hat")
    assert iou(plus, CROSS) > 0.95
    assert board[60, 40]
    assert not (board & plus).any()
    assert not (board & hat).any()
    assert hat.sum() == 600
    assert (folder / "boxes.json").read_text() == before
    completed = (folder / "instances.json").read_text()
    main([str(folder)])
    assert (folder / "instances.json").read_text() == completed


def test_a_missing_image_is_named_and_nothing_is_changed(folder, capsys):
    (folder / "images" / "1.png").unlink()
    before = (folder / "instances.json").read_text()
    with pytest.raises(SystemExit):
        main([str(folder)])
    assert "images/1.png is missing" in capsys.readouterr().err
    assert (folder / "instances.json").read_text() == before
    with pytest.raises(SystemExit):
        main([str(folder / "nowhere")])
    assert "nowhere/instances.json is missing" in capsys.readouterr().err
