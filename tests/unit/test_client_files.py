"""Which files an argument means, and where results go."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from text4seg_client.files import ImageSet, find_images, output_paths, write_json, write_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "more/c.webp", ".git/d.png", "more/a.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "photos"


def _names(images: ImageSet, root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in images.paths]


def test_a_file_is_itself(folder: Path) -> None:
    images = find_images(str(folder / "notes.txt"))
    assert images == ImageSet((folder / "notes.txt",), folder, several=False)


def test_a_folder_means_the_images_in_it_and_below(folder: Path) -> None:
    images = find_images(str(folder))
    assert _names(images, folder) == ["a.png", "b.JPG", "more/a.png", "more/c.webp"]
    assert images.several


def test_a_pattern_means_every_file_that_matches(folder: Path) -> None:
    assert _names(find_images(f"{folder}/*"), folder) == ["a.png", "b.JPG", "notes.txt"]
    assert _names(find_images(f"{folder}/**/a.png"), folder) == ["a.png", "more/a.png"]
    assert find_images(f"{folder}/b.*").several


def test_a_file_whose_name_looks_like_a_pattern(folder: Path) -> None:
    odd = folder / "odd[1].png"
    odd.write_bytes(b"x")
    assert find_images(str(odd)).paths == (odd,)


def test_results_of_an_earlier_run_are_no_input(folder: Path) -> None:
    assert _names(find_images(str(folder), exclude=folder / "more"), folder) == ["a.png", "b.JPG"]


@pytest.mark.parametrize("argument", ["none.png", "none/*.png", "empty"])
def test_nothing_there_is_said(tmp_path: Path, argument: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"none|empty"):
        find_images(str(tmp_path / argument))


def test_results_keep_folders_and_never_share_a_name(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "b.jpg", "more/b.jpg", "c.tar.png"]
    images = ImageSet(tuple(tmp_path / name for name in names), tmp_path, several=True)
    outputs = output_paths(images, Path("out"))
    assert [str(path) for path in outputs] == ["out/a.jpg", "out/a.png", "out/b", "out/more/b", "out/c.tar"]


def test_names_that_would_meet_after_all_are_kept_apart(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "a.jpg.png"]
    images = ImageSet(tuple(tmp_path / name for name in names), tmp_path, several=True)
    assert len(set(output_paths(images, Path("out")))) == 3


def test_files_are_written_with_their_folders(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    write_picture(tmp_path / "x" / "y" / "a.png", pixels)
    write_json(tmp_path / "x" / "a.json", {"label": "Käse"})
    with Image.open(tmp_path / "x" / "y" / "a.png") as written:
        assert np.array_equal(np.asarray(written), pixels)
    assert json.loads((tmp_path / "x" / "a.json").read_text(encoding="utf-8")) == {"label": "Käse"}
    assert sorted(path.name for path in (tmp_path / "x").rglob("*")) == ["a.json", "a.png", "y"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
