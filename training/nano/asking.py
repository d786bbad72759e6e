"""A generator service of a checkpoint, and questions of it as any caller would ask them."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from text4seg import dialogue
from text4seg.descriptors import Codec, Decoding, decode_answer, decode_strict
from text4seg.errors import DescriptorMalformedError
from text4seg.scores import TokenLogprob, patch_probabilities
from text4seg.v1 import generator_service_pb2 as pb
from text4seg.v1.generator_service_pb2_grpc import GeneratorServiceStub
from training.child_service import ChildService, child_service


@dataclass(frozen=True, slots=True)
class Item:
    """One question: an encoded image, a phrase, and the true mask (empty when nothing matches)."""

    image: bytes
    phrase: str
    truth: NDArray[np.bool_]


Items = list[Item]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said.

    Attributes:
        mask: Grid mask, bool [rows, cols].
        confidence: In what each cell was called, [rows, cols].
        well_formed: Whether the text is what the codec writes.
        tokens: How many were written.
        forced: How many of them the grammar left no choice about.
        seconds: From the question to the end of the answer.
    """

    mask: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    well_formed: bool
    tokens: int = 0
    forced: int = 0
    seconds: float = 0.0


@contextmanager
def generator(checkpoint: Path, threads: int) -> Iterator[GeneratorServiceStub]:
    """Run a generator service on a free port of this machine.

    Raises:
        ServiceEndedError: it ended at start; it has said why.
    """
    settings = {
        "T4S_GENERATOR_CHECKPOINT": str(checkpoint), "T4S_GENERATOR_THREADS": str(threads),
        "T4S_GENERATOR_LOG_LEVEL": "WARNING",
    }  # fmt: skip
    with (
        child_service("services.generator", settings) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        stub = GeneratorServiceStub(channel)  # type: ignore[no-untyped-call]
        wait_until_loaded(stub, service)
        yield stub


def wait_until_loaded(stub: GeneratorServiceStub, service: ChildService, most_s: float = 300) -> None:
    """Wait for the model.

    Raises:
        ServiceEndedError: its process has ended; it has said why.
        grpc.RpcError: it is not loaded in time.
    """
    deadline = time.monotonic() + most_s
    while True:
        try:
            stub.GetGeneratorInfo(pb.GetGeneratorInfoRequest(), timeout=5)
        except grpc.RpcError:
            service.check()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def ask(
    stub: GeneratorServiceStub,
    item: Item,
    shape: tuple[int, int],
    codec: Codec = Codec.RRLE,
    *,
    constrained: bool = True,
) -> Answer:
    """Ask one question over gRPC; if not constrained, without the grammar."""
    request = pb.GenerateRequest(
        image=item.image,
        turns=[pb.Turn(role=pb.ROLE_USER, text=dialogue.referring_question(item.phrase))],
        constraint=pb.DescriptorConstraint(labels=[item.phrase]) if constrained else None,
        logprobs=True,
    )
    text, tokens, finish, begun = "", [], pb.GenerateFinish(), time.perf_counter()
    for piece in stub.Generate(request, timeout=120):
        finish = piece.finish
        text += piece.text
        tokens += [TokenLogprob(token.begin, token.end, token.logprob) for token in piece.logprobs]
    seconds = time.perf_counter() - begun
    decoding = decode_answer(text, shape, [item.phrase], codec)
    return Answer(
        mask_in(decoding, item.phrase),
        patch_probabilities(decoding, tokens),
        well_formed(text, shape, item.phrase, codec),
        finish.completion_tokens,
        finish.forced_tokens,
        seconds,
    )


def referring_texts(processor: Any, phrase: str) -> tuple[str, str]:
    """Return the question for a phrase in a processor's template, and its answer up to the descriptor."""
    question = {"type": "text", "text": dialogue.referring_question(phrase)}
    turns = [{"role": "user", "content": [{"type": "image"}, question]}]
    prompt: str = processor.apply_chat_template(turns, add_generation_prompt=True)
    return prompt, f"{dialogue.referring_answer(phrase)}\n{dialogue.SEG_OPEN}"


def mask_in(decoding: Decoding, phrase: str) -> NDArray[np.bool_]:
    """Return where the grid shows a phrase, bool [rows, cols]."""
    grid = decoding.grid
    return grid.mask(phrase) if phrase in grid.labels else np.zeros(grid.shape, bool)


def well_formed(answer: str, shape: tuple[int, int], phrase: str, codec: Codec = Codec.RRLE) -> bool:
    """Tell whether an answer holds exactly one block, closed and free of repairs."""
    blocks = dialogue.find_blocks(answer)
    if len(blocks) != 1 or not blocks[0].closed:
        return False
    try:
        decode_strict(blocks[0].text, shape, [phrase], codec)
    except DescriptorMalformedError:
        return False
    return True


def encoded(image: NDArray[np.uint8]) -> bytes:
    """Return an image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
