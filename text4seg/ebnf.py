"""The descriptor language in EBNF, for matchers that do not read llguidance's Lark: vLLM's by default.

The notation is that of xgrammar (https://github.com/mlc-ai/xgrammar), after llama.cpp's GBNF. The language is
the one of :mod:`text4seg.grammar`, with two differences in open vocabulary, where EBNF knows no properties of
characters: capitals beyond Latin, Greek and Cyrillic are allowed, and so are invisible characters beyond the
common ones. Decoding lower-cases the former and reports the latter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from text4seg.descriptors import Codec
from text4seg.grammar import MAX_OPEN_CHARACTERS, DescriptorGrammar
from text4seg.labels import SEG_CLOSE, SEG_OPEN

_OPEN_CHARACTER = (
    r"[^|*<>A-ZÀ-ÖØ-ÞΑ-ΫА-Я\x00-\x20\x7f-\xa0\xad\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]"
)


def answer_ebnf(answer_sentences: Sequence[str], grammar: DescriptorGrammar) -> str:
    """Write the EBNF of a whole answer; the start rule is ``root``.

    Args:
        answer_sentences: one of these comes first, followed by a newline and the ``<seg>`` block.
        grammar: what stands in the block.

    Raises:
        ValueError: when there is no sentence.
    """
    if not answer_sentences:
        raise ValueError("an answer needs at least one possible sentence")
    sentences = " | ".join(_quote(f"{sentence}\n{SEG_OPEN}") for sentence in answer_sentences)
    rules = [f"root ::= ({sentences}) block {_quote(SEG_CLOSE)}", *_rules(grammar)]
    return "\n".join((*rules, ""))


def _rules(grammar: DescriptorGrammar) -> list[str]:
    rows, columns = grammar.shape
    suffix = "" if grammar.codec is Codec.FULL else " *"
    if grammar.labels is None:
        words = [
            f'{_OPEN_CHARACTER} (" "? {_OPEN_CHARACTER}){{0,{MAX_OPEN_CHARACTERS - 1}}} {_quote(suffix)}'
        ]
    else:
        words = [_quote(label + suffix) for label in grammar.labels]
    if grammar.codec is Codec.IRLE:
        cells = rows * columns
        digits = f"[1-9] [0-9]{{0,{len(str(cells)) - 1}}}"
        more = f' ("| " run){{0,{cells - 1}}}' if cells > 1 else ""
        return [f'block ::= run{more} "\\n"', f"run ::= label {digits}", f"label ::= {' | '.join(words)}"]
    block = "block ::= row" + (f' ("\\n " row){{{rows - 1}}}' if rows > 1 else "") + ' "\\n"'
    if grammar.codec is Codec.FULL:
        more = f' ("| " label){{{columns - 1}}}' if columns > 1 else ""
        return [block, f"row ::= label{more}", f"label ::= {' | '.join(words)}"]
    # As in the Lark form: a rule per class of labels and number of patches that the row still needs.
    classes = words if grammar.canonical else [" | ".join(words)]
    rules = [block, f"row ::= {_alternatives(range(len(classes)), columns)}"]
    for left in range(columns, 0, -1):
        for one in range(len(classes)):
            if left < columns:
                others = [other for other in range(len(classes)) if other != one or not grammar.canonical]
                rules.append(f"r{one}-{left} ::= {_alternatives(others, left)}")
            counts = [f'"{count}| " r{one}-{left - count}' for count in range(1, left)]
            rules.append(f"c{one}-{left} ::= {' | '.join([*counts, _quote(str(left))])}")
    return [*rules, *(f"l{one} ::= {word}" for one, word in enumerate(classes))]


def _alternatives(classes: Sequence[int], left: int) -> str:
    return " | ".join(f"l{one} c{one}-{left}" for one in classes)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
