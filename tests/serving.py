"""All three services in the test's process, over real gRPC on free ports."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from PIL import Image

from services.__main__ import start
from services.chassis.server import RunningService
from services.generator.settings import GeneratorSettings
from services.orchestrator.settings import OrchestratorSettings
from services.refiner.settings import RefinerSettings
from text4seg.segmentation import (
    ImageContent,
    ImageSource,
    LabelQuery,
    OpenQuery,
    PhraseQuery,
    Query,
    SegmentOptions,
    SegmentRequest,
)
from text4seg.v1.segmentation_service_pb2_grpc import SegmentationServiceStub

NOWHERE = "127.0.0.1:1"
"""An address where nobody listens."""

SETTINGS: Mapping[str, Any] = {"address": "127.0.0.1:0", "drain_s": 0.0}


@dataclass
class Suite:
    """Running services and a stub of the public one."""

    stub: Any
    orchestrator: RunningService
    generator: RunningService
    refiner: RunningService


@asynccontextmanager
async def serving(
    orchestrator: Mapping[str, Any] | None = None,
    generator: Mapping[str, Any] | None = None,
    refiner: Mapping[str, Any] | None = None,
) -> AsyncIterator[Suite]:
    """Run the fakes (or what the settings say), and stop them in the end."""
    services = await start(
        OrchestratorSettings(**{**SETTINGS, **(orchestrator or {})}),
        GeneratorSettings(**{**SETTINGS, "engine": "scripted", **(generator or {})}),
        RefinerSettings(**{**SETTINGS, "model": "identity", **(refiner or {})}),
    )
    try:
        for service in services:
            await service.wait_serving()
        async with grpc.aio.insecure_channel(services[0].address) as channel:
            yield Suite(SegmentationServiceStub(channel), *services)  # type: ignore[no-untyped-call]
    finally:
        for service in services:
            await service.stop(0)


def picture(
    height: int = 48, width: int = 64, seed: int = 0, file_format: str = "PNG", **options: Any
) -> bytes:
    """A file of coloured noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


def request(
    query: Query | str | tuple[str, ...] | None = "cat",
    image: bytes | ImageSource = b"",
    **options: Any,
) -> SegmentRequest:
    """A request: a string is a phrase, a tuple a label list, None open vocabulary."""
    match query:
        case str():
            query = PhraseQuery((query,))
        case tuple():
            query = LabelQuery(query)
        case None:
            query = OpenQuery()
    source = ImageContent(image or picture()) if isinstance(image, bytes) else image
    return SegmentRequest(source, query, SegmentOptions(**options))
