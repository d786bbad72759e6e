"""Adapter directories, and what they and their models say about each other."""

import json

import pytest

from services.generator.adapter import find_parts
from services.generator.checkpoint import read_facts
from text4seg.backbones import find_backbone
from text4seg.descriptors import Codec
from text4seg.errors import CheckpointError

ENTRY = {"grid": [16, 16], "codec": "r-rle", "template_version": "1"}


def write_model(path, entry=ENTRY, model_type="llava"):
    path.mkdir()
    for name in ("model.safetensors", "tokenizer.json", "processor_config.json"):
        (path / name).touch()
    config = {"model_type": model_type, **({} if entry is None else {"text4seg": entry})}
    (path / "config.json").write_text(json.dumps(config))
    return path


def write_adapter(path, base="llava-hf/llava-1.5-7b-hf", entry=None, kind="LORA"):
    path.mkdir()
    (path / "adapter_model.safetensors").touch()
    (path / "adapter_config.json").write_text(
        json.dumps({"peft_type": kind, "base_model_name_or_path": base and str(base)})
    )
    if entry is not None:
        (path / "text4seg.json").write_text(json.dumps(entry))
    return path


def test_model_alone(tmp_path):
    facts = read_facts(write_model(tmp_path / "model"))
    assert (facts.parts.base, facts.parts.adapter) == (tmp_path / "model", None)


def test_adapter_with_an_entry_of_its_own_speaks_for_the_whole(tmp_path):
    model = write_model(tmp_path / "model", entry=None)
    entry = {"grid": [24, 24], "codec": "i-rle", "template_version": "9", "backbone": "llava-1.5-7b"}
    facts = read_facts(model, write_adapter(tmp_path / "tuned", entry=entry))
    assert (facts.parts.base, facts.parts.adapter) == (model, tmp_path / "tuned")
    assert (facts.model, facts.shape, facts.codec) == ("tuned", (24, 24), Codec.IRLE)
    assert facts.image_size == (336, 336)
    assert facts.prompt == find_backbone("llava-1.5-7b")[0].prompt


def test_adapter_without_an_entry_takes_its_model_s(tmp_path):
    facts = read_facts(write_model(tmp_path / "model"), write_adapter(tmp_path / "tuned"))
    assert facts.shape == (16, 16)
    assert facts.prompt is None


def test_adapter_alone_finds_its_model_from_its_own_directory(tmp_path):
    model = write_model(tmp_path / "model")
    for number, base in enumerate((model, "../model")):
        parts = find_parts(write_adapter(tmp_path / f"tuned-{number}", base=base))
        assert parts.base.resolve() == model
        assert parts.adapter == tmp_path / f"tuned-{number}"


@pytest.mark.parametrize("base", ["llava-hf/llava-1.5-7b-hf", None])
def test_adapter_alone_whose_model_is_elsewhere_says_how_to_name_it(tmp_path, base):
    with pytest.raises(CheckpointError, match=r"T4S_GENERATOR_CHECKPOINT .* T4S_GENERATOR_ADAPTER"):
        find_parts(write_adapter(tmp_path / "tuned", base=base))


def test_model_and_adapter_in_one_directory_are_refused(tmp_path):
    model = write_model(tmp_path / "model")
    (model / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(CheckpointError, match="a directory of its own"):
        find_parts(model)
    with pytest.raises(CheckpointError, match="a directory of its own"):
        find_parts(model, write_adapter(tmp_path / "tuned"))


def test_missing_and_foreign_adapters_are_one_clear_line(tmp_path):
    model = write_model(tmp_path / "model")
    with pytest.raises(CheckpointError, match="nowhere: is not a directory"):
        read_facts(model, tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match=r"has no adapter_config\.json"):
        read_facts(model, empty)
    bare = write_adapter(tmp_path / "bare")
    (bare / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no adapter_model\.safetensors"):
        read_facts(model, bare)
    with pytest.raises(CheckpointError, match="'PREFIX_TUNING', not LORA"):
        read_facts(model, write_adapter(tmp_path / "prefix", kind="PREFIX_TUNING"))
    damaged = write_adapter(tmp_path / "damaged")
    (damaged / "text4seg.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"text4seg\.json is damaged"):
        read_facts(model, damaged)


def test_nobody_s_entry_is_an_error_that_names_both_places(tmp_path):
    model = write_model(tmp_path / "model", entry=None)
    with pytest.raises(CheckpointError, match=r"config\.json, and no text4seg\.json"):
        read_facts(model, write_adapter(tmp_path / "tuned"))


def test_grids_that_disagree_are_refused(tmp_path):
    model = write_model(tmp_path / "model")
    tuned = write_adapter(tmp_path / "tuned", entry={**ENTRY, "grid": [24, 24]})
    with pytest.raises(CheckpointError, match=r"grid of \[24, 24\], its model for \[16, 16\]"):
        read_facts(model, tuned)


def test_unknown_backbone_is_an_error(tmp_path):
    model = write_model(tmp_path / "model", entry={**ENTRY, "backbone": "llava-9b"})
    with pytest.raises(CheckpointError, match="no backbone is called 'llava-9b'; `text4seg models` lists"):
        read_facts(model)


def test_backbone_of_another_architecture_is_an_error(tmp_path):
    entry = {**ENTRY, "backbone": "qwen3-vl-8b"}
    with pytest.raises(CheckpointError, match="is Qwen3-VL, and the model is of type 'llava'"):
        read_facts(write_model(tmp_path / "model", entry=entry))


def test_named_backbone_s_squash_size_gives_way_to_the_checkpoint_s(tmp_path):
    entry = {**ENTRY, "backbone": "internvl3-8b"}
    assert read_facts(write_model(tmp_path / "a", entry, "internvl")).image_size == (448, 448)
    entry["image_size"] = [224, 448]
    assert read_facts(write_model(tmp_path / "b", entry, "internvl")).image_size == (224, 448)
