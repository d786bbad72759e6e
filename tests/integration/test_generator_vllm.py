"""Engine ``triton`` with a model of vLLM's backend: a fake of it, on a real Triton server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from services.generator.triton.model import TritonTextModel
from tests.fake_vllm import BLOCK, ENTRY
from tests.tiny_llava import image_file
from tests.triton_server import FAKE_VLLM, Triton, triton_model
from text4seg.descriptors import decode_strict
from text4seg.dialogue import find_blocks, referring_question
from text4seg.errors import ImageInvalidError, InternalError, QueryInvalidError
from text4seg.scores import Calibration, Calibrations
from text4seg.segmentation import DescriptorConstraint, FinishReason, GenerateRequest, TextChunk, Turn


@pytest.fixture
async def model(triton: Triton) -> AsyncIterator[TritonTextModel]:
    async with triton_model(triton, FAKE_VLLM) as engine:
        yield engine


async def collect(model: TritonTextModel, *turns: str, **fields: Any) -> list[TextChunk]:
    roles = ("user", "assistant") * len(turns)
    said = tuple(Turn(role, text) for role, text in zip(roles, turns, strict=False))  # type: ignore[arg-type]
    request = GenerateRequest(**{"image": image_file(), "turns": said, "logprobs": True, **fields})
    async with aclosing(model.write(request)) as chunks:
        return [chunk async for chunk in chunks]


async def test_it_is_described_by_its_configuration(model: TritonTextModel) -> None:
    assert (model.info.model, model.info.version, model.info.engine) == ("fake-vllm", "fake-1", "triton")
    assert (model.info.shape, model.info.max_tokens) == ((2, 3), 77)
    assert model.info.calibration == Calibrations(Calibration(2.0, 0.5))


async def test_the_answer_is_what_the_grammar_asks_for_without_the_lead(
    model: TritonTextModel,
) -> None:
    chunks = await collect(model, referring_question("dog"), constraint=DescriptorConstraint(("dog",)))
    text = "".join(chunk.text for chunk in chunks)
    (block,) = find_blocks(text)
    assert text.startswith("Sure")
    assert block.text == BLOCK
    assert decode_strict(block.text, model.info.shape, ["dog"]).shape == (2, 3)
    spans = [(token.begin, token.end) for chunk in chunks for token in chunk.logprobs]
    assert [begin for begin, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert spans[-1][1] == len(text)


async def test_it_is_asked_in_the_words_of_its_backbone(model: TritonTextModel) -> None:
    chunks = await collect(model, "What is this?", "A dog.", "Really?", max_tokens=9)
    prompt, size, mode, sampling = json.loads("".join(chunk.text for chunk in chunks))
    assert prompt == "USER: <image>\nWhat is this?\nASSISTANT: A dog.</s>USER: Really?\nASSISTANT:"
    assert (size, mode) == ([336, 336], "RGB")
    assert sampling == {
        "temperature": 0.0,
        "max_tokens": 9,
        "logprobs": 0,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "lora_name": "text4seg",
    }


async def test_its_own_limit_holds(model: TritonTextModel) -> None:
    for wanted in (None, 10_000):
        chunks = await collect(model, "?", max_tokens=wanted)
        assert json.loads("".join(chunk.text for chunk in chunks))[3]["max_tokens"] == ENTRY["max_tokens"]


async def test_the_finish_counts(model: TritonTextModel) -> None:
    finish = (await collect(model, "?"))[-1].finish
    assert finish is not None
    assert (finish.reason, finish.prompt_tokens, finish.completion_tokens) == (FinishReason.STOP, 600, 4)


async def test_an_error_of_the_backend_is_ours(model: TritonTextModel) -> None:
    with pytest.raises(InternalError, match="out of memory"):
        await collect(model, "fail")


@pytest.mark.parametrize("text", ["a <image> b", "</s>", "<s>"])
async def test_control_tokens_are_refused(model: TritonTextModel, text: str) -> None:
    with pytest.raises(QueryInvalidError) as caught:
        await collect(model, "?", "!", text)
    assert caught.value.field == "turns[2].text"


async def test_a_bad_image_is_refused_here(model: TritonTextModel) -> None:
    with pytest.raises(ImageInvalidError):
        await collect(model, "?", image=b"nothing")
