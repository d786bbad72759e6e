"""A checkpoint's answers with the grammar and without."""

from pathlib import Path

import pytest

from tests.nano_data import write_photos, write_sprites
from tests.tiny_nano import tiny_model, tiny_tokenizer
from training.nano.grammar import main
from training.nano.train import save


def test_without_the_grammar_an_untrained_model_writes_no_descriptor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T4S_GENERATOR_MAX_TOKENS", "128")  # left alone it would not stop by itself
    photos, sprites = write_photos(tmp_path / "photos", 20), write_sprites(tmp_path / "sprites")
    model = tmp_path / "model"
    save(tiny_model(), tiny_tokenizer(), model)
    data = ["--photos", str(photos), "--sprites", str(sprites), "--checkpoint", str(model)]
    main([*data, "--scenes", "3", "--limit", "1", "--threads", "1"])
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("questions: 1 photographs, 1 composed")
    assert "| well-formed | 100.0% | 0.0% |" in shown


def test_missing_data_and_a_missing_checkpoint_are_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sprites = write_sprites(tmp_path / "sprites")
    data = ["--sprites", str(sprites), "--checkpoint", str(tmp_path / "none"), "--photos"]
    with pytest.raises(SystemExit) as left:
        main([*data, str(tmp_path / "nowhere")])
    assert left.value.code == 1
    assert "nowhere/instances.json" in capfd.readouterr().err
    with pytest.raises(SystemExit) as left:
        main([*data, str(write_photos(tmp_path / "photos", 20)), "--scenes", "3"])
    assert left.value.code == 1
    said = capfd.readouterr().err
    assert "cannot start: checkpoint" in said
    assert "services.generator ended at start with exit code 1" in said
