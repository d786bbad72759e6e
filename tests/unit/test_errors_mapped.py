"""Guards: every domain error reaches callers under a code and a listed reason, and comes back as itself."""

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from text4seg import errors, wire
from text4seg.errors import (
    CheckpointError,
    DeadlineExceededError,
    DescriptorMalformedError,
    FeatureUnimplementedError,
    ImageInvalidError,
    ImageNotFoundError,
    InternalError,
    InvalidInputError,
    LabelInvalidError,
    ModelLoadingError,
    OptionInvalidError,
    OverloadedError,
    PeerUnavailableError,
    PermissionDeniedError,
    QueryInvalidError,
    ServiceUnavailableError,
    Text4SegError,
    UnauthenticatedError,
)
from text4seg.v1 import error_reason_pb2

EXAMPLES: dict[Text4SegError, str] = {
    ImageInvalidError("image.content", "is empty"): "INVALID_ARGUMENT",
    QueryInvalidError("query", "is missing"): "INVALID_ARGUMENT",
    LabelInvalidError("query.labels.labels[1]", "contains '|'"): "INVALID_ARGUMENT",
    OptionInvalidError("options.seed", "must not be negative"): "INVALID_ARGUMENT",
    ImageNotFoundError("sha256-1234"): "NOT_FOUND",
    UnauthenticatedError("no API key"): "UNAUTHENTICATED",
    PermissionDeniedError("not yours"): "PERMISSION_DENIED",
    OverloadedError("the queue is full", 2.5): "RESOURCE_EXHAUSTED",
    ServiceUnavailableError("draining", 0.25): "UNAVAILABLE",
    ModelLoadingError(retry_after_s=5): "UNAVAILABLE",
    PeerUnavailableError("refiner", retry_after_s=3): "UNAVAILABLE",
    DeadlineExceededError("generate"): "DEADLINE_EXCEEDED",
    DescriptorMalformedError("a run has no label", 3, 7): "INTERNAL",
    FeatureUnimplementedError("SegmentFrames"): "UNIMPLEMENTED",
    CheckpointError("/models/secret", "is damaged"): "INTERNAL",
    InternalError("division by zero in /srv/secret.py"): "INTERNAL",
}


def all_subclasses(base: type[Text4SegError]) -> set[type[Text4SegError]]:
    return {base}.union(*(all_subclasses(child) for child in base.__subclasses__()))


DOMAIN_ERRORS = {found for found in all_subclasses(Text4SegError) if found.__module__ == errors.__name__}

LISTED_REASONS = {
    name.removeprefix("ERROR_REASON_")
    for name, number in error_reason_pb2.ErrorReason.items()
    if number != error_reason_pb2.ERROR_REASON_UNSPECIFIED
}


def details(status: status_pb2.Status, kind: type[Message]) -> list[Any]:
    found = []
    for detail in status.details:
        message = kind()
        if detail.Unpack(message):
            found.append(message)
    return found


def test_every_error_is_mapped_and_listed_and_the_other_way_round() -> None:
    assert {error.reason for error in DOMAIN_ERRORS} == LISTED_REASONS
    assert set(wire.CODES) == LISTED_REASONS


def test_every_error_that_may_be_raised_has_an_example() -> None:
    bases = {Text4SegError, InvalidInputError}
    assert {type(error) for error in EXAMPLES} == DOMAIN_ERRORS - bases


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: error.reason)
def test_status_carries_code_and_one_error_info(error: Text4SegError) -> None:
    status = wire.error_to_status(error)
    assert code_pb2.Code.Name(status.code) == EXAMPLES[error]
    infos = details(status, error_details_pb2.ErrorInfo)
    assert [(info.domain, info.reason) for info in infos] == [("text4seg", error.reason)]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: error.reason)
