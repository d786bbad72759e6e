"""Settings for all tests."""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import settings

pytest_plugins = ["tests.triton_server"]

ASYNC_TEST_S = 240.0
"""Longest time of one test on the event loop; less than pytest-timeout's limit in pyproject.toml."""

# No deadline: examples share the machine with whatever else runs on it, and no test is about time.
settings.register_profile("text4seg", deadline=None)
settings.load_profile("text4seg")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--install",
        action="store_true",
        help="install the packages of each image anew for tests/e2e/test_image_trees.py (12 GB for a while)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every coroutine test an end.

    pytest-timeout would end it too, but interrupts whatever the event loop happens to do. Cancelling the test
    instead shows the line on which it waited, and lets its fixtures clean up.
    """
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _bounded(item.obj)


def _bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def bounded(*arguments: Any, **named: Any) -> None:
        async with asyncio.timeout(ASYNC_TEST_S):
            await test(*arguments, **named)

    return bounded
