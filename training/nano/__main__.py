"""Train the bundled nano model: ``python -m training.nano --photos DIR --sprites DIR``, or ``--smoke``.

Scenes with their tower features, training, a checkpoint directory: an interrupted run does not repeat what is
done. Nothing is downloaded.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from training.nano.recipe import Recipe, run
from training.nano.train import STATE, Pace

NAMING_SHARE = 0.25
"""Of the time: for names of cells, before any question."""
TOGETHER = Pace(naming=0.0, images=6, questions=2, captions=6, peak_rate=3e-4, naming_share=0.5, written=0.25)
"""Names and questions at once, as the bundled model was taught last."""
SMOKE_SCENES, SMOKE_MINUTES, SMOKE_SHOW_EVERY = 64, 1.0, 5


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run the recipe."""
    parser = argparse.ArgumentParser(prog="python -m training.nano", description="Train the nano model.")
    parser.add_argument("--photos", type=Path, help="photographs with instance masks in the COCO layout")
    parser.add_argument(
        "--partial", type=Path, help="more of them, in which only some categories are annotated"
    )
    parser.add_argument(
        "--sprites", type=Path, required=True, help="pictures named by code point, such as 1f436.webp"
    )
    parser.add_argument("--out", type=Path, default=Path("build/nano"), help="where scenes and checkpoint go")
    parser.add_argument("--start", type=Path, help="checkpoint folder to go on from; else a new model")
    parser.add_argument(
        "--together",
        action="store_true",
        help="teach names and questions at once, as suits a model that has learned both (--start)",
    )
    parser.add_argument(
        "--minutes", type=float, default=120.0, help="time to train, a quarter on names unless --together"
    )
    parser.add_argument("--scenes", type=int, default=12800, help="size of the pool")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--smoke", action="store_true", help="a run of a few minutes, to see that all of it works"
    )
    options = parser.parse_args(arguments)
    if options.smoke:
        options.minutes, options.scenes = SMOKE_MINUTES, SMOKE_SCENES
        options.out = options.out.with_name(options.out.name + "-smoke")
        (options.out / STATE).unlink(missing_ok=True)
    elif options.photos is None:
        parser.error("--photos is needed (a folder with instances.json and images/), or --smoke")
    pace = Pace(naming=options.minutes * NAMING_SHARE, minutes=options.minutes * (1 - NAMING_SHARE))
    if options.together:
        pace = replace(TOGETHER, minutes=options.minutes)
    if options.smoke:
        pace = replace(pace, show_every=SMOKE_SHOW_EVERY)
    torch.set_num_threads(options.threads)
    recipe = Recipe(
        sprites=options.sprites,
        out=options.out,
        photos=options.photos,
        partial=options.partial,
        start=options.start,
        scenes=options.scenes,
        pace=pace,
        seed=options.seed,
        device=options.device,
    )
    try:
        run(recipe)
    except (FileNotFoundError, FileExistsError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(f"wrote {options.out}: python -m training.nano.evaluate --checkpoint {options.out} ... measures it")


if __name__ == "__main__":
    main()
