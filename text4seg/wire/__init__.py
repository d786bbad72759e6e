"""Domain <-> protobuf, and errors <-> google.rpc.Status: the only place that knows both sides.

Functions are named ``<thing>_to_proto`` and ``<thing>_from_proto``. Reading a request validates it and raises
subclasses of InvalidInputError with the proto path of the field; reading an answer raises InternalError.
"""

from text4seg.wire.answers import (
    detect_answer_from_proto,
    detect_answer_to_proto,
    segment_answer_from_proto,
    segment_answer_to_proto,
    stored_image_from_proto,
    stored_image_to_proto,
)
from text4seg.wire.errors import (
    CODES,
    DOMAIN,
    error_from_rpc,
    error_from_status,
    error_to_status,
)
from text4seg.wire.events import (
    chat_event_from_proto,
    chat_event_to_proto,
    frame_answer_from_proto,
    frame_answer_to_proto,
    segment_event_from_proto,
    segment_event_to_proto,
)
from text4seg.wire.infos import (
    generator_info_from_proto,
    generator_info_to_proto,
    model_info_from_proto,
    model_info_to_proto,
    refiner_info_from_proto,
    refiner_info_to_proto,
)
from text4seg.wire.masks import (
    DecodePng,
    EncodePng,
)
from text4seg.wire.peers import (
    generate_request_from_proto,
    generate_request_to_proto,
    refine_answer_from_proto,
    refine_answer_to_proto,
    refine_request_from_proto,
    refine_request_to_proto,
    text_chunk_from_proto,
    text_chunk_to_proto,
)
from text4seg.wire.requests import (
    chat_request_from_proto,
    chat_request_to_proto,
    detect_request_from_proto,
    detect_request_to_proto,
    frames_request_from_proto,
    frames_request_to_proto,
    segment_request_from_proto,
    segment_request_to_proto,
    stream_segment_request_to_proto,
)

__all__ = [
    "CODES",
    "DOMAIN",
    "DecodePng",
    "EncodePng",
    "chat_event_from_proto",
    "chat_event_to_proto",
    "chat_request_from_proto",
    "chat_request_to_proto",
    "detect_answer_from_proto",
    "detect_answer_to_proto",
    "detect_request_from_proto",
    "detect_request_to_proto",
    "error_from_rpc",
    "error_from_status",
    "error_to_status",
    "frame_answer_from_proto",
    "frame_answer_to_proto",
    "frames_request_from_proto",
    "frames_request_to_proto",
    "generate_request_from_proto",
    "generate_request_to_proto",
    "generator_info_from_proto",
    "generator_info_to_proto",
    "model_info_from_proto",
    "model_info_to_proto",
    "refine_answer_from_proto",
    "refine_answer_to_proto",
    "refine_request_from_proto",
    "refine_request_to_proto",
    "refiner_info_from_proto",
    "refiner_info_to_proto",
    "segment_answer_from_proto",
    "segment_answer_to_proto",
    "segment_event_from_proto",
    "segment_event_to_proto",
    "segment_request_from_proto",
    "segment_request_to_proto",
    "stored_image_from_proto",
    "stored_image_to_proto",
    "stream_segment_request_to_proto",
    "text_chunk_from_proto",
    "text_chunk_to_proto",
]
