"""SegmentationService over gRPC: translate, call a use case, translate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from services.chassis.deadline import Deadline
from services.orchestrator.chat import Chatter
from services.orchestrator.detect import Detector
from services.orchestrator.image_store import ImageStore
from services.orchestrator.model_info import Describer
from services.orchestrator.observed import AnswerMetrics
from services.orchestrator.png import encode_png
from services.orchestrator.segment import Segmenter
from text4seg import wire
from text4seg.errors import FeatureUnimplementedError
from text4seg.segmentation import ChatFinish, ChatRegions, Limits, SegmentAnswer
from text4seg.v1 import segmentation_service_pb2 as pb
from text4seg.v1 import segmentation_service_pb2_grpc as pb_grpc

_Context = grpc.aio.ServicerContext[Any, Any]


class Admission(Protocol):
    """Decides who may work, and when."""

    def slot(self) -> AbstractAsyncContextManager[float]:
        """Hold a place; raises OverloadedError when too many wait."""


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the service does, one per group of RPCs."""

    segmenter: Segmenter
    detector: Detector
    chatter: Chatter
    images: ImageStore
    describer: Describer


class SegmentationServicer(pb_grpc.SegmentationServiceServicer):
    """Answers the RPCs of SegmentationService."""

    def __init__(
        self, use_cases: UseCases, admission: Admission, limits: Limits, metrics: AnswerMetrics
    ) -> None:
        """Wire the servicer.

        Args:
            use_cases: what to call.
            admission: the queue in front of the calls that need the models.
            limits: of requests.
            metrics: told of every answer.
        """
        self._do = use_cases
        self._admission = admission
        self._limits = limits
        self._metrics = metrics

    async def Segment(self, request: pb.SegmentRequest, context: _Context) -> pb.SegmentResponse:  # noqa: N802
        """Find the regions that a query names."""
        asked = wire.segment_request_from_proto(request, self._limits)
        async with self._admission.slot():
            answer = await self._do.segmenter.answer(asked, Deadline.from_context(context))
            self._metrics.answered(answer.timing, answer.warnings)
            mask_format = asked.options.mask_format
            return await asyncio.to_thread(wire.segment_answer_to_proto, answer, mask_format, encode_png)

    async def StreamSegment(  # noqa: N802
        self, request: pb.StreamSegmentRequest, context: _Context
    ) -> AsyncIterator[pb.StreamSegmentResponse]:
        """Find the regions that a query names, and send them piece by piece."""
        asked = wire.segment_request_from_proto(request, self._limits)
        mask_format = asked.options.mask_format
        events = self._do.segmenter.stream(asked, Deadline.from_context(context))
        async with self._admission.slot(), aclosing(events):
            async for event in events:
                if isinstance(event, SegmentAnswer):
                    self._metrics.answered(event.timing, event.warnings)
                yield await asyncio.to_thread(wire.segment_event_to_proto, event, mask_format, encode_png)

    async def SegmentFrames(  # noqa: N802
        self, requests: AsyncIterator[pb.SegmentFramesRequest], context: _Context
    ) -> AsyncIterator[pb.SegmentFramesResponse]:
        """Refuse: not part of this server yet."""
        raise FeatureUnimplementedError("SegmentFrames")
        yield pb.SegmentFramesResponse()  # an async generator, as streaming handlers are

    async def Detect(self, request: pb.DetectRequest, context: _Context) -> pb.DetectResponse:  # noqa: N802
        """Find the boxes of what a query names."""
        asked = wire.detect_request_from_proto(request, self._limits)
        async with self._admission.slot():
            answer = await self._do.detector.answer(asked, Deadline.from_context(context))
            self._metrics.answered(answer.timing, answer.warnings)
        return wire.detect_answer_to_proto(answer)

    async def Chat(self, request: pb.ChatRequest, context: _Context) -> AsyncIterator[pb.ChatResponse]:  # noqa: N802
        """Answer the last turn of a conversation."""
        asked = wire.chat_request_from_proto(request, self._limits)
        mask_format = asked.options.mask_format
        events = self._do.chatter.stream(asked, Deadline.from_context(context))
        async with self._admission.slot(), aclosing(events):
            async for event in events:
                if isinstance(event, ChatRegions):
                    self._metrics.read([event.descriptor])
                elif isinstance(event, ChatFinish):
                    self._metrics.answered(event.timing, event.warnings)
                yield await asyncio.to_thread(wire.chat_event_to_proto, event, mask_format, encode_png)

    async def PutImage(  # noqa: N802
        self, requests: AsyncIterator[pb.PutImageRequest], context: _Context
    ) -> pb.PutImageResponse:
        """Store an image that comes in pieces."""
        stored = await self._do.images.put(request.chunk async for request in requests)
        return wire.stored_image_to_proto(stored)

    async def GetModelInfo(  # noqa: N802
        self, request: pb.GetModelInfoRequest, context: _Context
    ) -> pb.GetModelInfoResponse:
        """Describe the models and limits of this server."""
        return wire.model_info_to_proto(await self._do.describer.answer())
