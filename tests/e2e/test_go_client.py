"""The Go client: its own tests, and its command line beside the Python one, against the same services.

Both command lines must print the same and draw the same. Where Go is not installed, all of this is skipped.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import text4seg
from tests.certificates import issue
from tests.go_toolchain import MISSING, MODULE, Go, find_go
from tests.serving import picture, serving
from text4seg_client.cli import main
from text4seg_client.local_server import free_address, local_server

CAT = MODULE / "text4seg" / "testdata" / "cat.jpg"
START_S = 240.0
JPEG_LEVELS = 3
"""Go's JPEG decoder and libjpeg round differently: some 4 of 100 pixels differ, by up to 3 of 255 levels."""

# Go compiles gRPC and itself first, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def go() -> Go:
    found = find_go()
    if found is None:
        pytest.skip(MISSING)
    return found


@pytest.fixture(scope="module")
def t4s(go: Go, tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("bin") / "t4s"
    # Without its commit, which git does not tell everybody.
    go.run("build", *go.build_flags, "-buildvcs=false", "-o", str(binary), "./cmd/t4s")
    return binary


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """All three services with the bundled model."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMP_NUM_THREADS", "1")
        where = free_address()
        with local_server(where, START_S, "--log-level=WARNING"):
            yield where


def test_it_is_formatted_and_vetted(go: Go) -> None:
    gofmt = Path(go.run("env", "GOROOT").strip()) / "bin" / "gofmt"
    unformatted = subprocess.run(
        [gofmt, "-l", "."], cwd=MODULE, check=True, capture_output=True, text=True, timeout=60
    )
    assert unformatted.stdout == ""
    go.run("vet", *go.build_flags, "./...")


def test_its_tests_and_examples(go: Go, address: str) -> None:
    told = go.run("test", *go.build_flags, "-count=1", "./...", T4S_TEST_ADDRESS=address)
    assert "NOT RUN" not in told


def test_the_race_detector_was_on(go: Go) -> None:
    if not go.race:
        pytest.skip("the Go client was tested WITHOUT the race detector, which needs cgo and a C compiler")


def test_both_clients_have_one_version(t4s: Path) -> None:
    assert run(t4s, "--version").stdout == f"t4s {text4seg.__version__}\n"


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("cat.png", ("segment", "the cat", "a dog")),
        ("cat.webp", ("segment", "the cat", "a dog")),
        ("turned.jpg", ("segment", "the cat", "a dog")),
        ("cat.png", ("segment", "--labels", "cat, wall, person", "--split", "--no-refine")),
        ("cat.png", ("detect", "the cat", "the eyes")),
    ],
    ids=["png", "webp", "jpeg", "labels", "boxes"],
)
def test_both_clients_draw_the_same(
    name: str,
    asked: tuple[str, ...],
    t4s: Path,
    address: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = photograph(tmp_path, name)
    command, *query = asked
    arguments = (command, str(photo), *query, "--json", "--address", address)
    code, told, drawn = by_go(t4s, tmp_path, *arguments)
    expected_code = main([*arguments, "-o", str(tmp_path / "python.png")])
    expected = json.loads(capsys.readouterr().out)
    assert code == expected_code
    assert without_times(told) == without_times(expected)
    by_python = pixels(tmp_path / "python.png")
    assert drawn.shape == by_python.shape
    differences = np.abs(drawn.astype(int) - by_python)
    assert differences.max() <= (JPEG_LEVELS if photo.suffix == ".jpg" else 0)


def test_a_conversation(t4s: Path, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = photograph(tmp_path, "cat.png")
    arguments = ("chat", str(photo), "Please segment only the cat in the image.", "--address", address)
    answer = run(t4s, *arguments, "-o", str(tmp_path / "go.png"))
    assert main([*arguments, "-o", str(tmp_path / "python.png")]) == answer.returncode == 0
    assert answer.stdout == capsys.readouterr().out
    assert (tmp_path / "go.png").exists() == (tmp_path / "python.png").exists()
    if (tmp_path / "go.png").exists():
        np.testing.assert_array_equal(pixels(tmp_path / "go.png"), pixels(tmp_path / "python.png"))


async def test_over_mutual_tls_with_a_key_and_an_upload(t4s: Path, tmp_path: Path) -> None:
    authority, callers = issue("authority"), issue("callers")
    (tmp_path / "authority.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "callers.pem").write_bytes(callers.certificate_pem)
    (tmp_path / "key").write_text("sesame\n")
    caller = issue("caller", callers).write(tmp_path)
    credentials = [
        *("--tls-ca", str(tmp_path / "authority.pem")),
        *("--tls-cert", str(caller["tls_certificate"]), "--tls-key", str(caller["tls_key"])),
    ]
    (tmp_path / "server").mkdir()
    secure = {
        **issue("server", authority).write(tmp_path / "server"),
        "tls_client_ca": tmp_path / "callers.pem",
        "api_keys": "sesame",
    }
    photo = tmp_path / "large.png"
    photo.write_bytes(picture(1100, 1000))
    assert photo.stat().st_size > 3 << 20  # more than travels with a call
    async with serving(secure) as suite:
        arguments = ("segment", str(photo), "the cat", "--json", "--address", suite.orchestrator.address)
        keyed = (*arguments, *credentials, "--api-key-file", str(tmp_path / "key"))
        code, told, drawn = await asyncio.to_thread(by_go, t4s, tmp_path, *keyed)
        assert (code, [region["label"] for region in told["regions"]]) == (0, ["the cat"])
        python = await asyncio.to_thread(main, [*keyed, "-o", str(tmp_path / "python.png")])
        assert python == 0
        np.testing.assert_array_equal(drawn, pixels(tmp_path / "python.png"))
        keyless = await asyncio.to_thread(run, t4s, *arguments, *credentials)
        assert keyless.returncode == 1
        assert "key" in keyless.stderr
        stranger = await asyncio.to_thread(run, t4s, *arguments, *credentials[:2])
        assert stranger.returncode == 1
        assert "no server answers" in stranger.stderr


def photograph(folder: Path, name: str) -> Path:
    """The cat in a file format; what is "turned" is upright only as EXIF says."""
    path = folder / name
    with Image.open(CAT) as cat:
        exif = Image.Exif()
        if name.startswith("turned"):
            exif[0x0112] = 6
        cat.save(path, exif=exif)
    return path


def by_go(t4s: Path, folder: Path, *arguments: str) -> tuple[int, dict[str, Any], NDArray[np.uint8]]:
    """The exit code, the answer and the overlay of a run of the Go command line."""
    done = run(t4s, *arguments, "-o", str(folder / "go.png"))
    assert done.returncode in (0, 3), done.stderr
    return done.returncode, json.loads(done.stdout), pixels(folder / "go.png")


def run(t4s: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([t4s, *arguments], capture_output=True, text=True, timeout=240)


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from call to call."""
    return {name: value for name, value in answer.items() if name != "timing_ms"}


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))
