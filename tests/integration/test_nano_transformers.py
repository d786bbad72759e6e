"""The nano model as transformers loads, saves and runs it."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.utils import logging as transformers_logging

from tests.tiny_nano import GRID, SIDE, tiny_model, tiny_processor
from text4seg_nano import Text4SegNanoConfig, Text4SegNanoForConditionalGeneration, Text4SegNanoProcessor

QUESTION = "Please segment only the cat in the image."


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture
def library_log(caplog):
    """What transformers logs, which does not reach the root logger by itself."""
    library = logging.getLogger("transformers")
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_warning()
    library.addHandler(caplog.handler)
    yield caplog
    library.removeHandler(caplog.handler)
    transformers_logging.set_verbosity(level)


def picture(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def conversation(*texts, image=None):
    """Turns that alternate between user and assistant."""
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": [{"type": "text", "text": text}]}
        for number, text in enumerate(texts)
    ]
    messages[0]["content"].insert(0, {"type": "image", **({} if image is None else {"image": image})})
    return messages


def inputs_of(processor, *texts):
    prompt = processor.apply_chat_template(conversation(*texts), add_generation_prompt=True)
    return processor(text=prompt, images=picture())


def test_auto_classes_load_what_was_saved(model, checkpoint, library_log):
    loaded, report = AutoModelForImageTextToText.from_pretrained(checkpoint, output_loading_info=True)
    processor = AutoProcessor.from_pretrained(checkpoint)
    assert isinstance(loaded, Text4SegNanoForConditionalGeneration)
    assert isinstance(processor, Text4SegNanoProcessor)
    assert not any(report.values())
    assert library_log.messages == []
    own = model.state_dict()
    assert list(loaded.state_dict()) == list(own)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, own[name]), name
    inputs = inputs_of(processor, QUESTION)
    with torch.inference_mode():
        assert torch.equal(
            loaded.eval()(**inputs).logits, model(**inputs_of(tiny_processor(), QUESTION)).logits
        )


def test_statistics_of_the_features_are_saved_and_the_head_is_not(model, checkpoint):
    with safe_open(checkpoint / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
        assert torch.equal(weights.get_tensor("connector.mean"), model.connector.mean)
        assert torch.equal(weights.get_tensor("connector.deviation"), model.connector.deviation)
    assert set(model.state_dict()) - names == {"lm_head.weight"}
    loaded = AutoModelForImageTextToText.from_pretrained(checkpoint)
    assert loaded.lm_head.weight is loaded.embed_tokens.weight


def test_half_precision(model, checkpoint, tmp_path):
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype="auto")
    assert loaded.dtype == torch.bfloat16
    with torch.inference_mode():
        logits = loaded.eval()(**inputs_of(tiny_processor(), QUESTION)).logits
    assert logits.isfinite().all()


def test_configuration_round_trip(model, checkpoint):
    loaded = AutoConfig.from_pretrained(checkpoint)
    assert isinstance(loaded, Text4SegNanoConfig)
    volatile = ("architectures", "dtype", "_name_or_path", "transformers_version")
    one, other = ({k: v for k, v in c.to_dict().items() if k not in volatile} for c in (loaded, model.config))
    assert one == other
    written = json.loads((checkpoint / "config.json").read_text())
    assert written["text4seg"]["grid"] == [GRID, GRID]
    assert written["count_token_ids"] == loaded.count_token_ids
    assert written["eos_token_id"] != written["pad_token_id"]


def test_processor_round_trip(checkpoint):
    loaded = AutoProcessor.from_pretrained(checkpoint)
    assert (loaded.image_size, loaded.image_tokens) == (SIDE, GRID * GRID)
    one, other = inputs_of(loaded, QUESTION, "Sure", "and the mat"), inputs_of(tiny_processor(), QUESTION)
    assert one["input_ids"].shape[1] > other["input_ids"].shape[1]
    assert loaded.chat_template == tiny_processor().chat_template
    assert AutoTokenizer.from_pretrained(checkpoint).eos_token == "<|end|>"


def test_chat_template_of_one_turn():
    prompt = tiny_processor().apply_chat_template(conversation(QUESTION), add_generation_prompt=True)
    assert prompt == f"<|user|><image>{QUESTION}<|assistant|>"


def test_chat_template_of_several_turns():
    turns = conversation(QUESTION, "Sure\n<seg>cat *4\n</seg>", "and the mat")
    prompt = tiny_processor().apply_chat_template(turns, add_generation_prompt=True)
    answered = f"<|user|><image>{QUESTION}<|assistant|>Sure\n<seg>cat *4\n</seg><|end|>"
    assert prompt == f"{answered}<|user|>and the mat<|assistant|>"


def test_chat_template_of_plain_strings():
    turns = [{"role": "user", "content": "<image>hello"}, {"role": "assistant", "content": "Sure"}]
    assert tiny_processor().apply_chat_template(turns) == "<|user|><image>hello<|assistant|>Sure<|end|>"


def test_chat_template_with_tokens_and_image():
    inputs = tiny_processor().apply_chat_template(
        conversation(QUESTION, image=picture()),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    expected = inputs_of(tiny_processor(), QUESTION)
    assert torch.equal(inputs["input_ids"], expected["input_ids"])
    assert torch.equal(inputs["pixel_values"], expected["pixel_values"])


def test_images_and_places_must_agree():
    processor = tiny_processor()
    with pytest.raises(ValueError, match="2 images for 1 times <image>"):
        processor(text="<|user|><image>cat", images=[picture(), picture()])
    with pytest.raises(ValueError, match="1 images for 0 times <image>"):
        processor(text="cat", images=picture())
    with pytest.raises(ValueError, match="uint8 arrays, not float64"):
        processor(images=np.zeros((4, 4, 3)))


def greedy(model, inputs, steps):
    """Read everything again for every token."""
    ids = inputs["input_ids"]
    for _ in range(steps):
        logits = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    return ids


@pytest.mark.parametrize("texts", [(QUESTION,), (QUESTION, "Sure\n<seg>cat *4\n</seg>", "and the mat")])
@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"prompt_lookup_num_tokens": 2}])
def test_generate_is_greedy(model, texts, options, library_log):
    inputs = inputs_of(tiny_processor(), *texts)
    with torch.inference_mode():
        expected = greedy(model, inputs, 12)
        written = model.generate(**inputs, max_new_tokens=12, do_sample=False, eos_token_id=None, **options)
    assert torch.equal(written, expected)
    assert library_log.messages == []


def test_generate_from_image_features(model):
    inputs = inputs_of(tiny_processor(), QUESTION)
    with torch.inference_mode():
        expected = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        features = model.encode_image(inputs.pop("pixel_values"))
        assert torch.equal(
            model.generate(**inputs, image_features=features, max_new_tokens=8, do_sample=False), expected
        )


def test_generate_stops_at_the_end_token(model):
    inputs = inputs_of(tiny_processor(), QUESTION)
    with torch.inference_mode():
        free = model.generate(**inputs, max_new_tokens=6, do_sample=False, eos_token_id=None)[0]
        fresh = free[inputs["input_ids"].shape[1] :]
        stopped = model.generate(**inputs, max_new_tokens=6, do_sample=False, eos_token_id=int(fresh[2]))[0]
    until = fresh.tolist().index(int(fresh[2])) + 1
    assert stopped.tolist() == free[: inputs["input_ids"].shape[1] + until].tolist()


def test_generate_for_a_batch(model, library_log):
    processor = tiny_processor()
    questions = [QUESTION, "Please segment only the white horse on the mat in the image."]
    prompts = [
        processor.apply_chat_template(conversation(question), add_generation_prompt=True)
        for question in questions
    ]
    options = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None}
    with torch.inference_mode():
        batch = processor(text=prompts, images=[picture(0), picture(1)])
        together = model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :]
        for index, prompt in enumerate(prompts):
            inputs = processor(text=prompt, images=picture(index))
            alone = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
            assert torch.equal(together[index], alone[0])
    assert library_log.messages == []
