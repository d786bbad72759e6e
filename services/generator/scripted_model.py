"""A fake text model: it reads no weights and does not look at the image. For tests and rehearsals only."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import AsyncIterator, Iterator
from enum import StrEnum

import numpy as np

from services.generator.answer_grammar import answer_sentence_of
from services.generator.images import ImageReader
from text4seg.descriptors import Codec, LabelGrid, encode
from text4seg.dialogue import TEMPLATE_VERSION, answer_text
from text4seg.scores import Calibrations, TokenLogprob
from text4seg.segmentation import (
    DescriptorConstraint,
    FinishReason,
    GenerateFinish,
    GenerateRequest,
    GeneratorInfo,
    TextChunk,
)

_TOKEN = re.compile(r"\s*\w+|\s*[^\w\s]|\s+")
_TOKENS_PER_CHUNK = 8
_LOGPROB = math.log(0.9)
_MAX_TOKENS = 1 << 15


class Script(StrEnum):
    """What a scripted model answers."""

    BOX = "box"
    """Every label is a rectangle whose place follows from the label alone."""
    OTHERS = "others"
    """Nothing is there."""


class ScriptedModel:
    """A :class:`~services.generator.generate.TextModel` that answers from a script.

    Free text gets a fixed sentence, with a block for ``object`` when the question asks to segment.

    Args:
        script: what to answer.
        read_image: decodes image files, so that a bad file is refused as a real engine would.
        shape: (rows, columns) of the grid.
        codec: how descriptors are written.
        delay_s: pause before each chunk, in seconds, so that a test can cancel in between.
    """

    def __init__(
        self,
        script: Script,
        read_image: ImageReader,
        shape: tuple[int, int] = (16, 16),
        codec: Codec = Codec.RRLE,
        delay_s: float = 0.0,
    ) -> None:
        self._script = script
        self._read_image = read_image
        self._delay_s = delay_s
        self.info = GeneratorInfo(
            model="scripted-fake",
            version=f"scripted-{script.value}",
            engine="scripted",
            shape=shape,
            codec=codec,
            template_version=TEMPLATE_VERSION,
            max_tokens=_MAX_TOKENS,
            calibration=Calibrations(),
        )

    async def write(self, request: GenerateRequest) -> AsyncIterator[TextChunk]:
        """Write the scripted answer, a few tokens a chunk."""
        await asyncio.to_thread(self._read_image, request.image)
        tokens = list(_tokens(self._answer(request)))
        limit = min(request.max_tokens or _MAX_TOKENS, _MAX_TOKENS)
        cut = tokens[:limit]
        finish = GenerateFinish(
            reason=FinishReason.STOP if len(cut) == len(tokens) else FinishReason.LENGTH,
            prompt_tokens=sum(len(turn.text.split()) for turn in request.turns),
            completion_tokens=len(cut),
        )
        for begin in range(0, max(len(cut), 1), _TOKENS_PER_CHUNK):
            await asyncio.sleep(self._delay_s)
            part = cut[begin : begin + _TOKENS_PER_CHUNK]
            yield TextChunk(
                text="".join(text for text, _ in part),
                logprobs=tuple(token for _, token in part),
                finish=finish if begin + _TOKENS_PER_CHUNK >= len(cut) else None,
            )

    def _answer(self, request: GenerateRequest) -> str:
        if request.constraint is not None:
            return answer_text(
                answer_sentence_of(request.turns, request.constraint), self._block(request.constraint)
            )
        text = "I am a scripted fake and see nothing."
        if "segment" not in request.turns[-1].text.lower():
            return text
        return answer_text(text, self._block(DescriptorConstraint(("object",))))

    def _block(self, constraint: DescriptorConstraint) -> str:
        labels = constraint.labels or ("object",)
        rows, columns = self.info.shape
        cells = np.zeros((rows, columns), dtype=np.int16)
        if self._script is Script.BOX:
            for index, label in enumerate(labels, start=1):
                top, bottom = _interval(label, "rows", rows)
                left, right = _interval(label, "columns", columns)
                cells[top:bottom, left:right] = index
        return encode(LabelGrid(labels=("others", *labels), cells=cells), self.info.codec)


def _interval(label: str, axis: str, length: int) -> tuple[int, int]:
    draw = int.from_bytes(hashlib.sha256(f"{axis}:{label}".encode()).digest()[:8], "big")
    size = max(1, length // 4 + draw % max(1, length // 4))
    begin = (draw >> 16) % (length - size + 1)
    return begin, begin + size


def _tokens(text: str) -> Iterator[tuple[str, TokenLogprob]]:
    for match in _TOKEN.finditer(text):
        yield match.group(), TokenLogprob(begin=match.start(), end=match.end(), logprob=_LOGPROB)
