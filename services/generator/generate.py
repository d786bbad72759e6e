"""Use case: the assistant's next turn about an image."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from typing import Protocol, cast

from text4seg.segmentation import GenerateRequest, GeneratorInfo, TextChunk


class TextModel(Protocol):
    """A multimodal language model: image and conversation in, text out."""

    @property
    def info(self) -> GeneratorInfo:
        """The loaded model; the same for as long as it is loaded.

        Raises:
            ServiceUnavailableError: it runs elsewhere and cannot be reached.
        """
        ...

    def write(self, request: GenerateRequest) -> AsyncIterator[TextChunk]:
        """Write the assistant's next turn, greedily: the same request gets the same text.

        Every chunk carries all tokens of its text with their log-probabilities; their spans cover the whole
        answer in order, without gap or overlap. ``finish`` is set in the last chunk and nowhere else. With a
        constraint, the text is one answer sentence and one well-formed block, unless the token limit cuts it
        off. Leaving the iteration stops the model.

        Raises:
            ImageInvalidError: when the image cannot be read.
            QueryInvalidError: when the conversation is too long for the model or holds its control tokens.
            ServiceUnavailableError: when it runs elsewhere and cannot be reached.
        """
        ...


class Admission(Protocol):
    """Decides who may use the model, and when."""

    def slot(self) -> AbstractAsyncContextManager[float]:
        """Hold a place; yields the seconds spent waiting. Raises OverloadedError when too many wait."""
        ...


class Generate:
    """Queues for the model and streams its answer.

    Args:
        model: what writes.
        admission: the queue in front of it.
    """

    def __init__(self, model: TextModel, admission: Admission) -> None:
        self._model = model
        self._admission = admission

    @property
    def info(self) -> GeneratorInfo:
        """The loaded model."""
        return self._model.info

    async def __call__(self, request: GenerateRequest) -> AsyncGenerator[TextChunk, None]:
        """Stream the answer; the model stops, and its place is free again, when the iteration is left.

        Raises:
            OverloadedError: when too many calls wait already.
            Text4SegError: whatever :meth:`TextModel.write` raises.
        """
        async with self._admission.slot() as queue_s:
            chunks = cast("AsyncGenerator[TextChunk, None]", self._model.write(request))
            async with aclosing(chunks):
                async for chunk in chunks:
                    finish = chunk.finish
                    if finish is not None:  # an engine that runs elsewhere has a queue of its own
                        finish = replace(finish, queue_s=queue_s + finish.queue_s)
                    yield replace(chunk, logprobs=chunk.logprobs if request.logprobs else (), finish=finish)
