"""The manifests as the tests see them: rendered once, and copied before they are changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import pytest

from deploy.checks.facts import ROOT, Facts, read_facts
from deploy.checks.manifests import KUBERNETES, overlays, read, render, renderer

Change = Callable[[dict[str, Any]], None]


@cache
def facts() -> Facts:
    return read_facts()


@cache
def _rendered() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    return {name: read(render(ROOT / KUBERNETES / "overlays" / name)) for name in overlays()}


def rendered() -> dict[str, list[dict[str, Any]]]:
    """All overlays, the caller's to change; without kubectl, kustomize or Go the test is skipped."""
    if renderer() is None:
        pytest.skip("NOT CHECKED: the manifests cannot be rendered without kubectl or kustomize")
    return copy.deepcopy(
        {name: [dict(each) for each in resources] for name, resources in _rendered().items()}
    )


def change(overlay: list[dict[str, Any]], kind: str, name: str, edit: Change) -> None:
    """Edit the one resource of a kind whose name is ``name``, or begins with it and a hash."""
    (found,) = (
        each
        for each in overlay
        if each["kind"] == kind
        and (each["metadata"]["name"] == name or each["metadata"]["name"].rpartition("-")[0] == name)
    )
    edit(found)
