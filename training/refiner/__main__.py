"""Train the light refiner: ``python -m training.refiner --photos DIR --sprites DIR``, or ``--smoke``.

Features of the frozen encoder, training, a checkpoint file: an interrupted run does not repeat what is done.
Nothing is downloaded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from training.nano.pool import split_sprites
from training.nano.sprites import load_sprites
from training.refiner.guesses import NanoGuesser
from training.refiner.recipe import Recipe, run, training_photos
from training.refiner.train import CHECKPOINT, STATE, Pace
from training.refiner.views import drawn_photos

CHECKPOINT_OF_GENERATOR = Path(__file__).resolve().parents[2] / "models" / "nano"
SMOKE_PHOTOS, SMOKE_STEPS, SMOKE_SHOW_EVERY = 12, 20, 5


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run the recipe."""
    parser = argparse.ArgumentParser(
        prog="python -m training.refiner", description="Train the light refiner."
    )
    parser.add_argument(
        "--photos", type=Path, nargs="+", help="folders with instances.json and images/, in the COCO layout"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/light"), help="where features and checkpoint go"
    )
    parser.add_argument("--steps", type=int, default=Pace().steps, help="steps to train")
    parser.add_argument("--views", type=int, default=6, help="views of each photograph, 1.6 MB each")
    parser.add_argument("--sprites", type=Path, help="pictures named by code point, to compose scenes with")
    parser.add_argument("--scenes", type=int, default=1600, help="composed scenes, with --sprites")
    parser.add_argument(
        "--generator",
        type=Path,
        default=CHECKPOINT_OF_GENERATOR,
        help="nano checkpoint that finds things in composed scenes; its mistakes are learned from",
    )
    parser.add_argument("--start", type=Path, help="a refiner to go on from; else a new one")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="a run of a minute on drawn pictures, to see that all of it works",
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    pace = Pace(steps=options.steps)
    if options.smoke:
        pace = Pace(steps=SMOKE_STEPS, show_every=SMOKE_SHOW_EVERY)
        options.out, options.views = options.out.with_name(options.out.name + "-smoke"), 1
        (options.out / STATE).unlink(missing_ok=True)
    elif not options.photos:
        parser.error("--photos is needed (a folder with instances.json and images/), or --smoke")
    scenes = options.scenes if options.sprites and not options.smoke else 0
    recipe = Recipe(
        options.out, options.views, scenes, options.start, pace, seed=options.seed, device=options.device
    )
    try:
        if options.smoke:
            run(recipe, drawn_photos(SMOKE_PHOTOS, options.seed))
        elif not scenes:
            run(recipe, training_photos(options.photos))
        else:
            sprites = split_sprites(load_sprites(options.sprites), held=False)
            run(recipe, training_photos(options.photos), sprites, NanoGuesser(options.generator))
    except (OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    made = options.out / CHECKPOINT
    print(f"wrote {made}: python -m benchmarks.refiner --light {made} --half held-out ... measures it")


if __name__ == "__main__":
    main()
