"""Engine ``hf`` on each family that transformers has, as a tiny random model of the real architecture."""

import json
import shutil
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from services.generator.answer_grammar import answer_language
from services.generator.decoding.loop import decode
from services.generator.hf_context import HfContext
from services.generator.hf_model import load_hf_model
from services.generator.quantization import Quantization
from tests.tiny_backbones import TINY, save_tiny_backbone
from tests.tiny_llava import SHAPE, image_file, read
from text4seg.backbones import FAMILIES, Engine, find_backbone
from text4seg.descriptors import decode_strict
from text4seg.dialogue import find_blocks
from text4seg.errors import CheckpointError, QueryInvalidError
from text4seg.segmentation import DescriptorConstraint, GenerateRequest, Turn

QUESTION = "Please segment only the dog in the image."
CHATML = f"<|im_start|>user\n{{image}}{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
DEEPSEEK = (
    "<｜begin▁of▁sentence｜>You are a helpful language and vision assistant. You are able to understand the "
    "visual content that the user provides, and assist the user with a variety of tasks using natural "
    "language.\n\n"
    f"User: {{image}}{QUESTION}\n\nAssistant:"
)
PROMPTS = {
    "llava-1.5-7b": f"<s>USER: <image><image><image><image>\n{QUESTION}\nASSISTANT:",
    "deepseek-vl-1.3b": DEEPSEEK.format(image="<image_placeholder>" * 16),
    "deepseek-vl-7b": DEEPSEEK.format(image="<image_placeholder>" * 576),
    "qwen2.5-vl-7b": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    + CHATML.format(
        image="<|vision_start|><|image_pad|><|image_pad|><|image_pad|><|image_pad|><|vision_end|>"
    ),
    "qwen3-vl-8b": CHATML.format(
        image="<|vision_start|><|image_pad|><|image_pad|><|image_pad|><|image_pad|><|vision_end|>"
    ),
    "internvl3-8b": CHATML.format(image="<img><IMG_CONTEXT><IMG_CONTEXT><IMG_CONTEXT><IMG_CONTEXT></img>\n"),
    "smolvlm2-2.2b": (
        "<|im_start|>User:<fake_token_around_image><global-img><image><image><image><image>"
        f"<fake_token_around_image>{QUESTION}<end_of_utterance>\nAssistant:"
    ),
}
"""What the model reads about a question, each image token written out."""


def ask(label="dog"):
    turns = (Turn("user", QUESTION),)
    return GenerateRequest(image_file(size=(120, 200)), turns, DescriptorConstraint((label,)))


def never():
    return False


def answer(model, request=None):
    """Text and log-probabilities of an answer."""
    chunks = list(model.write(request or ask(), never))
    logprobs = [token.logprob for chunk in chunks for token in chunk.logprobs]
    return "".join(chunk.text for chunk in chunks), logprobs


@pytest.fixture(scope="module", params=TINY, ids=lambda tiny: tiny.backbone)
def tiny(request):
    return request.param


@pytest.fixture(scope="module")
def path(tiny, tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("base"), tiny)


@pytest.fixture(scope="module")
def model(path):
    return load_hf_model(path, read)


@pytest.fixture(scope="module")
def adapted(tiny, path, tmp_path_factory):
    """An adapter on the profile's layers, and the model that it was merged into by PEFT."""
    family, _ = find_backbone(tiny.backbone)
    torch.manual_seed(1)
    base = AutoModelForImageTextToText.from_pretrained(path)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=family.lora_targets, init_lora_weights=False)
    with warnings.catch_warnings():
        # PEFT 0.21 asks for a property that transformers 5.23 renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        tuned = get_peft_model(base, config)
    adapter = tmp_path_factory.mktemp("adapter")
    tuned.save_pretrained(adapter)
    merged = tmp_path_factory.mktemp("merged")
    shutil.copytree(path, merged, dirs_exist_ok=True)
    tuned.merge_and_unload().save_pretrained(merged)
    entry = json.loads((path / "config.json").read_text())["text4seg"]
    written = json.loads((merged / "config.json").read_text())
    (merged / "config.json").write_text(json.dumps({**written, "text4seg": entry}))
    return adapter, merged


