"""The services as processes: ``python -m services``, and each of the three on its own.

They run the bundled checkpoint.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from text4seg import wire
from text4seg.segmentation import (
    CacheOutcome,
    ImageContent,
    PhraseQuery,
    SegmentAnswer,
    SegmentOptions,
    SegmentRequest,
)
from text4seg.v1.segmentation_service_pb2_grpc import SegmentationServiceStub

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("T4S_")},
    "OMP_NUM_THREADS": "1",
}
START_S = 180
"""Seconds that a process may take to load its model on a busy machine."""


class Process:
    """A service process and what it wrote."""

    def __init__(
        self, folder: Path, module: str, *arguments: str, cwd: Path = ROOT, **environment: str
    ) -> None:
        self.out = folder / f"{module}.out"
        self.err = folder / f"{module}.err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=cwd,
                env={**ENVIRONMENT, **environment},
                stdout=out,
                stderr=err,
            )

    def logs(self) -> list[dict[str, Any]]:
        """The records so far; a line that is still being written is left out."""
        return [json.loads(line) for line in self.out.read_text().split("\n")[:-1]]

    def wait(self) -> int:
        return self._popen.wait(START_S)

    def ended(self) -> bool:
        return self._popen.poll() is not None

    def terminate(self) -> int:
        self._popen.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()

    def listening_on(self, name: str) -> str:
        """The address that a service of this process has bound."""

        def bound() -> str | None:
            found = [record for record in self.logs() if record.get("message") == "listening"]
            return next((record["address"] for record in found if record["name"] == name), None)

        return str(until(bound, self))


def until(ask: Callable[[], Any], process: Process) -> Any:
    """Ask until there is an answer."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if answer := ask():
            return answer
        assert not process.ended(), process.err.read_text()
        time.sleep(0.05)
    raise AssertionError(f"no answer; {process.out.read_text()} {process.err.read_text()}")


@contextmanager
def running(
    folder: Path, module: str, *arguments: str, cwd: Path = ROOT, **environment: str
) -> Iterator[Process]:
    process = Process(folder, module, *arguments, cwd=cwd, **environment)
    try:
        yield process
    finally:
        process.kill()


def cat() -> NDArray[np.uint8]:
    """A photograph of a cat."""
    pixels: NDArray[np.uint8] = data.chelsea()  # type: ignore[no-untyped-call]
    return pixels


def photograph() -> bytes:
    """The cat as a file."""
    file = io.BytesIO()
    Image.fromarray(cat()).save(file, "JPEG")
    return file.getvalue()


def wait_until_serving(address: str, process: Process) -> None:
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        def serving() -> bool:
            try:
                response = health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=START_S)
            except grpc.RpcError:
                return False
            return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

        until(serving, process)


def segment(address: str, *phrases: str) -> SegmentAnswer:
    asked = SegmentRequest(ImageContent(photograph()), PhraseQuery(phrases), SegmentOptions())
    with grpc.insecure_channel(address) as channel:
        stub: Any = SegmentationServiceStub(channel)  # type: ignore[no-untyped-call]
        return wire.segment_answer_from_proto(
            stub.Segment(wire.segment_request_to_proto(asked), timeout=START_S)
        )


def check(answer: SegmentAnswer, cache: CacheOutcome) -> None:
    height, width, _ = cat().shape
    assert answer.image_size == (height, width)
    assert answer.cache is cache
    assert [descriptor.phrase for descriptor in answer.descriptors] == ["cat", "dog"]
    for descriptor in answer.descriptors:
        assert descriptor.report.repairs == ()
    assert {region.label for region in answer.regions} <= {"cat", "dog"}
    assert answer.versions.model.startswith("text4seg-nano")


def test_all_three_in_one_process(tmp_path: Path) -> None:
    with running(tmp_path, "services", "--address", "127.0.0.1:0") as process:
        address = process.listening_on("orchestrator")
        wait_until_serving(address, process)
        check(segment(address, "cat", "dog"), CacheOutcome.MISS)
        check(segment(address, "cat", "dog"), CacheOutcome.HIT)
        assert process.terminate() == 0
        assert "Traceback" not in process.err.read_text()
        calls = [
            record
            for record in process.logs()
            if record["message"] == "call" and record["method"] == "/text4seg.v1.SegmentationService/Segment"
        ]
        assert [call["code"] for call in calls] == ["OK", "OK"]


