"""The use case of Detect: the tight box around each region."""

from __future__ import annotations

from services.orchestrator.ports import Budget
from services.orchestrator.segment import Segmenter
from text4seg.segmentation import DetectAnswer, Detection, DetectRequest, SegmentRequest


class Detector:
    """Finds boxes by mask2box; it shares answers with Segment, the cache included."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    async def answer(self, request: DetectRequest, budget: Budget) -> DetectAnswer:
        """Return the boxes of what a query names.

        Raises:
            Text4SegError: as for :meth:`Segmenter.answer`.
        """
        asked = SegmentRequest(request.image, request.query, request.options)
        answer = await self._segmenter.answer(asked, budget)
        return DetectAnswer(
            detections=tuple(Detection(region.label, region.box, region.score) for region in answer.regions),
            image_size=answer.image_size,
            no_target_score=answer.no_target_score,
            timing=answer.timing,
            cache=answer.cache,
            versions=answer.versions,
            warnings=answer.warnings,
        )
