"""The report: one HTML file with tables, the worst and best cases drawn beside the truth, and failures."""

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from training.datasets.sample import Task
from training.judging.cases import Case, best_cases, scored_cases, worst_cases
from training.judging.drawing import MISSED, RIGHT, TOO_MUCH, Colour, case_picture, shown_classes
from training.judging.record import NONE, Record
from training.judging.tables import Cell, Table, cell_text

_Key: TypeAlias = tuple[str, str, str]

SHOWN_FAILURES = 50
SHOWN_TEXT = 2000
BARS = 10

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto;
       padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; margin: .6em 0 } th, td { padding: .25em .7em; text-align: left }
th { border-bottom: 2px solid #888; font-weight: 600 } td { border-bottom: 1px solid #e4e4e4 }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
.note { color: #666; font-size: .9em; margin: .2em 0 }
figure { margin: 1em 0 1.6em; padding: .8em; border: 1px solid #ddd; border-radius: 6px }
figure img { max-width: 100%; display: block } figcaption { margin-bottom: .5em }
.score { font-weight: 700; font-variant-numeric: tabular-nums } .key { color: #777; font-size: .85em }
.patch { display: inline-block; width: .9em; height: .9em; border-radius: 2px; margin: 0 .3em 0 .9em;
         vertical-align: -.1em }
pre { background: #f6f6f6; padding: .6em; overflow-x: auto; font-size: .8em; max-height: 24em }
summary { cursor: pointer; color: #555; font-size: .9em }
"""


def report_html(
    title: str,
    facts: Mapping[str, object],
    tables: Sequence[Table],
    records: Iterable[Record],
    refiners: Sequence[str],
    shown: int,
) -> str:
    """Return the report, complete in itself.

    Args:
        title: Its heading.
        facts: Settings and versions.
        tables: The suites' figures.
        records: Read several times.
        refiners: Those of the run; cases are ranked by the one with the best scores.
        shown: Most cases of each end.
    """
    parts = [f"<h1>{_text(title)}</h1>", _facts(facts)]
    for table in tables:
        parts += [f"<h2>{_text(table.name)}: {_text(table.title)}</h2>", _table(table.columns, table.rows)]
        parts += [f'<p class="note">{_text(note)}</p>' for note in table.notes]
    scores = {name: _scores(records, name) for name in refiners}
    parts += _histograms(scores)
    lead = max(refiners, key=lambda name: float(np.mean(scores[name])) if scores[name] else -1.0)
    worst, best = worst_cases(records, lead, shown), best_cases(records, lead, shown)
    beside = _others(records, [*worst, *best])
    if worst:
        legend = _legend([*worst, *best])
        parts += ["<h2>Worst cases</h2>", legend, *(_figure(case, beside) for case in worst)]
        worst_keys = {case.record.key for case in worst}
        best = [case for case in best if case.record.key not in worst_keys]
        parts += ["<h2>Best cases</h2>", legend, *(_figure(case, beside) for case in best)]
    parts.append(_failures(records))
    body = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>\n'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _facts(facts: Mapping[str, object]) -> str:
    rows = tuple((name, str(value)) for name, value in facts.items() if value not in (None, "", [], ()))
    return _table(("setting", "value"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    number = [all(not isinstance(row[place], str) for row in rows) for place in range(len(columns))]
    kind = [' class="number"' if right else "" for right in number]
    head = "".join(f"<th{one}>{_text(name)}</th>" for one, name in zip(kind, columns, strict=True))
    lines = (
        "<tr>"
        + "".join(f"<td{one}>{_text(cell_text(cell))}</td>" for one, cell in zip(kind, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>\n" + "\n".join(lines) + "</table>"


def _scores(records: Iterable[Record], refiner: str) -> list[float]:
    cases = scored_cases(records, refiner)
    return [case.score for case in cases if case.record.sample.task is not Task.DIALOGUE]


def _others(records: Iterable[Record], cases: Sequence[Case]) -> Mapping[_Key, list[Record]]:
    """Return what other refiners made of the samples of some cases."""
    wanted = {case.record.key[:3]: case.record.refiner for case in cases}
    others: dict[_Key, list[Record]] = {key: [] for key in wanted}
    for record in records:
        if record.key[:3] in wanted and record.refiner != wanted[record.key[:3]]:
            others[record.key[:3]].append(record)
    return others


def _histograms(scores: Mapping[str, Sequence[float]]) -> list[str]:
    drawn = [
        f"<div>{_histogram('no refiner' if name == NONE else name, np.array(values))}</div>"
        for name, values in scores.items()
        if values
    ]
    return ["<h2>How the scores are spread</h2>", *drawn] if drawn else []


def _histogram(name: str, values: NDArray[np.float64]) -> str:
    """Draw how many answers have which IoU, as SVG."""
    counts = np.histogram(values, BARS, (0, 1))[0]
    width, height, bar = 420, 110, 36
    parts = []
    for place, count in enumerate(counts.tolist()):
        tall = round(80 * count / max(counts.max(), 1))
        left = 30 + place * bar
        parts.append(
            f'<rect x="{left}" y="{90 - tall}" width="{bar - 4}" height="{tall}" fill="rgb{RIGHT}"/>'
            f'<text x="{left + bar / 2 - 2}" y="{86 - tall}" font-size="10" text-anchor="middle">'
            f"{count}</text>"
            f'<text x="{left - 2}" y="104" font-size="10" text-anchor="middle">{place / BARS:.1f}</text>'
        )
    label = f"IoU of {len(values)} answers, {name}"
    return (
        f'<p class="note">{_text(label)}</p><svg width="{width}" height="{height}" role="img" '
        f'aria-label="{_text(label)}">{"".join(parts)}</svg>'
    )


def _legend(cases: Sequence[Case]) -> str:
    asked = {case.record.call for case in cases if case.record.sample.task is Task.REFERRING}
    names = {
        "segment": (("right", RIGHT), ("too much", TOO_MUCH), ("missed", MISSED)),
        "detect": (("truth", RIGHT), ("answer", TOO_MUCH)),
    }
    return "".join(
        f"<p>{''.join(_patch(name, colour) for name, colour in names[call])}</p>" for call in sorted(asked)
    )


def _figure(case: Case, beside: Mapping[_Key, Sequence[Record]]) -> str:
    record = case.record
    asked = ", ".join(record.sample.labels) if record.labels is None else ", ".join(record.labels[:12])
    if record.labels is None:
        asked = f"open vocabulary; there: {asked}"
    name = f"{record.group} {record.sample.id}, {record.refiner}"
    seconds = case.answer.seconds.get("total") or case.answer.seconds.get("round trip")
    told = "" if seconds is None else f", {seconds:.2f} s"
    caption = (
        f'<span class="score">{case.score:.3f}</span> <b>{_text(asked)}</b> '
        f'<span class="key">{_text(name + told)}</span>'
    )
    if record.sample.task is Task.SEMANTIC:
        caption += "<br>" + "".join(_patch(name, colour) for name, colour in shown_classes(record))
    try:
        buffer = io.BytesIO()
        case_picture(record, beside[record.key[:3]]).save(buffer, "JPEG", quality=86)
        data = base64.b64encode(buffer.getvalue()).decode()
        picture = f'<img alt="{_text(asked)}" src="data:image/jpeg;base64,{data}">'
    except OSError as error:
        picture = f'<p class="note">The picture cannot be drawn: {_text(str(error))}</p>'
    return f"<figure><figcaption>{caption}</figcaption>{picture}{_written(case)}</figure>"


def _written(case: Case) -> str:
    if case.answer.exchanges:
        rows = tuple((turn.question, turn.truth, turn.answer) for turn in case.answer.exchanges)
        return _table(("question", "truth", "answer"), rows)
    if not case.answer.text:
        return ""
    text = case.answer.text[:SHOWN_TEXT] + ("…" if len(case.answer.text) > SHOWN_TEXT else "")
    return f"<details><summary>what the model wrote</summary><pre>{_text(text)}</pre></details>"


def _failures(records: Iterable[Record]) -> str:
    reasons: Counter[str] = Counter()
    rows: list[tuple[str, ...]] = []
    for record in records:
        if record.failure is None:
            continue
        reasons[record.failure.reason] += 1
        if len(rows) < SHOWN_FAILURES:
            name = f"{record.group} {record.sample.id}"
            rows.append((name, record.refiner, record.failure.reason, record.failure.message))
    if not rows:
        return ""
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    more = "" if reasons.total() == len(rows) else f"; the first {len(rows)}:"
    return f"<h2>Failures</h2><p>{_text(counted + more)}</p>" + _table(
        ("sample", "refiner", "reason", "message"), rows
    )


def _patch(name: str, colour: Colour) -> str:
    return f'<span class="patch" style="background:rgb{colour}"></span>{_text(name)}'


def _text(text: str) -> str:
    return html.escape(text)
