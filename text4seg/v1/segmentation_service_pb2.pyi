import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from text4seg.v1 import generator_service_pb2 as _generator_service_pb2
from text4seg.v1 import image_pb2 as _image_pb2
from text4seg.v1 import mask_pb2 as _mask_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RefineMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFINE_MODE_UNSPECIFIED: _ClassVar[RefineMode]
    REFINE_MODE_NONE: _ClassVar[RefineMode]
    REFINE_MODE_AUTO: _ClassVar[RefineMode]
    REFINE_MODE_REQUIRED: _ClassVar[RefineMode]

class CacheMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_MODE_UNSPECIFIED: _ClassVar[CacheMode]
    CACHE_MODE_DEFAULT: _ClassVar[CacheMode]
    CACHE_MODE_BYPASS: _ClassVar[CacheMode]
    CACHE_MODE_REFRESH: _ClassVar[CacheMode]

class RepairKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPAIR_KIND_UNSPECIFIED: _ClassVar[RepairKind]
    REPAIR_KIND_ROW_SHORT: _ClassVar[RepairKind]
    REPAIR_KIND_ROW_LONG: _ClassVar[RepairKind]
    REPAIR_KIND_ROWS_MISSING: _ClassVar[RepairKind]
    REPAIR_KIND_ROWS_EXTRA: _ClassVar[RepairKind]
    REPAIR_KIND_COUNT_INVALID: _ClassVar[RepairKind]
    REPAIR_KIND_LABEL_MISSING: _ClassVar[RepairKind]
    REPAIR_KIND_LABEL_UNKNOWN: _ClassVar[RepairKind]
    REPAIR_KIND_BLOCK_UNCLOSED: _ClassVar[RepairKind]
    REPAIR_KIND_BLOCK_EXTRA: _ClassVar[RepairKind]
    REPAIR_KIND_BLOCK_MISSING: _ClassVar[RepairKind]
    REPAIR_KIND_SEPARATOR: _ClassVar[RepairKind]

class CacheOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_OUTCOME_UNSPECIFIED: _ClassVar[CacheOutcome]
    CACHE_OUTCOME_HIT: _ClassVar[CacheOutcome]
    CACHE_OUTCOME_MISS: _ClassVar[CacheOutcome]
    CACHE_OUTCOME_BYPASS: _ClassVar[CacheOutcome]
    CACHE_OUTCOME_SHARED: _ClassVar[CacheOutcome]

class WarningKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WARNING_KIND_UNSPECIFIED: _ClassVar[WarningKind]
    WARNING_KIND_REFINER_FAILED: _ClassVar[WarningKind]
    WARNING_KIND_REFINER_DISAGREED: _ClassVar[WarningKind]
    WARNING_KIND_DESCRIPTOR_REPAIRED: _ClassVar[WarningKind]
REFINE_MODE_UNSPECIFIED: RefineMode
REFINE_MODE_NONE: RefineMode
REFINE_MODE_AUTO: RefineMode
REFINE_MODE_REQUIRED: RefineMode
CACHE_MODE_UNSPECIFIED: CacheMode
CACHE_MODE_DEFAULT: CacheMode
CACHE_MODE_BYPASS: CacheMode
CACHE_MODE_REFRESH: CacheMode
REPAIR_KIND_UNSPECIFIED: RepairKind
REPAIR_KIND_ROW_SHORT: RepairKind
REPAIR_KIND_ROW_LONG: RepairKind
REPAIR_KIND_ROWS_MISSING: RepairKind
REPAIR_KIND_ROWS_EXTRA: RepairKind
REPAIR_KIND_COUNT_INVALID: RepairKind
REPAIR_KIND_LABEL_MISSING: RepairKind
REPAIR_KIND_LABEL_UNKNOWN: RepairKind
REPAIR_KIND_BLOCK_UNCLOSED: RepairKind
REPAIR_KIND_BLOCK_EXTRA: RepairKind
REPAIR_KIND_BLOCK_MISSING: RepairKind
REPAIR_KIND_SEPARATOR: RepairKind
CACHE_OUTCOME_UNSPECIFIED: CacheOutcome
CACHE_OUTCOME_HIT: CacheOutcome
CACHE_OUTCOME_MISS: CacheOutcome
CACHE_OUTCOME_BYPASS: CacheOutcome
CACHE_OUTCOME_SHARED: CacheOutcome
WARNING_KIND_UNSPECIFIED: WarningKind
WARNING_KIND_REFINER_FAILED: WarningKind
WARNING_KIND_REFINER_DISAGREED: WarningKind
WARNING_KIND_DESCRIPTOR_REPAIRED: WarningKind

