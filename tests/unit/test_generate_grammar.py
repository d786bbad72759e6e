import random

import numpy as np
import pytest

from services.generator.answer_grammar import answer_language, answer_sentence_of
from services.generator.decoding.constraint import TokenVocabulary
from tests.tiny_llava import tiny_tokenizer
from text4seg.descriptors import Codec, RepairKind, decode, decode_strict
from text4seg.dialogue import (
    answer_sentence,
    conditioned_question,
    find_blocks,
    open_question,
    referring_answer,
    referring_question,
)
from text4seg.grammar import DescriptorGrammar
from text4seg.segmentation import DescriptorConstraint, GenerateRequest, Turn

SHAPE = (3, 4)
LOGITS = 448
END = 2


@pytest.fixture(scope="module")
def vocabulary():
    return TokenVocabulary(tiny_tokenizer(), LOGITS, [END])


def request(question, constraint):
    return GenerateRequest(image=b"", turns=(Turn("user", question),), constraint=constraint)


def assert_well_formed(text):
    """Open vocabulary: every patch is described; only the spelling of a label may be normalized."""
    assert DescriptorGrammar(SHAPE, None).accepts(text)
    assert {repair.kind for repair in decode(text, SHAPE).report.repairs} <= {RepairKind.SEPARATOR}


def walk(vocabulary, lark, seed, wanted=None, most=3000):
    """Draw tokens among the allowed ones (those of ``wanted`` first) until the text ends."""
    draw = random.Random(seed)
    constraint = vocabulary.constraint(lark)
    tokens = []
    while len(tokens) < most:
        tokens += constraint.advance_forced(most)
        if constraint.is_complete:
            break
        choices = {int(token) for token in np.flatnonzero(constraint.allowed())}
        token = draw.choice(sorted(choices & wanted if wanted and choices & wanted else choices))
        if token == END:
            break
        constraint.advance([token])
        tokens.append(token)
    return b"".join(map(vocabulary.token_bytes, tokens)).decode()


@pytest.mark.parametrize(
    ("question", "labels", "sentence"),
    [
        (referring_question("white horse"), ("white horse",), referring_answer("white horse")),
        ("and the horse?", ("horse",), referring_answer("horse")),
        (conditioned_question(["horse"]), ("horse",), answer_sentence()),
        (conditioned_question(["sky", "sea"]), ("sky", "sea"), answer_sentence()),
        (open_question(), (), answer_sentence()),
    ],
)
def test_sentence_fits_the_question(question, labels, sentence):
    assert answer_sentence_of((Turn("user", question),), DescriptorConstraint(labels)) == sentence


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("codec", [Codec.RRLE, Codec.FULL])
@pytest.mark.parametrize("labels", [("white horse",), ("sky", "skyline", "été")])
def test_every_walk_through_a_constraint_decodes_strictly(vocabulary, labels, codec, seed):
    asked = request("q", DescriptorConstraint(labels))
    text = walk(vocabulary, answer_language(asked, SHAPE, codec), seed)
    (block,) = find_blocks(text)
    assert block.closed
    assert block.end == len(text)
    assert text[: block.begin] == answer_sentence_of(asked.turns, asked.constraint) + "\n"
    assert decode_strict(block.text, SHAPE, labels, codec).shape == SHAPE


@pytest.mark.parametrize("seed", range(3))
def test_every_walk_through_open_vocabulary_decodes_strictly(vocabulary, seed):
    text = walk(vocabulary, answer_language(request("q", DescriptorConstraint()), SHAPE, Codec.RRLE), seed)
    (block,) = find_blocks(text)
    assert block.closed
    assert_well_formed(block.text)


def test_lead_comes_before_the_sentence(vocabulary):
    asked = request("q", DescriptorConstraint(("cat",)))
    assert walk(vocabulary, answer_language(asked, SHAPE, Codec.RRLE, " "), 0).startswith(" Sure")


@pytest.mark.parametrize("seed", range(4))
def test_every_block_in_free_text_is_well_formed(vocabulary, seed):
    # Only tokens that spell tags, where they are allowed: the walk opens many blocks and is let out of none.
    wanted = {
        token for token in range(LOGITS) if vocabulary.token_bytes(token) in (b"<", b"seg", b">", b"<seg")
    }
    text = walk(vocabulary, answer_language(request("q", None), SHAPE, Codec.RRLE), seed, wanted, most=400)
    blocks = find_blocks(text)
    assert blocks
    for block in blocks:
        if block.closed:
            assert_well_formed(block.text)


def test_free_text_may_end_anywhere_but_inside_a_block(vocabulary):
    constraint = vocabulary.constraint(answer_language(request("q", None), SHAPE, Codec.RRLE))
    ended = []
    for character in "a <seg>b *4\n b *4\n b *4\n</seg> <se":
        ended.append(bool(constraint.allowed()[END]))
        token = next(one for one in range(LOGITS) if vocabulary.token_bytes(one) == character.encode())
        constraint.advance([token])
    inside = "a <seg>b *4\n b *4\n b *4\n</seg> <se".index("b")
    outside = "a <seg>b *4\n b *4\n b *4\n</seg> <se".rindex("</seg>") + len("</seg>")
    assert all(ended[:inside])
    assert not any(ended[inside:outside])
    assert all(ended[outside:])


def test_free_text_holds_no_control_characters(vocabulary):
    allowed = vocabulary.constraint(answer_language(request("q", None), SHAPE, Codec.RRLE)).allowed()
    texts = {vocabulary.token_bytes(int(token)) for token in np.flatnonzero(allowed)}
    assert {b"a", b"\n", b"\t"} <= texts
    assert not texts & {b"\x00", b"\x1b", b"\x7f", b"<image>"}
