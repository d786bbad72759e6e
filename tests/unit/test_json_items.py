"""Long JSON files, item by item."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.datasets import json_items
from training.datasets.json_items import TOP, read_item, read_items, read_json
from training.datasets.layout import DatasetError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(json_items, "_CHUNK", 3)


@pytest.mark.usefixtures("small_windows")
@given(
    data=st.dictionaries(
        st.sampled_from(["images", "annotations", "info", "é"]), st.lists(values, max_size=5)
    ),
    indent=st.sampled_from([None, 2]),
    ascii_only=st.booleans(),
)
def test_items_are_those_of_the_file(tmp_path_factory, data, indent, ascii_only):
    file = tmp_path_factory.mktemp("json") / "data.json"
    data["last"] = 12345
    data["images"] = data.get("images", [])
    file.write_text(json.dumps(data, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    items = list(read_items(file, ("images", "é")))
    expected = [(key, value) for key in data if key in ("images", "é") for value in data[key]]
    assert [(item.key, item.value) for item in items] == expected
    for item in items:
        assert read_item(file, item.begin, item.end) == item.value


@pytest.mark.usefixtures("small_windows")
@given(st.lists(values, max_size=6), st.sampled_from(["", "\ufeff", " \n"]))
def test_a_file_may_be_one_list(tmp_path_factory, listed, before):
    file = tmp_path_factory.mktemp("json") / "data.json"
    file.write_text(before + json.dumps(listed, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [item.value for item in read_items(file, (TOP,))] == listed


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "byte 0: expected an object or an array"),
        ("12", "expected an object or an array"),
        ('{"images": [{"id": 1}, {"id": 2', "broken JSON at byte 23"),
        ('{"images": [{"id": 1} {"id": 2}]}', "byte 22: expected ','"),
        ('{"images": [1, 2}', "byte 16: expected ','"),
        ('{"images": [1]} x', "something stands behind the end"),
        ('{"images": [1', "expected ','"),
        ('{"images": [1],', "expected a key"),
        ("{1: 2}", "expected a key"),
        ('{"images" [1]}', "expected ':'"),
        ('{"images": ', "it ends too early"),
        ('{"pictures": [1]}', "holds no list under 'images'"),
        ('{"images": 3}', "holds no list under 'images'"),
        ("[1]", "holds no list under 'images'"),
    ],
)
def test_broken_files_are_told_with_the_place(tmp_path, text, why):
    file = tmp_path / "data.json"
    file.write_text(text)
    with pytest.raises(DatasetError, match=why) as caught:
        list(read_items(file, ("images",)))
    assert str(file) in str(caught.value)


def test_text_that_is_not_utf8_is_told(tmp_path):
    file = tmp_path / "data.json"
    file.write_bytes(b'["caf\xe9"]')
    with pytest.raises(DatasetError, match="not UTF-8"):
        list(read_items(file, (TOP,)))
    with pytest.raises(DatasetError, match="broken JSON"):
        read_json(file)


def test_memory_is_that_of_a_window_however_long_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(json_items, "_CHUNK", 1000)
    file = tmp_path / "data.json"
    file.write_text(json.dumps([{"id": number, "text": "x" * 50} for number in range(5000)]))
    longest = 0
    reader = json_items._Reader.__init__

    def watched(self, *arguments):
        reader(self, *arguments)
        readers.append(self)

    readers = []
    monkeypatch.setattr(json_items._Reader, "__init__", watched)
    for item in read_items(file, (TOP,)):
        longest = max(longest, len(readers[0]._window))
        assert item.value["id"] >= 0
    assert file.stat().st_size > 300_000
    assert longest < 3000
