"""A pool of scenes: the features of the tower, and what each cell shows."""

import numpy as np
import pytest
import torch

from tests.nano_data import write_photos, write_sprites
from tests.tiny_nano import TOWER
from text4seg_nano import Text4SegNanoConfig
from text4seg_nano.vision import VisionTower
from training.nano.colours import COLOURS
from training.nano.photos import load_photos
from training.nano.pool import BATCH, CLEAR, GREY, UNKNOWN, Pool, features, greyed, make_pool, softened
from training.nano.questions import GRID
from training.nano.scenes import photo_scene
from training.nano.sprites import load_sprites


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return VisionTower(Text4SegNanoConfig(**TOWER)).eval()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return load_photos(write_photos(folder / "photos", 3)), load_sprites(write_sprites(folder / "sprites"))


@pytest.fixture(scope="module")
def part(tower, data):
    return make_pool(tower, *data, 3, composed=0.5, seed=4)


def test_parts_hold_whole_batches(part, data):
    assert part["middle"].shape == (BATCH, TOWER["tower_channels"][0], 16, 16)
    assert part["middle"].dtype == torch.float16
    assert len(part["meta"]) == BATCH
    nouns = {"tabby", "doormat", *(sprite.noun for sprite in data[1])}
    for names, shares, complete, source, colours in part["meta"]:
        assert set(names) <= nouns
        assert shares.shape == (len(names), GRID, GRID)
        assert shares.dtype == np.uint8
        assert isinstance(complete, bool)
        assert source in (-1, 1, 2, 3)
        assert len(colours) == len(names)
        assert set(colours) <= {"", *COLOURS}


def test_half_of_the_scenes_are_composed(part, data):
    sprite_nouns = {sprite.noun for sprite in data[1]}
    composed = [bool(set(names) & sprite_nouns) for names, *_ in part["meta"]]
    assert 0 < sum(composed) < BATCH


def test_some_images_lose_their_colours():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    drawn = [greyed(image, rng) for _ in range(1000)]
    grey = [one for one in drawn if not np.array_equal(one, image)]
    assert len(grey) / len(drawn) == pytest.approx(GREY, abs=0.02)
    assert all((one == one[..., :1]).all() and one.std() > 10 for one in grey)


def test_same_seed_same_pool(tower, data, part):
    again = make_pool(tower, *data, 3, composed=0.5, seed=4)
    assert torch.equal(again["middle"], part["middle"])
    assert [meta[0] for meta in again["meta"]] == [meta[0] for meta in part["meta"]]
    other = make_pool(tower, *data, 3, composed=0.5, seed=5)
    assert not torch.equal(other["middle"], part["middle"])


def test_sprites_alone(tower, data):
    made = make_pool(tower, (), data[1], 1, composed=0.5, seed=0)
    assert all(names and source == -1 for names, _, _, source, _ in made["meta"])


def test_finer_grids_show_the_same_scenes(tower, data, part):
    fine = make_pool(tower, *data, 3, composed=0.5, seed=4, grid=2 * GRID, side=512)
    assert fine["middle"].shape == (BATCH, TOWER["tower_channels"][0], 32, 32)
    for (names, shares, *rest), (fine_names, fine_shares, *fine_rest) in zip(
        part["meta"], fine["meta"], strict=True
    ):
        assert (names, rest) == (fine_names, fine_rest)
        pooled = fine_shares.reshape(len(names), GRID, 2, GRID, 2).mean((2, 4))
        assert np.abs(pooled - shares).max(initial=0) <= 1
    pool = Pool([fine], ["others", "tabby", "doormat", *sorted({sprite.noun for sprite in data[1]})])
    assert pool.labels(0).shape == (4 * GRID**2,)


def test_features_are_those_of_the_tower(tower, data):
    scene = photo_scene(data[0][0], np.random.default_rng(0), augment=False)
    found = features(tower, [scene.image], 256)
    pixels = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    with torch.inference_mode():
        true, _ = tower(pixels)
    assert (found.float() - true).abs().mean() < 0.05 * true.abs().mean()


def test_larger_scenes_show_the_same_things_and_half_of_them_lose_their_detail(tower, data, part):
    large = make_pool(tower, *data, 3, composed=0.5, seed=4, side=384, drawn=384)
    assert large["middle"].shape == (BATCH, TOWER["tower_channels"][0], 24, 24)
    assert {shares.shape[1:] for _, shares, *_ in large["meta"]} == {(GRID, GRID)}
    rng = np.random.default_rng(0)
    image = np.zeros((384, 384, 3), np.uint8)
    sides = [len(softened(image, rng)) for _ in range(40)]
    assert set(sides) == {256, 384}
    assert len(softened(image[:256, :256], rng)) == 256


def pool_of(*meta):
    part = {"middle": torch.randn(len(meta), 4, 16, 16), "meta": list(meta)}
    return Pool([part], ["others", "cat", "dog"])


def cover(top, left, value=255):
    cells = np.zeros((GRID, GRID), np.uint8)
    cells[top, left] = value
    return cells


def test_labels_of_cells():
    clear, mixed, faint = cover(0, 0), cover(2, 3, CLEAR), cover(5, 5, 20)
    pool = pool_of((["dog", "cat", "cat"], np.stack([clear, mixed, faint]), True, -1))
    labels = pool.labels(0).view(GRID, GRID)
    assert labels[0, 0] == 2
    assert labels[2, 3] == UNKNOWN
    assert labels[5, 5] == 0
    assert (labels == 0).sum() == GRID * GRID - 2


def test_the_largest_share_names_a_cell():
    pool = pool_of((["cat", "dog"], np.stack([cover(1, 1, 120), cover(1, 1, 135)]), True, -1))
    assert pool.labels(0).view(GRID, GRID)[1, 1] == 2


def test_nothing_is_called_others_where_not_all_is_annotated():
    pool = pool_of(
        (["cat"], cover(0, 0)[None], False, -1), ([], np.zeros((0, GRID, GRID), np.uint8), True, -1)
    )
    labels = pool.labels(0)
    assert (labels == 1).sum() == 1
    assert (labels == UNKNOWN).sum() == GRID * GRID - 1
    assert (pool.labels(1) == 0).all()


def test_parts_are_joined_and_measured(tower, part):
    pool = Pool([part, part], ["others", *{name for meta in part["meta"] for name in meta[0]}])
    assert len(pool) == 2 * BATCH
    assert torch.equal(pool.features([1, BATCH, BATCH + 1]), part["middle"][[1, 0, 1]])
    mean, deviation = pool.statistics(tower)
    assert mean.shape == deviation.shape == (sum(TOWER["tower_channels"]),)
    first = torch.cat([part["middle"], part["middle"]])[:, 0].float()
    assert mean[0] == pytest.approx(float(first.mean()), abs=1e-4)
    assert deviation[0] == pytest.approx(max(0.05, float(first.std())), abs=1e-3)
    assert deviation.min() >= 0.05
