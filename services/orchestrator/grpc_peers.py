"""Generator and refiner over gRPC, and what is known about them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from services.chassis.logs import REQUEST_ID_HEADER, current_request_id
from services.chassis.server import StartupError
from services.orchestrator.ports import Budget
from text4seg import wire
from text4seg.errors import (
    DeadlineExceededError,
    PeerUnavailableError,
    ServiceUnavailableError,
    Text4SegError,
)
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
_Info = TypeVar("_Info")

_INFO_TIMEOUT_S = 2.0
_RETRY_S = 0.5
_RECENT_S = 0.1


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """How to reach peers.

    Attributes:
        timeout_s: seconds that one call may take, however much time its caller has.
        refresh_s: seconds after which a peer is asked anew what it is.
        max_message_bytes: largest message, in bytes.
        api_key: presented with every call; empty: none.
        tls_ca: PEM authorities that sign the peers' certificates; None: no TLS.
        tls_certificate: PEM certificate to present, for mTLS.
        tls_key: PEM private key of the certificate.
    """

    timeout_s: float = 300.0
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
    arguments = [
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.keepalive_time_ms", 60_000),
        # Otherwise two services of one process that use the same address would share one connection's fate.
        ("grpc.use_local_subchannel_pool", 1),
    ]
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


class PeerWatch(Generic[_Info]):
    """What a peer says of itself, kept current.

    It is asked at the start, after every loss of the connection (a restarted peer may have another model),
    and every so often (several may hide behind one address). Out of reach, it is what it was.
    """

    def __init__(
        self,
        peer: str,
        channel: grpc.aio.Channel,
        ask: Callable[[], Awaitable[_Info]],
        refresh_s: float,
        report: Callable[[bool], None] = lambda reachable: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to watch.

        Args:
            peer: its name, for errors and logs.
            channel: to it.
            ask: fetches its info; raises domain errors.
            refresh_s: seconds between questions while nothing happens.
            report: told whether the peer answers, whenever it was asked.
            clock: a monotonic clock in seconds.
        """
        self._peer = peer
        self._channel = channel
        self._ask = ask
        self._refresh_s = refresh_s
        self._report = report
        self._clock = clock
        self._info: _Info | None = None
        self._error: Text4SegError = PeerUnavailableError(peer, "has not answered yet")
        self._fresh = False
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()
        self._doubted = asyncio.Event()

    async def get(self) -> _Info:
        """Return the latest info; when it is in doubt, ask first.

        Raises:
            Text4SegError: the peer has never answered.
        """
        if not self._fresh:
            await self._refresh()
        if self._info is None:
            raise self._error
        return self._info

    def doubt(self) -> None:
        """Ask again soon: a call to the peer has failed."""
        self._fresh = False
        self._doubted.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the info current meanwhile."""
        watching = asyncio.create_task(self._watch(), name=f"watch {self._peer}")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    async def _watch(self) -> None:
        while True:
            self._doubted.clear()
            await self._refresh(even_if_fresh=True)
            if self._fresh:
                self._fresh = not await self._doubtful()
            else:
                await asyncio.sleep(_RETRY_S)

    async def _doubtful(self) -> bool:
        """Wait until it is time to ask again; say whether something happened before."""
        signs = [
            asyncio.ensure_future(self._channel.wait_for_state_change(grpc.ChannelConnectivity.READY)),
            asyncio.ensure_future(self._doubted.wait()),
        ]
        try:
            happened, _ = await asyncio.wait(
                signs, timeout=self._refresh_s, return_when=asyncio.FIRST_COMPLETED
            )
            return bool(happened)
        finally:
            for sign in signs:
                sign.cancel()
            await asyncio.gather(*signs, return_exceptions=True)

    async def _refresh(self, even_if_fresh: bool = False) -> None:
        async with self._asking:
            # Callers that waited for the lock, or come right after a failure, need not ask again.
            recent = self._clock() - self._asked_at < _RECENT_S
            if (self._fresh and not even_if_fresh) or (not even_if_fresh and recent):
                return
            was_reachable = self._fresh
            try:
                info = await self._ask()
            except Text4SegError as error:
                self._error = error
                self._fresh = False
                if was_reachable or self._asked_at == float("-inf"):
                    _LOG.warning("%s does not answer: %s", self._peer, error)
            else:
                if info != self._info:
                    _LOG.info("%s is %s", self._peer, info)
                self._info = info
                self._fresh = True
            self._asked_at = self._clock()
        self._report(self._fresh)


class _Caller:
    """Makes calls to one peer, and translates what goes wrong."""

    def __init__(self, peer: str, options: PeerOptions) -> None:
        self.peer = peer
        self._options = options

    def metadata(self) -> tuple[tuple[str, str], ...]:
        pairs = [(REQUEST_ID_HEADER, current_request_id())] if current_request_id() else []
        if self._options.api_key:
            pairs.append(("authorization", f"Bearer {self._options.api_key}"))
        return tuple(pairs)

    @contextmanager
    def call(self, stage: str, budget: Budget | None, on_unavailable: Callable[[], None]) -> Iterator[float]:
        """Yield the timeout of a call and turn its failure into a domain error."""
        left = None if budget is None else budget.timeout_for_peer(stage)
        most = _INFO_TIMEOUT_S if budget is None else self._options.timeout_s
        own = left is None or most < left
        try:
            yield most if left is None else min(most, left)
        except grpc.RpcError as failure:
            error = wire.error_from_rpc(failure, self.peer)
            if isinstance(error, DeadlineExceededError):
                # Whose patience ended: the caller's, or ours with the peer?
                error = (
                    PeerUnavailableError(self.peer, f"did not answer within {most:g} s")
                    if own
                    else DeadlineExceededError(stage)
                )
            if isinstance(error, ServiceUnavailableError):
                on_unavailable()
            raise error from failure
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # grpc.aio also says so when the peer, stopping, cancels the call.
            on_unavailable()
            raise PeerUnavailableError(self.peer, "ended the call") from cancelled


class GrpcGenerator:
    """The generator service."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        options: PeerOptions,
        report: Callable[[bool], None] = lambda reachable: None,
    ) -> None:
        """Wrap a channel.

        Args:
            channel: to the generator.
            options: how to call it.
            report: told whether it can be reached.
        """
        self._stub: Any = GeneratorServiceStub(channel)  # type: ignore[no-untyped-call]
        self._caller = _Caller("generator", options)
        self.watch = PeerWatch("generator", channel, self._ask, options.refresh_s, report)

    async def info(self) -> GeneratorInfo:
        """Describe the model as last seen."""
        return await self.watch.get()

    async def generate(self, request: GenerateRequest, budget: Budget) -> AsyncGenerator[TextChunk, None]:
        """Stream the answer; closing the iterator cancels the call.

        Raises:
            Text4SegError: the generator's own error, or why it could not be reached.
        """
        with self._caller.call("generate", budget, self.watch.doubt) as timeout:
            call = self._stub.Generate(
                wire.generate_request_to_proto(request), timeout=timeout, metadata=self._caller.metadata()
            )
            try:
                async for response in call:
                    yield wire.text_chunk_from_proto(response)
            finally:
                call.cancel()

    async def _ask(self) -> GeneratorInfo:
        with self._caller.call("generate", None, lambda: None) as timeout:
            response = await self._stub.GetGeneratorInfo(
                generator_pb2.GetGeneratorInfoRequest(), timeout=timeout, metadata=self._caller.metadata()
            )
            return wire.generator_info_from_proto(response)


