"""The whole recipe: photographs, features, training, checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from text4seg_light import LightConfig, LightRefiner, load
from text4seg_nano.configuration import Text4SegNanoConfig
from text4seg_nano.vision import VisionTower
from training.nano.photos import Photo, load_photos
from training.nano.sprites import Sprite
from training.nano.weights import load_tower
from training.refiner.features import Guesser, Pool, prepare
from training.refiner.train import Pace, train
from training.refiner.views import View, draw_scene, draw_view, is_held_out


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train from, and where to.

    Attributes:
        out: folder of features, state and checkpoint.
        views: of each photograph.
        scenes: views of sprites on photographs; 0: photographs only.
        start: a refiner's file to go on from; None: a new one.
        pace: how long to train.
        config: sizes of the network.
        seed: draws everything.
        device: of torch.
    """

    out: Path
    views: int = 6
    scenes: int = 0
    start: Path | None = None
    pace: Pace = field(default_factory=Pace)
    config: LightConfig = field(default_factory=LightConfig)
    seed: int = 0
    device: str = "cpu"


def training_photos(folders: Sequence[Path]) -> list[Photo]:
    """Read photographs and leave out those that are kept for evaluation.

    Raises:
        FileNotFoundError: a file is missing; the message names it.
        ValueError: an image has another size than its data set says.
    """
    photos = [photo for folder in folders for photo in load_photos(folder)]
    return [photo for photo in photos if not is_held_out(photo.image_id)]


def load_encoder(model: LightRefiner) -> None:
    """Put the ImageNet weights of EfficientNet-Lite2, from an installed package, into the encoder.

    Raises:
        FileNotFoundError: the package is not installed; the message names it.
    """
    tower = VisionTower(Text4SegNanoConfig(tower=model.config.encoder))
    load_tower(tower)
    published = tower.network.state_dict()
    model.encoder.load_state_dict({name: published[name] for name in model.encoder.state_dict()})


def run(
    recipe: Recipe,
    photos: Sequence[Photo],
    sprites: Sequence[Sprite] = (),
    guesser: Guesser | None = None,
    pretrained: Callable[[LightRefiner], None] = load_encoder,
) -> None:
    """Train a refiner and write its checkpoint to `recipe.out`; an interrupted run goes on.

    Args:
        recipe: what to do.
        photos: to learn from, and to lay sprites on.
        sprites: for the scenes.
        guesser: finds things in the scenes as a language model does; None: coarse masks are only made up.
        pretrained: gives a new network's encoder its weights.

    Raises:
        FileNotFoundError: the package of weights is missing; the message names it.
        FileExistsError: the folder holds a run on other data.
        ValueError: no photograph shows anything to learn from, or what to go on from is no refiner.
    """
    claim(recipe, photos)
    torch.manual_seed(recipe.seed)
    model = new_or_started(recipe, pretrained)
    model.eval().to(recipe.device)
    first = len(photos) * recipe.views

    def draw(number: int) -> View:
        rng = np.random.default_rng([recipe.seed, number])
        if number >= first:
            return draw_scene(photos, sprites, rng)
        return draw_view(photos[number // recipe.views], rng, whole=number % recipe.views == 0)

    pool = Pool(prepare(model, draw, first + recipe.scenes, recipe.out, guesser))
    train(model, pool, recipe.out, recipe.pace, recipe.seed)


def new_or_started(recipe: Recipe, pretrained: Callable[[LightRefiner], None]) -> LightRefiner:
    """Return the network to train.

    Raises:
        FileNotFoundError: the package of weights is missing; the message names it.
        ValueError: what to go on from is no refiner of the recipe's sizes.
    """
    if recipe.start is None:
        model = LightRefiner(recipe.config)
        pretrained(model)
        return model
    try:
        model = load(recipe.start)
    except ValueError as error:
        raise ValueError(f"{recipe.start}: {error}") from error
    if model.config != recipe.config:
        raise ValueError(f"{recipe.start} is a refiner of other sizes")
    return model.requires_grad_(True)


def claim(recipe: Recipe, photos: Sequence[Photo]) -> None:
    """Write down what a run is made of, so that another one does not go on from its features and weights.

    Raises:
        FileExistsError: the folder holds a run on other data.
    """
    ids = json.dumps([photo.image_id for photo in photos])
    made_of = {
        "photographs": hashlib.sha256(ids.encode()).hexdigest()[:16],
        "views": recipe.views,
        "scenes": recipe.scenes,
        "start": recipe.start and str(recipe.start),
        "seed": recipe.seed,
        "config": asdict(recipe.config),
    }
    recipe.out.mkdir(parents=True, exist_ok=True)
    note = recipe.out / "run.json"
    if note.exists() and (before := json.loads(note.read_text())) != made_of:
        other = ", ".join(name for name in made_of if before.get(name) != made_of[name])
        raise FileExistsError(
            f"{recipe.out} holds a run with other {other}: remove it, or choose another folder"
        )
    note.write_text(json.dumps(made_of, indent=2) + "\n")
