"""How a nano checkpoint is measured: its questions, its figures, its calibrations."""

import json
import random

import numpy as np
import pytest

from tests.nano_data import write_photos, write_sprites
from text4seg.scores import Calibration, Calibrations
from training.judging.calibration import calibration_error, centres
from training.nano.asking import Answer, Item, well_formed
from training.nano.calibration import calibration_figures, fit_calibration, write_calibration
from training.nano.evaluate import photo_items, scene_items
from training.nano.photos import load_photos
from training.nano.pool import split_sprites
from training.nano.sprites import load_sprites


def test_questions_for_evaluation(tmp_path):
    photos = load_photos(write_photos(tmp_path / "photos", 4))
    present, absent = photo_items(photos, ["tabby", "traffic light", "doormat"], random.Random(0))
    assert [item.phrase for item in present] == ["doormat", "tabby"] * 4
    assert [item.phrase for item in absent] == ["traffic light"] * 4
    assert not any(item.truth.any() for item in absent)
    sprites = split_sprites(load_sprites(write_sprites(tmp_path / "sprites")), held=True)
    present, absent = scene_items(photos, sprites, 5, np.random.default_rng(0), random.Random(0))
    nouns = {sprite.noun for sprite in sprites}
    assert {item.phrase for item in (*present, *absent)} <= nouns
    assert len(absent) == 5
    assert min(item.truth.mean() for item in present) >= 0.02


def test_figures_of_evaluation():
    block = "\n ".join(["cat *2"] * 2) + "\n"
    assert well_formed(f"Sure:\n<seg>{block}</seg>", (2, 2), "cat")
    assert not well_formed(f"Sure:\n<seg>{block}", (2, 2), "cat")
    assert not well_formed(f"<seg>{block}</seg><seg>{block}</seg>", (2, 2), "cat")
    assert not well_formed("<seg>cat *2\n cat *1\n</seg>", (2, 2), "cat")
    sure = np.array([0.0, 1.0, 1.0, 1.0])
    assert calibration_error(sure, np.array([False, True, True, True])) == 0.0
    assert calibration_error(sure, np.array([False, True, True, False])) == pytest.approx(0.25)
    truth = np.zeros((8, 12), bool)
    truth[:4, 6:] = True
    assert centres(truth, (2, 2)).tolist() == [[False, True], [False, False]]


def test_calibration_finds_the_scaling_that_data_were_drawn_with():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.02, 0.98, 20_000)
    truly = Calibration(temperature=2.0, bias=-0.5).apply(confidence)
    right = rng.random(len(confidence)) < truly
    fitted = fit_calibration(confidence, right)
    assert fitted.temperature == pytest.approx(2.0, rel=0.1)
    assert fitted.bias == pytest.approx(-0.5, abs=0.1)
    assert calibration_error(fitted.apply(confidence), right) < 0.02 < calibration_error(confidence, right)


def test_a_calibration_is_written_where_serving_reads_it(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"text4seg": {"model": "m"}, "hidden_size": 8}))
    fitted = Calibrations(Calibration(1.5, 0.25), Calibration(2.0, -0.5), Calibration(bias=0.75))
    write_calibration(tmp_path, fitted)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["hidden_size"] == 8
    assert config["text4seg"]["model"] == "m"
    assert Calibrations.read(config["text4seg"]["calibration"]) == fitted


def test_every_probability_is_calibrated_on_answers_it_was_not_fitted_to():
    draw, rng = random.Random(0), np.random.default_rng(0)
    answers = []
    for number in range(2000):
        truth = np.zeros((8, 8), bool)
        truth[:4, :4] = number % 2
        sure = rng.uniform(0.6, 0.99)
        right = bool(rng.random() < sure**3)  # answers are surer than they should be
        mask = truth[::2, ::2] if right else ~truth[::2, ::2]
        answers.append((Item(b"", "cat", truth), Answer(mask, np.full((4, 4), sure), True)))
    figures, fitted = calibration_figures(answers, (4, 4), draw)
    for name in ("calibration error", "calibration error, regions", "calibration error, nothing there"):
        assert figures[name] < 0.9 * figures[f"{name} uncalibrated"], name
    assert figures["calibration error, regions"] < 0.1
    assert fitted.cells != fitted.regions != fitted.nothing
