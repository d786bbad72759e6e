"""Several SAMs in one refiner, and what reaches a client of the whole suite. Real classes, random weights."""

import io
from dataclasses import replace

import grpc
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("segment_anything")

from segment_anything import sam_model_registry  # noqa: E402

from services.chassis.server import start_server  # noqa: E402
from services.refiner import sam_model  # noqa: E402
from services.refiner.__main__ import build  # noqa: E402
from services.refiner.sam_model import MaskPrompt, SamModel  # noqa: E402
from services.refiner.settings import RefinerSettings  # noqa: E402
from tests.orchestrator_fakes import assert_same  # noqa: E402
from tests.serving import picture, serving  # noqa: E402
from tests.tiny_sam import tiny_sam  # noqa: E402
from text4seg import wire  # noqa: E402
from text4seg.errors import CheckpointError, OptionInvalidError  # noqa: E402
from text4seg.segmentation import (  # noqa: E402
    CacheMode,
    CacheOutcome,
    RefineMode,
    RefineRequest,
    SegmentOptions,
    WarningKind,
)
from text4seg.v1 import refiner_service_pb2 as pb  # noqa: E402
from text4seg.v1.refiner_service_pb2_grpc import RefinerServiceStub  # noqa: E402
from text4seg_client import AsyncClient  # noqa: E402

