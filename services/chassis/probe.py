"""``python -m services.chassis.probe HOST:PORT``: exit code 0 when the service there is serving."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_S = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask once, in plain text; for the health checks of containers.

    Args:
        arguments: the address; None takes the process's own.

    Returns:
        0 when serving, 1 when not (a line on standard error says why), 2 without an address.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 1:
        print("usage: python -m services.chassis.probe HOST:PORT", file=sys.stderr)
        return 2
    try:
        with grpc.insecure_channel(given[0]) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            status = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S).status
    except grpc.RpcError as error:
        print(f"{given[0]}: {error.code().name}", file=sys.stderr)
        return 1
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    if status != health_pb2.HealthCheckResponse.SERVING:
        print(f"{given[0]}: {name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
