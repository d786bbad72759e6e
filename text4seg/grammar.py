"""The descriptor language as a grammar for a token-level matcher, and as a character automaton.

:meth:`DescriptorGrammar.lark` writes the language in llguidance's dialect of Lark. In R-RLE there is one
rule per number of patches that a row still needs: ``r16`` is "a label, then its count", a count below 16
leads to the rule for what is left, and 16 ends the row. So every row adds up, for any tokenizer.

:class:`DescriptorGrammar` is also a deterministic automaton over characters, which needs no tokenizer.

Which language: the closed language with few labels (``MAX_CANONICAL_LABELS``) is exactly what
:func:`text4seg.descriptors.encode` writes: a run is never followed by one with the same label. It costs one
rule per label and length, and in a referring descriptor it forces every label after the first of a row.
With more labels, and in open vocabulary, equal neighbours are allowed: the grid is the same, the text is
not unique. In open vocabulary a label is made of :func:`is_label_character` and single inner spaces, with
at most ``MAX_OPEN_CHARACTERS`` characters besides the spaces; every one is a label that decoding takes, but
its characters need not be composed as Unicode NFC has it. In the Lark form of I-RLE every image adds up,
but equal neighbours are only forbidden up to ``MAX_CANONICAL_RULES``; the automaton is exact there too.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from text4seg.labels import OTHERS, SEG_CLOSE, SEG_OPEN, check_label, check_shape
from text4seg.rows import Codec

MAX_CANONICAL_LABELS = 8
"""Allowed labels, without ``others``, up to which equal neighbours are forbidden."""

MAX_CANONICAL_RULES = 1024
"""Cells times labels (with ``others``) up to which the Lark form of I-RLE forbids equal neighbours."""

MAX_OPEN_CHARACTERS = 64
"""Characters besides spaces in a label of open vocabulary, at most."""

_DIGITS = tuple("0123456789")

_OPEN_CLASS = r"[^|*<>\p{Changes_When_Lowercased}\p{Cc}\p{Cf}\p{Z}]"
"""``is_label_character`` in the syntax of Rust's regular expressions, which llguidance reads."""


def is_label_character(character: str) -> bool:
    """Say whether a character may stand in an open-vocabulary label (the space is treated apart).

    Delimiters, capitals, white space, controls and formatting characters may not.
    """
    category = unicodedata.category(character)
    return (
        category not in ("Cc", "Cf", "Cs")
        and category[0] != "Z"
        and character not in "|*<>"
        and character.lower() == character
    )


class Phase(IntEnum):
    """Where in the text an automaton state is."""

    LABEL = 0
    COUNT = 1
    BAR = 2
    """Behind ``|``."""
    NEWLINE = 3
    """Behind the newline of a row."""


class State(NamedTuple):
    """Automaton state: immutable and hashable.

    Attributes:
        phase: what is being read.
        row: lines that are finished.
        left: patches that the line still needs, the current run included.
        previous: index of the label of the run before in this line; -1 when any label may come.
        node: closed: node of the label trie. Open: label characters read, negative behind a space.
        length: the digits of the count read so far, as a number.
    """

    phase: Phase
    row: int
    left: int
    previous: int = -1
    node: int = 0
    length: int = 0


@dataclass(slots=True)
class _Node:
    """Trie node: ``labels`` are the indexes that can still be meant, ``final`` the one that ends here."""

    depth: int
    next: dict[str, int] = field(default_factory=dict)
    labels: set[int] = field(default_factory=set)
    final: int = -1


def _trie(words: Sequence[str]) -> tuple[_Node, ...]:
    nodes = [_Node(0)]
    for index, word in enumerate(words):
        at = 0
        nodes[0].labels.add(index)
        for depth, character in enumerate(word, start=1):
            if character not in nodes[at].next:
                nodes[at].next[character] = len(nodes)
                nodes.append(_Node(depth))
            at = nodes[at].next[character]
            nodes[at].labels.add(index)
        nodes[at].final = index
    return tuple(nodes)


