"""Whether manifests and code agree: names of settings, ports, probes, peers, Secrets, arguments, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from deploy.checks.cluster import Cluster, Resource
from deploy.checks.facts import Facts
from deploy.checks.models import files_agree, triton_agrees
from deploy.checks.network import peers_agree, routes_agree, selectors_agree
from deploy.checks.queries import dashboard_gaps, metric_problems
from deploy.checks.running import graces_agree, ports_agree, settings_agree

Rule = Callable[[Cluster, Facts], Iterator[str]]

_DASHBOARD = "text4seg-dashboard"


def disagreements(overlays: Mapping[str, Sequence[Resource]], facts: Facts) -> list[str]:
    """Return everything on which manifests and code disagree.

    Args:
        overlays: name -> rendered resources.
        facts: what the code says.

    Returns:
        One line each, beginning with the overlay where there is one.
    """
    found = []
    secrets: set[tuple[str, str]] = set()
    for name, resources in overlays.items():
        cluster = Cluster(resources)
        found += [f"{name}: {problem}" for rule in _RULES for problem in rule(cluster, facts)]
        for pod in cluster.pods:
            secrets |= set(pod.container.secrets.values())
        if cluster.named("ConfigMap", _DASHBOARD):
            found += [f"{name}: {gap}" for gap in dashboard_gaps(resources, facts)]
    for secret, key in sorted(secrets - facts.documented_secrets):
        found.append(f"docs/kubernetes.md does not tell of the key {key} of Secret {secret}")
    for secret, key in sorted(facts.documented_secrets - secrets):
        found.append(f"docs/kubernetes.md tells of the key {key} of Secret {secret}, which nothing reads")
    return [*found, *_documented_metrics(facts)]


def _metrics(cluster: Cluster, facts: Facts) -> Iterator[str]:
    yield from metric_problems(cluster.resources, facts)


def _documented_metrics(facts: Facts) -> Iterator[str]:
    for service in facts.services.values():
        ours = {name for name in service.families if not name.startswith("process_")}
        listed = {name for name, owners in facts.documented_metrics.items() if service.name in owners}
        for name in sorted(ours ^ listed):
            where = "docs/telemetry.md" if name in listed else "the code"
            yield f"{service.name}: only {where} knows the metric {name}"


_RULES: tuple[Rule, ...] = (
    settings_agree,
    ports_agree,
    peers_agree,
    selectors_agree,
    routes_agree,
    graces_agree,
    triton_agrees,
    files_agree,
    _metrics,
)
