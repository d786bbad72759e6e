"""Engine ``hf`` on architectures without a profile: own chat templates, token types and image inputs."""

import json

import pytest
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

from services.generator.hf_context import HfContext
from services.generator.hf_model import load_hf_model
from tests.tiny_llava import CHAT_TEMPLATE, SHAPE, image_file, read, tiny_tokenizer
from text4seg.descriptors import decode_strict
from text4seg.dialogue import find_blocks, referring_question
from text4seg.segmentation import DescriptorConstraint, GenerateRequest, Turn

TEXT = {
    "vocab_size": 448,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 1024,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
    "initializer_range": 0.5,
}
VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer(**special):
    return PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer().backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=special,
    )


def gemma():
    """Token types, and layers that see only the last few tokens."""
    tokens = tokenizer(boi_token="<boi>", eoi_token="<eoi>", image_token="<soft>")
    boi, eoi, image = map(tokens.convert_tokens_to_ids, ["<boi>", "<eoi>", "<soft>"])
    config = Gemma3Config(
        text_config={**TEXT, "head_dim": 16, "sliding_window": 16},
        vision_config={**VISION, "image_size": 28, "patch_size": 7},
        mm_tokens_per_image=4,
        image_token_id=image,
        boi_token_index=boi,
        eoi_token_index=eoi,
    )
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 28, "width": 28}),
        tokenizer=tokens,
        image_seq_length=4,
        chat_template=CHAT_TEMPLATE.replace("<image>", "<boi>"),
    )
    return Gemma3ForConditionalGeneration(config), processor, 28


def idefics():
    """An image processor that splits images and pads them."""
    tokens = tiny_tokenizer()
    marks = ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"]
    tokens.add_special_tokens({"additional_special_tokens": marks})
    config = Idefics3Config(
        text_config={**TEXT, "model_type": "llama"},
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=3,
    )
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessor(
            size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
        ),
        tokenizer=tokens,
        image_seq_len=4,
        chat_template=CHAT_TEMPLATE,
    )
    return Idefics3ForConditionalGeneration(config), processor, 32


@pytest.fixture(params=[gemma, idefics], ids=lambda build: build.__name__)
def model(request, tmp_path):
    torch.manual_seed(1)
    weights, processor, side = request.param()
    weights.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    entry = {"grid": SHAPE, "codec": "r-rle", "template_version": "1", "image_size": [side, side]}
    (tmp_path / "config.json").write_text(json.dumps({**config, "text4seg": entry}))
    return load_hf_model(tmp_path, read)


def ask():
    turns = (Turn("user", referring_question("dog")),)
    return GenerateRequest(image_file(size=(120, 200)), turns, DescriptorConstraint(("dog",)))


def test_answer_decodes_strictly(model):
    text = "".join(chunk.text for chunk in model.write(ask(), lambda: False))
    (block,) = find_blocks(text)
    assert decode_strict(block.text, SHAPE, ["dog"]).shape == SHAPE


def test_tokens_are_those_of_generate_alone_and_in_portions(model):
    weights = model._checkpoint.model
    inputs = model._inputs(ask(), model._images.get(ask().image))
    begin = inputs["input_ids"].shape[1]
    output = weights.generate(**inputs, max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=3)
    expected = output[0, begin:].tolist()
    for portion in (1, 5):
        context = HfContext(weights, inputs)
        read_so_far = []
        while len(read_so_far) < len(expected):
            assert int(context.feed(read_so_far[-portion:]).argmax()) == expected[len(read_so_far)]
            read_so_far = expected[: len(read_so_far) + portion]
