"""Engine ``triton`` against a real Triton server."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.triton.serve import MODELS, TritonSetupError, free_address, running
from services.chassis.logs import begin_request
from services.chassis.server import RunningService, start_server
from services.chassis.worker import ModelThread
from services.generator.__main__ import build
from services.generator.hf_model import HfTextModel, load_hf_model
from services.generator.settings import BUNDLED_CHECKPOINT, GeneratorSettings
from services.generator.triton.model import TritonTextModel
from tests.serving import picture, serving
from tests.serving import request as segment_request
from tests.tiny_llava import image_file, read
from tests.triton_server import NANO, SLOW, Triton, triton_model, triton_server
from text4seg.dialogue import conditioned_question, open_question, referring_question
from text4seg.errors import (
    DeadlineExceededError,
    ImageInvalidError,
    OverloadedError,
    PeerUnavailableError,
    QueryInvalidError,
    Text4SegError,
)
from text4seg.segmentation import DescriptorConstraint, FinishReason, GenerateRequest, TextChunk, Turn
from text4seg.v1 import generator_service_pb2 as pb
from text4seg.v1.generator_service_pb2_grpc import GeneratorServiceStub
from text4seg.wire import error_from_rpc, generate_request_to_proto, segment_request_to_proto

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def asking(
    labels: tuple[str, ...] | None = ("dog",), question: str = "", seed: int = 0, **fields: Any
) -> GenerateRequest:
    text = question or referring_question((labels or ("dog",))[0])
    constraint = None if labels is None else DescriptorConstraint(labels)
    turns = fields.pop("turns", (Turn("user", text),))
    return GenerateRequest(image_file(seed), turns, constraint, logprobs=True, **fields)


async def collect(model: Any, request: GenerateRequest) -> list[TextChunk]:
    async with aclosing(model.write(request)) as chunks:
        return [chunk async for chunk in chunks]


@pytest.fixture
async def nano(triton: Triton) -> AsyncIterator[TritonTextModel]:
    async with triton_model(triton) as model:
        yield model


@pytest.fixture
async def slow(triton: Triton) -> AsyncIterator[TritonTextModel]:
    async with triton_model(triton, SLOW) as model:
        yield model


@pytest.fixture
async def hf() -> AsyncIterator[HfTextModel]:
    async with ModelThread() as thread:
        yield HfTextModel(await thread.run(lambda: load_hf_model(BUNDLED_CHECKPOINT, read)), thread)


CONVERSATION = (
    Turn("user", "What is “there”, łaskawie?"),
    Turn("assistant", "A dog.\nAnd a tree."),
    Turn("user", referring_question("tree")),
)


@pytest.mark.parametrize(
    "request_",
    [
        asking(),
        asking(("dog", "sky", "tree"), conditioned_question(["dog", "sky", "tree"]), seed=3),
        asking((), open_question(), max_tokens=60),
        asking(None, "What does the image show?", max_tokens=25),
        asking(("tree",), turns=CONVERSATION, max_tokens=40),
    ],
    ids=["referring", "labels", "open", "chat", "conversation"],
)
async def test_it_writes_what_engine_hf_writes(
    nano: TritonTextModel, hf: HfTextModel, request_: GenerateRequest
) -> None:
    there, here = await collect(nano, request_), await collect(hf, request_)

    assert [chunk.text for chunk in there] == [chunk.text for chunk in here]
    assert [chunk.logprobs for chunk in there] == [chunk.logprobs for chunk in here]
    ends = [chunks[-1].finish for chunks in (there, here)]
    counts = [
        (end.reason, end.prompt_tokens, end.completion_tokens, end.forced_tokens) for end in ends if end
    ]
    assert counts[0] == counts[1]


async def test_it_is_the_same_model_and_says_where_it_runs(nano: TritonTextModel, hf: HfTextModel) -> None:
    assert nano.info.engine == "triton"
    assert (nano.info.model, nano.info.shape, nano.info.codec) == (
        hf.info.model,
        hf.info.shape,
        hf.info.codec,
    )
    # Answers of the two may be compared and cached as one; only the token limits of the loaders differ here.
    assert nano.info.version == hf.info.version


async def test_leaving_stops_the_model(triton: Triton, slow: TritonTextModel) -> None:
    name = begin_request(None)
    async with aclosing(slow.write(asking())) as chunks:
        first = await anext(chunks)
    whole = await collect(slow, asking())
    record = await asyncio.to_thread(triton.call, name)

    assert first.finish is None
    assert record["code"] == "CANCELLED"
    assert record["tokens"] < sum(len(chunk.logprobs) for chunk in whole)


async def test_a_full_queue_refuses(slow: TritonTextModel) -> None:
    results = await asyncio.gather(*(collect(slow, asking()) for _ in range(6)), return_exceptions=True)

    refused = [result for result in results if isinstance(result, BaseException)]
    assert 0 < len(refused) <= 4  # one at work, one that waits
    for error in refused:
        assert isinstance(error, OverloadedError)
        assert "queue" in error.message
        assert error.retry_after_s > 0


async def test_the_time_limit_of_one_answer(triton: Triton) -> None:
    name = begin_request(None)
    async with triton_model(triton, SLOW, timeout_s=0.2) as model:
        with pytest.raises(PeerUnavailableError, match="did not answer within"):
            await collect(model, asking())
    assert (await asyncio.to_thread(triton.call, name))["code"] in ("CANCELLED", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize(
    ("request_", "error", "field"),
    [
        (GenerateRequest(b"no image", (Turn("user", "?"),)), ImageInvalidError, "image"),
        (GenerateRequest(b"", (Turn("user", "?"),)), ImageInvalidError, "image"),
        (asking(turns=()), QueryInvalidError, "turns"),
        (asking(None, "a <|image|> b <image> </s> <|end|> <|user|>"), QueryInvalidError, "turns[0].text"),
    ],
)
async def test_what_the_model_refuses_comes_back_by_name(
    nano: TritonTextModel, request_: GenerateRequest, error: type[Text4SegError], field: str
) -> None:
    with pytest.raises(error) as caught:
        await collect(nano, request_)
    assert getattr(caught.value, "field", None) == field
    assert (await collect(nano, asking(max_tokens=3)))[-1].finish is not None


async def test_a_model_that_triton_does_not_have(triton: Triton) -> None:
    with pytest.raises(PeerUnavailableError, match="not ready"):
        async with triton_model(triton, "nobody"):
            pass


async def test_large_images_pass(nano: TritonTextModel) -> None:
    data = picture(900, 1100, file_format="BMP")
    assert len(data) > 2 << 20
    chunks = await collect(nano, GenerateRequest(data, (Turn("user", "?"),), None, max_tokens=2))
    assert chunks[-1].finish is not None
    assert chunks[-1].finish.reason is FinishReason.LENGTH


# Any client of Triton, over HTTP: what the engine never asks for.


async def post(triton: Triton, model: str = NANO, **inputs: Any) -> dict[str, Any]:
    """Ask over the endpoint ``generate``; without an answer, what the error says."""
    body = json.dumps({"image": base64.b64encode(image_file()).decode(), **inputs}).encode()
    url = f"http://{triton.server.http_address}/v2/models/{model}/generate"

    def ask() -> Any:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)

    answer: dict[str, Any] = await asyncio.to_thread(ask)
    return answer


async def test_a_plain_question_gets_one_answer_behind_it(triton: Triton) -> None:
    answer = await post(triton, text_input="Hello?", sampling_parameters='{"max_tokens": 5}')
    alone = await post(
        triton,
        text_input="Hello?",
        sampling_parameters='{"max_tokens": 5, "temperature": 0}',
        exclude_input_in_output=True,
        return_finish_reason=True,
        return_logprobs=True,
        return_cumulative_logprob=True,
        return_num_input_tokens=True,
        return_num_output_tokens=True,
    )
    assert answer["text_output"] == "Hello?" + alone["text_output"]
    assert alone["finish_reason"] in ("length", "stop")
    tokens = [next(iter(choices.values())) for choices in json.loads(alone["logprobs"])]
    assert "".join(token["decoded_token"] for token in tokens) == alone["text_output"]
    assert alone["cumulative_logprob"] == pytest.approx(sum(token["logprob"] for token in tokens), abs=1e-4)
    assert alone["num_output_tokens"] == len(tokens)
    assert alone["num_input_tokens"] == json.loads(alone["usage"])["promptTokens"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"sampling_parameters": "{"}, "sampling_parameters: is not JSON"),
        ({"sampling_parameters": "[]"}, "sampling_parameters: is not a JSON object"),
        ({"sampling_parameters": '{"temperature": 0.7}'}, "sampling_parameters.temperature"),
        ({"sampling_parameters": '{"top_k": 1}'}, "sampling_parameters.top_k"),
        ({"sampling_parameters": '{"max_tokens": "many"}'}, "sampling_parameters.max_tokens"),
        ({"text_input": '{"turns": 3}'}, "text_input: is no JSON of a GenerateRequest"),
        ({"image": "%%"}, "image: is not in base64"),
        ({"image": []}, "image"),
        ({"stream": True, "exclude_input_in_output": False}, "exclude_input_in_output"),
    ],
)
async def test_a_bad_input_is_named(triton: Triton, inputs: dict[str, Any], said: str) -> None:
    answer = await post(triton, **{"text_input": "?", **inputs})
    assert said in answer["error"]


# Behind the services.


@asynccontextmanager
async def generator(**settings: Any) -> AsyncIterator[tuple[GeneratorServiceStub, RunningService]]:
    chosen = GeneratorSettings(
        **{"address": "127.0.0.1:0", "drain_s": 0, "engine": "triton", "triton_model": SLOW, **settings}
    )
    service = await start_server("generator", chosen, build)
    try:
        await service.wait_serving()
        async with grpc.aio.insecure_channel(service.address) as channel:
            yield GeneratorServiceStub(channel), service  # type: ignore[no-untyped-call]
    finally:
        await service.stop()


async def status(service: RunningService) -> int:
    async with grpc.aio.insecure_channel(service.address) as channel:
        response = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=30
        )
        return int(response.status)


async def until(expected: int, *services: RunningService) -> None:
    """Wait until the health of all is as expected; the test's own limit ends it."""
    while {await status(service) for service in services} != {expected}:
        await asyncio.sleep(0.05)


