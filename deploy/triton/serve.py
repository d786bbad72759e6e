"""A real Triton server on this machine, without a container: ``python -m deploy.triton.serve``.

The binary, its Python backend and the backend's stubs come with the wheel ``nvidia-pytriton``, and nothing
else of it is used. The model repository is the one that NVIDIA's container runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "deploy" / "triton" / "models"

_LOOK_UP_S = 0.1
_STOP_S = 40.0


class TritonSetupError(Exception):
    """Triton cannot be started here; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the parts of Triton are, and what its processes need in their environment.

    Attributes:
        binary: ``tritonserver``.
        python_backend: folder of the Python backend.
        stub: the backend's stub for the running interpreter.
        libraries: folders for ``LD_LIBRARY_PATH``.
        packages: folders for ``PYTHONPATH``: what the models import.
    """

    binary: Path
    python_backend: Path
    stub: Path
    libraries: tuple[Path, ...]
    packages: tuple[Path, ...]


def find_installation() -> Installation:
    """Find Triton in this environment's site-packages.

    Raises:
        TritonSetupError: the wheel is not installed, or does not fit this interpreter.
    """
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise TritonSetupError(
            "no tritonserver here: it comes with the wheel nvidia-pytriton; "
            "install it with `pip install -r requirements/triton-server.txt`"
        )
    package = Path(spec.submodule_search_locations[0])
    server = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise TritonSetupError(f"the wheel nvidia-pytriton has no stub for Python {version}")
    library, folder = sysconfig.get_config_var("INSTSONAME"), Path(sysconfig.get_config_var("LIBDIR"))
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        raise TritonSetupError(
            f"{sys.executable} was built without a shared library; Triton's Python backend needs one"
        )
    if not (folder / library).exists():
        raise TritonSetupError(f"{folder} lacks {library}, which Triton's Python backend loads")
    purelib, platlib = (Path(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
    return Installation(
        binary=server / "bin" / "tritonserver",
        python_backend=server / "backends" / "python",
        stub=stub,
        libraries=(folder, package.parent / "nvidia_pytriton.libs"),
        packages=tuple(dict.fromkeys((ROOT, purelib, platlib))),
    )


class TritonServer:
    """One tritonserver process; made by :func:`running`.

    Attributes:
        address: ``host:port`` of its gRPC endpoint.
        http_address: ``host:port`` of its HTTP endpoint.
        process: the process.
    """

    def __init__(self, address: str, http_address: str, process: subprocess.Popen[bytes]) -> None:
        self.address = address
        self.http_address = http_address
        self.process = process

    def wait_ready(self, models: Sequence[str], timeout_s: float) -> None:
        """Return once every one of ``models`` answers.

        Raises:
            TritonSetupError: the process ended, or was not ready in time.
        """
        end = time.monotonic() + timeout_s
        with grpc.insecure_channel(self.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while not all(self._is_ready(stub, model) for model in models):
                if self.process.poll() is not None:
                    raise TritonSetupError(f"tritonserver ended with exit code {self.process.returncode}")
                if time.monotonic() > end:
                    raise TritonSetupError(f"tritonserver was not ready after {timeout_s:g} s")
                time.sleep(_LOOK_UP_S)

    def stop(self) -> None:
        """End the process and its children: with SIGTERM, and after 40 s without mercy."""
        if self.process.poll() is None:
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_S)
        # Also where it is gone: the processes of its models may have outlived it.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for region in Path("/dev/shm").glob(f"{_shared_memory(self.address)}*"):
            region.unlink(missing_ok=True)  # a killed server leaves them

    @staticmethod
    def _is_ready(stub: service_pb2_grpc.GRPCInferenceServiceStub, model: str) -> bool:
        try:
            return bool(stub.ModelReady(service_pb2.ModelReadyRequest(name=model), timeout=2.0).ready)
        except grpc.RpcError:
            return False


@contextmanager
def running(
    repository: Path = MODELS,
    models: Sequence[str] = ("text4seg",),
    *,
    address: str = "",
    http_address: str = "",
    environment: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
    ready_s: float = 120.0,
) -> Iterator[TritonServer]:
    """Run a tritonserver with some models of a repository, and end it on leaving.

    Args:
        repository: folder of models, in Triton's layout.
        models: which of them to load.
        address: ``host:port`` for gRPC; empty: any free loopback port.
        http_address: the same for HTTP.
        environment: variables that its models see besides those of this process.
        log: where its output goes; None: where that of this process goes.
        ready_s: seconds that it gets to load the models.

    Raises:
        TritonSetupError: it cannot be started, or its models cannot be loaded.
    """
    found = find_installation()
    address, http_address = address or free_address(), http_address or free_address()
    for each in (address, http_address):
        _check_free(each)  # Triton would find out after loading the models
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="text4seg-triton-")))
        backend = work / "python"
        shutil.copytree(found.python_backend, backend)
        shutil.copy2(found.stub, backend)
        command = _command(found, work, repository, models, address, http_address, environment or {})
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        server = TritonServer(address, http_address, process)
        stack.callback(server.stop)
        server.wait_ready(models, ready_s)
        yield server


def free_address() -> str:
    """Return a loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _shared_memory(address: str) -> str:
    return f"text4seg-port-{address.rpartition(':')[2]}-"


