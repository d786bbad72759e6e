"""The spans of the client's calls, in an application that uses OpenTelemetry and in one that does not."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.hand_server import HandServicer, picture, serving
from text4seg.errors import ImageInvalidError, OverloadedError, ServiceUnavailableError, Text4SegError
from text4seg_client import AsyncClient, Client

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "text4seg.v1.SegmentationService"
Kind = type[Client] | type[AsyncClient]


@pytest.fixture(params=[Client, AsyncClient], ids=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider()


@pytest.fixture
def spans(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What an application exports; a provider of its own can be set once a process only."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


async def call(
    kind: Kind, address: str, method: str, *values: Any, most: int | None = None, **settings: Any
) -> None:
    """Call a method; a stream is left after the given number of messages."""

    def block() -> None:
        with Client(address, sleep=lambda _: None, **settings) as client:
            result = getattr(client, method)(*values)
            if inspect.isgenerator(result):
                for number, _ in enumerate(result, 1):
                    if number == most:
                        result.close()

    async def no_sleep(_: float) -> None:
        pass

    if kind is Client:
        return await asyncio.to_thread(block)
    async with AsyncClient(address, sleep=no_sleep, **settings) as client:
        result = getattr(client, method)(*values)
        if not inspect.isasyncgen(result):
            await result
            return None
        number = 0
        async for _ in result:
            number += 1
            if number == most:
                await result.aclose()
    return None


def named(span: ReadableSpan) -> tuple[str, str]:
    assert span.kind is trace.SpanKind.CLIENT
    assert span.attributes is not None
    method = str(span.attributes["rpc.method"])
    assert span.name == f"{SERVICE}/{method}"
    assert (span.attributes["rpc.system"], span.attributes["rpc.service"]) == ("grpc", SERVICE)
    code = str(span.attributes["rpc.grpc.status"])
    assert (span.status.status_code is trace.StatusCode.ERROR) == (code != "OK")
    return method, code


def sent(servicer: HandServicer) -> list[str]:
    """The spans that callers said they were in."""
    return [seen.metadata["traceparent"].split("-")[2] for seen in servicer.seen]


def own(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return trace.format_span_id(context.span_id)


@pytest.mark.parametrize(
    ("method", "values", "name"),
    [
        ("segment", (picture(), "red"), "Segment"),
        ("stream_segment", (picture(), "red"), "StreamSegment"),
        ("detect", (picture(), "red"), "Detect"),
        ("chat", (picture(), "where is red"), "Chat"),
        ("put_image", (picture(),), "PutImage"),
        ("model_info", (), "GetModelInfo"),
    ],
)
async def test_a_call_has_a_span_between_the_applications_and_the_servers(
    kind: Kind,
    address: str,
    servicer: HandServicer,
    provider: TracerProvider,
    spans: InMemorySpanExporter,
    method: str,
    values: tuple[Any, ...],
    name: str,
) -> None:
    with provider.get_tracer("application").start_as_current_span("application") as root:
        await call(kind, address, method, *values)
    span, _ = spans.get_finished_spans()
    assert named(span) == (name, "OK")
    assert span.parent == root.get_span_context()
    assert sent(servicer) == [own(span)]


@pytest.mark.parametrize("method", ["segment", "stream_segment"])
async def test_all_attempts_are_one_span_and_an_upload_is_another(
    kind: Kind, address: str, servicer: HandServicer, spans: InMemorySpanExporter, method: str
) -> None:
    servicer.failures += [OverloadedError("full", 0.1)] * 2
    await call(kind, address, method, picture(), "red", inline_bytes=10)
    upload, asked = spans.get_finished_spans()
    assert named(upload) == ("PutImage", "OK")
    assert named(asked) == ({"segment": "Segment", "stream_segment": "StreamSegment"}[method], "OK")
    assert sent(servicer) == [own(upload)] * 3 + [own(asked)]


@pytest.mark.parametrize("method", ["segment", "stream_segment"])
@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ImageInvalidError("image.content", "no image"), "INVALID_ARGUMENT"),
        (OverloadedError("full", 0.1), "RESOURCE_EXHAUSTED"),
    ],
)
async def test_a_failure_is_seen_in_the_span(
    kind: Kind,
    address: str,
    servicer: HandServicer,
    spans: InMemorySpanExporter,
    method: str,
    failure: Text4SegError,
    code: str,
) -> None:
    servicer.failures += [failure] * 9
    with pytest.raises(type(failure)):
        await call(kind, address, method, picture(), "red")
    (span,) = spans.get_finished_spans()
    assert named(span)[1] == code
    assert span.status.description == str(failure)


async def test_what_never_reached_a_server_is_seen_too(kind: Kind, spans: InMemorySpanExporter) -> None:
    with pytest.raises(ServiceUnavailableError):
        await call(kind, "127.0.0.1:1", "model_info")
    with pytest.raises(Text4SegError):
        await call(kind, "127.0.0.1:1", "model_info", timeout_s=1e-9)
    assert [named(span)[1] for span in spans.get_finished_spans()] == ["UNAVAILABLE", "DEADLINE_EXCEEDED"]


async def test_the_span_of_a_stream_ends_when_it_is_closed(
    kind: Kind, address: str, servicer: HandServicer, spans: InMemorySpanExporter
) -> None:
    servicer.hold = True
    await call(kind, address, "stream_segment", picture(), "red", most=1)
    (span,) = spans.get_finished_spans()
    assert named(span) == ("StreamSegment", "CANCELLED")


async def test_the_span_of_a_cancelled_task_ends(
    address: str, servicer: HandServicer, spans: InMemorySpanExporter
) -> None:
    servicer.hold = True

    async def ask() -> None:
        async with AsyncClient(address) as client:
            async for _ in client.stream_segment(picture(), "red"):
                arrived.set()

    arrived = asyncio.Event()
    asking = asyncio.create_task(ask())
    await arrived.wait()
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    (span,) = spans.get_finished_spans()
    assert named(span) == ("StreamSegment", "CANCELLED")


async def test_a_failure_amid_a_stream_is_seen(kind: Kind, spans: InMemorySpanExporter) -> None:
    class Breaking(HandServicer):
        def _maybe_hold(self) -> None:
            raise OverloadedError("full", 0.1)

    with serving(Breaking()) as where, pytest.raises(OverloadedError):
        await call(kind, where, "stream_segment", picture(), "red")
    (span,) = spans.get_finished_spans()
    assert named(span) == ("StreamSegment", "RESOURCE_EXHAUSTED")


async def test_without_a_tracer_the_applications_own_span_is_passed_on(
    kind: Kind, address: str, servicer: HandServicer
) -> None:
    context = trace.SpanContext(7, 8, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        await call(kind, address, "segment", picture(), "red")
    assert servicer.seen[0].metadata["traceparent"] == f"00-{7:032x}-{8:016x}-01"


def test_opentelemetry_is_neither_needed_nor_loaded(address: str, servicer: HandServicer) -> None:
    program = (
        "import sys\n"
        "from text4seg_client import Client\n"
        f"with Client({address!r}) as client:\n"
        "    client.model_info()\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert ran.stdout == "[]\n", ran.stderr
    assert "traceparent" not in servicer.seen[0].metadata
