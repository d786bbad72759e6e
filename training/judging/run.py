"""Asks all samples, many at a time, and keeps a record of each."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from text4seg.segmentation import ModelInfo
from training.datasets.sample import Sample, Task
from training.judging.asking import Manner, ask
from training.judging.record import NONE, Record
from training.judging.record_file import TRANSIENT, JudgingError, RecordWriter
from training.judging.service import Connection


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask of each sample, and how hard.

    Attributes:
        refiners: Each sample is asked once for each; dialogues once only.
        in_flight: Questions under way at a time.
        retry_failed: Ask again what failed in an earlier run.
        progress: Whether to draw a progress bar.
        total: Samples, where that is known; for the progress bar.
    """

    refiners: Sequence[str] = (NONE,)
    in_flight: int = 8
    retry_failed: bool = False
    progress: bool = True
    total: int | None = None


@dataclass(slots=True)
class Tally:
    """How a run went.

    Attributes:
        asked: Questions asked now.
        skipped: Questions that an earlier run has answers to.
        failed: Questions asked now that have no answer.
        in_a_row: Failures of the service itself since its last answer.
    """

    asked: int = 0
    skipped: int = 0
    failed: int = 0
    in_a_row: int = 0


async def ask_all(
    samples: Iterable[Sample],
    connection: Connection,
    info: ModelInfo,
    plan: Plan,
    manner: Manner,
    writer: RecordWriter,
) -> Tally:
    """Ask every sample that the file does not answer, and write what comes back as it comes.

    Raises:
        JudgingError: two samples have one id, or the service does not answer any more.
        ValueError: the samples cannot be read on.
    """
    tally = Tally()
    waiting: set[asyncio.Task[Record]] = set()
    bar = tqdm(
        total=None if plan.total is None else plan.total * len(plan.refiners),
        unit="question",
        disable=not plan.progress,
    )

    def keep(finished: Iterable[asyncio.Task[Record]]) -> None:
        for task in finished:
            record = task.result()
            writer.add(record)
            tally.asked += 1
            tally.failed += record.failure is not None
            in_trouble = record.failure is not None and record.failure.reason in TRANSIENT
            tally.in_a_row = tally.in_a_row + 1 if in_trouble else 0
            bar.update()
            bar.set_postfix(failed=tally.failed, refresh=False)
        if tally.in_a_row > 2 * plan.in_flight + 4:
            raise JudgingError(
                f"the service does not answer any more ({tally.in_a_row} failures in a row); "
                "the same command goes on from here"
            )

    try:
        for sample, refiner in _questions(samples, plan.refiners):
            key = (sample.dataset, sample.split, sample.id, refiner)
            if writer.is_done(key, retry_failed=plan.retry_failed):
                tally.skipped += 1
                bar.update()
                continue
            waiting.add(asyncio.create_task(ask(connection, sample, refiner, info, manner)))
            if len(waiting) >= plan.in_flight:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                keep(done)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            keep(done)
    finally:
        bar.close()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return tally


def _questions(samples: Iterable[Sample], refiners: Sequence[str]) -> Iterator[tuple[Sample, str]]:
    seen: set[tuple[str, str, str]] = set()
    for sample in samples:
        name = (sample.dataset, sample.split, sample.id)
        if name in seen:
            raise JudgingError(
                f"two samples have the id {sample.id!r}: their answers could not be told apart"
            )
        seen.add(name)
        for refiner in [NONE] if sample.task is Task.DIALOGUE else refiners:
            yield sample, refiner
