import math

import numpy as np
import pytest
import torch

from services.generator.decoding.constraint import TokenVocabulary
from services.generator.decoding.loop import choose, decode
from tests.tiny_llava import tiny_tokenizer
from text4seg.errors import InternalError
from text4seg.segmentation import FinishReason

LOGITS = 448
END = 2
ROWS = 'start: "Sure:\\n<seg>" row " " row "</seg>"\nrow: ("cat *" | "others *") /[0-9]/ "\\n"'


class SeededContext:
    """Logits that depend on every token read so far, whatever the portions they came in."""

    def __init__(self, seed):
        self._seed = seed
        self.tokens = []
        self.feeds = 0

    def feed(self, tokens):
        self.tokens += tokens
        self.feeds += 1
        draw = np.random.default_rng([self._seed, *self.tokens])
        return torch.from_numpy(draw.normal(size=LOGITS) * 3)


@pytest.fixture(scope="module")
def vocabulary():
    return TokenVocabulary(tiny_tokenizer(), LOGITS, [END])


def run(vocabulary, grammar, seed=0, max_tokens=200, cancelled=lambda: False, **options):
    context = SeededContext(seed)
    constraint = vocabulary.constraint(grammar)
    steps = list(decode(context, constraint, vocabulary.end_tokens, max_tokens, cancelled, **options))
    return context, steps


def spell(vocabulary, steps):
    return b"".join(vocabulary.token_bytes(token) for step in steps for token, _ in step.tokens).decode()


@pytest.mark.parametrize("seed", range(4))
def test_forced_tokens_in_one_pass_or_each_alone_give_the_same_answer(vocabulary, seed):
    together, steps = run(vocabulary, ROWS, seed)
    alone, steps_alone = run(vocabulary, ROWS, seed, batch_forced=False)
    assert steps == steps_alone
    assert together.tokens == alone.tokens
    assert together.feeds < alone.feeds


def test_answer_follows_the_grammar_and_finishes_once(vocabulary):
    _, steps = run(vocabulary, ROWS)
    text = spell(vocabulary, steps)
    assert text.startswith("Sure:\n<seg>")
    assert text.endswith("\n</seg>")
    assert [step.finish for step in steps] == [None] * (len(steps) - 1) + [FinishReason.STOP]


def test_one_pass_per_choice_and_none_for_forced_tokens(vocabulary):
    context, steps = run(vocabulary, ROWS)
    chosen = sum(len(step.tokens) - step.forced for step in steps)
    assert context.feeds == chosen
    assert sum(step.forced for step in steps) > chosen


def test_fully_forced_answer_needs_no_model(vocabulary):
    context, steps = run(vocabulary, 'start: "always the same"')
    assert context.feeds == 0
    assert spell(vocabulary, steps) == "always the same"
    assert all(logprob == 0.0 for step in steps for _, logprob in step.tokens)


def test_choices_are_greedy_with_the_log_probability_among_allowed_tokens(vocabulary):
    _, steps = run(vocabulary, ROWS, seed=7)
    constraint = vocabulary.constraint(ROWS)
    replay = SeededContext(7)
    pending = []
    for step in steps:
        tokens = [token for token, _ in step.tokens]
        if len(tokens) > step.forced:
            allowed = constraint.allowed()
            logits = replay.feed(pending).numpy()
            assert allowed[tokens[0]]
            assert logits[tokens[0]] == logits[allowed].max()
            expected = logits[tokens[0]] - math.log(np.exp(logits[allowed]).sum())
            assert step.tokens[0][1] == pytest.approx(expected, abs=1e-5)
        assert all(logprob == 0.0 for _, logprob in step.tokens[len(tokens) - step.forced :])
        constraint.advance(tokens)
        pending = tokens


@pytest.mark.parametrize("limit", [1, 5, 9])
def test_token_limit_cuts_the_answer(vocabulary, limit):
    whole = [token for step in run(vocabulary, ROWS)[1] for token in step.tokens]
    _, steps = run(vocabulary, ROWS, max_tokens=limit)
    assert [token for step in steps for token in step.tokens] == whole[:limit]
    assert steps[-1].finish is FinishReason.LENGTH


def test_limit_just_reached_by_a_complete_answer_is_no_cut(vocabulary):
    length = sum(len(step.tokens) for step in run(vocabulary, ROWS)[1])
    assert run(vocabulary, ROWS, max_tokens=length)[1][-1].finish is FinishReason.STOP


def test_end_token_ends_free_text_and_is_not_written(vocabulary):
    class Ending(SeededContext):
        def feed(self, tokens):
            logits = super().feed(tokens)
            logits[END] = 100.0 if self.feeds == 4 else -100.0
            return logits

    context = Ending(1)
    constraint = vocabulary.constraint("start: /(?s:.*)/")
    steps = list(decode(context, constraint, vocabulary.end_tokens, 100, lambda: False))
    assert sum(len(step.tokens) for step in steps) == 3
    assert steps[-1].finish is FinishReason.STOP
    assert END not in [token for step in steps for token, _ in step.tokens]


@pytest.mark.parametrize("after", [0, 1, 3])
def test_cancelled_before_a_pass_stops_without_another(vocabulary, after):
    context = SeededContext(0)
    constraint = vocabulary.constraint(ROWS)
    steps = list(decode(context, constraint, vocabulary.end_tokens, 200, lambda: context.feeds >= after))
    assert context.feeds == after
    assert steps[-1].finish is None


def test_choice_probabilities_of_allowed_tokens_sum_to_one():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(LOGITS, generator=draw)
    allowed = torch.rand(LOGITS, generator=draw) < 0.2
    total = 0.0
    for token in torch.nonzero(allowed).flatten().tolist():
        # The same distribution with this token's turn to be the greedy choice: exp(logit) / sum is invariant.
        chosen, logprob = choose(logits, allowed)
        total += math.exp(float(logits[token] - logits[chosen]) + logprob)
    assert total == pytest.approx(1.0, abs=1e-5)


def test_logits_that_are_no_numbers_are_an_error():
    with pytest.raises(InternalError, match="finite"):
        choose(torch.full((LOGITS,), math.nan), torch.ones(LOGITS, dtype=torch.bool))
