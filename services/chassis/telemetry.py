"""What a service tells about itself besides its logs: metrics, and spans of traces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import grpc

from services.chassis.admission import Gate
from services.chassis.metrics import Metrics
from services.chassis.tracing import NoTracer, Span, Tracer, current_span, enter_span
from text4seg.errors import Text4SegError
from text4seg.wire import error_to_status

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class Telemetry:
    """The metrics that every service has, the service's own, and its tracer.

    Args:
        service: what the service is called.
        tracer: where spans go.
        clock: monotonic, in seconds.
    """

    def __init__(
        self, service: str, tracer: Tracer | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.metrics = metrics = Metrics(service)
        """Where a service declares metrics of its own."""
        self.tracer: Tracer = NoTracer() if tracer is None else tracer
        self._clock = clock
        self._requests = metrics.count(
            "requests", "Calls that ended, by method and status code", method=(), code=()
        )
        self._request_seconds = metrics.durations("request", "Time from a call's begin to its end", "method")
        self._stage_seconds = metrics.durations("stage", "Time that answered calls spent in a stage", "stage")
        self._shed = metrics.count("shed", "Calls refused because the queue was full")
        self._peer_calls = metrics.count(
            "peer_calls", "Calls of other services, by status code", peer=(), method=(), code=()
        )
        self._peer_seconds = metrics.durations(
            "peer_call", "Time of calls of other services", "peer", "method"
        )
        self._load_seconds = metrics.level("load_seconds", "Time from the open port to the loaded model")

    def begin(self, method: str, metadata: Mapping[str, str]) -> Span:
        """Begin the span of a call that is served; it becomes that of the running task.

        Args:
            method: full name of the gRPC method, ``package.Service/Method``.
            metadata: what the caller sent.
        """
        span = self.tracer.serve(method, metadata)
        enter_span(span)
        return span

    def served(self, method: str, code: str, seconds: float) -> None:
        """Count a call that has ended.

        Args:
            method: its name, ``Service/Method``, from a closed set.
            code: name of its gRPC status code.
            seconds: how long it took.
        """
        self._requests.add(method=method, code=code)
        self._request_seconds.add(seconds, method=method)

    def stages(self, **seconds: float | None) -> None:
        """Record how long the running call spent in its stages; None: it did not go through that one."""
        spent = {stage: duration for stage, duration in seconds.items() if duration is not None}
        for stage, duration in spent.items():
            self._stage_seconds.add(duration, stage=stage)
        current_span().set(**{f"{stage}_s": round(duration, 6) for stage, duration in spent.items()})

    @contextmanager
    def calling(self, peer: str, method: str) -> Iterator[Span]:
        """Count and trace a call of another service; yields its span, whose headers go along.

        Args:
            peer: name of the service that is called.
            method: what it is asked for.
        """
        began = self._clock()
        span = self.tracer.call(peer, method)
        code, message = "OK", ""
        try:
            yield span
        except BaseException as error:
            code, message = code_of(error), type(error).__name__
            raise
        finally:
            self._peer_calls.add(peer=peer, method=method, code=code)
            self._peer_seconds.add(self._clock() - began, peer=peer, method=method)
            span.end(code, message)

    def gate(self, concurrency: int, queue: int) -> Gate:
        """Return the service's queue; its length, and what it refuses, are metrics. Once per service."""
        gate = Gate(concurrency, queue, refused=self._shed.add)
        self.metrics.reading("queue_length", "Calls that wait for their turn", "", lambda: {"": gate.waiting})
        self.metrics.reading("in_flight", "Calls at work", "", lambda: {"": gate.inside})
        return gate

    def facts(self, read: Callable[[], Mapping[str, bool]]) -> None:
        """Make the facts of which health consists metrics."""
        self.metrics.reading(
            "health", "Facts that must all hold (1) for the service to be healthy", "fact", read
        )

    def loaded(self, seconds: float) -> None:
        """Record how long it took from the open port to the loaded model."""
        self._load_seconds.set(seconds)

    async def aclose(self) -> None:
        """Send spans that are still here."""
        await asyncio.to_thread(self.tracer.close)


def code_of(error: BaseException) -> str:
    """Return the name of the gRPC status code that fits a failure."""
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return str(error.code().name)
    if isinstance(error, Text4SegError):
        return _CODES[error_to_status(error).code]
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "CANCELLED"
    if isinstance(error, TimeoutError):
        return "DEADLINE_EXCEEDED"
    return "UNAVAILABLE" if isinstance(error, OSError) else "UNKNOWN"
