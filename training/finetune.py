"""Fine-tune a backbone on instruction data: ``python -m training.finetune --recipe NAME --base DIR ...``.

LoRA with transformers' Trainer and PEFT; loss on answers only. An interrupted run goes on where it was when
the same command is given again, and ends as if it had not been interrupted. On several GPUs it runs under
``accelerate launch``. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from text4seg.dialogue import TEMPLATE_VERSION
from text4seg.errors import CheckpointError
from training.tuning.backbone import DTYPES, Base, adapt, load_base, load_model
from training.tuning.batches import Collator, Examples, answer_loss
from training.tuning.conversations import Conversations, Writing
from training.tuning.curves import COLUMNS, draw_curves, replace_file, write_csv
from training.tuning.recipe import Recipe, TuningError, check_recipe, load_recipe

RUN, ADAPTER, STATES, COMPLETE = "run.json", "adapter", "states", "complete"
"""In a run's folder: what it is, what it learned, what it can go on from, and the mark of a whole state."""
ADAPTER_ENTRY = "text4seg.json"
"""What an adapter says about itself (docs/descriptor-format.md)."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: which model learns what from which data, and where to.

    Attributes:
        recipe: how.
        base: directory of the base checkpoint.
        data: files or folders of instruction data.
        out: the folder of the run.
        validation: held-out data whose loss is drawn as well; may be empty.
        images: folder that image paths start from; None: that of each data file.
        deepspeed: DeepSpeed's configuration file.
        workers: processes that read images, for each device.
        device: ``"auto"`` (a GPU where there is one) or ``"cpu"``.
    """

    recipe: Recipe
    base: Path
    data: tuple[Path, ...]
    out: Path
    validation: tuple[Path, ...] = ()
    images: Path | None = None
    deepspeed: Path | None = None
    workers: int = 0
    device: str = "auto"


def finetune(run: Run) -> Any:
    """Train, or go on with an interrupted run, and write the adapter to the run's folder.

    Returns:
        The model with its adapters; None when the folder holds the finished run already.

    Raises:
        TuningError: when data or recipe are wrong, or the folder holds another run.
        CheckpointError: when the base checkpoint is missing, damaged or of another kind.
        OSError: when a file cannot be written; the last whole state is kept.
    """
    recipe = run.recipe
    base = load_base(run.base, recipe)
    writing = Writing(recipe.grid, recipe.codec, base.control_tokens)
    data = Conversations(run.data, recipe.answers, writing, run.images)
    validation = None
    if run.validation:
        held_out = Conversations(run.validation, recipe.answers, writing, run.images)
        validation = Examples(held_out, base, recipe.max_tokens)
    arguments = _arguments(run, validation is not None)
    with arguments.main_process_first():
        state = _claim(run, base, data.fingerprint(), arguments.process_index == 0)
    if (run.out / ADAPTER).exists():
        return None
    set_seed(recipe.seed)
    model = adapt(load_model(run.base, DTYPES[recipe.precision]), base, recipe)
    if recipe.gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise TuningError(f"{base.model_type} cannot be checkpointed: set gradient_checkpointing = false")
    tokenizer = base.processor.tokenizer
    pad = tokenizer.pad_token_id
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Examples(data, base, recipe.max_tokens),
        eval_dataset=validation,
        data_collator=Collator(tokenizer.eos_token_id if pad is None else pad),
        compute_loss_func=answer_loss,
        callbacks=[_Folder(run.out)],
    )
    trainer.remove_callback(PrinterCallback)  # _Folder prints
    if arguments.process_index == 0:
        learned = sum(value.numel() for value in model.parameters() if value.requires_grad)
        print(f"{len(data)} examples, {learned:,} weights are learned", flush=True)
    trainer.train(resume_from_checkpoint=None if state is None else str(state))
    if arguments.process_index == 0:
        _write_adapter(trainer.accelerator.unwrap_model(trainer.model), run, base)
    trainer.accelerator.wait_for_everyone()
    return trainer.model


