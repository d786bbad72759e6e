"""What the nano model sees, and what its cache may not change."""

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from tests.tiny_nano import GRID, SIDE, tiny_model, tiny_processor, tiny_tokenizer
from text4seg_nano.positions import grid_positions

CELLS = GRID * GRID
PROMPT = "<|user|><image>Please segment only the white horse in the image.<|assistant|>"
ANSWER = "Sure\n<seg>others *4\n others *1| white horse *3\n others *4\n others *4\n</seg><|end|>"
TURNS = f"{PROMPT}{ANSWER}<|user|>and the cat<|assistant|>"


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def inputs_of(text, seed=0):
    return tiny_processor()(text=text, images=picture(seed))


def close(one, other):
    torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-4)


def test_encode_image_gives_one_token_per_cell(model):
    pixels = torch.stack([inputs_of(PROMPT, seed)["pixel_values"][0] for seed in (0, 1)])
    features = model.encode_image(pixels)
    assert features.shape == (2, CELLS, model.config.hidden_size)
    assert not torch.allclose(features[0], features[1])


def test_image_features_in_place_of_pixel_values(model):
    inputs = inputs_of(PROMPT + ANSWER)
    features = model.encode_image(inputs["pixel_values"])
    direct = model(**inputs).logits
    assert torch.equal(model(input_ids=inputs["input_ids"], image_features=features).logits, direct)


def test_as_many_visual_tokens_as_places(model):
    inputs = inputs_of(PROMPT)
    two = inputs["pixel_values"].repeat(2, 1, 1, 1)
    with pytest.raises(ValueError, match="32 visual tokens for 16 image tokens"):
        model(input_ids=inputs["input_ids"], pixel_values=two)


@pytest.mark.parametrize("prompt", [PROMPT, TURNS])
@pytest.mark.parametrize("step", [1, 3, 7])
def test_decoding_with_a_cache_equals_reading_at_once(model, prompt, step):
    inputs = inputs_of(prompt + ANSWER)
    ids = inputs["input_ids"]
    whole = model(**inputs).logits
    begin = tiny_processor()(text=prompt)["input_ids"].shape[1]
    cache = DynamicCache(config=model.config)
    state = {"past_key_values": cache, "pixel_values": inputs["pixel_values"], "use_cache": True}
    ends = [begin, *range(begin + step, ids.shape[1], step), ids.shape[1]]
    pieces = []
    for end in ends:
        prepared = model.prepare_inputs_for_generation(
            ids[:, :end],
            next_sequence_length=None if end == begin else step,
            is_first_iteration=end == begin,
            attention_mask=torch.ones_like(ids[:, :end]),
            cache_position=None,
            **state,
        )
        pieces.append(model(**prepared).logits)
    assert pieces[1].shape[1] <= step
    # What the prompt's own descriptors were answered by is over: only the new answer is compared.
    close(torch.cat(pieces, dim=1)[:, begin - 1 :], whole[:, begin - 1 :])


def test_one_token_without_a_mask(model):
    inputs = inputs_of(PROMPT + ANSWER)
    ids = inputs["input_ids"]
    whole = model(**inputs).logits
    cut = ids.shape[1] - 1
    first = model(input_ids=ids[:, :cut], pixel_values=inputs["pixel_values"], use_cache=True)
    places = grid_positions(ids, model.config)
    cache = first.past_key_values
    close(
        model(input_ids=ids[:, cut:], grid_position_ids=places, past_key_values=cache).logits, whole[:, cut:]
    )


def test_positions_are_needed_with_a_cache(model):
    inputs = inputs_of(PROMPT)
    cache = model(**inputs, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="grid_position_ids"):
        model(input_ids=inputs["input_ids"][:, :1], past_key_values=cache)


def test_a_prompt_is_read_in_one_piece(model):
    inputs = inputs_of(PROMPT)
    with pytest.raises(ValueError, match="in one piece"):
        model.prepare_inputs_for_generation(
            inputs["input_ids"][:, :5], attention_mask=inputs["attention_mask"]
        )
    with pytest.raises(ValueError, match="inputs_embeds"):
        model.prepare_inputs_for_generation(inputs["input_ids"], inputs_embeds=torch.zeros(1, 3, 64))


def with_token(ids, place, text):
    changed = ids.clone()
    changed[0, place] = tiny_tokenizer().convert_tokens_to_ids(text)
    assert not torch.equal(changed, ids)
    return changed


def test_visual_tokens_see_the_question(model):
    inputs = inputs_of(PROMPT)
    ids = inputs["input_ids"]
    horse = tiny_tokenizer().convert_ids_to_tokens(ids[0]).index("Ġhorse")
    changed = with_token(ids, horse, "Ġcat")
    cells = slice(1, 1 + CELLS)
    features = model.encode_image(inputs["pixel_values"])
    states = [
        model(input_ids=each, image_features=features, output_hidden_states=True).hidden_states[-1][:, cells]
        for each in (ids, changed)
    ]
    assert (states[0] - states[1]).abs().amax(-1).min() > 1e-4


