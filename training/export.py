"""Make a checkpoint to serve of a fine-tuned model: ``python -m training.export RUN --out DIR``.

The adapter is merged into the base model; the checkpoint's ``config.json`` says grid, codec, templates and
image size, as the services want it (docs/descriptor-format.md). With ``--triton`` a model repository for
Triton's Python backend is filled too.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import transformers
from peft import PeftModel

from text4seg.errors import CheckpointError
from training.finetune import ADAPTER, ADAPTER_ENTRY, entry_of, read_run
from training.tuning.backbone import load_base, load_model, one_line, read_config
from training.tuning.recipe import TuningError

TRITON_MODEL = Path(__file__).resolve().parents[1] / "deploy" / "triton" / "models" / "text4seg"
"""The generator as a Triton model."""


def export(run: Path, out: Path, name: str = "", *, merge: bool = True, base: Path | None = None) -> None:
    """Write a finished run as a checkpoint.

    Args:
        run: folder of the run.
        out: the checkpoint's directory, which must not exist; it appears when it is complete.
        name: of the model; empty: that of ``out``.
        merge: whether adapter and base become one model; otherwise ``out`` is an adapter for the base.
        base: directory of the base model, if it was moved since.

    Raises:
        TuningError: when the run is not finished, or ``out`` exists.
        CheckpointError: when base or adapter are missing, damaged or do not fit.
        OSError: when a file cannot be written.
    """
    recipe, trained_base = read_run(run)
    adapter = run / ADAPTER
    if not adapter.is_dir():
        raise TuningError(f"{run} is not finished: give the same training command again")
    if out.exists():
        raise TuningError(f"{out} exists already")
    found = load_base(base or trained_base, recipe)
    entry = entry_of(recipe, found, name or out.name)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    if merge:
        merged = _merged(found.path, adapter)
        merged.save_pretrained(partial)
        found.processor.save_pretrained(partial)
        config = {**read_config(partial), "text4seg": entry}
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    else:
        shutil.copytree(adapter, partial)
        (partial / ADAPTER_ENTRY).write_text(json.dumps(entry, indent=2) + "\n", encoding="utf-8")
    partial.replace(out)


def fill_triton(repository: Path, model: str, checkpoint: Path, base: Path | None = None) -> Path:
    """Write a model for Triton's Python backend that serves a checkpoint; return its folder.

    Args:
        repository: Triton's model repository.
        model: name of the model there.
        checkpoint: from :func:`export`.
        base: directory of the base model, when ``checkpoint`` is an adapter.

    Raises:
        TuningError: as of :func:`triton_folder`.
        OSError: when a file cannot be written.
    """
    folder = triton_folder(repository, model)
    parameters = {"checkpoint": checkpoint} if base is None else {"checkpoint": base, "adapter": checkpoint}
    text = (TRITON_MODEL / "config.pbtxt").read_text(encoding="utf-8")
    text = text.replace('name: "text4seg"', f'name: "{model}"', 1)
    for key, path in parameters.items():
        value = json.dumps(str(path.resolve()), ensure_ascii=False)
        text += f'parameters {{ key: "{key}" value {{ string_value: {value} }} }}\n'
    shutil.copytree(TRITON_MODEL, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "config.pbtxt").write_text(text, encoding="utf-8")
    return folder


def triton_folder(repository: Path, model: str) -> Path:
    """Return the folder that a model will have in a Triton repository.

    Raises:
        TuningError: when the name is impossible or taken, or this is no clone with ``deploy/triton``.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", model):
        raise TuningError(f"{model!r} cannot be the name of a model in Triton")
    if not TRITON_MODEL.is_dir():
        raise TuningError(f"no {TRITON_MODEL}: Triton's files come with a clone of the repository")
    folder = repository / model
    if folder.exists():
        raise TuningError(f"{folder} exists already")
    return folder


def _merged(base: Path, adapter: Path) -> transformers.PreTrainedModel:
    model = load_model(base, "auto")
    with warnings.catch_warnings():
        # PEFT 0.21 asks for a property that transformers 5.23 renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        try:
            adapted = PeftModel.from_pretrained(model, str(adapter), local_files_only=True)
            merged: transformers.PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
        except (ValueError, RuntimeError, OSError, KeyError) as error:
            raise CheckpointError(str(adapter), f"does not fit {base}: {one_line(error)}") from error
    return merged


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and export.

    Returns:
        The exit code: 0, or 1 with one line on standard error.
    """
    parser = argparse.ArgumentParser(prog="python -m training.export", description="Export a run.")
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--out", type=Path, required=True, help="directory of the checkpoint; must not exist")
    parser.add_argument("--name", default="", help="name of the model (default: that of the directory)")
    parser.add_argument("--base", type=Path, help="directory of the base model, if it was moved")
    parser.add_argument("--adapter", action="store_true", help="keep the adapter apart from the base model")
    parser.add_argument("--triton", type=Path, metavar="REPOSITORY", help="fill a model repository as well")
    options = parser.parse_args(arguments)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    name = options.name or options.out.name
    try:
        if options.triton is not None:
            triton_folder(options.triton, name)  # before anything is written, so that it can be tried again
        export(options.run, options.out, name, merge=not options.adapter, base=options.base)
        base = (options.base or read_run(options.run)[1]) if options.adapter else None
        if options.triton is not None:
            folder = fill_triton(options.triton, name, options.out, base)
            print(f"wrote {folder}")
    except (TuningError, CheckpointError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    served = f"T4S_GENERATOR_CHECKPOINT={base or options.out}" + (
        f" T4S_GENERATOR_ADAPTER={options.out}" if base else ""
    )
    print(f"wrote {options.out}; to serve it: {served} python -m services")
    return 0


if __name__ == "__main__":
    sys.exit(main())
