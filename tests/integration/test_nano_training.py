"""The nano recipe from data to checkpoint, with a small network and random vectors."""

import itertools
import json
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor

import text4seg_nano  # noqa: F401 - registers the model's classes
from tests.nano_data import write_photos, write_sprites
from tests.tiny_nano import SIZES, TOWER, tiny_tokenizer
from training.nano.__main__ import main
from training.nano.batch import Collator, padded
from training.nano.losses import LOSS_WEIGHTS, asked_losses, losses, mean_embedding, weighted
from training.nano.naming import teach_names, weights_of
from training.nano.photos import load_photos
from training.nano.pool import Pool, split_sprites
from training.nano.questions import GRID, caption, referring
from training.nano.recipe import Recipe, go_on_from, load_material, run
from training.nano.sprites import load_sprites
from training.nano.start import new_model, phrase_tokens
from training.nano.train import STATE, Pace, Subjects, draw_questions, optimizer_for, schedule, train
from training.nano.weights import Pretrained

NOUNS = ["cat", "traffic light", "white horse"]


def random_vectors(words):
    return torch.randn(len(words), 96, generator=torch.Generator().manual_seed(1))


TINY = Pretrained(lambda tower: None, random_vectors)
SUBJECTS = Subjects(NOUNS, NOUNS[:2], {3: ["a cat on a mat"]})


@pytest.fixture
def data(tmp_path):
    return write_photos(tmp_path / "photos", 4), write_sprites(tmp_path / "sprites")


def toy_pool(scenes=12):
    """Scenes of one rectangle, whose features are what it shows, with noise."""
    rng = np.random.default_rng(0)
    channels = TOWER["tower_channels"][0]
    middle, meta = [], []
    for number in range(scenes):
        name = number % len(NOUNS)
        share = np.zeros((GRID, GRID), np.uint8)
        top, left = rng.integers(0, 6, 2)
        share[top : top + 8, left : left + 9] = 255
        shown = np.where(share > 0, name + 1.0, 0.0)
        noise = rng.normal(0, 0.1, (channels, GRID, GRID))
        middle.append(noise + np.stack([shown == index for index in range(channels)]))
        meta.append(([NOUNS[name]], share[None], True, 3, ["red"]))
    part = {"middle": torch.from_numpy(np.stack(middle)).half(), "meta": meta}
    return Pool([part], ["others", *NOUNS])


def toy_model(pool):
    torch.manual_seed(0)
    model = new_model(tiny_tokenizer(), TINY, **SIZES, **TOWER, grid=GRID)
    model.tower.eval()
    model.connector.mean, model.connector.deviation = pool.statistics(model.tower)
    return model


def ticks(seconds=1.0):
    """A clock that goes on by as much at every look."""
    counter = itertools.count()
    return lambda: next(counter) * seconds


def state_of(folder):
    return torch.load(folder / STATE, weights_only=True)


def steps_of(state):
    return {int(each["step"]) for each in state["optimizer"]["state"].values()}


def test_losses_fall_on_a_toy_pool():
    pool = toy_pool()
    model = toy_model(pool).train()
    model.tower.eval()
    collate = Collator(tiny_tokenizer(), model.config)
    nouns = padded(phrase_tokens(tiny_tokenizer(), ["others", *NOUNS]))
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = optimizer_for(learned, 3e-3)
    rng = random.Random(0)
    picks = [0, 1, 2, 3, 4, 5]
    labels = torch.stack([pool.labels(pick) for pick in picks])
    asked = [draw_questions(pool, pick, SUBJECTS, 2, rng) for pick in picks[:4]]
    batch = collate([*asked, [caption("a cat on a mat", rng)]])
    history = []
    for _ in range(12):
        parts = losses(model, batch, pool.features(picks).float(), labels, nouns)
        optimizer.zero_grad()
        weighted(parts).backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in parts.items()})
    assert set(LOSS_WEIGHTS) <= set(history[0])
    for step in history:
        assert all(np.isfinite(value) for value in step.values())
        assert 0.0 <= step["begin_right"] <= 1.0
        assert 0 <= step["I"] <= step["U"]
    for name in LOSS_WEIGHTS:
        assert history[-1][name] < history[0][name], name


