"""Tokenizers of the kinds that published models have, trained on a few sentences."""

import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = (
    "Sure, here is the segmentation mask for 'white horse':\n<seg>others *4\n others *1| white horse *3\n",
    "Please segment only the black cat in the image. USER: User: ASSISTANT: Assistant: I see a dog.",
    "Sure, here is the segmentation mask for the image:\n<seg>sky *4\n sky *1| grass *3\n</seg>",
)
VOCABULARY = 512
LOGITS = 576
"""More than there are words, as embeddings are padded."""


def byte_tokenizer(bos: str | None, eos: str, pad: str, *marks: str, **named: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, as Qwen, DeepSeek and SmolLM have; with special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 32,
        special_tokens=list(dict.fromkeys(filter(None, (eos, pad, bos, *marks, *named.values())))),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(CORPUS) * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        additional_special_tokens=list(marks),
        extra_special_tokens=named,
    )


def llama_tokenizer(*marks: str) -> PreTrainedTokenizerFast:
    """A BPE tokenizer with ``▁`` for spaces and bytes for unknown characters, as Llama has."""
    special = ["<unk>", "<s>", "</s>", *marks]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 32, special_tokens=special, show_progress=False, max_token_length=8
    )
    tokenizer.train_from_iterator(list(CORPUS) * 4, trainer)
    learned = json.loads(tokenizer.to_str())
    words = [word for word in learned["model"]["vocab"] if word not in special]
    learned["model"]["vocab"] = {
        word: index for index, word in enumerate([*special[:3], *pieces, *words, *special[3:]])
    }
    learned["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(learned))
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>" if "<pad>" in marks else "</s>",
        additional_special_tokens=[mark for mark in marks if mark != "<pad>"],
    )


def ids(tokenizer: PreTrainedTokenizerFast, *tokens: str) -> list[int]:
    """Numbers of tokens."""
    return [int(tokenizer.convert_tokens_to_ids(token)) for token in tokens]


def ends(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    """Numbers of the special tokens, as configurations of language models name them."""
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