def entry_of(recipe: Recipe, base: Base, model: str = "") -> dict[str, Any]:
    """Return what a checkpoint says about itself, the entry ``text4seg``.

    Args:
        recipe: that it was trained with.
        base: that was trained.
        model: its name; empty: the reader takes the directory's.
    """
    return {
        **({"model": model} if model else {}),
        **({"backbone": base.backbone} if base.backbone else {}),
        "grid": list(recipe.grid),
        "codec": recipe.codec.value,
        "template_version": TEMPLATE_VERSION,
        **({"image_size": list(base.image_size)} if base.image_size else {}),
    }


def read_run(folder: Path) -> tuple[Recipe, Path]:
    """Return the recipe and the base directory of the run in a folder.

    Raises:
        TuningError: when there is none, or it is damaged.
    """
    try:
        facts = json.loads((folder / RUN).read_text(encoding="utf-8"))
        return check_recipe(facts["recipe"], f"{folder / RUN}"), Path(facts["base"])
    except FileNotFoundError as error:
        raise TuningError(f"{folder} holds no run (no {RUN})") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TuningError(f"{folder / RUN} is damaged: {error}") from error


def _claim(run: Run, base: Base, fingerprint: str, main: bool) -> Path | None:
    """Make the folder this run's; return the state to go on from.

    Raises:
        TuningError: when it holds another run.
    """
    states = sorted(
        (path.parent for path in (run.out / STATES).glob(f"checkpoint-*/{COMPLETE}")),
        key=lambda path: int(path.name.rpartition("-")[2]),
    )
    if states or (run.out / ADAPTER).exists():
        recipe, path = read_run(run.out)
        other = [f"{key}" for key in recipe.differences(run.recipe)]
        other += ["base"] if path != run.base.resolve() else []
        known = json.loads((run.out / RUN).read_text(encoding="utf-8")).get("data")
        other += ["data"] if known != fingerprint else []
        if other:
            raise TuningError(f"{run.out} holds a run with another {', '.join(other)}; choose another --out")
    if main:
        run.out.mkdir(parents=True, exist_ok=True)
        facts = {
            "recipe": run.recipe.model_dump(mode="json"),
            "base": str(run.base.resolve()),
            "data": fingerprint,
            "text4seg": entry_of(run.recipe, base),
        }
        replace_file(run.out / RUN, (json.dumps(facts, indent=2) + "\n").encode())
        for path in (run.out / STATES).glob("checkpoint-*"):
            if path not in states:  # cut off while it was written
                shutil.rmtree(path)
    return states[-1] if states else None


def _write_adapter(model: Any, run: Run, base: Base) -> None:
    partial = run.out / f"{ADAPTER}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    entry = json.dumps(entry_of(run.recipe, base), indent=2) + "\n"
    (partial / ADAPTER_ENTRY).write_text(entry, encoding="utf-8")
    partial.replace(run.out / ADAPTER)


