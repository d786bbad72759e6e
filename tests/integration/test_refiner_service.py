"""RefinerService over real gRPC."""

import asyncio
import io
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from services.chassis.server import start_server
from services.refiner import models
from services.refiner.__main__ import build
from services.refiner.settings import RefinerSettings
from text4seg.errors import (
    CheckpointError,
    DeadlineExceededError,
    ImageInvalidError,
    OptionInvalidError,
    OverloadedError,
)
from text4seg.metrics import iou
from text4seg.v1 import mask_pb2
from text4seg.v1 import refiner_service_pb2 as pb
from text4seg.v1.refiner_service_pb2_grpc import RefinerServiceStub
from text4seg.wire import error_from_rpc, refine_answer_from_proto, refiner_info_from_proto

SIZE = (120, 180)
BOX = np.zeros(SIZE, dtype=np.bool_)
BOX[34:80, 50:140] = True  # on no edge of the 16 x 16 grid


def image_file(turned=False, kind="PNG"):
    """A red box before green, possibly stored on its side with an EXIF note that says so."""
    pixels = np.full((*SIZE, 3), (40, 120, 60), dtype=np.uint8)
    pixels[BOX] = (200, 40, 40)
    picture, file = Image.fromarray(pixels), io.BytesIO()
    if turned:
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.transpose(Image.Transpose.ROTATE_90).save(file, kind, exif=exif)
    else:
        picture.save(file, kind)
    return file.getvalue()


def grid(cells):
    rows, columns = cells.shape
    levels = np.asarray(cells * 255, dtype=np.uint8)
    return mask_pb2.GridMask(rows=rows, columns=columns, cells=levels.tobytes())


def box_grid():
    cells = np.zeros((16, 16))
    cells[5:11, 4:12] = 1
    return grid(cells)


def ask(**fields):
    return pb.RefineRequest(**{"image": image_file(), "coarse": [box_grid()], **fields})


@asynccontextmanager
async def serving(**settings):
    service = await start_server(
        "refiner", RefinerSettings(address="127.0.0.1:0", drain_s=0, **settings), build
    )
    try:
        await service.wait_serving()
        async with grpc.aio.insecure_channel(service.address) as channel:
            yield RefinerServiceStub(channel)
    finally:
        await service.stop()


async def failure(call):
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return error_from_rpc(caught.value)


@pytest.mark.parametrize(("model", "least"), [("light", 0.9), ("grabcut", 0.98)])
async def test_what_comes_with_the_repository_sharpens(model, least):
    async with serving(extra_models=("grabcut",)) as stub:
        default = (await stub.GetRefinerInfo(pb.GetRefinerInfoRequest())).model
        answer = refine_answer_from_proto(await stub.Refine(ask(model=model)))
    assert default == "light"
    assert answer.model == model
    (refined,) = answer.masks
    assert iou(refined.mask, BOX) > least
    assert 0.5 < refined.agreement < 0.98
    assert 0 <= refined.score <= 1
    assert answer.embed_s > 0
    assert answer.decode_s > 0


async def test_one_mask_per_coarse_mask_in_order_and_the_empty_one_stays_empty():
    corner = np.zeros((8, 4))
    corner[:2, :2] = 1
    async with serving(model="identity") as stub:
        request = ask(coarse=[grid(np.zeros((16, 16))), grid(corner), box_grid()])
        empty, first, second = refine_answer_from_proto(await stub.Refine(request)).masks
    assert empty.mask.shape == SIZE
    assert not empty.mask.any()
    assert empty.agreement == 1
    assert first.mask[0, 0]
    assert first.mask.mean() == pytest.approx(1 / 8, abs=0.02)
    assert iou(second.mask, BOX) > 0.7


async def test_the_answer_lies_in_the_frame_of_the_upright_image():
    async with serving(model="grabcut") as stub:
        answer = refine_answer_from_proto(await stub.Refine(ask(image=image_file(turned=True))))
    assert answer.masks[0].mask.shape == SIZE
    assert iou(answer.masks[0].mask, BOX) > 0.98


