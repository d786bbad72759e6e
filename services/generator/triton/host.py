"""The generator inside Triton: the same engine, queue and errors, in a thread beside the Python backend.

A decoupled model gets every request at once and builds no queue of Triton's own, so the queue is here.
Nothing of Triton is imported: ``deploy/triton/models/text4seg/1/model.py`` brings the two together.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.chassis.admission import Gate
from services.chassis.health import Health
from services.chassis.logs import begin_request
from services.generator.engines import open_model
from services.generator.generate import Generate
from services.generator.settings import GeneratorSettings
from services.generator.triton import payloads
from text4seg import wire
from text4seg.errors import (
    DeadlineExceededError,
    InternalError,
    OptionInvalidError,
    ServiceUnavailableError,
    Text4SegError,
)
from text4seg.segmentation import TextChunk

_LOG = logging.getLogger(__name__)

_LOOK_UP_S = 0.05
_CLOSE_S = 10.0

Outputs = Mapping[str, NDArray[Any]]

_TRITON_CODES = {
    "IMAGE_INVALID": "INVALID_ARG",
    "QUERY_INVALID": "INVALID_ARG",
    "LABEL_INVALID": "INVALID_ARG",
    "OPTION_INVALID": "INVALID_ARG",
    "OVERLOADED": "UNAVAILABLE",
    "SERVICE_UNAVAILABLE": "UNAVAILABLE",
}


class Reply(Protocol):
    """Where the answer to one request goes. Called from one thread."""

    def is_cancelled(self) -> bool:
        """Say whether the caller has left."""
        ...

    def send(self, outputs: Outputs, last: bool) -> None:
        """Send one response; nothing may follow the last."""
        ...

    def fail(self, code: str, message: str) -> None:
        """Send an error as the last response; ``code`` is the name of a code of ``TritonError``."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request of Triton.

    Attributes:
        inputs: values of the tensors by name: STRING as bytes, BOOL as bool.
        reply: where the answer goes.
        timeout_s: seconds that the caller gives the model; 0: no limit.
        request_id: of the caller, for the log; may be empty.
    """

    inputs: Mapping[str, Sequence[Any]]
    reply: Reply
    timeout_s: float = 0.0
    request_id: str = ""

    def text(self, name: str) -> str:
        """Return a text; empty when it was not sent."""
        values = self.inputs.get(name) or (b"",)
        try:
            return bytes(values[0]).decode("utf-8")
        except UnicodeDecodeError as error:
            raise OptionInvalidError(name, "is not UTF-8") from error

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a switch."""
        return bool((self.inputs.get(name) or (default,))[0])


@dataclass(slots=True)
class _Progress:
    characters: int = 0
    tokens: int = 0
    logprob: float = 0.0
    closed: bool = False
    """Whether the last response has been sent."""


