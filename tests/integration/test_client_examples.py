"""The Python examples of the documents, run in order as a reader would, against the real services."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.certificates import issue
from text4seg.segmentation import SegmentAnswer

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the files that the examples name."""
    noise = np.random.default_rng(2)
    (tmp_path / "photos").mkdir()
    for name in ("cat.jpg", "street.jpg", "photos/a.jpg", "photos/b.jpg"):
        Image.fromarray(noise.integers(0, 256, (60, 90, 3), np.uint8)).save(tmp_path / name)
    authority = issue("authority")
    own = issue("caller", authority)
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "client.pem").write_bytes(own.certificate_pem)
    (tmp_path / "client.key").write_bytes(own.key_pem)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(document: str, address: str) -> dict[str, Any]:
    """Run all blocks of a document in one module, and return what it holds then."""
    text = (ROOT / document).read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    blocks = list(BLOCK.finditer(text))
    assert blocks, f"{document} has no example"
    for block in blocks:
        # Tracebacks name the document and its line.
        source = "\n" * text.count("\n", 0, block.start(1)) + block[1].replace("127.0.0.1:50051", address)
        exec(compile(source, document, "exec"), names)
    return names


def test_the_examples_of_the_client(
    folder: Path, services_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run("clients/python/README.md", services_address)
    printed = capsys.readouterr().out
    assert "SegmentAnswer(regions=[" in printed
    assert "query.phrases.phrases[1]" in printed
    assert "GridRow(descriptor=0, row=0" in printed
    assert isinstance(names["answer"], SegmentAnswer)
    assert names["picture"].shape == (60, 90, 3)
    images = COCO(str(folder / "annotations.json")).loadImgs([1, 2])
    assert [image["file_name"] for image in images] == ["a.jpg", "b.jpg"]


def test_the_examples_of_the_readme(
    folder: Path, services_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("README.md", services_address)
    assert "(60, 90)" in capsys.readouterr().out


def test_the_examples_of_the_api(
    folder: Path, services_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run("docs/api.md", services_address)
    printed = capsys.readouterr().out
    assert "CoarseRegions" in printed
    assert "IMAGE_INVALID" in printed
    assert [turn.role for turn in names["turns"]] == ["user", "assistant", "user"]
    names["client"].close()
