"""Records survive the way to a file; an interrupted run goes on, and another run is refused."""

import json
from pathlib import Path

import pytest

from tests.judging_records import SIZE, answered, cells, failed, rectangle, referring, talked
from training.judging.record import NONE, Record, answered_mask, coarse_mask, record_from_json, record_to_json
from training.judging.record_file import JudgingError, Records, RecordWriter

LEFT = cells("##....", "##....", "......", "......")
WHOLE = rectangle(0, 0, 20, 20)
HEADER = {"settings": {"seed": 0}, "versions": {"model": "fake"}}


def good(number: int, refiner: str = NONE) -> Record:
    return answered(
        referring(number, WHOLE),
        LEFT,
        rectangle(1, 1, 19, 19) if refiner != NONE else None,
        refiner,
        seconds={"total": 1.5},
        tokens=12,
        truth_tokens={"r-rle": 9},
    )


def written(path: Path, *records: Record) -> Path:
    with RecordWriter(path, HEADER) as writer:
        for record in records:
            writer.add(record)
    return path


def test_a_record_comes_back_from_json() -> None:
    for record in (good(1), good(2, "sharp"), failed(referring(3, WHOLE)), talked(4, ("a", "b", "c"))):
        assert record_from_json(json.loads(json.dumps(record_to_json(record)))) == record


def test_masks_are_read_from_text_and_run_lengths() -> None:
    record = good(1, "sharp")
    assert record.answer is not None
    assert (coarse_mask(record) == WHOLE).all()
    assert (answered_mask(record.answer) == rectangle(1, 1, 19, 19)).all()
    assert answered_mask(record.answer).shape == SIZE


def test_a_second_run_knows_what_is_done(tmp_path: Path) -> None:
    path = written(
        tmp_path / "r.jsonl", good(1), failed(referring(2, WHOLE)), failed(referring(3, WHOLE), "OVERLOADED")
    )
    with RecordWriter(path, HEADER) as writer:
        keys = [referring(number, WHOLE) for number in (1, 2, 3, 4)]
        places = [(key.dataset, key.split, key.id, NONE) for key in keys]
        assert [writer.is_done(place) for place in places] == [True, True, False, False]
        assert [writer.is_done(place, retry_failed=True) for place in places] == [True, False, False, False]
        assert not writer.is_done((*places[0][:3], "sharp"))


def test_the_last_record_of_a_question_counts(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", failed(referring(1, WHOLE)), good(2))
    assert len(written(path, good(1)).read_text().splitlines()) == 4
    assert [record.answer is not None for record in Records(path)] == [True, True]


def test_a_line_that_an_interruption_cut_off_is_dropped(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", good(1))
    whole = path.read_bytes()
    path.write_bytes(whole + json.dumps(record_to_json(good(2))).encode()[:200])
    assert len(list(Records(path))) == 1
    written(path, good(3))
    assert [record.sample.id for record in Records(path)] == ["1", "3"]


def test_a_file_that_was_cut_in_its_first_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"format": "text4s')
    assert [record.sample.id for record in Records(written(path, good(1)))] == ["1"]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", good(1), good(2))
    lines = path.read_text().splitlines()
    lines[1] = lines[1][:50]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(JudgingError, match=r"r\.jsonl:2: not a record"):
        list(Records(path))
    with pytest.raises(JudgingError, match=r"r\.jsonl:2: not a record"):
        RecordWriter(path, HEADER)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"settings": {"seed": 1}, "versions": {"model": "fake"}}, "its settings"),
        ({"settings": {"seed": 0}, "versions": {"model": "other"}}, "its versions"),
    ],
)
def test_another_run_is_refused(tmp_path: Path, header: dict[str, object], said: str) -> None:
    path = written(tmp_path / "r.jsonl", good(1))
    before = path.read_bytes()
    with pytest.raises(JudgingError, match=f"another run: {said}"):
        RecordWriter(path, header)
    assert path.read_bytes() == before


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": 1}\n')
    with pytest.raises(JudgingError, match=r"r\.jsonl:1"):
        RecordWriter(path, HEADER)
    assert path.read_text() == '{"id": 1}\n'


def test_two_runs_cannot_write_one_file(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "r.jsonl", HEADER), pytest.raises(JudgingError, match="in use"):
        RecordWriter(tmp_path / "r.jsonl", HEADER)
    written(tmp_path / "r.jsonl", good(1))


def test_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(JudgingError, match="does not exist"):
        list(Records(tmp_path / "r.jsonl"))
