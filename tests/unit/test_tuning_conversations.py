"""Instruction data: both forms, and a line for everything that is wrong with it."""

import json

import pytest

from tests.tuning_data import QUESTION, llava, swift, truth, write_data, write_image, write_lines
from text4seg.descriptors import Codec
from text4seg.segmentation import Turn
from training.tuning.conversations import Conversations, Writing, parse_record
from training.tuning.recipe import TuningError

WRITING = Writing((4, 4), Codec.RRLE, ("</s>", "<pad>"))


def load(*paths, answers="together", **options):
    return Conversations(paths, answers, WRITING, **options)


@pytest.mark.parametrize("form", [swift, llava])
def test_both_forms_mean_the_same(tmp_path, form):
    data = load(write_data(tmp_path, form=form))
    assert len(data) == 4
    for number in (3, 0):
        conversation = data[number]
        assert conversation.image == tmp_path / f"{number}.png"
        assert conversation.turns == (Turn("user", QUESTION), Turn("assistant", truth(number % 2)))
        assert conversation.source == f"{tmp_path / 'train.jsonl'}:{number + 1}"


def test_answers_together_and_apart(tmp_path):
    write_image(tmp_path / "a.png", 0)
    write_image(tmp_path / "b.png", 0)
    file = write_lines(
        tmp_path / "x.jsonl",
        swift("a.png", "one", "1", "two", "2", "three"),
        swift("b.png", "four", "4"),
    )
    together, apart = load(file), load(file, answers="apart")
    assert [[turn.text for turn in one.turns] for one in together] == [
        ["one", "1", "two", "2"],
        ["four", "4"],
    ]
    assert [[turn.text for turn in one.turns] for one in apart] == [
        ["one", "1"],
        ["one", "1", "two", "2"],
        ["four", "4"],
    ]
    assert {one.learned for one in together} == {"all"}
    assert {one.learned for one in apart} == {"last"}


def test_shards_and_empty_lines_and_a_folder_of_images(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "shards").mkdir()
    for name in "ab":
        write_image(tmp_path / "pictures" / f"{name}.png", 0)
        write_lines(tmp_path / "shards" / f"{name}.jsonl", swift(f"{name}.png", "é", "ü"))
    (tmp_path / "shards" / "manifest.json").write_text("{}")
    first = tmp_path / "shards" / "a.jsonl"
    first.write_text("\n\n" + first.read_text() + "\n" + first.read_text())
    data = load(tmp_path / "shards", images=tmp_path / "pictures")
    assert [one.image.name for one in data] == ["a.png", "a.png", "b.png"]
    assert [one.source.rpartition(":")[2] for one in data] == ["3", "5", "1"]


def test_absolute_image_paths(tmp_path):
    image = write_image(tmp_path / "a.png", 0)
    (tmp_path / "data").mkdir()
    file = write_lines(tmp_path / "data" / "x.jsonl", swift(str(image), "q", "a"))
    assert load(file)[0].image == image


def test_fingerprint_follows_the_data(tmp_path):
    file = write_data(tmp_path)
    before = load(file).fingerprint()
    assert load(file).fingerprint() == before
    assert load(file, answers="apart").fingerprint() != before
    file.write_text(file.read_text() + file.read_text())
    assert load(file).fingerprint() != before


IMAGE = {"images": ["0.png"]}


def messages(*pairs):
    return [{"role": role, "content": text} for role, text in pairs]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ({"images": ["0.png"]}, 'neither "messages" nor "conversations"'),
        ({**IMAGE, "messages": [3]}, "3 is no turn"),
        ({**IMAGE, "messages": messages(("system", "x"))}, "is no turn of the user or the assistant"),
        ({**IMAGE, "messages": [{"role": "user", "content": [1]}]}, "is no turn"),
        ({**IMAGE, "messages": messages(("user", "<image>q"))}, "has no answer"),
        ({**IMAGE, "messages": messages(("assistant", "<image>q"))}, "do not alternate"),
        ({**IMAGE, "messages": messages(("user", "<image>q"), ("assistant", " "))}, "an answer is empty"),
        ({"messages": messages(("user", "<image>q"), ("assistant", "a"))}, "must have one image"),
        ({"images": ["a", "b"], "messages": messages(("user", "<image>q"), ("assistant", "a"))}, "one image"),
        ({**IMAGE, "messages": messages(("user", "q"), ("assistant", "a"))}, "<image> must stand once"),
        ({**IMAGE, "messages": messages(("user", "<image>q"), ("assistant", "<image>"))}, "nowhere else"),
        (swift("nowhere.png", "q", "a"), r"no image .*nowhere\.png"),
        (swift("0.png", "q", "a</s>"), "control text '</s>'"),
        (swift("0.png", "q", "x\n<seg>others *16\n</seg>"), "not what the recipe says, 4x4 in r-rle"),
        (swift("0.png", "q", truth(0, (5, 4))), "not what the recipe says"),
    ],
)
def test_what_is_wrong_names_file_and_line(tmp_path, record, message):
    file = write_data(tmp_path)
    line = record if isinstance(record, str) else json.dumps(record)
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(TuningError, match=message) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}:5: ")
    assert "\n" not in str(caught.value)


def test_nothing_to_learn_from(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(TuningError, match=r"no examples in .*empty\.jsonl"):
        load(tmp_path / "empty.jsonl")
    with pytest.raises(TuningError, match="no file"):
        load(tmp_path / "nowhere.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(TuningError, match=r"no \*\.jsonl in"):
        load(tmp_path / "folder")


def test_bytes_that_are_no_text():
    with pytest.raises(TuningError, match="is no JSON"):
        parse_record(b"\xff\xfe", "x:1")