def test_every_learned_parameter_gets_a_gradient():
    pool = toy_pool()
    model = toy_model(pool).train()
    rng = random.Random(0)
    picks = [0, 1, 2, 3]
    batch = Collator(tiny_tokenizer(), model.config)(
        [draw_questions(pool, pick, SUBJECTS, 3, rng) for pick in picks]
    )
    labels = torch.stack([pool.labels(pick) for pick in picks])
    nouns = padded(phrase_tokens(tiny_tokenizer(), ["others", *NOUNS]))
    parts = losses(model, batch, pool.features(picks).float(), labels, nouns)
    weighted(parts).backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert without == []


def losses_of(model, pool, examples, *, written=True):
    batch = Collator(tiny_tokenizer(), model.config)([examples], written=written)
    nouns = padded(phrase_tokens(tiny_tokenizer(), ["others", *NOUNS]))
    return losses(model, batch, pool.features([0]).float(), pool.labels(0)[None], nouns)


def test_what_a_batch_does_not_teach_is_no_loss():
    pool = toy_pool()
    model = toy_model(pool).train()
    model.connector.dropout.eval()
    rng = random.Random(0)
    share = pool.meta[0][1][0].astype(np.int64)
    question, told = referring("cat", share, rng), caption("a cat on a mat", rng)
    assert set(losses_of(model, pool, [question, told])) >= set(LOSS_WEIGHTS)
    assert "caption" not in losses_of(model, pool, [question])
    begun = losses_of(model, pool, [question], written=False)
    assert set(LOSS_WEIGHTS) - set(begun) == {"caption", "count", "begin"}
    whole = losses_of(model, pool, [question])
    for name in ("named", "seen", "patch", "asked", "missed"):
        assert begun[name].item() == pytest.approx(whole[name].item(), rel=1e-4), name
    model.connector.requires_grad_(False)
    model.tower.requires_grad_(False)
    assert "named" not in losses_of(model, pool, [question])


def test_the_missed_share_is_that_of_all_cells_of_the_batch():
    cells = torch.tensor([[1, 1, 1, 0], [0, 1, 0, -100], [1, 0, 0, 0]])
    named = torch.tensor([True, True, False])
    batch = SimpleNamespace(cells=cells, named=named)
    sure = torch.tensor([[9.0, 9, -9, -9], [9, 9, -9, 9], [9, 9, 9, 9]]) * 3
    _, missed = asked_losses(sure, batch)
    assert float(missed) == pytest.approx(1 - (3 + 1) / (5 + 1), abs=1e-4)  # three of five cells, and 1 each


def trained(tmp_path, name, **fields):
    pool, pace = toy_pool(), Pace(minutes=6 / 60, images=2, questions=2, **fields)
    model = toy_model(pool)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, tiny_tokenizer(), pool, SUBJECTS, tmp_path / name, pace, clock=ticks())
    after = state_of(tmp_path / name)["model"]
    return {name for name, value in after.items() if (value != before[name]).any()}


def test_names_go_on_being_learned_with_the_questions(tmp_path):
    stayed = trained(tmp_path, "stayed")
    assert not any(name.startswith(("tower", "connector")) for name in stayed)
    changed = trained(tmp_path, "changed", naming_share=0.5)
    assert {".".join(name.split(".")[:2]) for name in changed - stayed} == {
        "connector.up",
        "connector.down",
        "tower.network",
    }


def test_steps_that_write_nothing_but_captions(tmp_path, capsys):
    trained(tmp_path, "written", show_every=5)
    assert "count" in capsys.readouterr().out
    trained(tmp_path, "begun", show_every=5, written=0.0, captions=1)
    shown = capsys.readouterr().out
    assert "asked" in shown
    assert "caption" in shown
    assert "count" not in shown


