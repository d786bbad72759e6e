"""A small nano model in every codec: trained on one scene, served under the grammar, and compared."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from services.chassis.image_file import ImageLimits, read_image
from services.generator.hf_model import load_hf_model
from tests.nano_data import write_sprites
from tests.tiny_nano import GRID, SIZES, TOWER, tiny_model, tiny_processor, tiny_tokenizer
from text4seg.descriptors import Codec, LabelGrid, decode_strict, encode
from text4seg.dialogue import find_blocks, referring_answer, referring_question
from text4seg.grammar import DescriptorGrammar
from text4seg.segmentation import DescriptorConstraint, FinishReason, GenerateRequest, Turn
from training.nano.ablate import Laboratory, Settings, Variant, load_material, main, table
from training.nano.batch import Collator
from training.nano.questions import Example
from training.nano.train import optimizer_for, save
from training.nano.weights import Pretrained

SHAPE = (GRID, GRID)
CELLS = {
    "cat": np.array([[0, 1, 1, 0], [0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], np.int16),
    "white horse": np.zeros(SHAPE, np.int16),
    "traffic light": np.ones(SHAPE, np.int16),
}


def picture():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def learned(codec, steps):
    """A model that was shown the answers of `CELLS` about one picture."""
    model = tiny_model(codec=codec)
    examples = [
        Example(
            referring_question(phrase),
            referring_answer(phrase),
            (phrase,),
            cells,
            encode(LabelGrid(("others", phrase), cells)),
            True,
        )
        for phrase, cells in CELLS.items()
    ]
    batch = Collator(tiny_tokenizer(), model.config)([examples])
    targets = batch.input_ids[:, 1:].masked_fill(batch.weights == 0, -100)
    labels = torch.nn.functional.pad(targets, (1, 0), value=-100)
    pixels = tiny_processor()(images=[picture()] * len(CELLS))["pixel_values"]
    model.tower.requires_grad_(False)
    optimizer = optimizer_for([one for one in model.parameters() if one.requires_grad], 2e-3)
    losses = []
    for _ in range(steps):
        output = model(
            input_ids=batch.input_ids, pixel_values=pixels, attention_mask=batch.kept.long(), labels=labels
        )
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(output.loss.detach()))
    return model, losses


def image_file():
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "PNG")
    return buffer.getvalue()


def served(path, phrase):
    model = load_hf_model(path, lambda data: read_image(data, ImageLimits()))
    request = GenerateRequest(
        image=image_file(),
        turns=(Turn("user", referring_question(phrase)),),
        constraint=DescriptorConstraint((phrase,)),
    )
    chunks = list(model.write(request, lambda: False))
    (block,) = find_blocks("".join(chunk.text for chunk in chunks))
    return model.info, block.text, chunks[-1].finish


@pytest.mark.parametrize("codec", Codec)
def test_a_trained_model_is_served_in_its_codec(tmp_path, codec):
    model, losses = learned(codec, 60)
    assert losses[-1] < losses[0] / 10
    save(model, tiny_tokenizer(), tmp_path)
    for phrase, cells in CELLS.items():
        info, text, finish = served(tmp_path, phrase)
        assert (info.codec, info.shape) == (codec, SHAPE)
        assert finish.reason is FinishReason.STOP
        assert text == encode(LabelGrid(("others", phrase), cells), codec)
        assert np.array_equal(decode_strict(text, SHAPE, [phrase], codec).cells, cells)
        assert DescriptorGrammar(SHAPE, [phrase], codec).accepts(text)


def test_full_length_leaves_the_separators_to_the_grammar(tmp_path):
    save(tiny_model(codec=Codec.FULL), tiny_tokenizer(), tmp_path)
    _, text, finish = served(tmp_path, "cat")
    assert DescriptorGrammar(SHAPE, ["cat"], Codec.FULL).accepts(text)
    assert finish.forced_tokens >= GRID * GRID


SETTINGS = Settings(
    names=12, scenes=16, naming_steps=2, steps=2, asked=3, asked_free=1, sizes={**SIZES, **TOWER}
)
TINY = Pretrained(
    lambda tower: None,
    lambda words: torch.randn(len(words), 96, generator=torch.Generator().manual_seed(1)),
)


@pytest.fixture(scope="module")
def sprites(tmp_path_factory):
    return write_sprites(tmp_path_factory.mktemp("sprites"))


def test_a_variant_is_trained_and_measured_once(sprites, tmp_path):
    material = load_material(sprites, None, SETTINGS.names)
    assert len(material.nouns) == SETTINGS.names
    variant = Variant(Codec.IRLE, GRID, 0)
    figures = Laboratory(SETTINGS, material, tmp_path, TINY).result(variant)
    assert 0 <= figures["cIoU"] <= figures["true cells cIoU"] < 1
    assert 0 < figures["chosen tokens"] < figures["tokens"]
    assert min(figures["seconds"], figures["free CPU seconds"], figures["training CPU minutes"]) > 0
    assert {"well-formed", "free well-formed", "free cIoU"} <= set(figures)

    def missing(words):
        raise AssertionError("nothing is left to be trained")

    again = Laboratory(SETTINGS, material, tmp_path, replace(TINY, word_vectors=missing))
    assert again.result(variant) == figures
    with pytest.raises(FileExistsError, match="holds runs with other settings"):
        Laboratory(replace(SETTINGS, steps=3), material, tmp_path, TINY)


def test_codecs_start_alike_and_share_what_does_not_depend_on_them(sprites, tmp_path):
    material = load_material(sprites, None, SETTINGS.names)
    laboratory = Laboratory(replace(SETTINGS, steps=1), material, tmp_path, TINY)
    by_image, by_row, full = (
        laboratory.true_tokens(codec, 16) for codec in (Codec.IRLE, Codec.RRLE, Codec.FULL)
    )
    assert by_image < by_row < full
    assert full > 2 * 16 * 16
    folders = [laboratory.trained(Variant(codec, GRID, 0)) for codec in (Codec.RRLE, Codec.FULL)]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "full-4-0", "names-4.pt", "r-rle-4-0", "scenes-4.pt", "settings.json", "words.pt",
    ]  # fmt: skip
    one, other = (torch.load(folder / "state.pt", weights_only=True) for folder in folders)
    assert one["step"] == other["step"] == 1
    for name in ("tower.network.conv_head.weight", "connector.up.weight"):
        assert torch.equal(one["model"][name], other["model"][name])
    assert one["model"]["lm_head.weight"].shape == other["model"]["lm_head.weight"].shape


def test_the_table_has_mean_and_spread():
    figures = dict.fromkeys(
        ("tokens", "chosen tokens", "seconds", "well-formed", "cIoU", "absent answered nothing",
         "true cells cIoU", "training CPU minutes", "free tokens", "free CPU seconds", "free well-formed",
         "free cIoU", "same questions cIoU"),
        1.0,
    )  # fmt: skip
    shown = table(
        {
            Variant(Codec.RRLE, 16, 0): figures | {"cIoU": 0.25},
            Variant(Codec.FULL, 16, 0): figures,
            Variant(Codec.RRLE, 16, 1): figures | {"cIoU": 0.75},
        }
    ).splitlines()
    assert shown[0] == "| | r-rle 16x16 | full 16x16 |"
    assert "| seeds | 2 | 1 |" in shown
    assert "| cIoU | 0.500 (0.250 to 0.750) | 1.000 |" in shown
    assert "| well-formed | 100% | 100% |" in shown


def test_missing_data_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["--sprites", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")])
    assert left.value.code == 1
    assert "nowhere/" in capsys.readouterr().err
