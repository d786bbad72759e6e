"""Long output in files of bounded length: a run that was killed goes on after its last whole file.

A shard holds what came of a fixed number of samples, however many rows that was, so that where the next shard
begins is known without reading any. It is written under another name, moved into place, and then entered in
the manifest; a run that goes on believes the manifest, and writes anything later again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

MANIFEST = "manifest.json"
EXAMPLES = 3

Item = TypeVar("Item")


class ShardError(ValueError):
    """A folder cannot take the output of this run."""


@dataclass(slots=True)
class Tally:
    """What was counted while a shard was written.

    Attributes:
        counts: How many of what.
        skipped: How many items were left out for each reason.
        examples: Some of their names, for each reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, name: str, reason: str) -> None:
        """Count an item that is left out."""
        self.skipped[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < EXAMPLES and name not in named:
            named.append(name)

    def add(self, other: Tally) -> None:
        """Count what another tally counted."""
        self.counts.update(other.counts)
        self.skipped.update(other.skipped)
        for reason, names in other.examples.items():
            kept = self.examples.setdefault(reason, [])
            kept.extend(names[: EXAMPLES - len(kept)])

    def to_json(self) -> dict[str, Any]:
        """Return the tally as JSON values, in a stable order."""
        return {
            "counts": dict(sorted(self.counts.items())),
            "skipped": {
                reason: {"count": count, "examples": self.examples.get(reason, [])}
                for reason, count in sorted(self.skipped.items())
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """Return the tally that `to_json` described."""
        skipped = value["skipped"]
        return cls(
            Counter(value["counts"]),
            Counter({reason: entry["count"] for reason, entry in skipped.items()}),
            {reason: list(entry["examples"]) for reason, entry in skipped.items()},
        )


@dataclass(frozen=True, slots=True)
class Shard:
    """A whole file.

    Attributes:
        file: Its name.
        samples: Samples that went into it, or were left out.
        rows: Lines.
        sha256: Of its bytes, in hexadecimal digits.
        tally: What was counted.
    """

    file: str
    samples: int
    rows: int
    sha256: str
    tally: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder holds.

    Attributes:
        settings: What decides about the output, as JSON values.
        shards: The whole files, in order.
        complete: Whether that is all.
    """

    settings: dict[str, Any]
    shards: tuple[Shard, ...] = ()
    complete: bool = False

    @property
    def samples(self) -> int:
        """Samples in all whole shards."""
        return sum(shard.samples for shard in self.shards)

    @property
    def rows(self) -> int:
        """Lines in all whole shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def tally(self) -> Tally:
        """What was counted in all whole shards."""
        total = Tally()
        for shard in self.shards:
            total.add(Tally.from_json(shard.tally))
        return total

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values, with the sums first."""
        return {
            "complete": self.complete,
            "samples": self.samples,
            "rows": self.rows,
            **self.tally.to_json(),
            "settings": self.settings,
            "shards": [asdict(shard) for shard in self.shards],
        }


def resume(out: Path, settings: Mapping[str, Any]) -> Manifest:
    """Return what of a run with these settings is already in a folder, up to the first damaged shard.

    Raises:
        ShardError: the folder holds something else: the output of other settings, or files without a
            manifest.
    """
    wanted = json.loads(json.dumps(settings))
    file = out / MANIFEST
    if not file.is_file():
        if out.is_dir() and any(out.glob("*.jsonl")):
            raise ShardError(f"{out} holds files of something else: choose another folder")
        return Manifest(wanted)
    try:
        value = json.loads(file.read_bytes())
        found = Manifest(
            value["settings"], tuple(Shard(**shard) for shard in value["shards"]), value["complete"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{file} is no manifest: {error}") from error
    if found.settings != wanted:
        differing = sorted(
            key for key in wanted.keys() | found.settings.keys() if wanted.get(key) != found.settings.get(key)
        )
        raise ShardError(
            f"{out} was made with other settings ({', '.join(differing)}): choose another folder"
        )
    whole = 0
    for shard in found.shards:
        path = out / shard.file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != shard.sha256:
            break
        whole += 1
    if whole == len(found.shards):
        return found
    return Manifest(wanted, found.shards[:whole])


def write_shards(
    items: Iterator[Item],
    rows_of: Callable[[Item, str, Tally], Iterable[str]],
    out: Path,
    start: Manifest,
    *,
    shard_size: int,
    tally: Callable[[Tally], None],
    on_item: Callable[[], None] = lambda: None,
) -> Manifest:
    """Write items as lines, from where an earlier run stopped; one item is held at a time.

    Args:
        items: All of them, from the first, in the same order in every run.
        rows_of: Turns an item into lines without their newline, given the shard's name, and counts.
        out: The folder; it is made.
        start: What is there already, from `resume`.
        shard_size: Items in a shard.
        tally: Told which tally to count in from now on, for what `items` leaves out by itself.
        on_item: Called after each item.

    Returns:
        The manifest of the whole output, which is then also on disk.
    """
    if start.complete:
        return start
    out.mkdir(parents=True, exist_ok=True)
    _save(out, start)  # first of all, so that whatever is found later is known to be of this run
    tally(Tally())  # what was left out on the way here is counted in the shards that are there
    for _ in islice(items, start.samples):
        on_item()
    manifest = start
    while True:
        current = Tally()
        tally(current)
        shard = _write(items, rows_of, out, f"shard-{len(manifest.shards):05d}", shard_size, current, on_item)
        if shard.samples:
            shards = (*manifest.shards, shard)
        else:
            # Whatever was left out behind the last item belongs to the last shard.
            shards = _with_last(manifest.shards, current)
            (out / shard.file).unlink()
        manifest = Manifest(manifest.settings, shards, complete=shard.samples < shard_size)
        _save(out, manifest)
        if manifest.complete:
            return manifest


def _write(
    items: Iterator[Item],
    rows_of: Callable[[Item, str, Tally], Iterable[str]],
    out: Path,
    name: str,
    size: int,
    tally: Tally,
    on_item: Callable[[], None],
) -> Shard:
    samples = rows = 0
    digest = hashlib.sha256()
    part = out / f"{name}.part"
    with part.open("wb") as file:
        for item in islice(items, size):
            for row in rows_of(item, name, tally):
                line = row.encode() + b"\n"
                file.write(line)
                digest.update(line)
                rows += 1
            samples += 1
            on_item()
        file.flush()
        os.fsync(file.fileno())
    part.replace(out / f"{name}.jsonl")
    return Shard(f"{name}.jsonl", samples, rows, digest.hexdigest(), tally.to_json())


def _with_last(shards: tuple[Shard, ...], tally: Tally) -> tuple[Shard, ...]:
    if not shards or not (tally.skipped or tally.counts):
        return shards
    last = shards[-1]
    both = Tally.from_json(last.tally)
    both.add(tally)
    return (*shards[:-1], Shard(last.file, last.samples, last.rows, last.sha256, both.to_json()))


def _save(out: Path, manifest: Manifest) -> None:
    part = out / f"{MANIFEST}.part"
    part.write_text(json.dumps(manifest.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(out / MANIFEST)
