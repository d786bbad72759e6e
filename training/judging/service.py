"""The service that is judged: a running one, or all three services started here for a checkpoint."""

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc

from text4seg import wire
from text4seg.errors import (
    InternalError,
    OverloadedError,
    PermissionDeniedError,
    ServiceUnavailableError,
    Text4SegError,
    UnauthenticatedError,
)
from text4seg.segmentation import (
    ChatRequest,
    ChatText,
    DetectAnswer,
    DetectRequest,
    ModelInfo,
    SegmentAnswer,
    SegmentRequest,
)
from text4seg.v1 import segmentation_service_pb2 as pb
from text4seg.v1.segmentation_service_pb2_grpc import SegmentationServiceStub
from training.child_service import ChildService, ServiceEndedError, child_service
from training.judging.record import NONE
from training.judging.record_file import JudgingError

Result = TypeVar("Result")

MAX_MESSAGE_BYTES = 64 << 20
POLL_S = 0.2
ATTEMPTS = 5
"""Calls of one question, when the service says that it is busy or not there yet."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a service.

    Attributes:
        address: host:port.
        authority: PEM certificates of the authority that signed the service's; None: no TLS.
        api_key: What the service wants to see, or None.
    """

    address: str
    authority: bytes | None = None
    api_key: str | None = None


