"""The whole recipe: photographs, features, training, checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from text4seg_light import LightConfig, LightRefiner
from text4seg_nano.configuration import Text4SegNanoConfig
from text4seg_nano.vision import VisionTower
from training.nano.photos import Photo, load_photos
from training.nano.weights import load_tower
from training.refiner.features import Pool, prepare
from training.refiner.train import Pace, train
from training.refiner.views import is_held_out


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train from, and where to.

    Attributes:
        out: folder of features, state and checkpoint.
        views: of each photograph.
        pace: how long to train.
        config: sizes of the network.
        seed: draws everything.
        device: of torch.
    """

    out: Path
    views: int = 6
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
    recipe: Recipe, photos: Sequence[Photo], pretrained: Callable[[LightRefiner], None] = load_encoder
) -> None:
    """Train a refiner and write its checkpoint to `recipe.out`; an interrupted run goes on.

    Raises:
        FileNotFoundError: the package of weights is missing; the message names it.
        FileExistsError: the folder holds a run on other data.
        ValueError: no photograph shows anything to learn from.
    """
    claim(recipe, photos)
    torch.manual_seed(recipe.seed)
    model = LightRefiner(recipe.config)
    pretrained(model)
    model.eval().to(recipe.device)
    pool = Pool(prepare(model, photos, recipe.views, recipe.out, recipe.seed))
    train(model, pool, recipe.out, recipe.pace, recipe.seed)


def claim(recipe: Recipe, photos: Sequence[Photo]) -> None:
    """Write down what a run is made of, so that another one does not go on from its features and weights.

    Raises:
        FileExistsError: the folder holds a run on other data.
    """
    ids = json.dumps([photo.image_id for photo in photos])
    made_of = {
        "photographs": hashlib.sha256(ids.encode()).hexdigest()[:16],
        "views": recipe.views,
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
