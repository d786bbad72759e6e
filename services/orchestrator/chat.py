"""The use case of Chat: text as it is written, and the regions of every descriptor block in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from services.orchestrator.faults import fields_renamed
from services.orchestrator.ports import Budget, Generator, Images, OpenImage
from services.orchestrator.questions import versions_of
from services.orchestrator.refinement import Refinement
from services.orchestrator.regions import Written, coarse_regions, read_answer, repair_warnings, shown
from services.orchestrator.stopwatch import Clock, Stopwatch
from text4seg.dialogue import SEG_CLOSE, Block, find_blocks
from text4seg.segmentation import (
    ChatEvent,
    ChatFinish,
    ChatRegions,
    ChatRequest,
    ChatText,
    FinishReason,
    GenerateRequest,
    GeneratorInfo,
    SegmentOptions,
    TextChunk,
    Turn,
    Warning_,
)


class Chatter:
    """Answers the last turn of a conversation, which travels with each call: nothing is kept here."""

    def __init__(
        self,
        images: Images,
        generator: Generator,
        refinement: Refinement,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        """Wire the use case.

        Args:
            images: where images come from.
            generator: writes the answer, unconstrained.
            refinement: sharpens regions.
            clock: a monotonic clock in seconds.
        """
        self._images = images
        self._generator = generator
        self._refinement = refinement
        self._clock = clock

    async def stream(self, request: ChatRequest, budget: Budget) -> AsyncGenerator[ChatEvent, None]:
        """Yield text as it is written, the regions of each block once it is complete, and the finish.

        A block that the model never closed is read when the answer ends. The finish holds the whole answer as
        a turn: sent along with the next question, blocks and all, it tells the model what it has marked.

        Args:
            request: checked: user and assistant take turns, the last turn is the user's.
            budget: the time left.

        Raises:
            Text4SegError: the image cannot be used, a peer failed, or the time ran out.
        """
        watch = Stopwatch(self._clock)
        with watch.stage("image"):
            image = await self._images.open(request.image)
        generator = await self._generator.info()
        await self._refinement.info(request.options)  # an unknown model is refused before anything is written
        question = GenerateRequest(
            image=image.data, turns=request.turns, max_tokens=request.max_tokens, logprobs=True
        )
        reader = _BlockReader(image, request.options, generator, self._refinement, budget, watch)
        chunks: list[TextChunk] = []
        text = ""
        done = 0
        async with aclosing(_ahead(self._generator.generate(question, budget))) as answer:
            while (chunk := await _next(answer, watch, image)) is not None:
                chunks.append(chunk)
                text += chunk.text
                if chunk.text:
                    yield ChatText(chunk.text)
                # Looked for only where a tag can have ended: finding blocks reads the whole answer.
                if SEG_CLOSE in text[-len(chunk.text) - len(SEG_CLOSE) :]:
                    blocks = find_blocks(text)
                    for block in blocks[done:]:
                        if block.closed or block is not blocks[-1]:
                            yield await reader.read(block, text, chunks, FinishReason.STOP)
                            done += 1
        written = Written.of(chunks)
        for block in find_blocks(text)[done:]:
            yield await reader.read(block, text, chunks, written.finish_reason)
        yield ChatFinish(
            reason=written.finish_reason,
            turn=Turn("assistant", text),
            timing=watch.timing(),
            versions=versions_of(generator, reader.refiner),
            image_size=image.size,
            warnings=tuple(reader.warnings),
        )


class _BlockReader:
    """Makes regions of the blocks of one answer, and gathers what there is to warn of."""

    def __init__(
        self,
        image: OpenImage,
        options: SegmentOptions,
        generator: GeneratorInfo,
        refinement: Refinement,
        budget: Budget,
        watch: Stopwatch,
    ) -> None:
        self._image = image
        self._options = options
        self._generator = generator
        self._refinement = refinement
        self._budget = budget
        self._watch = watch
        self.warnings: list[Warning_] = []
        self.refiner = ""

    async def read(
        self, block: Block, text: str, chunks: Sequence[TextChunk], finish_reason: FinishReason
    ) -> ChatRegions:
        """Return the regions of a block of the text; the chunks hold its tokens."""
        options = self._options
        with self._watch.stage("decode"):
            tokens = tuple(token for chunk in chunks for token in chunk.logprobs)
            written = Written(
                text=text[block.begin : block.end],
                tokens=tuple(
                    replace(token, begin=token.begin - block.begin, end=token.end - block.begin)
                    for token in tokens
                    if block.begin <= token.begin < block.end
                ),
                finish_reason=finish_reason,
            )
            reading = read_answer(written, "", None, self._generator, strict=options.strict)
            coarse = await asyncio.to_thread(coarse_regions, reading, None, self._image.size, options)
        refined = await self._refinement.refine(
            self._image, coarse, options, self._budget, self._watch, exclusive=True
        )
        self.refiner = refined.model or self.refiner
        self.warnings += (*repair_warnings([reading.result]), *refined.warnings)
        return ChatRegions(
            begin=block.begin,
            end=block.end,
            regions=tuple(shown(region, options) for region in refined.regions),
            descriptor=reading.result,
        )


async def _ahead(answer: AsyncGenerator[TextChunk, None]) -> AsyncGenerator[TextChunk, None]:
    """Read an answer as fast as it is written: a caller who reads slowly must not hold up the generator.

    What waits is bounded by the model's limit of tokens.
    """
    chunks: asyncio.Queue[TextChunk | None] = asyncio.Queue()

    async def read() -> None:
        try:
            async with aclosing(answer):
                async for chunk in answer:
                    chunks.put_nowait(chunk)
        finally:
            chunks.put_nowait(None)

    reading = asyncio.create_task(read())
    try:
        while (chunk := await chunks.get()) is not None:
            yield chunk
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _next(
    answer: AsyncGenerator[TextChunk, None], watch: Stopwatch, image: OpenImage
) -> TextChunk | None:
    # The generator's other fields are called as the caller's are.
    with watch.stage("generate"), fields_renamed({"image": image.field, "message": image.field}):
        return await anext(answer, None)
