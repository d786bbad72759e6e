"""Judge a model as it is served: ask every sample of a data set over gRPC, and measure the answers.

    python -m training.evaluate --samples val.jsonl --checkpoint models/nano --refiner grabcut
    python -m training.evaluate --dataset refcoco --root DIR --split val --address 127.0.0.1:50051

Against a checkpoint, all three services are started on this machine; ``T4S_GENERATOR_*`` and
``T4S_REFINER_*`` set them up further. Every answer is kept in ``OUT/records.jsonl`` as it comes; the same
command goes on after an interruption. ``summary.json`` and ``report.html`` are made from the records, and
again with ``--again``.
"""

import argparse
import asyncio
import hashlib
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from text4seg.errors import InvalidInputError
from text4seg.segmentation import ModelInfo, RefineMode
from training.datasets.registry import open_dataset
from training.datasets.sample import Sample, read_samples
from training.judging.asking import Ask, Call, Manner
from training.judging.record import NONE
from training.judging.record_file import JudgingError, RecordWriter
from training.judging.run import Plan, Tally, ask_all
from training.judging.service import Access, Connection, connected, services, wait_for
from training.judging.summary import RECORDS, REPORT, SUITES, compare, summarize
from training.judging.tables import table_text

CHECKPOINT = Path(__file__).resolve().parents[1] / "models" / "nano"
WAIT_RUNNING_S = 10.0
"""A running service answers by then, or it is none."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate.

    Args:
        arguments: What follows the program's name; None: of this process.

    Returns:
        The exit code: 0 when all questions were answered, 3 when some failed, 1 when there is nothing to
        report, 130 after Ctrl+C or SIGTERM.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _check(parser, options)
        if options.compare:
            print(table_text(compare(options.compare)))
            return 0
        tally = None if options.again else asyncio.run(_run(options))
        facts = {"in_flight": options.in_flight, "timeout_s": options.timeout} if tally else {}
        tables = summarize(options.out, options.suite, facts, options.cases)
    except JudgingError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError, InvalidInputError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"{parser.prog}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print("\n\n".join(map(table_text, tables)))
    print(f"\n{options.out / REPORT}")
    if tally is None:
        return 0
    print(f"{tally.asked} questions asked, {tally.skipped} answered before, {tally.failed} failed")
    return 3 if tally.failed else 0


async def _run(options: argparse.Namespace) -> Tally:
    running = asyncio.current_task()
    if running is not None and threading.current_thread() is threading.main_thread():
        # The services that were started here must not outlive this process.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    samples = _samples(options)
    first = next(samples, None)  # what is wrong with a data set is told before a model is loaded for it
    if first is None:
        raise JudgingError("there are no samples to judge by")
    async with _service(options) as (connection, info):
        manner = _manner(options)
        _check_refiners(options, info)
        header = {"settings": _settings(options, manner), "versions": _versions(info)}
        plan = Plan(
            refiners=options.refiner,
            in_flight=options.in_flight,
            retry_failed=options.retry_failed,
            progress=sys.stderr.isatty(),
            total=_count(options),
        )
        with RecordWriter(options.out / RECORDS, header) as writer:
            return await ask_all(chain([first], samples), connection, info, plan, manner, writer)


@asynccontextmanager
async def _service(options: argparse.Namespace) -> AsyncIterator[tuple[Connection, ModelInfo]]:
    async with AsyncExitStack() as stack:
        if options.address:
            authority = options.tls_ca.read_bytes() if options.tls_ca else None
            access = Access(options.address, authority, options.api_key)
            info = await wait_for(access, WAIT_RUNNING_S)
        else:
            log = options.out / "services.log"
            started = services(options.checkpoint, options.refiner, options.threads, log)
            child = stack.enter_context(started)
            access = Access(child.address)
            info = await wait_for(access, options.wait, child)
        yield await stack.enter_async_context(connected(access)), info


def _samples(options: argparse.Namespace) -> Iterator[Sample]:
    return islice(_every_sample(options), options.limit or None)


def _every_sample(options: argparse.Namespace) -> Iterator[Sample]:
    if options.samples is not None:
        return (_found(sample, options.samples.parent) for sample in read_samples(options.samples))
    return open_dataset(options.dataset, options.root, options.split)


def _found(sample: Sample, folder: Path) -> Sample:
    """Look for a picture beside the file of samples when it is not where the sample says."""
    beside = folder / sample.image
    return replace(sample, image=beside) if not sample.image.exists() and beside.exists() else sample


def _count(options: argparse.Namespace) -> int | None:
    if options.samples is None:
        return options.limit or None
    with options.samples.open("rb") as file:
        lines = sum(1 for _ in file)
    return min(lines, options.limit) if options.limit else lines


def _settings(options: argparse.Namespace, manner: Manner) -> dict[str, Any]:
    """Return what the answers depend on besides the service; a run is gone on with only where it agrees."""
    if options.samples is None:
        samples = {"dataset": options.dataset, "root": str(options.root.resolve()), "split": options.split}
    else:
        samples = {"sha256": hashlib.sha256(options.samples.read_bytes()).hexdigest()}
    return {
        "samples": samples,
        "call": manner.call.value,
        "ask": manner.ask.value,
        "refine": manner.refine.value,
        "seed": manner.seed,
    }


def _versions(info: ModelInfo) -> dict[str, Any]:
    return {
        "model": info.generator.model,
        "version": info.versions.model,
        "engine": info.generator.engine,
        "grid": "x".join(map(str, info.generator.shape)),
        "codec": info.generator.codec.value,
        "templates": info.versions.templates,
        "server": info.versions.server,
    }


def _manner(options: argparse.Namespace) -> Manner:
    folder = options.tokenizer or (None if options.address else options.checkpoint)
    file = None if folder is None else folder / "tokenizer.json"
    if options.tokenizer and file is not None and not file.is_file():
        raise JudgingError(f"{file} does not exist: tokens cannot be counted")
    return Manner(
        call=options.call,
        ask=options.ask,
        refine=options.refine,
        seed=options.seed,
        timeout_s=options.timeout,
        tokenizer=Tokenizer.from_file(str(file)) if file is not None and file.is_file() else None,
    )


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    options.refiner = list(dict.fromkeys(options.refiner or [NONE]))
    options.refiner.sort(key=lambda name: name != NONE)
    if options.again or options.compare:
        return
    if (options.samples is None) == (options.dataset is None):
        parser.error("say what to judge by: --samples FILE, or --dataset NAME --root DIR --split SPLIT")
    if options.dataset and not (options.root and options.split):
        parser.error("--dataset needs --root and --split")
    if options.call is Call.DETECT and len(options.refiner) > 1:
        parser.error("Detect takes no refiner's name: give one --refiner at most")
    if options.samples is not None and not options.samples.is_file():
        raise JudgingError(f"{options.samples} does not exist")


def _check_refiners(options: argparse.Namespace, info: ModelInfo) -> None:
    for name in options.refiner:
        if name not in (NONE, *info.refiner_models):
            there = ", ".join(info.refiner_models) or "none"
            raise JudgingError(f"the service has no refiner {name!r}; it has: {there}")
    if options.call is Call.DETECT and options.refiner[0] not in (NONE, *info.refiner_models[:1]):
        raise JudgingError(f"Detect uses the service's default refiner, {info.refiner_models[0]!r}")


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("samples")
    what.add_argument("--samples", type=Path, metavar="FILE", help="JSON lines, one sample each")
    what.add_argument(
        "--dataset", metavar="NAME", help="a data set in its own layout, with --root and --split"
    )
    what.add_argument("--root", type=Path, metavar="DIR")
    what.add_argument("--split", metavar="NAME")
    what.add_argument("--limit", type=int, default=0, metavar="N", help="the first N samples; 0: all")
    whom = parser.add_argument_group("model")
    whom.add_argument(
        "--checkpoint",
        type=Path,
        default=CHECKPOINT,
        metavar="DIR",
        help="started here (default: models/nano)",
    )
    whom.add_argument("--threads", type=_positive, default=2, metavar="N", help="of torch, for --checkpoint")
    whom.add_argument("--wait", type=float, default=600.0, metavar="S", help="longest start of --checkpoint")
    whom.add_argument("--address", metavar="HOST:PORT", help="a running service instead")
    whom.add_argument("--tls-ca", type=Path, metavar="FILE", help="PEM authority of the running service")
    whom.add_argument("--api-key", metavar="KEY", help="for the running service")
    whom.add_argument("--tokenizer", type=Path, metavar="DIR", help="counts tokens (default: --checkpoint)")
    how = parser.add_argument_group("questions")
    how.add_argument(
        "--refiner", action="append", metavar="NAME", help="ask with this refiner; repeat to compare (none)"
    )
    how.add_argument(
        "--refine", type=RefineMode, choices=[RefineMode.AUTO, RefineMode.REQUIRED], default="auto"
    )
    how.add_argument("--call", type=Call, choices=list(Call), default=Call.SEGMENT)
    how.add_argument(
        "--ask", type=Ask, choices=list(Ask), default=Ask.VOCABULARY, help="of semantic samples: which labels"
    )
    how.add_argument("--in-flight", type=_positive, default=8, metavar="N", help="questions at a time (8)")
    how.add_argument("--timeout", type=float, default=120.0, metavar="S", help="longest question (120)")
    how.add_argument("--seed", type=int, default=0)
    how.add_argument("--retry-failed", action="store_true", help="ask again what failed in an earlier run")
    out = parser.add_argument_group("results")
    out.add_argument("--out", type=Path, default=Path("build/evaluation"), metavar="DIR")
    out.add_argument(
        "--suite", nargs="+", choices=list(SUITES), default=[], help="(those that fit the samples)"
    )
    out.add_argument("--cases", type=int, default=12, metavar="N", help="worst and best cases shown (12)")
    out.add_argument("--again", action="store_true", help="only compute the figures of --out again")
    out.add_argument("--compare", nargs="+", type=Path, metavar="DIR", help="only print runs side by side")
    return parser


if __name__ == "__main__":
    sys.exit(main())
