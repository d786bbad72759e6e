"""Questions and answers in words: LLaVA-style instruction files, so that a model does not unlearn to talk.

    ROOT/llava_v1_5_mix665k.json        or ROOT is a JSON or JSON Lines file itself
    ROOT/coco/train2017/...jpg          images, where the file's ``image`` fields say, beside the file

An entry is ``{"image": "coco/train2017/x.jpg", "conversations": [{"from": "human", "value": "<image>\\n..."},
{"from": "gpt", "value": "..."}]}``. Entries without an image, or with several, are left out and counted:
every sample has one image. The mix's ``id`` fields are not unique, so a sample is named by its place in the
file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.datasets.json_items import TOP, read_items
from training.datasets.layout import DatasetError, Needed, OnSkip, require, require_files
from training.datasets.sample import Message, Sample, Task

NAME = "llava"
SPLITS = ("train",)
PAGE = "https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K"
MIX = "llava_v1_5_mix665k.json"
IMAGE_TOKEN = "<image>"

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


def open_dialogue(root: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    """Read an instruction file, one sample for each conversation.

    Raises:
        DatasetError: the file or an image is missing, or an entry is broken.
    """
    file = root / MIX if root.is_dir() else root
    require(NAME, [Needed(file, "conversations", PAGE)])
    folder = file.parent
    named = (entry.get("image") for _, entry in _entries(file))
    require_files(NAME, (folder / name for name in named if isinstance(name, str)), "images", PAGE)
    return _samples(file, folder, split, on_skip)


def _entries(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for index, entry in enumerate(_values(file)):
        if not isinstance(entry, Mapping):
            raise DatasetError(f"{file}: entry {index} is not an object")
        yield index, entry


def _values(file: Path) -> Iterator[Any]:
    if file.suffix != ".jsonl":
        for item in read_items(file, (TOP,)):
            yield item.value
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DatasetError(f"{file}:{number}: broken JSON: {error}") from error


def _samples(file: Path, folder: Path, split: str, on_skip: OnSkip) -> Iterator[Sample]:
    for index, entry in _entries(file):
        name = f"{NAME}-{split}-{index}"
        image = entry.get("image")
        if not image:
            on_skip(name, "a dialogue without an image")
        elif not isinstance(image, str):
            on_skip(name, "a dialogue about several images")
        else:
            yield Sample(
                id=name,
                dataset=NAME,
                split=split,
                image=folder / image,
                task=Task.DIALOGUE,
                messages=_messages(entry, f"{file}: entry {index}"),
            )


def _messages(entry: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    turns = entry.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise DatasetError(f"{where} has no conversations")
    messages = []
    for number, turn in enumerate(turns):
        role = _ROLES.get(str(turn.get("from"))) if isinstance(turn, Mapping) else None
        if role is None or not isinstance(turn.get("value"), str):
            raise DatasetError(f"{where}: turn {number} is not {{from: human or gpt, value: text}}")
        if role != ("user", "assistant")[number % 2]:
            raise DatasetError(f"{where}: turn {number} is not the {('human', 'gpt')[number % 2]}'s")
        messages.append(Message(role, turn["value"].replace(IMAGE_TOKEN, "").strip()))
    if len(messages) % 2:
        raise DatasetError(f"{where} ends with a question")
    return tuple(messages)
