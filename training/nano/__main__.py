"""Train the bundled nano model: ``python -m training.nano --photos DIR --sprites DIR``, or ``--smoke``.

Three steps, each of which an interrupted run does not repeat: scenes with their tower features, training, and a
checkpoint directory. Nothing is downloaded.
"""

import argparse
import json
from pathlib import Path

import torch

from training.nano.photos import held_out, load_captions, load_photos
from training.nano.pool import make_pool, split_photos, split_sprites
from training.nano.sprites import load_sprites
from training.nano.tokenizer import build_tokenizer, known_words
from training.nano.train import train

SHARD = 1600


def main() -> None:
    """Parse the command line and run the recipe."""
    parser = argparse.ArgumentParser(
        prog="python -m training.nano", description="Train the bundled nano model."
    )
    parser.add_argument("--photos", type=Path, help="photographs with instance masks in the COCO layout")
    parser.add_argument(
        "--persons", type=Path, help="more of them, in which only some categories are annotated"
    )
    parser.add_argument(
        "--sprites", type=Path, required=True, help="pictures named by code point, such as 1f436.webp"
    )
    parser.add_argument("--out", type=Path, default=Path("build/nano"), help="where scenes and checkpoint go")
    parser.add_argument("--minutes", type=float, default=70, help="time to train")
    parser.add_argument("--scenes", type=int, default=6400, help="size of the pool")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--smoke", action="store_true", help="a tiny run of about two minutes, to see that all of it works"
    )
    options = parser.parse_args()
    if options.smoke:
        options.minutes, options.scenes, options.out = 1.0, 64, options.out.with_name("nano-smoke")
    elif options.photos is None:
        parser.error("--photos is needed (a folder with instances.json and images/), or --smoke")
    torch.set_num_threads(options.threads)
    every_sprite = load_sprites(options.sprites)
    sprites = split_sprites(every_sprite, held=False)
    photos, categories, captions = [], list[str](), dict[int, list[str]]()
    if options.photos:
        photos = split_photos(load_photos(options.photos), held=False)
        categories = [
            entry["name"]
            for entry in json.loads((options.photos / "instances.json").read_text())["categories"]
        ]
        captions = {
            key: texts
            for key, texts in load_captions(options.photos).items()
            if not held_out(f"photo {key}", 5)
        }
    if options.persons:
        photos += split_photos(load_photos(options.persons), held=False)
    options.out.mkdir(parents=True, exist_ok=True)
    parts = []
    for number in range(-(-options.scenes // SHARD)):
        file = options.out / f"scenes-{number:03d}.pt"
        if not file.exists():
            count = min(SHARD, options.scenes - number * SHARD)
            made = make_pool(photos, sprites, count, composed=0.5, seed=options.seed * 1000 + number)
            torch.save(made, file.with_suffix(".partial"))
            file.with_suffix(".partial").replace(file)
        parts.append(torch.load(file, weights_only=False))
    sprite_nouns = sorted({sprite.noun for sprite in sprites})
    words = known_words(
        {sprite.noun for sprite in every_sprite} | set(categories),
        [text for texts in captions.values() for text in texts],
    )
    train(
        parts, build_tokenizer(words), sorted({*sprite_nouns, *categories}), sprite_nouns, captions, options.out,
        minutes=options.minutes, seed=options.seed,
    )  # fmt: skip
    print(
        f"wrote {options.out}: measure it with python -m training.nano.evaluate --checkpoint {options.out} ..."
    )


if __name__ == "__main__":
    main()
