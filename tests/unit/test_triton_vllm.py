"""Models of vLLM's backend: their configuration, and what they are asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from xgrammar import Grammar

from deploy.triton import vllm_repository
from services.generator.triton.vllm import read_model, sampling_parameters
from text4seg.backbones import FAMILIES, Engine
from text4seg.dialogue import conditioned_question, open_question, referring_question
from text4seg.errors import CheckpointError
from text4seg.segmentation import DescriptorConstraint, GenerateRequest, Turn

SERVED = vllm_repository.served()
NAMES = [backbone.name for _, backbone in SERVED]
FOLDER = Path(vllm_repository.__file__).parent / "vllm"


def parsed(folder: Path) -> model_config_pb2.ModelConfig:
    text = (folder / "config.pbtxt").read_text("utf-8")
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def config(name: str) -> model_config_pb2.ModelConfig:
    return parsed(FOLDER / name)


def entry(name: str) -> str:
    return str(config(name).parameters["text4seg"].string_value)


def test_every_backbone_that_vllm_runs_has_a_model() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(NAMES)
    assert {family.name for family, _ in SERVED} == {f.name for f in FAMILIES if Engine.VLLM in f.engines}


@pytest.mark.parametrize("index", range(len(SERVED)), ids=NAMES)
def test_the_repository_is_what_its_script_writes(index: int) -> None:
    family, backbone = SERVED[index]
    for name, text in vllm_repository.model_files(family, backbone).items():
        assert (FOLDER / backbone.name / name).read_text("utf-8") == text


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_what_the_generator_understands(name: str) -> None:
    model = read_model(name, entry(name))
    assert (config(name).name, config(name).backend) == (name, "vllm")
    side = next(backbone.image_side for _, backbone in SERVED if backbone.name == name)
    assert model.image_size == (side, side)
    assert model.info.shape == (16, 16)


@pytest.mark.parametrize("name", NAMES)
def test_adapters_that_are_asked_for_are_there(name: str) -> None:
    engine = json.loads((FOLDER / name / "1" / "model.json").read_text("utf-8"))
    adapters = json.loads((FOLDER / name / "1" / "multi_lora.json").read_text("utf-8"))
    lora = read_model(name, entry(name)).lora
    assert engine["enable_lora"] == bool(lora) == bool(adapters)
    assert not lora or lora in adapters
    assert engine["enable_prefix_caching"]
    assert engine["speculative_config"]["method"] == "ngram"


@pytest.mark.parametrize("name", ["llava-1.5-7b", "llava-1.5-13b", "internvl2-8b"])
def test_adapters_that_train_the_projector_are_merged(name: str) -> None:
    assert read_model(name, entry(name)).lora == ""


@pytest.mark.parametrize(
    ("labels", "question"),
    [
        (("dog",), referring_question("dog")),
        (("dog", "sky", 'a "b"'), conditioned_question(["dog", "sky", 'a "b"'])),
        ((), open_question()),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_grammars_are_such_as_the_backend_checks(name: str, labels: tuple[str, ...], question: str) -> None:
    request = GenerateRequest(b"", (Turn("user", question),), DescriptorConstraint(labels))
    values = json.loads(sampling_parameters(read_model(name, entry(name)), request))
    structured = json.loads(values["structured_outputs"])
    assert list(structured) == ["grammar"]
    Grammar.from_ebnf(structured["grammar"])


def test_options_make_a_model_for_a_checkpoint_of_yours(tmp_path: Path) -> None:
    facts = tmp_path / "config.json"
    mine = {"grid": [24, 24], "version": "mine", "image_size": [96, 128]}
    facts.write_text(json.dumps({"text4seg": mine}), "utf-8")
    arguments = ["--output", str(tmp_path / "out"), "--backbone", "llava-1.5-7b", "--checkpoint", "/mine"]
    assert vllm_repository.main([*arguments, "--entry", str(facts)]) == 0
    (folder,) = (tmp_path / "out").iterdir()
    model = read_model("llava-1.5-7b", parsed(folder).parameters["text4seg"].string_value)
    assert (model.info.shape, model.info.version, model.image_size) == ((24, 24), "mine", (96, 128))
    assert json.loads((folder / "1" / "model.json").read_text("utf-8"))["model"] == "/mine"


def test_a_backbone_that_vllm_does_not_run_is_an_error_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        vllm_repository.main(["--backbone", "deepseek-vl-7b"])
    assert caught.value.code == 2
    assert "llava-1.5-7b" in capsys.readouterr().err


GOOD = {
    "backbone": "llava-1.5-7b",
    "version": "1",
    "grid": [16, 16],
    "codec": "r-rle",
    "template_version": "1",
}


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("", "parameter text4seg"),
        ("[]", "parameter text4seg"),
        (json.dumps(GOOD), "lacks 'max_tokens'"),
        (json.dumps({**GOOD, "max_tokens": 9, "backbone": "nobody"}), "nobody"),
        (json.dumps({**GOOD, "max_tokens": 9, "grid": [0, 3]}), "parameter text4seg"),
        (json.dumps({**GOOD, "max_tokens": 9, "codec": "x"}), "'x'"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_told(parameter: str, said: str) -> None:
    with pytest.raises(CheckpointError, match="model-name") as caught:
        read_model("model-name", parameter)
    assert said in str(caught.value)