def test_every_family_of_transformers_is_here():
    served = {family.name for family in FAMILIES if Engine.HF in family.engines}
    assert {find_backbone(tiny.backbone)[0].name for tiny in TINY} == served


def test_prompt_is_read_to_the_letter(model, tiny):
    request = ask()
    inputs = model._inputs(request, model._images.get(request.image))
    tokenizer = model._checkpoint.processor.tokenizer
    expected = tokenizer(PROMPTS[tiny.backbone], add_special_tokens=False)["input_ids"]
    assert inputs["input_ids"][0].tolist() == expected


def test_image_is_one_squashed_tile(model, tiny):
    for height, width in ((120, 200), (300, 40), (7, 500)):
        image = model._images.get(image_file(size=(height, width)))
        assert image.picture.size == (tiny.side, tiny.side)
        inputs = model._inputs(ask(), image)
        assert {name: tuple(inputs[name].shape) for name in tiny.pixels} == tiny.pixels
        mark = model._checkpoint.processor.image_token
        marks = inputs["input_ids"] == model._checkpoint.processor.tokenizer.convert_tokens_to_ids(mark)
        assert int(marks.sum()) == tiny.visual_tokens


def test_profile_s_tile_takes_the_tokens_that_it_says(tiny, tmp_path):
    _, backbone = find_backbone(tiny.backbone)
    torch.manual_seed(0)
    weights, processor = tiny.build(backbone.image_side)
    weights.config.get_text_config().max_position_embeddings = 2048
    weights.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    entry = {"backbone": tiny.backbone, "grid": SHAPE, "codec": "r-rle", "template_version": "1"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "text4seg": entry}))
    model = load_hf_model(tmp_path, read)
    request = ask()
    image = model._images.get(request.image)
    assert image.picture.size == (backbone.image_side, backbone.image_side)
    inputs = model._inputs(request, image)
    mark = model._checkpoint.processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    assert int((inputs["input_ids"] == mark).sum()) == backbone.visual_tokens
    logits = HfContext(model._checkpoint.model, inputs).feed([])
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("label", ["dog", "white horse", "löwe"])
def test_constrained_answer_decodes_to_a_grid(model, label):
    text, _ = answer(model, ask(label))
    assert text.startswith(f"Sure, here is the segmentation mask for '{label}':\n<seg>")
    (block,) = find_blocks(text)
    assert decode_strict(block.text, SHAPE, [label]).shape == SHAPE


def test_streamed_answer_is_the_whole_one(model):
    """Chunk by chunk with forced tokens in one pass, against all tokens one by one."""
    request = ask()
    streamed, _ = answer(model, request)
    checkpoint = model._checkpoint
    lead = checkpoint.facts.prompt.lead
    language = answer_language(request, SHAPE, model.info.codec, lead)
    context = HfContext(checkpoint.model, model._inputs(request, model._images.get(request.image)))
    ends = checkpoint.vocabulary.end_tokens
    steps = decode(context, checkpoint.vocabulary.constraint(language), ends, 400, never, batch_forced=False)
    tokens = [token for step in steps for token, _ in step.tokens]
    whole = b"".join(map(checkpoint.vocabulary.token_bytes, tokens)).decode()
    assert lead + streamed == whole


def test_tokens_are_those_of_generate_alone_and_in_portions(model):
    weights = model._checkpoint.model
    inputs = model._inputs(ask(), model._images.get(ask().image))
    begin = inputs["input_ids"].shape[1]
    pad = model._checkpoint.processor.tokenizer.pad_token_id
    output = weights.generate(
        **inputs, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=pad
    )
    expected = output[0, begin:].tolist()
    for portion in (1, 5):
        context = HfContext(weights, inputs)
        read_so_far = []
        while len(read_so_far) < len(expected):
            assert int(context.feed(read_so_far[-portion:]).argmax()) == expected[len(read_so_far)]
            read_so_far = expected[: len(read_so_far) + portion]


