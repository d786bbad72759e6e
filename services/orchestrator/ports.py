"""What the use cases need from outside; adapters and fakes match by structure."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from text4seg.segmentation import (
    CacheMode,
    CacheOutcome,
    GenerateRequest,
    GeneratorInfo,
    ImageSource,
    RefineAnswer,
    RefineRequest,
    RefinerInfo,
    SegmentAnswer,
    TextChunk,
)


class Budget(Protocol):
    """The time that a call has left."""

    def check(self, stage: str) -> None:
        """Raise ``DeadlineExceededError`` naming the stage when no time is left."""

    def timeout_for_peer(self, stage: str) -> float | None:
        """Return the seconds left for a call to a peer, None without a deadline; raise when none is left."""


@dataclass(frozen=True, slots=True)
class OpenImage:
    """An image file whose header has been read.

    Attributes:
        data: the encoded file.
        digest: lower-case hexadecimal SHA-256 of the file.
        size: (height, width) of the upright image in pixels.
        field: path of the caller's field that it came from.
    """

    data: bytes
    digest: str
    size: tuple[int, int]
    field: str


class Images(Protocol):
    """Where images come from."""

    async def open(self, source: ImageSource) -> OpenImage:
        """Return the file, its hash and its size.

        Raises:
            ImageInvalidError: it is no image that this server takes.
            ImageNotFoundError: nothing is stored under the id.
            FeatureUnimplementedError: the source is an address.
        """


class Generator(Protocol):
    """The language model that writes answers."""

    async def info(self) -> GeneratorInfo:
        """Describe the model as last seen; raise ``PeerUnavailableError`` when it was never seen."""

    def generate(self, request: GenerateRequest, budget: Budget) -> AsyncGenerator[TextChunk, None]:
        """Stream the answer; only the last chunk has a finish. Closing the iterator stops the model."""


class Refiner(Protocol):
    """The model that sharpens masks."""

    async def info(self) -> RefinerInfo:
        """Describe the models as last seen; raise ``PeerUnavailableError`` when they were never seen."""

    async def refine(self, request: RefineRequest, budget: Budget) -> RefineAnswer:
        """Return one sharpened mask per coarse mask, in order."""


class AnswerCache(Protocol):
    """Answers that were computed before, and those being computed."""

    async def fetch(
        self,
        key: str,
        mode: CacheMode,
        compute: Callable[[], Awaitable[SegmentAnswer]],
        keep: Callable[[SegmentAnswer], bool],
    ) -> tuple[SegmentAnswer, CacheOutcome]:
        """Return the answer under a key, from the cache, from another call under way, or by ``compute``.

        Args:
            key: names everything that the answer depends on.
            mode: how the cache takes part.
            compute: makes the answer.
            keep: says whether a computed answer may be stored.
        """
