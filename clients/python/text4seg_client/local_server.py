"""Run ``python -m services`` as a child process: for ``text4seg serve`` and the demo."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from text4seg.errors import DeadlineExceededError, ServiceUnavailableError, Text4SegError
from text4seg.segmentation import ModelInfo
from text4seg_client.channel import DEFAULT_ADDRESS
from text4seg_client.client import Client

ADDRESS_VARIABLE = "T4S_ORCHESTRATOR_ADDRESS"
_POLL_S = 0.2
_STOP_S = 30.0


class ServerStartError(Exception):
    """The services did not start; the message says why in one line."""


@contextmanager
def local_server(
    address: str, settings: Mapping[str, str], wait_s: float
) -> Iterator[tuple["subprocess.Popen[bytes]", ModelInfo]]:
    """Start all services, wait until they answer, and stop them at the end.

    Args:
        address: host:port where the public service will listen.
        settings: further environment variables of the child.
        wait_s: longest time until it must be ready, in seconds.

    Yields:
        The child process, and what it serves.

    Raises:
        ServerStartError: the services are not installed, ended, or were not ready in time.
    """
    if importlib.util.find_spec("services") is None:
        raise ServerStartError(
            "the services are not installed here: "
            "pip install 'text4seg-serving[generator,refiner,orchestrator]'"
        )
    environment = {**os.environ, **settings, ADDRESS_VARIABLE: address}
    process = subprocess.Popen([sys.executable, "-m", "services"], env=environment)
    try:
        yield process, _wait_until_ready(process, address, wait_s)
    finally:
        stop(process)


def serve(address: str | None, wait_s: float) -> int:
    """Run all services in the foreground, say when they are ready, and end with them.

    Args:
        address: host:port to listen on; None: the default.
        wait_s: longest time until they must be ready, in seconds.

    Returns:
        The exit code: 0 after a regular stop, 1 if they did not start or failed.
    """
    where = address or DEFAULT_ADDRESS
    if answers(where):
        print(f"text4seg: a server answers at {where} already", file=sys.stderr)
        return 1
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with local_server(where, {}, wait_s) as (process, info):
            rows, columns = info.generator.shape
            print(f"ready on {where}: {info.versions.model}, {rows}x{columns} grid; Ctrl+C stops", flush=True)
            return 0 if process.wait() == 0 else 1
    except ServerStartError as error:
        print(f"text4seg: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of the loopback interface that nobody listens on now, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return tuple(int(listening.getsockname()[1]) for listening in sockets)
    finally:
        for listening in sockets:
            listening.close()


def answers(address: str) -> bool:
    """Whether something accepts connections at host:port."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), timeout=1):
            return True
    except (OSError, ValueError):
        return False


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the child: politely, so that calls in flight are finished, then by force."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", address: str, wait_s: float) -> ModelInfo:
    deadline = time.monotonic() + wait_s
    while True:
        if process.poll() is not None:
            raise ServerStartError(f"the services ended at start with exit code {process.returncode}")
        try:
            # A new connection each time: one that was refused waits before it tries again.
            with Client(address, timeout_s=5.0) as client:
                return client.model_info()
        except (ServiceUnavailableError, DeadlineExceededError) as error:
            if time.monotonic() > deadline:
                raise ServerStartError(
                    f"the services were not ready after {wait_s:.0f} s: {error}"
                ) from error
        except Text4SegError as error:
            raise ServerStartError(f"what answers at {address} is no such server: {error}") from error
        time.sleep(_POLL_S)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
