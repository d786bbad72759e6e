"""The Dockerfile and the compose files, without an engine: what they copy, set, open and run."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.checks.facts import ROOT, Facts
from deploy.checks.running import setting_problems

DOCKERFILE = Path("deploy/docker/Dockerfile")

_HOME = "/text4seg"
_NO_TORCH = "torch"
_TOOLS = re.compile(r"\b(apt-get|apk|gcc|g\+\+|build-essential|curl -)\b")


@dataclass
class Stage:
    """A stage of the Dockerfile, with all that it has from the stages below it."""

    name: str
    base: str
    copies: list[tuple[str, str]] = field(default_factory=list)
    """Source in the build's context, and where it goes."""
    stages: list[str] = field(default_factory=list)
    """Stages of which something is copied."""
    environment: dict[str, str] = field(default_factory=dict)
    ports: list[int] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    user: str = ""
    healthcheck: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)

    def models(self) -> list[str]:
        """Return the models that its Triton server loads; none where it has none."""
        return [each.partition("=")[2] for each in self.entrypoint if each.startswith("--load-model=")]

    def repository(self) -> str:
        """Return its model repository as a path in the build's context; empty where it has none."""
        given = [each for each in self.entrypoint if each.startswith("--model-repository=")]
        return given[0].partition("=")[2].removeprefix(f"{_HOME}/") if given else ""

    def requirements(self, stages: Mapping[str, Stage]) -> list[str]:
        """Return the requirement files that are installed in the stages which it copies from."""
        return [
            source
            for name in self.stages
            for source, _ in stages[name].copies
            if source.startswith("requirements/")
        ]


def read_dockerfile(root: Path = ROOT) -> dict[str, Stage]:
    """Return the stages of the Dockerfile by name, in their order.

    Raises:
        ValueError: an instruction is not known here, or names a stage that is not above it.
    """
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for line in (root / DOCKERFILE).read_text("utf-8").splitlines():
        word, _, rest = line.strip().partition(" ")
        if not word or word.startswith("#"):
            continue
        if word == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif word == "FROM":
            source, _, name = rest.partition(" AS ")
            base = arguments.get(source.strip("${}"), source)
            below = stages.get(base)
            stage = stages[name] = Stage(name, base)
            if below is not None:
                stage.copies += below.copies
                stage.environment |= below.environment
                stage.ports += below.ports
                stage.user, stage.healthcheck = below.user, below.healthcheck
        elif stage is not None:
            _instruct(stage, word, rest, stages)
    return stages


def _instruct(stage: Stage, word: str, rest: str, stages: Mapping[str, Stage]) -> None:
    match word:
        case "COPY":
            *options, target = shlex.split(rest)
            sources = [each for each in options if not each.startswith("--")]
            if copied := [each.removeprefix("--from=") for each in options if each.startswith("--from=")]:
                if copied[0] not in stages:
                    raise ValueError(f"COPY from {copied[0]}, which is no stage above {stage.name}")
                stage.stages += copied
            else:
                stage.copies += [(source, target) for source in sources]
        case "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        case "EXPOSE":
            stage.ports += [int(port) for port in rest.split()]
        case "USER":
            stage.user = rest
        case "RUN":
            stage.commands.append(rest)
        case "HEALTHCHECK":
            stage.healthcheck = json.loads(rest.partition(" CMD ")[2])
        case "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        case "WORKDIR":
            pass
        case _:
            raise ValueError(f"instruction {word} is not known here")


def image_problems(facts: Facts, root: Path = ROOT) -> Iterator[str]:
    """Yield what is wrong with the Dockerfile."""
    try:
        stages = read_dockerfile(root)
    except ValueError as error:
        yield f"Dockerfile: {error}"
        return
    ignored = (root / ".dockerignore").read_text("utf-8").split("\n")
    for stage in stages.values():
        for source, _ in stage.copies:
            if not (root / source).exists():
                yield f"{stage.name}: there is no {source} to copy"
            elif _ignored(source, ignored):
                yield f"{stage.name}: .dockerignore leaves {source} out"
        for command in stage.commands:
            for file in re.findall(r"-r /(requirements/[\w-]+\.txt)", command):
                if not any(source == file for source, _ in stage.copies):
                    yield f"{stage.name}: {file} is installed, and not copied"
    for name in facts.services:
        if name not in stages:
            yield f"there is no target for {name}"
        else:
            yield from (f"target {name}: {problem}" for problem in _target(stages[name], stages, facts, root))
    for stage in stages.values():
        for model in stage.models():
            folder = stage.repository()
            if model not in facts.triton_models.get(folder, frozenset()):
                yield f"target {stage.name}: {folder} has no model {model}"
        if stage.entrypoint and stage.user in ("", "0", "root", "0:0"):
            yield f"target {stage.name}: it runs as root"
        if stage.entrypoint and not stage.healthcheck:
            yield f"target {stage.name}: nothing looks after its health"


