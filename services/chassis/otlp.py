"""Traces exported with OpenTelemetry. Imported only where traces are on."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.chassis.tracing import Headers, Span, current_span
from text4seg import __version__

_EXPORT_S = 5
_FLUSH_MS = 5000
_PROPAGATOR = TraceContextTextMapPropagator()
_NOT_RECORDED: Headers = (("traceparent", f"00-{1:032x}-{1:016x}-00"),)
"""Says that the caller's trace is not recorded: a peer must not begin one for what belongs to no request."""

# As OpenTelemetry's conventions for gRPC have it: a server is not at fault for its caller's mistakes.
_SERVER_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Return what sends spans to an OTLP endpoint over gRPC; it connects when the first are sent."""
    return OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=_EXPORT_S)


class OtlpTracer:
    """A :class:`~services.chassis.tracing.Tracer` on OpenTelemetry's SDK; nothing of it is global."""

    def __init__(self, service: str, exporter: SpanExporter, ratio: float) -> None:
        """Begin to export.

        Args:
            service: its name becomes ``service.name``, after ``text4seg-``.
            exporter: where spans go, from a thread.
            ratio: share of the traces beginning here that are recorded. A caller's own decision is followed.
        """
        resource = Resource.create(
            {
                "service.name": f"text4seg-{service}",
                "service.namespace": "text4seg",
                "service.version": __version__,
            }
        )
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("text4seg", __version__)

    def serve(self, method: str, metadata: Mapping[str, str]) -> Span:
        """Begin the span of a call that is served."""
        service, _, name = method.rpartition("/")
        return _OtelSpan(
            self._tracer.start_span(
                method,
                _PROPAGATOR.extract(metadata),
                trace.SpanKind.SERVER,
                {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
            ),
            _SERVER_FAULTS,
        )

    def call(self, peer: str, method: str) -> Span:
        """Begin the span of a call of another service."""
        caller = current_span()
        if not isinstance(caller, _OtelSpan):
            return _NotRecorded()
        return _OtelSpan(
            self._tracer.start_span(
                f"{peer} {method}",
                caller.context,
                trace.SpanKind.CLIENT,
                {"peer.service": peer, "rpc.method": method},
            )
        )

    def close(self) -> None:
        """Send what is still here, within some seconds."""
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()


class _OtelSpan:
    def __init__(self, span: trace.Span, faults: set[str] | None = None) -> None:
        self._span = span
        self._faults = faults
        self.context = trace.set_span_in_context(span)

    @property
    def trace_id(self) -> str:
        return trace.format_trace_id(self._span.get_span_context().trace_id)

    @property
    def headers(self) -> Headers:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, self.context)
        return tuple(carrier.items())

    def set(self, **attributes: str | int | float) -> None:
        self._span.set_attributes({f"text4seg.{name}": value for name, value in attributes.items()})

    def end(self, code: str, message: str = "") -> None:
        self._span.set_attribute("rpc.grpc.status", code)
        if code in self._faults if self._faults is not None else code != "OK":
            self._span.set_status(trace.StatusCode.ERROR, message or code)
        self._span.end()


class _NotRecorded:
    trace_id = ""
    headers = _NOT_RECORDED

    def set(self, **attributes: str | int | float) -> None:
        pass

    def end(self, code: str, message: str = "") -> None:
        pass
