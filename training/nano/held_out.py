"""Write the held-out questions as samples, for ``python -m training.evaluate`` and all its measures.

Run: ``python -m training.nano.held_out --photos DIR --sprites DIR``. They are the questions of
``training.nano.evaluate``, with the same ``--limit`` and ``--seed``; it asks the generator alone, with
log-probabilities, and this is for the whole service. Pictures are copied beside the samples.
"""

import argparse
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from text4seg.masks import encode_rle
from training.datasets.sample import Sample, Task, write_samples
from training.nano.asking import Items
from training.nano.evaluate import add_data_options, chosen_sets


def held_out_samples(sets: Mapping[str, Items], folder: Path) -> Iterator[Sample]:
    """Yield each question as a sample of its set; write its picture to ``folder/images``."""
    (folder / "images").mkdir(exist_ok=True)
    for name, items in sets.items():
        for number, item in enumerate(items):
            image = Path("images") / f"{hashlib.sha256(item.image).hexdigest()[:24]}.png"
            if not (folder / image).exists():
                (folder / image).write_bytes(item.image)
            mask = encode_rle(item.truth)
            yield Sample(f"{number}", "nano", name, image, Task.REFERRING, (item.phrase,), (mask,))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write ``samples.jsonl`` and ``images/``.

    Args:
        arguments: What follows the program's name; None: of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m training.nano.held_out", description=__doc__)
    add_data_options(parser)
    parser.add_argument("--out", type=Path, default=Path("build/held-out"))
    options = parser.parse_args(arguments)
    try:
        sets = chosen_sets(options, random.Random(options.seed))
    except FileNotFoundError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "samples.jsonl"
    count = write_samples(held_out_samples(sets, options.out), file)
    print(f"{count} samples in {file}")


if __name__ == "__main__":
    main()
