"""Answers as COCO annotations, read back by pycocotools, and as detections of supervision."""

import json
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import supervision
from numpy.typing import NDArray
from pycocotools import mask as mask_api
from pycocotools.coco import COCO

from text4seg.masks import Box, Rle, box_of, encode_rle
from text4seg.segmentation import (
    CacheOutcome,
    DetectAnswer,
    Detection,
    Region,
    SegmentAnswer,
    Timing,
    Versions,
)
from text4seg_client import to_coco, to_supervision
from text4seg_client.export import CocoAnnotations

SIZE = (30, 45)
MASKS = np.random.default_rng(5).random((3, *SIZE)) < 0.3
LABELS = ("cat", "dog", "cat")


def _region(label: str, mask: NDArray[np.bool_], score: float) -> Region:
    box = box_of(mask)
    assert box is not None
    return Region(label, None, None, box, score, int(mask.sum())).with_rle(encode_rle(mask))


def _segmented(*regions: Region, size: tuple[int, int] = SIZE) -> SegmentAnswer:
    return SegmentAnswer(regions, (), size, 0.1, Timing(), CacheOutcome.MISS, Versions())


SEGMENTED = _segmented(
    *(
        _region(label, mask, 0.5 + index / 10)
        for index, (label, mask) in enumerate(zip(LABELS, MASKS, strict=True))
    )
)
DETECTED = DetectAnswer(
    tuple(Detection(region.label, region.box, region.score) for region in SEGMENTED.regions),
    SIZE,
    0.1,
    Timing(),
    CacheOutcome.MISS,
    Versions(),
)
NOTHING = _segmented(size=(8, 9))


def _read(annotations: CocoAnnotations, folder: Path) -> COCO:
    path = folder / "annotations.json"
    path.write_text(json.dumps(annotations), encoding="utf-8")
    with redirect_stdout(StringIO()):
        return COCO(str(path))


def test_pycocotools_reads_the_same_masks_boxes_and_labels(tmp_path: Path) -> None:
    coco = _read(to_coco([("a.jpg", SEGMENTED), ("b.jpg", NOTHING)]), tmp_path)
    assert [(image["file_name"], image["height"], image["width"]) for image in coco.loadImgs([1, 2])] == [
        ("a.jpg", 30, 45),
        ("b.jpg", 8, 9),
    ]
    assert coco.getAnnIds(imgIds=[2]) == []
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    names = {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())}
    assert names == {1: "cat", 2: "dog"}
    for annotation, mask, label in zip(annotations, MASKS, LABELS, strict=True):
        assert names[annotation["category_id"]] == label
        assert np.array_equal(coco.annToMask(annotation), mask)
        rle = coco.annToRLE(annotation)
        assert annotation["area"] == mask_api.area(rle)
        assert annotation["bbox"] == mask_api.toBbox(rle).tolist()


def test_annotations_are_results_as_well(tmp_path: Path) -> None:
    annotations = to_coco([("a.jpg", SEGMENTED)])
    coco = _read(annotations, tmp_path)
    with redirect_stdout(StringIO()):
        results = coco.loadRes(annotations["annotations"])
    scores = [result["score"] for result in results.loadAnns(results.getAnnIds())]
    assert scores == pytest.approx([0.5, 0.6, 0.7])


def test_boxes_are_annotations_without_segmentation(tmp_path: Path) -> None:
    annotations = to_coco([("a.jpg", DETECTED)])
    assert len(_read(annotations, tmp_path).getAnnIds(imgIds=[1])) == 3
    for annotation, region in zip(annotations["annotations"], SEGMENTED.regions, strict=True):
        assert "segmentation" not in annotation
        x, y, width, height = annotation["bbox"]
        assert (x, y, x + width, y + height) == region.box
        assert annotation["area"] == width * height


def test_masks_are_exported_without_decoding_them() -> None:
    unread = Region("cat", None, None, Box(0, 0, 1, 1), 0.5, 1).with_rle(Rle(SIZE, "not decodable"))
    (annotation,) = to_coco([("a.jpg", _segmented(unread))])["annotations"]
    assert annotation["segmentation"] == {"size": [30, 45], "counts": "not decodable"}


def test_several_answers_may_be_about_one_image() -> None:
    annotations = to_coco([("a.jpg", SEGMENTED), ("a.jpg", DETECTED)])
    assert len(annotations["images"]) == 1
    assert [annotation["id"] for annotation in annotations["annotations"]] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match=r"a\.jpg is 30 x 45"):
        to_coco([("a.jpg", SEGMENTED), ("a.jpg", NOTHING)])


def test_labels_take_given_ids() -> None:
    annotations = to_coco([("a.jpg", SEGMENTED)], {"dog": 18, "cat": 17, "horse": 19})
    assert [annotation["category_id"] for annotation in annotations["annotations"]] == [17, 18, 17]
    assert {"id": 19, "name": "horse"} in annotations["categories"]
    assert to_supervision(SEGMENTED, {"dog": 18, "cat": 17}).class_id.tolist() == [17, 18, 17]
    for export in (
        lambda ids: to_coco([("a.jpg", SEGMENTED)], ids),
        lambda ids: to_supervision(SEGMENTED, ids),
    ):
        for ids in ({"cat": 1}, {}):
            with pytest.raises(ValueError, match="no id for"):
                export(ids)


def test_supervision_takes_regions() -> None:
    detections = to_supervision(SEGMENTED)
    assert isinstance(detections, supervision.Detections)
    assert np.array_equal(detections.mask, MASKS)
    assert detections.xyxy.tolist() == [list(region.box) for region in SEGMENTED.regions]
    assert detections.confidence == pytest.approx([0.5, 0.6, 0.7])
    assert detections.class_id.tolist() == [0, 1, 0]
    assert detections["class_name"].tolist() == list(LABELS)
    # Its own filters work on it: the mask follows.
    dogs = detections[detections["class_name"] == "dog"]
    assert np.array_equal(dogs.mask, MASKS[1:2])
    assert detections.area.tolist() == MASKS.sum(axis=(1, 2)).tolist()


def test_supervision_draws_regions() -> None:
    scene = np.zeros((*SIZE, 3), np.uint8)
    annotator = supervision.MaskAnnotator(opacity=1.0)
    drawn = annotator.annotate(scene.copy(), to_supervision(_segmented(SEGMENTED.regions[0])))
    assert np.array_equal(drawn.any(axis=-1), MASKS[0])


def test_supervision_takes_boxes_and_nothing() -> None:
    assert to_supervision(DETECTED).mask is None
    assert len(to_supervision(DETECTED)) == 3
    masked = _segmented(*(replace(region, mask=None) for region in SEGMENTED.regions))
    assert to_supervision(masked).mask is None
    nothing = to_supervision(NOTHING)
    assert nothing.mask is not None
    assert nothing.mask.shape == (0, 8, 9)
    assert nothing.xyxy.shape == (0, 4)
    assert len(supervision.Detections.merge([to_supervision(SEGMENTED), nothing])) == 3


def test_without_supervision_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=r"pip install 'text4seg-serving\[supervision\]'"):
        to_supervision(SEGMENTED)


def test_only_answers_are_exported() -> None:
    with pytest.raises(TypeError, match="not tuple"):
        to_supervision(SEGMENTED.regions)  # type: ignore[arg-type]
