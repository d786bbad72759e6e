"""Requests and answers between the services: the generator's and the refiner's calls."""

from text4seg.errors import OptionInvalidError
from text4seg.scores import TokenLogprob
from text4seg.segmentation import (
    DescriptorConstraint,
    GenerateFinish,
    GenerateRequest,
    Limits,
    RefineAnswer,
    RefinedMask,
    RefineRequest,
    TextChunk,
)
from text4seg.v1 import generator_service_pb2 as generator_pb2
from text4seg.v1 import refiner_service_pb2 as refiner_pb2
from text4seg.wire.masks import grid_from_proto, grid_to_proto, rle_from_proto, rle_to_proto
from text4seg.wire.queries import check_image_bytes, labels_from_proto, turn_to_proto, turns_from_proto
from text4seg.wire.requests import check_model_name, check_not_negative
from text4seg.wire.values import (
    FINISH_REASONS,
    duration_from_proto,
    duration_to_proto,
    reading_answer,
)


def generate_request_from_proto(message: generator_pb2.GenerateRequest, limits: Limits) -> GenerateRequest:
    """Check and return a request of Generate.

    Raises:
        InvalidInputError: one of its subclasses, naming the field.
    """
    constraint = None
    if message.HasField("constraint"):
        labels = message.constraint.labels
        checked = labels_from_proto(labels, limits, "constraint.labels") if labels else ()
        constraint = DescriptorConstraint(tuple(dict.fromkeys(checked)))
    return GenerateRequest(
        image=check_image_bytes(message.image, limits, "image"),
        turns=turns_from_proto(message.turns, limits),
        constraint=constraint,
        max_tokens=check_not_negative(message.max_tokens, "max_tokens") or None,
        logprobs=message.logprobs,
    )


def generate_request_to_proto(request: GenerateRequest) -> generator_pb2.GenerateRequest:
    """Write a request of Generate."""
    constraint = request.constraint
    return generator_pb2.GenerateRequest(
        image=request.image,
        turns=[turn_to_proto(turn) for turn in request.turns],
        constraint=None
        if constraint is None
        else generator_pb2.DescriptorConstraint(labels=constraint.labels),
        max_tokens=request.max_tokens or 0,
        logprobs=request.logprobs,
    )


def text_chunk_to_proto(chunk: TextChunk) -> generator_pb2.GenerateResponse:
    """Write the next piece of the generator's answer."""
    return generator_pb2.GenerateResponse(
        text=chunk.text,
        logprobs=[
            generator_pb2.TokenLogprob(begin=token.begin, end=token.end, logprob=token.logprob)
            for token in chunk.logprobs
        ],
        finish=None if chunk.finish is None else _finish_to_proto(chunk.finish),
    )


def text_chunk_from_proto(message: generator_pb2.GenerateResponse) -> TextChunk:
    """Read the next piece of the generator's answer.

    Raises:
        InternalError: it holds what this version does not know.
    """
    with reading_answer():
        return TextChunk(
            text=message.text,
            logprobs=tuple(TokenLogprob(token.begin, token.end, token.logprob) for token in message.logprobs),
            finish=_finish_from_proto(message.finish) if message.HasField("finish") else None,
        )


def refine_request_from_proto(message: refiner_pb2.RefineRequest, limits: Limits) -> RefineRequest:
    """Check and return a request of Refine.

    Raises:
        ImageInvalidError: the image is empty or too large.
        OptionInvalidError: there is no coarse mask, or something is wrong with one; a negative seed; a
            model's name that cannot be one.
    """
    if not message.coarse:
        raise OptionInvalidError("coarse", "must not be empty")
    coarse = []
    for index, grid in enumerate(message.coarse):
        try:
            coarse.append(grid_from_proto(grid))
        except ValueError as error:
            raise OptionInvalidError(f"coarse[{index}]", str(error)) from error
    return RefineRequest(
        image=check_image_bytes(message.image, limits, "image"),
        coarse=tuple(coarse),
        seed=check_not_negative(message.seed, "seed"),
        model=check_model_name(message.model, "model"),
    )


def refine_request_to_proto(request: RefineRequest) -> refiner_pb2.RefineRequest:
    """Write a request of Refine; probabilities are rounded to steps of 1/255."""
    return refiner_pb2.RefineRequest(
        image=request.image,
        coarse=[grid_to_proto(grid) for grid in request.coarse],
        seed=request.seed,
        model=request.model,
    )


def refine_answer_to_proto(answer: RefineAnswer) -> refiner_pb2.RefineResponse:
    """Write the answer of Refine."""
    return refiner_pb2.RefineResponse(
        masks=[
            refiner_pb2.RefinedMask(
                mask=rle_to_proto(refined.mask), score=refined.score, agreement=refined.agreement
            )
            for refined in answer.masks
        ],
        model=answer.model,
        queue_time=duration_to_proto(answer.queue_s),
        embed_time=duration_to_proto(answer.embed_s),
        decode_time=duration_to_proto(answer.decode_s),
    )


def refine_answer_from_proto(message: refiner_pb2.RefineResponse) -> RefineAnswer:
    """Read the answer of Refine.

    Raises:
        InternalError: a mask cannot be read.
    """
    with reading_answer():
        return RefineAnswer(
            masks=tuple(
                RefinedMask(rle_from_proto(refined.mask), refined.score, refined.agreement)
                for refined in message.masks
            ),
            model=message.model,
            queue_s=duration_from_proto(message.queue_time),
            embed_s=duration_from_proto(message.embed_time),
            decode_s=duration_from_proto(message.decode_time),
        )


def _finish_to_proto(finish: GenerateFinish) -> generator_pb2.GenerateFinish:
    return generator_pb2.GenerateFinish(
        reason=FINISH_REASONS.to_proto(finish.reason),
        prompt_tokens=finish.prompt_tokens,
        completion_tokens=finish.completion_tokens,
        forced_tokens=finish.forced_tokens,
        queue_time=duration_to_proto(finish.queue_s),
        prefill_time=duration_to_proto(finish.prefill_s),
        decode_time=duration_to_proto(finish.decode_s),
    )


def _finish_from_proto(message: generator_pb2.GenerateFinish) -> GenerateFinish:
    return GenerateFinish(
        reason=FINISH_REASONS.from_answer(message.reason),
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        forced_tokens=message.forced_tokens,
        queue_s=duration_from_proto(message.queue_time),
        prefill_s=duration_from_proto(message.prefill_time),
        decode_s=duration_from_proto(message.decode_time),
    )
