"""Overlays rendered by kustomize, and validated against the schemas of Kubernetes and of custom resources."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from deploy.checks.cluster import Resource
from deploy.checks.facts import ROOT

KUBERNETES = Path("deploy/kubernetes")
VERSIONS = ("1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
"""Kubernetes versions that the manifests are valid for."""
BUILT = ROOT / "build" / "bin"
"""Where `make deploy-check` puts what it builds with Go."""

_RENDER_S = 120


class DeployCheckError(Exception):
    """Something is wrong with the manifests or the tools; the message says what."""


def overlays(root: Path = ROOT) -> list[str]:
    """Return the names of all overlays."""
    return sorted(path.parent.name for path in (root / KUBERNETES).glob("overlays/*/kustomization.yaml"))


def renderer() -> list[str] | None:
    """Return the command that renders a folder, of kustomize or kubectl; None: there is neither."""
    if built := shutil.which("kustomize", path=str(BUILT)) or shutil.which("kustomize"):
        return [built, "build"]
    if kubectl := shutil.which("kubectl"):
        return [kubectl, "kustomize"]
    return None


def render(folder: Path) -> str:
    """Return the YAML documents of a kustomization.

    Raises:
        DeployCheckError: there is no renderer, or it cannot be rendered, or only with a warning.
    """
    if (command := renderer()) is None:
        raise DeployCheckError("neither kubectl nor kustomize is installed")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=_RENDER_S)
    if (
        done.returncode or done.stderr.strip()
    ):  # a warning: something deprecated, or a patch that hits nothing
        raise DeployCheckError(f"{folder}: {done.stderr.strip()}")
    return done.stdout


def read(text: str) -> list[Resource]:
    """Return the resources in YAML documents."""
    return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]


def schema_problems(
    resource: Mapping[str, Any], versions: Sequence[str] = VERSIONS, root: Path = ROOT
) -> Iterator[str]:
    """Yield what is wrong with one resource, in any of the versions.

    Kubernetes' own kinds are held against its schemas, with unknown fields refused; every other kind against
    the schema of its name in ``deploy/kubernetes/schemas``.
    """
    group, _, version = resource["apiVersion"].rpartition("/")
    if _is_custom(group):
        file = root / KUBERNETES / "schemas" / f"{group}_{resource['kind']}_{version}.json"
        if not file.is_file():
            yield f"there is no schema {file.relative_to(root)}"
            return
        for error in _validator(file).iter_errors(resource):
            yield f"{error.json_path}: {error.message}"
        return
    for kubernetes in versions:
        try:
            kubernetes_validate.validate(dict(resource), kubernetes, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f"Kubernetes {kubernetes}: {error.message}"


def _is_custom(group: str) -> bool:
    return group.startswith("gateway.") or ("." in group and not group.endswith(".k8s.io"))


@cache
def _validator(file: Path) -> jsonschema.Draft202012Validator:
    schema = json.loads(file.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)
