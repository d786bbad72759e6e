"""The generator inside Triton, without Triton: calls in, replies out."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from services.generator.settings import GeneratorSettings
from services.generator.triton import payloads
from services.generator.triton.host import Call, GeneratorHost, Outputs
from tests.serving import picture
from text4seg import wire
from text4seg.dialogue import find_blocks, referring_question
from text4seg.errors import (
    DeadlineExceededError,
    ImageInvalidError,
    InternalError,
    OverloadedError,
    ServiceUnavailableError,
    Text4SegError,
)
from text4seg.segmentation import DescriptorConstraint, GenerateRequest, Turn

PATIENT_S = 60.0

REQUEST = GenerateRequest(
    picture(), (Turn("user", referring_question("dog")),), DescriptorConstraint(("dog",))
)
INPUTS: dict[str, list[Any]] = {
    "text_input": [payloads.conversation_json(REQUEST).encode()],
    "image": [base64.b64encode(REQUEST.image)],
    "stream": [True],
    "return_finish_reason": [True],
    "return_logprobs": [True],
}


class Caller:
    """Keeps what it is sent; may leave."""

    def __init__(self, broken: bool = False) -> None:
        self.responses: list[Outputs] = []
        self.failures: list[tuple[str, str]] = []
        self.left = False
        self.begun = threading.Event()
        self.ended = threading.Event()
        self._broken = broken

    def is_cancelled(self) -> bool:
        return self.left

    def send(self, outputs: Outputs, last: bool) -> None:
        assert not self.ended.is_set()
        if self._broken:
            raise OSError("no way through")
        self.responses.append(outputs)
        self.begun.set()
        if last:
            self.ended.set()

    def fail(self, code: str, message: str) -> None:
        assert not self.ended.is_set()
        self.failures.append((code, message))
        self.begun.set()
        self.ended.set()

    def wait(self) -> Caller:
        assert self.ended.wait(PATIENT_S)
        return self

    def text(self) -> str:
        return "".join(response["text_output"][0].decode() for response in self.responses)

    def error(self) -> Text4SegError:
        ((_, message),) = self.failures
        error = wire.error_from_text(message, "triton")
        assert error is not None
        return error


@contextmanager
def host(**settings: Any) -> Iterator[GeneratorHost]:
    chosen = GeneratorSettings(**{"engine": "scripted", "script_delay_s": 0.0, **settings})
    hosting = GeneratorHost(chosen)
    try:
        yield hosting
    finally:
        hosting.close()


def ask(
    hosting: GeneratorHost, caller: Caller | None = None, timeout_s: float = 0.0, **inputs: Any
) -> Caller:
    caller = caller or Caller()
    hosting.submit(Call({**INPUTS, **inputs}, caller, timeout_s))
    return caller


def test_the_last_response_alone_says_how_it_ended() -> None:
    with host() as hosting:
        caller = ask(hosting).wait()
    assert len(find_blocks(caller.text())) == 1
    reasons = [response["finish_reason"][0] for response in caller.responses]
    assert reasons == [b"None"] * (len(reasons) - 1) + [b"stop"]
    assert [name for response in caller.responses[:-1] for name in response if name == "usage"] == []
    assert payloads.finish_of(caller.responses[-1]["usage"][0].decode()).completion_tokens > 0


def test_tokens_are_numbered_through_and_spell_the_text() -> None:
    with host() as hosting:
        caller = ask(hosting).wait()
    entries = [
        entry
        for response in caller.responses
        for one in json.loads(response["logprobs"][0])
        for entry in one.items()
    ]
    assert [int(key) for key, _ in entries] == list(range(len(entries)))
    assert "".join(token["decoded_token"] for _, token in entries) == caller.text()


def test_without_streaming_there_is_one_response_with_the_same() -> None:
    with host() as hosting:
        pieces = ask(hosting).wait()
        whole = ask(hosting, stream=[False], exclude_input_in_output=[True]).wait()
    (response,) = whole.responses
    assert whole.text() == pieces.text()
    assert len(json.loads(response["logprobs"][0])) == sum(
        len(json.loads(piece["logprobs"][0])) for piece in pieces.responses
    )


def test_types_are_those_of_the_configuration() -> None:
    switches = ("return_cumulative_logprob", "return_num_input_tokens", "return_num_output_tokens")
    with host() as hosting:
        last = ask(hosting, **{name: [True] for name in switches}).wait().responses[-1]
    assert last["cumulative_logprob"].dtype == np.float32
    assert last["num_input_tokens"].dtype == last["num_output_tokens"].dtype == np.uint32
    assert last["text_output"].dtype == np.object_
    assert {values.shape for values in last.values()} == {(1,)}


def test_a_caller_who_leaves_stops_the_model_and_frees_its_place() -> None:
    with host(script_delay_s=0.05, queue=0) as hosting:
        caller = ask(hosting)
        assert caller.begun.wait(PATIENT_S)
        caller.left = True
        code, _ = caller.wait().failures[0]
        after = ask(hosting).wait()
    assert code == "CANCELLED"
    assert len(caller.responses) < len(after.responses)
    assert after.failures == []


def test_a_caller_who_leaves_the_queue_frees_the_place_in_it() -> None:
    with host(script_delay_s=0.05, queue=1) as hosting:
        working = ask(hosting)
        assert working.begun.wait(PATIENT_S)
        waiting = ask(hosting)
        refused = ask(hosting).wait()
        waiting.left = True
        waiting.wait()
        admitted = ask(hosting).wait()
    assert isinstance(refused.error(), OverloadedError)
    assert (waiting.responses, waiting.failures[0][0]) == ([], "CANCELLED")
    assert admitted.failures == []


def test_the_time_that_a_caller_gives_is_kept() -> None:
    with host(script_delay_s=0.2) as hosting:
        caller = ask(hosting, timeout_s=0.05).wait()
    assert isinstance(caller.error(), DeadlineExceededError)


def test_closing_ends_what_is_under_way() -> None:
    with host(script_delay_s=0.05, queue=1) as hosting:
        callers = [ask(hosting), ask(hosting)]
        assert callers[0].begun.wait(PATIENT_S)
    for caller in callers:
        assert isinstance(caller.wait().error(), ServiceUnavailableError)


def test_errors_carry_a_code_of_triton_and_the_domain_error() -> None:
    with host() as hosting:
        caller = ask(hosting, image=[b""]).wait()
    assert caller.failures[0][0] == "INVALID_ARG"
    assert isinstance(caller.error(), ImageInvalidError)


def test_a_defect_ends_the_call_without_telling_what_it_was() -> None:
    with host() as hosting:
        caller = ask(hosting, Caller(broken=True)).wait()
        assert ask(hosting).wait().failures == []
    code, message = caller.failures[0]
    assert code == "INTERNAL"
    assert "no way through" not in message
    assert isinstance(caller.error(), InternalError)


def test_it_says_what_it_is() -> None:
    with host() as hosting:
        caller = ask(hosting, return_model_info=[True]).wait()
    info = payloads.info_of(caller.responses[0]["model_info"][0].decode())
    assert (info.model, info.engine) == ("scripted-fake", "triton")


def test_it_cannot_ask_itself() -> None:
    with pytest.raises(ValueError, match="engine triton"):
        GeneratorHost(GeneratorSettings(engine="triton"))
