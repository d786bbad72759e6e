"""What the grammar does for a finished checkpoint: the same held-out questions with it and without.

Run: ``python -m training.nano.grammar --photos DIR --sprites DIR``. The questions are those of
`training.nano.evaluate`, asked of a generator service that is started here; without the grammar the model
writes the whole answer freely, greedily in both cases. What it writes is read leniently, as in serving.
`training.nano.ablate` compares the same for models that have hardly begun to learn.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from text4seg.descriptors import Codec
from text4seg.v1 import generator_service_pb2 as pb
from text4seg.v1.generator_service_pb2_grpc import GeneratorServiceStub
from training.child_service import ServiceEndedError
from training.nano.asking import Answer, Item, Items, ask, generator
from training.nano.evaluate import ABSENT, CHECKPOINT, add_data_options, chosen_sets, report

Answers = list[tuple[Item, Answer]]


def figures(sets: dict[str, Answers]) -> dict[str, str]:
    """Return what is measured of the answers to each set of questions, ready to be shown."""
    every = [answer for answers in sets.values() for _, answer in answers]
    shown = {"well-formed": f"{np.mean([answer.well_formed for answer in every]):.1%}"}
    for name, answers in sets.items():
        if name == ABSENT:
            shown["absent answered nothing"] = f"{np.mean([not one.mask.any() for _, one in answers]):.1%}"
        else:
            shown |= {key: f"{value:.3f}" for key, value in report(name, answers).items() if "IoU" in key}
    shown["tokens"] = f"{np.mean([answer.tokens for answer in every]):.1f}"
    shown["seconds, median"] = f"{np.median([answer.seconds for answer in every]):.2f}"
    return shown


def compared(stub: GeneratorServiceStub, sets: dict[str, Items]) -> str:
    """Ask every question twice; return a Markdown table."""
    info = stub.GetGeneratorInfo(pb.GetGeneratorInfoRequest())
    shape, codec = (info.grid_rows, info.grid_columns), Codec(info.codec)
    both = []
    for constrained in (True, False):
        answers: dict[str, Answers] = {}
        for name, items in sets.items():
            bar = tqdm(items, desc=f"{name}, {'with' if constrained else 'without'}", disable=None)
            answers[name] = [(item, ask(stub, item, shape, codec, constrained=constrained)) for item in bar]
        both.append(figures(answers))
    lines = ["| | with the grammar | without |", "|---|---|---|"]
    counts = ", ".join(f"{len(items)} {name}" for name, items in sets.items())
    lines += [f"| {name} | {value} | {both[1][name]} |" for name, value in both[0].items()]
    return f"questions: {counts}\n" + "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask and print.

    Args:
        arguments: What follows the program's name; None: of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m training.nano.grammar", description=__doc__)
    add_data_options(parser, limit=40)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    try:
        sets = chosen_sets(options, random.Random(options.seed))
        with generator(options.checkpoint, options.threads) as stub:
            print(compared(stub, sets))
    except (FileNotFoundError, ServiceEndedError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
