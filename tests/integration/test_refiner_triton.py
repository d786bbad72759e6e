"""The refiner's models in a real Triton server."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from deploy.triton.serve import free_address
from services.chassis.server import start_server
from services.refiner.__main__ import build
from services.refiner.grabcut_model import GrabCutModel
from services.refiner.refine import Embedding
from services.refiner.settings import RefinerSettings
from services.refiner.triton_host import RefinerHost
from services.refiner.triton_model import TritonMaskModel, open_triton_models
from tests.serving import request as segment_request
from tests.serving import serving
from tests.triton_server import MASKS, Triton, triton_server
from text4seg.errors import (
    InternalError,
    ModelLoadingError,
    OptionInvalidError,
    OverloadedError,
    PeerUnavailableError,
)
from text4seg.segmentation import RefineMode
from text4seg.v1 import refiner_service_pb2
from text4seg.v1.refiner_service_pb2_grpc import RefinerServiceStub
from text4seg.wire import error_from_rpc, segment_answer_from_proto, segment_request_to_proto

COARSE = np.zeros((16, 16), dtype=np.float32)
COARSE[2:9, 3:12] = 1
SETTINGS = {"model": "triton", "triton_model": MASKS}


def image(seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def opened(triton: Triton, model: str = MASKS) -> Any:
    return open_triton_models(triton.url, model, 60.0, 10.0, lambda reachable: None)


async def decode(model: TritonMaskModel, seed: int = 0) -> Any:
    return await asyncio.to_thread(model.decode, model.embed(image(seed)), [COARSE], seed)


async def test_a_model_in_triton_answers_as_it_does_here(triton: Triton) -> None:
    here = GrabCutModel()
    async with opened(triton) as models:
        assert [model.name for model in models] == ["grabcut", "identity"]
        assert (models[0].version, models[0].batch) == (here.version, here.batch)
        for seed in range(3):
            (there,) = await decode(models[0], seed)
            (mask,) = here.decode(here.embed(image(seed)), [COARSE], seed)
            np.testing.assert_array_equal(there.mask, mask.mask)
            assert there.score == pytest.approx(mask.score, abs=1e-6)


async def test_callers_choose_among_triton_s_models(triton: Triton) -> None:
    async with serving(refiner={**SETTINGS, "triton_url": triton.url}) as suite:
        answers = [
            segment_answer_from_proto(await suite.stub.Segment(segment_request_to_proto(asked), timeout=60))
            for asked in (
                segment_request("cat", refine=RefineMode.REQUIRED),
                segment_request("cat", refine=RefineMode.REQUIRED, refiner_model="identity"),
            )
        ]
    assert "grabcut" in answers[0].versions.refiner
    assert "identity" in answers[1].versions.refiner
    assert all(region.refined for answer in answers for region in answer.regions)


async def test_a_killed_triton_is_unavailable_and_heals(tmp_path: Path) -> None:
    address = free_address()

    def start(stack: ExitStack) -> Triton:
        return stack.enter_context(triton_server(tmp_path, {MASKS: {"model": "identity"}}, address=address))

    with ExitStack() as stack:
        triton = await asyncio.to_thread(start, stack)
        async with serving(refiner={**SETTINGS, "triton_url": address}) as suite:
            asked = segment_request_to_proto(segment_request("cat", refine=RefineMode.REQUIRED))
            other = segment_request_to_proto(segment_request("dog", refine=RefineMode.REQUIRED))
            assert (await suite.stub.Segment(asked, timeout=60)).regions

            triton.server.process.kill()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await suite.stub.Segment(other, timeout=60)
            assert isinstance(error_from_rpc(caught.value), PeerUnavailableError)
            await until(suite, serving_=False)

            await asyncio.to_thread(start, stack)
            await until(suite, serving_=True)
            assert (await suite.stub.Segment(other, timeout=60)).regions


async def until(suite: Any, *, serving_: bool) -> None:
    """Wait until the refiner's health is as expected; the test's own limit ends it."""
    while suite.refiner.health.serving is not serving_:
        await asyncio.sleep(0.05)


async def test_a_full_queue_refuses(triton: Triton) -> None:
    large = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    async with opened(triton) as models:
        grabcut = models[0]
        embedding = grabcut.embed(large)

        def ask(seed: int) -> Any:
            try:
                return grabcut.decode(embedding, [COARSE], seed)
            except OverloadedError as error:
                return error

        with ThreadPoolExecutor(40) as threads:
            loop = asyncio.get_running_loop()
            results = await asyncio.gather(*(loop.run_in_executor(threads, ask, seed) for seed in range(40)))
    refused = [result for result in results if isinstance(result, OverloadedError)]
    assert 0 < len(refused) <= 40 - 16


async def test_what_a_model_does_not_take_is_told(triton: Triton) -> None:
    async with opened(triton) as models:
        empty = Embedding((0, 0), np.zeros((0, 0, 3), dtype=np.uint8), 0)
        with pytest.raises(OptionInvalidError) as caught:
            await asyncio.to_thread(models[0].decode, empty, [COARSE], 0)
        assert caught.value.field == "image"
        assert (await decode(models[0]))[0].mask.any()


def test_inputs_of_the_host_are_checked() -> None:
    host = RefinerHost(RefinerSettings(model="identity"))
    good = {"image": image(), "coarse": COARSE[None], "model": np.array([b"identity"], dtype=np.object_)}
    assert host.answer(good, lambda: False)["scores"].shape == (1,)
    for name, bad in (
        ("image", np.zeros((3, 3), dtype=np.uint8)),
        ("coarse", COARSE),
        ("coarse", 2 * COARSE[None]),
        ("coarse", 0 * COARSE[None]),
        ("coarse", np.full((1, 2, 2), np.nan, dtype=np.float32)),
        ("model", np.array([b"sam"], dtype=np.object_)),
    ):
        with pytest.raises(OptionInvalidError) as caught:
            host.answer({**good, name: bad}, lambda: False)
        assert caught.value.field == name
    with pytest.raises(InternalError):
        host.answer({**good, "seed": np.array([b"x"], dtype=np.object_)}, lambda: False)


def test_it_cannot_ask_itself() -> None:
    with pytest.raises(ValueError, match="cannot be the model triton"):
        RefinerHost(RefinerSettings(model="triton"))


async def test_a_refiner_that_waits_for_triton_is_not_serving_and_can_be_stopped() -> None:
    settings = RefinerSettings(**{"address": "127.0.0.1:0", "triton_url": free_address(), **SETTINGS})
    service = await start_server("refiner", settings, build)
    assert not service.health.serving
    async with grpc.aio.insecure_channel(service.address) as channel:
        stub: Any = RefinerServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetRefinerInfo(refiner_service_pb2.GetRefinerInfoRequest(), timeout=30)
    assert isinstance(error_from_rpc(caught.value), ModelLoadingError)
    async with asyncio.timeout(30):
        await service.stop(0)
