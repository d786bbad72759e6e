"""The whole recipe: data, scenes with their tower features, training, checkpoint."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from text4seg.descriptors import OTHERS
from text4seg_nano import Text4SegNanoForConditionalGeneration
from text4seg_nano.configuration import Text4SegNanoConfig
from text4seg_nano.vision import VisionTower
from training.nano.batch import padded
from training.nano.losses import mean_embedding
from training.nano.naming import SCENES, teach_names
from training.nano.photos import Photo, held_out, load_captions, load_categories, load_photos
from training.nano.pool import Pool, make_pool, split_photos, split_sprites
from training.nano.scenes import SIDE
from training.nano.sprites import Sprite, load_sprites
from training.nano.start import new_model, phrase_tokens
from training.nano.tokenizer import build_tokenizer, known_words
from training.nano.train import Pace, Subjects, train
from training.nano.weights import PUBLISHED, Pretrained

SHARD = 1600
"""Scenes per file."""
COMPOSED = 0.6
"""Share of composed scenes; the others are photographs."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train from, and where to.

    Attributes:
        sprites: Folder of pictures named by code point, such as ``1f436.webp``.
        out: Folder of scenes, state and checkpoint.
        photos: Photographs with instance masks in the COCO layout; None: sprites on plain backgrounds only.
        partial: More of them, in which only some categories are annotated.
        start: A checkpoint folder of the same sizes to go on from, with its words; None: a new model.
        scenes: Size of the pool.
        pace: How long to train.
        seed: Draws everything.
        device: A torch device.
        sizes: Fields of the model's configuration that differ from the bundled model.
    """

    sprites: Path
    out: Path
    photos: Path | None = None
    partial: Path | None = None
    start: Path | None = None
    scenes: int = 12800
    pace: Pace = field(default_factory=Pace)
    seed: int = 0
    device: str = "cpu"
    sizes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Material:
    """The training part of the data.

    Attributes:
        photos: Photographs.
        sprites: Sprites.
        subjects: What questions can be about.
        words: Every word that gets a token of its own; held-out sprites' names too.
    """

    photos: list[Photo]
    sprites: list[Sprite]
    subjects: Subjects
    words: list[str]


def run(
    recipe: Recipe, pretrained: Pretrained = PUBLISHED, clock: Callable[[], float] = time.monotonic
) -> None:
    """Train a model and write its checkpoint to `recipe.out`; finished parts of an interrupted run are kept.

    Raises:
        FileNotFoundError: when a data file or a package of weights is missing; the message names it.
        FileExistsError: when the folder holds a run on other data.
        ValueError: when data files contradict each other.
    """
    material = load_material(recipe)
    claim_folder(recipe, material)
    tower = VisionTower(Text4SegNanoConfig(**recipe.sizes))
    pretrained.load_tower(tower)
    tower.eval().to(recipe.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parts = [load_part(recipe, material, tower, number) for number in range(-(-recipe.scenes // SHARD))]
    pool = Pool(parts, [OTHERS, *material.subjects.nouns])
    tokenizer = build_tokenizer(material.words) if recipe.start is None else tokenizer_of(recipe.start)
    torch.manual_seed(recipe.seed)
    model = new_model(tokenizer, pretrained, **recipe.sizes)
    if recipe.start is None:
        model.connector.mean, model.connector.deviation = pool.statistics(tower)
    else:
        go_on_from(model, recipe.start)
    torch.nn.Module.to(model, recipe.device)
    name_cells_first(
        recipe.out / "names.pt",
        model,
        tokenizer,
        pool,
        material.subjects.nouns,
        recipe.pace.naming,
        scenes=min(SCENES, len(pool)),
        seed=recipe.seed,
        clock=clock,
    )
    train(model, tokenizer, pool, material.subjects, recipe.out, recipe.pace, seed=recipe.seed, clock=clock)


def kept(file: Path, make: Callable[[], Made], *, weights_only: bool = False) -> Made:
    """Return what a file holds, made and written now unless an earlier run has left it.

    Files of our own; those of scenes have numpy arrays in them, which torch does not count as weights.
    """
    if not file.exists():
        torch.save(make(), file.with_suffix(".partial"))
        file.with_suffix(".partial").replace(file)
    made: Made = torch.load(file, weights_only=weights_only, mmap=True, map_location="cpu")
    return made


def name_cells_first(
    file: Path,
    model: Text4SegNanoForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    pool: Pool,
    nouns: Sequence[str],
    minutes: float = 0.0,
    *,
    steps: int = 0,
    scenes: int = SCENES,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Teach tower and connector names, as `teach_names` does, unless an earlier run has left them."""

    def learned() -> dict[str, Any]:
        tokens = padded(phrase_tokens(tokenizer, [OTHERS, *nouns])).to(model.device)
        classes = mean_embedding(model.embed_tokens.weight, tokens).detach()
        teach_names(model, pool, classes, minutes, steps=steps, scenes=scenes, seed=seed, clock=clock)
        return {"tower": model.tower.state_dict(), "connector": model.connector.state_dict()}

    names = kept(file, learned, weights_only=True)
    model.tower.load_state_dict(names["tower"])
    model.connector.load_state_dict(names["connector"])


