"""How descriptors are written, and how fine: a small model for each codec and each grid, measured as served.

Run: ``python -m training.nano.ablate --sprites DIR [--photos DIR]``. Every model starts from the same weights
and learns for equally many steps from the same scenes and questions: the codecs with the grid of 16 cells,
the grids in R-RLE. Names of cells are learned once for each grid. Models are then asked about newly drawn
scenes, through a generator service that constrains them with the grammar, and by plain greedy decoding in
this process. What is done is kept in ``--out``; an interrupted run goes on there.
"""

import argparse
import io
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from text4seg import dialogue
from text4seg.descriptors import OTHERS, Codec, LabelGrid, decode_answer, encode
from text4seg.masks import to_grid, upsample
from text4seg.metrics import CumulativeIoU
from text4seg_nano.configuration import Text4SegNanoConfig
from text4seg_nano.vision import VisionTower
from training.child_service import ServiceEndedError
from training.nano.asking import Answer, Item, Items, ask, generator, mask_in, referring_texts, well_formed
from training.nano.evaluate import scene_items
from training.nano.photos import Photo, load_photos
from training.nano.pool import Pool, make_pool, split_photos, split_sprites
from training.nano.recipe import kept, name_cells_first
from training.nano.sprites import Sprite, load_sprites
from training.nano.start import new_model
from training.nano.tokenizer import build_tokenizer, known_words
from training.nano.train import STATE, Pace, Subjects, train
from training.nano.weights import PUBLISHED, Pretrained

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_image_layers": 1,
    "num_hidden_layers": 4,
}
NAMING_SCENES, IMAGES, QUESTIONS = 8, 4, 2
"""Scenes of a step that teaches names; images of a step with questions, and questions about each."""
PEAK_RATE = 1e-3
GRID = 16
"""Rows and columns of cells in which codecs are compared, as in the paper."""
STRIDE = 16
"""Pixels of the tower's input per cell."""
POOL_SEED, HELD_SEED = 40, 41


@dataclass(frozen=True, slots=True)
class Settings:
    """What all runs have in common; results of other settings are not mixed in.

    Attributes:
        names: How many names of sprites there are.
        scenes: Size of the pool, drawn once for each grid.
        naming_steps: Steps in which cells learn names.
        steps: Steps of training with questions.
        photos: Number of photographs behind the sprites; 0: plain gradients.
        asked: Questions about things that are there, in new scenes; a third as many are about what is not.
        asked_free: How many of them are asked again without the grammar.
        sizes: Fields of the model's configuration.
    """

    names: int = 36
    scenes: int = 1280
    naming_steps: int = 150
    steps: int = 300
    photos: int = 0
    asked: int = 45
    asked_free: int = 15
    sizes: Mapping[str, Any] = field(default_factory=lambda: SIZES)


@dataclass(frozen=True, slots=True)
class Variant:
    """One model to train."""

    codec: Codec
    grid: int
    seed: int

    def __str__(self) -> str:
        return f"{self.codec}-{self.grid}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Material:
    """Photographs, for backgrounds of training and of the questions, and sprites, for both."""

    known: Sequence[Photo]
    held: Sequence[Photo]
    sprites: Sequence[Sprite]

    @property
    def nouns(self) -> list[str]:
        """The names of the sprites."""
        return sorted({sprite.noun for sprite in self.sprites})