class DescriptorGrammar:
    """The texts that may stand between ``<seg>`` and ``</seg>`` for one grid shape and one set of labels.

    Attributes:
        shape: rows and columns of the grid.
        labels: the allowed labels, ``others`` first; ``None`` for open vocabulary.
        codec: how the text is written.
        canonical: two runs of one line with the same label never stand side by side.
    """

    def __init__(
        self, shape: tuple[int, int], labels: Sequence[str] | None, codec: Codec = Codec.RRLE
    ) -> None:
        """Build the grammar.

        Args:
            shape: rows and columns of the grid.
            labels: the allowed labels (``others`` is always allowed), or ``None`` for open vocabulary.
            codec: how the text is written.

        Raises:
            ValueError: when the shape is impossible or the list of labels is empty.
            LabelInvalidError: when a label could not be written in a descriptor.
        """
        self.shape = check_shape(shape)
        self.codec = codec
        self.labels: tuple[str, ...] | None = None
        self.canonical = False
        if labels is not None:
            named = [check_label(label, "labels") for label in labels if label != OTHERS]
            if not named:
                raise ValueError(
                    "a closed grammar needs a label besides others; use None for open vocabulary"
                )
            self.labels = (OTHERS, *dict.fromkeys(named))
            self.canonical = codec is not Codec.FULL and len(self.labels) - 1 <= MAX_CANONICAL_LABELS
        rows, cols = self.shape
        self._rows, self._width = (1, rows * cols) if codec is Codec.IRLE else (rows, cols)
        # What a run begins with; a digit or a separator follows, so no label is mistaken for a longer one.
        self._words = [word + self._suffix for word in self.labels or ()]
        self._nodes = _trie(self._words)

    @property
    def _suffix(self) -> str:
        return "" if self.codec is Codec.FULL else " *"

    def start(self) -> State:
        """Return the state before the first character."""
        return State(Phase.LABEL, 0, self._width)

    def step(self, state: State, character: str) -> State | None:
        """Read one character (a string of length 1); ``None`` when no well-formed text goes on like this."""
        if state.phase is Phase.COUNT:
            return self._step_count(state, character)
        if state.phase is Phase.LABEL:
            return (
                self._step_open(state, character)
                if self.labels is None
                else self._step_label(state, character)
            )
        if character != " " or self.is_complete(state):
            return None
        left = state.left if state.phase is Phase.BAR else self._width
        return State(Phase.LABEL, state.row, left, state.previous)

    def _separator(self, state: State, character: str, length: int) -> State | None:
        """End a run of ``length`` patches."""
        left = state.left - length
        if character == "|" and left > 0:
            previous = self._nodes[state.node].final if self.canonical else -1
            return State(Phase.BAR, state.row, left, previous)
        return State(Phase.NEWLINE, state.row + 1, 0) if character == "\n" and left == 0 else None

    def _step_count(self, state: State, character: str) -> State | None:
        if character in _DIGITS:
            count = state.length * 10 + _DIGITS.index(character)
            return state._replace(length=count) if 1 <= count <= state.left else None
        return self._separator(state, character, state.length) if state.length else None

    def _step_label(self, state: State, character: str) -> State | None:
        node = self._nodes[state.node].next.get(character)
        if node is not None and self._nodes[node].labels - {state.previous}:
            ends = self._suffix and self._nodes[node].final >= 0
            return state._replace(phase=Phase.COUNT if ends else Phase.LABEL, node=node)
        if self.codec is Codec.FULL and self._nodes[state.node].final >= 0:
            return self._separator(state, character, 1)
        return None

    def _step_open(self, state: State, character: str) -> State | None:
        read, full = abs(state.node), self.codec is Codec.FULL
        if read < MAX_OPEN_CHARACTERS and is_label_character(character):
            return state._replace(node=read + 1)
        if character == " " and state.node > 0:
            return state._replace(node=-read) if not full or read < MAX_OPEN_CHARACTERS else None
        if full:
            return self._separator(state, character, 1) if state.node > 0 else None
        return state._replace(phase=Phase.COUNT) if character == "*" and state.node < 0 else None

    def allowed(self, state: State) -> frozenset[str]:
        """Return the characters that may follow.

        In open vocabulary these are only the digits and delimiters: ask :meth:`step`, or
        :func:`is_label_character`, about the characters of a label.
        """
        known = () if self.labels is None or state.phase is not Phase.LABEL else self._nodes[state.node].next
        return frozenset(one for one in (*known, *_DIGITS, *"| *\n") if self.step(state, one) is not None)

    def is_complete(self, state: State) -> bool:
        """Say whether the text is a whole descriptor; then nothing may follow."""
        return state.phase is Phase.NEWLINE and state.row == self._rows

    def read(self, text: str) -> State | None:
        """Return the state after a text, or ``None`` when it is no prefix of a descriptor."""
        state: State | None = self.start()
        for character in text:
            state = self.step(state, character) if state is not None else None
        return state

    def accepts(self, text: str) -> bool:
        """Say whether a text is a whole descriptor."""
        state = self.read(text)
        return state is not None and self.is_complete(state)

    def complete(self, state: State) -> str:
        """Return the shortest text that completes the descriptor (each line is completed by itself)."""
        pieces: list[str] = []
        while not self.is_complete(state):
            pieces.append(self._shortest_piece(state))
            for character in pieces[-1]:
                following = self.step(state, character)
                assert following is not None, (state, character)
                state = following
        return "".join(pieces)

    def _shortest_piece(self, state: State) -> str:
        if state.phase is Phase.COUNT:
            read, wanted = str(state.length) if state.length else "", str(state.left)
            return wanted[len(read) :] + "\n" if wanted.startswith(read) else "|"
        if state.phase is not Phase.LABEL:
            return " "
        if self.labels is None:
            word = ("x" if state.node == 0 or (self.codec is Codec.FULL and state.node < 0) else "") + (
                self._suffix.lstrip() if state.node < 0 else self._suffix
            )
        else:
            node = self._nodes[state.node]
            word = min((self._words[one] for one in sorted(node.labels - {state.previous})), key=len)[
                node.depth :
            ]
        if self.codec is Codec.FULL:
            word += "|" if state.left > 1 else "\n"
        return word

    def lark(self, *, wrap: bool = True) -> str:
        """Write the grammar for llguidance.

        Args:
            wrap: the text includes ``<seg>`` and ``</seg>``, as plain text.
        """
        content = f"{_quote(SEG_OPEN)} block {_quote(SEG_CLOSE)}" if wrap else "block"
        return f"start: {content}\n{self._lark_rules()}"

    def _lark_rules(self) -> str:
        block = 'block: row{rest} "\\n"'.format(
            rest=f' ("\\n " row){{{self._rows - 1}}}' if self._rows > 1 else ""
        )
        words = [f"/{_OPEN_CLASS}( ?{_OPEN_CLASS}){{0,{MAX_OPEN_CHARACTERS - 1}}}{re.escape(self._suffix)}/"]
        if self.labels is not None:
            words = [_quote(word) for word in self._words]
        more = self._width - 1
        if self.codec is Codec.FULL:
            row = "row: LABEL" + (f' ("| " LABEL){{{more}}}' if more else "")
            return "\n".join((block, row, f"LABEL: {' | '.join(words)}", ""))
        canonical = self.canonical and (
            self.codec is not Codec.IRLE or self._width * len(words) <= MAX_CANONICAL_RULES
        )
        # One class of labels, or with a canonical text one class per label: no class follows itself.
        classes = words if canonical else [" | ".join(words)]
        terminals = [f"L{index}: {word}" for index, word in enumerate(classes)]
        rules = [f"row: {_alternatives(range(len(classes)), self._width)}"]
        for left in range(self._width, 0, -1):
            for one in range(len(classes)):
                if left < self._width:
                    others = [other for other in range(len(classes)) if other != one or not canonical]
                    rules.append(f"r{one}_{left}: {_alternatives(others, left)}")
                if self.codec is Codec.IRLE:
                    continue
                counts = [f'"{count}| " r{one}_{left - count}' for count in range(1, left)]
                rules.append(f"c{one}_{left}: {' | '.join([*counts, _quote(str(left))])}")
        if self.codec is Codec.IRLE:
            rules += [rule for one in range(len(classes)) for rule in _long_counts(one, self._width)]
        return "\n".join((block, *rules, *terminals, ""))


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _alternatives(classes: Iterable[int], left: int) -> str:
    return " | ".join(f"L{one} c{one}_{left}" for one in classes)


