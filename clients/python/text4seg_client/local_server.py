"""Run ``python -m services`` as a child process: for ``text4seg serve`` and the demo."""

import importlib.util
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from text4seg.errors import (
    DeadlineExceededError,
    PermissionDeniedError,
    ServiceUnavailableError,
    Text4SegError,
    UnauthenticatedError,
)
from text4seg.segmentation import ModelInfo
from text4seg_client.client import Client

Process = subprocess.Popen[bytes]

_POLL_S = 0.2
_STOP_S = 30.0
_REFINER_S = 10.0
_STANDARD_ERROR = 2
# The first is the code, the second one of the packages that the extras bring.
_NEEDED = ("services", "pydantic_settings")


class ServerStartError(Exception):
    """The services did not start; the message says why in one line."""


@contextmanager
def local_server(address: str, wait_s: float, *arguments: str) -> Iterator[ModelInfo]:
    """Run all services, wait until they answer, and stop them at the end.

    Args:
        address: host:port where the public service will listen.
        wait_s: longest time until it must be ready, in seconds.
        arguments: further arguments of ``python -m services``.

    Yields:
        What it serves.

    Raises:
        ServerStartError: the services are not installed, ended, or were not ready in time.
    """
    process = start(address, *arguments)
    try:
        info = wait_until_ready(process, address, wait_s)
        if info is None:
            raise ServerStartError(f"the services were not ready after {wait_s:.0f} s")
        yield info
    finally:
        stop(process)


def serve(address: str, wait_s: float) -> int:
    """Run all services in the foreground, say when they are ready, and end with them.

    Args:
        address: host:port to listen on.
        wait_s: seconds after which to say that they are still not ready.

    Returns:
        The exit code: 0 after a regular stop, 1 if they did not start or failed.
    """
    if accepts_connections(address):
        print(f"text4seg: a server listens on {address} already", file=sys.stderr)
        return 1
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        process = start(address)
        try:
            info = wait_until_ready(process, address, wait_s)
            if info is None:
                print(f"text4seg: not ready after {wait_s:.0f} s, or it speaks TLS only", file=sys.stderr)
            else:
                rows, columns = info.generator.shape
                model = f"{info.versions.model}, {rows}x{columns} grid"
                print(f"text4seg: ready on {address} ({model}); Ctrl+C stops", flush=True)
            return 0 if process.wait() == 0 else 1
        finally:
            stop(process)
    except ServerStartError as error:
        print(f"text4seg: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)


def start(address: str, *arguments: str) -> Process:
    """Start the services as a child that inherits the environment and logs to this process's standard error.

    The child is in a process group of its own: Ctrl+C reaches this process only, which stops the child.

    Raises:
        ServerStartError: they are not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        raise ServerStartError(
            "the services are not installed here; in a clone: `make serve`, or `pip install -e '.[services]'`"
        )
    command = [sys.executable, "-m", "services", f"--address={address}", *arguments]
    return subprocess.Popen(command, stdout=_STANDARD_ERROR, process_group=0)


def stop(process: Process) -> None:
    """End the child: politely, so that calls in flight are finished, then by force."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_STOP_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def wait_until_ready(process: Process, address: str, wait_s: float) -> ModelInfo | None:
    """Ask until the services answer; None when they did not in time.

    Raises:
        ServerStartError: the child ended, or what answers is something else.
    """
    deadline = time.monotonic() + wait_s
    alone_until: float | None = None
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerStartError(f"the services ended at start with exit code {process.returncode}")
        try:
            # A new connection each time: one that was refused waits before it tries again.
            with Client(address, timeout_s=5.0) as client:
                info = client.model_info()
        except (ServiceUnavailableError, DeadlineExceededError):
            pass
        except (UnauthenticatedError, PermissionDeniedError):
            return None
        except Text4SegError as error:
            raise ServerStartError(f"what answers at {address} is no such server: {error}") from error
        else:
            # Answers are possible before the refiner is there, but they are coarse: give it some time.
            alone_until = alone_until or time.monotonic() + _REFINER_S
            if info.refiner_models or time.monotonic() > alone_until:
                return info
        time.sleep(_POLL_S)
    return None


def free_address() -> str:
    """A host:port of the loopback interface where nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


def accepts_connections(address: str) -> bool:
    """Whether somebody listens on host:port."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), timeout=1):
            return True
    except (OSError, ValueError):
        return False


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
