"""Engine ``triton``: a model that a Triton server runs, over its gRPC protocol."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.chassis.deadline import Deadline
from services.chassis.logs import current_request_id
from services.chassis.peer_call import Peer, channel_options
from services.chassis.peer_watch import PeerWatch
from services.chassis.telemetry import Telemetry
from services.chassis.tracing import Headers
from services.generator.images import ImageReader
from services.generator.triton import payloads, tensors, vllm
from text4seg import wire
from text4seg.errors import InternalError, PeerUnavailableError, Text4SegError
from text4seg.segmentation import GenerateRequest, GeneratorInfo, TextChunk

PEER = "triton"
"""The name of Triton in errors, and of the fact in the generator's health."""

_LOG = logging.getLogger(__name__)

_INFO_TIMEOUT_S = 5.0
_STREAM = "ModelStreamInfer"
# Errors inside a stream end it with a real status, instead of a text in a response.
_METADATA = (("triton_grpc_error", "true"),)

Stub = Any
"""``GRPCInferenceServiceStub`` over a ``grpc.aio`` channel; the library is untyped."""


class Dialect(Protocol):
    """What a model behind Triton wants to be asked."""

    lead: str
    """What the model writes before every answer and is no part of it."""

    async def question(self, request: GenerateRequest, request_id: str) -> Any:
        """Return the ``ModelInferRequest`` for a request."""
        ...

    async def info(self, ask: Callable[[Any], AsyncGenerator[Any, None]]) -> GeneratorInfo:
        """Return what the model is; ``ask`` streams the responses to a ``ModelInferRequest``."""
        ...


class Text4SegDialect:
    """Of our own model, ``deploy/triton/models/text4seg``.

    Args:
        model: its name in Triton's repository.
    """

    lead = ""

    def __init__(self, model: str) -> None:
        self._model = model

    async def question(self, request: GenerateRequest, request_id: str) -> Any:
        """Return the ``ModelInferRequest`` for a request: the conversation as it is."""
        sampling = "{}" if request.max_tokens is None else f'{{"max_tokens": {request.max_tokens}}}'
        conversation = payloads.conversation_json(request)
        return tensors.question(self._model, conversation, request.image, sampling, request_id)

    async def info(self, ask: Callable[[Any], AsyncGenerator[Any, None]]) -> GeneratorInfo:
        """Ask the model."""
        async with aclosing(ask(tensors.info_question(self._model))) as responses:
            async for response in responses:
                values = tensors.values_of(response)
                if values.get("model_info"):
                    return payloads.info_of(str(values["model_info"][0], "utf-8"))
        raise InternalError(f"triton: model {self._model!r} does not say what it is")


class TritonTextModel:
    """A :class:`~services.generator.generate.TextModel` whose model runs in Triton.

    One stream per answer: leaving the iteration cancels it, and Triton tells the model.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        model: str,
        read_image: ImageReader,
        timeout_s: float,
        refresh_s: float,
        report: Callable[[bool], None] = lambda reachable: None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Wrap a channel.

        Args:
            channel: to Triton.
            model: its name in Triton's repository.
            read_image: decodes image files, for models that take no file as it is.
            timeout_s: seconds that one answer may take.
            refresh_s: seconds after which it is asked anew what it is.
            report: told whether it can be reached.
            telemetry: told of every call; None: nobody is.
        """
        self._peer = Peer(PEER, telemetry or Telemetry("triton"), _error)
        self._stub: Stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._name = model
        self._read_image = read_image
        self._dialect: Dialect | None = None
        self._timeout_s = timeout_s
        self._reachable = False
        self._info: GeneratorInfo | None = None
        self._report = report
        self.watch = PeerWatch(PEER, channel, self._ask, refresh_s, self._reached, self._greet)

    @property
    def info(self) -> GeneratorInfo:
        """The model as Triton last described it.

        Raises:
            PeerUnavailableError: Triton cannot be reached, or does not have the model.
        """
        if self._info is None or not self._reachable:
            raise PeerUnavailableError(PEER)
        return self._info

    async def write(self, request: GenerateRequest) -> AsyncIterator[TextChunk]:
        """Write one answer; leaving the iteration stops the model."""
        if self._dialect is None:
            await self.watch.get()
        dialect = self._dialect
        assert dialect is not None  # known since Triton answered for the first time
        message = await dialect.question(request, current_request_id())
        answer = tensors.Answer(dialect.lead)
        left = Deadline(request.expires_at).timeout_for_peer("generate")
        with self._peer.calling(_STREAM, "generate", left, self._timeout_s, self.watch.doubt) as call:
            async with aclosing(self._stream(message, call.timeout_s, call.headers)) as responses:
                async for response in responses:
                    chunk = answer.read(response)
                    if chunk.text or chunk.logprobs or chunk.finish is not None:
                        yield chunk
                    if chunk.finish is not None:
                        return
        self.watch.doubt()
        raise PeerUnavailableError(PEER, "ended the answer early")

    async def _stream(self, message: Any, timeout_s: float, headers: Headers) -> AsyncGenerator[Any, None]:
        message.parameters["timeout"].int64_param = int(timeout_s * 1e6)
        call = self._stub.ModelStreamInfer(_once(message), timeout=timeout_s, metadata=(*_METADATA, *headers))
        try:
            async for response in call:
                if response.error_message:
                    raise wire.error_from_text(response.error_message, PEER) or InternalError(
                        f"triton: {response.error_message}"
                    )
                yield response.infer_response
        finally:
            call.cancel()

    async def _ask(self) -> GeneratorInfo:
        with self._peer.calling("ModelReady", "generate", None, _INFO_TIMEOUT_S) as call:
            timeout = call.timeout_s
            ready = await self._stub.ModelReady(
                service_pb2.ModelReadyRequest(name=self._name), timeout=timeout
            )
            if not ready.ready:
                raise PeerUnavailableError(PEER, f"model {self._name!r} is not ready")
            config = (
                await self._stub.ModelConfig(service_pb2.ModelConfigRequest(name=self._name), timeout=timeout)
            ).config
            dialect: Dialect = Text4SegDialect(self._name)
            if vllm.PARAMETER in config.parameters:
                parameter = config.parameters[vllm.PARAMETER].string_value
                dialect = vllm.VllmDialect(vllm.read_model(self._name, parameter), self._read_image)
            info = await dialect.info(lambda message: self._stream(message, timeout, call.headers))
            self._dialect = dialect
            return info

    def _reached(self, reachable: bool) -> None:
        self._reachable = reachable
        self._report(reachable)

    def _greet(self, info: GeneratorInfo) -> None:
        self._info = info
        _LOG.info("triton runs %s %s", info.model, info.version)


@asynccontextmanager
async def open_triton_model(
    url: str,
    model: str,
    read_image: ImageReader,
    timeout_s: float,
    refresh_s: float,
    report: Callable[[bool], None] = lambda reachable: None,
    telemetry: Telemetry | None = None,
) -> AsyncIterator[TritonTextModel]:
    """Connect to Triton, and keep looking whether it is there; arguments as for :class:`TritonTextModel`.

    Triton need not be there yet.
    """
    report(False)
    channel = grpc.aio.insecure_channel(url, channel_options())
    try:
        engine = TritonTextModel(channel, model, read_image, timeout_s, refresh_s, report, telemetry)
        async with engine.watch.running():
            yield engine
    finally:
        await channel.close(None)


async def _once(message: Any) -> AsyncIterator[Any]:
    yield message


def _error(failure: grpc.RpcError, peer: str) -> Text4SegError:
    return wire.error_from_text(failure.details() or "", peer) or wire.error_from_rpc(failure, peer)
