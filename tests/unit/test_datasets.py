"""Data sets in their true layouts: what is read, and what is said when something is wrong."""

import contextlib
import json
import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests import dataset_layouts as tiny
from text4seg.labels import check_label
from text4seg.masks import Box, decode_rle
from training.datasets.brush import decode_brush
from training.datasets.layout import DatasetError, MissingDataError, in_split
from training.datasets.registry import DATASETS, open_dataset
from training.datasets.sample import Task, read_samples, write_samples


def read(name, root, split="train"):
    skipped = []
    samples = list(open_dataset(name, root, split, lambda key, why: skipped.append((key, why))))
    return samples, skipped


def write_any(name, root):
    """Write the tiny data set that a name reads."""
    if name in ("coco-json", "coco-json-absent", "coco-json-semantic"):
        return tiny.write_coco(root)
    if name.startswith("ref"):
        folder = name.split("-")[0]
        split_by = name.split("-")[1] if "-" in name else {"refcocog": "umd"}.get(folder, "unc")
        return tiny.write_refer(root, folder, split_by, DATASETS[name].splits)
    if name == "pascal-voc":
        lists, splits = "ImageSets/Segmentation", ("train", "val", "trainval")
        tiny.write_pascal(root, "VOC2012", "SegmentationClassAug", lists, ("trainaug",), 20)
        return tiny.write_pascal(root, "VOC2012", "SegmentationClass", lists, splits, 20)
    if name == "pascal-context":
        lists = "ImageSets/SegmentationContext"
        return tiny.write_pascal(root, "VOC2010", "SegmentationClassContext", lists, ("train", "val"), 59)
    writers = {
        "grefcoco": tiny.write_grefcoco,
        "coco-stuff": tiny.write_coco_stuff,
        "ade20k": tiny.write_ade20k,
        "llava": tiny.write_llava,
        "folder": tiny.write_folder,
        "label-studio": tiny.write_label_studio,
    }
    return writers[name](root)


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_is_read_from_its_layout(name, tmp_path):
    root = write_any(name, tmp_path)
    for split in DATASETS[name].splits:
        if name == "grefcoco" and split.startswith("test"):
            continue  # their test splits were published later; the tiny one has none
        samples, _ = read(name, root, split)
        again, _ = read(name, root, split)
        assert samples == again
        assert len({sample.id for sample in samples}) == len(samples)
        for sample in samples:
            assert (sample.dataset, sample.split, sample.task) == (name, split, DATASETS[name].task)
            assert sample.image.is_file()
            assert len(sample.labels) == len(sample.masks)
            assert {mask.size for mask in sample.masks} <= {(tiny.HEIGHT, tiny.WIDTH)}
            assert set(sample.labels) <= set(sample.vocabulary) or sample.task is not Task.SEMANTIC
            if sample.masks:
                assert np.sum([sample.mask(index) for index in range(len(sample.masks))], axis=0).max() <= 1
        file = tmp_path / "samples.jsonl"
        assert write_samples(samples, file) == len(samples)
        assert list(read_samples(file)) == samples


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_missing_is_said_with_its_place(name, tmp_path):
    with pytest.raises(MissingDataError) as caught:
        open_dataset(name, tmp_path, "train")
    message = str(caught.value)
    assert str(tmp_path) in message
    assert DATASETS[name].page in message


def test_each_missing_file_is_named_and_none_that_is_there(tmp_path):
    root = tiny.write_refer(tmp_path)
    (root / "refcoco/refs(unc).p").unlink()
    shutil.rmtree(root / "images")
    with pytest.raises(MissingDataError) as caught:
        open_dataset("refcoco", root, "train")
    message = str(caught.value)
    assert "2 of 3 files and folders are missing" in message
    assert f"file {root / 'refcoco/refs(unc).p'}" in message
    assert f"folder {root / 'images/mscoco/images/train2014'}" in message
    assert "https://cocodataset.org/#download" in message
    assert "instances.json" not in message


def test_missing_images_are_named_before_anything_is_read(tmp_path):
    root = tiny.write_coco(tmp_path, count=30)
    for image in range(1, 27):
        (root / f"images/{image:012d}.jpg").unlink()
    with pytest.raises(MissingDataError) as caught:
        open_dataset("coco-json", root, "all")
    message = str(caught.value)
    assert "26 of 30 images are missing" in message
    assert f"{1:012d}.jpg" in message
    assert "and 6 more" in message