WIDTHS = {"vit_b": 16, "vit_l": 32}
FILE = picture(60, 110)


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Files of two small SAMs that the refiner takes for vit_b and vit_l."""
    files = []
    for seed, (kind, width) in enumerate(WIDTHS.items()):
        monkeypatch.setitem(sam_model._WIDTHS, width, kind)
        monkeypatch.setitem(sam_model_registry, kind, lambda width=width: tiny_sam(99, width=width))
        files.append(tmp_path / f"sam_{kind}.pth")
        torch.save(tiny_sam(seed, width=width).state_dict(), files[-1])
    return tuple(files)


def grids(*rows):
    coarse = []
    for row in rows:
        cells = np.zeros((16, 16), dtype=np.float32)
        cells[row : row + 5, 3:12] = 1
        coarse.append(cells)
    return tuple(coarse)


def pixels():
    return np.array(Image.open(io.BytesIO(FILE)))


async def test_callers_choose_among_several_sams(checkpoints):
    settings = RefinerSettings(address="127.0.0.1:0", drain_s=0, model="sam", sam_checkpoints=checkpoints)
    service = await start_server("refiner", settings, build)
    coarse = grids(2, 8)
    try:
        await service.wait_serving()
        async with grpc.aio.insecure_channel(service.address) as channel:
            stub = RefinerServiceStub(channel)
            info = wire.refiner_info_from_proto(await stub.GetRefinerInfo(pb.GetRefinerInfoRequest()))
            answers = {}
            for name in ("", *info.models):
                message = wire.refine_request_to_proto(RefineRequest(FILE, coarse, seed=4, model=name))
                answers[name] = wire.refine_answer_from_proto(await stub.Refine(message, timeout=60))
            wrong = wire.refine_request_to_proto(RefineRequest(FILE, coarse, model="sam-vit-h"))
            with pytest.raises(grpc.RpcError) as refused:
                await stub.Refine(wrong, timeout=60)
    finally:
        await service.stop()
    assert info.models == ("sam-vit-b", "sam-vit-l")
    assert [version.split("-")[:3] for version in info.versions] == [["sam", "vit", "b"], ["sam", "vit", "l"]]
    assert info.version == info.versions[0]
    assert answers[""].model == "sam-vit-b"
    assert answers[""].masks == answers["sam-vit-b"].masks
    for seed, (kind, width) in enumerate(WIDTHS.items()):
        name = f"sam-{kind.replace('_', '-')}"
        model = SamModel(tiny_sam(seed, width=width), kind, "the same")
        expected = model.decode(model.embed(pixels()), coarse, 4)
        assert answers[name].model == name
        for refined, sharp in zip(answers[name].masks, expected, strict=True):
            assert_same(refined.mask, sharp.mask)
            assert refined.score == pytest.approx(sharp.score)
    one, other = (answers[f"sam-vit-{letter}"].masks[0].mask for letter in "bl")
    assert (one != other).any()
    error = wire.error_from_rpc(refused.value)
    assert isinstance(error, OptionInvalidError)
    assert "sam-vit-b, sam-vit-l" in str(error)


async def test_the_mask_prompts_variant_is_a_setting_and_part_of_the_version(checkpoints):
    versions = set()
    for variant in MaskPrompt:
        settings = RefinerSettings(
            address="127.0.0.1:0",
            drain_s=0,
            model="sam",
            sam_checkpoints=checkpoints[:1],
            sam_mask_prompt=variant,
        )
        service = await start_server("refiner", settings, build)
        try:
            await service.wait_serving()
            async with grpc.aio.insecure_channel(service.address) as channel:
                info = await RefinerServiceStub(channel).GetRefinerInfo(
                    pb.GetRefinerInfoRequest(), timeout=60
                )
        finally:
            await service.stop()
        assert f"+{variant}+" in info.version
        versions.add(info.version)
    assert len(versions) == 2


async def test_two_files_of_one_kind_stop_the_start(checkpoints, tmp_path):
    again = tmp_path / "again.pth"
    again.write_bytes(checkpoints[0].read_bytes())
    settings = RefinerSettings(
        address="127.0.0.1:0", drain_s=0, model="sam", sam_checkpoints=(checkpoints[0], again)
    )
    service = await start_server("refiner", settings, build)
    try:
        with pytest.raises(CheckpointError, match="another file holds a sam-vit-b already") as caught:
            await service.wait_serving()
    finally:
        await service.stop()
    assert caught.value.path == str(again)


def sam_settings(checkpoints):
    return {"model": "sam", "sam_checkpoints": checkpoints}


async def test_a_public_call_names_its_sam(checkpoints):
    async with (
        serving({"min_agreement": 0}, refiner=sam_settings(checkpoints)) as suite,
        AsyncClient(suite.orchestrator.address) as client,
    ):
        default = await client.segment(FILE, "cat")
        large, again = [
            await client.segment(FILE, "cat", SegmentOptions(refiner_model="sam-vit-l")) for _ in range(2)
        ]
        with pytest.raises(OptionInvalidError, match="sam-vit-b, sam-vit-l"):
            await client.segment(FILE, "cat", SegmentOptions(refiner_model="sam-vit-h"))
    assert default.versions.refiner.startswith("sam-vit-b sam-vit-b-")
    assert large.versions.refiner.startswith("sam-vit-l sam-vit-l-")
    assert large.cache is CacheOutcome.MISS
    assert again.cache is CacheOutcome.HIT
    assert default.regions[0].refined
    assert large.regions[0].refined
    assert (default.regions[0].mask != large.regions[0].mask).any()


def kinds(answer):
    return [warning.kind for warning in answer.warnings]


async def test_a_disagreeing_mask_gives_way_to_the_coarse_one_and_the_client_hears_of_it(checkpoints):
    """SAM with random weights agrees with nothing much; the operator asks for an IoU of 0.9."""
    auto = SegmentOptions(refine=RefineMode.AUTO, cache=CacheMode.BYPASS)
    async with (
        serving({"min_agreement": 0.9}, refiner=sam_settings(checkpoints)) as suite,
        AsyncClient(suite.orchestrator.address) as client,
    ):
        coarse = await client.segment(FILE, "cat", replace(auto, refine=RefineMode.NONE))
        answer = await client.segment(FILE, "cat", auto)
        streamed = [event async for event in client.stream_segment(FILE, "cat", auto)][-1]
        detected = await client.detect(FILE, "cat", auto)
        required = await client.segment(FILE, "cat", replace(auto, refine=RefineMode.REQUIRED))
    assert coarse.warnings == ()
    (region,) = answer.regions
    assert not region.refined
    assert region.refine_score is None
    assert_same(region.mask, coarse.regions[0].mask)
    assert kinds(answer) == kinds(streamed) == kinds(detected) == [WarningKind.REFINER_DISAGREED]
    assert "'cat'" in answer.warnings[0].message
    assert detected.detections[0].box == coarse.regions[0].box
    assert kinds(required) == []
    assert required.regions[0].refined
    assert (required.regions[0].mask != region.mask).any()
