"""Queries of Prometheus in alerts, dashboards and scalers, and whether what they ask for exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import grpc
import promql_parser

from deploy.checks.cluster import Resource
from deploy.checks.facts import Facts

_OURS = "text4seg_"
_FROM_PROMETHEUS = frozenset(("namespace", "pod", "container", "job", "instance"))
"""Labels that a scrape of pods adds."""
_CODES = frozenset(code.name for code in grpc.StatusCode)
_LABEL_IN_TEXT = re.compile(r"\$labels\.(\w+)")
_WORD = re.compile(r"^[\w./|-]+$")


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and where it stands."""

    where: str
    expression: str


def queries(resources: Sequence[Resource]) -> Iterator[Query]:
    """Yield every query of alert rules, dashboards and scalers."""
    for resource in resources:
        kind, name = resource["kind"], resource["metadata"]["name"]
        if kind == "PrometheusRule":
            for group in resource["spec"]["groups"]:
                for rule in group["rules"]:
                    yield Query(f"alert {rule['alert']}", rule["expr"])
        elif kind == "ScaledObject":
            for trigger in resource["spec"]["triggers"]:
                yield Query(f"ScaledObject {name}", trigger["metadata"]["query"])
        elif kind == "ConfigMap":
            for file, text in resource.get("data", {}).items():
                if resource["metadata"].get("labels", {}).get("grafana_dashboard"):
                    yield from _panels(file, json.loads(text))


def _panels(file: str, dashboard: Resource) -> Iterator[Query]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield Query(f"{file}, panel {panel['title']!r}", target["expr"].replace("$__rate_interval", "5m"))


def metric_names(expression: str) -> set[str]:
    """Return the names of all time series in a query.

    Raises:
        ValueError: it is not PromQL.
    """
    return {selector.name for selector in selectors(expression) if selector.name}


def metric_problems(resources: Sequence[Resource], facts: Facts) -> Iterator[str]:
    """Yield every series, label and value in queries that no service has."""
    for query in queries(resources):
        try:
            yield from (f"{query.where}: {problem}" for problem in _problems(query.expression, facts))
        except ValueError as error:
            yield f"{query.where}: not PromQL: {error}"
            return
    for resource in resources:
        if resource["kind"] == "PrometheusRule":
            for group in resource["spec"]["groups"]:
                for rule in group["rules"]:
                    yield from _alert_texts(rule)


def dashboard_gaps(resources: Sequence[Resource], facts: Facts) -> Iterator[str]:
    """Yield each family of the services that no panel shows."""
    shown: set[str] = set()
    for query in queries(resources):
        if ", panel " in query.where:
            with suppress(ValueError):  # told by metric_problems
                shown |= metric_names(query.expression)
    for service in facts.services.values():
        for name, family in service.families.items():
            if name.startswith(_OURS) and not family.sample_names(name) & shown:
                yield f"no panel of the dashboard shows {name} of {service.name}"


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Return what a query selects, each with its name and matchers.

    Raises:
        ValueError: it is not PromQL.
    """
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def _groupings(expression: str) -> set[str]:
    found: set[str] = set()

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def _problems(expression: str, facts: Facts) -> Iterator[str]:
    labels: set[str] = set()
    for selector in selectors(expression):
        found = facts.family(selector.name or "")
        if found is None:
            yield f"no service has {selector.name}"
            continue
        owners, family = found
        allowed = {"service", *family.labels, *_FROM_PROMETHEUS}
        if family.kind == "histogram":
            allowed.add("le")
        labels |= allowed
        asked = owners
        for matcher in selector.matchers.matchers:
            if matcher.name not in allowed:
                yield f"{selector.name} has no label {matcher.name}"
                continue
            wanted = matcher.value.split("|") if _WORD.match(matcher.value) else []
            if matcher.name == "service":
                for value in wanted:
                    if value not in owners:
                        yield f"{value} has no {selector.name}"
                asked = frozenset(wanted)
                continue
            for value in wanted:
                if not _known(matcher.name, value, selector.name or "", asked, facts):
                    yield f"{selector.name} has no {matcher.name} {value}"
    for label in sorted(_groupings(expression) - labels):
        yield f"it groups by {label}, which nothing in it has"


def _known(label: str, value: str, sample: str, services: frozenset[str], facts: Facts) -> bool:
    if label == "code":
        return value in _CODES
    if label == "method" and not sample.startswith("text4seg_peer"):
        methods = {
            method for name in services if name in facts.services for method in facts.services[name].methods
        }
        return any(re.fullmatch(value, method) for method in methods)
    if label == "peer":
        return value in {*facts.services, "redis", "triton"}
    found = facts.family(sample)
    closed = found[1].values.get(label) if found else None
    return closed is None or value in closed


def _alert_texts(rule: Resource) -> Iterator[str]:
    """A text may only name labels that the alert's series keep."""
    kept = _groupings(rule["expr"])
    for text in rule.get("annotations", {}).values():
        for label in _LABEL_IN_TEXT.findall(text):
            if label not in kept:
                yield f"alert {rule['alert']}: its text names the label {label}, which its query drops"
