"""A real Triton server for tests, with models of our own repository; one per session."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deploy.triton.serve import MODELS, TritonServer, running
from services.chassis.image_file import ImageLimits, read_image
from services.generator.triton.model import TritonTextModel, open_triton_model
from tests.fake_vllm import write_fake_vllm

READY_S = 200.0
"""Seconds that Triton may take to load the models on a busy machine."""

_WAIT_S = 60.0

NANO = "text4seg"
"""The bundled model, as the repository has it."""
SLOW = "slow"
"""The fake, with a pause before each chunk, and room for one call at work and one that waits."""

MASKS = "masks"
"""The refiner's models GrabCut, and the fake."""
FAKE_VLLM = "fake-vllm"
"""The fake of vLLM's backend."""

Parameters = Mapping[str, str]

MODELS_OF_THE_SESSION: Mapping[str, Parameters] = {
    NANO: {"threads": "1"},
    SLOW: {"engine": "scripted", "script_delay_s": "0.05", "concurrency": "1", "queue": "1"},
    MASKS: {"model": "grabcut", "extra_models": "identity"},
}


@dataclass(frozen=True)
class Triton:
    """A running server and its log."""

    server: TritonServer
    log: Path

    @property
    def url(self) -> str:
        return self.server.address

    def calls(self) -> list[dict[str, Any]]:
        """What the models wrote about the calls that they have answered."""
        lines = self.log.read_text("utf-8", errors="replace").splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        return [record for record in records if record["message"] == "call"]

    def call(self, request_id: str) -> dict[str, Any]:
        """The record of one call, as soon as it is there."""
        end = time.monotonic() + _WAIT_S
        while time.monotonic() < end:
            for record in self.calls():
                if record["request_id"] == request_id:
                    return record
            time.sleep(0.02)
        raise AssertionError(f"no call {request_id}: {self.log.read_text('utf-8', errors='replace')[-2000:]}")


def write_repository(folder: Path, models: Mapping[str, Parameters]) -> Path:
    """Copies of our model, with other names and parameters."""
    for name, parameters in models.items():
        base = "sam" if "model" in parameters else "text4seg"
        shutil.copytree(
            MODELS / base, folder / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
        config = folder / name / "config.pbtxt"
        text = config.read_text("utf-8").replace(f'name: "{base}"', f'name: "{name}"')
        for key in ("engine", "model"):
            if key in parameters:
                text = re.sub(rf'^parameters {{ key: "{key}" .*$', "", text, flags=re.MULTILINE)
        text += "".join(
            f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
            for key, value in parameters.items()
        )
        config.write_text(text, "utf-8")
    return folder


@contextmanager
def triton_server(
    folder: Path, models: Mapping[str, Parameters], *, address: str = "", more: Sequence[str] = ()
) -> Iterator[Triton]:
    """Run a server with models of ours, and more that are in the folder's repository already."""
    repository = write_repository(folder / "models", models)
    log = folder / "triton.log"
    with (
        log.open("ab") as out,
        running(
            repository,
            (*models, *more),
            address=address,
            environment={"OMP_NUM_THREADS": "1"},
            log=out,
            ready_s=READY_S,
        ) as server,
    ):
        yield Triton(server, log)


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """The session's server."""
    folder = tmp_path_factory.mktemp("triton")
    write_fake_vllm(folder / "models", FAKE_VLLM)
    with triton_server(folder, MODELS_OF_THE_SESSION, more=[FAKE_VLLM]) as server:
        yield server


@asynccontextmanager
async def triton_model(
    triton: Triton, model: str = NANO, timeout_s: float = _WAIT_S
) -> AsyncIterator[TritonTextModel]:
    """The engine ``triton``, once it knows what it talks to."""
    reader = partial(read_image, limits=ImageLimits(), field="image")
    async with open_triton_model(triton.url, model, reader, timeout_s, refresh_s=10.0) as engine:
        await engine.watch.get()
        yield engine
