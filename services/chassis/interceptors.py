"""What happens around every call: request id, access log, credentials, and errors made into statuses.

Servicers raise domain errors and never abort by hand; this is the one place where an exception becomes a
status.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
from google.rpc import error_details_pb2, status_pb2

from services.chassis.deadline import wire_rounding_s
from services.chassis.logs import REQUEST_ID_HEADER, begin_request
from services.chassis.telemetry import Telemetry
from services.chassis.tracing import NO_SPAN
from text4seg.errors import (
    FeatureUnimplementedError,
    InternalError,
    Text4SegError,
    UnauthenticatedError,
)
from text4seg.wire import error_to_status

STATUS_DETAILS_HEADER = "grpc-status-details-bin"
"""Trailing metadata key of the serialized ``google.rpc.Status``."""

UNKNOWN_METHOD = "unknown"
"""What every method is called in metrics that no servicer answers (yet): callers may make up any number."""

_UNPUNCTUAL_S = 0.05
"""What a cancellation may gain on the call that it cancels, on the way and in busy threads."""

_OPEN_METHODS = "/grpc.health.v1.Health/"
_CODES = {code.value[0]: code for code in grpc.StatusCode}

_log = logging.getLogger(__name__)
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs only
    """Wraps the handlers of all four kinds of RPC."""

    def __init__(
        self,
        telemetry: Telemetry,
        api_keys: Sequence[str] = (),
        knows: Callable[[str], bool] = lambda method: True,
    ) -> None:
        """Configure the interceptor.

        Args:
            telemetry: told of every call.
            api_keys: keys that callers present as ``authorization: Bearer <key>`` or ``x-api-key: <key>``.
                Empty: anybody may call. Health checks never need one.
            knows: says whether a method exists; callers may ask for any.
        """
        self._telemetry = telemetry
        self._knows = knows
        self._keys = tuple(key.encode() for key in api_keys)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Find the method's handler and wrap it."""
        handler = await continuation(handler_call_details)
        return handler and self._wrapped(handler, handler_call_details.method)

    def _wrapped(self, handler: _Handler, method: str) -> _Handler:
        kind = f"{_arity(handler.request_streaming)}_{_arity(handler.response_streaming)}"
        behaviour = getattr(handler, kind)
        keys = () if method.startswith(_OPEN_METHODS) else self._keys
        name = method.removeprefix("/") if self._knows(method) else UNKNOWN_METHOD

        async def stream(request: Any, context: _Context) -> None:
            async with _Call(method, context, keys, self._telemetry, name) as call:
                call.authenticate()
                # Written here and not yielded to gRPC: it drops a cancelled generator without closing it, and
                # the model would go on until the garbage collector comes by.
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        await context.write(response)

        async def answer(request: Any, context: _Context) -> Any:
            async with _Call(method, context, keys, self._telemetry, name) as call:
                call.authenticate()
                if not inspect.iscoroutinefunction(behaviour):
                    # Generated base classes answer with a plain function until a servicer overrides it.
                    raise FeatureUnimplementedError(method.removeprefix("/"))
                return await behaviour(request, context)

        wrap = getattr(grpc, f"{kind}_rpc_method_handler")
        wrapped: _Handler = wrap(
            stream if inspect.isasyncgenfunction(behaviour) else answer,
            handler.request_deserializer,
            handler.response_serializer,
        )
        return wrapped


class _Call:
    """One call from its first to its last moment."""

    def __init__(
        self, method: str, context: _Context, keys: tuple[bytes, ...], telemetry: Telemetry, name: str
    ) -> None:
        self._method = method
        self._telemetry = telemetry
        self._name = name
        self._context = context
        # Kept now: once a call is gone, asking its context crashes the process.
        self._task = asyncio.current_task()
        self._peer = context.peer()
        remaining = context.time_remaining()
        # A caller whose time is up cancels the call, and does so before it is up here.
        early = 0.0 if remaining is None else wire_rounding_s(remaining) + _UNPUNCTUAL_S
        self._expires = math.inf if remaining is None else time.monotonic() + remaining - early
        self._keys = keys
        self._metadata = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        self._caller = ""
        self._began = time.monotonic()
        self._request_id = begin_request(self._metadata.get(REQUEST_ID_HEADER))
        # Probes come all the time and from everywhere: they are counted and not traced.
        probe = method.startswith(_OPEN_METHODS)
        self._span = NO_SPAN if probe else telemetry.begin(name, self._metadata)
        self._span.set(request_id=self._request_id)
        context.set_trailing_metadata(((REQUEST_ID_HEADER, self._request_id),))

    def authenticate(self) -> None:
        """Raise UnauthenticatedError unless the caller presents an accepted key, or none is needed."""
        if not self._keys:
            return
        scheme, _, token = self._metadata.get("authorization", "").partition(" ")
        offered = token.strip() if scheme.lower() == "bearer" else self._metadata.get("x-api-key", "")
        # Every key is compared, so that the time taken tells nothing about which one nearly matched.
        matches = [hmac.compare_digest(offered.encode(), key) for key in self._keys]
        if not any(matches):
            raise UnauthenticatedError("no API key" if not offered else "unknown API key")
        self._caller = hashlib.sha256(offered.encode()).hexdigest()[:8]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, grpc.aio.AbortError):
            self._access(self._context.code() or grpc.StatusCode.OK, self._context.details())
        elif not isinstance(error, Exception) or self._abandoned():
            if isinstance(error, Exception):
                _log.error("%s failed after its caller had left", self._method, exc_info=error)
            spent = time.monotonic() >= self._expires
            self._access(grpc.StatusCode.DEADLINE_EXCEEDED if spent else grpc.StatusCode.CANCELLED, "")
        else:
            await self._abort(error)

    def _abandoned(self) -> bool:
        task = asyncio.current_task()
        return task is not self._task or task is None or task.cancelling() > 0

    async def _abort(self, error: Exception) -> None:
        status = self._status_of(error)
        code = _CODES[status.code]
        status.details.add().Pack(error_details_pb2.RequestInfo(request_id=self._request_id))
        self._access(code, status.message)
        details = ((REQUEST_ID_HEADER, self._request_id), (STATUS_DETAILS_HEADER, status.SerializeToString()))
        await self._context.abort(code, status.message, details)

    def _status_of(self, error: Exception) -> status_pb2.Status:
        # What is no domain error is a defect of ours: callers get a generic text, the log the traceback.
        status = error_to_status(domain_error(error) or InternalError(repr(error)))
        if status.code == grpc.StatusCode.INTERNAL.value[0]:
            _log.error("%s failed", self._method, exc_info=error)
        return status

    def _access(self, code: grpc.StatusCode, message: str) -> None:
        seconds = time.monotonic() - self._began
        self._telemetry.served(self._name, code.name, seconds)
        self._span.end(code.name, message)
        fields = {
            "method": self._method,
            "code": code.name,
            "duration_ms": round(seconds * 1000, 3),
            "peer": self._peer,
            "request_id": self._request_id,
        }
        if message:
            fields["error"] = message
        if self._caller:
            fields["caller"] = self._caller
        level = logging.DEBUG if self._method.startswith(_OPEN_METHODS) else logging.INFO
        _log.log(level, "call", extra={"fields": fields})


def domain_error(error: BaseException) -> Text4SegError | None:
    """Return the domain error that ``error`` is, or that a group of tasks failed with; else None."""
    if isinstance(error, Text4SegError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(domain_error, error.exceptions)), None)
    return None


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"