async def test_info_tells_the_models_the_default_first():
    async with serving(model="grabcut", extra_models=("identity", "grabcut")) as stub:
        info = refiner_info_from_proto(await stub.GetRefinerInfo(pb.GetRefinerInfoRequest()))
        answer = await stub.Refine(ask(model="identity"))
    assert info.model == "grabcut"
    assert info.models == ("grabcut", "identity")
    assert info.version
    assert answer.model == "identity"


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"model": "sam-vit-h"}, OptionInvalidError, "model"),
        ({"coarse": []}, OptionInvalidError, "coarse"),
        ({"coarse": [mask_pb2.GridMask(rows=16, columns=16, cells=b"12")]}, OptionInvalidError, "coarse[0]"),
        ({"seed": -1}, OptionInvalidError, "seed"),
        ({"image": b""}, ImageInvalidError, "image"),
        ({"image": b"not an image"}, ImageInvalidError, "image"),
        ({"image": image_file(kind="JPEG")[:300]}, ImageInvalidError, "image"),
    ],
)
async def test_a_bad_request_is_refused_by_field_and_the_next_one_served(fields, error, field):
    async with serving(queue=0) as stub:
        refused = await failure(stub.Refine(ask(**fields)))
        assert type(refused) is error
        assert refused.field == field
        assert len((await stub.Refine(ask())).masks) == 1


async def test_too_many_pixels_are_refused():
    async with serving(max_image_pixels=SIZE[0] * SIZE[1] - 1) as stub:
        assert isinstance(await failure(stub.Refine(ask())), ImageInvalidError)


MANY = [box_grid()] * 300


async def test_a_full_queue_and_a_caller_that_leaves():
    async with serving(queue=0) as stub:
        calls = [asyncio.ensure_future(stub.Refine(ask(coarse=MANY))) for _ in range(2)]
        (first,), (busy,) = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        refused = error_from_rpc(first.exception())
        assert isinstance(refused, OverloadedError)
        assert refused.retry_after_s > 0
        busy.cancel()
        assert len((await retried(stub)).masks) == 1


async def test_a_spent_deadline():
    async with serving() as stub:
        late = await failure(stub.Refine(ask(coarse=MANY), timeout=0.2))
    assert isinstance(late, DeadlineExceededError)


async def retried(stub):
    """The place is free once the server has heard of the cancellation."""
    while True:
        try:
            return await stub.Refine(ask())
        except grpc.RpcError as error:
            if not isinstance(error_from_rpc(error), OverloadedError):
                raise
            await asyncio.sleep(0.01)


async def test_a_missing_checkpoint_stops_the_start(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        async with serving(model="sam", sam_checkpoints=(tmp_path / "sam_vit_b.pth",)):
            pass


def test_sam_without_its_checkpoint_is_a_mistake_in_the_settings():
    with pytest.raises(ValidationError, match="sam_checkpoints"):
        RefinerSettings(extra_models=("sam",))


async def test_an_installed_package_without_the_bundled_weights_says_what_to_do(monkeypatch, tmp_path):
    nowhere = tmp_path / "model.safetensors"
    monkeypatch.setattr(models, "BUNDLED_LIGHT", nowhere)
    with pytest.raises(CheckpointError, match="T4S_REFINER_MODEL=grabcut"):
        async with serving(light_checkpoint=nowhere):
            pass


def test_checkpoints_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("T4S_REFINER_SAM_CHECKPOINTS", "/sams/b.pth, /sams/h.pth")
    assert RefinerSettings().sam_checkpoints == (Path("/sams/b.pth"), Path("/sams/h.pth"))


def run_refiner(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "services.refiner", "--address", "127.0.0.1:0", *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_process_ends_with_one_clear_line_when_the_checkpoint_is_damaged(tmp_path):
    path = tmp_path / "sam_vit_b.pth"
    path.write_bytes(b"half a download")
    with run_refiner(T4S_REFINER_MODEL="sam", T4S_REFINER_SAM_CHECKPOINTS=str(path)) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    (line,) = [line for line in errors.splitlines() if "cannot start" in line]
    assert str(path) in line
    assert "Traceback" not in errors


def test_the_process_serves_until_it_is_told_to_stop():
    with run_refiner("--model", "identity") as process:
        for line in process.stdout:
            if '"serving"' in line:
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
