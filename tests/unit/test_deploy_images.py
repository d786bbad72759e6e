"""The Dockerfile and the compose files are read, and what is wrong in them is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from deploy.checks.facts import ROOT
from deploy.checks.images import DOCKERFILE, compose_problems, image_problems, read_dockerfile
from tests.deploying import facts

LINKED = ("text4seg", "text4seg_nano", "text4seg_light", "services", "models", "requirements", "LICENSE")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A build context whose Dockerfile may be changed."""
    (tmp_path / DOCKERFILE).parent.mkdir(parents=True)
    shutil.copy(ROOT / DOCKERFILE, tmp_path / DOCKERFILE)
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    (tmp_path / "deploy" / "triton").symlink_to(ROOT / "deploy" / "triton")
    for name in LINKED:
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_the_dockerfile_is_right(context: Path) -> None:
    assert list(image_problems(facts())) == []
    assert list(image_problems(facts(), context)) == []


def test_the_orchestrator_has_no_torch_and_the_others_do() -> None:
    stages = read_dockerfile()
    for name, has_torch in (("orchestrator", False), ("generator", True), ("refiner", True)):
        packages = "".join((ROOT / file).read_text() for file in stages[name].requirements(stages))
        assert ("\ntorch==" in packages) == has_torch


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("COPY text4seg_light ", "COPY text4seg_lite ", "there is no text4seg_lite to copy"),
        ("COPY LICENSE ./", "COPY training ./", "there is no training to copy"),
        (
            "requirements/orchestrator.txt req",
            "requirements/generator.txt req",
            "is installed, and not copied",
        ),
        ("USER 10001:10001", "USER root", "it runs as root"),
        (
            '"python", "-m", "services.refiner"',
            '"python", "-m", "services.r"',
            "it does not run services.refiner",
        ),
        ("T4S_REFINER_ADDRESS", "T4S_REFINER_LISTEN", "T4S_REFINER_LISTEN is no setting of refiner"),
        ("EXPOSE 50053", "EXPOSE 50054", "it exposes [9464, 50054, 50061]"),
        ("127.0.0.1:50061", "127.0.0.1:50062", "its health check is not"),
        ("--load-model=llava-1.5-7b", "--load-model=llava", "deploy/triton/vllm has no model llava"),
        (
            "COPY --from=refiner-packages",
            "COPY --from=packages-of-refiner",
            "which is no stage above refiner",
        ),
    ],
)
def test_a_mistake_is_told(context: Path, old: str, new: str, said: str) -> None:
    text = (context / DOCKERFILE).read_text()
    assert old in text
    (context / DOCKERFILE).write_text(text.replace(old, new))
    found = list(image_problems(facts(), context))
    assert any(said in each for each in found), found


def test_a_source_that_the_context_leaves_out(context: Path) -> None:
    (context / ".dockerignore").write_text("models\n")
    assert "generator: .dockerignore leaves models/nano out" in list(image_problems(facts(), context))


def compose(**generator: Any) -> dict[str, Any]:
    """A compose file as its loader gives it."""
    plain = {"read_only": True, "build": {"target": "orchestrator"}}
    return {
        "services": {
            "orchestrator": {
                **plain,
                "environment": ["T4S_ORCHESTRATOR_GENERATOR_ADDRESS=dns:///generator:50052"],
                "depends_on": {"generator": {}},
            },
            "generator": {**plain, "build": {"target": "generator"}, **generator},
            "refiner": {**plain, "build": {"target": "refiner"}},
            "vllm": {**plain, "build": {"target": "vllm"}},
        }
    }


TRITON = {
    "T4S_GENERATOR_ENGINE": "triton",
    "T4S_GENERATOR_TRITON_URL": "vllm:8001",
    "T4S_GENERATOR_TRITON_MODEL": "llava-1.5-7b",
}


@pytest.mark.parametrize(
    ("generator", "said"),
    [
        ({}, None),
        ({"environment": TRITON}, None),
        ({"environment": {"T4S_GENERATOR_WORDS": "1"}}, "T4S_GENERATOR_WORDS is no setting"),
        (
            {"environment": {"T4S_GENERATOR_MAX_TOKENS": "many"}},
            "max_tokens: Input should be a valid integer",
        ),
        ({"environment": TRITON | {"T4S_GENERATOR_TRITON_URL": "triton:8001"}}, "there is no service triton"),
        ({"environment": TRITON | {"T4S_GENERATOR_TRITON_URL": "vllm:8003"}}, "vllm does not open 8003"),
        ({"environment": TRITON | {"T4S_GENERATOR_TRITON_MODEL": "qwen"}}, "its Triton does not load it"),
        ({"environment": {"T4S_GENERATOR_CHECKPOINT": "/models/mine"}}, "is on no volume"),
        ({"build": {"target": "gen"}}, "the Dockerfile has no target gen"),
        ({"read_only": False}, "its root file system can be written to"),
        ({"ports": [{"target": 50051}]}, "port 50051 is published, and not open"),
        ({"depends_on": {"redis": {}}}, "it waits for redis, which is not there"),
    ],
)
def test_a_compose_file_is_compared_with_the_code(generator: dict[str, Any], said: str | None) -> None:
    found = list(compose_problems(compose(**generator), facts(), read_dockerfile()))
    if said is None:
        assert found == []
    else:
        assert any(said in each for each in found), found
