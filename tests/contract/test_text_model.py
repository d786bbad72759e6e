"""What every text model promises, whichever engine runs it."""

from contextlib import aclosing
from pathlib import Path

import pytest

from services.chassis.worker import ModelThread
from services.generator.hf_model import HfTextModel, load_hf_model
from services.generator.scripted_model import Script, ScriptedModel
from tests.tiny_llava import SHAPE, image_file, read, save_tiny_llava
from tests.triton_server import triton_model
from text4seg.descriptors import decode_strict
from text4seg.dialogue import conditioned_question, find_blocks, open_question, referring_question
from text4seg.errors import ImageInvalidError
from text4seg.grammar import DescriptorGrammar
from text4seg.segmentation import DescriptorConstraint, FinishReason, GenerateRequest, Turn

NANO = Path(__file__).resolve().parents[2] / "models" / "nano"


@pytest.fixture(scope="module")
def tiny_llava(tmp_path_factory):
    return save_tiny_llava(tmp_path_factory.mktemp("tiny-llava"), seed=1)


@pytest.fixture(params=["scripted", "hf", "nano", "triton"])
async def model(request, tiny_llava):
    if request.param == "scripted":
        yield ScriptedModel(Script.BOX, read, shape=SHAPE)
        return
    if request.param == "triton":
        async with triton_model(request.getfixturevalue("triton")) as engine:
            yield engine
        return
    async with ModelThread() as thread:
        path = tiny_llava if request.param == "hf" else NANO
        yield HfTextModel(await thread.run(lambda: load_hf_model(path, read)), thread)


def request_for(question, labels, **fields):
    constraint = None if labels is None else DescriptorConstraint(labels)
    return GenerateRequest(image_file(), (Turn("user", question),), constraint, logprobs=True, **fields)


async def collect(model, request):
    async with aclosing(model.write(request)) as chunks:
        return [chunk async for chunk in chunks]


def text_of(chunks):
    return "".join(chunk.text for chunk in chunks)


REFERRING = (referring_question("dog"), ("dog",))
CONDITIONED = (conditioned_question(["dog", "sky", "tree"]), ("dog", "sky", "tree"))


@pytest.mark.parametrize(("question", "labels"), [REFERRING, CONDITIONED])
async def test_constrained_answer_decodes_strictly(model, question, labels):
    chunks = await collect(model, request_for(question, labels))
    text = text_of(chunks)
    (block,) = find_blocks(text)
    assert block.closed
    assert block.end == len(text)
    assert decode_strict(block.text, model.info.shape, labels, model.info.codec).shape == model.info.shape
    assert chunks[-1].finish.reason is FinishReason.STOP


async def test_open_vocabulary_is_well_formed_as_far_as_it_goes(model):
    text = text_of(await collect(model, request_for(open_question(), (), max_tokens=60)))
    (block,) = find_blocks(text)
    grammar = DescriptorGrammar(model.info.shape, None, model.info.codec)
    assert grammar.read(block.text) is not None


@pytest.mark.parametrize(("question", "labels"), [REFERRING, ("Describe the image.", None)])
async def test_tokens_cover_the_text(model, question, labels):
    chunks = await collect(model, request_for(question, labels, max_tokens=80))
    position = 0
    written = 0
    for chunk in chunks:
        written += len(chunk.text)
        for token in chunk.logprobs:
            assert token.begin == position
            assert token.end >= token.begin
            assert token.logprob <= 0.0
            position = token.end
        assert position == written


async def test_finish_comes_last_and_once_and_adds_up(model):
    chunks = await collect(model, request_for(*REFERRING))
    assert [chunk.finish is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    finish = chunks[-1].finish
    assert finish.completion_tokens == sum(len(chunk.logprobs) for chunk in chunks)
    assert 0 <= finish.forced_tokens <= finish.completion_tokens
    assert finish.prompt_tokens > 0
    assert finish.prefill_s >= 0.0
    assert finish.decode_s >= 0.0


async def test_answer_comes_in_pieces(model):
    assert len(await collect(model, request_for(*REFERRING))) > 1


async def test_same_request_same_answer(model):
    request = request_for(*CONDITIONED)
    first, second = [await collect(model, request) for _ in range(2)]
    assert [chunk.text for chunk in first] == [chunk.text for chunk in second]
    assert [chunk.logprobs for chunk in first] == [chunk.logprobs for chunk in second]


async def test_token_limit(model):
    whole = text_of(await collect(model, request_for(*REFERRING)))
    chunks = await collect(model, request_for(*REFERRING, max_tokens=30))
    assert chunks[-1].finish.reason is FinishReason.LENGTH
    assert chunks[-1].finish.completion_tokens == 30
    assert whole.startswith(text_of(chunks))


async def test_leaving_early_frees_the_model(model):
    async with aclosing(model.write(request_for(*REFERRING))) as chunks:
        await anext(chunks)
    assert (await collect(model, request_for(*REFERRING)))[-1].finish is not None


async def test_conversation_goes_on(model):
    first = request_for(*REFERRING)
    answer = text_of(await collect(model, first))
    turns = (*first.turns, Turn("assistant", answer), Turn("user", referring_question("sky")))
    chunks = await collect(
        model, GenerateRequest(first.image, turns, DescriptorConstraint(("sky",)), max_tokens=40)
    )
    assert text_of(chunks)
    assert chunks[-1].finish.prompt_tokens > 10


@pytest.mark.parametrize("data", [b"no image", image_file()[:60]])
async def test_image_that_cannot_be_read(model, data):
    with pytest.raises(ImageInvalidError):
        await collect(model, GenerateRequest(data, (Turn("user", "?"),), None))


async def test_info_describes_the_model(model):
    info = model.info
    assert info.model
    assert info.version
    assert info.engine in ("hf", "triton", "scripted")
    assert min(info.shape) >= 1
    assert info.max_tokens >= 1
    assert info.template_version
