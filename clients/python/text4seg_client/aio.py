"""The asyncio client."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

from text4seg.v1.segmentation_service_pb2_grpc import SegmentationServiceStub
from text4seg_client import calls
from text4seg_client.calls import ClientBase
from text4seg_client.channel import Connection, Tls
from text4seg_client.sending import Messages, Metadata, Transport

_Result = TypeVar("_Result")


class AsyncClient(ClientBase):
    """The client for asyncio. One per event loop; close it, or use it in ``async with``.

    Methods, arguments and errors are those of :class:`text4seg_client.Client`. The first call connects.
    Cancelling a task cancels its call, and with it the model on the server.
    """

    segment = calls.segment
    stream_segment = calls.stream_segment
    detect = calls.detect
    chat = calls.chat
    put_image = calls.put_image
    model_info = calls.model_info
    close = calls.close

    async def __aenter__(self) -> "AsyncClient":
        """Return the client itself."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close the connection."""
        await self.close()

    def _connect(self, address: str, tls: Tls | None, connection: Connection) -> Transport:
        return _AioTransport(address, tls, connection)


class _AioTransport:
    def __init__(self, address: str, tls: Tls | None, connection: Connection) -> None:
        self._address = address
        self._tls = tls
        self._options = connection.channel_options(tls)
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stub: Any = None

    async def call(self, method: str, request: Any, timeout_s: float, metadata: Metadata) -> Any:
        return await self._method(method)(request, timeout=timeout_s, metadata=metadata)

    async def stream(self, method: str, request: Any, timeout_s: float, metadata: Metadata) -> Messages:
        messages = self._method(method)(request, timeout=timeout_s, metadata=metadata)
        try:
            async for message in messages:
                yield message
        finally:
            messages.cancel()

    async def work(self, function: Callable[[], _Result]) -> _Result:
        return await asyncio.to_thread(function)

    def sleep(self, seconds: float) -> Awaitable[None]:
        return asyncio.sleep(seconds)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close(None)

    def _method(self, name: str) -> Any:
        loop = asyncio.get_running_loop()
        if self._channel is None:
            # A channel belongs to the loop that runs when it is made, and there may be none in __init__.
            self._loop = loop
            self._channel = (
                grpc.aio.insecure_channel(self._address, self._options)
                if self._tls is None
                else grpc.aio.secure_channel(self._address, self._tls.credentials(), self._options)
            )
            self._stub = SegmentationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        elif loop is not self._loop:
            raise RuntimeError("an AsyncClient belongs to the event loop that it was first used in")
        return getattr(self._stub, name)
