"""What a model is trained on: the prompt as it is served, and labels on answers alone."""

import pytest
import torch

from services.generator.hf_model import load_hf_model
from tests.tiny_backbones import save_tiny_backbone
from tests.tiny_llava import read, save_tiny_llava
from tests.tiny_nano import tiny_model, tiny_processor
from tests.tuning_data import QUESTION, TINY_BY_NAME, swift, truth, write_image, write_lines
from text4seg.descriptors import Codec
from text4seg.errors import CheckpointError
from text4seg.segmentation import GenerateRequest
from training.tuning.backbone import load_base, load_model
from training.tuning.batches import UNKNOWN, Collator, answer_loss, continuation, encode
from training.tuning.conversations import Conversations, Writing
from training.tuning.recipe import Recipe, TuningError

TEMPLATED, NANO = "chat template", "nano"
ENDS = {
    "llava-1.5-7b": "</s>",
    "deepseek-vl-1.3b": "<｜end▁of▁sentence｜>",
    "deepseek-vl-7b": "<｜end▁of▁sentence｜>",
    "qwen2.5-vl-7b": "<|im_end|>",
    "qwen3-vl-8b": "<|im_end|>",
    "internvl3-8b": "<|im_end|>",
    "smolvlm2-2.2b": "<end_of_utterance>",
    TEMPLATED: "</s>",
    NANO: "<|end|>",
}


