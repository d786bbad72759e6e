"""A machine on which Triton cannot run is told so in one line."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.triton import serve


def test_what_the_wheel_brings_is_found() -> None:
    found = serve.find_installation()
    assert all(path.exists() for path in (found.binary, found.stub, found.python_backend, *found.libraries))
    assert serve.ROOT in found.packages


def test_without_the_wheel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(serve.TritonSetupError, match=r"requirements/triton-server\.txt"):
        serve.find_installation()
    assert (serve.ROOT / "requirements" / "triton-server.txt").exists()


def test_an_interpreter_that_the_wheel_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    class Future(tuple[int, ...]):
        major, minor = 3, 99

    monkeypatch.setattr(sys, "version_info", Future((3, 99, 0)))
    with pytest.raises(serve.TritonSetupError, match=r"no stub for Python 3\.99"):
        serve.find_installation()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("Py_ENABLE_SHARED", 0, "without a shared library"), ("LIBDIR", "/nowhere", "/nowhere lacks")],
)
def test_an_interpreter_without_its_library(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any, said: str
) -> None:
    real: Callable[[str], Any] = sysconfig.get_config_var
    monkeypatch.setattr(sysconfig, "get_config_var", lambda asked: value if asked == name else real(asked))
    with pytest.raises(serve.TritonSetupError, match=said):
        serve.find_installation()


def test_an_address_that_is_taken_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with (
        pytest.raises(serve.TritonSetupError, match=r"cannot listen on 127\.0\.0\.1:99999"),
        serve.running(tmp_path, (), address="127.0.0.1:99999"),
    ):
        pass
