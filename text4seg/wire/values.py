"""Small values: enums, durations, sizes and boxes."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Generic, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from text4seg.descriptors import RepairKind
from text4seg.errors import InternalError, InvalidInputError, OptionInvalidError
from text4seg.masks import Box
from text4seg.segmentation import (
    CacheMode,
    CacheOutcome,
    FinishReason,
    MaskFormat,
    RefineMode,
    WarningKind,
)
from text4seg.v1 import generator_service_pb2, image_pb2, mask_pb2
from text4seg.v1 import segmentation_service_pb2 as segmentation_pb2

_Member = TypeVar("_Member", bound=StrEnum)


class EnumTable(Generic[_Member]):
    """A domain enum and its proto twin: the same member names, after the proto's prefix."""

    def __init__(self, members: type[_Member], proto: EnumTypeWrapper, prefix: str) -> None:
        """Pair a domain enum with a proto enum.

        Raises:
            ValueError: a domain member has no proto value, or a proto value other than UNSPECIFIED no member.
        """
        by_name = {f"{prefix}_{member.name}": member for member in members}
        if by_name.keys() | {f"{prefix}_UNSPECIFIED"} != set(proto.keys()):
            raise ValueError(f"{members.__name__} and {proto.DESCRIPTOR.full_name} differ")
        self._name = proto.DESCRIPTOR.name
        self._names = {member: name for name, member in by_name.items()}
        self._members = {proto.Value(name): member for name, member in by_name.items()}

    def to_proto(self, member: _Member) -> str:
        """Return the proto value's name, which generated constructors take."""
        return self._names[member]

    def from_request(self, number: int, field: str, default: _Member) -> _Member:
        """Return the member that a caller asked for; 0 means `default`.

        Raises:
            OptionInvalidError: the number is none that this version knows.
        """
        if number == 0:
            return default
        if number not in self._members:
            raise OptionInvalidError(field, f"{self._name} has no value {number} here")
        return self._members[number]

    def from_answer(self, number: int) -> _Member:
        """Return the member that a server sent.

        Raises:
            InternalError: it is unset, or none that this version knows.
        """
        if number not in self._members:
            raise InternalError(f"the answer holds {self._name} {number}, which is not known here")
        return self._members[number]


REFINE_MODES = EnumTable(RefineMode, segmentation_pb2.RefineMode, "REFINE_MODE")
MASK_FORMATS = EnumTable(MaskFormat, mask_pb2.MaskFormat, "MASK_FORMAT")
CACHE_MODES = EnumTable(CacheMode, segmentation_pb2.CacheMode, "CACHE_MODE")
CACHE_OUTCOMES = EnumTable(CacheOutcome, segmentation_pb2.CacheOutcome, "CACHE_OUTCOME")
FINISH_REASONS = EnumTable(FinishReason, generator_service_pb2.FinishReason, "FINISH_REASON")
WARNING_KINDS = EnumTable(WarningKind, segmentation_pb2.WarningKind, "WARNING_KIND")
REPAIR_KINDS = EnumTable(RepairKind, segmentation_pb2.RepairKind, "REPAIR_KIND")


def duration_to_proto(seconds: float) -> Duration:
    """Round to whole nanoseconds; what is negative (a clock that went backwards) becomes 0."""
    nanoseconds = max(0, round(seconds * 1e9))
    return Duration(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)


def duration_from_proto(message: Duration) -> float:
    """Return seconds."""
    return (message.seconds * 10**9 + message.nanos) / 1e9  # one rounding only


def size_to_proto(size: tuple[int, int]) -> image_pb2.Size:
    """Write (height, width)."""
    return image_pb2.Size(height=size[0], width=size[1])


def size_from_proto(message: image_pb2.Size) -> tuple[int, int]:
    """Return (height, width)."""
    return message.height, message.width


def box_to_proto(box: Box) -> mask_pb2.Box:
    """Write a half-open XYXY box."""
    return mask_pb2.Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1)


def box_from_proto(message: mask_pb2.Box) -> Box:
    """Return a half-open XYXY box."""
    return Box(message.x0, message.y0, message.x1, message.y1)


def check_share(value: float, field: str) -> float:
    """Return a number from 0 to 1.

    Raises:
        OptionInvalidError: it is outside of 0 to 1, or no number.
    """
    if math.isnan(value) or not 0 <= value <= 1:
        raise OptionInvalidError(field, "must be from 0 to 1")
    return value


@contextmanager
def reading_answer() -> Iterator[None]:
    """Turn what is wrong with a server's answer into InternalError: its caller did nothing wrong."""
    try:
        yield
    except (InvalidInputError, ValueError) as error:
        raise InternalError(f"the answer cannot be read: {error}") from error