class GrpcRefiner:
    """The refiner service."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        options: PeerOptions,
        report: Callable[[bool], None] = lambda reachable: None,
    ) -> None:
        """Wrap a channel; arguments as for :class:`GrpcGenerator`."""
        self._stub: Any = RefinerServiceStub(channel)  # type: ignore[no-untyped-call]
        self._caller = _Caller("refiner", options)
        self.watch = PeerWatch("refiner", channel, self._ask, options.refresh_s, report)

    async def info(self) -> RefinerInfo:
        """Describe the models as last seen."""
        return await self.watch.get()

    async def refine(self, request: RefineRequest, budget: Budget) -> RefineAnswer:
        """Return one sharpened mask per coarse mask, in order.

        Raises:
            Text4SegError: the refiner's own error, or why it could not be reached.
        """
        message = wire.refine_request_to_proto(request)
        with self._caller.call("refine", budget, self.watch.doubt) as timeout:
            response = await self._stub.Refine(message, timeout=timeout, metadata=self._caller.metadata())
        return await asyncio.to_thread(wire.refine_answer_from_proto, response)

    async def _ask(self) -> RefinerInfo:
        with self._caller.call("refine", None, lambda: None) as timeout:
            response: refiner_pb2.GetRefinerInfoResponse = await self._stub.GetRefinerInfo(
                refiner_pb2.GetRefinerInfoRequest(), timeout=timeout, metadata=self._caller.metadata()
            )
            return wire.refiner_info_from_proto(response)
