import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from text4seg.v1 import mask_pb2 as _mask_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RefineRequest(_message.Message):
    __slots__ = ("image", "coarse", "seed", "model")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    COARSE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    coarse: _containers.RepeatedCompositeFieldContainer[_mask_pb2.GridMask]
    seed: int
    model: str
    def __init__(self, image: _Optional[bytes] = ..., coarse: _Optional[_Iterable[_Union[_mask_pb2.GridMask, _Mapping]]] = ..., seed: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class RefinedMask(_message.Message):
    __slots__ = ("mask", "score", "agreement")
    MASK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    mask: _mask_pb2.Rle
    score: float
    agreement: float
    def __init__(self, mask: _Optional[_Union[_mask_pb2.Rle, _Mapping]] = ..., score: _Optional[float] = ..., agreement: _Optional[float] = ...) -> None: ...

class RefineResponse(_message.Message):
    __slots__ = ("masks", "model", "queue_time", "embed_time", "decode_time")
    MASKS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TIME_FIELD_NUMBER: _ClassVar[int]
    EMBED_TIME_FIELD_NUMBER: _ClassVar[int]
    DECODE_TIME_FIELD_NUMBER: _ClassVar[int]
    masks: _containers.RepeatedCompositeFieldContainer[RefinedMask]
    model: str
    queue_time: _duration_pb2.Duration
    embed_time: _duration_pb2.Duration
    decode_time: _duration_pb2.Duration
    def __init__(self, masks: _Optional[_Iterable[_Union[RefinedMask, _Mapping]]] = ..., model: _Optional[str] = ..., queue_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., embed_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., decode_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetRefinerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRefinerInfoResponse(_message.Message):
    __slots__ = ("model", "version", "models", "versions")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    models: _containers.RepeatedScalarFieldContainer[str]
    versions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., models: _Optional[_Iterable[str]] = ..., versions: _Optional[_Iterable[str]] = ...) -> None: ...
