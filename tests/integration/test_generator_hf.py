"""Engine ``hf`` on a checkpoint directory that was written like any other."""

import dataclasses
import json
import shutil
from contextlib import aclosing

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration, LogitsProcessor, LogitsProcessorList

from services.chassis.worker import ModelThread
from services.generator.answer_grammar import answer_language
from services.generator.hf_checkpoint import load_checkpoint
from services.generator.hf_context import HfContext
from services.generator.hf_model import HfModel, HfTextModel, load_hf_model
from tests.tiny_llava import SHAPE, image_file, read, save_tiny_llava
from text4seg.descriptors import Codec, decode_strict
from text4seg.dialogue import find_blocks, referring_question
from text4seg.errors import CheckpointError, QueryInvalidError
from text4seg.segmentation import DescriptorConstraint, FinishReason, GenerateRequest, TextChunk, Turn


def ask(label="white horse", image=None, **fields):
    return GenerateRequest(
        image=image_file() if image is None else image,
        turns=(Turn("user", referring_question(label)),),
        constraint=DescriptorConstraint((label,)),
        **fields,
    )


def never():
    return False


def text_of(model, request):
    return "".join(chunk.text for chunk in model.write(request, never))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_tiny_llava(tmp_path_factory.mktemp("tiny-llava"), seed=5)


@pytest.fixture(scope="module")
def checkpoint(path):
    return load_checkpoint(path)


@pytest.fixture
def model(checkpoint):
    return HfModel(checkpoint, "version", read, max_tokens=400, image_cache=4)


