"""What the tests see of telemetry: scrapes, and spans that a receiver of OTLP over gRPC was sent."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

_PATIENT_S = 60.0
_EXPORT = "opentelemetry.proto.collector.trace.v1.TraceService"


async def scrape(address: str) -> dict[str, Metric]:
    """The families that a service shows, by name."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=_PATIENT_S) as response:
            return str(response.read(), "utf-8")

    return {family.name: family for family in text_string_to_metric_families(await asyncio.to_thread(read))}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    """The sum of the samples of a name with at least these labels."""
    return sum(
        each.value
        for family in families.values()
        for each in family.samples
        if each.name == sample and labels.items() <= each.labels.items()
    )


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it came."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    attributes: dict[str, object]
    failed: bool
    began_s: float
    ended_s: float


@dataclass
class Receiver:
    """What it was sent so far."""

    endpoint: str
    spans: list[ReceivedSpan] = field(default_factory=list)

    def named(self, service: str, name: str) -> ReceivedSpan:
        """The one span of a name."""
        (found,) = (span for span in self.spans if (span.service, span.name) == (service, name))
        return found

    def parent(self, span: ReceivedSpan) -> ReceivedSpan | None:
        """The span above another; None when it was never received."""
        return next((above for above in self.spans if above.span_id == span.parent_id), None)


@asynccontextmanager
async def otlp_receiver() -> AsyncIterator[Receiver]:
    """Receive traces as a collector does."""
    receiver = Receiver("")

    async def export(request: ExportTraceServiceRequest, context: object) -> ExportTraceServiceResponse:
        for resource in request.resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                receiver.spans += [
                    ReceivedSpan(
                        about["service.name"],
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.kind,
                        {
                            each.key: getattr(each.value, str(each.value.WhichOneof("value")))
                            for each in span.attributes
                        },
                        span.status.code == span.status.STATUS_CODE_ERROR,
                        span.start_time_unix_nano / 1e9,
                        span.end_time_unix_nano / 1e9,
                    )
                    for span in scope.spans
                ]
        return ExportTraceServiceResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_EXPORT, {"Export": handler})])
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield receiver
    finally:
        await server.stop(0)


def sample_names(families: Sequence[Metric]) -> set[str]:
    """The names by which queries can ask for families, whether or not anything was recorded in them yet."""
    ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {family.name + end for family in families for end in ends[family.type]}