def _target(stage: Stage, stages: Mapping[str, Stage], facts: Facts, root: Path) -> Iterator[str]:
    service = facts.services[stage.name]
    if stage.entrypoint != ["python", "-m", service.module]:
        yield f"it does not run {service.module}"
    yield from setting_problems(stage.environment, facts, service.name)
    opened = {
        setting: int(stage.environment.get(service.prefix + setting, ":0").rpartition(":")[2])
        for setting in ("ADDRESS", "HEALTH_ADDRESS", "METRICS_ADDRESS")
    }
    if opened["ADDRESS"] != service.port:
        yield f"it listens on {opened['ADDRESS']}, but the code's default is {service.port}"
    if sorted(opened.values()) != sorted(stage.ports):
        yield f"it exposes {sorted(stage.ports)}, and opens {sorted(opened.values())}"
    probe = ["python", "-m", "services.chassis.probe", f"127.0.0.1:{opened['HEALTH_ADDRESS']}"]
    if stage.healthcheck != probe:
        yield f"its health check is not {' '.join(probe)}"
    if any(_TOOLS.search(command) for command in stage.commands):
        yield "it installs tools in its last layer"
    packages = "\n".join((root / file).read_text("utf-8") for file in stage.requirements(stages))
    if service.name == "orchestrator" and re.search(rf"^{_NO_TORCH}==", packages, re.MULTILINE):
        yield "torch is in it"


def _ignored(path: str, patterns: Sequence[str]) -> bool:
    parents = [path, *map(str, Path(path).parents)]
    chosen = [each.removeprefix("**/").strip("/") for each in patterns if each and not each.startswith("#")]
    return any(fnmatch.fnmatch(parent, pattern) for parent in parents for pattern in chosen)


def compose_problems(compose: Mapping[str, Any], facts: Facts, stages: Mapping[str, Stage]) -> Iterator[str]:
    """Yield what is wrong with a compose file.

    Args:
        compose: what a loader of compose files makes of one file, or of several on top of each other.
        facts: what the code says.
        stages: of the Dockerfile.
    """
    services = compose["services"]
    for name, service in services.items():
        environment = _environment(service)
        owners = (name,) if name in facts.services else ()
        yield from (f"{name}: {problem}" for problem in setting_problems(environment, facts, *owners))
        if (build := service.get("build")) and build["target"] not in stages:
            yield f"{name}: the Dockerfile has no target {build['target']}"
        if not service.get("read_only"):
            yield f"{name}: its root file system can be written to"
        for variable, value in environment.items():
            if variable.endswith(("_ADDRESS", "_URL")):
                host, _, port = value.rpartition("//")[2].partition("/")[0].partition(":")
                if host not in services:
                    yield f"{name}: {variable}={value}: there is no service {host}"
                elif (stage := stages.get(host)) and int(port) not in stage.ports:
                    yield f"{name}: {variable}={value}: {host} does not open {port}"
            if variable.endswith("_TRITON_MODEL") and value not in _loaded(environment, stages):
                yield f"{name}: {variable}={value}: its Triton does not load it"
            if value.startswith("/") and not _mounted(service, value):
                yield f"{name}: {variable}={value} is on no volume"
        for published in service.get("ports", []):
            if (stage := stages.get(name)) and published["target"] not in stage.ports:
                yield f"{name}: port {published['target']} is published, and not open"
        for other in service.get("depends_on", {}):
            if other not in services:
                yield f"{name}: it waits for {other}, which is not there"
    for name in facts.services:
        if name not in services:
            yield f"nothing runs {name}"


def _loaded(environment: Mapping[str, str], stages: Mapping[str, Stage]) -> list[str]:
    url = next((value for variable, value in environment.items() if variable.endswith("_TRITON_URL")), "")
    stage = stages.get(url.partition(":")[0])
    return stage.models() if stage else []


def _environment(service: Mapping[str, Any]) -> dict[str, str]:
    given = service.get("environment", {})
    return dict(each.split("=", 1) for each in given) if isinstance(given, list) else dict(given)


def _mounted(service: Mapping[str, Any], path: str) -> bool:
    return any(path.startswith(f"{volume['target']}/") for volume in service.get("volumes", []))
