"""Answers as JSON objects and as readable tables."""

from collections.abc import Sequence
from dataclasses import asdict, fields

from text4seg.segmentation import CacheOutcome, DetectAnswer, Detection, Region, SegmentAnswer, Timing

Json = dict[str, object]


def answer_json(image: str, answer: SegmentAnswer | DetectAnswer) -> Json:
    """The JSON object that the command line prints for one image.

    Args:
        image: the image's name as the reader knows it.
        answer: an answer; regions with full-size masks.

    Returns:
        image; regions [{label, score, box [x0, y0, x1, y1], area, refined, mask {size [height, width],
        counts}}], or detections [{label, score, box}]; no_target_score, timing_ms and versions.
    """
    found: Json
    if isinstance(answer, SegmentAnswer):
        found = {"regions": [region_json(region) for region in answer.regions]}
    else:
        found = {"detections": [detection_json(detection) for detection in answer.detections]}
    return {
        "image": image,
        **found,
        "no_target_score": _rounded(answer.no_target_score),
        "timing_ms": timing_json(answer.timing),
        "versions": asdict(answer.versions),
    }


def detection_json(detection: Detection) -> Json:
    """The JSON object for a detection."""
    return {"label": detection.label, "score": _rounded(detection.score), "box": list(detection.box)}


def region_json(region: Region) -> Json:
    """The JSON object for a region; its mask is COCO run-length encoding, null where none was asked for."""
    return {
        "label": region.label,
        "score": _rounded(region.score),
        "box": list(region.box),
        "area": region.area,
        "refined": region.refined,
        "mask": None if (rle := region.rle) is None else rle.to_coco(),
    }


def timing_json(timing: Timing) -> dict[str, float]:
    """Milliseconds per stage; stages that did not run are left out."""
    seconds = {field.name.removesuffix("_s"): getattr(timing, field.name) for field in fields(timing)}
    return {stage: round(value * 1000, 3) for stage, value in seconds.items() if value is not None}


def answer_table(image: str, answer: SegmentAnswer | DetectAnswer) -> str:
    """What was found in one image, for a person: a title and a table, or "nothing found"."""
    height, width = answer.image_size
    cached = ", from the cache" if answer.cache is CacheOutcome.HIT else ""
    title = f"{image}  {width} x {height}  {answer.timing.total_s * 1000:.0f} ms{cached}"
    if isinstance(answer, SegmentAnswer):
        body = region_table(answer.regions)
    else:
        rows = [(found.label, f"{found.score:.2f}", box_text(found.box)) for found in answer.detections]
        body = table(("label", "score", "box"), rows, right=(1,)) if rows else ""
    body = body or f"nothing found (no-target score {answer.no_target_score:.2f})"
    return f"{title}\n" + "\n".join(f"  {line}" for line in body.splitlines())


def region_table(regions: Sequence[Region]) -> str:
    """Regions as a table; empty text for none."""
    rows = [
        (
            region.label,
            f"{region.score:.2f}",
            box_text(region.box),
            str(region.area),
            "refined" if region.refined else "coarse",
        )
        for region in regions
    ]
    return table(("label", "score", "box", "area", "mask"), rows, right=(1, 3)) if rows else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Text in aligned columns.

    Args:
        header: names of the columns.
        rows: cells, as many per row as there are columns.
        right: columns aligned to the right.
    """
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def box_text(box: tuple[int, int, int, int]) -> str:
    """A box as text: x0, y0, x1, y1."""
    return f"[{box[0]}, {box[1]}, {box[2]}, {box[3]}]"


def _rounded(score: float) -> float:
    # Scores travel as 32-bit floats: six digits are all there is.
    return round(score, 6)
