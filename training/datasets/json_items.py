"""Long JSON files, item by item: memory for one item at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from training.datasets.layout import DatasetError

TOP = ""
"""The key under which the items of a file that is one array are found."""

_CHUNK = 1 << 20
_BLANK = " \t\n\r"
_AFTER = frozenset(",:]}" + _BLANK)


@dataclass(frozen=True, slots=True)
class Item:
    """An item of an array.

    Attributes:
        key: The array's key in the top-level object, or `TOP`.
        value: The decoded item.
        begin: Offset of its first byte in the file.
        end: Offset behind its last byte.
    """

    key: str
    value: Any
    begin: int
    end: int


def read_items(path: Path, keys: Collection[str]) -> Iterator[Item]:
    """Yield the items of the arrays under some keys of a JSON object, or of the array that the file is.

    Anything else in the file is read and forgotten. The file is UTF-8.

    Args:
        path: The file.
        keys: Keys of the top-level object; for a file that is an array its items come under `TOP`, and
            `keys` must hold it.

    Raises:
        DatasetError: the file is not JSON, with the offset where it breaks; or it has none of the keys.
    """
    with path.open("rb") as file:
        reader = _Reader(path, file)
        first = reader.peek()
        found: set[str] = set()
        if first == "[":
            found.add(TOP)
            yield from reader.array(TOP, wanted=TOP in keys)
        elif first == "{":
            yield from reader.members(keys, found)
        else:
            raise reader.broken("expected an object or an array")
        if reader.peek():
            raise reader.broken("something stands behind the end")
    if not found & set(keys):
        wanted = " or ".join("a top-level array" if key == TOP else repr(key) for key in sorted(keys))
        raise DatasetError(f"{path} holds no list under {wanted}")


def read_item(path: Path, begin: int, end: int) -> Any:
    """Decode one item again from its place, as `read_items` reported it."""
    with path.open("rb") as file:
        file.seek(begin)
        return json.loads(file.read(end - begin))


def read_json(path: Path) -> Any:
    """Decode a whole small file.

    Raises:
        DatasetError: the file is not JSON, with the place where it breaks.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise DatasetError(f"{path} is broken JSON: {error}") from error


class _Reader:
    """A window on the file. Bytes stand in it as characters of the same number, so that places are bytes."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._window = ""
        self._start = 0
        self._at = 0
        self._ended = False
        self._decoder = json.JSONDecoder()
        self._more(_CHUNK)
        if self._window.startswith("\xef\xbb\xbf"):
            self._at = 3

    def broken(self, why: str) -> DatasetError:
        return DatasetError(f"{self._path} is broken JSON at byte {self._start + self._at}: {why}")

    def peek(self) -> str:
        """Return the next visible character, or nothing at the end of the file."""
        while True:
            while self._at < len(self._window):
                if self._window[self._at] not in _BLANK:
                    return self._window[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._more(_CHUNK)

    def _take(self, wanted: str) -> None:
        if self.peek() != wanted:
            raise self.broken(f"expected {wanted!r}")
        self._at += 1

    def _more(self, count: int) -> None:
        data = self._file.read(count)
        self._ended = len(data) < count
        self._start += self._at
        self._window = self._window[self._at :] + data.decode("latin-1")
        self._at = 0

    def value(self) -> Any:
        """Decode the next value."""
        if not self.peek():
            raise self.broken("it ends too early")
        while True:
            try:
                value, end = self._decoder.raw_decode(self._window, self._at)
            except json.JSONDecodeError as error:
                if self._ended:
                    raise self.broken(error.msg) from error
            else:
                # At the window's edge a number may go on, and "1e+" is read as 1 before "e+".
                if self._ended or self._window[end : end + 1] in _AFTER or len(self._window) - end > 2:
                    text = self._window[self._at : end]
                    if not text.isascii():
                        try:
                            value = json.loads(text.encode("latin-1"))
                        except ValueError as error:
                            raise self.broken(f"not UTF-8: {error}") from error
                    self._at = end
                    return value
            self._more(max(_CHUNK, len(self._window) - self._at))

    def array(self, key: str, *, wanted: bool) -> Iterator[Item]:
        self._take("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            self.peek()
            begin = self._start + self._at
            value = self.value()
            if wanted:
                yield Item(key, value, begin, self._start + self._at)
            if self.peek() == "]":
                self._at += 1
                return
            self._take(",")

    def members(self, keys: Collection[str], found: set[str]) -> Iterator[Item]:
        self._take("{")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            if self.peek() != '"':
                raise self.broken("expected a key")
            key = self.value()
            self._take(":")
            if self.peek() == "[":
                if key in keys:
                    found.add(key)
                yield from self.array(key, wanted=key in keys)
            else:
                self.value()
            if self.peek() == "}":
                self._at += 1
                return
            self._take(",")
