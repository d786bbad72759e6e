"""The spans of a client's calls, in the traces of an application that uses OpenTelemetry."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from text4seg import __version__
from text4seg.errors import Text4SegError
from text4seg.v1 import segmentation_service_pb2 as pb
from text4seg.wire import CODES

_SERVICE = pb.DESCRIPTOR.services_by_name["SegmentationService"].full_name


@contextmanager
def call_span(method: str) -> Iterator[tuple[tuple[str, str], ...]]:
    """Trace what is done inside as one call; yields metadata that puts the server's spans below its span.

    Does nothing unless the application uses OpenTelemetry, which this package neither needs nor loads by
    itself. The span is not made the current one: a stream leaves and comes back to its caller's context.
    """
    if "opentelemetry.trace" not in sys.modules:
        yield ()
        return
    from opentelemetry import propagate, trace

    span = trace.get_tracer("text4seg_client", __version__).start_span(
        f"{_SERVICE}/{method}",
        kind=trace.SpanKind.CLIENT,
        attributes={"rpc.system": "grpc", "rpc.service": _SERVICE, "rpc.method": method},
    )
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    code = "OK"
    try:
        yield tuple((key.lower(), value) for key, value in carrier.items())
    except BaseException as error:
        code = _code_of(error)
        span.set_status(trace.StatusCode.ERROR, str(error) or code)
        raise
    finally:
        span.set_attribute("rpc.grpc.status", code)
        span.end()


def _code_of(error: BaseException) -> str:
    """Name of the gRPC status code of a call that failed, or that its caller left."""
    if isinstance(error, Text4SegError):
        rpc = error.__cause__
        if isinstance(rpc, grpc.RpcError):
            return str(rpc.code().name)
        return next(code.name for code in grpc.StatusCode if code.value[0] == CODES[error.reason])
    return "UNKNOWN" if isinstance(error, Exception) else "CANCELLED"
