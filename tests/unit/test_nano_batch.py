"""Questions as token sequences: what is predicted where, and with which weight."""

import random

import numpy as np
import pytest
import torch

from tests.tiny_nano import tiny_tokenizer
from text4seg import dialogue
from text4seg.descriptors import OTHERS, Codec, decode_strict
from training.nano.batch import IN_BLOCK, IN_SENTENCE, UNKNOWN, Collator, padded
from training.nano.questions import GRID, caption, referring, semantic
from training.nano.start import config_for
from training.nano.tokenizer import ASSISTANT, END

TOKENIZER = tiny_tokenizer()
CONFIG = config_for(TOKENIZER)
WIDE = tiny_tokenizer(GRID * GRID)
"""With a token for every run of the image."""
SHARE = np.zeros((GRID, GRID), np.int64)
SHARE[3, 2:7] = SHARE[4, :4] = SHARE[5, 12:] = 255


@pytest.fixture(scope="module")
def collate():
    return Collator(TOKENIZER, CONFIG)


@pytest.fixture(scope="module")
def examples():
    rng = random.Random(0)
    return {
        "present": referring("white horse", SHARE, rng),
        "absent": referring("cat", None, rng),
        "list": semantic(["cat", "white horse"], {"cat": SHARE}, rng, named=True),
        "caption": caption("a cat on a mat", rng),
    }


def tokens_of(batch, row):
    return TOKENIZER.convert_ids_to_tokens(batch.input_ids[row][batch.kept[row]])


def test_sequences_are_prompt_and_answer(collate, examples):
    for example in examples.values():
        batch = collate([[example]])
        text = TOKENIZER.decode(batch.input_ids[0])
        question, _, answer = text.partition(ASSISTANT)
        assert question == "<|user|>" + "<image>" * GRID**2 + example.question
        block = f"\n<seg>{example.block}</seg>" if example.block else ""
        assert answer == example.sentence + block + END


def test_descriptors_that_are_only_begun(collate, examples):
    whole = collate([[examples["present"], examples["caption"]]])
    begun = collate([[examples["present"], examples["caption"]]], written=False)
    tokens = tokens_of(begun, 0)
    assert tokens == tokens_of(whole, 0)[: len(tokens)]
    assert tokens[-1] == "<seg>"
    assert tokens_of(begun, 1) == tokens_of(whole, 1)
    assert torch.equal(begun.cells, whole.cells)


def test_padding_on_the_right(collate, examples):
    batch = collate([[examples["present"], examples["caption"]]])
    assert batch.kept[0].all()
    shorter = int(batch.kept[1].sum())
    assert shorter < batch.kept.shape[1]
    assert batch.kept[1, :shorter].all()
    assert (batch.input_ids[1, shorter:] == CONFIG.pad_token_id).all()
    assert (batch.weights[1, shorter - 1 :] == 0).all()


def test_groups_belong_to_their_images(collate, examples):
    batch = collate([[examples["present"], examples["list"]], [], [examples["absent"]]])
    assert batch.image_of.tolist() == [0, 0, 2]


def test_only_answers_are_learned_and_descriptors_more_than_sentences(collate, examples):
    batch = collate([[examples["present"]]])
    tokens = tokens_of(batch, 0)
    begin = tokens.index(ASSISTANT)
    opened = tokens.index("<seg>")
    weights = batch.weights[0].tolist()
    assert set(weights[:begin]) == {0.0}
    assert weights[begin:opened] == pytest.approx([IN_SENTENCE] * (opened - begin))
    closed = tokens.index("</seg>")
    assert weights[opened + 1 : closed] == pytest.approx([IN_BLOCK] * (closed - opened - 1))
    assert len(weights) == len(tokens) - 1


def test_captions_are_learned_whole(collate, examples):
    batch = collate([[examples["caption"]]])
    begin = tokens_of(batch, 0).index(ASSISTANT)
    assert set(batch.weights[0, begin:].tolist()) == {IN_BLOCK}
    assert (batch.rivals == -1).all()
    assert (batch.room == 0).all()
    assert (batch.cells == UNKNOWN).all()


@pytest.mark.parametrize("name", ["present", "absent"])
def test_rivals_stand_where_rows_begin(collate, examples, name):
    batch = collate([[examples[name]]])
    tokens = tokens_of(batch, 0)
    first = "white" if name == "present" else "cat"
    pair = TOKENIZER.convert_tokens_to_ids([OTHERS, first])
    places = [place for place, token in enumerate(tokens[:-1]) if token in ("<seg>", "\n ")]
    assert len(places) == GRID
    assert (batch.rivals[0, :, 0] >= 0).nonzero()[:, 0].tolist() == places
    assert batch.rivals[0, places].tolist() == [pair] * GRID
    assert {tokens[place + 1] for place in places} <= {OTHERS, first}


