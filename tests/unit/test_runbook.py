"""The runbook knows every alert, and names settings, metrics and services that exist."""

from __future__ import annotations

import re

import yaml

from deploy.checks.facts import ROOT
from deploy.checks.manifests import KUBERNETES
from tests.deploying import facts

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
ALERTS = ROOT / KUBERNETES / "components/monitoring/alerts.yaml"
DOCUMENTS = ("runbook", "kubernetes", "containers")


def alerts() -> dict[str, dict[str, str]]:
    """Name -> annotations of every alert."""
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["spec"]["groups"]
    return {rule["alert"]: rule["annotations"] for group in groups for rule in group["rules"]}


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    sections = re.findall(r"^### (Text4Seg\w+)$", RUNBOOK, re.MULTILINE)
    assert sections == list(alerts())


def test_an_alert_points_to_its_section() -> None:
    for name, about in alerts().items():
        assert about["runbook"] == f"docs/runbook.md#{name.lower()}"


def test_settings_and_metrics_in_the_documents_exist() -> None:
    variables = {name for service in facts().services.values() for name in service.variables}
    for document in DOCUMENTS:
        text = (ROOT / "docs" / f"{document}.md").read_text("utf-8")
        named = set(re.findall(r"\bT4S_[A-Z_]+[A-Z]\b", text))
        assert named <= variables, document
        for metric in re.findall(r"\btext4seg_\w+", text):
            assert metric in {"text4seg_nano"} or facts().family(metric), (document, metric)


def test_panels_that_the_runbook_names_are_on_the_dashboard() -> None:
    dashboard = (ALERTS.parent / "dashboard.json").read_text("utf-8")
    for panel in (
        "Calls that did not succeed",
        "Failed calls of others",
        "Mean time per stage",
        "Waiting",
        "Tokens",
    ):
        assert f'"{panel}"' in RUNBOOK
        assert f'"title": "{panel}"' in dashboard


def test_the_readme_lists_every_setting() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    listed = set(re.findall(r"`([A-Z][A-Z_]+[A-Z])`", readme.partition("## Configuration")[2]))
    for service in facts().services.values():
        names = {variable.removeprefix(service.prefix) for variable in service.variables}
        assert names <= listed, names - listed
