"""Every data set by name: what it asks, its splits, and how it is opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from training.datasets import (
    ade20k,
    coco_stuff,
    dialogue,
    grefcoco,
    label_studio,
    own,
    pascal_context,
    pascal_voc,
    refer,
)
from training.datasets.layout import DatasetError, OnSkip
from training.datasets.sample import Sample, Task

Builder = Callable[[Path, str, OnSkip], Iterator[Sample]]
"""Opens a split under a root folder. What is missing is told at once; samples are read one by one."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set.

    Attributes:
        name: What it is called on the command line.
        task: What its samples ask.
        splits: Its splits.
        build: Opens it.
        page: The public page that it comes from; empty for your own.
    """

    name: str
    task: Task
    splits: tuple[str, ...]
    build: Builder
    page: str = ""


_ALL = (
    *(
        Dataset(data.name, Task.REFERRING, data.splits, partial(refer.open_refer, data), refer.REFER_PAGE)
        for data in refer.REFER_SETS
    ),
    Dataset(grefcoco.NAME, Task.REFERRING, grefcoco.SPLITS, grefcoco.open_grefcoco, grefcoco.PAGE),
    Dataset(coco_stuff.NAME, Task.SEMANTIC, coco_stuff.SPLITS, coco_stuff.open_coco_stuff, coco_stuff.PAGE),
    Dataset(ade20k.NAME, Task.SEMANTIC, ade20k.SPLITS, ade20k.open_ade20k, ade20k.PAGE),
    Dataset(
        pascal_context.NAME,
        Task.SEMANTIC,
        pascal_context.SPLITS,
        pascal_context.open_pascal_context,
        pascal_context.MAPS_PAGE,
    ),
    Dataset(pascal_voc.NAME, Task.SEMANTIC, pascal_voc.SPLITS, pascal_voc.open_pascal_voc, pascal_voc.PAGE),
    Dataset(dialogue.NAME, Task.DIALOGUE, dialogue.SPLITS, dialogue.open_dialogue, dialogue.PAGE),
    Dataset(own.COCO, Task.REFERRING, own.SPLITS, own.open_coco),
    Dataset(own.COCO_ABSENT, Task.REFERRING, own.SPLITS, own.open_coco_absent),
    Dataset(own.COCO_SEMANTIC, Task.SEMANTIC, own.SPLITS, own.open_coco_semantic),
    Dataset(own.FOLDER, Task.REFERRING, own.SPLITS, own.open_folder),
    Dataset(label_studio.NAME, Task.REFERRING, label_studio.SPLITS, label_studio.open_label_studio),
)

DATASETS: Mapping[str, Dataset] = MappingProxyType({dataset.name: dataset for dataset in _ALL})
"""All data sets by name."""


def open_dataset(name: str, root: Path, split: str, on_skip: OnSkip | None = None) -> Iterator[Sample]:
    """Open a split of a data set. Samples are read one by one, in the same order in every run.

    Args:
        name: A key of `DATASETS`.
        root: Where it lies on disk; each data set's module says in which layout.
        split: One of its splits.
        on_skip: Told the id of what is left out on the way, and why; without, that is logged as a warning.

    Raises:
        DatasetError: unknown name or split; files or folders that are missing (`MissingDataError`, which
            names each), or an annotation file that is broken. What is wrong with a single sample is
            raised when it is reached.
    """
    if name not in DATASETS:
        raise DatasetError(f"there is no data set {name!r}: choose from {', '.join(DATASETS)}")
    dataset = DATASETS[name]
    if split not in dataset.splits:
        raise DatasetError(f"{name} has no split {split!r}: choose from {', '.join(dataset.splits)}")
    return dataset.build(root, split, on_skip or _log_skip)


def _log_skip(name: str, reason: str) -> None:
    logging.getLogger(__name__).warning("%s is left out: %s", name, reason)
