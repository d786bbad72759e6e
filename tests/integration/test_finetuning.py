"""From instruction data to a served checkpoint: tiny models of the real architectures, the bundled one."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
import torch
from safetensors.torch import load_file

from services.chassis.server import start_server
from services.generator.__main__ import build
from services.generator.answer_grammar import answer_language
from services.generator.decoding.constraint import TokenVocabulary
from services.generator.decoding.loop import decode
from services.generator.settings import BUNDLED_CHECKPOINT, GeneratorSettings
from tests.tiny_backbones import save_tiny_backbone
from tests.tuning_data import PHRASE, QUESTION, TINY_BY_NAME, truth, write_data
from text4seg.segmentation import DescriptorConstraint, GenerateRequest, Turn
from text4seg.v1.generator_service_pb2_grpc import GeneratorServiceStub
from text4seg.wire import generate_request_to_proto, text_chunk_from_proto
from training.export import export, fill_triton
from training.export import main as export_main
from training.finetune import ADAPTER, COMPLETE, RUN, STATES, Run, finetune
from training.finetune import main as finetune_main
from training.tuning.backbone import load_base, load_model
from training.tuning.batches import UNKNOWN, encode
from training.tuning.conversations import Conversation
from training.tuning.recipe import TuningError, load_recipe

torch.set_num_threads(1)

REQUEST_TURNS = (Turn("user", QUESTION),)
ROOT = Path(__file__).resolve().parents[2]


class WholeText:
    """A model that reads everything again for every token: no cache, and adapters as training left them."""

    def __init__(self, model, inputs):
        self.model, self.inputs = model, inputs

    @torch.no_grad()
    def feed(self, tokens):
        added = torch.tensor([list(tokens)], dtype=torch.int64)
        length = self.inputs["input_ids"].shape
        fills = {"input_ids": added, "attention_mask": torch.ones_like(added)}
        for name, value in self.inputs.items():
            if value.shape == length:
                self.inputs[name] = torch.cat([value, fills.get(name, torch.zeros_like(added))], dim=1)
        return self.model(**self.inputs).logits[0, -1]


def request_for(image):
    return GenerateRequest(image.read_bytes(), REQUEST_TURNS, DescriptorConstraint((PHRASE,)))


def own_answer(model, base, recipe, image):
    """The trained model's greedy answer under the grammar, in process."""
    turns = (*REQUEST_TURNS, Turn("assistant", "x"))
    example = encode(Conversation("here", image, turns, "last"), base, 4096)
    prompt = int((example.pop("labels") == UNKNOWN).sum())
    length = example["input_ids"].shape
    inputs = {name: value[:, :prompt] if value.shape == length else value for name, value in example.items()}
    lead = "" if base.prompt is None else base.prompt.lead
    tokenizer = base.processor.tokenizer
    model = model.eval()
    size = model.get_output_embeddings().weight.shape[0]
    vocabulary = TokenVocabulary(tokenizer, size, [tokenizer.eos_token_id])
    language = answer_language(request_for(image), recipe.grid, recipe.codec, lead)
    steps = decode(
        WholeText(model, inputs),
        vocabulary.constraint(language),
        vocabulary.end_tokens,
        2048,
        lambda: False,
        batch_forced=True,
    )
    tokens = [token for step in steps for token, _ in step.tokens]
    text = b"".join(map(vocabulary.token_bytes, tokens)).decode()
    return text.removeprefix(lead)


async def served_answers(images, **settings):
    """What the generator service answers, over gRPC."""
    chosen = GeneratorSettings(address="127.0.0.1:0", drain_s=0, engine="hf", **settings)
    service = await start_server("generator", chosen, build)
    try:
        await service.wait_serving()
        async with grpc.aio.insecure_channel(service.address) as channel:
            stub = GeneratorServiceStub(channel)
            answers = []
            for image in images:
                call = stub.Generate(generate_request_to_proto(request_for(image)), timeout=120)
                answers.append("".join([text_chunk_from_proto(chunk).text async for chunk in call]))
            return answers
    finally:
        await service.stop()


