"""Samples survive the way to a file and back; a damaged line is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from text4seg.masks import Box, encode_rle
from training.datasets.sample import Message, Sample, Task, read_samples, write_samples


def samples() -> list[Sample]:
    mask = np.zeros((6, 9), bool)
    mask[2:4, 1:5] = True
    void = ~mask
    referring = Sample(
        "1",
        "refcoco",
        "val",
        Path("a.jpg"),
        Task.REFERRING,
        ("the cat",),
        (encode_rle(mask),),
        box=Box(1, 2, 5, 4),
    )
    semantic = Sample(
        "2",
        "voc",
        "val",
        Path("b.jpg"),
        Task.SEMANTIC,
        ("cat",),
        (encode_rle(mask),),
        encode_rle(void),
        ("cat", "dog"),
    )
    turns = (Message("user", "What is it?"), Message("assistant", "Ein Kätzchen."))
    return [referring, semantic, Sample("3", "vqa", "train", Path("c.jpg"), Task.DIALOGUE, messages=turns)]


def test_samples_come_back_from_a_file(tmp_path: Path) -> None:
    assert write_samples(samples(), tmp_path / "s.jsonl") == 3
    again = list(read_samples(tmp_path / "s.jsonl"))
    assert again == samples()
    assert again[0].mask().sum() == 8


@pytest.mark.parametrize("damage", ["{", "[]", '{"id": "1"}'])
def test_a_damaged_line_is_named(tmp_path: Path, damage: str) -> None:
    write_samples(samples()[:1], tmp_path / "s.jsonl")
    with (tmp_path / "s.jsonl").open("a") as file:
        file.write(damage + "\n")
    with pytest.raises(ValueError, match=r"s\.jsonl:2: not a sample"):
        list(read_samples(tmp_path / "s.jsonl"))


def test_a_damaged_mask_is_named(tmp_path: Path) -> None:
    write_samples(samples()[:1], tmp_path / "s.jsonl")
    value = json.loads((tmp_path / "s.jsonl").read_text())
    value["masks"][0]["size"] = "large"
    (tmp_path / "s.jsonl").write_text(json.dumps(value) + "\n")
    with pytest.raises(ValueError, match=r"s\.jsonl:1"):
        list(read_samples(tmp_path / "s.jsonl"))
