"""GeneratorService over real gRPC."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import grpc
import pytest

from services.chassis.server import start_server
from services.generator.__main__ import build
from services.generator.settings import GeneratorSettings
from tests.tiny_llava import SHAPE, image_file, save_tiny_llava
from text4seg.descriptors import decode_strict
from text4seg.dialogue import find_blocks, referring_question
from text4seg.errors import (
    CheckpointError,
    DeadlineExceededError,
    ImageInvalidError,
    LabelInvalidError,
    OptionInvalidError,
    OverloadedError,
    QueryInvalidError,
)
from text4seg.scores import Calibration, Calibrations
from text4seg.v1 import generator_service_pb2 as pb
from text4seg.v1.generator_service_pb2_grpc import GeneratorServiceStub
from text4seg.wire import error_from_rpc, generator_info_from_proto


def ask(label="dog", **fields):
    return pb.GenerateRequest(
        **{
            "image": image_file(),
            "turns": [pb.Turn(role=pb.ROLE_USER, text=referring_question(label))],
            "constraint": pb.DescriptorConstraint(labels=[label]),
            **fields,
        }
    )


@asynccontextmanager
async def serving(**settings):
    service = await start_server(
        "generator", GeneratorSettings(address="127.0.0.1:0", drain_s=0, **settings), build
    )
    try:
        await service.wait_serving()
        async with grpc.aio.insecure_channel(service.address) as channel:
            yield GeneratorServiceStub(channel)
    finally:
        await service.stop()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_llava(tmp_path_factory.mktemp("tiny-llava"), seed=2)


async def collect(stub, request, **options):
    return [response async for response in stub.Generate(request, **options)]


@pytest.fixture(params=["scripted", "hf"])
def engine(request, checkpoint):
    return {"engine": request.param, "checkpoint": checkpoint}


async def test_answer_streams_and_decodes(engine):
    async with serving(**engine) as stub:
        info = generator_info_from_proto(await stub.GetGeneratorInfo(pb.GetGeneratorInfoRequest()))
        responses = await collect(stub, ask(logprobs=True))
    assert info.engine == engine["engine"]
    assert len(responses) > 1
    text = "".join(response.text for response in responses)
    (block,) = find_blocks(text)
    assert decode_strict(block.text, info.shape, ["dog"], info.codec).mask("dog").shape == info.shape
    assert [response.HasField("finish") for response in responses[:-1]] == [False] * (len(responses) - 1)
    assert responses[-1].finish.reason == pb.FINISH_REASON_STOP
    tokens = [token for response in responses for token in response.logprobs]
    assert len(tokens) == responses[-1].finish.completion_tokens
    assert tokens[-1].end == len(text)


async def test_info_is_what_the_checkpoint_says(checkpoint):
    async with serving(checkpoint=checkpoint) as stub:
        info = generator_info_from_proto(await stub.GetGeneratorInfo(pb.GetGeneratorInfoRequest()))
    assert (info.model, info.engine, info.shape) == ("tiny-llava", "hf", SHAPE)
    assert info.calibration == Calibrations(Calibration(1.5, -0.25))


async def test_questions_asked_at_once_are_answered_in_turn(checkpoint):
    labels = ["dog", "white horse", "sky", "dog"]
    async with serving(checkpoint=checkpoint) as stub:
        answers = await asyncio.gather(*(collect(stub, ask(label)) for label in labels))
    texts = ["".join(response.text for response in responses) for responses in answers]
    for label, text in zip(labels, texts, strict=True):
        assert f"'{label}'" in text
    assert texts[0] == texts[3]


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"image": b""}, ImageInvalidError, "image"),
        ({"image": b"nonsense"}, ImageInvalidError, "image"),
        ({"image": image_file()[:200]}, ImageInvalidError, "image"),
        ({"image": image_file(size=(200, 200))}, ImageInvalidError, "image"),
        ({"turns": []}, QueryInvalidError, "turns"),
        ({"turns": [pb.Turn(role=pb.ROLE_USER, text="a\x00b")]}, QueryInvalidError, "turns[0].text"),
        ({"constraint": pb.DescriptorConstraint(labels=["a|b"])}, LabelInvalidError, "constraint.labels[0]"),
        ({"max_tokens": -1}, OptionInvalidError, "max_tokens"),
    ],
)
async def test_bad_request_is_refused_by_name(engine, fields, error, field):
    async with serving(**engine, max_image_pixels=100 * 100) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(stub, ask(**fields))
        refusal = error_from_rpc(caught.value)
        assert isinstance(refusal, error)
        assert refusal.field == field
        assert await collect(stub, ask())


async def test_full_queue_says_when_to_come_back():
    async with serving(engine="scripted", queue=0, script_delay_s=0.1) as stub:
        first = stub.Generate(ask())
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(stub, ask())
        refusal = error_from_rpc(caught.value)
        assert isinstance(refusal, OverloadedError)
        assert refusal.retry_after_s > 0
        while (response := await first.read()) is not grpc.aio.EOF:
            last = response
        assert last.HasField("finish")


async def answered(stub):
    """Ask; False when the queue is full."""
    try:
        return bool(await collect(stub, ask("cat")))
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False


async def test_cancelled_caller_gives_the_model_back():
    async with serving(engine="scripted", queue=0, script_delay_s=0.02) as stub:
        for _ in range(3):
            call = stub.Generate(ask())
            await call.read()
            call.cancel()
            # The place is free as soon as the server has noticed; until then the queue is full.
            while not await answered(stub):
                await asyncio.sleep(0.01)


async def test_deadline_ends_the_call():
    async with serving(engine="scripted", script_delay_s=30) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(stub, ask(), timeout=0.3)
        assert isinstance(error_from_rpc(caught.value), DeadlineExceededError)


async def test_missing_checkpoint_stops_the_service(tmp_path):
    service = await start_server(
        "generator", GeneratorSettings(address="127.0.0.1:0", checkpoint=tmp_path / "nowhere"), build
    )
    with pytest.raises(CheckpointError, match="nowhere"):
        await service.wait_serving()
    await service.stop()


def start_process(**settings):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("T4S_")} | {
        f"T4S_GENERATOR_{name.upper()}": str(value) for name, value in settings.items()
    }
    return subprocess.Popen(
        [sys.executable, "-m", "services.generator"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_process_with_a_damaged_checkpoint_ends_with_one_line(checkpoint, tmp_path):
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    with start_process(address="127.0.0.1:0", checkpoint=tmp_path) as process:
        _, errors = process.communicate(timeout=120)
    (line,) = errors.splitlines()
    assert process.returncode == 1
    assert "has no weights" in line


def test_process_serves_until_it_is_told_to_stop():
    with start_process(address="127.0.0.1:0", engine="scripted") as process:
        assert any('"serving"' in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