def _check_free(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        number = int(port)
        if not 0 <= number < 1 << 16:
            raise ValueError("port must be 0-65535")
        with socket.create_server((host, number)):
            pass
    except (OSError, ValueError) as error:
        raise TritonSetupError(f"cannot listen on {address}: {error}") from error


def _command(
    found: Installation,
    backends: Path,
    repository: Path,
    models: Sequence[str],
    address: str,
    http_address: str,
    environment: Mapping[str, str],
) -> list[str]:
    host, _, port = address.rpartition(":")
    http_host, _, http_port = http_address.rpartition(":")
    variables = {
        **environment,
        "LD_LIBRARY_PATH": ":".join(map(str, found.libraries)),
        "PYTHONPATH": ":".join(map(str, found.packages)),
    }
    return [
        "env",  # sets variables in the child without reading this process's own
        *(f"{name}={value}" for name, value in variables.items()),
        str(found.binary),
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in models),
        "--disable-auto-complete-config",
        f"--backend-directory={backends}",
        # Two servers on one machine must not share memory regions.
        f"--backend-config=python,shm-region-prefix-name={_shared_memory(address)}",
        f"--grpc-address={host}",
        f"--grpc-port={port}",
        f"--http-address={http_host}",
        f"--http-port={http_port}",
        "--allow-metrics=false",
        "--exit-timeout-secs=30",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run Triton, and with ``--services`` the three services against it, until told to stop.

    Returns:
        The exit code: 0 after SIGTERM or SIGINT, 1 when something could not start or ended by itself.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.triton.serve", description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:8001", help="gRPC endpoint (default: %(default)s)")
    parser.add_argument("--http-address", default="127.0.0.1:8000", help="(default: %(default)s)")
    parser.add_argument("--models", nargs="+", default=["text4seg"], help="models to load")
    parser.add_argument("--services", action="store_true", help="run `python -m services` against it")
    options = parser.parse_args(arguments)

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        with ExitStack() as stack:
            triton = stack.enter_context(
                running(models=options.models, address=options.address, http_address=options.http_address)
            )
            processes = [triton.process]
            if options.services:
                processes.append(stack.enter_context(_services(options.address)))
            while all(process.poll() is None for process in processes):
                time.sleep(_LOOK_UP_S)
            return 1
    except KeyboardInterrupt:
        return 0
    except TritonSetupError as error:
        print(f"triton: cannot start: {error}", file=sys.stderr)
        return 1


@contextmanager
def _services(triton: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [
            "env",
            "T4S_GENERATOR_ENGINE=triton",
            f"T4S_GENERATOR_TRITON_URL={triton}",
            sys.executable,
            "-m",
            "services",
        ],
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(2 * _STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
