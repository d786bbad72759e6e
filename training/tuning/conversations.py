"""Instruction data on disk: JSON lines, checked once and then read by line, never all in memory.

Two forms are read, line by line and mixed if need be: that of ms-swift,
``{"messages": [{"role": "user", "content": "<image>..."}, {"role": "assistant", ...}], "images": [path]}``,
and that of LLaVA, ``{"image": path, "conversations": [{"from": "human", "value": "<image>\\n..."}, ...]}``.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from text4seg.descriptors import Codec, decode_strict
from text4seg.dialogue import find_blocks
from text4seg.errors import DescriptorMalformedError
from text4seg.segmentation import Turn
from training.tuning.recipe import TuningError

IMAGE_MARK = "<image>"
_ROLES: dict[str, Literal["user", "assistant"]] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_CHECKED_RECORDS = 64
"""How many of each file have their descriptors compared with the recipe's grid and codec."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One example.

    Attributes:
        source: file and line, for messages.
        image: the image file.
        turns: question, answer and so on; an answer comes last.
        learned: whether only the last answer is learned, or all of them.
    """

    source: str
    image: Path
    turns: tuple[Turn, ...]
    learned: Literal["last", "all"]


@dataclass(frozen=True, slots=True)
class Writing:
    """What is expected of the texts.

    Attributes:
        grid: (rows, columns) of descriptors.
        codec: of descriptors.
        control_tokens: texts that mean something to the model and may not be in a turn.
    """

    grid: tuple[int, int]
    codec: Codec
    control_tokens: tuple[str, ...] = ()


class Conversations:
    """The examples in some files, in their order; only their places are in memory.

    Args:
        paths: files of JSON lines, or folders with such files (``*.jsonl``).
        answers: see :class:`~training.tuning.recipe.Recipe`.
        writing: what is expected of the texts.
        images: folder that image paths start from; None: that of the file that names them.

    Raises:
        TuningError: when a file is missing or there is no example, or a record is damaged, names no image
            that is there, lacks an answer, or was written for another grid or codec. It names file and line.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        answers: Literal["together", "apart"],
        writing: Writing,
        images: Path | None = None,
    ) -> None:
        self.files = _files(paths)
        self._images = images
        self._apart = answers == "apart"
        self._file, self._line = array("i"), array("q")
        self._offset, self._turns = array("q"), array("i")
        seen: set[Path] = set()
        for number, file in enumerate(self.files):
            for count, (line, offset, text) in enumerate(_lines(file)):
                conversation = self._read(number, line, text, 0)
                _check_texts(conversation, writing, count < _CHECKED_RECORDS)
                if conversation.image not in seen and not conversation.image.is_file():
                    raise TuningError(f"{conversation.source}: no image {conversation.image}")
                seen.add(conversation.image)
                ends = [end for end, turn in enumerate(conversation.turns, 1) if turn.role == "assistant"]
                for end in ends if self._apart else ends[-1:]:
                    self._file.append(number)
                    self._line.append(line)
                    self._offset.append(offset)
                    self._turns.append(end)
        if not self._offset:
            raise TuningError(f"no examples in {', '.join(map(str, paths))}")

    def __len__(self) -> int:
        return len(self._offset)

    def __getitem__(self, index: int) -> Conversation:
        number = self._file[index]
        with self.files[number].open("rb") as file:
            file.seek(self._offset[index])
            return self._read(number, self._line[index], file.readline(), self._turns[index])

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the files' names, sizes and numbers of examples."""
        digest = hashlib.sha256(f"{len(self)} {self._apart}".encode())
        for file in self.files:
            digest.update(f"{file.name} {file.stat().st_size}".encode())
        return digest.hexdigest()[:16]

    def _read(self, number: int, line: int, text: bytes, turns: int) -> Conversation:
        file = self.files[number]
        source = f"{file}:{line}"
        image, all_turns = parse_record(text, source)
        return Conversation(
            source=source,
            image=(self._images or file.parent) / image,
            turns=all_turns[:turns] if turns else all_turns,
            learned="last" if self._apart else "all",
        )


def parse_record(text: bytes, source: str) -> tuple[str, tuple[Turn, ...]]:
    """Return the image path and the turns of one line, without the mark of the image in the first.

    Raises:
        TuningError: the line is in neither form, does not hold exactly one image, or has no question with an
            answer; the message begins with ``source``.
    """
    try:
        record = json.loads(text)
    except ValueError as error:
        raise TuningError(f"{source}: is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise TuningError(f"{source}: is no JSON object; one record per line is wanted")
    raw = record.get("messages", record.get("conversations"))
    if not isinstance(raw, list):
        raise TuningError(f'{source}: has neither "messages" nor "conversations"')
    turns = tuple(_turn(item, source) for item in raw)
    if not any(turn.role == "assistant" for turn in turns):
        raise TuningError(f"{source}: has no answer (a turn of the assistant)")
    expected = ("user", "assistant")
    if any(turn.role != expected[place % 2] for place, turn in enumerate(turns)):
        raise TuningError(f"{source}: questions and answers do not alternate, beginning with a question")
    images = record.get("images", [record["image"]] if record.get("image") else [])
    if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], str):
        raise TuningError(f"{source}: must have one image, as a path")
    if turns[0].text.count(IMAGE_MARK) != 1 or any(IMAGE_MARK in turn.text for turn in turns[1:]):
        raise TuningError(f"{source}: {IMAGE_MARK} must stand once in the first question, and nowhere else")
    first = Turn("user", turns[0].text.replace(IMAGE_MARK, "").strip())
    if any(not turn.text.strip() for turn in turns if turn.role == "assistant"):
        raise TuningError(f"{source}: an answer is empty")
    last = len(turns) - len(turns) % 2
    return images[0], (first, *turns[1:last])


def _turn(item: Any, source: str) -> Turn:
    pair = item if isinstance(item, dict) else {}
    role, text = pair.get("role", pair.get("from")), pair.get("content", pair.get("value"))
    if role not in _ROLES or not isinstance(text, str):
        raise TuningError(f"{source}: {json.dumps(item)[:80]} is no turn of the user or the assistant")
    return Turn(_ROLES[role], text)


def _check_texts(conversation: Conversation, writing: Writing, blocks: bool) -> None:
    for turn in conversation.turns:
        for token in writing.control_tokens:
            if token in turn.text:
                raise TuningError(f"{conversation.source}: holds the model's control text {token!r}")
        for block in find_blocks(turn.text) if blocks and turn.role == "assistant" else ():
            try:
                decode_strict(block.text, writing.grid, codec=writing.codec)
            except DescriptorMalformedError as error:
                rows, columns = writing.grid
                raise TuningError(
                    f"{conversation.source}: its mask is not what the recipe says, {rows}x{columns} in "
                    f"{writing.codec}: {error}"
                ) from error


def _files(paths: Sequence[Path]) -> tuple[Path, ...]:
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not found:
            raise TuningError(f"no *.jsonl in {path}")
        files += found
    for file in files:
        if not file.is_file():
            raise TuningError(f"no file {file}")
    return tuple(files)


def _lines(file: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield number from 1, offset in bytes, and content of the lines that are not empty."""
    offset = 0
    with file.open("rb") as stream:
        for number, text in enumerate(stream, 1):
            if text.strip():
                yield number, offset, text
            offset += len(text)
