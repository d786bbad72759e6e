"""What the orchestrator tells about its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from services.chassis.telemetry import Telemetry
from services.orchestrator.ports import AnswerCache
from text4seg.descriptors import RepairKind
from text4seg.segmentation import (
    CacheMode,
    CacheOutcome,
    DescriptorResult,
    SegmentAnswer,
    Timing,
    Warning_,
    WarningKind,
)


class AnswerMetrics:
    """Where answers came from, what had to be repaired in them, and where their time went.

    Args:
        telemetry: of the service.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._cache = telemetry.metrics.count(
            "cache", "Answers by where they came from", outcome=tuple(CacheOutcome)
        )
        self._repairs = telemetry.metrics.count(
            "repairs", "Repairs of what the model wrote", kind=tuple(RepairKind)
        )
        self._warnings = telemetry.metrics.count(
            "warnings", "Warnings in answers, each kind once an answer", kind=tuple(WarningKind)
        )

    def fetched(self, outcome: CacheOutcome) -> None:
        """Record where an answer came from."""
        self._cache.add(outcome=outcome)

    def read(self, descriptors: Sequence[DescriptorResult]) -> None:
        """Record the repairs of descriptors that were read just now."""
        for descriptor in descriptors:
            for repair in descriptor.report.repairs:
                self._repairs.add(kind=repair.kind)

    def answered(self, timing: Timing, warnings: Sequence[Warning_]) -> None:
        """Record where the time of an answer went, and what its caller is warned of."""
        self._telemetry.stages(
            image=timing.image_s,
            cache=timing.cache_s,
            generate=timing.generate_s,
            decode=timing.decode_s,
            refine=timing.refine_s,
        )
        for kind in {warning.kind for warning in warnings}:
            self._warnings.add(kind=kind)


class ObservedCache:
    """An :class:`~services.orchestrator.ports.AnswerCache` of which metrics are made.

    Args:
        cache: the cache itself.
        metrics: told of every answer.
    """

    def __init__(self, cache: AnswerCache, metrics: AnswerMetrics) -> None:
        self._cache = cache
        self._metrics = metrics

    async def fetch(
        self,
        key: str,
        mode: CacheMode,
        compute: Callable[[], Awaitable[SegmentAnswer]],
        keep: Callable[[SegmentAnswer], bool],
    ) -> tuple[SegmentAnswer, CacheOutcome]:
        """Return what the cache returns."""

        async def counted() -> SegmentAnswer:
            answer = await compute()
            self._metrics.read(answer.descriptors)
            return answer

        answer, outcome = await self._cache.fetch(key, mode, counted, keep)
        self._metrics.fetched(outcome)
        return answer, outcome
