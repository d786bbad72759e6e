"""Manifests are held against schemas that refuse what they do not know."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from deploy.checks.facts import ROOT
from deploy.checks.manifests import KUBERNETES, VERSIONS, overlays, schema_problems
from tests.deploying import rendered

NEWEST = VERSIONS[-1:]
SCHEMAS = sorted((ROOT / KUBERNETES / "schemas").glob("*.json"))


def one(overlay: str, kind: str) -> dict[str, Any]:
    return next(each for each in rendered()[overlay] if each["kind"] == kind)


@pytest.mark.parametrize(
    ("overlay", "kind"),
    [("laptop", "Deployment"), ("gpu", "Job"), ("production", "ScaledObject"), ("production", "Gateway")],
)
def test_a_field_that_is_misspelt(overlay: str, kind: str) -> None:
    resource = one(overlay, kind)
    resource["spec"]["replicaCuont"] = 2
    assert any("replicaCuont" in problem for problem in schema_problems(resource, NEWEST))


def test_a_kind_without_a_schema() -> None:
    resource = one("production", "Certificate") | {"kind": "CertificateRequest"}
    (problem,) = schema_problems(resource)
    assert problem == (
        "there is no schema deploy/kubernetes/schemas/cert-manager.io_CertificateRequest_v1.json"
    )


def test_a_kind_that_no_version_knows() -> None:
    resource = one("laptop", "Deployment")
    resource["apiVersion"] = "apps/v9"
    found = list(schema_problems(resource))
    assert len(found) == len(VERSIONS)


@pytest.mark.parametrize("file", SCHEMAS, ids=lambda file: file.stem)
def test_a_schema_is_one_and_is_used(file: Any) -> None:
    schema = json.loads(file.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    group, kind, version = file.stem.split("_")
    assert any(
        (each["apiVersion"], each["kind"]) == (f"{group}/{version}", kind)
        for resources in rendered().values()
        for each in resources
    )


def test_every_component_is_in_an_overlay() -> None:
    named = "".join(
        (ROOT / KUBERNETES / "overlays" / name / "kustomization.yaml").read_text("utf-8")
        for name in overlays()
    )
    components = [path.name for path in (ROOT / KUBERNETES / "components").iterdir()]
    assert components
    assert [name for name in components if f"- ../../components/{name}\n" not in named] == []
