"""Recipes: table 7 of the paper by default, and one line for what is wrong."""

import re

import pytest
import torch

from tests.tuning_data import TINY_BY_NAME
from text4seg.backbones import FAMILIES, Engine
from text4seg.descriptors import Codec
from training.tuning.recipe import RECIPES, Recipe, TuningError, load_recipe, recipe_names

VISION = r"model\.(vision_tower|vision_model|high_res_vision_model|visual\.blocks)\..*"
TUNABLE = [
    (family, backbone.name)
    for family in FAMILIES
    if Engine.HF in family.engines
    for backbone in family.backbones
]


def test_defaults_are_those_of_the_paper():
    recipe = load_recipe("llava-1.5-7b")
    assert (recipe.rank, recipe.alpha, recipe.dropout) == (64, 128, 0.05)
    assert (recipe.learning_rate, recipe.betas, recipe.weight_decay) == (2e-4, (0.9, 0.95), 0.0)
    assert (recipe.clip, recipe.warm_up, recipe.global_batch) == (1.0, 0.03, 128)
    assert (recipe.grid, recipe.codec, recipe.precision) == ((16, 16), Codec.RRLE, "bf16")
    assert recipe.gradient_checkpointing


def test_every_backbone_that_transformers_has_comes_with_a_recipe():
    assert {name for _, name in TUNABLE} | {"nano", "tiny-llava", "tiny-qwen"} == set(recipe_names())
    for _, name in TUNABLE:
        assert load_recipe(name).backbone == name


@pytest.mark.parametrize("name", TINY_BY_NAME)
def test_adapters_go_to_every_linear_layer_of_connector_and_language_model(name):
    tiny = TINY_BY_NAME[name]
    with torch.device("meta"):
        model, _ = tiny.build(tiny.side)
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    wanted = {name for name in linear if name != "lm_head" and not re.fullmatch(VISION, name)}
    family = next(family for family, backbone in TUNABLE if backbone == name)
    for backbone in family.backbones:
        if model.config.model_type == "deepseek_vl" and backbone.name == "deepseek-vl-7b":
            continue  # another connector
        if model.config.model_type == "deepseek_vl_hybrid" and backbone.name == "deepseek-vl-1.3b":
            continue
        targets = load_recipe(backbone.name).targets
        assert {name for name in linear if re.fullmatch(targets, name)} == wanted
    decoder = model.get_decoder()
    inside = {id(module) for module in decoder.modules()}
    assert any(id(model.get_submodule(name)) not in inside for name in wanted)


def test_keys_can_be_changed_from_the_command_line():
    recipe = load_recipe("tiny-llava", ["steps = 3", 'codec="i-rle"', "betas=[0.5, 0.6]"])
    assert (recipe.steps, recipe.codec, recipe.betas) == (3, Codec.IRLE, (0.5, 0.6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rnak=3", "unknown key 'rnak'"),
        ("rank=0", "rank: .*greater than or equal to 1, not 0"),
        ('rank="many"', "rank: .*valid integer.* not 'many'"),
        ("dropout=1.0", "dropout: "),
        ("grid=[16]", "grid: "),
        ('codec="zip"', "codec: "),
        ('precision="fp8"', "precision: "),
        ("rank", "--set rank: "),
        ("rank=3=4", "--set rank=3=4: "),
    ],
)
def test_what_is_wrong_is_one_line(change, message):
    with pytest.raises(TuningError, match=message) as caught:
        load_recipe("nano", [change])
    assert "\n" not in str(caught.value)


def test_unknown_and_damaged_recipes(tmp_path):
    with pytest.raises(TuningError, match=r"no recipe nobody; there are .*llava-1\.5-7b"):
        load_recipe("nobody")
    (tmp_path / "mine.toml").write_text("rank = = 3")
    with pytest.raises(TuningError, match=r"mine\.toml: "):
        load_recipe(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_text("rank = 3")
    assert load_recipe(str(tmp_path / "mine.toml")) == Recipe(rank=3)


def test_differences_leave_out_what_does_not_change_the_result():
    recipe = Recipe()
    other = Recipe(rank=3, per_device=1, log_every=1, keep_every=1, gradient_checkpointing=False, seed=1)
    assert recipe.differences(other) == ("rank", "seed")


def test_deepspeed_configuration_leaves_all_numbers_to_the_recipe():
    import json

    config = json.loads((RECIPES / "zero2.json").read_text())
    assert config["zero_optimization"]["stage"] == 2
    for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        assert config[key] == "auto"
    assert config["gradient_clipping"] == "auto"
