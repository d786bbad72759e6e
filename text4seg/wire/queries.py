"""What requests are made of: images, queries and conversations. Reading one checks all of it.

Fields of errors are proto paths as the caller wrote them, such as ``query.phrases.phrases[2]``.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

from text4seg.errors import ImageInvalidError, OptionInvalidError, QueryInvalidError
from text4seg.labels import MAX_RAW_LENGTH, check_label, normalize_label
from text4seg.segmentation import (
    ImageContent,
    ImageId,
    ImageSource,
    ImageUri,
    LabelQuery,
    Limits,
    OpenQuery,
    PhraseQuery,
    Query,
    Turn,
)
from text4seg.v1 import generator_service_pb2, image_pb2
from text4seg.v1 import segmentation_service_pb2 as pb

MAX_IMAGE_ID_CHARACTERS = 256


MAX_URI_CHARACTERS = 2048


def image_from_proto(message: image_pb2.Image, limits: Limits, field: str = "image") -> ImageSource:
    """Return where the pixels come from. The file itself is not opened here.

    Raises:
        ImageInvalidError: no source, an empty one, or one that is too long.
    """
    source = message.WhichOneof("source")
    if source == "content":
        return ImageContent(check_image_bytes(message.content, limits, f"{field}.content"))
    if source == "id":
        return ImageId(_check_address(message.id, MAX_IMAGE_ID_CHARACTERS, f"{field}.id"))
    if source == "uri":
        return ImageUri(_check_address(message.uri, MAX_URI_CHARACTERS, f"{field}.uri"))
    raise ImageInvalidError(field, "must be given, as content, id or uri")


def image_to_proto(image: ImageSource) -> image_pb2.Image:
    """Write where the pixels come from."""
    match image:
        case ImageContent(data):
            return image_pb2.Image(content=data)
        case ImageId(image_id):
            return image_pb2.Image(id=image_id)
        case ImageUri(uri):
            return image_pb2.Image(uri=uri)


def query_from_proto(message: pb.Query, limits: Limits, field: str = "query") -> Query:
    """Return what to look for, in canonical spelling: lower case, NFC, single spaces.

    Phrases keep order and repetitions, labels lose repetitions.

    Raises:
        QueryInvalidError: no query, an empty one, or more or longer phrases than the limits allow.
        LabelInvalidError: a phrase or label cannot be written in a descriptor.
    """
    kind = message.WhichOneof("kind")
    if kind == "phrases":
        return PhraseQuery(labels_from_proto(message.phrases.phrases, limits, f"{field}.phrases.phrases"))
    if kind == "labels":
        labels = labels_from_proto(message.labels.labels, limits, f"{field}.labels.labels")
        return LabelQuery(tuple(dict.fromkeys(labels)))
    if kind == "open":
        return OpenQuery()
    raise QueryInvalidError(field, "must be given, as phrases, labels or open")


def query_to_proto(query: Query) -> pb.Query:
    """Write what to look for."""
    match query:
        case PhraseQuery(phrases):
            return pb.Query(phrases=pb.PhraseQuery(phrases=phrases))
        case LabelQuery(labels):
            return pb.Query(labels=pb.LabelQuery(labels=labels))
        case OpenQuery():
            return pb.Query(open=pb.OpenQuery())


def labels_from_proto(texts: Iterable[str], limits: Limits, field: str) -> tuple[str, ...]:
    """Return phrases or labels in canonical spelling, one for each text.

    Raises:
        QueryInvalidError: none, too many, or one that is empty or too long.
        LabelInvalidError: one cannot be written in a descriptor.
    """
    given = tuple(texts)
    if not given:
        raise QueryInvalidError(field, "must not be empty")
    if len(given) > limits.phrases:
        raise QueryInvalidError(field, f"has {len(given)} entries; at most {limits.phrases} are allowed")
    return tuple(_label(text, limits, f"{field}[{index}]") for index, text in enumerate(given))


def turns_from_proto(
    messages: Sequence[generator_service_pb2.Turn], limits: Limits, field: str = "turns"
) -> tuple[Turn, ...]:
    """Return a conversation: user and assistant in turn, the user first and last.

    Raises:
        QueryInvalidError: the conversation is empty, too long or out of turn, the user says nothing, or a
            text holds control characters other than tab and line break.
        OptionInvalidError: a role is not known.
    """
    if not messages:
        raise QueryInvalidError(field, "must hold the user's question")
    if len(messages) > limits.turns:
        raise QueryInvalidError(field, f"holds {len(messages)} turns; at most {limits.turns} are allowed")
    characters = sum(len(message.text) for message in messages)
    if characters > limits.conversation_characters:
        limit = limits.conversation_characters
        raise QueryInvalidError(field, f"holds {characters} characters; at most {limit} are allowed")
    turns = tuple(_turn(message, f"{field}[{index}]") for index, message in enumerate(messages))
    for index, turn in enumerate(turns):
        if turn.role != ("assistant" if index % 2 else "user"):
            raise QueryInvalidError(
                f"{field}[{index}].role", "user and assistant must take turns, user first"
            )
    if turns[-1].role != "user":
        raise QueryInvalidError(f"{field}[{len(turns) - 1}].role", "the last turn must be the user's")
    return turns


def turn_to_proto(turn: Turn) -> generator_service_pb2.Turn:
    """Write one message of a conversation."""
    return generator_service_pb2.Turn(
        role="ROLE_USER" if turn.role == "user" else "ROLE_ASSISTANT", text=turn.text
    )


def check_image_bytes(data: bytes, limits: Limits, field: str) -> bytes:
    """Return an encoded image file that is neither empty nor too large.

    Raises:
        ImageInvalidError: it is.
    """
    if not data:
        raise ImageInvalidError(field, "is empty")
    if len(data) > limits.image_bytes:
        raise ImageInvalidError(field, f"has {len(data)} bytes; at most {limits.image_bytes} are allowed")
    return data


def _label(text: str, limits: Limits, field: str) -> str:
    limit = limits.phrase_characters
    stripped = text.strip()
    if not stripped:
        raise QueryInvalidError(field, "is empty")
    if len(stripped) > MAX_RAW_LENGTH or len(normalize_label(stripped)) > limit:
        raise QueryInvalidError(field, f"has {len(stripped)} characters; at most {limit} are allowed")
    return check_label(text, field)


def _turn(message: generator_service_pb2.Turn, field: str) -> Turn:
    role: Literal["user", "assistant"]
    if message.role == generator_service_pb2.ROLE_USER:
        role = "user"
    elif message.role == generator_service_pb2.ROLE_ASSISTANT:
        role = "assistant"
    else:
        raise OptionInvalidError(f"{field}.role", "must be ROLE_USER or ROLE_ASSISTANT")
    if role == "user" and not message.text.strip():
        raise QueryInvalidError(f"{field}.text", "is empty")
    for character in message.text:
        if character not in "\n\r\t" and unicodedata.category(character) == "Cc":
            raise QueryInvalidError(f"{field}.text", f"contains the control character U+{ord(character):04X}")
    return Turn(role, message.text)


def _check_address(text: str, most: int, field: str) -> str:
    if not text:
        raise ImageInvalidError(field, "is empty")
    if len(text) > most:
        raise ImageInvalidError(field, f"has {len(text)} characters; at most {most} are allowed")
    if " " in text or not text.isprintable():
        raise ImageInvalidError(field, "contains white space or a control character")
    return text
