"""Segment or detect in one image or many: answers to stdout, files to disk, trouble to stderr."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from text4seg.errors import Text4SegError
from text4seg.segmentation import (
    CacheMode,
    DetectAnswer,
    LabelQuery,
    MaskFormat,
    PhraseQuery,
    Query,
    RefineMode,
    SegmentAnswer,
    SegmentOptions,
)
from text4seg_client.client import Client
from text4seg_client.files import ImageSet, find_images, output_paths, write_json, write_picture
from text4seg_client.images import read_pixels
from text4seg_client.overlay import Mark, draw_overlay
from text4seg_client.report import answer_json, answer_table
from text4seg_client.retry import is_unreachable


@dataclass(frozen=True, slots=True)
class Batch:
    """What was asked for on the command line; ``image`` and ``output`` as typed."""

    command: Literal["segment", "detect"]
    image: str
    query: Query
    refine: RefineMode
    min_score: float
    split: bool
    cache: CacheMode
    seed: int
    json: bool
    output: str | None
    progress: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether anything was found in any image, and whether any image failed."""

    found: bool
    failed: bool


@dataclass(frozen=True, slots=True)
class _Job:
    image: Path
    picture: Path | None
    data: Path | None


def run_batch(batch: Batch, client: Client, explain: Callable[[Text4SegError], str]) -> Outcome:
    """Work through the images one by one; one that fails is reported on stderr and the rest go on.

    Only a server that cannot be reached ends the run early: it would fail every other image as well.

    Args:
        batch: what to do.
        client: connected to the server.
        explain: text of an error for a person.

    Raises:
        ValueError: the output cannot be where it was asked for.
        FileNotFoundError: there is no image to work on.
        ServiceUnavailableError: nobody answers at the address.
    """
    output = Path(batch.output).expanduser() if batch.output else None
    images = find_images(batch.image, exclude=output)
    jobs = _jobs(images, output, folder=bool(batch.output) and str(batch.output).endswith(("/", "\\")))
    found = failed = False
    several = images.several
    progress = tqdm(jobs, unit="image", file=sys.stderr, disable=not (several and batch.progress), leave=True)
    for job in progress:
        try:
            answer = _ask(batch, client, job.image)
            _write_files(batch, job, answer)
        except Text4SegError as error:
            if is_unreachable(error):
                progress.close()
                raise
            failed = True
            _say(f"text4seg: {job.image}: {explain(error)}", sys.stderr)
        except OSError as error:
            failed = True
            _say(f"text4seg: {job.image}: {error.strerror or error}", sys.stderr)
        else:
            found = found or bool(marks_of(answer))
            for warning in answer.warnings:
                _say(f"text4seg: {job.image}: warning: {warning.message}", sys.stderr)
            write = _json_line if batch.json else answer_table
            _say(write(str(job.image), answer), sys.stdout)
    return Outcome(found, failed)


def _jobs(images: ImageSet, output: Path | None, *, folder: bool) -> list[_Job]:
    if output is None:
        return [_Job(path, None, None) for path in images.paths]
    if images.several or folder or output.is_dir():
        if output.exists() and not output.is_dir():
            raise ValueError(f"-o {output}: several images need a folder")
        jobs = [
            _Job(path, stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.json"))
            for path, stem in zip(images.paths, output_paths(images, output), strict=True)
        ]
    else:
        if output.suffix.lower() not in Image.registered_extensions():
            raise ValueError(f"-o {output}: the suffix must name a picture format, such as .png")
        jobs = [_Job(path, output, None) for path in images.paths]
    inputs = {path.resolve() for path in images.paths}
    for job in jobs:
        if job.picture and job.picture.resolve() in inputs:
            raise ValueError(f"-o would overwrite {job.picture}; choose another place for the results")
    return jobs


def _ask(batch: Batch, client: Client, image: Path) -> SegmentAnswer | DetectAnswer:
    options = SegmentOptions(
        refine=batch.refine,
        mask_format=MaskFormat.COCO_RLE,
        min_score=batch.min_score,
        split_instances=batch.split,
        cache=batch.cache,
        seed=batch.seed,
    )
    if batch.command == "segment":
        return client.segment(image, batch.query, options)
    return client.detect(image, batch.query, options)


def _write_files(batch: Batch, job: _Job, answer: SegmentAnswer | DetectAnswer) -> None:
    if job.picture is not None:
        write_picture(job.picture, overlay(read_pixels(job.image), batch.query, answer))
    if job.data is not None:
        write_json(job.data, answer_json(str(job.image), answer))


def _json_line(image: str, answer: SegmentAnswer | DetectAnswer) -> str:
    return json.dumps(answer_json(image, answer), ensure_ascii=False)


def overlay(
    pixels: NDArray[np.uint8], query: Query, answer: SegmentAnswer | DetectAnswer
) -> NDArray[np.uint8]:
    """The picture of an answer: uint8 RGB [height, width, 3], colours in the order of the query."""
    return draw_overlay(pixels, marks_of(answer), labels_of(query))


def labels_of(query: Query) -> tuple[str, ...]:
    """Labels in the order of the query, as answers spell them; none for open vocabulary."""
    match query:
        case PhraseQuery(texts) | LabelQuery(texts):
            return tuple(" ".join(text.lower().split()) for text in texts)
    return ()


def marks_of(answer: SegmentAnswer | DetectAnswer) -> Sequence[Mark]:
    """What an overlay of the answer shows."""
    return answer.regions if isinstance(answer, SegmentAnswer) else answer.detections


def _say(text: str, stream: TextIO) -> None:
    # Past the progress bar, if there is one.
    tqdm.write(text, file=stream)