def test_unknown_names_and_splits_are_refused_with_the_choice(tmp_path):
    with pytest.raises(DatasetError, match=r"no data set 'coco'.*refcoco\+"):
        open_dataset("coco", tmp_path, "train")
    with pytest.raises(DatasetError, match=r"no split 'testC'.*testA, testB"):
        open_dataset("refcoco", tmp_path, "testC")


def test_expressions_come_with_mask_and_box(tmp_path):
    first, second = read("refcoco", tiny.write_refer(tmp_path))[0]
    assert (first.id, second.id) == ("refcoco-train-1-10", "refcoco-train-1-11")
    assert (first.labels, second.labels) == (("The Cat of train",), ("café chair",))
    assert np.array_equal(first.mask(), tiny.rectangle(*tiny.LEFT))
    assert first.box == Box(*tiny.LEFT)
    assert first.image.name == f"{1:012d}.jpg"
    other, _ = read("refcoco", tmp_path, "testB")
    assert np.array_equal(other[0].mask(), tiny.rectangle(*tiny.RIGHT))


def test_splits_of_refclef_overlap_as_their_names_say(tmp_path):
    root = tiny.write_refer(tmp_path, "refclef", "unc", ("train", "val", "testAB", "testC"))
    found = {split: len(read("refclef", root, split)[0]) for split in ("testA", "testB", "testC")}
    assert found == {"testA": 2, "testB": 2, "testC": 2}
    assert read("refclef", root, "testA")[0][0].labels == ("The Cat of testAB",)


def test_pickles_of_python_2_are_read(tmp_path):
    root = tiny.write_refer(tmp_path)
    refs = tiny.reference(1, 101, 1, "train", "caf\xe9")
    text = pickle.dumps([refs], protocol=0)
    # Python 2 wrote its byte strings so.
    text = text.replace(b"Vcaf\xe9", b"S'caf\\xe9'").replace(b"Vcaf\\u00e9", b"S'caf\\xe9'")
    assert b"S'caf" in text
    (root / "refcoco/refs(unc).p").write_bytes(text)
    assert read("refcoco", root)[0][0].labels == ("café",)


class Planted:
    def __reduce__(self):
        return Path.touch, (Path("planted"),)


def test_no_code_in_a_pickle_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tiny.write_refer(tmp_path)
    (root / "refcoco/refs(unc).p").write_bytes(pickle.dumps([Planted()]))
    with pytest.raises(
        DatasetError, match=r"refs\(unc\).p cannot be unpickled: it asks for .*only plain data"
    ):
        open_dataset("refcoco", root, "train")
    assert not Path("planted").exists()
    (root / "refcoco/refs(unc).p").write_bytes(b"\x80\x02nonsense")
    with pytest.raises(DatasetError, match="cannot be unpickled"):
        open_dataset("refcoco", root, "train")


def test_many_targets_are_one_mask_and_none_is_an_empty_one(tmp_path):
    nothing, one, many = read("grefcoco", tiny.write_grefcoco(tmp_path))[0]
    assert nothing.labels == ("a zebra",)
    assert not nothing.mask().any()
    assert nothing.box is None
    assert np.array_equal(one.mask(), tiny.rectangle(*tiny.LEFT))
    assert one.box == Box(*tiny.LEFT)
    assert np.array_equal(many.mask(), tiny.rectangle(*tiny.LEFT) | tiny.rectangle(*tiny.RIGHT))
    assert many.box is None


def test_crowds_are_no_targets_of_grefcoco(tmp_path):
    root = tiny.write_grefcoco(tmp_path)
    file = root / "grefcoco/instances.json"
    data = json.loads(file.read_text())
    data["annotations"][1]["iscrowd"] = 1
    file.write_text(json.dumps(data))
    many = read("grefcoco", root)[0][2]
    assert np.array_equal(many.mask(), tiny.rectangle(*tiny.LEFT))
    assert many.box is None


@pytest.mark.parametrize("lost", ["ref_id", "ann_id", "image_id", "split", "sentences"])
def test_expressions_that_lack_something_are_refused(lost, tmp_path):
    root = tiny.write_grefcoco(tmp_path)
    file = root / "grefcoco/grefs(unc).json"
    refs = json.loads(file.read_text())
    del refs[1][lost]
    file.write_text(json.dumps(refs))
    with pytest.raises(DatasetError, match=rf"the entry at byte \d+ is not .*KeyError '{lost}'"):
        read("grefcoco", root)
    with pytest.raises(DatasetError, match="has no expressions of split 'testB'"):
        read("grefcoco", tiny.write_grefcoco(tmp_path), "testB")