def test_label_lists_have_no_rivals(collate, examples):
    assert (collate([[examples["list"]]]).rivals == -1).all()


@pytest.mark.parametrize("name", ["present", "absent", "list"])
def test_room_is_what_is_left_of_the_row(collate, examples, name):
    batch = collate([[examples[name]]])
    tokens = tokens_of(batch, 0)
    column = 0
    for place, token in enumerate(tokens[1:]):
        if tokens[place] in ("<seg>", "\n "):
            column = 0
        if token.startswith(" *"):
            assert batch.room[0, place] == GRID - column
            column += int(token[2:])
            assert column <= GRID
        else:
            assert batch.room[0, place] == 0
    assert column == GRID


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("name", ["present", "absent", "list"])
def test_every_codec_writes_the_same_cells(examples, name, codec):
    example = examples[name]
    batch = Collator(WIDE, config_for(WIDE, codec=codec))([[example]])
    text = WIDE.decode(batch.input_ids[0])
    (block,) = dialogue.find_blocks(text)
    grid = decode_strict(block.text, (GRID, GRID), example.labels, codec)
    assert np.array_equal(grid.cells, example.cells)
    learned = WIDE.decode(batch.input_ids[0, 1:][batch.weights[0] == IN_BLOCK])
    # The first word is learned with the sentence before it.
    assert f"{block.text}</seg>".split(maxsplit=1)[1] in learned


@pytest.mark.parametrize("name", ["present", "absent", "list"])
def test_room_of_image_wise_runs_is_what_is_left_of_the_image(examples, name):
    batch = Collator(WIDE, config_for(WIDE, codec=Codec.IRLE))([[examples[name]]])
    tokens = WIDE.convert_ids_to_tokens(batch.input_ids[0])
    left = GRID * GRID
    for place, token in enumerate(tokens[1:]):
        if token.startswith(" *"):
            assert batch.room[0, place] == left
            left -= int(token[2:])
        else:
            assert batch.room[0, place] == 0
    assert left == 0
    rivals = (batch.rivals[0, :, 0] >= 0).nonzero()[:, 0].tolist()
    assert rivals == ([] if name == "list" else [tokens.index("<seg>")])


def test_every_cell_is_a_choice_in_full_length(examples):
    batch = Collator(WIDE, config_for(WIDE, codec=Codec.FULL))([[examples["present"]]])
    tokens = WIDE.convert_ids_to_tokens(batch.input_ids[0])
    places = (batch.rivals[0, :, 0] >= 0).nonzero()[:, 0].tolist()
    assert len(places) == GRID * GRID
    assert {tokens[place] for place in places} == {"<seg>", "| ", "\n "}
    assert {tokens[place + 1] for place in places} == {OTHERS, "white"}
    assert not batch.room.any()


def test_other_grids():
    config = config_for(TOKENIZER, grid=24)
    example = referring("cat", np.full((24, 24), 255), random.Random(0))
    batch = Collator(TOKENIZER, config)([[example, referring("cat", None, random.Random(0), 24)]])
    assert (batch.input_ids == config.image_token_id).sum(1).tolist() == [24 * 24] * 2
    assert batch.cells.shape == (2, 24 * 24)
    assert batch.room.max() == 24


def test_candidates_and_cells(collate, examples):
    batch = collate([[examples["present"], examples["list"], examples["caption"]]])
    assert batch.candidates.shape == (3, 3, 2)
    spelled = [
        [TOKENIZER.decode([token for token in label if token >= 0]) for label in row if label[0] >= 0]
        for row in batch.candidates.tolist()
    ]
    assert spelled == [[OTHERS, "white horse"], [OTHERS, "cat", "white horse"], [OTHERS]]
    assert np.array_equal(batch.cells[0].view(GRID, GRID).numpy() > 0, SHARE > 0)
    assert (batch.cells[1] == 1).sum() == (SHARE > 0).sum()


def test_batches_move_whole(collate, examples):
    batch = collate([[examples["present"]]])
    moved = batch.to(torch.device("meta"))
    assert all(getattr(moved, name).is_meta for name in ("input_ids", "kept", "candidates", "cells", "room"))


def test_padded():
    assert padded([[1], [2, 3]]).tolist() == [[1, -1], [2, 3]]
    assert padded([[1]], 3).tolist() == [[1, -1, -1]]
