"""A run's figures from its records: tables, ``summary.json``, ``report.html``; and runs beside each other."""

import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import text4seg
from training.datasets.sample import Task
from training.judging.ablations import codecs, refiners, resolution
from training.judging.calibration import calibration
from training.judging.record import NONE, Record
from training.judging.record_file import JudgingError, Records
from training.judging.report import report_html
from training.judging.suites import (
    Suite,
    generalized_referring,
    open_vocabulary,
    question_answering,
    referring_comprehension,
    referring_segmentation,
)
from training.judging.tables import Cell, Table
from training.judging.variants import DETECT

SUITES: Mapping[str, Suite] = {
    "res": referring_segmentation,
    "gres": generalized_referring,
    "rec": referring_comprehension,
    "vocabulary": open_vocabulary,
    "refiners": refiners,
    "resolution": resolution,
    "codec": codecs,
    "vqa": question_answering,
    "calibration": calibration,
}

RECORDS, SUMMARY, REPORT = "records.jsonl", "summary.json", "report.html"


def fitting_suites(records: Iterable[Record]) -> list[str]:
    """Return the suites that the samples of a run are for."""
    tasks: set[Task] = set()
    no_target = detect = False
    asked: set[str] = set()
    for record in records:
        tasks.add(record.sample.task)
        detect |= record.call == DETECT
        asked.add(record.refiner)
        if record.sample.task is Task.REFERRING and not no_target:
            no_target = all(not sample_mask.any() for sample_mask in map(record.sample.mask, range(1)))
    names = []
    if Task.REFERRING in tasks and detect:
        names += ["rec"]
    elif Task.REFERRING in tasks:
        names += ["res", *(["gres"] if no_target else []), "rec"]
        names += ["refiners"] if asked - {NONE} else []
        names += ["resolution", "codec", "calibration"]
    names += ["vocabulary"] if Task.SEMANTIC in tasks else []
    names += ["vqa"] if Task.DIALOGUE in tasks else []
    return names


def summarize(folder: Path, names: Sequence[str], facts: Mapping[str, Any], shown: int) -> list[Table]:
    """Compute the suites from a run's records, and write ``summary.json`` and ``report.html`` beside them.

    Args:
        folder: Holds ``records.jsonl``.
        names: Suites; none: those that fit the samples.
        facts: What else to tell of the run: settings that the records do not hold.
        shown: Most cases of each end in the report.

    Raises:
        JudgingError: there are no records, none is an answer, or a line is damaged.
    """
    records = Records(folder / RECORDS)
    header = records.header()
    outcomes: Counter[str] = Counter()
    asked: dict[str, None] = {}
    versions: dict[str, None] = {}
    example = ""
    for record in records:
        outcomes["answered" if record.failure is None else record.failure.reason] += 1
        example = example or (record.failure.message if record.failure else "")
        asked[record.refiner] = None
        if record.answer is not None and record.answer.refiner:
            versions[record.answer.refiner] = None
    if not outcomes["answered"]:
        why = ", ".join(f"{count} {reason}" for reason, count in outcomes.items()) or "there are no records"
        raise JudgingError(f"{folder / RECORDS} holds no answer: {why}" + (f"; {example}" if example else ""))
    tables = [SUITES[name](records) for name in names or fitting_suites(records)]
    everything = {
        "settings": {
            **header["settings"],
            **facts,
            "refiners": sorted(asked, key=lambda name: (name != NONE, name)),
        },
        "versions": {
            **header["versions"],
            "refiners": sorted(versions),
            "evaluator": text4seg.__version__,
            "python": platform.python_version(),
        },
        "questions": dict(outcomes),
        "suites": {table.name: table.to_json() for table in tables},
    }
    (folder / SUMMARY).write_text(json.dumps(everything, indent=2, ensure_ascii=False) + "\n")
    shown_facts = {**everything["settings"], **everything["versions"], **everything["questions"]}
    title = f"Evaluation of {header['versions']['model']}"
    drawn = report_html(title, shown_facts, tables, records, everything["settings"]["refiners"], shown)
    (folder / REPORT).write_text(drawn, encoding="utf-8")
    return tables


def compare(folders: Sequence[Path]) -> Table:
    """Return several runs beside each other, for models that differ in resolution (Fig. 6) or codec (Fig. 8).

    Raises:
        JudgingError: a folder holds no summary, or the runs are not about the same samples.
    """
    runs = [(folder, _summary(folder)) for folder in folders]
    sources = {json.dumps(run["settings"]["samples"], sort_keys=True) for _, run in runs}
    if len(sources) > 1:
        raise JudgingError(f"the runs are about different samples: {', '.join(sorted(sources))}")
    rows: list[tuple[Cell, ...]] = []
    for folder, run in runs:
        versions, suites = run["versions"], run["suites"]
        codec = suites.get("codec", {}).get("rows", [])
        written: dict[str, Any] = next((row for row in codec if row["written by"] == "model"), {})
        for row in suites.get("res", {}).get("rows", []):
            rows.append(
                (
                    str(folder),
                    versions["grid"],
                    versions["codec"],
                    row["masks"],
                    row["phrases"],
                    row["failed"],
                    row["cIoU"],
                    row["gIoU"],
                    written.get("tokens"),
                    written.get("characters"),
                    written.get("generate s"),
                )
            )
    columns = ("run", "grid", "codec", "masks", "phrases", "failed", "cIoU", "gIoU", "tokens", "characters")
    return Table("runs", "runs beside each other", (*columns, "generate s"), tuple(rows))


def _summary(folder: Path) -> Any:
    try:
        return json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise JudgingError(f"{folder / SUMMARY} does not exist: is {folder} a finished run?") from error
    except ValueError as error:
        raise JudgingError(f"{folder / SUMMARY} is damaged: {error}") from error
