"""The trace that an application is in, passed on to the server."""

import sys


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata that lets the server's spans belong to the application's current one.

    Empty unless the application uses OpenTelemetry, which this package neither needs nor loads by itself.
    """
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return tuple((key.lower(), value) for key, value in carrier.items())
