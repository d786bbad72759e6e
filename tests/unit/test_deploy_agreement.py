"""Manifests and code agree, and what is renamed on one side only is noticed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from deploy.checks.agreement import disagreements
from deploy.checks.facts import Facts
from tests.deploying import change, facts, rendered


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


def rename_key(mapping: dict[str, Any], old: str, new: str) -> None:
    mapping[new] = mapping.pop(old)


def replace_in(path: str, old: str, new: str) -> Callable[[dict[str, Any]], None]:
    """An edit of a text that lies at a path of keys."""

    def edit(resource: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        place: Any = resource
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place[key]
        assert old in place[last]
        place[last] = place[last].replace(old, new)

    return edit


def test_they_agree() -> None:
    assert disagreements(rendered(), facts()) == []


@pytest.mark.parametrize(
    ("overlay", "kind", "name", "edit", "said"),
    [
        (
            "laptop",
            "ConfigMap",
            "generator-settings",
            lambda each: rename_key(each["data"], "T4S_GENERATOR_DRAIN_S", "T4S_GENERATOR_DRAIN_SECONDS"),
            "T4S_GENERATOR_DRAIN_SECONDS is no setting of generator",
        ),
        (
            "laptop",
            "ConfigMap",
            "generator-settings",
            lambda each: each["data"].pop("T4S_GENERATOR_METRICS_ADDRESS"),
            "T4S_GENERATOR_METRICS_ADDRESS is not set",
        ),
        (
            "gpu",
            "ConfigMap",
            "generator-settings",
            lambda each: each["data"].update(T4S_GENERATOR_ENGINE="vllm"),
            "generator: engine: Input should be",
        ),
        (
            "laptop",
            "Deployment",
            "refiner",
            lambda each: container(each)["ports"][0].update(containerPort=50153),
            "refiner: port grpc is 50153, but T4S_REFINER_ADDRESS is 0.0.0.0:50053",
        ),
        (
            "laptop",
            "Deployment",
            "refiner",
            lambda each: container(each)["readinessProbe"]["grpc"].update(port=50062),
            "refiner: the readiness probe does not ask at the health port",
        ),
        (
            "laptop",
            "Service",
            "generator",
            lambda each: each["spec"]["ports"][0].update(port=50152),
            "Service generator has no port 50052",
        ),
        (
            "laptop",
            "Service",
            "generator",
            lambda each: each["spec"].pop("clusterIP"),
            "a Service is headless where the caller spreads its calls",
        ),
        (
            "laptop",
            "Deployment",
            "orchestrator",
            lambda each: container(each).update(command=["python", "-m", "services.gateway"]),
            "orchestrator does not run `python -m services.orchestrator`",
        ),
        (
            "laptop",
            "Deployment",
            "orchestrator",
            lambda each: each["spec"]["template"]["spec"].update(terminationGracePeriodSeconds=300),
            "orchestrator: it is killed before 10 s and 300 s are over",
        ),
        (
            "laptop",
            "Deployment",
            "generator",
            lambda each: container(each)["env"][0]["valueFrom"]["secretKeyRef"].update(key="others"),
            "docs/kubernetes.md does not tell of the key others of Secret text4seg-api-keys",
        ),
        (
            "laptop",
            "NetworkPolicy",
            "generator",
            lambda each: each["spec"]["ingress"][0]["ports"][0].update(port=50152),
            "no NetworkPolicy lets orchestrator in to generator:50052",
        ),
        (
            "laptop",
            "NetworkPolicy",
            "orchestrator",
            lambda each: each["spec"]["egress"].pop(0),
            "no NetworkPolicy lets orchestrator out to generator:50052",
        ),
        (
            "cpu",
            "PodMonitor",
            "text4seg",
            lambda each: each["spec"]["podMetricsEndpoints"][0].update(port="prometheus"),
            "has no port prometheus",
        ),
        (
            "cpu",
            "PrometheusRule",
            "text4seg",
            replace_in("spec/groups/0/rules/1/expr", "text4seg_health", "text4seg_healthy"),
            "no service has text4seg_healthy",
        ),
        (
            "cpu",
            "PrometheusRule",
            "text4seg",
            replace_in("spec/groups/0/rules/1/expr", "fact", "reason"),
            "it groups by reason, which nothing in it has",
        ),
        (
            "cpu",
            "PrometheusRule",
            "text4seg",
            replace_in("spec/groups/0/rules/7/expr", "refiner_failed", "refiner_broken"),
            "text4seg_warnings_total has no kind refiner_broken",
        ),
        (
            "cpu",
            "PrometheusRule",
            "text4seg",
            replace_in("spec/groups/0/rules/4/expr", "Service/Segment", "Service/Cut"),
            "has no method text4seg.v1.SegmentationService/Cut",
        ),
        (
            "cpu",
            "PrometheusRule",
            "text4seg",
            replace_in("spec/groups/0/rules/1/expr", "==", "=("),
            "not PromQL",
        ),
        (
            "cpu",
            "ConfigMap",
            "text4seg-dashboard",
            replace_in("data/text4seg.json", "text4seg_cache_total", "text4seg_caches_total"),
            "no panel of the dashboard shows text4seg_cache_total of orchestrator",
        ),
        (
            "production",
            "ScaledObject",
            "generator",
            replace_in("spec/triggers/0/metadata/query", "text4seg_in_flight", "text4seg_busy"),
            "no service has text4seg_busy",
        ),
        (
            "production",
            "Deployment",
            "triton",
            lambda each: container(each)["args"].__setitem__(2, "--load-model=text4segs"),
            "triton: deploy/triton/models has no model text4segs",
        ),
        (
            "production",
            "ConfigMap",
            "refiner-settings",
            lambda each: each["data"].update(T4S_REFINER_TRITON_MODEL="masks"),
            "refiner: triton does not load the model masks",
        ),
        (
            "production",
            "Certificate",
            "refiner",
            lambda each: each["spec"].update(secretName="refiner-certificate"),
            "no Certificate makes the Secret refiner-tls",
        ),
        (
            "production",
            "ConfigMap",
            "generator-settings",
            lambda each: each["data"].update(T4S_GENERATOR_TLS_KEY="/etc/text4seg/tls/key.pem"),
            "cert-manager writes no key.pem",
        ),
        (
            "production",
            "GRPCRoute",
            "orchestrator",
            lambda each: each["spec"]["rules"][0]["backendRefs"][0].update(port=50052),
            "GRPCRoute: there is no Service orchestrator:50052",
        ),
        (
            "gpu",
            "ConfigMap",
            "refiner-settings",
            lambda each: each["data"].update(T4S_REFINER_SAM_CHECKPOINTS="/models/sam/sam_vit_h.pth"),
            "weights.json does not bring /models/sam/sam_vit_h.pth",
        ),
    ],
)
def test_a_change_of_the_manifests_alone(
    overlay: str, kind: str, name: str, edit: Callable[[dict[str, Any]], Any], said: str
) -> None:
    overlays = rendered()
    change(overlays[overlay], kind, name, edit)
    found = disagreements(overlays, facts())
    assert any(said in each for each in found), found


def changed(name: str, **changes: Any) -> Facts:
    """The facts as they would be after a change of one service's code."""
    services = {**facts().services, name: dataclasses.replace(facts().services[name], **changes)}
    return dataclasses.replace(facts(), services=services)


