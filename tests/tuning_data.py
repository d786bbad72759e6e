"""A tiny data set to fine-tune on: is the box on the left or on the right?"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.tiny_backbones import TINY, Tiny
from text4seg.descriptors import LabelGrid, encode
from text4seg.dialogue import answer_text, referring_answer, referring_question

PHRASE = "box"
QUESTION = referring_question(PHRASE)
TINY_BY_NAME: dict[str, Tiny] = {tiny.backbone: tiny for tiny in TINY}

Record = dict[str, Any]


def truth(side: int, shape: tuple[int, int] = (4, 4)) -> str:
    """The answer for a box in the left half (0) or in the right half (1)."""
    mask = np.zeros(shape, dtype=np.bool_)
    half = shape[1] // 2
    mask[:, half * side : half * (side + 1)] = True
    return answer_text(referring_answer(PHRASE), encode(LabelGrid.from_mask(mask, PHRASE)))


def write_image(path: Path, side: int, seed: int = 0) -> Path:
    """A picture of 48x64 pixels, red on one side."""
    pixels = np.random.default_rng(seed).integers(0, 20, (48, 64, 3), dtype=np.uint8)
    pixels[:, 32 * side : 32 * (side + 1)] += np.array([230, 40, 20], np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def swift(image: str, *texts: str) -> Record:
    """A record in the form of ms-swift: a question, an answer, and so on."""
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    messages[0]["content"] = f"<image>{messages[0]['content']}"
    return {"messages": messages, "images": [image]}


def llava(image: str, *texts: str) -> Record:
    """The same in the form of LLaVA."""
    roles = ("human", "gpt")
    turns = [{"from": roles[place % 2], "value": text} for place, text in enumerate(texts)]
    turns[0]["value"] = f"<image>\n{turns[0]['value']}"
    return {"id": image, "image": image, "conversations": turns}


def write_lines(path: Path, *records: Record) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_data(
    folder: Path,
    count: int = 4,
    shape: tuple[int, int] = (4, 4),
    form: Callable[..., Record] = swift,
) -> Path:
    """Images ``0.png`` and so on, the box on the left in the even ones, and a file that asks for it."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(count):
        write_image(folder / f"{number}.png", number % 2, number)
        records.append(form(f"{number}.png", QUESTION, truth(number % 2, shape)))
    return write_lines(folder / "train.jsonl", *records)
