"""Rendered manifests as what a cluster would make of them: pods, settings, services, who may call whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Resource = Mapping[str, Any]

_WORKLOADS = ("Deployment", "Job")


@dataclass(frozen=True, slots=True)
class Container:
    """A container with its environment, as far as that is known before a cluster has Secrets."""

    name: str
    image: str
    command: tuple[str, ...]
    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    """From ConfigMaps and literals."""
    secrets: Mapping[str, tuple[str, str]]
    """Variable -> name and key of the Secret that it comes from."""
    ports: Mapping[str, int]
    mounts: Mapping[str, Mapping[str, Any]]
    """Path -> the volume that is mounted there."""
    body: Resource


@dataclass(frozen=True, slots=True)
class Pod:
    """What a Deployment or Job runs."""

    kind: str
    name: str
    labels: Mapping[str, str]
    container: Container
    body: Resource

    def port(self, port: int | str) -> int | None:
        """Return the number of a port that is given by name or number; None when there is no such name."""
        return self.container.ports.get(port) if isinstance(port, str) else port


class Cluster:
    """The resources of one overlay.

    Args:
        resources: as rendered.
    """

    def __init__(self, resources: Sequence[Resource]) -> None:
        self.resources = resources
        self.pods = [self._pod(each) for kind in _WORKLOADS for each in self.of_kind(kind)]

    def of_kind(self, kind: str) -> list[Resource]:
        """Return all resources of a kind."""
        return [each for each in self.resources if each["kind"] == kind]

    def named(self, kind: str, name: str) -> Resource | None:
        """Return one resource, or None."""
        return next((each for each in self.of_kind(kind) if each["metadata"]["name"] == name), None)

    def pod(self, name: str) -> Pod | None:
        """Return what the workload of a name runs, or None."""
        return next((pod for pod in self.pods if pod.name == name), None)

    def selected(self, selector: Mapping[str, Any]) -> list[Pod]:
        """Return the pods that a label selector selects."""
        return [pod for pod in self.pods if matches(selector, pod.labels)]

    def may_reach(self, source: Pod, target: Pod, port: int) -> list[str]:
        """Return what keeps one pod from connecting to a port of another; nothing when it may."""
        stops = []
        if not any(
            _to_pod(rule, target, port)
            for policy in self._policies(source, "Egress")
            for rule in policy["spec"].get("egress", [])
        ):
            stops.append(f"no NetworkPolicy lets {source.name} out to {target.name}:{port}")
        if not any(
            _from_pod(rule, source) and _has_port(rule, target, port)
            for policy in self._policies(target, "Ingress")
            for rule in policy["spec"].get("ingress", [])
        ):
            stops.append(f"no NetworkPolicy lets {source.name} in to {target.name}:{port}")
        return stops

    def may_leave(self, source: Pod, port: int) -> bool:
        """Say whether a pod may connect to a port outside of the namespace."""
        return any(
            any(each.get("port") == port for each in rule.get("ports", []))
            and (not rule.get("to") or any("namespaceSelector" in to for to in rule["to"]))
            for policy in self._policies(source, "Egress")
            for rule in policy["spec"].get("egress", [])
        )

    def _policies(self, pod: Pod, direction: str) -> Iterator[Resource]:
        for policy in self.of_kind("NetworkPolicy"):
            spec = policy["spec"]
            if direction in spec["policyTypes"] and matches(spec["podSelector"], pod.labels):
                yield policy

    def _pod(self, workload: Resource) -> Pod:
        template = workload["spec"]["template"]
        (body,) = template["spec"]["containers"]
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
        container = Container(
            name=body["name"],
            image=body["image"],
            command=tuple(body.get("command", ())),
            arguments=tuple(body.get("args", ())),
            variables=self._variables(body),
            secrets={
                each["name"]: (reference["name"], reference["key"])
                for each in body.get("env", [])
                if (reference := each.get("valueFrom", {}).get("secretKeyRef"))
            },
            ports={each["name"]: each["containerPort"] for each in body.get("ports", [])},
            mounts={each["mountPath"]: volumes[each["name"]] for each in body.get("volumeMounts", [])},
            body=body,
        )
        name = workload["metadata"]["name"]
        return Pod(workload["kind"], name, template["metadata"]["labels"], container, template["spec"])

    def _variables(self, body: Resource) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in body.get("envFrom", []):
            config = self.named("ConfigMap", source["configMapRef"]["name"])
            found |= config["data"] if config else {}
        found |= {each["name"]: each["value"] for each in body.get("env", []) if "value" in each}
        return found


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Say whether a Kubernetes label selector selects something with these labels."""
    for name, value in selector.get("matchLabels", {}).items():
        if labels.get(name) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        if rule["operator"] != "In":
            raise ValueError(f"operator {rule['operator']} is not known here")
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def _to_pod(rule: Resource, target: Pod, port: int) -> bool:
    return _has_port(rule, target, port) and _among(rule.get("to", []), target)


def _from_pod(rule: Resource, source: Pod) -> bool:
    return _among(rule.get("from", []), source)


def _among(peers: Iterable[Mapping[str, Any]], pod: Pod) -> bool:
    return any(
        "namespaceSelector" not in peer and matches(peer["podSelector"], pod.labels)
        for peer in peers
        if "podSelector" in peer
    )


def _has_port(rule: Resource, target: Pod, port: int) -> bool:
    return any(target.port(each["port"]) == port for each in rule.get("ports", []))
