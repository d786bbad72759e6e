"""Tools of others: checkov, hadolint, a loader of compose files. None means that the tool is not there."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.checks.facts import ROOT
from deploy.checks.images import DOCKERFILE
from deploy.checks.manifests import BUILT, DeployCheckError

TOOLS = ROOT / "build" / "tools" / "bin"
"""Where `make deploy-check` installs what comes from Python packages."""

_LIMIT_S = 600


def audit(files: Sequence[Path]) -> list[str] | None:
    """Return what checkov finds in rendered files, and is not skipped with a reason.

    Raises:
        DeployCheckError: it checked nothing.
    """
    if (checkov := shutil.which("checkov", path=str(TOOLS)) or shutil.which("checkov")) is None:
        return None
    command = [
        checkov,
        "--framework",
        "kubernetes",
        "--compact",
        "--output",
        "json",
        "--skip-download",
    ]
    for file in files:
        command += ["--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    try:
        report = json.loads(done.stdout)
        results, summary = report["results"], report["summary"]
    except (ValueError, KeyError) as error:
        raise DeployCheckError(f"checkov: {done.stderr.strip()[-2000:] or done.stdout[-2000:]}") from error
    if not summary["passed"] or summary["parsing_errors"]:
        raise DeployCheckError(f"checkov has not checked everything: {summary}")
    found = {
        f"{Path(each['file_path']).stem}: {each['resource']}: {each['check_id']} {each['check_name']}"
        for each in results["failed_checks"]
    }
    for each in results.get("skipped_checks", []):
        if not each["check_result"].get("suppress_comment", "").strip():
            found.add(f"{each['resource']}: {each['check_id']} is skipped without a reason")
    print(f"checkov: {summary['passed']} checks passed, {summary['skipped']} skipped with a reason")
    return sorted(found)


def lint_dockerfile() -> list[str] | None:
    """Return what hadolint says of the Dockerfile."""
    if (hadolint := shutil.which("hadolint", path=str(TOOLS)) or shutil.which("hadolint")) is None:
        return None
    command = [hadolint, "--no-color", str(DOCKERFILE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_LIMIT_S)
    if done.returncode and not done.stdout.strip():
        raise DeployCheckError(f"hadolint: {done.stderr.strip()}")
    return done.stdout.splitlines()


def load_compose(files: Sequence[Path]) -> dict[str, Any] | None:
    """Return compose files on top of each other, as the loader of the Compose specification reads them.

    Raises:
        DeployCheckError: they do not conform to it.
    """
    paths = [str(file.resolve()) for file in files]
    if loader := shutil.which("compose-spec", path=str(BUILT)):
        command = [loader, "-no-interpolation", "-format", "json", *paths]
    elif _docker_compose():
        named = [part for path in paths for part in ("--file", path)]
        command = ["docker", "compose", *named, "config", "--no-interpolate", "--format", "json"]
    else:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    if done.returncode:
        raise DeployCheckError(f"{', '.join(file.name for file in files)}: {done.stderr.strip()}")
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


def _docker_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = ["docker", "compose", "version"]
    return subprocess.run(asked, capture_output=True, timeout=_LIMIT_S).returncode == 0