@pytest.fixture(scope="module", params=ENDS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def path(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    if name == TEMPLATED:
        return save_tiny_llava(folder)
    if name == NANO:
        tiny_model().save_pretrained(folder)
        tiny_processor().save_pretrained(folder)
        return folder
    return save_tiny_backbone(folder, TINY_BY_NAME[name])


@pytest.fixture(scope="module")
def base(name, path):
    recipe = Recipe(
        backbone=None if name in (TEMPLATED, NANO) else name,
        grid=(4, 4),
        answers="apart" if name == NANO else "together",
    )
    return load_base(path, recipe)


def conversations(folder, *texts, answers="together"):
    write_image(folder / "0.png", 0)
    file = write_lines(folder / "x.jsonl", swift("0.png", *texts))
    return Conversations([file], answers, Writing((4, 4), Codec.RRLE))


def learned(base, example):
    """The runs of labelled tokens, as text; labels are the tokens themselves."""
    ids, labels = example["input_ids"][0], example["labels"][0]
    kept = labels != UNKNOWN
    assert torch.equal(ids[kept], labels[kept])
    runs, run = [], []
    for token, is_label in zip(ids.tolist(), kept.tolist(), strict=True):
        if is_label:
            run.append(token)
        elif run:
            runs.append(run)
            run = []
    return [base.processor.tokenizer.decode(run) for run in [*runs, run] if run]


def test_labels_are_exactly_the_answers_and_what_ends_them(tmp_path, base, name):
    answer = truth(0)
    example = encode(conversations(tmp_path, QUESTION, answer)[0], base, 2048)
    (text,) = learned(base, example)
    # The lead (a space, or nothing) is learned too: the model writes it.
    assert text.strip(" ") == answer + ENDS[name]
    assert example["labels"][0, -1] != UNKNOWN
    assert example["labels"].shape == example["input_ids"].shape == example["attention_mask"].shape


def test_every_answer_of_a_conversation_is_learned(tmp_path, base, name):
    data = conversations(tmp_path, "What is it?", "A dog.", "What else?", "A cat.")
    found = learned(base, encode(data[0], base, 2048))
    assert [text.strip(" ") for text in found] == ["A dog." + ENDS[name], "A cat." + ENDS[name]]


def test_apart_only_the_last_answer_is_learned(tmp_path, base, name):
    data = conversations(tmp_path, "What is it?", "a cat", "What else?", "a mat", answers="apart")
    found = [learned(base, encode(one, base, 2048)) for one in data]
    assert [[text.strip(" ") for text in one] for one in found] == [
        ["a cat" + ENDS[name]],
        ["a mat" + ENDS[name]],
    ]


def test_prompt_and_image_are_those_that_are_served(tmp_path, base, path, name):
    model = load_hf_model(path, read)
    data = conversations(tmp_path, QUESTION, "a cat", "please segment", truth(1))
    example = encode(data[0], base, 2048)
    for turns in (1, 3):
        request = GenerateRequest((tmp_path / "0.png").read_bytes(), data[0].turns[:turns])
        inputs = model._processed(request.turns, model._images.get(request.image).picture)
        read_tokens = inputs.pop("input_ids")[0].tolist()
        if turns == 3 and name == "llava-1.5-7b":
            continue  # its tiny tokenizer has tokens across the border of question and answer
        assert example["input_ids"][0, : len(read_tokens)].tolist() == read_tokens
        assert example["labels"][0, len(read_tokens)] != UNKNOWN
        for key, value in inputs.items():
            if value.shape != (1, len(read_tokens)):
                assert torch.equal(example[key], value), key


def test_long_examples_are_cut_and_long_questions_refused(tmp_path, base):
    (data,) = conversations(tmp_path, QUESTION, truth(0))
    whole = encode(data, base, 2048)
    length = whole["input_ids"].shape[1]
    cut = encode(data, base, length - 7)
    for key in ("input_ids", "labels", "attention_mask"):
        assert torch.equal(cut[key], whole[key][:, :-7])
    prompt = int((whole["labels"] == UNKNOWN).sum())
    with pytest.raises(TuningError, match=rf"x\.jsonl:1: image and question take {prompt} tokens"):
        encode(data, base, prompt)


def test_batches_are_padded_on_the_right_and_score_like_their_examples(tmp_path, base, path, name):
    data = [
        *conversations(tmp_path, QUESTION, truth(0)),
        *conversations(tmp_path, "please segment the cat in the image", "a cat"),
    ]
    examples = [encode(one, base, 2048) for one in data]
    collate = Collator(base.processor.tokenizer.pad_token_id)
    batch = collate(examples)
    longest = max(example["input_ids"].shape[1] for example in examples)
    assert batch["input_ids"].shape == batch["labels"].shape == (2, longest)
    short = examples[1]["input_ids"].shape[1]
    assert (batch["labels"][1, short:] == UNKNOWN).all()
    assert not batch["attention_mask"][1, short:].any()

    model = load_model(path, torch.float32).eval()

    def summed(inputs):
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        with torch.no_grad():
            return answer_loss(model(**inputs), labels, 1)

    torch.testing.assert_close(summed(batch), summed(examples[0]) + summed(examples[1]), rtol=1e-4, atol=1e-4)


def test_loss_is_the_mean_over_labelled_tokens():
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.full((2, 5), UNKNOWN)
    labels[0, 2], labels[1, 3], labels[1, 4] = 1, 2, 6
    logprobs = logits.log_softmax(-1)
    expected = -(logprobs[0, 1, 1] + logprobs[1, 2, 2] + logprobs[1, 3, 6])
    torch.testing.assert_close(answer_loss({"logits": logits}, labels), expected / 3)
    torch.testing.assert_close(answer_loss({"logits": logits}, labels, 10), expected / 10)
    assert answer_loss({"logits": logits}, torch.full((2, 5), UNKNOWN)) == 0


def test_continuation_never_changes_what_came_before(base):
    tokenizer = base.processor.tokenizer
    for before in ("a cat:", "a cat ", "T", "x\n"):
        head = tokenizer(before, add_special_tokens=False)["input_ids"]
        tail = continuation(tokenizer, before, " a cat on a mat")
        alone = tokenizer("a cat on a mat", add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(head + tail).endswith("a cat on a mat")
        assert len(tail) <= len(alone) + 2


def test_a_damaged_image_is_named(tmp_path, base):
    (data,) = conversations(tmp_path, QUESTION, truth(0))
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(TuningError, match=r"x\.jsonl:1: cannot read .*0\.png"):
        encode(data, base, 2048)


def test_a_recipe_that_does_not_fit_its_base(path, name):
    if name == NANO:
        with pytest.raises(TuningError, match='answers = "apart"'):
            load_base(path, Recipe(grid=(4, 4)))
        with pytest.raises(TuningError, match="grid of 4"):
            load_base(path, Recipe(answers="apart"))
    with pytest.raises(TuningError, match="no backbone is called 'nobody'"):
        load_base(path, Recipe(backbone="nobody"))
    with pytest.raises(TuningError, match="cannot be fine-tuned here"):
        load_base(path, Recipe(backbone="qwen-vl-7b"))
    other = "smolvlm2-2.2b" if name != "smolvlm2-2.2b" else "llava-1.5-7b"
    with pytest.raises(CheckpointError, match="and the model is of type"):
        load_base(path, Recipe(backbone=other))


def test_a_base_that_is_none(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load_base(tmp_path / "nowhere", Recipe())
    (tmp_path / "config.json").write_text('{"model_type": "llava_llama"}')
    with pytest.raises(CheckpointError, match=r"llava_llama.*LLaVA-1\.5.*docs/backbones\.md"):
        load_base(tmp_path, Recipe())
