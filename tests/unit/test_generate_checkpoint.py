import json

import pytest

from services.generator.checkpoint import fingerprint, read_facts
from text4seg.descriptors import Codec
from text4seg.errors import CheckpointError
from text4seg.scores import Calibration, Calibrations

ENTRY = {
    "model": "tiny",
    "grid": [16, 24],
    "codec": "i-rle",
    "template_version": "7",
    "image_size": [256, 320],
    "calibration": {"temperature": 2.0, "bias": 0.5, "nothing": {"temperature": 1.5}},
}


def write(path, entry=ENTRY, **config):
    path.mkdir(exist_ok=True)
    for name in ("model.safetensors", "tokenizer.json", "processor_config.json"):
        (path / name).touch()
    (path / "config.json").write_text(json.dumps({"model_type": "llava", "text4seg": entry, **config}))
    return path


def without(name):
    return {key: value for key, value in ENTRY.items() if key != name}


def test_facts_are_read(tmp_path):
    facts = read_facts(write(tmp_path))
    assert facts.model == "tiny"
    assert facts.model_type == "llava"
    assert facts.shape == (16, 24)
    assert facts.codec is Codec.IRLE
    assert facts.template_version == "7"
    assert facts.image_size == (256, 320)
    assert facts.calibration == Calibrations(Calibration(2.0, 0.5), nothing=Calibration(1.5))


def test_optional_facts_have_defaults(tmp_path):
    path = write(tmp_path / "named", {"grid": [4, 4], "codec": "r-rle", "template_version": "1"})
    facts = read_facts(path)
    assert facts.model == "named"
    assert facts.image_size is None
    assert facts.calibration == Calibrations()


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (None, "text4seg"),
        ([16, 16], "text4seg"),
        (without("grid"), "grid"),
        (without("codec"), "codec"),
        (without("template_version"), "template_version"),
        ({**ENTRY, "grid": [0, 16]}, "grid"),
        ({**ENTRY, "grid": [16]}, "grid"),
        ({**ENTRY, "grid": "16x16"}, "grid"),
        ({**ENTRY, "codec": "zip"}, "zip"),
        ({**ENTRY, "image_size": [256, -1]}, "image_size"),
        ({**ENTRY, "calibration": {"temperature": 0}}, "calibrate"),
        ({**ENTRY, "calibration": [1, 2]}, "text4seg"),
        ({**ENTRY, "calibration": {"regions": {"temperature": -1}}}, "calibrate"),
        ({**ENTRY, "calibration": {"nothing": 3}}, "text4seg"),
    ],
)
def test_bad_entry_is_one_clear_line(tmp_path, entry, says):
    with pytest.raises(CheckpointError, match=says) as caught:
        read_facts(write(tmp_path, entry))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00\xff"])
def test_damaged_config_is_an_error(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_facts(tmp_path)


def test_missing_directory_and_missing_config_are_errors(tmp_path):
    with pytest.raises(CheckpointError, match="not a directory"):
        read_facts(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        read_facts(tmp_path)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.safetensors", "weights"),
        ("tokenizer.json", "tokenizer"),
        ("processor_config.json", "processor"),
    ],
)
def test_missing_part_is_named(tmp_path, name, part):
    (write(tmp_path) / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {part}"):
        read_facts(tmp_path)


def test_fingerprint_follows_contents_and_settings_only(tmp_path):
    path = write(tmp_path)
    (path / "model.safetensors").write_bytes(b"weights")
    before = fingerprint(path, "float32")
    (path / "README.md").write_text("a document")
    (path / ".hidden").write_text("not ours")
    assert fingerprint(path, "float32") == before
    assert fingerprint(path, "bfloat16") != before
    (path / "model.safetensors").write_bytes(b"Weights")
    assert fingerprint(path, "float32") != before


def test_fingerprint_of_large_weights_sees_a_change_anywhere_near_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("services.generator.checkpoint._WHOLE_FILE_BYTES", 1 << 20)
    path = write(tmp_path)
    weights = bytearray(32 << 20)
    (path / "model.safetensors").write_bytes(weights)
    before = fingerprint(path)
    weights[1 << 16 :] = b"\x01" * (len(weights) - (1 << 16))
    (path / "model.safetensors").write_bytes(weights)
    assert fingerprint(path) != before
