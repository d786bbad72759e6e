"""Answers in the forms of other tools: COCO annotations, and detections of the package supervision."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NotRequired, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from text4seg.segmentation import DetectAnswer, Detection, Region, SegmentAnswer

if TYPE_CHECKING:
    from supervision import Detections

Answer: TypeAlias = SegmentAnswer | DetectAnswer


class CocoImage(TypedDict):
    """An entry of ``images``."""

    id: int
    file_name: str
    height: int
    width: int


class CocoCategory(TypedDict):
    """An entry of ``categories``."""

    id: int
    name: str


class CocoAnnotation(TypedDict):
    """An entry of ``annotations``: a region, or a detection, which has no segmentation."""

    id: int
    image_id: int
    category_id: int
    bbox: list[int]
    """x, y, width, height."""
    area: int
    iscrowd: int
    score: float
    segmentation: NotRequired[dict[str, object]]
    """Compressed run lengths: size [height, width], counts."""


class CocoAnnotations(TypedDict):
    """What a COCO annotation file holds; ``json.dump`` writes it."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]


def to_coco(
    answers: Iterable[tuple[str, Answer]], categories: Mapping[str, int] | None = None
) -> CocoAnnotations:
    """Write answers as COCO annotations; masks travel as the run lengths that came, undecoded.

    Everything is numbered from 1. Each annotation also holds its score, so that
    ``COCO.loadRes(dataset["annotations"])`` of pycocotools takes them as results.

    Args:
        answers: pairs of an image's file name and an answer about it; several answers may be about one image.
        categories: the ids of the labels; None: labels are numbered as they appear.

    Raises:
        ValueError: a label without an id, or answers that differ in the size of one image.
    """
    ids = _Ids(categories)
    images: dict[str, CocoImage] = {}
    annotations: list[CocoAnnotation] = []
    for name, answer in answers:
        height, width = answer.image_size
        image = images.setdefault(
            name, CocoImage(id=len(images) + 1, file_name=name, height=height, width=width)
        )
        if (image["height"], image["width"]) != (height, width):
            raise ValueError(f"{name} is {image['height']} x {image['width']} in one answer, not in another")
        for found in _found(answer):
            annotations.append(_annotation(len(annotations) + 1, image["id"], ids.of(found.label), found))
    return CocoAnnotations(
        images=list(images.values()),
        annotations=annotations,
        categories=[CocoCategory(id=number, name=label) for label, number in ids.known.items()],
    )


def to_supervision(answer: Answer, categories: Mapping[str, int] | None = None) -> "Detections":
    """Turn an answer into ``supervision.Detections``, for its annotators, filters and trackers.

    Args:
        answer: of segment or detect.
        categories: the class ids of the labels; None: labels are numbered from 0 as they appear.

    Returns:
        ``xyxy`` float32 [n, 4] in pixels, half-open; ``confidence`` float32 [n]; ``class_id`` int [n];
        ``data["class_name"]`` the labels; ``mask`` bool [n, height, width], None where the answer has none.

    Raises:
        ImportError: the package supervision is not installed.
        ValueError: a label without an id.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise ImportError(
            "to_supervision() needs the package supervision: pip install 'text4seg-serving[supervision]'"
        ) from error
    found = _found(answer)
    ids = _Ids(categories, first=0)
    return Detections(
        xyxy=np.array([one.box for one in found], np.float32).reshape(-1, 4),
        mask=_masks(answer) if isinstance(answer, SegmentAnswer) else None,
        confidence=np.array([one.score for one in found], np.float32),
        class_id=np.array([ids.of(one.label) for one in found], np.int64),
        data={"class_name": np.array([one.label for one in found], np.str_)},
    )


class _Ids:
    """Numbers of labels: given ones, or in the order of their appearance."""

    def __init__(self, given: Mapping[str, int] | None, first: int = 1) -> None:
        self.known = dict(given or {})
        self._next = first if given is None else None

    def of(self, label: str) -> int:
        if label not in self.known:
            if self._next is None:
                raise ValueError(f"categories hold no id for {label!r}")
            self.known[label] = self._next
            self._next += 1
        return self.known[label]


def _found(answer: Answer) -> Sequence[Region | Detection]:
    if isinstance(answer, SegmentAnswer):
        return answer.regions
    if isinstance(answer, DetectAnswer):
        return answer.detections
    raise TypeError(f"a SegmentAnswer or a DetectAnswer is expected, not {type(answer).__name__}")


def _annotation(number: int, image_id: int, category_id: int, found: Region | Detection) -> CocoAnnotation:
    box = found.box
    rle = found.rle if isinstance(found, Region) else None
    annotation = CocoAnnotation(
        id=number,
        image_id=image_id,
        category_id=category_id,
        bbox=[box.x0, box.y0, box.width, box.height],
        area=found.area if isinstance(found, Region) else box.area,
        iscrowd=0,
        score=round(found.score, 6),
    )
    if rle is not None:
        annotation["segmentation"] = rle.to_coco()
    return annotation


def _masks(answer: SegmentAnswer) -> NDArray[np.bool_] | None:
    masks = [region.mask for region in answer.regions if region.mask is not None]
    if len(masks) < len(answer.regions):
        return None
    return np.stack(masks) if masks else np.zeros((0, *answer.image_size), np.bool_)
