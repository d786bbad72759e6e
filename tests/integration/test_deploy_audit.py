"""The audit finds what is unsafe, and takes no skip without a reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.checks.tools import TOOLS, audit
from tests.deploying import change, rendered

pytestmark = pytest.mark.skipif(
    shutil.which("checkov", path=str(TOOLS)) is None and shutil.which("checkov") is None,
    reason="NOT CHECKED: checkov is not installed; make deploy-check installs it",
)


def test_it_finds_what_is_unsafe_or_skipped_without_a_reason(tmp_path: Path) -> None:
    resources = rendered()["laptop"]

    def open_up(deployment: dict[str, Any]) -> None:
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        container["securityContext"]["readOnlyRootFilesystem"] = False
        deployment["metadata"]["annotations"]["checkov.io/skip1"] = "CKV_K8S_43="

    change(resources, "Deployment", "refiner", open_up)
    file = tmp_path / "laptop.yaml"
    file.write_text(yaml.safe_dump_all(resources), "utf-8")
    found = audit([file])
    assert found is not None
    assert [line for line in found if "refiner" not in line] == []
    assert any("CKV_K8S_22" in line for line in found), found
    assert any("CKV_K8S_43" in line and "without a reason" in line for line in found), found
