"""The installed command line as a user runs it: `serve` in one process, the other commands in others.

The generator is the scripted fake: a rectangle per label, whatever the image shows. Everything else is real.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from text4seg_client.local_server import free_address

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")]),
    "T4S_GENERATOR_ENGINE": "scripted",
    "OMP_NUM_THREADS": "1",
}


def _start(
    *arguments: str, stderr: IO[str] | int = subprocess.PIPE, **environment: str
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "text4seg_client", *arguments],
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        # A test run in the background of a shell ignores Ctrl-C, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    with _start(*arguments) as process:
        out, err = _end(process)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def _end(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Wait for the end of a process, but not for ever; returns what it wrote."""
    try:
        return process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    where = free_address()
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("w") as errors, _start("serve", "--address", where, stderr=errors) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert f"ready on {where}" in line, log.read_text()
            yield where
        finally:
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert code == 0


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def _objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_segment_prints_masks_that_coco_tools_read(address: str, image: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.png"
    done = _run(
        "segment", str(image), "cat", "--address", address, "--json", "--no-refine", "-o", str(overlay)
    )
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = _objects(done.stdout)
    (region,) = found["regions"]
    mask = coco.decode(region["mask"])
    assert mask.shape == (90, 160)
    assert int(mask.sum()) == region["area"]
    x0, y0, x1, y1 = region["box"]
    assert mask[y0:y1, x0:x1].any(axis=0).all()
    assert mask.sum() == mask[y0:y1, x0:x1].sum()
    assert not region["refined"]
    assert {"total", "generate"} <= found["timing_ms"].keys()
    with Image.open(overlay) as drawn:
        assert drawn.size == (160, 90)


def test_a_second_call_comes_from_the_cache(address: str, image: Path) -> None:
    first = _run("segment", str(image), "dog", "--address", address)
    second = _run("segment", str(image), "dog", "--address", address)
    bypass = _run("segment", str(image), "dog", "--address", address, "--no-cache")
    assert "from the cache" not in first.stdout
    assert "from the cache" in second.stdout
    assert "from the cache" not in bypass.stdout


def test_a_folder_with_a_bad_file(address: str, image: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "good.jpg").write_bytes(image.read_bytes())
    (photos / "cut.jpg").write_bytes(image.read_bytes()[:300])
    (photos / "empty.png").write_bytes(b"")
    done = _run("detect", str(photos), "cat", "--address", address, "--json", "-o", str(tmp_path / "out"))
    assert done.returncode == 1
    assert [found["image"] for found in _objects(done.stdout)] == [str(photos / "good.jpg")]
    assert "cut.jpg" in done.stderr
    assert "empty.png" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.json", "good.png"]


def test_a_phrase_that_cannot_be_asked(address: str, image: Path) -> None:
    done = _run("segment", str(image), "cat|dog", "--address", address)
    assert done.returncode == 1
    assert "query.phrases.phrases[0]" in done.stderr


def test_open_vocabulary_and_labels(address: str, image: Path) -> None:
    labels = _run("segment", str(image), "--labels", "sky,road", "--address", address, "--json")
    assert labels.returncode == 0
    assert {region["label"] for region in _objects(labels.stdout)[0]["regions"]} <= {"sky", "road"}
    assert _run("segment", str(image), "--open", "--address", address).returncode in (0, 3)


def test_chat_answers(address: str, image: Path) -> None:
    done = _run("chat", str(image), "What is this?", "--address", address)
    assert done.returncode == 0
    assert done.stdout.strip()


def test_version_names_the_model(address: str) -> None:
    done = _run("version", "--address", address)
    assert done.returncode == 0
    assert "scripted" in done.stdout


def test_serve_does_not_share_an_address(address: str) -> None:
    done = _run("serve", "--address", address)
    assert done.returncode == 1
    assert "listens on" in done.stderr


def test_serve_says_why_it_cannot_start(tmp_path: Path) -> None:
    settings = {
        "T4S_GENERATOR_ENGINE": "hf",
        "T4S_GENERATOR_CHECKPOINT": str(tmp_path / "nothing here"),
    }
    with _start("serve", "--address", free_address(), **settings) as process:
        out, err = _end(process)
    assert process.returncode == 1
    assert "nothing here" in err
    assert "ended at start" in err
    assert "Traceback" not in err
    assert "ready" not in out


def test_without_a_server(image: Path) -> None:
    done = _run("segment", str(image), "cat", "--address", free_address())
    assert done.returncode == 1
    assert "text4seg serve" in done.stderr
    assert "Traceback" not in done.stderr
