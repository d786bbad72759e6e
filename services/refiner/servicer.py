"""RefinerService over gRPC: translate, call the use case, translate."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import grpc

from services.chassis.deadline import Deadline
from services.refiner.refine import Refine
from text4seg.errors import DeadlineExceededError
from text4seg.segmentation import Limits
from text4seg.v1 import refiner_service_pb2 as pb
from text4seg.v1 import refiner_service_pb2_grpc as pb_grpc
from text4seg.wire import refine_answer_to_proto, refine_request_from_proto, refiner_info_to_proto

_Context = grpc.aio.ServicerContext[Any, Any]


class RefinerServicer(pb_grpc.RefinerServiceServicer):
    """Answers the RPCs of RefinerService.

    Args:
        refine: the use case.
        limits: of requests.
        spent: told the seconds that an answered call spent in each stage.
    """

    def __init__(self, refine: Refine, limits: Limits, spent: Callable[..., None]) -> None:
        self._refine = refine
        self._limits = limits
        self._spent = spent

    async def Refine(self, request: pb.RefineRequest, context: _Context) -> pb.RefineResponse:  # noqa: N802
        """Sharpen coarse masks."""
        left = Deadline.from_context(context).remaining_s()
        asked = refine_request_from_proto(request, self._limits)
        try:
            async with asyncio.timeout(None if math.isinf(left) else left):
                answer = await self._refine(asked)
        except TimeoutError as error:
            raise DeadlineExceededError("refine") from error
        self._spent(queue=answer.queue_s, embed=answer.embed_s, decode=answer.decode_s)
        return await asyncio.to_thread(refine_answer_to_proto, answer)

    async def GetRefinerInfo(  # noqa: N802
        self, request: pb.GetRefinerInfoRequest, context: _Context
    ) -> pb.GetRefinerInfoResponse:
        """Describe the loaded models."""
        return refiner_info_to_proto(self._refine.info)