def test_expressions_about_what_is_not_there_are_refused(tmp_path):
    root = tiny.write_refer(tmp_path)
    file = root / "refcoco/instances.json"
    good = json.loads(file.read_text())
    file.write_text(json.dumps({**good, "annotations": good["annotations"][1:]}))
    with pytest.raises(DatasetError, match="has no annotation 101"):
        read("refcoco", root)
    file.write_text(json.dumps({**good, "images": good["images"][1:]}))
    with pytest.raises(DatasetError, match="has no image 1"):
        read("refcoco", root)
    good["annotations"][0]["bbox"] = [500, 500, 1, 1]
    file.write_text(json.dumps(good))
    with pytest.raises(DatasetError, match=r"expression 1: the box .* holds no pixel"):
        read("refcoco", root)


@pytest.mark.parametrize(
    ("name", "labels", "classes"),
    [
        ("coco-stuff", ("person", "wood"), 171),
        ("ade20k", ("wall", "flag"), 150),
        ("pascal-context", ("aeroplane", "wood"), 59),
        ("pascal-voc", ("aeroplane", "tv monitor"), 20),
    ],
)
def test_label_maps_become_classes_and_void(name, labels, classes, tmp_path):
    sample = read(name, write_any(name, tmp_path))[0][0]
    assert sample.labels == labels
    assert len(set(sample.vocabulary)) == len(sample.vocabulary) == classes
    assert all(check_label(label) == label for label in sample.vocabulary)
    left, right = tiny.rectangle(*tiny.LEFT), tiny.rectangle(*tiny.RIGHT)
    void = decode_rle(sample.void)
    assert np.array_equal(sample.mask(1), right)
    assert np.array_equal(sample.mask(0), ~(left | right) if name == "ade20k" else left)
    assert np.array_equal(void, left if name == "ade20k" else ~(left | right))


def test_eleven_things_of_coco_stuff_are_no_classes(tmp_path):
    root = tiny.write_coco_stuff(tmp_path)
    file = root / "annotations/train2017/000000000009.png"
    tiny.write_map(file, tiny.class_map((11, tiny.LEFT)))  # street sign
    with pytest.raises(DatasetError, match=r"000000000009.png holds the unknown categories \[11\]"):
        read("coco-stuff", root)


@pytest.mark.parametrize("name", ["coco-stuff", "ade20k", "pascal-context", "pascal-voc"])
def test_a_label_map_that_does_not_fit_is_refused(name, tmp_path):
    root = write_any(name, tmp_path)
    image = read(name, root)[0][0].image
    tiny.write_image(image, size=(tiny.HEIGHT, tiny.WIDTH + 1))
    with pytest.raises(DatasetError, match=r"is 65x48, but its label map .*png is 64x48"):
        read(name, root)
    image.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=f"{image.name} cannot be read as an image"):
        read(name, root)
    image.unlink()
    with pytest.raises(MissingDataError, match=image.name):
        read(name, root)


def test_what_is_void_is_no_unknown_category(tmp_path):
    root = write_any("pascal-voc", tmp_path)
    tiny.write_map(
        root / "VOCdevkit/VOC2012/SegmentationClass/2007_000000.png", tiny.class_map((21, tiny.LEFT))
    )
    with pytest.raises(DatasetError, match=r"unknown categories \[21\]"):
        read("pascal-voc", root)


def test_label_maps_may_be_palette_images(tmp_path):
    root = write_any("pascal-voc", tmp_path)
    file = root / "VOCdevkit/VOC2012/SegmentationClass/2007_000000.png"
    before = read("pascal-voc", root)[0]
    with Image.open(file) as picture:
        coloured = picture.copy()
    coloured.putpalette([value for index in range(256) for value in (255 - index, index, 7)])
    coloured.save(file)
    with Image.open(file) as picture:
        assert picture.mode == "P"
    assert read("pascal-voc", root)[0] == before


def test_the_root_may_be_the_folder_itself_or_what_holds_it(tmp_path):
    root = write_any("pascal-voc", tmp_path)
    for place in (root, root / "VOCdevkit", root / "VOCdevkit/VOC2012"):
        assert len(read("pascal-voc", place)[0]) == 1
    ade = tiny.write_ade20k(tmp_path / "ade")
    assert read("ade20k", ade)[0] == read("ade20k", ade / "ADEChallengeData2016")[0]