def test_errors_come_back_as_themselves(error: Text4SegError) -> None:
    status = status_pb2.Status.FromString(wire.error_to_status(error).SerializeToString())
    back = wire.error_from_status(status)
    assert type(back) is type(error)
    if not isinstance(error, InternalError | CheckpointError):
        assert vars(back) == vars(error)
        assert str(back) == str(error)


def test_invalid_input_names_the_field() -> None:
    status = wire.error_to_status(QueryInvalidError("query.phrases.phrases[2]", "is empty"))
    (request,) = details(status, error_details_pb2.BadRequest)
    assert [(found.field, found.description) for found in request.field_violations] == [
        ("query.phrases.phrases[2]", "is empty")
    ]
    assert details(status, error_details_pb2.RetryInfo) == []


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: error.reason)
def test_retry_info_comes_with_what_should_pass(error: Text4SegError) -> None:
    delays = [
        info.retry_delay.ToTimedelta().total_seconds()
        for info in details(wire.error_to_status(error), error_details_pb2.RetryInfo)
    ]
    assert delays == ([error.retry_after_s] if hasattr(error, "retry_after_s") else [])


@pytest.mark.parametrize(
    ("error", "metadata"),
    [
        (ImageNotFoundError("abc"), {"image_id": "abc"}),
        (DeadlineExceededError("refine"), {"stage": "refine"}),
        (DescriptorMalformedError("bad", 15, 2), {"row": "15", "column": "2"}),
        (FeatureUnimplementedError("SegmentFrames"), {"feature": "SegmentFrames"}),
        (PeerUnavailableError("generator"), {"peer": "generator"}),
        (OverloadedError("full"), {}),
    ],
    ids=lambda value: getattr(value, "reason", None),
)
def test_metadata_names_what_the_error_is_about(error: Text4SegError, metadata: dict[str, str]) -> None:
    (info,) = details(wire.error_to_status(error), error_details_pb2.ErrorInfo)
    assert dict(info.metadata) == metadata


@pytest.mark.parametrize(
    "error", [InternalError("secret"), CheckpointError("/secret", "secret"), Text4SegError("secret")]
)
def test_internals_stay_on_the_server(error: Text4SegError) -> None:
    assert b"secret" not in wire.error_to_status(error).SerializeToString()


def test_an_unlisted_reason_becomes_internal() -> None:
    class SurpriseError(Text4SegError):
        reason = "SURPRISE"

    status = wire.error_to_status(SurpriseError("boo"))
    assert status.code == code_pb2.INTERNAL
    assert type(wire.error_from_status(status)) is InternalError


@pytest.mark.parametrize(
    "error",
    [
        ImageInvalidError("☃" * 100_000, "☃" * 100_000),
        ImageNotFoundError("☃" * 100_000),
        UnauthenticatedError("☃" * 100_000),
        FeatureUnimplementedError("☃" * 100_000),
        DeadlineExceededError("☃" * 100_000),
        PeerUnavailableError("☃" * 100_000),
    ],
    ids=lambda error: error.reason,
)
def test_long_texts_fit_into_trailers(error: Text4SegError) -> None:
    status = wire.error_to_status(error)
    # gRPC percent-encodes the message (nine characters per snowman) and base64-encodes the details.
    assert len(status.message) * 9 + len(status.SerializeToString()) * 4 / 3 < 8000


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (code_pb2.INVALID_ARGUMENT, OptionInvalidError),
        (code_pb2.NOT_FOUND, InternalError),
        (code_pb2.UNAUTHENTICATED, UnauthenticatedError),
        (code_pb2.PERMISSION_DENIED, PermissionDeniedError),
        (code_pb2.RESOURCE_EXHAUSTED, OverloadedError),
        (code_pb2.UNAVAILABLE, ServiceUnavailableError),
        (code_pb2.CANCELLED, ServiceUnavailableError),
        (code_pb2.DEADLINE_EXCEEDED, DeadlineExceededError),
        (code_pb2.UNIMPLEMENTED, FeatureUnimplementedError),
        (code_pb2.INTERNAL, InternalError),
        (code_pb2.UNKNOWN, InternalError),
        (code_pb2.DATA_LOSS, InternalError),
        (999, InternalError),
    ],
)
def test_foreign_statuses_are_judged_by_their_code(code: int, expected: type[Text4SegError]) -> None:
    assert type(wire.error_from_status(status_pb2.Status(code=code, message="why"))) is expected