def load_material(sprites: Path, photos: Path | None, names: int) -> Material:
    """Read the data; of the sprites those of some names, spread over the list.

    Raises:
        FileNotFoundError: when a file is missing; the message names it.
    """
    every = split_sprites(load_sprites(sprites), held=False)
    nouns = sorted({sprite.noun for sprite in every})
    chosen = {nouns[number * len(nouns) // names] for number in range(min(names, len(nouns)))}
    # Only backgrounds: nothing in them has a name.
    read = [replace(photo, names=(), masks=()) for photo in (load_photos(photos) if photos else ())]
    return Material(
        split_photos(read, held=False),
        split_photos(read, held=True),
        [sprite for sprite in every if sprite.noun in chosen],
    )


class Laboratory:
    """Trains and measures variants; what several of them share is made once and kept.

    Args:
        settings: Of all runs.
        material: What scenes are made of.
        out: Where everything is kept.
        pretrained: Where the pretrained parts come from.
        threads: Threads of torch in the generator service.

    Raises:
        FileExistsError: when the folder holds runs with other settings.
    """

    def __init__(
        self,
        settings: Settings,
        material: Material,
        out: Path,
        pretrained: Pretrained = PUBLISHED,
        threads: int = 1,
    ) -> None:
        self.settings, self.material, self.out, self.threads = settings, material, out, threads
        # One for all codecs, so that they start from the same weights: I-RLE needs the longest runs.
        self.tokenizer = build_tokenizer(known_words(material.nouns, []), GRID**2)
        out.mkdir(parents=True, exist_ok=True)
        note, text = out / "settings.json", json.dumps(asdict(settings), indent=2) + "\n"
        if note.exists() and note.read_text() != text:
            raise FileExistsError(
                f"{out} holds runs with other settings: remove it, or choose another folder"
            )
        note.write_text(text)

        def word_vectors(words: list[str]) -> torch.Tensor:
            return kept(out / "words.pt", lambda: pretrained.word_vectors(words))

        self.pretrained = Pretrained(pretrained.load_tower, word_vectors)

    def result(self, variant: Variant) -> dict[str, Any]:
        """Return the figures of a variant, from its file if an earlier run has left it."""
        file = self.out / f"{variant}.json"
        if not file.exists():
            folder = self.trained(variant)
            state = torch.load(folder / STATE, weights_only=True)
            figures = {"training CPU minutes": state["seconds"] / 60, **self.measured(folder, variant)}
            file.with_suffix(".partial").write_text(json.dumps(figures, indent=2) + "\n")
            file.with_suffix(".partial").replace(file)
        return dict(json.loads(file.read_text()))

    def trained(self, variant: Variant) -> Path:
        """Train a variant and return its folder; an interrupted training goes on."""
        folder, sizes = self.out / str(variant), {**self.settings.sizes, "grid": variant.grid}
        sizes |= {"codec": variant.codec, "image_size": variant.grid * STRIDE}
        tokenizer = self.tokenizer
        pool = Pool([self.scenes(variant.grid)], [OTHERS, *self.material.nouns])
        torch.manual_seed(variant.seed)
        model = new_model(tokenizer, self.pretrained, **sizes)
        model.tower.eval()
        model.connector.mean, model.connector.deviation = pool.statistics(model.tower)

        naming, steps = self.settings.naming_steps, self.settings.steps
        file = self.out / f"names-{variant.grid}.pt"
        name_cells_first(
            file, model, tokenizer, pool, self.material.nouns, steps=naming, scenes=NAMING_SCENES
        )
        subjects = Subjects(self.material.nouns, self.material.nouns, {})
        pace = Pace(0.0, steps, images=IMAGES, questions=QUESTIONS, peak_rate=PEAK_RATE, keep_every=50)
        torch.manual_seed(variant.seed)
        train(model, tokenizer, pool, subjects, folder, pace, seed=variant.seed, clock=time.process_time)
        return folder

    def scenes(self, grid: int) -> dict[str, Any]:
        """Return the pool of a grid, as `make_pool` makes it."""

        def drawn() -> dict[str, Any]:
            tower = VisionTower(Text4SegNanoConfig(**self.settings.sizes))
            self.pretrained.load_tower(tower)
            tower.eval()
            known, sprites, count = self.material.known, self.material.sprites, self.settings.scenes
            return make_pool(
                tower, known, sprites, count, composed=1.0, seed=POOL_SEED, grid=grid, side=grid * STRIDE
            )

        return kept(self.out / f"scenes-{grid}.pt", drawn)

    def questions(self) -> tuple[Items, Items]:
        """Return the same questions for every variant: about what new scenes show, and do not show."""
        rng, draw = np.random.default_rng(HELD_SEED), random.Random(HELD_SEED)
        asked = self.settings.asked
        present, absent = scene_items(self.material.held, self.material.sprites, asked, rng, draw)
        draw.shuffle(present)
        return present[:asked], absent[: -(-asked // 3)]

    def true_tokens(self, codec: Codec, grid: int) -> float:
        """Return how many tokens the true answers to the questions have, on average."""
        present, absent = self.questions()
        lengths = []
        for item in (*present, *absent):
            cells = LabelGrid.from_mask(to_grid(item.truth, (grid, grid)), item.phrase)
            text = dialogue.answer_text(dialogue.referring_answer(item.phrase), encode(cells, codec))
            lengths.append(len(self.tokenizer(text).input_ids))
        return float(np.mean(lengths))

    def measured(self, folder: Path, variant: Variant) -> dict[str, float]:
        """Return the figures of a trained variant."""
        shape, codec = (variant.grid, variant.grid), variant.codec
        present, absent = self.questions()
        with generator(folder, self.threads) as stub:
            ask(stub, present[0], shape, codec)  # the grammar is compiled at the first question of a label
            served = [(item, ask(stub, item, shape, codec)) for item in present]
            nothing = [ask(stub, item, shape, codec) for item in absent]
        every = [*(answer for _, answer in served), *nothing]
        most = 32 + max(answer.tokens for answer in every) * 3 // 2
        freely = free_answers(folder, present[: self.settings.asked_free], variant, most)
        ceiling = [(item, Answer(to_grid(item.truth, shape), np.zeros(shape), True)) for item in present]
        return {
            "cIoU": cumulative_iou(served),
            "absent answered nothing": float(np.mean([not answer.mask.any() for answer in nothing])),
            "tokens": float(np.mean([answer.tokens for answer in every])),
            "chosen tokens": float(np.mean([answer.tokens - answer.forced for answer in every])),
            "seconds": float(np.median([answer.seconds for answer in every])),
            "well-formed": float(np.mean([answer.well_formed for answer in every])),
            "free cIoU": cumulative_iou(freely),
            "same questions cIoU": cumulative_iou(served[: len(freely)]),
            "free tokens": float(np.mean([answer.tokens for _, answer in freely])),
            "free CPU seconds": float(np.median([answer.seconds for _, answer in freely])),
            "free well-formed": float(np.mean([answer.well_formed for _, answer in freely])),
            "true cells cIoU": cumulative_iou(ceiling),
        }


def cumulative_iou(answers: Sequence[tuple[Item, Answer]]) -> float:
    """Return the cIoU of coarse masks at the size of the image."""
    metric = CumulativeIoU()
    for item, answer in answers:
        height, width = item.truth.shape
        metric.add(upsample(answer.mask, (height, width)), item.truth)
    return metric.result()


@torch.inference_mode()
def free_answers(
    folder: Path, items: Sequence[Item], variant: Variant, most_tokens: int
) -> list[tuple[Item, Answer]]:
    """Answer questions by plain greedy decoding; times are CPU time of this process.

    The sentence before the descriptor is given, as the grammar gives it: only the descriptor is judged.
    """
    model: Any = AutoModelForImageTextToText.from_pretrained(folder)
    model.eval()
    processor: Any = AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    shape, answers = (variant.grid, variant.grid), []
    for item in items:
        prompt, given = referring_texts(processor, item.phrase)
        begun = time.process_time()
        inputs = processor(text=prompt + given, images=Image.open(io.BytesIO(item.image)))
        written = model.generate(**inputs, max_new_tokens=most_tokens, do_sample=False)
        seconds = time.process_time() - begun
        tokens = written[0, inputs["input_ids"].shape[1] :]
        text = given + processor.tokenizer.decode(tokens, skip_special_tokens=True)
        mask = mask_in(decode_answer(text, shape, [item.phrase], variant.codec), item.phrase)
        good = well_formed(text, shape, item.phrase, variant.codec)
        answers.append((item, Answer(mask, np.zeros(shape), good, len(tokens), 0, seconds)))
    return answers


COLUMNS: Mapping[str, Callable[[float], str]] = {
    "tokens": "{:.0f}".format, "chosen tokens": "{:.0f}".format, "seconds": "{:.2f}".format,
    "well-formed": "{:.0%}".format, "cIoU": "{:.3f}".format, "absent answered nothing": "{:.0%}".format,
    "true cells cIoU": "{:.3f}".format, "training CPU minutes": "{:.1f}".format,
    "free tokens": "{:.0f}".format, "free CPU seconds": "{:.2f}".format, "free well-formed": "{:.0%}".format,
    "free cIoU": "{:.3f}".format, "same questions cIoU": "{:.3f}".format,
}  # fmt: skip


def table(results: Mapping[Variant, Mapping[str, float]]) -> str:
    """Return the figures as a Markdown table: a column for each codec and grid, mean (least to most)."""
    groups = list(dict.fromkeys((variant.codec, variant.grid) for variant in results))
    heads = [f"{codec} {grid}x{grid}" for codec, grid in groups]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    seeds = [str(sum((one.codec, one.grid) == group for one in results)) for group in groups]
    lines.append("| seeds | " + " | ".join(seeds) + " |")
    for name, show in COLUMNS.items():
        shown = []
        for group in groups:
            values = [each[name] for one, each in results.items() if (one.codec, one.grid) == group]
            ends = [show(min(values)), show(max(values))]
            spread = f" ({ends[0]} to {ends[1]})" if ends[0] != ends[1] else ""
            shown.append(show(float(np.mean(values))) + spread)
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None, pretrained: Pretrained = PUBLISHED) -> None:
    """Run what is missing, and print the table after every variant."""
    parser = argparse.ArgumentParser(prog="python -m training.nano.ablate", description=__doc__)
    parser.add_argument("--sprites", type=Path, required=True)
    parser.add_argument("--photos", type=Path, help="photographs in the COCO layout, as backgrounds")
    parser.add_argument("--out", type=Path, default=Path("build/ablation"))
    parser.add_argument("--codecs", type=Codec, nargs="*", default=list(Codec), help="all by default")
    parser.add_argument("--grids", type=int, nargs="*", default=[16, 24, 32])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    for name in ("names", "scenes", "naming_steps", "steps", "asked", "asked_free"):
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=int, default=getattr(Settings(), name))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        material = load_material(options.sprites, options.photos, options.names)
        settings = Settings(
            options.names, options.scenes, options.naming_steps, options.steps, len(material.known),
            options.asked, options.asked_free,
        )  # fmt: skip
        laboratory = Laboratory(settings, material, options.out, pretrained, options.threads)
        for grid in options.grids:
            lengths = [f"{codec} {laboratory.true_tokens(codec, grid):.0f}" for codec in options.codecs]
            print(f"tokens of true answers, {grid}x{grid} cells: {', '.join(lengths)}", flush=True)
        kinds = dict.fromkeys([(codec, GRID) for codec in options.codecs])
        kinds |= dict.fromkeys([(Codec.RRLE, grid) for grid in options.grids])
        results = {}
        for seed in options.seeds:
            for codec, grid in kinds:
                variant = Variant(codec, grid, seed)
                print(f"{variant}:", flush=True)
                results[variant] = laboratory.result(variant)
                print(table(results), flush=True)
    except (FileNotFoundError, FileExistsError, ServiceEndedError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
