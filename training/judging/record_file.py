"""The file of records: JSON lines that survive an interruption, and are refused by another run."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from text4seg.errors import InvalidInputError
from training.judging.record import Record, record_from_json, record_to_json

FORMAT = "text4seg-evaluation/1"

TRANSIENT = frozenset({"OVERLOADED", "SERVICE_UNAVAILABLE", "MODEL_LOADING", "PEER_UNAVAILABLE"})
"""Reasons of failures that say nothing about the sample: the next run asks again."""


class JudgingError(Exception):
    """The evaluation cannot go on; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class Records(Iterable[Record]):
    """The records of a file: the last one of each question, in the file's order. Can be read repeatedly.

    Attributes:
        path: The file.
    """

    path: Path

    def header(self) -> dict[str, Any]:
        """Return what the run was: its settings, and the versions that it met.

        Raises:
            JudgingError: there is no such file, or it begins otherwise.
        """
        try:
            with self.path.open(encoding="utf-8") as file:
                value = json.loads(file.readline())
        except FileNotFoundError as error:
            raise JudgingError(f"{self.path} does not exist: there is no run to read") from error
        except ValueError as error:
            raise JudgingError(f"{self.path}:1: is not the beginning of an evaluation: {error}") from error
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise JudgingError(f"{self.path}:1: is not the beginning of an evaluation ({FORMAT})")
        return value

    def __iter__(self) -> Iterator[Record]:
        """Yield records.

        Raises:
            JudgingError: a line is damaged; the message names it.
        """
        last: dict[tuple[str, str, str, str], int] = {}
        for number, record in self._lines():
            last[record.key] = number
        for number, record in self._lines():
            if last[record.key] == number:
                yield record

    def _lines(self) -> Iterator[tuple[int, Record]]:
        self.header()
        with self.path.open("rb") as file:
            file.readline()
            for number, line in enumerate(file, start=2):
                if not line.endswith(b"\n"):
                    return  # written when the run was interrupted
                try:
                    yield number, record_from_json(json.loads(line))
                except (KeyError, TypeError, ValueError, InvalidInputError) as error:
                    raise JudgingError(f"{self.path}:{number}: not a record: {error!r}") from error


class RecordWriter:
    """Appends records to a file, and knows which questions it answers already.

    Use it in ``with``: it holds the file locked, so that two runs cannot mix.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        """Open a new file, or one that a run with the same header left.

        Raises:
            JudgingError: the file is of another run, damaged, or in use.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a+b")
        try:
            self._lock()
            self._end_whole_lines()
            wanted = {"format": FORMAT, **header}
            if path.stat().st_size == 0:
                self._append(wanted)
            self._check(wanted)
            self._reasons = {record.key: record.failure and record.failure.reason for record in Records(path)}
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file, and let others have it."""
        self._file.close()

    def is_done(self, key: tuple[str, str, str, str], *, retry_failed: bool = False) -> bool:
        """Tell whether a question needs not be asked again.

        Answered ones need not; nor do failed ones, unless the service was in trouble, or `retry_failed`.
        """
        if key not in self._reasons:
            return False
        reason = self._reasons[key]
        return reason is None or not (retry_failed or reason in TRANSIENT)

    def add(self, record: Record) -> None:
        """Append a record, at once and whole."""
        self._append(record_to_json(record))
        self._reasons[record.key] = record.failure and record.failure.reason

    def _append(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JudgingError(f"{self.path} is in use by another evaluation") from error

    def _end_whole_lines(self) -> None:
        """Cut off a line that an interrupted run began."""
        with self.path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            while end:
                begin = max(0, end - 65536)
                file.seek(begin)
                at = file.read(end - begin).rfind(b"\n")
                if at >= 0:
                    self._file.truncate(begin + at + 1)
                    return
                end = begin
        self._file.truncate(0)

    def _check(self, wanted: dict[str, Any]) -> None:
        there = Records(self.path).header()
        for key in sorted({*there, *wanted}):
            if there.get(key) != wanted.get(key):
                raise JudgingError(
                    f"{self.path} holds another run: its {key} is {json.dumps(there.get(key))}, not "
                    f"{json.dumps(wanted.get(key))}. Choose another --out, or remove it"
                )
