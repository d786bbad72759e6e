"""The command line against a server on the loopback interface, in this process."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from tests.hand_server import HandServicer, picture, png
from text4seg.errors import OverloadedError
from text4seg_client.cli import main


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(png(picture()))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "more").mkdir(parents=True)
    (root / "a.png").write_bytes(png(picture()))
    (root / "b.png").write_bytes(b"no image")
    (root / "more" / "c.png").write_bytes(png(picture()[:, ::-1]))
    return root


def _objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_holds_exactly_what_is_documented(
    address: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(image), "--address", address, "red", "--json", "green"]) == 0
    (found,) = _objects(capsys.readouterr().out)
    mask = found["regions"][0].pop("mask")
    assert found == {
        "image": str(image),
        "regions": [{"label": "red", "score": 0.75, "box": [10, 5, 30, 25], "area": 400, "refined": True}],
        "no_target_score": 0.125,
        "timing_ms": {"total": 250.0, "generate": 125.0, "refine": 62.5},
        "versions": {
            "model": "hand 1",
            "codec": "r-rle 1",
            "templates": "1",
            "refiner": "none 1",
            "server": "0",
        },
    }
    assert mask["size"] == [60, 80]
    assert np.array_equal(coco.decode(mask).astype(bool), picture()[..., 0] == 220)


def test_nothing_found_is_exit_code_3(address: str, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(image), "green", "--address", address]) == 3
    assert "nothing found (no-target score 0.88)" in capsys.readouterr().out
    assert main(["detect", str(image), "green", "--address", address]) == 3


def test_the_table_is_for_people(address: str, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(image), "red", "--address", address, "--no-refine"]) == 0
    title, header, row = capsys.readouterr().out.splitlines()
    assert title.startswith(str(image))
    assert "80 x 60" in title
    assert header.split() == ["label", "score", "box", "area", "mask"]
    assert row.split() == ["red", "0.75", "[10,", "5,", "30,", "25]", "400", "coarse"]


@pytest.mark.parametrize(
    ("arguments", "labels"),
    [(["--labels", "blue, red"], ["blue", "red"]), (["--open"], ["red", "blue"]), (["Blue"], ["blue"])],
)
def test_queries_of_every_kind(
    address: str, image: Path, arguments: list[str], labels: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(image), *arguments, "--address", address, "--json"]) == 0
    (found,) = _objects(capsys.readouterr().out)
    assert [region["label"] for region in found["regions"]] == labels


def test_options_reach_the_server(
    address: str, servicer: HandServicer, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--split", "--no-cache", "--refine", "none", "--seed", "7", "--min-score", "0.5"]
    assert main(["segment", str(image), "blue", "--address", address, "--json", *options]) == 0
    (found,) = _objects(capsys.readouterr().out)
    assert [region["box"] for region in found["regions"]] == [[50, 40, 60, 50], [65, 40, 75, 50]]
    assert servicer.seen[0].request.options.seed == 7
    assert main(["segment", str(image), "blue", "--address", address, "--min-score", "0.9"]) == 3


def test_detect_prints_boxes(address: str, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(image), "red", "--address", address, "--json"]) == 0
    (found,) = _objects(capsys.readouterr().out)
    assert found["detections"] == [{"label": "red", "score": 0.75, "box": [10, 5, 30, 25]}]
    assert "regions" not in found


def test_an_overlay_is_written(address: str, image: Path, tmp_path: Path) -> None:
    for command in ("segment", "detect"):
        output = tmp_path / f"{command}.png"
        assert main([command, str(image), "red", "--address", address, "-o", str(output)]) == 0
        with Image.open(output) as drawn:
            pixels = np.asarray(drawn)
        assert pixels.shape == (60, 80, 3)
        assert not np.array_equal(pixels[5:25, 10:30], picture()[5:25, 10:30])
        assert np.array_equal(pixels[52:], picture()[52:])


def test_a_bad_file_is_reported_and_the_others_go_on(
    address: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = main(["segment", str(folder), "red", "--address", address, "--json", "-o", str(out)])
    assert code == 1
    captured = capsys.readouterr()
    assert [found["image"] for found in _objects(captured.out)] == [
        str(folder / "a.png"),
        str(folder / "more" / "c.png"),
    ]
    (complaint,) = [line for line in captured.err.splitlines() if "b.png" in line]
    assert "no image that can be read" in complaint
    assert "3/3" in captured.err  # the progress bar
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == ["a.json", "a.png", "more/c.json", "more/c.png"]
    stored = json.loads((out / "more" / "c.json").read_text(encoding="utf-8"))
    assert stored == _objects(captured.out)[1]
    assert stored["regions"][0]["box"] == [50, 5, 70, 25]


def test_patterns_work_and_results_inside_the_folder_are_no_input(
    address: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b.png").unlink()
    out = folder / "out"
    for _ in range(2):
        arguments = ["segment", f"{folder}/**/*.png", "red", "--address", address, "-o", str(out), "--quiet"]
        assert main([*arguments, "--json"]) == 0
        assert len(_objects(capsys.readouterr().out)) == 2


def test_one_image_into_a_folder(address: str, image: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert main(["segment", str(image), "red", "--address", address, "-o", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["image.json", "image.png"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "say what to look for"),
        (["red", "--open"], "cannot be combined"),
        (["--labels", " , "], "at least one label"),
        (["red", "--labels", "red"], "cannot be combined"),
        (["--labels", "red", "--open"], "not allowed with"),
        (["red", "--min-score", "1.5"], "from 0 to 1"),
        (["red", "--refine", "maybe"], "invalid choice"),
        (["red", "--timeout", "0"], "more than 0"),
        (["red", "--seed", "-1"], "from 0"),
        (["red", "-o", "overlay"], "suffix"),
        (["red", "--tls-cert", "a.pem"], "belong together"),
        (["red", "--address", "http://127.0.0.1:50051"], "is a URL"),
        (["red", "--address", "localhost"], "has no port"),
        (["red", "--nonsense"], "unrecognized"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    image: Path, arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["segment", str(image), *arguments])
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_an_unquoted_pattern_is_noticed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["segment", str(folder / "a.png"), str(folder / "b.png"), "red"])
    assert ended.value.code == 2
    assert "quote the pattern" in capsys.readouterr().err


def test_a_source_is_never_overwritten(
    address: str, image: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = image.read_bytes()
    for source, output in ((image, image), (folder / "a.png", folder)):
        with pytest.raises(SystemExit) as ended:
            main(["segment", str(source), "red", "--address", address, "-o", str(output)])
        assert ended.value.code == 2
        assert "overwrite" in capsys.readouterr().err
    assert image.read_bytes() == before


def test_a_missing_image_is_an_error(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "none.png", "red", "--address", address]) == 1
    assert "none.png: no such file or folder" in capsys.readouterr().err


def test_no_server_says_how_to_start_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["segment", str(folder), "red"], ["chat", str(folder / "a.png"), "hi"], ["version"]):
        assert main([*command, "--address", "127.0.0.1:1"]) == 1
        error = capsys.readouterr().err
        assert "no server answers at 127.0.0.1:1" in error
        assert error.count("text4seg serve") == 1


def test_an_error_of_the_server_is_one_line(
    address: str, servicer: HandServicer, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servicer.failures += [OverloadedError("the queue is full", 100.0)]
    assert main(["segment", str(image), "red", "--address", address]) == 1
    assert capsys.readouterr().err == f"text4seg: {image}: the queue is full\n"


def test_warnings_are_shown(address: str, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(image), "red", "warn", "--address", address, "--json"]) == 0
    captured = capsys.readouterr()
    assert "warning: no refiner here" in captured.err
    assert len(_objects(captured.out)) == 1


def test_the_api_key_comes_from_a_file(
    address: str, servicer: HandServicer, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servicer.api_key = "secret"
    assert main(["segment", str(image), "red", "--address", address]) == 1
    assert "no API key" in capsys.readouterr().err
    (tmp_path / "key").write_text("secret\n", encoding="utf-8")
    key = ["--api-key-file", str(tmp_path / "key")]
    assert main(["segment", str(image), "red", "--address", address, *key]) == 0


def test_one_question(address: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "answer.png"
    assert main(["chat", str(image), "where is red", "--address", address, "-o", str(output)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("It is turn 1:\n as asked.\n")
    assert "[10, 5, 30, 25]" in out
    assert output.exists()


def test_a_question_answered_as_json_or_raw(
    address: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", str(image), "where is red", "--address", address, "--json"]) == 0
    (answer,) = _objects(capsys.readouterr().out)
    assert answer["regions"][0]["box"] == [10, 5, 30, 25]
    assert answer["finish_reason"] == "stop"
    assert main(["chat", str(image), "where is red", "--address", address, "--raw"]) == 0
    assert capsys.readouterr().out.startswith(answer["answer"])


def test_a_conversation_needs_a_terminal(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["chat", str(image)])
    assert ended.value.code == 2
    assert "terminal" in capsys.readouterr().err


def test_version_of_client_and_server(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    client_only = capsys.readouterr().out
    assert client_only.startswith("text4seg ")
    assert main(["version", "--address", address]) == 0
    both = capsys.readouterr().out
    assert both.startswith(client_only)
    assert "hand 1 (by hand, 16x16 grid, r-rle)" in both
