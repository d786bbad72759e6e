"""Questions, answers and ``<seg>`` blocks: one source for training and serving.

Serving always uses index 0 of each tuple; training draws from all of them. Change any sentence and you must
change ``TEMPLATE_VERSION``: it is part of every cache key.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from text4seg.errors import QueryInvalidError
from text4seg.labels import SEG_CLOSE, SEG_OPEN, check_label, label_problem, normalize_label

__all__ = [
    "ANSWER_SENTENCES",
    "CAPTION_QUESTIONS",
    "CONDITIONED_QUESTIONS",
    "OPEN_QUESTIONS",
    "REFERRING_ANSWERS",
    "REFERRING_QUESTIONS",
    "SEG_CLOSE",
    "SEG_OPEN",
    "TEMPLATE_VERSION",
    "Block",
    "Choice",
    "answer_sentence",
    "answer_text",
    "canonical_phrase",
    "caption_question",
    "conditioned_question",
    "find_blocks",
    "open_question",
    "referring_answer",
    "referring_question",
    "strip_blocks",
]

TEMPLATE_VERSION = "1"
"""Part of cache keys and of every checkpoint's metadata."""

Choice = int | random.Random
"""Which sentence to use: an index, or a generator that draws one."""

REFERRING_QUESTIONS: tuple[str, ...] = (
    "Please segment only the {phrase} in the image.",
    "Can you segment the {phrase} in the image?",
    "Where is '{phrase}' in this image? Please output segmentation mask.",
    "Please mark every part of the image that shows the {phrase}.",
    "I am looking for '{phrase}'. Please answer with its segmentation mask.",
    "Which region of this image is the {phrase}? Give me the mask.",
)
"""Questions about one referring expression, which may match none, one or several objects."""

REFERRING_ANSWERS: tuple[str, ...] = (
    "Sure, here is the segmentation mask for '{phrase}':",
    "Here is the mask of '{phrase}':",
    "The segmentation mask for '{phrase}' follows:",
    "Of course. This is the mask for '{phrase}':",
    "This is where '{phrase}' is in the image:",
    "I have marked '{phrase}' for you:",
    "Certainly, the map of '{phrase}' is:",
    "The patches that show '{phrase}' are:",
    "Segmentation of '{phrase}':",
    "As asked, the mask of '{phrase}':",
)
"""Answer sentences for a referring expression. The same ones introduce an answer that finds nothing."""

CONDITIONED_QUESTIONS: tuple[str, ...] = (
    "Please segment the image based on the category: {labels}.",
    "Can you segment the image using only these categories: {labels}?",
    "Label every patch of the image with one of: {labels}.",
    "Which parts of the image belong to these categories: {labels}? Please output segmentation mask.",
    "Here is a list of categories: {labels}. Please find them in the image.",
    "Please produce a segmentation map of the image for {labels}.",
    "Given the categories {labels}, where is each of them in the image?",
)
"""Questions with a list of allowed labels, joined by ``|`` without spaces."""

OPEN_QUESTIONS: tuple[str, ...] = (
    "Please segment the image and name everything you see.",
    "Can you segment this image into its parts?",
    "What is in this image, and where? Please output segmentation mask.",
    "Please label every patch of the image.",
    "Name and outline all things in the picture.",
    "Give me a complete segmentation map of this image.",
    "Which objects does the image show? Mark each of them.",
    "Please divide the image into named regions.",
    "Show me where everything is in this image.",
    "Segment all that you recognize in the image.",
    "Describe this image as a map of labels.",
    "Please write the semantic segmentation of the image.",
    "Find every object in the image and give its mask.",
)
"""Questions without a label list: the model names what it finds."""

ANSWER_SENTENCES: tuple[str, ...] = (
    "Sure, here is the segmentation mask for the image:",
    "Here is the segmentation of the image:",
    "The segmentation map follows:",
    "Of course. These are the regions of the image:",
    "I have labelled the image for you:",
)
"""Answer sentences for label lists and open vocabulary."""

CAPTION_QUESTIONS: tuple[str, ...] = (
    "Describe the image in one sentence.",
    "What does this image show?",
    "Please write a short caption for the image.",
    "What can you see in this picture?",
    "Give a brief description of the image.",
)
"""Questions whose answer is plain text, for Chat."""