def test_a_status_of_another_domain_is_judged_by_its_code() -> None:
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="proxy")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="IMAGE_INVALID", domain="example.com"))
    assert type(wire.error_from_status(status)) is ServiceUnavailableError


def test_damaged_details_are_passed_over() -> None:
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="proxy")
    status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    assert type(wire.error_from_status(status)) is ServiceUnavailableError


def failed_call(
    code: grpc.StatusCode, text: str = "", trailers: tuple[tuple[str, str | bytes], ...] = ()
) -> grpc.RpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), text, None)


def with_status(error: Text4SegError, code: grpc.StatusCode) -> grpc.RpcError:
    return failed_call(
        code, "text", (("grpc-status-details-bin", wire.error_to_status(error).SerializeToString()),)
    )


def test_a_failed_call_gives_the_domain_error() -> None:
    error = wire.error_from_rpc(
        with_status(LabelInvalidError("query", "no"), grpc.StatusCode.INVALID_ARGUMENT)
    )
    assert isinstance(error, LabelInvalidError)
    assert (error.field, error.description) == ("query", "no")


def test_an_error_knows_which_call_it_ended() -> None:
    status = wire.error_to_status(LabelInvalidError("query", "no"))
    assert wire.error_from_status(status).request_id == ""
    status.details.add().Pack(error_details_pb2.RequestInfo(request_id="abc-1"))
    assert wire.error_from_status(status).request_id == "abc-1"


def test_details_that_contradict_the_code_or_cannot_be_read_are_passed_over() -> None:
    mismatch = with_status(LabelInvalidError("query", "no"), grpc.StatusCode.UNAVAILABLE)
    damaged = failed_call(grpc.StatusCode.UNAVAILABLE, "gone", (("grpc-status-details-bin", b"\xff\xff"),))
    assert type(wire.error_from_rpc(mismatch)) is ServiceUnavailableError
    assert type(wire.error_from_rpc(damaged)) is ServiceUnavailableError


@pytest.mark.parametrize(
    "text",
    [
        "SERVER: Received message larger than max (2000 vs. 1000)",
        "CLIENT: Received message larger than max (5000 vs. 300)",
        "CLIENT: Sent message larger than max (400 vs. 300)",
    ],
)
def test_an_over_size_message_is_no_reason_to_retry(text: str) -> None:
    error = wire.error_from_rpc(failed_call(grpc.StatusCode.RESOURCE_EXHAUSTED, text))
    assert isinstance(error, OptionInvalidError)
    assert "larger than" in error.description


def test_a_peer_out_of_reach_is_named_without_its_address() -> None:
    refused = failed_call(grpc.StatusCode.UNAVAILABLE, "failed to connect: ipv4:10.0.0.7:50052")
    error = wire.error_from_rpc(refused, peer="generator")
    assert isinstance(error, PeerUnavailableError)
    assert error.peer == "generator"
    assert "10.0.0.7" not in str(error)


def test_a_peer_that_refuses_our_credentials_is_not_the_callers_fault() -> None:
    refused = with_status(UnauthenticatedError("no API key"), grpc.StatusCode.UNAUTHENTICATED)
    assert type(wire.error_from_rpc(refused, peer="refiner")) is InternalError
    assert type(wire.error_from_rpc(refused)) is UnauthenticatedError


def test_a_deadline_that_passed_at_a_peer_names_the_stage() -> None:
    late = failed_call(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    error = wire.error_from_rpc(late, peer="generator")
    assert isinstance(error, DeadlineExceededError)
    assert error.stage == "generator"