def _long_counts(one: int, width: int) -> list[str]:
    """Return the rules of counts up to the cells that are left, read digit by digit.

    A rule per count would be too many for llguidance. What is left only depends on the value of the digits
    read: ``n{one}_{more}_{left}`` reads the last ``more`` digits of a count, of which ``left`` is left.
    """

    def digit(value: int, more: int, left: int) -> str | None:
        """Read a digit that is followed by more, and take its value from what is left."""
        rest = left - value * 10**more
        if rest < 0 or more:
            return f'"{value}" n{one}_{more}_{rest}' if rest >= 0 else None
        return f'"{value}| " r{one}_{rest}' if rest else f'"{value}"'

    most = len(str(width))
    rules = []
    for left in range(width + 1):
        first = [digit(value, more, left) for more in range(most) for value in range(1, 10)]
        if left:
            rules.append(f"c{one}_{left}: {' | '.join(filter(None, first))}")
        for more in range(1, most) if left < width else ():  # the first digit has taken some
            choices = [digit(value, more - 1, left) for value in range(10)]
            rules.append(f"n{one}_{more}_{left}: {' | '.join(filter(None, choices))}")
    return rules


def answer_lark(answer_sentences: Sequence[str], grammar: DescriptorGrammar) -> str:
    """Write the llguidance grammar of a whole answer.

    Args:
        answer_sentences: one of these comes first, followed by a newline and the ``<seg>`` block.
        grammar: what stands in the block.

    Raises:
        ValueError: when there is no sentence.
    """
    if not answer_sentences:
        raise ValueError("an answer needs at least one possible sentence")
    # One terminal with the tag in it: no sentence is then mistaken for the beginning of another.
    sentences = " | ".join(_quote(f"{sentence}\n{SEG_OPEN}") for sentence in answer_sentences)
    return f"start: ANSWER block {_quote(SEG_CLOSE)}\nANSWER: {sentences}\n{grammar._lark_rules()}"


def chat_lark(grammar: DescriptorGrammar) -> str:
    """Write the llguidance grammar of a free text in which every ``<seg>`` opens a well-formed block.

    The text may end anywhere but inside a block. It holds no control characters but tab and line break, so
    that it can be sent back as a turn of the conversation.

    Args:
        grammar: what stands in a block.
    """
    words = r"[^\x00-\x08\x0b-\x1f\x7f-\u{9f}]*"
    return (
        f"start: (opening block {_quote(SEG_CLOSE)})* REST\n"
        f"opening[lazy]: /{words}{SEG_OPEN}/\n"
        f"REST: /{words}/ & ~/(?s:.*){SEG_OPEN}(?s:.*)/\n"
        f"{grammar._lark_rules()}"
    )
