"""Errors as google.rpc.Status, both ways: the one table from reason to status code.

Every status carries one ``ErrorInfo`` (domain ``text4seg``, reason, and what the error names in its
metadata), a ``BadRequest`` for invalid input, and a ``RetryInfo`` where a retry is reasonable.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

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
from text4seg.wire.values import duration_from_proto, duration_to_proto

if TYPE_CHECKING:
    import grpc

DOMAIN = "text4seg"
"""``ErrorInfo.domain`` of all errors."""

CODES: Mapping[str, int] = MappingProxyType(
    {
        "IMAGE_INVALID": code_pb2.INVALID_ARGUMENT,
        "QUERY_INVALID": code_pb2.INVALID_ARGUMENT,
        "LABEL_INVALID": code_pb2.INVALID_ARGUMENT,
        "OPTION_INVALID": code_pb2.INVALID_ARGUMENT,
        "IMAGE_NOT_FOUND": code_pb2.NOT_FOUND,
        "UNAUTHENTICATED": code_pb2.UNAUTHENTICATED,
        "PERMISSION_DENIED": code_pb2.PERMISSION_DENIED,
        "OVERLOADED": code_pb2.RESOURCE_EXHAUSTED,
        "MODEL_LOADING": code_pb2.UNAVAILABLE,
        "PEER_UNAVAILABLE": code_pb2.UNAVAILABLE,
        "SERVICE_UNAVAILABLE": code_pb2.UNAVAILABLE,
        "DEADLINE_EXCEEDED": code_pb2.DEADLINE_EXCEEDED,
        "DESCRIPTOR_MALFORMED": code_pb2.INTERNAL,
        "FEATURE_UNIMPLEMENTED": code_pb2.UNIMPLEMENTED,
        "CHECKPOINT_INVALID": code_pb2.INTERNAL,
        "INTERNAL": code_pb2.INTERNAL,
    }
)
"""Reason -> google.rpc.Code number."""

INTERNAL_TEXT = "internal error; the server's log has the details under the request id"
"""What callers see of an InternalError."""

CHECKPOINT_TEXT = "the model's checkpoint is missing or damaged; the server's log says which"
"""What callers see of a CheckpointError: paths stay on the server."""

# Message and details travel in the trailers, percent- and base64-encoded, and gRPC refuses trailers of
# more than 8 KiB.
_MAX_CHARACTERS = 300

_STATUS_KEY = "grpc-status-details-bin"
_STATUS_TEXT = re.compile(r" \[text4seg-status ([A-Za-z0-9+/=]+)\]")


def error_to_status(error: Text4SegError) -> status_pb2.Status:
    """Return the status that a caller gets for a domain error.

    Long texts are cut. An error whose reason is not part of the API becomes an InternalError.
    """
    if error.reason not in CODES:
        error = InternalError(error.message)
    message = _cut(_public_message(error))
    metadata = {key: _cut(value) for key, value in _metadata(error).items()}
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    ]
    if isinstance(error, InvalidInputError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(error.field), description=_cut(error.description)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, OverloadedError | ServiceUnavailableError):
        details.append(error_details_pb2.RetryInfo(retry_delay=duration_to_proto(error.retry_after_s)))
    status = status_pb2.Status(code=CODES[error.reason], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return status


def error_from_status(status: status_pb2.Status, peer: str = "") -> Text4SegError:
    """Return the domain error behind a status; one without our ErrorInfo is judged by its code.

    Args:
        status: of a failed call.
        peer: for calls between services, the name of the service that was called. Its being out of reach
            is then PeerUnavailableError, and its refusal of our credentials InternalError: neither is
            anything that the caller of this service did.
    """
    error = _error(status, peer)
    request = error_details_pb2.RequestInfo()
    if _find(status, request):
        error.request_id = request.request_id
    return error


def error_from_rpc(error: "grpc.RpcError", peer: str = "") -> Text4SegError:
    """Return the domain error behind a failed gRPC call, sync or aio.

    Besides our own statuses it understands what gRPC itself reports: no connection, a deadline that passed
    on this side, a call that was cancelled, a message over the size limit.

    Args:
        error: what the call raised.
        peer: see :func:`error_from_status`.
    """
    code = int(error.code().value[0])
    trailers = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in trailers:
        if key == _STATUS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                break
            if status.code == code:
                return error_from_status(status, peer)
    return error_from_status(status_pb2.Status(code=code, message=error.details() or ""), peer)


def error_to_text(error: Text4SegError) -> str:
    """Return an error as one text, for transports whose errors carry nothing else (Triton's backends).

    It is the message for people, and the status in base64 for :func:`error_from_text`.
    """
    status = error_to_status(error)
    return f"{status.message} [text4seg-status {base64.b64encode(status.SerializeToString()).decode()}]"


def error_from_text(text: str, peer: str = "") -> Text4SegError | None:
    """Return the domain error that :func:`error_to_text` wrote anywhere into a text; None: there is none.

    Args:
        text: of a foreign error.
        peer: see :func:`error_from_status`.
    """
    found = _STATUS_TEXT.search(text)
    if found is None:
        return None
    try:
        status = status_pb2.Status.FromString(base64.b64decode(found[1], validate=True))
    except (binascii.Error, DecodeError):
        return None
    return error_from_status(status, peer)


def _public_message(error: Text4SegError) -> str:
    if isinstance(error, CheckpointError):
        return CHECKPOINT_TEXT
    return INTERNAL_TEXT if error.reason == InternalError.reason else error.message


def _metadata(error: Text4SegError) -> dict[str, str]:
    match error:
        case ImageNotFoundError():
            return {"image_id": error.image_id}
        case PeerUnavailableError():
            return {"peer": error.peer}
        case DeadlineExceededError():
            return {"stage": error.stage}
        case DescriptorMalformedError():
            return {"row": str(error.row), "column": str(error.column)}
        case FeatureUnimplementedError():
            return {"feature": error.feature}
    return {}


def _error(status: status_pb2.Status, peer: str) -> Text4SegError:
    if peer and status.code in (code_pb2.UNAUTHENTICATED, code_pb2.PERMISSION_DENIED):
        return InternalError(f"{peer} refuses this service's credentials: {status.message}")
    info = error_details_pb2.ErrorInfo()
    if _find(status, info) and info.domain == DOMAIN and info.reason in _BUILDERS:
        return _BUILDERS[info.reason](status, info.metadata)
    return _error_from_code(status, peer)


def _error_from_code(status: status_pb2.Status, peer: str) -> Text4SegError:
    message = status.message or f"the call failed with status code {status.code}"
    # gRPC's own text, the same since 2016; there is no other sign of it.
    if status.code == code_pb2.RESOURCE_EXHAUSTED and "message larger than max" in message.lower():
        return OptionInvalidError("message", f"larger than the other side takes ({message})")
    if status.code == code_pb2.UNAVAILABLE and peer:
        return PeerUnavailableError(peer, retry_after_s=_retry_after(status))
    match status.code:
        case code_pb2.INVALID_ARGUMENT:
            return OptionInvalidError(*_violation(status))
        case code_pb2.UNAUTHENTICATED:
            return UnauthenticatedError(message)
        case code_pb2.PERMISSION_DENIED:
            return PermissionDeniedError(message)
        case code_pb2.RESOURCE_EXHAUSTED:
            return OverloadedError(message, _retry_after(status))
        case code_pb2.UNAVAILABLE | code_pb2.CANCELLED:
            return ServiceUnavailableError(message, _retry_after(status))
        case code_pb2.DEADLINE_EXCEEDED:
            return DeadlineExceededError(peer or "call")
        case code_pb2.UNIMPLEMENTED:
            return FeatureUnimplementedError("this call")
    return InternalError(f"{peer}: {message}" if peer else message)


_Builder = Callable[[status_pb2.Status, Mapping[str, str]], Text4SegError]

_BUILDERS: Mapping[str, _Builder] = MappingProxyType(
    {
        "IMAGE_INVALID": lambda status, _: ImageInvalidError(*_violation(status)),
        "QUERY_INVALID": lambda status, _: QueryInvalidError(*_violation(status)),
        "LABEL_INVALID": lambda status, _: LabelInvalidError(*_violation(status)),
        "OPTION_INVALID": lambda status, _: OptionInvalidError(*_violation(status)),
        "IMAGE_NOT_FOUND": lambda _, metadata: ImageNotFoundError(metadata.get("image_id", "")),
        "UNAUTHENTICATED": lambda status, _: UnauthenticatedError(status.message),
        "PERMISSION_DENIED": lambda status, _: PermissionDeniedError(status.message),
        "OVERLOADED": lambda status, _: OverloadedError(status.message, _retry_after(status)),
        "MODEL_LOADING": lambda status, _: ModelLoadingError(status.message, _retry_after(status)),
        "PEER_UNAVAILABLE": lambda status, metadata: _peer_unavailable(status, metadata.get("peer", "")),
        "SERVICE_UNAVAILABLE": lambda status, _: ServiceUnavailableError(
            status.message, _retry_after(status)
        ),
        "DEADLINE_EXCEEDED": lambda _, metadata: DeadlineExceededError(metadata.get("stage", "call")),
        "DESCRIPTOR_MALFORMED": lambda status, metadata: _malformed(
            status, _cell(metadata, "row"), _cell(metadata, "column")
        ),
        "FEATURE_UNIMPLEMENTED": lambda _, metadata: FeatureUnimplementedError(
            metadata.get("feature", "this call")
        ),
        "CHECKPOINT_INVALID": lambda status, _: CheckpointError("of the server", status.message),
        "INTERNAL": lambda status, _: InternalError(status.message),
    }
)


def _peer_unavailable(status: status_pb2.Status, peer: str) -> Text4SegError:
    return PeerUnavailableError(peer, status.message.removeprefix(f"{peer}: "), _retry_after(status))


def _malformed(status: status_pb2.Status, row: int, column: int) -> Text4SegError:
    message = status.message.removeprefix(f"row {row}, column {column}: ")
    return DescriptorMalformedError(message, row, column)


def _cell(metadata: Mapping[str, str], key: str) -> int:
    text = metadata.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _violation(status: status_pb2.Status) -> tuple[str, str]:
    request = error_details_pb2.BadRequest()
    if _find(status, request) and request.field_violations:
        return request.field_violations[0].field, request.field_violations[0].description
    return "request", status.message


def _retry_after(status: status_pb2.Status) -> float:
    info = error_details_pb2.RetryInfo()
    return duration_from_proto(info.retry_delay) if _find(status, info) else 1.0


def _find(status: status_pb2.Status, into: Message) -> bool:
    """Fill `into` with the first detail of its type, if there is one that can be read."""
    for detail in status.details:
        try:
            if detail.Unpack(into):
                return True
        except DecodeError:
            return False
    return False


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"
