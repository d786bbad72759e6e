"""Every error the domain can raise.

Each class carries the ``reason`` that reaches callers as ``google.rpc.ErrorInfo.reason``; the table from
reason to status code lives in ``text4seg.wire`` and nowhere else.

    Text4SegError                     INTERNAL
    |-- InvalidInputError             OPTION_INVALID        (base of the four below; carries the field)
    |   |-- ImageInvalidError         IMAGE_INVALID
    |   |-- QueryInvalidError         QUERY_INVALID
    |   |-- LabelInvalidError         LABEL_INVALID
    |   `-- OptionInvalidError        OPTION_INVALID
    |-- ImageNotFoundError            IMAGE_NOT_FOUND
    |-- UnauthenticatedError          UNAUTHENTICATED
    |-- PermissionDeniedError         PERMISSION_DENIED
    |-- OverloadedError               OVERLOADED            (carries retry_after_s)
    |-- ServiceUnavailableError       SERVICE_UNAVAILABLE   (carries retry_after_s)
    |   |-- ModelLoadingError         MODEL_LOADING
    |   `-- PeerUnavailableError      PEER_UNAVAILABLE      (carries peer)
    |-- DeadlineExceededError         DEADLINE_EXCEEDED     (carries stage)
    |-- DescriptorMalformedError      DESCRIPTOR_MALFORMED  (carries row, column)
    |-- FeatureUnimplementedError     FEATURE_UNIMPLEMENTED (carries feature)
    |-- CheckpointError               CHECKPOINT_INVALID    (start-up; carries path, why)
    `-- InternalError                 INTERNAL
"""

from __future__ import annotations

from typing import ClassVar


class Text4SegError(Exception):
    """Base of all domain errors.

    Attributes:
        reason: name of the ``ErrorReason`` value, without the enum's prefix.
        message: text that is safe to show to a caller.
        request_id: names the failed call in the logs of the service that answered it; empty where none did.
    """

    reason: ClassVar[str] = "INTERNAL"
    request_id: str = ""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInputError(Text4SegError):
    """The caller sent something that can never work; raise one of the subclasses.

    Attributes:
        field: path of the offending field as the caller knows it, for example ``"queries[2].phrase"``.
        description: what is wrong with it.
    """

    reason: ClassVar[str] = "OPTION_INVALID"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class ImageInvalidError(InvalidInputError):
    """The image cannot be read, or is not one of the accepted kinds or sizes."""

    reason: ClassVar[str] = "IMAGE_INVALID"


class QueryInvalidError(InvalidInputError):
    """The query set is empty, too large, or holds a phrase that cannot be asked."""

    reason: ClassVar[str] = "QUERY_INVALID"


class LabelInvalidError(InvalidInputError):
    """A label cannot be written in a descriptor without being mistaken for something else."""

    reason: ClassVar[str] = "LABEL_INVALID"


class OptionInvalidError(InvalidInputError):
    """An option is out of range or unknown."""

    reason: ClassVar[str] = "OPTION_INVALID"


class ImageNotFoundError(Text4SegError):
    """No image is stored under this id."""

    reason: ClassVar[str] = "IMAGE_NOT_FOUND"

    def __init__(self, image_id: str) -> None:
        super().__init__(f"no image is stored under id {image_id!r}; it may have expired: upload it again")
        self.image_id = image_id


class UnauthenticatedError(Text4SegError):
    """The call carries no credentials, or credentials that nobody issued."""

    reason: ClassVar[str] = "UNAUTHENTICATED"


class PermissionDeniedError(Text4SegError):
    """The caller is known and may not do this."""

    reason: ClassVar[str] = "PERMISSION_DENIED"


class OverloadedError(Text4SegError):
    """The service has no room for this call now.

    Attributes:
        retry_after_s: seconds after which a retry is reasonable.
    """

    reason: ClassVar[str] = "OVERLOADED"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServiceUnavailableError(Text4SegError):
    """The service cannot answer now, for a reason that should pass.

    Attributes:
        retry_after_s: seconds after which a retry is reasonable.
    """

    reason: ClassVar[str] = "SERVICE_UNAVAILABLE"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelLoadingError(ServiceUnavailableError):
    """The model is still being loaded."""

    reason: ClassVar[str] = "MODEL_LOADING"

    def __init__(self, message: str = "the model is still loading", retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s)


class PeerUnavailableError(ServiceUnavailableError):
    """A service that this one depends on does not answer.

    Attributes:
        peer: name of that service, for example ``"generator"``.
    """

    reason: ClassVar[str] = "PEER_UNAVAILABLE"

    def __init__(self, peer: str, message: str = "is not reachable", retry_after_s: float = 1.0) -> None:
        super().__init__(f"{peer}: {message}", retry_after_s)
        self.peer = peer


class DeadlineExceededError(Text4SegError):
    """The caller's time budget ran out.

    Attributes:
        stage: the stage that was running, for example ``"generate"``.
    """

    reason: ClassVar[str] = "DEADLINE_EXCEEDED"

    def __init__(self, stage: str) -> None:
        super().__init__(f"the deadline passed during stage {stage!r}")
        self.stage = stage


class DescriptorMalformedError(Text4SegError):
    """The model's text is not a well-formed descriptor (raised by strict decoding only).

    Attributes:
        row: 0-based grid row where the text goes wrong.
        column: 0-based grid column where the text goes wrong.
    """

    reason: ClassVar[str] = "DESCRIPTOR_MALFORMED"

    def __init__(self, message: str, row: int, column: int) -> None:
        super().__init__(f"row {row}, column {column}: {message}")
        self.row = row
        self.column = column


class FeatureUnimplementedError(Text4SegError):
    """The RPC or option exists in the contract and does not work yet.

    Attributes:
        feature: its name, as in the protos.
    """

    reason: ClassVar[str] = "FEATURE_UNIMPLEMENTED"

    def __init__(self, feature: str) -> None:
        super().__init__(f"{feature} is not implemented")
        self.feature = feature


class CheckpointError(Text4SegError):
    """A model checkpoint is missing or damaged; stops a service at start.

    Attributes:
        path: the checkpoint's file or directory.
        why: what is wrong with it.
    """

    reason: ClassVar[str] = "CHECKPOINT_INVALID"

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"checkpoint {path}: {why}")
        self.path = path
        self.why = why


class InternalError(Text4SegError):
    """A defect of ours. The message is for logs; callers see a generic text."""

    reason: ClassVar[str] = "INTERNAL"