def test_image_reaches_the_answer(model):
    request = ask()
    logits = []
    for seed in (0, 1):
        inputs = model._inputs(request, model._images.get(image_file(seed, (120, 200))))
        logits.append(HfContext(model._checkpoint.model, inputs).feed([]))
    assert not torch.allclose(*logits)


def test_image_placeholder_from_a_caller_is_refused(model):
    mark = model._checkpoint.processor.image_token
    request = GenerateRequest(image_file(), (Turn("user", f"what is {mark} here"),), None)
    with pytest.raises(QueryInvalidError, match="control text"):
        answer(model, request)


def test_adapter_changes_the_answer_as_its_merged_model_does(model, path, adapted):
    adapter, merged = adapted
    own = load_hf_model(path, read, adapter=adapter)
    whole = load_hf_model(merged, read)
    before, after, expected = (answer(each) for each in (model, own, whole))
    assert after[0] == expected[0]
    assert after[1] == pytest.approx(expected[1], abs=1e-4)
    assert before[1] != pytest.approx(after[1], abs=1e-3)
    assert len({each.info.version for each in (model, own, whole)}) == 3


def test_adapter_s_directory_finds_its_model(path, adapted):
    adapter, _ = adapted
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(path)
    by_itself, together = load_hf_model(adapter, read), load_hf_model(path, read, adapter=adapter)
    assert by_itself.info.version == together.info.version
    assert answer(by_itself) == answer(together)


def test_adapter_covers_the_language_model_but_not_its_output_layer(adapted, tiny):
    adapter, _ = adapted
    layers = {name.partition(".lora_")[0] for name in load_file(adapter / "adapter_model.safetensors")}
    inner = "text_model" if tiny.backbone.startswith("smolvlm") else "language_model"
    text = {name for name in layers if f".{inner}.layers." in name}
    assert len(text) == 2 * 7
    assert not any("lm_head" in name or "embed" in name for name in layers)


def test_adapter_for_other_sizes_is_one_clear_line(path, adapted, tmp_path):
    adapter, _ = adapted
    shutil.copytree(adapter, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    wider = {name: torch.cat([value, value], dim=-1) for name, value in weights.items()}
    save_file(wider, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="does not fit the model") as caught:
        load_hf_model(path, read, adapter=tmp_path)
    assert "\n" not in str(caught.value)
    assert "it was made for" in str(caught.value)


@pytest.mark.parametrize("quantization", [Quantization.EIGHT_BIT, Quantization.FOUR_BIT])
def test_quantized_weights_write_well_formed_answers_and_take_an_adapter(path, adapted, quantization):
    adapter, _ = adapted
    plain = load_hf_model(path, read, quantization=quantization)
    kinds = {type(module).__name__ for module in plain._checkpoint.model.modules()}
    assert ("Linear8bitLt" in kinds) == (quantization is Quantization.EIGHT_BIT)
    assert ("Linear4bit" in kinds) == (quantization is Quantization.FOUR_BIT)
    tuned = load_hf_model(path, read, adapter=adapter, quantization=quantization)
    before, after = answer(plain), answer(tuned)
    for text, _ in (before, after):
        (block,) = find_blocks(text)
        assert decode_strict(block.text, SHAPE, ["dog"]).shape == SHAPE
    assert before[1] != pytest.approx(after[1], abs=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_writes_well_formed_answers(path, dtype):
    model = load_hf_model(path, read, dtype=dtype)
    assert model._checkpoint.model.dtype is getattr(torch, dtype)
    text, _ = answer(model)
    (block,) = find_blocks(text)
    assert decode_strict(block.text, SHAPE, ["dog"]).shape == SHAPE