def load_material(recipe: Recipe) -> Material:
    """Read the data and leave out what is held for evaluation.

    Raises:
        FileNotFoundError: when a file is missing; the message names it.
        ValueError: when an image has another size than its data set says.
    """
    every_sprite = load_sprites(recipe.sprites)
    sprites = split_sprites(every_sprite, held=False)
    photos, categories, captions = list[Photo](), list[str](), dict[int, list[str]]()
    if recipe.photos is not None:
        photos = split_photos(load_photos(recipe.photos), held=False)
        categories = load_categories(recipe.photos)
    if recipe.partial is not None:
        partial = split_photos(load_photos(recipe.partial, complete=False), held=False)
        # Those that show all names are drawn as often as the others, however many these are.
        photos = photos * max(1, round(len(partial) / max(1, len(photos)))) + partial
    for folder in filter(None, (recipe.photos, recipe.partial)):
        told = load_captions(folder).items()
        captions |= {number: texts for number, texts in told if not held_out(f"photo {number}", 5)}
    sprite_nouns = {sprite.noun for sprite in sprites}
    return Material(
        photos,
        sprites,
        Subjects(
            sorted(sprite_nouns.union(categories)), sorted(sprite_nouns.difference(categories)), captions
        ),
        known_words(
            {sprite.noun for sprite in every_sprite} | set(categories),
            [text for texts in captions.values() for text in texts],
        ),
    )


def claim_folder(recipe: Recipe, material: Material) -> None:
    """Write down what a run is made of, so that another one does not go on from its scenes and weights.

    Raises:
        FileExistsError: when the folder holds a run on other data.
    """
    made_of = {
        "photographs": fingerprint([photo.image_id for photo in material.photos]),
        "names": fingerprint(material.subjects.nouns),
        "words": fingerprint(material.words),
        "scenes": recipe.scenes,
        "seed": recipe.seed,
        "start": recipe.start,
        "sizes": dict(recipe.sizes),
    }
    text = json.dumps(made_of, indent=2, default=str) + "\n"
    recipe.out.mkdir(parents=True, exist_ok=True)
    note = recipe.out / "run.json"
    if note.exists() and note.read_text() != text:
        before, now = json.loads(note.read_text()), json.loads(text)
        other = ", ".join(name for name in now if before.get(name) != now[name])
        raise FileExistsError(
            f"{recipe.out} holds a run with other {other}: remove it, or choose another folder"
        )
    note.write_text(text)


def tokenizer_of(start: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a checkpoint; words that it does not know are read in pieces.

    Raises:
        FileNotFoundError: when there is none.
    """
    if not (start / "tokenizer.json").is_file():
        raise FileNotFoundError(f"{start} is no checkpoint to go on from: it has no tokenizer.json")
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(start)
    return tokenizer


def go_on_from(model: Text4SegNanoForConditionalGeneration, start: Path) -> None:
    """Load the weights of a checkpoint, and what its answers are balanced by.

    Raises:
        FileNotFoundError: when there are none.
        ValueError: when they are of other sizes.
    """
    try:
        missing, unexpected = model.load_state_dict(load_file(start / "model.safetensors"), strict=False)
    except RuntimeError as error:
        raise ValueError(f"{start} was trained with other sizes: {error}") from error
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"{start} is another model: it lacks {missing} and has {unexpected}")
    before = Text4SegNanoConfig.from_pretrained(start)
    for name in ("asked_bias", "least_asked", "asked_weight"):
        setattr(model.config, name, getattr(before, name))


def fingerprint(values: object) -> str:
    """Return a short hash of a list."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def load_part(recipe: Recipe, material: Material, tower: VisionTower, number: int) -> dict[str, Any]:
    """Return one part of the pool, drawn now unless an earlier run has left it."""

    config = Text4SegNanoConfig(**recipe.sizes)

    def drawn() -> dict[str, Any]:
        return make_pool(
            tower,
            material.photos,
            material.sprites,
            min(SHARD, recipe.scenes - number * SHARD),
            composed=COMPOSED,
            seed=recipe.seed * 1000 + number,
            grid=config.grid,
            side=config.image_size,
            drawn=max(SIDE, config.image_size),
        )

    return kept(recipe.out / f"scenes-{number:03d}.pt", drawn)
