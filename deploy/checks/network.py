"""Who calls whom, and whether a cluster lets them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from deploy.checks.cluster import Cluster
from deploy.checks.facts import Facts
from deploy.checks.running import services_of
from services.chassis.settings import split_address

_PEERS = ("GENERATOR_ADDRESS", "REFINER_ADDRESS", "REDIS_URL", "TRITON_URL")


def peers_agree(cluster: Cluster, facts: Facts) -> Iterator[str]:
    """Every address that a service is told is that of a Service here, which it may reach."""
    for service, pod in services_of(cluster, facts):
        for setting in _PEERS:
            if not (target := pod.container.variables.get(service.prefix + setting)):
                continue
            if service.prefix + setting == "T4S_REFINER_TRITON_URL" and (
                pod.container.variables.get("T4S_REFINER_MODEL") != "triton"
            ):
                continue
            about = f"{pod.name}: {service.prefix}{setting}={target}"
            host, port = split_address(urlsplit(target).netloc or target.removeprefix("dns:///"))
            if (found := cluster.named("Service", host)) is None:
                yield f"{about}: there is no Service {host}"
                continue
            if port not in [each["port"] for each in found["spec"]["ports"]]:
                yield f"{about}: Service {host} has no port {port}"
            if target.startswith("dns:///") != (found["spec"].get("clusterIP") == "None"):
                yield f"{about}: a Service is headless where the caller spreads its calls, and only there"
            for other in cluster.selected({"matchLabels": found["spec"]["selector"]}):
                yield from (f"{about}: {stop}" for stop in cluster.may_reach(pod, other, port))
        if endpoint := pod.container.variables.get(f"{service.prefix}OTLP_ENDPOINT"):
            port = split_address(urlsplit(endpoint).netloc)[1]
            if not cluster.may_leave(pod, port):
                yield f"{pod.name}: no NetworkPolicy lets traces out to {endpoint}"


def selectors_agree(cluster: Cluster, _: Facts) -> Iterator[str]:
    """Every policy, disruption budget and scaler is about something that is here."""
    for policy in cluster.of_kind("NetworkPolicy"):
        name, spec = policy["metadata"]["name"], policy["spec"]
        if not (pods := cluster.selected(spec["podSelector"])):
            yield f"NetworkPolicy {name} selects nothing"
        ports = [each["port"] for rule in spec.get("ingress", []) for each in rule.get("ports", [])]
        for port in ports:
            if not any(port in {*pod.container.ports, *pod.container.ports.values()} for pod in pods):
                yield f"NetworkPolicy {name}: no pod has a port {port}"
    for budget in cluster.of_kind("PodDisruptionBudget"):
        if not cluster.selected(budget["spec"]["selector"]):
            yield f"PodDisruptionBudget {budget['metadata']['name']} selects nothing"
    for monitor in cluster.of_kind("PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            for pod in cluster.selected(monitor["spec"]["selector"]):
                if endpoint["port"] not in pod.container.ports:
                    yield f"PodMonitor: {pod.name} has no port {endpoint['port']}"
    for scaler in cluster.of_kind("ScaledObject"):
        target = cluster.named("Deployment", scaler["spec"]["scaleTargetRef"]["name"])
        if target is None or "replicas" in target["spec"]:
            yield f"ScaledObject {scaler['metadata']['name']}: no Deployment leaves its replicas to it"
    for route in cluster.of_kind("GRPCRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                found = cluster.named("Service", backend["name"])
                if found is None or backend["port"] not in [each["port"] for each in found["spec"]["ports"]]:
                    yield f"GRPCRoute: there is no Service {backend['name']}:{backend['port']}"


def routes_agree(cluster: Cluster, facts: Facts) -> Iterator[str]:
    """Gateways route services that exist."""
    known = {method.split("/")[0] for service in facts.services.values() for method in service.methods}
    for route in cluster.of_kind("GRPCRoute"):
        for rule in route["spec"]["rules"]:
            for match in rule["matches"]:
                if match["method"]["service"] not in known:
                    yield f"GRPCRoute: there is no gRPC service {match['method']['service']}"
