"""Settings, ports and probes of the services, and how long their pods may live."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from deploy.checks.cluster import Cluster, Container, Pod
from deploy.checks.facts import Facts, ServiceFacts
from services.chassis.settings import split_address

TRITON = "tritonserver"

_ALWAYS_SET = ("ADDRESS", "HEALTH_ADDRESS", "METRICS_ADDRESS", "DRAIN_S")
_PORTS = {"grpc": "ADDRESS", "health": "HEALTH_ADDRESS", "metrics": "METRICS_ADDRESS"}
_SETTINGS_PREFIX = "T4S_"


def setting_problems(variables: Mapping[str, str], facts: Facts, *owners: str) -> Iterator[str]:
    """Yield what is wrong with environment variables that are meant as settings.

    Args:
        variables: name -> value; those that are no settings of ours by their prefix are left alone.
        facts: what the code says.
        owners: services whose settings they may be.
    """
    values: dict[str, dict[str, str]] = {owner: {} for owner in owners}
    for variable, value in variables.items():
        if not variable.startswith(_SETTINGS_PREFIX):
            continue
        owner = next((each for each in owners if variable in facts.services[each].variables), None)
        if owner is None:
            yield f"{variable} is no setting of {' or '.join(owners) or 'anything here'}"
        else:
            values[owner][variable.removeprefix(facts.services[owner].prefix).lower()] = value
    for owner, chosen in values.items():
        try:
            facts.services[owner].settings(**chosen)  # type: ignore[arg-type]  # as they come from outside
        except ValidationError as error:
            for problem in error.errors():
                place = ".".join(map(str, problem["loc"])) or "settings"
                yield f"{owner}: {place}: {problem['msg']}"


def settings_agree(cluster: Cluster, facts: Facts) -> Iterator[str]:
    """Every variable is a setting with a good value, and every service is told what it must be told."""
    for pod in cluster.pods:
        owners = _owners(pod.container, facts)
        for problem in setting_problems(pod.container.variables, facts, *owners):
            yield f"{pod.name}: {problem}"
        secret = {name for owner in owners for name in facts.services[owner].secrets}
        for variable in pod.container.secrets:
            if variable not in secret:
                yield f"{pod.name}: {variable} comes from a Secret, and is no secret setting of the code"
    for service in facts.services.values():
        if (found := cluster.pod(service.name)) is None:
            yield f"nothing runs {service.module}"
            continue
        if found.container.command != ("python", "-m", service.module) or found.container.arguments:
            yield f"{found.name} does not run `python -m {service.module}`"
        for name in _ALWAYS_SET:
            if service.prefix + name not in found.container.variables:
                yield f"{found.name}: {service.prefix}{name} is not set"
        for variable in sorted(service.secrets - set(found.container.secrets)):
            yield f"{found.name}: {variable} does not come from a Secret"


def ports_agree(cluster: Cluster, facts: Facts) -> Iterator[str]:
    """Ports are those where the code listens; probes and Services ask for them."""
    for service, pod in services_of(cluster, facts):
        ports, variables = pod.container.ports, pod.container.variables
        for name, setting in _PORTS.items():
            address = variables.get(service.prefix + setting, ":0")
            if ports.get(name) != split_address(f"x{address}")[1]:
                told = f"{service.prefix}{setting} is {address}"
                yield f"{pod.name}: port {name} is {ports.get(name)}, but {told}"
        if ports.get("grpc") != service.port:
            yield f"{pod.name}: port grpc is {ports.get('grpc')}, but the code's default is {service.port}"
        body = pod.container.body
        if body["readinessProbe"].get("grpc", {}).get("port") != ports.get("health"):
            yield f"{pod.name}: the readiness probe does not ask at the health port"
        if body["livenessProbe"].get("tcpSocket", {}).get("port") != "health":
            yield f"{pod.name}: the liveness probe does not look at the health port"
    for pod in cluster.pods:
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = pod.container.body.get(kind, {})
            port = next(
                (probe[way]["port"] for way in ("grpc", "httpGet", "tcpSocket") if way in probe), None
            )
            if port is not None and port not in {*pod.container.ports, *pod.container.ports.values()}:
                yield f"{pod.name}: {kind} asks at port {port}, which is not there"
    for each in cluster.of_kind("Service"):
        name, spec = each["metadata"]["name"], each["spec"]
        if not (pods := cluster.selected({"matchLabels": spec["selector"]})):
            yield f"Service {name} selects nothing"
        for port in spec["ports"]:
            for pod in pods:
                if pod.port(port["targetPort"]) != port["port"]:
                    target = f"port {port['targetPort']} of {pod.name}"
                    yield f"Service {name}: port {port['port']} is not {target}"


def graces_agree(cluster: Cluster, facts: Facts) -> Iterator[str]:
    """A pod may live until its longest call is over, as far as settings bound it."""
    orchestrator = cluster.pod("orchestrator")
    told = orchestrator.container.variables if orchestrator else {}
    longest = float(told.get("T4S_ORCHESTRATOR_PEER_TIMEOUT_S", "inf"))
    for service, pod in services_of(cluster, facts):
        variables = pod.container.variables
        drain = float(variables.get(f"{service.prefix}DRAIN_S", 0))
        pause = float(pod.container.body["lifecycle"]["preStop"]["exec"]["command"][-1])
        if drain < longest:
            yield f"{pod.name}: calls get {drain:g} s to end, and may take {longest:g} s"
        if pod.body["terminationGracePeriodSeconds"] < pause + drain:
            yield f"{pod.name}: it is killed before {pause:g} s and {drain:g} s are over"


def services_of(cluster: Cluster, facts: Facts) -> Iterator[tuple[ServiceFacts, Pod]]:
    """Yield every service that runs here, with its pod."""
    for service in facts.services.values():
        if (pod := cluster.pod(service.name)) is not None:
            yield service, pod


def _owners(container: Container, facts: Facts) -> tuple[str, ...]:
    if container.name in facts.services:
        return (container.name,)
    return ("generator", "refiner") if container.command[:1] == (TRITON,) else ()