def test_an_empty_address_leaves_the_refiner_out(tmp_path: Path) -> None:
    arguments = ("--address=127.0.0.1:0", "--refiner-address=")
    with running(tmp_path, "services", *arguments, T4S_GENERATOR_ENGINE="scripted") as process:
        address = process.listening_on("orchestrator")
        wait_until_serving(address, process)
        assert not any(region.refined for region in segment(address, "cat").regions)
        assert {record.get("name") for record in process.logs()} == {None, "orchestrator", "generator"}
        assert process.terminate() == 0


def test_three_processes(tmp_path: Path) -> None:
    with ExitStack() as stack:
        peers = {}
        for name in ("generator", "refiner"):
            process = stack.enter_context(running(tmp_path, f"services.{name}", "--address", "127.0.0.1:0"))
            peers[name] = process.listening_on(name)
        orchestrator = stack.enter_context(
            running(
                tmp_path,
                "services.orchestrator",
                "--address=127.0.0.1:0",
                f"--generator-address={peers['generator']}",
                T4S_ORCHESTRATOR_REFINER_ADDRESS=peers["refiner"],
            )
        )
        address = orchestrator.listening_on("orchestrator")
        wait_until_serving(address, orchestrator)
        check(segment(address, "cat", "dog"), CacheOutcome.MISS)
        assert orchestrator.terminate() == 0


def fails_with_one_line(process: Process) -> str:
    """The line; gRPC's own library may have had something to say besides."""
    assert process.wait() == 1
    error = process.err.read_text()
    assert "Traceback" not in error
    (line,) = (line for line in error.splitlines() if "cannot start" in line)
    return line


def test_a_missing_checkpoint_stops_it_with_one_clear_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    settings = {"T4S_GENERATOR_ENGINE": "hf", "T4S_GENERATOR_CHECKPOINT": str(missing)}
    with running(tmp_path, "services", "--address=127.0.0.1:0", **settings) as process:
        assert str(missing) in fails_with_one_line(process)


@pytest.mark.parametrize("module", ["services", "services.generator"])
def test_an_installation_without_the_bundled_model_says_how_to_name_one(tmp_path: Path, module: str) -> None:
    for package in ("services", "text4seg"):  # what a wheel holds; models/ stays behind
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    # The refiner's weights stay behind, too, and of all that is missing only the first is told.
    settings = {"T4S_GENERATOR_ENGINE": "hf", "T4S_REFINER_MODEL": "grabcut"}
    with running(tmp_path, module, "--address=127.0.0.1:0", cwd=tmp_path, **settings) as process:
        line = fails_with_one_line(process)
    assert str(tmp_path / "models" / "nano") in line
    assert "T4S_GENERATOR_CHECKPOINT" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--address=nowhere"], "address"),
        (["--address=127.0.0.1:0", "--phrase-concurrency=0"], "phrase"),
        (["--address=127.0.0.1:0", "--redis-url=http://example.org"], "redis_url"),
        (["--address=127.0.0.1:0", "--max-image-bytes=100000000"], "max_image_bytes"),
        (["--address=127.0.0.1:0", "--generator-address=127.0.0.1:50052"], "generator_address"),
        (["--address=127.0.0.1:0", "--refiner-address=127.0.0.1:50053"], "refiner_address"),
    ],
)
def test_a_bad_setting_stops_it_with_one_clear_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    with running(tmp_path, "services", *arguments) as process:
        assert said in fails_with_one_line(process)


def test_an_unknown_option_is_an_error_of_usage(tmp_path: Path) -> None:
    with running(tmp_path, "services", "--no-such-option=1") as process:
        assert process.wait() == 2
        assert "no-such-option" in process.err.read_text()


def test_a_taken_port_stops_it_with_one_clear_line(tmp_path: Path) -> None:
    with running(tmp_path, "services.orchestrator", "--address=127.0.0.1:0") as first:
        taken = first.listening_on("orchestrator")
        (tmp_path / "second").mkdir()
        with running(tmp_path / "second", "services", f"--address={taken}") as second:
            assert taken in fails_with_one_line(second)