def test_dialogues_lose_their_placeholder_and_nothing_else(tmp_path):
    samples, skipped = read("llava", tiny.write_llava(tmp_path))
    assert [[(turn.role, turn.text) for turn in sample.messages] for sample in samples] == [
        [("user", "What is it?"), ("assistant", "A café."), ("user", "Open?"), ("assistant", "Yes.")],
        [("user", "Is it red?"), ("assistant", "No")],
    ]
    assert [sample.id for sample in samples] == ["llava-train-0", "llava-train-1"]
    assert [why for _, why in skipped] == ["a dialogue without an image", "a dialogue about several images"]


def test_dialogues_may_be_json_lines_under_any_name(tmp_path):
    root = tiny.write_llava(tmp_path)
    entries = json.loads((root / "llava_v1_5_mix665k.json").read_text())
    lines = root / "mine.jsonl"
    lines.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert read("llava", lines)[0] == read("llava", root)[0]
    lines.write_text(json.dumps(entries[0]) + "\n{broken\n")
    with pytest.raises(DatasetError, match=r"mine.jsonl:2: broken JSON"):
        read("llava", lines)


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ([], "has no conversations"),
        ([{"from": "gpt", "value": "Hi"}], "turn 0 is not the human's"),
        ([{"from": "human", "value": "Hi"}], "ends with a question"),
        ([{"from": "robot", "value": "Hi"}], "turn 0 is not {from"),
        ([{"from": "human", "value": 3}], "turn 0 is not {from"),
    ],
)
def test_broken_dialogues_are_refused(turns, why, tmp_path):
    root = tiny.write_llava(tmp_path)
    tiny.write_json(
        root / "llava_v1_5_mix665k.json", [{"image": "coco/train2017/1.jpg", "conversations": turns}]
    )
    with pytest.raises(DatasetError, match=f"entry 0.*{why}"):
        read("llava", root)


def test_a_coco_file_can_be_asked_in_three_ways(tmp_path):
    root = tiny.write_coco(tmp_path)
    referring, _ = read("coco-json", root, "all")
    assert [sample.labels[0] for sample in referring] == ["cat", "dog"] * 3
    assert np.array_equal(referring[0].mask(), tiny.rectangle(*tiny.LEFT))
    assert np.array_equal(referring[1].mask(), tiny.rectangle(*tiny.RIGHT))
    absent, _ = read("coco-json-absent", root, "all")
    assert [(sample.labels, sample.mask().any()) for sample in absent] == [(("zebra",), False)] * 3
    semantic, _ = read("coco-json-semantic", root, "all")
    assert [sample.labels for sample in semantic] == [("cat", "dog")] * 3
    assert semantic[0].vocabulary == ("cat", "dog", "zebra")
    assert read("coco-json", root / "instances.json", "all")[0] == referring


def test_own_phrases_replace_categories_and_the_smaller_thing_is_on_top(tmp_path):
    def edit(data):
        data["annotations"][0]["phrase"] = "Fat cat"
        data["annotations"].append(
            {
                **data["annotations"][0],
                "id": 99,
                "category_id": 3,
                "segmentation": [tiny.corners((6, 10, 12, 20))],
            }
        )

    root = tiny.write_coco(tmp_path, count=1, extra=edit)
    cat, dog = read("coco-json", root, "all")[0]
    assert cat.labels == ("Fat cat",)
    assert np.array_equal(cat.mask(), tiny.rectangle(*tiny.LEFT))
    assert dog.labels == ("dog",)
    semantic = read("coco-json-semantic", root, "all")[0][0]
    small = tiny.rectangle(6, 10, 12, 20)
    assert semantic.labels == ("cat", "dog", "zebra")
    assert np.array_equal(semantic.mask(2), small)
    assert np.array_equal(semantic.mask(0), tiny.rectangle(*tiny.LEFT) & ~small)


