"""Generator and refiner over gRPC, and what is known about them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from services.chassis.logs import REQUEST_ID_HEADER, current_request_id
from services.chassis.peer_call import Outgoing, Peer, channel_options
from services.chassis.peer_watch import PeerWatch
from services.chassis.server import StartupError
from services.chassis.telemetry import Telemetry
from services.orchestrator.ports import Budget
from text4seg import wire
from text4seg.dialogue import TEMPLATE_VERSION
from text4seg.errors import DeadlineExceededError
from text4seg.segmentation import (
    GenerateRequest,
    GeneratorInfo,
    RefineAnswer,
    RefineRequest,
    RefinerInfo,
    TextChunk,
)
from text4seg.v1 import generator_service_pb2 as generator_pb2
from text4seg.v1 import refiner_service_pb2 as refiner_pb2
from text4seg.v1.generator_service_pb2_grpc import GeneratorServiceStub
from text4seg.v1.refiner_service_pb2_grpc import RefinerServiceStub

_LOG = logging.getLogger(__name__)

_INFO_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """How to reach peers.

    Attributes:
        timeout_s: seconds that one call may take, however much time its caller has.
        concurrency: calls of one peer at the same time; more wait here, in order of arrival.
        refresh_s: seconds after which a peer is asked anew what it is.
        max_message_bytes: largest message, in bytes.
        api_key: presented with every call; empty: none.
        tls_ca: PEM authorities that sign the peers' certificates; None: no TLS.
        tls_certificate: PEM certificate to present, for mTLS.
        tls_key: PEM private key of the certificate.
    """

    timeout_s: float = 300.0
    concurrency: int = 16
    refresh_s: float = 10.0
    max_message_bytes: int = 32 << 20
    api_key: str = ""
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None


@asynccontextmanager
async def open_channel(address: str, options: PeerOptions) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel; it connects when first used, and again whenever the connection is lost.

    Raises:
        StartupError: a TLS file cannot be read.
    """
    arguments = channel_options(options.max_message_bytes)
    if options.tls_ca is None:
        channel = grpc.aio.insecure_channel(address, arguments)
    else:
        try:
            credentials = grpc.ssl_channel_credentials(
                options.tls_ca.read_bytes(),
                None if options.tls_key is None else options.tls_key.read_bytes(),
                None if options.tls_certificate is None else options.tls_certificate.read_bytes(),
            )
        except OSError as error:
            raise StartupError(f"the TLS files for the peers cannot be used: {error}") from error
        channel = grpc.aio.secure_channel(address, credentials, arguments)
    try:
        yield channel
    finally:
        await channel.close(None)


class _Caller:
    """Makes calls to one peer, and translates what goes wrong."""

    def __init__(self, peer: str, options: PeerOptions, telemetry: Telemetry | None) -> None:
        self._peer = Peer(peer, telemetry or Telemetry("peers"))
        self._options = options
        self._slots = asyncio.Semaphore(options.concurrency)

    def metadata(self, call: Outgoing) -> tuple[tuple[str, str], ...]:
        pairs = [*call.headers]
        pairs += [(REQUEST_ID_HEADER, current_request_id())] if current_request_id() else []
        if self._options.api_key:
            pairs.append(("authorization", f"Bearer {self._options.api_key}"))
        return tuple(pairs)

    @asynccontextmanager
    async def slot(self, stage: str, budget: Budget) -> AsyncIterator[None]:
        """Wait for one of the calls that the peer is given at the same time."""
        try:
            async with asyncio.timeout(budget.timeout_for_peer(stage)):
                await self._slots.acquire()
        except TimeoutError as error:
            raise DeadlineExceededError(stage) from error
        try:
            yield
        finally:
            self._slots.release()

    @contextmanager
    def call(
        self, method: str, stage: str, budget: Budget | None, on_unavailable: Callable[[], None]
    ) -> Iterator[Outgoing]:
        """Yield what goes along with a call and turn its failure into a domain error."""
        left = None if budget is None else budget.timeout_for_peer(stage)
        most = _INFO_TIMEOUT_S if budget is None else self._options.timeout_s
        with self._peer.calling(method, stage, left, most, on_unavailable) as call:
            yield call


