"""Asks one sample of a service, and makes a record of what comes back."""

import asyncio
import base64
import io
import time
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from text4seg import dialogue
from text4seg.descriptors import Codec, LabelGrid, encode
from text4seg.errors import InvalidInputError
from text4seg.labels import OTHERS, check_label
from text4seg.masks import coverage, decode_rle, encode_rle
from text4seg.segmentation import (
    CacheMode,
    ChatRequest,
    DetectRequest,
    FinishReason,
    ImageContent,
    LabelQuery,
    MaskFormat,
    ModelInfo,
    OpenQuery,
    PhraseQuery,
    Query,
    RefineMode,
    SegmentAnswer,
    SegmentOptions,
    SegmentRequest,
    Timing,
    Turn,
    Versions,
)
from training.datasets.sample import Sample, Task
from training.judging.record import NONE, Answer, Exchange, Failure, Found, Record
from training.judging.record_file import JudgingError
from training.judging.service import CallFailedError, Connection

EXIF_ORIENTATION = 0x0112


class Call(StrEnum):
    """The call that answers referring and semantic samples."""

    SEGMENT = "segment"
    DETECT = "detect"


class Ask(StrEnum):
    """What a semantic sample asks for."""

    VOCABULARY = "vocabulary"
    """All classes of the data set."""
    PRESENT = "present"
    """The classes that are in the picture."""
    OPEN = "open"
    """Nothing: the model names what it sees."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How samples are asked.

    Attributes:
        call: Segment or Detect.
        ask: What semantic samples ask for.
        refine: Whether a refiner may be overruled (``auto``) or not (``required``).
        seed: Of everything random in the services.
        timeout_s: Longest time of one call, all attempts together.
        tokenizer: Counts tokens; None: they are not counted.
    """

    call: Call = Call.SEGMENT
    ask: Ask = Ask.VOCABULARY
    refine: RefineMode = RefineMode.AUTO
    seed: int = 0
    timeout_s: float = 120.0
    tokenizer: Tokenizer | None = None


