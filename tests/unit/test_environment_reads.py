"""Only settings read the environment: a guard over the source of core, services and clients."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"environ", "environb", "getenv", "getenvb"}


def reads(source: str) -> Iterator[int]:
    """The lines that reach for the environment, by whatever name `os` was imported."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in NAMES:
            yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for alias in node.names if alias.name in NAMES)


@pytest.mark.parametrize("folder", ["text4seg", "services", "clients"])
def test_only_settings_read_the_environment(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*.py") if path.name != "settings.py"]
    assert files
    found = [f"{path.relative_to(ROOT)}:{line}" for path in files for line in reads(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['A']",
        "import os as o\no.getenv('A')",
        "from os import environ",
        "from os import getenv",
    ],
)
def test_the_guard_sees_every_way_to_read(source: str) -> None:
    assert list(reads(source))
