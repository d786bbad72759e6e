"""What the code and its documents say, as far as a deployment depends on it."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from services.chassis.settings import ServerSettings, split_address
from services.chassis.telemetry import Telemetry
from services.generator.observed import GeneratorMetrics
from services.generator.settings import GeneratorSettings
from services.orchestrator.observed import AnswerMetrics
from services.orchestrator.settings import OrchestratorSettings
from services.refiner.settings import RefinerSettings
from text4seg.v1 import generator_service_pb2, refiner_service_pb2, segmentation_service_pb2

ROOT = Path(__file__).resolve().parents[2]

_SETTINGS: Mapping[str, type[ServerSettings]] = {
    "orchestrator": OrchestratorSettings,
    "generator": GeneratorSettings,
    "refiner": RefinerSettings,
}
_PROTOS = {
    "orchestrator": segmentation_service_pb2,
    "generator": generator_service_pb2,
    "refiner": refiner_service_pb2,
}
_METRIC_ROW = re.compile(
    r"^\| `(text4seg_\w+)` \| (\w+) \| ([\w, ]+) \| ((?:`\w+`(?:, )?)*|none) \|", re.MULTILINE
)
_SECRET_ROW = re.compile(r"^\| `([\w-]+)` \| `(\w+)` \|", re.MULTILINE)
_VLLM = "deploy/triton/vllm"
_SCRAPE_S = 30


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family: its type, its labels besides ``service``, and the values that a label starts with."""

    kind: str
    labels: frozenset[str]
    values: Mapping[str, frozenset[str]]

    def sample_names(self, name: str) -> frozenset[str]:
        """Return what a query may call the samples of the family ``name``."""
        if self.kind == "histogram":
            return frozenset(f"{name}_{part}" for part in ("bucket", "sum", "count"))
        return frozenset((name,))


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """One service, as its code describes it."""

    name: str
    module: str
    """What ``python -m`` runs."""
    settings: type[ServerSettings]
    port: int
    """Where it listens by default."""
    methods: frozenset[str]
    """gRPC methods, ``package.Service/Method``."""
    families: Mapping[str, Family]

    @property
    def prefix(self) -> str:
        """Prefix of its environment variables."""
        return str(self.settings.model_config["env_prefix"])

    @property
    def variables(self) -> frozenset[str]:
        """Environment variables that are settings."""
        return frozenset(self.prefix + field.upper() for field in self.settings.model_fields)

    @property
    def secrets(self) -> frozenset[str]:
        """Those that hold a secret."""
        fields = self.settings.model_fields.items()
        return frozenset(
            self.prefix + name.upper() for name, field in fields if field.annotation is SecretStr
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that manifests are compared with."""

    services: Mapping[str, ServiceFacts]
    documented_metrics: Mapping[str, frozenset[str]]
    """Metric -> the services that docs/telemetry.md gives it."""
    documented_secrets: frozenset[tuple[str, str]]
    """Name and key of each Secret that docs/kubernetes.md asks an operator for."""
    triton_models: Mapping[str, frozenset[str]]
    """Model repository, as a path from the root -> the models in it."""
    vllm_weights: Mapping[str, str]
    """Model of vLLM -> the folder in which its model.json looks for weights."""

    def family(self, sample: str) -> tuple[frozenset[str], Family] | None:
        """Return the services that have a sample of this name, and its family; None when none has."""
        owners: set[str] = set()
        found: Family | None = None
        for service in self.services.values():
            for name, family in service.families.items():
                if sample in family.sample_names(name):
                    owners.add(service.name)
                    found = family if found is None or family.values else found
        return None if found is None else (frozenset(owners), found)


def read_facts(root: Path = ROOT) -> Facts:
    """Return the facts of the code that is imported and of the documents under ``root``."""
    telemetry = (root / "docs" / "telemetry.md").read_text("utf-8")
    kubernetes = (root / "docs" / "kubernetes.md").read_text("utf-8")
    rows = {name: (labels, where) for name, _, where, labels in _METRIC_ROW.findall(telemetry)}
    labels = {name: frozenset(re.findall(r"`(\w+)`", text)) for name, (text, _) in rows.items()}
    return Facts(
        services={name: _service(name, labels) for name in _SETTINGS},
        documented_metrics={
            name: frozenset(_SETTINGS if where == "all" else where.split(", "))
            for name, (_, where) in rows.items()
        },
        documented_secrets=frozenset(_SECRET_ROW.findall(kubernetes)),
        triton_models={
            folder: frozenset(path.parent.name for path in (root / folder).glob("*/config.pbtxt"))
            for folder in ("deploy/triton/models", _VLLM)
        },
        vllm_weights={
            path.parents[1].name: json.loads(path.read_text("utf-8"))["model"]
            for path in (root / _VLLM).glob("*/1/model.json")
        },
    )


def _service(name: str, labels: Mapping[str, frozenset[str]]) -> ServiceFacts:
    settings = _SETTINGS[name]
    _, port = split_address(settings.model_fields["address"].default)
    protos = _PROTOS[name].DESCRIPTOR.services_by_name.values()
    return ServiceFacts(
        name=name,
        module=f"services.{name}",
        settings=settings,
        port=port,
        methods=frozenset(f"{each.full_name}/{method.name}" for each in protos for method in each.methods),
        families=_families(name, labels),
    )


def _families(service: str, labels: Mapping[str, frozenset[str]]) -> dict[str, Family]:
    """Scrape what a service declares, as it does before its first call."""
    telemetry = Telemetry(service)
    telemetry.gate(1, 1)
    telemetry.facts(lambda: {"started": True})
    telemetry.loaded(0.0)
    if service == "generator":
        GeneratorMetrics(telemetry)
    if service == "orchestrator":
        AnswerMetrics(telemetry)
    address, stop = telemetry.metrics.serve("127.0.0.1:0")
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=_SCRAPE_S) as response:
            text = str(response.read(), "utf-8")
    finally:
        stop()
    found = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        known = labels.get(name, frozenset())
        values = _values(sample.labels for sample in family.samples)
        # Only a counter with one label starts with all of its values.
        closed = len(known) == 1 and family.type == "counter"
        found[name] = Family(family.type, known, values if closed else {})
    return found


def _values(labels: Iterable[Mapping[str, str]]) -> dict[str, frozenset[str]]:
    seen: dict[str, set[str]] = {}
    for each in labels:
        for name, value in each.items():
            if name != "service":
                seen.setdefault(name, set()).add(value)
    return {name: frozenset(values) for name, values in seen.items()}
