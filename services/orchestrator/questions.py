"""What the generator is asked for a query, and the name of everything that an answer depends on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass, field

from text4seg import __version__
from text4seg.dialogue import TEMPLATE_VERSION, conditioned_question, open_question, referring_question
from text4seg.segmentation import (
    DescriptorConstraint,
    GenerateRequest,
    GeneratorInfo,
    LabelQuery,
    OpenQuery,
    PhraseQuery,
    Query,
    RefineMode,
    RefinerInfo,
    SegmentOptions,
    Turn,
    Versions,
)


@dataclass(frozen=True, slots=True)
class Question:
    """One call of the generator.

    Attributes:
        phrase: the referring expression; empty for label lists and open vocabulary.
        text: the user's turn.
        labels: what the answer may name besides "others"; None: anything.
        source: path of the caller's field that it asks for, the first one's where several ask the same.
    """

    phrase: str
    text: str
    labels: tuple[str, ...] | None
    source: str = field(compare=False)

    def request(self, image: bytes) -> GenerateRequest:
        """Return the generator's request about an encoded image file."""
        return GenerateRequest(
            image=image,
            turns=(Turn("user", self.text),),
            constraint=DescriptorConstraint(self.labels or ()),
            logprobs=True,
        )


def questions_of(query: Query) -> tuple[Question, ...]:
    """Return one question per phrase, repetitions included, or one for a label list or open vocabulary."""
    match query:
        case PhraseQuery(phrases):
            return tuple(
                Question(phrase, referring_question(phrase), (phrase,), f"query.phrases.phrases[{index}]")
                for index, phrase in enumerate(phrases)
            )
        case LabelQuery(labels):
            return (Question("", conditioned_question(labels), labels, "query.labels.labels"),)
        case OpenQuery():
            return (Question("", open_question(), None, "query"),)


def versions_of(generator: GeneratorInfo, refiner: str = "") -> Versions:
    """Return what an answer depends on besides the request.

    Args:
        generator: the language model.
        refiner: name and version of the refiner's model; empty when it takes no part.
    """
    return Versions(
        model=f"{generator.model} {generator.version}".strip(),
        codec=f"{generator.codec.value} {generator.shape[0]}x{generator.shape[1]}",
        templates=TEMPLATE_VERSION,
        refiner=refiner,
        server=__version__,
    )


def answer_key(
    digest: str,
    query: Query,
    options: SegmentOptions,
    generator: GeneratorInfo,
    refiner: RefinerInfo | None,
    min_agreement: float,
) -> str:
    """Return the cache key of an answer, equal only where the answers are interchangeable.

    Mask format and confidence map are left out: a cached answer holds what every format needs. The seed only
    matters to the refiner.

    Args:
        digest: content hash of the image file.
        query: in canonical spelling.
        options: how to answer.
        generator: the language model.
        refiner: None when it takes no part.
        min_agreement: the server's threshold below which refined masks are dropped.
    """
    sharpening = None
    if options.refine is not RefineMode.NONE:
        versions = None if refiner is None else astuple(refiner)
        sharpening = (options.refine.value, options.seed, options.refiner_model, versions, min_agreement)
    parts = (
        __version__,
        TEMPLATE_VERSION,
        digest,
        type(query).__name__,
        astuple(query),
        (options.min_score, options.split_instances, options.strict),
        astuple(generator),
        sharpening,
    )
    canonical = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return f"text4seg:answer:{hashlib.sha256(canonical.encode()).hexdigest()}"