class CallFailedError(Exception):
    """A call failed for good.

    Attributes:
        error: The last failure.
        attempts: Calls in all.
    """

    def __init__(self, error: Text4SegError, attempts: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts


class Connection:
    """Calls of SegmentationService; busy services are asked again, within the call's time."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str | None) -> None:
        self._stub: Any = SegmentationServiceStub(channel)  # type: ignore[no-untyped-call]
        self._metadata = () if api_key is None else (("authorization", f"Bearer {api_key}"),)

    async def info(self, timeout_s: float) -> ModelInfo:
        """Ask once which models there are.

        Raises:
            CallFailedError: it failed.
        """

        async def call(left: float) -> ModelInfo:
            message = await self._stub.GetModelInfo(
                pb.GetModelInfoRequest(), timeout=left, metadata=self._metadata
            )
            return wire.model_info_from_proto(message)

        return (await self._try(call, timeout_s, attempts=1))[0]

    async def segment(self, request: SegmentRequest, timeout_s: float) -> tuple[SegmentAnswer, int]:
        """Return the answer and the number of calls.

        Raises:
            CallFailedError: the last call failed.
        """
        message = wire.segment_request_to_proto(request)

        async def call(left: float) -> SegmentAnswer:
            response = await self._stub.Segment(message, timeout=left, metadata=self._metadata)
            return wire.segment_answer_from_proto(response, _no_png)

        return await self._try(call, timeout_s)

    async def detect(self, request: DetectRequest, timeout_s: float) -> tuple[DetectAnswer, int]:
        """Return the answer and the number of calls; raises as :meth:`segment` does."""
        message = wire.detect_request_to_proto(request)

        async def call(left: float) -> DetectAnswer:
            response = await self._stub.Detect(message, timeout=left, metadata=self._metadata)
            return wire.detect_answer_from_proto(response)

        return await self._try(call, timeout_s)

    async def chat(self, request: ChatRequest, timeout_s: float) -> tuple[str, int]:
        """Return the text of a chat's answer and the number of calls; raises as :meth:`segment` does."""
        message = wire.chat_request_to_proto(request)

        async def call(left: float) -> str:
            text = ""
            async for event in self._stub.Chat(message, timeout=left, metadata=self._metadata):
                piece = wire.chat_event_from_proto(event, _no_png)
                text += piece.text if isinstance(piece, ChatText) else ""
            return text

        return await self._try(call, timeout_s)

    async def _try(
        self, call: Callable[[float], Awaitable[Result]], timeout_s: float, attempts: int = ATTEMPTS
    ) -> tuple[Result, int]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        attempt = 1
        while True:
            try:
                return await call(max(deadline - loop.time(), 0.001)), attempt
            except grpc.RpcError as error:
                failed, cause = wire.error_from_rpc(error), error
            except Text4SegError as error:  # an answer that this version cannot read
                raise CallFailedError(error, attempt) from error
            wait_s = 0.0
            if isinstance(failed, OverloadedError | ServiceUnavailableError):
                wait_s = max(failed.retry_after_s, 0.2 * 2**attempt)
            if not wait_s or attempt >= attempts or loop.time() + wait_s > deadline:
                raise CallFailedError(failed, attempt) from cause
            attempt += 1
            await asyncio.sleep(wait_s)


def _no_png(data: bytes) -> Any:
    raise InternalError("the service sent a PNG, which was not asked for")


@asynccontextmanager
async def connected(access: Access) -> AsyncIterator[Connection]:
    """Open a channel, which connects at the first call, and close it at the end."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.enable_retries", 0),
    ]
    channel = (
        grpc.aio.insecure_channel(access.address, options)
        if access.authority is None
        else grpc.aio.secure_channel(access.address, grpc.ssl_channel_credentials(access.authority), options)
    )
    async with channel:
        yield Connection(channel, access.api_key)


async def wait_for(access: Access, wait_s: float, child: ChildService | None = None) -> ModelInfo:
    """Ask until the service answers, and until it knows its refiner if it is one that was started here.

    Raises:
        JudgingError: it did not in time, does not let us in, or is something else.
        ServiceEndedError: it was started here, and has ended; `services` makes a JudgingError of it.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while True:
        if child is not None:
            child.check()
        try:
            async with connected(access) as connection:
                info = await connection.info(5.0)
        except CallFailedError as failed:
            if isinstance(failed.error, UnauthenticatedError | PermissionDeniedError):
                raise JudgingError(
                    f"{access.address} does not let us in: {failed.error}; see --api-key"
                ) from failed
            if loop.time() > deadline:
                raise JudgingError(f"no service answers at {access.address}: {failed.error}") from failed
        else:
            if child is None or info.refiner_models or loop.time() > deadline:
                return info
        await asyncio.sleep(POLL_S)


@contextmanager
def services(checkpoint: Path, refiners: Sequence[str], threads: int, log: Path) -> Iterator[ChildService]:
    """Run all three services on a free port of this machine, in a process of their own.

    Args:
        checkpoint: What the generator loads.
        refiners: Models of the refiner; ``none`` asks for no other than the default.
        threads: Of torch.
        log: Takes what the services write.

    Yields:
        What was started, and may still be loading.

    Raises:
        JudgingError: there is no such checkpoint, the services are not installed, or they ended at start.
    """
    if not (checkpoint / "config.json").is_file():
        raise JudgingError(f"{checkpoint} is no checkpoint: it holds no config.json")
    if importlib.util.find_spec("services") is None or importlib.util.find_spec("pydantic_settings") is None:
        raise JudgingError("the services are not installed here: pip install '.[services]', or use --address")
    kinds = list(dict.fromkeys(_kind(name) for name in refiners if name != NONE)) or ["grabcut"]
    settings = {
        "T4S_GENERATOR_CHECKPOINT": str(checkpoint), "T4S_GENERATOR_THREADS": str(threads),
        "T4S_REFINER_MODEL": kinds[0], "T4S_REFINER_EXTRA_MODELS": json.dumps(kinds[1:]),
        "T4S_ORCHESTRATOR_MAX_PHRASES": "1024",
    }  # fmt: skip
    try:
        with child_service("services", settings, "--log-level=WARNING", log=log, own_group=True) as child:
            yield child
    except (JudgingError, ServiceEndedError) as error:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise JudgingError("; ".join([str(error), *last])) from error


def _kind(refiner: str) -> str:
    """Return the setting that loads a refiner model: all of SAM's sizes are one."""
    return "sam" if refiner.startswith("sam") else refiner
