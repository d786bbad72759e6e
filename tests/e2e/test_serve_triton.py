"""``make serve ENGINE=triton``: a Triton server with the bundled model, and the services against it."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from skimage import data

from deploy.triton.serve import ROOT, free_address
from text4seg.errors import ServiceUnavailableError
from text4seg_client import Client

START_S = 240.0


def test_a_photograph_is_segmented_by_the_model_in_triton(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(data.chelsea()).save(file, "JPEG")  # type: ignore[no-untyped-call]
    address = free_address()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("T4S_")}
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "deploy.triton.serve", "--services"),
                *("--address", free_address(), "--http-address", free_address()),
            ],
            cwd=ROOT,
            env={**environment, "T4S_ORCHESTRATOR_ADDRESS": address, "OMP_NUM_THREADS": "1"},
            stdout=out,
            stderr=out,
        )
    try:
        with Client(address) as client:
            end = time.monotonic() + START_S
            while True:
                assert process.poll() is None, log.read_text("utf-8", errors="replace")[-3000:]
                try:
                    info = client.model_info(timeout_s=10)
                    break
                except ServiceUnavailableError:
                    assert time.monotonic() < end
                    time.sleep(0.2)
            answer = client.segment(file.getvalue(), ["cat"], timeout_s=120)
        assert (info.generator.engine, info.generator.model) == ("triton", "text4seg-nano")
        assert answer.descriptors[0].report.repairs == ()
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0
    finally:
        stop(process)
    records = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.startswith("{")]
    calls = [record for record in records if record["service"] == "triton" and record["message"] == "call"]
    assert [call["code"] for call in calls] == ["OK"]
    # One request id from the caller to the model.
    assert calls[0]["request_id"] in {
        record.get("request_id") for record in records if str(record.get("method", "")).endswith("/Segment")
    }


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--models", "nobody", "tritonserver ended with exit code"),
        ("--address", "127.0.0.1:{taken}", "cannot listen on 127.0.0.1:{taken}"),
        ("--http-address", "nowhere", "cannot listen on nowhere"),
    ],
)
def test_what_prevents_the_start_is_one_line(option: str, value: str, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken = listening.getsockname()[1]
        done = start(option, value.format(taken=taken))
    assert done.returncode == 1
    assert f"triton: cannot start: {said.format(taken=taken)}" in done.stderr
    assert "Traceback" not in done.stderr


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    address = ["--address", free_address(), "--http-address", free_address()]
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.triton.serve", *address, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, errors = process.communicate(timeout=START_S)
    finally:
        stop(process)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def stop(process: subprocess.Popen[Any]) -> None:
    """Let the launcher end its server; killed, it would leave it behind."""
    process.terminate()
    try:
        process.wait(90)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
