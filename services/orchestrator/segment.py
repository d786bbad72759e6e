"""The use case of Segment and StreamSegment: ask, decode, refine, and keep the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import accumulate, pairwise

from services.orchestrator.faults import fields_renamed
from services.orchestrator.ports import AnswerCache, Budget, Generator, Images, OpenImage
from services.orchestrator.questions import Question, answer_key, questions_of, versions_of
from services.orchestrator.refinement import Refinement
from services.orchestrator.regions import (
    Reading,
    Written,
    coarse_again,
    coarse_regions,
    read_answer,
    repair_warnings,
    shown,
)
from services.orchestrator.stopwatch import Clock, Stopwatch
from text4seg.descriptors import Row, RowStream
from text4seg.segmentation import (
    CacheOutcome,
    CoarseRegions,
    GeneratorInfo,
    GridRow,
    PhraseQuery,
    RefineMode,
    Region,
    SegmentAnswer,
    SegmentEvent,
    SegmentOptions,
    SegmentRequest,
    TextChunk,
    Timing,
    WarningKind,
)

Emit = Callable[[GridRow | CoarseRegions], None]
"""Takes the pieces of an answer as they are made. Must not block."""


class Segmenter:
    """Answers one query about one image."""

    def __init__(
        self,
        images: Images,
        generator: Generator,
        refinement: Refinement,
        cache: AnswerCache,
        *,
        phrase_concurrency: int = 4,
        clock: Clock = time.monotonic,
    ) -> None:
        """Wire the use case.

        Args:
            images: where images come from.
            generator: writes descriptors.
            refinement: sharpens regions.
            cache: answers made before or under way.
            phrase_concurrency: calls of the generator at the same time for one query, at least 1.
            clock: a monotonic clock in seconds.
        """
        self._images = images
        self._generator = generator
        self._refinement = refinement
        self._cache = cache
        self._phrase_concurrency = phrase_concurrency
        self._clock = clock

    async def answer(
        self, request: SegmentRequest, budget: Budget, emit: Emit | None = None
    ) -> SegmentAnswer:
        """Return the complete answer.

        Args:
            request: checked and in canonical spelling.
            budget: the time left.
            emit: gets the rows as they are written and then the coarse regions. For an answer that this call
                did not compute itself, both come at the end.

        Raises:
            Text4SegError: the image cannot be used, a peer failed, or the time ran out.
        """
        watch = Stopwatch(self._clock)
        options = request.options
        with watch.stage("image"):
            image = await self._images.open(request.image)
        generator = await self._generator.info()
        refiner = await self._refinement.info(options)
        key = answer_key(
            image.digest, request.query, options, generator, refiner, self._refinement.min_agreement
        )
        computed: list[SegmentAnswer] = []

        async def compute() -> SegmentAnswer:
            computed.append(await self._compute(image, request, generator, budget, emit))
            return computed[-1]

        def keep(answer: SegmentAnswer) -> bool:
            # A coarse answer in the place of a refined one must not outlive the refiner's trouble; and
            # without the refiner's version in the key nobody could tell which refiner made it.
            degraded = any(warning.kind is WarningKind.REFINER_FAILED for warning in answer.warnings)
            return not degraded and (options.refine is RefineMode.NONE or refiner is not None)

        began = self._clock()
        # Not inside of compute: whoever shares it may have named the image in another way.
        with fields_renamed({"image": image.field, "message": image.field}):
            answer, outcome = await self._cache.fetch(key, options.cache, compute, keep)
        waited = self._clock() - began
        if emit is not None and not computed:
            for piece in await asyncio.to_thread(replay, answer, options):
                emit(piece)
        return replace(
            answer,
            regions=tuple(shown(region, options) for region in answer.regions),
            timing=self._timing(watch, outcome, waited, computed),
            cache=outcome,
        )

    async def stream(self, request: SegmentRequest, budget: Budget) -> AsyncGenerator[SegmentEvent, None]:
        """Yield rows as they are written, the coarse regions once, and the complete answer last.

        Closing the iterator gives the computation up, unless another call waits for the same answer.

        Raises:
            Text4SegError: as for :meth:`answer`.
        """
        pieces: asyncio.Queue[GridRow | CoarseRegions | None] = asyncio.Queue()

        async def work() -> SegmentAnswer:
            try:
                return await self.answer(request, budget, pieces.put_nowait)
            finally:
                pieces.put_nowait(None)

        working = asyncio.create_task(work())
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _compute(
        self,
        image: OpenImage,
        request: SegmentRequest,
        generator: GeneratorInfo,
        budget: Budget,
        emit: Emit | None,
    ) -> SegmentAnswer:
        watch = Stopwatch(self._clock)
        options = request.options
        asked = questions_of(request.query)
        distinct = tuple(dict.fromkeys(asked))
        with watch.stage("generate"):
            written = await self._ask_all(image, distinct, asked, generator, budget, emit)
        with watch.stage("decode"):
            readings, coarse = await asyncio.to_thread(
                _read_all, distinct, written, image.size, request, generator
            )
        place = {question: index for index, question in enumerate(distinct)}
        order = [place[question] for question in asked]
        if emit is not None:
            emit(CoarseRegions(tuple(shown(region, options) for index in order for region in coarse[index])))
        refined = await self._refinement.refine(
            image,
            [region for part in coarse for region in part],
            options,
            budget,
            watch,
            exclusive=not isinstance(request.query, PhraseQuery),
        )
        parts = _regroup(refined.regions, [len(part) for part in coarse])
        descriptors = tuple(readings[index].result for index in order)
        return SegmentAnswer(
            regions=tuple(region for index in order for region in parts[index]),
            descriptors=descriptors,
            image_size=image.size,
            no_target_score=min(descriptor.no_target_score for descriptor in descriptors),
            timing=watch.timing(),
            cache=CacheOutcome.MISS,
            versions=versions_of(generator, refined.model),
            warnings=(*repair_warnings(reading.result for reading in readings), *refined.warnings),
        )

    async def _ask_all(
        self,
        image: OpenImage,
        distinct: Sequence[Question],
        asked: Sequence[Question],
        generator: GeneratorInfo,
        budget: Budget,
        emit: Emit | None,
    ) -> list[Written]:
        slots = asyncio.Semaphore(self._phrase_concurrency)

        async def ask(question: Question) -> Written:
            rows = RowStream(generator.shape, question.labels, generator.codec)
            chunks: list[TextChunk] = []
            names = {"turns": question.source, "constraint": question.source}
            async with slots:
                generating = self._generator.generate(question.request(image.data), budget)
                with fields_renamed(names):
                    async with aclosing(generating) as answer:
                        async for chunk in answer:
                            chunks.append(chunk)
                            if emit is not None:
                                emit_rows(rows.feed(chunk.text), question, emit)
            if emit is not None:
                emit_rows(rows.finish(), question, emit)
            return Written.of(chunks)

        def emit_rows(rows: Sequence[Row], question: Question, emit: Emit) -> None:
            for row in rows:
                for place, other in enumerate(asked):
                    if other == question:
                        emit(GridRow(place, row.index, row.labels))

        # No TaskGroup: in Python 3.11 one that fails leaves its parent task marked as cancelled, and the call
        # would pass for one whose caller has left.
        tasks = [asyncio.create_task(ask(question)) for question in distinct]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # the first failure, or the caller who leaves, ends the rest
                task.cancel()
            await asyncio.wait(tasks)

    def _timing(
        self, watch: Stopwatch, outcome: CacheOutcome, waited_s: float, computed: Sequence[SegmentAnswer]
    ) -> Timing:
        timing = watch.timing()
        if computed:
            inner = computed[-1].timing
            waited_s -= inner.total_s
            timing = replace(
                timing,
                generate_s=inner.generate_s,
                decode_s=inner.decode_s,
                refine_s=inner.refine_s,
            )
        return timing if outcome is CacheOutcome.BYPASS else replace(timing, cache_s=max(waited_s, 0.0))


def replay(answer: SegmentAnswer, options: SegmentOptions) -> list[GridRow | CoarseRegions]:
    """Return the pieces of an answer that was made by another call: its rows, then its coarse regions."""
    rows = [
        GridRow(place, index, tuple(descriptor.grid.labels[cell] for cell in cells))
        for place, descriptor in enumerate(answer.descriptors)
        for index, cells in enumerate(descriptor.grid.cells.tolist())
    ]
    coarse = (coarse_again(region, answer.image_size) for region in answer.regions)
    return [*rows, CoarseRegions(tuple(shown(region, options) for region in coarse))]


def _read_all(
    questions: Sequence[Question],
    written: Sequence[Written],
    size: tuple[int, int],
    request: SegmentRequest,
    generator: GeneratorInfo,
) -> tuple[list[Reading], list[tuple[Region, ...]]]:
    readings = [
        read_answer(answer, question.phrase, question.labels, generator, strict=request.options.strict)
        for question, answer in zip(questions, written, strict=True)
    ]
    coarse: list[tuple[Region, ...]] = []
    for question, reading in zip(questions, readings, strict=True):
        held = sum(map(len, coarse))
        coarse.append(coarse_regions(reading, question.labels, size, request.options, held=held))
    return readings, coarse


def _regroup(regions: Sequence[Region], counts: Sequence[int]) -> list[tuple[Region, ...]]:
    if len(counts) == 1:  # refinement drops regions only where there is a single part
        return [tuple(regions)]
    bounds = pairwise(accumulate(counts, initial=0))
    return [tuple(regions[begin:end]) for begin, end in bounds]
