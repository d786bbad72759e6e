"""``text4seg chat``: one question, or a conversation in a terminal."""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from text4seg.dialogue import SEG_CLOSE, SEG_OPEN
from text4seg.errors import InternalError, Text4SegError
from text4seg.segmentation import ChatFinish, ChatRegions, ChatText, RefineMode, Region, Turn
from text4seg_client.calls import CHAT_OPTIONS
from text4seg_client.client import Client
from text4seg_client.files import write_picture
from text4seg_client.images import read_pixels
from text4seg_client.overlay import draw_overlay
from text4seg_client.report import region_json, region_table, timing_json


class BlockFilter:
    """Leaves descriptor blocks out of text that arrives in pieces.

    ``<seg>`` to ``</seg>`` is many lines that only a decoder reads; a tag may be cut by the end of a piece.
    """

    def __init__(self) -> None:
        self._held = ""
        self._inside = False

    def feed(self, text: str) -> str:
        """Return what a person should see of everything up to now and not returned yet."""
        self._held += text
        seen: list[str] = []
        while True:
            tag = SEG_CLOSE if self._inside else SEG_OPEN
            before, found, after = self._held.partition(tag)
            if not found:
                break
            if not self._inside:
                seen.append(before)
            self._held, self._inside = after, not self._inside
        tag = SEG_CLOSE if self._inside else SEG_OPEN
        keep = next((size for size in range(len(tag) - 1, 0, -1) if self._held.endswith(tag[:size])), 0)
        ready = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return "".join(seen) + ("" if self._inside else ready)

    def finish(self) -> str:
        """Return what was held back because a tag might have followed."""
        held, self._held = self._held, ""
        return "" if self._inside else held


@dataclass(frozen=True, slots=True)
class Talk:
    """How to talk: see ``text4seg chat --help``."""

    image: str
    refine: RefineMode
    max_tokens: int | None
    output: str | None
    as_json: bool
    raw: bool


def ask_once(client: Client, talk: Talk, message: str) -> None:
    """Print the answer to one question.

    Raises:
        Text4SegError: the call failed.
        OSError: the image cannot be read, or the overlay not written.
    """
    _answer(client, talk, Path(talk.image).expanduser().read_bytes(), (Turn("user", message),))


def converse(
    client: Client,
    talk: Talk,
    explain: Callable[[Text4SegError], str],
    ask: Callable[[str], str] = input,
) -> None:
    """Ask for questions and print answers until /quit or the end; a question that failed can be put again.

    Raises:
        OSError: the image cannot be read.
    """
    with suppress(ImportError):
        import readline  # noqa: F401  # input() then edits lines and remembers them
    data = Path(talk.image).expanduser().read_bytes()
    turns: tuple[Turn, ...] = ()
    print("Ask about the image; /new starts over, /quit ends.", file=sys.stderr)
    while True:
        try:
            message = ask("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return
        match message:
            case "":
                continue
            case "/quit" | "/exit":
                return
            case "/new":
                turns = ()
                continue
        question = (*turns, Turn("user", message))
        try:
            turns = (*question, _answer(client, talk, data, question))
        except KeyboardInterrupt:
            print("\n(stopped)", file=sys.stderr)
        except Text4SegError as error:
            print(f"text4seg: {explain(error)}", file=sys.stderr)
        except OSError as error:
            print(f"text4seg: {error}", file=sys.stderr)


def _answer(client: Client, talk: Talk, data: bytes, turns: tuple[Turn, ...]) -> Turn:
    options = replace(CHAT_OPTIONS, refine=talk.refine)
    regions: list[Region] = []
    blocks = BlockFilter()
    finish: ChatFinish | None = None
    for event in client.chat(data, turns, options, max_tokens=talk.max_tokens):
        match event:
            case ChatText(text) if not talk.as_json:
                print(text if talk.raw else blocks.feed(text), end="", flush=True)
            case ChatRegions(regions=found):
                regions.extend(found)
            case ChatFinish():
                finish = event
    if finish is None:
        raise InternalError("the answer ended without its last piece")
    if talk.as_json:
        print(json.dumps(_json(talk.image, finish, regions), ensure_ascii=False))
    else:
        print(blocks.finish())
        if regions:
            print("\n".join(f"  {line}" for line in region_table(regions).splitlines()))
    for warning in finish.warnings:
        print(f"text4seg: warning: {warning.message}", file=sys.stderr)
    if talk.output and regions:
        write_picture(Path(talk.output).expanduser(), draw_overlay(read_pixels(data), regions))
    return finish.turn


def _json(image: str, finish: ChatFinish, regions: list[Region]) -> dict[str, object]:
    return {
        "image": image,
        "answer": finish.turn.text,
        "finish_reason": finish.reason.value,
        "regions": [region_json(region) for region in regions],
        "timing_ms": timing_json(finish.timing),
        "versions": asdict(finish.versions),
    }