def naming_accuracy(model, pool, classes):
    model.eval()
    picks = range(len(pool))
    with torch.inference_mode():
        named = (model.name_cells(pool.features(picks).float()) @ classes.T).argmax(-1)
    return float((named == torch.stack([pool.labels(pick) for pick in picks])).float().mean())


def test_names_are_learned_without_questions():
    pool = toy_pool()
    model = toy_model(pool)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    nouns = padded(phrase_tokens(tiny_tokenizer(), ["others", *NOUNS]))
    classes = mean_embedding(model.embed_tokens.weight, nouns).detach()
    unlearned = naming_accuracy(model, pool, classes)
    teach_names(model, pool, classes, minutes=1.2, scenes=3, clock=ticks())
    assert naming_accuracy(model, pool, classes) > unlearned + 0.2
    changed = {name for name, value in model.state_dict().items() if (value != before[name]).any()}
    assert {".".join(name.split(".")[:2]) for name in changed} == {
        "connector.up",
        "connector.down",
        "tower.network",
    }
    assert not any("running" in name or "conv_stem" in name for name in changed)
    assert not any(parameter.requires_grad for parameter in model.tower.parameters())


def test_large_things_count_more_but_not_by_their_area():
    labels = torch.tensor([[0] * 24 + [1] * 12 + [2] * 4 + [-100] * 2])
    (weights,) = weights_of(labels)
    sums = [float(weights[labels[0] == name].sum()) for name in (0, 1, 2)]
    assert sums == pytest.approx([7.0, 6.0, 5 + 4 / 12])
    assert not weights[-2:].any()


def test_training_ends_in_time_and_writes_a_checkpoint(tmp_path, capsys):
    pool = toy_pool()
    model = toy_model(pool)
    pace = Pace(minutes=6 / 60, images=2, questions=2, show_every=2)
    train(model, tiny_tokenizer(), pool, SUBJECTS, tmp_path, pace, clock=ticks())
    state = state_of(tmp_path)
    assert state["step"] == 5
    assert steps_of(state) == {5}
    shown = [line for line in capsys.readouterr().out.splitlines() if "step" in line]
    assert [line.split("step ")[1].split(":")[0] for line in shown] == ["2", "4"]
    assert all("cell cIoU" in line and "patch" in line and "begin_right" in line for line in shown)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["text4seg"]["grid"] == [GRID, GRID]
    assert written["dtype"] == "float32"
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.get_tensor("embed_tokens.weight").dtype == torch.float16
    assert not list(tmp_path.glob("*.partial"))


class InterruptedRunError(Exception):
    pass


def test_an_interrupted_run_goes_on(tmp_path, capsys):
    pool = toy_pool()
    pace = Pace(minutes=9 / 60, images=2, questions=1, keep_every=2)
    clock = ticks()

    def breaking():
        now = clock()
        if now > 5:
            raise InterruptedRunError
        return now

    with pytest.raises(InterruptedRunError):
        train(toy_model(pool), tiny_tokenizer(), pool, SUBJECTS, tmp_path, pace, clock=breaking)
    state = state_of(tmp_path)
    assert (state["step"], state["seconds"]) == (4, 4.0)
    assert not (tmp_path / "config.json").exists()
    moved = toy_model(pool)
    weights = moved.state_dict()["layers.0.gate.weight"].clone()
    assert not torch.equal(state["model"]["layers.0.gate.weight"], weights)

    train(moved, tiny_tokenizer(), pool, SUBJECTS, tmp_path, pace, clock=ticks())
    assert "going on from step 4 after 0.1 minutes" in capsys.readouterr().out
    after = state_of(tmp_path)
    assert after["step"] == 8
    assert steps_of(after) == {8}
    assert after["seconds"] == 9.0
    assert (tmp_path / "model.safetensors").exists()

    train(toy_model(pool), tiny_tokenizer(), pool, SUBJECTS, tmp_path, pace, clock=ticks())
    assert state_of(tmp_path)["step"] == 8


