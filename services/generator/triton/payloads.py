"""What the string tensors of our Triton model hold; for both sides, and without Triton's libraries.

The tensors are named and typed as those of Triton's vLLM backend
(https://github.com/triton-inference-server/vllm_backend). That one takes a prompt as ``text_input``; ours
takes the conversation, as JSON of ``text4seg.v1.GenerateRequest``.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf import json_format

from text4seg import wire
from text4seg.errors import (
    ImageInvalidError,
    InternalError,
    OptionInvalidError,
    QueryInvalidError,
)
from text4seg.scores import TokenLogprob
from text4seg.segmentation import GenerateFinish, GenerateRequest, GeneratorInfo, Limits, TextChunk
from text4seg.v1 import generator_service_pb2 as pb

NO_FINISH = "None"
"""``finish_reason`` of a response that is not the last, as vLLM's backend writes it."""


def conversation_json(request: GenerateRequest) -> str:
    """Return ``text_input``: the conversation and what the answer must look like."""
    message = wire.generate_request_to_proto(replace(request, image=b"", max_tokens=None, logprobs=False))
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False)


def request_of(
    text_input: str, images: Sequence[bytes], sampling_parameters: str, limits: Limits
) -> GenerateRequest:
    """Read and check what a caller of our model asks.

    Args:
        text_input: JSON of a ``GenerateRequest`` with its turns and constraint, or the text of one turn.
        images: image files in base64; there must be one.
        sampling_parameters: a JSON object, or nothing.
        limits: of the request.

    Raises:
        InvalidInputError: one of its subclasses; the field is the tensor's name, or a path of the proto.
    """
    message = pb.GenerateRequest(logprobs=True)
    if text_input.lstrip().startswith("{"):
        try:
            json_format.Parse(text_input, message)
        except json_format.ParseError as error:
            raise QueryInvalidError("text_input", f"is no JSON of a GenerateRequest: {error}") from error
    else:
        message.turns.append(pb.Turn(role=pb.ROLE_USER, text=text_input))
    if len(images) != 1:
        raise ImageInvalidError("image", f"there must be one, not {len(images)}")
    try:
        message.image = base64.b64decode(images[0], validate=True)
    except binascii.Error as error:
        raise ImageInvalidError("image", f"is not in base64: {error}") from error
    message.max_tokens = _max_tokens(sampling_parameters)
    return wire.generate_request_from_proto(message, limits)


def _max_tokens(sampling_parameters: str) -> int:
    try:
        values = json.loads(sampling_parameters or "{}")
    except ValueError as error:
        raise OptionInvalidError("sampling_parameters", f"is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise OptionInvalidError("sampling_parameters", "is not a JSON object")
    for name, value in values.items():
        if name == "temperature" and value != 0:
            raise OptionInvalidError(f"sampling_parameters.{name}", "must be 0: decoding is greedy")
        if name not in ("temperature", "max_tokens", "logprobs"):
            raise OptionInvalidError(f"sampling_parameters.{name}", "is not known to this model")
    tokens = values.get("max_tokens") or 0
    if not isinstance(tokens, int) or not 0 <= tokens < 1 << 31:
        raise OptionInvalidError("sampling_parameters.max_tokens", "must be a whole number above 0")
    return tokens


def logprobs_json(chunk: TextChunk, begin: int, index: int) -> str:
    """Return ``logprobs`` of one response.

    Args:
        chunk: what the response holds.
        begin: place of the chunk's first character in the answer.
        index: place of the chunk's first token in the answer; stands where vLLM has the token's id.
    """
    return json.dumps(
        [
            {
                str(index + place): {
                    "logprob": token.logprob,
                    "rank": 1,
                    "decoded_token": chunk.text[token.begin - begin : token.end - begin],
                }
            }
            for place, token in enumerate(chunk.logprobs)
        ],
        ensure_ascii=False,
    )


def logprobs_of(text: str, begin: int, end: int) -> tuple[TokenLogprob, ...]:
    """Read ``logprobs`` of one response, ours or vLLM's.

    The spans cover the response's characters without gap or overlap. Tokens that end inside a character,
    which vLLM decodes to replacement characters, make the spans of their neighbours inexact, not more.

    Args:
        text: JSON: a list with one object per token, whose first entry is the token that was chosen.
        begin: place of the response's first character in the answer.
        end: one past the place of its last character.

    Raises:
        InternalError: it is something else.
    """
    tokens: list[TokenLogprob] = []
    try:
        for choices in json.loads(text) or ():
            chosen: Mapping[str, Any] = next(iter(choices.values()))
            stop = min(begin + len(chosen["decoded_token"] or ""), end)
            tokens.append(TokenLogprob(begin, stop, min(float(chosen["logprob"]), 0.0)))
            begin = stop
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise InternalError(f"triton: logprobs cannot be read: {error!r}") from error
    if tokens and tokens[-1].end < end:
        tokens[-1] = replace(tokens[-1], end=end)
    return tuple(tokens)


def usage_json(finish: GenerateFinish) -> str:
    """Return ``usage``, which comes with the last response."""
    message = wire.text_chunk_to_proto(TextChunk("", (), finish)).finish
    return json_format.MessageToJson(message, indent=None)


def finish_of(usage: str) -> GenerateFinish:
    """Read ``usage``.

    Raises:
        InternalError: it is something else.
    """
    message = pb.GenerateResponse()
    try:
        json_format.Parse(usage, message.finish)
    except json_format.ParseError as error:
        raise InternalError(f"triton: usage cannot be read: {error}") from error
    finish = wire.text_chunk_from_proto(message).finish
    assert finish is not None  # it was parsed into the message
    return finish


def info_json(info: GeneratorInfo) -> str:
    """Return ``model_info``."""
    return json_format.MessageToJson(wire.generator_info_to_proto(info), indent=None)


def info_of(text: str) -> GeneratorInfo:
    """Read ``model_info``; the engine becomes ``triton``.

    Raises:
        InternalError: it is something else.
    """
    try:
        message = json_format.Parse(text, pb.GetGeneratorInfoResponse())
    except json_format.ParseError as error:
        raise InternalError(f"triton: model_info cannot be read: {error}") from error
    return replace(wire.generator_info_from_proto(message), engine="triton")
