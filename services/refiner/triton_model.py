"""Models that a Triton server runs: ``deploy/triton/models/sam``."""

from __future__ import annotations

import asyncio
import json
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.chassis.peer_call import Peer, channel_options
from services.chassis.peer_watch import PeerWatch
from services.chassis.telemetry import Telemetry
from services.refiner.refine import Embedding, SharpMask
from text4seg import wire
from text4seg.errors import InternalError, OverloadedError, PeerUnavailableError, Text4SegError

PEER = "triton"
"""The name of Triton in errors, and of the fact in the refiner's health."""

_INFO_TIMEOUT_S = 5.0
_RETRY_S = 0.5
_FULL = "maximum queue size"
"""Part of Triton's own text when its queue is full."""

_TYPES: Mapping[str, str] = {"uint8": "UINT8", "float32": "FP32", "int64": "INT64", "bool": "BOOL"}


@dataclass(frozen=True, slots=True)
class HostedModel:
    """What Triton says of one model; the fields are those of ``MaskModel``."""

    name: str
    version: str
    batch: int


class TritonMaskModel:
    """One of the models in Triton, as a :class:`~services.refiner.refine.MaskModel`.

    An embedding is the image itself: Triton keeps what its model makes of it, by content.
    """

    def __init__(
        self,
        stub: Any,
        repository_name: str,
        hosted: Callable[[], HostedModel],
        timeout_s: float,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Wrap a blocking stub.

        Args:
            stub: ``GRPCInferenceServiceStub`` over a blocking channel.
            repository_name: of the model that hosts it.
            hosted: what Triton last said of it.
            timeout_s: seconds that one call may take.
            telemetry: told of every call; None: nobody is.
        """
        self._peer = Peer(PEER, telemetry or Telemetry("triton"), _error)
        self._stub = stub
        self._repository_name = repository_name
        self._hosted = hosted
        self._timeout_s = timeout_s

    @property
    def name(self) -> str:
        """What callers ask for."""
        return self._hosted().name

    @property
    def version(self) -> str:
        """Of the weights and steps that Triton has now."""
        return self._hosted().version

    @property
    def batch(self) -> int:
        """Most masks that one call is given."""
        return self._hosted().batch

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Keep the image; nothing is sent yet."""
        height, width, _ = image.shape
        kept = np.ascontiguousarray(image).copy()
        kept.setflags(write=False)
        return Embedding((height, width), kept, kept.nbytes)

    def decode(
        self, embedding: Embedding, coarse: Sequence[NDArray[np.float32]], seed: int
    ) -> tuple[SharpMask, ...]:
        """Let Triton sharpen masks.

        Raises:
            PeerUnavailableError: Triton cannot be reached, or does not answer.
            OverloadedError: its queue is full.
        """
        sharp: dict[int, SharpMask] = {}
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, cells in enumerate(coarse):
            alike[cells.shape].append(index)  # a tensor holds masks of one shape; usually there is but one
        for indexes in alike.values():
            masks = self._sharpen(embedding, np.stack([coarse[index] for index in indexes]), seed)
            sharp.update(zip(indexes, masks, strict=True))
        return tuple(sharp[index] for index in range(len(coarse)))

    def _sharpen(self, embedding: Embedding, coarse: NDArray[np.float32], seed: int) -> list[SharpMask]:
        seeds = np.array([seed], dtype=np.int64)
        inputs = {"image": embedding.content, "coarse": coarse, "seed": seeds}
        message = _request(self._repository_name, inputs, self.name)
        with self._peer.calling("ModelInfer", "refine", None, self._timeout_s) as call:
            response = self._stub.ModelInfer(message, timeout=call.timeout_s, metadata=call.headers)
        height, width = embedding.image_size
        try:
            names = [each.name for each in response.outputs]
            values = dict(zip(names, response.raw_output_contents, strict=True))
            bits = np.frombuffer(values["masks"], dtype=np.uint8).reshape(len(coarse), -1)
            masks = np.unpackbits(bits, axis=1, count=height * width).astype(np.bool_)
            scores = np.frombuffer(values["scores"], dtype=np.float32)
            return [
                SharpMask(mask.reshape(height, width), float(score))
                for mask, score in zip(masks, scores, strict=True)
            ]
        except (KeyError, ValueError) as error:
            raise InternalError(f"triton: the masks cannot be read: {error}") from error


@asynccontextmanager
async def open_triton_models(
    url: str,
    repository_name: str,
    timeout_s: float,
    refresh_s: float,
    report: Callable[[bool], None],
    telemetry: Telemetry | None = None,
) -> AsyncIterator[tuple[TritonMaskModel, ...]]:
    """Connect to Triton, wait until it says which models it has, and keep looking whether it is there.

    Args:
        url: of its gRPC endpoint, ``host:port``.
        repository_name: of the model that hosts them.
        timeout_s: seconds that one call may take.
        refresh_s: seconds after which it is asked anew.
        report: told whether it can be reached.
        telemetry: told of every call; None: nobody is.
    """
    report(False)
    peer = Peer(PEER, telemetry or Telemetry("triton"), _error)
    channel = grpc.aio.insecure_channel(url, channel_options())
    asking: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    known: dict[str, HostedModel] = {}

    async def ask() -> tuple[HostedModel, ...]:
        with peer.calling("ModelReady", "refine", None, _INFO_TIMEOUT_S) as call:
            timeout = call.timeout_s
            ready = await asking.ModelReady(
                service_pb2.ModelReadyRequest(name=repository_name), timeout=timeout
            )
            if not ready.ready:
                raise PeerUnavailableError(PEER, f"model {repository_name!r} is not ready")
            question = _request(repository_name, {"return_model_info": np.ones(1, dtype=np.bool_)})
            try:
                return _read_models(await asking.ModelInfer(question, timeout=timeout))
            except grpc.aio.AioRpcError as failure:
                # The question waits behind the calls at work: ready and busy, it is what it was.
                late = failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                if known and (late or _FULL in (failure.details() or "")):
                    return tuple(known.values())
                raise

    def learn(models: tuple[HostedModel, ...]) -> None:
        known.update({model.name: model for model in models})

    try:
        watch = PeerWatch(PEER, channel, ask, refresh_s, report, learn)
        async with watch.running():
            while not known:
                await asyncio.sleep(_RETRY_S)
            with grpc.insecure_channel(url, channel_options()) as blocking:
                stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(blocking)
                yield tuple(
                    TritonMaskModel(
                        stub, repository_name, partial(known.__getitem__, name), timeout_s, telemetry
                    )
                    for name in tuple(known)
                )
    finally:
        await channel.close(None)


def _request(repository_name: str, inputs: Mapping[str, NDArray[Any]], model: str = "") -> Any:
    request = service_pb2.ModelInferRequest(model_name=repository_name)
    for name, values in inputs.items():
        request.inputs.add(name=name, datatype=_TYPES[values.dtype.name], shape=values.shape)
        request.raw_input_contents.append(values.tobytes())
    if model:
        request.inputs.add(name="model", datatype="BYTES", shape=[1])
        text = model.encode()
        request.raw_input_contents.append(struct.pack("<I", len(text)) + text)
    return request


def _read_models(response: Any) -> tuple[HostedModel, ...]:
    try:
        (text,) = response.raw_output_contents
        models = tuple(
            HostedModel(each["name"], each["version"], int(each["batch"])) for each in json.loads(text[4:])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InternalError(f"triton: model_info cannot be read: {error!r}") from error
    if not models:
        raise InternalError("triton: no refiner model is loaded")
    return models


def _error(failure: grpc.RpcError, peer: str) -> Text4SegError:
    details = failure.details() or ""
    if _FULL in details:
        return OverloadedError("triton's queue is full")
    return wire.error_from_text(details, peer) or wire.error_from_rpc(failure, peer)
