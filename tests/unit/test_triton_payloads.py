"""What goes into the tensors of a model in Triton, and what comes out: to the byte."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from services.generator.triton import payloads, tensors
from text4seg import wire
from text4seg.errors import (
    DeadlineExceededError,
    ImageInvalidError,
    InternalError,
    LabelInvalidError,
    OptionInvalidError,
    OverloadedError,
    QueryInvalidError,
    Text4SegError,
)
from text4seg.scores import TokenLogprob
from text4seg.segmentation import (
    DescriptorConstraint,
    FinishReason,
    GenerateFinish,
    GenerateRequest,
    Limits,
    TextChunk,
    Turn,
)

LIMITS = Limits()
IMAGE = b"\x00\xffpicture"
ENCODED = base64.b64encode(IMAGE)


def test_a_question_to_the_byte() -> None:
    request = tensors.question("text4seg", "Où?", IMAGE, '{"max_tokens": 7}', "id-1")
    assert (request.model_name, request.id) == ("text4seg", "id-1")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in request.inputs] == [
        ("text_input", "BYTES", [1]),
        ("image", "BYTES", [1]),
        ("sampling_parameters", "BYTES", [1]),
        ("stream", "BOOL", [1]),
        ("exclude_input_in_output", "BOOL", [1]),
        ("return_finish_reason", "BOOL", [1]),
        ("return_logprobs", "BOOL", [1]),
        ("return_num_input_tokens", "BOOL", [1]),
        ("return_num_output_tokens", "BOOL", [1]),
    ]
    assert list(request.raw_input_contents) == [
        b"\x04\x00\x00\x00O\xc3\xb9?",
        b"\x0c\x00\x00\x00" + ENCODED,
        b'\x11\x00\x00\x00{"max_tokens": 7}',
        *[b"\x01"] * 6,
    ]


def test_a_conversation_is_json_of_the_proto() -> None:
    turns = (Turn("user", "a"), Turn("assistant", "b\n"), Turn("user", "„c“"))
    text = payloads.conversation_json(GenerateRequest(IMAGE, turns, DescriptorConstraint(("dog",)), 9, True))
    assert json.loads(text) == {
        "turns": [
            {"role": "ROLE_USER", "text": "a"},
            {"role": "ROLE_ASSISTANT", "text": "b\n"},
            {"role": "ROLE_USER", "text": "„c“"},
        ],
        "constraint": {"labels": ["dog"]},
    }
    assert "„c“" in text


@pytest.mark.parametrize(
    "constraint", [None, DescriptorConstraint(), DescriptorConstraint(("white horse", "sky"))]
)
@pytest.mark.parametrize("max_tokens", [None, 12])
def test_a_request_arrives_as_it_was_sent(
    constraint: DescriptorConstraint | None, max_tokens: int | None
) -> None:
    sent = GenerateRequest(IMAGE, (Turn("user", "{not: json}"),), constraint, max_tokens, logprobs=True)
    sampling = "" if max_tokens is None else json.dumps({"max_tokens": max_tokens})
    assert payloads.request_of(payloads.conversation_json(sent), [ENCODED], sampling, LIMITS) == sent


def test_other_text_is_a_question() -> None:
    request = payloads.request_of("What is this?", [ENCODED], '{"temperature": 0.0, "logprobs": 1}', LIMITS)
    assert request == GenerateRequest(IMAGE, (Turn("user", "What is this?"),), None, None, logprobs=True)


@pytest.mark.parametrize(
    ("text_input", "images", "sampling", "error", "field"),
    [
        ("{", [ENCODED], "", QueryInvalidError, "text_input"),
        ('{"turn": []}', [ENCODED], "", QueryInvalidError, "text_input"),
        ("", [ENCODED], "", QueryInvalidError, "turns[0].text"),
        (
            '{"turns": [{"role": "ROLE_USER", "text": "?"}], "constraint": {"labels": ["a|b"]}}',
            [ENCODED],
            "",
            LabelInvalidError,
            "constraint.labels[0]",
        ),
        ("?", [], "", ImageInvalidError, "image"),
        ("?", [ENCODED, ENCODED], "", ImageInvalidError, "image"),
        ("?", [b"a b"], "", ImageInvalidError, "image"),
        ("?", ["é".encode()], "", ImageInvalidError, "image"),
        ("?", [ENCODED], "no", OptionInvalidError, "sampling_parameters"),
        ("?", [ENCODED], "3", OptionInvalidError, "sampling_parameters"),
        ("?", [ENCODED], '{"max_tokens": -1}', OptionInvalidError, "sampling_parameters.max_tokens"),
        ("?", [ENCODED], '{"max_tokens": 1.5}', OptionInvalidError, "sampling_parameters.max_tokens"),
        ("?", [ENCODED], '{"max_tokens": 99999999999}', OptionInvalidError, "sampling_parameters.max_tokens"),
        ("?", [ENCODED], '{"temperature": "hot"}', OptionInvalidError, "sampling_parameters.temperature"),
        (
            "?",
            [ENCODED],
            '{"structured_outputs": "{}"}',
            OptionInvalidError,
            "sampling_parameters.structured_outputs",
        ),
    ],
)
def test_what_cannot_be_asked_is_named(
    text_input: str, images: list[bytes], sampling: str, error: type[Text4SegError], field: str
) -> None:
    with pytest.raises(error) as caught:
        payloads.request_of(text_input, images, sampling, LIMITS)
    assert getattr(caught.value, "field", None) == field


def response(**outputs: tuple[str, bytes]) -> Any:
    message = service_pb2.ModelInferResponse()
    for name, (datatype, data) in outputs.items():
        message.outputs.add(name=name, datatype=datatype, shape=[1])
        message.raw_output_contents.append(data)
    return message


def text(value: str) -> tuple[str, bytes]:
    data = value.encode()
    return "BYTES", len(data).to_bytes(4, "little") + data


@given(
    st.lists(st.tuples(st.text(min_size=0, max_size=4), st.floats(-50, 0)), max_size=12), st.integers(0, 12)
)
def test_pieces_of_our_model_are_read_as_they_were_written(tokens: list[tuple[str, float]], cut: int) -> None:
    answer = tensors.Answer()
    place = written = 0
    finish = GenerateFinish(FinishReason.LENGTH, 5, len(tokens), 2, 0.25, 1.5, 2.5)
    for part, last in ((tokens[:cut], False), (tokens[cut:], True)):
        spans = []
        begin = place
        for characters, logprob in part:
            spans.append(TokenLogprob(place, place + len(characters), logprob))
            place += len(characters)
        chunk = TextChunk(
            "".join(characters for characters, _ in part), tuple(spans), finish if last else None
        )
        ending = {"usage": text(payloads.usage_json(finish))} if last else {}
        message = response(
            text_output=text(chunk.text),
            finish_reason=text("length" if last else "None"),
            logprobs=text(payloads.logprobs_json(chunk, begin, written)),
            num_output_tokens=("UINT32", len(part).to_bytes(4, "little")),
            **ending,
        )
        written += len(part)
        assert answer.read(message) == chunk


def vllm(piece: str, tokens: list[str], reason: str = "None") -> Any:
    """A response as vLLM's backend writes it: ids for keys, other candidates behind the chosen token."""
    logprobs = [
        {
            "311": {"logprob": -0.5, "rank": 2, "decoded_token": token},
            "9": {"logprob": -0.4, "rank": 1, "decoded_token": "x"},
        }
        for token in tokens
    ]
    return response(
        text_output=text(piece),
        finish_reason=text(reason),
        logprobs=text(json.dumps(logprobs)),
        num_input_tokens=("UINT32", (600).to_bytes(4, "little")),
        num_output_tokens=("UINT32", len(tokens).to_bytes(4, "little")),
    )


