"""Instruction data from data sets: ``python -m training.build_data --dataset NAME --root DIR --out DIR``.

Writes ``shard-00000.jsonl`` and so on, ``manifest.json``, and ``images/`` where images are cropped. Several
data sets come one after the other: give ``--dataset`` several times, and ``--root`` and ``--split`` once or
as often. A run that was killed goes on when the same command is given again, and ends as if it had not been.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from text4seg.descriptors import Codec
from text4seg.dialogue import TEMPLATE_VERSION
from text4seg.errors import InvalidInputError
from training.datasets.layout import DatasetError, OnSkip
from training.datasets.registry import DATASETS, open_dataset
from training.datasets.sample import Sample
from training.instructions import Conversation, SkippedSample, Style, instruct, to_llava, to_swift
from training.preview import contact_sheet
from training.shards import Manifest, ShardError, Tally, resume, write_shards

FORMS = {"ms-swift": to_swift, "llava": to_llava}
PREVIEW = "preview.png"

_POOL = 20
_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Source:
    """A split of a data set.

    Attributes:
        name: The data set's name.
        root: Where it is.
        split: The split.
        limit: Most samples to take; all if None.
    """

    name: str
    root: Path
    split: str
    limit: int | None = None

    def open(self, on_skip: OnSkip) -> Iterator[Sample]:
        """Open the data set; what is missing is told now, samples are read later.

        Raises:
            DatasetError: see `training.datasets.registry.open_dataset`.
        """
        return islice(open_dataset(self.name, self.root, self.split, on_skip), self.limit)


@dataclass(frozen=True, slots=True)
class Output:
    """What is written.

    Attributes:
        folder: Where.
        form: "ms-swift" or "llava".
        copies: How often each sample is asked, each time with other sentences.
        shard_size: Samples in a file.
        image_root: Folder that image paths are relative to; None: paths are absolute.
    """

    folder: Path
    form: str = "ms-swift"
    copies: int = 1
    shard_size: int = 10_000
    image_root: Path | None = None


def build(sources: Sequence[Source], style: Style, output: Output, *, progress: bool = True) -> Manifest:
    """Write instruction data, going on from where an earlier run with the same arguments stopped.

    Raises:
        DatasetError: a data set is not as it should be; whole shards stay, and the same call goes on after
            them once that is mended.
        ShardError: the folder holds something else.
    """
    start = resume(output.folder, _settings(sources, style, output))
    if start.complete:
        return start
    tally = Tally()

    def skip(name: str, reason: str) -> None:
        tally.skip(name, reason)

    def count_in(current: Tally) -> None:
        nonlocal tally
        tally = current

    samples = _chained([source.open(skip) for source in sources])
    form = FORMS[output.form]

    def rows_of(sample: Sample, shard: str, counts: Tally) -> Iterator[str]:
        for conversation in _asked(sample, style, output.copies, counts):
            image = _shown(conversation, output.folder / "images" / shard)
            row = form(conversation, _path(image, output.image_root))
            yield json.dumps(row, ensure_ascii=False)

    with tqdm(unit=" samples", disable=None if progress else True) as bar:

        def advance() -> None:
            bar.update()

        return write_shards(
            samples,
            rows_of,
            output.folder,
            start,
            shard_size=output.shard_size,
            tally=count_in,
            on_item=advance,
        )


def preview(sources: Sequence[Source], style: Style, count: int) -> Image.Image:
    """Draw some samples, chosen by the style's seed among the first of each data set.

    Raises:
        DatasetError: a data set is not as it should be, or there is no sample to draw.
    """
    rng = random.Random(style.seed)
    pairs = []
    for number, source in enumerate(sources):
        wanted = count // len(sources) + (number < count % len(sources))
        pool = list(islice(source.open(lambda name, reason: None), _POOL * wanted))
        drawn = 0
        for sample in rng.sample(pool, len(pool)):
            if drawn == wanted:
                break
            found = list(_asked(sample, style, 1, Tally()))
            pairs += [(sample, conversation) for conversation in found]
            drawn += len(found)
    if not pairs:
        raise DatasetError("there is no sample to draw")
    return contact_sheet(pairs, style)


def _settings(sources: Sequence[Source], style: Style, output: Output) -> dict[str, object]:
    """Return what decides about the output."""
    return {
        "sources": [{**asdict(source), "root": os.path.abspath(source.root)} for source in sources],
        "style": asdict(style),
        "form": output.form,
        "copies": output.copies,
        "shard_size": output.shard_size,
        "image_root": os.path.abspath(output.image_root) if output.image_root else None,
        "template_version": TEMPLATE_VERSION,
    }


def _chained(sources: list[Iterator[Sample]]) -> Iterator[Sample]:
    """Yield the samples of one data set after the other, letting go of each that is done."""
    sources.reverse()
    while sources:
        yield from sources[-1]
        sources.pop()


def _asked(sample: Sample, style: Style, copies: int, counts: Tally) -> Iterator[Conversation]:
    for copy in range(copies):
        try:
            conversation = instruct(sample, style, copy)
        except SkippedSample as left_out:
            counts.skip(sample.id, left_out.reason)
            continue
        except InvalidInputError as error:
            raise DatasetError(f"{sample.id}: a mask is broken: {error}") from error
        counts.counts[str(conversation.kind)] += 1
        counts.counts["with something too small for any cell"] += conversation.vanished
        yield conversation


def _shown(conversation: Conversation, folder: Path) -> Path:
    """Return the image file of a conversation, writing it first if it is a window of another."""
    crop = conversation.crop
    if crop is None:
        return conversation.image
    folder.mkdir(parents=True, exist_ok=True)
    # Ids may hold anything; a file's name may not.
    path = folder / f"{hashlib.sha256(conversation.id.encode()).hexdigest()[:20]}.jpg"
    try:
        with Image.open(conversation.image) as picture:
            if crop.x1 > picture.width or crop.y1 > picture.height:
                raise DatasetError(f"{conversation.image} is smaller than the masks of {conversation.id}")
            picture.convert("RGB").crop((crop.x0, crop.y0, crop.x1, crop.y1)).save(path, quality=_QUALITY)
    except OSError as error:
        raise DatasetError(f"{conversation.image} cannot be read as an image: {error}") from error
    return path


def _path(image: Path, image_root: Path | None) -> str:
    # Links stay as they are: people link images together where their disks are.
    absolute = os.path.abspath(image)
    return Path(os.path.relpath(absolute, os.path.abspath(image_root))).as_posix() if image_root else absolute


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, then build or preview."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        for dataset in DATASETS.values():
            page = f"  {dataset.page}" if dataset.page else ""
            print(f"{dataset.name:20} {dataset.task:10} {', '.join(dataset.splits):32}{page}")
        return
    options.split = options.split or ["train"]
    if not options.dataset or not options.root or not options.out:
        parser.error("--dataset, --root and --out are needed (--list: what data sets there are)")
    if any(len(given) not in (1, len(options.dataset)) for given in (options.root, options.split)):
        parser.error("give --root and --split once, or once for each --dataset")
    many = len(options.dataset)
    roots, splits = (given * many if len(given) == 1 else given for given in (options.root, options.split))
    sources = [
        Source(name, root.expanduser(), split, options.limit)
        for name, root, split in zip(options.dataset, roots, splits, strict=True)
    ]
    style = Style(
        grid=(options.grid, options.grid),
        codec=Codec(options.codec),
        rule=options.rule,
        seed=options.seed,
        mix=options.mix,
        distractors=options.distractors,
        crop_share=options.crop,
        keep_vanished=not options.drop_vanished,
    )
    output = Output(options.out, options.form, options.copies, options.shard_size, options.image_root)
    try:
        if options.preview:
            options.out.mkdir(parents=True, exist_ok=True)
            preview(sources, style, options.preview).save(options.out / PREVIEW)
            print(f"wrote {options.out / PREVIEW}; without --preview the data is built")
            return
        manifest = build(sources, style, output)
    except (DatasetError, ShardError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"\n{parser.prog}: stopped; the same command goes on after the last whole file\n")
    _report(manifest, options.out)


def _report(manifest: Manifest, out: Path) -> None:
    tally = manifest.tally
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.counts.items()) if count)
    print(
        f"{out}: {manifest.rows} conversations from {manifest.samples} samples "
        f"in {len(manifest.shards)} files"
    )
    if kinds:
        print(f"  {kinds}")
    for reason, count in sorted(tally.skipped.items()):
        print(f"  left out {count}: {reason} (as {', '.join(tally.examples[reason])})", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.build_data",
        description="Build instruction data. A run that was killed goes on when the same command is given.",
    )
    parser.add_argument("--list", action="store_true", help="list the data sets, with their splits")
    parser.add_argument(
        "--dataset", action="append", choices=list(DATASETS), metavar="NAME", help="several mix"
    )
    parser.add_argument("--root", action="append", type=Path, help="where it lies, for all or for each")
    parser.add_argument("--split", action="append", help="for all or for each (train)")
    parser.add_argument("--out", type=Path, help="folder to write")
    parser.add_argument("--form", choices=list(FORMS), default="ms-swift")
    parser.add_argument("--grid", type=int, choices=(16, 24, 32), default=16, help="cells on each side")
    parser.add_argument("--codec", choices=[str(codec) for codec in Codec], default=str(Codec.RRLE))
    parser.add_argument(
        "--rule", choices=("nearest", "area"), default="nearest", help="masks to cells (nearest)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--mix",
        type=_mix,
        default=(1, 3, 6),
        metavar="1:3:6",
        help="open, partial and conditioned questions about classes",
    )
    parser.add_argument("--distractors", type=_count, default=10, help="most absent classes in a question")
    parser.add_argument("--crop", type=_share, default=0.0, metavar="SHARE", help="semantic samples to crop")
    parser.add_argument("--copies", type=_positive, default=1, help="how often each sample is asked")
    parser.add_argument("--limit", type=_positive, help="most samples of each data set")
    parser.add_argument("--shard-size", type=_positive, default=10_000, help="samples in a file")
    parser.add_argument("--image-root", type=Path, help="write image paths relative to this folder")
    parser.add_argument("--drop-vanished", action="store_true", help="leave out what no cell shows")
    parser.add_argument("--preview", type=_positive, metavar="N", help=f"only draw N samples to {PREVIEW}")
    return parser


def _mix(text: str) -> tuple[int, int, int]:
    weights = [_count(part) for part in text.split(":")]
    if len(weights) != 3 or not any(weights):
        raise argparse.ArgumentTypeError("three weights, such as 1:3:6")
    return weights[0], weights[1], weights[2]


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)


def _positive(text: str) -> int:
    if _count(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from error
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return share


if __name__ == "__main__":
    main()
