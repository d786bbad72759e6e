"""``python -m training.evaluate`` over real gRPC; only the generator's model is the scripted fake."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from tests.serving import serving
from text4seg.errors import OverloadedError
from text4seg.masks import Box, encode_rle
from text4seg.v1 import segmentation_service_pb2 as pb
from text4seg.v1 import segmentation_service_pb2_grpc as pb_grpc
from text4seg.wire import error_to_status
from training.datasets.sample import Message, Sample, Task, write_samples
from training.evaluate import main
from training.judging.record_file import Records
from training.judging.summary import RECORDS, REPORT, SUMMARY

ROOT = Path(__file__).resolve().parents[2]
SIZE = (48, 64)
PHRASES = ("cat", "The Dog", "a red bus", "unicorn")


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


TRUTH = rectangle(10, 10, 40, 40)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def referring(image: Path, phrase: str = "cat", **fields: Any) -> Sample:
    given = {"masks": (encode_rle(TRUTH),), **fields}
    return Sample(phrase, "drawn", "val", image, Task.REFERRING, (phrase,), **given)


@pytest.fixture
def samples(image: Path, tmp_path: Path) -> Path:
    every = [referring(image, phrase) for phrase in PHRASES[:3]]
    nothing = (encode_rle(np.zeros(SIZE, bool)),)
    write_samples([*every, referring(image, PHRASES[3], masks=nothing)], tmp_path / "samples.jsonl")
    return tmp_path / "samples.jsonl"


async def evaluate(*arguments: object) -> int:
    """Run the command in a thread: it has an event loop of its own."""
    return await asyncio.to_thread(main, list(map(str, arguments)))


def summary(folder: Path) -> Any:
    return json.loads((folder / SUMMARY).read_text())


def row(folder: Path, suite: str, **where: str) -> dict[str, Any]:
    rows = summary(folder)["suites"][suite]["rows"]
    (found,) = [one for one in rows if all(one[name] == value for name, value in where.items())]
    return dict(found)


async def test_figures_of_a_service_are_those_of_the_masks_it_sent(samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with serving() as suite:
        asked = ("--samples", samples, "--address", suite.orchestrator.address, "--out", out)
        assert await evaluate(*asked, "--refiner", "none", "--refiner", "identity") == 0
    records = list(Records(out / RECORDS))
    assert len(records) == 2 * len(PHRASES)
    theirs = []
    for record in records:
        assert record.answer is not None
        assert record.labels == (record.sample.labels[0].lower(),)
        (found,) = record.answer.found
        assert found.mask is not None
        if record.refiner == "none" and record.sample.id != "unicorn":
            pair = [mask.to_coco() for mask in (found.mask, record.sample.masks[0])]
            theirs.append(coco.iou([pair[0]], [pair[1]], [0])[0, 0])
        assert record.answer.seconds["total"] <= record.answer.seconds["round trip"]
    coarse = row(out, "res", masks="coarse")
    assert coarse["phrases"] == 3
    assert coarse["gIoU"] == pytest.approx(np.mean(theirs))
    assert row(out, "gres", masks="coarse")["N-acc"] == 0  # the fake always finds something
    assert row(out, "refiners", masks="identity")["kept coarse"] == 0
    assert (out / REPORT).read_text().startswith("<!doctype html>")


async def test_a_second_run_asks_only_what_is_missing(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    async with serving() as suite:
        asked = ("--samples", samples, "--address", suite.orchestrator.address, "--out", out)
        assert await evaluate(*asked, "--limit", 2) == 0
        first = (out / RECORDS).read_bytes()
        assert await evaluate(*asked) == 0
        assert "2 questions asked, 2 answered before, 0 failed" in capsys.readouterr().out
        assert (out / RECORDS).read_bytes().startswith(first)
        before = (out / RECORDS).read_bytes()
        assert await evaluate(*asked, "--seed", 5) == 1
        assert "holds another run: its settings" in capsys.readouterr().err
    assert await evaluate("--again", "--out", out, "--suite", "rec") == 0
    assert list(summary(out)["suites"]) == ["rec"]
    assert (out / RECORDS).read_bytes() == before


async def test_another_grid_is_another_run(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    async with serving() as suite:
        asked = ("--samples", samples, "--address", suite.orchestrator.address, "--out", out)
        assert await evaluate(*asked, "--limit", 1) == 0
        file = out / RECORDS
        file.write_text(file.read_text().replace('"grid": "16x16"', '"grid": "24x24"'))
        assert await evaluate(*asked) == 1
    assert "its versions is" in capsys.readouterr().err


async def test_what_goes_wrong_with_a_sample_is_recorded_and_counted(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    bad = {
        "fine": referring(image, "fine"),
        "IMAGE_MISSING": referring(tmp_path / "gone.png", "missing"),
        "IMAGE_INVALID": referring(broken, "broken"),
        "TRUTH_SIZE": referring(image, "size", masks=(encode_rle(np.ones((5, 5), bool)),)),
        "SAMPLE_INVALID": referring(image, "a | b"),
    }
    write_samples(bad.values(), tmp_path / "s.jsonl")
    out = tmp_path / "out"
    async with serving() as suite:
        asked = ("--samples", tmp_path / "s.jsonl", "--address", suite.orchestrator.address, "--out", out)
        assert await evaluate(*asked) == 3
        assert await evaluate(*asked) == 0  # nothing new failed
        assert "0 questions asked, 5 answered before" in capsys.readouterr().out
        assert await evaluate(*asked, "--retry-failed") == 3
    reasons = {record.sample.id: record.failure.reason for record in Records(out / RECORDS) if record.failure}
    assert sorted(reasons.values()) == sorted(set(bad) - {"fine"})
    assert row(out, "res", masks="coarse")["failed"] == 4
    assert summary(out)["questions"]["answered"] == 1


async def test_a_deadline_is_a_failure_of_its_sample(samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with serving(generator={"script_delay_s": 30.0}) as suite:
        asked = ("--samples", samples, "--address", suite.orchestrator.address, "--out", out)
        assert await evaluate(*asked, "--timeout", "0.3", "--limit", 2) == 1  # nothing to report
    assert [record.failure and record.failure.reason for record in Records(out / RECORDS)] == [
        "DEADLINE_EXCEEDED"
    ] * 2


async def test_boxes_come_from_detect(samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with serving() as suite:
        asked = ("--samples", samples, "--address", suite.orchestrator.address, "--out", out)
        assert await evaluate(*asked, "--call", "detect") == 0
        masks = tmp_path / "masks"
        assert await evaluate(*asked[:-1], masks) == 0
    boxes = {
        record.sample.id: record.answer.found[0].box for record in Records(out / RECORDS) if record.answer
    }
    assert row(out, "rec", masks="detect")["Acc@0.5"] == row(masks, "rec", masks="coarse")["Acc@0.5"]
    for record in Records(masks / RECORDS):
        assert record.answer is not None
        assert record.answer.found[0].box == boxes[record.sample.id]


async def test_scenes_and_dialogues_are_asked_in_their_ways(image: Path, tmp_path: Path) -> None:
    sky, road = rectangle(0, 0, 64, 44), rectangle(0, 44, 64, 48)
    masks = (encode_rle(sky), encode_rle(road))
    scene = Sample(
        "1", "scenes", "val", image, Task.SEMANTIC, ("sky", "road"), masks, None, ("sky", "road", "car")
    )
    turns = (
        Message("user", "What?"), Message("assistant", "I am a scripted fake, and see nothing!"),
        Message("user", "Why?"), Message("assistant", "because"),
    )  # fmt: skip
    talk = Sample("2", "talk", "val", image, Task.DIALOGUE, messages=turns)
    write_samples([scene, talk], tmp_path / "s.jsonl")
    out = tmp_path / "out"
    async with serving() as suite:
        asked = ("--samples", tmp_path / "s.jsonl", "--address", suite.orchestrator.address)
        assert await evaluate(*asked, "--out", out, "--refiner", "identity") == 0
        assert await evaluate(*asked, "--out", tmp_path / "present", "--ask", "present") == 0
        assert await evaluate(*asked, "--out", tmp_path / "open", "--ask", "open") == 0
    assert row(out, "vqa")["questions"] == 2
    assert row(out, "vqa")["exact match"] == 0.5
    assert 0 < row(out, "vocabulary", masks="coarse")["mIoU"] < 1
    labels = {}
    for name in ("out", "present", "open"):
        first = next(record for record in Records(tmp_path / name / RECORDS) if record.sample.id == "1")
        labels[name] = first.labels
    assert labels == {"out": ("sky", "road", "car"), "present": ("sky", "road"), "open": None}
    assert row(tmp_path / "open", "vocabulary")["mIoU"] == 0  # the fake calls everything "object"


async def test_a_picture_that_asks_to_be_turned_is_asked_about_as_stored(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path, exif=turned)
    write_samples([referring(path, box=Box(10, 10, 40, 40))], tmp_path / "s.jsonl")
    async with serving() as suite:
        asked = ("--samples", tmp_path / "s.jsonl", "--address", suite.orchestrator.address)
        assert await evaluate(*asked, "--out", tmp_path / "out") == 0
    (record,) = Records(tmp_path / "out" / RECORDS)
    assert record.answer is not None
    assert record.answer.size == SIZE


class Busy(pb_grpc.SegmentationServiceServicer):
    """Knows its model, and answers every question with an error."""

    def __init__(self, info: pb.GetModelInfoResponse) -> None:
        self.info = info
        self.calls = 0

    async def GetModelInfo(self, request: Any, context: Any) -> pb.GetModelInfoResponse:  # noqa: N802
        return self.info

    async def Segment(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.calls += 1
        status = error_to_status(OverloadedError("too many callers", 0.01))
        details = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, status.message, details)


async def test_a_service_without_room_ends_the_run_which_then_goes_on(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_samples([referring(image, f"cat {number}") for number in range(12)], tmp_path / "s.jsonl")
    asked = ("--samples", tmp_path / "s.jsonl", "--out", tmp_path / "out", "--in-flight", 2, "--timeout", 1)
    async with serving() as suite:
        busy = Busy(await suite.stub.GetModelInfo(pb.GetModelInfoRequest()))
        server = grpc.aio.server()
        pb_grpc.add_SegmentationServiceServicer_to_server(busy, server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            assert await evaluate(*asked, "--address", f"127.0.0.1:{port}") == 1
        finally:
            await server.stop(None)
        assert "does not answer any more" in capsys.readouterr().err
        refused = list(Records(tmp_path / "out" / RECORDS))
        assert {record.failure and record.failure.reason for record in refused} == {"OVERLOADED"}
        assert busy.calls > len(refused)  # each was asked again before it was given up
        assert all(record.attempts > 1 for record in refused)
        assert await evaluate(*asked, "--address", suite.orchestrator.address, "--timeout", 60) == 0
    assert "12 questions asked, 0 answered before, 0 failed" in capsys.readouterr().out


class Replaced(pb_grpc.SegmentationServiceServicer):
    """A service whose model is replaced after its first answer."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub
        self.answers = 0

    async def GetModelInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self.stub.GetModelInfo(request)

    async def Segment(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = await self.stub.Segment(request)
        if self.answers:
            answer.versions.model = "successor"
        self.answers += 1
        return answer


async def test_answers_of_two_models_are_not_mixed(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    async with serving() as suite:
        server = grpc.aio.server()
        pb_grpc.add_SegmentationServiceServicer_to_server(Replaced(suite.stub), server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            where = ("--address", f"127.0.0.1:{port}", "--out", out, "--in-flight", 1)
            assert await evaluate("--samples", samples, *where) == 1
        finally:
            await server.stop(None)
    assert "to successor: judge it in a run of its own" in capsys.readouterr().err
    assert len(list(Records(out / RECORDS))) == 1


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address at which connections are refused."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_a_service_out_of_reach_is_told(
    samples: Path,
    tmp_path: Path,
    deaf: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.evaluate.WAIT_RUNNING_S", 0.3)
    assert main(["--samples", str(samples), "--address", deaf, "--out", str(tmp_path / "out")]) == 1
    assert f"no service answers at {deaf}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "there are no samples"),
        ('{"id": 1}\n', "samples.jsonl:1: not a sample"),
        (None, "does not exist"),
    ],
)
async def test_bad_samples_are_told(
    content: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "samples.jsonl"
    if content is not None:
        file.write_text(content)
    async with serving() as suite:
        address = suite.orchestrator.address
        assert await evaluate("--samples", file, "--address", address, "--out", tmp_path / "out") == 1
    assert said in capsys.readouterr().err


async def test_samples_of_one_name_are_refused(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_samples([referring(image), referring(image)], tmp_path / "s.jsonl")
    async with serving() as suite:
        asked = ("--samples", tmp_path / "s.jsonl", "--address", suite.orchestrator.address)
        assert await evaluate(*asked, "--out", tmp_path / "out") == 1
    assert "two samples have the id 'cat'" in capsys.readouterr().err


async def test_a_refiner_that_is_not_there_is_told(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving() as suite:
        asked = ("--samples", samples, "--address", suite.orchestrator.address, "--out", tmp_path / "out")
        assert await evaluate(*asked, "--refiner", "sam-vit-h") == 1
    assert "no refiner 'sam-vit-h'; it has: identity" in capsys.readouterr().err


def test_no_checkpoint_no_run(samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--samples", str(samples), "--checkpoint", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "holds no config.json" in capsys.readouterr().err


def test_services_that_end_at_start_say_why(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    arguments = ["--samples", str(samples), "--checkpoint", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "ended at start with exit code 1" in said
    assert f"cannot start: checkpoint {tmp_path}" in said


def test_pictures_may_lie_beside_the_samples(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All services are started here, as for a checkpoint; the fake stands in for the model."""
    write_samples([referring(Path(image.name))], tmp_path / "s.jsonl")
    monkeypatch.setenv("T4S_GENERATOR_ENGINE", "scripted")
    out = tmp_path / "out"
    arguments = [
        "--samples",
        str(tmp_path / "s.jsonl"),
        "--out",
        str(out),
        "--refiner",
        "grabcut",
        "--refiner",
        "identity",
    ]
    assert main(arguments) == 0
    assert {record.refiner for record in Records(out / RECORDS)} == {"grabcut", "identity"}
    (coarse,) = [one for one in summary(out)["suites"]["codec"]["rows"] if one["written by"] == "model"]
    assert coarse["tokens"] > 0


async def test_a_data_set_is_opened_by_name(image: Path, tmp_path: Path) -> None:
    root = tmp_path / "own"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    image.rename(root / "images" / "a.png")
    Image.fromarray(TRUTH).save(root / "masks" / "a.png")
    (root / "phrases.csv").write_text("image,mask,phrase\na.png,a.png,the cat\na.png,,a unicorn\n")
    out = tmp_path / "out"
    async with serving() as suite:
        where = ("--address", suite.orchestrator.address, "--out", out)
        assert await evaluate("--dataset", "folder", "--root", root, "--split", "all", *where) == 0
    assert row(out, "gres", masks="coarse")["no target"] == 1
    asked = [record.sample.labels for record in Records(out / RECORDS)]
    assert sorted(asked) == [("a unicorn",), ("the cat",)]  # written as answers come


def test_a_data_set_that_is_not_there_is_told_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    where = ["--root", str(tmp_path / "gone"), "--split", "val", "--out", str(out)]
    assert main(["--dataset", "folder", *where]) == 1
    assert "phrases.csv" in capsys.readouterr().err
    assert main(["--dataset", "no-such-set", *where]) == 1
    assert "no data set 'no-such-set'" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on(how: signal.Signals, image: Path, tmp_path: Path) -> None:
    """Ctrl+C in the middle: the process ends with its services, and the next one asks the rest."""
    write_samples([referring(image, f"cat {number}") for number in range(6)], tmp_path / "s.jsonl")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "training.evaluate", "--samples", str(tmp_path / "s.jsonl")]
    command += ["--out", str(out), "--in-flight", "1"]
    environment = {**os.environ, "T4S_GENERATOR_ENGINE": "scripted"}
    slow = {**environment, "T4S_GENERATOR_SCRIPT_DELAY_S": "0.05"}
    process = subprocess.Popen(command, env=slow, cwd=ROOT, stderr=subprocess.PIPE)
    try:
        for _ in range(1200):
            if (out / RECORDS).exists() and len((out / RECORDS).read_bytes().splitlines()) >= 3:
                break
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert b"goes on from here" in said
    done = len(list(Records(out / RECORDS)))
    assert 2 <= done < 6
    again = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, timeout=200, check=True)
    assert f"{6 - done} questions asked, {done} answered before, 0 failed".encode() in again.stdout
