"""``python -m deploy.check`` fails when something is renamed on one side only.

Each case renames in a copy of the repository and runs the whole check there: without checkov, which takes no
part in it, and for one version of Kubernetes, since ``make deploy-check`` itself goes through all of them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.checks.manifests import VERSIONS, renderer

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("deploy", "services", "docs/telemetry.md", "docs/kubernetes.md", ".dockerignore")
LINKED = ("text4seg", "text4seg_nano", "text4seg_light", "models", "requirements", "LICENSE")

pytestmark = pytest.mark.skipif(
    renderer() is None, reason="NOT CHECKED: the manifests cannot be rendered without kubectl or kustomize"
)


def copy_of_the_repository(root: Path) -> None:
    for name in COPIED:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    for name in LINKED:
        (root / name).symlink_to(ROOT / name)


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.check", "--no-audit", "--kubernetes", VERSIONS[-1]]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=200)


def rename(root: Path, folder: str, old: str, new: str) -> None:
    """Rename everywhere in a folder, or in one file."""
    place = root / folder
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    changed = [path for path in files if old in path.read_text("utf-8")]
    assert changed
    for path in changed:
        path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


def test_it_passes_as_it_is(tmp_path: Path) -> None:
    copy_of_the_repository(tmp_path)
    done = check(tmp_path)
    wrong = [line for line in done.stderr.splitlines() if not line.startswith("NOT CHECKED: ")]
    assert (done.returncode, wrong) == (0, [])
    assert "overlay production: " in done.stdout


@pytest.mark.parametrize(
    ("folder", "old", "new", "said"),
    [
        ("deploy/kubernetes", "50052", "50152", "port grpc is 50152, but the code's default is 50052"),
        (
            "services/generator/settings.py",
            "127.0.0.1:50052",
            "127.0.0.1:50152",
            "target generator: it listens on 50052, but the code's default is 50152",
        ),
        (
            "deploy/kubernetes/base",
            "GENERATOR_DRAIN_S",
            "GENERATOR_DRAIN_SECONDS",
            "T4S_GENERATOR_DRAIN_SECONDS is no setting of generator",
        ),
        ("services", "drain_s", "drain_seconds", "T4S_REFINER_DRAIN_S is no setting of refiner"),
        (
            "deploy/kubernetes/components",
            "text4seg_shed_total",
            "text4seg_refused_total",
            "no service has text4seg_refused_total",
        ),
        (
            "services/chassis/telemetry.py",
            'metrics.count("shed"',
            'metrics.count("refused"',
            "no service has text4seg_shed_total",
        ),
        (
            "deploy/docker/Dockerfile",
            "COPY models/nano",
            "COPY models/tiny",
            "there is no models/tiny to copy",
        ),
    ],
    ids=[
        "port-manifests",
        "port-code",
        "variable-manifests",
        "variable-code",
        "metric-manifests",
        "metric-code",
        "copy-dockerfile",
    ],
)
def test_it_fails_when_one_side_alone_is_renamed(
    tmp_path: Path, folder: str, old: str, new: str, said: str
) -> None:
    copy_of_the_repository(tmp_path)
    rename(tmp_path, folder, old, new)
    done = check(tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