def test_answers_of_vllm() -> None:
    ticks = iter([10.0, 10.5, 12.0])
    answer = tensors.Answer(clock=lambda: next(ticks))
    first, last = answer.read(vllm("others", ["oth", "ers"])), answer.read(vllm(" *16", [" *", "16"], "stop"))
    assert first == TextChunk("others", (TokenLogprob(0, 3, -0.5), TokenLogprob(3, 6, -0.5)))
    assert last.logprobs == (TokenLogprob(6, 8, -0.5), TokenLogprob(8, 10, -0.5))
    assert last.finish == GenerateFinish(FinishReason.STOP, 600, 4, 0, 0.0, 0.5, 1.5)


def test_spans_cover_the_text_whatever_the_tokens_claim() -> None:
    answer = tensors.Answer()
    chunks = [
        answer.read(vllm("", ["�"])),  # half a character: its text comes later
        answer.read(vllm("é", ["�"])),
        answer.read(vllm("ab", ["abcd", "e"])),
        answer.read(vllm("xyz", ["x"], "length")),
    ]
    place = 0
    for chunk in chunks:
        for token in chunk.logprobs:
            assert token.begin == place
            place = token.end
    assert place == len("éabxyz")


@pytest.mark.parametrize(
    "broken",
    [
        response(text_output=("BYTES", b"\x09")),
        response(text_output=("BYTES", b"\x01\x00\x00\x00\xff")),
        response(text_output=("FP8", b"")),
        response(text_output=text("a"), logprobs=text("[[]]")),
        response(text_output=text("a"), logprobs=text("{")),
        response(text_output=text("a"), finish_reason=text("abort")),
        response(text_output=text("a"), finish_reason=text("stop"), usage=text("no")),
    ],
)
def test_a_broken_answer_is_an_internal_error(broken: Any) -> None:
    with pytest.raises(InternalError, match="triton"):
        tensors.Answer().read(broken)


@pytest.mark.parametrize(
    "error",
    [
        ImageInvalidError("image", "“is” no picture"),
        OverloadedError("the queue is full", 2.5),
        DeadlineExceededError("generate"),
    ],
)
def test_errors_come_back_out_of_any_text(error: Text4SegError) -> None:
    found = wire.error_from_text(f"[400] in ensemble: {wire.error_to_text(error)}, sorry", "triton")
    assert type(found) is type(error)
    assert vars(found) == vars(error)


def test_what_went_wrong_inside_stays_inside() -> None:
    assert "secret" not in wire.error_to_text(InternalError("secret path"))


@pytest.mark.parametrize(
    "other", ["", "no such model", "[text4seg-status ]", " [text4seg-status AAA]", " [text4seg-status /w==]"]
)
def test_other_texts_hold_no_error(other: str) -> None:
    assert wire.error_from_text(other, "triton") is None


def test_impossible_probabilities_are_cut() -> None:
    (token,) = payloads.logprobs_of('[{"1": {"logprob": 1e-9, "decoded_token": null}}]', 3, 4)
    assert token == TokenLogprob(3, 4, 0.0)
    assert not math.isnan(token.logprob)
