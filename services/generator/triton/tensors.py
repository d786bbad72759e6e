"""Requests and responses of Triton's inference protocol (KServe v2), as protobuf.

The tensors are those that our own model and Triton's vLLM backend have in common, and ``usage`` of ours.
"""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tritonclient.grpc import service_pb2

from services.generator.triton import payloads
from text4seg.errors import InternalError
from text4seg.scores import TokenLogprob
from text4seg.segmentation import FinishReason, GenerateFinish, TextChunk

_FINISH_REASONS = {reason.value: reason for reason in FinishReason}
_FORMATS = {"UINT32": "<I", "FP32": "<f", "BOOL": "<?"}


def question(
    model: str, text_input: str, image: bytes, sampling_parameters: str, request_id: str = ""
) -> Any:
    """Return the ``ModelInferRequest`` that streams an answer with all that belongs to it.

    Args:
        model: its name in Triton's repository.
        text_input: what is asked, in the model's own form.
        image: an image file.
        sampling_parameters: a JSON object.
        request_id: for Triton's logs.
    """
    texts = {
        "text_input": text_input.encode("utf-8"),
        "image": base64.b64encode(image),
        "sampling_parameters": sampling_parameters.encode("utf-8"),
    }
    switches = (
        "stream",
        "exclude_input_in_output",
        "return_finish_reason",
        "return_logprobs",
        "return_num_input_tokens",
        "return_num_output_tokens",
    )
    return _request(model, texts, switches, request_id)


def info_question(model: str) -> Any:
    """Return the ``ModelInferRequest`` that asks our own model what it is."""
    return _request(model, {"text_input": b""}, ("return_model_info",), "")


def values_of(response: Any) -> Mapping[str, list[Any]]:
    """Return the values of the output tensors of a ``ModelInferResponse`` by name.

    Raises:
        InternalError: a tensor is not what its type says.
    """
    values: dict[str, list[Any]] = {}
    for output, data in zip(response.outputs, response.raw_output_contents, strict=False):
        values[output.name] = list(_unpacked(output.datatype, data))
    return values


class Answer:
    """Makes text chunks of the responses to one question.

    Args:
        lead: characters that the model puts before every answer and that are no part of it; hidden when they
            come first.
        clock: monotonic, in seconds; for models that do not tell how long they took.
    """

    def __init__(self, lead: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._lead = lead
        self._clock = clock
        self._begun = clock()
        self._first: float | None = None
        self._characters = 0
        self._hidden = 0
        self._tokens = 0

    def read(self, response: Any) -> TextChunk:
        """Return the text of the next ``ModelInferResponse``; its finish is set when it is the last.

        Raises:
            InternalError: it cannot be read.
        """
        values = values_of(response)
        text = _text(values, "text_output")
        begin = self._characters
        self._characters += len(text)
        logprobs = payloads.logprobs_of(_text(values, "logprobs", "[]"), begin, self._characters)
        if begin == 0 and self._lead and text.startswith(self._lead):
            self._hidden = len(self._lead)
            text = text[self._hidden :]
        self._tokens += sum(values.get("num_output_tokens", ()))
        if self._first is None:
            self._first = self._clock()
        reason = _text(values, "finish_reason", payloads.NO_FINISH)
        finish = None if reason == payloads.NO_FINISH else self._finish(reason, values)
        return TextChunk(text, tuple(map(self._shown, logprobs)), finish)

    def _shown(self, token: TokenLogprob) -> TokenLogprob:
        return replace(token, begin=max(0, token.begin - self._hidden), end=max(0, token.end - self._hidden))

    def _finish(self, reason: str, values: Mapping[str, list[Any]]) -> GenerateFinish:
        if "usage" in values:
            return payloads.finish_of(_text(values, "usage"))
        if reason not in _FINISH_REASONS:
            raise InternalError(f"triton: the answer ended with {reason!r}")
        assert self._first is not None  # set before
        return GenerateFinish(
            reason=_FINISH_REASONS[reason],
            prompt_tokens=sum(values.get("num_input_tokens", ())),
            completion_tokens=self._tokens,
            prefill_s=self._first - self._begun,
            decode_s=self._clock() - self._first,
        )


def _request(model: str, texts: Mapping[str, bytes], switches: Sequence[str], request_id: str) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    for name, text in texts.items():
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(struct.pack("<I", len(text)) + text)
    for name in switches:
        request.inputs.add(name=name, datatype="BOOL", shape=[1])
        request.raw_input_contents.append(b"\x01")
    return request


def _unpacked(datatype: str, data: bytes) -> Sequence[Any]:
    try:
        if datatype != "BYTES":
            return [value for (value,) in struct.iter_unpack(_FORMATS[datatype], data)]
        texts = []
        place = 0
        while place < len(data):
            (length,) = struct.unpack_from("<I", data, place)
            texts.append(data[place + 4 : place + 4 + length])
            place += 4 + length
        return texts
    except (struct.error, KeyError) as error:
        raise InternalError(f"triton: a tensor of type {datatype} cannot be read: {error}") from error


def _text(values: Mapping[str, list[Any]], name: str, default: str = "") -> str:
    try:
        return str(values[name][0], "utf-8") if values.get(name) else default
    except UnicodeDecodeError as error:
        raise InternalError(f"triton: {name} is not UTF-8") from error