def losses(folder):
    with (folder / "loss.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("llava"), TINY_BY_NAME["llava-1.5-7b"])


def run_of(folder, base, recipe="tiny-llava", *changes, **options):
    data = options.pop("data", None) or (write_data(folder / "data"),)
    return Run(load_recipe(recipe, changes), base, data, folder / "run", device="cpu", **options)


@pytest.fixture(scope="module")
def trained(llava, tmp_path_factory):
    """A tiny LLaVA that has learned where the box is."""
    run = run_of(tmp_path_factory.mktemp("trained"), llava)
    return run, finetune(run)


async def test_what_was_learned_is_served(trained, tmp_path):
    run, model = trained
    images = [run.data[0].parent / f"{number}.png" for number in range(2)]
    base = load_base(run.base, run.recipe)
    own = [own_answer(model, base, run.recipe, image) for image in images]
    assert own == [truth(0), truth(1)]
    export(run.out, tmp_path / "merged")
    assert await served_answers(images, checkpoint=tmp_path / "merged") == own
    export(run.out, tmp_path / "adapter", merge=False)
    assert await served_answers(images, checkpoint=run.base, adapter=tmp_path / "adapter") == own


def test_the_exported_checkpoint_says_what_it_is(trained, tmp_path):
    run, _ = trained
    export(run.out, tmp_path / "mine")
    entry = json.loads((tmp_path / "mine" / "config.json").read_text())["text4seg"]
    assert entry == {
        "model": "mine",
        "backbone": "llava-1.5-7b",
        "grid": [4, 4],
        "codec": "r-rle",
        "template_version": "1",
        "image_size": [28, 28],
    }
    export(run.out, tmp_path / "adapter", "other", merge=False)
    assert json.loads((tmp_path / "adapter" / "text4seg.json").read_text()) == {**entry, "model": "other"}
    assert not list(tmp_path.glob("*.partial"))


def test_the_curve_falls_and_is_drawn(trained):
    run, _ = trained
    curve = losses(run.out)
    assert len(curve) == 13
    assert curve[-1] < curve[0] / 100
    assert (run.out / "loss.png").stat().st_size > 1000


def test_held_out_data_has_a_curve_of_its_own(llava, tmp_path):
    held_out = write_data(tmp_path / "held-out", 3)
    changes = ("steps=4", "keep_every=2", "log_every=1", "dropout=0.0")
    run = run_of(tmp_path, llava, "tiny-llava", *changes, validation=(held_out,))
    finetune(run)
    with (run.out / "loss.csv").open() as file:
        rows = {row["step"]: float(row["eval_loss"]) for row in csv.DictReader(file) if row["eval_loss"]}
    assert rows.keys() == {"2", "4"}
    # The same two pictures, more or less, so what is learned of the ones helps with the others.
    assert rows["4"] < rows["2"] < losses(run.out)[0]


def test_a_finished_run_is_left_alone(trained):
    run, _ = trained
    before = (run.out / ADAPTER / "adapter_model.safetensors").stat().st_mtime_ns
    assert finetune(run) is None
    assert (run.out / ADAPTER / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_only_adapters_are_learned(trained, llava):
    _, model = trained
    base = load_model(llava, torch.float32).state_dict()
    seen = set()
    for name, value in model.named_parameters():
        if "lora_" in name:
            assert value.requires_grad
            continue
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        assert not value.requires_grad
        assert torch.equal(value, base[plain]), plain
        seen.add(plain)
    assert seen == base.keys()


@pytest.mark.parametrize(
    ("recipe", "backbone", "changes"),
    [
        ("tiny-qwen", "qwen2.5-vl-7b", ()),
        ("nano", None, ("global_batch=2", "steps=4", "keep_every=4", "log_every=1", "learning_rate=0.002")),
    ],
)
async def test_tiny_qwen_and_the_bundled_model(recipe, backbone, changes, tmp_path):
    base = BUNDLED_CHECKPOINT
    if backbone is not None:
        base = save_tiny_backbone(tmp_path / "base", TINY_BY_NAME[backbone])
    grid = load_recipe(recipe).grid
    data = write_data(tmp_path / "data", 2, grid)
    run = run_of(tmp_path, base, recipe, *changes, data=(data,))
    model = finetune(run)
    curve = losses(run.out)
    assert curve[-1] < 0.9 * curve[0]
    export(run.out, tmp_path / "served")
    images = [tmp_path / "data" / "0.png"]
    own = [own_answer(model, load_base(base, run.recipe), run.recipe, image) for image in images]
    assert await served_answers(images, checkpoint=tmp_path / "served") == own


@pytest.mark.parametrize("backbone", ["deepseek-vl-1.3b", "qwen3-vl-8b", "internvl3-8b", "smolvlm2-2.2b"])
def test_other_backbones_take_a_step_in_half_precision_with_checkpointing(backbone, tmp_path):
    tiny = TINY_BY_NAME[backbone]
    base = save_tiny_backbone(tmp_path / "base", tiny)
    changes = (
        "grid=[4, 4]",
        f"image_size=[{tiny.side}, {tiny.side}]",
        "global_batch=4",
        "learning_rate=0.01",
        "steps=3",
        "log_every=1",
    )
    model = finetune(run_of(tmp_path, base, backbone, *changes))
    curve = losses(tmp_path / "run")
    assert len(curve) == 3
    assert curve[2] < curve[0] - 0.1
    dtypes = {name: value.dtype for name, value in model.named_parameters()}
    assert {dtype for name, dtype in dtypes.items() if "lora_" in name} == {torch.float32}
    assert {dtype for name, dtype in dtypes.items() if "base_layer" in name} == {torch.bfloat16}
    # What Qwen3-VL's second deepstack merger says is added behind the last of its twin's two layers.
    still = {name for name, value in model.named_parameters() if "lora_B" in name and not value.any()}
    assert all("deepstack_merger_list.1" in name for name in still)


# Interrupted, and on several devices.


def command(run, *more):
    return [
        *("-m", "training.finetune", "--recipe", "tiny-llava", "--base", str(run.base), "--device", "cpu"),
        *("--data", str(run.data[0]), "--out", str(run.out), "--threads", "1", *more),
    ]


def start(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def weights(folder):
    return load_file(folder / ADAPTER / "adapter_model.safetensors")


def test_a_killed_run_ends_as_if_it_had_not_been_killed(llava, tmp_path):
    # Seven examples in steps of four: it is killed within a pass over the data. Dropout draws at every step.
    changes = ("steps=24", "keep_every=3", "dropout=0.1", "log_every=2")
    data = (write_data(tmp_path / "data", 7),)
    whole = run_of(tmp_path / "whole", llava, "tiny-llava", *changes, data=data)
    finetune(whole)
    killed = run_of(tmp_path / "killed", llava, "tiny-llava", *changes, data=data)
    process = start(*command(killed, *(part for change in changes for part in ("--set", change))))
    states = killed.out / STATES
    end = time.monotonic() + 200
    while not (states / "checkpoint-3" / COMPLETE).exists() and time.monotonic() < end:
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (killed.out / ADAPTER).exists()
    # What a crash leaves of a state that was being written.
    (states / "checkpoint-23").mkdir()
    (states / "checkpoint-23" / "trainer_state.json").write_text("{")
    finetune(killed)
    first, second = weights(whole.out), weights(killed.out)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(whole.out) == losses(killed.out)


def test_two_processes_learn_what_one_does(llava, tmp_path):
    changes = ("steps=3", "keep_every=3", "dropout=0.0", "log_every=1", "per_device=2")
    alone = run_of(tmp_path / "alone", llava, "tiny-llava", *changes)
    finetune(alone)
    pair = run_of(tmp_path / "pair", llava, "tiny-llava", *changes, data=alone.data)
    sets = [part for change in changes for part in ("--set", change)]
    launch = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1")
    options = ("--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1")
    process = start(*launch, *options, *command(pair, *sets))
    try:
        output, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, output.decode()
    first, second = weights(alone.out), weights(pair.out)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-4)
    assert losses(pair.out) == pytest.approx(losses(alone.out), rel=1e-3)


# What is wrong is said in one line.


@pytest.mark.parametrize(
    ("change", "named"),
    [("rank=8", "rank"), ("seed=1", "seed"), ("learning_rate=0.1", "learning_rate")],
)
def test_a_folder_with_another_recipe_is_refused(trained, change, named):
    run, _ = trained
    recipe = load_recipe("tiny-llava", [change])
    with pytest.raises(TuningError, match=f"holds a run with another {named}; choose another --out"):
        finetune(Run(recipe, run.base, run.data, run.out, device="cpu"))


def test_a_folder_with_other_data_or_base_is_refused(trained, tmp_path):
    run, _ = trained
    other = write_data(tmp_path / "data", 5)
    base = save_tiny_backbone(tmp_path / "base", TINY_BY_NAME["llava-1.5-7b"], seed=1)
    with pytest.raises(TuningError, match="another base, data; choose"):
        finetune(Run(run.recipe, base, (other,), run.out, device="cpu"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "nobody"], "no recipe nobody"),
        (["--recipe", "tiny-llava", "--set", "rnak=3"], "unknown key 'rnak'"),
        (["--recipe", "tiny-llava", "--data", "nowhere.jsonl"], "no file nowhere.jsonl"),
        (["--recipe", "tiny-llava", "--base", "nowhere"], "has no config.json"),
        (["--recipe", "tiny-llava", "--set", "global_batch=5"], "global_batch = 5 is no multiple"),
        (["--recipe", "tiny-llava", "--set", "targets='nothing'"], "no layer that targets = 'nothing'"),
        (["--recipe", "tiny-llava", "--set", "grid=[8, 8]"], "not what the recipe says, 8x8"),
        (["--recipe", "tiny-llava", "--set", "max_tokens=20"], "the recipe's max_tokens is 20"),
        (["--recipe", "tiny-llava", "--deepspeed", "x.json"], "would do nothing with --device cpu"),
        (["--recipe", "tiny-qwen"], "is Qwen2.5-VL, and the model is of type 'llava'"),
    ],
)
def test_command_line_says_what_is_wrong_in_one_line(llava, tmp_path, capsys, arguments, message):
    data = write_data(tmp_path / "data")
    defaults = {"--base": str(llava), "--data": str(data), "--out": str(tmp_path / "run"), "--device": "cpu"}
    given = [*(part for pair in defaults.items() for part in pair), *arguments]
    assert finetune_main(given) == 1
    said = capsys.readouterr().err
    assert said.startswith("finetune: ")
    assert message in said
    assert said.count("\n") == 1


