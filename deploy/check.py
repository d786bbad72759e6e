"""Check images and manifests without an engine and without a cluster: ``make deploy-check``.

- The Dockerfile: hadolint; what it copies, sets, opens and runs is compared with the code.
- The compose files: read by the loader of the Compose specification, and compared with the code.
- Every Kubernetes overlay: rendered, validated strictly against the schemas of several versions (custom
  resources against those in ``deploy/kubernetes/schemas``), compared with the code (settings, ports, probes,
  peers, Secrets, arguments, metrics), and audited with checkov, where every skip has a reason.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.checks.agreement import disagreements
from deploy.checks.cluster import Resource
from deploy.checks.facts import ROOT, Facts, read_facts
from deploy.checks.images import compose_problems, image_problems, read_dockerfile
from deploy.checks.manifests import (
    KUBERNETES,
    VERSIONS,
    DeployCheckError,
    overlays,
    read,
    render,
    renderer,
    schema_problems,
)
from deploy.checks.tools import audit, lint_dockerfile, load_compose

_COMPOSE = ROOT / "deploy" / "docker"


class _Report:
    """What is wrong, and what was not looked at."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.skipped: list[str] = []

    def take(self, what: str, found: list[str] | None) -> None:
        """Take what a tool found; None: there is no such tool."""
        if found is None:
            self.skipped.append(what)
        else:
            self.wrong += found


def _images(facts: Facts, report: _Report) -> None:
    report.wrong += image_problems(facts)
    report.take("Dockerfile: hadolint is not installed", lint_dockerfile())
    stages = read_dockerfile()
    print(f"Dockerfile: {len([stage for stage in stages.values() if stage.entrypoint])} targets")
    for files in (("compose.yaml",), ("compose.yaml", "compose.gpu.yaml")):
        loaded = load_compose([_COMPOSE / file for file in files])
        if loaded is None:
            report.skipped.append(
                f"{files[-1]}: there is neither Docker Compose nor Go to build its loader with"
            )
        else:
            report.wrong += [f"{files[-1]}: {each}" for each in compose_problems(loaded, facts, stages)]
            print(f"{files[-1]}: {len(loaded['services'])} services")


def _render(output: Path) -> Iterator[tuple[str, Path, list[Resource]]]:
    output.mkdir(parents=True, exist_ok=True)
    for name in overlays():
        text = render(ROOT / KUBERNETES / "overlays" / name)
        file = output / f"{name}.yaml"
        file.write_text(text, "utf-8")
        yield name, file, read(text)


def _manifests(facts: Facts, output: Path, versions: Sequence[str], report: _Report) -> list[Path]:
    if renderer() is None:
        report.skipped.append("overlays: there is neither kubectl nor kustomize, nor Go to build it with")
        return []
    rendered = list(_render(output))
    for name, _, resources in rendered:
        for resource in resources:
            about = f"{name}: {resource['kind']}/{resource['metadata']['name']}"
            report.wrong += [f"{about}: {problem}" for problem in schema_problems(resource, versions)]
        print(f"overlay {name}: {len(resources)} resources, Kubernetes {', '.join(versions)}")
    report.wrong += disagreements({name: resources for name, _, resources in rendered}, facts)
    return [file for _, file, _ in rendered]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check everything; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "deploy", help="where to render to")
    parser.add_argument("--no-audit", action="store_true", help="leave checkov out")
    parser.add_argument(
        "--kubernetes", action="append", choices=VERSIONS, help="a version to validate for; all by default"
    )
    parser.add_argument("--complete", action="store_true", help="fail where a tool is missing")
    options = parser.parse_args(arguments)
    report = _Report()
    facts = read_facts()
    try:
        _images(facts, report)
        files = _manifests(facts, options.output, options.kubernetes or VERSIONS, report)
        if files and not options.no_audit:
            report.take("overlays: checkov is not installed", audit(files))
    except DeployCheckError as error:
        report.wrong.append(str(error))
    for line in report.wrong:
        print(line, file=sys.stderr)
    for line in report.skipped:
        print(f"NOT CHECKED: {line}", file=sys.stderr)
    return 1 if report.wrong or (options.complete and report.skipped) else 0


if __name__ == "__main__":
    sys.exit(main())