@pytest.fixture
def damaged(path, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    return copy


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("label", ["dog", "white horse", "löwe"])
def test_any_weights_write_well_formed_answers(tmp_path, seed, label):
    model = load_hf_model(save_tiny_llava(tmp_path, seed), read)
    text = text_of(model, ask(label, image_file(seed)))
    (block,) = find_blocks(text)
    assert decode_strict(block.text, SHAPE, [label]).shape == SHAPE


def test_answers_are_those_of_generate_under_the_same_mask(checkpoint, model):
    """Forced tokens share passes in ours; ``generate`` reads every token alone."""
    request = ask()
    language = answer_language(request, SHAPE, Codec.RRLE, " ")
    constraint = checkpoint.vocabulary.constraint(language)

    class Mask(LogitsProcessor):
        forced: list[int] = []  # noqa: RUF012
        started = False

        def __call__(self, input_ids, scores):
            last = int(input_ids[0, -1])
            if self.forced:
                assert last == self.forced.pop(0)
            elif self.started:
                constraint.advance([last])
            self.started = True
            if not self.forced:
                self.forced = constraint.advance_forced(1000)
            allowed = torch.zeros(scores.shape[1], dtype=torch.bool)
            if self.forced:
                allowed[self.forced[0]] = True
            elif constraint.is_complete:
                allowed[2] = True
            else:
                allowed = torch.from_numpy(constraint.allowed())
            return scores.masked_fill(~allowed, -torch.inf)

    image = model._images.get(request.image)
    inputs = model._inputs(request, image)
    output = checkpoint.model.generate(
        **inputs, max_new_tokens=400, do_sample=False, logits_processor=LogitsProcessorList([Mask()])
    )
    tokens = output[0, inputs["input_ids"].shape[1] : -1].tolist()
    spelled = b"".join(map(checkpoint.vocabulary.token_bytes, tokens)).decode()
    assert int(output[0, -1]) == 2
    assert spelled == " " + text_of(model, request)


def test_several_tokens_at_once_are_read_like_one_after_the_other(checkpoint, model):
    request = ask()
    inputs = model._inputs(request, model._images.get(request.image))
    together = HfContext(checkpoint.model, inputs)
    alone = HfContext(checkpoint.model, inputs)
    tokens = [30, 40, 50, 60]
    together.feed(tokens[:2])
    for token in tokens[:2]:
        alone.feed([token])
    first, second = together.feed(tokens[2:]), [alone.feed([token]) for token in tokens[2:]][-1]
    assert torch.allclose(first, second, atol=1e-4)


def test_image_and_conversation_reach_the_model(model):
    texts = {text_of(model, ask("dog", image_file(seed))) for seed in range(8)}
    assert len(texts) > 1


class EncodingLlava(LlavaForConditionalGeneration):
    """A LLaVA that lets callers keep what its vision tower made of an image."""

    encodings = 0

    def encode_image(self, pixel_values):
        self.encodings += 1
        return self.get_image_features(pixel_values, return_dict=True)

    def forward(self, input_ids=None, position_ids=None, image_features=None, logits_to_keep=0, **others):
        if image_features is not None:
            others["mm_encoder_outputs"] = {"image": image_features}
        return super().forward(
            input_ids=input_ids, position_ids=position_ids, logits_to_keep=logits_to_keep, **others
        )


def test_several_questions_cost_one_image_encoding(checkpoint, model):
    encoding = EncodingLlava(checkpoint.model.config).eval()
    encoding.load_state_dict(checkpoint.model.state_dict())
    shared = HfModel(
        dataclasses.replace(checkpoint, model=encoding), "version", read, max_tokens=400, image_cache=4
    )
    for label in ("dog", "white horse", "sky"):
        assert text_of(shared, ask(label)) == text_of(model, ask(label))
    assert encoding.encodings == 1
    text_of(shared, ask("dog", image_file(9)))
    assert encoding.encodings == 2


def test_cancelled_answer_stops(model):
    chunks = []
    for chunk in model.write(ask(), lambda: len(chunks) >= 2):
        chunks.append(chunk)
    assert len(chunks) == 2
    assert all(chunk.finish is None for chunk in chunks)


async def test_leaving_the_answer_stops_the_model(model):
    passes = []

    class Endless(HfModel):
        def write(self, request, cancelled):
            while not cancelled():
                passes.append(request)
                yield TextChunk("word ")

    endless = Endless(model._checkpoint, "version", read, max_tokens=400, image_cache=4)
    async with ModelThread() as thread:
        async with aclosing(HfTextModel(endless, thread).write(ask())) as chunks:
            await anext(chunks)
        written = await thread.run(lambda: len(passes))
        assert await thread.run(lambda: len(passes)) == written


def test_answer_sentence_is_free(model):
    chunks = list(model.write(ask(), never))
    finish = chunks[-1].finish
    assert chunks[0].text.startswith("Sure, here is the segmentation mask for 'white horse':\n<seg>")
    assert all(token.logprob == 0.0 for token in chunks[0].logprobs)
    assert finish.forced_tokens > finish.completion_tokens // 3


def test_long_conversation_is_refused(model):
    request = dataclasses.replace(ask(), turns=(Turn("user", "many words " * 200),))
    with pytest.raises(QueryInvalidError, match="512"):
        text_of(model, request)


def test_answer_stays_inside_the_context(model):
    turns = (Turn("user", "many words " * 40),)
    *_, last = model.write(GenerateRequest(image_file(), turns, DescriptorConstraint(())), never)
    assert last.finish.prompt_tokens + last.finish.completion_tokens <= 512
    assert last.finish.reason is FinishReason.LENGTH


@pytest.mark.parametrize("text", ["what is <image> here", "bye</s>", "<s>"])
def test_control_tokens_from_callers_are_refused(model, text):
    with pytest.raises(QueryInvalidError, match="control text") as caught:
        text_of(model, dataclasses.replace(ask(), turns=(Turn("user", text),)))
    assert caught.value.field == "turns[0].text"
    with pytest.raises(QueryInvalidError, match="control text") as caught:
        text_of(model, dataclasses.replace(ask(), constraint=DescriptorConstraint(("dog", text))))
    assert caught.value.field == "constraint.labels[1]"


def test_version_follows_the_weights(path, tmp_path):
    other = save_tiny_llava(tmp_path, seed=6)
    versions = [load_hf_model(directory, read).info.version for directory in (path, path, other)]
    assert versions[0] == versions[1] != versions[2]
    assert load_hf_model(path, read, dtype="bfloat16").info.version != versions[0]


def test_half_precision_runs(path):
    model = load_hf_model(path, read, dtype="bfloat16")
    (block,) = find_blocks(text_of(model, ask("dog")))
    assert decode_strict(block.text, SHAPE, ["dog"]).shape == SHAPE


def remove(name):
    return lambda directory: (directory / name).unlink()


def truncate(directory):
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def edit_config(**changes):
    def edit(directory):
        config = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps({**config, **changes}))

    return edit


def drop_a_weight(directory):
    weights = load_file(directory / "model.safetensors")
    weights.pop(min(weights))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove("config.json"), r"no config\.json"),
        (remove("model.safetensors"), "has no weights"),
        (remove("tokenizer.json"), "has no tokenizer"),
        (remove("processor_config.json"), "has no processor"),
        (remove("chat_template.jinja"), "has no chat template"),
        (truncate, "model"),
        (drop_a_weight, "lacks 1 weights"),
        (edit_config(model_type="llama9000"), "llama9000"),
        (edit_config(text4seg=None), "text4seg"),
        (lambda directory: (directory / "tokenizer.json").write_text("{"), "processor"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_damaged_checkpoint_is_one_clear_line(damaged, damage, says):
    damage(damaged)
    with pytest.raises(CheckpointError, match=says) as caught:
        load_hf_model(damaged, read)
    assert "\n" not in str(caught.value)
    assert str(damaged) in str(caught.value)