def test_answers_never_change_what_came_before(model):
    inputs = inputs_of(PROMPT + ANSWER)
    ids = inputs["input_ids"]
    begin = inputs_of(PROMPT)["input_ids"].shape[1]
    before = model(**inputs).logits
    for place in (begin, begin + 3, ids.shape[1] - 1):
        after = model(input_ids=with_token(ids, place, "Ġcat"), pixel_values=inputs["pixel_values"]).logits
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.allclose(after[:, place], before[:, place])


def mask_of(model, ids):
    return model.attention_mask_of(ids, grid_positions(ids, model.config), 0, None)[0, -1]


def test_two_heads_of_a_descriptor_point_at_cells(model):
    ids = inputs_of(PROMPT + ANSWER)["input_ids"]
    places = grid_positions(ids, model.config)[0].tolist()
    seen = model.attention_mask_of(ids, grid_positions(ids, model.config), 0, None)[0]
    cells = [place for place, token in enumerate(ids[0].tolist()) if token == model.config.image_token_id]
    for query, (row, column, described) in enumerate(places):
        here, ahead = (head[query].nonzero().flatten().tolist() for head in seen[:2])
        if described:
            row, column = min(row, GRID - 1), min(column, GRID - 1)
            first = cells[row * GRID + column]
            assert here == [first]
            assert ahead == list(range(first, cells[row * GRID] + GRID))
        else:
            assert torch.equal(seen[0, query], seen[-1, query])


def test_a_descriptor_never_sees_its_rows_above(model):
    ids = inputs_of(PROMPT + ANSWER)["input_ids"]
    rows, _, described = grid_positions(ids, model.config)[0].unbind(-1)
    seen = mask_of(model, ids)
    described = described.bool()
    above = described[None, :] & described[:, None] & (rows[None, :] < rows[:, None])
    assert above.any()
    assert not seen[above].any()
    causal = torch.ones_like(seen).tril()
    assert (seen | above)[causal].all()


def test_later_questions_are_part_of_the_prefix(model):
    """All turns up to the last assistant mark are read in both directions."""
    inputs = inputs_of(TURNS)
    last = inputs["input_ids"].shape[1] - 1
    told = grid_positions(inputs["input_ids"], model.config)[0, :, 2] == 0
    assert mask_of(model, inputs["input_ids"])[told].all()
    longer = tiny_processor()(text=TURNS + "Sure")["input_ids"]
    seen = mask_of(model, longer)
    assert seen[: last + 1, : last + 1][told].all()
    assert not seen[: last + 1, last + 1 :].any()


def test_padding_changes_nothing(model):
    texts = [PROMPT, PROMPT.replace("white horse", "big white horse on the other mat")]
    batch = tiny_processor()(text=texts, images=[[picture(0)], [picture(1)]])
    assert batch["attention_mask"][0, 0] == 0
    together = model(**batch).logits[:, -1]
    for index, text in enumerate(texts):
        close(together[index], model(**inputs_of(text, index)).logits[0, -1])


def test_padding_on_the_right_changes_nothing(model):
    inputs = inputs_of(PROMPT + ANSWER)
    ids = inputs["input_ids"]
    padded = torch.nn.functional.pad(ids, (0, 9), value=model.config.pad_token_id)
    kept = torch.nn.functional.pad(inputs["attention_mask"], (0, 9))
    logits = model(input_ids=padded, pixel_values=inputs["pixel_values"], attention_mask=kept).logits
    close(logits[:, : ids.shape[1]], model(**inputs).logits)


def test_only_the_wanted_logits(model):
    inputs = inputs_of(PROMPT)
    whole = model(**inputs).logits
    close(model(**inputs, logits_to_keep=1).logits, whole[:, -1:])
    close(model(**inputs, logits_to_keep=torch.tensor([2, 5])).logits, whole[:, [2, 5]])


def test_loss_is_that_of_the_next_token(model):
    inputs = inputs_of(PROMPT + ANSWER)
    ids = inputs["input_ids"]
    begin = inputs_of(PROMPT)["input_ids"].shape[1]
    labels = ids.masked_fill(torch.arange(ids.shape[1]) < begin, -100)
    output = model(**inputs, labels=labels)
    chosen = output.logits[0, begin - 1 : -1].log_softmax(-1).gather(1, ids[0, begin:, None])
    close(output.loss, -chosen.mean())


def test_the_image_matters(model):
    answers = [model(**inputs_of(PROMPT, seed)).logits[0, -1] for seed in (0, 1)]
    assert not torch.allclose(*answers, atol=1e-3)


def test_pixel_values_are_scaled_and_squashed():
    inputs = inputs_of(PROMPT)
    assert inputs["pixel_values"].shape == (1, 3, SIDE, SIDE)
    white, black = (
        tiny_processor()(images=np.full((9, 5, 3), value, np.uint8))["pixel_values"] for value in (255, 0)
    )
    assert white.min() == white.max() == 1.0
    assert black.min() == black.max() == -1.0