class Query(_message.Message):
    __slots__ = ("phrases", "labels", "open")
    PHRASES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    phrases: PhraseQuery
    labels: LabelQuery
    open: OpenQuery
    def __init__(self, phrases: _Optional[_Union[PhraseQuery, _Mapping]] = ..., labels: _Optional[_Union[LabelQuery, _Mapping]] = ..., open: _Optional[_Union[OpenQuery, _Mapping]] = ...) -> None: ...

class PhraseQuery(_message.Message):
    __slots__ = ("phrases",)
    PHRASES_FIELD_NUMBER: _ClassVar[int]
    phrases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, phrases: _Optional[_Iterable[str]] = ...) -> None: ...

class LabelQuery(_message.Message):
    __slots__ = ("labels",)
    LABELS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, labels: _Optional[_Iterable[str]] = ...) -> None: ...

class OpenQuery(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SegmentOptions(_message.Message):
    __slots__ = ("refine", "mask_format", "confidence_map", "min_score", "split_instances", "cache", "seed", "strict", "refiner_model")
    REFINE_FIELD_NUMBER: _ClassVar[int]
    MASK_FORMAT_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_MAP_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    SPLIT_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    REFINER_MODEL_FIELD_NUMBER: _ClassVar[int]
    refine: RefineMode
    mask_format: _mask_pb2.MaskFormat
    confidence_map: bool
    min_score: float
    split_instances: bool
    cache: CacheMode
    seed: int
    strict: bool
    refiner_model: str
    def __init__(self, refine: _Optional[_Union[RefineMode, str]] = ..., mask_format: _Optional[_Union[_mask_pb2.MaskFormat, str]] = ..., confidence_map: _Optional[bool] = ..., min_score: _Optional[float] = ..., split_instances: _Optional[bool] = ..., cache: _Optional[_Union[CacheMode, str]] = ..., seed: _Optional[int] = ..., strict: _Optional[bool] = ..., refiner_model: _Optional[str] = ...) -> None: ...

class SegmentRequest(_message.Message):
    __slots__ = ("image", "query", "options")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    image: _image_pb2.Image
    query: Query
    options: SegmentOptions
    def __init__(self, image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., options: _Optional[_Union[SegmentOptions, _Mapping]] = ...) -> None: ...

class Region(_message.Message):
    __slots__ = ("label", "mask", "box", "score", "area", "refined", "split", "confidence", "refine_score")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    AREA_FIELD_NUMBER: _ClassVar[int]
    REFINED_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    REFINE_SCORE_FIELD_NUMBER: _ClassVar[int]
    label: str
    mask: _mask_pb2.Mask
    box: _mask_pb2.Box
    score: float
    area: int
    refined: bool
    split: bool
    confidence: _mask_pb2.GridMask
    refine_score: float
    def __init__(self, label: _Optional[str] = ..., mask: _Optional[_Union[_mask_pb2.Mask, _Mapping]] = ..., box: _Optional[_Union[_mask_pb2.Box, _Mapping]] = ..., score: _Optional[float] = ..., area: _Optional[int] = ..., refined: _Optional[bool] = ..., split: _Optional[bool] = ..., confidence: _Optional[_Union[_mask_pb2.GridMask, _Mapping]] = ..., refine_score: _Optional[float] = ...) -> None: ...

class Repair(_message.Message):
    __slots__ = ("kind", "row", "column", "detail")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    kind: RepairKind
    row: int
    column: int
    detail: str
    def __init__(self, kind: _Optional[_Union[RepairKind, str]] = ..., row: _Optional[int] = ..., column: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class Descriptor(_message.Message):
    __slots__ = ("phrase", "text", "grid", "repairs", "unknown_labels", "finish_reason", "no_target_score", "truncated")
    PHRASE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    REPAIRS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_LABELS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    NO_TARGET_SCORE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    phrase: str
    text: str
    grid: _mask_pb2.LabelGrid
    repairs: _containers.RepeatedCompositeFieldContainer[Repair]
    unknown_labels: _containers.RepeatedScalarFieldContainer[str]
    finish_reason: _generator_service_pb2.FinishReason
    no_target_score: float
    truncated: bool
    def __init__(self, phrase: _Optional[str] = ..., text: _Optional[str] = ..., grid: _Optional[_Union[_mask_pb2.LabelGrid, _Mapping]] = ..., repairs: _Optional[_Iterable[_Union[Repair, _Mapping]]] = ..., unknown_labels: _Optional[_Iterable[str]] = ..., finish_reason: _Optional[_Union[_generator_service_pb2.FinishReason, str]] = ..., no_target_score: _Optional[float] = ..., truncated: _Optional[bool] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("total", "image", "cache", "generate", "decode", "refine")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    GENERATE_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    REFINE_FIELD_NUMBER: _ClassVar[int]
    total: _duration_pb2.Duration
    image: _duration_pb2.Duration
    cache: _duration_pb2.Duration
    generate: _duration_pb2.Duration
    decode: _duration_pb2.Duration
    refine: _duration_pb2.Duration
    def __init__(self, total: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., image: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cache: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., generate: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., decode: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., refine: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Versions(_message.Message):
    __slots__ = ("model", "codec", "templates", "refiner", "server")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    REFINER_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    model: str
    codec: str
    templates: str
    refiner: str
    server: str
    def __init__(self, model: _Optional[str] = ..., codec: _Optional[str] = ..., templates: _Optional[str] = ..., refiner: _Optional[str] = ..., server: _Optional[str] = ...) -> None: ...

class Warning(_message.Message):
    __slots__ = ("kind", "message")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: WarningKind
    message: str
    def __init__(self, kind: _Optional[_Union[WarningKind, str]] = ..., message: _Optional[str] = ...) -> None: ...

class SegmentResponse(_message.Message):
    __slots__ = ("regions", "descriptors", "image_size", "no_target_score", "timing", "cache", "versions", "warnings")
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTORS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    NO_TARGET_SCORE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    regions: _containers.RepeatedCompositeFieldContainer[Region]
    descriptors: _containers.RepeatedCompositeFieldContainer[Descriptor]
    image_size: _image_pb2.Size
    no_target_score: float
    timing: Timing
    cache: CacheOutcome
    versions: Versions
    warnings: _containers.RepeatedCompositeFieldContainer[Warning]
    def __init__(self, regions: _Optional[_Iterable[_Union[Region, _Mapping]]] = ..., descriptors: _Optional[_Iterable[_Union[Descriptor, _Mapping]]] = ..., image_size: _Optional[_Union[_image_pb2.Size, _Mapping]] = ..., no_target_score: _Optional[float] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., cache: _Optional[_Union[CacheOutcome, str]] = ..., versions: _Optional[_Union[Versions, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[Warning, _Mapping]]] = ...) -> None: ...

class StreamSegmentRequest(_message.Message):
    __slots__ = ("image", "query", "options")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    image: _image_pb2.Image
    query: Query
    options: SegmentOptions
    def __init__(self, image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., options: _Optional[_Union[SegmentOptions, _Mapping]] = ...) -> None: ...

class GridRow(_message.Message):
    __slots__ = ("descriptor", "row", "labels")
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    descriptor: int
    row: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, descriptor: _Optional[int] = ..., row: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class Regions(_message.Message):
    __slots__ = ("regions",)
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    regions: _containers.RepeatedCompositeFieldContainer[Region]
    def __init__(self, regions: _Optional[_Iterable[_Union[Region, _Mapping]]] = ...) -> None: ...

class StreamSegmentResponse(_message.Message):
    __slots__ = ("row", "coarse", "answer")
    ROW_FIELD_NUMBER: _ClassVar[int]
    COARSE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    row: GridRow
    coarse: Regions
    answer: SegmentResponse
    def __init__(self, row: _Optional[_Union[GridRow, _Mapping]] = ..., coarse: _Optional[_Union[Regions, _Mapping]] = ..., answer: _Optional[_Union[SegmentResponse, _Mapping]] = ...) -> None: ...

class FramesSettings(_message.Message):
    __slots__ = ("query", "options")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    query: Query
    options: SegmentOptions
    def __init__(self, query: _Optional[_Union[Query, _Mapping]] = ..., options: _Optional[_Union[SegmentOptions, _Mapping]] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("sequence", "image")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    image: _image_pb2.Image
    def __init__(self, sequence: _Optional[int] = ..., image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ...) -> None: ...

class SegmentFramesRequest(_message.Message):
    __slots__ = ("settings", "frame")
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    settings: FramesSettings
    frame: Frame
    def __init__(self, settings: _Optional[_Union[FramesSettings, _Mapping]] = ..., frame: _Optional[_Union[Frame, _Mapping]] = ...) -> None: ...

class SegmentFramesResponse(_message.Message):
    __slots__ = ("sequence", "answer", "dropped")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    answer: SegmentResponse
    dropped: int
    def __init__(self, sequence: _Optional[int] = ..., answer: _Optional[_Union[SegmentResponse, _Mapping]] = ..., dropped: _Optional[int] = ...) -> None: ...

class DetectRequest(_message.Message):
    __slots__ = ("image", "query", "refine", "min_score", "split_instances", "cache", "seed")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    REFINE_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    SPLIT_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    image: _image_pb2.Image
    query: Query
    refine: RefineMode
    min_score: float
    split_instances: bool
    cache: CacheMode
    seed: int
    def __init__(self, image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., refine: _Optional[_Union[RefineMode, str]] = ..., min_score: _Optional[float] = ..., split_instances: _Optional[bool] = ..., cache: _Optional[_Union[CacheMode, str]] = ..., seed: _Optional[int] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("label", "box", "score")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    label: str
    box: _mask_pb2.Box
    score: float
    def __init__(self, label: _Optional[str] = ..., box: _Optional[_Union[_mask_pb2.Box, _Mapping]] = ..., score: _Optional[float] = ...) -> None: ...

class DetectResponse(_message.Message):
    __slots__ = ("detections", "image_size", "no_target_score", "timing", "cache", "versions", "warnings")
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    NO_TARGET_SCORE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    image_size: _image_pb2.Size
    no_target_score: float
    timing: Timing
    cache: CacheOutcome
    versions: Versions
    warnings: _containers.RepeatedCompositeFieldContainer[Warning]
    def __init__(self, detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ..., image_size: _Optional[_Union[_image_pb2.Size, _Mapping]] = ..., no_target_score: _Optional[float] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., cache: _Optional[_Union[CacheOutcome, str]] = ..., versions: _Optional[_Union[Versions, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[Warning, _Mapping]]] = ...) -> None: ...

class ChatRequest(_message.Message):
    __slots__ = ("image", "turns", "options", "max_tokens")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    image: _image_pb2.Image
    turns: _containers.RepeatedCompositeFieldContainer[_generator_service_pb2.Turn]
    options: SegmentOptions
    max_tokens: int
    def __init__(self, image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., turns: _Optional[_Iterable[_Union[_generator_service_pb2.Turn, _Mapping]]] = ..., options: _Optional[_Union[SegmentOptions, _Mapping]] = ..., max_tokens: _Optional[int] = ...) -> None: ...

class ChatRegions(_message.Message):
    __slots__ = ("begin", "end", "regions", "descriptor")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    begin: int
    end: int
    regions: _containers.RepeatedCompositeFieldContainer[Region]
    descriptor: Descriptor
    def __init__(self, begin: _Optional[int] = ..., end: _Optional[int] = ..., regions: _Optional[_Iterable[_Union[Region, _Mapping]]] = ..., descriptor: _Optional[_Union[Descriptor, _Mapping]] = ...) -> None: ...

class ChatFinish(_message.Message):
    __slots__ = ("reason", "turn", "timing", "versions", "image_size", "warnings")
    REASON_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    reason: _generator_service_pb2.FinishReason
    turn: _generator_service_pb2.Turn
    timing: Timing
    versions: Versions
    image_size: _image_pb2.Size
    warnings: _containers.RepeatedCompositeFieldContainer[Warning]
    def __init__(self, reason: _Optional[_Union[_generator_service_pb2.FinishReason, str]] = ..., turn: _Optional[_Union[_generator_service_pb2.Turn, _Mapping]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., versions: _Optional[_Union[Versions, _Mapping]] = ..., image_size: _Optional[_Union[_image_pb2.Size, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[Warning, _Mapping]]] = ...) -> None: ...

class ChatResponse(_message.Message):
    __slots__ = ("text", "regions", "finish")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    text: str
    regions: ChatRegions
    finish: ChatFinish
    def __init__(self, text: _Optional[str] = ..., regions: _Optional[_Union[ChatRegions, _Mapping]] = ..., finish: _Optional[_Union[ChatFinish, _Mapping]] = ...) -> None: ...

class PutImageRequest(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class PutImageResponse(_message.Message):
    __slots__ = ("id", "size", "time_to_live")
    ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_LIVE_FIELD_NUMBER: _ClassVar[int]
    id: str
    size: _image_pb2.Size
    time_to_live: _duration_pb2.Duration
    def __init__(self, id: _Optional[str] = ..., size: _Optional[_Union[_image_pb2.Size, _Mapping]] = ..., time_to_live: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetModelInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Limits(_message.Message):
    __slots__ = ("image_bytes", "image_pixels", "phrases", "phrase_characters", "turns", "conversation_characters")
    IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    PHRASES_FIELD_NUMBER: _ClassVar[int]
    PHRASE_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    image_bytes: int
    image_pixels: int
    phrases: int
    phrase_characters: int
    turns: int
    conversation_characters: int
    def __init__(self, image_bytes: _Optional[int] = ..., image_pixels: _Optional[int] = ..., phrases: _Optional[int] = ..., phrase_characters: _Optional[int] = ..., turns: _Optional[int] = ..., conversation_characters: _Optional[int] = ...) -> None: ...

class GetModelInfoResponse(_message.Message):
    __slots__ = ("generator", "refiner_models", "versions", "limits")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    REFINER_MODELS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    generator: GeneratorSummary
    refiner_models: _containers.RepeatedScalarFieldContainer[str]
    versions: Versions
    limits: Limits
    def __init__(self, generator: _Optional[_Union[GeneratorSummary, _Mapping]] = ..., refiner_models: _Optional[_Iterable[str]] = ..., versions: _Optional[_Union[Versions, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class GeneratorSummary(_message.Message):
    __slots__ = ("model", "engine", "grid_rows", "grid_columns", "codec")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    GRID_ROWS_FIELD_NUMBER: _ClassVar[int]
    GRID_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    model: str
    engine: str
    grid_rows: int
    grid_columns: int
    codec: str
    def __init__(self, model: _Optional[str] = ..., engine: _Optional[str] = ..., grid_rows: _Optional[int] = ..., grid_columns: _Optional[int] = ..., codec: _Optional[str] = ...) -> None: ...