class GrpcGenerator:
    """The generator service."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        options: PeerOptions,
        report: Callable[[bool], None] = lambda reachable: None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Wrap a channel.

        Args:
            channel: to the generator.
            options: how to call it.
            report: told whether it can be reached.
            telemetry: told of every call; None: nobody is.
        """
        self._stub: Any = GeneratorServiceStub(channel)  # type: ignore[no-untyped-call]
        self._caller = _Caller("generator", options, telemetry)
        self.watch = PeerWatch("generator", channel, self._ask, options.refresh_s, report, _greet_generator)

    async def info(self) -> GeneratorInfo:
        """Describe the model as last seen."""
        return await self.watch.get()

    async def generate(self, request: GenerateRequest, budget: Budget) -> AsyncGenerator[TextChunk, None]:
        """Stream the answer; closing the iterator cancels the call.

        Raises:
            Text4SegError: the generator's own error, or why it could not be reached.
        """
        async with self._caller.slot("generate", budget):
            with self._caller.call("Generate", "generate", budget, self.watch.doubt) as outgoing:
                call = self._stub.Generate(
                    wire.generate_request_to_proto(request),
                    timeout=outgoing.timeout_s,
                    metadata=self._caller.metadata(outgoing),
                )
                try:
                    async for response in call:
                        yield wire.text_chunk_from_proto(response)
                finally:
                    call.cancel()

    async def _ask(self) -> GeneratorInfo:
        with self._caller.call("GetGeneratorInfo", "generate", None, lambda: None) as outgoing:
            response = await self._stub.GetGeneratorInfo(
                generator_pb2.GetGeneratorInfoRequest(),
                timeout=outgoing.timeout_s,
                metadata=self._caller.metadata(outgoing),
            )
            return wire.generator_info_from_proto(response)


class GrpcRefiner:
    """The refiner service."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        options: PeerOptions,
        report: Callable[[bool], None] = lambda reachable: None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Wrap a channel; arguments as for :class:`GrpcGenerator`."""
        self._stub: Any = RefinerServiceStub(channel)  # type: ignore[no-untyped-call]
        self._caller = _Caller("refiner", options, telemetry)
        self.watch = PeerWatch("refiner", channel, self._ask, options.refresh_s, report, _greet_refiner)

    async def info(self) -> RefinerInfo:
        """Describe the models as last seen."""
        return await self.watch.get()

    async def refine(self, request: RefineRequest, budget: Budget) -> RefineAnswer:
        """Return one sharpened mask per coarse mask, in order.

        Raises:
            Text4SegError: the refiner's own error, or why it could not be reached.
        """
        async with self._caller.slot("refine", budget):
            with self._caller.call("Refine", "refine", budget, self.watch.doubt) as outgoing:
                response = await self._stub.Refine(
                    wire.refine_request_to_proto(request),
                    timeout=outgoing.timeout_s,
                    metadata=self._caller.metadata(outgoing),
                )
        return await asyncio.to_thread(wire.refine_answer_from_proto, response)

    async def _ask(self) -> RefinerInfo:
        with self._caller.call("GetRefinerInfo", "refine", None, lambda: None) as outgoing:
            response: refiner_pb2.GetRefinerInfoResponse = await self._stub.GetRefinerInfo(
                refiner_pb2.GetRefinerInfoRequest(),
                timeout=outgoing.timeout_s,
                metadata=self._caller.metadata(outgoing),
            )
            return wire.refiner_info_from_proto(response)


def _greet_generator(info: GeneratorInfo) -> None:
    _LOG.info("the generator is %s %s (%s)", info.model, info.version, info.engine)
    if info.template_version != TEMPLATE_VERSION:
        _LOG.warning(
            "the generator was trained with templates of version %s and is asked by those of version %s: "
            "its answers may be worse",
            info.template_version,
            TEMPLATE_VERSION,
        )


def _greet_refiner(info: RefinerInfo) -> None:
    _LOG.info("the refiner is %s %s", info.model, info.version)
