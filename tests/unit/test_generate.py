import asyncio
from contextlib import aclosing

import numpy as np
import pytest

from services.chassis.admission import Gate
from services.generator.generate import Generate
from services.generator.scripted_model import Script, ScriptedModel
from text4seg.descriptors import decode_strict
from text4seg.dialogue import find_blocks, referring_question
from text4seg.errors import ImageInvalidError, OverloadedError
from text4seg.segmentation import DescriptorConstraint, FinishReason, GenerateRequest, Turn


def any_image(data):
    return np.zeros((8, 8, 3), dtype=np.uint8)


def ask(label="cat", **fields):
    return GenerateRequest(
        image=b"image",
        turns=(Turn("user", referring_question(label)),),
        constraint=DescriptorConstraint((label,)),
        **fields,
    )


def use_case(script=Script.BOX, queue=4, **options):
    return Generate(ScriptedModel(script, any_image, **options), Gate(1, queue))


async def collect(generate, request):
    return [chunk async for chunk in generate(request)]


def grid_of(chunks, label):
    (block,) = find_blocks("".join(chunk.text for chunk in chunks))
    return decode_strict(block.text, (16, 16), [label])


async def test_the_fake_says_that_it_is_one():
    info = use_case().info
    assert info.engine == "scripted"
    assert "fake" in info.model


async def test_box_script_depends_on_the_label_alone():
    generate = use_case()
    cat, again, dog = [grid_of(await collect(generate, ask(label)), label) for label in ("cat", "cat", "dog")]
    assert cat == again
    assert 0 < cat.cells.sum() < cat.cells.size
    assert not np.array_equal(cat.cells, dog.cells)


async def test_others_script_finds_nothing():
    assert not grid_of(await collect(use_case(Script.OTHERS), ask()), "cat").cells.any()


async def test_log_probabilities_only_when_asked_for():
    generate = use_case()
    assert not any(chunk.logprobs for chunk in await collect(generate, ask()))
    tokens = [token for chunk in await collect(generate, ask(logprobs=True)) for token in chunk.logprobs]
    assert tokens
    assert all(token.logprob < 0 for token in tokens)


async def test_token_limit_cuts_the_answer():
    chunks = await collect(use_case(), ask(max_tokens=5, logprobs=True))
    assert chunks[-1].finish.reason is FinishReason.LENGTH
    assert sum(len(chunk.logprobs) for chunk in chunks) == 5


async def test_time_in_the_queue_is_reported():
    generate = use_case(delay_s=0.001)
    first, second = await asyncio.gather(collect(generate, ask("cat")), collect(generate, ask("dog")))
    assert first[-1].finish.queue_s < second[-1].finish.queue_s


async def test_one_call_at_a_time():
    model = ScriptedModel(Script.BOX, any_image, delay_s=0.001)
    generate = Generate(model, Gate(1, 4))
    order = []

    async def run(name):
        async for _ in generate(ask(name)):
            order.append(name)

    await asyncio.gather(run("cat"), run("dog"))
    assert order == sorted(order)


async def test_full_queue_refuses():
    generate = use_case(queue=0, delay_s=0.001)
    async with aclosing(generate(ask())) as chunks:
        await anext(chunks)
        with pytest.raises(OverloadedError):
            await collect(generate, ask())


async def test_leaving_early_gives_the_place_back():
    generate = use_case(queue=0, delay_s=0.001)
    async with aclosing(generate(ask())) as chunks:
        await anext(chunks)
    assert (await collect(generate, ask()))[-1].finish is not None


async def test_error_gives_the_place_back():
    def refuse(data):
        raise ImageInvalidError("image", "is no image")

    generate = Generate(ScriptedModel(Script.BOX, refuse), Gate(1, 0))
    for _ in range(2):
        with pytest.raises(ImageInvalidError):
            await collect(generate, ask())