async def test_the_callers_deadline_stops_the_model(triton: Triton) -> None:
    name = begin_request(None)
    async with generator(triton_url=triton.url) as (stub, service):
        await until(SERVING, service)
        call: Any = stub.Generate(
            generate_request_to_proto(asking()), timeout=0.3, metadata=(("x-request-id", name),)
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            [response async for response in call]
    assert isinstance(error_from_rpc(caught.value), DeadlineExceededError)
    # Triton knows the deadline and is told that the call has ended: whichever comes first.
    assert (await asyncio.to_thread(triton.call, name))["code"] in ("CANCELLED", "DEADLINE_EXCEEDED")


async def test_overload_passes_through_the_generator(triton: Triton) -> None:
    async with generator(triton_url=triton.url, concurrency=8) as (stub, service):
        await until(SERVING, service)

        async def ask() -> Any:
            call: Any = stub.Generate(generate_request_to_proto(asking()), timeout=60)
            return [response async for response in call]

        results = await asyncio.gather(*(ask() for _ in range(5)), return_exceptions=True)
    errors = [error_from_rpc(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert 0 < len(errors) <= 3
    assert all(isinstance(error, OverloadedError) for error in errors)


async def test_a_killed_triton_is_unavailable_and_heals(tmp_path: Path) -> None:
    address = free_address()
    models = {SLOW: {"engine": "scripted", "script_delay_s": "0.05"}}

    def start(stack: ExitStack) -> Triton:
        return stack.enter_context(triton_server(tmp_path, models, address=address))

    with ExitStack() as stack:
        triton = await asyncio.to_thread(start, stack)
        settings = {"engine": "triton", "triton_url": address, "triton_model": SLOW}
        async with serving(generator=settings, orchestrator={"peer_refresh_s": 0.2}) as suite:
            both = (suite.generator, suite.orchestrator)
            asked = segment_request_to_proto(segment_request("cat"))
            await until(SERVING, *both)
            assert (await suite.stub.Segment(asked, timeout=60)).regions

            triton.server.process.send_signal(signal.SIGKILL)
            await until(NOT_SERVING, *both)
            other = segment_request_to_proto(segment_request("dog"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await suite.stub.Segment(other, timeout=60)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert isinstance(error_from_rpc(caught.value), PeerUnavailableError)

            await asyncio.to_thread(start, stack)
            await until(SERVING, *both)
            assert (await suite.stub.Segment(other, timeout=60)).regions


async def test_triton_that_dies_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    models = {SLOW: {"engine": "scripted", "script_delay_s": "0.05"}}
    with ExitStack() as stack:
        triton = await asyncio.to_thread(lambda: stack.enter_context(triton_server(tmp_path, models)))
        async with triton_model(triton, SLOW) as model, aclosing(model.write(asking())) as chunks:
            await anext(chunks)
            triton.server.process.kill()
            with pytest.raises(PeerUnavailableError):
                async for _ in chunks:
                    pass


async def test_the_generator_starts_before_triton(tmp_path: Path) -> None:
    async with generator(triton_url=free_address()) as (stub, service):
        assert await status(service) == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetGeneratorInfo(pb.GetGeneratorInfoRequest(), timeout=30)  # type: ignore[misc]
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


# Set-up that cannot work says so.


def test_a_checkpoint_that_is_not_there_stops_triton(tmp_path: Path) -> None:
    with (
        pytest.raises(TritonSetupError, match="ended with exit code"),
        triton_server(tmp_path, {"lost": {"checkpoint": str(tmp_path / "nowhere")}}),
    ):
        pass
    assert "nowhere" in (tmp_path / "triton.log").read_text("utf-8", errors="replace")


def test_a_model_in_triton_may_not_ask_triton(tmp_path: Path) -> None:
    with (
        pytest.raises(TritonSetupError, match="ended with exit code"),
        triton_server(tmp_path, {"circle": {"engine": "triton"}}),
    ):
        pass
    assert "cannot use the engine triton" in (tmp_path / "triton.log").read_text("utf-8", errors="replace")


def test_a_repository_without_the_model(tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("wb") as log,
        pytest.raises(TritonSetupError, match="ended with exit code"),
        running(MODELS, ("nobody",), log=log),
    ):
        pass