def test_own_splits_share_out_the_images(tmp_path):
    root = tiny.write_coco(tmp_path, count=20)
    images = {
        split: {sample.image for sample in read("coco-json", root, split)[0]}
        for split in ("train", "val", "all")
    }
    assert images["train"] | images["val"] == images["all"]
    assert not images["train"] & images["val"]
    assert images["val"]
    held = [number for number in range(3000) if in_split("val", f"photo {number}")]
    assert 0.17 < len(held) / 3000 < 0.23
    assert held[:6] == [2, 7, 11, 28, 33, 36]  # what the bundled model was not trained on


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda data: data["annotations"][0].update(category_id=77), "unknown category 77"),
        (
            lambda data: data["annotations"][1]["segmentation"].update(size=[48, 65]),
            "annotation 11: the mask is 65x48|plain runs|runs add up",
        ),
        (
            lambda data: data["annotations"][1].update(segmentation={"size": [48, 64], "counts": "zzz"}),
            "annotation 11: the segmentation's counts",
        ),
        (lambda data: data["annotations"][0].update(segmentation=[[1, 2, 3]]), "x0, y0, x1, y1"),
        (lambda data: data["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), "no polygon with three"),
        (lambda data: data["annotations"][0].update(segmentation=[["a"] * 6]), "list of numbers"),
        (lambda data: data["annotations"][0].update(segmentation=[[1e9] * 6]), "leaves the image by far"),
        (lambda data: data["annotations"][0].update(segmentation="mask"), "neither polygons nor run lengths"),
        (lambda data: data["annotations"][0].pop("image_id"), "'annotations' at byte .*KeyError"),
        (lambda data: data["images"][0].update(width="wide"), "'images' at byte .*ValueError"),
        (lambda data: data["images"][0].update(width=65), "is 64x48, but what .* says is 65x48"),
        (lambda data: data.update(images=[]), "lists no images"),
    ],
)
def test_broken_coco_files_are_refused(edit, why, tmp_path):
    with pytest.raises(DatasetError, match=why):
        read("coco-json", tiny.write_coco(tmp_path, count=1, extra=edit), "all")


def test_a_single_category_says_nothing_about_what_is_absent(tmp_path):
    def edit(data):
        data["categories"] = data["categories"][:1]

    with pytest.raises(DatasetError, match="fewer than two categories"):
        read("coco-json-absent", tiny.write_coco(tmp_path, extra=edit), "all")


def test_images_without_marks_are_counted(tmp_path):
    def edit(data):
        data["annotations"] = data["annotations"][:2]

    root = tiny.write_coco(tmp_path, count=3, extra=edit)
    samples, skipped = read("coco-json", root, "all")
    assert len(samples) == 2
    assert Counter(why for _, why in skipped) == {"nothing is marked in the image": 2}


def test_a_list_of_phrases_is_read(tmp_path):
    left, bar, zebra = read("folder", tiny.write_folder(tmp_path), "all")[0]
    assert (left.labels, bar.labels, zebra.labels) == (("The left, thing",), ("the bar",), ("a zebra",))
    assert np.array_equal(left.mask(), tiny.rectangle(*tiny.LEFT))
    assert np.array_equal(bar.mask(), tiny.rectangle(*tiny.LOW))  # a JPEG mask is not quite black and white
    assert not zebra.mask().any()


def test_a_list_may_say_its_splits(tmp_path):
    rows = [
        ("one.jpg", "one.png", "a", "val"),
        ("one.jpg", "one.png", "b", "train"),
        ("two.jpg", "", "c", "test"),
    ]
    root = tiny.write_folder(tmp_path, rows)
    assert [sample.labels[0] for sample in read("folder", root, "train")[0]] == ["b"]
    assert [sample.labels[0] for sample in read("folder", root, "val")[0]] == ["a"]
    assert len(read("folder", root, "all")[0]) == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("picture,mask,phrase\none.jpg,one.png,x\n", "must name the columns image, mask, phrase"),
        ("image,mask,phrase\n", "has no lines"),
        ("image,mask,phrase\none.jpg,one.png,\n", "phrases.csv:2: image or phrase is empty"),
        ('image,mask,phrase\none.jpg,one.png,"x\n', "cannot be read as CSV"),
        ("image,mask,phrase\none.jpg,gone.png,x\nother.jpg,,x\n", "other.jpg"),
        ("image,mask,phrase\none.jpg,gone.png,x\n", "1 of 1 masks are missing"),
    ],
)
def test_broken_lists_are_refused(text, why, tmp_path):
    root = tiny.write_folder(tmp_path)
    (root / "phrases.csv").write_text(text)
    with pytest.raises(DatasetError, match=why):
        read("folder", root, "all")


