"""The report holds all it shows, and shows the worst and the best beside the truth."""

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.judging_records import (
    GRID,
    SIZE,
    answered,
    cells,
    described,
    detected,
    failed,
    picture,
    rectangle,
    referring,
    semantic,
    talked,
)
from text4seg.masks import Box
from training.judging.cases import best_cases, worst_cases
from training.judging.drawing import MISSED, RIGHT, TOO_MUCH, case_picture, compared
from training.judging.record import NONE, Record
from training.judging.record_file import JudgingError, RecordWriter
from training.judging.summary import RECORDS, REPORT, SUMMARY, compare, summarize

LEFT = cells("##....", "##....", "......", "......")
NOTHING = np.zeros(GRID, bool)
EMPTY = np.zeros(SIZE, bool)
WHOLE = rectangle(0, 0, 20, 20)
VERSIONS = {"model": "fake <b>", "grid": "4x6", "codec": "r-rle"}


class Page(HTMLParser):
    """What a page holds and where it points."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.words += data


def run(folder: Path, *records: Record, **versions: str) -> Path:
    folder.mkdir(exist_ok=True)
    header = {"settings": {"samples": "drawn"}, "versions": {**VERSIONS, **versions}}
    with RecordWriter(folder / RECORDS, header) as writer:
        for record in records:
            writer.add(record)
    return folder


def page(folder: Path, *records: Record) -> Page:
    summarize(run(folder, *records), [], {}, 5)
    return Page((folder / REPORT).read_text())


def test_the_report_stands_alone(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    shown = page(
        tmp_path / "run",
        answered(referring(1, WHOLE, "the <i>cat</i>", image=image), LEFT),
        answered(referring(2, WHOLE, image=image), NOTHING),
        failed(referring(3, WHOLE, image=image)),
    )
    assert len(shown.sources) == 2
    for source in shown.sources:
        head, data = source.split(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as drawn:
            drawn.load()
    assert not {"script", "link", "iframe", "i", "b "} & set(shown.tags)
    assert "the <i>cat</i>" in shown.words  # as text
    assert "fake <b>" in shown.words
    assert "DEADLINE_EXCEEDED" in shown.words


def test_pictures_that_are_gone_do_not_end_the_report(tmp_path: Path) -> None:
    shown = page(tmp_path, answered(referring(1, WHOLE), LEFT))
    assert shown.sources == []
    assert "cannot be drawn" in shown.words


def test_answers_of_all_kinds_are_drawn(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    scene = semantic(1, {"sky": WHOLE}, EMPTY, ("sky", "road"), image)
    shown = page(
        tmp_path / "run",
        described(scene, np.ones(GRID, np.int16), ("sky", "road")),
        talked(2, ("What is it?", "a cat", "a dog"), image=image),
    )
    assert len(shown.sources) == 2
    for words in ("sky", "What is it?", "a dog", "question answering", "open-vocabulary"):
        assert words in shown.words


def test_boxes_of_detect_are_drawn(tmp_path: Path) -> None:
    record = detected(referring(1, WHOLE, image=picture(tmp_path / "a.png")), (Box(30, 10, 50, 30), 0.5))
    colours = {tuple(pixel) for pixel in np.asarray(case_picture(record)).reshape(-1, 3).tolist()}
    assert RIGHT in colours
    assert TOO_MUCH in colours


def test_what_is_right_wrong_and_missed_has_its_colour() -> None:
    pixels = np.full((*SIZE, 3), 128, np.uint8)
    drawn = compared(pixels, rectangle(0, 0, 20, 10), rectangle(10, 0, 30, 10)).astype(int)
    for (x, y), colour in {(15, 5): RIGHT, (5, 5): TOO_MUCH, (25, 5): MISSED}.items():
        nearest = min((RIGHT, TOO_MUCH, MISSED), key=lambda one: np.abs(drawn[y, x] - one).sum())
        assert nearest == colour
    assert (drawn[30, 30] < 128).all()


def test_each_refiner_has_a_panel(tmp_path: Path) -> None:
    sample = referring(1, WHOLE, image=picture(tmp_path / "a.png"))
    sharp, blunt = answered(sample, LEFT, WHOLE, "sharp"), answered(sample, LEFT, WHOLE, "blunt")
    widths = [case_picture(*given).width for given in ((sharp,), (sharp, [blunt]))]
    assert widths[1] > widths[0] * 1.3


def test_large_misses_come_first_and_things_before_nothing() -> None:
    records = [
        answered(referring(1, rectangle(0, 0, 5, 5)), NOTHING),
        answered(referring(2, WHOLE), NOTHING),
        answered(referring(3, EMPTY), NOTHING),
        answered(referring(4, WHOLE), LEFT),
        answered(referring(5, rectangle(0, 0, 20, 15)), LEFT),
    ]
    assert [case.record.sample.id for case in worst_cases(records, NONE, 3)] == ["2", "1", "5"]
    assert [case.record.sample.id for case in best_cases(records, NONE, 2)] == ["4", "5"]


def test_the_summary_is_computed_again_from_the_records(tmp_path: Path) -> None:
    folder = run(tmp_path, answered(referring(1, WHOLE), LEFT), failed(referring(2, WHOLE)))
    first = summarize(folder, [], {}, 0)
    before = (folder / SUMMARY).read_text()
    (folder / SUMMARY).unlink()
    again = summarize(folder, [], {}, 0)
    assert list(map(str, again)) == list(map(str, first))
    assert (folder / SUMMARY).read_text() == before
    values = json.loads(before, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert values["questions"] == {"answered": 1, "DEADLINE_EXCEEDED": 1}
    assert values["suites"]["res"]["rows"][0]["cIoU"] == 1


def test_suites_can_be_chosen(tmp_path: Path) -> None:
    folder = run(tmp_path, answered(referring(1, WHOLE), LEFT))
    assert [table.name for table in summarize(folder, ["rec"], {}, 0)] == ["rec"]


def test_a_run_without_an_answer_says_why(tmp_path: Path) -> None:
    with pytest.raises(JudgingError, match="no answer: 2 IMAGE_MISSING"):
        summarize(run(tmp_path, *(failed(referring(n, WHOLE), "IMAGE_MISSING") for n in (1, 2))), [], {}, 0)
    with pytest.raises(JudgingError, match="no records"):
        summarize(run(tmp_path / "none"), [], {}, 0)


def test_runs_stand_side_by_side(tmp_path: Path) -> None:
    folders = []
    for codec in ("r-rle", "full"):
        record = answered(referring(1, WHOLE), LEFT, tokens=len(codec))
        folders.append(run(tmp_path / codec, record, codec=codec))
        summarize(folders[-1], [], {}, 0)
    table = compare(folders)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [(row["codec"], row["tokens"], row["cIoU"]) for row in rows] == [("r-rle", 5, 1), ("full", 4, 1)]
    with pytest.raises(JudgingError, match="finished run"):
        compare([*folders, tmp_path])
    other = folders[1] / SUMMARY
    other.write_text(other.read_text().replace('"drawn"', '"others"'))
    with pytest.raises(JudgingError, match="different samples"):
        compare(folders)
