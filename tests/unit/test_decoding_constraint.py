import json
import random
import re

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from services.generator.decoding.constraint import TokenVocabulary
from tests.tiny_llava import tiny_tokenizer
from text4seg.dialogue import SEG_CLOSE, SEG_OPEN, answer_text
from text4seg.errors import InternalError
from text4seg.grammar import DescriptorGrammar, answer_lark

LOGITS = 448
END = 2


@pytest.fixture(scope="module")
def vocabulary():
    return TokenVocabulary(tiny_tokenizer(), LOGITS, [END])


def spell(vocabulary, tokens):
    return b"".join(map(vocabulary.token_bytes, tokens)).decode()


def test_mask_allows_what_the_grammar_allows(vocabulary):
    allowed = vocabulary.constraint('start: "cat" | "dog"').allowed()
    assert allowed.shape == (LOGITS,)
    texts = {vocabulary.token_bytes(int(token)) for token in np.flatnonzero(allowed)}
    assert {b"c", b"d"} <= texts
    assert all(b"cat".startswith(text) or b"dog".startswith(text) for text in texts)


@pytest.mark.parametrize("seed", range(5))
def test_any_walk_through_the_masks_is_in_the_language(vocabulary, seed):
    draw = random.Random(seed)
    constraint = vocabulary.constraint(r'start: "<seg>" (/[a-c é]{1,4}/ "|"){1,3} "</seg>"')
    tokens = []
    while not constraint.is_complete:
        forced = constraint.advance_forced(100)
        tokens += forced
        if constraint.is_complete:
            break
        token = int(draw.choice(np.flatnonzero(constraint.allowed())))
        constraint.advance([token])
        tokens.append(token)
    assert re.fullmatch(r"<seg>([a-c é]{1,4}\|){1,3}</seg>", spell(vocabulary, tokens))


def test_end_token_is_allowed_where_the_text_may_end(vocabulary):
    constraint = vocabulary.constraint('start: "a" "b"*')
    assert not constraint.allowed()[END]
    constraint.advance_forced(10)
    assert constraint.allowed()[END]
    assert not constraint.is_complete


def test_text_that_cannot_go_on_is_complete(vocabulary):
    constraint = vocabulary.constraint('start: "yes"')
    tokens = constraint.advance_forced(100)
    assert spell(vocabulary, tokens) == "yes"
    assert constraint.is_complete


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_forced_tokens_respect_the_limit(vocabulary, limit):
    whole = vocabulary.constraint('start: "0123456789"').advance_forced(100)
    constraint = vocabulary.constraint('start: "0123456789"')
    assert constraint.advance_forced(limit) == whole[:limit]
    assert constraint.advance_forced(100) == whole[limit:]


def test_constraints_of_one_grammar_are_independent(vocabulary):
    grammar = 'start: ("a" | "b") "c"'
    first = vocabulary.constraint(grammar)
    first.advance([int(np.flatnonzero(first.allowed())[0])])
    assert vocabulary.constraint(grammar).allowed().sum() > 1


def with_tags():
    """A tokenizer that has tags, separators and run lengths as tokens of their own."""
    tokenizer = tiny_tokenizer()
    texts = [SEG_OPEN, SEG_CLOSE, "| ", "\n ", *(f" *{count}" for count in range(1, 5))]
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in texts])
    return tokenizer


def like_sentencepiece():
    """A tokenizer with marks for spaces, a mark before the text, and bytes for what it does not know."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="first"),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Split("\n", "isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Here: others white horse <seg> *1 *2 *3 *4| </seg>"] * 4, trainer)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    saved = json.loads(tokenizer.to_str())
    saved["added_tokens"] = saved["added_tokens"][
        :3
    ]  # the bytes are part of the vocabulary, not control tokens
    tokenizer = Tokenizer.from_str(json.dumps(saved))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize(
    "tokenizer",
    [tiny_tokenizer(), with_tags(), like_sentencepiece()],
    ids=["plain", "tags", "sentencepiece"],
)
@pytest.mark.parametrize("labels", [("white horse",), ("dog", "white horse"), None])
def test_text_as_the_tokenizer_writes_it_is_allowed_and_forced(tokenizer, labels):
    """A model is trained on the tokenizer's own tokens: neither mask nor forced tokens lead it elsewhere."""
    vocabulary = TokenVocabulary(tokenizer, LOGITS, [END])
    text = answer_text(" Here:", "others *4\n others *1| white horse *2| others *1\n white horse *4\n")
    constraint = vocabulary.constraint(answer_lark([" Here:"], DescriptorGrammar((3, 4), labels)))
    prompt = tokenizer.encode("ASSISTANT:", add_special_tokens=False)
    tokens = tokenizer.encode("ASSISTANT:" + text, add_special_tokens=False)[len(prompt) :]
    while tokens:
        run = constraint.advance_forced(len(tokens))
        if run:
            assert tokens[: len(run)] == run
        else:
            run = tokens[:1]
            assert constraint.allowed()[run[0]]
            constraint.advance(run)
        tokens = tokens[len(run) :]
    assert constraint.is_complete


def test_bad_grammar_is_an_error(vocabulary):
    with pytest.raises(InternalError, match="does not compile"):
        vocabulary.constraint("start: nowhere")


def test_refused_token_is_an_error(vocabulary):
    constraint = vocabulary.constraint('start: "ab" | "ac"')
    refused = int(np.flatnonzero(~constraint.allowed())[-1])
    with pytest.raises(InternalError, match="refused"):
        constraint.advance([refused])