def test_same_seed_same_training(tmp_path):
    pool = toy_pool()
    pace = Pace(minutes=4 / 60, images=2, questions=1)
    states = []
    for folder in ("one", "other"):
        model = toy_model(pool)
        torch.manual_seed(2)
        train(model, tiny_tokenizer(), pool, SUBJECTS, tmp_path / folder, pace, seed=3, clock=ticks())
        states.append(state_of(tmp_path / folder)["model"])
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_the_learning_rate_rises_and_falls():
    assert schedule(0, 0.0) < schedule(50, 0.01) < schedule(100, 0.02)
    falling = [schedule(1000, share) for share in (0.1, 0.3, 0.6, 0.9, 1.0)]
    assert falling == sorted(falling, reverse=True)
    assert 0 < schedule(1000, 1.0) == schedule(1000, 1.5) < 0.05


def recipe_for(data, out, **fields):
    photos, sprites = data
    pace = Pace(minutes=4 / 60, naming=3 / 60, images=2, questions=2)
    facts = {"photos": photos, "scenes": 16, "pace": pace, "sizes": {**SIZES, **TOWER}} | fields
    return Recipe(sprites=sprites, out=out, **facts)


def test_from_data_to_a_checkpoint_that_answers(data, tmp_path, capsys):
    out = tmp_path / "nano"
    run(recipe_for(data, out), TINY, ticks())
    model = AutoModelForImageTextToText.from_pretrained(out).eval()
    processor = AutoProcessor.from_pretrained(out)
    assert (model.connector.deviation != 1).any()
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where is the tabby?"}]}
    ]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True)
    inputs = processor(text=prompt, images=load_photos(data[0])[0].image)
    with torch.inference_mode():
        written = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert written.shape[1] > inputs["input_ids"].shape[1]

    drawn = (out / "scenes-000.pt").stat().st_mtime_ns
    run(recipe_for(data, out), TINY, ticks())
    assert (out / "scenes-000.pt").stat().st_mtime_ns == drawn
    assert "going on from step" in capsys.readouterr().out


