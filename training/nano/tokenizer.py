"""The nano model's tokenizer: byte-level BPE; every known word, run length and separator is one token."""

import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torchvision.models import MobileNet_V2_Weights  # type: ignore[import-untyped]
from transformers import PreTrainedTokenizerFast

from text4seg import dialogue
from text4seg.descriptors import OTHERS
from text4seg_nano.processing import CHAT_TEMPLATE

PAD, IMAGE, USER, ASSISTANT, END = "<pad>", "<image>", "<|user|>", "<|assistant|>", "<|end|>"
MOST_CELLS = 32
"""The longest run that is one token, unless more are asked for."""
EXTRA_WORDS = tuple(Path(__file__).with_name("words.txt").read_text().split())
"""Words that no data set holds but people say: places, colours, everyday things."""

IMAGENET_NAMES: tuple[str, ...] = tuple(
    name.lower() for name in MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
)
"""Names of the tower's classes in the order of its logits."""


def known_words(nouns: Iterable[str], captions: Iterable[str]) -> list[str]:
    """Return every word that gets a token of its own, sorted."""
    sentences = [
        *dialogue.REFERRING_QUESTIONS, *dialogue.REFERRING_ANSWERS, *dialogue.CONDITIONED_QUESTIONS,
        *dialogue.OPEN_QUESTIONS, *dialogue.ANSWER_SENTENCES, *dialogue.CAPTION_QUESTIONS,
    ]  # fmt: skip
    texts = [
        *(re.sub(r"\{\w+\}", " ", text) for text in sentences),
        *nouns,
        *captions,
        *IMAGENET_NAMES,
        *EXTRA_WORDS,
        OTHERS,
    ]
    return sorted({word for text in texts for word in re.findall(r"[^\W\d_]+", text)})


def build_tokenizer(words: list[str], longest_run: int = MOST_CELLS) -> PreTrainedTokenizerFast:
    """Return a tokenizer in which each word, with and without a space before it, is one token.

    Any other text is written in smaller pieces, down to bytes, so that nothing is unknown. I-RLE needs a
    token for every run up to the whole image.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, IMAGE, USER, ASSISTANT, END]
    trainer = trainers.BpeTrainer(
        vocab_size=60_000,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator(([word, " " + word] * 4 for word in words), trainer)
    counts = [f" *{number}" for number in range(1, longest_run + 1)]
    plain = [dialogue.SEG_OPEN, dialogue.SEG_CLOSE, "| ", "\n ", *counts]
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in plain])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[IMAGE, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