def _choose(sentences: tuple[str, ...], choice: Choice) -> str:
    return choice.choice(sentences) if isinstance(choice, random.Random) else sentences[choice]


def referring_question(phrase: str, choice: Choice = 0) -> str:
    """Ask for one referring expression; ``phrase`` should come from :func:`canonical_phrase`.

    Raises:
        IndexError: when ``choice`` is an index outside ``REFERRING_QUESTIONS``.
    """
    return _choose(REFERRING_QUESTIONS, choice).format(phrase=phrase)


def referring_answer(phrase: str, choice: Choice = 0) -> str:
    """Return the sentence that introduces the mask of a referring expression.

    Raises:
        IndexError: when ``choice`` is an index outside ``REFERRING_ANSWERS``.
    """
    return _choose(REFERRING_ANSWERS, choice).format(phrase=phrase)


def conditioned_question(labels: Sequence[str], choice: Choice = 0) -> str:
    """Ask for a segmentation that uses only these labels (and ``others``).

    Raises:
        LabelInvalidError: when a label cannot be written in a descriptor.
        QueryInvalidError: when there is no label.
        IndexError: when ``choice`` is an index outside ``CONDITIONED_QUESTIONS``.
    """
    if not labels:
        raise QueryInvalidError("labels", "holds no label")
    joined = "|".join(check_label(label, f"labels[{index}]") for index, label in enumerate(labels))
    return _choose(CONDITIONED_QUESTIONS, choice).format(labels=joined)


def open_question(choice: Choice = 0) -> str:
    """Ask the model to segment the image and to name what it finds."""
    return _choose(OPEN_QUESTIONS, choice)


def answer_sentence(choice: Choice = 0) -> str:
    """Return the sentence that introduces the answer to a label list or an open question."""
    return _choose(ANSWER_SENTENCES, choice)


def caption_question(choice: Choice = 0) -> str:
    """Ask for a short description in words."""
    return _choose(CAPTION_QUESTIONS, choice)


def answer_text(sentence: str, block: str) -> str:
    """Join an answer sentence and the text from :func:`text4seg.descriptors.encode`."""
    return f"{sentence}\n{SEG_OPEN}{block}{SEG_CLOSE}"


def canonical_phrase(phrase: str, field: str = "phrase") -> str:
    """Return a referring expression as the model was trained to read it: lower case, NFC, single spaces.

    The phrase is the label of its own mask, so the rules for labels hold.

    Args:
        phrase: what the caller wrote.
        field: path of the field it came from, for the error.

    Raises:
        QueryInvalidError: when the phrase is empty, too long, or could not be written in a descriptor.
    """
    problem = label_problem(phrase)
    if problem is not None:
        raise QueryInvalidError(field, problem)
    return normalize_label(phrase)


@dataclass(frozen=True, slots=True)
class Block:
    """One ``<seg>`` block of an answer.

    Attributes:
        begin: character offset of ``<seg>`` in the answer.
        end: offset just behind ``</seg>``, or where an unclosed block ends.
        text: what is between the tags.
        closed: whether ``</seg>`` was there.
    """

    begin: int
    end: int
    text: str
    closed: bool

    @property
    def content_begin(self) -> int:
        """Character offset of ``text`` in the answer."""
        return self.begin + len(SEG_OPEN)


def find_blocks(answer: str) -> tuple[Block, ...]:
    """Return all blocks in order. A block without ``</seg>`` ends at the next ``<seg>`` or at the end."""
    blocks: list[Block] = []
    begin = answer.find(SEG_OPEN)
    while begin >= 0:
        content = begin + len(SEG_OPEN)
        following = answer.find(SEG_OPEN, content)
        limit = len(answer) if following < 0 else following
        close = answer.find(SEG_CLOSE, content, limit)
        end = limit if close < 0 else close + len(SEG_CLOSE)
        text = answer[content : limit if close < 0 else close]
        blocks.append(Block(begin=begin, end=end, text=text, closed=close >= 0))
        begin = following
    return tuple(blocks)


def strip_blocks(answer: str) -> str:
    """Return the words of an answer, without its blocks and the white space around them."""
    pieces: list[str] = []
    position = 0
    for block in find_blocks(answer):
        pieces.append(answer[position : block.begin].strip())
        position = block.end
    pieces.append(answer[position:].strip())
    return "\n".join(piece for piece in pieces if piece)
