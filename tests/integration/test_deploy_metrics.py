"""Every series that alerts, dashboard and scalers ask for is in a scrape of the running services."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
import yaml

from deploy.checks.facts import ROOT
from deploy.checks.manifests import KUBERNETES
from deploy.checks.queries import Query, queries, selectors
from tests.serving import picture, request, serving
from tests.telemetry import scrape
from text4seg import wire
from text4seg.segmentation import CacheMode, RefineMode

COMPONENTS = ROOT / KUBERNETES / "components"
METRICS: Mapping[str, Any] = {"metrics_address": "127.0.0.1:0"}


def asked() -> list[Query]:
    """All queries, from the sources: this needs no kustomize."""
    resources = [
        *yaml.safe_load_all((COMPONENTS / "monitoring/alerts.yaml").read_text("utf-8")),
        *yaml.safe_load_all((COMPONENTS / "keda/scaled-objects.yaml").read_text("utf-8")),
        {
            "kind": "ConfigMap",
            "metadata": {"name": "dashboard", "labels": {"grafana_dashboard": "1"}},
            "data": {"dashboard": (COMPONENTS / "monitoring/dashboard.json").read_text("utf-8")},
        },
    ]
    return list(queries(resources))


async def scraped() -> dict[str, set[str]]:
    """Names of samples with the labels that they have, after calls that were answered, refused and shed."""
    slow = {**METRICS, "engine": "scripted", "script_delay_s": 0.2, "concurrency": 1, "queue": 0}
    found: dict[str, set[str]] = {}
    async with serving(METRICS, slow, METRICS) as suite:
        calls = [
            suite.stub.Segment(
                wire.segment_request_to_proto(
                    request("cat", picture(seed=seed), refine=RefineMode.REQUIRED, cache=CacheMode.BYPASS)
                ),
                timeout=120,
            )
            for seed in range(3)
        ]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert any(not isinstance(each, BaseException) for each in ended), ended
        assert all(isinstance(each, grpc.RpcError) for each in ended if isinstance(each, BaseException))
        for service in (suite.orchestrator, suite.generator, suite.refiner):
            for family in (await scrape(service.metrics_address)).values():
                for sample in family.samples:
                    found.setdefault(sample.name, set()).update(sample.labels)
    return found


async def test_every_series_and_label_is_in_a_scrape() -> None:
    seen = await scraped()
    wanted = asked()
    assert {"alert Text4SegNotScraped", "ScaledObject generator"} <= {query.where for query in wanted}
    for query in wanted:
        chosen = selectors(query.expression)
        assert chosen, query
        for selector in chosen:
            assert selector.name in seen, query
            labels = {matcher.name for matcher in selector.matchers.matchers} - {"namespace"}
            assert labels <= seen[selector.name], query
