"""GeneratorService over gRPC: translate, call the use case, translate."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc

from services.chassis.deadline import Deadline
from services.generator.generate import Generate
from services.generator.observed import GeneratorMetrics
from text4seg.errors import DeadlineExceededError
from text4seg.segmentation import Limits
from text4seg.v1 import generator_service_pb2 as pb
from text4seg.v1 import generator_service_pb2_grpc as pb_grpc
from text4seg.wire import generate_request_from_proto, generator_info_to_proto, text_chunk_to_proto

_Context = grpc.aio.ServicerContext[Any, Any]


class GeneratorServicer(pb_grpc.GeneratorServiceServicer):
    """Answers the RPCs of GeneratorService.

    Args:
        generate: the use case.
        limits: of requests.
        metrics: told of every answer.
    """

    def __init__(self, generate: Generate, limits: Limits, metrics: GeneratorMetrics) -> None:
        self._generate = generate
        self._limits = limits
        self._metrics = metrics

    async def Generate(  # noqa: N802
        self, request: pb.GenerateRequest, context: _Context
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Stream the assistant's next turn."""
        deadline = Deadline.from_context(context)
        asked = generate_request_from_proto(request, self._limits)
        asked = replace(asked, expires_at=deadline.expires_at)
        async with aclosing(self._generate(asked)) as chunks:
            while True:
                left = deadline.remaining_s()
                try:
                    async with asyncio.timeout(None if math.isinf(left) else left):
                        chunk = await anext(chunks, None)
                except TimeoutError as error:
                    raise DeadlineExceededError("generate") from error
                if chunk is None:
                    return
                if chunk.finish is not None:
                    self._metrics.answered(chunk.finish)
                yield text_chunk_to_proto(chunk)

    async def GetGeneratorInfo(  # noqa: N802
        self, request: pb.GetGeneratorInfoRequest, context: _Context
    ) -> pb.GetGeneratorInfoResponse:
        """Describe the loaded model."""
        return generator_info_to_proto(self._generate.info)
