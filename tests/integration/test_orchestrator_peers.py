"""The orchestrator and its peers: restarts, failures, deadlines, cancellation, health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.health import Health
from services.chassis.logs import current_request_id
from services.chassis.routing import Router
from services.chassis.server import RunningService, start_server
from services.chassis.settings import ServerSettings
from services.chassis.telemetry import Telemetry
from services.generator.__main__ import build as build_generator
from services.generator.settings import GeneratorSettings
from services.orchestrator.__main__ import build as build_orchestrator
from services.orchestrator.settings import OrchestratorSettings
from tests.serving import NOWHERE, SETTINGS, request
from tests.telemetry import scrape, value
from text4seg import wire
from text4seg.errors import (
    DeadlineExceededError,
    ModelLoadingError,
    OverloadedError,
    PeerUnavailableError,
    ServiceUnavailableError,
    Text4SegError,
)
from text4seg.segmentation import CacheMode, RefineMode, SegmentAnswer, SegmentRequest
from text4seg.v1 import refiner_service_pb2 as refiner_pb2
from text4seg.v1 import segmentation_service_pb2 as pb
from text4seg.v1.refiner_service_pb2_grpc import (
    RefinerServiceServicer,
    add_RefinerServiceServicer_to_server,
)
from text4seg.v1.segmentation_service_pb2_grpc import SegmentationServiceStub

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def running(name: str, settings: ServerSettings, build: Any) -> AsyncIterator[RunningService]:
    service = await start_server(name, settings, build)
    try:
        await service.wait_serving()
        yield service
    finally:
        await service.stop(0)


def generator(address: str = "127.0.0.1:0", **settings: Any) -> Any:
    chosen = {**SETTINGS, "engine": "scripted", **settings, "address": address}
    return running("generator", GeneratorSettings(**chosen), build_generator)


@asynccontextmanager
async def orchestrator(generator: str, refiner: str = "", **settings: Any) -> AsyncIterator[Any]:
    """A stub of an orchestrator with these peers, and a stub of its health."""
    peers = {"generator_address": generator, "refiner_address": refiner}
    chosen = OrchestratorSettings(**{**SETTINGS, "peer_refresh_s": 60.0, **peers, **settings})
    starting = running("orchestrator", chosen, build_orchestrator)
    async with starting as service, grpc.aio.insecure_channel(service.address) as channel:
        stub: Any = SegmentationServiceStub(channel)  # type: ignore[no-untyped-call]
        stub.health = health_pb2_grpc.HealthStub(channel)
        yield stub


async def answer_of(stub: Any, asked: SegmentRequest, **options: Any) -> SegmentAnswer:
    response = await stub.Segment(wire.segment_request_to_proto(asked), **options)
    return wire.segment_answer_from_proto(response)


async def failure_of(stub: Any, asked: SegmentRequest, **options: Any) -> Text4SegError:
    with pytest.raises(grpc.RpcError) as failure:
        await answer_of(stub, asked, **options)
    return wire.error_from_rpc(failure.value)


async def until_health(stub: Any, wanted: int) -> None:
    async for response in stub.health.Watch(health_pb2.HealthCheckRequest()):
        if response.status == wanted:
            return


def coarse(phrase: str = "cat", **options: Any) -> SegmentRequest:
    return request(phrase, refine=RefineMode.NONE, **options)


class FakeRefiner(RefinerServiceServicer):
    """A refiner that does what it is told."""

    def __init__(self, behave: Callable[[], Any]) -> None:
        self.behave = behave
        self.calls = 0
        self.at_once = 0
        self.most_at_once = 0
        self.cancelled = 0
        self.time_left: list[float] = []
        self.request_ids: list[str] = []

    async def Refine(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.time_left.append(context.time_remaining())
        self.request_ids.append(current_request_id())
        try:
            return await self.behave()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1

    async def GetRefinerInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return refiner_pb2.GetRefinerInfoResponse(model="fake", version="1", models=["fake"])


@asynccontextmanager
async def refiner(behave: Callable[[], Any]) -> AsyncIterator[tuple[FakeRefiner, str]]:
    servicer = FakeRefiner(behave)

    @asynccontextmanager
    async def build(
        settings: ServerSettings, router: Router, health: Health, telemetry: Telemetry
    ) -> AsyncIterator[None]:
        router.add(add_RefinerServiceServicer_to_server, servicer)
        yield

    async with running("refiner", ServerSettings(**SETTINGS), build) as service:
        yield servicer, service.address


async def forever() -> None:
    await asyncio.Event().wait()


def raising(error: Exception) -> Callable[[], Any]:
    async def behave() -> None:
        raise error

    return behave


async def test_health_follows_the_generator() -> None:
    async with generator() as service, orchestrator(service.address) as stub:
        await until_health(stub, SERVING)
        await service.stop(0)
        await until_health(stub, NOT_SERVING)
        async with generator(service.address):
            await until_health(stub, SERVING)
            assert (await answer_of(stub, coarse())).regions


async def test_without_a_generator_nothing_is_answered() -> None:
    async with orchestrator(NOWHERE) as stub:
        status = await stub.health.Check(health_pb2.HealthCheckRequest())
        assert status.status == NOT_SERVING
        error = await failure_of(stub, coarse())
        assert isinstance(error, PeerUnavailableError)
        assert error.peer == "generator"
        assert error.retry_after_s > 0
        with pytest.raises(grpc.RpcError) as failure:
            await stub.GetModelInfo(pb.GetModelInfoRequest())
        assert isinstance(wire.error_from_rpc(failure.value), PeerUnavailableError)


async def test_a_restarted_generator_with_another_model_gets_no_old_answers() -> None:
    async with orchestrator(generator := await free_address()) as stub:
        async with serving_script(generator, "box"):
            await until_health(stub, SERVING)
            assert (await answer_of(stub, coarse())).regions
            assert (await answer_of(stub, coarse())).cache.value == "hit"
        await until_health(stub, NOT_SERVING)
        async with serving_script(generator, "others"):
            await until_health(stub, SERVING)
            answer = await answer_of(stub, coarse())
            assert (answer.regions, answer.cache.value) == ((), "miss")
            assert "others" in answer.versions.model


def serving_script(address: str, script: str) -> Any:
    return generator(address, script=script)


async def free_address() -> str:
    async with generator() as service:
        return str(service.address)


async def test_a_generator_that_is_down_still_lets_cached_answers_through() -> None:
    async with generator() as service, orchestrator(service.address) as stub:
        first = await answer_of(stub, coarse())
        await service.stop(0)
        await until_health(stub, NOT_SERVING)
        again = await answer_of(stub, coarse())
        assert again.cache.value == "hit"
        assert again.regions == first.regions
        assert isinstance(await failure_of(stub, coarse("dog")), PeerUnavailableError)


async def test_a_generator_that_stops_in_the_middle_fails_the_call_precisely() -> None:
    async with generator(script_delay_s=0.3) as service, orchestrator(service.address) as stub:
        call = stub.StreamSegment(wire.stream_segment_request_to_proto(coarse()))
        assert (await anext(aiter(call))).HasField("row")
        await service.stop(0)
        with pytest.raises(grpc.RpcError) as failure:
            await to_the_end(call)
        error = wire.error_from_rpc(failure.value)
        assert isinstance(error, ServiceUnavailableError)


async def to_the_end(call: Any) -> None:
    async for _ in call:
        pass


async def test_an_overloaded_generator_says_when_to_come_back() -> None:
    async with generator(script_delay_s=0.3, queue=0) as service, orchestrator(service.address) as stub:
        busy = stub.StreamSegment(wire.stream_segment_request_to_proto(coarse("cat")))
        assert (await anext(aiter(busy))).HasField("row")  # the generator is at work, and not nearly done
        for error in await asyncio.gather(*(failure_of(stub, coarse(phrase)) for phrase in ("dog", "cow"))):
            assert isinstance(error, OverloadedError)
            assert error.retry_after_s > 0
        busy.cancel()


async def test_more_calls_than_a_peer_takes_at_once_wait_their_turn() -> None:
    crowd = [request(f"thing {number}") for number in range(6)]
    async with (
        generator(queue=0) as service,
        refiner(raising(OverloadedError("full"))) as (fake, address),
        orchestrator(service.address, address, peer_concurrency=1) as stub,
    ):
        answers = await asyncio.gather(*(answer_of(stub, one) for one in crowd))
        assert all(answer.regions for answer in answers)
        assert fake.most_at_once == 1


async def test_a_wait_for_a_peer_ends_with_the_deadline() -> None:
    async with (
        generator() as service,
        refiner(forever) as (fake, address),
        orchestrator(service.address, address, peer_concurrency=1) as stub,
    ):
        hanging = stub.Segment(wire.segment_request_to_proto(request("cat")))
        while not fake.calls:
            await asyncio.sleep(0.01)
        answer = await answer_of(stub, request("dog"), timeout=5)
        assert [warning.kind.value for warning in answer.warnings] == ["refiner_failed"]
        error = await failure_of(stub, request("dog", refine=RefineMode.REQUIRED), timeout=1)
        assert isinstance(error, DeadlineExceededError)
        assert fake.calls == 1
        hanging.cancel()


async def test_a_dead_refiner_only_degrades_auto() -> None:
    async with generator() as service, orchestrator(service.address, NOWHERE) as stub:
        await until_health(stub, SERVING)
        answer = await answer_of(stub, request("cat"))
        assert not answer.regions[0].refined
        assert [warning.kind.value for warning in answer.warnings] == ["refiner_failed"]
        error = await failure_of(stub, request("cat", refine=RefineMode.REQUIRED))
        assert isinstance(error, PeerUnavailableError)
        assert error.peer == "refiner"
        info = await stub.GetModelInfo(pb.GetModelInfoRequest())
        assert list(info.refiner_models) == []


@pytest.mark.parametrize("error", [OverloadedError("full"), ModelLoadingError(), ValueError("secret")])
async def test_an_ailing_refiner_only_degrades_auto(error: Exception) -> None:
    async with (
        generator() as service,
        refiner(raising(error)) as (fake, address),
        orchestrator(service.address, address) as stub,
    ):
        answer = await answer_of(stub, request("cat"))
        assert not answer.regions[0].refined
        assert "secret" not in answer.warnings[0].message
        failure = await failure_of(stub, request("cat", refine=RefineMode.REQUIRED))
        assert failure.reason == getattr(error, "reason", "INTERNAL")
        assert fake.calls == 2


async def test_a_hung_refiner_leaves_time_for_the_coarse_answer() -> None:
    async with (
        generator() as service,
        refiner(forever) as (fake, address),
        orchestrator(service.address, address) as stub,
    ):
        answer = await answer_of(stub, request("cat"), timeout=5)
        assert not answer.regions[0].refined
        assert [warning.kind.value for warning in answer.warnings] == ["refiner_failed"]
        assert 0 < fake.time_left[0] < 5
        error = await failure_of(stub, request("cat", refine=RefineMode.REQUIRED), timeout=3)
        assert isinstance(error, DeadlineExceededError)
        assert 0 < fake.time_left[1] < 3


async def test_our_own_patience_with_a_peer_is_no_deadline_of_the_caller() -> None:
    async with (
        generator() as service,
        refiner(forever) as (_, address),
        orchestrator(service.address, address, peer_timeout_s=0.5) as stub,
    ):
        error = await failure_of(stub, request("cat", refine=RefineMode.REQUIRED), timeout=60)
        assert isinstance(error, PeerUnavailableError)


async def test_the_deadline_reaches_the_generator_and_names_the_stage() -> None:
    async with generator(script_delay_s=30) as service, orchestrator(service.address) as stub:
        error = await failure_of(stub, coarse(), timeout=1)
        assert isinstance(error, DeadlineExceededError)


async def test_a_caller_that_hangs_up_cancels_the_peers() -> None:
    async with (
        generator() as service,
        refiner(forever) as (fake, address),
        orchestrator(service.address, address) as stub,
    ):
        call = stub.Segment(wire.segment_request_to_proto(request("cat")))
        while not fake.calls:
            await asyncio.sleep(0.01)
        call.cancel()
        async with asyncio.timeout(20):
            while not fake.cancelled:
                await asyncio.sleep(0.01)


async def test_a_caller_that_hangs_up_on_a_stream_cancels_the_peers() -> None:
    async with (
        generator() as service,
        refiner(forever) as (fake, address),
        orchestrator(service.address, address) as stub,
    ):
        call = stub.StreamSegment(wire.stream_segment_request_to_proto(request("cat")))
        async for event in call:
            if event.HasField("coarse"):
                break
        while not fake.calls:
            await asyncio.sleep(0.01)
        call.cancel()
        async with asyncio.timeout(20):
            while not fake.cancelled:
                await asyncio.sleep(0.01)


async def test_the_request_id_travels() -> None:
    async def fail() -> None:
        raise OverloadedError("full")

    async with (
        generator() as service,
        refiner(fail) as (fake, address),
        orchestrator(service.address, address) as stub,
    ):
        await answer_of(stub, request("cat"), metadata=(("x-request-id", "abc-123"),))
        assert fake.request_ids == ["abc-123"]


async def test_a_generator_that_demands_a_key_gets_it() -> None:
    async with generator(api_keys="secret") as service:
        async with orchestrator(service.address, peer_api_key="secret") as stub:
            assert (await answer_of(stub, coarse())).regions
        async with orchestrator(service.address, peer_api_key="wrong") as stub:
            error = await failure_of(stub, coarse())
            assert error.reason == "INTERNAL"  # not the caller's credentials: nothing that the caller can do


async def test_calls_are_spread_over_the_addresses_of_a_peer() -> None:
    metered = {"metrics_address": "127.0.0.1:0"}
    async with generator(**metered) as one, generator(**metered) as other:
        async with orchestrator(f"ipv4:{one.address},{other.address}") as stub:
            for _ in range(20):
                await answer_of(
                    stub, request("cat", cache=CacheMode.BYPASS, refine=RefineMode.NONE), timeout=60
                )
        for service in (one, other):
            seen = await scrape(service.metrics_address)
            assert value(seen, "text4seg_answers_total", reason="stop") > 0


async def test_a_connection_that_ends_for_its_age_disturbs_no_call() -> None:
    async with (
        generator(connection_age_s=0.05, script_delay_s=0.01) as one,
        orchestrator(one.address) as stub,
    ):
        for _ in range(10):
            await answer_of(stub, request("cat", cache=CacheMode.BYPASS, refine=RefineMode.NONE), timeout=60)