class SampleError(Exception):
    """A sample that cannot be asked: a reason's name, and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def ask(
    connection: Connection, sample: Sample, refiner: str, info: ModelInfo, manner: Manner
) -> Record:
    """Ask one sample; whatever goes wrong with it is in the record.

    Raises:
        JudgingError: the service has another model now.
    """
    labels: tuple[str, ...] | None = ()
    attempts = 0
    call = "chat" if sample.task is Task.DIALOGUE else manner.call.value

    def failed(reason: str, message: str, attempts: int) -> Record:
        return Record(sample, refiner, call, labels, None, Failure(reason, message), attempts)

    try:
        labels = labels_of(sample, manner)
        image = await asyncio.to_thread(_checked_image, sample)
        begin = time.perf_counter()
        if sample.task is Task.DIALOGUE:
            answer, attempts = await _converse(connection, sample, image, info, manner)
        elif manner.call is Call.DETECT:
            answer, attempts = await _detect(connection, sample, image, refiner, info, manner)
        else:
            answer, attempts = await _segment(connection, sample, image, refiner, info, manner)
        answer.seconds["round trip"] = time.perf_counter() - begin
    except SampleError as error:
        return failed(error.reason, str(error), attempts)
    except CallFailedError as error:
        return failed(error.error.reason, error.error.message, error.attempts)
    except InvalidInputError as error:
        return failed("SAMPLE_INVALID", str(error), attempts)
    except ValueError as error:
        return failed("ANSWER_INVALID", str(error), attempts)
    return Record(sample, refiner, call, labels, answer, None, attempts)


def labels_of(sample: Sample, manner: Manner) -> tuple[str, ...] | None:
    """Return the labels that a sample asks for, in canonical spelling; None for open vocabulary.

    Raises:
        SampleError: the sample does not hold what its task needs.
        InvalidInputError: a label cannot be asked for.
    """
    if len(sample.masks) != len(sample.labels):
        raise SampleError(
            "SAMPLE_INVALID", f"it has {len(sample.labels)} labels and {len(sample.masks)} masks"
        )
    match sample.task:
        case Task.REFERRING:
            if len(sample.labels) != 1:
                raise SampleError(
                    "SAMPLE_INVALID", f"a referring sample has one phrase, not {len(sample.labels)}"
                )
            return (dialogue.canonical_phrase(sample.labels[0]),)
        case Task.SEMANTIC if manner.ask is Ask.OPEN:
            return None
        case Task.SEMANTIC:
            names = sample.labels if manner.ask is Ask.PRESENT else sample.vocabulary
            if not names:
                raise SampleError("SAMPLE_INVALID", f"it has no labels to ask for ({manner.ask})")
            return tuple(dict.fromkeys(check_label(name) for name in names))
        case Task.DIALOGUE:
            if not any(turn.role == "assistant" for turn in sample.messages):
                raise SampleError("SAMPLE_INVALID", "a dialogue without an answer cannot be judged")
            return ()


async def _segment(
    connection: Connection, sample: Sample, image: bytes, refiner: str, info: ModelInfo, manner: Manner
) -> tuple[Answer, int]:
    request = SegmentRequest(
        ImageContent(image), _query(sample, manner), _options(refiner, manner, MaskFormat.COCO_RLE)
    )
    answer, attempts = await connection.segment(request, manner.timeout_s)
    _check_model(answer.versions, info)
    return await asyncio.to_thread(_read, answer, sample, info, manner), attempts


async def _detect(
    connection: Connection, sample: Sample, image: bytes, refiner: str, info: ModelInfo, manner: Manner
) -> tuple[Answer, int]:
    request = DetectRequest(
        ImageContent(image), _query(sample, manner), _options(refiner, manner, MaskFormat.NONE)
    )
    answer, attempts = await connection.detect(request, manner.timeout_s)
    _check_model(answer.versions, info)
    return Answer(
        size=answer.image_size,
        shape=info.generator.shape,
        codec=info.generator.codec,
        found=tuple(Found(one.label, one.score, one.box) for one in answer.detections),
        no_target=answer.no_target_score,
        seconds=_seconds(answer.timing),
        warnings=tuple(warning.kind.value for warning in answer.warnings),
        refiner=answer.versions.refiner,
    ), attempts


async def _converse(
    connection: Connection, sample: Sample, image: bytes, info: ModelInfo, manner: Manner
) -> tuple[Answer, int]:
    """Ask every question of a dialogue, each after the true answers to those before."""
    exchanges: list[Exchange] = []
    attempts = 0
    with Image.open(io.BytesIO(image)) as picture:
        size = (picture.height, picture.width)
    for place, turn in enumerate(sample.messages):
        if turn.role != "assistant":
            continue
        history = tuple(
            Turn("user" if one.role == "user" else "assistant", one.text) for one in sample.messages[:place]
        )
        if not history:
            raise SampleError("SAMPLE_INVALID", "a dialogue begins with a question")
        options = _options(NONE, manner, MaskFormat.NONE)
        request = ChatRequest(ImageContent(image), history, options)
        text, tried = await connection.chat(request, manner.timeout_s)
        attempts = max(attempts, tried)
        exchanges.append(Exchange(history[-1].text, turn.text, text))
    tokens = None
    if manner.tokenizer is not None:
        tokens = sum(_count(manner.tokenizer, one.answer) for one in exchanges)
    answer = Answer(
        size, info.generator.shape, info.generator.codec, exchanges=tuple(exchanges), tokens=tokens
    )
    return answer, attempts


def _check_model(versions: Versions, info: ModelInfo) -> None:
    if versions.model != info.versions.model:
        raise JudgingError(
            f"the service's model has changed from {info.versions.model} to {versions.model}: "
            "judge it in a run of its own"
        )


def _query(sample: Sample, manner: Manner) -> Query:
    labels = labels_of(sample, manner)
    if labels is None:
        return OpenQuery()
    return PhraseQuery(labels) if sample.task is Task.REFERRING else LabelQuery(labels)


def _options(refiner: str, manner: Manner, masks: MaskFormat) -> SegmentOptions:
    refined = refiner != NONE
    return SegmentOptions(
        refine=manner.refine if refined else RefineMode.NONE,
        mask_format=masks,
        confidence_map=masks is MaskFormat.COCO_RLE,
        cache=CacheMode.BYPASS,  # times of a cache would be told as those of a model
        seed=manner.seed,
        refiner_model=refiner if refined and masks is MaskFormat.COCO_RLE else "",
    )


def _read(answer: SegmentAnswer, sample: Sample, info: ModelInfo, manner: Manner) -> Answer:
    (descriptor,) = answer.descriptors
    found = tuple(
        Found(
            label=region.label,
            score=region.score,
            box=region.box,
            mask=None if region.mask is None else encode_rle(region.mask),
            refined=region.refined,
            confidence=""
            if region.confidence is None
            else base64.b64encode(region.confidence.astype("<f2").tobytes()).decode(),
        )
        for region in answer.regions
    )
    tokens, truth_tokens = None, {}
    if manner.tokenizer is not None:
        tokens = _count(manner.tokenizer, descriptor.text)
        truth_tokens = {
            codec.value: _count(manner.tokenizer, encode(true_grid(sample, info.generator.shape), codec))
            for codec in Codec
        }
    return Answer(
        size=answer.image_size,
        shape=descriptor.grid.shape,
        codec=info.generator.codec,
        text=descriptor.text,
        found=found,
        no_target=answer.no_target_score,
        repairs=tuple(repair.kind.value for repair in descriptor.report.repairs),
        cut=descriptor.finish_reason is FinishReason.LENGTH,
        tokens=tokens,
        truth_tokens=truth_tokens,
        seconds=_seconds(answer.timing),
        warnings=tuple(warning.kind.value for warning in answer.warnings),
        refiner=answer.versions.refiner,
    )


def true_grid(sample: Sample, shape: tuple[int, int]) -> LabelGrid:
    """Return the grid that would describe the truth best: in each cell the label that covers most of it."""
    labels = tuple(check_label(label) for label in sample.labels)
    covered = np.stack([coverage(decode_rle(mask), shape) for mask in sample.masks])
    rest = np.maximum(1 - covered.sum(0, keepdims=True), 0)
    # A thing takes a cell that it covers half of, as `to_grid` has it: ties go to the later of the two.
    shares = np.concatenate([rest - 1e-9, covered])
    return LabelGrid((OTHERS, *labels), shares.argmax(0).astype(np.int16))


def _count(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def _seconds(timing: Timing) -> dict[str, float]:
    stages = {
        "total": timing.total_s,
        "image": timing.image_s,
        "generate": timing.generate_s,
        "decode": timing.decode_s,
        "refine": timing.refine_s,
    }
    return {stage: seconds for stage, seconds in stages.items() if seconds is not None}


def _checked_image(sample: Sample) -> bytes:
    """Return the picture, after a look at whether the true masks fit it.

    Masks are drawn on the pixels as stored, so a picture that asks to be turned is written anew.
    """
    path = sample.image
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise SampleError("IMAGE_MISSING", f"{path} does not exist") from error
    except OSError as error:
        raise SampleError("IMAGE_MISSING", f"{path}: {error.strerror or error}") from error
    try:
        with Image.open(io.BytesIO(data)) as picture:
            _check_sizes(sample, (picture.height, picture.width))
            if picture.getexif().get(EXIF_ORIENTATION, 1) == 1:
                return data
            buffer = io.BytesIO()
            picture.convert("RGB").save(buffer, "PNG", exif=Image.Exif())
            return buffer.getvalue()
    except (OSError, Image.DecompressionBombError) as error:
        raise SampleError("IMAGE_INVALID", f"{path} is no picture: {error}") from error


def _check_sizes(sample: Sample, size: tuple[int, int]) -> None:
    for mask in (*sample.masks, *([sample.void] if sample.void else [])):
        decode_rle(mask)
        if mask.size != size:
            height, width = mask.size
            raise SampleError(
                "TRUTH_SIZE",
                f"the true mask has {width}x{height} pixels, but {sample.image} has {size[1]}x{size[0]}",
            )