class GeneratorHost:
    """Loads the engine and answers calls, all in a thread with an event loop of its own.

    Args:
        settings: of the generator; what concerns its server is not used.

    Raises:
        CheckpointError: when the checkpoint is missing, damaged or unknown.
        ValueError: when the engine is ``triton``, which would ask itself.
    """

    def __init__(self, settings: GeneratorSettings) -> None:
        if settings.engine == "triton":
            raise ValueError("a model inside Triton cannot use the engine triton: set its parameter engine")
        self._settings = settings
        self._limits = settings.request_limits()
        self._resources = AsyncExitStack()
        self._calls: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="text4seg", daemon=True)
        self._thread.start()
        try:
            self._generate = self._wait(self._open())
        except BaseException:
            self._stop()
            raise

    def submit(self, call: Call) -> None:
        """Begin to answer a call, and return at once. It gets a last response whatever happens."""
        self._loop.call_soon_threadsafe(self._begin, call)

    def close(self) -> None:
        """End calls in flight with an error, and let go of the model."""
        try:
            self._wait(self._close(), _CLOSE_S)
        finally:
            self._stop()

    async def _open(self) -> Generate:
        model = await open_model(self._settings, self._resources, Health())
        _LOG.info("loaded", extra={"fields": {"model": model.info.model, "version": model.info.version}})
        return Generate(model, Gate(self._settings.concurrency, self._settings.queue))

    async def _close(self) -> None:
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)
        await self._resources.aclose()

    def _begin(self, call: Call) -> None:
        task = self._loop.create_task(self._answer(call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer(self, call: Call) -> None:
        begun = time.monotonic()
        begin_request(call.request_id)
        progress = _Progress()
        error: Text4SegError | None = None
        cancelled = False
        writing = asyncio.create_task(self._write(call, progress))
        try:
            while not writing.done():
                await asyncio.wait({writing}, timeout=_LOOK_UP_S)
                if not writing.done() and not progress.closed and call.reply.is_cancelled():
                    cancelled = writing.cancel()
                    await asyncio.wait({writing})
            writing.result()
        except asyncio.CancelledError:
            writing.cancel()
            await asyncio.wait({writing})
            error = ServiceUnavailableError("the caller has left" if cancelled else "the model is stopping")
        except Text4SegError as failure:
            error = failure
        except Exception as failure:
            _LOG.exception("unhandled")
            error = InternalError(f"{type(failure).__name__}: {failure}")
        finally:
            writing.cancel()
        if not progress.closed:
            code = "CANCELLED" if cancelled else _TRITON_CODES.get(error.reason if error else "", "INTERNAL")
            _attempt(lambda: call.reply.fail(code, wire.error_to_text(error or InternalError("no answer"))))
        reason = "CANCELLED" if cancelled else error.reason if error else "OK"
        fields = {"code": reason, "tokens": progress.tokens, "seconds": round(time.monotonic() - begun, 4)}
        probe = call.flag("return_model_info")  # comes all the time
        _LOG.log(logging.DEBUG if probe else logging.INFO, "call", extra={"fields": fields})

    async def _write(self, call: Call, progress: _Progress) -> None:
        def send(outputs: Outputs, last: bool) -> None:
            progress.closed = progress.closed or last
            call.reply.send(outputs, last)

        if call.flag("return_model_info"):
            send(
                {"text_output": _texts(""), "model_info": _texts(payloads.info_json(self._generate.info))},
                True,
            )
            return
        stream = call.flag("stream")
        echo = not call.flag("exclude_input_in_output", default=stream)
        if echo and stream:
            raise OptionInvalidError("exclude_input_in_output", "must be true when streaming")
        text_input = call.text("text_input")
        request = payloads.request_of(
            text_input, call.inputs.get("image") or (), call.text("sampling_parameters"), self._limits
        )
        pieces: list[TextChunk] = []
        try:
            async with asyncio.timeout(call.timeout_s or None), aclosing(self._generate(request)) as chunks:
                async for chunk in chunks:
                    if stream:
                        send(_outputs(call, chunk, progress), chunk.finish is not None)
                    else:
                        pieces.append(chunk)
        except TimeoutError as error:
            raise DeadlineExceededError("generate") from error
        if pieces:
            outputs = dict(_outputs(call, _joined(pieces), progress))
            if echo:
                outputs["text_output"] = _texts(text_input + "".join(piece.text for piece in pieces))
            send(outputs, True)

    def _wait(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float | None = None) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)
        if not self._loop.is_running():
            self._loop.close()


def _outputs(call: Call, chunk: TextChunk, progress: _Progress) -> Outputs:
    outputs: dict[str, NDArray[Any]] = {"text_output": _texts(chunk.text)}
    finish = chunk.finish
    if call.flag("return_finish_reason"):
        outputs["finish_reason"] = _texts(finish.reason.value if finish else payloads.NO_FINISH)
    if call.flag("return_logprobs"):
        outputs["logprobs"] = _texts(payloads.logprobs_json(chunk, progress.characters, progress.tokens))
    progress.characters += len(chunk.text)
    progress.tokens += len(chunk.logprobs)
    progress.logprob += sum(token.logprob for token in chunk.logprobs)
    if call.flag("return_cumulative_logprob"):
        outputs["cumulative_logprob"] = np.array([progress.logprob], dtype=np.float32)
    if call.flag("return_num_output_tokens"):
        outputs["num_output_tokens"] = np.array([len(chunk.logprobs)], dtype=np.uint32)
    if finish is not None:
        outputs["usage"] = _texts(payloads.usage_json(finish))
        if call.flag("return_num_input_tokens"):
            outputs["num_input_tokens"] = np.array([finish.prompt_tokens], dtype=np.uint32)
    return outputs


def _joined(pieces: Sequence[TextChunk]) -> TextChunk:
    return TextChunk(
        text="".join(piece.text for piece in pieces),
        logprobs=tuple(token for piece in pieces for token in piece.logprobs),
        finish=pieces[-1].finish,
    )


def _texts(text: str) -> NDArray[Any]:
    return np.array([text.encode("utf-8")], dtype=np.object_)


def _attempt(send: Callable[[], None]) -> None:
    """Send an error to somebody who may have left."""
    try:
        send()
    except Exception:
        _LOG.exception("the error could not be sent")