def test_a_run_can_go_on_from_a_checkpoint(data, tmp_path):
    run(recipe_for(data, tmp_path / "first"), TINY, ticks())
    recipe = recipe_for(data, tmp_path / "second", start=tmp_path / "first", seed=1)
    run(replace(recipe, pace=replace(recipe.pace, minutes=0, naming=0)), TINY, ticks())
    first, second = (
        AutoModelForImageTextToText.from_pretrained(tmp_path / name).state_dict()
        for name in ("first", "second")
    )
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_another_run_keeps_the_words_of_its_start(data, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    run(recipe_for(data, first), TINY, ticks())
    told = json.loads((data[0] / "captions.json").read_text())
    told["annotations"][0]["caption"] = "a zebra plays the xylophone"
    (data[0] / "captions.json").write_text(json.dumps(told))
    run(recipe_for(data, second, start=first), TINY, ticks())
    assert (second / "tokenizer.json").read_text() == (first / "tokenizer.json").read_text()
    with pytest.raises(FileNotFoundError, match=r"nowhere is no checkpoint .* no tokenizer\.json"):
        run(recipe_for(data, tmp_path / "third", start=tmp_path / "nowhere"), TINY, ticks())


def test_what_answers_are_balanced_by_is_kept(data, tmp_path):
    model = toy_model(toy_pool())
    model.config.asked_bias, model.config.least_asked, model.config.asked_weight = 0.125, 0.75, 3.0
    model.save_pretrained(tmp_path / "first")
    other = toy_model(toy_pool())
    go_on_from(other, tmp_path / "first")
    config = other.config
    assert (config.asked_bias, config.least_asked, config.asked_weight) == (0.125, 0.75, 3.0)


def test_a_checkpoint_of_other_sizes_is_refused(data, tmp_path):
    run(recipe_for(data, tmp_path / "first"), TINY, ticks())
    recipe = recipe_for(data, tmp_path / "second", start=tmp_path / "first")
    with pytest.raises(ValueError, match="was trained with other sizes"):
        run(replace(recipe, sizes={**recipe.sizes, "intermediate_size": 24}), TINY, ticks())
    with pytest.raises(ValueError, match="is another model"):
        run(
            replace(recipe, out=tmp_path / "third", sizes={**recipe.sizes, "num_image_layers": 2}),
            TINY,
            ticks(),
        )


def test_held_out_data_is_not_trained_on(data, tmp_path):
    material = load_material(recipe_for(data, tmp_path / "nano"))
    assert [photo.image_id for photo in material.photos] == [1, 3, 4]
    assert set(material.subjects.captions) == {1, 3, 4}
    held = {sprite.noun for sprite in split_sprites(load_sprites(data[1]), held=True)}
    assert not held & set(material.subjects.nouns)
    assert {"tabby", "doormat"} <= set(material.subjects.nouns)
    assert not {"tabby", "doormat"} & set(material.subjects.sprite_nouns)
    assert {word for noun in held for word in noun.split()} <= set(material.words)


def test_more_photographs_with_some_categories(data, tmp_path):
    partial = write_photos(tmp_path / "partial", 1)
    plain = load_material(recipe_for(data, tmp_path / "nano"))
    more = load_material(recipe_for(data, tmp_path / "nano", partial=partial))
    assert len(more.photos) == len(plain.photos) + 1
    assert [photo.complete for photo in more.photos] == [*[True] * len(plain.photos), False]
    assert more.subjects == plain.subjects


def test_many_partial_photographs_do_not_crowd_out_the_others(data, tmp_path):
    partial = write_photos(tmp_path / "partial", 12)
    photos = load_material(recipe_for(data, tmp_path / "nano", partial=partial)).photos
    complete = [photo.image_id for photo in photos if photo.complete]
    assert set(complete) == {1, 3, 4}
    assert len(photos) - len(complete) == pytest.approx(len(complete), abs=2)


def test_a_folder_belongs_to_one_run(data, tmp_path):
    out = tmp_path / "nano"
    run(recipe_for(data, out), TINY, ticks())
    with pytest.raises(FileExistsError, match="holds a run with other scenes, seed: remove it"):
        run(recipe_for(data, out, scenes=32, seed=1), TINY, ticks())
    with pytest.raises(FileExistsError, match="holds a run with other photographs, names"):
        run(recipe_for((None, data[1]), out), TINY, ticks())


def test_missing_data_is_named_on_the_command_line(data, tmp_path, capsys):
    photos, sprites = data
    out = ["--out", str(tmp_path / "nano")]

    def fails(*arguments):
        with pytest.raises(SystemExit) as left:
            main([*arguments, *out])
        return left.value.code, capsys.readouterr().err.strip().splitlines()[-1]

    code, line = fails("--photos", str(tmp_path / "nowhere"), "--sprites", str(sprites))
    assert code == 1
    assert line.endswith(
        "nowhere/instances.json is missing: photographs come as instances.json beside images/"
    )
    code, line = fails("--photos", str(photos), "--sprites", str(tmp_path / "nowhere"))
    assert code == 1
    assert "nowhere/" in line
    assert line.endswith(".webp is missing, which sprites.tsv names 'hot dog'")
    code, line = fails("--sprites", str(sprites))
    assert code == 2
    assert "--photos is needed" in line


def test_the_command_line_sets_the_pace(monkeypatch):
    recipes = []
    monkeypatch.setattr("training.nano.__main__.run", recipes.append)

    def pace_of(*arguments):
        main(["--photos", "photos", "--sprites", "sprites", "--minutes", "40", *arguments])
        return recipes.pop().pace

    apart, together = pace_of(), pace_of("--together", "--start", "models/nano")
    assert (apart.naming, apart.minutes, apart.naming_share) == (10, 30, 0)
    assert (together.naming, together.minutes) == (0, 40)
    assert together.naming_share > 0
    assert together.captions > 0
    assert together.written < 1