def renamed_metric(name: str, old: str, new: str) -> Facts:
    service = facts().services[name]
    families = {new if name == old else name: family for name, family in service.families.items()}
    return changed(service.name, families=families)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (lambda: changed("generator", port=50152), "generator: port grpc is 50052, but the code's default"),
        (
            lambda: changed("refiner", module="services.sharpener"),
            "refiner does not run `python -m services.sharpener`",
        ),
        (
            lambda: renamed_metric("generator", "text4seg_tokens_total", "text4seg_words_total"),
            "no service has text4seg_tokens_total",
        ),
        (
            lambda: renamed_metric("generator", "text4seg_tokens_total", "text4seg_words_total"),
            "generator: only the code knows the metric text4seg_words_total",
        ),
        (
            lambda: changed("orchestrator", methods=frozenset({"text4seg.v1.SegmentationService/Chat"})),
            "has no method text4seg.v1.SegmentationService/Segment",
        ),
        (
            lambda: dataclasses.replace(facts(), triton_models={}),
            "triton: deploy/triton/models has no model sam",
        ),
        (
            lambda: dataclasses.replace(
                facts(), documented_secrets=frozenset({("text4seg-api-keys", "all")})
            ),
            "tells of the key all of Secret text4seg-api-keys, which nothing reads",
        ),
    ],
)  # fmt: skip
def test_a_change_of_the_code_alone(code: Callable[[], Facts], said: str) -> None:
    found = disagreements(rendered(), code())
    assert any(said in each for each in found), found


def test_the_dashboard_is_json_that_grafana_can_tell_apart() -> None:
    (board,) = (
        json.loads(each["data"]["text4seg.json"])
        for each in rendered()["cpu"]
        if each["metadata"]["name"] == "text4seg-dashboard"
    )
    numbers = [panel["id"] for panel in board["panels"]]
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert len(set(places)) == len(places)