def test_masks_that_cannot_be_told_are_refused(tmp_path):
    root = tiny.write_folder(tmp_path)
    mask = root / "masks/one.png"
    tiny.write_map(mask, tiny.class_map((1, tiny.LEFT), (2, tiny.RIGHT)))
    with pytest.raises(DatasetError, match=r"one.png holds the values \[0, 1, 2\]"):
        read("folder", root, "all")
    tiny.write_image(mask)
    with pytest.raises(DatasetError, match="coloured or transparent"):
        read("folder", root, "all")
    tiny.write_map(mask, tiny.rectangle(1, 1, 9, 9, size=(20, 30)))
    with pytest.raises(DatasetError, match=r"is 64x48, but its mask .* is 30x20"):
        read("folder", root, "all")
    mask.write_text("nothing")
    with pytest.raises(DatasetError, match="cannot be read as an image"):
        read("folder", root, "all")
    grey = np.repeat(np.where(tiny.rectangle(*tiny.LEFT), 255, 0)[..., None], 3, axis=2).astype(np.uint8)
    Image.fromarray(grey).save(mask)
    assert np.array_equal(read("folder", root, "all")[0][0].mask(), tiny.rectangle(*tiny.LEFT))


def test_images_that_are_stored_rotated_are_refused(tmp_path):
    root = tiny.write_folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (tiny.WIDTH, tiny.HEIGHT)).save(root / "images/one.jpg", exif=exif)
    with pytest.raises(DatasetError, match="stored rotated"):
        read("folder", root, "all")


def test_brushes_and_polygons_of_label_studio_are_read(tmp_path):
    samples, skipped = read("label-studio", tiny.write_label_studio(tmp_path), "all")
    assert [(sample.labels[0], sample.image.name) for sample in samples] == [
        ("Cat", "one cat.jpg"),
        ("the dog on the right", "one cat.jpg"),
        ("Cat", "three.png"),
    ]
    for sample, box in zip(samples, (tiny.LEFT, tiny.RIGHT, tiny.LOW), strict=True):
        assert np.array_equal(sample.mask(), tiny.rectangle(*box))
    assert Counter(why for _, why in skipped) == {
        "a region that is no mask": 1,
        "a task without an annotation": 1,
        "another annotation of the same task": 1,
    }


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (
            lambda tasks: tasks[0]["annotations"][0]["result"][0]["value"]["rle"].__delitem__(
                slice(40, None)
            ),
            "ends too",
        ),
        (lambda tasks: tasks[0]["annotations"][0]["result"][0]["value"].update(rle="abc"), "list of bytes"),
        (lambda tasks: tasks[0]["annotations"][0]["result"][0]["value"].update(rle=[999]), "list of bytes"),
        (
            lambda tasks: tasks[0]["annotations"][0]["result"][0].update(original_width=65),
            "is 64x48, but what",
        ),
        (
            lambda tasks: tasks[0]["annotations"][0]["result"][0].update(original_width=None),
            "how large its image",
        ),
        (
            lambda tasks: tasks[0]["annotations"][0]["result"][1]["value"].update(points=[[1, 2]]),
            "polygon is broken",
        ),
        (lambda tasks: tasks[0].update(data={"text": "no image"}), "task 1 names 0 images"),
        (lambda tasks: tasks[0].pop("data"), "has no data"),
    ],
)
def test_broken_exports_are_refused(edit, why, tmp_path):
    with pytest.raises(DatasetError, match=why):
        read("label-studio", tiny.write_label_studio(tmp_path, edit), "all")


def test_several_exports_in_a_folder_need_a_choice(tmp_path):
    root = tiny.write_label_studio(tmp_path)
    expected = read("label-studio", root, "all")[0]
    shutil.copy(root / "project-7.json", root / "project-8.json")
    with pytest.raises(DatasetError, match="holds 2 JSON files"):
        read("label-studio", root, "all")
    assert read("label-studio", root / "project-7.json", "all")[0] == expected


@given(
    st.lists(st.integers(0, 255), min_size=4, max_size=120).map(
        lambda values: values[: len(values) // 4 * 4]
    ),
    st.booleans(),
    st.permutations([2, 3, 7, 12]),
)
def test_brush_masks_are_what_was_packed(values, literal, lengths):
    packed = tiny.pack_brush(values, lengths=sorted(lengths), literal=literal)
    alpha = np.array(values).reshape(1, -1, 4)[..., 3] != 0
    assert np.array_equal(decode_brush(packed, alpha.shape, "here"), alpha)


@given(st.lists(st.integers(0, 255), max_size=60))
def test_any_bytes_are_a_brush_mask_or_refused(data):
    with contextlib.suppress(DatasetError):
        assert decode_brush(data, (3, 5), "here").shape == (3, 5)
