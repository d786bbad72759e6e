"""``python -m services.orchestrator``: settings, build, serve."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from services.chassis.byte_cache import ByteCache, MemoryCache, RedisCache
from services.chassis.health import Health
from services.chassis.image_file import ImageLimits
from services.chassis.routing import Router
from services.chassis.server import StartupError, run_service
from services.chassis.telemetry import Telemetry
from services.orchestrator.chat import Chatter
from services.orchestrator.detect import Detector
from services.orchestrator.grpc_peers import GrpcGenerator, GrpcRefiner, PeerOptions, open_channel
from services.orchestrator.image_store import ImageStore, MemoryImages
from services.orchestrator.model_info import Describer
from services.orchestrator.observed import AnswerMetrics, ObservedCache
from services.orchestrator.refinement import Refinement
from services.orchestrator.result_cache import ResultCache
from services.orchestrator.segment import Segmenter
from services.orchestrator.servicer import SegmentationServicer, UseCases
from services.orchestrator.settings import OrchestratorSettings
from text4seg.segmentation import Limits
from text4seg.v1.segmentation_service_pb2_grpc import add_SegmentationServiceServicer_to_server


@asynccontextmanager
async def build(
    settings: OrchestratorSettings, router: Router, health: Health, telemetry: Telemetry
) -> AsyncIterator[None]:
    """Connect to the peers and route SegmentationService to the use cases.

    Health has the fact "generator": no answer is possible without it. Without a refiner, answers are coarse.

    Raises:
        StartupError: a TLS file cannot be read, or the Redis address is malformed.
    """
    health.report("generator", False)
    options = _peer_options(settings)
    limits = _limits(settings)
    answers, images = _stores(settings, telemetry)
    metrics = AnswerMetrics(telemetry)
    async with AsyncExitStack() as resources:
        for store in (answers, images):
            resources.push_async_callback(store.aclose)
        channel = await resources.enter_async_context(open_channel(settings.generator_address, options))
        generator = GrpcGenerator(channel, options, partial(health.report, "generator"), telemetry)
        await resources.enter_async_context(generator.watch.running())
        refiner = None
        if settings.refiner_address:
            channel = await resources.enter_async_context(open_channel(settings.refiner_address, options))
            refiner = GrpcRefiner(channel, options, telemetry=telemetry)
            await resources.enter_async_context(refiner.watch.running())
        image_limits = ImageLimits(bytes=limits.image_bytes, pixels=limits.image_pixels)
        image_store = ImageStore(images, image_limits, settings.image_ttl_s, settings.upload_bytes)
        refinement = Refinement(refiner, settings.min_agreement)
        cache = ResultCache(answers if settings.cache_ttl_s > 0 else None, settings.cache_ttl_s)
        segmenter = Segmenter(
            image_store,
            generator,
            refinement,
            ObservedCache(cache, metrics),
            phrase_concurrency=settings.phrase_concurrency,
        )
        use_cases = UseCases(
            segmenter=segmenter,
            detector=Detector(segmenter),
            chatter=Chatter(image_store, generator, refinement),
            images=image_store,
            describer=Describer(generator, refiner, limits),
        )
        gate = telemetry.gate(settings.concurrency, settings.queue)
        servicer = SegmentationServicer(use_cases, gate, limits, metrics)
        router.add(add_SegmentationServiceServicer_to_server, servicer)
        yield


def _stores(settings: OrchestratorSettings, telemetry: Telemetry) -> tuple[ByteCache, ByteCache]:
    """Return where answers and where images are kept."""
    if settings.redis_url:
        try:
            return (
                RedisCache(settings.redis_url, settings.redis_budget_s, telemetry=telemetry),
                RedisCache(settings.redis_url, settings.redis_image_budget_s, telemetry=telemetry),
            )
        except ValueError as error:
            raise StartupError(f"redis_url: {error}") from error
    return MemoryCache(settings.cache_bytes), MemoryImages(settings.image_store_bytes)


def _limits(settings: OrchestratorSettings) -> Limits:
    return Limits(
        image_bytes=settings.max_image_bytes,
        image_pixels=settings.max_image_pixels,
        phrases=settings.max_phrases,
        phrase_characters=settings.max_phrase_characters,
        turns=settings.max_turns,
        conversation_characters=settings.max_conversation_characters,
    )


def _peer_options(settings: OrchestratorSettings) -> PeerOptions:
    return PeerOptions(
        timeout_s=settings.peer_timeout_s,
        concurrency=settings.peer_concurrency,
        refresh_s=settings.peer_refresh_s,
        max_message_bytes=settings.max_message_bytes,
        api_key=settings.peer_api_key.get_secret_value(),
        tls_ca=settings.peer_tls_ca,
        tls_certificate=settings.peer_tls_certificate,
        tls_key=settings.peer_tls_key,
    )


if __name__ == "__main__":
    sys.exit(run_service("orchestrator", OrchestratorSettings, build))
