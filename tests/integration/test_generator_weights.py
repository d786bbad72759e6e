"""Adapters and quantized weights: what the loader says when something does not fit or is not installed."""

import json
import shutil
import warnings
from contextlib import AsyncExitStack

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from services.chassis.health import Health
from services.generator.adapter import CheckpointParts
from services.generator.engines import open_model
from services.generator.hf_model import load_hf_model
from services.generator.hf_weights import load_weights
from services.generator.quantization import Quantization
from services.generator.settings import GeneratorSettings
from tests.tiny_backbones import TINY, save_tiny_backbone
from tests.tiny_llava import image_file, read
from tests.tiny_nano import tiny_model
from text4seg.dialogue import referring_question
from text4seg.errors import CheckpointError
from text4seg.segmentation import DescriptorConstraint, GenerateRequest, Turn

TINY_BY_NAME = {tiny.backbone: tiny for tiny in TINY}


def answer(model):
    turns = (Turn("user", referring_question("dog")),)
    request = GenerateRequest(image_file(), turns, DescriptorConstraint(("dog",)))
    chunks = list(model.write(request, lambda: False))
    return [token.logprob for chunk in chunks for token in chunk.logprobs]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("llava"), TINY_BY_NAME["llava-1.5-7b"])


@pytest.fixture(scope="module")
def adapter(path, tmp_path_factory):
    torch.manual_seed(1)
    # Names of layers as lists, as training tools write them.
    targets = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "linear_1", "linear_2"]
    config = LoraConfig(r=2, lora_alpha=4, target_modules=targets, init_lora_weights=False)
    with warnings.catch_warnings():
        # PEFT 0.21 asks for a property that transformers 5.23 renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        tuned = get_peft_model(AutoModelForImageTextToText.from_pretrained(path), config)
    directory = tmp_path_factory.mktemp("adapter")
    tuned.save_pretrained(directory)
    return directory


@pytest.fixture
def copy(adapter, tmp_path):
    return shutil.copytree(adapter, tmp_path / "copy")


def test_adapter_with_the_names_of_older_transformers_is_read(path, adapter, copy):
    """Those of transformers 4, which the paper's adapters were trained with."""
    weights = load_file(adapter / "adapter_model.safetensors")
    older = {
        "base_model.model.model.language_model.": "base_model.model.language_model.model.",
        "base_model.model.model.vision_tower.": "base_model.model.vision_tower.vision_model.",
        "base_model.model.model.multi_modal_projector.": "base_model.model.multi_modal_projector.",
    }
    renamed = {}
    for name, value in weights.items():
        (new,) = (new for new in older if name.startswith(new))
        renamed[older[new] + name.removeprefix(new)] = value.clone()
    save_file(renamed, copy / "adapter_model.safetensors")
    plain = answer(load_hf_model(path, read))
    adapted, from_older = (answer(load_hf_model(path, read, adapter=each)) for each in (adapter, copy))
    assert from_older == adapted != plain


def test_adapter_for_another_family_is_one_clear_line(adapter, tmp_path):
    other = save_tiny_backbone(tmp_path / "qwen", TINY_BY_NAME["qwen3-vl-8b"])
    with pytest.raises(CheckpointError, match=f"{adapter}: does not fit the model {other}") as caught:
        load_hf_model(other, read, adapter=adapter)
    assert "\n" not in str(caught.value)


def test_adapter_with_weights_left_out_is_an_error(path, copy):
    weights = load_file(copy / "adapter_model.safetensors")
    dropped = min(weights)
    save_file(
        {name: value for name, value in weights.items() if name != dropped},
        copy / "adapter_model.safetensors",
    )
    with pytest.raises(CheckpointError, match=r"does not fit the model .* 1 of its weights"):
        load_hf_model(path, read, adapter=copy)


def test_damaged_adapter_is_an_error(path, copy):
    (copy / "adapter_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="copy: does not fit the model"):
        load_hf_model(path, read, adapter=copy)


def test_version_follows_the_adapter_and_the_quantization(path, adapter, copy):
    weights = load_file(copy / "adapter_model.safetensors")
    changed = min(weights)
    save_file({**weights, changed: weights[changed] + 1}, copy / "adapter_model.safetensors")
    versions = [
        load_hf_model(path, read).info.version,
        load_hf_model(path, read, adapter=adapter).info.version,
        load_hf_model(path, read, adapter=copy).info.version,
        load_hf_model(path, read, quantization=Quantization.FOUR_BIT).info.version,
        load_hf_model(path, read, quantization=Quantization.EIGHT_BIT).info.version,
    ]
    assert len(set(versions)) == len(versions)
    assert load_hf_model(path, read, adapter=adapter).info.version == versions[1]


def test_quantization_leaves_all_but_the_language_model_as_it_is(path):
    model = load_hf_model(path, read, quantization=Quantization.FOUR_BIT)._checkpoint.model
    quantized = {name for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}
    assert len(quantized) == 2 * 7
    assert all(name.startswith("model.language_model.layers.") for name in quantized)


def test_model_without_a_language_model_of_its_own_is_not_quantized(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be quantized"):
        load_weights(CheckpointParts(tmp_path, None), quantization=Quantization.FOUR_BIT)


async def test_settings_reach_the_weights(path, adapter):
    settings = GeneratorSettings(checkpoint=path, adapter=adapter, quantization="8bit", dtype="bfloat16")
    expected = load_hf_model(
        path, read, dtype="bfloat16", adapter=adapter, quantization=Quantization.EIGHT_BIT
    )
    async with AsyncExitStack() as resources:
        model = await open_model(settings, resources, Health())
        assert model.info.version == expected.info.version
        assert model.info.engine == "hf"


def test_packages_that_are_not_installed_are_named(path, adapter, monkeypatch):
    monkeypatch.setattr("services.generator.hf_weights.is_bitsandbytes_available", lambda: False)
    with pytest.raises(CheckpointError, match="needs the package bitsandbytes"):
        load_hf_model(path, read, quantization=Quantization.EIGHT_BIT)
    monkeypatch.setattr("services.generator.hf_weights.is_peft_available", lambda: False)
    with pytest.raises(CheckpointError, match="needs the package peft"):
        load_hf_model(path, read, adapter=adapter)


@pytest.mark.parametrize(
    ("model_type", "advice"),
    [
        ("internvl_chat", "format of InternVL2 with code of its own; only vLLM serves it"),
        ("qwen", "format of Qwen-VL with code of its own; only vLLM serves it"),
        ("multi_modality", "format of DeepSeek-VL with code of its own; convert it to deepseek_vl or"),
        ("llava_llama", "format of LLaVA-1.5 with code of its own; convert it to llava"),
        ("unheard_of", "does not know model type 'unheard_of'$"),
    ],
)
def test_checkpoint_in_a_foreign_format_says_what_serves_it(path, tmp_path, model_type, advice):
    other = shutil.copytree(path, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    entry = {**config["text4seg"], "backbone": None}
    (other / "config.json").write_text(json.dumps({**config, "model_type": model_type, "text4seg": entry}))
    with pytest.raises(CheckpointError, match=advice):
        load_hf_model(other, read)


def test_checkpoint_without_chat_template_must_name_a_backbone(path, tmp_path):
    other = shutil.copytree(path, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    entry = {**config["text4seg"], "backbone": None}
    (other / "config.json").write_text(json.dumps({**config, "text4seg": entry}))
    with pytest.raises(CheckpointError, match='no chat template, and its entry text4seg names no "backbone"'):
        load_hf_model(other, read)