def test_an_interrupted_run_says_how_to_go_on(llava, tmp_path, capsys, monkeypatch):
    def interrupted(outputs, labels, num_items_in_batch=None):
        raise KeyboardInterrupt

    monkeypatch.setattr("training.finetune.answer_loss", interrupted)
    data = write_data(tmp_path / "data")
    arguments = ["--base", str(llava), "--data", str(data), "--recipe", "tiny-llava", "--device", "cpu"]
    assert finetune_main([*arguments, "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err.startswith("finetune: interrupted; the same command goes on")


def test_a_disk_that_cannot_be_written(llava, tmp_path, capsys):
    data = write_data(tmp_path / "data")
    (tmp_path / "file").write_text("")
    arguments = ["--base", str(llava), "--data", str(data), "--recipe", "tiny-llava", "--device", "cpu"]
    assert finetune_main([*arguments, "--out", str(tmp_path / "file" / "run")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_image_that_is_damaged_stops_a_worker_with_one_line(llava, tmp_path, capsys):
    data = write_data(tmp_path / "data")
    (tmp_path / "data" / "2.png").write_bytes(b"no image")
    arguments = ["--base", str(llava), "--data", str(data), "--recipe", "tiny-llava", "--device", "cpu"]
    assert finetune_main([*arguments, "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "train.jsonl:3: cannot read" in said


def test_what_cannot_be_exported(trained, tmp_path, capsys):
    run, _ = trained
    (tmp_path / "taken").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / RUN).write_text((run.out / RUN).read_text())
    cases = {
        ("nowhere", "out"): "holds no run",
        ("begun", "out"): "is not finished",
        (str(run.out), "taken"): "exists already",
    }
    for (folder, out), message in cases.items():
        assert export_main([str(tmp_path / folder), "--out", str(tmp_path / out)]) == 1
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert export_main([str(run.out), "--out", str(tmp_path / "x"), "--base", str(tmp_path)]) == 1
    assert "has no config.json" in capsys.readouterr().err


# Triton.


def test_triton_repository(trained, tmp_path, capsys):
    run, _ = trained
    arguments = [str(run.out), "--out", str(tmp_path / "mine"), "--triton", str(tmp_path / "repository")]
    assert export_main(arguments) == 0
    assert "T4S_GENERATOR_CHECKPOINT=" in capsys.readouterr().out
    config = (tmp_path / "repository" / "mine" / "config.pbtxt").read_text()
    assert 'name: "mine"\n' in config
    assert f'"checkpoint" value {{ string_value: "{tmp_path / "mine"}" }}' in config
    assert (tmp_path / "repository" / "mine" / "1" / "model.py").is_file()
    again = [str(run.out), "--out", str(tmp_path / "again"), "--name", "mine", *arguments[3:]]
    assert export_main(again) == 1
    assert "exists already" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()
    folder = fill_triton(tmp_path / "repository", "apart", tmp_path / "mine", run.base)
    assert (
        f'"adapter" value {{ string_value: "{tmp_path / "mine"}" }}' in (folder / "config.pbtxt").read_text()
    )
    for name, message in {"mine": "exists already", "a b": "cannot be the name"}.items():
        with pytest.raises(TuningError, match=message):
            fill_triton(tmp_path / "repository", name, tmp_path / "mine")


async def test_triton_answers_like_the_trained_model(trained, triton, tmp_path):
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    from tests.triton_server import triton_model

    run, model = trained
    export(run.out, tmp_path / "mine")
    folder = fill_triton(triton.log.parent / "models", "mine", tmp_path / "mine")
    image = run.data[0].parent / "1.png"
    own = own_answer(model, load_base(run.base, run.recipe), run.recipe, image)
    try:
        async with grpc.aio.insecure_channel(triton.url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            await stub.RepositoryModelLoad(
                service_pb2.RepositoryModelLoadRequest(model_name="mine"), timeout=200
            )
            async with triton_model(triton, "mine") as engine:
                chunks = [chunk async for chunk in engine.write(request_for(image))]
            await stub.RepositoryModelUnload(
                service_pb2.RepositoryModelUnloadRequest(model_name="mine"), timeout=60
            )
    finally:
        shutil.rmtree(folder)
    assert "".join(chunk.text for chunk in chunks) == own
