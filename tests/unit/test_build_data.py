"""Instruction data on disk: shards, going on after a kill, manifest, contact sheet, command line."""

import gc
import hashlib
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import dataset_layouts as tiny
from text4seg.descriptors import Codec, decode_answer
from text4seg.masks import encode_rle, to_grid
from training import build_data
from training.build_data import Output, Source, build, main, preview
from training.datasets import registry
from training.datasets.layout import DatasetError
from training.datasets.registry import Dataset, open_dataset
from training.datasets.sample import Sample, Task
from training.instructions import Style
from training.shards import MANIFEST, Manifest, ShardError, Tally, resume, write_shards


def tree(folder):
    """Every file's bytes, with the folder's own name taken out."""
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(str(folder).encode(), b"OUT")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def digests(folder):
    """Every file but the manifest, whose hashes cover the folder's name where images are cropped."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in tree(folder).items() if name != MANIFEST}


def rows(folder):
    return [
        json.loads(line)
        for file in sorted(folder.glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


def manifest(folder):
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    tiny.write_refer(root)
    tiny.write_grefcoco(root)
    tiny.write_coco(root, count=12, extra=spoil)
    tiny.write_llava(root)
    return root


def spoil(data):
    """Two labels that cannot be written, and two images without marks."""
    data["annotations"][2]["phrase"] = "cat|dog"
    data["annotations"][5]["phrase"] = "a *3"
    data["annotations"] = [mark for mark in data["annotations"] if mark["image_id"] not in (6, 12)]


def mixed(root):
    names = (("refcoco", "train"), ("grefcoco", "train"), ("coco-json", "all"), ("coco-json-semantic", "all"))
    return [Source(name, root, split) for name, split in (*names, ("llava", "train"))]


def test_every_row_describes_its_sample(data, tmp_path):
    out = tmp_path / "out"
    style = Style(codec=Codec.IRLE, rule="area", grid=(24, 24))
    made = build([Source("coco-json", data, "all")], style, Output(out), progress=False)
    samples = [sample for sample in open_dataset("coco-json", data, "all", lambda name, why: None)]
    asked = [sample for sample in samples if not set("|*") & set(sample.labels[0])]
    assert made.rows == len(asked) == len(samples) - 2
    for row, sample in zip(rows(out), asked, strict=True):
        assert row["images"] == [str(sample.image)]
        grid = decode_answer(row["messages"][1]["content"], (24, 24), codec=Codec.IRLE).grid
        assert np.array_equal(grid.mask(sample.labels[0]), to_grid(sample.mask(), (24, 24)))


def test_the_manifest_counts_everything(data, tmp_path):
    out = tmp_path / "out"
    made = build(mixed(data), Style(seed=7), Output(out, shard_size=5, copies=2), progress=False)
    saved = manifest(out)
    assert saved["complete"] is True
    assert saved["rows"] == made.rows == len(rows(out)) == sum(shard["rows"] for shard in saved["shards"])
    assert [shard["samples"] for shard in saved["shards"]] == [5] * (made.samples // 5) + [made.samples % 5]
    assert saved["counts"]["dialogue"] == 4
    assert saved["counts"]["referring"] == 2 * (2 + 3 + 18)
    assert {why: entry["count"] for why, entry in saved["skipped"].items()} == {
        "a dialogue about several images": 1,
        "a dialogue without an image": 1,
        "a label contains '|', which separates runs": 2,
        "a label contains something that reads as a run length, such as ' *3'": 2,
        "nothing is marked in the image": 4,
    }
    assert saved["skipped"]["a label contains '|', which separates runs"]["examples"] == [
        "coco-json-all-2-cat|dog"
    ]
    assert saved["settings"]["style"]["seed"] == 7
    assert saved["settings"]["sources"][0]["name"] == "refcoco"
    for shard in saved["shards"]:
        assert hashlib.sha256((out / shard["file"]).read_bytes()).hexdigest() == shard["sha256"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("shard_size", [1, 4, 1000])
@pytest.mark.parametrize("after", [0, 1, 7, 13, 30])
def test_a_killed_run_goes_on_to_the_same_result(data, tmp_path, monkeypatch, after, shard_size):
    style = Style(crop_share=0.7)
    whole, out = tmp_path / "whole", tmp_path / "out"
    build(mixed(data), style, Output(whole, shard_size=shard_size), progress=False)
    asked = 0
    instruct = build_data.instruct

    def interrupted(sample, *arguments):
        nonlocal asked
        asked += 1
        if asked > after:
            raise Killed
        return instruct(sample, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(build_data, "instruct", interrupted)
        with pytest.raises(Killed):
            build(mixed(data), style, Output(out, shard_size=shard_size), progress=False)
    finished = resume(out, build_data._settings(mixed(data), style, Output(out, shard_size=shard_size)))
    asked = 0

    def counted(sample, *arguments):
        nonlocal asked
        asked += 1
        return instruct(sample, *arguments)

    monkeypatch.setattr(build_data, "instruct", counted)
    made = build(mixed(data), style, Output(out, shard_size=shard_size), progress=False)
    assert made.complete
    assert asked == made.samples - finished.samples  # nothing whole is made again
    assert digests(out) == digests(whole)
    first, second = manifest(out), manifest(whole)
    for either in (first, second):
        for shard in either["shards"]:
            shard.pop("sha256")
    assert first == second
    assert not list(out.glob("*.part"))


def test_a_run_that_is_done_does_nothing(data, tmp_path, monkeypatch):
    sources, output = mixed(data), Output(tmp_path / "out")
    made = build(sources, Style(), output, progress=False)
    monkeypatch.setattr(build_data, "instruct", None)
    assert build(sources, Style(), output, progress=False) == made


def test_a_damaged_shard_and_what_follows_are_written_again(data, tmp_path):
    sources, output = mixed(data), Output(tmp_path / "out", shard_size=6)
    build(sources, Style(), output, progress=False)
    before = tree(output.folder)
    (output.folder / "shard-00001.jsonl").write_text("{}\n")
    (output.folder / "shard-00003.jsonl").unlink()
    build(sources, Style(), output, progress=False)
    assert tree(output.folder) == before


def test_a_folder_with_something_else_is_refused(data, tmp_path):
    sources, output = mixed(data), Output(tmp_path / "out")
    build(sources, Style(), output, progress=False)
    before = tree(output.folder)
    with pytest.raises(ShardError, match=r"other settings \(form, style\)"):
        build(sources, Style(seed=1), Output(tmp_path / "out", form="llava"), progress=False)
    assert tree(output.folder) == before
    (output.folder / MANIFEST).write_text("{")
    with pytest.raises(ShardError, match="is no manifest"):
        build(sources, Style(), output, progress=False)
    (output.folder / MANIFEST).unlink()
    with pytest.raises(ShardError, match="holds files of something else"):
        build(sources, Style(), output, progress=False)


def test_a_bad_sample_stops_the_build_and_loses_nothing(data, tmp_path):
    sources, output = [Source("coco-json", data, "all")], Output(tmp_path / "out", shard_size=4)
    image = data / f"images/{5:012d}.jpg"
    good = image.read_bytes()
    tiny.write_image(image, size=(20, 20))
    with pytest.raises(DatasetError, match=f"{image.name} is 20x20"):
        build(sources, Style(), output, progress=False)
    assert [shard["samples"] for shard in manifest(output.folder)["shards"]] == [4, 4]
    image.write_bytes(good)
    assert build(sources, Style(), output, progress=False).complete
    whole = Output(tmp_path / "whole", shard_size=4)
    build(sources, Style(), whole, progress=False)
    assert tree(output.folder) == tree(whole.folder)


class Held(Sample):
    """A sample that can be watched."""


def test_many_samples_are_never_held_together(tmp_path, monkeypatch):
    mask = encode_rle(tiny.rectangle(*tiny.LEFT))
    alive = weakref.WeakSet()
    made = most = 0

    def many(root, split, on_skip):
        nonlocal made
        for number in range(3000):
            sample = Held(str(number), "many", split, Path("x.jpg"), Task.REFERRING, ("cat",), (mask,))
            alive.add(sample)
            made += 1
            yield sample
            del sample

    most_ahead = 0
    instruct = build_data.instruct

    def watched(sample, *arguments):
        nonlocal most, most_ahead
        most = max(most, len(alive))
        most_ahead = max(most_ahead, made - int(sample.id))
        return instruct(sample, *arguments)

    entry = Dataset("many", Task.REFERRING, ("train",), many)
    monkeypatch.setattr(registry, "DATASETS", {"many": entry})
    monkeypatch.setattr(build_data, "instruct", watched)
    gc.collect()
    built = build(
        [Source("many", tmp_path, "train")],
        Style(),
        Output(tmp_path / "out", shard_size=1000),
        progress=False,
    )
    assert built.rows == 3000
    assert most <= 3
    assert most_ahead == 1


def test_left_out_behind_the_last_sample_is_counted_with_the_last_shard(tmp_path):
    current = Tally()

    def use(tally):
        nonlocal current
        current = tally

    def items():
        yield "a"
        yield "b"
        current.skip("c", "late")

    def write(start):
        return write_shards(
            items(), lambda item, name, tally: [item], tmp_path, start, shard_size=2, tally=use
        )

    made = write(resume(tmp_path, {}))
    assert (made.complete, len(made.shards), made.tally.skipped) == (True, 1, {"late": 1})
    assert [path.name for path in sorted(tmp_path.iterdir())] == [MANIFEST, "shard-00000.jsonl"]
    assert resume(tmp_path, {}) == made
    assert write(made) == made


def test_nothing_at_all_is_a_complete_run(tmp_path):
    made = write_shards(
        iter(()), lambda *_: [], tmp_path, Manifest({}), shard_size=2, tally=lambda tally: None
    )
    assert (made.complete, made.shards) == (True, ())


def test_windows_are_written_as_images_of_their_own(data, tmp_path):
    out = tmp_path / "out"
    build([Source("coco-json-semantic", data, "all")], Style(crop_share=1), Output(out), progress=False)
    for row in rows(out):
        (image,) = row["images"]
        assert Path(image).parent == out / "images/shard-00000"
        with Image.open(image) as picture:
            assert picture.width < tiny.WIDTH or picture.height < tiny.HEIGHT


def test_paths_may_start_at_a_folder(data, tmp_path):
    out = tmp_path / "out"
    output = Output(out, form="llava", image_root=tmp_path)
    build([Source("coco-json", data, "all", limit=3)], Style(), output, progress=False)
    assert rows(out)[0]["image"] == f"data/images/{1:012d}.jpg"
    assert len(rows(out)) == 2  # the third label cannot be written


def test_the_sheet_shows_masks_over_the_image_and_cells_beside_it(tmp_path):
    root = tiny.write_coco(tmp_path, count=1)
    Image.new("RGB", (tiny.WIDTH, tiny.HEIGHT), (100, 100, 100)).save(root / f"images/{1:012d}.jpg")
    sheet = np.asarray(preview([Source("coco-json-semantic", root, "all")], Style(mix=(1, 0, 0)), 1)).astype(
        int
    )
    scale = 340 / tiny.WIDTH
    left, right = (sheet[8 : 8 + 255, start : start + 340] for start in (8, 8 + 340 + 8))

    def at(panel, x, y):
        return panel[round(y * scale), round(x * scale)]

    cat, dog, ground = (14, 22.5), (46, 22.5), (30, 22.5)
    for panel in (left, right):
        assert np.abs(at(panel, *ground) - 100).max() < 12
        assert np.abs(at(panel, *cat) - 100).max() > 40
        assert np.abs(at(panel, *dog) - at(panel, *cat)).max() > 40
    lines = np.abs(right[:, :80] - left[:, :80]).max(axis=2).mean(axis=0)
    assert lines.max() > 10  # the cells' borders, on the right only
    with pytest.raises(DatasetError, match="no sample to draw"):
        preview([Source("coco-json", root, "val")], Style(), 2)


def test_the_sheet_takes_every_kind_of_sample(data):
    sheet = preview(mixed(data), Style(crop_share=1), 9)
    assert sheet.width == 1400
    assert sheet.height > 1000


def run(*arguments):
    main([str(argument) for argument in arguments])


def test_the_command_builds_previews_and_lists(data, tmp_path, capsys):
    run("--list")
    assert "refcocog-google      referring  train, val" in capsys.readouterr().out
    common = ("--dataset", "refcoco", "--dataset", "coco-json", "--root", data, "--out", tmp_path / "out")
    run(*common, "--split", "val", "--split", "all", "--preview", 3)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["preview.png"]
    run(*common, "--split", "val", "--split", "all", "--form", "llava", "--grid", 32, "--codec", "full")
    printed = capsys.readouterr()
    assert "20 conversations from 22 samples in 1 files" in printed.out
    assert "left out 1: a label contains '|'" in printed.err
    assert rows(tmp_path / "out")[0]["conversations"][0]["from"] == "human"
    assert manifest(tmp_path / "out")["settings"]["style"]["grid"] == [32, 32]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--dataset", "coco-json"), 2, "--dataset, --root and --out are needed"),
        (("--dataset", "coco"), 2, "invalid choice"),
        (("--dataset", "refcoco", "--root", "gone", "--out", "o"), 1, "3 of 3 files and folders are missing"),
        (("--dataset", "refcoco", "--root", "a", "--root", "b", "--out", "o"), 2, "once for each --dataset"),
        (("--dataset", "refcoco", "--root", "a", "--out", "o", "--mix", "1:2"), 2, "three weights"),
        (("--dataset", "refcoco", "--root", "a", "--out", "o", "--mix", "0:0:0"), 2, "three weights"),
        (("--dataset", "refcoco", "--root", "a", "--out", "o", "--crop", "2"), 2, "not between 0 and 1"),
        (("--dataset", "refcoco", "--root", "a", "--out", "o", "--limit", "0"), 2, "not above 0"),
        (("--dataset", "refcoco", "--root", "a", "--out", "o", "--split", "x"), 1, "no split 'x'"),
    ],
)
def test_what_is_wrong_is_one_clear_message(arguments, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == code
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.jsonl"))
