"""The held-out questions of the nano model, as samples."""

import random
from pathlib import Path

import numpy as np
from PIL import Image

from tests.nano_data import write_photos, write_sprites
from training.datasets.sample import read_samples
from training.nano.evaluate import held_out_sets
from training.nano.held_out import main


def test_samples_hold_what_the_questions_hold(tmp_path: Path) -> None:
    photos, sprites = write_photos(tmp_path / "photos", 20), write_sprites(tmp_path / "sprites")
    draw = random.Random(7)
    sets = held_out_sets(photos, sprites, 3, draw, 7)
    for set_ in sets.values():
        draw.shuffle(set_)
    folder = tmp_path / "deep" / "out"
    main(["--photos", str(photos), "--sprites", str(sprites), "--scenes", "3", "--out", str(folder)])
    samples = list(read_samples(folder / "samples.jsonl"))
    items = [(name, item) for name, set_ in sets.items() for item in set_]
    assert len(samples) == len(items)
    assert len({(sample.split, sample.id) for sample in samples}) == len(samples)
    for sample, (name, item) in zip(samples, items, strict=True):
        assert (sample.split, sample.labels) == (name, (item.phrase,))
        assert np.array_equal(sample.mask(), item.truth)
        assert (folder / sample.image).read_bytes() == item.image
        with Image.open(folder / sample.image) as picture:
            assert (picture.height, picture.width) == item.truth.shape
    # Several questions about one picture share its file.
    assert len(list((folder / "images").iterdir())) < len(samples)
