"""Which servicer answers a method; servicers may arrive after the port is open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, TypeVar

import grpc

from text4seg.errors import FeatureUnimplementedError, ModelLoadingError, Text4SegError

Servicer = TypeVar("Servicer")


class Router(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs only
    """Registered with a server before it starts, so that probes are answered while the model is loading.

    Until ``open`` is called, a method that nobody answers is UNAVAILABLE (the model is loading); after that
    it is UNIMPLEMENTED. Both are domain errors, so they reach the caller with the same details as any other.
    """

    def __init__(self) -> None:
        self._handlers: list[grpc.GenericRpcHandler[Any, Any]] = []
        self._names: list[str] = []
        self._methods: set[str] = set()
        self._opened = False

    def add(self, register: Callable[[Servicer, Any], None], servicer: Servicer) -> None:
        """Route a service to ``servicer``.

        Args:
            register: the generated function ``add_<Service>Servicer_to_server``.
            servicer: what answers.
        """
        register(servicer, self)

    def open(self) -> None:
        """Declare that every servicer has been added."""
        self._opened = True

    @property
    def service_names(self) -> tuple[str, ...]:
        """Full names of the services added so far."""
        return tuple(self._names)

    def knows(self, method: str) -> bool:
        """Return whether a servicer answers ``/package.Service/Method``."""
        return method in self._methods

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler[Any, Any]]) -> None:
        """Take the handlers of generated code, as ``grpc.aio.Server`` does."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Take the names from generated code; the handlers came with ``add_generic_rpc_handlers``."""
        self._names.append(service_name)
        self._methods |= {f"/{service_name}/{name}" for name in method_handlers}

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of a method; there always is one."""
        for candidate in self._handlers:
            handler = candidate.service(handler_call_details)
            if handler is not None:
                return handler
        if self._opened:
            return _refusal(FeatureUnimplementedError(handler_call_details.method.removeprefix("/")))
        return _refusal(ModelLoadingError())


def _refusal(error: Text4SegError) -> grpc.RpcMethodHandler[Any, Any]:
    # Streaming in both directions suits every kind of caller and waits for no request message.
    async def refuse(requests: object, context: object) -> AsyncIterator[bytes]:
        raise error
        yield b""  # an async generator, as streaming handlers are

    return grpc.stream_stream_rpc_method_handler(refuse)
