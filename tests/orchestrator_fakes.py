"""Small fakes of what the orchestrator's use cases need; they behave, they do not script calls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from services.chassis.deadline import Deadline
from services.orchestrator.ports import Budget, OpenImage
from text4seg.descriptors import Codec, LabelGrid, encode
from text4seg.dialogue import answer_text
from text4seg.errors import ImageNotFoundError, Text4SegError
from text4seg.masks import upsample
from text4seg.scores import Calibrations, TokenLogprob
from text4seg.segmentation import (
    FinishReason,
    GenerateFinish,
    GenerateRequest,
    GeneratorInfo,
    ImageContent,
    ImageSource,
    RefineAnswer,
    RefinedMask,
    RefineRequest,
    RefinerInfo,
    TextChunk,
)

SHAPE = (4, 4)
SIZE = (40, 80)
FOREVER = Deadline(math.inf)
GENERATOR = GeneratorInfo(
    model="fake",
    version="1",
    engine="scripted",
    shape=SHAPE,
    codec=Codec.RRLE,
    template_version="1",
    max_tokens=512,
    calibration=Calibrations(),
)
REFINER = RefinerInfo(model="fake-refiner", version="7", models=("fake-refiner", "other"))


def cells(picture: str) -> NDArray[np.int16]:
    """Read a picture such as "..a. .aa. .... ....": '.' is others, 'a' is the first label."""
    rows = picture.split()
    return np.array(
        [[0 if cell == "." else ord(cell) - ord("a") + 1 for cell in row] for row in rows], np.int16
    )


def description(picture: str, *labels: str) -> str:
    """A model's answer that describes a picture; the first label is drawn as 'a'."""
    return answer_text("Here it is:", encode(LabelGrid(("others", *labels), cells(picture))))


def assert_same(found: NDArray[np.generic] | None, expected: NDArray[np.generic] | None) -> None:
    """Assert that there are two arrays, and that they are equal."""
    assert found is not None
    assert expected is not None
    np.testing.assert_array_equal(found, expected)


def mask_of(picture: str, letter: str = "a", size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    """The full-size mask of one letter of a picture."""
    return upsample(cells(picture) == ord(letter) - ord("a") + 1, size)


class FakeImages:
    """Takes any bytes for an image of the same size."""

    def __init__(self, size: tuple[int, int] = SIZE) -> None:
        self.size = size

    async def open(self, source: ImageSource) -> OpenImage:
        if not isinstance(source, ImageContent):
            raise ImageNotFoundError("unknown")
        return OpenImage(source.data, source.data.hex(), self.size, "image.content")


@dataclass
class FakeGenerator:
    """Answers each question by a text, a few characters at a time."""

    answer: Callable[[GenerateRequest], str]
    description: GeneratorInfo = GENERATOR
    logprob: float = math.log(0.9)
    finish: FinishReason = FinishReason.STOP
    failure: Text4SegError | None = None
    released: asyncio.Event | None = None
    """When set, answers wait for it after their first characters."""
    requests: list[GenerateRequest] = field(default_factory=list)
    working: int = 0
    most_working: int = 0
    abandoned: int = 0

    async def info(self) -> GeneratorInfo:
        return self.description

    async def generate(self, request: GenerateRequest, budget: Budget) -> AsyncGenerator[TextChunk, None]:
        budget.check("generate")
        self.requests.append(request)
        text = self.answer(request)
        with self._counted():
            for begin in range(0, len(text), 7):
                piece = text[begin : begin + 7]
                await asyncio.sleep(0)
                yield TextChunk(piece, (TokenLogprob(begin, begin + len(piece), self.logprob),))
                if self.released is not None:
                    await self.released.wait()
            if self.failure is not None:
                raise self.failure
            yield TextChunk("", finish=GenerateFinish(self.finish))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.working += 1
        self.most_working = max(self.most_working, self.working)
        try:
            yield
        except (GeneratorExit, asyncio.CancelledError):
            self.abandoned += 1
            raise
        finally:
            self.working -= 1


def asks_for(answers: Mapping[str, str]) -> Callable[[GenerateRequest], str]:
    """Answer by the labels of the constraint, joined by '|'."""

    def answer(request: GenerateRequest) -> str:
        assert request.constraint is not None
        return answers["|".join(request.constraint.labels)]

    return answer


@dataclass
class FakeRefiner:
    """Returns the upsampled coarse masks after a change."""

    change: Callable[[NDArray[np.bool_]], NDArray[np.bool_]] = lambda mask: mask
    agreement: float = 0.9
    score: float = 0.8
    size: tuple[int, int] = SIZE
    failure: Text4SegError | None = None
    description: RefinerInfo | None = REFINER
    requests: list[RefineRequest] = field(default_factory=list)
    timeouts: list[float | None] = field(default_factory=list)

    async def info(self) -> RefinerInfo:
        if self.description is None:
            raise cast(Text4SegError, self.failure)
        return self.description

    async def refine(self, request: RefineRequest, budget: Budget) -> RefineAnswer:
        self.timeouts.append(budget.timeout_for_peer("refine"))
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure
        masks = [self.change(upsample(grid >= 0.5, self.size)) for grid in request.coarse]
        refined = tuple(RefinedMask(mask, self.score, self.agreement) for mask in masks)
        return RefineAnswer(refined, request.model or REFINER.model)


def of_version(version: str) -> GeneratorInfo:
    """The fake generator's info with another version."""
    return replace(GENERATOR, version=version)
