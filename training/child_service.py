"""A service of this repository as a child process, on a free port of this machine."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

STOP_S = 30.0


class ServiceEndedError(Exception):
    """A service ended by itself; the message says which, and with what exit code."""


@dataclass(frozen=True, slots=True)
class ChildService:
    """A service that was started here, and may still be loading.

    Attributes:
        module: What runs, as for ``python -m``.
        address: Where it listens, host:port.
        process: What to ask whether it is alive.
    """

    module: str
    address: str
    process: subprocess.Popen[bytes]

    def check(self) -> None:
        """Tell when it is there no more: what waits for its first answer asks this each time.

        Raises:
            ServiceEndedError: it has ended.
        """
        if self.process.poll() is not None:
            raise ServiceEndedError(f"{self.module} ended at start with exit code {self.process.returncode}")


@contextmanager
def child_service(
    module: str,
    settings: Mapping[str, str],
    *arguments: str,
    log: Path | None = None,
    own_group: bool = False,
) -> Iterator[ChildService]:
    """Run a service, and stop it at the end: politely, then by force.

    Args:
        module: What to run, as for ``python -m``; it takes ``--address``.
        settings: Environment variables, besides those of this process.
        arguments: Further ones of the command line.
        log: Takes what the service writes; None: its messages appear among those of this process.
        own_group: Ctrl+C reaches this process only, which ends the service when it is done with it.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", module, f"--address={address}", *arguments]
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    with nullcontext() if log is None else log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **settings},
            stdout=output,
            stderr=output,
            process_group=0 if own_group else None,
        )
    try:
        yield ChildService(module, address, process)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