def _arguments(run: Run, validation: bool) -> TrainingArguments:
    recipe = run.recipe
    if run.deepspeed is not None:
        if run.device == "cpu":
            raise TuningError("--deepspeed would do nothing with --device cpu: leave one of them out")
        if not run.deepspeed.is_file():
            raise TuningError(f"no file {run.deepspeed}")
        if importlib.util.find_spec("deepspeed") is None:
            raise TuningError("--deepspeed needs the package deepspeed (extra `deepspeed`)")
    on_cpu = run.device == "cpu" or (run.deepspeed is None and not torch.cuda.is_available())
    # The first of these settles how processes talk, which DeepSpeed must have a say in.
    where: dict[str, Any] = {
        "output_dir": str(run.out / STATES),
        "use_cpu": on_cpu,
        "deepspeed": None if run.deepspeed is None else str(run.deepspeed),
    }
    probe = TrainingArguments(**where)
    if probe.n_gpu > 1:
        raise TuningError("several GPUs are here: start one process for each with `accelerate launch`")
    devices = probe.world_size
    at_a_time = min(recipe.per_device, max(recipe.global_batch // devices, 1))
    if recipe.global_batch % (at_a_time * devices):
        raise TuningError(
            f"global_batch = {recipe.global_batch} is no multiple of {devices} devices with {at_a_time} "
            "examples at a time: change per_device"
        )
    return TrainingArguments(
        **where,
        per_device_train_batch_size=at_a_time,
        per_device_eval_batch_size=at_a_time,
        gradient_accumulation_steps=recipe.global_batch // (at_a_time * devices),
        learning_rate=recipe.learning_rate,
        adam_beta1=recipe.betas[0],
        adam_beta2=recipe.betas[1],
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.clip,
        lr_scheduler_type="linear",
        warmup_steps=recipe.warm_up,
        num_train_epochs=recipe.epochs,
        max_steps=recipe.steps or -1,
        bf16=recipe.precision == "bf16",
        activation_checkpointing=recipe.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=recipe.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validation else "no",
        eval_steps=recipe.keep_every,
        prediction_loss_only=True,
        save_steps=recipe.keep_every,
        save_total_limit=2,
        seed=recipe.seed,
        data_seed=recipe.seed,
        dataloader_num_workers=run.workers,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
        # Adapters on layers whose output is not used, as on LLaVA's last vision layer, get no gradient.
        ddp_find_unused_parameters=True if devices > 1 else None,
    )


class _Folder(TrainerCallback):
    """Keeps a run's folder: curves, and the mark of a state that was written to its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin a new point of the curve at each state: what is summed up for one is not in a state."""
        control.should_log = control.should_log or control.should_save

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the curve, in which a run that goes on has all of its points, and print the last."""
        if state.is_world_process_zero:
            last = state.log_history[-1]
            shown = ", ".join(f"{name} {last[name]:.4g}" for name in COLUMNS[2:] if name in last)
            if shown:
                print(f"step {state.global_step} of {state.max_steps}: {shown}", flush=True)
            write_csv(state.log_history, self._folder)
            draw_curves(state.log_history, self._folder)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mark a state as whole: what is cut off while it is written has no mark."""
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # other processes write parts of it too
        if state.is_world_process_zero:
            replace_file(self._folder / STATES / f"checkpoint-{state.global_step}" / COMPLETE, b"")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and train.

    Returns:
        The exit code: 0; with one line on standard error 1, or 130 when interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m training.finetune", description="Fine-tune a backbone.")
    parser.add_argument("--recipe", required=True, help="name of a recipe in training/recipes, or a file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--base", type=Path, required=True, help="directory of the model to fine-tune")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="*.jsonl files, or folders of them"
    )
    parser.add_argument("--validation", type=Path, nargs="+", default=[], help="the same, held out")
    parser.add_argument("--images", type=Path, help="where image paths start (default: beside the data file)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--deepspeed", type=Path, help="DeepSpeed's configuration")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images, per device")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0: its own choice")
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto")
    options = parser.parse_args(arguments)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        run = Run(
            recipe=load_recipe(options.recipe, options.set),
            base=options.base,
            data=tuple(options.data),
            out=options.out,
            validation=tuple(options.validation),
            images=options.images,
            deepspeed=options.deepspeed,
            workers=options.workers,
            device=options.device,
        )
        trained = finetune(run)
    except (TuningError, CheckpointError, OSError) as error:
        # A worker process hands over its whole traceback, which ends with the message.
        message = str(error).strip().splitlines()[-1].rpartition("TuningError: ")[2]
        print(f"finetune: {message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("finetune: interrupted; the same command goes on after the last kept state", file=sys.stderr)
        return 130
    done = "holds the finished run already" if trained is None else "trained"
    print(f"{options.out}: {done}; python -m training.export {options.out} --out DIR makes a checkpoint")
    return 0


if __name__ == "__main__":
    sys.exit(main())
