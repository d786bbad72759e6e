"""A conversation in the terminal, with typed lines from a list."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hand_server import HandServicer, picture, png, serving
from text4seg.errors import OverloadedError
from text4seg.segmentation import RefineMode
from text4seg_client import Client
from text4seg_client.conversation import Talk, converse


@pytest.fixture
def client(servicer: HandServicer) -> Iterator[Client]:
    with serving(servicer) as address, Client(address) as client:
        yield client


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    (tmp_path / "image.png").write_bytes(png(picture()))
    return Talk(str(tmp_path / "image.png"), RefineMode.NONE, None, None, as_json=False, raw=False)


def _typed(*lines: str) -> Callable[[str], str]:
    left = iter(lines)

    def ask(prompt: str) -> str:
        line = next(left, None)
        if line is None:
            raise EOFError
        return line

    return ask


def test_turns_build_on_each_other(
    client: Client, talk: Talk, servicer: HandServicer, capsys: pytest.CaptureFixture[str]
) -> None:
    converse(client, talk, str, _typed("where is red", "", "and blue", "/new", "red", "/quit", "never sent"))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("It is turn")]
    assert lines == ["It is turn 1:", "It is turn 3:", "It is turn 1:"]
    second = servicer.seen[1].request.turns
    assert [turn.text for turn in second][0::2] == ["where is red", "and blue"]
    assert "<seg>" in second[1].text


def test_a_question_that_failed_is_forgotten_and_the_conversation_goes_on(
    client: Client, talk: Talk, servicer: HandServicer, capsys: pytest.CaptureFixture[str]
) -> None:
    servicer.failures += [OverloadedError("full", 100.0)]
    converse(client, talk, lambda error: f"explained: {error}", _typed("where is red", "and blue"))
    captured = capsys.readouterr()
    assert "text4seg: explained: full" in captured.err
    assert captured.out.startswith("It is turn 1:")
