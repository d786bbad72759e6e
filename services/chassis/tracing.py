"""Traces of calls: what the services say to a tracer, and the tracer that does nothing.

A call that is served has a span, and every call that it makes of others has one below it; between services
the W3C header ``traceparent`` carries them on. Only the tracer of ``otlp.py`` imports OpenTelemetry, and it
is imported only where traces are exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol

Headers = tuple[tuple[str, str], ...]
"""Metadata to send along with a call."""


class TracingUnavailableError(Exception):
    """Traces cannot be exported as the settings say; the message is one line."""


class Span(Protocol):
    """One call, from its begin to its end."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty when nothing is traced."""
        ...

    @property
    def headers(self) -> Headers:
        """What a peer needs to know to go on with the trace."""
        ...

    def set(self, **attributes: str | int | float) -> None:
        """Note attributes: ``queue_s=1.5`` becomes ``text4seg.queue_s``."""
        ...

    def end(self, code: str, message: str = "") -> None:
        """End it.

        Args:
            code: name of a gRPC status code.
            message: what went wrong.
        """
        ...


class Tracer(Protocol):
    """Where spans go."""

    def serve(self, method: str, metadata: Mapping[str, str]) -> Span:
        """Begin the span of a call that is served, below the caller's own.

        Args:
            method: full name of the gRPC method, ``package.Service/Method``.
            metadata: what the caller sent.
        """
        ...

    def call(self, peer: str, method: str) -> Span:
        """Begin the span of a call of another service, below the call that the running task serves.

        Outside of one nothing is recorded, and the peer is told so.
        """
        ...

    def close(self) -> None:
        """Send what is still here, within some seconds. Blocks."""
        ...


class _NoSpan:
    trace_id = ""
    headers: Headers = ()

    def set(self, **attributes: str | int | float) -> None:
        """Do nothing."""

    def end(self, code: str, message: str = "") -> None:
        """Do nothing."""


NO_SPAN: Span = _NoSpan()
_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


class NoTracer:
    """Records nothing."""

    def serve(self, method: str, metadata: Mapping[str, str]) -> Span:
        """Return the span that is none."""
        return NO_SPAN

    def call(self, peer: str, method: str) -> Span:
        """Return the span that is none."""
        return NO_SPAN

    def close(self) -> None:
        """Do nothing."""


def current_span() -> Span:
    """Return the span of the call that the running task serves."""
    return _current.get()


def enter_span(span: Span) -> None:
    """Make a span that of the running task, and of the tasks and threads that it begins from now on."""
    _current.set(span)


def open_tracer(service: str, endpoint: str, ratio: float) -> Tracer:
    """Return the tracer that the settings ask for.

    Args:
        service: what the service is called in traces.
        endpoint: of OTLP over gRPC, ``http://host:port`` or ``https://host:port``; empty: no traces.
        ratio: share of the traces beginning here that are recorded, 0 to 1.

    Raises:
        TracingUnavailableError: OpenTelemetry is not installed.
    """
    if not endpoint:
        return NoTracer()
    try:
        from services.chassis.otlp import OtlpTracer, otlp_exporter
    except ImportError as error:
        raise TracingUnavailableError(
            f"otlp_endpoint needs OpenTelemetry: pip install 'text4seg-serving[tracing]' ({error})"
        ) from error
    return OtlpTracer(service, otlp_exporter(endpoint), ratio)
