"""Which texts may answer a request."""

from __future__ import annotations

from text4seg.descriptors import Codec
from text4seg.dialogue import answer_sentence, conditioned_question, referring_answer
from text4seg.grammar import DescriptorGrammar, answer_lark, chat_lark
from text4seg.segmentation import DescriptorConstraint, GenerateRequest, Turn


def answer_sentence_of(turns: tuple[Turn, ...], constraint: DescriptorConstraint) -> str:
    """Return the sentence that introduces the block: the first template for the kind of question.

    One label is a referring expression, unless the question is the one about a list of categories.
    """
    labels = constraint.labels
    if len(labels) == 1 and turns[-1].text != conditioned_question(labels):
        return referring_answer(labels[0])
    return answer_sentence()


def answer_language(request: GenerateRequest, shape: tuple[int, int], codec: Codec, lead: str = "") -> str:
    """Return the grammar of the answers to a request, for llguidance.

    With a constraint: one sentence, which leaves the model no choice and so costs nothing, and one block of
    its labels, or of any label when it names none. Without: any text, where every ``<seg>`` opens a
    well-formed block.

    Args:
        request: what is asked.
        shape: (rows, columns) of the model's grid.
        codec: how the model writes descriptors.
        lead: what the model's chat template puts before every answer.
    """
    if request.constraint is None:
        return chat_lark(DescriptorGrammar(shape, None, codec))
    labels = request.constraint.labels or None
    sentence = answer_sentence_of(request.turns, request.constraint)
    return answer_lark((lead + sentence,), DescriptorGrammar(shape, labels, codec))
