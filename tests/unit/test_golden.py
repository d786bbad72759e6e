"""The golden descriptors: one file per valid or malformed text, shared with the Go client.

A file with ``text`` (between the tags) or ``answer`` (the whole of it) holds what lenient decoding must
give: ``table`` and ``cells`` (one digit per patch, an index into the table), ``repairs`` as kind, row and
column, ``unknown_labels`` and ``truncated``. A file without repairs is well-formed. A file with ``label``
holds its ``canonical`` spelling, or null when the label must be refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from text4seg.descriptors import Codec, RowStream, check_label, decode, decode_answer, decode_strict, encode
from text4seg.errors import DescriptorMalformedError, LabelInvalidError
from text4seg.grammar import DescriptorGrammar

FOLDER = Path(__file__).parent.parent / "golden" / "descriptors"
CASES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}
DESCRIPTORS = [name for name, case in CASES.items() if "cells" in case]
TEXTS = [name for name in DESCRIPTORS if "text" in CASES[name] and CASES[name]["complete"]]
LABELS = [name for name, case in CASES.items() if "label" in case]


def expected_names(case: dict[str, Any]) -> list[list[str]]:
    return [[case["table"][int(digit)] for digit in row] for row in case["cells"]]


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_lenient_decoding(name: str) -> None:
    case = CASES[name]
    read = decode_answer if "answer" in case else decode
    text = case["answer"] if "answer" in case else case["text"]
    decoding = read(
        text, tuple(case["shape"]), case["labels"], Codec(case["codec"]), complete=case["complete"]
    )
    grid, report = decoding.grid, decoding.report
    assert list(grid.labels) == case["table"]
    assert [[grid.labels[cell] for cell in row] for row in grid.cells] == expected_names(case)
    assert [[repair.kind.value, repair.row, repair.column] for repair in report.repairs] == case["repairs"]
    assert list(report.unknown_labels) == case["unknown_labels"]
    assert report.truncated == case["truncated"]


@pytest.mark.parametrize("name", TEXTS)
def test_strict_decoding_and_grammar(name: str) -> None:
    case = CASES[name]
    text, shape, labels, codec = case["text"], tuple(case["shape"]), case["labels"], Codec(case["codec"])
    if case["repairs"]:
        with pytest.raises(DescriptorMalformedError) as caught:
            decode_strict(text, shape, labels, codec)
        assert [caught.value.row, caught.value.column] == case["repairs"][0][1:]
    else:
        assert encode(decode_strict(text, shape, labels, codec), codec) == text
    if labels is not None:
        assert DescriptorGrammar(shape, labels, codec).accepts(text) == (not case["repairs"])


@pytest.mark.parametrize("name", [name for name in DESCRIPTORS if name != "tags_left_in"])
def test_streaming(name: str) -> None:
    case = CASES[name]
    answer = case.get("answer", f"Sure:\n<seg>{case.get('text')}")
    stream = RowStream(tuple(case["shape"]), case["labels"], Codec(case["codec"]))
    rows = [row for character in answer for row in stream.feed(character)]
    rows += stream.finish()
    assert [list(row.labels) for row in rows] == expected_names(case)


@pytest.mark.parametrize("name", LABELS)
def test_labels(name: str) -> None:
    label, canonical = CASES[name]["label"], CASES[name]["canonical"]
    if canonical is not None:
        assert check_label(label) == canonical
        return
    with pytest.raises(LabelInvalidError):
        check_label(label)
    if label != "Others":
        with pytest.raises(LabelInvalidError):
            decode("", (1, 1), [label])
