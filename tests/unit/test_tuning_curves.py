"""Loss curves as files."""

import csv

import numpy as np
from PIL import Image

from training.tuning.curves import draw_curves, write_csv

HISTORY = [
    {"loss": 3.0, "learning_rate": 0.1, "grad_norm": 2.0, "epoch": 0.5, "step": 1},
    {"loss": 2.0, "learning_rate": 0.2, "grad_norm": 1.0, "epoch": 1.0, "step": 2},
    {"eval_loss": 2.5, "eval_runtime": 9.0, "epoch": 1.0, "step": 2},
    {"train_runtime": 3.0, "step": 2},
]


def test_csv_has_one_row_per_step(tmp_path):
    write_csv(HISTORY, tmp_path)
    with (tmp_path / "loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["loss"], row["eval_loss"]) for row in rows] == [
        ("1", "3.0", ""),
        ("2", "2.0", "2.5"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["loss.csv"]


def drawn(folder):
    return np.asarray(Image.open(folder / "loss.png").convert("RGB")).astype(int)


def test_plot_shows_both_curves(tmp_path):
    draw_curves(HISTORY, tmp_path)
    picture = drawn(tmp_path)
    for colour in ((31, 95, 168), (200, 80, 30)):
        assert (picture == colour).all(axis=-1)[60:470, 80:].any()
    draw_curves(HISTORY[:2], tmp_path)
    assert not (drawn(tmp_path) == (200, 80, 30)).all(axis=-1).any()


def test_falling_loss_goes_down_to_the_right(tmp_path):
    draw_curves([{"loss": 10.0 - step, "step": step} for step in range(1, 10)], tmp_path)
    rows, columns = np.nonzero((drawn(tmp_path) == (31, 95, 168)).all(axis=-1)[60:470])
    assert np.corrcoef(rows, columns)[0, 1] > 0.9


def test_nothing_to_draw(tmp_path):
    draw_curves([], tmp_path)
    assert not (tmp_path / "loss.png").exists()
