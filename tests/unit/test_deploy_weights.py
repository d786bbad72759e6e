"""The Job that fetches weights: what arrives is what was asked for, or nothing."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from deploy.checks.facts import ROOT

SCRIPT = ROOT / "deploy/kubernetes/components/weights/fetch.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Shelf:
    """Files to fetch, a manifest that lists them, and the folder where they go."""

    def __init__(self, root: Path) -> None:
        self.source = root / "source"
        self.source.mkdir()
        self.folder = root / "weights"
        self.manifest = root / "weights.json"

    def offer(self, path: str, content: bytes, sha256: str | None = None) -> None:
        file = self.source / Path(path).name
        file.write_bytes(content)
        entry = {
            "path": path,
            "url": file.as_uri(),
            "sha256": sha256 or hashlib.sha256(content).hexdigest(),
        }
        listed = json.loads(self.manifest.read_text()) if self.manifest.exists() else []
        self.manifest.write_text(json.dumps([*listed, entry]))

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def arguments(self) -> list[str]:
        return [str(self.manifest), str(self.folder)]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_all_are_fetched_once(script: ModuleType, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    shelf.offer("model/a.bin", b"a" * 3_000_000)
    shelf.offer("sam/b.pth", b"b")
    assert script.main(shelf.arguments()) == 0
    assert shelf.files() == {"model/a.bin": b"a" * 3_000_000, "sam/b.pth": b"b"}
    assert script.main(shelf.arguments()) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "model/a.bin: there already",
        "sam/b.pth: there already",
    ]


def test_a_wrong_checksum_leaves_nothing(
    script: ModuleType, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.offer("model/a.bin", b"tampered", sha256="0" * 64)
    assert script.main(shelf.arguments()) == 1
    assert shelf.files() == {}
    assert "SHA-256" in capsys.readouterr().err


def test_a_file_that_changed_is_fetched_anew(script: ModuleType, shelf: Shelf) -> None:
    shelf.offer("a.bin", b"new")
    shelf.folder.mkdir()
    (shelf.folder / "a.bin").write_bytes(b"old")
    assert script.main(shelf.arguments()) == 0
    assert shelf.files() == {"a.bin": b"new"}


def test_a_source_that_is_gone_is_told(
    script: ModuleType, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.offer("a.bin", b"a")
    (shelf.source / "a.bin").unlink()
    assert script.main(shelf.arguments()) == 1
    assert shelf.files() == {}
    assert capsys.readouterr().err.startswith("a.bin: ")


def test_nothing_is_written_outside_of_the_folder(script: ModuleType, shelf: Shelf) -> None:
    shelf.offer("../escaped.bin", b"a")
    assert script.main(shelf.arguments()) == 1
    assert not (shelf.folder.parent / "escaped.bin").exists()
